/* topology.c - queues, exchanges and bindings as the broker has them at one moment; see private.h.
 *
 * A job of the queue thread copies them, each in a block of its own. Before it does, it makes the exchanges that every virtual
 * host has, where nobody has connected to one yet. */
#include <errno.h>
#include <stdlib.h>

#include "admin/management/private.h"
#include "base/clock.h"
#include "fiber/loop.h"

struct topology_job {
    struct queue_job job;
    const struct config *config; /* reference */
    struct topology_wish wish;   /* its names are in names */
    struct topology found;
    int error;
    char names[CONFIG_AMQP_NAME_MAX + BROKER_NAME_MAX];
};

/* ---- at the broker ----------------------------------------------------------------------------------------------- */

static void add(struct topology_job *t, struct seen_list *list, void *item)
{
    size_t room = list->room ? list->room * 2 : 16;
    void **grown = NULL;

    if (item && list->n == list->room) {
        grown = realloc(list->items, room * sizeof(void *));
        if (!grown) {
            free(item);
            item = NULL;
        } else {
            list->items = grown;
            list->room = room;
        }
    }
    if (item)
        list->items[list->n++] = item;
    else
        t->error = -ENOMEM;
}

static struct slice keep(char **at, struct slice s)
{
    char *start = *at;

    if (s.len)
        memcpy(start, s.ptr, s.len);
    *at += s.len;
    return slice_of(start, s.len);
}

/* Whether the virtual host of a name is wanted, which is set. */
static bool is_wanted(const struct topology_job *t, struct slice broker_name, struct slice *vhost,
                      struct slice *name)
{
    *name = amqp_name_of(broker_name, vhost);
    return !t->wish.vhost.ptr || slice_equal(*vhost, t->wish.vhost);
}

static void see_queue(void *arg, const struct broker_queue_view *view)
{
    struct topology_job *t = arg;
    const struct broker_queue_options *o = view->options;
    struct slice vhost, name;
    struct seen_queue *seen;
    char *at;

    if (!is_wanted(t, view->name, &vhost, &name))
        return;
    seen = malloc(sizeof *seen + vhost.len + name.len + o->arguments.len);
    if (seen) {
        at = seen->block;
        *seen = (struct seen_queue){
            .id = view->id,
            .vhost = keep(&at, vhost),
            .name = keep(&at, name),
            .arguments = keep(&at, o->arguments),
            .durable = !o->transient,
            .exclusive = o->exclusive,
            .auto_delete = o->auto_delete,
            .single_active = o->single_active,
            .managed = o->managed,
            .numbers = view->numbers,
        };
    }
    add(t, &t->found.queues, seen);
}

static void see_exchange(void *arg, const struct broker_exchange_view *view)
{
    struct topology_job *t = arg;
    const struct broker_exchange_options *o = view->options;
    struct slice vhost, name;
    struct seen_exchange *seen;
    char *at;

    if (!is_wanted(t, view->name, &vhost, &name))
        return;
    seen = malloc(sizeof *seen + vhost.len + name.len + o->arguments.len);
    if (seen) {
        at = seen->block;
        *seen = (struct seen_exchange){
            .id = view->id,
            .vhost = keep(&at, vhost),
            .name = keep(&at, name),
            .arguments = keep(&at, o->arguments),
            .type = o->type,
            .durable = o->durable,
            .auto_delete = o->auto_delete,
            .internal = o->internal,
            .published = view->published,
        };
    }
    add(t, &t->found.exchanges, seen);
}

static void add_binding(struct topology_job *t, struct slice vhost, struct slice source,
                        struct slice destination, bool to_exchange, struct slice key, struct slice arguments)
{
    struct seen_binding *seen =
        malloc(sizeof *seen + vhost.len + source.len + destination.len + key.len + arguments.len);
    char *at;

    if (seen) {
        at = seen->block;
        *seen = (struct seen_binding){
            .vhost = keep(&at, vhost),
            .source = keep(&at, source),
            .destination = keep(&at, destination),
            .key = keep(&at, key),
            .arguments = keep(&at, arguments),
            .to_exchange = to_exchange,
        };
    }
    add(t, &t->found.bindings, seen);
}

static void see_binding(void *arg, const struct broker_binding_view *view)
{
    struct topology_job *t = arg;
    struct slice vhost, source, ignored;

    if (is_wanted(t, view->source, &vhost, &source))
        add_binding(t, vhost, source, amqp_name_of(view->destination, &ignored), view->to_exchange, view->key,
                    view->arguments);
}

/* Every queue is bound to the default exchange by its name. */
static void see_default_binding(void *arg, const struct broker_queue_view *view)
{
    struct topology_job *t = arg;
    struct slice vhost, name;

    if (is_wanted(t, view->name, &vhost, &name))
        add_binding(t, vhost, SLICE(""), name, false, name, SLICE(""));
}

static void add_default_exchange(void *arg, struct slice vhost)
{
    struct topology_job *t = arg;

    if (!t->wish.vhost.ptr || slice_equal(vhost, t->wish.vhost)) {
        struct seen_exchange *seen = malloc(sizeof *seen + vhost.len);
        char *at = seen ? seen->block : NULL;

        if (seen)
            *seen = (struct seen_exchange){.vhost = keep(&at, vhost), .durable = true};
        add(t, &t->found.exchanges, seen);
    }
}

static void look_at_bindings(struct topology_job *t, struct broker *broker, struct slice broker_name)
{
    struct broker_destination to = {broker_name, t->wish.bindings == BINDINGS_TO_EXCHANGE};
    struct broker_queue_view view;

    switch (t->wish.bindings) {
    case BINDINGS_NONE:
        break;
    case BINDINGS_ALL:
        broker_each_queue(broker, see_default_binding, t);
        broker_each_binding(broker, see_binding, t);
        break;
    case BINDINGS_FROM:
        if (!broker_name.len)
            broker_each_queue(broker, see_default_binding, t);
        else
            broker_each_binding_from(broker, broker_name, see_binding, t);
        break;
    case BINDINGS_TO_QUEUE:
        if (broker_find_queue(broker, broker_name, &view))
            see_default_binding(t, &view);
        broker_each_binding_to(broker, &to, see_binding, t);
        break;
    case BINDINGS_TO_EXCHANGE:
        broker_each_binding_to(broker, &to, see_binding, t);
        break;
    }
}

static void open_vhost(void *arg, struct slice vhost)
{
    amqp_open_virtual_host(arg, vhost);
}

static void run_topology(struct queue_job *job, struct broker *broker, uint64_t now_us)
{
    struct topology_job *t = container_of(job, struct topology_job, job);
    bool one = t->wish.name.ptr != NULL;
    char block[BROKER_NAME_MAX];
    struct slice broker_name = one ? amqp_broker_name(t->wish.vhost, t->wish.name, block) : SLICE("");
    struct broker_exchange_view exchange;
    struct broker_queue_view queue;

    (void)now_us;
    t->error = 0;
    t->found.now_us = clock_monotonic_us();
    management_each_vhost(t->config, open_vhost, broker);
    if (t->wish.queues && !one)
        broker_each_queue(broker, see_queue, t);
    else if (t->wish.queues && broker_find_queue(broker, broker_name, &queue))
        see_queue(t, &queue);
    if (t->wish.exchanges && (!one || !broker_name.len))
        management_each_vhost(t->config, add_default_exchange, t);
    if (t->wish.exchanges && !one)
        broker_each_exchange(broker, see_exchange, t);
    else if (t->wish.exchanges && broker_name.len && broker_find_exchange(broker, broker_name, &exchange))
        see_exchange(t, &exchange);
    look_at_bindings(t, broker, broker_name);
}

/* ---- its life ---------------------------------------------------------------------------------------------------- */

static void free_list(struct seen_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->items[i]);
    free(list->items);
}

static void free_job(struct queue_job *job)
{
    struct topology_job *t = container_of(job, struct topology_job, job);

    free_list(&t->found.queues);
    free_list(&t->found.exchanges);
    free_list(&t->found.bindings);
    config_unref(t->config);
    free(t);
}

void topology_free(struct topology *topology)
{
    if (topology)
        free_job(&container_of(topology, struct topology_job, found)->job);
}

static int compare_slices(struct slice a, struct slice b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common ? memcmp(a.ptr, b.ptr, common) : 0;

    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_queues(const void *left, const void *right)
{
    const struct seen_queue *a = *(void *const *)left, *b = *(void *const *)right;
    int order = compare_slices(a->vhost, b->vhost);

    return order ? order : compare_slices(a->name, b->name);
}

static int compare_exchanges(const void *left, const void *right)
{
    const struct seen_exchange *a = *(void *const *)left, *b = *(void *const *)right;
    int order = compare_slices(a->vhost, b->vhost);

    return order ? order : compare_slices(a->name, b->name);
}

/* Leaves out what the user does not see. vhost_at: where the virtual host's name stands in an item. */
static void hide(const struct management_call *call, struct seen_list *list, size_t vhost_at)
{
    size_t n = 0;

    for (size_t i = 0; i < list->n; i++) {
        struct slice vhost;

        memcpy(&vhost, (char *)list->items[i] + vhost_at, sizeof vhost);
        if (management_may_see(call, vhost))
            list->items[n++] = list->items[i];
        else
            free(list->items[i]);
    }
    list->n = n;
}

static void put_in_order(const struct management_call *call, struct topology *found)
{
    hide(call, &found->queues, offsetof(struct seen_queue, vhost));
    hide(call, &found->exchanges, offsetof(struct seen_exchange, vhost));
    hide(call, &found->bindings, offsetof(struct seen_binding, vhost));
    if (found->queues.n)
        qsort(found->queues.items, found->queues.n, sizeof(void *), compare_queues);
    if (found->exchanges.n)
        qsort(found->exchanges.items, found->exchanges.n, sizeof(void *), compare_exchanges);
}

/* NULL: no memory. */
static struct topology_job *make_job(struct management_call *call, const struct topology_wish *wish)
{
    struct topology_job *t = calloc(1, sizeof *t);
    char *at;

    if (!t)
        return NULL;
    at = t->names;
    t->job = (struct queue_job){.run = run_topology, .free = free_job};
    t->config = config_ref(call->config);
    t->error = -ENODEV; /* until it has run */
    t->wish = *wish;
    if (wish->vhost.ptr)
        t->wish.vhost = keep(&at, wish->vhost);
    if (wish->name.ptr)
        t->wish.name = keep(&at, wish->name);
    return t;
}

bool topology_look(struct management_call *call, const struct topology_wish *wish, struct topology **topology)
{
    struct queue_port *port = call->admin->system->port;
    bool fits = wish->name.len <= 255 && wish->vhost.len <= CONFIG_AMQP_NAME_MAX;
    struct topology_job *t = port->thread && fits ? make_job(call, wish) : NULL;
    int error = t ? 0 : -ENOMEM;

    *topology = NULL;
    if (!fits) {
        management_not_found(call);
        return false;
    }
    if (!port->thread)
        error = -ENODEV;
    if (!error) {
        error = queue_job_run(port, &t->job, false, loop_deadline(MANAGEMENT_WAIT_US));
        if (error)
            t = NULL; /* it frees itself */
        else
            error = t->error;
    }
    if (error) {
        if (t)
            free_job(&t->job);
        management_refuse_error(call, error);
        return false;
    }
    put_in_order(call, &t->found);
    *topology = &t->found;
    return true;
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

struct message_rates message_rates_of(const struct management_call *call, const struct topology *topology,
                                      const struct seen_queue *queue)
{
    struct message_rates rates = {.now = queue->numbers};

    if (!queue_history_then(&call->admin->queues, queue->id, topology->now_us, &rates.then, &rates.seconds))
        rates.then = rates.now;
    return rates;
}

static void add_numbers(struct broker_queue_numbers *sum, const struct broker_queue_numbers *n)
{
    sum->ready += n->ready;
    sum->delayed += n->delayed;
    sum->blocked += n->blocked;
    sum->in_flight += n->in_flight;
    sum->bytes += n->bytes;
    sum->consumers += n->consumers;
    sum->published += n->published;
    sum->delivered += n->delivered;
    sum->delivered_auto += n->delivered_auto;
    sum->taken += n->taken;
    sum->taken_auto += n->taken_auto;
    sum->redelivered += n->redelivered;
    sum->ended[END_ACKED] += n->ended[END_ACKED];
}

void message_rates_add(struct message_rates *sum, const struct message_rates *rates)
{
    add_numbers(&sum->now, &rates->now);
    add_numbers(&sum->then, &rates->then);
    if (rates->seconds > sum->seconds)
        sum->seconds = rates->seconds;
}

static double rate(const struct message_rates *r, uint64_t now, uint64_t then)
{
    return r->seconds > 0 ? ((double)now - (double)then) / r->seconds : 0;
}

/* What RabbitMQ counts, of what the broker does. */
static void count(const struct broker_queue_numbers *n, uint64_t counts[N_AMQP_COUNTS])
{
    counts[AMQP_COUNT_PUBLISH] = n->published;
    counts[AMQP_COUNT_DELIVER] = n->delivered - n->taken - n->delivered_auto;
    counts[AMQP_COUNT_DELIVER_NO_ACK] = n->delivered_auto;
    counts[AMQP_COUNT_GET] = n->taken - n->taken_auto;
    counts[AMQP_COUNT_GET_NO_ACK] = n->taken_auto;
    counts[AMQP_COUNT_GET_EMPTY] = 0;
    counts[AMQP_COUNT_REDELIVER] = n->redelivered;
    counts[AMQP_COUNT_ACK] = n->ended[END_ACKED] > n->delivered_auto + n->taken_auto
                                 ? n->ended[END_ACKED] - n->delivered_auto - n->taken_auto
                                 : 0;
}

json_t *message_stats_json(const struct message_rates *rates)
{
    static const struct {
        const char *name;
        enum amqp_count count;
    } shown[] = {
        {"ack", AMQP_COUNT_ACK},
        {"deliver", AMQP_COUNT_DELIVER},
        {"deliver_no_ack", AMQP_COUNT_DELIVER_NO_ACK},
        {"get", AMQP_COUNT_GET},
        {"get_empty", AMQP_COUNT_GET_EMPTY},
        {"get_no_ack", AMQP_COUNT_GET_NO_ACK},
        {"publish", AMQP_COUNT_PUBLISH},
        {"redeliver", AMQP_COUNT_REDELIVER},
    };
    json_t *stats = json_object();
    uint64_t now[N_AMQP_COUNTS], then[N_AMQP_COUNTS];

    count(&rates->now, now);
    count(&rates->then, then);
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++)
        management_put_rated(stats, shown[i].name, now[shown[i].count],
                             rate(rates, now[shown[i].count], then[shown[i].count]));
    management_put_rated(stats, "deliver_get", rates->now.delivered,
                         rate(rates, rates->now.delivered, rates->then.delivered));
    return stats;
}

static uint64_t waiting(const struct broker_queue_numbers *n)
{
    return n->ready + n->delayed + n->blocked;
}

void message_counts_put(json_t *object, const struct message_rates *rates)
{
    const struct broker_queue_numbers *now = &rates->now, *then = &rates->then;

    management_put_rated(object, "messages", waiting(now) + now->in_flight,
                         rate(rates, waiting(now) + now->in_flight, waiting(then) + then->in_flight));
    management_put_rated(object, "messages_ready", waiting(now), rate(rates, waiting(now), waiting(then)));
    management_put_rated(object, "messages_unacknowledged", now->in_flight,
                         rate(rates, now->in_flight, then->in_flight));
}
