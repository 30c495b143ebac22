/* forwarder.c - the floor: moves bytes between a client and an upstream connection of its own; knows no HTTP.
 *
 * One thread, edge-triggered epoll, no request is looked at. A small request costs four system calls (two
 * reads, two writes) and its share of epoll_wait. What a proxy costs above this is its own doing.
 * Two ways of moving: through one buffer (64 KiB by default: larger ones cost no less CPU per byte, 16 KiB
 * twice as much), or through a pipe per connection, never copied: what upstream sends with --splice, what the
 * client sends with --splice-up.
 * Invariant: a side is read only when all it sent before was written, so memory per connection is bounded.
 * Usage: forwarder PORT UPSTREAM_PORT [--buffer BYTES | --splice | --splice-up]
 * (ports of 127.0.0.1; runs until it is killed) */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"

#define BATCH 256
#define PIPE_BYTES 262144 /* 10 to 20 % less CPU per byte than the default of 64 KiB; 1 MiB gains no more */

struct side {
    int fd;
    bool gone; /* waits in the list of the dead until the batch of events is done */
    bool over; /* it will send no more; what it sent may still be in its socket while the peer is full */
    bool spliced;
    struct side *peer;
    struct side *next_dead;
    char *held; /* read here, not yet taken by the peer; buffer_bytes, made when first needed */
    size_t held_from, held_to;
    int pipe[2]; /* of a spliced side */
    size_t piped;
};

static struct forwarder {
    int epoll;
    int listener;
    uint64_t upstream_port;
    size_t buffer_bytes;
    bool splice, splice_up;
    char *buffer;
    struct side *dead;
} forwarder;

/* True: nothing is held any more. False with errno EAGAIN: the peer is full. */
static bool write_held(struct side *s)
{
    while (s->held_from < s->held_to) {
        ssize_t n = send(s->peer->fd, s->held + s->held_from, s->held_to - s->held_from, MSG_NOSIGNAL);

        if (n < 0)
            return false;
        s->held_from += (size_t)n;
    }
    return true;
}

static void hold(struct side *s, const char *bytes, size_t len)
{
    if (!s->held)
        s->held = malloc(forwarder.buffer_bytes);
    if (!s->held)
        fail("malloc");
    memcpy(s->held, bytes, len);
    s->held_from = 0;
    s->held_to = len;
}

/* False: the connection is over. */
static bool move_by_copy(struct side *s)
{
    bool corked = false;

    if (!write_held(s))
        return errno == EAGAIN;
    for (;;) {
        ssize_t got = recv(s->fd, forwarder.buffer, forwarder.buffer_bytes, 0);
        bool more = got == (ssize_t)forwarder.buffer_bytes;
        ssize_t sent;

        if (got <= 0) {
            bool empty = got < 0 && errno == EAGAIN;

            if (corked)
                set_option(s->peer->fd, IPPROTO_TCP, TCP_NODELAY, 1); /* pushes what MSG_MORE kept back */
            return empty;
        }
        sent = send(s->peer->fd, forwarder.buffer, (size_t)got, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
        if (sent < 0 && errno != EAGAIN)
            return false;
        if (sent < got) {
            sent = sent < 0 ? 0 : sent;
            hold(s, forwarder.buffer + sent, (size_t)(got - sent));
            return true;
        }
        corked = more;
        if (!more)
            return true; /* a short read emptied the socket: the next byte or the end is a new event */
    }
}

static bool move_by_splice(struct side *s)
{
    for (;;) {
        ssize_t n;

        while (s->piped) {
            n = splice(s->pipe[0], NULL, s->peer->fd, NULL, s->piped, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
            if (n < 0)
                return errno == EAGAIN;
            s->piped -= (size_t)n;
        }
        n = splice(s->fd, NULL, s->pipe[1], NULL, PIPE_BYTES, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        s->piped = (size_t)n;
    }
}

static bool move(struct side *s)
{
    return s->spliced ? move_by_splice(s) : move_by_copy(s);
}

static bool owes(const struct side *s)
{
    return s->held_from < s->held_to || s->piped > 0;
}

static void end(struct side *s)
{
    close(s->fd);
    s->gone = true;
    s->next_dead = forwarder.dead;
    forwarder.dead = s;
}

static void free_dead(void)
{
    while (forwarder.dead) {
        struct side *s = forwarder.dead;

        forwarder.dead = s->next_dead;
        if (s->spliced) {
            close(s->pipe[0]);
            close(s->pipe[1]);
        }
        free(s->held);
        free(s);
    }
}

static struct side *make_side(int fd)
{
    struct side *s = calloc(1, sizeof(*s));

    if (!s)
        fail("calloc");
    s->fd = fd;
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    return s;
}

static int connect_upstream(void)
{
    struct sockaddr_in address = loopback(forwarder.upstream_port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        fail("socket");
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0 && errno != EINPROGRESS)
        fail("connect");
    return fd;
}

static void make_pipe(int ends[2])
{
    if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0)
        fail("pipe2");
    if (fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES) < 0)
        fail("fcntl F_SETPIPE_SZ");
}

static void accept_clients(void)
{
    const uint32_t events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

    for (;;) {
        int fd = accept4(forwarder.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct side *client, *upstream;

        if (fd < 0)
            return;
        client = make_side(fd);
        upstream = make_side(connect_upstream());
        client->peer = upstream;
        upstream->peer = client;
        upstream->spliced = forwarder.splice;
        if (upstream->spliced)
            make_pipe(upstream->pipe);
        client->spliced = forwarder.splice_up;
        if (client->spliced)
            make_pipe(client->pipe);
        watch(forwarder.epoll, fd, events, client);
        watch(forwarder.epoll, upstream->fd, events, upstream);
    }
}

static void handle(struct side *s, uint32_t events)
{
    const uint32_t over = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
    bool alive = true;

    if (s->gone)
        return;
    if (events & over)
        s->over = true;
    if (events & (EPOLLIN | over))
        alive = move(s);
    if (alive && events & EPOLLOUT && owes(s->peer))
        alive = move(s->peer);
    if (!alive || (s->over && !owes(s)) || (s->peer->over && !owes(s->peer))) {
        end(s);
        end(s->peer);
    }
}

static void read_options(int argc, char **argv)
{
    const char *text = "forwarder PORT UPSTREAM_PORT [--buffer BYTES | --splice | --splice-up]";

    if (argc < 3)
        usage(text);
    forwarder.listener = listen_on(parse_number("PORT", argv[1], 1, 65535));
    forwarder.upstream_port = parse_number("UPSTREAM_PORT", argv[2], 1, 65535);
    forwarder.buffer_bytes = 65536;
    if (argc == 4 && strcmp(argv[3], "--splice") == 0)
        forwarder.splice = true;
    else if (argc == 4 && strcmp(argv[3], "--splice-up") == 0)
        forwarder.splice_up = true;
    else if (argc == 5 && strcmp(argv[3], "--buffer") == 0)
        forwarder.buffer_bytes = parse_number("--buffer", argv[4], 1024, 1u << 24);
    else if (argc != 3)
        usage(text);
}

int main(int argc, char **argv)
{
    struct epoll_event events[BATCH];

    raise_fd_limit();
    read_options(argc, argv);
    forwarder.buffer = malloc(forwarder.buffer_bytes);
    if (!forwarder.buffer)
        fail("malloc");
    forwarder.epoll = epoll_create1(EPOLL_CLOEXEC);
    watch(forwarder.epoll, forwarder.listener, EPOLLIN, &forwarder);
    for (;;) {
        int n = epoll_wait(forwarder.epoll, events, BATCH, -1);

        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &forwarder)
                accept_clients();
            else
                handle(events[i].data.ptr, events[i].events);
        }
        free_dead();
    }
}
