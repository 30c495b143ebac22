/* test_resolve.c - fiber/resolve.h. Names of this file's own are answered by a getaddrinfo of its own, so that a test
 * says when a look-up ends and how; all other names go to the system's. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fiber/resolve.h"
#include "fiber_kit.h"
#include "helper_kit.h"

typedef int get_address(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static get_address *system_getaddrinfo;

#ifdef CONTEXT_TSAN
/* The C library has a lock around its list of interfaces, but one that the sanitizer cannot see. */
const char *__tsan_default_suppressions(void);

const char *__tsan_default_suppressions(void)
{
    return "race:__check_pf\n";
}
#endif

/* What "held" waits for. */
static sem_t release;
static atomic_uint holding;

/* What "fails" answers. */
static atomic_int failure;

static struct addrinfo *numeric(const char *text)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *one = NULL;

    return system_getaddrinfo(text, NULL, &hints, &one) == 0 ? one : NULL;
}

/* A list of the system's own pieces, so that its freeaddrinfo can free it. */
static int answer(const char *const *texts, struct addrinfo **list)
{
    struct addrinfo **end = list;

    for (; *texts && (*end = numeric(*texts)); texts++)
        end = &(*end)->ai_next;
    return *list ? 0 : EAI_MEMORY;
}

static int answer_many(struct addrinfo **list)
{
    static char texts[100][16];
    const char *pointers[101] = {NULL};

    for (unsigned i = 0; i < 100; i++) {
        snprintf(texts[i], sizeof texts[i], "127.1.0.%u", 200 - i);
        pointers[i] = texts[i];
    }
    return answer(pointers, list);
}

static int answer_local_socket(struct addrinfo **list)
{
    static const char *const texts[] = {"127.0.0.1", NULL};
    int error = answer(texts, list);

    if (!error) /* a family that nobody asked for */
        (*list)->ai_family = (*list)->ai_addr->sa_family = AF_UNIX;
    return error;
}

/* The program's own comes before the C library's. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **list)
{
    static const char *const some[] = {"::2",       "127.0.0.3", "::1",       "127.0.0.1",
                                       "127.0.0.3", "::2",       "127.0.0.1", NULL};
    static const char *const one[] = {"127.0.0.7", NULL};

    *list = NULL;
    if (strcmp(name, "some") == 0)
        return answer(some, list);
    if (strcmp(name, "many") == 0)
        return answer_many(list);
    if (strcmp(name, "local-socket") == 0)
        return answer_local_socket(list);
    if (strcmp(name, "fails") == 0)
        return atomic_load(&failure);
    if (strcmp(name, "held") == 0) {
        atomic_fetch_add(&holding, 1);
        while (sem_wait(&release) != 0)
            ;
        return answer(one, list);
    }
    return system_getaddrinfo(name, service, hints, list);
}

struct look_up {
    const char *name;
    uint64_t deadline_us;
    struct resolved resolved;
    int result;
    unsigned ended;
};

static void look_up(void *arg)
{
    struct look_up *l = arg;

    l->result = resolve_name(l->name, 80, &l->resolved, l->deadline_us);
    l->ended++;
}

static struct look_up *look_up_new(const char *name, uint64_t deadline_us)
{
    struct look_up *l = calloc(1, sizeof *l); /* too large for a stack */

    if (CHECK(l != NULL))
        *l = (struct look_up){.name = name, .deadline_us = deadline_us, .result = 1};
    return l;
}

/* Looks name up and waits for the answer. The caller frees it. */
static struct look_up *resolve(const char *name)
{
    struct look_up *l = look_up_new(name, NEVER);
    struct fiber *fiber = fiber_spawn("look-up", look_up, l);

    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
    CHECK_EQUAL(l->ended, 1);
    return l;
}

static void check_text(const struct endpoint *endpoint, const char *expected)
{
    char text[INET6_ADDRSTRLEN] = "";

    if (endpoint->sa.sa_family == AF_INET) {
        CHECK_EQUAL(endpoint->len, sizeof endpoint->in);
        CHECK_EQUAL(ntohs(endpoint->in.sin_port), 80);
        inet_ntop(AF_INET, &endpoint->in.sin_addr, text, sizeof text);
    } else if (CHECK_EQUAL(endpoint->sa.sa_family, AF_INET6)) {
        CHECK_EQUAL(endpoint->len, sizeof endpoint->in6);
        CHECK_EQUAL(ntohs(endpoint->in6.sin6_port), 80);
        inet_ntop(AF_INET6, &endpoint->in6.sin6_addr, text, sizeof text);
    }
    if (!CHECK(strcmp(text, expected) == 0))
        fprintf(stderr, "%s is not %s\n", text, expected);
}

static void localhost_is_loopback(void *arg)
{
    struct look_up *l = resolve("localhost");

    (void)arg;
    CHECK_EQUAL(l->result, 0);
    CHECK(l->resolved.count > 0);
    for (unsigned i = 0; i < l->resolved.count; i++)
        check_text(&l->resolved.endpoints[i],
                   l->resolved.endpoints[i].sa.sa_family == AF_INET ? "127.0.0.1" : "::1");
    free(l);
}

static void tick(void *arg)
{
    unsigned *ticks = arg;

    while (fiber_yield() == 0)
        ++*ticks;
}

static void an_unknown_name_is_an_error_and_holds_nobody(void *arg)
{
    unsigned ticks = 0;
    struct fiber *ticker = fiber_spawn("tick", tick, &ticks);
    struct look_up *l = resolve("no-such-name.invalid");

    (void)arg;
    CHECK(l->result == -ENOENT || l->result == -EAGAIN); /* with a name server, or without */
    CHECK(ticks > 0);
    fiber_cancel_and_join(ticker);
    free(l);
}

static void addresses_are_sorted_and_each_comes_once(void *arg)
{
    static const char *const expected[] = {"127.0.0.1", "127.0.0.3", "::1", "::2"};
    struct look_up *l = resolve("some");

    (void)arg;
    CHECK_EQUAL(l->result, 0);
    if (CHECK_EQUAL(l->resolved.count, 4))
        for (unsigned i = 0; i < 4; i++)
            check_text(&l->resolved.endpoints[i], expected[i]);
    free(l);
}

static void more_addresses_than_there_is_room_for_are_cut_off(void *arg)
{
    struct look_up *l = resolve("many");

    (void)arg;
    CHECK_EQUAL(l->result, 0);
    CHECK_EQUAL(l->resolved.count, RESOLVE_MAX);
    check_text(&l->resolved.endpoints[0], "127.1.0.137"); /* the first 64 that came, sorted */
    check_text(&l->resolved.endpoints[RESOLVE_MAX - 1], "127.1.0.200");
    free(l);
}

static void a_name_without_an_internet_address_does_not_exist(void *arg)
{
    struct look_up *l = resolve("local-socket");

    (void)arg;
    CHECK_EQUAL(l->result, -ENOENT);
    free(l);
}

/* A server whose name is gone may be forgotten; one that nobody could tell us of must not be. */
static void only_an_answer_that_there_is_no_such_name_says_so(void *arg)
{
    static const struct {
        int code, error;
    } rows[] = {
        {EAI_NONAME, -ENOENT}, {EAI_NODATA, -ENOENT}, {EAI_ADDRFAMILY, -ENOENT}, {EAI_AGAIN, -EAGAIN},
        {EAI_FAIL, -EAGAIN},   {EAI_SYSTEM, -EAGAIN}, {EAI_MEMORY, -ENOMEM},
    };

    (void)arg;
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct look_up *l;

        atomic_store(&failure, rows[i].code);
        l = resolve("fails");
        if (!CHECK_EQUAL(l->result, rows[i].error))
            fprintf(stderr, "%s\n", gai_strerror(rows[i].code));
        free(l);
    }
}

/* Starts looking "held" up; when this returns a thread holds the answer back until release is posted. */
static struct fiber *start_held(struct look_up *l)
{
    unsigned before = atomic_load(&holding);
    struct fiber *fiber = fiber_spawn("look-up", look_up, l);

    while (atomic_load(&holding) == before)
        fiber_yield();
    return fiber;
}

static void a_look_up_holds_nobody_and_answers_later(void *arg)
{
    struct look_up *l = look_up_new("held", NEVER);
    struct fiber *fiber = start_held(l);

    (void)arg;
    for (unsigned i = 0; i < 1000; i++)
        CHECK_EQUAL(fiber_yield(), 0);
    fiber_wake(fiber); /* by mistake */
    CHECK_EQUAL(fiber_join(fiber, in_ms(2)), -ETIMEDOUT);
    CHECK_EQUAL(l->ended, 0);
    sem_post(&release);
    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
    CHECK_EQUAL(l->result, 0);
    if (CHECK_EQUAL(l->resolved.count, 1))
        check_text(&l->resolved.endpoints[0], "127.0.0.7");
    free(l);
}

static void look_ups_do_not_wait_for_one_another(void *arg)
{
    struct look_up *held = look_up_new("held", NEVER), *l;
    struct fiber *fiber = start_held(held);

    (void)arg;
    l = resolve("some");
    CHECK_EQUAL(l->result, 0);
    CHECK_EQUAL(held->ended, 0);
    sem_post(&release);
    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
    free(held);
    free(l);
}

static void a_deadline_or_a_cancel_ends_the_wait_and_the_answer_is_dropped(void *arg)
{
    struct look_up *late = look_up_new("held", in_ms(20)), *cancelled = look_up_new("held", NEVER);
    struct fiber *fiber = start_held(late);

    (void)arg;
    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
    CHECK_EQUAL(late->result, -ETIMEDOUT);
    fiber = start_held(cancelled);
    fiber_cancel_and_join(fiber);
    CHECK_EQUAL(cancelled->result, -ECANCELED);
    free(late);
    free(cancelled); /* the answers that come now have nothing of ours to write to */
    sem_post(&release);
    sem_post(&release);
    await_helpers_end();
    fiber_yield(); /* they are delivered, and freed */
}

static void an_answer_in_the_turn_of_a_cancel_is_not_lost(void *arg)
{
    struct look_up *l = look_up_new("held", NEVER);
    struct fiber *fiber = start_held(l);

    (void)arg;
    sem_post(&release);
    await_helpers_end(); /* so the answer is in the mailbox, and is delivered at the end of this turn */
    fiber_cancel(fiber);
    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
    CHECK_EQUAL(l->result, 0);
    CHECK_EQUAL(l->resolved.count, 1);
    free(l);
}

static void cancel_held(void *arg)
{
    struct look_up *l = arg;

    fiber_cancel_and_join(start_held(l));
    CHECK_EQUAL(l->result, -ECANCELED);
}

static void a_loop_may_go_while_a_look_up_is_under_way(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct look_up l = {.name = "held", .deadline_us = NEVER, .result = 1};
        struct loop *loop;

        atomic_store(&kit_failures, 0);
        assert_int_equal(loop_create(&loop), 0);
        assert_int_equal(fiber_start("test", cancel_held, &l), 0);
        loop_run(loop);
        if (i == 1) { /* the answer comes after the last turn, but before the loop goes */
            sem_post(&release);
            await_helpers_end();
        }
        loop_free(loop);
        if (i != 1)
            sem_post(&release);
        await_helpers_end();
        assert_int_equal(atomic_load(&kit_failures), 0);
    }
}

#define CROWD 50

static void many_look_ups_at_once_all_answer(void *arg)
{
    struct look_up *l[CROWD];
    struct fiber *fibers[CROWD];

    (void)arg;
    for (int i = 0; i < CROWD; i++) {
        l[i] = look_up_new(i % 2 ? "some" : "localhost", NEVER);
        fibers[i] = fiber_spawn("look-up", look_up, l[i]);
    }
    for (int i = 0; i < CROWD; i++) {
        CHECK_EQUAL(fiber_join(fibers[i], NEVER), 0);
        CHECK_EQUAL(l[i]->result, 0);
        CHECK(l[i]->resolved.count > 0);
        free(l[i]);
    }
}

static void run_to_the_end(void *arg)
{
    struct kit_test *test = arg;

    test->main(NULL);
    await_helpers_end(); /* a helper holds the loop's mailbox until it ends, and kit_run counts descriptors */
}

static void test_to_the_end(void **state)
{
    kit_run(run_to_the_end, *state);
}

#define LOOK_UP_TEST(main) ((struct CMUnitTest){#main, test_to_the_end, NULL, NULL, &(struct kit_test){main}})

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOOK_UP_TEST(localhost_is_loopback),
        LOOK_UP_TEST(an_unknown_name_is_an_error_and_holds_nobody),
        LOOK_UP_TEST(addresses_are_sorted_and_each_comes_once),
        LOOK_UP_TEST(more_addresses_than_there_is_room_for_are_cut_off),
        LOOK_UP_TEST(a_name_without_an_internet_address_does_not_exist),
        LOOK_UP_TEST(only_an_answer_that_there_is_no_such_name_says_so),
        LOOK_UP_TEST(a_look_up_holds_nobody_and_answers_later),
        LOOK_UP_TEST(look_ups_do_not_wait_for_one_another),
        LOOK_UP_TEST(a_deadline_or_a_cancel_ends_the_wait_and_the_answer_is_dropped),
        LOOK_UP_TEST(an_answer_in_the_turn_of_a_cancel_is_not_lost),
        cmocka_unit_test(a_loop_may_go_while_a_look_up_is_under_way),
        LOOK_UP_TEST(many_look_ups_at_once_all_answer),
    };
    void *symbol;

    kit_watchdog(55);
    setenv("RES_OPTIONS", "timeout:1 attempts:1", 1); /* where no name server answers */
    symbol = dlsym(RTLD_NEXT, "getaddrinfo");
    memcpy(&system_getaddrinfo, &symbol, sizeof symbol);
    sem_init(&release, 0, 0);
    count_own_threads();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
