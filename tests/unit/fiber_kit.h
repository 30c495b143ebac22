/* fiber_kit.h - what the tests of the fiber runtime share: a loop around a test, and checks inside of fibers.
 *
 * cmocka's asserts jump away, which a fiber's stack does not survive. So a fiber CHECKs, which counts and goes on,
 * and kit_run asserts after the loop. A test that hangs is ended by kit_watchdog. Include after cmocka.h. */
#ifndef FIBER_KIT_H
#define FIBER_KIT_H

#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fiber/loop_private.h"

#if defined(CONTEXT_ASAN) || defined(CONTEXT_TSAN)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif
/* So many in a release, so many where the sanitizers make each of them dear. */
#define SCALED(release, sanitized) (SANITIZED ? (sanitized) : (release))

static atomic_uint kit_failures;

#define CHECK(condition) kit_check((condition), #condition, __FILE__, __LINE__)
/* Says both numbers when they differ. */
#define CHECK_EQUAL(a, b) kit_check_equal((long long)(a), (long long)(b), #a, #b, __FILE__, __LINE__)

static inline bool kit_check(bool holds, const char *text, const char *file, int line)
{
    if (!holds && atomic_fetch_add(&kit_failures, 1) < 20)
        fprintf(stderr, "%s:%d: not so: %s\n", file, line, text);
    return holds;
}

static inline bool kit_check_equal(long long a, long long b, const char *a_text, const char *b_text,
                                   const char *file, int line)
{
    if (a != b && atomic_fetch_add(&kit_failures, 1) < 20)
        fprintf(stderr, "%s:%d: %s is %lld, %s is %lld\n", file, line, a_text, a, b_text, b);
    return a == b;
}

/* What the fibers of a test did, in order, a letter each. */
static char story[256];

static inline void tell(char c)
{
    size_t n = strlen(story);

    if (CHECK(n + 1 < sizeof story))
        story[n] = c, story[n + 1] = '\0';
}

static inline unsigned kit_entries(const char *directory)
{
    DIR *dir = opendir(directory);
    unsigned n = 0;

    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static inline void kit_watchdog(unsigned seconds)
{
    alarm(seconds);
}

static inline uint64_t in_ms(uint64_t ms)
{
    return loop_now_us() + ms * 1000;
}

/* Runs main(arg) as the first fiber of a new loop, and all that it starts; then nothing may be left over. */
static inline void kit_run(void (*main)(void *arg), void *arg)
{
    unsigned descriptors = kit_entries("/proc/self/fd");
    struct loop *loop;

    atomic_store(&kit_failures, 0);
    *story = '\0';
    assert_int_equal(loop_create(&loop), 0);
    assert_int_equal(fiber_start("test", main, arg), 0);
    loop_run(loop);
    assert_int_equal(loop_fibers(loop), 0);
    assert_int_equal(loop->timers.count, 0);
    loop_free(loop);
    assert_null(loop_self());
#ifdef CONTEXT_TSAN
    (void)descriptors; /* the sanitizer opens some when it looks up a symbol */
#else
    assert_int_equal(kit_entries("/proc/self/fd"), descriptors);
#endif
    assert_int_equal(atomic_load(&kit_failures), 0);
}

struct kit_test {
    void (*main)(void *arg); /* gets NULL */
};

static inline void kit_run_test(void **state)
{
    struct kit_test *test = *state;

    kit_run(test->main, NULL);
}

/* A row of cmocka's table for a test that is a fiber. */
#define FIBER_TEST(main) ((struct CMUnitTest){#main, kit_run_test, NULL, NULL, &(struct kit_test){main}})

#endif
