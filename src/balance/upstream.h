/* upstream.h - connections to servers, kept between requests.
 *
 * Each thread keeps its own, per server, the latest used first, so that a surplus ages and goes. A kept connection
 * is watched: whatever comes on it (the end, or bytes nobody asked for) closes it at once, so that requests
 * rarely meet a dead one. Threads: the pool_thread's. */
#ifndef BALANCE_UPSTREAM_H
#define BALANCE_UPSTREAM_H

#include "balance/pool.h"
#include "http/input.h"
#include "http/output.h"
#include "http/pace.h"

struct upstream {
    struct stream stream;
    struct http_input in;
    struct http_output out;
    struct pace pace; /* both ways */
    struct pool_thread *pt;
    struct server *server; /* reference */
    struct list idle;
    uint64_t born_us, idle_since_us;
    unsigned n_requests; /* finished before this one */
};

/* A kept connection, or NULL. must_be_alive: look again whether it is, for a request that cannot be repeated. */
struct upstream *upstream_take(struct pool_thread *pt, struct server *server, bool must_be_alive);
/* A new one, within connect-timeout and until latest_us: 0 or a negative errno. */
int upstream_connect(struct pool_thread *pt, struct server *server, uint64_t latest_us,
                     struct upstream **upstream);
/* After a request that left it clean: keeps it, or closes it when it is too old, too used or one too many. */
void upstream_keep(struct upstream *upstream);
void upstream_close(struct upstream *upstream);

/* Closes what has been idle for too long. Returns when the next look is due. */
uint64_t upstream_reap(struct pool_thread *pt);

#endif
