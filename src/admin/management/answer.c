/* answer.c - how the management interface answers: errors, documents, and the part of a list that is asked for. See private.h. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/management/private.h"
#include "fiber/offload.h"

/* So many things of a list are looked at before others have their turn. */
#define MADE_A_TURN 64

/* ---- short answers ----------------------------------------------------------------------------------------------- */

#define ERROR_BYTES_MAX 768

void management_answer_error(struct exchange *x, unsigned status, const struct http_field *field,
                             const char *error, const char *reason)
{
    char block[6 * ERROR_BYTES_MAX + 64];
    struct http_field fields[2] = {{.name = SLICE("Content-Type"), .value = REPLY_JSON}};
    struct json json;

    json_init(&json, block, sizeof block, NULL, NULL);
    json_put_object(&json);
    PUT_TEXT(&json, "error", error);
    PUT_TEXT(&json, "reason", reason);
    json_put_end(&json);
    if (!json_finish(&json)) {
        reply_no_memory(x);
        return;
    }
    if (field)
        fields[1] = *field;
    exchange_respond_with(x, status, fields, field ? 2 : 1, json_text(&json));
}

void management_refuse(struct management_call *call, unsigned status, const char *error, const char *format,
                       ...)
{
    char reason[ERROR_BYTES_MAX / 2];
    va_list list;

    va_start(list, format);
    vsnprintf(reason, sizeof reason, format, list);
    va_end(list);
    management_answer_error(call->x, status, NULL, error, reason);
}

void management_not_found(struct management_call *call)
{
    management_refuse(call, 404, "Object Not Found", "Not Found");
}

void management_refuse_error(struct management_call *call, int error)
{
    if (error == -ENODEV)
        management_refuse(
            call, 503, "service_unavailable",
            "there is no queue here: the configuration has none, or its log could not be opened");
    else if (error == -ETIMEDOUT)
        management_refuse(call, 504, "timeout",
                          "a thread does not answer; what was asked for may still happen");
    else if (error == -ECANCELED)
        exchange_fail(call->x, 503, "the client left, or maitred stops");
    else if (error == -EMSGSIZE)
        management_refuse(call, 400, "bad_request", "it is larger than what may be under way");
    else
        management_refuse(call, 503, "service_unavailable", "there is no memory for an answer");
}

void management_done(struct management_call *call, unsigned status, const char *location)
{
    struct http_field field = {.name = SLICE("Location"),
                               .value = location ? slice_from_text(location) : SLICE("")};

    exchange_respond_with(call->x, status, &field, location ? 1 : 0, SLICE(""));
}

/* RabbitMQ's own interface is a client of its broker's, and says of errors that end connections what it says of bad requests. */
bool management_refuse_outcome(struct management_call *call, int error, const struct amqp_outcome *outcome)
{
    if (error)
        management_refuse_error(call, error);
    else if (outcome->code == AMQP_NOT_FOUND)
        management_refuse(call, 404, "not_found", "%s", outcome->text);
    else if (outcome->code == AMQP_ACCESS_REFUSED)
        management_refuse(call, 401, "not_authorised", "Access refused: %s", outcome->text);
    else if (outcome->code == AMQP_INTERNAL_ERROR || outcome->code == AMQP_RESOURCE_ERROR)
        management_refuse(call, 503, "service_unavailable", "%s", outcome->text);
    else if (outcome->code != AMQP_SUCCESS)
        management_refuse(call, 400, "bad_request", "%s", outcome->text);
    else
        return false;
    return true;
}

void management_put_rated(json_t *object, const char *name, uint64_t value, double rate)
{
    char details[64];
    json_t *rated = json_object();

    snprintf(details, sizeof details, "%s_details", name);
    terms_put(object, name, json_integer((json_int_t)value));
    terms_put(rated, "rate", json_real(rate));
    terms_put(object, details, rated);
}

/* ---- documents --------------------------------------------------------------------------------------------------- */

static void put_value(struct json *json, json_t *value)
{
    const char *name;
    json_t *item;
    size_t i;

    switch (json_typeof(value)) {
    case JSON_OBJECT:
        json_put_object(json);
        json_object_foreach(value, name, item)
        {
            json_key_slice(json, slice_from_text(name));
            put_value(json, item);
        }
        json_put_end(json);
        break;
    case JSON_ARRAY:
        json_put_array(json);
        json_array_foreach(value, i, item) put_value(json, item);
        json_put_end(json);
        break;
    case JSON_STRING:
        json_put_string(json, slice_of(json_string_value(value), json_string_length(value)));
        break;
    case JSON_INTEGER:
        json_put_i64(json, json_integer_value(value));
        break;
    case JSON_REAL:
        json_put_double(json, json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        json_put_bool(json, json_is_true(value));
        break;
    case JSON_NULL:
        json_put_null(json);
        break;
    }
}

void management_answer(struct management_call *call, json_t *value)
{
    json_t *selected = value ? listing_select(&call->listing, value) : NULL;
    struct reply reply;

    json_decref(value);
    if (!selected) {
        management_refuse_error(call, -ENOMEM);
        return;
    }
    if (reply_begin(&reply, call->x, 200, REPLY_JSON)) {
        put_value(&reply.json, selected);
        reply_end(&reply);
    }
    json_decref(selected);
}

/* ---- lists ------------------------------------------------------------------------------------------------------- */

struct place {
    size_t i;
    json_t *key; /* what it is sorted by; a reference, or NULL */
};

struct showing {
    struct management_call *call;
    const struct management_list *list;
    const struct pattern *pattern;
    struct matcher *matcher;
    struct place *places; /* those that are wanted; owned */
    size_t n;
};

static int compare_places(const void *left, const void *right)
{
    const struct place *a = left, *b = right;
    int order = listing_compare(a->key, b->key);

    return order ? order : (a->i > b->i) - (a->i < b->i);
}

static bool is_wanted(const struct showing *s, const json_t *item)
{
    const struct listing *listing = &s->call->listing;
    struct slice name = terms_get(item, "name");

    if (!listing->paged || !listing->name.len)
        return true;
    if (s->pattern)
        return matcher_matches(s->matcher, s->pattern, name);
    return listing_has_name(listing, name);
}

/* Looks at each of them, to know which are shown, and in which order. 0 or a negative errno. */
static int place_all(struct showing *s)
{
    const struct listing *listing = &s->call->listing;
    bool looks = listing->sort.len || (listing->paged && listing->name.len);

    s->places = calloc(s->list->n + 1, sizeof *s->places);
    if (!s->places)
        return -ENOMEM;
    for (size_t i = 0; i < s->list->n; i++) {
        json_t *item = looks ? s->list->make(s->list->arg, i) : NULL;

        if (looks && !item)
            return -ENOMEM;
        if (!looks || is_wanted(s, item))
            s->places[s->n++] =
                (struct place){i, listing->sort.len ? json_incref(listing_value(item, listing->sort)) : NULL};
        json_decref(item);
        if (looks && i % MADE_A_TURN == MADE_A_TURN - 1)
            fiber_yield();
    }
    if (listing->sort.len)
        qsort(s->places, s->n, sizeof *s->places, compare_places);
    return 0;
}

static void put_items(struct json *json, const struct showing *s, size_t from, size_t to)
{
    const struct listing *listing = &s->call->listing;

    json_put_array(json);
    for (size_t k = from; k < to; k++) {
        size_t place = listing->reverse ? s->n - 1 - k : k;
        json_t *item = s->list->make(s->list->arg, s->places[place].i);
        json_t *selected = item ? listing_select(listing, item) : NULL;

        if (selected)
            put_value(json, selected);
        json_decref(selected);
        json_decref(item);
    }
    json_put_end(json);
}

static void put_page(struct json *json, const struct showing *s, size_t from, size_t to, uint64_t n_pages)
{
    const struct listing *listing = &s->call->listing;

    json_put_object(json);
    PUT_U64(json, "filtered_count", s->n);
    PUT_U64(json, "item_count", to - from);
    json_key(json, "items");
    put_items(json, s, from, to);
    PUT_U64(json, "page", listing->page);
    PUT_U64(json, "page_count", n_pages);
    PUT_U64(json, "page_size", listing->page_size);
    PUT_U64(json, "total_count", s->list->n);
    json_put_end(json);
}

static void show(struct showing *s)
{
    const struct listing *listing = &s->call->listing;
    uint64_t size = listing->page_size, n_pages = s->n ? (s->n + size - 1) / size : 1;
    size_t from = listing->paged ? (size_t)((listing->page - 1) * size) : 0;
    size_t to = listing->paged && from + size < s->n ? from + (size_t)size : s->n;
    struct reply reply;

    if (listing->paged && listing->page > n_pages) {
        management_refuse(s->call, 400, "page_out_of_range",
                          "Page out of range, page: %llu page size: %llu, len: %zu",
                          (unsigned long long)listing->page, (unsigned long long)size, s->n);
        return;
    }
    if (!reply_begin(&reply, s->call->x, 200, REPLY_JSON))
        return;
    if (listing->paged)
        put_page(&reply.json, s, from, to, n_pages);
    else
        put_items(&reply.json, s, from, to);
    reply_end(&reply);
}

/* ---- patterns ---------------------------------------------------------------------------------------------------- */

/* Compiled on a helper thread, which has the stack for it. */
struct compiling {
    struct offload job;
    const struct pattern *pattern;
    void *blocks[32]; /* owned */
    size_t n_blocks;
    struct slice text; /* in bytes */
    char bytes[];
};

static void *take_block(void *arg, size_t bytes)
{
    struct compiling *c = arg;
    void *block = c->n_blocks < sizeof c->blocks / sizeof c->blocks[0] ? malloc(bytes) : NULL;

    if (block)
        c->blocks[c->n_blocks++] = block;
    return block;
}

static void compile(struct offload *job)
{
    struct compiling *c = container_of(job, struct compiling, job);
    struct pattern_room room = {take_block, c};
    struct pattern_error error;

    c->pattern = pattern_compile(c->text, &room, &error);
}

static void free_compiling(struct offload *job)
{
    struct compiling *c = container_of(job, struct compiling, job);

    for (size_t i = 0; i < c->n_blocks; i++)
        free(c->blocks[i]);
    free(c);
}

/* Without regard to case. NULL: the call is answered. */
static struct compiling *compile_name(struct management_call *call)
{
    struct slice name = call->listing.name, any_case = SLICE("(?i)");
    struct compiling *c =
        name.len < PATTERN_TEXT_MAX - any_case.len ? calloc(1, sizeof *c + any_case.len + name.len) : NULL;
    int error = c ? 0 : -EINVAL;

    if (c) {
        memcpy(c->bytes, any_case.ptr, any_case.len);
        memcpy(c->bytes + any_case.len, name.ptr, name.len);
        c->text = slice_of(c->bytes, any_case.len + name.len);
        c->job = (struct offload){.work = compile, .free = free_compiling};
        error = offload_run(&c->job, loop_deadline(MANAGEMENT_WAIT_US));
        if (!error && c->pattern)
            return c;
    }
    if (error == -ETIMEDOUT || error == -ECANCELED) {
        management_refuse_error(call, error);
        return NULL; /* it frees itself */
    }
    if (c)
        free_compiling(&c->job);
    management_refuse(call, 400, "bad_request", "Pagination parameters are invalid");
    return NULL;
}

void management_answer_list(struct management_call *call, const struct management_list *list)
{
    const struct listing *listing = &call->listing;
    struct showing s = {.call = call, .list = list};
    struct compiling *compiling = NULL;
    int error = 0;

    if (listing->paged && listing->name.len && listing->is_pattern) {
        compiling = compile_name(call);
        if (!compiling)
            return;
        s.pattern = compiling->pattern;
        s.matcher = matcher_create();
        error = s.matcher ? 0 : -ENOMEM;
    }
    if (!error)
        error = place_all(&s);
    if (error)
        management_refuse_error(call, error);
    else
        show(&s);
    for (size_t i = 0; i < s.n; i++)
        json_decref(s.places[i].key);
    free(s.places);
    if (s.matcher)
        matcher_free(s.matcher);
    if (compiling)
        free_compiling(&compiling->job);
}
