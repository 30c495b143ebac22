/* broker_sim.c - the broker over the log over a simulated disk, with a clock of its own: what publishers, consumers and people do,
 * crashes, and a disk that fails, from a seed.
 *
 * While it runs: what is delivered is durable, in its queue, whole, in order, one at a time by key, within prefetch, rate and
 * hold, not before its time; messages leave as they may; counts, limits and keys are the model's.
 * After each time it is opened again: what was confirmed is there; what was certainly gone does not come back; what may be
 * either is there whole; order, attempts and fields are right. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "sim/broker_model.h"
#include "sim/broker_salvage.h"
#include "sim/disk.h"
#include "sim/sim.h"

#define STEPS_MAX 160
#define BURYING_QUEUE 0 /* only one buries what it refuses, so that it is known whose a dead one is */
#define BODY_MAX 2000
#define KEY_FIELD SLICE("K")

enum step_kind {
    DECLARE,
    DELETE,
    EXCHANGE,
    BIND,
    PUBLISH,
    SUBSCRIBE,
    UNSUBSCRIBE,
    SETTLE,
    TAKE,
    WINDOW,
    SESSION,
    PAUSE,
    PURGE,
    MOVE,
    TURN,
    TIME,
    CHECKPOINT,
    SPARE,
    LOOK,
    CLOSE,
    KILL,
    CRASH,
    FAULT,
    LIMIT,
    KINDS
};

static const unsigned char often[KINDS] = {
    [DECLARE] = 5,     [DELETE] = 1,  [EXCHANGE] = 3, [BIND] = 6,   [PUBLISH] = 30,    [SUBSCRIBE] = 6,
    [UNSUBSCRIBE] = 3, [SETTLE] = 30, [TAKE] = 8,     [WINDOW] = 5, [SESSION] = 4,     [PAUSE] = 2,
    [PURGE] = 1,       [MOVE] = 2,    [TURN] = 30,    [TIME] = 14,  [CHECKPOINT] = 12, [SPARE] = 6,
    [LOOK] = 4,        [CLOSE] = 1,   [KILL] = 3,     [CRASH] = 5,  [FAULT] = 2,       [LIMIT] = 1,
};

static struct world {
    struct disk *disk;
    struct log *log;
    struct broker *broker;
    struct log_options options;
    struct model m;
    uint64_t seed, now_us;
    uint64_t flushed;   /* log_end after the last flush: what was gathered before stands below */
    uint64_t confirmed; /* the greatest log_durable that somebody was told of */
    int moving_to;      /* the queue that messages are moved to; -1 */
    bool deep, failing, limited, running, publishing;
    bool unsettled; /* topology that may be on disk or not */
    struct broker_checkpoint *checkpoint;
    bool checkpoint_made;
    int checkpoint_error;
    size_t deliveries;
    struct model_consumer *taker; /* who takes one now; NULL: nobody */
    unsigned n_late, n_cancelled; /* that are to be told; that were */
    uint64_t durable_upto;        /* the broker knows that those below are durable */
} w;

static char body[BODY_MAX], seen[BODY_MAX];

/* ---- small things ---------------------------------------------------------------------------------------------------- */

static void fill(char *bytes, size_t n, uint64_t content)
{
    struct rng rng = {content};

    for (size_t i = 0; i < n; i += 8) {
        uint64_t r = rng_next(&rng);

        memcpy(bytes + i, &r, n - i < 8 ? n - i : 8);
    }
}

static struct slice name_of(int queue)
{
    return slice_from_text(queue_name(queue));
}

static struct broker_queue_options *options_of(int queue)
{
    return &w.m.queues[queue].options;
}

static bool may_fail(int error)
{
    return w.failing || log_failure(w.log) || (error == -ENOSPC && (w.limited || w.options.bytes_max));
}

static struct entry *must_find(struct message_ref ref, const char *what)
{
    struct entry *e = NULL;

    for (int i = 0; i < QUEUES_MAX && !e; i++) /* that of a queue that is going is found too */
        if (w.m.queues[i].id == ref.queue)
            e = entry_find(&w.m, i, ref.queue, ref.number);

    sim_check(e && e->state != GONE, "%s: message %llu is not in queue %u", what,
              (unsigned long long)ref.number, ref.queue);
    return e;
}

/* Whether it would come back to a queue in which it died, and nobody said no to it since. */
static bool goes_round(const struct entry *e, enum message_end end, int target)
{
    bool refused = end == END_REJECTED;

    if (!refused && target == e->queue)
        return true;
    for (unsigned i = 0; i < e->n_deaths && !refused; i++) {
        refused = e->deaths[i].reason == END_REJECTED;
        if (!refused && e->deaths[i].queue == target)
            return true;
    }
    return false;
}

/* A key, or a queue's name, as a text that stays. */
static struct slice constant_key(const char *text)
{
    int key = key_by_text(slice_from_text(text));

    return key >= 0 ? routing_key(key) : name_of(queue_by_name(slice_from_text(text)));
}

static void die_once_more(struct entry *e, int queue, enum message_end end)
{
    unsigned n = 0;

    for (unsigned i = 0; i < e->n_deaths; i++)
        if (e->deaths[i].queue != queue || e->deaths[i].reason != end)
            e->deaths[n++] = e->deaths[i];
    memmove(e->deaths + 1, e->deaths, n * sizeof e->deaths[0]);
    e->deaths[0] = (struct model_death){(uint8_t)queue, (uint8_t)end};
    if (!e->n_deaths)
        e->first_death = e->deaths[0];
    e->n_deaths = n + 1;
    e->ttl_us = 0;
    if (w.m.queues[queue].options.dead_keeps_key)
        return;
    e->keys[0] = constant_key(w.m.queues[queue].dead_key);
    e->n_keys = 1;
}

/* Queues where its dead go, as the model knows it; how many. */
static int dead_targets(const struct entry *e, enum message_end end, int targets[QUEUES_MAX])
{
    const struct model_queue *q = &w.m.queues[e->queue];
    struct model_routing routing = {
        exchange_by_name(slice_from_text(q->dead_exchange)), e->headers, {slice_from_text(q->dead_key)}, 1};
    int n;

    if (q->options.dead_keeps_key) {
        memcpy(routing.keys, e->keys, sizeof e->keys);
        routing.n_keys = e->n_keys;
    }
    n = q->options.has_dead_letter ? model_route(&w.m, &routing, targets) : 0;
    for (int i = 0; i < n; i++)
        if (goes_round(e, end, targets[i])) {
            memmove(targets + i, targets + i + 1, (size_t)(n - i - 1) * sizeof *targets);
            n--;
            i--;
        }
    return n;
}

/* ---- what the broker says -------------------------------------------------------------------------------------------- */

static bool is_beside(const struct entry *o, const struct entry *e)
{
    return o->queue == e->queue && o->queue_id == e->queue_id;
}

/* One whose delay is over waits only once broker_run has seen that. */
static bool waits_now(const struct entry *e)
{
    return e->state == WAITS || (e->state == DELAYED && e->due_high <= w.now_us && !w.taker);
}

/* It leaves what waits, and was the first. By key others may be passed over. */
static void check_first(const struct entry *e, const char *what)
{
    for (size_t i = 0; !options_of(e->queue)->order_by.len && i < w.m.n; i++) {
        const struct entry *o = &w.m.entries[i];

        sim_check(!is_beside(o, e) || !waits_now(o) || !entry_is_before(&w.m, o, e),
                  "message %llu is %s before %llu", (unsigned long long)e->number, what,
                  (unsigned long long)o->number);
    }
}

static void check_order(const struct entry *e)
{
    const struct model_queue *q = &w.m.queues[e->queue];

    check_first(e, "delivered");
    for (size_t i = 0; q->options.order_by.len && i < w.m.n && w.m.entries[i].number < e->number; i++) {
        const struct entry *o = &w.m.entries[i];

        if (!is_beside(o, e) || o->state == GONE || !entry_is_before(&w.m, o, e))
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
    sim_check(death.reason == wanted->reason && slice_equal(death.queue, name_of(wanted->queue)),
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

static void check_content(const struct entry *e, const struct message *message)
{
    struct slice key = envelope_field(message->head, KEY_FIELD);

    fill(seen, e->bytes, e->content);
    sim_check(slice_equal(message->body, slice_of(seen, e->bytes)), "message %llu has another body",
              (unsigned long long)e->number);
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
    struct entry *e = must_find(d->ref, "delivery");
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
        check_content(e, &message);
    log_buffer_free(&buffer);
    e->state = FLIES;
    e->delivered = true;
    e->consumer = (int)(c - w.m.consumers);
    e->deadline_us = w.now_us + options_of(e->queue)->ack_timeout_us;
    sim_check(d->deadline_us == e->deadline_us, "deadline");
    w.deliveries++;
    sim_count("deliveries");
}

static void leave_consumer(struct entry *e)
{
    if (e->state == FLIES)
        w.m.consumers[e->consumer].in_flight--;
}

/* Of a queue, by index: what is delivered next; NULL: nothing waits. */
static struct entry *first_that_waits(int queue)
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
static bool may_be_stuck(const struct entry *e, enum message_end end)
{
    int targets[QUEUES_MAX], n = dead_targets(e, end, targets);

    if (w.failing || log_failure(w.log) || (n && may_fail(-ENOSPC)))
        return true;
    for (int i = 0; i < n; i++)
        if (options_of(targets[i])->max_length || options_of(targets[i])->max_bytes)
            return true;
    return false;
}

static uint64_t queue_excess(int queue)
{
    const struct broker_queue_options *o = options_of(queue);
    uint64_t bytes, n = queue_waiting(&w.m, queue, &bytes);

    return o->nothing_waits                            ? n
           : o->max_length && n > o->max_length        ? n - o->max_length
           : o->max_bytes && n && bytes > o->max_bytes ? 1
                                                       : 0;
}

static void check_takers(const struct entry *e, const char *what)
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
    const struct broker_queue_options *o = options_of(e->queue);
    uint64_t bytes, n = queue_waiting(&w.m, e->queue, &bytes);

    sim_check(o->nothing_waits || (o->max_length && n > o->max_length) ||
                  (o->max_bytes && bytes + 300 * n > o->max_bytes),
              "message %llu is dropped, and nothing is over", (unsigned long long)e->number);
    sim_check(e->position < log_durable(w.log), "message %llu is dropped before it was offered",
              (unsigned long long)e->number);
    check_first(e, "dropped");
    check_takers(e, "is dropped");
    sim_count("trimmed");
}

/* One more message was appended: the numbers of all are known, but for the one that is being published. */
static void take_number(void)
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
        e->keys[0] = name_of(target);
    else
        die_once_more(e, old->queue, end);
}

static void ended(void *arg, const struct broker_ending *ending)
{
    int targets[QUEUES_MAX] = {w.moving_to}, n = ending->end == END_MOVED;
    struct entry *e, old;

    (void)arg;
    if (!w.broker) /* it is being opened: of a queue that goes with the start */
        return;
    e = must_find(ending->ref, "end");
    sim_tell("  %llu of %s: %s", (unsigned long long)e->number, queue_name(e->queue),
             message_end_names[ending->end]);
    leave_consumer(e);
    if (ending->end != END_MOVED && ending->end != END_ACKED && ending->end != END_PURGED &&
        !(ending->end == END_MAXLEN && options_of(e->queue)->overflow == LIMIT_DROP_OLDEST))
        n = dead_targets(e, ending->end, targets);
    if (ending->end == END_MAXLEN && options_of(e->queue)->overflow == LIMIT_DROP_HEAD)
        check_trimmed(e);
    if (ending->end == END_EXPIRED) {
        sim_check(entry_expires_us(&w.m, e) <= w.now_us, "message %llu expires too early",
                  (unsigned long long)e->number);
        sim_check(e->position < log_durable(w.log), "message %llu expires before it was offered",
                  (unsigned long long)e->number);
        check_first(e, "expired");
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
    take_number();
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

static const struct broker_events events = {
    .deliver = deliver, .ended = ended, .cancelled = cancelled, .late = late};

/* ---- turns ----------------------------------------------------------------------------------------------------------- */

/* Marks and attempts are appended where there is room, and forgotten where there is none; a DONE has room that was promised. */
static void note_places(struct entry *e)
{
    bool certain = !w.failing && !w.limited && !w.options.bytes_max && !log_failure(w.log);
    uint64_t place = certain ? log_end(w.log) : BEHIND_ALL;

    if (e->delivered && !e->delivered_place)
        e->delivered_place = place;
    if (e->attempts != e->attempts_logged && e->state != GONE && e->state != DYING) {
        e->attempts_logged = e->attempts;
        e->attempts_place = place;
    }
}

/* What was gathered has its place now. */
static void flush(void)
{
    broker_flush(w.broker);
    for (size_t i = 0; i < w.m.n; i++)
        note_places(&w.m.entries[i]);
    for (size_t i = 0; i < w.m.n; i++)
        if (w.m.entries[i].state == GONE && w.m.entries[i].gone_high == BEHIND_ALL)
            w.m.entries[i].gone_high = log_failure(w.log) ? BEHIND_ALL - 1 : log_end(w.log);
}

static void confirm(void)
{
    for (size_t i = 0; i < w.m.n; i++)
        if (w.m.entries[i].position < log_durable(w.log))
            w.m.entries[i].confirmed = true;
    w.confirmed = log_durable(w.log) > w.confirmed ? log_durable(w.log) : w.confirmed;
}

static int commit(void)
{
    int error;

    flush();
    error = log_commit(w.log);
    if (error)
        sim_check(may_fail(error), "commit: %s", strerror(-error));
    confirm();
    return error;
}

/* It failed, and is tried again within what the back-off allows, or ends. */
static void expect_retry(struct entry *e)
{
    const struct broker_queue_options *o = options_of(e->queue);
    uint64_t wait = o->retry_first_us;

    leave_consumer(e);
    e->attempts++;
    for (unsigned i = 1; i < e->attempts && wait < o->retry_most_us; i++)
        wait *= 2;
    wait = wait < o->retry_most_us ? wait : o->retry_most_us;
    e->state = o->attempts && e->attempts >= o->attempts ? DYING : o->retry_first_us ? DELAYED : WAITS;
    e->blocks = true;
    e->due_low = w.now_us + wait - wait / 4;
    e->due_high = w.now_us + wait;
}

/* Deadlines that pass now: the attempt counts, and another one comes later, or the end. */
static void pass_deadlines(void)
{
    for (size_t i = 0; i < w.m.n; i++) {
        struct entry *e = &w.m.entries[i];

        if (e->state != FLIES || e->deadline_us > w.now_us || !w.m.queues[e->queue].there)
            continue;
        if (w.m.consumers[e->consumer].options.tells_late) {
            e->deadline_us = w.now_us + options_of(e->queue)->ack_timeout_us;
            w.n_late++;
            continue;
        }
        expect_retry(e);
        e->due_low = w.now_us; /* what chance may take off is checked where it fails by itself */
    }
}

static void check_counts(void);

/* Whether the delay of one that goes before it may be over: what chance took off is not known. */
static bool may_come_before(const struct entry *e)
{
    for (size_t i = 0; i < w.m.n; i++) {
        const struct entry *o = &w.m.entries[i];

        if (is_beside(o, e) && o->state == DELAYED && o->due_low <= w.now_us && entry_is_before(&w.m, o, e))
            return true;
    }
    return false;
}

/* It is to leave, and is there because it cannot. */
static void check_leaves(const struct entry *e, enum message_end end, const char *what)
{
    struct model_queue *q = &w.m.queues[e->queue];

    if (may_be_stuck(e, end))
        q->stuck_until_us = w.now_us + US_PER_S;
    sim_check(q->stuck_until_us > w.now_us, "message %llu %s, and waits", (unsigned long long)e->number,
              what);
}

/* Whether some of it came since. */
static bool has_since(int queue, uint64_t number)
{
    for (size_t i = w.m.n; i-- > 0 && w.m.entries[i].number >= number;)
        if (w.m.entries[i].queue == queue && w.m.entries[i].state != GONE)
            return true;
    return false;
}

static void check_rest(int queue, uint64_t before)
{
    const struct model_queue *q = &w.m.queues[queue];
    const struct entry *first = first_that_waits(queue);

    if (!first || first->number >= before)
        return;
    check_takers(first, "waits");
    if (may_come_before(first))
        return;
    if (entry_expires_us(&w.m, first) <= w.now_us)
        check_leaves(first, END_EXPIRED, "is too old");
    if (q->options.overflow == LIMIT_DROP_HEAD && queue_excess(queue) && !has_since(queue, before))
        check_leaves(first, END_MAXLEN, "is too much");
}

/* What could be done is done, of all that was durable before; by key it is not known who waits for whom. */
static void check_idle(uint64_t before)
{
    for (int i = 0; i < QUEUES_MAX && !w.failing && !broker_failure(w.broker); i++)
        if (w.m.queues[i].there && !w.m.queues[i].options.order_by.len)
            check_rest(i, before);
}

static void learn_topology(bool after_restart);

/* A queue that the model does not have any more; if it could not go, it has that owner. */
static void check_gone(int queue, int owner)
{
    struct broker_queue_view view;
    bool unsettled = w.unsettled;

    sim_count("queues that went");
    if (broker_find_queue(w.broker, name_of(queue), &view)) {
        sim_check(may_fail(-ENOSPC), "queue %s is to go, and stays", queue_name(queue));
        w.unsettled = true;
        learn_topology(false);
        w.unsettled = unsettled;
        w.m.queues[queue].owner = owner;
        queue_used(&w.m, queue, w.now_us);
    } else if (commit() != 0) {
        w.unsettled = true;
    }
}

/* Those that nobody used for so long. */
static void end_idle(bool idle[QUEUES_MAX], int owners[QUEUES_MAX])
{
    for (int i = 0; i < QUEUES_MAX; i++) {
        idle[i] = w.m.queues[i].there && w.m.queues[i].idle_at_us <= w.now_us;
        if (!idle[i])
            continue;
        sim_tell("  %s is idle", queue_name(i));
        sim_count("idle");
        owners[i] = w.m.queues[i].owner;
        queue_remove(&w.m, i);
    }
}

static void run(void)
{
    uint64_t before = broker_needs_commit(w.broker) ? 0 : broker_next_number(w.broker);
    bool idle[QUEUES_MAX];
    int owners[QUEUES_MAX];

    if (before)
        w.durable_upto = before;
    end_idle(idle, owners);
    pass_deadlines();
    w.running = true;
    broker_run(w.broker, w.now_us);
    w.running = false;
    for (int i = 0; i < QUEUES_MAX; i++)
        if (idle[i])
            check_gone(i, owners[i]);
    sim_check(!w.n_late, "%u are late, and are not told", w.n_late);
    check_counts();
    check_idle(before);
}

static void do_turn(const struct sim_step *step)
{
    if (step->a % 4 == 0) {
        flush();
        if (log_write(w.log))
            sim_check(may_fail(-EIO), "write");
    } else {
        commit();
    }
    run();
    if (step->a % 8 < 4 && broker_needs_commit(w.broker) && commit() == 0)
        run();
}

/* ---- what can be seen ------------------------------------------------------------------------------------------------ */

static void check_queue(void *arg, const struct broker_queue_view *view)
{
    int queue = queue_by_id(&w.m, view->id);
    uint64_t bytes, waiting, flying = 0;
    unsigned n_consumers;

    ++*(int *)arg;
    sim_check(queue >= 0 && slice_equal(view->name, name_of(queue)), "a queue that nobody declared");
    n_consumers = queue_consumers(&w.m, queue);
    waiting = queue_waiting(&w.m, queue, &bytes);
    for (size_t i = 0; i < w.m.n; i++)
        flying += w.m.entries[i].queue_id == view->id && w.m.entries[i].state == FLIES;
    sim_check(view->numbers.in_flight == flying, "%s: %llu in flight, not %llu", queue_name(queue),
              (unsigned long long)view->numbers.in_flight, (unsigned long long)flying);
    sim_check(view->numbers.ready + view->numbers.delayed + view->numbers.blocked == waiting,
              "%s: %llu wait, not %llu", queue_name(queue),
              (unsigned long long)(view->numbers.ready + view->numbers.delayed + view->numbers.blocked),
              (unsigned long long)waiting);
    sim_check(view->numbers.paused == w.m.queues[queue].paused, "paused");
    sim_check(view->numbers.owned == (w.m.queues[queue].owner >= 0), "owned");
    sim_check(view->numbers.consumers == n_consumers, "%s: %u consumers, not %u", queue_name(queue),
              view->numbers.consumers, n_consumers);
}

static void check_exchange(void *arg, const struct broker_exchange_view *view)
{
    int exchange = exchange_by_name(view->name), targets[QUEUES_MAX], n = 0;
    const struct model_exchange *x = &w.m.exchanges[exchange];
    const struct broker_exchange_options *a = view->options, *b = &x->options;
    struct slice readers[QUEUES_MAX];
    size_t n_bindings = 0;

    sim_check(x->there && x->id == view->id, "exchange %s is there", exchange_name(exchange));
    sim_check(a->type == b->type && a->durable == b->durable && a->auto_delete == b->auto_delete &&
                  a->internal == b->internal && slice_equal(a->alternate, b->alternate) &&
                  slice_equal(a->arguments, b->arguments),
              "exchange %s has other options", exchange_name(exchange));
    for (size_t i = 0; i < w.m.n_bindings; i++)
        n_bindings += w.m.bindings[i].source == exchange;
    sim_check(view->n_bindings == n_bindings, "exchange %s has %zu bindings, not %zu",
              exchange_name(exchange), view->n_bindings, n_bindings);
    n = model_reach(&w.m, exchange, targets);
    sim_check(broker_readers(w.broker, view->name, readers, QUEUES_MAX) == (size_t)n,
              "exchange %s can lead to %d queues", exchange_name(exchange), n);
    ++*(int *)arg;
}

static struct model_binding binding_of(const struct broker_binding_view *view)
{
    return (struct model_binding){
        exchange_by_name(view->source),
        view->to_exchange ? exchange_by_name(view->destination) : queue_by_name(view->destination),
        key_by_text(view->key), arguments_by_bytes(view->arguments), view->to_exchange};
}

static void check_binding(void *arg, const struct broker_binding_view *view)
{
    struct model_binding b = binding_of(view);

    sim_check(binding_find(&w.m, &b), "a binding of %s that nobody made", exchange_name(b.source));
    ++*(size_t *)arg;
}

static void check_exchanges(void)
{
    int n = 0;
    size_t n_bindings = 0;

    broker_each_exchange(w.broker, check_exchange, &n);
    broker_each_binding(w.broker, check_binding, &n_bindings);
    for (int i = 0; i < EXCHANGES_MAX; i++)
        n -= w.m.exchanges[i].there;
    sim_check(n == 0 && n_bindings == w.m.n_bindings, "%d exchanges too few, %zu bindings, not %zu", -n,
              n_bindings, w.m.n_bindings);
}

static void check_counts(void)
{
    int n = 0;

    if (broker_failure(w.broker))
        return;
    broker_each_queue(w.broker, check_queue, &n);
    for (int i = 0; i < QUEUES_MAX; i++)
        n -= w.m.queues[i].there;
    sim_check(n == 0, "%d queues too few", -n);
}

/* A queue's messages as they wait, compared with the model's. */
struct peeking {
    int queue;
    size_t at; /* in the model's entries */
    bool after_restart;
    uint64_t end; /* of the log, then */
};

/* Whether the log says so. */
static bool is_certain(uint64_t place, uint64_t end)
{
    return place <= end;
}

static bool is_in(const struct peeking *p, const struct entry *e)
{
    return e->queue == p->queue && e->queue_id == w.m.queues[p->queue].id;
}

/* An entry that was not seen. */
static void pass_over(const struct peeking *p, struct entry *e)
{
    if (!is_in(p, e))
        return;
    if (!p->after_restart) {
        sim_check(e->state == GONE || e->state == FLIES, "message %llu waits, and is not there",
                  (unsigned long long)e->number);
        return;
    }
    sim_check(!e->confirmed || (e->state == GONE && e->gone_low <= p->end),
              "message %llu in %s was confirmed, and is lost", (unsigned long long)e->number,
              queue_name(p->queue));
    sim_check(e->position >= p->end || (e->state == GONE && e->gone_low <= p->end),
              "message %llu in %s was on disk, and is lost", (unsigned long long)e->number,
              queue_name(p->queue));
    e->state = GONE;
    e->gone_low = e->gone_high = 0;
    if (e->position >= p->end)
        e->position = BEHIND_ALL;
}

static void peek_one(void *arg, const struct broker_peeked *peeked)
{
    struct peeking *p = arg;
    struct entry *e;

    while (p->at < w.m.n &&
           (w.m.entries[p->at].number < peeked->ref.number || !is_in(p, &w.m.entries[p->at])))
        pass_over(p, &w.m.entries[p->at++]);
    e = p->at < w.m.n ? &w.m.entries[p->at++] : NULL;
    sim_check(e && e->number == peeked->ref.number, "message %llu in %s, which nobody published",
              (unsigned long long)peeked->ref.number, queue_name(p->queue));
    check_content(e, peeked->message);
    if (!p->after_restart) {
        sim_check(e->state != GONE && e->state != FLIES, "message %llu is seen, and is not there",
                  (unsigned long long)e->number);
        return;
    }
    sim_check(e->position < p->end, "message %llu came from behind the end", (unsigned long long)e->number);
    sim_check(e->state != GONE || !is_certain(e->gone_high, p->end), "message %llu in %s came back",
              (unsigned long long)e->number, queue_name(p->queue));
    sim_check(peeked->attempts <= e->attempts &&
                  (!is_certain(e->attempts_place, p->end) || peeked->attempts >= e->attempts_logged),
              "message %llu has %u attempts, not %u to %u", (unsigned long long)e->number, peeked->attempts,
              e->attempts_logged, e->attempts);
    sim_check(peeked->redelivered || !e->delivered_place || !is_certain(e->delivered_place, p->end),
              "message %llu was delivered, and is not marked", (unsigned long long)e->number);
    sim_check(e->state != DELAYED || e->blocks || e->delivered || e->due_low <= w.now_us ||
                  peeked->due_us == e->due_low,
              "message %llu is due at %llu, not %llu", (unsigned long long)e->number,
              (unsigned long long)peeked->due_us, (unsigned long long)e->due_low);
    e->attempts = e->attempts_logged = peeked->attempts;
    e->delivered = false;
    e->delivered_place = e->attempts_place = 0;
    e->blocks = peeked->due_us && peeked->redelivered;
    e->state = peeked->due_us ? DELAYED : WAITS;
    e->due_low = e->due_high = peeked->due_us;
    e->confirmed = true; /* it is on disk */
}

/* end: where the log ended when it was opened again. */
static void peek_queue(int queue, bool after_restart, uint64_t end)
{
    struct peeking p = {.queue = queue, .after_restart = after_restart, .end = end};
    int error;

    error = broker_peek(w.broker, name_of(queue), 0, UINT64_MAX, peek_one, &p);
    if (error) {
        sim_check(w.failing, "peek: %s", strerror(-error));
        return;
    }
    while (p.at < w.m.n)
        pass_over(&p, &w.m.entries[p.at++]);
}

static void do_look(const struct sim_step *step)
{
    int queue = (int)(step->a % QUEUES_MAX);

    if (w.m.queues[queue].there && !broker_failure(w.broker))
        peek_queue(queue, false, 0);
    for (int i = 0; i < SESSIONS_MAX && w.m.queues[queue].there; i++)
        sim_check(broker_queue_is_locked(w.broker, name_of(queue), w.m.sessions[i]) ==
                      (w.m.queues[queue].owner >= 0 && w.m.queues[queue].owner != i),
                  "%s is locked, or not", queue_name(queue));
    check_counts();
    check_exchanges();
}

/* ---- topology -------------------------------------------------------------------------------------------------------- */

static void settle_topology(int error)
{
    if (error)
        sim_check(may_fail(error), "topology: %s", strerror(-error));
    else if (commit() != 0)
        w.unsettled = true;
}

static struct broker_queue_options random_options(struct rng *rng, struct model_queue *q)
{
    struct broker_queue_options o = {
        .ack_timeout_us = (1 + rng_below(rng, 20)) * US_PER_S,
        .retry_first_us = rng_below(rng, 3) ? (1 + rng_below(rng, 2000)) * US_PER_MS : 0,
        .priorities = rng_below(rng, 3) ? 0 : 1 + (uint8_t)rng_below(rng, 3),
    };

    o.retry_most_us = o.retry_first_us * (1 + rng_below(rng, 8));
    if (rng_below(rng, 3) == 0)
        o.max_length = 1 + rng_below(rng, 20);
    if (rng_below(rng, 5) == 0)
        o.max_bytes = 200 + rng_below(rng, 8000);
    if (rng_below(rng, 5) == 0)
        o.max_age_us = (1 + rng_below(rng, 30)) * US_PER_S;
    if (rng_below(rng, 2))
        o.attempts = 1 + (uint32_t)rng_below(rng, 4);
    o.overflow = rng_below(rng, 4) ? (enum queue_limit_rule)rng_below(rng, 3) : LIMIT_DROP_HEAD;
    if (q == &w.m.queues[BURYING_QUEUE] && rng_below(rng, 3))
        o.overflow = LIMIT_BURY_NEW;
    o.transient = rng_below(rng, 10) == 0;
    o.exclusive = rng_below(rng, 10) == 0;
    o.auto_delete = rng_below(rng, 4) == 0;
    o.idle_us = rng_below(rng, 6) ? 0 : (1 + rng_below(rng, 60)) * US_PER_S;
    o.single_active = rng_below(rng, 6) == 0;
    o.nothing_waits = rng_below(rng, 16) == 0 && o.overflow == LIMIT_DROP_HEAD;
    o.has_dead_letter = rng_below(rng, 2);
    o.dead_keeps_key = rng_below(rng, 4) == 0;
    strcpy(q->dead_exchange, rng_below(rng, 2) ? "" : exchange_name((int)rng_below(rng, EXCHANGES_MAX)));
    strcpy(q->dead_key, q->dead_exchange[0] ? routing_key((int)rng_below(rng, 7)).ptr
                                            : queue_name((int)rng_below(rng, QUEUES_MAX)));
    o.dead_exchange = slice_from_text(q->dead_exchange);
    o.dead_key = slice_from_text(q->dead_key);
    if (rng_below(rng, 3) == 0)
        o.order_by = KEY_FIELD;
    if (w.deep)
        o.max_length = o.max_bytes = o.nothing_waits = 0;
    return o;
}

static void do_declare(const struct sim_step *step)
{
    struct rng rng = {step->a};
    int queue = (int)rng_below(&rng, QUEUES_MAX), error;
    struct model_queue *q = &w.m.queues[queue], old = *q;
    struct broker_queue_view view;
    struct broker_queue_options options;

    if (w.unsettled)
        return;
    options = random_options(&rng, q);
    if (q->there) /* keys are taken from messages when they come */
        options.order_by = old.options.order_by;
    if (q->there) { /* its consumers stand in line as it says */
        options.single_active = old.options.single_active;
        options.transient = old.options.transient;
        options.exclusive = old.options.exclusive;
        options.auto_delete = old.options.auto_delete;
    }
    error = broker_declare_queue(w.broker, name_of(queue), &options, DECLARE_SET);
    if (error) {
        *q = old;
        settle_topology(error);
        return;
    }
    q->there = true;
    q->options = options;
    sim_check(broker_find_queue(w.broker, name_of(queue), &view), "a declared queue is not there");
    if (old.there) /* what waits is sorted by them */
        q->options.priorities = old.options.priorities;
    sim_check(view.options->priorities == q->options.priorities, "a queue changes its priorities");
    q->id = view.id;
    if (!old.there) {
        q->had_consumer = false;
        q->owner = options.exclusive ? (int)rng_below(&rng, SESSIONS_MAX) : -1;
        if (q->owner >= 0)
            broker_own_queue(w.broker, name_of(queue), w.m.sessions[q->owner]);
    }
    broker_touch_queue(w.broker, name_of(queue), w.now_us);
    queue_used(&w.m, queue, w.now_us);
    sim_tell("  %s: length %llu, bytes %llu, age %llu, attempts %u, overflow %u, dead %s %s, order %zu, "
             "priorities %u, idle %llu s%s%s%s%s",
             queue_name(queue), (unsigned long long)options.max_length, (unsigned long long)options.max_bytes,
             (unsigned long long)options.max_age_us, options.attempts, options.overflow,
             options.has_dead_letter ? q->dead_exchange : "-",
             options.dead_keeps_key ? "(its own)" : q->dead_key, options.order_by.len, q->options.priorities,
             (unsigned long long)(options.idle_us / US_PER_S), options.transient ? ", transient" : "",
             options.exclusive ? ", exclusive" : "", options.auto_delete ? ", auto-delete" : "",
             options.single_active ? ", single active" : "");
    settle_topology(0);
}

static void do_delete(const struct sim_step *step)
{
    int queue = (int)(step->a % QUEUES_MAX), error;
    unsigned n_consumers;

    if (!w.m.queues[queue].there || w.unsettled)
        return;
    n_consumers = queue_consumers(&w.m, queue);
    w.n_cancelled = 0;
    error = broker_delete_queue(w.broker, name_of(queue), false, w.now_us);
    if (error) {
        sim_check(may_fail(error), "delete: %s", strerror(-error));
        return;
    }
    sim_check(w.n_cancelled == n_consumers, "%u of %u consumers hear of its end", w.n_cancelled, n_consumers);
    queue_remove(&w.m, queue);
    settle_topology(0);
}

/* Of an exchange that is there its type stays. */
static void declare_exchange(int exchange, struct rng *rng)
{
    struct model_exchange *x = &w.m.exchanges[exchange];
    struct broker_exchange_options o = {
        .type = x->there ? x->options.type : (enum exchange_type)rng_below(rng, 4),
        .durable = rng_below(rng, 4),
        .auto_delete = rng_below(rng, 3) == 0,
        .internal = rng_below(rng, 4) == 0,
        .alternate = rng_below(rng, 3) ? SLICE("")
                                       : slice_from_text(exchange_name((int)rng_below(rng, EXCHANGES_MAX))),
        .arguments = rng_below(rng, 4) ? SLICE("") : arguments_of(1),
    };
    struct broker_exchange_view view;
    int error;

    if (x->there) {
        struct broker_exchange_options other = o;

        other.type = (enum exchange_type)((o.type + 1) % 4);
        error =
            broker_declare_exchange(w.broker, slice_from_text(exchange_name(exchange)), &other, DECLARE_SET);
        sim_check(error == -EEXIST, "an exchange changes its type");
    }
    error = broker_declare_exchange(w.broker, slice_from_text(exchange_name(exchange)), &o, DECLARE_SET);
    if (!error) {
        sim_check(broker_find_exchange(w.broker, slice_from_text(exchange_name(exchange)), &view),
                  "a declared exchange is not there");
        sim_tell("  exchange %s: type %u, durable %u, auto-delete %u, alternate %.*s",
                 exchange_name(exchange), o.type, o.durable, o.auto_delete, SLICE_ARG(o.alternate));
        *x = (struct model_exchange){true, view.id, o};
    }
    settle_topology(error);
}

static void do_exchange(const struct sim_step *step)
{
    struct rng rng = {step->a};
    int exchange = (int)rng_below(&rng, EXCHANGES_MAX), error;
    bool if_unused = rng_below(&rng, 2), used = false;

    if (w.unsettled)
        return;
    if (!w.m.exchanges[exchange].there || rng_below(&rng, 4)) {
        declare_exchange(exchange, &rng);
        return;
    }
    for (size_t i = 0; i < w.m.n_bindings; i++)
        used |= w.m.bindings[i].source == exchange;
    error = broker_delete_exchange(w.broker, slice_from_text(exchange_name(exchange)), if_unused);
    sim_check((error == -EBUSY) == (if_unused && used), "an exchange that is used, or not");
    if (error == -EBUSY)
        return;
    sim_tell("  exchange %s is deleted", exchange_name(exchange));
    if (!error)
        exchange_remove(&w.m, exchange);
    settle_topology(error);
}

/* What the binding leads to; false: it is not there. */
static bool destination_of(const struct model_binding *b, struct broker_destination *to)
{
    *to = (struct broker_destination){b->to_exchange ? slice_from_text(exchange_name(b->destination))
                                                     : name_of(b->destination),
                                      b->to_exchange};
    return b->to_exchange ? w.m.exchanges[b->destination].there : w.m.queues[b->destination].there;
}

static void bind(const struct model_binding *b)
{
    struct slice source = slice_from_text(exchange_name(b->source));
    bool there = w.m.exchanges[b->source].there, known = binding_find(&w.m, b) != NULL;
    struct broker_destination to;
    int error;

    there &= destination_of(b, &to);
    error = broker_bind(w.broker, source, &to, routing_key(b->key), arguments_of(b->arguments));
    sim_check((error == -ENOENT) == !there, "bound, and something is not there");
    if (error == -ENOENT)
        return;
    sim_tell("  %s is bound to %.*s%s by \"%.*s\", arguments %d", exchange_name(b->source),
             SLICE_ARG(to.name), to.is_exchange ? " (exchange)" : "", SLICE_ARG(routing_key(b->key)),
             b->arguments);
    if (!error && !known)
        binding_add(&w.m, b);
    settle_topology(error);
}

static void unbind(const struct model_binding *b)
{
    struct model_binding *known = binding_find(&w.m, b);
    struct broker_destination to;
    int error;

    destination_of(b, &to);
    error = broker_unbind(w.broker, slice_from_text(exchange_name(b->source)), &to, routing_key(b->key),
                          arguments_of(b->arguments));
    sim_check((error == -ENOENT) == !known, "unbound, and there is no such binding");
    if (error == -ENOENT)
        return;
    sim_tell("  %s is unbound from %.*s", exchange_name(b->source), SLICE_ARG(to.name));
    if (!error)
        binding_remove(&w.m, known);
    settle_topology(error);
}

static struct model_binding random_binding(struct rng *rng)
{
    struct model_binding b = {.source = (int)rng_below(rng, EXCHANGES_MAX),
                              .to_exchange = rng_below(rng, 3) == 0,
                              .key = (int)rng_below(rng, (unsigned)n_routing_keys),
                              .arguments = (int)rng_below(rng, (unsigned)n_arguments)};

    b.destination = (int)rng_below(rng, b.to_exchange ? EXCHANGES_MAX : QUEUES_MAX);
    if (rng_below(rng, 4) == 0 && w.m.n_bindings)
        b = w.m.bindings[rng_below(rng, w.m.n_bindings)];
    return b;
}

static void do_bind(const struct sim_step *step)
{
    struct rng rng = {step->a};

    for (uint64_t n = 1 + rng_below(&rng, 6); n && !w.unsettled; n--) {
        struct model_binding b = random_binding(&rng);

        if (rng_below(&rng, 4) == 0 || w.m.n_bindings == BINDINGS_MAX)
            unbind(&b);
        else
            bind(&b);
    }
}

static void do_pause(const struct sim_step *step)
{
    int queue = (int)(step->a % QUEUES_MAX), error;

    if (!w.m.queues[queue].there || w.unsettled)
        return;
    error = broker_pause(w.broker, name_of(queue), !w.m.queues[queue].paused);
    if (!error)
        w.m.queues[queue].paused = !w.m.queues[queue].paused;
    settle_topology(error);
}

/* ---- publishing ------------------------------------------------------------------------------------------------------ */

static bool is_over(int queue, uint64_t more)
{
    const struct broker_queue_options *o = options_of(queue);
    uint64_t bytes, n = queue_waiting(&w.m, queue, &bytes);

    return o->overflow != LIMIT_DROP_HEAD && ((o->max_length && n + 1 > o->max_length) ||
                                              (o->max_bytes && bytes + more + 300 * (n + 1) > o->max_bytes));
}

/* It came into a queue that had room for it. */
static void check_limit(int queue)
{
    sim_check(options_of(queue)->overflow == LIMIT_DROP_HEAD || !queue_excess(queue),
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
    n = dead_targets(&dead, END_MAXLEN, targets);
    sim_check(happened ? n > 0 : !n || may_be_stuck(&dead, END_MAXLEN), "message refused by %s: buried %u",
              queue_name(queue), happened);
    if (!happened)
        return;
    sim_count("buried");
    take_number();
    dead.number = w.m.next_number - 1;
    dead.position = log_end(w.log) - 1;
    dead.state = WAITS;
    dead.due_low = dead.due_high = 0;
    die_once_more(&dead, queue, END_MAXLEN);
    put_in(&dead, targets, n);
}

/* Whether it has one message more than is known. */
static bool has_more(int queue)
{
    struct broker_queue_view view;
    uint64_t bytes, n = queue_waiting(&w.m, queue, &bytes);

    sim_check(broker_find_queue(w.broker, name_of(queue), &view), "queue %s is lost", queue_name(queue));
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
        if (targets[i] == BURYING_QUEUE && options_of(BURYING_QUEUE)->overflow == LIMIT_BURY_NEW &&
            (partial ? !has_more(BURYING_QUEUE) : slice_equal(published->full, name_of(BURYING_QUEUE))))
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
                     : small && i == 0 && rng_below(rng, 8) ? name_of(first_queue())
                                                            : name_of((int)rng_below(rng, QUEUES_MAX));
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

    if (options_of(BURYING_QUEUE)->overflow != LIMIT_BURY_NEW)
        return false;
    dead.queue = BURYING_QUEUE;
    n_graves = dead_targets(&dead, END_MAXLEN, graves);
    for (int i = 0; i < n_graves; i++) {
        if (options_of(graves[i])->overflow == LIMIT_DEAD_LETTER)
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
    fill(body, message.bytes, message.content);
    p.head = put_head(head, &message, p.more_keys, rng_below(rng, 2));
    if (client_key) {
        client_text[0] = (char)('a' + client_key);
        p.idempotency = slice_of(client_text, 1);
        p.idempotency_window_us = window_us;
    }
    w.publishing = true;
    result = broker_publish(w.broker, &p, &published, w.now_us);
    w.publishing = false;
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
        sim_check(may_fail(-ENOSPC), "no space, and nothing limits it");
        sim_count("no space");
        break;
    default:
        sim_check(may_fail(-EIO) || broker_failure(w.broker), "publish: %d", result);
    }
}

static void do_publish(const struct sim_step *step)
{
    struct rng rng = {step->a};
    uint64_t n = w.deep && step->b % 4 == 0 ? 300 + rng_below(&rng, 900) : 1 + rng_below(&rng, 6);

    for (uint64_t i = 0; i < n; i++)
        publish_one(&rng, w.deep);
}

/* ---- consuming ------------------------------------------------------------------------------------------------------- */

static void random_consumer(struct rng *rng, struct model_consumer *c)
{
    struct broker_consumer_options o = {
        .owner = c,
        .prefetch = (unsigned)rng_below(rng, 8),
        .burst = 1,
        .priority = rng_below(rng, 3) ? 0 : (int)rng_below(rng, 4) - 1,
        .auto_ack = rng_below(rng, 8) == 0,
        .exclusive = rng_below(rng, 16) == 0,
        .on_demand = rng_below(rng, 5) == 0,
        .counts_loss = rng_below(rng, 3) == 0,
        .tells_late = rng_below(rng, 4) == 0,
        .transit_most = rng_below(rng, 5) ? 0 : 1 + rng_below(rng, 3000),
    };

    if (rng_below(rng, 3) == 0) {
        o.rate = 0.2 + (double)rng_below(rng, 100);
        o.burst = 1 + (unsigned)rng_below(rng, 5);
    }
    if (w.deep) {
        o.prefetch = 200;
        o.transit_most = 0;
    }
    c->window = w.deep || rng_below(rng, 3) ? -1 : (int)rng_below(rng, WINDOWS_MAX);
    if (c->window >= 0)
        o.window = w.m.windows[c->window].handle;
    c->options = o;
}

static void do_subscribe(const struct sim_step *step)
{
    struct rng rng = {step->a};
    int queue = (int)rng_below(&rng, QUEUES_MAX), error;
    struct model_consumer *c = &w.m.consumers[rng_below(&rng, CONSUMERS_MAX)], new = {.there = true};
    bool busy;

    if (!w.m.queues[queue].there || c->there)
        return;
    random_consumer(&rng, c);
    new.options = c->options;
    new.window = c->window;
    new.queue = queue;
    new.queue_id = w.m.queues[queue].id;
    new.since_us = w.now_us;
    new.order = w.m.n_subscribed++;
    *c = (struct model_consumer){.there = false};
    busy = new.options.exclusive &&w.m.queues[queue].options.single_active;
    for (int i = 0; i < CONSUMERS_MAX; i++)
        busy |= consumer_counts(&w.m, &w.m.consumers[i], queue) &&
                (new.options.exclusive || w.m.consumers[i].options.exclusive);
    error = broker_subscribe(w.broker, name_of(queue), &new.options, &new.handle);
    sim_check(error == (busy && !new.options.on_demand ? -EBUSY : 0), "subscribe: %s", strerror(-error));
    if (error)
        return;
    *c = new;
    if (!new.options.on_demand) {
        w.m.queues[queue].had_consumer = true;
        queue_used(&w.m, queue, w.now_us);
    }
    sim_tell("  consumer %d of %s: prefetch %u, window %d, transit %llu, rate %.1f, priority %d%s%s%s%s%s",
             (int)(c - w.m.consumers), queue_name(queue), new.options.prefetch, new.window,
             (unsigned long long)new.options.transit_most, new.options.rate, new.options.priority,
             new.options.auto_ack ? ", auto-ack" : "", new.options.exclusive ? ", exclusive" : "",
             new.options.on_demand ? ", on demand" : "", new.options.counts_loss ? ", counts loss" : "",
             new.options.tells_late ? ", tells late" : "");
}

/* Who waits, once those whose delay is over are left out, and may go. */
static bool has_one_to_take(int queue)
{
    struct entry *first = NULL;

    for (size_t i = 0; i < w.m.n; i++) {
        struct entry *e = &w.m.entries[i];

        if (e->queue == queue && e->queue_id == w.m.queues[queue].id && e->state == WAITS &&
            (!first || entry_is_before(&w.m, e, first)))
            first = e;
    }
    return first && first->number < w.durable_upto;
}

static void do_take(const struct sim_step *step)
{
    struct model_consumer *c = &w.m.consumers[step->a % CONSUMERS_MAX];
    size_t before = w.deliveries;
    struct broker_queue_view view;
    int taken;

    for (int i = 0; i < CONSUMERS_MAX && !(c->there && c->options.on_demand); i++)
        c = &w.m.consumers[i];
    if (!c->there || !c->options.on_demand || broker_failure(w.broker))
        return;
    w.taker = c;
    taken = broker_take(w.broker, c->handle, w.now_us);
    w.taker = NULL;
    if (taken != -ENOENT)
        queue_used(&w.m, c->queue, w.now_us);
    sim_check((taken == -ENOENT) == broker_consumer_ended(c->handle), "taken from a queue that is gone");
    sim_check(w.deliveries - before == (taken == 1), "%zu are taken", w.deliveries - before);
    if (taken == 1)
        sim_count("taken");
    if (taken == -ENOENT || !broker_find_queue(w.broker, name_of(c->queue), &view))
        return;
    sim_check(broker_left(c->handle) == view.numbers.ready, "left to take");
    sim_check(taken || w.failing || w.m.queues[c->queue].paused || options_of(c->queue)->order_by.len ||
                  !has_one_to_take(c->queue),
              "one could be taken, and is not");
}

/* Windows change, and what was on its way leaves. */
static void do_window(const struct sim_step *step)
{
    struct model_window *window = &w.m.windows[step->a % WINDOWS_MAX];
    struct model_consumer *c = &w.m.consumers[step->a % CONSUMERS_MAX];

    if (step->b % 2) {
        window->prefetch = (unsigned)(step->a / CONSUMERS_MAX % 5);
        broker_window_change(w.broker, window->handle, window->prefetch);
        sim_tell("  window %d is %u", (int)(window - w.m.windows), window->prefetch);
    } else if (c->there) {
        uint64_t bytes = step->a / CONSUMERS_MAX % 2 ? c->transit : c->transit / 2;

        c->transit -= bytes;
        broker_credit(w.broker, c->handle, bytes);
    }
}

static void back_to_wait(struct entry *e)
{
    leave_consumer(e);
    e->state = WAITS;
}

static bool is_of(const struct model_consumer *c)
{
    return w.m.queues[c->queue].there && w.m.queues[c->queue].id == c->queue_id;
}

static void leave_line(struct model_consumer *c)
{
    bool counted = consumer_counts(&w.m, c, c->queue);

    c->stopped = true;
    if (counted)
        queue_used(&w.m, c->queue, w.now_us);
}

/* A consumer is gone, or gets no more: its queue may go with it. */
static void check_left(const struct model_consumer *c)
{
    const struct model_queue *q = &w.m.queues[c->queue];
    int owner = q->owner;

    if (!is_of(c) || !q->options.auto_delete || !q->had_consumer || queue_consumers(&w.m, c->queue))
        return;
    sim_tell("  %s goes with its last consumer", queue_name(c->queue));
    sim_count("auto-deleted");
    queue_remove(&w.m, c->queue);
    check_gone(c->queue, owner);
}

static void do_session(const struct sim_step *step)
{
    int session = (int)(step->a % SESSIONS_MAX);
    bool owned[QUEUES_MAX];

    if (w.unsettled || step->b % 3)
        return;
    for (int i = 0; i < QUEUES_MAX; i++) {
        owned[i] = w.m.queues[i].there && w.m.queues[i].owner == session;
        if (owned[i])
            queue_remove(&w.m, i);
    }
    broker_session_close(w.broker, w.m.sessions[session], w.now_us);
    w.m.sessions[session] = broker_session_open(w.broker);
    sim_check(w.m.sessions[session], "no memory");
    for (int i = 0; i < QUEUES_MAX; i++)
        if (owned[i]) {
            sim_tell("  %s goes with its session", queue_name(i));
            sim_count("gone with its session");
            check_gone(i, -1);
        }
}

static void do_unsubscribe(const struct sim_step *step)
{
    struct model_consumer *c = &w.m.consumers[step->a % CONSUMERS_MAX];

    if (!c->there)
        return;
    if (step->b % 4 == 2 && !broker_consumer_ended(c->handle)) {
        sim_tell("  consumer %d stops", (int)(c - w.m.consumers));
        leave_line(c);
        broker_consumer_stop(w.broker, c->handle, w.now_us);
        check_left(c);
        return;
    }
    if (step->b % 2 && !broker_consumer_ended(c->handle)) {
        c->hold_until_us = w.now_us + step->b % 5000 * US_PER_MS;
        broker_consumer_hold(w.broker, c->handle, c->hold_until_us);
        return;
    }
    for (size_t i = 0; i < w.m.n; i++)
        if (w.m.entries[i].state == FLIES && &w.m.consumers[w.m.entries[i].consumer] == c) {
            if (c->options.counts_loss)
                expect_retry(&w.m.entries[i]);
            else
                back_to_wait(&w.m.entries[i]);
        }
    sim_tell("  consumer %d is gone", (int)(c - w.m.consumers));
    leave_line(c);
    broker_unsubscribe(w.broker, c->handle, w.now_us);
    c->there = false;
    check_left(c);
}

static void settle_one(struct entry *e, struct rng *rng)
{
    struct message_ref ref = {e->queue_id, e->number};
    struct model_consumer *c = &w.m.consumers[e->consumer];
    size_t at = (size_t)(e - w.m.entries);
    uint64_t delay_us;
    int error, targets[QUEUES_MAX];

    uint64_t verdict = rng_below(rng, 8);

    sim_tell("  %llu of %s: verdict %u", (unsigned long long)e->number, queue_name(e->queue),
             (unsigned)verdict);
    switch (verdict) {
    case 0:
        expect_retry(e);
        error = broker_retry(w.broker, c->handle, ref, w.now_us);
        break;
    case 1:
        delay_us = rng_below(rng, 2) * rng_below(rng, 5000) * US_PER_MS;
        leave_consumer(e);
        e->state = delay_us ? DELAYED : WAITS;
        e->blocks = true;
        e->due_low = e->due_high = w.now_us + delay_us;
        error = broker_return(w.broker, c->handle, ref, delay_us, w.now_us);
        break;
    case 2:
        leave_consumer(e);
        e->attempts++;
        e->state = DYING;
        error = broker_reject(w.broker, c->handle, ref, w.now_us);
        break;
    default:
        error = broker_ack(w.broker, c->handle, ref, w.now_us);
        sim_check(w.m.entries[at].state == GONE, "acknowledged, and still there");
    }
    sim_check(error == 0, "a delivery cannot be settled: %s", strerror(-error));
    e = &w.m.entries[at];
    /* where an exchange sends it cannot be told while it cannot be read */
    sim_check(e->state != DYING || dead_targets(e, END_REJECTED, targets) > 0 ||
                  (w.failing && w.m.queues[e->queue].dead_exchange[0]),
              "dead, and still there");
    error = broker_ack(w.broker, c->handle, ref, w.now_us);
    sim_check(error == -ENOENT, "settled twice");
}

static void do_settle(const struct sim_step *step)
{
    struct rng rng = {step->a};
    uint64_t n = 1 + rng_below(&rng, w.deep ? 400 : 6);

    for (size_t i = 0; i < w.m.n && n; i++)
        if (w.m.entries[i].state == FLIES && (w.deep || rng_below(&rng, 3))) {
            settle_one(&w.m.entries[i], &rng);
            n--;
        }
}

static void do_purge(const struct sim_step *step)
{
    int queue = (int)(step->a % QUEUES_MAX);
    uint64_t bytes, n, waiting;

    if (!w.m.queues[queue].there || step->b % 3 || broker_failure(w.broker))
        return;
    waiting = queue_waiting(&w.m, queue, &bytes);
    if (broker_purge(w.broker, name_of(queue), &n, w.now_us))
        sim_check(w.failing, "purge");
    else
        sim_check(n == waiting && queue_waiting(&w.m, queue, &bytes) == 0, "purged %llu of %llu",
                  (unsigned long long)n, (unsigned long long)waiting);
}

static void do_move(const struct sim_step *step)
{
    int from = (int)(step->a % QUEUES_MAX), to = (int)(step->a / QUEUES_MAX % QUEUES_MAX), error;
    uint64_t n;

    if (!w.m.queues[from].there || !w.m.queues[to].there || broker_failure(w.broker))
        return;
    w.moving_to = to;
    error = broker_move(w.broker, name_of(from), name_of(to), step->b % 8, &n, w.now_us);
    w.moving_to = -1;
    sim_check(error == 0 || (error == -EINVAL && from == to) || error == -EXFULL || may_fail(error),
              "move: %s", strerror(-error));
}

/* ---- time, files ----------------------------------------------------------------------------------------------------- */

static void do_time(const struct sim_step *step)
{
    static const uint64_t most[] = {2 * US_PER_MS, 100 * US_PER_MS, 2 * US_PER_S, 40 * US_PER_S};

    w.now_us += step->a % most[step->b % 4];
}

static void end_checkpoint(int error)
{
    broker_checkpoint_end(w.broker, w.checkpoint, error);
    w.checkpoint = NULL;
    while (broker_compact(w.broker, 8192))
        ;
}

static void do_checkpoint(const struct sim_step *step)
{
    for (unsigned n = step->b % 2 ? 3 : 1; n; n--) {
        if (!w.checkpoint) {
            if (commit() == 0)
                w.checkpoint = broker_checkpoint_begin(w.broker);
            w.checkpoint_made = false;
            if (!w.checkpoint)
                return;
        } else if (!w.checkpoint_made) {
            w.checkpoint_error = broker_checkpoint_make(w.checkpoint);
            w.checkpoint_made = true;
            if (w.checkpoint_error)
                sim_check(may_fail(w.checkpoint_error), "checkpoint: %s", strerror(-w.checkpoint_error));
        } else {
            end_checkpoint(w.checkpoint_error);
            sim_count("checkpoints");
        }
    }
}

static void do_spare(const struct sim_step *step)
{
    struct log_spare *spare = log_spare_wanted(w.log) ? log_spare_begin(w.log) : NULL;

    (void)step;
    if (spare)
        log_spare_add(w.log, spare, log_spare_make(spare));
}

static void do_fault(const struct sim_step *step)
{
    static const int errors[] = {EIO, ENOSPC};
    enum disk_op op = (enum disk_op)(step->a % DISK_OPS);
    int error = op == DISK_WRITE || op == DISK_FILL ? errors[step->b % 2] : EIO;

    if (step->b % 7 == 0)
        disk_power_off(w.disk, step->a / DISK_OPS % 40);
    else
        disk_fail(w.disk, op, step->a / DISK_OPS % 20, error, step->b / 2 % 4 == 0);
    w.failing = true;
}

/* What was gathered meanwhile may have been appended, by a command, and refused. */
static void forget_places(void)
{
    for (size_t i = 0; i < w.m.n; i++) {
        struct entry *e = &w.m.entries[i];

        if (e->delivered && !e->delivered_place)
            e->delivered_place = BEHIND_ALL;
        if (e->attempts != e->attempts_logged)
            e->attempts_place = BEHIND_ALL;
        e->attempts_logged = e->attempts;
    }
}

static void do_limit(const struct sim_step *step)
{
    if (w.limited)
        forget_places();
    w.limited = step->b % 4 != 0;
    disk_limit(w.disk, w.limited ? disk_used(w.disk) + step->a % (6 * w.options.segment_bytes) : 0);
}

/* ---- opening again --------------------------------------------------------------------------------------------------- */

static int try_open(void)
{
    struct log_report report;
    struct broker_options options = {
        .storage = disk_storage(w.disk), .events = &events, .seed = w.seed, .now_us = w.now_us};
    int error = log_open(&w.log, &w.options, &report);

    if (error) {
        sim_tell("  log_open: %d %s", error, report.text);
        return error;
    }
    options.log = w.log;
    error = broker_open(&w.broker, &options, &report);
    for (int i = 0; i < WINDOWS_MAX && !error; i++) {
        w.m.windows[i].prefetch = 1 + (unsigned)(w.seed + (unsigned)i) % 5;
        w.m.windows[i].handle = broker_window_create(w.m.windows[i].prefetch);
        sim_check(w.m.windows[i].handle, "no memory");
    }
    for (int i = 0; i < SESSIONS_MAX && !error; i++) {
        w.m.sessions[i] = broker_session_open(w.broker);
        sim_check(w.m.sessions[i], "no memory");
    }
    sim_tell("  open: %d %s, end %llu", error, report.text, (unsigned long long)log_end(w.log));
    if (error) {
        log_close(w.log);
        w.log = NULL;
    }
    return error;
}

static void check_options(const struct model_queue *q, const struct broker_queue_options *o)
{
    const struct broker_queue_options *p = &q->options;

    if (w.unsettled)
        return;
    sim_check(p->max_length == o->max_length && p->max_bytes == o->max_bytes &&
                  p->max_age_us == o->max_age_us && p->ack_timeout_us == o->ack_timeout_us &&
                  p->retry_first_us == o->retry_first_us && p->retry_most_us == o->retry_most_us &&
                  p->idle_us == o->idle_us && p->attempts == o->attempts && p->overflow == o->overflow &&
                  p->priorities == o->priorities,
              "a queue has other numbers than it was declared with");
    sim_check(p->transient == o->transient && p->exclusive == o->exclusive &&
                  p->auto_delete == o->auto_delete && p->nothing_waits == o->nothing_waits &&
                  p->single_active == o->single_active && p->has_dead_letter == o->has_dead_letter &&
                  p->dead_keeps_key == o->dead_keeps_key,
              "a queue is of another kind than it was declared");
}

/* Which of the topology that was not settled is there; which numbers come next. */
static void learn_queue(void *arg, const struct broker_queue_view *view)
{
    (void)arg;
    for (int i = 0; i < QUEUES_MAX; i++)
        if (slice_equal(view->name, name_of(i))) {
            struct model_queue *q = &w.m.queues[i];

            if (!w.unsettled)
                sim_check(q->there && q->id == view->id, "queue %s is there", queue_name(i));
            check_options(q, view->options);
            q->there = true;
            q->id = view->id;
            q->paused = view->numbers.paused;
            q->options = *view->options;
            memcpy(q->dead_exchange, view->options->dead_exchange.ptr, view->options->dead_exchange.len);
            q->dead_exchange[view->options->dead_exchange.len] = '\0';
            q->options.dead_exchange = slice_from_text(q->dead_exchange);
            memcpy(q->dead_key, view->options->dead_key.ptr, view->options->dead_key.len);
            q->dead_key[view->options->dead_key.len] = '\0';
            q->options.dead_key = slice_from_text(q->dead_key);
            q->options.order_by = view->options->order_by.len ? KEY_FIELD : SLICE("");
            return;
        }
    sim_fail("a queue of another name");
}

/* Whether exchanges that are not durable could not be deleted when it was opened; then they are still there, or some. */
static void find_transient(void *arg, const struct broker_exchange_view *view)
{
    *(bool *)arg |= !view->options->durable;
}

static void learn_exchange(void *arg, const struct broker_exchange_view *view)
{
    struct model_exchange *x = &w.m.exchanges[exchange_by_name(view->name)];

    (void)arg;
    *x = (struct model_exchange){true, view->id, *view->options};
    x->options.alternate = view->options->alternate.len
                               ? slice_from_text(exchange_name(exchange_by_name(view->options->alternate)))
                               : SLICE("");
    x->options.arguments = arguments_of(arguments_by_bytes(view->options->arguments));
}

static void learn_binding(void *arg, const struct broker_binding_view *view)
{
    struct model_binding b = binding_of(view);

    (void)arg;
    binding_add(&w.m, &b);
}

static void learn_exchanges(bool after_restart)
{
    bool transient = false;

    for (int i = 0; i < EXCHANGES_MAX && after_restart; i++)
        if (w.m.exchanges[i].there && !w.m.exchanges[i].options.durable)
            exchange_remove(&w.m, i);
    broker_each_exchange(w.broker, find_transient, &transient);
    sim_check(!after_restart || !transient || w.limited || w.options.bytes_max,
              "an exchange outlives a restart");
    if (!w.unsettled && !transient)
        return;
    for (int i = 0; i < EXCHANGES_MAX; i++)
        w.m.exchanges[i].there = false;
    w.m.n_bindings = 0;
    broker_each_exchange(w.broker, learn_exchange, NULL);
    broker_each_binding(w.broker, learn_binding, NULL);
}

static void learn_topology(bool after_restart)
{
    struct broker_queue_view view;

    if (w.unsettled)
        for (int i = 0; i < QUEUES_MAX; i++)
            w.m.queues[i].there = false;
    broker_each_queue(w.broker, learn_queue, NULL);
    for (int i = 0; i < QUEUES_MAX; i++)
        sim_check(w.m.queues[i].there == broker_find_queue(w.broker, name_of(i), &view), "queue %s is lost",
                  queue_name(i));
    learn_exchanges(after_restart);
    check_exchanges();
}

static bool ends_with_restart(int queue)
{
    return options_of(queue)->transient || options_of(queue)->exclusive;
}

/* Queues that a start ends, and what was in them. */
static void forget_transient(void)
{
    struct broker_queue_view view;

    for (int i = 0; i < QUEUES_MAX; i++) {
        struct model_queue *q = &w.m.queues[i];

        if (!q->there || !ends_with_restart(i))
            continue;
        if (broker_find_queue(w.broker, name_of(i), &view)) {
            sim_check(w.limited || w.options.bytes_max, "queue %s outlives a restart", queue_name(i));
            continue;
        }
        sim_count("gone with a restart");
        for (size_t k = 0; k < w.m.n; k++)
            if (w.m.entries[k].queue == i && w.m.entries[k].queue_id == q->id)
                w.m.entries[k].state = GONE;
        queue_remove(&w.m, i);
    }
}

static void take_up(void)
{
    uint64_t end = broker_replayed_end(w.broker);
    size_t n = 0;

    sim_check(end >= w.confirmed || w.confirmed == 0, "the log ends at %llu, and %llu was durable",
              (unsigned long long)end, (unsigned long long)w.confirmed);
    memset(w.m.consumers, 0, sizeof w.m.consumers);
    forget_transient();
    learn_topology(true);
    for (int i = 0; i < QUEUES_MAX; i++) {
        w.m.queues[i].had_consumer = false;
        w.m.queues[i].owner = -1;
        queue_used(&w.m, i, w.now_us);
    }
    for (int i = 0; i < QUEUES_MAX; i++)
        if (w.m.queues[i].there)
            peek_queue(i, true, end);
    for (size_t i = 0; i < w.m.n; i++) { /* those of queues that are gone, and those that never were */
        const struct entry *e = &w.m.entries[i];

        if (e->position != BEHIND_ALL && e->state != GONE)
            w.m.entries[n++] = *e;
        else if (e->state != GONE)
            sim_check(!e->confirmed, "lost");
    }
    w.m.n = n;
    for (size_t i = 0; i < w.m.n_keys;)
        if (w.m.keys[i].position >= end)
            w.m.keys[i] = w.m.keys[--w.m.n_keys];
        else
            i++;
    w.m.next_number = broker_next_number(w.broker);
    w.confirmed = log_durable(w.log);
    w.unsettled = false;
    w.durable_upto = w.m.next_number;
    check_counts();
}

static void open_again(const struct sim_step *step)
{
    /* Of some: what salvage makes of the same disk must be the same. */
    bool salvages = step->b % 8 && step->b / 8 % 4 == 0 && !w.limited && !w.deep &&
                    salvage_begin(disk_storage(w.disk), w.seed, w.now_us);
    int error;

    w.failing = false;
    if (step->b % 8 == 0) {
        disk_power_off(w.disk, step->a % 60);
        w.failing = true;
    }
    while ((error = try_open()) != 0) {
        sim_check(w.failing || (error == -ENOSPC && w.limited), "opening: %s", strerror(-error));
        disk_limit(w.disk, 0);
        disk_crash(w.disk);
        w.failing = w.limited = false;
    }
    disk_heal(w.disk);
    w.failing = false;
    take_up();
    if (salvages) {
        salvage_compare(w.broker, w.now_us);
        salvage_end();
    }
}

static void close_all(void)
{
    disk_stop(w.disk);
    if (w.checkpoint)
        end_checkpoint(-ECANCELED);
    broker_close(w.broker);
    log_close(w.log);
    for (int i = 0; i < WINDOWS_MAX; i++)
        broker_window_free(w.m.windows[i].handle);
    for (int i = 0; i < SESSIONS_MAX; i++)
        free(w.m.sessions[i]); /* as the end of the process would */
    w.broker = NULL;
    w.log = NULL;
}

/* A bit of the index is turned over, which must not matter. */
static void spoil_index(uint64_t a)
{
    uint64_t bits = 8 * disk_size(w.disk, "index");

    if (bits && a % 3 == 0 && disk_flip(w.disk, "index", a / 3 % bits) == 0)
        sim_count("index spoiled");
}

static void do_close(const struct sim_step *step)
{
    if (commit() != 0)
        w.unsettled |= false;
    close_all();
    disk_restart(w.disk);
    spoil_index(step->a);
    open_again(step);
    sim_count("closes");
}

static void do_kill(const struct sim_step *step)
{
    close_all();
    disk_restart(w.disk);
    spoil_index(step->a);
    open_again(step);
    sim_count("kills");
}

static void do_crash(const struct sim_step *step)
{
    close_all();
    disk_crash(w.disk);
    spoil_index(step->a);
    open_again(step);
    sim_count("crashes");
}

/* ---- damage ---------------------------------------------------------------------------------------------------------- */

/* A bit of one file is turned over: what waits is salvaged, but for the one message that it was of. */
static void damage_and_salvage(struct rng *rng)
{
    size_t n_files = 0, n_lost = 0;
    uint64_t lost = 0;
    const char *name;

    while (disk_name(w.disk, n_files))
        n_files++;
    name = disk_name(w.disk, rng_below(rng, n_files));
    if (disk_size(w.disk, name) == 0)
        return;
    sim_tell("a bit of %s is turned over", name);
    sim_check(disk_flip(w.disk, name, rng_below(rng, 8 * disk_size(w.disk, name))) == 0, "flip");
    if (!salvage_begin(disk_storage(w.disk), w.seed, w.now_us))
        return; /* it was the one header that there was */
    for (size_t i = 0; i < w.m.n; i++) {
        const struct entry *e = &w.m.entries[i];

        fill(seen, e->bytes, e->content);
        if (e->state == GONE || !salvage_counts(e->position) || ends_with_restart(e->queue) ||
            salvage_has(e->queue_id, e->number, slice_of(seen, e->bytes)))
            continue;
        sim_tell("  message %llu of %s is lost", (unsigned long long)e->number, queue_name(e->queue));
        n_lost += e->number != lost;
        lost = e->number;
    }
    sim_check(n_lost <= 1, "%zu messages are lost with a bit of %s", n_lost, name);
    sim_check(n_lost == 0 || salvage_damages(), "message %llu is lost, and nothing is said",
              (unsigned long long)lost);
    salvage_end();
    sim_count("damages");
}

/* ---- a story --------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(const struct sim_step *step);
} steps_of[KINDS] = {
    [DECLARE] = {"declare", do_declare},
    [DELETE] = {"delete", do_delete},
    [EXCHANGE] = {"exchange", do_exchange},
    [BIND] = {"bind or unbind", do_bind},
    [PUBLISH] = {"publish", do_publish},
    [SUBSCRIBE] = {"subscribe", do_subscribe},
    [UNSUBSCRIBE] = {"unsubscribe or hold", do_unsubscribe},
    [SETTLE] = {"settle", do_settle},
    [TAKE] = {"take", do_take},
    [WINDOW] = {"window or credit", do_window},
    [SESSION] = {"session", do_session},
    [PAUSE] = {"pause", do_pause},
    [PURGE] = {"purge", do_purge},
    [MOVE] = {"move", do_move},
    [TURN] = {"turn", do_turn},
    [TIME] = {"time", do_time},
    [CHECKPOINT] = {"checkpoint", do_checkpoint},
    [SPARE] = {"spare", do_spare},
    [LOOK] = {"look", do_look},
    [CLOSE] = {"close", do_close},
    [KILL] = {"kill", do_kill},
    [CRASH] = {"crash", do_crash},
    [FAULT] = {"fault", do_fault},
    [LIMIT] = {"limit", do_limit},
};

static size_t plan(uint64_t seed, struct sim_step *steps)
{
    struct rng rng = {seed};
    size_t n = 20 + (size_t)rng_below(&rng, STEPS_MAX - 20);
    unsigned all = 0;

    for (size_t kind = 0; kind < KINDS; kind++)
        all += often[kind];
    for (size_t i = 0; i < n; i++) {
        unsigned kind = 0;
        uint64_t at = rng_below(&rng, all);

        while (at >= often[kind])
            at -= often[kind++];
        if (i < 9) /* something to begin with */
            kind = i < 3 ? DECLARE : i == 3 ? SUBSCRIBE : i < 7 ? EXCHANGE : BIND;
        steps[i] = (struct sim_step){kind, rng_next(&rng), rng_next(&rng)};
    }
    return n;
}

static void run_story(uint64_t seed, const struct sim_step *steps, size_t n)
{
    static const struct sim_step first = {0, 0, 1}, last = {CRASH, 1, 1};
    struct rng rng = {seed ^ 0x62726f6b6572};

    if (!w.disk)
        w.disk = disk_new(seed);
    disk_reset(w.disk, rng_next(&rng));
#ifdef MAITRED_PLANT_SKIP_SYNC /* a disk, or a program, that says that it has synced */
    disk_lie(w.disk);
#endif
    model_clear(&w.m);
    w = (struct world){
        .disk = w.disk,
        .m = w.m,
        .seed = seed,
        .now_us = UINT64_C(1700000000) * US_PER_S,
        .moving_to = -1,
        .deep = rng_below(&rng, 16) == 0,
        .options = {.storage = disk_storage(w.disk),
                    .segment_bytes = 4096u << rng_below(&rng, 4),
                    .id = seed},
    };
    if (w.deep)
        w.options.segment_bytes = 65536;
    else if (rng_below(&rng, 8) == 0)
        w.options.bytes_max = w.options.segment_bytes * (6 + rng_below(&rng, 20));
    open_again(&first);
    for (size_t i = 0; i < n; i++) {
        sim_tell("%s at %llu", steps_of[steps[i].kind].name, (unsigned long long)w.now_us);
        steps_of[steps[i].kind].run(&steps[i]);
    }
    sim_tell("the end");
    do_crash(&last);
    close_all();
    disk_restart(w.disk);
    if (!w.deep && rng_below(&rng, 4) == 0)
        damage_and_salvage(&rng);
}

int main(int argc, char **argv)
{
    static const struct sim sim = {"broker_sim", STEPS_MAX, plan, run_story};

    return sim_main(&sim, argc, argv);
}
