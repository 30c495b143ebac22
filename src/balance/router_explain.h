/* router_explain.h - why a request takes the route it takes: the facts, for people and for JSON.
 *
 * Found out by the functions that also serve requests (router_private.h). Any thread. */
#ifndef BALANCE_ROUTER_EXPLAIN_H
#define BALANCE_ROUTER_EXPLAIN_H

#include "balance/router.h"

/* A route that was not taken. */
struct router_other {
    const struct config_route *route;
    const char *why; /* borrows the explanation's text */
};

struct router_explanation {
    const struct config_route *route; /* NULL: none matches */
    struct router_other *others;      /* every other one, in the file's order; owned */
    size_t n_others;
    char *text; /* owned */
};

/* 0 or -ENOMEM: then *explanation is empty. Borrows the router's configuration. The caller owns what is in it:
 * router_explanation_free. */
int router_explanation_fill(struct router_explanation *explanation, const struct router *router,
                            const struct http_request *request);
void router_explanation_free(struct router_explanation *explanation);

/* "pool web", "redirect 308 to /new", "answer 200". The caller frees it. NULL: no memory. */
char *router_action(const struct config_route *route);

#endif
