/* head.h - reading and writing HTTP/1 heads over buffered streams.
 *
 * A forwarded head is written anew from its parsed form, with exactly one framing field; what belongs to one hop
 * stays there (RFC 9110 section 7.6.1). Threads: the stream's. */
#ifndef HTTP_HEAD_H
#define HTTP_HEAD_H

#include "http/input.h"
#include "http/output.h"
#include "wire/http1.h"

/* Reads until a whole head is in the block; *head borrows it, and it is taken and kept (see input.h).
 * Empty lines before it are skipped. 0; -ENODATA: the stream ended before its first byte; -ECONNRESET: within it;
 * -EMSGSIZE: over max bytes; or the stream's error. */
int head_read(struct http_input *in, size_t max, uint64_t deadline_us, struct slice *head);

/* What this proxy adds to a request that it passes on. */
struct head_forwarding {
    struct slice peer; /* the address of who connected to us, as text */
    bool peer_is_v6;
    bool trusted; /* what the peer says of those before it is believed */
    struct slice request_id;
    struct slice path;         /* in place of the request's */
    struct slice default_host; /* when the request has none */
    bool expect_continue;      /* the client still waits for leave to send its body */
};

void head_put_request(struct http_output *out, const struct http_request *request,
                      const struct head_forwarding *forwarding);

/* A request of maitred's own, to which nothing is added: the fields go as they are, whatever their ids, but for Host,
 * Expect, the framing's, and what belongs to one hop. A body of BODY_LENGTH or BODY_NONE. */
void head_put_own_request(struct http_output *out, const struct http_request *request,
                          struct slice default_host);

/* How an answer goes to a client. */
struct head_answer {
    enum http_body_kind framing;
    uint64_t length; /* BODY_LENGTH, or BODY_NONE with length_given */
    bool length_given;
    bool close;          /* say that the connection ends here */
    bool say_keep_alive; /* HTTP/1.0 wants to hear it */
    struct slice date;   /* the value of Date when the answer has none */
};

void head_put_response(struct http_output *out, const struct http_response *response,
                       const struct head_answer *answer);
/* A 1xx answer other than 101. */
void head_put_interim(struct http_output *out, const struct http_response *response);

#endif
