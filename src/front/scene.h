/* scene.h - what a thread serves by, as of one configuration: its pools, and a service for each listener.
 *
 * A reload makes a new generation: a scene for each thread, of which the thread takes leave of the last one. Whoever
 * serves a request holds the scene that it began with; the last to let go frees it, and the configuration with the
 * last scene. Requests touch their own thread's counts only.
 * Threads: the control thread makes generations and scenes; a scene belongs to its thread once that has entered it. */
#ifndef FRONT_SCENE_H
#define FRONT_SCENE_H

#include "balance/pool.h"
#include "base/list.h"
#include "queue/port.h"

/* One configuration in force, or still in use. */
struct generation {
    struct list list; /* the control thread's */
    uint64_t number;  /* from 1 */
    uint64_t loaded_us;
    const struct config *config; /* reference */
    _Atomic unsigned scenes;     /* that are not freed */
    _Atomic unsigned left;       /* requests that still use it after its time */
};

struct scene;

/* How a listener serves on one thread; the first member of what each kind has. */
struct service {
    struct scene *scene; /* that owns it */
    void (*free)(struct service *service);
};

struct scene {
    struct generation *generation;
    unsigned users; /* requests, and one while the thread has it */
    bool past;      /* the thread has another */
    struct pool_thread **pools;
    size_t n_pools;
    struct queue_port *port;   /* borrowed; NULL: there is no queue */
    struct service **services; /* by listener, in the order of server/ */
    size_t n_services;
};

/* With room for services, which are its owner's to fill in. Adopts pools. NULL: no memory. */
struct scene *scene_create(struct generation *generation, struct pool_thread **pools, size_t n_pools,
                           size_t n_services);
/* The thread never came to know it. */
void scene_abandon(struct scene *scene);

/* On its thread. */
void scene_enter(struct scene *scene);
void scene_leave(struct scene *scene);
static inline void scene_hold(struct scene *scene)
{
    scene->users++;
}
void scene_release(struct scene *scene);

#endif
