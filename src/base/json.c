/* json.c - see json.h. */
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/utf8.h"

#define REPLACEMENT SLICE("\xef\xbf\xbd") /* U+FFFD */
#define WHOLE_MAX 9007199254740992.0      /* 2^53: up to here a double holds every whole number */

void json_init(struct json *json, char *block, size_t block_bytes, json_flush *flush, void *arg)
{
    assert(block_bytes > 0);
    *json = (struct json){.at = block,
                          .end = block + block_bytes,
                          .block = block,
                          .flush = flush,
                          .arg = arg,
                          .next = JSON_FIRST};
}

/* Nothing fits any more. What is in the block stays. */
static void fail(struct json *json)
{
    json->failed = true;
    json->end = json->at;
}

static void flush(struct json *json)
{
    if (json->at == json->block)
        return;
    if (!json->flush || json->flush(json->arg, json_text(json)) != 0)
        fail(json);
    else
        json->at = json->block;
}

void json_put_slowly(struct json *json, struct slice text)
{
    while (!json->failed && text.len > 0) {
        size_t room = (size_t)(json->end - json->at);
        size_t n = text.len < room ? text.len : room;

        memcpy(json->at, text.ptr, n);
        json->at += n;
        slice_drop(&text, n);
        if (text.len > 0)
            flush(json);
    }
}

bool json_finish(struct json *json)
{
    assert(json->depth == 0);
    if (!json->failed && json->flush)
        flush(json);
    return !json->failed;
}

/* What stands before a value. */
static inline void begin_value(struct json *json)
{
    assert(!(json->objects & 1) || json->next == JSON_VALUE);
    if (json->next == JSON_MORE)
        json_put(json, SLICE(","));
    json->next = json->depth ? JSON_MORE : JSON_FIRST;
}

static void open_level(struct json *json, bool object)
{
    assert(json->depth < JSON_DEPTH_MAX);
    begin_value(json);
    json_put(json, object ? SLICE("{") : SLICE("["));
    json->objects = json->objects << 1 | object;
    json->depth++;
    json->next = JSON_FIRST;
}

void json_put_object(struct json *json)
{
    open_level(json, true);
}

void json_put_array(struct json *json)
{
    open_level(json, false);
}

void json_put_end(struct json *json)
{
    assert(json->depth > 0 && json->next != JSON_VALUE);
    json_put(json, json->objects & 1 ? SLICE("}") : SLICE("]"));
    json->objects >>= 1;
    json->depth--;
    json->next = json->depth ? JSON_MORE : JSON_FIRST;
}

void json_put_first_key(struct json *json, struct slice key)
{
    assert((json->objects & 1) && json->next == JSON_FIRST);
    slice_drop(&key, 1);
    json_put(json, key);
    json->next = JSON_VALUE;
}

/* ---- strings ----------------------------------------------------------------------------------------------- */

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

#define EACH_BYTE(c) (0x0101010101010101u * (c))

/* The same for eight bytes at once: a step that takes a byte over or under 0x80 leaves its highest bit set. */
static bool are_plain(uint64_t bytes)
{
    uint64_t control = bytes - EACH_BYTE(0x20), del = bytes + EACH_BYTE(1);
    uint64_t quote = (bytes ^ EACH_BYTE('"')) - EACH_BYTE(1),
             backslash = (bytes ^ EACH_BYTE('\\')) - EACH_BYTE(1);

    return ((bytes | control | del | quote | backslash) & EACH_BYTE(0x80)) == 0;
}

/* Takes what needs no escape off the front of *s, as long as there is room in the block. */
static void put_plain(struct json *json, struct slice *s)
{
    size_t room = (size_t)(json->end - json->at), most = s->len < room ? s->len : room, n = 0;
    uint64_t bytes;

    for (; most - n >= sizeof bytes; n += sizeof bytes) {
        memcpy(&bytes, s->ptr + n, sizeof bytes);
        if (!are_plain(bytes))
            break;
        memcpy(json->at + n, &bytes, sizeof bytes);
    }
    for (; n < most && is_plain((unsigned char)s->ptr[n]); n++)
        json->at[n] = s->ptr[n];
    json->at += n;
    if (n > 0)
        slice_drop(s, n);
}

/* Any byte. */
static void put_byte(struct json *json, unsigned char c)
{
    static const char digits[] = "0123456789abcdef";
    char text[6] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};

    if (is_plain(c))
        json_put(json, slice_of((char[]){(char)c}, 1));
    else if (c == '"' || c == '\\')
        json_put(json, slice_of((char[]){'\\', (char)c}, 2));
    else
        json_put(json, slice_of(text, sizeof text));
}

static void put_bytes(struct json *json, struct slice s)
{
    json_put(json, SLICE("\""));
    for (put_plain(json, &s); s.len; put_plain(json, &s))
        put_byte(json, (unsigned char)*slice_take(&s, 1).ptr);
    json_put(json, SLICE("\""));
}

static void put_string(struct json *json, struct slice s)
{
    json_put(json, SLICE("\""));
    for (put_plain(json, &s); s.len; put_plain(json, &s)) {
        size_t len = utf8_len(s);

        if (len)
            json_put(json, slice_take(&s, len));
        else if ((unsigned char)*s.ptr < 0x80)
            put_byte(json, (unsigned char)*slice_take(&s, 1).ptr);
        else {
            json_put(json, REPLACEMENT);
            slice_drop(&s, 1);
        }
    }
    json_put(json, SLICE("\""));
}

void json_put_bytes(struct json *json, struct slice s)
{
    begin_value(json);
    put_bytes(json, s);
}

void json_put_string(struct json *json, struct slice s)
{
    begin_value(json);
    put_string(json, s);
}

void json_key_slice(struct json *json, struct slice key)
{
    assert((json->objects & 1) && json->next != JSON_VALUE);
    if (json->next == JSON_MORE)
        json_put(json, SLICE(","));
    put_string(json, key);
    json_put(json, SLICE(":"));
    json->next = JSON_VALUE;
}

/* ---- numbers and the rest ---------------------------------------------------------------------------------- */

/* value / 10^decimals. */
static void put_decimal(struct json *json, uint64_t value, unsigned decimals)
{
    char text[24];
    size_t at = sizeof text;

    for (unsigned n = 0; value > 0 || n <= decimals; n++) {
        if (n == decimals && n > 0)
            text[--at] = '.';
        text[--at] = (char)('0' + value % 10);
        value /= 10;
    }
    json_put(json, slice_of(text + at, sizeof text - at));
}

void json_put_u64(struct json *json, uint64_t value)
{
    begin_value(json);
    put_decimal(json, value, 0);
}

void json_put_i64(struct json *json, int64_t value)
{
    begin_value(json);
    if (value < 0)
        json_put(json, SLICE("-"));
    put_decimal(json, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 0);
}

/* A locale may have put any bytes for the decimal point. */
static void put_number(struct json *json, struct slice text)
{
    while (text.len) {
        size_t n = strspn(text.ptr, "0123456789+-e");

        json_put(json, slice_take(&text, n));
        if (text.len == 0)
            break;
        json_put(json, SLICE("."));
        slice_drop(&text, strcspn(text.ptr, "0123456789"));
    }
}

void json_put_double(struct json *json, double value)
{
    char text[40];

    if (!isfinite(value)) {
        json_put_null(json);
    } else if (fabs(value) < WHOLE_MAX && value == trunc(value)) {
        json_put_i64(json, (int64_t)value);
    } else {
        begin_value(json);
        put_number(json, slice_of(text, (size_t)snprintf(text, sizeof text, "%.9g", value)));
    }
}

void json_put_ms(struct json *json, uint64_t us)
{
    begin_value(json);
    put_decimal(json, us, 3);
}

void json_put_time(struct json *json, uint64_t wall_us)
{
    static _Thread_local time_t made; /* what text holds; most times are of the second before's */
    static _Thread_local char made_text[sizeof "\"2026-01-31T12:00:00"];
    char text[] = "\"2026-01-31T12:00:00.123Z\"";
    time_t seconds = (time_t)(wall_us / US_PER_S);
    struct tm tm;

    if (seconds != made || !*made_text) {
        gmtime_r(&seconds, &tm);
        strftime(made_text, sizeof made_text, "\"%Y-%m-%dT%H:%M:%S", &tm);
        made = seconds;
    }
    memcpy(text, made_text,
           sizeof made_text - 1); /* a copy, as putting may wait and another fiber may come here */
    for (unsigned i = 0, ms = (unsigned)(wall_us / US_PER_MS % 1000); i < 3; i++, ms /= 10)
        text[sizeof made_text + 2 - i] = (char)('0' + ms % 10);
    begin_value(json);
    json_put(json, slice_of(text, sizeof text - 1));
}

void json_put_bool(struct json *json, bool value)
{
    begin_value(json);
    json_put(json, value ? SLICE("true") : SLICE("false"));
}

void json_put_null(struct json *json)
{
    begin_value(json);
    json_put(json, SLICE("null"));
}
