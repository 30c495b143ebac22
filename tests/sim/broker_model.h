/* broker_model.h - what the broker must hold: every message of every queue, and until which place in the log that is certain.
 *
 * Whatever happens to a message has a record in the log, at a place that is known (a publish, a message that goes on to
 * another queue) or lies between two (what was gathered for a flush). After a crash the log ends somewhere: what has its record
 * before that happened, what has it behind did not, and what lies between may have. */
#ifndef SIM_BROKER_MODEL_H
#define SIM_BROKER_MODEL_H

#include "queue/broker.h"

#define QUEUES_MAX 6
#define EXCHANGES_MAX 5
#define BINDINGS_MAX 48
#define KEYS_ROUTED_MAX 3 /* that a message has */
#define CONSUMERS_MAX 8
#define WINDOWS_MAX 4
#define SESSIONS_MAX 2
#define KEYS_MAX 4
#define BEHIND_ALL UINT64_MAX

enum entry_state {
    WAITS,
    DELAYED, /* until somewhere in [due_low, due_high] */
    DYING,   /* was to go to the dead letters, which could not take it */
    FLIES,
    GONE,
};

/* A message in a queue, also after it left. */
struct entry {
    uint64_t number, content;
    uint64_t body;   /* of the file that it is in; 0: it is in the log */
    uint32_t bytes;  /* of the body */
    uint8_t key;     /* of order-by; 0: none */
    uint8_t queue;   /* index */
    uint8_t headers; /* index */
    uint8_t priority;
    uint32_t queue_id; /* a queue that is deleted and declared again is another one */
    enum entry_state state;
    bool blocks;    /* delayed after it was delivered: younger ones of its key wait */
    bool delivered; /* since the last restart */
    bool confirmed; /* its publisher was told yes */
    unsigned attempts;
    struct slice keys[KEYS_ROUTED_MAX]; /* its own, and those of its copies; constants */
    uint8_t n_keys;
    unsigned n_deaths; /* the latest first, none twice */
    struct model_death {
        uint8_t queue;
        uint8_t reason;
    } deaths[QUEUES_MAX * N_MESSAGE_ENDS], first_death;
    uint64_t due_low, due_high;
    uint64_t queued_us, deadline_us;
    uint64_t ttl_us; /* 0: as its queue has it */
    int consumer;
    uint64_t position;            /* its record begins there */
    uint64_t gone_low, gone_high; /* GONE: where the log says so */
    /* Where the log says that it was delivered, and that so many attempts counted; 0: nowhere. */
    uint64_t delivered_place, attempts_place;
    unsigned attempts_logged;
};

struct model_queue {
    bool there, paused;
    uint32_t id;
    bool had_consumer;
    int owner;               /* index of its session; -1: none */
    uint64_t idle_at_us;     /* it goes then, if nobody uses it; UINT64_MAX: never */
    uint64_t stuck_until_us; /* what is to leave it is not tried before */
    struct broker_queue_options options;
    char dead_exchange[8], dead_key[8];
};

struct model_exchange {
    bool there;
    uint32_t id;
    struct broker_exchange_options options; /* alternate and arguments are constants */
};

/* Exchanges, queues, keys and arguments by their index. */
struct model_binding {
    int source, destination, key, arguments;
    bool to_exchange;
};

struct model_consumer {
    bool there;
    struct broker_consumer *handle;
    int queue;
    uint32_t queue_id;
    struct broker_consumer_options options;
    int windows[BROKER_WINDOWS]; /* index; -1: none */
    bool stopped;                /* it gets no more */
    uint64_t order;              /* in which it came */
    unsigned in_flight;
    uint64_t transit; /* bytes, with what each message costs beside */
    uint64_t hold_until_us, since_us, n;
};

struct model_window {
    struct broker_window *handle;
    unsigned prefetch;
};

/* A key that a client sent, and what came of it. */
struct model_key {
    uint64_t key, number, until_us, position;
    uint32_t address;
};

struct model {
    struct model_queue queues[QUEUES_MAX];
    struct model_exchange exchanges[EXCHANGES_MAX];
    struct model_binding bindings[BINDINGS_MAX];
    size_t n_bindings;
    struct model_consumer consumers[CONSUMERS_MAX];
    struct model_window windows[WINDOWS_MAX];
    struct broker_session *sessions[SESSIONS_MAX];
    uint64_t n_subscribed;
    struct entry *entries; /* by number, then queue; owned */
    size_t n, room;
    struct model_key *keys; /* owned */
    size_t n_keys, keys_room;
    uint64_t next_number;
};

const char *queue_name(int queue);
int queue_by_name(struct slice name); /* -1: there is none of that name */
int queue_by_id(const struct model *m, uint32_t id);
/* Among the others by its number. */
struct entry *entry_add(struct model *m, uint64_t number);
struct entry *entry_find(const struct model *m, int queue, uint32_t queue_id, uint64_t number);
/* Whether o is delivered before e, of the same queue, when both wait. */
bool entry_is_before(const struct model *m, const struct entry *o, const struct entry *e);
/* Until when it may wait; UINT64_MAX: for ever. */
uint64_t entry_expires_us(const struct model *m, const struct entry *e);
/* Whether it counts as a consumer of the queue. */
bool consumer_counts(const struct model *m, const struct model_consumer *c, int queue);
/* Whether it could be given one more, if its rate allows that, which is not known here. */
bool consumer_has_room(const struct model *m, const struct model_consumer *c, uint64_t now_us);
/* Whether it is the one that gets everything, where there is one. */
bool consumer_is_active(const struct model *m, const struct model_consumer *c);
unsigned queue_consumers(const struct model *m, int queue);
/* Somebody uses it, or has begun to, or has ended. */
void queue_used(struct model *m, int queue, uint64_t now_us);
/* With bindings to it, and exchanges that go along. */
void queue_remove(struct model *m, int queue);
/* How many wait, bytes and all, in flight left out. */
uint64_t queue_waiting(const struct model *m, int queue, uint64_t *bytes);
struct model_key *key_find(const struct model *m, uint32_t address, uint64_t key, uint64_t now_us);
void key_add(struct model *m, const struct model_key *key);
void model_clear(struct model *m);

/* ---- exchanges: broker_model_routes.c ---- */

const char *exchange_name(int exchange);
int exchange_by_name(struct slice name);
/* Keys of bindings and messages, arguments of bindings, headers of messages: there are so many of each. */
extern const int n_routing_keys, n_arguments, n_headers;
struct slice routing_key(int key);
struct slice arguments_of(int arguments);
int key_by_text(struct slice text);
int arguments_by_bytes(struct slice bytes);
/* The head of a message with the headers, as AMQP or as HTTP has them, into room. */
char *headers_put(char *at, int headers, bool amqp);

struct model_binding *binding_find(struct model *m, const struct model_binding *binding);
void binding_add(struct model *m, const struct model_binding *binding);
/* With exchanges that go along. */
void binding_remove(struct model *m, struct model_binding *binding);
void exchange_remove(struct model *m, int exchange);
void bindings_remove_to(struct model *m, int destination, bool is_exchange);

/* What a message says of where it goes; exchange -1: the default one. */
struct model_routing {
    int exchange, headers;
    struct slice keys[KEYS_ROUTED_MAX];
    int n_keys;
};
/* Queues that it leads to, by their index; how many. */
int model_route(const struct model *m, const struct model_routing *routing, int targets[QUEUES_MAX]);
/* Those that an exchange can lead to. */
int model_reach(const struct model *m, int exchange, int targets[QUEUES_MAX]);

#endif
