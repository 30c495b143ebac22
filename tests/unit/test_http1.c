/* test_http1.c - wire/http1.h: heads that are understood, with every value looked at; heads and chunked bodies
 * that must be refused, by the rows (H01 and so on) of the checklist of attacks. Every input is an exact-size
 * copy on the heap, so that a look one byte too far is seen. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "wire/http1.h"

#define FIELDS_MAX 8
#define MAX_LINE 64
#define MAX_HEAD 512

#define TEXT(literal)                \
    {                                \
        literal, sizeof(literal) - 1 \
    }
#define N(table) (sizeof(table) / sizeof(table)[0])
#define X10 "xxxxxxxxxx"
#define X50 X10 X10 X10 X10 X10

static const struct http1_limits limits = {.max_line = MAX_LINE, .max_head = MAX_HEAD};

/* The caller frees its ptr. */
static struct slice heap_copy(struct slice s)
{
    char *copy = malloc(s.len);

    assert_true(copy || !s.len);
    if (s.len)
        memcpy(copy, s.ptr, s.len);
    return slice_of(copy, s.len);
}

static void heap_free(struct slice s)
{
    free((char *)(uintptr_t)s.ptr);
}

/* NULL in expected: nothing there, not even an empty one. */
static void assert_text(struct slice s, const char *expected, const char *head)
{
    bool same = expected ? s.ptr && slice_equal(s, slice_from_text(expected)) : !s.ptr;

    if (!same)
        fail_msg("'%.*s' is not '%s' in: %s", SLICE_ARG(s), expected ? expected : "(none)", head);
}

/* A parser under test with the room for its fields. */
struct parsed {
    struct slice head;
    struct http_field fields[FIELDS_MAX];
    struct http_request request;
    struct http_response response;
    struct http1_error error;
    int result;
};

static void parse_request(struct parsed *p, struct slice head)
{
    *p = (struct parsed){.head = heap_copy(head)};
    p->request.fields = (struct http_fields){.at = p->fields, .max = FIELDS_MAX};
    p->result = http1_parse_request(p->head, &limits, &p->request, &p->error);
}

static void parse_response(struct parsed *p, struct slice head, enum http_method asked)
{
    *p = (struct parsed){.head = heap_copy(head)};
    p->response.fields = (struct http_fields){.at = p->fields, .max = FIELDS_MAX};
    p->result = http1_parse_response(p->head, asked, &p->response, &p->error);
}

static void parsed_free(struct parsed *p)
{
    heap_free(p->head);
}

/* --- the end of a head ---------------------------------------------------------------------------------- */

struct end_case {
    struct slice bytes;
    size_t end;
};

static const struct end_case ends[] = {
    {TEXT("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 27},
    {TEXT("GET / HTTP/1.1\r\nHost: a\r\n\r\nbody"), 27},
    {TEXT("GET / HTTP/1.1\r\n\r\n\r\n"), 18},
    {TEXT("\r\n\r\n"), 4},
    {TEXT("a\r\n\r\n\r\n"), 5},
    {TEXT("a\r\nb\r\n\r\n"), 8},
    {TEXT("a\r\rb\r\r\r\n\r\n"), 10},
    /* A bare LF ends it too, for the parser to refuse. */
    {TEXT("\n"), 1},
    {TEXT("a\n"), 2},
    {TEXT("a\nb\r\n\r\n"), 2},
    {TEXT("a\r\n\n"), 4},
    {TEXT("a\r\nb\n\r\n"), 5},
    {TEXT("a\r\n\rb\n"), 6},
};

static size_t head_end(struct slice bytes, size_t *scanned)
{
    struct slice copy = heap_copy(bytes);
    size_t end = http1_head_end(copy.ptr, copy.len, scanned);

    heap_free(copy);
    return end;
}

static void a_head_ends_at_its_empty_line_or_at_a_bare_lf(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(ends); i++) {
        size_t scanned = 0;

        assert_int_equal(head_end(ends[i].bytes, &scanned), ends[i].end);
    }
}

static void every_prefix_of_a_head_wants_more(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(ends); i++)
        for (size_t n = 0; n < ends[i].end; n++) {
            size_t scanned = 0;

            assert_int_equal(head_end(slice_of(ends[i].bytes.ptr, n), &scanned), 0);
            assert_true(scanned <= n);
        }
}

static void a_head_is_found_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(ends); i++)
        for (size_t n = 0; n < ends[i].end; n++)
            for (size_t m = n; m < ends[i].end; m++) {
                size_t scanned = 0;

                assert_int_equal(head_end(slice_of(ends[i].bytes.ptr, n), &scanned), 0);
                assert_int_equal(head_end(slice_of(ends[i].bytes.ptr, m), &scanned), 0);
                assert_int_equal(head_end(ends[i].bytes, &scanned), ends[i].end);
            }
}

/* All but the last line break's two bytes are done with. */
static void what_was_scanned_is_not_scanned_again(void **state)
{
    struct slice head = SLICE("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\rz\r\n\r\n");
    size_t scanned = 0;

    (void)state;
    for (size_t n = 0; n < head.len; n++) {
        size_t before = scanned;

        assert_int_equal(head_end(slice_of(head.ptr, n), &scanned), 0);
        assert_true(scanned >= before);
        assert_true(scanned + 2 >= n);
    }
}

/* --- requests that are understood ----------------------------------------------------------------------- */

/* What was understood, in words: method, authority, path, query ('-': none), version, fields, flags, body. */
struct good_request {
    const char *head, *meaning;
};

#define HOST_A "Host: a\r\n"
#define GET_A "GET / HTTP/1.1\r\n" HOST_A
#define POST_A "POST / HTTP/1.1\r\n" HOST_A

static const struct good_request good_requests[] = {
    {GET_A "\r\n", "GET a / - 1.1 fields=1 plain keep none"},
    {"GET /a/b?c=d?e HTTP/1.1\r\nhOST:\t a.b:80 \t\r\n\r\n",
     "GET a.b:80 /a/b ?c=d?e 1.1 fields=1 plain keep none"},
    {"HEAD /? HTTP/1.1\r\n" HOST_A "Connection: close\r\n\r\n", "HEAD a / ? 1.1 fields=2 plain none"},
    {POST_A "Content-Length: 0\r\n\r\n", "POST a / - 1.1 fields=2 plain keep length=0"},
    {POST_A "Transfer-Encoding: \tCHUNKED \r\n\r\n", "POST a / - 1.1 fields=2 plain keep chunked"},
    {POST_A "Content-Length: 9223372036854775807\r\n\r\n",
     "POST a / - 1.1 fields=2 plain keep length=9223372036854775807"},
    /* H05: decimal, whatever it begins with. */
    {POST_A "Content-Length: 010\r\n\r\n", "POST a / - 1.1 fields=2 plain keep length=10"},
    /* H20: left out, and not counted. */
    {"GET / HTTP/1.1\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\n" HOST_A "X_Real_IP: 1\r\n\r\n",
     "GET a / - 1.1 fields=1 plain keep none"},
    /* H22: the target's host is the one that counts. */
    {"GET http://b:8080/x?y HTTP/1.1\r\n" HOST_A "\r\n", "GET b:8080 /x ?y 1.1 fields=1 plain keep none"},
    {"GET http://b?y HTTP/1.1\r\n" HOST_A "\r\n", "GET b / ?y 1.1 fields=1 plain keep none"},
    {"GET HTTPS://[::1]:443 HTTP/1.1\r\n" HOST_A "\r\n", "GET [::1]:443 / - 1.1 fields=1 plain keep none"},
    {"GET / HTTP/1.1\r\nHost: [2001:db8::1]\r\n\r\n", "GET [2001:db8::1] / - 1.1 fields=1 plain keep none"},
    {"GET / HTTP/1.1\r\nHost: a:\r\n\r\n", "GET a: / - 1.1 fields=1 plain keep none"},
    {"OPTIONS * HTTP/1.1\r\n" HOST_A "\r\n", "OPTIONS a * - 1.1 fields=1 plain keep none"},
    /* Every byte that a target may hold. */
    {"GET /%20!$&'()*+,-.0:;<=>@[]^_`{|}~\" HTTP/1.1\r\n" HOST_A "\r\n",
     "GET a /%20!$&'()*+,-.0:;<=>@[]^_`{|}~\" - 1.1 fields=1 keep none"},
    /* H24: what calls itself 1.2 promises to be like 1.1. */
    {"GET / HTTP/1.2\r\n" HOST_A "\r\n", "GET a / - 1.1 fields=1 plain keep none"},
    {"GET / HTTP/1.9\r\n" HOST_A "\r\n", "GET a / - 1.1 fields=1 plain keep none"},
    {"GET / HTTP/1.0\r\n\r\n", "GET - / - 1.0 fields=0 plain none"},
    {"GET / HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n", "GET - / - 1.0 fields=1 plain keep none"},
    {"GET / HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n",
     "GET - / - 1.0 fields=2 plain none"},
    {GET_A "Connection: a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,,close,,a\r\n\r\n",
     "GET a / - 1.1 fields=2 plain none"},
    {GET_A "Connection:, keep-alive,,\tclose ,\r\n\r\n", "GET a / - 1.1 fields=2 plain none"},
    {GET_A "TE: gzip;q=1, Trailers\r\nConnection: TE\r\n\r\n",
     "GET a / - 1.1 fields=3 plain keep trailers none"},
    /* H28: never h2c; no body under an upgrade, but an empty one is none. */
    {GET_A "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
     "GET a / - 1.1 fields=3 plain keep upgrade=websocket none"},
    {GET_A "Upgrade: H2C\r\nConnection: upgrade\r\n\r\n", "GET a / - 1.1 fields=3 plain keep none"},
    {GET_A "Upgrade: websocket, h2c\r\nConnection: upgrade\r\n\r\n",
     "GET a / - 1.1 fields=3 plain keep upgrade=websocket none"},
    {GET_A "Upgrade: h2c, a, b, H2C\r\nConnection: upgrade\r\n\r\n",
     "GET a / - 1.1 fields=3 plain keep upgrade=a, b none"},
    {GET_A "Upgrade: ,a, ,h2c\r\nConnection: upgrade\r\n\r\n",
     "GET a / - 1.1 fields=3 plain keep upgrade=a none"},
    {GET_A "Upgrade: a, h2c, b\r\nConnection: upgrade\r\n\r\n", "GET a / - 1.1 fields=3 plain keep none"},
    {POST_A "Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\n",
     "POST a / - 1.1 fields=4 plain keep length=5"},
    {GET_A "Upgrade: x\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n",
     "GET a / - 1.1 fields=4 plain keep upgrade=x length=0"},
    /* Without Connection to say so, and in 1.0, it is not asked for. */
    {GET_A "Upgrade: websocket\r\n\r\n", "GET a / - 1.1 fields=2 plain keep none"},
    {"GET / HTTP/1.0\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
     "GET - / - 1.0 fields=2 plain none"},
    /* H30: only a client of 1.1 waits for leave. */
    {POST_A "Expect: 100-Continue\r\nContent-Length: 5\r\n\r\n",
     "POST a / - 1.1 fields=3 plain keep expect length=5"},
    {"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
     "POST - / - 1.0 fields=2 plain length=5"},
    /* H31: a body is framed as declared, whatever the method. */
    {GET_A "Content-Length: 5\r\n\r\n", "GET a / - 1.1 fields=2 plain keep length=5"},
    {"HEAD / HTTP/1.1\r\n" HOST_A "Transfer-Encoding: chunked\r\n\r\n",
     "HEAD a / - 1.1 fields=2 plain keep chunked"},
    {"DELETE / HTTP/1.1\r\n" HOST_A "Content-Length: 5\r\n\r\n",
     "DELETE a / - 1.1 fields=2 plain keep length=5"},
    {"OPTIONS * HTTP/1.1\r\n" HOST_A "Content-Length: 5\r\n\r\n",
     "OPTIONS a * - 1.1 fields=2 plain keep length=5"},
};

static void add_body(FILE *out, const struct http_body *body)
{
    switch (body->kind) {
    case BODY_NONE:
        fputs(" none", out);
        break;
    case BODY_LENGTH:
        fprintf(out, " length=%ju", (uintmax_t)body->length);
        break;
    case BODY_CHUNKED:
        fputs(" chunked", out);
        break;
    case BODY_UNTIL_CLOSE:
        fputs(" until-close", out);
        break;
    }
}

static void describe_request(char text[256], const struct http_request *r)
{
    FILE *out = fmemopen(text, 256, "w");

    fprintf(out, "%.*s %.*s %.*s ", SLICE_ARG(r->method),
            SLICE_ARG(r->authority.len ? r->authority : SLICE("-")), SLICE_ARG(r->path));
    if (r->query.ptr)
        fprintf(out, "?%.*s", SLICE_ARG(r->query));
    else
        fputs("-", out);
    fprintf(out, " 1.%u fields=%u%s%s%s%s", r->minor, r->fields.count, r->path_is_plain ? " plain" : "",
            r->keep_alive ? " keep" : "", r->expect_continue ? " expect" : "",
            r->te_trailers ? " trailers" : "");
    if (r->upgrade.len)
        fprintf(out, " upgrade=%.*s", SLICE_ARG(r->upgrade));
    add_body(out, &r->body);
    fclose(out);
}

static void good_requests_are_understood(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(good_requests); i++) {
        char meaning[256];
        struct parsed p;

        parse_request(&p, slice_from_text(good_requests[i].head));
        if (p.result)
            fail_msg("refused (%u %s): %s", p.error.status, p.error.why, good_requests[i].head);
        describe_request(meaning, &p.request);
        assert_string_equal(meaning, good_requests[i].meaning);
        parsed_free(&p);
    }
}

static void methods_are_told_apart_by_case(void **state)
{
    static const struct {
        const char *name;
        enum http_method id;
    } methods[] = {
        {"GET", METHOD_GET},     {"HEAD", METHOD_HEAD},     {"POST", METHOD_POST},
        {"PUT", METHOD_PUT},     {"DELETE", METHOD_DELETE}, {"OPTIONS", METHOD_OPTIONS},
        {"TRACE", METHOD_TRACE}, {"PATCH", METHOD_PATCH},   {"get", METHOD_OTHER},
        {"GETS", METHOD_OTHER},  {"GE", METHOD_OTHER},      {"M-SEARCH!", METHOD_OTHER},
    };

    (void)state;
    for (size_t i = 0; i < N(methods); i++) {
        char head[64];
        struct parsed p;

        snprintf(head, sizeof head, "%s / HTTP/1.0\r\n\r\n", methods[i].name);
        parse_request(&p, slice_from_text(head));
        assert_int_equal(p.result, 0);
        assert_int_equal(p.request.method_id, methods[i].id);
        assert_text(p.request.method, methods[i].name, head);
        parsed_free(&p);
    }
}

static void a_prefix_of_a_request_is_no_request(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(good_requests); i++) {
        struct slice head = slice_from_text(good_requests[i].head);

        for (size_t n = 0; n < head.len; n++) {
            struct parsed p;
            size_t scanned = 0;

            assert_int_equal(head_end(slice_of(head.ptr, n), &scanned), 0);
            parse_request(&p, slice_of(head.ptr, n));
            assert_int_equal(p.result, -EBADMSG);
            parsed_free(&p);
        }
    }
}

/* --- requests that are refused -------------------------------------------------------------------------- */

struct refused {
    const char *row; /* of the checklist */
    struct slice head;
    unsigned status;
    const char *why;
};

#define GET(fields) TEXT("GET / HTTP/1.1\r\n" HOST_A fields "\r\n")
#define LINE(line) TEXT(line "\r\n" HOST_A "\r\n")
#define TARGET_OF(target) LINE("GET " target " HTTP/1.1")

#define BOTH "both Content-Length and Transfer-Encoding"
#define TWO_LENGTHS "more than one Content-Length"
#define NO_NUMBER "a Content-Length that is no plain number"
#define NO_FRAME "a Transfer-Encoding that frames no body"
#define OTHER_CODING "a transfer coding other than chunked"
#define NO_COLON "a field line without a proper name and colon"
#define FOLDED "a folded or indented field line"
#define CONTROL "a control byte in a field value"
#define NO_CRLF "a field line that does not end in CR LF"
#define NO_LINE_CRLF "a request line that does not end in CR LF"
#define NO_VERSION "a request line that does not end in an HTTP version"
#define NO_METHOD "a request line without a method"
#define NOT_THREE "a request line that is not method, target and version"
#define BAD_HOST "a Host that is no host"
#define BAD_BYTE "a byte that must not stand in a request target"
#define NO_PATH "a request target that is no path"
#define BAD_AUTHORITY "a request target with a bad authority"
#define DOTS "a dot segment in the path"
#define ESCAPE "a broken percent escape in the path"
#define NUL_OR_OVERLONG "an escaped NUL or overlong UTF-8 in the path"
#define X33_NAMES "a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a"
#define PROTECTED "Connection names a field that must not be dropped"

static const struct refused refused_requests[] = {
    {"H01", GET("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400, BOTH},
    {"H01", GET("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"), 400, BOTH},
    {"H01", GET("transfer-encoding: Chunked\r\nX: y\r\ncontent-length: 5\r\n"), 400, BOTH},
    {"H02", GET("Content-Length: 5\r\nContent-Length: 6\r\n"), 400, TWO_LENGTHS},
    {"H02", GET("Content-Length: 5, 6\r\n"), 400, NO_NUMBER},
    {"H03", GET("Content-Length: 5\r\nX: y\r\ncontent-LENGTH: 5\r\n"), 400, TWO_LENGTHS},
    {"H03", GET("Content-Length: 5, 5\r\n"), 400, NO_NUMBER},
    {"H04", GET("Content-Length: +5\r\n"), 400, NO_NUMBER},
    {"H04", GET("Content-Length: -1\r\n"), 400, NO_NUMBER},
    {"H04", GET("Content-Length: -0\r\n"), 400, NO_NUMBER},
    {"H04", GET("Content-Length: 0x5\r\n"), 400, NO_NUMBER},
    {"H04", GET("Content-Length: 1_0\r\n"), 400, NO_NUMBER},
    {"H04", GET("Content-Length: 1 0\r\n"), 400, NO_NUMBER},
    {"H04", GET("Content-Length: 5.0\r\n"), 400, NO_NUMBER},
    {"H04", GET("Content-Length: 5,\r\n"), 400, NO_NUMBER},
    {"H04", GET("Content-Length: \xb2\r\n"), 400, NO_NUMBER},
    {"H04", GET("Content-Length:\r\n"), 400, NO_NUMBER},
    {"H04", GET("Content-Length: \t\r\n"), 400, NO_NUMBER},
    {"H04", GET("Content-Length: 9223372036854775808\r\n"), 400, NO_NUMBER},
    {"H04", GET("Content-Length: 18446744073709551621\r\n"), 400, NO_NUMBER},
    {"H04", GET("Content-Length: 99999999999999999999999999\r\n"), 400, NO_NUMBER},
    {"H06", GET("Transfer-Encoding: gzip\r\n"), 501, OTHER_CODING},
    {"H06", GET("Transfer-Encoding: identity\r\n"), 501, OTHER_CODING},
    {"H06", GET("Transfer-Encoding: xchunked\r\n"), 501, OTHER_CODING},
    {"H06", GET("Transfer-Encoding: chunkedx\r\n"), 501, OTHER_CODING},
    {"H06", GET("Transfer-Encoding: gzip, chunked\r\n"), 501, OTHER_CODING},
    {"H06", GET("Transfer-Encoding: chunked, gzip\r\n"), 400, NO_FRAME},
    {"H07", GET("Transfer-Encoding: ,chunked\r\n"), 400, NO_FRAME},
    {"H07", GET("Transfer-Encoding: chunked,\r\n"), 400, NO_FRAME},
    {"H07", GET("Transfer-Encoding: chunked, chunked\r\n"), 400, NO_FRAME},
    {"H07", GET("Transfer-Encoding:\r\n"), 400, NO_FRAME},
    {"H07", GET("Transfer-Encoding: \"chunked\"\r\n"), 400, NO_FRAME},
    {"H07", GET("Transfer-Encoding: chunked;a=b\r\n"), 400, NO_FRAME},
    {"H07", GET("Transfer-Encoding: chun ked\r\n"), 400, NO_FRAME},
    {"H07", GET("Transfer-Encoding: chunked\xa0\r\n"), 400, NO_FRAME},
    {"H07", GET("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400,
     "more than one Transfer-Encoding"},
    {"H07", GET("Transfer-Encoding: \013chunked\r\n"), 400, CONTROL},
    {"H07", GET("Transfer-Encoding: chunked\014\r\n"), 400, CONTROL},
    {"H07", GET("Transfer-Encoding: chunked\0\r\n"), 400, CONTROL},
    {"H08", GET("Transfer-Encoding : chunked\r\n"), 400, NO_COLON},
    {"H08", GET("Content-Length\t: 5\r\n"), 400, NO_COLON},
    {"H08", GET("X : y\r\n"), 400, NO_COLON},
    {"H08", TEXT("GET / HTTP/1.1\r\nHost : a\r\n\r\n"), 400, NO_COLON},
    {"H09", TEXT("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400,
     "Transfer-Encoding in HTTP/1.0"},
    {"H10", GET("X: y\r\n z\r\n"), 400, FOLDED},
    {"H10", GET("X:\r\n\ty\r\n"), 400, FOLDED},
    {"H10", GET("X: y\r\n \r\n"), 400, FOLDED},
    {"H11", TEXT("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), 400, FOLDED},
    {"H11", TEXT("GET / HTTP/1.1\r\n\tX: y\r\nHost: a\r\n\r\n"), 400, FOLDED},
    {"H12", TEXT("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"), 400, NO_VERSION},
    {"H12", TEXT("GET /\r HTTP/1.1\r\nHost: a\r\n\r\n"), 400, BAD_BYTE},
    {"H12", TEXT("GET\r/ HTTP/1.1\r\nHost: a\r\n\r\n"), 400, NO_METHOD},
    {"H12", GET("X: y\rz\r\n"), 400, CONTROL},
    {"H12", GET("X: y\r\r\n"), 400, CONTROL},
    {"H12", GET("X\r: y\r\n"), 400, NO_COLON},
    {"H12", GET("\rX: y\r\n"), 400, NO_COLON},
    {"H12", GET("\r\r\n"), 400, NO_COLON},
    {"H12", TEXT("GET / HTTP/1.1\rX: y\r\nHost: a\r\n\r\n"), 400, NO_VERSION},
    {"H13", TEXT("GET / HTTP/1.1\nHost: a\r\n\r\n"), 400, NO_LINE_CRLF},
    {"H13", TEXT("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), 400, NO_LINE_CRLF},
    {"H13", TEXT("GET / HTTP/1.1\r\nHost: a\n\r\n"), 400, NO_CRLF},
    {"H13", TEXT("GET / HTTP/1.1\r\nHost: a\r\n\n"), 400, NO_CRLF},
    {"H19", GET("X\r\n"), 400, NO_COLON},
    {"H19", GET(": y\r\n"), 400, NO_COLON},
    {"H19", GET("X\x80: y\r\n"), 400, NO_COLON},
    {"H19", GET("X(y): z\r\n"), 400, NO_COLON},
    {"H19", GET("X\0: y\r\n"), 400, NO_COLON},
    {"H19", GET("X: y\0z\r\n"), 400, CONTROL},
    {"H19", GET("X: \1\r\n"), 400, CONTROL},
    {"H19", GET("X: y\x7f\r\n"), 400, CONTROL},
    {"H19", GET("X: 1234567\x1f\r\n"), 400, CONTROL},
    {"H19", GET("X: 12345678\x7f\r\n"), 400, CONTROL},
    {"H19", GET("X: \xff\xff\xff\xff\xff\xff\xff\x02\r\n"), 400, CONTROL},
    {"H19", GET("X: 1\t2\t3\t4\x02\r\n"), 400, CONTROL},
    {"H21", TEXT("GET / HTTP/1.1\r\n\r\n"), 400, "no Host"},
    {"H21", TEXT("GET http://a/ HTTP/1.1\r\n\r\n"), 400, "no Host"},
    {"H21", GET("Host: a\r\n"), 400, "more than one Host"},
    {"H21", TEXT("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n"), 400, "more than one Host"},
    {"H21", TEXT("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 400, BAD_HOST},
    {"H21", TEXT("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"), 400, BAD_HOST},
    {"H21", TEXT("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), 400, BAD_HOST},
    {"H21", TEXT("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400, BAD_HOST},
    {"H21", TEXT("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"), 400, BAD_HOST},
    {"H21", TEXT("GET / HTTP/1.1\r\nHost: a?b\r\n\r\n"), 400, BAD_HOST},
    {"H21", TEXT("GET / HTTP/1.1\r\nHost: a#b\r\n\r\n"), 400, BAD_HOST},
    {"H21", TEXT("GET / HTTP/1.1\r\nHost: :80\r\n\r\n"), 400, BAD_HOST},
    {"H21", TEXT("GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n"), 400, BAD_HOST},
    {"H21", TEXT("GET / HTTP/1.1\r\nHost: a:123456\r\n\r\n"), 400, BAD_HOST},
    {"H21", TEXT("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"), 400, BAD_HOST},
    {"H21", TEXT("GET / HTTP/1.1\r\nHost: [a\r\n\r\n"), 400, BAD_HOST},
    {"H21", TEXT("GET / HTTP/1.1\r\nHost: []\r\n\r\n"), 400, BAD_HOST},
    {"H21", TEXT("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n"), 400, BAD_HOST},
    {"H21", TEXT("GET / HTTP/1.1\r\nHost: [g::]\r\n\r\n"), 400, BAD_HOST},
    {"H21", TEXT("GET / HTTP/1.1\r\nHost: [\r\n\r\n"), 400, BAD_HOST},
    {"H22", TARGET_OF("http://a,b/"), 400, BAD_AUTHORITY},
    {"H22", TARGET_OF("http://u@a/"), 400, BAD_AUTHORITY},
    {"H22", TARGET_OF("http:///x"), 400, BAD_AUTHORITY},
    {"H22", TEXT("GET http://a/ HTTP/1.1\r\nHost: b/c\r\n\r\n"), 400, BAD_HOST},
    {"H23", TARGET_OF("*"), 400, "the target * is for OPTIONS alone"},
    {"H23", LINE("OPTIONS ** HTTP/1.1"), 400, NO_PATH},
    {"H23", TARGET_OF("a:80"), 400, NO_PATH},
    {"H23", TARGET_OF("ftp://a/"), 400, NO_PATH},
    {"H23", TARGET_OF("x"), 400, NO_PATH},
    {"H23", TARGET_OF("/a#b"), 400, BAD_BYTE},
    {"H23", TARGET_OF("/?a#b"), 400, BAD_BYTE},
    {"H23", TARGET_OF("/a b"), 400, NO_VERSION},
    {"H23", TARGET_OF("/\x80"), 400, BAD_BYTE},
    {"H23", TARGET_OF("/\1"), 400, BAD_BYTE},
    {"H23", TARGET_OF("/\0"), 400, BAD_BYTE},
    {"H23", TARGET_OF("/?\x7f"), 400, BAD_BYTE},
    {"H23", TARGET_OF("/\t"), 400, BAD_BYTE},
    {"H23", LINE("CONNECT a:80 HTTP/1.1"), 405, "CONNECT is not served"},
    {"H23", LINE("CONNECT / HTTP/1.1"), 405, "CONNECT is not served"},
    {"H24", LINE("GET / HTTP/2.0"), 505, "an HTTP version other than 1"},
    {"H24", LINE("GET / HTTP/9.9"), 505, "an HTTP version other than 1"},
    {"H24", LINE("GET / HTTP/0.9"), 505, "an HTTP version other than 1"},
    {"H24", LINE("GET / HTTP/1"), 400, NO_VERSION},
    {"H24", LINE("GET / http/1.1"), 400, NO_VERSION},
    {"H24", LINE("GET / HTTP/01.1"), 400, NO_VERSION},
    {"H24", LINE("GET / HTTP/1.10"), 400, NO_VERSION},
    {"H24", LINE("GET / HTTP/1,1"), 400, NO_VERSION},
    {"H24", LINE("GET / HTTP/1.x"), 400, NO_VERSION},
    {"H24", LINE("GET / HTTP/1.1 "), 400, NO_VERSION},
    {"H24", LINE("GET /  HTTP/1.1"), 400, NO_VERSION},
    {"H24", LINE("GET /"), 400, NOT_THREE},
    {"H24", LINE("GET / "), 400, NO_VERSION},
    {"H24", LINE("GET  / HTTP/1.1"), 400, NOT_THREE},
    {"H24", LINE("GET"), 400, NO_METHOD},
    {"H24", LINE(" GET / HTTP/1.1"), 400, NO_METHOD},
    {"H24", LINE("G(T / HTTP/1.1"), 400, NO_METHOD},
    {"H24", TEXT("\r\n\r\n"), 400, NO_METHOD},
    {"H25", TARGET_OF("/" X50 "x"), 414, "a request line over max-line"},
    {"H25", GET("X: " X50 X50 X50 X50 X50 X50 X50 X50 X50 X50 "\r\n"), 431, "a head over max-head"},
    {"H25", GET("1: 1\r\n2: 2\r\n3: 3\r\n4: 4\r\n5: 5\r\n6: 6\r\n7: 7\r\n8: 8\r\n"), 431, "too many fields"},
    {"H28", GET("Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 5\r\n"), 400,
     "an Upgrade with a body"},
    {"H28", GET("Upgrade: websocket\r\nConnection: upgrade\r\nTransfer-Encoding: chunked\r\n"), 400,
     "an Upgrade with a body"},
    {"H28", GET("Upgrade: websocket\r\nUpgrade: h2c\r\nConnection: upgrade\r\n"), 400,
     "more than one Upgrade"},
    {"H29", GET("Connection: Host\r\n"), 400, PROTECTED},
    {"H29", GET("Connection: close, Content-Length\r\n"), 400, PROTECTED},
    {"H29", GET("Connection: close\r\nConnection: x, transfer-ENCODING\r\n"), 400, PROTECTED},
    {"H29", GET("Connection: Cookie\r\n"), 400, PROTECTED},
    {"H29", GET("Connection: Forwarded\r\n"), 400, PROTECTED},
    {"H29", GET("Connection: X-Forwarded-For\r\n"), 400, PROTECTED},
    {"H29", GET("Connection: X-Forwarded-Host\r\n"), 400, PROTECTED},
    {"H29", GET("Connection: X-Forwarded-Proto\r\n"), 400, PROTECTED},
    {"H29", GET("Connection: X-Forwarded-Port\r\n"), 400, PROTECTED},
    {"H29", GET("Connection: X-Request-Id\r\n"), 400, PROTECTED},
    {"H29", GET("Connection: keep-alive,,Authorization ,\r\n"), 400, PROTECTED},
    {"H29", GET("Connection: " X33_NAMES "\r\n"), 400, "Connection names too many fields"},
    {"H30", GET("Expect: 200-ok\r\n"), 417, "an expectation other than 100-continue"},
    {"H30", GET("Expect: 100-continue, x\r\n"), 417, "an expectation other than 100-continue"},
    {"H30", GET("Expect:\r\n"), 417, "an expectation other than 100-continue"},
    {"H36", TARGET_OF("/.."), 400, DOTS},
    {"H36", TARGET_OF("/a/./b"), 400, DOTS},
    {"H36", TARGET_OF("/a/../b"), 400, DOTS},
    {"H36", TARGET_OF("/a/.?b"), 400, DOTS},
    {"H36", TARGET_OF("/%2e%2e/a"), 400, DOTS},
    {"H36", TARGET_OF("/a/%2E./b"), 400, DOTS},
    {"H36", TARGET_OF("/a%2f..%2fb"), 400, DOTS},
    {"H36", TARGET_OF("/a%5c..%5cb"), 400, DOTS},
    {"H36", TARGET_OF("http://a/x/.."), 400, DOTS},
    {"H36", TARGET_OF("/a\\b"), 400, "a backslash in the path"},
    {"H36", TARGET_OF("/%00"), 400, NUL_OR_OVERLONG},
    {"H36", TARGET_OF("/%c0%ae"), 400, NUL_OR_OVERLONG},
    {"H36", TARGET_OF("/%C1%9C"), 400, NUL_OR_OVERLONG},
    {"H36", TARGET_OF("/%e0%80%af"), 400, NUL_OR_OVERLONG},
    {"H36", TARGET_OF("/%f0%80%80%af"), 400, NUL_OR_OVERLONG},
    {"H36", TARGET_OF("/%"), 400, ESCAPE},
    {"H36", TARGET_OF("/%4"), 400, ESCAPE},
    {"H36", TARGET_OF("/%4g"), 400, ESCAPE},
    {"H36", TARGET_OF("/%x0"), 400, ESCAPE},
    {"H36", TARGET_OF("/%u002e"), 400, ESCAPE},
    {"", TEXT("GET / HTTP/1.1\r\nHost: a\r\n\r\nX: y\r\n\r\n"), 400, "bytes after the end of the head"},
    {"", TEXT(""), 400, NO_LINE_CRLF},
};

static void check_refused(const struct refused *refused)
{
    struct parsed p;

    parse_request(&p, refused->head);
    if (p.result != -EBADMSG)
        fail_msg("%s: taken (%d): %.*s", refused->row, p.result, SLICE_ARG(refused->head));
    if (p.error.status != refused->status || strcmp(p.error.why, refused->why) != 0)
        fail_msg("%s: %u %s instead of %u %s: %.*s", refused->row, p.error.status, p.error.why,
                 refused->status, refused->why, SLICE_ARG(refused->head));
    parsed_free(&p);
}

static void what_is_ambiguous_or_malformed_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(refused_requests); i++)
        check_refused(&refused_requests[i]);
}

static void a_prefix_of_a_refused_request_is_no_request(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(refused_requests); i++)
        for (size_t n = 0; n < refused_requests[i].head.len; n++) {
            struct slice head = slice_of(refused_requests[i].head.ptr, n);
            size_t scanned = 0;
            struct parsed p;

            if (head_end(head, &scanned))
                break; /* a whole head stands before what is wrong with this row */
            parse_request(&p, head);
            assert_int_equal(p.result, -EBADMSG);
            parsed_free(&p);
        }
}

/* A control byte in place of any other; but a tab, which is blank around and inside of values. */
static void no_control_byte_stands_anywhere_in_a_head(void **state)
{
    static const char head[] = "GET /a?b HTTP/1.1\r\nHost: b\r\nX-Y: z\r\n\r\n";
    char changed[sizeof head];

    (void)state;
    for (size_t at = 0; at < sizeof head - 1; at++)
        for (int c = 0; c <= 0x7f; c = c == 0x1f ? 0x7f : c + 1) {
            struct parsed p;

            memcpy(changed, head, sizeof head);
            changed[at] = (char)c;
            parse_request(&p, slice_of(changed, sizeof head - 1));
            if (c != '\t' && c != head[at] && p.result == 0)
                fail_msg("byte %d at %zu is taken", c, at);
            parsed_free(&p);
        }
}

static void every_byte_but_controls_may_stand_in_a_value_wherever_it_stands(void **state)
{
    char head[64];

    (void)state;
    for (int before = 0; before < 17; before++)
        for (int c = 0; c < 256; c++) {
            struct parsed p;
            bool control = (c < 0x20 && c != '\t') || c == 0x7f;
            int n = snprintf(head, sizeof head, "GET / HTTP/1.0\r\nX: %.*s?\xff~\r\n\r\n", before, X10 X10);

            head[n - 7] = (char)c;
            parse_request(&p, slice_of(head, (size_t)n));
            assert_int_equal(p.result, control ? -EBADMSG : 0);
            parsed_free(&p);
        }
}

/* --- paths ---------------------------------------------------------------------------------------------- */

struct path_case {
    const char *path;
    bool plain;
};

/* H36: what is left is passed on as it came; path_is_plain only where bytes are their meaning. */
static const struct path_case paths[] = {
    {"/", true},
    {"/a/b/", true},
    {"/a.b..c/..d../e.", false},
    {"/a..", true},
    {"/.hidden", false},
    {"/...", false},
    {"//", false},
    {"/a//b", false},
    {"/%41", false},
    {"/a%2fb", false},
    {"/%252e%252e/", false},
    {"/%0d%0a", false},
    {"/%c3%a9", false},
    {"/%5c", false},
    {"/%e0%a0%80", false},
    {"/%f0%90%80%80", false},
    {"/%c0", false},
    {"/%ff", false},
    {"/..a", false},
    {"/a:b@c", true},
};

static void paths_are_taken_as_sent(void **state)
{
    char head[128];

    (void)state;
    for (size_t i = 0; i < N(paths); i++) {
        struct parsed p;

        snprintf(head, sizeof head, "GET %s HTTP/1.0\r\n\r\n", paths[i].path);
        parse_request(&p, slice_from_text(head));
        assert_int_equal(p.result, 0);
        assert_text(p.request.path, paths[i].path, head);
        if (p.request.path_is_plain != paths[i].plain)
            fail_msg("plain is %d: %s", p.request.path_is_plain, paths[i].path);
        parsed_free(&p);
    }
}

/* --- fields --------------------------------------------------------------------------------------------- */

struct name_case {
    const char *name;
    enum http_field_id id;
    bool hop_by_hop; /* by itself */
};

static const struct name_case names[] = {
    {"Connection", FIELD_CONNECTION, true},
    {"Cookie", FIELD_COOKIE, false},
    {"Date", FIELD_DATE, false},
    {"Forwarded", FIELD_FORWARDED, false},
    {"HTTP2-Settings", FIELD_HTTP2_SETTINGS, true},
    {"Idempotency-Key", FIELD_IDEMPOTENCY_KEY, false},
    {"Keep-Alive", FIELD_KEEP_ALIVE, true},
    {"Proxy-Connection", FIELD_PROXY_CONNECTION, true},
    {"TE", FIELD_TE, true},
    {"Trailer", FIELD_TRAILER, false},
    {"Upgrade", FIELD_UPGRADE, true},
    {"User-Agent", FIELD_USER_AGENT, false},
    {"Via", FIELD_VIA, false},
    {"X-Forwarded-For", FIELD_X_FORWARDED_FOR, false},
    {"X-Forwarded-Host", FIELD_X_FORWARDED_HOST, false},
    {"X-Forwarded-Proto", FIELD_X_FORWARDED_PROTO, false},
    {"X-Forwarded-Port", FIELD_X_FORWARDED_OTHER, false},
    {"X-Forwarded-Prefixes-And-More", FIELD_X_FORWARDED_OTHER, false},
    {"X-Real-IP", FIELD_X_REAL_IP, false},
    {"X-Request-ID", FIELD_X_REQUEST_ID, false},
    {"X-Forwarded-", FIELD_OTHER, false},
    {"X-Forwarded", FIELD_OTHER, false},
    {"Accept", FIELD_OTHER, false},
    {"Hosts", FIELD_OTHER, false},
    {"Hos", FIELD_OTHER, false},
    {"V!a", FIELD_OTHER, false},
    {"!", FIELD_OTHER, false},
};

static void check_name(const char *name, const struct name_case *expected)
{
    char head[128];
    struct parsed p;
    const struct http_field *field = &p.fields[0];

    snprintf(head, sizeof head, "GET / HTTP/1.0\r\n%s:\tvalue of it \r\n\r\n", name);
    parse_request(&p, slice_from_text(head));
    assert_int_equal(p.result, 0);
    assert_int_equal(p.request.fields.count, 1);
    assert_text(field->name, name, head);
    assert_text(field->value, "value of it", head);
    assert_int_equal(field->id, expected->id);
    assert_int_equal(field->hop_by_hop, expected->hop_by_hop);
    parsed_free(&p);
}

static void known_fields_are_known_in_any_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(names); i++) {
        char changed[64];

        for (size_t j = 0; j <= strlen(names[i].name); j++) {
            char c = names[i].name[j];
            bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

            changed[j] = (char)(letter ? c ^ 0x20 : c);
        }
        check_name(names[i].name, &names[i]);
        check_name(changed, &names[i]);
    }
}

/* H29: Connection's own business ends here, whatever order it comes in. */
static void fields_that_connection_names_end_here(void **state)
{
    static const char head[] =
        "GET / HTTP/1.1\r\n"
        "x-one: 1\r\nHost: a\r\nConnection: X-One,close , x-TWO\r\nX-Two: 2\r\nX-Three: 3\r\n"
        "X-One: again\r\n\r\n";
    static const bool hop_by_hop[] = {true, false, true, true, false, true};
    struct parsed p;

    (void)state;
    parse_request(&p, slice_from_text(head));
    assert_int_equal(p.result, 0);
    assert_int_equal(p.request.fields.count, N(hop_by_hop));
    for (size_t i = 0; i < N(hop_by_hop); i++)
        assert_int_equal(p.fields[i].hop_by_hop, hop_by_hop[i]);
    assert_false(p.request.keep_alive);
    parsed_free(&p);
}

static void as_many_fields_and_bytes_as_allowed_are_taken(void **state)
{
    static const char fields[] = "GET / HTTP/1.0\r\n1:\r\n2:\r\n3:\r\n4:\r\n5:\r\n6:\r\n7:\r\n8:\r\n\r\n";
    char head[MAX_HEAD + 1];
    struct parsed p;

    (void)state;
    parse_request(&p, slice_from_text(fields));
    assert_int_equal(p.result, 0);
    assert_int_equal(p.request.fields.count, FIELDS_MAX);
    assert_text(p.fields[7].value, "", fields);
    parsed_free(&p);

    memset(head, 'x', sizeof head);
    memcpy(head, "GET /", 5);
    memcpy(head + MAX_LINE - 9, " HTTP/1.0\r\nX:", 13);
    memcpy(head + MAX_HEAD - 4, "\r\n\r\n", 4);
    parse_request(&p, slice_of(head, MAX_HEAD));
    assert_int_equal(p.result, 0);
    parsed_free(&p);
}

/* --- answers -------------------------------------------------------------------------------------------- */

/* meaning: version, status, reason ('-': none), flags, body; "given": Content-Length was there. */
struct good_response {
    const char *head;
    enum http_method asked;
    const char *meaning;
};

#define OK_LINE "HTTP/1.1 200 OK\r\n"

static const struct good_response good_responses[] = {
    {OK_LINE "Content-Length: 5\r\n\r\n", METHOD_GET, "1.1 200 OK keep given=5 length=5"},
    {OK_LINE "Transfer-Encoding: chunked\r\n\r\n", METHOD_GET, "1.1 200 OK keep chunked"},
    {OK_LINE "\r\n", METHOD_GET, "1.1 200 OK keep until-close"},
    {OK_LINE "Connection: x, Close\r\n\r\n", METHOD_GET, "1.1 200 OK until-close"},
    {"HTTP/1.0 200 OK\r\n\r\n", METHOD_GET, "1.0 200 OK until-close"},
    {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", METHOD_GET,
     "1.0 200 OK keep given=0 length=0"},
    {"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n", METHOD_GET, "1.1 200 OK keep given=0 length=0"},
    {"HTTP/1.1 200\r\n\r\n", METHOD_GET, "1.1 200 - keep until-close"},
    {"HTTP/1.1 200 \r\n\r\n", METHOD_GET, "1.1 200 - keep until-close"},
    {"HTTP/1.1 999 \xe9 la carte\r\n\r\n", METHOD_GET, "1.1 999 \xe9 la carte keep until-close"},
    /* What has no body, has none whatever its fields say. */
    {OK_LINE "Content-Length: 5\r\n\r\n", METHOD_HEAD, "1.1 200 OK keep given=5 none"},
    {OK_LINE "Transfer-Encoding: chunked\r\n\r\n", METHOD_HEAD, "1.1 200 OK keep none"},
    {"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", METHOD_GET, "1.1 204 No keep given=5 none"},
    {"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", METHOD_GET, "1.1 304 No keep given=5 none"},
    {"HTTP/1.1 100 C\r\n\r\n", METHOD_POST, "1.1 100 C keep none"},
    {"HTTP/1.1 103 C\r\nContent-Length: 5\r\n\r\n", METHOD_GET, "1.1 103 C keep given=5 none"},
    {"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", METHOD_GET,
     "1.1 101 S keep upgrade=websocket none"},
    {"HTTP/1.1 426 U\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n", METHOD_GET,
     "1.1 426 U keep given=0 length=0"},
    /* Its own names go through; what Connection names cannot harm, because framing is written anew. */
    {OK_LINE "Connection: content-length\r\nContent-Length: 5\r\nA_b: c\r\n\r\n", METHOD_GET,
     "1.1 200 OK keep given=5 length=5"},
};

static void describe_response(char text[256], const struct http_response *r)
{
    FILE *out = fmemopen(text, 256, "w");

    fprintf(out, "1.%u %u %.*s%s", r->minor, r->status, SLICE_ARG(r->reason.len ? r->reason : SLICE("-")),
            r->keep_alive ? " keep" : "");
    if (r->length_given)
        fprintf(out, " given=%ju", (uintmax_t)r->body.length);
    if (r->upgrade.len)
        fprintf(out, " upgrade=%.*s", SLICE_ARG(r->upgrade));
    add_body(out, &r->body);
    fclose(out);
}

static void good_answers_are_understood(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(good_responses); i++) {
        char meaning[256];
        struct parsed p;

        parse_response(&p, slice_from_text(good_responses[i].head), good_responses[i].asked);
        if (p.result)
            fail_msg("refused (%s): %s", p.error.why, good_responses[i].head);
        describe_response(meaning, &p.response);
        assert_string_equal(meaning, good_responses[i].meaning);
        parsed_free(&p);
    }
}

static void a_prefix_of_an_answer_is_no_answer(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(good_responses); i++) {
        struct slice head = slice_from_text(good_responses[i].head);

        for (size_t n = 0; n < head.len; n++) {
            struct parsed p;

            parse_response(&p, slice_of(head.ptr, n), good_responses[i].asked);
            assert_int_equal(p.result, -EBADMSG);
            parsed_free(&p);
        }
    }
}

#define ANSWER(fields) TEXT(OK_LINE fields "\r\n")
#define STATUS(line) TEXT(line "\r\n\r\n")
#define NO_STATUS_LINE "a status line that is not HTTP/1"
#define MIXED "an answer with Transfer-Encoding beside Content-Length or in HTTP/1.0"

static const struct refused refused_responses[] = {
    {"H10", ANSWER("X: y\r\n z\r\n"), 502, FOLDED},
    {"H10", ANSWER(" X: y\r\n"), 502, FOLDED},
    {"H33", ANSWER("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 502, MIXED},
    {"H33", TEXT("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), 502, MIXED},
    {"H33", ANSWER("Content-Length: 5\r\nContent-Length: 5\r\n"), 502, TWO_LENGTHS},
    {"H33", ANSWER("Content-Length: 5, 5\r\n"), 502, NO_NUMBER},
    {"H33", ANSWER("Content-Length: -5\r\n"), 502, NO_NUMBER},
    {"H33", ANSWER("Content-Length:\r\n"), 502, NO_NUMBER},
    {"H33", ANSWER("Content-Length: 9223372036854775808\r\n"), 502, NO_NUMBER},
    {"H33", ANSWER("Transfer-Encoding: gzip\r\n"), 502, OTHER_CODING},
    {"H33", ANSWER("Transfer-Encoding: chunked, chunked\r\n"), 502, NO_FRAME},
    {"H33", ANSWER("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 502,
     "more than one Transfer-Encoding"},
    {"H29", ANSWER("Connection: " X33_NAMES "\r\n"), 502, "Connection names too many fields"},
    {"H33", ANSWER("X: y\rz\r\n"), 502, CONTROL},
    {"H33", ANSWER("X: y\0\r\n"), 502, CONTROL},
    {"H33", ANSWER("X : y\r\n"), 502, NO_COLON},
    {"H33", ANSWER("X\r\n"), 502, NO_COLON},
    {"H33", ANSWER("X: y\n"), 502, NO_CRLF},
    {"H33", TEXT("HTTP/1.1 200 OK\n\r\n"), 502, "a status line that does not end in CR LF"},
    {"H33", TEXT(""), 502, "a status line that does not end in CR LF"},
    {"H33", ANSWER("1:\r\n2:\r\n3:\r\n4:\r\n5:\r\n6:\r\n7:\r\n8:\r\n9:\r\n"), 502, "too many fields"},
    {"H33", STATUS("HTTP/1.1 200 O\rK"), 502, "a control byte in the status line"},
    {"H33", STATUS("HTTP/1.1 200 O\0K"), 502, "a control byte in the status line"},
    {"H33", STATUS("HTTP/2.0 200 OK"), 502, NO_STATUS_LINE},
    {"H33", STATUS("HTTP/1.x 200 OK"), 502, NO_STATUS_LINE},
    {"H33", STATUS("http/1.1 200 OK"), 502, NO_STATUS_LINE},
    {"H33", STATUS("HTTP/1.1  200 OK"), 502, NO_STATUS_LINE},
    {"H33", STATUS("HTTP/1.1 20 OK"), 502, NO_STATUS_LINE},
    {"H33", STATUS("HTTP/1.1 099 OK"), 502, NO_STATUS_LINE},
    {"H33", STATUS("HTTP/1.1 +20 OK"), 502, NO_STATUS_LINE},
    {"H33", STATUS("HTTP/1.1 2000 OK"), 502, "a status that is not three digits"},
    {"H33", STATUS("HTTP/1.1 200\tOK"), 502, "a status that is not three digits"},
    {"H33", STATUS("HTTP/1.1 20"), 502, NO_STATUS_LINE},
    {"H33", STATUS("ICY 200 OK"), 502, NO_STATUS_LINE},
    {"H33", STATUS(""), 502, NO_STATUS_LINE},
};

static void broken_answers_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(refused_responses); i++) {
        const struct refused *refused = &refused_responses[i];
        struct parsed p;

        parse_response(&p, refused->head, METHOD_GET);
        if (p.result != -EBADMSG || p.error.status != 502 || strcmp(p.error.why, refused->why) != 0)
            fail_msg("%s: %d %s instead of %s: %.*s", refused->row, p.result,
                     p.error.why ? p.error.why : "(taken)", refused->why, SLICE_ARG(refused->head));
        parsed_free(&p);
    }
}

static void what_an_answers_connection_names_ends_here(void **state)
{
    struct parsed p;

    (void)state;
    parse_response(
        &p,
        SLICE(OK_LINE "Connection: host, x-a\r\nX-A: 1\r\nX-B: 2\r\nTE: 3\r\nUpgrade: 4\r\nHost: 5\r\n\r\n"),
        METHOD_GET);
    assert_int_equal(p.result, 0);
    assert_int_equal(p.response.fields.count, 6);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(p.fields[i].hop_by_hop, i != 2 && i != 5);
    parsed_free(&p);
}

/* --- chunked bodies ------------------------------------------------------------------------------------- */

#define DECODED_MAX 4096

/* What became of a chunked body. */
struct decoded {
    char data[DECODED_MAX];
    size_t len, taken; /* of the input, up to and with the trailer's beginning */
    enum http1_chunk result;
    const char *why;
};

/* One read's worth of input; false when there is no more to come of it. */
static bool decode_part(struct http1_chunked *decoder, struct slice part, struct decoded *d)
{
    struct slice copy = heap_copy(part), in = copy;

    do {
        struct slice data = {0};

        d->result = http1_chunked_take(decoder, &in, &data, &d->why);
        if (d->result == CHUNK_DATA) {
            assert_true(data.len > 0 && d->len + data.len <= DECODED_MAX);
            memcpy(d->data + d->len, data.ptr, data.len);
            d->len += data.len;
        }
    } while (d->result == CHUNK_DATA);
    assert_true(d->result != CHUNK_MORE || in.len == 0);
    d->taken += copy.len - in.len;
    heap_free(copy);
    return d->result == CHUNK_MORE;
}

/* body in reads of at most step bytes, the first of them first bytes long. */
static void decode(struct slice body, size_t first, size_t step, struct decoded *d)
{
    struct http1_chunked decoder = {0};
    size_t n = first;

    memset(d, 0, sizeof *d);
    d->result = CHUNK_MORE;
    while (body.len && d->result == CHUNK_MORE) {
        n = n < body.len ? n : body.len;
        decode_part(&decoder, slice_take(&body, n), d);
        n = step;
    }
}

struct good_body {
    struct slice body;
    const char *data;
    size_t trailer; /* where it begins */
};

static const struct good_body good_bodies[] = {
    {TEXT("0\r\n\r\n"), "", 3},
    {TEXT("5\r\nhello\r\n0\r\n\r\nGET"), "hello", 13},
    {TEXT("5\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\n\r\n"), "hello world", 24},
    {TEXT("1\r\n\r\r\n2\r\n\r\n\r\n00\r\n\r\n"), "\r\r\n", 17},
    {TEXT("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"), "01234567890123456789", 33},
    {TEXT("000000000000000f\r\n0123456789abcde\r\n0000000000000000\r\n\r\n"), "0123456789abcde", 53},
    /* H16: extensions are read and left out. */
    {TEXT("1;a\r\nx\r\n0;b\r\n\r\n"), "x", 13},
    {TEXT("1;a=b;c=\"d\";e\r\nx\r\n0\r\n\r\n"), "x", 21},
    {TEXT("1;a=\"\\\"\\\\;\t\x80 \"\r\nx\r\n0\r\n\r\n"), "x", 22},
    {TEXT("1;a=\"\"\r\nx\r\n0\r\n\r\n"), "x", 14},
};

static void check_good_body(const struct good_body *good, const struct decoded *d)
{
    if (d->result != CHUNK_TRAILER || d->taken != good->trailer ||
        !slice_equal(slice_of(d->data, d->len), slice_from_text(good->data)))
        fail_msg("result %d (%s), %zu taken, data '%.*s': %.*s", d->result, d->why ? d->why : "", d->taken,
                 (int)d->len, d->data, SLICE_ARG(good->body));
}

static void a_chunked_body_is_the_same_however_it_is_split(void **state)
{
    struct decoded d;

    (void)state;
    for (size_t i = 0; i < N(good_bodies); i++) {
        const struct good_body *good = &good_bodies[i];

        for (size_t step = 1; step <= good->body.len; step++) {
            decode(good->body, step, step, &d); /* 1: byte by byte */
            check_good_body(good, &d);
            decode(good->body, step, good->body.len, &d); /* in two */
            check_good_body(good, &d);
        }
    }
}

static void every_prefix_of_a_chunked_body_wants_more(void **state)
{
    struct decoded d;

    (void)state;
    for (size_t i = 0; i < N(good_bodies); i++)
        for (size_t n = 0; n < good_bodies[i].trailer; n++) {
            decode(slice_of(good_bodies[i].body.ptr, n), n, n, &d);
            assert_int_equal(d.result, CHUNK_MORE);
            assert_int_equal(d.taken, n);
        }
}

#define BAD_SIZE "a chunk without a size"
#define STRAY "a chunk size line with a stray byte"
#define OUT_OF_BOUNDS "a chunk size out of bounds"
#define SIZE_CRLF "a chunk size line that does not end in CR LF"
#define LONGER "chunk data longer than its size"
#define EMPTY_EXTENSION "an empty chunk extension"
#define CONTROL_EXTENSION "a control byte in a chunk extension"

struct bad_body {
    const char *row;
    struct slice body;
    const char *why;
};

static const struct bad_body bad_bodies[] = {
    {"H14", TEXT("5\nhello\r\n0\r\n\r\n"), STRAY},
    {"H14", TEXT("5\r\nhello\n0\r\n\r\n"), LONGER},
    {"H14", TEXT("5;a\nhello\r\n"), STRAY},
    {"H14", TEXT("5;a=b\n"), STRAY},
    {"H14", TEXT("5;a=\"b\n\"\r\n"), CONTROL_EXTENSION},
    {"H14", TEXT("0\n\r\n"), STRAY},
    {"H15", TEXT("0x5\r\n"), STRAY},
    {"H15", TEXT("+5\r\n"), BAD_SIZE},
    {"H15", TEXT("-1\r\n"), BAD_SIZE},
    {"H15", TEXT(" 5\r\n"), BAD_SIZE},
    {"H15", TEXT("5 \r\n"), STRAY},
    {"H15", TEXT("5\t\r\n"), STRAY},
    {"H15", TEXT("1_0\r\n"), STRAY},
    {"H15", TEXT("\r\n"), BAD_SIZE},
    {"H15", TEXT(";a\r\n"), BAD_SIZE},
    {"H15", TEXT("g\r\n"), BAD_SIZE},
    {"H15", TEXT("5,5\r\n"), STRAY},
    {"H15", TEXT("00000000000000005\r\n"), OUT_OF_BOUNDS},
    {"H15", TEXT("8000000000000000\r\n"), OUT_OF_BOUNDS},
    {"H15", TEXT("ffffffffffffffff\r\n"), OUT_OF_BOUNDS},
    {"H15", TEXT("10000000000000000\r\n"), OUT_OF_BOUNDS},
    {"H15", TEXT("\xb5\r\n"), BAD_SIZE},
    {"H15", TEXT("5\0\r\n"), STRAY},
    {"H16", TEXT("5;\r\n"), EMPTY_EXTENSION},
    {"H16", TEXT("5;a;\r\n"), EMPTY_EXTENSION},
    {"H16", TEXT("5;;a\r\n"), EMPTY_EXTENSION},
    {"H16", TEXT("5; a\r\n"), EMPTY_EXTENSION},
    {"H16", TEXT("5;=b\r\n"), EMPTY_EXTENSION},
    {"H16", TEXT("5 ;a\r\n"), STRAY},
    {"H16", TEXT("5;a =b\r\n"), STRAY},
    {"H16", TEXT("5;a=\r\n"), "a chunk extension without a value"},
    {"H16", TEXT("5;a==b\r\n"), "a chunk extension without a value"},
    {"H16", TEXT("5;a=b=c\r\n"), STRAY},
    {"H16", TEXT("5;a=\"b\r\n"), CONTROL_EXTENSION},
    {"H16", TEXT("5;a=\"b\\\r\n"), CONTROL_EXTENSION},
    {"H16", TEXT("5;a=\"b\"c\r\n"), STRAY},
    {"H16", TEXT("5;a\0\r\n"), STRAY},
    {"H16", TEXT("5;a=\"\0\"\r\n"), CONTROL_EXTENSION},
    {"H16", TEXT("5;a\rb\r\n"), SIZE_CRLF},
    {"H16", TEXT("5;a=\"\rb\"\r\n"), CONTROL_EXTENSION},
    {"H17", TEXT("5\r\nhello!\r\n"), LONGER},
    {"H17", TEXT("5\r\nhello0\r\n\r\n"), LONGER},
    {"H17", TEXT("5\r\nhello\r0\r\n\r\n"), "chunk data that does not end in CR LF"},
    {"H17", TEXT("5\r\nhell\r\n0\r\n\r\n"), LONGER},
    {"H17", TEXT("5\rhello"), SIZE_CRLF},
};

static void broken_chunks_are_refused_however_they_are_split(void **state)
{
    struct decoded d;

    (void)state;
    for (size_t i = 0; i < N(bad_bodies); i++) {
        const struct bad_body *bad = &bad_bodies[i];

        for (size_t step = 1; step <= bad->body.len; step++) {
            decode(bad->body, step, step, &d);
            if (d.result != CHUNK_BAD || strcmp(d.why, bad->why) != 0)
                fail_msg("%s: %d %s instead of %s: %.*s", bad->row, d.result, d.why ? d.why : "", bad->why,
                         SLICE_ARG(bad->body));
        }
    }
}

/* H16: however they are spread over chunks. */
static void chunk_extensions_have_an_end(void **state)
{
    struct http1_chunked decoder = {0};
    struct decoded d = {.result = CHUNK_MORE};
    unsigned chunks = 0;

    (void)state;
    while (decode_part(&decoder, SLICE("1;abcdefgh=abcdefgh\r\nx\r\n"), &d))
        chunks++;
    assert_int_equal(d.result, CHUNK_BAD);
    assert_string_equal(d.why, "chunk extensions without end");
    assert_true(chunks > 100 && chunks <= 4096 / 18);
}

static void the_largest_chunk_is_taken(void **state)
{
    struct http1_chunked decoder = {0};
    struct decoded d = {.result = CHUNK_MORE};

    (void)state;
    assert_true(decode_part(&decoder, SLICE("7fffffffffffffff\r\nx"), &d));
    assert_int_equal(d.len, 1);
    assert_int_equal(decoder.left, INT64_MAX - 1);
}

/* --- trailers ------------------------------------------------------------------------------------------- */

static int64_t parse_trailers(struct slice bytes, struct http_field at[FIELDS_MAX], unsigned *count,
                              const char **why)
{
    struct http_fields fields = {.at = at, .max = FIELDS_MAX};
    struct slice copy = heap_copy(bytes);
    int64_t n = http1_parse_trailers(copy, &fields, why);

    *count = fields.count;
    if (n <= 0 || (size_t)n > bytes.len)
        *count = 0;
    for (unsigned i = 0; i < *count; i++) { /* they borrow the copy: point them at the original */
        at[i].name.ptr = bytes.ptr + (at[i].name.ptr - copy.ptr);
        at[i].value.ptr = bytes.ptr + (at[i].value.ptr - copy.ptr);
    }
    heap_free(copy);
    return n;
}

static void trailers_are_taken_whole_or_not_at_all(void **state)
{
    struct slice bytes = SLICE("X-Sum:\tabc \r\nX-B: \r\n\r\nGET / HTTP/1.1\r\n");
    struct http_field at[FIELDS_MAX];
    const char *why;
    unsigned count;

    (void)state;
    for (size_t n = 0; n < 22; n++)
        assert_int_equal(parse_trailers(slice_of(bytes.ptr, n), at, &count, &why), 0);
    assert_int_equal(parse_trailers(bytes, at, &count, &why), 22);
    assert_int_equal(count, 2);
    assert_text(at[0].name, "X-Sum", "");
    assert_text(at[0].value, "abc", "");
    assert_text(at[1].value, "", "");
}

static void a_body_may_end_without_trailers(void **state)
{
    struct http_field at[FIELDS_MAX];
    const char *why;
    unsigned count;

    (void)state;
    assert_int_equal(parse_trailers(SLICE(""), at, &count, &why), 0);
    assert_int_equal(parse_trailers(SLICE("\r"), at, &count, &why), 0);
    assert_int_equal(parse_trailers(SLICE("\r\n"), at, &count, &why), 2);
    assert_int_equal(parse_trailers(SLICE("\r\nX: y\r\n\r\n"), at, &count, &why), 2);
}

/* H18: neither framing, routing nor authentication comes in late. */
static void fields_that_steer_are_left_out_of_trailers(void **state)
{
    static const char *const dropped[] = {
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Authorization",
        "Cache-Control",
        "TE",
        "Connection",
        "Cookie",
        "Trailer",
        "X-Forwarded-For",
        "Forwarded",
        "Set-Cookie",
        "Content-Type",
        "Location",
        "Content_Length",
        "x_y",
        "X-Real-IP",
        "Upgrade",
        "Expect",
        "Vary",
        "WWW-AUTHENTICATE",
    };

    (void)state;
    for (size_t i = 0; i < N(dropped); i++) {
        char text[128];
        struct http_field at[FIELDS_MAX];
        const char *why;
        unsigned count;
        int n = snprintf(text, sizeof text, "%s: 5\r\nX-Sum: 1\r\n\r\n", dropped[i]);

        assert_int_equal(parse_trailers(slice_from_text(text), at, &count, &why), n);
        assert_int_equal(count, 1);
        assert_text(at[0].name, "X-Sum", text);
    }
}

static const struct bad_body bad_trailers[] = {
    {"H14", TEXT("X: y\n\r\n"), NO_CRLF},
    {"H14", TEXT("X: y\r\n\n"), NO_CRLF},
    {"H14", TEXT("\n"), NO_CRLF},
    {"H18", TEXT("X : y\r\n\r\n"), NO_COLON},
    {"H18", TEXT("X: y\r\n z\r\n\r\n"), FOLDED},
    {"H18", TEXT("X: y\rz\r\n\r\n"), CONTROL},
    {"H18", TEXT("GET / HTTP/1.1\r\n\r\n"), NO_COLON},
    {"H18", TEXT("\rX: y\r\n\r\n"), NO_COLON},
    {"H18", TEXT("1:\r\n2:\r\n3:\r\n4:\r\n5:\r\n6:\r\n7:\r\n8:\r\n9:\r\n\r\n"), "too many fields"},
};

static void broken_trailers_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(bad_trailers); i++) {
        const struct bad_body *bad = &bad_trailers[i];
        struct http_field at[FIELDS_MAX];
        const char *why = NULL;
        unsigned count;

        for (size_t n = 0; n < bad->body.len; n++)
            assert_true(parse_trailers(slice_of(bad->body.ptr, n), at, &count, &why) <= 0);
        assert_int_equal(parse_trailers(bad->body, at, &count, &why), -EBADMSG);
        assert_string_equal(why, bad->why);
    }
}

static void a_trailer_section_is_bounded(void **state)
{
    char bytes[HTTP1_TRAILER_MAX + 1];
    struct http_field at[FIELDS_MAX];
    const char *why;
    unsigned count;

    (void)state;
    memset(bytes, 'x', sizeof bytes);
    memcpy(bytes, "X:", 2);
    assert_int_equal(parse_trailers(slice_of(bytes, HTTP1_TRAILER_MAX - 1), at, &count, &why), 0);
    assert_int_equal(parse_trailers(slice_of(bytes, HTTP1_TRAILER_MAX), at, &count, &why), -EBADMSG);
    memcpy(bytes + HTTP1_TRAILER_MAX - 4, "\r\n\r\n", 4);
    assert_int_equal(parse_trailers(slice_of(bytes, HTTP1_TRAILER_MAX), at, &count, &why), HTTP1_TRAILER_MAX);
    memcpy(bytes + HTTP1_TRAILER_MAX - 4, "x\r\n\r\n", 5);
    assert_int_equal(parse_trailers(slice_of(bytes, sizeof bytes), at, &count, &why), -EBADMSG);
}

/* --- writing -------------------------------------------------------------------------------------------- */

static void a_chunk_head_is_hexadecimal_and_read_again_as_itself(void **state)
{
    static const struct {
        uint64_t size;
        const char *text;
    } rows[] = {
        {0, "0\r\n"},
        {1, "1\r\n"},
        {15, "f\r\n"},
        {16, "10\r\n"},
        {255, "ff\r\n"},
        {256, "100\r\n"},
        {16384, "4000\r\n"},
        {0x1234567890abcdef, "1234567890abcdef\r\n"},
        {UINT64_MAX, "ffffffffffffffff\r\n"},
    };

    (void)state;
    for (size_t i = 0; i < N(rows); i++) {
        char *out = malloc(HTTP1_CHUNK_HEAD_MAX);
        size_t n = http1_chunk_head(out, rows[i].size);

        assert_int_equal(n, strlen(rows[i].text));
        assert_memory_equal(out, rows[i].text, n);
        if (rows[i].size && rows[i].size <= INT64_MAX) {
            struct http1_chunked decoder = {0};
            struct slice in = slice_of(out, n), data;
            const char *why;

            assert_int_equal(http1_chunked_take(&decoder, &in, &data, &why), CHUNK_MORE);
            assert_int_equal(decoder.left, rows[i].size);
        }
        free(out);
    }
}

static void every_status_that_we_answer_with_has_a_reason(void **state)
{
    static const unsigned ours[] = {200, 204, 301, 302, 303, 307, 308, 400, 404, 405,
                                    408, 413, 414, 417, 431, 501, 502, 503, 504, 505};

    (void)state;
    for (size_t i = 0; i < N(ours); i++)
        assert_true(*http_reason(ours[i]));
    assert_string_equal(http_reason(414), "URI Too Long");
    assert_string_equal(http_reason(299), "");
    assert_string_equal(http_reason(0), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_ends_at_its_empty_line_or_at_a_bare_lf),
        cmocka_unit_test(every_prefix_of_a_head_wants_more),
        cmocka_unit_test(a_head_is_found_at_every_split),
        cmocka_unit_test(what_was_scanned_is_not_scanned_again),
        cmocka_unit_test(good_requests_are_understood),
        cmocka_unit_test(methods_are_told_apart_by_case),
        cmocka_unit_test(a_prefix_of_a_request_is_no_request),
        cmocka_unit_test(what_is_ambiguous_or_malformed_is_refused),
        cmocka_unit_test(a_prefix_of_a_refused_request_is_no_request),
        cmocka_unit_test(no_control_byte_stands_anywhere_in_a_head),
        cmocka_unit_test(every_byte_but_controls_may_stand_in_a_value_wherever_it_stands),
        cmocka_unit_test(paths_are_taken_as_sent),
        cmocka_unit_test(known_fields_are_known_in_any_case),
        cmocka_unit_test(fields_that_connection_names_end_here),
        cmocka_unit_test(as_many_fields_and_bytes_as_allowed_are_taken),
        cmocka_unit_test(good_answers_are_understood),
        cmocka_unit_test(a_prefix_of_an_answer_is_no_answer),
        cmocka_unit_test(broken_answers_are_refused),
        cmocka_unit_test(what_an_answers_connection_names_ends_here),
        cmocka_unit_test(a_chunked_body_is_the_same_however_it_is_split),
        cmocka_unit_test(every_prefix_of_a_chunked_body_wants_more),
        cmocka_unit_test(broken_chunks_are_refused_however_they_are_split),
        cmocka_unit_test(chunk_extensions_have_an_end),
        cmocka_unit_test(the_largest_chunk_is_taken),
        cmocka_unit_test(trailers_are_taken_whole_or_not_at_all),
        cmocka_unit_test(a_body_may_end_without_trailers),
        cmocka_unit_test(fields_that_steer_are_left_out_of_trailers),
        cmocka_unit_test(broken_trailers_are_refused),
        cmocka_unit_test(a_trailer_section_is_bounded),
        cmocka_unit_test(a_chunk_head_is_hexadecimal_and_read_again_as_itself),
        cmocka_unit_test(every_status_that_we_answer_with_has_a_reason),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
