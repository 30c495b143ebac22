/* operate.h - what an AMQP client may ask, for somebody who is not connected: the management interface.
 *
 * Exchanges, queues and bindings are declared, deleted and purged by the method that a client would send, and refused with the
 * code and the words that it would read. A message is published, and messages are taken. What a user may do is what he may do
 * over AMQP; with no user everything is allowed.
 * Threads: that of the port, in a fiber. All of it waits for the queue thread. Errors: 0, or a negative errno when nothing can be
 * said of what became of it: -ENODEV (there is no queue thread), -ENOMEM, -ETIMEDOUT, -ECANCELED. */
#ifndef FRONT_AMQP_OPERATE_H
#define FRONT_AMQP_OPERATE_H

#include "front/amqp/access.h"
#include "queue/port.h"
#include "wire/amqp.h"

struct amqp_operator {
    struct queue_port *port;
    struct slice virtual_host; /* up to CONFIG_AMQP_NAME_MAX bytes */
    struct access_user *user;  /* NULL: may do everything */
    const char *user_name;
};

#define AMQP_OUTCOME_TEXT 320

struct amqp_outcome {
    enum amqp_reply code; /* AMQP_SUCCESS, or why not */
    char text[AMQP_OUTCOME_TEXT];
    bool was_there; /* what was declared */
    bool routed;    /* what was published */
    uint64_t n_messages, n_consumers;
};

/* Names at the broker: those in virtual hosts other than "/" have it before them. */
struct slice amqp_broker_name(struct slice virtual_host, struct slice name, char block[BROKER_NAME_MAX]);
struct slice amqp_name_of(struct slice broker_name, struct slice *virtual_host);
/* Makes the exchanges that every virtual host has, as the first connection to it does. At the broker. */
int amqp_open_virtual_host(struct broker *broker, struct slice virtual_host);

/* exchange.declare, .delete, .bind, .unbind, queue.declare, .delete, .purge, .bind, .unbind. With it what it did is durable. */
int amqp_operate(const struct amqp_operator *who, const struct amqp_method *method,
                 struct amqp_outcome *outcome);

/* content: without its body_bytes. */
int amqp_publish_by_hand(const struct amqp_operator *who, struct slice exchange, struct slice key,
                         const struct amqp_content *content, struct slice body, struct amqp_outcome *outcome);

struct amqp_taken {
    struct slice exchange, routing_key, body; /* body: its beginning, where that was asked for */
    uint64_t body_bytes;                      /* of all of it */
    struct amqp_content content;
    bool redelivered;
    uint64_t left; /* in the queue, behind it */
};

enum amqp_taking {
    AMQP_TAKE_AWAY,
    AMQP_TAKE_BACK,   /* all of them go back in the end, and no attempt was made */
    AMQP_TAKE_REJECT, /* they die */
};

/* Up to most messages, oldest first, and no more when they have AMQP_TAKEN_BYTES. Of large bodies so much is shown as body_most. each
 * may not wait. */
#define AMQP_TAKEN_BYTES (16u * 1024 * 1024)
int amqp_take_by_hand(const struct amqp_operator *who, struct slice queue, enum amqp_taking taking,
                      unsigned most, uint64_t body_most,
                      void (*each)(void *arg, const struct amqp_taken *taken), void *arg,
                      struct amqp_outcome *outcome);

#endif
