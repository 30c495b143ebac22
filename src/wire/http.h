/* http.h - an HTTP message in parsed form, whatever version carried it (RFC 9110).
 *
 * All slices borrow the bytes the head was parsed from, or the exchange's arena. Pure data; any thread. */
#ifndef WIRE_HTTP_H
#define WIRE_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum http_method {
    METHOD_OTHER,
    METHOD_GET,
    METHOD_HEAD,
    METHOD_POST,
    METHOD_PUT,
    METHOD_DELETE,
    METHOD_OPTIONS,
    METHOD_TRACE,
    METHOD_PATCH,
    METHOD_CONNECT,
};

/* The fields a proxy itself looks at; every other one is FIELD_OTHER and passed on by its name. */
enum http_field_id {
    FIELD_OTHER,
    FIELD_CONNECTION,
    FIELD_CONTENT_LENGTH,
    FIELD_COOKIE,
    FIELD_DATE,
    FIELD_EXPECT,
    FIELD_FORWARDED,
    FIELD_HOST,
    FIELD_HTTP2_SETTINGS,
    FIELD_IDEMPOTENCY_KEY,
    FIELD_KEEP_ALIVE,
    FIELD_PROXY_CONNECTION,
    FIELD_TE,
    FIELD_TRAILER,
    FIELD_TRANSFER_ENCODING,
    FIELD_UPGRADE,
    FIELD_USER_AGENT,
    FIELD_VIA,
    FIELD_X_FORWARDED_FOR,
    FIELD_X_FORWARDED_HOST,
    FIELD_X_FORWARDED_PROTO,
    FIELD_X_FORWARDED_OTHER, /* X-Forwarded-Port, -Prefix, -Server, ...: believed from trusted proxies only */
    FIELD_X_REAL_IP,
    FIELD_X_REQUEST_ID,
};

struct http_field {
    struct slice name;
    struct slice value; /* trimmed */
    enum http_field_id id;
    bool hop_by_hop; /* ends here: named by Connection, or hop-by-hop by itself */
};

struct http_fields {
    struct http_field *at; /* the caller's array */
    unsigned count;
    unsigned max;
};

enum http_body_kind {
    BODY_NONE,
    BODY_LENGTH,
    BODY_CHUNKED,
    BODY_UNTIL_CLOSE, /* answers only */
};

struct http_body {
    enum http_body_kind kind;
    uint64_t length; /* BODY_LENGTH */
};

struct http_request {
    enum http_method method_id;
    struct slice method;
    struct slice
        authority;      /* host or host:port, from an absolute target, else Host; empty: HTTP/1.0 without */
    struct slice path;  /* starts with '/', or is "*"; as sent */
    struct slice query; /* after the '?'; ptr NULL when there is no '?' */
    unsigned minor;     /* of HTTP/1: 0 or 1 */
    bool path_is_plain; /* neither '%' nor "//" nor a dot segment in path: its bytes are its meaning */
    bool keep_alive;    /* the client lets the connection live */
    bool expect_continue;
    bool te_trailers;
    struct slice upgrade; /* protocols asked for, h2c left out; empty: none */
    struct http_body body;
    struct http_fields fields;
};

struct http_response {
    unsigned status; /* 100 to 999 */
    unsigned minor;
    struct slice reason;
    bool keep_alive;   /* the server lets the connection live */
    bool length_given; /* Content-Length was there: body.length, even when no body follows (HEAD, 304) */
    struct slice upgrade;
    struct http_body body;
    struct http_fields fields;
};

/* METHOD_OTHER when it has no number. */
enum http_method http_method_of(struct slice method);

/* Safe to repeat (RFC 9110 section 9.2.2). */
static inline bool http_method_idempotent(enum http_method method)
{
    return method == METHOD_GET || method == METHOD_HEAD || method == METHOD_PUT || method == METHOD_DELETE ||
           method == METHOD_OPTIONS || method == METHOD_TRACE;
}

/* The first field of that name, or NULL. */
const struct http_field *http_field_find(const struct http_fields *fields, struct slice name);

/* The value of a cookie or of a query parameter; false when it is not there.
 * A query name and value are compared as sent, without percent-decoding. */
bool http_cookie_find(const struct http_fields *fields, struct slice name, struct slice *value);
bool http_query_find(struct slice query, struct slice name, struct slice *value);

/* The host without its port, brackets kept for IPv6. */
struct slice http_host_of(struct slice authority);

/* "Not Found"; empty for a status that has no words here. */
const char *http_reason(unsigned status);

#endif
