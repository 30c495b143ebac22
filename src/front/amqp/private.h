/* private.h - what the parts of the AMQP front share.
 *
 *   amqp.c         the kind of listener; one connection from accept to close
 *   handshake.c    protocol header, login, tuning, virtual host
 *   input.c        blocks of bytes read, frames out of them, batches for the queue thread
 *   output.c       what is to be written: frames, deliveries, heartbeats; the writer fiber
 *   channel.c      channels: opening, closing, errors, which method does what
 *   publish.c      publishes
 *   confirm.c      confirms, returns, transactions
 *   consume.c      consumers, deliveries, get
 *   settle.c       acknowledgements
 *   qos.c          prefetch
 *   operation.c    jobs at the broker that a channel waits for
 *   topology.c     exchanges and bindings
 *   queues.c       queues
 *   arguments.c    what a queue or an exchange is declared with
 *   properties.c   a message's head from and to AMQP's properties
 *   pass.c         logins that end with a process (pass.h)
 *   registry.c     who is connected, for whoever wants to know (registry.h)
 *   operate.c      the same operations for somebody who is not connected (operate.h)
 *
 * A connection has two fibers: the reader, which does what the client asks in its order, and the writer, which alone writes to
 * the socket. Whatever is to be written goes into one output, so that frames keep the order in which they were decided.
 * Deliveries wait beside it until there is room, and no more come from the queue thread than the transit of each consumer.
 *
 * Threads: everything here belongs to the serving thread that has the client. */
#ifndef FRONT_AMQP_PRIVATE_H
#define FRONT_AMQP_PRIVATE_H

#include <stdarg.h>

#include "front/amqp/access.h"
#include "front/amqp/amqp.h"
#include "front/amqp/registry.h"
#include "queue/batch.h"
#include "queue/body.h"
#include "wire/amqp.h"
#include "wire/amqp_table.h"

/* ---- input ------------------------------------------------------------------------------------------------------- */

/* Bytes that were read; publishes point into it until they are durable. */
struct amqp_block {
    unsigned refs;
    size_t len, room;
    char bytes[];
};

struct amqp_block *amqp_block_create(size_t room);
void amqp_block_release(struct amqp_block *block);

/* ---- output ------------------------------------------------------------------------------------------------------ */

/* A body with a file of its own, which is read when it is written. */
struct amqp_stream {
    struct amqp_stream *next;
    struct stored_body body;
    uint16_t channel;
    size_t at; /* it goes out behind so many bytes */
};

/* What waits to be written. */
struct amqp_output {
    char *bytes; /* owned; NULL while nothing is there */
    size_t start, end, room;
    struct amqp_stream *first, *last; /* in their order; owned; NULL: none */
    unsigned n_streams;
};

/* ---- a connection ------------------------------------------------------------------------------------------------ */

enum amqp_state {
    AMQP_STATE_OPEN,
    AMQP_STATE_CLOSING, /* connection.close was sent; only its answer counts */
    AMQP_STATE_CLOSED,  /* nothing is read any more */
};

struct amqp_connection {
    struct client client;
    struct stream stream;
    struct queue_port *port;
    const struct token_key *key; /* the port's; NULL until it is open */
    struct scene *scene;         /* held until it is open */
    uint64_t looked;             /* number of the configuration that user is of; 0: none */
    struct access_user *user;
    char user_name[CONFIG_AMQP_NAME_MAX + 1];
    uint64_t message_max; /* bytes of a body */
    uint64_t stored_from; /* a body with more bytes has a file of its own */
    struct slice prefix;  /* of names in its virtual host, as the broker has them; empty: the default one's */
    char *virtual_host;   /* owned; NULL until it is open */
    struct broker_session *session;
    enum amqp_state state;
    uint64_t number;         /* of the connection, in this process */
    const char *failed;      /* why it ends, for the log; NULL: the client closed it */
    uint64_t opened_us;      /* wall */
    struct list registered;  /* of the thread's, from when it is open; see registry.c */
    const char *mechanism;   /* by which the client logged in; a constant */
    uint64_t received, sent; /* bytes */
    uint64_t registered_us;  /* monotonic */
    struct amqp_mark *mark;  /* of both; owned; NULL: nobody looked yet */

    /* as tuned, and what the client can do */
    uint32_t frame_max;
    uint16_t channel_max;
    uint64_t heartbeat_us; /* 0: off */
    bool tells_failure, takes_cancel, takes_blocked;
    struct slice client_properties; /* owned: a table */

    /* reader */
    struct amqp_block *block;
    size_t at;                /* in it: what is not parsed yet */
    size_t block_bytes;       /* of the next block */
    uint64_t close_by_us;     /* CLOSING: the client is not waited for longer */
    struct amqp_batch *batch; /* being filled; NULL: empty */
    struct list batches;      /* that are at the queue thread */
    unsigned n_batches;
    struct wait_queue batch_back;
    struct amqp_batch *stuck; /* back, but the disk had no room for some of it */
    struct list behind;       /* back after it, and answered after it */
    struct queue_hold hold;   /* room that bodies have which are not whole */
    bool blocked;             /* connection.blocked was sent */
    bool has_credit;          /* in batch */
    bool draining;
    struct amqp_pass_part
        *pass; /* by which the client logged in; NULL: it is a user of the file, or its pass was revoked */
    struct list passing; /* of the pass's connections */

    /* writer */
    struct fiber *writer;
    struct amqp_output output, writing; /* writing is the writer's alone */
    bool writer_ends;
    bool broken;                    /* nothing can be written any more */
    struct wait_queue drained;      /* output went below its limit */
    struct list deliveries;         /* struct amqp_delivery: to be written */
    struct amqp_channel **channels; /* by number, without holes; owned */
    unsigned n_channels, channels_room;
};

/* ---- channels ---------------------------------------------------------------------------------------------------- */

enum amqp_channel_state {
    CHANNEL_OPEN,
    CHANNEL_CLOSING, /* channel.close was sent */
};

/* A delivery that the client has. */
struct amqp_unacked {
    uint64_t tag;
    struct amqp_consumer *consumer; /* NULL: it was acknowledged */
    struct message_ref ref;
    bool pending; /* by a transaction that is not committed */
};

/* A message that is being published: its method, then its content header, then its body. */
struct amqp_publishing {
    bool active, has_content;
    bool mandatory;
    struct slice exchange, key; /* in blocks[0] */
    struct slice
        head; /* the payload of its content header, in blocks[1]; room for an envelope item before it */
    struct amqp_block *blocks[2]; /* references */
    struct amqp_content content;
    char *body;                /* owned, where it comes in pieces */
    struct queue_body *stored; /* owned, where it is large */
    uint64_t body_len;
    uint64_t room; /* counted at the port for what of it is in memory */
    uint64_t ttl_us;
};

struct amqp_channel {
    struct amqp_connection *connection;
    uint16_t number;
    enum amqp_channel_state state;
    uint64_t generation; /* of all channels of the connection */
    struct list
        consumers; /* struct amqp_consumer, those that are cancelled too while something of them is unacked */
    unsigned n_consumers;
    unsigned prefetch;            /* of consumers to come */
    struct broker_window *window; /* made with the first consumer */
    unsigned window_prefetch;
    uint64_t next_tag;
    struct amqp_unacked *unacked; /* by tag, [unacked_start, unacked_end); owned */
    size_t unacked_start, unacked_end, unacked_room, n_unacked;
    struct amqp_publishing publishing;
    char last_queue[256]; /* declared last: what an empty name means; qualified by nothing */
    size_t last_queue_len;
    bool confirms;
    uint64_t next_confirm;    /* the next publish's number */
    unsigned n_doubtful;      /* publishes under way that may come back, or end the channel */
    char known_exchange[256]; /* was there when it was published to last */
    size_t known_exchange_len;
    /* transactions */
    bool transacts;
    struct amqp_batch *transaction; /* what waits for commit; NULL: nothing */
    struct queue_delivery *got;     /* by basic.get; owned, until it is written */
    struct amqp_consumer *reply_to; /* consumes amq.rabbitmq.reply-to; NULL: none */
    uint64_t n_answered;            /* publishes that were confirmed or refused */
    uint64_t opened_us;             /* monotonic */
    uint64_t counts[N_AMQP_COUNTS];
    struct amqp_mark *mark; /* of counts; owned; NULL: nobody looked yet */
};

struct amqp_consumer {
    struct list list; /* of channel->consumers */
    struct amqp_channel *channel;
    struct queue_consumer *consumer;
    struct list early; /* deliveries that came before consume-ok was written */
    bool started;
    bool no_ack, cancelled;
    bool stopped; /* its pass was: nothing is delivered any more */
    bool gets;    /* for basic.get */
    bool counts;  /* deliveries carry x-delivery-count */
    bool exclusive;
    unsigned prefetch;
    size_t n_unacked;
    uint64_t credit;        /* bytes that left, and that the queue thread was not told of */
    struct slice queue;     /* name as the client has it; in block */
    struct slice tag;       /* in block */
    struct slice arguments; /* as the client sent them: a table; in block */
    char block[];
};

/* ---- batches ----------------------------------------------------------------------------------------------------- */

/* What is to become of a publication once it is durable. */
struct amqp_published {
    uint64_t confirm;    /* its number; 0: it is not confirmed */
    uint64_t generation; /* of its channel */
    uint16_t channel;
    bool mandatory, doubtful;
    char *owned[3];            /* memory of its own: body, head, names */
    struct queue_body *stored; /* owned; NULL: the body is in memory */
};

struct amqp_batch {
    struct queue_batch batch;
    struct queue_port *port;
    uint64_t memory;                    /* that it takes, about */
    uint64_t kept;                      /* of that, of a transaction: counted at the port */
    struct list list;                   /* of connection->batches */
    struct amqp_connection *connection; /* NULL: it has gone */
    struct amqp_published *published;   /* as many as batch.publications */
    unsigned publications_room, settlements_room, credits_room;
    struct amqp_block **blocks; /* references; owned */
    unsigned n_blocks, blocks_room;
    bool waits, back; /* the reader waits for it; it is there */
};

struct amqp_batch *amqp_batch_create(struct amqp_connection *c);
void amqp_batch_free(struct amqp_batch *batch);
/* The one being filled; NULL: no memory. */
struct amqp_batch *amqp_batch_of(struct amqp_connection *c);
/* Keeps a block for as long as the batch is there. */
bool amqp_batch_hold(struct amqp_batch *batch, struct amqp_block *block);
/* Takes over what published owns. False: no memory. */
bool amqp_batch_publish(struct amqp_batch *batch, const struct queue_publication *publication,
                        const struct amqp_published *published);
bool amqp_batch_settle(struct amqp_batch *batch, struct queue_consumer *consumer, struct message_ref ref,
                       enum queue_verdict verdict);
bool amqp_batch_credit(struct amqp_batch *batch, struct queue_consumer *consumer, uint64_t bytes);
/* Sends what was gathered, if anything. */
void amqp_flush(struct amqp_connection *c);
void amqp_send_batch(struct amqp_connection *c, struct amqp_batch *batch);

/* ---- deliveries -------------------------------------------------------------------------------------------------- */

struct amqp_delivery {
    struct list list; /* of connection->deliveries */
    struct amqp_consumer *consumer;
    struct queue_delivery *delivery; /* owned */
};

/* ---- amqp.c ------------------------------------------------------------------------------------------------------ */

/* Ends the connection with connection.close: code, and text as RabbitMQ words it. May be called outside of fibers. */
void amqp_fail_connection(struct amqp_connection *c, enum amqp_reply code, uint32_t method,
                          const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Cut off, without a word. */
void amqp_drop_connection(struct amqp_connection *c, const char *why);
/* Everything that it had goes back: first what it settled is sent, then its consumers end, then its exclusive queues. */
void amqp_give_up(struct amqp_connection *c);
/* After an error: until the client has closed, or its time is over. */
void amqp_wait_closed(struct amqp_connection *c);
/* As of the configuration in force. The user is NULL where it has none of that name any more. */
const struct config_amqp *amqp_config(const struct amqp_connection *c);
struct access *amqp_access(const struct amqp_connection *c);
struct access_user *amqp_user(struct amqp_connection *c);

/* ---- pass.c ------------------------------------------------------------------------------------------------------ */

/* Whether there is such a pass; the connection has it then. */
bool amqp_pass_log_in(struct amqp_connection *c, struct slice name, struct slice secret);
/* The connection ends. */
void amqp_pass_leave(struct amqp_connection *c);
bool amqp_pass_may(const struct amqp_pass_part *part, enum access_kind kind, struct slice name);
/* What all consumers of its queue share; borrowed. NULL: that is another queue. */
struct broker_window *amqp_pass_window(const struct amqp_pass_part *part, struct slice queue);
bool amqp_pass_is_stopped(const struct amqp_pass_part *part);
/* Its client has one message more, or n fewer; one consumer more, or one fewer. */
void amqp_pass_took(struct amqp_pass_part *part);
void amqp_pass_gave(struct amqp_pass_part *part, uint64_t n);
void amqp_pass_consumes(struct amqp_pass_part *part, bool more);
void amqp_pass_asked(struct amqp_pass_part *part);

/* ---- registry.c -------------------------------------------------------------------------------------------------- */

/* From when it is open, until it ends. */
void amqp_register(struct amqp_connection *c);
void amqp_unregister(struct amqp_connection *c);

/* ---- handshake.c ------------------------------------------------------------------------------------------------- */

/* 0: the connection is open. */
int amqp_shake_hands(struct amqp_connection *c);

/* ---- input.c ----------------------------------------------------------------------------------------------------- */

/* The next whole frame, which borrows c->block until the next call. 0, or a negative errno: the connection ended or failed;
 * -EPROTO: an error was sent. Flushes what was gathered before it waits. */
int amqp_next_frame(struct amqp_connection *c, struct amqp_frame *frame, uint64_t deadline_us);
/* At least n bytes that are not parsed. */
int amqp_need_bytes(struct amqp_connection *c, size_t n, uint64_t deadline_us);

/* ---- output.c ---------------------------------------------------------------------------------------------------- */

/* The body behind a content header that was put there last. Takes it over. False: no memory, or it is not
 * open. */
bool amqp_put_stored(struct amqp_output *output, uint16_t channel, struct stored_body *body);
/* As amqp_send_content, with a body that is taken over. */
void amqp_send_stored(struct amqp_connection *c, uint16_t channel, const struct amqp_method *method,
                      const struct amqp_content *content, struct stored_body *body);
/* Appends a frame; without memory the connection ends. */
void amqp_send(struct amqp_connection *c, uint16_t channel, const struct amqp_method *method);
/* A method with its content, whole. */
void amqp_send_content(struct amqp_connection *c, uint16_t channel, const struct amqp_method *method,
                       const struct amqp_content *content, struct slice body);
void amqp_wake_writer(struct amqp_connection *c);
void amqp_writer_main(void *arg);
/* Waits until what is to be written is below its limit. 0, -ECANCELED or -EPIPE. */
int amqp_wait_drained(struct amqp_connection *c);
/* Room for n bytes at the end; NULL: no memory. */
char *amqp_output_room(struct amqp_output *output, size_t n);
/* A method with a message that was delivered. Send appends all of it; write is for the writer's fiber, which may wait while a
 * large body goes out. A body with a file is taken over. counts: it carries x-delivery-count. */
void amqp_send_message(struct amqp_connection *c, uint16_t channel, const struct amqp_method *method,
                       struct queue_delivery *d, bool counts);
int amqp_write_message(struct amqp_connection *c, uint16_t channel, const struct amqp_method *method,
                       struct queue_delivery *d, bool counts);

/* ---- channel.c --------------------------------------------------------------------------------------------------- */

struct amqp_channel *amqp_channel_find(const struct amqp_connection *c, uint16_t number);
/* One frame of a channel. */
void amqp_channel_take(struct amqp_connection *c, const struct amqp_frame *frame);
/* Ends the channel with channel.close, or the connection, by the code. Fiber. */
void amqp_fail(struct amqp_channel *channel, enum amqp_reply code, uint32_t method, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* A method that is not the client's to send. */
void amqp_fail_unknown(struct amqp_channel *channel, const struct amqp_method *method);
/* The payload of a content header cannot be read: with the code that RabbitMQ has for that. */
void amqp_fail_content(struct amqp_connection *c, struct slice payload, const char *why);
/* Everything of it is given back. */
void amqp_channel_free(struct amqp_channel *channel);

/* ---- publish.c --------------------------------------------------------------------------------------------------- */

void amqp_publish_begin(struct amqp_channel *channel, const struct amqp_method *method);
void amqp_publish_head(struct amqp_channel *channel, struct slice payload);
void amqp_publish_body(struct amqp_channel *channel, struct slice payload);
void amqp_publish_abandon(struct amqp_channel *channel);
/* Waits until so many bytes more may be under way, and counts them as held; 0: until more may be read. 0, -ECANCELED, or as
 * queue_hold_room. */
int amqp_wait_room(struct amqp_connection *c, uint64_t bytes);
/* It was there when it was published to. */
void amqp_know_exchange(struct amqp_channel *channel, struct slice exchange);

/* ---- confirm.c --------------------------------------------------------------------------------------------------- */

/* Until all is told that may have to be told of what was published, so that no answer overtakes it. False: the channel, the
 * connection or the fiber ends. */
bool amqp_publish_told(struct amqp_channel *channel);
/* Once more, after a while, what the disk had no room for. 0 or a negative errno. */
int amqp_retry_stuck(struct amqp_connection *c);
/* A body found no room: tells the client, and waits for a while; or it did find some. 0 or a negative errno. */
int amqp_wait_space(struct amqp_connection *c);
void amqp_found_space(struct amqp_connection *c);
/* A batch is back: confirms and returns. */
void amqp_batch_done(struct queue_batch *batch);
void amqp_confirm_select(struct amqp_channel *channel, const struct amqp_method *method);
void amqp_tx_take(struct amqp_channel *channel, const struct amqp_method *method);

/* ---- consume.c --------------------------------------------------------------------------------------------------- */

void amqp_basic_take(struct amqp_channel *channel, const struct amqp_method *method);
/* Writes the first of the deliveries that wait, in the writer's fiber. 0 or a negative errno. */
int amqp_write_delivery(struct amqp_connection *c);
/* One that was cancelled goes once the client has nothing of it. */
void amqp_consumer_release(struct amqp_consumer *consumer);
/* Tells the queue thread what left. */
void amqp_send_credit(struct amqp_connection *c);
/* Nothing is delivered to the connection's consumers any more; what was not written goes back. May be called outside of fibers. */
void amqp_consumers_stop(struct amqp_connection *c);
/* Ends all consumers of the channel; what is unacked goes back. */
void amqp_consumers_end(struct amqp_channel *channel);
void amqp_consume_from(struct amqp_channel *channel, const struct amqp_method *method, struct slice queue,
                       struct slice tag);
/* A name that nobody else has. */
void amqp_random_name(const char *prefix, char text[48]);
/* What a client consumes to get answers, and what the names of queues of answers begin with. */
#define AMQP_REPLIES "amq.rabbitmq.reply-to"

/* ---- operation.c ------------------------------------------------------------------------------------------------- */

#define AMQP_TEXT_MAX 320
#define AMQP_RESERVED SLICE("amq.")

/* A queue's or exchange's name as the broker has it; in block, or the name itself. */
struct slice amqp_qualify(const struct amqp_connection *c, struct slice name, char block[BROKER_NAME_MAX]);
/* The queue that a method names: with no name, the one that the channel declared last. False: the channel was failed. */
bool amqp_queue_name(struct amqp_channel *channel, struct slice given, uint32_t method, struct slice *name);

/* Names at the broker have a NUL behind their virtual host, so that no client may have one in a name. */
bool amqp_is_name(struct slice name);
/* Whether some user of the listener has it. */
bool amqp_has_virtual_host(const struct amqp_connection *c, struct slice name);
/* At the broker: who holds the connection's exclusive queues; and the exchanges that every virtual host has. */
int amqp_session_open(struct amqp_connection *c);
void amqp_session_close(struct amqp_connection *c);

struct amqp_operation;
typedef void amqp_work(struct amqp_operation *o, struct broker *broker, uint64_t now_us);

/* Whose names an operation is about. */
struct amqp_place {
    struct broker_session *session; /* NULL: nobody's who has exclusive queues */
    struct slice virtual_host, prefix;
};

/* A piece of work at the broker that a channel waits for. */
struct amqp_operation {
    struct queue_job job;
    amqp_work *run;
    struct broker_session *session;
    struct amqp_method method; /* its slices borrow block */
    struct slice name, other;  /* qualified names; in block */
    struct slice virtual_host; /* in block */
    struct slice prefix;       /* in block */
    struct broker_queue_options queue;
    struct broker_exchange_options exchange;
    char *block; /* owned */
    /* what came of it */
    enum amqp_reply code; /* AMQP_SUCCESS */
    char text[AMQP_TEXT_MAX];
    uint64_t n_messages, n_consumers;
    char dead_key[BROKER_NAME_MAX]; /* of queues, where it has the virtual host before it */
    bool flag;                      /* of queues: deliveries carry x-delivery-count */
    bool was_there;                 /* what is declared */
};

/* The exchanges that every virtual host has. 0 or a negative errno. */
int amqp_declare_built_in(struct broker *broker, struct slice prefix);

/* Copies the method and its names. NULL: no memory. */
struct amqp_operation *amqp_operation_make(const struct amqp_place *place, const struct amqp_method *method,
                                           struct slice name, struct slice other);
struct amqp_operation *amqp_operation_create(struct amqp_channel *channel, const struct amqp_method *method,
                                             struct slice name, struct slice other);
/* Runs it and waits; then it is the caller's, who frees it (amqp_operation_free). On false the channel was failed, or the fiber
 * cancelled, and it is gone. */
bool amqp_operation_run(struct amqp_channel *channel, struct amqp_operation *o, bool durable);
void amqp_operation_free(struct amqp_operation *o);
void amqp_refuse(struct amqp_operation *o, enum amqp_reply code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void amqp_no_queue(struct amqp_operation *o);
void amqp_no_exchange(struct amqp_operation *o, struct slice name);
/* What the broker could not do; 0: nothing. */
void amqp_refuse_error(struct amqp_operation *o, int error);
/* Another connection's exclusive queue: refused. */
bool amqp_is_locked(struct amqp_operation *o, const struct broker *broker, struct slice qualified,
                    struct slice name);

/* Runs what the client asked for, and answers with one of the methods that have nothing in them but counts. */
void amqp_operation_do(struct amqp_channel *channel, const struct amqp_method *method, struct slice name,
                       struct slice other, enum amqp_method_id answer, bool durable,
                       void (*run)(struct amqp_operation *o, struct broker *broker, uint64_t now_us));

/* May the user do that? Otherwise the channel is failed. */
bool amqp_may(struct amqp_channel *channel, enum access_kind kind, bool exchange, struct slice name,
              uint32_t method);

/* ---- qos.c ------------------------------------------------------------------------------------------------------- */

void amqp_qos(struct amqp_channel *channel, const struct amqp_method *method);
/* The window is there from the first consumer on. False: no memory, and the connection ends. */
bool amqp_window_make(struct amqp_channel *channel);
/* Its consumers have ended. */
void amqp_window_end(struct amqp_channel *channel);

/* ---- settle.c ---------------------------------------------------------------------------------------------------- */

/* The client has one more. False: no memory. */
bool amqp_unacked_push(struct amqp_channel *channel, const struct amqp_unacked *unacked);
/* basic.ack, nack, reject. multiple: and all before it; with tag 0 all there are. */
void amqp_settle(struct amqp_channel *channel, uint32_t method, uint64_t tag, bool multiple,
                 enum queue_verdict verdict);
/* basic.recover: everything that the client has comes once more. */
void amqp_recover(struct amqp_channel *channel, const struct amqp_method *method);
/* A transaction's acknowledgements hold, or are taken back. */
void amqp_unacked_resolve(struct amqp_channel *channel, bool commit);

/* ---- topology.c -------------------------------------------------------------------------------------------------- */

void amqp_exchange_take(struct amqp_channel *channel, const struct amqp_method *method);
/* What runs at the broker for a method that declares or deletes an exchange, or binds or unbinds; the latter of queues, too. */
amqp_work *amqp_exchange_work(enum amqp_method_id id);
/* False: there is none of that name. */
bool amqp_exchange_type(struct slice name, enum exchange_type *type);
/* queue.bind and queue.unbind. */
void amqp_queue_bind(struct amqp_channel *channel, const struct amqp_method *method);
/* Whether clients may publish to an exchange of that name. False: the channel was failed, or ends. */
bool amqp_exchange_takes(struct amqp_channel *channel, struct slice name);

/* ---- queues.c ---------------------------------------------------------------------------------------------------- */

void amqp_queue_take(struct amqp_channel *channel, const struct amqp_method *method);
/* The same for a queue, that is declared, deleted or purged. */
amqp_work *amqp_queue_work(enum amqp_method_id id);
/* amq.rabbitmq.reply-to stands for a queue of this channel's own, which others reach by the name that its requests carry. */
void amqp_consume_replies(struct amqp_channel *channel, const struct amqp_method *method, struct slice tag);

/* ---- arguments.c ------------------------------------------------------------------------------------------------- */

/* RabbitMQ's name of a value's type. */
const char *amqp_type_name(const struct amqp_value *value);
/* Whether deliveries of a queue that was declared with them say how often they were made. */
bool amqp_counts_deliveries(struct slice declared);
/* Looks at the arguments of basic.consume. False: the channel was failed. */
bool amqp_check_consumer(struct amqp_channel *channel, struct slice arguments, struct slice queue,
                         bool quorum);
/* Refuses those of a binding, whose x-match is none. */
void amqp_refuse_match(struct amqp_operation *o);
/* Looks at those of exchange.declare, or refuses. */
void amqp_check_exchange(struct amqp_operation *o);
/* Sets options by the arguments of queue.declare, or refuses. */
void amqp_queue_options(struct amqp_operation *o);
/* Whether what is there is what is asked for, by the arguments that count; otherwise refused. */
void amqp_compare_queue(struct amqp_operation *o, const struct broker_queue_options *have);
void amqp_compare_exchange(struct amqp_operation *o, const struct broker_exchange_options *have);

/* ---- properties.c ------------------------------------------------------------------------------------------------ */

/* A name without the connection's virtual host before it. */
struct slice amqp_unqualify(const struct amqp_connection *c, struct slice name);
struct slice amqp_routing_key(const struct amqp_connection *c, const struct queue_delivery *d);
/* The property expiration: 0 is not at all. False: the channel was failed. */
bool amqp_take_expiration(struct amqp_channel *channel, struct slice text, uint64_t *ttl_us);
/* Whether a message says to whom else it goes (CC, BCC), or where an answer is to go that only we know. */
bool amqp_needs_rewriting(const struct amqp_content *content);
/* Whether that can be done. False: the channel was failed. */
bool amqp_may_rewrite(struct amqp_channel *channel, const struct amqp_content *content);
/* Does it: sets head and more_keys, in memory that *owned gets. False: no memory. */
bool amqp_rewrite(struct amqp_channel *channel, const struct amqp_content *content,
                  struct queue_publication *publication, char **owned);

struct slice amqp_without_prefix(struct slice prefix, struct slice name);
/* A message's properties, as a client is to see them; they borrow the delivery, and *owned, which is the caller's in any case. key:
 * for the name of one that came by HTTP; NULL: it gets none. False: no memory, or they cannot be read. */
bool amqp_read_content(const struct queue_delivery *d, struct slice prefix, const struct token_key *key,
                       bool counts, struct amqp_content *content, char **owned);
/* The content header frame of a message that was delivered, as a client is to see it. False: no memory. */
bool amqp_put_head(struct amqp_output *output, const struct amqp_connection *c, uint16_t channel,
                   const struct queue_delivery *d, bool counts);

#endif
