/* pool.h - a pool at run time: its servers, and what each thread keeps for it.
 *
 * Who is in the pool (the roster) is decided on the control thread, by balance/control.h, and sent to every thread by mail; a
 * thread reads its own copy of the pointer and holds a reference, so a request never meets a change. A server
 * that left lives on until the last request on it ends.
 * Threads: pool_create and pool_free before and after the threads run; struct pool_thread belongs to its thread. */
#ifndef BALANCE_POOL_H
#define BALANCE_POOL_H

#include <pthread.h>

#include "balance/budget.h"
#include "balance/strategy.h"
#include "base/list.h"
#include "fiber/loop.h"

/* Connections to one server that wait for their next request, the latest used first. */
struct kept {
    struct server *server; /* borrowed from the roster; NULL: the slot is free */
    struct list idle;      /* struct upstream */
    unsigned count;
};

struct pool_thread {
    struct pool *pool;
    unsigned thread;
    struct mailbox *mailbox; /* reference; where rosters and grants of this thread go */
    struct roster *roster;   /* reference; NULL: no server is known yet */
    struct strategy_state strategy;
    struct kept *kept; /* by server slot */
    unsigned n_kept;
};

struct pool {
    const struct config_pool *config; /* borrowed */
    struct budget budget;
    pthread_mutex_t line_mutex; /* never held across a wait */
    struct list line;           /* struct waiter, first come first */
    _Atomic unsigned in_line;
    unsigned n_threads;
    struct pool_thread *threads;
};

/* NULL: no memory. The pool has no server yet. */
struct pool *pool_create(const struct config_pool *config, unsigned n_threads);
void pool_free(struct pool *pool);

/* On the thread itself, before any request. */
void pool_thread_open(struct pool_thread *pt);
/* Closes the kept connections and lets the roster go: after the last request. */
void pool_thread_close(struct pool_thread *pt);

/* Makes it the roster of every thread, soon: each gets a message. From the control thread. 0 or -ENOMEM (some threads may
 * have it). */
int pool_publish(struct pool *pool, struct roster *roster);
/* Makes it this thread's at once. Takes a reference of its own. */
int pool_thread_install(struct pool_thread *pt, struct roster *roster);

#endif
