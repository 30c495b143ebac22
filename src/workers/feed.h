/* feed.h - how a kind of worker gets its messages: consumer, http, filter; a table of functions each.
 *
 * A worker (worker.h) is one of the places that a section has for them; each has a fiber, which runs its life: run() again and again,
 * with a back-off in between where it failed. All functions are called on the control thread, in that fiber unless it says
 * otherwise. A feed keeps what it has of a worker in worker->fed. */
#ifndef WORKERS_FEED_H
#define WORKERS_FEED_H

#include <stdbool.h>
#include <stdint.h>

struct environment;
struct worker;

/* Of a worker's life so far; totals never fall while it is fed. */
struct feed_sight {
    bool ready;   /* it can be given a message */
    bool stopped; /* stop() has come to all who might give it one */
    uint64_t in_flight;
    uint64_t handled; /* total: messages that ended, well or not */
    uint64_t busy_us; /* total: in_flight over time */
};

struct worker_feed {
    /* One life, from start to end: returns when it is over, having told worker_failed where it was not asked to end. Most are
     * worker_run_process, which uses the rest. */
    void (*run)(struct worker *worker);
    /* Makes what feeds it, before its process is started, and adds what that has to know. 0, or a negative errno: nothing is left
     * then. NULL: run is the feed's own. */
    int (*open)(struct worker *worker, struct environment *environment);
    /* Its process runs. NULL: nothing to do. */
    void (*started)(struct worker *worker);
    /* Does not wait; in any fiber. worker->fed is there. */
    void (*look)(const struct worker *worker, struct feed_sight *sight);
    /* It is given nothing more, and may finish what it has. Once; in any fiber. */
    void (*stop)(struct worker *worker);
    /* Its process has ended: what it had goes back. */
    void (*close)(struct worker *worker);
};

#endif
