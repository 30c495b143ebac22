/* stream.c - what all streams share, and streams over memory; see stream.h.
 *
 * A memory pipe is a ring of bytes one way, shared by its two ends: freed when both have let go. */
#include "fiber/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int stream_write_all(struct stream *stream, const void *bytes, size_t n, uint64_t deadline_us)
{
    struct iovec part = {(void *)(uintptr_t)bytes, n};

    while (part.iov_len) {
        ssize_t done = stream_write(stream, &part, 1, deadline_us);

        if (done < 0)
            return (int)done;
        part.iov_base = (char *)part.iov_base + done;
        part.iov_len -= (size_t)done;
    }
    return 0;
}

struct memory_pipe {
    unsigned refs;
    bool finished; /* no more will be written */
    bool deaf;     /* nobody will read */
    struct wait_queue readers, writers;
    size_t room, start, count;
    char bytes[];
};

static struct memory_pipe *pipe_create(size_t room)
{
    struct memory_pipe *pipe = calloc(1, sizeof *pipe + room);

    if (!pipe)
        return NULL;
    pipe->refs = 2;
    pipe->room = room;
    wait_queue_init(&pipe->readers);
    wait_queue_init(&pipe->writers);
    return pipe;
}

static void pipe_unref(struct memory_pipe *pipe)
{
    if (--pipe->refs == 0)
        free(pipe);
}

static int memory_wait_readable(struct stream *stream, uint64_t deadline_us)
{
    struct memory_pipe *pipe = stream->in;
    int error = 0;

    while (!error && !pipe->count && !pipe->finished)
        error = wait_queue_wait(&pipe->readers, deadline_us);
    return error;
}

static ssize_t memory_read(struct stream *stream, void *bytes, size_t room, uint64_t deadline_us)
{
    struct memory_pipe *pipe = stream->in;
    int error = memory_wait_readable(stream, deadline_us);
    size_t n;

    if (error)
        return error;
    n = pipe->count < room ? pipe->count : room;
    for (size_t i = 0; i < n; i++)
        ((char *)bytes)[i] = pipe->bytes[(pipe->start + i) % pipe->room];
    pipe->start = (pipe->start + n) % pipe->room;
    pipe->count -= n;
    wait_queue_wake_all(&pipe->writers);
    return (ssize_t)n;
}

static ssize_t memory_write(struct stream *stream, const struct iovec *parts, int n, uint64_t deadline_us)
{
    struct memory_pipe *pipe = stream->out;
    size_t done = 0;
    int error = 0;

    while (!error && !pipe->deaf && !pipe->finished && pipe->count == pipe->room)
        error = wait_queue_wait(&pipe->writers, deadline_us);
    if (error)
        return error;
    if (pipe->deaf || pipe->finished)
        return -EPIPE;
    for (int i = 0; i < n; i++)
        for (size_t at = 0; at < parts[i].iov_len && pipe->count < pipe->room; at++, done++)
            pipe->bytes[(pipe->start + pipe->count++) % pipe->room] = ((const char *)parts[i].iov_base)[at];
    wait_queue_wake_all(&pipe->readers);
    return (ssize_t)done;
}

static bool memory_is_quiet(struct stream *stream)
{
    return !stream->in->count && !stream->in->finished;
}

static void finish(struct memory_pipe *pipe)
{
    pipe->finished = true;
    wait_queue_wake_all(&pipe->readers);
    wait_queue_wake_all(&pipe->writers);
}

static void memory_shut_down(struct stream *stream, bool both)
{
    finish(stream->out);
    if (both)
        finish(stream->in);
}

static void memory_close(struct stream *stream)
{
    finish(stream->out);
    stream->in->deaf = true;
    wait_queue_wake_all(&stream->in->writers);
    pipe_unref(stream->in);
    pipe_unref(stream->out);
}

static const struct stream_kind memory_kind = {
    .read = memory_read,
    .write = memory_write,
    .wait_readable = memory_wait_readable,
    .is_quiet = memory_is_quiet,
    .shut_down = memory_shut_down,
    .close = memory_close,
};

int stream_memory_pair(struct stream *a, struct stream *b, size_t room)
{
    struct memory_pipe *there = pipe_create(room), *back = pipe_create(room);

    if (!there || !back) {
        free(there);
        free(back);
        return -ENOMEM;
    }
    *a = (struct stream){.kind = &memory_kind, .in = back, .out = there};
    *b = (struct stream){.kind = &memory_kind, .in = there, .out = back};
    return 0;
}
