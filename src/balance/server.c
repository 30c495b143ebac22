/* server.c - see server.h. */
#include "balance/server.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "balance/ring.h"
#include "base/hash.h"

#define SLOW_START_FLOOR 100u /* thousandths of the weight at its beginning */

const char *const server_error_names[N_SERVER_ERRORS] = {
    [SERVER_REFUSED] = "refused",
    [SERVER_CONNECT_TIMEOUT] = "connect_timeout",
    [SERVER_RESPONSE_TIMEOUT] = "response_timeout",
    [SERVER_CLOSED] = "closed",
    [SERVER_GARBAGE] = "garbage",
    [SERVER_BROKEN] = "broken",
    [SERVER_STATUS] = "status",
};

static void *zeroed(size_t alignment, size_t bytes)
{
    void *room = aligned_alloc(alignment, bytes);

    if (room)
        memset(room, 0, bytes);
    return room;
}

void server_configure(struct server *server, const struct config_server *config, unsigned max_connections)
{
    unsigned own = config->max_connections;

    atomic_store_explicit(&server->weight, config->weight, memory_order_relaxed);
    atomic_store_explicit(&server->max_connections, own ? own : max_connections, memory_order_relaxed);
    atomic_store_explicit(&server->backup, config->backup, memory_order_relaxed);
    atomic_store_explicit(&server->send_proxy, config->send_proxy, memory_order_relaxed);
}

struct server *server_create(const struct config_server *config, unsigned max_connections,
                             const struct endpoint *endpoint, unsigned n_threads)
{
    struct server *server = zeroed(alignof(struct server), sizeof *server);
    struct server_counters *counters = zeroed(alignof(struct server_counters), n_threads * sizeof *counters);
    char *name = strdup(config->name);

    if (!server || !counters || !name) {
        free(server);
        free(counters);
        free(name);
        return NULL;
    }
    server->name = slice_from_text(name);
    server->name_hash = hash_bytes(server->name);
    server->endpoint = *endpoint;
    server->counters = counters;
    server_configure(server, config, max_connections);
    atomic_init(&server->state, SERVER_UP);
    atomic_init(&server->draining, config->drain);
    atomic_init(&server->references, 1);
    return server;
}

struct server *server_ref(struct server *server)
{
    atomic_fetch_add_explicit(&server->references, 1, memory_order_relaxed);
    return server;
}

void server_unref(struct server *server)
{
    unsigned before;

    if (!server)
        return;
    before = atomic_fetch_sub_explicit(&server->references, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before > 1)
        return;
    free((char *)(uintptr_t)server->name.ptr);
    free(server->counters);
    free(server);
}

size_t server_put_proxy(const struct server *server, char out[SERVER_PROXY_MAX],
                        const struct endpoint *source, const struct endpoint *destination)
{
    switch (atomic_load_explicit(&server->send_proxy, memory_order_relaxed)) {
    case PROXY_V1:
        return proxy_put_v1(out, source, destination);
    case PROXY_V2:
        return proxy_put_v2(out, source, destination);
    default:
        return 0;
    }
}

unsigned server_weight(const struct server *server, uint64_t now_us, uint64_t slow_start_us)
{
    uint64_t full =
        (uint64_t)atomic_load_explicit(&server->weight, memory_order_relaxed) * SERVER_WEIGHT_UNIT;
    uint64_t since = atomic_load_explicit(&server->up_since_us, memory_order_relaxed);
    uint64_t passed = now_us > since ? now_us - since : 0;
    double share;

    if (!since || passed >= slow_start_us)
        return (unsigned)full;
    share = (double)SLOW_START_FLOOR + (1000.0 - SLOW_START_FLOOR) * (double)passed / (double)slow_start_us;
    return (unsigned)((double)full * share / 1000.0);
}

void server_came_up(struct server *server, uint64_t now_us)
{
    if (atomic_load_explicit(&server->state, memory_order_relaxed) == SERVER_UP)
        return;
    atomic_store_explicit(&server->up_since_us, now_us, memory_order_relaxed);
    atomic_store_explicit(&server->failures_in_row, 0, memory_order_relaxed);
    atomic_store_explicit(&server->ejected_until_us, 0, memory_order_relaxed);
    atomic_store_explicit(&server->state, SERVER_UP, memory_order_release);
}

void server_went_down(struct server *server)
{
    atomic_store_explicit(&server->state, SERVER_DOWN, memory_order_relaxed);
}

/* What is left of an average after this long: 1 to 0. */
static double decay(uint64_t passed_us)
{
    return exp(-(double)passed_us / SERVER_LATENCY_DECAY_US);
}

static uint64_t latency_age_us(const struct server *server, uint64_t now_us)
{
    uint64_t at = atomic_load_explicit(&server->latency_at_us, memory_order_relaxed);

    return now_us > at ? now_us - at : 0;
}

static void latency_sample(struct server *server, double sample_us, uint64_t now_us)
{
    double average = atomic_load_explicit(&server->latency_us, memory_order_relaxed);

    if (sample_us < average) {
        double kept = decay(latency_age_us(server, now_us));

        sample_us = average * kept + sample_us * (1 - kept);
    }
    atomic_store_explicit(&server->latency_us, sample_us, memory_order_relaxed);
    atomic_store_explicit(&server->latency_at_us, now_us, memory_order_relaxed);
}

void server_observe(struct server *server, uint64_t latency_us, uint64_t now_us)
{
    latency_sample(server, latency_us ? (double)latency_us : 1, now_us);
    if (atomic_load_explicit(&server->failures_in_row, memory_order_relaxed))
        atomic_store_explicit(&server->failures_in_row, 0, memory_order_relaxed);
}

void server_observe_failure(struct server *server, uint64_t now_us)
{
    double sample = 2 * server_latency(server, now_us);

    if (sample < SERVER_FAILURE_US)
        sample = SERVER_FAILURE_US;
    if (sample > SERVER_FAILURE_MOST_US)
        sample = SERVER_FAILURE_MOST_US;
    latency_sample(server, sample, now_us);
    if (atomic_load_explicit(&server->ejected_until_us, memory_order_relaxed) <= now_us)
        atomic_fetch_add_explicit(&server->failures_in_row, 1, memory_order_relaxed);
}

void server_note_hasty(struct server *server, uint64_t now_us)
{
    atomic_store_explicit(&server->hasty_until_us, now_us + SERVER_HASTY_US, memory_order_relaxed);
}

double server_latency(const struct server *server, uint64_t now_us)
{
    uint64_t age = latency_age_us(server, now_us);

    if (age >= SERVER_LATENCY_FORGET_US)
        return 0;
    return atomic_load_explicit(&server->latency_us, memory_order_relaxed) * decay(age);
}

static struct ring *ring_of_servers(struct server *const *servers, const unsigned *weights, size_t n,
                                    unsigned virtual_nodes)
{
    struct ring_member *members = calloc(n ? n : 1, sizeof *members);
    struct ring *ring;

    if (!members)
        return NULL;
    for (size_t i = 0; i < n; i++)
        members[i] = (struct ring_member){servers[i]->name, weights ? weights[i] : servers[i]->weight};
    ring = ring_create(members, n, virtual_nodes);
    free(members);
    return ring;
}

struct roster *roster_create(struct server *const *servers, const unsigned *weights, size_t n,
                             enum balance_strategy strategy, unsigned virtual_nodes)
{
    static _Atomic uint64_t last_serial;
    struct roster *roster = calloc(1, sizeof *roster + n * sizeof roster->servers[0]);

    if (!roster)
        return NULL;
    if (strategy == BALANCE_CONSISTENT_HASH) {
        roster->ring = ring_of_servers(servers, weights, n, virtual_nodes);
        if (!roster->ring) {
            free(roster);
            return NULL;
        }
    }
    atomic_init(&roster->references, 1);
    roster->serial = atomic_fetch_add(&last_serial, 1) + 1;
    roster->strategy = strategy;
    roster->n = n;
    for (size_t i = 0; i < n; i++) {
        roster->servers[i] = server_ref(servers[i]);
        roster->has_backups |= server_is_backup(servers[i]);
    }
    return roster;
}

struct roster *roster_ref(struct roster *roster)
{
    atomic_fetch_add_explicit(&roster->references, 1, memory_order_relaxed);
    return roster;
}

void roster_unref(struct roster *roster)
{
    unsigned before;

    if (!roster)
        return;
    before = atomic_fetch_sub_explicit(&roster->references, 1, memory_order_acq_rel);
    assert(before > 0);
    if (before > 1)
        return;
    for (size_t i = 0; i < roster->n; i++)
        server_unref(roster->servers[i]);
    ring_free(roster->ring);
    if (roster->snapshot)
        config_unref(roster->snapshot);
    free(roster);
}
