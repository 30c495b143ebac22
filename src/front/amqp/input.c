/* input.c - what a connection reads: blocks of bytes, frames out of them, and batches of what they ask for. See private.h.
 *
 * A block is read into until it is full; what is published out of it stays there until it is durable, and is copied only into the
 * log. A connection that is silent has no block. */
#include <errno.h>
#include <stdlib.h>

#include "front/amqp/private.h"

#define BLOCK_BYTES_MIN 4096u
#define BLOCK_BYTES_MAX 65536u
/* Batches of a connection that are under way; it reads no more meanwhile. */
#define BATCHES_MOST 32
/* Counted for each publish beside its own bytes. */
#define PUBLICATION_BYTES (sizeof(struct queue_publication) + sizeof(struct amqp_published))

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

struct amqp_block *amqp_block_create(size_t room)
{
    struct amqp_block *block = malloc(sizeof *block + room);

    if (block)
        *block = (struct amqp_block){.refs = 1, .room = room};
    return block;
}

void amqp_block_release(struct amqp_block *block)
{
    if (block && --block->refs == 0)
        free(block);
}

/* A new block with what is not parsed of the old one, and room for at least n bytes from there. */
static int next_block(struct amqp_connection *c, size_t n)
{
    size_t rest = c->block ? c->block->len - c->at : 0, room = c->block_bytes;
    struct amqp_block *block;

    if (room < BLOCK_BYTES_MIN)
        room = BLOCK_BYTES_MIN;
    if (room < n)
        room = n;
    block = amqp_block_create(room);
    if (!block)
        return -ENOMEM;
    if (rest)
        memcpy(block->bytes, c->block->bytes + c->at, rest);
    block->len = rest;
    amqp_block_release(c->block);
    c->block = block;
    c->at = 0;
    return 0;
}

/* Blocks grow with what comes at once. */
static void adapt(struct amqp_connection *c, size_t room, size_t got)
{
    if (got == room && c->block_bytes < BLOCK_BYTES_MAX)
        c->block_bytes = c->block_bytes < BLOCK_BYTES_MIN ? BLOCK_BYTES_MIN * 2 : c->block_bytes * 2;
    else if (got < BLOCK_BYTES_MIN / 4)
        c->block_bytes = BLOCK_BYTES_MIN;
}

static int read_some(struct amqp_connection *c, uint64_t deadline_us)
{
    size_t room = c->block->room - c->block->len;
    ssize_t n = stream_read(&c->stream, c->block->bytes + c->block->len, room, deadline_us);

    if (n <= 0)
        return n == 0 ? -ECONNRESET : (int)n;
    c->received += (uint64_t)n;
    counter_add(&c->client.at->counters.received_bytes, (uint64_t)n);
    c->block->len += (size_t)n;
    adapt(c, room, (size_t)n);
    return 0;
}

/* Before more is read: what was read has left, and is not too much for the queue or for the client's own reading. */
static int settle(struct amqp_connection *c)
{
    int error;

    amqp_flush(c);
    error = amqp_wait_drained(c);
    c->hold.waits = c->stuck != NULL;
    while (!error && c->stuck)
        error = amqp_retry_stuck(c);
    c->hold.waits = false;
    while (!error && c->n_batches > BATCHES_MOST)
        error = wait_queue_wait(&c->batch_back, NEVER);
    return error ? error : amqp_wait_room(c, 0);
}

int amqp_need_bytes(struct amqp_connection *c, size_t n, uint64_t deadline_us)
{
    int error = 0;

    while (!error && (!c->block || c->block->len - c->at < n)) {
        uint64_t before_us = loop_now_us();

        error = c->port ? settle(c) : 0;
        if (deadline_us != NEVER)
            deadline_us += loop_now_us() - before_us; /* it was not listened to */
        if (!error && c->block && c->at == c->block->len) {
            amqp_block_release(c->block);
            c->block = NULL;
        }
        if (!error && !c->block)
            error = stream_wait_readable(&c->stream, deadline_us);
        if (!error && (!c->block || c->block->len == c->block->room || c->block->room - c->at < n))
            error = next_block(c, n);
        if (!error)
            error = read_some(c, deadline_us);
    }
    return error;
}

/* How many bytes the frame that begins here has, as far as that is known. */
static size_t frame_bytes(const struct slice *in)
{
    uint32_t size;

    if (in->len < AMQP_FRAME_HEAD)
        return AMQP_FRAME_HEAD;
    memcpy(&size, in->ptr + 3, sizeof size);
    return (size_t)be32toh(size) + AMQP_FRAME_OVERHEAD;
}

int amqp_next_frame(struct amqp_connection *c, struct amqp_frame *frame, uint64_t deadline_us)
{
    const struct amqp_frame_limits limits = {c->frame_max, c->frame_max};
    const char *why = "";

    for (;;) {
        struct slice in = c->block ? slice_of(c->block->bytes + c->at, c->block->len - c->at) : SLICE("");
        size_t before = in.len;
        int error;

        switch (amqp_take_frame(&in, &limits, frame, &why)) {
        case AMQP_OK:
            c->at += before - in.len;
            return 0;
        case AMQP_BAD:
            amqp_fail_connection(c, AMQP_FRAME_ERROR, 0, "%s", why);
            return -EPROTO;
        case AMQP_MORE:
            break;
        }
        error = amqp_need_bytes(c, frame_bytes(&in), deadline_us);
        if (error)
            return error;
    }
}

/* ---- batches ----------------------------------------------------------------------------------------------------- */

struct amqp_batch *amqp_batch_create(struct amqp_connection *c)
{
    struct amqp_batch *batch = calloc(1, sizeof *batch);

    if (!batch)
        return NULL;
    batch->connection = c;
    batch->port = c->port;
    batch->batch.done = amqp_batch_done;
    list_init(&batch->list);
    return batch;
}

void amqp_batch_free(struct amqp_batch *batch)
{
    batch->port->kept -= batch->kept;
    for (unsigned i = 0; i < batch->batch.n_publications; i++) {
        free(batch->published[i].owned[0]);
        free(batch->published[i].owned[1]);
        free(batch->published[i].owned[2]);
        if (batch->published[i].stored)
            queue_body_end(batch->published[i].stored);
    }
    for (unsigned i = 0; i < batch->n_blocks; i++)
        amqp_block_release(batch->blocks[i]);
    free(batch->blocks);
    free(batch->published);
    free(batch->batch.publications);
    free(batch->batch.settlements);
    free(batch->batch.credits);
    free(batch);
}

/* Room for one more in an array. False: no memory. */
static bool grow(void *array, unsigned n, unsigned *room, size_t bytes_each)
{
    unsigned more = *room ? *room * 2 : 16;
    void *grown;

    if (n < *room)
        return true;
    grown = realloc(*(void **)array, more * bytes_each);
    if (!grown)
        return false;
    *(void **)array = grown;
    *room = more;
    return true;
}

struct amqp_batch *amqp_batch_of(struct amqp_connection *c)
{
    if (!c->batch)
        c->batch = amqp_batch_create(c);
    return c->batch;
}

bool amqp_batch_hold(struct amqp_batch *batch, struct amqp_block *block)
{
    if (batch->n_blocks && batch->blocks[batch->n_blocks - 1] == block)
        return true;
    if (!grow(&batch->blocks, batch->n_blocks, &batch->blocks_room, sizeof *batch->blocks))
        return false;
    batch->blocks[batch->n_blocks++] = block;
    batch->memory += block->room;
    block->refs++;
    return true;
}

bool amqp_batch_publish(struct amqp_batch *batch, const struct queue_publication *publication,
                        const struct amqp_published *published)
{
    struct queue_batch *b = &batch->batch;
    unsigned room = batch->publications_room;

    if (!grow(&b->publications, b->n_publications, &room, sizeof *b->publications) ||
        !grow(&batch->published, b->n_publications, &batch->publications_room, sizeof *batch->published))
        return false;
    batch->published[b->n_publications] = *published;
    b->publications[b->n_publications++] = *publication;
    b->bytes += publication->body.len + publication->head.len + PUBLICATION_BYTES;
    batch->memory += PUBLICATION_BYTES;
    return true;
}

bool amqp_batch_settle(struct amqp_batch *batch, struct queue_consumer *consumer, struct message_ref ref,
                       enum queue_verdict verdict)
{
    struct queue_batch *b = &batch->batch;

    if (!grow(&b->settlements, b->n_settlements, &batch->settlements_room, sizeof *b->settlements))
        return false;
    b->settlements[b->n_settlements++] = (struct queue_settlement){consumer, ref, verdict};
    return true;
}

bool amqp_batch_credit(struct amqp_batch *batch, struct queue_consumer *consumer, uint64_t bytes)
{
    struct queue_batch *b = &batch->batch;

    if (!grow(&b->credits, b->n_credits, &batch->credits_room, sizeof *b->credits))
        return false;
    b->credits[b->n_credits++] = (struct queue_credit){consumer, bytes};
    return true;
}

void amqp_send_batch(struct amqp_connection *c, struct amqp_batch *batch)
{
    list_push_back(&c->batches, &batch->list);
    c->n_batches++;
    queue_batch_send(c->port, &batch->batch);
}

void amqp_flush(struct amqp_connection *c)
{
    struct amqp_batch *batch = c->batch;

    c->batch = NULL;
    if (batch)
        amqp_send_batch(c, batch);
}
