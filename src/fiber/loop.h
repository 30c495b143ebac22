/* loop.h - one thread's event loop: runs fibers, waits for descriptors, timers and mail.
 *
 * A thread has at most one loop. loop_create makes it the calling thread's; everything here is for that thread,
 * but loop_mailbox's sending side. Errors: 0 or a negative errno. */
#ifndef FIBER_LOOP_H
#define FIBER_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "fiber/fiber.h"
#include "fiber/mailbox.h"

struct loop;

int loop_create(struct loop **loop);
/* Runs until no fiber is left, delivering mail meanwhile. */
void loop_run(struct loop *loop);
/* No fiber is left. Mail that comes later is dropped. */
void loop_free(struct loop *loop);

struct loop *loop_self(void);
/* The time at the start of this turn of the loop. */
uint64_t loop_now_us(void);
/* deadline = now + timeout; NEVER when the timeout is 0 (off) or too far away. */
uint64_t loop_deadline(uint64_t timeout_us);
struct mailbox *loop_mailbox(struct loop *loop);
unsigned loop_fibers(const struct loop *loop);

/* A descriptor that the loop watches, edge-triggered. At most one fiber waits for each direction. IO_HUNG_UP: the other
 * side has finished, or sent urgent data: a short read does not prove that nothing more is there. */
enum { IO_READABLE = 1, IO_WRITABLE = 2, IO_HUNG_UP = 4 };

struct io {
    int fd;
    uint8_t ready;   /* what epoll said since the last EAGAIN */
    uint8_t watched; /* directions asked of epoll */
    struct fiber *reader, *writer;
    /* Called on an event when no fiber waits for input; may close and free its io. NULL: nothing. Not in a fiber. */
    void (*on_input)(struct io *io);
};

/* directions: IO_READABLE, IO_WRITABLE, or both. exclusive: of the loops that watch fd, one is woken. */
int io_watch(struct io *io, int fd, unsigned directions, bool exclusive);
/* Stops watching; closes nothing. Nobody waits for it. */
void io_forget(struct io *io);
int io_wait_readable(struct io *io, uint64_t deadline_us);
int io_wait_writable(struct io *io, uint64_t deadline_us);

#endif
