/* broker_route.c - from an exchange to queues, through other exchanges. See broker_exchange.h.
 *
 * As RabbitMQ does it: each exchange is visited once, so that cycles end; one whose bindings lead nowhere hands on to its
 * alternate, while one that leads to an exchange does not, whatever comes of it there. What was met is marked with the
 * number of the walk, so that a walk needs no memory. */
#include <errno.h>

#include "queue/broker_private.h"

struct walk {
    struct broker *broker;
    struct exchange *to_visit; /* by exchange->next */
    bool leads;                /* the exchange that is visited leads somewhere */
    void (*each)(void *arg, struct queue *queue);
    void *arg;
};

/* True: it was not met before. */
static bool meet(const struct walk *walk, struct destination *destination)
{
    if (destination->seen == walk->broker->walks)
        return false;
    destination->seen = walk->broker->walks;
    return true;
}

static void meet_exchange(struct walk *walk, struct exchange *exchange)
{
    if (!exchange || !meet(walk, &exchange->destination))
        return;
    exchange->next = walk->to_visit;
    walk->to_visit = exchange;
}

static void meet_queue(const struct walk *walk, struct queue *queue)
{
    if (queue && meet(walk, &queue->destination))
        walk->each(walk->arg, queue);
}

static void meet_destination(void *arg, struct destination *destination)
{
    struct walk *walk = arg;

    walk->leads = true;
    if (destination->is_exchange)
        meet_exchange(walk, container_of(destination, struct exchange, destination));
    else
        meet_queue(walk, container_of(destination, struct queue, destination));
}

static struct exchange *alternate_of(const struct broker *broker, const struct exchange *exchange)
{
    return exchange->options.alternate.len ? broker_exchange(broker, exchange->options.alternate) : NULL;
}

static struct exchange *next_to_visit(struct walk *walk)
{
    struct exchange *exchange = walk->to_visit;

    if (exchange)
        walk->to_visit = exchange->next;
    return exchange;
}

/* The default exchange leads to the queues that the keys name. */
static void walk_default(const struct walk *walk, const struct route_keys *keys)
{
    struct slice key;
    size_t index = 0;

    while (route_keys_next(keys, &index, &key))
        meet_queue(walk, broker_queue(walk->broker, key));
}

static void walk_from(struct walk *walk, struct exchange *exchange, const struct route_keys *keys)
{
    meet_exchange(walk, exchange);
    while ((exchange = next_to_visit(walk))) {
        walk->leads = false;
        routes_match(&exchange->routes, keys, meet_destination, walk);
        if (!walk->leads)
            meet_exchange(walk, alternate_of(walk->broker, exchange));
    }
}

/* ---- a message ----------------------------------------------------------------------------------------------------- */

struct targets {
    struct queue **at;
    unsigned n, most;
    bool too_many;
};

static void add_target(void *arg, struct queue *queue)
{
    struct targets *targets = arg;

    if (targets->n < targets->most)
        targets->at[targets->n++] = queue;
    else
        targets->too_many = true;
}

int broker_route(struct broker *broker, const struct routing *routing, struct queue **at, unsigned most)
{
    struct targets targets = {.at = at, .most = most};
    struct walk walk = {.broker = broker, .each = add_target, .arg = &targets};
    struct route_keys keys = {.key = routing->key, .more_keys = routing->more_keys};

    broker->walks++;
    if (!routing->exchange) {
        walk_default(&walk, &keys);
    } else {
        keys.headers = headers_of(routing->head);
        walk_from(&walk, routing->exchange, &keys);
    }
    return targets.too_many ? -EMSGSIZE : (int)targets.n;
}

/* ---- any message --------------------------------------------------------------------------------------------------- */

void exchange_each_queue(struct broker *broker, struct exchange *exchange,
                         void (*each)(void *arg, struct queue *queue), void *arg)
{
    struct walk walk = {.broker = broker, .each = each, .arg = arg};

    broker->walks++;
    meet_exchange(&walk, exchange);
    while ((exchange = next_to_visit(&walk))) {
        for (struct list *at = exchange->routes.all.next; at != &exchange->routes.all; at = at->next)
            meet_destination(&walk, container_of(at, struct binding, of_source)->destination);
        meet_exchange(&walk, alternate_of(broker, exchange));
    }
}

struct names {
    struct slice *at;
    size_t n, most;
};

static void add_name(void *arg, struct queue *queue)
{
    struct names *names = arg;

    if (names->n < names->most)
        names->at[names->n++] = queue->name;
}

size_t broker_readers(struct broker *broker, struct slice name, struct slice *queues, size_t most)
{
    struct names names = {.at = queues, .most = most};

    exchange_each_queue(broker, broker_exchange(broker, name), add_name, &names);
    return names.n;
}
