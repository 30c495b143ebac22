/* broker_world.c - see broker_world.h: what is known of messages and queues, turns, and what has to have happened by their end. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "sim/broker_world.h"

struct world w;

void content_fill(char *bytes, size_t n, uint64_t content)
{
    struct rng rng = {content};

    for (size_t i = 0; i < n; i += 8) {
        uint64_t r = rng_next(&rng);

        memcpy(bytes + i, &r, n - i < 8 ? n - i : 8);
    }
}

struct slice queue_slice(int queue)
{
    return slice_from_text(queue_name(queue));
}

struct broker_queue_options *queue_options(int queue)
{
    return &w.m.queues[queue].options;
}

bool world_may_fail(int error)
{
    return w.failing || log_failure(w.log) || (error == -ENOSPC && (w.limited || w.options.bytes_max));
}

struct entry *entry_must_find(struct message_ref ref, const char *what)
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

    return key >= 0 ? routing_key(key) : queue_slice(queue_by_name(slice_from_text(text)));
}

void entry_die(struct entry *e, int queue, enum message_end end)
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
int entry_dead_targets(const struct entry *e, enum message_end end, int targets[QUEUES_MAX])
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

/* ---- turns ---------------------------------------------------------------------------------------------------------- */

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
void world_flush(void)
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

int world_commit(void)
{
    int error;

    world_flush();
    error = log_commit(w.log);
    if (error)
        sim_check(world_may_fail(error), "commit: %s", strerror(-error));
    confirm();
    return error;
}

/* It failed, and is tried again within what the back-off allows, or ends. */
void entry_expect_retry(struct entry *e)
{
    const struct broker_queue_options *o = queue_options(e->queue);
    uint64_t wait = o->retry_first_us;

    entry_leave_consumer(e);
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
            e->deadline_us = w.now_us + queue_options(e->queue)->ack_timeout_us;
            w.n_late++;
            continue;
        }
        entry_expect_retry(e);
        e->due_low = w.now_us; /* what chance may take off is checked where it fails by itself */
    }
}

/* Whether the delay of one that goes before it may be over: what chance took off is not known. */
static bool may_come_before(const struct entry *e)
{
    for (size_t i = 0; i < w.m.n; i++) {
        const struct entry *o = &w.m.entries[i];

        if (entry_is_beside(o, e) && o->state == DELAYED && o->due_low <= w.now_us &&
            entry_is_before(&w.m, o, e))
            return true;
    }
    return false;
}

/* It is to leave, and is there because it cannot. */
static void check_leaves(const struct entry *e, enum message_end end, const char *what)
{
    struct model_queue *q = &w.m.queues[e->queue];

    if (entry_may_be_stuck(e, end))
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
    const struct entry *first = queue_first(queue);

    if (!first || first->number >= before)
        return;
    entry_check_takers(first, "waits");
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

/* A queue that the model does not have any more; if it could not go, it has that owner. */
void queue_check_gone(int queue, int owner)
{
    struct broker_queue_view view;
    bool unsettled = w.unsettled;

    sim_count("queues that went");
    if (broker_find_queue(w.broker, queue_slice(queue), &view)) {
        sim_check(world_may_fail(-ENOSPC), "queue %s is to go, and stays", queue_name(queue));
        w.unsettled = true;
        world_learn_topology(false);
        w.unsettled = unsettled;
        w.m.queues[queue].owner = owner;
        queue_used(&w.m, queue, w.now_us);
    } else if (world_commit() != 0) {
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

void world_run(void)
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
            queue_check_gone(i, owners[i]);
    sim_check(!w.n_late, "%u are late, and are not told", w.n_late);
    world_check_counts();
    check_idle(before);
}

void do_turn(const struct sim_step *step)
{
    if (step->a % 4 == 0) {
        world_flush();
        if (log_write(w.log))
            sim_check(world_may_fail(-EIO), "write");
    } else {
        world_commit();
    }
    world_run();
    if (step->a % 8 < 4 && broker_needs_commit(w.broker) && world_commit() == 0)
        world_run();
    world_remove_bodies();
    if (step->b % 4 || w.failing || world_commit() != 0)
        return;
    world_remove_bodies();
    world_check_bodies();
}
