/* test_management_terms.c - admin/management/terms.h: AMQP in JSON and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "admin/management/terms.h"

static json_t *parse(const char *text)
{
    json_t *value = json_loads(text, 0, NULL);

    assert_non_null(value);
    return value;
}

static void assert_text(struct slice s, const char *expected)
{
    assert_int_equal(s.len, strlen(expected));
    assert_memory_equal(s.ptr, expected, s.len);
}

static void assert_json(json_t *value, const char *expected)
{
    json_t *wanted = parse(expected);

    assert_non_null(value);
    assert_true(json_equal(value, wanted));
    json_decref(wanted);
    json_decref(value);
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

static void an_object_comes_back_from_its_table(void **state)
{
    static const char *const rows[] = {
        "{}",
        "{\"x-max-length\":10,\"x-overflow\":\"drop-head\",\"x-single-active-consumer\":true}",
        "{\"a\":{\"b\":[1,\"two\",{\"c\":null}]},\"real\":1.5,\"least\":-9223372036854775808}",
        "{\"\":\"\",\"no\":false,\"list\":[],\"table\":{}}",
    };
    char block[512];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *object = parse(rows[i]);
        struct amqp_out out = amqp_out_of(block, sizeof block);
        struct slice table;

        assert_true(terms_put_table(&out, object));
        assert_int_equal(amqp_out_close(&out, block), AMQP_WRITTEN);
        table = slice_of(block, (size_t)(out.at - block));
        assert_true(amqp_table_is_valid(table));
        assert_json(terms_of_table(table), rows[i]);
        json_decref(object);
    }
}

static void a_room_that_is_too_small_is_told(void **state)
{
    json_t *object = parse("{\"name\":\"a longer text\"}");
    char block[64];

    (void)state;
    for (size_t room = 0; room < 23; room++) {
        struct amqp_out out = amqp_out_of(block, room);

        assert_true(terms_put_table(&out, object));
        assert_int_equal(amqp_out_close(&out, block), AMQP_FULL);
    }
    json_decref(object);
}

/* So many objects, each in the one before. */
static json_t *nest(unsigned levels)
{
    json_t *inner = json_object();

    for (unsigned i = 1; i < levels; i++) {
        json_t *outer = json_object();

        json_object_set_new(outer, "a", inner);
        inner = outer;
    }
    return inner;
}

static void deeper_than_amqp_goes_is_refused(void **state)
{
    char block[512];

    (void)state;
    for (unsigned levels = 1; levels < AMQP_DEPTH_MAX + 4; levels++) {
        json_t *object = nest(levels);
        struct amqp_out out = amqp_out_of(block, sizeof block);
        bool put = terms_put_table(&out, object);

        if (put)
            assert_true(amqp_table_is_valid(slice_of(block, (size_t)(out.at - block))));
        assert_int_equal(put, levels < AMQP_DEPTH_MAX);
        json_decref(object);
    }
}

static void a_name_longer_than_amqp_has_is_refused(void **state)
{
    json_t *object = json_object();
    char name[257], block[512];
    struct amqp_out out = amqp_out_of(block, sizeof block);

    (void)state;
    memset(name, 'n', 256);
    name[256] = '\0';
    json_object_set_new(object, name, json_true());
    assert_false(terms_put_table(&out, object));
    json_decref(object);
}

static void all_types_of_amqp_have_a_value(void **state)
{
    char block[256];
    struct amqp_out out = amqp_out_of(block, sizeof block);

    (void)state;
    amqp_table_put(
        &out, &(struct amqp_value){.name = SLICE("time"), .type = AMQP_TIME, .letter = 'T', .seconds = 7});
    amqp_table_put(
        &out, &(struct amqp_value){
                  .name = SLICE("decimal"), .type = AMQP_DECIMAL, .letter = 'D', .integer = 150, .scale = 2});
    amqp_table_put(&out, &(struct amqp_value){
                             .name = SLICE("bytes"), .type = AMQP_BYTES, .letter = 'x', .bytes = SLICE("b")});
    amqp_table_put(&out, &(struct amqp_value){.name = SLICE("void"), .type = AMQP_VOID, .letter = 'V'});
    assert_json(terms_of_table(slice_of(block, (size_t)(out.at - block))),
                "{\"time\":7,\"decimal\":1.5,\"bytes\":\"b\",\"void\":null}");
}

/* ---- properties -------------------------------------------------------------------------------------------------- */

static void properties_come_back(void **state)
{
    static const char text[] =
        "{\"content_type\":\"a\",\"content_encoding\":\"b\",\"headers\":{\"h\":1},"
        "\"delivery_mode\":2,\"priority\":9,\"correlation_id\":\"c\",\"reply_to\":\"d\","
        "\"expiration\":\"60\",\"message_id\":\"e\",\"timestamp\":1700000000,"
        "\"type\":\"f\",\"user_id\":\"g\",\"app_id\":\"i\",\"cluster_id\":\"j\"}";
    json_t *object = parse(text);
    struct amqp_content content = {0};
    char block[256];
    struct amqp_out out = amqp_out_of(block, sizeof block);

    (void)state;
    assert_null(terms_take_properties(object, &content, &out));
    assert_json(terms_of_properties(&content), text);
    json_decref(object);
}

static void properties_that_make_no_sense_are_named(void **state)
{
    static const struct {
        const char *object, *wrong;
    } rows[] = {
        {"{\"delivery_mode\":256}", "delivery_mode"},
        {"{\"priority\":-1}", "priority"},
        {"{\"headers\":5}", "headers"},
        {"{\"timestamp\":\"now\"}", "timestamp"},
        {"{\"content_type\":1}", "content_type"},
        {"{\"type\":null}", "type"},
    };
    char block[256];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *object = parse(rows[i].object);
        struct amqp_content content = {0};
        struct amqp_out out = amqp_out_of(block, sizeof block);

        assert_string_equal(terms_take_properties(object, &content, &out), rows[i].wrong);
        json_decref(object);
    }
}

static void numbers_may_be_texts(void **state)
{
    json_t *object = parse("{\"delivery_mode\":\"2\",\"priority\":\"0\"}");
    struct amqp_content content = {0};
    char block[1];
    struct amqp_out out = amqp_out_of(block, sizeof block);

    (void)state;
    assert_null(terms_take_properties(object, &content, &out));
    assert_int_equal(content.delivery_mode, 2);
    assert_true(amqp_content_has(&content, AMQP_PRIORITY));
    json_decref(object);
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

static void a_binding_has_a_key_as_rabbitmq_writes_it(void **state)
{
    static const char *const rows[][2] = {
        {"", "~"}, {"a.b_c-d", "a.b_c-d"}, {"a b/#", "a+b%2F%23"}, {"~*", "%7E%2A"}, {"\xc3\xa9", "%C3%A9"},
    };
    char text[TERMS_KEY_MAX];
    struct slice key;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_text(terms_properties_key(slice_from_text(rows[i][0]), SLICE(""), text), rows[i][1]);
    key = terms_properties_key(SLICE("k"), SLICE("\x01xV"), text);
    assert_int_equal(key.len, 8);
    assert_memory_equal(key.ptr, "k~", 2);
    key = terms_properties_key(SLICE(""), SLICE("\x01xV"), text);
    assert_int_equal(key.len, 7);
}

static void the_longest_key_fits(void **state)
{
    char name[255], text[TERMS_KEY_MAX];

    (void)state;
    memset(name, '#', sizeof name);
    assert_int_equal(terms_properties_key(slice_of(name, sizeof name), SLICE("x"), text).len, 3 * 255 + 7);
}

static void a_segment_is_encoded(void **state)
{
    char text[64];

    (void)state;
    assert_text(slice_of(text, terms_percent_encode(SLICE("a/b ~%23"), text)), "a%2Fb%20~%2523");
}

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

static void base64_comes_back(void **state)
{
    static const char *const rows[][2] = {
        {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"\xff\xfe", "//4="},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct slice text = terms_to_base64(slice_from_text(rows[i][0]));
        struct slice bytes = terms_from_base64(text);

        assert_text(text, rows[i][1]);
        assert_text(bytes, rows[i][0]);
        free((char *)(uintptr_t)text.ptr);
        free((char *)(uintptr_t)bytes.ptr);
    }
}

static void what_is_no_base64_is_refused(void **state)
{
    static const char *const rows[] = {"Z", "Zg", "Zg=", "Z===", "Zg=v", "Zm9v=", "%%%%", "Zm9v\n"};

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct slice bytes = terms_from_base64(slice_from_text(rows[i]));

        if (bytes.ptr)
            print_message("%s is taken\n", rows[i]);
        assert_null(bytes.ptr);
    }
}

static void utf8_is_told_from_bytes(void **state)
{
    static const char *const good[] = {
        "", "soup", "s\xc3\xbc\xc3\x9f", "\xe2\x82\xac", "\xf0\x9f\x8d\x9c", "\xed\x9f\xbf"};
    static const char *const bad[] = {
        "\xff",  "\xc3",     "\xc0\x80",     "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
        "a\x80", "\xe2\x82", "\xf0\x9f\x8d", "\xe2\x28\xa1"};

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(terms_is_utf8(slice_from_text(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        size_t n = strlen(bad[i]);
        char *exact = malloc(n);

        memcpy(exact, bad[i], n);
        assert_false(terms_is_utf8(slice_of(exact, n)));
        free(exact);
    }
}

static void brackets_are_counted_outside_of_texts(void **state)
{
    static const struct {
        const char *json;
        bool shallow;
    } rows[] = {
        {"", true},
        {"[[[]]]", true},
        {"[[[[]]]]", false},
        {"[{\"a\":[]}]", true},
        {"[{\"a\":[{}]}]", false},
        {"\"[[[[\"", true},
        {"[\"\\\"[[[[\",[[]]]", true},
        {"[][][][]", true},
        {"]]]][[[", true},
        {"\"\\", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(terms_is_shallow(slice_from_text(rows[i].json), 3), rows[i].shallow);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_object_comes_back_from_its_table),
        cmocka_unit_test(a_room_that_is_too_small_is_told),
        cmocka_unit_test(deeper_than_amqp_goes_is_refused),
        cmocka_unit_test(a_name_longer_than_amqp_has_is_refused),
        cmocka_unit_test(all_types_of_amqp_have_a_value),
        cmocka_unit_test(properties_come_back),
        cmocka_unit_test(properties_that_make_no_sense_are_named),
        cmocka_unit_test(numbers_may_be_texts),
        cmocka_unit_test(a_binding_has_a_key_as_rabbitmq_writes_it),
        cmocka_unit_test(the_longest_key_fits),
        cmocka_unit_test(a_segment_is_encoded),
        cmocka_unit_test(base64_comes_back),
        cmocka_unit_test(what_is_no_base64_is_refused),
        cmocka_unit_test(utf8_is_told_from_bytes),
        cmocka_unit_test(brackets_are_counted_outside_of_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
