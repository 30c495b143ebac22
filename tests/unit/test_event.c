/* test_event.c - base/event.h: what is logged, what is kept, and for how long; threads that say things at once. Standard
 * error goes to a file in memory. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/event.h"

#define NONE ((struct slice){NULL, 0})
#define SAYERS 4u
#define EACH 250u /* so that all of them are kept */

static int log_fd, stderr_fd;
static struct event kept[EVENTS_KEPT + 1];

static int catch_the_log(void **state)
{
    (void)state;
    stderr_fd = dup(STDERR_FILENO);
    log_fd = memfd_create("log", MFD_CLOEXEC);
    return stderr_fd >= 0 && log_fd >= 0 && dup2(log_fd, STDERR_FILENO) == STDERR_FILENO ? 0 : -1;
}

static int let_the_log_go(void **state)
{
    (void)state;
    dup2(stderr_fd, STDERR_FILENO);
    close(stderr_fd);
    close(log_fd);
    return 0;
}

/* The last line that was logged, without its end. Good until the next call. */
static const char *last_line(void)
{
    static char text[2048];
    off_t end = lseek(log_fd, 0, SEEK_END), from = end > 2000 ? end - 2000 : 0;
    ssize_t n = pread(log_fd, text, 2000, from);
    char *newline;

    assert_true(n > 0 && text[n - 1] == '\n');
    text[n - 1] = '\0';
    newline = strrchr(text, '\n');
    return newline ? newline + 1 : text;
}

static struct event last_event(void)
{
    struct event event;

    assert_int_equal(event_copy_since(event_last_id() - 1, &event, 1), 1);
    return event;
}

static void an_event_is_kept_with_all_that_was_said(void **state)
{
    uint64_t before_us = clock_wall_us(), id = event_last_id();
    struct event event;

    (void)state;
    event_say(EVENT_SERVER_DOWN, SLICE("web"), SLICE("a:80"), "pool %s: server %s is down", "web", "a:80");
    event = last_event();
    assert_int_equal(event.id, id + 1);
    assert_int_equal(event.kind, EVENT_SERVER_DOWN);
    assert_in_range(event.wall_us, before_us, clock_wall_us());
    assert_string_equal(event.pool, "web");
    assert_string_equal(event.server, "a:80");
    assert_string_equal(event.text, "pool web: server a:80 is down");
    event_say(EVENT_START, NONE, NONE, "maitred starts");
    event = last_event();
    assert_int_equal(event.id, id + 2);
    assert_string_equal(event.pool, "");
    assert_string_equal(event.server, "");
}

static void every_kind_has_its_name_and_level(void **state)
{
    static const struct {
        enum event_kind kind;
        const char *name, *level;
    } rows[] = {
        {EVENT_SERVER_UP, "server-up", "info"},
        {EVENT_SERVER_DOWN, "server-down", "warning"},
        {EVENT_SERVER_EJECTED, "server-ejected", "warning"},
        {EVENT_SERVER_RETURNED, "server-returned", "info"},
        {EVENT_SERVER_DRAINED, "server-drained", "info"},
        {EVENT_SERVER_ENABLED, "server-enabled", "info"},
        {EVENT_SERVER_WEIGHT, "server-weight", "info"},
        {EVENT_SERVER_ADDED, "server-added", "info"},
        {EVENT_SERVER_REMOVED, "server-removed", "info"},
        {EVENT_NAME_FAILED, "name-failed", "warning"},
        {EVENT_RELOAD, "reload", "info"},
        {EVENT_RELOAD_FAILED, "reload-failed", "error"},
        {EVENT_UPGRADE, "upgrade", "info"},
        {EVENT_UPGRADE_FAILED, "upgrade-failed", "error"},
        {EVENT_DRAIN, "drain", "info"},
        {EVENT_START, "start", "info"},
        {EVENT_LIMIT, "limit", "warning"},
        {EVENT_LOG_FAILED, "log-failed", "error"},
        {EVENT_QUEUE_PAUSED, "queue-paused", "warning"},
        {EVENT_QUEUE_RESUMED, "queue-resumed", "info"},
        {EVENT_QUEUE_PURGED, "queue-purged", "warning"},
        {EVENT_QUEUE_MOVED, "queue-moved", "info"},
        {EVENT_WORKERS_SCALED, "workers-scaled", "info"},
        {EVENT_WORKERS_HELD, "workers-held", "warning"},
        {EVENT_WORKERS_PAUSED, "workers-paused", "warning"},
        {EVENT_WORKERS_SET, "workers-set", "warning"},
        {EVENT_WORKERS_RESUMED, "workers-resumed", "info"},
        {EVENT_WORKERS_RESTARTED, "workers-restarted", "info"},
        {EVENT_WORKER_FAILED, "worker-failed", "warning"},
        {EVENT_WORKER_KILLED, "worker-killed", "warning"},
        {EVENT_WORKER_STUCK, "worker-stuck", "error"},
        {EVENT_KEEPER_LOST, "keeper-lost", "error"},
        {EVENT_GAUGE_FULL, "gauge-full", "warning"},
        {EVENT_GAUGE_OK, "gauge-ok", "info"},
    };

    (void)state;
    assert_int_equal(sizeof rows / sizeof rows[0], EVENT_KINDS);
    for (size_t i = 0; i < EVENT_KINDS; i++) {
        char expected[64];

        assert_string_equal(event_kind_name(rows[i].kind), rows[i].name);
        event_say(rows[i].kind, NONE, NONE, "a 100%% test of %s", rows[i].name);
        snprintf(expected, sizeof expected, "Z %s a 100%% test of %s", rows[i].level, rows[i].name);
        assert_string_equal(strchr(last_line(), 'Z'), expected);
    }
}

static void long_texts_are_cut_at_the_end_of_a_character(void **state)
{
    char e_acute[1200];
    struct event event;

    (void)state;
    for (size_t i = 0; i < sizeof e_acute; i += 2)
        memcpy(e_acute + i, "\xc3\xa9", 2);
    event_say(EVENT_LIMIT, slice_of(e_acute, 64), slice_of(e_acute, 130), "x%.*s", 1198, e_acute);
    event = last_event();
    assert_int_equal(strlen(event.pool), 64);
    assert_int_equal(strlen(event.server), 128);
    assert_int_equal(strlen(event.text), 383);
    event_say(EVENT_LIMIT, slice_of(e_acute + 1, 66), slice_of(e_acute, 128), "%.*s", 1198, e_acute);
    event = last_event();
    assert_int_equal(strlen(event.pool), 63); /* its 64th byte begins a character */
    assert_int_equal(strlen(event.server), 128);
    assert_int_equal(strlen(event.text), 382);
    assert_true(strlen(last_line()) > 990); /* the log has room for more */
}

static void the_last_thousand_are_kept(void **state)
{
    uint64_t id;

    (void)state;
    for (unsigned i = 0; i < EVENTS_KEPT + 7; i++)
        event_say(EVENT_RELOAD, NONE, NONE, "number %u", i);
    id = event_last_id();
    assert_int_equal(event_copy_since(0, kept, EVENTS_KEPT + 1), EVENTS_KEPT);
    for (unsigned i = 0; i < EVENTS_KEPT; i++) {
        char expected[32];

        snprintf(expected, sizeof expected, "number %u", i + 7);
        assert_int_equal(kept[i].id, id - EVENTS_KEPT + 1 + i);
        assert_string_equal(kept[i].text, expected);
    }
}

static void a_reader_goes_on_from_the_last_it_had(void **state)
{
    uint64_t id = event_last_id();
    struct event events[3];

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        event_say(EVENT_RELOAD, NONE, NONE, "%u", i);
    assert_int_equal(event_copy_since(id, events, 3), 3);
    assert_int_equal(events[0].id, id + 1);
    assert_int_equal(event_copy_since(events[2].id, events, 3), 2);
    assert_string_equal(events[0].text, "3");
    assert_int_equal(events[1].id, id + 5);
    assert_int_equal(event_copy_since(id + 5, events, 3), 0);
    assert_int_equal(event_copy_since(id, events, 0), 0);
}

static void an_id_of_an_earlier_process_repeats_all(void **state)
{
    struct event event;

    (void)state;
    event_say(EVENT_START, NONE, NONE, "start");
    assert_int_equal(event_copy_since(0, kept, 1), 1);
    assert_int_equal(event_copy_since(event_last_id() + 1, &event, 1), 1);
    assert_int_equal(event.id, kept[0].id);
}

/* ---- threads ----------------------------------------------------------------------------------------------- */

/* As pool: which thread it is. */
static void *say_each(void *arg)
{
    const char *name = arg;

    for (unsigned i = 0; i < EACH; i++)
        event_say(EVENT_SERVER_UP, slice_of(name, 1), NONE, "%u", i);
    return NULL;
}

static void start_sayers(pthread_t threads[SAYERS])
{
    static char names[SAYERS + 1] = "0123";

    for (unsigned i = 0; i < SAYERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, say_each, &names[i]), 0);
}

static void join_sayers(pthread_t threads[SAYERS])
{
    for (unsigned i = 0; i < SAYERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void count_call(void *arg)
{
    atomic_fetch_add((atomic_uint *)arg, 1);
}

static void threads_that_speak_at_once_each_keep_their_order(void **state)
{
    uint64_t id = event_last_id(), last = id + SAYERS * EACH;
    unsigned next[SAYERS] = {0};
    atomic_uint called = 0;
    pthread_t threads[SAYERS];

    (void)state;
    event_listen(count_call, &called);
    start_sayers(threads);
    while (id < last) {
        size_t n = event_copy_since(id, kept, 50);

        for (size_t i = 0; i < n; i++) {
            unsigned thread = (unsigned)(kept[i].pool[0] - '0');
            unsigned number = (unsigned)strtoul(kept[i].text, NULL, 10);

            assert_int_equal(kept[i].id, ++id);
            assert_in_range(thread, 0, SAYERS - 1);
            assert_int_equal(number, next[thread]++);
        }
    }
    join_sayers(threads);
    event_listen(NULL, NULL);
    assert_int_equal(event_last_id(), last);
    assert_int_equal(atomic_load(&called), SAYERS * EACH);
    for (unsigned i = 0; i < SAYERS; i++)
        assert_int_equal(next[i], EACH);
}

static void read_and_say_more(void *arg)
{
    unsigned *left = arg;

    assert_int_equal(last_event().id, event_last_id());
    if (*left > 0) {
        --*left;
        event_say(EVENT_RELOAD, NONE, NONE, "said by the listener");
    }
}

static void a_listener_may_read_and_say_events(void **state)
{
    uint64_t id = event_last_id();
    unsigned left = 2;

    (void)state;
    event_listen(read_and_say_more, &left);
    event_say(EVENT_RELOAD, NONE, NONE, "the first");
    event_listen(NULL, NULL);
    event_say(EVENT_RELOAD, NONE, NONE, "nobody listens");
    assert_int_equal(left, 0);
    assert_int_equal(event_last_id(), id + 4);
}

static void a_listener_that_was_replaced_is_not_called_any_more(void **state)
{
    pthread_t threads[SAYERS];

    (void)state;
    start_sayers(threads);
    for (unsigned i = 0; i < 200; i++) {
        atomic_uint *called = calloc(1, sizeof *called), *next = calloc(1, sizeof *next);

        assert_true(called && next);
        event_listen(count_call, called);
        event_listen(count_call, next);
        free(called); /* the sanitizers see a call that comes later */
        event_listen(NULL, NULL);
        free(next);
    }
    join_sayers(threads);
}

/* ---- a listener that is under way -------------------------------------------------------------------------- */

struct slow_call {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool begun, go_on, ended;
};

static void call_slowly(void *arg)
{
    struct slow_call *call = arg;

    pthread_mutex_lock(&call->mutex);
    call->begun = true;
    pthread_cond_broadcast(&call->changed);
    while (!call->go_on)
        pthread_cond_wait(&call->changed, &call->mutex);
    call->ended = true;
    pthread_mutex_unlock(&call->mutex);
}

static void *say_one(void *arg)
{
    (void)arg;
    event_say(EVENT_DRAIN, NONE, NONE, "drains");
    return NULL;
}

static void *let_go_on(void *arg)
{
    struct slow_call *call = arg;

    pthread_mutex_lock(&call->mutex);
    call->go_on = true;
    pthread_cond_broadcast(&call->changed);
    pthread_mutex_unlock(&call->mutex);
    return NULL;
}

static void who_stops_listening_waits_for_a_call_under_way(void **state)
{
    struct slow_call call = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    pthread_t sayer, helper;

    (void)state;
    event_listen(call_slowly, &call);
    assert_int_equal(pthread_create(&sayer, NULL, say_one, NULL), 0);
    pthread_mutex_lock(&call.mutex);
    while (!call.begun)
        pthread_cond_wait(&call.changed, &call.mutex);
    pthread_mutex_unlock(&call.mutex);
    assert_int_equal(last_event().kind, EVENT_DRAIN); /* no mutex is held */
    assert_int_equal(pthread_create(&helper, NULL, let_go_on, &call), 0);
    event_listen(NULL, NULL);
    pthread_mutex_lock(&call.mutex);
    assert_true(call.ended);
    pthread_mutex_unlock(&call.mutex);
    assert_int_equal(pthread_join(helper, NULL), 0);
    assert_int_equal(pthread_join(sayer, NULL), 0);
}

#define EVENT_TEST(test) cmocka_unit_test_setup_teardown(test, catch_the_log, let_the_log_go)

int main(void)
{
    const struct CMUnitTest tests[] = {
        EVENT_TEST(an_event_is_kept_with_all_that_was_said),
        EVENT_TEST(every_kind_has_its_name_and_level),
        EVENT_TEST(long_texts_are_cut_at_the_end_of_a_character),
        EVENT_TEST(the_last_thousand_are_kept),
        EVENT_TEST(a_reader_goes_on_from_the_last_it_had),
        EVENT_TEST(an_id_of_an_earlier_process_repeats_all),
        EVENT_TEST(threads_that_speak_at_once_each_keep_their_order),
        EVENT_TEST(a_listener_may_read_and_say_events),
        EVENT_TEST(a_listener_that_was_replaced_is_not_called_any_more),
        EVENT_TEST(who_stops_listening_waits_for_a_call_under_way),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
