/* fuzz_record.c - any bytes as the payloads of the broker's records, and as a message's envelope. What parses and is put again is
 * the same bytes; nothing is read beyond the end; what is buried has one death more, first, and is an envelope still. */
#include "exact.h"
#include "queue/envelope.h"

static void check_message(struct slice payload)
{
    char block[MESSAGE_BLOCK_BYTES];
    struct iovec parts[MESSAGE_PARTS];
    struct message m;
    size_t used = 0;

    if (!message_parse(payload, &m))
        return;
    assert(message_payload_bytes(&m) == payload.len);
    message_parts(&m, block, parts);
    for (unsigned i = 0; i < MESSAGE_PARTS; i++) {
        /* the fixed part has bytes that must be zero and a flag that is any but zero */
        assert(i == 0 || parts[i].iov_len == 0 ||
               memcmp(payload.ptr + used, parts[i].iov_base, parts[i].iov_len) == 0);
        used += parts[i].iov_len;
    }
    assert(used == payload.len);
    for (unsigned i = 0; i < message_n_targets(&m); i++)
        message_target(&m, i);
}

static void check_lists(struct slice payload)
{
    struct slice list = payload;
    struct done_entry done;
    struct retry_entry retry;
    struct message_ref upto;
    char bytes[RETRY_BYTES];

    while (take_done_entry(&list, &done)) {
        done_entry_put(bytes, &done);
        assert(memcmp(bytes, list.ptr - DONE_BYTES, DONE_BYTES) == 0);
    }
    for (list = payload; take_retry_entry(&list, &retry);) {
        retry_entry_put(bytes, &retry);
        assert(memcmp(bytes, list.ptr - RETRY_BYTES, RETRY_BYTES) == 0);
    }
    assert(list.len < RETRY_BYTES);
    for (list = payload; take_delivered_entry(&list, &upto);) {
        delivered_entry_put(bytes, &upto);
        assert(memcmp(bytes, list.ptr - DELIVERED_BYTES, 12) == 0);
    }
}

static unsigned count_deaths(struct slice head)
{
    struct envelope_item item;
    struct death death;
    unsigned n = 0;

    while (envelope_take(&head, &item))
        if (item.tag == ENVELOPE_DEATH && death_parse(item.value, &death))
            n += death.count ? 1 : 0;
    return n;
}

static void check_envelope(struct slice head)
{
    struct death death = {.reason = END_REJECTED,
                          .count = 1,
                          .time_us = 5,
                          .queue = SLICE("q"),
                          .exchange = SLICE(""),
                          .routing_key = SLICE("q")};
    struct slice copy = head;
    struct envelope_item item;
    struct slice buried;
    char *block;

    while (envelope_take(&copy, &item))
        assert(envelope_item_bytes(&item));
    envelope_field(head, SLICE("x-key"));
    if (!envelope_is_valid(head))
        return;
    block = malloc(envelope_bury_bytes(head, &death));
    assert(block);
    buried = slice_of(block, envelope_bury(block, head, &death, true));
    assert(buried.len <= envelope_bury_bytes(head, &death) && envelope_is_valid(buried));
    assert(envelope_take(&buried, &item) && item.tag == ENVELOPE_DEATH && death_parse(item.value, &death));
    assert(slice_equal(death.queue, SLICE("q")) && death.reason == END_REJECTED);
    assert(count_deaths(buried) <= count_deaths(head));
    free(block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice payload = exact_copy(slice_of((const char *)data, size));

    check_message(payload);
    check_lists(payload);
    check_envelope(payload);
    exact_free(payload);
    return 0;
}
