/* test_strategy.c - what each strategy promises, and server.h's weights and latencies under it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "balance/ring.h"
#include "balance/strategy.h"
#include "base/hash.h"

#define SERVERS_MAX 16
#define SECOND 1000000u
#define START (100u * SECOND)

/* A pool as one thread sees it. */
struct pool {
    struct server *servers[SERVERS_MAX];
    size_t n;
    struct roster *roster;
    struct strategy_state state;
    struct strategy_input input;
};

static struct server *make_server(const char *name, unsigned weight, bool backup)
{
    const struct config_server config = {.name = name, .weight = weight, .backup = backup};
    const struct endpoint endpoint = {.len = 0};
    struct server *server = server_create(&config, 0, &endpoint, 1);

    assert_non_null(server);
    return server;
}

static void pool_build(struct pool *pool, enum balance_strategy strategy)
{
    pool->roster = roster_create(pool->servers, NULL, pool->n, strategy, 160);
    assert_non_null(pool->roster);
    strategy_state_init(&pool->state, 0, 42);
    pool->input = (struct strategy_input){.now_us = START};
}

/* Servers a, b, c, ... of these weights. */
static void pool_open(struct pool *pool, enum balance_strategy strategy, size_t n, const unsigned *weights)
{
    pool->n = n;
    for (size_t i = 0; i < n; i++) {
        const char name[] = {(char)('a' + (int)i), 0};

        pool->servers[i] = make_server(name, weights ? weights[i] : 1, false);
    }
    pool_build(pool, strategy);
}

static void pool_close(struct pool *pool)
{
    strategy_state_free(&pool->state);
    roster_unref(pool->roster);
    for (size_t i = 0; i < pool->n; i++)
        server_unref(pool->servers[i]);
}

static struct server *pick(struct pool *pool)
{
    return strategy_pick(pool->roster, &pool->state, &pool->input);
}

static struct server *pick_key(struct pool *pool, uint64_t key)
{
    pool->input.key = key;
    return pick(pool);
}

static size_t index_of(const struct pool *pool, const struct server *server)
{
    for (size_t i = 0; i < pool->n; i++)
        if (pool->servers[i] == server)
            return i;
    fail_msg("picked a server that is not in the pool");
    return 0;
}

/* The names of the next servers, which are all one letter; '-' for none. */
static const char *picks(struct pool *pool, size_t n)
{
    static char text[64];

    assert_true(n < sizeof text);
    for (size_t i = 0; i < n; i++) {
        const struct server *server = pick(pool);

        text[i] = server ? server->name.ptr[0] : '-';
    }
    text[n] = 0;
    return text;
}

static void count_picks(struct pool *pool, size_t n, size_t *counts)
{
    memset(counts, 0, pool->n * sizeof *counts);
    for (size_t i = 0; i < n; i++)
        counts[index_of(pool, pick(pool))]++;
}

/* --- round robin --- */

static void round_robin_goes_round_exactly(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, BALANCE_ROUND_ROBIN, 3, NULL);
    assert_string_equal(picks(&pool, 9), "abcabcabc");
    pool_close(&pool);
}

static void weights_are_spread_and_not_served_in_blocks(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, BALANCE_ROUND_ROBIN, 3, (const unsigned[]){5, 1, 1});
    assert_string_equal(picks(&pool, 14), "aabacaaaabacaa");
    pool_close(&pool);
}

static void threads_begin_at_different_servers(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, BALANCE_ROUND_ROBIN, 3, NULL);
    strategy_state_free(&pool.state);
    strategy_state_init(&pool.state, 1, 42);
    assert_string_equal(picks(&pool, 4), "bcab");
    strategy_state_free(&pool.state);
    strategy_state_init(&pool.state, 5, 42);
    assert_string_equal(picks(&pool, 4), "cabc");
    pool_close(&pool);
}

static void the_cycle_goes_on_among_those_left(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, BALANCE_ROUND_ROBIN, 4, NULL);
    server_went_down(pool.servers[1]);
    assert_string_equal(picks(&pool, 6), "acdacd");
    pool_close(&pool);
}

static void a_server_that_returns_gets_its_share_and_no_burst(void **state)
{
    struct pool pool;
    size_t counts[3];

    (void)state;
    pool_open(&pool, BALANCE_ROUND_ROBIN, 3, (const unsigned[]){2, 2, 1});
    picks(&pool, 3);
    server_went_down(pool.servers[2]);
    count_picks(&pool, 1000, counts);
    assert_int_equal(counts[2], 0);
    server_came_up(pool.servers[2], START);
    count_picks(&pool, 5, counts);
    assert_in_range(counts[2], 1, 2);
    count_picks(&pool, 50, counts);
    assert_in_range(counts[2], 9, 11);
    pool_close(&pool);
}

static void a_new_roster_begins_anew_also_when_it_is_larger(void **state)
{
    struct pool pool;
    struct roster *smaller;

    (void)state;
    pool_open(&pool, BALANCE_ROUND_ROBIN, 5, NULL);
    smaller = roster_create(pool.servers, NULL, 2, BALANCE_ROUND_ROBIN, 160);
    assert_ptr_equal(strategy_pick(smaller, &pool.state, &pool.input), pool.servers[0]);
    assert_string_equal(picks(&pool, 6), "abcdea");
    assert_ptr_equal(strategy_pick(smaller, &pool.state, &pool.input), pool.servers[0]);
    roster_unref(smaller);
    pool_close(&pool);
}

/* --- which servers may be picked, whatever the strategy --- */

static void nobody_picks_a_server_that_is_down_draining_ejected_or_tried(void **state)
{
    (void)state;
    for (int strategy = BALANCE_ROUND_ROBIN; strategy <= BALANCE_LEAST_LATENCY; strategy++) {
        struct pool pool;

        pool_open(&pool, (enum balance_strategy)strategy, 5, NULL);
        server_went_down(pool.servers[0]);
        pool.servers[1]->draining = true;
        pool.servers[2]->ejected_until_us = START + 1;
        pool.input.tried = &pool.servers[3];
        pool.input.n_tried = 1;
        for (uint64_t key = 0; key < 200; key++)
            assert_ptr_equal(pick_key(&pool, key << 56), pool.servers[4]);
        pool.input.n_tried = 2;
        assert_null(pick(&pool));
        pool.input.n_tried = 0;
        pool.input.now_us++;
        assert_non_null(pick(&pool));
        pool_close(&pool);
    }
}

static void backups_serve_only_when_no_other_is_left(void **state)
{
    (void)state;
    for (int strategy = BALANCE_ROUND_ROBIN; strategy <= BALANCE_LEAST_LATENCY; strategy++) {
        struct pool pool = {.n = 3};

        pool.servers[0] = make_server("a", 1, false);
        pool.servers[1] = make_server("spare", 256, true);
        pool.servers[2] = make_server("b", 1, false);
        pool_build(&pool, (enum balance_strategy)strategy);
        for (uint64_t key = 0; key < 100; key++)
            assert_ptr_not_equal(pick_key(&pool, key << 57), pool.servers[1]);
        server_went_down(pool.servers[0]);
        for (uint64_t key = 0; key < 100; key++)
            assert_ptr_equal(pick_key(&pool, key << 57), pool.servers[2]);
        server_went_down(pool.servers[2]);
        assert_ptr_equal(pick(&pool), pool.servers[1]);
        pool_close(&pool);
    }
}

static void a_request_that_tried_all_primaries_goes_to_a_backup(void **state)
{
    struct pool pool = {.n = 3};

    (void)state;
    pool.servers[0] = make_server("a", 1, false);
    pool.servers[1] = make_server("b", 1, false);
    pool.servers[2] = make_server("spare", 1, true);
    pool_build(&pool, BALANCE_ROUND_ROBIN);
    pool.input.tried = pool.servers;
    pool.input.n_tried = 2;
    assert_ptr_equal(pick(&pool), pool.servers[2]);
    pool.input.n_tried = 3;
    assert_null(pick(&pool));
    pool_close(&pool);
}

static void full_servers_are_passed_over_when_asked_and_call_no_backup_in(void **state)
{
    (void)state;
    for (int strategy = BALANCE_ROUND_ROBIN; strategy <= BALANCE_LEAST_LATENCY; strategy++) {
        struct pool pool = {.n = 3};

        for (size_t i = 0; i < 3; i++) {
            const char name[] = {(char)('a' + (int)i), 0};
            const struct config_server config = {
                .name = name, .weight = 1, .backup = i == 2, .max_connections = 2};
            const struct endpoint endpoint = {.len = 0};

            pool.servers[i] = server_create(&config, 99, &endpoint, 1);
        }
        pool_build(&pool, (enum balance_strategy)strategy);
        pool.input.skip_full = true;
        pool.input.load_bound = 1.25;
        pool.servers[0]->active = 2;
        pool.servers[1]->active = 1;
        for (uint64_t key = 0; key < 100; key++)
            assert_ptr_equal(pick_key(&pool, key << 57), pool.servers[1]);
        pool.servers[1]->active = 2;
        assert_null(pick(&pool));
        pool.input.skip_full = false;
        assert_ptr_not_equal(pick(&pool), pool.servers[2]);
        pool_close(&pool);
    }
}

static void the_pools_limit_is_for_servers_without_their_own(void **state)
{
    const struct config_server config = {.name = "a", .weight = 1};
    const struct endpoint endpoint = {.len = 0};
    struct server *limited = server_create(&config, 3, &endpoint, 1);
    struct server *unlimited = server_create(&config, 0, &endpoint, 1);

    (void)state;
    limited->active = 2;
    assert_false(server_full(limited));
    limited->active = 3;
    assert_true(server_full(limited));
    unlimited->active = UINT32_MAX;
    assert_false(server_full(unlimited));
    server_unref(limited);
    server_unref(unlimited);
}

static void a_pool_without_servers_has_nobody_to_pick(void **state)
{
    (void)state;
    for (int strategy = BALANCE_ROUND_ROBIN; strategy <= BALANCE_LEAST_LATENCY; strategy++) {
        struct pool pool = {.n = 0};

        pool_build(&pool, (enum balance_strategy)strategy);
        assert_null(pick(&pool));
        pool_close(&pool);
    }
}

static void a_roster_keeps_its_servers(void **state)
{
    struct pool pool;
    struct roster *kept;

    (void)state;
    pool_open(&pool, BALANCE_CONSISTENT_HASH, 3, NULL);
    kept = roster_ref(pool.roster);
    pool_close(&pool);
    assert_int_equal(kept->servers[2]->name.ptr[0], 'c');
    roster_unref(kept);
}

static void the_table_has_a_row_for_each_strategy(void **state)
{
    static const char *const names[] = {"round-robin",     "least-connections", "ip-hash",
                                        "consistent-hash", "random-two",        "least-latency"};

    (void)state;
    for (int strategy = BALANCE_ROUND_ROBIN; strategy <= BALANCE_LEAST_LATENCY; strategy++)
        assert_string_equal(strategy_table[strategy].name, names[strategy]);
    assert_int_equal(strategy_table[BALANCE_IP_HASH].key, STRATEGY_KEY_CLIENT);
    assert_int_equal(strategy_table[BALANCE_CONSISTENT_HASH].key, STRATEGY_KEY_REQUEST);
}

/* --- slow start --- */

static void weight_rises_in_a_line_from_a_tenth_during_slow_start(void **state)
{
    struct server *server = make_server("a", 4, false);

    (void)state;
    assert_int_equal(server_weight(server, START, 10 * SECOND), 4000);
    assert_int_equal(server_weight(server, 1, 10 * SECOND), 4000);
    server_went_down(server);
    server_came_up(server, START);
    assert_int_equal(server_weight(server, START - 1, 10 * SECOND), 400);
    assert_int_equal(server_weight(server, START, 10 * SECOND), 400);
    assert_int_equal(server_weight(server, START + 5 * SECOND, 10 * SECOND), 2200);
    assert_int_equal(server_weight(server, START + 10 * SECOND, 10 * SECOND), 4000);
    assert_int_equal(server_weight(server, START, 0), 4000);
    server_came_up(server, START + 20 * SECOND);
    assert_int_equal(server_weight(server, START + 20 * SECOND, 10 * SECOND), 4000);
    server_unref(server);
}

static void a_server_in_slow_start_gets_few_of_the_turns(void **state)
{
    struct pool pool;
    size_t counts[2];

    (void)state;
    pool_open(&pool, BALANCE_ROUND_ROBIN, 2, NULL);
    server_went_down(pool.servers[1]);
    server_came_up(pool.servers[1], START);
    pool.input.slow_start_us = 10 * SECOND;
    count_picks(&pool, 1100, counts);
    assert_in_range(counts[1], 99, 101);
    pool.input.now_us = START + 10 * SECOND;
    count_picks(&pool, 1100, counts);
    assert_in_range(counts[1], 545, 555);
    pool_close(&pool);
}

/* --- least connections --- */

static void the_least_loaded_for_its_weight_is_picked(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, BALANCE_LEAST_CONNECTIONS, 3, (const unsigned[]){1, 4, 2});
    pool.servers[0]->active = 2;
    pool.servers[1]->active = 7;
    pool.servers[2]->active = 4;
    assert_ptr_equal(pick(&pool), pool.servers[1]);
    pool.servers[1]->active = 9;
    pool.servers[2]->active = 3;
    assert_ptr_equal(pick(&pool), pool.servers[2]);
    pool_close(&pool);
}

static void requests_in_line_count_like_those_being_served(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, BALANCE_LEAST_CONNECTIONS, 2, NULL);
    pool.servers[0]->active = 1;
    pool.servers[0]->waiting = 9;
    pool.servers[1]->active = 5;
    for (int i = 0; i < 4; i++)
        assert_ptr_equal(pick(&pool), pool.servers[1]);
    pool_close(&pool);
}

static void equals_take_turns(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, BALANCE_LEAST_CONNECTIONS, 3, (const unsigned[]){1, 3, 1});
    assert_string_equal(picks(&pool, 6), "abcabc");
    pool.servers[0]->active = 2;
    pool.servers[1]->active = 6;
    pool.servers[2]->active = 2;
    assert_string_equal(picks(&pool, 6), "abcabc");
    pool_close(&pool);
}

/* Four servers, each serving one request at a time in the order of arrival. One request in ten is heavy.
 * Time goes in ticks: one arrival a tick at the most, one unit of work done by each busy server. What is
 * measured is no time but how many requests are in line before one, at its arrival. */
struct line {
    uint32_t work[20000]; /* left to do, by request */
    size_t head, tail;
};

static int compare_u32(const void *left, const void *right)
{
    const uint32_t *a = left, *b = right;

    return (*a > *b) - (*a < *b);
}

static uint32_t p99_ahead_of_a_request(enum balance_strategy strategy)
{
    enum { REQUESTS = 20000, SERVERS = 4, HEAVY = 40 };
    static struct line lines[SERVERS];
    static uint32_t ahead[REQUESTS];
    struct rng rng = {2024};
    struct pool pool;
    size_t arrived = 0;

    memset(lines, 0, sizeof lines);
    pool_open(&pool, strategy, SERVERS, NULL);
    while (arrived < REQUESTS) {
        if (rng_below(&rng, 100) < 57) { /* 4.9 units a request on 4 servers: 70 % busy */
            struct server *server = pick(&pool);
            struct line *line = &lines[index_of(&pool, server)];

            line->work[line->tail++] = rng_below(&rng, 10) ? 1 : HEAVY;
            ahead[arrived++] = (uint32_t)server_load(server);
            server->active++;
        }
        for (size_t i = 0; i < SERVERS; i++)
            if (lines[i].head < lines[i].tail && !--lines[i].work[lines[i].head]) {
                lines[i].head++;
                pool.servers[i]->active--;
            }
    }
    pool_close(&pool);
    qsort(ahead, REQUESTS, sizeof ahead[0], compare_u32);
    return ahead[REQUESTS * 99 / 100];
}

static void least_connections_keeps_lines_shorter_than_round_robin(void **state)
{
    uint32_t turns = p99_ahead_of_a_request(BALANCE_ROUND_ROBIN);
    uint32_t least = p99_ahead_of_a_request(BALANCE_LEAST_CONNECTIONS);

    (void)state;
    assert_true(turns > 10);
    assert_true(least * 3 < turns * 2);
}

/* --- ip hash --- */

#define CLIENTS 20000

static uint64_t client_key(uint32_t number)
{
    struct ip ip = {.bytes.s6_addr = {[10] = 0xff, [11] = 0xff, [12] = 10}};

    ip.bytes.s6_addr[13] = (uint8_t)(number >> 16);
    ip.bytes.s6_addr[14] = (uint8_t)(number >> 8);
    ip.bytes.s6_addr[15] = (uint8_t)number;
    return strategy_ip_key(&ip);
}

static void a_dead_server_moves_only_its_own_clients_and_gets_them_back(void **state)
{
    static struct server *homes[CLIENTS];
    struct pool pool;
    size_t counts[5] = {0}, heirs[5] = {0};

    (void)state;
    pool_open(&pool, BALANCE_IP_HASH, 5, NULL);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        homes[i] = pick_key(&pool, client_key(i));
        counts[index_of(&pool, homes[i])]++;
    }
    server_went_down(pool.servers[2]);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        struct server *now = pick_key(&pool, client_key(i));

        if (homes[i] != pool.servers[2])
            assert_ptr_equal(now, homes[i]);
        else
            heirs[index_of(&pool, now)]++;
    }
    server_came_up(pool.servers[2], START);
    for (uint32_t i = 0; i < CLIENTS; i++)
        assert_ptr_equal(pick_key(&pool, client_key(i)), homes[i]);
    for (size_t i = 0; i < 5; i++) {
        assert_in_range(counts[i], CLIENTS / 5 - 200, CLIENTS / 5 + 200);
        if (i != 2)
            assert_in_range(heirs[i], counts[2] / 4 - 150, counts[2] / 4 + 150);
    }
    pool_close(&pool);
}

static void clients_are_shared_by_weight(void **state)
{
    struct pool pool;
    size_t counts[3] = {0};

    (void)state;
    pool_open(&pool, BALANCE_IP_HASH, 3, (const unsigned[]){5, 3, 2});
    for (uint32_t i = 0; i < CLIENTS; i++)
        counts[index_of(&pool, pick_key(&pool, client_key(i)))]++;
    assert_in_range(counts[0], CLIENTS * 48 / 100, CLIENTS * 52 / 100);
    assert_in_range(counts[1], CLIENTS * 28 / 100, CLIENTS * 32 / 100);
    assert_in_range(counts[2], CLIENTS * 18 / 100, CLIENTS * 22 / 100);
    pool_close(&pool);
}

static void the_order_of_the_servers_does_not_matter(void **state)
{
    (void)state;
    for (int strategy = BALANCE_IP_HASH; strategy <= BALANCE_CONSISTENT_HASH; strategy++) {
        struct pool pool, turned = {.n = 4};

        pool_open(&pool, (enum balance_strategy)strategy, 4, (const unsigned[]){1, 2, 3, 4});
        for (size_t i = 0; i < 4; i++)
            turned.servers[3 - i] = server_ref(pool.servers[i]);
        pool_build(&turned, (enum balance_strategy)strategy);
        for (uint32_t i = 0; i < 2000; i++)
            assert_ptr_equal(pick_key(&pool, client_key(i)), pick_key(&turned, client_key(i)));
        pool_close(&turned);
        pool_close(&pool);
    }
}

/* Keys of all kinds: those with few different bits too. */
static void keys_that_differ_little_are_spread_all_the_same(void **state)
{
    struct pool pool;
    size_t counts[4] = {0};

    (void)state;
    pool_open(&pool, BALANCE_IP_HASH, 4, NULL);
    for (uint64_t key = 0; key < 4000; key++)
        counts[index_of(&pool, pick_key(&pool, key))]++;
    for (size_t i = 0; i < 4; i++)
        assert_in_range(counts[i], 900, 1100);
    pool_close(&pool);
}

static void a_slow_start_brings_a_servers_clients_back_bit_by_bit(void **state)
{
    struct pool pool;
    size_t before = 0;

    (void)state;
    pool_open(&pool, BALANCE_IP_HASH, 2, NULL);
    server_went_down(pool.servers[1]);
    server_came_up(pool.servers[1], START);
    pool.input.slow_start_us = 10 * SECOND;
    for (unsigned second = 0; second <= 10; second += 5) {
        size_t here = 0;

        pool.input.now_us = START + second * SECOND;
        for (uint32_t i = 0; i < 2000; i++)
            here += pick_key(&pool, client_key(i)) == pool.servers[1];
        assert_true(here > before + 100);
        before = here;
    }
    assert_in_range(before, 900, 1100);
    pool_close(&pool);
}

static struct ip ip_of_bytes(const uint8_t *bytes)
{
    struct ip ip;

    memcpy(ip.bytes.s6_addr, bytes, 16);
    return ip;
}

static void addresses_of_one_ipv6_network_share_a_key_and_ipv4_ones_do_not(void **state)
{
    struct ip a = ip_of_bytes((const uint8_t[16]){0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, [15] = 1});
    struct ip same = ip_of_bytes((const uint8_t[16]){0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9});
    struct ip other = ip_of_bytes((const uint8_t[16]){0x20, 1, 0xd, 0xb8, 0, 0, 0, 2, [15] = 1});

    (void)state;
    assert_true(strategy_ip_key(&a) == strategy_ip_key(&same));
    assert_true(strategy_ip_key(&a) != strategy_ip_key(&other));
    assert_true(client_key(1) != client_key(2));
}

/* --- consistent hash --- */

static uint64_t number_key(uint64_t number)
{
    return hash_bytes(slice_of((const char *)&number, sizeof number));
}

static uint64_t ceiling(uint64_t load, unsigned weight, unsigned weights, unsigned bound_percent)
{
    uint64_t divisor = 100u * weights;

    return (load * weight * bound_percent + divisor - 1) / divisor;
}

static void without_a_bound_a_key_has_one_home_whatever_its_load(void **state)
{
    struct pool pool;
    struct server *home;

    (void)state;
    pool_open(&pool, BALANCE_CONSISTENT_HASH, 10, NULL);
    home = pick_key(&pool, number_key(7));
    home->active = 1000000;
    assert_ptr_equal(pick_key(&pool, number_key(7)), home);
    pool_close(&pool);
}

static void a_hot_key_never_lifts_a_server_above_the_bound(void **state)
{
    static const unsigned even[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    static const unsigned uneven[] = {1, 2, 3, 4, 5, 1, 2, 3, 4, 5};

    (void)state;
    for (int weighted = 0; weighted < 2; weighted++) {
        const unsigned *weights = weighted ? uneven : even;
        unsigned sum = weighted ? 30 : 10;
        struct pool pool;

        pool_open(&pool, BALANCE_CONSISTENT_HASH, 10, weights);
        pool.input.load_bound = 1.25;
        for (uint64_t total = 1; total <= 2000; total++) {
            struct server *server = pick_key(&pool, number_key(5));
            size_t index = index_of(&pool, server);

            if (total % 3)
                server->active++;
            else
                server->waiting++;
            assert_true(server_load(server) <= ceiling(total, weights[index], sum, 125));
        }
        pool_close(&pool);
    }
}

/* ceil(1.25 x 8 / 10) is 1 and ceil(1.25 x 9 / 10) is 2: the ninth request may go home, where one is. */
static void the_bound_counts_the_request_itself(void **state)
{
    struct pool pool;
    struct server *home;

    (void)state;
    pool_open(&pool, BALANCE_CONSISTENT_HASH, 10, NULL);
    pool.input.load_bound = 1.25;
    home = pick_key(&pool, number_key(5));
    for (int i = 0; i < 8; i++)
        pick(&pool)->active++;
    for (size_t i = 0; i < 10; i++)
        assert_true(pool.servers[i]->active <= 1);
    assert_ptr_equal(pick(&pool), home);
    pool_close(&pool);
}

static void cold_keys_stay_at_home_while_there_is_room_for_them(void **state)
{
    struct pool pool;
    uint64_t total = 0;
    size_t stayed = 0;

    (void)state;
    pool_open(&pool, BALANCE_CONSISTENT_HASH, 10, NULL);
    pool.input.load_bound = 1.25;
    for (; total < 300; total++)
        pick_key(&pool, number_key(5))->active++;
    for (uint64_t key = 1000; key < 2000; key++) {
        struct server *bounded = pick_key(&pool, number_key(key));
        struct server *home;

        pool.input.load_bound = 0;
        home = pick(&pool);
        pool.input.load_bound = 1.25;
        if (server_load(home) < ceiling(total + 1, 1, 10, 125)) {
            assert_ptr_equal(bounded, home);
            stayed++;
        } else {
            assert_ptr_not_equal(bounded, home);
        }
    }
    assert_in_range(stayed, 100, 900);
    pool_close(&pool);
}

static void the_overflow_of_a_key_goes_to_the_next_on_the_ring(void **state)
{
    struct pool pool;
    const struct ring *ring;
    size_t position, home;

    (void)state;
    pool_open(&pool, BALANCE_CONSISTENT_HASH, 10, NULL);
    ring = pool.roster->ring;
    position = ring_find(ring, number_key(5));
    home = ring_member_at(ring, position);
    pool.servers[home]->active = 50;
    pool.input.load_bound = 1.25;
    while (ring_member_at(ring, position) == home)
        position = ring_next(ring, position);
    assert_ptr_equal(pick_key(&pool, number_key(5)), pool.servers[ring_member_at(ring, position)]);
    pool_close(&pool);
}

static void a_bound_of_one_still_finds_a_server_for_each(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, BALANCE_CONSISTENT_HASH, 7, (const unsigned[]){1, 2, 3, 4, 5, 6, 7});
    pool.input.load_bound = 1;
    for (uint64_t total = 1; total <= 280; total++)
        pick_key(&pool, number_key(5))->active++;
    for (unsigned i = 0; i < 7; i++)
        assert_int_equal(pool.servers[i]->active, 10 * (i + 1));
    pool_close(&pool);
}

static void a_server_gone_from_the_ring_moves_only_its_own_keys(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, BALANCE_CONSISTENT_HASH, 10, NULL);
    for (uint64_t key = 0; key < 2000; key++) {
        struct server *home = pick_key(&pool, number_key(key));
        struct server *other = pool.servers[key % 10];

        server_went_down(other);
        if (home == other)
            assert_ptr_not_equal(pick(&pool), home);
        else
            assert_ptr_equal(pick(&pool), home);
        server_came_up(other, START);
    }
    pool_close(&pool);
}

/* --- random two --- */

static void the_better_of_two_different_servers_is_picked(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, BALANCE_RANDOM_TWO, 2, NULL);
    pool.servers[0]->active = 1;
    for (int i = 0; i < 1000; i++)
        assert_ptr_equal(pick(&pool), pool.servers[1]);
    pool_close(&pool);
}

static void the_worst_of_many_is_never_picked_and_all_others_are(void **state)
{
    struct pool pool;
    size_t counts[6];

    (void)state;
    pool_open(&pool, BALANCE_RANDOM_TWO, 6, NULL);
    pool.servers[3]->waiting = 1;
    count_picks(&pool, 6000, counts);
    for (size_t i = 0; i < 6; i++)
        if (i == 3)
            assert_int_equal(counts[i], 0);
        else
            assert_in_range(counts[i], 1000, 1400);
    pool_close(&pool);
}

static void the_two_are_drawn_and_compared_by_weight(void **state)
{
    struct pool pool;
    size_t counts[3];

    (void)state;
    pool_open(&pool, BALANCE_RANDOM_TWO, 3, (const unsigned[]){8, 1, 1});
    count_picks(&pool, 10000, counts);
    assert_in_range(counts[0], 7800, 8200);
    pool.servers[0]->active = 7;
    pool.servers[1]->active = 1;
    pool.servers[2]->active = 1;
    count_picks(&pool, 1000, counts);
    assert_true(counts[0] > 950);
    pool_close(&pool);
}

static void a_single_server_is_picked_alone(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, BALANCE_RANDOM_TWO, 1, NULL);
    assert_string_equal(picks(&pool, 3), "aaa");
    pool_close(&pool);
}

/* --- least latency --- */

static void a_slower_answer_counts_at_once_and_a_faster_one_by_time(void **state)
{
    struct server *server = make_server("a", 1, false);
    uint64_t now = START;

    (void)state;
    assert_true(server_latency(server, now) == 0);
    server_observe(server, 1000, now);
    assert_true(server_latency(server, now) == 1000);
    server_observe(server, 90000, now);
    assert_true(server_latency(server, now) == 90000);
    for (int i = 0; i < 1000; i++)
        server_observe(server, 1000, now);
    assert_true(server_latency(server, now) == 90000);
    for (int i = 0; i < 10000; i++)
        server_observe(server, 1000, now += 1000);
    assert_true(fabs(server_latency(server, now) - (1000 + 89000 * exp(-1))) < 10);
    server_unref(server);
}

static void an_average_decays_while_nobody_asks_and_is_forgotten_after_a_minute(void **state)
{
    struct server *server = make_server("a", 1, false);

    (void)state;
    server_observe(server, 50000, START);
    assert_true(fabs(server_latency(server, START + 10 * SECOND) - 50000 * exp(-1)) < 1);
    assert_true(server_latency(server, START - 5) == 50000);
    assert_true(server_latency(server, START + 59 * SECOND) > 0);
    assert_true(server_latency(server, START + 60 * SECOND) == 0);
    server_unref(server);
}

/* A failure's answer is fast; a plain average would send everybody there. */
static void a_server_that_fails_fast_attracts_nobody(void **state)
{
    struct pool pool;
    size_t failed = 0;

    (void)state;
    pool_open(&pool, BALANCE_LEAST_LATENCY, 3, NULL);
    for (int i = 0; i < 20000; i++) {
        struct server *server = pick(&pool);

        pool.input.now_us += 1000;
        if (server == pool.servers[1]) {
            server_observe_failure(server, pool.input.now_us);
            failed++;
        } else {
            server_observe(server, 2000000, pool.input.now_us);
        }
    }
    assert_in_range(failed, 1, 20);
    pool_close(&pool);
}

static void failures_add_up_until_a_minute(void **state)
{
    struct server *server = make_server("a", 1, false);

    (void)state;
    server_observe_failure(server, START);
    assert_true(server_latency(server, START) == 1000000);
    server_observe_failure(server, START);
    assert_true(server_latency(server, START) == 2000000);
    for (int i = 0; i < 100; i++)
        server_observe_failure(server, START);
    assert_true(server_latency(server, START) == 60000000);
    assert_int_equal(server->failures_in_row, 102);
    server_observe(server, 5, START);
    assert_int_equal(server->failures_in_row, 0);
    server_unref(server);
}

static void an_unmeasured_server_is_tried_by_one_request_only(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, BALANCE_LEAST_LATENCY, 2, NULL);
    server_observe(pool.servers[0], 1000, START);
    assert_ptr_equal(pick(&pool), pool.servers[1]);
    pool.servers[1]->active++;
    for (unsigned i = 0; i < 100; i++) {
        assert_ptr_equal(pick(&pool), pool.servers[0]);
        pool.servers[0]->active++;
    }
    pool_close(&pool);
}

static void unmeasured_servers_share_what_comes_at_once(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, BALANCE_LEAST_LATENCY, 3, NULL);
    for (int i = 0; i < 30; i++)
        pick(&pool)->active++;
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pool.servers[i]->active, 10);
    pool_close(&pool);
}

static void requests_in_flight_and_weight_count_beside_latency(void **state)
{
    struct pool pool;

    (void)state;
    pool_open(&pool, BALANCE_LEAST_LATENCY, 2, (const unsigned[]){1, 2});
    server_observe(pool.servers[0], 10000, START);
    server_observe(pool.servers[1], 30000, START);
    assert_ptr_equal(pick(&pool), pool.servers[0]);
    pool.servers[0]->active = 1;
    assert_ptr_equal(pick(&pool), pool.servers[1]);
    pool.servers[0]->active = 0;
    pool.servers[0]->waiting = 1;
    assert_ptr_equal(pick(&pool), pool.servers[1]);
    pool.servers[1]->active = 1;
    assert_ptr_equal(pick(&pool), pool.servers[0]);
    pool_close(&pool);
}

static void a_server_once_bad_is_tried_again(void **state)
{
    struct pool pool;
    uint64_t since = START;

    (void)state;
    pool_open(&pool, BALANCE_LEAST_LATENCY, 2, NULL);
    server_observe(pool.servers[0], 500000, START);
    server_observe(pool.servers[1], 5000, START);
    while (pick(&pool) == pool.servers[1]) {
        pool.input.now_us += 10000;
        server_observe(pool.servers[1], 5000, pool.input.now_us);
        assert_true(pool.input.now_us < since + 61 * SECOND);
    }
    assert_true(pool.input.now_us > since + 40 * SECOND);
    pool_close(&pool);
}

/* --- looking ahead --- */

/* Loads, latencies and states that change between requests. */
static void shake(struct pool *pool, struct rng *rng)
{
    struct server *server = pool->servers[rng_below(rng, pool->n)];

    switch (rng_below(rng, 4)) {
    case 0:
        atomic_store(&server->active, (unsigned)rng_below(rng, 6));
        break;
    case 1:
        server_observe(server, 1000 + rng_below(rng, 100000), pool->input.now_us);
        break;
    case 2:
        atomic_store(&server->draining, rng_below(rng, 3) == 0);
        break;
    default:
        pool->input.now_us += rng_below(rng, SECOND);
        break;
    }
}

static void a_peek_tells_the_next_pick_and_takes_no_turn(void **state)
{
    struct rng rng = {7};

    (void)state;
    for (int strategy = BALANCE_ROUND_ROBIN; strategy <= BALANCE_LEAST_LATENCY; strategy++) {
        struct pool pool;
        size_t found = 0;

        pool_open(&pool, (enum balance_strategy)strategy, 6, (const unsigned[]){1, 7, 3, 3, 2, 1});
        atomic_store(&pool.servers[5]->backup, true);
        atomic_store(&pool.servers[1]->max_connections, 2);
        for (int i = 0; i < 3000; i++) {
            const struct server *seen;

            pool.input.key = rng_next(&rng);
            pool.input.skip_full = rng_below(&rng, 2) == 0;
            pool.input.load_bound = 1.25;
            seen = strategy_peek(pool.roster, &pool.state, &pool.input);
            assert_ptr_equal(strategy_peek(pool.roster, &pool.state, &pool.input), seen);
            assert_ptr_equal(pick(&pool), seen);
            found += seen != NULL;
            shake(&pool, &rng);
        }
        assert_in_range(found, 1000, 3000);
        pool_close(&pool);
    }
}

static void a_peek_at_another_roster_leaves_the_cycle_of_this_one(void **state)
{
    struct pool pool;
    struct roster *larger;

    (void)state;
    pool_open(&pool, BALANCE_ROUND_ROBIN, 3, NULL);
    assert_string_equal(picks(&pool, 2), "ab");
    larger =
        roster_create((struct server *[]){pool.servers[2], pool.servers[1], pool.servers[0], pool.servers[2]},
                      NULL, 4, BALANCE_ROUND_ROBIN, 160);
    assert_ptr_equal(strategy_peek(larger, &pool.state, &pool.input), pool.servers[2]);
    assert_string_equal(picks(&pool, 2), "ca");
    roster_unref(larger);
    pool_close(&pool);
}

static void each_server_is_judged_by_the_first_reason_that_keeps_it_from_being_picked(void **state)
{
    enum strategy_verdict verdicts[7];
    struct server *tried[1];
    struct pool pool;

    (void)state;
    pool_open(&pool, BALANCE_ROUND_ROBIN, 7, NULL);
    pool_close(&pool);
    pool.servers[6] = make_server("g", 1, true); /* a roster looks for backups when it is made */
    for (size_t i = 0; i < 6; i++)
        pool.servers[i] = make_server((const char[]){(char)('a' + (int)i), 0}, 1, false);
    pool_build(&pool, BALANCE_ROUND_ROBIN);
    server_went_down(pool.servers[1]);
    atomic_store(&pool.servers[2]->draining, true);
    server_went_down(pool.servers[2]);
    atomic_store(&pool.servers[3]->ejected_until_us, START + 1);
    tried[0] = pool.servers[4];
    pool.input.tried = tried;
    pool.input.n_tried = 1;
    atomic_store(&pool.servers[5]->max_connections, 1);
    atomic_store(&pool.servers[5]->active, 1);
    pool.input.skip_full = true;
    strategy_judge(pool.roster, &pool.input, verdicts);
    assert_memory_equal(
        verdicts,
        ((const enum strategy_verdict[]){STRATEGY_FITS, STRATEGY_DOWN, STRATEGY_DRAINS, STRATEGY_EJECTED,
                                         STRATEGY_TRIED, STRATEGY_FULL, STRATEGY_SPARE}),
        sizeof verdicts);
    pool.input.skip_full = false;
    strategy_judge(pool.roster, &pool.input, verdicts);
    assert_int_equal(verdicts[5], STRATEGY_FITS);
    server_went_down(pool.servers[0]);
    server_went_down(pool.servers[5]);
    strategy_judge(pool.roster, &pool.input, verdicts);
    assert_int_equal(verdicts[0], STRATEGY_DOWN);
    assert_int_equal(verdicts[6], STRATEGY_FITS);
    pool_close(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_robin_goes_round_exactly),
        cmocka_unit_test(weights_are_spread_and_not_served_in_blocks),
        cmocka_unit_test(threads_begin_at_different_servers),
        cmocka_unit_test(the_cycle_goes_on_among_those_left),
        cmocka_unit_test(a_server_that_returns_gets_its_share_and_no_burst),
        cmocka_unit_test(a_new_roster_begins_anew_also_when_it_is_larger),
        cmocka_unit_test(nobody_picks_a_server_that_is_down_draining_ejected_or_tried),
        cmocka_unit_test(backups_serve_only_when_no_other_is_left),
        cmocka_unit_test(a_request_that_tried_all_primaries_goes_to_a_backup),
        cmocka_unit_test(full_servers_are_passed_over_when_asked_and_call_no_backup_in),
        cmocka_unit_test(the_pools_limit_is_for_servers_without_their_own),
        cmocka_unit_test(a_pool_without_servers_has_nobody_to_pick),
        cmocka_unit_test(a_roster_keeps_its_servers),
        cmocka_unit_test(the_table_has_a_row_for_each_strategy),
        cmocka_unit_test(weight_rises_in_a_line_from_a_tenth_during_slow_start),
        cmocka_unit_test(a_server_in_slow_start_gets_few_of_the_turns),
        cmocka_unit_test(the_least_loaded_for_its_weight_is_picked),
        cmocka_unit_test(requests_in_line_count_like_those_being_served),
        cmocka_unit_test(equals_take_turns),
        cmocka_unit_test(least_connections_keeps_lines_shorter_than_round_robin),
        cmocka_unit_test(a_dead_server_moves_only_its_own_clients_and_gets_them_back),
        cmocka_unit_test(clients_are_shared_by_weight),
        cmocka_unit_test(the_order_of_the_servers_does_not_matter),
        cmocka_unit_test(keys_that_differ_little_are_spread_all_the_same),
        cmocka_unit_test(a_slow_start_brings_a_servers_clients_back_bit_by_bit),
        cmocka_unit_test(addresses_of_one_ipv6_network_share_a_key_and_ipv4_ones_do_not),
        cmocka_unit_test(without_a_bound_a_key_has_one_home_whatever_its_load),
        cmocka_unit_test(a_hot_key_never_lifts_a_server_above_the_bound),
        cmocka_unit_test(the_bound_counts_the_request_itself),
        cmocka_unit_test(cold_keys_stay_at_home_while_there_is_room_for_them),
        cmocka_unit_test(the_overflow_of_a_key_goes_to_the_next_on_the_ring),
        cmocka_unit_test(a_bound_of_one_still_finds_a_server_for_each),
        cmocka_unit_test(a_server_gone_from_the_ring_moves_only_its_own_keys),
        cmocka_unit_test(the_better_of_two_different_servers_is_picked),
        cmocka_unit_test(the_worst_of_many_is_never_picked_and_all_others_are),
        cmocka_unit_test(the_two_are_drawn_and_compared_by_weight),
        cmocka_unit_test(a_single_server_is_picked_alone),
        cmocka_unit_test(a_slower_answer_counts_at_once_and_a_faster_one_by_time),
        cmocka_unit_test(an_average_decays_while_nobody_asks_and_is_forgotten_after_a_minute),
        cmocka_unit_test(a_server_that_fails_fast_attracts_nobody),
        cmocka_unit_test(failures_add_up_until_a_minute),
        cmocka_unit_test(an_unmeasured_server_is_tried_by_one_request_only),
        cmocka_unit_test(unmeasured_servers_share_what_comes_at_once),
        cmocka_unit_test(requests_in_flight_and_weight_count_beside_latency),
        cmocka_unit_test(a_server_once_bad_is_tried_again),
        cmocka_unit_test(a_peek_tells_the_next_pick_and_takes_no_turn),
        cmocka_unit_test(a_peek_at_another_roster_leaves_the_cycle_of_this_one),
        cmocka_unit_test(each_server_is_judged_by_the_first_reason_that_keeps_it_from_being_picked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
