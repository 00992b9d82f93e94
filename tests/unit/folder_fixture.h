/* A folder of a test's own, and files in it to be damaged. */
#ifndef SPLITMX_TESTS_UNIT_FOLDER_FIXTURE_H
#define SPLITMX_TESTS_UNIT_FOLDER_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER_CAP 64
#define PATH_CAP   400

static char folder[FOLDER_CAP];

static inline int folder_make(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/splitmx-ledger-XXXXXX");
    assert_non_null(mkdtemp(folder));
    return 0;
}

static inline void in_folder(char out[PATH_CAP], const char *name)
{
    snprintf(out, PATH_CAP, "%s/%s", folder, name);
}

/* Files whose names begin so; removed with `is_removing`. */
static inline int files_named(const char *prefix, bool is_removing)
{
    char path[PATH_CAP];
    int count = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 && entry->d_name[0] != '.') {
            count++;
            in_folder(path, entry->d_name);
            if (is_removing && unlink(path) != 0) {
                assert_int_equal(rmdir(path), 0);
            }
        }
    }
    closedir(dir);
    return count;
}

static inline int folder_remove(void **state)
{
    (void)state;
    files_named("", true);
    return rmdir(folder);
}

static inline off_t size_of(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static inline char *read_whole(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    *len = (size_t)size_of(path);
    char *bytes = malloc(*len + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *len, file), *len);
    fclose(file);
    return bytes;
}

static inline void write_whole(const char *path, const char *bytes, size_t len)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

#endif
