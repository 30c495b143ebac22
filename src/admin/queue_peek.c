/* queue_peek.c - GET /api/queues/NAME/messages: what waits in a queue, oldest first, without taking it.
 *
 * A job of the queue thread copies heads and the beginnings of bodies; what is written from them is written here. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "admin/private.h"
#include "admin/query.h"
#include "admin/reply.h"
#include "base/clock.h"
#include "fiber/loop.h"
#include "queue/body.h"

#define PEEK_WAIT_US (10 * US_PER_S)
#define PEEKED_USUALLY 10u
#define PEEKED_MOST 100u
#define BODY_SHOWN 4096u

struct glimpse {
    struct glimpse *next;
    uint32_t address; /* with origin, what its name is made of */
    uint64_t number, origin, published_us, queued_us, due_us;
    unsigned attempts;
    bool redelivered;
    uint64_t body_bytes;
    struct body_ref stored;  /* the body is read later */
    struct slice head, body; /* in bytes; body: as much as is shown */
    char bytes[];
};

struct peek_job {
    struct queue_job job;
    uint64_t from, most;
    int error;
    struct glimpse *first, **last; /* owned */
    char name[];
};

static void add_glimpse(void *arg, const struct broker_peeked *peeked)
{
    struct peek_job *p = arg;
    const struct message *m = peeked->message;
    size_t shown = m->body.len < BODY_SHOWN ? m->body.len : BODY_SHOWN;
    struct glimpse *glimpse = malloc(sizeof *glimpse + m->head.len + (m->stored.id ? BODY_SHOWN : shown));

    if (!glimpse) {
        p->error = -ENOMEM;
        return;
    }
    *glimpse = (struct glimpse){
        .address = m->origin_address,
        .number = m->number,
        .origin = m->origin,
        .published_us = m->published_us,
        .queued_us = m->queued_us,
        .due_us = peeked->due_us,
        .attempts = peeked->attempts,
        .redelivered = peeked->redelivered,
        .body_bytes = message_body_bytes(m),
        .stored = m->stored,
        .head = slice_of(glimpse->bytes, m->head.len),
        .body = slice_of(glimpse->bytes + m->head.len, shown),
    };
    if (m->head.len)
        memcpy(glimpse->bytes, m->head.ptr, m->head.len);
    if (shown)
        memcpy(glimpse->bytes + m->head.len, m->body.ptr, shown);
    *p->last = glimpse;
    p->last = &glimpse->next;
}

static void run_peek(struct queue_job *job, struct broker *broker, uint64_t now_us)
{
    struct peek_job *p = container_of(job, struct peek_job, job);
    int error;

    (void)now_us;
    p->error = 0;
    error = broker_peek(broker, slice_from_text(p->name), p->from, p->most, add_glimpse, p);
    if (error)
        p->error = error;
}

static void free_peek(struct queue_job *job)
{
    struct peek_job *p = container_of(job, struct peek_job, job);

    while (p->first) {
        struct glimpse *next = p->first->next;

        free(p->first);
        p->first = next;
    }
    free(p);
}

/* ---- as JSON ----------------------------------------------------------------------------------------------------- */

static void put_item(struct json *json, const char *name, struct slice value)
{
    json_key_slice(json, slice_from_text(name));
    if (value.ptr)
        json_put_string(json, value);
    else
        json_put_null(json);
}

static void put_deaths(struct json *json, struct slice head)
{
    struct envelope_item item;
    struct death death;

    json_key(json, "deaths");
    json_put_array(json);
    while (envelope_take(&head, &item)) {
        if (item.tag != ENVELOPE_DEATH || !death_parse(item.value, &death))
            continue;
        json_put_object(json);
        PUT_TEXT(json, "reason", message_end_names[death.reason]);
        PUT_U64(json, "count", death.count);
        PUT_TIME(json, "time", death.time_us);
        put_item(json, "queue", death.queue);
        json_put_end(json);
    }
    json_put_end(json);
}

static void put_fields(struct json *json, struct slice head)
{
    struct envelope_item item;

    json_key(json, "fields");
    json_put_array(json);
    while (envelope_take(&head, &item)) {
        if (item.tag != ENVELOPE_FIELD)
            continue;
        json_put_object(json);
        put_item(json, "name", item.name);
        put_item(json, "value", item.value);
        json_put_end(json);
    }
    json_put_end(json);
}

static void put_id(struct json *json, const struct token_key *key, const struct glimpse *g)
{
    char id[TOKEN_TEXT];

    json_key(json, "id");
    if (key && token_put(key, g->address, g->origin, id))
        json_put_string(json, slice_of(id, sizeof id));
    else
        json_put_null(json);
}

static void put_glimpse(struct json *json, const struct token_key *key, const struct glimpse *g)
{
    json_put_object(json);
    put_id(json, key, g);
    PUT_U64(json, "number", g->number);
    PUT_U64(json, "attempts", g->attempts);
    PUT_BOOL(json, "redelivered", g->redelivered);
    PUT_TIME(json, "published", g->published_us);
    PUT_TIME(json, "queued", g->queued_us);
    json_key(json, "due");
    if (g->due_us)
        json_put_time(json, g->due_us);
    else
        json_put_null(json);
    put_item(json, "method", envelope_find(g->head, ENVELOPE_METHOD));
    put_item(json, "target", envelope_find(g->head, ENVELOPE_TARGET));
    put_fields(json, g->head);
    put_deaths(json, g->head);
    PUT_U64(json, "body_bytes", g->body_bytes);
    put_item(json, "body", g->body);
    json_put_end(json);
}

/* What is shown of a body that has a file of its own. One that left the queue meanwhile is shown without. */
static void show_stored(struct queue_port *port, struct glimpse *g)
{
    char *at = g->bytes + g->head.len;
    struct queue_reader *reader = NULL;
    struct stored_body body;
    struct slice piece;
    int result = queue_body_open(port, g->stored, &body);

    if (!result)
        reader = queue_reader_create(port, &body, false);
    result = reader ? queue_reader_next(reader, &piece) : 0;
    if (result == 1) {
        g->body = slice_take(&piece, piece.len < BODY_SHOWN ? piece.len : BODY_SHOWN);
        memcpy(at, g->body.ptr, g->body.len);
        g->body.ptr = at;
    }
    if (result != -ECANCELED)
        queue_reader_free(reader);
}

/* ---- the call ---------------------------------------------------------------------------------------------------- */

/* False: the call is answered. */
static bool read_range(struct admin_call *call, uint64_t *from, uint64_t *most)
{
    struct arena *arena = &call->x->arena;
    struct slice query = call->x->request.query, value;

    *from = 0;
    *most = PEEKED_USUALLY;
    if (query_take(arena, &query, SLICE("max"), &value) == 1 &&
        (!slice_to_u64(value, most) || !*most || *most > PEEKED_MOST)) {
        reply_error(call->x, 400, NULL, "max is how many messages are shown, 1 to 100, as in ?max=20");
        return false;
    }
    query = call->x->request.query;
    if (query_take(arena, &query, SLICE("from"), &value) == 1 && !slice_to_u64(value, from)) {
        reply_error(call->x, 400, NULL,
                    "from is the number of the first message that is shown, as an earlier answer gave it");
        return false;
    }
    return true;
}

static void answer(struct admin_call *call, const struct peek_job *p)
{
    const struct token_key *key = queue_port_key(call->admin->system->port);
    struct reply reply;

    if (!reply_begin(&reply, call->x, 200, REPLY_JSON))
        return;
    json_put_object(&reply.json);
    json_key(&reply.json, "messages");
    json_put_array(&reply.json);
    for (const struct glimpse *at = p->first; at; at = at->next)
        put_glimpse(&reply.json, key, at);
    json_put_end(&reply.json);
    json_put_end(&reply.json);
    reply_end(&reply);
}

static void show(struct admin_call *call, const struct peek_job *p)
{
    for (struct glimpse *at = p->first; at; at = at->next)
        if (at->stored.id)
            show_stored(call->admin->system->port, at);
    answer(call, p);
}

void queues_peek(struct admin_call *call)
{
    struct queue_port *port = call->admin->system->port;
    const char *name = actions_text(call->x, call->args[0]);
    size_t name_bytes = strlen(name) + 1;
    struct peek_job *p;
    uint64_t from, most;
    int error;

    if (!read_range(call, &from, &most))
        return;
    p = port->thread ? calloc(1, sizeof *p + name_bytes) : NULL;
    if (!p) {
        queues_refuse(call->x, port->thread ? -ENOMEM : -ENODEV);
        return;
    }
    p->job = (struct queue_job){.run = run_peek, .free = free_peek};
    p->from = from;
    p->most = most;
    p->error = -ENODEV; /* until it has run */
    p->last = &p->first;
    memcpy(p->name, name, name_bytes);
    error = queue_job_run(port, &p->job, false, loop_deadline(PEEK_WAIT_US));
    if (error) {
        queues_refuse(call->x, error);
        return; /* it frees itself */
    }
    if (p->error == -ENOENT)
        queues_refuse_name(call, name);
    else if (p->error == -ENODEV || p->error == -ENOMEM)
        queues_refuse(call->x, p->error);
    else if (p->error)
        reply_error(call->x, 500, NULL,
                    "a message of queue %.100s cannot be read: %s; run `maitred log check`", name,
                    strerror(-p->error));
    else
        show(call, p);
    free_peek(&p->job);
}
