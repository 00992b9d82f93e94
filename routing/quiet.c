#include "routing/quiet.h"

#include <pthread.h>
#include <sched.h>
#include <stddef.h>

struct job {
    void (*work)(void *context);
    void *context;
};

static void *run(void *data)
{
    const struct job *job = data;
    const struct sched_param none = {0};
    (void)sched_setscheduler(0, SCHED_IDLE, &none); /* of this thread; if it cannot be, then not */
    job->work(job->context);
    return NULL;
}

void quiet_run(void (*work)(void *context), void *context)
{
    struct job job = {work, context};
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, &job) != 0) {
        work(context);
        return;
    }
    pthread_join(thread, NULL);
}
