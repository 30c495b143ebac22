/* body.c - see body.h. */
#include "http/body.h"

#include <errno.h>

#include "fiber/splice.h"

#define TRAILER_FIELDS_MAX 64

void body_reader_init(struct body_reader *reader, struct http_input *in, struct http_body body,
                      struct pace *pace, struct arena *arena)
{
    *reader = (struct body_reader){
        .in = in,
        .pace = pace,
        .arena = arena,
        .kind = body.kind,
        .left = body.kind == BODY_LENGTH ? body.length : 0,
        .done = body.kind == BODY_NONE || (body.kind == BODY_LENGTH && body.length == 0),
    };
}

static ssize_t fill(struct body_reader *reader)
{
    uint64_t start_us = loop_now_us();
    ssize_t n;

    if (reader->flush)
        output_flush(reader->flush); /* its error stays with it */
    n = input_fill(reader->in, pace_deadline(reader->pace));

    if (n > 0)
        pace_moved(reader->pace, start_us, (uint64_t)n);
    return n;
}

/* More bytes, where the end of the stream is not the end of the body. */
static int fill_or_reset(struct body_reader *reader)
{
    ssize_t n = fill(reader);

    if (n == 0)
        return -ECONNRESET;
    return n < 0 ? (int)n : 0;
}

static int bad(struct body_reader *reader, const char *why)
{
    reader->why = why;
    return -EBADMSG;
}

static int read_trailers(struct body_reader *reader)
{
    int error = 0;

    reader->trailers.max = TRAILER_FIELDS_MAX;
    reader->trailers.at = arena_alloc(reader->arena, TRAILER_FIELDS_MAX * sizeof *reader->trailers.at);
    if (!reader->trailers.at)
        return -ENOMEM;
    while (!error) {
        const char *why;
        int64_t n = http1_parse_trailers(input_bytes(reader->in), &reader->trailers, &why);

        if (n < 0)
            return bad(reader, why);
        if (n > 0) {
            input_take(reader->in, (size_t)n);
            reader->done = true;
            return 0;
        }
        error = fill_or_reset(reader);
        if (error ==
            -ENOBUFS) /* little room behind a large head; slices of the head would be void after growing */
            return bad(reader, "a trailer section over the room that is left");
    }
    return error;
}

static int read_chunked(struct body_reader *reader, struct slice *piece)
{
    for (;;) {
        struct slice in = input_bytes(reader->in);
        size_t before = in.len;
        const char *why;
        enum http1_chunk result = http1_chunked_take(&reader->chunked, &in, piece, &why);
        int error;

        input_take(reader->in, before - in.len);
        switch (result) {
        case CHUNK_DATA:
            return 1;
        case CHUNK_BAD:
            return bad(reader, why);
        case CHUNK_TRAILER:
            return read_trailers(reader);
        case CHUNK_MORE:
            error = fill_or_reset(reader);
            if (error)
                return error;
        }
    }
}

static int read_plain(struct body_reader *reader, struct slice *piece)
{
    if (input_empty(reader->in)) {
        ssize_t n = fill(reader);

        if (n < 0)
            return (int)n;
        if (n == 0 && reader->kind == BODY_LENGTH)
            return -ECONNRESET;
        if (n == 0) {
            reader->done = true;
            return 0;
        }
    }
    *piece = input_bytes(reader->in);
    if (reader->kind == BODY_LENGTH) {
        if (piece->len > reader->left)
            piece->len = (size_t)reader->left;
        reader->left -= piece->len;
        reader->done = reader->left == 0;
    }
    input_take(reader->in, piece->len);
    return 1;
}

static bool over_limit(const struct body_reader *reader)
{
    return reader->bytes_max && reader->bytes > reader->bytes_max;
}

int body_read(struct body_reader *reader, struct slice *piece)
{
    int result;

    if (reader->done)
        return 0;
    if (reader->why) /* what follows may look like framing again */
        return -EBADMSG;
    if (over_limit(reader))
        return -EFBIG;
    result = input_open(reader->in);
    if (result)
        return result;
    result = reader->kind == BODY_CHUNKED ? read_chunked(reader, piece) : read_plain(reader, piece);
    if (result == 1)
        reader->bytes += piece->len;
    return over_limit(reader) ? -EFBIG : result;
}

int body_write(struct body_writer *writer, struct slice piece)
{
    if (writer->kind == BODY_CHUNKED && piece.len) { /* a chunk of nothing would be the end */
        char *head = output_room(writer->out, HTTP1_CHUNK_HEAD_MAX);

        if (!head)
            return writer->out->error;
        output_filled(writer->out, http1_chunk_head(head, piece.len));
        output_send(writer->out, piece);
        return output_put(writer->out, SLICE("\r\n"));
    }
    return output_send(writer->out, piece);
}

/* How much of a body must be left for splice to pay. */
#define SPLICE_BYTES_MIN (64u * 1024)
/* How much is moved at once; how much is waited for, so that a body that flows wakes us seldom; and how long: one that
 * trickles is passed on as it comes. */
#define MOVE_BYTES (1024u * 1024)
#define GATHER_BYTES (512u * 1024)
#define GATHER_US (5 * US_PER_MS)

struct move {
    struct body_reader *reader;
    struct http_output *out;
    struct splice_pipe pipe;
    size_t low_water; /* of the reader's stream */
};

static bool may_splice(const struct body_reader *reader, const struct body_writer *writer)
{
    return reader->kind == BODY_LENGTH && writer->kind != BODY_CHUNKED && reader->left >= SPLICE_BYTES_MIN &&
           input_empty(reader->in) && splice_possible(reader->in->stream, writer->out->stream);
}

static void set_low_water(struct move *move, size_t n)
{
    if (move->low_water != n)
        splice_low_water(move->reader->in->stream, n);
    move->low_water = n;
}

/* Everything in the pipe goes out; an error stays with the output. */
static void empty_pipe(struct move *move)
{
    struct http_output *out = move->out;

    while (move->pipe.held && !out->error) {
        uint64_t start_us = loop_now_us();
        ssize_t moved = splice_out(&move->pipe, out->stream, pace_deadline(out->pace));

        if (moved < 0) {
            output_fail(out, (int)moved);
            return;
        }
        pace_moved(out->pace, start_us, (uint64_t)moved);
        out->written += (uint64_t)moved;
    }
}

/* The next bytes into the pipe. */
static int fill_pipe(struct move *move)
{
    struct body_reader *reader = move->reader;
    uint64_t start_us = loop_now_us();
    size_t want = reader->left < MOVE_BYTES ? (size_t)reader->left : MOVE_BYTES;
    ssize_t moved;

    if (want < move->low_water)
        set_low_water(move, want);
    moved = splice_in(&move->pipe, reader->in->stream, want,
                      move->low_water > 1 ? loop_deadline(GATHER_US) : pace_deadline(reader->pace));
    if (moved == -ETIMEDOUT && move->low_water > 1) {
        set_low_water(move, 1);
        moved = splice_in(&move->pipe, reader->in->stream, want, pace_deadline(reader->pace));
    }
    if (moved <= 0)
        return moved < 0 ? (int)moved : -ECONNRESET;
    pace_moved(reader->pace, start_us, (uint64_t)moved);
    reader->in->received += (uint64_t)moved;
    reader->left -= (uint64_t)moved;
    reader->bytes += (uint64_t)moved;
    reader->done = reader->left == 0;
    if (move->low_water == 1 && moved >= SPLICE_BYTES_MIN / 2 && reader->left >= SPLICE_BYTES_MIN)
        set_low_water(move, reader->left < GATHER_BYTES ? (size_t)reader->left : GATHER_BYTES);
    return 0;
}

static int splice_rest(struct move *move)
{
    int error = 0;

    output_flush(move->out);
    while (!error && !move->reader->done && !move->out->error) {
        error = fill_pipe(move);
        if (!error)
            empty_pipe(move);
    }
    set_low_water(move, 1);
    return error;
}

int body_move(struct body_reader *reader, struct body_writer *writer)
{
    struct move move = {.reader = reader, .out = writer->out, .low_water = 1};
    struct slice piece = {0};
    int result;

    while ((result = body_read(reader, &piece)) > 0) {
        if (body_write(writer, piece) != 0)
            return 0;
        if (!may_splice(reader, writer) || splice_pipe_take(&move.pipe) != 0)
            continue;
        result = splice_rest(&move);
        splice_pipe_give(&move.pipe);
        return result;
    }
    return result;
}

int body_write_end(struct body_writer *writer, const struct http_fields *trailers)
{
    if (writer->kind != BODY_CHUNKED)
        return writer->out->error;
    output_put(writer->out, SLICE("0\r\n"));
    for (unsigned i = 0; trailers && i < trailers->count; i++) {
        output_put(writer->out, trailers->at[i].name);
        output_put(writer->out, SLICE(": "));
        output_put(writer->out, trailers->at[i].value);
        output_put(writer->out, SLICE("\r\n"));
    }
    return output_put(writer->out, SLICE("\r\n"));
}
