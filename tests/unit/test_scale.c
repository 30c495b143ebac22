/* test_scale.c - how many workers a queue needs: the formula, its limits, and what it says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "workers/scale.h"

#define SECOND UINT64_C(1000000)
#define START (1000 * SECOND)

/* A section and its queue; what a test does not set stays as it is from tick to tick. */
struct bench {
    struct scale scale;
    struct scale_limits limits;
    struct scale_sight sight;
    struct scale_decision decision;
    unsigned said;
};

static struct bench bench_of(unsigned workers)
{
    struct bench b = {
        .limits = {.min = 1,
                   .max = 100,
                   .slots = 1,
                   .backlog_per_worker = 100,
                   .drain_target_us = 10 * SECOND,
                   .cooldown_us = 60 * SECOND},
        .sight = {.now_us = START, .idle = workers},
    };

    scale_init(&b.scale, workers, START);
    scale_watch(&b.scale, &b.sight);
    return b;
}

/* A second passes, after which there are as many idle workers as were asked for; what is desired then. */
static unsigned tick(struct bench *b)
{
    b->sight.now_us += SECOND;
    scale_tick(&b->scale, &b->limits, &b->sight, &b->decision);
    b->sight.idle = b->decision.desired > b->sight.busy ? b->decision.desired - b->sight.busy : 0;
    b->said += b->decision.say;
    return b->decision.desired;
}

static unsigned ticks(struct bench *b, unsigned n)
{
    while (n-- > 0)
        tick(b);
    return b->decision.desired;
}

/* Twenty messages that took so long each are handled in one second; nothing else is known of the past. */
static void learn_service_time(struct bench *b, uint64_t us)
{
    b->sight.handled += 20;
    b->sight.busy_us += 20 * us;
    b->sight.now_us += SECOND;
    scale_watch(&b->scale, &b->sight);
}

/* So many arrive each second, for as long as the average needs to see it. */
static void learn_arrivals(struct bench *b, uint64_t per_second)
{
    for (unsigned i = 0; i < 300; i++) {
        b->sight.published += per_second;
        b->sight.now_us += SECOND;
        scale_watch(&b->scale, &b->sight);
    }
}

/* ---- the formula ------------------------------------------------------------------------------------------------- */

static void arrivals_and_backlog_ask_for_workers_together(void **state)
{
    struct bench b = bench_of(5);

    (void)state;
    learn_service_time(&b, 100000);
    learn_arrivals(&b, 20);
    b.sight.published += 20;
    b.sight.ready = 350;
    assert_int_equal(tick(&b), 6);
    assert_string_equal(b.decision.text, "20/s x 0.10 s / 0.8 + 350 x 0.10 s / 10 s = 6.0 -> 6");
    assert_int_equal(b.decision.why, SCALE_GROW);
    assert_int_equal(b.decision.from, 5);
}

static void a_worker_that_holds_four_messages_does_four_times_as_much(void **state)
{
    struct bench b = bench_of(1);

    (void)state;
    b.limits.slots = 4;
    learn_service_time(&b, 100000);
    learn_arrivals(&b, 20);
    b.sight.published += 20;
    b.sight.ready = 350;
    assert_int_equal(tick(&b), 2);
    assert_string_equal(b.decision.text, "(20/s x 0.10 s / 0.8 + 350 x 0.10 s / 10 s) / 4 = 1.5 -> 2");
}

static void with_nineteen_handled_the_backlog_decides_alone(void **state)
{
    struct bench b = bench_of(1);

    (void)state;
    b.sight.handled = 19;
    b.sight.busy_us = 19 * 60 * SECOND;
    b.sight.ready = 330;
    b.sight.in_flight = b.sight.busy = 1;
    b.sight.idle = 0;
    assert_int_equal(tick(&b), 4);
    assert_string_equal(b.decision.text, "(330 + 1 in flight) / 100 = 3.3 -> 4");
    assert_true(scale_service_time(&b.scale) < 0);
}

static void the_twentieth_makes_the_service_time_known(void **state)
{
    struct bench b = bench_of(1);

    (void)state;
    learn_service_time(&b, 250000);
    assert_true(scale_service_time(&b.scale) > 0.2499 && scale_service_time(&b.scale) < 0.2501);
}

static void a_pause_does_not_forget_the_service_time(void **state)
{
    struct bench b = bench_of(1);

    (void)state;
    learn_service_time(&b, 250000);
    ticks(&b, 100000);
    assert_true(scale_service_time(&b.scale) > 0.2499 && scale_service_time(&b.scale) < 0.2501);
}

static void the_service_time_follows_what_is_handled_now(void **state)
{
    struct bench b = bench_of(1);

    (void)state;
    learn_service_time(&b, 250000);
    for (int i = 0; i < 60; i++)
        learn_service_time(&b, 50000);
    assert_true(scale_service_time(&b.scale) < 0.055);
}

static void the_arrival_rate_is_half_way_after_ten_seconds(void **state)
{
    struct bench b = bench_of(1);

    (void)state;
    for (int i = 0; i < 10; i++) {
        b.sight.published += 100;
        tick(&b);
    }
    assert_true(scale_arrival_rate(&b.scale) > 48 && scale_arrival_rate(&b.scale) < 50);
}

static void a_total_that_begins_anew_is_no_arrival(void **state)
{
    struct bench b = bench_of(1);

    (void)state;
    b.sight.published = 1000000;
    scale_init(&b.scale, 1, b.sight.now_us);
    scale_watch(&b.scale, &b.sight);
    b.sight.published = 5;
    tick(&b);
    assert_true(scale_arrival_rate(&b.scale) < 0.001);
}

static void totals_of_something_else_are_no_arrivals_and_tell_no_service_time(void **state)
{
    struct bench b = bench_of(1);

    (void)state;
    learn_service_time(&b, SECOND);
    learn_arrivals(&b, 10);
    scale_forget(&b.scale);
    b.sight.published += 1000000;
    b.sight.handled += 1000000;
    tick(&b);
    assert_true(scale_arrival_rate(&b.scale) == 0);
    assert_true(scale_service_time(&b.scale) < 0);
    learn_arrivals(&b, 10);
    assert_true(scale_arrival_rate(&b.scale) > 5);
}

static void what_a_clock_that_stands_still_shows_changes_nothing(void **state)
{
    struct bench b = bench_of(1);

    (void)state;
    learn_arrivals(&b, 10);
    b.sight.published += 1000000;
    scale_tick(&b.scale, &b.limits, &b.sight, &b.decision);
    assert_true(scale_arrival_rate(&b.scale) < 10.01);
}

/* ---- growing ----------------------------------------------------------------------------------------------------- */

static void the_first_worker_comes_at_once(void **state)
{
    struct bench b = bench_of(0);

    (void)state;
    b.limits.min = 0;
    assert_int_equal(ticks(&b, 5), 0);
    b.sight.ready = 1;
    assert_int_equal(tick(&b), 1);
    assert_string_equal(b.decision.text, "(1 + 0 in flight) / 100 = 0.0 -> 1 for what waits");
}

static void one_grows_to_five_and_then_doubles_every_fifteen_seconds(void **state)
{
    static const unsigned expected[] = {5, 10, 20, 40, 80, 100};
    struct bench b = bench_of(1);

    (void)state;
    b.sight.ready = 1000000;
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        assert_int_equal(tick(&b), expected[i]);
        assert_int_equal(ticks(&b, 14), expected[i]);
    }
}

static void the_text_of_a_step_says_what_it_is_less_than_wished_for(void **state)
{
    struct bench b = bench_of(1);

    (void)state;
    b.sight.ready = 2000;
    tick(&b);
    assert_string_equal(b.decision.text,
                        "(2000 + 0 in flight) / 100 = 20.0 -> 20; 4 more or twice as many in 15 s: 5");
    tick(&b);
    assert_int_equal(b.decision.why, SCALE_STEP);
    assert_false(b.decision.say);
}

static void a_tenth_more_is_not_worth_a_worker(void **state)
{
    struct bench b = bench_of(10);

    (void)state;
    b.sight.ready = 1100;
    assert_int_equal(tick(&b), 10);
    b.sight.ready = 1110;
    assert_int_equal(tick(&b), 12);
}

static void it_never_asks_for_more_than_max(void **state)
{
    struct bench b = bench_of(7);

    (void)state;
    b.limits.max = 8;
    b.sight.ready = 100000;
    assert_int_equal(tick(&b), 8);
    assert_int_equal(ticks(&b, 100), 8);
    assert_int_equal(b.decision.why, SCALE_AT_MAX);
}

static void an_old_message_brings_one_more_though_the_model_is_content(void **state)
{
    struct bench b = bench_of(2);

    (void)state;
    b.sight.in_flight = b.sight.busy = 2;
    b.sight.idle = 0;
    b.sight.ready = 1;
    b.sight.oldest_age_us = 20 * SECOND;
    assert_int_equal(ticks(&b, 20), 2);
    b.sight.oldest_age_us = 21 * SECOND;
    b.sight.ready = 1;
    assert_int_equal(tick(&b), 3);
    assert_int_equal(b.decision.why, SCALE_GROW_AGE);
    assert_string_equal(
        b.decision.text,
        "(1 + 2 in flight) / 100 = 0.0 -> 2 for 2 in flight; the oldest waits for 21 s: one more");
}

static void an_old_message_brings_one_worker_a_step_as_long_as_all_are_busy(void **state)
{
    struct bench b = bench_of(2);
    unsigned desired = 2;

    (void)state;
    b.sight.ready = 1;
    b.sight.oldest_age_us = 60 * SECOND;
    for (int i = 0; i < 45; i++) {
        b.sight.in_flight = b.sight.busy = desired;
        b.sight.idle = 0;
        desired = tick(&b);
    }
    assert_int_equal(desired, 5);
}

static void an_old_message_brings_nobody_where_somebody_is_idle_or_starting(void **state)
{
    struct bench b = bench_of(2);

    (void)state;
    b.sight.ready = 1;
    b.sight.oldest_age_us = 60 * SECOND;
    b.sight.busy = 1;
    b.sight.idle = 1;
    assert_int_equal(ticks(&b, 30), 2);
    b.sight.busy = 1;
    b.sight.idle = 0;
    b.sight.starting = 1;
    b.sight.now_us += SECOND;
    scale_tick(&b.scale, &b.limits, &b.sight, &b.decision);
    assert_int_equal(b.decision.desired, 2);
}

/* ---- shrinking --------------------------------------------------------------------------------------------------- */

static void it_shrinks_once_the_wish_was_lower_for_the_cooldown(void **state)
{
    struct bench b = bench_of(4);

    (void)state;
    b.sight.ready = 400;
    tick(&b);
    b.sight.ready = 0;
    assert_int_equal(ticks(&b, 59), 4);
    assert_int_equal(b.decision.why, SCALE_COOLDOWN);
    assert_int_equal(tick(&b), 3);
    assert_int_equal(b.decision.why, SCALE_SHRINK);
}

static void a_new_scaler_does_not_shrink_before_a_cooldown(void **state)
{
    struct bench b = bench_of(4);

    (void)state;
    assert_int_equal(ticks(&b, 59), 4);
}

static void it_shrinks_to_the_highest_wish_of_the_cooldown(void **state)
{
    struct bench b = bench_of(8);

    (void)state;
    ticks(&b, 30);
    b.sight.ready = 610;
    tick(&b);
    b.sight.ready = 0;
    assert_int_equal(ticks(&b, 55), 7);
    assert_string_equal(b.decision.text, "(0 + 0 in flight) / 100 = 0.0 -> 0; highest of 60 s: 6.1");
}

static void it_shrinks_by_a_quarter_every_fifteen_seconds(void **state)
{
    static const unsigned expected[] = {12, 9, 7, 6, 5, 4, 3, 2, 1, 1};
    struct bench b = bench_of(16);

    (void)state;
    b.limits.cooldown_us = 15 * SECOND;
    ticks(&b, 14);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        assert_int_equal(tick(&b), expected[i]);
        assert_int_equal(ticks(&b, 14), expected[i]);
    }
}

static void where_all_are_busy_none_goes(void **state)
{
    struct bench b = bench_of(4);

    (void)state;
    b.sight.in_flight = b.sight.busy = 4;
    b.limits.slots = 4;
    for (int i = 0; i < 200; i++) {
        b.sight.idle = 0;
        assert_int_equal(tick(&b), 4);
        assert_int_equal(b.decision.stop, 0);
    }
    assert_int_equal(b.decision.why, SCALE_BUSY);
}

static void no_more_go_than_are_without_a_message(void **state)
{
    struct bench b = bench_of(16);

    (void)state;
    b.limits.slots = 100;
    b.sight.in_flight = b.sight.busy = 14;
    b.sight.idle = 2;
    assert_int_equal(ticks(&b, 61), 14);
    assert_int_equal(b.decision.stop, 2);
}

static void in_flight_messages_keep_those_that_hold_them(void **state)
{
    struct bench b = bench_of(5);

    (void)state;
    learn_service_time(&b, 1000);
    b.limits.slots = 4;
    b.sight.busy = 3;
    b.sight.in_flight = 9;
    ticks(&b, 300);
    assert_int_equal(b.decision.desired, 3);
    assert_non_null(strstr(b.decision.text, "= 0.0 -> 3 for 9 in flight"));
}

static void ten_workers_and_nothing_to_do_become_none(void **state)
{
    struct bench b = bench_of(10);

    (void)state;
    b.limits.min = 0;
    learn_service_time(&b, SECOND);
    learn_arrivals(&b, 8);
    assert_int_equal(ticks(&b, 500), 0);
}

static void one_over_min_goes_too_though_it_is_a_tenth(void **state)
{
    struct bench b = bench_of(21);

    (void)state;
    b.limits.min = 20;
    assert_int_equal(ticks(&b, 80), 20);
}

static void those_that_start_and_those_that_crashed_may_go(void **state)
{
    struct bench b = bench_of(16);

    (void)state;
    for (int i = 0; i < 62; i++) {
        b.sight.idle = 0;
        b.sight.in_flight = b.sight.busy = 1;
        b.sight.starting = 7;
        b.sight.backing_off = 8;
        tick(&b);
    }
    assert_int_equal(b.decision.desired, 12);
    assert_int_equal(b.decision.stop, 4);
}

/* ---- bounds and hands -------------------------------------------------------------------------------------------- */

static void a_new_min_or_max_is_obeyed_at_once(void **state)
{
    struct bench b = bench_of(5);

    (void)state;
    b.limits.min = 50;
    assert_int_equal(tick(&b), 50);
    assert_int_equal(b.decision.why, SCALE_BOUNDS);
    assert_non_null(strstr(b.decision.text, "; min is 50"));
    b.limits.min = 1;
    b.limits.max = 3;
    b.sight.idle = 2;
    b.sight.busy = 48;
    assert_int_equal(tick(&b), 3);
    assert_int_equal(b.decision.stop, 2);
    assert_non_null(strstr(b.decision.text, "; max is 3"));
}

static void what_was_set_by_hand_is_where_it_goes_on_from(void **state)
{
    struct bench b = bench_of(2);

    (void)state;
    ticks(&b, 100);
    scale_set(&b.scale, 9, b.sight.now_us);
    b.sight.idle = 9;
    assert_int_equal(ticks(&b, 59), 9);
    assert_int_equal(ticks(&b, 3), 7);
}

static void a_pause_does_not_make_the_next_step_come_sooner(void **state)
{
    struct bench b = bench_of(1);

    (void)state;
    b.sight.ready = 5000;
    assert_int_equal(tick(&b), 5);
    scale_set(&b.scale, 5, b.sight.now_us);
    assert_int_equal(ticks(&b, 14), 5);
    assert_int_equal(ticks(&b, 2), 10);
}

static void what_a_hand_added_counts_as_a_step(void **state)
{
    struct bench b = bench_of(1);

    (void)state;
    tick(&b);
    scale_set(&b.scale, 20, b.sight.now_us);
    b.sight.idle = 20;
    b.sight.ready = 5000;
    assert_int_equal(ticks(&b, 14), 20);
    assert_int_equal(ticks(&b, 2), 40);
}

/* ---- what holds it ----------------------------------------------------------------------------------------------- */

static void it_does_not_grow_while_half_of_the_starts_crash(void **state)
{
    struct bench b = bench_of(2);

    (void)state;
    b.sight.ready = 5000;
    b.sight.starts = 4;
    tick(&b);
    b = bench_of(2);
    tick(&b);
    b.sight.ready = 5000;
    b.sight.starts = 4;
    b.sight.crashes = 2;
    assert_int_equal(tick(&b), 2);
    assert_int_equal(b.decision.why, SCALE_CRASHING);
    assert_non_null(strstr(b.decision.text, "; of 4 starts in a minute 2 crashed"));
    b.sight.starts = 5;
    assert_int_equal(tick(&b), 6);
}

static void a_minute_later_it_tries_again(void **state)
{
    struct bench b = bench_of(2);

    (void)state;
    tick(&b);
    b.sight.ready = 5000;
    b.sight.starts = b.sight.crashes = 2;
    assert_int_equal(ticks(&b, 59), 2);
    assert_int_equal(ticks(&b, 3), 6);
}

static void crashes_before_the_first_look_count(void **state)
{
    struct bench b = bench_of(2);

    (void)state;
    scale_init(&b.scale, 2, b.sight.now_us);
    b.sight.starts = 3;
    b.sight.crashes = 2;
    tick(&b);
    b.sight.ready = 5000;
    assert_int_equal(tick(&b), 2);
    assert_int_equal(b.decision.why, SCALE_CRASHING);
}

static void one_that_crashes_does_not_hold_the_many_that_run(void **state)
{
    struct bench b = bench_of(10);

    (void)state;
    tick(&b);
    b.sight.ready = 5000;
    b.sight.starts = b.sight.crashes = 4;
    assert_int_equal(tick(&b), 20);
}

static void crashes_of_a_counter_that_began_anew_are_not_recent(void **state)
{
    struct bench b = bench_of(2);

    (void)state;
    b.sight.starts = b.sight.crashes = 100;
    scale_init(&b.scale, 2, b.sight.now_us);
    scale_watch(&b.scale, &b.sight);
    b.sight.starts = b.sight.crashes = 50;
    b.sight.ready = 5000;
    assert_int_equal(tick(&b), 6);
}

static void it_does_not_grow_while_the_gauge_is_full(void **state)
{
    struct bench b = bench_of(2);

    (void)state;
    b.sight.ready = 5000;
    b.sight.gauge_full = true;
    assert_int_equal(ticks(&b, 100), 2);
    assert_int_equal(b.decision.why, SCALE_GAUGE);
    assert_non_null(strstr(b.decision.text, "= 50.0 -> 50; the gauge is full"));
    b.sight.gauge_full = false;
    assert_int_equal(tick(&b), 6);
}

static void a_full_gauge_does_not_keep_it_from_shrinking(void **state)
{
    struct bench b = bench_of(2);

    (void)state;
    b.sight.gauge_full = true;
    assert_int_equal(ticks(&b, 62), 1);
}

/* ---- what it says ------------------------------------------------------------------------------------------------ */

static void it_speaks_when_the_number_changes_and_not_while_it_stays(void **state)
{
    struct bench b = bench_of(1);

    (void)state;
    ticks(&b, 100);
    assert_int_equal(b.said, 0);
    b.sight.ready = 300;
    ticks(&b, 10);
    assert_int_equal(b.said, 1);
}

static void it_speaks_once_of_what_holds_it_and_once_when_that_is_over(void **state)
{
    struct bench b = bench_of(2);

    (void)state;
    b.sight.gauge_full = true;
    b.sight.ready = 5000;
    ticks(&b, 30);
    assert_int_equal(b.said, 1);
    b.sight.ready = 0;
    b.limits.min = 2;
    ticks(&b, 30);
    assert_int_equal(b.said, 2);
}

static void a_wish_about_max_is_one_hold_and_not_one_a_breath(void **state)
{
    struct bench b = bench_of(8);

    (void)state;
    b.limits.max = 8;
    for (int i = 0; i < 100; i++) {
        b.sight.ready = i % 10 < 5 ? 1000 : 500;
        tick(&b);
    }
    assert_int_equal(b.said, 1);
}

static void to_have_reached_max_says_so_and_is_not_said_again(void **state)
{
    struct bench b = bench_of(7);

    (void)state;
    b.limits.max = 8;
    b.sight.ready = 5000;
    tick(&b);
    assert_string_equal(b.decision.text, "(5000 + 0 in flight) / 100 = 50.0 -> 50; max is 8");
    ticks(&b, 50);
    assert_int_equal(b.said, 1);
}

static void every_reason_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (int i = 0; i < SCALE_WHYS; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(scale_why_name((enum scale_why)i), scale_why_name((enum scale_why)j));
}

static void numbers_without_measure_stay_within_text_and_max(void **state)
{
    struct bench b = bench_of(1);

    (void)state;
    learn_service_time(&b, UINT64_MAX / 20);
    b.limits.slots = 7;
    b.sight.ready = b.sight.in_flight = b.sight.oldest_age_us = b.sight.published = UINT64_MAX;
    assert_int_equal(tick(&b), 5);
    assert_in_range(strlen(b.decision.text), 1, SCALE_TEXT_MAX - 1);
    assert_int_equal(ticks(&b, 100), 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrivals_and_backlog_ask_for_workers_together),
        cmocka_unit_test(a_worker_that_holds_four_messages_does_four_times_as_much),
        cmocka_unit_test(with_nineteen_handled_the_backlog_decides_alone),
        cmocka_unit_test(the_twentieth_makes_the_service_time_known),
        cmocka_unit_test(a_pause_does_not_forget_the_service_time),
        cmocka_unit_test(the_service_time_follows_what_is_handled_now),
        cmocka_unit_test(the_arrival_rate_is_half_way_after_ten_seconds),
        cmocka_unit_test(a_total_that_begins_anew_is_no_arrival),
        cmocka_unit_test(totals_of_something_else_are_no_arrivals_and_tell_no_service_time),
        cmocka_unit_test(what_a_clock_that_stands_still_shows_changes_nothing),
        cmocka_unit_test(the_first_worker_comes_at_once),
        cmocka_unit_test(one_grows_to_five_and_then_doubles_every_fifteen_seconds),
        cmocka_unit_test(the_text_of_a_step_says_what_it_is_less_than_wished_for),
        cmocka_unit_test(a_tenth_more_is_not_worth_a_worker),
        cmocka_unit_test(it_never_asks_for_more_than_max),
        cmocka_unit_test(an_old_message_brings_one_more_though_the_model_is_content),
        cmocka_unit_test(an_old_message_brings_one_worker_a_step_as_long_as_all_are_busy),
        cmocka_unit_test(an_old_message_brings_nobody_where_somebody_is_idle_or_starting),
        cmocka_unit_test(it_shrinks_once_the_wish_was_lower_for_the_cooldown),
        cmocka_unit_test(a_new_scaler_does_not_shrink_before_a_cooldown),
        cmocka_unit_test(it_shrinks_to_the_highest_wish_of_the_cooldown),
        cmocka_unit_test(it_shrinks_by_a_quarter_every_fifteen_seconds),
        cmocka_unit_test(where_all_are_busy_none_goes),
        cmocka_unit_test(no_more_go_than_are_without_a_message),
        cmocka_unit_test(in_flight_messages_keep_those_that_hold_them),
        cmocka_unit_test(ten_workers_and_nothing_to_do_become_none),
        cmocka_unit_test(one_over_min_goes_too_though_it_is_a_tenth),
        cmocka_unit_test(those_that_start_and_those_that_crashed_may_go),
        cmocka_unit_test(a_new_min_or_max_is_obeyed_at_once),
        cmocka_unit_test(what_was_set_by_hand_is_where_it_goes_on_from),
        cmocka_unit_test(a_pause_does_not_make_the_next_step_come_sooner),
        cmocka_unit_test(what_a_hand_added_counts_as_a_step),
        cmocka_unit_test(it_does_not_grow_while_half_of_the_starts_crash),
        cmocka_unit_test(a_minute_later_it_tries_again),
        cmocka_unit_test(crashes_before_the_first_look_count),
        cmocka_unit_test(one_that_crashes_does_not_hold_the_many_that_run),
        cmocka_unit_test(crashes_of_a_counter_that_began_anew_are_not_recent),
        cmocka_unit_test(it_does_not_grow_while_the_gauge_is_full),
        cmocka_unit_test(a_full_gauge_does_not_keep_it_from_shrinking),
        cmocka_unit_test(it_speaks_when_the_number_changes_and_not_while_it_stays),
        cmocka_unit_test(it_speaks_once_of_what_holds_it_and_once_when_that_is_over),
        cmocka_unit_test(a_wish_about_max_is_one_hold_and_not_one_a_breath),
        cmocka_unit_test(to_have_reached_max_says_so_and_is_not_said_again),
        cmocka_unit_test(every_reason_has_a_name_of_its_own),
        cmocka_unit_test(numbers_without_measure_stay_within_text_and_max),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
