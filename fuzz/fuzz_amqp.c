/* fuzz_amqp.c - any bytes as frames of AMQP, and what is in them as methods, content headers and tables. What is taken is within the input;
 * what is taken and put again is the same bytes, but for what is reserved; a valid table written anew has the same value. */
#include "exact.h"
#include "wire/amqp.h"
#include "wire/amqp_table.h"

#define FRAME_MAX 4096

static void check_table(struct slice table)
{
    struct slice rest = table;
    struct amqp_value value;
    size_t n = 0;
    char *block, *at;

    if (!amqp_table_is_valid(table))
        return;
    while (amqp_table_take(&rest, &value))
        n += amqp_table_item_bytes(&value);
    assert(rest.len == 0);
    block = at = malloc(n + 1);
    assert(block);
    for (rest = table; amqp_table_take(&rest, &value);)
        at = amqp_table_put(at, &value);
    assert((size_t)(at - block) == n && amqp_table_is_valid(slice_of(block, n)));
    amqp_table_equal(table, slice_of(block, n));
    free(block);
}

static void check_method(struct slice payload)
{
    struct amqp_method method, again;
    const char *why = NULL;
    char *block;
    size_t n;

    if (amqp_take_method(payload, &method, &why) != AMQP_OK) {
        assert(why);
        return;
    }
    check_table(method.table);
    n = amqp_method_bytes(&method);
    assert(n && n <= payload.len);
    block = malloc(n);
    assert(block && amqp_put_method(block, &method) == block + n);
    assert(amqp_take_method(slice_of(block, n), &again, &why) == AMQP_OK);
    assert(again.id == method.id && slice_equal(again.queue, method.queue) &&
           slice_equal(again.table, method.table) && again.delivery_tag == method.delivery_tag &&
           again.no_wait == method.no_wait);
    free(block);
}

static void check_content(struct slice payload)
{
    struct amqp_content content;
    const char *why = NULL;
    char *block;

    if (amqp_take_content(payload, &content, &why) != AMQP_OK) {
        assert(why);
        return;
    }
    check_table(content.headers);
    assert(amqp_content_bytes(&content) == payload.len);
    block = malloc(payload.len);
    assert(block && amqp_put_content(block, &content) == block + payload.len);
    assert(memcmp(block, payload.ptr, 2) == 0 && memcmp(block + 4, payload.ptr + 4, payload.len - 4) == 0);
    free(block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice copy = exact_copy(slice_of((const char *)data, size)), in = copy;
    struct amqp_frame frame;
    const char *why = NULL;

    check_table(copy);
    check_method(copy);
    check_content(copy);
    amqp_take_header(&in);
    while (amqp_take_frame(&in, FRAME_MAX, &frame, &why) == AMQP_OK) {
        assert(frame.payload.len <= FRAME_MAX - AMQP_FRAME_OVERHEAD && frame.payload.ptr >= copy.ptr &&
               frame.payload.ptr + frame.payload.len < copy.ptr + copy.len);
        if (frame.type == AMQP_METHOD)
            check_method(frame.payload);
        else if (frame.type == AMQP_CONTENT_HEADER)
            check_content(frame.payload);
    }
    exact_free(copy);
    return 0;
}
