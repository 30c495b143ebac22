/* bottleneck.h - which part of the system holds the others up, and what would help: from the figures of the last seconds.
 *
 * Every BOTTLENECK_TICK_US it is told of each pool, queue and gauge. Invariants:
 *   1. What is found stands once it was found at every tick of BOTTLENECK_HOLD_US, and until it was not found for
 *      BOTTLENECK_END_US. Until then nothing is said of it, so that nothing flaps.
 *   2. Of what stands the deepest layer is told: it explains those before it. In one layer what was told stays, then what has
 *      stood the longest.
 *   3. A queue that is pushed to a pool of which something is told is explained by that pool.
 * Memory: 400 bytes a thing and 3 KiB for each that is found, BOTTLENECK_THINGS_MAX things at most; others are not looked at.
 * Pure: time is an argument, monotonic and in microseconds. One thread at a time. */
#ifndef ADMIN_BOTTLENECK_H
#define ADMIN_BOTTLENECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash_table.h"
#include "base/slice.h"

#define BOTTLENECK_TICK_US (2 * UINT64_C(1000000))
#define BOTTLENECK_HOLD_US (4 * UINT64_C(1000000))
#define BOTTLENECK_END_US (10 * UINT64_C(1000000))
#define BOTTLENECK_THINGS_MAX 2000

/* The deepest last. */
enum bottleneck_layer {
    BOTTLENECK_NONE,
    BOTTLENECK_SERVERS,  /* all servers of a pool */
    BOTTLENECK_SERVER,   /* one server among healthy ones */
    BOTTLENECK_QUEUE,    /* whoever takes from a queue */
    BOTTLENECK_WORKERS,  /* the workers that we start for a queue */
    BOTTLENECK_DATABASE, /* what a gauge measures */
    N_BOTTLENECK_LAYERS
};

extern const char *const bottleneck_layer_names[N_BOTTLENECK_LAYERS];

#define BOTTLENECK_LINES 5
#define BOTTLENECK_LINE_MAX 160
#define BOTTLENECK_NAME_MAX 512

struct bottleneck_lines {
    char at[BOTTLENECK_LINES][BOTTLENECK_LINE_MAX];
    size_t n;
};

struct bottleneck_finding {
    enum bottleneck_layer layer;
    char name[BOTTLENECK_NAME_MAX]; /* of the pool, server, queue, workers or gauge */
    char pool[BOTTLENECK_NAME_MAX]; /* of a server, or that a queue is pushed to; else "" */
    char text[2 * BOTTLENECK_LINE_MAX];
    struct bottleneck_lines figures, relief;
    double ended_s; /* how long ago it was found last, while it stands all the same; 0: at the last tick */
};

/* ---- what it is told --------------------------------------------------------------------------------------- */

/* Rates and percentiles are those of the last 10 seconds; NAN: nothing was measured. Texts are borrowed for the call. */
struct bottleneck_server {
    struct slice name;
    bool usable, down, ejected; /* none of them: it is not meant to serve */
    const char *reason;
    double rate, error_rate, p95_us;
    unsigned active, max_connections; /* 0: no limit */
    uint64_t ejections;               /* total */
};

struct bottleneck_pool {
    const char *name;
    bool used; /* something in the file sends requests there */
    unsigned in_line;
    uint64_t refused; /* total: the line was full, or took too long */
    double rate, p95_us;
    const struct bottleneck_server *servers;
    size_t n_servers;
};

struct bottleneck_workers {
    const char *name;
    unsigned running, max;
    const char *held;   /* what they do instead of growing: "crash"; NULL: nothing holds them */
    const char *reason; /* where something does */
};

struct bottleneck_queue {
    const char *name, *push;                  /* push: the pool's name; NULL: it is not pushed */
    const struct bottleneck_workers *workers; /* NULL: we start none */
    bool is_store;                            /* nobody takes from it: dead letters, or what is to expire */
    bool paused;
    uint64_t waiting, in_flight; /* waiting: without those whose time has not come */
    double oldest_age_s;         /* NAN: nothing waits */
    double published, acked;
    uint64_t refused, dropped; /* totals: at its limit */
    unsigned consumers, resting;
};

struct bottleneck_gauge {
    const char *name, *unit; /* unit: "" for none */
    double value, full;      /* value NAN: not known */
    const char *workers;     /* that do not grow while it is full; NULL: none */
    uint64_t backlog;        /* of theirs */
};

/* ---- it ---------------------------------------------------------------------------------------------------- */

struct bottleneck_thing; /* bottleneck_private.h */

/* Zeros: nothing was told yet. */
struct bottleneck {
    struct bottleneck_thing **things; /* owned; in the order they came */
    size_t n, room;
    struct hash_table by_name;
    uint64_t now_us;                      /* of the last tick */
    const struct bottleneck_thing *shown; /* NULL: none */
};

void bottleneck_free(struct bottleneck *bottleneck);

bool bottleneck_is_due(const struct bottleneck *bottleneck, uint64_t now_us);
/* A tick: begins, adds each thing, once, and ends. What is not added any more is forgotten. */
void bottleneck_begin(struct bottleneck *bottleneck, uint64_t now_us);
void bottleneck_add_pool(struct bottleneck *bottleneck, const struct bottleneck_pool *pool);
void bottleneck_add_queue(struct bottleneck *bottleneck, const struct bottleneck_queue *queue);
void bottleneck_add_gauge(struct bottleneck *bottleneck, const struct bottleneck_gauge *gauge);
void bottleneck_end(struct bottleneck *bottleneck);

/* What is to be told; NULL: nothing. Good until the next tick. */
const struct bottleneck_finding *bottleneck_shown(const struct bottleneck *bottleneck);
/* The at-th of the others that stand, whatever explains them; NULL: there are no more. */
const struct bottleneck_finding *bottleneck_other(const struct bottleneck *bottleneck, size_t at);

#endif
