/* pool.c - see pool.h. */
#include "balance/pool.h"

#include <errno.h>
#include <stdlib.h>

#include "balance/health.h"
#include "balance/upstream.h"
#include "base/event.h"
#include "base/hash.h"

const char *const pool_refusal_names[N_POOL_REFUSALS] = {
    [REFUSED_LINE_FULL] = "line_full",
    [REFUSED_LINE_TIMEOUT] = "line_timeout",
    [REFUSED_NO_SERVER] = "no_server",
    [REFUSED_BUDGET] = "budget",
};

/* This thread's open pools; next NULL: none was ever opened. */
static _Thread_local struct list open_pools;

struct pool *pool_create(const struct config_pool *config, unsigned n_threads)
{
    struct pool *pool = calloc(1, sizeof *pool);

    if (!pool)
        return NULL;
    pool->name = strdup(config->name);
    pool->threads = calloc(n_threads, sizeof *pool->threads);
    if (!pool->name || !pool->threads) {
        free(pool->name);
        free(pool->threads);
        free(pool);
        return NULL;
    }
    atomic_init(&pool->references, 1);
    pool->n_threads = n_threads;
    pthread_mutex_init(&pool->line_mutex, NULL);
    list_init(&pool->line);
    budget_init(&pool->budget, config->retry_budget_percent);
    for (unsigned i = 0; i < n_threads; i++) {
        struct pool_thread *pt = &pool->threads[i];

        pt->pool = pool;
        pt->thread = i;
        pt->config = config;
        list_init(&pt->open);
        strategy_state_init(&pt->strategy, i,
                            clock_monotonic_us() + i + hash_bytes(slice_from_text(config->name)));
    }
    return pool;
}

struct pool *pool_ref(struct pool *pool)
{
    atomic_fetch_add_explicit(&pool->references, 1, memory_order_relaxed);
    return pool;
}

void pool_unref(struct pool *pool)
{
    if (atomic_fetch_sub_explicit(&pool->references, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_destroy(&pool->line_mutex);
    free(pool->name);
    free(pool->threads);
    free(pool);
}

void pool_thread_open(struct pool_thread *pt, struct mailbox *mailbox)
{
    pool_ref(pt->pool);
    pt->mailbox = mailbox_ref(mailbox);
}

/* The idle connections of a server that is not in the roster go; those in use find no place to come back to. */
static void close_kept(struct kept *kept)
{
    while (!list_empty(&kept->idle)) {
        struct list *node = list_pop_front(&kept->idle);

        atomic_fetch_sub_explicit(&kept->server->idle, 1, memory_order_relaxed);
        upstream_close(container_of(node, struct upstream, idle));
    }
    kept->count = 0;
    kept->server = NULL;
}

void pool_thread_close(struct pool_thread *pt)
{
    if (!pt->mailbox)
        return;
    for (unsigned i = 0; i < pt->n_kept; i++)
        close_kept(&pt->kept[i]);
    free(pt->kept);
    pt->kept = NULL;
    pt->n_kept = 0;
    strategy_state_free(&pt->strategy);
    list_remove(&pt->open);
    if (pt->roster)
        roster_unref(pt->roster);
    pt->roster = NULL;
    pt->config = NULL;
    mailbox_unref(pt->mailbox);
    pt->mailbox = NULL;
    pool_unref(pt->pool);
}

void pool_thread_hold(struct pool_thread *pt)
{
    if (pt->users++)
        return;
    if (!open_pools.next)
        list_init(&open_pools);
    list_push_back(&open_pools, &pt->open);
}

void pool_thread_release(struct pool_thread *pt)
{
    if (--pt->users == 0)
        pool_thread_close(pt);
}

void pool_thread_note_failure(struct pool_thread *pt, struct server *server, const char *why)
{
    const struct config_ejection *config = &pt->config->ejection;

    server_observe_failure(server, loop_now_us());
    if (pt->roster && eject_apply(pt->roster, server, loop_now_us(), config))
        event_say(EVENT_SERVER_EJECTED, slice_from_text(pt->pool->name), server->name,
                  "pool %s: server %.*s put aside after %u failures in a row: %s", pt->pool->name,
                  SLICE_ARG(server->name), config->failures, why);
}

void pool_thread_note_refusal(struct pool_thread *pt, int error)
{
    if (error == -EHOSTUNREACH)
        counter_add(&pt->refused[REFUSED_NO_SERVER], 1);
    else if (error == -EAGAIN)
        counter_add(&pt->refused[REFUSED_LINE_FULL], 1);
    else if (error == -ETIMEDOUT)
        counter_add(&pt->refused[REFUSED_LINE_TIMEOUT], 1);
}

struct pool_thread *pool_thread_next(const struct pool_thread *pt)
{
    const struct list *next = pt ? pt->open.next : open_pools.next;

    return !next || next == &open_pools ? NULL : container_of(next, struct pool_thread, open);
}

struct kept *pool_slots(unsigned n_slots)
{
    struct kept *slots = calloc(n_slots ? n_slots : 1, sizeof *slots);

    for (unsigned i = 0; slots && i < n_slots; i++)
        list_init(&slots[i].idle);
    return slots;
}

/* List heads cannot be moved by realloc. */
static void take_slots(struct pool_thread *pt, struct kept *slots, unsigned n_slots)
{
    if (n_slots <= pt->n_kept) {
        free(slots);
        return;
    }
    for (unsigned i = 0; i < pt->n_kept; i++) {
        list_take_all(&slots[i].idle, &pt->kept[i].idle);
        slots[i].server = pt->kept[i].server;
        slots[i].count = pt->kept[i].count;
    }
    free(pt->kept);
    pt->kept = slots;
    pt->n_kept = n_slots;
}

void pool_thread_install(struct pool_thread *pt, struct roster *roster, struct kept *slots, unsigned n_slots)
{
    struct roster *old = pt->roster;

    take_slots(pt, slots, n_slots);
    for (size_t i = 0; i < roster->n; i++) {
        struct kept *kept = &pt->kept[roster->servers[i]->slot];

        kept->stays = kept->server == roster->servers[i];
    }
    for (unsigned i = 0; i < pt->n_kept; i++) {
        if (!pt->kept[i].stays)
            close_kept(&pt->kept[i]);
        pt->kept[i].stays = false;
    }
    for (size_t i = 0; i < roster->n; i++)
        pt->kept[roster->servers[i]->slot].server = roster->servers[i];
    pt->roster = roster_ref(roster);
    if (roster->config)
        pt->config = roster->config;
    if (old)
        roster_unref(old);
}

struct roster_message {
    struct mail message;
    struct pool_thread *pt; /* reference on its pool */
    struct roster *roster;
    struct kept *slots;
    unsigned n_slots;
};

struct pool_mailing {
    unsigned n;
    struct roster_message *messages[];
};

static void discard(struct roster_message *m)
{
    pool_unref(m->pt->pool);
    roster_unref(m->roster);
    free(m->slots);
    free(m);
}

static void roster_drop(struct mail *message)
{
    discard(container_of(message, struct roster_message, message));
}

static void roster_deliver(struct mail *message)
{
    struct roster_message *m = container_of(message, struct roster_message, message);

    if (m->pt->mailbox) { /* it may have closed meanwhile */
        pool_thread_install(m->pt, m->roster, m->slots, m->n_slots);
        m->slots = NULL;
    }
    discard(m);
}

static struct roster_message *create_message(struct pool_thread *pt, struct roster *roster, unsigned n_slots)
{
    struct roster_message *m = malloc(sizeof *m);
    struct kept *slots = pool_slots(n_slots);

    if (!m || !slots) {
        free(m);
        free(slots);
        return NULL;
    }
    pool_ref(pt->pool);
    *m = (struct roster_message){
        .message = {.deliver = roster_deliver, .drop = roster_drop},
        .pt = pt,
        .roster = roster_ref(roster),
        .slots = slots,
        .n_slots = n_slots,
    };
    return m;
}

struct pool_mailing *pool_mailing_create(struct pool *pool, struct roster *roster, unsigned n_slots)
{
    struct pool_mailing *mailing =
        calloc(1, sizeof *mailing + pool->n_threads * sizeof(struct roster_message *));

    for (; mailing && mailing->n < pool->n_threads; mailing->n++) {
        mailing->messages[mailing->n] = create_message(&pool->threads[mailing->n], roster, n_slots);
        if (!mailing->messages[mailing->n]) {
            pool_mailing_discard(mailing);
            return NULL;
        }
    }
    return mailing;
}

void pool_mailing_send(struct pool_mailing *mailing, struct mailbox *const *mailboxes)
{
    for (unsigned i = 0; i < mailing->n; i++)
        mailbox_send(mailboxes[i], &mailing->messages[i]->message);
    free(mailing);
}

void pool_mailing_discard(struct pool_mailing *mailing)
{
    for (unsigned i = 0; i < mailing->n; i++)
        discard(mailing->messages[i]);
    free(mailing);
}
