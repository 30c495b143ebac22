/* fetch.h - one HTTP request of maitred's own to a pool, from memory or by pieces, with its answer into memory.
 *
 * It takes the way of a client's request: the pool's strategy, line, timeouts, health, ejection, kept connections and
 * counters hold for it. A server that cannot be reached is passed over for another; a request that was sent is
 * not repeated, but for one that is idempotent and met a kept connection that was dead. Memory: the answer's, and
 * what a connection has. Threads: the pool_thread's, in a fiber. */
#ifndef BALANCE_FETCH_H
#define BALANCE_FETCH_H

#include "balance/pool.h"
#include "base/arena.h"
#include "wire/http.h"

/* A body that is not in memory. */
struct fetch_body {
    uint64_t bytes;
    /* The next piece, which is good until the next call; first: from its beginning on, which may be asked for again. In the fiber of
     * fetch_run; may wait. 0; -ECANCELED; or an error for which stream_error_is_ours. */
    int (*next)(void *arg, bool first, struct slice *piece);
    void *arg;
};

struct fetch {
    /* The request; borrowed until fetch_run returns. Its bytes are such as the parser would have let pass. */
    struct slice method;
    struct slice target;    /* path and query; starts with '/' */
    struct slice authority; /* for Host; empty: the server's name */
    /* Sent as they are, but for Host, Expect, the framing's, and what belongs to one hop. Their ids (http1_field_id)
     * matter where a cookie decides the server. NULL: none. */
    const struct http_fields *fields;
    struct slice body;               /* its Content-Length is added */
    const struct fetch_body *pieces; /* the body, instead; NULL: none */
    struct ip client;                /* on whose behalf, where the strategy asks for it */
    uint64_t timeout_us;             /* from the first place at a server to the answer's last byte; 0: none */
    size_t answer_max;               /* bytes of the answer's body that are kept */
    struct arena *arena;             /* for the answer; nobody else's while fetch_run runs */

    /* The answer; in the arena. */
    unsigned status; /* 0: there is none */
    struct http_fields answer_fields;
    struct slice answer;
    bool answer_cut;     /* there was more of it than answer_max */
    struct slice server; /* the last one that was asked; empty: none was */
    bool sent;           /* a server may have the request, whether it answered or not */
    const char *note;    /* why there is no answer; constant */
};

/* 0: there is an answer, whatever its status. Otherwise:
 * -EHOSTUNREACH: no server is usable, or none could be reached;
 * -EAGAIN: the pool's line is full;
 * -ETIMEDOUT: over timeout_us, queue-timeout or response-timeout;
 * -ECONNRESET: a server closed before its answer, or within it; -EBADMSG: its answer is none, or its head too large;
 * -ECANCELED; -ENOMEM, or another shortage of this machine's (stream_error_is_ours). */
int fetch_run(struct pool_thread *pt, struct fetch *fetch);

#endif
