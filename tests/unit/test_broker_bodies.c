/* test_broker_bodies.c - queue/broker.h: bodies that have files of their own, who needs one, and when it may go. */
#include "broker_kit.h"

static uint64_t left[TOLD_MAX]; /* ids of those that went, in order */
static size_t n_left;

/* What the owner of the broker does when it says so. */
static void let_go(void)
{
    while (broker_body_leaves(broker)) {
        struct body_ref ref = broker_body_take_leave(broker);

        assert_true(n_left < TOLD_MAX);
        left[n_left++] = ref.id;
        assert_int_equal(stored_body_remove(disk_storage(disk), ref.id), 0);
        broker_body_removed(broker, ref);
    }
}

static void turn_and_let_go(void)
{
    turn();
    turn();
    let_go();
}

static size_t n_files(void)
{
    uint64_t id;
    size_t n = 0;

    for (size_t i = 0; disk_name(disk, i); i++)
        n += stored_body_parse_name(disk_name(disk, i), &id);
    return n;
}

static int set_up_bodies(void **state)
{
    n_left = 0;
    return set_up(state);
}

#define TEST_BODIES(name) cmocka_unit_test_setup_teardown(name, set_up_bodies, tear_down)
#define TEST_BODIES_BOTH(name)                                                      \
    {#name ", from the log", name, set_up_bodies, tear_down, NULL},                 \
    {                                                                               \
#name ", from a checkpoint", name, set_up_bodies, tear_down, (void *)&store \
    }

/* Written and durable. */
static struct body_ref store_body(void)
{
    struct stored_body body;
    struct body_ref ref;

    assert_int_equal(broker_body_begin(broker, 4, &ref), 0);
    assert_int_equal(stored_body_create(&body, disk_storage(disk), log_id(store), ref), 0);
    assert_int_equal(stored_body_write(&body, SLICE("soup")), 0);
    assert_int_equal(stored_body_finish(&body), 0);
    return ref;
}

static struct body_ref publish_body(struct slice exchange, struct slice key)
{
    struct body_ref ref = store_body();

    assert_int_equal(publish_as((struct broker_publication){.exchange = exchange, .key = key, .stored = ref}),
                     PUBLISH_OK);
    broker_body_end(broker, ref.id);
    return ref;
}

static void what_is_delivered_has_its_body(void **state)
{
    char buffer[STORED_BUFFER_BYTES];
    struct log_buffer record_buffer = {0};
    struct log_record record;
    struct stored_body body;
    struct message message;
    struct slice piece;

    (void)state;
    declare(Q, plain());
    subscribe(Q, 0);
    publish_body(SLICE(""), Q);
    turn_and_let_go();
    assert_int_equal(n_deliveries, 1);
    assert_int_equal(log_read(store, deliveries[0].delivery.position, 0, &record_buffer, &record), 0);
    assert_true(message_parse(record.payload, &message));
    assert_int_equal(broker_body_open(broker, message.stored, &body), 0);
    ack(0);
    turn_and_let_go();
    assert_int_equal(n_left, 1);
    assert_int_equal(n_files(), 0);
    assert_int_equal(stored_body_read(&body, buffer, &piece), 1); /* it is open */
    assert_true(slice_equal(piece, SLICE("soup")));
    stored_body_close(&body);
    log_buffer_free(&record_buffer);
}

static void a_file_goes_when_the_end_of_its_message_is_durable(void **state)
{
    (void)state;
    declare(Q, plain());
    subscribe(Q, 0);
    publish_body(SLICE(""), Q);
    turn_and_let_go();
    ack(0);
    assert_false(broker_body_leaves(broker));
    broker_flush(broker);
    assert_int_equal(log_write(store), 0);
    broker_run(broker, now_us);
    assert_false(broker_body_leaves(broker)); /* written is not on disk */
    assert_int_equal(log_commit(store), 0);
    assert_true(broker_body_leaves(broker));
    let_go();
    assert_int_equal(n_left, 1);
}

static void a_file_stays_while_its_publisher_is_not_done(void **state)
{
    struct body_ref ref = store_body();

    (void)state;
    declare(Q, plain());
    for (int i = 0; i < 2; i++) { /* as often as he likes */
        assert_int_equal(publish_as((struct broker_publication){.key = Q, .stored = ref}), PUBLISH_OK);
        assert_int_equal(broker_purge(broker, Q, &(uint64_t){0}, now_us), 0);
        turn_and_let_go();
        assert_int_equal(n_left, 0);
    }
    broker_body_end(broker, ref.id);
    turn_and_let_go();
    assert_int_equal(n_left, 1);
}

static void a_body_that_is_never_published_goes(void **state)
{
    struct body_ref ref;

    (void)state;
    ref = store_body();
    turn_and_let_go();
    assert_int_equal(n_left, 0);
    broker_body_end(broker, ref.id);
    turn_and_let_go();
    assert_int_equal(n_left, 1);
    assert_int_equal(left[0], ref.id);
}

/* Whichever of them has it last, before or after a restart. */
static void queues_share_a_file(void **state)
{
    const struct broker_exchange_options fanout = {.type = EXCHANGE_FANOUT, .durable = true};
    const struct slice queues[] = {SLICE("a"), SLICE("b"), SLICE("c")};

    (void)state;
    assert_int_equal(broker_declare_exchange(broker, SLICE("all"), &fanout, DECLARE_SAME), 0);
    for (size_t i = 0; i < N(queues); i++) {
        struct broker_destination to = {.name = queues[i]};

        declare(queues[i], plain());
        assert_int_equal(broker_bind(broker, SLICE("all"), &to, SLICE(""), SLICE("")), 0);
    }
    publish_body(SLICE("all"), SLICE(""));
    turn_and_let_go();
    assert_int_equal(n_files(), 1);
    for (size_t i = 0; i < N(queues); i++) {
        restart();
        let_go();
        assert_int_equal(n_files(), 1);
        assert_int_equal(n_left, 0);
        assert_int_equal(broker_purge(broker, queues[i], &(uint64_t){0}, now_us), 0);
        turn_and_let_go();
    }
    assert_int_equal(n_left, 1);
    assert_int_equal(n_files(), 0);
}

static void a_dead_letter_takes_it_along(void **state)
{
    (void)state;
    declare(Q, mortal());
    subscribe(Q, 0);
    publish_body(SLICE(""), Q);
    turn_and_let_go();
    reject(0);
    turn_and_let_go();
    assert_int_equal(numbers_of(DEAD).ready, 1);
    restart();
    let_go();
    assert_int_equal(n_files(), 1);
    subscribe(DEAD, 0);
    turn_and_let_go();
    ack(1);
    turn_and_let_go();
    assert_int_equal(n_files(), 0);
}

static void what_a_crash_leaves_is_removed_by_the_start(void **state)
{
    struct body_ref ref;

    (void)state;
    declare(Q, plain());
    publish_body(SLICE(""), Q);
    ref = store_body();
    assert_int_equal(n_files(), 2);
    restart();
    assert_int_equal(n_files(), 1);
    assert_int_equal(numbers_of(Q).ready, 1);
    assert_true(store_body().id > ref.id ||
                from_checkpoint); /* its number is not given again while it may come back */
}

static void a_body_that_is_gone_stops_the_start(void **state)
{
    struct log_options of_log = {.storage = disk_storage(disk), .segment_bytes = 1u << 20, .id = 7};
    struct broker_options of_broker = {
        .storage = disk_storage(disk),
        .events = &(struct broker_events){.deliver = on_delivery, .ended = on_ending},
        .now_us = now_us};
    struct log_report report = {0};
    struct broker *other;

    (void)state;
    declare(Q, plain());
    assert_int_equal(stored_body_remove(disk_storage(disk), publish_body(SLICE(""), Q).id), 0);
    turn();
    close_broker();
    assert_int_equal(log_open(&store, &of_log, &report), 0);
    of_broker.log = store;
    assert_int_equal(broker_open(&other, &of_broker, &report), -EBADMSG);
    assert_non_null(strstr(report.text, "body-0000000000000001"));
    assert_non_null(strstr(report.text, "is gone"));
    log_close(store);
    disk_reset(disk, 1);
    open_broker();
}

static void bodies_count_at_the_most_of_the_log(void **state)
{
    struct log_options of_log = {
        .storage = disk_storage(disk), .segment_bytes = 65536, .id = 7, .bytes_max = 10 * 65536};
    struct broker_options of_broker = {
        .storage = disk_storage(disk),
        .events = &(struct broker_events){.deliver = on_delivery, .ended = on_ending},
        .now_us = now_us};
    struct log_report report = {0};
    struct log_numbers numbers;
    struct body_ref first, second;
    uint64_t of_segments;

    (void)state;
    close_broker();
    disk_reset(disk, 1);
    assert_int_equal(log_open(&store, &of_log, &report), 0);
    of_broker.log = store;
    assert_int_equal(broker_open(&broker, &of_broker, &report), 0);
    log_numbers(store, &numbers);
    of_segments = numbers.file_bytes;
    assert_int_equal(broker_body_begin(broker, 10 * 65536, &first), -ENOSPC);
    assert_int_equal(broker_body_begin(broker, 6 * 65536, &first), 0);
    log_numbers(store, &numbers);
    assert_int_equal(numbers.file_bytes, of_segments + stored_body_file_bytes(6 * 65536));
    assert_int_equal(broker_body_begin(broker, 6 * 65536, &second), -ENOSPC);
    broker_body_end(broker, first.id);
    turn();
    assert_true(broker_body_leaves(broker));
    first = broker_body_take_leave(broker);
    assert_int_equal(broker_body_begin(broker, 6 * 65536, &second), -ENOSPC); /* its file is still there */
    broker_body_removed(broker, first);
    assert_int_equal(broker_body_begin(broker, 6 * 65536, &second), 0);
    assert_true(second.id > first.id);
}

/* What counts of it at a consumer on its way is an open file. */
static void a_large_body_is_a_small_thing_on_its_way(void **state)
{
    struct body_ref ref;

    (void)state;
    declare(Q, plain());
    consume(Q, (struct broker_consumer_options){.transit_most = 200000});
    for (int i = 0; i < 5; i++) {
        assert_int_equal(broker_body_begin(broker, 100 << 20, &ref), 0);
        assert_int_equal(publish_as((struct broker_publication){.key = Q, .stored = ref}), PUBLISH_OK);
        broker_body_end(broker, ref.id);
    }
    assert_int_equal(numbers_of(Q).bytes, 5u * (100 << 20));
    turn();
    turn();
    assert_int_equal(n_deliveries, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_BODIES(what_is_delivered_has_its_body),
        TEST_BODIES(a_file_goes_when_the_end_of_its_message_is_durable),
        TEST_BODIES(a_file_stays_while_its_publisher_is_not_done),
        TEST_BODIES(a_body_that_is_never_published_goes),
        TEST_BODIES_BOTH(queues_share_a_file),
        TEST_BODIES_BOTH(a_dead_letter_takes_it_along),
        TEST_BODIES_BOTH(what_a_crash_leaves_is_removed_by_the_start),
        TEST_BODIES(a_body_that_is_gone_stops_the_start),
        TEST_BODIES(bodies_count_at_the_most_of_the_log),
        TEST_BODIES(a_large_body_is_a_small_thing_on_its_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
