/* test_token.c - names of messages: each leads back to its message, and no other text leads anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "queue/token.h"

static struct token_key key;

static int set_up(void **state)
{
    (void)state;
    return token_key_open(&key, "0123456789abcdef");
}

static int tear_down(void **state)
{
    (void)state;
    token_key_close(&key);
    return 0;
}

static void a_name_leads_back_to_its_message(void **state)
{
    static const struct {
        uint32_t address;
        uint64_t number;
    } messages[] = {{1, 1}, {0x80000007, 2}, {UINT32_MAX, UINT64_MAX}, {0, 0}};
    char text[TOKEN_TEXT];
    uint32_t address;
    uint64_t number;

    (void)state;
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        assert_true(token_put(&key, messages[i].address, messages[i].number, text));
        assert_true(token_take(&key, slice_of(text, sizeof text), &address, &number));
        assert_true(address == messages[i].address && number == messages[i].number);
    }
}

static void a_name_with_another_letter_is_nobodys(void **state)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
    char text[TOKEN_TEXT];
    uint32_t address;
    uint64_t number;

    (void)state;
    assert_true(token_put(&key, 5, 6, text));
    for (size_t i = 0; i < TOKEN_TEXT; i++)
        for (size_t k = 0; k < 32; k++) {
            char other[TOKEN_TEXT];

            memcpy(other, text, sizeof other);
            other[i] = letters[k];
            assert_int_equal(token_take(&key, slice_of(other, sizeof other), &address, &number),
                             letters[k] == text[i]);
        }
}

static void another_log_does_not_know_it(void **state)
{
    struct token_key other;
    char text[TOKEN_TEXT];
    uint32_t address;
    uint64_t number;

    (void)state;
    assert_int_equal(token_key_open(&other, "another 16 bytes"), 0);
    assert_true(token_put(&key, 5, 6, text));
    assert_false(token_take(&other, slice_of(text, sizeof text), &address, &number));
    token_key_close(&other);
}

static void what_is_no_name_is_refused(void **state)
{
    static const char *const texts[] = {"",
                                        "a",
                                        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
                                        "abcdefghijklmnopqrstuvwx1z",
                                        "aaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                        "aaaaaaaaaaaaaaaaaaaaaaaaa/"};
    uint32_t address;
    uint64_t number;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_false(token_take(&key, slice_from_text(texts[i]), &address, &number));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_name_leads_back_to_its_message),
        TEST(a_name_with_another_letter_is_nobodys),
        TEST(another_log_does_not_know_it),
        TEST(what_is_no_name_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
