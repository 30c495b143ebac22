/* routes.c - see routes.h. */
#include "queue/routes.h"

#include <stdlib.h>

#include "base/hash.h"

/* ---- bindings ---------------------------------------------------------------------------------------------------- */

void destination_init(struct destination *destination, bool is_exchange)
{
    list_init(&destination->bindings);
    destination->is_exchange = is_exchange;
}

void routes_init(struct routes *routes, enum exchange_type type)
{
    routes->type = type;
    list_init(&routes->all);
}

void routes_free(struct routes *routes)
{
    while (!list_empty(&routes->all))
        routes_remove(container_of(routes->all.next, struct binding, of_source));
    hash_table_free(&routes->by_identity);
    hash_table_free(&routes->by_key);
}

static uint64_t identity_of(const struct destination *destination, struct slice key, struct slice arguments)
{
    return hash_bytes_seeded(key, (uint64_t)(uintptr_t)destination) + arguments_hash(arguments);
}

struct binding *routes_find(const struct routes *routes, const struct destination *destination,
                            struct slice key, struct slice arguments)
{
    struct hash_item *item = hash_table_find(&routes->by_identity, identity_of(destination, key, arguments));

    for (; item; item = hash_table_next(item)) {
        struct binding *binding = container_of(item, struct binding, by_identity);

        if (binding->destination == destination && slice_equal(binding->key, key) &&
            arguments_equal(binding->arguments, arguments))
            return binding;
    }
    return NULL;
}

static struct binding *create(struct routes *routes, struct destination *destination, struct slice key,
                              struct slice arguments)
{
    struct binding *binding = calloc(1, sizeof *binding + key.len + arguments.len);

    if (!binding)
        return NULL;
    binding->routes = routes;
    binding->destination = destination;
    binding->key = slice_of(binding->bytes, key.len);
    binding->arguments = slice_of(binding->bytes + key.len, arguments.len);
    if (key.len)
        memcpy(binding->bytes, key.ptr, key.len);
    if (arguments.len)
        memcpy(binding->bytes + key.len, arguments.ptr, arguments.len);
    return binding;
}

/* To where its type looks for it. False: no memory. */
static bool place(struct routes *routes, struct binding *binding)
{
    switch (routes->type) {
    case EXCHANGE_DIRECT:
        if (!hash_table_reserve(&routes->by_key))
            return false;
        hash_table_add(&routes->by_key, &binding->by_key, hash_bytes(binding->key));
        return true;
    case EXCHANGE_TOPIC:
        binding->node = topics_take(&routes->topics, binding->key);
        if (!binding->node)
            return false;
        list_push_back(topic_node_bindings(binding->node), &binding->at_node);
        return true;
    case EXCHANGE_HEADERS:
        headers_match_of(binding->arguments, &binding->match);
        return true;
    case EXCHANGE_FANOUT:
        break;
    }
    return true;
}

struct binding *routes_add(struct routes *routes, struct destination *destination, struct slice key,
                           struct slice arguments)
{
    struct binding *binding =
        hash_table_reserve(&routes->by_identity) ? create(routes, destination, key, arguments) : NULL;

    if (!binding)
        return NULL;
    if (!place(routes, binding)) {
        free(binding);
        return NULL;
    }
    hash_table_add(&routes->by_identity, &binding->by_identity, identity_of(destination, key, arguments));
    list_push_back(&routes->all, &binding->of_source);
    list_push_back(&destination->bindings, &binding->of_destination);
    routes->n++;
    return binding;
}

void routes_remove(struct binding *binding)
{
    struct routes *routes = binding->routes;

    if (routes->type == EXCHANGE_DIRECT)
        hash_table_remove(&routes->by_key, &binding->by_key);
    if (routes->type == EXCHANGE_TOPIC) {
        list_remove(&binding->at_node);
        topics_release(&routes->topics, binding->node);
    }
    hash_table_remove(&routes->by_identity, &binding->by_identity);
    list_remove(&binding->of_source);
    list_remove(&binding->of_destination);
    routes->n--;
    free(binding);
}

/* ---- matching ---------------------------------------------------------------------------------------------------- */

bool route_keys_next(const struct route_keys *keys, size_t *index, struct slice *key)
{
    struct slice rest = keys->more_keys;
    uint8_t len;

    if (*index == 0) {
        *index = 1;
        *key = keys->key;
        return true;
    }
    if (rest.len < *index)
        return false;
    slice_drop(&rest, *index - 1);
    if (!take_u8(&rest, &len) || !take_slice(&rest, len, key))
        return false;
    *index += 1u + len;
    return true;
}

/* Who is told of what a key leads to. */
struct matching {
    void (*each)(void *arg, struct destination *destination);
    void *arg;
};

static void match_direct(const struct routes *routes, struct slice key, const struct matching *m)
{
    struct hash_item *item = hash_table_find(&routes->by_key, hash_bytes(key));

    for (; item; item = hash_table_next(item)) {
        struct binding *binding = container_of(item, struct binding, by_key);

        if (slice_equal(binding->key, key))
            m->each(m->arg, binding->destination);
    }
}

static void match_pattern(void *arg, struct list *bindings)
{
    const struct matching *m = arg;

    for (struct list *at = bindings->next; at != bindings; at = at->next)
        m->each(m->arg, container_of(at, struct binding, at_node)->destination);
}

static void match_all(const struct routes *routes, const struct headers *headers, const struct matching *m)
{
    for (struct list *at = routes->all.next; at != &routes->all; at = at->next) {
        struct binding *binding = container_of(at, struct binding, of_source);

        if (!headers || headers_are_asked_for(headers, binding->arguments, binding->match))
            m->each(m->arg, binding->destination);
    }
}

void routes_match(struct routes *routes, const struct route_keys *keys,
                  void (*each)(void *arg, struct destination *destination), void *arg)
{
    struct matching m = {each, arg};
    struct slice key;
    size_t index = 0;

    switch (routes->type) {
    case EXCHANGE_FANOUT:
        match_all(routes, NULL, &m);
        break;
    case EXCHANGE_HEADERS:
        match_all(routes, &keys->headers, &m);
        break;
    case EXCHANGE_DIRECT:
        while (route_keys_next(keys, &index, &key))
            match_direct(routes, key, &m);
        break;
    case EXCHANGE_TOPIC:
        while (route_keys_next(keys, &index, &key))
            topics_match(&routes->topics, key, match_pattern, &m);
        break;
    }
}
