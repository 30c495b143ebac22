/* scale_world.h - a queue, its workers and who starts and stops them, in time that is reckoned, not waited for.
 *
 * Messages arrive with their service time, so that a story handles the same ones however many workers there are. What chance
 * decides about workers has numbers of its own. */
#ifndef SIM_SCALE_WORLD_H
#define SIM_SCALE_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"
#include "workers/scale.h"

#define SECOND UINT64_C(1000000)
#define WORLD_STEP_US (SECOND / 20)
#define WORLD_WORKERS_MAX 64u
#define WORLD_SLOTS_MAX 8u
#define WORLD_MESSAGES_MAX (1u << 17)
#define WORLD_DELAYED_MAX 1024u

struct message {
    uint64_t stored_us;
    uint32_t service_us;
    uint8_t failures; /* so many times it fails before it is handled, or dead */
};

enum worker_state { WORKER_GONE, WORKER_STARTING, WORKER_READY, WORKER_BACKING_OFF };

struct worker {
    enum worker_state state;
    uint64_t until_us;   /* starting and backing off: the end of that */
    uint64_t backoff_us; /* the next one */
    uint64_t free_us;    /* serial: when it is done with what it has */
    bool crashes;        /* instead of getting ready */
    unsigned holds;
    struct {
        uint64_t from_us, until_us;
        struct message message;
    } slots[WORLD_SLOTS_MAX];
};

struct world {
    uint64_t now_us;
    struct scale_limits limits;

    /* What messages and workers are like at present; a story changes it. */
    uint64_t service_us;
    unsigned
        spread;  /* of the service time: 0 none, 1 half to one and a half, 2 mostly short, sometimes long */
    bool serial; /* a worker takes one of its messages after the other */
    unsigned poison;   /* of a thousand messages, fail several times */
    uint64_t retry_us; /* until one that failed is ready again */
    uint64_t start_us; /* a worker takes to be ready */
    unsigned crash;    /* of a hundred starts, fail */
    bool gauge_full;
    struct rng arrivals, chance;

    struct message *ready; /* a ring */
    uint64_t head, tail;
    struct {
        uint64_t at_us;
        struct message message;
    } delayed[WORLD_DELAYED_MAX];
    unsigned delayed_n;
    struct worker workers[WORLD_WORKERS_MAX];
    unsigned used; /* of them, up to the last that is not gone */
    unsigned turn; /* whose is the next message */

    uint64_t published, handled, busy_us, starts, crashes;
};

/* The world of a seed, with min workers that start. A world that is all zero, or was begun before; world_end frees. */
void world_begin(struct world *world, uint64_t seed);
void world_end(struct world *world);
/* The same once more, for another to go on with; to: as for world_begin. */
void world_copy(struct world *to, const struct world *from);
/* One more message, like the world's are. */
void world_publish(struct world *world);
/* WORLD_STEP_US passes: workers get ready, crash, take and finish messages. */
void world_step(struct world *world);
struct scale_sight world_sight(const struct world *world);
/* Attempts per second that a worker can make, on average. */
double world_capacity(const struct world *world);
/* So many start, or so many go: backing off, idle and starting ones; a failure when there are not that many. */
void world_start(struct world *world, unsigned n);
void world_stop(struct world *world, unsigned n);
unsigned world_workers(const struct world *world);
/* All that was stored is handled. */
bool world_is_quiet(const struct world *world);

#endif
