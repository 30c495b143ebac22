/* envelope.c - see envelope.h. */
#include "queue/envelope.h"

#include <assert.h>

/* A death: reason u8, count u32, time u64, then four texts with a length of u16 each. */
#define DEATH_FIXED 13

size_t envelope_item_bytes(const struct envelope_item *item)
{
    if (item->name.len > UINT16_MAX || item->value.len > UINT32_MAX)
        return 0;
    return ENVELOPE_ITEM_OVERHEAD + item->name.len + item->value.len;
}

static char *put_slice(char *at, struct slice s)
{
    if (s.len)
        memcpy(at, s.ptr, s.len);
    return at + s.len;
}

void envelope_put_head(char at[ENVELOPE_ITEM_OVERHEAD], const struct envelope_item *item)
{
    at[0] = (char)item->tag;
    put_u16le(at + 1, (uint16_t)item->name.len);
    put_u32le(at + 3, (uint32_t)item->value.len);
}

char *envelope_put(char *at, const struct envelope_item *item)
{
    envelope_put_head(at, item);
    return put_slice(put_slice(at + ENVELOPE_ITEM_OVERHEAD, item->name), item->value);
}

bool envelope_take(struct slice *head, struct envelope_item *item)
{
    struct slice s = *head;
    uint8_t tag;
    uint16_t name_len;
    uint32_t value_len;

    if (!take_u8(&s, &tag) || !take_u16le(&s, &name_len) || !take_u32le(&s, &value_len) ||
        !take_slice(&s, name_len, &item->name) || !take_slice(&s, value_len, &item->value))
        return false;
    item->tag = (enum envelope_tag)tag;
    *head = s;
    return true;
}

bool envelope_is_valid(struct slice head)
{
    struct envelope_item item;

    while (head.len)
        if (!envelope_take(&head, &item))
            return false;
    return true;
}

struct slice envelope_find(struct slice head, enum envelope_tag tag)
{
    struct envelope_item item;

    while (envelope_take(&head, &item))
        if (item.tag == tag)
            return item.value.ptr ? item.value : SLICE("");
    return (struct slice){0};
}

struct slice envelope_field(struct slice head, struct slice name)
{
    struct envelope_item item;

    while (envelope_take(&head, &item))
        if (item.tag == ENVELOPE_FIELD && slice_equal_nocase(item.name, name))
            return item.value;
    return (struct slice){0};
}

static bool take_text(struct slice *s, struct slice *text)
{
    uint16_t len;

    return take_u16le(s, &len) && take_slice(s, len, text);
}

bool death_parse(struct slice value, struct death *death)
{
    uint8_t reason;

    if (!take_u8(&value, &reason) || reason >= N_MESSAGE_ENDS || !take_u32le(&value, &death->count) ||
        !take_u64le(&value, &death->time_us))
        return false;
    death->reason = (enum message_end)reason;
    return take_text(&value, &death->queue) && take_text(&value, &death->exchange) &&
           take_text(&value, &death->routing_key) && take_text(&value, &death->copies);
}

static size_t death_bytes(const struct death *death)
{
    return DEATH_FIXED + 4 * sizeof(uint16_t) + death->queue.len + death->exchange.len +
           death->routing_key.len + death->copies.len;
}

static char *put_text(char *at, struct slice text)
{
    assert(text.len <= UINT16_MAX);
    put_u16le(at, (uint16_t)text.len);
    return put_slice(at + sizeof(uint16_t), text);
}

static char *put_death(char *at, enum envelope_tag tag, const struct death *death)
{
    put_u16le(at + 1, 0);
    put_u32le(at + 3, (uint32_t)death_bytes(death));
    at[0] = (char)tag;
    at += ENVELOPE_ITEM_OVERHEAD;
    at[0] = (char)death->reason;
    put_u32le(at + 1, death->count);
    put_u64le(at + 5, death->time_us);
    at = put_text(put_text(at + DEATH_FIXED, death->queue), death->exchange);
    return put_text(put_text(at, death->routing_key), death->copies);
}

size_t envelope_bury_bytes(struct slice head, const struct death *death)
{
    return 2 * (ENVELOPE_ITEM_OVERHEAD + death_bytes(death)) + head.len;
}

/* Whether item is an earlier death of the same queue and reason. */
static bool is_same_death(const struct envelope_item *item, const struct death *death, struct death *earlier)
{
    return item->tag == ENVELOPE_DEATH && death_parse(item->value, earlier) &&
           earlier->reason == death->reason && slice_equal(earlier->queue, death->queue);
}

size_t envelope_bury(char *at, struct slice head, const struct death *death, bool keeps_copies)
{
    struct death latest = *death, earlier;
    struct envelope_item item;
    struct slice rest = head;
    char *start = at;

    while (envelope_take(&rest, &item))
        if (is_same_death(&item, death, &earlier))
            latest.count += earlier.count;
    at = put_death(at, ENVELOPE_DEATH, &latest);
    if (!envelope_find(head, ENVELOPE_FIRST_DEATH).ptr)
        at = put_death(at, ENVELOPE_FIRST_DEATH, death);
    while (envelope_take(&head, &item))
        if (!is_same_death(&item, death, &earlier) && (keeps_copies || item.tag != ENVELOPE_COPIES))
            at = envelope_put(at, &item);
    return (size_t)(at - start);
}
