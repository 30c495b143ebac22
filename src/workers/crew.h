/* crew.h - the workers of one section of the file: how many there should be, and those that there are.
 *
 * Threads: the control thread's. */
#ifndef WORKERS_CREW_H
#define WORKERS_CREW_H

#include "workers/scale.h"
#include "workers/workers.h"

struct worker;

#define CREW_DECISIONS 100

struct crew_decision {
    uint64_t wall_us; /* 0: there is none */
    unsigned from, to;
    char why[16]; /* a word */
    char text[SCALE_TEXT_MAX];
    /* What it was decided by. */
    double arrival_rate, service_s; /* service_s negative: not known */
    uint64_t ready, in_flight;
    unsigned starting, idle, busy, backing_off;
    bool by_hand, gauge_full;
};

enum crew_hand { HAND_NONE, HAND_PAUSED, HAND_SET };

/* Of its queue, at one moment. */
struct crew_queue {
    uint64_t came; /* total: every attempt that has to be made */
    uint64_t gone; /* total: attempts that ended */
    uint64_t ready, in_flight;
    uint64_t oldest_us; /* wall time; 0: none is ready */
    bool paused;
};

struct crew {
    struct list list;
    struct workers *owner;
    char *name;                           /* owned */
    const struct config *config;          /* reference; what config_workers is of */
    const struct config_workers *section; /* of the configuration in force, or the last that had it */
    struct list workers;                  /* struct worker */
    uint64_t epoch;                       /* workers of an earlier one are replaced */
    bool leaving;                         /* its section has gone */
    enum crew_hand hand;
    unsigned hand_count;
    struct scale scale;
    unsigned desired;
    bool looked;
    struct crew_queue queue;                        /* as of the last look */
    enum scale_why why;                             /* of the last tick */
    char text[SCALE_TEXT_MAX];                      /* likewise */
    struct crew_decision decisions[CREW_DECISIONS]; /* a ring */
    unsigned newest;                                /* of them */
    uint64_t handled, busy_us;                      /* by processes that have ended */
    uint64_t starts, crashes, kills;
    double handled_rate; /* per second, averaged */
    uint64_t handled_then, ticked_us;
    /* Of a section without a command: */
    uint64_t guessed_us; /* in flight over time */
};

/* How many of its workers are what. */
struct crew_count {
    unsigned workers; /* all, those that stop among them */
    unsigned starting, idle, busy, stopping, backing_off;
    uint64_t in_flight, handled, busy_us;
    uint64_t in_flight_kept; /* of in_flight: at those that do not stop */
};

/* Looks at each worker. */
void crew_count(struct crew *crew, struct crew_count *count);

enum crew_state {
    CREW_RUNNING,
    CREW_GROWING,
    CREW_SHRINKING,
    CREW_CRASHING,
    CREW_HELD,
    CREW_PAUSED,
    CREW_IDLE,
};

#define CREW_REASON_MAX (SCALE_TEXT_MAX + 208)
/* reason: for people. */
enum crew_state crew_state(const struct crew *crew, const struct crew_count *count,
                           char reason[CREW_REASON_MAX]);
const char *crew_state_name(enum crew_state state);
/* The last decision; NULL: none yet. */
const struct crew_decision *crew_decision(const struct crew *crew, unsigned ago);

/* By hand: until crew_resume. */
void crew_pause(struct crew *crew);
void crew_set(struct crew *crew, unsigned count);
void crew_resume(struct crew *crew);
/* As it was in the process before this one, within what this one's file says. */
void crew_restore(struct crew *crew, enum crew_hand hand, unsigned count, unsigned desired);
/* Each is replaced by a new process, a few at a time. */
void crew_restart(struct crew *crew);

#endif
