/* pool.c - see pool.h. */
#include "balance/pool.h"

#include <errno.h>
#include <stdlib.h>

#include "balance/upstream.h"
#include "base/hash.h"

struct pool *pool_create(const struct config_pool *config, unsigned n_threads)
{
    struct pool *pool = calloc(1, sizeof *pool);

    if (!pool)
        return NULL;
    pool->threads = calloc(n_threads, sizeof *pool->threads);
    if (!pool->threads) {
        free(pool);
        return NULL;
    }
    pool->config = config;
    pool->n_threads = n_threads;
    pthread_mutex_init(&pool->line_mutex, NULL);
    list_init(&pool->line);
    budget_init(&pool->budget, config->retry_budget_percent);
    for (unsigned i = 0; i < n_threads; i++) {
        struct pool_thread *pt = &pool->threads[i];

        pt->pool = pool;
        pt->thread = i;
        strategy_state_init(&pt->strategy, i,
                            clock_monotonic_us() + i + hash_bytes(slice_from_text(config->name)));
    }
    return pool;
}

void pool_free(struct pool *pool)
{
    for (unsigned i = 0; i < pool->n_threads; i++)
        strategy_state_free(&pool->threads[i].strategy);
    pthread_mutex_destroy(&pool->line_mutex);
    free(pool->threads);
    free(pool);
}

void pool_thread_open(struct pool_thread *pt)
{
    pt->mailbox = mailbox_ref(loop_mailbox(loop_self()));
}

/* The idle connections of a server that is not in the roster go; those in use find no place to come back to. */
static void close_kept(struct kept *kept)
{
    while (!list_empty(&kept->idle)) {
        struct list *node = list_pop_front(&kept->idle);

        upstream_close(container_of(node, struct upstream, idle));
    }
    kept->count = 0;
    kept->server = NULL;
}

void pool_thread_close(struct pool_thread *pt)
{
    for (unsigned i = 0; i < pt->n_kept; i++)
        close_kept(&pt->kept[i]);
    free(pt->kept);
    pt->kept = NULL;
    pt->n_kept = 0;
    if (pt->roster)
        roster_unref(pt->roster);
    pt->roster = NULL;
    mailbox_unref(pt->mailbox);
}

static int make_slots(struct pool_thread *pt, const struct roster *roster)
{
    unsigned n = pt->n_kept;
    struct kept *kept;

    for (size_t i = 0; i < roster->n; i++)
        if (roster->servers[i]->slot >= n)
            n = roster->servers[i]->slot + 1;
    if (n == pt->n_kept)
        return 0;
    kept = calloc(n, sizeof *kept); /* list heads cannot be moved by realloc */
    if (!kept)
        return -ENOMEM;
    for (unsigned i = 0; i < n; i++) {
        list_init(&kept[i].idle);
        if (i < pt->n_kept) {
            list_take_all(&kept[i].idle, &pt->kept[i].idle);
            kept[i].server = pt->kept[i].server;
            kept[i].count = pt->kept[i].count;
        }
    }
    free(pt->kept);
    pt->kept = kept;
    pt->n_kept = n;
    return 0;
}

int pool_thread_install(struct pool_thread *pt, struct roster *roster)
{
    struct roster *old = pt->roster;
    int error = make_slots(pt, roster);

    if (error)
        return error;
    for (unsigned i = 0; i < pt->n_kept; i++) {
        bool stays = false;

        for (size_t j = 0; j < roster->n; j++)
            stays |= roster->servers[j] == pt->kept[i].server;
        if (!stays)
            close_kept(&pt->kept[i]);
    }
    for (size_t i = 0; i < roster->n; i++)
        pt->kept[roster->servers[i]->slot].server = roster->servers[i];
    pt->roster = roster_ref(roster);
    if (old)
        roster_unref(old);
    return 0;
}

struct roster_message {
    struct message message;
    struct pool_thread *pt;
    struct roster *roster;
};

static void roster_drop(struct message *message)
{
    struct roster_message *m = container_of(message, struct roster_message, message);

    roster_unref(m->roster);
    free(m);
}

static void roster_deliver(struct message *message)
{
    struct roster_message *m = container_of(message, struct roster_message, message);

    pool_thread_install(m->pt, m->roster); /* without memory the old one stays */
    roster_drop(message);
}

int pool_publish(struct pool *pool, struct roster *roster)
{
    for (unsigned i = 0; i < pool->n_threads; i++) {
        struct roster_message *m = malloc(sizeof *m);

        if (!m)
            return -ENOMEM;
        *m = (struct roster_message){
            .message = {.deliver = roster_deliver, .drop = roster_drop},
            .pt = &pool->threads[i],
            .roster = roster_ref(roster),
        };
        mailbox_send(pool->threads[i].mailbox, &m->message);
    }
    return 0;
}
