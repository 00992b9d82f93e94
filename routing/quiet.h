/*
 * quiet: work that gives way to everything else.
 */
#ifndef SPLITMX_ROUTING_QUIET_H
#define SPLITMX_ROUTING_QUIET_H

/*
 * Calls work in a thread that has the processor only while nobody else wants it (SCHED_IDLE; its
 * reading and writing is of the idle class by that, too), and waits for it. A thread of its own,
 * for who has gone down so far may not come up again. Where none can be had, work is called as it
 * is.
 */
void quiet_run(void (*work)(void *context), void *context);

#endif
