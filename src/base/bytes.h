/* bytes.h - integers in files and on wires: little-endian, at any alignment. Pure; any thread. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/slice.h"

static inline void put_u16le(char *at, uint16_t value)
{
    value = htole16(value);
    memcpy(at, &value, sizeof value);
}

static inline void put_u32le(char *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof value);
}

static inline void put_u64le(char *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof value);
}

static inline uint16_t get_u16le(const char *at)
{
    uint16_t value;

    memcpy(&value, at, sizeof value);
    return le16toh(value);
}

static inline uint32_t get_u32le(const char *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof value);
    return le32toh(value);
}

static inline uint64_t get_u64le(const char *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof value);
    return le64toh(value);
}

/* Take one off the front of *s; false, and nothing is taken, where it is too short. */
static inline bool take_u8(struct slice *s, uint8_t *value)
{
    if (s->len < 1)
        return false;
    *value = (uint8_t)*slice_take(s, 1).ptr;
    return true;
}

static inline bool take_u16le(struct slice *s, uint16_t *value)
{
    if (s->len < sizeof *value)
        return false;
    *value = get_u16le(slice_take(s, sizeof *value).ptr);
    return true;
}

static inline bool take_u32le(struct slice *s, uint32_t *value)
{
    if (s->len < sizeof *value)
        return false;
    *value = get_u32le(slice_take(s, sizeof *value).ptr);
    return true;
}

static inline bool take_u64le(struct slice *s, uint64_t *value)
{
    if (s->len < sizeof *value)
        return false;
    *value = get_u64le(slice_take(s, sizeof *value).ptr);
    return true;
}

static inline bool take_slice(struct slice *s, size_t len, struct slice *part)
{
    if (s->len < len)
        return false;
    *part = slice_take(s, len);
    return true;
}

#endif
