/* broker_publish.c - steps that publish, and where messages must be then. See broker_world.h. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "sim/broker_world.h"

static char body[BODY_MAX];

static bool is_over(int queue, uint64_t more)
{
    const struct broker_queue_options *o = queue_options(queue);
    uint64_t bytes, n = queue_waiting(&w.m, queue, &bytes);

    return o->overflow != LIMIT_DROP_HEAD && ((o->max_length && n + 1 > o->max_length) ||
                                              (o->max_bytes && bytes + more + 300 * (n + 1) > o->max_bytes));
}

/* It came into a queue that had room for it. */
static void check_limit(int queue)
{
    sim_check(queue_options(queue)->overflow == LIMIT_DROP_HEAD || !queue_excess(queue),
              "%s has %llu more than it may", queue_name(queue), (unsigned long long)queue_excess(queue));
}

static void put_in(struct entry *message, const int *targets, int n)
{
    for (int i = 0; i < n; i++) {
        struct entry *e = entry_add(&w.m, message->number);

        *e = *message;
        e->queue = (uint8_t)targets[i];
        e->queue_id = w.m.queues[targets[i]].id;
    }
}

/* What a queue refused goes to its dead letters, as the last message that was appended, if they took it. */
static void note_buried(const struct entry *refused, int queue)
{
    struct entry dead = *refused;
    int targets[QUEUES_MAX], n;
    bool happened = broker_next_number(w.broker) == w.m.next_number + 1;

    dead.queue = (uint8_t)queue;
    n = entry_dead_targets(&dead, END_MAXLEN, targets);
    sim_check(happened ? n > 0 : !n || entry_may_be_stuck(&dead, END_MAXLEN),
              "message refused by %s: buried %u", queue_name(queue), happened);
    if (!happened)
        return;
    sim_count("buried");
    world_take_number();
    dead.number = w.m.next_number - 1;
    dead.position = log_end(w.log) - 1;
    dead.state = WAITS;
    dead.due_low = dead.due_high = 0;
    entry_die(&dead, queue, END_MAXLEN);
    put_in(&dead, targets, n);
}

/* Whether it has one message more than is known. */
static bool has_more(int queue)
{
    struct broker_queue_view view;
    uint64_t bytes, n = queue_waiting(&w.m, queue, &bytes);

    sim_check(broker_find_queue(w.broker, queue_slice(queue), &view), "queue %s is lost", queue_name(queue));
    n = view.numbers.ready + view.numbers.delayed + view.numbers.blocked - n;
    sim_check(n <= 1, "%s has %llu messages too many", queue_name(queue), (unsigned long long)n);
    return n == 1;
}

/* Which of the queues took it, where some did not. Those come behind; how many did. */
static int sort_out(const struct entry *message, int *targets, int n)
{
    for (int i = 0; i < n; i++)
        if (!has_more(targets[i])) {
            int full = targets[i];

            sim_check(is_over(full, message->bytes), "%s is not full", queue_name(full));
            targets[i--] = targets[--n];
            targets[n] = full;
        }
    return n;
}

/* A message that some of its queues have, or all, or none. */
static void note_published(const struct broker_published *published, int *targets, int n, bool partial,
                           bool full, struct entry *message)
{
    int n_all = n;

    /* what was buried stands behind it; its queues are known, and left out */
    if (full && published->position == 0)
        n = 0;
    if (n && w.m.next_number <= published->number)
        w.m.next_number = published->number + 1;
    message->number = published->number;
    message->position = published->position;
    for (int i = 0; full && i < n_all; i++)
        if (targets[i] == BURYING_QUEUE && queue_options(BURYING_QUEUE)->overflow == LIMIT_BURY_NEW &&
            (partial ? !has_more(BURYING_QUEUE) : slice_equal(published->full, queue_slice(BURYING_QUEUE))))
            note_buried(message, BURYING_QUEUE);
    if (full && n) {
        n = sort_out(message, targets, n);
        sim_check(n > 0 && n < n_all, "%d of %d queues took it", n, n_all);
        sim_count("partial");
    }
    put_in(message, targets, n);
    for (int i = 0; i < n; i++)
        check_limit(targets[i]);
}

/* Which gets most of a deep story's messages, so that it spills into the index. */
static int first_queue(void)
{
    int queue = 0;

    while (queue < QUEUES_MAX - 1 && !w.m.queues[queue].there)
        queue++;
    return queue;
}

/* Where a message goes: to a queue by its name, or to an exchange; more keys into room. */
static void random_routing(struct rng *rng, bool small, struct model_routing *r, struct broker_publication *p,
                           char *more_keys)
{
    bool to_exchange = rng_below(rng, small ? 16 : 2) == 0;

    r->exchange = to_exchange ? (int)rng_below(rng, EXCHANGES_MAX) : -1;
    r->headers = (int)rng_below(rng, (unsigned)n_headers);
    r->n_keys = 1 + (rng_below(rng, 4) == 0 ? 1 + (int)rng_below(rng, KEYS_ROUTED_MAX - 1) : 0);
    p->exchange = to_exchange ? slice_from_text(exchange_name(r->exchange)) : SLICE("");
    p->more_keys.ptr = more_keys;
    for (int i = 0; i < r->n_keys; i++) {
        r->keys[i] = to_exchange                            ? routing_key((int)rng_below(rng, 10))
                     : small && i == 0 && rng_below(rng, 8) ? queue_slice(first_queue())
                                                            : queue_slice((int)rng_below(rng, QUEUES_MAX));
        if (i == 0)
            continue;
        *more_keys++ = (char)r->keys[i].len;
        memcpy(more_keys, r->keys[i].ptr, r->keys[i].len);
        more_keys += r->keys[i].len;
    }
    p->key = r->keys[0];
    p->more_keys.len = (size_t)(more_keys - p->more_keys.ptr);
}

static struct entry random_message(struct rng *rng, bool small)
{
    static const uint64_t ttl_most[] = {1, 100 * US_PER_MS, 20 * US_PER_S};
    uint64_t delay_us = rng_below(rng, 5) == 0 ? (1 + rng_below(rng, 20000)) * US_PER_MS : 0;

    return (struct entry){
        .bytes = (uint32_t)rng_below(rng, small               ? 20
                                          : rng_below(rng, 4) ? 200
                                                              : BODY_MAX),
        .key = (uint8_t)rng_below(rng, KEYS_MAX + 1),
        .content = rng_next(rng),
        .priority = (uint8_t)rng_below(rng, 5),
        .ttl_us = rng_below(rng, small ? 64 : 5) ? 0 : 1 + rng_below(rng, ttl_most[rng_below(rng, 3)]),
        .state = delay_us ? DELAYED : WAITS,
        .due_low = w.now_us + delay_us,
        .due_high = w.now_us + delay_us,
        .queued_us = w.now_us,
    };
}

/* Its fields, and what it is routed by, into room. */
static struct slice put_head(char *room, const struct entry *message, struct slice more_keys, bool amqp)
{
    char key_text[1] = {(char)('0' + message->key)}, *end = room;

    if (message->key)
        end = envelope_put(end, &(struct envelope_item){ENVELOPE_FIELD, KEY_FIELD, slice_of(key_text, 1)});
    if (more_keys.len)
        end = envelope_put(end, &(struct envelope_item){.tag = ENVELOPE_COPIES, .value = more_keys});
    end = headers_put(end, message->headers, amqp);
    return slice_of(room, (size_t)(end - room));
}

/* What is buried of a message could push the message out of its other queues, before the model knows of it. */
static bool may_push_itself_out(const struct entry *message, const int *targets, int n)
{
    struct entry dead = *message;
    int graves[QUEUES_MAX], n_graves;

    if (queue_options(BURYING_QUEUE)->overflow != LIMIT_BURY_NEW)
        return false;
    dead.queue = BURYING_QUEUE;
    n_graves = entry_dead_targets(&dead, END_MAXLEN, graves);
    for (int i = 0; i < n_graves; i++) {
        if (queue_options(graves[i])->overflow == LIMIT_DEAD_LETTER)
            return true;
        for (int k = 0; k < n; k++)
            if (targets[k] == graves[i])
                return true;
    }
    return false;
}

static void publish_one(struct rng *rng, bool small)
{
    struct model_routing routing;
    struct entry message = random_message(rng, small);
    int targets[QUEUES_MAX], n;
    uint64_t client_key = rng_below(rng, 6) == 0 ? 1 + rng_below(rng, 5) : 0, window_us = 30 * US_PER_S;
    char head[512], more_keys[64], client_text[24] = "";
    struct broker_publication p = {.body = slice_of(body, message.bytes),
                                   .delay_us = message.due_low - w.now_us,
                                   .priority = message.priority,
                                   .ttl_us = message.ttl_us,
                                   .partial = rng_below(rng, 3) == 0};
    struct broker_published published;
    struct model_key *known = NULL;
    enum publish_result result;

    random_routing(rng, small, &routing, &p, more_keys);
    message.headers = (uint8_t)routing.headers;
    memcpy(message.keys, routing.keys, sizeof message.keys);
    message.n_keys = (uint8_t)routing.n_keys;
    n = model_route(&w.m, &routing, targets);
    p.partial &= !may_push_itself_out(&message, targets, n);
    if (rng_below(rng, small ? 100 : 6) == 0) {
        if (!world_store(rng, &message, &p.stored))
            return;
        p.body = SLICE("");
    }
    content_fill(body, message.bytes, message.content);
    p.head = put_head(head, &message, p.more_keys, rng_below(rng, 2));
    if (client_key) {
        client_text[0] = (char)('a' + client_key);
        p.idempotency = slice_of(client_text, 1);
        p.idempotency_window_us = window_us;
    }
    w.publishing = true;
    result = broker_publish(w.broker, &p, &published, w.now_us);
    w.publishing = false;
    if (p.stored.id)
        world_stored(rng);
    if (client_key && published.address)
        known = key_find(&w.m, published.address, client_key, w.now_us);
    switch (result) {
    case PUBLISH_OK:
        sim_tell("  %llu is published to %d queues, %u bytes, key %u, delay %llu ms, priority %u, ttl %llu",
                 (unsigned long long)published.number, n, message.bytes, message.key,
                 (unsigned long long)(p.delay_us / US_PER_MS), message.priority,
                 (unsigned long long)message.ttl_us);
        sim_check(n > 0, "published to nobody");
        if (routing.exchange >= 0)
            sim_count(n > 1 ? "routed to several" : "routed to one");
        sim_check(!known, "a message with a key that is known is stored again");
        sim_check(published.number + 1 == broker_next_number(w.broker), "another one was the last");
        note_published(&published, targets, n, p.partial, false, &message);
#ifdef MAITRED_PLANT_EARLY_CONFIRM /* the publisher hears yes before it is on disk */
        for (int i = 0; i < n; i++)
            w.m.entries[w.m.n - 1 - (size_t)i].confirmed = true;
#endif
        if (client_key)
            key_add(&w.m, &(struct model_key){client_key, published.number, w.now_us + window_us,
                                              published.position, published.address});
        sim_count("published");
        break;
    case PUBLISH_SAME:
        sim_check(known && known->number == published.number, "taken for another message");
        sim_count("same");
        break;
    case PUBLISH_NO_EXCHANGE:
        sim_check(routing.exchange >= 0 && !w.m.exchanges[routing.exchange].there, "no exchange");
        break;
    case PUBLISH_INTERNAL:
        sim_check(w.m.exchanges[routing.exchange].options.internal, "internal");
        sim_count("internal");
        break;
    case PUBLISH_UNROUTABLE:
        sim_check(n == 0, "unroutable");
        sim_count("unroutable");
        break;
    case PUBLISH_FULL:
        sim_tell("  %llu is refused by %.*s%s", (unsigned long long)published.number,
                 SLICE_ARG(published.full), published.position ? ", and taken by others" : "");
        sim_check(is_over(queue_by_name(published.full), message.bytes), "full, and it is not");
        sim_check(!published.position || p.partial, "full, and taken");
        note_published(&published, targets, n, p.partial, true, &message);
        if (client_key && published.position)
            key_add(&w.m, &(struct model_key){client_key, published.number, w.now_us + window_us,
                                              published.position, published.address});
        sim_count("full");
        break;
    case PUBLISH_NO_SPACE:
        sim_check(world_may_fail(-ENOSPC), "no space, and nothing limits it");
        sim_count("no space");
        break;
    default:
        sim_check(world_may_fail(-EIO) || broker_failure(w.broker), "publish: %d", result);
    }
}

void do_publish(const struct sim_step *step)
{
    struct rng rng = {step->a};
    uint64_t n = w.deep && step->b % 4 == 0 ? 300 + rng_below(&rng, 900) : 1 + rng_below(&rng, 6);

    for (uint64_t i = 0; i < n; i++)
        publish_one(&rng, w.deep);
}
