/* push.h - delivers a queue's messages to a pool, over HTTP: a fiber for each that is on its way.
 *
 * 2xx acknowledges. 429, and 503 with Retry-After, are heeded: the message comes back when it says, nothing else is
 * delivered meanwhile, and the attempt does not count. Where no server is usable the push rests, and no attempt counts
 * either. Answers of `dead-on` kill a message at once. All else is an attempt that failed.
 * Threads: a push belongs to its thread; which one is server/'s matter. */
#ifndef FRONT_PUSH_H
#define FRONT_PUSH_H

#include "front/scene.h"
#include "queue/port.h"

/* Where a push delivers to, and how. It stays until the push has ended or entered another, and what is on its way has arrived. */
struct push_aim {
    struct scene *scene; /* held by what is on its way; NULL: whoever made the push keeps the rest */
    struct pool_thread *pool;
    const struct config_push *config;
};

struct push {
    struct list list; /* the owner's */
    struct queue_port *port;
    char *name; /* of the queue; owned */
    struct push_aim aim;
    struct queue_consumer *consumer; /* NULL: not yet, or not any more */
    struct fiber *fiber;
    unsigned on_their_way;
    uint64_t handled;             /* total: attempts that ended, well or not */
    unsigned timeouts;            /* requests in a row that were sent and not answered in time */
    uint64_t busy_us, changed_us; /* on_their_way over time, until it changed last */
    struct list deliveries;       /* under way */
    bool stopping;
    bool forgives; /* its servers are ended by us: a request that they break off was no attempt */
    void (*ended)(struct push *push); /* the owner's: it has been taken out of nothing, and is to be freed */
    void *owner;
};

/* What the scene's configuration says of the queue. */
struct push_aim push_aim_of(struct scene *scene, const struct config_queue *queue);
/* Begins to deliver the queue's messages. NULL: no memory. */
struct push *push_create(struct queue_port *port, const char *queue, const struct push_aim *aim);
/* Delivers elsewhere from now on; deliveries that have begun keep what they began with. */
void push_enter(struct push *push, const struct push_aim *aim);
/* Messages on their way over time, until now. */
uint64_t push_busy_us(const struct push *push);
/* Takes no more messages; ended is called, in a fiber or not, when the last one on its way is done. */
void push_stop(struct push *push);
/* Those on their way are broken off, and come back. */
void push_hurry(struct push *push);
void push_free(struct push *push);

#endif
