#include "config/civil.h"

/* Years begin in March here, so that the leap day is the last of its year, and 400 years are one
 * cycle of 146,097 days. */
static void set_date(struct civil *civil)
{
    const uint64_t shifted = civil->days + 719468; /* from 0000-03-01 */
    const uint64_t cycle = shifted / 146097;
    const uint64_t day_of_cycle = shifted % 146097;
    const uint64_t year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36524 - day_of_cycle / 146096) / 365;
    const uint64_t day_of_year =
        day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    const uint64_t march_month = (5 * day_of_year + 2) / 153;

    civil->month = (unsigned)(march_month < 10 ? march_month + 2 : march_month - 10);
    civil->year = cycle * 400 + year_of_cycle + (civil->month < 2);
    civil->day = (unsigned)(day_of_year - (153 * march_month + 2) / 5 + 1);
}

struct civil civil_from_time(time_t when)
{
    const uint64_t seconds = when < 0 ? 0 : (uint64_t)when;
    const unsigned rest = (unsigned)(seconds % 86400);
    struct civil civil = {.days = seconds / 86400,
                          .hour = rest / 3600,
                          .minute = rest / 60 % 60,
                          .second = rest % 60};
    set_date(&civil);
    return civil;
}

void civil_put_clock(const struct civil *civil, struct text *out)
{
    text_digits(out, civil->hour, 2);
    text_putc(out, ':');
    text_digits(out, civil->minute, 2);
    text_putc(out, ':');
    text_digits(out, civil->second, 2);
}
