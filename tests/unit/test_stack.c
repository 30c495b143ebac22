/* test_stack.c - fiber/stack.h: stacks are apart, guarded, reused and given back; and fiber_catch_overflow. What must
 * die does so in a child. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/rng.h"
#include "fiber_kit.h"

#define PER_SLAB 64u

static void stack_fill(const struct stack *stack, char c)
{
    memset(stack->low, c, stack->bytes);
}

static bool stack_is(const struct stack *stack, char c)
{
    for (size_t i = 0; i < stack->bytes; i++)
        if (stack->low[i] != c)
            return false;
    return true;
}

static void every_byte_of_a_stack_is_its_own(void **state)
{
    struct stack_pool pool;
    struct stack stacks[3 * PER_SLAB];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    (void)state;
    stack_pool_init(&pool);
    for (unsigned i = 0; i < 3 * PER_SLAB; i++) {
        assert_int_equal(stack_take(&pool, &stacks[i]), 0);
        assert_int_equal((uintptr_t)stacks[i].low % page, 0);
        assert_true(stacks[i].bytes >= 28 * 1024);
        stack_fill(&stacks[i], (char)i);
        assert_int_equal(pool.n_slabs, i / PER_SLAB + 1);
    }
    for (unsigned i = 0; i < 3 * PER_SLAB; i++) {
        assert_true(stack_is(&stacks[i], (char)i));
        stack_give(&pool, &stacks[i]);
    }
    assert_int_equal(pool.n_slabs, 1);
    stack_pool_free(&pool);
    assert_int_equal(pool.n_slabs, 0);
}

static void the_warmest_stack_is_reused_first(void **state)
{
    struct stack_pool pool;
    struct stack a, b, again;

    (void)state;
    stack_pool_init(&pool);
    assert_int_equal(stack_take(&pool, &a), 0);
    assert_int_equal(stack_take(&pool, &b), 0);
    stack_give(&pool, &a);
    assert_int_equal(stack_take(&pool, &again), 0);
    assert_ptr_equal(again.low, a.low);
    stack_give(&pool, &again);
    stack_give(&pool, &b);
    stack_pool_free(&pool);
}

static void an_empty_slab_is_kept_so_that_a_fiber_that_comes_and_goes_maps_nothing(void **state)
{
    struct stack_pool pool;
    struct stack stack, full[PER_SLAB];

    (void)state;
    stack_pool_init(&pool);
    for (unsigned i = 0; i < PER_SLAB; i++)
        assert_int_equal(stack_take(&pool, &full[i]), 0);
    for (unsigned i = 0; i < 5; i++) { /* across a slab's border */
        assert_int_equal(stack_take(&pool, &stack), 0);
        assert_int_equal(pool.n_slabs, 2);
        stack_give(&pool, &stack);
        assert_int_equal(pool.n_slabs, 2);
    }
    for (unsigned i = 0; i < PER_SLAB; i++)
        stack_give(&pool, &full[i]);
    assert_int_equal(pool.n_slabs, 1);
    stack_pool_free(&pool);
}

#define MANY 2000u

struct taken {
    struct stack stack;
    unsigned serial; /* also written on the stack: a second taker would overwrite it */
};

static void random_taking_and_giving_shares_no_stack_and_keeps_one_spare_slab(void **state)
{
    struct stack_pool pool;
    struct taken *taken = calloc(MANY, sizeof *taken);
    struct rng rng = {6};
    unsigned n = 0;

    (void)state;
    assert_non_null(taken);
    stack_pool_init(&pool);
    for (unsigned step = 0; step < 30000; step++) {
        bool growing = step / 5000 % 2 == 0;

        if (n < MANY && (n == 0 || rng_below(&rng, 100) < (growing ? 70 : 30))) {
            taken[n].serial = step;
            assert_int_equal(stack_take(&pool, &taken[n].stack), 0);
            memcpy(taken[n].stack.low, &step, sizeof step);
            n++;
        } else {
            struct taken *one = &taken[rng_below(&rng, n)];

            assert_memory_equal(one->stack.low, &one->serial, sizeof one->serial);
            stack_give(&pool, &one->stack);
            *one = taken[--n];
        }
        assert_true(pool.n_slabs >= (n + PER_SLAB - 1) / PER_SLAB);
    }
    while (n)
        stack_give(&pool, &taken[--n].stack);
    assert_int_equal(pool.n_slabs, 1);
    stack_pool_free(&pool);
    free(taken);
}

/* --- what must die ------------------------------------------------------------------------------------------- */

struct death {
    int signal;     /* 0: it exited */
    int exit_code;  /* of an exit */
    char said[512]; /* on standard error */
};

/* Runs child in a process of its own. Returning from it is an exit with 0. */
static struct death die(void (*child)(void))
{
    struct death death = {0};
    struct rlimit no_core = {0, 0};
    size_t n = 0;
    int out[2], status;
    pid_t pid;

    assert_int_equal(pipe(out), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(20);
        setrlimit(RLIMIT_CORE, &no_core);
        dup2(out[1], STDERR_FILENO);
        child();
        _exit(0);
    }
    close(out[1]);
    for (ssize_t got;
         n + 1 < sizeof death.said && (got = read(out[0], death.said + n, sizeof death.said - 1 - n)) > 0;)
        n += (size_t)got;
    close(out[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    death.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    death.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return death;
}

/* The system's own way with a fault, not a sanitizer's. */
static void default_faults(void)
{
    signal(SIGSEGV, SIG_DFL);
    signal(SIGBUS, SIG_DFL);
}

__attribute__((no_sanitize("address", "thread"), noinline)) static void touch(volatile char *at)
{
    *at = 1;
}

static void touch_guard(void)
{
    struct stack_pool pool;
    struct stack stack;

    default_faults();
    stack_pool_init(&pool);
    if (stack_take(&pool, &stack) != 0)
        return;
    touch(stack.low);
    touch(stack.low + stack.bytes - 1);
    touch(stack.low - 1);
}

static void a_touch_below_a_stack_is_fatal(void **state)
{
    (void)state;
    assert_int_equal(die(touch_guard).signal, SIGSEGV);
}

static void touch_reused_guard(void)
{
    struct stack_pool pool;
    struct stack stacks[2 * PER_SLAB];

    default_faults();
    stack_pool_init(&pool);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 2 * PER_SLAB; i++)
            if (stack_take(&pool, &stacks[i]) != 0)
                return;
        for (unsigned i = 0; i < 2 * PER_SLAB; i++)
            stack_give(&pool, &stacks[i]);
    }
    if (stack_take(&pool, &stacks[0]) == 0)
        touch(stacks[0].low - 1);
}

static void a_reused_stack_has_its_guard_still(void **state)
{
    (void)state;
    assert_int_equal(die(touch_reused_guard).signal, SIGSEGV);
}

/* As a kernel before 6.13: madvise knows no MADV_GUARD_INSTALL. */
static int forbid_guard_install(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 102, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof filter / sizeof filter[0], .filter = filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return -errno;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 ? 0 : -errno;
}

#define CANNOT_FORBID 77

static unsigned count_mappings(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    unsigned lines = 0;

    if (!file)
        return 0;
    for (int c; (c = getc(file)) != EOF;)
        lines += c == '\n';
    fclose(file);
    return lines;
}

#define OLD_KERNEL_STACKS 40000u

/* Exit codes tell what went wrong. */
static void use_stacks_of_an_old_kernel(void)
{
    struct stack_pool pool;
    struct stack *stacks = calloc(OLD_KERNEL_STACKS, sizeof *stacks);
    unsigned before = count_mappings(), after;

    if (forbid_guard_install() != 0)
        _exit(CANNOT_FORBID);
    stack_pool_init(&pool);
    for (unsigned i = 0; i < OLD_KERNEL_STACKS; i++) {
        if (!stacks || stack_take(&pool, &stacks[i]) != 0)
            _exit(1);
        touch(stacks[i].low);
    }
    after = count_mappings();
    if (after - before < 16000) /* guards there are */
        _exit(2);
    if (after - before > 40000) /* of the 65530 that a process may have */
        _exit(3);
    for (unsigned i = 0; i < OLD_KERNEL_STACKS; i++)
        stack_give(&pool, &stacks[i]);
    stack_pool_free(&pool);
    if (count_mappings() > before + 100)
        _exit(4);
    free(stacks);
    touch_guard(); /* the guards that went have made room for this one */
}

static void on_an_old_kernel_guards_are_mprotect_within_the_limit_of_mappings(void **state)
{
    struct death death;

    (void)state;
    if (SANITIZED)
        skip(); /* their own mappings are too many, and stacks too large */
    death = die(use_stacks_of_an_old_kernel);
    if (death.exit_code == CANNOT_FORBID)
        skip();
    assert_int_equal(death.exit_code, -1);
    assert_int_equal(death.signal, SIGSEGV);
}

/* --- overflow ------------------------------------------------------------------------------------------------ */

static unsigned (*volatile deeper)(unsigned);

__attribute__((noinline)) static unsigned recurse(unsigned n)
{
    volatile unsigned here = n;

    return deeper(n + 1) + here;
}

static void overflow(void *arg)
{
    (void)arg;
    deeper = recurse;
    recurse(0);
}

static void touch_nowhere(void *arg)
{
    (void)arg;
    touch((volatile char *)(uintptr_t)16);
}

static void run_and_catch(const char *name, void (*main)(void *))
{
    struct loop *loop;

    if (loop_create(&loop) != 0 || fiber_catch_overflow() != 0)
        return;
    fiber_start(name, main, NULL);
    loop_run(loop);
}

static void overflow_a_fiber(void)
{
    default_faults();
    run_and_catch("glutton", overflow);
}

static void fault_in_a_fiber(void)
{
    default_faults();
    run_and_catch("wanderer", touch_nowhere);
}

static void an_overflow_kills_and_names_the_fiber(void **state)
{
    struct death death = die(overflow_a_fiber);

    (void)state;
    assert_int_equal(death.signal, SIGSEGV);
    if (!SANITIZED)
        assert_string_equal(death.said, "maitred: stack overflow in fiber glutton\n");
}

static void another_fault_in_a_fiber_kills_and_is_not_called_an_overflow(void **state)
{
    struct death death = die(fault_in_a_fiber);

    (void)state;
    assert_int_equal(death.signal, SIGSEGV);
    assert_null(strstr(death.said, "overflow"));
}

static void exit_with_seven(int signal)
{
    (void)signal;
    _exit(7);
}

static void fault_with_a_handler_of_old(void)
{
    struct loop *loop;

    signal(SIGSEGV, exit_with_seven);
    if (loop_create(&loop) != 0 || fiber_catch_overflow() != 0 || fiber_catch_overflow() != 0)
        return;
    fiber_start("wanderer", touch_nowhere, NULL);
    loop_run(loop);
}

static void a_fault_goes_on_to_the_handler_there_was_before(void **state)
{
    (void)state;
    assert_int_equal(die(fault_with_a_handler_of_old).exit_code, 7);
}

static void *overflow_on_a_thread(void *arg)
{
    (void)arg;
    run_and_catch("glutton", overflow);
    return NULL;
}

static void overflow_on_the_second_thread(void)
{
    struct loop *loop;
    pthread_t thread;

    default_faults();
    if (loop_create(&loop) != 0 || fiber_catch_overflow() != 0)
        return;
    if (pthread_create(&thread, NULL, overflow_on_a_thread, NULL) == 0)
        pthread_join(thread, NULL);
}

static void every_thread_that_asked_catches_its_own_overflow(void **state)
{
    struct death death = die(overflow_on_the_second_thread);

    (void)state;
    assert_int_equal(death.signal, SIGSEGV);
    if (!SANITIZED)
        assert_string_equal(death.said, "maitred: stack overflow in fiber glutton\n");
}

static void catch_and_end(void *arg)
{
    (void)arg;
    CHECK_EQUAL(fiber_catch_overflow(), 0);
    CHECK_EQUAL(fiber_catch_overflow(), 0); /* again is nothing */
}

static void a_loop_that_ends_takes_its_signal_stack_along(void **state)
{
    stack_t before, after;

    (void)state;
    assert_int_equal(sigaltstack(NULL, &before), 0);
    kit_run(catch_and_end, NULL);
    assert_int_equal(sigaltstack(NULL, &after), 0);
    assert_int_equal(after.ss_flags, before.ss_flags); /* another's, or none: as it was */
    assert_ptr_equal(after.ss_sp, before.ss_sp);
}

/* --- room for what the runtime's users call ------------------------------------------------------------------ */

static void log_from_a_fiber(void *arg)
{
    char text[600];

    (void)arg;
    memset(text, 'x', sizeof text);
    log_warning("a long one: %.*s %f %llu", (int)sizeof text, text, 1e300, 18446744073709551615ull);
}

static void log_and_exit(void)
{
    struct loop *loop;

    default_faults();
    setenv("TZ", ":Europe/Vienna", 1);
    if (loop_create(&loop) != 0 || fiber_start("logs", log_from_a_fiber, NULL) != 0)
        _exit(1);
    loop_run(loop);
    loop_free(loop);
}

static void a_log_line_fits_on_a_fibers_stack(void **state)
{
    struct death death = die(log_and_exit);

    (void)state;
    assert_int_equal(death.signal, 0);
    assert_int_equal(death.exit_code, 0);
    assert_non_null(strstr(death.said, "Z warning a long one: xxxx"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_of_a_stack_is_its_own),
        cmocka_unit_test(the_warmest_stack_is_reused_first),
        cmocka_unit_test(an_empty_slab_is_kept_so_that_a_fiber_that_comes_and_goes_maps_nothing),
        cmocka_unit_test(random_taking_and_giving_shares_no_stack_and_keeps_one_spare_slab),
        cmocka_unit_test(a_touch_below_a_stack_is_fatal),
        cmocka_unit_test(a_reused_stack_has_its_guard_still),
        cmocka_unit_test(on_an_old_kernel_guards_are_mprotect_within_the_limit_of_mappings),
        cmocka_unit_test(an_overflow_kills_and_names_the_fiber),
        cmocka_unit_test(another_fault_in_a_fiber_kills_and_is_not_called_an_overflow),
        cmocka_unit_test(a_fault_goes_on_to_the_handler_there_was_before),
        cmocka_unit_test(every_thread_that_asked_catches_its_own_overflow),
        cmocka_unit_test(a_loop_that_ends_takes_its_signal_stack_along),
        cmocka_unit_test(a_log_line_fits_on_a_fibers_stack),
    };

    kit_watchdog(55);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
