/* question.c - see question.h. */
#include "admin/question.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "admin/query.h"

/* Beside the head, what a refusal takes on the way back. */
#define ANSWER_BYTES 4096

/* ---- reading it -------------------------------------------------------------------------------------------- */

/* What stands where in "http://host:port/path?query#fragment"; host empty: the URL is a path alone. */
struct url {
    struct slice host, target;
};

static bool split_url(struct slice text, struct url *url)
{
    size_t end;

    text.len = slice_find(text, '#');
    if (slice_starts_with(text, SLICE("/"))) {
        *url = (struct url){.host = slice_of(NULL, 0), .target = text};
        return true;
    }
    if (slice_starts_with(text, SLICE("http://")))
        slice_drop(&text, 7);
    else if (slice_starts_with(text, SLICE("https://")))
        slice_drop(&text, 8);
    else
        return false;
    for (end = 0; end < text.len && text.ptr[end] != '/' && text.ptr[end] != '?';)
        end++;
    url->host = slice_take(&text, end);
    url->target = text;
    return url->host.len > 0;
}

static bool is_host_field(struct slice line)
{
    return line.len >= 5 && slice_equal_nocase(slice_of(line.ptr, 5), SLICE("Host:"));
}

/* Where the head is written. There is room for everything, for all of it stands in the query, the host once. */
struct writer {
    char *text;
    size_t n, room;
};

static void put(struct writer *w, struct slice s)
{
    assert(s.len <= w->room - w->n);
    if (s.len)
        memcpy(w->text + w->n, s.ptr, s.len);
    w->n += s.len;
}

/* The fields that were given; a Host among them stands for the URL's. 0 or an error as query_take's. */
static int put_fields(struct writer *w, struct exchange *x, struct slice url_host)
{
    struct slice query = x->request.query, line;
    bool has_host = false;
    size_t start = w->n;
    int found;

    while ((found = query_take(&x->arena, &query, SLICE("header"), &line)) == 1) {
        has_host |= is_host_field(line);
        put(w, line);
        put(w, SLICE("\r\n"));
    }
    if (found || has_host || !url_host.len)
        return found;
    assert(url_host.len + 8 <= w->room - w->n);
    /* Before the others, as clients have it. */
    memmove(w->text + start + url_host.len + 8, w->text + start, w->n - start);
    memcpy(w->text + start, "Host: ", 6);
    memcpy(w->text + start + 6, url_host.ptr, url_host.len);
    memcpy(w->text + start + 6 + url_host.len, "\r\n", 2);
    w->n += url_host.len + 8;
    return 0;
}

static int take_one(struct exchange *x, struct slice name, struct slice *value)
{
    struct slice query = x->request.query;

    return query_take(&x->arena, &query, name, value);
}

/* 0, or an error as query_take's. */
static int write_head(struct question *q, struct exchange *x, struct slice method, const struct url *url)
{
    struct writer w = {.room = 3 * x->request.query.len + 256};
    int error;

    w.text = arena_alloc(&x->arena, w.room);
    if (!w.text)
        return -ENOMEM;
    put(&w, method);
    put(&w, SLICE(" "));
    if (!slice_starts_with(url->target, SLICE("/")))
        put(&w, SLICE("/"));
    put(&w, url->target);
    put(&w, SLICE(" HTTP/1.1\r\n"));
    error = put_fields(&w, x, url->host);
    put(&w, SLICE("\r\n"));
    q->head = slice_of(w.text, w.n);
    return error;
}

const char *question_read(struct question *q, struct exchange *x)
{
    static const char *const bad_escape =
        "a parameter is not percent-encoded as it should be, or has a control character in it";
    struct slice method = SLICE("GET"), text;
    struct url url;
    int found = take_one(x, SLICE("method"), &method);

    *q = (struct question){.from = x->connection->peer};
    if (found < 0)
        return bad_escape;
    found = take_one(x, SLICE("url"), &text);
    if (found < 0)
        return bad_escape;
    if (!found || !split_url(text, &url))
        return "which request? It takes a url, as in ?url=http%3A%2F%2Fexample.com%2Fpath";
    found = take_one(x, SLICE("from"), &text);
    if (found < 0 || (found && !ip_parse(text, &q->from)))
        return "from takes the address of the client, as in ?from=192.0.2.1";
    if (take_one(x, SLICE("listener"), &q->listener) < 0)
        return bad_escape;
    return write_head(q, x, method, &url) == 0 ? NULL : bad_escape;
}

/* ---- the request that is described ------------------------------------------------------------------------- */

struct rehearsal *rehearsal_open(const struct question *q, const struct http_limits *limits)
{
    struct rehearsal *r = calloc(1, sizeof *r);
    struct http_connection *c = r ? &r->connection : NULL;

    if (!r)
        return NULL;
    if (stream_memory_pair(&c->stream, &r->theirs, q->head.len + ANSWER_BYTES) != 0) {
        free(r);
        return NULL;
    }
    c->limits = limits;
    c->in.stream = c->out.stream = &c->stream;
    c->out.pace = &c->write_pace;
    c->peer = q->from;
    c->peer_len = (uint8_t)ip_text(&c->peer, c->peer_text);
    for (size_t i = 0; i < limits->n_trusted && !c->peer_trusted; i++)
        c->peer_trusted = ip_network_has(&limits->trusted[i], &c->peer);
    stream_write_all(&r->theirs, q->head.ptr, q->head.len, NEVER); /* there is room for it */
    stream_shut_down(&r->theirs);
    r->why = exchange_read(&r->x, c);
    return r;
}

void rehearsal_close(struct rehearsal *r)
{
    exchange_free(&r->x);
    input_drop(&r->connection.in);
    output_drop(&r->connection.out);
    stream_close(&r->connection.stream);
    stream_close(&r->theirs);
    free(r);
}
