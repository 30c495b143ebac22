/* input.c - see input.h. */
#include "http/input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/slab.h"

static void give_block(char *block, size_t room)
{
    if (room == SLAB_BYTES)
        slab_give(block);
    else
        free(block);
}

int input_open(struct http_input *in)
{
    if (in->block)
        return 0;
    in->block = slab_take();
    if (!in->block)
        return -ENOMEM;
    in->room = SLAB_BYTES;
    in->keep = in->start = in->end = 0;
    return 0;
}

ssize_t input_fill(struct http_input *in, uint64_t deadline_us)
{
    ssize_t n;

    if (in->start == in->end)
        in->start = in->end = in->keep;
    if (in->end == in->room && in->start > in->keep) {
        memmove(in->block + in->keep, in->block + in->start, in->end - in->start);
        in->end -= in->start - in->keep;
        in->start = in->keep;
    }
    if (in->end == in->room)
        return -ENOBUFS;
    n = stream_read(in->stream, in->block + in->end, in->room - in->end, deadline_us);
    if (n > 0) {
        in->end += (size_t)n;
        in->received += (uint64_t)n;
    }
    return n;
}

int input_grow(struct http_input *in, size_t room)
{
    char *block;

    if (room <= in->room)
        return 0;
    block = malloc(room);
    if (!block)
        return -ENOMEM;
    memcpy(block, in->block, in->end);
    give_block(in->block, in->room);
    in->block = block;
    in->room = room;
    return 0;
}

void input_reclaim(struct http_input *in)
{
    in->keep = 0;
    if (in->block && input_empty(in))
        input_drop(in);
}

void input_drop(struct http_input *in)
{
    if (in->block)
        give_block(in->block, in->room);
    in->block = NULL;
    in->room = in->keep = in->start = in->end = 0;
}
