/* question.h - a request that somebody describes in a query, to know what would become of it.
 *
 * It is written as a client would write it, and read as a client's, with the limits of a listener, over a connection that
 * has no network. Threads: one with a loop, in a fiber. */
#ifndef ADMIN_QUESTION_H
#define ADMIN_QUESTION_H

#include "http/exchange.h"

struct question {
    struct slice head;     /* the request's, in the arena of the exchange that asks */
    struct slice listener; /* its name; ptr NULL: all */
    struct ip from;        /* who sends it */
};

/* By x's query: method, url, header (any number), from, listener. NULL, or what is wrong with it; what to do. */
const char *question_read(struct question *q, struct exchange *x);

/* A client's connection without a network: what it sends is there already. */
struct rehearsal {
    struct http_connection connection;
    struct stream theirs;
    struct exchange x;
    enum close_reason
        why; /* CLOSE_NOT: x.request is to be served; otherwise x.status and x.note say why it is not */
};

/* limits are borrowed. NULL: no memory. */
struct rehearsal *rehearsal_open(const struct question *q, const struct http_limits *limits);
void rehearsal_close(struct rehearsal *r);

#endif
