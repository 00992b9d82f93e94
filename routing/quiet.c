#include "routing/quiet.h"

#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define NANOSECONDS INT64_C(1000000000)
#define AWAKE       INT64_C(200000) /* nanoseconds at a time: 400000 can be told from it */
#define ASLEEP      100000

struct quiet {
    quiet_work *work;
    void *context;
    int64_t since; /* awake */
};

static int64_t now(void)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NANOSECONDS + t.tv_nsec;
}

static void *run(void *data)
{
    struct quiet *quiet = data;
    const struct sched_param none = {0};
    (void)sched_setscheduler(0, SCHED_IDLE, &none); /* of this thread; if it cannot be, then not */
    quiet->since = now();
    quiet->work(quiet->context, quiet);
    return NULL;
}

void quiet_run(quiet_work *work, void *context)
{
    struct quiet quiet = {.work = work, .context = context};
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, &quiet) != 0) {
        work(context, NULL);
        return;
    }
    pthread_join(thread, NULL);
}

void quiet_rest(struct quiet *quiet)
{
    const struct timespec asleep = {.tv_nsec = ASLEEP};
    if (!quiet || now() - quiet->since < AWAKE) {
        return;
    }
    nanosleep(&asleep, NULL);
    quiet->since = now();
}
