/* stream.h - a byte stream both ways: TCP, a unix socket, or memory (for tests); TLS joins here.
 *
 * Calls wait by fiber, each until an absolute deadline. At most one fiber reads and one writes at a time.
 * Errors: -ETIMEDOUT, -ECANCELED, or what the transport says (-ECONNRESET, -EPIPE, ...). A stream owns its
 * descriptor and holds no buffer. Threads: the loop it was made on. */
#ifndef FIBER_STREAM_H
#define FIBER_STREAM_H

#include <errno.h>
#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/address.h"
#include "fiber/loop.h"

struct stream;

struct stream_kind {
    ssize_t (*read)(struct stream *stream, void *bytes, size_t room, uint64_t deadline_us);
    ssize_t (*write)(struct stream *stream, const struct iovec *parts, int n, uint64_t deadline_us);
    int (*wait_readable)(struct stream *stream, uint64_t deadline_us);
    bool (*is_quiet)(struct stream *stream);
    void (*shut_down)(struct stream *stream, bool both);
    void (*close)(struct stream *stream);
};

struct stream {
    const struct stream_kind *kind;
    struct io io;                 /* of a descriptor */
    struct memory_pipe *in, *out; /* of memory */
};

/* Up to room bytes; 0: the other side has finished. */
static inline ssize_t stream_read(struct stream *stream, void *bytes, size_t room, uint64_t deadline_us)
{
    return stream->kind->read(stream, bytes, room, deadline_us);
}

/* Some of the parts, at least one byte. */
static inline ssize_t stream_write(struct stream *stream, const struct iovec *parts, int n,
                                   uint64_t deadline_us)
{
    return stream->kind->write(stream, parts, n, deadline_us);
}

/* Until there are bytes, or the end, or an error to read. */
static inline int stream_wait_readable(struct stream *stream, uint64_t deadline_us)
{
    return stream->kind->wait_readable(stream, deadline_us);
}

/* Nothing has come that was not read, neither bytes nor the end. Asks the kernel: not for every request. */
static inline bool stream_is_quiet(struct stream *stream)
{
    return stream->kind->is_quiet(stream);
}

/* We have finished; the other side may go on. */
static inline void stream_shut_down(struct stream *stream)
{
    stream->kind->shut_down(stream, false);
}

/* Ends both ways: whoever waits for input here finds the end. */
static inline void stream_abort(struct stream *stream)
{
    stream->kind->shut_down(stream, true);
}

static inline void stream_close(struct stream *stream)
{
    stream->kind->close(stream);
}

/* All of it: 0 or a negative errno. */
int stream_write_all(struct stream *stream, const void *bytes, size_t n, uint64_t deadline_us);

/* Of streams over sockets; for splice.h. */
extern const struct stream_kind stream_socket_kind;

/* Takes over a connected, non-blocking socket. 0, or a negative errno with the socket closed. */
int stream_from_socket(struct stream *stream, int fd);
/* The address of this side of a socket; AF_UNSPEC when there is none. */
void stream_local_endpoint(const struct stream *stream, struct endpoint *endpoint);
/* A reset instead of an end, when it is closed: the other side must not take what it has for whole. */
void stream_reset_on_close(struct stream *stream);

/* Two ends joined by a buffer of room bytes each way; both on this thread. */
int stream_memory_pair(struct stream *a, struct stream *b, size_t room);

/* Connects to endpoint. */
int stream_connect(struct stream *stream, const struct endpoint *endpoint, uint64_t deadline_us);

/* An error that says something about this machine (no memory, no descriptors) and nothing about the other side. */
static inline bool stream_error_is_ours(int error)
{
    return error == -ENOMEM || error == -ENOBUFS || error == -EMFILE || error == -ENFILE;
}

/* A listening socket, non-blocking, or a negative errno. A unix socket's old file is replaced when nobody
 * answers on it. */
int socket_listen(const struct endpoint *endpoint, int backlog);
/* One that was made elsewhere gets the options and the backlog that ours have. */
void socket_adopt_listener(int fd, int backlog);
/* The next connection of a watched listener: a socket, or a negative errno. *peer is filled. */
int socket_accept(struct io *listener, struct endpoint *peer, uint64_t deadline_us);

#endif
