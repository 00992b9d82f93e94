#include "proxy/daemon/early_signals.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static void change_mask(int how, int number)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    sigprocmask(how, &set, NULL);
}

static void on_stop(int number)
{
    (void)number;
    _exit(EXIT_SUCCESS); /* nothing is served yet; what a build leaves, the next one clears */
}

void early_signals_begin(void)
{
    change_mask(SIG_BLOCK, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    /* What others use to have their log opened anew; ours is no file of our own. */
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    signal(SIGTERM, on_stop);
    signal(SIGINT, on_stop);
    /* Who started us may have left them blocked. */
    change_mask(SIG_UNBLOCK, SIGTERM);
    change_mask(SIG_UNBLOCK, SIGINT);
}

void early_signals_end(void)
{
    change_mask(SIG_UNBLOCK, SIGHUP);
}
