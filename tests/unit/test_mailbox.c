/* test_mailbox.c - fiber/mailbox.h: order, one wake-up a batch, and that each message is delivered or dropped once,
 * with senders on other threads. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fiber_kit.h"

#define SENDERS 4u
#define EACH SCALED(100000u, 20000u)

struct note {
    struct mail message;
    struct office *office;
    unsigned sender, number;
    atomic_uint delivered, dropped;
};

/* What a test's messages come to. */
struct office {
    struct mailbox *mailbox;
    struct note *notes; /* EACH of every sender, one sender after the other */
    unsigned next[SENDERS], delivered;
    struct fiber *waiter;
    atomic_uint started; /* senders */
};

static struct note *note_of(struct mail *message)
{
    return container_of(message, struct note, message);
}

static void on_deliver(struct mail *message)
{
    struct note *note = note_of(message);
    struct office *office = note->office;

    atomic_fetch_add_explicit(&note->delivered, 1, memory_order_relaxed);
    if (note->number != office->next[note->sender])
        CHECK_EQUAL(note->number, office->next[note->sender]);
    office->next[note->sender] = note->number + 1;
    office->delivered++;
}

static void on_drop(struct mail *message)
{
    atomic_fetch_add_explicit(&note_of(message)->dropped, 1, memory_order_relaxed);
}

static void office_open(struct office *office)
{
    *office = (struct office){.notes = calloc(SENDERS * EACH, sizeof *office->notes)};
    assert_non_null(office->notes);
    for (unsigned i = 0; i < SENDERS * EACH; i++) {
        struct note *note = &office->notes[i];

        note->message = (struct mail){.deliver = on_deliver, .drop = on_drop};
        note->office = office;
        note->sender = i / EACH;
        note->number = i % EACH;
    }
    atomic_store(&kit_failures, 0);
}

static void office_close(struct office *office)
{
    free(office->notes);
    assert_int_equal(atomic_load(&kit_failures), 0);
}

/* Sends all notes of a sender; owns one reference to the mailbox. */
static void *send_all(void *arg)
{
    struct note *notes = arg;
    struct mailbox *mailbox = notes->office->mailbox;

    atomic_fetch_add(&notes->office->started, 1);
    for (unsigned i = 0; i < EACH; i++)
        mailbox_send(mailbox, &notes[i].message);
    mailbox_unref(mailbox);
    return NULL;
}

static void start_senders(struct office *office, pthread_t threads[SENDERS])
{
    for (unsigned s = 0; s < SENDERS; s++) {
        mailbox_ref(office->mailbox);
        assert_int_equal(pthread_create(&threads[s], NULL, send_all, &office->notes[s * EACH]), 0);
    }
}

static void join_senders(pthread_t threads[SENDERS])
{
    for (unsigned s = 0; s < SENDERS; s++)
        assert_int_equal(pthread_join(threads[s], NULL), 0);
}

/* How often the owner was woken since it last looked. */
static uint64_t wake_ups(struct mailbox *mailbox)
{
    uint64_t n = 0;

    return read(mailbox_fd(mailbox), &n, sizeof n) == sizeof n ? n : 0;
}

static bool is_readable(struct mailbox *mailbox, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = mailbox_fd(mailbox), .events = POLLIN};

    return poll(&poll_fd, 1, timeout_ms) == 1;
}

static void messages_arrive_in_order_and_wake_the_owner_once(void **state)
{
    struct office office;

    (void)state;
    office_open(&office);
    assert_int_equal(mailbox_create(&office.mailbox), 0);
    for (unsigned batch = 0; batch < 3; batch++) {
        assert_false(is_readable(office.mailbox, 0));
        for (unsigned i = 0; i < 1000; i++)
            mailbox_send(office.mailbox, &office.notes[batch * 1000 + i].message);
        assert_int_equal(office.delivered, batch * 1000);
        assert_true(is_readable(office.mailbox, 0));
        assert_int_equal(wake_ups(office.mailbox), 1);
        mailbox_deliver(office.mailbox);
        assert_int_equal(office.delivered, batch * 1000 + 1000);
    }
    mailbox_deliver(office.mailbox); /* nothing there is nothing done */
    assert_int_equal(office.delivered, 3000);
    mailbox_close(office.mailbox);
    mailbox_unref(office.mailbox);
    office_close(&office);
}

static void four_senders_keep_their_order_and_wake_once_a_batch(void **state)
{
    struct office office;
    pthread_t threads[SENDERS];
    uint64_t woken = 0, batches = 0;

    (void)state;
    office_open(&office);
    assert_int_equal(mailbox_create(&office.mailbox), 0);
    start_senders(&office, threads);
    while (office.delivered < SENDERS * EACH) {
        unsigned before = office.delivered;

        assert_true(is_readable(office.mailbox, 20000)); /* or a wake-up was lost */
        woken += wake_ups(office.mailbox);
        mailbox_deliver(office.mailbox);
        batches += office.delivered > before;
    }
    join_senders(threads);
    woken += wake_ups(office.mailbox);
    assert_in_range(batches, 1, SENDERS * EACH);
    assert_in_range(woken, 1, batches); /* mailbox_deliver reads some of them itself */
    for (unsigned i = 0; i < SENDERS * EACH; i++)
        assert_int_equal(atomic_load(&office.notes[i].delivered), 1);
    mailbox_close(office.mailbox);
    mailbox_unref(office.mailbox);
    office_close(&office);
}

static void deliver_and_wake(struct mail *message)
{
    struct office *office = note_of(message)->office;

    on_deliver(message);
    if (office->delivered == SENDERS * EACH)
        fiber_wake(office->waiter);
}

static void wait_for_mail(void *arg)
{
    struct office *office = arg;
    pthread_t threads[SENDERS];

    office->mailbox = loop_mailbox(loop_self());
    office->waiter = fiber_self();
    start_senders(office, threads);
    while (office->delivered < SENDERS * EACH)
        CHECK_EQUAL(fiber_park(NEVER), 0);
    join_senders(threads);
}

static void a_loop_delivers_the_mail_of_other_threads(void **state)
{
    struct office office;

    (void)state;
    office_open(&office);
    for (unsigned i = 0; i < SENDERS * EACH; i++)
        office.notes[i].message.deliver = deliver_and_wake;
    kit_run(wait_for_mail, &office);
    office_close(&office);
}

/* Two loops that throw one message to and fro. */
struct player {
    struct mail ball;
    struct player *other;
    struct mailbox *home; /* of the player that catches */
    struct fiber *waiter;
    unsigned caught;
    bool has_ball;
};

#define THROWS 2000u

static void catch_ball(struct mail *message)
{
    struct player *player = container_of(message, struct player, ball)->other;

    player->caught++;
    player->has_ball = true;
    fiber_wake(player->waiter);
}

static void play(struct player *player)
{
    player->waiter = fiber_self();
    while (player->caught < THROWS) {
        while (!player->has_ball)
            CHECK_EQUAL(fiber_park(NEVER), 0);
        player->has_ball = false;
        mailbox_send(player->home, &player->ball);
    }
}

static pthread_barrier_t both_ready;

static void play_in_turn(void *arg)
{
    struct player *player = arg;

    player->other->home = mailbox_ref(loop_mailbox(loop_self()));
    player->ball.deliver = catch_ball;
    player->waiter = fiber_self();
    pthread_barrier_wait(&both_ready); /* the other knows where to throw, we where to catch */
    play(player);
}

static void *run_player(void *arg)
{
    struct loop *loop;

    CHECK_EQUAL(loop_create(&loop), 0);
    CHECK_EQUAL(fiber_start("player", play_in_turn, arg), 0);
    loop_run(loop);
    loop_free(loop);
    return NULL;
}

static void two_loops_throw_a_message_to_and_fro(void **state)
{
    struct player a = {.has_ball = true}, b = {.other = &a};
    pthread_t thread;

    (void)state;
    a.other = &b;
    atomic_store(&kit_failures, 0);
    pthread_barrier_init(&both_ready, NULL, 2);
    assert_int_equal(pthread_create(&thread, NULL, run_player, &b), 0);
    run_player(&a);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_barrier_destroy(&both_ready);
    mailbox_unref(a.home);
    mailbox_unref(b.home);
    assert_int_equal(a.caught, THROWS);
    assert_int_equal(b.caught, THROWS);
    assert_int_equal(atomic_load(&kit_failures), 0);
}

static void send_again(struct mail *message)
{
    struct note *note = note_of(message);

    note->office->delivered++;
    if (note->office->delivered < 5)
        mailbox_send(note->office->mailbox, message);
}

static void a_message_sent_on_by_its_delivery_comes_with_the_next_batch(void **state)
{
    struct office office = {.delivered = 0};
    struct note note = {.message = {.deliver = send_again}, .office = &office};

    (void)state;
    assert_int_equal(mailbox_create(&office.mailbox), 0);
    mailbox_send(office.mailbox, &note.message);
    for (unsigned i = 1; i <= 5; i++) {
        assert_true(is_readable(office.mailbox, 0));
        mailbox_deliver(office.mailbox);
        assert_int_equal(office.delivered, i);
    }
    assert_false(is_readable(office.mailbox, 0));
    mailbox_close(office.mailbox);
    mailbox_unref(office.mailbox);
}

static void a_closed_mailbox_drops_what_it_holds_and_what_comes(void **state)
{
    struct office office;
    struct mail silent = {.deliver = on_deliver}; /* nothing to do when it is dropped */

    (void)state;
    office_open(&office);
    assert_int_equal(mailbox_create(&office.mailbox), 0);
    mailbox_send(office.mailbox, &office.notes[0].message);
    mailbox_send(office.mailbox, &silent);
    mailbox_send(office.mailbox, &office.notes[1].message);
    mailbox_close(office.mailbox);
    mailbox_send(office.mailbox, &office.notes[2].message);
    mailbox_send(office.mailbox, &silent);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(atomic_load(&office.notes[i].dropped), 1);
        assert_int_equal(atomic_load(&office.notes[i].delivered), 0);
    }
    mailbox_unref(office.mailbox);
    office_close(&office);
}

static void a_close_with_messages_under_way_drops_each_once(void **state)
{
    (void)state;
    for (unsigned patience = 0; patience < 5; patience++) {
        struct office office;
        pthread_t threads[SENDERS];
        unsigned dropped = 0;

        office_open(&office);
        assert_int_equal(mailbox_create(&office.mailbox), 0);
        start_senders(&office, threads);
        while (atomic_load(&office.started) < SENDERS)
            sched_yield();
        for (unsigned i = 0; i < patience; i++) {
            assert_true(is_readable(office.mailbox, 20000));
            mailbox_deliver(office.mailbox);
            if (office.delivered == SENDERS * EACH)
                break;
        }
        mailbox_close(office.mailbox);
        mailbox_unref(office.mailbox); /* the senders hold theirs, and outlive us */
        join_senders(threads);
        for (unsigned i = 0; i < SENDERS * EACH; i++) {
            unsigned delivered = atomic_load(&office.notes[i].delivered);

            assert_int_equal(delivered + atomic_load(&office.notes[i].dropped), 1);
            dropped += !delivered;
        }
        assert_int_equal(dropped, SENDERS * EACH - office.delivered);
        office_close(&office);
    }
}

/* Its drop frees it: so a second drop, or none, shows under the address sanitizer. */
static void drop_free(struct mail *message)
{
    free(note_of(message));
}

static struct mailbox *mailbox_of_the_dead;

static void *send_to_the_dead(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 100; i++) {
        struct note *note = calloc(1, sizeof *note);

        if (!note)
            continue;
        note->message.drop = drop_free;
        mailbox_send(mailbox_of_the_dead, &note->message);
    }
    mailbox_unref(mailbox_of_the_dead);
    return NULL;
}

static void leave_mail_behind(void *arg)
{
    struct note *note = calloc(1, sizeof *note);

    (void)arg;
    mailbox_of_the_dead = mailbox_ref(loop_mailbox(loop_self()));
    if (CHECK(note != NULL)) {
        note->message.drop = drop_free;
        mailbox_send(mailbox_of_the_dead, &note->message); /* and the loop ends before it looks */
    }
}

static void a_sender_may_outlive_the_loop_it_sends_to(void **state)
{
    struct loop *loop;
    pthread_t thread;

    (void)state;
    atomic_store(&kit_failures, 0);
    assert_int_equal(loop_create(&loop), 0);
    assert_int_equal(fiber_start("short", leave_mail_behind, NULL), 0);
    loop_run(loop);
    loop_free(loop);
    assert_int_equal(pthread_create(&thread, NULL, send_to_the_dead, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(atomic_load(&kit_failures), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_arrive_in_order_and_wake_the_owner_once),
        cmocka_unit_test(four_senders_keep_their_order_and_wake_once_a_batch),
        cmocka_unit_test(a_loop_delivers_the_mail_of_other_threads),
        cmocka_unit_test(two_loops_throw_a_message_to_and_fro),
        cmocka_unit_test(a_message_sent_on_by_its_delivery_comes_with_the_next_batch),
        cmocka_unit_test(a_closed_mailbox_drops_what_it_holds_and_what_comes),
        cmocka_unit_test(a_close_with_messages_under_way_drops_each_once),
        cmocka_unit_test(a_sender_may_outlive_the_loop_it_sends_to),
    };

    kit_watchdog(55);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
