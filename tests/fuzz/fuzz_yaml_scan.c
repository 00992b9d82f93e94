/* YAML: whatever stands between plain lines, the events are libyaml's. */
#include <sys/mman.h>

#include "config/text.h"
#include "tests/fuzz/require.h"
#include "tests/unit/yaml_compare.h"

#define PLAIN 20 /* lines after which lines are cut, if they can be */

/* A byte 0x02, which YAML has no use for, stands for so many plain lines as it would take a fuzzer
 * ages to write. */
static void put(struct text *text, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        for (int line = 0; data[i] == 0x02 && line < PLAIN; line++) {
            text_puts(text, "user@example.com: smtp:[192.0.2.1]\n");
        }
        if (data[i] != 0x02) {
            text_putc(text, (char)data[i]);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char content[1 << 18];
    struct text text = TEXT(content);
    put(&text, data, size);
    int fd = memfd_create("fuzz_yaml_scan", MFD_CLOEXEC);
    if (fd < 0 || write(fd, text.ptr, text.len) != (ssize_t)text.len || !yaml_compare_file(fd)) {
        abort();
    }
    close(fd);
    return 0;
}
