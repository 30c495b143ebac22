/* standing.c - see standing.h. */
#include "admin/standing.h"

#include "admin/queue_look.h"

#include <stdio.h>
#include <stdlib.h>

enum standing standing_of(const struct control_server *cs, uint64_t now_us)
{
    const struct server *server = cs->server;

    if (!cs->member)
        return STANDING_LEAVING;
    if (atomic_load_explicit(&server->draining, memory_order_relaxed))
        return STANDING_DRAINING;
    if (atomic_load_explicit(&server->state, memory_order_relaxed) != SERVER_UP)
        return STANDING_DOWN;
    if (atomic_load_explicit(&server->ejected_until_us, memory_order_relaxed) > now_us)
        return STANDING_EJECTED;
    if (server_weight(server, now_us, cs->pool->config->health.slow_start_us) <
        atomic_load_explicit(&server->weight, memory_order_relaxed) * SERVER_WEIGHT_UNIT)
        return STANDING_STARTING;
    return STANDING_UP;
}

const char *standing_name(enum standing standing)
{
    static const char *const names[] = {
        [STANDING_UP] = "up",           [STANDING_STARTING] = "starting",
        [STANDING_DOWN] = "down",       [STANDING_DRAINING] = "draining",
        [STANDING_EJECTED] = "ejected", [STANDING_LEAVING] = "leaving",
    };

    return names[standing];
}

static const char *why_down(const struct control_server *cs)
{
    return cs->why[0] ? cs->why : "its checks fail";
}

static void say_draining(const struct control_server *cs, char text[STANDING_TEXT_MAX])
{
    bool down = atomic_load_explicit(&cs->server->state, memory_order_relaxed) != SERVER_UP;

    snprintf(text, STANDING_TEXT_MAX, "drained %s: no new requests%s%s",
             cs->hand.set_drain ? "by hand" : "by the file", down ? "; it is down: " : "",
             down ? why_down(cs) : "");
}

static void say_ejected(const struct control_server *cs, uint64_t now_us, char text[STANDING_TEXT_MAX])
{
    uint64_t until = atomic_load_explicit(&cs->server->ejected_until_us, memory_order_relaxed);
    uint64_t left = until > now_us ? until - now_us : 0;

    snprintf(text, STANDING_TEXT_MAX, "too many requests in a row failed; it is back in %llu s",
             (unsigned long long)((left + US_PER_S - 1) / US_PER_S));
}

static void say_up(const struct control_server *cs, char text[STANDING_TEXT_MAX])
{
    const char *what = !cs->pool->config->health.active ? "not checked"
                       : cs->checks_ok                  ? "its checks pass"
                                                        : "not checked yet";

    snprintf(text, STANDING_TEXT_MAX, "%s", what);
}

void standing_reason(const struct control_server *cs, enum standing standing, uint64_t now_us,
                     char text[STANDING_TEXT_MAX])
{
    switch (standing) {
    case STANDING_UP:
        say_up(cs, text);
        break;
    case STANDING_STARTING:
        snprintf(text, STANDING_TEXT_MAX, "it came up a moment ago; its weight rises (slow-start)");
        break;
    case STANDING_DOWN:
        snprintf(text, STANDING_TEXT_MAX, "%s", why_down(cs));
        break;
    case STANDING_DRAINING:
        say_draining(cs, text);
        break;
    case STANDING_EJECTED:
        say_ejected(cs, now_us, text);
        break;
    case STANDING_LEAVING:
        snprintf(text, STANDING_TEXT_MAX, "no longer in the file, or in its name; its last requests end");
        break;
    }
}

/* ---- pools ------------------------------------------------------------------------------------------------- */

const char *level_name(enum level level)
{
    static const char *const names[] = {
        [LEVEL_UP] = "up", [LEVEL_DEGRADED] = "degraded", [LEVEL_DOWN] = "down"};

    return names[level];
}

static void count_server(struct tally *tally, enum standing standing)
{
    tally->servers++;
    tally->usable += standing == STANDING_UP || standing == STANDING_STARTING;
    tally->drained += standing == STANDING_DRAINING;
    tally->down += standing == STANDING_DOWN;
    tally->ejected += standing == STANDING_EJECTED;
}

static struct tally tally_of(const struct control_pool *cp, uint64_t now_us)
{
    struct tally tally = {0};

    for (size_t i = 0; i < cp->n_members; i++) {
        const struct list *servers = &cp->members[i]->servers;

        if (list_empty(servers))
            count_server(&tally, STANDING_DOWN);
        for (const struct list *node = servers->next; node != servers; node = node->next)
            count_server(&tally, standing_of(container_of(node, struct control_server, list), now_us));
    }
    return tally;
}

static enum level level_of(const struct tally *tally)
{
    if (!tally->usable)
        return LEVEL_DOWN;
    return tally->down || tally->ejected ? LEVEL_DEGRADED : LEVEL_UP;
}

static void mark_used(struct survey *survey, const struct config *config)
{
    for (size_t i = 0; i < config->n_http; i++)
        for (size_t j = 0; j < config->http[i].n_routes; j++)
            if (config->http[i].routes[j].action == ROUTE_POOL)
                survey->pools[config->http[i].routes[j].pool - config->pools].used = true;
    for (size_t i = 0; i < config->n_tcp; i++)
        survey->pools[config->tcp[i].pool - config->pools].used = true;
}

/* A pool that does not work matters where something uses it. */
static enum level level_of_all(const struct survey *survey, bool reload_failed)
{
    enum level worst = survey->log_failure ? LEVEL_DOWN : reload_failed ? LEVEL_DEGRADED : LEVEL_UP;

    for (size_t i = 0; i < survey->n; i++) {
        const struct survey_pool *pool = &survey->pools[i];
        enum level its = pool->used || pool->level == LEVEL_UP ? pool->level : LEVEL_DEGRADED;

        if (its > worst)
            worst = its;
    }
    return worst;
}

/* Leaves out what is not there: while a reload takes effect a pool of the configuration may not be, for a moment. */
static void close_gaps(struct survey *survey)
{
    size_t n = 0;

    for (size_t i = 0; i < survey->n; i++)
        if (survey->pools[i].pool)
            survey->pools[n++] = survey->pools[i];
    survey->n = n;
}

struct survey *survey_create(const struct system *system, uint64_t now_us)
{
    const struct config *config = system->config;
    const struct list *pools = &system->control->pools;
    size_t n = config->n_pools;
    struct survey *survey = calloc(1, sizeof *survey + n * sizeof survey->pools[0]);

    if (!survey)
        return NULL;
    survey->n = n;
    survey->log_failure = log_failure_seen(system->port);
    mark_used(survey, config);
    for (struct list *node = pools->next; node != pools; node = node->next) {
        struct control_pool *cp = container_of(node, struct control_pool, list);
        struct survey_pool *pool;

        if (cp->snapshot != config)
            continue;
        pool = &survey->pools[cp->config - config->pools];
        pool->pool = cp;
        pool->tally = tally_of(cp, now_us);
        pool->level = level_of(&pool->tally);
    }
    close_gaps(survey);
    survey->level = level_of_all(survey, system->reload_failed);
    return survey;
}

bool standing_pool_reason(const char *name, const struct tally *tally, char text[STANDING_TEXT_MAX])
{
    int n;

    if (!tally->usable && tally->drained == tally->servers) {
        snprintf(text, STANDING_TEXT_MAX, "pool %.100s has no usable server: all are drained", name);
        return true;
    }
    if (!tally->usable) {
        snprintf(text, STANDING_TEXT_MAX, "pool %.100s has no usable server", name);
        return true;
    }
    if (!tally->down && !tally->ejected)
        return false;
    n = snprintf(text, STANDING_TEXT_MAX, "pool %.100s: ", name);
    if (tally->down)
        n += snprintf(text + n, (size_t)(STANDING_TEXT_MAX - n), "%u of %u servers down%s", tally->down,
                      tally->servers, tally->ejected ? ", " : "");
    if (tally->ejected)
        snprintf(text + n, (size_t)(STANDING_TEXT_MAX - n), "%u of %u servers ejected", tally->ejected,
                 tally->servers);
    return true;
}
