/* test_amqp.c - AMQP's bytes: what is put comes back, what is cut short or wrong is refused. Vectors are what pika 1.2 writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "wire/amqp.h"
#include "wire/amqp_table.h"

static char bytes[4096];

/* A vector of hexadecimal digits, in a block of its exact size; the caller frees it. */
static struct slice unhex(const char *text)
{
    size_t n = strlen(text) / 2;
    char *block = malloc(n);

    for (size_t i = 0; i < n; i++) {
        unsigned byte;

        assert_int_equal(sscanf(text + 2 * i, "%2x", &byte), 1);
        block[i] = (char)byte;
    }
    return slice_of(block, n);
}

static struct slice exact(struct slice s)
{
    char *block = malloc(s.len);

    if (s.len)
        memcpy(block, s.ptr, s.len);
    return slice_of(block, s.len);
}

static void drop(struct slice s)
{
    free((char *)(uintptr_t)s.ptr);
}

/* ---- frames ---------------------------------------------------------------------------------------------------------- */

static void a_protocol_header_is_taken_or_refused_at_the_first_wrong_byte(void **state)
{
    struct slice in;

    (void)state;
    for (size_t n = 0; n < AMQP_HEADER_BYTES; n++) {
        in = slice_of(amqp_header, n);
        assert_int_equal(amqp_take_header(&in), AMQP_MORE);
        assert_int_equal(in.len, n);
    }
    in = slice_of("AMQP\0\0\x09\x01rest", 12);
    assert_int_equal(amqp_take_header(&in), AMQP_OK);
    assert_int_equal(in.len, 4);
    in = SLICE("G");
    assert_int_equal(amqp_take_header(&in), AMQP_BAD);
    in = slice_of("AMQP\0\1\0\0", 8);
    assert_int_equal(amqp_take_header(&in), AMQP_BAD);
}

static struct slice put_frame(enum amqp_frame_type type, uint16_t channel, struct slice payload)
{
    char *at = amqp_begin_frame(bytes);

    if (payload.len)
        memcpy(at, payload.ptr, payload.len);
    return slice_of(bytes, (size_t)(amqp_end_frame(bytes, at + payload.len, type, channel) - bytes));
}

static void a_frame_is_taken_whole_or_not_at_all(void **state)
{
    struct slice whole = exact(put_frame(AMQP_BODY, 517, SLICE("some body")));
    struct amqp_frame frame;
    const char *why;

    (void)state;
    for (size_t n = 0; n < whole.len; n++) {
        struct slice part = exact(slice_of(whole.ptr, n)), in = part;

        assert_int_equal(amqp_take_frame(&in, 4096, &frame, &why), AMQP_MORE);
        assert_int_equal(in.len, n);
        drop(part);
    }
    {
        struct slice in = whole;

        assert_int_equal(amqp_take_frame(&in, 4096, &frame, &why), AMQP_OK);
        assert_int_equal(in.len, 0);
        assert_int_equal(frame.channel, 517);
        assert_true(frame.type == AMQP_BODY && slice_equal(frame.payload, SLICE("some body")));
    }
    drop(whole);
}

static void a_frame_over_the_limit_is_refused_before_its_bytes_come(void **state)
{
    struct slice in = slice_of("\3\0\1\0\0\x0f\xf9", 7); /* 4089 bytes, with what is around them 4097 */
    struct amqp_frame frame;
    const char *why;

    (void)state;
    assert_int_equal(amqp_take_frame(&in, 4096, &frame, &why), AMQP_BAD);
    assert_string_equal(why, "the frame is larger than was agreed on");
    in = slice_of("\3\0\1\0\0\x0f\xf8", 7);
    assert_int_equal(amqp_take_frame(&in, 4096, &frame, &why), AMQP_MORE);
}

static void a_frame_without_its_end_or_of_no_type_is_refused(void **state)
{
    struct slice in = slice_of("\x08\0\0\0\0\0\0\xcf", 8);
    struct amqp_frame frame;
    const char *why;

    (void)state;
    assert_int_equal(amqp_take_frame(&in, 4096, &frame, &why), AMQP_BAD);
    assert_string_equal(why, "the frame does not end where its size says");
    in = slice_of("\x04", 1);
    assert_int_equal(amqp_take_frame(&in, 4096, &frame, &why), AMQP_BAD);
    in = slice_of("\x08\0\0\0\0\0\0\xce", 8);
    assert_int_equal(amqp_take_frame(&in, 4096, &frame, &why), AMQP_OK);
    assert_int_equal(frame.type, AMQP_HEARTBEAT);
}

/* ---- methods --------------------------------------------------------------------------------------------------------- */

static void methods_are_what_pika_writes(void **state)
{
    static const struct {
        const char *hex;
        struct amqp_method method;
    } vectors[] = {
        {"0032000a0000017102000000120c782d6d61782d6c656e6774684900000005",
         {.id = AMQP_QUEUE_DECLARE,
          .queue = {"q", 1},
          .durable = true,
          .table = {"\x0cx-max-lengthI\0\0\0\5", 18}}},
        {"003c00280000016502726b01",
         {.id = AMQP_BASIC_PUBLISH, .exchange = {"e", 1}, .routing_key = {"rk", 2}, .mandatory = true}},
        {"003c003c0174000000000000012c010165016b",
         {.id = AMQP_BASIC_DELIVER,
          .consumer_tag = {"t", 1},
          .delivery_tag = 300,
          .redelivered = true,
          .exchange = {"e", 1},
          .routing_key = {"k", 1}}},
        {"000a001f07ff00020000003c",
         {.id = AMQP_CONNECTION_TUNE_OK, .channel_max = 2047, .frame_max = 131072, .heartbeat = 60}},
        {"003c0078000000000000000701", {.id = AMQP_BASIC_NACK, .delivery_tag = 7, .multiple = true}},
        {"00280033", {.id = AMQP_EXCHANGE_UNBIND_OK}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        struct slice vector = unhex(vectors[i].hex);
        struct amqp_method method;
        const char *why;

        assert_int_equal(amqp_method_bytes(&vectors[i].method), vector.len);
        assert_ptr_equal(amqp_put_method(bytes, &vectors[i].method), bytes + vector.len);
        assert_memory_equal(bytes, vector.ptr, vector.len);
        assert_int_equal(amqp_take_method(vector, &method, &why), AMQP_OK);
        assert_int_equal(method.id, vectors[i].method.id);
        assert_true(slice_equal(method.queue, vectors[i].method.queue));
        assert_true(slice_equal(method.table, vectors[i].method.table));
        assert_true(slice_equal(method.exchange, vectors[i].method.exchange));
        assert_int_equal(method.delivery_tag, vectors[i].method.delivery_tag);
        assert_int_equal(method.mandatory, vectors[i].method.mandatory);
        assert_int_equal(method.redelivered, vectors[i].method.redelivered);
        assert_int_equal(method.multiple, vectors[i].method.multiple);
        assert_false(method.requeue || method.exclusive || method.no_wait);
        drop(vector);
    }
}

/* Every argument that any method has. */
static struct amqp_method everything(uint32_t id)
{
    return (struct amqp_method){
        .id = (enum amqp_method_id)id,
        .delivery_tag = UINT64_MAX - 1,
        .frame_max = 131072,
        .prefetch_size = 3,
        .message_count = 4,
        .consumer_count = 5,
        .reply_code = 404,
        .class_id = 60,
        .method_id = 40,
        .channel_max = 2047,
        .heartbeat = 60,
        .prefetch_count = 100,
        .ticket = 1,
        .version_major = 0,
        .version_minor = 9,
        .table = SLICE("\1at\1"),
        .exchange = SLICE("exchange"),
        .queue = SLICE("queue"),
        .routing_key = SLICE("routing.key"),
        .consumer_tag = SLICE("tag"),
        .destination = SLICE("destination"),
        .type = SLICE("topic"),
        .mechanism = SLICE("PLAIN"),
        .locale = SLICE("en_US"),
        .response = SLICE("\0guest\0guest"),
        .challenge = SLICE("challenge"),
        .virtual_host = SLICE("/"),
        .reply_text = SLICE("NOT_FOUND"),
        .reason = SLICE("reason"),
        .secret = SLICE("secret"),
        .realm = SLICE("/data"),
        .passive = true,
        .durable = true,
        .auto_delete = true,
        .internal = true,
        .exclusive = true,
        .no_wait = true,
        .if_unused = true,
        .if_empty = true,
        .no_local = true,
        .no_ack = true,
        .mandatory = true,
        .immediate = true,
        .redelivered = true,
        .multiple = true,
        .requeue = true,
        .global = true,
        .active = true,
        .write = true,
        .read = true,
    };
}

/* Calls each for every method that there is. */
static unsigned each_method(void (*each)(uint32_t id))
{
    unsigned n = 0;

    for (uint32_t class = 0; class < 128; class ++)
        for (uint32_t method = 0; method < 128; method++)
            if (amqp_method_name(AMQP_ID(class, method))) {
                each(AMQP_ID(class, method));
                n++;
            }
    return n;
}

static void comes_back(uint32_t id)
{
    struct amqp_method method = everything(id), back;
    size_t n = amqp_method_bytes(&method);
    struct slice payload;
    static char again[4096];
    const char *why;

    assert_true(n >= 4 && n < sizeof bytes);
    assert_ptr_equal(amqp_put_method(bytes, &method), bytes + n);
    payload = exact(slice_of(bytes, n));
    assert_int_equal(amqp_take_method(payload, &back, &why), AMQP_OK);
    assert_int_equal(back.id, id);
    assert_int_equal(amqp_method_bytes(&back), n);
    assert_ptr_equal(amqp_put_method(again, &back), again + n);
    assert_memory_equal(again, payload.ptr, n);
    for (size_t cut = 0; cut < n; cut++) {
        struct slice part = exact(slice_of(payload.ptr, cut));

        assert_int_equal(amqp_take_method(part, &back, &why), AMQP_BAD);
        drop(part);
    }
    drop(payload);
    bytes[n] = 0;
    assert_int_equal(amqp_take_method(slice_of(bytes, n + 1), &back, &why), AMQP_BAD);
    assert_string_equal(why, "something stands behind the method");
}

static void every_method_comes_back_and_none_is_taken_in_part(void **state)
{
    (void)state;
    assert_int_equal(each_method(comes_back), 66);
}

static void a_method_that_is_not_known_says_which(void **state)
{
    struct amqp_method method;
    const char *why;

    (void)state;
    assert_int_equal(amqp_take_method(slice_of("\0\x3c\0\x05", 4), &method, &why), AMQP_BAD);
    assert_int_equal(method.id, AMQP_ID(60, 5));
    assert_string_equal(why, "there is no such method");
    assert_string_equal(amqp_method_name(AMQP_BASIC_PUBLISH), "basic.publish");
}

static void a_text_of_256_bytes_is_not_put(void **state)
{
    static char text[256];
    struct amqp_method method = {.id = AMQP_QUEUE_DELETE, .queue = slice_of(text, 256)};

    (void)state;
    assert_int_equal(amqp_method_bytes(&method), 0);
    method.queue.len = 255;
    assert_int_equal(amqp_method_bytes(&method), 4 + 2 + 256 + 1);
}

/* ---- content headers ------------------------------------------------------------------------------------------------- */

static void properties_are_what_pika_writes(void **state)
{
    struct slice vector = unhex(
        "003c00000000000000000005bffc0a746578742f706c61696e0000000701614900000001020301630172053630303030016d"
        "000000006553f100017401750361707002636c");
    struct amqp_content content;
    const char *why;

    (void)state;
    assert_int_equal(amqp_take_content(vector, &content, &why), AMQP_OK);
    assert_int_equal(content.body_bytes, 5);
    assert_true(slice_equal(content.texts[AMQP_CONTENT_TYPE], SLICE("text/plain")));
    assert_false(amqp_content_has(&content, AMQP_CONTENT_ENCODING));
    assert_int_equal(content.headers.len, 7);
    assert_true(content.delivery_mode == 2 && content.priority == 3 && content.timestamp == 1700000000);
    assert_true(slice_equal(content.texts[AMQP_EXPIRATION], SLICE("60000")));
    assert_true(slice_equal(content.texts[AMQP_CLUSTER_ID], SLICE("cl")));
    assert_int_equal(amqp_content_bytes(&content), vector.len);
    assert_ptr_equal(amqp_put_content(bytes, &content), bytes + vector.len);
    assert_memory_equal(bytes, vector.ptr, vector.len);
    for (size_t cut = 0; cut < vector.len; cut++) {
        struct slice part = exact(slice_of(vector.ptr, cut));

        assert_int_equal(amqp_take_content(part, &content, &why), AMQP_BAD);
        drop(part);
    }
    drop(vector);
}

static void any_properties_come_back(void **state)
{
    (void)state;
    for (unsigned flags = 0; flags <= 0xffff; flags += 4) {
        struct amqp_content content = {.body_bytes = flags, .flags = (uint16_t)flags}, back;
        const char *why;

        for (unsigned i = 0; i < 16; i++)
            content.texts[i] = SLICE("text");
        assert_int_equal(amqp_put_content(bytes, &content) - bytes, amqp_content_bytes(&content));
        assert_int_equal(amqp_take_content(slice_of(bytes, amqp_content_bytes(&content)), &back, &why),
                         AMQP_OK);
        assert_int_equal(back.flags, flags);
    }
}

static void properties_that_do_not_exist_are_refused(void **state)
{
    struct slice more = unhex("003c000000000000000000050001"), other = unhex("0032000000000000000000050000");
    struct amqp_content content;
    const char *why;

    (void)state;
    assert_int_equal(amqp_take_content(more, &content, &why), AMQP_BAD);
    assert_string_equal(why, "there are properties that basic does not have");
    assert_int_equal(amqp_take_content(other, &content, &why), AMQP_BAD);
    assert_string_equal(why, "only basic has content");
    drop(more);
    drop(other);
}

/* ---- tables ---------------------------------------------------------------------------------------------------------- */

static void every_letter_has_the_meaning_that_rabbitmq_gives_it(void **state)
{
    static const struct {
        const char *item;
        size_t n;
        enum amqp_type type;
        int64_t integer;
    } rows[] = {
        {"t\1", 2, AMQP_BOOL, 1},
        {"b\xff", 2, AMQP_INTEGER, -1},
        {"B\xff", 2, AMQP_INTEGER, 255},
        {"s\xff\xfe", 3, AMQP_INTEGER, -2},
        {"u\xff\xfe", 3, AMQP_INTEGER, 65534},
        {"I\xff\xff\xff\xfd", 5, AMQP_INTEGER, -3},
        {"i\xff\xff\xff\xfd", 5, AMQP_INTEGER, 4294967293},
        {"l\xff\xff\xff\xff\xff\xff\xff\xfc", 9, AMQP_INTEGER, -4},
        {"L\xff\xff\xff\xff\xff\xff\xff\xfc", 9, AMQP_INTEGER, -4},
        {"f\x3f\xc0\0\0", 5, AMQP_REAL, 0},
        {"d\x3f\xf8\0\0\0\0\0\0", 9, AMQP_REAL, 0},
        {"D\2\0\0\0\x7b", 6, AMQP_DECIMAL, 123},
        {"S\0\0\0\2ab", 7, AMQP_TEXT, 0},
        {"x\0\0\0\2ab", 7, AMQP_BYTES, 0},
        {"T\0\0\0\0\0\0\0\5", 9, AMQP_TIME, 5},
        {"A\0\0\0\2t\1", 7, AMQP_ARRAY, 0},
        {"F\0\0\0\3\1kV", 8, AMQP_TABLE, 0},
        {"V", 1, AMQP_VOID, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct slice item = exact(slice_of(rows[i].item, rows[i].n)), rest = item;
        struct amqp_value value = {0};

        assert_true(amqp_array_take(&rest, &value));
        assert_int_equal(rest.len, 0);
        assert_int_equal(value.type, rows[i].type);
        assert_true(value.integer == rows[i].integer);
        if (value.type == AMQP_REAL)
            assert_true(value.real > 1.4 && value.real < 1.6);
        for (size_t cut = 1; cut < item.len; cut++) {
            struct slice part = exact(slice_of(item.ptr, cut)), left = part;

            assert_false(amqp_array_take(&left, &value));
            assert_int_equal(left.len, cut);
            drop(part);
        }
        drop(item);
    }
}

static struct slice put_table(struct amqp_value *values, size_t n)
{
    char *at = bytes;
    size_t sum = 0;

    for (size_t i = 0; i < n; i++) {
        sum += amqp_table_item_bytes(&values[i]);
        at = amqp_table_put(at, &values[i]);
    }
    assert_int_equal(at - bytes, sum);
    return slice_of(bytes, sum);
}

static void what_is_written_has_safe_letters_and_the_same_value(void **state)
{
    struct amqp_value values[] = {
        {.name = SLICE("small"), .type = AMQP_INTEGER, .integer = -5},
        {.name = SLICE("short"), .type = AMQP_INTEGER, .integer = 300},
        {.name = SLICE("long"), .type = AMQP_INTEGER, .integer = 70000},
        {.name = SLICE("longlong"), .type = AMQP_INTEGER, .integer = INT64_C(1) << 40},
        {.name = SLICE("real"), .type = AMQP_REAL, .real = 0.25},
        {.name = SLICE("text"), .type = AMQP_TEXT, .bytes = SLICE("value")},
        {.name = SLICE("time"), .type = AMQP_TIME, .integer = 1700000000},
        {.name = SLICE("nested"), .type = AMQP_TABLE, .bytes = SLICE("\1nu\0\1\1lL\0\0\0\0\0\0\0\2")},
        {.name = SLICE("array"),
         .type = AMQP_ARRAY,
         .bytes = SLICE("B\xff"
                        "i\0\0\0\1")},
        {.name = SLICE("void"), .type = AMQP_VOID},
    };
    size_t n = sizeof values / sizeof values[0];
    struct slice table = put_table(values, n), rest = table;
    struct amqp_value value;

    (void)state;
    assert_true(amqp_table_is_valid(table));
    for (size_t i = 0; i < n; i++) {
        assert_true(amqp_table_take(&rest, &value));
        assert_true(slice_equal(value.name, values[i].name) && amqp_value_equal(&value, &values[i]));
    }
    assert_true(amqp_table_find(table, SLICE("nested"), &value));
    assert_true(slice_equal(value.bytes, SLICE("\1nb\1\1lb\2")));
    assert_true(amqp_table_find(table, SLICE("array"), &value));
    assert_true(slice_equal(value.bytes, SLICE("s\0\xff"
                                               "b\1")));
    assert_false(amqp_table_find(table, SLICE("none"), &value));
}

static void a_decimal_is_written_as_a_real(void **state)
{
    struct amqp_value decimal = {.name = SLICE("d"), .type = AMQP_DECIMAL, .integer = 125, .scale = 3}, value;
    struct slice table = put_table(&decimal, 1);

    (void)state;
    assert_true(amqp_table_find(table, SLICE("d"), &value));
    assert_true(value.type == AMQP_REAL && value.real > 0.1249 && value.real < 0.1251);
}

static void tables_are_equal_by_value_in_any_order(void **state)
{
    (void)state;
    assert_true(amqp_table_equal(SLICE("\1ab\1\1bS\0\0\0\1x"), SLICE("\1bS\0\0\0\1x\1aI\0\0\0\1")));
    assert_false(amqp_table_equal(SLICE("\1ab\1"), SLICE("\1ab\2")));
    assert_false(amqp_table_equal(SLICE("\1ab\1"), SLICE("\1ab\1\1bb\1")));
    assert_false(amqp_table_equal(SLICE("\1ab\1"), SLICE("\1aS\0\0\0\1\1")));
    assert_true(amqp_table_equal(SLICE("\1aA\0\0\0\2b\1"), SLICE("\1aA\0\0\0\3u\0\1")));
    assert_false(amqp_table_equal(SLICE("\1aA\0\0\0\2b\1"), SLICE("\1aA\0\0\0\4b\1b\1")));
    assert_true(amqp_table_equal(SLICE(""), SLICE("")));
}

static void a_table_in_too_many_tables_is_not_valid(void **state)
{
    size_t len = 0;

    (void)state;
    for (unsigned depth = 1; depth <= AMQP_DEPTH_MAX; depth++) {
        memmove(bytes + 7, bytes, len);
        memcpy(bytes, "\1tF\0\0\0", 6);
        bytes[6] = (char)len;
        bytes[5] = (char)(len >> 8);
        len += 7;
        assert_int_equal(amqp_table_is_valid(slice_of(bytes, len)), depth < AMQP_DEPTH_MAX);
    }
}

static void a_table_that_is_cut_or_has_an_unknown_letter_is_not_valid(void **state)
{
    (void)state;
    assert_false(amqp_table_is_valid(SLICE("\1ab")));
    assert_false(amqp_table_is_valid(SLICE("\1aZ")));
    assert_false(amqp_table_is_valid(SLICE("\1aF\0\0\0\2\1b")));
    assert_false(amqp_table_is_valid(SLICE("\1aS\xff\xff\xff\xff")));
}

static void reply_codes_close_what_rabbitmq_closes(void **state)
{
    (void)state;
    assert_false(amqp_reply_ends_connection(AMQP_NOT_FOUND));
    assert_false(amqp_reply_ends_connection(AMQP_PRECONDITION_FAILED));
    assert_true(amqp_reply_ends_connection(AMQP_SYNTAX_ERROR));
    assert_true(amqp_reply_ends_connection(AMQP_NOT_ALLOWED));
    assert_string_equal(amqp_reply_name(405), "RESOURCE_LOCKED");
    assert_null(amqp_reply_name(1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_protocol_header_is_taken_or_refused_at_the_first_wrong_byte),
        cmocka_unit_test(a_frame_is_taken_whole_or_not_at_all),
        cmocka_unit_test(a_frame_over_the_limit_is_refused_before_its_bytes_come),
        cmocka_unit_test(a_frame_without_its_end_or_of_no_type_is_refused),
        cmocka_unit_test(methods_are_what_pika_writes),
        cmocka_unit_test(every_method_comes_back_and_none_is_taken_in_part),
        cmocka_unit_test(a_method_that_is_not_known_says_which),
        cmocka_unit_test(a_text_of_256_bytes_is_not_put),
        cmocka_unit_test(properties_are_what_pika_writes),
        cmocka_unit_test(any_properties_come_back),
        cmocka_unit_test(properties_that_do_not_exist_are_refused),
        cmocka_unit_test(every_letter_has_the_meaning_that_rabbitmq_gives_it),
        cmocka_unit_test(what_is_written_has_safe_letters_and_the_same_value),
        cmocka_unit_test(a_decimal_is_written_as_a_real),
        cmocka_unit_test(tables_are_equal_by_value_in_any_order),
        cmocka_unit_test(a_table_in_too_many_tables_is_not_valid),
        cmocka_unit_test(a_table_that_is_cut_or_has_an_unknown_letter_is_not_valid),
        cmocka_unit_test(reply_codes_close_what_rabbitmq_closes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
