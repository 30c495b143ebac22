/* timer.c - see timer.h.
 *
 * Invariants: entries[i].timer->index == i; no entry is earlier than its parent, (i - 1) / 4. */
#include "fiber/timer.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define WAYS 4u

int timer_heap_reserve(struct timer_heap *heap, uint32_t n)
{
    uint32_t room = heap->room ? heap->room : 64;
    struct timer_entry *entries;

    if (n <= heap->room)
        return 0;
    while (room < n)
        room *= 2;
    entries = realloc(heap->entries, room * sizeof *entries);
    if (!entries)
        return -ENOMEM;
    heap->entries = entries;
    heap->room = room;
    return 0;
}

void timer_heap_free(struct timer_heap *heap)
{
    free(heap->entries);
    *heap = (struct timer_heap){0};
}

static void put(struct timer_heap *heap, uint32_t at, struct timer_entry entry)
{
    heap->entries[at] = entry;
    entry.timer->index = at;
}

static void sift_up(struct timer_heap *heap, uint32_t at, struct timer_entry entry)
{
    while (at > 0) {
        uint32_t parent = (at - 1) / WAYS;

        if (heap->entries[parent].when_us <= entry.when_us)
            break;
        put(heap, at, heap->entries[parent]);
        at = parent;
    }
    put(heap, at, entry);
}

static void sift_down(struct timer_heap *heap, uint32_t at, struct timer_entry entry)
{
    for (;;) {
        uint64_t first = (uint64_t)at * WAYS + 1;
        uint32_t least, last;

        if (first >= heap->count)
            break;
        least = (uint32_t)first;
        last = heap->count - least < WAYS ? heap->count : least + WAYS;
        for (uint32_t i = least + 1; i < last; i++)
            if (heap->entries[i].when_us < heap->entries[least].when_us)
                least = i;
        if (heap->entries[least].when_us >= entry.when_us)
            break;
        put(heap, at, heap->entries[least]);
        at = least;
    }
    put(heap, at, entry);
}

/* Puts entry where it belongs, when the place at is free. */
static void settle(struct timer_heap *heap, uint32_t at, struct timer_entry entry)
{
    if (at > 0 && heap->entries[(at - 1) / WAYS].when_us > entry.when_us)
        sift_up(heap, at, entry);
    else
        sift_down(heap, at, entry);
}

void timer_arm(struct timer_heap *heap, struct timer *timer, uint64_t when_us)
{
    struct timer_entry entry = {when_us, timer};

    if (timer->index != TIMER_IDLE) {
        settle(heap, timer->index, entry);
        return;
    }
    assert(heap->count < heap->room);
    sift_up(heap, heap->count++, entry);
}

void timer_disarm(struct timer_heap *heap, struct timer *timer)
{
    uint32_t at = timer->index;

    if (at == TIMER_IDLE)
        return;
    timer->index = TIMER_IDLE;
    heap->count--;
    if (at != heap->count)
        settle(heap, at, heap->entries[heap->count]);
}

struct timer *timer_pop(struct timer_heap *heap, uint64_t now_us)
{
    struct timer *timer;

    if (timer_next(heap) > now_us || !heap->count)
        return NULL;
    timer = heap->entries[0].timer;
    timer_disarm(heap, timer);
    return timer;
}
