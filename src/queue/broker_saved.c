/* broker_saved.c - see broker_saved.h. */
#include "queue/broker_saved.h"

bool saved_take_text(struct slice *s, struct slice *text)
{
    uint32_t len;

    return take_u32le(s, &len) && take_slice(s, len, text);
}

static bool take_flag(struct slice *s, bool *flag)
{
    uint8_t value;

    if (!take_u8(s, &value))
        return false;
    *flag = value != 0;
    return true;
}

bool saved_take_list(struct slice *s, size_t bytes_each, struct slice *list)
{
    uint32_t n;

    return take_u32le(s, &n) && take_slice(s, (size_t)n * bytes_each, list);
}

bool saved_take_queue(struct slice *s, struct saved_queue *q)
{
    return take_u32le(s, &q->id) && saved_take_text(s, &q->name) && queue_options_take(s, &q->options) &&
           take_flag(s, &q->paused);
}

bool saved_take_level(struct slice *s, struct saved_level *level)
{
    return take_u64le(s, &level->delivered) && take_u64le(s, &level->last) &&
           saved_take_list(s, CHECKPOINT_ENTRY_BYTES, &level->front) &&
           saved_take_list(s, CHECKPOINT_SLOT_BYTES, &level->slots) &&
           saved_take_list(s, CHECKPOINT_ENTRY_BYTES, &level->back);
}

bool saved_take_entry(struct slice *list, struct ready_entry *entry)
{
    struct slice bytes;

    if (!take_slice(list, CHECKPOINT_ENTRY_BYTES, &bytes))
        return false;
    memcpy(entry, bytes.ptr, sizeof *entry);
    return true;
}

bool saved_take_slot(struct slice *list, struct ready_slot *slot)
{
    return take_u64le(list, &slot->first) && take_u32le(list, &slot->slot) && take_u32le(list, &slot->crc);
}

bool saved_take_segment(struct slice *list, struct saved_segment *segment)
{
    return take_u64le(list, &segment->number) && take_u64le(list, &segment->live) &&
           take_u64le(list, &segment->total);
}

bool saved_take_body(struct slice *list, struct saved_body *body)
{
    return take_u64le(list, &body->number) && take_u64le(list, &body->ref.id) &&
           take_u64le(list, &body->ref.bytes) && take_u64le(list, &body->n_entries);
}

bool saved_take_held(struct slice *s, struct saved_held *held)
{
    return take_u32le(s, &held->queue) && saved_take_entry(s, &held->entry) &&
           take_u32le(s, &held->attempts) && take_u64le(s, &held->due_us);
}

bool saved_take_state(struct slice *s, struct saved_state *state)
{
    uint32_t version;

    return take_u32le(s, &version) && version == CHECKPOINT_VERSION && take_u64le(s, &state->next_number) &&
           take_u32le(s, &state->next_id) && take_u64le(s, &state->next_body) &&
           saved_take_list(s, SAVED_SEGMENT_BYTES, &state->segments) &&
           saved_take_list(s, SAVED_BODY_BYTES, &state->bodies);
}
