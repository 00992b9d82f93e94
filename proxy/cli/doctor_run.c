/* The world of `splitmx doctor` and `splitmx route`: checks in their stages, and the loop. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "proxy/cli/doctor_state.h"
#include "proxy/daemon/descriptors.h"

void doctor_init(struct doctor *doctor, struct prepared *prepared,
                 bool (*begin)(struct doctor *doctor))
{
    *doctor = (struct doctor){.prepared = prepared, .begin = begin};
    doctor->last = doctor->unprinted = &doctor->checks;
    call_queue_init(&doctor->calls);
}

/* ---- checks ---- */

void check_fail(struct check *check)
{
    check->doctor->broken = true;
}

void check_add(struct doctor *doctor, struct check *check, const char *format, ...)
{
    va_list arguments;
    check->doctor = doctor;
    va_start(arguments, format);
    vsnprintf(check->subject, sizeof check->subject, format, arguments);
    va_end(arguments);
    *doctor->last = check;
    doctor->last = &check->next;
    doctor->open++;
}

static void on_turn(uv_timer_t *turn)
{
    struct doctor *doctor = turn->data;
    net_close(&doctor->net);
    dns_close(doctor->dns);
    uv_close((uv_handle_t *)&doctor->deadline, NULL);
    uv_close((uv_handle_t *)&doctor->turn, NULL);
}

static void check_run(struct check *check)
{
    struct doctor *doctor = check->doctor;
    do {
        check->pending = 1; /* so that an answer that comes at once does not end the stage */
        if (!check->step(check)) {
            check->over = true;
            if (doctor->on_over != NULL) {
                doctor->on_over(doctor);
            }
            if (--doctor->open == 0) { /* what has called us is on the stack still */
                uv_timer_start(&doctor->turn, on_turn, 0, 0);
            }
            return;
        }
        check->stage++;
    } while (--check->pending == 0);
}

void check_begin(struct check *check)
{
    check_run(check);
}

void check_hold(struct check *check)
{
    check->pending++;
}

void check_release(struct check *check)
{
    if (--check->pending == 0) {
        check_run(check);
    }
}

/* ---- the loop ---- */

static void on_deadline(uv_timer_t *deadline)
{
    struct doctor *doctor = deadline->data;
    net_enter(&doctor->net);
    if (doctor->on_time_out != NULL) {
        doctor->on_time_out(doctor);
    }
    call_queue_close(&doctor->calls);
}

static void on_log(void *context, enum config_log_level level, struct span record)
{
    (void)context;
    (void)level;
    (void)record;
}

static bool open_world(struct doctor *doctor, uint64_t seed)
{
    struct net_options options = {
        .policy = &doctor->prepared->policy,
        .shared = &doctor->shared,
        .resolver = prepared_resolver(doctor->prepared),
        .log = on_log,
        .seed = seed,
        .descriptors = descriptors_raise(),
    };
    options.resolver.seed = seed;
    doctor->dns =
        dns_new(&doctor->loop, options.resolver.servers, options.resolver.server_count, seed);
    if (doctor->dns == NULL) {
        return false;
    }
    if (!net_init(&doctor->net, &doctor->loop, &options)) {
        dns_close(doctor->dns);
        uv_run(&doctor->loop, UV_RUN_DEFAULT);
        return false;
    }
    return true;
}

bool doctor_run(struct doctor *doctor, uint64_t patience)
{
    uint64_t seed = 0;
    bool fine = false;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed || uv_loop_init(&doctor->loop)) {
        return false;
    }
    if (shared_init(&doctor->shared, 1, seed, NULL)) {
        fine = open_world(doctor, seed);
    }
    if (fine) {
        uv_timer_init(&doctor->loop, &doctor->deadline);
        uv_timer_init(&doctor->loop, &doctor->turn);
        doctor->deadline.data = doctor->turn.data = doctor;
        uv_timer_start(&doctor->deadline, on_deadline, patience, 0);
        if (!doctor->begin(doctor)) {
            doctor->broken = true;
            uv_timer_start(&doctor->turn, on_turn, 0, 0);
        }
        uv_run(&doctor->loop, UV_RUN_DEFAULT);
        net_release(&doctor->net);
    }
    shared_release(&doctor->shared);
    uv_loop_close(&doctor->loop);
    return fine;
}

void doctor_free_checks(struct doctor *doctor)
{
    while (doctor->checks != NULL) {
        struct check *check = doctor->checks;
        doctor->checks = check->next;
        for (size_t i = 0; i < check->count; i++) {
            free(check->findings[i].text);
        }
        free(check->findings);
        check->free(check);
    }
}
