/* scale.h - how many workers a queue needs: the autoscaler of one `workers` section.
 *
 * Pure: no clock, no input, no output; what it sees and the time are arguments. Called about once a second. It gives a number,
 * and says why; who starts, stops, pauses and sets by hand is the caller.
 *
 *     wish = (arrival rate x service time / 0.8 + backlog x service time / drain target) / slots
 *
 * rounded to a tenth, then up. That is Little's law for what comes, at four fifths of the capacity, and what is needed to be
 * rid of what waits. While fewer than 20 messages are known to be handled: (ready + in flight) / backlog per worker.
 *
 * What holds, whatever it is given:
 *  1. desired is between min and max.
 *  2. In SCALE_STEP_US it grows at most by the larger of 4 and what there was, and shrinks at most by the larger of 1 and a
 *     quarter; only a new min or max is obeyed at once.
 *  3. It shrinks only when the highest wish of the last `cooldown` was lower, to no less than that, so that growth is followed by
 *     shrinking once per cooldown at most.
 *  4. It shrinks by no more than there are workers without a message, and not below what holds the messages in flight.
 *  5. Within a tenth of what is there nothing changes.
 *  6. It does not grow while half of the recent starts crashed, or while the gauge is full.
 *
 * struct scale belongs to its caller, one thread at a time; it owns nothing. */
#ifndef WORKERS_SCALE_H
#define WORKERS_SCALE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The time in which it grows or shrinks by one step at most; also the time constant of its averages. */
#define SCALE_STEP_US (15u * UINT64_C(1000000))
/* So many messages make the service time known. */
#define SCALE_HANDLED_MIN 20u
#define SCALE_TEXT_MAX 200u

/* What a section of the file says. A reload may give another at any tick. */
struct scale_limits {
    unsigned min, max;           /* workers; max at least 1 and at least min */
    unsigned slots;              /* messages that one worker holds at a time; at least 1 */
    unsigned backlog_per_worker; /* at least 1 */
    uint64_t drain_target_us;    /* at least 1 */
    uint64_t cooldown_us;
};

/* What is seen at one moment. Totals count from any beginning, those of starts and crashes from scale_init; one that falls begins
 * anew. */
struct scale_sight {
    uint64_t now_us;
    uint64_t
        published; /* total: messages stored, and those that came back: every attempt that will have to be made */
    uint64_t handled;       /* total: attempts that ended at a worker, well or not */
    uint64_t busy_us;       /* total: how long those were at a worker, from delivery to verdict */
    uint64_t ready;         /* may be delivered now */
    uint64_t in_flight;     /* at workers that are not on their way out */
    uint64_t oldest_age_us; /* of what is ready; 0: nothing is */

    /* Workers, without those on their way out. */
    unsigned starting;    /* not ready for a message yet */
    unsigned idle;        /* ready, without a message */
    unsigned busy;        /* with a message */
    unsigned backing_off; /* crashed, to be started again */
    uint64_t starts;      /* total, with those after a crash */
    uint64_t crashes;     /* total: ended without having been asked to */

    bool gauge_full; /* somebody else, as a database, is full: more workers would not help */
};

enum scale_why {
    SCALE_ENOUGH, /* as many as there are needed */
    SCALE_BOUNDS, /* min or max asks for it */
    SCALE_GROW,   /* more are needed */
    SCALE_GROW_AGE, /* the oldest message is older than twice the drain target, and nobody is idle or starting */
    SCALE_SHRINK,   /* fewer do */
    SCALE_STEP,     /* more are needed; the last step was a moment ago */
    SCALE_COOLDOWN, /* fewer do, but not for the whole cooldown yet; or the last step was a moment ago */
    SCALE_BUSY,     /* fewer do, but there is none without a message */
    SCALE_AT_MAX,   /* more are needed than may be */
    SCALE_CRASHING, /* more are needed, but they crash */
    SCALE_GAUGE,    /* more are needed, but the gauge is full */
    SCALE_WHYS
};

struct scale_decision {
    unsigned from, desired;
    /* How many may be told to go now. Only such as have no message: backing off first, then idle (newest first), then starting;
     * none in their stead where there are fewer by now. */
    unsigned stop;
    enum scale_why why;
    bool say; /* it is news: desired changed, or what it is held by did */
    /* For people, with what it was reckoned from: `20/s x 0.10 s / 0.8 + 350 x 0.10 s / 10 s = 6.0 -> 6`. */
    char text[SCALE_TEXT_MAX];
};

/* The least and the greatest of what was added lately, in pieces of a 32nd of the time that is asked for. Private. */
#define SCALE_PIECES 36u
struct scale_window {
    struct {
        uint64_t from_us, until_us;
        uint64_t least, greatest;
    } pieces[SCALE_PIECES]; /* a ring */
    unsigned newest, n;
};

/* Private. */
struct scale {
    unsigned desired;
    bool seen;               /* `last` is there */
    struct scale_sight last; /* the totals of the tick before */
    double arrival;          /* per second, averaged */
    double handled, busy_s;  /* sums that fade as messages are handled: their quotient is the service time */
    uint64_t handled_n;      /* in all, up to SCALE_HANDLED_MIN */
    struct scale_window steps;           /* desired, for SCALE_STEP_US */
    struct scale_window wishes;          /* in tenths of a worker, for the cooldown */
    struct scale_window starts, crashes; /* the totals, for a minute */
    enum scale_why held;                 /* what was last said to hold it; SCALE_ENOUGH: nothing */
    uint64_t held_us;                    /* when it last did */
};

/* desired: how many there are, or shall be to begin with. */
void scale_init(struct scale *scale, unsigned desired, uint64_t now_us);

/* So many are there now by somebody else's will (set by hand, resumed after a pause): takes it from there, and shrinks only
 * after a cooldown. While the caller lets nothing be decided it goes on calling scale_watch, so that the averages stay true. */
void scale_set(struct scale *scale, unsigned desired, uint64_t now_us);
void scale_watch(struct scale *scale, const struct scale_sight *sight);
/* What comes from now on, and how long it takes, has nothing to do with what was: its totals are others. */
void scale_forget(struct scale *scale);

/* Looks, and decides. Includes scale_watch. */
void scale_tick(struct scale *scale, const struct scale_limits *limits, const struct scale_sight *sight,
                struct scale_decision *decision);

/* Attempts per second that come in; seconds that one takes, negative: not known yet. */
double scale_arrival_rate(const struct scale *scale);
double scale_service_time(const struct scale *scale);

/* A word for each, as in logs: `at-max`. */
const char *scale_why_name(enum scale_why why);

#endif
