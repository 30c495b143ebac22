/* enqueue.c - see enqueue.h. */
#include "front/enqueue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "queue/token.h"

#define JSON_TYPE SLICE("application/json")
/* A message's status is told in so many bytes, for some hundred queues. */
#define STATUS_BYTES_MAX (64u * 1024)

/* ---- what the client prefers ------------------------------------------------------------------------------------- */

struct preferences {
    bool respond_async;
    bool waits;
    uint64_t wait_s;
};

static void take_preference(struct slice preference, struct preferences *p)
{
    struct slice name = slice_trim(slice_take(&preference, slice_find(preference, ';')));
    struct slice value = name;

    name = slice_trim(slice_take(&value, slice_find(value, '=')));
    if (value.len)
        slice_drop(&value, 1);
    value = slice_trim(value);
    if (slice_equal_nocase(name, SLICE("respond-async")))
        p->respond_async = true;
    else if (slice_equal_nocase(name, SLICE("wait")) && !p->waits)
        p->waits = slice_to_u64(value, &p->wait_s);
}

static struct preferences preferences_of(const struct http_request *request)
{
    struct preferences p = {0};

    for (unsigned i = 0; i < request->fields.count; i++) {
        struct slice list = request->fields.at[i].value, part;

        if (slice_equal_nocase(request->fields.at[i].name, SLICE("Prefer")))
            while (slice_next_part(&list, ',', &part))
                take_preference(part, &p);
    }
    return p;
}

bool enqueue_is_preferred(const struct http_request *request)
{
    return preferences_of(request).respond_async;
}

/* ---- the request as a message ------------------------------------------------------------------------------------ */

/* What belongs to this hop, or is told otherwise, or is not to be believed. */
static bool is_kept(const struct exchange *x, const struct http_field *field)
{
    switch (field->id) {
    case FIELD_CONTENT_LENGTH:
    case FIELD_EXPECT:
    case FIELD_HOST:
    case FIELD_X_REQUEST_ID:
        return false;
    case FIELD_FORWARDED:
    case FIELD_X_FORWARDED_FOR:
    case FIELD_X_FORWARDED_HOST:
    case FIELD_X_FORWARDED_OTHER:
    case FIELD_X_FORWARDED_PROTO:
    case FIELD_X_REAL_IP:
        return x->connection->peer_trusted && !field->hop_by_hop;
    default:
        return !field->hop_by_hop && !slice_equal_nocase(field->name, SLICE("Prefer"));
    }
}

/* Writes the item where at is not NULL. Returns its size. */
static size_t put_item(char **at, enum envelope_tag tag, struct slice name, struct slice value)
{
    struct envelope_item item = {tag, name, value};

    if (*at)
        *at = envelope_put(*at, &item);
    return envelope_item_bytes(&item);
}

/* The head of the message; at NULL: only its size. */
static size_t put_head(const struct exchange *x, char *at)
{
    const struct http_request *r = &x->request;
    size_t query = r->query.ptr ? r->query.len + 1 : 0; /* it stands behind the path, with its '?' */
    size_t n = put_item(&at, ENVELOPE_METHOD, SLICE(""), r->method);

    n += put_item(&at, ENVELOPE_TARGET, SLICE(""), slice_of(r->path.ptr, r->path.len + query));
    if (r->authority.len)
        n += put_item(&at, ENVELOPE_AUTHORITY, SLICE(""), r->authority);
    n += put_item(&at, ENVELOPE_CLIENT, SLICE(""), slice_of((const char *)&x->client, sizeof x->client));
    n += put_item(&at, ENVELOPE_FIELD, SLICE("X-Request-Id"), exchange_request_id(x));
    for (unsigned i = 0; i < r->fields.count; i++)
        if (is_kept(x, &r->fields.at[i]))
            n += put_item(&at, ENVELOPE_FIELD, r->fields.at[i].name, r->fields.at[i].value);
    return n;
}

static struct slice idempotency_key(const struct exchange *x)
{
    const struct http_fields *fields = &x->request.fields;

    for (unsigned i = 0; i < fields->count; i++)
        if (fields->at[i].id == FIELD_IDEMPOTENCY_KEY)
            return fields->at[i].value;
    return (struct slice){0};
}

static uint64_t max_message(const struct config_route *route)
{
    uint64_t most = route->queue ? route->queue->max_message : UINT64_MAX;

    for (size_t i = 0; route->topic && i < route->topic->n_queues; i++)
        if (route->topic->queues[i]->max_message < most)
            most = route->topic->queues[i]->max_message;
    return most;
}

static char *put_slice(char *at, struct slice s, struct slice *copy)
{
    if (s.len)
        memcpy(at, s.ptr, s.len);
    *copy = slice_of(at, s.len);
    return at + s.len;
}

/* A request with everything but the body. NULL: answered. body_most: what the body may have. */
static struct queue_request *create_request(struct exchange *x, struct queue_port *port,
                                            const struct config_route *route, uint64_t body_most)
{
    struct slice key = route->idempotency_window_us ? idempotency_key(x) : (struct slice){0};
    struct slice queue = route->queue ? slice_from_text(route->queue->name) : SLICE("");
    struct slice topic = route->queue ? SLICE("") : slice_from_text(route->topic->name);
    size_t head = put_head(x, NULL), block = head + key.len + queue.len + topic.len;
    struct queue_request *request;
    int error = queue_request_create(port, block, block + body_most, NEVER, &request);
    char *at;

    if (error) {
        exchange_fail(x, error == -EMSGSIZE ? 413 : 503,
                      error == -ENOMEM ? "no memory" : "a message over what is held at a time");
        return NULL;
    }
    at = put_slice(request->block, topic, &request->exchange);
    at = put_slice(at, queue, &request->key);
    at = put_slice(at, key, &request->idempotency);
    put_head(x, at);
    request->head = slice_of(at, head);
    request->delay_us = route->delay_us;
    request->idempotency_window_us = route->idempotency_window_us;
    return request;
}

/* ---- its body ---------------------------------------------------------------------------------------------------- */

static int grow(char **bytes, size_t *room, size_t wanted, uint64_t most)
{
    size_t grown = *room ? *room : 4096;
    char *more;

    if (wanted > most)
        return -EFBIG;
    if (wanted <= *room)
        return 0;
    while (grown < wanted)
        grown *= 2;
    more = realloc(*bytes, grown);
    if (!more)
        return -ENOMEM;
    *bytes = more;
    *room = grown;
    return 0;
}

/* Reads the whole body; *bytes is the caller's in any case. 0 or why it could not. */
static int read_body(struct exchange *x, const struct enqueue_body *body, uint64_t most, char **bytes,
                     size_t *len)
{
    size_t room = 0;
    struct slice piece = body->bytes;
    int result = 0, error = 0;

    if (x->request.body.kind == BODY_LENGTH && x->request.body.length)
        error = grow(bytes, &room, x->request.body.length, most);
    do {
        if (!body->here)
            result = exchange_read_body(x, &piece);
        if (!error && (body->here || result > 0)) {
            error = grow(bytes, &room, *len + piece.len, most);
            if (!error && piece.len)
                memcpy(*bytes + *len, piece.ptr, piece.len);
            *len += piece.len;
        }
    } while (!error && result > 0);
    return error ? error : result;
}

/* ---- the answer -------------------------------------------------------------------------------------------------- */

static void refuse(struct exchange *x, enum publish_result result)
{
    switch (result) {
    case PUBLISH_FULL:
        exchange_fail(x, 503, "the queue is full");
        break;
    case PUBLISH_TOO_LARGE:
        exchange_fail(x, 413, "a message too large for the log");
        break;
    case PUBLISH_NO_SPACE:
        exchange_fail(x, 503, "no space for the queue's log");
        break;
    case PUBLISH_NO_MEMORY:
        exchange_fail(x, 503, "no memory");
        break;
    case PUBLISH_CLOSED:
        exchange_fail(x, 503, "the queue's log is closed");
        break;
    default:
        exchange_fail(x, 503, "the queue is not there");
    }
}

/* 202 with where to ask. */
static void accept_request(struct exchange *x, struct queue_port *port,
                           const struct broker_published *published, const char *applied)
{
    const struct token_key *key = queue_port_key(port);
    char location[sizeof STATUS_PATH + TOKEN_TEXT] = STATUS_PATH, body[128];
    struct slice id = slice_of(location + sizeof STATUS_PATH - 1, TOKEN_TEXT);
    struct http_field fields[] = {
        {.name = SLICE("Content-Type"), .value = JSON_TYPE},
        {.name = SLICE("Location"), .value = slice_of(location, sizeof STATUS_PATH - 1 + TOKEN_TEXT)},
        {.name = SLICE("Preference-Applied"), .value = slice_from_text(applied)},
    };
    struct json json;

    if (!key || !token_put(key, published->address, published->number, location + sizeof STATUS_PATH - 1)) {
        exchange_fail(x, 503, "no name for the message");
        return;
    }
    json_init(&json, body, sizeof body, NULL, NULL);
    json_put_object(&json);
    json_key(&json, "id");
    json_put_string(&json, id);
    json_key(&json, "status");
    json_put_string(&json, fields[1].value);
    json_put_end(&json);
    json_put(&json, SLICE("\n"));
    json_finish(&json);
    exchange_respond_with(x, 202, fields, *applied ? 3 : 2, json_text(&json));
}

/* 200 with what the worker said. */
static void pass_answer(struct exchange *x, const struct queue_answer *answer)
{
    struct slice head = answer->head;
    struct envelope_item item;
    struct http_field *fields;
    unsigned n = 1;

    while (envelope_take(&head, &item))
        n++;
    fields = arena_alloc(&x->arena, n * sizeof *fields);
    if (!fields) {
        exchange_fail(x, 503, "no memory");
        return;
    }
    fields[0] = (struct http_field){.name = SLICE("Preference-Applied"), .value = SLICE("wait")};
    n = 1;
    head = answer->head;
    while (envelope_take(&head, &item))
        fields[n++] = (struct http_field){.name = item.name, .value = item.value};
    exchange_respond_with(x, 200, fields, n, answer->body);
}

/* The message is stored. Its request may go, or is what the answer comes to. */
static void answer(struct exchange *x, struct queue_request *request, const struct preferences *p,
                   uint64_t wait_us)
{
    struct queue_port *port = request->port;
    struct broker_published published = request->published;
    int error = 0;

    if (request->wants_answer && request->result == PUBLISH_OK)
        error = queue_wait_answer(request, loop_deadline(wait_us));
    if (error == -ECANCELED)
        exchange_fail(x, 503, "the client left, or maitred stops");
    else if (!error && request->answer)
        pass_answer(x, request->answer);
    else
        accept_request(x, port, &published, p->respond_async ? "respond-async" : "");
    if (!error)
        queue_request_free(request);
}

/* A process that was taken over from has let go of the log, and of its clients but for this one. */
static bool has_queue(struct exchange *x, const struct queue_port *port)
{
    if (port && port->thread)
        return true;
    x->close = true;
    exchange_fail(x, 503, "the queue is another process's now");
    return false;
}

void enqueue(struct exchange *x, struct queue_port *port, const struct config_route *route,
             const struct enqueue_body *body)
{
    const struct http_body *framing = &x->request.body;
    struct preferences p = preferences_of(&x->request);
    uint64_t most = max_message(route), wait_us = p.wait_s * US_PER_S;
    uint64_t length = framing->kind == BODY_LENGTH ? framing->length : framing->kind == BODY_NONE ? 0 : most;
    struct queue_request *request;
    char *bytes = NULL;
    size_t len = 0;
    int error;

    if (!has_queue(x, port))
        return;
    if (length > most) {
        x->close |= !x->body.done;
        exchange_fail(x, 413, "over max-message");
        return;
    }
    request = create_request(x, port, route, length);
    if (!request)
        return;
    error = read_body(x, body, most, &bytes, &len);
    request->body = slice_of(bytes, len);
    if (error) {
        x->close = true;
        exchange_fail(x, error == -ENOMEM ? 503 : exchange_body_status(error),
                      "the request's body did not come whole");
        queue_request_free(request);
        return;
    }
    if (p.wait_s > route->max_wait_us / US_PER_S)
        wait_us = route->max_wait_us;
    request->wants_answer = p.waits && wait_us && !p.respond_async;
    if (queue_publish(request) != 0) {
        exchange_fail(x, 503, "the client left, or maitred stops");
        return; /* the request is not ours any more */
    }
    if (request->result != PUBLISH_OK && request->result != PUBLISH_SAME) {
        refuse(x, request->result);
        queue_request_free(request);
        return;
    }
    answer(x, request, &p, wait_us);
}

/* ---- what became of it ------------------------------------------------------------------------------------------- */

struct status_job {
    struct queue_job job;
    uint32_t address;
    uint64_t number;
    unsigned n, n_going, n_dead;
    struct json json;
    char text[STATUS_BYTES_MAX];
};

static const char *state_name(const struct broker_status *status)
{
    switch (status->state) {
    case MESSAGE_QUEUED:
        return "queued";
    case MESSAGE_DELAYED:
        return "delayed";
    case MESSAGE_IN_FLIGHT:
        return "in flight";
    default:
        return status->end == END_ACKED ? "done" : status->end == END_MOVED ? "moved" : "dead";
    }
}

static void put_status(void *arg, const struct broker_status *status)
{
    struct status_job *s = arg;
    bool going = status->state != MESSAGE_ENDED;

    s->n++;
    s->n_going += going;
    s->n_dead += !going && status->end != END_ACKED && status->end != END_MOVED;
    json_put_object(&s->json);
    json_key(&s->json, "queue");
    json_put_string(&s->json, status->queue);
    json_key(&s->json, "state");
    json_put_string(&s->json, slice_from_text(state_name(status)));
    if (!going && status->end != END_ACKED) {
        json_key(&s->json, "reason");
        json_put_string(&s->json, slice_from_text(message_end_names[status->end]));
    }
    json_key(&s->json, "attempts");
    json_put_u64(&s->json, status->attempts);
    json_key(&s->json, "queued");
    json_put_time(&s->json, status->queued_us);
    if (!going) {
        json_key(&s->json, "ended");
        json_put_time(&s->json, status->time_us);
    } else if (status->state != MESSAGE_QUEUED) {
        json_key(&s->json, "until");
        json_put_time(&s->json, status->time_us);
    }
    json_put_end(&s->json);
}

static void run_status(struct queue_job *job, struct broker *broker, uint64_t now_us)
{
    struct status_job *s = container_of(job, struct status_job, job);

    (void)now_us;
    broker_status(broker, s->address, s->number, put_status, s);
}

static void free_status(struct queue_job *job)
{
    free(container_of(job, struct status_job, job));
}

static void answer_status(struct exchange *x, struct status_job *s)
{
    const char *state = s->n_going ? "going" : s->n_dead ? "dead" : "done";

    json_put_end(&s->json);
    json_key(&s->json, "state");
    json_put_string(&s->json, slice_from_text(state));
    json_put_end(&s->json);
    json_put(&s->json, SLICE("\n"));
    if (!json_finish(&s->json))
        exchange_fail(x, 503, "in more queues than can be told");
    else if (!s->n)
        exchange_respond(
            x, 404, JSON_TYPE,
            SLICE("{\"error\":\"nothing is known of it any more; how messages ended is kept for the last "
                  "65536\"}\n"));
    else
        exchange_respond(x, 200, JSON_TYPE, json_text(&s->json));
}

void enqueue_status(struct exchange *x, struct queue_port *port)
{
    const struct token_key *key;
    struct slice id = x->request.path;
    struct status_job *s;
    uint32_t address;
    uint64_t number;

    if (!has_queue(x, port))
        return;
    slice_drop(&id, sizeof STATUS_PATH - 1);
    key = queue_port_key(port);
    if (x->request.method_id != METHOD_GET && x->request.method_id != METHOD_HEAD) {
        exchange_fail(x, 405, "a message's status is only to be read");
        return;
    }
    if (!key || !token_take(key, id, &address, &number)) {
        exchange_respond(x, 404, JSON_TYPE, SLICE("{\"error\":\"there is no such message\"}\n"));
        return;
    }
    s = malloc(sizeof *s);
    if (!s) {
        exchange_fail(x, 503, "no memory");
        return;
    }
    s->job = (struct queue_job){.run = run_status, .free = free_status};
    s->address = address;
    s->number = number;
    s->n = s->n_going = s->n_dead = 0;
    json_init(&s->json, s->text, sizeof s->text, NULL, NULL);
    json_put_object(&s->json);
    json_key(&s->json, "id");
    json_put_string(&s->json, id); /* written while the request is here */
    json_key(&s->json, "queues");
    json_put_array(&s->json);
    if (queue_job_run(port, &s->job, false, NEVER) != 0) {
        exchange_fail(x, 503, "the client left, or maitred stops");
        return;
    }
    answer_status(x, s);
    free(s);
}
