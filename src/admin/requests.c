/* requests.c - see requests.h. */
#include "admin/requests.h"

#include <errno.h>
#include <stdlib.h>

#include "admin/query.h"
#include "admin/reply.h"

#define COLLECT_US (250 * US_PER_MS) /* in which no thread's ring is filled */

/* ---- the ring ---------------------------------------------------------------------------------------------- */

uint64_t requests_count(const struct requests *requests)
{
    return requests->last_id < REQUESTS_KEPT ? requests->last_id : REQUESTS_KEPT;
}

bool requests_get(const struct requests *requests, uint64_t id, struct tail_entry *entry)
{
    if (!id || id > requests->last_id || id + REQUESTS_KEPT <= requests->last_id)
        return false;
    *entry = requests->ring[id % REQUESTS_KEPT];
    return true;
}

static void collect(struct requests *requests)
{
    struct tail_entry *entry = &requests->ring[(requests->last_id + 1) % REQUESTS_KEPT];
    uint64_t before = requests->last_id, pushed_out = entry->stands_for;

    while (tail_take(requests->tail, entry)) {
        requests->last_id++;
        requests->of += entry->stands_for - pushed_out;
        entry = &requests->ring[(requests->last_id + 1) % REQUESTS_KEPT];
        pushed_out = entry->stands_for;
    }
    if (requests->last_id != before)
        wait_queue_wake_all(&requests->followers);
}

static void collector_main(void *arg)
{
    struct requests *requests = arg;
    int error = 0;

    while (!error) {
        if (loop_now_us() >= requests->until_us) {
            error = wait_queue_wait(&requests->asked, NEVER);
            continue;
        }
        error = fiber_sleep_until(loop_now_us() + COLLECT_US);
        collect(requests);
    }
}

struct requests *requests_create(struct tail *tail)
{
    struct requests *requests = calloc(1, sizeof *requests);

    if (!requests)
        return NULL;
    requests->tail = tail;
    wait_queue_init(&requests->asked);
    wait_queue_init(&requests->followers);
    requests->collector = fiber_spawn("admin requests", collector_main, requests);
    if (requests->collector)
        return requests;
    free(requests);
    return NULL;
}

void requests_free(struct requests *requests)
{
    if (!requests)
        return;
    fiber_cancel_and_join(requests->collector);
    free(requests->ring);
    free(requests);
}

int requests_want(struct requests *requests)
{
    if (!requests->ring)
        requests->ring = calloc(REQUESTS_KEPT, sizeof *requests->ring);
    if (!requests->ring || tail_watch(requests->tail, loop_now_us() + REQUESTS_WATCH_US) != 0)
        return -ENOMEM;
    requests->until_us = loop_now_us() + REQUESTS_WATCH_US;
    wait_queue_wake_all(&requests->asked);
    collect(requests);
    return 0;
}

/* ---- which of them ----------------------------------------------------------------------------------------- */

/* "503", or "5xx". */
static bool read_status(struct slice text, struct request_filter *filter)
{
    uint64_t code;

    if (text.len == 3 && slice_equal_nocase(slice_of(text.ptr + 1, 2), SLICE("xx")) && text.ptr[0] >= '1' &&
        text.ptr[0] <= '5') {
        filter->status_least = 100u * (unsigned)(text.ptr[0] - '0');
        filter->status_most = filter->status_least + 99;
        return true;
    }
    if (!slice_to_u64(text, &code) || code < 100 || code > 599)
        return false;
    filter->status_least = filter->status_most = (unsigned)code;
    return true;
}

/* 1: it is given; 0: it is not; negative: it is not percent-encoded as it should be. */
static int take_text(struct exchange *x, struct slice name, struct slice *value)
{
    struct slice query = x->request.query;

    return query_take(&x->arena, &query, name, value);
}

/* False: it is given, and no number. */
static bool take_number(struct exchange *x, struct slice name, bool *is_given, uint64_t *value)
{
    struct slice text;
    int found = take_text(x, name, &text);

    *is_given = found == 1;
    return found == 0 || (found == 1 && slice_to_u64(text, value));
}

const char *request_filter_read(struct request_filter *filter, struct exchange *x)
{
    struct slice status;
    uint64_t slower_ms = 0;
    bool is_given;
    int found;

    *filter = (struct request_filter){.status_most = 999, .max = 100};
    if (take_text(x, SLICE("route"), &filter->route) < 0 || take_text(x, SLICE("pool"), &filter->pool) < 0 ||
        take_text(x, SLICE("path"), &filter->path) < 0)
        return "a parameter is not percent-encoded as it should be, or has a control character in it";
    found = take_text(x, SLICE("status"), &status);
    if (found < 0 || (found && !read_status(status, filter)))
        return "status takes a code or a class of them, as in ?status=5xx";
    if (!take_number(x, SLICE("slower"), &is_given, &slower_ms) || slower_ms > UINT32_MAX)
        return "slower takes milliseconds, as in ?slower=250";
    filter->slower_us = slower_ms * US_PER_MS;
    if (!take_number(x, SLICE("max"), &is_given, &filter->max) || !filter->max || filter->max > REQUESTS_KEPT)
        return "max is a whole number from 1 to 1000";
    if (!take_number(x, SLICE("since"), &filter->is_since, &filter->since))
        return "since takes the id of a request, or 0 for all that are kept";
    return NULL;
}

static bool is_or_any(struct slice wanted, struct slice value)
{
    return !wanted.ptr || slice_equal(wanted, value);
}

bool request_filter_takes(const struct request_filter *filter, const struct tail_entry *entry)
{
    struct slice path = tail_text(entry, TAIL_PATH);

    return entry->status >= filter->status_least && entry->status <= filter->status_most &&
           entry->duration_us >= filter->slower_us &&
           is_or_any(filter->route, tail_text(entry, TAIL_ROUTE)) &&
           is_or_any(filter->pool, tail_text(entry, TAIL_POOL)) &&
           (!filter->path.len || memmem(path.ptr, path.len, filter->path.ptr, filter->path.len));
}

/* ---- as JSON ----------------------------------------------------------------------------------------------- */

static void put_text_or_null(struct json *json, struct slice text)
{
    if (text.len)
        json_put_string(json, text);
    else
        json_put_null(json);
}

void request_put(struct json *json, uint64_t id, const struct tail_entry *entry)
{
    json_put_object(json);
    PUT_U64(json, "id", id);
    PUT_TIME(json, "time", entry->wall_us);
    json_key(json, "listener");
    json_put_string(json, tail_text(entry, TAIL_LISTENER));
    json_key(json, "method");
    json_put_string(json, tail_text(entry, TAIL_METHOD));
    json_key(json, "host");
    json_put_string(json, tail_text(entry, TAIL_HOST));
    json_key(json, "path");
    json_put_string(json, tail_text(entry, TAIL_PATH));
    PUT_U64(json, "status", entry->status);
    json_key(json, "duration_ms");
    json_put_ms(json, entry->duration_us);
    json_key(json, "route");
    put_text_or_null(json, tail_text(entry, TAIL_ROUTE));
    json_key(json, "pool");
    put_text_or_null(json, tail_text(entry, TAIL_POOL));
    json_key(json, "server");
    put_text_or_null(json, tail_text(entry, TAIL_SERVER));
    json_key(json, "queue");
    put_text_or_null(json, tail_text(entry, TAIL_QUEUE));
    json_key(json, "client");
    json_put_string(json, tail_text(entry, TAIL_CLIENT));
    PUT_U64(json, "bytes", entry->bytes);
    json_put_end(json);
}
