/* test_fiber.c - fiber/fiber.h: order, joins, detaching, cancelling whole families, and many fibers at once.
 * Every kind of wait is in test_wait.c. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fiber_kit.h"

static void nothing(void *arg)
{
    (void)arg;
}

static void park_forever(void *arg)
{
    int *result = arg;
    int error = fiber_park(NEVER);

    if (result)
        *result = error;
}

/* --- order --------------------------------------------------------------------------------------------------- */

static void tell_name(void *arg)
{
    tell(*(const char *)arg);
}

static void tell_twice(void *arg)
{
    tell(*(const char *)arg);
    CHECK_EQUAL(fiber_yield(), 0);
    tell(*(const char *)arg);
}

static void spawn_three(void *arg)
{
    (void)arg;
    CHECK_EQUAL(fiber_start("a", tell_name, "a"), 0);
    CHECK_EQUAL(fiber_start("b", tell_name, "b"), 0);
    CHECK_EQUAL(fiber_start("c", tell_name, "c"), 0);
    tell('-'); /* none ran yet */
}

static void fibers_start_at_the_next_turn_in_the_order_they_were_spawned(void **state)
{
    (void)state;
    kit_run(spawn_three, NULL);
    assert_string_equal(story, "-abc");
}

static void spawn_three_that_yield(void *arg)
{
    (void)arg;
    CHECK_EQUAL(fiber_start("a", tell_twice, "a"), 0);
    CHECK_EQUAL(fiber_start("b", tell_twice, "b"), 0);
    CHECK_EQUAL(fiber_start("c", tell_twice, "c"), 0);
}

static void a_yield_lets_every_other_runnable_fiber_go_first(void **state)
{
    (void)state;
    kit_run(spawn_three_that_yield, NULL);
    assert_string_equal(story, "abcabc");
}

struct numbers {
    double real;
    uint64_t whole;
};

/* As much in registers as they hold, the same with and without switches in between. */
static struct numbers reckon(unsigned seed, bool yields)
{
    double a = seed + 0.5, b = a * 3, c = b / 7, d = c + a, e = d * b, f = e - c;
    uint64_t m = seed * 31u + 7, n = m * m, o = n ^ (m << 7), p = o + n, q = p * 13, r = q ^ (o >> 3);

    for (unsigned i = 0; i < 20; i++) {
        if (yields)
            fiber_yield();
        a = a * 0.5 + f, b = b - a * 0.25, c = c + b * 0.125, d = (d + c) * 0.5, e = e * 0.75 - d,
        f = f * 0.5 + e;
        m += r, n ^= m * 5, o += n >> 2, p ^= o, q += p * 3, r ^= q >> 5;
    }
    return (struct numbers){a + b + c + d + e + f, m + n + o + p + q + r};
}

static void reckon_and_compare(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    struct numbers switched = reckon(seed, true), straight = reckon(seed, false);

    CHECK(memcmp(&switched.real, &straight.real, sizeof straight.real) == 0);
    CHECK_EQUAL(switched.whole, straight.whole);
}

static void locals_survive_a_switch(void *arg)
{
    (void)arg;
    for (uintptr_t i = 1; i <= 50; i++)
        CHECK_EQUAL(fiber_start("reckon", reckon_and_compare, (void *)i), 0);
}

static void ask_who(void *arg)
{
    struct fiber *self = fiber_self();

    (void)arg;
    CHECK(self != NULL);
    CHECK(strcmp(fiber_name(self), "test") == 0);
    CHECK_EQUAL(loop_fibers(loop_self()), 1);
    CHECK_EQUAL(loop_deadline(0), NEVER);
    CHECK_EQUAL(loop_deadline(NEVER - 1), NEVER);
    CHECK_EQUAL(loop_deadline(5), loop_now_us() + 5);
    CHECK(!fiber_cancelled());
}

static void a_fiber_knows_itself_and_the_time(void **state)
{
    (void)state;
    assert_null(fiber_self());
    kit_run(ask_who, NULL);
    assert_null(fiber_self());
}

/* --- join, detach, cancel and join --------------------------------------------------------------------------- */

static void join_early_and_late(void *arg)
{
    struct fiber *early = fiber_spawn("early", tell_twice, "a"), *late = fiber_spawn("late", nothing, NULL);

    (void)arg;
    CHECK_EQUAL(fiber_join(early, NEVER), 0);
    CHECK(strcmp(story, "aa") == 0);
    CHECK_EQUAL(loop_fibers(loop_self()), 1);
    CHECK_EQUAL(fiber_join(late, 1), 0); /* ended long ago: no wait, so no deadline */
}

static void a_join_returns_after_the_end_whenever_that_was(void **state)
{
    (void)state;
    kit_run(join_early_and_late, NULL);
}

static void a_join_that_times_out_leaves_the_fiber_to_be_joined_again(void *arg)
{
    int result = 1;
    struct fiber *fiber = fiber_spawn("parked", park_forever, &result);

    (void)arg;
    CHECK_EQUAL(fiber_join(fiber, in_ms(2)), -ETIMEDOUT);
    CHECK_EQUAL(result, 1);
    CHECK_EQUAL(fiber_join(fiber, in_ms(2)), -ETIMEDOUT);
    fiber_wake(fiber);
    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
    CHECK_EQUAL(result, 0);
}

/* Ends in a turn in which the deadline's timer already made the joiner runnable: it runs before the joiner, because
 * a yield is queued before timers go off. */
static void end_after_deadline(void *arg)
{
    const uint64_t *deadline_us = arg;

    while (loop_now_us() < *deadline_us)
        fiber_yield();
}

static void an_end_in_the_turn_of_the_joins_deadline_counts(void *arg)
{
    uint64_t deadline_us = in_ms(5);
    struct fiber *fiber = fiber_spawn("ender", end_after_deadline, &deadline_us);

    (void)arg;
    CHECK_EQUAL(fiber_join(fiber, deadline_us), 0); /* -ETIMEDOUT would say that it still runs */
}

static void detach_early_and_late(void *arg)
{
    struct loop *loop = loop_self();
    struct fiber *unstarted = fiber_spawn("unstarted", tell_name, "a");
    struct fiber *parked = fiber_spawn("parked", park_forever, NULL);
    struct fiber *ended = fiber_spawn("ended", tell_name, "b");

    (void)arg;
    fiber_detach(unstarted);
    fiber_yield();
    fiber_detach(parked);
    fiber_detach(ended);
    CHECK_EQUAL(loop_fibers(loop), 2);
    fiber_cancel(parked); /* its handle is good until it ends */
    fiber_yield();
    CHECK_EQUAL(loop_fibers(loop), 1);
}

static void a_detached_fiber_frees_itself_whenever_it_was_detached(void **state)
{
    (void)state;
    kit_run(detach_early_and_late, NULL); /* its loop_free asserts that every stack came back */
    assert_string_equal(story, "ab");
}

/* A family: each cancels and joins its child when it is cancelled itself, which takes the child some turns. */
struct family {
    char name;
    struct family *child;
};

static void live(void *arg)
{
    struct family *member = arg;
    struct fiber *child = member->child ? fiber_spawn("child", live, member->child) : NULL;

    CHECK_EQUAL(fiber_park(NEVER), -ECANCELED);
    if (child) {
        fiber_cancel_and_join(child);
        CHECK(fiber_cancelled());
        CHECK_EQUAL(fiber_park(NEVER), -ECANCELED);
    }
    tell(member->name);
}

static void cancel_a_family(void *arg)
{
    struct family c = {'c', NULL}, b = {'b', &c}, a = {'a', &b};
    struct fiber *eldest = fiber_spawn("eldest", live, &a);

    (void)arg;
    for (int i = 0; i < 4; i++)
        fiber_yield();
    fiber_cancel_and_join(eldest);
    tell('-');
    CHECK(!fiber_cancelled());
    CHECK_EQUAL(fiber_yield(), 0);
}

static void a_cancelled_fiber_still_waits_for_what_it_cancels(void **state)
{
    (void)state;
    kit_run(cancel_a_family, NULL);
    assert_string_equal(story, "cba-");
}

struct joiner {
    struct family *family;
    struct fiber *eldest;
};

static void cancel_and_join_eldest(void *arg)
{
    struct joiner *joiner = arg;

    CHECK(!fiber_cancelled());
    fiber_cancel_and_join(joiner->eldest);
    tell('j');
    CHECK(fiber_cancelled()); /* the cancel that came meanwhile is not forgotten */
    CHECK_EQUAL(fiber_park(NEVER), -ECANCELED);
}

static void cancel_a_joiner(void *arg)
{
    struct family d = {'d', NULL}, c = {'c', &d}, b = {'b', &c}, a = {'a', &b};
    struct joiner joiner = {.eldest = fiber_spawn("eldest", live, &a)};
    struct fiber *fiber;

    (void)arg;
    for (int i = 0; i < 5; i++)
        fiber_yield();
    fiber = fiber_spawn("joiner", cancel_and_join_eldest, &joiner);
    fiber_yield();
    for (int i = 0; i < 3; i++) { /* once each turn, while it takes the family several turns */
        fiber_cancel(fiber);
        fiber_yield();
    }
    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
}

static void a_cancel_during_cancel_and_join_is_kept_for_afterwards(void **state)
{
    (void)state;
    kit_run(cancel_a_joiner, NULL);
    assert_string_equal(story, "dcbaj");
}

static void cancelling_what_has_ended_does_nothing(void *arg)
{
    struct fiber *fiber = fiber_spawn("ended", nothing, NULL);

    (void)arg;
    fiber_yield();
    fiber_cancel(fiber);
    fiber_wake(fiber);
    fiber_cancel_and_join(fiber);
}

/* --- many ---------------------------------------------------------------------------------------------------- */

/* The thread sanitizer of clang 14 has room for 8,000 fibers. */
#define CROWD SCALED(30000u, 1500u)

struct crowd {
    struct wait_queue queue;
    unsigned waiting, cancelled;
};

static void join_the_crowd(void *arg)
{
    struct crowd *crowd = arg;
    unsigned number = crowd->waiting++;
    int error;

    if (number % 3 == 0)
        error = fiber_park(NEVER);
    else if (number % 3 == 1)
        error = fiber_sleep_until(in_ms(3600 * 1000 - number));
    else
        error = wait_queue_wait(&crowd->queue, in_ms(1800 * 1000 + number));
    crowd->cancelled += error == -ECANCELED;
}

static size_t resident_pages(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    size_t size = 0, resident = 0;

    CHECK(file && fscanf(file, "%zu %zu", &size, &resident) == 2);
    if (file)
        fclose(file);
    return resident;
}

static void gather_and_dismiss(void *arg)
{
    struct loop *loop = loop_self();
    struct crowd crowd = {.waiting = 0};
    struct fiber **fibers = arg;
    size_t before = resident_pages(), peak, after;

    wait_queue_init(&crowd.queue);
    for (unsigned i = 0; i < CROWD; i++)
        fibers[i] = fiber_spawn("crowd", join_the_crowd, &crowd);
    CHECK_EQUAL(fiber_yield(), 0);
    CHECK_EQUAL(crowd.waiting, CROWD);
    CHECK_EQUAL(loop_fibers(loop), CROWD + 1);
    CHECK(loop->stacks.n_slabs >= CROWD / 64);
    peak = resident_pages();
    for (unsigned i = 0; i < CROWD; i++)
        fiber_cancel(fibers[i]);
    for (unsigned i = 0; i < CROWD; i++)
        CHECK_EQUAL(fiber_join(fibers[i], NEVER), 0);
    CHECK_EQUAL(crowd.cancelled, CROWD);
    CHECK(list_empty(&crowd.queue.waiters));
    CHECK(loop->stacks.n_slabs <= 2); /* ours, and the spare */
    after = resident_pages();
    if (SANITIZED)
        return;
    CHECK(peak - before >= CROWD);                   /* a page each at the least */
    CHECK(peak - before <= CROWD * 3);               /* and no more than what was touched */
    CHECK(after < before || after - before <= 1024); /* 4 MiB: the timers' heap, and what malloc keeps */
}

static void thirty_thousand_fibers_wait_are_cancelled_and_give_their_memory_back(void **state)
{
    struct fiber **fibers = calloc(CROWD, sizeof *fibers);

    (void)state;
    assert_non_null(fibers);
    kit_run(gather_and_dismiss, fibers);
    free(fibers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fibers_start_at_the_next_turn_in_the_order_they_were_spawned),
        cmocka_unit_test(a_yield_lets_every_other_runnable_fiber_go_first),
        FIBER_TEST(locals_survive_a_switch),
        cmocka_unit_test(a_fiber_knows_itself_and_the_time),
        cmocka_unit_test(a_join_returns_after_the_end_whenever_that_was),
        FIBER_TEST(a_join_that_times_out_leaves_the_fiber_to_be_joined_again),
        FIBER_TEST(an_end_in_the_turn_of_the_joins_deadline_counts),
        cmocka_unit_test(a_detached_fiber_frees_itself_whenever_it_was_detached),
        cmocka_unit_test(a_cancelled_fiber_still_waits_for_what_it_cancels),
        cmocka_unit_test(a_cancel_during_cancel_and_join_is_kept_for_afterwards),
        FIBER_TEST(cancelling_what_has_ended_does_nothing),
        cmocka_unit_test(thirty_thousand_fibers_wait_are_cancelled_and_give_their_memory_back),
    };

    kit_watchdog(55);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
