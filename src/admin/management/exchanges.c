/* exchanges.c - exchanges and bindings of the management interface. See private.h. */
#include <stdlib.h>

#include "admin/management/private.h"

/* ---- exchanges as JSON ------------------------------------------------------------------------------------------- */

const char *exchange_type_name(enum exchange_type type)
{
    static const char *const names[] = {
        [EXCHANGE_DIRECT] = "direct",
        [EXCHANGE_FANOUT] = "fanout",
        [EXCHANGE_TOPIC] = "topic",
        [EXCHANGE_HEADERS] = "headers",
    };

    return names[type];
}

/* The default exchange is named so in paths. */
static struct slice path_name(struct slice name)
{
    return slice_equal(name, SLICE("amq.default")) ? SLICE("") : name;
}

static json_t *exchange_json(const struct management_call *call, const struct topology *topology,
                             const struct seen_exchange *e)
{
    bool built_in = !e->name.len || slice_starts_with(e->name, SLICE("amq."));
    json_t *o = json_object(), *stats;

    if (!o)
        return NULL;
    terms_put(o, "arguments", terms_of_table(e->arguments));
    terms_put(o, "auto_delete", json_boolean(e->auto_delete));
    terms_put(o, "durable", json_boolean(e->durable));
    terms_put(o, "internal", json_boolean(e->internal));
    if (e->published) {
        stats = json_object();
        management_put_rated(
            stats, "publish_in", e->published,
            queue_history_exchange_rate(&call->admin->queues, e->id, e->published, topology->now_us));
        terms_put(o, "message_stats", stats);
    }
    terms_put(o, "name", terms_text(e->name));
    terms_put(o, "type", json_string(exchange_type_name(e->type)));
    terms_put(o, "user_who_performed_action", json_string(built_in ? "rmq-internal" : ""));
    terms_put(o, "vhost", terms_text(e->vhost));
    return o;
}

struct exchange_list {
    struct management_call *call;
    struct topology *topology;
};

static json_t *make_exchange(void *arg, size_t i)
{
    const struct exchange_list *list = arg;

    return exchange_json(list->call, list->topology, list->topology->exchanges.items[i]);
}

void exchanges_serve(struct management_call *call)
{
    struct topology_wish wish = {.exchanges = true};
    struct exchange_list list = {.call = call};

    if (call->row->flags & ROW_VHOST)
        wish.vhost = call->args[0];
    if (!topology_look(call, &wish, &list.topology))
        return;
    management_answer_list(call, &(struct management_list){list.topology->exchanges.n, make_exchange, &list});
    topology_free(list.topology);
}

/* NULL: there is none, and the call is answered. */
static struct topology *find_exchange(struct management_call *call, struct slice name)
{
    struct topology_wish wish = {.exchanges = true, .vhost = call->args[0], .name = path_name(name)};
    struct topology *topology;

    if (!topology_look(call, &wish, &topology))
        return NULL;
    if (topology->exchanges.n)
        return topology;
    topology_free(topology);
    management_not_found(call);
    return NULL;
}

void exchange_serve(struct management_call *call)
{
    struct topology *topology = find_exchange(call, call->args[1]);
    json_t *exchange;

    if (!topology)
        return;
    exchange = exchange_json(call, topology, topology->exchanges.items[0]);
    terms_put(exchange, "incoming", json_array());
    terms_put(exchange, "outgoing", json_array());
    management_answer(call, exchange);
    topology_free(topology);
}

void exchange_declare(struct management_call *call)
{
    struct slice type = terms_get(call->body, "type");
    struct amqp_method method = {
        .id = AMQP_EXCHANGE_DECLARE,
        .exchange = path_name(call->args[1]),
        .type = type.ptr ? type : SLICE("direct"),
    };
    struct amqp_operator who = management_operator(call, call->args[0]);
    struct amqp_outcome outcome;
    char *owned = NULL;
    int error;

    if (!management_take_truth(call, "durable", &method.durable) ||
        !management_take_truth(call, "auto_delete", &method.auto_delete) ||
        !management_take_truth(call, "internal", &method.internal))
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

void exchange_delete(struct management_call *call)
{
    struct amqp_method method = {
        .id = AMQP_EXCHANGE_DELETE,
        .exchange = path_name(call->args[1]),
        .if_unused = management_asks_for(call, "if-unused"),
    };
    struct amqp_operator who = management_operator(call, call->args[0]);
    struct topology *topology = find_exchange(call, call->args[1]);
    struct amqp_outcome outcome;

    if (!topology)
        return;
    topology_free(topology);
    if (!management_refuse_outcome(call, amqp_operate(&who, &method, &outcome), &outcome))
        management_done(call, 204, NULL);
}

/* ---- bindings as JSON -------------------------------------------------------------------------------------------- */

json_t *binding_json(const struct seen_binding *b)
{
    char text[TERMS_KEY_MAX];
    json_t *o = json_object();

    if (!o)
        return NULL;
    terms_put(o, "source", terms_text(b->source));
    terms_put(o, "vhost", terms_text(b->vhost));
    terms_put(o, "destination", terms_text(b->destination));
    terms_put(o, "destination_type", json_string(b->to_exchange ? "exchange" : "queue"));
    terms_put(o, "routing_key", terms_text(b->key));
    terms_put(o, "arguments", terms_of_table(b->arguments));
    terms_put(o, "properties_key", terms_text(terms_properties_key(b->key, b->arguments, text)));
    return o;
}

static json_t *make_binding(void *arg, size_t i)
{
    const struct topology *topology = arg;

    return binding_json(topology->bindings.items[i]);
}

static void answer_bindings(struct management_call *call, struct topology *topology)
{
    management_answer_list(call, &(struct management_list){topology->bindings.n, make_binding, topology});
    topology_free(topology);
}

void bindings_serve(struct management_call *call)
{
    struct topology_wish wish = {.bindings = BINDINGS_ALL};
    struct topology *topology;

    if (call->row->flags & ROW_VHOST)
        wish.vhost = call->args[0];
    if (topology_look(call, &wish, &topology))
        answer_bindings(call, topology);
}

/* Of what has to be there. */
static void serve_bindings_of(struct management_call *call, enum topology_bindings bindings)
{
    bool is_queue = bindings == BINDINGS_TO_QUEUE;
    struct topology_wish wish = {
        .queues = is_queue,
        .exchanges = !is_queue,
        .bindings = bindings,
        .vhost = call->args[0],
        .name = is_queue ? call->args[1] : path_name(call->args[1]),
    };
    struct topology *topology;

    if (!topology_look(call, &wish, &topology))
        return;
    if (topology->queues.n || topology->exchanges.n) {
        answer_bindings(call, topology);
        return;
    }
    topology_free(topology);
    management_not_found(call);
}

void queue_bindings_serve(struct management_call *call)
{
    serve_bindings_of(call, BINDINGS_TO_QUEUE);
}

void source_bindings_serve(struct management_call *call)
{
    serve_bindings_of(call, BINDINGS_FROM);
}

void destination_bindings_serve(struct management_call *call)
{
    serve_bindings_of(call, BINDINGS_TO_EXCHANGE);
}

/* ---- between an exchange and a queue or exchange ----------------------------------------------------------------- */

/* Those from args[1] to args[2]. NULL: the call is answered. */
static struct topology *find_between(struct management_call *call)
{
    struct topology_wish wish = {
        .bindings = management_is_to_exchange(call) ? BINDINGS_TO_EXCHANGE : BINDINGS_TO_QUEUE,
        .vhost = call->args[0],
        .name = call->args[2],
    };
    struct slice source = path_name(call->args[1]);
    struct topology *topology;
    size_t n = 0;

    if (!topology_look(call, &wish, &topology))
        return NULL;
    for (size_t i = 0; i < topology->bindings.n; i++) {
        struct seen_binding *b = topology->bindings.items[i];

        if (slice_equal(b->source, source))
            topology->bindings.items[n++] = b;
        else
            free(b);
    }
    topology->bindings.n = n;
    return topology;
}

void between_serve(struct management_call *call)
{
    struct topology *topology = find_between(call);

    if (topology)
        answer_bindings(call, topology);
}

/* DESTINATION/PROPERTIES-KEY, each as a segment of a path. */
static void answer_bound(struct management_call *call, struct slice destination, struct slice key,
                         struct slice arguments)
{
    char text[TERMS_KEY_MAX], location[3 * 255 + 3 * TERMS_KEY_MAX + 2];
    struct slice properties = terms_properties_key(key, arguments, text);
    size_t n = terms_percent_encode(destination, location);

    location[n++] = '/';
    n += terms_percent_encode(properties, location + n);
    location[n] = '\0';
    management_done(call, 201, location);
}

void between_bind(struct management_call *call)
{
    bool to_exchange = management_is_to_exchange(call);
    struct slice key = terms_get(call->body, "routing_key");
    struct amqp_method method = {
        .id = to_exchange ? AMQP_EXCHANGE_BIND : AMQP_QUEUE_BIND,
        .exchange = path_name(call->args[1]),
        .queue = to_exchange ? SLICE("") : call->args[2],
        .destination = to_exchange ? call->args[2] : SLICE(""),
        .routing_key = key.ptr ? key : SLICE(""),
    };
    struct amqp_operator who = management_operator(call, call->args[0]);
    struct amqp_outcome outcome;
    char *owned = NULL;
    int error;

    method.table = table_of_json(json_object_get(call->body, "arguments"), &owned);
    if (!method.table.ptr) {
        management_refuse(call, 400, "bad_request", "the arguments make no sense");
        return;
    }
    error = amqp_operate(&who, &method, &outcome);
    if (!management_refuse_outcome(call, error, &outcome))
        answer_bound(call, call->args[2], method.routing_key, method.table);
    free(owned);
}

/* The properties key is encoded once more in a path; who did not is understood, too. */
static bool is_named(const struct seen_binding *b, struct slice wanted)
{
    char text[TERMS_KEY_MAX];
    struct slice key = terms_properties_key(b->key, b->arguments, text);
    size_t hash = b->arguments.len ? 7 : 0; /* ~ and the hash */

    if (slice_equal(key, wanted))
        return true;
    return wanted.len == b->key.len + hash && slice_starts_with(wanted, b->key) && wanted.len &&
           slice_equal(slice_of(wanted.ptr + b->key.len, hash), slice_of(key.ptr + key.len - hash, hash));
}

/* NULL: there is none, and the call is answered. */
static const struct seen_binding *find_named(struct management_call *call, struct topology **topology)
{
    *topology = find_between(call);
    if (!*topology)
        return NULL;
    for (size_t i = 0; i < (*topology)->bindings.n; i++)
        if (is_named((*topology)->bindings.items[i], call->args[3]))
            return (*topology)->bindings.items[i];
    management_not_found(call);
    return NULL;
}

void binding_serve(struct management_call *call)
{
    struct topology *topology;
    const struct seen_binding *b = find_named(call, &topology);

    if (b)
        management_answer(call, binding_json(b));
    topology_free(topology);
}

void binding_delete(struct management_call *call)
{
    bool to_exchange = management_is_to_exchange(call);
    struct amqp_method method = {
        .id = to_exchange ? AMQP_EXCHANGE_UNBIND : AMQP_QUEUE_UNBIND,
        .exchange = path_name(call->args[1]),
        .queue = to_exchange ? SLICE("") : call->args[2],
        .destination = to_exchange ? call->args[2] : SLICE(""),
    };
    struct amqp_operator who = management_operator(call, call->args[0]);
    struct amqp_outcome outcome;
    struct topology *topology;
    const struct seen_binding *b = find_named(call, &topology);

    if (b) {
        method.routing_key = b->key;
        method.table = b->arguments;
        if (!management_refuse_outcome(call, amqp_operate(&who, &method, &outcome), &outcome))
            management_done(call, 204, NULL);
    }
    topology_free(topology);
}
