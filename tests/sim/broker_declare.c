/* broker_declare.c - steps that change queues, exchanges and bindings. See broker_world.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "sim/broker_world.h"

static void settle_topology(int error)
{
    if (error)
        sim_check(world_may_fail(error), "topology: %s", strerror(-error));
    else if (world_commit() != 0)
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
    snprintf(q->dead_exchange, sizeof q->dead_exchange, "%s",
             rng_below(rng, 2) ? "" : exchange_name((int)rng_below(rng, EXCHANGES_MAX)));
    snprintf(q->dead_key, sizeof q->dead_key, "%s",
             q->dead_exchange[0] ? routing_key((int)rng_below(rng, 7)).ptr
                                 : queue_name((int)rng_below(rng, QUEUES_MAX)));
    o.dead_exchange = slice_from_text(q->dead_exchange);
    o.dead_key = slice_from_text(q->dead_key);
    if (rng_below(rng, 3) == 0)
        o.order_by = KEY_FIELD;
    if (w.deep)
        o.max_length = o.max_bytes = o.nothing_waits = 0;
    return o;
}

void do_declare(const struct sim_step *step)
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
    error = broker_declare_queue(w.broker, queue_slice(queue), &options, DECLARE_SET);
    if (error) {
        *q = old;
        settle_topology(error);
        return;
    }
    q->there = true;
    q->options = options;
    sim_check(broker_find_queue(w.broker, queue_slice(queue), &view), "a declared queue is not there");
    if (old.there) /* what waits is sorted by them */
        q->options.priorities = old.options.priorities;
    sim_check(view.options->priorities == q->options.priorities, "a queue changes its priorities");
    q->id = view.id;
    if (!old.there) {
        q->had_consumer = false;
        q->owner = options.exclusive ? (int)rng_below(&rng, SESSIONS_MAX) : -1;
        if (q->owner >= 0)
            broker_own_queue(w.broker, queue_slice(queue), w.m.sessions[q->owner]);
    }
    broker_touch_queue(w.broker, queue_slice(queue), w.now_us);
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

void do_delete(const struct sim_step *step)
{
    int queue = (int)(step->a % QUEUES_MAX), error;
    unsigned n_consumers;

    if (!w.m.queues[queue].there || w.unsettled)
        return;
    n_consumers = queue_consumers(&w.m, queue);
    w.n_cancelled = 0;
    error = broker_delete_queue(w.broker, queue_slice(queue), false, w.now_us);
    if (error) {
        sim_check(world_may_fail(error), "delete: %s", strerror(-error));
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

void do_exchange(const struct sim_step *step)
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
                                                     : queue_slice(b->destination),
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

void do_bind(const struct sim_step *step)
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

void do_pause(const struct sim_step *step)
{
    int queue = (int)(step->a % QUEUES_MAX), error;

    if (!w.m.queues[queue].there || w.unsettled)
        return;
    error = broker_pause(w.broker, queue_slice(queue), !w.m.queues[queue].paused);
    if (!error)
        w.m.queues[queue].paused = !w.m.queues[queue].paused;
    settle_topology(error);
}
