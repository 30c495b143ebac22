/* path.c - see path.h. */
#include "balance/path.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that s starts with, decoded. An escape that is none stands for itself. Returns how many bytes
 * it took. */
static size_t decode_byte(struct slice s, char *byte)
{
    if (s.ptr[0] == '%' && s.len >= 3) {
        int high = hex_digit(s.ptr[1]), low = hex_digit(s.ptr[2]);

        if (high >= 0 && low >= 0) {
            *byte = (char)(high << 4 | low);
            return 3;
        }
    }
    *byte = s.ptr[0];
    return 1;
}

size_t path_slash_len(struct slice s)
{
    char byte;
    size_t len;

    if (!s.len)
        return 0;
    len = decode_byte(s, &byte);
    return byte == '/' ? len : 0;
}

/* 1 for ".", 2 for "..", 0 for anything else. */
static unsigned dots_of(struct slice segment)
{
    unsigned dots = 0;

    while (segment.len) {
        char byte;

        slice_drop(&segment, decode_byte(segment, &byte));
        if (byte != '.' || ++dots > 2)
            return 0;
    }
    return dots;
}

static void pop(struct path_folding *f)
{
    if (f->over) {
        f->over--;
        return;
    }
    while (f->len && f->text[--f->len] != '/')
        ;
}

static void push(struct path_folding *f, struct slice segment, size_t raw_end)
{
    size_t len = f->len;

    if (f->over || len == f->room) {
        f->over++;
        return;
    }
    f->text[len++] = '/';
    while (segment.len) {
        if (len == f->room) {
            f->over++;
            return;
        }
        slice_drop(&segment, decode_byte(segment, &f->text[len++]));
    }
    f->len = len;
    if (len == f->watched)
        f->raw_end = raw_end;
}

void path_fold(struct path_folding *f, struct slice path)
{
    struct slice left = path;

    while (left.len) {
        struct slice segment;
        unsigned dots;

        slice_drop(&left, path_slash_len(left));
        segment = left;
        while (left.len && !path_slash_len(left))
            slice_drop(&left, 1);
        segment.len -= left.len;
        dots = dots_of(segment);
        if (dots == 2)
            pop(f);
        else if (segment.len && !dots)
            push(f, segment, path.len - left.len);
    }
}
