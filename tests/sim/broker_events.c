/* broker_events.c - what the broker says, and whether it may. See broker_world.h. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "sim/broker_world.h"

static char seen[BODY_MAX], stored[BODY_MAX];

bool entry_is_beside(const struct entry *o, const struct entry *e)
{
    return o->queue == e->queue && o->queue_id == e->queue_id;
}

/* One whose delay is over waits only once broker_run has seen that. */
static bool waits_now(const struct entry *e)
{
    return e->state == WAITS || (e->state == DELAYED && e->due_high <= w.now_us && !w.taker);
}

/* It leaves what waits, and was the first: of those, if it dies, that did not come from other queues that made room for it. By key
 * others may be passed over. */
static void check_first(const struct entry *e, const char *what, bool dies)
{
    for (size_t i = 0; !queue_options(e->queue)->order_by.len && i < w.m.n; i++) {
        const struct entry *o = &w.m.entries[i];

        sim_check(!entry_is_beside(o, e) || !waits_now(o) || !entry_is_before(&w.m, o, e) ||
                      (dies && o->position >= log_durable(w.log)),
                  "message %llu is %s before %llu", (unsigned long long)e->number, what,
                  (unsigned long long)o->number);
    }
}

static void check_order(const struct entry *e)
{
    const struct model_queue *q = &w.m.queues[e->queue];

    check_first(e, "delivered", false);
    for (size_t i = 0; q->options.order_by.len && i < w.m.n && w.m.entries[i].number < e->number; i++) {
        const struct entry *o = &w.m.entries[i];

        if (!entry_is_beside(o, e) || o->state == GONE || !entry_is_before(&w.m, o, e))
            continue;
        if (o->key && o->key == e->key && !e->delivered && !e->blocks) /* else it is the one on its way */
            sim_check(o->state != WAITS && o->state != FLIES && !(o->state == DELAYED && o->blocks) &&
                          o->state != DYING,
                      "message %llu is delivered before %llu of its key", (unsigned long long)e->number,
                      (unsigned long long)o->number);
    }
    for (size_t i = 0; q->options.order_by.len && i < w.m.n; i++) {
        const struct entry *o = &w.m.entries[i];

        sim_check(!e->key || o == e || o->key != e->key || o->queue != e->queue ||
                      o->queue_id != e->queue_id || o->state != FLIES,
                  "two messages of a key are in flight");
    }
}

/* Nobody who comes before it could have got it. */
static void check_rank(const struct model_consumer *c)
{
    sim_check(consumer_is_active(&w.m, c), "delivered to who is not the active one");
    for (int i = 0; i < CONSUMERS_MAX && !w.m.queues[c->queue].options.single_active; i++) {
        const struct model_consumer *o = &w.m.consumers[i];

        sim_check(o == c || !consumer_counts(&w.m, o, c->queue) || o->options.rate > 0 ||
                      o->options.priority <= c->options.priority || !consumer_has_room(&w.m, o, w.now_us),
                  "delivered, and consumer %d comes first", i);
    }
}

/* That it may be given a message, which it is now. */
static void check_consumer(struct model_consumer *c, uint32_t transit)
{
    double most;

    sim_check(!w.m.queues[c->queue].paused, "delivered while paused");
    if (w.taker != c) {
        sim_check(w.running && !c->options.on_demand && !c->stopped, "delivered unasked");
        sim_check(consumer_has_room(&w.m, c, w.now_us), "over prefetch, window or transit, or held");
        check_rank(c);
    }
    c->in_flight++;
    c->n++;
    c->transit += transit;
    if (c->options.rate <= 0 || w.taker == c)
        return;
    most = c->options.burst + c->options.rate * ((double)(w.now_us - c->since_us) / US_PER_S + 0.1) + 1;
    sim_check((double)c->n <= most, "%llu deliveries where %.1f are allowed", (unsigned long long)c->n, most);
}

static void check_death(const struct entry *e, struct slice value, const struct model_death *wanted)
{
    struct death death;

    sim_check(death_parse(value, &death), "a death does not parse");
    sim_check(death.reason == wanted->reason && slice_equal(death.queue, queue_slice(wanted->queue)),
              "message %llu died of %s in %.*s", (unsigned long long)e->number,
              message_end_names[death.reason], SLICE_ARG(death.queue));
}

static void check_deaths(const struct entry *e, struct slice head)
{
    struct envelope_item item;
    unsigned n = 0, n_first = 0;

    while (envelope_take(&head, &item)) {
        if (item.tag == ENVELOPE_DEATH && n < e->n_deaths)
            check_death(e, item.value, &e->deaths[n]);
        if (item.tag == ENVELOPE_FIRST_DEATH)
            check_death(e, item.value, &e->first_death);
        n += item.tag == ENVELOPE_DEATH;
        n_first += item.tag == ENVELOPE_FIRST_DEATH;
    }
    sim_check(n == e->n_deaths && n_first == (n > 0), "message %llu has %u deaths, not %u",
              (unsigned long long)e->number, n, e->n_deaths);
}

void entry_check_content(const struct entry *e, const struct message *message)
{
    struct slice key = envelope_field(message->head, KEY_FIELD),
                 body = stored_read(w.broker, message, stored);

    content_fill(seen, e->bytes, e->content);
    sim_check(message->stored.id == e->body && (!body.ptr || slice_equal(body, slice_of(seen, e->bytes))),
              "message %llu has another body", (unsigned long long)e->number);
    sim_check(e->key ? key.len == 1 && key.ptr[0] == (char)('0' + e->key) : !key.ptr,
              "message %llu has another key", (unsigned long long)e->number);
    sim_check(slice_equal(message->routing_key, e->keys[0]) &&
                  (envelope_find(message->head, ENVELOPE_COPIES).ptr != NULL) == (e->n_keys > 1),
              "message %llu has another routing key, or more or fewer", (unsigned long long)e->number);
    check_deaths(e, message->head);
}

static void deliver(void *arg, struct broker_consumer *handle, const struct broker_delivery *d)
{
    struct model_consumer *c = broker_consumer_owner(handle);
    struct entry *e = entry_must_find(d->ref, "delivery");
    struct log_buffer buffer = {0};
    struct log_record record;
    struct message message;
    int error;

    (void)arg;
    sim_tell("  %llu of %s (key %u) is delivered to consumer %d, attempt %u", (unsigned long long)e->number,
             queue_name(e->queue), e->key, (int)(c - w.m.consumers), d->attempt);
    sim_check(w.running || w.taker == c, "a delivery outside of broker_run");
    sim_check(c->there && c->queue_id == d->ref.queue, "delivered to another queue's consumer");
    sim_check(e->state == WAITS || (e->state == DELAYED && e->due_low <= w.now_us),
              "message %llu is delivered, and is %u until %llu", (unsigned long long)e->number, e->state,
              (unsigned long long)e->due_low);
    sim_check(e->position < log_durable(w.log), "message %llu is delivered before it is durable",
              (unsigned long long)e->number);
    sim_check(d->attempt == e->attempts + 1, "attempt %u of message %llu, after %u", d->attempt,
              (unsigned long long)e->number, e->attempts);
    sim_check(d->redelivered || !e->delivered, "not marked as redelivered");
    sim_check(d->transit >= e->bytes, "bytes");
    check_order(e);
    check_consumer(c, d->transit);
    error = log_read(w.log, d->position, 0, &buffer, &record);
    if (error)
        sim_check(w.failing, "reading message %llu: %s", (unsigned long long)e->number, strerror(-error));
    else
        sim_check(message_parse(record.payload, &message), "a message does not parse");
    if (!error)
        entry_check_content(e, &message);
    log_buffer_free(&buffer);
    e->state = FLIES;
    e->delivered = true;
    e->consumer = (int)(c - w.m.consumers);
    e->deadline_us = w.now_us + queue_options(e->queue)->ack_timeout_us;
    sim_check(d->deadline_us == e->deadline_us, "deadline");
    w.deliveries++;
    sim_count("deliveries");
}

void entry_leave_consumer(struct entry *e)
{
    if (e->state == FLIES)
        w.m.consumers[e->consumer].in_flight--;
}

/* Of a queue, by index: what is delivered next; NULL: nothing waits. */
struct entry *queue_first(int queue)
{
    struct entry *first = NULL;

    for (size_t i = 0; i < w.m.n; i++) {
        struct entry *e = &w.m.entries[i];

        if (e->queue == queue && e->queue_id == w.m.queues[queue].id && waits_now(e) &&
            (!first || entry_is_before(&w.m, e, first)))
            first = e;
    }
    return first;
}

/* It is to leave for its dead letters, and may have to stay, because they cannot take it. */
bool entry_may_be_stuck(const struct entry *e, enum message_end end)
{
    int targets[QUEUES_MAX], n = entry_dead_targets(e, end, targets);

    if (w.failing || log_failure(w.log) || (n && world_may_fail(-ENOSPC)))
        return true;
    for (int i = 0; i < n; i++)
        if (queue_options(targets[i])->max_length || queue_options(targets[i])->max_bytes)
            return true;
    return false;
}

uint64_t queue_excess(int queue)
{
    const struct broker_queue_options *o = queue_options(queue);
    uint64_t bytes, n = queue_waiting(&w.m, queue, &bytes);

    return o->nothing_waits                            ? n
           : o->max_length && n > o->max_length        ? n - o->max_length
           : o->max_bytes && n && bytes > o->max_bytes ? 1
                                                       : 0;
}

void entry_check_takers(const struct entry *e, const char *what)
{
    const struct model_queue *q = &w.m.queues[e->queue];

    for (int i = 0; i < CONSUMERS_MAX && !q->paused && !q->options.order_by.len; i++)
        sim_check(w.m.consumers[i].queue != e->queue || !consumer_is_active(&w.m, &w.m.consumers[i]) ||
                      w.m.consumers[i].options.rate > 0 ||
                      !consumer_has_room(&w.m, &w.m.consumers[i], w.now_us),
                  "message %llu %s, and consumer %d has room", (unsigned long long)e->number, what, i);
}

/* The head of a queue that was over its limit, after it was offered. */
static void check_trimmed(const struct entry *e)
{
    const struct broker_queue_options *o = queue_options(e->queue);
    uint64_t bytes, n = queue_waiting(&w.m, e->queue, &bytes);

    sim_check(o->nothing_waits || (o->max_length && n > o->max_length) ||
                  (o->max_bytes && bytes + 300 * n > o->max_bytes),
              "message %llu is dropped, and nothing is over", (unsigned long long)e->number);
    sim_check(e->position < log_durable(w.log), "message %llu is dropped before it was offered",
              (unsigned long long)e->number);
    check_first(e, "dropped", true);
    entry_check_takers(e, "is dropped");
    sim_count("trimmed");
}

/* One more message was appended: the numbers of all are known, but for the one that is being published. */
void world_take_number(void)
{
    uint64_t next = broker_next_number(w.broker);

    sim_check(next == w.m.next_number + 1 || (w.publishing && next == w.m.next_number + 2),
              "message %llu, and %llu is next", (unsigned long long)next - 1,
              (unsigned long long)w.m.next_number);
    w.m.next_number = next;
}

/* It takes the place of old, which ended so. */
static void go_on(const struct entry *old, int target, enum message_end end)
{
    uint64_t number = broker_next_number(w.broker) - 1;
    struct entry *e = entry_add(&w.m, number);

    *e = *old;
    e->number = number;
    e->queue = (uint8_t)target;
    e->queue_id = w.m.queues[target].id;
    e->state = WAITS;
    e->blocks = e->delivered = e->confirmed = false;
    e->attempts = 0;
    e->queued_us = w.now_us;
    e->position = log_end(w.log) - 1; /* its record ends there */
    e->gone_low = e->gone_high = e->delivered_place = e->attempts_place = 0;
    e->attempts_logged = 0;
    if (end == END_MOVED)
        e->keys[0] = queue_slice(target);
    else
        entry_die(e, old->queue, end);
}

static void ended(void *arg, const struct broker_ending *ending)
{
    int targets[QUEUES_MAX] = {w.moving_to}, n = ending->end == END_MOVED;
    struct entry *e, old;

    (void)arg;
    if (!w.broker) /* it is being opened: of a queue that goes with the start */
        return;
    e = entry_must_find(ending->ref, "end");
    sim_tell("  %llu of %s: %s", (unsigned long long)e->number, queue_name(e->queue),
             message_end_names[ending->end]);
    entry_leave_consumer(e);
    if (ending->end != END_MOVED && ending->end != END_ACKED && ending->end != END_PURGED &&
        !(ending->end == END_MAXLEN && queue_options(e->queue)->overflow == LIMIT_DROP_OLDEST))
        n = entry_dead_targets(e, ending->end, targets);
    if (ending->end == END_MAXLEN && queue_options(e->queue)->overflow == LIMIT_DROP_HEAD)
        check_trimmed(e);
    if (ending->end == END_EXPIRED) {
        sim_check(entry_expires_us(&w.m, e) <= w.now_us, "message %llu expires too early",
                  (unsigned long long)e->number);
        sim_check(e->position < log_durable(w.log), "message %llu expires before it was offered",
                  (unsigned long long)e->number);
        check_first(e, "expired", true);
    }
    e->state = GONE;
    e->gone_low = log_end(w.log);
    e->gone_high = n ? log_end(w.log) : BEHIND_ALL;
    sim_count(message_end_names[ending->end]);
    if (n > 1)
        sim_count("dead to several");
    if (!n)
        return;
    old = *e;
    world_take_number();
    for (int i = 0; i < n; i++)
        go_on(&old, targets[i], ending->end);
}

static void cancelled(void *arg, struct broker_consumer *handle)
{
    const struct model_consumer *c = broker_consumer_owner(handle);

    (void)arg;
    sim_check(broker_consumer_ended(handle) && c->there && !c->stopped && !c->options.on_demand,
              "who hears of a queue's end is no consumer of it");
    w.n_cancelled++;
}

static void late(void *arg, struct broker_consumer *handle)
{
    const struct model_consumer *c = broker_consumer_owner(handle);

    (void)arg;
    sim_check(w.running && c->options.tells_late && w.n_late, "nobody is late, or wants to hear of it");
    w.n_late--;
    sim_count("told of being late");
}

const struct broker_events world_events = {
    .deliver = deliver, .ended = ended, .cancelled = cancelled, .late = late};
