/* broker_model.h - what the broker must hold: every message of every queue, and until which place in the log that is certain.
 *
 * Whatever happens to a message has a record in the log, at a place that is known (a publish, a message that goes on to
 * another queue) or lies between two (what was gathered for a flush). After a crash the log ends somewhere: what has its record
 * before that happened, what has it behind did not, and what lies between may have. */
#ifndef SIM_BROKER_MODEL_H
#define SIM_BROKER_MODEL_H

#include "queue/broker.h"

#define QUEUES_MAX 6
#define CONSUMERS_MAX 8
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
    uint32_t bytes;    /* of the body */
    uint8_t key;       /* of order-by; 0: none */
    uint8_t queue;     /* index */
    uint32_t queue_id; /* a queue that is deleted and declared again is another one */
    enum entry_state state;
    bool blocks;    /* delayed after it was delivered: younger ones of its key wait */
    bool delivered; /* since the last restart */
    bool confirmed; /* its publisher was told yes */
    unsigned attempts;
    unsigned n_deaths; /* the latest first, none twice */
    struct model_death {
        uint8_t queue;
        uint8_t reason;
    } deaths[QUEUES_MAX * N_MESSAGE_ENDS];
    uint64_t due_low, due_high;
    uint64_t queued_us, deadline_us;
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
    struct broker_queue_options options;
    char dead_key[8];
};

struct model_consumer {
    bool there;
    struct broker_consumer *handle;
    int queue;
    uint32_t queue_id;
    struct broker_consumer_options options;
    unsigned in_flight;
    uint64_t hold_until_us, since_us, n;
};

/* A key that a client sent, and what came of it. */
struct model_key {
    uint64_t key, number, until_us, position;
    uint32_t address;
};

struct model {
    struct model_queue queues[QUEUES_MAX];
    bool topic, bound[QUEUES_MAX]; /* one exchange */
    struct model_consumer consumers[CONSUMERS_MAX];
    struct entry *entries; /* by number, then queue; owned */
    size_t n, room;
    struct model_key *keys; /* owned */
    size_t n_keys, keys_room;
    uint64_t next_number;
};

const char *queue_name(int queue);
int queue_by_id(const struct model *m, uint32_t id);
struct entry *entry_add(struct model *m);
struct entry *entry_find(const struct model *m, int queue, uint32_t queue_id, uint64_t number);
/* How many wait, bytes and all, in flight left out. */
uint64_t queue_waiting(const struct model *m, int queue, uint64_t *bytes);
struct model_key *key_find(const struct model *m, uint32_t address, uint64_t key, uint64_t now_us);
void key_add(struct model *m, const struct model_key *key);
void model_clear(struct model *m);

#endif
