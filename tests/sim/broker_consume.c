/* broker_consume.c - steps of consumers, their sessions and windows, and what is done by hand. See broker_world.h. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "sim/broker_world.h"

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
    for (int i = 0; i < BROKER_WINDOWS; i++) { /* two different ones */
        c->windows[i] = w.deep || rng_below(rng, 3) ? -1 : (int)rng_below(rng, WINDOWS_MAX / 2) * 2 + i;
        if (c->windows[i] >= 0)
            o.windows[i] = w.m.windows[c->windows[i]].handle;
    }
    c->options = o;
}

void do_subscribe(const struct sim_step *step)
{
    struct rng rng = {step->a};
    int queue = (int)rng_below(&rng, QUEUES_MAX), error;
    struct model_consumer *c = &w.m.consumers[rng_below(&rng, CONSUMERS_MAX)], new = {.there = true};
    bool busy;

    if (!w.m.queues[queue].there || c->there)
        return;
    random_consumer(&rng, c);
    new.options = c->options;
    memcpy(new.windows, c->windows, sizeof new.windows);
    new.queue = queue;
    new.queue_id = w.m.queues[queue].id;
    new.since_us = w.now_us;
    new.order = w.m.n_subscribed++;
    *c = (struct model_consumer){.there = false};
    busy = new.options.exclusive &&w.m.queues[queue].options.single_active;
    for (int i = 0; i < CONSUMERS_MAX; i++)
        busy |= consumer_counts(&w.m, &w.m.consumers[i], queue) &&
                (new.options.exclusive || w.m.consumers[i].options.exclusive);
    error = broker_subscribe(w.broker, queue_slice(queue), &new.options, &new.handle);
    sim_check(error == (busy && !new.options.on_demand ? -EBUSY : 0), "subscribe: %s", strerror(-error));
    if (error)
        return;
    *c = new;
    if (!new.options.on_demand) {
        w.m.queues[queue].had_consumer = true;
        queue_used(&w.m, queue, w.now_us);
    }
    sim_tell(
        "  consumer %d of %s: prefetch %u, windows %d and %d, transit %llu, rate %.1f, priority %d%s%s%s%s%s",
        (int)(c - w.m.consumers), queue_name(queue), new.options.prefetch, new.windows[0], new.windows[1],
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

void do_take(const struct sim_step *step)
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
    if (taken == -ENOENT || !broker_find_queue(w.broker, queue_slice(c->queue), &view))
        return;
    sim_check(broker_left(c->handle) == view.numbers.ready, "left to take");
    sim_check(taken || w.failing || w.m.queues[c->queue].paused || queue_options(c->queue)->order_by.len ||
                  !has_one_to_take(c->queue),
              "one could be taken, and is not");
}

/* Windows change, and what was on its way leaves. */
void do_window(const struct sim_step *step)
{
    struct model_window *window = &w.m.windows[step->a % WINDOWS_MAX];
    struct model_consumer *c = &w.m.consumers[step->a % CONSUMERS_MAX];

    if (step->b % 2) {
        window->prefetch = (unsigned)(step->a / CONSUMERS_MAX % 5);
        broker_window_change(window->handle, window->prefetch);
        sim_tell("  window %d is %u", (int)(window - w.m.windows), window->prefetch);
    } else if (c->there) {
        uint64_t bytes = step->a / CONSUMERS_MAX % 2 ? c->transit : c->transit / 2;

        c->transit -= bytes;
        broker_credit(w.broker, c->handle, bytes);
    }
}

static void back_to_wait(struct entry *e)
{
    entry_leave_consumer(e);
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
    queue_check_gone(c->queue, owner);
}

void do_session(const struct sim_step *step)
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
            queue_check_gone(i, -1);
        }
}

void do_unsubscribe(const struct sim_step *step)
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
                entry_expect_retry(&w.m.entries[i]);
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
        entry_expect_retry(e);
        error = broker_retry(w.broker, c->handle, ref, w.now_us);
        break;
    case 1:
        delay_us = rng_below(rng, 2) * rng_below(rng, 5000) * US_PER_MS;
        entry_leave_consumer(e);
        e->state = delay_us ? DELAYED : WAITS;
        e->blocks = true;
        e->due_low = e->due_high = w.now_us + delay_us;
        error = broker_return(w.broker, c->handle, ref, delay_us, w.now_us);
        break;
    case 2:
        entry_leave_consumer(e);
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
    /* where an exchange, or its own key, sends it cannot be told while it cannot be read */
    sim_check(
        e->state != DYING || entry_dead_targets(e, END_REJECTED, targets) > 0 ||
            (w.failing && (w.m.queues[e->queue].dead_exchange[0] || queue_options(e->queue)->dead_keeps_key)),
        "dead, and still there");
    error = broker_ack(w.broker, c->handle, ref, w.now_us);
    sim_check(error == -ENOENT, "settled twice");
}

void do_settle(const struct sim_step *step)
{
    struct rng rng = {step->a};
    uint64_t n = 1 + rng_below(&rng, w.deep ? 400 : 6);

    for (size_t i = 0; i < w.m.n && n; i++)
        if (w.m.entries[i].state == FLIES && (w.deep || rng_below(&rng, 3))) {
            settle_one(&w.m.entries[i], &rng);
            n--;
        }
}

void do_purge(const struct sim_step *step)
{
    int queue = (int)(step->a % QUEUES_MAX);
    uint64_t bytes, n, waiting;

    if (!w.m.queues[queue].there || step->b % 3 || broker_failure(w.broker))
        return;
    waiting = queue_waiting(&w.m, queue, &bytes);
    if (broker_purge(w.broker, queue_slice(queue), &n, w.now_us))
        sim_check(w.failing, "purge");
    else
        sim_check(n == waiting && queue_waiting(&w.m, queue, &bytes) == 0, "purged %llu of %llu",
                  (unsigned long long)n, (unsigned long long)waiting);
}

void do_move(const struct sim_step *step)
{
    int from = (int)(step->a % QUEUES_MAX), to = (int)(step->a / QUEUES_MAX % QUEUES_MAX), error;
    uint64_t n;

    if (!w.m.queues[from].there || !w.m.queues[to].there || broker_failure(w.broker))
        return;
    w.moving_to = to;
    error = broker_move(w.broker, queue_slice(from), queue_slice(to), step->b % 8, &n, w.now_us);
    w.moving_to = -1;
    sim_check(error == 0 || (error == -EINVAL && from == to) || error == -EXFULL || world_may_fail(error),
              "move: %s", strerror(-error));
}
