/* body.h - the body of a message as a series of pieces, whatever its framing; reading and writing.
 *
 * Memory is bounded by the input's block. Threads: the stream's. */
#ifndef HTTP_BODY_H
#define HTTP_BODY_H

#include "base/arena.h"
#include "http/input.h"
#include "http/output.h"
#include "wire/http1.h"

struct body_reader {
    struct http_input *in;     /* borrowed */
    struct pace *pace;         /* borrowed */
    struct arena *arena;       /* borrowed; for trailers */
    struct http_output *flush; /* before any wait for more; borrowed; NULL: nothing */
    enum http_body_kind kind;
    uint64_t left;      /* BODY_LENGTH */
    uint64_t bytes_max; /* over this: -EFBIG; 0: any */
    uint64_t bytes;     /* read so far */
    struct http1_chunked chunked;
    struct http_fields trailers; /* after the end of a chunked body */
    bool done;                   /* the end was read, and the next message may follow */
    const char *why;             /* of -EBADMSG */
};

void body_reader_init(struct body_reader *reader, struct http_input *in, struct http_body body,
                      struct pace *pace, struct arena *arena);

/* The next piece; it stays good until the next call. 1, 0 at the end, or a negative errno: -EBADMSG (framing),
 * -EFBIG, -ECONNRESET (the stream ended before the body), -ETIMEDOUT, or the stream's. */
int body_read(struct body_reader *reader, struct slice *piece);
/* The framing of what we write. BODY_UNTIL_CLOSE writes the bytes as they are. */
struct body_writer {
    struct http_output *out; /* borrowed */
    enum http_body_kind kind;
};

int body_write(struct body_writer *writer, struct slice piece);
/* Moves the whole of the body that is left from reader to writer, but for body_write_end; a long one of known
 * length without copying it, where both are sockets. 0, or reader's error; a writer's error stays in its output. */
int body_move(struct body_reader *reader, struct body_writer *writer);
/* trailers may be NULL; they are written when the framing has room for them. */
int body_write_end(struct body_writer *writer, const struct http_fields *trailers);

#endif
