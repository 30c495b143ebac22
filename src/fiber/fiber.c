/* fiber.c - see fiber.h.
 *
 * A fiber's record lies at the high end of its own stack. It is in exactly one state: RUNNABLE (in the loop's
 * list), RUNNING, PARKED, or ENDED (waiting to be joined).
 * Timers are lazy: a park only arms the fiber's timer when the deadline is earlier than what is armed, and a wake
 * leaves it armed. When it goes off early it is armed anew for the deadline of that moment. So a connection that
 * waits a million times with the same timeout touches the heap a few times a minute. */
#include "fiber/fiber.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "fiber/loop_private.h"

enum state { RUNNABLE, RUNNING, PARKED, ENDED };

struct fiber {
    struct context context;
    struct loop *loop;
    struct list run;
    struct timer timer;
    uint64_t deadline_us; /* of the park under way */
    enum state state;
    int result; /* of the park under way */
    bool cancelled;
    bool detached;
    struct fiber *joiner;
    void (*main)(void *);
    void *arg;
    const char *name;
    struct stack stack;
};

static void make_runnable(struct fiber *fiber, int result)
{
    fiber->state = RUNNABLE;
    fiber->result = result;
    list_push_back(&fiber->loop->runnable, &fiber->run);
}

static void leave(struct fiber *fiber, int ending)
{
    fiber->loop->current = NULL;
    context_switch(&fiber->context, &fiber->loop->context, ending);
}

static void release(struct fiber *fiber)
{
    struct loop *loop = fiber->loop;
    struct stack stack = fiber->stack;

    context_free(&fiber->context);
    stack_give(&loop->stacks, &stack);
}

static void entry(void)
{
    struct loop *loop = this_loop;
    struct fiber *fiber = loop->current;

    context_entered(&loop->context);
    fiber->main(fiber->arg);

    timer_disarm(&loop->timers, &fiber->timer);
    fiber->state = ENDED;
    loop->n_fibers--;
    if (fiber->joiner)
        fiber_wake(fiber->joiner);
    if (fiber->detached)
        loop->ended = fiber;
    leave(fiber, 1);
}

void fiber_enter(struct loop *loop, struct fiber *fiber)
{
    loop->current = fiber;
    loop->patience = READY_WAITS_PER_TURN;
    fiber->state = RUNNING;
    context_switch(&loop->context, &fiber->context, 0);
    if (loop->ended) {
        release(loop->ended);
        loop->ended = NULL;
    }
}

struct fiber *fiber_spawn(const char *name, void (*main)(void *arg), void *arg)
{
    struct loop *loop = this_loop;
    struct stack stack;
    struct fiber *fiber;
    size_t record = (sizeof *fiber + 63) & ~(size_t)63;

    if (timer_heap_reserve(&loop->timers, loop->n_fibers + 1) != 0 || stack_take(&loop->stacks, &stack) != 0)
        return NULL;
    fiber = (struct fiber *)(void *)(stack.low + stack.bytes - record);
    memset(fiber, 0, sizeof *fiber);
    fiber->stack = stack;
    fiber->loop = loop;
    fiber->name = name;
    fiber->main = main;
    fiber->arg = arg;
    timer_init(&fiber->timer);
    context_init(&fiber->context, stack.low, stack.bytes - record, entry);
    loop->n_fibers++;
    make_runnable(fiber, 0);
    return fiber;
}

void fiber_detach(struct fiber *fiber)
{
    if (fiber->state == ENDED)
        release(fiber);
    else
        fiber->detached = true;
}

int fiber_start(const char *name, void (*main)(void *arg), void *arg)
{
    struct fiber *fiber = fiber_spawn(name, main, arg);

    if (!fiber)
        return -ENOMEM;
    fiber_detach(fiber);
    return 0;
}

int fiber_join(struct fiber *fiber, uint64_t deadline_us)
{
    assert(!fiber->joiner && !fiber->detached);
    while (fiber->state != ENDED) {
        int error;

        fiber->joiner = fiber_self();
        error = fiber_park(deadline_us);
        fiber->joiner = NULL;
        if (error && fiber->state != ENDED) /* it may have ended in the turn of our deadline */
            return error;
    }
    release(fiber);
    return 0;
}

void fiber_cancel_and_join(struct fiber *fiber)
{
    struct fiber *self = fiber_self();
    bool cancelled = self->cancelled;

    fiber_cancel(fiber);
    self->cancelled = false; /* a cancelled fiber still waits for what it started */
    while (fiber_join(fiber, NEVER) != 0) {
        cancelled = true;
        self->cancelled = false;
    }
    self->cancelled |= cancelled;
}

void fiber_cancel(struct fiber *fiber)
{
    if (fiber->state == ENDED)
        return;
    fiber->cancelled = true;
    if (fiber->state == PARKED)
        make_runnable(fiber, -ECANCELED);
}

struct fiber *fiber_self(void)
{
    return this_loop ? this_loop->current : NULL;
}

const char *fiber_name(const struct fiber *fiber)
{
    return fiber->name;
}

bool fiber_cancelled(void)
{
    return this_loop->current->cancelled;
}

int fiber_park(uint64_t deadline_us)
{
    struct loop *loop = this_loop;
    struct fiber *fiber = loop->current;

    assert(fiber);
    if (fiber->cancelled)
        return -ECANCELED;
    fiber->deadline_us = deadline_us;
    if (deadline_us < timer_when(&loop->timers, &fiber->timer))
        timer_arm(&loop->timers, &fiber->timer, deadline_us);
    fiber->state = PARKED;
    leave(fiber, 0);
    return fiber->result;
}

void fiber_timer_due(struct loop *loop, struct timer *timer)
{
    struct fiber *fiber = container_of(timer, struct fiber, timer);

    if (fiber->state != PARKED || fiber->deadline_us == NEVER)
        return;
    if (fiber->deadline_us > loop->now_us)
        timer_arm(&loop->timers, timer, fiber->deadline_us);
    else
        make_runnable(fiber, -ETIMEDOUT);
}

void fiber_wake(struct fiber *fiber)
{
    if (fiber->state == PARKED)
        make_runnable(fiber, 0);
}

int fiber_sleep_until(uint64_t deadline_us)
{
    int error;

    do
        error = fiber_park(deadline_us);
    while (error == 0);
    return error == -ETIMEDOUT ? 0 : error;
}

int fiber_yield(void)
{
    struct fiber *fiber = this_loop->current;

    if (fiber->cancelled)
        return -ECANCELED;
    make_runnable(fiber, 0);
    leave(fiber, 0);
    return fiber->cancelled ? -ECANCELED : 0;
}

/* What a fiber that waits for a server has on its stack. */
#define PREFETCH_BYTES 2048u
#define CACHE_LINE 64u

void fiber_prefetch(struct list *node)
{
    const struct fiber *fiber = container_of(node, struct fiber, run);
    const char *high = (const char *)fiber;
    const char *at = fiber->context.sp;

    for (size_t n = 0; n < PREFETCH_BYTES && at + n < high; n += CACHE_LINE)
        __builtin_prefetch(at + n);
}

struct fiber *fiber_of_run_node(struct list *node)
{
    return container_of(node, struct fiber, run);
}

const struct stack *fiber_stack(const struct fiber *fiber)
{
    return &fiber->stack;
}

struct waiter {
    struct list list;
    struct fiber *fiber;
};

void wait_queue_init(struct wait_queue *queue)
{
    list_init(&queue->waiters);
}

int wait_queue_wait(struct wait_queue *queue, uint64_t deadline_us)
{
    struct waiter waiter = {.fiber = fiber_self()};
    bool woken;
    int error;

    list_push_back(&queue->waiters, &waiter.list);
    error = fiber_park(deadline_us);
    woken = list_empty(&waiter.list);
    list_remove(&waiter.list);
    /* A wake that met the deadline or a cancel in the same turn counts: it would be lost otherwise. */
    return woken ? 0 : error;
}

bool wait_queue_wake_one(struct wait_queue *queue)
{
    struct list *node = list_pop_front(&queue->waiters);

    if (!node)
        return false;
    fiber_wake(container_of(node, struct waiter, list)->fiber);
    return true;
}

void wait_queue_wake_all(struct wait_queue *queue)
{
    while (wait_queue_wake_one(queue))
        ;
}
