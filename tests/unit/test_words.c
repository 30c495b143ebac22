/* test_words.c - splitting a command into words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/words.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

struct split {
    char *text, *room, **words; /* of exactly the bytes that there must be: a byte more is found */
    size_t n;
    const char *why;
};

static struct split split(const char *text)
{
    size_t bytes = strlen(text) + 1;
    struct split s = {malloc(bytes), malloc(bytes), calloc(WORDS_MOST(bytes - 1), sizeof(char *)), 0, NULL};

    assert_true(s.text && s.room && s.words);
    memcpy(s.text, text, bytes);
    s.n = words_split(s.text, s.room, s.words, &s.why);
    return s;
}

static void done(struct split *s)
{
    free(s->text);
    free(s->room);
    free(s->words);
}

static void words_are_those_that_a_shell_makes(void **state)
{
    static const struct {
        const char *text, *words[8];
    } rows[] = {
        {"", {NULL}},
        {" \t\n", {NULL}},
        {"a", {"a"}},
        {" ./a  --fast\tb ", {"./a", "--fast", "b"}},
        {"a 'b c' \"d e\" f\\ g", {"a", "b c", "d e", "f g"}},
        {"a'b'\"c\"d", {"abcd"}},
        {"a '' \"\"", {"a", "", ""}},
        {"'a\\b' \"c\\d\" \"e\\\"f\\\\g\\$\\`\"", {"a\\b", "c\\d", "e\"f\\g$`"}},
        {"\\'a\\\" \\\\", {"'a\"", "\\"}},
        {"'|&;<>()$`' \\| \"&;<>()\"", {"|&;<>()$`", "|", "&;<>()"}},
        {"a *.c ~ #x", {"a", "*.c", "~", "#x"}},
        {"a b c d e", {"a", "b", "c", "d", "e"}},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct split s = split(rows[i].text);
        size_t n = 0;

        assert_null(s.why);
        for (; rows[i].words[n]; n++)
            if (n >= s.n || strcmp(s.words[n], rows[i].words[n]) != 0)
                fail_msg("word %zu of %s is not %s", n, rows[i].text, rows[i].words[n]);
        assert_int_equal(s.n, n);
        done(&s);
    }
}

static void what_is_for_a_shell_or_has_no_end_is_refused(void **state)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"a 'b", "has a quote that is never closed"},
        {"a \"b", "has a quote that is never closed"},
        {"a 'b\"", "has a quote that is never closed"},
        {"a b\\", "ends in a backslash"},
        {"a|b", "has one of"},
        {"a & b", "has one of"},
        {"a; b", "has one of"},
        {"a <b", "has one of"},
        {"a >b", "has one of"},
        {"(a)", "has one of"},
        {"a $B", "has one of"},
        {"`a`", "has one of"},
        {"a \"$B\"", "has a $ or `"},
        {"a \"`b`\"", "has a $ or `"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct split s = split(rows[i].text);

        if (!s.why || strncmp(s.why, rows[i].why, strlen(rows[i].why)) != 0)
            fail_msg("%s: %s", rows[i].text, s.why ? s.why : "is accepted");
        assert_int_equal(s.n, 0);
        done(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_those_that_a_shell_makes),
        cmocka_unit_test(what_is_for_a_shell_or_has_no_end_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
