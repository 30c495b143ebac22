/* exchange.c - see exchange.h. */
#include "http/exchange.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/rng.h"
#include "fiber/relay.h"

/* How much of an unread body is read away to keep a connection that was answered early. */
#define DRAIN_BYTES_MAX (64u * 1024)
/* How long a closing connection is read from, so that the answer is not lost to a reset. */
#define LINGER_US (1 * US_PER_S)

/* ---- small things ------------------------------------------------------------------------------------------ */

struct slice http_date(void)
{
    static _Thread_local char text[32];
    static _Thread_local size_t len;
    static _Thread_local uint64_t fresh_until_us;
    uint64_t now_us = loop_now_us();

    if (now_us >= fresh_until_us) {
        time_t now = (time_t)(clock_wall_us() / US_PER_S);
        struct tm tm;

        gmtime_r(&now, &tm);
        len = strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        fresh_until_us = now_us + US_PER_S - clock_wall_us() % US_PER_S;
    }
    return slice_of(text, len);
}

/* Eight hex digits, all at once: a nibble to each byte, then '0' to each, and 39 more where it is over 9. */
static uint64_t hex_of(uint32_t bits)
{
    const uint64_t ones = 0x0101010101010101u;
    uint64_t x = bits;

    x = (x | x << 16) & 0x0000ffff0000ffffu;
    x = (x | x << 8) & 0x00ff00ff00ff00ffu;
    x = (x | x << 4) & 0x0f0f0f0f0f0f0f0fu;
    return x + ones * '0' + ((x + ones * 6) >> 4 & ones) * ('a' - '0' - 10);
}

static void make_request_id(char id[32])
{
    static _Thread_local struct rng rng;
    static _Thread_local bool seeded;

    if (!seeded) {
        if (getrandom(&rng, sizeof rng, 0) != sizeof rng)
            rng.state = clock_wall_us();
        seeded = true;
    }
    for (int i = 0; i < 4; i++) {
        uint64_t text = hex_of((uint32_t)rng_next(&rng));

        memcpy(id + 8 * i, &text, sizeof text);
    }
}

struct slice exchange_request_id(const struct exchange *x)
{
    return x->request_id_in.len ? x->request_id_in : slice_of(x->request_id, sizeof x->request_id);
}

static bool is_trusted(const struct http_limits *limits, const struct ip *ip)
{
    for (size_t i = 0; i < limits->n_trusted; i++)
        if (ip_network_has(&limits->trusted[i], ip))
            return true;
    return false;
}

/* The last address of X-Forwarded-For that no trusted proxy has: right to left, as they were added. */
static void find_client(struct exchange *x)
{
    const struct http_fields *fields = &x->request.fields;

    x->client = x->connection->peer;
    if (!x->connection->peer_trusted)
        return;
    for (unsigned i = fields->count; i-- > 0;) {
        struct slice rest = fields->at[i].value;

        if (fields->at[i].id == FIELD_X_REQUEST_ID && fields->at[i].value.len <= 128)
            x->request_id_in = fields->at[i].value;
        if (fields->at[i].id != FIELD_X_FORWARDED_FOR)
            continue;
        while (rest.len && is_trusted(x->connection->limits, &x->client)) {
            size_t at = rest.len;
            struct slice last;

            while (at && rest.ptr[at - 1] != ',')
                at--;
            last = slice_trim(slice_of(rest.ptr + at, rest.len - at));
            if (!ip_parse(last, &x->client))
                break;
            rest.len = at ? at - 1 : 0;
        }
    }
}

/* ---- reading a request ------------------------------------------------------------------------------------- */

static void say_failure(struct exchange *x, unsigned status);

static enum close_reason refuse(struct exchange *x, unsigned status, const char *why)
{
    x->close = true;
    x->body.done = false; /* whatever follows is not to be parsed */
    x->note = why;
    say_failure(x, status);
    return CLOSE_REFUSED;
}

static enum close_reason head_failed(struct exchange *x, int error)
{
    struct http_connection *c = x->connection;

    switch (error) {
    case -ENODATA:
        return CLOSE_BY_CLIENT;
    case -EMSGSIZE:
        if (slice_find(input_bytes(&c->in), '\n') >= c->limits->max_line)
            return refuse(x, 414, "a request line over max-line");
        return refuse(x, 431, "a head over max-head");
    case -ETIMEDOUT:
        if (input_empty(&c->in))
            return CLOSE_IDLE;
        refuse(x, 408, "the head was not whole in time");
        return CLOSE_SLOW;
    case -ECANCELED:
        return CLOSE_DRAIN;
    case -ENOMEM:
        return CLOSE_NO_MEMORY;
    default:
        return CLOSE_ABORTED;
    }
}

static bool allot_fields(struct exchange *x)
{
    unsigned max = x->connection->limits->max_fields;

    x->request.fields.max = max;
    x->request.fields.at = arena_alloc(&x->arena, max * sizeof *x->request.fields.at);
    return x->request.fields.at != NULL;
}

enum close_reason exchange_read(struct exchange *x, struct http_connection *c)
{
    struct http1_limits limits = {c->limits->max_line, c->limits->max_head};
    struct http1_error why;
    int error;

    memset(x, 0, sizeof *x);
    x->connection = c;
    x->start_us = loop_now_us();
    x->client = c->peer;
    make_request_id(x->request_id);
    body_reader_init(&x->body, &c->in, (struct http_body){0}, &c->read_pace, &x->arena);
    error = head_read(&c->in, c->limits->max_head, loop_deadline(c->limits->head_timeout_us), &x->head);
    if (!error && !allot_fields(x))
        error = -ENOMEM;
    if (error)
        return head_failed(x, error);
    c->n_requests++;
    if (http1_parse_request(x->head, &limits, &x->request, &why) != 0)
        return refuse(x, why.status, why.why);
    arena_trim(&x->arena, x->request.fields.at + x->request.fields.count);
    find_client(x);
    body_reader_init(&x->body, &c->in, x->request.body, &c->read_pace, &x->arena);
    x->body.bytes_max = c->limits->max_body;
    pace_start(&c->read_pace);
    pace_start(&c->write_pace);
    x->close =
        !x->request.keep_alive || (c->limits->max_requests && c->n_requests >= c->limits->max_requests);
    if (c->limits->max_body && x->request.body.kind == BODY_LENGTH &&
        x->request.body.length > c->limits->max_body)
        return refuse(x, 413, "a body over max-body");
    return CLOSE_NOT;
}

void exchange_free(struct exchange *x)
{
    arena_free(&x->arena);
}

int exchange_read_body(struct exchange *x, struct slice *piece)
{
    return body_read(&x->body, piece);
}

unsigned exchange_body_status(int error)
{
    switch (error) {
    case -EFBIG:
        return 413;
    case -ETIMEDOUT:
        return 408;
    case -ENOMEM:
    case -ECANCELED:
        return 503;
    default:
        return 400;
    }
}

/* ---- writing an answer ------------------------------------------------------------------------------------- */

static struct head_answer frame_answer(struct exchange *x, const struct http_response *response)
{
    struct head_answer answer = {
        .framing = response->body.kind,
        .length = response->body.length,
        .length_given = response->length_given && response->status >= 200 && response->status != 204,
    };

    if (response->body.kind == BODY_CHUNKED || response->body.kind == BODY_UNTIL_CLOSE) {
        answer.framing = x->request.minor == 0 ? BODY_UNTIL_CLOSE : BODY_CHUNKED;
        answer.length_given = false;
    }
    if (answer.framing == BODY_UNTIL_CLOSE || response->status == 101)
        x->close = true;
    answer.close = x->close && response->status != 101;
    answer.say_keep_alive = !x->close && x->request.minor == 0;
    return answer;
}

int exchange_answer(struct exchange *x, const struct http_response *response)
{
    struct http_output *out = &x->connection->out;
    struct head_answer answer;

    x->close |= x->connection->last;
    /* A body that nobody will read: say now that the connection ends, while it can be said. */
    if (!x->body.done && x->request.expect_continue)
        x->close = true;
    answer = frame_answer(x, response);
    answer.date = http_date();
    x->answer_started = true;
    x->status = response->status;
    x->writer = (struct body_writer){out, answer.framing};
    head_put_response(out, response, &answer);
    return out->error;
}

int exchange_interim(struct exchange *x, const struct http_response *response)
{
    if (x->request.minor == 0)
        return 0;
    head_put_interim(&x->connection->out, response);
    return output_flush(&x->connection->out);
}

int exchange_write(struct exchange *x, struct slice piece)
{
    x->answer_body_bytes += piece.len;
    return body_write(&x->writer, piece);
}

int exchange_flush(struct exchange *x)
{
    return output_flush(&x->connection->out);
}

int exchange_end(struct exchange *x, const struct http_fields *trailers)
{
    body_write_end(&x->writer, trailers);
    x->answer_ended = true;
    return exchange_flush(x);
}

/* An answer of our own: up to three fields, and a body. */
int exchange_respond_with(struct exchange *x, unsigned status, const struct http_field *fields,
                          unsigned n_fields, struct slice body)
{
    struct http_response response = {
        .status = status,
        .reason = slice_from_text(http_reason(status)),
        .body = {status == 204 || status == 304 ? BODY_NONE : BODY_LENGTH, body.len},
        .fields = {(struct http_field *)(uintptr_t)fields, n_fields, n_fields},
    };

    exchange_answer(x, &response);
    if (response.body.kind == BODY_LENGTH && x->request.method_id != METHOD_HEAD)
        exchange_write(x, body);
    return exchange_end(x, NULL);
}

int exchange_respond(struct exchange *x, unsigned status, struct slice type, struct slice body)
{
    struct http_field field = {.name = SLICE("Content-Type"), .value = type};

    return exchange_respond_with(x, status, &field, type.len ? 1 : 0, body);
}

int exchange_redirect(struct exchange *x, unsigned status, struct slice location)
{
    struct http_field field = {.name = SLICE("Location"), .value = location};

    return exchange_respond_with(x, status, &field, 1, slice_of(NULL, 0));
}

/* "503 Service Unavailable", for whoever looks at it. */
static void say_failure(struct exchange *x, unsigned status)
{
    static const struct http_field fields[] = {
        {.name = {"Content-Type", 12}, .value = {"text/plain; charset=utf-8", 25}},
        {.name = {"Retry-After", 11}, .value = {"1", 1}},
    };
    char text[64];
    int n = snprintf(text, sizeof text, "%u %s\n", status, http_reason(status));

    exchange_respond_with(x, status, fields, status == 503 ? 2 : 1, slice_of(text, (size_t)n));
}

void exchange_fail(struct exchange *x, unsigned status, const char *note)
{
    x->note = note;
    if (x->answer_started) {
        x->close = true;
        if (x->writer.kind == BODY_UNTIL_CLOSE) /* a plain end would look like a whole body */
            stream_reset_on_close(&x->connection->stream);
        exchange_flush(x);
        return;
    }
    say_failure(x, status);
}

/* ---- between requests -------------------------------------------------------------------------------------- */

/* Reads the rest of a body that was not wanted, if it is small and on its way. */
static bool drain_body(struct exchange *x)
{
    struct slice piece;
    uint64_t bytes = 0;
    int result = 1;

    if (x->body.kind == BODY_LENGTH && x->body.left > DRAIN_BYTES_MAX)
        return false;
    while (result > 0 && bytes <= DRAIN_BYTES_MAX) {
        result = body_read(&x->body, &piece);
        if (result > 0)
            bytes += piece.len;
    }
    return result == 0;
}

/* We have said all we have to say. What the client still sends is read away for a moment: a close with bytes unread
 * resets the connection, and the client may lose an answer it has not read yet. */
static void linger(struct http_connection *c)
{
    uint64_t deadline = loop_deadline(LINGER_US);
    ssize_t n;

    stream_shut_down(&c->stream);
    if (input_open(&c->in) != 0)
        return;
    do {
        c->in.keep = c->in.start = c->in.end = 0;
        n = input_fill(&c->in, deadline);
    } while (n > 0);
}

enum close_reason exchange_finish(struct exchange *x)
{
    struct http_connection *c = x->connection;

    if (x->tunnelled)
        return CLOSE_DONE;
    if (c->out.error)
        return c->out.error == -ETIMEDOUT ? CLOSE_SLOW : CLOSE_ABORTED;
    if (!x->answer_ended)
        return CLOSE_CUT;
    if (!x->body.done && (x->close || !drain_body(x))) {
        linger(c);
        return CLOSE_REFUSED;
    }
    if (x->close) {
        if (!input_empty(&c->in) || !stream_is_quiet(&c->stream)) /* it has sent more than we will answer */
            linger(c);
        return CLOSE_DONE;
    }
    output_drop(&c->out);
    input_reclaim(&c->in);
    return CLOSE_NOT;
}

/* ---- tunnel ------------------------------------------------------------------------------------------------ */

static void rebase(struct slice *s, struct slice from, struct slice to)
{
    uintptr_t at = (uintptr_t)s->ptr - (uintptr_t)from.ptr;

    if (s->ptr && at <= from.len)
        s->ptr = to.ptr + at;
}

/* Moves the request's bytes into the arena: a tunnel holds no block while it is idle, and the access log wants them
 * after it. 0 or -ENOMEM. */
static int move_request(struct exchange *x)
{
    struct http_request *r = &x->request;
    struct slice from = x->head, to = arena_copy(&x->arena, from);

    if (!to.ptr)
        return -ENOMEM;
    rebase(&r->method, from, to);
    rebase(&r->authority, from, to);
    rebase(&r->path, from, to);
    rebase(&r->query, from, to);
    rebase(&r->upgrade, from, to);
    for (unsigned i = 0; i < r->fields.count; i++) {
        rebase(&r->fields.at[i].name, from, to);
        rebase(&r->fields.at[i].value, from, to);
    }
    rebase(&x->request_id_in, from, to);
    x->head = to;
    return 0;
}

static void drop_input(void *in)
{
    input_drop(in);
}

static void hand_over(struct relay_way *way, struct http_input *in)
{
    if (!input_empty(in))
        way->pending = input_bytes(in);
    way->release = drop_input;
    way->owner = in;
}

void exchange_tunnel(struct exchange *x, struct stream *other, struct http_input *other_in, uint64_t idle_us)
{
    struct http_connection *c = x->connection;
    struct relay relay;

    x->tunnelled = true;
    x->close = true;
    if (move_request(x) != 0)
        return;
    if (x->on_tunnel)
        x->on_tunnel(x);
    output_drop(&c->out);
    relay_init(&relay, &c->stream, other);
    hand_over(&relay.up, &c->in);
    hand_over(&relay.down, other_in);
    relay_run(&relay, idle_us);
    x->answer_body_bytes += relay.down.bytes;
    x->body.bytes += relay.up.bytes;
    c->in.received += relay.up.bytes;
    c->out.written += relay.down.bytes;
    other_in->received += relay.down.bytes;
}
