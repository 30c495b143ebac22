/* broker_kit.h - what the tests of broker.h share: a broker over a log over a simulated disk, a clock, and what it told. */
#ifndef TESTS_BROKER_KIT_H
#define TESTS_BROKER_KIT_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "queue/broker.h"
#include "sim/disk.h"

#define Q SLICE("q")
#define DEAD SLICE("dead")
#define START_US (UINT64_C(1700000000) * US_PER_S)
#define DELIVERIES_MAX 100000
#define TOLD_MAX 256
#define N(table) (sizeof(table) / sizeof(table)[0])

static struct disk *disk;
static struct log *store;
static struct broker *broker;
static uint64_t now_us;
static bool from_checkpoint; /* a restart begins there; else all of the log is replayed */

static struct {
    struct broker_consumer *consumer;
    struct broker_delivery delivery;
} deliveries[DELIVERIES_MAX];
static size_t n_deliveries;
static struct broker_ending endings[TOLD_MAX]; /* the first ones */
static size_t n_endings;
static struct broker_consumer *cancelled[TOLD_MAX], *late[TOLD_MAX];
static size_t n_cancelled, n_late;

static void on_delivery(void *arg, struct broker_consumer *consumer, const struct broker_delivery *delivery)
{
    (void)arg;
    assert_true(n_deliveries < DELIVERIES_MAX);
    deliveries[n_deliveries].consumer = consumer;
    deliveries[n_deliveries++].delivery = *delivery;
}

static void on_ending(void *arg, const struct broker_ending *ending)
{
    (void)arg;
    if (n_endings < TOLD_MAX)
        endings[n_endings] = *ending;
    n_endings++;
}

static void on_cancel(void *arg, struct broker_consumer *consumer)
{
    (void)arg;
    assert_true(n_cancelled < TOLD_MAX);
    cancelled[n_cancelled++] = consumer;
}

static void on_late(void *arg, struct broker_consumer *consumer)
{
    (void)arg;
    assert_true(n_late < TOLD_MAX);
    late[n_late++] = consumer;
}

static inline void open_broker(void)
{
    static const struct broker_events events = {
        .deliver = on_delivery, .ended = on_ending, .cancelled = on_cancel, .late = on_late};
    struct log_options of_log = {.storage = disk_storage(disk), .segment_bytes = 1u << 20, .id = 7};
    struct broker_options of_broker = {
        .storage = disk_storage(disk), .events = &events, .seed = 1, .now_us = now_us};
    struct log_report report;

    assert_int_equal(log_open(&store, &of_log, &report), 0);
    of_broker.log = store;
    assert_int_equal(broker_open(&broker, &of_broker, &report), 0);
}

static inline void close_broker(void)
{
    broker_close(broker);
    log_close(store);
}

static inline int set_up(void **state)
{
    from_checkpoint = *state != NULL;
    disk = disk_new(1);
    now_us = START_US;
    n_deliveries = n_endings = n_cancelled = n_late = 0;
    open_broker();
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    close_broker();
    disk_free(disk);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
/* One that restarts the broker: once from what the log says, once from a checkpoint. */
#define TEST_BOTH(name)                                                      \
    {#name ", from the log", name, set_up, tear_down, NULL},                 \
    {                                                                        \
#name ", from a checkpoint", name, set_up, tear_down, (void *)&store \
    }

/* ---- turns ----------------------------------------------------------------------------------------------------------- */

static inline void turn(void)
{
    broker_flush(broker);
    assert_int_equal(log_commit(store), 0);
    broker_run(broker, now_us);
}

static inline void after(uint64_t us)
{
    now_us += us;
    turn();
}

/* Whenever the broker asks for it, until so much later. */
static inline void run_for(uint64_t us)
{
    uint64_t end = now_us + us, next;

    while ((next = broker_next_us(broker)) <= end) {
        now_us = next > now_us ? next : now_us + 1;
        turn();
    }
    now_us = end;
    turn();
}

static inline void checkpoint(void)
{
    struct broker_checkpoint *made;

    turn();
    broker_flush(broker);
    assert_int_equal(log_commit(store), 0);
    made = broker_checkpoint_begin(broker);
    assert_non_null(made);
    broker_checkpoint_end(broker, made, broker_checkpoint_make(made));
}

/* The machine fails, with all on disk that a commit promised. */
static inline void restart(void)
{
    if (from_checkpoint)
        checkpoint();
    else
        turn();
    broker_flush(broker);
    assert_int_equal(log_commit(store), 0);
    close_broker();
    disk_crash(disk);
    open_broker();
    turn();
}

/* ---- queues and messages --------------------------------------------------------------------------------------------- */

static inline struct broker_queue_options plain(void)
{
    return (struct broker_queue_options){
        .ack_timeout_us = 60 * US_PER_S, .retry_first_us = US_PER_S, .retry_most_us = 10 * US_PER_S};
}

/* Its dead go to the queue DEAD, which is declared too. */
static inline struct broker_queue_options mortal(void)
{
    struct broker_queue_options options = plain();

    assert_int_equal(broker_declare_queue(broker, DEAD, &options, DECLARE_SAME), 0);
    options.has_dead_letter = true;
    options.dead_key = DEAD;
    return options;
}

static inline void declare(struct slice name, struct broker_queue_options options)
{
    assert_int_equal(broker_declare_queue(broker, name, &options, DECLARE_SAME), 0);
}

static inline bool is_there(struct slice queue)
{
    struct broker_queue_view view;

    return broker_find_queue(broker, queue, &view);
}

static inline struct broker_queue_numbers numbers_of(struct slice queue)
{
    struct broker_queue_view view;

    assert_true(broker_find_queue(broker, queue, &view));
    return view.numbers;
}

static inline enum publish_result publish_as(struct broker_publication publication)
{
    struct broker_published published;

    return broker_publish(broker, &publication, &published, now_us);
}

static inline enum publish_result publish(struct slice queue, struct slice body)
{
    return publish_as((struct broker_publication){.key = queue, .body = body});
}

static inline void publish_many(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(publish(Q, SLICE("body")), PUBLISH_OK);
}

/* To Q, one for each character of the text, which is its body. */
static inline void publish_each(const char *text)
{
    for (; *text; text++)
        assert_int_equal(publish(Q, slice_of(text, 1)), PUBLISH_OK);
}

struct bodies {
    char text[64];
    size_t n;
};

static void note_body(void *arg, const struct broker_peeked *peeked)
{
    struct bodies *bodies = arg;

    assert_true(bodies->n < sizeof bodies->text - 1 && peeked->message->body.len == 1);
    bodies->text[bodies->n++] = *peeked->message->body.ptr;
    bodies->text[bodies->n] = '\0';
}

/* The bodies, a character each, of what waits, oldest first; good until the next call. */
static inline const char *waiting_in(struct slice queue)
{
    static struct bodies bodies;

    bodies = (struct bodies){.n = 0};
    assert_int_equal(broker_peek(broker, queue, 0, UINT64_MAX, note_body, &bodies), 0);
    return bodies.text;
}

/* ---- consumers ------------------------------------------------------------------------------------------------------- */

static inline struct broker_consumer *consume(struct slice queue, struct broker_consumer_options options)
{
    struct broker_consumer *consumer;

    if (!options.burst)
        options.burst = 1;
    assert_int_equal(broker_subscribe(broker, queue, &options, &consumer), 0);
    return consumer;
}

static inline struct broker_consumer *subscribe(struct slice queue, unsigned prefetch)
{
    return consume(queue, (struct broker_consumer_options){.prefetch = prefetch});
}

static inline void ack(size_t i)
{
    assert_int_equal(broker_ack(broker, deliveries[i].consumer, deliveries[i].delivery.ref, now_us), 0);
}

static inline void give_back(size_t i)
{
    assert_int_equal(broker_return(broker, deliveries[i].consumer, deliveries[i].delivery.ref, 0, now_us), 0);
}

static inline void try_again(size_t i)
{
    assert_int_equal(broker_retry(broker, deliveries[i].consumer, deliveries[i].delivery.ref, now_us), 0);
}

static inline void reject(size_t i)
{
    assert_int_equal(broker_reject(broker, deliveries[i].consumer, deliveries[i].delivery.ref, now_us), 0);
}

static inline unsigned count_of(const struct broker_consumer *consumer)
{
    unsigned n = 0;

    for (size_t i = 0; i < n_deliveries; i++)
        n += deliveries[i].consumer == consumer;
    return n;
}

/* Numbers of what was delivered from the first-th on, as digits. */
static inline const char *delivered_from(size_t first)
{
    static char text[64];
    size_t n = 0;

    for (size_t i = first; i < n_deliveries && n < sizeof text - 1; i++)
        text[n++] = (char)('0' + deliveries[i].delivery.ref.number);
    text[n] = '\0';
    return text;
}

#endif
