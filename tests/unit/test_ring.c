/* test_ring.c - the consistent hash ring: shares, and which keys move. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "balance/ring.h"
#include "base/hash.h"
#include "base/rng.h"

#define MEMBERS_MAX 101
#define NODES 160
#define KEYS 100000

struct set {
    char texts[MEMBERS_MAX][32];
    struct ring_member members[MEMBERS_MAX];
    size_t n;
};

static void set_fill(struct set *set, size_t n, unsigned family)
{
    set->n = n;
    for (size_t i = 0; i < n; i++) {
        snprintf(set->texts[i], sizeof set->texts[i], "10.%u.0.%zu:8080", family, i + 1);
        set->members[i] = (struct ring_member){slice_from_text(set->texts[i]), 1};
    }
}

static struct ring *set_ring(const struct set *set)
{
    struct ring *ring = ring_create(set->members, set->n, NODES);

    assert_non_null(ring);
    return ring;
}

static uint64_t key_hash(unsigned number)
{
    return hash_bytes(slice_of((const char *)&number, sizeof number));
}

static const char *home_of(const struct ring *ring, const struct set *set, unsigned key)
{
    return set->members[ring_member_at(ring, ring_find(ring, key_hash(key)))].name.ptr;
}

/* Keys by member, of KEYS. */
static void count_shares(const struct ring *ring, size_t *shares, size_t n)
{
    memset(shares, 0, n * sizeof *shares);
    for (unsigned key = 0; key < KEYS; key++)
        shares[ring_member_at(ring, ring_find(ring, key_hash(key)))]++;
}

static void a_lost_server_moves_only_its_own_keys_and_a_tenth_of_all(void **state)
{
    struct set set;
    struct ring *whole;

    (void)state;
    set_fill(&set, 10, 0);
    whole = set_ring(&set);
    for (size_t lost = 0; lost < set.n; lost++) {
        struct set less = set;
        struct ring *ring;
        size_t moved = 0;

        less.members[lost] = less.members[--less.n];
        ring = set_ring(&less);
        for (unsigned key = 0; key < KEYS; key++) {
            const char *before = home_of(whole, &set, key);
            const char *after = home_of(ring, &less, key);

            if (before == set.texts[lost])
                moved++;
            else
                assert_ptr_equal(before, after);
        }
        assert_in_range(moved, KEYS * 8 / 100, KEYS * 12 / 100);
        ring_free(ring);
    }
    ring_free(whole);
}

static void a_new_server_takes_an_eleventh_and_nothing_moves_between_the_others(void **state)
{
    struct set set, more;
    struct ring *before, *after;
    size_t moved = 0;

    (void)state;
    set_fill(&set, 10, 0);
    set_fill(&more, 11, 0);
    before = set_ring(&set);
    after = set_ring(&more);
    for (unsigned key = 0; key < KEYS; key++) {
        size_t was = ring_member_at(before, ring_find(before, key_hash(key)));
        size_t is = ring_member_at(after, ring_find(after, key_hash(key)));

        if (is == 10)
            moved++;
        else
            assert_int_equal(was, is);
    }
    assert_in_range(moved, KEYS * 7 / 100, KEYS * 11 / 100);
    ring_free(before);
    ring_free(after);
}

static void shares_of_ten_servers_vary_by_seven_and_a_half_percent(void **state)
{
    enum { FAMILIES = 40 };
    double variance = 0;

    (void)state;
    for (unsigned family = 0; family < FAMILIES; family++) {
        struct set set;
        struct ring *ring;
        size_t shares[10];

        set_fill(&set, 10, family);
        ring = set_ring(&set);
        count_shares(ring, shares, 10);
        for (size_t i = 0; i < 10; i++) {
            double off = (double)shares[i] / (KEYS / 10.0) - 1;

            variance += off * off / (10.0 * FAMILIES);
        }
        ring_free(ring);
    }
    assert_in_range((uintmax_t)(sqrt(variance) * 10000), 600, 900);
}

static void shuffle(struct set *set, struct rng *rng)
{
    for (size_t i = set->n; i > 1; i--) {
        size_t other = (size_t)rng_below(rng, i);
        struct ring_member kept = set->members[i - 1];

        set->members[i - 1] = set->members[other];
        set->members[other] = kept;
    }
}

static void the_order_of_the_list_does_not_matter(void **state)
{
    struct rng rng = {7};
    struct set set;
    struct ring *ring;

    (void)state;
    set_fill(&set, 10, 3);
    ring = set_ring(&set);
    for (int round = 0; round < 5; round++) {
        struct set mixed = set;
        struct ring *other;

        shuffle(&mixed, &rng);
        other = set_ring(&mixed);
        for (unsigned key = 0; key < 20000; key++)
            assert_ptr_equal(home_of(ring, &set, key), home_of(other, &mixed, key));
        ring_free(other);
    }
    ring_free(ring);
}

/* Names are looked at, not where they stand in memory, nor how long the caller keeps them. */
static void two_processes_with_the_same_names_agree(void **state)
{
    struct set set, copy;
    struct ring *ring, *other;

    (void)state;
    set_fill(&set, 10, 4);
    set_fill(&copy, 10, 4);
    ring = set_ring(&set);
    other = set_ring(&copy);
    memset(copy.texts, 'x', sizeof copy.texts);
    assert_int_equal(ring_points(ring), ring_points(other));
    for (size_t at = 0; at < ring_points(ring); at++)
        assert_int_equal(ring_member_at(ring, at), ring_member_at(other, at));
    ring_free(ring);
    ring_free(other);
}

/* Fixed for good: balancers of different versions must agree on a key's home. */
static void the_points_of_a_known_ring_never_change(void **state)
{
    const struct ring_member members[] = {{SLICE("a"), 1}, {SLICE("b"), 1}};
    const struct {
        uint64_t hash;
        size_t member;
    } points[] = {
        {0x148be4e168a1bf8cu, 0}, /* a#1 */
        {0x6c9da71f2832f85eu, 0}, /* a#0 */
        {0xcc04a365c6d32c05u, 1}, /* b#0 */
        {0xf4d306ca48e145b0u, 1}, /* b#1 */
    };
    struct ring *ring = ring_create(members, 2, 2);

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(ring_find(ring, points[i].hash), i);
        assert_int_equal(ring_find(ring, points[i].hash + 1), (i + 1) % 4);
        assert_int_equal(ring_member_at(ring, i), points[i].member);
    }
    ring_free(ring);
}

static void a_doubled_weight_doubles_the_share_and_takes_from_all(void **state)
{
    enum { FAMILIES = 20 };
    double share = 0;

    (void)state;
    for (unsigned family = 0; family < FAMILIES; family++) {
        struct set set;
        struct ring *even, *heavy;
        size_t shares[10];

        set_fill(&set, 10, family);
        even = set_ring(&set);
        set.members[4].weight = 2;
        heavy = set_ring(&set);
        count_shares(heavy, shares, 10);
        share += (double)shares[4] / KEYS / FAMILIES;
        for (unsigned key = 0; key < 10000; key++) {
            const char *after = home_of(heavy, &set, key);

            if (after != set.texts[4])
                assert_ptr_equal(after, home_of(even, &set, key));
        }
        ring_free(even);
        ring_free(heavy);
    }
    assert_in_range((uintmax_t)(share * 10000), 10000 * 2 / 11 - 80, 10000 * 2 / 11 + 80);
}

/* The slow and obvious way to find a key's home. */
static size_t walk_for(const uint64_t *hashes, const size_t *members, size_t n, uint64_t hash)
{
    size_t best = SIZE_MAX, lowest = 0;

    for (size_t i = 0; i < n; i++) {
        if (hashes[i] >= hash && (best == SIZE_MAX || hashes[i] < hashes[best]))
            best = i;
        if (hashes[i] < hashes[lowest])
            lowest = i;
    }
    return members[best == SIZE_MAX ? lowest : best];
}

static void the_index_finds_what_a_walk_finds_also_at_both_ends(void **state)
{
    struct set set;
    struct ring *ring;
    struct rng rng = {11};
    uint64_t hashes[3 * NODES];
    size_t members[3 * NODES];

    (void)state;
    set_fill(&set, 3, 5);
    ring = set_ring(&set);
    for (size_t i = 0; i < 3 * NODES; i++) {
        char text[64];
        int len = snprintf(text, sizeof text, "%s#%zu", set.texts[i / NODES], i % NODES);

        hashes[i] = hash_bytes(slice_of(text, (size_t)len));
        members[i] = i / NODES;
    }
    for (size_t i = 0; i < 3 * NODES; i++)
        for (uint64_t near = 0; near < 3; near++) {
            uint64_t hash = hashes[i] + near - 1;

            assert_int_equal(ring_member_at(ring, ring_find(ring, hash)),
                             walk_for(hashes, members, 3 * NODES, hash));
        }
    for (int i = 0; i < 2000; i++) {
        uint64_t hash = i == 0 ? 0 : i == 1 ? UINT64_MAX : rng_next(&rng);

        assert_int_equal(ring_member_at(ring, ring_find(ring, hash)),
                         walk_for(hashes, members, 3 * NODES, hash));
    }
    ring_free(ring);
}

static void a_walk_round_the_ring_visits_every_point_once(void **state)
{
    struct set set;
    struct ring *ring;
    size_t seen[10] = {0};
    size_t position;

    (void)state;
    set_fill(&set, 10, 6);
    ring = set_ring(&set);
    assert_int_equal(ring_points(ring), 10 * NODES);
    position = ring_find(ring, UINT64_MAX / 3);
    for (size_t i = 0; i < ring_points(ring); i++, position = ring_next(ring, position))
        seen[ring_member_at(ring, position)]++;
    assert_int_equal(position, ring_find(ring, UINT64_MAX / 3));
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(seen[i], NODES);
    ring_free(ring);
}

static void a_ring_of_one_point_is_everybodys_home(void **state)
{
    const struct ring_member one = {SLICE("alone"), 1};
    struct ring *ring = ring_create(&one, 1, 1);

    (void)state;
    assert_int_equal(ring_points(ring), 1);
    assert_int_equal(ring_find(ring, 0), 0);
    assert_int_equal(ring_find(ring, UINT64_MAX), 0);
    assert_int_equal(ring_next(ring, 0), 0);
    ring_free(ring);
}

static void a_ring_that_would_be_too_large_is_refused(void **state)
{
    const struct ring_member member = {SLICE("heavy"), 256};

    (void)state;
    assert_null(ring_create(&member, 1, UINT32_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_lost_server_moves_only_its_own_keys_and_a_tenth_of_all),
        cmocka_unit_test(a_new_server_takes_an_eleventh_and_nothing_moves_between_the_others),
        cmocka_unit_test(shares_of_ten_servers_vary_by_seven_and_a_half_percent),
        cmocka_unit_test(the_order_of_the_list_does_not_matter),
        cmocka_unit_test(two_processes_with_the_same_names_agree),
        cmocka_unit_test(the_points_of_a_known_ring_never_change),
        cmocka_unit_test(a_doubled_weight_doubles_the_share_and_takes_from_all),
        cmocka_unit_test(the_index_finds_what_a_walk_finds_also_at_both_ends),
        cmocka_unit_test(a_walk_round_the_ring_visits_every_point_once),
        cmocka_unit_test(a_ring_of_one_point_is_everybodys_home),
        cmocka_unit_test(a_ring_that_would_be_too_large_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
