/* broker_exchange.h - what the parts of the broker know of exchanges; see broker.h for what holds.
 *
 *   broker_exchange.c         exchanges and bindings: looked up, declared, deleted, seen
 *   broker_exchange_record.c  the same as records, and as a checkpoint has them
 *   broker_route.c            from an exchange to queues, through others
 *   routes.c, topics.c        the bindings of one exchange */
#ifndef QUEUE_BROKER_EXCHANGE_H
#define QUEUE_BROKER_EXCHANGE_H

#include "queue/routes.h"

struct queue;

struct exchange {
    struct destination destination; /* of bindings between exchanges */
    struct list link;               /* of broker->exchanges */
    struct hash_item by_name, by_id;
    uint32_t id;
    struct slice name;                      /* owned */
    struct broker_exchange_options options; /* its slices are owned */
    struct routes routes;                   /* bindings from it */
    struct exchange *next;                  /* in a walk, or among those that are being deleted */
    bool doomed;
    uint64_t published;
};

static inline struct exchange *exchange_of_routes(struct routes *routes)
{
    return container_of(routes, struct exchange, routes);
}

/* ---- broker_exchange.c ---- */
struct exchange *broker_exchange(const struct broker *broker, struct slice name);
struct exchange *broker_exchange_by_id(const struct broker *broker, uint32_t id);
/* A message was published to it; 0: to the default one. */
void exchange_count(const struct broker *broker, uint32_t id);
/* Copies what options point to. NULL: no memory, or the id is taken. */
struct exchange *exchange_create(struct broker *broker, uint32_t id, struct slice name,
                                 const struct broker_exchange_options *options);
/* -EEXIST: to another type; -ENOMEM, or what the log says. */
int exchange_change(struct broker *broker, struct exchange *exchange,
                    const struct broker_exchange_options *options);
/* With its bindings, and with exchanges that go with the last binding from them, and so on. */
void exchange_destroy(struct broker *broker, struct exchange *exchange);
/* Removes a binding, or all to a destination, with the exchanges that go with the last one. */
void exchange_unbind(struct broker *broker, struct binding *binding);
void exchange_unbind_all(struct broker *broker, struct destination *destination);
/* Whether an exchange of the type can match by them. */
bool exchange_can_match(enum exchange_type type, struct slice arguments);
uint32_t destination_id(const struct destination *destination);
void broker_free_exchanges(struct broker *broker);
/* Deletes those that are not durable: with the end of broker_open. 0 or a negative errno. */
int broker_delete_transient(struct broker *broker);

/* ---- broker_exchange_record.c ---- */
int exchange_log(struct broker *broker, const struct exchange *exchange,
                 const struct broker_exchange_options *options);
int exchange_log_deletion(struct broker *broker, const struct exchange *exchange);
/* What a RECORD_BIND or RECORD_UNBIND says. */
struct binding_change {
    uint32_t source, destination;
    struct slice key, arguments;
};
int binding_log(struct broker *broker, uint8_t kind, const struct binding_change *change);
/* RECORD_EXCHANGE, RECORD_EXCHANGE_DELETE, RECORD_BIND, RECORD_UNBIND. */
int exchange_replay(struct broker *broker, const struct log_record *record);
/* Appends records that make all exchanges and bindings again. */
int exchange_append_all(struct broker *broker);
/* All of them as a checkpoint has them: how many bytes, and those; off a checkpoint's front, where the queues are there already. */
size_t exchanges_bytes(const struct broker *broker);
void exchanges_put(char *at, const struct broker *broker);
int broker_load_exchanges(struct broker *broker, struct slice *checkpoint);

/* ---- broker_route.c ---- */
/* A message on its way. exchange NULL: the default one. more_keys: as broker_publication has them. */
struct routing {
    struct exchange *exchange;
    struct slice key, more_keys;
    struct slice head;
};
/* The queues that it leads to, none twice; how many, or -EMSGSIZE: more than most. */
int broker_route(struct broker *broker, const struct routing *routing, struct queue **targets, unsigned most);
/* Calls each for every queue that the exchange can lead to, whatever the message, once. It must not route. */
void exchange_each_queue(struct broker *broker, struct exchange *exchange,
                         void (*each)(void *arg, struct queue *queue), void *arg);

#endif
