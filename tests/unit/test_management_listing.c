/* test_management_listing.c - admin/management/listing.h: what a query asks of a list, columns, sorting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "admin/management/listing.h"

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

static json_t *parse(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);

    assert_non_null(value);
    return value;
}

static void an_empty_query_asks_for_all(void **state)
{
    struct listing listing;

    (void)state;
    assert_true(listing_read(&listing, &arena, SLICE("")));
    assert_false(listing.paged);
    assert_int_equal(listing.columns.len + listing.sort.len + listing.name.len, 0);
}

static void a_query_is_read(void **state)
{
    struct listing listing;

    (void)state;
    assert_true(
        listing_read(&listing, &arena,
                     SLICE("page=3&page_size=20&name=%5Ea+b&use_regex=true&sort=message_stats.publish&"
                           "sort_reverse=true&columns=name%2Cvhost&pagination=false")));
    assert_true(listing.paged && listing.is_pattern && listing.reverse);
    assert_int_equal(listing.page, 3);
    assert_int_equal(listing.page_size, 20);
    assert_text(listing.name, "^a b");
    assert_text(listing.sort, "message_stats.publish");
    assert_text(listing.columns, "name,vhost");
}

static void numbers_that_make_no_sense_are_refused(void **state)
{
    static const char *const rows[] = {"page=0",
                                       "page=-1",
                                       "page=x",
                                       "page=4294967296",
                                       "page_size=0",
                                       "page_size=501",
                                       "page=1&page_size=",
                                       "page=1&page_size=a",
                                       "page=%31%zz"};
    struct listing listing;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool read = listing_read(&listing, &arena, slice_from_text(rows[i]));

        /* An empty one, or one that cannot be decoded, is not there. */
        if (i == 6 || i == 8)
            assert_true(read);
        else
            assert_false(read);
    }
}

static void a_name_is_found_anywhere_in_any_case(void **state)
{
    static const struct {
        const char *wanted, *name;
        bool found;
    } rows[] = {
        {"", "anything", true},     {"", "", true},          {"ord", "my-orders", true},
        {"ORD", "my-orders", true}, {"ers", "ORDERS", true}, {"orders", "order", false},
        {"x", "", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct listing listing = {.name = slice_from_text(rows[i].wanted)};

        assert_int_equal(listing_has_name(&listing, slice_from_text(rows[i].name)), rows[i].found);
    }
}

static void a_path_leads_into_objects(void **state)
{
    json_t *item = parse("{\"a\":{\"b\":{\"c\":1}},\"x\":2,\"arguments\":{\"x.y\":3},\"list\":[1]}");
    static const struct {
        const char *path;
        int value; /* -1: there is nothing */
    } rows[] = {
        {"x", 2},    {"a.b.c", 1},   {"arguments.x.y", 3}, {"a.c", -1},
        {"x.y", -1}, {"list.0", -1}, {"a.b.c.d", -1},      {"nothing", -1},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *value = listing_value(item, slice_from_text(rows[i].path));

        assert_int_equal(value ? (int)json_integer_value(value) : -1, rows[i].value);
    }
    assert_null(listing_value(NULL, SLICE("x")));
    json_decref(item);
}

static void values_are_in_order_by_kind_and_then_by_value(void **state)
{
    static const char *const rows[] = {"null", "false", "true",  "-2",     "1.5",
                                       "2",    "\"\"",  "\"a\"", "\"ab\"", "\"b\""};
    size_t n = sizeof rows / sizeof rows[0];

    (void)state;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++) {
            json_t *a = parse(rows[i]), *b = parse(rows[k]);

            assert_int_equal(listing_compare(a, b), (i > k) - (i < k));
            json_decref(a);
            json_decref(b);
        }
    assert_int_equal(listing_compare(NULL, NULL), 0);
}

static void columns_are_those_that_are_there(void **state)
{
    json_t *item = parse("{\"name\":\"q\",\"stats\":{\"in\":{\"rate\":1},\"out\":2},\"none\":null}");
    static const struct {
        const char *columns, *selected;
    } rows[] = {
        {"name", "{\"name\":\"q\"}"},
        {"name,nothing,,none", "{\"name\":\"q\",\"none\":null}"},
        {"stats.in.rate,stats.out", "{\"stats\":{\"in\":{\"rate\":1},\"out\":2}}"},
        {"stats.in.rate,name", "{\"name\":\"q\",\"stats\":{\"in\":{\"rate\":1}}}"},
        {"name.first", "{\"name\":\"q\"}"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct listing listing = {.columns = slice_from_text(rows[i].columns)};
        json_t *selected = listing_select(&listing, item), *expected = parse(rows[i].selected);

        assert_true(json_equal(selected, expected));
        json_decref(selected);
        json_decref(expected);
    }
    json_decref(item);
}

static void without_columns_it_is_the_item_itself(void **state)
{
    struct listing listing = {0};
    json_t *item = parse("{\"name\":\"q\"}"), *selected = listing_select(&listing, item);

    (void)state;
    assert_ptr_equal(selected, item);
    json_decref(selected);
    json_decref(item);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(an_empty_query_asks_for_all, free_arena),
        cmocka_unit_test_teardown(a_query_is_read, free_arena),
        cmocka_unit_test_teardown(numbers_that_make_no_sense_are_refused, free_arena),
        cmocka_unit_test(a_name_is_found_anywhere_in_any_case),
        cmocka_unit_test(a_path_leads_into_objects),
        cmocka_unit_test(values_are_in_order_by_kind_and_then_by_value),
        cmocka_unit_test(columns_are_those_that_are_there),
        cmocka_unit_test(without_columns_it_is_the_item_itself),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
