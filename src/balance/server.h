/* server.h - one backend server of a pool as all threads see it, and the roster of a pool's servers.
 *
 * Its name and address never change; what else the configuration says is set by the control thread, and what runs
 * by whoever it happens to: all of it atomic, read and written relaxed, so a pick may see what is a moment old. Both
 * servers and rosters are counted references: the last unref frees. Time is an argument: microseconds of one clock
 * that never goes back and never shows 0. Any thread. */
#ifndef BALANCE_SERVER_H
#define BALANCE_SERVER_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/address.h"
#include "base/counter.h"
#include "base/histogram.h"
#include "base/slice.h"
#include "config/config.h"
#include "wire/proxy.h"

#define CACHE_LINE 64

enum server_state { SERVER_UP, SERVER_DOWN };

/* What a server can do wrong. */
enum server_error {
    SERVER_REFUSED,          /* the connection, or it cannot be reached at all */
    SERVER_CONNECT_TIMEOUT,  /* no connection in time */
    SERVER_RESPONSE_TIMEOUT, /* no answer, or silence within one */
    SERVER_CLOSED,           /* the connection, without a byte of an answer */
    SERVER_GARBAGE,          /* an answer that is none, or over our limits */
    SERVER_BROKEN,           /* off, within an answer */
    SERVER_STATUS,           /* it answered 502, 503 or 504 */
    N_SERVER_ERRORS,
};

extern const char *const server_error_names[N_SERVER_ERRORS];

/* What one thread did with a server, since the server is there. */
struct server_counters {
    alignas(CACHE_LINE) struct counter requests;
    struct counter retries; /* requests that went on to another server */
    struct counter errors[N_SERVER_ERRORS];
    struct counter sent_bytes, received_bytes;
    struct histogram latency;
};

struct server {
    /* Constant. */
    struct slice name; /* owned; unique in its pool */
    uint64_t name_hash;
    struct endpoint endpoint; /* a name that now means another address is another server */
    unsigned slot; /* small number of its own among its pool's servers, for tables by thread; see pool.h */
    struct server_counters *counters; /* by thread, each written by its own */

    /* Read by every pick, written when something happens to the server. */
    alignas(CACHE_LINE) _Atomic unsigned weight; /* 1 to 256 */
    _Atomic unsigned max_connections;            /* 0: no limit */
    _Atomic bool backup;
    _Atomic unsigned send_proxy;       /* enum proxy_version */
    _Atomic unsigned state;            /* enum server_state, as the active checks see it */
    _Atomic bool draining;             /* takes no new requests */
    _Atomic unsigned ejections_in_row; /* see eject_decide */
    _Atomic uint64_t ejected_until_us; /* in the past, or 0: not ejected */
    _Atomic uint64_t up_since_us;      /* when slow start begins; 0: none is due */

    /* Written by every request. */
    alignas(CACHE_LINE) _Atomic unsigned active; /* requests using it now */
    _Atomic unsigned waiting;                    /* requests in line for it */
    _Atomic unsigned failures_in_row;
    _Atomic uint64_t hasty_until_us; /* see server_note_hasty */
    _Atomic double latency_us;       /* peak EWMA as of latency_at_us; 0: never measured */
    _Atomic uint64_t latency_at_us;
    _Atomic unsigned idle; /* kept connections */
    _Atomic uint64_t ejections;

    alignas(CACHE_LINE) _Atomic unsigned references;
};

/* The server starts up, without slow start, and with one reference that is the caller's. max_connections
 * is the pool's, for a server that has none of its own. n_threads will count on it. NULL: no memory. */
struct server *server_create(const struct config_server *config, unsigned max_connections,
                             const struct endpoint *endpoint, unsigned n_threads);
/* Takes over what another configuration says, but for drain, which a hand may have changed. */
void server_configure(struct server *server, const struct config_server *config, unsigned max_connections);
struct server *server_ref(struct server *server);
void server_unref(struct server *server);

/* Up, not draining, not ejected: a new request may go there. */
static inline bool server_usable(const struct server *server, uint64_t now_us)
{
    return atomic_load_explicit(&server->state, memory_order_relaxed) == SERVER_UP &&
           !atomic_load_explicit(&server->draining, memory_order_relaxed) &&
           atomic_load_explicit(&server->ejected_until_us, memory_order_relaxed) <= now_us;
}

/* As many requests as it may have at a time. */
static inline bool server_full(const struct server *server)
{
    unsigned most = atomic_load_explicit(&server->max_connections, memory_order_relaxed);

    return most && atomic_load_explicit(&server->active, memory_order_relaxed) >= most;
}

static inline bool server_wants_proxy(const struct server *server)
{
    return atomic_load_explicit(&server->send_proxy, memory_order_relaxed) != PROXY_NONE;
}

/* The PROXY header of the version that the server wants; it goes before anything else. No source: the connection speaks
 * for itself. Returns its length, 0 where none is wanted. */
#define SERVER_PROXY_MAX (PROXY_V1_MAX > PROXY_V2_MAX ? PROXY_V1_MAX : PROXY_V2_MAX)
size_t server_put_proxy(const struct server *server, char out[SERVER_PROXY_MAX],
                        const struct endpoint *source, const struct endpoint *destination);

static inline bool server_is_backup(const struct server *server)
{
    return atomic_load_explicit(&server->backup, memory_order_relaxed);
}

/* Requests it has or will have: active and waiting. */
static inline uint64_t server_load(const struct server *server)
{
    return (uint64_t)atomic_load_explicit(&server->active, memory_order_relaxed) +
           atomic_load_explicit(&server->waiting, memory_order_relaxed);
}

/* Weight in thousandths, at least 1: rises in a line from 10 % to 100 % during the slow start. */
#define SERVER_WEIGHT_UNIT 1000u
unsigned server_weight(const struct server *server, uint64_t now_us, uint64_t slow_start_us);

/* What active checks found. Coming up begins a slow start, forgets failures and ends an ejection; being up already changes
 * nothing. */
void server_came_up(struct server *server, uint64_t now_us);
void server_went_down(struct server *server);

/* Latency is a peak EWMA: a slower answer counts at once and in full, a faster one by the time that passed
 * since the last (time constant SERVER_LATENCY_DECAY_US). Two threads at the same moment may lose one of
 * two answers. */
#define SERVER_LATENCY_DECAY_US 10000000u
/* An average that nobody refreshed for so long is forgotten: the server counts as never measured. */
#define SERVER_LATENCY_FORGET_US 60000000u

/* An answer came after latency_us: also ends the row of failures. */
void server_observe(struct server *server, uint64_t latency_us, uint64_t now_us);

/* A failure, however fast it was, counts as an answer twice as slow as the server shows now, at least
 * SERVER_FAILURE_US, at most SERVER_FAILURE_MOST_US. It makes the row of failures longer, unless the
 * server is ejected: then it answers what was sent before. */
#define SERVER_FAILURE_US 1000000u
#define SERVER_FAILURE_MOST_US 60000000u
void server_observe_failure(struct server *server, uint64_t now_us);

/* It closed a kept connection soon after an answer on it, or under a request. For a while, a request that cannot be
 * repeated should not meet its kept connections: the next one may be closing at that very moment. */
#define SERVER_HASTY_US 60000000u
void server_note_hasty(struct server *server, uint64_t now_us);
static inline bool server_is_hasty(const struct server *server, uint64_t now_us)
{
    return atomic_load_explicit(&server->hasty_until_us, memory_order_relaxed) > now_us;
}

/* The average decayed until now, so that a server once slow is tried again; 0: never measured, or
 * forgotten. */
double server_latency(const struct server *server, uint64_t now_us);

struct ring;

/* A pool as of one moment: its servers and its configuration. Never changes once made; counted like a server, and
 * holds a reference on each. */
struct roster {
    _Atomic unsigned references;
    const struct config_pool *config; /* part of snapshot; NULL where nobody asks */
    const struct config *snapshot;    /* reference; NULL: none */
    uint64_t serial;                  /* of no other roster in this process */
    enum balance_strategy strategy;
    struct ring *ring; /* BALANCE_CONSISTENT_HASH; else NULL */
    bool has_backups;
    size_t n;
    struct server *servers[];
};

/* Takes references of its own. One reference on the roster is the caller's. weights: for the ring, by server; NULL:
 * those that the servers have. NULL: no memory, or a ring of more than RING_POINTS_MAX points. */
struct roster *roster_create(struct server *const *servers, const unsigned *weights, size_t n,
                             enum balance_strategy strategy, unsigned virtual_nodes);
struct roster *roster_ref(struct roster *roster);
void roster_unref(struct roster *roster);

#endif
