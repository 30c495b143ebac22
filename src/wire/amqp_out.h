/* amqp_out.h - where AMQP is written to: a cursor in somebody's buffer, with a bound.
 *
 * The buffer belongs to the caller, and stays where it is until the writing is closed. Writing needs no check after
 * every field: what does not fit is not written, nothing is written after it, and who closes hears of it and has
 * everything since his begin taken back. So a frame, a method or a table is there whole or not at all.
 * Pure; any thread. */
#ifndef WIRE_AMQP_OUT_H
#define WIRE_AMQP_OUT_H

#include "base/slice.h"

enum amqp_written {
    AMQP_WRITTEN,
    AMQP_FULL,     /* there is no room: it goes into an emptier buffer */
    AMQP_TOO_LONG, /* a text is longer than its length can say (255 bytes, or 4 GiB): it goes into none */
};

struct amqp_out {
    char *at; /* where the next byte goes */
    char *end;
    enum amqp_written result; /* of all that was written since it was opened or closed last */
};

static inline struct amqp_out amqp_out_of(char *at, size_t room)
{
    return (struct amqp_out){at, at + room, AMQP_WRITTEN};
}

/* Moves over n bytes, which the caller fills. NULL: there are not as many, or something before them failed. */
static inline char *amqp_out_reserve(struct amqp_out *out, size_t n)
{
    char *at = out->at;

    if (out->result == AMQP_WRITTEN && (size_t)(out->end - at) < n)
        out->result = AMQP_FULL;
    if (out->result != AMQP_WRITTEN)
        return NULL;
    out->at = at + n;
    return at;
}

/* Ends what began where out->at was begin. Unless all of it was written it is taken back; out can go on either way. */
static inline enum amqp_written amqp_out_close(struct amqp_out *out, char *begin)
{
    enum amqp_written result = out->result;

    if (result != AMQP_WRITTEN)
        out->at = begin;
    out->result = AMQP_WRITTEN;
    return result;
}

#endif
