#include "proxy/daemon/thread_check.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

/* libuv's pool, the log and the ledger. */
#define OTHERS 6

static void *wait_for_the_rest(void *end)
{
    while (sem_wait(end) != 0) {
        continue; /* EINTR */
    }
    return NULL;
}

bool thread_check(unsigned workers, struct diag_list *diags)
{
    const unsigned wanted = workers + OTHERS;
    pthread_t *threads = calloc(wanted, sizeof(*threads));
    unsigned count = 0;
    int error = 0;
    sem_t end;

    if (!threads || sem_init(&end, 0, 0) != 0) {
        diag_machine(diags, "out of memory");
        free(threads);
        return false;
    }
    while (error == 0 && count < wanted) {
        error = pthread_create(&threads[count], NULL, wait_for_the_rest, &end);
        count += error == 0 ? 1 : 0;
    }
    for (unsigned i = 0; i < count; i++) {
        sem_post(&end);
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
    }
    if (error != 0) {
        diag_machine(diags,
                     "%u threads are needed, and after %u there are no more: %s: raise the limit "
                     "of tasks (TasksMax=, a container's pids limit, ulimit -u) or of memory, "
                     "or say `workers: 1`",
                     wanted, count, strerror(error));
    }
    sem_destroy(&end);
    free(threads);
    return error == 0;
}
