/* loop_private.h - what fiber.c and loop.c share, and nobody else sees. */
#ifndef FIBER_LOOP_PRIVATE_H
#define FIBER_LOOP_PRIVATE_H

#include "fiber/context.h"
#include "fiber/loop.h"
#include "fiber/stack.h"
#include "fiber/timer.h"

/* A fiber whose peer is faster than we are would never wait, and its thread's other fibers never run. */
#define READY_WAITS_PER_TURN 16u

struct loop {
    struct context context; /* the thread's own */
    struct fiber *current;
    struct list runnable;
    struct timer_heap timers; /* one a fiber at the most */
    struct stack_pool stacks;
    struct mailbox *mailbox;
    struct io mail;
    void *signal_stack;  /* see overflow.c */
    struct fiber *ended; /* its stack is still under us when it ends; freed by the loop */
    uint64_t now_us;
    unsigned n_fibers;
    unsigned patience; /* waits for what is ready already, that the running fiber has left of its turn */
    int epoll_fd;
};

/* This thread's loop. */
extern _Thread_local struct loop *this_loop;

/* Runs one fiber until it parks or ends. */
void fiber_enter(struct loop *loop, struct fiber *fiber);
/* Its timer went off. */
void fiber_timer_due(struct loop *loop, struct timer *timer);

/* Its stack is fetched into the cache while another fiber runs: with hundreds of them, each is cold when its turn
 * comes. */
void fiber_prefetch(struct list *node);
struct fiber *fiber_of_run_node(struct list *node);
/* Gives back what fiber_catch_overflow took for this thread. */
void overflow_forget(struct loop *loop);

const struct stack *fiber_stack(const struct fiber *fiber);

#endif
