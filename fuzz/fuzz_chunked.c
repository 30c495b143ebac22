/* fuzz_chunked.c - any bytes as a chunked body; the first two say how it is split. However it is split, the data, the
 * verdict and the bytes taken are the same; and what was decoded, encoded by us, is decoded to the same again. */
#include <errno.h>

#include "base/rng.h"
#include "exact.h"
#include "wire/http1.h"

#define FIELDS_MAX 16

struct outcome {
    enum http1_chunk result;
    const char *why;
    char *data; /* owned */
    size_t len, taken;
};

/* One read's worth. */
static void take_part(struct http1_chunked *decoder, struct slice part, struct outcome *o)
{
    struct slice copy = exact_copy(part), in = copy;

    do {
        struct slice data = {0};
        size_t before = in.len;

        o->result = http1_chunked_take(decoder, &in, &data, &o->why);
        assert(in.len <= before);
        if (o->result == CHUNK_DATA) {
            assert(data.len && data.ptr + data.len == in.ptr);
            memcpy(o->data + o->len, data.ptr, data.len);
            o->len += data.len;
        }
    } while (o->result == CHUNK_DATA);
    assert(o->result != CHUNK_MORE || !in.len);
    o->taken += copy.len - in.len;
    exact_free(copy);
}

/* In reads of 1 to most bytes; SIZE_MAX: in one. */
static struct outcome decode(struct slice body, size_t most, uint64_t seed)
{
    struct rng rng = {.state = seed};
    struct http1_chunked decoder = {0};
    struct outcome o = {.result = CHUNK_MORE, .data = malloc(body.len + 1)};

    assert(o.data);
    while (body.len && o.result == CHUNK_MORE) {
        size_t n = most == SIZE_MAX ? body.len : 1 + (size_t)rng_below(&rng, most);

        take_part(&decoder, slice_take(&body, n < body.len ? n : body.len), &o);
    }
    return o;
}

static void check_same(const struct outcome *a, const struct outcome *b)
{
    assert(a->result == b->result && a->taken == b->taken && a->len == b->len);
    assert(!a->len || memcmp(a->data, b->data, a->len) == 0);
    assert(a->result != CHUNK_BAD || a->why == b->why);
}

static void check_other_splits(struct slice body, const struct outcome *whole, uint8_t most, uint8_t seed)
{
    struct outcome bytes = decode(body, 1, 0), parts = decode(body, 2 + (size_t)most, seed);

    check_same(whole, &bytes);
    check_same(whole, &parts);
    free(bytes.data);
    free(parts.data);
}

static int64_t parse_trailers(struct slice bytes, unsigned *count)
{
    struct http_field at[FIELDS_MAX];
    struct http_fields fields = {.at = at, .max = FIELDS_MAX};
    struct slice copy = exact_copy(bytes);
    const char *why = NULL;
    int64_t n = http1_parse_trailers(copy, &fields, &why);

    assert(n <= (int64_t)bytes.len && (n >= 0 || (n == -EBADMSG && why)));
    for (unsigned i = 0; n > 0 && i < fields.count; i++)
        assert(fields.at[i].id == FIELD_OTHER && fields.at[i].name.len);
    *count = n > 0 ? fields.count : 0;
    exact_free(copy);
    return n;
}

/* A part of the section is not enough, but may show that it is broken; more than the section changes nothing. */
static void check_trailers(struct slice rest, uint8_t cut)
{
    unsigned count, n_alone, n_part;
    int64_t whole = parse_trailers(rest, &count);
    int64_t part = parse_trailers(slice_of(rest.ptr, rest.len < cut ? rest.len : cut), &n_part);

    if (whole > 0) {
        assert(parse_trailers(slice_of(rest.ptr, (size_t)whole), &n_alone) == whole && n_alone == count);
        assert(part == (cut < whole ? 0 : whole));
    } else {
        assert(part == 0 || part == whole);
    }
}

/* As one chunk, the way we write it. */
static void check_encoded(const struct outcome *o)
{
    struct outcome again;
    char head[HTTP1_CHUNK_HEAD_MAX];
    size_t n = http1_chunk_head(head, o->len), len = 0;
    char *body = malloc(n + o->len + 8);

    assert(body);
    if (o->len) {
        memcpy(body, head, n);
        memcpy(body + n, o->data, o->len);
        memcpy(body + n + o->len, "\r\n", 2);
        len = n + o->len + 2;
    }
    memcpy(body + len, "0\r\n", 3);
    again = decode(slice_of(body, len + 3), SIZE_MAX, 0);
    check_same(&(struct outcome){.result = CHUNK_TRAILER, .data = o->data, .len = o->len, .taken = len + 3},
               &again);
    free(again.data);
    free(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice body;
    struct outcome whole;

    if (size < 2)
        return 0;
    body = slice_of((const char *)data + 2, size - 2);
    whole = decode(body, SIZE_MAX, 0);
    check_other_splits(body, &whole, data[0], data[1]);
    if (whole.result == CHUNK_TRAILER) {
        slice_drop(&body, whole.taken);
        check_trailers(body, data[1]);
        check_encoded(&whole);
    }
    free(whole.data);
    return 0;
}
