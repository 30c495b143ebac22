/* test_broker_consumers.c - what broker.h promises of who gets what, and of what becomes of it, a sentence each; more of them
 * are in test_broker.c. */
#include "broker_kit.h"

/* ---- who comes first ------------------------------------------------------------------------------------------------- */

static void a_consumer_of_higher_priority_gets_all_that_it_can_take(void **state)
{
    struct broker_consumer *low, *high, *higher;

    (void)state;
    declare(Q, plain());
    low = consume(Q, (struct broker_consumer_options){.priority = -1});
    high = consume(Q, (struct broker_consumer_options){.priority = 5, .prefetch = 10});
    higher = consume(Q, (struct broker_consumer_options){.priority = 7, .prefetch = 3});
    publish_many(20);
    turn();
    assert_int_equal(count_of(higher), 3);
    assert_int_equal(count_of(high), 10);
    assert_int_equal(count_of(low), 7);
    assert_ptr_equal(deliveries[0].consumer, higher);
    assert_ptr_equal(deliveries[19].consumer, low);
}

static void consumers_of_one_priority_take_turns_before_lower_ones(void **state)
{
    struct broker_consumer *low, *high[2];

    (void)state;
    declare(Q, plain());
    high[0] = consume(Q, (struct broker_consumer_options){.priority = 1, .prefetch = 4});
    low = consume(Q, (struct broker_consumer_options){.priority = 0});
    high[1] = consume(Q, (struct broker_consumer_options){.priority = 1, .prefetch = 4});
    publish_many(9);
    turn();
    for (size_t i = 0; i < 8; i++)
        assert_ptr_equal(deliveries[i].consumer, high[i % 2]);
    assert_ptr_equal(deliveries[8].consumer, low);
}

static void the_single_active_consumer_is_the_first_that_came(void **state)
{
    struct broker_queue_options options = plain();
    struct broker_consumer *first, *second, *third;

    (void)state;
    options.single_active = true;
    declare(Q, options);
    first = subscribe(Q, 2);
    second = consume(Q, (struct broker_consumer_options){.priority = 9});
    third = subscribe(Q, 0);
    publish_many(5);
    turn();
    assert_int_equal(count_of(first), 2); /* though it is full */
    assert_int_equal(n_deliveries, 2);
    broker_unsubscribe(broker, first, now_us);
    turn();
    assert_int_equal(count_of(second), 5);
    broker_consumer_stop(broker, second, now_us);
    publish_many(1);
    turn();
    assert_int_equal(count_of(third), 1);
    assert_int_equal(numbers_of(Q).in_flight, 6);
}

static void an_exclusive_consumer_is_alone(void **state)
{
    struct broker_consumer_options options = {.burst = 1, .exclusive = true};
    struct broker_consumer *only, *other;

    (void)state;
    declare(Q, plain());
    only = consume(Q, options);
    assert_int_equal(broker_subscribe(broker, Q, &options, &other), -EBUSY);
    options.exclusive = false;
    assert_int_equal(broker_subscribe(broker, Q, &options, &other), -EBUSY);
    consume(Q, (struct broker_consumer_options){.on_demand = true});
    broker_consumer_stop(broker, only, now_us);
    other = consume(Q, options);
    options.exclusive = true;
    assert_int_equal(broker_subscribe(broker, Q, &options, &only), -EBUSY);
    broker_unsubscribe(broker, other, now_us);
    consume(Q, options);
}

/* ---- how much -------------------------------------------------------------------------------------------------------- */

static void a_window_bounds_what_two_queues_give(void **state)
{
    struct broker_window *window = broker_window_create(3);
    struct broker_consumer *consumers[2];

    (void)state;
    assert_non_null(window);
    declare(Q, plain());
    declare(SLICE("r"), plain());
    consumers[0] = consume(Q, (struct broker_consumer_options){.windows = {window}});
    consumers[1] = consume(SLICE("r"), (struct broker_consumer_options){.windows = {window}});
    publish_many(5);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(publish(SLICE("r"), SLICE("x")), PUBLISH_OK);
    turn();
    assert_int_equal(n_deliveries, 3);
    for (size_t i = 0; i < n_deliveries; i++) { /* the other queue's messages are let in too */
        ack(i);
        turn();
        assert_int_equal(n_deliveries, i + 4 < 10 ? i + 4 : 10);
    }
    assert_int_equal(count_of(consumers[0]), 5);
    assert_int_equal(count_of(consumers[1]), 5);
    for (unsigned i = 0; i < 2; i++)
        broker_unsubscribe(broker, consumers[i], now_us);
    broker_window_unref(window);
}

static void of_two_windows_both_bound(void **state)
{
    struct broker_window *own = broker_window_create(3), *shared = broker_window_create(4);
    struct broker_consumer *consumers[2];

    (void)state;
    assert_non_null(own);
    assert_non_null(shared);
    declare(Q, plain());
    declare(SLICE("r"), plain());
    consumers[0] = consume(Q, (struct broker_consumer_options){.windows = {own, shared}});
    consumers[1] = consume(SLICE("r"), (struct broker_consumer_options){.windows = {NULL, shared}});
    publish_many(5);
    turn();
    assert_int_equal(count_of(consumers[0]), 3);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(publish(SLICE("r"), SLICE("x")), PUBLISH_OK);
    turn();
    assert_int_equal(count_of(consumers[1]), 1);
    broker_window_change(own, 0);
    turn();
    assert_int_equal(n_deliveries, 4); /* the shared one is full */
    broker_window_change(shared, 0);
    turn();
    assert_int_equal(count_of(consumers[0]), 5);
    assert_int_equal(count_of(consumers[1]), 5);
    for (unsigned i = 0; i < 2; i++)
        broker_unsubscribe(broker, consumers[i], now_us);
    broker_window_unref(own);
    broker_window_unref(shared);
}

static void a_window_that_changes_while_it_is_full_bounds_from_then_on(void **state)
{
    struct broker_window *window = broker_window_create(4);
    struct broker_consumer *consumer;

    (void)state;
    assert_non_null(window);
    declare(Q, plain());
    consumer = consume(Q, (struct broker_consumer_options){.windows = {window}});
    publish_many(20);
    turn();
    assert_int_equal(n_deliveries, 4);
    broker_window_change(window, 2);
    ack(0);
    ack(1);
    turn();
    assert_int_equal(n_deliveries, 4);
    ack(2);
    turn();
    assert_int_equal(n_deliveries, 5);
    broker_window_change(window, 6);
    turn();
    assert_int_equal(n_deliveries, 9);
    broker_window_change(window, 0);
    turn();
    assert_int_equal(n_deliveries, 20);
    broker_unsubscribe(broker, consumer, now_us);
    broker_window_unref(window);
}

static void a_window_is_given_back_by_whoever_leaves(void **state)
{
    struct broker_window *window = broker_window_create(2);
    struct broker_consumer *gone, *stays;

    (void)state;
    assert_non_null(window);
    declare(Q, plain());
    declare(SLICE("r"), plain());
    gone = consume(Q, (struct broker_consumer_options){.windows = {window}});
    publish_many(2);
    turn();
    stays = consume(SLICE("r"), (struct broker_consumer_options){.windows = {window}});
    assert_int_equal(publish(SLICE("r"), SLICE("x")), PUBLISH_OK);
    turn();
    assert_int_equal(count_of(stays), 0);
    broker_unsubscribe(broker, gone, now_us);
    turn();
    assert_int_equal(count_of(stays), 1);
    broker_unsubscribe(broker, stays, now_us);
    broker_window_unref(window);
}

static void a_window_may_be_freed_after_the_broker_was_closed(void **state)
{
    struct broker_window *window = broker_window_create(2);

    (void)state;
    assert_non_null(window);
    declare(Q, plain());
    consume(Q, (struct broker_consumer_options){.windows = {window}});
    consume(Q, (struct broker_consumer_options){.windows = {window}, .on_demand = true});
    publish_many(1);
    turn();
    close_broker();
    broker_window_unref(window);
    open_broker();
}

static void what_is_in_transit_is_bounded_until_it_is_credited(void **state)
{
    struct broker_consumer *consumer;

    (void)state;
    declare(Q, plain());
    consumer = consume(Q, (struct broker_consumer_options){.transit_most = 500});
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(publish(Q, SLICE("a hundred bytes, or nearly so: what counts is only that two are "
                                          "over two hundred of them, with what each costs")),
                         PUBLISH_OK);
    turn();
    assert_int_equal(n_deliveries, 2);
    ack(0); /* that it was acknowledged does not say that it left */
    turn();
    assert_int_equal(n_deliveries, 2);
    broker_credit(broker, consumer, 1000000);
    turn();
    assert_int_equal(n_deliveries, 4);
}

/* ---- what becomes of it ---------------------------------------------------------------------------------------------- */

static void what_is_acknowledged_by_itself_is_gone_once_delivered(void **state)
{
    struct broker_consumer *consumer;

    (void)state;
    declare(Q, plain());
    consumer = consume(Q, (struct broker_consumer_options){.auto_ack = true, .prefetch = 1});
    publish_many(5);
    turn();
    assert_int_equal(n_deliveries, 5);
    assert_int_equal(n_endings, 5);
    assert_int_equal(endings[4].end, END_ACKED);
    assert_int_equal(numbers_of(Q).in_flight, 0);
    assert_int_equal(broker_ack(broker, consumer, deliveries[0].delivery.ref, now_us), -ENOENT);
    restart();
    assert_int_equal(numbers_of(Q).ready, 0);
}

static void one_is_taken_at_a_time_whatever_the_prefetch(void **state)
{
    struct broker_consumer *taker;

    (void)state;
    declare(Q, plain());
    taker = consume(Q, (struct broker_consumer_options){.on_demand = true, .prefetch = 1});
    publish_many(3);
    assert_int_equal(broker_take(broker, taker, now_us), 0); /* it is not durable */
    turn();
    assert_int_equal(n_deliveries, 0);
    assert_int_equal(numbers_of(Q).consumers, 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(broker_left(taker), 3 - i);
        assert_int_equal(broker_take(broker, taker, now_us), 1);
        assert_int_equal(n_deliveries, i + 1);
    }
    assert_int_equal(broker_take(broker, taker, now_us), 0);
    assert_int_equal(broker_left(taker), 0);
    ack(1);
    broker_unsubscribe(broker, taker, now_us);
    turn();
    subscribe(Q, 0);
    turn();
    assert_string_equal(delivered_from(3), "13");
}

static void what_expired_is_not_taken(void **state)
{
    struct broker_consumer *taker;

    (void)state;
    declare(Q, plain());
    taker = consume(Q, (struct broker_consumer_options){.on_demand = true});
    assert_int_equal(
        publish_as((struct broker_publication){.key = Q, .body = SLICE("x"), .ttl_us = 10 * US_PER_MS}),
        PUBLISH_OK);
    turn();
    now_us += US_PER_S;
    assert_int_equal(broker_take(broker, taker, now_us), 0);
    assert_int_equal(endings[0].end, END_EXPIRED);
}

static void from_a_queue_that_was_deleted_or_paused_nothing_is_taken(void **state)
{
    struct broker_consumer *taker;

    (void)state;
    declare(Q, plain());
    taker = consume(Q, (struct broker_consumer_options){.on_demand = true});
    publish_many(1);
    turn();
    assert_int_equal(broker_pause(broker, Q, true), 0);
    assert_int_equal(broker_take(broker, taker, now_us), 0);
    assert_int_equal(broker_delete_queue(broker, Q, false, now_us), 0);
    assert_int_equal(broker_take(broker, taker, now_us), -ENOENT);
    broker_unsubscribe(broker, taker, now_us);
}

static void one_that_stopped_keeps_what_it_has_and_gets_no_more(void **state)
{
    struct broker_consumer *consumer;

    (void)state;
    declare(Q, plain());
    consumer = subscribe(Q, 2);
    publish_many(4);
    turn();
    broker_consumer_stop(broker, consumer, now_us);
    turn();
    assert_int_equal(numbers_of(Q).consumers, 0);
    ack(0);
    turn();
    assert_int_equal(n_deliveries, 2);
    assert_int_equal(numbers_of(Q).in_flight, 1);
    give_back(1);
    broker_unsubscribe(broker, consumer, now_us);
    subscribe(Q, 0);
    turn();
    assert_string_equal(delivered_from(2), "234");
}

static void one_that_stopped_is_late_as_others_are(void **state)
{
    (void)state;
    declare(Q, plain());
    subscribe(Q, 0);
    publish_many(1);
    turn();
    broker_consumer_stop(broker, deliveries[0].consumer, now_us);
    after(61 * US_PER_S);
    assert_int_equal(numbers_of(Q).delayed, 1);
    assert_int_equal(broker_ack(broker, deliveries[0].consumer, deliveries[0].delivery.ref, now_us), -ENOENT);
}

static void a_loss_counts_as_an_attempt_where_that_is_asked_for(void **state)
{
    struct broker_queue_options options = mortal();

    (void)state;
    options.attempts = 3;
    options.retry_first_us = 0;
    declare(Q, options);
    publish_each("ab");
    turn();
    for (unsigned i = 0; i < 3; i++) {
        struct broker_consumer *consumer =
            consume(Q, (struct broker_consumer_options){.prefetch = 1, .counts_loss = true});

        turn();
        assert_int_equal(deliveries[i].delivery.ref.number, 1);
        assert_int_equal(deliveries[i].delivery.attempt, i + 1);
        broker_unsubscribe(broker, consumer, now_us);
    }
    turn();
    assert_int_equal(endings[0].end, END_ATTEMPTS);
    assert_string_equal(waiting_in(DEAD), "a");
    for (unsigned i = 0; i < 5; i++) {
        struct broker_consumer *consumer = subscribe(Q, 1);

        turn();
        assert_int_equal(deliveries[3 + i].delivery.attempt, 1);
        broker_unsubscribe(broker, consumer, now_us);
    }
}

static void one_that_is_told_of_being_late_keeps_its_message(void **state)
{
    struct broker_consumer *consumer;

    (void)state;
    declare(Q, plain());
    consumer = consume(Q, (struct broker_consumer_options){.prefetch = 1, .tells_late = true});
    publish_many(2);
    turn();
    run_for(59 * US_PER_S);
    assert_int_equal(n_late, 0);
    run_for(2 * US_PER_S);
    assert_int_equal(n_late, 1);
    assert_ptr_equal(late[0], consumer);
    run_for(60 * US_PER_S);
    assert_int_equal(n_late, 2); /* once more */
    assert_int_equal(n_deliveries, 1);
    ack(0);
    turn();
    assert_int_equal(n_deliveries, 2);
    assert_int_equal(deliveries[1].delivery.attempt, 1);
}

static void consumers_hear_of_the_end_of_their_queue(void **state)
{
    struct broker_consumer *consumer, *stopped, *taker;

    (void)state;
    declare(Q, plain());
    consumer = subscribe(Q, 1);
    publish_many(2);
    turn();
    stopped = subscribe(Q, 1);
    turn();
    broker_consumer_stop(broker, stopped, now_us);
    taker = consume(Q, (struct broker_consumer_options){.on_demand = true});
    assert_int_equal(broker_delete_queue(broker, Q, false, now_us), 0);
    assert_int_equal(n_cancelled, 1);
    assert_ptr_equal(cancelled[0], consumer);
    assert_true(broker_consumer_ended(consumer) && broker_consumer_ended(stopped) &&
                broker_consumer_ended(taker));
    assert_int_equal(broker_ack(broker, consumer, deliveries[0].delivery.ref, now_us), -ENOENT);
    broker_unsubscribe(broker, stopped, now_us);
    broker_unsubscribe(broker, taker, now_us);
    broker_unsubscribe(broker, consumer, now_us);
    turn();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_consumer_of_higher_priority_gets_all_that_it_can_take),
        TEST(consumers_of_one_priority_take_turns_before_lower_ones),
        TEST(the_single_active_consumer_is_the_first_that_came),
        TEST(an_exclusive_consumer_is_alone),
        TEST(a_window_bounds_what_two_queues_give),
        TEST(of_two_windows_both_bound),
        TEST(a_window_that_changes_while_it_is_full_bounds_from_then_on),
        TEST(a_window_is_given_back_by_whoever_leaves),
        TEST(a_window_may_be_freed_after_the_broker_was_closed),
        TEST(what_is_in_transit_is_bounded_until_it_is_credited),
        TEST_BOTH(what_is_acknowledged_by_itself_is_gone_once_delivered),
        TEST(one_is_taken_at_a_time_whatever_the_prefetch),
        TEST(what_expired_is_not_taken),
        TEST(from_a_queue_that_was_deleted_or_paused_nothing_is_taken),
        TEST(one_that_stopped_keeps_what_it_has_and_gets_no_more),
        TEST(one_that_stopped_is_late_as_others_are),
        TEST(a_loss_counts_as_an_attempt_where_that_is_asked_for),
        TEST(one_that_is_told_of_being_late_keeps_its_message),
        TEST(consumers_hear_of_the_end_of_their_queue),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
