/* test_amqp_table.c - wire/amqp_table.h: what each letter means, what is refused and why, what is equal, and what is
 * written in its stead. */
#include "amqp_kit.h"
#include "wire/amqp_table.h"

/* ---- reading ------------------------------------------------------------------------------------------------ */

static const struct {
    struct slice item; /* as in an array */
    struct amqp_value value;
    struct slice rewritten; /* with letters that every client reads; empty: the same bytes */
} rows[] = {
    {TEXT("t\1"), {.type = AMQP_BOOL, .truth = true}, TEXT("")},
    {TEXT("t\0"), {.type = AMQP_BOOL}, TEXT("")},
    {TEXT("t\xff"), {.type = AMQP_BOOL, .truth = true}, TEXT("t\1")},
    {TEXT("b\x7f"), {.type = AMQP_INTEGER, .integer = 127}, TEXT("")},
    {TEXT("b\xff"), {.type = AMQP_INTEGER, .integer = -1}, TEXT("")},
    {TEXT("B\xff"), {.type = AMQP_INTEGER, .integer = 255}, TEXT("s\0\xff")},
    {TEXT("B\1"), {.type = AMQP_INTEGER, .integer = 1}, TEXT("s\0\1")},
    {TEXT("s\xff\xfe"), {.type = AMQP_INTEGER, .integer = -2}, TEXT("")},
    {TEXT("s\x80\0"), {.type = AMQP_INTEGER, .integer = -32768}, TEXT("")},
    {TEXT("u\xff\xfe"), {.type = AMQP_INTEGER, .integer = 65534}, TEXT("I\0\0\xff\xfe")},
    {TEXT("I\xff\xff\xff\xfd"), {.type = AMQP_INTEGER, .integer = -3}, TEXT("")},
    {TEXT("I\0\0\0\5"), {.type = AMQP_INTEGER, .integer = 5}, TEXT("")},
    {TEXT("i\xff\xff\xff\xfd"),
     {.type = AMQP_INTEGER, .integer = 4294967293},
     TEXT("l\0\0\0\0\xff\xff\xff\xfd")},
    {TEXT("l\xff\xff\xff\xff\xff\xff\xff\xfc"), {.type = AMQP_INTEGER, .integer = -4}, TEXT("")},
    {TEXT("l\0\0\0\0\0\0\0\1"), {.type = AMQP_INTEGER, .integer = 1}, TEXT("")},
    {TEXT("L\xff\xff\xff\xff\xff\xff\xff\xfc"),
     {.type = AMQP_INTEGER, .integer = -4},
     TEXT("l\xff\xff\xff\xff\xff\xff\xff\xfc")},
    {TEXT("f\x3f\xc0\0\0"), {.type = AMQP_REAL, .real = 1.5}, TEXT("d\x3f\xf8\0\0\0\0\0\0")},
    {TEXT("d\x3f\xf8\0\0\0\0\0\0"), {.type = AMQP_REAL, .real = 1.5}, TEXT("")},
    {TEXT("D\2\0\0\0\x96"),
     {.type = AMQP_DECIMAL, .integer = 150, .scale = 2},
     TEXT("d\x3f\xf8\0\0\0\0\0\0")},
    {TEXT("D\0\xff\xff\xff\xfe"), {.type = AMQP_DECIMAL, .integer = -2}, TEXT("d\xc0\0\0\0\0\0\0\0")},
    {TEXT("S\0\0\0\2ab"), {.type = AMQP_TEXT, .bytes = TEXT("ab")}, TEXT("")},
    {TEXT("S\0\0\0\0"), {.type = AMQP_TEXT}, TEXT("")},
    {TEXT("x\0\0\0\2\0\xff"), {.type = AMQP_BYTES, .bytes = TEXT("\0\xff")}, TEXT("")},
    {TEXT("T\0\0\0\0\x65\x53\xf1\0"), {.type = AMQP_TIME, .seconds = 1700000000}, TEXT("")},
    {TEXT("T\xff\xff\xff\xff\xff\xff\xff\xff"), {.type = AMQP_TIME, .seconds = UINT64_MAX}, TEXT("")},
    {TEXT("V"), {.type = AMQP_VOID}, TEXT("")},
    {TEXT("A\0\0\0\0"), {.type = AMQP_ARRAY}, TEXT("")},
    {TEXT("A\0\0\0\2t\1"), {.type = AMQP_ARRAY, .bytes = TEXT("t\1")}, TEXT("")},
    {TEXT("A\0\0\0\3B\5V"), {.type = AMQP_ARRAY, .bytes = TEXT("B\5V")}, TEXT("A\0\0\0\4s\0\5V")},
    {TEXT("F\0\0\0\0"), {.type = AMQP_TABLE}, TEXT("")},
    {TEXT("F\0\0\0\3\1kV"), {.type = AMQP_TABLE, .bytes = TEXT("\1kV")}, TEXT("")},
    {TEXT("F\0\0\0\x0c\1nA\0\0\0\5F\0\0\0\0"),
     {.type = AMQP_TABLE, .bytes = TEXT("\1nA\0\0\0\5F\0\0\0\0")},
     TEXT("")},
};

static void every_letter_has_the_meaning_that_rabbitmq_gives_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(rows); i++) {
        struct slice item = exact(rows[i].item), rest = item;
        const struct amqp_value *expected = &rows[i].value;
        struct amqp_value value;

        memset(&value, 0x5a, sizeof value);
        assert_true(amqp_array_take(&rest, &value));
        assert_int_equal(rest.len, 0);
        assert_int_equal(value.name.len, 0);
        assert_int_equal(value.letter, *item.ptr);
        assert_int_equal(value.type, expected->type);
        assert_int_equal(value.truth, expected->truth);
        assert_int_equal(value.scale, expected->scale);
        assert_true(value.integer == expected->integer && value.seconds == expected->seconds);
        assert_true(value.real == expected->real);
        assert_slices_equal(value.bytes, expected->bytes);
        drop(item);
    }
}

/* "\4name" and the item: the caller drops it. */
static struct slice as_table(struct slice item)
{
    char bytes[64] = "\4name";

    assert_true(item.len + 5 <= sizeof bytes);
    memcpy(bytes + 5, item.ptr, item.len);
    return exact(slice_of(bytes, 5 + item.len));
}

static void an_item_of_a_table_has_its_name_before_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(rows); i++) {
        struct slice table = as_table(rows[i].item), rest = table;
        struct amqp_value value;

        assert_true(amqp_table_is_valid(table));
        assert_true(amqp_table_take(&rest, &value));
        assert_slices_equal(value.name, SLICE("name"));
        assert_true(amqp_value_equal(&value, &rows[i].value));
        assert_false(amqp_table_take(&rest, &value));
        assert_int_equal(rest.len, 0);
        drop(table);
    }
}

static void an_item_that_is_cut_short_is_not_taken(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(rows); i++) {
        struct slice table = as_table(rows[i].item);

        for (size_t n = 1; n < table.len; n++) {
            struct slice part = exact(slice_of(table.ptr, n)), rest = part;
            struct amqp_value value;

            assert_false(amqp_table_take(&rest, &value));
            assert_int_equal(rest.len, n);
            assert_string_equal(amqp_table_fault(part), "an item is cut short, or longer than what it is in");
            drop(part);
        }
        drop(table);
    }
}

static void what_is_not_a_table_is_refused_with_the_reason(void **state)
{
    static const char cut[] = "an item is cut short, or longer than what it is in",
                      letter[] = "a value's type is none of RabbitMQ's";
    static const struct {
        struct slice table;
        const char *why;
    } bad[] = {
        {TEXT("\1"), cut},
        {TEXT("\1a"), cut},
        {TEXT("\xff"), cut},
        {TEXT("\1aZ"), letter},
        {TEXT("\1a\0"), letter},
        {TEXT("\1ac"), letter},
        {TEXT("\1aU\0\1"), letter},
        {TEXT("\1at\1\1bN"), letter},
        {TEXT("\1aS\xff\xff\xff\xff"), cut},
        {TEXT("\1aS\0\0\0\3ab"), cut},
        {TEXT("\1aF\0\0\0\2\1b"), cut},
        {TEXT("\1aF\0\0\0\3\1bZ"), letter},
        {TEXT("\1aA\0\0\0\1I"), cut},
        {TEXT("\1aA\0\0\0\7F\0\0\0\2\1b"), cut},
        {TEXT("\1aF\0\0\0\4\1bt\1\1"), cut},
        {TEXT("\1aF\0\0\0\7\1bS\0\0\0\1xV"), cut}, /* the text ends behind its table */
    };

    (void)state;
    for (size_t i = 0; i < N(bad); i++) {
        struct slice table = exact(bad[i].table);
        const char *why = amqp_table_fault(table);

        if (!why || strcmp(why, bad[i].why) != 0)
            fail_msg("row %zu: %s", i, why ? why : "valid");
        drop(table);
    }
    assert_null(amqp_table_fault(SLICE("")));
    assert_null(amqp_table_fault(SLICE("\0V\0V")));
}

/* A table in a table, or an array in an array, that many levels: the caller drops it. */
static struct slice nested(unsigned levels, bool arrays)
{
    char bytes[64 * 7];
    size_t len = 0;

    for (unsigned i = 1; i < levels; i++) {
        size_t head = arrays && i + 1 < levels ? 5 : 7;

        memmove(bytes + head, bytes, len);
        memcpy(bytes, "\1t", 2);
        memcpy(bytes + head - 5, arrays ? "A\0\0" : "F\0\0", 3);
        bytes[head - 2] = (char)(len >> 8);
        bytes[head - 1] = (char)len;
        len += head;
    }
    return exact(slice_of(bytes, len));
}

static void tables_and_arrays_are_nested_so_deep_and_no_deeper(void **state)
{
    (void)state;
    for (unsigned levels = 1; levels <= 2 * AMQP_DEPTH_MAX; levels++) {
        struct slice tables = nested(levels, false), arrays = nested(levels, true);

        assert_int_equal(amqp_table_is_valid(tables), levels <= AMQP_DEPTH_MAX);
        assert_int_equal(amqp_table_is_valid(arrays), levels <= AMQP_DEPTH_MAX);
        if (levels > AMQP_DEPTH_MAX)
            assert_string_equal(amqp_table_fault(tables), "tables or arrays are nested too deep");
        drop(tables);
        drop(arrays);
    }
}

static void an_item_is_found_by_its_name(void **state)
{
    static const struct slice table = TEXT("\1ab\1\2abb\2\0b\3\1ab\4\1cF\0\0\0\4\1db\5");
    struct amqp_value value;

    (void)state;
    assert_true(amqp_table_find(table, SLICE("a"), &value) && value.integer == 1); /* the first of two */
    assert_true(amqp_table_find(table, SLICE("ab"), &value) && value.integer == 2);
    assert_true(amqp_table_find(table, SLICE(""), &value) && value.integer == 3);
    assert_false(amqp_table_find(table, SLICE("b"), &value));
    assert_false(amqp_table_find(table, SLICE("d"), &value));
    assert_true(amqp_table_find(table, SLICE("c"), &value) && value.type == AMQP_TABLE);
    assert_true(amqp_table_find(value.bytes, SLICE("d"), &value) && value.integer == 5);
}

/* ---- comparing ---------------------------------------------------------------------------------------------- */

static struct amqp_value value_of(struct slice item)
{
    struct amqp_value value;

    assert_true(amqp_array_take(&item, &value));
    return value;
}

static void numbers_are_equal_by_value_and_kind(void **state)
{
    static const struct {
        struct slice a, b;
        bool equal;
    } pairs[] = {
        {TEXT("b\5"), TEXT("B\5"), true},
        {TEXT("b\5"), TEXT("L\0\0\0\0\0\0\0\5"), true},
        {TEXT("b\xff"), TEXT("s\xff\xff"), true},
        {TEXT("b\xff"), TEXT("B\xff"), false},
        {TEXT("i\xff\xff\xff\xff"), TEXT("I\xff\xff\xff\xff"), false},
        {TEXT("i\xff\xff\xff\xff"), TEXT("l\0\0\0\0\xff\xff\xff\xff"), true},
        {TEXT("f\x3f\xc0\0\0"), TEXT("d\x3f\xf8\0\0\0\0\0\0"), true},
        {TEXT("d\0\0\0\0\0\0\0\0"), TEXT("d\x80\0\0\0\0\0\0\0"), true},
        {TEXT("d\x7f\xf8\0\0\0\0\0\0"), TEXT("d\x7f\xf8\0\0\0\0\0\1"), true}, /* no numbers, both */
        {TEXT("d\x7f\xf8\0\0\0\0\0\0"), TEXT("d\x3f\xf8\0\0\0\0\0\0"), false},
        {TEXT("d\x3f\xf8\0\0\0\0\0\0"), TEXT("d\x7f\xf8\0\0\0\0\0\0"), false},
        {TEXT("D\2\0\0\0\x96"), TEXT("D\1\0\0\0\x0f"), true},
        {TEXT("D\2\0\0\0\0"), TEXT("D\0\0\0\0\0"), true},
        {TEXT("D\2\0\0\0\x96"), TEXT("D\2\0\0\0\x97"), false},
        {TEXT("D\1\0\0\0\x0f"), TEXT("d\x3f\xf8\0\0\0\0\0\0"), false},
        {TEXT("b\1"), TEXT("t\1"), false},
        {TEXT("b\0"), TEXT("V"), false},
        {TEXT("b\1"), TEXT("d\x3f\xf0\0\0\0\0\0\0"), false},
        {TEXT("l\0\0\0\0\0\0\0\5"), TEXT("T\0\0\0\0\0\0\0\5"), false},
        {TEXT("T\0\0\0\0\0\0\0\5"), TEXT("T\0\0\0\0\0\0\0\6"), false},
        {TEXT("t\1"), TEXT("t\2"), true},
        {TEXT("S\0\0\0\1a"), TEXT("x\0\0\0\1a"), false},
        {TEXT("S\0\0\0\1a"), TEXT("S\0\0\0\1b"), false},
        {TEXT("A\0\0\0\2b\1"), TEXT("A\0\0\0\3u\0\1"), true},
        {TEXT("A\0\0\0\2b\1"), TEXT("A\0\0\0\4b\1b\1"), false},
        {TEXT("A\0\0\0\4b\1b\2"), TEXT("A\0\0\0\4b\2b\1"), false},
        {TEXT("A\0\0\0\0"), TEXT("F\0\0\0\0"), false},
    };

    (void)state;
    for (size_t i = 0; i < N(pairs); i++) {
        struct amqp_value a = value_of(pairs[i].a), b = value_of(pairs[i].b);

        if (amqp_value_equal(&a, &b) != pairs[i].equal || amqp_value_equal(&b, &a) != pairs[i].equal)
            fail_msg("row %zu", i);
    }
    for (size_t i = 0; i < N(rows); i++)
        for (size_t k = 0; k < N(rows); k++)
            if (rows[i].value.type != rows[k].value.type)
                assert_false(amqp_value_equal(&rows[i].value, &rows[k].value));
}

static void tables_are_equal_in_any_order(void **state)
{
    static const struct {
        struct slice a, b;
        bool equal;
    } pairs[] = {
        {TEXT(""), TEXT(""), true},
        {TEXT(""), TEXT("\1aV"), false},
        {TEXT("\1ab\1\1bS\0\0\0\1x"), TEXT("\1bS\0\0\0\1x\1aI\0\0\0\1"), true},
        {TEXT("\1ab\1"), TEXT("\1ab\2"), false},
        {TEXT("\1ab\1"), TEXT("\1bb\1"), false},
        {TEXT("\1ab\1"), TEXT("\1ab\1\1bb\1"), false},
        {TEXT("\1bb\1\1ab\1"), TEXT("\1ab\1\1bb\2"), false},
        {TEXT("\1ab\1\1bF\0\0\0\x08\1cb\1\1db\2"), TEXT("\1bF\0\0\0\x08\1db\2\1cb\1\1ab\1"), true},
        {TEXT("\1ab\1\1bF\0\0\0\x08\1cb\1\1db\2"), TEXT("\1bF\0\0\0\x08\1db\3\1cb\1\1ab\1"), false},
        /* a name that is there twice */
        {TEXT("\1ab\1\1ab\2"), TEXT("\1ab\1\1ab\2"), true},
        {TEXT("\1ab\1\1ab\2\1bV"), TEXT("\1bV\1ab\1\1ab\3"), true},
        {TEXT("\1ab\1\1ab\2\1bV"), TEXT("\1bV\1ab\2\1ab\1"), false},
        {TEXT("\1ab\1\1ab\1\1bV"), TEXT("\1bV\1ab\1\1cV"), false},
    };

    (void)state;
    for (size_t i = 0; i < N(pairs); i++) {
        assert_true(amqp_table_is_valid(pairs[i].a) && amqp_table_is_valid(pairs[i].b));
        if (amqp_table_equal(pairs[i].a, pairs[i].b) != pairs[i].equal ||
            amqp_table_equal(pairs[i].b, pairs[i].a) != pairs[i].equal)
            fail_msg("row %zu", i);
    }
}

/* n items, named by their place, from the first or from the last: the caller drops it. */
static struct slice numbered(unsigned n, bool backwards)
{
    char *block = malloc((size_t)n * 6), *at = block;

    assert_non_null(block);
    for (unsigned i = 0; i < n; i++) {
        unsigned name = backwards ? n - 1 - i : i;

        *at++ = 4;
        for (unsigned k = 0; k < 4; k++)
            *at++ = (char)(name >> 8 * k);
        *at++ = 'V';
    }
    return slice_of(block, (size_t)n * 6);
}

/* What a peer sends is not compared in time that grows with its square. */
static void large_tables_are_equal_only_in_the_same_order(void **state)
{
    static const struct {
        unsigned n;
        bool in_any_order;
    } sizes[] = {{2, true}, {AMQP_SEARCH_MAX, true}, {AMQP_SEARCH_MAX + 1, false}, {200000, false}};

    (void)state;
    for (size_t i = 0; i < N(sizes); i++) {
        struct slice forwards = numbered(sizes[i].n, false), backwards = numbered(sizes[i].n, true);

        assert_true(amqp_table_is_valid(forwards));
        assert_true(amqp_table_equal(forwards, forwards));
        assert_int_equal(amqp_table_equal(forwards, backwards), sizes[i].in_any_order);
        drop(forwards);
        drop(backwards);
    }
}

/* ---- writing ------------------------------------------------------------------------------------------------ */

static void what_is_written_has_letters_that_every_client_reads(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(rows); i++) {
        struct slice expected = rows[i].rewritten.len ? rows[i].rewritten : rows[i].item;
        struct sheet sheet = sheet_of(expected.len);
        struct amqp_value value = value_of(rows[i].item);

        assert_true(amqp_array_put(&sheet.out, &value));
        assert_int_equal(amqp_out_close(&sheet.out, sheet.block), AMQP_WRITTEN);
        assert_slices_equal(sheet_bytes(&sheet), expected);
        free(sheet.block);
    }
}

static void what_does_not_fit_is_not_there_in_part(void **state)
{
    static char name[256];
    struct amqp_value value = {.name = slice_of(name, 256)};
    struct sheet sheet = sheet_of(512);

    (void)state;
    for (size_t i = 0; i < N(rows); i++) {
        size_t bytes = 5 + (rows[i].rewritten.len ? rows[i].rewritten.len : rows[i].item.len);
        struct slice table = as_table(rows[i].item);

        for (size_t room = 0; room <= bytes; room++) {
            struct sheet narrow = sheet_of(room);

            amqp_table_put_all(&narrow.out, table);
            assert_int_equal(amqp_out_close(&narrow.out, narrow.block),
                             room < bytes ? AMQP_FULL : AMQP_WRITTEN);
            assert_int_equal(sheet_bytes(&narrow).len, room < bytes ? 0 : bytes);
            free(narrow.block);
        }
        drop(table);
    }
    amqp_table_put(&sheet.out, &value);
    assert_int_equal(amqp_out_close(&sheet.out, sheet.block), AMQP_TOO_LONG);
    value.name.len = 255;
    amqp_table_put(&sheet.out, &value);
    assert_int_equal(amqp_out_close(&sheet.out, sheet.block), AMQP_WRITTEN);
    assert_int_equal(sheet_bytes(&sheet).len, 257);
    free(sheet.block);
}

static void an_integer_has_the_width_that_is_asked_for_or_the_next_that_holds_it(void **state)
{
    static const struct {
        char letter;
        int64_t integer;
        struct slice expected;
    } cases[] = {
        {'b', 127, TEXT("b\x7f")},
        {'b', -128, TEXT("b\x80")},
        {'b', 128, TEXT("s\0\x80")},
        {'s', 1, TEXT("s\0\1")},
        {'s', -32769, TEXT("I\xff\xff\x7f\xff")},
        {'I', 1, TEXT("I\0\0\0\1")},
        {'I', INT64_C(2147483648), TEXT("l\0\0\0\0\x80\0\0\0")},
        {'l', 1, TEXT("l\0\0\0\0\0\0\0\1")},
        {0, 1, TEXT("l\0\0\0\0\0\0\0\1")},
        {'b', INT64_MIN, TEXT("l\x80\0\0\0\0\0\0\0")},
    };

    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        struct amqp_value value = {
            .type = AMQP_INTEGER, .letter = cases[i].letter, .integer = cases[i].integer};
        struct sheet sheet = sheet_of(16);

        amqp_array_put(&sheet.out, &value);
        assert_slices_equal(sheet_bytes(&sheet), cases[i].expected);
        free(sheet.block);
    }
}

static void a_decimal_becomes_the_nearest_real_and_says_whether_it_is_that(void **state)
{
    static const struct {
        int64_t integer;
        uint8_t scale;
        double real;
        bool exact;
    } cases[] = {
        {0, 0, 0.0, true},
        {0, 255, 0.0, true},
        {5, 1, 0.5, true},
        {-625, 4, -0.0625, true},
        {1000000000, 9, 1.0, true},
        {1220703125, 13, 0.0001220703125, true},
        {INT32_MIN, 0, -2147483648.0, true},
        {1, 1, 0.1, false},
        {-314, 2, -3.14, false},
        {1220703125, 14, 0.00001220703125, false},
        {1, 255, 1e-255, false},
        {2147483647, 23, 2147483647e-23, false},
        {INT64_C(9007199254740993), 0, 9007199254740992.0, false},
    };

    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        struct amqp_value decimal = {
            .type = AMQP_DECIMAL, .integer = cases[i].integer, .scale = cases[i].scale};
        struct sheet sheet = sheet_of(9);
        struct amqp_value real;

        assert_int_equal(amqp_array_put(&sheet.out, &decimal), cases[i].exact);
        real = value_of(sheet_bytes(&sheet));
        assert_true(real.type == AMQP_REAL && real.real == cases[i].real);
        free(sheet.block);
    }
}

static void an_inexact_decimal_is_told_of_however_deep_it_is(void **state)
{
    static const struct {
        struct slice table;
        bool exact;
    } cases[] = {
        {TEXT("\1aD\1\0\0\0\5\1bV"), true},
        {TEXT("\1aD\1\0\0\0\1\1bV"), false},
        {TEXT("\1aA\0\0\0\x0c"
              "D\1\0\0\0\1D\1\0\0\0\5"),
         false},
        {TEXT("\1aF\0\0\0\x08\1bD\1\0\0\0\1"), false},
    };

    (void)state;
    for (size_t i = 0; i < N(cases); i++) {
        struct sheet sheet = sheet_of(64);

        assert_int_equal(amqp_table_put_all(&sheet.out, cases[i].table), cases[i].exact);
        assert_int_equal(amqp_out_close(&sheet.out, sheet.block), AMQP_WRITTEN);
        assert_true(amqp_table_is_valid(sheet_bytes(&sheet)));
        free(sheet.block);
    }
}

/* As a server does with its properties, and with where a message has been. */
static void write_example(struct amqp_out *out)
{
    struct amqp_value count = {.name = SLICE("count"), .type = AMQP_INTEGER, .integer = 1};
    struct amqp_value nack = {.name = SLICE("basic.nack"), .type = AMQP_BOOL, .truth = true};
    struct amqp_value key = {.type = AMQP_TEXT, .bytes = SLICE("k")};
    char *table = amqp_table_begin(out, SLICE("capabilities"), AMQP_TABLE), *array, *entry;

    amqp_table_put(out, &nack);
    amqp_nested_end(out, table);
    array = amqp_table_begin(out, SLICE("x-death"), AMQP_ARRAY);
    entry = amqp_array_begin(out, AMQP_TABLE);
    amqp_table_put(out, &count);
    amqp_nested_end(out, entry);
    amqp_array_put(out, &key);
    amqp_nested_end(out, array);
}

static void what_is_nested_is_written_in_place(void **state)
{
    static const struct slice expected = TEXT("\x0c"
                                              "capabilitiesF\0\0\0\x0d\x0a"
                                              "basic.nackt\1"
                                              "\7x-deathA\0\0\0\x1a"
                                              "F\0\0\0\x0f\5countl\0\0\0\0\0\0\0\1"
                                              "S\0\0\0\1k");

    (void)state;
    for (size_t room = 0; room <= expected.len; room++) {
        struct sheet sheet = sheet_of(room);

        write_example(&sheet.out);
        if (room < expected.len) {
            assert_int_equal(amqp_out_close(&sheet.out, sheet.block), AMQP_FULL);
            assert_int_equal(sheet_bytes(&sheet).len, 0);
        } else {
            assert_int_equal(amqp_out_close(&sheet.out, sheet.block), AMQP_WRITTEN);
            assert_slices_equal(sheet_bytes(&sheet), expected);
        }
        free(sheet.block);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_letter_has_the_meaning_that_rabbitmq_gives_it),
        cmocka_unit_test(an_item_of_a_table_has_its_name_before_it),
        cmocka_unit_test(an_item_that_is_cut_short_is_not_taken),
        cmocka_unit_test(what_is_not_a_table_is_refused_with_the_reason),
        cmocka_unit_test(tables_and_arrays_are_nested_so_deep_and_no_deeper),
        cmocka_unit_test(an_item_is_found_by_its_name),
        cmocka_unit_test(numbers_are_equal_by_value_and_kind),
        cmocka_unit_test(tables_are_equal_in_any_order),
        cmocka_unit_test(large_tables_are_equal_only_in_the_same_order),
        cmocka_unit_test(what_is_written_has_letters_that_every_client_reads),
        cmocka_unit_test(what_does_not_fit_is_not_there_in_part),
        cmocka_unit_test(an_integer_has_the_width_that_is_asked_for_or_the_next_that_holds_it),
        cmocka_unit_test(a_decimal_becomes_the_nearest_real_and_says_whether_it_is_that),
        cmocka_unit_test(an_inexact_decimal_is_told_of_however_deep_it_is),
        cmocka_unit_test(what_is_nested_is_written_in_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
