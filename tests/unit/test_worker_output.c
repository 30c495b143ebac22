/* test_worker_output.c - what processes write, as lines of the log; back-off, environment and gauges of workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "workers/backoff.h"
#include "workers/environment.h"
#include "workers/gauge.h"
#include "workers/output.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define S UINT64_C(1000000)

/* ---- output ------------------------------------------------------------------------------------------------------ */

static struct output output;
static char said[8192]; /* a '/' after each */
static unsigned n_said;

static void say(void *arg, struct slice line)
{
    size_t bytes = strlen(said);

    (void)arg;
    n_said++;
    if (bytes + line.len + 2 < sizeof said)
        snprintf(said + bytes, sizeof said - bytes, "%.*s/", SLICE_ARG(line));
}

static int fresh(void **state)
{
    (void)state;
    output_init(&output, say, NULL, 0);
    said[0] = '\0';
    n_said = 0;
    return 0;
}

/* Of exactly the bytes that there are: a byte more is found. */
static void take(const char *text, uint64_t now_us)
{
    size_t bytes = strlen(text);
    char *copy = malloc(bytes ? bytes : 1);

    assert_non_null(copy);
    memcpy(copy, text, bytes);
    output_take(&output, slice_of(copy, bytes), now_us);
    free(copy);
}

static void take_number(const char *text, unsigned number, uint64_t now_us)
{
    char line[64];

    snprintf(line, sizeof line, "%s %u\n", text, number);
    take(line, now_us);
}

static void lines_are_said_however_they_come_in_pieces(void **state)
{
    static const char text[] = "first\nsecond\r\n\n  third \nunended";

    (void)state;
    for (size_t step = 1; step <= sizeof text; step++) {
        fresh(NULL);
        for (size_t at = 0; at < sizeof text - 1; at += step) {
            char piece[sizeof text];

            snprintf(piece, sizeof piece, "%.*s", (int)step, text + at);
            take(piece, 0);
        }
        assert_string_equal(said, "first/second/  third /");
        output_end(&output, 0);
        assert_string_equal(said, "first/second/  third /unended/");
    }
}

static void a_long_line_is_cut_and_its_rest_counted(void **state)
{
    char long_one[OUTPUT_LINE_MAX + 12];

    (void)state;
    memset(long_one, 'x', sizeof long_one);
    long_one[OUTPUT_LINE_MAX] = '\n';
    long_one[OUTPUT_LINE_MAX + 1] = '\0';
    take(long_one, 0);
    assert_int_equal(strlen(said), OUTPUT_LINE_MAX + 1);
    long_one[OUTPUT_LINE_MAX] = 'x';
    memcpy(long_one + OUTPUT_LINE_MAX, "abcdefg\n", 9);
    said[0] = '\0';
    take(long_one, 0);
    assert_string_equal(said + OUTPUT_LINE_MAX, " [7 bytes more]/");
}

static void a_line_that_is_repeated_is_counted(void **state)
{
    (void)state;
    take("a\na\na\nb\n", 0);
    assert_string_equal(said, "a/[the last line came 2 times more]/b/");
    take("b\n", S);
    assert_int_equal(output_tick(&output, S), S + OUTPUT_SILENCE_US);
    assert_int_equal(output_tick(&output, S + OUTPUT_SILENCE_US), UINT64_MAX);
    assert_string_equal(said, "a/[the last line came 2 times more]/b/[the last line came 1 time more]/");
}

static void a_flood_is_cut_to_its_rate_and_what_is_missing_is_said(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 1000; i++)
        take_number("flood", i, 0);
    assert_int_equal(n_said, OUTPUT_BURST);
    said[0] = '\0';
    assert_int_equal(output_tick(&output, 0), S / OUTPUT_PER_S);
    assert_int_equal(output_tick(&output, S / OUTPUT_PER_S), UINT64_MAX);
    assert_string_equal(said, "[900 lines left out: too many at once]/");
    n_said = 0;
    for (unsigned i = 0; i < 100; i++)
        take_number("later", i, 2 * S); /* room for 40 came meanwhile, of which what was said took none */
    assert_in_range(n_said, 2 * OUTPUT_PER_S - 1, 2 * OUTPUT_PER_S + 1);
}

static void everything_is_said_or_counted(void **state)
{
    unsigned long long total = 0, n;
    char *at;

    (void)state;
    for (unsigned i = 0; i < 300; i++)
        take_number("line", i / 2, 0); /* each comes twice */
    output_end(&output, 0);
    for (at = said; (at = strchr(at, '/')) != NULL; at++)
        total++;
    for (at = said; (at = strchr(at, '[')) != NULL; at++) {
        total--;
        if (sscanf(at, "[the last line came %llu", &n) == 1 || sscanf(at, "[%llu line", &n) == 1)
            total += n;
    }
    assert_int_equal(total, 300);
}

static void a_nul_is_a_blank(void **state)
{
    (void)state;
    output_take(&output, slice_of("a\0b\n", 4), 0);
    assert_string_equal(said, "a b/");
}

static void what_is_said_is_utf8_without_controls(void **state)
{
    static const struct {
        const char *written, *said;
    } rows[] = {
        {"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8d\xb5\n", "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8d\xb5/"},
        {"caf\xe9 ok\n", "caf? ok/"},
        {"\xc0\xaf\xed\xa0\x80\xf5.\n", "??????./"},
        {"\xe2\x82.\n", "??./"},
        {"a\x1b[31mb\x07\tc\x7f\n", "a [31mb  c /"},
        {"a\xc2\x9b"
         "31m\xc2\xa0\n",
         "a 31m\xc2\xa0/"},
        {"a\xe2\x80\xae"
         "b\xe2\x80\xa8"
         "c\xe2\x81\xa6"
         "d\xe2\x80\x94\n",
         "a b c d\xe2\x80\x94/"},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        fresh(state);
        take(rows[i].written, 0);
        assert_string_equal(said, rows[i].said);
    }
}

static void a_cut_is_between_characters(void **state)
{
    char line[OUTPUT_LINE_MAX + 8];

    (void)state;
    for (size_t before = OUTPUT_LINE_MAX - 4; before <= OUTPUT_LINE_MAX; before++) {
        size_t whole = before + 4 <= OUTPUT_LINE_MAX ? 4 : 0;
        char wanted[64];

        fresh(NULL);
        memset(line, 'x', before);
        memcpy(line + before, "\xf0\x9f\x8d\xb5yz\n", 8);
        take(line, 0);
        snprintf(wanted, sizeof wanted, "x%.*s [%zu bytes more]/", (int)whole, line + before, 6 - whole);
        assert_string_equal(said + before - 1, wanted);
    }
}

static void a_line_without_an_end_is_said_after_a_while(void **state)
{
    (void)state;
    take("Pass", 0);
    assert_int_equal(output_tick(&output, S / 2), S);
    take("word? ", S / 2);
    assert_int_equal(output_tick(&output, S), S / 2 + OUTPUT_PART_US);
    assert_string_equal(said, "");
    assert_int_equal(output_tick(&output, S / 2 + OUTPUT_PART_US), UINT64_MAX);
    assert_string_equal(said, "Password? /");
    take("\nnext\n", 3 * S);
    assert_string_equal(said, "Password? /next/");
}

/* ---- back-off ---------------------------------------------------------------------------------------------------- */

static void a_back_off_doubles_up_to_a_most_and_never_ends(void **state)
{
    struct rng rng = {7};
    uint64_t least_us = BACKOFF_FIRST_US;

    (void)state;
    for (unsigned failures = 1; failures < 100; failures++) {
        uint64_t wait_us = backoff_us(failures, &rng);

        assert_in_range(wait_us, least_us, least_us + least_us / 4);
        least_us = least_us * 2 < BACKOFF_MOST_US ? least_us * 2 : BACKOFF_MOST_US;
    }
    assert_in_range(backoff_us(UINT32_MAX, &rng), BACKOFF_MOST_US, BACKOFF_MOST_US * 5 / 4);
}

static void those_who_fail_together_do_not_come_back_together(void **state)
{
    struct rng rng = {7};
    uint64_t first_us = backoff_us(3, &rng);
    unsigned same = 0;

    (void)state;
    for (unsigned i = 0; i < 20; i++)
        same += backoff_us(3, &rng) == first_us;
    assert_int_equal(same, 0);
}

/* ---- environment ------------------------------------------------------------------------------------------------- */

static void variables_stand_one_after_the_other(void **state)
{
    struct environment e = {0};

    (void)state;
    environment_add(&e, "A", "%d", 7);
    environment_add(&e, "B", "%s", "");
    assert_int_equal(e.n, 2);
    assert_int_equal(e.bytes, 7);
    assert_memory_equal(e.texts, "A=7\0B=\0", 7);
    assert_false(e.full);
}

static void one_that_has_no_room_is_left_out_and_told(void **state)
{
    struct environment e = {0};
    char long_one[ENVIRONMENT_BYTES];

    (void)state;
    memset(long_one, 'x', sizeof long_one);
    long_one[sizeof long_one - 1] = '\0';
    environment_add(&e, "A", "%s", "1");
    environment_add(&e, "B", "%s", long_one);
    assert_true(e.full);
    assert_int_equal(e.n, 1);
    assert_int_equal(e.bytes, 4);
    e = (struct environment){0};
    environment_add(&e, "B", "%.*s", (int)sizeof e.texts - 3, long_one); /* and not a byte more */
    assert_false(e.full);
    environment_add(&e, long_one, "%s", "");
    assert_true(e.full);
}

static void what_is_given_takes_the_place_of_what_is_inherited(void **state)
{
    static char a[] = "A=1", b[] = "B=2", ab[] = "AB=3", none[] = "odd", new_a[] = "A=new", new_c[] = "C=";
    char *base[] = {a, b, ab, none, NULL}, *more[] = {new_a, new_c, NULL};
    char **merged = environment_merge(base, more);
    static const char *const wanted[] = {"A=new", "C=", "B=2", "AB=3", "odd"};

    (void)state;
    assert_non_null(merged);
    for (size_t i = 0; i < COUNT(wanted); i++)
        assert_string_equal(merged[i], wanted[i]);
    assert_null(merged[COUNT(wanted)]);
    free(merged);
}

/* ---- gauges ------------------------------------------------------------------------------------------------------ */

static void a_gauge_is_believed_for_a_while(void **state)
{
    static const struct config_gauge config = {
        .name = "load", .full = 20, .unit = "connections", .expires_us = 30 * S};
    static const struct {
        bool told;
        double value;
        uint64_t now_us;
        enum gauge_state state;
        const char *reason;
    } rows[] = {
        {false, 0, 5 * S, GAUGE_UNKNOWN, "nothing was told yet; POST /api/gauges/load"},
        {true, 19.5, 5 * S, GAUGE_OK, "19.5 of 20 connections"},
        {true, 20, 5 * S, GAUGE_FULL, "20 of 20 connections"},
        {true, -1, 5 * S, GAUGE_OK, "-1 of 20 connections"},
        {true, 25, 31 * S - 1, GAUGE_FULL, "25 of 20 connections"},
        {true, 25, 31 * S, GAUGE_UNKNOWN, "nothing was told for 30 s, and a value is believed for 30 s"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct gauge gauge = {.config = &config, .told = rows[i].told, .value = rows[i].value, .told_us = S};
        char reason[GAUGE_TEXT_MAX];

        assert_int_equal(gauge_state(&gauge, rows[i].now_us), rows[i].state);
        gauge_reason(&gauge, rows[i].now_us, reason);
        assert_string_equal(reason, rows[i].reason);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(lines_are_said_however_they_come_in_pieces, fresh),
        cmocka_unit_test_setup(a_long_line_is_cut_and_its_rest_counted, fresh),
        cmocka_unit_test_setup(a_line_that_is_repeated_is_counted, fresh),
        cmocka_unit_test_setup(a_flood_is_cut_to_its_rate_and_what_is_missing_is_said, fresh),
        cmocka_unit_test_setup(everything_is_said_or_counted, fresh),
        cmocka_unit_test_setup(a_nul_is_a_blank, fresh),
        cmocka_unit_test(what_is_said_is_utf8_without_controls),
        cmocka_unit_test(a_cut_is_between_characters),
        cmocka_unit_test_setup(a_line_without_an_end_is_said_after_a_while, fresh),
        cmocka_unit_test(a_back_off_doubles_up_to_a_most_and_never_ends),
        cmocka_unit_test(those_who_fail_together_do_not_come_back_together),
        cmocka_unit_test(variables_stand_one_after_the_other),
        cmocka_unit_test(one_that_has_no_room_is_left_out_and_told),
        cmocka_unit_test(what_is_given_takes_the_place_of_what_is_inherited),
        cmocka_unit_test(a_gauge_is_believed_for_a_while),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
