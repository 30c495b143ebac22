/* broker_view.c - what can be known of queues and messages without changing them. See broker_private.h. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "queue/broker_private.h"

/* ---- queues ------------------------------------------------------------------------------------------------------ */

/* When the oldest that is ready came into the queue; 0: none is. */
static uint64_t oldest_us(struct queue *queue)
{
    struct ready_entry entry;
    struct held *held;
    int error;

    return queue_oldest(queue, &held, &entry, &error) ? ready_queued_us(&entry) : 0;
}

static unsigned count_resting(const struct queue *queue)
{
    unsigned n = 0;

    for (const struct list *at = queue->consumers.next; at != &queue->consumers; at = at->next)
        n += container_of(at, const struct broker_consumer, link)->until_us > queue->broker->now_us;
    return n;
}

static void view_queue(struct queue *queue, struct broker_queue_view *view)
{
    const struct queue_tallies *t = &queue->tallies;

    *view = (struct broker_queue_view){
        .name = queue->name,
        .id = queue->id,
        .options = &queue->options,
        .numbers =
            {
                .ready = queue_n_ready(queue) + queue->n_held[HELD_AGAIN],
                .delayed = queue->n_held[HELD_DELAYED],
                .blocked = queue->n_held[HELD_BLOCKED],
                .in_flight = queue->n_held[HELD_IN_FLIGHT],
                .bytes = queue->bytes,
                .oldest_us = oldest_us(queue),
                .consumers = queue->n_consumers,
                .resting = count_resting(queue),
                .paused = queue->paused,
                .owned = queue->owner != NULL,
                .published = t->published,
                .delivered = t->delivered,
                .delivered_auto = t->delivered_auto,
                .taken = t->taken,
                .taken_auto = t->taken_auto,
                .redelivered = t->redelivered,
                .retried = t->retried,
                .refused = t->refused,
            },
    };
    memcpy(view->numbers.ended, t->ended, sizeof t->ended);
}

void broker_each_queue(const struct broker *broker,
                       void (*each)(void *arg, const struct broker_queue_view *view), void *arg)
{
    struct broker_queue_view view;

    for (struct list *at = broker->queues.next; at != &broker->queues; at = at->next) {
        view_queue(container_of(at, struct queue, link), &view);
        each(arg, &view);
    }
}

uint64_t broker_next_number(const struct broker *broker)
{
    return broker->next_number;
}

bool broker_find_queue(const struct broker *broker, struct slice name, struct broker_queue_view *view)
{
    struct queue *queue = broker_queue(broker, name);

    if (queue)
        view_queue(queue, view);
    return queue != NULL;
}

/* ---- a message --------------------------------------------------------------------------------------------------- */

static bool is_end_of(const struct recent_item *item, const void *wanted)
{
    const struct finished *finished = (const struct finished *)item;
    const struct message_ref *ref = wanted;

    return finished->ref.number == ref->number && finished->ref.queue == ref->queue;
}

/* False: the queue does not have it, and nobody remembers that it had. */
static bool status_in_queue(struct queue *queue, uint64_t number, struct broker_status *status)
{
    struct broker *broker = queue->broker;
    struct message_ref ref = {queue->id, number};
    struct held *held = held_find(broker, ref);
    const struct finished *finished;
    struct ready_entry entry;
    struct level *level;

    *status = (struct broker_status){.queue = queue->name, .state = MESSAGE_QUEUED};
    if (held) {
        status->state = held->state == HELD_IN_FLIGHT ? MESSAGE_IN_FLIGHT
                        : held->state == HELD_DELAYED ? MESSAGE_DELAYED
                                                      : MESSAGE_QUEUED;
        status->attempts = held->attempts;
        status->queued_us = ready_queued_us(&held->entry);
        status->time_us = held->when_us;
        return true;
    }
    if (queue_find_ready(queue, number, &entry, &level) == 1) {
        status->queued_us = ready_queued_us(&entry);
        return true;
    }
    finished = (const struct finished *)recent_find(&broker->finished, number, is_end_of, &ref);
    if (!finished)
        return false;
    status->state = MESSAGE_ENDED;
    status->end = (enum message_end)finished->end;
    status->attempts = finished->attempts;
    status->queued_us = finished->queued_ms * US_PER_MS;
    status->time_us = finished->time_us;
    return true;
}

/* A message that is asked for, and who asks. */
struct asking {
    uint64_t number;
    void (*each)(void *arg, const struct broker_status *status);
    void *arg;
};

static void ask_queue(void *arg, struct queue *queue)
{
    const struct asking *asking = arg;
    struct broker_status status;

    if (status_in_queue(queue, asking->number, &status))
        asking->each(asking->arg, &status);
}

void broker_status(struct broker *broker, uint32_t address, uint64_t number,
                   void (*each)(void *arg, const struct broker_status *status), void *arg)
{
    struct asking asking = {number, each, arg};
    struct queue *queue;

    if (address & ADDRESS_IS_EXCHANGE) {
        exchange_each_queue(broker, broker_exchange_by_id(broker, address & ~ADDRESS_IS_EXCHANGE), ask_queue,
                            &asking);
        return;
    }
    queue = broker_queue_by_id(broker, address);
    if (queue)
        ask_queue(&asking, queue);
}

/* ---- peeking ----------------------------------------------------------------------------------------------------- */

/* What is peeked at: entries with what else is known of them. */
struct glimpse {
    struct ready_entry entry;
    unsigned attempts;
    uint64_t due_us;
};

struct peeking {
    uint64_t from, most;
    struct glimpse *list;
    uint64_t n, room;
};

static int add_glimpse(struct peeking *p, const struct glimpse *glimpse)
{
    uint64_t room = p->room ? p->room * 2 : 64;
    struct glimpse *list;

    if (glimpse->entry.number < p->from)
        return 0;
    if (p->n == p->room) {
        list = realloc(p->list, room * sizeof *list);
        if (!list)
            return -ENOMEM;
        p->list = list;
        p->room = room;
    }
    p->list[p->n++] = *glimpse;
    return 0;
}

static int peek_entries(void *arg, const struct ready_entry *entries, uint32_t n)
{
    struct peeking *p = arg;
    int error = 0;

    for (uint32_t i = 0; !error && i < n; i++) {
        if (p->most == 0)
            return -ECANCELED; /* enough */
        if (entries[i].number >= p->from)
            p->most--;
        error = add_glimpse(p, &(struct glimpse){.entry = entries[i]});
    }
    return error;
}

static int compare_glimpses(const void *a, const void *b)
{
    const struct glimpse *x = a, *y = b;

    return x->entry.number < y->entry.number ? -1 : x->entry.number > y->entry.number;
}

static int collect(struct queue *queue, struct peeking *p)
{
    uint64_t most = p->most;
    int error = 0;

    for (unsigned i = 0; !error && i < queue->n_levels; i++) {
        p->most = most;
        error = ready_each(&queue->levels[i].ready, peek_entries, p);
        if (error == -ECANCELED)
            error = 0;
    }
    for (const struct list *at = queue->held.next; !error && at != &queue->held; at = at->next) {
        const struct held *held = container_of(at, const struct held, in_queue);

        if (held->state != HELD_IN_FLIGHT)
            error = add_glimpse(p, &(struct glimpse){held->entry, held->attempts,
                                                     held->state == HELD_DELAYED ? held->when_us : 0});
    }
    if (!error && p->n)
        qsort(p->list, p->n, sizeof *p->list, compare_glimpses);
    return error;
}

int broker_peek(struct broker *broker, struct slice name, uint64_t from, uint64_t most,
                void (*each)(void *arg, const struct broker_peeked *peeked), void *arg)
{
    struct queue *queue = broker_queue(broker, name);
    struct peeking p = {.from = from, .most = most};
    struct message message;
    int error = queue ? collect(queue, &p) : -ENOENT;

    for (uint64_t i = 0; !error && i < p.n && i < most; i++) {
        const struct glimpse *g = &p.list[i];
        struct broker_peeked peeked = {
            {queue->id, g->entry.number}, &message, g->attempts, g->entry.redelivered, g->due_us};

        error = broker_read(broker, g->entry.position, &message);
        if (!error)
            each(arg, &peeked);
    }
    free(p.list);
    return error;
}
