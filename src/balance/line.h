/* line.h - a request's place at a server: taken at once, or after waiting in the pool's line.
 *
 * A server holds at most max-connections requests. When every server that would do is full, requests wait in one
 * line per pool, first come first served over all threads; a place that gets free goes to the first who may
 * use it, without being free in between. The line is bounded in length and time.
 * Threads: any pool_thread's own. Waits by fiber. */
#ifndef BALANCE_LINE_H
#define BALANCE_LINE_H

#include "balance/pool.h"

/* Picks a server and takes a place at it, waiting in line if it must. On 0 the caller holds the place and a
 * reference until line_leave. -EHOSTUNREACH: no server is usable; -EAGAIN: the line is full; -ETIMEDOUT: over
 * queue-timeout in line; -ECANCELED; -ENOMEM. Of input, key, tried and n_tried are the caller's; the rest is set here. */
int line_enter(struct pool_thread *pt, struct strategy_input *input, struct server **server);
/* The same, waiting no longer than until latest_us. */
int line_enter_until(struct pool_thread *pt, struct strategy_input *input, uint64_t latest_us,
                     struct server **server);
void line_leave(struct pool_thread *pt, struct server *server);

/* A server came up or changed: those in line choose again. */
void line_kick(struct pool *pool);

#endif
