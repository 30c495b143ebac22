/* scale_judge.h - what has to hold of each decision of the autoscaler, and how soon a backlog has to be gone.
 *
 * The ideal. At a moment when messages are ready the world is copied, and the copy goes on with the same messages under a
 * supervisor that wants as many workers as may be: it has max, as soon as the growth limit and the time that a start takes
 * permit. The time until all that were ready then are taken is the ideal, or the drain target where that is longer: the formula
 * asks for no more workers than that needs. What the autoscaler needs for the same messages is at most twice as much. Where
 * somebody keeps it from growing (the gauge, crashes, hands, a new configuration) nothing is measured, nor where half of those that it
 * started meanwhile crashed: the copy's may have had more luck. */
#ifndef SIM_SCALE_JUDGE_H
#define SIM_SCALE_JUDGE_H

#include "sim/scale_world.h"

#define PAST_MAX 512u

/* How many were asked for, and what else there was, at each tick. */
struct past {
    struct past_tick {
        uint64_t at_us;
        unsigned desired;
        unsigned holders; /* that the messages in flight need */
        uint64_t starts, crashes;
    } ticks[PAST_MAX]; /* a ring */
    unsigned n;
};

struct judge {
    struct past past;
    unsigned desired;
    bool grown;           /* since the last reload, because of messages; or set by hand */
    uint64_t grown_us;    /* when it last did */
    uint64_t reloaded_us; /* what a new cooldown holds for begins here */

    /* The backlog that is waited for. */
    bool waiting;
    uint64_t since_us;
    uint64_t mark;            /* the world's head when it is gone */
    uint64_t ideal_us;        /* 0: the twin waits for it, too */
    uint64_t starts, crashes; /* when the wait began */
    struct world twin;
    struct past twin_past;

    const char *worst; /* sim_most: of the drains, percent of the ideal */
};

/* worst: a literal. The judge is all zero, or was begun before; judge_end frees. */
void judge_begin(struct judge *judge, const struct world *world, const char *worst);
void judge_end(struct judge *judge);
/* A message was published in the world. */
void judge_publish(struct judge *judge);
/* A step passed. */
void judge_step(struct judge *judge, const struct world *world);
/* A decision, before it is carried out. */
void judge_decision(struct judge *judge, const struct world *world, const struct scale_sight *sight,
                    const struct scale_decision *decision);
/* Somebody else decides: so many. */
void judge_hand(struct judge *judge, const struct world *world, unsigned desired);
/* The world's limits are others. */
void judge_reload(struct judge *judge, const struct world *world);
/* What was waited for does not count: something else than the autoscaler has changed what is possible. */
void judge_forget(struct judge *judge);

#endif
