/* explain.c - GET /api/explain: which route, server and why, for a request that is described.
 *
 * The request (question.h) is routed and judged by the functions that serve requests; nothing is sent, and no server
 * loses its turn. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/model.h"
#include "admin/private.h"
#include "admin/question.h"
#include "admin/reply.h"
#include "balance/pool_explain.h"
#include "balance/request_key.h"
#include "balance/router_explain.h"
#include "config/nearest.h"

#define KEY_TEXT_MAX 512
#define WHY_TEXT_MAX 512

/* ---- a pool ------------------------------------------------------------------------------------------------ */

/* A candidate as it is told. */
struct candidate {
    struct server *server; /* reference */
    bool usable;
    char why[STANDING_TEXT_MAX];
};

/* All that is told of one listener, found out without a wait. */
struct account {
    struct router_explanation routes;
    char *action;  /* of the route; owned, or NULL */
    bool has_pool; /* the rest is about it */
    const struct config_pool *config;
    bool has_key;
    char key[KEY_TEXT_MAX];
    struct candidate *candidates; /* owned */
    size_t n_candidates;
    struct server *choice; /* one of them */
    char why[WHY_TEXT_MAX];
};

/* The next of the pool's servers, which come in the same order as a roster's, so that mostly it is the one. */
struct cursor {
    const struct control_pool *pool;
    size_t member;
    const struct list *node; /* NULL: the member's first is next */
};

static const struct control_server *cursor_next(struct cursor *cursor)
{
    while (cursor->member < cursor->pool->n_members) {
        const struct list *servers = &cursor->pool->members[cursor->member]->servers;

        cursor->node = cursor->node ? cursor->node->next : servers->next;
        if (cursor->node != servers)
            return container_of(cursor->node, struct control_server, list);
        cursor->node = NULL;
        cursor->member++;
    }
    return NULL;
}

/* NULL: it has left since the roster was made. */
static const struct control_server *cursor_find(struct cursor *cursor, const struct server *server)
{
    const struct control_server *cs = cursor_next(cursor);

    if (cs && cs->server == server)
        return cs;
    *cursor = (struct cursor){.pool = cursor->pool};
    do
        cs = cursor_next(cursor);
    while (cs && cs->server != server);
    return cs;
}

static void say_up(const struct control_server *cs, char why[STANDING_TEXT_MAX])
{
    if (standing_of(cs, loop_now_us()) == STANDING_STARTING)
        snprintf(why, STANDING_TEXT_MAX, "starting: it came up a moment ago, its weight still rises");
    else
        snprintf(why, STANDING_TEXT_MAX, "up");
}

static void say_standing(const struct control_server *cs, char why[STANDING_TEXT_MAX])
{
    enum standing standing = standing_of(cs, loop_now_us());
    char reason[STANDING_TEXT_MAX];

    standing_reason(cs, standing, loop_now_us(), reason);
    snprintf(why, STANDING_TEXT_MAX, "%s: %.*s", standing_name(standing), STANDING_TEXT_MAX - 16, reason);
}

static void fill_candidate(struct candidate *candidate, struct server *server, enum strategy_verdict verdict,
                           const struct control_server *cs)
{
    candidate->server = server_ref(server);
    candidate->usable = verdict == STRATEGY_FITS;
    if (verdict == STRATEGY_FULL)
        snprintf(candidate->why, sizeof candidate->why, "full: %u of %u requests",
                 atomic_load(&server->active), atomic_load(&server->max_connections));
    else if (verdict == STRATEGY_SPARE)
        snprintf(candidate->why, sizeof candidate->why, "backup: others are usable");
    else if (!cs)
        snprintf(candidate->why, sizeof candidate->why, "leaving: no longer in the file");
    else if (verdict == STRATEGY_FITS)
        say_up(cs, candidate->why);
    else
        say_standing(cs, candidate->why);
}

static int fill_candidates(struct account *a, const struct pool_explanation *e, const struct control_pool *cp)
{
    struct cursor cursor = {.pool = cp};
    size_t n = e->roster ? e->roster->n : 0;

    a->candidates = calloc(n + 1, sizeof *a->candidates);
    if (!a->candidates)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        struct server *server = e->roster->servers[i];

        fill_candidate(&a->candidates[a->n_candidates++], server, e->verdicts[i],
                       cursor_find(&cursor, server));
    }
    return 0;
}

static void say_choice(struct account *a, const struct pool_explanation *e, unsigned n_threads)
{
    const struct strategy *strategy = &strategy_table[a->config->balance];
    bool own_turns = n_threads > 1 && strategy->key == STRATEGY_KEY_NONE;
    char turns[96] = "";

    if (own_turns)
        snprintf(turns, sizeof turns,
                 "; each of the %u threads has its own turns, and this is the first one's", n_threads);
    switch (e->outcome) {
    case POOL_TAKES:
        snprintf(a->why, sizeof a->why, "%s%s", strategy->why, turns);
        break;
    case POOL_WAITS:
        snprintf(a->why, sizeof a->why,
                 "full, as are all that would do: the request waits in line, behind %u%s", e->in_line, turns);
        break;
    case POOL_LINE_FULL:
        snprintf(a->why, sizeof a->why,
                 "all servers that would do are full, and so is the line: the answer is 503");
        break;
    case POOL_HAS_NONE:
        snprintf(a->why, sizeof a->why, "no server is usable: the answer is 503");
        break;
    }
}

static int explain_pool(struct account *a, const struct admin *admin, const struct rehearsal *r)
{
    const struct system *system = admin->system;
    struct control_pool *cp = control_pool_find(system->control, slice_from_text(a->config->name));
    const struct pool_thread *pt = cp ? &cp->pool->threads[0] : NULL; /* this thread's */
    struct pool_explanation e;
    int error;

    a->has_pool = true;
    a->has_key = request_key_text(a->config, &r->x.request, &r->x.client, a->key, sizeof a->key);
    if (!pt || !pt->config) { /* a reload takes effect at this moment */
        snprintf(a->why, sizeof a->why, "the pool is not there yet, or not any more: ask again");
        return 0;
    }
    error = pool_explanation_fill(&e, pt, &r->x.request, &r->x.client);
    if (error)
        return error;
    error = fill_candidates(a, &e, cp);
    if (!error && e.choice && e.outcome != POOL_LINE_FULL)
        a->choice = server_ref(e.choice);
    say_choice(a, &e, system->n_threads);
    pool_explanation_free(&e);
    return error;
}

static void account_free(struct account *a)
{
    for (size_t i = 0; i < a->n_candidates; i++)
        server_unref(a->candidates[i].server);
    server_unref(a->choice);
    router_explanation_free(&a->routes);
    free(a->candidates);
    free(a->action);
    free(a);
}

/* NULL: no memory. */
static struct account *account_create(const struct admin *admin, const struct http_shared *shared,
                                      const struct rehearsal *r)
{
    struct account *a = calloc(1, sizeof *a);
    const struct config_route *route;
    int error;

    if (!a || router_explanation_fill(&a->routes, shared->router, &r->x.request) != 0) {
        free(a);
        return NULL;
    }
    route = a->routes.route;
    a->action = route ? router_action(route) : NULL;
    error = route && !a->action ? -ENOMEM : 0;
    if (!error && route && route->action == ROUTE_POOL) {
        a->config = route->pool;
        error = explain_pool(a, admin, r);
    } else if (!error) {
        snprintf(a->why, sizeof a->why, "%s",
                 route ? "maitred answers by itself" : "no route matches: the answer is 404");
    }
    if (!error)
        return a;
    account_free(a);
    return NULL;
}

/* ---- the answer -------------------------------------------------------------------------------------------- */

static void put_text(struct json *json, const char *text)
{
    json_put_string(json, slice_from_text(text));
}

static void put_route(struct json *json, const struct config_route *route)
{
    json_key(json, "name");
    put_text(json, route->name);
    json_key(json, "place");
    reply_put_place(json, &route->place);
}

static void put_routes(struct json *json, const struct account *a)
{
    json_key(json, "route");
    if (a->routes.route) {
        json_put_object(json);
        put_route(json, a->routes.route);
        json_key(json, "action");
        put_text(json, a->action);
        json_put_end(json);
    } else {
        json_put_null(json);
    }
    json_key(json, "others");
    json_put_array(json);
    for (size_t i = 0; i < a->routes.n_others; i++) {
        json_put_object(json);
        put_route(json, a->routes.others[i].route);
        json_key(json, "why");
        put_text(json, a->routes.others[i].why);
        json_put_end(json);
    }
    json_put_end(json);
}

static void put_text_or_null(struct json *json, const char *text)
{
    if (text)
        put_text(json, text);
    else
        json_put_null(json);
}

static void put_pool(struct json *json, const struct account *a)
{
    json_key(json, "pool");
    put_text_or_null(json, a->has_pool ? a->config->name : NULL);
    json_key(json, "balance");
    put_text_or_null(json, a->has_pool ? strategy_table[a->config->balance].name : NULL);
    json_key(json, "key");
    put_text_or_null(json, a->has_key ? a->key : NULL);
    json_key(json, "candidates");
    json_put_array(json);
    for (size_t i = 0; i < a->n_candidates; i++) {
        json_put_object(json);
        json_key(json, "server");
        json_put_string(json, a->candidates[i].server->name);
        json_key(json, "usable");
        json_put_bool(json, a->candidates[i].usable);
        json_key(json, "why");
        put_text(json, a->candidates[i].why);
        json_put_end(json);
    }
    json_put_end(json);
    json_key(json, "choice");
    if (a->choice)
        json_put_string(json, a->choice->name);
    else
        json_put_null(json);
    json_key(json, "why");
    put_text(json, a->why);
}

static void put_refused(struct json *json, unsigned status, const char *why)
{
    json_key(json, "refused");
    json_put_object(json);
    json_key(json, "status");
    json_put_u64(json, status);
    json_key(json, "why");
    put_text(json, why);
    json_put_end(json);
}

/* Of a listener whose limits the request is over, or that could not read it. */
static void put_nothing_else(struct json *json)
{
    static const struct account nothing = {.why = "refused before any route"};

    put_routes(json, &nothing);
    put_pool(json, &nothing);
}

static void explain_listener(struct json *json, const struct admin *admin, const struct question *q,
                             const struct http_shared *shared)
{
    struct rehearsal *r = rehearsal_open(q, &shared->limits);
    struct account *a = r && r->why == CLOSE_NOT ? account_create(admin, shared, r) : NULL;

    json_put_object(json);
    json_key(json, "listener");
    put_text(json, shared->config->name);
    if (a) {
        json_key(json, "refused");
        json_put_null(json);
        put_routes(json, a);
        put_pool(json, a);
        account_free(a);
    } else {
        bool answered = r && r->x.answer_started;

        put_refused(json, answered ? r->x.status : 503, answered && r->x.note ? r->x.note : "no memory");
        put_nothing_else(json);
    }
    json_put_end(json);
    if (r)
        rehearsal_close(r);
}

/* The http listeners that are asked about, each held. */
struct asked {
    const struct config *config; /* reference: theirs */
    size_t n;
    struct http_shared *shared[]; /* references */
};

static struct asked *asked_create(const struct system *system, const struct question *q)
{
    size_t n = 0;
    struct asked *asked;

    for (const struct list *node = system->listeners.next; node != &system->listeners; node = node->next)
        n++;
    asked = calloc(1, sizeof *asked + n * sizeof asked->shared[0]);
    if (!asked)
        return NULL;
    asked->config = config_ref(system->config);
    for (const struct list *node = system->listeners.next; node != &system->listeners; node = node->next) {
        struct http_shared *shared = container_of(node, struct system_listener, list)->shared;

        if (model_has_routes(shared, system->config) &&
            (!q->listener.ptr || slice_equal(q->listener, slice_from_text(shared->config->name))))
            asked->shared[asked->n++] = http_shared_ref(shared);
    }
    return asked;
}

static void asked_free(struct asked *asked)
{
    for (size_t i = 0; i < asked->n; i++)
        http_shared_unref(asked->shared[i]);
    config_unref(asked->config);
    free(asked);
}

static void refuse_listener(const struct admin_call *call, struct slice name)
{
    const struct config *config = call->admin->system->config;
    char text[ADDRESS_TEXT_MAX];
    struct config_nearest nearest;

    snprintf(text, sizeof text, "%.*s", SLICE_ARG(name));
    config_nearest_init(&nearest, text);
    for (size_t i = 0; i < config->n_http; i++)
        config_nearest_try(&nearest, config->http[i].name);
    reply_error(call->x, 404, NULL, "there is no http listener %s; %s%.100s%s", text,
                nearest.best ? "did you mean " : "", nearest.best ? nearest.best : "GET /api/state names all",
                nearest.best ? "?" : "");
}

void explain_serve(struct admin_call *call)
{
    struct question q;
    const char *wrong = question_read(&q, call->x);
    struct asked *asked = wrong ? NULL : asked_create(call->admin->system, &q);
    struct reply reply;

    if (wrong) {
        reply_error(call->x, 400, NULL, "%s", wrong);
        return;
    }
    if (!asked) {
        reply_no_memory(call->x);
        return;
    }
    if (q.listener.ptr && !asked->n) {
        refuse_listener(call, q.listener);
    } else if (reply_begin(&reply, call->x, 200, REPLY_JSON)) {
        json_put_object(&reply.json);
        json_key(&reply.json, "listeners");
        json_put_array(&reply.json);
        for (size_t i = 0; i < asked->n; i++)
            explain_listener(&reply.json, call->admin, &q, asked->shared[i]);
        json_put_end(&reply.json);
        json_put_end(&reply.json);
        reply_end(&reply);
    }
    asked_free(asked);
}
