/* splice.h - moving bytes from one socket to another without bringing them into this process.
 *
 * The kernel moves pages through a pipe. It pays from about 64 KiB on; below that a copy is cheaper. Pipes come
 * from a small stock of the thread's; a thread has so many and no more, because each is two descriptors: who gets none
 * copies. Threads: a pipe belongs to the thread that took it. */
#ifndef FIBER_SPLICE_H
#define FIBER_SPLICE_H

#include "fiber/stream.h"

struct splice_pipe {
    int in, out;
    size_t held; /* bytes in it */
};

/* 0, or a negative errno when there is none to be had. */
int splice_pipe_take(struct splice_pipe *pipe);
/* A pipe with bytes in it is closed, not used again. */
void splice_pipe_give(struct splice_pipe *pipe);
/* Closes the stock: before the thread ends. */
void splice_trim(void);

/* Both are sockets. */
bool splice_possible(const struct stream *from, const struct stream *to);
/* Up to n bytes into the empty pipe: how many, 0 at the end, or a negative errno. */
ssize_t splice_in(struct splice_pipe *pipe, struct stream *from, size_t n, uint64_t deadline_us);
/* Some of what the pipe holds: how many (at least 1), or a negative errno. */
ssize_t splice_out(struct splice_pipe *pipe, struct stream *to, uint64_t deadline_us);
/* The same without waiting: -EAGAIN when there is nothing to read, or no room; the stream is then known not to be
 * ready. */
ssize_t splice_in_now(struct splice_pipe *pipe, struct stream *from, size_t n);
ssize_t splice_out_now(struct splice_pipe *pipe, struct stream *to);

/* From now on from only counts as readable with n bytes (or its end): fewer wake-ups for a stream that flows. What
 * is there already may be less, so the next read looks. 1 is what every socket has. */
void splice_low_water(struct stream *from, size_t n);

#endif
