/* test_record.c - the payloads of the broker's records: what is put comes back, and what is cut short is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "queue/record.h"

static struct message full(void)
{
    static char targets[12];

    for (unsigned i = 0; i < 3; i++)
        put_u32le(targets + 4 * i, 100 + i);
    return (struct message){
        .number = 0x1122334455667788,
        .origin = 42,
        .origin_address = 0x80000007,
        .exchange = 7,
        .published_us = 1700000000000001,
        .queued_us = 1700000000000002,
        .due_us = 1700000000000003,
        .removes = {9, 41},
        .removes_end = END_REJECTED,
        .removes_attempts = 3,
        .targets = slice_of(targets, sizeof targets),
        .routing_key = SLICE("a.key"),
        .idempotency = SLICE("0123456789abcdef"),
        .idempotency_until_us = 1700000000000004,
        .head = SLICE("the head"),
        .body = SLICE("the body"),
    };
}

/* In a block of its exact size; the caller frees it. */
static struct slice payload_of(const struct message *m)
{
    size_t n = message_payload_bytes(m), used = 0;
    char block[MESSAGE_BLOCK_BYTES], *bytes = malloc(n);
    struct iovec parts[MESSAGE_PARTS];

    message_parts(m, block, parts);
    for (unsigned i = 0; i < MESSAGE_PARTS; i++) {
        assert_true(used + parts[i].iov_len <= n);
        if (parts[i].iov_len)
            memcpy(bytes + used, parts[i].iov_base, parts[i].iov_len);
        used += parts[i].iov_len;
    }
    assert_int_equal(used, n);
    return slice_of(bytes, n);
}

static void free_payload(struct slice s)
{
    free((char *)(uintptr_t)s.ptr);
}

static void a_message_comes_back_as_it_was_put(void **state)
{
    struct message m = full(), back;
    struct slice payload = payload_of(&m);

    (void)state;
    assert_true(message_parse(payload, &back));
    assert_true(back.number == m.number && back.origin == m.origin &&
                back.origin_address == m.origin_address);
    assert_true(back.exchange == m.exchange && back.published_us == m.published_us);
    assert_true(back.queued_us == m.queued_us && back.due_us == m.due_us);
    assert_true(back.removes.queue == 9 && back.removes.number == 41 && back.removes_end == END_REJECTED);
    assert_int_equal(back.removes_attempts, 3);
    assert_int_equal(message_n_targets(&back), 3);
    assert_int_equal(message_target(&back, 2), 102);
    assert_true(slice_equal(back.routing_key, m.routing_key) && slice_equal(back.head, m.head));
    assert_true(slice_equal(back.body, m.body) && slice_equal(back.idempotency, m.idempotency));
    assert_true(back.idempotency_until_us == m.idempotency_until_us);
    free_payload(payload);
}

static void one_without_anything_comes_back_so(void **state)
{
    struct message m = {.number = 1}, back;
    struct slice payload = payload_of(&m);

    (void)state;
    assert_int_equal(payload.len, MESSAGE_FIXED_BYTES);
    assert_true(message_parse(payload, &back));
    assert_int_equal(message_n_targets(&back), 0);
    assert_true(!back.idempotency.len && !back.head.len && !back.body.len && !back.routing_key.len);
    free_payload(payload);
}

static void one_that_is_cut_before_its_body_is_refused(void **state)
{
    struct message m = full(), back;
    struct slice payload = payload_of(&m);

    (void)state;
    for (size_t n = 0; n < payload.len - m.body.len; n++) {
        char *exact = malloc(n);

        assert_true(exact || !n);
        if (n)
            memcpy(exact, payload.ptr, n);
        assert_false(message_parse(slice_of(exact, n), &back));
        free(exact);
    }
    free_payload(payload);
}

static struct message stored(void)
{
    struct message m = full();

    m.body = SLICE("");
    m.stored = (struct body_ref){17, UINT64_C(5) << 32};
    return m;
}

static void one_whose_body_is_stored_names_it(void **state)
{
    struct message m = stored(), back;
    struct slice payload = payload_of(&m);

    (void)state;
    assert_int_equal(payload.len, message_payload_bytes(&m));
    assert_true(message_parse(payload, &back));
    assert_true(back.stored.id == 17 && back.stored.bytes == UINT64_C(5) << 32 && !back.body.len);
    assert_true(message_body_bytes(&back) == UINT64_C(5) << 32 && back.idempotency.len);
    m.idempotency = SLICE("");
    free_payload(payload);
    payload = payload_of(&m);
    assert_true(message_parse(payload, &back));
    assert_true(back.stored.id == 17 && !back.idempotency.len);
    free_payload(payload);
}

static void what_names_no_body_where_it_should_is_refused(void **state)
{
    struct message m = stored(), back;
    struct slice payload = payload_of(&m), cut;
    char *longer = malloc(payload.len + 1);

    (void)state;
    for (size_t n = 1; n <= MESSAGE_STORED_BYTES; n++) {
        cut = slice_of(payload.ptr, payload.len - n);
        assert_false(message_parse(cut, &back));
    }
    memcpy(longer, payload.ptr, payload.len);
    longer[payload.len] = 0;
    assert_false(message_parse(slice_of(longer, payload.len + 1), &back));
    free(longer);
    put_u64le((char *)(uintptr_t)payload.ptr + payload.len - 8, 0);
    assert_false(message_parse(payload, &back));
    put_u64le((char *)(uintptr_t)payload.ptr + payload.len - 8, 1);
    assert_true(message_parse(payload, &back));
    put_u64le((char *)(uintptr_t)payload.ptr + payload.len - 16, 0);
    assert_false(message_parse(payload, &back));
    free_payload(payload);
}

static void one_that_left_for_no_known_reason_is_refused(void **state)
{
    struct message m = full(), back;
    struct slice payload = payload_of(&m);

    (void)state;
    ((char *)(uintptr_t)payload.ptr)[83] = N_MESSAGE_ENDS;
    assert_false(message_parse(payload, &back));
    free_payload(payload);
}

static void more_attempts_than_fit_are_the_most_that_do(void **state)
{
    struct done_entry done = {{1, 2}, END_ATTEMPTS, 70000}, back;
    char bytes[DONE_BYTES];
    struct slice list = slice_of(bytes, sizeof bytes);

    (void)state;
    done_entry_put(bytes, &done);
    assert_true(take_done_entry(&list, &back));
    assert_int_equal(back.attempts, 0xffff);
}

static void lists_come_back_and_end_where_they_end(void **state)
{
    struct retry_entry retry = {{3, 4}, 5, 6}, retry_back;
    struct message_ref upto = {7, 8}, upto_back;
    char bytes[2 * RETRY_BYTES];
    struct slice list;

    (void)state;
    retry_entry_put(bytes, &retry);
    retry_entry_put(bytes + RETRY_BYTES, &retry);
    list = slice_of(bytes, 2 * RETRY_BYTES - 1);
    assert_true(take_retry_entry(&list, &retry_back));
    assert_true(retry_back.ref.queue == 3 && retry_back.ref.number == 4 && retry_back.attempts == 5 &&
                retry_back.due_us == 6);
    assert_false(take_retry_entry(&list, &retry_back));
    delivered_entry_put(bytes, &upto);
    list = slice_of(bytes, DELIVERED_BYTES);
    assert_true(take_delivered_entry(&list, &upto_back));
    assert_true(upto_back.queue == 7 && upto_back.number == 8 && list.len == 0);
    assert_false(take_delivered_entry(&list, &upto_back));
}

static void an_end_that_nobody_knows_is_refused(void **state)
{
    struct done_entry done = {{1, 2}, END_ACKED, 0};
    char bytes[DONE_BYTES];
    struct slice list = slice_of(bytes, sizeof bytes);

    (void)state;
    done_entry_put(bytes, &done);
    put_u16le(bytes + 12, N_MESSAGE_ENDS);
    assert_false(take_done_entry(&list, &done));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_comes_back_as_it_was_put),
        cmocka_unit_test(one_without_anything_comes_back_so),
        cmocka_unit_test(one_that_is_cut_before_its_body_is_refused),
        cmocka_unit_test(one_whose_body_is_stored_names_it),
        cmocka_unit_test(what_names_no_body_where_it_should_is_refused),
        cmocka_unit_test(one_that_left_for_no_known_reason_is_refused),
        cmocka_unit_test(more_attempts_than_fit_are_the_most_that_do),
        cmocka_unit_test(lists_come_back_and_end_where_they_end),
        cmocka_unit_test(an_end_that_nobody_knows_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
