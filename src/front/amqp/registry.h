/* registry.h - who is connected by AMQP, for whoever wants to know: connections, channels, consumers, and what they count.
 *
 * Each serving thread keeps a list of its connections that are open. A look asks all threads by mail; each copies what it
 * has, some connections at a turn, and nothing that serves clients waits or locks. Counters are plain numbers of the
 * thread that has the client. Rates are between two looks, 5 to 10 seconds apart where somebody looks so often; the
 * first look begins to measure what was opened long before.
 * Threads: looking is for one with a loop, in a fiber. Errors: 0 or a negative errno. */
#ifndef FRONT_AMQP_REGISTRY_H
#define FRONT_AMQP_REGISTRY_H

#include "base/address.h"
#include "base/slice.h"
#include "fiber/mailbox.h"

/* What a channel counts, by RabbitMQ's names. */
enum amqp_count {
    AMQP_COUNT_PUBLISH,
    AMQP_COUNT_CONFIRM,
    AMQP_COUNT_RETURN_UNROUTABLE,
    AMQP_COUNT_DROP_UNROUTABLE,
    AMQP_COUNT_DELIVER,
    AMQP_COUNT_DELIVER_NO_ACK,
    AMQP_COUNT_GET,
    AMQP_COUNT_GET_NO_ACK,
    AMQP_COUNT_GET_EMPTY,
    AMQP_COUNT_REDELIVER,
    AMQP_COUNT_ACK,
    N_AMQP_COUNTS,
};

/* Totals at two moments before, made by the first look. */
struct amqp_mark {
    uint64_t older_us, newer_us; /* monotonic */
    uint64_t older[N_AMQP_COUNTS], newer[N_AMQP_COUNTS];
};

struct amqp_seen_consumer {
    struct slice tag, queue; /* queue: as its client names it */
    struct slice arguments;  /* a table */
    bool no_ack, exclusive;
    unsigned prefetch;
};

struct amqp_seen_channel {
    unsigned number;
    bool confirms, transacts;
    unsigned prefetch, window_prefetch;
    uint64_t n_unacked, n_unconfirmed, n_uncommitted;
    uint64_t counts[N_AMQP_COUNTS];
    double rates[N_AMQP_COUNTS]; /* per second */
    struct amqp_seen_consumer *consumers;
    size_t n_consumers;
};

struct amqp_seen_connection {
    uint64_t number, opened_us; /* opened_us: wall */
    struct endpoint peer, local;
    struct slice user, virtual_host;
    struct slice properties; /* the client's: a table */
    const char *mechanism, *state;
    unsigned frame_max, channel_max;
    uint64_t heartbeat_us;
    uint64_t received, sent; /* bytes */
    double received_rate, sent_rate;
    struct amqp_seen_channel *channels;
    size_t n_channels;
};

struct amqp_look {
    struct amqp_seen_connection **connections; /* in the order they were opened */
    size_t n;
};

/* Of each thread the mailbox; NULL: it never opened. A thread that has ended has nobody. -ETIMEDOUT, -ECANCELED, -ENOMEM.
 * The look is the caller's: amqp_look_free, which takes NULL. */
int amqp_look(struct mailbox *const *mailboxes, unsigned n_mailboxes, uint64_t deadline_us,
              struct amqp_look **look);
void amqp_look_free(struct amqp_look *look);

/* The connection of that number is closed by connection.close with that reason, if it is still there. Does not wait. */
void amqp_close_by_hand(struct mailbox *const *mailboxes, unsigned n_mailboxes, uint64_t number,
                        struct slice reason);

#endif
