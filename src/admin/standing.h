/* standing.h - how servers, pools and the whole do, in words.
 *
 * Reads what the control thread keeps, without a wait. Threads: the control thread's. */
#ifndef ADMIN_STANDING_H
#define ADMIN_STANDING_H

#include "admin/system.h"

#define STANDING_TEXT_MAX 192

enum standing {
    STANDING_UP,
    STANDING_STARTING, /* slow start */
    STANDING_DOWN,
    STANDING_DRAINING,
    STANDING_EJECTED,
    STANDING_LEAVING, /* no longer in the file */
};

enum standing standing_of(const struct control_server *cs, uint64_t now_us);
/* "up", "starting"... */
const char *standing_name(enum standing standing);
/* Why it is so, for people; always ends in a NUL. */
void standing_reason(const struct control_server *cs, enum standing standing, uint64_t now_us,
                     char text[STANDING_TEXT_MAX]);

/* The servers of a pool, without those that leave. A name that means no address yet counts as a server that is down. */
struct tally {
    unsigned servers, usable, drained, down, ejected;
};

enum level { LEVEL_UP, LEVEL_DEGRADED, LEVEL_DOWN };

const char *level_name(enum level level);

struct survey_pool {
    struct control_pool *pool; /* borrowed */
    bool used;                 /* by a route or a tcp listener of the configuration in force */
    struct tally tally;
    enum level level;
};

/* Every pool at one moment, in the order of the file. Good until the next wait. */
struct survey {
    enum level level;
    const char *log_failure; /* why nothing can be queued; NULL: all is well, or there is no queue */
    size_t n;
    struct survey_pool pools[];
};

/* The caller frees it. NULL: no memory. */
struct survey *survey_create(const struct system *system, uint64_t now_us);

/* What is wrong with a pool: "pool web: 1 of 3 servers down". False: nothing. */
bool standing_pool_reason(const char *name, const struct tally *tally, char text[STANDING_TEXT_MAX]);

#endif
