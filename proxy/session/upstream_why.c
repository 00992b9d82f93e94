/*
 * What went wrong with an upstream, in words for the log and, where they may see it, the client.
 */
#include "proxy/session/upstream_state.h"

/* Whether the upstream owes something in this state. */
bool upstream_owes_in(enum client_state state)
{
    switch (state) {
    case CLIENT_READY:
    case CLIENT_OPEN:
    case CLIENT_BODY:
    case CLIENT_CLOSED:
        return false;
    case CLIENT_CONNECT:
    case CLIENT_GREETING:
    case CLIENT_EHLO:
    case CLIENT_HELO:
    case CLIENT_STARTTLS:
    case CLIENT_TLS:
    case CLIENT_XCLIENT:
    case CLIENT_MAIL:
    case CLIENT_MAIL_PIPED:
    case CLIENT_VOID:
    case CLIENT_RCPT:
    case CLIENT_DATA:
    case CLIENT_END:
    case CLIENT_RSET:
    case CLIENT_QUIT:
    case CLIENT_STATES:
        break;
    }
    return true;
}

/* What went wrong where the table says that something did; before the connection is closed. */
void upstream_put_why(struct upstream *up, enum client_state was, enum client_event event,
                      struct text *out)
{
    switch (event) {
    case CLIENT_ON_LATE:
        text_printf(out, "timed out, waiting for %s", client_waiting_for(was));
        break;
    case CLIENT_ON_LOST:
        text_puts(out, up->spoke ? "spoke or ended unasked" : up->conn->ops->why(up->conn));
        if (was != CLIENT_CONNECT && upstream_owes_in(was)) {
            text_printf(out, ", waiting for %s", client_waiting_for(was));
        }
        break;
    case CLIENT_ON_BAD:
        if (up->spoke && up->reply.code != 0) {
            text_puts(out, "said unasked: ");
            reply_tell(&up->reply, out);
        } else if (up->spoke) {
            text_puts(out, "sent unasked what is not SMTP");
        } else {
            text_printf(out, "%s is not an SMTP reply", client_waiting_for(was));
        }
        break;
    case CLIENT_ON_INSECURE:
        text_printf(out, "TLS failed: %s", up->conn->ops->why(up->conn));
        break;
    case CLIENT_ON_OPEN:
    case CLIENT_ON_SECURE:
    case CLIENT_ON_2XX:
    case CLIENT_ON_3XX:
    case CLIENT_ON_4XX:
    case CLIENT_ON_421:
    case CLIENT_ON_5XX:
    case CLIENT_EVENTS:
        text_printf(out, "%s was ", client_waiting_for(was));
        reply_tell(&up->reply, out);
        break;
    }
}
