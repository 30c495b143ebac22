/* pace.h - how long to wait for the other side: never longer than idle_us in one go, and after grace_us of waiting
 * all in all, only as long as at least min_rate bytes a second have moved.
 *
 * Only time spent waiting counts, so that a slow server does not make its client look slow. */
#ifndef HTTP_PACE_H
#define HTTP_PACE_H

#include <stdint.h>

#include "base/clock.h"
#include "fiber/loop.h"

struct pace {
    uint64_t idle_us; /* 0: any */
    uint64_t grace_us;
    uint64_t min_rate; /* bytes per second; 0: any */
    uint64_t waited_us, bytes;
};

static inline void pace_start(struct pace *pace)
{
    pace->waited_us = pace->bytes = 0;
}

/* The deadline of the wait that begins now. */
static inline uint64_t pace_deadline(const struct pace *pace)
{
    uint64_t left;

    if (!pace->min_rate)
        return loop_deadline(pace->idle_us);
    left = (uint64_t)((unsigned __int128)pace->bytes * US_PER_S / pace->min_rate);
    if (left < pace->grace_us)
        left = pace->grace_us;
    left = left > pace->waited_us ? left - pace->waited_us : 1;
    return loop_deadline(pace->idle_us && pace->idle_us < left ? pace->idle_us : left);
}

/* bytes moved after a wait that began at start_us. */
static inline void pace_moved(struct pace *pace, uint64_t start_us, uint64_t bytes)
{
    pace->waited_us += loop_now_us() - start_us;
    pace->bytes += bytes;
}

#endif
