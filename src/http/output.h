/* output.h - what is to be written to a stream, gathered so that a message leaves in as few calls as it can.
 *
 * Small pieces are copied into one slab block; a large one goes out beside it without a copy. Nothing leaves
 * before output_flush or a full block, so flush before waiting for anything else. Once a write has failed, every
 * later call returns its error. Threads: the stream's. */
#ifndef HTTP_OUTPUT_H
#define HTTP_OUTPUT_H

#include "base/slab.h"
#include "base/slice.h"
#include "fiber/stream.h"
#include "http/pace.h"

struct http_output {
    struct stream *stream; /* borrowed */
    struct pace *pace;     /* how slow the other side may be; borrowed */
    char *block;           /* NULL: nothing gathered */
    size_t len;
    int error;        /* the first */
    uint64_t written; /* bytes the stream has taken */
};

int output_put_slow(struct http_output *out, struct slice s);

/* Copies s. */
static inline int output_put(struct http_output *out, struct slice s)
{
    if (!out->block || s.len > SLAB_BYTES - out->len)
        return output_put_slow(out, s);
    if (s.len) /* an empty slice may be NULL, which memcpy must not be given */
        memcpy(out->block + out->len, s.ptr, s.len);
    out->len += s.len;
    return 0;
}

int output_put_u64(struct http_output *out, uint64_t value);
/* Room for n bytes (at most SLAB_BYTES / 2) to be filled by the caller, who then calls output_filled; NULL on error. */
char *output_room(struct http_output *out, size_t n);
static inline void output_filled(struct http_output *out, size_t n)
{
    out->len += n;
}
/* Sends s, copying it only when it is small. It may be reused on return. */
int output_send(struct http_output *out, struct slice s);
int output_flush(struct http_output *out);
/* Whoever writes to the stream beside this output says that it failed. Returns error. */
int output_fail(struct http_output *out, int error);
/* Gives the block back; what it held is not sent. */
void output_drop(struct http_output *out);

#endif
