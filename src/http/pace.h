/* pace.h - how long to wait for the other side: never longer than idle_us in one go, nor beyond end_us, and not when it
 * has been slower than min_rate for grace_us all in all.
 *
 * A leaky account: waiting puts the side in debt, bytes pay it off at min_rate. Over grace_us of debt it is cut. Paying
 * ahead counts for one idle_us, so that a fast start allows one pause and not a slow rest. Only time spent waiting counts, so
 * a slow server does not make its client look slow. */
#ifndef HTTP_PACE_H
#define HTTP_PACE_H

#include <stdint.h>

#include "base/clock.h"
#include "fiber/loop.h"

struct pace {
    uint64_t idle_us;  /* 0: any */
    uint64_t grace_us; /* 0: a second, the shortest time that a rate per second can be judged by */
    uint64_t min_rate; /* bytes per second; 0: any */
    uint64_t end_us;   /* absolute; 0: any */
    int64_t debt_us;
};

static inline void pace_start(struct pace *pace)
{
    pace->debt_us = 0;
}

/* Of the wait that begins now, but for end_us. */
static inline uint64_t pace_patience(const struct pace *pace)
{
    int64_t left;

    if (!pace->min_rate)
        return loop_deadline(pace->idle_us);
    left = (int64_t)(pace->grace_us ? pace->grace_us : US_PER_S) - pace->debt_us;
    if (left < 1)
        left = 1;
    return loop_deadline(pace->idle_us && pace->idle_us < (uint64_t)left ? pace->idle_us : (uint64_t)left);
}

/* The deadline of the wait that begins now. */
static inline uint64_t pace_deadline(const struct pace *pace)
{
    uint64_t deadline_us = pace_patience(pace);

    return pace->end_us && pace->end_us < deadline_us ? pace->end_us : deadline_us;
}

/* bytes moved after a wait that began at start_us. */
static inline void pace_moved(struct pace *pace, uint64_t start_us, uint64_t bytes)
{
    uint64_t paid_us;

    if (!pace->min_rate)
        return;
    paid_us = bytes > UINT64_MAX / US_PER_S ? INT64_MAX : bytes * US_PER_S / pace->min_rate;
    pace->debt_us += (int64_t)(loop_now_us() - start_us);
    if (paid_us >= (uint64_t)(pace->debt_us + (int64_t)pace->idle_us))
        pace->debt_us = -(int64_t)pace->idle_us;
    else
        pace->debt_us -= (int64_t)paid_us;
}

#endif
