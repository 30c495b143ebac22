/* attempts.h - one request's attempts at the servers of a pool, one after another: what forwarding a client's request and
 * fetching for maitred itself have in common.
 *
 * It finds servers that were not tried yet, connects, waits for the head of an answer, counts, and decides what a
 * failure says of the server. Who is not to blame is not noted: a kept connection that was dead says nothing of its
 * server, nor does a cancel or a shortage of our own. Whether the request goes on to another server is the caller's
 * to decide. Threads: the pool_thread's, which the caller holds. */
#ifndef BALANCE_ATTEMPTS_H
#define BALANCE_ATTEMPTS_H

#include "balance/upstream.h"
#include "wire/http1.h"

#define TRIED_MAX 32

/* How an attempt ended. */
enum attempt {
    ATTEMPT_SETTLED,    /* answered, or beyond help: nothing more to do */
    ATTEMPT_UNREACHED,  /* the server never had the request */
    ATTEMPT_STALE,      /* a kept connection was dead: nothing says that the server is */
    ATTEMPT_UNANSWERED, /* it may have had the request, and no byte of an answer came */
};

struct attempts {
    struct pool_thread *pt;
    uint64_t key;       /* strategy_input's */
    uint64_t latest_us; /* when the request's own time is over: no wait goes beyond; NEVER: it has none */
    unsigned status;    /* of the answer that the last failure makes, 502 to 504; 0: nothing has failed yet */
    const char *note;   /* why it failed; constant */
    uint64_t asked_us, written, received; /* of the attempt under way: as of its beginning */
    size_t n_tried;
    struct server *tried[TRIED_MAX]; /* references */
};

/* A place at a server, until line_leave: 0, or as line_enter, and then the pool has refused the request. */
int attempts_enter(struct attempts *a, struct server **server);
/* This server did not do: another is to be found. False: enough were tried. */
bool attempts_pass_over(struct attempts *a, struct server *server);
/* Lets go of the servers that were tried. */
void attempts_end(struct attempts *a);

/* A connection to server: a kept one, if fresh does not forbid it (must_be_alive: as upstream_take), or a new one. 0, or
 * a negative errno: unless attempts_beyond_help, another server may be tried. */
int attempts_connect(struct attempts *a, struct server *server, bool fresh, bool must_be_alive,
                     struct upstream **upstream);
/* An error that no other server would spare the request. */
bool attempts_beyond_help(const struct attempts *a, int error);

/* Before the request is written. */
static inline void attempts_begin(struct attempts *a, struct upstream *upstream)
{
    a->asked_us = loop_now_us();
    a->written = upstream->out.written;
    a->received = upstream->in.received;
    pace_start(&upstream->pace);
    upstream->pace.end_us = a->latest_us;
}

/* What is waited for. */
struct answer_wait {
    size_t head_max;
    enum http_method asked;
    bool upgrades;      /* the request asked for another protocol, so that 101 may be the answer */
    unsigned n_interim; /* so far */
};

/* Reads one head, with response-timeout to come: a final one, 101, or an interim one after which the caller reads on.
 * response->fields has its array. 0 or an error as head_read's, or -EBADMSG with *why. */
int attempts_read_head(struct attempts *a, struct upstream *upstream, struct answer_wait *wait,
                       struct http_response *response, struct http1_error *why);
/* No final head came; error: of writing the request or reading it. status and note say why, and what the server did wrong
 * is noted. */
enum attempt attempts_judge(struct attempts *a, struct upstream *upstream, int error,
                            const struct http1_error *why);
/* A final head, or 101, is here: notes how long it took, and whether it is an answer of a server that fails. */
void attempts_note_answer(struct attempts *a, struct upstream *upstream, unsigned status);
/* The answer's body could not be read: status and note say why (of -EBADMSG: why says it), and it is counted. */
void attempts_note_cut(struct attempts *a, struct upstream *upstream, int error, const char *why);
/* The attempt is over: counts what was moved, and keeps the connection or closes it. response: of an answer that was read to its
 * end, NULL: it was not. */
void attempts_finish(struct attempts *a, struct upstream *upstream, const struct http_response *response);

#endif
