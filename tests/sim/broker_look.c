/* broker_look.c - what can be seen of the broker, beside the model. See broker_world.h. */
#include <string.h>

#include "sim/broker_world.h"

static void check_queue(void *arg, const struct broker_queue_view *view)
{
    int queue = queue_by_id(&w.m, view->id);
    uint64_t bytes, waiting, flying = 0;
    unsigned n_consumers;

    ++*(int *)arg;
    sim_check(queue >= 0 && slice_equal(view->name, queue_slice(queue)), "a queue that nobody declared");
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

struct model_binding binding_of_view(const struct broker_binding_view *view)
{
    return (struct model_binding){
        exchange_by_name(view->source),
        view->to_exchange ? exchange_by_name(view->destination) : queue_by_name(view->destination),
        key_by_text(view->key), arguments_by_bytes(view->arguments), view->to_exchange};
}

static void check_binding(void *arg, const struct broker_binding_view *view)
{
    struct model_binding b = binding_of_view(view);

    sim_check(binding_find(&w.m, &b), "a binding of %s that nobody made", exchange_name(b.source));
    ++*(size_t *)arg;
}

void world_check_exchanges(void)
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

void world_check_counts(void)
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
    entry_check_content(e, peeked->message);
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
void queue_peek(int queue, bool after_restart, uint64_t end)
{
    struct peeking p = {.queue = queue, .after_restart = after_restart, .end = end};
    int error;

    error = broker_peek(w.broker, queue_slice(queue), 0, UINT64_MAX, peek_one, &p);
    if (error) {
        sim_check(w.failing, "peek: %s", strerror(-error));
        return;
    }
    while (p.at < w.m.n)
        pass_over(&p, &w.m.entries[p.at++]);
}

void do_look(const struct sim_step *step)
{
    int queue = (int)(step->a % QUEUES_MAX);

    if (w.m.queues[queue].there && !broker_failure(w.broker))
        queue_peek(queue, false, 0);
    for (int i = 0; i < SESSIONS_MAX && w.m.queues[queue].there; i++)
        sim_check(broker_queue_is_locked(w.broker, queue_slice(queue), w.m.sessions[i]) ==
                      (w.m.queues[queue].owner >= 0 && w.m.queues[queue].owner != i),
                  "%s is locked, or not", queue_name(queue));
    world_check_counts();
    world_check_exchanges();
}
