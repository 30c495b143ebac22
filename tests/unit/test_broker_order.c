/* test_broker_order.c - what broker.h promises of priorities, and of how long a message may wait, a sentence each. */
#include "broker_kit.h"

static struct broker_queue_options with_priorities(uint8_t priorities)
{
    struct broker_queue_options options = plain();

    options.priorities = priorities;
    return options;
}

/* To Q, one for each digit, which is its priority and its body. */
static void publish_priorities(const char *text)
{
    for (; *text; text++)
        assert_int_equal(publish_as((struct broker_publication){
                             .key = Q, .body = slice_of(text, 1), .priority = (uint8_t)(*text - '0')}),
                         PUBLISH_OK);
}

/* To Q, one for each character: as long as a digit says in seconds, or (-) for ever. */
static void publish_lives(const char *text)
{
    for (; *text; text++)
        assert_int_equal(publish_as((struct broker_publication){
                             .key = Q,
                             .body = slice_of(text, 1),
                             .ttl_us = *text == '-' ? 0 : (uint64_t)(*text - '0') * US_PER_S,
                         }),
                         PUBLISH_OK);
}

/* ---- priorities ------------------------------------------------------------------------------------------------------ */

static void higher_priorities_go_first_and_each_in_order(void **state)
{
    (void)state;
    declare(Q, with_priorities(5));
    publish_priorities("0530153");
    turn();
    subscribe(Q, 0);
    turn();
    assert_string_equal(delivered_from(0), "2637514");
}

static void a_priority_above_the_highest_counts_as_that(void **state)
{
    (void)state;
    declare(Q, with_priorities(2));
    publish_priorities("1293");
    turn();
    subscribe(Q, 0);
    turn();
    assert_string_equal(delivered_from(0), "2341");
}

static void without_priorities_all_go_as_they_came(void **state)
{
    (void)state;
    declare(Q, plain());
    publish_priorities("1293");
    turn();
    subscribe(Q, 0);
    turn();
    assert_string_equal(delivered_from(0), "1234");
}

static void what_comes_back_goes_before_the_younger_of_its_priority_only(void **state)
{
    (void)state;
    declare(Q, with_priorities(3));
    publish_priorities("11");
    turn();
    broker_unsubscribe(broker, subscribe(Q, 0), now_us);
    turn();
    assert_int_equal(n_deliveries, 0); /* nobody was there when it ran */
    subscribe(Q, 2);
    turn();
    publish_priorities("132");
    give_back(1);
    give_back(0);
    turn();
    assert_string_equal(delivered_from(2), "45");
    ack(2);
    ack(3);
    turn();
    assert_string_equal(delivered_from(4), "12");
    assert_true(deliveries[4].delivery.redelivered && deliveries[5].delivery.redelivered);
    ack(4);
    ack(5);
    turn();
    assert_string_equal(delivered_from(6), "3");
}

static void a_restart_keeps_priorities_and_what_was_delivered(void **state)
{
    (void)state;
    declare(Q, with_priorities(4));
    publish_priorities("0400424");
    turn();
    subscribe(Q, 3);
    turn();
    assert_string_equal(delivered_from(0), "257");
    ack(1);
    publish_priorities("40");
    restart();
    subscribe(Q, 0);
    turn();
    assert_string_equal(delivered_from(3), "827861349"); /* the first one before it */
    for (size_t i = 4; i < n_deliveries; i++)
        assert_int_equal(deliveries[i].delivery.redelivered, i < 7);
}

static void a_restart_keeps_priorities_of_many_that_spilled(void **state)
{
    struct broker_publication publication = {.key = Q, .body = SLICE("x")};
    uint64_t last[3] = {0};

    (void)state;
    declare(Q, with_priorities(2));
    for (unsigned i = 0; i < 6000; i++) {
        publication.priority = (uint8_t)(i % 3);
        assert_int_equal(publish_as(publication), PUBLISH_OK);
    }
    turn();
    subscribe(Q, 900);
    turn();
    for (size_t i = 0; i < 600; i++)
        ack(i);
    restart();
    assert_int_equal(numbers_of(Q).ready, 5400);
    subscribe(Q, 0);
    n_deliveries = 0;
    turn();
    assert_int_equal(n_deliveries, 5400);
    for (size_t i = 0; i < n_deliveries; i++) {
        const struct broker_delivery *d = &deliveries[i].delivery;
        size_t level = i < 1400 ? 2 : i < 3400 ? 1 : 0;

        assert_int_equal((d->ref.number - 1) % 3, level);
        assert_true(d->ref.number > last[level]);
        assert_int_equal(d->redelivered, i < 900);
        last[level] = d->ref.number;
    }
}

static void a_queue_keeps_the_priorities_it_was_made_with(void **state)
{
    struct broker_queue_options options = with_priorities(4);

    (void)state;
    declare(Q, options);
    publish_priorities("03");
    options.priorities = 1;
    options.max_length = 10;
    assert_int_equal(broker_declare_queue(broker, Q, &options, DECLARE_SAME), -EEXIST);
    assert_int_equal(broker_declare_queue(broker, Q, &options, DECLARE_SET), 0);
    restart();
    publish_priorities("2");
    turn();
    subscribe(Q, 0);
    turn();
    assert_string_equal(delivered_from(0), "231");
}

/* ---- how long one may wait ------------------------------------------------------------------------------------------- */

static void one_that_may_not_wait_goes_to_a_consumer_that_is_there(void **state)
{
    (void)state;
    declare(Q, mortal());
    subscribe(Q, 0);
    turn();
    assert_int_equal(publish_as((struct broker_publication){.key = Q, .body = SLICE("x"), .ttl_us = 1}),
                     PUBLISH_OK);
    after(US_PER_S);
    assert_int_equal(n_deliveries, 1);
    after(10 * US_PER_S);
    assert_int_equal(n_endings, 0); /* it does not wait any more */
    ack(0);
}

static void one_that_may_not_wait_goes_to_nobody_who_comes_later(void **state)
{
    (void)state;
    declare(Q, mortal());
    assert_int_equal(publish_as((struct broker_publication){.key = Q, .body = SLICE("x"), .ttl_us = 1}),
                     PUBLISH_OK);
    after(US_PER_MS);
    assert_int_equal(endings[0].end, END_EXPIRED);
    subscribe(Q, 0);
    turn();
    assert_int_equal(n_deliveries, 0);
    assert_string_equal(waiting_in(DEAD), "x");
}

static void one_that_may_not_wait_is_not_put_before_a_consumer_that_is_full(void **state)
{
    (void)state;
    declare(Q, plain());
    subscribe(Q, 1);
    publish_each("a");
    assert_int_equal(publish_as((struct broker_publication){.key = Q, .body = SLICE("b"), .ttl_us = 1}),
                     PUBLISH_OK);
    after(US_PER_MS);
    assert_int_equal(n_endings, 1);
    assert_int_equal(endings[0].ref.number, 2);
    ack(0);
    turn();
    assert_int_equal(n_deliveries, 1);
}

static void one_that_comes_back_too_late_is_not_delivered_again(void **state)
{
    (void)state;
    declare(Q, mortal());
    subscribe(Q, 0);
    assert_int_equal(
        publish_as((struct broker_publication){.key = Q, .body = SLICE("x"), .ttl_us = US_PER_S}),
        PUBLISH_OK);
    turn();
    now_us += 2 * US_PER_S;
    give_back(0);
    turn();
    assert_int_equal(n_deliveries, 1);
    assert_int_equal(endings[0].end, END_EXPIRED);
    assert_string_equal(waiting_in(DEAD), "x");
}

static void only_the_oldest_expires(void **state)
{
    (void)state;
    declare(Q, mortal());
    publish_lives("52");
    turn();
    run_for(4 * US_PER_S);
    assert_string_equal(waiting_in(Q), "52");
    run_for(2 * US_PER_S);
    assert_string_equal(waiting_in(Q), "");
    assert_string_equal(waiting_in(DEAD), "52");
}

static void one_that_becomes_the_oldest_expires_by_itself(void **state)
{
    (void)state;
    declare(Q, mortal());
    publish_lives("-3");
    turn();
    subscribe(Q, 1);
    turn();
    assert_string_equal(delivered_from(0), "1");
    run_for(4 * US_PER_S);
    assert_string_equal(waiting_in(DEAD), "3");
}

static void one_that_becomes_the_oldest_behind_one_that_came_back_expires_by_itself(void **state)
{
    (void)state;
    declare(Q, mortal());
    publish_lives("-3");
    subscribe(Q, 1);
    turn();
    give_back(0);
    turn();
    assert_string_equal(delivered_from(0), "11");
    run_for(4 * US_PER_S);
    assert_string_equal(waiting_in(DEAD), "3");
}

static void one_that_becomes_the_oldest_by_a_take_expires_by_itself(void **state)
{
    struct broker_consumer *taker;

    (void)state;
    declare(Q, mortal());
    publish_lives("-3");
    turn();
    taker = consume(Q, (struct broker_consumer_options){.on_demand = true});
    assert_int_equal(broker_take(broker, taker, now_us), 1);
    give_back(0);
    turn();
    assert_int_equal(broker_take(broker, taker, now_us), 1);
    turn();
    run_for(4 * US_PER_S);
    assert_string_equal(delivered_from(0), "11");
    assert_string_equal(waiting_in(DEAD), "3");
}

static void one_that_becomes_the_oldest_by_a_move_expires_by_itself(void **state)
{
    uint64_t n;

    (void)state;
    declare(Q, mortal());
    declare(SLICE("to"), plain());
    publish_lives("-3");
    turn();
    assert_int_equal(broker_move(broker, Q, SLICE("to"), 1, &n, now_us), 0);
    turn();
    run_for(4 * US_PER_S);
    assert_string_equal(waiting_in(DEAD), "3");
}

static void one_that_becomes_the_oldest_by_a_limit_expires_by_itself(void **state)
{
    struct broker_exchange_options fanout = {.type = EXCHANGE_FANOUT};
    struct broker_queue_options options = mortal();

    (void)state;
    options.max_length = 2;
    options.overflow = LIMIT_DROP_OLDEST;
    declare(Q, options);
    publish_lives("-3");
    options = plain();
    options.max_length = 1;
    declare(SLICE("grave"), options);
    options.overflow = LIMIT_DEAD_LETTER;
    options.has_dead_letter = true;
    options.dead_key = SLICE("grave");
    declare(SLICE("full"), options);
    assert_int_equal(publish(SLICE("full"), SLICE("f")), PUBLISH_OK);
    assert_int_equal(publish(SLICE("grave"), SLICE("g")), PUBLISH_OK);
    turn();
    assert_int_equal(broker_declare_exchange(broker, SLICE("x"), &fanout, DECLARE_SAME), 0);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(broker_bind(broker, SLICE("x"),
                                     &(struct broker_destination){i ? SLICE("full") : Q, false}, SLICE(""),
                                     SLICE("")),
                         0);
    assert_int_equal(publish_as((struct broker_publication){.exchange = SLICE("x"), .body = SLICE("x")}),
                     PUBLISH_FULL);
    assert_string_equal(waiting_in(Q), "3"); /* room was made in vain */
    turn();
    run_for(4 * US_PER_S);
    assert_string_equal(waiting_in(DEAD), "3");
}

static void of_the_queues_time_and_its_own_the_smaller_counts(void **state)
{
    struct broker_queue_options options = mortal();

    (void)state;
    options.max_age_us = 4 * US_PER_S;
    declare(Q, options);
    publish_lives("29-");
    turn();
    run_for(3 * US_PER_S);
    assert_string_equal(waiting_in(DEAD), "2");
    run_for(2 * US_PER_S);
    assert_string_equal(waiting_in(DEAD), "29-");
}

static void its_own_time_does_not_go_on_in_the_dead_letters(void **state)
{
    (void)state;
    declare(Q, mortal());
    publish_lives("1");
    turn();
    run_for(60 * US_PER_S);
    assert_string_equal(waiting_in(DEAD), "1");
}

static void a_restart_keeps_how_long_each_may_wait(void **state)
{
    (void)state;
    declare(Q, mortal());
    publish_lives("25-");
    turn();
    now_us += US_PER_S;
    restart();
    assert_string_equal(waiting_in(Q), "25-");
    run_for(2 * US_PER_S);
    assert_string_equal(waiting_in(Q), "5-");
    run_for(3 * US_PER_S);
    assert_string_equal(waiting_in(Q), "-");
}

static void what_expired_while_nothing_ran_goes_at_the_start(void **state)
{
    (void)state;
    declare(Q, mortal());
    publish_lives("11");
    turn();
    if (from_checkpoint)
        checkpoint();
    close_broker();
    disk_crash(disk);
    now_us += 5 * US_PER_S;
    open_broker();
    turn();
    assert_string_equal(waiting_in(Q), "");
    assert_string_equal(waiting_in(DEAD), "11");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(higher_priorities_go_first_and_each_in_order),
        TEST(a_priority_above_the_highest_counts_as_that),
        TEST(without_priorities_all_go_as_they_came),
        TEST(what_comes_back_goes_before_the_younger_of_its_priority_only),
        TEST_BOTH(a_restart_keeps_priorities_and_what_was_delivered),
        TEST_BOTH(a_restart_keeps_priorities_of_many_that_spilled),
        TEST_BOTH(a_queue_keeps_the_priorities_it_was_made_with),
        TEST(one_that_may_not_wait_goes_to_a_consumer_that_is_there),
        TEST(one_that_may_not_wait_goes_to_nobody_who_comes_later),
        TEST(one_that_may_not_wait_is_not_put_before_a_consumer_that_is_full),
        TEST(one_that_comes_back_too_late_is_not_delivered_again),
        TEST(only_the_oldest_expires),
        TEST(one_that_becomes_the_oldest_expires_by_itself),
        TEST(one_that_becomes_the_oldest_behind_one_that_came_back_expires_by_itself),
        TEST(one_that_becomes_the_oldest_by_a_take_expires_by_itself),
        TEST(one_that_becomes_the_oldest_by_a_move_expires_by_itself),
        TEST(one_that_becomes_the_oldest_by_a_limit_expires_by_itself),
        TEST(of_the_queues_time_and_its_own_the_smaller_counts),
        TEST(its_own_time_does_not_go_on_in_the_dead_letters),
        TEST_BOTH(a_restart_keeps_how_long_each_may_wait),
        TEST_BOTH(what_expired_while_nothing_ran_goes_at_the_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
