/* actions.c - what POST does: changes a server by hand, reloads, upgrades. */
#include <stdio.h>

#include "admin/private.h"
#include "admin/query.h"
#include "admin/reply.h"
#include "config/nearest.h"

void actions_said(struct exchange *x, const char *text)
{
    struct reply reply;

    if (!reply_begin(&reply, x, 200, REPLY_JSON))
        return;
    json_put_object(&reply.json);
    json_key(&reply.json, "text");
    json_put_string(&reply.json, slice_from_text(text));
    json_put_end(&reply.json);
    reply_end(&reply);
}

/* ---- servers ----------------------------------------------------------------------------------------------- */

const char *actions_text(struct exchange *x, struct slice name)
{
    char *text = arena_alloc(&x->arena, name.len + 1);

    if (!text)
        return "";
    if (name.len)
        memcpy(text, name.ptr, name.len);
    text[name.len] = '\0';
    return text;
}

static void refuse_pool(struct admin_call *call)
{
    const struct list *pools = &call->admin->system->control->pools;
    const char *name = actions_text(call->x, call->args[0]);
    struct config_nearest nearest;

    config_nearest_init(&nearest, name);
    for (const struct list *node = pools->next; node != pools; node = node->next)
        config_nearest_try(&nearest, container_of(node, struct control_pool, list)->pool->name);
    reply_error(call->x, 404, NULL, "there is no pool %.100s; %s%.100s%s", name,
                nearest.best ? "did you mean " : "", nearest.best ? nearest.best : "GET /api/state names all",
                nearest.best ? "?" : "");
}

static void refuse_server(struct admin_call *call, const struct control_pool *cp)
{
    const char *name = actions_text(call->x, call->args[1]);
    struct config_nearest nearest;

    config_nearest_init(&nearest, name);
    for (size_t i = 0; i < cp->n_members; i++) {
        const struct list *servers = &cp->members[i]->servers;

        for (const struct list *node = servers->next; node != servers; node = node->next)
            config_nearest_try(&nearest, container_of(node, struct control_server, list)->server->name.ptr);
    }
    reply_error(call->x, 404, NULL, "pool %.100s has no server %.100s; %s%.100s%s", cp->pool->name, name,
                nearest.best ? "did you mean " : "", nearest.best ? nearest.best : "GET /api/state names all",
                nearest.best ? "?" : "");
}

/* NULL: it is answered. */
static struct control_server *find_server(struct admin_call *call)
{
    struct control_pool *cp = control_pool_find(call->admin->system->control, call->args[0]);
    struct control_server *cs = cp ? control_server_find(cp, call->args[1]) : NULL;

    if (!cp)
        refuse_pool(call);
    else if (!cs)
        refuse_server(call, cp);
    return cs;
}

/* What was done is said with what is to be expected now. */
static void say_done(struct exchange *x, const struct control_server *cs, enum control_action action)
{
    const struct server *server = cs->server;
    unsigned active = atomic_load(&server->active), weight = atomic_load(&server->weight);
    bool drains = atomic_load(&server->draining);
    char what[128], text[512];

    switch (action) {
    case CONTROL_DRAIN:
        snprintf(what, sizeof what, "drains; %u %s still on it", active,
                 active == 1 ? "request is" : "requests are");
        break;
    case CONTROL_ENABLE:
        snprintf(what, sizeof what, "takes requests%s",
                 atomic_load(&server->state) == SERVER_UP ? "" : " as soon as its checks pass");
        break;
    case CONTROL_WEIGHT:
        snprintf(what, sizeof what, "has weight %u; the file says %u", weight, cs->member->config->weight);
        break;
    case CONTROL_RESET:
        snprintf(what, sizeof what, "is as the file says: weight %u%s", weight, drains ? ", drained" : "");
        break;
    }
    snprintf(text, sizeof text, "pool %.100s: server %.*s %s", cs->pool->pool->name, SLICE_ARG(server->name),
             what);
    actions_said(x, text);
}

static void change_server(struct admin_call *call, enum control_action action, unsigned weight)
{
    struct control_server *cs = find_server(call);

    if (!cs)
        return;
    if (control_change_server(cs, action, weight) == 0)
        say_done(call->x, cs, action);
    else
        reply_error(call->x, 503, NULL, "there is no memory for the change; nothing has changed");
}

void actions_drain(struct admin_call *call)
{
    change_server(call, CONTROL_DRAIN, 0);
}

void actions_enable(struct admin_call *call)
{
    change_server(call, CONTROL_ENABLE, 0);
}

void actions_reset(struct admin_call *call)
{
    change_server(call, CONTROL_RESET, 0);
}

void actions_weight(struct admin_call *call)
{
    struct slice query = call->x->request.query, value;
    uint64_t weight;

    if (query_take(&call->x->arena, &query, SLICE("weight"), &value) != 1 || !slice_to_u64(value, &weight) ||
        weight < 1 || weight > 256)
        reply_error(call->x, 400, NULL, "a weight is a whole number from 1 to 256, as in ?weight=5");
    else
        change_server(call, CONTROL_WEIGHT, (unsigned)weight);
}

/* ---- the whole --------------------------------------------------------------------------------------------- */

/* A text of lines as an array; NULL has none. */
static void put_lines(struct json *json, const char *lines)
{
    struct slice rest = lines ? slice_from_text(lines) : slice_of(NULL, 0);

    json_put_array(json);
    while (rest.len) {
        struct slice line = slice_take(&rest, slice_find(rest, '\n'));

        if (rest.len)
            slice_drop(&rest, 1);
        if (line.len)
            json_put_string(json, line);
    }
    json_put_end(json);
}

static const char *text_or(const char *text, const char *other)
{
    return text ? text : other;
}

static void reply_refused(struct exchange *x, const struct system_result *result)
{
    struct reply reply;

    if (!reply_begin(&reply, x, (unsigned)result->status, REPLY_JSON))
        return;
    json_put_object(&reply.json);
    json_key(&reply.json, "error");
    json_put_string(&reply.json, slice_from_text(text_or(result->text, "it did not work; the log says why")));
    if (result->problems) {
        json_key(&reply.json, "problems");
        put_lines(&reply.json, result->problems);
    }
    json_put_end(&reply.json);
    reply_end(&reply);
}

static void reply_reloaded(struct exchange *x, const struct system_result *result)
{
    struct reply reply;

    if (!reply_begin(&reply, x, 200, REPLY_JSON))
        return;
    json_put_object(&reply.json);
    json_key(&reply.json, "changes");
    put_lines(&reply.json, result->changes);
    json_key(&reply.json, "warnings");
    put_lines(&reply.json, result->warnings);
    json_put_end(&reply.json);
    reply_end(&reply);
}

void actions_reload(struct admin_call *call)
{
    struct system_result result = {0};

    call->admin->system->reload(call->admin->system, &result);
    if (result.status == 200)
        reply_reloaded(call->x, &result);
    else
        reply_refused(call->x, &result);
    system_result_free(&result);
}

void actions_upgrade(struct admin_call *call)
{
    struct system_result result = {0};

    call->admin->system->upgrade(call->admin->system, &result);
    if (result.status == 200)
        actions_said(call->x, text_or(result.text, "another process has taken over; this one drains"));
    else
        reply_refused(call->x, &result);
    system_result_free(&result);
}
