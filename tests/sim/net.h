/*
 * net: connections between session code and the actors, with cuts, delays and back-pressure.
 *
 * A link has the proxy's end, which is a struct conn as proxy/session/world.h describes it, and the
 * actor's. Bytes of one direction never overtake each other; everything else may. An actor's
 * handlers may send on and close their link; the link stays until both ends are closed and
 * nothing is under way.
 */
#ifndef SPLITMX_TESTS_SIM_NET_H
#define SPLITMX_TESTS_SIM_NET_H

#include "tests/sim/buffer.h"
#include "tests/sim/sim.h"
#include "tests/sim/upstreams.h"

/* One direction. */
struct stream {
    struct buffer queued; /* with the sender: its kernel has no room */
    struct buffer flight; /* with the kernels and the network between */
    size_t window;        /* the most in flight */
    bool blocked;         /* queued has been above 0 since the sender was last told */
    bool fin;             /* the sender will say no more */
    bool ended;           /* and the receiver knows */
    bool moving;          /* a delivery is under way */
};

struct link_actor {
    void (*on_bytes)(void *self); /* there are more in link_inbox */
    void (*on_end)(void *self);   /* the proxy has closed in order */
    void (*on_reset)(void *self); /* the proxy has sent RST; the link is closed */
    /* The proxy's side is about to write this: for the oracle; NULL: nobody looks. */
    void (*on_written)(void *self, struct span bytes);
};

/* The proxy's end of a handshake. */
enum link_tls { LINK_CLEAR, LINK_SHAKING, LINK_SECURE, LINK_INSECURE };

struct link {
    struct conn conn; /* first: conn_ops get it back from there */
    struct sim *sim;
    struct link *next, *previous;
    unsigned id;
    unsigned events;
    bool proxy_open, actor_open;
    struct stream out, in; /* from the proxy, to the proxy */
    struct buffer arrived; /* in the proxy's kernel, not in what peek shows */
    struct buffer held;    /* what peek shows */
    struct buffer inbox;   /* what the actor has not consumed */
    bool fin_arrived;
    bool reading; /* a look at what has arrived is under way */
    unsigned delay;
    const struct link_actor *actor;
    void *self;
    uint64_t sent; /* bytes, by the actor */
    uint64_t told; /* of these, what the proxy has been shown */
    uint64_t mark; /* when it is shown so many, `shown` is called once; 0: nobody wants to know */
    void (*shown)(void *object);
    void *shown_object;
    /* Sees what the proxy writes even when the actor has gone, and nothing when it closes its end,
     * or is reset; NULL: nobody does. */
    void (*witness)(void *self, struct span bytes);
    bool
        strict; /* who closes with something unread, or before it comes, sends RST, as kernels do */
    bool severed; /* the process that held the proxy's end has gone */
    bool *closed; /* set when the proxy closes its end, or its kernel knows that the actor has
                     reset; NULL: nobody wants to know */
    bool reset;   /* after its end was told: no event tells the proxy */
    struct server *server; /* of an outgoing link that will be established */
    bool spoken;           /* the proxy has */
    enum link_tls tls;
    bool is_tls_server;  /* the proxy */
    bool verifies;       /* the proxy does */
    unsigned contexts;   /* of which policy */
    char name[256];      /* that the proxy wants to reach */
    struct buffer shake; /* of the handshake, arrived and not taken */
};

/* A client's connection, established. The actor's end belongs to `self`. */
struct link *link_from_client(struct sim *sim, const struct link_actor *actor, void *self);

/* The proxy connects; NULL server: refused. One that is down does what it does then. */
struct link *link_to_server(struct sim *sim, struct server *server);

/* ---- the actor's end ---- */
void link_send(struct link *link, struct span bytes);
void link_half_close(struct link *link); /* FIN; replies are still read */
void link_close(struct link *link);      /* FIN; nothing is read any more */
void link_reset(struct link *link);      /* RST */

/*
 * The process that holds the proxy's ends goes, by itself or with its machine: what its kernel had
 * taken may still arrive, then FIN or RST. Session code is told that everything is lost, so that it
 * frees what it has; what it does meanwhile has no effect.
 */
void link_sever_all(struct sim *sim, bool machine);

/* Bytes that the proxy has written and its kernel has not taken. */
size_t link_unsent(const struct link *link);

/* server.c: the upstream's end of a new link. */
void service_accept(struct link *link, struct server *server);

#endif
