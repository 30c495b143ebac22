/* workers.h - every section of workers, and the gauges: started, watched, scaled and ended by one fiber.
 *
 * Once a second it asks the queue thread how the queues are, and lets each crew decide. Nothing is adopted: what another maitred
 * started is not known here.
 * Threads: the control thread's, on its loop. Errors: 0 or a negative errno. */
#ifndef WORKERS_WORKERS_H
#define WORKERS_WORKERS_H

#include "base/rng.h"
#include "config/config.h"
#include "fiber/loop.h"
#include "queue/port.h"
#include "workers/feed.h"
#include "workers/gauge.h"

struct crew;
struct keeper;

struct workers {
    struct list crews;                /* those of the file in its order, then those that leave */
    struct list gauges;               /* in the order of the file */
    struct queue_port *port;          /* the control thread's; without a thread there is no queue */
    struct mailbox *const *mailboxes; /* of the serving threads */
    unsigned n_threads;
    const struct config *config; /* reference; in force; NULL: none yet */
    struct keeper *keeper;
    struct fiber *fiber;
    struct rng rng;
    unsigned n_passes; /* logins that threads have not let go of yet */
    bool serving;      /* processes may be started */
    bool draining, hurry;
    uint64_t deadline_us, kill_us; /* of the drain */
    void (*gone)(void *arg);       /* the fiber has ended */
    void *arg;
};

struct workers_options {
    struct queue_port *port;
    struct mailbox *const *mailboxes;
    unsigned n_threads;
    void (*gone)(void *arg);
    void *arg;
};

/* NULL: no memory. */
struct workers *workers_create(const struct workers_options *options);
/* From now on processes are started. */
void workers_serve(struct workers *workers);

struct workers_change;
/* What can fail of taking up config. NULL: no memory. */
struct workers_change *workers_prepare(struct workers *workers, const struct config *config);
void workers_commit(struct workers_change *change);
void workers_abandon(struct workers_change *change);

/* All are stopped: SIGTERM by deadline_us at the latest, SIGKILL by kill_us. Once more: killed at once. */
void workers_drain(struct workers *workers, uint64_t deadline_us, uint64_t kill_us);
/* No process, and no fiber here is left. */
bool workers_are_gone(const struct workers *workers);
void workers_free(struct workers *workers);

struct crew *workers_find(const struct workers *workers, struct slice name);
struct gauge *workers_find_gauge(const struct workers *workers, struct slice name);
void workers_tell_gauge(struct gauge *gauge, double value);
/* What a process before this one was told, so long ago. */
void workers_restore_gauge(struct gauge *gauge, double value, uint64_t age_us);

/* ---- for this room ---- */

/* Something has changed: a worker has ended, another is wanted. */
void workers_wake(struct workers *workers);
/* The way of each kind. */
extern const struct worker_feed consumer_feed, service_feed, filter_feed;
const struct worker_feed *worker_feed_of(enum worker_kind kind);

#endif
