/* slice.c - see slice.h. */
#include "base/slice.h"

static unsigned char lower(char c)
{
    unsigned char u = (unsigned char)c;

    return (unsigned char)((unsigned)(u - 'A') < 26 ? u | 0x20 : u);
}

bool slice_equal_nocase(struct slice a, struct slice b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (lower(a.ptr[i]) != lower(b.ptr[i]))
            return false;
    return true;
}

bool slice_ends_with_nocase(struct slice s, struct slice suffix)
{
    return s.len >= suffix.len &&
           slice_equal_nocase(slice_of(s.ptr + (s.len - suffix.len), suffix.len), suffix);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

struct slice slice_trim(struct slice s)
{
    while (s.len && is_blank(s.ptr[0]))
        slice_drop(&s, 1);
    while (s.len && is_blank(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

bool slice_next_part(struct slice *list, char separator, struct slice *part)
{
    size_t at;

    if (!list->ptr)
        return false;
    at = slice_find(*list, separator);
    *part = slice_trim(slice_of(list->ptr, at));
    if (at < list->len)
        slice_drop(list, at + 1);
    else
        *list = slice_of(NULL, 0);
    return true;
}

bool slice_to_u64(struct slice s, uint64_t *value)
{
    uint64_t v = 0;

    if (!s.len)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        unsigned digit = (unsigned)(unsigned char)s.ptr[i] - '0';

        if (digit > 9 || v > (UINT64_MAX - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *value = v;
    return true;
}
