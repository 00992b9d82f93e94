/*
 * import_lines: the logical lines of a texthash file, as postmap(1) has them: comments and empty
 * lines passed over, a line that begins with a blank goes on with the one before it.
 *
 * Private to the import files.
 */
#ifndef SPLITMX_ROUTING_IMPORT_LINES_H
#define SPLITMX_ROUTING_IMPORT_LINES_H

#include "routing/import_check.h"

struct line_reader;

/* Takes a logical line, which is valid during the call; false when reading is to end. */
typedef bool import_line(void *context, const struct line_reader *lines, struct span line);

/* Reads all of reader->path. What is no line is told: as a warning, and counted, where the reader
 * says that lines may be left out, else as an error. */
void import_read_lines(struct import_reader *reader, import_line *take, void *context);

/* Where the byte at `offset` of the line that is being taken stands in the file. */
struct diag_place import_line_place(const struct line_reader *lines, size_t offset);

bool import_is_blank(char c);

/* Up to the first blank; one in double quotes ("a b"@example.com) does not count. */
size_t import_key_length(struct span line);

/* Whether the line is like one of docker-mailserver's postfix-accounts.cf, user@domain|password, or
 * of Dovecot's, user@domain:password: nothing of it may be repeated in a message. */
bool import_is_account(struct span line);

#endif
