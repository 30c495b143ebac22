/* json.h - writes JSON text, start to end, into a block of the caller's.
 *
 * When the block is full, what is in it is flushed and the block begins anew, so that a document of any size streams
 * through a small block. Without a flush the block holds everything, or the text fails. Commas are the writer's business.
 * After a failure nothing more is written, so that a caller looks once, at the end.
 * Invariants, asserted: a member has a key, an element has none; what was opened is ended; JSON_DEPTH_MAX levels at most.
 * What comes out is valid JSON and UTF-8 whatever bytes go in. No locale. A flush may wait (in a fiber).
 * (What writes is called json_put_...: the library that reads JSON has functions with the plain names.)
 * Threads: belongs to its thread. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <assert.h>

#include "base/slice.h"

#define JSON_DEPTH_MAX 31

/* What the next value or key writes before it. */
enum json_next {
    JSON_FIRST, /* nothing: it is the first of its level */
    JSON_MORE,  /* a comma */
    JSON_VALUE, /* nothing: a key stands there, and only a value may come */
};

/* Takes all of text, which is good until it returns. 0, or anything else to end it all. */
typedef int json_flush(void *arg, struct slice text);

struct json {
    char *at, *end; /* where the next byte goes, and the end of the block */
    char *block;    /* borrowed */
    json_flush *flush;
    void *arg;
    uint32_t objects; /* a bit per level, the innermost lowest: it is an object, not an array */
    uint8_t depth;
    uint8_t next; /* enum json_next */
    bool failed;
};

/* flush NULL: everything must fit. */
void json_init(struct json *json, char *block, size_t block_bytes, json_flush *flush, void *arg);
/* The document is whole: flushes what is left. False when it failed: no room, or flush said so. */
bool json_finish(struct json *json);
/* What stands in the block; all of it where there is no flush. */
static inline struct slice json_text(const struct json *json)
{
    return slice_of(json->block, (size_t)(json->at - json->block));
}

void json_put_object(struct json *json);
void json_put_array(struct json *json);
/* Ends the object or array begun last. */
void json_put_end(struct json *json);

/* A key that is a literal, with nothing in it to be escaped. */
#define json_key(json, literal) json_put_key(json, SLICE(",\"" literal "\":"))
/* Any key. */
void json_key_slice(struct json *json, struct slice key);

/* UTF-8 as it is; what is not valid becomes U+FFFD, a control byte \u00XX. */
void json_put_string(struct json *json, struct slice s);
/* Bytes in no known encoding: each that is not printable ASCII becomes \u00XX, which tells what it was. */
void json_put_bytes(struct json *json, struct slice s);
void json_put_u64(struct json *json, uint64_t value);
void json_put_i64(struct json *json, int64_t value);
/* Nine significant digits at most, whole numbers below 2^53 exactly. What is not finite becomes null. */
void json_put_double(struct json *json, double value);
/* A duration in microseconds as a number of milliseconds with three decimals. */
void json_put_ms(struct json *json, uint64_t us);
/* "2026-01-31T12:00:00.123Z". Years to 9999. */
void json_put_time(struct json *json, uint64_t wall_us);
void json_put_bool(struct json *json, bool value);
void json_put_null(struct json *json);

/* Text as it is, beside the document or as a piece of one: a line's end, JSON made elsewhere. */
void json_put_slowly(struct json *json, struct slice text);
static inline void json_put(struct json *json, struct slice text)
{
    if ((size_t)(json->end - json->at) < text.len) {
        json_put_slowly(json, text);
        return;
    }
    if (text.len)
        memcpy(json->at, text.ptr, text.len);
    json->at += text.len;
}

/* For json_key: ,"key": or, where it is the first, the same without its comma. Either way of a length known when compiled. */
void json_put_first_key(struct json *json, struct slice key);
static inline void json_put_key(struct json *json, struct slice key)
{
    if (json->next != JSON_MORE) {
        json_put_first_key(json, key);
        return;
    }
    assert(json->objects & 1);
    json_put(json, key);
    json->next = JSON_VALUE;
}

#endif
