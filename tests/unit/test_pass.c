/* test_pass.c - front/amqp/pass.h: logins that end with a process: who gets in, what is counted of whom, and that a pass is freed once
 * every thread has let go of it.
 *
 * Mailboxes stand for serving threads, and are emptied where a test says so; one test has threads. What a connection does when it
 * is told to stop or to fail is consume.c's and amqp.c's; here that is noted. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fiber_kit.h"
#include "front/amqp/pass.h"
#include "front/amqp/private.h"

#define N(table) (sizeof(table) / sizeof(table)[0])
#define BOXES 2

/* A connection, and what it was told. */
static struct guest {
    struct amqp_connection connection;
    unsigned stopped, failed;
    enum amqp_reply code;
    bool had_pass; /* when it was failed */
    char text[128];
    pthread_t thread; /* that told it */
} guests[4];

static struct amqp_connection *const a = &guests[0].connection, *const b = &guests[1].connection,
                                     *const c = &guests[2].connection;
static struct mailbox *boxes[BOXES];
static unsigned n_freed;
static bool freed_in_fiber;

static struct guest *guest_of(struct amqp_connection *connection)
{
    return container_of(connection, struct guest, connection);
}

void amqp_consumers_stop(struct amqp_connection *connection)
{
    guest_of(connection)->stopped++;
    guest_of(connection)->thread = pthread_self();
}

void amqp_fail_connection(struct amqp_connection *connection, enum amqp_reply code, uint32_t method,
                          const char *format, ...)
{
    struct guest *guest = guest_of(connection);
    va_list args;

    CHECK_EQUAL(method, 0);
    guest->failed++;
    guest->code = code;
    guest->had_pass = connection->pass != NULL;
    guest->thread = pthread_self();
    va_start(args, format);
    vsnprintf(guest->text, sizeof guest->text, format, args);
    va_end(args);
}

static void note_freed(void *arg)
{
    unsigned *n = arg;

    ++*n;
    freed_in_fiber |= fiber_self() != NULL;
}

/* In the fiber of a test, first and last. */
static void open_boxes(void)
{
    memset(guests, 0, sizeof guests);
    n_freed = 0;
    freed_in_fiber = false;
    for (size_t i = 0; i < BOXES; i++)
        CHECK_EQUAL(mailbox_create(&boxes[i]), 0);
}

static void close_boxes(void)
{
    for (size_t i = 0; i < BOXES; i++) {
        mailbox_close(boxes[i]);
        mailbox_unref(boxes[i]);
    }
    CHECK(!freed_in_fiber);
}

/* What is on its way to this thread has come. */
static void take_mail(void)
{
    for (int turns = 0; turns < 3; turns++)
        CHECK_EQUAL(fiber_yield(), 0);
}

static void deliver_all(void)
{
    for (size_t i = 0; i < BOXES; i++)
        mailbox_deliver(boxes[i]);
    take_mail();
}

static struct amqp_pass *create_for(const char *name, const char *secret, const char *queue, unsigned slots,
                                    unsigned n_boxes)
{
    const struct amqp_pass_options options = {
        .name = name, .secret = secret, .queue = queue, .slots = slots, .freed = note_freed, .arg = &n_freed};
    struct amqp_pass *pass = amqp_pass_create(boxes, n_boxes, &options);

    if (!CHECK(pass != NULL))
        abort();
    return pass;
}

struct issue {
    struct amqp_pass *pass;
    int result;
    bool ended;
    unsigned wakes; /* that it got afterwards */
};

static void issue_main(void *arg)
{
    struct issue *issue = arg;

    issue->result = amqp_pass_issue(issue->pass);
    issue->ended = true;
}

static struct fiber *begin_issue(struct issue *issue)
{
    struct fiber *fiber = fiber_spawn("issues", issue_main, issue);

    CHECK_EQUAL(fiber_yield(), 0);
    return fiber;
}

static void issue(struct amqp_pass *pass)
{
    struct issue issue = {.pass = pass, .result = 1};
    struct fiber *fiber = begin_issue(&issue);

    deliver_all();
    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
    CHECK_EQUAL(issue.result, 0);
}

/* A pass of the first box alone, for two messages at a time. */
static struct amqp_pass *issued(const char *name)
{
    struct amqp_pass *pass = create_for(name, "secret", "q", 2, 1);

    issue(pass);
    return pass;
}

static void end_pass(struct amqp_pass *pass)
{
    unsigned before = n_freed;

    amqp_pass_revoke(pass);
    deliver_all();
    CHECK_EQUAL(n_freed, before + 1);
}

static bool log_in(struct amqp_connection *connection, const char *name, const char *secret)
{
    return amqp_pass_log_in(connection, slice_from_text(name), slice_from_text(secret));
}

static struct amqp_pass_sight look(struct amqp_pass *pass)
{
    struct amqp_pass_sight sight;

    amqp_pass_look(pass, &sight);
    return sight;
}

/* ---- who gets in ------------------------------------------------------------------------------------------------- */

static void only_the_name_and_its_secret_get_in(void *arg)
{
    static const struct {
        const char *name, *secret;
    } others[] = {{"w", "secre"},
                  {"w", "secret2"},
                  {"w", ""},
                  {"w", "Secret"},
                  {"w", "secreT"},
                  {"v", "secret"},
                  {"", "secret"},
                  {"w2", "secret"},
                  {"", ""},
                  {"secret", "w"},
                  {"w", "secret "},
                  {"W", "secret"},
                  {"w", "\x01"
                        "ecret"}};
    struct amqp_pass *pass;

    (void)arg;
    open_boxes();
    CHECK(!log_in(a, "w", "secret"));
    pass = issued("w");
    for (size_t i = 0; i < N(others); i++)
        CHECK(!log_in(a, others[i].name, others[i].secret));
    CHECK(!a->pass);
    CHECK_EQUAL(look(pass).connections, 0);
    CHECK(log_in(a, "w", "secret"));
    CHECK(a->pass != NULL);
    CHECK_EQUAL(look(pass).connections, 1);
    end_pass(pass);
    close_boxes();
}

/* As much of the secret as was given is not enough, though what follows it in memory is the rest. */
static void a_secret_is_compared_in_its_whole_length(void *arg)
{
    char *given = malloc(3);
    struct amqp_pass *pass;

    (void)arg;
    open_boxes();
    pass = issued("w");
    memcpy(given, "sec", 3);
    CHECK(!amqp_pass_log_in(a, SLICE("w"), slice_of(given, 3)));
    CHECK(!amqp_pass_log_in(a, SLICE("w"), slice_of("secret\0more", 11)));
    CHECK(!amqp_pass_log_in(a, SLICE("w"), slice_of("secret", 0)));
    free(given);
    end_pass(pass);
    close_boxes();
}

static void what_it_is_made_of_is_its_own(void *arg)
{
    char name[] = "w", secret[] = "secret", queue[] = "q";
    struct amqp_pass *pass;

    (void)arg;
    open_boxes();
    pass = create_for(name, secret, queue, 1, BOXES);
    name[0] = secret[0] = queue[0] = 'x';
    issue(pass);
    CHECK(!log_in(a, "x", "xecret"));
    CHECK(log_in(a, "w", "secret"));
    CHECK(amqp_pass_may(a->pass, ACCESS_READ, SLICE("q")));
    end_pass(pass);
    close_boxes();
}

static void passes_do_not_open_each_other_s_doors(void *arg)
{
    struct amqp_pass *first, *second;

    (void)arg;
    open_boxes();
    first = issued("w1");
    second = create_for("w2", "other", "r", 5, 1);
    issue(second);
    CHECK(!log_in(a, "w1", "other"));
    CHECK(!log_in(a, "w2", "secret"));
    CHECK(log_in(a, "w2", "other"));
    CHECK(log_in(b, "w1", "secret"));
    CHECK(log_in(c, "w2", "other"));
    CHECK_EQUAL(look(first).connections, 1);
    CHECK_EQUAL(look(second).connections, 2);
    CHECK(amqp_pass_window(a->pass, SLICE("r")) && !amqp_pass_window(a->pass, SLICE("q")));
    CHECK(amqp_pass_window(b->pass, SLICE("q")) && !amqp_pass_window(b->pass, SLICE("r")));
    end_pass(first);
    CHECK_EQUAL(guest_of(b)->failed, 1);
    CHECK_EQUAL(guest_of(a)->failed, 0);
    CHECK(!log_in(b, "w1", "secret"));
    CHECK(log_in(b, "w2", "other"));
    end_pass(second);
    close_boxes();
}

static void who_leaves_is_not_counted_and_not_told_any_more(void *arg)
{
    struct amqp_pass *pass;

    (void)arg;
    open_boxes();
    amqp_pass_leave(a); /* it never had one */
    pass = issued("w");
    CHECK(log_in(a, "w", "secret"));
    CHECK(log_in(b, "w", "secret"));
    CHECK_EQUAL(look(pass).connections, 2);
    amqp_pass_leave(a);
    CHECK(!a->pass);
    amqp_pass_leave(a);
    CHECK_EQUAL(look(pass).connections, 1);
    amqp_pass_stop(pass);
    deliver_all();
    end_pass(pass);
    CHECK_EQUAL(guest_of(a)->stopped + guest_of(a)->failed, 0);
    CHECK_EQUAL(guest_of(b)->stopped, 1);
    CHECK_EQUAL(guest_of(b)->failed, 1);
    amqp_pass_leave(b); /* it has none any more */
    close_boxes();
}

static void one_queue_is_read_and_anything_written_to(void *arg)
{
    static const struct {
        enum access_kind kind;
        const char *name;
        bool may;
    } rows[] = {
        {ACCESS_READ, "q", true},          {ACCESS_READ, "q2", false},
        {ACCESS_READ, "", false},          {ACCESS_READ, "r", false},
        {ACCESS_WRITE, "q", true},         {ACCESS_WRITE, "r", true},
        {ACCESS_WRITE, "", true},          {ACCESS_CONFIGURE, "q", true},
        {ACCESS_CONFIGURE, "r", false},    {ACCESS_CONFIGURE, "", false},
        {ACCESS_READ, "amq.gen-x", true},  {ACCESS_CONFIGURE, "amq.gen-x", true},
        {ACCESS_READ, "amq.gen", false},   {ACCESS_READ, "amq.direct", false},
        {ACCESS_READ, "xamq.gen-", false},
    };
    struct amqp_pass *pass;

    (void)arg;
    open_boxes();
    pass = issued("w");
    CHECK(log_in(a, "w", "secret"));
    for (size_t i = 0; i < N(rows); i++)
        if (amqp_pass_may(a->pass, rows[i].kind, slice_from_text(rows[i].name)) != rows[i].may)
            CHECK_EQUAL(i, N(rows)); /* the row */
    end_pass(pass);
    close_boxes();
}

static void consumers_of_its_queue_share_a_window(void *arg)
{
    struct amqp_pass *pass;

    (void)arg;
    open_boxes();
    pass = issued("w");
    CHECK(log_in(a, "w", "secret"));
    CHECK(log_in(b, "w", "secret"));
    CHECK(amqp_pass_window(a->pass, SLICE("q")));
    CHECK(amqp_pass_window(a->pass, SLICE("q")) == amqp_pass_window(b->pass, SLICE("q")));
    CHECK(!amqp_pass_window(a->pass, SLICE("q2")));
    CHECK(!amqp_pass_window(a->pass, SLICE("amq.gen-1")));
    CHECK(!amqp_pass_window(a->pass, SLICE("")));
    end_pass(pass);
    close_boxes();
}

/* ---- what is counted --------------------------------------------------------------------------------------------- */

static void messages_are_counted_from_delivery_to_verdict(void *arg)
{
    struct amqp_pass *pass;

    (void)arg;
    open_boxes();
    pass = issued("w");
    CHECK(log_in(a, "w", "secret"));
    amqp_pass_consumes(a->pass, true);
    amqp_pass_consumes(a->pass, true);
    for (int i = 0; i < 5; i++)
        amqp_pass_took(a->pass);
    CHECK_EQUAL(look(pass).consumers, 2);
    CHECK_EQUAL(look(pass).in_flight, 5);
    CHECK_EQUAL(look(pass).handled, 0);
    amqp_pass_gave(a->pass, 1);
    amqp_pass_gave(a->pass, 0);
    amqp_pass_gave(a->pass, 3);
    amqp_pass_consumes(a->pass, false);
    CHECK_EQUAL(look(pass).consumers, 1);
    CHECK_EQUAL(look(pass).in_flight, 1);
    CHECK_EQUAL(look(pass).handled, 4);
    end_pass(pass);
    close_boxes();
}

/* The loop's clock, which stands still between two waits. */
static void after(uint64_t us)
{
    loop_self()->now_us += us;
}

static void time_is_counted_for_each_message_that_is_in_flight(void *arg)
{
    struct amqp_pass *pass;

    (void)arg;
    open_boxes();
    pass = issued("w");
    CHECK(log_in(a, "w", "secret"));
    after(1000000);
    CHECK_EQUAL(look(pass).busy_us, 0);
    amqp_pass_took(a->pass);
    CHECK_EQUAL(look(pass).busy_us, 0);
    after(100);
    CHECK_EQUAL(look(pass).busy_us, 100); /* though nothing has changed since */
    amqp_pass_took(a->pass);
    after(10);
    CHECK_EQUAL(look(pass).busy_us, 120);
    amqp_pass_took(a->pass);
    after(1);
    CHECK_EQUAL(look(pass).busy_us, 123);
    amqp_pass_gave(a->pass, 2);
    after(1000);
    CHECK_EQUAL(look(pass).busy_us, 1123);
    amqp_pass_gave(a->pass, 1);
    after(1000000);
    CHECK_EQUAL(look(pass).busy_us, 1123);
    amqp_pass_took(a->pass); /* and the pause counts for nothing */
    after(7);
    CHECK_EQUAL(look(pass).busy_us, 1130);
    end_pass(pass);
    close_boxes();
}

/* A thread whose clock is behind takes back what was reckoned for it; what was told stays told. */
static void a_total_that_was_told_never_falls(void *arg)
{
    struct amqp_pass *pass;

    (void)arg;
    open_boxes();
    pass = issued("w");
    CHECK(log_in(a, "w", "secret"));
    amqp_pass_took(a->pass);
    loop_self()->now_us -= 10;
    CHECK_EQUAL(look(pass).busy_us, 0);
    after(110);
    CHECK_EQUAL(look(pass).busy_us, 100);
    loop_self()->now_us -= 60;
    CHECK_EQUAL(look(pass).busy_us, 100);
    amqp_pass_gave(a->pass, 1); /* after 40 */
    CHECK_EQUAL(look(pass).busy_us, 100);
    amqp_pass_took(a->pass);
    loop_self()->now_us -= 10; /* so that it was counted in the future */
    CHECK_EQUAL(look(pass).busy_us, 100);
    amqp_pass_gave(a->pass, 1);
    CHECK_EQUAL(look(pass).busy_us, 100);
    CHECK_EQUAL(look(pass).handled, 2);
    amqp_pass_took(a->pass);
    after(61);
    CHECK_EQUAL(look(pass).busy_us, 101);
    end_pass(pass);
    close_boxes();
}

/* ---- rounds ------------------------------------------------------------------------------------------------------ */

static void it_is_issued_when_every_thread_knows_it(void *arg)
{
    struct issue issue = {.pass = NULL, .result = 1};
    struct fiber *fiber;

    (void)arg;
    open_boxes();
    issue.pass = create_for("w", "secret", "q", 1, BOXES);
    fiber = begin_issue(&issue);
    take_mail();
    CHECK(!issue.ended);
    CHECK(!log_in(a, "w", "secret"));
    mailbox_deliver(boxes[1]);
    fiber_wake(fiber); /* for some other reason */
    take_mail();
    CHECK(!issue.ended);
    mailbox_deliver(boxes[0]);
    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
    CHECK_EQUAL(issue.result, 0);
    end_pass(issue.pass);
    close_boxes();
}

static void issue_and_count_wakes(void *arg)
{
    struct issue *issue = arg;

    issue->result = amqp_pass_issue(issue->pass);
    while (fiber_park(NEVER) == 0)
        issue->wakes++;
}

static void who_has_issued_it_is_not_disturbed_by_what_becomes_of_it(void *arg)
{
    struct issue issue = {.pass = NULL, .result = 1};
    struct fiber *fiber;

    (void)arg;
    open_boxes();
    issue.pass = create_for("w", "secret", "q", 1, BOXES);
    fiber = fiber_spawn("issues", issue_and_count_wakes, &issue);
    CHECK_EQUAL(fiber_yield(), 0);
    deliver_all();
    CHECK_EQUAL(issue.result, 0);
    amqp_pass_stop(issue.pass);
    deliver_all();
    end_pass(issue.pass);
    CHECK_EQUAL(issue.wakes, 0);
    fiber_cancel_and_join(fiber);
    close_boxes();
}

static void a_stop_tells_every_connection_once(void *arg)
{
    struct amqp_pass *pass, *other;

    (void)arg;
    open_boxes();
    other = issued("other");
    pass = create_for("w", "secret", "q", 1, BOXES);
    issue(pass);
    CHECK(log_in(a, "w", "secret"));
    CHECK(log_in(b, "w", "secret"));
    CHECK(log_in(c, "other", "secret"));
    amqp_pass_stop(pass);
    CHECK(!amqp_pass_is_stopped(a->pass)); /* it is on its way */
    CHECK(!look(pass).stopped);
    mailbox_deliver(boxes[0]);
    take_mail();
    CHECK(amqp_pass_is_stopped(a->pass));
    CHECK(!amqp_pass_is_stopped(c->pass));
    CHECK_EQUAL(guest_of(a)->stopped, 1);
    CHECK_EQUAL(guest_of(b)->stopped, 1);
    CHECK_EQUAL(guest_of(c)->stopped, 0);
    CHECK(!look(pass).stopped); /* not on the other thread */
    mailbox_deliver(boxes[1]);
    take_mail();
    CHECK(look(pass).stopped);
    CHECK(!look(other).stopped);
    CHECK_EQUAL(look(pass).connections, 2); /* which keep what they have */
    CHECK_EQUAL(guest_of(a)->failed, 0);
    amqp_pass_took(a->pass);
    amqp_pass_gave(a->pass, 1);
    CHECK_EQUAL(look(pass).handled, 1);
    CHECK(log_in(&guests[3].connection, "w", "secret")); /* who comes late finds it stopped */
    CHECK(amqp_pass_is_stopped(guests[3].connection.pass));
    end_pass(pass);
    end_pass(other);
    close_boxes();
}

static void a_pass_that_is_revoked_closes_its_connections_and_is_known_no_more(void *arg)
{
    struct amqp_pass *pass;

    (void)arg;
    open_boxes();
    pass = create_for("w", "secret", "q", 1, BOXES);
    issue(pass);
    CHECK(log_in(a, "w", "secret"));
    CHECK(log_in(b, "w", "secret"));
    amqp_pass_revoke(pass);
    CHECK_EQUAL(guest_of(a)->failed, 0);
    deliver_all();
    for (size_t i = 0; i < 2; i++) {
        CHECK_EQUAL(guests[i].failed, 1);
        CHECK_EQUAL(guests[i].code, AMQP_CONNECTION_FORCED);
        CHECK(strcmp(guests[i].text, "the process that this login was made for has ended") == 0);
        CHECK(!guests[i].had_pass);
        CHECK(!guests[i].connection.pass);
        CHECK_EQUAL(guests[i].stopped, 0);
    }
    CHECK_EQUAL(guest_of(c)->failed, 0);
    CHECK(!log_in(c, "w", "secret"));
    CHECK_EQUAL(n_freed, 1);
    close_boxes();
}

static void it_is_freed_when_the_last_thread_has_let_go_and_once(void *arg)
{
    struct amqp_pass *pass;

    (void)arg;
    open_boxes();
    pass = create_for("w", "secret", "q", 1, BOXES);
    issue(pass);
    amqp_pass_stop(pass);
    amqp_pass_revoke(pass);
    take_mail();
    CHECK_EQUAL(n_freed, 0);
    mailbox_deliver(boxes[1]);
    take_mail();
    CHECK_EQUAL(n_freed, 0);
    mailbox_deliver(boxes[0]);
    CHECK_EQUAL(n_freed, 0); /* the thread that made it does that */
    take_mail();
    CHECK_EQUAL(n_freed, 1);
    deliver_all();
    CHECK_EQUAL(n_freed, 1);
    close_boxes();
}

static void one_that_was_never_issued_is_revoked_likewise(void *arg)
{
    struct amqp_pass *pass;

    (void)arg;
    open_boxes();
    pass = create_for("w", "secret", "q", 1, BOXES);
    amqp_pass_revoke(pass);
    CHECK_EQUAL(n_freed, 0);
    deliver_all();
    CHECK_EQUAL(n_freed, 1);
    CHECK(!log_in(a, "w", "secret"));
    close_boxes();
}

static void who_is_cancelled_while_it_is_issued_has_revoked_it(void *arg)
{
    struct issue issue = {.pass = NULL, .result = 1};
    struct fiber *fiber;

    (void)arg;
    open_boxes();
    issue.pass = create_for("w", "secret", "q", 1, BOXES);
    fiber = begin_issue(&issue);
    mailbox_deliver(boxes[0]);
    take_mail();
    CHECK(log_in(a, "w", "secret"));
    fiber_cancel_and_join(fiber);
    CHECK_EQUAL(issue.result, -ECANCELED);
    CHECK_EQUAL(n_freed, 0); /* both rounds are at the second thread */
    mailbox_deliver(boxes[0]);
    take_mail();
    CHECK_EQUAL(n_freed, 0);
    CHECK_EQUAL(guest_of(a)->failed, 1);
    mailbox_deliver(boxes[1]);
    take_mail();
    CHECK_EQUAL(n_freed, 1);
    CHECK(!log_in(b, "w", "secret"));
    close_boxes();
}

static void threads_that_have_ended_hold_nothing_up(void *arg)
{
    struct issue issue = {.pass = NULL, .result = 1};
    struct fiber *fiber;

    (void)arg;
    open_boxes();
    issue.pass = create_for("w", "secret", "q", 1, BOXES);
    mailbox_close(boxes[1]); /* before */
    fiber = begin_issue(&issue);
    mailbox_close(boxes[0]); /* with the mail in it */
    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
    CHECK_EQUAL(issue.result, 0);
    amqp_pass_stop(issue.pass);
    take_mail();
    CHECK(look(issue.pass).stopped);
    amqp_pass_revoke(issue.pass);
    take_mail();
    CHECK_EQUAL(n_freed, 1);
    close_boxes();
}

static void threads_that_never_were_are_left_out(void *arg)
{
    static struct mailbox *const none[3];
    const struct amqp_pass_options options = {
        .name = "w", .secret = "secret", .queue = "q", .slots = 1, .freed = note_freed, .arg = &n_freed};
    struct mailbox *some[3] = {NULL};
    struct amqp_pass *pass;

    (void)arg;
    open_boxes();
    CHECK(!amqp_pass_create(none, 3, &options));
    CHECK(!amqp_pass_create(none, 0, &options));
    some[1] = boxes[0];
    pass = amqp_pass_create(some, 3, &options);
    if (CHECK(pass != NULL)) {
        issue(pass);
        CHECK(log_in(a, "w", "secret"));
        CHECK_EQUAL(look(pass).connections, 1);
        end_pass(pass);
    }
    close_boxes();
}

/* ---- with threads ------------------------------------------------------------------------------------------------ */

static struct serving {
    pthread_t thread;
    sem_t runs;
    struct mailbox *box;
    struct fiber *fiber;
    bool ends;
} servers[BOXES];

static void server_main(void *arg)
{
    const struct serving *serving = arg;

    while (!serving->ends)
        fiber_park(NEVER);
}

static void *serve(void *arg)
{
    struct serving *server = arg;
    struct loop *loop;

    if (loop_create(&loop) != 0)
        abort();
    server->box = mailbox_ref(loop_mailbox(loop));
    server->fiber = fiber_spawn("server", server_main, server);
    fiber_detach(server->fiber);
    sem_post(&server->runs);
    loop_run(loop);
    loop_free(loop);
    return NULL;
}

/* Something to do for a server's thread, which is waited for. */
struct errand {
    struct mail mail;
    void (*run)(size_t server);
    size_t server;
    atomic_bool done;
};

static void run_errand(struct mail *mail)
{
    struct errand *errand = container_of(mail, struct errand, mail);

    errand->run(errand->server);
    atomic_store(&errand->done, true);
}

static void have_done(size_t server, void (*run)(size_t server))
{
    struct errand errand = {.mail = {.deliver = run_errand}, .run = run, .server = server};

    mailbox_send(servers[server].box, &errand.mail);
    while (!atomic_load(&errand.done))
        fiber_yield();
}

static void come_and_take_one(size_t server)
{
    CHECK(log_in(&guests[server].connection, "w", "secret"));
    amqp_pass_consumes(guests[server].connection.pass, true);
    amqp_pass_took(guests[server].connection.pass);
}

static void give_it(size_t server)
{
    amqp_pass_gave(guests[server].connection.pass, 1);
}

static void find_it_stopped(size_t server)
{
    CHECK(amqp_pass_is_stopped(guests[server].connection.pass));
    CHECK(pthread_equal(guests[server].thread, servers[server].thread));
    CHECK_EQUAL(guests[server].stopped, 1);
}

static void find_it_gone(size_t server)
{
    CHECK(!log_in(&guests[server].connection, "w", "secret"));
    CHECK(pthread_equal(guests[server].thread, servers[server].thread));
    CHECK_EQUAL(guests[server].failed, 1);
}

static void end_server(size_t server)
{
    servers[server].ends = true;
    fiber_wake(servers[server].fiber);
}

static void each_thread_tells_its_own_connections_and_all_are_summed_up(void *arg)
{
    struct amqp_pass *pass;

    (void)arg;
    open_boxes();
    for (size_t i = 0; i < BOXES; i++) {
        sem_init(&servers[i].runs, 0, 0);
        servers[i].ends = false;
        CHECK_EQUAL(pthread_create(&servers[i].thread, NULL, serve, &servers[i]), 0);
        while (sem_wait(&servers[i].runs) != 0)
            ;
        mailbox_unref(boxes[i]);
        boxes[i] = servers[i].box;
    }
    pass = create_for("w", "secret", "q", 1, BOXES);
    CHECK_EQUAL(amqp_pass_issue(pass), 0);
    for (size_t i = 0; i < BOXES; i++)
        have_done(i, come_and_take_one);
    CHECK_EQUAL(look(pass).connections, 2);
    CHECK_EQUAL(look(pass).consumers, 2);
    CHECK_EQUAL(look(pass).in_flight, 2);
    have_done(1, give_it);
    CHECK_EQUAL(look(pass).in_flight, 1);
    CHECK_EQUAL(look(pass).handled, 1);
    have_done(0, give_it);
    CHECK_EQUAL(look(pass).handled, 2);
    amqp_pass_stop(pass);
    while (!look(pass).stopped)
        fiber_yield();
    for (size_t i = 0; i < BOXES; i++)
        have_done(i, find_it_stopped);
    amqp_pass_revoke(pass);
    while (!n_freed)
        fiber_yield();
    for (size_t i = 0; i < BOXES; i++) {
        have_done(i, find_it_gone);
        have_done(i, end_server);
        CHECK_EQUAL(pthread_join(servers[i].thread, NULL), 0);
        sem_destroy(&servers[i].runs);
    }
    CHECK_EQUAL(n_freed, 1);
    close_boxes();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIBER_TEST(only_the_name_and_its_secret_get_in),
        FIBER_TEST(a_secret_is_compared_in_its_whole_length),
        FIBER_TEST(what_it_is_made_of_is_its_own),
        FIBER_TEST(passes_do_not_open_each_other_s_doors),
        FIBER_TEST(who_leaves_is_not_counted_and_not_told_any_more),
        FIBER_TEST(one_queue_is_read_and_anything_written_to),
        FIBER_TEST(consumers_of_its_queue_share_a_window),
        FIBER_TEST(messages_are_counted_from_delivery_to_verdict),
        FIBER_TEST(time_is_counted_for_each_message_that_is_in_flight),
        FIBER_TEST(a_total_that_was_told_never_falls),
        FIBER_TEST(it_is_issued_when_every_thread_knows_it),
        FIBER_TEST(who_has_issued_it_is_not_disturbed_by_what_becomes_of_it),
        FIBER_TEST(a_stop_tells_every_connection_once),
        FIBER_TEST(a_pass_that_is_revoked_closes_its_connections_and_is_known_no_more),
        FIBER_TEST(it_is_freed_when_the_last_thread_has_let_go_and_once),
        FIBER_TEST(one_that_was_never_issued_is_revoked_likewise),
        FIBER_TEST(who_is_cancelled_while_it_is_issued_has_revoked_it),
        FIBER_TEST(threads_that_have_ended_hold_nothing_up),
        FIBER_TEST(threads_that_never_were_are_left_out),
        FIBER_TEST(each_thread_tells_its_own_connections_and_all_are_summed_up),
    };

    kit_watchdog(50);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
