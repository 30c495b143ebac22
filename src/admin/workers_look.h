/* workers_look.h - all workers and gauges at one moment, for whoever writes for longer than that.
 *
 * Threads: the control thread's. Nothing here waits. */
#ifndef ADMIN_WORKERS_LOOK_H
#define ADMIN_WORKERS_LOOK_H

#include "admin/system.h"
#include "workers/crew.h"
#include "workers/worker.h"

struct worker_seen {
    unsigned number;
    int pid; /* 0: there is none */
    enum worker_phase phase;
    uint64_t since_us; /* wall time */
    uint64_t in_flight, handled;
    unsigned restarts, port;
    char reason[WORKER_REASON_MAX];
};

struct crew_seen {
    const struct config *config; /* reference; what section is of */
    const struct config_workers *section;
    struct crew_count count;
    enum crew_state state;
    char reason[CREW_REASON_MAX];
    unsigned desired;
    bool leaving;
    enum crew_hand hand;
    double service_s; /* negative: not known */
    double arrival_rate, handled_rate;
    uint64_t starts, crashes, kills;
    struct crew_decision decision; /* wall_us 0: none yet */
    struct worker_seen *workers;   /* by number; owned */
    size_t n;
};

struct gauge_seen {
    const struct config_gauge *config;
    enum gauge_state state;
    char reason[GAUGE_TEXT_MAX];
    double value, age; /* seconds; NAN: none, or not any more */
};

struct workers_look {
    const struct config *config; /* reference; what the gauges are of */
    struct crew_seen *crews;     /* those of the file in its order, then those that leave */
    size_t n;
    struct gauge_seen *gauges;
    size_t n_gauges;
};

/* NULL: no memory. workers_look_free takes NULL. */
struct workers_look *workers_look(const struct system *system);
void workers_look_free(struct workers_look *look);

#endif
