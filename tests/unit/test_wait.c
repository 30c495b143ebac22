/* test_wait.c - fiber/fiber.h and fiber/loop.h: every kind of wait, its deadline and its cancel; wait queues, lazy
 * timers and descriptors. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/clock.h"
#include "fiber_kit.h"

/* Counts the turns of the loop until it is cancelled. */
static void tick(void *arg)
{
    unsigned *ticks = arg;

    while (fiber_yield() == 0)
        ++*ticks;
}

static void park_forever(void *arg)
{
    int *result = arg;
    int error = fiber_park(NEVER);

    if (result)
        *result = error;
}

/* --- every kind of wait -------------------------------------------------------------------------------------- */

/* Something of each kind to wait for, which never comes. */
struct place {
    struct io empty, full; /* nothing to read; no room to write */
    int peers[2];
    struct wait_queue queue;
    struct fiber *endless;
};

static void fill(int fd)
{
    char bytes[1024] = {0};

    while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        ;
}

static void place_open(struct place *place)
{
    int a[2], b[2];

    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, a), 0);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, b), 0);
    fill(b[0]);
    CHECK_EQUAL(io_watch(&place->empty, a[0], IO_READABLE, false), 0);
    CHECK_EQUAL(io_watch(&place->full, b[0], IO_READABLE, false), 0);
    place->peers[0] = a[1];
    place->peers[1] = b[1];
    wait_queue_init(&place->queue);
    place->endless = fiber_spawn("endless", park_forever, NULL);
}

static void place_close(struct place *place)
{
    fiber_cancel_and_join(place->endless);
    CHECK(list_empty(&place->queue.waiters));
    io_forget(&place->empty);
    io_forget(&place->full);
    close(place->empty.fd);
    close(place->full.fd);
    close(place->peers[0]);
    close(place->peers[1]);
}

static int wait_park(struct place *place, uint64_t deadline_us)
{
    (void)place;
    return fiber_park(deadline_us);
}

static int wait_sleep(struct place *place, uint64_t deadline_us)
{
    (void)place;
    return fiber_sleep_until(deadline_us);
}

static int wait_join(struct place *place, uint64_t deadline_us)
{
    return fiber_join(place->endless, deadline_us);
}

static int wait_queued(struct place *place, uint64_t deadline_us)
{
    return wait_queue_wait(&place->queue, deadline_us);
}

static int wait_readable(struct place *place, uint64_t deadline_us)
{
    return io_wait_readable(&place->empty, deadline_us);
}

static int wait_writable(struct place *place, uint64_t deadline_us)
{
    return io_wait_writable(&place->full, deadline_us);
}

static const struct wait {
    int (*wait)(struct place *place, uint64_t deadline_us);
    int at_deadline;
} waits[] = {
    {wait_park, -ETIMEDOUT},     {wait_sleep, 0},
    {wait_join, -ETIMEDOUT},     {wait_queued, -ETIMEDOUT},
    {wait_readable, -ETIMEDOUT}, {wait_writable, -ETIMEDOUT},
};

#define N_WAITS (sizeof waits / sizeof waits[0])

static void every_wait_ends_at_its_deadline(void *arg)
{
    struct place place;

    (void)arg;
    place_open(&place);
    for (unsigned i = 0; i < N_WAITS; i++) {
        uint64_t deadline = in_ms(3);

        CHECK_EQUAL(waits[i].wait(&place, deadline), waits[i].at_deadline);
        CHECK(clock_monotonic_us() >= deadline);
        CHECK_EQUAL(waits[i].wait(&place, 1), waits[i].at_deadline); /* long past */
    }
    place_close(&place);
}

struct victim {
    struct place *place;
    const struct wait *first; /* NULL: yields */
    unsigned ticks;
    bool ended;
};

/* Waits, is cancelled there, and then no wait takes even a turn. */
static void be_cancelled(void *arg)
{
    struct victim *victim = arg;
    unsigned ticks;

    if (victim->first)
        CHECK_EQUAL(victim->first->wait(victim->place, NEVER), -ECANCELED);
    while (fiber_yield() == 0)
        CHECK(!victim->first);
    CHECK(fiber_cancelled());
    ticks = victim->ticks;
    for (unsigned i = 0; i < N_WAITS; i++)
        CHECK_EQUAL(waits[i].wait(victim->place, in_ms(1000)), -ECANCELED);
    CHECK_EQUAL(fiber_yield(), -ECANCELED);
    CHECK_EQUAL(victim->ticks, ticks);
    victim->ended = true;
}

static void cancel_at(struct place *place, const struct wait *wait)
{
    struct victim victim = {.place = place, .first = wait};
    struct fiber *ticker = fiber_spawn("tick", tick, &victim.ticks);
    struct fiber *fiber = fiber_spawn("victim", be_cancelled, &victim);

    while (victim.ticks < 3)
        fiber_yield();
    CHECK(!victim.ended);
    fiber_cancel(fiber);
    CHECK(!victim.ended); /* at its own turn, not under our feet */
    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
    CHECK(victim.ended);
    fiber_cancel_and_join(ticker);
}

static void a_cancel_ends_every_kind_of_wait_and_every_later_one(void *arg)
{
    struct place place;

    (void)arg;
    place_open(&place);
    for (unsigned i = 0; i < N_WAITS; i++)
        cancel_at(&place, &waits[i]);
    cancel_at(&place, NULL);
    place_close(&place);
}

static void yield_once(void *arg)
{
    int *result = arg;

    *result = fiber_yield();
}

static void a_cancel_during_a_yield_is_what_the_yield_returns(void *arg)
{
    int result = 1;
    struct fiber *fiber = fiber_spawn("yields", yield_once, &result);

    (void)arg;
    CHECK_EQUAL(fiber_yield(), 0);
    CHECK_EQUAL(result, 1);
    fiber_cancel_and_join(fiber);
    CHECK_EQUAL(result, -ECANCELED);
}

static void a_fiber_cancelled_before_its_first_turn_runs_and_cannot_wait(void *arg)
{
    struct place place;

    (void)arg;
    place_open(&place);
    for (unsigned i = 0; i < N_WAITS; i++) {
        struct victim victim = {.place = &place, .first = &waits[i]};
        struct fiber *fiber = fiber_spawn("victim", be_cancelled, &victim);

        fiber_cancel(fiber);
        fiber_cancel(fiber); /* twice is once */
        CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
        CHECK(victim.ended);
    }
    place_close(&place);
}

static void sleep_through_wakes(void *arg)
{
    uint64_t *slept_to = arg;
    uint64_t deadline = in_ms(20);

    CHECK_EQUAL(fiber_sleep_until(deadline), 0);
    CHECK(clock_monotonic_us() >= deadline);
    *slept_to = deadline;
}

static void a_wake_does_not_shorten_a_sleep(void *arg)
{
    uint64_t slept_to = 0;
    struct fiber *sleeper = fiber_spawn("sleeper", sleep_through_wakes, &slept_to);

    (void)arg;
    for (int i = 0; i < 5; i++) {
        fiber_yield();
        fiber_wake(sleeper);
    }
    CHECK_EQUAL(fiber_join(sleeper, NEVER), 0);
    CHECK(slept_to != 0);
}

struct sleeper {
    uint64_t until_us;
    char name;
};

static void sleep_and_tell(void *arg)
{
    struct sleeper *sleeper = arg;

    CHECK_EQUAL(fiber_sleep_until(sleeper->until_us), 0);
    tell(sleeper->name);
}

static void spawn_sleepers(void *arg)
{
    struct sleeper sleepers[] = {{in_ms(30), 'd'}, {in_ms(10), 'b'}, {1, 'a'}, {in_ms(20), 'c'}};
    struct fiber *fibers[4];

    (void)arg;
    for (int i = 0; i < 4; i++)
        fibers[i] = fiber_spawn("sleeper", sleep_and_tell, &sleepers[i]);
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(fiber_join(fibers[i], NEVER), 0);
}

static void sleepers_rise_in_the_order_of_their_deadlines(void **state)
{
    (void)state;
    kit_run(spawn_sleepers, NULL);
    assert_string_equal(story, "abcd");
}

/* --- wait queues --------------------------------------------------------------------------------------------- */

struct queued {
    struct wait_queue *queue;
    uint64_t deadline_us;
    char name;
    int result;
};

static void wait_in_line(void *arg)
{
    struct queued *queued = arg;

    queued->result = wait_queue_wait(queued->queue, queued->deadline_us);
    if (queued->result == 0)
        tell(queued->name);
}

static void serve_a_line(void *arg)
{
    struct wait_queue queue;
    struct queued line[] = {{&queue, NEVER, 'a', 1},
                            {&queue, in_ms(1), 'b', 1},
                            {&queue, NEVER, 'c', 1},
                            {&queue, NEVER, 'd', 1},
                            {&queue, NEVER, 'e', 1}};
    struct fiber *fibers[5];

    (void)arg;
    wait_queue_init(&queue);
    CHECK(!wait_queue_wake_one(&queue));
    for (int i = 0; i < 5; i++)
        fibers[i] = fiber_spawn("queued", wait_in_line, &line[i]);
    CHECK_EQUAL(fiber_join(fibers[1], NEVER), 0);
    CHECK_EQUAL(line[1].result, -ETIMEDOUT); /* and holds no place in the line */
    fiber_cancel_and_join(fibers[3]);
    CHECK_EQUAL(line[3].result, -ECANCELED);
    CHECK(wait_queue_wake_one(&queue));
    fiber_yield();
    CHECK(strcmp(story, "a") == 0);
    wait_queue_wake_all(&queue);
    CHECK(!wait_queue_wake_one(&queue));
    CHECK_EQUAL(fiber_join(fibers[0], NEVER), 0);
    CHECK_EQUAL(fiber_join(fibers[2], NEVER), 0);
    CHECK_EQUAL(fiber_join(fibers[4], NEVER), 0);
}

static void a_wait_queue_serves_first_come_first_served(void **state)
{
    (void)state;
    kit_run(serve_a_line, NULL);
    assert_string_equal(story, "ace");
}

static void a_wake_that_meets_the_deadline_is_not_lost(void *arg)
{
    struct wait_queue queue;
    struct queued queued = {&queue, in_ms(5), 'a', 1};
    struct fiber *fiber;

    (void)arg;
    wait_queue_init(&queue);
    fiber = fiber_spawn("queued", wait_in_line, &queued);
    while (loop_now_us() < queued.deadline_us)
        fiber_yield();
    /* Its timer went off at the end of the last turn, and it comes after us in this one. */
    CHECK_EQUAL(queued.result, 1);
    CHECK(wait_queue_wake_one(&queue));
    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
    CHECK_EQUAL(queued.result, 0);
}

static void a_deadline_that_passes_after_the_wake_is_none(void *arg)
{
    struct wait_queue queue;
    struct queued line[] = {{&queue, in_ms(5), 'a', 1}, {&queue, NEVER, 'b', 1}};
    struct fiber *fibers[2];

    (void)arg;
    wait_queue_init(&queue);
    for (int i = 0; i < 2; i++)
        fibers[i] = fiber_spawn("queued", wait_in_line, &line[i]);
    CHECK_EQUAL(fiber_yield(), 0);
    wait_queue_wake_all(&queue);
    while (clock_monotonic_us() < line[0].deadline_us)
        ; /* so the timer of a fiber that is runnable already goes off at the end of this turn */
    for (int i = 0; i < 2; i++)
        CHECK_EQUAL(fiber_join(fibers[i], NEVER), 0);
    CHECK(strcmp(story, "ab") == 0);
}

static void a_wake_that_meets_a_cancel_is_not_lost(void *arg)
{
    struct wait_queue queue;

    (void)arg;
    wait_queue_init(&queue);
    for (int wake_first = 0; wake_first < 2; wake_first++) {
        struct queued queued = {&queue, NEVER, 'a', 1};
        struct fiber *fiber = fiber_spawn("queued", wait_in_line, &queued);

        fiber_yield();
        if (wake_first)
            CHECK(wait_queue_wake_one(&queue));
        fiber_cancel(fiber);
        if (!wake_first)
            CHECK(wait_queue_wake_one(&queue));
        CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
        CHECK_EQUAL(queued.result, 0);
    }
}

/* --- lazy timers --------------------------------------------------------------------------------------------- */

struct waker {
    struct fiber *fiber;
    uint64_t wake_us;
};

static void wake_at(void *arg)
{
    struct waker *waker = arg;

    CHECK_EQUAL(fiber_sleep_until(waker->wake_us), 0);
    fiber_wake(waker->fiber);
}

/* Parks until the earlier of the deadline and somebody's wake. */
static int park_woken(uint64_t deadline_us, uint64_t wake_us)
{
    struct waker waker = {fiber_self(), wake_us};
    struct fiber *fiber = fiber_spawn("waker", wake_at, &waker);
    int result = fiber_park(deadline_us);

    fiber_cancel_and_join(fiber);
    return result;
}

static void a_later_deadline_does_not_fire_at_an_earlier_one(void *arg)
{
    uint64_t early = in_ms(50), late;

    (void)arg;
    CHECK_EQUAL(park_woken(early, 1), 0);
    late = early + 20 * US_PER_MS;
    CHECK_EQUAL(fiber_park(late), -ETIMEDOUT);
    CHECK(clock_monotonic_us() >= late);
}

static void no_deadline_after_one_does_not_fire(void *arg)
{
    uint64_t early = in_ms(50);

    (void)arg;
    CHECK_EQUAL(park_woken(early, 1), 0);
    CHECK_EQUAL(park_woken(NEVER, early + 20 * US_PER_MS), 0);
    CHECK(clock_monotonic_us() >= early + 20 * US_PER_MS);
}

static void a_shorter_deadline_after_a_longer_one_fires_in_time(void *arg)
{
    uint64_t late = in_ms(60 * 1000), early;

    (void)arg;
    CHECK_EQUAL(park_woken(late, 1), 0);
    early = in_ms(5);
    CHECK_EQUAL(fiber_park(early), -ETIMEDOUT);
    CHECK(clock_monotonic_us() >= early);
    CHECK(clock_monotonic_us() < late);
}

static void park_often(void *arg)
{
    struct loop *loop = loop_self();
    uint64_t first = in_ms(60 * 1000);

    (void)arg;
    for (unsigned i = 0; i < 1000; i++) {
        CHECK_EQUAL(fiber_park(first + i), 0);
        CHECK_EQUAL(timer_next(&loop->timers), first); /* the heap is not touched again */
        CHECK_EQUAL(loop->timers.count, 1);
    }
}

static void a_thousand_waits_with_a_rising_deadline_touch_the_heap_once(void *arg)
{
    struct fiber *fiber = fiber_spawn("parks", park_often, NULL);

    (void)arg;
    for (unsigned i = 0; i < 1000; i++) {
        fiber_yield();
        fiber_wake(fiber);
    }
    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
    CHECK_EQUAL(loop_self()->timers.count, 0); /* an end takes its timer along */
}

/* --- descriptors --------------------------------------------------------------------------------------------- */

struct reading {
    struct io io;
    int result;
};

static void read_once(void *arg)
{
    struct reading *reading = arg;

    reading->result = io_wait_readable(&reading->io, NEVER);
}

static void write_once(void *arg)
{
    struct reading *reading = arg;

    reading->result = io_wait_writable(&reading->io, NEVER);
}

static void a_wait_for_a_descriptor_ends_when_it_is_ready(void *arg)
{
    struct reading in = {.result = 1}, out = {.result = 1};
    struct place place;
    struct fiber *reader, *writer;
    char bytes[4096];

    (void)arg;
    place_open(&place);
    in.io = place.empty;
    io_forget(&place.empty);
    io_forget(&place.full);
    CHECK_EQUAL(io_watch(&in.io, place.empty.fd, IO_READABLE, false), 0);
    CHECK_EQUAL(io_watch(&out.io, place.full.fd, IO_READABLE, false), 0);
    reader = fiber_spawn("reader", read_once, &in);
    writer = fiber_spawn("writer", write_once, &out);
    CHECK_EQUAL(fiber_sleep_until(in_ms(2)), 0);
    CHECK_EQUAL(in.result, 1);
    CHECK_EQUAL(out.result, 1);
    CHECK_EQUAL(send(place.peers[0], "x", 1, 0), 1);
    CHECK_EQUAL(fiber_join(reader, NEVER), 0);
    CHECK_EQUAL(in.result, 0);
    CHECK_EQUAL(out.result, 1);
    while (recv(place.peers[1], bytes, sizeof bytes, 0) > 0)
        ;
    CHECK_EQUAL(fiber_join(writer, NEVER), 0);
    CHECK_EQUAL(out.result, 0);
    CHECK_EQUAL(io_wait_readable(&in.io, 1), 0); /* still readable: no wait, so no deadline */
    place_close(&place);
}

#define PAIRS 400 /* the loop takes 256 events a turn */

static void more_events_than_one_turn_takes_all_arrive(void *arg)
{
    struct reading *readings = calloc(PAIRS, sizeof *readings);
    struct fiber *fibers[PAIRS];
    int peers[PAIRS];

    (void)arg;
    for (int i = 0; i < PAIRS; i++) {
        int pair[2];

        CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
        readings[i].result = 1;
        CHECK_EQUAL(io_watch(&readings[i].io, pair[0], IO_READABLE, false), 0);
        peers[i] = pair[1];
        fibers[i] = fiber_spawn("reader", read_once, &readings[i]);
    }
    CHECK_EQUAL(fiber_yield(), 0);
    for (int i = 0; i < PAIRS; i++)
        CHECK_EQUAL(send(peers[i], "x", 1, 0), 1);
    for (int i = 0; i < PAIRS; i++) {
        CHECK_EQUAL(fiber_join(fibers[i], NEVER), 0);
        CHECK_EQUAL(readings[i].result, 0);
        close(readings[i].io.fd);
        close(peers[i]);
    }
    free(readings);
}

static struct fiber *input_waiter;

static void forget_and_free(struct io *io)
{
    CHECK(fiber_self() == NULL);
    close(io->fd);
    free(io);
    fiber_wake(input_waiter);
}

static void an_idle_descriptor_calls_on_input_which_may_free_it(void *arg)
{
    struct io *io = malloc(sizeof *io);
    int pair[2];

    (void)arg;
    input_waiter = fiber_self();
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    CHECK_EQUAL(io_watch(io, pair[0], IO_READABLE, false), 0);
    io->on_input = forget_and_free;
    close(pair[1]); /* as an idle upstream connection ends */
    CHECK_EQUAL(fiber_park(NEVER), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIBER_TEST(every_wait_ends_at_its_deadline),
        FIBER_TEST(a_cancel_ends_every_kind_of_wait_and_every_later_one),
        FIBER_TEST(a_cancel_during_a_yield_is_what_the_yield_returns),
        FIBER_TEST(a_fiber_cancelled_before_its_first_turn_runs_and_cannot_wait),
        FIBER_TEST(a_wake_does_not_shorten_a_sleep),
        cmocka_unit_test(sleepers_rise_in_the_order_of_their_deadlines),
        cmocka_unit_test(a_wait_queue_serves_first_come_first_served),
        FIBER_TEST(a_wake_that_meets_the_deadline_is_not_lost),
        FIBER_TEST(a_deadline_that_passes_after_the_wake_is_none),
        FIBER_TEST(a_wake_that_meets_a_cancel_is_not_lost),
        FIBER_TEST(a_later_deadline_does_not_fire_at_an_earlier_one),
        FIBER_TEST(no_deadline_after_one_does_not_fire),
        FIBER_TEST(a_shorter_deadline_after_a_longer_one_fires_in_time),
        FIBER_TEST(a_thousand_waits_with_a_rising_deadline_touch_the_heap_once),
        FIBER_TEST(a_wait_for_a_descriptor_ends_when_it_is_ready),
        FIBER_TEST(more_events_than_one_turn_takes_all_arrive),
        FIBER_TEST(an_idle_descriptor_calls_on_input_which_may_free_it),
    };

    kit_watchdog(55);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
