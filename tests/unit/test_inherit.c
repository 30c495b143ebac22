/* test_inherit.c - server/inherit.h: which of the descriptors that a process starts with become its listeners.
 *
 * Their numbers are given (3, 4, ...), so that each test is a process of its own in which those are free; what does
 * not hold there is counted, said, and becomes the exit code. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "fiber_kit.h"
#include "server/inherit.h"
#include "socket_kit.h"

static void announce(const char *pid, const char *n)
{
    char own[16];

    snprintf(own, sizeof own, "%d", (int)getpid());
    setenv("LISTEN_PID", pid ? pid : own, 1);
    setenv("LISTEN_FDS", n, 1);
    setenv("LISTEN_FDNAMES", "http:tcp", 1);
}

/* As a service manager leaves it: blocking, and open across an exec. */
static void listen_plainly(struct endpoint *endpoint, int fd)
{
    CHECK_EQUAL(listen_at(endpoint, 16), fd);
    CHECK_EQUAL(fcntl(fd, F_SETFD, 0), 0);
    CHECK_EQUAL(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK), 0);
}

static struct endpoint v6_endpoint(struct in6_addr ip)
{
    struct endpoint endpoint = {.len = sizeof endpoint.in6};

    endpoint.in6.sin6_family = AF_INET6;
    endpoint.in6.sin6_addr = ip;
    return endpoint;
}

/* What comes with no file of ours, as from a service manager. */
static int take(const struct endpoint *endpoint)
{
    bool with_file = false;
    int fd = inherit_take(endpoint, &with_file);

    CHECK(!with_file);
    return fd;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void sockets_go_to_the_listeners_with_their_addresses(void)
{
    struct endpoint tcp = tcp_endpoint(0), other = tcp_endpoint(0), path = unix_endpoint("front");

    listen_plainly(&tcp, 3);
    listen_plainly(&path, 4);
    listen_plainly(&other, 5);
    announce(NULL, "3");
    CHECK_EQUAL(inherit_open(), 3);
    CHECK_EQUAL(take(&other), 5);
    CHECK_EQUAL(take(&path), 4);
    CHECK_EQUAL(take(&tcp), 3);
    CHECK_EQUAL(inherit_close_rest(), 0);
    CHECK(is_open(3) && is_open(4) && is_open(5));
    CHECK_EQUAL(unlink(path.un.sun_path), 0);
}

static void what_is_taken_neither_blocks_nor_outlives_an_exec(void)
{
    struct endpoint tcp = tcp_endpoint(0);

    listen_plainly(&tcp, 3);
    announce(NULL, "1");
    CHECK_EQUAL(inherit_open(), 1);
    CHECK_EQUAL(take(&tcp), 3);
    CHECK(fcntl(3, F_GETFL) & O_NONBLOCK);
    CHECK(fcntl(3, F_GETFD) & FD_CLOEXEC);
    CHECK(accept(3, NULL, NULL) < 0 && errno == EAGAIN);
}

static void a_socket_is_taken_once(void)
{
    struct endpoint tcp = tcp_endpoint(0);

    listen_plainly(&tcp, 3);
    announce(NULL, "1");
    CHECK_EQUAL(inherit_open(), 1);
    CHECK_EQUAL(take(&tcp), 3);
    CHECK_EQUAL(take(&tcp), -1);
}

static void another_port_or_address_is_not_taken(void)
{
    struct endpoint tcp = tcp_endpoint(0), port, any, v6 = v6_endpoint(in6addr_any);

    listen_plainly(&tcp, 3);
    announce(NULL, "1");
    CHECK_EQUAL(inherit_open(), 1);
    port = any = tcp;
    port.in.sin_port = (in_port_t)(tcp.in.sin_port ^ 1);
    any.in.sin_addr.s_addr = htonl(INADDR_ANY);
    v6.in6.sin6_port = tcp.in.sin_port;
    CHECK_EQUAL(take(&port), -1);
    CHECK_EQUAL(take(&any), -1);
    CHECK_EQUAL(take(&v6), -1);
    CHECK_EQUAL(take(&tcp), 3);
}

static void every_address_means_a_socket_for_both_families(void)
{
    struct endpoint both = v6_endpoint(in6addr_any), v4_only = tcp_endpoint(0);
    struct address address = {.kind = ADDRESS_ANY};

    v4_only.in.sin_addr.s_addr = htonl(INADDR_ANY);
    listen_plainly(&both, 3);
    listen_plainly(&v4_only, 4);
    announce(NULL, "2");
    CHECK_EQUAL(inherit_open(), 2);
    address.port = ntohs(v4_only.in.sin_port);
    endpoint_from_address(&v4_only, &address, true);
    CHECK_EQUAL(take(&v4_only), -1);
    address.port = ntohs(both.in6.sin6_port);
    endpoint_from_address(&both, &address, true);
    CHECK_EQUAL(take(&both), 3);
}

static void a_socket_for_ipv6_only_is_not_every_address(void)
{
    struct endpoint any = v6_endpoint(in6addr_any), loopback = v6_endpoint(in6addr_loopback);
    socklen_t len = sizeof any.in6;
    int on = 1;

    CHECK_EQUAL(socket(AF_INET6, SOCK_STREAM, 0), 3);
    CHECK_EQUAL(setsockopt(3, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on), 0);
    CHECK_EQUAL(bind(3, &any.sa, any.len), 0);
    CHECK_EQUAL(listen(3, 16), 0);
    CHECK_EQUAL(getsockname(3, &any.sa, &len), 0);
    listen_plainly(&loopback, 4); /* is for IPv6 only, too: which is what it should be */
    announce(NULL, "2");
    CHECK_EQUAL(inherit_open(), 2);
    CHECK_EQUAL(take(&any), -1);
    CHECK_EQUAL(take(&loopback), 4);
    CHECK_EQUAL(inherit_close_rest(), 1);
}

static void what_nobody_takes_is_closed(void)
{
    struct endpoint first = tcp_endpoint(0), second = tcp_endpoint(0), third = tcp_endpoint(0);

    listen_plainly(&first, 3);
    listen_plainly(&second, 4);
    listen_plainly(&third, 5);
    announce(NULL, "3");
    CHECK_EQUAL(inherit_open(), 3);
    CHECK_EQUAL(take(&second), 4);
    CHECK_EQUAL(inherit_close_rest(), 2);
    CHECK(!is_open(3) && is_open(4) && !is_open(5));
    CHECK_EQUAL(take(&first), -1);
    CHECK_EQUAL(inherit_close_rest(), 0);
}

/* Whatever the names of the others; and a socket without a name comes without a file. */
static void a_file_comes_along_when_the_name_of_its_socket_says_so(void)
{
    static const bool with_file[] = {false, true, false, false, false};
    struct endpoint endpoints[5];

    for (int i = 0; i < 5; i++) {
        endpoints[i] = tcp_endpoint(0);
        listen_plainly(&endpoints[i], 3 + i);
    }
    announce(NULL, "5");
    setenv("LISTEN_FDNAMES", "a:" INHERIT_WITH_FILE "::" INHERIT_WITHOUT_FILE, 1);
    CHECK_EQUAL(inherit_open(), 5);
    for (int i = 4; i >= 0; i--) {
        bool with = !with_file[i];

        CHECK_EQUAL(inherit_take(&endpoints[i], &with), 3 + i);
        CHECK_EQUAL(with, with_file[i]);
    }
}

/* A descriptor that is of no use has a name, too. */
static void names_belong_to_descriptors(void)
{
    struct endpoint tcp = tcp_endpoint(0);
    bool with_file = false;

    CHECK_EQUAL(open("/dev/null", O_RDONLY), 3);
    listen_plainly(&tcp, 4);
    announce(NULL, "2");
    setenv("LISTEN_FDNAMES", "a:" INHERIT_WITH_FILE, 1);
    CHECK_EQUAL(inherit_open(), 1);
    CHECK_EQUAL(inherit_take(&tcp, &with_file), 4);
    CHECK(with_file);
}

/* 3: a file; 4: a datagram socket; 5: bound, but nobody listens; 6 and 7: a connection; 8: what we want. */
static void what_is_no_listening_stream_socket_is_closed(void)
{
    struct endpoint tcp = tcp_endpoint(0), bound = tcp_endpoint(0);
    int pair[2];

    CHECK_EQUAL(open("/dev/null", O_RDONLY), 3);
    CHECK_EQUAL(socket(AF_INET, SOCK_DGRAM, 0), 4);
    CHECK_EQUAL(socket(AF_INET, SOCK_STREAM, 0), 5);
    CHECK_EQUAL(bind(5, &bound.sa, bound.len), 0);
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    listen_plainly(&tcp, 8);
    announce(NULL, "6");
    CHECK_EQUAL(inherit_open(), 1);
    for (int fd = 3; fd < 8; fd++)
        CHECK(!is_open(fd));
    CHECK_EQUAL(take(&tcp), 8);
}

static void another_process_s_sockets_are_left_alone(void)
{
    struct endpoint tcp = tcp_endpoint(0);

    listen_plainly(&tcp, 3);
    announce("1", "1");
    CHECK_EQUAL(inherit_open(), 0);
    CHECK_EQUAL(take(&tcp), -1);
    CHECK_EQUAL(inherit_close_rest(), 0);
    CHECK(is_open(3));
}

static void numbers_that_are_none_inherit_nothing(void)
{
    static const char *const bad[] = {"", "one", "-1", "1 ", "99999999999999999999", "0"};
    struct endpoint tcp = tcp_endpoint(0);

    listen_plainly(&tcp, 3);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        announce(NULL, bad[i]);
        CHECK_EQUAL(inherit_open(), 0);
    }
    announce("", "1");
    CHECK_EQUAL(inherit_open(), 0);
    unsetenv("LISTEN_PID");
    setenv("LISTEN_FDS", "1", 1);
    CHECK_EQUAL(inherit_open(), 0);
    CHECK(is_open(3));
}

static void a_number_that_is_too_large_ends_at_the_first_gap(void)
{
    struct endpoint tcp = tcp_endpoint(0), own = tcp_endpoint(0);

    listen_plainly(&tcp, 3);
    CHECK_EQUAL(dup2(listen_at(&own, 1), 5), 5);
    close(4);
    announce(NULL, "4000000000");
    CHECK_EQUAL(inherit_open(), 1);
    CHECK_EQUAL(take(&tcp), 3);
    CHECK(is_open(5));
}

static void more_sockets_than_anybody_has_are_left_alone(void)
{
    struct endpoint tcp = tcp_endpoint(0);
    int last = 3;

    listen_plainly(&tcp, 3);
    while (last < 3 + 1024 && dup(3) == last + 1)
        last++;
    if (last < 3 + 1024)
        return; /* not that many descriptors are allowed here */
    announce(NULL, "1025");
    CHECK_EQUAL(inherit_open(), 1024);
    for (int i = 0; i < 1024; i++)
        CHECK(take(&tcp) >= 3);
    CHECK_EQUAL(take(&tcp), -1);
    CHECK(is_open(last));
}

static void children_are_told_nothing(void)
{
    announce(NULL, "0");
    inherit_open();
    CHECK(!getenv("LISTEN_PID") && !getenv("LISTEN_FDS") && !getenv("LISTEN_FDNAMES"));
    announce("1", "1");
    inherit_open();
    CHECK(!getenv("LISTEN_PID") && !getenv("LISTEN_FDS") && !getenv("LISTEN_FDNAMES"));
}

/* ------------------------------------------------------------------------------------------------------------ */

struct apart {
    void (*test)(void);
};

static void run_apart(void **state)
{
    struct apart *apart = *state;
    pid_t child = fork();
    int status;

    assert_true(child >= 0);
    if (child == 0) {
        atomic_store(&kit_failures, 0);
        if (close_range(3, ~0U, 0) != 0)
            _exit(2);
        apart->test();
        _exit(atomic_load(&kit_failures) != 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* A row of cmocka's table for a test in a process of its own. */
#define APART(test) ((struct CMUnitTest){#test, run_apart, NULL, NULL, &(struct apart){test}})

int main(void)
{
    const struct CMUnitTest tests[] = {
        APART(sockets_go_to_the_listeners_with_their_addresses),
        APART(what_is_taken_neither_blocks_nor_outlives_an_exec),
        APART(a_socket_is_taken_once),
        APART(another_port_or_address_is_not_taken),
        APART(every_address_means_a_socket_for_both_families),
        APART(a_socket_for_ipv6_only_is_not_every_address),
        APART(what_nobody_takes_is_closed),
        APART(a_file_comes_along_when_the_name_of_its_socket_says_so),
        APART(names_belong_to_descriptors),
        APART(what_is_no_listening_stream_socket_is_closed),
        APART(another_process_s_sockets_are_left_alone),
        APART(numbers_that_are_none_inherit_nothing),
        APART(a_number_that_is_too_large_ends_at_the_first_gap),
        APART(more_sockets_than_anybody_has_are_left_alone),
        APART(children_are_told_nothing),
    };

    kit_watchdog(30);
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
