/* queue_actions.c - what people do with queues by hand: publish, purge, pause, resume, move. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin/private.h"
#include "admin/query.h"
#include "admin/reply.h"
#include "base/clock.h"
#include "base/event.h"
#include "fiber/loop.h"

/* How long the queue thread may take; what it was asked for happens all the same. */
#define HAND_WAIT_US (10 * US_PER_S)
/* So many messages are moved at a turn of the queue thread, so that others have theirs. */
#define MOVED_A_TURN 1000

/* ---- at the broker ----------------------------------------------------------------------------------------------- */

enum hand { HAND_PURGE, HAND_PAUSE, HAND_RESUME, HAND_MOVE };

struct hand_job {
    struct queue_job job;
    enum hand hand;
    uint64_t most, n; /* MOVE; how many messages it was */
    uint64_t in_flight;
    int error;
    const char *name, *to; /* in texts */
    const char *missing;   /* of these, where there is no such queue */
    char texts[];
};

static void run_hand(struct queue_job *job, struct broker *broker, uint64_t now_us)
{
    struct hand_job *h = container_of(job, struct hand_job, job);
    struct slice name = slice_from_text(h->name);
    struct broker_queue_view view;

    switch (h->hand) {
    case HAND_PURGE:
        h->error = broker_purge(broker, name, &h->n, now_us);
        break;
    case HAND_PAUSE:
    case HAND_RESUME:
        h->error = broker_pause(broker, name, h->hand == HAND_PAUSE);
        break;
    case HAND_MOVE:
        h->error = broker_move(broker, name, slice_from_text(h->to), h->most, &h->n, now_us);
        break;
    }
    if (broker_find_queue(broker, name, &view))
        h->in_flight = view.numbers.in_flight;
    else
        h->missing = h->name;
}

static void free_hand(struct queue_job *job)
{
    free(container_of(job, struct hand_job, job));
}

/* The caller frees it. NULL: the call is answered. to may be NULL. */
static struct hand_job *run_job(struct admin_call *call, enum hand hand, const char *name, const char *to,
                                uint64_t most)
{
    struct queue_port *port = call->admin->system->port;
    size_t name_bytes = strlen(name) + 1, to_bytes = to ? strlen(to) + 1 : 0;
    struct hand_job *h = calloc(1, sizeof *h + name_bytes + to_bytes);
    int error = h ? port->thread ? 0 : -ENODEV : -ENOMEM;

    if (!error) {
        h->job = (struct queue_job){.run = run_hand, .free = free_hand};
        h->hand = hand;
        h->most = most;
        h->error = -ENODEV; /* until it has run */
        h->name = memcpy(h->texts, name, name_bytes);
        h->missing = h->to = to ? memcpy(h->texts + name_bytes, to, to_bytes) : NULL;
        error = queue_job_run(port, &h->job, true, loop_deadline(HAND_WAIT_US));
        if (!error)
            return h;
        h = NULL; /* it frees itself */
    }
    free(h);
    queues_refuse(call->x, error);
    return NULL;
}

/* Says no, where there is a reason to. False: there is none. */
static bool refuse_result(struct admin_call *call, const struct hand_job *h)
{
    const char *failure = log_failure_seen(call->admin->system->port);

    if (failure)
        reply_error(call->x, 503, NULL,
                    "%.300s; what was asked for may be forgotten by a restart, which opens the log again",
                    failure);
    else if (h->error == -ENOENT)
        queues_refuse_name(call, h->missing);
    else if (h->error == -ENOSPC)
        reply_error(
            call->x, 507, NULL,
            "there is no space for the queue's log; make room on its disk, or raise `max` in the state "
            "section");
    else if (h->error == -ENODEV || h->error == -ENOMEM)
        queues_refuse(call->x, h->error);
    else if (h->error)
        reply_error(call->x, 500, NULL, "queue %.100s: %s", h->name, strerror(-h->error));
    else
        return false;
    return true;
}

/* ---- purge, pause, resume ---------------------------------------------------------------------------------------- */

static void act(struct admin_call *call, enum hand hand, enum event_kind event)
{
    const char *name = actions_text(call->x, call->args[0]);
    struct hand_job *h = run_job(call, hand, name, NULL, 0);
    char what[160], text[512];

    if (!h)
        return;
    if (refuse_result(call, h)) {
        free(h);
        return;
    }
    if (hand == HAND_PURGE)
        snprintf(what, sizeof what, "purged by hand: %llu message%s dropped; %llu in flight stay%s",
                 (unsigned long long)h->n, h->n == 1 ? "" : "s", (unsigned long long)h->in_flight,
                 h->in_flight == 1 ? "s" : "");
    else
        snprintf(what, sizeof what, "%s",
                 hand == HAND_PAUSE ? "paused by hand: it takes messages and delivers none"
                                    : "resumed by hand: it delivers again");
    snprintf(text, sizeof text, "queue %.100s %s", name, what);
    event_say(event, SLICE(""), SLICE(""), "%s", text);
    actions_said(call->x, text);
    free(h);
}

void queues_purge(struct admin_call *call)
{
    act(call, HAND_PURGE, EVENT_QUEUE_PURGED);
}

void queues_pause(struct admin_call *call)
{
    act(call, HAND_PAUSE, EVENT_QUEUE_PAUSED);
}

void queues_resume(struct admin_call *call)
{
    act(call, HAND_RESUME, EVENT_QUEUE_RESUMED);
}

/* ---- move -------------------------------------------------------------------------------------------------------- */

/* Whatever was moved before it stopped stays moved. */
static void say_moved(struct admin_call *call, const char *from, const char *to, uint64_t n, int error)
{
    char text[512];

    snprintf(text, sizeof text, "moved %llu message%s by hand from queue %.100s to %.100s",
             (unsigned long long)n, n == 1 ? "" : "s", from, to);
    if (n)
        event_say(EVENT_QUEUE_MOVED, SLICE(""), SLICE(""), "%s", text);
    if (error == -EXFULL)
        reply_error(call->x, 409, NULL, "queue %.100s is full; %s", to, text);
    else
        actions_said(call->x, text);
}

/* The target of a move, as its query names it. NULL: the call is answered. */
static const char *take_to(struct admin_call *call, uint64_t *most)
{
    struct slice query = call->x->request.query, value;
    const char *to;

    *most = UINT64_MAX;
    if (query_take(&call->x->arena, &query, SLICE("to"), &value) != 1 || !value.len) {
        reply_error(call->x, 400, NULL, "say where the messages are to go, as in ?to=orders");
        return NULL;
    }
    to = actions_text(call->x, value);
    query = call->x->request.query;
    if (query_take(&call->x->arena, &query, SLICE("max"), &value) == 1 &&
        (!slice_to_u64(value, most) || !*most)) {
        reply_error(call->x, 400, NULL, "max is how many messages at most, as in &max=100");
        return NULL;
    }
    return to;
}

void queues_move(struct admin_call *call)
{
    const char *from = actions_text(call->x, call->args[0]);
    uint64_t most, moved = 0, step;
    const char *to = take_to(call, &most);
    int error = 0;

    if (!to)
        return;
    if (strcmp(from, to) == 0) {
        reply_error(call->x, 400, NULL,
                    "a queue's messages cannot be moved to itself; name another one in ?to=");
        return;
    }
    do {
        struct hand_job *h =
            run_job(call, HAND_MOVE, from, to, most - moved < MOVED_A_TURN ? most - moved : MOVED_A_TURN);

        if (!h)
            return;
        step = h->n;
        moved += step;
        error = h->error == -EXFULL ? -EXFULL : 0;
        if (!error && refuse_result(call, h)) {
            free(h);
            return;
        }
        free(h);
    } while (!error && step == MOVED_A_TURN && moved < most);
    say_moved(call, from, to, moved, error);
}

/* ---- publish ----------------------------------------------------------------------------------------------------- */

#define FIELDS_MOST 64

/* A message as somebody writes it by hand. */
struct writing {
    struct slice method, target;
    struct http_field fields[FIELDS_MOST];
    unsigned n_fields;
    uint64_t delay_us;
};

/* One that a method or a field's name may be. */
static bool is_word(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!isalnum((unsigned char)s.ptr[i]) && s.ptr[i] != '-' && s.ptr[i] != '_')
            return false;
    return s.len > 0;
}

/* NULL, or what is wrong with a "Name: value". */
static const char *take_field(struct writing *w, struct slice text)
{
    struct slice name = slice_take(&text, slice_find(text, ':'));

    if (!text.len || !is_word(name))
        return "a field is written as Name: value";
    if (w->n_fields == FIELDS_MOST)
        return "64 fields at most";
    slice_drop(&text, 1);
    w->fields[w->n_fields++] = (struct http_field){.name = name, .value = slice_trim(text)};
    return NULL;
}

/* By the query: method, target, field (any number), delay in seconds. NULL, or what is wrong with it. */
static const char *read_writing(struct admin_call *call, struct writing *w)
{
    struct arena *arena = &call->x->arena;
    struct slice query = call->x->request.query, rest = query, value;
    const char *why = NULL;
    uint64_t seconds;

    *w = (struct writing){.method = SLICE("POST"), .target = SLICE("/")};
    if (query_take(arena, &rest, SLICE("method"), &value) == 1)
        w->method = value;
    if (!is_word(w->method))
        return "method is one word, as in method=PUT";
    rest = query;
    if (query_take(arena, &rest, SLICE("target"), &value) == 1)
        w->target = value;
    if (!w->target.len || w->target.ptr[0] != '/')
        return "target is a path that begins with a slash, as in target=/orders";
    for (size_t i = 0; i < w->target.len; i++)
        if ((unsigned char)w->target.ptr[i] <= ' ' || (unsigned char)w->target.ptr[i] >= 0x7f)
            return "target has visible ASCII alone; write others percent-encoded, a space as %20 (in a URL "
                   "that is %2520)";
    rest = query;
    if (query_take(arena, &rest, SLICE("delay"), &value) == 1) {
        if (!slice_to_u64(value, &seconds) || seconds > UINT32_MAX)
            return "delay is a whole number of seconds, as in delay=60";
        w->delay_us = seconds * US_PER_S;
    }
    rest = query;
    while (!why && query_take(arena, &rest, SLICE("field"), &value) == 1)
        why = take_field(w, value);
    return why;
}

/* Writes the item where at is not NULL. Returns its size. */
static size_t put_item(char **at, const struct envelope_item *item)
{
    if (*at)
        *at = envelope_put(*at, item);
    return envelope_item_bytes(item);
}

static size_t put_head(const struct writing *w, char *at)
{
    size_t n = put_item(&at, &(struct envelope_item){ENVELOPE_METHOD, SLICE(""), w->method});

    n += put_item(&at, &(struct envelope_item){ENVELOPE_TARGET, SLICE(""), w->target});
    for (unsigned i = 0; i < w->n_fields; i++)
        n += put_item(&at, &(struct envelope_item){ENVELOPE_FIELD, w->fields[i].name, w->fields[i].value});
    return n;
}

/* The request's body, whole; the caller frees it. 0 or why it could not be read. */
static int read_body(struct exchange *x, char **bytes, size_t *len)
{
    struct slice piece;
    FILE *out = open_memstream(bytes, len);
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

static void answer_published(struct admin_call *call, struct queue_request *request, const char *name)
{
    struct queue_port *port = request->port;
    const struct token_key *key;
    char text[256], id[TOKEN_TEXT];

    switch (request->result) {
    case PUBLISH_OK:
        key = queue_port_key(port);
        if (key && token_put(key, request->published.address, request->published.number, id))
            snprintf(text, sizeof text, "published to queue %.100s as message %.*s", name, TOKEN_TEXT, id);
        else
            snprintf(text, sizeof text, "published to queue %.100s", name);
        actions_said(call->x, text);
        break;
    case PUBLISH_UNROUTABLE:
    case PUBLISH_NO_EXCHANGE:
        queues_refuse_name(call, name);
        break;
    case PUBLISH_FULL:
        reply_error(call->x, 409, NULL, "queue %.100s is full; nothing was published", name);
        break;
    case PUBLISH_TOO_LARGE:
        reply_error(call->x, 413, NULL, "the message is larger than a record of the log may be");
        break;
    case PUBLISH_NO_SPACE:
        reply_error(call->x, 507, NULL, "there is no space for the queue's log; nothing was published");
        break;
    case PUBLISH_NO_MEMORY:
        reply_no_memory(call->x);
        break;
    default:
        reply_error(call->x, 503, NULL, "the queue's log is closed; GET /api/state says why");
    }
}

void queues_publish(struct admin_call *call)
{
    struct exchange *x = call->x;
    struct queue_port *port = call->admin->system->port;
    const char *name = actions_text(x, call->args[0]), *why;
    const struct config_queue *in_file;
    struct queue_request *request;
    size_t head, len = 0, name_len = strlen(name);
    struct writing w;
    char *bytes = NULL;
    int error;

    why = read_writing(call, &w);
    if (why) {
        reply_error(x, 400, NULL, "%s", why);
        return;
    }
    if (!port->thread) {
        queues_refuse(x, -ENODEV);
        return;
    }
    error = read_body(x, &bytes, &len);
    if (error) {
        free(bytes);
        x->close = true;
        reply_error(x, error == -ENOMEM ? 503 : exchange_body_status(error), NULL,
                    "the message did not come whole; it may have 16 MiB");
        return;
    }
    head = put_head(&w, NULL);
    in_file = config_queue_find(call->admin->system->config, name);
    if (in_file && head + len > in_file->max_message) {
        free(bytes);
        reply_error(x, 413, NULL,
                    "the message has %zu bytes with its fields; max-message of queue %.100s is %llu",
                    head + len, name, (unsigned long long)in_file->max_message);
        return;
    }
    error = queue_request_create(port, head + name_len, head + name_len + len, loop_deadline(HAND_WAIT_US),
                                 &request);
    if (error) {
        free(bytes);
        queues_refuse(x, error);
        return;
    }
    put_head(&w, request->block);
    request->head = slice_of(request->block, head);
    memcpy(request->block + head, name, name_len);
    request->key = slice_of(request->block + head, name_len);
    request->body = slice_of(bytes, len);
    request->delay_us = w.delay_us;
    if (queue_publish(request) != 0) {
        queues_refuse(x, -ECANCELED);
        return; /* the request is not ours any more */
    }
    answer_published(call, request, name);
    queue_request_free(request);
}
