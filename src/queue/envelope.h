/* envelope.h - what travels with a message beside its body: how it came, its fields, and how it died before.
 *
 * A list of items {tag u8, name length u16, value length u32, name, value}, in the order they were put. Fronts put in
 * what their protocol knows, and take out what they can say. Pure; any thread. */
#ifndef QUEUE_ENVELOPE_H
#define QUEUE_ENVELOPE_H

#include "base/slice.h"
#include "queue/record.h"

enum envelope_tag {
    ENVELOPE_METHOD = 1, /* value: of the HTTP request */
    ENVELOPE_TARGET,     /* value: its path and query */
    ENVELOPE_AUTHORITY,  /* value */
    ENVELOPE_CLIENT,     /* value: the client's address, 16 bytes of struct ip */
    ENVELOPE_FIELD,      /* name and value of a header field */
    ENVELOPE_DEATH,      /* value: struct death; the latest one first */
    ENVELOPE_WAITS,      /* no value: somebody waits for the answer */
    ENVELOPE_AMQP,       /* value: an AMQP content header's payload (wire/amqp.h) */
    ENVELOPE_COPIES, /* value: routing keys that it goes to beside its own, each with its length (u8) before it */
    ENVELOPE_FIRST_DEATH, /* value: struct death, of the first time */
};

struct envelope_item {
    enum envelope_tag tag;
    struct slice name, value;
};

#define ENVELOPE_ITEM_OVERHEAD 7

/* Bytes that an item takes; 0: its name or value is too long to be put. */
size_t envelope_item_bytes(const struct envelope_item *item);
/* Writes it, and returns where the next one goes. There is room. */
char *envelope_put(char *at, const struct envelope_item *item);
/* What stands before its name and value, which are not looked at but for their lengths. */
void envelope_put_head(char at[ENVELOPE_ITEM_OVERHEAD], const struct envelope_item *item);
/* The next item off *head, which is borrowed; false at the end, or where it does not parse. */
bool envelope_take(struct slice *head, struct envelope_item *item);
bool envelope_is_valid(struct slice head);

/* The value of the first item with the tag; ptr NULL: there is none. */
struct slice envelope_find(struct slice head, enum envelope_tag tag);
/* The value of the first field of that name, any case; ptr NULL: there is none. */
struct slice envelope_field(struct slice head, struct slice name);

/* One way in which a message died, as RabbitMQ's x-death tells it. */
struct death {
    enum message_end reason;
    uint32_t count;
    uint64_t time_us;                          /* wall, of the last time */
    struct slice queue, exchange, routing_key; /* names, 65535 bytes at most each */
    struct slice copies;                       /* as ENVELOPE_COPIES has them; empty: none */
};

bool death_parse(struct slice value, struct death *death);

/* The head of a message that dies once more: death first, and an older one of the same queue and reason is counted
 * into it. Unless it keeps its copies, ENVELOPE_COPIES is taken out. room: envelope_bury_bytes. Returns its length. */
size_t envelope_bury_bytes(struct slice head, const struct death *death);
size_t envelope_bury(char *at, struct slice head, const struct death *death, bool keeps_copies);

#endif
