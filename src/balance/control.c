/* control.c - see control.h. */
#include "balance/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balance/health.h"
#include "balance/line.h"
#include "base/hash.h"
#include "base/log.h"
#include "fiber/resolve.h"
#include "http/head.h"

/* A name server that is silent for longer is as good as none; the next look-up is on its way anyway. */
#define RESOLVE_TIMEOUT_US (10 * US_PER_S)

/* A server of a pool, and the fiber that checks it. */
struct checked {
    struct list list;
    struct pool_control *pool;
    struct server *server; /* reference */
    struct fiber *checker; /* NULL: not checked */
    struct rng rng;
    bool seen; /* by the look-up under way */
};

/* One server section: a fixed address, or a name. */
struct member {
    struct pool_control *pool;
    const struct config_server *config;
    struct list servers; /* struct checked */
    struct fiber *resolver;
    bool failing; /* a look-up failed, which was logged and is not again until one works */
};

struct pool_control {
    struct pool *pool;
    struct roster *roster; /* reference */
    struct member *members;
    size_t n_members;
    uint64_t first_deadline_us;
    bool running;
};

struct control {
    size_t n;
    struct pool_control pools[];
};

/* ---- checks ------------------------------------------------------------------------------------------------ */

static int check_answer(const struct checked *c, struct stream *stream, uint64_t deadline_us, char why[64])
{
    const struct config_health *config = &c->pool->pool->config->health;
    struct pace pace = {0};
    struct http_input in = {.stream = stream};
    struct http_output out = {.stream = stream, .pace = &pace};
    struct http_field fields[64];
    struct http_response response = {.fields = {.at = fields, .max = 64}};
    struct http1_error bad;
    struct slice head;
    int error;

    pace.idle_us = deadline_us - loop_now_us();
    output_put(&out, SLICE("GET "));
    output_put(&out, slice_from_text(config->path));
    output_put(&out, SLICE(" HTTP/1.1\r\nHost: "));
    output_put(&out, config->host ? slice_from_text(config->host) : c->server->name);
    output_put(&out, SLICE("\r\nUser-Agent: maitred-health\r\nConnection: close\r\n\r\n"));
    error = output_flush(&out);
    if (!error)
        error = head_read(&in, SLAB_BYTES, deadline_us, &head);
    if (!error && http1_parse_response(head, METHOD_GET, &response, &bad) != 0) {
        snprintf(why, 64, "%s", bad.why);
        error = -EBADMSG;
    } else if (!error && (response.status < config->status_low || response.status > config->status_high)) {
        snprintf(why, 64, "status %u", response.status);
        error = -EBADMSG;
    }
    output_drop(&out);
    input_drop(&in);
    return error;
}

/* One check: 0, or why not. */
static int check(const struct checked *c, char why[64])
{
    const struct config_health *config = &c->pool->pool->config->health;
    uint64_t deadline_us = loop_deadline(config->timeout_us);
    struct stream stream;
    int error;

    why[0] = '\0';
    error = stream_connect(&stream, &c->server->endpoint, deadline_us);
    if (!error) {
        if (config->path)
            error = check_answer(c, &stream, deadline_us, why);
        stream_close(&stream);
    }
    if (error == -ETIMEDOUT)
        snprintf(why, 64, "no answer within the check's timeout");
    else if (error && !why[0])
        snprintf(why, 64, "%s", error == -ENODATA ? "closed without an answer" : strerror(-error));
    return error;
}

static void apply(const struct checked *c, enum health_change change, const char *why)
{
    const char *pool = c->pool->pool->config->name;

    if (change == HEALTH_WENT_UP) {
        log_info("pool %s: server %.*s is up", pool, SLICE_ARG(c->server->name));
        server_came_up(c->server, loop_now_us());
        line_kick(c->pool->pool);
    } else if (change == HEALTH_WENT_DOWN) {
        log_warning("pool %s: server %.*s is down: %s", pool, SLICE_ARG(c->server->name), why);
        server_went_down(c->server);
        line_kick(c->pool->pool);
    }
}

static void check_main(void *arg)
{
    struct checked *c = arg;
    const struct config_health *config = &c->pool->pool->config->health;
    struct health health;
    int error;

    health_init(&health, config, true);
    do {
        char why[64];

        error = check(c, why);
        if (error == -ECANCELED)
            return;
        apply(c, health_result(&health, error == 0), why);
    } while (fiber_sleep_until(loop_now_us() + health_next_delay_us(&health, config, &c->rng)) == 0);
}

/* ---- members ----------------------------------------------------------------------------------------------- */

static unsigned free_slot(const struct pool_control *pc)
{
    for (unsigned slot = 0;; slot++) {
        bool used = false;

        for (size_t i = 0; i < pc->n_members; i++)
            for (struct list *n = pc->members[i].servers.next; n != &pc->members[i].servers; n = n->next)
                used |= container_of(n, struct checked, list)->server->slot == slot;
        if (!used)
            return slot;
    }
}

static int start_check(struct checked *c)
{
    if (!c->pool->pool->config->health.active || !c->pool->running || c->checker)
        return 0;
    c->checker = fiber_spawn("health check", check_main, c);
    return c->checker ? 0 : -ENOMEM;
}

static int add_server(struct member *member, const char *name, const struct endpoint *endpoint)
{
    struct config_server config = *member->config;
    struct checked *c = calloc(1, sizeof *c);

    if (!c)
        return -ENOMEM;
    config.name = name;
    c->pool = member->pool;
    c->server = server_create(&config, member->pool->pool->config->max_connections, endpoint);
    if (!c->server) {
        free(c);
        return -ENOMEM;
    }
    if (config.drain)
        atomic_store(&c->server->draining, true);
    c->rng.state = hash_bytes(c->server->name) ^ clock_monotonic_us();
    c->server->slot = free_slot(member->pool);
    c->seen = true;
    list_push_back(&member->servers, &c->list);
    return start_check(c);
}

static void remove_server(struct checked *c)
{
    list_remove(&c->list);
    if (c->checker)
        fiber_cancel_and_join(c->checker);
    atomic_store(&c->server->draining, true);
    server_unref(c->server);
    free(c);
}

static struct checked *find_server(struct member *member, const char *name, const struct endpoint *endpoint)
{
    for (struct list *node = member->servers.next; node != &member->servers; node = node->next) {
        struct checked *c = container_of(node, struct checked, list);

        if (slice_equal(c->server->name, slice_from_text(name)) &&
            endpoint_equal(&c->server->endpoint, endpoint))
            return c;
    }
    return NULL;
}

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

/* Makes the member's servers what the name means now. Returns whether anything changed. */
static bool update_member(struct member *member, const struct resolved *resolved)
{
    struct list *node, *next;
    bool changed = false;

    for (node = member->servers.next; node != &member->servers; node = node->next)
        container_of(node, struct checked, list)->seen = false;
    for (unsigned i = 0; i < resolved->count; i++) {
        char name[2 * ADDRESS_TEXT_MAX];
        struct checked *c;

        name_server(name, sizeof name, member, resolved, i);
        c = find_server(member, name, &resolved->endpoints[i]);
        if (c)
            c->seen = true;
        else
            changed |= add_server(member, name, &resolved->endpoints[i]) == 0;
    }
    for (node = member->servers.next; node != &member->servers; node = next) {
        struct checked *c = container_of(node, struct checked, list);

        next = node->next;
        if (c->seen)
            continue;
        remove_server(c);
        changed = true;
    }
    return changed;
}

static void say_members(const struct member *member)
{
    for (struct list *node = member->servers.next; node != &member->servers; node = node->next) {
        const struct checked *c = container_of(node, struct checked, list);
        char text[ADDRESS_TEXT_MAX];

        endpoint_text(&c->server->endpoint, text);
        log_info("pool %s: server %.*s is at %s", member->pool->pool->config->name,
                 SLICE_ARG(c->server->name), text);
    }
}

/* Looks the name up once. Returns whether the servers changed. */
static bool resolve_member(struct member *member, uint64_t deadline_us)
{
    const struct address *address = &member->config->address;
    struct resolved *resolved = calloc(1, sizeof *resolved);
    bool changed = false;
    int error = resolved ? resolve_name(address->host, address->port, resolved, deadline_us) : -ENOMEM;

    if (!error) {
        changed = update_member(member, resolved);
        member->failing = false;
        if (changed)
            say_members(member);
    } else if (error != -ECANCELED && !member->failing) {
        /* What it meant last stays: a name server that is down must not take our servers with it. */
        log_warning("pool %s: server %s cannot be resolved: %s; trying again",
                    member->pool->pool->config->name, member->config->name,
                    error == -ENOENT ? "there is no such name" : "no answer from a name server");
        member->failing = true;
    }
    free(resolved);
    return changed;
}

/* ---- rosters ----------------------------------------------------------------------------------------------- */

static int make_roster(struct pool_control *pc)
{
    const struct config_pool *config = pc->pool->config;
    struct server **servers;
    struct roster *roster;
    size_t n = 0, at = 0;

    for (size_t i = 0; i < pc->n_members; i++)
        for (struct list *node = pc->members[i].servers.next; node != &pc->members[i].servers;
             node = node->next)
            n++;
    servers = calloc(n ? n : 1, sizeof *servers);
    if (!servers)
        return -ENOMEM;
    for (size_t i = 0; i < pc->n_members; i++)
        for (struct list *node = pc->members[i].servers.next; node != &pc->members[i].servers;
             node = node->next)
            servers[at++] = container_of(node, struct checked, list)->server;
    roster = roster_create(servers, n, config->balance, config->virtual_nodes);
    free(servers);
    if (!roster)
        return -ENOMEM;
    if (pc->roster)
        roster_unref(pc->roster);
    pc->roster = roster;
    return 0;
}

/* After a change, while everything runs. */
static void renew_roster(struct pool_control *pc)
{
    if (make_roster(pc) != 0 || pool_publish(pc->pool, pc->roster) != 0)
        log_error("pool %s: no memory for a new set of servers; the old one stays", pc->pool->config->name);
    line_kick(pc->pool);
}

static void resolver_main(void *arg)
{
    struct member *member = arg;
    uint64_t interval_us = member->pool->pool->config->resolve_interval_us;
    uint64_t failing_us = interval_us < US_PER_S ? interval_us : US_PER_S;

    while (fiber_sleep_until(loop_now_us() + (member->failing ? failing_us : interval_us)) == 0)
        if (resolve_member(member, loop_deadline(RESOLVE_TIMEOUT_US)))
            renew_roster(member->pool);
}

static void first_look_up(void *arg)
{
    struct member *member = arg;

    resolve_member(member, member->pool->first_deadline_us);
}

/* ---- all pools --------------------------------------------------------------------------------------------- */

static int open_member(struct member *member, struct pool_control *pc, const struct config_server *config)
{
    struct endpoint endpoint;

    member->pool = pc;
    member->config = config;
    list_init(&member->servers);
    if (config->address.kind == ADDRESS_NAME) {
        member->resolver = fiber_spawn("name look-up", first_look_up, member);
        return member->resolver ? 0 : -ENOMEM;
    }
    endpoint_from_address(&endpoint, &config->address, false);
    return add_server(member, config->name, &endpoint);
}

static int open_pool(struct pool_control *pc, struct pool *pool, uint64_t deadline_us)
{
    const struct config_pool *config = pool->config;
    int error = 0;

    pc->pool = pool;
    pc->first_deadline_us = deadline_us;
    pc->members = calloc(config->n_servers, sizeof *pc->members);
    if (!pc->members)
        return -ENOMEM;
    for (; !error && pc->n_members < config->n_servers; pc->n_members++)
        error = open_member(&pc->members[pc->n_members], pc, &config->servers[pc->n_members]);
    return error;
}

/* Ends what runs for a member: its look-ups first, which could add servers. */
static void close_member(struct member *member)
{
    if (member->resolver)
        fiber_cancel_and_join(member->resolver);
    member->resolver = NULL;
}

static void close_pool(struct pool_control *pc)
{
    for (size_t i = 0; i < pc->n_members; i++) {
        struct member *member = &pc->members[i];

        close_member(member);
        while (!list_empty(&member->servers))
            remove_server(container_of(member->servers.next, struct checked, list));
    }
    free(pc->members);
    if (pc->roster)
        roster_unref(pc->roster);
}

struct control *control_create(struct pool **pools, size_t n, uint64_t deadline_us)
{
    struct control *control = calloc(1, sizeof *control + n * sizeof control->pools[0]);
    int error = 0;

    if (!control)
        return NULL;
    for (; !error && control->n < n; control->n++)
        error = open_pool(&control->pools[control->n], pools[control->n], deadline_us);
    for (size_t i = 0; i < control->n; i++) {
        struct pool_control *pc = &control->pools[i];

        for (size_t j = 0; j < pc->n_members; j++) {
            struct fiber *resolver = pc->members[j].resolver;

            if (resolver && fiber_join(resolver, NEVER) == 0)
                pc->members[j].resolver = NULL;
        }
        if (!error)
            error = make_roster(pc);
    }
    if (error) {
        control_free(control);
        return NULL;
    }
    return control;
}

struct roster *control_roster(const struct control *control, size_t i)
{
    return control->pools[i].roster;
}

static int start_member(struct member *member)
{
    int error = 0;

    for (struct list *node = member->servers.next; !error && node != &member->servers; node = node->next)
        error = start_check(container_of(node, struct checked, list));
    if (error || member->config->address.kind != ADDRESS_NAME)
        return error;
    member->resolver = fiber_spawn("name look-up", resolver_main, member);
    return member->resolver ? 0 : -ENOMEM;
}

int control_start(struct control *control)
{
    int error = 0;

    for (size_t i = 0; i < control->n; i++) {
        struct pool_control *pc = &control->pools[i];

        pc->running = true;
        for (size_t j = 0; !error && j < pc->n_members; j++)
            error = start_member(&pc->members[j]);
    }
    return error;
}

void control_free(struct control *control)
{
    for (size_t i = 0; i < control->n; i++)
        close_pool(&control->pools[i]);
    free(control);
}
