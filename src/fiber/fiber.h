/* fiber.h - fibers: straight-line code that waits without holding its thread.
 *
 * A fiber belongs to the loop (and thread) that spawned it and never moves. It runs until it waits or ends;
 * nothing else of its thread runs meanwhile. Every wait takes a deadline (absolute monotonic microseconds,
 * NEVER for none) and returns 0, -ETIMEDOUT or -ECANCELED. A cancel is sticky: the wait under way and every
 * later one returns -ECANCELED at once, so a cancelled fiber can only clean up and end.
 * A wait may return 0 early: re-check what you waited for.
 * Stacks are small (28 KiB on 4 KiB pages): no large arrays, no library that recurses.
 * Threads: every function is for the fiber's own thread. */
#ifndef FIBER_FIBER_H
#define FIBER_FIBER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

#define NEVER UINT64_MAX

struct fiber;

/* Starts main(arg) on the calling thread's loop at its next turn. name is a constant string, for reports.
 * The handle lives until fiber_join or fiber_detach; NULL when there is no memory. */
struct fiber *fiber_spawn(const char *name, void (*main)(void *arg), void *arg);
/* The fiber frees itself when it ends; the handle is gone. */
void fiber_detach(struct fiber *fiber);
/* fiber_spawn and fiber_detach: 0 or -ENOMEM. */
int fiber_start(const char *name, void (*main)(void *arg), void *arg);
/* Waits for its end and frees it. On -ETIMEDOUT or -ECANCELED it still runs and the handle stays. */
int fiber_join(struct fiber *fiber, uint64_t deadline_us);
/* Cancels it and waits for its end, whatever happens to the caller meanwhile; frees it. */
void fiber_cancel_and_join(struct fiber *fiber);
void fiber_cancel(struct fiber *fiber);

struct fiber *fiber_self(void); /* NULL outside of fibers */
const char *fiber_name(const struct fiber *fiber);
bool fiber_cancelled(void); /* the running one */

/* -ETIMEDOUT is what a sleep that was not cancelled returns as 0. */
int fiber_sleep_until(uint64_t deadline_us);
/* Lets every other runnable fiber go first. */
int fiber_yield(void);

/* The ground of every wait: parks the running fiber until fiber_wake, the deadline or a cancel. */
int fiber_park(uint64_t deadline_us);
/* Makes a parked fiber runnable; nothing when it is not parked. */
void fiber_wake(struct fiber *fiber);

/* Makes a fault of this thread on a fiber's guard say which fiber overflowed its stack, before the process dies
 * of it as it would have. 0 or a negative errno. Once a thread, after loop_create. */
int fiber_catch_overflow(void);

/* Fibers that wait for the same thing, first come first served. */
struct wait_queue {
    struct list waiters;
};

void wait_queue_init(struct wait_queue *queue);
int wait_queue_wait(struct wait_queue *queue, uint64_t deadline_us);
bool wait_queue_wake_one(struct wait_queue *queue); /* false: nobody waited */
void wait_queue_wake_all(struct wait_queue *queue);

#endif
