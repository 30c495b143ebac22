/* tail.h - the requests that were answered lately, for whoever watches them go by.
 *
 * Each serving thread has a ring, which it alone writes and the control thread alone reads: nothing is locked, and nobody
 * waits. While nobody watches a request costs a look at one word. While somebody does a thread keeps TAIL_RATE requests a second, and
 * as many that failed (5xx): of more it takes every n-th. Each that is kept says for how many it stands.
 * Memory: 0.6 MiB a thread, from the first watch to the end.
 * Threads: as said at each. */
#ifndef FRONT_TAIL_H
#define FRONT_TAIL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/slice.h"

#define TAIL_RATE 1000 /* a second and thread */

/* What is told of a request in words; each is cut at a length of its own. */
enum tail_text {
    TAIL_LISTENER,
    TAIL_METHOD,
    TAIL_HOST,
    TAIL_PATH,
    TAIL_ROUTE, /* empty, as those below: none */
    TAIL_POOL,
    TAIL_SERVER,
    TAIL_QUEUE, /* or topic */
    TAIL_CLIENT,
    N_TAIL_TEXTS
};

struct tail_request {
    struct slice texts[N_TAIL_TEXTS]; /* borrowed */
    unsigned status;
    uint64_t duration_us, bytes; /* bytes: of the answer's body */
};

#define TAIL_TEXT_BYTES 576

struct tail_entry {
    uint64_t wall_us, duration_us, bytes; /* wall_us: when it was answered */
    uint64_t stands_for;                  /* requests of its thread since the one before, itself included */
    uint16_t status;
    uint8_t lengths[N_TAIL_TEXTS];
    char text[TAIL_TEXT_BYTES]; /* one after the other */
};

struct slice tail_text(const struct tail_entry *entry, enum tail_text which);

struct tail; /* private to tail.c */

/* NULL: no memory. */
struct tail *tail_create(unsigned n_threads);
/* No thread serves any more. Takes NULL. */
void tail_free(struct tail *tail);

/* The control thread: somebody watches until then (monotonic). 0 or -ENOMEM. */
int tail_watch(struct tail *tail, uint64_t until_us);
/* The control thread: takes the oldest that is there. False: there is none. */
bool tail_take(struct tail *tail, struct tail_entry *entry);

/* Any thread. */
bool tail_is_watched(const struct tail *tail, uint64_t now_us);
/* The serving thread of that number, for each request while it is watched: whether this one is to be put. */
bool tail_wants(struct tail *tail, unsigned thread, uint64_t now_us, unsigned status);
/* Likewise, for one that is wanted, and before the next is. */
void tail_put(struct tail *tail, unsigned thread, const struct tail_request *request);

#endif
