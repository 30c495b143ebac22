/* http_kit.h - what the tests of src/http share: a connection in memory with its two ends, ours and the peer's.
 *
 * The peer says and hears without waiting, so that most tests are one fiber that plays both sides in turn.
 * Include after fiber_kit.h. */
#ifndef HTTP_KIT_H
#define HTTP_KIT_H

#include <stdlib.h>

#include "base/slab.h"
#include "fiber/stream.h"

#define WIRE_BYTES (256u * 1024)
#define HEARD_MAX (512u * 1024)

struct wire {
    struct stream ours, theirs;
    char *heard; /* what we have said so far, as the peer has it; ends in a NUL */
    size_t n_heard;
    bool ended; /* we have finished, and the peer has seen it */
};

/* room: bytes each way that the wire holds. */
static inline void wire_open(struct wire *wire, size_t room)
{
    memset(wire, 0, sizeof *wire);
    wire->heard = calloc(1, HEARD_MAX);
    CHECK(wire->heard != NULL);
    CHECK_EQUAL(stream_memory_pair(&wire->ours, &wire->theirs, room), 0);
}

/* Closes both ends; theirs may be closed already (see wire_hang_up). */
static inline void wire_close(struct wire *wire)
{
    stream_close(&wire->ours);
    if (wire->theirs.kind)
        stream_close(&wire->theirs);
    free(wire->heard);
}

static inline void say_bytes(struct wire *wire, const void *bytes, size_t n)
{
    CHECK_EQUAL(stream_write_all(&wire->theirs, bytes, n, NEVER), 0);
}

static inline void say(struct wire *wire, const char *text)
{
    say_bytes(wire, text, strlen(text));
}

/* The peer has finished, but still listens. */
static inline void say_end(struct wire *wire)
{
    stream_shut_down(&wire->theirs);
}

/* The peer is gone: what we write from now on fails. */
static inline void wire_hang_up(struct wire *wire)
{
    stream_close(&wire->theirs);
    wire->theirs.kind = NULL;
}

/* Adds what has come to wire->heard. */
static inline const char *hear(struct wire *wire)
{
    while (!wire->ended && !stream_is_quiet(&wire->theirs)) {
        ssize_t n =
            stream_read(&wire->theirs, wire->heard + wire->n_heard, HEARD_MAX - 1 - wire->n_heard, NEVER);

        if (n <= 0) {
            wire->ended = n == 0;
            break;
        }
        wire->n_heard += (size_t)n;
        wire->heard[wire->n_heard] = '\0';
    }
    return wire->heard;
}

/* The same, and forgets it. */
static inline void forget(struct wire *wire)
{
    hear(wire);
    wire->n_heard = 0;
    *wire->heard = '\0';
}

#define CHECK_TEXT(text, expected) kit_check_text((text), (expected), __FILE__, __LINE__)

static inline bool kit_check_text(const char *text, const char *expected, const char *file, int line)
{
    bool same = strcmp(text, expected) == 0;

    if (!same && atomic_fetch_add(&kit_failures, 1) < 20)
        fprintf(stderr, "%s:%d: it is\n<<%s>>\ninstead of\n<<%s>>\n", file, line, text, expected);
    return same;
}

#define CHECK_SLICE(s, expected) CHECK(slice_equal((s), slice_from_text(expected)))

/* Bytes that tell their place. */
static inline char *pattern(size_t n)
{
    char *bytes = malloc(n + 1);

    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)('!' + (i * 7 + i / 93) % 93);
    bytes[n] = '\0';
    return bytes;
}

#endif
