/* socket.c - streams over sockets; see stream.h.
 *
 * Edge-triggered: a direction is known ready until a call says EAGAIN, or a read comes back short, which means
 * the same and saves the call. After a hang-up the end is still to be read, so then a short read proves nothing. */
#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fiber/stream.h"

#define UNSENT_BYTES_MAX (1024 * 1024)

static ssize_t socket_read(struct stream *stream, void *bytes, size_t room, uint64_t deadline_us)
{
    struct io *io = &stream->io;

    for (;;) {
        ssize_t n;
        int error = io_wait_readable(io, deadline_us);

        if (error)
            return error;
        n = recv(io->fd, bytes, room, 0);
        if (n >= 0) {
            if (n > 0 && (size_t)n < room && !(io->ready & IO_HUNG_UP))
                io->ready &= (uint8_t)~IO_READABLE;
            return n;
        }
        if (errno == EAGAIN)
            io->ready &= (uint8_t)~IO_READABLE;
        else if (errno != EINTR)
            return -errno;
    }
}

static ssize_t socket_write(struct stream *stream, const struct iovec *parts, int n, uint64_t deadline_us)
{
    struct io *io = &stream->io;

    for (;;) {
        struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts, .msg_iovlen = (size_t)n};
        ssize_t done = n == 1 ? send(io->fd, parts->iov_base, parts->iov_len, MSG_NOSIGNAL)
                              : sendmsg(io->fd, &message, MSG_NOSIGNAL);
        int error;

        if (done >= 0)
            return done;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return -errno;
        io->ready &= (uint8_t)~IO_WRITABLE;
        error = io_wait_writable(io, deadline_us);
        if (error)
            return error;
    }
}

static bool socket_is_quiet(struct stream *stream)
{
    char byte;

    return recv(stream->io.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

/* A read that filled its buffer left the direction ready, which proves nothing: then we ask. Mostly it is not. */
static int socket_wait_readable(struct stream *stream, uint64_t deadline_us)
{
    struct io *io = &stream->io;
    int error;

    if (io->ready & IO_READABLE && socket_is_quiet(stream))
        io->ready &= (uint8_t)~IO_READABLE;
    do
        error = io_wait_readable(io, deadline_us);
    while (!error && !(io->ready & IO_READABLE));
    return error;
}

static void socket_shut_down(struct stream *stream, bool both)
{
    shutdown(stream->io.fd, both ? SHUT_RDWR : SHUT_WR);
}

static void socket_close(struct stream *stream)
{
    assert(!stream->io.reader && !stream->io.writer);
    io_forget(&stream->io); /* a fork that is not another program yet would keep the watch alive */
    close(stream->io.fd);
    stream->io.fd = -1;
}

const struct stream_kind stream_socket_kind = {
    .read = socket_read,
    .write = socket_write,
    .wait_readable = socket_wait_readable,
    .is_quiet = socket_is_quiet,
    .shut_down = socket_shut_down,
    .close = socket_close,
};

int stream_from_socket(struct stream *stream, int fd)
{
    int error;

    *stream = (struct stream){.kind = &stream_socket_kind};
    error = io_watch(&stream->io, fd, IO_READABLE, false);
    if (error)
        close(fd);
    return error;
}

void stream_local_endpoint(const struct stream *stream, struct endpoint *endpoint)
{
    *endpoint = (struct endpoint){.len = sizeof *endpoint - offsetof(struct endpoint, sa)};
    if (stream->kind != &stream_socket_kind || getsockname(stream->io.fd, &endpoint->sa, &endpoint->len) != 0)
        endpoint->sa.sa_family = AF_UNSPEC;
}

void stream_reset_on_close(struct stream *stream)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    if (stream->kind == &stream_socket_kind)
        setsockopt(stream->io.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

static int open_socket(const struct endpoint *endpoint)
{
    int fd = socket(endpoint->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;

    if (fd < 0)
        return -errno;
    if (endpoint->sa.sa_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static int wait_connected(struct io *io, uint64_t deadline_us)
{
    int error;
    socklen_t len = sizeof error;

    do
        error = io_wait_writable(io, deadline_us);
    while (!error && !(io->ready & IO_WRITABLE)); /* a wake says nothing about the socket */
    if (error)
        return error;
    if (!(io->ready & IO_HUNG_UP))
        return 0;
    if (getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        return -errno;
    return -error;
}

int stream_connect(struct stream *stream, const struct endpoint *endpoint, uint64_t deadline_us)
{
    int fd = open_socket(endpoint);
    int error;

    if (fd < 0)
        return fd;
    *stream = (struct stream){.kind = &stream_socket_kind};
    if (connect(fd, &endpoint->sa, endpoint->len) == 0)
        return stream_from_socket(stream, fd);
    if (errno != EINPROGRESS) { /* EAGAIN: the backlog of a unix socket is full */
        error = errno == EAGAIN ? -ECONNREFUSED : -errno;
        close(fd);
        return error;
    }
    error = io_watch(&stream->io, fd, IO_READABLE | IO_WRITABLE, false);
    if (error) {
        close(fd);
        return error;
    }
    error = wait_connected(&stream->io, deadline_us);
    if (error)
        socket_close(stream);
    return error;
}

/* The file of a unix socket outlives its process. It may go when nobody answers on it. */
static void remove_stale_file(const struct endpoint *endpoint)
{
    struct stat st;
    int fd;

    if (lstat(endpoint->un.sun_path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, &endpoint->sa, endpoint->len) != 0 && errno == ECONNREFUSED)
        unlink(endpoint->un.sun_path);
    close(fd);
}

/* Connections inherit them. Without a limit on what waits to be sent, the kernel keeps megabytes for a reader that
 * takes its time. */
static void set_listener_options(int fd)
{
    int on = 1, unsent_max = UNSENT_BYTES_MAX;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent_max, sizeof unsent_max);
}

void socket_adopt_listener(int fd, int backlog)
{
    int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on,
               sizeof on); /* fails on a unix socket, which needs none of it */
    set_listener_options(fd);
    listen(fd, backlog);
}

int socket_listen(const struct endpoint *endpoint, int backlog)
{
    int fd = open_socket(endpoint);
    int on = 1, off = 0, error;

    if (fd < 0)
        return fd;
    if (endpoint->sa.sa_family == AF_UNIX)
        remove_stale_file(endpoint);
    else
        set_listener_options(fd);
    if (endpoint->sa.sa_family == AF_INET6) {
        bool any = memcmp(&endpoint->in6.sin6_addr, &in6addr_any, sizeof in6addr_any) == 0;

        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, any ? &off : &on, sizeof on);
    }
    if (bind(fd, &endpoint->sa, endpoint->len) == 0 && listen(fd, backlog) == 0)
        return fd;
    error = -errno;
    close(fd);
    return error;
}

int socket_accept(struct io *listener, struct endpoint *peer, uint64_t deadline_us)
{
    for (;;) {
        int fd;
        int error = io_wait_readable(listener, deadline_us);

        if (error)
            return error;
        peer->len = sizeof *peer - offsetof(struct endpoint, sa);
        fd = accept4(listener->fd, &peer->sa, &peer->len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            return fd;
        if (errno == EAGAIN)
            listener->ready &= (uint8_t)~IO_READABLE;
        else if (errno != EINTR && errno != ECONNABORTED)
            return -errno;
    }
}
