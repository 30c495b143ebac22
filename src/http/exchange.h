/* exchange.h - one request and its answer, as routing, proxying and (later) queueing and caching see it.
 *
 * The front makes it from a client's connection; whoever serves it reads the request's body and writes the
 * answer, in any order, each streaming with back-pressure, memory bounded whatever the sizes. It knows how far the
 * answer has got, so that a failure is told the client as well as it still can be.
 * Threads: the client fiber's; exchange_read_body may be another fiber of that thread, one at a time. */
#ifndef HTTP_EXCHANGE_H
#define HTTP_EXCHANGE_H

#include "base/arena.h"
#include "http/body.h"
#include "http/head.h"
#include "http/pace.h"

/* What a client may send and how long it may take: owned by the listener. Times in microseconds, 0: no limit. */
struct http_limits {
    uint64_t head_timeout_us; /* from a head's first byte to its last */
    uint64_t idle_timeout_us; /* between requests */
    uint64_t body_timeout_us; /* longest silence while a body is read, or an answer is written */
    uint64_t rate_grace_us;   /* min_rate counts after this much waiting */
    uint64_t min_rate;        /* bytes per second of a body, either way */
    uint64_t tunnel_timeout_us;
    size_t max_head, max_line;
    unsigned max_fields; /* of a request, and of an answer */
    uint64_t max_body;
    unsigned max_requests;            /* per connection */
    const struct ip_network *trusted; /* proxies whose word is taken for who the client is; borrowed */
    size_t n_trusted;
    const struct ip_network *proxies; /* that begin with a PROXY header; borrowed */
    size_t n_proxies;
};

/* A client's connection. Lives as long as its fiber. */
struct http_connection {
    const struct http_limits *limits; /* borrowed for the connection's life */
    struct stream stream;             /* owned */
    struct http_input in;
    struct http_output out;
    struct pace read_pace, write_pace;
    const struct endpoint *source, *destination; /* borrowed; destination NULL: the socket's own address */
    struct ip peer;
    char peer_text[INET6_ADDRSTRLEN];
    uint8_t peer_len;
    bool peer_trusted;
    unsigned n_requests;
    bool last; /* the exchange under way is the last one: answers say so */
};

/* Why a connection ends, or that it goes on. */
enum close_reason {
    CLOSE_NOT,
    CLOSE_DONE,      /* both sides agreed, or the last request allowed */
    CLOSE_BY_CLIENT, /* went away between requests */
    CLOSE_ABORTED,   /* went away, or broke, within an exchange */
    CLOSE_IDLE,
    CLOSE_SLOW,    /* a head or body that took too long */
    CLOSE_REFUSED, /* what it sent was not accepted */
    CLOSE_CUT,     /* the answer could not be finished */
    CLOSE_DRAIN,   /* maitred stops */
    CLOSE_NO_MEMORY,
};

struct exchange {
    struct http_connection *connection;
    struct arena arena;          /* lives as long as the exchange */
    struct http_request request; /* until exchange_finish */
    struct slice head;           /* the bytes that it borrows */
    struct body_reader body;
    struct body_writer writer;
    struct ip client; /* the peer, or whom a trusted peer speaks for */
    char request_id[32];
    struct slice request_id_in; /* from a trusted peer, else empty */

    bool answer_started; /* its head was written: nothing else can be answered */
    bool answer_ended;
    bool close;     /* the connection ends with this exchange */
    bool tunnelled; /* and so did HTTP on it */
    /* Called when a tunnel begins, which may last for hours: from here on nothing looks at limits or routes, or at
     * whatever else its owner keeps for an exchange. NULL: nothing. */
    void (*on_tunnel)(struct exchange *x);

    /* For the access log. */
    uint64_t start_us, queue_us, upstream_us;
    struct slice upstream; /* the server's name; in the arena */
    unsigned status, retries;
    uint64_t answer_body_bytes;
    const char *note; /* why it failed; constant, or NULL */
};

/* Reads and parses the next request. CLOSE_NOT: *x is to be served. Otherwise the connection must end; when a request
 * was refused, it has been answered, and x->status says so (0: there was nothing to answer).
 * The caller frees x with exchange_free in any case. There is something to read already, or idle time is not the
 * caller's worry: the deadline for the head begins here. */
enum close_reason exchange_read(struct exchange *x, struct http_connection *connection);
void exchange_free(struct exchange *x);

/* The next piece of the request's body, as body_read; the size limit and pace of the connection hold. */
int exchange_read_body(struct exchange *x, struct slice *piece);
/* What to answer when that failed. */
unsigned exchange_body_status(int error);

/* The head of an answer whose body follows by exchange_write and exchange_end. Framing to the client is chosen here. */
int exchange_answer(struct exchange *x, const struct http_response *response);
/* A 1xx answer; dropped for a client of HTTP/1.0. Sent at once. */
int exchange_interim(struct exchange *x, const struct http_response *response);
int exchange_write(struct exchange *x, struct slice piece);
int exchange_flush(struct exchange *x);
/* The answer is whole; sent at once. */
int exchange_end(struct exchange *x, const struct http_fields *trailers);

/* A whole answer of our own; type of the body, or empty. */
int exchange_respond(struct exchange *x, unsigned status, struct slice type, struct slice body);
/* The same with any fields, those of framing left out. */
int exchange_respond_with(struct exchange *x, unsigned status, const struct http_field *fields,
                          unsigned n_fields, struct slice body);
/* An answer of our own that sends the client to location. */
int exchange_redirect(struct exchange *x, unsigned status, struct slice location);
/* An answer of our own that says what is wrong, if none has begun; otherwise the answer is cut, so that the client cannot
 * take it for whole. note is a constant string for the log. */
void exchange_fail(struct exchange *x, unsigned status, const char *note);

/* After the exchange was served: makes the connection ready for the next request, or says why not. */
enum close_reason exchange_finish(struct exchange *x);

/* Both ways until both sides have ended or nothing moved for idle_us. The answer with 101 has been sent. */
void exchange_tunnel(struct exchange *x, struct stream *other, struct http_input *other_in, uint64_t idle_us);

struct slice exchange_request_id(const struct exchange *x);

/* The value of Date, made anew once a second; good until the next call on this thread. */
struct slice http_date(void);

#endif
