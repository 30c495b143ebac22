/* broker_open.c - opening again after a stop, a kill or a crash: what must be there, what may be, and nothing else. See
 * broker_world.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sim/broker_salvage.h"
#include "sim/broker_world.h"

static char seen[BODY_MAX];

static int try_open(void)
{
    struct log_report report;
    struct broker_options options = {
        .storage = disk_storage(w.disk), .events = &world_events, .seed = w.seed, .now_us = w.now_us};
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
        if (slice_equal(view->name, queue_slice(i))) {
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
    struct model_binding b = binding_of_view(view);

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

void world_learn_topology(bool after_restart)
{
    struct broker_queue_view view;

    if (w.unsettled)
        for (int i = 0; i < QUEUES_MAX; i++)
            w.m.queues[i].there = false;
    broker_each_queue(w.broker, learn_queue, NULL);
    for (int i = 0; i < QUEUES_MAX; i++)
        sim_check(w.m.queues[i].there == broker_find_queue(w.broker, queue_slice(i), &view),
                  "queue %s is lost", queue_name(i));
    learn_exchanges(after_restart);
    world_check_exchanges();
}

static bool ends_with_restart(int queue)
{
    return queue_options(queue)->transient || queue_options(queue)->exclusive;
}

/* Queues that a start ends, and what was in them. */
static void forget_transient(void)
{
    struct broker_queue_view view;

    for (int i = 0; i < QUEUES_MAX; i++) {
        struct model_queue *q = &w.m.queues[i];

        if (!q->there || !ends_with_restart(i))
            continue;
        if (broker_find_queue(w.broker, queue_slice(i), &view)) {
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
    world_learn_topology(true);
    for (int i = 0; i < QUEUES_MAX; i++) {
        w.m.queues[i].had_consumer = false;
        w.m.queues[i].owner = -1;
        queue_used(&w.m, i, w.now_us);
    }
    for (int i = 0; i < QUEUES_MAX; i++)
        if (w.m.queues[i].there)
            queue_peek(i, true, end);
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
    world_check_counts();
}

void world_open(const struct sim_step *step)
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

void world_close(void)
{
    disk_stop(w.disk);
    if (w.checkpoint)
        world_end_checkpoint(-ECANCELED);
    broker_close(w.broker);
    log_close(w.log);
    for (int i = 0; i < WINDOWS_MAX; i++)
        broker_window_unref(w.m.windows[i].handle);
    for (int i = 0; i < SESSIONS_MAX; i++)
        free(w.m.sessions[i]); /* as the end of the process would */
    w.broker = NULL;
    w.log = NULL;
    w.n_bodies = 0;
}

/* A bit of the index is turned over, which must not matter. */
static void spoil_index(uint64_t a)
{
    uint64_t bits = 8 * disk_size(w.disk, "index");

    if (bits && a % 3 == 0 && disk_flip(w.disk, "index", a / 3 % bits) == 0)
        sim_count("index spoiled");
}

void do_close(const struct sim_step *step)
{
    if (world_commit() != 0)
        w.unsettled |= false;
    world_close();
    disk_restart(w.disk);
    spoil_index(step->a);
    world_open(step);
    sim_count("closes");
}

void do_kill(const struct sim_step *step)
{
    world_close();
    disk_restart(w.disk);
    spoil_index(step->a);
    world_open(step);
    sim_count("kills");
}

void do_crash(const struct sim_step *step)
{
    world_close();
    disk_crash(w.disk);
    spoil_index(step->a);
    world_open(step);
    sim_count("crashes");
}

/* ---- damage --------------------------------------------------------------------------------------------------------- */

/* A bit of one file is turned over: what waits is salvaged, but for the one message that it was of, or those whose body it was of. */
void world_damage(struct rng *rng)
{
    size_t n_files = 0, n_lost = 0;
    uint64_t lost = 0, body;
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

        content_fill(seen, e->bytes, e->content);
        if (e->state == GONE || !salvage_counts(e->position) || ends_with_restart(e->queue) ||
            salvage_has(e->queue_id, e->number, slice_of(seen, e->bytes)))
            continue;
        sim_tell("  message %llu of %s is lost", (unsigned long long)e->number, queue_name(e->queue));
        n_lost += e->number != lost && !(stored_body_parse_name(name, &body) && body == e->body);
        lost = e->number;
    }
    sim_check(n_lost <= 1, "%zu messages are lost with a bit of %s", n_lost, name);
    sim_check(n_lost == 0 || salvage_damages(), "message %llu is lost, and nothing is said",
              (unsigned long long)lost);
    salvage_end();
    sim_count("damages");
}
