/* test_broker_lifetime.c - what broker.h promises of how long a queue is there, and whose it is, a sentence each. */
#include "broker_kit.h"

static struct broker_queue_options leaving(void)
{
    struct broker_queue_options options = plain();

    options.auto_delete = true;
    return options;
}

/* ---- with its last consumer ------------------------------------------------------------------------------------------ */

static void an_auto_delete_queue_goes_with_its_last_consumer(void **state)
{
    struct broker_consumer *first, *second;

    (void)state;
    declare(Q, leaving());
    publish_many(3);
    first = subscribe(Q, 1);
    second = subscribe(Q, 1);
    turn();
    broker_unsubscribe(broker, first, now_us);
    assert_true(is_there(Q));
    broker_unsubscribe(broker, second, now_us);
    assert_false(is_there(Q));
    assert_int_equal(n_cancelled, 0);
    assert_int_equal(n_endings, 3);
    restart();
    assert_false(is_there(Q));
}

static void an_auto_delete_queue_goes_when_its_last_consumer_stops(void **state)
{
    struct broker_consumer *consumer;

    (void)state;
    declare(Q, leaving());
    consumer = subscribe(Q, 1);
    broker_consumer_stop(broker, consumer, now_us);
    assert_false(is_there(Q));
    assert_true(broker_consumer_ended(consumer));
    broker_unsubscribe(broker, consumer, now_us);
}

static void an_auto_delete_queue_stays_until_its_first_consumer(void **state)
{
    struct broker_consumer *taker;

    (void)state;
    declare(Q, leaving());
    publish_many(1);
    turn();
    taker = consume(Q, (struct broker_consumer_options){.on_demand = true});
    assert_int_equal(broker_take(broker, taker, now_us), 1);
    broker_unsubscribe(broker, taker, now_us);
    assert_true(is_there(Q)); /* who takes one is no consumer */
    restart();
    assert_true(is_there(Q));
    broker_unsubscribe(broker, subscribe(Q, 1), now_us);
    assert_false(is_there(Q));
}

static void a_queue_that_is_not_auto_delete_stays(void **state)
{
    (void)state;
    declare(Q, plain());
    broker_unsubscribe(broker, subscribe(Q, 1), now_us);
    assert_true(is_there(Q));
}

static void who_takes_from_an_auto_delete_queue_sees_it_end(void **state)
{
    struct broker_consumer *taker, *consumer;

    (void)state;
    declare(Q, leaving());
    publish_many(2);
    turn();
    consumer = subscribe(Q, 1);
    taker = consume(Q, (struct broker_consumer_options){.on_demand = true});
    assert_int_equal(broker_take(broker, taker, now_us), 1);
    broker_unsubscribe(broker, consumer, now_us);
    assert_false(is_there(Q));
    assert_int_equal(broker_take(broker, taker, now_us), -ENOENT);
    assert_int_equal(broker_ack(broker, taker, deliveries[0].delivery.ref, now_us), -ENOENT);
    broker_unsubscribe(broker, taker, now_us);
}

/* ---- with its session ------------------------------------------------------------------------------------------------ */

static void exclusive_queues_go_with_their_session(void **state)
{
    struct broker_queue_options options = plain();
    struct broker_session *mine = broker_session_open(broker), *other = broker_session_open(broker);
    struct broker_consumer *consumer;

    (void)state;
    assert_true(mine && other);
    options.exclusive = true;
    declare(Q, options);
    broker_own_queue(broker, Q, mine);
    declare(SLICE("r"), options);
    broker_own_queue(broker, SLICE("r"), mine);
    declare(SLICE("s"), options);
    broker_own_queue(broker, SLICE("s"), other);
    declare(SLICE("t"), plain());
    assert_true(numbers_of(Q).owned && !numbers_of(SLICE("t")).owned);
    assert_false(broker_queue_is_locked(broker, Q, mine));
    assert_true(broker_queue_is_locked(broker, Q, other));
    assert_true(broker_queue_is_locked(broker, Q, NULL));
    assert_false(broker_queue_is_locked(broker, SLICE("t"), other));
    broker_own_queue(broker, Q, other); /* it is owned already */
    assert_false(broker_queue_is_locked(broker, Q, mine));
    consumer = subscribe(Q, 1);
    publish_many(2);
    turn();
    broker_session_close(broker, mine, now_us);
    assert_true(!is_there(Q) && !is_there(SLICE("r")) && is_there(SLICE("s")) && is_there(SLICE("t")));
    assert_int_equal(n_cancelled, 1);
    broker_unsubscribe(broker, consumer, now_us);
    assert_int_equal(broker_delete_queue(broker, SLICE("s"), false, now_us), 0);
    broker_session_close(broker, other, now_us);
    turn();
}

static void an_exclusive_queue_whose_end_had_no_room_goes_with_the_next_start(void **state)
{
    struct broker_queue_options options = plain();
    struct broker_session *session = broker_session_open(broker);
    bool paused = false;

    (void)state;
    options.exclusive = true;
    declare(Q, options);
    broker_own_queue(broker, Q, session);
    declare(SLICE("t"), plain());
    turn();
    disk_limit(disk, disk_used(disk));
    while (broker_pause(broker, SLICE("t"), !paused) == 0)
        paused = !paused;
    broker_session_close(broker, session, now_us);
    assert_true(is_there(Q));
    assert_false(broker_queue_is_locked(broker, Q, NULL));
    disk_limit(disk, 0);
    restart();
    assert_true(!is_there(Q) && is_there(SLICE("t")));
}

static void exclusive_queues_do_not_outlive_a_restart(void **state)
{
    struct broker_queue_options options = plain();
    struct broker_session *session = broker_session_open(broker);

    (void)state;
    options.exclusive = true;
    declare(Q, options);
    broker_own_queue(broker, Q, session);
    declare(SLICE("t"), plain());
    publish_many(3);
    turn();
    restart();
    assert_true(!is_there(Q) && is_there(SLICE("t")));
    assert_int_equal(publish(Q, SLICE("x")), PUBLISH_UNROUTABLE);
    restart();
    assert_true(!is_there(Q) && is_there(SLICE("t")));
    free(session); /* nothing is left of what it was of */
}

static void transient_queues_do_not_outlive_a_restart(void **state)
{
    struct broker_queue_options options = plain();

    (void)state;
    declare(SLICE("t"), plain());
    options.transient = true;
    declare(Q, options);
    declare(SLICE("u"), plain());
    publish_many(3);
    assert_int_equal(publish(SLICE("u"), SLICE("x")), PUBLISH_OK);
    turn();
    restart();
    assert_true(!is_there(Q) && is_there(SLICE("t")) && is_there(SLICE("u")));
    assert_string_equal(waiting_in(SLICE("u")), "x");
    declare(Q, options);
    publish_many(1);
    restart();
    assert_false(is_there(Q));
    assert_string_equal(waiting_in(SLICE("u")), "x");
}

/* ---- when nobody uses it --------------------------------------------------------------------------------------------- */

static struct broker_queue_options idle_after(uint64_t us)
{
    struct broker_queue_options options = plain();

    options.idle_us = us;
    return options;
}

static void a_queue_that_nobody_uses_goes_after_its_time(void **state)
{
    (void)state;
    declare(Q, idle_after(10 * US_PER_S));
    publish_many(2); /* is not a use */
    turn();
    run_for(9 * US_PER_S);
    publish_many(1);
    turn();
    assert_true(is_there(Q));
    run_for(2 * US_PER_S);
    assert_false(is_there(Q));
    assert_int_equal(n_endings, 3);
}

static void a_queue_stays_while_it_has_consumers(void **state)
{
    struct broker_consumer *consumer;

    (void)state;
    declare(Q, idle_after(10 * US_PER_S));
    consumer = subscribe(Q, 1);
    run_for(60 * US_PER_S);
    assert_true(is_there(Q));
    broker_consumer_stop(broker, consumer, now_us);
    run_for(9 * US_PER_S);
    broker_unsubscribe(broker, consumer, now_us); /* it did not count any more */
    assert_true(is_there(Q));
    run_for(2 * US_PER_S);
    assert_false(is_there(Q));
}

static void a_use_begins_its_time_anew(void **state)
{
    struct broker_consumer *taker;

    (void)state;
    declare(Q, idle_after(10 * US_PER_S));
    taker = consume(Q, (struct broker_consumer_options){.on_demand = true});
    run_for(9 * US_PER_S);
    broker_touch_queue(broker, Q, now_us);
    run_for(9 * US_PER_S);
    assert_true(is_there(Q));
    assert_int_equal(broker_take(broker, taker, now_us), 0);
    run_for(9 * US_PER_S);
    assert_true(is_there(Q));
    run_for(2 * US_PER_S);
    assert_false(is_there(Q));
    broker_unsubscribe(broker, taker, now_us);
}

static void a_restart_begins_its_time_anew(void **state)
{
    (void)state;
    declare(Q, idle_after(10 * US_PER_S));
    run_for(9 * US_PER_S);
    restart();
    run_for(9 * US_PER_S);
    assert_true(is_there(Q));
    run_for(2 * US_PER_S);
    assert_false(is_there(Q));
    restart();
    assert_false(is_there(Q));
}

static void a_start_without_room_begins_its_time_too(void **state)
{
    struct broker_queue_options options = plain();
    bool paused = false;

    (void)state;
    options.transient = true;
    declare(SLICE("t"), options);
    declare(Q, idle_after(10 * US_PER_S));
    turn();
    disk_limit(disk, disk_used(disk));
    while (broker_pause(broker, Q, !paused) == 0)
        paused = !paused;
    turn();
    close_broker();
    disk_crash(disk);
    open_broker();
    assert_true(is_there(SLICE("t"))); /* its end had no room */
    disk_limit(disk, 0);
    run_for(11 * US_PER_S);
    assert_false(is_there(Q));
}

/* ---- as declared ----------------------------------------------------------------------------------------------------- */

static void a_restart_keeps_all_options(void **state)
{
    struct broker_queue_options options = {
        .max_length = 1,
        .max_bytes = 2,
        .max_age_us = 3 * US_PER_S,
        .ack_timeout_us = 4,
        .retry_first_us = 5,
        .retry_most_us = 6,
        .idle_us = 7 * US_PER_S,
        .attempts = 8,
        .overflow = LIMIT_DROP_HEAD,
        .priorities = 9,
        .managed = true,
        .auto_delete = true,
        .nothing_waits = true,
        .single_active = true,
        .has_dead_letter = true,
        .dead_keeps_key = true,
        .dead_exchange = SLICE("dlx"),
        .dead_key = SLICE("k"),
        .order_by = SLICE("field"),
        .arguments = SLICE("arguments"),
    };

    (void)state;
    declare(Q, options);
    restart();
    declare(Q, options); /* DECLARE_SAME: -EEXIST if anything is another */
    for (unsigned i = 0; i < 7; i++) {
        struct broker_queue_options other = options;

        other.managed ^= i == 0;
        other.auto_delete ^= i == 1;
        other.nothing_waits ^= i == 2;
        other.single_active ^= i == 3;
        other.dead_keeps_key ^= i == 4;
        other.idle_us += i == 5;
        other.arguments.len -= i == 6;
        assert_int_equal(broker_declare_queue(broker, Q, &other, DECLARE_SAME), -EEXIST);
    }
}

/* ---- a start --------------------------------------------------------------------------------------------------------- */

/* 0: it is open, as far as it says. */
static int try_to_open(void)
{
    static const struct broker_events events = {.deliver = on_delivery, .ended = on_ending};
    struct log_options of_log = {.storage = disk_storage(disk), .segment_bytes = 1u << 20, .id = 7};
    struct broker_options of_broker = {
        .storage = disk_storage(disk), .events = &events, .seed = 1, .now_us = now_us};
    struct log_report report;
    int error = log_open(&store, &of_log, &report);

    if (error)
        return error;
    of_broker.log = store;
    error = broker_open(&broker, &of_broker, &report);
    if (error)
        log_close(store);
    return error;
}

static void a_start_that_a_full_disk_stops_does_not_begin_with_a_part(void **state)
{
    unsigned n_failed = 0;

    (void)state;
    declare(Q, plain());
    publish_each("abc");
    turn();
    for (unsigned i = 0; i < 12; i++) {
        publish_many(1); /* some of it may be on disk, as a torn tail */
        assert_int_equal(log_write(store), 0);
        close_broker();
        disk_crash(disk);
        disk_fail(disk, i % 2 ? DISK_FILL : DISK_WRITE, i / 2, ENOSPC, true);
        if (try_to_open() != 0) {
            n_failed++;
            disk_heal(disk);
            open_broker();
        }
        disk_heal(disk);
        assert_true(numbers_of(Q).ready >= 3 + i);
        publish_many(1);
        turn();
    }
    assert_true(n_failed > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_BOTH(an_auto_delete_queue_goes_with_its_last_consumer),
        TEST(an_auto_delete_queue_goes_when_its_last_consumer_stops),
        TEST_BOTH(an_auto_delete_queue_stays_until_its_first_consumer),
        TEST(a_queue_that_is_not_auto_delete_stays),
        TEST(who_takes_from_an_auto_delete_queue_sees_it_end),
        TEST(exclusive_queues_go_with_their_session),
        TEST_BOTH(an_exclusive_queue_whose_end_had_no_room_goes_with_the_next_start),
        TEST_BOTH(exclusive_queues_do_not_outlive_a_restart),
        TEST_BOTH(transient_queues_do_not_outlive_a_restart),
        TEST(a_queue_that_nobody_uses_goes_after_its_time),
        TEST(a_queue_stays_while_it_has_consumers),
        TEST(a_use_begins_its_time_anew),
        TEST_BOTH(a_restart_begins_its_time_anew),
        TEST(a_start_without_room_begins_its_time_too),
        TEST_BOTH(a_restart_keeps_all_options),
        TEST(a_start_that_a_full_disk_stops_does_not_begin_with_a_part),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
