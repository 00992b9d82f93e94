#include "tests/fuzz/scratch.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/fuzz/require.h"

#define PATH_SIZE 512

static const char *folder(void)
{
    static char path[PATH_SIZE];
    if (path[0] == '\0') {
        const char *base = getenv("TMPDIR");
        const int len = snprintf(path, sizeof path, "%s/fuzz-XXXXXX",
                                 base != NULL && base[0] != '\0' ? base : "/tmp");
        require(len > 0 && (size_t)len < sizeof path && mkdtemp(path) != NULL);
    }
    return path;
}

const char *scratch_write(const char *end, struct span content)
{
    static char path[PATH_SIZE + 32];
    const int len = snprintf(path, sizeof path, "%s/file%s", folder(), end);
    require(len > 0 && (size_t)len < sizeof path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    require(fd >= 0);
    require(write(fd, content.ptr, content.len) == (ssize_t)content.len);
    close(fd);
    return path;
}

/* YAML has more line ends than this, each of which has at least a byte that counts here. */
static size_t lines_of(struct span content)
{
    size_t lines = 1;
    for (size_t i = 0; i < content.len; i++) {
        const unsigned char c = (unsigned char)content.ptr[i];
        lines += c == '\n' || c == '\r' || c == 0x85 || c == 0xa8 || c == 0xa9;
    }
    return lines + 1;
}

void scratch_require_places(const struct diag_list *diags, const char *path, struct span content)
{
    const size_t lines = lines_of(content);
    for (size_t i = 0; i < diag_count(diags); i++) {
        const struct diag *diag = diag_at(diags, i);
        char line[4096];
        require(diag->file != NULL && strcmp(diag->file, path) == 0);
        require(diag->line <= lines && (diag->column == 0 || diag->line > 0));
        require(diag->text[0] != '\0');
        require_no_control(span_make(line, diag_format(diag, line, sizeof line)));
    }
}
