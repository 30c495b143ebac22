/* http1_private.h - what the files of HTTP/1.1 share: http1.c (heads), http1_fields.c (their lines), http1_chunked.c. */
#ifndef WIRE_HTTP1_PRIVATE_H
#define WIRE_HTTP1_PRIVATE_H

#include "wire/http1.h"

/* Classes of bytes. */
enum {
    TOKEN = 1,     /* may stand in a method or field name */
    HOST_BYTE = 2, /* may stand in a host */
    TARGET = 4,    /* may stand in a request target */
    HEX = 8,
};

extern const unsigned char http1_class_of[256];

static inline bool http1_is_class(char c, int class)
{
    return http1_class_of[(unsigned char)c] & class;
}

/* How many bytes at the front of s are of the class. */
static inline size_t http1_span(struct slice s, int class)
{
    size_t n = 0;

    while (n < s.len && http1_is_class(s.ptr[n], class))
        n++;
    return n;
}

static inline bool http1_all_of(struct slice s, int class)
{
    return s.len && http1_span(s, class) == s.len;
}

static inline int http1_hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return (c | 0x20) - 'a' + 10;
}

/* A field value: no control byte but the tab. */
bool http1_value_is_clean(struct slice s);

/* -EBADMSG, with *error filled. */
int http1_refuse(struct http1_error *error, unsigned status, const char *why);

/* Takes one line and its CR LF off *in. */
bool http1_take_line(struct slice *in, struct slice *line);

/* Every field line up to the empty one. Names with an underscore are left out when told so: "Content_Length" and
 * its like become the real thing in servers that turn names into variables. */
int http1_parse_fields(struct slice in, bool drop_underscores, struct http_fields *fields,
                       struct http1_error *error);

#endif
