/* http.h - HTTP listeners: accepts clients, seats them at threads, serves each request by its route.
 *
 * A listener has one socket that every thread watches. Whoever accepts a client keeps it, or passes it to the
 * thread that has the fewest. Threads: struct http_front belongs to its thread; struct http_shared to all. */
#ifndef FRONT_HTTP_H
#define FRONT_HTTP_H

#include "balance/pool.h"
#include "balance/router.h"
#include "front/access_log.h"

struct http_front;

/* Clients of all listeners by thread, and how many may be. */
struct seats {
    unsigned n_threads, max;
    _Atomic unsigned total;
    struct {
        alignas(CACHE_LINE) _Atomic unsigned count;
    } threads[];
};

/* What the threads share of one listener. */
struct http_shared {
    const struct config_http *config; /* borrowed */
    struct router *router;            /* borrowed; read only */
    struct access_log *log;           /* borrowed; NULL: off */
    int *fds; /* borrowed listening sockets; closed, and then -1, by the last to drain */
    size_t n_fds;
    _Atomic unsigned accepting; /* threads that have not drained */
    struct seats *seats;        /* borrowed */
    struct http_front **fronts; /* by thread; complete before any accepts */
};

/* On its thread. pools: this thread's, by the index of their configuration. All borrowed. NULL: no memory. */
struct http_front *http_front_open(struct http_shared *shared, unsigned thread, struct pool_thread **pools,
                                   const struct config_pool *first_pool);
/* Starts accepting, once every thread's front is open. 0 or a negative errno. */
int http_front_start(struct http_front *front);
/* Stops accepting; idle clients go, the others after the exchange under way. */
void http_front_drain(struct http_front *front);
/* Drains, and waits until no client is left; after deadline_us they are cut off. */
void http_front_close(struct http_front *front, uint64_t deadline_us);
/* After every thread has ended: another may have passed a client to this one until then. Any thread. */
void http_front_free(struct http_front *front);
/* Those that are left end now: called while http_front_close waits. */
void http_front_cut(struct http_front *front);

#endif
