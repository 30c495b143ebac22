/* consumers.h - the receiving side of amqp_load: connections with a consumer each, every delivery timed and counted,
 * acknowledged each so many at a time.
 *
 * With checks, the numbers of each publisher have to grow at each consumer (a queue's consumers share its messages, each
 * in order), but for what is delivered again, and no number may come to a queue twice. One thread. */
#ifndef BENCH_CONSUMERS_H
#define BENCH_CONSUMERS_H

#include "amqp_client.h"
#include "histogram.h"
#include "publishers.h"

struct consumer {
    struct amqp_link link;
    unsigned queue;
    uint32_t events;       /* that epoll waits for */
    uint64_t tag, unacked; /* tag: of the last delivery */
    bool redelivered;
    uint64_t body_left;
    bool in_body;
    struct stamp stamp;
    size_t stamp_bytes; /* that were taken */
    uint64_t *last;     /* with checks, by publisher: the last number */
};

/* Numbers of one publisher that came to one queue. */
struct seen {
    uint64_t *bits;
    uint64_t words;
};

struct consumers {
    struct consumer *all;
    unsigned n, n_queues, n_publishers;
    int epoll;
    uint32_t first_id, run; /* first_id: epoll's data of the first consumer */
    uint64_t prefetch;      /* 0: no bound */
    uint64_t ack_every;     /* 0: the server takes them for acknowledged when it sends them */
    bool checks;
    struct seen *seen; /* by queue and publisher */

    uint64_t delivered, redelivered, foreign; /* foreign: of another run */
    uint64_t disordered, duplicates;
    uint64_t last_ns; /* of the last delivery */
    struct histogram latencies;
};

/* Connects them; n and what stands after it up to checks are set. */
void consumers_open(struct consumers *cs, const struct amqp_login *login);
/* From now on there are deliveries. queues: their names, which the consumers take in turn. */
void consumers_begin(struct consumers *cs, char (*queues)[64]);
void consumer_handle(struct consumers *cs, struct consumer *c, uint32_t events);
/* Acknowledges what is left, and waits until the servers have it. */
void consumers_finish(struct consumers *cs);

#endif
