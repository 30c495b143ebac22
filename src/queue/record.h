/* record.h - what the broker writes into the log: the payloads of its records, byte by byte as in docs/log-format.md.
 *
 * Pure: bytes in, values out. A payload that does not parse is damage, because its checksum was right. Any thread. */
#ifndef QUEUE_RECORD_H
#define QUEUE_RECORD_H

#include <sys/uio.h>

#include "base/bytes.h"
#include "log/log.h"
#include "log/stored_body.h"

enum record_kind {
    RECORD_MESSAGE = LOG_KIND_FIRST, /* a message, and the queues that it is in */
    RECORD_COPY,                     /* the same message once more, so that its old segment can go */
    RECORD_DONE,                     /* messages that left their queue */
    RECORD_RETRY,                    /* messages that wait for another attempt */
    RECORD_DELIVERED,                /* up to which message a queue has delivered */
    RECORD_EXCHANGE,
    RECORD_EXCHANGE_DELETE,
    RECORD_QUEUE,
    RECORD_QUEUE_DELETE,
    RECORD_BIND,
    RECORD_UNBIND,
    RECORD_PAUSE,
};

/* Why a message left its queue. */
enum message_end {
    END_ACKED,
    END_EXPIRED,  /* older than max-age */
    END_MAXLEN,   /* pushed out by younger ones */
    END_REJECTED, /* the reader will never take it */
    END_ATTEMPTS, /* given up after so many */
    END_PURGED,
    END_MOVED, /* by hand, to another queue */
    N_MESSAGE_ENDS
};

/* "acked", "expired", "maxlen", "rejected", "delivery_limit", "purged", "moved": as RabbitMQ's x-death calls them. */
extern const char *const message_end_names[N_MESSAGE_ENDS];

/* A message in one queue. */
struct message_ref {
    uint32_t queue;
    uint64_t number;
};

#define MESSAGE_TARGETS_MAX 4096
#define IDEMPOTENCY_KEY_BYTES 16

struct message {
    uint64_t number;            /* grows from message to message, over all queues */
    uint64_t origin;            /* the number that it was first published as; its own, unless it was moved */
    uint32_t origin_address;    /* exchange or queue that it was first published to: struct broker */
    uint32_t exchange;          /* id; 0: the default one */
    uint64_t published_us;      /* wall time of the first time */
    uint64_t queued_us;         /* wall time of this time */
    uint64_t due_us;            /* wall time before which it is not delivered; 0: none */
    uint64_t ttl_us;            /* how long it may wait in its queue; 0: as long as that lets it */
    uint8_t priority;           /* of queues that have any: higher ones go first */
    struct message_ref removes; /* what left its queue in the same moment; queue 0: nothing */
    enum message_end removes_end;
    unsigned removes_attempts;     /* at most 0xffff are kept */
    struct slice targets;          /* u32 a queue */
    struct slice routing_key;      /* up to 255 bytes */
    struct slice idempotency;      /* empty, or IDEMPOTENCY_KEY_BYTES: what tells it from others with a key */
    uint64_t idempotency_until_us; /* wall time until which another one with the key is the same */
    struct slice head;             /* envelope.h */
    struct slice body;             /* empty where it is stored */
    struct body_ref stored;        /* the body has a file of its own; id 0: it has none */
};

#define MESSAGE_FIXED_BYTES 104
#define MESSAGE_STORED_BYTES 16 /* what stands in the place of a body that is stored */
#define MESSAGE_BLOCK_BYTES (MESSAGE_FIXED_BYTES + MESSAGE_STORED_BYTES)
#define MESSAGE_PARTS 5

/* The parts of a message's payload: of block (MESSAGE_BLOCK_BYTES), and slices of message, all borrowed. */
void message_parts(const struct message *message, char block[MESSAGE_BLOCK_BYTES],
                   struct iovec parts[MESSAGE_PARTS]);
size_t message_payload_bytes(const struct message *message);
/* Of its body, wherever that is. */
static inline uint64_t message_body_bytes(const struct message *message)
{
    return message->stored.id ? message->stored.bytes : message->body.len;
}

/* The slices borrow payload. */
bool message_parse(struct slice payload, struct message *message);

static inline unsigned message_n_targets(const struct message *message)
{
    return (unsigned)(message->targets.len / sizeof(uint32_t));
}

static inline uint32_t message_target(const struct message *message, unsigned i)
{
    return get_u32le(message->targets.ptr + i * sizeof(uint32_t));
}

/* The lists of RECORD_DONE, RECORD_RETRY, RECORD_DELIVERED: entries of these sizes, one behind the other. */
#define DONE_BYTES 16
#define RETRY_BYTES 24
#define DELIVERED_BYTES 16

struct done_entry {
    struct message_ref ref;
    enum message_end end;
    unsigned attempts; /* at most 0xffff are kept */
};

struct retry_entry {
    struct message_ref ref;
    uint32_t attempts; /* that counted */
    uint64_t due_us;   /* 0: at once */
};

void done_entry_put(char at[DONE_BYTES], const struct done_entry *entry);
void retry_entry_put(char at[RETRY_BYTES], const struct retry_entry *entry);
void delivered_entry_put(char at[DELIVERED_BYTES], const struct message_ref *upto);
bool take_done_entry(struct slice *list, struct done_entry *entry);
bool take_retry_entry(struct slice *list, struct retry_entry *entry);
bool take_delivered_entry(struct slice *list, struct message_ref *upto);

#endif
