/* test_amqp_method.c - wire/amqp.h: every method as it is on the wire. The vectors are what pika 1.2 writes, which
 * librabbitmq 0.11 reads and writes alike; those of update-secret, which neither has, are by hand. */
#include "amqp_kit.h"
#include "wire/amqp.h"

struct row {
    const char *hex; /* the payload of its frame */
    struct amqp_method method;
};

static const struct row rows[] = {
    {"000a000a010900000004016174010000000e504c41494e20414d51504c41494e00000005656e5f5553",
     {.id = AMQP_CONNECTION_START,
      .version_major = 1,
      .version_minor = 9,
      .table = TEXT("\1at\1"),
      .mechanism = TEXT("PLAIN AMQPLAIN"),
      .locale = TEXT("en_US")}},
    {"000a000b000000040161740105504c41494e00000006006d6500707705656e5f5553",
     {.id = AMQP_CONNECTION_START_OK,
      .table = TEXT("\1at\1"),
      .mechanism = TEXT("PLAIN"),
      .response = TEXT("\0me\0pw"),
      .locale = TEXT("en_US")}},
    {"000a00140000000477686f3f", {.id = AMQP_CONNECTION_SECURE, .challenge = TEXT("who?")}},
    {"000a0015000000026d65", {.id = AMQP_CONNECTION_SECURE_OK, .response = TEXT("me")}},
    {"000a001e07ff00020000003c",
     {.id = AMQP_CONNECTION_TUNE, .channel_max = 2047, .frame_max = 131072, .heartbeat = 60}},
    {"000a001f0001000010000244",
     {.id = AMQP_CONNECTION_TUNE_OK, .channel_max = 1, .frame_max = 4096, .heartbeat = 580}},
    {"000a0028012f0000", {.id = AMQP_CONNECTION_OPEN, .virtual_host = TEXT("/")}},
    {"000a002900", {.id = AMQP_CONNECTION_OPEN_OK}},
    {"000a0032014003627965003c0028",
     {.id = AMQP_CONNECTION_CLOSE,
      .reply_code = 320,
      .reply_text = TEXT("bye"),
      .class_id = 60,
      .method_id = 40}},
    {"000a0033", {.id = AMQP_CONNECTION_CLOSE_OK}},
    {"000a003c046469736b", {.id = AMQP_CONNECTION_BLOCKED, .reason = TEXT("disk")}},
    {"000a003d", {.id = AMQP_CONNECTION_UNBLOCKED}},
    {"000a0046000000027333036f6c64",
     {.id = AMQP_CONNECTION_UPDATE_SECRET, .secret = TEXT("s3"), .reason = TEXT("old")}},
    {"000a0047", {.id = AMQP_CONNECTION_UPDATE_SECRET_OK}},
    {"0014000a00", {.id = AMQP_CHANNEL_OPEN}},
    {"0014000b00000000", {.id = AMQP_CHANNEL_OPEN_OK}},
    {"0014001401", {.id = AMQP_CHANNEL_FLOW, .active = true}},
    {"0014001501", {.id = AMQP_CHANNEL_FLOW_OK, .active = true}},
    {"001400280194094e4f545f464f554e4400320014",
     {.id = AMQP_CHANNEL_CLOSE,
      .reply_code = 404,
      .reply_text = TEXT("NOT_FOUND"),
      .class_id = 50,
      .method_id = 20}},
    {"00140029", {.id = AMQP_CHANNEL_CLOSE_OK}},
    {"001e000a052f6461746116",
     {.id = AMQP_ACCESS_REQUEST, .realm = TEXT("/data"), .passive = true, .active = true, .read = true}},
    {"001e000b0001", {.id = AMQP_ACCESS_REQUEST_OK, .ticket = 1}},
    {"0028000a0000016505746f7069631a0000000401617401",
     {.id = AMQP_EXCHANGE_DECLARE,
      .exchange = TEXT("e"),
      .type = TEXT("topic"),
      .durable = true,
      .internal = true,
      .no_wait = true,
      .table = TEXT("\1at\1")}},
    {"0028000b", {.id = AMQP_EXCHANGE_DECLARE_OK}},
    {"002800140000016501", {.id = AMQP_EXCHANGE_DELETE, .exchange = TEXT("e"), .if_unused = true}},
    {"00280015", {.id = AMQP_EXCHANGE_DELETE_OK}},
    {"0028001e0000016401730123010000000401617401",
     {.id = AMQP_EXCHANGE_BIND,
      .destination = TEXT("d"),
      .exchange = TEXT("s"),
      .routing_key = TEXT("#"),
      .no_wait = true,
      .table = TEXT("\1at\1")}},
    {"0028001f", {.id = AMQP_EXCHANGE_BIND_OK}},
    {"002800280000016401730123000000000401617401",
     {.id = AMQP_EXCHANGE_UNBIND,
      .destination = TEXT("d"),
      .exchange = TEXT("s"),
      .routing_key = TEXT("#"),
      .table = TEXT("\1at\1")}},
    {"00280033", {.id = AMQP_EXCHANGE_UNBIND_OK}},
    {"0032000a00000171150000000401617401",
     {.id = AMQP_QUEUE_DECLARE,
      .queue = TEXT("q"),
      .passive = true,
      .exclusive = true,
      .no_wait = true,
      .table = TEXT("\1at\1")}},
    {"0032000b01710000000700011170",
     {.id = AMQP_QUEUE_DECLARE_OK, .queue = TEXT("q"), .message_count = 7, .consumer_count = 70000}},
    {"00320014000001710165016b010000000401617401",
     {.id = AMQP_QUEUE_BIND,
      .queue = TEXT("q"),
      .exchange = TEXT("e"),
      .routing_key = TEXT("k"),
      .no_wait = true,
      .table = TEXT("\1at\1")}},
    {"00320015", {.id = AMQP_QUEUE_BIND_OK}},
    {"0032001e0000017101", {.id = AMQP_QUEUE_PURGE, .queue = TEXT("q"), .no_wait = true}},
    {"0032001f01020304", {.id = AMQP_QUEUE_PURGE_OK, .message_count = 16909060}},
    {"003200280000017102", {.id = AMQP_QUEUE_DELETE, .queue = TEXT("q"), .if_empty = true}},
    {"0032002900000003", {.id = AMQP_QUEUE_DELETE_OK, .message_count = 3}},
    {"00320032000001710165016b0000000401617401",
     {.id = AMQP_QUEUE_UNBIND,
      .queue = TEXT("q"),
      .exchange = TEXT("e"),
      .routing_key = TEXT("k"),
      .table = TEXT("\1at\1")}},
    {"00320033", {.id = AMQP_QUEUE_UNBIND_OK}},
    {"003c000a00010000010201",
     {.id = AMQP_BASIC_QOS, .prefetch_size = 65536, .prefetch_count = 258, .global = true}},
    {"003c000b", {.id = AMQP_BASIC_QOS_OK}},
    {"003c0014000001710174050000000401617401",
     {.id = AMQP_BASIC_CONSUME,
      .queue = TEXT("q"),
      .consumer_tag = TEXT("t"),
      .no_local = true,
      .exclusive = true,
      .table = TEXT("\1at\1")}},
    {"003c00150174", {.id = AMQP_BASIC_CONSUME_OK, .consumer_tag = TEXT("t")}},
    {"003c001e017401", {.id = AMQP_BASIC_CANCEL, .consumer_tag = TEXT("t"), .no_wait = true}},
    {"003c001f0174", {.id = AMQP_BASIC_CANCEL_OK, .consumer_tag = TEXT("t")}},
    {"003c00280000016503722e6b02",
     {.id = AMQP_BASIC_PUBLISH, .exchange = TEXT("e"), .routing_key = TEXT("r.k"), .immediate = true}},
    {"003c00320138084e4f5f524f5554450165016b",
     {.id = AMQP_BASIC_RETURN,
      .reply_code = 312,
      .reply_text = TEXT("NO_ROUTE"),
      .exchange = TEXT("e"),
      .routing_key = TEXT("k")}},
    {"003c003c01740102030405060708010165016b",
     {.id = AMQP_BASIC_DELIVER,
      .consumer_tag = TEXT("t"),
      .delivery_tag = 0x0102030405060708,
      .redelivered = true,
      .exchange = TEXT("e"),
      .routing_key = TEXT("k")}},
    {"003c00460000017101", {.id = AMQP_BASIC_GET, .queue = TEXT("q"), .no_ack = true}},
    {"003c0047000000000000012c010165016b00000009",
     {.id = AMQP_BASIC_GET_OK,
      .delivery_tag = 300,
      .redelivered = true,
      .exchange = TEXT("e"),
      .routing_key = TEXT("k"),
      .message_count = 9}},
    {"003c004800", {.id = AMQP_BASIC_GET_EMPTY}},
    {"003c0050ffffffffffffffff01", {.id = AMQP_BASIC_ACK, .delivery_tag = UINT64_MAX, .multiple = true}},
    {"003c005a000000000000000501", {.id = AMQP_BASIC_REJECT, .delivery_tag = 5, .requeue = true}},
    {"003c006401", {.id = AMQP_BASIC_RECOVER_ASYNC, .requeue = true}},
    {"003c006e01", {.id = AMQP_BASIC_RECOVER, .requeue = true}},
    {"003c006f", {.id = AMQP_BASIC_RECOVER_OK}},
    {"003c0078000000000000000602", {.id = AMQP_BASIC_NACK, .delivery_tag = 6, .requeue = true}},
    {"0055000a01", {.id = AMQP_CONFIRM_SELECT, .no_wait = true}},
    {"0055000b", {.id = AMQP_CONFIRM_SELECT_OK}},
    {"005a000a", {.id = AMQP_TX_SELECT}},
    {"005a000b", {.id = AMQP_TX_SELECT_OK}},
    {"005a0014", {.id = AMQP_TX_COMMIT}},
    {"005a0015", {.id = AMQP_TX_COMMIT_OK}},
    {"005a001e", {.id = AMQP_TX_ROLLBACK}},
    {"005a001f", {.id = AMQP_TX_ROLLBACK_OK}},
};

/* ---- what all of them are ----------------------------------------------------------------------------------- */

/* Every argument of every method, those that a method does not have too. */
static void assert_methods_equal(const struct amqp_method *a, const struct amqp_method *b)
{
#define SAME_TEXT(member) assert_slices_equal(a->member, b->member)
#define SAME(member) assert_true(a->member == b->member)
    SAME(id), SAME(delivery_tag), SAME(frame_max), SAME(prefetch_size), SAME(message_count);
    SAME(consumer_count), SAME(reply_code), SAME(class_id), SAME(method_id), SAME(channel_max);
    SAME(heartbeat), SAME(prefetch_count), SAME(ticket), SAME(version_major), SAME(version_minor);
    SAME_TEXT(table), SAME_TEXT(exchange), SAME_TEXT(queue), SAME_TEXT(routing_key);
    SAME_TEXT(consumer_tag), SAME_TEXT(destination), SAME_TEXT(type), SAME_TEXT(mechanism);
    SAME_TEXT(locale), SAME_TEXT(response), SAME_TEXT(challenge), SAME_TEXT(virtual_host);
    SAME_TEXT(reply_text), SAME_TEXT(reason), SAME_TEXT(secret), SAME_TEXT(realm);
    SAME(passive), SAME(durable), SAME(auto_delete), SAME(internal), SAME(exclusive), SAME(no_wait);
    SAME(if_unused), SAME(if_empty), SAME(no_local), SAME(no_ack), SAME(mandatory), SAME(immediate);
    SAME(redelivered), SAME(multiple), SAME(requeue), SAME(global), SAME(active), SAME(write), SAME(read);
#undef SAME
#undef SAME_TEXT
}

static void every_method_is_put_as_on_the_wire(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(rows); i++) {
        struct slice vector = unhex(rows[i].hex);
        struct sheet sheet = sheet_of(vector.len);

        amqp_put_method(&sheet.out, &rows[i].method);
        assert_int_equal(amqp_out_close(&sheet.out, sheet.block), AMQP_WRITTEN);
        assert_slices_equal(sheet_bytes(&sheet), vector);
        free(sheet.block);
        drop(vector);
    }
}

static void every_method_is_taken_as_it_was_put(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(rows); i++) {
        struct slice vector = unhex(rows[i].hex);
        struct amqp_method method;
        const char *why = NULL;

        memset(&method, 0x5a, sizeof method);
        assert_int_equal(amqp_take_method(vector, &method, &why), AMQP_OK);
        assert_null(why);
        assert_methods_equal(&method, &rows[i].method);
        drop(vector);
    }
}

static void assert_refused(struct slice payload, const char *expected)
{
    struct amqp_method method;
    const char *why = NULL;

    assert_int_equal(amqp_take_method(payload, &method, &why), AMQP_BAD);
    assert_string_equal(why, expected);
}

static void a_method_that_is_cut_short_is_refused_wherever(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(rows); i++) {
        struct slice vector = unhex(rows[i].hex);

        for (size_t n = 0; n < vector.len; n++) {
            struct slice part = exact(slice_of(vector.ptr, n));

            assert_refused(part, "the method is cut short");
            drop(part);
        }
        drop(vector);
    }
}

static void a_method_with_something_behind_it_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(rows); i++) {
        char digits[256];
        struct slice longer;

        snprintf(digits, sizeof digits, "%s00", rows[i].hex);
        longer = unhex(digits);
        assert_refused(longer, "something stands behind the method");
        drop(longer);
    }
}

static void a_method_that_does_not_fit_is_not_there_in_part(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(rows); i++)
        for (size_t room = 0; room < strlen(rows[i].hex) / 2; room++) {
            struct sheet sheet = sheet_of(room);

            amqp_put_method(&sheet.out, &rows[i].method);
            assert_int_equal(amqp_out_close(&sheet.out, sheet.block), AMQP_FULL);
            assert_int_equal(sheet_bytes(&sheet).len, 0);
            free(sheet.block);
        }
}

static void the_rows_are_all_methods_that_there_are(void **state)
{
    size_t n = 0;

    (void)state;
    for (uint32_t class_id = 0; class_id < 256; class_id++)
        for (uint32_t method_id = 0; method_id < 256; method_id++)
            n += amqp_method_name(AMQP_ID(class_id, method_id)) != NULL;
    assert_int_equal(n, N(rows));
    for (size_t i = 1; i < N(rows); i++)
        assert_true(rows[i - 1].method.id < rows[i].method.id);
}

/* ---- what some of them are ---------------------------------------------------------------------------------- */

/* Each bit by itself, where it belongs: a row's bits may hide a swap. */
static void every_bit_stands_in_its_place(void **state)
{
    static const struct row bits[] = {
        {"001e000a0001", {.id = AMQP_ACCESS_REQUEST, .exclusive = true}},
        {"001e000a0002", {.id = AMQP_ACCESS_REQUEST, .passive = true}},
        {"001e000a0004", {.id = AMQP_ACCESS_REQUEST, .active = true}},
        {"001e000a0008", {.id = AMQP_ACCESS_REQUEST, .write = true}},
        {"001e000a0010", {.id = AMQP_ACCESS_REQUEST, .read = true}},
        {"0028000a000000000100000000", {.id = AMQP_EXCHANGE_DECLARE, .passive = true}},
        {"0028000a000000000200000000", {.id = AMQP_EXCHANGE_DECLARE, .durable = true}},
        {"0028000a000000000400000000", {.id = AMQP_EXCHANGE_DECLARE, .auto_delete = true}},
        {"0028000a000000000800000000", {.id = AMQP_EXCHANGE_DECLARE, .internal = true}},
        {"0028000a000000001000000000", {.id = AMQP_EXCHANGE_DECLARE, .no_wait = true}},
        {"0032000a0000000100000000", {.id = AMQP_QUEUE_DECLARE, .passive = true}},
        {"0032000a0000000200000000", {.id = AMQP_QUEUE_DECLARE, .durable = true}},
        {"0032000a0000000400000000", {.id = AMQP_QUEUE_DECLARE, .exclusive = true}},
        {"0032000a0000000800000000", {.id = AMQP_QUEUE_DECLARE, .auto_delete = true}},
        {"0032000a0000001000000000", {.id = AMQP_QUEUE_DECLARE, .no_wait = true}},
        {"0032002800000001", {.id = AMQP_QUEUE_DELETE, .if_unused = true}},
        {"0032002800000002", {.id = AMQP_QUEUE_DELETE, .if_empty = true}},
        {"0032002800000004", {.id = AMQP_QUEUE_DELETE, .no_wait = true}},
        {"003c0014000000000100000000", {.id = AMQP_BASIC_CONSUME, .no_local = true}},
        {"003c0014000000000200000000", {.id = AMQP_BASIC_CONSUME, .no_ack = true}},
        {"003c0014000000000400000000", {.id = AMQP_BASIC_CONSUME, .exclusive = true}},
        {"003c0014000000000800000000", {.id = AMQP_BASIC_CONSUME, .no_wait = true}},
        {"003c00280000000001", {.id = AMQP_BASIC_PUBLISH, .mandatory = true}},
        {"003c00280000000002", {.id = AMQP_BASIC_PUBLISH, .immediate = true}},
        {"003c0078000000000000000001", {.id = AMQP_BASIC_NACK, .multiple = true}},
        {"003c0078000000000000000002", {.id = AMQP_BASIC_NACK, .requeue = true}},
    };

    (void)state;
    for (size_t i = 0; i < N(bits); i++) {
        struct slice vector = unhex(bits[i].hex);
        struct sheet sheet = sheet_of(vector.len);
        struct amqp_method method;
        const char *why;

        amqp_put_method(&sheet.out, &bits[i].method);
        assert_slices_equal(sheet_bytes(&sheet), vector);
        assert_int_equal(amqp_take_method(vector, &method, &why), AMQP_OK);
        assert_methods_equal(&method, &bits[i].method);
        free(sheet.block);
        drop(vector);
    }
}

/* A ticket, a virtual host's insist, a channel's name and bits that mean nothing: old clients fill them. */
static void what_is_kept_for_nothing_is_passed_over(void **state)
{
    static const struct row reserved[] = {
        {"003c002800070165016bfd",
         {.id = AMQP_BASIC_PUBLISH, .exchange = TEXT("e"), .routing_key = TEXT("k"), .mandatory = true}},
        {"000a0028012f036361700f", {.id = AMQP_CONNECTION_OPEN, .virtual_host = TEXT("/")}},
        {"0014000a036f7574", {.id = AMQP_CHANNEL_OPEN}},
        {"0014000b00000003616263", {.id = AMQP_CHANNEL_OPEN_OK}},
        {"003c004803636c75", {.id = AMQP_BASIC_GET_EMPTY}},
        {"003200140001017100000000000000", {.id = AMQP_QUEUE_BIND, .queue = TEXT("q")}},
        {"003c0050000000000000000902", {.id = AMQP_BASIC_ACK, .delivery_tag = 9}},
    };

    (void)state;
    for (size_t i = 0; i < N(reserved); i++) {
        struct slice vector = unhex(reserved[i].hex);
        struct amqp_method method;
        const char *why;

        assert_int_equal(amqp_take_method(vector, &method, &why), AMQP_OK);
        assert_methods_equal(&method, &reserved[i].method);
        drop(vector);
    }
}

static void a_method_that_is_not_known_says_which(void **state)
{
    static const uint32_t ids[] = {AMQP_ID(60, 5), AMQP_ID(40, 41), AMQP_ID(10, 42), AMQP_ID(1, 1),
                                   UINT32_MAX};

    (void)state;
    for (size_t i = 0; i < N(ids); i++) {
        struct sheet sheet = sheet_of(8);
        struct amqp_method method;
        const char *why;

        for (unsigned k = 0; k < 4; k++)
            sheet.block[k] = (char)(ids[i] >> 8 * (3 - k));
        assert_int_equal(amqp_take_method(slice_of(sheet.block, 4), &method, &why), AMQP_BAD);
        assert_string_equal(why, "there is no such method");
        assert_int_equal(method.id, ids[i]);
        assert_null(amqp_method_name(ids[i]));
        free(sheet.block);
    }
    assert_string_equal(amqp_method_name(AMQP_BASIC_PUBLISH), "basic.publish");
    assert_string_equal(amqp_method_name(AMQP_EXCHANGE_UNBIND_OK), "exchange.unbind-ok");
}

static void a_length_that_reaches_over_the_end_is_refused(void **state)
{
    static const char *const vectors[] = {
        "003c00280000ff65",             /* an exchange of 255 bytes, one is there */
        "0032000a0000017100ffffffff00", /* arguments of 4 GiB */
        "000a001500000002aa",           /* a response */
    };

    (void)state;
    for (size_t i = 0; i < N(vectors); i++) {
        struct slice vector = unhex(vectors[i]);

        assert_refused(vector, "the method is cut short");
        drop(vector);
    }
}

static void a_short_string_holds_255_bytes_and_no_more(void **state)
{
    static const enum amqp_method_id ids[] = {AMQP_QUEUE_BIND, AMQP_BASIC_PUBLISH, AMQP_BASIC_RETURN,
                                              AMQP_BASIC_DELIVER, AMQP_BASIC_GET_OK};
    static char text[256];

    (void)state;
    for (size_t i = 0; i < N(ids); i++) {
        struct amqp_method method = {.id = ids[i], .exchange = slice_of(text, 255)}, back;
        struct sheet sheet = sheet_of(4096);
        const char *why;

        amqp_put_method(&sheet.out, &method);
        assert_int_equal(amqp_out_close(&sheet.out, sheet.block), AMQP_WRITTEN);
        assert_int_equal(amqp_take_method(sheet_bytes(&sheet), &back, &why), AMQP_OK);
        assert_int_equal(back.exchange.len, 255);
        sheet.out.at = sheet.block;
        method.exchange.len = 256;
        amqp_put_method(&sheet.out, &method);
        assert_int_equal(amqp_out_close(&sheet.out, sheet.block), AMQP_TOO_LONG);
        assert_int_equal(sheet_bytes(&sheet).len, 0);
        free(sheet.block);
    }
}

static void content_follows_four_methods(void **state)
{
    size_t n = 0;

    (void)state;
    for (size_t i = 0; i < N(rows); i++)
        n += amqp_method_has_content(rows[i].method.id);
    assert_int_equal(n, 4);
    assert_true(amqp_method_has_content(AMQP_BASIC_PUBLISH) && !amqp_method_has_content(AMQP_BASIC_GET));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_method_is_put_as_on_the_wire),
        cmocka_unit_test(every_method_is_taken_as_it_was_put),
        cmocka_unit_test(a_method_that_is_cut_short_is_refused_wherever),
        cmocka_unit_test(a_method_with_something_behind_it_is_refused),
        cmocka_unit_test(a_method_that_does_not_fit_is_not_there_in_part),
        cmocka_unit_test(the_rows_are_all_methods_that_there_are),
        cmocka_unit_test(every_bit_stands_in_its_place),
        cmocka_unit_test(what_is_kept_for_nothing_is_passed_over),
        cmocka_unit_test(a_method_that_is_not_known_says_which),
        cmocka_unit_test(a_length_that_reaches_over_the_end_is_refused),
        cmocka_unit_test(a_short_string_holds_255_bytes_and_no_more),
        cmocka_unit_test(content_follows_four_methods),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
