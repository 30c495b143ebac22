/* check.c - see check.h. */
#include "config/check.h"

#include <stdlib.h>
#include <string.h>

#include "config/nearest.h"
#include "config/same.h"

/* --- pools ---------------------------------------------------------------------------------------- */

static void check_servers(struct config_problems *problems, const struct config_item *item,
                          const struct config_pool *pool)
{
    size_t backups = 0;

    for (size_t i = 0; i < pool->n_servers; i++) {
        const struct config_server *server = &pool->servers[i];

        backups += server->backup;
        for (size_t j = 0; j < i; j++)
            if (config_same_address(&server->address, &pool->servers[j].address)) {
                config_problem(
                    problems, server->place,
                    "server \"" SHOWN "\" stands twice in pool %s; the first is at %s:%d, remove one",
                    server->name, pool->name, pool->servers[j].place.file, pool->servers[j].place.line);
                break;
            }
    }
    if (!pool->n_servers && !item->bad)
        config_problem(problems, pool->place, "pool \"" SHOWN "\" has no server; add server HOST:PORT {}",
                       pool->name);
    else if (pool->n_servers && backups == pool->n_servers)
        config_problem(problems, pool->place,
                       "pool \"" SHOWN "\" has only backup servers; make one of them backup = no",
                       pool->name);
}

void config_refuse_idle(struct config_problems *problems, const struct config_item *section, const char *name,
                        const char *needs)
{
    const struct config_item *option = config_item_option(section, name);

    if (option)
        config_problem(problems, option->place, "%s has no effect without %s; add that, or remove %s", name,
                       needs, name);
}

/* A check asks by HTTP, or by bytes. */
static void check_health(struct config_problems *problems, const struct config_item *health)
{
    static const char *const of_bytes[] = {"send", "expect"};
    bool path = health && config_item_option(health, "path");

    for (size_t i = 0; path && i < sizeof of_bytes / sizeof *of_bytes; i++) {
        const struct config_item *option = config_item_option(health, of_bytes[i]);

        if (option)
            config_problem(problems, option->place,
                           "health has path and %s; remove one: path is for HTTP, %s for other protocols",
                           option->name, option->name);
    }
    if (!health || path)
        return;
    config_refuse_idle(problems, health, "host", "path");
    config_refuse_idle(problems, health, "expect-status", "path");
    if (!config_item_option(health, "expect"))
        config_refuse_idle(problems, health, "send", "expect");
}

static void check_ejection(struct config_problems *problems, const struct config_item *ejection,
                           const struct config_pool *pool)
{
    if (ejection && !ejection->bad && pool->ejection.time_most_us < pool->ejection.time_us)
        config_problem(problems, ejection->place, "ejection: most is below time; raise most, or lower time");
}

void config_check_pool(struct config_problems *problems, const struct config_item *item,
                       const struct config_pool *pool)
{
    static const char *const of_the_ring[] = {"hash-key", "virtual-nodes", "load-bound"};
    const struct config_item *balance = config_item_option(item, "balance");

    check_servers(problems, item, pool);
    check_health(problems, config_item_section(item, &config_table_health));
    check_ejection(problems, config_item_section(item, &config_table_ejection), pool);
    if (pool->balance == BALANCE_CONSISTENT_HASH || (balance && balance->bad))
        return;
    for (size_t i = 0; i < sizeof of_the_ring / sizeof *of_the_ring; i++)
        config_refuse_idle(problems, item, of_the_ring[i], "balance = consistent-hash");
}

/* --- routes --------------------------------------------------------------------------------------- */

const struct config_pool *config_find_pool(struct config_problems *problems, const struct config *config,
                                           const struct config_item *option)
{
    const char *name = option->values->text;
    const struct config_pool *pool = config_pool_find(config, name);
    struct config_nearest nearest;

    if (pool || option->bad)
        return pool;
    config_nearest_init(&nearest, name);
    for (size_t i = 0; i < config->n_pools; i++)
        config_nearest_try(&nearest, config->pools[i].name);
    if (nearest.best)
        config_problem(problems, option->place, "there is no pool \"" SHOWN "\"; did you mean \"%s\"?", name,
                       nearest.best);
    else
        config_problem(problems, option->place,
                       "there is no pool \"" SHOWN "\"; add pool NAME { server ... }", name);
    return NULL;
}

static void check_action(struct config_problems *problems, const struct config_item *item)
{
    static const char *const actions[] = {"pool", "queue", "topic", "redirect", "respond"};
    const struct config_item *first = NULL;

    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        const struct config_item *option = config_item_option(item, actions[i]);
        bool stores = i == 1 || i == 2;

        /* a pool may have a queue or a topic beside it; those two are told apart in config_check_route_queue */
        if (option && first && !stores)
            config_problem(problems, option->place, "route \"" SHOWN "\" has %s and %s; remove one",
                           item->title, first->name, option->name);
        if (option && !first)
            first = option;
    }
    if (!first && !item->bad)
        config_problem(problems, item->place,
                       "route \"" SHOWN "\" does nothing; give it a pool, queue, topic, redirect or respond",
                       item->title);
}

static void check_effects(struct config_problems *problems, const struct config_item *item,
                          const struct config_route *route)
{
    if (!config_item_option(item, "redirect"))
        config_refuse_idle(problems, item, "status", "redirect");
    if (!config_item_option(item, "respond"))
        config_refuse_idle(problems, item, "body", "respond");
    else if (route->body.len && (route->status == 204 || route->status == 205 || route->status == 304))
        config_problem(problems, config_item_option(item, "body")->place,
                       "an answer with status %u has no body; remove body, or change respond", route->status);
    if (!config_item_option(item, "pool") && !item->bad) {
        config_refuse_idle(problems, item, "strip-prefix", "pool");
        config_refuse_idle(problems, item, "retries", "pool");
        config_refuse_idle(problems, item, "retry-with-key", "pool");
    }
}

static bool same_condition(const struct config_condition *a, const struct config_condition *b,
                           bool with_value)
{
    bool same_name =
        a->kind == CONDITION_HEADER ? slice_equal_nocase(a->name, b->name) : slice_equal(a->name, b->name);

    return a->kind == b->kind && same_name &&
           (!with_value || (a->any_value == b->any_value && slice_equal(a->value, b->value)));
}

static void check_conditions(struct config_problems *problems, const struct config_item *item,
                             const struct config_route *route)
{
    size_t n = 0;

    for (const struct config_item *section = item->items; section && n < route->n_conditions;
         section = section->next) {
        if (section->table != &config_table_header && section->table != &config_table_cookie &&
            section->table != &config_table_query)
            continue;
        for (size_t i = 0; i < n; i++)
            if (same_condition(&route->conditions[i], &route->conditions[n], false)) {
                config_problem(problems, section->place,
                               "%s \"" SHOWN "\" stands twice in the route; remove one", section->name,
                               section->title);
                break;
            }
        n++;
    }
}

void config_check_route(struct config_problems *problems, const struct config *config,
                        const struct config_item *item, struct config_route *route)
{
    const struct config_item *pool = config_item_option(item, "pool");

    if (pool)
        route->pool = config_find_pool(problems, config, pool);
    config_check_route_queue(problems, config, item, route);
    check_action(problems, item);
    check_effects(problems, item, route);
    check_conditions(problems, item, route);
}

/* --- listeners ------------------------------------------------------------------------------------ */

static bool has_slice(const struct slice *in, size_t n, struct slice s)
{
    for (size_t i = 0; i < n; i++)
        if (slice_equal(in[i], s))
            return true;
    return false;
}

static bool all_in(const struct slice *some, size_t n_some, const struct slice *all, size_t n_all)
{
    for (size_t i = 0; i < n_some; i++)
        if (!has_slice(all, n_all, some[i]))
            return false;
    return true;
}

static bool has_condition(const struct config_route *route, const struct config_condition *condition)
{
    for (size_t i = 0; i < route->n_conditions; i++)
        if (same_condition(&route->conditions[i], condition, true))
            return true;
    return false;
}

/* Whether both routes are for the same requests, in whatever order they say so. */
static bool same_match(const struct config_route *a, const struct config_route *b)
{
    if (!slice_equal(a->path, b->path) || !all_in(a->hosts, a->n_hosts, b->hosts, b->n_hosts) ||
        !all_in(b->hosts, b->n_hosts, a->hosts, a->n_hosts) ||
        !all_in(a->methods, a->n_methods, b->methods, b->n_methods) ||
        !all_in(b->methods, b->n_methods, a->methods, a->n_methods) || a->n_conditions != b->n_conditions)
        return false;
    for (size_t i = 0; i < a->n_conditions; i++)
        if (!has_condition(b, &a->conditions[i]))
            return false;
    return true;
}

static int compare_routes(const void *left, const void *right)
{
    const struct config_route *a = *(const struct config_route *const *)left;
    const struct config_route *b = *(const struct config_route *const *)right;
    int order;

    if (a->path.len != b->path.len)
        return a->path.len < b->path.len ? -1 : 1;
    order = a->path.len ? memcmp(a->path.ptr, b->path.ptr, a->path.len) : 0;
    if (order)
        return order;
    return a < b ? -1 : a > b; /* both stand in one array: in the order of the file */
}

/* Sorted, so that only routes of one path are compared with each other. */
static void check_routes(struct config_problems *problems, const struct config_http *http)
{
    const struct config_route **sorted = calloc(http->n_routes + 1, sizeof *sorted);
    size_t group = 0;

    if (!sorted) {
        config_problem(problems, http->place, "out of memory; stop something else");
        return;
    }
    for (size_t i = 0; i < http->n_routes; i++)
        sorted[i] = &http->routes[i];
    qsort(sorted, http->n_routes, sizeof *sorted, compare_routes);
    for (size_t i = 0; i < http->n_routes; i++) {
        if (!slice_equal(sorted[group]->path, sorted[i]->path))
            group = i;
        for (size_t j = group; j < i; j++)
            if (same_match(sorted[i], sorted[j])) {
                config_problem(
                    problems, sorted[i]->place,
                    "this route is for the same requests as the one at %s:%d; remove one, or tell them apart",
                    sorted[j]->place.file, sorted[j]->place.line);
                break;
            }
    }
    free(sorted);
}

void config_check_http(struct config_problems *problems, const struct config_item *item,
                       const struct config_http *http)
{
    const struct config_item *max_line = config_item_option(item, "max-line");
    const struct config_item *max_head = config_item_option(item, "max-head");

    check_routes(problems, http);
    if (max_line && !max_line->bad && !(max_head && max_head->bad) && http->max_line > http->max_head)
        config_problem(problems, max_line->place, "max-line is above max-head; lower it, or raise max-head");
}

/* A pool of connections is one whose strategy asks nothing about requests. */
static void check_strategy(struct config_problems *problems, const struct config_item *option,
                           const struct config_pool *pool)
{
    if (pool->balance == BALANCE_LEAST_LATENCY)
        config_problem(problems, option->place,
                       "pool \"" SHOWN
                       "\" has balance = least-latency, which measures answers of HTTP, and cannot "
                       "serve tcp; choose another balance, or give tcp a pool of its own",
                       pool->name);
    if (pool->balance == BALANCE_CONSISTENT_HASH && pool->hash_key != HASH_KEY_IP)
        config_problem(problems, option->place,
                       "pool \"" SHOWN
                       "\" has a hash-key that only a request of HTTP has, and cannot serve tcp; "
                       "write hash-key = ip, or give tcp a pool of its own",
                       pool->name);
}

void config_check_tcp(struct config_problems *problems, const struct config *config,
                      const struct config_item *item, struct config_tcp *tcp)
{
    const struct config_item *option = config_item_option(item, "pool");

    if (!option) {
        if (!item->bad)
            config_problem(problems, item->place, "tcp \"" SHOWN "\" has no pool; add pool = NAME",
                           tcp->name);
        return;
    }
    tcp->pool = config_find_pool(problems, config, option);
    if (tcp->pool)
        check_strategy(problems, option, tcp->pool);
}

static bool is_of_this_machine(const struct address *address)
{
    switch (address->kind) {
    case ADDRESS_UNIX:
        return true;
    case ADDRESS_NAME:
        return slice_equal_nocase(slice_from_text(address->host), SLICE("localhost"));
    case ADDRESS_IP:
        return ip_is_loopback(&(struct ip){address->ip});
    case ADDRESS_ANY:
        return false;
    }
    return false;
}

void config_check_admin(struct config_problems *problems, const struct config *config,
                        const struct config_item *item, const struct config_admin *admin)
{
    if (!item->bad && !admin->token && !is_of_this_machine(&admin->address))
        config_problem(problems, admin->place,
                       "admin \"" SHOWN
                       "\" can be reached from other machines; add token = \"...\" of 16 or more "
                       "characters, or listen on 127.0.0.1 or a unix socket",
                       admin->name);
    if (config->admin)
        config_problem(problems, admin->place, "there is another admin at %s:%d; remove one",
                       config->admin->place.file, config->admin->place.line);
}

/* --- the file ------------------------------------------------------------------------------------- */

/* What listeners of every kind have. */
struct listener {
    const char *kind;
    const char *name;
    struct config_place place;
    const struct address *address;
};

static size_t count_listeners(const struct config *config)
{
    return config->n_http + config->n_tcp + config->n_amqp + (config->admin != NULL);
}

static struct listener listener_at(const struct config *config, size_t i)
{
    const struct config_admin *admin = config->admin;

    if (i < config->n_http) {
        const struct config_http *http = &config->http[i];

        return (struct listener){"http", http->name, http->place, &http->address};
    }
    i -= config->n_http;
    if (i < config->n_tcp) {
        const struct config_tcp *tcp = &config->tcp[i];

        return (struct listener){"tcp", tcp->name, tcp->place, &tcp->address};
    }
    i -= config->n_tcp;
    if (i < config->n_amqp) {
        const struct config_amqp *amqp = &config->amqp[i];

        return (struct listener){"amqp", amqp->name, amqp->place, &amqp->address};
    }
    return (struct listener){"admin", admin->name, admin->place, &admin->address};
}

static void check_addresses(struct config_problems *problems, const struct config *config)
{
    for (size_t i = 0; i < count_listeners(config); i++)
        for (size_t j = 0; j < i; j++) {
            struct listener one = listener_at(config, i), other = listener_at(config, j);

            if (!config_same_address(one.address, other.address))
                continue;
            config_problem(problems, one.place,
                           "another %s already listens on \"" SHOWN
                           "\", at %s:%d; remove one, or change a port",
                           other.kind, one.name, other.place.file, other.place.line);
            break;
        }
}

void config_check_all(struct config_problems *problems, const struct config_item *top,
                      const struct config *config)
{
    check_addresses(problems, config);
    config_check_queues(problems, top, config);
    config_check_all_workers(problems, config);
    for (size_t i = 0; i < config->n_pools; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(config->pools[i].name, config->pools[j].name) == 0) {
                config_problem(problems, config->pools[i].place,
                               "there is another pool \"" SHOWN "\" at %s:%d; rename or remove one",
                               config->pools[i].name, config->pools[j].place.file,
                               config->pools[j].place.line);
                break;
            }
    if (!config->n_http && !config->n_tcp && !config->n_amqp && !top->bad)
        config_problem(
            problems, top->place,
            "there is no listener; add http \":8080\" { route \"/\" { pool = ... } }, or tcp, or amqp");
}
