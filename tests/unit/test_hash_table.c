/* test_hash_table.c - what hash_table.h promises, a sentence each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hash_table.h"
#include "base/list.h"

#define N 10000

struct thing {
    struct hash_item item;
    unsigned value;
};

static struct thing things[N];

static struct thing *find(const struct hash_table *table, uint64_t hash, unsigned value)
{
    for (struct hash_item *item = hash_table_find(table, hash); item; item = hash_table_next(item))
        if (container_of(item, struct thing, item)->value == value)
            return container_of(item, struct thing, item);
    return NULL;
}

static void fill(struct hash_table *table, uint64_t n_hashes)
{
    for (unsigned i = 0; i < N; i++) {
        things[i].value = i;
        assert_true(hash_table_reserve(table));
        hash_table_add(table, &things[i].item, i % n_hashes * 0x9e3779b97f4a7c15);
    }
}

static void an_empty_one_has_nothing(void **state)
{
    struct hash_table table = {0};

    (void)state;
    assert_null(hash_table_find(&table, 0));
    hash_table_free(&table);
}

static void what_was_added_is_found_until_it_is_removed(void **state)
{
    struct hash_table table = {0};

    (void)state;
    fill(&table, N);
    for (unsigned i = 0; i < N; i += 2)
        hash_table_remove(&table, &things[i].item);
    for (unsigned i = 0; i < N; i++)
        assert_ptr_equal(find(&table, i * 0x9e3779b97f4a7c15, i), i % 2 ? &things[i] : NULL);
    assert_int_equal(table.n, N / 2);
    hash_table_free(&table);
}

static void all_with_the_same_hash_are_found_and_no_others(void **state)
{
    struct hash_table table = {0};

    (void)state;
    fill(&table, 3);
    for (uint64_t k = 0; k < 3; k++) {
        size_t n = 0;

        for (struct hash_item *item = hash_table_find(&table, k * 0x9e3779b97f4a7c15); item;
             item = hash_table_next(item), n++)
            assert_int_equal(container_of(item, struct thing, item)->value % 3, k);
        assert_int_equal(n, N / 3 + (k < N % 3));
    }
    for (unsigned i = 0; i < N; i++)
        hash_table_remove(&table, &things[i].item);
    assert_null(hash_table_find(&table, 0));
    hash_table_free(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_one_has_nothing),
        cmocka_unit_test(what_was_added_is_found_until_it_is_removed),
        cmocka_unit_test(all_with_the_same_hash_are_found_and_no_others),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
