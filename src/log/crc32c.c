/* crc32c.c - see crc32c.h. */
#include "log/crc32c.h"

#include <isa-l/crc.h>
#include <limits.h>

uint32_t crc32c(uint32_t crc, struct slice s)
{
    crc = ~crc; /* the library leaves out what the standard does at both ends */
    while (s.len) {
        struct slice part = slice_take(&s, s.len < INT_MAX ? s.len : INT_MAX);

        crc = crc32_iscsi((unsigned char *)(uintptr_t)part.ptr, (int)part.len, crc);
    }
    return ~crc;
}
