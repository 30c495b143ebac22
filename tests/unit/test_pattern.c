/* test_pattern.c - regular expressions: what they match, what is refused, and that none takes long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <time.h>
#include <cmocka.h>

#include "base/pattern.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* The room of a test, freed all at once. */
static void *blocks[64];
static size_t n_blocks, blocks_max;

static void *take(void *arg, size_t bytes)
{
    (void)arg;
    assert_true(n_blocks < COUNT(blocks));
    return n_blocks < blocks_max ? blocks[n_blocks++] = malloc(bytes) : NULL;
}

static const struct pattern_room room = {take, NULL};

static int open_room(void **state)
{
    n_blocks = 0;
    blocks_max = COUNT(blocks);
    *state = matcher_create();
    return *state ? 0 : -1;
}

static int free_room(void **state)
{
    while (n_blocks)
        free(blocks[--n_blocks]);
    matcher_free(*state);
    return 0;
}

/* Of exact-size copies. */
static bool matches(struct matcher *matcher, const char *pattern, struct slice text)
{
    size_t len = strlen(pattern);
    char *copy = malloc(len + !len), *subject = malloc(text.len + !text.len);
    const struct pattern *compiled;
    struct pattern_error error;
    bool yes;

    assert_non_null(copy);
    assert_non_null(subject);
    memcpy(copy, pattern, len);
    if (text.len)
        memcpy(subject, text.ptr, text.len);
    compiled = pattern_compile(slice_of(copy, len), &room, &error);
    if (!compiled)
        fail_msg("%s: %s", pattern, error.why);
    free(copy);
    yes = matcher_matches(matcher, compiled, slice_of(subject, text.len));
    free(subject);
    return yes;
}

static void a_pattern_matches_anywhere_unless_it_says_where(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool yes;
    } rows[] = {
        {".*", "", true},
        {".*", "a\nb", true},
        {"", "", true},
        {"", "a", false},
        {"^$", "", true},
        {"^$", "a", false},
        {"order", "old-orders", true},
        {"^order", "old-orders", false},
        {"^orders$", "orders", true},
        {"^orders$", "orders2", false},
        {"^(amq\\.gen|app)", "amq.gen-X", true},
        {"^(amq\\.gen|app)", "amq-gen", false},
        {"a.b",
         "a\xff"
         "b",
         true},
        {"(?i)^ORDERS$", "orders", true},
        {"^(?!secret)", "secret", false},
        {"^(?!secret)", "open", true},
    };

    for (size_t i = 0; i < COUNT(rows); i++) {
        if (matches(*state, rows[i].pattern, slice_from_text(rows[i].text)) != rows[i].yes)
            fail_msg("%s and %s", rows[i].pattern, rows[i].text);
        while (n_blocks)
            free(blocks[--n_blocks]);
    }
    assert_true(matches(*state, "", (struct slice){NULL, 0}));
    assert_true(matches(*state, "x?", (struct slice){NULL, 0}));
}

static void what_is_no_pattern_is_refused_with_its_place(void **state)
{
    static const struct {
        const char *pattern;
        size_t at;
        const char *why;
    } rows[] = {
        {"(", 1, "missing closing parenthesis"},
        {"ab)", 2, "unmatched closing parenthesis"},
        {"[a", 2, "missing terminating ] for character class"},
        {"*", 0, "quantifier does not follow a repeatable item"},
        {"a{2,1}", 5, "numbers out of order in {} quantifier"},
        {"((a{1000}){1000}){1000}", 23, "regular expression is too large"},
    };
    struct pattern_error error;

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        assert_null(pattern_compile(slice_from_text(rows[i].pattern), &room, &error));
        if (error.at != rows[i].at || strcmp(error.why, rows[i].why) != 0)
            fail_msg("%s: %s at %zu", rows[i].pattern, error.why, error.at);
    }
}

static void a_pattern_has_4096_bytes_at_the_most(void **state)
{
    static char text[PATTERN_TEXT_MAX + 1];
    struct pattern_error error;

    (void)state;
    memset(text, 'x', sizeof text);
    assert_non_null(pattern_compile(slice_of(text, PATTERN_TEXT_MAX), &room, &error));
    assert_null(pattern_compile(slice_of(text, PATTERN_TEXT_MAX + 1), &room, &error));
    assert_string_equal(error.why, "it is longer than 4096 bytes");
}

static void no_memory_is_said(void **state)
{
    struct pattern_error error;
    size_t needed;

    (void)state;
    assert_non_null(pattern_compile(SLICE("^a(b|c)$"), &room, &error));
    needed = n_blocks;
    assert_true(needed > 2);
    for (size_t max = 0; max < needed; max++) {
        while (n_blocks)
            free(blocks[--n_blocks]);
        blocks_max = max;
        assert_null(pattern_compile(SLICE("^a(b|c)$"), &room, &error));
        assert_true(*error.why);
    }
}

/* Patterns that would try for years what cannot match a name of 255 bytes. */
static void no_pattern_takes_long(void **state)
{
    static const char *const worst[] = {
        "(a+)+$",          "(a|aa)+$",        "(.|..|...)+[^!]$", "^(a|aa)+$",          "(a*)*b",
        "(.*)*x",          "((((a+)+)+)+)+b", "(?:a?){40}a{40}b", ".*a.*a.*a.*a.*a.*b", "(?R)?a(?R)?b",
        "^(?:(a+)\\1?)+$",
    };
    char name[255];
    struct timespec before, after;

    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '!';
    clock_gettime(CLOCK_MONOTONIC, &before);
    for (size_t i = 0; i < COUNT(worst); i++) {
        assert_false(matches(*state, worst[i], slice_of(name, sizeof name)));
        while (n_blocks)
            free(blocks[--n_blocks]);
    }
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_true(after.tv_sec - before.tv_sec < 30); /* mostly that it ends: machines differ */
    assert_true(matches(*state, "^a+!$", slice_of(name, sizeof name)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_pattern_matches_anywhere_unless_it_says_where, open_room,
                                        free_room),
        cmocka_unit_test_setup_teardown(what_is_no_pattern_is_refused_with_its_place, open_room, free_room),
        cmocka_unit_test_setup_teardown(a_pattern_has_4096_bytes_at_the_most, open_room, free_room),
        cmocka_unit_test_setup_teardown(no_memory_is_said, open_room, free_room),
        cmocka_unit_test_setup_teardown(no_pattern_takes_long, open_room, free_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
