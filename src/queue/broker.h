/* broker.h - the queues of a server as a pure state machine: commands in, deliveries and outcomes out.
 *
 * Topology is AMQP's, as RabbitMQ 3.10 has it: exchanges, queues, bindings. A topic of the configuration is a fanout exchange;
 * the default exchange (name "") leads to the queue that the routing key names. What must survive goes to the log as
 * records; the broker only appends. Its owner runs it in turns:
 *
 *     commands ...            (each may append)
 *     broker_flush            (appends what was gathered: what is done, what waits for another attempt)
 *     log_commit              (where somebody waits for a confirm; log_write otherwise)
 *     broker_run(now)         (deliveries of what is durable, deadlines)
 *
 * A publisher may be told yes once log_durable is above the position that broker_publish gave.
 *
 * Invariants
 *   1. A message is delivered only once it is durable.
 *   2. A message in a queue is in one place: ready (waits in order), or held (delayed, again, blocked, in flight).
 *   3. It leaves by acknowledgement, a limit, a purge, a move, or death, each of which is a RECORD_DONE, or part of the
 *      record of the message that takes its place.
 *   4. Within a queue messages are delivered in the order of their numbers; one that comes back is before all younger ones.
 *   5. A message whose body has a file of its own has all of it; a body's file goes when the log says durably that nothing needs it.
 *   6. Room in the log for the DONE of every message in every queue was promised before it was accepted.
 *
 * No clock, no threads, no chance: times (wall, microseconds, never going back) and the seed are arguments. What it
 * reads and writes beside the log is the index of waiting messages (ready.h), on the same storage.
 * Threads: belongs to its thread, but for broker_checkpoint_make. Errors: 0 or a negative errno. */
#ifndef QUEUE_BROKER_H
#define QUEUE_BROKER_H

#include "queue/envelope.h"
#include "queue/record.h"

struct broker;
struct broker_consumer;
struct broker_session;
struct broker_window;

#define BROKER_NAME_MAX 512 /* of a queue or an exchange: it may have its virtual host before it */
#define BROKER_KEY_MAX 255  /* of a routing or binding key */

struct broker_delivery {
    struct message_ref ref;
    uint64_t
        position; /* of its record in the log, good until the message leaves the queue or the next turn */
    uint32_t
        transit; /* bytes that count at the consumer's transit_most: of a body in a file only what an open file costs */
    unsigned attempt; /* from 1: those that counted before, and this one */
    bool redelivered; /* it may have been delivered before */
    uint64_t deadline_us;
};

struct broker_ending {
    struct message_ref ref;
    enum message_end end;
    unsigned attempts;
    uint64_t time_us;
};

/* Called from within broker_run and commands; they must not call the broker. */
struct broker_events {
    void (*deliver)(void *arg, struct broker_consumer *consumer, const struct broker_delivery *delivery);
    void (*ended)(void *arg, const struct broker_ending *ending);
    /* Its queue was deleted: it gets nothing any more, and only unsubscribes. NULL: nobody is told. */
    void (*cancelled)(void *arg, struct broker_consumer *consumer);
    /* Of a consumer that is told (tells_late): it has a message for longer than its queue allows, and keeps it. */
    void (*late)(void *arg, struct broker_consumer *consumer);
};

struct broker_options {
    struct log *log;         /* opened and not yet replayed; borrowed */
    struct storage *storage; /* for the index and bodies; borrowed */
    const struct broker_events *events;
    void *arg; /* of events */
    uint64_t seed;
    uint64_t now_us;
};

/* Brings back what the log says, and cuts the log's torn tail. *broker is NULL unless the result is 0; -EBADMSG: the log is
 * damaged. report is always set. */
int broker_open(struct broker **broker, const struct broker_options *options, struct log_report *report);
void broker_close(struct broker *broker);
/* Whether the index of waiting messages did not verify, and was made anew from the log. */
bool broker_index_was_rebuilt(const struct broker *broker);
/* Where the log ended when it was opened: behind it stands what broker_open appended itself. */
uint64_t broker_replayed_end(const struct broker *broker);

/* ---- topology ---------------------------------------------------------------------------------------------------- */

enum queue_limit_rule {
    LIMIT_REJECT_NEW,
    LIMIT_DROP_OLDEST,
    LIMIT_DEAD_LETTER, /* the oldest */
    LIMIT_BURY_NEW,    /* refuses new ones, and they go to the dead letters */
    LIMIT_DROP_HEAD,   /* the oldest go to the dead letters once all that came were offered to consumers */
};

struct broker_queue_options {
    uint64_t max_length, max_bytes; /* 0: no limit */
    uint64_t max_age_us;            /* 0: no limit */
    uint64_t ack_timeout_us;
    uint64_t retry_first_us, retry_most_us; /* first 0: at once */
    uint64_t idle_us;                       /* deleted when nobody used it for so long; 0: stays */
    uint32_t attempts;                      /* 0: no end */
    enum queue_limit_rule overflow;
    uint8_t priorities; /* the highest that a message of it can have */
    bool managed;       /* the operator's: what clients declare of it is not compared */
    bool transient;     /* gone after a restart */
    bool exclusive;     /* to the session that owns it, with which it goes; and transient */
    bool auto_delete;   /* goes with its last consumer */
    bool nothing_waits; /* whatever max_length: what nobody takes at once is over the limit */
    bool single_active; /* one consumer gets everything, the first that came of those that are there */
    bool has_dead_letter;
    bool dead_keeps_key;                  /* dead_key is not used */
    struct slice dead_exchange, dead_key; /* where the dead go: exchange and routing key */
    struct slice order_by;                /* name of a field; empty: none */
    struct slice arguments;               /* as declared, for whoever asks: an AMQP table */
};

#define BROKER_ARGUMENTS_MAX 32768

/* Ids are never used twice, by a queue and an exchange neither. DECLARE_SAME: one that is there must be the same (-EEXIST),
 * as AMQP wants it; DECLARE_SET: it is changed. -ENAMETOOLONG, -ENOMEM, -ENOSPC, -EIO. */
enum declare_rule { DECLARE_SAME, DECLARE_SET };
int broker_declare_queue(struct broker *broker, struct slice name, const struct broker_queue_options *options,
                         enum declare_rule rule);
/* With its messages, bindings and consumers (whose deliveries end). -ENOENT; if_empty: -ENOTEMPTY. */
int broker_delete_queue(struct broker *broker, struct slice name, bool if_empty, uint64_t now_us);

/* Who holds exclusive queues: a connection. NULL: no memory. */
struct broker_session *broker_session_open(struct broker *broker);
/* Its queues are deleted. */
void broker_session_close(struct broker *broker, struct broker_session *session, uint64_t now_us);
/* An exclusive queue that was declared now is the session's. */
void broker_own_queue(struct broker *broker, struct slice name, struct broker_session *session);
/* Another session's: nobody else may do anything with it. */
bool broker_queue_is_locked(const struct broker *broker, struct slice name,
                            const struct broker_session *session);
/* Somebody used it who is no consumer, so that idle_us begins anew. */
void broker_touch_queue(struct broker *broker, struct slice name, uint64_t now_us);

enum exchange_type { EXCHANGE_DIRECT, EXCHANGE_FANOUT, EXCHANGE_TOPIC, EXCHANGE_HEADERS };

struct broker_exchange_options {
    enum exchange_type type;
    bool durable;           /* else it is gone after a restart */
    bool auto_delete;       /* it goes with the last binding from it */
    bool internal;          /* clients do not publish to it: who talks with them sees to that */
    struct slice alternate; /* name of the exchange that gets what this one leads nowhere; empty: none */
    struct slice arguments; /* an AMQP table, as declared; kept for whoever asks */
};

/* As broker_declare_queue; the type cannot be changed (-EEXIST). -EFBIG: the arguments fit no record; of a binding's too. */
int broker_declare_exchange(struct broker *broker, struct slice name,
                            const struct broker_exchange_options *options, enum declare_rule rule);
/* With the bindings from it and to it, and auto-delete exchanges whose last one that was. -ENOENT; if_unused: -EBUSY, there are bindings from it. */
int broker_delete_exchange(struct broker *broker, struct slice name, bool if_unused);

/* Names of queues and of exchanges are two things. */
struct broker_destination {
    struct slice name;
    bool is_exchange;
};

/* Source, destination, key and arguments (an AMQP table, in any order) are what makes a binding: made twice it is one. -ENOENT:
 * the source, the destination or the binding is not there. -EINVAL: what a headers exchange cannot match by. -ENAMETOOLONG: key. */
int broker_bind(struct broker *broker, struct slice source, const struct broker_destination *destination,
                struct slice key, struct slice arguments);
int broker_unbind(struct broker *broker, struct slice source, const struct broker_destination *destination,
                  struct slice key, struct slice arguments);

/* Names of the queues that an exchange leads to, through others too and whatever the key, up to most; how many. Good until the
 * next command. */
size_t broker_readers(struct broker *broker, struct slice exchange, struct slice *queues, size_t most);

/* ---- publishing -------------------------------------------------------------------------------------------------- */

enum publish_result {
    PUBLISH_OK,
    PUBLISH_SAME, /* one with its idempotency key is there, or was: number is that one's */
    PUBLISH_NO_EXCHANGE,
    PUBLISH_INTERNAL,   /* the exchange takes messages from exchanges only */
    PUBLISH_UNROUTABLE, /* no queue would get it */
    PUBLISH_FULL,      /* a queue that would get it is at its limit; partial: some may have it, by position */
    PUBLISH_TOO_LARGE, /* for a record of the log */
    PUBLISH_NO_SPACE,  /* on disk */
    PUBLISH_CLOSED,    /* the log failed */
    PUBLISH_NO_MEMORY,
};

struct broker_publication {
    struct slice exchange, key;
    struct slice more_keys; /* of CC and BCC: each {u8 length, bytes} */
    struct slice head, body;
    struct body_ref
        stored; /* id not 0: it is the body, as broker_body_begin named it, durable by now; body is empty */
    uint64_t delay_us; /* 0: at once */
    uint64_t ttl_us;   /* 0: as long as its queue lets it wait */
    uint8_t priority;
    bool partial;             /* queues that are full do not get it, the others do; else none does */
    struct slice idempotency; /* empty, or what the client sent */
    uint64_t idempotency_window_us;
};

struct broker_published {
    uint64_t number;
    uint32_t address;  /* with number, what broker_status finds it by */
    uint64_t position; /* confirmed once log_durable is above it */
    struct slice full; /* PUBLISH_FULL: the queue's name; good until the next command */
};

enum publish_result broker_publish(struct broker *broker, const struct broker_publication *publication,
                                   struct broker_published *published, uint64_t now_us);

/* ---- bodies in files of their own --------------------------------------------------------------------------------- */

/* Room for a body in a file of its own (log/stored_body.h), on the broker's storage. The caller writes the file, makes it and
 * its name durable, publishes it as often as he likes, and says when he is done (or has given up), whatever came of it; a file
 * that no queue needs then goes. -ENOSPC: the log's bytes_max does not allow it. -ENOMEM, -EIO. */
int broker_body_begin(struct broker *broker, uint64_t bytes, struct body_ref *ref);
void broker_body_end(struct broker *broker, uint64_t id);
/* Opens one for reading, for any thread; once it is open it can be read whatever becomes of it. As stored_body_open. */
int broker_body_open(const struct broker *broker, struct body_ref ref, struct stored_body *body);
/* Whether there is one that nothing needs any more, as the log says durably. The caller takes its leave, removes its file
 * (stored_body_remove; one that stays is found by the next start), on any thread, and says so, which gives its room back. */
bool broker_body_leaves(const struct broker *broker);
struct body_ref broker_body_take_leave(struct broker *broker);
void broker_body_removed(struct broker *broker, struct body_ref ref);

/* ---- consuming --------------------------------------------------------------------------------------------------- */

#define BROKER_WINDOWS 2

struct broker_consumer_options {
    void *owner;
    unsigned prefetch;     /* most in flight; 0: no limit */
    double rate;           /* per second; 0: no limit */
    unsigned burst;        /* at once, after a silence; at least 1 */
    int priority;          /* who has a higher one gets all that he can take */
    bool auto_ack;         /* delivered is acknowledged; prefetch does not count */
    bool exclusive;        /* nobody beside it */
    bool on_demand;        /* gets what it takes (broker_take), and does not count as a consumer */
    bool counts_loss;      /* an attempt failed whose message it leaves behind */
    bool tells_late;       /* see broker_events; else an attempt that takes too long has failed */
    uint64_t transit_most; /* bytes delivered that were not credited (broker_credit); 0: no limit */
    struct broker_window *windows[BROKER_WINDOWS]; /* borrowed, and never changed; NULL: none */
};

/* A prefetch that consumers share; 0: no limit. References are taken and given back on any thread; one is needed for as long as a
 * consumer is there. The rest is the broker's thread's. */
struct broker_window *broker_window_create(unsigned prefetch);
/* NULL is allowed. */
struct broker_window *broker_window_ref(struct broker_window *window);
void broker_window_unref(struct broker_window *window);
void broker_window_change(struct broker_window *window, unsigned prefetch);

/* Deliveries come with the next broker_run. -ENOENT: no such queue; -EBUSY: it, or one that is there, wants to be the only
 * one; -ENOMEM. */
int broker_subscribe(struct broker *broker, struct slice queue, const struct broker_consumer_options *options,
                     struct broker_consumer **consumer);
/* It gets nothing any more, and does not count; what it has in flight stays with it. */
void broker_consumer_stop(struct broker *broker, struct broker_consumer *consumer, uint64_t now_us);
/* Delivers the oldest to it now, whatever its prefetch. 1; 0: there is none that may go; -ENOENT: its queue was deleted. */
int broker_take(struct broker *broker, struct broker_consumer *consumer, uint64_t now_us);
/* How many are left for it to take. */
uint64_t broker_left(const struct broker_consumer *consumer);
/* So much of what was delivered to it has left. */
void broker_credit(struct broker *broker, struct broker_consumer *consumer, uint64_t bytes);
/* What it has in flight goes back at once, as if it had never been delivered but for the redelivered flag and, with
 * counts_loss, an attempt. */
void broker_unsubscribe(struct broker *broker, struct broker_consumer *consumer, uint64_t now_us);
void broker_consumer_change(struct broker *broker, struct broker_consumer *consumer,
                            const struct broker_consumer_options *options);
/* Nothing is delivered to it until then; 0: at once. */
void broker_consumer_hold(struct broker *broker, struct broker_consumer *consumer, uint64_t until_us);
void *broker_consumer_owner(const struct broker_consumer *consumer);
/* Its queue was deleted: it gets nothing any more, and only unsubscribes. */
bool broker_consumer_ended(const struct broker_consumer *consumer);

/* What became of a delivery. -ENOENT: it is not in flight with this consumer (any more): its deadline passed. */
int broker_ack(struct broker *broker, struct broker_consumer *consumer, struct message_ref ref,
               uint64_t now_us);
/* It failed: another attempt after the queue's back-off, or death when that was the last. */
int broker_retry(struct broker *broker, struct broker_consumer *consumer, struct message_ref ref,
                 uint64_t now_us);
/* It comes back after delay_us, and the attempt does not count. */
int broker_return(struct broker *broker, struct broker_consumer *consumer, struct message_ref ref,
                  uint64_t delay_us, uint64_t now_us);
/* It will never be taken: death at once. */
int broker_reject(struct broker *broker, struct broker_consumer *consumer, struct message_ref ref,
                  uint64_t now_us);

/* ---- by hand ----------------------------------------------------------------------------------------------------- */

int broker_pause(struct broker *broker, struct slice queue, bool pause);
/* Drops all that waits; what is in flight stays. *n: how many. */
int broker_purge(struct broker *broker, struct slice queue, uint64_t *n, uint64_t now_us);
/* Moves up to most waiting messages, oldest first, in one step; *n: how many were. -ENOENT, -EINVAL (from is to), -EXFULL (to's
 * limit), -ENOSPC, -EIO. */
int broker_move(struct broker *broker, struct slice from, struct slice to, uint64_t most, uint64_t *n,
                uint64_t now_us);
/* Calls each for up to most of those that wait, oldest first, none older than number `from`. message is good until each
 * returns. -ENOENT, -ENOMEM, -EBADMSG. */
struct broker_peeked {
    struct message_ref ref;
    const struct message *message;
    unsigned attempts;
    bool redelivered;
    uint64_t due_us; /* 0: at once */
};
int broker_peek(struct broker *broker, struct slice queue, uint64_t from, uint64_t most,
                void (*each)(void *arg, const struct broker_peeked *peeked), void *arg);

/* ---- knowing ----------------------------------------------------------------------------------------------------- */

struct broker_queue_numbers {
    uint64_t ready;   /* wait to be delivered, those that came back among them */
    uint64_t delayed; /* wait for their time */
    uint64_t blocked; /* wait for an older one of their key */
    uint64_t in_flight;
    uint64_t bytes;     /* of all of them: bodies, and heads that came by HTTP */
    uint64_t oldest_us; /* wall time at which the oldest that is ready came into the queue; 0: none is */
    unsigned consumers;
    unsigned resting; /* of them: nothing is delivered to them until their time (broker_consumer_hold) */
    bool paused;
    bool owned; /* a session's */
    /* Since broker_open. */
    uint64_t published, delivered, redelivered, retried, refused;
    uint64_t delivered_auto;    /* of delivered: to consumers with auto_ack */
    uint64_t taken, taken_auto; /* of delivered: to consumers on demand; of them: with auto_ack */
    uint64_t ended[N_MESSAGE_ENDS];
};

struct broker_queue_view {
    struct slice name;
    uint32_t id;
    const struct broker_queue_options *options;
    struct broker_queue_numbers numbers;
};

/* The number that the next message will have. */
uint64_t broker_next_number(const struct broker *broker);
/* The name of an exchange; empty: it is the default one, or not there any more. Good until the next command. */
struct slice broker_exchange_name(const struct broker *broker, uint32_t id);
/* Calls each for every queue, in the order they were declared. The view is good until it returns. */
void broker_each_queue(const struct broker *broker,
                       void (*each)(void *arg, const struct broker_queue_view *view), void *arg);
/* False: there is no such queue. */
bool broker_find_queue(const struct broker *broker, struct slice name, struct broker_queue_view *view);

struct broker_exchange_view {
    struct slice name;
    uint32_t id;
    const struct broker_exchange_options *options;
    size_t n_bindings;  /* from it */
    uint64_t published; /* messages, that were taken, since broker_open */
};

struct broker_binding_view {
    struct slice source, destination; /* names */
    bool to_exchange;
    struct slice key, arguments;
};

/* As those of queues; bindings come exchange by exchange, in the order they were made. False: it is not there. */
void broker_each_exchange(const struct broker *broker,
                          void (*each)(void *arg, const struct broker_exchange_view *view), void *arg);
bool broker_find_exchange(const struct broker *broker, struct slice name, struct broker_exchange_view *view);
void broker_each_binding(const struct broker *broker,
                         void (*each)(void *arg, const struct broker_binding_view *view), void *arg);
bool broker_each_binding_from(const struct broker *broker, struct slice source,
                              void (*each)(void *arg, const struct broker_binding_view *view), void *arg);
bool broker_each_binding_to(const struct broker *broker, const struct broker_destination *destination,
                            void (*each)(void *arg, const struct broker_binding_view *view), void *arg);

enum message_state { MESSAGE_UNKNOWN, MESSAGE_QUEUED, MESSAGE_DELAYED, MESSAGE_IN_FLIGHT, MESSAGE_ENDED };

struct broker_status {
    struct slice queue; /* name */
    enum message_state state;
    enum message_end end; /* MESSAGE_ENDED */
    unsigned attempts;
    uint64_t queued_us; /* when it came into the queue */
    uint64_t time_us;   /* when it ended, or until when it is delayed or in flight; else 0 */
};

/* Calls each for every queue that the message was put in, as far as is known: those that are bound, or the one. How a message
 * ended is known for the last 65,536 of all. */
void broker_status(struct broker *broker, uint32_t address, uint64_t number,
                   void (*each)(void *arg, const struct broker_status *status), void *arg);

/* ---- turns ------------------------------------------------------------------------------------------------------- */

/* Appends what was gathered. After it the log may be written or committed. */
void broker_flush(struct broker *broker);
/* Deadlines, and deliveries of what log_durable covers. */
void broker_run(struct broker *broker, uint64_t now_us);
/* Whether messages were appended that are not durable: log_commit is to come, also when nobody waits for it. */
bool broker_needs_commit(const struct broker *broker);
/* When broker_run is to be called though nothing happens; UINT64_MAX: never. */
uint64_t broker_next_us(const struct broker *broker);

/* Whether a checkpoint pays: by what was appended since the last one, or by the segments that it would free. */
bool broker_checkpoint_due(const struct broker *broker);
/* A checkpoint: begin (after broker_flush and log_commit), make on any thread, end with what make said. One at a time. From end on
 * segments that are not needed are used again. NULL: no memory, or the log is closed. */
struct broker_checkpoint;
struct broker_checkpoint *broker_checkpoint_begin(struct broker *broker);
int broker_checkpoint_make(struct broker_checkpoint *checkpoint);
void broker_checkpoint_end(struct broker *broker, struct broker_checkpoint *checkpoint, int error);
/* Copies what is still needed of a segment that is mostly not, looking at up to bytes of it. False: there is nothing to do
 * until the next checkpoint. */
bool broker_compact(struct broker *broker, uint64_t bytes);

/* Why the broker takes nothing any more, for people; NULL: all is well. */
const char *broker_failure(const struct broker *broker);

#endif
