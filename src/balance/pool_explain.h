/* pool_explain.h - which server of a pool would take a request on one thread, and why none of the others.
 *
 * Asks what serving asks (strategy.h, in the way of line.h) and changes nothing. */
#ifndef BALANCE_POOL_EXPLAIN_H
#define BALANCE_POOL_EXPLAIN_H

#include "balance/pool.h"
#include "wire/http.h"

enum pool_outcome {
    POOL_TAKES,     /* choice takes it at once */
    POOL_WAITS,     /* in line: choice is full, as is every other that would do */
    POOL_LINE_FULL, /* the same, and the line is full */
    POOL_HAS_NONE,  /* no server is usable */
};

struct pool_explanation {
    enum pool_outcome outcome;
    struct server *choice;           /* borrowed from the roster; NULL: POOL_HAS_NONE */
    struct roster *roster;           /* reference; NULL: no server is known yet */
    enum strategy_verdict *verdicts; /* by index of the roster's servers; owned */
    unsigned in_line;
};

/* On pt's thread, which has it open. 0 or -ENOMEM: then *explanation is empty. The caller owns what is in it. */
int pool_explanation_fill(struct pool_explanation *explanation, const struct pool_thread *pt,
                          const struct http_request *request, const struct ip *client);
void pool_explanation_free(struct pool_explanation *explanation);

#endif
