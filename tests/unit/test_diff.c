/* test_diff.c - the plan of a reload: what counts as a change, in which words, in which order, and which sections of
 * the two snapshots it points to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/config.h"
#include "config/diff.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct config *must_parse(const char *text)
{
    struct config *config = config_parse("test", slice_from_text(text), stderr);

    if (!config)
        fail_msg("%s", text);
    return config;
}

/* Two snapshots and what is between them. */
struct pair {
    struct config *before, *after;
    struct config_diff diff;
};

static void pair_open(struct pair *pair, const char *before, const char *after)
{
    pair->before = must_parse(before);
    pair->after = must_parse(after);
    assert_int_equal(config_diff(&pair->diff, pair->before, pair->after), 0);
}

static void pair_close(struct pair *pair)
{
    config_diff_free(&pair->diff);
    config_unref(pair->before);
    config_unref(pair->after);
}

/* The plan has exactly these lines. */
static void expect_plan(const char *before, const char *after, const char *lines)
{
    struct pair pair;
    char *said = NULL;
    FILE *out = open_memstream(&said, &(size_t){0});

    assert_non_null(out);
    pair_open(&pair, before, after);
    for (size_t i = 0; i < pair.diff.n_changes; i++)
        fprintf(out, "%s\n", pair.diff.changes[i].text);
    fclose(out);
    if (strcmp(said, lines) != 0)
        fail_msg("from\n%s\nto\n%s\nthe plan is\n%s\ninstead of\n%s", before, after, said, lines);
    free(said);
    pair_close(&pair);
}

static void what_means_the_same_is_no_change(void **state)
{
    static const char *const same[][2] = {
        {"http :80 {}", "http :80 {}"},
        {"http :80 { idle-timeout = 75s }", "http :80 { idle-timeout = 75000ms }"},
        {"http :80 {} drain-timeout = 30s", "http :80 {}"},
        {"http :80 { max-head = 32768 max-line = 8k }", "http :80 {}"},
        {"http :80 { trusted-proxies = { ::1, 10.0.0.0/8 } }",
         "http :80 { trusted-proxies = { 10.1.2.3/8, ::1, ::1 } }"},
        {"http :80 {} pool a { server a:1 {} } pool b { server b:1 {} server c:1 {} }",
         "# moved\n\n pool b { server c:1 {} server b:1 { weight = 1 } } http :80 {} pool a { server a:1 {} "
         "}"},
        {"http :80 { route /a { respond = 200 } route / { respond = 200 methods = { GET, PUT } header a { "
         "value = 1 } "
         "cookie b {} } }",
         "http :80 { route / { respond = 200 cookie b {} header a { value = 1 } methods = { PUT, GET } } "
         "route /a/ { respond = 200 body = \"\" } }"},
        {"amqp :80 { user a { password = x } user guest { password = x } }",
         "amqp :80 { user guest { password = x from = { ::1, 127.0.0.1/8 } } "
         "user a { password = x virtual-hosts = { /, / } read = '.*' } heartbeat = 60000ms }"},
        {"http [::1]:80 {} admin 127.0.0.1:81 {}", "admin 127.0.0.1:81 {} http [0::1]:80 {}"},
        {"http :80 {} pool a { server a:1 {} load-bound = 1.50 balance = consistent-hash }",
         "http :80 {} pool a { server a:1 {} load-bound = 1.5 balance = consistent-hash hash-key = ip }"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(same); i++)
        expect_plan(same[i][0], same[i][1], "");
}

static void a_changed_option_is_told_with_both_values(void **state)
{
    static const struct {
        const char *before, *after, *line;
    } rows[] = {
        {"http :80 {}", "http :80 {} drain-timeout = 1m", "drain-timeout 30s -> 1m\n"},
        {"http :8080 {}", "http :8080 { idle-timeout = 60s }", "listener :8080: idle-timeout 75s -> 1m\n"},
        {"http :80 {}", "http :80 { max-requests = 0 }",
         "listener :80: max-requests 10000 -> 0 (no limit)\n"},
        {"http :80 {}", "http :80 { access-log = ./a }", "listener :80: access-log (off) -> ./a\n"},
        {"http :80 { accept-proxy = 10.0.0.0/8 }", "http :80 { accept-proxy = { 10.0.0.0/8, ::1 } }",
         "listener :80: accept-proxy { 10.0.0.0/8 } -> { ::1, 10.0.0.0/8 }\n"},
        {"http :80 { route / { respond = 200 body = \"a\\n\" } }",
         "http :80 { route / { respond = 200 body = b } }",
         "listener :80: route \"/\": body \"a\\n\" -> b\n"},
        {"http :80 { route / { redirect = /a } }", "http :80 { route / { redirect = /b status = 301 } }",
         "listener :80: route \"/\": redirect /a -> /b\nlistener :80: route \"/\": status 308 -> 301\n"},
        {"http :80 { route / { respond = 200 } }", "http :80 { route / { redirect = /b } }",
         "listener :80: route \"/\": redirect (none) -> /b\nlistener :80: route \"/\": respond 200 -> "
         "(none)\n"},
        {"http :80 { route / { pool = a } } pool a { server a:1 {} } pool b { server a:1 {} }",
         "http :80 { route / { pool = b retries = 0 } } pool a { server a:1 {} } pool b { server a:1 {} }",
         "listener :80: route \"/\": pool a -> b\nlistener :80: route \"/\": retries (the pool's) -> 0 "
         "(never)\n"},
        {"tcp :80 { pool = a } pool a { server a:1 {} }",
         "tcp :80 { pool = a idle-timeout = 1m } pool a { server a:1 {} }",
         "listener :80: idle-timeout 1h -> 1m\n"},
        {"amqp :80 { user a { password = x } }",
         "amqp :80 { user a { password = x virtual-hosts = { b, / } read = ^a$ from = 10.0.0.0/8 "
         "administrator = yes } channel-max = 9 heartbeat = 0 }",
         "listener :80: channel-max 2047 -> 9\nlistener :80: heartbeat 1m -> 0 (off)\n"
         "listener :80: user a: from (any; of the user guest 127.0.0.0/8 and ::1) -> { 10.0.0.0/8 }\n"
         "listener :80: user a: virtual-hosts { / } -> { /, b }\n"
         "listener :80: user a: read \".*\" -> \"^a\\$\"\nlistener :80: user a: administrator no -> yes\n"},
        {"http :80 {} pool web { server 127.0.0.1:9001 {} }",
         "http :80 {} pool web { server 127.0.0.1:9001 { weight = 3 send-proxy = v1 } }",
         "pool web: server 127.0.0.1:9001: weight 1 -> 3\n"
         "pool web: server 127.0.0.1:9001: send-proxy no -> v1\n"},
        {"http :80 {} pool web { server a:1 {} health {} }",
         "http :80 {} pool web { server a:1 {} health { interval = 5s expect = \"a b\" } }",
         "pool web: health: expect (nothing) -> \"a b\"\npool web: health: interval 3s -> 5s\n"},
        {"http :80 {} pool web { server a:1 {} ejection {} }",
         "http :80 {} pool web { server a:1 {} ejection { failures = 0 } balance = ip-hash }",
         "pool web: balance round-robin -> ip-hash\npool web: ejection: failures 5 -> 0 (never)\n"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        expect_plan(rows[i].before, rows[i].after, rows[i].line);
}

static void a_token_is_never_shown(void **state)
{
    (void)state;
    expect_plan("http :80 {} admin 127.0.0.1:81 {}",
                "http :80 {} admin 127.0.0.1:81 { token = 0123456789abcdef }",
                "listener 127.0.0.1:81: token changed\n");
    expect_plan("http :80 {} admin 127.0.0.1:81 { token = 0123456789abcdef }",
                "http :80 {} admin 127.0.0.1:81 { token = 0123456789abcdeg }",
                "listener 127.0.0.1:81: token changed\n");
}

static void a_password_is_never_shown(void **state)
{
#define RABBIT "\"kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR\""
    (void)state;
    expect_plan("amqp :80 { user a { password = x } }", "amqp :80 { user a { password = y } }",
                "listener :80: user a: password changed\n");
    expect_plan("amqp :80 { user a { password = x } }", "amqp :80 { user a { password-hash = " RABBIT " } }",
                "listener :80: user a: password changed\nlistener :80: user a: password-hash changed\n");
#undef RABBIT
}

static void what_a_reload_cannot_do_is_marked(void **state)
{
    struct pair pair;

    (void)state;
    pair_open(&pair, "threads = 2 http :80 {}", "threads = 4 user = nobody http :80 { idle-timeout = 1s }");
    assert_int_equal(pair.diff.n_changes, 3);
    assert_string_equal(pair.diff.changes[0].text, "threads 2 -> 4: takes effect with `maitred upgrade`");
    assert_true(pair.diff.changes[0].needs_restart);
    assert_int_equal(pair.diff.changes[0].part, CONFIG_PART_TOP);
    assert_string_equal(pair.diff.changes[0].option, "threads");
    assert_string_equal(pair.diff.changes[1].text,
                        "user (the user that started it) -> nobody: takes effect with `maitred upgrade`");
    assert_true(pair.diff.changes[1].needs_restart);
    assert_false(pair.diff.changes[2].needs_restart);
    pair_close(&pair);
}

static void sections_come_and_go(void **state)
{
    static const struct {
        const char *before, *after, *lines;
    } rows[] = {
        {"http :80 {}", "http :80 {} http :81 {}", "listener :81 (http) added\n"},
        {"http :80 {} http :81 {}", "http :80 {}", "listener :81 (http) removed\n"},
        {"http :80 {} admin unix:/a {}", "http :80 {} admin unix:/b {}",
         "listener unix:/b (admin) added\nlistener unix:/a (admin) removed\n"},
        {"http :80 {} pool a { server a:1 {} }", "tcp :80 { pool = a } pool a { server a:1 {} }",
         "listener :80 (tcp) added\nlistener :80 (http) removed\n"},
        {"amqp :80 { user a { password = x } }", "amqp :81 { user a { password = x } }",
         "listener :81 (amqp) added\nlistener :80 (amqp) removed\n"},
        {"amqp :80 { user a { password = x } user b { password = x } }",
         "amqp :80 { user c { password = x } user b { password = x } }",
         "listener :80: user c added\nlistener :80: user a removed\n"},
        {"http :80 {} queue q {} workers a { queue = q } gauge g { full = 1 }",
         "http :80 {} queue q {} workers b { queue = q } gauge h { full = 1 }",
         "workers b added\ngauge h added\nworkers a removed\ngauge g removed\n"},
        {"http :80 {} queue q {} workers a { queue = q max = 2 } gauge g { full = 1 }",
         "http :80 {} queue q {} workers a { queue = q max = 3 gauge = g } gauge g { full = 2 }",
         "workers a: max 2 -> 3\nworkers a: gauge (none) -> g\ngauge g: full 1 -> 2\n"},
        {"http :80 {} pool old { server a:1 {} }", "http :80 {} pool new { server a:1 {} }",
         "pool new added\npool old removed\n"},
        {"http :80 {} pool a { server a:1 {} }", "http :80 {} pool a { server b:1 {} }",
         "pool a: server b:1 added\npool a: server a:1 removed\n"},
        {"http :80 {} pool a { server a:1 {} }", "http :80 {} pool a { server a:1 {} health {} }",
         "pool a: health added\n"},
        {"http :80 {} pool a { server a:1 {} health { rise = 9 } }", "http :80 {} pool a { server a:1 {} }",
         "pool a: health removed\n"},
        {"http :8080 { route /b { respond = 200 header x {} methods = { PUT, GET } } }",
         "http :8080 { route /api { respond = 200 host = beta.localhost } }",
         "listener :8080: route \"/api\" (host=beta.localhost) added\n"
         "listener :8080: route \"/b\" (methods=GET,PUT header:x) removed\n"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++)
        expect_plan(rows[i].before, rows[i].after, rows[i].lines);
}

static void changes_come_in_the_order_of_the_new_file_and_removed_ones_last(void **state)
{
    (void)state;
    expect_plan("pool gone { server a:1 {} }\n"
                "http :80 { route /gone { respond = 200 } route / { respond = 200 } }\n"
                "pool a { server gone:1 {} server a:1 {} }\n"
                "http :81 {}\n",
                "pool new { server a:1 {} }\n"
                "tcp :82 { pool = a }\n"
                "pool a { server new:1 {} server a:1 { weight = 2 } retries = 2 }\n"
                "admin unix:/a {}\n"
                "http :80 { route / { respond = 201 } route /new { respond = 200 } max-fields = 9 }\n"
                "drain-timeout = 1s\n",
                "drain-timeout 30s -> 1s\n"
                "pool new added\n"
                "listener :82 (tcp) added\n"
                "pool a: retries 1 -> 2\n"
                "pool a: server new:1 added\n"
                "pool a: server a:1: weight 1 -> 2\n"
                "pool a: server gone:1 removed\n"
                "listener unix:/a (admin) added\n"
                "listener :80: max-fields 128 -> 9\n"
                "listener :80: route \"/\": respond 200 -> 201\n"
                "listener :80: route \"/new\" added\n"
                "listener :80: route \"/gone\" removed\n"
                "pool gone removed\n"
                "listener :81 (http) removed\n");
}

static void a_change_points_to_its_sections_in_both_snapshots(void **state)
{
    struct pair pair;
    const struct config_change *change;

    (void)state;
    pair_open(
        &pair, "http :80 { route / { respond = 200 } } pool a { server x:1 {} server y:1 {} server z:1 {} }",
        "pool b { server w:1 {} } pool a { server y:1 { weight = 2 } server x:1 {} } tcp :82 { pool = a }"
        " http :80 { route /a { respond = 200 } route / { respond = 201 } }");
    change = pair.diff.changes;
    assert_int_equal(pair.diff.n_changes, 6);

    assert_int_equal(change[0].kind, CONFIG_ADDED);
    assert_int_equal(change[0].part, CONFIG_PART_POOL);
    assert_null(change[0].option);
    assert_ptr_equal(change[0].after.pool, &pair.after->pools[0]);
    assert_null(change[0].before.pool);

    assert_int_equal(change[1].kind, CONFIG_CHANGED);
    assert_int_equal(change[1].part, CONFIG_PART_SERVER);
    assert_string_equal(change[1].option, "weight");
    assert_ptr_equal(change[1].before.pool, &pair.before->pools[0]);
    assert_ptr_equal(change[1].before.server, &pair.before->pools[0].servers[1]);
    assert_ptr_equal(change[1].after.pool, &pair.after->pools[1]);
    assert_ptr_equal(change[1].after.server, &pair.after->pools[1].servers[0]);

    assert_int_equal(change[2].kind, CONFIG_REMOVED);
    assert_int_equal(change[2].part, CONFIG_PART_SERVER);
    assert_ptr_equal(change[2].before.server, &pair.before->pools[0].servers[2]);
    assert_null(change[2].after.pool);

    assert_int_equal(change[3].part, CONFIG_PART_LISTENER);
    assert_ptr_equal(change[3].after.tcp, &pair.after->tcp[0]);

    assert_int_equal(change[4].kind, CONFIG_ADDED);
    assert_int_equal(change[4].part, CONFIG_PART_ROUTE);
    assert_ptr_equal(change[4].after.http, &pair.after->http[0]);
    assert_ptr_equal(change[4].after.route, &pair.after->http[0].routes[0]);

    assert_int_equal(change[5].part, CONFIG_PART_ROUTE);
    assert_ptr_equal(change[5].before.route, &pair.before->http[0].routes[0]);
    assert_ptr_equal(change[5].after.route, &pair.after->http[0].routes[1]);
    pair_close(&pair);
}

static void a_change_of_a_user_points_to_it_in_both_snapshots(void **state)
{
    struct pair pair;
    const struct config_change *change;

    (void)state;
    pair_open(&pair, "amqp :80 { user a { password = x } user b { password = x } }",
              "amqp :80 { user c { password = x } user b { password = x write = z } }");
    change = pair.diff.changes;
    assert_int_equal(pair.diff.n_changes, 3);
    assert_int_equal(change[0].kind, CONFIG_ADDED);
    assert_int_equal(change[0].part, CONFIG_PART_USER);
    assert_ptr_equal(change[0].after.amqp, &pair.after->amqp[0]);
    assert_ptr_equal(change[0].after.user, &pair.after->amqp[0].users[0]);
    assert_int_equal(change[1].kind, CONFIG_CHANGED);
    assert_string_equal(change[1].option, "write");
    assert_false(change[1].needs_restart);
    assert_ptr_equal(change[1].before.user, &pair.before->amqp[0].users[1]);
    assert_ptr_equal(change[1].after.user, &pair.after->amqp[0].users[1]);
    assert_int_equal(change[2].kind, CONFIG_REMOVED);
    assert_ptr_equal(change[2].before.user, &pair.before->amqp[0].users[0]);
    pair_close(&pair);
}

static void control_characters_in_names_are_shown_as_codes(void **state)
{
    (void)state;
    expect_plan("http :80 {}", "http :80 {} http \"unix:/a\\e[1m\" {}",
                "listener unix:/a\\x1b[1m (http) added\n");
}

/* A pool of many servers, and a listener of many routes, the last of each changed. */
static char *large_file(const char *weight, const char *status)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, &(size_t){0});

    assert_non_null(out);
    fputs("pool a {\n", out);
    for (int i = 1; i < 2000; i++)
        fprintf(out, "server 10.0.%d.%d:80 { weight = 3 }\n", i / 250, i % 250);
    fprintf(out, "server last:80 { weight = %s }\n}\nhttp :80 {\n", weight);
    for (int i = 1; i < 2000; i++)
        fprintf(out, "route /r%d { respond = 200 }\n", i);
    fprintf(out, "route /last { respond = %s }\n}\n", status);
    fclose(out);
    return text;
}

static void one_change_among_thousands_is_found(void **state)
{
    char *before = large_file("1", "200"), *after = large_file("2", "201");

    (void)state;
    expect_plan(before, after,
                "pool a: server last:80: weight 1 -> 2\nlistener :80: route \"/last\": respond 200 -> 201\n");
    free(before);
    free(after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_means_the_same_is_no_change),
        cmocka_unit_test(a_changed_option_is_told_with_both_values),
        cmocka_unit_test(a_token_is_never_shown),
        cmocka_unit_test(a_password_is_never_shown),
        cmocka_unit_test(what_a_reload_cannot_do_is_marked),
        cmocka_unit_test(sections_come_and_go),
        cmocka_unit_test(changes_come_in_the_order_of_the_new_file_and_removed_ones_last),
        cmocka_unit_test(a_change_points_to_its_sections_in_both_snapshots),
        cmocka_unit_test(a_change_of_a_user_points_to_it_in_both_snapshots),
        cmocka_unit_test(control_characters_in_names_are_shown_as_codes),
        cmocka_unit_test(one_change_among_thousands_is_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
