/* test_fetch.c - balance/fetch.h: a request from memory goes the way of a client's, over real sockets, to origins that
 * are fibers of the test. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "fiber_kit.h"
#include "socket_kit.h"

#include "balance/fetch.h"
#include "balance/health.h"
#include "balance/line.h"
#include "balance/request_key.h"
#include "base/clock.h"
#include "wire/http1.h"

#define SERVERS_MAX 3
#define HEARD_MAX 8192

/* Steps of an origin that are no text. */
static const char SILENCE[] = "reads on and says nothing, until the other side closes";
static const char HANG_UP[] = "closes instead of an answer";
static const char END[] = "closes after the answer before";

/* A server: one connection after another, and for each request a step. */
struct origin {
    struct endpoint endpoint;
    struct io listener;
    bool listens;
    struct fiber *fiber;
    const char *const *steps; /* ends in NULL */
    unsigned n_connections, n_requests;
    char *heard; /* HEARD_MAX bytes: all requests; ends in a NUL */
    size_t n_heard;
};

/* One request: false, the other side has closed. */
static bool hear_request(struct origin *origin, struct stream *stream)
{
    size_t start = origin->n_heard;

    for (;;) {
        const char *request = origin->heard + start;
        const char *end = strstr(request, "\r\n\r\n"), *length = strstr(request, "Content-Length: ");
        ssize_t n;

        if (end && strlen(end + 4) >= (length ? strtoul(length + 16, NULL, 10) : 0))
            break;
        n = stream_read(stream, origin->heard + origin->n_heard, HEARD_MAX - 1 - origin->n_heard, NEVER);
        if (n <= 0)
            return false;
        origin->n_heard += (size_t)n;
        origin->heard[origin->n_heard] = '\0';
    }
    origin->n_requests++;
    return true;
}

static void serve(struct origin *origin, struct stream *stream)
{
    while (hear_request(origin, stream)) {
        const char *step = *origin->steps;
        char byte;

        if (!step)
            return;
        origin->steps++;
        while (step == SILENCE && stream_read(stream, &byte, 1, NEVER) > 0)
            ;
        if (step == SILENCE || step == HANG_UP || stream_write_all(stream, step, strlen(step), NEVER) != 0)
            return;
        if (*origin->steps == END) {
            origin->steps++;
            return;
        }
    }
}

static void origin_main(void *arg)
{
    struct origin *origin = arg;
    struct endpoint peer;
    int fd;

    while ((fd = socket_accept(&origin->listener, &peer, NEVER)) >= 0) {
        struct stream stream;

        origin->n_connections++;
        if (CHECK_EQUAL(stream_from_socket(&stream, fd), 0)) {
            serve(origin, &stream);
            stream_close(&stream);
        }
    }
}

/* A pool of servers. */
struct house {
    struct config_pool config;
    struct pool *pool;
    struct pool_thread *pt;
    struct server *servers[SERVERS_MAX];
    struct origin origins[SERVERS_MAX];
    size_t n;
    struct arena arena;
    struct fetch fetch;
};

static void house_open(struct house *house)
{
    memset(house, 0, sizeof *house);
    house->config = (struct config_pool){
        .name = "house",
        .balance = BALANCE_ROUND_ROBIN,
        .max_queue = 10,
        .max_idle = 10,
        .queue_timeout_us = 10 * US_PER_S,
        .connect_timeout_us = 10 * US_PER_S,
        .response_timeout_us = 10 * US_PER_S,
    };
    house->fetch = (struct fetch){
        .method = SLICE("GET"),
        .target = SLICE("/x?y"),
        .timeout_us = 10 * US_PER_S,
        .answer_max = 1000,
        .arena = &house->arena,
    };
}

static void add_server(struct house *house)
{
    const char name[] = {(char)('a' + (int)house->n), '\0'};
    const struct config_server config = {.name = name, .weight = 1};

    house->servers[house->n] = server_create(&config, 0, &house->origins[house->n].endpoint, 1);
    house->servers[house->n]->slot = (unsigned)house->n;
    house->n++;
}

static void add_origin(struct house *house, const char *const *steps)
{
    struct origin *origin = &house->origins[house->n];

    origin->endpoint = tcp_endpoint(0);
    origin->steps = steps;
    origin->heard = calloc(1, HEARD_MAX);
    origin->listens = true;
    CHECK_EQUAL(io_watch(&origin->listener, listen_at(&origin->endpoint, 16), IO_READABLE, false), 0);
    origin->fiber = fiber_spawn("origin", origin_main, origin);
    add_server(house);
}

/* Nobody listens there. */
static void add_dead_server(struct house *house)
{
    struct origin *origin = &house->origins[house->n];

    origin->endpoint = tcp_endpoint(0);
    close(listen_at(&origin->endpoint, 1));
    add_server(house);
}

/* Who connects waits in the backlog. */
static void origin_stop(struct origin *origin)
{
    if (origin->fiber)
        fiber_cancel_and_join(origin->fiber);
    origin->fiber = NULL;
}

static void house_begin(struct house *house)
{
    struct roster *roster = roster_create(house->servers, NULL, house->n, house->config.balance, 40);

    house->pool = pool_create(&house->config, 1);
    house->pt = &house->pool->threads[0];
    pool_thread_open(house->pt, loop_mailbox(loop_self()));
    pool_thread_hold(house->pt);
    pool_thread_install(house->pt, roster, pool_slots(SERVERS_MAX), SERVERS_MAX);
    roster_unref(roster);
}

/* Nothing is left: neither a place, nor a reference to a server. */
static void house_close(struct house *house)
{
    pool_thread_release(house->pt);
    for (size_t i = 0; i < house->n; i++) {
        struct origin *origin = &house->origins[i];

        CHECK_EQUAL(atomic_load(&house->servers[i]->active), 0);
        CHECK_EQUAL(atomic_load(&house->servers[i]->waiting), 0);
        CHECK_EQUAL(atomic_load(&house->servers[i]->references), 1);
        server_unref(house->servers[i]);
        origin_stop(origin);
        if (!origin->listens)
            continue;
        free(origin->heard);
        io_forget(&origin->listener);
        close(origin->listener.fd);
    }
    CHECK_EQUAL(atomic_load(&house->pool->references), 1);
    pool_unref(house->pool);
    arena_free(&house->arena);
}

/* A pool of one. */
static void house_open_with(struct house *house, const char *const *steps)
{
    house_open(house);
    add_origin(house, steps);
    house_begin(house);
}

static int run(struct house *house)
{
    return fetch_run(house->pt, &house->fetch);
}

static uint64_t errors_of(const struct house *house, size_t i, enum server_error error)
{
    return counter_get(&house->servers[i]->counters[0].errors[error]);
}

static uint64_t all_errors_of(const struct house *house, size_t i)
{
    uint64_t n = 0;

    for (int error = 0; error < N_SERVER_ERRORS; error++)
        n += errors_of(house, i, (enum server_error)error);
    return n;
}

static uint64_t latencies_of(const struct house *house, size_t i)
{
    const struct histogram *latency = &house->servers[i]->counters[0].latency;
    uint64_t n = 0;

    for (int bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++)
        n += counter_get(&latency->buckets[bucket]);
    return n;
}

#define CHECK_SAME(s, text) kit_check_slice((s), (text), __FILE__, __LINE__)

static void kit_check_slice(struct slice s, const char *text, const char *file, int line)
{
    if (!kit_check(slice_equal(s, slice_from_text(text)), text, file, line))
        fprintf(stderr, "it is <<%.*s>>\n", SLICE_ARG(s));
}

/* --- the request ------------------------------------------------------------------------------------------------ */

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

static void a_request_goes_as_it_is_but_for_what_belongs_to_one_hop(void *arg)
{
    static const char *const steps[] = {OK, NULL};
    struct http_field at[] = {
        {.name = SLICE("X-Message"), .value = SLICE("7")},
        {.name = SLICE("content-length"), .value = SLICE("99")},
        {.name = SLICE("Host"), .value = SLICE("other")},
        {.name = SLICE("Transfer-Encoding"), .value = SLICE("chunked")},
        {.name = SLICE("Connection"), .value = SLICE("close")},
        {.name = SLICE("X-Hop"), .value = SLICE("named by Connection"), .hop_by_hop = true},
        {.name = SLICE("Expect"), .value = SLICE("100-continue")},
        {.name = SLICE("X-Forwarded-For"), .value = SLICE("192.0.2.1")},
        {.name = SLICE("X-Empty"), .value = SLICE("")},
    };
    struct http_fields fields = {at, sizeof at / sizeof at[0], sizeof at / sizeof at[0]};
    struct house house;

    (void)arg;
    house_open_with(&house, steps);
    house.fetch.method = SLICE("POST");
    house.fetch.authority = SLICE("kitchen:81");
    house.fetch.fields = &fields;
    house.fetch.body = SLICE("soup");
    CHECK_EQUAL(run(&house), 0);
    CHECK_SAME(slice_from_text(house.origins[0].heard),
               "POST /x?y HTTP/1.1\r\nHost: kitchen:81\r\nX-Message: 7\r\nX-Forwarded-For: 192.0.2.1\r\n"
               "X-Empty: \r\nContent-Length: 4\r\n\r\nsoup");
    CHECK_EQUAL(counter_get(&house.servers[0]->counters[0].sent_bytes), house.origins[0].n_heard);
    house_close(&house);
}

/* A body in pieces; NULL: it cannot be read from there on. */
struct pieces {
    const char *const *at;
    size_t next;
    unsigned n_begun;
};

static int next_piece(void *arg, bool first, struct slice *piece)
{
    struct pieces *pieces = arg;

    if (first) {
        pieces->next = 0;
        pieces->n_begun++;
    }
    if (!pieces->at[pieces->next])
        return -ENOBUFS;
    *piece = slice_from_text(pieces->at[pieces->next++]);
    return 0;
}

static void a_body_in_pieces_goes_as_one(void *arg)
{
    static const char *const steps[] = {OK, NULL}, *const parts[] = {"so", "u", "p and bread", NULL};
    struct pieces pieces = {.at = parts};
    const struct fetch_body body = {14, next_piece, &pieces};
    struct house house;

    (void)arg;
    house_open_with(&house, steps);
    house.fetch.method = SLICE("POST");
    house.fetch.pieces = &body;
    CHECK_EQUAL(run(&house), 0);
    CHECK_SAME(slice_from_text(house.origins[0].heard),
               "POST /x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\n\r\nsoup and bread");
    CHECK_EQUAL(pieces.n_begun, 1);
    house_close(&house);
}

static void a_body_in_pieces_begins_anew_on_another_connection(void *arg)
{
    static const char *const steps[] = {OK, HANG_UP, OK, NULL}, *const parts[] = {"so", "up", NULL};
    struct pieces pieces = {.at = parts};
    const struct fetch_body body = {4, next_piece, &pieces};
    struct house house;

    (void)arg;
    house_open_with(&house, steps);
    house.fetch.method = SLICE("PUT");
    house.fetch.pieces = &body;
    for (int i = 0; i < 2; i++)
        CHECK_EQUAL(run(&house), 0);
    CHECK_EQUAL(house.origins[0].n_requests, 3);
    CHECK_EQUAL(pieces.n_begun, 3);
    house_close(&house);
}

static void a_body_that_cannot_be_read_is_no_fault_of_the_server(void *arg)
{
    static const char *const steps[] = {OK, NULL}, *const parts[] = {"so", NULL};
    struct pieces pieces = {.at = parts};
    const struct fetch_body body = {4, next_piece, &pieces};
    struct house house;

    (void)arg;
    house_open_with(&house, steps);
    house.fetch.method = SLICE("PUT");
    house.fetch.pieces = &body;
    CHECK_EQUAL(run(&house), -ENOBUFS);
    CHECK_EQUAL(pieces.n_begun, 1);
    CHECK_EQUAL(house.origins[0].n_requests, 0);
    CHECK_EQUAL(all_errors_of(&house, 0), 0);
    CHECK_EQUAL(atomic_load(&house.servers[0]->idle), 0);
    house_close(&house);
}

static void a_request_without_a_body_says_so_where_one_is_expected(void *arg)
{
    static const char *const steps[] = {OK, OK, OK, NULL};
    struct house house;

    (void)arg;
    house_open_with(&house, steps);
    house.fetch.target = SLICE("/");
    CHECK_EQUAL(run(&house), 0);
    house.fetch.method = SLICE("PUT");
    CHECK_EQUAL(run(&house), 0);
    house.fetch.method = SLICE("NOTE");
    CHECK_EQUAL(run(&house), 0);
    CHECK_SAME(slice_from_text(house.origins[0].heard),
               "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
               "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
               "NOTE / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    house_close(&house);
}

static void a_server_that_wants_a_proxy_header_gets_one_for_nobody(void *arg)
{
    static const char *const steps[] = {OK, OK, NULL};
    struct house house;

    (void)arg;
    house_open_with(&house, steps);
    atomic_store(&house.servers[0]->send_proxy, PROXY_V1);
    CHECK_EQUAL(run(&house), 0);
    CHECK_SAME(slice_of(house.origins[0].heard, 20), "PROXY UNKNOWN\r\nGET /");
    CHECK_EQUAL(atomic_load(&house.servers[0]->idle), 0);
    house_close(&house);
}

/* As for a client's request with the same target. */
static void what_is_hashed_decides_the_server(void *arg)
{
    static const char *const steps[] = {OK, OK, OK, OK, OK, OK, OK, OK, OK, NULL};
    static const struct slice targets[] = {{"/a", 2}, {"/b", 2}, {"/c?d", 4},
                                           {"/e", 2}, {"/f", 2}, {"/g", 2}};
    struct house house;

    (void)arg;
    house_open(&house);
    house.config.balance = BALANCE_CONSISTENT_HASH;
    house.config.hash_key = HASH_KEY_PATH;
    for (int i = 0; i < SERVERS_MAX; i++)
        add_origin(&house, steps);
    house_begin(&house);
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        struct http_request request = {.path = slice_of(targets[i].ptr, 2)};
        struct strategy_input input = {.now_us = loop_now_us(),
                                       .key = request_key(&house.config, &request, &house.fetch.client)};
        struct server *expected = strategy_pick(house.pt->roster, &house.pt->strategy, &input);

        house.fetch.target = targets[i];
        CHECK_EQUAL(run(&house), 0);
        CHECK(slice_equal(house.fetch.server, expected->name));
    }
    house_close(&house);
}

/* --- the answer ------------------------------------------------------------------------------------------------- */

static void an_answer_is_had_whole_whatever_its_framing(void *arg)
{
    static const char *const steps[] = {
        "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 201 Made\r\nTransfer-Encoding: chunked\r\n\r\n"
        "3\r\nhel\r\n2\r\nlo\r\n0\r\nX-T: u\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 418 I\r\nX-C:\r\n\r\nhello",
        END,
        NULL,
    };
    struct http_field *field;
    struct house house;

    (void)arg;
    house_open_with(&house, steps);
    CHECK_EQUAL(run(&house), 0);
    CHECK_EQUAL(house.fetch.status, 200);
    CHECK_SAME(house.fetch.answer, "hello");
    CHECK_SAME(house.fetch.server, "a");
    CHECK(house.fetch.sent && !house.fetch.answer_cut && !house.fetch.note);
    CHECK_EQUAL(house.fetch.answer_fields.count, 2);
    field = &house.fetch.answer_fields.at[0];
    CHECK_EQUAL(run(&house), 0);
    CHECK_EQUAL(house.fetch.status, 201);
    CHECK_SAME(house.fetch.answer, "hello");
    CHECK_EQUAL(run(&house), 0);
    CHECK_EQUAL(house.fetch.status, 204);
    CHECK_EQUAL(house.fetch.answer.len, 0);
    CHECK_EQUAL(run(&house), 0);
    CHECK_EQUAL(house.fetch.status, 418);
    CHECK_SAME(house.fetch.answer, "hello");
    CHECK_SAME(field->name, "X-A"); /* of the first: its bytes are not the connection's */
    CHECK_SAME(field->value, "b");
    CHECK_EQUAL(all_errors_of(&house, 0), 0);
    CHECK_EQUAL(house.origins[0].n_connections, 1);
    CHECK_EQUAL(atomic_load(&house.servers[0]->idle), 0); /* the last one ended its connection */
    CHECK_EQUAL(counter_get(&house.servers[0]->counters[0].requests), 4);
    CHECK_EQUAL(latencies_of(&house, 0), 4);
    house_close(&house);
}

static void an_answer_of_many_pieces_grows(void *arg)
{
    static char answer[60000], expected[50001];
    static const char *const steps[] = {answer, NULL};
    struct house house;
    size_t n;

    (void)arg;
    n = (size_t)sprintf(answer, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 500; i++) {
        memset(expected + (size_t)i * 100, 'a' + i % 26, 100);
        n += (size_t)sprintf(answer + n, "64\r\n%.100s\r\n", expected + (size_t)i * 100);
    }
    strcpy(answer + n, "0\r\n\r\n");
    house_open_with(&house, steps);
    house.fetch.answer_max = 50000;
    CHECK_EQUAL(run(&house), 0);
    CHECK(slice_equal(house.fetch.answer, slice_from_text(expected)));
    CHECK(!house.fetch.answer_cut);
    house_close(&house);
}

static void an_answer_over_the_limit_is_cut_and_its_connection_kept(void *arg)
{
    static const char *const steps[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n4\r\ncdef\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd",
        OK,
        NULL,
    };
    struct house house;

    (void)arg;
    house_open_with(&house, steps);
    house.fetch.answer_max = 4;
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(run(&house), 0);
        CHECK_EQUAL(house.fetch.status, 200);
        CHECK_SAME(house.fetch.answer, "abcd");
        CHECK_EQUAL(house.fetch.answer_cut, i < 2);
    }
    house.fetch.answer_max = 0;
    CHECK_EQUAL(run(&house), 0);
    CHECK(house.fetch.answer_cut && house.fetch.answer.len == 0);
    CHECK_EQUAL(house.origins[0].n_connections, 1);
    house_close(&house);
}

/* It says that a megabyte is to come, and sends none of it. */
static void a_long_rest_over_the_limit_is_not_waited_for(void *arg)
{
    static const char *const steps[] = {"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nabcdef", NULL};
    struct house house;

    (void)arg;
    house_open_with(&house, steps);
    house.fetch.answer_max = 4;
    CHECK_EQUAL(run(&house), 0);
    CHECK_SAME(house.fetch.answer, "abcd");
    CHECK(house.fetch.answer_cut);
    CHECK_EQUAL(atomic_load(&house.servers[0]->idle), 0);
    CHECK_EQUAL(all_errors_of(&house, 0), 0);
    house_close(&house);
}

/* --- connections ------------------------------------------------------------------------------------------------ */

static void a_connection_is_kept_for_the_next_request(void *arg)
{
    static const char *const steps[] = {OK, OK, OK, NULL};
    struct house house;

    (void)arg;
    house_open_with(&house, steps);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(run(&house), 0);
        CHECK_SAME(house.fetch.answer, "ok");
        CHECK_EQUAL(atomic_load(&house.servers[0]->idle), 1);
    }
    CHECK_EQUAL(house.origins[0].n_connections, 1);
    house_close(&house);
}

/* The server closes when the second request comes. */
static void a_dead_kept_connection_is_no_error_and_a_new_one_is_made(void *arg)
{
    static const char *const steps[] = {OK, HANG_UP, OK, NULL};
    struct house house;

    (void)arg;
    house_open_with(&house, steps);
    for (int i = 0; i < 2; i++) {
        CHECK_EQUAL(run(&house), 0);
        CHECK_SAME(house.fetch.answer, "ok");
    }
    CHECK_EQUAL(house.origins[0].n_connections, 2);
    CHECK_EQUAL(house.origins[0].n_requests, 3);
    CHECK_EQUAL(all_errors_of(&house, 0), 0);
    CHECK_EQUAL(atomic_load(&house.servers[0]->failures_in_row), 0);
    house_close(&house);
}

static void what_is_not_idempotent_is_not_sent_again(void *arg)
{
    static const char *const steps[] = {OK, HANG_UP, OK, NULL};
    struct house house;

    (void)arg;
    house_open_with(&house, steps);
    CHECK_EQUAL(run(&house), 0);
    house.fetch.method = SLICE("POST");
    CHECK_EQUAL(run(&house), -ECONNRESET);
    CHECK(house.fetch.sent);
    CHECK_EQUAL(house.fetch.status, 0);
    CHECK_EQUAL(house.fetch.answer_fields.count, 0);
    CHECK(house.fetch.note != NULL);
    CHECK_EQUAL(house.origins[0].n_requests, 2);
    CHECK_EQUAL(all_errors_of(&house, 0), 0);
    house_close(&house);
}

/* --- failures --------------------------------------------------------------------------------------------------- */

static void a_server_that_refuses_is_passed_over(void *arg)
{
    static const char *const steps[] = {OK, NULL};
    struct house house;

    (void)arg;
    house_open(&house);
    add_dead_server(&house);
    add_dead_server(&house);
    add_origin(&house, steps);
    house_begin(&house);
    house.fetch.method = SLICE("POST");
    CHECK_EQUAL(run(&house), 0);
    CHECK_EQUAL(house.fetch.status, 200);
    CHECK_SAME(house.fetch.server, "c");
    for (size_t i = 0; i < 2; i++) {
        CHECK_EQUAL(errors_of(&house, i, SERVER_REFUSED),
                    counter_get(&house.servers[i]->counters[0].requests));
        CHECK_EQUAL(errors_of(&house, i, SERVER_REFUSED),
                    counter_get(&house.servers[i]->counters[0].retries));
    }
    CHECK_EQUAL(all_errors_of(&house, 2), 0);
    house_close(&house);
}

static void without_a_server_that_can_be_reached_nothing_is_sent(void *arg)
{
    struct house house;

    (void)arg;
    house_open(&house);
    add_dead_server(&house);
    add_dead_server(&house);
    house_begin(&house);
    CHECK_EQUAL(run(&house), -EHOSTUNREACH);
    CHECK(!house.fetch.sent);
    CHECK(strcmp(house.fetch.note, "the connection was refused") == 0);
    for (size_t i = 0; i < 2; i++) {
        CHECK_EQUAL(errors_of(&house, i, SERVER_REFUSED), 1);
        server_went_down(house.servers[i]);
    }
    CHECK_EQUAL(run(&house), -EHOSTUNREACH);
    CHECK(strcmp(house.fetch.note, "no server is usable") == 0);
    CHECK_EQUAL(house.fetch.server.len, 0);
    CHECK_EQUAL(counter_get(&house.pt->refused[REFUSED_NO_SERVER]), 2);
    house_close(&house);
}

static void a_server_that_fails_is_counted_and_put_aside(void *arg)
{
    static const char *const steps[] = {"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
                                        "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", OK, NULL};
    static const char *const fine[] = {OK, OK, OK, NULL};
    struct house house;

    (void)arg;
    house_open(&house);
    house.config.ejection = (struct config_ejection){
        .failures = 2, .time_us = 10 * US_PER_S, .time_most_us = 10 * US_PER_S, .share_percent = 100};
    add_origin(&house, steps);
    add_origin(&house, fine);
    house_begin(&house);
    for (int i = 0; i < 4; i++) {
        CHECK_EQUAL(run(&house), 0);
        CHECK_EQUAL(house.fetch.status, slice_equal(house.fetch.server, SLICE("a")) ? 503 : 200);
    }
    CHECK_EQUAL(errors_of(&house, 0, SERVER_STATUS), 2);
    CHECK_EQUAL(all_errors_of(&house, 0), 2);
    CHECK_EQUAL(all_errors_of(&house, 1), 0);
    CHECK(!server_usable(house.servers[0], loop_now_us()));
    CHECK_EQUAL(run(&house), 0);
    CHECK_SAME(house.fetch.server, "b");
    house_close(&house);
}

struct broken_row {
    const char *answer;
    int result;
    enum server_error error;
};

static void a_broken_answer_is_none(void *arg)
{
    static const struct broken_row rows[] = {
        {HANG_UP, -ECONNRESET, SERVER_CLOSED},
        {"HTTP/1.1 200", -ECONNRESET, SERVER_BROKEN},
        {"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", -ECONNRESET, SERVER_BROKEN},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", -ECONNRESET, SERVER_BROKEN},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", -EBADMSG, SERVER_GARBAGE},
        {"SSH-2.0-x\r\n\r\n", -EBADMSG, SERVER_GARBAGE},
        {"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", -EBADMSG, SERVER_GARBAGE},
    };

    (void)arg;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *const steps[] = {rows[i].answer, END, NULL};
        struct house house;

        house_open_with(&house, steps);
        if (!CHECK_EQUAL(run(&house), rows[i].result))
            fprintf(stderr, "row %zu\n", i);
        CHECK(house.fetch.sent && house.fetch.note);
        CHECK_EQUAL(house.fetch.status, 0);
        CHECK_EQUAL(house.fetch.answer.len, 0);
        CHECK_EQUAL(house.origins[0].n_requests, 1);
        if (!CHECK_EQUAL(errors_of(&house, 0, rows[i].error), 1))
            fprintf(stderr, "row %zu\n", i);
        CHECK_EQUAL(all_errors_of(&house, 0), 1);
        house_close(&house);
    }
}

/* --- time ------------------------------------------------------------------------------------------------------- */

static void silence_ends_by_the_shorter_of_both_timeouts(void *arg)
{
    (void)arg;
    for (int own = 0; own < 2; own++) {
        struct house house;
        uint64_t start_us;

        house_open_with(&house, (const char *const[]){SILENCE, NULL});
        if (own)
            house.fetch.timeout_us = 20000;
        else
            house.config.response_timeout_us = 20000;
        start_us = loop_now_us();
        CHECK_EQUAL(run(&house), -ETIMEDOUT);
        CHECK(loop_now_us() - start_us >= 20000);
        CHECK(loop_now_us() - start_us < 5 * US_PER_S);
        CHECK(house.fetch.sent);
        CHECK(strcmp(house.fetch.note, own ? "no answer in time" : "no answer within response-timeout") == 0);
        CHECK_EQUAL(errors_of(&house, 0, SERVER_RESPONSE_TIMEOUT), 1);
        CHECK_EQUAL(atomic_load(&house.servers[0]->failures_in_row), 1);
        house_close(&house);
    }
}

/* The first server took none of the time that counts, but may have: the second is not judged by the rest. */
static void who_had_what_others_left_is_not_to_blame(void *arg)
{
    struct house house;

    (void)arg;
    house_open(&house);
    add_dead_server(&house);
    add_origin(&house, (const char *const[]){SILENCE, SILENCE, NULL});
    house_begin(&house);
    house.fetch.timeout_us = 20000;
    do
        CHECK_EQUAL(run(&house), -ETIMEDOUT);
    while (errors_of(&house, 0, SERVER_REFUSED) == 0);
    CHECK(strcmp(house.fetch.note, "no time was left") == 0);
    CHECK_EQUAL(errors_of(&house, 0, SERVER_REFUSED), 1);
    CHECK_EQUAL(errors_of(&house, 1, SERVER_RESPONSE_TIMEOUT) + 1,
                counter_get(&house.servers[1]->counters[0].requests));
    house_close(&house);
}

struct trickle {
    struct io *listener;
    bool in_chunk_head;
};

/* Never silent for long, and never done. */
static void trickle_main(void *arg)
{
    struct trickle *trickle = arg;
    struct endpoint peer;
    struct stream stream;
    char request[1024];
    const char *head = trickle->in_chunk_head ? "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;"
                                              : "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";

    if (!CHECK_EQUAL(stream_from_socket(&stream, socket_accept(trickle->listener, &peer, NEVER)), 0))
        return;
    CHECK(stream_read(&stream, request, sizeof request, NEVER) > 0);
    CHECK_EQUAL(stream_write_all(&stream, head, strlen(head), NEVER), 0);
    while (stream_write_all(&stream, "x", 1, NEVER) == 0 && fiber_sleep_until(in_ms(2)) == 0)
        ;
    stream_close(&stream);
}

static void an_answer_that_trickles_ends_by_the_timeout(void *arg)
{
    (void)arg;
    for (int in_chunk_head = 0; in_chunk_head < 2; in_chunk_head++) {
        struct trickle trickle = {.in_chunk_head = in_chunk_head};
        struct fiber *fiber;
        struct house house;
        uint64_t start_us;

        house_open_with(&house, (const char *const[]){OK, NULL});
        origin_stop(&house.origins[0]);
        trickle.listener = &house.origins[0].listener;
        fiber = fiber_spawn("trickle", trickle_main, &trickle);
        house.fetch.timeout_us = 30000;
        house.fetch.answer_max = 1000000;
        start_us = loop_now_us();
        CHECK_EQUAL(run(&house), -ETIMEDOUT);
        CHECK(loop_now_us() - start_us < 5 * US_PER_S);
        CHECK_EQUAL(errors_of(&house, 0, SERVER_RESPONSE_TIMEOUT), 1);
        CHECK_EQUAL(fiber_join(fiber, in_ms(10000)), 0);
        house_close(&house);
    }
}

/* The kernel takes some of it, and the server reads nothing. */
static void a_body_that_nobody_reads_ends_by_the_timeout(void *arg)
{
    static char body[16 << 20];
    struct house house;

    (void)arg;
    house_open_with(&house, (const char *const[]){OK, NULL});
    origin_stop(&house.origins[0]);
    house.fetch.body = slice_of(body, sizeof body);
    house.fetch.method = SLICE("PUT");
    house.fetch.timeout_us = 30000;
    CHECK_EQUAL(run(&house), -ETIMEDOUT);
    CHECK(house.fetch.sent);
    house_close(&house);
}

/* --- waiting in line, and cancels ------------------------------------------------------------------------------- */

struct call {
    struct house *house;
    int result;
};

static void call_main(void *arg)
{
    struct call *call = arg;

    call->result = run(call->house);
    tell('.');
}

static void turns(unsigned n)
{
    while (n--)
        fiber_yield();
}

static void a_full_line_refuses(void *arg)
{
    struct strategy_input input = {0};
    struct server *server;
    struct house house;

    (void)arg;
    house_open_with(&house, (const char *const[]){OK, NULL});
    house.config.max_queue = 0;
    atomic_store(&house.servers[0]->max_connections, 1);
    CHECK_EQUAL(line_enter(house.pt, &input, &server), 0);
    CHECK_EQUAL(run(&house), -EAGAIN);
    CHECK(!house.fetch.sent);
    CHECK_EQUAL(counter_get(&house.pt->refused[REFUSED_LINE_FULL]), 1);
    house.config.max_queue = 1;
    house.config.queue_timeout_us = 5000;
    CHECK_EQUAL(run(&house), -ETIMEDOUT);
    CHECK(!house.fetch.sent);
    CHECK_EQUAL(counter_get(&house.pt->refused[REFUSED_LINE_TIMEOUT]), 1);
    line_leave(house.pt, server);
    CHECK_EQUAL(run(&house), 0);
    house_close(&house);
}

/* While it waits, its own time does not run. */
static void a_place_in_line_is_waited_for(void *arg)
{
    struct strategy_input input = {0};
    struct server *server;
    struct fiber *fiber;
    struct house house;
    struct call call = {&house, 1};

    (void)arg;
    house_open_with(&house, (const char *const[]){OK, NULL});
    atomic_store(&house.servers[0]->max_connections, 1);
    house.fetch.timeout_us = 200 * US_PER_MS;
    CHECK_EQUAL(line_enter(house.pt, &input, &server), 0);
    fiber = fiber_spawn("call", call_main, &call);
    turns(2);
    CHECK_EQUAL(atomic_load(&house.pool->in_line), 1);
    CHECK_EQUAL(atomic_load(&house.servers[0]->active), 1);
    CHECK_EQUAL(fiber_join(fiber, in_ms(250)), -ETIMEDOUT);
    line_leave(house.pt, server);
    CHECK_EQUAL(fiber_join(fiber, in_ms(10000)), 0);
    CHECK_EQUAL(call.result, 0);
    CHECK_EQUAL(house.fetch.status, 200);
    house_close(&house);
}

static void a_cancel_ends_every_wait(void *arg)
{
    (void)arg;
    for (int in_line = 0; in_line < 2; in_line++) {
        struct strategy_input input = {0};
        struct server *server = NULL;
        struct fiber *fiber;
        struct house house;
        struct call call = {&house, 1};

        house_open_with(&house, (const char *const[]){SILENCE, NULL});
        if (in_line) {
            atomic_store(&house.servers[0]->max_connections, 1);
            CHECK_EQUAL(line_enter(house.pt, &input, &server), 0);
        }
        fiber = fiber_spawn("call", call_main, &call);
        for (int i = 0; i < 10000 && !in_line && !house.origins[0].n_requests; i++)
            CHECK_EQUAL(fiber_sleep_until(in_ms(1)), 0);
        turns(2);
        CHECK_EQUAL(call.result, 1);
        fiber_cancel_and_join(fiber);
        CHECK_EQUAL(call.result, -ECANCELED);
        CHECK_EQUAL(house.fetch.sent, !in_line);
        CHECK_EQUAL(all_errors_of(&house, 0), 0);
        if (in_line)
            line_leave(house.pt, server);
        house_close(&house);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIBER_TEST(a_request_goes_as_it_is_but_for_what_belongs_to_one_hop),
        FIBER_TEST(a_body_in_pieces_goes_as_one),
        FIBER_TEST(a_body_in_pieces_begins_anew_on_another_connection),
        FIBER_TEST(a_body_that_cannot_be_read_is_no_fault_of_the_server),
        FIBER_TEST(a_request_without_a_body_says_so_where_one_is_expected),
        FIBER_TEST(a_server_that_wants_a_proxy_header_gets_one_for_nobody),
        FIBER_TEST(what_is_hashed_decides_the_server),
        FIBER_TEST(an_answer_is_had_whole_whatever_its_framing),
        FIBER_TEST(an_answer_of_many_pieces_grows),
        FIBER_TEST(an_answer_over_the_limit_is_cut_and_its_connection_kept),
        FIBER_TEST(a_long_rest_over_the_limit_is_not_waited_for),
        FIBER_TEST(a_connection_is_kept_for_the_next_request),
        FIBER_TEST(a_dead_kept_connection_is_no_error_and_a_new_one_is_made),
        FIBER_TEST(what_is_not_idempotent_is_not_sent_again),
        FIBER_TEST(a_server_that_refuses_is_passed_over),
        FIBER_TEST(without_a_server_that_can_be_reached_nothing_is_sent),
        FIBER_TEST(a_server_that_fails_is_counted_and_put_aside),
        FIBER_TEST(a_broken_answer_is_none),
        FIBER_TEST(silence_ends_by_the_shorter_of_both_timeouts),
        FIBER_TEST(who_had_what_others_left_is_not_to_blame),
        FIBER_TEST(an_answer_that_trickles_ends_by_the_timeout),
        FIBER_TEST(a_body_that_nobody_reads_ends_by_the_timeout),
        FIBER_TEST(a_full_line_refuses),
        FIBER_TEST(a_place_in_line_is_waited_for),
        FIBER_TEST(a_cancel_ends_every_wait),
    };

    kit_watchdog(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
