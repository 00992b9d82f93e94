#include "proxy/daemon/syscalls.h"

#include <errno.h>
#include <linux/netlink.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* Names that an architecture does not have are no calls there; libseccomp passes over them. */
static const int allowed[] = {
    /* memory */
    SCMP_SYS(brk),
    SCMP_SYS(madvise),
    SCMP_SYS(memfd_create),
    SCMP_SYS(mremap),
    SCMP_SYS(msync),
    SCMP_SYS(munmap),
    /* descriptors */
    SCMP_SYS(close),
    SCMP_SYS(close_range),
    SCMP_SYS(dup),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(fcntl),
    SCMP_SYS(fcntl64),
    SCMP_SYS(pipe),
    SCMP_SYS(pipe2),
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    /* files */
    SCMP_SYS(_llseek),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(fadvise64),
    SCMP_SYS(fallocate),
    SCMP_SYS(fchmod),
    SCMP_SYS(fchmodat),
    SCMP_SYS(chmod),
    SCMP_SYS(fdatasync),
    SCMP_SYS(flock),
    SCMP_SYS(fstat),
    SCMP_SYS(fstat64),
    SCMP_SYS(fstatat64),
    SCMP_SYS(fstatfs),
    SCMP_SYS(fstatfs64),
    SCMP_SYS(fsync),
    SCMP_SYS(ftruncate),
    SCMP_SYS(ftruncate64),
    SCMP_SYS(getcwd),
    SCMP_SYS(getdents64),
    SCMP_SYS(link),
    SCMP_SYS(linkat),
    SCMP_SYS(lseek),
    SCMP_SYS(lstat),
    SCMP_SYS(lstat64),
    SCMP_SYS(mkdir),
    SCMP_SYS(mkdirat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(open),
    SCMP_SYS(openat),
    SCMP_SYS(pread64),
    SCMP_SYS(preadv),
    SCMP_SYS(pwrite64),
    SCMP_SYS(pwritev),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(rename),
    SCMP_SYS(renameat),
    SCMP_SYS(renameat2),
    SCMP_SYS(rmdir),
    SCMP_SYS(stat),
    SCMP_SYS(stat64),
    SCMP_SYS(statfs),
    SCMP_SYS(statfs64),
    SCMP_SYS(statx),
    SCMP_SYS(umask),
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    SCMP_SYS(utimensat),
    SCMP_SYS(utimensat_time64),
    /* the network */
    SCMP_SYS(accept),
    SCMP_SYS(accept4),
    SCMP_SYS(bind),
    SCMP_SYS(connect),
    SCMP_SYS(getpeername),
    SCMP_SYS(getsockname),
    SCMP_SYS(getsockopt),
    SCMP_SYS(listen),
    SCMP_SYS(recv),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmmsg),
    SCMP_SYS(recvmsg),
    SCMP_SYS(send),
    SCMP_SYS(sendmmsg),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(setsockopt),
    SCMP_SYS(shutdown),
    /* waiting */
    SCMP_SYS(_newselect),
    SCMP_SYS(epoll_create),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(eventfd2),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(pselect6),
    SCMP_SYS(select),
    /* time */
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_getres_time64),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_gettime64),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(clock_nanosleep_time64),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(nanosleep),
    SCMP_SYS(time),
    /* threads, and the child that reads a ledger */
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(futex),
    SCMP_SYS(futex_time64),
    SCMP_SYS(getpid),
    SCMP_SYS(getppid),
    SCMP_SYS(gettid),
    SCMP_SYS(kill),
    SCMP_SYS(membarrier),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(rseq),
    SCMP_SYS(sched_get_priority_max),
    SCMP_SYS(sched_get_priority_min),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_getparam),
    SCMP_SYS(sched_getscheduler),
    SCMP_SYS(sched_setscheduler),
    SCMP_SYS(sched_yield),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(tgkill),
    SCMP_SYS(wait4),
    SCMP_SYS(waitid),
    /* signals */
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(sigreturn),
    /* what we are, and what there is */
    SCMP_SYS(getegid),
    SCMP_SYS(getegid32),
    SCMP_SYS(geteuid),
    SCMP_SYS(geteuid32),
    SCMP_SYS(getgid),
    SCMP_SYS(getgid32),
    SCMP_SYS(getrandom),
    SCMP_SYS(getrlimit),
    SCMP_SYS(getrusage),
    SCMP_SYS(getuid),
    SCMP_SYS(getuid32),
    SCMP_SYS(prlimit64),
    SCMP_SYS(setrlimit),
    SCMP_SYS(sysinfo),
    SCMP_SYS(ugetrlimit),
    SCMP_SYS(uname),
};

#define NAME_SPACES                                                                                \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |  \
     CLONE_NEWNET)

/* Calls that are allowed with one argument as given: equal to `value` in the bits of `mask`. */
static const struct {
    int call;
    unsigned argument;
    uint64_t mask, value;
} limited[] = {
    /* Nothing that was written can be run. */
    {SCMP_SYS(mmap), 2, PROT_EXEC, 0},
    {SCMP_SYS(mmap2), 2, PROT_EXEC, 0},
    {SCMP_SYS(mprotect), 2, PROT_EXEC, 0},
/* Threads and plain children, without name spaces of their own. clone3 keeps its flags where no
 * filter can look: it is not there, and libc does with clone. */
#if defined(__s390__)
    {SCMP_SYS(clone), 1, NAME_SPACES, 0},
#else
    {SCMP_SYS(clone), 0, NAME_SPACES, 0},
#endif
    {SCMP_SYS(socket), 0, UINT32_MAX, AF_UNIX},
    {SCMP_SYS(socket), 0, UINT32_MAX, AF_INET},
    {SCMP_SYS(socket), 0, UINT32_MAX, AF_INET6},
    {SCMP_SYS(socketpair), 0, UINT32_MAX, AF_UNIX},
    {SCMP_SYS(ioctl), 1, UINT32_MAX, FIONBIO},
    {SCMP_SYS(ioctl), 1, UINT32_MAX, FIOCLEX},
    {SCMP_SYS(ioctl), 1, UINT32_MAX, FIONREAD},
    {SCMP_SYS(ioctl), 1, UINT32_MAX, TIOCOUTQ}, /* SIOCOUTQ: not acknowledged yet */
    {SCMP_SYS(ioctl), 1, UINT32_MAX, TCGETS},   /* isatty(3) */
    {SCMP_SYS(prctl), 0, UINT32_MAX, PR_SET_NAME},
    {SCMP_SYS(prctl), 0, UINT32_MAX, PR_SET_PDEATHSIG},
};

static int allow_all(scmp_filter_ctx filter)
{
    int error = 0;

    for (size_t i = 0; error == 0 && i < sizeof(allowed) / sizeof(allowed[0]); i++) {
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
    }
    for (size_t i = 0; error == 0 && i < sizeof(limited) / sizeof(limited[0]); i++) {
        error = seccomp_rule_add(
            filter, SCMP_ACT_ALLOW, limited[i].call, 1,
            SCMP_CMP(limited[i].argument, SCMP_CMP_MASKED_EQ, limited[i].mask, limited[i].value));
    }
    if (error == 0) { /* getifaddrs(3), and nothing else of what netlink leads to */
        error =
            seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2,
                             SCMP_A0(SCMP_CMP_EQ, AF_NETLINK), SCMP_A2(SCMP_CMP_EQ, NETLINK_ROUTE));
    }
    return error;
}

/* What is no call of this architecture fails alike; errors are the kernel's own. */
static int set_up(scmp_filter_ctx filter)
{
    static const struct {
        enum scmp_filter_attr attribute;
        uint32_t value;
    } settings[] = {
        {SCMP_FLTATR_CTL_NNP, 0}, /* it is set */
        {SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS)},
        {SCMP_FLTATR_API_SYSRAWRC, 1},
        {SCMP_FLTATR_CTL_OPTIMIZE, 2}, /* a tree, not a chain */
    };
    int error = 0;

    for (size_t i = 0; error == 0 && i < sizeof(settings) / sizeof(settings[0]); i++) {
        error = seccomp_attr_set(filter, settings[i].attribute, settings[i].value);
    }
    return error;
}

bool syscalls_confine(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    int error = filter ? 0 : -ENOMEM;

    if (error == 0) {
        error = set_up(filter);
    }
    if (error == 0) {
        error = allow_all(filter);
    }
    if (error == 0) {
        error = seccomp_load(filter);
    }
    seccomp_release(filter);
    errno = -error;
    return error == 0;
}
