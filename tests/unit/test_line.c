/* test_line.c - balance/line.h: places at servers are neither exceeded nor lost, and who waits for one gets it in
 * turn, whatever is cancelled, late, kicked or on another thread. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fiber_kit.h"

#include "balance/line.h"
#include "base/clock.h"

#define SERVERS_MAX 4
#define THREADS_MAX 2

/* A pool with servers a, b, c, ... */
struct hall {
    struct config_pool config;
    struct pool *pool;
    struct server *servers[SERVERS_MAX];
    size_t n;
    struct roster *roster;
};

static void hall_open(struct hall *hall, size_t n, unsigned max_connections)
{
    memset(hall, 0, sizeof *hall);
    hall->n = n;
    hall->config = (struct config_pool){
        .name = "hall", .balance = BALANCE_ROUND_ROBIN, .max_queue = 100, .queue_timeout_us = 10 * US_PER_S};
    for (size_t i = 0; i < n; i++) {
        const char name[] = {(char)('a' + (int)i), '\0'};
        const struct config_server config = {.name = name, .weight = 1};

        hall->servers[i] = server_create(&config, max_connections, &(struct endpoint){.len = 0}, THREADS_MAX);
        hall->servers[i]->slot = (unsigned)i;
    }
    hall->pool = pool_create(&hall->config, THREADS_MAX);
    CHECK(hall->pool != NULL);
}

/* This thread's part, held by the test. */
static void part_open(struct pool_thread *pt)
{
    pool_thread_open(pt, loop_mailbox(loop_self()));
    pool_thread_hold(pt);
}

/* The servers from first on are what this thread knows of from now on. */
static void hall_publish(struct hall *hall, size_t first, size_t n)
{
    if (hall->roster)
        roster_unref(hall->roster);
    hall->roster = roster_create(hall->servers + first, NULL, n, hall->config.balance, 0);
    CHECK(hall->roster != NULL);
    pool_thread_install(&hall->pool->threads[0], hall->roster, pool_slots(SERVERS_MAX), SERVERS_MAX);
}

/* On one thread. */
static struct pool_thread *hall_begin(struct hall *hall)
{
    part_open(&hall->pool->threads[0]);
    hall_publish(hall, 0, hall->n);
    return &hall->pool->threads[0];
}

static void check_empty(const struct hall *hall)
{
    CHECK_EQUAL(atomic_load(&hall->pool->in_line), 0);
    CHECK(list_empty(&hall->pool->line));
    for (size_t i = 0; i < hall->n; i++) {
        CHECK_EQUAL(atomic_load(&hall->servers[i]->active), 0);
        CHECK_EQUAL(atomic_load(&hall->servers[i]->waiting), 0);
    }
}

/* Nothing is left: neither a place, nor a reference to a server. */
static void hall_close(struct hall *hall)
{
    check_empty(hall);
    if (hall->roster)
        roster_unref(hall->roster);
    for (size_t i = 0; i < hall->n; i++) {
        CHECK_EQUAL(atomic_load(&hall->servers[i]->references), 1);
        server_unref(hall->servers[i]);
    }
    CHECK_EQUAL(atomic_load(&hall->pool->references), 1);
    pool_unref(hall->pool);
}

static void hall_end(struct hall *hall)
{
    pool_thread_release(&hall->pool->threads[0]);
    hall_close(hall);
}

/* One request, as a fiber: enters, stays until it is told to go, leaves. */
struct guest {
    struct pool_thread *pt;
    char name; /* told when it got its place */
    struct server *tried[SERVERS_MAX];
    size_t n_tried;
    uint64_t key;
    struct server *server; /* where it is */
    int result;
    bool inside, leaves, done;
    struct wait_queue may_go;
    struct fiber *fiber;
};

static void guest_main(void *arg)
{
    struct guest *guest = arg;
    struct strategy_input input = {.key = guest->key, .tried = guest->tried, .n_tried = guest->n_tried};

    guest->result = line_enter(guest->pt, &input, &guest->server);
    if (guest->result == 0) {
        guest->inside = true;
        tell(guest->name);
        while (!guest->leaves && wait_queue_wait(&guest->may_go, NEVER) == 0)
            ;
        guest->inside = false;
        line_leave(guest->pt, guest->server);
    }
    guest->done = true;
}

static void guest_start(struct guest *guest, struct pool_thread *pt, char name)
{
    guest->pt = pt;
    guest->name = name;
    guest->result = 1;
    wait_queue_init(&guest->may_go);
    guest->fiber = fiber_spawn("guest", guest_main, guest);
}

static void guest_go(struct guest *guest)
{
    guest->leaves = true;
    wait_queue_wake_all(&guest->may_go);
}

static void guest_end(struct guest *guest)
{
    guest_go(guest);
    CHECK_EQUAL(fiber_join(guest->fiber, in_ms(10000)), 0);
}

static void turns(unsigned n)
{
    while (n--)
        fiber_yield();
}

static unsigned active(const struct hall *hall, size_t i)
{
    return atomic_load(&hall->servers[i]->active);
}

/* --- places -------------------------------------------------------------------------------------------------- */

static void places_are_taken_up_to_the_limit(void *arg)
{
    struct guest guests[5] = {0};
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    hall_open(&hall, 2, 2);
    pt = hall_begin(&hall);
    for (int i = 0; i < 5; i++)
        guest_start(&guests[i], pt, (char)('0' + i));
    turns(2);
    CHECK(strcmp(story, "0123") == 0);
    CHECK_EQUAL(active(&hall, 0), 2);
    CHECK_EQUAL(active(&hall, 1), 2);
    CHECK_EQUAL(atomic_load(&hall.pool->in_line), 1);
    CHECK_EQUAL(atomic_load(&hall.servers[0]->waiting) + atomic_load(&hall.servers[1]->waiting), 1);
    for (int i = 0; i < 5; i++)
        guest_end(&guests[i]);
    CHECK(strcmp(story, "01234") == 0);
    hall_end(&hall);
}

static void a_server_without_a_limit_never_lets_anybody_wait(void *arg)
{
    struct guest guests[50] = {0};
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    hall_open(&hall, 1, 0);
    hall.config.max_queue = 0;
    pt = hall_begin(&hall);
    for (int i = 0; i < 50; i++)
        guest_start(&guests[i], pt, '.');
    turns(1);
    CHECK_EQUAL(active(&hall, 0), 50);
    for (int i = 0; i < 50; i++)
        guest_end(&guests[i]);
    hall_end(&hall);
}

static void without_a_usable_server_nobody_waits(void *arg)
{
    struct guest guests[3] = {0};
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    hall_open(&hall, 2, 1);
    pt = &hall.pool->threads[0];
    part_open(pt);
    guest_start(&guests[0], pt, '0'); /* no roster yet */
    turns(1);
    hall_publish(&hall, 0, 2);
    server_went_down(hall.servers[0]);
    atomic_store(&hall.servers[1]->draining, true);
    guest_start(&guests[1], pt, '1');
    atomic_store(&hall.servers[1]->draining, false);
    guests[2].tried[0] = hall.servers[1];
    guests[2].n_tried = 1;
    guest_start(&guests[2], pt, '2');
    atomic_store(&hall.servers[1]->draining, true);
    turns(1);
    atomic_store(&hall.servers[1]->draining, false);
    for (int i = 0; i < 3; i++) {
        guest_end(&guests[i]);
        CHECK_EQUAL(guests[i].result, -EHOSTUNREACH);
    }
    hall_end(&hall);
}

/* --- waiting ------------------------------------------------------------------------------------------------- */

static void who_came_first_is_served_first(void *arg)
{
    struct guest guests[26] = {0};
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    hall_open(&hall, 2, 1);
    pt = hall_begin(&hall);
    for (int i = 0; i < 26; i++)
        guest_start(&guests[i], pt, (char)('a' + i));
    turns(2);
    CHECK(strcmp(story, "ab") == 0);
    for (int i = 0; i < 26; i++) {
        guest_go(&guests[i]);
        turns(4);
        CHECK_EQUAL(strlen(story), i + 3 < 26 ? i + 3 : 26);
    }
    CHECK(strcmp(story, "abcdefghijklmnopqrstuvwxyz") == 0);
    for (int i = 0; i < 26; i++)
        guest_end(&guests[i]);
    hall_end(&hall);
}

/* While somebody waits, a place that is given up is never to be had by who comes that very moment. */
static void a_place_is_handed_over_without_being_free(void *arg)
{
    struct guest first = {0}, second = {0}, newcomer = {0};
    struct strategy_input input = {0};
    struct server *server;
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    hall_open(&hall, 1, 1);
    pt = hall_begin(&hall);
    CHECK_EQUAL(line_enter(pt, &input, &server), 0);
    guest_start(&first, pt, '1');
    turns(1);
    line_leave(pt, server);
    CHECK_EQUAL(active(&hall, 0), 1);
    CHECK_EQUAL(atomic_load(&hall.pool->in_line), 0);
    guest_start(&newcomer, pt, 'n');
    guest_start(&second, pt, '2');
    turns(3);
    CHECK(strcmp(story, "1") == 0);
    guest_end(&first);
    guest_end(&newcomer);
    guest_end(&second);
    CHECK(strcmp(story, "1n2") == 0);
    hall_end(&hall);
}

static void who_waits_too_long_is_told_so(void *arg)
{
    struct guest first = {0}, late = {0}, next = {0};
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    hall_open(&hall, 1, 1);
    hall.config.queue_timeout_us = 5000;
    pt = hall_begin(&hall);
    guest_start(&first, pt, '1');
    guest_start(&late, pt, 'l');
    turns(1);
    CHECK_EQUAL(fiber_join(late.fiber, in_ms(10000)), 0);
    CHECK_EQUAL(late.result, -ETIMEDOUT);
    CHECK_EQUAL(atomic_load(&hall.pool->in_line), 0);
    CHECK_EQUAL(atomic_load(&hall.servers[0]->waiting), 0);
    guest_start(&next, pt, 'n');
    turns(1);
    guest_end(&first);
    guest_end(&next);
    CHECK(strcmp(story, "1n") == 0);
    hall_end(&hall);
}

static void who_has_less_time_than_the_line_allows_waits_no_longer(void *arg)
{
    struct strategy_input input = {0};
    struct server *server, *none;
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    hall_open(&hall, 1, 1);
    pt = hall_begin(&hall);
    CHECK_EQUAL(line_enter_until(pt, &input, in_ms(0), &server), 0); /* nobody has to wait */
    CHECK_EQUAL(line_enter_until(pt, &input, in_ms(5), &none), -ETIMEDOUT);
    CHECK_EQUAL(atomic_load(&hall.pool->in_line), 0);
    hall.config.queue_timeout_us = 5000;
    CHECK_EQUAL(line_enter_until(pt, &input, in_ms(10000), &none), -ETIMEDOUT);
    line_leave(pt, server);
    hall_end(&hall);
}

static void a_full_line_takes_nobody_more(void *arg)
{
    struct guest guests[4];
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    for (unsigned max = 0; max < 3; max++) {
        memset(guests, 0, sizeof guests);
        hall_open(&hall, 1, 1);
        hall.config.max_queue = max;
        pt = hall_begin(&hall);
        for (unsigned i = 0; i < 4; i++)
            guest_start(&guests[i], pt, (char)('0' + (int)i));
        turns(2);
        for (unsigned i = 0; i < 4; i++)
            CHECK_EQUAL(guests[i].result, i == 0 ? 0 : i <= max ? 1 : -EAGAIN);
        for (unsigned i = 0; i < 4; i++)
            guest_end(&guests[i]);
        hall_end(&hall);
    }
}

static void a_server_that_was_tried_is_not_granted(void *arg)
{
    struct guest at_a = {0}, at_b = {0}, picky = {0}, other = {0};
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    hall_open(&hall, 2, 1);
    pt = hall_begin(&hall);
    guest_start(&at_a, pt, 'a');
    guest_start(&at_b, pt, 'b');
    picky.tried[0] = hall.servers[1];
    picky.n_tried = 1;
    guest_start(&picky, pt, 'p');
    guest_start(&other, pt, 'o');
    turns(2);
    CHECK(at_b.server == hall.servers[1]);
    guest_end(&at_b);
    turns(3);
    CHECK(strcmp(story, "abo") == 0); /* passed over, and kept its turn */
    CHECK(other.server == hall.servers[1]);
    guest_end(&at_a);
    turns(3);
    CHECK(picky.server == hall.servers[0]);
    guest_end(&picky);
    guest_end(&other);
    hall_end(&hall);
}

/* Backups are not called in by full servers: not by the line either. */
static void a_backups_place_is_not_for_who_waits_for_another(void *arg)
{
    struct guest at_backup = {0}, first = {0}, waits = {0};
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    hall_open(&hall, 2, 1);
    hall.servers[1]->backup = true;
    pt = hall_begin(&hall);
    server_went_down(hall.servers[0]);
    guest_start(&at_backup, pt, 'b');
    turns(1);
    CHECK(at_backup.server == hall.servers[1]);
    server_came_up(hall.servers[0], loop_now_us());
    guest_start(&first, pt, '1');
    guest_start(&waits, pt, 'w');
    turns(1);
    guest_end(&at_backup);
    turns(3);
    CHECK(strcmp(story, "b1") == 0);
    CHECK_EQUAL(active(&hall, 1), 0);
    guest_end(&first);
    turns(3);
    CHECK(waits.server == hall.servers[0]);
    guest_end(&waits);
    hall_end(&hall);
}

/* A key of ip-hash that belongs to this server. */
static uint64_t key_of(struct pool_thread *pt, const struct server *server)
{
    struct strategy_input input = {.now_us = loop_now_us()};

    while (strategy_pick(pt->roster, &pt->strategy, &input) != server)
        input.key++;
    return input.key;
}

static void with_ip_hash_a_client_waits_for_its_own_server(void *arg)
{
    struct guest at_a = {0}, at_b = {0}, waits = {0};
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    hall_open(&hall, 2, 1);
    hall.config.balance = BALANCE_IP_HASH;
    pt = hall_begin(&hall);
    at_a.key = waits.key = key_of(pt, hall.servers[0]);
    at_b.key = key_of(pt, hall.servers[1]);
    guest_start(&at_a, pt, 'a');
    guest_start(&waits, pt, 'w');
    turns(1);
    CHECK_EQUAL(active(&hall, 1), 0); /* there is room, but it is not for this client */
    CHECK_EQUAL(atomic_load(&hall.servers[0]->waiting), 1);
    guest_start(&at_b, pt, 'b');
    turns(1);
    CHECK(at_b.server == hall.servers[1]);
    guest_end(&at_b);
    turns(3);
    CHECK(!waits.inside);
    CHECK_EQUAL(active(&hall, 1), 0); /* given to nobody, and not lost */
    guest_end(&at_a);
    turns(3);
    CHECK(waits.inside && waits.server == hall.servers[0]);
    guest_end(&waits);
    hall_end(&hall);
}

static void a_place_at_an_unusable_server_is_given_to_nobody(void *arg)
{
    struct guest first = {0}, waits = {0};
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    hall_open(&hall, 1, 1);
    pt = hall_begin(&hall);
    guest_start(&first, pt, '1');
    guest_start(&waits, pt, 'w');
    turns(1);
    atomic_store(&hall.servers[0]->draining, true);
    guest_end(&first);
    turns(3);
    CHECK(!waits.inside);
    CHECK_EQUAL(active(&hall, 0), 0);
    line_kick(hall.pool);
    CHECK_EQUAL(fiber_join(waits.fiber, in_ms(10000)), 0);
    CHECK_EQUAL(waits.result, -EHOSTUNREACH);
    hall_end(&hall);
}

/* --- kicks --------------------------------------------------------------------------------------------------- */

static void a_kick_lets_all_choose_again(void *arg)
{
    struct guest guests[5] = {0};
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    hall_open(&hall, 3, 1);
    pt = &hall.pool->threads[0];
    part_open(pt);
    hall_publish(&hall, 0, 1);
    for (int i = 0; i < 5; i++)
        guest_start(&guests[i], pt, (char)('0' + i));
    turns(2);
    CHECK(strcmp(story, "0") == 0);
    hall_publish(&hall, 0, 3);
    line_kick(hall.pool);
    CHECK_EQUAL(atomic_load(&hall.pool->in_line), 0);
    turns(4);
    CHECK(strcmp(story, "012") == 0);
    CHECK_EQUAL(atomic_load(&hall.pool->in_line), 2); /* again, in their order */
    for (int i = 0; i < 5; i++) {
        guest_end(&guests[i]);
        turns(4);
    }
    CHECK(strcmp(story, "01234") == 0);
    hall_end(&hall);
}

static void a_kick_does_not_begin_the_time_anew(void *arg)
{
    struct guest first = {0}, waits = {0};
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    hall_open(&hall, 1, 1);
    hall.config.queue_timeout_us = 20000;
    pt = hall_begin(&hall);
    guest_start(&first, pt, '1');
    guest_start(&waits, pt, 'w');
    for (int i = 0; i < 1000 && !waits.done; i++) {
        CHECK_EQUAL(fiber_sleep_until(in_ms(5)), 0);
        line_kick(hall.pool);
    }
    CHECK(waits.done);
    CHECK_EQUAL(waits.result, -ETIMEDOUT);
    CHECK_EQUAL(fiber_join(waits.fiber, in_ms(10000)), 0);
    guest_end(&first);
    hall_end(&hall);
}

/* --- cancels ------------------------------------------------------------------------------------------------- */

static void who_is_cancelled_leaves_the_line(void *arg)
{
    struct guest guests[4] = {0};
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    hall_open(&hall, 1, 1);
    pt = hall_begin(&hall);
    for (int i = 0; i < 4; i++)
        guest_start(&guests[i], pt, (char)('0' + i));
    turns(2);
    fiber_cancel_and_join(guests[2].fiber);
    CHECK_EQUAL(guests[2].result, -ECANCELED);
    CHECK_EQUAL(atomic_load(&hall.pool->in_line), 2);
    CHECK_EQUAL(atomic_load(&hall.servers[0]->waiting), 2);
    guest_end(&guests[0]);
    guest_end(&guests[1]);
    guest_end(&guests[3]);
    CHECK(strcmp(story, "013") == 0);
    hall_end(&hall);
}

/* Granted, and cancelled before the grant arrives: the place goes to the next, or is free. */
static void a_grant_that_meets_a_cancel_is_not_lost(void *arg)
{
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    for (unsigned others = 0; others < 2; others++) {
        struct guest first = {0}, cancelled = {0}, next = {0}, last = {0};

        hall_open(&hall, 1, 1);
        pt = hall_begin(&hall);
        guest_start(&first, pt, '1');
        guest_start(&cancelled, pt, 'c');
        if (others)
            guest_start(&next, pt, 'n');
        turns(2);
        guest_go(
            &first); /* runs first and hands over; the one cancelled runs next, and before the mail comes */
        fiber_cancel_and_join(cancelled.fiber);
        CHECK_EQUAL(cancelled.result, -ECANCELED);
        CHECK_EQUAL(fiber_join(first.fiber, in_ms(10000)), 0);
        turns(3);
        CHECK_EQUAL(active(&hall, 0), others);
        if (others)
            guest_end(&next);
        guest_start(&last, pt, 'l');
        turns(1);
        CHECK(last.inside);
        guest_end(&last);
        CHECK(strcmp(story, others ? "1l1nl" : "1l") == 0);
        hall_end(&hall);
    }
}

/* Granted, the grant has arrived, and cancelled before it runs: it has the place, and leaves it like any other. */
static void a_cancel_that_comes_after_the_grant_finds_the_guest_inside(void *arg)
{
    struct guest late = {0};
    struct strategy_input input = {0};
    struct server *server;
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    hall_open(&hall, 1, 1);
    pt = hall_begin(&hall);
    CHECK_EQUAL(line_enter(pt, &input, &server), 0);
    guest_start(&late, pt, 'l');
    turns(1);
    line_leave(pt, server);
    turns(1); /* the mail is delivered at the end of this turn, and we run before the guest */
    CHECK(!late.inside);
    fiber_cancel_and_join(late.fiber);
    CHECK_EQUAL(late.result, 0);
    hall_end(&hall);
}

/* The deadline and the grant in one turn, either one first. */
static void a_grant_that_meets_the_deadline_is_not_lost(void *arg)
{
    struct strategy_input input = {0};
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    hall_open(&hall, 1, 1);
    hall.config.queue_timeout_us = 2000;
    pt = hall_begin(&hall);
    for (int i = 0; i < 40; i++) {
        struct guest late = {0};
        struct server *server;
        uint64_t until = loop_now_us() + 1000 + (uint64_t)i * 50;

        CHECK_EQUAL(line_enter(pt, &input, &server), 0);
        guest_start(&late, pt, '.');
        while (clock_monotonic_us() < until)
            fiber_yield();
        line_leave(pt, server);
        guest_end(&late);
        CHECK(late.result == 0 || late.result == -ETIMEDOUT);
        turns(3);
        CHECK_EQUAL(active(&hall, 0), 0);
    }
    hall_end(&hall);
}

static void a_kick_that_meets_a_cancel_leaves_nothing_behind(void *arg)
{
    struct guest first = {0}, cancelled = {0};
    struct pool_thread *pt;
    struct hall hall;

    (void)arg;
    hall_open(&hall, 1, 1);
    pt = hall_begin(&hall);
    guest_start(&first, pt, '1');
    guest_start(&cancelled, pt, 'c');
    turns(1);
    line_kick(hall.pool);
    fiber_cancel_and_join(cancelled.fiber);
    CHECK_EQUAL(cancelled.result, -ECANCELED);
    guest_end(&first);
    turns(3); /* for the kick that finds nobody */
    hall_end(&hall);
}

/* --- two threads --------------------------------------------------------------------------------------------- */

#define TORTURE_GUESTS SCALED(20000u, 4000u) /* of each thread */
#define TORTURE_ALIVE 24u

struct torture {
    struct hall hall;
    pthread_barrier_t barrier;
    atomic_uint inside[SERVERS_MAX];
    atomic_uint granted, busy; /* busy: threads that still send guests */
};

struct torture_guest {
    struct torture *torture;
    struct pool_thread *pt;
    struct fiber *fiber; /* NULL: the seat is free */
    unsigned stay;       /* turns */
    bool done;
};

struct torture_thread {
    struct torture *torture;
    unsigned number;
    struct rng rng;
    struct torture_guest guests[TORTURE_ALIVE];
};

static void torture_guest_main(void *arg)
{
    struct torture_guest *guest = arg;
    struct torture *t = guest->torture;
    struct strategy_input input = {0};
    struct server *server;
    int error = line_enter(guest->pt, &input, &server);

    if (error == 0) {
        unsigned before = atomic_fetch_add(&t->inside[server->slot], 1);

        if (before >= server->max_connections)
            CHECK_EQUAL(before, server->max_connections - 1);
        atomic_fetch_add(&t->granted, 1);
        for (unsigned i = 0; i < guest->stay; i++)
            fiber_yield();
        atomic_fetch_sub(&t->inside[server->slot], 1);
        line_leave(guest->pt, server);
    } else if (error != -ECANCELED && error != -ETIMEDOUT && error != -EAGAIN) {
        CHECK_EQUAL(error, 0);
    }
    guest->done = true;
}

static void seat_guest(struct torture_thread *thread, struct torture_guest *guest)
{
    *guest = (struct torture_guest){
        .torture = thread->torture,
        .pt = &thread->torture->hall.pool->threads[thread->number],
        .stay = (unsigned)rng_below(&thread->rng, 4),
    };
    guest->fiber = fiber_spawn("guest", torture_guest_main, guest);
    CHECK(guest->fiber != NULL);
}

static void let_go(struct torture_guest *guest, bool cancel)
{
    if (cancel)
        fiber_cancel(guest->fiber);
    if (!guest->done)
        return;
    CHECK_EQUAL(fiber_join(guest->fiber, NEVER), 0);
    guest->fiber = NULL;
}

static bool is_settled(const struct torture *t)
{
    if (atomic_load(&t->busy) || atomic_load(&t->hall.pool->in_line))
        return false;
    for (size_t i = 0; i < t->hall.n; i++)
        if (atomic_load(&t->hall.servers[i]->active) || atomic_load(&t->hall.servers[i]->waiting))
            return false;
    return true;
}

static void torture_main(void *arg)
{
    struct torture_thread *thread = arg;
    struct torture *t = thread->torture;
    unsigned sent = 0, seated = 1;

    while (seated) {
        seated = 0;
        for (unsigned i = 0; i < TORTURE_ALIVE; i++) {
            struct torture_guest *guest = &thread->guests[i];

            if (guest->fiber)
                let_go(guest, rng_below(&thread->rng, 50) == 0);
            else if (sent < TORTURE_GUESTS && rng_below(&thread->rng, 2))
                seat_guest(thread, guest), sent++;
            seated += guest->fiber || sent < TORTURE_GUESTS;
        }
        if (rng_below(&thread->rng, 100) == 0)
            line_kick(t->hall.pool);
        fiber_yield();
    }
    atomic_fetch_sub(&t->busy, 1);
    for (unsigned i = 0; i < 10000 && !is_settled(t); i++) /* grants that found nobody are on their way */
        CHECK_EQUAL(fiber_sleep_until(in_ms(1)), 0);
    CHECK(is_settled(t));
}

static void *torture_thread_main(void *arg)
{
    struct torture_thread *thread = arg;
    struct torture *t = thread->torture;
    struct pool_thread *pt = &t->hall.pool->threads[thread->number];
    struct loop *loop;

    CHECK_EQUAL(loop_create(&loop), 0);
    part_open(pt);
    pool_thread_install(pt, t->hall.roster, pool_slots(SERVERS_MAX), SERVERS_MAX);
    pthread_barrier_wait(&t->barrier); /* each can be reached */
    CHECK_EQUAL(fiber_start("torture", torture_main, thread), 0);
    loop_run(loop);
    pthread_barrier_wait(&t->barrier); /* nobody sends any more */
    pool_thread_release(pt);
    loop_free(loop);
    return NULL;
}

static void two_threads_lose_and_exceed_no_place(void **state)
{
    static struct torture_thread threads[THREADS_MAX];
    static struct torture t;
    pthread_t ids[THREADS_MAX];

    (void)state;
    atomic_store(&kit_failures, 0);
    memset(&t, 0, sizeof t);
    hall_open(&t.hall, 3, 2);
    t.hall.config.queue_timeout_us = 20 * US_PER_MS;
    t.hall.config.max_queue = 30;
    t.hall.roster = roster_create(t.hall.servers, NULL, t.hall.n, BALANCE_LEAST_CONNECTIONS, 0);
    assert_non_null(t.hall.roster);
    atomic_store(&t.busy, THREADS_MAX);
    assert_int_equal(pthread_barrier_init(&t.barrier, NULL, THREADS_MAX), 0);
    for (unsigned i = 0; i < THREADS_MAX; i++) {
        threads[i] = (struct torture_thread){.torture = &t, .number = i, .rng = {.state = i}};
        assert_int_equal(pthread_create(&ids[i], NULL, torture_thread_main, &threads[i]), 0);
    }
    for (unsigned i = 0; i < THREADS_MAX; i++)
        assert_int_equal(pthread_join(ids[i], NULL), 0);
    pthread_barrier_destroy(&t.barrier);
    CHECK(atomic_load(&t.granted) > 100);
    hall_close(&t.hall);
    assert_int_equal(atomic_load(&kit_failures), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIBER_TEST(places_are_taken_up_to_the_limit),
        FIBER_TEST(a_server_without_a_limit_never_lets_anybody_wait),
        FIBER_TEST(without_a_usable_server_nobody_waits),
        FIBER_TEST(who_came_first_is_served_first),
        FIBER_TEST(a_place_is_handed_over_without_being_free),
        FIBER_TEST(who_waits_too_long_is_told_so),
        FIBER_TEST(who_has_less_time_than_the_line_allows_waits_no_longer),
        FIBER_TEST(a_full_line_takes_nobody_more),
        FIBER_TEST(a_server_that_was_tried_is_not_granted),
        FIBER_TEST(a_backups_place_is_not_for_who_waits_for_another),
        FIBER_TEST(with_ip_hash_a_client_waits_for_its_own_server),
        FIBER_TEST(a_place_at_an_unusable_server_is_given_to_nobody),
        FIBER_TEST(a_kick_lets_all_choose_again),
        FIBER_TEST(a_kick_does_not_begin_the_time_anew),
        FIBER_TEST(who_is_cancelled_leaves_the_line),
        FIBER_TEST(a_grant_that_meets_a_cancel_is_not_lost),
        FIBER_TEST(a_cancel_that_comes_after_the_grant_finds_the_guest_inside),
        FIBER_TEST(a_grant_that_meets_the_deadline_is_not_lost),
        FIBER_TEST(a_kick_that_meets_a_cancel_leaves_nothing_behind),
        cmocka_unit_test(two_threads_lose_and_exceed_no_place),
    };

    kit_watchdog(50);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
