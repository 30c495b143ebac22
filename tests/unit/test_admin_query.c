/* test_admin_query.c - admin/query.h: percent-decoding of names in paths and of parameters. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "admin/query.h"

static struct arena arena;

static int free_arena(void **state)
{
    (void)state;
    arena_free(&arena);
    arena = (struct arena){0};
    return 0;
}

static void assert_text(struct slice s, const char *expected)
{
    assert_int_equal(s.len, strlen(expected));
    assert_memory_equal(s.ptr, expected, s.len);
}

static void a_segment_is_decoded_and_its_plus_stays(void **state)
{
    static const char *const rows[][2] = {
        {"web", "web"},
        {"127.0.0.1%3A80", "127.0.0.1:80"},
        {"unix%3a%2Frun%2fa%20b", "unix:/run/a b"},
        {"a+b", "a+b"},
        {"%C3%A9", "\xc3\xa9"},
        {"", ""},
    };
    struct slice decoded;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(query_decode_segment(&arena, slice_from_text(rows[i][0]), &decoded), 0);
        assert_text(decoded, rows[i][1]);
    }
}

static void half_an_escape_and_control_characters_are_refused(void **state)
{
    static const char *const rows[] = {"%",   "%4",     "a%",   "%4g", "%g4", "%0",
                                       "%00", "%0d%0a", "a%0A", "%7f", "%1f"};
    struct slice decoded;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(query_decode_segment(&arena, slice_from_text(rows[i]), &decoded), -EBADMSG);
}

static void parameters_of_one_name_come_one_after_the_other(void **state)
{
    struct slice query = SLICE("url=x&header=A%3A+1&&header&other=1&he%61der=B:%2B2&last"), value;

    (void)state;
    assert_int_equal(query_take(&arena, &query, SLICE("header"), &value), 1);
    assert_text(value, "A: 1");
    assert_int_equal(query_take(&arena, &query, SLICE("header"), &value), 1);
    assert_text(value, "");
    assert_int_equal(query_take(&arena, &query, SLICE("header"), &value), 1);
    assert_text(value, "B:+2");
    assert_int_equal(query_take(&arena, &query, SLICE("header"), &value), 0);
    assert_int_equal(query.len, 0);
}

static void a_query_that_is_not_there_has_no_parameters(void **state)
{
    struct slice query = {NULL, 0}, value;

    (void)state;
    assert_int_equal(query_take(&arena, &query, SLICE("a"), &value), 0);
    query = SLICE("ab=1&=2&a");
    assert_int_equal(query_take(&arena, &query, SLICE("a"), &value), 1);
    assert_int_equal(value.len, 0);
}

static void a_bad_escape_in_a_value_is_an_error_only_where_it_is_asked_for(void **state)
{
    struct slice query = SLICE("a=%zz&b=1"), value;

    (void)state;
    assert_int_equal(query_take(&arena, &query, SLICE("b"), &value), 1);
    query = SLICE("a=%zz&b=1");
    assert_int_equal(query_take(&arena, &query, SLICE("a"), &value), -EBADMSG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_segment_is_decoded_and_its_plus_stays, free_arena),
        cmocka_unit_test_teardown(half_an_escape_and_control_characters_are_refused, free_arena),
        cmocka_unit_test_teardown(parameters_of_one_name_come_one_after_the_other, free_arena),
        cmocka_unit_test_teardown(a_query_that_is_not_there_has_no_parameters, free_arena),
        cmocka_unit_test_teardown(a_bad_escape_in_a_value_is_an_error_only_where_it_is_asked_for, free_arena),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
