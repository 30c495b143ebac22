/* sample.h - the series of everything that is counted, each known by the address of who counts.
 *
 * An address is only compared, never followed, so nothing is kept alive; what a round does not add any more is forgotten
 * with it, after a second. One of another thing that came to the same address is told by its smaller totals. While
 * nobody wants to know, there are no rounds, and what was counted meanwhile is in no window later.
 * Memory: a series per server and route. Threads: belongs to its thread. */
#ifndef ADMIN_SAMPLE_H
#define ADMIN_SAMPLE_H

#include <stdbool.h>
#include <stddef.h>

#include "admin/series.h"

struct sample_slot {
    const void *key;       /* NULL: free */
    struct series *series; /* owned */
    unsigned round;        /* in which it was added last */
};

struct sample {
    struct sample_slot *slots; /* owned; open addressing */
    size_t n, n_slots;         /* a power of two, or 0 */
    unsigned round;
    bool blind;                   /* no round since sample_forget: what is there may have counted for long */
    uint64_t round_us, before_us; /* when this round began, and the one before */
    struct series fresh;          /* of a thing that came since */
};

/* Whatever is added began at nothing after now_us. */
void sample_init(struct sample *sample, uint64_t now_us);
/* Until the next round nothing has a rate. */
void sample_forget(struct sample *sample);
void sample_free(struct sample *sample);

/* A round: begins, adds each thing, ends. Without memory a thing has no series, and shows no rate. */
void sample_begin_round(struct sample *sample, uint64_t now_us);
void sample_add(struct sample *sample, const void *key, const struct series_totals *totals, uint64_t now_us);
void sample_end_round(struct sample *sample);

/* As series_add_window; a thing that came since the last round began at nothing then. */
void sample_add_window(const struct sample *sample, const void *key, const struct series_totals *totals,
                       uint64_t now_us, struct series_window *window);

#endif
