/* utf8.c - see utf8.h. */
#include "base/utf8.h"

size_t utf8_len(struct slice s)
{
    unsigned char lead = (unsigned char)s.ptr[0], low = 0x80, high = 0xbf;
    size_t len = lead < 0xc2 || lead > 0xf4 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;

    if (len == 0 || s.len < len)
        return 0;
    if (lead == 0xe0)
        low = 0xa0;
    else if (lead == 0xf0)
        low = 0x90;
    else if (lead == 0xed)
        high = 0x9f;
    else if (lead == 0xf4)
        high = 0x8f;
    for (size_t i = 1; i < len; i++, low = 0x80, high = 0xbf)
        if ((unsigned char)s.ptr[i] < low || (unsigned char)s.ptr[i] > high)
            return 0;
    return len;
}
