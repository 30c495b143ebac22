/* test_health.c - rise and fall, the pauses between checks, and ejection. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "balance/health.h"

#define SECOND 1000000u
#define START (100u * SECOND)

/* --- active checks --- */

static const struct config_health CHECKS = {
    .rise = 2, .fall = 3, .interval_us = 10 * SECOND, .fast_interval_us = 1 * SECOND};

/* Feeds results, '+' or '-'; returns what came of the last. */
static enum health_change feed(struct health *health, const char *results)
{
    enum health_change change = HEALTH_NONE;

    for (; *results; results++)
        change = health_result(health, *results == '+');
    return change;
}

static void the_first_check_decides_at_once(void **state)
{
    struct health health;

    (void)state;
    health_init(&health, &CHECKS, true);
    assert_int_equal(feed(&health, "-"), HEALTH_WENT_DOWN);
    health_init(&health, &CHECKS, false);
    assert_int_equal(feed(&health, "+"), HEALTH_WENT_UP);
    health_init(&health, &CHECKS, true);
    assert_int_equal(feed(&health, "+"), HEALTH_NONE);
    health_init(&health, &CHECKS, false);
    assert_int_equal(feed(&health, "-"), HEALTH_NONE);
}

static void after_the_first_check_a_single_result_decides_nothing(void **state)
{
    struct health health;

    (void)state;
    health_init(&health, &CHECKS, true);
    feed(&health, "+");
    assert_int_equal(feed(&health, "-"), HEALTH_NONE);
    assert_true(health.up);
}

static void fall_failures_in_a_row_take_a_server_down_once(void **state)
{
    struct health health;

    (void)state;
    health_init(&health, &CHECKS, true);
    assert_int_equal(feed(&health, "+--"), HEALTH_NONE);
    assert_int_equal(feed(&health, "-"), HEALTH_WENT_DOWN);
    assert_int_equal(feed(&health, "-"), HEALTH_NONE);
}

static void a_success_in_between_begins_the_row_anew(void **state)
{
    struct health health;

    (void)state;
    health_init(&health, &CHECKS, true);
    assert_int_equal(feed(&health, "+--+--"), HEALTH_NONE);
    assert_true(health.up);
    assert_int_equal(feed(&health, "-"), HEALTH_WENT_DOWN);
}

static void rise_successes_in_a_row_bring_it_up(void **state)
{
    struct health health;

    (void)state;
    health_init(&health, &CHECKS, true);
    assert_int_equal(feed(&health, "-+-+"), HEALTH_NONE);
    assert_false(health.up);
    assert_int_equal(feed(&health, "+"), HEALTH_WENT_UP);
    assert_int_equal(feed(&health, "+"), HEALTH_NONE);
}

/* The least and the greatest of many pauses. */
static void pauses(const struct health *health, uint64_t *least, uint64_t *greatest)
{
    struct rng rng = {5};

    *least = UINT64_MAX;
    *greatest = 0;
    for (int i = 0; i < 10000; i++) {
        uint64_t pause = health_next_delay_us(health, &CHECKS, &rng);

        *least = pause < *least ? pause : *least;
        *greatest = pause > *greatest ? pause : *greatest;
    }
}

static void pauses_spread_by_a_fifth_either_way(void **state)
{
    struct health health;
    uint64_t least, greatest;

    (void)state;
    health_init(&health, &CHECKS, true);
    feed(&health, "+");
    pauses(&health, &least, &greatest);
    assert_in_range(least, 8 * SECOND, 8 * SECOND + SECOND / 50);
    assert_in_range(greatest, 12 * SECOND - SECOND / 50, 12 * SECOND);
}

static void pauses_are_short_only_while_the_state_is_in_doubt(void **state)
{
    struct health health;
    uint64_t least, greatest;

    (void)state;
    health_init(&health, &CHECKS, true);
    feed(&health, "+-");
    pauses(&health, &least, &greatest);
    assert_in_range(least, SECOND * 8 / 10, SECOND);
    assert_in_range(greatest, SECOND, SECOND * 12 / 10);
    feed(&health, "--");
    pauses(&health, &least, &greatest);
    assert_true(least >= 8 * SECOND);
    feed(&health, "+");
    pauses(&health, &least, &greatest);
    assert_true(greatest <= SECOND * 12 / 10);
    feed(&health, "+");
    pauses(&health, &least, &greatest);
    assert_true(least >= 8 * SECOND);
}

static void the_first_check_does_not_wait(void **state)
{
    struct health health;
    struct rng rng = {5};

    (void)state;
    health_init(&health, &CHECKS, true);
    assert_int_equal(health_next_delay_us(&health, &CHECKS, &rng), 0);
}

/* --- ejection --- */

static const struct config_ejection EJECT = {
    .failures = 5, .time_us = 10 * SECOND, .time_most_us = 35 * SECOND, .share_percent = 50};

struct pool {
    struct server *servers[8];
    size_t n;
    struct roster *roster;
};

static void pool_open(struct pool *pool, size_t n, size_t n_backups)
{
    const struct endpoint endpoint = {.len = 0};

    pool->n = n;
    for (size_t i = 0; i < n; i++) {
        const char name[] = {(char)('a' + (int)i), 0};
        const struct config_server config = {.name = name, .weight = 1, .backup = i >= n - n_backups};

        pool->servers[i] = server_create(&config, 0, &endpoint, 1);
        assert_non_null(pool->servers[i]);
    }
    pool->roster = roster_create(pool->servers, NULL, n, BALANCE_ROUND_ROBIN, 160);
    assert_non_null(pool->roster);
}

static void pool_close(struct pool *pool)
{
    roster_unref(pool->roster);
    for (size_t i = 0; i < pool->n; i++)
        server_unref(pool->servers[i]);
}

/* A row of failures just long enough; whether it ejected. */
static bool fail_row(struct pool *pool, size_t index, uint64_t now_us)
{
    struct server *server = pool->servers[index];

    for (unsigned i = 1; i < EJECT.failures; i++) {
        server_observe_failure(server, now_us);
        assert_false(eject_apply(pool->roster, server, now_us, &EJECT));
    }
    server_observe_failure(server, now_us);
    return eject_apply(pool->roster, server, now_us, &EJECT);
}

static uint64_t ejected_for(const struct pool *pool, size_t index, uint64_t now_us)
{
    return pool->servers[index]->ejected_until_us - now_us;
}

static void failures_in_a_row_eject_for_a_time(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, 4, 0);
    assert_true(fail_row(&pool, 0, START));
    assert_false(server_usable(pool.servers[0], START + 10 * SECOND - 1));
    assert_true(server_usable(pool.servers[0], START + 10 * SECOND));
    pool_close(&pool);
}

static void a_success_in_between_saves_the_server(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, 4, 0);
    for (int i = 0; i < 100; i++) {
        server_observe_failure(pool.servers[0], START);
        assert_false(eject_apply(pool.roster, pool.servers[0], START, &EJECT));
        if (i % 4 == 3)
            server_observe(pool.servers[0], 1000, START);
    }
    pool_close(&pool);
}

static void deciding_changes_nothing(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, 4, 0);
    pool.servers[0]->failures_in_row = 5;
    assert_true(eject_decide(pool.roster, pool.servers[0], START, &EJECT) == START + 10 * SECOND);
    assert_true(eject_decide(pool.roster, pool.servers[0], START, &EJECT) == START + 10 * SECOND);
    assert_true(server_usable(pool.servers[0], START));
    assert_int_equal(pool.servers[0]->failures_in_row, 5);
    pool_close(&pool);
}

static void ejection_can_be_off(void **state)
{
    const struct config_ejection off = {
        .failures = 0, .time_us = SECOND, .time_most_us = SECOND, .share_percent = 100};
    struct pool pool;

    (void)state;
    pool_open(&pool, 4, 0);
    pool.servers[0]->failures_in_row = 1000;
    assert_true(eject_decide(pool.roster, pool.servers[0], START, &off) == 0);
    pool_close(&pool);
}

static void no_more_than_the_share_is_ejected_at_a_time(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, 5, 0);
    assert_true(fail_row(&pool, 0, START));
    assert_true(fail_row(&pool, 1, START));
    assert_false(fail_row(&pool, 2, START));
    assert_true(server_usable(pool.servers[2], START));
    assert_true(eject_apply(pool.roster, pool.servers[2], START + 10 * SECOND, &EJECT));
    pool_close(&pool);
}

static void the_last_usable_server_stays_whatever_the_share(void **state)
{
    struct config_ejection all = EJECT;
    struct pool pool;

    (void)state;
    all.share_percent = 100;
    pool_open(&pool, 3, 0);
    server_went_down(pool.servers[1]);
    pool.servers[0]->failures_in_row = 5;
    pool.servers[2]->failures_in_row = 5;
    assert_true(eject_apply(pool.roster, pool.servers[0], START, &all));
    assert_false(eject_apply(pool.roster, pool.servers[2], START, &all));
    assert_true(server_usable(pool.servers[2], START));
    pool.servers[1]->draining = true;
    server_came_up(pool.servers[1], START);
    assert_false(eject_apply(pool.roster, pool.servers[2], START, &all));
    pool.servers[1]->draining = false;
    assert_true(eject_apply(pool.roster, pool.servers[2], START, &all));
    pool_close(&pool);
}

static void a_healthy_backup_lets_the_only_primary_go(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, 2, 1);
    assert_true(fail_row(&pool, 0, START));
    pool_close(&pool);
}

static void an_ejected_server_is_not_ejected_again_by_late_failures(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, 4, 0);
    assert_true(fail_row(&pool, 0, START));
    assert_false(fail_row(&pool, 0, START + 5 * SECOND));
    assert_true(ejected_for(&pool, 0, START) == 10 * SECOND);
    assert_int_equal(pool.servers[0]->ejections_in_row, 1);
    server_observe_failure(pool.servers[0], START + 10 * SECOND);
    assert_false(eject_apply(pool.roster, pool.servers[0], START + 10 * SECOND, &EJECT));
    pool_close(&pool);
}

static void each_ejection_in_a_row_is_longer_up_to_the_most(void **state)
{
    static const unsigned seconds[] = {10, 20, 30, 35, 35, 35};
    struct pool pool;
    uint64_t now = START;

    (void)state;
    pool_open(&pool, 4, 0);
    for (size_t i = 0; i < 6; i++) {
        assert_true(fail_row(&pool, 0, now));
        assert_true(ejected_for(&pool, 0, now) == seconds[i] * (uint64_t)SECOND);
        now = pool.servers[0]->ejected_until_us + 1;
    }
    assert_int_equal(pool.servers[0]->ejections_in_row, 4);
    pool_close(&pool);
}

static void each_good_period_takes_one_ejection_off_the_row(void **state)
{
    static const struct {
        unsigned good_seconds, next_seconds;
    } rows[] = {{0, 30}, {9, 30}, {10, 20}, {19, 20}, {20, 10}, {1000, 10}};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct pool pool;
        uint64_t now;

        pool_open(&pool, 4, 0);
        assert_true(fail_row(&pool, 0, START));
        assert_true(fail_row(&pool, 0, pool.servers[0]->ejected_until_us));
        now = pool.servers[0]->ejected_until_us + rows[i].good_seconds * (uint64_t)SECOND;
        assert_true(fail_row(&pool, 0, now));
        assert_true(ejected_for(&pool, 0, now) == rows[i].next_seconds * (uint64_t)SECOND);
        pool_close(&pool);
    }
}

static void a_longest_time_below_the_first_does_not_shorten_it(void **state)
{
    const struct config_ejection odd = {
        .failures = 1, .time_us = 10 * SECOND, .time_most_us = 1 * SECOND, .share_percent = 50};
    struct pool pool;

    (void)state;
    pool_open(&pool, 4, 0);
    pool.servers[0]->failures_in_row = 1;
    assert_true(eject_decide(pool.roster, pool.servers[0], START, &odd) == START + 10 * SECOND);
    pool_close(&pool);
}

static void after_an_ejection_a_server_starts_slowly_and_needs_a_whole_row(void **state)
{
    struct pool pool;
    uint64_t back;

    (void)state;
    pool_open(&pool, 4, 0);
    assert_true(fail_row(&pool, 0, START));
    back = pool.servers[0]->ejected_until_us;
    assert_int_equal(server_weight(pool.servers[0], back, 10 * SECOND), 100);
    assert_int_equal(server_weight(pool.servers[0], back + 10 * SECOND, 10 * SECOND), 1000);
    assert_int_equal(pool.servers[0]->failures_in_row, 0);
    pool_close(&pool);
}

/* Two threads, each with its own of two failing servers, again and again at the same moment; and as that
 * moment is not quite the same, one of them begins a little later each time. */
enum { DUELS = 60000, DELAYS = 200 };

struct duel {
    struct pool pool;
    _Atomic int round;
    _Atomic int done;
};

static void await(_Atomic int *count, int wanted)
{
    for (unsigned spins = 1; atomic_load(count) < wanted; spins++)
        if (spins % 1024 == 0)
            sched_yield();
}

static void *eject_the_second(void *arg)
{
    struct duel *duel = arg;

    for (int round = 1; round <= DUELS; round++) {
        await(&duel->round, round);
        eject_apply(duel->pool.roster, duel->pool.servers[1], START, &EJECT);
        atomic_store(&duel->done, round);
    }
    return NULL;
}

static void two_threads_never_eject_the_last_two(void **state)
{
    struct duel duel = {.round = 0};
    pthread_t second;
    int lost = 0;

    (void)state;
    pool_open(&duel.pool, 2, 0);
    assert_int_equal(pthread_create(&second, NULL, eject_the_second, &duel), 0);
    for (int round = 1; round <= DUELS; round++) {
        for (size_t i = 0; i < 2; i++) {
            atomic_store(&duel.pool.servers[i]->failures_in_row, 5);
            atomic_store(&duel.pool.servers[i]->ejected_until_us, 0);
        }
        atomic_store(&duel.round, round);
        for (volatile int delay = 0; delay < round % DELAYS;)
            delay = delay + 1;
        eject_apply(duel.pool.roster, duel.pool.servers[0], START, &EJECT);
        await(&duel.done, round);
        lost += !server_usable(duel.pool.servers[0], START) && !server_usable(duel.pool.servers[1], START);
    }
    pthread_join(second, NULL);
    assert_int_equal(lost, 0);
    pool_close(&duel.pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_check_decides_at_once),
        cmocka_unit_test(after_the_first_check_a_single_result_decides_nothing),
        cmocka_unit_test(fall_failures_in_a_row_take_a_server_down_once),
        cmocka_unit_test(a_success_in_between_begins_the_row_anew),
        cmocka_unit_test(rise_successes_in_a_row_bring_it_up),
        cmocka_unit_test(pauses_spread_by_a_fifth_either_way),
        cmocka_unit_test(pauses_are_short_only_while_the_state_is_in_doubt),
        cmocka_unit_test(the_first_check_does_not_wait),
        cmocka_unit_test(failures_in_a_row_eject_for_a_time),
        cmocka_unit_test(a_success_in_between_saves_the_server),
        cmocka_unit_test(deciding_changes_nothing),
        cmocka_unit_test(ejection_can_be_off),
        cmocka_unit_test(no_more_than_the_share_is_ejected_at_a_time),
        cmocka_unit_test(the_last_usable_server_stays_whatever_the_share),
        cmocka_unit_test(a_healthy_backup_lets_the_only_primary_go),
        cmocka_unit_test(an_ejected_server_is_not_ejected_again_by_late_failures),
        cmocka_unit_test(each_ejection_in_a_row_is_longer_up_to_the_most),
        cmocka_unit_test(each_good_period_takes_one_ejection_off_the_row),
        cmocka_unit_test(a_longest_time_below_the_first_does_not_shorten_it),
        cmocka_unit_test(after_an_ejection_a_server_starts_slowly_and_needs_a_whole_row),
        cmocka_unit_test(two_threads_never_eject_the_last_two),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
