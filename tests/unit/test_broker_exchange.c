/* test_broker_exchange.c - what broker.h promises of exchanges and bindings, a sentence each; test_topics.c has patterns. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "queue/broker_private.h"
#include "sim/disk.h"
#include "wire/amqp.h"

#define X SLICE("x")
#define NOTHING SLICE("")
#define START_US (UINT64_C(1700000000) * US_PER_S)
#define SEEN_MAX 64

static struct disk *disk;
static struct log *store;
static struct broker *broker;
static uint64_t now_us;

static void on_delivery(void *arg, struct broker_consumer *consumer, const struct broker_delivery *delivery)
{
    (void)arg;
    (void)consumer;
    (void)delivery;
}

static void on_ending(void *arg, const struct broker_ending *ending)
{
    (void)arg;
    (void)ending;
}

static void open_broker(void)
{
    static const struct broker_events events = {.deliver = on_delivery, .ended = on_ending};
    struct log_options of_log = {.storage = disk_storage(disk), .segment_bytes = 1u << 20, .id = 7};
    struct broker_options of_broker = {
        .storage = disk_storage(disk), .events = &events, .seed = 1, .now_us = now_us};
    struct log_report report;

    assert_int_equal(log_open(&store, &of_log, &report), 0);
    of_broker.log = store;
    assert_int_equal(broker_open(&broker, &of_broker, &report), 0);
}

static void close_broker(void)
{
    broker_close(broker);
    log_close(store);
}

static int set_up(void **state)
{
    (void)state;
    disk = disk_new(1);
    now_us = START_US;
    open_broker();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    close_broker();
    disk_free(disk);
    return 0;
}

/* ---- small things ---------------------------------------------------------------------------------------------------- */

static void turn(void)
{
    broker_flush(broker);
    assert_int_equal(log_commit(store), 0);
    broker_run(broker, now_us);
}

/* From what the log says, or from a checkpoint. */
static void restart(bool from_checkpoint)
{
    turn();
    if (from_checkpoint) {
        struct broker_checkpoint *checkpoint = broker_checkpoint_begin(broker);

        assert_non_null(checkpoint);
        broker_checkpoint_end(broker, checkpoint, broker_checkpoint_make(checkpoint));
    }
    close_broker();
    disk_crash(disk);
    open_broker();
}

static void declare_queues(const char *names)
{
    struct broker_queue_options options = {
        .ack_timeout_us = 60 * US_PER_S, .retry_first_us = US_PER_S, .retry_most_us = 10 * US_PER_S};

    for (; *names; names++)
        assert_int_equal(broker_declare_queue(broker, slice_of(names, 1), &options, DECLARE_SAME), 0);
}

static int declare(struct slice name, struct broker_exchange_options options)
{
    return broker_declare_exchange(broker, name, &options, DECLARE_SAME);
}

static void declare_type(struct slice name, enum exchange_type type)
{
    assert_int_equal(declare(name, (struct broker_exchange_options){.type = type, .durable = true}), 0);
}

static int bind_with(struct slice source, struct slice queue, struct slice key, struct slice arguments)
{
    return broker_bind(broker, source, &(struct broker_destination){queue, false}, key, arguments);
}

static void bind(struct slice source, const char *queue, const char *key)
{
    assert_int_equal(bind_with(source, slice_from_text(queue), slice_from_text(key), NOTHING), 0);
}

static int unbind(struct slice source, const char *queue, const char *key)
{
    return broker_unbind(broker, source, &(struct broker_destination){slice_from_text(queue), false},
                         slice_from_text(key), NOTHING);
}

static void bind_exchange(struct slice source, struct slice destination, const char *key)
{
    assert_int_equal(broker_bind(broker, source, &(struct broker_destination){destination, true},
                                 slice_from_text(key), NOTHING),
                     0);
}

static bool is_there(struct slice exchange)
{
    struct broker_exchange_view view;

    return broker_find_exchange(broker, exchange, &view);
}

static int compare_letters(const void *a, const void *b)
{
    return *(const char *)a - *(const char *)b;
}

/* The queues that it was put into, whose names are letters, in their order; "-": it goes nowhere. */
static const char *publish_all(struct broker_publication publication)
{
    static char names[SEEN_MAX + 1];
    struct queue *targets[SEEN_MAX];
    struct exchange *exchange = broker_exchange(broker, publication.exchange);
    struct routing routing = {exchange, publication.key, publication.more_keys, publication.head};
    struct broker_published published;
    enum publish_result result;
    int n = broker_route(broker, &routing, targets, SEEN_MAX);

    result = broker_publish(broker, &publication, &published, now_us);
    assert_int_equal(result, exchange && exchange->options.internal ? PUBLISH_INTERNAL
                             : n                                    ? PUBLISH_OK
                                                                    : PUBLISH_UNROUTABLE);
    if (result != PUBLISH_OK)
        n = 0;
    for (int i = 0; i < n; i++)
        names[i] = targets[i]->name.ptr[0];
    qsort(names, (size_t)n, 1, compare_letters);
    names[n] = '\0';
    return n ? names : "-";
}

static const char *publish(struct slice exchange, const char *key)
{
    return publish_all((struct broker_publication){.exchange = exchange, .key = slice_from_text(key)});
}

/* ---- types ----------------------------------------------------------------------------------------------------------- */

static void a_direct_exchange_leads_by_the_whole_key(void **state)
{
    (void)state;
    declare_queues("abc");
    declare_type(X, EXCHANGE_DIRECT);
    bind(X, "a", "one");
    bind(X, "b", "one");
    bind(X, "b", "two");
    bind(X, "c", "");
    assert_string_equal(publish(X, "one"), "ab");
    assert_string_equal(publish(X, "two"), "b");
    assert_string_equal(publish(X, ""), "c");
    assert_string_equal(publish(X, "on"), "-");
}

static void a_fanout_exchange_leads_to_all_once(void **state)
{
    (void)state;
    declare_queues("abc");
    declare_type(X, EXCHANGE_FANOUT);
    bind(X, "a", "one");
    bind(X, "a", "two");
    bind(X, "c", "");
    assert_string_equal(publish(X, "any"), "ac");
}

static void a_topic_exchange_leads_by_patterns_and_to_no_queue_twice(void **state)
{
    (void)state;
    declare_queues("abcd");
    declare_type(X, EXCHANGE_TOPIC);
    bind(X, "a", "#");
    bind(X, "a", "eu.*.stock");
    bind(X, "b", "eu.#");
    bind(X, "c", "#.stock");
    bind(X, "d", "*.*");
    assert_string_equal(publish(X, "eu.de.stock"), "abc");
    assert_string_equal(publish(X, "eu.de"), "abd");
    assert_string_equal(publish(X, "stock"), "ac");
    assert_string_equal(publish(X, ""), "a");
    assert_int_equal(unbind(X, "a", "#"), 0);
    assert_string_equal(publish(X, ""), "-");
    assert_string_equal(publish(X, "eu.de.stock"), "abc");
}

static void more_keys_lead_where_any_of_them_does(void **state)
{
    struct broker_publication p = {.key = SLICE("a"), .more_keys = SLICE("\001b\000\001x\001b")};

    (void)state;
    declare_queues("abcd");
    declare_type(X, EXCHANGE_DIRECT);
    declare_type(SLICE("t"), EXCHANGE_TOPIC);
    bind(X, "c", "b");
    bind(X, "d", "");
    bind(SLICE("t"), "a", "*");
    bind(SLICE("t"), "b", "x.#");
    assert_string_equal(publish_all(p), "ab");
    p.exchange = X;
    assert_string_equal(publish_all(p), "cd");
    p.exchange = SLICE("t");
    assert_string_equal(publish_all(p), "ab");
    p.more_keys = SLICE("\001b\005x"); /* cut short: what is whole counts */
    p.exchange = X;
    assert_string_equal(publish_all(p), "c");
}

/* ---- headers --------------------------------------------------------------------------------------------------------- */

/* A table of "name=value" parted by spaces: a number, a text, or void where there is nothing behind the =. */
static struct slice table(const char *text, char *block, size_t room)
{
    struct amqp_out out = {.at = block, .end = block + room};
    struct slice rest = slice_from_text(text), item;

    while (slice_next_part(&rest, ' ', &item)) {
        struct amqp_value value = {.type = AMQP_TEXT, .letter = 'S'};
        uint64_t number;

        if (!item.len)
            continue;
        value.name = slice_take(&item, slice_find(item, '='));
        slice_drop(&item, 1);
        value.bytes = item;
        if (!item.len)
            value.type = AMQP_VOID;
        else if (slice_to_u64(item, &number)) {
            value.type = AMQP_INTEGER;
            value.letter = 's';
            value.integer = (int64_t)number;
        }
        amqp_table_put(&out, &value);
    }
    return slice_of(block, (size_t)(out.at - block));
}

static struct slice amqp_head(const char *headers, char *head, size_t room)
{
    char items[512], payload[600];
    struct amqp_out out = {.at = payload, .end = payload + sizeof payload};
    struct amqp_content content = {.body_bytes = 0};

    amqp_content_set_headers(&content, table(headers, items, sizeof items));
    amqp_put_content(&out, &content);
    assert_true(room > sizeof payload + ENVELOPE_ITEM_OVERHEAD);
    return slice_of(
        head, (size_t)(envelope_put(head, &(struct envelope_item){.tag = ENVELOPE_AMQP,
                                                                  .value = slice_of(
                                                                      payload, (size_t)(out.at - payload))}) -
                       head));
}

static void a_headers_exchange_asks_as_x_match_says(void **state)
{
    static const struct {
        const char *arguments, *headers;
        bool matches;
    } rows[] = {
        {"x-match=all type=pdf size=4", "size=4 type=pdf other=1", true},
        {"x-match=all type=pdf size=4", "type=pdf", false},
        {"x-match=all type=pdf size=4", "type=pdf size=5", false},
        {"type=pdf", "type=pdf", true},
        {"type=pdf", "type=doc", false},
        {"", "type=doc", true},
        {"", "", true},
        {"x-match=any", "type=doc", false},
        {"x-match=any type=pdf size=4", "size=4", true},
        {"x-match=any type=pdf size=4", "size=5 type=doc", false},
        {"x-match=any type=pdf size=4", "", false},
        {"x-match=all type=", "type=whatever", true},
        {"x-match=all type=", "other=1", false},
        {"x-match=any type= size=4", "type=1", true},
        {"x-match=all x-secret=1 type=pdf", "type=pdf", true},
        {"x-match=any x-secret=1", "x-secret=1", false},
        {"x-match=all-with-x x-secret=1 type=pdf", "type=pdf", false},
        {"x-match=all-with-x x-secret=1 type=pdf", "type=pdf x-secret=1", true},
        {"x-match=any-with-x x-secret=1 type=pdf", "x-secret=1", true},
        {"x-match=any-with-x x-secret=1", "x-secret=2", false},
        {"x-match=all-with-x", "a=1", true},
        {"x-match=all size=4", "size=four", false},
    };
    char arguments[512], head[1024];

    (void)state;
    declare_queues("a");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct broker_publication p = {.exchange = X, .head = amqp_head(rows[i].headers, head, sizeof head)};

        declare_type(X, EXCHANGE_HEADERS);
        assert_int_equal(
            bind_with(X, SLICE("a"), NOTHING, table(rows[i].arguments, arguments, sizeof arguments)), 0);
        if ((publish_all(p)[0] == 'a') != rows[i].matches)
            fail_msg("%s: %s", rows[i].arguments, rows[i].headers);
        assert_int_equal(broker_delete_exchange(broker, X, false), 0);
    }
}

static void what_x_match_cannot_say_is_refused(void **state)
{
    char arguments[64];

    (void)state;
    declare_queues("a");
    declare_type(X, EXCHANGE_HEADERS);
    assert_int_equal(bind_with(X, SLICE("a"), NOTHING, table("x-match=some", arguments, sizeof arguments)),
                     -EINVAL);
    assert_int_equal(bind_with(X, SLICE("a"), NOTHING, table("x-match=1", arguments, sizeof arguments)),
                     -EINVAL);
    assert_int_equal(bind_with(X, SLICE("a"), NOTHING, SLICE("\003cut")), -EINVAL);
    declare_type(SLICE("y"), EXCHANGE_FANOUT);
    assert_int_equal(
        bind_with(SLICE("y"), SLICE("a"), NOTHING, table("x-match=some", arguments, sizeof arguments)), 0);
}

static void of_http_the_fields_are_headers_in_lower_case(void **state)
{
    char arguments[512], head[128], *at = head;
    struct broker_publication p = {.exchange = X};

    (void)state;
    declare_queues("abc");
    declare_type(X, EXCHANGE_HEADERS);
    bind_with(X, SLICE("a"), NOTHING, table("content-type=text/plain", arguments, sizeof arguments));
    bind_with(X, SLICE("b"), NOTHING, table("Content-Type=text/plain", arguments, sizeof arguments));
    bind_with(X, SLICE("c"), NOTHING, table("x-match=any none= size=", arguments, sizeof arguments));
    at = envelope_put(at, &(struct envelope_item){ENVELOPE_METHOD, SLICE("content-type"), SLICE("no")});
    at =
        envelope_put(at, &(struct envelope_item){ENVELOPE_FIELD, SLICE("Content-Type"), SLICE("text/plain")});
    at = envelope_put(at, &(struct envelope_item){ENVELOPE_FIELD, SLICE("Size"), SLICE("")});
    p.head = slice_of(head, (size_t)(at - head));
    assert_string_equal(publish_all(p), "ac");
}

static void the_dead_go_by_their_headers_too(void **state)
{
    struct broker_queue_options options = {.ack_timeout_us = US_PER_S,
                                           .retry_first_us = US_PER_S,
                                           .retry_most_us = US_PER_S,
                                           .max_age_us = US_PER_S,
                                           .has_dead_letter = true,
                                           .dead_exchange = X};
    struct broker_queue_view view;
    struct broker_publication p = {.key = SLICE("q")};
    char arguments[64], head[1024];

    (void)state;
    declare_queues("abc");
    declare_type(X, EXCHANGE_HEADERS);
    bind_with(X, SLICE("a"), NOTHING, table("kind=1", arguments, sizeof arguments));
    bind_with(X, SLICE("b"), NOTHING, table("kind=2", arguments, sizeof arguments));
    assert_int_equal(broker_declare_queue(broker, SLICE("q"), &options, DECLARE_SAME), 0);
    p.head = amqp_head("kind=2", head, sizeof head);
    assert_string_equal(publish_all(p), "q");
    p.head = amqp_head("kind=3", head, sizeof head);
    assert_string_equal(publish_all(p), "q");
    turn();
    now_us += 2 * US_PER_S;
    turn();
    assert_true(broker_find_queue(broker, SLICE("q"), &view) && view.numbers.ready == 0);
    assert_true(broker_find_queue(broker, SLICE("a"), &view) && view.numbers.ready == 0);
    assert_true(broker_find_queue(broker, SLICE("b"), &view) && view.numbers.ready == 1);
}

/* ---- from exchange to exchange --------------------------------------------------------------------------------------- */

static void exchanges_lead_to_exchanges_with_the_same_key(void **state)
{
    (void)state;
    declare_queues("abc");
    declare_type(X, EXCHANGE_TOPIC);
    declare_type(SLICE("y"), EXCHANGE_DIRECT);
    declare_type(SLICE("z"), EXCHANGE_FANOUT);
    bind_exchange(X, SLICE("y"), "#.b");
    bind_exchange(SLICE("y"), SLICE("z"), "a.b");
    bind(X, "a", "a.#");
    bind(SLICE("y"), "b", "c.b");
    bind(SLICE("z"), "c", "");
    bind(SLICE("z"), "a", "");
    assert_string_equal(publish(X, "a.b"), "ac");
    assert_string_equal(publish(X, "c.b"), "b");
    assert_string_equal(publish(X, "a.c"), "a");
    assert_string_equal(publish(X, "x.b"), "-");
}

static void a_cycle_is_gone_round_once(void **state)
{
    (void)state;
    declare_queues("ab");
    declare_type(X, EXCHANGE_FANOUT);
    declare_type(SLICE("y"), EXCHANGE_FANOUT);
    bind_exchange(X, X, "");
    bind_exchange(X, SLICE("y"), "");
    bind_exchange(SLICE("y"), X, "");
    bind(SLICE("y"), "a", "");
    bind(X, "b", "");
    assert_string_equal(publish(X, ""), "ab");
    assert_string_equal(publish(SLICE("y"), ""), "ab");
    assert_int_equal(broker_delete_exchange(broker, X, false), 0);
    assert_string_equal(publish(SLICE("y"), ""), "a");
}

static void what_leads_nowhere_goes_to_the_alternate(void **state)
{
    struct broker_exchange_options of_x = {.alternate = SLICE("y")}, of_y = {.alternate = X};

    (void)state;
    declare_queues("ab");
    assert_int_equal(declare(X, of_x), 0);
    bind(X, "a", "one");
    assert_string_equal(publish(X, "two"), "-"); /* there is no y */
    assert_int_equal(declare(SLICE("y"), of_y), 0);
    assert_string_equal(publish(X, "two"), "-"); /* x and y are each other's */
    bind(SLICE("y"), "b", "two");
    assert_string_equal(publish(X, "two"), "b");
    assert_string_equal(publish(X, "one"), "a");
    assert_string_equal(publish(SLICE("y"), "one"), "a");
}

/* As RabbitMQ has it. */
static void one_that_leads_to_an_exchange_needs_no_alternate(void **state)
{
    struct broker_exchange_options of_x = {.type = EXCHANGE_FANOUT, .alternate = SLICE("z")};

    (void)state;
    declare_queues("a");
    assert_int_equal(declare(X, of_x), 0);
    declare_type(SLICE("y"), EXCHANGE_DIRECT);
    declare_type(SLICE("z"), EXCHANGE_FANOUT);
    bind(SLICE("z"), "a", "");
    bind_exchange(X, SLICE("y"), "");
    assert_string_equal(publish(X, "k"), "-");
    assert_int_equal(broker_delete_exchange(broker, SLICE("y"), false), 0);
    assert_string_equal(publish(X, "k"), "a");
}

/* ---- coming and going ------------------------------------------------------------------------------------------------ */

static void one_is_not_declared_again_as_another(void **state)
{
    struct broker_exchange_options options = {.type = EXCHANGE_TOPIC, .arguments = SLICE("\001aV\001bt\001")},
                                   other = options;

    (void)state;
    assert_int_equal(declare(X, options), 0);
    assert_int_equal(declare(X, options), 0);
    options.arguments = SLICE("\001bt\001\001aV"); /* the same in another order */
    assert_int_equal(declare(X, options), 0);
    other.type = EXCHANGE_DIRECT;
    assert_int_equal(declare(X, other), -EEXIST);
    assert_int_equal(broker_declare_exchange(broker, X, &other, DECLARE_SET), -EEXIST);
    other = options;
    other.durable = true;
    assert_int_equal(declare(X, other), -EEXIST);
    other = options;
    other.alternate = SLICE("y");
    assert_int_equal(declare(X, other), -EEXIST);
    assert_int_equal(broker_declare_exchange(broker, X, &other, DECLARE_SET), 0);
    assert_int_equal(declare(X, other), 0);
    other.arguments = NOTHING;
    assert_int_equal(declare(X, other), -EEXIST);
}

static void a_binding_is_its_source_destination_key_and_arguments(void **state)
{
    struct broker_exchange_view view;

    (void)state;
    declare_queues("ab");
    declare_type(X, EXCHANGE_DIRECT);
    declare_type(SLICE("a"), EXCHANGE_DIRECT);
    bind(X, "a", "k");
    bind(X, "a", "k");
    bind(X, "b", "k");
    bind(X, "a", "l");
    bind_exchange(X, SLICE("a"), "k");
    assert_int_equal(bind_with(X, SLICE("a"), SLICE("k"), SLICE("\001aV\001bt\001")), 0);
    assert_int_equal(bind_with(X, SLICE("a"), SLICE("k"), SLICE("\001bt\001\001aV")), 0);
    assert_true(broker_find_exchange(broker, X, &view));
    assert_int_equal(view.n_bindings, 5);
    assert_int_equal(unbind(X, "b", "l"), -ENOENT);
    assert_int_equal(unbind(X, "a", "k"), 0);
    assert_int_equal(unbind(X, "a", "k"), -ENOENT);
    assert_string_equal(publish(X, "k"), "ab"); /* by the one with arguments */
    assert_int_equal(
        broker_bind(broker, X, &(struct broker_destination){SLICE("c"), false}, NOTHING, NOTHING), -ENOENT);
    assert_int_equal(broker_bind(broker, X, &(struct broker_destination){SLICE("b"), true}, NOTHING, NOTHING),
                     -ENOENT);
}

static void what_is_deleted_takes_its_bindings_along(void **state)
{
    struct broker_exchange_view view;

    (void)state;
    declare_queues("ab");
    declare_type(X, EXCHANGE_FANOUT);
    declare_type(SLICE("y"), EXCHANGE_FANOUT);
    bind(X, "a", "1");
    bind(X, "a", "2");
    bind(X, "b", "");
    bind_exchange(SLICE("y"), X, "");
    assert_int_equal(broker_delete_queue(broker, SLICE("a"), false, now_us), 0);
    assert_true(broker_find_exchange(broker, X, &view) && view.n_bindings == 1);
    assert_int_equal(broker_delete_exchange(broker, X, true), -EBUSY);
    assert_int_equal(unbind(X, "b", ""), 0);
    assert_int_equal(broker_delete_exchange(broker, X, true), 0);
    assert_int_equal(broker_delete_exchange(broker, X, true), -ENOENT);
    assert_true(broker_find_exchange(broker, SLICE("y"), &view) && view.n_bindings == 0);
}

static void declare_auto(struct slice name)
{
    assert_int_equal(declare(name, (struct broker_exchange_options){.type = EXCHANGE_FANOUT,
                                                                    .durable = true,
                                                                    .auto_delete = true}),
                     0);
}

static void an_auto_delete_exchange_goes_with_the_last_binding_from_it(void **state)
{
    (void)state;
    declare_queues("ab");
    declare_auto(X);
    declare_auto(SLICE("y"));
    declare_auto(SLICE("z"));
    assert_true(is_there(X)); /* it never had one */
    bind(X, "a", "");
    bind(X, "b", "");
    bind_exchange(SLICE("y"), X, "");
    bind_exchange(SLICE("z"), SLICE("y"), "");
    bind_exchange(X, X, "");
    assert_int_equal(unbind(X, "a", ""), 0);
    assert_int_equal(broker_delete_queue(broker, SLICE("b"), false, now_us), 0);
    assert_true(is_there(X)); /* it leads to itself */
    assert_int_equal(broker_unbind(broker, X, &(struct broker_destination){X, true}, NOTHING, NOTHING), 0);
    assert_false(is_there(X) || is_there(SLICE("y")) || is_there(SLICE("z")));
    restart(false);
    assert_false(is_there(X) || is_there(SLICE("y")) || is_there(SLICE("z")));
}

/* ---- a restart ------------------------------------------------------------------------------------------------------- */

static void describe(void *arg, const struct broker_binding_view *view)
{
    char *text = arg;
    size_t len = strlen(text);

    snprintf(text + len, 512 - len, "%.*s>%s%.*s(%.*s)%zu ", SLICE_ARG(view->source),
             view->to_exchange ? "!" : "", SLICE_ARG(view->destination), SLICE_ARG(view->key),
             view->arguments.len);
}

static void all_is_there_after_a_restart(bool from_checkpoint)
{
    static const char expected[] = "x>a(k.*)0 x>!y(#)4 y>b()6 y>b()0 ";
    struct broker_exchange_options options = {.type = EXCHANGE_TOPIC,
                                              .durable = true,
                                              .internal = true,
                                              .alternate = SLICE("y"),
                                              .arguments = SLICE("\001aV")};
    struct broker_exchange_view view;
    char seen[512] = "";
    uint32_t id;

    declare_queues("ab");
    assert_int_equal(declare(X, options), 0);
    declare_type(SLICE("y"), EXCHANGE_HEADERS);
    bind(X, "a", "k.*");
    assert_int_equal(
        broker_bind(broker, X, &(struct broker_destination){SLICE("y"), true}, SLICE("#"), SLICE("\002abV")),
        0);
    assert_int_equal(bind_with(SLICE("y"), SLICE("b"), NOTHING, SLICE("\001aV\001bV")), 0);
    assert_int_equal(bind_with(SLICE("y"), SLICE("b"), NOTHING, NOTHING), 0);
    assert_true(broker_find_exchange(broker, X, &view));
    id = view.id;
    restart(from_checkpoint);
    assert_int_equal(declare(X, options), 0);
    assert_true(broker_find_exchange(broker, X, &view) && view.id == id && view.options->internal);
    broker_each_binding(broker, describe, seen);
    assert_string_equal(seen, expected);
    assert_string_equal(publish(X, "k.l"), "-"); /* it takes nothing from outside */
    declare_type(SLICE("z"), EXCHANGE_FANOUT);
    assert_int_equal(broker_bind(broker, SLICE("z"), &(struct broker_destination){X, true}, NOTHING, NOTHING),
                     0);
    assert_string_equal(publish(SLICE("z"), "k.l"), "ab");
    assert_true(broker_find_exchange(broker, SLICE("z"), &view) && view.published == 1);
    seen[0] = '\0';
    assert_true(
        broker_each_binding_to(broker, &(struct broker_destination){SLICE("b"), false}, describe, seen));
    assert_string_equal(seen, "y>b()6 y>b()0 ");
    seen[0] = '\0';
    assert_true(broker_each_binding_from(broker, X, describe, seen));
    assert_string_equal(seen, "x>a(k.*)0 x>!y(#)4 ");
    assert_false(broker_each_binding_from(broker, SLICE("b"), describe, seen));
}

static void the_log_brings_it_back(void **state)
{
    (void)state;
    all_is_there_after_a_restart(false);
}

static void a_checkpoint_brings_it_back(void **state)
{
    (void)state;
    all_is_there_after_a_restart(true);
}

static void one_that_is_not_durable_is_gone_after_a_restart(void **state)
{
    (void)state;
    declare_queues("a");
    for (unsigned round = 0; round < 3; round++) {
        assert_int_equal(declare(X, (struct broker_exchange_options){.type = EXCHANGE_FANOUT}), 0);
        assert_int_equal(declare(SLICE("u"), (struct broker_exchange_options){.auto_delete = true}), 0);
        declare_type(SLICE("y"), EXCHANGE_FANOUT);
        declare_auto(SLICE("z"));
        bind(X, "a", "");
        bind_exchange(SLICE("y"), X, "");
        bind_exchange(SLICE("z"), X, "");
        bind_exchange(SLICE("u"), X, "");
        assert_string_equal(publish(SLICE("y"), ""), "a");
        restart(round == 1);
        assert_false(is_there(X) || is_there(SLICE("u")) || is_there(SLICE("z")));
        assert_true(is_there(SLICE("y")));
        assert_string_equal(publish(SLICE("y"), ""), "-");
    }
}

/* ---- many ------------------------------------------------------------------------------------------------------------ */

#define MANY 100000u

static struct slice name_of(unsigned i, char name[24])
{
    return slice_of(name, (size_t)snprintf(name, 24, "key.%u.x", i));
}

static void bind_many(enum exchange_type type, const char *what)
{
    uint64_t start = clock_monotonic_us(), bound, routed;
    struct queue *targets[4];
    struct routing routing = {0};
    char name[24];

    declare_queues("abcd");
    declare_type(X, type);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(bind_with(X, slice_of(&"abcd"[i % 4], 1), name_of(i, name), NOTHING), 0);
    bound = clock_monotonic_us();
    routing.exchange = broker_exchange(broker, X);
    for (unsigned i = 0; i < MANY && type != EXCHANGE_FANOUT; i++) {
        routing.key = name_of(i, name);
        assert_int_equal(broker_route(broker, &routing, targets, 4), 1);
        assert_int_equal(targets[0]->name.ptr[0], 'a' + (char)(i % 4));
    }
    routed = clock_monotonic_us();
    for (unsigned i = 0; i < MANY / 2; i++)
        assert_int_equal(unbind(X, (char[]){(char)('a' + i % 4), '\0'}, (name_of(i, name), name)), 0);
    print_message("%s, %u bindings: bind %.2f us, route %.2f us, unbind %.2f us\n", what, MANY,
                  (double)(bound - start) / MANY, (double)(routed - bound) / MANY,
                  (double)(clock_monotonic_us() - routed) / MANY * 2);
    start = clock_monotonic_us();
    assert_int_equal(broker_delete_exchange(broker, X, false), 0);
    print_message("%s: deleting it %.1f ms\n", what, (double)(clock_monotonic_us() - start) / 1000);
}

/* A headers exchange asks each of them. */
static void time_headers(void)
{
    struct queue *targets[4];
    struct routing routing = {0};
    char text[24], arguments[64], head[1024];
    uint64_t start, routed;

    declare_type(SLICE("h"), EXCHANGE_HEADERS);
    start = clock_monotonic_us();
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(text, sizeof text, "number=%u", i % 30000);
        assert_int_equal(bind_with(SLICE("h"), slice_of(&"abcd"[i % 4], 1), name_of(i, head),
                                   table(text, arguments, sizeof arguments)),
                         0);
    }
    routed = clock_monotonic_us();
    routing.exchange = broker_exchange(broker, SLICE("h"));
    routing.head = amqp_head("number=4711 other=1", head, sizeof head);
    assert_int_equal(broker_route(broker, &routing, targets, 4), 1); /* by four bindings */
    print_message("headers, %u bindings: bind %.2f us, route %.2f ms\n", MANY,
                  (double)(routed - start) / MANY, (double)(clock_monotonic_us() - routed) / 1000);
}

static void a_hundred_thousand_bindings_of_one_exchange_are_no_burden(void **state)
{
    (void)state;
    bind_many(EXCHANGE_DIRECT, "direct");
    bind_many(EXCHANGE_TOPIC, "topic");
    bind_many(EXCHANGE_FANOUT, "fanout");
    time_headers();
}

static void fifty_thousand_queues_and_exchanges_are_found_by_name(void **state)
{
    struct broker_queue_options options = {.ack_timeout_us = US_PER_S};
    uint64_t start = clock_monotonic_us(), declared;
    char name[24];

    (void)state;
    for (unsigned i = 0; i < MANY / 2; i++) {
        assert_int_equal(broker_declare_queue(broker, name_of(i, name), &options, DECLARE_SAME), 0);
        declare_type(name_of(i, name), EXCHANGE_FANOUT);
        bind(name_of(i, name), name, "");
    }
    declared = clock_monotonic_us();
    for (unsigned i = 0; i < MANY / 2; i++)
        assert_int_equal(broker_delete_queue(broker, name_of(i, name), false, now_us), 0);
    print_message("%u queues and exchanges: declared and bound %.2f us, a queue deleted %.2f us\n", MANY / 2,
                  (double)(declared - start) / MANY * 2,
                  (double)(clock_monotonic_us() - declared) / MANY * 2);
}

static void a_chain_of_exchanges_goes_with_its_last_link(void **state)
{
    char name[24], next[24];

    (void)state;
    declare_queues("a");
    for (unsigned i = 0; i < MANY / 2; i++)
        declare_auto(name_of(i, name));
    for (unsigned i = 0; i < MANY / 2 - 1; i++)
        bind_exchange(name_of(i, name), name_of(i + 1, next), "");
    bind(name_of(MANY / 2 - 1, name), "a", "");
    assert_string_equal(publish(name_of(0, name), ""), "a");
    assert_int_equal(broker_delete_queue(broker, SLICE("a"), false, now_us), 0);
    assert_false(is_there(name_of(0, name)));
}

/* ---- names ----------------------------------------------------------------------------------------------------------- */

static void names_may_have_512_bytes_and_keys_255(void **state)
{
    static char text[BROKER_NAME_MAX + 1];
    struct slice name = slice_of(text, BROKER_NAME_MAX), too_long = slice_of(text, sizeof text);
    struct broker_queue_options options = {.ack_timeout_us = US_PER_S,
                                           .retry_first_us = US_PER_S,
                                           .retry_most_us = US_PER_S,
                                           .max_age_us = US_PER_S,
                                           .has_dead_letter = true,
                                           .dead_key = SLICE("a")};
    struct broker_publication p = {.exchange = name};
    struct broker_published published;
    uint64_t n;

    (void)state;
    memset(text, 'n', sizeof text);
    declare_queues("a");
    assert_int_equal(declare(too_long, (struct broker_exchange_options){0}), -ENAMETOOLONG);
    assert_int_equal(declare(X, (struct broker_exchange_options){.alternate = too_long}), -ENAMETOOLONG);
    declare_type(name, EXCHANGE_FANOUT);
    assert_int_equal(broker_declare_queue(broker, name, &options, DECLARE_SAME), 0);
    assert_int_equal(bind_with(name, name, slice_of(text, BROKER_KEY_MAX + 1), NOTHING), -ENAMETOOLONG);
    assert_int_equal(bind_with(name, name, slice_of(text, BROKER_KEY_MAX), NOTHING), 0);
    p.key = slice_of(text, BROKER_KEY_MAX + 1);
    assert_int_equal(broker_publish(broker, &p, &published, now_us), PUBLISH_TOO_LARGE);
    p.key = slice_of(text, BROKER_KEY_MAX);
    assert_int_equal(broker_publish(broker, &p, &published, now_us), PUBLISH_OK);
    turn();
    now_us += 2 * US_PER_S; /* it dies, and its death tells of both names */
    turn();
    assert_int_equal(broker_move(broker, SLICE("a"), name, 1, &n, now_us), 0);
    assert_int_equal(n, 1);
    restart(true);
    assert_true(is_there(name));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_direct_exchange_leads_by_the_whole_key),
        TEST(a_fanout_exchange_leads_to_all_once),
        TEST(a_topic_exchange_leads_by_patterns_and_to_no_queue_twice),
        TEST(more_keys_lead_where_any_of_them_does),
        TEST(a_headers_exchange_asks_as_x_match_says),
        TEST(what_x_match_cannot_say_is_refused),
        TEST(of_http_the_fields_are_headers_in_lower_case),
        TEST(the_dead_go_by_their_headers_too),
        TEST(exchanges_lead_to_exchanges_with_the_same_key),
        TEST(a_cycle_is_gone_round_once),
        TEST(what_leads_nowhere_goes_to_the_alternate),
        TEST(one_that_leads_to_an_exchange_needs_no_alternate),
        TEST(one_is_not_declared_again_as_another),
        TEST(a_binding_is_its_source_destination_key_and_arguments),
        TEST(what_is_deleted_takes_its_bindings_along),
        TEST(an_auto_delete_exchange_goes_with_the_last_binding_from_it),
        TEST(the_log_brings_it_back),
        TEST(a_checkpoint_brings_it_back),
        TEST(one_that_is_not_durable_is_gone_after_a_restart),
        TEST(a_hundred_thousand_bindings_of_one_exchange_are_no_burden),
        TEST(fifty_thousand_queues_and_exchanges_are_found_by_name),
        TEST(a_chain_of_exchanges_goes_with_its_last_link),
        TEST(names_may_have_512_bytes_and_keys_255),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
