/* broker_exchange.c - exchanges and bindings: looked up, declared, deleted, seen. See broker_exchange.h. */
#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"
#include "queue/broker_private.h"
#include "queue/text.h"

/* ---- looking up -------------------------------------------------------------------------------------------------- */

struct exchange *broker_exchange(const struct broker *broker, struct slice name)
{
    struct hash_item *item = hash_table_find(&broker->exchanges_by_name, hash_bytes(name));

    for (; item; item = hash_table_next(item)) {
        struct exchange *exchange = container_of(item, struct exchange, by_name);

        if (slice_equal(exchange->name, name))
            return exchange;
    }
    return NULL;
}

struct slice broker_exchange_name(const struct broker *broker, uint32_t id)
{
    const struct exchange *exchange = id ? broker_exchange_by_id(broker, id) : NULL;

    return exchange ? exchange->name : SLICE("");
}

struct exchange *broker_exchange_by_id(const struct broker *broker, uint32_t id)
{
    struct hash_item *item = hash_table_find(&broker->exchanges_by_id, id);

    return item ? container_of(item, struct exchange, by_id) : NULL;
}

void exchange_count(const struct broker *broker, uint32_t id)
{
    struct exchange *exchange = id ? broker_exchange_by_id(broker, id) : NULL;

    if (exchange)
        exchange->published++;
}

static struct destination *find_destination(const struct broker *broker,
                                            const struct broker_destination *destination)
{
    struct exchange *exchange = destination->is_exchange ? broker_exchange(broker, destination->name) : NULL;
    struct queue *queue = destination->is_exchange ? NULL : broker_queue(broker, destination->name);

    return exchange ? &exchange->destination : queue ? &queue->destination : NULL;
}

uint32_t destination_id(const struct destination *destination)
{
    return destination->is_exchange ? container_of(destination, const struct exchange, destination)->id
                                    : container_of(destination, const struct queue, destination)->id;
}

static struct slice destination_name(const struct destination *destination)
{
    return destination->is_exchange ? container_of(destination, const struct exchange, destination)->name
                                    : container_of(destination, const struct queue, destination)->name;
}

/* ---- making and freeing ------------------------------------------------------------------------------------------ */

static void free_options(struct broker_exchange_options *options)
{
    free_text(&options->alternate);
    free_text(&options->arguments);
}

static bool copy_options(struct broker_exchange_options *copy, const struct broker_exchange_options *options)
{
    *copy = *options;
    copy->alternate = copy->arguments = (struct slice){0};
    if (copy_text(&copy->alternate, options->alternate) && copy_text(&copy->arguments, options->arguments))
        return true;
    free_options(copy);
    return false;
}

static bool same_options(const struct broker_exchange_options *a, const struct broker_exchange_options *b)
{
    return a->type == b->type && a->durable == b->durable && a->auto_delete == b->auto_delete &&
           a->internal == b->internal && slice_equal(a->alternate, b->alternate) &&
           arguments_equal(a->arguments, b->arguments);
}

struct exchange *exchange_create(struct broker *broker, uint32_t id, struct slice name,
                                 const struct broker_exchange_options *options)
{
    struct exchange *exchange;

    if (broker_exchange_by_id(broker, id) || !hash_table_reserve(&broker->exchanges_by_name) ||
        !hash_table_reserve(&broker->exchanges_by_id))
        return NULL;
    exchange = calloc(1, sizeof *exchange);
    if (!exchange)
        return NULL;
    exchange->id = id;
    if (!copy_text(&exchange->name, name) || !copy_options(&exchange->options, options)) {
        free_text(&exchange->name);
        free(exchange);
        return NULL;
    }
    destination_init(&exchange->destination, true);
    routes_init(&exchange->routes, options->type);
    hash_table_add(&broker->exchanges_by_name, &exchange->by_name, hash_bytes(name));
    hash_table_add(&broker->exchanges_by_id, &exchange->by_id, id);
    list_push_back(&broker->exchanges, &exchange->link);
    broker->n_exchanges++;
    if (id >= broker->next_id)
        broker->next_id = id + 1;
    return exchange;
}

int exchange_change(struct broker *broker, struct exchange *exchange,
                    const struct broker_exchange_options *options)
{
    struct broker_exchange_options copy;
    int error;

    if (options->type != exchange->options.type)
        return -EEXIST;
    if (!copy_options(&copy, options))
        return -ENOMEM;
    error = broker->replaying ? 0 : exchange_log(broker, exchange, options);
    if (error) {
        free_options(&copy);
        return error;
    }
    free_options(&exchange->options);
    exchange->options = copy;
    return 0;
}

/* Nothing leads to it any more. */
static void free_exchange(struct broker *broker, struct exchange *exchange)
{
    routes_free(&exchange->routes);
    hash_table_remove(&broker->exchanges_by_name, &exchange->by_name);
    hash_table_remove(&broker->exchanges_by_id, &exchange->by_id);
    list_remove(&exchange->link);
    broker->n_exchanges--;
    free_options(&exchange->options);
    free_text(&exchange->name);
    free(exchange);
}

void broker_free_exchanges(struct broker *broker)
{
    for (struct list *at = broker->exchanges.next; at != &broker->exchanges; at = at->next)
        routes_free(&container_of(at, struct exchange, link)->routes);
    while (!list_empty(&broker->exchanges))
        free_exchange(broker, container_of(broker->exchanges.next, struct exchange, link));
    hash_table_free(&broker->exchanges_by_name);
    hash_table_free(&broker->exchanges_by_id);
}

/* ---- deleting ---------------------------------------------------------------------------------------------------- */

/* Those that are to be deleted, by exchange->next: one may take others with it, however many. */
struct doomed {
    struct exchange *first;
};

static void doom(struct doomed *doomed, struct exchange *exchange)
{
    if (exchange->doomed)
        return;
    exchange->doomed = true;
    exchange->next = doomed->first;
    doomed->first = exchange;
}

static void remove_binding(struct doomed *doomed, struct binding *binding)
{
    struct exchange *source = exchange_of_routes(binding->routes);

    routes_remove(binding);
    if (source->options.auto_delete && !source->routes.n)
        doom(doomed, source);
}

static void remove_bindings_to(struct doomed *doomed, struct destination *destination)
{
    while (!list_empty(&destination->bindings))
        remove_binding(doomed, container_of(destination->bindings.next, struct binding, of_destination));
}

static void destroy_doomed(struct broker *broker, struct doomed *doomed)
{
    struct exchange *exchange;

    while ((exchange = doomed->first)) {
        doomed->first = exchange->next;
        remove_bindings_to(doomed, &exchange->destination);
        free_exchange(broker, exchange);
    }
}

void exchange_destroy(struct broker *broker, struct exchange *exchange)
{
    struct doomed doomed = {0};

    doom(&doomed, exchange);
    destroy_doomed(broker, &doomed);
}

void exchange_unbind(struct broker *broker, struct binding *binding)
{
    struct doomed doomed = {0};

    remove_binding(&doomed, binding);
    destroy_doomed(broker, &doomed);
}

void exchange_unbind_all(struct broker *broker, struct destination *destination)
{
    struct doomed doomed = {0};

    remove_bindings_to(&doomed, destination);
    destroy_doomed(broker, &doomed);
}

/* ---- commands ---------------------------------------------------------------------------------------------------- */

static bool name_is_too_long(struct slice name)
{
    return name.len > BROKER_NAME_MAX;
}

int broker_declare_exchange(struct broker *broker, struct slice name,
                            const struct broker_exchange_options *options, enum declare_rule rule)
{
    struct exchange *exchange = broker_exchange(broker, name);
    int error;

    if (name_is_too_long(name) || name_is_too_long(options->alternate))
        return -ENAMETOOLONG;
    if (exchange && same_options(&exchange->options, options))
        return 0;
    if (exchange)
        return rule == DECLARE_SET ? exchange_change(broker, exchange, options) : -EEXIST;
    exchange = exchange_create(broker, broker->next_id, name, options);
    if (!exchange)
        return -ENOMEM;
    error = exchange_log(broker, exchange, &exchange->options);
    if (error)
        exchange_destroy(broker, exchange);
    return error;
}

static int delete_exchange(struct broker *broker, struct exchange *exchange)
{
    int error = exchange_log_deletion(broker, exchange);

    if (!error)
        exchange_destroy(broker, exchange);
    return error;
}

int broker_delete_exchange(struct broker *broker, struct slice name, bool if_unused)
{
    struct exchange *exchange = broker_exchange(broker, name);

    if (!exchange)
        return -ENOENT;
    if (if_unused && exchange->routes.n)
        return -EBUSY;
    return delete_exchange(broker, exchange);
}

/* One may take others with it, those that are yet to be deleted too. */
int broker_delete_transient(struct broker *broker)
{
    uint32_t *ids = calloc(broker->n_exchanges + 1, sizeof *ids);
    size_t n = 0;
    int error = ids ? 0 : -ENOMEM;

    for (struct list *at = broker->exchanges.next; ids && at != &broker->exchanges; at = at->next)
        if (!container_of(at, struct exchange, link)->options.durable)
            ids[n++] = container_of(at, struct exchange, link)->id;
    for (size_t i = 0; i < n && !error; i++) {
        struct exchange *exchange = broker_exchange_by_id(broker, ids[i]);

        error = exchange ? delete_exchange(broker, exchange) : 0;
    }
    free(ids);
    return error;
}

bool exchange_can_match(enum exchange_type type, struct slice arguments)
{
    enum headers_match match;

    return type != EXCHANGE_HEADERS ||
           (amqp_table_is_valid(arguments) && headers_match_of(arguments, &match));
}

int broker_bind(struct broker *broker, struct slice source_name, const struct broker_destination *to,
                struct slice key, struct slice arguments)
{
    struct exchange *source = broker_exchange(broker, source_name);
    struct destination *destination = find_destination(broker, to);
    struct binding *binding;
    int error;

    if (key.len > BROKER_KEY_MAX)
        return -ENAMETOOLONG;
    if (!source || !destination)
        return -ENOENT;
    if (!exchange_can_match(source->options.type, arguments))
        return -EINVAL;
    if (routes_find(&source->routes, destination, key, arguments))
        return 0;
    binding = routes_add(&source->routes, destination, key, arguments);
    if (!binding)
        return -ENOMEM;
    error = binding_log(broker, RECORD_BIND,
                        &(struct binding_change){source->id, destination_id(destination), key, arguments});
    if (error)
        routes_remove(binding);
    return error;
}

int broker_unbind(struct broker *broker, struct slice source_name, const struct broker_destination *to,
                  struct slice key, struct slice arguments)
{
    struct exchange *source = broker_exchange(broker, source_name);
    struct destination *destination = find_destination(broker, to);
    struct binding *binding =
        source && destination ? routes_find(&source->routes, destination, key, arguments) : NULL;
    int error;

    if (!binding)
        return -ENOENT;
    error = binding_log(
        broker, RECORD_UNBIND,
        &(struct binding_change){source->id, destination_id(destination), binding->key, binding->arguments});
    if (!error)
        exchange_unbind(broker, binding);
    return error;
}

/* ---- seeing ------------------------------------------------------------------------------------------------------ */

static void view_exchange(const struct exchange *exchange, struct broker_exchange_view *view)
{
    *view = (struct broker_exchange_view){
        .name = exchange->name,
        .id = exchange->id,
        .options = &exchange->options,
        .n_bindings = exchange->routes.n,
        .published = exchange->published,
    };
}

void broker_each_exchange(const struct broker *broker,
                          void (*each)(void *arg, const struct broker_exchange_view *view), void *arg)
{
    struct broker_exchange_view view;

    for (struct list *at = broker->exchanges.next; at != &broker->exchanges; at = at->next) {
        view_exchange(container_of(at, struct exchange, link), &view);
        each(arg, &view);
    }
}

bool broker_find_exchange(const struct broker *broker, struct slice name, struct broker_exchange_view *view)
{
    const struct exchange *exchange = broker_exchange(broker, name);

    if (exchange)
        view_exchange(exchange, view);
    return exchange != NULL;
}

static void see_binding(const struct binding *binding,
                        void (*each)(void *arg, const struct broker_binding_view *view), void *arg)
{
    each(arg, &(struct broker_binding_view){
                  .source = exchange_of_routes(binding->routes)->name,
                  .destination = destination_name(binding->destination),
                  .to_exchange = binding->destination->is_exchange,
                  .key = binding->key,
                  .arguments = binding->arguments,
              });
}

static void see_bindings_from(const struct exchange *exchange,
                              void (*each)(void *arg, const struct broker_binding_view *view), void *arg)
{
    for (struct list *at = exchange->routes.all.next; at != &exchange->routes.all; at = at->next)
        see_binding(container_of(at, struct binding, of_source), each, arg);
}

void broker_each_binding(const struct broker *broker,
                         void (*each)(void *arg, const struct broker_binding_view *view), void *arg)
{
    for (struct list *at = broker->exchanges.next; at != &broker->exchanges; at = at->next)
        see_bindings_from(container_of(at, struct exchange, link), each, arg);
}

bool broker_each_binding_from(const struct broker *broker, struct slice source,
                              void (*each)(void *arg, const struct broker_binding_view *view), void *arg)
{
    const struct exchange *exchange = broker_exchange(broker, source);

    if (exchange)
        see_bindings_from(exchange, each, arg);
    return exchange != NULL;
}

bool broker_each_binding_to(const struct broker *broker, const struct broker_destination *to,
                            void (*each)(void *arg, const struct broker_binding_view *view), void *arg)
{
    struct destination *destination = find_destination(broker, to);

    if (!destination)
        return false;
    for (struct list *at = destination->bindings.next; at != &destination->bindings; at = at->next)
        see_binding(container_of(at, struct binding, of_destination), each, arg);
    return true;
}
