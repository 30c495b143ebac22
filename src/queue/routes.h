/* routes.h - the bindings of one exchange, and what a message leads to by them.
 *
 * A binding's identity is its destination, key and arguments. Making, finding and removing one takes the same time however many
 * there are; so does a direct exchange's key. A topic's key: topics.h. A headers exchange asks each binding.
 * Threads: one at a time. */
#ifndef QUEUE_ROUTES_H
#define QUEUE_ROUTES_H

#include "queue/broker.h"
#include "queue/headers.h"
#include "queue/topics.h"

struct routes;

/* What a binding leads to: a part of a queue or of an exchange. */
struct destination {
    struct list bindings; /* to it */
    uint64_t seen;        /* in which walk it was met last */
    bool is_exchange;
};

struct binding {
    struct list of_source;      /* of routes->all, in the order they were made */
    struct list of_destination; /* of destination->bindings */
    struct hash_item by_identity;
    struct hash_item by_key; /* DIRECT */
    struct topic_node *node; /* TOPIC */
    struct list at_node;
    struct routes *routes;
    struct destination *destination;
    struct slice key, arguments; /* in bytes */
    enum headers_match match;    /* HEADERS */
    char bytes[];
};

struct routes {
    enum exchange_type type;
    struct list all; /* struct binding; owned */
    size_t n;
    struct hash_table by_identity, by_key;
    struct topics topics;
};

void destination_init(struct destination *destination, bool is_exchange);
void routes_init(struct routes *routes, enum exchange_type type);
/* With all bindings. */
void routes_free(struct routes *routes);

/* NULL: there is none. */
struct binding *routes_find(const struct routes *routes, const struct destination *destination,
                            struct slice key, struct slice arguments);
/* There is none yet. Arguments of a headers exchange are a valid table. NULL: no memory. */
struct binding *routes_add(struct routes *routes, struct destination *destination, struct slice key,
                           struct slice arguments);
void routes_remove(struct binding *binding);

/* What a message says of where it is to go. more_keys: of CC and BCC, each {u8 length, bytes}. */
struct route_keys {
    struct slice key, more_keys;
    struct headers headers;
};

/* The next key; start with index 0. */
bool route_keys_next(const struct route_keys *keys, size_t *index, struct slice *key);
/* Calls each for what the message leads to, perhaps more than once. */
void routes_match(struct routes *routes, const struct route_keys *keys,
                  void (*each)(void *arg, struct destination *destination), void *arg);

#endif
