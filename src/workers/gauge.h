/* gauge.h - a number that somebody else measures and tells; it is believed for a while. Belongs to one thread; pure. */
#ifndef WORKERS_GAUGE_H
#define WORKERS_GAUGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "config/config.h"

struct gauge {
    struct list list;
    char *name;                        /* owned */
    const struct config_gauge *config; /* of the configuration in force */
    bool told;                         /* ever */
    double value;
    uint64_t told_us; /* monotonic */
    bool was_full;    /* as it was last said */
};

enum gauge_state { GAUGE_OK, GAUGE_FULL, GAUGE_UNKNOWN };

/* Unknown: nothing was told, or too long ago. */
enum gauge_state gauge_state(const struct gauge *gauge, uint64_t now_us);
/* "ok" */
const char *gauge_state_name(enum gauge_state state);
#define GAUGE_TEXT_MAX 200
/* "17 of 20 connections", "nothing was told for 42 s, and a value is believed for 30 s". */
void gauge_reason(const struct gauge *gauge, uint64_t now_us, char text[GAUGE_TEXT_MAX]);

#endif
