/* batch.h - what a connection has read in one go, for the queue thread: publishes, what became of deliveries, and credit.
 *
 * A batch travels to the queue thread as one piece of mail, and comes back once all that it published is durable. Its bytes
 * count at the port, and who publishes faster than the disk writes waits for room before he reads more, and his socket
 * with him. Its owner makes it as the first member of his own structure, and frees it when it is back.
 * Threads: the port's, but between queue_batch_send and done, when it is the queue thread's. */
#ifndef QUEUE_BATCH_H
#define QUEUE_BATCH_H

#include "base/clock.h"
#include "base/list.h"
#include "queue/port.h"

/* Slices belong to the batch's owner and stay until it is back. */
struct queue_publication {
    struct slice exchange, key;
    struct slice more_keys; /* each with its length (u8) before it */
    struct slice head, body;
    struct body_ref stored; /* id not 0: it is the body (body.h), which stays until it is back */
    uint64_t ttl_us;        /* 0: as long as its queue lets it wait */
    uint8_t priority;
    enum publish_result result; /* once it is back */
};

struct queue_settlement {
    struct queue_consumer *consumer;
    struct message_ref ref;
    enum queue_verdict verdict;
};

struct queue_credit {
    struct queue_consumer *consumer;
    uint64_t bytes;
};

struct queue_batch {
    struct queue_publication *publications;
    struct queue_settlement *settlements;
    struct queue_credit *credits;
    unsigned n_publications, n_settlements, n_credits;
    uint64_t bytes;   /* that count at the port while it is under way */
    uint64_t counted; /* of them: queue_hold_room counted them already */
    bool again;       /* it was back before, and only what found no room on disk is done */
    /* On the port's thread, outside of fibers; must not wait. The batch is the callee's again. */
    void (*done)(struct queue_batch *batch);
    /* The two threads' own. */
    struct mail mail;
    struct queue_port *port;
    struct queue_batch *next;
    uint64_t position; /* of the last message in it */
};

/* Gives back what was counted for a batch that is not sent. */
void queue_batch_return_room(struct queue_port *port, uint64_t bytes);
/* ---- what comes in pieces ---------------------------------------------------------------------------------------- */

/* Room that somebody has for what is not whole yet, and so cannot be sent on its way. Who has some and wants more could wait for
 * others who do the same, for ever: one at a time may go over, up to four times what may be under way. And who has some and
 * does not go on could keep all others waiting: when somebody has waited for HOLD_PATIENCE_US, whoever came forward by less than
 * HOLD_LEAST bytes in that time gives up. */
struct queue_hold {
    struct list list; /* of port->holds, while it has bytes */
    uint64_t bytes;
    uint64_t moved; /* bytes that came; its owner adds to it */
    uint64_t since_us, moved_before;
    bool waits; /* for something else than its client; its owner says */
    /* Outside of the fiber that holds; must not wait. Gives back what it holds, soon. */
    void (*give_up)(struct queue_hold *hold);
};

#define HOLD_PATIENCE_US (3 * US_PER_S)
#define HOLD_LEAST (64u * 1024)

void queue_hold_init(struct queue_hold *hold, void (*give_up)(struct queue_hold *hold));
/* Waits until so many bytes more may be under way, or nothing else is, and counts them. 0, -ENOBUFS (it holds too much already), -ECANCELED. */
int queue_hold_room(struct queue_port *port, struct queue_hold *hold, uint64_t bytes);
/* It holds so much less, which still counts at the port: as a batch's, or to be returned. */
void queue_hold_pass(struct queue_port *port, struct queue_hold *hold, uint64_t bytes);

/* In the order in which batches and jobs are sent by a thread they are done. */
void queue_batch_send(struct queue_port *port, struct queue_batch *batch);

#endif
