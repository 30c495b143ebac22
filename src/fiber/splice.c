/* splice.c - see splice.h. */
#include "fiber/splice.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* As much as anybody may ask for; who may not gets the usual 64 KiB. */
#define PIPE_BYTES (1024 * 1024)
#define PIPES_MAX 128
#define STOCK_MAX 16

static _Thread_local struct splice_pipe stock[STOCK_MAX];
static _Thread_local unsigned n_stock, n_out;

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
    fcntl(fds[1], F_SETPIPE_SZ, PIPE_BYTES); /* a smaller one works too */
    *pipe = (struct splice_pipe){.in = fds[1], .out = fds[0]};
    n_out++;
    return 0;
}

static void close_pipe(struct splice_pipe *pipe)
{
    close(pipe->in);
    close(pipe->out);
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

ssize_t splice_in(struct splice_pipe *pipe, struct stream *from, size_t n, uint64_t deadline_us)
{
    struct io *io = &from->io;

    for (;;) {
        ssize_t moved;
        int error = io_wait_readable(io, deadline_us);

        if (error)
            return error;
        moved = splice(io->fd, NULL, pipe->in, NULL, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (moved >= 0) {
            pipe->held += (size_t)moved;
            return moved;
        }
        if (errno == EAGAIN) /* the pipe is empty: it is the socket that has nothing */
            io->ready &= (uint8_t)~IO_READABLE;
        else if (errno != EINTR)
            return -errno;
    }
}

ssize_t splice_out(struct splice_pipe *pipe, struct stream *to, uint64_t deadline_us)
{
    struct io *io = &to->io;

    for (;;) {
        ssize_t moved = splice(pipe->out, NULL, io->fd, NULL, pipe->held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        int error;

        if (moved > 0) {
            pipe->held -= (size_t)moved;
            return moved;
        }
        if (moved == 0)
            return -EIO; /* the pipe holds something: the kernel should have moved it */
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

void splice_low_water(struct stream *from, size_t n)
{
    int bytes = (int)n;

    setsockopt(from->io.fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes);
    from->io.ready |= IO_READABLE;
}
