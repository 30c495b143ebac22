/* text.h - texts that are owned, and texts in records: their length (u16) before them. */
#ifndef QUEUE_TEXT_H
#define QUEUE_TEXT_H

#include <stdlib.h>

#include "base/bytes.h"

static inline bool copy_text(struct slice *copy, struct slice text)
{
    char *bytes = malloc(text.len + 1);

    if (!bytes)
        return false;
    if (text.len)
        memcpy(bytes, text.ptr, text.len);
    bytes[text.len] = '\0';
    *copy = slice_of(bytes, text.len);
    return true;
}

static inline void free_text(struct slice *text)
{
    free((char *)(uintptr_t)text->ptr);
    *text = (struct slice){0};
}

static inline char *put_text(char *at, struct slice text)
{
    put_u16le(at, (uint16_t)text.len);
    if (text.len)
        memcpy(at + 2, text.ptr, text.len);
    return at + 2 + text.len;
}

static inline bool take_text(struct slice *s, struct slice *text)
{
    uint16_t len;

    return take_u16le(s, &len) && take_slice(s, len, text);
}

#endif
