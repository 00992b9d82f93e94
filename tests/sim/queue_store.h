/*
 * queue_store: what the ledger of a world is kept in: it takes what has changed after a while,
 * writes it after another, and says so later still. It may fail for a while, and a crash takes from
 * it whatever was not written; a batch that was being written is then there, or not, whole.
 */
#ifndef SPLITMX_TESTS_SIM_QUEUE_STORE_H
#define SPLITMX_TESTS_SIM_QUEUE_STORE_H

#include "proxy/session/ledger.h"
#include "tests/sim/buffer.h"
#include "tests/sim/random.h"

struct queues;

#define STORE_FAILURES 2

struct store_set {
    uint64_t number;
    struct buffer record; /* empty: it has gone */
};

struct store_sets {
    struct store_set *sets;
    size_t count, cap;
};

struct queue_store {
    struct queues *queues;
    struct sim_random random;
    struct ledger *ledger; /* NULL while splitmx is down */
    uint64_t retry_window;
    struct store_sets durable;
    struct store_sets batch; /* being written */
    uint64_t batch_number;
    bool loaded; /* what was kept has been read */
    uint64_t loaded_step;
    uint64_t dropped_step; /* when some of it was not taken, being late; 0: never */
    bool anew;             /* the batch takes the place of all that was kept */
    unsigned life;         /* of the process: events of an earlier one are void */
    uint64_t take_at;      /* when it will be taken; 0: nothing waits */
    bool writing;
    bool written;           /* and not reported yet */
    uint64_t changed_step;  /* the first change that is not in a batch; 0: none */
    uint64_t batch_step;    /* the first change that is in this one; 0: none */
    uint64_t unusable_step; /* since when the ledger knows that nothing can be written; 0: it can */
    uint64_t bad_step;      /* when that was last so */
    unsigned slow;          /* most milliseconds of a write */
    struct {
        bool armed;
        uint64_t from, to;
    } failures[STORE_FAILURES];
};

/* A new process: its ledger, with what was kept. */
void queue_store_open(struct queue_store *store, size_t max_size);
/* The process has gone: the ledger is freed, what was not written is lost. Returns the step of the
 * first change that is, UINT64_MAX where none is. */
uint64_t queue_store_crash(struct queue_store *store);
void queue_store_release(struct queue_store *store);
/* Nothing waits to be durable. */
bool queue_store_is_clean(const struct queue_store *store);
/* A ledger of its own with what is kept now: to be looked at, and freed. */
struct ledger *queue_store_look(const struct queue_store *store);

#endif
