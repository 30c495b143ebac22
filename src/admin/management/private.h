/* private.h - what the files of src/admin/management share.
 *
 *   management.c    paths, who may ask, what comes with a request
 *   answer.c        errors, documents, and the part of a list that is asked for
 *   user.c          who asks: users of the configuration, their passwords and virtual hosts
 *   listing.c       lists: filters, pages, columns
 *   terms.c         AMQP in JSON
 *   topology.c      queues, exchanges and bindings, as a job of the queue thread copies them
 *   queues.c        queues
 *   exchanges.c     exchanges and bindings
 *   connections.c   connections, channels, consumers
 *   overview.c      the whole: overview, node, virtual hosts, users, permissions, health
 *   messages.c      publishing and taking messages
 *   definitions.c   exchanges, queues and bindings as one document
 *
 * Threads: the control thread's. Whoever serves a call answers its exchange, and may wait. */
#ifndef ADMIN_MANAGEMENT_PRIVATE_H
#define ADMIN_MANAGEMENT_PRIVATE_H

#include <jansson.h>

#include "admin/management/listing.h"
#include "admin/management/management.h"
#include "admin/management/terms.h"
#include "admin/private.h"
#include "admin/reply.h"
#include "front/amqp/operate.h"
#include "front/amqp/registry.h"

#define MANAGEMENT_ARGS_MAX 4
#define MANAGEMENT_WAIT_US (5 * US_PER_S)
/* What is said to be RabbitMQ's version: of the one whose interface this is. */
#define MANAGEMENT_VERSION "3.10.8"

/* ---- user.c ------------------------------------------------------------------------------------------------------ */

struct management_user {
    struct manager *manager; /* held */
    struct access_user *user;
    const struct config_user *config;
};

enum management_login { LOGIN_OK, LOGIN_NOT_BASIC, LOGIN_REFUSED, LOGIN_FAILED };

/* The user of the request, in the configuration in force. Waits where a hash is slow. On LOGIN_OK: management_log_out. */
enum management_login management_log_in(struct admin *admin, struct exchange *x,
                                        struct management_user *user);
void management_log_out(struct management_user *user);

/* Whether the configuration has it. "/" is always there. */
bool management_has_vhost(const struct config *config, struct slice vhost);
/* Calls each for every virtual host, once. */
void management_each_vhost(const struct config *config, void (*each)(void *arg, struct slice vhost),
                           void *arg);

/* ---- a call ------------------------------------------------------------------------------------------------------ */

struct management_row;

struct management_call {
    struct admin *admin;
    struct exchange *x;
    const struct management_row *row;
    const struct config *config;            /* in force when it came; reference */
    struct management_user user;            /* config NULL: who has the admin's token */
    bool administrator;                     /* sees everything, and may do everything */
    struct slice args[MANAGEMENT_ARGS_MAX]; /* what stood for each '*' of the row's path, decoded */
    json_t *body;                           /* an object; what came with PUT and POST */
    struct listing listing;
};

const char *management_user_name(const struct management_call *call);
bool management_may_see(const struct management_call *call, struct slice vhost);
/* Who works at the broker, in that virtual host. */
struct amqp_operator management_operator(const struct management_call *call, struct slice vhost);

/* ---- answers ----------------------------------------------------------------------------------------------------- */

/* The name of the one node. */
#define MANAGEMENT_NODE "maitred@localhost"

/* Take the reference of value; NULL: there was no memory for it. */
void management_answer(struct management_call *call, json_t *value);
/* {"error": ..., "reason": ...}. field: one that the status asks for, or NULL. */
void management_answer_error(struct exchange *x, unsigned status, const struct http_field *field,
                             const char *error, const char *reason);
void management_refuse(struct management_call *call, unsigned status, const char *error, const char *format,
                       ...) __attribute__((format(printf, 4, 5)));
void management_not_found(struct management_call *call);
/* An error of the queue thread's, or of those that serve. */
void management_refuse_error(struct management_call *call, int error);
/* 201 or 204, with nothing in it. location: NULL, or where it is. */
void management_done(struct management_call *call, unsigned status, const char *location);
/* What came of an operation. True: it was refused, and is answered. */
bool management_refuse_outcome(struct management_call *call, int error, const struct amqp_outcome *outcome);

/* make returns a new object for the i-th of n, or NULL: there is no memory. */
struct management_list {
    size_t n;
    json_t *(*make)(void *arg, size_t i);
    void *arg;
};

/* Answers with the part of it that the query asks for. Waits by fiber in between. */
void management_answer_list(struct management_call *call, const struct management_list *list);

/* "publish": 5, "publish_details": {"rate": 0.0} */
void management_put_rated(json_t *object, const char *name, uint64_t value, double rate);

/* ---- what is asked ----------------------------------------------------------------------------------------------- */

/* A member of the body that is true or false, in the ways that tools write it; as it was where it is not there. False: the call is
 * answered. */
bool management_take_truth(struct management_call *call, const char *name, bool *truth);
/* Whether a parameter of the query is true. */
bool management_asks_for(const struct management_call *call, const char *name);

/* ---- topology.c -------------------------------------------------------------------------------------------------- */

struct seen_queue {
    uint32_t id;
    struct slice vhost, name, arguments;
    bool durable, exclusive, auto_delete, single_active, managed;
    struct broker_queue_numbers numbers;
    char block[];
};

struct seen_exchange {
    uint32_t id; /* 0: the default one */
    struct slice vhost, name, arguments;
    enum exchange_type type;
    bool durable, auto_delete, internal;
    uint64_t published;
    char block[];
};

struct seen_binding {
    struct slice vhost, source, destination, key, arguments;
    bool to_exchange;
    char block[];
};

/* Pointers to one of these, each owned. */
struct seen_list {
    void **items;
    size_t n, room;
};

struct topology {
    uint64_t now_us;                              /* monotonic, of the queue thread */
    struct seen_list queues, exchanges, bindings; /* by virtual host and name; bindings as they were made */
};

enum topology_bindings {
    BINDINGS_NONE,
    BINDINGS_ALL,
    BINDINGS_FROM,
    BINDINGS_TO_QUEUE,
    BINDINGS_TO_EXCHANGE
};

struct topology_wish {
    bool queues, exchanges;
    enum topology_bindings bindings;
    struct slice vhost; /* ptr NULL: all that the user sees */
    struct slice name; /* ptr NULL: all; else the one queue or exchange, and that whose bindings are wanted */
};

/* With the default exchange, and the bindings that lead from it. False: the call is answered. */
bool topology_look(struct management_call *call, const struct topology_wish *wish,
                   struct topology **topology);
void topology_free(struct topology *topology); /* NULL is allowed */

const char *exchange_type_name(enum exchange_type type);
json_t *binding_json(const struct seen_binding *binding);
/* As a member "message_stats", of one queue or several. */
struct message_rates {
    struct broker_queue_numbers now, then;
    double seconds; /* 0: nothing is known of before */
};
struct message_rates message_rates_of(const struct management_call *call, const struct topology *topology,
                                      const struct seen_queue *queue);
void message_rates_add(struct message_rates *sum, const struct message_rates *rates);
json_t *message_stats_json(const struct message_rates *rates);
/* "messages", "messages_ready", "messages_unacknowledged" with their details. */
void message_counts_put(json_t *object, const struct message_rates *rates);

/* ---- connections.c ----------------------------------------------------------------------------------------------- */

/* False: the call is answered. */
bool connections_look(struct management_call *call, struct amqp_look **look);
/* Of one queue, as an array. */
json_t *consumers_of_queue(const struct amqp_look *look, struct slice vhost, struct slice queue);

/* ---- messages.c -------------------------------------------------------------------------------------------------- */

/* An object as a table. ptr NULL: no memory, or it makes no sense; the caller frees it. */
struct slice table_of_json(const json_t *object, char **owned);

/* ---- overview.c -------------------------------------------------------------------------------------------------- */

/* Of users with the same name in several sections the first counts. */
void management_each_user(const struct config *config,
                          void (*each)(void *arg, const struct config_user *user), void *arg);
const struct config_user *management_find_user(const struct config *config, struct slice name);
/* Without its password. */
json_t *management_user_json(const struct config_user *user);
json_t *management_permission_json(const struct config_user *user, struct slice vhost);

/* ---- what is served ---------------------------------------------------------------------------------------------- */

void overview_serve(struct management_call *call);
void cluster_name_serve(struct management_call *call);
void nodes_serve(struct management_call *call);
void node_serve(struct management_call *call);
void whoami_serve(struct management_call *call);
void vhosts_serve(struct management_call *call);
void vhost_serve(struct management_call *call);
void users_serve(struct management_call *call);
void user_serve(struct management_call *call);
void permissions_serve(struct management_call *call);
void permission_serve(struct management_call *call);
void user_permissions_serve(struct management_call *call);
void vhost_permissions_serve(struct management_call *call);
void nothing_serve(struct management_call *call);
void alarms_serve(struct management_call *call);
void health_serve(struct management_call *call);

void management_queues_serve(struct management_call *call);
void management_queue_serve(struct management_call *call);
void management_queue_declare(struct management_call *call);
void management_queue_delete(struct management_call *call);
void management_queue_purge(struct management_call *call);

void exchanges_serve(struct management_call *call);
void exchange_serve(struct management_call *call);
void exchange_declare(struct management_call *call);
void exchange_delete(struct management_call *call);

void bindings_serve(struct management_call *call);
void queue_bindings_serve(struct management_call *call);
void source_bindings_serve(struct management_call *call);
void destination_bindings_serve(struct management_call *call);
void between_serve(struct management_call *call);
void between_bind(struct management_call *call);
void binding_serve(struct management_call *call);
void binding_delete(struct management_call *call);

void connections_serve(struct management_call *call);
void connection_serve(struct management_call *call);
void connection_close(struct management_call *call);
void channels_serve(struct management_call *call);
void connection_channels_serve(struct management_call *call);
void channel_serve(struct management_call *call);
void consumers_serve(struct management_call *call);

void message_publish(struct management_call *call);
void messages_get(struct management_call *call);
void aliveness_serve(struct management_call *call);

void definitions_serve(struct management_call *call);
void definitions_import(struct management_call *call);

/* ---- rows -------------------------------------------------------------------------------------------------------- */

enum management_flag {
    ROW_VHOST = 1,         /* the first '*' is a virtual host, which has to be there, and the user's */
    ROW_ADMINISTRATOR = 2, /* for administrators */
    ROW_BODY = 4,          /* an object comes with it */
    ROW_TO_EXCHANGE = 8,   /* a binding's destination is one */
};

struct management_row {
    enum http_method method; /* GET stands for HEAD, too */
    const char *path;        /* behind /api; a segment that is '*' takes any */
    void (*serve)(struct management_call *call);
    unsigned flags;
};

static inline bool management_is_to_exchange(const struct management_call *call)
{
    return call->row->flags & ROW_TO_EXCHANGE;
}

#endif
