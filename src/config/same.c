/* same.c - see same.h. */
#include "config/same.h"

#include <string.h>

bool config_same_address(const struct address *a, const struct address *b)
{
    if (a->kind != b->kind || a->port != b->port)
        return false;
    switch (a->kind) {
    case ADDRESS_IP: /* port 0: it was refused */
        return a->port && memcmp(&a->ip, &b->ip, sizeof a->ip) == 0;
    case ADDRESS_NAME:
        return slice_equal_nocase(slice_from_text(a->host), slice_from_text(b->host));
    case ADDRESS_ANY:
    case ADDRESS_UNIX:
        return strcmp(a->host, b->host) == 0;
    }
    return false;
}
