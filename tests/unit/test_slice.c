/* test_slice.c - base/slice.h over exact-size heap copies, so that ASan sees an over-read by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/slice.h"

static struct slice heap(const char *text, size_t len)
{
    char *copy = malloc(len);

    assert_true(copy != NULL || len == 0);
    if (len)
        memcpy(copy, text, len);
    return slice_of(copy, len);
}

static void drop(struct slice s)
{
    free((char *)(uintptr_t)s.ptr);
}

static void a_literal_is_as_long_as_its_text(void **state)
{
    struct slice nul = SLICE("a\0b");

    (void)state;
    assert_int_equal(SLICE("").len, 0);
    assert_int_equal(nul.len, 3);
    assert_int_equal(slice_from_text("abc").len, 3);
}

static void slices_are_equal_by_their_bytes(void **state)
{
    struct slice a = heap("ab\0c", 4), b = heap("ab\0c", 4), c = heap("ab\0d", 4), d = heap("ab", 2);

    (void)state;
    assert_true(slice_equal(a, b));
    assert_false(slice_equal(a, c));
    assert_false(slice_equal(a, d));
    assert_true(slice_equal(slice_of(NULL, 0), SLICE("")));
    drop(a);
    drop(b);
    drop(c);
    drop(d);
}

static void case_is_ignored_for_ascii_letters_only(void **state)
{
    static const struct {
        const char *a, *b;
        bool equal;
    } rows[] = {
        {"", "", true},           {"Host", "hOST", true},  {"AZaz", "azAZ", true}, {"a", "b", false},
        {"a", "ab", false},       {"@", "`", false},       {"[", "{", false},      {"\xc4", "\xe4", false},
        {"a-b_1", "A-B_1", true}, {"\x01", "\x21", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct slice a = heap(rows[i].a, strlen(rows[i].a)), b = heap(rows[i].b, strlen(rows[i].b));

        if (slice_equal_nocase(a, b) != rows[i].equal)
            fail_msg("\"%s\" and \"%s\"", rows[i].a, rows[i].b);
        drop(a);
        drop(b);
    }
}

static void a_start_and_an_end_are_found_whatever_their_length(void **state)
{
    struct slice s = heap("Example.com", 11);

    (void)state;
    assert_true(slice_starts_with(s, SLICE("")));
    assert_true(slice_starts_with(s, SLICE("Exam")));
    assert_true(slice_starts_with(s, s));
    assert_false(slice_starts_with(s, SLICE("exam")));
    assert_false(slice_starts_with(s, SLICE("Example.com.")));
    assert_true(slice_ends_with_nocase(s, SLICE("")));
    assert_true(slice_ends_with_nocase(s, SLICE(".COM")));
    assert_true(slice_ends_with_nocase(s, s));
    assert_false(slice_ends_with_nocase(s, SLICE(".org")));
    assert_false(slice_ends_with_nocase(s, SLICE("an.example.com")));
    drop(s);
}

static void trimming_takes_spaces_and_tabs_at_both_ends_and_nothing_else(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"", ""},       {" ", ""},    {" \t ", ""},         {"a", "a"},
        {" a", "a"},    {"a\t", "a"}, {"\t a b \t", "a b"}, {"\na\r", "\na\r"},
        {" \n ", "\n"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct slice s = heap(rows[i].in, strlen(rows[i].in));

        if (!slice_equal(slice_trim(s), slice_from_text(rows[i].out)))
            fail_msg("\"%s\"", rows[i].in);
        drop(s);
    }
}

static void taking_and_dropping_move_the_front(void **state)
{
    struct slice s = heap("abcdef", 6), cursor = s;

    (void)state;
    assert_true(slice_equal(slice_take(&cursor, 2), SLICE("ab")));
    assert_true(slice_equal(cursor, SLICE("cdef")));
    slice_drop(&cursor, 1);
    assert_true(slice_equal(slice_take(&cursor, 3), SLICE("def")));
    assert_int_equal(cursor.len, 0);
    assert_int_equal(slice_take(&cursor, 0).len, 0);
    drop(s);
}

static void a_byte_is_found_or_the_length_is_returned(void **state)
{
    struct slice s = heap("a:b:", 4);

    (void)state;
    assert_int_equal(slice_find(s, 'a'), 0);
    assert_int_equal(slice_find(s, ':'), 1);
    assert_int_equal(slice_find(s, 'x'), 4);
    assert_int_equal(slice_find(slice_of(NULL, 0), 'x'), 0);
    drop(s);
}

/* The parts of a list, each in angle brackets. */
static void expect_parts(const char *text, const char *parts)
{
    struct slice list = heap(text, strlen(text)), cursor = list, part;
    char seen[64] = "";

    while (slice_next_part(&cursor, ',', &part)) {
        strcat(seen, "<");
        strncat(seen, part.len ? part.ptr : "", part.len);
        strcat(seen, ">");
    }
    assert_string_equal(seen, parts);
    assert_false(slice_next_part(&cursor, ',', &part));
    drop(list);
}

static void every_part_of_a_list_comes_once_also_the_empty_ones(void **state)
{
    struct slice none = {NULL, 0}, part;

    (void)state;
    expect_parts("a", "<a>");
    expect_parts("a,b", "<a><b>");
    expect_parts(" a ,\tb ", "<a><b>");
    expect_parts("a,", "<a><>");
    expect_parts(",a", "<><a>");
    expect_parts(",", "<><>");
    expect_parts("a, ,b", "<a><><b>");
    expect_parts("a b", "<a b>");
    assert_false(slice_next_part(&none, ',', &part));
}

static void a_number_is_digits_that_fit_in_64_bits(void **state)
{
    static const struct {
        const char *text;
        bool ok;
        uint64_t value;
    } rows[] = {
        {"0", true, 0},
        {"7", true, 7},
        {"007", true, 7},
        {"65535", true, 65535},
        {"18446744073709551615", true, UINT64_MAX},
        {"018446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"18446744073709551620", false, 0},
        {"99999999999999999999999", false, 0},
        {"", false, 0},
        {"-1", false, 0},
        {"+1", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"1a", false, 0},
        {"0x1", false, 0},
        {"1.0", false, 0},
        {"/", false, 0},
        {":", false, 0},
        {"\xb1", false, 0},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct slice s = heap(rows[i].text, strlen(rows[i].text));
        uint64_t value = 42;
        bool ok = slice_to_u64(s, &value);

        if (ok != rows[i].ok || value != (ok ? rows[i].value : 42))
            fail_msg("\"%s\"", rows[i].text);
        drop(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_literal_is_as_long_as_its_text),
        cmocka_unit_test(slices_are_equal_by_their_bytes),
        cmocka_unit_test(case_is_ignored_for_ascii_letters_only),
        cmocka_unit_test(a_start_and_an_end_are_found_whatever_their_length),
        cmocka_unit_test(trimming_takes_spaces_and_tabs_at_both_ends_and_nothing_else),
        cmocka_unit_test(taking_and_dropping_move_the_front),
        cmocka_unit_test(a_byte_is_found_or_the_length_is_returned),
        cmocka_unit_test(every_part_of_a_list_comes_once_also_the_empty_ones),
        cmocka_unit_test(a_number_is_digits_that_fit_in_64_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
