/* test_view.c - command/view.h: numbers as people read them, lines that keep their width, text that cannot harm a
 * terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "command/view.h"

/* A view of some columns into memory. */
struct paper {
    struct view view;
    char *text;
    size_t len;
};

static struct view *paper_open(struct paper *paper, unsigned columns)
{
    *paper = (struct paper){.view = {.columns = columns}};
    paper->view.out = open_memstream(&paper->text, &paper->len);
    assert_non_null(paper->view.out);
    return &paper->view;
}

static void paper_is(struct paper *paper, const char *expected)
{
    assert_int_equal(fclose(paper->view.out), 0);
    assert_string_equal(paper->text, expected);
    free(paper->text);
}

static json_t *parse(const char *text)
{
    json_t *document = json_loads(text, 0, NULL);

    assert_non_null(document);
    return document;
}

#define assert_view_text(made, expected) assert_string_equal((made).text, expected)

static void a_count_is_whole_until_it_needs_a_unit(void **state)
{
    static const struct {
        uint64_t n;
        const char *text;
    } rows[] = {
        {0, "0"},         {99999, "99999"},    {100000, "100k"},        {999499, "999k"},
        {999500, "1.0M"}, {12345678, "12.3M"}, {1234567890123, "1.2T"}, {UINT64_MAX, "1000P"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_view_text(view_count(rows[i].n), rows[i].text);
}

static void a_rate_shows_that_it_is_not_quite_zero(void **state)
{
    static const struct {
        double rate;
        const char *text;
    } rows[] = {
        {0, "0"},        {-1, "0"},         {0.04, "<0.1"},   {0.05, "0.1"},   {12.34, "12.3"},
        {99.9, "99.9"},  {99.96, "100"},    {999.4, "999"},   {999.6, "1.0k"}, {1234, "1.2k"},
        {99999, "100k"}, {1234567, "1.2M"}, {1e300, "1000P"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_view_text(view_rate(rows[i].rate), rows[i].text);
}

static void bytes_are_counted_in_steps_of_1024(void **state)
{
    (void)state;
    assert_view_text(view_bytes(0), "0 B");
    assert_view_text(view_bytes(1023), "1023 B");
    assert_view_text(view_bytes(1024), "1.0 KiB");
    assert_view_text(view_bytes(12345678), "11.8 MiB");
    assert_view_text(view_bytes(512.0 * 1024 * 1024), "512 MiB");
}

static void a_latency_keeps_three_digits_at_most_and_seven_columns(void **state)
{
    static const struct {
        double ms;
        const char *text;
    } rows[] = {
        {0, "0.00 ms"},     {0.124, "0.12 ms"}, {0.996, "1.0 ms"}, {1.2, "1.2 ms"},
        {12.34, "12.3 ms"}, {99.96, "100 ms"},  {999.4, "999 ms"}, {999.6, "1.00 s"},
        {1234, "1.23 s"},   {12340, "12.3 s"},  {123400, "123 s"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_view_text(view_latency(rows[i].ms), rows[i].text);
        assert_in_range(view_width(view_latency(rows[i].ms).text), 1, 7);
    }
}

static void an_age_has_one_unit_and_a_duration_two(void **state)
{
    static const struct {
        double seconds;
        const char *age, *duration;
    } rows[] = {
        {-3, "0 s", "0 s"},         {59.9, "59 s", "59 s"},
        {60, "1 min", "1 min 0 s"}, {3599, "59 min", "59 min 59 s"},
        {7500, "2 h", "2 h 5 min"}, {86399, "23 h", "23 h 59 min"},
        {90000, "1 d", "1 d 1 h"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_view_text(view_age(rows[i].seconds), rows[i].age);
        assert_view_text(view_duration(rows[i].seconds), rows[i].duration);
    }
}

static void a_time_is_rfc_3339_in_utc_or_none(void **state)
{
    static const char *const wrong[] = {"",
                                        "2026-01-31",
                                        "2026-01-31T12:00:00",
                                        "2026-01-31T12:00:00+01:00",
                                        "2026-01-31T12:00:00.Zx",
                                        "2026-13-31T12:00:00Z"};
    double seconds = 0;

    (void)state;
    assert_true(view_time("1970-01-02T00:00:01Z", &seconds));
    assert_true(seconds == 86401);
    assert_true(view_time("2026-01-31T12:00:00.250Z", &seconds));
    assert_true(seconds == 1769860800.25);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (view_time(wrong[i], &seconds))
            fail_msg("%s", wrong[i]);
}

static void an_age_is_judged_by_the_servers_own_clock(void **state)
{
    json_t *document = parse("{\"started\":\"2026-01-31T12:00:00.500Z\",\"uptime\":600.5,"
                             "\"since\":\"2026-01-31T12:09:56.000Z\"}");

    (void)state;
    assert_view_text(view_age_of(document, document, "since"), "5 s");
    assert_view_text(view_age_of(document, document, "nothing"), "-");
    assert_view_text(view_age_of(NULL, document, "since"), "-");
    json_decref(document);
}

static void what_a_document_lacks_is_a_dash_or_nothing(void **state)
{
    json_t *document = parse("{\"latency\":{\"p50_ms\":null,\"p99_ms\":1.5},\"rate\":\"x\",\"name\":7}");

    (void)state;
    assert_view_text(view_latency_of(document, "p50_ms"), "-");
    assert_view_text(view_latency_of(document, "p99_ms"), "1.5 ms");
    assert_view_text(view_rate_of(document, "rate"), "-");
    assert_view_text(view_count_of(document, "active"), "-");
    assert_view_text(view_sum_of(document, "errors"), "0");
    assert_string_equal(view_string(document, "name"), "");
    assert_string_equal(view_string(NULL, "name"), "");
    json_decref(document);
}

static void a_line_is_cut_at_its_width(void **state)
{
    struct paper paper;
    struct view *view = paper_open(&paper, 8);

    (void)state;
    view_put(view, "12345");
    view_put(view, "67890");
    view_put(view, "more");
    view_end(view);
    view_put(view, "gr\xc3\xbc\xc3\x9f"
                   "e 12"); /* a code point is one column */
    paper_is(&paper, "12345678\ngr\xc3\xbc\xc3\x9f"
                     "e 12");
}

static void a_control_character_or_broken_utf8_is_a_space(void **state)
{
    struct paper paper;
    struct view *view = paper_open(&paper, 80);

    (void)state;
    view_put(view, "a\033[31mb\nc\x7f"
                   "d"); /* escape, line feed, delete */
    view_put(view, "e\xc2\x9b"
                   "f"); /* C1: CSI in one byte, to some terminals */
    view_put(view, "g\xff"
                   "h\xc3");                        /* no UTF-8; cut at the end */
    view_put(view, "\xe2\x82");                     /* two of three bytes */
    view_put(view, "\xe2\x82\xac\xf0\x9f\x8d\xbd"); /* three and four bytes */
    paper_is(&paper, "a [31mb c de fg h   \xe2\x82\xac\xf0\x9f\x8d\xbd");
}

static void wrapped_text_loses_no_word(void **state)
{
    struct paper paper;
    struct view *view = paper_open(&paper, 16);

    (void)state;
    view_put(view, "why ");
    view_wrap(view, 4, "one two three  four unbreakablylong end");
    paper_is(&paper, "why one two\n    three  four\n    unbreakablyl\n    ong end");
}

static void a_wrapped_text_may_begin_before_its_indent(void **state)
{
    struct paper paper;
    struct view *view = paper_open(&paper, 10);

    (void)state;
    view_put(view, "a ");
    view_wrap(view, 4, "/ (b) cdef ");
    paper_is(&paper, "a / (b)\n    cdef");
}

static const struct view_column table[] = {
    {"NAME", 0, true}, {"STATE", 6, true}, {"N", 4, false}, {NULL, 0, false}};

static void a_table_stands_in_columns_and_the_open_one_takes_the_rest(void **state)
{
    struct paper paper;
    struct view *view = paper_open(&paper, 24);

    (void)state;
    view_titles(view, table);
    view_row(view, table);
    view_cell(view, "a");
    view_cell(view, "up");
    view_cell(view, "17");
    view_end(view);
    paper_is(&paper, "NAME         STATE     N\n"
                     "a            up       17\n");
}

static void what_is_too_wide_for_its_column_loses_its_middle(void **state)
{
    struct paper paper;
    struct view *view = paper_open(&paper, 24);

    (void)state;
    view_row(view, table);
    view_cell(view, "app1.example.com:8080");
    view_cell(view, "leaving");
    view_cell(view, "12345");
    paper_is(&paper, "app1...:8080 le..ng 1..5");
}

static void there_are_escapes_only_where_colours_are_wanted(void **state)
{
    struct paper paper;
    struct view *view = paper_open(&paper, 20);

    (void)state;
    view_row(view, table);
    view_cell_in(view, VIEW_BAD, "down");
    view_end(view);
    view->colour = true;
    view_row(view, table);
    view_cell_in(view, VIEW_BAD, "down");
    view->reverse = true;
    view_paint(view, VIEW_GOOD);
    paper_is(&paper, "down    \n\033[0;31mdown    \033[0m\033[0;32;7m");
}

static void only_up_is_good_and_what_serves_nobody_is_bad(void **state)
{
    (void)state;
    assert_int_equal(view_state_colour("up"), VIEW_GOOD);
    assert_int_equal(view_state_colour("down"), VIEW_BAD);
    assert_int_equal(view_state_colour("ejected"), VIEW_BAD);
    assert_int_equal(view_state_colour("starting"), VIEW_WARNING);
    assert_int_equal(view_state_colour("degraded"), VIEW_WARNING);
    assert_int_equal(view_state_colour(""), VIEW_WARNING);
}

static void a_servers_weight_and_state_show_what_was_set_by_hand(void **state)
{
    static const struct {
        const char *server, *weight, *state;
    } rows[] = {
        {"{\"weight\":3,\"weight_now\":3.0,\"state\":\"up\",\"by_hand\":null}", "3", "up"},
        {"{\"weight\":3,\"state\":\"up\"}", "3", "up"},
        {"{\"weight\":3,\"weight_now\":1.5,\"state\":\"starting\"}", "1.5", "starting"},
        {"{\"weight\":5,\"weight_now\":5,\"state\":\"up\",\"by_hand\":{\"weight\":5}}", "5*", "up"},
        {"{\"weight\":1,\"state\":\"draining\",\"by_hand\":{\"drain\":true}}", "1", "draining*"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *server = parse(rows[i].server);

        assert_view_text(view_weight_of(server), rows[i].weight);
        assert_view_text(view_state_of(server), rows[i].state);
        json_decref(server);
    }
}

static void a_servers_note_has_what_its_row_cannot_say(void **state)
{
    static const struct {
        const char *server, *note;
    } rows[] = {
        {"{\"state\":\"up\",\"reason\":\"it answers\"}", ""},
        {"{\"state\":\"down\",\"reason\":\"connection refused\"}", "connection refused"},
        {"{\"state\":\"up\",\"backup\":true}", "backup"},
        {"{\"state\":\"draining\",\"reason\":\"by "
         "hand\",\"backup\":true,\"by_hand\":{\"drain\":true,\"weight\":5}}",
         "by hand; backup; by hand: drained, weight 5"},
        {"{\"state\":\"up\",\"by_hand\":{\"drain\":false}}", "by hand: enabled"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *server = parse(rows[i].server);
        char *note = view_server_note(server);

        assert_string_equal(note, rows[i].note);
        free(note);
        json_decref(server);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_count_is_whole_until_it_needs_a_unit),
        cmocka_unit_test(a_rate_shows_that_it_is_not_quite_zero),
        cmocka_unit_test(bytes_are_counted_in_steps_of_1024),
        cmocka_unit_test(a_latency_keeps_three_digits_at_most_and_seven_columns),
        cmocka_unit_test(an_age_has_one_unit_and_a_duration_two),
        cmocka_unit_test(a_time_is_rfc_3339_in_utc_or_none),
        cmocka_unit_test(an_age_is_judged_by_the_servers_own_clock),
        cmocka_unit_test(what_a_document_lacks_is_a_dash_or_nothing),
        cmocka_unit_test(a_line_is_cut_at_its_width),
        cmocka_unit_test(a_control_character_or_broken_utf8_is_a_space),
        cmocka_unit_test(wrapped_text_loses_no_word),
        cmocka_unit_test(a_wrapped_text_may_begin_before_its_indent),
        cmocka_unit_test(a_table_stands_in_columns_and_the_open_one_takes_the_rest),
        cmocka_unit_test(what_is_too_wide_for_its_column_loses_its_middle),
        cmocka_unit_test(there_are_escapes_only_where_colours_are_wanted),
        cmocka_unit_test(only_up_is_good_and_what_serves_nobody_is_bad),
        cmocka_unit_test(a_servers_weight_and_state_show_what_was_set_by_hand),
        cmocka_unit_test(a_servers_note_has_what_its_row_cannot_say),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
