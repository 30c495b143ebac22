/* http1.h - HTTP/1.1 heads and chunked bodies as pure functions over bytes (RFC 9112), strict by default.
 *
 * What is ambiguous is refused. A head is parsed whole or not at all: http1_head_end says when all of it is there.
 * Nothing here allocates or waits. Fuzzed: fuzz/. Any thread. */
#ifndef WIRE_HTTP1_H
#define WIRE_HTTP1_H

#include "wire/http.h"

/* Why a head was refused: the status to answer with, and words for the log. */
struct http1_error {
    unsigned status; /* 400, 405, 414, 417, 431, 501, 505; for an answer 502 */
    const char *why; /* a constant string */
};

struct http1_limits {
    size_t max_line;
    size_t max_head;
};

/* Looks for the end of a head in bytes[0..len). *scanned is how far earlier calls looked (start with 0).
 * Returns the head's length including the empty line, or 0 when it is not all there. A bare LF also ends the
 * search, so that the parser can refuse it instead of waiting for more. */
size_t http1_head_end(const char *bytes, size_t len, size_t *scanned);

/* Parses a whole head (as found by http1_head_end). fields.at and fields.max are the caller's.
 * Returns 0, or -EBADMSG with *error filled. */
int http1_parse_request(struct slice head, const struct http1_limits *limits, struct http_request *request,
                        struct http1_error *error);
/* asked: the method this answers; HEAD has no body whatever its fields say. */
int http1_parse_response(struct slice head, enum http_method asked, struct http_response *response,
                         struct http1_error *error);

/* What a parsed field of that name has as its id. The name is not empty. */
enum http_field_id http1_field_id(struct slice name);
/* Whether such a field line would be read back as it is: the name is a token, the value has no control byte. */
bool http1_field_is_proper(struct slice name, struct slice value);

/* An incremental decoder of a chunked body. Zero it to start. */
struct http1_chunked {
    int state;
    uint64_t left; /* of this chunk's data */
    unsigned digits;
    uint32_t extension_bytes; /* of the whole body */
};

enum http1_chunk {
    CHUNK_DATA,    /* *data is the next piece of the body */
    CHUNK_MORE,    /* all input used, the body goes on */
    CHUNK_TRAILER, /* the trailer section begins: take it with http1_parse_trailers */
    CHUNK_BAD,
};

/* Takes framing and at most one piece of data off the front of *in; *data borrows *in's bytes. */
enum http1_chunk http1_chunked_take(struct http1_chunked *decoder, struct slice *in, struct slice *data,
                                    const char **why);

/* bytes starts where CHUNK_TRAILER was reported. Returns the length of the trailer section with its empty line,
 * 0 when it is not all there, or -EBADMSG. Fields that must not stand in a trailer are left out (RFC 9110
 * section 6.5.1). */
#define HTTP1_TRAILER_MAX 8192
int64_t http1_parse_trailers(struct slice bytes, struct http_fields *fields, const char **why);

/* Largest "SIZE CRLF" prefix of a chunk. */
#define HTTP1_CHUNK_HEAD_MAX 18
size_t http1_chunk_head(char out[HTTP1_CHUNK_HEAD_MAX], uint64_t size);

#endif
