/* push_fields.h - the fields of an HTTP request that delivers a message: those that it came with, or what AMQP says of it, and
 * what maitred adds; docs/queue.md.
 *
 * Threads: belongs to its thread. In a fiber: it may wait for the key of messages' names. */
#ifndef FRONT_PUSH_FIELDS_H
#define FRONT_PUSH_FIELDS_H

#include "base/arena.h"
#include "queue/port.h"
#include "wire/http.h"

/* They borrow the delivery and the arena. False: no memory. */
bool push_fields(struct arena *arena, struct queue_port *port, const char *queue, const struct queue_delivery *d,
                 struct http_fields *fields);

#endif
