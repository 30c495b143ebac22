/* test_socket.c - the sockets of fiber/stream.h: connecting, accepting, listening. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/clock.h"
#include "fiber_kit.h"
#include "socket_kit.h"

static void a_connect_where_nobody_listens_is_refused(void *arg)
{
    struct endpoint tcp_gone = tcp_endpoint(0), unix_gone = unix_endpoint("stale"),
                    nowhere = unix_endpoint("nowhere");
    struct stream stream;

    (void)arg;
    close(listen_at(&tcp_gone, 1));
    close(listen_at(&unix_gone, 1));
    CHECK_EQUAL(stream_connect(&stream, &tcp_gone, NEVER), -ECONNREFUSED);
    CHECK_EQUAL(stream_connect(&stream, &unix_gone, NEVER), -ECONNREFUSED);
    CHECK_EQUAL(stream_connect(&stream, &nowhere, NEVER), -ENOENT);
    CHECK_EQUAL(unlink(unix_gone.un.sun_path), 0);
}

/* A listener whose backlog is full: the kernel answers a further connect with silence. */
struct full {
    struct endpoint endpoint;
    struct stream waiting[8];
    int listener, n;
};

static void full_open(struct full *full)
{
    *full = (struct full){.endpoint = tcp_endpoint(0)};
    full->listener = listen_at(&full->endpoint, 0);
    while (full->n < 8 && stream_connect(&full->waiting[full->n], &full->endpoint, in_ms(20)) == 0)
        full->n++;
    CHECK(full->n < 8);
}

static void full_close(struct full *full)
{
    while (full->n)
        stream_close(&full->waiting[--full->n]);
    close(full->listener);
}

struct connecting {
    struct full *full;
    int result;
};

static void connect_forever(void *arg)
{
    struct connecting *connecting = arg;
    struct stream stream;

    connecting->result = stream_connect(&stream, &connecting->full->endpoint, NEVER);
    if (connecting->result == 0)
        stream_close(&stream);
}

static void a_connect_that_nobody_answers_ends_by_its_deadline_or_a_cancel(void *arg)
{
    struct full full;
    struct connecting connecting = {&full, 1};
    struct stream stream;
    struct fiber *fiber;
    uint64_t deadline;

    (void)arg;
    full_open(&full);
    deadline = in_ms(10);
    CHECK_EQUAL(stream_connect(&stream, &full.endpoint, deadline), -ETIMEDOUT);
    CHECK(clock_monotonic_us() >= deadline);
    fiber = fiber_spawn("connects", connect_forever, &connecting);
    for (int i = 0; i < 3; i++) {
        fiber_yield();
        fiber_wake(fiber); /* by mistake: it is not connected for that */
    }
    CHECK_EQUAL(fiber_join(fiber, in_ms(5)), -ETIMEDOUT);
    CHECK_EQUAL(connecting.result, 1);
    fiber_cancel_and_join(fiber);
    CHECK_EQUAL(connecting.result, -ECANCELED);
    full_close(&full);
}

static void a_unix_socket_with_a_full_backlog_refuses(void *arg)
{
    struct endpoint endpoint = unix_endpoint("busy");
    struct stream streams[8];
    int listener = listen_at(&endpoint, 1), n = 0, error = 0;

    (void)arg;
    while (n < 8 && (error = stream_connect(&streams[n], &endpoint, NEVER)) == 0)
        n++;
    CHECK_EQUAL(error, -ECONNREFUSED);
    while (n)
        stream_close(&streams[--n]);
    close(listener);
    CHECK_EQUAL(unlink(endpoint.un.sun_path), 0);
}

struct accepting {
    struct io *listener;
    struct endpoint peer;
    int result;
};

static void accept_one(void *arg)
{
    struct accepting *accepting = arg;

    accepting->result = socket_accept(accepting->listener, &accepting->peer, NEVER);
}

static void an_accept_waits_says_who_came_and_can_be_ended(void *arg)
{
    struct endpoint endpoint = tcp_endpoint(0), own;
    struct io listener;
    struct accepting accepting = {.listener = &listener, .result = 1};
    struct stream stream;
    struct fiber *fiber;
    int listening = listen_at(&endpoint, 16);

    (void)arg;
    CHECK_EQUAL(io_watch(&listener, listening, IO_READABLE, true), 0);
    CHECK_EQUAL(socket_accept(&listener, &own, in_ms(3)), -ETIMEDOUT);
    fiber = fiber_spawn("accepts", accept_one, &accepting);
    CHECK_EQUAL(fiber_join(fiber, in_ms(2)), -ETIMEDOUT);
    fiber_cancel_and_join(fiber);
    CHECK_EQUAL(accepting.result, -ECANCELED);
    fiber = fiber_spawn("accepts", accept_one, &accepting);
    CHECK_EQUAL(stream_connect(&stream, &endpoint, NEVER), 0);
    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
    CHECK(accepting.result >= 0);
    CHECK(fcntl(accepting.result, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(accepting.result, F_GETFD) & FD_CLOEXEC);
    own.len = sizeof own.in;
    CHECK_EQUAL(getsockname(stream.io.fd, &own.sa, &own.len), 0);
    CHECK_EQUAL(accepting.peer.in.sin_port, own.in.sin_port);
    CHECK_EQUAL(accepting.peer.in.sin_addr.s_addr, own.in.sin_addr.s_addr);
    CHECK_EQUAL(accepting.peer.len, sizeof own.in);
    close(accepting.result);
    stream_close(&stream);
    io_forget(&listener);
    close(listening);
}

#define GUESTS 100

static void every_connection_of_a_burst_is_accepted(void *arg)
{
    struct endpoint endpoint = tcp_endpoint(0), peer;
    struct stream streams[GUESTS];
    struct io listener;
    int listening = listen_at(&endpoint, GUESTS);

    (void)arg;
    CHECK_EQUAL(io_watch(&listener, listening, IO_READABLE, true), 0);
    for (int i = 0; i < GUESTS; i++)
        CHECK_EQUAL(stream_connect(&streams[i], &endpoint, NEVER), 0);
    for (int i = 0; i < GUESTS; i++) {
        int fd = socket_accept(&listener, &peer, NEVER); /* one event for many of them */

        CHECK(fd >= 0);
        close(fd);
    }
    CHECK_EQUAL(socket_accept(&listener, &peer, 1), -ETIMEDOUT);
    for (int i = 0; i < GUESTS; i++)
        stream_close(&streams[i]);
    io_forget(&listener);
    close(listening);
}

static void a_stale_unix_socket_is_replaced_a_live_one_or_a_file_is_not(void *arg)
{
    struct endpoint endpoint = unix_endpoint("listener");
    struct stream stream;
    struct stat st;
    int stale = listen_at(&endpoint, 4), live, file;

    (void)arg;
    close(stale);
    CHECK_EQUAL(lstat(endpoint.un.sun_path, &st), 0); /* its file outlives it */
    live = listen_at(&endpoint, 4);
    CHECK_EQUAL(socket_listen(&endpoint, 4), -EADDRINUSE);
    CHECK_EQUAL(stream_connect(&stream, &endpoint, NEVER), 0); /* the live one is still in place */
    stream_close(&stream);
    close(live);
    CHECK_EQUAL(unlink(endpoint.un.sun_path), 0);

    file = open(endpoint.un.sun_path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    CHECK(file >= 0);
    CHECK_EQUAL(write(file, "precious", 8), 8);
    close(file);
    CHECK_EQUAL(socket_listen(&endpoint, 4), -EADDRINUSE);
    CHECK_EQUAL(stat(endpoint.un.sun_path, &st), 0);
    CHECK_EQUAL(st.st_size, 8);
    CHECK_EQUAL(unlink(endpoint.un.sun_path), 0);
}

static void a_used_port_is_an_error_and_a_left_one_is_not(void *arg)
{
    struct endpoint endpoint = tcp_endpoint(0);
    struct stream stream;
    int listener = listen_at(&endpoint, 4), accepted;

    (void)arg;
    CHECK_EQUAL(socket_listen(&endpoint, 4), -EADDRINUSE);
    CHECK_EQUAL(stream_connect(&stream, &endpoint, NEVER), 0);
    accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    CHECK(accepted >= 0);
    close(listener);
    close(accepted);       /* who closes first has to remember */
    stream_close(&stream); /* what is left of it in the kernel does not stand in the way of a restart */
    listener = socket_listen(&endpoint, 4);
    CHECK(listener >= 0);
    close(listener);
}

static void the_unspecified_v6_address_listens_to_both_families(void *arg)
{
    struct endpoint any = {.len = sizeof any.in6}, v4, only = {.len = sizeof only.in6};
    struct stream stream;
    int listener, probe = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)arg;
    only.in6.sin6_family = any.in6.sin6_family = AF_INET6;
    only.in6.sin6_addr = in6addr_loopback;
    if (probe < 0 || bind(probe, &only.sa, only.len) != 0) {
        fprintf(stderr, "no IPv6 on this machine: nothing was tested\n");
        goto done;
    }
    listener = listen_at(&any, 4);
    v4 = tcp_endpoint(ntohs(any.in6.sin6_port));
    only.in6.sin6_port = any.in6.sin6_port;
    CHECK_EQUAL(stream_connect(&stream, &v4, NEVER), 0);
    stream_close(&stream);
    CHECK_EQUAL(stream_connect(&stream, &only, NEVER), 0);
    stream_close(&stream);
    close(listener);

    only.in6.sin6_port = 0;
    listener = listen_at(&only, 4);
    v4 = tcp_endpoint(ntohs(only.in6.sin6_port));
    CHECK_EQUAL(stream_connect(&stream, &v4, NEVER), -ECONNREFUSED);
    close(listener);
done:
    if (probe >= 0)
        close(probe);
}

static void what_cannot_be_watched_is_closed(void *arg)
{
    struct stream stream;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

    (void)arg;
    CHECK_EQUAL(stream_from_socket(&stream, fd), -EPERM); /* epoll takes no files */
    CHECK_EQUAL(fcntl(fd, F_GETFD), -1);                  /* closed */
}

/* A thread with a loop that accepts and closes, until it gets the message to stop. */
struct waiter {
    pthread_t thread;
    struct mail stop;
    struct mailbox *mailbox;
    struct fiber *accepts;
    pthread_barrier_t *ready;
    int listening, accepted;
};

static void accept_and_close(void *arg)
{
    struct waiter *waiter = arg;
    struct io listener;
    struct endpoint peer;
    int fd;

    CHECK_EQUAL(io_watch(&listener, waiter->listening, IO_READABLE, true), 0);
    waiter->accepts = fiber_self();
    waiter->mailbox = mailbox_ref(loop_mailbox(loop_self()));
    pthread_barrier_wait(waiter->ready);
    while ((fd = socket_accept(&listener, &peer, NEVER)) >= 0) {
        waiter->accepted++;
        close(fd);
    }
    CHECK_EQUAL(fd, -ECANCELED);
    io_forget(&listener);
}

static void stop_accepting(struct mail *message)
{
    fiber_cancel(container_of(message, struct waiter, stop)->accepts);
}

static void *run_waiter(void *arg)
{
    struct loop *loop;

    CHECK_EQUAL(loop_create(&loop), 0);
    CHECK_EQUAL(fiber_start("accepts", accept_and_close, arg), 0);
    loop_run(loop);
    loop_free(loop);
    return NULL;
}

/* Connects, and waits until it has been accepted and closed. */
static void visit(const struct endpoint *endpoint, int *fds, int n)
{
    char byte;

    for (int i = 0; i < n; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fds[i], &endpoint->sa, endpoint->len), 0);
    }
    for (int i = 0; i < n; i++) {
        assert_int_equal(recv(fds[i], &byte, 1, 0), 0);
        close(fds[i]);
    }
}

static void loops_that_share_a_listener_accept_every_connection_once(void **state)
{
    struct endpoint endpoint = tcp_endpoint(0);
    struct waiter waiters[2] = {{.accepted = 0}, {.accepted = 0}};
    pthread_barrier_t ready;
    int fds[50], listening;

    (void)state;
    atomic_store(&kit_failures, 0);
    listening = listen_at(&endpoint, 64);
    pthread_barrier_init(&ready, NULL, 3);
    for (int i = 0; i < 2; i++) {
        waiters[i].listening = listening;
        waiters[i].ready = &ready;
        waiters[i].stop.deliver = stop_accepting;
        assert_int_equal(pthread_create(&waiters[i].thread, NULL, run_waiter, &waiters[i]), 0);
    }
    pthread_barrier_wait(&ready);
    for (int i = 0; i < 10; i++)
        visit(&endpoint, fds, 1 + i * 5);
    for (int i = 0; i < 2; i++) {
        mailbox_send(waiters[i].mailbox, &waiters[i].stop);
        assert_int_equal(pthread_join(waiters[i].thread, NULL), 0);
        mailbox_unref(waiters[i].mailbox);
    }
    assert_int_equal(waiters[0].accepted + waiters[1].accepted, 235);
    pthread_barrier_destroy(&ready);
    close(listening);
    assert_int_equal(atomic_load(&kit_failures), 0);
}

/* A read stops short at urgent data, and nothing new comes after it. */
static void what_follows_urgent_data_is_read_without_another_event(void *arg)
{
    struct endpoint endpoint = tcp_endpoint(0), peer;
    int listening = listen_at(&endpoint, 1);
    struct stream client, server;
    struct io door;
    char bytes[16];
    size_t have = 0;

    (void)arg;
    CHECK_EQUAL(io_watch(&door, listening, IO_READABLE, true), 0);
    CHECK_EQUAL(stream_connect(&client, &endpoint, in_ms(5000)), 0);
    CHECK_EQUAL(stream_from_socket(&server, socket_accept(&door, &peer, in_ms(5000))), 0);
    CHECK_EQUAL(send(client.io.fd, "AB", 2, 0), 2);
    CHECK_EQUAL(send(client.io.fd, "C", 1, MSG_OOB), 1);
    CHECK_EQUAL(send(client.io.fd, "DEF", 3, 0), 3);
    while (have < 5) {
        ssize_t n = stream_read(&server, bytes + have, sizeof bytes - have, in_ms(5000));

        if (!CHECK(n > 0))
            break;
        have += (size_t)n;
    }
    CHECK(have == 5 && memcmp(bytes, "ABDEF", 5) == 0);
    stream_close(&client);
    stream_close(&server);
    io_forget(&door);
    close(listening);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIBER_TEST(what_follows_urgent_data_is_read_without_another_event),
        FIBER_TEST(a_connect_where_nobody_listens_is_refused),
        FIBER_TEST(a_connect_that_nobody_answers_ends_by_its_deadline_or_a_cancel),
        FIBER_TEST(a_unix_socket_with_a_full_backlog_refuses),
        FIBER_TEST(an_accept_waits_says_who_came_and_can_be_ended),
        FIBER_TEST(every_connection_of_a_burst_is_accepted),
        FIBER_TEST(a_stale_unix_socket_is_replaced_a_live_one_or_a_file_is_not),
        FIBER_TEST(a_used_port_is_an_error_and_a_left_one_is_not),
        FIBER_TEST(the_unspecified_v6_address_listens_to_both_families),
        FIBER_TEST(what_cannot_be_watched_is_closed),
        cmocka_unit_test(loops_that_share_a_listener_accept_every_connection_once),
    };

    kit_watchdog(55);
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
