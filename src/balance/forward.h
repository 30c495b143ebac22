/* forward.h - serves an exchange from a pool: picks a server, passes the request on, brings the answer back.
 *
 * What a failure costs is decided here: a server that cannot be reached is passed over for free; a request that
 * was sent and got no byte of an answer is repeated when it is safe to (idempotent, or with an Idempotency-Key on
 * a route that allows it), within the route's retries and the pool's budget; otherwise the client hears 502, 503 or
 * 504. Threads: the exchange's. */
#ifndef BALANCE_FORWARD_H
#define BALANCE_FORWARD_H

#include "balance/pool.h"
#include "http/exchange.h"

/* rest: the path behind the route's prefix, for strip-prefix. True: it has answered, or cut what it began. False: the pool
 * cannot take the request, and the route's spill says that it is to be stored; nothing was answered. *body is what was
 * read of its body then, all of it, unless x->body is not done. */
bool forward(struct exchange *x, struct pool_thread *pt, const struct config_route *route, struct slice rest,
             struct slice *body);

#endif
