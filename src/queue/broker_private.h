/* broker_private.h - what the parts of the broker share; see broker.h for what holds.
 *
 *   broker.c             a life: opening, publishing, flushing, turns
 *   broker_body.c        bodies that have files of their own
 *   broker_topology.c    queues
 *   broker_exchange.c    exchanges and bindings: broker_exchange.h
 *   broker_held.c        messages that are out of what waits: their states, one at a time by key
 *   broker_delivery.c    who gets the next one; delivering, deadlines
 *   broker_consumer.c    consumers: coming, going, acknowledging
 *   broker_death.c       how messages leave: limits, dead letters, purge, move
 *   broker_load.c        from a checkpoint to the state (broker_saved.h: its bytes)
 *   broker_recover.c     from the state and the records behind it to the state at the end
 *   broker_checkpoint.c  from the state to a checkpoint; segments
 *   broker_view.c        numbers, status, peek */
#ifndef QUEUE_BROKER_PRIVATE_H
#define QUEUE_BROKER_PRIVATE_H

#include <stdatomic.h>

#include "base/list.h"
#include "base/rng.h"
#include "fiber/timer.h"
#include "queue/broker.h"
#include "queue/broker_exchange.h"
#include "queue/ready.h"
#include "queue/recent.h"

#define ADDRESS_IS_EXCHANGE 0x80000000u
#define FINISHED_KEPT 65536u
#define IDEMPOTENCY_KEPT (1u << 20)
/* Of messages with a key that wait for an older one of theirs; then the queue delivers nothing younger. */
#define BLOCKED_MOST 10000u
/* Room that is promised for the end of a message in a queue. */
#define DONE_PROMISE log_record_bytes(DONE_BYTES)

struct queue;

enum held_state {
    HELD_AGAIN,     /* waits to be delivered, before all that are ready */
    HELD_DELAYED,   /* until when_us */
    HELD_BLOCKED,   /* an older message of its key is not done */
    HELD_IN_FLIGHT, /* until when_us */
};

/* A message that is neither ready nor gone. */
struct held {
    struct ready_entry entry;
    struct queue *queue;
    struct held *next_in_bucket;
    struct broker_consumer *consumer; /* IN_FLIGHT; NULL before a restart's messages are sorted */
    struct list in_queue;             /* of queue->held */
    struct list link;                 /* IN_FLIGHT: of its consumer; BLOCKED: of its key */
    struct timer timer;               /* DELAYED, IN_FLIGHT: in broker->deadlines */
    struct timer turn;                /* AGAIN: in queue->again, by priority and number */
    uint64_t when_us;
    uint32_t attempts; /* that counted */
    uint8_t state;
    uint8_t dies_of; /* DELAYED, and dead already: what of, plus one; the dead letters could not take it */
    bool owns_key;
    bool marked; /* the log says, or is about to, that it was delivered */
};

/* A value of order-by, one of whose messages is on its way. */
struct ordered_key {
    struct ordered_key *next_in_bucket;
    uint32_t key;
    struct list blocked; /* struct held, oldest first */
};

struct queue_tallies {
    uint64_t published, delivered, redelivered, retried, refused;
    uint64_t delivered_auto, taken, taken_auto;
    uint64_t ended[N_MESSAGE_ENDS];
};

/* Messages of a priority that wait. */
struct level {
    struct ready ready;
    uint64_t delivered; /* number of the youngest that left ready by delivery */
    bool to_mark;       /* which is not logged */
};

struct queue {
    struct broker *broker;
    struct list link; /* of broker->queues */
    uint32_t id;
    struct hash_item by_name, by_id;
    struct destination destination;      /* of bindings */
    struct slice name;                   /* owned */
    struct broker_queue_options options; /* its slices are owned */
    struct level *levels;                /* by priority, from 0; owned, unless it is the one */
    struct level level;
    unsigned n_levels;
    struct list held;        /* struct held */
    struct timer_heap again; /* struct held */
    struct timer expiry;     /* in broker->expiries: when the oldest that waits is too old */
    struct timer idle;       /* in broker->idles: when nobody used it for so long that it is deleted */
    uint64_t offered;    /* numbers below it have had their chance to be delivered before they were too old */
    uint64_t ttl_number; /* whose time to live is in ttl_us; 0: nobody's */
    uint64_t ttl_us;
    uint64_t n_held[HELD_IN_FLIGHT + 1];
    uint64_t bytes, in_flight_bytes;
    struct list consumers; /* by priority, those that may get the next message first */
    struct list stopped;   /* consumers that get nothing by themselves */
    unsigned n_consumers;  /* of the former */
    struct broker_session *owner;
    struct list owned;         /* of owner->queues */
    struct list to_run;        /* of broker->to_run, while something may be delivered */
    struct list to_mark;       /* of broker->to_mark, while delivered is not logged */
    struct list fresh;         /* of broker->fresh, while it has messages that may not be durable */
    struct ordered_key **keys; /* buckets; NULL: none is on its way */
    uint32_t n_keys, n_key_buckets;
    bool paused;
    bool had_consumer;
    bool has_exclusive; /* its consumer is the only one */
    bool deleted;       /* its end is logged as one */
    bool dropping;      /* its oldest is on its way out: no other one may be dropped meanwhile */
    struct queue_tallies tallies;
};

struct broker_session {
    struct list queues; /* struct queue: owned */
};

struct broker_window {
    atomic_uint refs;
    unsigned prefetch; /* 0: no limit */
    unsigned in_flight;
    struct list shares; /* struct window_share */
};

struct window_share {
    struct list list;
    struct broker_consumer *consumer;
};

struct broker_consumer {
    struct queue *queue; /* NULL: it was deleted */
    struct list link;    /* of queue->consumers, queue->stopped, or of broker->ended */
    struct window_share shares[BROKER_WINDOWS];
    struct list held; /* what it has in flight */
    bool stopped;
    uint64_t transit; /* bytes delivered and not credited */
    struct broker_consumer_options options;
    unsigned in_flight;
    double tokens;
    uint64_t filled_us; /* when tokens were counted */
    uint64_t until_us;  /* held back */
    struct timer timer; /* in broker->wakes: when it may get the next */
};

/* How many messages in queues point into a segment, and how many ever did. */
struct segment_refs {
    uint64_t number;
    uint64_t live, total;
};

/* A body that has a file of its own. */
struct kept_body {
    struct hash_item by_id;
    struct list link; /* of broker->leaving, when nothing needs it */
    struct body_ref ref;
    uint64_t n_needed;  /* messages in queues that have it, and who publishes it */
    uint64_t leaves_at; /* leaving: its file may go once the log is durable up to there */
};

/* A message that has such a body. */
struct stored_message {
    struct hash_item by_number;
    uint64_t number;
    struct kept_body *body;
    uint64_t n_entries; /* queues that it is in */
};

struct broker {
    struct log *log;
    struct storage *storage;
    const struct broker_events *events;
    void *arg;
    struct index *index;
    struct rng rng;
    uint64_t now_us;
    uint64_t next_number;
    uint64_t durable_number; /* below it all are durable */
    uint64_t appended_upto;  /* log_end after the last message was appended */
    uint32_t next_id;        /* of queues and exchanges; from 1 */
    struct list queues, exchanges;
    struct hash_table queues_by_name, queues_by_id, exchanges_by_name, exchanges_by_id;
    uint64_t walks;        /* from exchanges to queues, so far */
    uint64_t replayed_end; /* of the log */
    struct list to_run, to_mark, fresh;
    struct list ended;  /* consumers whose queue was deleted */
    struct held **held; /* buckets */
    uint64_t n_held, n_held_buckets;
    uint32_t n_consumers, n_queues, n_exchanges;
    struct timer_heap deadlines; /* struct held */
    struct timer_heap wakes;     /* struct broker_consumer */
    struct timer_heap expiries;  /* struct queue */
    struct timer_heap idles;     /* struct queue */
    char *done, *retries;        /* gathered for the next flush; owned */
    size_t done_len, done_room, retries_len, retries_room;
    struct recent finished;        /* struct finished */
    struct recent idempotency;     /* struct same_key */
    struct segment_refs *segments; /* oldest first; owned */
    size_t n_segments, segments_room;
    size_t n_empty;                      /* of them: nothing points into them any more */
    struct hash_table bodies, stored;    /* struct kept_body, struct stored_message: both owned */
    struct stored_message *spare_stored; /* for the next message; owned */
    struct list leaving;                 /* struct kept_body: those whose place is not known yet are last */
    uint64_t next_body;
    bool lost_done;           /* one was not appended since the last flush */
    struct log_buffer buffer; /* for reading messages */
    uint64_t compacting;      /* segment; UINT64_MAX: none */
    uint64_t compact_at;      /* position in it */
    uint64_t compactable;     /* segments below this one may be freed by the next checkpoint */
    unsigned depth;           /* of queues that make room in each other */
    bool checkpointing;
    bool index_rebuilt; /* at the start: it did not verify */
    bool replaying;     /* nothing is appended, told or counted */
    char failure[256];
    struct queue *targets[MESSAGE_TARGETS_MAX]; /* of the message that is being published */
    char target_ids[MESSAGE_TARGETS_MAX * sizeof(uint32_t)];
};

struct finished {
    struct recent_item item;
    struct message_ref ref;
    uint64_t time_us, queued_ms;
    uint16_t end;
    uint16_t attempts;
};

struct same_key {
    struct recent_item item;
    char key[IDEMPOTENCY_KEY_BYTES];
    uint64_t number;
    uint64_t until_us;
    uint64_t position; /* of the message's record, while it may not be durable yet */
    uint32_t address;
};

/* ---- broker.c ---- */
/* One that has nothing yet: options are taken up, nothing is read. broker_close. NULL: no memory. */
struct broker *broker_create(const struct broker_options *options);
void broker_fail(struct broker *broker, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Reads a message's record. What it gives is good until the next read. */
int broker_read(struct broker *broker, uint64_t position, struct message *message);
/* Numbers, appends, and puts the message into its targets, which are queues, for all of which there is room. Sets its number. */
enum publish_result broker_append(struct broker *broker, struct message *message,
                                  struct queue *const *targets, unsigned n, uint64_t *position);
/* A message as replay or broker_append has it, into one queue. Memory was reserved (broker_reserve). */
void broker_enqueue(struct queue *queue, const struct message *message, uint64_t position);
/* What counts of a message at a queue's max_bytes: all that came by HTTP; by AMQP its body, as AMQP has it. */
uint64_t broker_bytes_of(const struct message *message);
int broker_reserve(struct queue *queue, const struct message *message, bool delayed);
struct ready_entry broker_entry(const struct queue *queue, const struct message *message, uint64_t position);
enum publish_result broker_error_result(int error);
void broker_remember_key(struct broker *broker, const struct message *message, uint64_t position);
/* Gathers a DONE; room for it was promised when its message was accepted. */
void broker_gather_done(struct broker *broker, const struct done_entry *entry);
void broker_gather_retry(struct broker *broker, const struct retry_entry *entry);

/* ---- broker_body.c ---- */
/* Before a message whose body is stored is appended or replayed, so that body_need cannot fail. 0, -ENOMEM; -EBADMSG: its body is known, and another. */
int body_prepare(struct broker *broker, const struct message *message);
/* One more queue has the message, whose body is stored; or one less. */
void body_need(struct broker *broker, const struct message *message);
void body_unneed(struct broker *broker, uint64_t number);
/* All that was gathered stands in the log now, or will never. */
void bodies_flushed(struct broker *broker);
void bodies_free(struct broker *broker);
/* Messages of a checkpoint; then each entry of a queue is counted (-EBADMSG: its message is not known), or all of them anew, and
 * in the end they are as many as there were. */
int bodies_load(struct broker *broker, struct slice list);
int body_count(struct broker *broker, const struct ready_entry *entry);
void bodies_uncount(struct broker *broker);
int bodies_check(const struct broker *broker, struct slice list, struct log_report *report);
/* After replay: those that are needed are there, and no others. */
int bodies_settle(struct broker *broker, struct log_report *report);

/* ---- broker_topology.c ---- */
struct queue *broker_queue(const struct broker *broker, struct slice name);
struct queue *broker_queue_by_id(const struct broker *broker, uint32_t id);
/* Appends a record made of a block; what does not go into the log has not happened. */
int broker_append_block(struct broker *broker, enum log_claim claim, uint8_t kind, const char *block,
                        size_t n);
int topology_replay(struct broker *broker, const struct log_record *record);
/* Appends records that make all of it again. */
int topology_append(struct broker *broker);
/* As a record's payload and a checkpoint have it. */
size_t queue_options_bytes(const struct broker_queue_options *options);
char *queue_options_put(char *at, const struct broker_queue_options *options);
bool queue_options_take(struct slice *s, struct broker_queue_options *options);
/* Copies the options' texts. NULL: no memory, or the id is taken. */
struct queue *queue_create(struct broker *broker, uint32_t id, struct slice name,
                           const struct broker_queue_options *options);
void queue_free(struct queue *queue);
/* Logs it and does it. */
int queue_delete(struct queue *queue);
/* Queues that a restart ends. */
int topology_drop_transient(struct broker *broker);
/* Begins to count how long nobody uses it, if that counts. */
void queue_touch(struct queue *queue);
/* Messages that wait in their order. */
static inline uint64_t queue_n_ready(const struct queue *queue)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < queue->n_levels; i++)
        n += queue->levels[i].ready.count;
    return n;
}

/* Where messages of a priority wait. */
static inline struct level *queue_level(const struct queue *queue, unsigned priority)
{
    return &queue->levels[priority < queue->n_levels ? priority : queue->n_levels - 1];
}

/* ---- broker_held.c ---- */
struct message_ref held_ref(const struct held *held);
struct held *held_find(const struct broker *broker, struct message_ref ref);
/* Into the state; NULL: no memory. Its message counts in the queue already. */
struct held *held_create(struct queue *queue, const struct ready_entry *entry, enum held_state state,
                         uint64_t when_us);
/* Room for one more, so that held_create cannot fail for want of it in the heaps. */
int held_reserve(struct queue *queue);
void held_set_state(struct held *held, enum held_state state, uint64_t when_us);
/* Takes it out of everything, and wakes the next one of its key. */
void held_free(struct held *held);
/* Whether it may go now, with its key; otherwise it waits for the older one, or there is no memory. */
bool held_take_key(struct held *held);
/* After a restart: messages that wait for another attempt go before the younger ones of their key. 0 or -ENOMEM. */
int held_claim_keys(struct broker *broker);

/* ---- broker_delivery.c ---- */
void queue_kick(struct queue *queue);
/* The one that may be delivered next, were nobody in the way: held, or the front of ready. False: none, or *error. */
bool queue_oldest(struct queue *queue, struct held **held, struct ready_entry *entry, int *error);
/* What waits in its order under that number, and where. 1, 0: nothing does, or an error. */
int queue_find_ready(const struct queue *queue, uint64_t number, struct ready_entry *entry,
                     struct level **level);
/* Takes it off, when it is not held. */
void queue_pop(struct queue *queue, const struct ready_entry *entry);
void broker_pump(struct broker *broker);
void broker_expire_deadlines(struct broker *broker);
/* The next one that may go, whatever its key, out of what waits; NULL: there is none. */
struct held *queue_take_next(struct queue *queue);
void held_deliver(struct held *held, struct broker_consumer *consumer);
/* The attempt failed, and counts. */
void held_fail(struct held *held);
/* Behind those of its priority. Where one gets everything, they stand as they came. */
void consumer_line_up(struct queue *queue, struct broker_consumer *consumer);

/* ---- broker_consumer.c ---- */
/* One message more or less in flight at its consumers. NULL is allowed. */
void window_enter(struct broker_window *window);
void window_leave(struct broker_window *window);
/* It gets nothing any more, and what it has in flight waits again. */
void consumer_end(struct broker_consumer *consumer);
/* It has ended, or all ends, and is in no list but its windows'. */
void consumer_free(struct broker_consumer *consumer);

/* ---- broker_death.c ---- */
/* The message, out of ready already or held (freed by this), is gone: counts, gathers, tells. */
void message_ended(struct queue *queue, const struct ready_entry *entry, unsigned attempts,
                   enum message_end end);
void held_end(struct held *held, enum message_end end);
/* To the dead letters, or it is dropped where there are none. When the dead letters cannot take it now, it waits. */
void held_die(struct held *held, enum message_end end);
/* Room for one message more of so many bytes in all of them: drops what the rules say; those that refuse are asked before
 * others drop anything. NULL: there is; else a queue that has none. */
struct queue *queues_make_room(struct queue *const *queues, unsigned n, uint64_t bytes);
/* Where the limit is one of what waits: the oldest leave that are over it and were offered. */
void queue_trim(struct queue *queue);
/* One that was refused goes to the dead letters, if they take it. */
void queue_bury_new(struct queue *queue, const struct message *message);
/* Ends what waited for longer than it may, from the oldest on. */
void queue_expire(struct queue *queue);

/* ---- broker_checkpoint.c ---- */
int segments_add(struct broker *broker, uint64_t position, unsigned n);
/* Room so that segments_add of a position in the segment that log_end is in, or the next one, cannot fail. */
int segments_reserve(struct broker *broker);
void segments_drop(struct broker *broker, uint64_t position);
/* A message of the queue stands at another position now. 0 or an error; -ENOENT: the queue does not have it. */
int broker_move_entry(struct queue *queue, uint64_t number, uint64_t position);
/* Whether something points into it. */
bool segments_has(const struct broker *broker, uint64_t number);
/* A segment that nothing points into, if that is so, is used again. */
void segments_release(struct broker *broker, uint64_t number);

/* ---- broker_load.c ---- */
/* Empty: the state before anything. *report may say what is wrong. */
int broker_load(struct broker *broker, struct slice checkpoint, struct log_report *report);

/* ---- broker_recover.c ---- */
int broker_recover(struct broker *broker, struct storage *storage, struct log_report *report);

#endif
