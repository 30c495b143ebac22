/* settle.c - what a client has and has not acknowledged, by tag, and what it says of it. See private.h.
 *
 * Tags grow: what is there is an array in their order, of which the oldest are taken off as they are settled. */
#include <stdlib.h>

#include "front/amqp/private.h"

/* ---- what the client has ----------------------------------------------------------------------------------------- */

static struct amqp_unacked *unacked_front(struct amqp_channel *channel)
{
    while (channel->unacked_start < channel->unacked_end &&
           !channel->unacked[channel->unacked_start].consumer)
        channel->unacked_start++;
    if (channel->unacked_start == channel->unacked_end)
        channel->unacked_start = channel->unacked_end = 0;
    return channel->unacked_end ? &channel->unacked[channel->unacked_start] : NULL;
}

/* False: no memory. */
bool amqp_unacked_push(struct amqp_channel *channel, const struct amqp_unacked *unacked)
{
    size_t n = channel->unacked_end - channel->unacked_start, room = channel->unacked_room;
    struct amqp_unacked *grown;

    if (channel->unacked_end == room && channel->unacked_start > room / 2) {
        memmove(channel->unacked, channel->unacked + channel->unacked_start, n * sizeof *grown);
        channel->unacked_start = 0;
        channel->unacked_end = n;
    }
    if (channel->unacked_end == room) {
        room = room ? room * 2 : 16;
        grown = realloc(channel->unacked, room * sizeof *grown);
        if (!grown)
            return false;
        channel->unacked = grown;
        channel->unacked_room = room;
    }
    channel->unacked[channel->unacked_end++] = *unacked;
    channel->n_unacked++;
    unacked->consumer->n_unacked++;
    if (channel->connection->pass)
        amqp_pass_took(channel->connection->pass);
    return true;
}

/* The place of the first tag that is not below it. */
static size_t unacked_find(const struct amqp_channel *channel, uint64_t tag)
{
    size_t low = channel->unacked_start, high = channel->unacked_end;

    if (low < high && channel->unacked[low].tag >= tag)
        return low;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (channel->unacked[middle].tag < tag)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* ---- acknowledgements -------------------------------------------------------------------------------------------- */

static struct amqp_batch *batch_for(struct amqp_channel *channel)
{
    if (!channel->transacts)
        return amqp_batch_of(channel->connection);
    if (!channel->transaction)
        channel->transaction = amqp_batch_create(channel->connection);
    return channel->transaction;
}

/* Off what the client has. */
static void forget(struct amqp_channel *channel, struct amqp_unacked *unacked)
{
    struct amqp_consumer *consumer = unacked->consumer;

    unacked->consumer = NULL;
    channel->n_unacked--;
    consumer->n_unacked--;
    if (channel->connection->pass)
        amqp_pass_gave(channel->connection->pass, 1);
    amqp_consumer_release(consumer);
}

/* False: the connection ends. */
static bool settle_one(struct amqp_channel *channel, struct amqp_unacked *unacked, enum queue_verdict verdict)
{
    struct amqp_batch *batch = batch_for(channel);

    if (!batch || !amqp_batch_settle(batch, unacked->consumer->consumer, unacked->ref, verdict)) {
        amqp_drop_connection(channel->connection, "no memory");
        return false;
    }
    channel->counts[AMQP_COUNT_ACK] += verdict == VERDICT_ACK;
    if (channel->transacts)
        unacked->pending = true;
    else
        forget(channel, unacked);
    return true;
}

static bool is_settleable(const struct amqp_channel *channel, size_t at)
{
    return at < channel->unacked_end && channel->unacked[at].consumer && !channel->unacked[at].pending;
}

/* multiple: and all before it; with tag 0 all there are. */
void amqp_settle(struct amqp_channel *channel, uint32_t method, uint64_t tag, bool multiple,
                 enum queue_verdict verdict)
{
    bool all = multiple && tag == 0;
    size_t at = all ? channel->unacked_end : unacked_find(channel, tag);

    if (!all && (!is_settleable(channel, at) || channel->unacked[at].tag != tag)) {
        amqp_fail(channel, AMQP_PRECONDITION_FAILED, method, "unknown delivery tag %llu",
                  (unsigned long long)tag);
        return;
    }
    for (size_t i = multiple ? channel->unacked_start : at; i < at + !all; i++)
        if (is_settleable(channel, i) && !settle_one(channel, &channel->unacked[i], verdict))
            return;
    unacked_front(channel);
}

void amqp_unacked_resolve(struct amqp_channel *channel, bool commit)
{
    for (size_t i = channel->unacked_start; i < channel->unacked_end; i++) {
        struct amqp_unacked *unacked = &channel->unacked[i];

        if (!unacked->consumer || !unacked->pending)
            continue;
        unacked->pending = false;
        if (commit)
            forget(channel, unacked);
    }
    unacked_front(channel);
}

/* Everything that the client has comes once more. */
void amqp_recover(struct amqp_channel *channel, const struct amqp_method *method)
{
    struct amqp_connection *c = channel->connection;

    if (!method->requeue) {
        amqp_fail_connection(c, AMQP_NOT_IMPLEMENTED, method->id, "requeue=false");
        return;
    }
    for (size_t i = channel->unacked_start; i < channel->unacked_end; i++)
        if (is_settleable(channel, i) && !settle_one(channel, &channel->unacked[i], VERDICT_RETRY))
            return;
    unacked_front(channel);
    if (method->id == AMQP_BASIC_RECOVER)
        amqp_send(c, channel->number, &(struct amqp_method){.id = AMQP_BASIC_RECOVER_OK});
}
