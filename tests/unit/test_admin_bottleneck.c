/* test_admin_bottleneck.c - admin/bottleneck.h: each situation and where it begins, how long it takes to stand and to end, and
 * which of several is told. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "admin/bottleneck.h"
#include "base/clock.h"

#define HOLD_TICKS (BOTTLENECK_HOLD_US / BOTTLENECK_TICK_US) /* after the first */
#define END_TICKS (BOTTLENECK_END_US / BOTTLENECK_TICK_US)
#define TREND_TICKS 7u /* until a queue's growth is known */
#define MS 1e3         /* of a double in microseconds */

/* The house that each tick tells of. Tests change it in between. */
static struct bottleneck_server servers[3];
static struct bottleneck_pool pool;
static struct bottleneck_workers workers;
static struct bottleneck_queue queue;
static struct bottleneck_gauge gauge;
static bool is_there; /* the queue */

static struct bottleneck bottleneck;
static uint64_t now_us;

static int begin(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++)
        servers[i] = (struct bottleneck_server){
            .name = i == 0   ? SLICE("one:80")
                    : i == 1 ? SLICE("two:80")
                             : SLICE("three:80"),
            .usable = true,
            .reason = "its checks pass",
            .rate = 10,
            .p95_us = 20 * MS,
            .active = 2,
        };
    pool = (struct bottleneck_pool){
        .name = "web", .used = true, .rate = 30, .p95_us = 20 * MS, .servers = servers, .n_servers = 3};
    workers = (struct bottleneck_workers){.name = "cooks", .running = 2, .max = 4};
    queue = (struct bottleneck_queue){
        .name = "orders", .oldest_age_s = NAN, .published = 20, .acked = 20, .consumers = 1};
    gauge = (struct bottleneck_gauge){.name = "db", .unit = "connections", .value = 5, .full = 20};
    is_there = true;
    bottleneck = (struct bottleneck){0};
    now_us = 1000 * US_PER_S;
    return 0;
}

static int end(void **state)
{
    (void)state;
    bottleneck_free(&bottleneck);
    return 0;
}

static void tick(void)
{
    now_us += BOTTLENECK_TICK_US;
    assert_true(bottleneck_is_due(&bottleneck, now_us));
    bottleneck_begin(&bottleneck, now_us);
    bottleneck_add_pool(&bottleneck, &pool);
    if (is_there)
        bottleneck_add_queue(&bottleneck, &queue);
    bottleneck_add_gauge(&bottleneck, &gauge);
    bottleneck_end(&bottleneck);
}

static void ticks(unsigned n)
{
    while (n--)
        tick();
}

static void grow(unsigned n, unsigned by)
{
    while (n--) {
        queue.waiting += by;
        tick();
    }
}

static enum bottleneck_layer layer(void)
{
    const struct bottleneck_finding *shown = bottleneck_shown(&bottleneck);

    return shown ? shown->layer : BOTTLENECK_NONE;
}

static bool says(const struct bottleneck_lines *lines, const char *text)
{
    for (size_t i = 0; i < lines->n; i++)
        if (strstr(lines->at[i], text))
            return true;
    return false;
}

/* What is told is of that layer and name, and has these words in it. */
static void assert_told(enum bottleneck_layer wanted, const char *name, const char *text, const char *figure,
                        const char *relief)
{
    const struct bottleneck_finding *shown = bottleneck_shown(&bottleneck);

    assert_non_null(shown);
    assert_string_equal(bottleneck_layer_names[shown->layer], bottleneck_layer_names[wanted]);
    assert_string_equal(shown->name, name);
    if (!strstr(shown->text, text))
        fail_msg("%s: not in: %s", text, shown->text);
    if (!says(&shown->figures, figure))
        fail_msg("%s: not in its figures: %s...", figure, shown->figures.at[0]);
    if (!says(&shown->relief, relief))
        fail_msg("%s: not in its relief: %s...", relief, shown->relief.at[0]);
}

static void assert_none(void)
{
    const struct bottleneck_finding *shown = bottleneck_shown(&bottleneck);

    if (shown)
        fail_msg("there is one: %s", shown->text);
}

/* ---- how long ---------------------------------------------------------------------------------------------- */

static void where_all_is_well_there_is_none(void **state)
{
    (void)state;
    ticks(30);
    assert_none();
}

static void it_is_due_every_two_seconds(void **state)
{
    (void)state;
    assert_true(bottleneck_is_due(&bottleneck, now_us));
    tick();
    assert_false(bottleneck_is_due(&bottleneck, now_us + US_PER_S + 100 * US_PER_MS));
    assert_true(bottleneck_is_due(&bottleneck,
                                  now_us + BOTTLENECK_TICK_US - 100 * US_PER_MS)); /* this one was late */
}

static void it_has_to_hold_for_four_seconds_and_to_end_for_ten(void **state)
{
    (void)state;
    gauge.value = 20;
    ticks(HOLD_TICKS);
    assert_none();
    tick();
    assert_int_equal(layer(), BOTTLENECK_DATABASE);
    gauge.value = 19;
    ticks(END_TICKS - 1);
    assert_int_equal(layer(), BOTTLENECK_DATABASE);
    tick();
    assert_none();
    gauge.value = 20; /* it begins anew */
    ticks(HOLD_TICKS);
    assert_none();
}

static void what_is_told_and_does_not_hold_any_more_says_since_when(void **state)
{
    (void)state;
    gauge.value = 20;
    servers[0].usable = false;
    servers[0].down = true;
    ticks(HOLD_TICKS + 1);
    assert_int_equal(layer(), BOTTLENECK_DATABASE);
    assert_true(bottleneck_shown(&bottleneck)->ended_s == 0);
    assert_true(bottleneck_other(&bottleneck, 0)->ended_s == 0);
    gauge.value = 19;
    tick();
    assert_true(bottleneck_shown(&bottleneck)->ended_s == 2);
    ticks(END_TICKS - 2);
    assert_int_equal(layer(), BOTTLENECK_DATABASE);
    assert_true(bottleneck_shown(&bottleneck)->ended_s == 8);
    assert_true(bottleneck_other(&bottleneck, 0)->ended_s == 0);
    gauge.value = 20;
    tick();
    assert_true(bottleneck_shown(&bottleneck)->ended_s == 0);
}

static void what_comes_and_goes_before_it_stands_is_none(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 30; i++) {
        gauge.value = i % 3 ? 20 : 5;
        tick();
        assert_none();
    }
}

static void what_stands_and_falters_goes_on(void **state)
{
    (void)state;
    gauge.value = 20;
    ticks(HOLD_TICKS + 1);
    for (unsigned i = 0; i < 30; i++) {
        gauge.value = i % 5 ? 5 : 20;
        tick();
        assert_int_equal(layer(), BOTTLENECK_DATABASE);
    }
}

static void what_is_not_there_any_more_is_forgotten(void **state)
{
    (void)state;
    grow(20, 10);
    assert_int_equal(layer(), BOTTLENECK_QUEUE);
    is_there = false;
    tick();
    assert_none();
}

static void of_too_many_things_the_first_are_looked_at(void **state)
{
    char name[32];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        now_us += BOTTLENECK_TICK_US;
        bottleneck_begin(&bottleneck, now_us);
        for (unsigned j = 0; j < BOTTLENECK_THINGS_MAX + 10; j++) {
            snprintf(name, sizeof name, "gauge%u", j);
            bottleneck_add_gauge(&bottleneck,
                                 &(struct bottleneck_gauge){.name = name, .unit = "", .value = 1, .full = 1});
        }
        bottleneck_end(&bottleneck);
    }
    assert_int_equal(bottleneck.n, BOTTLENECK_THINGS_MAX);
    assert_string_equal(bottleneck_shown(&bottleneck)->name, "gauge0");
}

/* ---- servers ----------------------------------------------------------------------------------------------- */

static void a_line_that_stays_means_that_all_servers_are_busy(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++)
        servers[i].active = servers[i].max_connections = 4;
    pool.in_line = 7;
    ticks(8);
    assert_told(BOTTLENECK_SERVERS, "web", "all servers of pool web busy", "7 wait in line",
                "more servers in pool web");
    assert_told(BOTTLENECK_SERVERS, "web", "busy", "12 requests at 3 servers, which take 12",
                "higher max-connections");
    pool.in_line = 0;
    ticks(END_TICKS + 1);
    assert_none();
}

static void a_moment_in_line_is_none(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 30; i++) {
        pool.in_line = i % 4 == 0 ? 20 : 0;
        tick();
        assert_none();
    }
}

static void refusals_that_go_on_mean_that_all_servers_are_busy(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++) {
        pool.refused += 3;
        tick();
    }
    assert_told(BOTTLENECK_SERVERS, "web", "busy", "1.5/s are refused", "a queue");
    ticks(6 + END_TICKS);
    assert_none();
}

static void a_few_refusals_at_once_are_none(void **state)
{
    (void)state;
    tick();
    for (unsigned i = 0; i < 30; i++) {
        pool.refused += i == 3 || i == 4 || i == 20 ? 500 : 0;
        tick();
        assert_none();
    }
}

static void busy_all(double p95_us, unsigned active)
{
    for (size_t i = 0; i < 3; i++) {
        servers[i].p95_us = p95_us;
        servers[i].active = active;
    }
    pool.p95_us = p95_us;
}

static void without_a_limit_it_shows_in_how_long_answers_take(void **state)
{
    (void)state;
    ticks(5);
    busy_all(100 * MS, 8);
    ticks(HOLD_TICKS + 1);
    assert_told(BOTTLENECK_SERVERS, "web", "5.0 times as long", "p95 100 ms", "a cache");
    assert_told(BOTTLENECK_SERVERS, "web", "busy", "24 requests at 3 servers", "more servers");
    busy_all(20 * MS, 2);
    ticks(END_TICKS);
    assert_none();
}

static void slow_answers_alone_are_none(void **state)
{
    const struct {
        double p95_us, rate;
        unsigned active;
    } all[] = {
        {100 * MS, 30, 7},   /* few at a time */
        {69 * MS, 30, 50},   /* a little slower */
        {100 * MS, 0.9, 50}, /* measured of nine requests */
        {NAN, 0, 50},
    };

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        busy_all(20 * MS, 2);
        pool.rate = 30;
        ticks(3);
        busy_all(all[i].p95_us, all[i].active);
        pool.rate = all[i].rate;
        ticks(10);
        assert_none();
    }
}

static void what_was_always_slow_is_no_news(void **state)
{
    (void)state;
    busy_all(500 * MS, 50);
    ticks(20);
    assert_none();
}

static void what_is_slow_for_an_hour_is_how_it_is(void **state)
{
    (void)state;
    ticks(5);
    busy_all(500 * MS, 50);
    ticks(60);
    assert_int_equal(layer(), BOTTLENECK_SERVERS);
    ticks(1830);
    assert_none();
}

static void a_pool_without_a_usable_server_is_one(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        servers[i].usable = false;
        servers[i].down = i != 2;
        servers[i].ejected = i == 2;
        servers[i].reason = "Connection refused";
    }
    ticks(4);
    assert_told(BOTTLENECK_SERVERS, "web", "no usable server: 3 of 3", "one:80: Connection refused", "start");
    pool.used = false; /* nobody misses it */
    ticks(END_TICKS + 1);
    assert_none();
}

static void a_pool_that_is_drained_is_none(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++)
        servers[i].usable = false;
    ticks(10);
    assert_none();
}

/* ---- a server ---------------------------------------------------------------------------------------------- */

static void a_server_that_is_down_among_others_is_one(void **state)
{
    (void)state;
    servers[1].usable = false;
    servers[1].down = true;
    servers[1].reason = "Connection refused";
    ticks(4);
    assert_told(BOTTLENECK_SERVER, "two:80", "server two:80 of pool web is down: Connection refused",
                "2 of 3 servers", "start it again");
    assert_string_equal(bottleneck_shown(&bottleneck)->pool, "web");
    servers[1].usable = true;
    servers[1].down = false;
    ticks(END_TICKS + 1);
    assert_none();
}

static void a_server_that_is_ejected_and_comes_back_to_fail_again_is_one(void **state)
{
    (void)state;
    servers[2].ejections = 5; /* long ago */
    ticks(10);
    assert_none();
    for (unsigned i = 0; i < 20; i++) {
        servers[2].ejected = i % 5 == 0;
        servers[2].usable = !servers[2].ejected;
        servers[2].ejections += servers[2].ejected;
        tick();
        if (i > 3)
            assert_told(BOTTLENECK_SERVER, "three:80", "was put aside", "time", "log");
    }
    ticks(2 * END_TICKS);
    assert_none();
}

static void a_server_that_fails_where_others_do_not_is_one(void **state)
{
    (void)state;
    servers[0].error_rate = 1;
    ticks(4);
    assert_told(BOTTLENECK_SERVER, "one:80", "server one:80 of pool web fails",
                "1.0/s of its 10.0/s requests fail: 10 %", "drain it");
    servers[0].error_rate = 0.9;
    ticks(END_TICKS);
    assert_none();
}

static void errors_that_are_few_are_none(void **state)
{
    (void)state;
    servers[0].rate = 0.5;
    servers[0].error_rate = 0.2; /* two */
    ticks(10);
    assert_none();
    for (size_t i = 0; i < 3; i++) {
        servers[i].rate = 10;
        servers[i].error_rate = 0.9;
    }
    ticks(10);
    assert_none();
    for (size_t i = 0; i < 3; i++)
        servers[i].error_rate = servers[i].rate = 0;
    ticks(10);
    assert_none();
}

static void errors_at_more_than_half_of_the_servers_are_the_pools(void **state)
{
    (void)state;
    servers[1].error_rate = servers[2].error_rate = 3;
    ticks(4);
    assert_told(BOTTLENECK_SERVERS, "web", "pool web fails", "6.0/s of its 30.0/s requests fail: 20 %",
                "what all of them need");
    assert_told(BOTTLENECK_SERVERS, "web", "fails", "at 2 of 3 servers with requests", "the last version");
    servers[1].error_rate = 0.9;
    ticks(END_TICKS);
    assert_int_equal(layer(), BOTTLENECK_SERVER); /* the other one */
}

static void a_lone_server_that_fails_is_its_pool(void **state)
{
    (void)state;
    servers[1].rate = servers[2].rate = 0; /* nobody asks them */
    servers[0].error_rate = 10;
    ticks(4);
    assert_told(BOTTLENECK_SERVER, "one:80", "fails", "100 %", "drain it");
    pool.n_servers = 1;
    ticks(END_TICKS);
    assert_told(BOTTLENECK_SERVERS, "web", "pool web fails", "at 1 of 1 server with",
                "what all of them need");
}

static void a_server_that_is_slower_than_others_is_one(void **state)
{
    (void)state;
    servers[0].p95_us = 70 * MS;
    ticks(4);
    assert_told(BOTTLENECK_SERVER, "one:80", "is slow", "p95 70 ms; at 2 others 20 ms or less", "drain it");
    servers[0].p95_us = 69 * MS;
    ticks(END_TICKS);
    assert_none();
}

/* "1.3 s", and not "1332 ms". */
static void times_are_as_on_the_dashboard(void **state)
{
    static const struct {
        double us;
        const char *text;
    } cases[] = {{999 * MS, "p95 999 ms; at 2 others 20 ms or less"},
                 {1000 * MS, "p95 1 s; at 2 others 20 ms or less"},
                 {1332 * MS, "p95 1.3 s; at 2 others 20 ms or less"},
                 {72.4 * MS, "p95 72 ms; at 2 others 20 ms or less"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        servers[0].p95_us = cases[i].us;
        ticks(4);
        assert_told(BOTTLENECK_SERVER, "one:80", "is slow", cases[i].text, "drain it");
    }
    servers[1].p95_us = servers[2].p95_us = 3.96 * MS;
    tick();
    assert_told(BOTTLENECK_SERVER, "one:80", "is slow", "at 2 others 4 ms or less", "drain it");
    servers[1].p95_us = servers[2].p95_us = 3.94 * MS;
    tick();
    assert_told(BOTTLENECK_SERVER, "one:80", "is slow", "at 2 others 3.9 ms or less", "drain it");
}

static void the_requests_at_a_server_are_told_of_those_in_the_pool(void **state)
{
    (void)state;
    servers[0].usable = false;
    servers[0].down = true;
    servers[0].active = 0;
    ticks(4);
    assert_told(BOTTLENECK_SERVER, "one:80", "is down",
                "4 requests are under way in the pool, 0 of them at this server", "log");
    servers[0].active = 1;
    servers[1].active = servers[2].active = 0;
    tick();
    assert_told(BOTTLENECK_SERVER, "one:80", "is down",
                "1 request is under way in the pool, 1 of them at this server", "log");
    servers[0].active = 0;
    tick();
    assert_told(BOTTLENECK_SERVER, "one:80", "is down", "no request is under way in the pool", "log");
}

static void of_two_servers_one_may_be_slow_and_of_three_two_not(void **state)
{
    (void)state;
    pool.n_servers = 2;
    servers[0].p95_us = 500 * MS;
    ticks(4);
    assert_int_equal(layer(), BOTTLENECK_SERVER);
    pool.n_servers = 3;
    servers[2].p95_us = 510 * MS;
    ticks(END_TICKS);
    assert_told(BOTTLENECK_SERVER, "one:80", "is slow", "at 1 other",
                "log"); /* half of the others are fast */
    servers[1].p95_us = 490 * MS;
    ticks(END_TICKS);
    assert_none();
}

static void slowness_of_a_few_requests_is_none(void **state)
{
    (void)state;
    servers[0].p95_us = 5000 * MS;
    servers[0].rate = 0.9;
    ticks(10);
    assert_none();
    servers[0].rate = 10; /* nobody to compare with */
    servers[1].rate = servers[2].rate = 0.9;
    ticks(10);
    assert_none();
}

static void a_lone_server_is_all_of_them(void **state)
{
    (void)state;
    pool.n_servers = 1;
    servers[0].usable = false;
    servers[0].down = true;
    servers[0].reason = "Connection refused";
    ticks(4);
    assert_told(BOTTLENECK_SERVERS, "web", "no usable server", "one:80", "backup");
}

/* ---- queues ------------------------------------------------------------------------------------------------ */

static void a_queue_that_grows_is_one(void **state)
{
    (void)state;
    queue.acked = 10;
    queue.oldest_age_s = 9;
    grow(TREND_TICKS + HOLD_TICKS - 1, 20);
    assert_none();
    grow(1, 20);
    assert_told(BOTTLENECK_QUEUE, "orders", "queue orders grows: more comes than its 1 consumer takes",
                "20.0/s come, 10.0/s are acknowledged", "more consumers");
    assert_told(BOTTLENECK_QUEUE, "orders", "grows", "180 wait and 0 are in work; +120 in 12 s",
                "workers section");
    assert_told(BOTTLENECK_QUEUE, "orders", "grows", "the oldest has waited 9 s", "cache");
    queue.oldest_age_s = 200.4;
    grow(1, 20);
    assert_told(BOTTLENECK_QUEUE, "orders", "grows", "the oldest has waited 3 min 20 s", "cache");
    queue.oldest_age_s = 7260;
    grow(1, 20);
    assert_told(BOTTLENECK_QUEUE, "orders", "grows", "the oldest has waited 2 h 1 min", "cache");
    queue.oldest_age_s = 86400;
    grow(1, 20);
    assert_told(BOTTLENECK_QUEUE, "orders", "grows", "the oldest has waited 1 d", "cache");
    grow(END_TICKS + 3, 0);
    assert_none();
}

static void a_queue_that_gets_less_is_none_however_long_it_is(void **state)
{
    (void)state;
    queue.waiting = 100000;
    for (unsigned i = 0; i < 30; i++) {
        queue.waiting -= 5;
        tick();
        assert_none();
    }
}

static void a_burst_is_none(void **state)
{
    (void)state;
    ticks(TREND_TICKS);
    queue.waiting = 10000;
    for (unsigned i = 0; i < 30; i++) {
        tick();
        assert_none();
        queue.waiting -= 10;
    }
}

static void growth_begins_at_three_messages_or_a_hundredth_in_six_seconds(void **state)
{
    (void)state;
    queue.acked = 0;
    grow(20, 1);
    assert_int_equal(layer(), BOTTLENECK_QUEUE);
    queue.waiting = 1000; /* 1 % is 10 */
    grow(20, 3);
    assert_none();
    grow(20, 4);
    assert_int_equal(layer(), BOTTLENECK_QUEUE);
}

static void what_passes_by_in_two_seconds_is_no_backlog(void **state)
{
    (void)state;
    queue.acked = 1000;
    grow(20, 90);
    assert_none();
    grow(6, 90);
    assert_int_equal(layer(), BOTTLENECK_QUEUE);
}

static void messages_at_consumers_count(void **state)
{
    (void)state;
    queue.acked = 1;
    for (unsigned i = 0; i < 10; i++) {
        queue.in_flight += 5;
        tick();
    }
    assert_told(BOTTLENECK_QUEUE, "orders", "grows", "0 wait and 50 are in work", "consumers");
}

static void a_queue_says_why_nobody_takes(void **state)
{
    (void)state;
    queue.acked = 0;
    queue.consumers = 0;
    grow(10, 10);
    assert_told(BOTTLENECK_QUEUE, "orders", "queue orders grows: nobody takes its messages", "wait",
                "start its consumers");
    queue.paused = true;
    grow(1, 10);
    assert_told(BOTTLENECK_QUEUE, "orders", "queue orders grows: it is paused by hand", "wait",
                "maitred queue resume orders");
    queue.paused = false;
    queue.push = "kitchen";
    queue.consumers = 1;
    grow(1, 10);
    assert_told(BOTTLENECK_QUEUE, "orders", "more comes than pool kitchen takes of it", "wait",
                "concurrency");
    queue.resting = 1;
    grow(1, 10);
    assert_told(BOTTLENECK_QUEUE, "orders", "pool kitchen asked for a pause, or none", "wait",
                "more servers in pool kitchen");
}

static void a_queue_at_its_limit_is_one(void **state)
{
    (void)state;
    queue.waiting = 100;
    for (unsigned i = 0; i < 10; i++) {
        queue.refused += i % 2;
        queue.dropped += i % 2 ? 0 : 19;
        tick();
    }
    assert_told(BOTTLENECK_QUEUE, "orders", "queue orders is at its limit: more comes",
                "5.0/s are turned away or dropped", "more consumers");
}

static void dead_letters_that_nobody_takes_are_none(void **state)
{
    (void)state;
    queue.is_store = true;
    queue.consumers = 0;
    queue.acked = 0;
    grow(20, 10);
    assert_none();
    queue.consumers = 1;
    grow(HOLD_TICKS + 1, 10);
    assert_int_equal(layer(), BOTTLENECK_QUEUE);
}

/* ---- workers ----------------------------------------------------------------------------------------------- */

static void workers_at_their_most_are_one_while_the_queue_grows(void **state)
{
    (void)state;
    queue.workers = &workers;
    grow(20, 30);
    assert_none(); /* there will be more of them */
    workers.running = 4;
    grow(HOLD_TICKS + 1, 30);
    assert_told(BOTTLENECK_WORKERS, "cooks",
                "workers cooks are as many as there may be (4), and queue orders grows",
                "4 of at most 4 workers run", "a higher max of workers cooks");
    grow(END_TICKS + 3, 0);
    assert_none();
}

static void workers_at_their_most_are_none_while_they_keep_up(void **state)
{
    (void)state;
    queue.workers = &workers;
    queue.waiting = 5000;
    workers.running = 4;
    ticks(30);
    assert_none();
}

static void workers_that_are_held_are_one_and_say_what_holds_them(void **state)
{
    (void)state;
    queue.workers = &workers;
    workers.held = "crash";
    workers.reason = "exit code 1";
    grow(10, 30);
    assert_told(BOTTLENECK_WORKERS, "cooks", "crash", "exit code 1", "log");
    assert_told(BOTTLENECK_WORKERS, "cooks", "workers cooks crash, and queue orders grows", "2 of at most 4",
                "log");
}

/* ---- gauges ------------------------------------------------------------------------------------------------ */

static void a_full_gauge_is_the_database(void **state)
{
    (void)state;
    gauge.value = 19.9;
    ticks(10);
    assert_none();
    gauge.value = 20;
    gauge.workers = "cooks";
    gauge.backlog = 77;
    ticks(HOLD_TICKS + 1);
    assert_told(BOTTLENECK_DATABASE, "db", "db is full: 20 of 20 connections", "is at 20 connections",
                "a cache");
    assert_told(BOTTLENECK_DATABASE, "db", "full", "workers cooks do not grow meanwhile; 77 messages",
                "shards");
    gauge.value = NAN; /* nobody tells it any more */
    ticks(END_TICKS);
    assert_none();
}

/* ---- several ----------------------------------------------------------------------------------------------- */

static void of_several_the_deepest_is_told_and_the_others_are_there(void **state)
{
    const struct bottleneck_finding *other;

    (void)state;
    pool.in_line = 5;
    servers[0].usable = false;
    servers[0].down = true;
    queue.workers = &workers;
    workers.running = 4;
    gauge.value = 20;
    grow(12, 30);
    assert_int_equal(layer(), BOTTLENECK_DATABASE);
    for (size_t i = 0; i < 3; i++) {
        other = bottleneck_other(&bottleneck, i);
        assert_non_null(other);
        assert_int_not_equal(other->layer, BOTTLENECK_DATABASE);
    }
    assert_null(bottleneck_other(&bottleneck, 3));
    gauge.value = 5;
    grow(END_TICKS, 30);
    assert_int_equal(layer(), BOTTLENECK_WORKERS);
    queue.workers = NULL;
    grow(1, 30);
    assert_int_equal(layer(), BOTTLENECK_QUEUE);
    grow(END_TICKS + 4, 0);
    assert_int_equal(layer(), BOTTLENECK_SERVER);
    servers[0].usable = true;
    servers[0].down = false;
    ticks(END_TICKS);
    assert_int_equal(layer(), BOTTLENECK_SERVERS);
    pool.in_line = 0;
    ticks(END_TICKS);
    assert_none();
}

static void a_queue_is_explained_by_the_pool_that_it_is_pushed_to(void **state)
{
    (void)state;
    queue.push = "web";
    grow(12, 30);
    assert_int_equal(layer(), BOTTLENECK_QUEUE);
    pool.in_line = 5;
    grow(6, 30);
    assert_told(BOTTLENECK_SERVERS, "web", "busy", "5 wait in line", "more servers");
    assert_int_equal(bottleneck_other(&bottleneck, 0)->layer, BOTTLENECK_QUEUE);
    pool.in_line = 0;
    servers[0].usable = false;
    servers[0].ejected = true;
    grow(6, 30);
    assert_told(BOTTLENECK_SERVER, "one:80", "put aside", "2 of 3", "start it again");
    queue.push = "kitchen"; /* another one */
    grow(1, 30);
    assert_int_equal(layer(), BOTTLENECK_QUEUE);
}

static void of_two_that_are_as_deep_the_one_that_is_told_stays(void **state)
{
    (void)state;
    servers[2].usable = false;
    servers[2].down = true;
    ticks(4);
    assert_string_equal(bottleneck_shown(&bottleneck)->name, "three:80");
    servers[1].usable = false;
    servers[1].down = true;
    ticks(10);
    assert_string_equal(bottleneck_shown(&bottleneck)->name, "three:80");
    servers[2].usable = true;
    servers[2].down = false;
    ticks(END_TICKS);
    assert_string_equal(bottleneck_shown(&bottleneck)->name, "two:80");
}

int main(void)
{
#define ONE(test) cmocka_unit_test_setup_teardown(test, begin, end)
    const struct CMUnitTest tests[] = {
        ONE(where_all_is_well_there_is_none),
        ONE(it_is_due_every_two_seconds),
        ONE(it_has_to_hold_for_four_seconds_and_to_end_for_ten),
        ONE(what_is_told_and_does_not_hold_any_more_says_since_when),
        ONE(what_comes_and_goes_before_it_stands_is_none),
        ONE(what_stands_and_falters_goes_on),
        ONE(what_is_not_there_any_more_is_forgotten),
        ONE(of_too_many_things_the_first_are_looked_at),
        ONE(a_line_that_stays_means_that_all_servers_are_busy),
        ONE(a_moment_in_line_is_none),
        ONE(refusals_that_go_on_mean_that_all_servers_are_busy),
        ONE(a_few_refusals_at_once_are_none),
        ONE(without_a_limit_it_shows_in_how_long_answers_take),
        ONE(slow_answers_alone_are_none),
        ONE(what_was_always_slow_is_no_news),
        ONE(what_is_slow_for_an_hour_is_how_it_is),
        ONE(a_pool_without_a_usable_server_is_one),
        ONE(a_pool_that_is_drained_is_none),
        ONE(a_server_that_is_down_among_others_is_one),
        ONE(a_server_that_is_ejected_and_comes_back_to_fail_again_is_one),
        ONE(a_server_that_fails_where_others_do_not_is_one),
        ONE(errors_that_are_few_are_none),
        ONE(errors_at_more_than_half_of_the_servers_are_the_pools),
        ONE(a_lone_server_that_fails_is_its_pool),
        ONE(a_server_that_is_slower_than_others_is_one),
        ONE(times_are_as_on_the_dashboard),
        ONE(the_requests_at_a_server_are_told_of_those_in_the_pool),
        ONE(of_two_servers_one_may_be_slow_and_of_three_two_not),
        ONE(slowness_of_a_few_requests_is_none),
        ONE(a_lone_server_is_all_of_them),
        ONE(a_queue_that_grows_is_one),
        ONE(a_queue_that_gets_less_is_none_however_long_it_is),
        ONE(a_burst_is_none),
        ONE(growth_begins_at_three_messages_or_a_hundredth_in_six_seconds),
        ONE(what_passes_by_in_two_seconds_is_no_backlog),
        ONE(messages_at_consumers_count),
        ONE(a_queue_says_why_nobody_takes),
        ONE(a_queue_at_its_limit_is_one),
        ONE(dead_letters_that_nobody_takes_are_none),
        ONE(workers_at_their_most_are_one_while_the_queue_grows),
        ONE(workers_at_their_most_are_none_while_they_keep_up),
        ONE(workers_that_are_held_are_one_and_say_what_holds_them),
        ONE(a_full_gauge_is_the_database),
        ONE(of_several_the_deepest_is_told_and_the_others_are_there),
        ONE(a_queue_is_explained_by_the_pool_that_it_is_pushed_to),
        ONE(of_two_that_are_as_deep_the_one_that_is_told_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
