/*
 * quiet: work that gives way to everything else.
 *
 * The lowest priority alone does not: beside a thread that is always busy, though of the idle
 * class, Linux wakes others on its processor as if it were free, or lets them queue up on the rest,
 * and the slowest hundredth of all messages takes three times as long. Beside one that rests every
 * now and then it does not. So the work says, often, when it could.
 */
#ifndef SPLITMX_ROUTING_QUIET_H
#define SPLITMX_ROUTING_QUIET_H

struct quiet;

typedef void quiet_work(void *context, struct quiet *quiet);

/*
 * Calls work in a thread that has the processor only while nobody else wants it (SCHED_IDLE; its
 * reading and writing is of the idle class by that, too), and waits for it. A thread of its own,
 * for who has gone down so far may not come up again. Where none can be had, work is called as it
 * is.
 */
void quiet_run(quiet_work *work, void *context);

/* To be called many times a millisecond: sleeps where the work has gone on for long enough. NULL:
 * does nothing, for work that somebody waits for. */
void quiet_rest(struct quiet *quiet);

#endif
