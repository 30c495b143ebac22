/* amqp_kit.h - what the tests of wire/amqp*.h share: vectors written in hexadecimal, and blocks of exact size, so that
 * a look one byte too far is seen. */
#ifndef TESTS_AMQP_KIT_H
#define TESTS_AMQP_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "wire/amqp_out.h"

/* In tables, where SLICE is no constant; it may hold NULs. */
#define TEXT(literal)                \
    {                                \
        literal, sizeof(literal) - 1 \
    }
#define N(table) (sizeof(table) / sizeof(table)[0])

static inline void drop(struct slice s)
{
    free((char *)(uintptr_t)s.ptr);
}

/* The caller drops it. */
static inline struct slice exact(struct slice s)
{
    char *block = malloc(s.len);

    assert_true(block || !s.len);
    if (s.len)
        memcpy(block, s.ptr, s.len);
    return slice_of(block, s.len);
}

/* The caller drops it. */
static inline struct slice unhex(const char *digits)
{
    size_t n = strlen(digits) / 2;
    char *block = malloc(n);

    assert_true(block || !n);
    for (size_t i = 0; i < n; i++) {
        unsigned byte;

        assert_int_equal(sscanf(digits + 2 * i, "%2x", &byte), 1);
        block[i] = (char)byte;
    }
    return slice_of(block, n);
}

static inline void assert_slices_equal(struct slice a, struct slice b)
{
    assert_int_equal(a.len, b.len);
    if (a.len)
        assert_memory_equal(a.ptr, b.ptr, a.len);
}

/* A buffer of exactly that room, that is written to and then looked at. */
struct sheet {
    char *block;
    struct amqp_out out;
};

static inline struct sheet sheet_of(size_t room)
{
    char *block = malloc(room);

    assert_true(block || !room);
    return (struct sheet){block, amqp_out_of(block, room)};
}

static inline struct slice sheet_bytes(const struct sheet *sheet)
{
    return slice_of(sheet->block, (size_t)(sheet->out.at - sheet->block));
}

#endif
