/* record.c - see record.h. */
#include "queue/record.h"

#include <assert.h>

const char *const message_end_names[N_MESSAGE_ENDS] = {
    [END_ACKED] = "acked",       [END_EXPIRED] = "expired",         [END_MAXLEN] = "maxlen",
    [END_REJECTED] = "rejected", [END_ATTEMPTS] = "delivery_limit", [END_PURGED] = "purged",
    [END_MOVED] = "moved",
};

/* Offsets in the fixed part. */
enum {
    AT_NUMBER = 0,
    AT_ORIGIN = 8,
    AT_PUBLISHED = 16,
    AT_DUE = 24,
    AT_REMOVES_NUMBER = 32,
    AT_IDEMPOTENCY_UNTIL = 40,
    AT_IDEMPOTENCY = 48,
    AT_ORIGIN_ADDRESS = 64,
    AT_EXCHANGE = 68,
    AT_REMOVES_QUEUE = 72,
    AT_HEAD_LEN = 76,
    AT_TARGETS = 80,
    AT_KEY_LEN = 82,
    AT_REMOVES_END = 83,
    AT_FLAGS = 84,
    AT_PRIORITY = 85,
    AT_REMOVES_ATTEMPTS = 86,
    AT_QUEUED = 88,
    AT_TTL = 96,
};

enum { FLAG_IDEMPOTENCY = 1, FLAG_STORED = 2 };

_Static_assert(AT_TTL + 8 == MESSAGE_FIXED_BYTES, "the fixed part is what its members take");

static uint16_t attempts_kept(unsigned attempts)
{
    return (uint16_t)(attempts < UINT16_MAX ? attempts : UINT16_MAX);
}

/* The body, or what names it. */
static struct slice put_body(const struct message *m, char at[MESSAGE_STORED_BYTES])
{
    if (!m->stored.id)
        return m->body;
    put_u64le(at, m->stored.id);
    put_u64le(at + 8, m->stored.bytes);
    return slice_of(at, MESSAGE_STORED_BYTES);
}

void message_parts(const struct message *m, char block[MESSAGE_BLOCK_BYTES],
                   struct iovec parts[MESSAGE_PARTS])
{
    const struct slice slices[] = {m->targets, m->routing_key, m->head,
                                   put_body(m, block + MESSAGE_FIXED_BYTES)};

    assert(m->targets.len % sizeof(uint32_t) == 0 && m->routing_key.len <= UINT8_MAX &&
           m->head.len <= UINT32_MAX && !(m->stored.id && m->body.len));
    block[AT_PRIORITY] = (char)m->priority;
    put_u64le(block + AT_TTL, m->ttl_us);
    put_u16le(block + AT_REMOVES_ATTEMPTS, attempts_kept(m->removes_attempts));
    put_u64le(block + AT_QUEUED, m->queued_us);
    put_u64le(block + AT_NUMBER, m->number);
    put_u64le(block + AT_ORIGIN, m->origin);
    put_u64le(block + AT_PUBLISHED, m->published_us);
    put_u64le(block + AT_DUE, m->due_us);
    put_u64le(block + AT_REMOVES_NUMBER, m->removes.number);
    put_u64le(block + AT_IDEMPOTENCY_UNTIL, m->idempotency_until_us);
    memset(block + AT_IDEMPOTENCY, 0, IDEMPOTENCY_KEY_BYTES);
    if (m->idempotency.len)
        memcpy(block + AT_IDEMPOTENCY, m->idempotency.ptr, IDEMPOTENCY_KEY_BYTES);
    put_u32le(block + AT_ORIGIN_ADDRESS, m->origin_address);
    put_u32le(block + AT_EXCHANGE, m->exchange);
    put_u32le(block + AT_REMOVES_QUEUE, m->removes.queue);
    put_u32le(block + AT_HEAD_LEN, (uint32_t)m->head.len);
    put_u16le(block + AT_TARGETS, (uint16_t)message_n_targets(m));
    block[AT_KEY_LEN] = (char)m->routing_key.len;
    block[AT_REMOVES_END] = (char)m->removes_end;
    block[AT_FLAGS] = (char)((m->idempotency.len ? FLAG_IDEMPOTENCY : 0) | (m->stored.id ? FLAG_STORED : 0));
    parts[0] = (struct iovec){block, MESSAGE_FIXED_BYTES};
    for (unsigned i = 0; i < sizeof slices / sizeof slices[0]; i++)
        parts[i + 1] = (struct iovec){(void *)(uintptr_t)slices[i].ptr, slices[i].len};
}

size_t message_payload_bytes(const struct message *m)
{
    return MESSAGE_FIXED_BYTES + m->targets.len + m->routing_key.len + m->head.len +
           (m->stored.id ? MESSAGE_STORED_BYTES : m->body.len);
}

/* What is behind the head. False: it cannot be. */
static bool take_body(struct slice rest, bool stored, struct message *m)
{
    if (!stored) {
        m->body = rest;
        return true;
    }
    m->body = slice_of(rest.ptr, 0);
    return take_u64le(&rest, &m->stored.id) && take_u64le(&rest, &m->stored.bytes) && !rest.len &&
           m->stored.id && m->stored.bytes;
}

bool message_parse(struct slice payload, struct message *m)
{
    const char *block = payload.ptr;
    struct slice key;

    if (payload.len < MESSAGE_FIXED_BYTES)
        return false;
    slice_drop(&payload, MESSAGE_FIXED_BYTES);
    key = slice_of(block + AT_IDEMPOTENCY, IDEMPOTENCY_KEY_BYTES);
    *m = (struct message){
        .number = get_u64le(block + AT_NUMBER),
        .origin = get_u64le(block + AT_ORIGIN),
        .origin_address = get_u32le(block + AT_ORIGIN_ADDRESS),
        .exchange = get_u32le(block + AT_EXCHANGE),
        .published_us = get_u64le(block + AT_PUBLISHED),
        .queued_us = get_u64le(block + AT_QUEUED),
        .due_us = get_u64le(block + AT_DUE),
        .ttl_us = get_u64le(block + AT_TTL),
        .priority = (uint8_t)block[AT_PRIORITY],
        .removes = {get_u32le(block + AT_REMOVES_QUEUE), get_u64le(block + AT_REMOVES_NUMBER)},
        .removes_end = (enum message_end)(uint8_t)block[AT_REMOVES_END],
        .removes_attempts = get_u16le(block + AT_REMOVES_ATTEMPTS),
        .idempotency = block[AT_FLAGS] & FLAG_IDEMPOTENCY ? key : (struct slice){0},
        .idempotency_until_us = get_u64le(block + AT_IDEMPOTENCY_UNTIL),
    };
    if (m->removes_end >= N_MESSAGE_ENDS ||
        !take_slice(&payload, get_u16le(block + AT_TARGETS) * sizeof(uint32_t), &m->targets) ||
        !take_slice(&payload, (uint8_t)block[AT_KEY_LEN], &m->routing_key) ||
        !take_slice(&payload, get_u32le(block + AT_HEAD_LEN), &m->head))
        return false;
    return take_body(payload, block[AT_FLAGS] & FLAG_STORED, m);
}

void done_entry_put(char at[DONE_BYTES], const struct done_entry *entry)
{
    put_u64le(at, entry->ref.number);
    put_u32le(at + 8, entry->ref.queue);
    put_u16le(at + 12, (uint16_t)entry->end);
    put_u16le(at + 14, attempts_kept(entry->attempts));
}

void retry_entry_put(char at[RETRY_BYTES], const struct retry_entry *entry)
{
    put_u64le(at, entry->ref.number);
    put_u32le(at + 8, entry->ref.queue);
    put_u32le(at + 12, entry->attempts);
    put_u64le(at + 16, entry->due_us);
}

void delivered_entry_put(char at[DELIVERED_BYTES], const struct message_ref *upto)
{
    put_u64le(at, upto->number);
    put_u32le(at + 8, upto->queue);
    put_u32le(at + 12, 0);
}

bool take_done_entry(struct slice *list, struct done_entry *entry)
{
    struct slice s;

    if (!take_slice(list, DONE_BYTES, &s))
        return false;
    *entry = (struct done_entry){
        .ref = {get_u32le(s.ptr + 8), get_u64le(s.ptr)},
        .end = (enum message_end)get_u16le(s.ptr + 12),
        .attempts = get_u16le(s.ptr + 14),
    };
    return entry->end < N_MESSAGE_ENDS;
}

bool take_retry_entry(struct slice *list, struct retry_entry *entry)
{
    struct slice s;

    if (!take_slice(list, RETRY_BYTES, &s))
        return false;
    *entry = (struct retry_entry){
        .ref = {get_u32le(s.ptr + 8), get_u64le(s.ptr)},
        .attempts = get_u32le(s.ptr + 12),
        .due_us = get_u64le(s.ptr + 16),
    };
    return true;
}

bool take_delivered_entry(struct slice *list, struct message_ref *upto)
{
    struct slice s;

    if (!take_slice(list, DELIVERED_BYTES, &s))
        return false;
    *upto = (struct message_ref){get_u32le(s.ptr + 8), get_u64le(s.ptr)};
    return true;
}
