/* test_admin_series.c - admin/series.h and admin/sample.h: what was counted in the last ten seconds, and for whom. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "admin/sample.h"

#define SECOND 1000000u
#define START (100u * SECOND)

static struct series series;
static struct series_totals totals;

static int begin(void **state)
{
    (void)state;
    series_init(&series, START);
    totals = (struct series_totals){0};
    return 0;
}

/* More requests, all of which took us. */
static void count(uint64_t requests, uint64_t us)
{
    struct histogram one = {0};

    histogram_add(&one, us);
    totals.requests += requests;
    for (uint64_t i = 0; i < requests; i++)
        histogram_add_to(&totals.latency, &one);
}

static struct series_window window_at(uint64_t now_us)
{
    struct series_window window = {0};

    series_add_window(&window, &series, &totals, now_us);
    return window;
}

static void assert_near(double value, double expected)
{
    if (fabs(value - expected) > expected / 100 + 1e-9)
        fail_msg("it is %g instead of %g", value, expected);
}

static void a_rate_is_what_came_in_the_last_ten_seconds(void **state)
{
    (void)state;
    for (unsigned i = 1; i <= 30; i++) {
        count(i <= 15 ? 100 : 20, 1000);
        totals.errors += i <= 15 ? 10 : 1;
        series_add(&series, &totals, START + i * SECOND);
    }
    assert_near(window_at(START + 30 * SECOND).rate, 20);
    assert_near(window_at(START + 30 * SECOND).error_rate, 1);
}

static void what_came_since_the_last_step_counts_already(void **state)
{
    struct series_window window;

    (void)state;
    for (unsigned i = 1; i <= 10; i++)
        series_add(&series, &totals, START + i * SECOND);
    count(21, 1000);
    window = window_at(START + 10 * SECOND + SECOND / 2);
    assert_near(window.rate, 2);
    assert_int_equal(histogram_count(&window.latency), 21);
}

static void the_first_moments_are_no_measure_for_a_second(void **state)
{
    (void)state;
    count(5, 1000);
    assert_near(window_at(START + 1000).rate, 5);
    assert_near(window_at(START).rate, 5);
    series_add(&series, &totals, START + SECOND / 10);
    assert_near(window_at(START + SECOND / 10).rate, 5);
    assert_near(window_at(START + 2 * SECOND).rate, 2.5);
}

static void a_long_stall_spreads_its_requests(void **state)
{
    (void)state;
    count(100, 1000);
    series_add(&series, &totals, START + 20 * SECOND);
    assert_near(window_at(START + 20 * SECOND).rate, 5);
}

static void percentiles_forget_what_is_older(void **state)
{
    struct series_window window;

    (void)state;
    count(1000, 5 * SECOND);
    series_add(&series, &totals, START + SECOND);
    for (unsigned i = 2; i <= 11; i++) {
        count(10, 1000);
        series_add(&series, &totals, START + i * SECOND);
    }
    window = window_at(START + 11 * SECOND);
    assert_int_equal(histogram_count(&window.latency), 100);
    assert_true(histogram_percentile(&window.latency, 0.99) <= 1000);
}

static void totals_that_shrank_began_anew(void **state)
{
    (void)state;
    count(1000, 1000);
    series_add(&series, &totals, START + SECOND);
    for (unsigned i = 2; i <= 11; i++)
        series_add(&series, &totals, START + i * SECOND);
    totals = (struct series_totals){0};
    count(30, 1000);
    series_add(&series, &totals, START + 12 * SECOND);
    assert_near(window_at(START + 12 * SECOND).rate, 3);
}

static void a_time_that_stands_still_is_no_step(void **state)
{
    (void)state;
    count(7, 1000);
    series_add(&series, &totals, START + SECOND);
    for (int i = 0; i < 20; i++)
        series_add(&series, &totals, START + SECOND);
    assert_near(window_at(START + SECOND).rate, 7);
}

/* --- samples --- */

static uint64_t rate_of(const struct sample *sample, const void *key, uint64_t requests, uint64_t now_us)
{
    const struct series_totals now = {.requests = requests};
    struct series_window window = {0};

    sample_add_window(sample, key, &now, now_us, &window);
    return (uint64_t)(window.rate + 0.5);
}

static void add(struct sample *sample, const void *key, uint64_t requests, uint64_t now_us)
{
    const struct series_totals now = {.requests = requests};

    sample_add(sample, key, &now, now_us);
}

static void each_thing_has_its_own_series(void **state)
{
    static const char keys[500];
    struct sample sample;

    (void)state;
    sample_init(&sample, START);
    for (unsigned round = 1; round <= 10; round++) {
        sample_begin_round(&sample, START + round * SECOND);
        for (size_t i = 0; i < sizeof keys; i++)
            add(&sample, &keys[i], round * i, START + round * SECOND);
        sample_end_round(&sample);
    }
    assert_int_equal(sample.n, sizeof keys);
    for (size_t i = 0; i < sizeof keys; i++)
        assert_int_equal(rate_of(&sample, &keys[i], 10 * i, START + 10 * SECOND), i);
    sample_free(&sample);
}

static void what_is_not_added_any_more_is_forgotten(void **state)
{
    static const char keys[100];
    struct sample sample;

    (void)state;
    sample_init(&sample, START);
    for (unsigned round = 1; round <= 2; round++) {
        sample_begin_round(&sample, START + round * SECOND);
        for (size_t i = 0; i < sizeof keys; i += round)
            add(&sample, &keys[i], 10 * round, START + round * SECOND);
        sample_end_round(&sample);
    }
    assert_int_equal(sample.n, sizeof keys / 2);
    for (size_t i = 0; i < sizeof keys; i += 2)
        assert_int_equal(rate_of(&sample, &keys[i], 20, START + 2 * SECOND), 10);
    sample_begin_round(&sample, START + 3 * SECOND);
    sample_end_round(&sample);
    assert_int_equal(sample.n, 0);
    sample_free(&sample);
}

static void what_came_between_two_rounds_counts_from_its_beginning(void **state)
{
    static const char key;
    struct sample sample;

    (void)state;
    sample_init(&sample, START);
    sample_begin_round(&sample, START + SECOND);
    sample_end_round(&sample);
    assert_int_equal(rate_of(&sample, &key, 8, START + SECOND + SECOND / 2), 8);
    sample_begin_round(&sample, START + 2 * SECOND);
    add(&sample, &key, 8, START + 2 * SECOND);
    sample_end_round(&sample);
    assert_int_equal(rate_of(&sample, &key, 8, START + 2 * SECOND), 8);
    assert_int_equal(rate_of(&sample, &key, 8, START + 5 * SECOND), 2);
    sample_free(&sample);
}

static void after_nobody_looked_only_what_comes_then_counts(void **state)
{
    static const char old, young;
    struct sample sample;

    (void)state;
    sample_init(&sample, START);
    sample_begin_round(&sample, START + SECOND);
    add(&sample, &old, 1000, START + SECOND);
    sample_end_round(&sample);
    sample_forget(&sample);
    assert_int_equal(rate_of(&sample, &old, 5000, START + 60 * SECOND), 0);
    assert_int_equal(rate_of(&sample, &young, 7000, START + 60 * SECOND), 0);
    sample_begin_round(&sample, START + 60 * SECOND);
    add(&sample, &old, 5000, START + 60 * SECOND);
    assert_int_equal(rate_of(&sample, &young, 7000, START + 60 * SECOND), 0);
    add(&sample, &young, 7000, START + 60 * SECOND);
    sample_end_round(&sample);
    assert_int_equal(rate_of(&sample, &old, 5000, START + 60 * SECOND), 0);
    assert_int_equal(rate_of(&sample, &old, 5030, START + 62 * SECOND), 15);
    assert_int_equal(rate_of(&sample, &young, 7050, START + 62 * SECOND), 25);
    sample_free(&sample);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_rate_is_what_came_in_the_last_ten_seconds, begin),
        cmocka_unit_test_setup(what_came_since_the_last_step_counts_already, begin),
        cmocka_unit_test_setup(the_first_moments_are_no_measure_for_a_second, begin),
        cmocka_unit_test_setup(a_long_stall_spreads_its_requests, begin),
        cmocka_unit_test_setup(percentiles_forget_what_is_older, begin),
        cmocka_unit_test_setup(totals_that_shrank_began_anew, begin),
        cmocka_unit_test_setup(a_time_that_stands_still_is_no_step, begin),
        cmocka_unit_test(each_thing_has_its_own_series),
        cmocka_unit_test(what_is_not_added_any_more_is_forgotten),
        cmocka_unit_test(what_came_between_two_rounds_counts_from_its_beginning),
        cmocka_unit_test(after_nobody_looked_only_what_comes_then_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
