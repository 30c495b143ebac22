/* router_private.h - what finding a route and explaining it share: the parts of a request that are compared, and how.
 *
 * For router.c and router_explain.c only. Pure; any thread. */
#ifndef BALANCE_ROUTER_PRIVATE_H
#define BALANCE_ROUTER_PRIVATE_H

#include "balance/router.h"

#define ROUTER_NONE SIZE_MAX
#define ROUTER_HOST_MAX 255

/* What of a request is compared. The slices borrow the texts, or the request. */
struct router_asked {
    const struct http_request *request;
    struct slice host; /* lower case */
    struct slice path; /* without a '/' at its end, unless it is plain */
    char host_text[ROUTER_HOST_MAX];
    char path_text[ROUTER_PATH_MAX];
};

/* by_host: the host matters. */
void router_ask(struct router_asked *asked, const struct http_request *request, bool by_host);
const struct config_route *router_find_asked(const struct router *router, const struct router_asked *asked,
                                             size_t *prefix_len);
const struct config_http *router_config(const struct router *router);

/* Whether the first prefix_len bytes of path end where a segment does. */
bool router_is_under(struct slice path, size_t prefix_len);
bool router_method_fits(const struct config_route *route, const struct http_request *request);
/* The first condition that does not hold, or NULL. */
const struct config_condition *router_condition_missed(const struct config_route *route,
                                                       const struct http_request *request);
size_t router_count_conditions(const struct config_route *route);

#endif
