/* amqp_bytes.h - what AMQP's formats are made of: big-endian integers, texts with their length before them. Pure; any thread. */
#ifndef WIRE_AMQP_BYTES_H
#define WIRE_AMQP_BYTES_H

#include <endian.h>

#include "base/bytes.h"

#define AMQP_SHORT_TEXT_MAX 255

/* Return where the next byte goes. */
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

static inline char *put_bytes(char *at, struct slice s)
{
    if (s.len)
        memcpy(at, s.ptr, s.len);
    return at + s.len;
}

static inline char *put_short_text(char *at, struct slice text)
{
    *at = (char)text.len;
    return put_bytes(at + 1, text);
}

static inline char *put_long_text(char *at, struct slice text)
{
    return put_bytes(put_u32be(at, (uint32_t)text.len), text);
}

/* Take one off the front; false, and nothing is taken, where it is too short. */
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

#endif
