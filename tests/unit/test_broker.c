/* test_broker.c - what broker.h promises of consumers, limits and queues, a sentence each; tests/sim tries whole stories. */
#include "broker_kit.h"

/* ---- consumers ------------------------------------------------------------------------------------------------------- */

static void consumers_take_turns(void **state)
{
    struct broker_consumer *consumers[3];
    unsigned shares[3] = {0};

    (void)state;
    declare(Q, plain());
    for (unsigned i = 0; i < 3; i++)
        consumers[i] = subscribe(Q, 0);
    publish_many(300);
    turn();
    assert_int_equal(n_deliveries, 300);
    for (size_t i = 0; i < n_deliveries; i++)
        for (unsigned k = 0; k < 3; k++)
            shares[k] += deliveries[i].consumer == consumers[k];
    for (unsigned k = 0; k < 3; k++)
        assert_int_equal(shares[k], 100);
}

static void one_that_is_full_leaves_its_share_to_the_others(void **state)
{
    struct broker_consumer *slow, *quick;

    (void)state;
    declare(Q, plain());
    slow = subscribe(Q, 2);
    quick = subscribe(Q, 0);
    publish_many(100);
    turn();
    assert_int_equal(n_deliveries, 100);
    for (size_t i = 0, n = 0; i < n_deliveries; i++) {
        n += deliveries[i].consumer == slow;
        assert_true(n <= 2);
        assert_true(deliveries[i].consumer == slow || deliveries[i].consumer == quick);
    }
}

static void prefetch_is_the_most_in_flight(void **state)
{
    (void)state;
    declare(Q, plain());
    subscribe(Q, 5);
    publish_many(20);
    turn();
    assert_int_equal(n_deliveries, 5);
    ack(0);
    ack(3);
    turn();
    assert_int_equal(n_deliveries, 7);
    assert_int_equal(numbers_of(Q).in_flight, 5);
    assert_int_equal(numbers_of(Q).ready, 13);
}

/* Deliveries in each tenth of a second, while the broker is run whenever it asks for it. */
static void run_counting(uint64_t us, unsigned *per_tenth)
{
    uint64_t end = now_us + us, start = now_us;

    while (now_us < end) {
        size_t before = n_deliveries;
        uint64_t next;

        turn();
        per_tenth[(now_us - start) / (100 * US_PER_MS)] += (unsigned)(n_deliveries - before);
        for (; before < n_deliveries; before++)
            ack(before);
        next = broker_next_us(broker);
        now_us = next > now_us && next < end ? next : now_us + US_PER_MS;
    }
}

static void fifty_thousand_a_second_come_evenly(void **state)
{
    unsigned per_tenth[11] = {0};

    (void)state;
    declare(Q, plain());
    publish_many(60000);
    turn();
    consume(Q, (struct broker_consumer_options){.rate = 50000, .burst = 1});
    run_counting(US_PER_S, per_tenth);
    assert_in_range(n_deliveries, 49900, 50100);
    for (unsigned i = 0; i < 10; i++)
        assert_in_range(per_tenth[i], 4900, 5100);
}

static void one_a_second_comes_each_second(void **state)
{
    unsigned per_tenth[102] = {0};

    (void)state;
    declare(Q, plain());
    publish_many(30);
    turn();
    consume(Q, (struct broker_consumer_options){.rate = 1, .burst = 1});
    run_counting(10 * US_PER_S, per_tenth);
    assert_in_range(n_deliveries, 10, 11);
    for (unsigned i = 0; i < 100; i++)
        assert_true(per_tenth[i] <= 1);
}

static void after_a_silence_a_burst_comes_at_once(void **state)
{
    unsigned per_tenth[21] = {0};

    (void)state;
    declare(Q, plain());
    consume(Q, (struct broker_consumer_options){.rate = 10, .burst = 5});
    turn();
    now_us += 60 * US_PER_S;
    publish_many(50);
    run_counting(2 * US_PER_S, per_tenth);
    assert_in_range(per_tenth[0], 5, 6);
    assert_in_range(n_deliveries, 24, 26);
}

static void one_that_is_held_gets_nothing_until_its_time(void **state)
{
    struct broker_consumer *consumer;

    (void)state;
    declare(Q, plain());
    consumer = subscribe(Q, 0);
    broker_consumer_hold(broker, consumer, now_us + 5 * US_PER_S);
    publish_many(3);
    turn();
    assert_int_equal(n_deliveries, 0);
    assert_int_equal(broker_next_us(broker), now_us + 5 * US_PER_S);
    now_us += 5 * US_PER_S;
    turn();
    assert_int_equal(n_deliveries, 3);
}

static void what_one_had_goes_to_the_next_in_order_and_marked(void **state)
{
    struct broker_consumer *gone;

    (void)state;
    declare(Q, plain());
    gone = subscribe(Q, 3);
    publish_many(5);
    turn();
    broker_unsubscribe(broker, gone, now_us);
    subscribe(Q, 0);
    turn();
    assert_int_equal(n_deliveries, 8);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(deliveries[3 + i].delivery.ref.number, i + 1);
        assert_int_equal(deliveries[3 + i].delivery.redelivered, i < 3);
        assert_int_equal(deliveries[3 + i].delivery.attempt, 1);
    }
}

static void one_that_is_not_acknowledged_in_time_comes_again(void **state)
{
    struct broker_queue_options options = plain();

    (void)state;
    options.ack_timeout_us = 10 * US_PER_S;
    declare(Q, options);
    subscribe(Q, 1);
    publish_many(1);
    turn();
    now_us += 10 * US_PER_S;
    turn();
    assert_int_equal(broker_ack(broker, deliveries[0].consumer, deliveries[0].delivery.ref, now_us), -ENOENT);
    now_us += 2 * US_PER_S;
    turn();
    assert_int_equal(n_deliveries, 2);
    assert_int_equal(deliveries[1].delivery.attempt, 2);
    assert_true(deliveries[1].delivery.redelivered);
}

static void back_off_doubles_up_to_its_most_less_a_quarter(void **state)
{
    static const uint64_t waits[] = {1, 2, 4, 8, 10, 10};
    struct broker_consumer *consumer;

    (void)state;
    declare(Q, plain());
    consumer = subscribe(Q, 1);
    publish_many(1);
    turn();
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(n_deliveries, i + 1);
        assert_int_equal(broker_retry(broker, consumer, deliveries[i].delivery.ref, now_us), 0);
        turn();
        assert_in_range(broker_next_us(broker) - now_us, waits[i] * US_PER_S * 3 / 4, waits[i] * US_PER_S);
        now_us = broker_next_us(broker);
        turn();
    }
}

/* ---- limits ---------------------------------------------------------------------------------------------------------- */

static void one_over_max_age_expires_to_the_dead_letters(void **state)
{
    struct broker_queue_options options = plain();

    (void)state;
    declare(SLICE("dead"), plain());
    options.max_age_us = 5 * US_PER_S;
    options.has_dead_letter = true;
    options.dead_key = SLICE("dead");
    declare(Q, options);
    publish_many(2);
    turn();
    now_us += 4 * US_PER_S;
    turn();
    assert_int_equal(numbers_of(Q).ready, 2);
    now_us += 2 * US_PER_S;
    turn();
    assert_int_equal(numbers_of(Q).ready, 0);
    assert_int_equal(numbers_of(SLICE("dead")).ready, 2);
    assert_int_equal(endings[1].end, END_EXPIRED);
}

static void at_max_length_each_rule_does_what_it_says(void **state)
{
    struct broker_queue_options options = plain();

    (void)state;
    declare(SLICE("dead"), plain());
    options.max_length = 2;
    options.has_dead_letter = true;
    options.dead_key = SLICE("dead");
    options.overflow = LIMIT_REJECT_NEW;
    declare(SLICE("new"), options);
    options.overflow = LIMIT_DROP_OLDEST;
    declare(SLICE("old"), options);
    options.overflow = LIMIT_DEAD_LETTER;
    declare(SLICE("bury"), options);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(publish(SLICE("new"), SLICE("x")), i < 2 ? PUBLISH_OK : PUBLISH_FULL);
        assert_int_equal(publish(SLICE("old"), SLICE("x")), PUBLISH_OK);
        assert_int_equal(publish(SLICE("bury"), SLICE("x")), PUBLISH_OK);
    }
    turn();
    assert_int_equal(numbers_of(SLICE("new")).ready, 2);
    assert_int_equal(numbers_of(SLICE("old")).ready, 2);
    assert_int_equal(numbers_of(SLICE("bury")).ready, 2);
    assert_int_equal(numbers_of(SLICE("dead")).ready, 1);
}

/* ---- topology -------------------------------------------------------------------------------------------------------- */

static void a_queue_is_not_declared_again_as_another(void **state)
{
    struct broker_queue_options options = plain();

    (void)state;
    declare(Q, options);
    assert_int_equal(broker_declare_queue(broker, Q, &options, DECLARE_SAME), 0);
    options.max_length = 3;
    assert_int_equal(broker_declare_queue(broker, Q, &options, DECLARE_SAME), -EEXIST);
    assert_int_equal(broker_declare_queue(broker, Q, &options, DECLARE_SET), 0);
}

static void a_queue_with_messages_is_not_deleted_as_an_empty_one(void **state)
{
    (void)state;
    declare(Q, plain());
    publish_many(1);
    assert_int_equal(broker_delete_queue(broker, Q, true, now_us), -ENOTEMPTY);
    assert_int_equal(broker_delete_queue(broker, Q, false, now_us), 0);
    assert_int_equal(publish(Q, SLICE("x")), PUBLISH_UNROUTABLE);
}

static void fifty_readers_cost_the_log_one_body(void **state)
{
    static char body[10000];
    struct broker_publication publication = {.exchange = SLICE("t"), .body = slice_of(body, sizeof body)};
    struct broker_exchange_options fanout = {.type = EXCHANGE_FANOUT, .durable = true};
    struct broker_published published;
    uint64_t before;
    char name[8];

    (void)state;
    assert_int_equal(broker_declare_exchange(broker, SLICE("t"), &fanout, DECLARE_SAME), 0);
    for (unsigned i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "q%u", i);
        declare(slice_from_text(name), plain());
        assert_int_equal(broker_bind(broker, SLICE("t"),
                                     &(struct broker_destination){slice_from_text(name), false}, SLICE(""),
                                     SLICE("")),
                         0);
    }
    turn();
    before = log_end(store);
    assert_int_equal(broker_publish(broker, &publication, &published, now_us), PUBLISH_OK);
    assert_in_range(log_end(store) - before, sizeof body, sizeof body + 50 * 4 + 200);
}

static void a_pause_outlives_a_restart(void **state)
{
    (void)state;
    declare(Q, plain());
    assert_int_equal(broker_pause(broker, Q, true), 0);
    publish_many(1);
    turn();
    close_broker();
    disk_crash(disk);
    open_broker();
    subscribe(Q, 0);
    turn();
    assert_int_equal(n_deliveries, 0);
    assert_int_equal(broker_pause(broker, Q, false), 0);
    turn();
    assert_int_equal(n_deliveries, 1);
}

/* ---- the log fails --------------------------------------------------------------------------------------------------- */

static void after_a_failed_sync_nothing_is_taken_any_more(void **state)
{
    (void)state;
    declare(Q, plain());
    turn();
    publish_many(1);
    disk_fail(disk, DISK_SYNC, 0, EIO, false);
    broker_flush(broker);
    assert_int_equal(log_commit(store), -EIO);
    broker_run(broker, now_us);
    assert_non_null(broker_failure(broker));
    assert_int_equal(publish(Q, SLICE("x")), PUBLISH_CLOSED);
    assert_int_equal(log_commit(store), -EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(consumers_take_turns),
        TEST(one_that_is_full_leaves_its_share_to_the_others),
        TEST(prefetch_is_the_most_in_flight),
        TEST(fifty_thousand_a_second_come_evenly),
        TEST(one_a_second_comes_each_second),
        TEST(after_a_silence_a_burst_comes_at_once),
        TEST(one_that_is_held_gets_nothing_until_its_time),
        TEST(what_one_had_goes_to_the_next_in_order_and_marked),
        TEST(one_that_is_not_acknowledged_in_time_comes_again),
        TEST(back_off_doubles_up_to_its_most_less_a_quarter),
        TEST(one_over_max_age_expires_to_the_dead_letters),
        TEST(at_max_length_each_rule_does_what_it_says),
        TEST(a_queue_is_not_declared_again_as_another),
        TEST(a_queue_with_messages_is_not_deleted_as_an_empty_one),
        TEST(fifty_readers_cost_the_log_one_body),
        TEST(a_pause_outlives_a_restart),
        TEST(after_a_failed_sync_nothing_is_taken_any_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
