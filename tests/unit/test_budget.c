/* test_budget.c - the retry budget of a pool. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "balance/budget.h"

static uint64_t take_all(struct budget *budget)
{
    uint64_t taken = 0;

    while (budget_take(budget))
        taken++;
    return taken;
}

static void a_new_budget_has_its_reserve_and_no_more(void **state)
{
    struct budget budget;

    (void)state;
    budget_init(&budget, 20);
    assert_int_equal(take_all(&budget), 100);
}

static void a_pool_that_always_fails_retries_the_reserve_and_a_fifth(void **state)
{
    struct budget budget;
    uint64_t retries = 0;

    (void)state;
    budget_init(&budget, 20);
    for (uint64_t requests = 1; requests <= 100000; requests++) {
        budget_request(&budget);
        for (int attempt = 0; attempt < 3 && budget_take(&budget); attempt++)
            retries++;
        assert_true(retries <= 100 + requests / 5);
    }
    assert_int_equal(retries, 100 + 100000 / 5);
}

static void five_requests_pay_for_a_retry_at_a_fifth(void **state)
{
    struct budget budget;

    (void)state;
    budget_init(&budget, 20);
    take_all(&budget);
    for (int i = 0; i < 4; i++)
        budget_request(&budget);
    assert_false(budget_take(&budget));
    budget_request(&budget);
    assert_true(budget_take(&budget));
    assert_false(budget_take(&budget));
}

static void a_refused_retry_costs_nothing(void **state)
{
    struct budget budget;

    (void)state;
    budget_init(&budget, 50);
    take_all(&budget);
    budget_request(&budget);
    assert_false(budget_take(&budget));
    budget_request(&budget);
    assert_true(budget_take(&budget));
}

static void percents_that_do_not_divide_a_token_are_exact(void **state)
{
    struct budget budget;

    (void)state;
    budget_init(&budget, 7);
    take_all(&budget);
    for (int i = 0; i < 10000; i++)
        budget_request(&budget);
    assert_int_equal(take_all(&budget), 700);
}

static void quiet_times_save_up_a_thousand_at_the_most(void **state)
{
    static const unsigned percents[] = {1, 33, 100, 700};

    (void)state;
    for (size_t i = 0; i < sizeof percents / sizeof percents[0]; i++) {
        struct budget budget;

        budget_init(&budget, percents[i]);
        for (int j = 0; j < 100000; j++)
            budget_request(&budget);
        assert_int_equal(take_all(&budget), 1000);
    }
}

static void no_percent_means_never_a_retry(void **state)
{
    struct budget budget;

    (void)state;
    budget_init(&budget, 0);
    for (int i = 0; i < 1000; i++)
        budget_request(&budget);
    assert_false(budget_take(&budget));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_budget_has_its_reserve_and_no_more),
        cmocka_unit_test(a_pool_that_always_fails_retries_the_reserve_and_a_fifth),
        cmocka_unit_test(five_requests_pay_for_a_retry_at_a_fifth),
        cmocka_unit_test(a_refused_retry_costs_nothing),
        cmocka_unit_test(percents_that_do_not_divide_a_token_are_exact),
        cmocka_unit_test(quiet_times_save_up_a_thousand_at_the_most),
        cmocka_unit_test(no_percent_means_never_a_retry),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
