/* pool.h - a pool at run time: its servers, and what each thread keeps for it.
 *
 * Who is in the pool and how it is to be used (the roster) is decided on the control thread, by balance/control.h, and
 * sent to every thread by mail; a thread reads its own copy of the pointer and holds a reference, so a request never
 * meets a change between two waits. A server that left lives on until the last request on it ends; a pool that left, too.
 * Threads: struct pool_thread belongs to its thread from its first hold; the control thread opens it before. */
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
    bool stays; /* in the roster that is being installed */
};

/* Why a pool refused requests without asking a server. */
enum pool_refusal {
    REFUSED_LINE_FULL,
    REFUSED_LINE_TIMEOUT,
    REFUSED_NO_SERVER,
    REFUSED_BUDGET,
    N_POOL_REFUSALS
};

extern const char *const pool_refusal_names[N_POOL_REFUSALS];

struct pool_thread {
    struct pool *pool; /* reference while it is open */
    unsigned thread;
    unsigned users;          /* scenes, requests, waiters: the last to let go closes it */
    struct list open;        /* of its thread's pools */
    struct mailbox *mailbox; /* reference; where rosters and grants of this thread go; NULL: closed */
    const struct config_pool
        *config;           /* the roster's: may be another after every wait, so never keep it over one */
    struct roster *roster; /* reference; NULL: no server is known yet */
    struct strategy_state strategy;
    struct kept *kept; /* by server slot */
    unsigned n_kept;
    struct counter refused[N_POOL_REFUSALS];
};

struct pool {
    _Atomic unsigned references;
    char *name; /* owned */
    struct budget budget;
    pthread_mutex_t line_mutex; /* never held across a wait */
    struct list line;           /* struct waiter, first come first */
    _Atomic unsigned in_line;
    unsigned n_threads;
    struct pool_thread *threads;
};

/* With one reference, the caller's; every part of a thread is closed. config is borrowed while no roster has come
 * to take its place. NULL: no memory. */
struct pool *pool_create(const struct config_pool *config, unsigned n_threads);
struct pool *pool_ref(struct pool *pool);
void pool_unref(struct pool *pool);

/* Before its thread knows of it: any thread. */
void pool_thread_open(struct pool_thread *pt, struct mailbox *mailbox);
/* Takes a roster over: connections kept to servers that are not in it are closed. slots: from pool_slots, as many as its
 * servers' slots need; taken over, or freed when as many are there. On its thread, or any before its thread knows of it. */
void pool_thread_install(struct pool_thread *pt, struct roster *roster, struct kept *slots, unsigned n_slots);
/* NULL: no memory. */
struct kept *pool_slots(unsigned n_slots);
/* Lets go of everything: the last release does. On its thread, or any if its thread never knew of it. */
void pool_thread_close(struct pool_thread *pt);
/* On its thread. */
void pool_thread_hold(struct pool_thread *pt);
void pool_thread_release(struct pool_thread *pt);

/* A request or connection failed at server: counts towards its ejection, and ejects it. */
void pool_thread_note_failure(struct pool_thread *pt, struct server *server, const char *why);
/* line_enter's error is the request's end: counts why. */
void pool_thread_note_refusal(struct pool_thread *pt, int error);

/* Of the calling thread's open pools: the first, or the next after pt; NULL: none. */
struct pool_thread *pool_thread_next(const struct pool_thread *pt);

/* A roster for every thread: made first, which may fail, then sent, which cannot, or thrown away. Control thread. */
struct pool_mailing;

/* Every slot of the roster's servers is below n_slots. NULL: no memory. */
struct pool_mailing *pool_mailing_create(struct pool *pool, struct roster *roster, unsigned n_slots);
/* mailboxes: of the threads, by number; a thread that has let go of the pool by then passes it over. */
void pool_mailing_send(struct pool_mailing *mailing, struct mailbox *const *mailboxes);
void pool_mailing_discard(struct pool_mailing *mailing);

#endif
