/* splice.c - see splice.h. */
#include "fiber/splice.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* As much as anybody may ask for; who may not gets the usual 64 KiB, or, where the user's pipes have all the memory
 * that they may, two pages, which are not worth it. */
#define PIPE_BYTES (1024 * 1024)
#define PIPE_BYTES_MIN (64 * 1024)
#define PIPES_MAX 128
#define STOCK_MAX 16

static _Thread_local struct splice_pipe stock[STOCK_MAX];
static _Thread_local unsigned n_stock, n_out;

static void close_pipe(struct splice_pipe *pipe)
{
    close(pipe->in);
    close(pipe->out);
}

int splice_pipe_take(struct splice_pipe *pipe)
{
    int fds[2];

    if (n_stock) {
        *pipe = stock[--n_stock];
        n_out++;
        return 0;
    }
    if (n_out >= PIPES_MAX)
        return -EMFILE;
    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) != 0)
        return -errno;
    *pipe = (struct splice_pipe){.in = fds[1], .out = fds[0]};
    if (fcntl(pipe->in, F_SETPIPE_SZ, PIPE_BYTES) < 0 && fcntl(pipe->in, F_GETPIPE_SZ) < PIPE_BYTES_MIN) {
        close_pipe(pipe);
        return -EMFILE;
    }
    n_out++;
    return 0;
}

void splice_pipe_give(struct splice_pipe *pipe)
{
    n_out--;
    if (pipe->held || n_stock == STOCK_MAX)
        close_pipe(pipe);
    else
        stock[n_stock++] = *pipe;
}

void splice_trim(void)
{
    while (n_stock)
        close_pipe(&stock[--n_stock]);
}

bool splice_possible(const struct stream *from, const struct stream *to)
{
    return from->kind == &stream_socket_kind && to->kind == &stream_socket_kind;
}

ssize_t splice_in_now(struct splice_pipe *pipe, struct stream *from, size_t n)
{
    ssize_t moved;

    do
        moved = splice(from->io.fd, NULL, pipe->in, NULL, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    while (moved < 0 && errno == EINTR);
    if (moved >= 0) {
        pipe->held += (size_t)moved;
        return moved;
    }
    if (errno == EAGAIN) /* the pipe is empty: it is the socket that has nothing */
        from->io.ready &= (uint8_t)~IO_READABLE;
    return -errno;
}

ssize_t splice_in(struct splice_pipe *pipe, struct stream *from, size_t n, uint64_t deadline_us)
{
    ssize_t moved;

    do {
        int error = io_wait_readable(&from->io, deadline_us);

        if (error)
            return error;
        moved = splice_in_now(pipe, from, n);
    } while (moved == -EAGAIN);
    return moved;
}

ssize_t splice_out_now(struct splice_pipe *pipe, struct stream *to)
{
    ssize_t moved;

    do
        moved = splice(pipe->out, NULL, to->io.fd, NULL, pipe->held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    while (moved < 0 && errno == EINTR);
    if (moved == 0)
        return -EIO; /* the pipe holds something: the kernel should have moved it */
    if (moved > 0) {
        pipe->held -= (size_t)moved;
        return moved;
    }
    if (errno == EAGAIN)
        to->io.ready &= (uint8_t)~IO_WRITABLE;
    return -errno;
}

ssize_t splice_out(struct splice_pipe *pipe, struct stream *to, uint64_t deadline_us)
{
    ssize_t moved;

    while ((moved = splice_out_now(pipe, to)) == -EAGAIN) {
        int error = io_wait_writable(&to->io, deadline_us);

        if (error)
            return error;
    }
    return moved;
}

void splice_low_water(struct stream *from, size_t n)
{
    int bytes = (int)n;

    setsockopt(from->io.fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
    from->io.ready |= IO_READABLE;
}
