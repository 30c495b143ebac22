/* output.c - what a connection writes. See private.h.
 *
 * Frames are put into the output by whoever decides them; the writer takes all of it and writes that, while the next gathers. The
 * body of a large delivery does not go through it: it goes out in pieces as the socket takes them, behind its head, and what
 * gathers meanwhile stands behind it, because nothing may come between the frames of a content on its channel. One that has a file is
 * read as it goes out; in the output there is a note of where it belongs. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "front/amqp/private.h"

/* Bodies with files of their own that wait to be written, with which it counts as full. */
#define STREAMS_MOST 4
/* Deliveries are put into the output until so much is there, and a client that has left so much unread is not read from. */
#define OUTPUT_FULL 65536u
#define OUTPUT_MOST (4 * OUTPUT_FULL)
/* Largest body that is put there whole. */
#define WHOLE_MOST 65536u
/* A frame of a method or a content header that needs more than this is tried with more. */
#define FRAME_ROOM 512u
/* The longest that a client may not read at all while something is to be written to it. */
#define WRITE_US (60 * US_PER_S)

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

static size_t output_len(const struct amqp_output *output)
{
    return output->end - output->start;
}

static void drop_stream(struct amqp_output *output)
{
    struct amqp_stream *stream = output->first;

    output->first = stream->next;
    output->n_streams--;
    stored_body_close(&stream->body);
    free(stream);
}

static void output_free(struct amqp_output *output)
{
    while (output->first)
        drop_stream(output);
    free(output->bytes);
    *output = (struct amqp_output){0};
}

char *amqp_output_room(struct amqp_output *output, size_t n)
{
    size_t len = output_len(output), room = output->room ? output->room : 4096;
    char *bytes;

    if (output->room - output->end >= n)
        return output->bytes + output->end;
    if (output->bytes && output->room - len >= n && output->start >= len) {
        memcpy(output->bytes, output->bytes + output->start, len);
        output->start = 0;
        output->end = len;
        return output->bytes + len;
    }
    while (room < len + n)
        room *= 2;
    bytes = malloc(room);
    if (!bytes)
        return NULL;
    if (output->bytes)
        memcpy(bytes, output->bytes + output->start, len);
    free(output->bytes);
    output->bytes = bytes;
    output->start = 0;
    output->end = len;
    output->room = room;
    return bytes + len;
}

static void no_memory(struct amqp_connection *c)
{
    amqp_drop_connection(c, "no memory");
}

/* A frame into an output, with as much room as it needs. */
static bool put_frame(struct amqp_output *output, uint16_t channel, const struct amqp_method *method,
                      const struct amqp_content *content)
{
    enum amqp_written written = AMQP_FULL;

    for (size_t room = FRAME_ROOM; written == AMQP_FULL; room *= 4) {
        char *at = amqp_output_room(output, room);
        struct amqp_out out;

        if (!at)
            return false;
        out = amqp_out_of(at, output->room - output->end);
        written = method ? amqp_put_method_frame(&out, channel, method)
                         : amqp_put_content_frame(&out, channel, content);
        output->end = (size_t)(out.at - output->bytes);
    }
    return written == AMQP_WRITTEN;
}

void amqp_send(struct amqp_connection *c, uint16_t channel, const struct amqp_method *method)
{
    if (c->broken)
        return;
    if (!put_frame(&c->output, channel, method, NULL))
        no_memory(c);
    amqp_wake_writer(c);
}

/* A body, in frames of what the client takes. */
static bool put_body(struct amqp_output *output, uint16_t channel, struct slice body, size_t most)
{
    while (body.len) {
        struct slice piece = slice_take(&body, body.len < most ? body.len : most);
        char *at = amqp_output_room(output, piece.len + AMQP_FRAME_OVERHEAD);
        struct amqp_out out;

        if (!at)
            return false;
        out = amqp_out_of(at, output->room - output->end);
        amqp_put_body_frame(&out, channel, piece);
        output->end = (size_t)(out.at - output->bytes);
    }
    return true;
}

bool amqp_put_stored(struct amqp_output *output, uint16_t channel, struct stored_body *body)
{
    struct amqp_stream *stream = body->file ? malloc(sizeof *stream) : NULL;

    if (!stream) {
        stored_body_close(body);
        return false;
    }
    *stream = (struct amqp_stream){.body = *body, .channel = channel, .at = output_len(output)};
    body->file = NULL;
    if (output->first)
        output->last->next = stream;
    else
        output->first = stream;
    output->last = stream;
    output->n_streams++;
    return true;
}

void amqp_send_stored(struct amqp_connection *c, uint16_t channel, const struct amqp_method *method,
                      const struct amqp_content *content, struct stored_body *body)
{
    struct amqp_output *output = &c->output;

    if (c->broken)
        stored_body_close(body);
    else if (!put_frame(output, channel, method, NULL) || !put_frame(output, channel, NULL, content) ||
             !amqp_put_stored(output, channel, body))
        no_memory(c);
    amqp_wake_writer(c);
}

void amqp_send_content(struct amqp_connection *c, uint16_t channel, const struct amqp_method *method,
                       const struct amqp_content *content, struct slice body)
{
    struct amqp_output *output = &c->output;

    if (c->broken)
        return;
    if (!put_frame(output, channel, method, NULL) || !put_frame(output, channel, NULL, content) ||
        !put_body(output, channel, body, c->frame_max - AMQP_FRAME_OVERHEAD))
        no_memory(c);
    amqp_wake_writer(c);
}

void amqp_send_message(struct amqp_connection *c, uint16_t channel, const struct amqp_method *method,
                       struct queue_delivery *d, bool counts)
{
    struct amqp_output *output = &c->output;

    if (c->broken)
        return;
    if (!put_frame(output, channel, method, NULL) || !amqp_put_head(output, c, channel, d, counts) ||
        !(d->message.stored.id
              ? amqp_put_stored(output, channel, &d->body)
              : put_body(output, channel, d->message.body, c->frame_max - AMQP_FRAME_OVERHEAD)))
        no_memory(c);
    amqp_wake_writer(c);
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

void amqp_wake_writer(struct amqp_connection *c)
{
    if (c->writer)
        fiber_wake(c->writer);
}

int amqp_wait_drained(struct amqp_connection *c)
{
    int error = 0;

    while (!error && !c->broken &&
           (output_len(&c->output) + output_len(&c->writing) > OUTPUT_MOST ||
            c->output.n_streams + c->writing.n_streams > STREAMS_MOST))
        error = wait_queue_wait(&c->drained, NEVER);
    return error ? error : c->broken ? -EPIPE : 0;
}

/* ---- the writer -------------------------------------------------------------------------------------------------- */

static int write_bytes(struct amqp_connection *c, const void *bytes, size_t n)
{
    struct iovec part = {(void *)(uintptr_t)bytes, n};

    while (part.iov_len) {
        ssize_t written = stream_write(&c->stream, &part, 1, loop_deadline(WRITE_US));

        if (written < 0)
            return (int)written;
        c->sent += (uint64_t)written;
        counter_add(&c->client.at->counters.sent_bytes, (uint64_t)written);
        part.iov_base = (char *)part.iov_base + written;
        part.iov_len -= (size_t)written;
    }
    return 0;
}

/* A body, or a piece of one, in frames. */
static int write_body(struct amqp_connection *c, uint16_t channel, struct slice body)
{
    size_t most = c->frame_max - AMQP_FRAME_OVERHEAD;
    char head[AMQP_FRAME_HEAD], end = AMQP_FRAME_END;
    int error = 0;

    while (!error && body.len) {
        struct slice piece = slice_take(&body, body.len < most ? body.len : most);

        amqp_put_frame_head(head, AMQP_BODY, channel, (uint32_t)piece.len);
        error = write_bytes(c, head, sizeof head);
        if (!error)
            error = write_bytes(c, piece.ptr, piece.len);
        if (!error)
            error = write_bytes(c, &end, 1);
    }
    return error;
}

/* A piece of it in memory. What does not verify is not sent, and cannot be left out: the connection ends. */
static int write_stream(struct amqp_connection *c, struct amqp_stream *stream)
{
    struct body_ref ref = stream->body.ref;
    struct queue_reader *reader = queue_reader_create(c->port, &stream->body, false);
    struct slice piece;
    int error = 0, read = reader ? 1 : -ENOMEM;

    while (!error && read > 0) {
        read = queue_reader_next(reader, &piece);
        if (read > 0)
            error = write_body(c, stream->channel, piece);
    }
    if (read < 0 && read != -ECANCELED && read != -ENOMEM)
        log_line(LOG_ERROR, "amqp: a body (file %llu) cannot be read: %s; run `maitred log check`",
                 (unsigned long long)ref.id, strerror(-read));
    if (read != -ECANCELED)
        queue_reader_free(reader);
    return error ? error : read;
}

/* What has bodies in it that have files of their own. */
static int write_with_streams(struct amqp_connection *c, struct amqp_output *writing)
{
    const char *bytes = writing->bytes + writing->start;
    size_t done = 0;
    int error = 0;

    while (!error && writing->first) {
        size_t at = writing->first->at;

        error = write_bytes(c, bytes + done, at - done);
        done = at;
        if (!error)
            error = write_stream(c, writing->first);
        drop_stream(writing);
    }
    return error ? error : write_bytes(c, bytes + done, output_len(writing) - done);
}

/* All that has gathered. */
static int write_output(struct amqp_connection *c)
{
    struct amqp_output *writing = &c->writing, spare = *writing;
    int error = 0;

    *writing = c->output;
    c->output = spare;
    if (writing->first)
        error = write_with_streams(c, writing);
    else if (output_len(writing))
        error = write_bytes(c, writing->bytes + writing->start, output_len(writing));
    writing->start = writing->end = 0;
    if (writing->room > OUTPUT_MOST)
        output_free(writing);
    if (output_len(&c->output) <= OUTPUT_MOST)
        wait_queue_wake_all(&c->drained);
    return error;
}

int amqp_write_message(struct amqp_connection *c, uint16_t channel, const struct amqp_method *method,
                       struct queue_delivery *d, bool counts)
{
    struct slice body = d->message.body;
    int error;

    if (!put_frame(&c->output, channel, method, NULL) || !amqp_put_head(&c->output, c, channel, d, counts))
        return -ENOMEM;
    if (body.len > WHOLE_MOST) { /* too large to be put into the output */
        error = write_output(c);
        return error ? error : write_body(c, channel, body);
    }
    if (d->message.stored.id)
        return amqp_put_stored(&c->output, channel, &d->body) ? 0 : -ENOMEM;
    return put_body(&c->output, channel, body, c->frame_max - AMQP_FRAME_OVERHEAD) ? 0 : -ENOMEM;
}

static int put_heartbeat(struct amqp_connection *c)
{
    char *at = amqp_output_room(&c->output, AMQP_FRAME_OVERHEAD);
    struct amqp_out out;

    if (!at)
        return -ENOMEM;
    out = amqp_out_of(at, AMQP_FRAME_OVERHEAD);
    amqp_put_heartbeat(&out);
    c->output.end = (size_t)(out.at - c->output.bytes);
    return 0;
}

/* Everything that may be written now. */
static int write_what_there_is(struct amqp_connection *c)
{
    int error = 0;

    while (!error && (output_len(&c->output) || !list_empty(&c->deliveries))) {
        while (!error && output_len(&c->output) < OUTPUT_FULL && !c->output.first &&
               !list_empty(&c->deliveries))
            error = amqp_write_delivery(c);
        if (!error)
            error = write_output(c);
    }
    amqp_send_credit(c);
    return error;
}

/* Rests between pieces of work so long that the client hears from us at least twice within what it was promised. */
void amqp_writer_main(void *arg)
{
    struct amqp_connection *c = arg;
    int error = 0;

    while (!error) {
        uint64_t beat_us = c->heartbeat_us ? loop_now_us() + c->heartbeat_us / 2 : NEVER;

        error = write_what_there_is(c);
        if (error || (c->writer_ends && !output_len(&c->output)))
            break;
        if (output_len(&c->output) || !list_empty(&c->deliveries))
            continue;
        output_free(&c->output); /* a client that is silent costs no buffer */
        output_free(&c->writing);
        error = fiber_park(beat_us);
        if (error == -ETIMEDOUT)
            error = put_heartbeat(c);
    }
    c->broken = true; /* nobody takes what is put into the output now */
    wait_queue_wake_all(&c->drained);
    if (error)
        stream_abort(&c->stream);
    output_free(&c->output);
    output_free(&c->writing);
}
