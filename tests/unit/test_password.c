/* test_password.c - hashes of passwords: ours and RabbitMQ's, against what other programs make. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <cmocka.h>

#include "base/password.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Python's hashlib.pbkdf2_hmac("sha256", "p\xc3\xa4ss word", bytes(range(16)), 1000). */
#define OURS "$pbkdf2-sha256$i=1000$AAECAwQFBgcICQoLDA0ODw$gwS+/OmrmLOgh2TngNEnMSUuZHP74FfoMy6Ko3dc93k"
/* From RabbitMQ's documentation of its passwords. */
#define RABBIT "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
/* The same salt with Python's hashlib.sha512. */
#define RABBIT_512 \
    "kI3GChuNuIYf8lRbCCxZjgjKwsY19ns6+uFO0zcXRBGA/XGJPYD8OWMy7EB8TaOmAzjP2azv84GbINYwX2cDWb4DHnc="

/* Of an exact-size copy: ASan sees an over-read by one. */
static bool is_hash(struct slice text)
{
    char *copy = malloc(text.len + !text.len);
    bool is;

    assert_non_null(copy);
    memcpy(copy, text.ptr, text.len);
    is = password_is_hash(slice_of(copy, text.len));
    assert_false(password_matches(slice_of(copy, text.len), SLICE("none of them")));
    free(copy);
    return is;
}

static void hashes_that_others_made_are_verified(void **state)
{
    (void)state;
    assert_true(password_matches(SLICE(OURS), SLICE("p\xc3\xa4ss word")));
    assert_true(password_matches(SLICE(RABBIT), SLICE("test12")));
    assert_true(password_matches(SLICE(RABBIT_512), SLICE("test12")));
    assert_false(password_matches(SLICE(OURS), SLICE("p\xc3\xa4ss wore")));
    assert_false(password_matches(SLICE(RABBIT), SLICE("test1")));
    assert_false(password_matches(SLICE(RABBIT), SLICE("test12 ")));
    assert_false(password_matches(SLICE(RABBIT_512), SLICE("Test12")));
    assert_true(password_is_slow(SLICE(OURS)));
    assert_false(password_is_slow(SLICE(RABBIT)));
}

static void a_hash_of_ours_is_of_its_password_only_and_never_the_same_twice(void **state)
{
    char one[PASSWORD_HASH_TEXT_MAX], other[PASSWORD_HASH_TEXT_MAX];

    (void)state;
    assert_int_equal(password_hash(SLICE("secret"), 1000, one), 0);
    assert_int_equal(password_hash(SLICE("secret"), 1000, other), 0);
    assert_string_not_equal(one, other);
    assert_int_equal(strncmp(one, "$pbkdf2-sha256$i=1000$", 22), 0);
    assert_int_equal(strlen(one), 22 + 22 + 1 + 43);
    assert_true(password_matches(slice_from_text(one), SLICE("secret")));
    assert_true(password_matches(slice_from_text(other), SLICE("secret")));
    assert_false(password_matches(slice_from_text(one), SLICE("secreT")));
}

static void the_iterations_that_are_recommended_are_taken(void **state)
{
    char text[PASSWORD_HASH_TEXT_MAX];

    (void)state;
    assert_int_equal(password_hash(SLICE("secret"), PASSWORD_ITERATIONS, text), 0);
    assert_true(password_matches(slice_from_text(text), SLICE("secret")));
}

static void a_password_has_1_to_1024_bytes(void **state)
{
    static char longest[PASSWORD_BYTES_MAX + 1];
    char text[PASSWORD_HASH_TEXT_MAX];

    (void)state;
    memset(longest, 'x', sizeof longest);
    assert_int_equal(password_hash(slice_of(longest, PASSWORD_BYTES_MAX), 1000, text), 0);
    assert_true(password_matches(slice_from_text(text), slice_of(longest, PASSWORD_BYTES_MAX)));
    assert_false(password_matches(slice_from_text(text), slice_of(longest, PASSWORD_BYTES_MAX + 1)));
    assert_int_equal(password_hash(slice_of(longest, PASSWORD_BYTES_MAX + 1), 1000, text), -EINVAL);
    assert_int_equal(password_hash(SLICE(""), 1000, text), -EINVAL);
    assert_int_equal(password_hash(SLICE("x"), 999, text), -EINVAL);
    assert_int_equal(password_hash(SLICE("x"), 10000001, text), -EINVAL);
    assert_false(password_matches(SLICE(RABBIT), SLICE("")));
}

static void no_beginning_of_a_hash_is_one(void **state)
{
    static const char *const hashes[] = {OURS, RABBIT};

    (void)state;
    for (size_t i = 0; i < COUNT(hashes); i++) {
        for (size_t n = 0; n < strlen(hashes[i]); n++)
            assert_false(is_hash(slice_of(hashes[i], n)));
        assert_true(is_hash(slice_from_text(hashes[i])));
    }
    assert_true(is_hash(SLICE(RABBIT_512)));
    assert_true(is_hash(slice_of(RABBIT_512, strlen(RABBIT_512) - 1))); /* without padding */
}

static void what_only_looks_like_a_hash_is_none(void **state)
{
    static const char *const bad[] = {
        "",
        "x",
        "secret",
        "$pbkdf2-sha256$i=1000$",
        "$pbkdf2-sha256$i=1000$$",
        "$pbkdf2-sha256$i=$AAECAwQFBgcICQoLDA0ODw$MhYPIPUyIZMgTbHvAaHcwxIVhEcSzRD0yUfyTYpBDeI",
        "$pbkdf2-sha256$i=-1$AAECAwQFBgcICQoLDA0ODw$MhYPIPUyIZMgTbHvAaHcwxIVhEcSzRD0yUfyTYpBDeI",
        "$pbkdf2-sha256$i=999$AAECAwQFBgcICQoLDA0ODw$MhYPIPUyIZMgTbHvAaHcwxIVhEcSzRD0yUfyTYpBDeI",
        "$pbkdf2-sha256$i=99999999999999999999$AAECAwQFBgcICQoLDA0ODw$"
        "MhYPIPUyIZMgTbHvAaHcwxIVhEcSzRD0yUfyTYpBDeI",
        "$pbkdf2-sha256$i=1000$AAEC$MhYPIPUyIZMgTbHvAaHcwxIVhEcSzRD0yUfyTYpBDeI", /* a salt of 3 bytes */
        "$pbkdf2-sha256$i=1000$AAECAwQFBgcICQoLDA0ODx$MhYPIPUyIZMgTbHvAaHcwxIVhEcSzRD0yUfyTYpBDeI", /* stray bits */
        "$pbkdf2-sha256$i=1000$AAECAwQFBgcICQoLDA0O-w$MhYPIPUyIZMgTbHvAaHcwxIVhEcSzRD0yUfyTYpBDeI",
        "$pbkdf2-sha512$i=1000$AAECAwQFBgcICQoLDA0ODw$MhYPIPUyIZMgTbHvAaHcwxIVhEcSzRD0yUfyTYpBDeI",
        "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2PO=",
        "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR\n",
        " kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2PO",
        "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2P=R",
        "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2P\xc3\xa4",
        "========",
        "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2PORkI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
        "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2PORkI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        if (is_hash(slice_from_text(bad[i])))
            fail_msg("%s", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hashes_that_others_made_are_verified),
        cmocka_unit_test(a_hash_of_ours_is_of_its_password_only_and_never_the_same_twice),
        cmocka_unit_test(the_iterations_that_are_recommended_are_taken),
        cmocka_unit_test(a_password_has_1_to_1024_bytes),
        cmocka_unit_test(no_beginning_of_a_hash_is_one),
        cmocka_unit_test(what_only_looks_like_a_hash_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
