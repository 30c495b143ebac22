/* output.c - see output.h. */
#include "http/output.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* Below this a copy is cheaper than a second part in the system call. */
#define COPY_MAX 4096

/* Without a block output_put cannot take its short way, which does not look at the error. */
int output_fail(struct http_output *out, int error)
{
    out->error = error;
    output_drop(out);
    return error;
}

/* Writes parts[0..n) whole. */
static int write_parts(struct http_output *out, struct iovec *parts, int n)
{
    while (n && parts->iov_len == 0) {
        parts++;
        n--;
    }
    while (n) {
        uint64_t start_us = loop_now_us();
        ssize_t done = stream_write(out->stream, parts, n, pace_deadline(out->pace));

        if (done < 0)
            return output_fail(out, (int)done);
        pace_moved(out->pace, start_us, (uint64_t)done);
        out->written += (uint64_t)done;
        while (n && (size_t)done >= parts->iov_len) {
            done -= (ssize_t)parts->iov_len;
            parts++;
            n--;
        }
        if (n) {
            parts->iov_base = (char *)parts->iov_base + done;
            parts->iov_len -= (size_t)done;
        }
    }
    return 0;
}

int output_flush(struct http_output *out)
{
    struct iovec part = {out->block, out->len};
    int error;

    if (out->error || !out->len)
        return out->error;
    out->len = 0;
    error = write_parts(out, &part, 1);
    output_drop(out); /* the next one to need a block finds this one warm */
    return error;
}

char *output_room(struct http_output *out, size_t n)
{
    assert(n <= SLAB_BYTES / 2);
    if (out->error)
        return NULL;
    if (out->block && n > SLAB_BYTES - out->len && output_flush(out) != 0)
        return NULL;
    if (!out->block) {
        out->block = slab_take();
        out->len = 0;
        if (!out->block) {
            output_fail(out, -ENOMEM);
            return NULL;
        }
    }
    return out->block + out->len;
}

int output_put_slow(struct http_output *out, struct slice s)
{
    while (s.len) {
        struct slice piece = slice_take(&s, s.len < COPY_MAX ? s.len : COPY_MAX);
        char *room = output_room(out, piece.len);

        if (!room)
            return out->error;
        memcpy(room, piece.ptr, piece.len);
        out->len += piece.len;
    }
    return out->error;
}

int output_put_u64(struct http_output *out, uint64_t value)
{
    char digits[20];
    size_t at = sizeof digits;

    do
        digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    return output_put(out, slice_of(digits + at, sizeof digits - at));
}

int output_send(struct http_output *out, struct slice s)
{
    struct iovec parts[2];

    if (s.len <= COPY_MAX)
        return output_put(out, s);
    if (out->error)
        return out->error;
    parts[0] = (struct iovec){out->block, out->len};
    parts[1] = (struct iovec){(void *)(uintptr_t)s.ptr, s.len};
    out->len = 0;
    return write_parts(out, parts, 2);
}

void output_drop(struct http_output *out)
{
    if (out->block)
        slab_give(out->block);
    out->block = NULL;
    out->len = 0;
}
