/* test_amqp_content.c - wire/amqp.h: content headers. The vectors are what pika 1.2 writes, which librabbitmq 0.11 reads
 * and writes alike. */
#include "amqp_kit.h"
#include "wire/amqp.h"

#define ALL 0xfffc

static const struct {
    const char *hex;
    uint16_t flags;
} rows[] = {
    {"003c000000000000000000050000", 0},
    {"003c0000000000000000000580000a746578742f706c61696e", 1 << AMQP_CONTENT_TYPE},
    {"003c00000000000000000005400004677a6970", 1 << AMQP_CONTENT_ENCODING},
    {"003c0000000000000000000520000000000401617401", 1 << AMQP_HEADERS},
    {"003c00000000000000000005100002", 1 << AMQP_DELIVERY_MODE},
    {"003c00000000000000000005080009", 1 << AMQP_PRIORITY},
    {"003c000000000000000000050400026331", 1 << AMQP_CORRELATION_ID},
    {"003c0000000000000000000502000172", 1 << AMQP_REPLY_TO},
    {"003c000000000000000000050100053630303030", 1 << AMQP_EXPIRATION},
    {"003c000000000000000000050080016d", 1 << AMQP_MESSAGE_ID},
    {"003c000000000000000000050040000000006553f100", 1 << AMQP_TIMESTAMP},
    {"003c0000000000000000000500200174", 1 << AMQP_TYPE},
    {"003c000000000000000000050010056775657374", 1 << AMQP_USER_ID},
    {"003c00000000000000000005000803617070", 1 << AMQP_APP_ID},
    {"003c00000000000000000005000402636c", 1 << AMQP_CLUSTER_ID},
    {"003c00000000000000000005fffc0a746578742f706c61696e04677a69700000000401617401020902633101720536303030300"
     "16d000000006553f10001740567756573740361707002636c",
     ALL},
};

/* What the properties of the rows are. */
static struct amqp_content example(uint16_t flags)
{
    struct amqp_content content = {.body_bytes = 5, .flags = flags};

    content.delivery_mode = 2;
    content.priority = 9;
    content.timestamp = 1700000000;
    content.headers = SLICE("\1at\1");
    content.texts[AMQP_CONTENT_TYPE] = SLICE("text/plain");
    content.texts[AMQP_CONTENT_ENCODING] = SLICE("gzip");
    content.texts[AMQP_CORRELATION_ID] = SLICE("c1");
    content.texts[AMQP_REPLY_TO] = SLICE("r");
    content.texts[AMQP_EXPIRATION] = SLICE("60000");
    content.texts[AMQP_MESSAGE_ID] = SLICE("m");
    content.texts[AMQP_TYPE] = SLICE("t");
    content.texts[AMQP_USER_ID] = SLICE("guest");
    content.texts[AMQP_APP_ID] = SLICE("app");
    content.texts[AMQP_CLUSTER_ID] = SLICE("cl");
    return content;
}

/* What is not there is zero. */
static void assert_contents_equal(const struct amqp_content *taken, const struct amqp_content *expected)
{
    assert_int_equal(taken->flags, expected->flags);
    assert_true(taken->body_bytes == expected->body_bytes);
    for (unsigned i = 0; i < 16; i++) {
        enum amqp_property property = (enum amqp_property)i;
        bool is_there = amqp_content_has(expected, property);

        if (is_there && i > 1 && amqp_property_is_text(property))
            assert_slices_equal(taken->texts[i], expected->texts[i]);
        else
            assert_int_equal(taken->texts[i].len, 0);
    }
    assert_slices_equal(taken->headers,
                        amqp_content_has(expected, AMQP_HEADERS) ? expected->headers : SLICE(""));
    assert_int_equal(taken->delivery_mode,
                     amqp_content_has(expected, AMQP_DELIVERY_MODE) ? expected->delivery_mode : 0);
    assert_int_equal(taken->priority, amqp_content_has(expected, AMQP_PRIORITY) ? expected->priority : 0);
    assert_true(taken->timestamp == (amqp_content_has(expected, AMQP_TIMESTAMP) ? expected->timestamp : 0));
}

static void assert_put(const struct amqp_content *content, struct slice expected)
{
    struct sheet sheet = sheet_of(expected.len);

    amqp_put_content(&sheet.out, content);
    assert_int_equal(amqp_out_close(&sheet.out, sheet.block), AMQP_WRITTEN);
    assert_slices_equal(sheet_bytes(&sheet), expected);
    free(sheet.block);
}

static void each_property_is_put_and_taken_as_on_the_wire(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(rows); i++) {
        struct slice vector = unhex(rows[i].hex);
        struct amqp_content expected = example(rows[i].flags), content;
        const char *why = NULL;

        memset(&content, 0x5a, sizeof content);
        assert_int_equal(amqp_take_content(vector, &content, &why), AMQP_OK);
        assert_null(why);
        assert_contents_equal(&content, &expected);
        assert_put(&content, vector);
        assert_put(&expected, vector);
        drop(vector);
    }
}

static void any_set_of_properties_comes_back(void **state)
{
    (void)state;
    for (unsigned flags = 0; flags <= ALL; flags += 4) {
        struct amqp_content content = example((uint16_t)flags), back;
        struct sheet sheet = sheet_of(256);
        const char *why;

        amqp_put_content(&sheet.out, &content);
        assert_int_equal(amqp_out_close(&sheet.out, sheet.block), AMQP_WRITTEN);
        assert_int_equal(amqp_take_content(sheet_bytes(&sheet), &back, &why), AMQP_OK);
        assert_contents_equal(&back, &content);
        free(sheet.block);
    }
}

static void assert_refused(struct slice payload, const char *expected)
{
    struct amqp_content content;
    const char *why = NULL;

    assert_int_equal(amqp_take_content(payload, &content, &why), AMQP_BAD);
    assert_string_equal(why, expected);
}

static void a_content_header_that_is_cut_short_is_refused_wherever(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(rows); i++) {
        struct slice vector = unhex(rows[i].hex);

        for (size_t n = 0; n < vector.len; n++) {
            struct slice part = exact(slice_of(vector.ptr, n));

            assert_refused(part, n < 14 ? "the content header is cut short" : "the properties are cut short");
            drop(part);
        }
        drop(vector);
    }
}

static void a_content_header_that_is_wrong_is_refused_with_the_reason(void **state)
{
    static const struct {
        const char *hex, *why;
    } bad[] = {
        {"0032000000000000000000050000", "only basic has content"},
        {"003c000100000000000000050000", "the weight is not zero"},
        {"003c000000000000000000050001", "there are properties that basic does not have"},
        {"003c0000000000000000000500010000", "there are properties that basic does not have"},
        {"003c000000000000000000050002", "there are properties that basic does not have"},
        {"003c00000000000000000005000000", "something stands behind the properties"},
        {"003c0000000000000000000510000200", "something stands behind the properties"},
        {"003c000000000000000000050040ff", "the properties are cut short"},
        {"003c00000000000000000005010002ff", "the properties are cut short"},
        {"003c000000000000000000052000ffffffff", "the properties are cut short"},
    };

    (void)state;
    for (size_t i = 0; i < N(bad); i++) {
        struct slice vector = unhex(bad[i].hex);

        assert_refused(vector, bad[i].why);
        drop(vector);
    }
}

static void a_body_may_have_any_size_that_64_bits_say(void **state)
{
    struct slice vector = unhex("003c0000ffffffffffffffff0000");
    struct amqp_content content;
    const char *why;

    (void)state;
    assert_int_equal(amqp_take_content(vector, &content, &why), AMQP_OK);
    assert_true(content.body_bytes == UINT64_MAX);
    assert_put(&content, vector);
    drop(vector);
}

static void one_property_changes_and_the_others_stay(void **state)
{
    struct slice vector = unhex(rows[N(rows) - 1].hex);
    struct amqp_content content, expected = example(ALL & ~(1 << AMQP_EXPIRATION | 1 << AMQP_PRIORITY));
    struct sheet sheet = sheet_of(vector.len + 64);
    const char *why;

    (void)state;
    assert_int_equal(amqp_take_content(vector, &content, &why), AMQP_OK);
    amqp_content_drop(&content, AMQP_EXPIRATION);
    amqp_content_drop(&content, AMQP_PRIORITY);
    amqp_content_set_headers(&content, SLICE("\1bV"));
    amqp_content_set_text(&content, AMQP_USER_ID, SLICE("somebody else"));
    amqp_put_content(&sheet.out, &content);
    assert_int_equal(amqp_out_close(&sheet.out, sheet.block), AMQP_WRITTEN);
    assert_int_equal(amqp_take_content(sheet_bytes(&sheet), &content, &why), AMQP_OK);
    expected.headers = SLICE("\1bV");
    expected.texts[AMQP_USER_ID] = SLICE("somebody else");
    assert_contents_equal(&content, &expected);
    free(sheet.block);
    drop(vector);
}

static void what_was_not_there_is_there_once_it_is_set(void **state)
{
    struct amqp_content content = example(0);

    (void)state;
    content.headers = SLICE("");
    amqp_content_set_headers(&content, SLICE("\1at\1"));
    assert_int_equal(content.flags, 1 << AMQP_HEADERS);
    amqp_content_set_text(&content, AMQP_APP_ID, SLICE("app"));
    assert_int_equal(content.flags, 1 << AMQP_HEADERS | 1 << AMQP_APP_ID);
    amqp_content_drop(&content, AMQP_HEADERS);
    amqp_content_drop(&content, AMQP_HEADERS);
    assert_int_equal(content.flags, 1 << AMQP_APP_ID);
}

static void what_does_not_fit_is_not_there_in_part(void **state)
{
    struct amqp_content content = example(ALL);
    size_t bytes = strlen(rows[N(rows) - 1].hex) / 2;
    static char text[256];

    (void)state;
    for (size_t room = 0; room < bytes; room++) {
        struct sheet sheet = sheet_of(room);

        amqp_put_content(&sheet.out, &content);
        assert_int_equal(amqp_out_close(&sheet.out, sheet.block), AMQP_FULL);
        assert_int_equal(sheet_bytes(&sheet).len, 0);
        free(sheet.block);
    }
    {
        struct sheet sheet = sheet_of(4096);

        amqp_content_set_text(&content, AMQP_TYPE, slice_of(text, sizeof text));
        assert_int_equal(amqp_put_content_frame(&sheet.out, 1, &content), AMQP_TOO_LONG);
        assert_int_equal(sheet_bytes(&sheet).len, 0);
        free(sheet.block);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_property_is_put_and_taken_as_on_the_wire),
        cmocka_unit_test(any_set_of_properties_comes_back),
        cmocka_unit_test(a_content_header_that_is_cut_short_is_refused_wherever),
        cmocka_unit_test(a_content_header_that_is_wrong_is_refused_with_the_reason),
        cmocka_unit_test(a_body_may_have_any_size_that_64_bits_say),
        cmocka_unit_test(one_property_changes_and_the_others_stay),
        cmocka_unit_test(what_was_not_there_is_there_once_it_is_set),
        cmocka_unit_test(what_does_not_fit_is_not_there_in_part),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
