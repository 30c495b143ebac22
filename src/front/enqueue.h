/* enqueue.h - stores an exchange's request as a message, answers 202 once it is on disk, and tells later what became of it.
 *
 * Prefer: wait=N (RFC 7240) holds the client for the worker's answer; Idempotency-Key stores a request once.
 * Memory: a request is held whole until it is stored; how much of that a thread has at a time, its port bounds.
 * Threads: the exchange's. */
#ifndef FRONT_ENQUEUE_H
#define FRONT_ENQUEUE_H

#include "config/config.h"
#include "http/exchange.h"
#include "queue/port.h"

/* Where a message's status is told: this, and its name behind it. */
#define STATUS_PATH "/.maitred/messages/"

/* What of the request was read before. */
struct enqueue_body {
    bool here; /* all of it: bytes */
    struct slice bytes;
};

/* Stores the request in the route's queue or topic, and answers. */
void enqueue(struct exchange *x, struct queue_port *port, const struct config_route *route,
             const struct enqueue_body *body);
/* Whether the client prefers not to wait (Prefer: respond-async). */
bool enqueue_is_preferred(const struct http_request *request);
/* Answers a request for STATUS_PATH, whatever its method. */
void enqueue_status(struct exchange *x, struct queue_port *port);

#endif
