/* Linked in the place of the program's own filter of system calls: valgrind makes the memory
 * executable that it writes its translations to, and nothing in the program may. */
#include <errno.h>

#include "proxy/daemon/syscalls.h"

bool syscalls_confine(void)
{
    errno = ENOSYS;
    return false;
}
