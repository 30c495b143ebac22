/* strategy.h - which server of a pool takes a request.
 *
 * A server may be picked when it is usable (up, not draining, not ejected) and this request has not tried
 * it. Backups are for when no other server may be picked; servers that are merely full do not call them
 * in. Every strategy obeys weights and slow start. Counts come from the servers, so threads see each
 * other's requests; turns (round robin) are each thread's own, begun at different places.
 * Pure: time is an argument. State belongs to one thread; a roster to any. */
#ifndef BALANCE_STRATEGY_H
#define BALANCE_STRATEGY_H

#include "balance/server.h"
#include "base/rng.h"

struct strategy_input {
    uint64_t now_us;
    uint64_t key; /* where the strategy's row asks for one */
    struct server *const *tried;
    size_t n_tried;
    uint64_t slow_start_us; /* 0: off */
    double load_bound;      /* of consistent hash: at least 1; 0: off */
    bool skip_full;         /* pass over servers that are full, so that NULL may also mean: wait in line */
};

/* One thread's memory for one pool. Zero is not a beginning: use strategy_state_init. */
struct strategy_state {
    unsigned thread;
    struct rng rng;
    uint64_t serial;   /* of the roster that the rest belongs to */
    size_t position;   /* where the next look around begins */
    size_t ahead;      /* turns of round robin to skip before the first */
    int64_t *currents; /* smooth weighted round robin, by roster index; owned */
    size_t room;       /* in currents */
};

/* thread is its number from 0; seed makes the random choices. */
void strategy_state_init(struct strategy_state *state, unsigned thread, uint64_t seed);
void strategy_state_free(struct strategy_state *state);

/* By the roster's strategy. The server is borrowed from the roster. NULL: none may be picked (or no memory
 * for a roster larger than any before). */
struct server *strategy_pick(const struct roster *roster, struct strategy_state *state,
                             const struct strategy_input *input);

/* What strategy_pick would answer, without taking a turn: state stays as it is. NULL also: no memory. */
struct server *strategy_peek(const struct roster *roster, const struct strategy_state *state,
                             const struct strategy_input *input);

/* Whether a server may be picked, or the first reason why not. */
enum strategy_verdict {
    STRATEGY_FITS,
    STRATEGY_DRAINS,
    STRATEGY_DOWN,
    STRATEGY_EJECTED,
    STRATEGY_TRIED,
    STRATEGY_FULL,  /* where input says that full servers are passed over */
    STRATEGY_SPARE, /* a backup, and others are usable */
};

/* By index of the roster's servers; verdicts has room for all of them. */
void strategy_judge(const struct roster *roster, const struct strategy_input *input,
                    enum strategy_verdict *verdicts);

enum strategy_key {
    STRATEGY_KEY_NONE,
    STRATEGY_KEY_CLIENT,  /* strategy_ip_key of the client */
    STRATEGY_KEY_REQUEST, /* hash_bytes of what the pool's hash-key names */
};

struct strategy_choice; /* private to strategy.c */

struct strategy {
    const char *name; /* as in the configuration */
    struct server *(*pick)(const struct strategy_choice *choice);
    enum strategy_key key;
    const char *why; /* a server was picked, for people */
};

extern const struct strategy strategy_table[]; /* by enum balance_strategy */

/* IPv4 by the whole address, IPv6 by its /64: a household keeps its server when its hosts change their
 * addresses. */
uint64_t strategy_ip_key(const struct ip *ip);

#endif
