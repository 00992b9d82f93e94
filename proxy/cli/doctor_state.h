/*
 * doctor_state: what the files of `splitmx doctor` share (design: section 8), and `splitmx route`,
 * which asks in the same way. One thread.
 *
 * A check looks after one thing (a domain, a relay, an address) in stages. A stage begins look-ups
 * and conversations; when all of them are over the next one begins, and the last says its findings.
 * All checks run at once; findings are printed in the order in which checks were made, as soon as
 * those before are over: so the output does not depend on who answered first.
 */
#ifndef SPLITMX_PROXY_CLI_DOCTOR_STATE_H
#define SPLITMX_PROXY_CLI_DOCTOR_STATE_H

#include "proxy/cli/doctor_call.h"
#include "proxy/daemon/prepare.h"
#include "proxy/net/net.h"
#include "proxy/session/shared.h"
#include "routing/dns.h"
#include "tls/inspect.h"

#define DOCTOR_DEADLINE  45000 /* milliseconds: what is not over then is not waited for */
#define DOCTOR_DOMAINS   50    /* looked at in one run; the others are counted */
#define DOCTOR_RELAYS    64
#define DOCTOR_ADDRESSES 16 /* of a host, of this machine */

enum level { LEVEL_OK, LEVEL_NOTE, LEVEL_WARNING, LEVEL_ERROR };

struct finding {
    enum level level;
    char *text; /* behind the check's subject; owned */
};

struct check {
    struct check *next;
    struct doctor *doctor;
    /* Begins the next stage (`stage` counts them). False: there is none, all has been said. */
    bool (*step)(struct check *check);
    void (*free)(struct check *check); /* with the object that it is the head of */
    unsigned stage;
    unsigned pending; /* look-ups and conversations under way; and one while they are begun */
    bool over;
    char subject[320]; /* in front of each finding */
    struct finding *findings;
    size_t count;
};

/* A domain to look at, and addresses of it that are routed here. */
struct doctor_domain {
    char name[DNS_NAME_MAX + 1];
    char *sample[CALL_RECIPIENTS - 1]; /* owned; room for postmaster is kept */
    uint64_t order[CALL_RECIPIENTS - 1];
    size_t sampled;
    uint64_t exact; /* addresses of it in the table */
};

struct doctor {
    bool (*begin)(struct doctor *doctor); /* makes and begins the first checks; false: no memory */
    void (*on_over)(struct doctor *doctor);     /* a check is over; may be NULL */
    void (*on_time_out)(struct doctor *doctor); /* conversations are cut; may be NULL */
    uv_loop_t loop;
    uv_timer_t deadline;
    uv_timer_t turn; /* once everything is over: ends the loop */
    struct net net;  /* whose resolver is as the daemon's */
    struct dns *dns; /* the world's view: no hosts file */
    struct shared shared;
    struct call_queue calls;
    struct prepared *prepared;
    struct check *checks, **last;
    struct check **unprinted; /* the first whose findings have not been */
    unsigned open;            /* checks that are not over */
    unsigned errors, warnings;
    bool json, colored; /* how findings are printed */
    bool broken;        /* memory was short: not everything was said */

    /* What the table has. */
    struct doctor_domain *domains;
    size_t domain_count;
    size_t domains_left; /* out */
    size_t subdomains;   /* patterns like .example.com, which name no domain to look at */
    const struct relay *relays[DOCTOR_RELAYS];
    size_t relay_count;

    /* What this machine is. */
    struct net_address *machine; /* its interfaces' and the listeners' */
    size_t machine_count;
    bool hidden;                                /* it has no public address: NAT, or a container */
    struct net_address named[DOCTOR_ADDRESSES]; /* what `hostname` leads to */
    size_t named_count;
    struct net_address outgoing[DOCTOR_ADDRESSES]; /* public ones that mail goes out from */
    size_t outgoing_count;
    struct tls_inspection **certificates; /* as many as are configured; NULL: cannot be read */
};

static inline const struct config *doctor_config(const struct doctor *doctor)
{
    return doctor->prepared->config;
}

/* ---- doctor_run.c: checks and their world ---- */

void doctor_init(struct doctor *doctor, struct prepared *prepared,
                 bool (*begin)(struct doctor *doctor));
/* Until all checks are over; after `patience` milliseconds conversations are cut. False: there is
 * no descriptor or memory for it. */
bool doctor_run(struct doctor *doctor, uint64_t patience);
void doctor_free_checks(struct doctor *doctor);

/* Puts a check (zeroed, with step and free) behind those there are. It begins with check_begin. */
void check_add(struct doctor *doctor, struct check *check, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void check_begin(struct check *check);
/* Something that the stage waits for; its end. */
void check_hold(struct check *check);
void check_release(struct check *check);
void check_say(struct check *check, enum level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Memory is short: nothing more comes of this check. */
void check_fail(struct check *check);

/* ---- doctor_names.c: DNS ---- */

struct lookup {
    struct dns_wait wait;
    const struct dns_answer *answer; /* NULL until then */
    struct check *check;
};

/* Both kinds of address of a host. */
struct host_lookup {
    struct lookup v4, v6;
};

/* name: folded and valid. The check is held until the answer is there. */
void lookup_begin(struct lookup *lookup, struct check *check, const char *name, enum dns_type type);
void lookup_release(struct lookup *lookup); /* a zeroed one is accepted */
void host_lookup_begin(struct host_lookup *lookup, struct check *check, const char *name);
void host_lookup_release(struct host_lookup *lookup);
/* At most cap; how many. */
size_t host_lookup_addresses(const struct host_lookup *lookup, uint16_t port,
                             struct net_address *out, size_t cap);
/* Why there is none, in words; `failed`: it is not known whether there is. */
const char *host_lookup_why(const struct host_lookup *lookup, bool *failed);

/* "192.0.2.1, 2001:db8::1". */
void addresses_put(const struct net_address *addresses, size_t count, struct text *out);
/* Folded and without its last dot; false: no host name. out has room for DNS_NAME_MAX and the NUL.
 */
bool name_fold(struct span name, char *out);

/* The address that packets to this one would come from, as the kernel's routes have it; false:
 * there is no way there. */
bool address_towards(const struct net_address *address, struct net_address *source);
/* Whether it leads to this machine, as far as can be known. */
bool doctor_is_own(const struct doctor *doctor, const struct net_address *address);

/* ---- the checks ---- */

/* The first one: those that depend on it are begun by doctor_begin when it is over. False: no
 * memory. */
bool doctor_hostname(struct doctor *doctor);
void doctor_begin(struct doctor *doctor);
void doctor_addresses(struct doctor *doctor);    /* doctor_names.c: PTR */
void doctor_certificates(struct doctor *doctor); /* doctor_local.c: nothing is asked */
void doctor_postmaster(struct doctor *doctor);
void doctor_domains(struct doctor *doctor); /* doctor_domain.c */
void doctor_relays(struct doctor *doctor);  /* doctor_relay.c */

/* Whether one of the certificates is for the name; true where there are none. */
bool doctor_certified(const struct doctor *doctor, const char *name);

/* ---- doctor_table.c ---- */

/* Reads domains (those named, or all that mail is accepted for), samples and relays out of the
 * table. False: it cannot be read, or memory is short. */
bool doctor_read_table(struct doctor *doctor, char **named, int count);

#endif
