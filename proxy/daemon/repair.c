#include "proxy/daemon/repair.h"

uint64_t repair_plan(struct repair *repair, uint64_t now)
{
    const uint64_t since = now > repair->last ? now - repair->last : 0;
    const uint64_t pause = since < 2 * REPAIR_PAUSE_MOST ? repair->pause : 0;
    const uint64_t due = repair->last + pause;
    const uint64_t wait = pause > 0 && due > now ? due - now : 0;
    const uint64_t next = pause == 0 ? REPAIR_PAUSE_FIRST : 2 * pause;

    repair->last = now + wait;
    repair->pause = next < REPAIR_PAUSE_MOST ? next : REPAIR_PAUSE_MOST;
    return wait;
}

void repair_ended(struct repair *repair, uint64_t now)
{
    repair->last = now;
}
