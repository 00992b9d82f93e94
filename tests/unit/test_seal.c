/* Seals: what is no longer what was built is told apart, and long files are not read for nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "routing/seal.h"

#define FORMAT 7

static int file_of(off_t size)
{
    char path[] = "/tmp/splitmx-test-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(ftruncate(fd, size), 0);
    return fd;
}

static void set_time(int fd, const struct stat *from)
{
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, from->st_mtim};
    assert_int_equal(futimens(fd, times), 0);
}

/* Whether what is behind fd is whole; mark: of what serves then. */
static bool opens(int fd, uint32_t format, struct seal_mark *mark)
{
    char path[SEAL_PATH];
    seal_path(fd, path);
    int got = seal_open(path, format, mark);
    if (got >= 0) {
        assert_true(seal_holds(got, mark));
        assert_int_equal(close(got), 0);
    }
    return got >= 0;
}

static void test_every_byte_of_a_short_file_counts(void **state)
{
    static const off_t sizes[] = {0, 1, 4096, 70000};
    struct seal_mark mark;
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        struct stat st;
        int fd = file_of(sizes[i]);
        assert_false(opens(fd, FORMAT, &mark));
        assert_int_equal(seal_put(fd, FORMAT, NULL), 0);
        assert_true(opens(fd, FORMAT, &mark));
        assert_false(opens(fd, FORMAT + 1, &mark));
        assert_int_equal(fstat(fd, &st), 0);
        for (off_t at = 0; at<st.st_size; at += st.st_size> 1000 ? 997 : 1) {
            char was, other;
            assert_int_equal(pread(fd, &was, 1, at), 1);
            other = (char)(was ^ 1);
            assert_int_equal(pwrite(fd, &other, 1, at), 1);
            set_time(fd, &st); /* the time alone is not believed */
            assert_false(opens(fd, FORMAT, &mark));
            assert_int_equal(pwrite(fd, &was, 1, at), 1);
        }
        assert_true(opens(fd, FORMAT, &mark)); /* of another time, but whole */
        assert_int_equal(ftruncate(fd, st.st_size - 1), 0);
        assert_false(opens(fd, FORMAT, &mark));
        assert_int_equal(close(fd), 0);
    }
}

static void test_a_long_file_is_read_when_somebody_has_written_to_it(void **state)
{
    struct seal_mark mark;
    struct stat st;
    int fd = file_of(SEAL_READ_ALWAYS + 1);
    (void)state;
    assert_int_equal(seal_put(fd, FORMAT, NULL), 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_true(opens(fd, FORMAT, &mark));
    assert_true(seal_holds(fd, &mark)); /* it is the file itself that serves */
    assert_int_equal(pwrite(fd, "x", 1, 12345678), 1);
    assert_false(seal_holds(fd, &mark));
    assert_false(opens(fd, FORMAT, &mark));
    set_time(fd, &st); /* as if it had not been: nothing is read, that is what makes starts quick */
    assert_true(opens(fd, FORMAT, &mark));
    assert_int_equal(ftruncate(fd, st.st_size - 1), 0);
    set_time(fd, &st);
    assert_false(opens(fd, FORMAT, &mark));
    assert_int_equal(close(fd), 0);
}

static void test_a_short_file_serves_from_memory_that_nobody_changes(void **state)
{
    struct seal_mark mark;
    char path[SEAL_PATH], byte;
    int file = file_of(5000);
    (void)state;
    assert_int_equal(seal_put(file, FORMAT, NULL), 0);
    seal_path(file, path);
    int copy = seal_open(path, FORMAT, &mark);
    assert_true(copy >= 0);
    assert_int_equal(ftruncate(file, 0), 0);
    assert_true(seal_holds(copy, &mark));
    assert_int_equal(pread(copy, &byte, 1, 4999), 1);
    assert_int_equal(pwrite(copy, "x", 1, 0), -1);
    assert_int_equal(ftruncate(copy, 0), -1);
    assert_int_equal(close(copy), 0);
    assert_int_equal(close(file), 0);
}

static void test_only_files_are_sealed(void **state)
{
    struct seal_mark mark;
    int fd = open("/tmp", O_RDONLY);
    (void)state;
    assert_true(fd >= 0);
    assert_false(opens(fd, FORMAT, &mark));
    assert_int_not_equal(seal_put(fd, FORMAT, NULL), 0);
    assert_int_equal(close(fd), 0);
    assert_int_not_equal(seal_put(fd, FORMAT, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_byte_of_a_short_file_counts),
        cmocka_unit_test(test_a_long_file_is_read_when_somebody_has_written_to_it),
        cmocka_unit_test(test_a_short_file_serves_from_memory_that_nobody_changes),
        cmocka_unit_test(test_only_files_are_sealed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
