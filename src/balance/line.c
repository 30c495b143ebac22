/* line.c - see line.h.
 *
 * No wake-up is lost between "every server is full" and joining the line: a waiter is counted in in_line before it
 * looks for a place once more, and who leaves gives up its place before it looks at in_line; both sequentially
 * consistent, so at least one of the two sees the other.
 * A waiter is in the line, or a message is on its way to it (and the line has forgotten it), never both. */
#include "balance/line.h"

#include <errno.h>
#include <stdlib.h>

struct waiter {
    struct mail message; /* brings the grant to the waiter's thread */
    struct list list;
    struct mailbox *mailbox;
    struct fiber *fiber; /* NULL once it stopped waiting: the message frees this */
    struct pool_thread *pt;
    struct server *aim; /* whom it counts as waiting for; reference */
    bool pinned;        /* no other server will do */
    struct server *const *tried;
    size_t n_tried;
    struct server *granted; /* NULL after a kick: choose again; place and reference are the waiter's */
    bool told;
};

static bool take_place(struct server *server)
{
    unsigned active = atomic_load_explicit(&server->active, memory_order_relaxed);

    unsigned most = atomic_load_explicit(&server->max_connections, memory_order_relaxed);

    if (!most) {
        atomic_fetch_add(&server->active, 1);
        return true;
    }
    do
        if (active >= most)
            return false;
    while (!atomic_compare_exchange_weak(&server->active, &active, active + 1));
    return true;
}

/* A client stays with its server, and waits for it rather than go to another. */
static bool is_pinned(const struct roster *roster)
{
    return strategy_table[roster->strategy].key == STRATEGY_KEY_CLIENT;
}

/* 0 with a place, -EAGAIN when all that would do are full, -EHOSTUNREACH. *aim: who was picked, full or not. */
static int pick_and_take(struct pool_thread *pt, struct strategy_input *input, struct server **aim)
{
    *aim = NULL;
    if (!pt->roster)
        return -EHOSTUNREACH;
    input->now_us = loop_now_us();
    input->slow_start_us = pt->config->health.slow_start_us;
    input->load_bound = pt->config->load_bound;
    input->skip_full = !is_pinned(pt->roster);
    while (input->skip_full) {
        struct server *server = strategy_pick(pt->roster, &pt->strategy, input);

        if (!server)
            break;
        if (take_place(server)) {
            *aim = server;
            return 0;
        }
    }
    input->skip_full = false;
    *aim = strategy_pick(pt->roster, &pt->strategy, input);
    if (!*aim)
        return -EHOSTUNREACH;
    return take_place(*aim) ? 0 : -EAGAIN;
}

static void waiter_free(struct waiter *waiter)
{
    server_unref(waiter->aim);
    pool_thread_release(waiter->pt);
    free(waiter);
}

static void on_told(struct mail *message)
{
    struct waiter *waiter = container_of(message, struct waiter, message);

    if (waiter->fiber) {
        waiter->told = true;
        fiber_wake(waiter->fiber);
        return;
    }
    if (waiter->granted)
        line_leave(waiter->pt, waiter->granted);
    waiter_free(waiter);
}

/* The thread has gone, and its requests and its part of the pool with it. */
static void on_dropped(struct mail *message)
{
    struct waiter *waiter = container_of(message, struct waiter, message);

    if (waiter->granted)
        server_unref(waiter->granted);
    server_unref(waiter->aim);
    free(waiter);
}

/* Takes it out of the line and tells it. With the mutex held. */
static void tell(struct pool *pool, struct waiter *waiter, struct server *granted)
{
    list_remove(&waiter->list);
    atomic_fetch_sub(&pool->in_line, 1);
    atomic_fetch_sub(&waiter->aim->waiting, 1);
    waiter->granted = granted ? server_ref(granted) : NULL;
    mailbox_send(waiter->mailbox, &waiter->message);
}

static bool would_do(const struct waiter *waiter, const struct server *server)
{
    if (waiter->aim == server)
        return true;
    if (server_is_backup(server) && !server_is_backup(waiter->aim)) /* full servers call no backup in */
        return false;
    for (size_t i = 0; i < waiter->n_tried; i++)
        if (waiter->tried[i] == server)
            return false;
    return !waiter->pinned;
}

/* Gives the caller's place at server to the first in line who may use it. */
static bool hand_over(struct pool *pool, struct server *server)
{
    bool given = false;

    pthread_mutex_lock(&pool->line_mutex);
    for (struct list *node = pool->line.next; !given && node != &pool->line; node = node->next) {
        struct waiter *waiter = container_of(node, struct waiter, list);

        if (!would_do(waiter, server))
            continue;
        tell(pool, waiter, server);
        given = true;
        break;
    }
    pthread_mutex_unlock(&pool->line_mutex);
    return given;
}

void line_leave(struct pool_thread *pt, struct server *server)
{
    struct pool *pool = pt->pool;
    bool given =
        atomic_load(&pool->in_line) && server_usable(server, loop_now_us()) && hand_over(pool, server);

    if (!given) {
        atomic_fetch_sub(&server->active, 1);
        /* Somebody may have joined the line since we looked. */
        if (server->max_connections && atomic_load(&pool->in_line) && server_usable(server, loop_now_us()) &&
            take_place(server) && !hand_over(pool, server))
            atomic_fetch_sub(&server->active, 1);
    }
    server_unref(server);
}

void line_kick(struct pool *pool)
{
    pthread_mutex_lock(&pool->line_mutex);
    while (!list_empty(&pool->line))
        tell(pool, container_of(pool->line.next, struct waiter, list), NULL);
    pthread_mutex_unlock(&pool->line_mutex);
}

static struct waiter *waiter_create(struct pool_thread *pt, const struct strategy_input *input,
                                    struct server *aim)
{
    struct waiter *waiter = calloc(1, sizeof *waiter);

    if (!waiter)
        return NULL;
    waiter->message.deliver = on_told;
    waiter->message.drop = on_dropped;
    waiter->mailbox = pt->mailbox;
    waiter->fiber = fiber_self();
    pool_thread_hold(pt);
    waiter->pt = pt;
    waiter->aim = server_ref(aim);
    waiter->pinned = is_pinned(pt->roster);
    waiter->tried = input->tried;
    waiter->n_tried = input->n_tried;
    return waiter;
}

static int join_line(struct pool *pool, struct waiter *waiter, unsigned max_queue)
{
    int error = 0;

    pthread_mutex_lock(&pool->line_mutex);
    if (atomic_load(&pool->in_line) >= max_queue) {
        error = -EAGAIN;
    } else {
        list_push_back(&pool->line, &waiter->list);
        atomic_fetch_add(&pool->in_line, 1);
        atomic_fetch_add(&waiter->aim->waiting, 1);
    }
    pthread_mutex_unlock(&pool->line_mutex);
    return error;
}

/* False: it was told something meanwhile. */
static bool quit_line(struct pool *pool, struct waiter *waiter)
{
    bool quit;

    pthread_mutex_lock(&pool->line_mutex);
    quit = !list_empty(&waiter->list);
    if (quit) {
        list_remove(&waiter->list);
        atomic_fetch_sub(&pool->in_line, 1);
        atomic_fetch_sub(&waiter->aim->waiting, 1);
    }
    pthread_mutex_unlock(&pool->line_mutex);
    return quit;
}

/* In the line until told. 0: *server is granted, or NULL: choose again. */
static int wait_in_line(struct pool_thread *pt, struct waiter *waiter, uint64_t deadline_us,
                        struct server **server)
{
    int error = 0;

    while (!error && !waiter->told)
        error = fiber_park(deadline_us);
    if (!waiter->told && !quit_line(pt->pool, waiter)) {
        /* Told, but the message is not here yet: it finds nobody, passes the place on and frees the waiter. */
        waiter->fiber = NULL;
        return error;
    }
    *server = waiter->granted;
    error = waiter->told ? 0 : error;
    waiter_free(waiter);
    return error;
}

/* Joins the line behind a server that was full, unless a place got free at that very moment. */
static int wait_for_place(struct pool_thread *pt, struct strategy_input *input, struct server *aim,
                          uint64_t deadline_us, struct server **server)
{
    struct waiter *waiter = waiter_create(pt, input, aim);
    struct server *again;
    int error;

    if (!waiter)
        return -ENOMEM;
    list_init(&waiter->list);
    error = join_line(pt->pool, waiter, pt->config->max_queue);
    if (error) {
        waiter_free(waiter);
        return error;
    }
    error = pick_and_take(pt, input, &again);
    if (error != -EAGAIN && quit_line(pt->pool, waiter)) { /* a place, or the last server has just gone */
        waiter_free(waiter);
        *server = error ? NULL : server_ref(again);
        return error;
    }
    if (!error)
        line_leave(pt, server_ref(again)); /* told as well: one place is enough */
    return wait_in_line(pt, waiter, deadline_us, server);
}

int line_enter_until(struct pool_thread *pt, struct strategy_input *input, uint64_t latest_us,
                     struct server **server)
{
    uint64_t deadline_us = loop_deadline(pt->config->queue_timeout_us);
    int error;

    if (deadline_us > latest_us)
        deadline_us = latest_us;
    for (;;) {
        struct server *aim;

        error = pick_and_take(pt, input, &aim);
        if (!error) {
            *server = server_ref(aim);
            return 0;
        }
        if (error != -EAGAIN)
            return error;
        *server = NULL;
        error = wait_for_place(pt, input, aim, deadline_us, server);
        if (error || *server)
            return error;
    }
}

int line_enter(struct pool_thread *pt, struct strategy_input *input, struct server **server)
{
    return line_enter_until(pt, input, NEVER, server);
}
