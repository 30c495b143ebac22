/* batch.h - what a connection has read in one go, for the queue thread: publishes, what became of deliveries, and credit.
 *
 * A batch travels to the queue thread as one piece of mail, and comes back once all that it published is durable. Its bytes
 * count at the port, and who publishes faster than the disk writes waits for room before he reads more, and his socket
 * with him. Its owner makes it as the first member of his own structure, and frees it when it is back.
 * Threads: the port's, but between queue_batch_send and done, when it is the queue thread's. */
#ifndef QUEUE_BATCH_H
#define QUEUE_BATCH_H

#include "queue/port.h"

/* Slices belong to the batch's owner and stay until it is back. */
struct queue_publication {
    struct slice exchange, key;
    struct slice more_keys; /* each with its length (u8) before it */
    struct slice head, body;
    uint64_t ttl_us; /* 0: as long as its queue lets it wait */
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
    uint64_t counted; /* of them: queue_batch_room counted them already */
    bool again;       /* it was back before, and only what found no room on disk is done */
    /* On the port's thread, outside of fibers; must not wait. The batch is the callee's again. */
    void (*done)(struct queue_batch *batch);
    /* The two threads' own. */
    struct mail mail;
    struct queue_port *port;
    struct queue_batch *next;
    uint64_t position; /* of the last message in it */
};

/* The largest body that a message may have, whatever else it has. */
uint64_t queue_body_max(const struct queue_port *port);
/* Waits until so many bytes more may be under way, or nothing else is, and counts them: 0, -ETIMEDOUT, -ECANCELED. */
int queue_batch_room(struct queue_port *port, uint64_t bytes, uint64_t deadline_us);
/* Gives back what was counted for a batch that is not sent. */
void queue_batch_return_room(struct queue_port *port, uint64_t bytes);
/* In the order in which batches and jobs are sent by a thread they are done. */
void queue_batch_send(struct queue_port *port, struct queue_batch *batch);

#endif
