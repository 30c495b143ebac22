/* publish.c - from basic.publish to a batch for the queue thread. See private.h.
 *
 * A message whose frames stand in one block is not copied: its content header becomes the item of the envelope in place, because a
 * frame's head is as long as an item's. A body in several frames is put together in memory of its own; a large one goes to a file of its
 * own as it comes. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "front/amqp/private.h"
#include "queue/envelope.h"

/* What a head that is written anew takes, by its length. */
#define REWRITTEN_TIMES 6

_Static_assert(AMQP_FRAME_HEAD == ENVELOPE_ITEM_OVERHEAD, "a content header becomes an item in place");

/* ---- the method -------------------------------------------------------------------------------------------------- */

void amqp_publish_begin(struct amqp_channel *channel, const struct amqp_method *method)
{
    struct amqp_connection *c = channel->connection;

    if (method->immediate) {
        amqp_fail_connection(c, AMQP_NOT_IMPLEMENTED, method->id, "immediate=true");
        return;
    }
    if (!amqp_may(channel, ACCESS_WRITE, true, method->exchange, method->id))
        return;
    if (!amqp_is_name(method->exchange) || (!method->exchange.len && !amqp_is_name(method->routing_key))) {
        amqp_fail(channel, AMQP_PRECONDITION_FAILED, method->id, "a name has a NUL in it");
        return;
    }
    channel->publishing = (struct amqp_publishing){
        .active = true,
        .mandatory = method->mandatory,
        .exchange = method->exchange,
        .key = method->routing_key,
        .blocks = {c->block, NULL},
    };
    c->block->refs++;
}

static void return_room(struct amqp_channel *channel)
{
    struct amqp_connection *c = channel->connection;
    struct amqp_publishing *p = &channel->publishing;

    if (!p->room)
        return;
    queue_hold_pass(c->port, &c->hold, p->room);
    queue_batch_return_room(c->port, p->room);
    p->room = 0;
}

void amqp_publish_abandon(struct amqp_channel *channel)
{
    struct amqp_publishing *p = &channel->publishing;

    return_room(channel);
    free(p->body);
    if (p->stored)
        queue_body_end(p->stored);
    amqp_block_release(p->blocks[0]);
    amqp_block_release(p->blocks[1]);
    *p = (struct amqp_publishing){0};
}

/* ---- the content header ------------------------------------------------------------------------------------------ */

/* False: the channel was failed. */
static bool check_content(struct amqp_channel *channel, const struct amqp_content *content, uint64_t *ttl_us)
{
    struct amqp_connection *c = channel->connection;
    struct slice user = content->texts[AMQP_USER_ID];

    *ttl_us = 0;
    if (content->body_bytes > c->message_max) {
        amqp_fail(channel, AMQP_PRECONDITION_FAILED, AMQP_BASIC_PUBLISH,
                  "message size %llu is larger than configured max size %llu",
                  (unsigned long long)content->body_bytes, (unsigned long long)c->message_max);
        return false;
    }
    if (amqp_content_has(content, AMQP_HEADERS) && !amqp_table_is_valid(content->headers)) {
        amqp_fail_connection(c, AMQP_SYNTAX_ERROR, AMQP_BASIC_PUBLISH, "the headers cannot be read: %s",
                             amqp_table_fault(content->headers));
        return false;
    }
    if (amqp_content_has(content, AMQP_USER_ID) && !slice_equal(user, slice_from_text(c->user_name))) {
        amqp_fail(channel, AMQP_PRECONDITION_FAILED, AMQP_BASIC_PUBLISH,
                  "user_id property set to '%.*s' but authenticated user was '%s'", SLICE_ARG(user),
                  c->user_name);
        return false;
    }
    return (!amqp_content_has(content, AMQP_EXPIRATION) ||
            amqp_take_expiration(channel, content->texts[AMQP_EXPIRATION], ttl_us)) &&
           amqp_may_rewrite(channel, content);
}

int amqp_wait_room(struct amqp_connection *c, uint64_t bytes)
{
    return queue_hold_room(c->port, &c->hold, bytes);
}

/* After a wait: whether it is still wanted. What was failed meanwhile gave up what it had then, and has nothing of what came since. */
static bool is_open(struct amqp_channel *channel)
{
    const struct amqp_connection *c = channel->connection;

    if (channel->state == CHANNEL_OPEN && c->state == AMQP_STATE_OPEN && !c->broken)
        return true;
    amqp_publish_abandon(channel);
    return false;
}

/* Counts so many bytes of it as in memory. False: it is not wanted any more, or cannot be. */
static bool hold_room(struct amqp_channel *channel, uint64_t bytes)
{
    struct amqp_connection *c = channel->connection;
    int error;

    amqp_flush(c); /* what is counted now may be what room is waited for */
    error = amqp_wait_room(c, bytes);
    if (!error) {
        channel->publishing.room = bytes;
        return is_open(channel);
    }
    if (error == -ENOBUFS)
        amqp_fail_connection(c, AMQP_RESOURCE_ERROR, AMQP_BASIC_PUBLISH,
                             "too many messages of the connection are not whole");
    else
        amqp_drop_connection(c, "no memory");
    return false;
}

/* Room for a body that comes in pieces. */
static bool make_body(struct amqp_channel *channel, uint64_t bytes)
{
    struct amqp_publishing *p = &channel->publishing;

    if (!hold_room(channel, bytes))
        return false;
    p->body = malloc(bytes);
    if (!p->body)
        amqp_drop_connection(channel->connection, "no memory");
    return p->body != NULL;
}

static void complete(struct amqp_channel *channel, struct slice body);

void amqp_publish_head(struct amqp_channel *channel, struct slice payload)
{
    struct amqp_publishing *p = &channel->publishing;
    struct amqp_connection *c = channel->connection;
    const char *why = "";

    if (amqp_take_content(payload, &p->content, &why) != AMQP_OK) {
        amqp_fail_content(c, payload, why);
        return;
    }
    if (!check_content(channel, &p->content, &p->ttl_us)) {
        amqp_publish_abandon(channel);
        return;
    }
    p->has_content = true;
    p->head = payload;
    p->blocks[1] = c->block;
    c->block->refs++;
    if (p->content.body_bytes == 0)
        complete(channel, SLICE(""));
}

/* ---- a large body ------------------------------------------------------------------------------------------------ */

static void drop_unfinished(struct amqp_connection *c)
{
    amqp_drop_connection(c, "the server ended before a message was whole");
}

/* What came of writing it. False: nothing more is to be done with it. */
static bool is_stored(struct amqp_channel *channel, int error)
{
    struct amqp_connection *c = channel->connection;

    if (error == -ECANCELED) /* it is gone already */
        channel->publishing.stored = NULL;
    if (!is_open(channel))
        return false;
    if (error == -ECANCELED)
        drop_unfinished(c);
    else if (error)
        amqp_fail_connection(c, AMQP_INTERNAL_ERROR, AMQP_BASIC_PUBLISH,
                             "the message's body cannot be written: %s", strerror(-error));
    return !error || is_open(channel);
}

/* A client is not to blame for what the disk takes. -EPIPE: it is not wanted any more. */
static int wait_space(struct amqp_channel *channel)
{
    if (amqp_wait_space(channel->connection) != 0)
        drop_unfinished(channel->connection);
    return is_open(channel) ? 0 : -EPIPE;
}

/* Its file, and memory for a piece of it. */
static bool make_stored(struct amqp_channel *channel)
{
    struct amqp_connection *c = channel->connection;
    struct amqp_publishing *p = &channel->publishing;
    int error;

    if (!hold_room(channel, STORED_PIECE_BYTES))
        return false;
    c->hold.waits = true;
    while ((error = queue_body_create(c->port, p->content.body_bytes, &p->stored)) == -ENOSPC)
        if ((error = wait_space(channel)) != 0)
            break;
    return is_stored(channel, error);
}

static int try_store(struct amqp_publishing *p, struct slice *part, bool finishes)
{
    int error = queue_body_write(p->stored, part);

    return error || !finishes ? error : queue_body_finish(p->stored);
}

static int store(struct amqp_channel *channel, struct slice part, bool finishes)
{
    int error;

    while ((error = try_store(&channel->publishing, &part, finishes)) == -ENOSPC)
        if ((error = wait_space(channel)) != 0)
            break;
    return error;
}

static void store_part(struct amqp_channel *channel, struct slice part)
{
    struct amqp_connection *c = channel->connection;
    struct amqp_publishing *p = &channel->publishing;
    bool stored;

    c->hold.waits = true;
    p->body_len += part.len;
    stored = p->stored || make_stored(channel);
    if (stored)
        stored = is_stored(channel, store(channel, part, p->body_len == p->content.body_bytes));
    c->hold.waits = false;
    if (!stored)
        return;
    amqp_found_space(c);
    c->hold.moved += part.len;
    if (p->body_len < p->content.body_bytes)
        return;
    return_room(channel);
    complete(channel, SLICE(""));
}

/* ---- the body ---------------------------------------------------------------------------------------------------- */

void amqp_publish_body(struct amqp_channel *channel, struct slice payload)
{
    struct amqp_publishing *p = &channel->publishing;
    uint64_t bytes = p->content.body_bytes;

    if (payload.len > bytes - p->body_len) {
        amqp_fail_connection(channel->connection, AMQP_FRAME_ERROR, AMQP_BASIC_PUBLISH,
                             "the body is longer than its header says");
        return;
    }
    if (payload.len == bytes) {
        complete(channel, payload);
        return;
    }
    if (bytes > channel->connection->stored_from) {
        store_part(channel, payload);
        return;
    }
    if (!p->body && !make_body(channel, bytes))
        return;
    channel->connection->hold.moved += payload.len;
    if (payload.len)
        memcpy(p->body + p->body_len, payload.ptr, payload.len);
    p->body_len += payload.len;
    if (p->body_len == bytes)
        complete(channel, slice_of(p->body, bytes));
}

/* ---- one message ------------------------------------------------------------------------------------------------- */

/* The content header as an item of the envelope, in the block that it was read into: where its frame's head was. */
static struct slice head_in_place(struct slice payload)
{
    char *at = (char *)(uintptr_t)payload.ptr - ENVELOPE_ITEM_OVERHEAD;
    struct envelope_item item = {.tag = ENVELOPE_AMQP, .value = payload};

    envelope_put_head(at, &item);
    return slice_of(at, ENVELOPE_ITEM_OVERHEAD + payload.len);
}

/* A name in the connection's virtual host, in memory of the batch's. ptr NULL: no memory. */
static struct slice qualify(const struct amqp_connection *c, struct slice name, char **owned)
{
    char *copy;

    if (!c->prefix.len || !name.len)
        return name;
    copy = malloc(c->prefix.len + name.len);
    if (!copy)
        return (struct slice){0};
    memcpy(copy, c->prefix.ptr, c->prefix.len);
    memcpy(copy + c->prefix.len, name.ptr, name.len);
    free(*owned);
    *owned = copy;
    return slice_of(copy, c->prefix.len + name.len);
}

/* What the message says of how it is to be sent on, which is taken out of it: see properties.c. False: no memory. */
static bool set_head(struct amqp_channel *channel, struct queue_publication *publication,
                     struct amqp_published *published)
{
    struct amqp_publishing *p = &channel->publishing;

    publication->priority = p->content.priority;
    publication->ttl_us = p->ttl_us;
    if (!amqp_needs_rewriting(&p->content)) {
        publication->head = head_in_place(p->head);
        return true;
    }
    return amqp_rewrite(channel, &p->content, publication, &published->owned[1]);
}

static struct amqp_batch *batch_for(struct amqp_channel *channel)
{
    if (!channel->transacts)
        return amqp_batch_of(channel->connection);
    if (!channel->transaction)
        channel->transaction = amqp_batch_create(channel->connection);
    return channel->transaction;
}

static bool hold_blocks(struct amqp_batch *batch, const struct amqp_publishing *p, struct amqp_block *last)
{
    return amqp_batch_hold(batch, p->blocks[0]) && amqp_batch_hold(batch, p->blocks[1]) &&
           amqp_batch_hold(batch, last);
}

static bool is_known(const struct amqp_channel *channel, struct slice exchange)
{
    return !exchange.len ||
           slice_equal(exchange, slice_of(channel->known_exchange, channel->known_exchange_len));
}

void amqp_know_exchange(struct amqp_channel *channel, struct slice exchange)
{
    if (exchange.len > sizeof channel->known_exchange)
        return;
    memcpy(channel->known_exchange, exchange.ptr, exchange.len);
    channel->known_exchange_len = exchange.len;
}

/* In a transaction the client hears at once of an exchange that is not there. False: the channel ends. */
static bool look_first(struct amqp_channel *channel, struct slice exchange)
{
    if (!channel->transacts || is_known(channel, exchange))
        return true;
    if (!amqp_exchange_takes(channel, exchange) || !channel->publishing.active)
        return false;
    amqp_know_exchange(channel, exchange);
    return true;
}

static void free_owned(struct amqp_published *published)
{
    for (size_t i = 0; i < sizeof published->owned / sizeof published->owned[0]; i++)
        free(published->owned[i]);
    if (published->stored)
        queue_body_end(published->stored);
}

/* A message that is whole. False: no memory, or it asks for what cannot be, and the channel was failed. */
static bool make(struct amqp_channel *channel, struct slice body, struct queue_publication *publication,
                 struct amqp_published *published)
{
    struct amqp_connection *c = channel->connection;
    struct amqp_publishing *p = &channel->publishing;

    *publication = (struct queue_publication){.body = body};
    *published = (struct amqp_published){
        .channel = channel->number,
        .generation = channel->generation,
        .mandatory = p->mandatory,
        .doubtful = !channel->transacts && (p->mandatory || !is_known(channel, p->exchange)),
        .owned = {p->body},
        .stored = p->stored,
    };
    if (p->stored)
        publication->stored = queue_body_ref(p->stored);
    p->body = NULL;
    p->stored = NULL;
    publication->exchange = qualify(c, p->exchange, &published->owned[2]);
    publication->key = p->exchange.len ? p->key : qualify(c, p->key, &published->owned[2]);
    return publication->exchange.ptr && publication->key.ptr && set_head(channel, publication, published);
}

/* What waits for a commit is not under way: it counts by itself, nobody waits for it, and there is an end to it. */
static void keep(struct amqp_channel *channel, struct amqp_batch *batch)
{
    struct queue_port *port = channel->connection->port;

    port->kept += batch->memory - batch->kept;
    batch->kept = batch->memory;
    if (port->kept > port->bytes_most)
        amqp_fail(
            channel, AMQP_PRECONDITION_FAILED, AMQP_BASIC_PUBLISH,
            "there is no room for what transactions have not committed; %llu bytes of it are this one's",
            (unsigned long long)batch->kept);
}

static void complete(struct amqp_channel *channel, struct slice body)
{
    struct amqp_connection *c = channel->connection;
    struct amqp_publishing *p = &channel->publishing;
    struct queue_publication publication;
    struct amqp_published published;
    struct amqp_batch *batch;
    bool made;

    if (!look_first(channel, p->exchange))
        return;
    made = make(channel, body, &publication, &published);
    batch = made ? batch_for(channel) : NULL;
    if (batch && hold_blocks(batch, p, c->block) && amqp_batch_publish(batch, &publication, &published)) {
        if (channel->confirms)
            batch->published[batch->batch.n_publications - 1].confirm = channel->next_confirm++;
        channel->n_doubtful += published.doubtful;
        channel->counts[AMQP_COUNT_PUBLISH]++;
        batch->memory += p->room + (published.owned[1] ? REWRITTEN_TIMES * p->head.len : 0);
        if (channel->transacts) {
            return_room(channel);
            keep(channel, batch);
        } else if (p->room) {
            queue_hold_pass(c->port, &c->hold, p->room);
            batch->batch.counted += p->room;
            p->room = 0;
        }
    } else {
        free_owned(&published);
        if (channel->state == CHANNEL_OPEN)
            amqp_drop_connection(c, "no memory");
    }
    amqp_publish_abandon(channel);
}
