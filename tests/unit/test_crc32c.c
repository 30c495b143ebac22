/* test_crc32c.c - the vectors of RFC 3720, appendix B.4. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "log/crc32c.h"

static void the_vectors_of_the_rfc_come_out(void **state)
{
    char bytes[32];

    (void)state;
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(crc32c(0, slice_of(bytes, 32)), 0x8a9136aa);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(crc32c(0, slice_of(bytes, 32)), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        bytes[i] = (char)i;
    assert_int_equal(crc32c(0, slice_of(bytes, 32)), 0x46dd794e);
    for (int i = 0; i < 32; i++)
        bytes[i] = (char)(31 - i);
    assert_int_equal(crc32c(0, slice_of(bytes, 32)), 0x113fdb5c);
    assert_int_equal(crc32c(0, SLICE("123456789")), 0xe3069283);
}

static void nothing_has_the_crc_0(void **state)
{
    (void)state;
    assert_int_equal(crc32c(0, SLICE("")), 0);
}

static void parts_come_to_the_same_as_the_whole(void **state)
{
    static const char text[] = "the ticket rail, the front of house, and whoever waits at the pass";
    struct slice whole = slice_of(text, sizeof text - 1);

    (void)state;
    for (size_t cut = 0; cut <= whole.len; cut++)
        assert_int_equal(crc32c(crc32c(0, slice_of(text, cut)), slice_of(text + cut, whole.len - cut)),
                         crc32c(0, whole));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_of_the_rfc_come_out),
        cmocka_unit_test(nothing_has_the_crc_0),
        cmocka_unit_test(parts_come_to_the_same_as_the_whole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
