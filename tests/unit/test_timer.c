/* test_timer.c - fiber/timer.h against a model: an array of times, looked through from end to end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "fiber/timer.h"

#define MANY 100000u
#define IDLE UINT64_MAX

/* The heap, and what should be in it. */
struct pair {
    struct timer_heap heap;
    struct timer *timers;
    uint64_t *when_us; /* IDLE: not armed */
    unsigned n, armed;
    struct rng rng;
};

static struct pair pair_create(unsigned n, uint64_t seed)
{
    struct pair pair = {.n = n, .rng = {seed}};

    pair.timers = calloc(n, sizeof *pair.timers);
    pair.when_us = calloc(n, sizeof *pair.when_us);
    assert_non_null(pair.timers);
    assert_non_null(pair.when_us);
    assert_int_equal(timer_heap_reserve(&pair.heap, n), 0);
    for (unsigned i = 0; i < n; i++) {
        timer_init(&pair.timers[i]);
        pair.when_us[i] = IDLE;
    }
    return pair;
}

static void pair_free(struct pair *pair)
{
    timer_heap_free(&pair->heap);
    free(pair->timers);
    free(pair->when_us);
}

static void arm(struct pair *pair, unsigned i, uint64_t when_us)
{
    pair->armed += pair->when_us[i] == IDLE;
    pair->when_us[i] = when_us;
    timer_arm(&pair->heap, &pair->timers[i], when_us);
}

static void disarm(struct pair *pair, unsigned i)
{
    pair->armed -= pair->when_us[i] != IDLE;
    pair->when_us[i] = IDLE;
    timer_disarm(&pair->heap, &pair->timers[i]);
}

/* The timer that came off, or n. */
static unsigned pop(struct pair *pair, uint64_t now_us)
{
    struct timer *timer = timer_pop(&pair->heap, now_us);
    unsigned i = timer ? (unsigned)(timer - pair->timers) : pair->n;

    if (timer) {
        assert_int_equal(timer_when(&pair->heap, timer), UINT64_MAX);
        pair->armed--;
    }
    return i;
}

static void assert_same(const struct pair *pair)
{
    const struct timer_heap *heap = &pair->heap;
    uint64_t least = UINT64_MAX;

    assert_int_equal(heap->count, pair->armed);
    for (unsigned i = 0; i < pair->n; i++) {
        assert_int_equal(timer_when(heap, &pair->timers[i]), pair->when_us[i]);
        least = pair->when_us[i] < least ? pair->when_us[i] : least;
    }
    assert_int_equal(timer_next(heap), least);
    for (uint32_t at = 0; at < heap->count; at++) {
        assert_int_equal(heap->entries[at].timer->index, at);
        if (at)
            assert_true(heap->entries[(at - 1) / 4].when_us <= heap->entries[at].when_us);
    }
}

static void nothing_is_due_in_an_empty_heap(void **state)
{
    struct timer_heap heap = {0};
    struct timer timer;

    (void)state;
    timer_init(&timer);
    assert_null(timer_pop(&heap, UINT64_MAX));
    assert_int_equal(timer_next(&heap), UINT64_MAX);
    assert_int_equal(timer_when(&heap, &timer), UINT64_MAX);
    timer_disarm(&heap, &timer);
    timer_heap_free(&heap);
}

static void a_timer_is_due_at_its_time_and_not_before(void **state)
{
    struct pair pair = pair_create(1, 0);

    (void)state;
    arm(&pair, 0, 1000);
    assert_int_equal(pop(&pair, 999), 1);
    assert_int_equal(pop(&pair, 1000), 0);
    assert_int_equal(pop(&pair, UINT64_MAX - 1), 1);
    arm(&pair, 0, 7); /* and again */
    assert_int_equal(pop(&pair, 7), 0);
    pair_free(&pair);
}

static void room_grows_and_keeps_what_is_armed(void **state)
{
    struct timer timers[1000];
    struct timer_heap heap = {0};

    (void)state;
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(timer_heap_reserve(&heap, i + 1), 0);
        assert_true(heap.room > i);
        timer_init(&timers[i]);
        timer_arm(&heap, &timers[i], 1000 - i);
    }
    for (uint32_t i = 1000; i-- > 0;)
        assert_ptr_equal(timer_pop(&heap, 1000), &timers[i]);
    assert_int_equal(timer_heap_reserve(&heap, 1), 0);
    assert_true(heap.room >= 1000);
    timer_heap_free(&heap);
}

static void equal_times_all_come_off(void **state)
{
    struct pair pair = pair_create(500, 0);

    (void)state;
    for (unsigned i = 0; i < pair.n; i++)
        arm(&pair, i, 42);
    for (unsigned i = 0; i < pair.n; i += 3)
        disarm(&pair, i);
    assert_same(&pair);
    for (unsigned i; (i = pop(&pair, 42)) < pair.n;) {
        assert_int_equal(pair.when_us[i], 42);
        pair.when_us[i] = IDLE;
    }
    assert_same(&pair);
    pair_free(&pair);
}

/* Takes off all that is due: in order, what the model says is due, and nothing more. */
static void pop_all(struct pair *pair, uint64_t now_us)
{
    uint64_t last = 0;

    for (unsigned i; (i = pop(pair, now_us)) < pair->n;) {
        assert_true(pair->when_us[i] <= now_us);
        assert_true(pair->when_us[i] >= last);
        last = pair->when_us[i];
        pair->when_us[i] = IDLE;
    }
    assert_same(pair); /* also that nothing due stayed: its time would be least */
    assert_true(timer_next(&pair->heap) > now_us);
}

static void random_arming_moving_and_disarming_is_as_in_the_model(void **state)
{
    static const uint64_t seeds[] = {1, 20, 300};
    static const uint64_t spreads[] = {1000000, 50, UINT64_MAX / 2}; /* of the times; 50: mostly equal ones */

    (void)state;
    for (unsigned s = 0; s < 3; s++) {
        struct pair pair = pair_create(2000, seeds[s]);
        uint64_t now = 0;

        for (unsigned step = 0; step < 200; step++) {
            for (unsigned k = 0; k < 200; k++) {
                unsigned i = (unsigned)rng_below(&pair.rng, pair.n);

                if (rng_below(&pair.rng, 4) == 0)
                    disarm(&pair, i);
                else
                    arm(&pair, i, now + 1 + rng_below(&pair.rng, spreads[s]));
            }
            assert_same(&pair);
            now += spreads[s] / 500 + 1;
            pop_all(&pair, now);
        }
        pop_all(&pair, UINT64_MAX - 1);
        pair_free(&pair);
    }
}

static int by_value(const void *a, const void *b)
{
    uint64_t x, y;

    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

static void a_hundred_thousand_timers_come_off_in_order(void **state)
{
    struct pair pair = pair_create(MANY, 4);
    uint64_t *sorted = calloc(MANY, sizeof *sorted);
    unsigned n = 0;

    (void)state;
    assert_non_null(sorted);
    for (unsigned i = 0; i < MANY; i++)
        arm(&pair, i, rng_below(&pair.rng, 1u << 20));
    for (unsigned k = 0; k < 3 * MANY; k++) {
        unsigned i = (unsigned)rng_below(&pair.rng, MANY);

        if (k % 5 == 0)
            disarm(&pair, i);
        else
            arm(&pair, i, rng_below(&pair.rng, 1u << 20));
    }
    assert_same(&pair);
    for (unsigned i = 0; i < MANY; i++)
        if (pair.when_us[i] != IDLE)
            sorted[n++] = pair.when_us[i];
    qsort(sorted, n, sizeof *sorted, by_value);
    for (unsigned k = 0; k < n; k++) {
        unsigned i = pop(&pair, sorted[k]);

        assert_true(i < pair.n);
        assert_int_equal(pair.when_us[i], sorted[k]);
    }
    assert_int_equal(pair.heap.count, 0);
    free(sorted);
    pair_free(&pair);
}

/* How many entries are not what they were; then the copy is made the same. */
static unsigned moved(const struct timer_heap *heap, struct timer_entry *copy)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < MANY; i++)
        n += memcmp(&copy[i], &heap->entries[i], sizeof copy[i]) != 0;
    memcpy(copy, heap->entries, MANY * sizeof *copy);
    return n;
}

/* The evidence for O(log n): of 100,000 entries in levels of 1, 4, 16 ... an operation rewrites one a level. */
static void an_operation_moves_no_more_than_one_entry_a_level(void **state)
{
    struct pair pair = pair_create(MANY, 5);
    struct timer_entry *copy = calloc(MANY, sizeof *copy);
    unsigned levels = 0, most = 0;

    (void)state;
    assert_non_null(copy);
    for (uint64_t room = 0, level = 1; room < MANY; room += level, level *= 4)
        levels++;
    assert_int_equal(levels, 10);
    for (unsigned i = 0; i < MANY; i++)
        arm(&pair, i, 1 + rng_below(&pair.rng, UINT32_MAX));
    moved(&pair.heap, copy);
    for (unsigned k = 0; k < 400; k++) {
        unsigned i = (unsigned)rng_below(&pair.rng, MANY), n;

        if (k % 4 == 0)
            arm(&pair, i, k); /* from the leaves to the top */
        else if (k % 4 == 1)
            arm(&pair, i, UINT64_MAX - k);
        else if (k % 4 == 2)
            pair.when_us[pop(&pair, UINT64_MAX - 1)] = IDLE; /* the last leaf goes through the top */
        else
            disarm(&pair, i);
        n = moved(&pair.heap, copy);
        most = n > most ? n : most;
    }
    assert_same(&pair);
    assert_in_range(most, 5, levels); /* less than 5: nothing was tried */
    free(copy);
    pair_free(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_due_in_an_empty_heap),
        cmocka_unit_test(a_timer_is_due_at_its_time_and_not_before),
        cmocka_unit_test(room_grows_and_keeps_what_is_armed),
        cmocka_unit_test(equal_times_all_come_off),
        cmocka_unit_test(random_arming_moving_and_disarming_is_as_in_the_model),
        cmocka_unit_test(a_hundred_thousand_timers_come_off_in_order),
        cmocka_unit_test(an_operation_moves_no_more_than_one_entry_a_level),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
