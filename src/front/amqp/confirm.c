/* confirm.c - what became of what was published: confirms, returns, a disk without room, transactions. See private.h.
 *
 * Batches come back in the order in which they were sent, so that a confirm may speak for all before it. */
#include <errno.h>

#include "base/clock.h"
#include "front/amqp/private.h"
#include "queue/envelope.h"

/* How long to wait before the disk is asked again for room. */
#define STUCK_US (100 * US_PER_MS)

/* ---- what became of them ----------------------------------------------------------------------------------------- */

static void send_return(struct amqp_connection *c, const struct amqp_published *published,
                        const struct queue_publication *p)
{
    struct slice head = envelope_find(p->head, ENVELOPE_AMQP);
    struct amqp_method method = {
        .id = AMQP_BASIC_RETURN,
        .reply_code = AMQP_NO_ROUTE,
        .reply_text = slice_from_text(amqp_reply_name(AMQP_NO_ROUTE)),
        .exchange = amqp_unqualify(c, p->exchange),
        .routing_key = p->exchange.len ? p->key : amqp_unqualify(c, p->key),
    };
    struct amqp_content content;
    struct stored_body body;
    const char *why;

    if (amqp_take_content(head, &content, &why) != AMQP_OK)
        return;
    if (!p->stored.id)
        amqp_send_content(c, published->channel, &method, &content, p->body);
    else if (queue_body_open(c->port, p->stored, &body) == 0)
        amqp_send_stored(c, published->channel, &method, &content, &body);
    else
        amqp_drop_connection(c, "the body of a message that is returned cannot be opened");
}

/* Confirms of one channel that follow each other go out as one. */
struct confirming {
    struct amqp_connection *c;
    uint64_t generation, last;
    uint16_t channel;
    unsigned n;
};

static void send_confirms(struct confirming *s)
{
    if (s->n)
        amqp_send(s->c, s->channel,
                  &(struct amqp_method){.id = AMQP_BASIC_ACK, .delivery_tag = s->last, .multiple = s->n > 1});
    s->n = 0;
}

static void confirm(struct confirming *s, const struct amqp_published *p)
{
    if (s->n && (s->generation != p->generation || s->last + 1 != p->confirm))
        send_confirms(s);
    s->channel = p->channel;
    s->generation = p->generation;
    s->last = p->confirm;
    s->n++;
}

static void refuse(struct confirming *s, const struct amqp_published *p)
{
    send_confirms(s);
    amqp_send(s->c, p->channel, &(struct amqp_method){.id = AMQP_BASIC_NACK, .delivery_tag = p->confirm});
}

/* One that was never routed anywhere is confirmed all the same: there is nothing to keep. */
static bool is_taken(enum publish_result result)
{
    return result == PUBLISH_OK || result == PUBLISH_SAME || result == PUBLISH_UNROUTABLE;
}

/* Of one that was doubtful: what becomes of it is known. */
static void be_sure(struct amqp_channel *channel, const struct queue_publication *p)
{
    channel->n_doubtful--;
    if (is_taken(p->result))
        amqp_know_exchange(channel, amqp_unqualify(channel->connection, p->exchange));
}

static void count_answer(struct amqp_channel *channel, const struct amqp_published *published,
                         const struct queue_publication *p)
{
    bool unroutable = p->result == PUBLISH_UNROUTABLE;

    channel->counts[AMQP_COUNT_RETURN_UNROUTABLE] += unroutable && published->mandatory;
    channel->counts[AMQP_COUNT_DROP_UNROUTABLE] += unroutable && !published->mandatory;
    channel->n_answered += published->confirm != 0;
    channel->counts[AMQP_COUNT_CONFIRM] += published->confirm && is_taken(p->result);
}

static void answer_one(struct confirming *s, const struct amqp_published *published,
                       const struct queue_publication *p)
{
    struct amqp_channel *channel = amqp_channel_find(s->c, published->channel);

    if (!channel || channel->generation != published->generation)
        return;
    if (published->doubtful)
        be_sure(channel, p);
    if (channel->state != CHANNEL_OPEN)
        return;
    if (p->result == PUBLISH_NO_EXCHANGE) {
        send_confirms(s);
        amqp_fail(channel, AMQP_NOT_FOUND, AMQP_BASIC_PUBLISH, "no exchange '%.*s' in vhost '%s'",
                  SLICE_ARG(amqp_unqualify(s->c, p->exchange)), s->c->virtual_host);
        return;
    }
    if (p->result == PUBLISH_INTERNAL) {
        send_confirms(s);
        amqp_fail(channel, AMQP_ACCESS_REFUSED, AMQP_BASIC_PUBLISH,
                  "cannot publish to internal exchange '%.*s' in vhost '%s'",
                  SLICE_ARG(amqp_unqualify(s->c, p->exchange)), s->c->virtual_host);
        return;
    }
    if (p->result == PUBLISH_UNROUTABLE && published->mandatory)
        send_return(s->c, published, p);
    count_answer(channel, published, p);
    if (!published->confirm)
        return;
    if (is_taken(p->result))
        confirm(s, published);
    else
        refuse(s, published);
}

static bool has_no_space(const struct queue_batch *batch)
{
    for (unsigned i = 0; i < batch->n_publications; i++)
        if (batch->publications[i].result == PUBLISH_NO_SPACE)
            return true;
    return false;
}

static void answer(struct amqp_connection *c, const struct amqp_batch *batch)
{
    struct confirming s = {.c = c};

    for (unsigned i = 0; i < batch->batch.n_publications; i++)
        answer_one(&s, &batch->published[i], &batch->batch.publications[i]);
    send_confirms(&s);
}

/* Answers it, unless the disk had no room for some of it. */
static void take_back(struct amqp_connection *c, struct amqp_batch *batch)
{
    if (has_no_space(&batch->batch)) {
        c->stuck = batch;
        return;
    }
    answer(c, batch);
    amqp_batch_free(batch);
}

void amqp_batch_done(struct queue_batch *base)
{
    struct amqp_batch *batch = container_of(base, struct amqp_batch, batch);
    struct amqp_connection *c = batch->connection;

    if (!c) {
        amqp_batch_free(batch);
        return;
    }
    list_remove(&batch->list);
    c->n_batches--;
    wait_queue_wake_all(&c->batch_back); /* they run later */
    if (batch->waits) {
        batch->back = true;
        return;
    }
    if (c->stuck) /* a confirm speaks for all before it */
        list_push_back(&c->behind, &batch->list);
    else
        take_back(c, batch);
}

/* ---- a disk that is full ----------------------------------------------------------------------------------------- */

static void tell_blocked(struct amqp_connection *c, bool blocked)
{
    if (c->blocked == blocked)
        return;
    c->blocked = blocked;
    if (c->takes_blocked)
        amqp_send(c, 0,
                  &(struct amqp_method){.id = blocked ? AMQP_CONNECTION_BLOCKED : AMQP_CONNECTION_UNBLOCKED,
                                        .reason = SLICE("low on disk")});
}

int amqp_wait_space(struct amqp_connection *c)
{
    if (c->stuck)
        return amqp_retry_stuck(c);
    tell_blocked(c, true);
    return fiber_sleep_until(loop_deadline(STUCK_US));
}

void amqp_found_space(struct amqp_connection *c)
{
    if (!c->stuck)
        tell_blocked(c, false);
}

/* Waits until a batch is back, which was sent to be waited for. */
static int wait_back(struct amqp_connection *c, struct amqp_batch *batch)
{
    int error = 0;

    while (!error && !batch->back)
        error = wait_queue_wait(&c->batch_back, NEVER);
    if (batch->back)
        return 0;
    batch->waits = false; /* it comes back to nobody */
    return error;
}

/* Those that found no room alone; the others are durable, and keep what came of them. */
int amqp_retry_stuck(struct amqp_connection *c)
{
    struct amqp_batch *batch = c->stuck;
    struct list *at;
    int error;

    tell_blocked(c, true);
    error = fiber_sleep_until(loop_deadline(STUCK_US));
    if (error)
        return error;
    batch->waits = batch->batch.again = true;
    batch->back = false;
    amqp_send_batch(c, batch);
    error = wait_back(c, batch);
    c->stuck = NULL;
    if (error)
        return error;
    batch->waits = false;
    take_back(c, batch);
    while (!c->stuck && (at = list_pop_front(&c->behind)))
        take_back(c, container_of(at, struct amqp_batch, list));
    if (!c->stuck)
        tell_blocked(c, false);
    return 0;
}

bool amqp_publish_told(struct amqp_channel *channel)
{
    struct amqp_connection *c = channel->connection;
    int error = 0;

    amqp_flush(c);
    while (!error && channel->n_doubtful && channel->state == CHANNEL_OPEN && c->state == AMQP_STATE_OPEN)
        error = c->stuck ? amqp_retry_stuck(c) : wait_queue_wait(&c->batch_back, NEVER);
    return !error && channel->state == CHANNEL_OPEN && c->state == AMQP_STATE_OPEN;
}

/* ---- confirms and transactions ----------------------------------------------------------------------------------- */

void amqp_confirm_select(struct amqp_channel *channel, const struct amqp_method *method)
{
    if (channel->transacts) {
        amqp_fail(channel, AMQP_PRECONDITION_FAILED, method->id, "cannot switch from tx to confirm mode");
        return;
    }
    if (!channel->confirms)
        channel->next_confirm = 1;
    channel->confirms = true;
    if (!method->no_wait)
        amqp_send(channel->connection, channel->number, &(struct amqp_method){.id = AMQP_CONFIRM_SELECT_OK});
}

/* Sends what the transaction did, and waits until that is durable. */
static void commit(struct amqp_channel *channel)
{
    struct amqp_connection *c = channel->connection;
    struct amqp_batch *batch = channel->transaction;
    int error = 0;

    channel->transaction = NULL;
    if (batch) {
        batch->waits = true;
        amqp_flush(c);
        amqp_send_batch(c, batch);
        if (wait_back(c, batch) != 0)
            return;
        amqp_unacked_resolve(channel, true);
        answer(c, batch);
        for (unsigned i = 0; i < batch->batch.n_publications; i++)
            if (!is_taken(batch->batch.publications[i].result))
                error = -EIO;
        amqp_batch_free(batch);
    }
    if (error)
        amqp_fail(channel, AMQP_PRECONDITION_FAILED, AMQP_TX_COMMIT, "not all messages were accepted");
    else if (channel->state == CHANNEL_OPEN)
        amqp_send(c, channel->number, &(struct amqp_method){.id = AMQP_TX_COMMIT_OK});
}

static void rollback(struct amqp_channel *channel)
{
    if (channel->transaction)
        amqp_batch_free(channel->transaction);
    channel->transaction = NULL;
    amqp_unacked_resolve(channel, false);
}

void amqp_tx_take(struct amqp_channel *channel, const struct amqp_method *method)
{
    struct amqp_connection *c = channel->connection;

    if (method->id == AMQP_TX_SELECT && channel->confirms) {
        amqp_fail(channel, AMQP_PRECONDITION_FAILED, method->id, "cannot switch from confirm to tx mode");
        return;
    }
    if ((method->id == AMQP_TX_COMMIT || method->id == AMQP_TX_ROLLBACK) && !channel->transacts) {
        amqp_fail(channel, AMQP_PRECONDITION_FAILED, method->id, "channel is not transactional");
        return;
    }
    switch (method->id) {
    case AMQP_TX_SELECT:
        channel->transacts = true;
        amqp_send(c, channel->number, &(struct amqp_method){.id = AMQP_TX_SELECT_OK});
        break;
    case AMQP_TX_COMMIT:
        commit(channel);
        break;
    case AMQP_TX_ROLLBACK:
        rollback(channel);
        amqp_send(c, channel->number, &(struct amqp_method){.id = AMQP_TX_ROLLBACK_OK});
        break;
    default:
        amqp_fail_unknown(channel, method);
        break;
    }
}
