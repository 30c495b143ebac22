/* test_arena.c - base/arena.h and base/slab.h: alignment, big objects, reuse, and what is kept. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/rng.h"
#include "fiber/context.h"

#if defined(CONTEXT_ASAN) || defined(CONTEXT_TSAN)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static void every_object_is_aligned_and_its_own(void **state)
{
    static const size_t sizes[] = {1, 2, 15, 16, 17, 100, 1000, 16000, 16368, 16369, 16384, 100000, 3};
    struct arena arena = {0};
    struct slice objects[2000];
    struct rng rng = {7};

    (void)state;
    for (unsigned i = 0; i < 2000; i++) {
        size_t n = i % 4 == 0 ? sizes[i / 4 % 13] : 1 + rng_below(&rng, 300);
        char *p = arena_alloc(&arena, n);

        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        memset(p, (int)(i & 0xff), n);
        objects[i] = slice_of(p, n);
    }
    for (unsigned i = 0; i < 2000; i++)
        for (size_t at = 0; at < objects[i].len; at++)
            if (objects[i].ptr[at] != (char)(i & 0xff))
                fail_msg("object %u was written over at %zu", i, at);
    arena_free(&arena);
}

static void small_objects_lie_side_by_side(void **state)
{
    struct arena arena = {0};
    char *a, *b, *c;

    (void)state;
    if (SANITIZED)
        skip(); /* there the address sanitizer may see each apart */
    a = arena_alloc(&arena, 1);
    b = arena_alloc(&arena, 16);
    c = arena_alloc(&arena, 17);
    assert_ptr_equal(b, a + 16);
    assert_ptr_equal(c, b + 16);
    assert_ptr_equal(arena_alloc(&arena, 1), c + 32);
    arena_free(&arena);
}

static void a_big_object_does_not_close_the_open_block(void **state)
{
    struct arena arena = {0};
    char *small = arena_alloc(&arena, 16), *big = arena_alloc(&arena, 10 * SLAB_BYTES), *next;

    (void)state;
    assert_non_null(big);
    memset(big, 1, 10 * SLAB_BYTES);
    next = arena_alloc(&arena, 16);
    if (!SANITIZED)
        assert_ptr_equal(next, small + 16);
    arena_free(&arena);
}

static void a_big_object_may_come_first(void **state)
{
    struct arena arena = {0};
    char *big = arena_alloc(&arena, 2 * SLAB_BYTES), *small = arena_alloc(&arena, 16);

    (void)state;
    assert_non_null(big);
    assert_non_null(small);
    memset(big, 1, 2 * SLAB_BYTES);
    memset(small, 2, 16);
    assert_int_equal(big[2 * SLAB_BYTES - 1], 1);
    arena_free(&arena);
}

static void nothing_asked_is_not_out_of_memory(void **state)
{
    struct arena arena = {0};

    (void)state;
    assert_non_null(arena_alloc(&arena, 0)); /* NULL would mean that there is no memory */
    arena_free(&arena);
}

static void a_size_that_cannot_be_is_refused(void **state)
{
    struct arena arena = {0};
    volatile size_t too_much = SIZE_MAX; /* volatile: compilers warn of what they can see */

    (void)state;
    assert_null(arena_alloc(&arena, too_much));
    assert_null(arena_alloc(&arena, too_much - 15));
    too_much = SIZE_MAX / 2 + 1;
    assert_null(arena_alloc(&arena, too_much));
    assert_null(arena_copy(&arena, slice_of("", too_much)).ptr);
    assert_non_null(arena_alloc(&arena, 1)); /* and it goes on */
    arena_free(&arena);
}

static void an_arena_is_ready_again_after_it_was_freed(void **state)
{
    struct arena arena = {0};

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned k = 0; k < 100; k++)
            assert_non_null(arena_alloc(&arena, 1000));
        arena_free(&arena);
        assert_null(arena.blocks);
    }
    arena_free(&arena); /* of nothing is nothing */
}

static void a_copy_has_the_bytes_and_outlives_its_source(void **state)
{
    struct arena arena = {0};
    char source[] = "to be copied\0with a nul";
    struct slice copy = arena_copy(&arena, slice_of(source, sizeof source)),
                 empty = arena_copy(&arena, SLICE(""));

    (void)state;
    memset(source, 'x', sizeof source);
    assert_true(slice_equal(copy, slice_of("to be copied\0with a nul", sizeof source)));
    assert_int_equal(empty.len, 0);
    assert_non_null(empty.ptr);
    assert_int_equal(arena_copy(&arena, slice_of(NULL, 0)).len, 0);
    arena_free(&arena);
}

static void a_block_that_was_given_back_is_the_next_one_taken(void **state)
{
    void *a = slab_take(), *b = slab_take();

    (void)state;
    assert_non_null(a);
    assert_non_null(b);
    memset(a, 1, SLAB_BYTES);
    memset(b, 2, SLAB_BYTES);
    if (SANITIZED)
        goto give; /* straight to malloc, so that use after it is seen */
    slab_give(a);
    assert_ptr_equal(slab_take(), a);
    slab_give(b);
    slab_give(a);
    assert_ptr_equal(slab_take(), a);
    assert_ptr_equal(slab_take(), b);
give:
    slab_give(a);
    slab_give(b);
    slab_trim();
}

static void an_arenas_blocks_serve_the_next_arena(void **state)
{
    struct arena arena = {0};
    char *first;

    (void)state;
    if (SANITIZED)
        skip();
    first = arena_alloc(&arena, 1);
    arena_free(&arena);
    assert_ptr_equal(arena_alloc(&arena, 1), first);
    arena_free(&arena);
    slab_trim();
}

static void a_big_object_goes_back_to_the_system_at_once(void **state)
{
    struct arena arena = {0};
    size_t before = mallinfo2().hblkhd; /* what malloc has mapped */

    (void)state;
    if (SANITIZED)
        skip();
    assert_non_null(arena_alloc(&arena, 64u << 20));
    assert_true(mallinfo2().hblkhd - before >= 64u << 20);
    arena_free(&arena);
    assert_int_equal(mallinfo2().hblkhd, before);
}

#define BURST 4000u

static void what_a_burst_took_goes_back_to_the_system_but_16_mib(void **state)
{
    void **blocks;
    size_t before, after;

    (void)state;
    if (SANITIZED)
        skip();
    blocks = calloc(BURST, sizeof *blocks);
    assert_non_null(blocks);
    slab_trim();
    before = mallinfo2().uordblks;
    for (unsigned i = 0; i < BURST; i++)
        assert_non_null(blocks[i] = slab_take());
    assert_true(mallinfo2().uordblks - before >= (BURST - 1024) * SLAB_BYTES);
    for (unsigned i = 0; i < BURST; i++)
        slab_give(blocks[i]);
    after = mallinfo2().uordblks - before;
    assert_int_equal(after, 0); /* the 16 MiB are no malloc's */
    slab_trim();
    assert_int_equal(mallinfo2().uordblks, before);
    free(blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_object_is_aligned_and_its_own),
        cmocka_unit_test(small_objects_lie_side_by_side),
        cmocka_unit_test(a_big_object_does_not_close_the_open_block),
        cmocka_unit_test(a_big_object_may_come_first),
        cmocka_unit_test(nothing_asked_is_not_out_of_memory),
        cmocka_unit_test(a_size_that_cannot_be_is_refused),
        cmocka_unit_test(an_arena_is_ready_again_after_it_was_freed),
        cmocka_unit_test(a_copy_has_the_bytes_and_outlives_its_source),
        cmocka_unit_test(a_block_that_was_given_back_is_the_next_one_taken),
        cmocka_unit_test(an_arenas_blocks_serve_the_next_arena),
        cmocka_unit_test(a_big_object_goes_back_to_the_system_at_once),
        cmocka_unit_test(what_a_burst_took_goes_back_to_the_system_but_16_mib),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
