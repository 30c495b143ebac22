/* test_topics.c - which patterns of a topic exchange a key matches, by a table and beside a matcher that only tries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "queue/topics.h"

/* ---- the matcher that only tries ------------------------------------------------------------------------------------- */

struct words {
    struct slice at[256];
    size_t n;
};

static struct words split(struct slice text)
{
    struct words words = {.n = 0};

    while (text.len) {
        size_t len = slice_find(text, '.');

        words.at[words.n++] = slice_take(&text, len);
        if (!text.len)
            break;
        slice_drop(&text, 1);
        if (!text.len)
            words.at[words.n++] = text; /* behind a dot at the end there is an empty word */
    }
    return words;
}

static bool tries(const struct slice *pattern, size_t n_pattern, const struct slice *key, size_t n_key)
{
    if (!n_pattern)
        return !n_key;
    if (slice_equal(*pattern, SLICE("#")))
        return tries(pattern + 1, n_pattern - 1, key, n_key) ||
               (n_key && tries(pattern, n_pattern, key + 1, n_key - 1));
    return n_key && (slice_equal(*pattern, SLICE("*")) || slice_equal(*pattern, *key)) &&
           tries(pattern + 1, n_pattern - 1, key + 1, n_key - 1);
}

static bool naive(struct slice pattern, struct slice key)
{
    struct words p = split(pattern), k = split(key);

    return tries(p.at, p.n, k.at, k.n);
}

/* ---- patterns -------------------------------------------------------------------------------------------------------- */

struct pattern {
    struct list link;
    struct topic_node *node;
    char text[256];
    unsigned met;
};

static void add(struct topics *topics, struct pattern *pattern)
{
    pattern->node = topics_take(topics, slice_from_text(pattern->text));
    assert_non_null(pattern->node);
    list_push_back(topic_node_bindings(pattern->node), &pattern->link);
}

static void drop(struct topics *topics, struct pattern *pattern)
{
    list_remove(&pattern->link);
    topics_release(topics, pattern->node);
}

static void meet(void *arg, struct list *bindings)
{
    size_t *n = arg;

    for (struct list *at = bindings->next; at != bindings; at = at->next, ++*n)
        container_of(at, struct pattern, link)->met++;
}

/* How many; none is met twice. */
static size_t match(struct topics *topics, struct slice key)
{
    size_t n = 0;

    topics_match(topics, key, meet, &n);
    return n;
}

static bool matches(const char *pattern, const char *key)
{
    struct topics topics = {0};
    struct pattern p = {.met = 0};
    size_t n;

    snprintf(p.text, sizeof p.text, "%s", pattern);
    add(&topics, &p);
    n = match(&topics, slice_from_text(key));
    assert_int_equal(n, p.met);
    assert_true(n <= 1);
    drop(&topics, &p);
    assert_null(topics.root);
    return n == 1;
}

/* ---- the table ------------------------------------------------------------------------------------------------------- */

static void the_table_holds(void **state)
{
    static const struct {
        const char *pattern, *yes[8], *no[8];
    } rows[] = {
        {"", {""}, {"a", ".", "a.b"}},
        {"#", {"", "a", "a.b", ".", "..", "a..b"}, {NULL}},
        {"*", {"a", "*", "#"}, {"", ".", "a.b"}},
        {"a", {"a"}, {"", "b", "a.", ".a", "a.a", "A", "aa"}},
        {"#.a", {"a", "b.a", "a.a", ".a", "b.c.a", "a.b.a"}, {"", "a.b", "a.", "ba"}},
        {"a.#", {"a", "a.b", "a.", "a.b.c", "a.."}, {"", "b.a", ".a", "ab"}},
        {"a.#.b", {"a.b", "a.c.b", "a..b", "a.b.b", "a.b.c.b"}, {"a", "b", "a.b.c", "ab", "b.a", "a.bb"}},
        {"*.#", {"a", "a.b", ".", "a.b.c"}, {""}},
        {"#.*", {"a", "a.b", ".", "a.b.c"}, {""}},
        {"*.*", {"a.b", "."}, {"", "a", "a.b.c", ".."}},
        {"#.#", {"", "a", "a.b", ".."}, {NULL}},
        {"#.*.#", {"a", ".", "a.b"}, {""}},
        {"#.*.*", {"a.b", ".", "a.b.c"}, {"", "a"}},
        {"#.a.#", {"a", "b.a", "a.b", "b.a.b"}, {"", "b", "ab.ba"}},
        {"a.#.#.b", {"a.b", "a.x.b", "a.x.y.b"}, {"a", "b"}},
        {"..", {".."}, {"", ".", "a..", "..a", "..."}},
        {".", {"."}, {"", "..", "a"}},
        {"a.", {"a."}, {"a", "a..", ".a"}},
        {".a", {".a"}, {"a", "..a", "a."}},
        {"*.", {"a.", "."}, {"", "a", "a.b"}},
        {"#.", {".", "a.", "a.b."}, {"a"}},
        {"*.a.#.b.*", {"x.a.b.y", "x.a.c.d.b.y", ".a.b."}, {"a.b", "x.a.b", "a.b.y"}},
        {"a*", {"a*"}, {"ab", "a"}},
        {"#a", {"#a"}, {"a", "ba"}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t k = 0; k < 8 && rows[i].yes[k]; k++)
            if (!matches(rows[i].pattern, rows[i].yes[k]))
                fail_msg("\"%s\" does not match \"%s\"", rows[i].pattern, rows[i].yes[k]);
        for (size_t k = 0; k < 8 && rows[i].no[k]; k++)
            if (matches(rows[i].pattern, rows[i].no[k]))
                fail_msg("\"%s\" matches \"%s\"", rows[i].pattern, rows[i].no[k]);
    }
}

/* ---- beside the other ------------------------------------------------------------------------------------------------ */

static void random_text(struct rng *rng, const char *const *words, unsigned n_words, char text[256])
{
    size_t n = rng_below(rng, 8), len = 0;

    text[0] = '\0';
    for (size_t i = 0; i < n; i++)
        len += (size_t)snprintf(text + len, 256 - len, "%s%s", i ? "." : "", words[rng_below(rng, n_words)]);
}

static void compare(struct topics *topics, struct pattern *patterns, size_t n, struct slice key)
{
    match(topics, key);
    for (size_t i = 0; i < n; i++) {
        bool there = patterns[i].node && naive(slice_from_text(patterns[i].text), key);

        if (patterns[i].met != there)
            fail_msg("pattern \"%s\", key \"%.*s\": met %u times", patterns[i].text, SLICE_ARG(key),
                     patterns[i].met);
        patterns[i].met = 0;
    }
}

static void the_trie_agrees_with_one_that_only_tries(void **state)
{
    static const char *const words[] = {"a", "b", "", "#", "*", "#", "*", "c"};
    static struct pattern patterns[60];
    char key[256];

    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct topics topics = {0};
        struct rng rng = {seed};

        for (unsigned round = 0; round < 200; round++) {
            struct pattern *p = &patterns[rng_below(&rng, 60)];

            if (p->node) {
                drop(&topics, p);
                p->node = NULL;
            } else {
                random_text(&rng, words, 8, p->text);
                add(&topics, p);
            }
            random_text(&rng, words, rng_below(&rng, 2) ? 3 : 5, key);
            compare(&topics, patterns, 60, slice_from_text(key));
        }
        for (size_t i = 0; i < 60; i++)
            if (patterns[i].node)
                drop(&topics, &patterns[i]);
        memset(patterns, 0, sizeof patterns);
        assert_null(topics.root);
        assert_int_equal(topics.words.n, 0);
    }
}

/* ---- many ------------------------------------------------------------------------------------------------------------ */

#define MANY 100000u

static struct pattern many[MANY];

/* In nanoseconds. */
static uint64_t time_matching(struct topics *topics, struct slice key, size_t expected, unsigned times)
{
    uint64_t start = clock_monotonic_us();

    for (unsigned i = 0; i < times; i++)
        assert_int_equal(match(topics, key), expected);
    return (clock_monotonic_us() - start) * 1000 / times;
}

static void of_a_hundred_thousand_patterns_a_key_finds_its_own(void **state)
{
    static const char *const forms[] = {"a.b.%u", "a.*.%u.#", "#.x%u.#", "*.*.%u.c", "d.%u.#.e"};
    struct topics topics = {0};
    uint64_t ns;

    (void)state;
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(many[i].text, sizeof many[i].text, forms[i % 5], i / 5); /* NOLINT: of the table above */
        add(&topics, &many[i]);
    }
    ns = time_matching(&topics, SLICE("a.b.777"), 2, 1000) +
         time_matching(&topics, SLICE("a.b.777.c"), 2, 1000) +
         time_matching(&topics, SLICE("d.7.x8.x9.e"), 3, 1000) +
         time_matching(&topics, SLICE("nobody"), 0, 1000);
    print_message("a key among %u patterns: %llu ns\n", MANY, (unsigned long long)ns / 4);
    for (unsigned i = 0; i < MANY; i++)
        drop(&topics, &many[i]);
    assert_null(topics.root);
}

/* A key of a hundred words and more, and patterns of as many as their length allows. */
static void many_hashes_take_no_time_that_grows_with_their_power(void **state)
{
    struct topics topics = {0};
    char key[256];
    size_t len = 0, expected = 0;
    uint64_t ns;

    (void)state;
    for (unsigned i = 0; i < 127; i++)
        len += (size_t)snprintf(key + len, sizeof key - len, "%sa", i ? "." : "");
    for (unsigned i = 0; i < 1000; i++) {
        struct rng rng = {i};
        size_t at = 0;

        memset(&many[i], 0, sizeof many[i]);
        for (unsigned k = 0; k < 60; k++)
            at += (size_t)snprintf(many[i].text + at, sizeof many[i].text - at, "%s%s", k ? "." : "",
                                   k % 2                ? "#"
                                   : rng_below(&rng, 2) ? "a"
                                                        : "*");
        if (i % 2)
            snprintf(many[i].text + at, sizeof many[i].text - at, ".b");
        else
            expected++;
        add(&topics, &many[i]);
    }
    ns = time_matching(&topics, slice_from_text(key), expected, 2);
    print_message("a key of 127 words among 1000 patterns of 30 hashes: %llu ms\n",
                  (unsigned long long)ns / 1000000);
    for (unsigned i = 0; i < 1000; i++)
        drop(&topics, &many[i]);
    assert_null(topics.root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_holds),
        cmocka_unit_test(the_trie_agrees_with_one_that_only_tries),
        cmocka_unit_test(of_a_hundred_thousand_patterns_a_key_finds_its_own),
        cmocka_unit_test(many_hashes_take_no_time_that_grows_with_their_power),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
