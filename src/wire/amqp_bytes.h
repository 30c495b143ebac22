/* amqp_bytes.h - what AMQP's formats are made of: big-endian integers, texts with their length before them.
 * Pure; any thread. */
#ifndef WIRE_AMQP_BYTES_H
#define WIRE_AMQP_BYTES_H

#include <endian.h>

#include "base/bytes.h"
#include "wire/amqp_out.h"

#define AMQP_SHORT_TEXT_MAX 255

/* ---- taking: one off the front; false, and nothing is taken, where it is too short -------------------------- */

static inline bool take_u16be(struct slice *s, uint16_t *value)
{
    if (s->len < sizeof *value)
        return false;
    memcpy(value, slice_take(s, sizeof *value).ptr, sizeof *value);
    *value = be16toh(*value);
    return true;
}

static inline bool take_u32be(struct slice *s, uint32_t *value)
{
    if (s->len < sizeof *value)
        return false;
    memcpy(value, slice_take(s, sizeof *value).ptr, sizeof *value);
    *value = be32toh(*value);
    return true;
}

static inline bool take_u64be(struct slice *s, uint64_t *value)
{
    if (s->len < sizeof *value)
        return false;
    memcpy(value, slice_take(s, sizeof *value).ptr, sizeof *value);
    *value = be64toh(*value);
    return true;
}

static inline bool take_short_text(struct slice *s, struct slice *text)
{
    size_t len = s->len ? (unsigned char)s->ptr[0] : 0;

    if (s->len < 1 + len)
        return false;
    slice_drop(s, 1);
    *text = slice_take(s, len);
    return true;
}

static inline bool take_long_text(struct slice *s, struct slice *text)
{
    struct slice cur = *s;
    uint32_t len;

    if (!take_u32be(&cur, &len) || cur.len < len)
        return false;
    *text = slice_take(&cur, len);
    *s = cur;
    return true;
}

/* ---- putting where there is room; they return where the next byte goes --------------------------------------- */

static inline char *put_u16be(char *at, uint16_t value)
{
    value = htobe16(value);
    memcpy(at, &value, sizeof value);
    return at + sizeof value;
}

static inline char *put_u32be(char *at, uint32_t value)
{
    value = htobe32(value);
    memcpy(at, &value, sizeof value);
    return at + sizeof value;
}

static inline char *put_u64be(char *at, uint64_t value)
{
    value = htobe64(value);
    memcpy(at, &value, sizeof value);
    return at + sizeof value;
}

static inline char *put_slice(char *at, struct slice s)
{
    if (s.len)
        memcpy(at, s.ptr, s.len);
    return at + s.len;
}

static inline char *put_short_text(char *at, struct slice text)
{
    *at = (char)text.len;
    return put_slice(at + 1, text);
}

/* ---- writing: within out's bound ----------------------------------------------------------------------------- */

static inline void write_u8(struct amqp_out *out, uint8_t value)
{
    char *at = amqp_out_reserve(out, sizeof value);

    if (at)
        *at = (char)value;
}

static inline void write_u16be(struct amqp_out *out, uint16_t value)
{
    char *at = amqp_out_reserve(out, sizeof value);

    if (at)
        put_u16be(at, value);
}

static inline void write_u32be(struct amqp_out *out, uint32_t value)
{
    char *at = amqp_out_reserve(out, sizeof value);

    if (at)
        put_u32be(at, value);
}

static inline void write_u64be(struct amqp_out *out, uint64_t value)
{
    char *at = amqp_out_reserve(out, sizeof value);

    if (at)
        put_u64be(at, value);
}

/* False, and out's result says so: a length of that many bits cannot say how long it is. */
static inline bool is_not_longer(struct amqp_out *out, struct slice text, size_t most)
{
    if (text.len > most && out->result == AMQP_WRITTEN)
        out->result = AMQP_TOO_LONG;
    return text.len <= most;
}

static inline void write_short_text(struct amqp_out *out, struct slice text)
{
    char *at = is_not_longer(out, text, AMQP_SHORT_TEXT_MAX) ? amqp_out_reserve(out, 1 + text.len) : NULL;

    if (at)
        put_short_text(at, text);
}

static inline void write_long_text(struct amqp_out *out, struct slice text)
{
    char *at = is_not_longer(out, text, UINT32_MAX) ? amqp_out_reserve(out, 4 + text.len) : NULL;

    if (at)
        put_slice(put_u32be(at, (uint32_t)text.len), text);
}

#endif
