/* test_top_view.c - command/top_view.h: frames and keys of `maitred top`, without a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "command/terminal.h"
#include "command/top_view.h"
#include "command/view.h"

#define LINES_MOST 200

/* A frame, taken apart. */
struct picture {
    char *text;
    const char *line[LINES_MOST];
    size_t n;
};

static struct picture draw(const json_t *state, const struct top_ui *ui, unsigned columns, unsigned lines)
{
    struct picture picture = {.text = top_compose(state, ui, columns, lines)};

    assert_non_null(picture.text);
    for (char *at = picture.text, *end; at; at = end ? end + 1 : NULL) {
        end = strchr(at, '\n');
        if (end)
            *end = '\0';
        assert_true(picture.n < LINES_MOST);
        picture.line[picture.n++] = at;
    }
    return picture;
}

/* The first line from `from` on that has the text, or the number of lines. */
static size_t find(const struct picture *picture, size_t from, const char *text)
{
    while (from < picture->n && !strstr(picture->line[from], text))
        from++;
    return from;
}

static bool shows(const json_t *state, const struct top_ui *ui, const char *text)
{
    struct picture picture = draw(state, ui, 80, 24);
    bool found = find(&picture, 0, text) < picture.n;

    free(picture.text);
    return found;
}

static json_t *parse(const char *text)
{
    json_t *document = json_loads(text, 0, NULL);

    assert_non_null(document);
    return document;
}

static const char SMALL[] =
    "{\"started\":\"2026-01-31T12:00:00.000Z\",\"uptime\":600,\"state\":\"degraded\","
    "\"reasons\":[\"pool web: 1 of 3 servers down\",\"another\"],\"connections\":{\"open\":12,\"max\":10000},"
    "\"listeners\":[{\"name\":\":80\",\"kind\":\"http\",\"rate\":12.5,\"error_rate\":0.5,\"routes\":["
    "  {\"name\":\"/b\",\"action\":\"pool web\",\"rate\":2,\"error_rate\":0.5,\"latency\":{\"p99_ms\":9}},"
    "  {\"name\":\"/a\",\"action\":\"redirect\",\"rate\":1,\"error_rate\":0,\"latency\":{\"p99_ms\":30}}]},"
    " {\"name\":\":54\",\"kind\":\"tcp\",\"pool\":\"db\",\"rate\":3}],"
    "\"pools\":[{\"name\":\"web\",\"state\":\"degraded\",\"waiting\":0,\"rate\":3,\"error_rate\":0.5,"
    "\"servers\":["
    "  {\"name\":\"s1\",\"state\":\"up\",\"rate\":1,\"error_rate\":0,\"latency\":{\"p99_ms\":30}},"
    "  {\"name\":\"s2\",\"state\":\"down\",\"reason\":\"connection refused\",\"rate\":0,\"error_rate\":0.5,"
    "   \"since\":\"2026-01-31T12:09:55Z\"},"
    "  {\"name\":\"s3\",\"state\":\"up\",\"rate\":2,\"error_rate\":0.1,\"latency\":{\"p99_ms\":9}}]},"
    " {\"name\":\"db\",\"state\":\"up\",\"rate\":9,\"servers\":[{\"name\":\"s1\",\"state\":\"up\"}]}],"
    "\"events\":[{\"time\":\"2026-01-31T12:01:00Z\",\"text\":\"first\"},"
    " {\"time\":\"2026-01-31T12:09:55Z\",\"text\":\"second\"}]}";

/* Pools of servers named p0s0, p0s1 and so on. */
static json_t *large(int pools, int servers, int routes)
{
    json_t *state = json_pack("{s:s, s:[{s:s, s:s, s:[]}], s:[], s:[]}", "state", "up", "listeners", "name",
                              ":80", "kind", "http", "routes", "pools", "events");
    json_t *listed = json_object_get(json_array_get(json_object_get(state, "listeners"), 0), "routes");
    char name[32];

    assert_non_null(state);
    for (int i = 0; i < routes; i++) {
        snprintf(name, sizeof name, "/r%03d", i);
        json_array_append_new(listed, json_pack("{s:s}", "name", name));
    }
    for (int i = 0; i < pools; i++) {
        json_t *of = json_array();

        for (int j = 0; j < servers; j++) {
            snprintf(name, sizeof name, "p%ds%02d", i, j);
            json_array_append_new(of, json_pack("{s:s, s:s}", "name", name, "state", "up"));
        }
        snprintf(name, sizeof name, "pool%d", i);
        json_array_append_new(json_object_get(state, "pools"),
                              json_pack("{s:s, s:s, s:o}", "name", name, "state", "up", "servers", of));
    }
    return state;
}

static void keys(struct top_ui *ui, const json_t *state, const char *typed)
{
    for (; *typed; typed++)
        assert_int_equal(top_key(ui, state, *typed), TOP_NOTHING);
}

static void a_frame_has_the_asked_lines_and_none_is_wider_than_asked(void **unused)
{
    static const struct {
        unsigned columns, lines;
    } sizes[] = {{80, 24},  {81, 25}, {120, 40}, {300, 100}, {80, 150},
                 {200, 24}, {79, 24}, {80, 23},  {10, 1}};
    json_t *states[] = {parse(SMALL), large(3, 50, 60), large(40, 1, 1), large(0, 0, 0), json_object()};
    struct top_ui ui = {0};

    (void)unused;
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++) {
            struct picture picture = draw(states[i], &ui, sizes[j].columns, sizes[j].lines);

            assert_int_equal(picture.n, sizes[j].lines);
            for (size_t k = 0; k < picture.n; k++)
                assert_in_range(view_width(picture.line[k]), 0, sizes[j].columns);
            free(picture.text);
        }
        json_decref(states[i]);
    }
}

static void a_frame_tells_state_routes_servers_and_events_in_words(void **unused)
{
    json_t *state = parse(SMALL);
    struct top_ui ui = {0};
    struct picture picture = draw(state, &ui, 80, 24);
    size_t routes = find(&picture, 0, "ROUTE"), pools = find(&picture, 0, "POOL");
    size_t events = find(&picture, 0, "EVENTS");

    (void)unused;
    assert_string_equal(picture.line[0],
                        "maitred is degraded, up 10 min; 12/10000 connections, 15.5 req/s, 0.5 err/s");
    assert_string_equal(picture.line[1], "pool web: 1 of 3 servers down; another");
    assert_in_range(find(&picture, routes, " tcp"), routes + 1, pools - 1);
    assert_in_range(find(&picture, routes, "pool db"), routes + 1, pools - 1);
    assert_in_range(find(&picture, routes, "redirect"), routes + 1, pools - 1);
    assert_in_range(find(&picture, pools, "  s2"), pools + 1, events - 1);
    assert_non_null(strstr(picture.line[find(&picture, pools, "  s2")], "down"));
    assert_string_equal(picture.line[find(&picture, events, "first")], "  9 min ago  first");
    assert_string_equal(picture.line[find(&picture, events, "second")], "    5 s ago  second");
    assert_null(strchr(picture.line[0], '\033'));
    free(picture.text);
    json_decref(state);
}

static void rows_go_by_the_chosen_column_and_reverse(void **unused)
{
    static const struct {
        const char *typed, *routes[2], *pools[2], *servers[3];
    } rows[] = {
        {"", {"/a", "/b"}, {"db", "web"}, {"s1", "s2", "s3"}},
        {"r", {"/b", "/a"}, {"web", "db"}, {"s3", "s2", "s1"}},
        {"s", {"/b", "/a"}, {"db", "web"}, {"s3", "s1", "s2"}},
        {"ss", {"/a", "/b"}, {"db", "web"}, {"s1", "s3", "s2"}},
        {"sss", {"/b", "/a"}, {"web", "db"}, {"s2", "s3", "s1"}},
        {"sssr", {"/a", "/b"}, {"db", "web"}, {"s1", "s3", "s2"}},
        {"ssss", {"/a", "/b"}, {"db", "web"}, {"s1", "s2", "s3"}},
    };
    json_t *state = parse(SMALL);

    (void)unused;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct top_ui ui = {0};
        struct picture picture;
        size_t web, db, below;

        keys(&ui, state, rows[i].typed);
        picture = draw(state, &ui, 80, 30);
        assert_true(find(&picture, 0, rows[i].routes[0]) < find(&picture, 0, rows[i].routes[1]));
        below = find(&picture, 0, "POOL");
        web = find(&picture, below, " web ");
        db = find(&picture, below, " db ");
        assert_int_equal(strcmp(rows[i].pools[0], "web") == 0, web < db);
        for (size_t j = 0; j < 3; j++)
            assert_non_null(strstr(picture.line[web + 1 + j], rows[i].servers[j]));
        free(picture.text);
        top_ui_free(&ui);
    }
    json_decref(state);
}

static void the_selection_moves_over_servers_only_and_stops_at_the_ends(void **unused)
{
    json_t *state = parse(SMALL);
    struct top_ui ui = {0};

    (void)unused;
    assert_true(shows(state, &ui, ">  s1"));
    assert_int_equal(top_key(&ui, state, TERMINAL_UP), TOP_NOTHING);
    assert_string_equal(ui.pool, "db");
    assert_int_equal(top_key(&ui, state, TERMINAL_DOWN), TOP_NOTHING);
    assert_string_equal(ui.pool, "web");
    assert_string_equal(ui.server, "s1");
    keys(&ui, state, "jjjj");
    assert_string_equal(ui.server, "s3");
    assert_true(shows(state, &ui, "s3 of web: up"));
    keys(&ui, state, "k");
    assert_string_equal(ui.server, "s2");
    assert_true(shows(state, &ui, "s2 of web: down for 5 s; connection refused"));
    top_ui_free(&ui);
    json_decref(state);
}

static void the_selection_stays_with_its_server_when_rows_move(void **unused)
{
    json_t *state = parse(SMALL);
    struct top_ui ui = {0};

    (void)unused;
    keys(&ui, state, "jjj");
    assert_string_equal(ui.server, "s3");
    keys(&ui, state, "r");
    assert_true(shows(state, &ui, ">  s3"));
    keys(&ui, state, "j");
    assert_string_equal(ui.server, "s2");
    top_ui_free(&ui);
    json_decref(state);
}

static void the_selected_server_is_always_in_sight(void **unused)
{
    json_t *state = large(3, 50, 60);
    struct top_ui ui = {0};

    (void)unused;
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 50; j++) {
            char marked[32];

            snprintf(marked, sizeof marked, ">  p%ds%02d", i, j);
            if (!shows(state, &ui, marked))
                fail_msg("no %s", marked);
            keys(&ui, state, "j");
        }
    }
    top_ui_free(&ui);
    json_decref(state);
}

static void what_does_not_fit_is_counted(void **unused)
{
    json_t *state = large(1, 50, 60);
    struct top_ui ui = {0};
    struct picture picture = draw(state, &ui, 80, 24);
    size_t last = find(&picture, 0, "more"), shown = last - find(&picture, 0, "ROUTE") - 1;
    char expected[32];

    (void)unused;
    snprintf(expected, sizeof expected, " ... and %zu more", 60 - shown);
    assert_string_equal(picture.line[last], expected);
    free(picture.text);
    json_decref(state);
}

static void a_filter_shows_only_what_has_its_text(void **unused)
{
    json_t *state = parse(SMALL);
    struct top_ui ui = {0};

    (void)unused;
    keys(&ui, state, "/S2");
    assert_true(shows(state, &ui, "show only what has: S2_"));
    assert_true(shows(state, &ui, ">  s2"));
    assert_true(shows(state, &ui, " web "));
    assert_false(shows(state, &ui, "  s1"));
    assert_false(shows(state, &ui, "  s3"));
    assert_false(shows(state, &ui, " db "));
    assert_int_equal(top_key(&ui, state, 'q'), TOP_NOTHING); /* a letter here, not the end */
    assert_string_equal(ui.filter, "S2q");
    keys(&ui, state, "\x7f\r");
    assert_string_equal(ui.filter, "S2");
    assert_true(shows(state, &ui, "only what has S2"));
    assert_int_equal(top_key(&ui, state, TERMINAL_ESCAPE), TOP_NOTHING);
    assert_true(shows(state, &ui, "  s3"));
    top_ui_free(&ui);
    json_decref(state);
}

static void a_filter_is_bounded_and_loses_whole_characters(void **unused)
{
    json_t *state = json_object();
    struct top_ui ui = {0};

    (void)unused;
    keys(&ui, state, "/");
    for (int i = 0; i < 2 * TOP_FILTER_MAX; i++)
        top_key(&ui, state, 'x');
    assert_int_equal(strlen(ui.filter), TOP_FILTER_MAX);
    for (int i = 0; i < TOP_FILTER_MAX; i++)
        top_key(&ui, state, 0x7f);
    assert_string_equal(ui.filter, "");
    top_key(&ui, state, 0x7f);
    top_key(&ui, state, 0xc3);
    top_key(&ui, state, 0xbc);
    assert_string_equal(ui.filter, "\xc3\xbc");
    top_key(&ui, state, 0x7f);
    assert_string_equal(ui.filter, "");
    json_decref(state);
}

static void a_drain_is_asked_for_first_and_goes_to_the_server_that_was_asked_about(void **unused)
{
    json_t *state = parse(SMALL),
           *later = parse("{\"pools\":[{\"name\":\"x\",\"servers\":[{\"name\":\"y\"}]}]}");
    struct top_ui ui = {0};

    (void)unused;
    keys(&ui, state, "jjd");
    assert_true(shows(state, &ui, "drain s2 of pool web? y/n"));
    keys(&ui, state, "n");
    assert_int_equal(ui.mode, TOP_LOOK);
    keys(&ui, state, "dq"); /* what is no yes is a no, and nothing else */
    assert_int_equal(ui.mode, TOP_LOOK);
    keys(&ui, state, "d");
    assert_int_equal(top_key(&ui, later, 'y'), TOP_DRAIN);
    assert_string_equal(ui.pool, "web");
    assert_string_equal(ui.server, "s2");
    assert_int_equal(top_key(&ui, state, 'e'), TOP_ENABLE);
    assert_string_equal(ui.server, "s2");
    top_ui_free(&ui);
    json_decref(state);
    json_decref(later);
}

static void without_a_server_there_is_nothing_to_steer(void **unused)
{
    json_t *state = large(0, 0, 3);
    struct top_ui ui = {0};

    (void)unused;
    keys(&ui, state, "jkde");
    assert_int_equal(ui.mode, TOP_LOOK);
    assert_int_equal(top_key(&ui, state, 'q'), TOP_QUIT);
    json_decref(state);
}

static void no_news_outweigh_what_was_said_and_a_key_takes_that_away(void **unused)
{
    json_t *state = parse(SMALL);
    struct top_ui ui = {.said = "it drains", .lost = "nobody answers"};

    (void)unused;
    assert_true(shows(state, &ui, "nobody answers"));
    ui.lost[0] = '\0';
    assert_true(shows(state, &ui, "it drains"));
    keys(&ui, state, "?");
    assert_true(shows(state, &ui, "1 of 3 servers down"));
    assert_true(shows(state, &ui, "/ filter  ? less"));
    json_decref(state);
}

static void colours_add_escapes_and_change_no_word(void **unused)
{
    json_t *state = parse(SMALL);
    struct top_ui ui = {0};
    char *plain = top_compose(state, &ui, 80, 24), *coloured, *to;

    (void)unused;
    ui.colour = true;
    coloured = to = top_compose(state, &ui, 80, 24);
    assert_non_null(strstr(coloured, "\033[0;31m down"));
    for (const char *at = coloured; *at; at++) {
        if (*at == '\033')
            at = strchr(at, 'm');
        else
            *to++ = *at;
    }
    *to = '\0';
    assert_string_equal(coloured, plain);
    free(plain);
    free(coloured);
    json_decref(state);
}

static void keys_are_taken_one_by_one_and_unknown_sequences_skipped(void **unused)
{
    static const char typed[] = "a\033[A\033OB\033[5~\033[1;5Cz\033";
    struct slice left = slice_of(typed, sizeof typed - 1);

    (void)unused;
    assert_int_equal(terminal_take_key(&left), 'a');
    assert_int_equal(terminal_take_key(&left), TERMINAL_UP);
    assert_int_equal(terminal_take_key(&left), TERMINAL_DOWN);
    assert_int_equal(terminal_take_key(&left), 'z');
    assert_int_equal(terminal_take_key(&left), TERMINAL_ESCAPE);
    assert_int_equal(terminal_take_key(&left), -1);
    left = slice_of("\033[", 2);
    assert_int_equal(terminal_take_key(&left), -1);
}

static void queues_have_a_table_of_their_own_that_leaves_room_for_the_rest(void **unused)
{
    json_t *state = large(2, 30, 10), *queues = json_array();
    struct top_ui ui = {0};
    struct picture picture;
    char name[16];
    size_t title, at;

    (void)unused;
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "q%02d", i);
        json_array_append_new(queues, json_pack("{s:s, s:s, s:i, s:f, s:{s:f}}", "name", name, "state",
                                                i ? "running" : "full", "ready", 7, "oldest_age", 90.0,
                                                "rates", "published", 12.5));
    }
    json_object_set_new(state, "queues", queues);
    for (unsigned lines = 24; lines <= 100; lines++) {
        picture = draw(state, &ui, 80, lines);
        assert_int_equal(picture.n, lines);
        title = find(&picture, 0, " QUEUE");
        at = find(&picture, title, " q00");
        assert_int_equal(at, title + 1);
        assert_true(find(&picture, 0, " EVENTS") < lines && find(&picture, 0, "p0s00") < lines);
        free(picture.text);
    }
    picture = draw(state, &ui, 80, 40);
    at = find(&picture, 0, " q00");
    assert_non_null(strstr(picture.line[at], "full"));
    assert_non_null(strstr(picture.line[at], "1 min"));
    assert_non_null(strstr(picture.line[at], "12.5"));
    assert_true(find(&picture, at, "... and") < picture.n);
    free(picture.text);
    strcpy(ui.filter, "q19");
    picture = draw(state, &ui, 80, 40);
    assert_true(find(&picture, 0, " q19") < picture.n && find(&picture, 0, " q00") == picture.n);
    free(picture.text);
    json_decref(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_has_the_asked_lines_and_none_is_wider_than_asked),
        cmocka_unit_test(a_frame_tells_state_routes_servers_and_events_in_words),
        cmocka_unit_test(rows_go_by_the_chosen_column_and_reverse),
        cmocka_unit_test(the_selection_moves_over_servers_only_and_stops_at_the_ends),
        cmocka_unit_test(the_selection_stays_with_its_server_when_rows_move),
        cmocka_unit_test(the_selected_server_is_always_in_sight),
        cmocka_unit_test(what_does_not_fit_is_counted),
        cmocka_unit_test(a_filter_shows_only_what_has_its_text),
        cmocka_unit_test(a_filter_is_bounded_and_loses_whole_characters),
        cmocka_unit_test(a_drain_is_asked_for_first_and_goes_to_the_server_that_was_asked_about),
        cmocka_unit_test(without_a_server_there_is_nothing_to_steer),
        cmocka_unit_test(no_news_outweigh_what_was_said_and_a_key_takes_that_away),
        cmocka_unit_test(colours_add_escapes_and_change_no_word),
        cmocka_unit_test(queues_have_a_table_of_their_own_that_leaves_room_for_the_rest),
        cmocka_unit_test(keys_are_taken_one_by_one_and_unknown_sequences_skipped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
