/* test_head.c - http/head.h: heads are read whole however they arrive, and written anew with nothing in them that
 * belongs to another hop. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fiber_kit.h"
#include "http_kit.h"

#include "http/head.h"

#define MAX_HEAD 40000
#define FIELDS_MAX 32

/* --- reading ------------------------------------------------------------------------------------------------- */

struct reading {
    struct wire wire;
    struct http_input in;
    struct slice head;
};

static void reading_open(struct reading *r)
{
    wire_open(&r->wire, WIRE_BYTES);
    r->in = (struct http_input){.stream = &r->wire.ours};
    r->head = slice_of(NULL, 0);
}

static void reading_close(struct reading *r)
{
    input_drop(&r->in);
    wire_close(&r->wire);
}

static int read_head(struct reading *r, size_t max)
{
    return head_read(&r->in, max, NEVER, &r->head);
}

#define HEAD "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

static void a_head_is_taken_and_what_follows_is_left(void *arg)
{
    struct reading r;

    (void)arg;
    reading_open(&r);
    say(&r.wire, HEAD "body");
    CHECK_EQUAL(read_head(&r, MAX_HEAD), 0);
    CHECK_SLICE(r.head, HEAD);
    CHECK_SLICE(input_bytes(&r.in), "body");
    CHECK(r.in.keep >= r.head.len);
    reading_close(&r);
}

static void pipelined_heads_are_taken_one_by_one(void *arg)
{
    struct reading r;

    (void)arg;
    reading_open(&r);
    say(&r.wire, HEAD "\r\nPOST / HTTP/1.1\r\n\r\n\r\n\r\n" HEAD);
    CHECK_EQUAL(read_head(&r, MAX_HEAD), 0);
    CHECK_SLICE(r.head, HEAD);
    CHECK_EQUAL(read_head(&r, MAX_HEAD), 0);
    CHECK_SLICE(r.head, "POST / HTTP/1.1\r\n\r\n");
    CHECK_EQUAL(read_head(&r, MAX_HEAD), 0);
    CHECK_SLICE(r.head, HEAD);
    CHECK(input_empty(&r.in));
    reading_close(&r);
}

/* What the peer says in two writes. */
struct halves {
    struct wire *wire;
    const char *text;
    size_t n, first;
};

static void say_in_halves(void *arg)
{
    struct halves *h = arg;

    say_bytes(h->wire, h->text, h->first);
    CHECK_EQUAL(fiber_sleep_until(in_ms(0)), 0);
    fiber_yield();
    say_bytes(h->wire, h->text + h->first, h->n - h->first);
}

static void a_head_is_the_same_at_every_split(void *arg)
{
    static const char text[] = "\r\n\r\n" HEAD "x";

    (void)arg;
    for (size_t first = 1; first < sizeof text - 1; first++) {
        struct reading r;
        struct halves halves = {&r.wire, text, sizeof text - 1, first};
        struct fiber *peer;

        reading_open(&r);
        peer = fiber_spawn("peer", say_in_halves, &halves);
        CHECK_EQUAL(read_head(&r, MAX_HEAD), 0);
        if (!CHECK_SLICE(r.head, HEAD))
            fprintf(stderr, "split at %zu\n", first);
        CHECK_EQUAL(fiber_join(peer, NEVER), 0);
        reading_close(&r);
    }
}

static void say_byte_by_byte(void *arg)
{
    struct halves *h = arg;

    for (size_t i = 0; i < h->n; i++) {
        say_bytes(h->wire, h->text + i, 1);
        fiber_yield();
    }
}

static void a_head_is_the_same_byte_by_byte(void *arg)
{
    static const char text[] = "\r\n\r\n" HEAD;
    struct reading r;
    struct halves halves = {&r.wire, text, sizeof text - 1, 0};
    struct fiber *peer;

    (void)arg;
    reading_open(&r);
    peer = fiber_spawn("peer", say_byte_by_byte, &halves);
    CHECK_EQUAL(read_head(&r, MAX_HEAD), 0);
    CHECK_SLICE(r.head, HEAD);
    CHECK_EQUAL(fiber_join(peer, NEVER), 0);
    reading_close(&r);
}

/* A head of n bytes. */
static char *long_head(size_t n)
{
    char *text = pattern(n);

    memcpy(text, "GET / HTTP/1.1\r\nHost: a\r\nX:", 27);
    memcpy(text + n - 4, "\r\n\r\n", 4);
    return text;
}

/* At any size, also where it fills a block to the last byte; behind it there is room for a body. */
static void a_head_of_any_size_up_to_the_limit_is_read(void *arg)
{
    static const size_t sizes[] = {100,          4096,           12287,      12288,          12289,
                                   16380,        SLAB_BYTES - 1, SLAB_BYTES, SLAB_BYTES + 1, 20000,
                                   MAX_HEAD - 1, MAX_HEAD};

    (void)arg;
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char *text = long_head(sizes[i]), *body = pattern(10000);
        struct reading r;

        reading_open(&r);
        say(&r.wire, "HEAD / HTTP/1.1\r\n\r\n"); /* so that it does not stand at the block's beginning */
        say(&r.wire, text);
        say(&r.wire, body);
        CHECK_EQUAL(read_head(&r, MAX_HEAD), 0);
        CHECK_SLICE(r.head, "HEAD / HTTP/1.1\r\n\r\n");
        CHECK_EQUAL(read_head(&r, MAX_HEAD), 0);
        CHECK_SLICE(r.head, text);
        CHECK(r.in.room - r.in.keep >= 4096);
        for (size_t seen = 0; seen < 10000;) {
            struct slice in = input_bytes(&r.in);

            CHECK(memcmp(in.ptr, body + seen, in.len) == 0);
            seen += in.len;
            input_take(&r.in, in.len);
            if (seen < 10000)
                CHECK(input_fill(&r.in, NEVER) > 0);
        }
        CHECK_SLICE(r.head, text);
        input_reclaim(&r.in);
        CHECK(!r.in.block);
        free(text);
        free(body);
        reading_close(&r);
    }
}

static void a_head_over_the_limit_is_not_waited_for(void *arg)
{
    char *text = long_head(MAX_HEAD + 100);
    struct reading r;

    (void)arg;
    reading_open(&r);
    say_bytes(&r.wire, text, MAX_HEAD + 50);
    CHECK_EQUAL(read_head(&r, MAX_HEAD), -EMSGSIZE);
    reading_close(&r);
    reading_open(&r);
    say_bytes(&r.wire, text, 1001);
    CHECK_EQUAL(read_head(&r, 1000), -EMSGSIZE);
    reading_close(&r);
    free(text);
}

static void a_head_that_does_not_come_says_why(void *arg)
{
    struct reading r;

    (void)arg;
    reading_open(&r);
    CHECK_EQUAL(head_read(&r.in, MAX_HEAD, in_ms(2), &r.head), -ETIMEDOUT);
    say(&r.wire, "GET");
    CHECK_EQUAL(head_read(&r.in, MAX_HEAD, in_ms(2), &r.head), -ETIMEDOUT);
    say_end(&r.wire);
    CHECK_EQUAL(read_head(&r, MAX_HEAD), -ECONNRESET);
    reading_close(&r);

    reading_open(&r);
    say(&r.wire, "\r\n\r\n");
    say_end(&r.wire);
    CHECK_EQUAL(read_head(&r, MAX_HEAD), -ENODATA);
    reading_close(&r);

    reading_open(&r);
    say(&r.wire, "\r");
    say_end(&r.wire);
    CHECK_EQUAL(read_head(&r, MAX_HEAD), -ECONNRESET);
    reading_close(&r);
}

static void a_bare_lf_ends_the_wait(void *arg)
{
    struct reading r;

    (void)arg;
    reading_open(&r);
    say(&r.wire, "GET / HTTP/1.1\nHost");
    CHECK_EQUAL(read_head(&r, MAX_HEAD), 0);
    CHECK_SLICE(r.head, "GET / HTTP/1.1\n");
    reading_close(&r);
}

/* --- writing ------------------------------------------------------------------------------------------------- */

struct writing {
    struct wire wire;
    struct http_output out;
    struct pace pace;
    struct http_field at[FIELDS_MAX];
    struct http_request request;
    struct http_response response;
};

static void writing_open(struct writing *w)
{
    wire_open(&w->wire, WIRE_BYTES);
    w->pace = (struct pace){0};
    w->out = (struct http_output){.stream = &w->wire.ours, .pace = &w->pace};
}

static void writing_close(struct writing *w)
{
    output_drop(&w->out);
    wire_close(&w->wire);
}

static const struct http1_limits limits = {.max_line = 8192, .max_head = 32768};

struct request_row {
    const char *head;
    const char *fields; /* of the head that is sent on, behind the first two lines and before what we add */
    const char *end;    /* behind what we add */
};

/* 1.1, from a peer that is not trusted. */
static const struct request_row request_rows[] = {
    {"Accept: b\r\nX-Y:c\r\nx-y:\t d \r\n", "Accept: b\r\nX-Y: c\r\nx-y: d\r\n", ""},
    {"Cookie: a=b\r\nCookie: c=d\r\n", "Cookie: a=b\r\nCookie: c=d\r\n", ""},
    {"A: b\r\nConnection: x-one, close\r\nX-One: 1\r\nB: c\r\nx-ONE: 2\r\n", "A: b\r\nB: c\r\n", ""},
    {"Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nHTTP2-Settings: x\r\nA: b\r\n", "A: b\r\n", ""},
    {"Content-Length: 010\r\n", "", "Content-Length: 10\r\n"},
    {"Content-Length: 0\r\n", "", "Content-Length: 0\r\n"},
    {"A: b\r\nTransfer-Encoding: CHUNKED\r\nTrailer: c\r\n", "A: b\r\nTrailer: c\r\n",
     "Transfer-Encoding: chunked\r\n"},
    {"TE: trailers, gzip\r\nConnection: TE\r\n", "", "TE: trailers\r\nConnection: TE\r\n"},
    {"TE: gzip\r\nConnection: TE\r\n", "", ""},
    {"Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: k\r\n",
     "Sec-WebSocket-Key: k\r\n", "Upgrade: websocket\r\nConnection: upgrade\r\n"},
    {"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x\r\n", "", ""},
    {"Upgrade: websocket\r\n", "", ""},
    {"Expect: 100-continue\r\nContent-Length: 5\r\n", "", "Content-Length: 5\r\n"},
    {"Via: 1.0 x\r\nDate: y\r\nUser-Agent: z\r\n", "Via: 1.0 x\r\nDate: y\r\nUser-Agent: z\r\n", ""},
    /* H37: what an untrusted peer says of others is not passed on. */
    {"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nX-Forwarded-Port: 1\r\n"
     "X-Forwarded-Prefix: /x\r\nX-Real-IP: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nX-Request-Id: me\r\n",
     "", ""},
};

static void put_request(struct writing *w, const char *line, const char *fields, struct head_forwarding f)
{
    char head[1024];
    struct http1_error error;

    snprintf(head, sizeof head, "%s\r\n%s\r\n", line, fields);
    w->request.fields = (struct http_fields){.at = w->at, .max = FIELDS_MAX};
    if (!CHECK_EQUAL(http1_parse_request(slice_from_text(head), &limits, &w->request, &error), 0))
        return;
    if (!f.path.ptr)
        f.path = w->request.path;
    f.request_id = SLICE("id");
    f.default_host = SLICE("server:80");
    head_put_request(&w->out, &w->request, &f);
    CHECK_EQUAL(output_flush(&w->out), 0);
}

static void only_what_is_for_the_server_is_sent_on(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < sizeof request_rows / sizeof request_rows[0]; i++) {
        const struct request_row *row = &request_rows[i];
        char expected[1024], fields[1024];
        struct writing w;

        snprintf(fields, sizeof fields, "Host: a\r\n%s", row->head);
        snprintf(expected, sizeof expected,
                 "POST /x?y HTTP/1.1\r\nHost: a\r\n%s"
                 "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n"
                 "Forwarded: for=192.0.2.1;host=\"a\";proto=http\r\nX-Request-Id: id\r\nVia: 1.1 "
                 "maitred\r\n%s\r\n",
                 row->fields, row->end);
        writing_open(&w);
        put_request(&w, "POST /x?y HTTP/1.1", fields, (struct head_forwarding){.peer = SLICE("192.0.2.1")});
        CHECK_TEXT(hear(&w.wire), expected);
        writing_close(&w);
    }
}

/* Every pattern of fields that end here among fields that go on: none of either kind is lost or doubled. */
static void fields_that_end_here_leave_their_neighbours_alone(void *arg)
{
    (void)arg;
    for (unsigned drop = 0; drop < 64; drop++) {
        char fields[512] = "", expected[512] = "POST / HTTP/1.1\r\nHost: a\r\n";
        struct writing w;

        for (unsigned i = 0; i < 6; i++) {
            char line[32];
            bool odd = i % 3 == 2; /* not written the way we write */

            if (i == 3)
                strcat(fields, "Host: a\r\n");
            snprintf(line, sizeof line, "%s:%s%u\r\n", drop >> i & 1 ? "Keep-Alive" : "X", odd ? "" : " ", i);
            strcat(fields, line);
            snprintf(line, sizeof line, "X: %u\r\n", i);
            if (!(drop >> i & 1))
                strcat(expected, line);
        }
        strcat(expected, "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n"
                         "Forwarded: for=192.0.2.1;host=\"a\";proto=http\r\nX-Request-Id: id\r\n"
                         "Via: 1.1 maitred\r\n\r\n");
        writing_open(&w);
        put_request(&w, "POST / HTTP/1.1", fields, (struct head_forwarding){.peer = SLICE("192.0.2.1")});
        CHECK_TEXT(hear(&w.wire), expected);
        writing_close(&w);
    }
}

static void a_trusted_peers_word_is_passed_on_and_added_to(void *arg)
{
    struct writing w;

    (void)arg;
    writing_open(&w);
    put_request(
        &w, "GET / HTTP/1.1",
        "Host: a\r\nX-Forwarded-For: 1.2.3.4, 5.6.7.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: "
        "9.9.9.9\r\n"
        "X-Forwarded-Host: b\r\nX-Forwarded-Port: 1\r\nX-Real-IP: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n"
        "X-Forwarded-For:\r\n",
        (struct head_forwarding){.peer = SLICE("2001:db8::1"), .peer_is_v6 = true, .trusted = true});
    CHECK_TEXT(hear(&w.wire),
               "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\n"
               "X-Forwarded-Port: 1\r\nX-Real-IP: 1.2.3.4\r\n"
               "X-Forwarded-For: 1.2.3.4, 5.6.7.8, 9.9.9.9, 2001:db8::1\r\n"
               "Forwarded: for=1.2.3.4, for=\"[2001:db8::1]\";host=\"a\";proto=http\r\n"
               "X-Request-Id: id\r\nVia: 1.1 maitred\r\n\r\n");
    writing_close(&w);
}

static void expect_goes_on_when_the_client_still_waits(void *arg)
{
    struct writing w;

    (void)arg;
    writing_open(&w);
    put_request(&w, "PUT / HTTP/1.1", "Host: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n",
                (struct head_forwarding){.peer = SLICE("192.0.2.1"), .expect_continue = true});
    CHECK(strstr(hear(&w.wire), "\r\nExpect: 100-continue\r\n") != NULL);
    writing_close(&w);
}

static bool begins_with(const char *text, const char *beginning)
{
    return strncmp(text, beginning, strlen(beginning)) == 0;
}

/* H22: one Host, that of the target; without any, the server's. */
static void host_and_path_are_what_was_decided(void *arg)
{
    const struct head_forwarding f = {.peer = SLICE("192.0.2.1")};
    const struct head_forwarding stripped = {.peer = SLICE("192.0.2.1"), .path = SLICE("/other")};
    struct writing w;

    (void)arg;
    writing_open(&w);
    put_request(&w, "GET http://b:81/x?y=z HTTP/1.1", "Host: a\r\n", f);
    CHECK(begins_with(hear(&w.wire), "GET /x?y=z HTTP/1.1\r\nHost: b:81\r\nX-F"));
    CHECK(strstr(w.wire.heard, "\r\nX-Forwarded-Host: b:81\r\n") != NULL);
    forget(&w.wire);
    put_request(&w, "GET /x? HTTP/1.0", "", f);
    CHECK(begins_with(hear(&w.wire), "GET /x? HTTP/1.1\r\nHost: server:80\r\nX-F"));
    forget(&w.wire);
    put_request(&w, "GET /x/other?y HTTP/1.1", "Host: a\r\n", stripped);
    CHECK(begins_with(hear(&w.wire), "GET /other?y HTTP/1.1\r\nHost: a\r\n"));
    writing_close(&w);
}

struct response_row {
    const char *head;
    enum http_method asked;
    struct head_answer answer;
    const char *expected;
};

#define DATED "HTTP/1.1 200 OK\r\nDate: now\r\n"

static const struct response_row response_rows[] = {
    {"HTTP/1.0 200 OK\r\nContent-Length: 05\r\nA: b\r\n\r\n",
     METHOD_GET,
     {.framing = BODY_LENGTH, .length = 5},
     "HTTP/1.1 200 OK\r\nA: b\r\nDate: now\r\nContent-Length: 5\r\n\r\n"},
    {"HTTP/1.1 200 OK\r\nDate: then\r\nTransfer-Encoding: chunked\r\n\r\n",
     METHOD_GET,
     {.framing = BODY_CHUNKED},
     "HTTP/1.1 200 OK\r\nDate: then\r\nTransfer-Encoding: chunked\r\n\r\n"},
    {"HTTP/1.1 200 OK\r\n\r\n",
     METHOD_GET,
     {.framing = BODY_UNTIL_CLOSE, .close = true},
     DATED "Connection: close\r\n\r\n"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
     METHOD_HEAD,
     {.framing = BODY_NONE, .length = 7, .length_given = true},
     DATED "Content-Length: 7\r\n\r\n"},
    {"HTTP/1.1 200 OK\r\n\r\n", METHOD_HEAD, {.framing = BODY_NONE}, DATED "\r\n"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close, x-a\r\nX-A: b\r\nKeep-Alive: 5\r\nTE: "
     "x\r\n\r\n",
     METHOD_GET,
     {.framing = BODY_LENGTH, .say_keep_alive = true},
     DATED "Content-Length: 0\r\nConnection: keep-alive\r\n\r\n"},
    {"HTTP/1.1 101 Yes\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
     METHOD_GET,
     {.framing = BODY_NONE},
     "HTTP/1.1 101 Yes\r\nDate: now\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"},
    {"HTTP/1.1 426 No\r\nUpgrade: x\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n",
     METHOD_GET,
     {.framing = BODY_LENGTH, .close = true},
     "HTTP/1.1 426 No\r\nDate: now\r\nContent-Length: 0\r\nUpgrade: x\r\nConnection: close\r\n\r\n"},
    {"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n",
     METHOD_GET,
     {.framing = BODY_LENGTH},
     DATED "Content-Length: 0\r\n\r\n"},
    {"HTTP/1.1 700\r\nSet-Cookie: a\r\nset-cookie: b\r\nA_B: c\r\nContent-Length: 0\r\n\r\n",
     METHOD_GET,
     {.framing = BODY_LENGTH},
     "HTTP/1.1 700 \r\nSet-Cookie: a\r\nset-cookie: b\r\nA_B: c\r\nDate: now\r\nContent-Length: 0\r\n\r\n"},
};

static void answers_are_written_anew(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < sizeof response_rows / sizeof response_rows[0]; i++) {
        const struct response_row *row = &response_rows[i];
        struct head_answer answer = row->answer;
        struct http1_error error;
        struct writing w;

        writing_open(&w);
        w.response.fields = (struct http_fields){.at = w.at, .max = FIELDS_MAX};
        CHECK_EQUAL(http1_parse_response(slice_from_text(row->head), row->asked, &w.response, &error), 0);
        answer.date = SLICE("now");
        head_put_response(&w.out, &w.response, &answer);
        CHECK_EQUAL(output_flush(&w.out), 0);
        CHECK_TEXT(hear(&w.wire), row->expected);
        writing_close(&w);
    }
}

static void an_interim_answer_has_neither_framing_nor_date(void *arg)
{
    struct http1_error error;
    struct writing w;

    (void)arg;
    writing_open(&w);
    w.response.fields = (struct http_fields){.at = w.at, .max = FIELDS_MAX};
    CHECK_EQUAL(http1_parse_response(SLICE("HTTP/1.1 103 Early Hints\r\nLink: x\r\nContent-Length: 5\r\n"
                                           "Connection: close\r\n\r\n"),
                                     METHOD_GET, &w.response, &error),
                0);
    head_put_interim(&w.out, &w.response);
    CHECK_EQUAL(output_flush(&w.out), 0);
    CHECK_TEXT(hear(&w.wire), "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n");
    writing_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIBER_TEST(a_head_is_taken_and_what_follows_is_left),
        FIBER_TEST(pipelined_heads_are_taken_one_by_one),
        FIBER_TEST(a_head_is_the_same_at_every_split),
        FIBER_TEST(a_head_is_the_same_byte_by_byte),
        FIBER_TEST(a_head_of_any_size_up_to_the_limit_is_read),
        FIBER_TEST(a_head_over_the_limit_is_not_waited_for),
        FIBER_TEST(a_head_that_does_not_come_says_why),
        FIBER_TEST(a_bare_lf_ends_the_wait),
        FIBER_TEST(only_what_is_for_the_server_is_sent_on),
        FIBER_TEST(fields_that_end_here_leave_their_neighbours_alone),
        FIBER_TEST(a_trusted_peers_word_is_passed_on_and_added_to),
        FIBER_TEST(expect_goes_on_when_the_client_still_waits),
        FIBER_TEST(host_and_path_are_what_was_decided),
        FIBER_TEST(answers_are_written_anew),
        FIBER_TEST(an_interim_answer_has_neither_framing_nor_date),
    };

    kit_watchdog(50);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
