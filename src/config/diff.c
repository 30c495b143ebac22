/* diff.c - see diff.h. Sections are matched level by level; the options of two that match are compared row by row, as
 * the types of the rows write them. Nothing here knows an option. */
#include "config/diff.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/names.h"
#include "config/problems.h"
#include "config/same.h"
#include "config/table.h"
#include "config/value.h"

struct differ {
    struct config_diff *diff;
    size_t max_changes; /* that there is room for */
    FILE *values;       /* what is compared right now: one value, a NUL, the other, a NUL */
    char *text;         /* the bytes of values */
    size_t len;
    bool failed; /* no memory; what is found is then of no use */
};

/* --- changes ------------------------------------------------------------------------------------ */

static const char *listener_name(const struct config_side *side)
{
    return side->http   ? side->http->name
           : side->tcp  ? side->tcp->name
           : side->amqp ? side->amqp->name
                        : side->admin->name;
}

static const char *listener_kind(const struct config_side *side)
{
    return side->http ? "http" : side->tcp ? "tcp" : side->amqp ? "amqp" : "admin";
}

/* "/api" (host=a methods=GET), from a route's name: no part of it contains a space. */
static void write_route(const struct config_route *route, FILE *out)
{
    size_t path = strcspn(route->name, " ");

    fprintf(out, ": route \"%.*s\"", (int)path, route->name);
    if (route->name[path])
        fprintf(out, " (%s)", route->name + path + 1);
}

/* Sections without a title, which stand in one with a name. */
static const char *const inside[] = {
    [CONFIG_PART_HEALTH] = "health", [CONFIG_PART_EJECTION] = "ejection", [CONFIG_PART_PUSH] = "push",
    [CONFIG_PART_RETRY] = "retry",   [CONFIG_PART_GAUGE] = NULL,
};

/* What the change is about, from the outside in. */
static void write_where(const struct config_change *change, FILE *out)
{
    const struct config_side *side = change->kind == CONFIG_REMOVED ? &change->before : &change->after;

    if (change->part == CONFIG_PART_TOP)
        return;
    if (side->pool) {
        fputs("pool ", out);
        config_print_visibly(side->pool->name, out);
    } else if (side->queue) {
        fputs("queue ", out);
        config_print_visibly(side->queue->name, out);
    } else if (side->topic) {
        fputs("topic ", out);
        config_print_visibly(side->topic->name, out);
    } else if (side->workers) {
        fputs("workers ", out);
        config_print_visibly(side->workers->name, out);
    } else if (side->gauge) {
        fputs("gauge ", out);
        config_print_visibly(side->gauge->name, out);
    } else {
        fputs("listener ", out);
        config_print_visibly(listener_name(side), out);
    }
    if (side->route)
        write_route(side->route, out);
    if (side->server) {
        fputs(": server ", out);
        config_print_visibly(side->server->name, out);
    }
    if (side->user) {
        fputs(": user ", out);
        config_print_visibly(side->user->name, out);
    }
    if (inside[change->part])
        fprintf(out, ": %s", inside[change->part]);
    if (change->part == CONFIG_PART_LISTENER && change->kind != CONFIG_CHANGED)
        fprintf(out, " (%s)", listener_kind(side));
}

static void write_value(const struct config_row *row, const char *value, FILE *out)
{
    if (!*value)
        fprintf(out, "(%s)", row->without ? row->without : "none");
    fputs(value, out);
    if (row->zero && strcmp(value, "0") == 0)
        fprintf(out, " (%s)", row->zero);
}

/* row, before and after: of an option that changed; else NULL. */
static char *change_text(const struct config_change *change, const struct config_row *row, const char *before,
                         const char *after)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, &(size_t){0});
    bool whole;

    if (!out)
        return NULL;
    write_where(change, out);
    if (!row) {
        fputs(change->kind == CONFIG_ADDED ? " added" : " removed", out);
    } else {
        fprintf(out, "%s%s", change->part == CONFIG_PART_TOP ? "" : ": ", row->name);
        if (row->secret) {
            fputs(" changed", out);
        } else {
            fputc(' ', out);
            write_value(row, before, out);
            fputs(" -> ", out);
            write_value(row, after, out);
        }
        fputs(row->restart ? ": takes effect with `maitred upgrade`" : "", out);
    }
    whole = !ferror(out);
    if (fclose(out) == 0 && whole)
        return text;
    free(text);
    return NULL;
}

static void add_change(struct differ *d, struct config_change change, char *text)
{
    struct config_diff *diff = d->diff;

    if (text && diff->n_changes == d->max_changes) {
        size_t max = d->max_changes ? d->max_changes * 2 : 16;
        struct config_change *changes = reallocarray(diff->changes, max, sizeof *changes);

        if (changes) {
            diff->changes = changes;
            d->max_changes = max;
        }
    }
    if (!text || diff->n_changes == d->max_changes) {
        d->failed = true;
        free(text);
        return;
    }
    change.text = text;
    diff->changes[diff->n_changes++] = change;
}

static void add_section(struct differ *d, enum config_part part, enum config_change_kind kind,
                        struct config_side side)
{
    struct config_change change = {.part = part, .kind = kind};

    if (kind == CONFIG_REMOVED)
        change.before = side;
    else
        change.after = side;
    add_change(d, change, change_text(&change, NULL, NULL, NULL));
}

/* --- options ------------------------------------------------------------------------------------ */

/* before and after are the structures of a section of this table, in the sides' sections. */
static void compare_options(struct differ *d, const struct config_table *table,
                            const struct config_change *where, const void *before, const void *after)
{
    for (size_t i = 0; i < table->n_rows; i++) {
        const struct config_row *row = &table->rows[i];
        struct config_change change = *where;
        const char *second;

        rewind(d->values);
        row->type->write(row, before, d->values);
        fputc('\0', d->values);
        row->type->write(row, after, d->values);
        fputc('\0', d->values);
        if (fflush(d->values) != 0 || ferror(d->values)) {
            d->failed = true;
            return;
        }
        second = d->text + strlen(d->text) + 1;
        if (strcmp(d->text, second) == 0)
            continue;
        change.option = row->name;
        change.needs_restart = row->restart;
        add_change(d, change, change_text(&change, row, d->text, second));
    }
}

/* --- sections by name ----------------------------------------------------------------------------- */

/* Names of the sections of both snapshots. */
struct both {
    struct names before, after;
};

static bool both_open(struct differ *d, struct both *both, const char *const *before, size_t n_before,
                      const char *const *after, size_t n_after, size_t size)
{
    d->failed |= !names_open(&both->before, before, n_before, size);
    d->failed |= !names_open(&both->after, after, n_after, size);
    return !d->failed;
}

static void both_close(struct both *both)
{
    names_close(&both->before);
    names_close(&both->after);
}

/* --- pools ---------------------------------------------------------------------------------------- */

static void compare_servers(struct differ *d, const struct config_pool *before,
                            const struct config_pool *after)
{
    struct config_change where = {.part = CONFIG_PART_SERVER, .kind = CONFIG_CHANGED};
    struct both both;
    bool ok = both_open(d, &both, &before->servers->name, before->n_servers, &after->servers->name,
                        after->n_servers, sizeof *after->servers);

    for (size_t i = 0; ok && i < after->n_servers; i++) {
        size_t old = names_find(&both.before, after->servers[i].name);

        where.after = (struct config_side){.pool = after, .server = &after->servers[i]};
        if (old == SIZE_MAX) {
            add_section(d, CONFIG_PART_SERVER, CONFIG_ADDED, where.after);
            continue;
        }
        where.before = (struct config_side){.pool = before, .server = &before->servers[old]};
        compare_options(d, &config_table_server, &where, where.before.server, where.after.server);
    }
    for (size_t i = 0; ok && i < before->n_servers; i++)
        if (names_find(&both.after, before->servers[i].name) == SIZE_MAX)
            add_section(d, CONFIG_PART_SERVER, CONFIG_REMOVED,
                        (struct config_side){.pool = before, .server = &before->servers[i]});
    both_close(&both);
}

static void compare_health(struct differ *d, struct config_change *where, const struct config_pool *before,
                           const struct config_pool *after)
{
    where->part = CONFIG_PART_HEALTH;
    if (before->health.active == after->health.active)
        compare_options(d, &config_table_health, where, &before->health, &after->health);
    else if (after->health.active)
        add_section(d, CONFIG_PART_HEALTH, CONFIG_ADDED, where->after);
    else
        add_section(d, CONFIG_PART_HEALTH, CONFIG_REMOVED, where->before);
}

static void compare_pools(struct differ *d, const struct config_side *before, const struct config_side *after)
{
    struct config_change where = {
        .part = CONFIG_PART_POOL, .kind = CONFIG_CHANGED, .before = *before, .after = *after};

    compare_options(d, &config_table_pool, &where, before->pool, after->pool);
    compare_servers(d, before->pool, after->pool);
    compare_health(d, &where, before->pool, after->pool);
    where.part = CONFIG_PART_EJECTION;
    compare_options(d, &config_table_ejection, &where, &before->pool->ejection, &after->pool->ejection);
}

/* --- queues --------------------------------------------------------------------------------------- */

static void compare_queues(struct differ *d, const struct config_side *before,
                           const struct config_side *after)
{
    const struct config_queue *old = before->queue, *new = after->queue;
    struct config_change where = {
        .part = CONFIG_PART_QUEUE, .kind = CONFIG_CHANGED, .before = *before, .after = *after};

    compare_options(d, &config_table_queue, &where, old, new);
    where.part = CONFIG_PART_PUSH;
    if (old->push.active == new->push.active)
        compare_options(d, &config_table_push, &where, &old->push, &new->push);
    else if (new->push.active)
        add_section(d, CONFIG_PART_PUSH, CONFIG_ADDED, *after);
    else
        add_section(d, CONFIG_PART_PUSH, CONFIG_REMOVED, *before);
    where.part = CONFIG_PART_RETRY;
    compare_options(d, &config_table_retry, &where, &old->retry, &new->retry);
}

static void compare_topics(struct differ *d, const struct config_side *before,
                           const struct config_side *after)
{
    const struct config_change where = {
        .part = CONFIG_PART_TOPIC, .kind = CONFIG_CHANGED, .before = *before, .after = *after};

    compare_options(d, &config_table_topic, &where, before->topic, after->topic);
}

static void compare_workers(struct differ *d, const struct config_side *before,
                            const struct config_side *after)
{
    const struct config_change where = {.part = after->workers ? CONFIG_PART_WORKERS : CONFIG_PART_GAUGE,
                                        .kind = CONFIG_CHANGED,
                                        .before = *before,
                                        .after = *after};

    if (after->workers)
        compare_options(d, &config_table_workers, &where, before->workers, after->workers);
    else
        compare_options(d, &config_table_gauge, &where, before->gauge, after->gauge);
}

/* --- listeners ------------------------------------------------------------------------------------ */

static void compare_routes(struct differ *d, const struct config_http *before,
                           const struct config_http *after)
{
    struct config_change where = {.part = CONFIG_PART_ROUTE, .kind = CONFIG_CHANGED};
    struct both both;
    bool ok = both_open(d, &both, &before->routes->name, before->n_routes, &after->routes->name,
                        after->n_routes, sizeof *after->routes);

    for (size_t i = 0; ok && i < after->n_routes; i++) {
        size_t old = names_find(&both.before, after->routes[i].name);

        where.after = (struct config_side){.http = after, .route = &after->routes[i]};
        if (old == SIZE_MAX) {
            add_section(d, CONFIG_PART_ROUTE, CONFIG_ADDED, where.after);
            continue;
        }
        where.before = (struct config_side){.http = before, .route = &before->routes[old]};
        compare_options(d, &config_table_route, &where, where.before.route, where.after.route);
    }
    for (size_t i = 0; ok && i < before->n_routes; i++)
        if (names_find(&both.after, before->routes[i].name) == SIZE_MAX)
            add_section(d, CONFIG_PART_ROUTE, CONFIG_REMOVED,
                        (struct config_side){.http = before, .route = &before->routes[i]});
    both_close(&both);
}

static void compare_users(struct differ *d, const struct config_amqp *before, const struct config_amqp *after)
{
    struct config_change where = {.part = CONFIG_PART_USER, .kind = CONFIG_CHANGED};
    struct both both;
    bool ok = both_open(d, &both, &before->users->name, before->n_users, &after->users->name, after->n_users,
                        sizeof *after->users);

    for (size_t i = 0; ok && i < after->n_users; i++) {
        size_t old = names_find(&both.before, after->users[i].name);

        where.after = (struct config_side){.amqp = after, .user = &after->users[i]};
        if (old == SIZE_MAX) {
            add_section(d, CONFIG_PART_USER, CONFIG_ADDED, where.after);
            continue;
        }
        where.before = (struct config_side){.amqp = before, .user = &before->users[old]};
        compare_options(d, &config_table_user, &where, where.before.user, where.after.user);
    }
    for (size_t i = 0; ok && i < before->n_users; i++)
        if (names_find(&both.after, before->users[i].name) == SIZE_MAX)
            add_section(d, CONFIG_PART_USER, CONFIG_REMOVED,
                        (struct config_side){.amqp = before, .user = &before->users[i]});
    both_close(&both);
}

static void compare_listeners(struct differ *d, const struct config_side *before,
                              const struct config_side *after)
{
    struct config_change where = {
        .part = CONFIG_PART_LISTENER, .kind = CONFIG_CHANGED, .before = *before, .after = *after};

    if (after->tcp) {
        compare_options(d, &config_table_tcp, &where, before->tcp, after->tcp);
    } else if (after->amqp) {
        assert(before->amqp); /* both are of one kind: see find_same */
        compare_options(d, &config_table_amqp, &where, before->amqp, after->amqp);
        compare_users(d, before->amqp, after->amqp);
    } else if (after->admin) {
        compare_options(d, &config_table_admin, &where, before->admin, after->admin);
    } else {
        compare_options(d, &config_table_http, &where, before->http, after->http);
        compare_routes(d, before->http, after->http);
    }
}

/* --- the file ------------------------------------------------------------------------------------- */

/* A section of the file. */
struct section {
    struct config_side side;
    size_t order;
};

struct sections {
    struct section *at; /* in the order of the file; owned */
    size_t n;
    struct names pools, queues, topics, workers, gauges; /* owned */
    const struct config *config;
};

static int compare_order(const void *left, const void *right)
{
    const struct section *a = left, *b = right;

    return (a->order > b->order) - (a->order < b->order);
}

/* At the most. */
static size_t count_sections(const struct config *config)
{
    return config->n_http + config->n_tcp + config->n_amqp + config->n_pools + config->n_queues +
           config->n_topics + config->n_workers + config->n_gauges + 1;
}

static void sections_open(struct differ *d, struct sections *s, const struct config *config)
{
    *s = (struct sections){.config = config};
    d->failed |= !names_open(&s->pools, &config->pools->name, config->n_pools, sizeof *config->pools);
    d->failed |= !names_open(&s->queues, &config->queues->name, config->n_queues, sizeof *config->queues);
    d->failed |= !names_open(&s->topics, &config->topics->name, config->n_topics, sizeof *config->topics);
    d->failed |= !names_open(&s->workers, &config->workers->name, config->n_workers, sizeof *config->workers);
    d->failed |= !names_open(&s->gauges, &config->gauges->name, config->n_gauges, sizeof *config->gauges);
    s->at = calloc(count_sections(config), sizeof *s->at);
    d->failed |= !s->at;
    if (d->failed)
        return;
    for (size_t i = 0; i < config->n_http; i++)
        s->at[s->n++] = (struct section){{.http = &config->http[i]}, config->http[i].order};
    for (size_t i = 0; i < config->n_tcp; i++)
        s->at[s->n++] = (struct section){{.tcp = &config->tcp[i]}, config->tcp[i].order};
    for (size_t i = 0; i < config->n_amqp; i++)
        s->at[s->n++] = (struct section){{.amqp = &config->amqp[i]}, config->amqp[i].order};
    for (size_t i = 0; i < config->n_pools; i++)
        s->at[s->n++] = (struct section){{.pool = &config->pools[i]}, config->pools[i].order};
    for (size_t i = 0; i < config->n_queues; i++)
        s->at[s->n++] = (struct section){{.queue = &config->queues[i]}, config->queues[i].order};
    for (size_t i = 0; i < config->n_topics; i++)
        s->at[s->n++] = (struct section){{.topic = &config->topics[i]}, config->topics[i].order};
    for (size_t i = 0; i < config->n_workers; i++)
        s->at[s->n++] = (struct section){{.workers = &config->workers[i]}, config->workers[i].order};
    for (size_t i = 0; i < config->n_gauges; i++)
        s->at[s->n++] = (struct section){{.gauge = &config->gauges[i]}, config->gauges[i].order};
    if (config->admin)
        s->at[s->n++] = (struct section){{.admin = config->admin}, config->admin->order};
    qsort(s->at, s->n, sizeof *s->at, compare_order);
}

static void sections_close(struct sections *s)
{
    names_close(&s->pools);
    names_close(&s->queues);
    names_close(&s->topics);
    names_close(&s->workers);
    names_close(&s->gauges);
    free(s->at);
}

/* The section that stands for the same thing in the other snapshot; false when there is none. */
static bool find_same(const struct sections *s, const struct config_side *side, struct config_side *same)
{
    const struct config *config = s->config;
    size_t pool = side->pool ? names_find(&s->pools, side->pool->name) : SIZE_MAX;
    size_t queue = side->queue ? names_find(&s->queues, side->queue->name) : SIZE_MAX;
    size_t topic = side->topic ? names_find(&s->topics, side->topic->name) : SIZE_MAX;
    size_t workers = side->workers ? names_find(&s->workers, side->workers->name) : SIZE_MAX;
    size_t gauge = side->gauge ? names_find(&s->gauges, side->gauge->name) : SIZE_MAX;

    *same = (struct config_side){.pool = NULL};
    if (pool != SIZE_MAX)
        same->pool = &config->pools[pool];
    if (queue != SIZE_MAX)
        same->queue = &config->queues[queue];
    if (topic != SIZE_MAX)
        same->topic = &config->topics[topic];
    if (workers != SIZE_MAX)
        same->workers = &config->workers[workers];
    if (gauge != SIZE_MAX)
        same->gauge = &config->gauges[gauge];
    for (size_t i = 0; side->http && i < config->n_http; i++)
        if (config_same_address(&config->http[i].address, &side->http->address))
            same->http = &config->http[i];
    for (size_t i = 0; side->tcp && i < config->n_tcp; i++)
        if (config_same_address(&config->tcp[i].address, &side->tcp->address))
            same->tcp = &config->tcp[i];
    for (size_t i = 0; side->amqp && i < config->n_amqp; i++)
        if (config_same_address(&config->amqp[i].address, &side->amqp->address))
            same->amqp = &config->amqp[i];
    if (side->admin && config->admin && config_same_address(&config->admin->address, &side->admin->address))
        same->admin = config->admin;
    return same->pool || same->queue || same->topic || same->workers || same->gauge || same->http ||
           same->tcp || same->amqp || same->admin;
}

static enum config_part part_of(const struct config_side *side)
{
    return side->pool      ? CONFIG_PART_POOL
           : side->queue   ? CONFIG_PART_QUEUE
           : side->topic   ? CONFIG_PART_TOPIC
           : side->workers ? CONFIG_PART_WORKERS
           : side->gauge   ? CONFIG_PART_GAUGE
                           : CONFIG_PART_LISTENER;
}

static void compare_sections(struct differ *d, const struct sections *before, const struct sections *after)
{
    struct config_side same;

    for (size_t i = 0; i < after->n; i++) {
        const struct config_side *side = &after->at[i].side;

        if (!find_same(before, side, &same))
            add_section(d, part_of(side), CONFIG_ADDED, *side);
        else if (side->pool)
            compare_pools(d, &same, side);
        else if (side->queue)
            compare_queues(d, &same, side);
        else if (side->topic)
            compare_topics(d, &same, side);
        else if (side->workers || side->gauge)
            compare_workers(d, &same, side);
        else
            compare_listeners(d, &same, side);
    }
    for (size_t i = 0; i < before->n; i++)
        if (!find_same(after, &before->at[i].side, &same))
            add_section(d, part_of(&before->at[i].side), CONFIG_REMOVED, before->at[i].side);
}

int config_diff(struct config_diff *diff, const struct config *before, const struct config *after)
{
    const struct config_change top = {.part = CONFIG_PART_TOP, .kind = CONFIG_CHANGED};
    struct differ d = {.diff = diff};
    struct sections old, new;

    *diff = (struct config_diff){NULL, 0};
    d.values = open_memstream(&d.text, &d.len);
    if (!d.values)
        return -ENOMEM;
    sections_open(&d, &old, before);
    sections_open(&d, &new, after);
    if (!d.failed) {
        compare_options(&d, &config_table_top, &top, before, after);
        compare_sections(&d, &old, &new);
    }
    sections_close(&old);
    sections_close(&new);
    fclose(d.values);
    free(d.text);
    if (d.failed)
        config_diff_free(diff);
    return d.failed ? -ENOMEM : 0;
}

void config_diff_free(struct config_diff *diff)
{
    for (size_t i = 0; i < diff->n_changes; i++)
        free(diff->changes[i].text);
    free(diff->changes);
    *diff = (struct config_diff){NULL, 0};
}
