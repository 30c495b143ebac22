/* management.c - see management.h: paths, who may ask, what comes with a request. */
#include "admin/management/management.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/management/private.h"
#include "admin/query.h"
#include "fiber/offload.h"

/* JSON that may come: jansson calls itself for each level. */
#define BODY_LEVELS 20
/* Larger ones are parsed on a helper thread. */
#define BODY_AT_ONCE (64u * 1024)

/* ---- rows -------------------------------------------------------------------------------------------------------- */

#define EXCHANGE_BINDING (ROW_VHOST | ROW_TO_EXCHANGE)

static const struct management_row rows[] = {
    {METHOD_GET, "/overview", overview_serve, 0},
    {METHOD_GET, "/cluster-name", cluster_name_serve, 0},
    {METHOD_GET, "/nodes", nodes_serve, 0},
    {METHOD_GET, "/nodes/*", node_serve, 0},
    {METHOD_GET, "/extensions", nothing_serve, 0},
    {METHOD_GET, "/whoami", whoami_serve, 0},
    {METHOD_GET, "/vhosts", vhosts_serve, 0},
    {METHOD_GET, "/vhosts/*", vhost_serve, ROW_VHOST},
    {METHOD_GET, "/vhosts/*/permissions", vhost_permissions_serve, ROW_VHOST | ROW_ADMINISTRATOR},
    {METHOD_GET, "/vhosts/*/connections", connections_serve, ROW_VHOST},
    {METHOD_GET, "/vhosts/*/channels", channels_serve, ROW_VHOST},
    {METHOD_GET, "/users", users_serve, ROW_ADMINISTRATOR},
    {METHOD_GET, "/users/*", user_serve, ROW_ADMINISTRATOR},
    {METHOD_GET, "/users/*/permissions", user_permissions_serve, ROW_ADMINISTRATOR},
    {METHOD_GET, "/permissions", permissions_serve, ROW_ADMINISTRATOR},
    {METHOD_GET, "/permissions/*/*", permission_serve, ROW_VHOST | ROW_ADMINISTRATOR},

    {METHOD_GET, "/queues", management_queues_serve, 0},
    {METHOD_GET, "/queues/*", management_queues_serve, ROW_VHOST},
    {METHOD_GET, "/queues/*/*", management_queue_serve, ROW_VHOST},
    {METHOD_PUT, "/queues/*/*", management_queue_declare, ROW_VHOST | ROW_BODY},
    {METHOD_DELETE, "/queues/*/*", management_queue_delete, ROW_VHOST},
    {METHOD_DELETE, "/queues/*/*/contents", management_queue_purge, ROW_VHOST},
    {METHOD_POST, "/queues/*/*/get", messages_get, ROW_VHOST | ROW_BODY},
    {METHOD_GET, "/queues/*/*/bindings", queue_bindings_serve, ROW_VHOST},

    {METHOD_GET, "/exchanges", exchanges_serve, 0},
    {METHOD_GET, "/exchanges/*", exchanges_serve, ROW_VHOST},
    {METHOD_GET, "/exchanges/*/*", exchange_serve, ROW_VHOST},
    {METHOD_PUT, "/exchanges/*/*", exchange_declare, ROW_VHOST | ROW_BODY},
    {METHOD_DELETE, "/exchanges/*/*", exchange_delete, ROW_VHOST},
    {METHOD_POST, "/exchanges/*/*/publish", message_publish, ROW_VHOST | ROW_BODY},
    {METHOD_GET, "/exchanges/*/*/bindings/source", source_bindings_serve, ROW_VHOST},
    {METHOD_GET, "/exchanges/*/*/bindings/destination", destination_bindings_serve, ROW_VHOST},

    {METHOD_GET, "/bindings", bindings_serve, 0},
    {METHOD_GET, "/bindings/*", bindings_serve, ROW_VHOST},
    {METHOD_GET, "/bindings/*/e/*/q/*", between_serve, ROW_VHOST},
    {METHOD_POST, "/bindings/*/e/*/q/*", between_bind, ROW_VHOST | ROW_BODY},
    {METHOD_GET, "/bindings/*/e/*/q/*/*", binding_serve, ROW_VHOST},
    {METHOD_DELETE, "/bindings/*/e/*/q/*/*", binding_delete, ROW_VHOST},
    {METHOD_GET, "/bindings/*/e/*/e/*", between_serve, EXCHANGE_BINDING},
    {METHOD_POST, "/bindings/*/e/*/e/*", between_bind, EXCHANGE_BINDING | ROW_BODY},
    {METHOD_GET, "/bindings/*/e/*/e/*/*", binding_serve, EXCHANGE_BINDING},
    {METHOD_DELETE, "/bindings/*/e/*/e/*/*", binding_delete, EXCHANGE_BINDING},

    {METHOD_GET, "/connections", connections_serve, 0},
    {METHOD_GET, "/connections/*", connection_serve, 0},
    {METHOD_DELETE, "/connections/*", connection_close, 0},
    {METHOD_GET, "/connections/*/channels", connection_channels_serve, 0},
    {METHOD_GET, "/channels", channels_serve, 0},
    {METHOD_GET, "/channels/*", channel_serve, 0},
    {METHOD_GET, "/consumers", consumers_serve, 0},
    {METHOD_GET, "/consumers/*", consumers_serve, ROW_VHOST},

    {METHOD_GET, "/definitions", definitions_serve, ROW_ADMINISTRATOR},
    {METHOD_POST, "/definitions", definitions_import, ROW_ADMINISTRATOR | ROW_BODY},
    {METHOD_GET, "/definitions/*", definitions_serve, ROW_VHOST | ROW_ADMINISTRATOR},
    {METHOD_POST, "/definitions/*", definitions_import, ROW_VHOST | ROW_ADMINISTRATOR | ROW_BODY},

    {METHOD_GET, "/aliveness-test/*", aliveness_serve, ROW_VHOST},
    {METHOD_GET, "/healthchecks/node", alarms_serve, 0},
    {METHOD_GET, "/health/checks/alarms", alarms_serve, 0},
    {METHOD_GET, "/health/checks/local-alarms", alarms_serve, 0},
    {METHOD_GET, "/health/checks/virtual-hosts", alarms_serve, 0},
    {METHOD_GET, "/health/checks/node-is-mirror-sync-critical", health_serve, 0},
    {METHOD_GET, "/health/checks/node-is-quorum-critical", health_serve, 0},

    {METHOD_GET, "/parameters", nothing_serve, 0},
    {METHOD_GET, "/global-parameters", nothing_serve, 0},
    {METHOD_GET, "/policies", nothing_serve, 0},
    {METHOD_GET, "/policies/*", nothing_serve, ROW_VHOST},
    {METHOD_GET, "/operator-policies", nothing_serve, 0},
    {METHOD_GET, "/operator-policies/*", nothing_serve, ROW_VHOST},
    {METHOD_GET, "/vhost-limits", nothing_serve, 0},
    {METHOD_GET, "/vhost-limits/*", nothing_serve, ROW_VHOST},
    {METHOD_GET, "/topic-permissions", nothing_serve, 0},
    {METHOD_GET, "/feature-flags", nothing_serve, 0},
};

#define N_ROWS (sizeof rows / sizeof rows[0])

/* What stands for each '*' goes to args, as sent. */
static bool path_matches(const char *pattern, struct slice path, struct slice args[MANAGEMENT_ARGS_MAX])
{
    struct slice rest = slice_from_text(pattern);
    size_t n = 0;

    while (rest.len && path.len) {
        struct slice expected, segment;

        slice_drop(&rest, 1); /* both start with '/' */
        slice_drop(&path, 1);
        expected = slice_take(&rest, slice_find(rest, '/'));
        segment = slice_take(&path, slice_find(path, '/'));
        if (slice_equal(expected, SLICE("*")))
            args[n++] = segment;
        else if (!slice_equal(expected, segment))
            return false;
    }
    return !rest.len && !path.len;
}

static bool method_fits(const struct management_row *row, enum http_method method)
{
    return method == row->method || (row->method == METHOD_GET && method == METHOD_HEAD);
}

/* By path and method; *path_is_there: by the path alone. */
static const struct management_row *find_row(const struct exchange *x, struct slice args[MANAGEMENT_ARGS_MAX],
                                             bool *path_is_there)
{
    struct slice path = x->request.path;

    *path_is_there = false;
    if (!slice_starts_with(path, SLICE("/api/")))
        return NULL;
    slice_drop(&path, 4);
    for (size_t i = 0; i < N_ROWS; i++) {
        if (!path_matches(rows[i].path, path, args))
            continue;
        *path_is_there = true;
        if (method_fits(&rows[i], x->request.method_id))
            return &rows[i];
    }
    return NULL;
}

bool management_has(const struct exchange *x)
{
    struct slice args[MANAGEMENT_ARGS_MAX];
    bool path_is_there;

    return find_row(x, args, &path_is_there) != NULL;
}

bool management_has_path(const struct exchange *x)
{
    struct slice args[MANAGEMENT_ARGS_MAX];
    bool path_is_there;

    find_row(x, args, &path_is_there);
    return path_is_there;
}

/* ---- what comes with a request ----------------------------------------------------------------------------------- */

struct parsing {
    struct offload job;
    char *bytes; /* owned */
    size_t len;
    json_t *value; /* owned */
};

static void parse(struct offload *job)
{
    struct parsing *p = container_of(job, struct parsing, job);

    p->value =
        p->len ? json_loadb(p->bytes, p->len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL) : json_object();
}

static void free_parsing(struct offload *job)
{
    struct parsing *p = container_of(job, struct parsing, job);

    json_decref(p->value);
    free(p->bytes);
    free(p);
}

/* The request's body, whole. 0, or why it could not be read. */
static int read_body(struct exchange *x, struct parsing *p)
{
    struct slice piece;
    FILE *out = open_memstream(&p->bytes, &p->len);
    int result = out ? 1 : -ENOMEM, error = 0;

    while (result > 0 && !error) {
        result = exchange_read_body(x, &piece);
        if (result > 0 && piece.len && fwrite(piece.ptr, 1, piece.len, out) != piece.len)
            error = -ENOMEM;
    }
    if (out && fclose(out) != 0 && !error)
        error = -ENOMEM;
    return error ? error : result < 0 ? result : 0;
}

/* False: the call is answered. */
static bool take_body(struct management_call *call)
{
    struct parsing *p = calloc(1, sizeof *p);
    int error = p ? read_body(call->x, p) : -ENOMEM;

    if (error) {
        if (p)
            free_parsing(&p->job);
        call->x->close = true;
        management_refuse(call, error == -ENOMEM ? 503 : exchange_body_status(error), "bad_request",
                          "the body did not come whole; it may have 16 MiB");
        return false;
    }
    p->job = (struct offload){.work = parse, .free = free_parsing};
    if (!terms_is_shallow(slice_of(p->bytes, p->len), BODY_LEVELS))
        error = -EMSGSIZE;
    else if (p->len <= BODY_AT_ONCE)
        parse(&p->job);
    else
        error = offload_run(&p->job, loop_deadline(MANAGEMENT_WAIT_US));
    if (error == -ETIMEDOUT || error == -ECANCELED) {
        management_refuse_error(call, error);
        return false; /* it frees itself */
    }
    call->body = json_is_object(p->value) ? json_incref(p->value) : NULL;
    free_parsing(&p->job);
    if (!call->body)
        management_refuse(call, 400, "bad_request", "not_json");
    return call->body != NULL;
}

bool management_take_truth(struct management_call *call, const char *name, bool *truth)
{
    const json_t *value = json_object_get(call->body, name);
    struct slice text = terms_get(call->body, name);

    if (!value)
        return true;
    if (json_is_boolean(value))
        *truth = json_is_true(value);
    else if (slice_equal(text, SLICE("true")) || slice_equal(text, SLICE("false")))
        *truth = text.len == 4;
    else {
        management_refuse(call, 400, "bad_request", "%s is true or false", name);
        return false;
    }
    return true;
}

bool management_asks_for(const struct management_call *call, const char *name)
{
    struct slice query = call->x->request.query, value;

    return query_take(&call->x->arena, &query, slice_from_text(name), &value) == 1 &&
           slice_equal(value, SLICE("true"));
}

/* ---- a call ------------------------------------------------------------------------------------------------------ */

/* False: the call is answered. */
static bool decode_args(struct management_call *call)
{
    for (size_t i = 0; i < MANAGEMENT_ARGS_MAX; i++) {
        int error = query_decode_segment(&call->x->arena, call->args[i], &call->args[i]);

        if (error) {
            management_refuse(call, error == -ENOMEM ? 503 : 400, "bad_request",
                              "a name in the path is not percent-encoded as it should be, as in %%2F");
            return false;
        }
    }
    return true;
}

static bool check_vhost(struct management_call *call)
{
    if (!(call->row->flags & ROW_VHOST))
        return true;
    if (!management_has_vhost(call->config, call->args[0])) {
        if (call->row->method == METHOD_GET)
            management_not_found(call);
        else
            management_refuse(call, 404, "not_found", "vhost_not_found");
        return false;
    }
    if (!management_may_see(call, call->args[0])) {
        management_refuse(call, 401, "not_authorised", "User not authorised to access virtual host");
        return false;
    }
    return true;
}

static bool check_administrator(struct management_call *call)
{
    if (!(call->row->flags & ROW_ADMINISTRATOR) || call->administrator)
        return true;
    management_refuse(call, 401, "not_authorised", "User not administrator");
    return false;
}

static void serve_row(struct management_call *call)
{
    if (!decode_args(call) || !check_vhost(call) || !check_administrator(call))
        return;
    if (!listing_read(&call->listing, &call->x->arena, call->x->request.query)) {
        management_refuse(call, 400, "bad_request", "Pagination parameters are invalid");
        return;
    }
    if (call->row->flags & ROW_BODY && !take_body(call))
        return;
    call->row->serve(call);
    json_decref(call->body);
}

static void challenge(struct exchange *x, const char *reason)
{
    static const struct http_field basic = {.name = {"WWW-Authenticate", 16},
                                            .value = {"Basic realm=\"RabbitMQ Management\"", 33}};

    management_answer_error(x, 401, &basic, "not_authorized", reason);
}

/* A page of another site in somebody's browser must not act with the password that the browser keeps. */
static bool comes_from_elsewhere(const struct exchange *x)
{
    const struct http_field *field = http_field_find(&x->request.fields, SLICE("Origin"));
    struct slice origin = field ? field->value : SLICE("");
    size_t scheme = slice_starts_with(origin, SLICE("http://"))    ? 7
                    : slice_starts_with(origin, SLICE("https://")) ? 8
                                                                   : 0;

    if (!field || x->request.method_id == METHOD_GET || x->request.method_id == METHOD_HEAD)
        return false;
    slice_drop(&origin, scheme);
    return !scheme || !slice_equal_nocase(origin, x->request.authority);
}

static void serve_known(struct management_call *call)
{
    bool path_is_there;

    call->row = find_row(call->x, call->args, &path_is_there);
    call->administrator = !call->user.config || call->user.config->administrator;
    if (call->row)
        serve_row(call);
    else if (path_is_there)
        management_refuse(
            call, 405, "method_not_allowed",
            "this path does not take that method; what users, virtual hosts and permissions there "
            "are the configuration says");
    else
        management_not_found(call);
}

void management_refuse_name(struct exchange *x)
{
    management_answer_error(x, 403, NULL, "forbidden",
                            "this is asked for by a name that may be somebody else's (see Host); use "
                            "localhost or the address");
}

void management_serve(struct admin *admin, struct exchange *x, bool has_token)
{
    struct management_call call = {.admin = admin, .x = x};
    enum management_login login = management_log_in(admin, x, &call.user);

    if (login == LOGIN_REFUSED || (login == LOGIN_NOT_BASIC && !has_token)) {
        challenge(x, login == LOGIN_REFUSED ? "Login failed"
                                            : "the name and password of an AMQP user are needed");
    } else if (login == LOGIN_FAILED) {
        management_answer_error(x, 503, NULL, "service_unavailable",
                                "no memory, or too many log in at once; try again");
    } else if (comes_from_elsewhere(x)) {
        management_answer_error(x, 403, NULL, "forbidden",
                                "the page that asks for this is of another site (see its Origin)");
    } else {
        call.config = config_ref(admin->system->config);
        serve_known(&call);
        config_unref(call.config);
    }
    management_log_out(&call.user);
}
