/* reply.c - see reply.h. */
#include "admin/reply.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

/* So many blocks are some 200 us of writing. */
#define BLOCKS_A_REST 4
#define REST_US US_PER_MS

#define ERROR_BYTES_MAX 512

/* The head: its type, that it is as of now, and perhaps some fields more. */
static void put_head(struct exchange *x, unsigned status, struct slice type, struct http_body body,
                     const struct http_field *more, unsigned n_more)
{
    struct http_field fields[2 + REPLY_PAGE_FIELDS_MAX] = {
        {.name = SLICE("Content-Type"), .value = type},
        {.name = SLICE("Cache-Control"), .value = SLICE("no-store")},
    };
    struct http_response response = {
        .status = status,
        .reason = slice_from_text(http_reason(status)),
        .body = body,
        .fields = {fields, 2, sizeof fields / sizeof fields[0]},
    };

    assert(n_more <= REPLY_PAGE_FIELDS_MAX);
    for (unsigned i = 0; i < n_more; i++)
        fields[response.fields.count++] = more[i];
    if (x->request.method_id == METHOD_HEAD)
        response.body = (struct http_body){.kind = BODY_NONE};
    exchange_answer(x, &response);
}

static void reply_whole(struct exchange *x, unsigned status, struct slice type, struct slice body,
                        const struct http_field *more, unsigned n_more)
{
    put_head(x, status, type, (struct http_body){BODY_LENGTH, body.len}, more, n_more);
    if (x->request.method_id != METHOD_HEAD)
        exchange_write(x, body);
    exchange_end(x, NULL);
}

void reply_text(struct exchange *x, unsigned status, const char *text)
{
    reply_whole(x, status, REPLY_TEXT, slice_from_text(text), NULL, 0);
}

void reply_error(struct exchange *x, unsigned status, const struct http_field *field, const char *format, ...)
{
    char text[ERROR_BYTES_MAX], block[6 * ERROR_BYTES_MAX + 32]; /* every byte escaped fits */
    struct json json;
    bool fits;
    va_list list;

    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    json_init(&json, block, sizeof block, NULL, NULL);
    json_put_object(&json);
    json_key(&json, "error");
    json_put_string(&json, slice_from_text(text));
    json_put_end(&json);
    json_put(&json, SLICE("\n"));
    fits = json_finish(&json);
    assert(fits);
    reply_whole(x, status, REPLY_JSON, json_text(&json), field, field ? 1 : 0);
}

void reply_no_memory(struct exchange *x)
{
    reply_error(x, 503, NULL, "there is no memory for an answer; try again, or give the process more");
}

void reply_page(struct exchange *x, struct slice page, const struct http_field *fields, unsigned n_fields)
{
    reply_whole(x, 200, SLICE("text/html; charset=utf-8"), page, fields, n_fields);
}

/* A block is full, or it is the end. */
static int flush(void *arg, struct slice text)
{
    struct reply *reply = arg;

    if (!reply->started && reply->ending) {
        reply->started = true;
        put_head(reply->x, reply->status, reply->type, (struct http_body){BODY_LENGTH, text.len}, NULL, 0);
        return exchange_write(reply->x, text);
    }
    if (!reply->started)
        put_head(reply->x, reply->status, reply->type, (struct http_body){.kind = BODY_CHUNKED}, NULL, 0);
    reply->started = true;
    if (exchange_write(reply->x, text) != 0)
        return -1;
    if (reply->ending)
        return 0;
    return ++reply->blocks % BLOCKS_A_REST ? fiber_yield() : fiber_sleep_until(loop_now_us() + REST_US);
}

bool reply_begin(struct reply *reply, struct exchange *x, unsigned status, struct slice type)
{
    if (x->request.method_id == METHOD_HEAD) {
        reply_whole(x, status, type, slice_of(NULL, 0), NULL, 0);
        return false;
    }
    *reply = (struct reply){.x = x, .status = status, .type = type, .block = slab_take()};
    if (!reply->block) {
        reply_no_memory(x);
        return false;
    }
    json_init(&reply->json, reply->block, SLAB_BYTES, flush, reply);
    return true;
}

void reply_end(struct reply *reply)
{
    if (slice_equal(reply->type, REPLY_JSON))
        json_put(&reply->json, SLICE("\n"));
    reply->ending = true;
    if (json_finish(&reply->json))
        exchange_end(reply->x, NULL);
    else
        exchange_fail(reply->x, 503, "the client left, or maitred stops");
    slab_give(reply->block);
}

void reply_put_place(struct json *json, const struct config_place *place)
{
    char text[512];

    snprintf(text, sizeof text, "%s:%d", place->file, place->line);
    json_put_string(json, slice_from_text(text));
}

int reply_stream(struct exchange *x, struct slice type)
{
    put_head(x, 200, type, (struct http_body){.kind = BODY_CHUNKED}, NULL, 0);
    if (x->request.method_id == METHOD_HEAD) {
        exchange_end(x, NULL);
        return -1;
    }
    return exchange_flush(x);
}

void reply_put_ms(struct json *json, double us)
{
    if (isnan(us))
        json_put_null(json);
    else
        json_put_ms(json, (uint64_t)us);
}
