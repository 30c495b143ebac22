/* test_admin_history.c - admin/history.h: fifteen minutes of samples, their gaps, and what is forgotten. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "admin/history.h"
#include "base/clock.h"

#define FIRST 1000u /* step */

static struct history history;

static int begin(void **state)
{
    (void)state;
    history = (struct history){0};
    return 0;
}

static int end(void **state)
{
    (void)state;
    history_free(&history);
    return 0;
}

static void begin_step(uint64_t step)
{
    history_begin(&history, step * HISTORY_STEP_S * US_PER_S + 17);
}

/* A sample of one thing alone. */
static void sample(uint64_t step, enum history_kind kind, const char *name, double value)
{
    begin_step(step);
    history_add(&history, kind, name, (double[HISTORY_LANES]){value, value + 0.5, NAN, NAN});
    history_end(&history);
}

static void a_sample_is_due_once_a_step(void **state)
{
    const uint64_t step_us = HISTORY_STEP_S * US_PER_S;

    (void)state;
    assert_true(history_is_due(&history, FIRST * step_us));
    begin_step(FIRST);
    history_end(&history);
    assert_false(history_is_due(&history, FIRST * step_us + step_us - 1));
    assert_true(history_is_due(&history, FIRST * step_us + step_us));
}

static void the_last_ninety_samples_are_there(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 200; i++)
        sample(FIRST + i, HISTORY_POOL, "web", (double)i);
    assert_int_equal(history.n, 1);
    for (uint64_t i = 110; i < 200; i++) {
        assert_true(history_figure(history.things[0], 0, FIRST + i) == (double)i);
        assert_true(history_figure(history.things[0], 1, FIRST + i) == (double)i + 0.5);
        assert_true(isnan(history_figure(history.things[0], 2, FIRST + i)));
    }
    assert_true(isnan(history_figure(history.things[0], 0, FIRST + 109)));
    assert_true(isnan(history_figure(history.things[0], 0, FIRST + 200)));
}

static void a_step_without_a_sample_is_a_gap(void **state)
{
    (void)state;
    sample(FIRST, HISTORY_POOL, "web", 1);
    sample(FIRST + 1, HISTORY_POOL, "web", 2);
    sample(FIRST + 4, HISTORY_POOL, "web", 3);
    assert_true(history_figure(history.things[0], 0, FIRST + 1) == 2);
    assert_true(isnan(history_figure(history.things[0], 0, FIRST + 2)));
    assert_true(isnan(history_figure(history.things[0], 0, FIRST + 3)));
    assert_true(history_figure(history.things[0], 0, FIRST + 4) == 3);
    assert_true(isnan(history_figure(history.things[0], 0, FIRST - 1)));
}

static void nothing_old_shows_through_a_long_gap(void **state)
{
    (void)state;
    history.readers = 1; /* or it would be forgotten */
    for (uint64_t i = 0; i < HISTORY_SAMPLES; i++)
        sample(FIRST + i, HISTORY_POOL, "web", 1);
    sample(FIRST + 3 * HISTORY_SAMPLES, HISTORY_POOL, "web", 2);
    for (uint64_t i = 1; i < HISTORY_SAMPLES; i++)
        assert_true(isnan(history_figure(history.things[0], 0, FIRST + 3 * HISTORY_SAMPLES - i)));
    assert_true(history_figure(history.things[0], 0, FIRST + 3 * HISTORY_SAMPLES) == 2);
}

static void a_thing_is_known_by_its_kind_and_name(void **state)
{
    const double figures[HISTORY_LANES] = {1, 2, 3, 4};

    (void)state;
    for (uint64_t i = 0; i < 3; i++) {
        begin_step(FIRST + i);
        history_add(&history, HISTORY_POOL, "web", figures);
        history_add(&history, HISTORY_QUEUE, "web", figures);
        history_add(&history, i % 2 ? HISTORY_LISTENER : HISTORY_POOL, "shop", figures);
        history_end(&history);
    }
    assert_int_equal(history.n, 4);
}

static void what_went_away_is_forgotten_after_fifteen_minutes(void **state)
{
    (void)state;
    sample(FIRST, HISTORY_POOL, "gone", 1);
    sample(FIRST + HISTORY_SAMPLES - 1, HISTORY_POOL, "web", 1);
    assert_int_equal(history.n, 2);
    sample(FIRST + HISTORY_SAMPLES, HISTORY_POOL, "web", 1);
    assert_int_equal(history.n, 1);
    assert_string_equal(history.things[0]->name, "web");
}

static void nothing_is_forgotten_while_somebody_reads(void **state)
{
    (void)state;
    sample(FIRST, HISTORY_POOL, "gone", 1);
    history.readers = 1;
    sample(FIRST + 500, HISTORY_POOL, "web", 1);
    assert_int_equal(history.n, 2);
    history.readers = 0;
    sample(FIRST + 501, HISTORY_POOL, "web", 1);
    assert_int_equal(history.n, 1);
}

static void there_is_a_bound_to_how_many_are_kept(void **state)
{
    char name[32];

    (void)state;
    begin_step(FIRST);
    for (unsigned i = 0; i < HISTORY_THINGS_MAX + 10; i++) {
        snprintf(name, sizeof name, "queue-%u", i);
        history_add(&history, HISTORY_QUEUE, name, (double[HISTORY_LANES]){i, 0, 0, 0});
    }
    history_end(&history);
    assert_int_equal(history.n, HISTORY_THINGS_MAX);
    assert_true(sizeof *history.things[0] <= 1536);
}

int main(void)
{
#define ONE(test) cmocka_unit_test_setup_teardown(test, begin, end)
    const struct CMUnitTest tests[] = {
        ONE(a_sample_is_due_once_a_step),
        ONE(the_last_ninety_samples_are_there),
        ONE(a_step_without_a_sample_is_a_gap),
        ONE(nothing_old_shows_through_a_long_gap),
        ONE(a_thing_is_known_by_its_kind_and_name),
        ONE(what_went_away_is_forgotten_after_fifteen_minutes),
        ONE(nothing_is_forgotten_while_somebody_reads),
        ONE(there_is_a_bound_to_how_many_are_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
