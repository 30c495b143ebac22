/* http.h - the HTTP kind of listener: reads requests and serves each by its route, or as it was told.
 *
 * Threads: struct http_shared is made by the control thread and shared, read only, by its services; a service belongs
 * to its thread's scene. */
#ifndef FRONT_HTTP_H
#define FRONT_HTTP_H

#include "balance/router.h"
#include "front/access_log.h"
#include "front/listener.h"
#include "front/tail.h"

extern const struct listener_kind http_listener_kind;

/* How a route's requests were answered, on one thread. Requests that found no route count at one that has no name. */
struct route_counters {
    alignas(CACHE_LINE) struct counter statuses[5]; /* 1xx to 5xx */
    struct histogram latency;                       /* from the head's last byte to the answer's */
};

/* A route's counters live as long as the listener has a route of that name. */
struct route_stats {
    _Atomic unsigned references;
    unsigned n_threads;
    char *name; /* owned */
    struct route_counters *threads;
};

/* What the threads share of an HTTP listener in one generation. */
struct http_shared {
    _Atomic unsigned references;
    const struct config_http
        *config; /* of the generation, which its scenes hold; NULL: it serves by itself */
    struct http_limits limits;
    struct router *router;  /* owned */
    struct access_log *log; /* borrowed; NULL: off */
    struct tail *tail;      /* borrowed; NULL: it serves by itself */
    size_t n_routes;
    bool stores;                /* a route stores requests: their status is told here */
    struct route_stats **stats; /* references; by route, and one more for requests without */
    /* In place of routes. NULL: by routes. */
    void (*serve)(struct exchange *x, void *owner);
    void *owner;
};

/* Routes that before (NULL: none) had by the same name keep their counters. NULL: no memory. */
struct http_shared *http_shared_create(const struct config_http *config, const struct http_shared *before,
                                       struct access_log *log, struct tail *tail, unsigned n_threads);
/* A listener that has no routes, but answers by serve. */
struct http_shared *http_shared_serving(void (*serve)(struct exchange *x, void *owner), void *owner);
struct http_shared *http_shared_ref(struct http_shared *shared);
void http_shared_unref(struct http_shared *shared);

/* Takes a reference on shared. NULL: no memory. */
struct service *http_service_create(struct http_shared *shared, struct scene *scene, unsigned thread);

#endif
