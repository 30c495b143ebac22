/* requests_serve.c - GET /api/requests: the last ones that were answered, or, as server-sent events, those that come. */
#include <errno.h>
#include <stdlib.h>

#include "admin/private.h"
#include "admin/query.h"
#include "admin/reply.h"
#include "admin/requests.h"

/* Between two signs of life, for whoever stands between us and the reader. */
#define COMMENT_US (15 * US_PER_S)
#define BLOCK_BYTES 4096 /* of one request, every byte escaped */

/* ---- a list ------------------------------------------------------------------------------------------------ */

/* From the newest on; what is pushed out meanwhile, because the client is slow, is where the list ends. */
static void put_list(struct json *json, const struct requests *requests, const struct request_filter *filter)
{
    uint64_t last_id = requests->last_id, left = filter->max;
    uint64_t since = filter->since > last_id ? 0 : filter->since; /* of another process: all are new */
    struct tail_entry entry;

    json_put_array(json);
    for (uint64_t id = last_id; left && id > since && requests_get(requests, id, &entry); id--) {
        if (!request_filter_takes(filter, &entry))
            continue;
        request_put(json, id, &entry);
        left--;
    }
    json_put_end(json);
}

static void serve_list(struct exchange *x, const struct requests *requests,
                       const struct request_filter *filter)
{
    uint64_t kept = requests_count(requests), of = requests->of;
    struct reply reply;

    if (!reply_begin(&reply, x, 200, REPLY_JSON))
        return;
    json_put_object(&reply.json);
    json_key(&reply.json, "requests");
    put_list(&reply.json, requests, filter);
    PUT_U64(&reply.json, "kept", kept);
    PUT_U64(&reply.json, "of", of);
    json_put_end(&reply.json);
    reply_end(&reply);
}

/* ---- a stream ---------------------------------------------------------------------------------------------- */

struct watcher {
    struct exchange *x;
    struct requests *requests;
    struct request_filter filter;
    uint64_t seen; /* the last one that it has, or was not to have */
    char block[BLOCK_BYTES];
};

static int write_piece(void *arg, struct slice text)
{
    return exchange_write(arg, text);
}

static int send_request(struct watcher *w, uint64_t id, const struct tail_entry *entry)
{
    struct json json;

    json_init(&json, w->block, sizeof w->block, write_piece, w->x);
    json_put(&json, SLICE("id: "));
    json_put_u64(&json, id);
    json_put(&json, SLICE("\nevent: request\ndata: "));
    request_put(&json, id, entry);
    json_put(&json, SLICE("\n\n"));
    return json_finish(&json) ? 0 : -1;
}

/* All that it has not seen, without those that were pushed out before it could take them. */
static int send_news(struct watcher *w)
{
    struct tail_entry entry;

    if (w->seen > w->requests->last_id)
        w->seen = 0; /* a number of another process, or one that was not given yet */
    while (w->seen < w->requests->last_id) {
        uint64_t oldest = w->requests->last_id - requests_count(w->requests);

        w->seen = (w->seen > oldest ? w->seen : oldest) + 1;
        if (requests_get(w->requests, w->seen, &entry) && request_filter_takes(&w->filter, &entry) &&
            send_request(w, w->seen, &entry) != 0)
            return -1;
    }
    return exchange_flush(w->x);
}

static bool is_over(const struct admin *admin, const struct exchange *x)
{
    return admin->system->drains || x->connection->last;
}

/* Until the client leaves or we do. */
static void follow(struct admin *admin, struct watcher *w)
{
    int error = send_news(w);

    while (!error && !is_over(admin, w->x)) {
        error = wait_queue_wait(&w->requests->followers, loop_deadline(COMMENT_US));
        if (error == -ETIMEDOUT)
            error = exchange_write(w->x, SLICE(": still here\n\n"));
        if (!error)
            error = requests_want(w->requests);
        if (!error)
            error = send_news(w);
    }
}

/* Where it begins: behind what the client has, or with what comes next. False: it is answered. */
static bool find_beginning(struct watcher *w)
{
    const struct http_field *field = http_field_find(&w->x->request.fields, SLICE("Last-Event-ID"));

    w->seen = w->filter.is_since ? w->filter.since : w->requests->last_id;
    if (!field || slice_to_u64(field->value, &w->seen))
        return true;
    reply_error(w->x, 400, NULL, "Last-Event-ID takes the id of a request, or 0 for all that are kept");
    return false;
}

static void serve_stream(struct admin_call *call, const struct request_filter *filter)
{
    struct watcher *w = malloc(sizeof *w);

    if (!w) {
        reply_no_memory(call->x);
        return;
    }
    w->x = call->x;
    w->requests = call->admin->requests;
    w->filter = *filter;
    if (find_beginning(w) && admin_stream_begin(call) == 0) {
        follow(call->admin, w);
        admin_stream_end(call);
    }
    free(w);
}

static bool wants_stream(struct exchange *x)
{
    const struct http_field *accept = http_field_find(&x->request.fields, SLICE("Accept"));
    struct slice query = x->request.query, value;

    if (query_take(&x->arena, &query, SLICE("follow"), &value) == 1)
        return slice_equal(value, SLICE("1"));
    return accept && memmem(accept->value.ptr, accept->value.len, "text/event-stream", 17);
}

void requests_serve(struct admin_call *call)
{
    struct request_filter filter;
    const char *wrong = request_filter_read(&filter, call->x);

    if (wrong)
        reply_error(call->x, 400, NULL, "%s", wrong);
    else if (requests_want(call->admin->requests) != 0)
        reply_no_memory(call->x);
    else if (wants_stream(call->x))
        serve_stream(call, &filter);
    else
        serve_list(call->x, call->admin->requests, &filter);
}
