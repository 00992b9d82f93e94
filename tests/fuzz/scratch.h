/*
 * scratch: files for what is read from files, in memory where the system has a place for that.
 */
#ifndef SPLITMX_TESTS_FUZZ_SCRATCH_H
#define SPLITMX_TESTS_FUZZ_SCRATCH_H

#include "config/diag.h"
#include "config/span.h"

/*
 * A file of this process with that name's end (".yaml"), which now has this content; the path is
 * good until the next call with the same end, of which there are few. Its folder is made in $TMPDIR
 * and stays behind: tests/fuzz/run clears that.
 */
const char *scratch_write(const char *end, struct span content);

/* Each diagnostic has its place, inside a file that has this content, and is a line of text. */
void scratch_require_places(const struct diag_list *diags, const char *path, struct span content);

#endif
