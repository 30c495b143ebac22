/* member.c - one server section at run time: what addresses it means, its servers, their checks; see control.h.
 *
 * Invariants: a member that is not live has no checks and no look-ups but its first; a server's slot is its own while it
 * is a member's, so kept connections (pool.h) cannot be mixed up. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balance/control_private.h"
#include "balance/health.h"
#include "balance/line.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "fiber/resolve.h"
#include "fiber/stream.h"

/* A name server that is silent for longer is as good as none; the next look-up is on its way anyway. */
#define RESOLVE_TIMEOUT_US (10 * US_PER_S)

/* ---- checks ------------------------------------------------------------------------------------------------ */

void control_server_say(const struct control_server *cs, enum event_kind kind, const char *what,
                        const char *why)
{
    event_say(kind, slice_from_text(cs->pool->pool->name), cs->server->name, "pool %s: server %.*s %s%s%s",
              cs->pool->pool->name, SLICE_ARG(cs->server->name), what, why[0] ? ": " : "", why);
}

static void apply_health(struct control_server *cs, enum health_change change, const char *why)
{
    if (change == HEALTH_NONE)
        return;
    cs->since_us = clock_wall_us();
    if (change == HEALTH_WENT_UP) {
        cs->why[0] = '\0';
        server_came_up(cs->server, loop_now_us());
        control_server_say(cs, EVENT_SERVER_UP, "is up", "");
    } else {
        snprintf(cs->why, sizeof cs->why, "%s", why);
        server_went_down(cs->server);
        control_server_say(cs, EVENT_SERVER_DOWN, "is down", why);
    }
    line_kick(cs->pool->pool);
}

/* One check by the configuration of now, which stays for as long as the check takes. */
static int check_once(struct control_server *cs, char why[CHECK_WHY_MAX])
{
    const struct config *snapshot = config_ref(cs->pool->snapshot);
    int error = checker_check(&cs->pool->config->health, cs->server, why);

    config_unref(snapshot);
    return error;
}

static void check_main(void *arg)
{
    struct control_server *cs = arg;
    struct health health;
    uint64_t delay_us;

    health_init(&health, &cs->pool->config->health, atomic_load(&cs->server->state) == SERVER_UP);
    do {
        char why[CHECK_WHY_MAX];
        int error = check_once(cs, why);

        if (error == -ECANCELED)
            return;
        if (stream_error_is_ours(error)) { /* says nothing about the server */
            delay_us = US_PER_S;
            continue;
        }
        *(error ? &cs->checks_failed : &cs->checks_ok) += 1;
        apply_health(cs, health_result(&health, error == 0), why);
        delay_us = health_next_delay_us(&health, &cs->pool->config->health, &cs->rng);
    } while (fiber_sleep_until(loop_now_us() + delay_us) == 0);
}

static void start_check(struct control_server *cs)
{
    if (!cs->pool->config->health.active || !cs->member->live || cs->checker)
        return;
    cs->checker = fiber_spawn("health check", check_main, cs);
    if (!cs->checker)
        log_error("pool %s: no memory to check server %.*s; it counts as up", cs->pool->pool->name,
                  SLICE_ARG(cs->server->name));
}

static void stop_check(struct control_server *cs)
{
    if (cs->checker)
        fiber_cancel_and_join(cs->checker);
    cs->checker = NULL;
}

/* ---- a member's servers ------------------------------------------------------------------------------------ */

/* The lowest slot that is free in its pool. */
static int take_slot(struct control_pool *cp, struct server *server)
{
    struct server **grown;
    unsigned slot = 0;

    while (slot < cp->n_slots && cp->slots[slot])
        slot++;
    if (slot == cp->n_slots) {
        grown = realloc(cp->slots, (cp->n_slots + 8) * sizeof(struct server *));
        if (!grown)
            return -ENOMEM;
        memset(grown + cp->n_slots, 0, 8 * sizeof(struct server *));
        cp->slots = grown;
        cp->n_slots += 8;
    }
    cp->slots[slot] = server;
    server->slot = slot;
    return 0;
}

/* What the file says, and what a hand says against it. */
void control_server_configure(struct control_server *cs, const struct config_pool *pool)
{
    const struct config_server *config = cs->member->config;

    server_configure(cs->server, config, pool->max_connections);
    if (cs->hand.weight)
        atomic_store(&cs->server->weight, cs->hand.weight);
    atomic_store(&cs->server->draining, cs->hand.set_drain ? cs->hand.drain : config->drain);
}

struct control_server *member_find_server(struct member *member, struct slice name)
{
    for (struct list *node = member->servers.next; node != &member->servers; node = node->next) {
        struct control_server *cs = container_of(node, struct control_server, list);

        if (slice_equal(cs->server->name, name))
            return cs;
    }
    return NULL;
}

/* A server that was leaving and is wanted again comes back as it was. */
static struct control_server *find_leaving(struct control_pool *cp, const char *name,
                                           const struct endpoint *endpoint)
{
    for (struct list *node = cp->leaving.next; node != &cp->leaving; node = node->next) {
        struct control_server *cs = container_of(node, struct control_server, list);

        if (slice_equal(cs->server->name, slice_from_text(name)) &&
            endpoint_equal(&cs->server->endpoint, endpoint))
            return cs;
    }
    return NULL;
}

static struct control_server *create_server(struct member *member, const struct config_pool *pool,
                                            const char *name, const struct endpoint *endpoint)
{
    struct config_server config = *member->config;
    struct control_server *cs = calloc(1, sizeof *cs);

    if (!cs)
        return NULL;
    config.name = name;
    cs->server = server_create(&config, pool->max_connections, endpoint, member->pool->pool->n_threads);
    if (!cs->server || take_slot(member->pool, cs->server) != 0) {
        server_unref(cs->server);
        free(cs);
        return NULL;
    }
    cs->pool = member->pool;
    cs->member = member;
    cs->rng.state = hash_bytes(cs->server->name) ^ clock_monotonic_us();
    cs->since_us = clock_wall_us();
    return cs;
}

/* pool: its configuration, in force or about to be. */
static int add_server(struct member *member, const struct config_pool *pool, const char *name,
                      const struct endpoint *endpoint)
{
    struct control_server *cs = find_leaving(member->pool, name, endpoint);
    const struct control_server *same_name = member_find_server(member, slice_from_text(name));

    if (cs && take_slot(member->pool, cs->server) != 0)
        return -ENOMEM;
    if (cs)
        list_remove(&cs->list);
    else
        cs = create_server(member, pool, name, endpoint);
    if (!cs)
        return -ENOMEM;
    cs->member = member;
    cs->seen = true;
    if (same_name) /* the name has another address now; what a hand did was for the name */
        cs->hand = same_name->hand;
    control_server_configure(cs, pool);
    list_push_back(&member->servers, &cs->list);
    start_check(cs);
    return 0;
}

void control_server_free(struct control_server *cs)
{
    list_remove(&cs->list);
    server_unref(cs->server);
    free(cs);
}

/* It will be in no roster any more, so nothing new goes there; it is remembered until what runs there has ended. */
static void remove_server(struct control_server *cs)
{
    stop_check(cs);
    cs->pool->slots[cs->server->slot] = NULL;
    list_remove(&cs->list);
    cs->member = NULL;
    cs->since_us = clock_wall_us();
    list_push_back(&cs->pool->leaving, &cs->list);
    if (!atomic_load(&cs->server->active))
        control_server_free(cs);
}

/* ---- names ------------------------------------------------------------------------------------------------- */

/* NAME, or NAME/ADDRESS when it has several. */
static void name_server(char *name, size_t room, const struct member *member, const struct resolved *resolved,
                        unsigned i)
{
    char text[INET6_ADDRSTRLEN];
    struct ip ip = ip_from_endpoint(&resolved->endpoints[i]);

    ip_text(&ip, text);
    if (resolved->count == 1)
        snprintf(name, room, "%s", member->config->name);
    else
        snprintf(name, room, "%s/%s", member->config->name, text);
}

static struct control_server *find_server(struct member *member, const char *name,
                                          const struct endpoint *endpoint)
{
    struct control_server *cs = member_find_server(member, slice_from_text(name));

    return cs && endpoint_equal(&cs->server->endpoint, endpoint) ? cs : NULL;
}

static bool add_resolved(struct member *member, const struct config_pool *pool,
                         const struct resolved *resolved)
{
    bool changed = false;

    for (unsigned i = 0; i < resolved->count; i++) {
        char name[2 * ADDRESS_TEXT_MAX];
        struct control_server *cs;

        name_server(name, sizeof name, member, resolved, i);
        cs = find_server(member, name, &resolved->endpoints[i]);
        if (cs)
            cs->seen = true;
        else
            changed |= add_server(member, pool, name, &resolved->endpoints[i]) == 0;
    }
    return changed;
}

/* Makes the member's servers what the name means now. Returns whether anything changed. */
static bool update_member(struct member *member, const struct config_pool *pool,
                          const struct resolved *resolved)
{
    struct list *node, *next;
    bool changed;

    for (node = member->servers.next; node != &member->servers; node = node->next)
        container_of(node, struct control_server, list)->seen = false;
    changed = add_resolved(member, pool, resolved);
    for (node = member->servers.next; node != &member->servers; node = next) {
        struct control_server *cs = container_of(node, struct control_server, list);

        next = node->next;
        if (cs->seen)
            continue;
        control_server_say(cs, EVENT_SERVER_REMOVED, "is gone from its name", "");
        remove_server(cs);
        changed = true;
    }
    return changed;
}

static void say_members(const struct member *member)
{
    for (struct list *node = member->servers.next; node != &member->servers; node = node->next) {
        const struct control_server *cs = container_of(node, struct control_server, list);
        char text[ADDRESS_TEXT_MAX];

        endpoint_text(&cs->server->endpoint, text);
        event_say(EVENT_SERVER_ADDED, slice_from_text(cs->pool->pool->name), cs->server->name,
                  "pool %s: server %.*s is at %s", cs->pool->pool->name, SLICE_ARG(cs->server->name), text);
    }
}

/* Looks the name up once. Returns whether the servers changed. */
bool member_resolve(struct member *member, const struct config_pool *pool, uint64_t deadline_us)
{
    const struct address *address = &member->config->address;
    struct resolved *resolved = calloc(1, sizeof *resolved);
    const char *pool_name = member->pool->pool->name;
    bool changed = false;
    int error = resolved ? resolve_name(address->host, address->port, resolved, deadline_us) : -ENOMEM;

    if (!error) {
        changed = update_member(member, member->live ? member->pool->config : pool, resolved);
        member->failing = false;
        if (changed)
            say_members(member);
    } else if (error != -ECANCELED && !member->failing) {
        /* What it meant last stays: a name server that is down must not take our servers with it. */
        event_say(EVENT_NAME_FAILED, slice_from_text(pool_name), slice_from_text(member->config->name),
                  "pool %s: server %s cannot be resolved: %s; trying again", pool_name, member->config->name,
                  error == -ENOENT ? "there is no such name" : "no answer from a name server");
        member->failing = true;
    }
    free(resolved);
    return changed;
}

static void resolver_main(void *arg)
{
    struct member *member = arg;
    uint64_t interval_us = member->pool->config->resolve_interval_us;
    uint64_t failing_us = interval_us < US_PER_S ? interval_us : US_PER_S;

    while (fiber_sleep_until(loop_now_us() + (member->failing ? failing_us : interval_us)) == 0) {
        if (member_resolve(member, NULL, loop_deadline(RESOLVE_TIMEOUT_US)))
            control_pool_renew(member->pool);
        interval_us = member->pool->config->resolve_interval_us;
    }
}

/* ---- members ----------------------------------------------------------------------------------------------- */

void member_stop_look_ups(struct member *member)
{
    if (member->resolver)
        fiber_cancel_and_join(member->resolver);
    member->resolver = NULL;
}

void member_close(struct member *member)
{
    member_stop_look_ups(member); /* first: it could add servers */
    while (!list_empty(&member->servers))
        remove_server(container_of(member->servers.next, struct control_server, list));
    free(member);
}

/* A name has no server before its first look-up. */
struct member *member_open(struct control_pool *cp, const struct config_pool *pool,
                           const struct config_server *config)
{
    struct member *member = calloc(1, sizeof *member);
    struct endpoint endpoint;

    if (!member)
        return NULL;
    member->pool = cp;
    member->config = config;
    list_init(&member->servers);
    if (config->address.kind == ADDRESS_NAME)
        return member;
    endpoint_from_address(&endpoint, &config->address, false);
    if (add_server(member, pool, config->name, &endpoint) == 0)
        return member;
    free(member);
    return NULL;
}

/* It is part of the configuration in force from now: checks and look-ups begin, or go on by it. */
void member_start(struct member *member)
{
    const struct config_pool *pool = member->pool->config;

    member->live = true;
    for (struct list *node = member->servers.next; node != &member->servers; node = node->next) {
        struct control_server *cs = container_of(node, struct control_server, list);

        control_server_configure(cs, pool);
        start_check(cs);
    }
    if (member->config->address.kind != ADDRESS_NAME || member->resolver)
        return;
    member->resolver = fiber_spawn("name look-up", resolver_main, member);
    if (!member->resolver)
        log_error("pool %s: no memory to look %s up again", member->pool->pool->name, member->config->name);
}

void member_restart_checks(struct member *member)
{
    member_stop_look_ups(member); /* it could take servers away meanwhile */
    for (struct list *node = member->servers.next; node != &member->servers; node = node->next) {
        struct control_server *cs = container_of(node, struct control_server, list);

        stop_check(cs);
        if (!member->pool->config->health.active && atomic_load(&cs->server->state) != SERVER_UP)
            apply_health(cs, HEALTH_WENT_UP, "");
    }
    member_start(member);
}
