/* queue_look.h - every queue and the log at one moment, as the queue thread knows them, and how fast things go.
 *
 * A look is a job of the queue thread's. Rates are between a look and one that is 5 to 10 seconds older, which the
 * sampler keeps; memory: some 300 bytes a queue and look, three looks at most.
 * Threads: the control thread's. Errors: 0 or a negative errno. */
#ifndef ADMIN_QUEUE_LOOK_H
#define ADMIN_QUEUE_LOOK_H

#include "queue/thread.h"

struct queue_seen {
    uint32_t id;
    char *name; /* owned; in a virtual host other than "/" it is VHOST/NAME */
    uint64_t max_length, max_bytes, max_age_us;
    enum queue_limit_rule overflow;
    bool managed; /* the configuration's, or it was */
    struct broker_queue_numbers numbers;
};

struct exchange_seen {
    uint32_t id;
    uint64_t published;
};

struct queue_look {
    struct queue_job job;
    char *only;                /* owned; NULL: all queues, else that one */
    uint64_t now_us;           /* monotonic, of the queue thread */
    struct queue_seen *queues; /* in the order they were declared, which is that of their ids; owned */
    size_t n, room;
    struct exchange_seen *exchanges; /* likewise, where all queues are looked at */
    size_t n_exchanges, exchanges_room;
    bool no_memory;
};

/* Waits by fiber, for some seconds at most. only: NULL, or the one queue that is looked at. -ENODEV: there is no queue thread, or
 * it could not open its log; -ETIMEDOUT: it does not answer; -ENOMEM, -ECANCELED. The look is the caller's: queue_look_free,
 * which takes NULL. */
int queue_look(struct queue_port *port, const char *only, struct queue_look **look);
void queue_look_free(struct queue_look *look);

/* The log, as its thread counts. */
struct log_seen {
    char *folder;                /* owned; NULL: there is no queue, or no memory */
    char failure[QUEUE_WHY_MAX]; /* ""; or why nothing can be published any more */
    uint64_t confirmed, bytes, segments, syncs, appended_bytes, checkpoints;
    struct histogram_sum commits;
};

/* Does not wait. Its folder is to be freed. */
void log_see(const struct queue_port *port, struct log_seen *log);
/* Why the log takes nothing any more; NULL: it does, or there is none. A text of the queue thread's, good until the next wait. */
const char *log_failure_seen(const struct queue_port *port);

/* Per second. All zeros: there was no older look. A queue that is younger than that began at nothing then. */
struct queue_rates {
    double published, delivered, redelivered, acked, dead;
};

/* Zeros: nothing was seen yet. */
struct queue_history {
    struct queue_look *older, *newer; /* owned */
};

/* Whether a look would be kept. */
bool queue_history_wants(const struct queue_history *history, uint64_t now_us);
/* Adopts look. */
void queue_history_add(struct queue_history *history, struct queue_look *look);
void queue_history_forget(struct queue_history *history);
/* A queue's numbers of 5 to 10 seconds ago. False: there was no look. */
bool queue_history_then(const struct queue_history *history, uint32_t id, uint64_t now_us,
                        struct broker_queue_numbers *then, double *seconds);
/* What was published to an exchange, a second. */
double queue_history_exchange_rate(const struct queue_history *history, uint32_t id, uint64_t published,
                                   uint64_t now_us);
struct queue_rates queue_history_rates(const struct queue_history *history, const struct queue_seen *queue,
                                       uint64_t now_us);
/* Seconds until what is ready or blocked has gone at these rates. 0: nothing waits; NAN: it does not get less. */
double queue_drains_in(const struct broker_queue_numbers *numbers, const struct queue_rates *rates);
/* How many left a queue without being acknowledged, purged or moved. */
uint64_t queue_seen_dead(const struct queue_seen *queue);

#endif
