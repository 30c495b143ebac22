/* fuzz_amqp.c - any bytes as AMQP: a protocol header, frames, and as what is in them: methods, content headers, tables.
 * What is taken lies in the input, and decides by itself: a part of it wants more. What is taken and put again is taken
 * the same, in a buffer of exactly that size, and in none that is smaller. A table written anew is valid, stays as it is
 * when it is written again, and has the same value, but for decimals. */
#include "exact.h"
#include "wire/amqp.h"
#include "wire/amqp_table.h"

#define OUT_MAX (1 << 16)

static const struct amqp_frame_limits limits = {.body = 4096, .method = 8192};

static bool is_inside(struct slice part, struct slice whole)
{
    return !part.len || (part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len);
}

/* What writer writes of what, in a block of its exact size, which the caller frees; one byte less is too small. */
static struct slice written(void (*writer)(struct amqp_out *out, const void *what), const void *what)
{
    char *block = malloc(OUT_MAX), *begin = block;
    struct amqp_out out = amqp_out_of(block, OUT_MAX);
    struct slice bytes;
    size_t n;

    assert(block);
    writer(&out, what);
    assert(amqp_out_close(&out, begin) == AMQP_WRITTEN);
    n = (size_t)(out.at - begin);
    bytes = exact_copy(slice_of(block, n));
    free(block);
    for (size_t room = n ? n - 1 : 0; room <= n; room++) {
        begin = malloc(room);
        assert(begin || !room);
        out = amqp_out_of(begin, room);
        writer(&out, what);
        assert(amqp_out_close(&out, begin) == (room < n ? AMQP_FULL : AMQP_WRITTEN));
        assert((size_t)(out.at - begin) == (room < n ? 0 : n));
        if (room == n && n)
            assert(memcmp(begin, bytes.ptr, n) == 0);
        free(begin);
    }
    return bytes;
}

/* ---- tables ------------------------------------------------------------------------------------------------- */

static void write_table(struct amqp_out *out, const void *table)
{
    amqp_table_put_all(out, *(const struct slice *)table);
}

/* Whether a decimal is in it; checks all values on the way. */
static bool has_decimal(enum amqp_type of, struct slice items)
{
    struct slice rest = items;
    struct amqp_value value;
    bool found = false;

    while (amqp_item_take(of, &rest, &value)) {
        assert(is_inside(value.name, items) && is_inside(value.bytes, items));
        assert(amqp_value_equal(&value, &value));
        found |= value.type == AMQP_DECIMAL;
        if (value.type == AMQP_TABLE || value.type == AMQP_ARRAY)
            found |= has_decimal(value.type, value.bytes);
    }
    assert(!rest.len);
    return found;
}

static void check_safe_letters(enum amqp_type of, struct slice items)
{
    struct amqp_value value;

    while (amqp_item_take(of, &items, &value)) {
        assert(strchr("tbsIldSFATVx", value.letter));
        if (value.type == AMQP_TABLE || value.type == AMQP_ARRAY)
            check_safe_letters(value.type, value.bytes);
    }
}

static void check_table(struct slice table)
{
    struct slice anew, again;

    if (!amqp_table_is_valid(table))
        return;
    assert(amqp_table_equal(table, table));
    anew = written(write_table, &table);
    assert(amqp_table_is_valid(anew));
    assert(has_decimal(AMQP_TABLE, table) || amqp_table_equal(table, anew));
    check_safe_letters(AMQP_TABLE, anew);
    again = written(write_table, &anew);
    assert(slice_equal(anew, again));
    exact_free(anew);
    exact_free(again);
}

/* ---- methods and content headers ---------------------------------------------------------------------------- */

static void write_method(struct amqp_out *out, const void *method)
{
    amqp_put_method(out, method);
}

static void write_content(struct amqp_out *out, const void *content)
{
    amqp_put_content(out, content);
}

static void check_method(struct slice payload)
{
    struct amqp_method method, back;
    struct slice put, again;
    const char *why = NULL;

    if (amqp_take_method(payload, &method, &why) != AMQP_OK) {
        assert(why);
        return;
    }
    assert(!why && amqp_method_name(method.id));
    check_table(method.table);
    put = written(write_method, &method);
    assert(put.len <= payload.len); /* what is reserved may have been longer */
    assert(amqp_take_method(put, &back, &why) == AMQP_OK);
    assert(back.id == method.id && slice_equal(back.table, method.table));
    again = written(write_method, &back);
    assert(slice_equal(put, again));
    exact_free(put);
    exact_free(again);
}

static void check_content(struct slice payload)
{
    struct amqp_content content;
    const char *why = NULL;
    struct slice put;

    if (amqp_take_content(payload, &content, &why) != AMQP_OK) {
        assert(why);
        return;
    }
    assert(!why);
    check_table(content.headers);
    put = written(write_content, &content);
    assert(slice_equal(put, payload));
    exact_free(put);
}

/* ---- frames ------------------------------------------------------------------------------------------------- */

static void check_header(struct slice bytes)
{
    struct slice in = bytes;
    enum amqp_header_result result = amqp_take_header(&in);

    assert((result == AMQP_HEADER_OK) == (bytes.len - in.len == AMQP_HEADER_BYTES));
    assert(result != AMQP_HEADER_MORE || bytes.len < AMQP_HEADER_BYTES);
    assert((result == AMQP_HEADER_OK || result == AMQP_HEADER_VERSION) <=
           slice_starts_with(bytes, SLICE("AMQP")));
}

/* Of a frame that was taken: a part of it wants more, and what is put is the same. */
static void check_frame(struct slice bytes, const struct amqp_frame *frame)
{
    char *block = malloc(bytes.len), *begin, *at;
    struct amqp_out out = amqp_out_of(block, bytes.len);
    struct amqp_frame part;
    const char *why = NULL;

    assert(block);
    for (size_t n = 0; n < bytes.len; n += 1 + n / 16) {
        struct slice in = slice_of(bytes.ptr, n);

        assert(amqp_take_frame(&in, &limits, &part, &why) == AMQP_MORE && !why && in.len == n);
    }
    begin = amqp_begin_frame(&out);
    at = amqp_out_reserve(&out, frame->payload.len);
    assert(at);
    memcpy(at, frame->payload.ptr, frame->payload.len);
    assert(amqp_end_frame(&out, begin, frame->type, frame->channel) == AMQP_WRITTEN);
    assert(slice_equal(slice_of(block, bytes.len), bytes));
    free(block);
}

static void check_frames(struct slice bytes)
{
    struct slice in = bytes;

    for (;;) {
        struct slice before = in;
        struct amqp_frame frame;
        const char *why = NULL;
        enum amqp_result result = amqp_take_frame(&in, &limits, &frame, &why);

        assert((result == AMQP_BAD) == (why != NULL));
        if (result != AMQP_OK) {
            assert(in.ptr == before.ptr && in.len == before.len);
            return;
        }
        assert(is_inside(frame.payload, before));
        assert(frame.payload.len <= (frame.type == AMQP_BODY ? limits.body : limits.method));
        assert(before.len - in.len == frame.payload.len + AMQP_FRAME_OVERHEAD);
        check_frame(slice_of(before.ptr, before.len - in.len), &frame);
        if (frame.type == AMQP_METHOD)
            check_method(frame.payload);
        if (frame.type == AMQP_CONTENT_HEADER)
            check_content(frame.payload);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice copy = exact_copy(slice_of((const char *)data, size));

    check_header(copy);
    check_frames(copy);
    check_method(copy);
    check_content(copy);
    check_table(copy);
    exact_free(copy);
    return 0;
}
