/* test_histogram.c - base/counter.h and base/histogram.h: the right bucket for every duration, percentiles, windows, and a
 * reader beside the writer. */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/histogram.h"
#include "base/rng.h"

static unsigned bucket_by_search(uint64_t us)
{
    unsigned i = 0;

    while (i < HISTOGRAM_BOUNDS && us > histogram_bounds_us[i])
        i++;
    return i;
}

static struct histogram_sum sum_of(const struct histogram *histogram)
{
    struct histogram_sum sum = {.sum_us = 0};

    histogram_add_to(&sum, histogram);
    return sum;
}

static void add_times(struct histogram *histogram, uint64_t us, unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        histogram_add(histogram, us);
}

static void assert_counted_in_its_bucket(uint64_t us)
{
    struct histogram histogram = {.sum_us = {0}};
    struct histogram_sum sum;

    histogram_add(&histogram, us);
    sum = sum_of(&histogram);
    assert_int_equal(sum.buckets[bucket_by_search(us)], 1);
    assert_int_equal(histogram_count(&sum), 1);
    assert_int_equal(sum.sum_us, us);
}

static void a_counter_goes_up_and_down(void **state)
{
    struct counter a = {0}, b = {0};

    (void)state;
    counter_add(&a, 5);
    counter_sub(&a, 2);
    assert_int_equal(counter_get(&a), 3);
    counter_sub(&b, 1);
    assert_int_equal(counter_get(&a) + counter_get(&b), 2);
}

static void bounds_ascend_and_go_from_50_us_to_60_s(void **state)
{
    (void)state;
    assert_int_equal(histogram_bounds_us[0], 50);
    assert_int_equal(histogram_bounds_us[HISTOGRAM_BOUNDS - 1], 60000000);
    for (unsigned i = 1; i < HISTOGRAM_BOUNDS; i++) {
        assert_true(histogram_bounds_us[i] > histogram_bounds_us[i - 1]);
        assert_true(histogram_bounds_us[i] * 2u <= histogram_bounds_us[i - 1] * 3u);
    }
}

static void every_duration_is_counted_in_its_bucket(void **state)
{
    struct rng rng = {.state = 1};

    (void)state;
    for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++)
        for (uint64_t us = histogram_bounds_us[i] - 1; us <= histogram_bounds_us[i] + 1u; us++)
            assert_counted_in_its_bucket(us);
    for (unsigned bit = 0; bit < 64; bit++) {
        assert_counted_in_its_bucket(UINT64_C(1) << bit);
        assert_counted_in_its_bucket((UINT64_C(1) << bit) - 1);
    }
    assert_counted_in_its_bucket(0);
    assert_counted_in_its_bucket(UINT64_MAX);
    for (unsigned i = 0; i < 10000; i++)
        assert_counted_in_its_bucket(rng_next(&rng) >> rng_below(&rng, 64));
}

static void a_percentile_is_interpolated_in_its_bucket(void **state)
{
    struct histogram histogram = {.sum_us = {0}};
    struct histogram_sum sum;

    (void)state;
    add_times(&histogram, 80, 50);   /* over 75 to 100 */
    add_times(&histogram, 1200, 40); /* over 1000 to 1500 */
    add_times(&histogram, 9000, 10); /* over 7500 to 10000 */
    sum = sum_of(&histogram);
    assert_true(histogram_percentile(&sum, 0) == 75);
    assert_true(histogram_percentile(&sum, 0.25) == 87.5);
    assert_true(histogram_percentile(&sum, 0.5) == 100);
    assert_true(histogram_percentile(&sum, 0.7) == 1250);
    assert_true(fabs(histogram_percentile(&sum, 0.9) - 1500) < 0.001);
    assert_true(fabs(histogram_percentile(&sum, 0.99) - 9750) < 0.001);
    assert_true(histogram_percentile(&sum, 1) == 10000);
}

static void a_percentile_of_nothing_is_not_a_number(void **state)
{
    struct histogram_sum sum = {.sum_us = 0};

    (void)state;
    assert_true(isnan(histogram_percentile(&sum, 0.5)));
}

static void a_percentile_beyond_the_last_bound_is_the_last_bound(void **state)
{
    struct histogram histogram = {.sum_us = {0}};
    struct histogram_sum sum;

    (void)state;
    histogram_add(&histogram, 20);
    histogram_add(&histogram, UINT64_C(3600) * 1000000);
    sum = sum_of(&histogram);
    assert_true(histogram_percentile(&sum, 0.5) == 50);
    assert_true(histogram_percentile(&sum, 0.99) == 60000000);
}

static void histograms_of_several_threads_add_up(void **state)
{
    struct histogram a = {.sum_us = {0}}, b = {.sum_us = {0}};
    struct histogram_sum sum, both = {.sum_us = 0};

    (void)state;
    add_times(&a, 100, 3);
    add_times(&b, 100, 4);
    add_times(&b, 5000, 2);
    sum = sum_of(&a);
    histogram_add_to(&sum, &b);
    assert_int_equal(histogram_count(&sum), 9);
    assert_int_equal(sum.buckets[bucket_by_search(100)], 7);
    assert_int_equal(sum.sum_us, 10700);
    histogram_add_sum(&both, &sum);
    histogram_add_sum(&both, &sum);
    assert_int_equal(histogram_count(&both), 18);
    assert_int_equal(both.buckets[bucket_by_search(5000)], 4);
    assert_int_equal(both.sum_us, 21400);
}

static void a_window_holds_what_came_since(void **state)
{
    struct histogram histogram = {.sum_us = {0}};
    struct histogram_sum earlier, now;

    (void)state;
    add_times(&histogram, 100, 1000);
    earlier = sum_of(&histogram);
    add_times(&histogram, 2000, 2);
    now = sum_of(&histogram);
    histogram_subtract(&now, &earlier);
    assert_int_equal(histogram_count(&now), 2);
    assert_int_equal(now.sum_us, 4000);
    assert_true(histogram_percentile(&now, 1) == 2000);
}

static void a_window_is_empty_where_a_histogram_went_away(void **state)
{
    struct histogram histogram = {.sum_us = {0}};
    struct histogram_sum earlier, now = {.sum_us = 0};

    (void)state;
    add_times(&histogram, 100, 10);
    earlier = sum_of(&histogram);
    histogram_subtract(&now, &earlier);
    assert_int_equal(histogram_count(&now), 0);
    assert_int_equal(now.sum_us, 0);
}

static void opentelemetrys_counts_are_cumulative_and_include_their_bound(void **state)
{
    static const uint32_t bounds_ms[] = {5,   10,  25,   50,   75,   100,  250,
                                         500, 750, 1000, 2500, 5000, 7500, 10000};
    struct histogram histogram = {.sum_us = {0}};
    struct histogram_sum sum;
    uint64_t counts[HISTOGRAM_OTEL_BOUNDS + 1];

    (void)state;
    assert_int_equal(sizeof bounds_ms / sizeof bounds_ms[0], HISTOGRAM_OTEL_BOUNDS);
    for (unsigned i = 0; i < HISTOGRAM_OTEL_BOUNDS; i++) {
        assert_int_equal(histogram_otel_bounds_us[i], bounds_ms[i] * 1000);
        histogram_add(&histogram, histogram_otel_bounds_us[i]);
        add_times(&histogram, histogram_otel_bounds_us[i] + 1, i + 1); /* of the next */
    }
    histogram_add(&histogram, UINT64_C(61) * 1000000);
    sum = sum_of(&histogram);
    histogram_counts(&sum, histogram_otel_bounds_us, HISTOGRAM_OTEL_BOUNDS, counts);
    for (unsigned i = 0; i < HISTOGRAM_OTEL_BOUNDS; i++)
        assert_int_equal(counts[i], i + 1 + i * (i + 1) / 2);
    assert_int_equal(counts[HISTOGRAM_OTEL_BOUNDS], histogram_count(&sum));
    assert_int_equal(counts[HISTOGRAM_OTEL_BOUNDS], 14 + 14 * 15 / 2 + 1);
}

#define MANY 200000u

static void *add_many(void *arg)
{
    for (unsigned i = 0; i < MANY; i++)
        histogram_add(arg, 100);
    return NULL;
}

static void any_thread_reads_while_one_writes(void **state)
{
    struct histogram histogram = {.sum_us = {0}};
    uint64_t before = 0;
    pthread_t writer;

    (void)state;
    assert_int_equal(pthread_create(&writer, NULL, add_many, &histogram), 0);
    while (before < MANY) {
        struct histogram_sum sum = sum_of(&histogram);

        assert_true(histogram_count(&sum) >= before);
        before = histogram_count(&sum);
    }
    assert_int_equal(pthread_join(writer, NULL), 0);
    assert_int_equal(counter_get(&histogram.sum_us), MANY * 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_counter_goes_up_and_down),
        cmocka_unit_test(bounds_ascend_and_go_from_50_us_to_60_s),
        cmocka_unit_test(every_duration_is_counted_in_its_bucket),
        cmocka_unit_test(a_percentile_is_interpolated_in_its_bucket),
        cmocka_unit_test(a_percentile_of_nothing_is_not_a_number),
        cmocka_unit_test(a_percentile_beyond_the_last_bound_is_the_last_bound),
        cmocka_unit_test(histograms_of_several_threads_add_up),
        cmocka_unit_test(a_window_holds_what_came_since),
        cmocka_unit_test(a_window_is_empty_where_a_histogram_went_away),
        cmocka_unit_test(opentelemetrys_counts_are_cumulative_and_include_their_bound),
        cmocka_unit_test(any_thread_reads_while_one_writes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
