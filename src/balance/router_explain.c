/* router_explain.c - see router_explain.h. */
#include "balance/router_explain.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "balance/path.h"
#include "balance/router_private.h"

#define HOST_NOT 0u
#define HOST_ANY 1u

/* How exactly a route's hosts name this one: HOST_NOT, HOST_ANY, then wildcards by length, then the name
 * itself. */
static size_t host_rank(const struct config_route *route, struct slice host)
{
    size_t best = route->n_hosts ? HOST_NOT : HOST_ANY;

    for (size_t i = 0; i < route->n_hosts; i++) {
        struct slice own = route->hosts[i];
        size_t rank = HOST_NOT;

        if (own.len && own.ptr[own.len - 1] == '.')
            own.len--;
        if (slice_equal_nocase(own, host))
            rank = SIZE_MAX;
        else if (slice_starts_with(own, SLICE("*.")) && host.len >= own.len &&
                 slice_ends_with_nocase(host, slice_of(own.ptr + 1, own.len - 1)))
            rank = own.len;
        if (rank > best)
            best = rank;
    }
    return best;
}

/* The length of the route's path in compared form; ROUTER_NONE: the request is not under it. */
static size_t path_rank(const struct config_route *route, struct slice asked)
{
    char text[ROUTER_PATH_MAX];
    struct path_folding f = {.text = text, .room = sizeof text};

    path_fold(&f, route->path);
    if (!router_is_under(asked, f.len) || !slice_starts_with(asked, slice_of(text, f.len)))
        return ROUTER_NONE;
    return f.len;
}

static void put_list(FILE *out, const struct slice *items, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fprintf(out, "%s%.*s", i ? ", " : "", SLICE_ARG(items[i]));
}

static void put_condition(FILE *out, const struct config_condition *condition)
{
    static const char *const kinds[] = {
        [CONDITION_HEADER] = "header", [CONDITION_COOKIE] = "cookie", [CONDITION_QUERY] = "query parameter"};

    fprintf(out, "the %s \"%.*s\" is not ", kinds[condition->kind], SLICE_ARG(condition->name));
    if (condition->any_value)
        fprintf(out, "there");
    else
        fprintf(out, "\"%.*s\"", SLICE_ARG(condition->value));
}

/* Why a route that matches is not the one that was found. */
static const char *why_behind(const struct config_route *route, const struct config_route *found,
                              const struct router_asked *asked)
{
    if (host_rank(route, asked->host) != host_rank(found, asked->host))
        return "matches, but its host is less exact";
    if (path_rank(route, asked->path) != path_rank(found, asked->path))
        return "matches, but its path is shorter";
    if (router_count_conditions(route) != router_count_conditions(found))
        return "matches, but it has fewer conditions";
    return "matches, but it is as specific and stands later in the file";
}

static void put_why_not(FILE *out, const struct config_route *route, const struct config_route *found,
                        const struct router_asked *asked)
{
    const struct config_condition *missed = router_condition_missed(route, asked->request);

    if (host_rank(route, asked->host) == HOST_NOT) {
        fprintf(out, "the host is not ");
        put_list(out, route->hosts, route->n_hosts);
    } else if (path_rank(route, asked->path) == ROUTER_NONE) {
        fprintf(out, "the path is not under it");
    } else if (!router_method_fits(route, asked->request)) {
        fprintf(out, "the method is not ");
        put_list(out, route->methods, route->n_methods);
    } else if (missed) {
        put_condition(out, missed);
    } else {
        assert(found);
        fprintf(out, "%s", why_behind(route, found, asked));
    }
}

/* A text that ends in a NUL for each of the others, one behind the other. 0 or -ENOMEM. */
static int write_reasons(struct router_explanation *e, const struct config_http *config,
                         const struct router_asked *asked)
{
    size_t len;
    FILE *out = open_memstream(&e->text, &len);

    if (!out)
        return -ENOMEM;
    for (size_t i = 0; i < config->n_routes; i++) {
        const struct config_route *route = &config->routes[i];

        if (route == e->route)
            continue;
        put_why_not(out, route, e->route, asked);
        fputc('\0', out);
        e->others[e->n_others++].route = route;
    }
    return fclose(out) == 0 ? 0 : -ENOMEM;
}

int router_explanation_fill(struct router_explanation *e, const struct router *router,
                            const struct http_request *request)
{
    const struct config_http *config = router_config(router);
    struct router_asked asked;
    const char *text;
    size_t prefix_len;

    *e = (struct router_explanation){.others = calloc(config->n_routes + 1, sizeof *e->others)};
    if (!e->others)
        return -ENOMEM;
    router_ask(&asked, request, true);
    e->route = router_find_asked(router, &asked, &prefix_len);
    if (write_reasons(e, config, &asked) != 0) {
        router_explanation_free(e);
        return -ENOMEM;
    }
    text = e->text;
    for (size_t i = 0; i < e->n_others; i++) {
        e->others[i].why = text;
        text += strlen(text) + 1;
    }
    return 0;
}

void router_explanation_free(struct router_explanation *e)
{
    free(e->others);
    free(e->text);
    *e = (struct router_explanation){0};
}

char *router_action(const struct config_route *route)
{
    const char *kind = route->queue ? "queue" : "topic";
    const char *store = route->queue ? route->queue->name : route->topic ? route->topic->name : NULL;
    char *text = NULL;
    int n = -1;

    switch (route->action) {
    case ROUTE_POOL:
        n = store ? asprintf(&text, "pool %s, or %s %s", route->pool->name, kind, store)
                  : asprintf(&text, "pool %s", route->pool->name);
        break;
    case ROUTE_QUEUE:
        n = asprintf(&text, "%s %s", kind, store);
        break;
    case ROUTE_REDIRECT:
        n = asprintf(&text, "redirect %u to %s", route->status, route->redirect);
        break;
    case ROUTE_RESPOND:
        n = asprintf(&text, "answer %u", route->status);
        break;
    }
    return n < 0 ? NULL : text;
}

static void print_route(FILE *out, const struct config_route *route)
{
    fprintf(out, "route \"%.*s\" (%s:%d)", SLICE_ARG(route->path), route->place.file, route->place.line);
}

static void print_found(FILE *out, const struct config_route *route)
{
    char *action = router_action(route);

    print_route(out, route);
    fprintf(out, " matches: %s\n", action ? action : "(no memory to say what it does)");
    free(action);
}

void router_explain(const struct router *router, const struct http_request *request, FILE *out)
{
    struct router_explanation e;

    if (router_explanation_fill(&e, router, request) != 0) {
        fprintf(out, "no memory to explain it\n");
        return;
    }
    if (e.route)
        print_found(out, e.route);
    else
        fprintf(out, "no route matches\n");
    for (size_t i = 0; i < e.n_others; i++) {
        fprintf(out, "  ");
        print_route(out, e.others[i].route);
        fprintf(out, ": %s\n", e.others[i].why);
    }
    router_explanation_free(&e);
}
