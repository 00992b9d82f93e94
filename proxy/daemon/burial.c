#include "proxy/daemon/burial.h"

void burial_add(struct prepared *prepared, void *context)
{
    struct burial *burial = context;
    if (atomic_load(&burial->is_over)) {
        prepared_free(prepared);
        return;
    }
    prepared->next_buried = atomic_load(&burial->waiting);
    while (!atomic_compare_exchange_weak(&burial->waiting, &prepared->next_buried, prepared)) {
        continue;
    }
    uv_async_send(&burial->wake);
}

static void free_list(struct prepared *list)
{
    while (list != NULL) {
        struct prepared *next = list->next_buried;
        prepared_free(list);
        list = next;
    }
}

static void on_work(uv_work_t *work)
{
    struct burial *burial = work->data;
    free_list(burial->under_way);
}

static void next(struct burial *burial);

static void on_work_over(uv_work_t *work, int status)
{
    struct burial *burial = work->data;
    (void)status;
    burial->under_way = NULL;
    next(burial);
}

static void next(struct burial *burial)
{
    if (burial->under_way != NULL || atomic_load(&burial->waiting) == NULL) {
        return;
    }
    burial->under_way = atomic_exchange(&burial->waiting, NULL);
    burial->work.data = burial;
    uv_queue_work(burial->loop, &burial->work, on_work, on_work_over);
}

static void on_wake(uv_async_t *wake)
{
    next(wake->data);
}

void burial_init(struct burial *burial, uv_loop_t *loop)
{
    burial->loop = loop;
    uv_async_init(loop, &burial->wake, on_wake);
    burial->wake.data = burial;
}

void burial_close(struct burial *burial)
{
    atomic_store(&burial->is_over, true);
    uv_close((uv_handle_t *)&burial->wake, NULL);
}

void burial_release(struct burial *burial)
{
    free_list(atomic_exchange(&burial->waiting, NULL));
}
