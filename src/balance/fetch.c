/* fetch.c - see fetch.h. */
#include "balance/fetch.h"

#include <errno.h>
#include <string.h>

#include "balance/attempts.h"
#include "balance/line.h"
#include "balance/request_key.h"
#include "http/body.h"
#include "http/head.h"

/* What clients may send by default is enough for servers' answers. */
#define HEAD_MAX (32u * 1024)
#define FIELDS_MAX 128

/* How much of an answer over answer_max is read away to keep its connection. */
#define DRAIN_BYTES_MAX (64u * 1024)
/* The first room for an answer of unknown length; it doubles. */
#define ANSWER_ROOM_LEAST 4096u

struct fetching {
    struct fetch *fetch;
    struct attempts attempts;
    struct http_request request;
    char *answer; /* fetch->answer, while it comes */
    size_t room;
};

static struct http_request make_request(const struct fetch *fetch)
{
    size_t path = slice_find(fetch->target, '?');
    uint64_t body_bytes = fetch->pieces ? fetch->pieces->bytes : fetch->body.len;
    struct http_request request = {
        .method_id = http_method_of(fetch->method),
        .method = fetch->method,
        .authority = fetch->authority,
        .path = slice_of(fetch->target.ptr, path),
        .minor = 1,
        .body = {BODY_LENGTH, body_bytes},
    };
    bool expects_body = !http_method_idempotent(request.method_id) || request.method_id == METHOD_PUT;

    if (path < fetch->target.len)
        request.query = slice_of(fetch->target.ptr + path + 1, fetch->target.len - path - 1);
    if (!body_bytes && !expects_body)
        request.body.kind = BODY_NONE;
    if (fetch->fields)
        request.fields = *fetch->fields;
    return request;
}

/* ---- one attempt ------------------------------------------------------------------------------------------- */

static int send_body(const struct fetch *fetch, struct http_output *out)
{
    const struct fetch_body *pieces = fetch->pieces;
    uint64_t left = pieces ? pieces->bytes : 0;
    int error = pieces ? 0 : output_send(out, fetch->body);

    while (!error && left) {
        struct slice piece;

        error = pieces->next(pieces->arg, left == pieces->bytes, &piece);
        if (error)
            break;
        error = output_send(out, piece);
        left -= piece.len;
    }
    return error;
}

/* Whole, before the answer is looked at: a server that answers early is expected to read or to close. */
static int send_request(struct fetching *f, struct upstream *upstream)
{
    char header[SERVER_PROXY_MAX];
    size_t n = server_put_proxy(upstream->server, header, NULL, NULL);
    int error;

    output_put(&upstream->out, slice_of(header, n));
    head_put_own_request(&upstream->out, &f->request, upstream->server->name);
    error = send_body(f->fetch, &upstream->out);
    if (!error)
        error = output_flush(&upstream->out);
    f->fetch->sent |= upstream->out.written > f->attempts.written;
    return error;
}

static int read_answer_head(struct fetching *f, struct upstream *upstream, struct http_response *response,
                            struct http1_error *why)
{
    struct answer_wait wait = {.head_max = HEAD_MAX, .asked = f->request.method_id};
    int error;

    do
        error = attempts_read_head(&f->attempts, upstream, &wait, response, why);
    while (!error && response->status < 200);
    return error;
}

/* The head's bytes go with its connection. */
static int copy_fields(struct arena *arena, struct http_fields *fields)
{
    size_t bytes = 0;
    char *at;

    for (unsigned i = 0; i < fields->count; i++)
        bytes += fields->at[i].name.len + fields->at[i].value.len;
    at = arena_alloc(arena, bytes);
    if (!at)
        return -ENOMEM;
    for (unsigned i = 0; i < fields->count; i++) {
        struct slice *parts[] = {&fields->at[i].name, &fields->at[i].value};

        for (int j = 0; j < 2; j++) {
            memcpy(at, parts[j]->ptr, parts[j]->len);
            parts[j]->ptr = at;
            at += parts[j]->len;
        }
    }
    return 0;
}

static int grow_answer(struct fetching *f, size_t need)
{
    size_t most = f->fetch->answer_max, room = f->room ? 2 * f->room : ANSWER_ROOM_LEAST;
    char *bytes;

    if (room < need)
        room = need;
    if (room > most)
        room = most;
    bytes = arena_alloc(f->fetch->arena, room);
    if (!bytes)
        return -ENOMEM;
    if (f->fetch->answer.len)
        memcpy(bytes, f->answer, f->fetch->answer.len);
    f->answer = bytes;
    f->room = room;
    return 0;
}

/* As much of it as answer_max has room for. */
static int keep_piece(struct fetching *f, struct slice piece)
{
    struct fetch *fetch = f->fetch;
    size_t have = fetch->answer.len, left = fetch->answer_max - have;

    if (piece.len > left) {
        fetch->answer_cut = true;
        piece.len = left;
    }
    if (piece.len > f->room - have && grow_answer(f, have + piece.len) != 0)
        return -ENOMEM;
    if (piece.len)
        memcpy(f->answer + have, piece.ptr, piece.len);
    fetch->answer = slice_of(f->answer, have + piece.len);
    return 0;
}

/* More is to come of an answer that is cut than a new connection costs. */
static bool is_too_long(const struct fetch *fetch, const struct body_reader *body)
{
    return fetch->answer_cut &&
           (body->left > DRAIN_BYTES_MAX || body->bytes - fetch->answer.len > DRAIN_BYTES_MAX);
}

/* 0, or the error that it failed with. *whole: it was read to its end. */
static int read_answer(struct fetching *f, struct upstream *upstream, const struct http_response *response,
                       bool *whole)
{
    struct fetch *fetch = f->fetch;
    struct body_reader body;
    struct slice piece;
    int result;

    body_reader_init(&body, &upstream->in, response->body, &upstream->pace, fetch->arena);
    result = body.left ? grow_answer(f, (size_t)body.left) : 0;
    while (result >= 0) {
        result = body_read(&body, &piece);
        if (result > 0 && keep_piece(f, piece) != 0)
            result = -ENOMEM;
        if (result <= 0 || is_too_long(fetch, &body))
            break;
    }
    *whole = result == 0;
    if (result < 0)
        attempts_note_cut(&f->attempts, upstream, result, body.why);
    return result < 0 && !fetch->answer_cut ? result : 0; /* what is behind answer_max is of no use anyway */
}

/* The head is here. */
static int take_answer(struct fetching *f, struct upstream *upstream, struct http_response *response,
                       bool *whole)
{
    struct fetch *fetch = f->fetch;
    int error;

    attempts_note_answer(&f->attempts, upstream, response->status);
    error = copy_fields(fetch->arena, &response->fields);
    if (error)
        attempts_note_cut(&f->attempts, upstream, error, NULL);
    else
        error = read_answer(f, upstream, response, whole);
    if (error)
        return error;
    fetch->status = response->status;
    fetch->answer_fields = response->fields;
    return 0;
}

/* What fetch_run says of an error of a server's. */
static int plain_error(int error)
{
    switch (error) {
    case 0:
    case -ETIMEDOUT:
    case -ECANCELED:
    case -EBADMSG:
        return error;
    case -EMSGSIZE:
        return -EBADMSG;
    default:
        return stream_error_is_ours(error) ? error : -ECONNRESET;
    }
}

/* Asks over a connection, which is kept or closed in the end. */
static enum attempt ask(struct fetching *f, struct upstream *upstream, int *error)
{
    struct arena *arena = f->fetch->arena;
    struct http_response response = {.fields.max = FIELDS_MAX};
    struct http1_error why = {0};
    enum attempt outcome = ATTEMPT_SETTLED;
    bool whole = false;

    attempts_begin(&f->attempts, upstream);
    response.fields.at = arena_alloc(arena, FIELDS_MAX * sizeof *response.fields.at);
    *error = response.fields.at ? send_request(f, upstream) : -ENOMEM;
    if (!*error || *error == -EPIPE || *error == -ECONNRESET) /* it may have answered before it closed */
        *error = read_answer_head(f, upstream, &response, &why);
    if (response.fields.at)
        arena_trim(arena, response.fields.at + (*error ? 0 : response.fields.count));
    if (*error)
        outcome = attempts_judge(&f->attempts, upstream, *error, &why);
    else
        *error = take_answer(f, upstream, &response, &whole);
    attempts_finish(&f->attempts, upstream, whole ? &response : NULL);
    *error = plain_error(*error);
    return outcome;
}

static enum attempt attempt(struct fetching *f, struct server *server, bool fresh, int *error)
{
    bool repeatable = http_method_idempotent(f->request.method_id);
    struct upstream *upstream;

    *error = attempts_connect(&f->attempts, server, fresh, !repeatable, &upstream);
    if (!*error)
        return ask(f, upstream, error);
    if (!attempts_beyond_help(&f->attempts, *error)) {
        *error = -EHOSTUNREACH;
        return ATTEMPT_UNREACHED;
    }
    if (*error != -ECANCELED && !stream_error_is_ours(*error))
        *error = -ETIMEDOUT;
    return ATTEMPT_SETTLED;
}

/* ---- all attempts ------------------------------------------------------------------------------------------ */

/* With a place at server: 0, or a negative errno. *more: the next server may be tried. */
static int try_server(struct fetching *f, struct server *server, bool *more)
{
    struct fetch *fetch = f->fetch;
    enum attempt outcome;
    int error;

    fetch->server = arena_copy(fetch->arena, server->name);
    if (f->attempts.latest_us == NEVER)
        f->attempts.latest_us = loop_deadline(fetch->timeout_us);
    outcome = attempt(f, server, false, &error);
    if (outcome == ATTEMPT_STALE && http_method_idempotent(f->request.method_id))
        outcome = attempt(f, server, true, &error);
    *more = outcome == ATTEMPT_UNREACHED && attempts_pass_over(&f->attempts, server);
    return error;
}

int fetch_run(struct pool_thread *pt, struct fetch *fetch)
{
    struct fetching f = {
        .fetch = fetch,
        .attempts = {.pt = pt, .latest_us = NEVER},
        .request = make_request(fetch),
    };
    bool more = true;
    int error = 0;

    fetch->status = 0;
    fetch->answer_fields = (struct http_fields){0};
    fetch->answer = fetch->server = slice_of(NULL, 0);
    fetch->answer_cut = fetch->sent = false;
    pool_thread_hold(pt);
    f.attempts.key = request_key(pt->config, &f.request, &fetch->client);
    while (more) {
        struct server *server;

        error = attempts_enter(&f.attempts, &server);
        if (error)
            break;
        error = try_server(&f, server, &more);
        line_leave(pt, server);
    }
    attempts_end(&f.attempts);
    pool_thread_release(pt);
    fetch->note = NULL;
    if (error) {
        fetch->note = f.attempts.note;
        fetch->answer = slice_of(NULL, 0);
        fetch->answer_cut = false;
    }
    return error;
}
