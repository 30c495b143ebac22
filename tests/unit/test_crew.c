/* test_crew.c - workers/crew.h: how many workers there are of a section, which go first, and what is said of it.
 *
 * Workers are real (worker.c), with their fibers; their feed is one of our own, which starts no process: a place says of each how it
 * is. What else a crew asks of workers.c is here, too. Time is the loop's, set forward by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/event.h"
#include "fiber_kit.h"
#include "workers/crew_private.h"
#include "workers/worker.h"

#define N(table) (sizeof(table) / sizeof(table)[0])
#define PLACES 20

/* What feeds the worker of that number, in its life so far. */
static struct place {
    struct worker *worker;
    bool ready, fails;
    uint64_t in_flight, handled, busy_us;
    unsigned stops;
} places[PLACES + 1];

static struct workers owner;
static struct crew crew;
static struct config_workers section;
static struct gauge gauge;
static struct config_gauge gauge_config = {.name = "db", .full = 20, .expires_us = 30 * US_PER_S};
static unsigned n_wakes;
static uint64_t time_us;

/* ---- instead of workers.c ---------------------------------------------------------------------------------------- */

void workers_wake(struct workers *workers)
{
    CHECK(workers == &owner);
    n_wakes++;
}

struct gauge *workers_find_gauge(const struct workers *workers, struct slice name)
{
    CHECK(workers == &owner);
    return slice_equal(name, slice_from_text(gauge_config.name)) ? &gauge : NULL;
}

/* Until it fails, or is to stop and has finished what it has. */
static void feed_run(struct worker *worker)
{
    struct place *place = &places[worker->number];

    *place = (struct place){.worker = worker};
    worker->fed = place;
    worker->feeding = true;
    worker->crew->starts++;
    while (!place->fails && !(worker->stopping && (worker->hurry || !place->in_flight)))
        fiber_park(NEVER);
    worker_close_feed(worker);
    if (place->fails)
        worker_failed(worker, "number %u fails", worker->number);
}

static void feed_look(const struct worker *worker, struct feed_sight *sight)
{
    const struct place *place = worker->fed;

    *sight = (struct feed_sight){.ready = place->ready,
                                 .stopped = place->stops > 0,
                                 .in_flight = place->in_flight,
                                 .handled = place->handled,
                                 .busy_us = place->busy_us};
}

static void feed_stop(struct worker *worker)
{
    struct place *place = worker->fed;

    place->stops++;
}

static void feed_close(struct worker *worker)
{
    worker->fed = NULL;
}

const struct worker_feed *worker_feed_of(enum worker_kind kind)
{
    static const struct worker_feed feed = {
        .run = feed_run, .look = feed_look, .stop = feed_stop, .close = feed_close};

    return kind == WORKER_CONSUMER ? &feed : NULL;
}

/* ---- a crew ------------------------------------------------------------------------------------------------------ */

/* In the fiber of a test, first and last. */
static void open_crew(unsigned min, unsigned max)
{
    time_us = loop_now_us() + 3600 * US_PER_S; /* ahead of the loop's own */
    loop_self()->now_us = time_us;
    n_wakes = 0;
    memset(places, 0, sizeof places);
    owner = (struct workers){.serving = true, .rng = {1}};
    gauge = (struct gauge){.name = "db", .config = &gauge_config};
    section = (struct config_workers){.name = "cooks",
                                      .command = {.text = "cook"},
                                      .kind = WORKER_CONSUMER,
                                      .min = min,
                                      .max = max,
                                      .slots = 1,
                                      .backlog_per_worker = 10,
                                      .drain_target_us = 10 * US_PER_S,
                                      .cooldown_us = 60 * US_PER_S};
    memset(&crew, 0, sizeof crew);
    crew.owner = &owner;
    crew.name = "cooks";
    crew.section = &section;
    crew.desired = min;
    list_init(&crew.workers);
    scale_init(&crew.scale, min, time_us);
}

static void settle(void)
{
    crew_settle(&crew);
    for (int turns = 0; turns < 3; turns++)
        CHECK_EQUAL(fiber_yield(), 0);
    loop_self()->now_us = time_us;
}

static void close_crew(void)
{
    owner.draining = owner.hurry = true;
    while (!list_empty(&crew.workers))
        settle();
}

static void tick(void)
{
    time_us += US_PER_S;
    loop_self()->now_us = time_us;
    crew.looked = true;
    crew_tick(&crew);
}

static struct worker *worker_at(struct list *at)
{
    return container_of(at, struct worker, list);
}

static struct crew_count count_now(void)
{
    struct crew_count count;

    crew_count(&crew, &count);
    return count;
}

/* What the worker of that number is from now on. */
static void be(unsigned number, enum worker_phase phase)
{
    struct place *place = &places[number];

    place->ready = phase == WORKER_IDLE || phase == WORKER_BUSY;
    place->in_flight = phase == WORKER_BUSY;
    place->fails = phase == WORKER_BACKING_OFF;
    place->worker->failures = 20; /* so that its back-off outlasts the test */
    fiber_wake(place->worker->fiber);
    fiber_yield();
    fiber_yield();
    loop_self()->now_us = time_us;
    worker_look(place->worker);
    CHECK_EQUAL(place->worker->phase, phase);
}

/* So many are there, and are that. */
static void have(unsigned n, enum worker_phase phase)
{
    crew.desired = n;
    scale_set(&crew.scale, n, time_us);
    settle();
    for (unsigned number = 1; number <= n; number++)
        be(number, phase);
}

/* Numbers of workers, the oldest first, each a letter from 'a' on: those that stop, or that do not. */
static const char *letters(bool stopping)
{
    static char text[2][PLACES + 1];
    size_t n = 0;

    for (struct list *at = crew.workers.next; at != &crew.workers; at = at->next)
        if (worker_at(at)->stopping == stopping && n < PLACES)
            text[stopping][n++] = (char)('a' + worker_at(at)->number - 1);
    text[stopping][n] = '\0';
    return text[stopping];
}

static void check_text(const char *is, const char *expected, int line)
{
    if (!CHECK(strcmp(is, expected) == 0))
        fprintf(stderr, "line %d: \"%s\" is not \"%s\"\n", line, is, expected);
}

#define CHECK_STAY(text) check_text(letters(false), text, __LINE__)
#define CHECK_GO(text) check_text(letters(true), text, __LINE__)

/* ---- starting ---------------------------------------------------------------------------------------------------- */

static void as_many_are_started_as_are_desired(void *arg)
{
    (void)arg;
    open_crew(0, 10);
    settle();
    CHECK_STAY("");
    crew.desired = 3;
    settle();
    CHECK_STAY("abc");
    CHECK_EQUAL(crew.starts, 3);
    settle();
    CHECK_STAY("abc");
    crew.desired = 4;
    settle();
    CHECK_STAY("abcd");
    crew.desired = 2; /* who goes then is decided by a tick */
    settle();
    CHECK_STAY("abcd");
    CHECK_GO("");
    close_crew();
}

static void nothing_is_started_before_it_serves_or_without_a_command(void *arg)
{
    (void)arg;
    open_crew(2, 10);
    owner.serving = false;
    settle();
    CHECK_STAY("");
    owner.serving = true;
    section.command.text = NULL;
    settle();
    CHECK_STAY("");
    section.command.text = "cook";
    section.kind = WORKER_HTTP; /* which has no feed here */
    settle();
    CHECK_STAY("");
    section.kind = WORKER_CONSUMER;
    settle();
    CHECK_STAY("ab");
    close_crew();
}

static void the_lowest_free_number_is_given_once_its_worker_has_ended(void *arg)
{
    (void)arg;
    open_crew(3, 3);
    have(3, WORKER_BUSY);
    worker_stop(places[2].worker, NEVER, NEVER);
    settle();
    CHECK_STAY("ac");
    CHECK_GO("b"); /* all that may be are taken */
    section.max = 4;
    settle();
    CHECK_STAY("acd");
    places[2].in_flight = 0;
    fiber_wake(places[2].worker->fiber);
    settle();
    crew.desired = 4;
    settle();
    CHECK_STAY("acdb");
    CHECK_GO("");
    close_crew();
}

static void those_that_stop_are_not_counted_as_there(void *arg)
{
    (void)arg;
    open_crew(2, 10);
    have(2, WORKER_BUSY);
    worker_stop(places[1].worker, NEVER, NEVER);
    settle();
    CHECK_STAY("bc");
    CHECK_GO("a");
    close_crew();
}

/* ---- counting ---------------------------------------------------------------------------------------------------- */

static void each_worker_counts_as_what_it_is(void *arg)
{
    struct crew_count count;

    (void)arg;
    open_crew(0, 10);
    have(8, WORKER_IDLE);
    be(1, WORKER_STARTING);
    be(3, WORKER_BUSY);
    be(4, WORKER_BUSY);
    be(5, WORKER_BUSY);
    be(6, WORKER_BACKING_OFF);
    be(8, WORKER_BUSY);
    places[3].in_flight = 2;
    places[5].in_flight = 4;
    places[2].handled = 10;
    places[3].busy_us = 1000;
    worker_stop(places[5].worker, NEVER, NEVER);
    crew.handled = 100;
    crew.busy_us = 5;
    count = count_now();
    CHECK_EQUAL(count.workers, 8);
    CHECK_EQUAL(count.starting, 1);
    CHECK_EQUAL(count.idle, 2);
    CHECK_EQUAL(count.busy, 3);
    CHECK_EQUAL(count.stopping, 1);
    CHECK_EQUAL(count.backing_off, 1);
    CHECK_EQUAL(count.in_flight, 8);
    CHECK_EQUAL(count.in_flight_kept, 4);
    CHECK_EQUAL(count.handled, 110);
    CHECK_EQUAL(count.busy_us, 1005);
    close_crew();
}

static void what_a_worker_did_counts_when_it_has_gone(void *arg)
{
    (void)arg;
    open_crew(0, 10);
    have(2, WORKER_IDLE);
    places[1].handled = 7;
    places[1].busy_us = 700;
    places[2].handled = 1;
    crew.desired = 1;
    worker_stop(places[1].worker, NEVER, NEVER);
    settle();
    settle();
    CHECK_EQUAL(count_now().workers, 1);
    CHECK_EQUAL(count_now().handled, 8);
    CHECK_EQUAL(count_now().busy_us, 700);
    close_crew();
}

static void the_rate_follows_what_is_handled_in_ten_seconds(void *arg)
{
    (void)arg;
    open_crew(1, 1);
    have(1, WORKER_BUSY);
    places[1].handled = 1000000; /* before anybody looked */
    tick();
    CHECK(crew.handled_rate < 0.001);
    for (int i = 0; i < 10; i++) {
        places[1].handled += 50;
        tick();
    }
    CHECK(fabs(crew.handled_rate - 50 * (1 - exp(-1))) < 0.01);
    places[1].handled = 3; /* a total that began anew is no work */
    tick();
    CHECK(fabs(crew.handled_rate - 50 * (1 - exp(-1))) < 0.01);
    places[1].handled += 50;
    tick();
    CHECK(fabs(crew.handled_rate - (50 - 50 * exp(-1.1))) < 0.01);
    close_crew();
}

/* ---- stopping ---------------------------------------------------------------------------------------------------- */

static void have_one_of_each(void)
{
    have(6, WORKER_BUSY);
    be(1, WORKER_IDLE);
    be(2, WORKER_STARTING);
    be(4, WORKER_BACKING_OFF);
    be(5, WORKER_IDLE);
    count_now();
}

/* d: it fails; e, a: nothing to do, the newest first; b: not ready; f, c: each has a message. */
static void who_has_least_to_lose_goes_first(void *arg)
{
    static const char *const rows[] = {"", "d", "de", "ade", "abde", "abdef", "abcdef"};

    (void)arg;
    for (int busy_too = 0; busy_too < 2; busy_too++)
        for (unsigned n = 0; n <= 7; n++) {
            unsigned most = busy_too ? 6 : 4;

            open_crew(0, 10);
            have_one_of_each();
            crew_stop_some(&crew, n, busy_too);
            CHECK_GO(rows[n < most ? n : most]);
            close_crew();
        }
}

static void a_lower_max_lets_go_those_without_a_message_first(void *arg)
{
    (void)arg;
    open_crew(1, 10);
    have(6, WORKER_BUSY);
    be(3, WORKER_IDLE);
    be(5, WORKER_IDLE);
    section.max = 2; /* by a reload */
    tick();
    CHECK_EQUAL(crew.desired, 2);
    CHECK_GO("ce");
    settle();
    CHECK_GO("cdef"); /* the newest, once they have finished */
    CHECK_STAY("ab");
    close_crew();
}

static void all_are_stopped_where_its_section_or_the_process_goes(void *arg)
{
    (void)arg;
    open_crew(2, 10);
    have(2, WORKER_BUSY);
    crew.leaving = true;
    settle();
    CHECK_GO("ab");
    CHECK_EQUAL(places[1].worker->deadline_us, NEVER);
    CHECK_EQUAL(places[1].worker->kill_us, NEVER);
    owner.draining = true;
    owner.deadline_us = time_us + 5;
    owner.kill_us = time_us + 7;
    settle();
    CHECK_GO("ab");
    CHECK_EQUAL(places[2].worker->deadline_us, time_us + 5);
    CHECK_EQUAL(places[2].worker->kill_us, time_us + 7);
    CHECK(!places[2].worker->hurry);
    CHECK_EQUAL(places[2].stops, 1);
    owner.hurry = true;
    settle(); /* whatever they have */
    settle();
    CHECK_GO("");
    CHECK_STAY("");
    CHECK(n_wakes >= 2);
    close_crew();
}

static void a_crew_that_leaves_is_not_decided_about(void *arg)
{
    (void)arg;
    open_crew(1, 10);
    crew.queue.ready = 1000;
    crew.leaving = true;
    tick();
    crew.leaving = false;
    owner.draining = true;
    tick();
    owner.draining = false;
    CHECK_EQUAL(crew.desired, 1);
    CHECK(!crew_decision(&crew, 0));
    CHECK(crew_runs(&crew));
    tick();
    CHECK(crew.desired > 1);
    close_crew();
}

/* ---- restarting -------------------------------------------------------------------------------------------------- */

static void let_new_ones_begin(void)
{
    for (struct list *at = crew.workers.next; at != &crew.workers; at = at->next)
        if (worker_at(at)->phase == WORKER_STARTING)
            be(worker_at(at)->number, WORKER_IDLE);
}

static void a_quarter_is_replaced_at_a_time_once_the_new_ones_take_messages(void *arg)
{
    (void)arg;
    open_crew(8, 10);
    have(8, WORKER_IDLE);
    crew_restart(&crew);
    CHECK_EQUAL(n_wakes, 1);
    settle();
    CHECK_STAY("cdefgh");
    CHECK_GO("ab");
    settle(); /* they have ended */
    CHECK_STAY("cdefghab");
    settle();
    settle();
    CHECK_GO(""); /* none takes messages yet */
    be(1, WORKER_IDLE);
    settle();
    CHECK_GO("c");
    settle(); /* its successor is on the way */
    be(2, WORKER_BUSY);
    settle();
    CHECK_GO("d");
    CHECK_STAY("efghabc");
    for (int i = 0; i < 100 && crew.starts < 16; i++) {
        settle();
        CHECK(strlen(letters(true)) <= 2);
        CHECK(strlen(letters(false)) >= 6);
        let_new_ones_begin();
    }
    settle();
    CHECK_STAY("abcdefgh");
    CHECK_GO("");
    for (struct list *at = crew.workers.next; at != &crew.workers; at = at->next)
        CHECK_EQUAL(worker_at(at)->epoch, 1);
    CHECK_EQUAL(crew.starts, 16);
    close_crew();
}

static void no_more_are_replaced_while_the_last_ones_finish(void *arg)
{
    (void)arg;
    open_crew(8, 8);
    have(8, WORKER_BUSY);
    crew_restart(&crew);
    for (int i = 0; i < 3; i++)
        settle();
    CHECK_GO("ab");
    CHECK_STAY("cdefgh");
    close_crew();
}

static void a_new_command_that_does_not_work_replaces_no_more(void *arg)
{
    (void)arg;
    open_crew(3, 10);
    have(3, WORKER_IDLE);
    crew_restart(&crew);
    settle();
    CHECK_GO("a"); /* of few, one */
    settle();
    CHECK_STAY("bca");
    be(1, WORKER_BACKING_OFF);
    for (int i = 0; i < 5; i++)
        settle();
    CHECK_STAY("bca");
    CHECK_GO("");
    close_crew();
}

static void who_has_least_to_lose_is_replaced_first(void *arg)
{
    static const char order[] = "daebcf";

    (void)arg;
    open_crew(6, 6); /* so that a number is free once its worker has ended */
    have_one_of_each();
    crew_restart(&crew);
    for (size_t i = 0; order[i]; i++) {
        char expected[] = {order[i], '\0'};
        unsigned number = (unsigned)(order[i] - 'a') + 1;

        settle();
        CHECK_GO(expected);
        places[number].in_flight = 0;
        fiber_wake(places[number].worker->fiber);
        settle();
        settle();
        be(number, WORKER_IDLE);
    }
    settle();
    CHECK_GO("");
    close_crew();
}

/* ---- by hand ----------------------------------------------------------------------------------------------------- */

static void set_by_hand_there_are_so_many_whatever_they_do(void *arg)
{
    const struct crew_decision *d;

    (void)arg;
    open_crew(1, 10);
    have(4, WORKER_BUSY);
    be(2, WORKER_IDLE);
    crew.queue.ready = 7;
    crew_set(&crew, 2);
    CHECK_EQUAL(n_wakes, 1);
    d = crew_decision(&crew, 0);
    if (CHECK(d != NULL)) {
        CHECK(d->by_hand);
        CHECK(strcmp(d->why, "by-hand") == 0);
        CHECK(strcmp(d->text, "set to 2 by hand") == 0);
        CHECK_EQUAL(d->from, 4);
        CHECK_EQUAL(d->to, 2);
        CHECK_EQUAL(d->ready, 7);
        CHECK_EQUAL(d->busy, 3);
        CHECK_EQUAL(d->idle, 1);
        CHECK_EQUAL(d->in_flight, 3);
        CHECK(clock_wall_us() - d->wall_us < 60 * US_PER_S);
    }
    settle();
    CHECK_GO("bd"); /* the idle one, then the newest */
    crew.queue.ready = 100000;
    for (int i = 0; i < 30; i++) {
        tick();
        crew.queue.came += 10;
    }
    CHECK(fabs(scale_arrival_rate(&crew.scale) - 10 * (1 - exp(-29 / 15.0))) <
          0.01); /* which is known then */
    CHECK_EQUAL(crew.desired, 2);
    CHECK_EQUAL(crew.hand_count, 2);
    crew_set(&crew, 5);
    settle();
    CHECK_EQUAL(strlen(letters(false)), 5);
    close_crew();
}

static void paused_there_is_none_until_they_are_resumed(void *arg)
{
    (void)arg;
    open_crew(2, 10);
    have(3, WORKER_IDLE);
    be(3, WORKER_BUSY);
    crew_pause(&crew);
    CHECK_EQUAL(crew.desired, 0);
    settle();
    CHECK_STAY("");
    settle();
    CHECK_GO("c"); /* it finishes what it has */
    tick();
    settle();
    CHECK_STAY("");
    CHECK_EQUAL(crew.desired, 0);
    crew_resume(&crew);
    CHECK_EQUAL(crew.hand, HAND_NONE);
    CHECK_EQUAL(crew.desired, 2);
    settle();
    CHECK_STAY("ab");
    CHECK_EQUAL(n_wakes, 4); /* by us twice, and by those that ended */
    CHECK(strcmp(crew_decision(&crew, 0)->text, "resumed by hand") == 0);
    CHECK(strcmp(crew_decision(&crew, 1)->text, "paused by hand") == 0);
    CHECK_EQUAL(crew_decision(&crew, 0)->from, 0);
    CHECK_EQUAL(crew_decision(&crew, 0)->to, 2);
    close_crew();
}

static void resumed_there_are_as_many_as_there_were_and_decided_again(void *arg)
{
    (void)arg;
    open_crew(2, 10);
    have(2, WORKER_IDLE);
    crew_set(&crew, 5);
    settle();
    crew_resume(&crew);
    CHECK_EQUAL(crew.desired, 5);
    tick(); /* fewer would do, but not for a cooldown yet */
    CHECK_EQUAL(crew.desired, 5);
    CHECK_EQUAL(crew.why, SCALE_COOLDOWN);
    crew.queue.ready = 100;
    tick();
    CHECK_EQUAL(crew.desired, 6); /* four more than a moment ago in a step */
    close_crew();
}

/* ---- deciding ---------------------------------------------------------------------------------------------------- */

static void nothing_is_decided_before_the_queue_was_looked_at(void *arg)
{
    (void)arg;
    open_crew(1, 10);
    crew.queue.ready = 100;
    time_us += US_PER_S;
    loop_self()->now_us = time_us;
    crew_tick(&crew);
    CHECK_EQUAL(crew.desired, 1);
    CHECK(!crew_decision(&crew, 0));
    close_crew();
}

static void what_was_decided_is_noted_with_what_it_was_decided_by(void *arg)
{
    static struct event events[4];
    const struct crew_decision *d;
    uint64_t last = event_last_id();

    (void)arg;
    open_crew(1, 10);
    have(4, WORKER_IDLE);
    be(1, WORKER_BUSY);
    be(3, WORKER_BACKING_OFF);
    be(4, WORKER_BUSY);
    worker_stop(places[4].worker, NEVER, NEVER); /* which does not count any more */
    crew.desired = 3;
    scale_set(&crew.scale, 3, time_us);
    last = event_last_id();
    crew.queue = (struct crew_queue){.came = 100, .ready = 49, .in_flight = 77};
    tick();
    CHECK_EQUAL(crew.desired, 5);
    CHECK_EQUAL(crew.why, SCALE_GROW);
    d = crew_decision(&crew, 0);
    if (CHECK(d != NULL)) {
        CHECK_EQUAL(d->from, 3);
        CHECK_EQUAL(d->to, 5);
        CHECK(strcmp(d->why, "grow") == 0);
        CHECK(strcmp(d->text, "(49 + 1 in flight) / 10 = 5.0 -> 5") == 0);
        CHECK(strcmp(d->text, crew.text) == 0);
        CHECK_EQUAL(d->ready, 49);
        CHECK_EQUAL(d->in_flight, 1); /* at its workers */
        CHECK_EQUAL(d->busy, 1);
        CHECK_EQUAL(d->idle, 1);
        CHECK_EQUAL(d->backing_off, 1);
        CHECK_EQUAL(d->starting, 0);
        CHECK(d->service_s < 0);
        CHECK(!d->by_hand && !d->gauge_full);
    }
    CHECK(!crew_decision(&crew, 1));
    if (CHECK_EQUAL(event_copy_since(last, events, N(events)), 1)) {
        CHECK_EQUAL(events[0].kind, EVENT_WORKERS_SCALED);
        CHECK(strcmp(events[0].text, "workers cooks: 3 -> 5: (49 + 1 in flight) / 10 = 5.0 -> 5") == 0);
    }
    settle();
    CHECK_STAY("abcef");
    tick(); /* nothing is new */
    CHECK(!crew_decision(&crew, 1));
    CHECK_EQUAL(event_copy_since(last, events, N(events)), 1);
    close_crew();
}

static void the_last_hundred_decisions_are_kept(void *arg)
{
    (void)arg;
    open_crew(0, 10);
    CHECK(!crew_decision(&crew, 0));
    for (unsigned n = 1; n <= 250; n++) {
        crew_set(&crew, n);
        CHECK_EQUAL(crew_decision(&crew, 0)->to, n);
        CHECK((crew_decision(&crew, n) == NULL));
        for (unsigned ago = 0; ago < n && ago < CREW_DECISIONS; ago++)
            if (!crew_decision(&crew, ago) || crew_decision(&crew, ago)->to != n - ago)
                CHECK_EQUAL(ago, n); /* the row */
        CHECK(!crew_decision(&crew, CREW_DECISIONS));
    }
    crew_set(&crew, 0);
    close_crew();
}

static void a_gauge_that_is_full_holds_it(void *arg)
{
    static struct event events[4];
    uint64_t last;

    (void)arg;
    open_crew(1, 10);
    have(1, WORKER_IDLE);
    last = event_last_id();
    section.gauge = &gauge_config;
    gauge.told = true;
    gauge.value = 20;
    gauge.told_us = time_us;
    crew.queue.ready = 100;
    tick();
    CHECK_EQUAL(crew.desired, 1);
    CHECK_EQUAL(crew.why, SCALE_GAUGE);
    if (CHECK(crew_decision(&crew, 0) != NULL)) {
        CHECK(crew_decision(&crew, 0)->gauge_full);
        CHECK_EQUAL(crew_decision(&crew, 0)->to, 1);
    }
    if (CHECK_EQUAL(event_copy_since(last, events, N(events)), 1)) {
        CHECK_EQUAL(events[0].kind, EVENT_WORKERS_HELD);
        CHECK(strncmp(events[0].text, "workers cooks: stay at 1: ", 26) == 0);
    }
    time_us += 30 * US_PER_S; /* it is not believed any more */
    tick();
    CHECK_EQUAL(crew.desired, 5);
    gauge.told_us = time_us;
    gauge.value = 19.5;
    section.gauge = NULL;
    close_crew();
}

static void a_message_that_waits_for_long_wants_one_more(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++) {
        open_crew(1, 10);
        have(1, WORKER_BUSY);
        crew.queue.ready = 1;
        if (i == 1)
            crew.queue.oldest_us = clock_wall_us() + 3600 * US_PER_S; /* by a clock that was set back */
        else if (i == 2)
            crew.queue.oldest_us = clock_wall_us() - 60 * US_PER_S;
        tick();
        CHECK_EQUAL(crew.desired, i == 2 ? 2 : 1);
        CHECK_EQUAL(crew.why, i == 2 ? SCALE_GROW_AGE : SCALE_ENOUGH);
        close_crew();
    }
}

static void without_a_command_somebody_else_is_taken_to_have_as_many(void *arg)
{
    static const struct {
        unsigned desired, slots;
        uint64_t in_flight;
        unsigned busy, idle;
    } rows[] = {{5, 4, 9, 3, 2}, {5, 4, 8, 2, 3}, {5, 4, 1, 1, 4}, {5, 4, 0, 0, 5},
                {2, 4, 9, 2, 0}, {0, 1, 9, 0, 0}, {3, 1, 3, 3, 0}, {3, 1, 1000000000000, 3, 0}};

    (void)arg;
    open_crew(0, 10);
    section.command.text = NULL;
    for (size_t i = 0; i < N(rows); i++) {
        const struct crew_decision *d;

        crew.desired = rows[i].desired;
        section.slots = rows[i].slots;
        crew.queue.in_flight = rows[i].in_flight;
        crew_set(&crew, 1);
        d = crew_decision(&crew, 0);
        CHECK_EQUAL(d->busy, rows[i].busy);
        CHECK_EQUAL(d->idle, rows[i].idle);
        CHECK_EQUAL(d->in_flight, rows[i].in_flight);
    }
    close_crew();
}

static void without_a_command_the_service_time_is_that_of_the_queue(void *arg)
{
    (void)arg;
    open_crew(1, 10);
    section.command.text = NULL;
    crew.queue.in_flight = 6;
    for (int i = 0; i < 40; i++) {
        tick();
        crew.queue.came += 3;
        crew.queue.gone += 3;
    }
    CHECK(fabs(scale_service_time(&crew.scale) - 2.0) < 0.1);
    CHECK(fabs(crew.handled_rate - 3 * (1 - exp(-3.9))) < 0.05);
    CHECK_EQUAL(crew.guessed_us, 39 * 6 * US_PER_S);
    CHECK(crew.desired > 6);
    settle();
    CHECK_STAY("");
    close_crew();
}

/* ---- how it is --------------------------------------------------------------------------------------------------- */

static void its_state_is_what_matters_most(void *arg)
{
    static const struct {
        enum crew_hand hand;
        enum scale_why why;
        bool no_command;
        unsigned desired;
        struct crew_count count;
        uint64_t ready, in_flight;
        enum crew_state state;
        const char *reason;
    } rows[] = {
        {.state = CREW_IDLE, .reason = "text"},
        {.ready = 1, .state = CREW_RUNNING, .reason = "text"},
        {.in_flight = 1, .state = CREW_RUNNING, .reason = "text"},
        {.desired = 1, .count = {.workers = 1, .idle = 1}, .state = CREW_IDLE, .reason = "text"},
        {.desired = 1, .count = {.workers = 1, .busy = 1}, .state = CREW_RUNNING, .reason = "text"},
        {.desired = 2, .count = {.workers = 1, .busy = 1}, .state = CREW_GROWING, .reason = "text"},
        {.desired = 2,
         .count = {.workers = 3, .busy = 1, .stopping = 2},
         .state = CREW_GROWING,
         .reason = "text"},
        {.desired = 1, .count = {.workers = 1, .starting = 1}, .state = CREW_GROWING, .reason = "text"},
        {.desired = 2, .no_command = true, .state = CREW_IDLE, .reason = "text"},
        {.desired = 1,
         .count = {.workers = 2, .busy = 1, .stopping = 1},
         .state = CREW_SHRINKING,
         .reason = "text"},
        {.why = SCALE_AT_MAX,
         .desired = 2,
         .count = {.workers = 1, .busy = 1},
         .state = CREW_HELD,
         .reason = "text"},
        {.why = SCALE_GAUGE, .state = CREW_HELD, .reason = "text"},
        {.why = SCALE_COOLDOWN, .state = CREW_IDLE, .reason = "text"},
        {.why = SCALE_CRASHING,
         .desired = 1,
         .count = {.workers = 1, .busy = 1},
         .state = CREW_CRASHING,
         .reason = "text"},
        {.desired = 1, .count = {.workers = 1, .backing_off = 1}, .state = CREW_CRASHING, .reason = "text"},
        {.desired = 2,
         .count = {.workers = 2, .backing_off = 1, .starting = 1},
         .state = CREW_CRASHING,
         .reason = "text"},
        {.desired = 2,
         .count = {.workers = 2, .backing_off = 1, .idle = 1},
         .state = CREW_IDLE,
         .reason = "text"},
        {.desired = 2,
         .count = {.workers = 2, .backing_off = 1, .busy = 1},
         .state = CREW_RUNNING,
         .reason = "text"},
        {.hand = HAND_SET,
         .desired = 3,
         .count = {.workers = 1, .busy = 1},
         .state = CREW_HELD,
         .reason = "set to 3 by hand; resume them to have as many as are needed"},
        {.hand = HAND_SET,
         .count = {.workers = 1, .backing_off = 1},
         .state = CREW_CRASHING,
         .reason = "text"},
        {.hand = HAND_PAUSED,
         .why = SCALE_CRASHING,
         .count = {.workers = 1, .backing_off = 1},
         .state = CREW_PAUSED,
         .reason = "paused by hand; resume them when they are to work again"},
    };
    char reason[CREW_REASON_MAX];

    (void)arg;
    open_crew(0, 10);
    snprintf(crew.text, sizeof crew.text, "text");
    for (size_t i = 0; i < N(rows); i++) {
        crew.hand = rows[i].hand;
        crew.why = rows[i].why;
        crew.desired = crew.hand_count = rows[i].desired;
        section.command.text = rows[i].no_command ? NULL : "cook";
        crew.queue = (struct crew_queue){.ready = rows[i].ready, .in_flight = rows[i].in_flight};
        if (!CHECK_EQUAL(crew_state(&crew, &rows[i].count, reason), rows[i].state) ||
            !CHECK(strcmp(reason, rows[i].reason) == 0))
            fprintf(stderr, "row %zu: \"%s\"\n", i, reason);
    }
    section.command.text = "cook";
    crew.hand = HAND_NONE;
    crew.desired = 0;
    close_crew();
}

static void those_that_crash_say_why(void *arg)
{
    char reason[CREW_REASON_MAX];
    struct crew_count count;

    (void)arg;
    open_crew(2, 10);
    have(2, WORKER_BACKING_OFF);
    count = count_now();
    CHECK_EQUAL(crew.crashes, 2);
    CHECK_EQUAL(crew_state(&crew, &count, reason), CREW_CRASHING);
    CHECK(strcmp(reason, "number 1 fails") == 0);
    snprintf(crew.text, sizeof crew.text, "text");
    CHECK_EQUAL(crew_state(&crew, &count, reason), CREW_CRASHING);
    CHECK(strcmp(reason, "number 1 fails; text") == 0);
    close_crew();
}

static void every_state_has_a_word(void **state)
{
    static const char *const words[] = {"running", "growing", "shrinking", "crashing",
                                        "held",    "paused",  "idle"};

    (void)state;
    for (size_t i = 0; i < N(words); i++)
        assert_string_equal(crew_state_name((enum crew_state)i), words[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIBER_TEST(as_many_are_started_as_are_desired),
        FIBER_TEST(nothing_is_started_before_it_serves_or_without_a_command),
        FIBER_TEST(the_lowest_free_number_is_given_once_its_worker_has_ended),
        FIBER_TEST(those_that_stop_are_not_counted_as_there),
        FIBER_TEST(each_worker_counts_as_what_it_is),
        FIBER_TEST(what_a_worker_did_counts_when_it_has_gone),
        FIBER_TEST(the_rate_follows_what_is_handled_in_ten_seconds),
        FIBER_TEST(who_has_least_to_lose_goes_first),
        FIBER_TEST(a_lower_max_lets_go_those_without_a_message_first),
        FIBER_TEST(all_are_stopped_where_its_section_or_the_process_goes),
        FIBER_TEST(a_crew_that_leaves_is_not_decided_about),
        FIBER_TEST(a_quarter_is_replaced_at_a_time_once_the_new_ones_take_messages),
        FIBER_TEST(no_more_are_replaced_while_the_last_ones_finish),
        FIBER_TEST(a_new_command_that_does_not_work_replaces_no_more),
        FIBER_TEST(who_has_least_to_lose_is_replaced_first),
        FIBER_TEST(set_by_hand_there_are_so_many_whatever_they_do),
        FIBER_TEST(paused_there_is_none_until_they_are_resumed),
        FIBER_TEST(resumed_there_are_as_many_as_there_were_and_decided_again),
        FIBER_TEST(nothing_is_decided_before_the_queue_was_looked_at),
        FIBER_TEST(what_was_decided_is_noted_with_what_it_was_decided_by),
        FIBER_TEST(the_last_hundred_decisions_are_kept),
        FIBER_TEST(a_gauge_that_is_full_holds_it),
        FIBER_TEST(a_message_that_waits_for_long_wants_one_more),
        FIBER_TEST(without_a_command_somebody_else_is_taken_to_have_as_many),
        FIBER_TEST(without_a_command_the_service_time_is_that_of_the_queue),
        FIBER_TEST(its_state_is_what_matters_most),
        FIBER_TEST(those_that_crash_say_why),
        cmocka_unit_test(every_state_has_a_word),
    };

    kit_watchdog(50);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
