/* input.h - what has been read from a stream and not yet been taken.
 *
 * One block at a time: a slab block, or a larger one from malloc when a head or a small body asks for it. An idle
 * input holds no block. Bytes that were taken stay where they are until input_reclaim, so that slices of a head
 * stay good while its body is read behind it. Threads: the stream's. */
#ifndef HTTP_INPUT_H
#define HTTP_INPUT_H

#include "base/slice.h"
#include "fiber/stream.h"

struct http_input {
    struct stream *stream; /* borrowed */
    char *block;           /* NULL: none is held */
    size_t room;
    size_t keep;       /* bytes at the front that must not move or be written over */
    size_t start, end; /* what is there to be taken */
    uint64_t received; /* bytes that came, all in all */
};

static inline struct slice input_bytes(const struct http_input *in)
{
    return slice_of(in->block + in->start, in->end - in->start);
}

static inline bool input_empty(const struct http_input *in)
{
    return in->start == in->end;
}

static inline void input_take(struct http_input *in, size_t n)
{
    in->start += n;
}

/* Makes sure that a block is held: 0 or -ENOMEM. */
int input_open(struct http_input *in);
/* Reads what comes, into what room is left behind end, or behind keep when nothing waits to be taken.
 * Bytes read, 0 at the end, -ENOBUFS when there is no room, or the stream's error. Holds a block already. */
ssize_t input_fill(struct http_input *in, uint64_t deadline_us);
/* Moves everything to a block of at least room bytes; slices of the old one are void. 0 or -ENOMEM. */
int input_grow(struct http_input *in, size_t room);
/* Whatever was taken may be written over. Gives the block back when nothing is left in it. */
void input_reclaim(struct http_input *in);
/* Gives the block back, with what is in it. */
void input_drop(struct http_input *in);

#endif
