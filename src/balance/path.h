/* path.h - a path in the form that routes are compared in: every way to write it becomes one.
 *
 * Percent-escapes are decoded once, and only then slashes, "." and ".." are looked for: an escaped slash
 * is a slash, "%2e%2e" is "..". Slashes are merged, dot segments resolved, none above the root. The result
 * is segments, each after one '/', none empty: no '/' at the end, and the root is the empty text.
 * Pure functions; any thread. */
#ifndef BALANCE_PATH_H
#define BALANCE_PATH_H

#include "base/slice.h"

/* Zero it, then set text, room and, when its raw_end is wanted, watched. */
struct path_folding {
    char *text; /* the caller's; filled up to len */
    size_t room;
    size_t len;
    size_t over;    /* segments that stand behind text but found no room; text ends where a segment does */
    size_t watched; /* a length of text, greater than 0 */
    size_t raw_end; /* when a segment of text ends there: where it ends in the path as sent */
};

void path_fold(struct path_folding *f, struct slice path);

/* How many bytes a slash takes that s starts with, escaped or not; 0: it starts with none. */
size_t path_slash_len(struct slice s);

#endif
