/* scale_private.h - what scale.c reckons and scale_text.c puts into words. */
#ifndef WORKERS_SCALE_PRIVATE_H
#define WORKERS_SCALE_PRIVATE_H

#include "workers/scale.h"

struct scale_range {
    uint64_t least, greatest;
};

/* One tick. Wishes are in tenths of a worker. */
struct scale_reckoning {
    const struct scale_limits *limits;
    const struct scale_sight *sight;
    double arrival, service_s; /* per second; negative: not known */
    double formula;            /* workers, as they are */
    uint64_t wish;             /* the same, and no less than what there is to do needs */
    uint64_t highest;          /* wish of the cooldown */
    struct scale_range steps;  /* desired, within SCALE_STEP_US */
    bool overdue;              /* the oldest age asks for one more */
    bool crashing;
    uint64_t starts, crashes; /* of the last minute */
};

/* Fills decision->text; the rest of it is there. */
void scale_describe(const struct scale_reckoning *r, struct scale_decision *decision);

#endif
