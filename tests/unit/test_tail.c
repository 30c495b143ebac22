/* test_tail.c - front/tail.h: what is kept of the requests that go by, and that neither side disturbs the other. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "fiber/fiber.h"
#include "front/tail.h"

#define START (100 * (uint64_t)US_PER_S)
#define MS US_PER_MS

static struct tail *tail;
static struct tail_entry entry;

static int begin(void **state)
{
    (void)state;
    tail = tail_create(2);
    return tail ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    tail_free(tail);
    return 0;
}

static void put(unsigned thread, uint64_t now_us, unsigned status)
{
    const struct tail_request request = {.texts = {[TAIL_PATH] = SLICE("/soup")}, .status = status};

    if (tail_wants(tail, thread, now_us, status))
        tail_put(tail, thread, &request);
}

/* How many are there, and for how many they stand. */
static unsigned take_all(uint64_t *stand_for, unsigned *failed)
{
    unsigned n = 0;

    *stand_for = 0;
    *failed = 0;
    while (tail_take(tail, &entry)) {
        n++;
        *stand_for += entry.stands_for;
        *failed += entry.status >= 500;
    }
    return n;
}

static void it_is_watched_until_the_time_that_was_said(void **state)
{
    (void)state;
    assert_false(tail_is_watched(tail, START));
    put(0, START, 200);
    assert_false(tail_take(tail, &entry)); /* it had no ring */
    assert_int_equal(tail_watch(tail, START + 10), 0);
    assert_true(tail_is_watched(tail, START + 9));
    assert_false(tail_is_watched(tail, START + 10));
}

static void a_request_is_told_as_it_was(void **state)
{
    const struct tail_request request = {
        .texts = {[TAIL_LISTENER] = SLICE(":80"),
                  [TAIL_METHOD] = SLICE("GET"),
                  [TAIL_HOST] = SLICE("shop.test"),
                  [TAIL_PATH] = SLICE("/cart"),
                  [TAIL_ROUTE] = SLICE("/"),
                  [TAIL_SERVER] = SLICE("10.0.0.1:80"),
                  [TAIL_CLIENT] = SLICE("192.0.2.7")},
        .status = 204,
        .duration_us = 1234,
        .bytes = 99,
    };

    (void)state;
    assert_int_equal(tail_watch(tail, NEVER), 0);
    assert_true(tail_wants(tail, 1, START, request.status));
    tail_put(tail, 1, &request);
    assert_true(tail_take(tail, &entry));
    for (unsigned i = 0; i < N_TAIL_TEXTS; i++)
        assert_true(slice_equal(tail_text(&entry, i), request.texts[i]));
    assert_int_equal(entry.status, 204);
    assert_int_equal(entry.duration_us, 1234);
    assert_int_equal(entry.bytes, 99);
    assert_int_equal(entry.stands_for, 1);
    assert_true(clock_wall_us() - entry.wall_us < 10 * US_PER_S);
    assert_false(tail_take(tail, &entry));
}

static void what_is_long_is_cut(void **state)
{
    char *text = malloc(5000);
    struct tail_request request = {.status = 200};
    size_t sum = 0;

    (void)state;
    assert_non_null(text);
    memset(text, 'x', 5000);
    for (unsigned i = 0; i < N_TAIL_TEXTS; i++)
        request.texts[i] = slice_of(text, 5000);
    assert_int_equal(tail_watch(tail, NEVER), 0);
    assert_true(tail_wants(tail, 0, START, request.status));
    tail_put(tail, 0, &request);
    free(text);
    assert_true(tail_take(tail, &entry));
    for (unsigned i = 0; i < N_TAIL_TEXTS; i++) {
        assert_true(tail_text(&entry, i).len >= 16);
        sum += tail_text(&entry, i).len;
    }
    assert_true(sum <= TAIL_TEXT_BYTES);
    assert_int_equal(tail_text(&entry, TAIL_PATH).len, 128);
}

static void all_are_kept_while_they_are_few(void **state)
{
    uint64_t stand_for;
    unsigned failed;

    (void)state;
    assert_int_equal(tail_watch(tail, NEVER), 0);
    for (unsigned i = 0; i < 900; i++)
        put(0, START + i * 1100, 200);
    assert_int_equal(take_all(&stand_for, &failed), 900);
    assert_int_equal(stand_for, 900);
}

static void of_many_a_share_is_kept_and_says_for_how_many_it_stands(void **state)
{
    uint64_t stand_for, all = 0;
    unsigned failed, kept = 0;

    (void)state;
    assert_int_equal(tail_watch(tail, NEVER), 0);
    for (unsigned second = 0; second < 10; second++) {
        for (unsigned i = 0; i < 50000; i++)
            put(0, START + second * US_PER_S + i * 20, 200);
        kept += take_all(&stand_for, &failed);
        all += stand_for;
    }
    assert_in_range(kept, 9 * TAIL_RATE, 10 * TAIL_RATE);
    assert_in_range(all, 499000, 500000);
}

static void a_few_errors_are_not_lost_among_many_good_ones(void **state)
{
    uint64_t stand_for;
    unsigned failed;

    (void)state;
    assert_int_equal(tail_watch(tail, NEVER), 0);
    for (unsigned i = 0; i < 25000; i++)
        put(0, START + i * 20, i % 1000 == 7 ? 503 : 200);
    take_all(&stand_for, &failed);
    assert_int_equal(failed, 25);
}

static void a_quiet_time_is_no_measure_for_a_busy_one(void **state)
{
    uint64_t stand_for;
    unsigned failed;

    (void)state;
    assert_int_equal(tail_watch(tail, NEVER), 0);
    for (unsigned i = 0; i < 5000; i++)
        put(0, START + i * 20, 200);
    take_all(&stand_for, &failed);
    for (unsigned i = 0; i < 10; i++)
        put(0, START + US_PER_S + i * MS, 200);
    assert_int_equal(take_all(&stand_for, &failed), 10);
}

static void a_full_ring_drops_what_is_new(void **state)
{
    uint64_t stand_for;
    unsigned failed, n;

    (void)state;
    assert_int_equal(tail_watch(tail, NEVER), 0);
    for (unsigned i = 0; i < 3000; i++)
        put(0, START + i * 1100, 200);
    n = take_all(&stand_for, &failed);
    assert_int_equal(n, 1024);
    assert_int_equal(stand_for, n);
    put(0, START + 4 * US_PER_S, 200);
    assert_true(tail_take(tail, &entry));
    assert_int_equal(entry.stands_for, 3000 - 1024 + 1);
}

static void those_of_several_threads_come_in_the_order_of_their_time(void **state)
{
    uint64_t last_us = 0;

    (void)state;
    assert_int_equal(tail_watch(tail, NEVER), 0);
    for (unsigned i = 0; i < 300; i++)
        put(i % 3 == 0, START + i * 1100, 200 + i % 3);
    for (unsigned i = 0; i < 300; i++) {
        assert_true(tail_take(tail, &entry));
        assert_true(entry.wall_us >= last_us);
        last_us = entry.wall_us;
    }
}

static _Atomic unsigned done;

/* A thread that serves: numbers its requests in their status and their path, which have to fit. */
static void *serve_many(void *arg)
{
    unsigned thread = *(unsigned *)arg;

    for (unsigned i = 0; i < 200000; i++) {
        char path[32];
        int len = snprintf(path, sizeof path, "/%u/%u", thread, i);
        const struct tail_request request = {
            .texts = {[TAIL_PATH] = {path, (size_t)len}}, .status = 200 + thread, .bytes = i};

        if (tail_wants(tail, thread, START + i * 1100, request.status))
            tail_put(tail, thread, &request);
    }
    atomic_fetch_add(&done, 1);
    return NULL;
}

static void threads_write_while_one_reads(void **state)
{
    unsigned numbers[2] = {0, 1}, n = 0;
    uint64_t next[2] = {0, 0};
    pthread_t threads[2];

    (void)state;
    assert_int_equal(tail_watch(tail, NEVER), 0);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, serve_many, &numbers[i]), 0);
    for (;;) {
        bool is_over = atomic_load(&done) == 2;
        char path[32];
        unsigned thread;

        if (!tail_take(tail, &entry)) {
            if (is_over)
                break;
            continue;
        }
        thread = entry.status - 200u;
        assert_in_range(thread, 0, 1);
        snprintf(path, sizeof path, "/%u/%u", thread, (unsigned)entry.bytes);
        assert_true(slice_equal(tail_text(&entry, TAIL_PATH), slice_from_text(path)));
        next[thread] += entry.stands_for;
        assert_int_equal(entry.bytes + 1, next[thread]); /* none is missing in between */
        n++;
    }
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_true(n >= 1024);
}

int main(void)
{
#define ONE(test) cmocka_unit_test_setup_teardown(test, begin, end)
    const struct CMUnitTest tests[] = {
        ONE(it_is_watched_until_the_time_that_was_said),
        ONE(a_request_is_told_as_it_was),
        ONE(what_is_long_is_cut),
        ONE(all_are_kept_while_they_are_few),
        ONE(of_many_a_share_is_kept_and_says_for_how_many_it_stands),
        ONE(a_few_errors_are_not_lost_among_many_good_ones),
        ONE(a_quiet_time_is_no_measure_for_a_busy_one),
        ONE(a_full_ring_drops_what_is_new),
        ONE(those_of_several_threads_come_in_the_order_of_their_time),
        ONE(threads_write_while_one_reads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
