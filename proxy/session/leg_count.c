/* What a leg counts of its relay (relay_stats). */
#include "proxy/session/leg_state.h"

/* What we lack ourselves is no failure of the relay's. */
void leg_count_connection(struct leg *leg, enum upstream_event_kind kind)
{
    if (leg->state != LEG_IS_CONNECTING || kind == UPSTREAM_NO_MEANS || kind == UPSTREAM_ROOM) {
        return;
    }
    if (kind == UPSTREAM_READY) {
        relay_stats_add(leg->stats, RELAY_CONNECTIONS_READY, 1);
        leg_count_time(leg, RELAY_TIME_CONNECT);
    } else {
        relay_stats_add(leg->stats, RELAY_CONNECTIONS_FAILED, 1);
    }
}

void leg_count_message(struct leg *leg, const struct reply *reply)
{
    leg_count_time(leg, RELAY_TIME_END_OF_DATA);
    if (reply_is(reply, 2)) {
        relay_stats_add(leg->stats, RELAY_MESSAGES_ACCEPTED, 1);
        relay_stats_add(leg->stats, RELAY_BYTES, leg->written);
    } else {
        relay_stats_add(leg->stats,
                        reply_is(reply, 5) ? RELAY_MESSAGES_REJECTED : RELAY_MESSAGES_DEFERRED, 1);
    }
}
