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
    [DECLARE] = 5,     [DELETE] = 1,      [EXCHANGE] = 3, [BIND] = 6,  [PUBLISH] = 30, [SUBSCRIBE] = 6,
    [UNSUBSCRIBE] = 3, [SETTLE] = 30,     [PAUSE] = 2,    [PURGE] = 1, [MOVE] = 2,     [TURN] = 30,
    [TIME] = 14,       [CHECKPOINT] = 12, [SPARE] = 6,    [LOOK] = 4,  [CLOSE] = 1,    [KILL] = 3,
    [CRASH] = 5,       [FAULT] = 2,       [LIMIT] = 1,
};

static struct world {
    struct disk *disk;
    struct log *log;
    struct broker *broker;
    struct log_options options;
    struct model m;
    uint64_t seed, now_us, content;
    uint64_t flushed;   /* log_end after the last flush: what was gathered before stands below */
    uint64_t confirmed; /* the greatest log_durable that somebody was told of */
    int moving_to;      /* the queue that messages are moved to; -1 */
    bool deep, failing, limited, running;
    bool unsettled; /* topology that may be on disk or not */
    struct broker_checkpoint *checkpoint;
    bool checkpoint_made;
    int checkpoint_error;
    size_t deliveries;
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
    int queue = queue_by_id(&w.m, ref.queue);
    struct entry *e = queue < 0 ? NULL : entry_find(&w.m, queue, ref.queue, ref.number);

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

static void die_once_more(struct entry *e, int queue, enum message_end end)
{
    unsigned n = 0;

    for (unsigned i = 0; i < e->n_deaths; i++)
        if (e->deaths[i].queue != queue || e->deaths[i].reason != end)
            e->deaths[n++] = e->deaths[i];
    memmove(e->deaths + 1, e->deaths, n * sizeof e->deaths[0]);
    e->deaths[0] = (struct model_death){(uint8_t)queue, (uint8_t)end};
    e->n_deaths = n + 1;
}

/* Queues where its dead go, as the model knows it; how many. */
static int dead_targets(const struct entry *e, enum message_end end, int targets[QUEUES_MAX])
{
    const struct model_queue *q = &w.m.queues[e->queue];
    struct model_routing routing = {
        exchange_by_name(slice_from_text(q->dead_exchange)), e->headers, {slice_from_text(q->dead_key)}, 1};
    int n = q->options.has_dead_letter ? model_route(&w.m, &routing, targets) : 0;

    for (int i = 0; i < n; i++)
        if (goes_round(e, end, targets[i])) {
            memmove(targets + i, targets + i + 1, (size_t)(n - i - 1) * sizeof *targets);
            n--;
            i--;
        }
    return n;
}

/* ---- what the broker says -------------------------------------------------------------------------------------------- */

static void check_order(const struct entry *e)
{
    const struct model_queue *q = &w.m.queues[e->queue];

    for (size_t i = 0; i < w.m.n && w.m.entries[i].number < e->number; i++) {
        const struct entry *o = &w.m.entries[i];
        bool waits = o->state == WAITS || (o->state == DELAYED && o->due_high <= w.now_us);

        if (o->queue != e->queue || o->queue_id != e->queue_id || o->state == GONE)
            continue;
        if (!q->options.order_by.len)
            sim_check(!waits, "message %llu is delivered before %llu", (unsigned long long)e->number,
                      (unsigned long long)o->number);
        else if (o->key && o->key == e->key && !e->delivered &&
                 !e->blocks) /* else it is the one on its way */
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

static void check_consumer(struct model_consumer *c)
{
    double most;

    c->in_flight++;
    c->n++;
    sim_check(!c->options.prefetch || c->in_flight <= c->options.prefetch, "over prefetch");
    sim_check(c->hold_until_us <= w.now_us, "delivered while held");
    sim_check(!w.m.queues[c->queue].paused, "delivered while paused");
    if (c->options.rate <= 0)
        return;
    most = c->options.burst + c->options.rate * ((double)(w.now_us - c->since_us) / US_PER_S + 0.1) + 1;
    sim_check((double)c->n <= most, "%llu deliveries where %.1f are allowed", (unsigned long long)c->n, most);
}

static void check_content(const struct entry *e, const struct message *message)
{
    struct slice key = envelope_field(message->head, KEY_FIELD),
                 value = envelope_find(message->head, ENVELOPE_DEATH);
    struct death death;

    fill(seen, e->bytes, e->content);
    sim_check(slice_equal(message->body, slice_of(seen, e->bytes)), "message %llu has another body",
              (unsigned long long)e->number);
    sim_check(e->key ? key.len == 1 && key.ptr[0] == (char)('0' + e->key) : !key.ptr,
              "message %llu has another key", (unsigned long long)e->number);
    sim_check((value.ptr != NULL) == (e->n_deaths > 0), "message %llu has a death too many or too few",
              (unsigned long long)e->number);
    if (!value.ptr)
        return;
    sim_check(death_parse(value, &death), "a death does not parse");
    sim_check(death.reason == e->deaths[0].reason, "message %llu died of %s", (unsigned long long)e->number,
              message_end_names[death.reason]);
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
    sim_check(w.running, "a delivery outside of broker_run");
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
    check_consumer(c);
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

/* It takes the place of old, which ended so. */
static void go_on(const struct entry *old, int target, enum message_end end)
{
    struct entry *e = entry_add(&w.m);

    *e = *old;
    e->number = w.m.next_number;
    e->queue = (uint8_t)target;
    e->queue_id = w.m.queues[target].id;
    e->state = WAITS;
    e->blocks = e->delivered = e->confirmed = false;
    e->attempts = 0;
    e->queued_us = w.now_us;
    e->position = log_end(w.log) - 1; /* its record ends there */
    e->gone_low = e->gone_high = e->delivered_place = e->attempts_place = 0;
    e->attempts_logged = 0;
    if (end != END_MOVED) {
        die_once_more(e, old->queue, end);
    }
}

static void ended(void *arg, const struct broker_ending *ending)
{
    struct entry *e = must_find(ending->ref, "end"), old;
    int targets[QUEUES_MAX] = {w.moving_to}, n = ending->end == END_MOVED;

    (void)arg;
    sim_tell("  %llu of %s: %s", (unsigned long long)e->number, queue_name(e->queue),
             message_end_names[ending->end]);
    leave_consumer(e);
    if (ending->end != END_MOVED && ending->end != END_ACKED && ending->end != END_PURGED &&
        !(ending->end == END_MAXLEN && options_of(e->queue)->overflow == LIMIT_DROP_OLDEST))
        n = dead_targets(e, ending->end, targets);
    if (ending->end == END_EXPIRED)
        sim_check(options_of(e->queue)->max_age_us &&
                      e->queued_us / US_PER_MS * US_PER_MS + options_of(e->queue)->max_age_us <= w.now_us,
                  "message %llu expires too early", (unsigned long long)e->number);
    e->state = GONE;
    e->gone_low = log_end(w.log);
    e->gone_high = n ? log_end(w.log) : BEHIND_ALL;
    sim_count(message_end_names[ending->end]);
    if (n > 1)
        sim_count("dead to several");
    if (!n)
        return;
    old = *e;
    for (int i = 0; i < n; i++)
        go_on(&old, targets[i], ending->end);
    w.m.next_number++;
}

static const struct broker_events events = {.deliver = deliver, .ended = ended};

/* ---- turns ----------------------------------------------------------------------------------------------------------- */

/* Marks and attempts are appended where there is room, and forgotten where there is none; a DONE has room that was promised. */
static void note_places(struct entry *e)
{
    bool certain = !w.failing && !w.limited && !w.options.bytes_max && !log_failure(w.log);
    uint64_t place = certain ? log_end(w.log) : BEHIND_ALL;

    if (e->delivered && !e->delivered_place)
        e->delivered_place = place;
    if (e->attempts != e->attempts_logged && e->state != FLIES && e->state != GONE && e->state != DYING) {
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

/* Deadlines that pass now: the attempt counts, and another one comes later, or the end. */
static void pass_deadlines(void)
{
    for (size_t i = 0; i < w.m.n; i++) {
        struct entry *e = &w.m.entries[i];
        const struct broker_queue_options *o = options_of(e->queue);

        if (e->state != FLIES || e->deadline_us > w.now_us)
            continue;
        leave_consumer(e);
        e->attempts++;
        e->state = DELAYED;
        e->blocks = true;
        e->due_low = w.now_us; /* what chance may take off is checked where it fails by itself */
        e->due_high = w.now_us + o->retry_most_us;
        if (o->attempts && e->attempts >= o->attempts)
            e->state = DYING;
    }
}

static void check_counts(void);

static void run(void)
{
    pass_deadlines();
    w.running = true;
    broker_run(w.broker, w.now_us);
    w.running = false;
    check_counts();
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

    (void)arg;
    sim_check(queue >= 0 && slice_equal(view->name, name_of(queue)), "a queue that nobody declared");
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
    if (!broker_failure(w.broker))
        broker_each_queue(w.broker, check_queue, NULL);
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
        .retry_first_us = (1 + rng_below(rng, 2000)) * US_PER_MS,
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
    o.overflow = (enum queue_limit_rule)rng_below(rng, 3);
    o.has_dead_letter = rng_below(rng, 2);
    strcpy(q->dead_exchange, rng_below(rng, 2) ? "" : exchange_name((int)rng_below(rng, EXCHANGES_MAX)));
    strcpy(q->dead_key, q->dead_exchange[0] ? routing_key((int)rng_below(rng, 7)).ptr
                                            : queue_name((int)rng_below(rng, QUEUES_MAX)));
    o.dead_exchange = slice_from_text(q->dead_exchange);
    o.dead_key = slice_from_text(q->dead_key);
    if (rng_below(rng, 3) == 0)
        o.order_by = KEY_FIELD;
    if (w.deep)
        o.max_length = o.max_bytes = 0;
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
    error = broker_declare_queue(w.broker, name_of(queue), &options, DECLARE_SET);
    if (error) {
        *q = old;
        settle_topology(error);
        return;
    }
    q->there = true;
    q->options = options;
    sim_check(broker_find_queue(w.broker, name_of(queue), &view), "a declared queue is not there");
    q->id = view.id;
    sim_tell("  %s: length %llu, bytes %llu, age %llu, attempts %u, overflow %u, dead %s %s, order %zu",
             queue_name(queue), (unsigned long long)options.max_length, (unsigned long long)options.max_bytes,
             (unsigned long long)options.max_age_us, options.attempts, options.overflow,
             options.has_dead_letter ? q->dead_exchange : "-", q->dead_key, options.order_by.len);
    settle_topology(0);
}

static void do_delete(const struct sim_step *step)
{
    int queue = (int)(step->a % QUEUES_MAX), error;

    if (!w.m.queues[queue].there || w.unsettled)
        return;
    error = broker_delete_queue(w.broker, name_of(queue), false, w.now_us);
    if (error) {
        sim_check(may_fail(error), "delete: %s", strerror(-error));
        return;
    }
    w.m.queues[queue].there = w.m.queues[queue].paused = false;
    bindings_remove_to(&w.m, queue, false);
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

    return (o->max_length && n + 1 > o->max_length) ||
           (o->max_bytes && bytes + more + 300 * (n + 1) > o->max_bytes);
}

static void note_published(const struct broker_published *published, const int *targets, int n,
                           uint32_t bytes, uint8_t key, int headers, uint64_t delay_us)
{
    sim_check(published->number == w.m.next_number, "message %llu, and %llu is next",
              (unsigned long long)published->number, (unsigned long long)w.m.next_number);
    w.m.next_number++;
    for (int i = 0; i < n; i++) {
        struct entry *e = entry_add(&w.m);

        *e = (struct entry){
            .number = published->number,
            .content = w.content,
            .bytes = bytes,
            .key = key,
            .headers = (uint8_t)headers,
            .queue = (uint8_t)targets[i],
            .queue_id = w.m.queues[targets[i]].id,
            .state = delay_us ? DELAYED : WAITS,
            .due_low = w.now_us + delay_us,
            .due_high = w.now_us + delay_us,
            .queued_us = w.now_us,
            .position = published->position,
        };
    }
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

static void publish_one(struct rng *rng, bool small)
{
    struct model_routing routing;
    int targets[QUEUES_MAX], n;
    uint32_t bytes = (uint32_t)rng_below(rng, small ? 20 : rng_below(rng, 4) ? 200 : BODY_MAX);
    uint8_t key = (uint8_t)rng_below(rng, KEYS_MAX + 1);
    uint64_t client_key = rng_below(rng, 6) == 0 ? 1 + rng_below(rng, 5) : 0, window_us = 30 * US_PER_S;
    uint64_t delay_us = rng_below(rng, 5) == 0 ? (1 + rng_below(rng, 20000)) * US_PER_MS : 0;
    char head[512], *head_end = head, more_keys[64], key_text[1] = {(char)('0' + key)}, client_text[24] = "";
    struct broker_publication p = {.body = slice_of(body, bytes), .delay_us = delay_us};
    struct broker_published published;
    struct model_key *known = NULL;
    enum publish_result result;

    random_routing(rng, small, &routing, &p, more_keys);
    n = model_route(&w.m, &routing, targets);
    w.content = rng_next(rng);
    fill(body, bytes, w.content);
    if (key)
        head_end =
            envelope_put(head_end, &(struct envelope_item){ENVELOPE_FIELD, KEY_FIELD, slice_of(key_text, 1)});
    head_end = headers_put(head_end, routing.headers, rng_below(rng, 2));
    p.head = slice_of(head, (size_t)(head_end - head));
    if (client_key) {
        client_text[0] = (char)('a' + client_key);
        p.idempotency = slice_of(client_text, 1);
        p.idempotency_window_us = window_us;
    }
    result = broker_publish(w.broker, &p, &published, w.now_us);
    if (client_key && published.address)
        known = key_find(&w.m, published.address, client_key, w.now_us);
    switch (result) {
    case PUBLISH_OK:
        sim_tell("  %llu is published to %d queues, %u bytes, key %u, delay %llu ms",
                 (unsigned long long)published.number, n, bytes, key,
                 (unsigned long long)(delay_us / US_PER_MS));
        sim_check(n > 0, "published to nobody");
        if (routing.exchange >= 0)
            sim_count(n > 1 ? "routed to several" : "routed to one");
        sim_check(!known, "a message with a key that is known is stored again");
        note_published(&published, targets, n, bytes, key, routing.headers, delay_us);
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
        for (int i = 0; i < n; i++)
            if (is_over(targets[i], bytes))
                n = 0;
        sim_check(n == 0, "full, and it is not");
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

static void do_subscribe(const struct sim_step *step)
{
    struct rng rng = {step->a};
    int queue = (int)rng_below(&rng, QUEUES_MAX);
    struct model_consumer *c = &w.m.consumers[rng_below(&rng, CONSUMERS_MAX)];

    if (!w.m.queues[queue].there || c->there)
        return;
    *c = (struct model_consumer){
        .there = true, .queue = queue, .queue_id = w.m.queues[queue].id, .since_us = w.now_us};
    c->options =
        (struct broker_consumer_options){.owner = c, .prefetch = (unsigned)rng_below(&rng, 8), .burst = 1};
    if (rng_below(&rng, 3) == 0) {
        c->options.rate = 0.2 + (double)rng_below(&rng, 100);
        c->options.burst = 1 + (unsigned)rng_below(&rng, 5);
    }
    if (w.deep)
        c->options.prefetch = 200;
    sim_check(broker_subscribe(w.broker, name_of(queue), &c->options, &c->handle) == 0, "subscribe");
}

static void back_to_wait(struct entry *e)
{
    leave_consumer(e);
    e->state = WAITS;
}

static void do_unsubscribe(const struct sim_step *step)
{
    struct model_consumer *c = &w.m.consumers[step->a % CONSUMERS_MAX];

    if (!c->there)
        return;
    if (step->b % 2 && !broker_consumer_ended(c->handle)) {
        c->hold_until_us = w.now_us + step->b % 5000 * US_PER_MS;
        broker_consumer_hold(w.broker, c->handle, c->hold_until_us);
        return;
    }
    for (size_t i = 0; i < w.m.n; i++)
        if (w.m.entries[i].state == FLIES && &w.m.consumers[w.m.entries[i].consumer] == c)
            back_to_wait(&w.m.entries[i]);
    broker_unsubscribe(w.broker, c->handle, w.now_us);
    c->there = false;
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
    e->state = o->attempts && e->attempts >= o->attempts ? DYING : DELAYED;
    e->blocks = true;
    e->due_low = w.now_us + wait - wait / 4;
    e->due_high = w.now_us + wait;
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
    sim_tell("  open: %d %s, end %llu", error, report.text, (unsigned long long)log_end(w.log));
    if (error) {
        log_close(w.log);
        w.log = NULL;
    }
    return error;
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

static void learn_exchanges(void)
{
    bool transient = false;

    for (int i = 0; i < EXCHANGES_MAX; i++)
        if (w.m.exchanges[i].there && !w.m.exchanges[i].options.durable)
            exchange_remove(&w.m, i);
    broker_each_exchange(w.broker, find_transient, &transient);
    sim_check(!transient || w.limited || w.options.bytes_max, "an exchange outlives a restart");
    if (!w.unsettled && !transient)
        return;
    for (int i = 0; i < EXCHANGES_MAX; i++)
        w.m.exchanges[i].there = false;
    w.m.n_bindings = 0;
    broker_each_exchange(w.broker, learn_exchange, NULL);
    broker_each_binding(w.broker, learn_binding, NULL);
}

static void learn_topology(void)
{
    struct broker_queue_view view;

    if (w.unsettled)
        for (int i = 0; i < QUEUES_MAX; i++)
            w.m.queues[i].there = false;
    broker_each_queue(w.broker, learn_queue, NULL);
    for (int i = 0; i < QUEUES_MAX; i++)
        sim_check(w.m.queues[i].there == broker_find_queue(w.broker, name_of(i), &view), "queue %s is lost",
                  queue_name(i));
    learn_exchanges();
    check_exchanges();
}

static void take_up(void)
{
    uint64_t end = broker_replayed_end(w.broker);
    size_t n = 0;

    sim_check(end >= w.confirmed || w.confirmed == 0, "the log ends at %llu, and %llu was durable",
              (unsigned long long)end, (unsigned long long)w.confirmed);
    memset(w.m.consumers, 0, sizeof w.m.consumers);
    learn_topology();
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
        if (e->state == GONE || !salvage_counts(e->position) ||
            salvage_has(e->queue_id, e->number, slice_of(seen, e->bytes)))
            continue;
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
