/* loop.c - see loop.h.
 *
 * A turn: run every fiber that was runnable at its start, ask epoll (without waiting when some are runnable
 * again), note what became ready, wake who waits for it, deliver mail, let timers go off. Nothing runs while events
 * are noted, so an io cannot be freed between its event and our look at it; on_input closes its own io only. */
#include "fiber/loop.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "fiber/loop_private.h"

#define EVENTS_PER_TURN 256

/* With hundreds of connections each is cold when something happens to it: its io is fetched two of these ahead, and
 * whoever waits for it one ahead. */
#define LOOK_AHEAD 4

_Thread_local struct loop *this_loop;

int loop_create(struct loop **out)
{
    struct loop *loop = calloc(1, sizeof *loop);
    int error;

    *out = NULL;
    assert(!this_loop);
    if (!loop)
        return -ENOMEM;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        error = -errno;
        goto no_epoll;
    }
    error = mailbox_create(&loop->mailbox);
    if (error)
        goto no_mailbox;
    list_init(&loop->runnable);
    stack_pool_init(&loop->stacks);
    context_init_thread(&loop->context);
    loop->now_us = clock_monotonic_us();
    this_loop = loop;
    error = io_watch(&loop->mail, mailbox_fd(loop->mailbox), IO_READABLE, false);
    if (error)
        goto no_watch;
    *out = loop;
    return 0;

no_watch:
    this_loop = NULL;
    mailbox_unref(loop->mailbox);
no_mailbox:
    close(loop->epoll_fd);
no_epoll:
    free(loop);
    return error;
}

void loop_free(struct loop *loop)
{
    assert(loop == this_loop && loop->n_fibers == 0);
    mailbox_close(loop->mailbox);
    mailbox_unref(loop->mailbox);
    close(loop->epoll_fd);
    timer_heap_free(&loop->timers);
    stack_pool_free(&loop->stacks);
    overflow_forget(loop);
    this_loop = NULL;
    free(loop);
}

static void run_fibers(struct loop *loop)
{
    struct list batch, *node;

    list_take_all(&batch, &loop->runnable);
    while ((node = list_pop_front(&batch))) {
        if (!list_empty(&batch))
            fiber_prefetch(batch.next);
        fiber_enter(loop, fiber_of_run_node(node));
    }
}

static void note_event(struct io *io, uint32_t events)
{
    if (events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        io->ready |= IO_READABLE;
        if (events & (EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) /* reads stop short at urgent data, too */
            io->ready |= IO_HUNG_UP;
    }
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
        io->ready |= IO_WRITABLE;
        if (io->writer)
            fiber_wake(io->writer);
    }
    if (!(io->ready & IO_READABLE))
        return;
    if (io->reader)
        fiber_wake(io->reader);
    else if (io->on_input)
        io->on_input(io);
}

/* In milliseconds, rounded up, so that a timer is due when we come back. */
static int poll_timeout(const struct loop *loop)
{
    uint64_t next = timer_next(&loop->timers);
    uint64_t ms;

    if (!list_empty(&loop->runnable))
        return 0;
    if (next == UINT64_MAX)
        return -1;
    if (next <= loop->now_us)
        return 0;
    ms = (next - loop->now_us + US_PER_MS - 1) / US_PER_MS;
    return ms > 60000 ? 60000 : (int)ms;
}

static void poll_events(struct loop *loop)
{
    struct epoll_event events[EVENTS_PER_TURN];
    int n = epoll_wait(loop->epoll_fd, events, EVENTS_PER_TURN, poll_timeout(loop));
    bool mail = false;

    loop->now_us = clock_monotonic_us();
    for (int i = 0; i < n; i++) {
        struct io *io = events[i].data.ptr;

        if (i + 2 * LOOK_AHEAD < n)
            __builtin_prefetch(events[i + 2 * LOOK_AHEAD].data.ptr);
        if (i + LOOK_AHEAD < n)
            __builtin_prefetch(((struct io *)events[i + LOOK_AHEAD].data.ptr)->reader);
        if (io == &loop->mail)
            mail = true;
        else
            note_event(io, events[i].events);
    }
    if (mail)
        mailbox_deliver(loop->mailbox);
}

void loop_run(struct loop *loop)
{
    struct timer *timer;

    assert(loop == this_loop && !loop->current);
    while (loop->n_fibers) {
        run_fibers(loop);
        if (!loop->n_fibers)
            break;
        poll_events(loop);
        while ((timer = timer_pop(&loop->timers, loop->now_us)))
            fiber_timer_due(loop, timer);
    }
}

struct loop *loop_self(void)
{
    return this_loop;
}

uint64_t loop_now_us(void)
{
    return this_loop->now_us;
}

uint64_t loop_deadline(uint64_t timeout_us)
{
    uint64_t now = this_loop->now_us;

    return timeout_us == 0 || timeout_us > NEVER - now ? NEVER : now + timeout_us;
}

struct mailbox *loop_mailbox(struct loop *loop)
{
    return loop->mailbox;
}

unsigned loop_fibers(const struct loop *loop)
{
    return loop->n_fibers;
}

static uint32_t epoll_mask(unsigned directions)
{
    return EPOLLET | (directions & IO_READABLE ? EPOLLIN | EPOLLPRI | EPOLLRDHUP : 0u) |
           (directions & IO_WRITABLE ? (uint32_t)EPOLLOUT : 0u);
}

int io_watch(struct io *io, int fd, unsigned directions, bool exclusive)
{
    struct epoll_event event = {.events = epoll_mask(directions), .data.ptr = io};

    if (exclusive) /* those are not allowed with it */
        event.events = (event.events & ~(uint32_t)(EPOLLRDHUP | EPOLLPRI)) | EPOLLEXCLUSIVE;
    *io = (struct io){.fd = fd, .watched = (uint8_t)directions};
    return epoll_ctl(this_loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

void io_forget(struct io *io)
{
    assert(!io->reader && !io->writer);
    epoll_ctl(this_loop->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL);
    io->watched = 0;
}

int io_wait_readable(struct io *io, uint64_t deadline_us)
{
    int error;

    if (io->ready & IO_READABLE) {
        if (this_loop->patience == 0)
            return fiber_yield();
        this_loop->patience--;
        return 0;
    }
    assert(!io->reader);
    io->reader = fiber_self();
    error = fiber_park(deadline_us);
    io->reader = NULL;
    return error;
}

/* Output is only watched from the first time that it had to wait: most descriptors never do. */
static int watch_output(struct io *io)
{
    struct epoll_event event = {.events = epoll_mask(io->watched | IO_WRITABLE), .data.ptr = io};

    if (io->watched & IO_WRITABLE)
        return 0;
    if (epoll_ctl(this_loop->epoll_fd, EPOLL_CTL_MOD, io->fd, &event) != 0)
        return -errno;
    io->watched |= IO_WRITABLE;
    return 0;
}

int io_wait_writable(struct io *io, uint64_t deadline_us)
{
    int error = watch_output(io);

    if (error)
        return error;
    if (io->ready & IO_WRITABLE)
        return 0;
    assert(!io->writer);
    io->writer = fiber_self();
    error = fiber_park(deadline_us);
    io->writer = NULL;
    return error;
}
