/* query.c - see query.h. */
#include "admin/query.h"

#include <errno.h>

static int digit_of(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Takes the next character off the front of *raw. */
static int take_character(struct slice *raw, bool plus_is_space, char *c)
{
    int high, low;

    *c = *raw->ptr;
    slice_drop(raw, 1);
    if (*c == '+' && plus_is_space)
        *c = ' ';
    if (*c != '%')
        return 0;
    high = raw->len > 1 ? digit_of(raw->ptr[0]) : -1;
    low = raw->len > 1 ? digit_of(raw->ptr[1]) : -1;
    if (high < 0 || low < 0)
        return -EBADMSG;
    slice_drop(raw, 2);
    *c = (char)(high << 4 | low);
    return 0;
}

static int decode(struct arena *arena, struct slice raw, bool plus_is_space, struct slice *decoded)
{
    char *text = arena_alloc(arena, raw.len);
    size_t n = 0;

    if (!text)
        return -ENOMEM;
    while (raw.len) {
        if (take_character(&raw, plus_is_space, &text[n]) != 0)
            return -EBADMSG;
        if ((unsigned char)text[n] < ' ' || text[n] == 0x7f)
            return -EBADMSG;
        n++;
    }
    *decoded = slice_of(text, n);
    return 0;
}

int query_decode_segment(struct arena *arena, struct slice raw, struct slice *decoded)
{
    return decode(arena, raw, false, decoded);
}

int query_take(struct arena *arena, struct slice *query, struct slice name, struct slice *value)
{
    while (query->len) {
        struct slice pair = slice_take(query, slice_find(*query, '&'));
        struct slice key = slice_take(&pair, slice_find(pair, '='));
        struct slice decoded;
        int error;

        if (query->len)
            slice_drop(query, 1);
        if (pair.len)
            slice_drop(&pair, 1);
        error = decode(arena, key, true, &decoded);
        if (!error && !slice_equal(decoded, name))
            continue;
        if (!error)
            error = decode(arena, pair, true, value);
        return error ? error : 1;
    }
    return 0;
}
