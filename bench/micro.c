/* micro.c - nanoseconds of what a request goes through inside the process: head, route, ring.
 *
 * Each row of the table runs in batches for a fifth of a second, five times; the least and the median are
 * printed. Inputs change from call to call where a real one would, so that branch predictors learn no single
 * answer. Prints Markdown.
 * Usage: micro [PART OF A NAME]   (only the rows whose name has it) */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "balance/ring.h"
#include "balance/router.h"
#include "base/hash.h"
#include "base/rng.h"
#include "config/config.h"
#include "wire/http1.h"

#define FIELDS_MAX 128
#define BATCH 1000 /* calls between two looks at the clock */
#define ROUND_NS 200000000ull
#define ROUNDS 5
#define KEYS 4096 /* a power of two */
#define ROUTES 1000
#define HOSTS 100
#define TEXT_MAX 64

static volatile size_t sink; /* what the calls return goes here, so that none is optimised away */

static const char small_request[] = "GET / HTTP/1.1\r\nHost: bench.test\r\n\r\n";

static const char browser_request[] =
    "GET /api/videos/4711?quality=high&from=start HTTP/1.1\r\n"
    "Host: www.example.com\r\n"
    "Connection: keep-alive\r\n"
    "Cache-Control: max-age=0\r\n"
    "Upgrade-Insecure-Requests: 1\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Referer: https://www.example.com/api/videos\r\n"
    "Accept-Encoding: gzip, deflate, br\r\n"
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
    "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; canary=1\r\n"
    "\r\n";

static const char small_response[] = "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain\r\n"
                                     "Content-Length: 118\r\n\r\n";

static struct http_field fields[FIELDS_MAX];

static size_t find_end(const char *head, size_t len)
{
    size_t scanned = 0;

    return http1_head_end(head, len, &scanned);
}

static size_t parse_request(const char *head, size_t len)
{
    const struct http1_limits limits = {.max_line = 8192, .max_head = 32768};
    struct http_request request = {.fields = {.at = fields, .max = FIELDS_MAX}};
    struct http1_error error;

    if (http1_parse_request(slice_of(head, len), &limits, &request, &error) != 0) {
        fprintf(stderr, "micro: a request was refused: %s\n", error.why);
        exit(1);
    }
    return request.fields.count;
}

static size_t head_end_small(size_t i)
{
    (void)i;
    return find_end(small_request, sizeof(small_request) - 1);
}

static size_t head_end_browser(size_t i)
{
    (void)i;
    return find_end(browser_request, sizeof(browser_request) - 1);
}

static size_t parse_small_request(size_t i)
{
    (void)i;
    return parse_request(small_request, sizeof(small_request) - 1);
}

static size_t parse_browser_request(size_t i)
{
    (void)i;
    return parse_request(browser_request, sizeof(browser_request) - 1);
}

static size_t parse_small_response(size_t i)
{
    const struct slice head = {small_response, sizeof(small_response) - 1};
    struct http_response response = {.fields = {.at = fields, .max = FIELDS_MAX}};
    struct http1_error error;

    (void)i;
    if (http1_parse_response(head, METHOD_GET, &response, &error) != 0) {
        fprintf(stderr, "micro: an answer was refused: %s\n", error.why);
        exit(1);
    }
    return response.status;
}

/* --- routes: a listener with one route, and one with 1,000 over 100 hosts --- */

static struct router *router_of_one, *router_of_many;
static char hosts[HOSTS][TEXT_MAX];
static char paths[ROUTES][TEXT_MAX];
static struct slice host_slices[HOSTS];
static struct config_route routes[ROUTES];
static struct config_http listener_of_one, listener_of_many;
static struct http_request requests[KEYS];
static char request_paths[KEYS][TEXT_MAX];
static struct http_request root_request = {
    .method_id = METHOD_GET,
    .method = {"GET", 3},
    .authority = {"bench.test", 10},
    .path = {"/", 1},
    .path_is_plain = true,
    .keep_alive = true,
};

static struct router *make_router(const struct config_http *listener)
{
    struct router *router = router_create(listener);

    if (!router) {
        perror("router_create");
        exit(1);
    }
    return router;
}

static void prepare_routes(void)
{
    static struct config_route root = {.path = {"/", 1}, .action = ROUTE_RESPOND, .status = 200};
    struct rng rng = {1};

    for (size_t i = 0; i < HOSTS; i++) {
        snprintf(hosts[i], TEXT_MAX, "shop-%zu.example.com", i);
        host_slices[i] = slice_from_text(hosts[i]);
    }
    for (size_t i = 0; i < ROUTES; i++) {
        snprintf(paths[i], TEXT_MAX, "/api/section-%zu", i / HOSTS);
        routes[i] = (struct config_route){.path = slice_from_text(paths[i]),
                                          .hosts = &host_slices[i % HOSTS],
                                          .n_hosts = 1,
                                          .action = ROUTE_RESPOND,
                                          .status = 200};
    }
    for (size_t i = 0; i < KEYS; i++) {
        size_t route = rng_below(&rng, ROUTES);

        snprintf(request_paths[i], TEXT_MAX, "%s/item/%zu", paths[route], i);
        requests[i] = root_request;
        requests[i].authority = host_slices[route % HOSTS];
        requests[i].path = slice_from_text(request_paths[i]);
    }
    listener_of_one = (struct config_http){.routes = &root, .n_routes = 1};
    listener_of_many = (struct config_http){.routes = routes, .n_routes = ROUTES};
    router_of_one = make_router(&listener_of_one);
    router_of_many = make_router(&listener_of_many);
}

static size_t find_route(const struct router *router, const struct http_request *request)
{
    struct slice rest;

    if (!router_find(router, request, &rest)) {
        fprintf(stderr, "micro: no route for %.*s\n", SLICE_ARG(request->path));
        exit(1);
    }
    return rest.len;
}

static size_t route_one(size_t i)
{
    (void)i;
    return find_route(router_of_one, &root_request);
}

static size_t route_many(size_t i)
{
    return find_route(router_of_many, &requests[i % KEYS]);
}

/* --- rings: 10 and 1,000 servers with 160 points each --- */

static struct ring *ring_of_ten, *ring_of_thousand;
static uint64_t key_hashes[KEYS];

static struct ring *make_ring(size_t n)
{
    static char names[ROUTES][TEXT_MAX];
    static struct ring_member members[ROUTES];
    struct ring *ring;

    for (size_t i = 0; i < n; i++) {
        snprintf(names[i], TEXT_MAX, "10.0.%zu.%zu:8080", i / 256, i % 256);
        members[i] = (struct ring_member){.name = slice_from_text(names[i]), .weight = 1};
    }
    ring = ring_create(members, n, 160);
    if (!ring) {
        perror("ring_create");
        exit(1);
    }
    return ring;
}

static void prepare_rings(void)
{
    for (size_t i = 0; i < KEYS; i++)
        key_hashes[i] = hash_bytes(slice_from_text(request_paths[i]));
    ring_of_ten = make_ring(10);
    ring_of_thousand = make_ring(1000);
}

static size_t hash_key(size_t i)
{
    return hash_bytes(requests[i % KEYS].path);
}

static size_t ring_ten(size_t i)
{
    return ring_member_at(ring_of_ten, ring_find(ring_of_ten, key_hashes[i % KEYS]));
}

static size_t ring_thousand(size_t i)
{
    return ring_member_at(ring_of_thousand, ring_find(ring_of_thousand, key_hashes[i % KEYS]));
}

/* --- the table --- */

static const struct bench {
    const char *name;
    size_t (*call)(size_t i);
} benches[] = {
    {"head end, request of 37 bytes", head_end_small},
    {"head end, request of a browser", head_end_browser},
    {"parse request of 37 bytes", parse_small_request},
    {"parse request of a browser", parse_browser_request},
    {"parse answer of 3 fields", parse_small_response},
    {"route, 1 route", route_one},
    {"route, 1,000 routes over 100 hosts", route_many},
    {"hash of a path", hash_key},
    {"ring, 10 servers, 1,600 points", ring_ten},
    {"ring, 1,000 servers, 160,000 points", ring_thousand},
};

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* Nanoseconds a call takes. */
static double measure_round(const struct bench *bench)
{
    uint64_t start = now_ns(), now;
    size_t calls = 0;

    do {
        size_t sum = 0;

        for (size_t i = 0; i < BATCH; i++)
            sum += bench->call(calls + i);
        sink = sum;
        calls += BATCH;
        now = now_ns();
    } while (now - start < ROUND_NS);
    return (double)(now - start) / (double)calls;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    const char *part = argc == 2 ? argv[1] : "";

    if (argc > 2) {
        fprintf(stderr, "usage: micro [PART OF A NAME]\n");
        return 2;
    }
    prepare_routes();
    prepare_rings();
    printf("| | least ns | median ns |\n|---|--:|--:|\n");
    for (size_t b = 0; b < sizeof(benches) / sizeof(benches[0]); b++) {
        double ns[ROUNDS];

        if (!strstr(benches[b].name, part))
            continue;
        measure_round(&benches[b]);
        for (size_t i = 0; i < ROUNDS; i++)
            ns[i] = measure_round(&benches[b]);
        qsort(ns, ROUNDS, sizeof(ns[0]), compare);
        printf("| %s | %.1f | %.1f |\n", benches[b].name, ns[0], ns[ROUNDS / 2]);
    }
    router_free(router_of_one);
    router_free(router_of_many);
    ring_free(ring_of_ten);
    ring_free(ring_of_thousand);
    return 0;
}
