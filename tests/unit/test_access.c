/* test_access.c - who may log in at an amqp listener and what for, and that a crowd costs one slow hash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/password.h"
#include "fiber_kit.h"
#include "front/amqp/access.h"
#include "helper_kit.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define LOCAL "127.0.0.1"
#define SECONDS UINT64_C(1000000)

/* Parsed before any test: that needs more stack than a fiber has. */
static const unsigned iterations[] = {1000, 20000, 100000, 400000};
static struct config *users[COUNT(iterations)], *quick, *permissions;

static struct access *at;

static struct config *must_parse(const char *text)
{
    struct config *parsed = config_parse("test", slice_from_text(text), stderr);

    if (!parsed)
        abort();
    return parsed;
}

/* Users of every kind, whose password is mostly their name; slow hashes take that many iterations. */
static struct config *parse_users(unsigned n)
{
    static const char *const names[] = {"slow", "slow2", "near"};
    char hashes[COUNT(names)][PASSWORD_HASH_TEXT_MAX], text[2048];

    for (size_t i = 0; i < COUNT(names); i++)
        if (password_hash(slice_from_text(names[i]), n, hashes[i]) != 0)
            abort();
    snprintf(text, sizeof text,
             "amqp :80 {\n"
             "user plain { password = 'the plain one' }\n"
             "user slow { password-hash = '%s' }\n"
             "user slow2 { password-hash = '%s' }\n"
             "user rabbit { password-hash = 'kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR' }\n"
             "user guest { password = guest }\n"
             "user near { password-hash = '%s' from = { 10.0.0.0/8, 2001:db8::/32 } }\n"
             "}",
             hashes[0], hashes[1], hashes[2]);
    return must_parse(text);
}

static const struct config_amqp *users_with(unsigned n)
{
    size_t i = 0;

    while (iterations[i] != n)
        i++;
    return users[i]->amqp;
}

static void open_access(const struct config_amqp *config)
{
    CHECK_EQUAL(access_create(&at, config), 0);
}

static void open_users(unsigned n)
{
    open_access(users_with(n));
}

static void close_access(void)
{
    access_free(at);
    await_helpers_end();
}

static enum access_result login_until(const char *name, const char *password, const char *from,
                                      uint64_t deadline_us)
{
    struct access_user *user;
    struct ip ip;
    enum access_result result;

    CHECK(ip_parse(slice_from_text(from), &ip));
    result = access_login(at, slice_from_text(name), slice_from_text(password), &ip, deadline_us, &user);
    CHECK((user != NULL) == (result == ACCESS_GRANTED));
    if (user)
        CHECK(strcmp(access_user_config(user)->name, name) == 0);
    return result;
}

static enum access_result login(const char *name, const char *password, const char *from)
{
    return login_until(name, password, from, loop_deadline(60 * SECONDS));
}

/* --- logging in ----------------------------------------------------------------------------------- */

static void the_right_password_lets_in_and_no_other(void *arg)
{
    static const struct {
        const char *name, *password, *from;
        enum access_result result;
    } rows[] = {
        {"plain", "the plain one", "9.9.9.9", ACCESS_GRANTED},
        {"plain", "the plain on", LOCAL, ACCESS_WRONG_PASSWORD},
        {"plain", "the plain one ", LOCAL, ACCESS_WRONG_PASSWORD},
        {"plain", "", LOCAL, ACCESS_WRONG_PASSWORD},
        {"plain", "slow", LOCAL, ACCESS_WRONG_PASSWORD},
        {"plain", "slow2", LOCAL, ACCESS_WRONG_PASSWORD},
        {"plain", "near", LOCAL, ACCESS_WRONG_PASSWORD},
        {"slow", "slow", "::1", ACCESS_GRANTED},
        {"slow", "slow2", "::1", ACCESS_WRONG_PASSWORD},
        {"slow2", "slow2", "::1", ACCESS_GRANTED},
        {"slow2", "slow", "::1", ACCESS_WRONG_PASSWORD},
        {"rabbit", "test12", LOCAL, ACCESS_GRANTED},
        {"rabbit", "test13", LOCAL, ACCESS_WRONG_PASSWORD},
        {"rabbit", "near", LOCAL, ACCESS_WRONG_PASSWORD},
        {"guest", "guest", LOCAL, ACCESS_GRANTED},
        {"guest", "guest", "::1", ACCESS_GRANTED},
        {"guest", "guest", "10.0.0.1", ACCESS_WRONG_ADDRESS},
        {"guest", "guess", "10.0.0.1", ACCESS_WRONG_PASSWORD},
        {"near", "near", "10.9.9.9", ACCESS_GRANTED},
        {"near", "near", "2001:db8::9", ACCESS_GRANTED},
        {"near", "near", "11.0.0.1", ACCESS_WRONG_ADDRESS},
        {"near", "far", "10.9.9.9", ACCESS_WRONG_PASSWORD},
        {"nobody", "slow", LOCAL, ACCESS_UNKNOWN_USER},
        {"nobody", "near", LOCAL, ACCESS_UNKNOWN_USER},
        {"nobody", "", LOCAL, ACCESS_UNKNOWN_USER},
        {"", "slow", LOCAL, ACCESS_UNKNOWN_USER},
        {"Slow", "slow", LOCAL, ACCESS_UNKNOWN_USER},
        {"slo", "wslow", LOCAL, ACCESS_UNKNOWN_USER},
    };

    (void)arg;
    open_users(1000);
    for (int turn = 0; turn < 3; turn++) /* what is remembered is no other answer */
        for (size_t i = 0; i < COUNT(rows); i++) {
            enum access_result result = login(rows[i].name, rows[i].password, rows[i].from);

            if (result != rows[i].result)
                fprintf(stderr, "%s with %s\n", rows[i].name, rows[i].password);
            CHECK_EQUAL(result, rows[i].result);
        }
    close_access();
}

static void a_name_or_password_that_is_too_long_is_refused(void *arg)
{
    static char text[PASSWORD_BYTES_MAX + 2];

    (void)arg;
    open_users(1000);
    memset(text, 'x', PASSWORD_BYTES_MAX + 1);
    CHECK_EQUAL(login("slow", text, LOCAL), ACCESS_WRONG_PASSWORD);
    CHECK_EQUAL(login(text, "slow", LOCAL), ACCESS_UNKNOWN_USER);
    CHECK_EQUAL(access_hashes(at), 0);
    text[PASSWORD_BYTES_MAX] = '\0';
    CHECK_EQUAL(login("slow", text, LOCAL), ACCESS_WRONG_PASSWORD);
    text[CONFIG_AMQP_NAME_MAX] = '\0';
    CHECK_EQUAL(login(text, "slow", LOCAL), ACCESS_UNKNOWN_USER);
    close_access();
}

static void what_is_refused_costs_one_slow_hash_whatever_is_wrong(void *arg)
{
    static const struct {
        const char *name, *password, *from;
    } rows[] = {
        {"slow", "wrong", LOCAL},   {"plain", "wrong", LOCAL},    {"rabbit", "wrong", LOCAL},
        {"nobody", "wrong", LOCAL}, {"near", "near", "11.0.0.1"}, {"nobody", "slow", LOCAL},
    };

    (void)arg;
    open_users(1000);
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint64_t before = access_hashes(at);

        CHECK(login(rows[i].name, rows[i].password, rows[i].from) != ACCESS_GRANTED);
        CHECK_EQUAL(access_hashes(at), before + 1);
        CHECK(login(rows[i].name, rows[i].password, rows[i].from) != ACCESS_GRANTED);
        CHECK_EQUAL(access_hashes(at), before + 1); /* remembered */
    }
    close_access();
}

static void where_no_hash_is_slow_nothing_waits(void *arg)
{
    (void)arg;
    open_access(quick->amqp);
    CHECK_EQUAL(login_until("a", "x", LOCAL, 0), ACCESS_GRANTED);
    CHECK_EQUAL(login_until("a", "y", LOCAL, 0), ACCESS_WRONG_PASSWORD);
    CHECK_EQUAL(login_until("b", "x", LOCAL, 0), ACCESS_UNKNOWN_USER);
    CHECK_EQUAL(access_hashes(at), 0);
    close_access();
}

static void a_new_access_has_forgotten_everything(void *arg)
{
    struct access *old;

    (void)arg;
    open_users(1000);
    CHECK_EQUAL(login("slow", "slow", LOCAL), ACCESS_GRANTED);
    CHECK_EQUAL(login("slow", "slow", LOCAL), ACCESS_GRANTED);
    CHECK_EQUAL(access_hashes(at), 1);
    old = at;
    CHECK_EQUAL(access_create(&at, users_with(1000)), 0);
    CHECK_EQUAL(login("slow", "slow", LOCAL), ACCESS_GRANTED);
    CHECK_EQUAL(access_hashes(at), 1);
    access_free(old);
    close_access();
}

/* --- crowds --------------------------------------------------------------------------------------- */

#define CROWD SCALED(5000, 200)

static unsigned let_in, turned_away;

static void log_in_slow(void *arg)
{
    (void)arg;
    let_in += login("slow", "slow", LOCAL) == ACCESS_GRANTED;
}

static void be_refused(void *arg)
{
    (void)arg;
    turned_away += login("slow", "wrong", LOCAL) == ACCESS_WRONG_PASSWORD;
}

static void join_all(struct fiber **fibers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        CHECK_EQUAL(fiber_join(fibers[i], NEVER), 0);
}

static void a_crowd_with_one_password_costs_one_hash(void *arg)
{
    static struct fiber *fibers[2 * 5000];

    (void)arg;
    let_in = turned_away = 0;
    open_users(20000);
    for (size_t i = 0; i < 2 * CROWD; i++)
        fibers[i] = fiber_spawn("crowd", i % 2 ? be_refused : log_in_slow, NULL);
    join_all(fibers, 2 * CROWD);
    CHECK_EQUAL(let_in, CROWD);
    CHECK_EQUAL(turned_away, CROWD);
    CHECK_EQUAL(access_hashes(at), 2);
    close_access();
}

static void log_in_with(void *arg)
{
    let_in += login("slow", arg, LOCAL) == ACCESS_GRANTED;
    turned_away++;
}

static void many_passwords_are_tried_one_after_the_other(void *arg)
{
    static char passwords[100][16];
    struct fiber *fibers[101];

    (void)arg;
    let_in = turned_away = 0;
    open_users(1000);
    for (size_t i = 0; i < 100; i++) {
        snprintf(passwords[i], sizeof passwords[i], "%zu", i);
        fibers[i] = fiber_spawn("guess", log_in_with, passwords[i]);
    }
    fibers[100] = fiber_spawn("right", log_in_with, "slow");
    join_all(fibers, 101);
    CHECK_EQUAL(turned_away, 101);
    CHECK_EQUAL(let_in, 1);
    CHECK_EQUAL(access_hashes(at), 101);
    close_access();
}

/* --- waiting -------------------------------------------------------------------------------------- */

static enum access_result results[3];

static void wait_long(void *arg)
{
    (void)arg;
    results[0] = login("slow", "slow", LOCAL);
}

static void wait_shortly(void *arg)
{
    (void)arg;
    results[1] = login_until("slow2", "slow2", LOCAL, loop_now_us() + 1);
}

static void wait_behind(void *arg)
{
    (void)arg;
    results[2] = login("slow2", "slow2", LOCAL);
}

static void others_run_while_a_hash_is_computed_and_the_line_has_deadlines(void *arg)
{
    struct fiber *fibers[3];

    (void)arg;
    open_users(400000);
    fibers[0] = fiber_spawn("long", wait_long, NULL);
    fibers[1] = fiber_spawn("shortly", wait_shortly, NULL);
    fibers[2] = fiber_spawn("behind", wait_behind, NULL);
    CHECK_EQUAL(fiber_yield(), 0);
    CHECK_EQUAL(access_hashes(at), 1);
    CHECK_EQUAL(login("plain", "the plain one", LOCAL), ACCESS_GRANTED); /* needs no turn */
    join_all(fibers, 3);
    CHECK_EQUAL(results[0], ACCESS_GRANTED);
    CHECK_EQUAL(results[1], ACCESS_NO_TIME);
    CHECK_EQUAL(results[2], ACCESS_GRANTED);
    CHECK_EQUAL(access_hashes(at), 2);
    close_access();
}

static void who_is_cancelled_passes_the_turn_on(void *arg)
{
    struct fiber *fibers[2];

    (void)arg;
    open_users(100000);
    fibers[0] = fiber_spawn("cancelled", wait_long, NULL);
    fibers[1] = fiber_spawn("behind", wait_behind, NULL);
    CHECK_EQUAL(fiber_yield(), 0);
    fiber_cancel_and_join(fibers[0]);
    CHECK_EQUAL(results[0], ACCESS_NO_TIME);
    CHECK_EQUAL(fiber_join(fibers[1], NEVER), 0);
    CHECK_EQUAL(results[2], ACCESS_GRANTED);
    CHECK_EQUAL(login("slow", "slow", LOCAL), ACCESS_GRANTED);
    close_access();
}

static void the_waiter_that_is_cancelled_passes_the_turn_on(void *arg)
{
    struct fiber *fibers[3];

    (void)arg;
    open_users(100000);
    fibers[0] = fiber_spawn("long", wait_long, NULL);
    fibers[1] = fiber_spawn("cancelled", wait_behind, NULL);
    CHECK_EQUAL(fiber_yield(), 0);
    fiber_cancel_and_join(fibers[1]);
    CHECK_EQUAL(results[2], ACCESS_NO_TIME);
    fibers[2] = fiber_spawn("behind", wait_behind, NULL);
    CHECK_EQUAL(fiber_join(fibers[0], NEVER), 0);
    CHECK_EQUAL(fiber_join(fibers[2], NEVER), 0);
    CHECK_EQUAL(results[0], ACCESS_GRANTED);
    CHECK_EQUAL(results[2], ACCESS_GRANTED);
    close_access();
}

/* --- permissions ---------------------------------------------------------------------------------- */

static const char PERMISSIONS[] =
    "amqp :80 {\n"
    "user all { password = x }\n"
    "user none { password = x configure = '' write = '' read = '' }\n"
    "user empty { password = x configure = ^$ }\n"
    "user shop { password = x virtual-hosts = { shop, '/' }\n"
    "    configure = '^shop\\.' write = '^(shop\\..*|amq\\.default)$' read = orders administrator = yes }\n"
    "user hang { password = x read = '(a|aa)+$' }\n"
    "}";

static void permissions_are_patterns_on_names(void *arg)
{
    static const struct {
        const char *user;
        enum access_kind kind;
        const char *name;
        bool yes;
    } rows[] = {
        {"all", ACCESS_CONFIGURE, "anything", true},
        {"all", ACCESS_WRITE, "", true},
        {"all", ACCESS_READ, "a\nb", true},
        {"none", ACCESS_CONFIGURE, "anything", false},
        {"none", ACCESS_WRITE, "", false},
        {"none", ACCESS_READ, "anything", false},
        {"empty", ACCESS_CONFIGURE, "", false}, /* it is amq.default */
        {"shop", ACCESS_CONFIGURE, "shop.orders", true},
        {"shop", ACCESS_CONFIGURE, "shop-orders", false},
        {"shop", ACCESS_CONFIGURE, "my.shop.orders", false},
        {"shop", ACCESS_CONFIGURE, "", false},
        {"shop", ACCESS_WRITE, "shop.", true},
        {"shop", ACCESS_WRITE, "", true},
        {"shop", ACCESS_WRITE, "amq.default", true},
        {"shop", ACCESS_WRITE, "amq.defaults", false},
        {"shop", ACCESS_WRITE, "other", false},
        {"shop", ACCESS_READ, "old-orders-2", true},
        {"shop", ACCESS_READ, "shop.", false},
        {"shop", ACCESS_READ,
         "a name of more than 61 bytes, of which nothing is remembered: orders of the shop", true},
        {"shop", ACCESS_WRITE,
         "a name of more than 61 bytes, of which nothing is remembered: orders of the shop", false},
    };

    (void)arg;
    open_access(permissions->amqp);
    for (int turn = 0; turn < 3; turn++)
        for (size_t i = 0; i < COUNT(rows); i++) {
            struct access_user *user = access_find(at, slice_from_text(rows[i].user));

            if (access_may(user, rows[i].kind, slice_from_text(rows[i].name)) != rows[i].yes)
                fprintf(stderr, "%s %d %s\n", rows[i].user, rows[i].kind, rows[i].name);
            CHECK(access_may(user, rows[i].kind, slice_from_text(rows[i].name)) == rows[i].yes);
        }
    close_access();
}

static void what_is_remembered_never_answers_for_another_name(void *arg)
{
    struct access_user *user;
    char name[32];

    (void)arg;
    open_access(permissions->amqp);
    user = access_find(at, SLICE("shop"));
    for (unsigned i = 0; i < 20000; i++) {
        bool ours = i * 2654435761u >> 31;

        snprintf(name, sizeof name, "%s%u", ours ? "shop." : "shop", i * 7919 % 1000);
        CHECK(access_may(user, ACCESS_CONFIGURE, slice_from_text(name)) == ours);
        CHECK(access_may(user, ACCESS_WRITE, slice_from_text(name)) == ours);
        CHECK(!access_may(user, ACCESS_READ, slice_from_text(name)));
    }
    close_access();
}

static void a_pattern_that_takes_too_long_is_a_no(void *arg)
{
    char name[255];
    struct access_user *user;
    uint64_t began;

    (void)arg;
    open_access(permissions->amqp);
    user = access_find(at, SLICE("hang"));
    memset(name, 'a', sizeof name);
    CHECK(access_may(user, ACCESS_READ, slice_of(name, 20)));
    name[sizeof name - 1] = '!';
    began = clock_monotonic_us();
    CHECK(!access_may(user, ACCESS_READ, slice_of(name, sizeof name)));
    CHECK(clock_monotonic_us() - began < 5 * SECONDS);
    close_access();
}

static void a_user_has_virtual_hosts_and_may_be_an_administrator(void *arg)
{
    struct access_user *user;

    (void)arg;
    open_access(permissions->amqp);
    user = access_find(at, SLICE("shop"));
    CHECK(access_vhost(user, SLICE("/")));
    CHECK(access_vhost(user, SLICE("shop")));
    CHECK(!access_vhost(user, SLICE("sho")));
    CHECK(!access_vhost(user, SLICE("")));
    CHECK(access_user_config(user)->administrator);
    user = access_find(at, SLICE("all"));
    CHECK(access_vhost(user, SLICE("/")));
    CHECK(!access_vhost(user, SLICE("shop")));
    CHECK(!access_user_config(user)->administrator);
    CHECK(!access_find(at, SLICE("nobody")));
    CHECK(!access_find(at, SLICE("")));
    close_access();
}

static void every_result_has_words_of_its_own(void *arg)
{
    (void)arg;
    for (int i = ACCESS_GRANTED; i <= ACCESS_FAILED; i++)
        for (int j = ACCESS_GRANTED; j < i; j++)
            CHECK(strcmp(access_result_text((enum access_result)i),
                         access_result_text((enum access_result)j)) != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIBER_TEST(the_right_password_lets_in_and_no_other),
        FIBER_TEST(a_name_or_password_that_is_too_long_is_refused),
        FIBER_TEST(what_is_refused_costs_one_slow_hash_whatever_is_wrong),
        FIBER_TEST(where_no_hash_is_slow_nothing_waits),
        FIBER_TEST(a_new_access_has_forgotten_everything),
        FIBER_TEST(a_crowd_with_one_password_costs_one_hash),
        FIBER_TEST(many_passwords_are_tried_one_after_the_other),
        FIBER_TEST(others_run_while_a_hash_is_computed_and_the_line_has_deadlines),
        FIBER_TEST(who_is_cancelled_passes_the_turn_on),
        FIBER_TEST(the_waiter_that_is_cancelled_passes_the_turn_on),
        FIBER_TEST(permissions_are_patterns_on_names),
        FIBER_TEST(what_is_remembered_never_answers_for_another_name),
        FIBER_TEST(a_pattern_that_takes_too_long_is_a_no),
        FIBER_TEST(a_user_has_virtual_hosts_and_may_be_an_administrator),
        FIBER_TEST(every_result_has_words_of_its_own),
    };

    int code;

    kit_watchdog(50);
    count_own_threads();
    for (size_t i = 0; i < COUNT(iterations); i++)
        users[i] = parse_users(iterations[i]);
    quick = must_parse("amqp :80 { user a { password = x } }");
    permissions = must_parse(PERMISSIONS);
    code = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < COUNT(iterations); i++)
        config_unref(users[i]);
    config_unref(quick);
    config_unref(permissions);
    return code;
}
