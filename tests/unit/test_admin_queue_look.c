/* test_admin_queue_look.c - admin/queue_look.h: when a queue will be empty. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "admin/queue_look.h"

static double drains_in(uint64_t ready, uint64_t blocked, double published, double acked, double dead)
{
    struct broker_queue_numbers numbers = {.ready = ready, .blocked = blocked, .delayed = 7, .in_flight = 7};
    struct queue_rates rates = {.published = published, .acked = acked, .dead = dead};

    return queue_drains_in(&numbers, &rates);
}

static void a_queue_in_which_nothing_waits_is_empty_now(void **state)
{
    (void)state;
    assert_true(drains_in(0, 0, 100, 10, 0) == 0);
}

static void what_waits_goes_at_what_leaves_without_what_comes(void **state)
{
    (void)state;
    assert_true(drains_in(1000, 0, 50, 150, 0) == 10);
    assert_true(drains_in(900, 100, 50, 100, 50) == 10);
}

static void a_queue_that_grows_or_stands_does_not_drain(void **state)
{
    (void)state;
    assert_true(isnan(drains_in(1000, 0, 150, 150, 0)));
    assert_true(isnan(drains_in(1000, 0, 151, 150, 0)));
    assert_true(isnan(drains_in(1, 0, 0, 0, 0)));
}

static void what_leaves_within_a_second_is_no_backlog(void **state)
{
    (void)state;
    assert_true(drains_in(50, 0, 101, 100, 0) == 0.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_queue_in_which_nothing_waits_is_empty_now),
        cmocka_unit_test(what_waits_goes_at_what_leaves_without_what_comes),
        cmocka_unit_test(a_queue_that_grows_or_stands_does_not_drain),
        cmocka_unit_test(what_leaves_within_a_second_is_no_backlog),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
