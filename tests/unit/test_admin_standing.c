/* test_admin_standing.c - admin/standing.h: what state servers, pools and the whole are in, and what is said of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "admin/standing.h"

#define SECOND 1000000u
#define NOW (100u * SECOND)
#define SERVERS 3

/* Two pools of a configuration with one route each; every server is a member of its own. */
struct place {
    struct config config;
    struct config_pool pools[2];
    struct config_http http;
    struct config_route routes[1];
    struct control control;
    struct system system;
    struct queue_port port; /* without a queue */
    struct control_pool control_pools[2];
    struct pool run[2]; /* their names alone */
    struct member members[2][SERVERS];
    struct member *member_lists[2][SERVERS];
    struct control_server servers[2][SERVERS];
};

static void place_pool(struct place *p, size_t i, const char *name)
{
    const struct config_server config = {.name = "s", .weight = 4};
    const struct endpoint endpoint = {.len = 0};
    struct control_pool *cp = &p->control_pools[i];

    p->pools[i] =
        (struct config_pool){.name = name, .health = {.active = true, .slow_start_us = 10 * SECOND}};
    p->run[i].name = (char *)(uintptr_t)name;
    cp->pool = &p->run[i];
    cp->config = &p->pools[i];
    cp->snapshot = &p->config;
    cp->members = p->member_lists[i];
    cp->n_members = SERVERS;
    list_init(&cp->leaving);
    list_push_back(&p->control.pools, &cp->list);
    for (size_t j = 0; j < SERVERS; j++) {
        struct member *member = &p->members[i][j];
        struct control_server *cs = &p->servers[i][j];

        p->member_lists[i][j] = member;
        list_init(&member->servers);
        cs->server = server_create(&config, 0, &endpoint, 1);
        assert_non_null(cs->server);
        cs->member = member;
        cs->pool = cp;
        list_push_back(&member->servers, &cs->list);
    }
}

/* "web" has a route, "spare" has none. */
static int open_place(void **state)
{
    struct place *p = calloc(1, sizeof *p);

    assert_non_null(p);
    list_init(&p->control.pools);
    place_pool(p, 0, "web");
    place_pool(p, 1, "spare");
    p->routes[0] = (struct config_route){.action = ROUTE_POOL, .pool = &p->pools[0]};
    p->http = (struct config_http){.routes = p->routes, .n_routes = 1};
    p->config = (struct config){.http = &p->http, .n_http = 1, .pools = p->pools, .n_pools = 2};
    p->system.config = &p->config;
    p->system.port = &p->port;
    p->system.control = &p->control;
    *state = p;
    return 0;
}

static int close_place(void **state)
{
    struct place *p = *state;

    for (size_t i = 0; i < 2; i++)
        for (size_t j = 0; j < SERVERS; j++)
            server_unref(p->servers[i][j].server);
    free(p);
    return 0;
}

static const char *reason_of(const struct control_server *cs)
{
    static char text[STANDING_TEXT_MAX];

    standing_reason(cs, standing_of(cs, NOW), NOW, text);
    return text;
}

static void assert_standing(const struct control_server *cs, const char *name, const char *reason)
{
    assert_string_equal(standing_name(standing_of(cs, NOW)), name);
    assert_string_equal(reason_of(cs), reason);
}

static void a_server_that_is_up_says_how_that_is_known(void **state)
{
    struct place *p = *state;
    struct control_server *cs = &p->servers[0][0];

    assert_standing(cs, "up", "not checked yet");
    cs->checks_ok = 1;
    assert_standing(cs, "up", "its checks pass");
    p->pools[0].health.active = false;
    assert_standing(cs, "up", "not checked");
}

static void a_slow_start_is_over_when_the_weight_is_whole(void **state)
{
    struct place *p = *state;
    struct control_server *cs = &p->servers[0][0];

    server_went_down(cs->server);
    server_came_up(cs->server, NOW - 9 * SECOND);
    assert_standing(cs, "starting", "it came up a moment ago; its weight rises (slow-start)");
    assert_int_equal(standing_of(cs, NOW + SECOND), STANDING_UP);
}

static void a_server_that_is_down_says_why(void **state)
{
    struct place *p = *state;
    struct control_server *cs = &p->servers[0][0];

    server_went_down(cs->server);
    assert_standing(cs, "down", "its checks fail");
    strcpy(cs->why, "connection refused");
    assert_standing(cs, "down", "connection refused");
}

static void who_drained_it_is_said_and_whether_it_is_down_too(void **state)
{
    struct place *p = *state;
    struct control_server *cs = &p->servers[0][0];

    atomic_store(&cs->server->draining, true);
    assert_standing(cs, "draining", "drained by the file: no new requests");
    cs->hand = (struct control_hand){.set_drain = true, .drain = true};
    assert_standing(cs, "draining", "drained by hand: no new requests");
    server_went_down(cs->server);
    strcpy(cs->why, "status 503");
    assert_standing(cs, "draining", "drained by hand: no new requests; it is down: status 503");
}

static void an_ejected_server_says_when_it_is_back(void **state)
{
    struct place *p = *state;
    struct control_server *cs = &p->servers[0][0];

    atomic_store(&cs->server->ejected_until_us, NOW + 4 * SECOND + 1);
    assert_standing(cs, "ejected", "too many requests in a row failed; it is back in 5 s");
    atomic_store(&cs->server->ejected_until_us, NOW);
    assert_int_equal(standing_of(cs, NOW), STANDING_UP);
}

static void a_server_without_a_member_leaves(void **state)
{
    struct place *p = *state;
    struct control_server *cs = &p->servers[0][0];

    cs->member = NULL;
    atomic_store(&cs->server->draining, true);
    assert_string_equal(standing_name(standing_of(cs, NOW)), "leaving");
}

/* --- the whole --- */

static enum level level_now(struct place *p, bool reload_failed)
{
    struct survey *survey;
    enum level level;

    p->system.reload_failed = reload_failed;
    survey = survey_create(&p->system, NOW);
    assert_non_null(survey);
    assert_int_equal(survey->n, 2);
    assert_string_equal(survey->pools[0].pool->pool->name, "web");
    level = survey->level;
    free(survey);
    return level;
}

static void one_server_down_degrades_and_all_of_them_bring_it_down(void **state)
{
    struct place *p = *state;

    assert_int_equal(level_now(p, false), LEVEL_UP);
    server_went_down(p->servers[0][0].server);
    assert_int_equal(level_now(p, false), LEVEL_DEGRADED);
    atomic_store(&p->servers[0][1].server->ejected_until_us, NOW + 1);
    assert_int_equal(level_now(p, false), LEVEL_DEGRADED);
    atomic_store(&p->servers[0][2].server->draining, true);
    assert_int_equal(level_now(p, false), LEVEL_DOWN);
}

static void drained_servers_degrade_nothing_while_another_is_usable(void **state)
{
    struct place *p = *state;

    atomic_store(&p->servers[0][0].server->draining, true);
    server_went_down(p->servers[0][0].server);
    assert_int_equal(level_now(p, false), LEVEL_UP);
}

static void a_pool_that_nothing_uses_only_degrades(void **state)
{
    struct place *p = *state;

    for (size_t j = 0; j < SERVERS; j++)
        server_went_down(p->servers[1][j].server);
    assert_int_equal(level_now(p, false), LEVEL_DEGRADED);
    p->routes[0].pool = &p->pools[1];
    assert_int_equal(level_now(p, false), LEVEL_DOWN);
}

static void a_tcp_listener_uses_its_pool(void **state)
{
    struct place *p = *state;
    struct config_tcp tcp = {.pool = &p->pools[1]};

    for (size_t j = 0; j < SERVERS; j++)
        server_went_down(p->servers[1][j].server);
    p->config.tcp = &tcp;
    p->config.n_tcp = 1;
    assert_int_equal(level_now(p, false), LEVEL_DOWN);
}

static void a_name_that_means_no_address_counts_as_down(void **state)
{
    struct place *p = *state;
    struct survey *survey;

    list_remove(&p->servers[0][0].list);
    survey = survey_create(&p->system, NOW);
    assert_non_null(survey);
    assert_int_equal(survey->level, LEVEL_DEGRADED);
    assert_int_equal(survey->pools[0].tally.servers, 3);
    assert_int_equal(survey->pools[0].tally.down, 1);
    free(survey);
}

static void a_reload_that_failed_degrades(void **state)
{
    assert_int_equal(level_now(*state, true), LEVEL_DEGRADED);
}

static void pools_of_another_configuration_are_left_out(void **state)
{
    struct place *p = *state;
    const struct config other = {.n_pools = 0};
    struct survey *survey;

    p->control_pools[0].snapshot = &other;
    survey = survey_create(&p->system, NOW);
    assert_non_null(survey);
    assert_int_equal(survey->n, 1);
    assert_string_equal(survey->pools[0].pool->pool->name, "spare");
    free(survey);
}

static void what_is_wrong_with_a_pool_is_said_in_a_line(void **state)
{
    static const struct {
        struct tally tally;
        const char *text;
    } rows[] = {
        {{.servers = 3, .usable = 3}, NULL},
        {{.servers = 3, .usable = 1, .drained = 2}, NULL},
        {{.servers = 3, .usable = 2, .down = 1}, "pool web: 1 of 3 servers down"},
        {{.servers = 3, .usable = 2, .ejected = 1}, "pool web: 1 of 3 servers ejected"},
        {{.servers = 9, .usable = 2, .down = 3, .ejected = 4},
         "pool web: 3 of 9 servers down, 4 of 9 servers ejected"},
        {{.servers = 3, .drained = 3}, "pool web has no usable server: all are drained"},
        {{.servers = 3, .drained = 1, .down = 2}, "pool web has no usable server"},
    };
    char text[STANDING_TEXT_MAX], name[1000];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(standing_pool_reason("web", &rows[i].tally, text), rows[i].text != NULL);
        if (rows[i].text)
            assert_string_equal(text, rows[i].text);
    }
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_true(standing_pool_reason(name, &rows[4].tally, text));
}

#define PLACED(test) cmocka_unit_test_setup_teardown(test, open_place, close_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACED(a_server_that_is_up_says_how_that_is_known),
        PLACED(a_slow_start_is_over_when_the_weight_is_whole),
        PLACED(a_server_that_is_down_says_why),
        PLACED(who_drained_it_is_said_and_whether_it_is_down_too),
        PLACED(an_ejected_server_says_when_it_is_back),
        PLACED(a_server_without_a_member_leaves),
        PLACED(one_server_down_degrades_and_all_of_them_bring_it_down),
        PLACED(drained_servers_degrade_nothing_while_another_is_usable),
        PLACED(a_pool_that_nothing_uses_only_degrades),
        PLACED(a_tcp_listener_uses_its_pool),
        PLACED(a_name_that_means_no_address_counts_as_down),
        PLACED(a_reload_that_failed_degrades),
        PLACED(pools_of_another_configuration_are_left_out),
        cmocka_unit_test(what_is_wrong_with_a_pool_is_said_in_a_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
