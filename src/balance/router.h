/* router.h - which route of a listener a request takes: the most specific one that matches.
 *
 * Order: an exact host before a wildcard, a longer wildcard before a shorter, any of them before no host;
 * then the longer path; then more conditions (the methods are one, each header, cookie and query one); then
 * the file's order.
 *
 * Host:   without port and trailing dot, any case. "*.example.com" is every name below example.com, not
 *         itself. A host over 255 bytes is no name and finds only routes without hosts.
 * Path:   a prefix ends where a segment ends: "/api" has "/api" and "/api/x", not "/apix". What is
 *         compared, of request and route alike, has its percent-escapes decoded once, slashes (escaped
 *         ones too) merged, and "." and ".." resolved; what is forwarded stays as sent. A target that is
 *         no path ("*") is under "/" only.
 * Method: exact, as sent. A route for GET does not have HEAD.
 * Header: any line of that name. Values are compared byte by byte; cookies and parameters as http.h says.
 *
 * Never changes once made; no look-up allocates. Any thread. */
#ifndef BALANCE_ROUTER_H
#define BALANCE_ROUTER_H

#include <stdio.h>

#include "config/config.h"
#include "wire/http.h"

/* Longest path of a route, in the form that is compared. */
#define ROUTER_PATH_MAX 1024

struct router; /* private to router.c */

/* Borrows config until router_free. NULL with errno ENOMEM, or ENAMETOOLONG: a path over ROUTER_PATH_MAX. */
struct router *router_create(const struct config_http *config);
void router_free(struct router *router);

/* NULL: none matches. *rest is what follows the route's path, as sent, and from the last of several
 * slashes on: it is empty or starts with '/', or with "%2F" when only that stood there; then a '/' must be
 * put before it. */
const struct config_route *router_find(const struct router *router, const struct http_request *request,
                                       struct slice *rest);

/* For people: the route found, then every other one with the reason why not. */
void router_explain(const struct router *router, const struct http_request *request, FILE *out);

#endif
