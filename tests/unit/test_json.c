/* test_json.c - base/json.h: what each function writes, for any block size, into exact-size heap blocks so that ASan sees
 * a byte too many. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"

/* What the flushes took, and after how many they refuse. */
struct sink {
    char text[4096];
    size_t len;
    unsigned flushes, refuse_from;
};

static int take(void *arg, struct slice text)
{
    struct sink *sink = arg;

    assert_true(text.len > 0);
    if (++sink->flushes == sink->refuse_from)
        return -1;
    assert_true(sink->flushes < sink->refuse_from || sink->refuse_from == 0);
    assert_true(sink->len + text.len <= sizeof sink->text);
    memcpy(sink->text + sink->len, text.ptr, text.len);
    sink->len += text.len;
    return 0;
}

static char block[4096];

static struct json begun(void)
{
    struct json json;

    json_init(&json, block, sizeof block, NULL, NULL);
    return json;
}

static void assert_text(struct slice text, const char *expected)
{
    assert_int_equal(text.len, strlen(expected));
    assert_memory_equal(text.ptr, expected, text.len);
}

static void assert_wrote(struct json *json, const char *expected)
{
    assert_true(json_finish(json));
    assert_text(json_text(json), expected);
}

/* A document with something of everything. */
static void write_all(struct json *json)
{
    json_put_object(json);
    json_key(json, "empty");
    json_put_object(json);
    json_put_end(json);
    json_key(json, "list");
    json_put_array(json);
    json_put_array(json);
    json_put_end(json);
    json_put_u64(json, 1);
    json_put_i64(json, -2);
    json_put_object(json);
    json_key(json, "a");
    json_put_null(json);
    json_put_end(json);
    json_put_bool(json, true);
    json_put_bool(json, false);
    json_put_double(json, 0.5);
    json_put_ms(json, 1234567);
    json_put_end(json);
    json_key_slice(json, SLICE("of \"any\" kind"));
    json_put_string(json, SLICE("caf\xc3\xa9\n\xff"));
    json_key_slice(json, SLICE("bytes"));
    json_put_bytes(json, SLICE("caf\xc3\xa9"));
    json_key(json, "at");
    json_put_time(json, 1769860800123456);
    json_put_end(json);
}

#define ALL                                                                                            \
    "{\"empty\":{},\"list\":[[],1,-2,{\"a\":null},true,false,0.5,1234.567],\"of \\\"any\\\" kind\":"   \
    "\"caf\xc3\xa9\\u000a\xef\xbf\xbd\",\"bytes\":\"caf\\u00c3\\u00a9\",\"at\":\"2026-01-31T12:00:00." \
    "123Z\"}"

static void commas_stand_between_members_and_elements_only(void **state)
{
    struct json json = begun();

    (void)state;
    write_all(&json);
    assert_wrote(&json, ALL);
}

static void documents_may_follow_each_other(void **state)
{
    struct json json = begun();

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        json_put_object(&json);
        json_key(&json, "n");
        json_put_u64(&json, i);
        json_put_end(&json);
        json_put(&json, SLICE("\n"));
    }
    json_put_u64(&json, 7);
    assert_wrote(&json, "{\"n\":0}\n{\"n\":1}\n7");
}

static void a_document_streams_through_a_block_of_any_size(void **state)
{
    (void)state;
    for (size_t size = 1; size <= sizeof ALL + 1; size++) {
        struct sink sink = {.len = 0};
        char *bytes = malloc(size);
        struct json json;

        assert_non_null(bytes);
        json_init(&json, bytes, size, take, &sink);
        write_all(&json);
        assert_true(json_finish(&json));
        assert_text(slice_of(sink.text, sink.len), ALL);
        assert_int_equal(sink.flushes, (sizeof ALL - 1 + size - 1) / size);
        free(bytes);
    }
}

static void a_block_without_flush_holds_all_or_fails(void **state)
{
    (void)state;
    for (size_t size = 1; size <= sizeof ALL; size++) {
        char *bytes = malloc(size);
        struct json json;

        assert_non_null(bytes);
        json_init(&json, bytes, size, NULL, NULL);
        write_all(&json);
        assert_int_equal(json_finish(&json), size >= sizeof ALL - 1);
        assert_memory_equal(bytes, ALL, json_text(&json).len);
        free(bytes);
    }
}

static void nothing_is_flushed_after_a_flush_refused(void **state)
{
    (void)state;
    for (unsigned refused = 1; refused <= 4; refused++) {
        struct sink sink = {.refuse_from = refused};
        char bytes[16];
        struct json json;

        json_init(&json, bytes, sizeof bytes, take, &sink);
        write_all(&json);
        assert_false(json_finish(&json));
        assert_int_equal(sink.flushes, refused);
        assert_int_equal(sink.len, (refused - 1) * sizeof bytes);
        assert_memory_equal(sink.text, ALL, sink.len);
    }
}

static void an_empty_document_flushes_nothing(void **state)
{
    struct sink sink = {.len = 0};
    struct json json;

    (void)state;
    json_init(&json, block, sizeof block, take, &sink);
    assert_true(json_finish(&json));
    assert_int_equal(sink.flushes, 0);
}

/* ---- strings ----------------------------------------------------------------------------------------------- */

static void bytes_that_are_not_printable_ascii_are_escaped_by_number(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 256; c++) {
        for (size_t before = 0; before < 20; before++) {
            struct json json = begun();
            char in[40], expected[64];
            int n;

            memset(in, 'x', sizeof in);
            in[before] = (char)c;
            if (c == '"' || c == '\\')
                n = snprintf(expected, sizeof expected, "\"%.*s\\%c%s\"", (int)before, "xxxxxxxxxxxxxxxxxxxx",
                             (char)c, "xxx");
            else if (c >= 0x20 && c < 0x7f)
                n = snprintf(expected, sizeof expected, "\"%.*s%c%s\"", (int)before, "xxxxxxxxxxxxxxxxxxxx",
                             (char)c, "xxx");
            else
                n = snprintf(expected, sizeof expected, "\"%.*s\\u%04x%s\"", (int)before,
                             "xxxxxxxxxxxxxxxxxxxx", c, "xxx");
            assert_true(n > 0);
            json_put_bytes(&json, slice_of(in, before + 4));
            assert_wrote(&json, expected);
            if (c < 0x80) {
                json = begun();
                json_put_string(&json, slice_of(in, before + 4));
                assert_wrote(&json, expected);
            }
        }
    }
}

static void a_string_may_be_empty_and_borrow_nothing(void **state)
{
    struct json json = begun();

    (void)state;
    json_put_array(&json);
    json_put_string(&json, slice_of(NULL, 0));
    json_put_bytes(&json, slice_of(NULL, 0));
    json_put_end(&json);
    assert_wrote(&json, "[\"\",\"\"]");
}

static void a_string_is_read_to_its_end_and_no_further(void **state)
{
    static const char text[] = "0123456789\xf0\x9f\x8d\x95";

    (void)state;
    for (size_t len = 1; len < sizeof text; len++) {
        struct json json = begun();
        char *copy = malloc(len);

        assert_non_null(copy);
        memcpy(copy, text, len);
        json_put_string(&json, slice_of(copy, len));
        assert_true(json_finish(&json));
        free(copy);
    }
}

#define BAD "\xef\xbf\xbd"

static void what_is_not_utf8_is_replaced(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"\xc2\x80 \xdf\xbf", "\xc2\x80 \xdf\xbf"},
        {"\xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf",
         "\xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf"},
        {"\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf", "\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf"},
        {"a\xe2\x82\xac", "a\xe2\x82\xac"},
        {"\x80 \xbf", BAD " " BAD},
        {"\xc0\xaf \xc1\xbf", BAD BAD " " BAD BAD}, /* overlong */
        {"\xe0\x9f\xbf", BAD BAD BAD},              /* overlong */
        {"\xf0\x8f\xbf\xbf", BAD BAD BAD BAD},      /* overlong */
        {"\xed\xa0\x80", BAD BAD BAD},              /* a surrogate */
        {"\xf4\x90\x80\x80", BAD BAD BAD BAD},      /* over U+10FFFF */
        {"\xf5 \xff", BAD " " BAD},
        {"\xe2\x82", BAD BAD}, /* ends within a character */
        {"\xe2\x82z", BAD BAD "z"},
        {"\xc3\xc3\xa9", BAD "\xc3\xa9"},
        {"\xe2\"\xac", BAD "\\\"" BAD},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct json json = begun();
        char expected[128];

        snprintf(expected, sizeof expected, "\"%s\"", rows[i].out);
        json_put_string(&json, slice_from_text(rows[i].in));
        assert_wrote(&json, expected);
    }
}

/* ---- numbers and times ------------------------------------------------------------------------------------- */

static void whole_numbers_are_exact(void **state)
{
    struct json json = begun();

    (void)state;
    json_put_array(&json);
    json_put_u64(&json, 0);
    json_put_u64(&json, 10);
    json_put_u64(&json, UINT64_MAX);
    json_put_i64(&json, 0);
    json_put_i64(&json, INT64_MAX);
    json_put_i64(&json, INT64_MIN);
    json_put_end(&json);
    assert_wrote(&json, "[0,10,18446744073709551615,0,9223372036854775807,-9223372036854775808]");
}

static void doubles_are_short_and_never_lose_a_whole_number(void **state)
{
    static const struct {
        double value;
        const char *text;
    } rows[] = {
        {0, "0"},
        {-0.0, "0"},
        {12.5, "12.5"},
        {0.1, "0.1"},
        {0.1 + 0.2, "0.3"},
        {-1.25, "-1.25"},
        {1.0 / 3, "0.333333333"},
        {12345.678, "12345.678"},
        {1e6, "1000000"},
        {123456789012, "123456789012"},
        {9007199254740991, "9007199254740991"},
        {-9007199254740991, "-9007199254740991"},
        {1e300, "1e+300"},
        {1.5e-7, "1.5e-07"},
        {5e-324, "4.94065646e-324"},
        {NAN, "null"},
        {INFINITY, "null"},
        {-INFINITY, "null"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct json json = begun();

        json_put_double(&json, rows[i].value);
        assert_wrote(&json, rows[i].text);
    }
}

static void milliseconds_have_three_decimals(void **state)
{
    struct json json = begun();

    (void)state;
    json_put_array(&json);
    json_put_ms(&json, 0);
    json_put_ms(&json, 7);
    json_put_ms(&json, 999);
    json_put_ms(&json, 1000);
    json_put_ms(&json, 60000010);
    json_put_ms(&json, UINT64_MAX);
    json_put_end(&json);
    assert_wrote(&json, "[0.000,0.007,0.999,1.000,60000.010,18446744073709551.615]");
}

static void times_are_utc_with_milliseconds(void **state)
{
    struct json json = begun();

    (void)state;
    json_put_array(&json);
    json_put_time(&json, 0);
    json_put_time(&json, 1769860800123999);
    json_put_time(&json, 1769860800999000);
    json_put_time(&json, 1769860801000000);
    json_put_time(&json, 951782399007000);
    json_put_time(&json, 253402300799999999);
    json_put_end(&json);
    assert_wrote(&json,
                 "[\"1970-01-01T00:00:00.000Z\",\"2026-01-31T12:00:00.123Z\",\"2026-01-31T12:00:00.999Z\","
                 "\"2026-01-31T12:00:01.000Z\",\"2000-02-28T23:59:59.007Z\",\"9999-12-31T23:59:59.999Z\"]");
}

/* ---- misuse ------------------------------------------------------------------------------------------------ */

static void nest(unsigned levels)
{
    struct json json = begun();

    for (unsigned i = 0; i < levels; i++)
        json_put_array(&json);
    for (unsigned i = 0; i < levels; i++)
        json_put_end(&json);
    json_finish(&json);
}

static void nest_deepest(void)
{
    nest(JSON_DEPTH_MAX);
}

static void nest_too_deep(void)
{
    nest(JSON_DEPTH_MAX + 1);
}

static void write_a_member_without_key(void)
{
    struct json json = begun();

    json_put_object(&json);
    json_put_u64(&json, 1);
}

static void write_a_key_into_an_array(void)
{
    struct json json = begun();

    json_put_array(&json);
    json_put_u64(&json, 1);
    json_key(&json, "a");
}

static void write_a_key_without_value(void)
{
    struct json json = begun();

    json_put_object(&json);
    json_key(&json, "a");
    json_put_end(&json);
}

static void write_two_keys(void)
{
    struct json json = begun();

    json_put_object(&json);
    json_key(&json, "a");
    json_key(&json, "b");
}

static void finish_within_an_object(void)
{
    struct json json = begun();

    json_put_object(&json);
    json_finish(&json);
}

static bool aborts(void (*misuse)(void))
{
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        misuse();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status))
        assert_int_equal(WEXITSTATUS(status), 0);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void what_would_not_be_json_is_asserted_against(void **state)
{
    (void)state;
    assert_false(aborts(nest_deepest));
    assert_true(aborts(nest_too_deep));
    assert_true(aborts(write_a_member_without_key));
    assert_true(aborts(write_a_key_into_an_array));
    assert_true(aborts(write_a_key_without_value));
    assert_true(aborts(write_two_keys));
    assert_true(aborts(finish_within_an_object));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commas_stand_between_members_and_elements_only),
        cmocka_unit_test(documents_may_follow_each_other),
        cmocka_unit_test(a_document_streams_through_a_block_of_any_size),
        cmocka_unit_test(a_block_without_flush_holds_all_or_fails),
        cmocka_unit_test(nothing_is_flushed_after_a_flush_refused),
        cmocka_unit_test(an_empty_document_flushes_nothing),
        cmocka_unit_test(bytes_that_are_not_printable_ascii_are_escaped_by_number),
        cmocka_unit_test(a_string_may_be_empty_and_borrow_nothing),
        cmocka_unit_test(a_string_is_read_to_its_end_and_no_further),
        cmocka_unit_test(what_is_not_utf8_is_replaced),
        cmocka_unit_test(whole_numbers_are_exact),
        cmocka_unit_test(doubles_are_short_and_never_lose_a_whole_number),
        cmocka_unit_test(milliseconds_have_three_decimals),
        cmocka_unit_test(times_are_utc_with_milliseconds),
        cmocka_unit_test(what_would_not_be_json_is_asserted_against),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
