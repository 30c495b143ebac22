/* broker_exchange_record.c - exchanges and bindings as records, and as a checkpoint has them. See broker_exchange.h.
 *
 * A checkpoint has the payloads of the records that make them: of all exchanges, then of all bindings. Exchanges that go with
 * the last binding from them have no record of that: whoever replays the record of what took the binding does the same. */
#include <errno.h>
#include <stdlib.h>

#include "queue/broker_private.h"
#include "queue/text.h"

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

enum { FLAG_DURABLE = 1, FLAG_AUTO_DELETE = 2, FLAG_INTERNAL = 4 };

static char *put_arguments(char *at, struct slice arguments)
{
    put_u32le(at, (uint32_t)arguments.len);
    if (arguments.len)
        memcpy(at + 4, arguments.ptr, arguments.len);
    return at + 4 + arguments.len;
}

static bool take_arguments(struct slice *s, struct slice *arguments)
{
    uint32_t len;

    return take_u32le(s, &len) && take_slice(s, len, arguments);
}

/* An exchange: id, name, type, flags, alternate, arguments. */
static size_t exchange_bytes(const struct exchange *exchange, const struct broker_exchange_options *options)
{
    return 4 + 2 + exchange->name.len + 2 + 2 + options->alternate.len + 4 + options->arguments.len;
}

static char *put_exchange(char *at, const struct exchange *exchange,
                          const struct broker_exchange_options *options)
{
    put_u32le(at, exchange->id);
    at = put_text(at + 4, exchange->name);
    at[0] = (char)options->type;
    at[1] = (char)((options->durable ? FLAG_DURABLE : 0) | (options->auto_delete ? FLAG_AUTO_DELETE : 0) |
                   (options->internal ? FLAG_INTERNAL : 0));
    return put_arguments(put_text(at + 2, options->alternate), options->arguments);
}

static bool take_exchange(struct slice *s, uint32_t *id, struct slice *name,
                          struct broker_exchange_options *options)
{
    uint8_t type, flags;

    *options = (struct broker_exchange_options){0};
    if (!take_u32le(s, id) || !take_text(s, name) || !take_u8(s, &type) || type > EXCHANGE_HEADERS ||
        !take_u8(s, &flags) || !take_text(s, &options->alternate) || !take_arguments(s, &options->arguments))
        return false;
    options->type = (enum exchange_type)type;
    options->durable = flags & FLAG_DURABLE;
    options->auto_delete = flags & FLAG_AUTO_DELETE;
    options->internal = flags & FLAG_INTERNAL;
    return true;
}

/* A binding: ids of source and destination, key, arguments. */
static size_t binding_bytes(const struct binding_change *change)
{
    return 8 + 2 + change->key.len + 4 + change->arguments.len;
}

static char *put_binding(char *at, const struct binding_change *change)
{
    put_u32le(at, change->source);
    put_u32le(at + 4, change->destination);
    return put_arguments(put_text(at + 8, change->key), change->arguments);
}

static bool take_binding(struct slice *s, struct binding_change *change)
{
    return take_u32le(s, &change->source) && take_u32le(s, &change->destination) &&
           take_text(s, &change->key) && take_arguments(s, &change->arguments);
}

static struct binding_change change_of(const struct exchange *source, const struct list *of_source)
{
    const struct binding *binding = container_of(of_source, const struct binding, of_source);

    return (struct binding_change){source->id, destination_id(binding->destination), binding->key,
                                   binding->arguments};
}

/* ---- records ----------------------------------------------------------------------------------------------------- */

int exchange_log(struct broker *broker, const struct exchange *exchange,
                 const struct broker_exchange_options *options)
{
    size_t n = exchange_bytes(exchange, options);
    char *block = malloc(n);
    int error;

    if (!block)
        return -ENOMEM;
    put_exchange(block, exchange, options);
    error = broker_append_block(broker, LOG_MORE, RECORD_EXCHANGE, block, n);
    free(block);
    return error;
}

int exchange_log_deletion(struct broker *broker, const struct exchange *exchange)
{
    char block[4];

    put_u32le(block, exchange->id);
    return broker_append_block(broker, LOG_RELIEF, RECORD_EXCHANGE_DELETE, block, sizeof block);
}

int binding_log(struct broker *broker, uint8_t kind, const struct binding_change *change)
{
    size_t n = binding_bytes(change);
    char *block = malloc(n);
    int error;

    if (!block)
        return -ENOMEM;
    put_binding(block, change);
    error = broker_append_block(broker, kind == RECORD_BIND ? LOG_MORE : LOG_RELIEF, kind, block, n);
    free(block);
    return error;
}

static int append_bindings(struct broker *broker, const struct exchange *exchange)
{
    int error = 0;

    for (const struct list *at = exchange->routes.all.next; at != &exchange->routes.all && !error;
         at = at->next) {
        struct binding_change change = change_of(exchange, at);

        error = binding_log(broker, RECORD_BIND, &change);
    }
    return error;
}

int exchange_append_all(struct broker *broker)
{
    int error = 0;

    for (const struct list *at = broker->exchanges.next; at != &broker->exchanges && !error; at = at->next) {
        const struct exchange *exchange = container_of(at, struct exchange, link);

        error = exchange_log(broker, exchange, &exchange->options);
    }
    for (const struct list *at = broker->exchanges.next; at != &broker->exchanges && !error; at = at->next)
        error = append_bindings(broker, container_of(at, struct exchange, link));
    return error;
}

/* ---- replay ------------------------------------------------------------------------------------------------------ */

static struct destination *destination_by_id(const struct broker *broker, uint32_t id)
{
    struct queue *queue = broker_queue_by_id(broker, id);
    struct exchange *exchange = queue ? NULL : broker_exchange_by_id(broker, id);

    return queue ? &queue->destination : exchange ? &exchange->destination : NULL;
}

static int make_exchange(struct broker *broker, struct slice *s)
{
    struct broker_exchange_options options;
    struct exchange *exchange;
    struct slice name;
    uint32_t id;
    int error;

    if (!take_exchange(s, &id, &name, &options) || !id || (id & ADDRESS_IS_EXCHANGE) ||
        broker_queue_by_id(broker, id))
        return -EBADMSG;
    exchange = broker_exchange_by_id(broker, id);
    if (!exchange)
        return exchange_create(broker, id, name, &options) ? 0 : -ENOMEM;
    error = exchange_change(broker, exchange, &options);
    return error == -EEXIST ? -EBADMSG : error;
}

static int change_binding(struct broker *broker, uint8_t kind, struct slice *s)
{
    struct binding_change change;
    struct destination *destination;
    struct exchange *source;
    struct binding *binding;

    if (!take_binding(s, &change))
        return -EBADMSG;
    source = broker_exchange_by_id(broker, change.source);
    destination = destination_by_id(broker, change.destination);
    if (!source || !destination || !exchange_can_match(source->options.type, change.arguments))
        return -EBADMSG;
    binding = routes_find(&source->routes, destination, change.key, change.arguments);
    if (kind == RECORD_BIND)
        return binding || routes_add(&source->routes, destination, change.key, change.arguments) ? 0
                                                                                                 : -ENOMEM;
    if (!binding)
        return -EBADMSG;
    exchange_unbind(broker, binding);
    return 0;
}

int exchange_replay(struct broker *broker, const struct log_record *record)
{
    struct slice s = record->payload;
    struct exchange *exchange;
    uint32_t id;

    if (record->kind == RECORD_EXCHANGE)
        return make_exchange(broker, &s);
    if (record->kind != RECORD_EXCHANGE_DELETE)
        return change_binding(broker, record->kind, &s);
    exchange = take_u32le(&s, &id) ? broker_exchange_by_id(broker, id) : NULL;
    if (!exchange)
        return -EBADMSG;
    exchange_destroy(broker, exchange);
    return 0;
}

/* ---- a checkpoint ------------------------------------------------------------------------------------------------ */

size_t exchanges_bytes(const struct broker *broker)
{
    size_t bytes = 4 + 4;

    for (const struct list *at = broker->exchanges.next; at != &broker->exchanges; at = at->next) {
        const struct exchange *exchange = container_of(at, struct exchange, link);

        bytes += exchange_bytes(exchange, &exchange->options);
        for (const struct list *b = exchange->routes.all.next; b != &exchange->routes.all; b = b->next) {
            struct binding_change change = change_of(exchange, b);

            bytes += binding_bytes(&change);
        }
    }
    return bytes;
}

void exchanges_put(char *at, const struct broker *broker)
{
    char *n_bindings;
    uint32_t n = 0;

    put_u32le(at, broker->n_exchanges);
    at += 4;
    for (const struct list *e = broker->exchanges.next; e != &broker->exchanges; e = e->next) {
        const struct exchange *exchange = container_of(e, struct exchange, link);

        at = put_exchange(at, exchange, &exchange->options);
    }
    n_bindings = at;
    at += 4;
    for (const struct list *e = broker->exchanges.next; e != &broker->exchanges; e = e->next) {
        const struct exchange *exchange = container_of(e, struct exchange, link);

        for (const struct list *b = exchange->routes.all.next; b != &exchange->routes.all; b = b->next, n++) {
            struct binding_change change = change_of(exchange, b);

            at = put_binding(at, &change);
        }
    }
    put_u32le(n_bindings, n);
}

int broker_load_exchanges(struct broker *broker, struct slice *s)
{
    uint32_t n;
    int error = take_u32le(s, &n) ? 0 : -EBADMSG;

    while (!error && n--)
        error = make_exchange(broker, s);
    if (!error && !take_u32le(s, &n))
        error = -EBADMSG;
    while (!error && n--)
        error = change_binding(broker, RECORD_BIND, s);
    return error;
}
