/* test_http.c - looking things up in a parsed message: fields, cookies, query parameters, the host. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "wire/http.h"

/* An exact-size copy on the heap, so that a look one byte too far is seen. The caller frees its ptr. */
static struct slice heap_copy(const char *text)
{
    size_t len = strlen(text);
    char *copy = malloc(len ? len : 1);

    assert_non_null(copy);
    memcpy(copy, text, len);
    return slice_of(copy, len);
}

static void heap_free(struct slice s)
{
    free((char *)(uintptr_t)s.ptr);
}

static void assert_slice(struct slice s, const char *expected)
{
    assert_non_null(s.ptr);
    assert_int_equal(s.len, strlen(expected));
    assert_memory_equal(s.ptr, expected, s.len);
}

static void a_field_is_found_in_any_case_and_the_first_of_two(void **state)
{
    struct http_field at[] = {
        {.name = SLICE("Host"), .value = SLICE("a")},
        {.name = SLICE("X-One"), .value = SLICE("1")},
        {.name = SLICE("x-one"), .value = SLICE("2")},
    };
    const struct http_fields fields = {at, 3, 3};

    (void)state;
    assert_ptr_equal(http_field_find(&fields, SLICE("X-ONE")), &at[1]);
    assert_ptr_equal(http_field_find(&fields, SLICE("host")), &at[0]);
    assert_null(http_field_find(&fields, SLICE("x-on")));
    assert_null(http_field_find(&fields, SLICE("x-one2")));
}

static void only_counted_fields_are_looked_at(void **state)
{
    struct http_field at[] = {{.name = SLICE("a")}, {.name = SLICE("b")}};
    const struct http_fields fields = {at, 1, 2};

    (void)state;
    assert_null(http_field_find(&fields, SLICE("b")));
}

static void cookies_are_found(void **state)
{
    static const struct {
        const char *list, *name, *value; /* value NULL: not there */
    } rows[] = {
        {"a=1", "a", "1"},  {"a=1; b=2", "b", "2"}, {"a=1;b=2", "b", "2"},     {" a = 1 ;b=2", "a", "1"},
        {"a=", "a", ""},    {"a=b=c", "a", "b=c"},  {"a=\"q\"", "a", "\"q\""}, {"a=1; a=2", "a", "1"},
        {"A=1", "a", NULL}, {"aa=1", "a", NULL},    {"b=a=1", "a", NULL},      {"x=a; y", "a", NULL},
        {"a", "a", NULL},   {"; ;a=1", "a", "1"},   {"=1", "a", NULL},         {"", "a", NULL},
        {";;", "", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct slice list = heap_copy(rows[i].list);
        struct http_field at = {.name = SLICE("Cookie"), .value = list, .id = FIELD_COOKIE};
        const struct http_fields fields = {&at, 1, 1};
        struct slice value;
        bool found = http_cookie_find(&fields, slice_from_text(rows[i].name), &value);

        assert_int_equal(found, rows[i].value != NULL);
        if (found)
            assert_slice(value, rows[i].value);
        heap_free(list);
    }
}

static void cookies_may_come_in_several_fields_and_in_no_other(void **state)
{
    struct http_field at[] = {
        {.name = SLICE("X"), .value = SLICE("b=0")},
        {.name = SLICE("cookie"), .value = SLICE("a=1"), .id = FIELD_COOKIE},
        {.name = SLICE("cookie"), .value = SLICE("b=2"), .id = FIELD_COOKIE},
    };
    const struct http_fields fields = {at, 3, 3};
    struct slice value;

    (void)state;
    assert_true(http_cookie_find(&fields, SLICE("b"), &value));
    assert_slice(value, "2");
}

static void query_parameters_are_found_as_sent(void **state)
{
    static const struct {
        const char *query, *name, *value; /* value NULL: not there */
    } rows[] = {
        {"a=1", "a", "1"},     {"a=1&b=2", "b", "2"}, {"b=2&a", "a", ""},        {"a&b", "a", ""},
        {"a=&b", "a", ""},     {"a=x=y", "a", "x=y"}, {"a=%31+ ", "a", "%31+ "}, {"&&a=1", "a", "1"},
        {"a=1&a=2", "a", "1"}, {"%61=1", "a", NULL},  {"ab=1", "a", NULL},       {" a=1", "a", NULL},
        {"A=1", "a", NULL},    {"b=a", "a", NULL},    {"b;a=1", "a", NULL},      {"", "a", NULL},
        {"", "", NULL},        {"&", "", NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct slice query = heap_copy(rows[i].query);
        struct slice value;
        bool found = http_query_find(query, slice_from_text(rows[i].name), &value);

        assert_int_equal(found, rows[i].value != NULL);
        if (found)
            assert_slice(value, rows[i].value);
        heap_free(query);
    }
}

static void a_target_without_a_question_mark_has_no_parameters(void **state)
{
    struct slice value;

    (void)state;
    assert_false(http_query_find(slice_of(NULL, 0), SLICE("a"), &value));
}

static void the_host_is_the_authority_without_its_port(void **state)
{
    static const char *const rows[][2] = {
        {"example.com", "example.com"},
        {"example.com:80", "example.com"},
        {"example.com:", "example.com"},
        {"[::1]", "[::1]"},
        {"[::1]:8080", "[::1]"},
        {"[::1", "[::1"},
        {"127.0.0.1:1", "127.0.0.1"},
        {":80", ""},
        {"", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct slice authority = heap_copy(rows[i][0]);

        assert_slice(http_host_of(authority), rows[i][1]);
        heap_free(authority);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_field_is_found_in_any_case_and_the_first_of_two),
        cmocka_unit_test(only_counted_fields_are_looked_at),
        cmocka_unit_test(cookies_are_found),
        cmocka_unit_test(cookies_may_come_in_several_fields_and_in_no_other),
        cmocka_unit_test(query_parameters_are_found_as_sent),
        cmocka_unit_test(a_target_without_a_question_mark_has_no_parameters),
        cmocka_unit_test(the_host_is_the_authority_without_its_port),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
