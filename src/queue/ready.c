/* ready.c - see ready.h. */
#include "queue/ready.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log/crc32c.h"

/* Slots and blocks start with so many, and double. */
#define SMALL 16u

/* ---- the file of slots ------------------------------------------------------------------------------------------ */

/* Where slots that can be used again stand. */
struct slot_list {
    uint32_t *at;
    size_t n, room;
};

struct index {
    struct storage_file *file; /* owned */
    uint32_t n_slots;          /* that the file has had so far */
    uint8_t *used;             /* a byte a slot: in use, or freed and not yet free again */
    size_t used_room;
    struct slot_list free;    /* to be used */
    struct slot_list freed;   /* after the checkpoint that comes next */
    struct slot_list leaving; /* after the checkpoint that is being made */
};

static int reserve_slots(struct slot_list *list, size_t n)
{
    size_t room = list->room ? list->room : SMALL;
    uint32_t *at;

    if (n <= list->room)
        return 0;
    while (room < n)
        room *= 2;
    at = realloc(list->at, room * sizeof *at);
    if (!at)
        return -ENOMEM;
    list->at = at;
    list->room = room;
    return 0;
}

/* Every slot fits every list, so that freeing one never needs memory. */
static int reserve_all(struct index *index, size_t n)
{
    size_t room = index->used_room ? index->used_room : SMALL;
    uint8_t *used;

    if (n > index->used_room) {
        while (room < n)
            room *= 2;
        used = realloc(index->used, room);
        if (!used)
            return -ENOMEM;
        memset(used + index->used_room, 0, room - index->used_room);
        index->used = used;
        index->used_room = room;
    }
    if (reserve_slots(&index->free, n) || reserve_slots(&index->freed, n) ||
        reserve_slots(&index->leaving, n))
        return -ENOMEM;
    return 0;
}

int index_open(struct index **result, struct storage *storage)
{
    struct index *index = calloc(1, sizeof *index);
    uint64_t bytes = 0;
    int error;

    *result = NULL;
    if (!index)
        return -ENOMEM;
    error = storage_open(storage, "index", true, &index->file);
    if (!error)
        error = storage_size(index->file, &bytes);
    if (!error && bytes / READY_SLOT_BYTES > UINT32_MAX)
        error = -EFBIG;
    if (!error)
        error = reserve_all(index, bytes / READY_SLOT_BYTES);
    if (error) {
        index_close(index);
        return error;
    }
    index->n_slots = (uint32_t)(bytes / READY_SLOT_BYTES);
    *result = index;
    return 0;
}

void index_close(struct index *index)
{
    if (!index)
        return;
    if (index->file)
        storage_close(index->file);
    free(index->used);
    free(index->free.at);
    free(index->freed.at);
    free(index->leaving.at);
    free(index);
}

void index_clear(struct index *index)
{
    index->freed.n = index->leaving.n = index->free.n = 0;
    if (index->n_slots)
        memset(index->used, 0, index->n_slots);
    index->n_slots = 0;
}

int index_claim(struct index *index, uint32_t slot)
{
    if (slot >= index->n_slots || index->used[slot])
        return -EBADMSG;
    index->used[slot] = 1;
    return 0;
}

/* The lowest slots are used first: they stand at the end. */
void index_claimed(struct index *index)
{
    for (uint32_t i = index->n_slots; i-- > 0;)
        if (!index->used[i])
            index->free.at[index->free.n++] = i;
}

static int take_slot(struct index *index, uint32_t *slot)
{
    if (index->free.n) {
        *slot = index->free.at[--index->free.n];
        index->used[*slot] = 1;
        return 0;
    }
    if (reserve_all(index, (size_t)index->n_slots + 1))
        return -ENOMEM;
    *slot = index->n_slots++;
    index->used[*slot] = 1;
    return 0;
}

static void free_slot(struct index *index, uint32_t slot)
{
    index->freed.at[index->freed.n++] = slot;
}

void index_checkpoint_begin(struct index *index)
{
    assert(index->leaving.n == 0);
    for (size_t i = 0; i < index->freed.n; i++)
        index->leaving.at[index->leaving.n++] = index->freed.at[i];
    index->freed.n = 0;
}

int index_sync(struct index *index)
{
    return storage_sync(index->file);
}

void index_checkpoint_end(struct index *index, bool durable)
{
    struct slot_list *to = durable ? &index->free : &index->freed;

    for (size_t i = 0; i < index->leaving.n; i++) {
        to->at[to->n++] = index->leaving.at[i];
        index->used[index->leaving.at[i]] = !durable;
    }
    index->leaving.n = 0;
}

static int write_slot(struct index *index, const struct ready_entry *entries, struct ready_slot *slot)
{
    struct iovec part = {(void *)(uintptr_t)entries, READY_SLOT_BYTES};
    int error = take_slot(index, &slot->slot);

    if (error)
        return error;
    slot->first = entries[0].number;
    slot->crc = crc32c(0, slice_of((const char *)entries, READY_SLOT_BYTES));
    error = storage_write(index->file, &part, 1, (uint64_t)slot->slot * READY_SLOT_BYTES);
    if (error)
        free_slot(index, slot->slot);
    return error;
}

int index_read(const struct index *index, const struct ready_slot *slot, struct ready_entry *entries)
{
    ssize_t n = storage_read(index->file, entries, READY_SLOT_BYTES, (uint64_t)slot->slot * READY_SLOT_BYTES);

    if (n < 0)
        return (int)n;
    if ((size_t)n != READY_SLOT_BYTES ||
        crc32c(0, slice_of((const char *)entries, READY_SLOT_BYTES)) != slot->crc)
        return -EBADMSG;
    return 0;
}

/* ---- blocks in memory ------------------------------------------------------------------------------------------- */

static uint32_t block_count(const struct ready_block *block)
{
    return block->end - block->start;
}

static int block_reserve(struct ready_block *block, uint32_t room)
{
    struct ready_entry *entries;
    uint32_t grown = block->room ? block->room : SMALL;

    if (room <= block->room)
        return 0;
    while (grown < room)
        grown *= 2;
    entries = realloc(block->entries, grown * sizeof *entries);
    if (!entries)
        return -ENOMEM;
    block->entries = entries;
    block->room = grown;
    return 0;
}

/* Room for one more at the end. */
static int block_reserve_one(struct ready_block *block)
{
    if (block->end == block->room && block->start && block->start >= block->room / 2) {
        memmove(block->entries, block->entries + block->start, block_count(block) * sizeof *block->entries);
        block->end -= block->start;
        block->start = 0;
    }
    return block_reserve(block, block->end + 1);
}

/* Nothing is in it: its memory is kept when that is little. */
static void block_reset(struct ready_block *block)
{
    if (block->room > SMALL) {
        free(block->entries);
        *block = (struct ready_block){0};
    }
    block->start = block->end = 0;
}

static void block_free(struct ready_block *block)
{
    free(block->entries);
    *block = (struct ready_block){0};
}

/* Where number stands in sorted entries, or where it would. */
static uint32_t find_number(const struct ready_entry *entries, uint32_t n, uint64_t number)
{
    uint32_t low = 0;

    while (low < n) {
        uint32_t middle = low + (n - low) / 2;

        if (entries[middle].number < number)
            low = middle + 1;
        else
            n = middle;
    }
    return low;
}

static struct ready_entry *block_find(const struct ready_block *block, uint64_t number)
{
    uint32_t at;

    if (block_count(block) == 0)
        return NULL;
    at = block->start + find_number(block->entries + block->start, block_count(block), number);
    return at < block->end && block->entries[at].number == number ? &block->entries[at] : NULL;
}

/* ---- the list --------------------------------------------------------------------------------------------------- */

void ready_init(struct ready *ready, struct index *index)
{
    *ready = (struct ready){.index = index};
}

void ready_clear(struct ready *ready)
{
    for (uint32_t i = ready->slots_start; i < ready->slots_end; i++)
        free_slot(ready->index, ready->slots[i].slot);
    block_free(&ready->front);
    block_free(&ready->back);
    free(ready->slots);
    ready_init(ready, ready->index);
}

static int reserve_slot(struct ready *ready)
{
    uint32_t n = ready->slots_end - ready->slots_start, room;
    struct ready_slot *slots;

    if (ready->slots_end < ready->slots_room)
        return 0;
    if (ready->slots_start > n) {
        memmove(ready->slots, ready->slots + ready->slots_start, n * sizeof *ready->slots);
        ready->slots_start = 0;
        ready->slots_end = n;
        return 0;
    }
    room = ready->slots_room ? ready->slots_room * 2 : SMALL;
    slots = realloc(ready->slots, room * sizeof *slots);
    if (!slots)
        return -ENOMEM;
    ready->slots = slots;
    ready->slots_room = room;
    return 0;
}

/* Moves full slots of the back into the file. What cannot be written stays, and is tried again a slot's worth later. */
static void spill(struct ready *ready)
{
    struct ready_block *back = &ready->back;

    while (block_count(back) >= READY_SLOT_ENTRIES) {
        struct ready_slot slot;

        if (reserve_slot(ready) || write_slot(ready->index, back->entries + back->start, &slot))
            return;
        ready->slots[ready->slots_end++] = slot;
        back->start += READY_SLOT_ENTRIES;
    }
    if (back->start == back->end)
        back->start = back->end = 0;
}

/* The block that the next entry goes to: one that is short needs no back. */
static struct ready_block *block_to_push(struct ready *ready)
{
    bool is_short = ready->slots_start == ready->slots_end && block_count(&ready->back) == 0 &&
                    block_count(&ready->front) < READY_SLOT_ENTRIES;

    return is_short ? &ready->front : &ready->back;
}

int ready_reserve(struct ready *ready)
{
    return block_reserve_one(block_to_push(ready));
}

void ready_push(struct ready *ready, const struct ready_entry *entry)
{
    struct ready_block *block = block_to_push(ready);

    assert(entry->number > ready->last && block->end < block->room);
    block->entries[block->end++] = *entry;
    ready->count++;
    ready->last = entry->number;
    if (block == &ready->back && block_count(block) % READY_SLOT_ENTRIES == 0)
        spill(ready);
}

/* Fills the empty front from the oldest slot, or with the back. 0 or an error; it may stay empty. */
static int refill(struct ready *ready)
{
    struct ready_block *front = &ready->front, empty = *front;
    int error;

    if (ready->slots_start == ready->slots_end) {
        *front = ready->back;
        ready->back = empty;
        ready->back.start = ready->back.end = 0;
        return 0;
    }
    if (block_reserve(front, READY_SLOT_ENTRIES))
        return -ENOMEM;
    error = index_read(ready->index, &ready->slots[ready->slots_start], front->entries);
    if (error)
        return error;
    free_slot(ready->index, ready->slots[ready->slots_start++].slot);
    front->start = 0;
    front->end = READY_SLOT_ENTRIES;
    return 0;
}

const struct ready_entry *ready_front(struct ready *ready, int *error)
{
    *error = 0;
    if (ready->count == 0)
        return NULL;
    if (block_count(&ready->front) == 0)
        *error = refill(ready);
    return *error ? NULL : &ready->front.entries[ready->front.start];
}

void ready_pop(struct ready *ready)
{
    assert(block_count(&ready->front));
    ready->front.start++;
    ready->count--;
    if (ready->count == 0) {
        block_reset(&ready->front);
        block_reset(&ready->back);
    }
}

/* The slot that number stands in, if it stands in one; NULL: it does not. */
static struct ready_slot *slot_of(const struct ready *ready, uint64_t number)
{
    uint32_t low = ready->slots_start, high = ready->slots_end;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (ready->slots[middle].first <= number)
            low = middle + 1;
        else
            high = middle;
    }
    return low == ready->slots_start ? NULL : &ready->slots[low - 1];
}

/* 1: *entry is a copy in memory, or *slot and its read entries hold it. */
static int look_up(struct ready *ready, uint64_t number, struct ready_entry **entry, struct ready_slot **slot,
                   struct ready_entry *entries)
{
    uint32_t at;
    int error;

    *slot = NULL;
    *entry = block_find(&ready->front, number);
    if (!*entry)
        *entry = block_find(&ready->back, number);
    if (*entry)
        return 1;
    *slot = slot_of(ready, number);
    if (!*slot)
        return 0;
    error = index_read(ready->index, *slot, entries);
    if (error)
        return error;
    at = find_number(entries, READY_SLOT_ENTRIES, number);
    *entry = &entries[at];
    return at < READY_SLOT_ENTRIES && entries[at].number == number;
}

int ready_find(struct ready *ready, uint64_t number, struct ready_entry *entry)
{
    struct ready_entry *entries = malloc(READY_SLOT_BYTES), *found;
    struct ready_slot *slot;
    int result = entries ? look_up(ready, number, &found, &slot, entries) : -ENOMEM;

    if (result > 0)
        *entry = *found;
    free(entries);
    return result;
}

int ready_move(struct ready *ready, uint64_t number, uint64_t position)
{
    struct ready_entry *entries = malloc(READY_SLOT_BYTES), *found;
    struct ready_slot *slot, moved;
    int result = entries ? look_up(ready, number, &found, &slot, entries) : -ENOMEM;

    if (result > 0) {
        found->position = position;
        result = slot ? write_slot(ready->index, entries, &moved) : 0;
        if (slot && result == 0) {
            free_slot(ready->index, slot->slot);
            *slot = moved;
        }
    } else if (result == 0) {
        result = -ENOENT;
    }
    free(entries);
    return result;
}

int ready_each(struct ready *ready, int (*each)(void *arg, const struct ready_entry *entries, uint32_t n),
               void *arg)
{
    struct ready_entry *entries = NULL;
    int result = 0;

    if (block_count(&ready->front))
        result = each(arg, ready->front.entries + ready->front.start, block_count(&ready->front));
    if (!result && ready->slots_start < ready->slots_end) {
        entries = malloc(READY_SLOT_BYTES);
        result = entries ? 0 : -ENOMEM;
    }
    for (uint32_t i = ready->slots_start; !result && i < ready->slots_end; i++) {
        result = index_read(ready->index, &ready->slots[i], entries);
        if (!result)
            result = each(arg, entries, READY_SLOT_ENTRIES);
    }
    free(entries);
    if (!result && block_count(&ready->back))
        result = each(arg, ready->back.entries + ready->back.start, block_count(&ready->back));
    return result;
}

int ready_adopt(struct ready *ready, const struct ready_slot *slot)
{
    int error = index_claim(ready->index, slot->slot);

    assert(block_count(&ready->back) == 0);
    if (error)
        return error;
    if (reserve_slot(ready))
        return -ENOMEM;
    ready->slots[ready->slots_end++] = *slot;
    ready->count += READY_SLOT_ENTRIES;
    ready->last = slot->first + READY_SLOT_ENTRIES - 1;
    return 0;
}
