/* strategy.c - see strategy.h.
 *
 * Every function looks at all servers once or twice: at tens of servers that is less than the cost of
 * keeping an order that all threads would have to agree on. Weights are in thousandths, from
 * server_weight. */
#include "balance/strategy.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "balance/ring.h"
#include "base/hash.h"

#define NONE SIZE_MAX

/* One question and what was found out about it before the strategy is asked. */
struct strategy_choice {
    const struct roster *roster;
    struct strategy_state *state;
    const struct strategy_input *input;
    bool backups; /* it is their turn */
};

static bool was_tried(const struct strategy_input *input, const struct server *server)
{
    for (size_t i = 0; i < input->n_tried; i++)
        if (input->tried[i] == server)
            return true;
    return false;
}

static bool may_pick(const struct strategy_choice *choice, size_t index)
{
    const struct server *server = choice->roster->servers[index];

    return server_is_backup(server) == choice->backups && server_usable(server, choice->input->now_us) &&
           !(choice->input->skip_full && server_full(server)) && !was_tried(choice->input, server);
}

static unsigned weight_of(const struct strategy_choice *choice, size_t index)
{
    return server_weight(choice->roster->servers[index], choice->input->now_us, choice->input->slow_start_us);
}

static struct server *server_at(const struct strategy_choice *choice, size_t index)
{
    return index == NONE ? NULL : choice->roster->servers[index];
}

/* Smooth weighted round robin: each server gains its weight a turn, the richest is picked and pays for all.
 * Who may not be picked gains nothing, so that nobody comes back with savings. */
static struct server *pick_round_robin(const struct strategy_choice *choice)
{
    int64_t *currents = choice->state->currents;

    for (;;) {
        int64_t total = 0;
        size_t best = NONE;

        for (size_t i = 0; i < choice->roster->n; i++) {
            int64_t weight;

            if (!may_pick(choice, i))
                continue;
            weight = weight_of(choice, i);
            currents[i] += weight;
            total += weight;
            if (best == NONE || currents[i] > currents[best])
                best = i;
        }
        if (best == NONE)
            return NULL;
        currents[best] -= total;
        if (!choice->state->ahead)
            return server_at(choice, best);
        choice->state->ahead--;
    }
}

/* The server that costs least; among equals the next in turn. */
static struct server *pick_cheapest(const struct strategy_choice *choice,
                                    double (*cost)(const struct strategy_choice *choice, size_t index))
{
    size_t n = choice->roster->n;
    size_t index = choice->state->position;
    size_t best = NONE;
    double least = 0;

    for (size_t i = 0; i < n; i++, index = index + 1 < n ? index + 1 : 0) {
        double asked;

        if (!may_pick(choice, index))
            continue;
        asked = cost(choice, index);
        if (best == NONE || asked < least) {
            best = index;
            least = asked;
        }
    }
    if (best != NONE)
        choice->state->position = best + 1 < n ? best + 1 : 0;
    return server_at(choice, best);
}

/* Equal shares give equal doubles, division being correctly rounded: ties are exact. */
static double cost_of_load(const struct strategy_choice *choice, size_t index)
{
    return (double)server_load(choice->roster->servers[index]) / weight_of(choice, index);
}

static struct server *pick_least_connections(const struct strategy_choice *choice)
{
    return pick_cheapest(choice, cost_of_load);
}

/* A server that nobody measured is tried, by one request; the others do not follow before its answer is
 * known, and so count it as slow as a failure. */
static double cost_of_latency(const struct strategy_choice *choice, size_t index)
{
    const struct server *server = choice->roster->servers[index];
    double latency = server_latency(server, choice->input->now_us);
    uint64_t load = server_load(server);

    if (latency <= 0) {
        if (!load)
            return 0;
        latency = SERVER_FAILURE_US;
    }
    return latency * (double)(load + 1) / weight_of(choice, index);
}

static struct server *pick_least_latency(const struct strategy_choice *choice)
{
    return pick_cheapest(choice, cost_of_latency);
}

/* Bijective and well mixed (the finalizer of splitmix64). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Weighted rendezvous: each server draws, from the key and its name alone, how long it would take to
 * answer the call, exponentially distributed with its weight as the rate; the first one has the client. So
 * a server that goes takes nothing from the others, one that returns finds its clients again, and a slow
 * start fetches them bit by bit. */
static struct server *pick_ip_hash(const struct strategy_choice *choice)
{
    size_t best = NONE;
    double least = 0;

    for (size_t i = 0; i < choice->roster->n; i++) {
        uint64_t drawn;
        double delay;

        if (!may_pick(choice, i))
            continue;
        drawn = mix(mix(choice->input->key) ^ choice->roster->servers[i]->name_hash);
        delay = -log(((double)(drawn >> 11) + 0.5) * 0x1p-53) / weight_of(choice, i);
        if (best == NONE || delay < least) {
            best = i;
            least = delay;
        }
    }
    return server_at(choice, best);
}

/* How much the servers that may be picked have together. */
struct totals {
    uint64_t load;
    uint64_t weight; /* 0: none may be picked */
};

static struct totals totals_of(const struct strategy_choice *choice)
{
    struct totals totals = {0, 0};

    for (size_t i = 0; i < choice->roster->n; i++)
        if (may_pick(choice, i)) {
            totals.load += server_load(choice->roster->servers[i]);
            totals.weight += weight_of(choice, i);
        }
    return totals;
}

/* Whether one more keeps it at or below ceil(bound x its share of all requests, this one among them).
 * In integers, the bound in thousandths: a rounding error must not let one more in. */
static bool within_bound(const struct strategy_choice *choice, size_t index, const struct totals *totals)
{
    uint64_t bound = (uint64_t)(choice->input->load_bound * 1000 + 0.5);
    unsigned __int128 share = (unsigned __int128)bound * (totals->load + 1) * weight_of(choice, index);
    unsigned __int128 unit = (unsigned __int128)1000 * totals->weight;

    return !bound || server_load(choice->roster->servers[index]) < (share + unit - 1) / unit;
}

/* The bounds of those who may be picked sum up to more than their load, so one of them has room; only
 * other threads' requests, counted in between, can make it look otherwise, and then the key's first server
 * takes it. */
static struct server *pick_consistent_hash(const struct strategy_choice *choice)
{
    const struct ring *ring = choice->roster->ring;
    struct totals totals = totals_of(choice);
    size_t first = NONE;
    size_t position;

    if (!totals.weight || !ring_points(ring))
        return NULL;
    position = ring_find(ring, choice->input->key);
    for (size_t left = ring_points(ring); left; left--, position = ring_next(ring, position)) {
        size_t index = ring_member_at(ring, position);

        if (!may_pick(choice, index))
            continue;
        if (within_bound(choice, index, &totals))
            return server_at(choice, index);
        if (first == NONE)
            first = index;
    }
    return server_at(choice, first);
}

/* One server by weight, which sums up to total without the one excepted. */
static size_t draw(const struct strategy_choice *choice, size_t except, uint64_t total)
{
    uint64_t left;

    if (!total)
        return NONE;
    left = rng_below(&choice->state->rng, total);
    for (size_t i = 0; i < choice->roster->n; i++) {
        unsigned weight;

        if (i == except || !may_pick(choice, i))
            continue;
        weight = weight_of(choice, i);
        if (left < weight)
            return i;
        left -= weight;
    }
    return NONE;
}

static struct server *pick_random_two(const struct strategy_choice *choice)
{
    uint64_t total = totals_of(choice).weight;
    size_t first = draw(choice, NONE, total);
    size_t second;

    if (first == NONE)
        return NULL;
    second = draw(choice, first, total - weight_of(choice, first));
    if (second != NONE && cost_of_load(choice, second) < cost_of_load(choice, first))
        return server_at(choice, second);
    return server_at(choice, first);
}

const struct strategy strategy_table[] = {
    [BALANCE_ROUND_ROBIN] = {"round-robin", pick_round_robin, STRATEGY_KEY_NONE,
                             "its turn (smooth weighted round robin)"},
    [BALANCE_LEAST_CONNECTIONS] = {"least-connections", pick_least_connections, STRATEGY_KEY_NONE,
                                   "it has the fewest requests for its weight; among equals it is its turn"},
    [BALANCE_IP_HASH] = {"ip-hash", pick_ip_hash, STRATEGY_KEY_CLIENT,
                         "the client's address is at home there (weighted rendezvous hashing)"},
    [BALANCE_CONSISTENT_HASH] =
        {"consistent-hash", pick_consistent_hash, STRATEGY_KEY_REQUEST,
         "the first on the ring, from the key's place on, that is usable and within load-bound"},
    [BALANCE_RANDOM_TWO] = {"random-two", pick_random_two, STRATEGY_KEY_NONE,
                            "of the two servers that are drawn next, it has fewer requests for its weight"},
    [BALANCE_LEAST_LATENCY] =
        {"least-latency", pick_least_latency, STRATEGY_KEY_NONE,
         "its latency times its requests is the least for its weight; among equals it is its turn"},
};

void strategy_state_init(struct strategy_state *state, unsigned thread, uint64_t seed)
{
    *state = (struct strategy_state){.thread = thread};
    state->rng.state = mix(seed + 1) + thread * 0x9e3779b97f4a7c15u;
}

void strategy_state_free(struct strategy_state *state)
{
    free(state->currents);
    state->currents = NULL;
    state->room = 0;
    state->serial = 0;
}

/* A new roster begins anew: indexes mean other servers. */
static bool state_follow(struct strategy_state *state, const struct roster *roster)
{
    if (state->serial == roster->serial)
        return true;
    if (state->room < roster->n) {
        int64_t *grown = realloc(state->currents, roster->n * sizeof *grown);

        if (!grown)
            return false;
        state->currents = grown;
        state->room = roster->n;
    }
    assert(state->currents);
    memset(state->currents, 0, roster->n * sizeof *state->currents);
    state->position = state->thread % roster->n;
    state->ahead = state->thread % roster->n;
    state->serial = roster->serial;
    return true;
}

static bool primaries_are_gone(const struct roster *roster, const struct strategy_input *input)
{
    if (!roster->has_backups)
        return false;
    for (size_t i = 0; i < roster->n; i++) {
        const struct server *server = roster->servers[i];

        if (!server_is_backup(server) && server_usable(server, input->now_us) && !was_tried(input, server))
            return false;
    }
    return true;
}

struct server *strategy_pick(const struct roster *roster, struct strategy_state *state,
                             const struct strategy_input *input)
{
    struct strategy_choice choice = {.roster = roster, .state = state, .input = input};

    assert(roster->strategy < sizeof strategy_table / sizeof strategy_table[0]);
    if (!roster->n || !state_follow(state, roster))
        return NULL;
    choice.backups = primaries_are_gone(roster, input);
    return strategy_table[roster->strategy].pick(&choice);
}

struct server *strategy_peek(const struct roster *roster, const struct strategy_state *state,
                             const struct strategy_input *input)
{
    struct strategy_state copy = *state;
    struct server *server;

    copy.currents = state->room ? malloc(state->room * sizeof *copy.currents) : NULL;
    if (state->room && !copy.currents)
        return NULL;
    if (state->room)
        memcpy(copy.currents, state->currents, state->room * sizeof *copy.currents);
    server = strategy_pick(roster, &copy, input);
    strategy_state_free(&copy);
    return server;
}

static enum strategy_verdict judge(const struct strategy_choice *choice, size_t index)
{
    const struct server *server = choice->roster->servers[index];

    if (may_pick(choice, index))
        return STRATEGY_FITS;
    if (atomic_load_explicit(&server->draining, memory_order_relaxed))
        return STRATEGY_DRAINS;
    if (atomic_load_explicit(&server->state, memory_order_relaxed) != SERVER_UP)
        return STRATEGY_DOWN;
    if (!server_usable(server, choice->input->now_us))
        return STRATEGY_EJECTED;
    if (was_tried(choice->input, server))
        return STRATEGY_TRIED;
    return server_is_backup(server) != choice->backups ? STRATEGY_SPARE : STRATEGY_FULL;
}

void strategy_judge(const struct roster *roster, const struct strategy_input *input,
                    enum strategy_verdict *verdicts)
{
    struct strategy_choice choice = {.roster = roster, .input = input};

    choice.backups = primaries_are_gone(roster, input);
    for (size_t i = 0; i < roster->n; i++)
        verdicts[i] = judge(&choice, i);
}

uint64_t strategy_ip_key(const struct ip *ip)
{
    const char *bytes = (const char *)ip->bytes.s6_addr;

    return hash_bytes(slice_of(bytes, ip_is_v4(ip) ? 16 : 8));
}
