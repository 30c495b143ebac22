/* queues.c - queues of the management interface. See private.h. */
#include <stdlib.h>

#include "admin/management/private.h"
#include "admin/query.h"

/* ---- as JSON ----------------------------------------------------------------------------------------------------- */

static bool is_quorum(const struct seen_queue *q)
{
    struct amqp_value value;

    return amqp_table_find(q->arguments, SLICE("x-queue-type"), &value) && value.type == AMQP_TEXT &&
           slice_equal(value.bytes, SLICE("quorum"));
}

/* Whether its consumers took all there is: of this moment, where RabbitMQ has a mean. */
static double capacity(const struct broker_queue_numbers *n)
{
    return n->consumers && !n->ready && n->resting < n->consumers ? 1 : 0;
}

static json_t *one_node(void)
{
    json_t *nodes = json_array();

    json_array_append_new(nodes, json_string(MANAGEMENT_NODE));
    return nodes;
}

static void put_kind(json_t *o, const struct seen_queue *q)
{
    bool quorum = is_quorum(q);

    terms_put(o, "type", json_string(quorum ? "quorum" : "classic"));
    if (quorum) {
        terms_put(o, "leader", json_string(MANAGEMENT_NODE));
        terms_put(o, "members", one_node());
        terms_put(o, "online", one_node());
        return;
    }
    terms_put(o, "exclusive_consumer_tag", json_null());
    terms_put(o, "single_active_consumer_tag", json_null());
    terms_put(o, "recoverable_slaves", json_null());
    terms_put(o, "head_message_timestamp", json_null());
}

/* Everything is on disk, and nothing in memory but an index. */
static void put_sizes(json_t *o, const struct seen_queue *q)
{
    const struct broker_queue_numbers *n = &q->numbers;
    uint64_t messages = n->ready + n->delayed + n->blocked + n->in_flight;

    terms_put(o, "message_bytes", json_integer((json_int_t)n->bytes));
    terms_put(o, "message_bytes_persistent", json_integer(q->durable ? (json_int_t)n->bytes : 0));
    terms_put(o, "message_bytes_ram", json_integer(0));
    terms_put(o, "messages_persistent", json_integer(q->durable ? (json_int_t)messages : 0));
    terms_put(o, "messages_ram", json_integer(0));
}

/* RabbitMQ's classic queue shows its own insides, of which some tools read these. */
static void put_backing(json_t *o, const struct message_rates *rates)
{
    double seconds = rates->seconds > 0 ? rates->seconds : 1;
    json_t *backing = json_object();

    terms_put(backing, "mode", json_string("lazy"));
    terms_put(backing, "len", json_integer((json_int_t)rates->now.ready));
    terms_put(backing, "avg_ingress_rate",
              json_real((double)(rates->now.published - rates->then.published) / seconds));
    terms_put(backing, "avg_egress_rate",
              json_real((double)(rates->now.delivered - rates->then.delivered) / seconds));
    terms_put(o, "backing_queue_status", backing);
}

static json_t *queue_json(const struct management_call *call, const struct topology *topology,
                          const struct seen_queue *q)
{
    struct message_rates rates = message_rates_of(call, topology, q);
    json_t *o = json_object();

    if (!o)
        return NULL;
    terms_put(o, "arguments", terms_of_table(q->arguments));
    terms_put(o, "auto_delete", json_boolean(q->auto_delete));
    if (!is_quorum(q))
        put_backing(o, &rates);
    terms_put(o, "consumer_capacity", json_real(capacity(&q->numbers)));
    terms_put(o, "consumer_utilisation", json_real(capacity(&q->numbers)));
    terms_put(o, "consumers", json_integer(q->numbers.consumers));
    terms_put(o, "durable", json_boolean(q->durable));
    terms_put(o, "effective_policy_definition", json_object());
    terms_put(o, "exclusive", json_boolean(q->exclusive));
    put_kind(o, q);
    put_sizes(o, q);
    terms_put(o, "message_stats", message_stats_json(&rates));
    message_counts_put(o, &rates);
    terms_put(o, "name", terms_text(q->name));
    terms_put(o, "node", json_string(MANAGEMENT_NODE));
    terms_put(o, "operator_policy", json_null());
    terms_put(o, "owner_pid_details", json_null());
    terms_put(o, "policy", json_null());
    terms_put(o, "state", json_string("running"));
    terms_put(o, "vhost", terms_text(q->vhost));
    return o;
}

/* ---- seeing ------------------------------------------------------------------------------------------------------ */

struct queue_list {
    struct management_call *call;
    struct topology *topology;
};

static json_t *make_queue(void *arg, size_t i)
{
    struct queue_list *list = arg;

    return queue_json(list->call, list->topology, list->topology->queues.items[i]);
}

void management_queues_serve(struct management_call *call)
{
    struct topology_wish wish = {.queues = true};
    struct queue_list list = {.call = call};

    if (call->row->flags & ROW_VHOST)
        wish.vhost = call->args[0];
    if (!topology_look(call, &wish, &list.topology))
        return;
    management_answer_list(call, &(struct management_list){list.topology->queues.n, make_queue, &list});
    topology_free(list.topology);
}

void management_queue_serve(struct management_call *call)
{
    struct topology_wish wish = {.queues = true, .vhost = call->args[0], .name = call->args[1]};
    struct topology *topology;
    struct amqp_look *look;
    json_t *queue;

    if (!topology_look(call, &wish, &topology))
        return;
    if (!topology->queues.n) {
        management_not_found(call);
    } else if (connections_look(call, &look)) {
        queue = queue_json(call, topology, topology->queues.items[0]);
        terms_put(queue, "consumer_details", consumers_of_queue(look, call->args[0], call->args[1]));
        terms_put(queue, "deliveries", json_array());
        terms_put(queue, "incoming", json_array());
        amqp_look_free(look);
        management_answer(call, queue);
    }
    topology_free(topology);
}

/* ---- changing ---------------------------------------------------------------------------------------------------- */

void management_queue_declare(struct management_call *call)
{
    struct amqp_method method = {.id = AMQP_QUEUE_DECLARE, .queue = call->args[1]};
    struct amqp_operator who = management_operator(call, call->args[0]);
    struct amqp_outcome outcome;
    char *owned = NULL;
    int error;

    if (!method.queue.len) {
        management_refuse(call, 400, "bad_request", "a queue needs a name");
        return;
    }
    if (!management_take_truth(call, "durable", &method.durable) ||
        !management_take_truth(call, "auto_delete", &method.auto_delete))
        return;
    method.table = table_of_json(json_object_get(call->body, "arguments"), &owned);
    if (!method.table.ptr) {
        management_refuse(call, 400, "bad_request", "the arguments make no sense");
        return;
    }
    error = amqp_operate(&who, &method, &outcome);
    if (!management_refuse_outcome(call, error, &outcome))
        management_done(call, outcome.was_there ? 204 : 201, NULL);
    free(owned);
}

/* RabbitMQ's client deletes whatever is there, and its interface tells what is not. */
static bool queue_is_there(struct management_call *call)
{
    struct topology_wish wish = {.queues = true, .vhost = call->args[0], .name = call->args[1]};
    struct topology *topology;
    bool is_there;

    if (!topology_look(call, &wish, &topology))
        return false;
    is_there = topology->queues.n > 0;
    topology_free(topology);
    if (!is_there)
        management_not_found(call);
    return is_there;
}

static void operate(struct management_call *call, enum amqp_method_id id)
{
    struct amqp_method method = {
        .id = id,
        .queue = call->args[1],
        .if_empty = management_asks_for(call, "if-empty"),
        .if_unused = management_asks_for(call, "if-unused"),
    };
    struct amqp_operator who = management_operator(call, call->args[0]);
    struct amqp_outcome outcome;

    if (queue_is_there(call) &&
        !management_refuse_outcome(call, amqp_operate(&who, &method, &outcome), &outcome))
        management_done(call, 204, NULL);
}

void management_queue_delete(struct management_call *call)
{
    operate(call, AMQP_QUEUE_DELETE);
}

void management_queue_purge(struct management_call *call)
{
    operate(call, AMQP_QUEUE_PURGE);
}
