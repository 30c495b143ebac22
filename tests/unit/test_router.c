/* test_router.c - which route a request takes, what is left of its path, and what `check --route` says
 * about it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "balance/router_explain.h"
#include "base/rng.h"

#define ROUTES_MAX 64
#define HOSTS_MAX 3

/* A listener's routes, built by hand. */
struct table {
    struct config_route routes[ROUTES_MAX];
    struct slice hosts[ROUTES_MAX][HOSTS_MAX];
    struct slice methods[ROUTES_MAX][HOSTS_MAX];
    struct config_condition conditions[ROUTES_MAX][HOSTS_MAX];
    struct config_http http;
};

static struct config_route *table_add(struct table *table, const char *host, const char *path)
{
    size_t at = table->http.n_routes++;
    struct config_route *route = &table->routes[at];

    assert_true(at < ROUTES_MAX);
    *route = (struct config_route){
        .place = {"site.conf", (int)at + 1},
        .path = slice_from_text(path),
        .hosts = table->hosts[at],
        .methods = table->methods[at],
        .conditions = table->conditions[at],
        .action = ROUTE_RESPOND,
        .status = 200,
    };
    if (host)
        route->hosts[route->n_hosts++] = slice_from_text(host);
    table->http.routes = table->routes;
    return route;
}

static void add_condition(struct config_route *route, enum condition_kind kind, const char *name,
                          const char *value)
{
    route->conditions[route->n_conditions++] = (struct config_condition){
        .kind = kind,
        .name = slice_from_text(name),
        .any_value = !value,
        .value = value ? slice_from_text(value) : slice_of(NULL, 0),
    };
}

/* As http.h defines the flag. */
static bool is_plain(const char *path)
{
    const char *at;

    if (strchr(path, '%') || strstr(path, "//"))
        return false;
    for (at = strstr(path, "/."); at; at = strstr(at + 1, "/.")) {
        size_t dots = strspn(at + 1, ".");

        if (dots <= 2 && (at[1 + dots] == '/' || !at[1 + dots]))
            return false;
    }
    return true;
}

static struct http_request request_for(const char *authority, const char *path)
{
    return (struct http_request){
        .method_id = METHOD_GET,
        .method = SLICE("GET"),
        .authority = slice_from_text(authority),
        .path = slice_from_text(path),
        .path_is_plain = is_plain(path),
    };
}

/* The line of the route found, 0 for none. */
static int line_of(const struct router *router, const struct http_request *request, struct slice *rest)
{
    const struct config_route *route = router_find(router, request, rest);

    return route ? route->place.line : 0;
}

static int find(const struct table *table, const char *authority, const char *path)
{
    struct router *router = router_create(&table->http);
    struct http_request request = request_for(authority, path);
    struct slice rest;
    int line;

    assert_non_null(router);
    line = line_of(router, &request, &rest);
    router_free(router);
    return line;
}

/* --- paths --- */

static void a_prefix_ends_where_a_segment_ends(void **state)
{
    struct table table = {.http.n_routes = 0};

    (void)state;
    table_add(&table, NULL, "/api");
    assert_int_equal(find(&table, "h", "/api"), 1);
    assert_int_equal(find(&table, "h", "/api/"), 1);
    assert_int_equal(find(&table, "h", "/api/x/y"), 1);
    assert_int_equal(find(&table, "h", "/apix"), 0);
    assert_int_equal(find(&table, "h", "/ap"), 0);
    assert_int_equal(find(&table, "h", "/x/api"), 0);
    assert_int_equal(find(&table, "h", "/API"), 0);
    assert_int_equal(find(&table, "h", "/"), 0);
}

static void the_longest_path_wins_whatever_the_order(void **state)
{
    struct table table = {.http.n_routes = 0};

    (void)state;
    table_add(&table, NULL, "/");
    table_add(&table, NULL, "/api/videos");
    table_add(&table, NULL, "/api");
    assert_int_equal(find(&table, "h", "/api/videos/1"), 2);
    assert_int_equal(find(&table, "h", "/api/videosx"), 3);
    assert_int_equal(find(&table, "h", "/apix"), 1);
}

static void each_way_to_write_a_path_finds_its_route_and_the_rest_as_sent(void **state)
{
    static const struct {
        const char *path;
        int line; /* 1: "/", 2: "/api", 3: "/api/v1", 4: "/a b" */
        const char *rest;
    } rows[] = {
        {"/", 1, "/"},
        {"/x", 1, "/x"},
        {"//x//y", 1, "/x//y"},
        {"/api", 2, ""},
        {"/api/", 2, "/"},
        {"/api/x", 2, "/x"},
        {"/%61pi/%78", 2, "/%78"},
        {"//api", 2, ""},
        {"///api//x//y", 2, "/x//y"},
        {"/api%2Fx", 2, "%2Fx"},
        {"/api%2fx", 2, "%2fx"},
        {"/api%2F%2Fx", 2, "%2F%2Fx"},
        {"/api%2F/x", 2, "/x"},
        {"/api/%2Fx", 2, "/%2Fx"},
        {"%2Fapi/x", 1, ""},
        {"/%2Fapi/x", 2, "/x"},
        {"/api%", 1, "/api%"},
        {"/api/%zz", 2, "/%zz"},
        {"/%2561pi", 1, "/%2561pi"},
        {"/api/v1", 3, ""},
        {"/api//v1/x", 3, "/x"},
        {"/api%2Fv1/x", 3, "/x"},
        {"/./api/x", 2, "/x"},
        {"/api/./v1/x", 3, "/x"},
        {"/api/.", 2, "/."},
        {"/x/../api/y", 2, "/y"},
        {"/api/../x", 1, "/api/../x"},
        {"/api/%2e%2E/x", 1, "/api/%2e%2E/x"},
        {"/api/x/..%2f../y", 1, "/api/x/..%2f../y"},
        {"/../../api/x", 2, "/x"},
        {"/api/v1/../x", 2, "/v1/../x"},
        {"/api/x/../v1/y", 3, "/y"},
        {"/api/..", 1, "/api/.."},
        {"/api/../../api/q", 2, "/q"},
        {"/api/...", 2, "/..."},
        {"/.api", 1, "/.api"},
        {"/a%20b/c", 4, "/c"},
        {"/a+b", 1, "/a+b"},
        {"/api/x/", 2, "/x/"},
        {"*", 1, ""},
        {"", 1, ""},
    };
    struct table table = {.http.n_routes = 0};
    struct router *router;

    (void)state;
    table_add(&table, NULL, "/");
    table_add(&table, NULL, "/api");
    table_add(&table, NULL, "/api/v1");
    table_add(&table, NULL, "/a%20b");
    router = router_create(&table.http);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct http_request request = request_for("h", rows[i].path);

        for (int plain = 0; plain <= request.path_is_plain; plain++) {
            struct slice rest;

            request.path_is_plain = plain;
            if (line_of(router, &request, &rest) != rows[i].line)
                fail_msg("%s does not find route %d", rows[i].path, rows[i].line);
            if (!slice_equal(rest, slice_from_text(rows[i].rest)))
                fail_msg("%s leaves \"%.*s\"", rows[i].path, SLICE_ARG(rest));
            assert_true(rest.ptr >= request.path.ptr && rest.ptr <= request.path.ptr + request.path.len);
            request.path_is_plain = is_plain(rows[i].path);
        }
    }
    router_free(router);
}

/* What does not fit where paths are compared is only counted, and comes back when ".." takes it away. */
static void a_path_longer_than_any_route_is_followed_to_its_end(void **state)
{
    enum { DEEP = 3000 };
    static char path[16 + 7 * DEEP];
    struct table table = {.http.n_routes = 0};
    char *end = path;

    (void)state;
    table_add(&table, NULL, "/");
    table_add(&table, NULL, "/api/end");
    end += sprintf(end, "/api");
    for (int i = 0; i < DEEP; i++)
        end += sprintf(end, "/%%78");
    assert_int_equal(find(&table, "h", path), 1);
    for (int i = 0; i < DEEP - 1; i++)
        end += sprintf(end, "/..");
    strcpy(end, "/end");
    assert_int_equal(find(&table, "h", path), 1);
    strcpy(end, "/../end");
    assert_int_equal(find(&table, "h", path), 2);
}

static void a_route_may_have_a_path_as_long_as_the_limit_and_no_longer(void **state)
{
    static char path[ROUTER_PATH_MAX + 2];
    static char asked[2 * ROUTER_PATH_MAX];
    struct table table = {.http.n_routes = 0};

    (void)state;
    memset(path, 'x', ROUTER_PATH_MAX);
    path[0] = '/';
    table_add(&table, NULL, path);
    assert_int_equal(find(&table, "h", path), 1);
    snprintf(asked, sizeof asked, "%s%s", path, "//more");
    assert_int_equal(find(&table, "h", asked), 1);
    path[ROUTER_PATH_MAX] = 'x';
    table.routes[0].path = slice_from_text(path);
    assert_null(router_create(&table.http));
    assert_int_equal(errno, ENAMETOOLONG);
}

/* --- hosts --- */

static void an_exact_host_wins_before_wildcards_and_those_before_none(void **state)
{
    struct table table = {.http.n_routes = 0};

    (void)state;
    table_add(&table, NULL, "/very/long/path");
    table_add(&table, "*.example.com", "/very");
    table_add(&table, "*.eu.example.com", "/very");
    table_add(&table, "www.eu.example.com", "/");
    assert_int_equal(find(&table, "www.eu.example.com", "/very/long/path"), 4);
    assert_int_equal(find(&table, "app.eu.example.com", "/very/long/path"), 3);
    assert_int_equal(find(&table, "a.b.eu.example.com", "/very/long/path"), 3);
    assert_int_equal(find(&table, "eu.example.com", "/very/long/path"), 2);
    assert_int_equal(find(&table, "example.com", "/very/long/path"), 1);
    assert_int_equal(find(&table, "xexample.com", "/very/long/path"), 1);
    assert_int_equal(find(&table, ".example.com", "/very/long/path"), 1);
    assert_int_equal(find(&table, "", "/very/long/path"), 1);
}

static void a_host_whose_routes_do_not_match_leaves_it_to_the_next(void **state)
{
    struct table table = {.http.n_routes = 0};

    (void)state;
    table_add(&table, "www.example.com", "/only");
    table_add(&table, "*.example.com", "/some");
    table_add(&table, NULL, "/");
    assert_int_equal(find(&table, "www.example.com", "/only/x"), 1);
    assert_int_equal(find(&table, "www.example.com", "/some"), 2);
    assert_int_equal(find(&table, "www.example.com", "/other"), 3);
}

static void hosts_are_compared_without_case_port_and_trailing_dot(void **state)
{
    struct table table = {.http.n_routes = 0};

    (void)state;
    table_add(&table, "example.com", "/");
    table_add(&table, "*.example.com", "/");
    table_add(&table, "[::1]", "/");
    assert_int_equal(find(&table, "EXAMPLE.com", "/"), 1);
    assert_int_equal(find(&table, "example.com:8080", "/"), 1);
    assert_int_equal(find(&table, "example.com.", "/"), 1);
    assert_int_equal(find(&table, "Example.Com.:80", "/"), 1);
    assert_int_equal(find(&table, "WWW.Example.Com.:80", "/"), 2);
    assert_int_equal(find(&table, "[::1]:80", "/"), 3);
    assert_int_equal(find(&table, "example.com..", "/"), 0);
}

static void an_endless_host_finds_only_routes_without_hosts(void **state)
{
    static char host[9000];
    struct table table = {.http.n_routes = 0};

    (void)state;
    table_add(&table, "*.example.com", "/");
    table_add(&table, NULL, "/");
    memset(host, 'a', 243);
    strcpy(host + 243, ".example.com");
    assert_int_equal(find(&table, host, "/"), 1);
    memset(host, 'a', 244);
    strcpy(host + 244, ".example.com");
    assert_int_equal(find(&table, host, "/"), 2);
    memset(host, '.', 8000);
    strcpy(host + 8000, ".example.com");
    assert_int_equal(find(&table, host, "/"), 2);
}

static void a_route_may_have_several_hosts(void **state)
{
    struct table table = {.http.n_routes = 0};
    struct config_route *route = table_add(&table, "a.test", "/");

    (void)state;
    route->hosts[route->n_hosts++] = SLICE("*.b.test");
    assert_int_equal(find(&table, "a.test", "/"), 1);
    assert_int_equal(find(&table, "x.b.test", "/"), 1);
    assert_int_equal(find(&table, "b.test", "/"), 0);
}

/* --- methods and conditions --- */

static void a_method_is_exact_and_get_does_not_mean_head(void **state)
{
    struct table table = {.http.n_routes = 0};
    struct config_route *route = table_add(&table, NULL, "/");
    struct http_request request = request_for("h", "/");
    struct router *router;
    struct slice rest;

    (void)state;
    route->methods[route->n_methods++] = SLICE("GET");
    route->methods[route->n_methods++] = SLICE("BREW");
    router = router_create(&table.http);
    assert_int_equal(line_of(router, &request, &rest), 1);
    request.method = SLICE("BREW");
    assert_int_equal(line_of(router, &request, &rest), 1);
    request.method = SLICE("HEAD");
    assert_int_equal(line_of(router, &request, &rest), 0);
    request.method = SLICE("get");
    assert_int_equal(line_of(router, &request, &rest), 0);
    router_free(router);
}

static void header_cookie_and_query_conditions_must_all_hold(void **state)
{
    struct http_field at[] = {
        {.name = SLICE("x-preview"), .value = SLICE("no")},
        {.name = SLICE("X-Preview"), .value = SLICE("yes")},
        {.name = SLICE("Cookie"), .value = SLICE("a=1; canary=0"), .id = FIELD_COOKIE},
    };
    struct table table = {.http.n_routes = 0};
    struct config_route *route = table_add(&table, NULL, "/");
    struct http_request request = request_for("h", "/");
    struct router *router;
    struct slice rest;

    (void)state;
    add_condition(route, CONDITION_HEADER, "X-Preview", "yes");
    add_condition(route, CONDITION_COOKIE, "canary", NULL);
    add_condition(route, CONDITION_QUERY, "v", "2");
    router = router_create(&table.http);
    request.fields = (struct http_fields){at, 3, 3};
    request.query = SLICE("u=1&v=2");
    assert_int_equal(line_of(router, &request, &rest), 1);
    request.query = SLICE("u=1&v=3");
    assert_int_equal(line_of(router, &request, &rest), 0);
    request.query = SLICE("v=2");
    at[1].value = SLICE("Yes");
    assert_int_equal(line_of(router, &request, &rest), 0);
    at[1].value = SLICE("yes");
    at[2].value = SLICE("a=1");
    assert_int_equal(line_of(router, &request, &rest), 0);
    router_free(router);
}

static void more_conditions_win_and_all_methods_together_are_one(void **state)
{
    struct table table = {.http.n_routes = 0};
    struct config_route *route;
    struct http_request request = request_for("h", "/p");
    struct router *router;
    struct slice rest;

    (void)state;
    route = table_add(&table, NULL, "/p");
    route = table_add(&table, NULL, "/p");
    route->methods[route->n_methods++] = SLICE("GET");
    route->methods[route->n_methods++] = SLICE("PUT");
    route->methods[route->n_methods++] = SLICE("HEAD");
    route = table_add(&table, NULL, "/p");
    add_condition(route, CONDITION_QUERY, "a", NULL);
    add_condition(route, CONDITION_QUERY, "b", NULL);
    route = table_add(&table, NULL, "/p");
    add_condition(route, CONDITION_QUERY, "a", NULL);
    router = router_create(&table.http);
    request.query = SLICE("a&b");
    assert_int_equal(line_of(router, &request, &rest), 3);
    request.query = SLICE("a");
    assert_int_equal(line_of(router, &request, &rest), 2);
    request.method = SLICE("POST");
    assert_int_equal(line_of(router, &request, &rest), 4);
    request.query = SLICE("");
    assert_int_equal(line_of(router, &request, &rest), 1);
    router_free(router);
}

static void a_longer_path_wins_before_more_conditions_and_equals_by_order(void **state)
{
    struct table table = {.http.n_routes = 0};
    struct config_route *route = table_add(&table, NULL, "/p");

    (void)state;
    route->methods[route->n_methods++] = SLICE("GET");
    table_add(&table, NULL, "/p/q");
    table_add(&table, NULL, "/p/q");
    assert_int_equal(find(&table, "h", "/p/q"), 2);
    assert_int_equal(find(&table, "h", "/p/x"), 1);
}

static void a_thousand_routes_of_one_host_are_all_found(void **state)
{
    enum { MANY = 1000 };
    static struct config_route routes[MANY];
    static char paths[MANY][32];
    static struct slice host = {"example.com", 11};
    const struct config_http http = {.routes = routes, .n_routes = MANY};
    struct router *router;

    (void)state;
    for (int i = 0; i < MANY; i++) {
        snprintf(paths[i], sizeof paths[i], "/%d/%.*s", i, i % 20, "abcdefghijklmnopqrst");
        paths[i][strlen(paths[i]) - (i % 20 == 0)] = 0;
        routes[i] = (struct config_route){
            .place = {"x", i + 1}, .path = slice_from_text(paths[i]), .hosts = &host, .n_hosts = 1};
    }
    router = router_create(&http);
    for (int i = 0; i < MANY; i++) {
        struct http_request request = request_for("example.com", paths[i]);
        struct slice rest;

        assert_int_equal(line_of(router, &request, &rest), i + 1);
    }
    router_free(router);
}

static void a_listener_without_routes_finds_none(void **state)
{
    struct table table = {.http.n_routes = 0};

    (void)state;
    assert_int_equal(find(&table, "h", "/"), 0);
}

/* --- explaining --- */

static void explaining_tells_for_each_route_why_not(void **state)
{
    static const char expected[] =
        "route \"/shop\" (site.conf:6) matches: answer 200\n"
        "  route \"/shop\" (site.conf:1): the host is not beta.test, *.beta.test\n"
        "  route \"/shopping\" (site.conf:2): the path is not under it\n"
        "  route \"/shop\" (site.conf:3): the method is not PUT, POST\n"
        "  route \"/shop\" (site.conf:4): the header \"X-Preview\" is not \"yes\"\n"
        "  route \"/shop\" (site.conf:5): the cookie \"canary\" is not there\n"
        "  route \"/\" (site.conf:7): matches, but its path is shorter\n"
        "  route \"/shop/a\" (site.conf:8): matches, but its host is less exact\n"
        "  route \"/shop\" (site.conf:9): matches, but it has fewer conditions\n"
        "  route \"/shop\" (site.conf:10): matches, but it is as specific and stands later in the file\n";
    struct table table = {.http.n_routes = 0};
    struct http_request request = request_for("www.test", "/shop//a");
    struct config_route *route;
    struct router *router;
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    (void)state;
    route = table_add(&table, "beta.test", "/shop");
    route->hosts[route->n_hosts++] = SLICE("*.beta.test");
    table_add(&table, NULL, "/shopping");
    route = table_add(&table, NULL, "/shop");
    route->methods[route->n_methods++] = SLICE("PUT");
    route->methods[route->n_methods++] = SLICE("POST");
    add_condition(table_add(&table, NULL, "/shop"), CONDITION_HEADER, "X-Preview", "yes");
    add_condition(table_add(&table, NULL, "/shop"), CONDITION_COOKIE, "canary", NULL);
    add_condition(table_add(&table, "www.test", "/shop"), CONDITION_QUERY, "q", NULL);
    table_add(&table, "www.test", "/");
    table_add(&table, "*.test", "/shop/a");
    table_add(&table, "www.test", "/shop");
    add_condition(table_add(&table, "www.test", "/shop"), CONDITION_QUERY, "q", NULL);
    router = router_create(&table.http);
    request.query = SLICE("q=1");
    router_explain(router, &request, out);
    fclose(out);
    assert_string_equal(text, expected);
    free(text);
    router_free(router);
}

static void explaining_says_so_when_nothing_matches(void **state)
{
    struct table table = {.http.n_routes = 0};
    const struct config_pool pool = {.name = "web"};
    struct http_request request = request_for("h", "/x");
    struct router *router;
    struct slice rest;
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    (void)state;
    table_add(&table, NULL, "/y")->action = ROUTE_POOL;
    table.routes[0].pool = &pool;
    table_add(&table, NULL, "/z")->action = ROUTE_REDIRECT;
    table.routes[1].redirect = "/new{rest}";
    table.routes[1].status = 308;
    router = router_create(&table.http);
    assert_null(router_find(router, &request, &rest));
    router_explain(router, &request, out);
    fputs("--\n", out);
    request.path = SLICE("/y");
    router_explain(router, &request, out);
    request.path = SLICE("/z");
    router_explain(router, &request, out);
    fclose(out);
    assert_string_equal(text, "no route matches\n"
                              "  route \"/y\" (site.conf:1): the path is not under it\n"
                              "  route \"/z\" (site.conf:2): the path is not under it\n"
                              "--\n"
                              "route \"/y\" (site.conf:1) matches: pool web\n"
                              "  route \"/z\" (site.conf:2): the path is not under it\n"
                              "route \"/z\" (site.conf:2) matches: redirect 308 to /new{rest}\n"
                              "  route \"/y\" (site.conf:1): the path is not under it\n");
    free(text);
    router_free(router);
}

static void the_explanation_has_the_route_found_and_the_reasons_against_the_others(void **state)
{
    struct table table = {.http.n_routes = 0};
    struct http_request request = request_for("h", "/a/b");
    const struct config_pool pool = {.name = "web"};
    struct router_explanation e;
    struct router *router;
    char *action;

    (void)state;
    table_add(&table, "other", "/a");
    table_add(&table, NULL, "/a")->action = ROUTE_POOL;
    table.routes[1].pool = &pool;
    table_add(&table, NULL, "/");
    router = router_create(&table.http);
    assert_int_equal(router_explanation_fill(&e, router, &request), 0);
    assert_ptr_equal(e.route, &table.routes[1]);
    assert_int_equal(e.n_others, 2);
    assert_ptr_equal(e.others[0].route, &table.routes[0]);
    assert_string_equal(e.others[0].why, "the host is not other");
    assert_ptr_equal(e.others[1].route, &table.routes[2]);
    assert_string_equal(e.others[1].why, "matches, but its path is shorter");
    action = router_action(e.route);
    assert_string_equal(action, "pool web");
    free(action);
    router_explanation_free(&e);
    request.path = SLICE("*");
    assert_int_equal(router_explanation_fill(&e, router, &request), 0);
    assert_ptr_equal(e.route, &table.routes[2]);
    router_explanation_free(&e);
    router_free(router);
}

static void a_listener_without_routes_is_explained_too(void **state)
{
    const struct config_http http = {.n_routes = 0};
    struct http_request request = request_for("h", "/");
    struct router *router = router_create(&http);
    struct router_explanation e;

    (void)state;
    assert_int_equal(router_explanation_fill(&e, router, &request), 0);
    assert_null(e.route);
    assert_int_equal(e.n_others, 0);
    router_explanation_free(&e);
    router_free(router);
}

/* --- a slow and obvious matcher, and thousands of tables --- */

/* A path as a list: each segment decoded, and where it ended as sent. */
struct naive_path {
    char segments[32][16];
    size_t ends[32];
    size_t n;
};

static void naive_split(struct naive_path *path, const char *raw)
{
    char bytes[128];
    size_t ends[128]; /* in raw, behind each byte */
    size_t n = 0, from = 0;

    for (size_t i = 0; raw[i];) {
        unsigned value;
        int used = 0;

        if (raw[i] == '%' && sscanf(raw + i + 1, "%2x%n", &value, &used) == 1 && used == 2) {
            bytes[n] = (char)value;
            i += 3;
        } else {
            bytes[n] = raw[i++];
        }
        ends[n++] = i;
    }
    path->n = 0;
    for (size_t i = 0; i <= n; i++) {
        char segment[16];

        if (i < n && bytes[i] != '/')
            continue;
        snprintf(segment, sizeof segment, "%.*s", (int)(i - from), bytes + from);
        if (!strcmp(segment, "..")) {
            path->n -= path->n > 0;
        } else if (strcmp(segment, ".") != 0 && segment[0]) {
            strcpy(path->segments[path->n], segment);
            path->ends[path->n++] = ends[i - 1];
        }
        from = i + 1;
    }
}

static bool naive_under(const struct naive_path *path, const struct naive_path *prefix)
{
    if (prefix->n > path->n)
        return false;
    for (size_t i = 0; i < prefix->n; i++)
        if (strcmp(path->segments[i], prefix->segments[i]) != 0)
            return false;
    return true;
}

/* 0: not; 1: any host; 2 and more: a wildcard of that length; 1000: exactly. */
static int naive_host(const struct config_route *route, const char *host)
{
    int best = route->n_hosts ? 0 : 1;

    for (size_t i = 0; i < route->n_hosts; i++) {
        const char *own = route->hosts[i].ptr;
        int rank = 0;

        if (!strcmp(own, host))
            rank = 1000;
        else if (own[0] == '*' && strlen(host) > strlen(own + 1) &&
                 !strcmp(host + strlen(host) - strlen(own + 1), own + 1))
            rank = (int)strlen(own);
        best = rank > best ? rank : best;
    }
    return best;
}

/* In the property test all conditions are on parameters whose only value is their presence. */
static bool naive_conditions(const struct config_route *route, const struct http_request *request)
{
    bool method = !route->n_methods;
    char query[64];

    snprintf(query, sizeof query, "&%.*s&", SLICE_ARG(request->query));
    for (size_t i = 0; i < route->n_methods; i++)
        method |= !strcmp(route->methods[i].ptr, request->method.ptr);
    for (size_t i = 0; i < route->n_conditions; i++) {
        char wanted[8];

        snprintf(wanted, sizeof wanted, "&%s&", route->conditions[i].name.ptr);
        if (!strstr(query, wanted))
            return false;
    }
    return method;
}

struct naive_answer {
    int line;
    const char *rest;
};

static struct naive_answer naive_find(const struct table *table, const char *host, const char *raw,
                                      const struct http_request *request)
{
    struct naive_answer answer = {0, NULL};
    struct naive_path path;
    long best = -1;

    naive_split(&path, raw);
    for (size_t i = 0; i < table->http.n_routes; i++) {
        const struct config_route *route = &table->routes[i];
        struct naive_path prefix;
        size_t len = 0;
        long rank;

        naive_split(&prefix, route->path.ptr);
        if (!naive_host(route, host) || !naive_under(&path, &prefix) || !naive_conditions(route, request))
            continue;
        for (size_t j = 0; j < prefix.n; j++)
            len += 1 + strlen(prefix.segments[j]);
        rank = naive_host(route, host) * 1000000L + (long)len * 1000 +
               (long)(route->n_conditions + (route->n_methods > 0));
        if (rank <= best)
            continue;
        best = rank;
        answer.line = route->place.line;
        answer.rest = raw + (prefix.n ? path.ends[prefix.n - 1] : 0);
    }
    return answer;
}

static const char *any_of(struct rng *rng, const char *const *items, size_t n)
{
    return items[rng_below(rng, n)];
}
#define ANY_OF(rng, items) any_of((rng), (items), sizeof(items) / sizeof(items)[0])

/* Paths of few words, so that many are equal, or one below the other. */
static void random_path(struct rng *rng, bool wild, char text[96])
{
    static const char *const plain[] = {"/a", "/b", "/ab", "/a b", "/abc"};
    static const char *const odd[] = {"/%61",  "/%62", "/./a", "//b", "/../a", "/a/..",  "/%2e%2e/b", "%2Fa",
                                      "/a%62", "/",    "/.",   "/%",  "/...",  "/a%20b", "%2f/b",     "/%2E"};
    size_t words = rng_below(rng, 5);

    text[0] = 0;
    for (size_t i = 0; i < words; i++)
        strcat(text, wild && rng_below(rng, 2) ? ANY_OF(rng, odd) : ANY_OF(rng, plain));
    if (text[0] != '/') {
        memmove(text + 1, text, strlen(text) + 1);
        text[0] = '/';
    }
}

static void random_table(struct rng *rng, struct table *table, char paths[][96])
{
    static const char *const hosts[] = {"x.test", "a.x.test", "b.a.x.test",
                                        "*.test", "*.x.test", "*.a.x.test"};
    static const char *const methods[] = {"GET", "PUT", "HEAD"};
    static const char *const names[] = {"p", "q", "r"};
    size_t n = 1 + rng_below(rng, 12);

    memset(&table->http, 0, sizeof table->http);
    for (size_t i = 0; i < n; i++) {
        struct config_route *route;

        random_path(rng, rng_below(rng, 4) == 0, paths[i]);
        route = table_add(table, NULL, paths[i]);
        for (size_t left = rng_below(rng, 3); left; left--)
            route->hosts[route->n_hosts++] = slice_from_text(ANY_OF(rng, hosts));
        for (size_t left = rng_below(rng, 3); left; left--)
            route->methods[route->n_methods++] = slice_from_text(ANY_OF(rng, methods));
        for (size_t left = rng_below(rng, 3); left; left--)
            add_condition(route, CONDITION_QUERY, ANY_OF(rng, names), NULL);
    }
}

/* As router.h says: from the last of several slashes on, if one was sent as such. */
static const char *naive_trim(const char *rest)
{
    const char *best = rest;

    for (const char *at = rest; *at == '/' || !strncasecmp(at, "%2f", 3); at += *at == '/' ? 1 : 3)
        if (*at == '/')
            best = at;
    return best;
}

/* The explanation is about the same route, and has a reason against each of the others. */
static void check_explained(const struct table *table, const struct router *router,
                            const struct http_request *request, int line)
{
    struct router_explanation e;

    assert_int_equal(router_explanation_fill(&e, router, request), 0);
    assert_int_equal(e.route ? e.route->place.line : 0, line);
    assert_int_equal(e.n_others, table->http.n_routes - (line > 0));
    for (size_t i = 0; i < e.n_others; i++)
        assert_true(e.others[i].why[0] && (line || strncmp(e.others[i].why, "matches", 7) != 0));
    router_explanation_free(&e);
}

static size_t compare_one(struct rng *rng, const struct table *table, const struct router *router)
{
    static const char *const hosts[][2] = {
        {"x.test", "x.test"},
        {"a.x.test", "A.x.Test:80"},
        {"b.a.x.test", "b.a.x.test."},
        {"c.a.x.test", "c.a.x.test"},
        {"c.x.test", "C.X.TEST.:1"},
        {"test", "test"},
        {"other", "other"},
        {"", ""},
    };
    static const char *const methods[] = {"GET", "PUT", "HEAD", "get"};
    static const char *const queries[] = {"", "p", "q&p", "r&q", "p&q&r", "x"};
    const char *const *host = hosts[rng_below(rng, sizeof hosts / sizeof hosts[0])];
    char path[96];
    struct http_request request;
    struct naive_answer expected;
    struct slice rest = {NULL, 0};
    int line;

    random_path(rng, true, path);
    request = request_for(host[1], path);
    request.method = slice_from_text(ANY_OF(rng, methods));
    request.query = slice_from_text(ANY_OF(rng, queries));
    expected = naive_find(table, host[0], path, &request);
    line = line_of(router, &request, &rest);
    if (line != expected.line)
        fail_msg("%s %s?%s on %s: route %d, not %d", request.method.ptr, path, request.query.ptr, host[1],
                 expected.line, line);
    if (line && rest.ptr != naive_trim(expected.rest))
        fail_msg("%s under route %d leaves \"%s\"", path, line, rest.ptr);
    check_explained(table, router, &request, line);
    return line > 0;
}

static void it_agrees_with_a_naive_matcher_on_random_tables(void **state)
{
    enum { TABLES = 3000, REQUESTS = 20 };
    static char paths[ROUTES_MAX][96];
    static struct table table;
    struct rng rng = {20240607};
    size_t found = 0;

    (void)state;
    for (int i = 0; i < TABLES; i++) {
        struct router *router;

        random_table(&rng, &table, paths);
        router = router_create(&table.http);
        assert_non_null(router);
        for (int j = 0; j < REQUESTS; j++)
            found += compare_one(&rng, &table, router);
        router_free(router);
    }
    assert_in_range(found, TABLES * REQUESTS / 10, TABLES * REQUESTS * 9 / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prefix_ends_where_a_segment_ends),
        cmocka_unit_test(the_longest_path_wins_whatever_the_order),
        cmocka_unit_test(each_way_to_write_a_path_finds_its_route_and_the_rest_as_sent),
        cmocka_unit_test(a_path_longer_than_any_route_is_followed_to_its_end),
        cmocka_unit_test(a_route_may_have_a_path_as_long_as_the_limit_and_no_longer),
        cmocka_unit_test(an_exact_host_wins_before_wildcards_and_those_before_none),
        cmocka_unit_test(a_host_whose_routes_do_not_match_leaves_it_to_the_next),
        cmocka_unit_test(hosts_are_compared_without_case_port_and_trailing_dot),
        cmocka_unit_test(an_endless_host_finds_only_routes_without_hosts),
        cmocka_unit_test(a_route_may_have_several_hosts),
        cmocka_unit_test(a_method_is_exact_and_get_does_not_mean_head),
        cmocka_unit_test(header_cookie_and_query_conditions_must_all_hold),
        cmocka_unit_test(more_conditions_win_and_all_methods_together_are_one),
        cmocka_unit_test(a_longer_path_wins_before_more_conditions_and_equals_by_order),
        cmocka_unit_test(a_thousand_routes_of_one_host_are_all_found),
        cmocka_unit_test(a_listener_without_routes_finds_none),
        cmocka_unit_test(explaining_tells_for_each_route_why_not),
        cmocka_unit_test(explaining_says_so_when_nothing_matches),
        cmocka_unit_test(the_explanation_has_the_route_found_and_the_reasons_against_the_others),
        cmocka_unit_test(a_listener_without_routes_is_explained_too),
        cmocka_unit_test(it_agrees_with_a_naive_matcher_on_random_tables),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
