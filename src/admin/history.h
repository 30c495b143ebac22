/* history.h - the last 15 minutes of everything that has a name: a sample of each thing every 10 seconds.
 *
 * A thing is known by its kind and name, so that it goes on over reloads. Steps without a sample are gaps; what has had none
 * for 15 minutes is forgotten. Memory: 1.5 KiB a thing, HISTORY_THINGS_MAX things at most; more are not kept.
 * Pure: time is an argument, monotonic and in microseconds. One thread at a time; who reads across waits says so. */
#ifndef ADMIN_HISTORY_H
#define ADMIN_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_STEP_S 10
#define HISTORY_SAMPLES 90
#define HISTORY_LANES 4 /* figures of a thing, at most */
#define HISTORY_THINGS_MAX 2000

enum history_kind {
    HISTORY_LISTENER,
    HISTORY_POOL,
    HISTORY_QUEUE,
    HISTORY_WORKERS,
    HISTORY_GAUGE,
    N_HISTORY_KINDS
};

struct history_format {
    const char *word;                 /* "listener" */
    const char *lanes[HISTORY_LANES]; /* what its figures are called; NULL: no more */
};

extern const struct history_format history_formats[N_HISTORY_KINDS];

struct history_thing {
    enum history_kind kind;
    char *name;    /* owned */
    uint64_t step; /* of its last sample */
    float lanes[HISTORY_LANES][HISTORY_SAMPLES];
};

/* Zeros: nothing was sampled yet. */
struct history {
    struct history_thing **things; /* owned; in the order they came */
    size_t n, room;
    size_t hint;      /* where the next thing is likely to stand: they come in the same order each time */
    uint64_t step;    /* of the last sample; 0: none */
    unsigned readers; /* nothing is forgotten while there are some */
};

void history_free(struct history *history);

/* Whether the next sample is to be taken. */
bool history_is_due(const struct history *history, uint64_t now_us);
/* A sample: begins, adds each thing, once, and ends. NAN: a figure that nobody knows. */
void history_begin(struct history *history, uint64_t now_us);
void history_add(struct history *history, enum history_kind kind, const char *name,
                 const double figures[HISTORY_LANES]);
void history_end(struct history *history);

/* A figure of a thing at a step. NAN: a gap, or too long ago. */
double history_figure(const struct history_thing *thing, size_t lane, uint64_t step);

#endif
