/* bottleneck_private.h - what the files of bottleneck.h share: a thing, the last seconds of its figures, and how it is judged. */
#ifndef ADMIN_BOTTLENECK_PRIVATE_H
#define ADMIN_BOTTLENECK_PRIVATE_H

#include "admin/bottleneck.h"

#define TREND_LANES 3
#define TREND_SAMPLES 7 /* 12 seconds: twice 3 ticks, and where they began */
#define TREND_HALF (TREND_SAMPLES / 2)

/* Figures of the last ticks. */
struct trend {
    uint64_t at_us[TREND_SAMPLES]; /* rings */
    double lanes[TREND_LANES][TREND_SAMPLES];
    unsigned newest, n;
};

void trend_add(struct trend *trend, uint64_t now_us, const double figures[TREND_LANES]);
/* ago ticks before now. There are as many. */
double trend_figure(const struct trend *trend, unsigned lane, unsigned ago);
/* In how many of the last ticks it was more than the tick before, of all that are kept. */
unsigned trend_rises(const struct trend *trend, unsigned lane);
/* How much more it is than at the oldest that is kept, and how many seconds ago that was. */
double trend_rise(const struct trend *trend, unsigned lane);
double trend_seconds(const struct trend *trend);

enum thing_kind { THING_POOL, THING_SERVER, THING_QUEUE, THING_GAUGE };

struct bottleneck_thing {
    struct hash_item by_name;
    enum thing_kind kind;
    char *name, *pool; /* owned; pool: of a server, else NULL */
    uint64_t seen_us;  /* it was added last */
    struct trend trend;
    double least_us
        [2]; /* a pool's p95: its least since turn_us, and in the half hour before; NAN: not measured */
    uint64_t turn_us;
    bool is_known;                      /* a server's total is there */
    uint64_t ejections, ejected_us;     /* total, and when that was last seen to grow; 0: never */
    struct bottleneck_finding *finding; /* owned; NULL: nothing was found lately */
    uint64_t since_us, found_us;        /* it was found at each tick from since_us to found_us */
    bool stands;
};

/* Each: whether it is one, and then what to say, in an empty finding. */
bool bottleneck_judge_pool(const struct bottleneck_thing *thing, const struct bottleneck_pool *pool,
                           struct bottleneck_finding *finding);
bool bottleneck_judge_server(const struct bottleneck_thing *thing, const struct bottleneck_pool *pool,
                             const struct bottleneck_server *server, uint64_t now_us,
                             struct bottleneck_finding *finding);
bool bottleneck_judge_queue(const struct bottleneck_thing *thing, const struct bottleneck_queue *queue,
                            struct bottleneck_finding *finding);
bool bottleneck_judge_gauge(const struct bottleneck_gauge *gauge, struct bottleneck_finding *finding);

/* The lanes of a pool's and a queue's trend. */
enum { LANE_IN_LINE, LANE_IN_FLIGHT, LANE_REFUSED };
enum { LANE_BACKLOG, LANE_TURNED_AWAY };

/* Adds a line, cut where it is too long; more than BOTTLENECK_LINES are left out. */
void bottleneck_say(struct bottleneck_lines *lines, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
