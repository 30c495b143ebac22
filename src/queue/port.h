/* port.h - how a serving thread speaks to the queue thread: publishes, consumers, and work at the broker, by mail.
 *
 * The bytes that publishers of a thread have under way are bounded: who would go over waits in line, and his client's
 * socket with him. A fiber that is cancelled while it waits for an answer leaves its request behind, which is
 * freed when the answer comes; what it asked for happens.
 * Threads: a port and what is made of it belong to its thread. */
#ifndef QUEUE_PORT_H
#define QUEUE_PORT_H

#include "base/list.h"
#include "fiber/fiber.h"
#include "fiber/mailbox.h"
#include "queue/broker.h"
#include "queue/token.h"

struct queue_thread;

struct queue_port {
    struct queue_thread *thread; /* borrowed: it outlives the port */
    struct mailbox *home;        /* reference */
    struct token_key key;        /* for messages' names; queue_port_key */
    uint64_t bytes, bytes_most;  /* of requests under way */
    struct wait_queue room;
    unsigned users; /* requests, consumers and jobs that are not freed */
    /* batch.h's */
    struct list holds;
    const struct queue_hold *over; /* may go over bytes_most; NULL: nobody does */
    uint64_t looked_us;            /* when those who hold were last looked at */
    uint64_t kept;                 /* bytes of what waits for a commit, which is not under way */
};

/* On the thread of the loop that runs. */
void queue_port_open(struct queue_port *port, struct queue_thread *thread, uint64_t bytes_most);
/* For messages' names; waits until the log is open. NULL: there is none, as it cannot be opened, or the fiber was cancelled. */
const struct token_key *queue_port_key(struct queue_port *port);
/* Waits until nothing of it is in use any more, cancelled or not. */
void queue_port_close(struct queue_port *port);

/* ---- publishing -------------------------------------------------------------------------------------------------- */

/* What the worker answered; owned by the request that waits for it. */
struct queue_answer {
    unsigned status;
    struct slice head; /* fields, as envelope items; in block */
    struct slice body; /* in block */
    char block[];
};

struct queue_request {
    struct mail mail, answer_mail;
    struct queue_port *port;
    struct fiber *waiter;                    /* NULL: nobody waits */
    uint64_t bytes;                          /* that count at the port */
    struct slice exchange, key, idempotency; /* in block */
    struct slice head;                       /* in block */
    struct slice body;                       /* owned, by free_body */
    uint64_t delay_us, idempotency_window_us;
    bool wants_answer; /* wait for what the worker says */
    /* Set when queue_publish has returned 0. */
    enum publish_result result;
    struct broker_published published;
    /* Set when queue_wait_answer has returned 0; NULL: it ended without one. */
    struct queue_answer *answer; /* owned */
    /* The two threads' own. */
    struct queue_request *next; /* at the queue thread: waiting for the commit, or in its bucket of waiters */
    bool published_done, answered, abandoned;
    char block[];
};

/* Waits for room for so many bytes (all that the request will hold), and makes a request with a block of block_bytes.
 * 0, -EMSGSIZE (it never fits), -ETIMEDOUT, -ECANCELED, -ENOMEM. */
int queue_request_create(struct queue_port *port, size_t block_bytes, uint64_t bytes, uint64_t deadline_us,
                         struct queue_request **request);
/* Publishes. 0: result says what became of it, and it is durable when that is PUBLISH_OK or PUBLISH_SAME. -ECANCELED: the
 * request is not the caller's any more. There is no deadline: the log answers. */
int queue_publish(struct queue_request *request);
/* After PUBLISH_OK of one that wants an answer. 0; -ETIMEDOUT, -ECANCELED: the request is not the caller's any more. */
int queue_wait_answer(struct queue_request *request, uint64_t deadline_us);
/* Before queue_publish, or after it where nothing is waited for any more. */
void queue_request_free(struct queue_request *request);

/* ---- consuming --------------------------------------------------------------------------------------------------- */

enum queue_verdict {
    VERDICT_ACK,
    VERDICT_RETRY,  /* an attempt that counts */
    VERDICT_RETURN, /* one that does not; after delay_us */
    VERDICT_REJECT,
};

struct queue_consumer;

struct queue_delivery {
    struct mail mail;
    struct queue_consumer *consumer;
    struct message_ref ref;
    struct message message; /* borrows block */
    struct stored_body
        body; /* open, where the message's is stored; what reads it takes it over. Not open: too many files are */
    struct slice exchange; /* name; borrows block */
    uint32_t bytes;        /* that a credit gives back */
    unsigned attempt;
    bool redelivered;
    enum queue_verdict verdict;
    uint64_t delay_us;
    bool awaited;                /* somebody waits for an answer */
    uint64_t hold_us;            /* with the verdict: deliver nothing to the consumer for so long; 0: go on */
    struct queue_answer *answer; /* with VERDICT_ACK: for whoever waits; owned; NULL: none */
    struct queue_delivery *next; /* the queue thread's: on its way out */
    char block[];
};

struct queue_consumer_options {
    unsigned prefetch; /* most in flight; 0: no limit */
    double rate;       /* per second; 0: no limit */
    unsigned burst;
    /* As broker_consumer_options has them. */
    int priority;
    bool auto_ack, exclusive, on_demand, counts_loss;
    uint64_t transit_most;
    struct broker_window *windows[BROKER_WINDOWS]; /* borrowed, and never changed; NULL: none */
    /* On the port's thread, outside of fibers; must not wait. The delivery is the callee's until queue_settle, or
     * queue_delivery_free. */
    void (*deliver)(void *arg, struct queue_delivery *delivery);
    /* Its queue was deleted. NULL: that is not told. */
    void (*gone)(void *arg);
    /* It has a message for longer than the queue allows, and keeps it. NULL: that attempt failed. */
    void (*late)(void *arg);
    void *arg;
};

/* Waits for the queue thread. 0; -ENOENT: no such queue; -EBUSY: see broker_subscribe; -EPIPE: the port was closed; -ENOMEM,
 * -ECANCELED. */
int queue_subscribe(struct queue_port *port, struct slice queue, const struct queue_consumer_options *options,
                    struct queue_consumer **consumer);
/* No more deliveries come once it returns, whether or not it was cancelled; what was not settled goes back. Frees it. */
void queue_unsubscribe(struct queue_consumer *consumer);
/* Delivers the oldest message to a consumer on demand, before it returns, once all that was published before is durable. 1; 0: none
 * waits; -ENOENT: the queue was deleted; -ECANCELED, -ENOMEM, -EIO. *left: how many wait then. */
int queue_take(struct queue_consumer *consumer, uint64_t *left);
/* It gets nothing any more but what is on its way; what was not settled stays with it. */
void queue_consumer_stop(struct queue_consumer *consumer);
/* What it leaves behind from now on is no attempt, whatever counts_loss said. */
void queue_consumer_forgive(struct queue_consumer *consumer);
void queue_consumer_change(struct queue_consumer *consumer, const struct queue_consumer_options *options);
/* Of one whose message was acknowledged when it was delivered, or whose consumer ends. NULL is allowed. */
void queue_delivery_free(struct queue_delivery *delivery);
/* Says what became of it; it is gone. */
void queue_settle(struct queue_delivery *delivery, enum queue_verdict verdict);
/* Nothing is delivered for so long; 0: go on at once. */
void queue_hold(struct queue_consumer *consumer, uint64_t hold_us);

/* ---- at the broker ----------------------------------------------------------------------------------------------- */

/* The first member of the caller's own, from malloc. run and free are set by the caller, the rest here. */
struct queue_job {
    void (*run)(struct queue_job *job, struct broker *broker,
                uint64_t now_us);        /* on the queue thread; must not wait */
    void (*free)(struct queue_job *job); /* on either thread; also without having been run */
    struct mail mail;
    struct queue_port *port;
    struct fiber *waiter;
    bool durable; /* answered once what it did is durable */
    bool late;    /* run at the end of a turn, when all that was sent before is durable; set by the caller */
    bool done;
    struct queue_job *next;
};

/* 0: it has run and is the caller's again. -ECANCELED, -ETIMEDOUT: it is not the caller's any more, and runs. durable: what it
 * appended is on disk, or broker_failure says why not. Where the log could not be opened it has not run. */
int queue_job_run(struct queue_port *port, struct queue_job *job, bool durable, uint64_t deadline_us);
/* The same, but nobody waits, and it is freed. */
void queue_job_post(struct queue_port *port, struct queue_job *job);

#endif
