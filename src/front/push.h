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

struct push {
    struct list list; /* the owner's */
    struct queue_port *port;
    char *name;                       /* of the queue; owned */
    struct scene *scene;              /* by which it delivers; its owner holds it */
    const struct config_queue *queue; /* the scene's */
    struct queue_consumer *consumer;  /* NULL: not yet, or not any more */
    struct fiber *fiber;
    unsigned on_their_way;
    struct list deliveries; /* under way */
    bool stopping;
    void (*ended)(struct push *push); /* the owner's: it has been taken out of nothing, and is to be freed */
    void *owner;
};

/* Begins to deliver, by scene. NULL: no memory. */
struct push *push_create(struct queue_port *port, struct scene *scene, const struct config_queue *queue);
/* Delivers by another scene from now on; deliveries that have begun keep theirs. */
void push_enter(struct push *push, struct scene *scene, const struct config_queue *queue);
/* Takes no more messages; ended is called, in a fiber or not, when the last one on its way is done. */
void push_stop(struct push *push);
/* Those on their way are broken off, and come back. */
void push_hurry(struct push *push);
void push_free(struct push *push);

#endif
