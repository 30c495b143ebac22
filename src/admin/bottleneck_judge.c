/* bottleneck_judge.c - what makes a pool, a server, a queue or a gauge a bottleneck, and what to say then.
 *
 * What is said has the figures that say so. docs/admin.md has the limits below in words. */
#include <math.h>
#include <stdio.h>

#include "admin/bottleneck_private.h"
#include "base/clock.h"

#define WINDOW_S 10.0      /* of rates and percentiles */
#define RISES_MIN 3u       /* ticks, of the last 6, with refusals */
#define MEASURED_MIN 10.0  /* requests that make a percentile worth something */
#define BUSY_TIMES 3.0     /* the best p95 of the pool */
#define SLOW_TIMES 3.0     /* the p95 of others */
#define SLOWER_US 50e3     /* than these, at least */
#define BUSY_IN_FLIGHT 8.0 /* requests at each server, where nothing limits them */
#define ERRORS_MIN 3.0
#define ERRORS_SHARE 0.1 /* of a server's requests; of one among others, three times theirs */
#define GROWTH_MIN 3.0   /* messages in half of the trend, and a hundredth of what is there */

#define SERVER(server) ((server)->name.len < 100 ? (int)(server)->name.len : 100), (server)->name.ptr

static void set_name(char to[BOTTLENECK_NAME_MAX], const char *name)
{
    snprintf(to, BOTTLENECK_NAME_MAX, "%s", name);
}

static const char *plural(unsigned n)
{
    return n == 1 ? "" : "s";
}

static double per_second(const struct trend *trend, unsigned lane)
{
    return trend->n < 2 ? 0 : trend_rise(trend, lane) / trend_seconds(trend);
}

/* Times look as on the dashboard: "98 ms", "1.3 s", "3 min 20 s". */
struct time_text {
    char at[48];
};

static struct time_text tenths_text(double value, const char *unit)
{
    double tenths = round(value * 10);
    struct time_text text;

    snprintf(text.at, sizeof text.at, "%.*f %s", fmod(tenths, 10) == 0 ? 0 : 1, tenths / 10, unit);
    return text;
}

static struct time_text latency_text(double us)
{
    double ms = us / US_PER_MS;

    if (ms >= 1000)
        return tenths_text(ms / 1000, "s");
    return tenths_text(ms < 10 ? ms : round(ms), "ms");
}

static struct time_text duration_text(double seconds)
{
    static const struct {
        const char *name;
        unsigned s;
    } units[] = {{"d", 86400}, {"h", 3600}, {"min", 60}, {"s", 1}};
    unsigned long long whole = (unsigned long long)llround(seconds), rest;
    struct time_text text;
    size_t i = 0;

    if (seconds < 10)
        return tenths_text(seconds, "s");
    while (whole < units[i].s)
        i++;
    rest = units[i].s > 1 ? whole % units[i].s / units[i + 1].s : 0;
    if (rest)
        snprintf(text.at, sizeof text.at, "%llu %s %llu %s", whole / units[i].s, units[i].name, rest,
                 units[i + 1].name);
    else
        snprintf(text.at, sizeof text.at, "%llu %s", whole / units[i].s, units[i].name);
    return text;
}

/* ---- all servers of a pool --------------------------------------------------------------------------------- */

struct pool_sum {
    unsigned meant, usable, in_flight,
        limit; /* limit: requests that the usable ones may have; 0: any number */
};

static struct pool_sum sum_of(const struct bottleneck_pool *pool)
{
    struct pool_sum sum = {0};
    bool is_limited = true;

    for (size_t i = 0; i < pool->n_servers; i++) {
        const struct bottleneck_server *server = &pool->servers[i];

        sum.meant += server->usable || server->down || server->ejected;
        sum.usable += server->usable;
        sum.in_flight += server->active;
        sum.limit += server->usable ? server->max_connections : 0;
        is_limited &= !server->usable || server->max_connections > 0;
    }
    if (!is_limited)
        sum.limit = 0;
    return sum;
}

static void say_none_usable(const struct bottleneck_pool *pool, const struct pool_sum *sum,
                            struct bottleneck_finding *finding)
{
    snprintf(finding->text, sizeof finding->text,
             "pool %.100s has no usable server: %u of %u are down or ejected", pool->name, sum->meant,
             sum->meant);
    for (size_t i = 0; i < pool->n_servers; i++)
        if (pool->servers[i].down || pool->servers[i].ejected)
            bottleneck_say(&finding->figures, "%.*s: %.60s", SERVER(&pool->servers[i]),
                           pool->servers[i].reason);
    bottleneck_say(&finding->relief, "start its servers again, or name others in the file");
    bottleneck_say(&finding->relief, "a backup server that says so (backup = yes)");
}

static void say_load(const struct bottleneck_thing *thing, const struct bottleneck_pool *pool,
                     const struct pool_sum *sum, struct bottleneck_finding *finding)
{
    double refused = per_second(&thing->trend, LANE_REFUSED);

    if (sum->limit)
        bottleneck_say(&finding->figures,
                       "%u requests at %u server%s, which take %u at a time (max-connections)",
                       sum->in_flight, sum->usable, plural(sum->usable), sum->limit);
    else
        bottleneck_say(&finding->figures, "%u requests at %u server%s", sum->in_flight, sum->usable,
                       plural(sum->usable));
    if (sum->usable < sum->meant)
        bottleneck_say(&finding->figures, "%u of %u servers are usable", sum->usable, sum->meant);
    if (pool->in_line)
        bottleneck_say(&finding->figures, "%u wait in line", pool->in_line);
    if (refused > 0)
        bottleneck_say(&finding->figures, "%.1f/s are refused: the line is full, or takes too long", refused);
    if (!isnan(pool->p95_us))
        bottleneck_say(&finding->figures, "%.1f/s, p95 %s", pool->rate, latency_text(pool->p95_us).at);
}

static void say_busy(const struct bottleneck_thing *thing, const struct bottleneck_pool *pool,
                     const struct pool_sum *sum, struct bottleneck_finding *finding)
{
    say_load(thing, pool, sum, finding);
    bottleneck_say(&finding->relief, "more servers in pool %.100s", pool->name);
    if (sum->limit)
        bottleneck_say(&finding->relief, "a higher max-connections, if its servers can take more at a time");
    bottleneck_say(&finding->relief, "a cache for what is asked for often");
    bottleneck_say(&finding->relief, "a queue for what need not be answered at once");
}

/* In line at most of the last ticks, this one among them. */
static bool is_waiting(const struct trend *trend)
{
    unsigned n = 0;

    for (unsigned ago = 0; ago <= TREND_HALF && ago < trend->n; ago++)
        n += trend_figure(trend, LANE_IN_LINE, ago) > 0;
    return trend->n && trend_figure(trend, LANE_IN_LINE, 0) > 0 && n >= TREND_HALF;
}

/* Without a limit it shows in how long they take, next to how long they took when all was well. */
static bool is_slow(const struct bottleneck_thing *thing, const struct bottleneck_pool *pool,
                    const struct pool_sum *sum)
{
    double best_us = fmin(thing->least_us[0], thing->least_us[1]);

    return sum->usable && pool->rate * WINDOW_S >= MEASURED_MIN &&
           sum->in_flight >= BUSY_IN_FLIGHT * sum->usable && pool->p95_us >= BUSY_TIMES * best_us &&
           pool->p95_us >= best_us + SLOWER_US;
}

static bool has_errors(const struct bottleneck_server *server)
{
    return server->error_rate * WINDOW_S >= ERRORS_MIN && server->error_rate >= ERRORS_SHARE * server->rate;
}

/* More than half of those that were asked: whatever it is, it is not one server. */
static bool are_failing(const struct bottleneck_pool *pool, struct bottleneck_finding *finding)
{
    unsigned asked = 0, failing = 0;
    double rate = 0, error_rate = 0;

    for (size_t i = 0; i < pool->n_servers; i++) {
        const struct bottleneck_server *server = &pool->servers[i];

        if (!server->usable || !(server->rate > 0))
            continue;
        asked++;
        failing += has_errors(server);
        rate += server->rate;
        error_rate += server->error_rate;
    }
    if (2 * failing <= asked)
        return false;
    snprintf(finding->text, sizeof finding->text, "pool %.100s fails: its servers answer with errors, or not",
             pool->name);
    bottleneck_say(&finding->figures, "%.1f/s of its %.1f/s requests fail: %.0f %%", error_rate, rate,
                   error_rate / rate * 100);
    bottleneck_say(&finding->figures, "so they do at %u of %u server%s with requests", failing, asked,
                   plural(asked));
    bottleneck_say(&finding->relief,
                   "look at the servers' logs, and at what all of them need: a database, a disk");
    bottleneck_say(&finding->relief, "the last version of what they run, if this one is new");
    return true;
}

bool bottleneck_judge_pool(const struct bottleneck_thing *thing, const struct bottleneck_pool *pool,
                           struct bottleneck_finding *finding)
{
    struct pool_sum sum = sum_of(pool);

    finding->layer = BOTTLENECK_SERVERS;
    set_name(finding->name, pool->name);
    if (pool->used && sum.meant && !sum.usable) {
        say_none_usable(pool, &sum, finding);
        return true;
    }
    if (is_waiting(&thing->trend) || trend_rises(&thing->trend, LANE_REFUSED) >= RISES_MIN) {
        snprintf(finding->text, sizeof finding->text,
                 "%s of pool %.100s busy: requests wait in line or are refused",
                 sum.usable == 1 ? "the server" : "all servers", pool->name);
        say_busy(thing, pool, &sum, finding);
        return true;
    }
    if (!is_slow(thing, pool, &sum))
        return are_failing(pool, finding);
    snprintf(finding->text, sizeof finding->text,
             "%s of pool %.100s busy: answers take %.1f times as long as at best",
             sum.usable == 1 ? "the server" : "all servers", pool->name,
             pool->p95_us / fmin(thing->least_us[0], thing->least_us[1]));
    say_busy(thing, pool, &sum, finding);
    bottleneck_say(&finding->figures, "at its best in the last hour: p95 %s",
                   latency_text(fmin(thing->least_us[0], thing->least_us[1])).at);
    return true;
}

/* ---- one server among others ------------------------------------------------------------------------------- */

static bool has_usable_other(const struct bottleneck_pool *pool, const struct bottleneck_server *server)
{
    for (size_t i = 0; i < pool->n_servers; i++)
        if (pool->servers[i].usable && &pool->servers[i] != server)
            return true;
    return false;
}

/* Its errors are its own: the others have a smaller share. */
static bool is_failing(const struct bottleneck_pool *pool, const struct bottleneck_server *server,
                       struct bottleneck_finding *finding)
{
    double share = server->rate > 0 ? server->error_rate / server->rate : 0, rate = 0, error_rate = 0;

    if (!has_errors(server))
        return false;
    for (size_t i = 0; i < pool->n_servers; i++) {
        if (&pool->servers[i] == server || !pool->servers[i].usable)
            continue;
        rate += pool->servers[i].rate;
        error_rate += pool->servers[i].error_rate;
    }
    if (error_rate > rate * share / 3)
        return false;
    snprintf(finding->text, sizeof finding->text, "server %.*s of pool %.100s fails, and the others do not",
             SERVER(server), pool->name);
    bottleneck_say(&finding->figures, "%.1f/s of its %.1f/s requests fail: %.0f %%", server->error_rate,
                   server->rate, share * 100);
    bottleneck_say(&finding->figures, "at the others %.1f/s of %.1f/s", error_rate, rate);
    return true;
}

/* At least half of the others, of whom something is known, take a third of its time. */
static bool is_slower(const struct bottleneck_pool *pool, const struct bottleneck_server *server,
                      struct bottleneck_finding *finding)
{
    unsigned known = 0, fast = 0;
    double most_us = 0;

    if (server->rate * WINDOW_S < MEASURED_MIN || !(server->p95_us >= SLOWER_US))
        return false;
    for (size_t i = 0; i < pool->n_servers; i++) {
        const struct bottleneck_server *other = &pool->servers[i];

        if (other == server || !other->usable || other->rate * WINDOW_S < MEASURED_MIN ||
            isnan(other->p95_us))
            continue;
        known++;
        if (server->p95_us < SLOW_TIMES * other->p95_us || server->p95_us < other->p95_us + SLOWER_US)
            continue;
        fast++;
        most_us = fmax(most_us, other->p95_us);
    }
    if (!fast || 2 * fast < known)
        return false;
    snprintf(finding->text, sizeof finding->text, "server %.*s of pool %.100s is slow, and others are not",
             SERVER(server), pool->name);
    bottleneck_say(&finding->figures, "p95 %s; at %u other%s %s or less", latency_text(server->p95_us).at,
                   fast, plural(fast), latency_text(most_us).at);
    return true;
}

/* Put aside, or a moment ago, and back to try again. */
static bool is_ejected(const struct bottleneck_thing *thing, const struct bottleneck_server *server,
                       uint64_t now_us)
{
    return server->ejected || (thing->ejected_us && now_us - thing->ejected_us < BOTTLENECK_END_US);
}

static bool is_sick(const struct bottleneck_thing *thing, const struct bottleneck_pool *pool,
                    const struct bottleneck_server *server, uint64_t now_us,
                    struct bottleneck_finding *finding)
{
    if (server->down)
        snprintf(finding->text, sizeof finding->text, "server %.*s of pool %.100s is down: %.60s",
                 SERVER(server), pool->name, server->reason);
    else if (is_ejected(thing, server, now_us))
        snprintf(finding->text, sizeof finding->text,
                 "server %.*s of pool %.100s was put aside: too many requests in a row failed there",
                 SERVER(server), pool->name);
    else
        return is_failing(pool, server, finding) || is_slower(pool, server, finding);
    if (server->ejections)
        bottleneck_say(&finding->figures, "put aside %llu time%s since the start",
                       (unsigned long long)server->ejections, server->ejections == 1 ? "" : "s");
    return true;
}

bool bottleneck_judge_server(const struct bottleneck_thing *thing, const struct bottleneck_pool *pool,
                             const struct bottleneck_server *server, uint64_t now_us,
                             struct bottleneck_finding *finding)
{
    struct pool_sum sum;

    if ((!server->usable && !server->down && !server->ejected) || !has_usable_other(pool, server) ||
        !is_sick(thing, pool, server, now_us, finding))
        return false;
    sum = sum_of(pool);
    finding->layer = BOTTLENECK_SERVER;
    snprintf(finding->name, sizeof finding->name, "%.*s", (int)server->name.len, server->name.ptr);
    set_name(finding->pool, pool->name);
    bottleneck_say(&finding->figures, "%u of %u servers of the pool are usable", sum.usable, sum.meant);
    if (sum.in_flight)
        bottleneck_say(&finding->figures, "%u request%s under way in the pool, %u of them at this server",
                       sum.in_flight, sum.in_flight == 1 ? " is" : "s are", server->active);
    else
        bottleneck_say(&finding->figures, "no request is under way in the pool");
    bottleneck_say(&finding->relief, "look at its log and its machine");
    if (server->usable)
        bottleneck_say(&finding->relief, "drain it, so that the others take its requests");
    bottleneck_say(&finding->relief, server->down || server->ejected
                                         ? "start it again, or put another in its place"
                                         : "health checks of what it fails at (health, eject)");
    return true;
}

/* ---- queues ------------------------------------------------------------------------------------------------ */

/* In both halves of the trend, so that a burst is none; and it is more than what passes by anyway. */
static bool is_growing(const struct trend *trend, double acked)
{
    double now = trend_figure(trend, LANE_BACKLOG, 0), half = trend_figure(trend, LANE_BACKLOG, TREND_HALF);
    double then = trend_figure(trend, LANE_BACKLOG, TREND_SAMPLES - 1), least = fmax(GROWTH_MIN, now / 100);

    return trend->n == TREND_SAMPLES && now - half >= least && half - then >= least && now >= 2 * acked;
}

static void say_growth(const struct bottleneck_thing *thing, const struct bottleneck_queue *queue,
                       struct bottleneck_finding *finding)
{
    double grown = trend_rise(&thing->trend, LANE_BACKLOG);
    double turned_away = per_second(&thing->trend, LANE_TURNED_AWAY);

    bottleneck_say(&finding->figures, "%llu wait and %llu are in work; %+.0f in %.0f s",
                   (unsigned long long)queue->waiting, (unsigned long long)queue->in_flight, grown,
                   trend_seconds(&thing->trend));
    bottleneck_say(&finding->figures, "%.1f/s come, %.1f/s are acknowledged", queue->published, queue->acked);
    if (turned_away > 0)
        bottleneck_say(&finding->figures, "%.1f/s are turned away or dropped: it is at its limit",
                       turned_away);
    if (!isnan(queue->oldest_age_s))
        bottleneck_say(&finding->figures, "the oldest has waited %s", duration_text(queue->oldest_age_s).at);
}

static void say_workers(const struct bottleneck_queue *queue, const char *does,
                        struct bottleneck_finding *finding)
{
    const struct bottleneck_workers *workers = queue->workers;

    finding->layer = BOTTLENECK_WORKERS;
    set_name(finding->name, workers->name);
    bottleneck_say(&finding->figures, "%u of at most %u workers run", workers->running, workers->max);
    if (workers->held) {
        snprintf(finding->text, sizeof finding->text, "workers %.100s %.40s, and queue %.100s %s",
                 workers->name, workers->held, queue->name, does);
        bottleneck_say(&finding->figures, "%s", workers->reason);
        bottleneck_say(&finding->relief, "look at what holds them: their log, or what was set by hand");
        return;
    }
    snprintf(finding->text, sizeof finding->text,
             "workers %.100s are as many as there may be (%u), and queue %.100s %s", workers->name,
             workers->max, queue->name, does);
    bottleneck_say(&finding->relief, "a higher max of workers %.100s, while there are CPUs and memory for it",
                   workers->name);
    bottleneck_say(&finding->relief,
                   "workers on other machines, too: whoever speaks AMQP can take from the queue");
    bottleneck_say(&finding->relief, "less work for each message: a cache, or several at a time");
}

static void say_pushed(const struct bottleneck_queue *queue, const char *does,
                       struct bottleneck_finding *finding)
{
    bool rests = queue->resting && queue->resting == queue->consumers;

    set_name(finding->pool, queue->push);
    if (rests)
        snprintf(finding->text, sizeof finding->text,
                 "queue %.100s %s: pool %.100s asked for a pause, or none of its servers is usable",
                 queue->name, does, queue->push);
    else
        snprintf(finding->text, sizeof finding->text,
                 "queue %.100s %s: more comes than pool %.100s takes of it", queue->name, does, queue->push);
    bottleneck_say(&finding->relief, "a higher concurrency or rate of its push, if the pool can take more");
    bottleneck_say(&finding->relief, "more servers in pool %.100s", queue->push);
}

static void say_queue(const struct bottleneck_queue *queue, const char *does,
                      struct bottleneck_finding *finding)
{
    finding->layer = BOTTLENECK_QUEUE;
    set_name(finding->name, queue->name);
    if (queue->paused) {
        snprintf(finding->text, sizeof finding->text, "queue %.100s %s: it is paused by hand", queue->name,
                 does);
        bottleneck_say(&finding->relief, "let it go on: maitred queue resume %.100s", queue->name);
        return;
    }
    if (queue->push) {
        say_pushed(queue, does, finding);
        return;
    }
    if (!queue->consumers) {
        snprintf(finding->text, sizeof finding->text, "queue %.100s %s: nobody takes its messages",
                 queue->name, does);
        bottleneck_say(&finding->relief, "start its consumers, or let a workers section start them");
        return;
    }
    snprintf(finding->text, sizeof finding->text, "queue %.100s %s: more comes than its %u consumer%s take%s",
             queue->name, does, queue->consumers, plural(queue->consumers), queue->consumers == 1 ? "s" : "");
    bottleneck_say(&finding->relief, "more consumers, or a workers section that starts as many as it needs");
    bottleneck_say(&finding->relief, "less work for each message: a cache, or several at a time");
}

bool bottleneck_judge_queue(const struct bottleneck_thing *thing, const struct bottleneck_queue *queue,
                            struct bottleneck_finding *finding)
{
    const struct bottleneck_workers *workers = queue->workers;
    bool grows = is_growing(&thing->trend, queue->acked);
    const char *does = grows ? "grows" : "is at its limit";

    if (queue->is_store && !queue->consumers && !workers) /* it is there to keep */
        return false;
    if (!grows && trend_rises(&thing->trend, LANE_TURNED_AWAY) < RISES_MIN)
        return false;
    say_growth(thing, queue, finding);
    if (!workers || queue->paused)
        say_queue(queue, does, finding);
    else if (workers->held || workers->running >= workers->max)
        say_workers(queue, does, finding);
    else
        return false; /* there will be more of them in a moment */
    return true;
}

/* ---- gauges ------------------------------------------------------------------------------------------------ */

bool bottleneck_judge_gauge(const struct bottleneck_gauge *gauge, struct bottleneck_finding *finding)
{
    const char *space = gauge->unit[0] ? " " : "";

    if (!(gauge->value >= gauge->full))
        return false;
    finding->layer = BOTTLENECK_DATABASE;
    set_name(finding->name, gauge->name);
    snprintf(finding->text, sizeof finding->text, "%.100s is full: %g of %g%s%.40s", gauge->name,
             gauge->value, gauge->full, space, gauge->unit);
    bottleneck_say(&finding->figures, "gauge %.80s is at %g%s%.20s, and full from %g on", gauge->name,
                   gauge->value, space, gauge->unit, gauge->full);
    if (gauge->workers)
        bottleneck_say(&finding->figures,
                       "workers %.80s do not grow meanwhile; %llu messages wait or are in work",
                       gauge->workers, (unsigned long long)gauge->backlog);
    bottleneck_say(&finding->relief, "a cache in front of it, for what is read often");
    bottleneck_say(&finding->relief,
                   "fewer connections that do more: a pool of connections, as PgBouncer is");
    bottleneck_say(&finding->relief, "read replicas, or shards, so that several share what there is to do");
    return true;
}
