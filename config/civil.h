/*
 * civil: the calendar, in UTC. Pure: gmtime_r would take the C library's lock and may read the zone
 * file, which an event loop must not wait for.
 */
#ifndef SPLITMX_CONFIG_CIVIL_H
#define SPLITMX_CONFIG_CIVIL_H

#include <time.h>

#include "config/text.h"

struct civil {
    uint64_t days; /* since 1970-01-01, a Thursday */
    uint64_t year;
    unsigned month, day; /* from 0 and from 1 */
    unsigned hour, minute, second;
};

/* Of the proleptic Gregorian calendar; before 1970 it is 1970. */
struct civil civil_from_time(time_t when);

/* "17:00:00" */
void civil_put_clock(const struct civil *civil, struct text *out);

#endif
