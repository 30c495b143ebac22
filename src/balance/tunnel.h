/* tunnel.h - serves a client's byte stream from a pool, asking nothing of its bytes.
 *
 * A server is picked as for a request, and what cannot be reached is passed over for another. Once bytes flow, nothing
 * is repeated. Threads: the client's. */
#ifndef BALANCE_TUNNEL_H
#define BALANCE_TUNNEL_H

#include "balance/pool.h"
#include "fiber/relay.h"

struct tunnel {
    struct stream *client; /* borrowed */
    struct pool_thread *pt;
    const struct endpoint *source,
        *destination; /* the client's ends, borrowed until on_connected; destination NULL:
                                                    the socket's own */
    uint64_t idle_us;
    struct counter *received, *sent; /* of the listener: bytes from the client, bytes to it */
    /* A server is found, and the stream may now last for hours: nothing of the configuration is looked at any more. */
    void (*on_connected)(struct tunnel *tunnel);
};

/* Until both ends have finished: 0, or why it ended early, as relay_run, or as line_enter when no server was found. The
 * client's stream is left to be closed, by a reset unless all went well. */
int tunnel_run(struct tunnel *tunnel);

#endif
