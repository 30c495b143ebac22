/* slice.h - a run of bytes that belongs to somebody else.
 *
 * A slice borrows: whoever made it says how long its bytes stay. It is passed by value.
 * The bytes need not end in a NUL. Pure functions; any thread. */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *ptr;
    size_t len;
};

#define SLICE(literal) ((struct slice){"" literal, sizeof(literal) - 1})
/* For printf's "%.*s". */
#define SLICE_ARG(s) (int)(s).len, (s).ptr

static inline struct slice slice_of(const char *ptr, size_t len)
{
    return (struct slice){ptr, len};
}

static inline struct slice slice_from_text(const char *text)
{
    return (struct slice){text, strlen(text)};
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool slice_starts_with(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

static inline void slice_drop(struct slice *s, size_t n)
{
    s->ptr += n;
    s->len -= n;
}

/* The first n bytes of *s, which are taken off its front. */
static inline struct slice slice_take(struct slice *s, size_t n)
{
    struct slice head = {s->ptr, n};

    slice_drop(s, n);
    return head;
}

/* ASCII only, as the protocols that use it are. */
bool slice_equal_nocase(struct slice a, struct slice b);
bool slice_ends_with_nocase(struct slice s, struct slice suffix);

/* Without the spaces and tabs at either end. */
struct slice slice_trim(struct slice s);

/* Where c first stands in s, or s.len. */
static inline size_t slice_find(struct slice s, char c)
{
    const char *at = s.len ? memchr(s.ptr, c, s.len) : NULL;

    return at ? (size_t)(at - s.ptr) : s.len;
}

/* Takes the next part of *list up to (and over) the separator, trimmed; false when none is left.
 * Empty parts are returned too: the caller says whether they are allowed. */
bool slice_next_part(struct slice *list, char separator, struct slice *part);

/* Digits only, at least one, no sign, no space; false when s is anything else or over UINT64_MAX. */
bool slice_to_u64(struct slice s, uint64_t *value);

#endif
