/* test_request_key.c - what is hashed for each hash-key, and that its text says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "balance/request_key.h"
#include "balance/strategy.h"
#include "base/hash.h"

static struct http_field fields[] = {
    {.name = {"X-Tenant", 8}, .value = {"blue", 4}},
    {.name = {"Cookie", 6}, .value = {"a=1; user=alice", 15}, .id = FIELD_COOKIE},
};

static const struct http_request request = {
    .authority = {"shop.test:8080", 14},
    .path = {"/cart", 5},
    .query = {"user=bob&x=1", 12},
    .fields = {fields, 2, 2},
};

static struct ip ip_of(const char *text)
{
    struct ip ip;

    assert_true(ip_parse(slice_from_text(text), &ip));
    return ip;
}

static uint64_t hash_of(const char *text)
{
    return hash_bytes(slice_from_text(text));
}

struct row {
    enum hash_key_kind kind;
    const char *name;   /* of the hash-key */
    const char *hashed; /* NULL: see the test */
    const char *text;
};

static const struct row rows[] = {
    {HASH_KEY_HOST, NULL, "shop.test", "host: shop.test"},
    {HASH_KEY_PATH, NULL, "/cart", "path: /cart"},
    {HASH_KEY_HEADER, "x-tenant", "blue", "header x-tenant: blue"},
    {HASH_KEY_COOKIE, "user", "alice", "cookie user: alice"},
    {HASH_KEY_QUERY, "user", "bob", "query parameter user: bob"},
    {HASH_KEY_HEADER, "x-other", "",
     "header x-other: not in the request; all requests without it have the same server"},
    {HASH_KEY_COOKIE, "other", "",
     "cookie other: not in the request; all requests without it have the same server"},
    {HASH_KEY_QUERY, "o", "",
     "query parameter o: not in the request; all requests without it have the same server"},
    {HASH_KEY_URI, NULL, NULL, "path and query: /cart?user=bob&x=1"},
    {HASH_KEY_IP, NULL, NULL, "client address: 192.0.2.1"},
};

static void each_hash_key_hashes_its_part_of_the_request_and_says_so(void **state)
{
    struct ip client = ip_of("192.0.2.1");
    char text[128];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct config_pool pool = {
            .balance = BALANCE_CONSISTENT_HASH, .hash_key = rows[i].kind, .hash_key_name = rows[i].name};
        uint64_t key = request_key(&pool, &request, &client);

        if (rows[i].hashed)
            assert_int_equal(key, hash_of(rows[i].hashed));
        else if (rows[i].kind == HASH_KEY_IP)
            assert_int_equal(key, strategy_ip_key(&client));
        else
            assert_int_equal(key, hash_bytes_seeded(request.query, hash_of("/cart")));
        assert_true(request_key_text(&pool, &request, &client, text, sizeof text));
        assert_string_equal(text, rows[i].text);
    }
}

static void only_strategies_that_hash_have_a_key(void **state)
{
    static const enum balance_strategy without[] = {BALANCE_ROUND_ROBIN, BALANCE_LEAST_CONNECTIONS,
                                                    BALANCE_RANDOM_TWO, BALANCE_LEAST_LATENCY};
    struct ip client = ip_of("2001:db8::1:2:3");
    struct config_pool pool = {.balance = BALANCE_IP_HASH, .hash_key = HASH_KEY_PATH};
    char text[128] = "";

    (void)state;
    assert_int_equal(request_key(&pool, &request, &client), strategy_ip_key(&client));
    assert_true(request_key_text(&pool, &request, &client, text, sizeof text));
    assert_string_equal(text, "client address: 2001:db8::1:2:3, of which the first 64 bits");
    for (size_t i = 0; i < sizeof without / sizeof without[0]; i++) {
        pool.balance = without[i];
        assert_int_equal(request_key(&pool, &request, &client), 0);
        assert_false(request_key_text(&pool, &request, &client, text, sizeof text));
    }
}

static void a_text_that_is_too_long_is_cut(void **state)
{
    const struct config_pool pool = {.balance = BALANCE_CONSISTENT_HASH, .hash_key = HASH_KEY_PATH};
    struct ip client = ip_of("192.0.2.1");
    char text[8];

    (void)state;
    assert_true(request_key_text(&pool, &request, &client, text, sizeof text));
    assert_string_equal(text, "path: /");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_hash_key_hashes_its_part_of_the_request_and_says_so),
        cmocka_unit_test(only_strategies_that_hash_have_a_key),
        cmocka_unit_test(a_text_that_is_too_long_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
