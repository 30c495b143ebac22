/* timer.h - a heap of deadlines: arm, disarm and pop in O(log n), the earliest in O(1).
 *
 * Four children a node: half the levels of a binary heap, and siblings lie side by side. A heap belongs to one thread. Room is made ahead
 * (timer_heap_reserve), so that arming cannot fail. Times are monotonic microseconds. */
#ifndef FIBER_TIMER_H
#define FIBER_TIMER_H

#include <stdbool.h>
#include <stdint.h>

#define TIMER_IDLE UINT32_MAX

struct timer {
    uint32_t index; /* in the heap, or TIMER_IDLE */
};

struct timer_entry {
    uint64_t when_us;
    struct timer *timer;
};

struct timer_heap {
    struct timer_entry *entries;
    uint32_t count, room;
};

static inline void timer_init(struct timer *timer)
{
    timer->index = TIMER_IDLE;
}

/* Makes room for n timers at once; 0 or -ENOMEM. Never shrinks. */
int timer_heap_reserve(struct timer_heap *heap, uint32_t n);
void timer_heap_free(struct timer_heap *heap);

/* Arms it, or moves it when it is armed. */
void timer_arm(struct timer_heap *heap, struct timer *timer, uint64_t when_us);
void timer_disarm(struct timer_heap *heap, struct timer *timer);

/* UINT64_MAX when it is not armed. */
static inline uint64_t timer_when(const struct timer_heap *heap, const struct timer *timer)
{
    return timer->index == TIMER_IDLE ? UINT64_MAX : heap->entries[timer->index].when_us;
}

/* UINT64_MAX when none is armed. */
static inline uint64_t timer_next(const struct timer_heap *heap)
{
    return heap->count ? heap->entries[0].when_us : UINT64_MAX;
}

/* Takes off the earliest timer that is due at now_us, or NULL. */
struct timer *timer_pop(struct timer_heap *heap, uint64_t now_us);

#endif
