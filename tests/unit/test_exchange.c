/* test_exchange.c - http/exchange.h: one client's connection from request to request, what it is answered, and why it
 * ends. Answers are compared byte by byte, but for Date. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fiber_kit.h"
#include "http_kit.h"

#include "http/exchange.h"

struct client {
    struct wire wire;
    struct http_limits limits;
    struct http_connection c;
    struct exchange x;
};

static void client_open_over(struct client *client, size_t room)
{
    struct http_connection *c = &client->c;

    memset(client, 0, sizeof *client);
    wire_open(&client->wire, room);
    client->limits = (struct http_limits){
        .head_timeout_us = 10 * US_PER_S,
        .body_timeout_us = 10 * US_PER_S,
        .max_head = 4096,
        .max_line = 1000,
        .max_fields = 16,
        .max_body = 1024 * 1024,
    };
    c->limits = &client->limits;
    c->stream = client->wire.ours;
    c->in.stream = c->out.stream = &c->stream;
    c->out.pace = &c->write_pace;
    c->read_pace.idle_us = c->write_pace.idle_us = client->limits.body_timeout_us;
    CHECK(ip_parse(SLICE("192.0.2.1"), &c->peer));
}

static void client_open(struct client *client)
{
    client_open_over(client, WIRE_BYTES);
}

static void client_close(struct client *client)
{
    input_drop(&client->c.in);
    output_drop(&client->c.out);
    wire_close(&client->wire);
}

static enum close_reason read_request(struct client *client)
{
    return exchange_read(&client->x, &client->c);
}

static enum close_reason finish(struct client *client)
{
    enum close_reason why = exchange_finish(&client->x);

    exchange_free(&client->x);
    return why;
}

/* All that the client heard since the last time, without Date. */
static const char *heard(struct client *client)
{
    static char text[64 * 1024];
    char *date;

    hear(&client->wire);
    if (!CHECK(client->wire.n_heard < sizeof text))
        return "";
    memcpy(text, client->wire.heard, client->wire.n_heard + 1);
    client->wire.n_heard = 0;
    *client->wire.heard = '\0';
    while ((date = strstr(text, "Date: "))) {
        char *next = strstr(date, "\r\n") + 2;

        CHECK_EQUAL(next - date, 37);
        memmove(date, next, strlen(next) + 1);
    }
    return text;
}

/* Listens until we have finished, then finishes, too: whoever lingers need not wait longer. */
static void listen_to_the_end(void *arg)
{
    struct wire *wire = arg;

    while (!wire->ended && stream_wait_readable(&wire->theirs, NEVER) == 0)
        hear(wire);
    say_end(wire);
}

static void must_end(struct fiber *peer)
{
    if (!CHECK_EQUAL(fiber_join(peer, in_ms(10000)), 0))
        fiber_cancel_and_join(peer);
}

/* Reads a request, answers it with "ok", and finishes. */
static enum close_reason serve_ok(struct client *client)
{
    enum close_reason why = read_request(client);

    if (why == CLOSE_NOT) {
        CHECK_EQUAL(exchange_respond(&client->x, 200, slice_of(NULL, 0), SLICE("ok")), 0);
        return finish(client);
    }
    exchange_free(&client->x);
    return why;
}

#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define OK_CLOSE "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

/* --- from request to request --------------------------------------------------------------------------------- */

static void a_connection_lives_on_and_holds_nothing_meanwhile(void *arg)
{
    struct client client;

    (void)arg;
    client_open(&client);
    for (int i = 0; i < 3; i++) {
        say(&client.wire, GET);
        CHECK_EQUAL(serve_ok(&client), CLOSE_NOT);
        CHECK_TEXT(heard(&client), OK);
        CHECK(!client.c.in.block && !client.c.out.block);
    }
    CHECK_EQUAL(client.c.n_requests, 3);
    say_end(&client.wire);
    CHECK_EQUAL(serve_ok(&client), CLOSE_BY_CLIENT);
    CHECK_TEXT(heard(&client), "");
    client_close(&client);
}

/* H32 */
static void pipelined_requests_are_answered_in_order(void *arg)
{
    struct client client;

    (void)arg;
    client_open(&client);
    say(&client.wire,
        "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /"
        "POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n"
        "\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\nGET /4");
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(read_request(&client), CLOSE_NOT);
        CHECK_EQUAL(exchange_respond(&client.x, 200, SLICE("text/plain"), client.x.request.path), 0);
        CHECK_EQUAL(finish(&client), CLOSE_NOT);
    }
#define ANSWER(path) "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n" path
    CHECK_TEXT(heard(&client), ANSWER("/1") ANSWER("/2") ANSWER("/3"));
    CHECK_SLICE(input_bytes(&client.c.in), "GET /4");
    CHECK(!client.c.out.block);
    client_close(&client);
}

static void the_last_request_allowed_says_so(void *arg)
{
    struct client client;

    (void)arg;
    client_open(&client);
    client.limits.max_requests = 2;
    say(&client.wire, GET);
    CHECK_EQUAL(serve_ok(&client), CLOSE_NOT);
    say(&client.wire, GET);
    CHECK_EQUAL(serve_ok(&client), CLOSE_DONE);
    CHECK_TEXT(heard(&client), OK OK_CLOSE);
    client_close(&client);
}

static void a_client_that_wants_to_close_is_let_go(void *arg)
{
    struct client client;

    (void)arg;
    client_open(&client);
    say(&client.wire, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    CHECK_EQUAL(serve_ok(&client), CLOSE_DONE);
    CHECK_TEXT(heard(&client), OK_CLOSE);
    client_close(&client);
}

/* More is on its way, and a close would reset the connection under the answer: so it is read away first. */
static void what_a_client_sends_past_the_last_answer_is_read_away(void *arg)
{
    struct client client;
    struct fiber *peer;

    (void)arg;
    for (int split = 0; split < 2; split++) {
        client_open(&client);
        client.limits.max_requests = 1;
        say(&client.wire, GET GET);
        CHECK_EQUAL(read_request(&client), CLOSE_NOT);
        if (split) { /* not read yet, instead of waiting in the input */
            client.c.in.end = client.c.in.start;
            say(&client.wire, GET);
        }
        CHECK_EQUAL(exchange_respond(&client.x, 200, slice_of(NULL, 0), SLICE("ok")), 0);
        peer = fiber_spawn("peer", listen_to_the_end, &client.wire);
        CHECK_EQUAL(finish(&client), CLOSE_DONE);
        must_end(peer); /* we finished before the client did */
        CHECK_TEXT(heard(&client), OK_CLOSE);
        client_close(&client);
    }
}

/* --- framing of answers -------------------------------------------------------------------------------------- */

struct framing_row {
    const char *request;
    struct http_response response;
    const char *written; /* by exchange_write; NULL: nothing */
    const char *heard;
    enum close_reason why;
};

#define HTTP_1_0(fields) "GET / HTTP/1.0\r\n" fields "\r\n"
#define HEAD_REQUEST "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
#define REASON .reason = {"R", 1}

static const struct framing_row framing_rows[] = {
    {GET,
     {.status = 200, REASON, .body = {BODY_LENGTH, 5}, .length_given = true},
     "hello",
     "HTTP/1.1 200 R\r\nContent-Length: 5\r\n\r\nhello",
     CLOSE_NOT},
    {GET,
     {.status = 200, REASON, .body = {BODY_CHUNKED, 0}},
     "hello",
     "HTTP/1.1 200 R\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
     CLOSE_NOT},
    {GET,
     {.status = 200, REASON, .body = {BODY_UNTIL_CLOSE, 0}},
     "hello",
     "HTTP/1.1 200 R\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
     CLOSE_NOT},
    {HTTP_1_0(""),
     {.status = 200, REASON, .body = {BODY_LENGTH, 5}, .length_given = true},
     "hello",
     "HTTP/1.1 200 R\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
     CLOSE_DONE},
    {HTTP_1_0("Connection: keep-alive\r\n"),
     {.status = 200, REASON, .body = {BODY_LENGTH, 5}, .length_given = true},
     "hello",
     "HTTP/1.1 200 R\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello",
     CLOSE_NOT},
    {HTTP_1_0("Connection: keep-alive\r\n"),
     {.status = 200, REASON, .body = {BODY_CHUNKED, 0}},
     "hello",
     "HTTP/1.1 200 R\r\nConnection: close\r\n\r\nhello",
     CLOSE_DONE},
    {HTTP_1_0("Connection: keep-alive\r\n"),
     {.status = 200, REASON, .body = {BODY_UNTIL_CLOSE, 0}},
     "hello",
     "HTTP/1.1 200 R\r\nConnection: close\r\n\r\nhello",
     CLOSE_DONE},
    {HTTP_1_0("Connection: keep-alive\r\n"),
     {.status = 204, REASON, .body = {BODY_NONE, 0}},
     NULL,
     "HTTP/1.1 204 R\r\nConnection: keep-alive\r\n\r\n",
     CLOSE_NOT},
    {HEAD_REQUEST,
     {.status = 200, REASON, .body = {BODY_NONE, 5}, .length_given = true},
     NULL,
     "HTTP/1.1 200 R\r\nContent-Length: 5\r\n\r\n",
     CLOSE_NOT},
    {HEAD_REQUEST,
     {.status = 200, REASON, .body = {BODY_NONE, 0}},
     NULL,
     "HTTP/1.1 200 R\r\n\r\n",
     CLOSE_NOT},
    {GET,
     {.status = 304, REASON, .body = {BODY_NONE, 5}, .length_given = true},
     NULL,
     "HTTP/1.1 304 R\r\nContent-Length: 5\r\n\r\n",
     CLOSE_NOT},
    /* RFC 9110 section 8.6: never in a 1xx or 204. */
    {GET,
     {.status = 204, REASON, .body = {BODY_NONE, 5}, .length_given = true},
     NULL,
     "HTTP/1.1 204 R\r\n\r\n",
     CLOSE_NOT},
    {GET,
     {.status = 101, REASON, .upgrade = {"x", 1}, .body = {BODY_NONE, 5}, .length_given = true},
     NULL,
     "HTTP/1.1 101 R\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
     CLOSE_DONE},
};

static void answers_are_framed_as_the_client_can_read_them(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < sizeof framing_rows / sizeof framing_rows[0]; i++) {
        const struct framing_row *row = &framing_rows[i];
        struct client client;

        client_open(&client);
        say(&client.wire, row->request);
        CHECK_EQUAL(read_request(&client), CLOSE_NOT);
        CHECK_EQUAL(exchange_answer(&client.x, &row->response), 0);
        if (row->written)
            CHECK_EQUAL(exchange_write(&client.x, slice_from_text(row->written)), 0);
        CHECK_EQUAL(exchange_end(&client.x, NULL), 0);
        CHECK_EQUAL(client.x.status, row->response.status);
        CHECK_EQUAL(client.x.answer_body_bytes, row->written ? 5 : 0);
        CHECK_TEXT(heard(&client), row->heard);
        CHECK_EQUAL(finish(&client), row->why);
        client_close(&client);
    }
}

static void our_own_answers_have_no_body_where_none_may_be(void *arg)
{
    struct client client;

    (void)arg;
    client_open(&client);
    say(&client.wire, HEAD_REQUEST GET GET HEAD_REQUEST);
    CHECK_EQUAL(serve_ok(&client), CLOSE_NOT);
    CHECK_TEXT(heard(&client), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    CHECK_EQUAL(read_request(&client), CLOSE_NOT);
    CHECK_EQUAL(exchange_respond(&client.x, 204, slice_of(NULL, 0), SLICE("ok")), 0);
    CHECK_EQUAL(finish(&client), CLOSE_NOT);
    CHECK_TEXT(heard(&client), "HTTP/1.1 204 No Content\r\n\r\n");
    CHECK_EQUAL(read_request(&client), CLOSE_NOT);
    CHECK_EQUAL(exchange_redirect(&client.x, 308, SLICE("/there")), 0);
    CHECK_EQUAL(finish(&client), CLOSE_NOT);
    CHECK_TEXT(heard(&client),
               "HTTP/1.1 308 Permanent Redirect\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n");
    CHECK_EQUAL(read_request(&client), CLOSE_NOT);
    exchange_fail(&client.x, 503, "why");
    CHECK_EQUAL(finish(&client), CLOSE_NOT);
    CHECK_TEXT(
        heard(&client),
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 1\r\n"
        "Content-Length: 24\r\n\r\n");
    client_close(&client);
}

static void trailers_go_where_there_is_room_for_them(void *arg)
{
    static const struct http_response chunked = {.status = 200, REASON, .body = {BODY_CHUNKED, 0}};
    struct http_field at[] = {{.name = SLICE("X-Sum"), .value = SLICE("1")}};
    const struct http_fields trailers = {at, 1, 1};
    struct client client;

    (void)arg;
    client_open(&client);
    say(&client.wire, GET HTTP_1_0(""));
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(read_request(&client), CLOSE_NOT);
        CHECK_EQUAL(exchange_answer(&client.x, &chunked), 0);
        CHECK_EQUAL(exchange_end(&client.x, &trailers), 0);
        CHECK_EQUAL(finish(&client), i ? CLOSE_DONE : CLOSE_NOT);
    }
    CHECK_TEXT(heard(&client), "HTTP/1.1 200 R\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n"
                               "HTTP/1.1 200 R\r\nConnection: close\r\n\r\n");
    client_close(&client);
}

static void a_flush_sends_what_there_is(void *arg)
{
    static const struct http_response chunked = {.status = 200, REASON, .body = {BODY_CHUNKED, 0}};
    struct client client;

    (void)arg;
    client_open(&client);
    say(&client.wire, GET);
    CHECK_EQUAL(read_request(&client), CLOSE_NOT);
    CHECK_EQUAL(exchange_answer(&client.x, &chunked), 0);
    CHECK_EQUAL(exchange_write(&client.x, SLICE("ab")), 0);
    CHECK_TEXT(heard(&client), "");
    CHECK_EQUAL(exchange_flush(&client.x), 0);
    CHECK_TEXT(heard(&client), "HTTP/1.1 200 R\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
    CHECK_EQUAL(exchange_end(&client.x, NULL), 0);
    CHECK_TEXT(heard(&client), "0\r\n\r\n");
    CHECK_EQUAL(finish(&client), CLOSE_NOT);
    client_close(&client);
}

/* --- bodies of requests -------------------------------------------------------------------------------------- */

/* Reads the body to its end or an error. */
static int read_body(struct client *client, char text[256])
{
    struct slice piece;
    size_t n = 0;
    int result;

    while ((result = exchange_read_body(&client->x, &piece)) > 0 && n + piece.len < 256) {
        memcpy(text + n, piece.ptr, piece.len);
        n += piece.len;
    }
    text[n] = '\0';
    return result;
}

static void a_body_is_read_while_its_head_stays_good(void *arg)
{
    struct client client;
    char text[256];

    (void)arg;
    client_open(&client);
    say(&client.wire, "PUT /x?y HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel");
    CHECK_EQUAL(read_request(&client), CLOSE_NOT);
    say(&client.wire, "lo\r\n1\r\n!\r\n0\r\nX: y\r\n\r\n");
    CHECK_EQUAL(read_body(&client, text), 0);
    CHECK_TEXT(text, "hello!");
    CHECK_EQUAL(client.x.body.trailers.count, 1);
    CHECK_SLICE(client.x.request.path, "/x");
    CHECK_SLICE(client.x.request.query, "y");
    CHECK_SLICE(client.x.request.fields.at[1].name, "Transfer-Encoding");
    CHECK_EQUAL(exchange_respond(&client.x, 200, slice_of(NULL, 0), SLICE("ok")), 0);
    CHECK_EQUAL(finish(&client), CLOSE_NOT);
    CHECK_TEXT(heard(&client), OK);
    client_close(&client);
}

/* H26: the rest of a body that was not wanted is never taken for a request. */
static void a_small_body_that_nobody_read_is_read_away(void *arg)
{
    static const char *const requests[] = {
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 38\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: "
        "a\r\n\r\nxxx",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        "26\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\nxxx\r\n0\r\n\r\n",
    };
    struct client client;

    (void)arg;
    for (unsigned i = 0; i < 2; i++) {
        client_open(&client);
        say(&client.wire, requests[i]);
        say(&client.wire, "GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
        CHECK_EQUAL(serve_ok(&client), CLOSE_NOT);
        CHECK_EQUAL(read_request(&client), CLOSE_NOT);
        CHECK_SLICE(client.x.request.path, "/next");
        exchange_free(&client.x);
        client_close(&client);
    }
}

/* It comes after the answer; the connection waits for it. */
static void say_rest(void *arg)
{
    struct wire *wire = arg;

    CHECK_EQUAL(stream_wait_readable(&wire->theirs, NEVER), 0);
    say(wire, "hello" GET);
}

static void a_small_body_that_is_still_coming_is_waited_for(void *arg)
{
    struct client client;

    (void)arg;
    client_open(&client);
    say(&client.wire, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    CHECK_EQUAL(fiber_start("peer", say_rest, &client.wire), 0);
    CHECK_EQUAL(serve_ok(&client), CLOSE_NOT);
    CHECK_EQUAL(serve_ok(&client), CLOSE_NOT);
    CHECK_TEXT(heard(&client), OK OK);
    client_close(&client);
}

/* The answer arrives whole, then the end; what is still sent is read away until the client ends, too. */
static void a_large_body_that_nobody_read_ends_the_connection(void *arg)
{
    char *large = pattern(100000);
    struct client client;
    struct fiber *peer;

    (void)arg;
    for (int chunked = 0; chunked < 2; chunked++) {
        client_open(&client);
        say(&client.wire, chunked
                              ? "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n"
                              : "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
        say(&client.wire, large);
        say(&client.wire, chunked ? "\r\n0\r\n\r\n" GET : GET);
        peer = fiber_spawn("peer", listen_to_the_end, &client.wire);
        CHECK_EQUAL(serve_ok(&client), CLOSE_REFUSED);
        must_end(peer);
        CHECK(client.wire.ended && stream_is_quiet(&client.c.stream) == false);
        CHECK_TEXT(heard(&client), OK);
        client_close(&client);
    }
    free(large);
}

static void a_broken_body_that_nobody_read_ends_the_connection(void *arg)
{
    static const char *const bodies[] = {
        "5\r\nhelloX\n0\r\n\r\n" GET,
        "X\r\n0\r\n\r\n" GET,
        "5\r\nhello\r\n0\r\nX\r\n\r\n" GET,
    };
    struct client client;
    char text[256];

    (void)arg;
    for (unsigned i = 0; i < 6; i++) {
        struct fiber *peer;

        client_open(&client);
        say(&client.wire, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        say(&client.wire, bodies[i / 2]);
        CHECK_EQUAL(read_request(&client), CLOSE_NOT);
        if (i % 2) { /* somebody did, and answered all the same */
            CHECK_EQUAL(read_body(&client, text), -EBADMSG);
            CHECK_EQUAL(exchange_body_status(-EBADMSG), 400);
        }
        CHECK_EQUAL(exchange_respond(&client.x, 200, slice_of(NULL, 0), SLICE("ok")), 0);
        peer = fiber_spawn("peer", listen_to_the_end, &client.wire);
        CHECK_EQUAL(finish(&client), CLOSE_REFUSED);
        must_end(peer);
        CHECK_TEXT(heard(&client), OK);
        client_close(&client);
    }
}

/* H30 */
static void a_body_that_waits_for_leave_gets_it_or_the_connection_ends(void *arg)
{
    static const char request[] =
        "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    static const struct http_response leave = {.status = 100, .reason = {"Continue", 8}};
    struct client client;
    struct fiber *peer;
    char text[256];

    (void)arg;
    client_open(&client);
    say(&client.wire, request);
    CHECK_EQUAL(read_request(&client), CLOSE_NOT);
    CHECK(client.x.request.expect_continue);
    CHECK_EQUAL(exchange_interim(&client.x, &leave), 0);
    CHECK_TEXT(heard(&client), "HTTP/1.1 100 Continue\r\n\r\n");
    say(&client.wire, "hello");
    CHECK_EQUAL(read_body(&client, text), 0);
    CHECK_EQUAL(exchange_respond(&client.x, 200, slice_of(NULL, 0), SLICE("ok")), 0);
    CHECK_EQUAL(finish(&client), CLOSE_NOT);
    CHECK_TEXT(heard(&client), OK);

    /* Whether the body comes after a refusal, nobody can tell. */
    say(&client.wire, request);
    say(&client.wire, GET);
    peer = fiber_spawn("peer", listen_to_the_end, &client.wire);
    CHECK_EQUAL(serve_ok(&client), CLOSE_REFUSED);
    must_end(peer);
    CHECK_TEXT(heard(&client), OK_CLOSE);
    client_close(&client);
}

static void a_client_of_1_0_hears_no_interim_answer(void *arg)
{
    static const struct http_response hints = {.status = 103, .reason = {"Early Hints", 11}};
    struct client client;

    (void)arg;
    client_open(&client);
    say(&client.wire, HTTP_1_0("Connection: keep-alive\r\n") GET);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(read_request(&client), CLOSE_NOT);
        CHECK_EQUAL(exchange_interim(&client.x, &hints), 0);
        CHECK_TEXT(heard(&client), i ? "HTTP/1.1 103 Early Hints\r\n\r\n" : "");
        CHECK_EQUAL(exchange_respond(&client.x, 204, slice_of(NULL, 0), slice_of(NULL, 0)), 0);
        CHECK_EQUAL(finish(&client), CLOSE_NOT);
        forget(&client.wire);
    }
    client_close(&client);
}

/* --- what is refused ----------------------------------------------------------------------------------------- */

struct refused_row {
    const char *request;
    unsigned status;
    const char *note, *heard;
};

#define REFUSAL(status, length)                                                                 \
    "HTTP/1.1 " status "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: " length \
    "\r\nConnection: close\r\n\r\n"
#define X100 \
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X500 X100 X100 X100 X100 X100

static const struct refused_row refused_rows[] = {
    {"GET / HTTP/1.1\r\n\r\n" GET, 400, "no Host", REFUSAL("400 Bad Request", "16") "400 Bad Request\n"},
    {"HEAD / HTTP/1.1\r\n\r\n" GET, 400, "no Host", REFUSAL("400 Bad Request", "16")},
    {"GET / HTTP/1.1\nHost: a\n\n", 400, "a request line that does not end in CR LF",
     REFUSAL("400 Bad Request", "16") "400 Bad Request\n"},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\nhello", 413, "a body over max-body",
     REFUSAL("413 Content Too Large", "22") "413 Content Too Large\n"},
    {"GET /" X500 X500 " HTTP/1.1\r\nHost: a\r\n\r\n", 414, "a request line over max-line",
     REFUSAL("414 URI Too Long", "17") "414 URI Too Long\n"},
    {"GET /" X500 X500 X500 X500 X500 X500 X500 X500 X100, 414, "a request line over max-line",
     REFUSAL("414 URI Too Long", "17") "414 URI Too Long\n"},
    {"GET / HTTP/1.1\r\nX: " X500 X500 X500 X500 X500 X500 X500 X500 "\r\nX: " X100, 431,
     "a head over max-head",
     REFUSAL("431 Request Header Fields Too Large", "36") "431 Request Header Fields Too Large\n"},
    {"GET / HTTP/1.1\r\nX: " X500 X500 X500 X500 X500 X500 X500 X500 "\r\nX: " X100 "\r\n\r\n", 431,
     "a head over max-head",
     REFUSAL("431 Request Header Fields Too Large", "36") "431 Request Header Fields Too Large\n"},
    {"GET / "
     "HTTP/1.0\r\n1:\r\n2:\r\n3:\r\n4:\r\n5:\r\n6:\r\n7:\r\n8:\r\n9:\r\n10:\r\n11:\r\n12:\r\n13:\r\n14:\r\n"
     "15:\r\n16:\r\n17:\r\n\r\n",
     431, "too many fields",
     REFUSAL("431 Request Header Fields Too Large", "36") "431 Request Header Fields Too Large\n"},
};

static void what_is_refused_is_answered_and_nothing_after_it_is_read(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < sizeof refused_rows / sizeof refused_rows[0]; i++) {
        const struct refused_row *row = &refused_rows[i];
        struct client client;
        struct fiber *peer;

        client_open(&client);
        say(&client.wire, row->request);
        peer = fiber_spawn("peer", listen_to_the_end, &client.wire);
        CHECK_EQUAL(read_request(&client), CLOSE_REFUSED);
        CHECK_EQUAL(client.x.status, row->status);
        CHECK(client.x.answer_started && client.x.answer_ended && client.x.close);
        CHECK_TEXT(client.x.note ? client.x.note : "", row->note);
        CHECK_EQUAL(finish(&client), CLOSE_REFUSED);
        must_end(peer);
        CHECK_TEXT(heard(&client), row->heard);
        client_close(&client);
    }
}

static void what_is_wrong_with_a_body_has_its_status(void *arg)
{
    static const struct {
        int error;
        unsigned status;
    } rows[] = {
        {-EBADMSG, 400}, {-ECONNRESET, 400}, {-ETIMEDOUT, 408},
        {-EFBIG, 413},   {-ENOMEM, 503},     {-ECANCELED, 503},
    };

    (void)arg;
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
        CHECK_EQUAL(exchange_body_status(rows[i].error), rows[i].status);
}

static void a_body_that_grows_over_the_limit_is_refused(void *arg)
{
    struct client client;
    char text[256];

    (void)arg;
    client_open(&client);
    client.limits.max_body = 9;
    say(&client.wire,
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nworld\r\n");
    CHECK_EQUAL(read_request(&client), CLOSE_NOT);
    CHECK_EQUAL(read_body(&client, text), -EFBIG);
    CHECK_EQUAL(exchange_body_status(-EFBIG), 413);
    exchange_free(&client.x);
    client_close(&client);
}

/* --- who is slow, and who goes away -------------------------------------------------------------------------- */

static void a_head_that_is_not_whole_in_time_is_answered_408(void *arg)
{
    struct client client;
    struct fiber *peer;

    (void)arg;
    client_open(&client);
    client.limits.head_timeout_us = 5000;
    CHECK_EQUAL(read_request(&client), CLOSE_IDLE); /* not a byte of it: there is nobody to tell */
    CHECK(!client.x.answer_started && client.x.status == 0);
    say(&client.wire, "\r\n\r\n");
    CHECK_EQUAL(read_request(&client), CLOSE_IDLE);
    say(&client.wire, "GET / HTTP/1.1\r\nHost:");
    peer = fiber_spawn("peer", listen_to_the_end, &client.wire);
    CHECK_EQUAL(read_request(&client), CLOSE_SLOW);
    CHECK_EQUAL(client.x.status, 408);
    finish(&client);
    must_end(peer);
    CHECK_TEXT(heard(&client), REFUSAL("408 Request Timeout", "20") "408 Request Timeout\n");
    client_close(&client);
}

static void say_a_trickle(void *arg)
{
    struct wire *wire = arg;

    while (fiber_sleep_until(in_ms(1)) == 0)
        say(wire, "x");
}

/* H35: each byte comes soon enough, the head never. */
static void a_head_that_trickles_is_given_a_time_in_all(void *arg)
{
    struct client client;
    struct fiber *peer;

    (void)arg;
    client_open(&client);
    client.limits.head_timeout_us = 20000;
    say(&client.wire, "GET /");
    peer = fiber_spawn("peer", say_a_trickle, &client.wire);
    CHECK_EQUAL(read_request(&client), CLOSE_SLOW);
    CHECK_EQUAL(client.x.status, 408);
    exchange_free(&client.x);
    fiber_cancel_and_join(peer);
    client_close(&client);
}

static void a_body_that_trickles_is_cut_off(void *arg)
{
    struct client client;
    struct fiber *peer;
    struct slice piece;
    int result;

    (void)arg;
    client_open(&client);
    client.c.read_pace = (struct pace){.idle_us = 10 * US_PER_S, .grace_us = 10000, .min_rate = 100000};
    say(&client.wire, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    CHECK_EQUAL(read_request(&client), CLOSE_NOT);
    peer = fiber_spawn("peer", say_a_trickle, &client.wire);
    while ((result = exchange_read_body(&client.x, &piece)) > 0)
        ;
    CHECK_EQUAL(result, -ETIMEDOUT);
    CHECK_EQUAL(exchange_body_status(result), 408);
    fiber_cancel_and_join(peer);
    exchange_free(&client.x);
    client_close(&client);
}

/* The rest of an unwanted body, too: nobody is waited for longer than the pace allows. */
static void a_drained_body_that_trickles_ends_the_connection(void *arg)
{
    struct client client;
    struct fiber *peer;

    (void)arg;
    client_open(&client);
    client.c.read_pace = (struct pace){.idle_us = 10 * US_PER_S, .grace_us = 10000, .min_rate = 100000};
    say(&client.wire, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n");
    CHECK_EQUAL(read_request(&client), CLOSE_NOT);
    peer = fiber_spawn("peer", say_a_trickle, &client.wire);
    CHECK_EQUAL(exchange_respond(&client.x, 200, slice_of(NULL, 0), SLICE("ok")), 0);
    CHECK_EQUAL(finish(&client), CLOSE_REFUSED); /* after a second's linger */
    fiber_cancel_and_join(peer);
    client_close(&client);
}

static void a_client_that_reads_too_slowly_is_cut_off(void *arg)
{
    char *large = pattern(60000);
    struct client client;

    (void)arg;
    client_open_over(&client, 1000);
    client.c.write_pace = (struct pace){.idle_us = 5000};
    say(&client.wire, GET);
    CHECK_EQUAL(read_request(&client), CLOSE_NOT);
    CHECK_EQUAL(exchange_respond(&client.x, 200, slice_of(NULL, 0), slice_of(large, 60000)), -ETIMEDOUT);
    CHECK_EQUAL(finish(&client), CLOSE_SLOW);
    client_close(&client);
    free(large);
}

static void a_client_that_goes_away_is_told_apart_by_when(void *arg)
{
    char text[256];
    struct client client;

    (void)arg;
    client_open(&client);
    say(&client.wire, "GET / HTTP/1.1\r\n");
    say_end(&client.wire);
    CHECK_EQUAL(read_request(&client), CLOSE_ABORTED);
    CHECK(!client.x.answer_started);
    exchange_free(&client.x);
    client_close(&client);

    client_open(&client);
    say(&client.wire, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell");
    say_end(&client.wire);
    CHECK_EQUAL(read_request(&client), CLOSE_NOT);
    CHECK_EQUAL(read_body(&client, text), -ECONNRESET);
    CHECK_EQUAL(exchange_body_status(-ECONNRESET), 400);
    exchange_fail(&client.x, 400, "why");
    CHECK_EQUAL(finish(&client), CLOSE_REFUSED);
    client_close(&client);

    client_open(&client);
    say(&client.wire, GET);
    CHECK_EQUAL(read_request(&client), CLOSE_NOT);
    wire_hang_up(&client.wire);
    CHECK_EQUAL(exchange_respond(&client.x, 200, slice_of(NULL, 0), SLICE("ok")), -EPIPE);
    CHECK_EQUAL(finish(&client), CLOSE_ABORTED);
    client_close(&client);
}

static void read_cancelled(void *arg)
{
    CHECK_EQUAL(read_request(arg), CLOSE_DRAIN);
}

static void a_cancel_while_waiting_is_a_drain(void *arg)
{
    struct client client;
    struct fiber *server;

    (void)arg;
    client_open(&client);
    server = fiber_spawn("server", read_cancelled, &client);
    fiber_yield();
    fiber_cancel_and_join(server);
    exchange_free(&client.x);
    CHECK_TEXT(heard(&client), "");
    client_close(&client);
}

/* --- answers that fail --------------------------------------------------------------------------------------- */

static void an_answer_that_breaks_off_is_not_taken_for_whole(void *arg)
{
    static const struct http_response responses[] = {
        {.status = 200, REASON, .body = {BODY_LENGTH, 5}, .length_given = true},
        {.status = 200, REASON, .body = {BODY_CHUNKED, 0}},
    };
    static const char *const expected[] = {
        "HTTP/1.1 200 R\r\nContent-Length: 5\r\n\r\nhel",
        "HTTP/1.1 200 R\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n",
    };
    struct client client;

    (void)arg;
    for (unsigned i = 0; i < 2; i++) {
        client_open(&client);
        say(&client.wire, GET GET);
        CHECK_EQUAL(read_request(&client), CLOSE_NOT);
        CHECK_EQUAL(exchange_answer(&client.x, &responses[i]), 0);
        CHECK_EQUAL(exchange_write(&client.x, SLICE("hel")), 0);
        exchange_fail(&client.x, 502, "why");
        CHECK_EQUAL(client.x.status, 200); /* what the client saw */
        CHECK_TEXT(client.x.note, "why");
        CHECK_EQUAL(finish(&client), CLOSE_CUT);
        CHECK_TEXT(heard(&client), expected[i]);
        client_close(&client);
    }
}

static void a_failure_before_the_answer_is_told_and_the_connection_lives(void *arg)
{
    struct client client;

    (void)arg;
    client_open(&client);
    say(&client.wire, GET GET);
    CHECK_EQUAL(read_request(&client), CLOSE_NOT);
    exchange_fail(&client.x, 502, "why");
    CHECK_EQUAL(client.x.status, 502);
    CHECK_EQUAL(finish(&client), CLOSE_NOT);
    CHECK_TEXT(heard(&client), "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\n"
                               "Content-Length: 16\r\n\r\n502 Bad Gateway\n");
    CHECK_EQUAL(serve_ok(&client), CLOSE_NOT);
    client_close(&client);
}

/* --- who asks ------------------------------------------------------------------------------------------------ */

/* H37 */
static void the_client_is_who_a_trusted_peer_says(void *arg)
{
    static const struct {
        const char *forwarded, *client;
    } lines[] = {
        {"X-Forwarded-For: 203.0.113.9\r\n", "203.0.113.9"},
        {"X-Forwarded-For: 1.1.1.1, 203.0.113.9, 192.0.2.7\r\n", "203.0.113.9"},
        {"X-Forwarded-For: 1.1.1.1, 203.0.113.9\r\nX-Forwarded-For: 192.0.2.7\r\n", "203.0.113.9"},
        {"X-Forwarded-For: 192.0.2.9,192.0.2.8 \r\n", "192.0.2.9"},
        {"X-Forwarded-For: unknown, 192.0.2.8\r\n", "192.0.2.8"},
        {"X-Forwarded-For: 1.1.1.1,\r\n", "192.0.2.1"},
        {"X-Forwarded-For:\r\n", "192.0.2.1"},
        {"", "192.0.2.1"},
    };
    struct ip_network network;

    (void)arg;
    CHECK(ip_network_parse(SLICE("192.0.2.0/24"), &network));
    for (unsigned trusted = 0; trusted < 2; trusted++)
        for (unsigned i = 0; i < sizeof lines / sizeof lines[0]; i++) {
            char text[256], ip[INET6_ADDRSTRLEN];
            struct client client;

            client_open(&client);
            client.limits.trusted = &network;
            client.limits.n_trusted = trusted;
            client.c.peer_trusted = trusted;
            snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: me\r\n%s\r\n",
                     lines[i].forwarded);
            say(&client.wire, text);
            CHECK_EQUAL(read_request(&client), CLOSE_NOT);
            ip_text(&client.x.client, ip);
            CHECK_TEXT(ip, trusted ? lines[i].client : "192.0.2.1");
            if (trusted)
                CHECK_SLICE(exchange_request_id(&client.x), "me");
            else
                CHECK_EQUAL(exchange_request_id(&client.x).len, 32);
            exchange_free(&client.x);
            client_close(&client);
        }
}

static void every_request_has_an_id_of_its_own(void *arg)
{
    struct client client;
    char first[32];

    (void)arg;
    client_open(&client);
    say(&client.wire, GET GET);
    CHECK_EQUAL(read_request(&client), CLOSE_NOT);
    memcpy(first, exchange_request_id(&client.x).ptr, sizeof first);
    for (unsigned i = 0; i < sizeof first; i++)
        CHECK(strchr("0123456789abcdef", first[i]) != NULL);
    CHECK_EQUAL(exchange_respond(&client.x, 200, slice_of(NULL, 0), SLICE("ok")), 0);
    CHECK_EQUAL(finish(&client), CLOSE_NOT);
    CHECK_EQUAL(read_request(&client), CLOSE_NOT);
    CHECK(memcmp(exchange_request_id(&client.x).ptr, first, sizeof first) != 0);
    exchange_free(&client.x);
    client_close(&client);
}

/* --- tunnels ------------------------------------------------------------------------------------------------- */

struct tunnel_test {
    struct client client;
    struct wire server;
    struct http_input server_in;
    uint64_t idle_us, up_bytes, down_bytes; /* to be found in the log */
    struct fiber *fiber;
};

static void run_tunnel(void *arg)
{
    struct tunnel_test *t = arg;

    exchange_tunnel(&t->client.x, &t->server.ours, &t->server_in, t->idle_us);
}

/* Up to the tunnel; early: what the client has sent right behind its request. */
static void tunnel_open(struct tunnel_test *t, const char *early, const char *early_server, uint64_t idle_us,
                        size_t room)
{
    static const struct http_response switching = {.status = 101, REASON, .upgrade = {"x", 1}};

    memset(t, 0, sizeof *t);
    client_open_over(&t->client, room);
    wire_open(&t->server, room);
    t->server_in.stream = &t->server.ours;
    t->idle_us = idle_us;
    say(&t->client.wire, "GET /chat?q HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    say(&t->client.wire, early);
    CHECK_EQUAL(read_request(&t->client), CLOSE_NOT);
    say(&t->server, early_server);
    if (*early_server) {
        CHECK_EQUAL(input_open(&t->server_in), 0);
        CHECK(input_fill(&t->server_in, NEVER) > 0);
    }
    CHECK_EQUAL(exchange_answer(&t->client.x, &switching), 0);
    CHECK_EQUAL(exchange_end(&t->client.x, NULL), 0);
    CHECK_TEXT(heard(&t->client), "HTTP/1.1 101 R\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n");
    t->fiber = fiber_spawn("client", run_tunnel, t);
}

/* After the tunnel's end, whatever ended it. */
static void tunnel_close(struct tunnel_test *t)
{
    const struct http_request *r = &t->client.x.request;

    must_end(t->fiber);
    CHECK(t->client.x.tunnelled);
    CHECK_SLICE(r->method, "GET"); /* for the access log */
    CHECK_SLICE(r->path, "/chat");
    CHECK_SLICE(r->query, "q");
    CHECK_SLICE(r->authority, "a");
    CHECK_SLICE(r->fields.at[2].value, "x");
    if (t->up_bytes || t->down_bytes) {
        CHECK_EQUAL(t->client.x.body.bytes, t->up_bytes);
        CHECK_EQUAL(t->client.x.answer_body_bytes, t->down_bytes);
    }
    CHECK_EQUAL(finish(&t->client), CLOSE_DONE);
    client_close(&t->client);
    input_drop(&t->server_in);
    wire_close(&t->server);
}

static void turns(unsigned n)
{
    while (n--)
        fiber_yield();
}

static void a_tunnel_carries_both_ways_and_holds_nothing_while_idle(void *arg)
{
    struct tunnel_test t;

    (void)arg;
    tunnel_open(&t, "early up", "early down", 0, WIRE_BYTES);
    turns(5);
    CHECK_TEXT(hear(&t.server), "early up");
    CHECK_TEXT(heard(&t.client), "early down");
    for (int i = 0; i < 3; i++) {
        say(&t.client.wire, "up");
        say(&t.server, "down!");
        turns(5);
        CHECK(!t.client.c.in.block && !t.server_in.block && !t.client.c.out.block);
        CHECK_TEXT(heard(&t.client), "down!");
    }
    CHECK_TEXT(hear(&t.server), "early upupupup");
    say_end(&t.client.wire);
    say_end(&t.server);
    t.up_bytes = 14;
    t.down_bytes = 25;
    tunnel_close(&t);
}

static void one_side_may_finish_before_the_other(void *arg)
{
    struct tunnel_test t;

    (void)arg;
    for (int up = 0; up < 2; up++) {
        struct wire *first, *second;

        tunnel_open(&t, "", "", 0, WIRE_BYTES);
        first = up ? &t.client.wire : &t.server;
        second = up ? &t.server : &t.client.wire;
        say(first, "last words");
        say_end(first);
        turns(5);
        CHECK_TEXT(hear(second), "last words");
        CHECK(second->ended);
        say(second, "an answer");
        turns(5);
        CHECK_TEXT(hear(first), "an answer");
        CHECK(!first->ended);
        say_end(second);
        tunnel_close(&t);
    }
}

static void an_idle_tunnel_ends(void *arg)
{
    struct tunnel_test t;

    (void)arg;
    tunnel_open(&t, "", "", 5000, WIRE_BYTES);
    tunnel_close(&t);
}

static void say_now_and_then(void *arg)
{
    struct wire *wire = arg;

    for (int i = 0; i < 20; i++) {
        CHECK_EQUAL(fiber_sleep_until(in_ms(5)), 0);
        say(wire, "x");
    }
}

/* 100 ms of it, though neither way is ever idle for less than the limit of 60 by itself alone. */
static void a_tunnel_that_moves_one_way_is_not_idle(void *arg)
{
    struct tunnel_test t;
    struct fiber *peer;

    (void)arg;
    for (int up = 0; up < 2; up++) {
        tunnel_open(&t, "", "", 60000, WIRE_BYTES);
        peer = fiber_spawn("peer", say_now_and_then, up ? &t.client.wire : &t.server);
        CHECK_EQUAL(fiber_join(peer, NEVER), 0);
        turns(5);
        CHECK_EQUAL(strlen(hear(up ? &t.server : &t.client.wire)), 20);
        tunnel_close(&t);
    }
}

static void when_one_side_breaks_the_other_is_not_kept_waiting(void *arg)
{
    struct tunnel_test t;

    (void)arg;
    for (int up = 0; up < 2; up++) {
        tunnel_open(&t, "", "", 0, WIRE_BYTES);
        turns(3);
        wire_hang_up(up ? &t.server : &t.client.wire);
        say(up ? &t.client.wire : &t.server, "to nobody");
        tunnel_close(&t);
    }
}

static void a_side_that_reads_nothing_is_given_up(void *arg)
{
    char *large = pattern(20000);
    struct tunnel_test t;

    (void)arg;
    tunnel_open(&t, "", "", 10000, 30000);
    say(&t.server, large);
    turns(5);
    say(&t.server, large);
    turns(5);
    say(&t.server, large);
    tunnel_close(&t);
    free(large);
}

static void a_tunnel_ends_with_its_fiber(void *arg)
{
    struct tunnel_test t;

    (void)arg;
    tunnel_open(&t, "", "", 0, WIRE_BYTES);
    turns(5);
    fiber_cancel(t.fiber);
    tunnel_close(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIBER_TEST(a_connection_lives_on_and_holds_nothing_meanwhile),
        FIBER_TEST(pipelined_requests_are_answered_in_order),
        FIBER_TEST(the_last_request_allowed_says_so),
        FIBER_TEST(a_client_that_wants_to_close_is_let_go),
        FIBER_TEST(what_a_client_sends_past_the_last_answer_is_read_away),
        FIBER_TEST(answers_are_framed_as_the_client_can_read_them),
        FIBER_TEST(our_own_answers_have_no_body_where_none_may_be),
        FIBER_TEST(trailers_go_where_there_is_room_for_them),
        FIBER_TEST(a_flush_sends_what_there_is),
        FIBER_TEST(a_body_is_read_while_its_head_stays_good),
        FIBER_TEST(a_small_body_that_nobody_read_is_read_away),
        FIBER_TEST(a_small_body_that_is_still_coming_is_waited_for),
        FIBER_TEST(a_large_body_that_nobody_read_ends_the_connection),
        FIBER_TEST(a_broken_body_that_nobody_read_ends_the_connection),
        FIBER_TEST(a_body_that_waits_for_leave_gets_it_or_the_connection_ends),
        FIBER_TEST(a_client_of_1_0_hears_no_interim_answer),
        FIBER_TEST(what_is_refused_is_answered_and_nothing_after_it_is_read),
        FIBER_TEST(what_is_wrong_with_a_body_has_its_status),
        FIBER_TEST(a_body_that_grows_over_the_limit_is_refused),
        FIBER_TEST(a_head_that_is_not_whole_in_time_is_answered_408),
        FIBER_TEST(a_head_that_trickles_is_given_a_time_in_all),
        FIBER_TEST(a_body_that_trickles_is_cut_off),
        FIBER_TEST(a_drained_body_that_trickles_ends_the_connection),
        FIBER_TEST(a_client_that_reads_too_slowly_is_cut_off),
        FIBER_TEST(a_client_that_goes_away_is_told_apart_by_when),
        FIBER_TEST(a_cancel_while_waiting_is_a_drain),
        FIBER_TEST(an_answer_that_breaks_off_is_not_taken_for_whole),
        FIBER_TEST(a_failure_before_the_answer_is_told_and_the_connection_lives),
        FIBER_TEST(the_client_is_who_a_trusted_peer_says),
        FIBER_TEST(every_request_has_an_id_of_its_own),
        FIBER_TEST(a_tunnel_carries_both_ways_and_holds_nothing_while_idle),
        FIBER_TEST(one_side_may_finish_before_the_other),
        FIBER_TEST(an_idle_tunnel_ends),
        FIBER_TEST(a_tunnel_that_moves_one_way_is_not_idle),
        FIBER_TEST(when_one_side_breaks_the_other_is_not_kept_waiting),
        FIBER_TEST(a_side_that_reads_nothing_is_given_up),
        FIBER_TEST(a_tunnel_ends_with_its_fiber),
    };

    kit_watchdog(50);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
