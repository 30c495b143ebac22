/* relay.h - bytes both ways between two streams, until both have ended: what a tunnel is.
 *
 * Each way is a fiber's; relay_run lends its own to one of them. An end is passed on as an end, and the other way
 * lives on. A failure ends both ways; whoever did not get all that was meant for it gets a reset instead of an end.
 * A way that is idle holds no memory but its fiber. One that a slow reader holds up holds one block or one pipe.
 * Bytes are passed on as they come, but for a stream that has flowed for megabytes with no word from the other side:
 * its bytes may wait for more for a few milliseconds.
 * Threads: the streams'. */
#ifndef FIBER_RELAY_H
#define FIBER_RELAY_H

#include "base/counter.h"
#include "base/slice.h"
#include "fiber/stream.h"

struct relay;

struct relay_way {
    struct stream *from, *to;     /* borrowed */
    struct slice pending;         /* what was read of from already: goes first. Borrowed until released */
    void (*release)(void *owner); /* called once: pending was written, or never will be. NULL: nothing */
    void *owner;
    uint64_t bytes;              /* written so far; may be looked at meanwhile */
    struct counter *counters[2]; /* that count them, too, as they go; borrowed; NULL: none */

    /* Private to relay.c. */
    struct relay *relay;
    struct fiber *fiber;
    bool ended;           /* and the end was passed on */
    bool cut;             /* bytes that were read could not be written */
    bool bulk;            /* so many that the kernel moves the pages */
    unsigned small_moves; /* in a row, that were not worth that */
    size_t low_water;     /* of from: that many bytes wake us */
    uint64_t run;         /* bytes since the other way last moved, or since waiting for more did not pay */
    uint64_t run_min;     /* what run must be for waiting to be tried */
    uint64_t other_bytes; /* of the other way, when run began */
};

struct relay {
    struct relay_way up, down;
    /* After relay_run: the stream whose error ended it, or NULL. */
    const struct stream *broken;

    /* Private to relay.c. */
    uint64_t idle_us, last_us; /* when anything moved, either way */
    int why;
};

/* up: from client to server; down: the other way. The caller may then say what is pending. */
void relay_init(struct relay *relay, struct stream *client, struct stream *server);

/* Returns when both sides have ended: 0; nothing moved either way for idle_us (0: no limit): -ETIMEDOUT; a side broke:
 * its error; the calling fiber was cancelled: -ECANCELED; -ENOMEM. The caller then closes both streams. Takes their
 * on_input away. */
int relay_run(struct relay *relay, uint64_t idle_us);

#endif
