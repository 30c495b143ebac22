/* test_admin_question.c - admin/question.h: the request that a query describes, and how a listener would read it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fiber_kit.h"
#include "http_kit.h"

#include "admin/question.h"

static const struct http_limits limits = {
    .head_timeout_us = 10 * US_PER_S,
    .body_timeout_us = 10 * US_PER_S,
    .max_head = 400,
    .max_line = 100,
    .max_fields = 4,
    .max_body = 1000,
};

/* The admin's exchange that asks, as far as it is looked at. */
struct asking {
    struct http_connection connection;
    struct exchange x;
    struct question q;
};

static const char *ask(struct asking *a, const char *query)
{
    memset(a, 0, sizeof *a);
    a->x.connection = &a->connection;
    a->x.request.query = slice_from_text(query);
    CHECK(ip_parse(SLICE("127.0.0.1"), &a->connection.peer));
    return question_read(&a->q, &a->x);
}

static void ask_no_more(struct asking *a)
{
    exchange_free(&a->x);
}

static void check_head(const char *query, const char *head)
{
    struct asking a;
    const char *wrong = ask(&a, query);

    if (CHECK(wrong == NULL))
        CHECK_SLICE(a.q.head, head);
    ask_no_more(&a);
}

static void check_wrong(const char *query, const char *why)
{
    struct asking a;
    const char *wrong = ask(&a, query);

    if (CHECK(wrong != NULL))
        CHECK(strstr(wrong, why) != NULL);
    ask_no_more(&a);
}

static void the_head_is_what_a_client_would_send(void *arg)
{
    (void)arg;
    check_head("url=http%3A%2F%2Fh%3A80%2Fa%3Fb%3Dc", "GET /a?b=c HTTP/1.1\r\nHost: h:80\r\n\r\n");
    check_head("url=https://h/a", "GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    check_head("url=http://h", "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    check_head("url=http://h?x", "GET /?x HTTP/1.1\r\nHost: h\r\n\r\n");
    check_head("url=http://h/a%23part", "GET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    check_head("url=/a", "GET /a HTTP/1.1\r\n\r\n");
    check_head("method=POST&header=A:+1&url=http://h/&header=B%3A2",
               "POST / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB:2\r\n\r\n");
    check_head("header=A:1&header=host:+other&url=http://h/", "GET / HTTP/1.1\r\nA:1\r\nhost: other\r\n\r\n");
}

static void what_is_no_request_is_refused_with_the_reason(void *arg)
{
    (void)arg;
    check_wrong("", "which request?");
    check_wrong("url=", "which request?");
    check_wrong("url=ftp://h/", "which request?");
    check_wrong("url=http:///a", "which request?");
    check_wrong("url=http://h/%0d%0aHost:%20x", "percent-encoded");
    check_wrong("url=%zz", "percent-encoded");
    check_wrong("url=http://h/&method=G%0a", "percent-encoded");
    check_wrong("url=http://h/&header=A:%0d%0aB:", "percent-encoded");
    check_wrong("url=http://h/&listener=%", "percent-encoded");
    check_wrong("url=http://h/&from=localhost", "from takes the address");
}

static void the_client_is_who_asks_unless_it_is_said(void *arg)
{
    struct asking a;
    struct ip ip;

    (void)arg;
    CHECK(ask(&a, "url=/&listener=:80") == NULL);
    CHECK(memcmp(&a.q.from, &a.connection.peer, sizeof a.q.from) == 0);
    CHECK_SLICE(a.q.listener, ":80");
    ask_no_more(&a);
    CHECK(ask(&a, "url=/&from=2001:db8::1") == NULL);
    CHECK(ip_parse(SLICE("2001:db8::1"), &ip));
    CHECK(memcmp(&a.q.from, &ip, sizeof ip) == 0);
    CHECK(a.q.listener.ptr == NULL);
    ask_no_more(&a);
}

static void check_refused(const char *query, unsigned status)
{
    struct asking a;
    struct rehearsal *r;

    CHECK(ask(&a, query) == NULL);
    r = rehearsal_open(&a.q, &limits);
    if (CHECK(r != NULL)) {
        CHECK(r->why != CLOSE_NOT);
        CHECK(r->x.answer_started);
        CHECK_EQUAL(r->x.status, status);
        CHECK(r->x.note != NULL);
        rehearsal_close(r);
    }
    ask_no_more(&a);
}

static void a_listener_refuses_what_it_would_refuse(void *arg)
{
    char query[2000] = "url=http://h/";

    (void)arg;
    check_refused("url=/", 400); /* without a host */
    check_refused("url=http://h/&method=G(T", 400);
    check_refused("url=http://h/&method=A%20B", 400);
    check_refused("url=http://h/&header=A+:1", 400);
    check_refused("url=http://h/&method=POST&header=Content-Length:1001", 413);
    check_refused("url=http://h/&header=a:1&header=b:1&header=c:1&header=d:1", 431);
    memset(query + strlen(query), 'a', 100);
    check_refused(query, 414);
    strcpy(query, "url=http://h/&header=A:");
    memset(query + strlen(query), 'a', 400);
    check_refused(query, 431);
}

static void a_good_request_is_read_whole(void *arg)
{
    struct asking a;
    struct rehearsal *r;

    (void)arg;
    CHECK(ask(&a, "url=http://H.test:80/a//b%3Fx%3D1&method=PUT&header=Cookie:+c%3D2&from=192.0.2.7") ==
          NULL);
    r = rehearsal_open(&a.q, &limits);
    if (CHECK(r != NULL)) {
        CHECK_EQUAL(r->why, CLOSE_NOT);
        CHECK_SLICE(r->x.request.method, "PUT");
        CHECK_SLICE(r->x.request.authority, "H.test:80");
        CHECK_SLICE(r->x.request.path, "/a//b");
        CHECK_SLICE(r->x.request.query, "x=1");
        CHECK(memcmp(&r->x.client, &a.q.from, sizeof a.q.from) == 0);
        rehearsal_close(r);
    }
    ask_no_more(&a);
}

static void a_trusted_proxys_word_is_taken_for_who_the_client_is(void *arg)
{
    static const char query[] = "url=http://h/&from=10.0.0.1&header=X-Forwarded-For:+192.0.2.9";
    struct http_limits trusting = limits;
    struct ip_network trusted;
    struct asking a;
    struct rehearsal *r;
    struct ip ip;

    (void)arg;
    CHECK(ip_network_parse(SLICE("10.0.0.0/8"), &trusted));
    CHECK(ip_parse(SLICE("192.0.2.9"), &ip));
    trusting.trusted = &trusted;
    trusting.n_trusted = 1;
    CHECK(ask(&a, query) == NULL);
    r = rehearsal_open(&a.q, &trusting);
    if (CHECK(r != NULL)) {
        CHECK(memcmp(&r->x.client, &ip, sizeof ip) == 0);
        rehearsal_close(r);
    }
    r = rehearsal_open(&a.q, &limits);
    if (CHECK(r != NULL)) {
        CHECK(memcmp(&r->x.client, &a.q.from, sizeof ip) == 0);
        rehearsal_close(r);
    }
    ask_no_more(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIBER_TEST(the_head_is_what_a_client_would_send),
        FIBER_TEST(what_is_no_request_is_refused_with_the_reason),
        FIBER_TEST(the_client_is_who_asks_unless_it_is_said),
        FIBER_TEST(a_listener_refuses_what_it_would_refuse),
        FIBER_TEST(a_good_request_is_read_whole),
        FIBER_TEST(a_trusted_proxys_word_is_taken_for_who_the_client_is),
    };

    kit_watchdog(30);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
