/* test_control.c - balance/control.h: pools come and go while others look at them, and their threads end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "balance/control.h"
#include "fiber_kit.h"

#define WEB SLICE("web")
#define SERVER SLICE("127.0.0.1:1")

/* Parsed before any test: that needs more stack than a fiber has. */
static const struct config *with, *without;

static const struct config *must_parse(const char *text)
{
    const struct config *parsed = config_parse("test", slice_from_text(text), stderr);

    if (!parsed)
        abort();
    return parsed;
}

static struct control *create(void)
{
    static struct mailbox *mailboxes[1];

    mailboxes[0] = loop_mailbox(loop_self());
    return control_create(mailboxes, 1);
}

static struct control_change *commit(struct control *control, const struct config *config)
{
    struct control_change *change = control_prepare(control, config, in_ms(1000));

    if (CHECK(change))
        control_commit(change);
    return change;
}

/* The part of its only thread, which is this one. */
static void close_thread(struct control *control)
{
    pool_thread_close(&control_pool_find(control, WEB)->pool->threads[0]);
}

/* Looks whenever it may, as the admin interface does. */
struct looking {
    struct control *control;
    bool done;
    unsigned looks, found;
};

static void look_main(void *arg)
{
    struct looking *looking = arg;

    while (!looking->done) {
        looking->looks++;
        looking->found += control_pool_find(looking->control, WEB) != NULL;
        fiber_yield();
    }
}

static void a_pool_that_has_gone_is_not_found_while_its_checks_end(void *arg)
{
    struct looking looking = {.control = create()};
    struct control_change *change;
    struct fiber *fiber;

    (void)arg;
    control_settle(commit(looking.control, with));
    CHECK(control_pool_find(looking.control, WEB));
    fiber_yield(); /* its checks begin */
    change = commit(looking.control, without);
    close_thread(looking.control);
    fiber = fiber_spawn("look", look_main, &looking);
    control_settle(change);
    looking.done = true;
    fiber_join(fiber, NEVER);
    CHECK(looking.looks);
    CHECK_EQUAL(looking.found, 0);
    control_free(looking.control);
}

static void what_is_done_by_hand_is_not_sent_to_a_thread_that_let_go(void *arg)
{
    struct control *control = create();
    struct control_server *server;

    (void)arg;
    control_settle(commit(control, with));
    server = control_server_find(control_pool_find(control, WEB), SERVER);
    CHECK(server);
    CHECK_EQUAL(control_change_server(server, CONTROL_DRAIN, 0), 0);
    close_thread(control);
    CHECK_EQUAL(control_change_server(server, CONTROL_ENABLE, 0), 0);
    fiber_sleep_until(in_ms(1)); /* what was sent comes */
    control_free(control);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIBER_TEST(a_pool_that_has_gone_is_not_found_while_its_checks_end),
        FIBER_TEST(what_is_done_by_hand_is_not_sent_to_a_thread_that_let_go),
    };
    int failed;

    kit_watchdog(60);
    with = must_parse("http :80 { route / { pool = web } }\n"
                      "pool web { server 127.0.0.1:1 {}  health { interval = 1s } }\n");
    without = must_parse("http :80 { route / { respond = 200 } }\n");
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    config_unref(with);
    config_unref(without);
    return failed;
}
