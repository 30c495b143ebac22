/* relay.c - see relay.h.
 *
 * A small message costs a read and a write: a short read says that there is no more, and nobody asks. It goes through
 * the warmest block of the thread, which is given back at once.
 * When a read fills its block, the kernel moves the pages instead (splice.h), with a pipe that is only held while it
 * holds bytes. When such a stream has flowed for long enough, a low-water mark lets bytes gather. Somebody may wait
 * for an answer to less than that: so the wait is short, the other way's moving ends it, and each time that it was in
 * vain makes the next one rarer.
 *
 * Invariants: relay->why is set before anybody is woken because of it, and looked at after every wait.
 * A stream that is no socket waits in its own calls: only stream_abort ends those. */
#include "fiber/relay.h"

#include <errno.h>

#include "base/clock.h"
#include "base/slab.h"
#include "fiber/splice.h"

/* A read that fills its block begins a bulk; so many moves in a row of less than this end it. */
#define BULK_BYTES_MIN (32u * 1024)
#define SMALL_MOVES_MAX 2
/* How much is moved at once. After so much in one go others get their turn. */
#define MOVE_BYTES (1024u * 1024)
#define TURN_BYTES (256u * 1024)
/* How much is waited for, for how long, and after how much. */
#define GATHER_BYTES (512u * 1024)
#define GATHER_US (3 * US_PER_MS)
#define RUN_MIN (1024u * 1024)
#define RUN_MIN_MAX (64u * 1024 * 1024)

static bool is_socket(const struct stream *stream)
{
    return stream->kind == &stream_socket_kind;
}

static struct relay_way *other_way(struct relay_way *way)
{
    return way == &way->relay->up ? &way->relay->down : &way->relay->up;
}

static uint64_t idle_deadline(const struct relay *relay)
{
    return relay->idle_us ? relay->last_us + relay->idle_us : NEVER;
}

/* What a wait that came back with error means: 0, it is worth a look; or why this way must end. A deadline may have
 * moved on meanwhile. */
static int after_wait(const struct relay *relay, int error)
{
    if (relay->why)
        return relay->why;
    return error == -ETIMEDOUT && loop_now_us() < idle_deadline(relay) ? 0 : error;
}

static void moved(struct relay_way *way, size_t n)
{
    way->bytes += n;
    for (size_t i = 0; i < 2; i++)
        if (way->counters[i])
            counter_add(way->counters[i], n);
    way->relay->last_us = loop_now_us();
}

/* ---- the end ------------------------------------------------------------------------------------------------ */

/* The relay ends for this reason, unless it had one; whoever waits learns of it. */
static void stop(struct relay *relay, int why)
{
    if (!relay->why)
        relay->why = why;
    if (!is_socket(relay->up.from))
        stream_abort(relay->up.from);
    if (!is_socket(relay->up.to))
        stream_abort(relay->up.to);
    fiber_wake(relay->up.fiber); /* nothing to whoever runs */
    fiber_wake(relay->down.fiber);
}

/* An error that is the stream's own. */
static int broke(struct relay *relay, const struct stream *stream, int error)
{
    if (!relay->why) {
        relay->why = error;
        relay->broken = stream;
    }
    return error;
}

/* Of a call that may have waited: 0 when it is to be tried again. */
static int call_failed(struct relay *relay, const struct stream *stream, int error)
{
    if (error == -ETIMEDOUT || error == -ECANCELED)
        return after_wait(relay, error);
    return broke(relay, stream, error);
}

static void release_pending(struct relay_way *way)
{
    if (way->release)
        way->release(way->owner);
    way->release = NULL;
}

/* Must not take what they have for whole: who would have got more, and whose peer broke off. */
static void pass_on_breaks(const struct relay *relay)
{
    const struct relay_way *up = &relay->up, *down = &relay->down;

    if (up->cut || relay->broken == up->from)
        stream_reset_on_close(up->to);
    if (down->cut || relay->broken == down->from)
        stream_reset_on_close(down->to);
}

/* ---- a way: a block at a time --------------------------------------------------------------------------------- */

static int wait_input(struct relay_way *way)
{
    struct stream *from = way->from;
    struct relay *relay = way->relay;

    for (;;) {
        int error = is_socket(from) ? io_wait_readable(&from->io, idle_deadline(relay))
                                    : stream_wait_readable(from, idle_deadline(relay));
        int why = after_wait(relay, error);

        if (why)
            return why;
        if (!error && (!is_socket(from) || from->io.ready & IO_READABLE))
            return 0;
    }
}

/* -EAGAIN: there was nothing after all. */
static ssize_t read_socket(struct relay_way *way, char *block)
{
    struct io *io = &way->from->io;
    ssize_t n = recv(io->fd, block, SLAB_BYTES, 0);

    if (n > 0 && n < SLAB_BYTES && !(io->ready & IO_HUNG_UP))
        io->ready &= (uint8_t)~IO_READABLE;
    if (n >= 0)
        return n;
    if (errno == EAGAIN)
        io->ready &= (uint8_t)~IO_READABLE;
    else if (errno != EINTR)
        return broke(way->relay, way->from, -errno);
    return -EAGAIN;
}

static ssize_t read_other(struct relay_way *way, char *block)
{
    ssize_t n = stream_read(way->from, block, SLAB_BYTES, idle_deadline(way->relay));
    int why = n < 0 ? call_failed(way->relay, way->from, (int)n) : 0;

    return n < 0 && !why ? -EAGAIN : n < 0 ? why : n;
}

static int wait_output(struct relay_way *way)
{
    struct io *io = &way->to->io;

    io->ready &= (uint8_t)~IO_WRITABLE;
    return after_wait(way->relay, io_wait_writable(io, idle_deadline(way->relay)));
}

/* Some of it, or an error; 0: to be tried again. */
static ssize_t write_some(struct relay_way *way, struct slice bytes)
{
    struct stream *to = way->to;
    struct iovec part = {(void *)(uintptr_t)bytes.ptr, bytes.len};
    ssize_t n = is_socket(to) ? send(to->io.fd, bytes.ptr, bytes.len, MSG_NOSIGNAL)
                              : stream_write(to, &part, 1, idle_deadline(way->relay));

    if (n >= 0)
        return n;
    if (!is_socket(to))
        return call_failed(way->relay, to, (int)n);
    if (errno == EINTR)
        return 0;
    return errno == EAGAIN ? wait_output(way) : broke(way->relay, to, -errno);
}

static int write_bytes(struct relay_way *way, struct slice bytes)
{
    while (bytes.len) {
        ssize_t n = write_some(way, bytes);

        if (n < 0) {
            way->cut = true;
            return (int)n;
        }
        if (n > 0)
            moved(way, (size_t)n);
        slice_drop(&bytes, (size_t)n);
    }
    return 0;
}

static void begin_bulk(struct relay_way *way)
{
    if (!splice_possible(way->from, way->to))
        return;
    way->bulk = true;
    way->small_moves = 0;
    way->run = 0;
    way->other_bytes = other_way(way)->bytes;
}

/* 1, 0 at the end, or why this way must end. */
static int move_block(struct relay_way *way)
{
    int error = wait_input(way);
    char *block;
    ssize_t n;

    if (error)
        return error;
    block = slab_take();
    if (!block)
        return -ENOMEM;
    n = is_socket(way->from) ? read_socket(way, block) : read_other(way, block);
    if (n > 0)
        error = write_bytes(way, slice_of(block, (size_t)n));
    slab_give(block);
    if (n <= 0)
        return n == -EAGAIN ? 1 : (int)n;
    if (n == SLAB_BYTES)
        begin_bulk(way);
    return error ? error : 1;
}

/* ---- a way: in bulk ------------------------------------------------------------------------------------------- */

static void set_low_water(struct relay_way *way, size_t n)
{
    if (way->low_water != n)
        splice_low_water(way->from, n);
    way->low_water = n;
}

static void leave_bulk(struct relay_way *way)
{
    set_low_water(way, 1);
    way->bulk = false;
}

/* For what there is to read, or for a moment until it is as much as we would like. */
static int wait_bulk(struct relay_way *way)
{
    struct relay *relay = way->relay;
    uint64_t moment_us = loop_deadline(GATHER_US), idle_us = idle_deadline(relay);
    int error;

    if (way->low_water == 1)
        return wait_input(way);
    error = io_wait_readable(&way->from->io, moment_us < idle_us ? moment_us : idle_us);
    if (error == -ETIMEDOUT) { /* what there is, at once */
        set_low_water(way, 1);
        way->run = 0;
        way->run_min = way->run_min < RUN_MIN_MAX ? 2 * way->run_min : RUN_MIN_MAX;
    }
    return after_wait(relay, error);
}

/* Whether to wait for more next time, after n bytes that came at once. */
static void judge_run(struct relay_way *way, size_t n)
{
    uint64_t other_bytes = other_way(way)->bytes;

    if (other_bytes != way->other_bytes) { /* they take turns */
        way->other_bytes = other_bytes;
        way->run = 0;
        set_low_water(way, 1);
        return;
    }
    way->run += n;
    if (way->run >= way->run_min)
        set_low_water(way, GATHER_BYTES);
}

static int empty_pipe(struct relay_way *way, struct splice_pipe *pipe)
{
    while (pipe->held) {
        ssize_t n = splice_out_now(pipe, way->to);
        int error = 0;

        if (n > 0)
            moved(way, (size_t)n);
        else
            error = n == -EAGAIN ? wait_output(way) : broke(way->relay, way->to, (int)n);
        if (error) {
            way->cut = true;
            return error;
        }
    }
    return 0;
}

/* As move_block. */
static int move_bulk(struct relay_way *way)
{
    struct splice_pipe pipe;
    int error = wait_bulk(way);
    ssize_t n;

    if (error)
        return error;
    if (splice_pipe_take(&pipe) != 0) {
        leave_bulk(way);
        return 1;
    }
    n = splice_in_now(&pipe, way->from, MOVE_BYTES);
    if (n > 0)
        error = empty_pipe(way, &pipe);
    splice_pipe_give(&pipe);
    if (n <= 0)
        return n == -EAGAIN ? 1 : n < 0 ? broke(way->relay, way->from, (int)n) : 0;
    if (error)
        return error;
    way->small_moves = n < BULK_BYTES_MIN ? way->small_moves + 1 : 0;
    if (way->small_moves == SMALL_MOVES_MAX)
        leave_bulk(way);
    else
        judge_run(way, (size_t)n);
    if (n >= TURN_BYTES)
        error = after_wait(way->relay, fiber_yield());
    return error ? error : 1;
}

/* ---- a way, from beginning to end ----------------------------------------------------------------------------- */

static int move_all(struct relay_way *way)
{
    int result = write_bytes(way, way->pending);

    release_pending(way);
    if (result)
        return result;
    do
        result = way->bulk ? move_bulk(way) : move_block(way);
    while (result > 0);
    return result;
}

/* Whoever has ended its way may still break its connection, and nobody reads there to find out. */
static void watch_ended(struct relay_way *way)
{
    struct relay *relay = way->relay;
    struct io *io = &way->from->io;
    int broken = 0, error = 0;
    socklen_t len = sizeof broken;

    while (!error && !broken && !relay->why && !other_way(way)->ended) {
        io->ready &= (uint8_t)~IO_READABLE;
        error = io_wait_readable(io, NEVER);
        if (!error && io->ready & IO_READABLE)
            getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &broken, &len);
    }
    if (broken)
        broke(relay, way->from, -broken);
    if (broken || error)
        stop(relay, error);
}

static void run_way(void *arg)
{
    struct relay_way *way = arg;
    struct relay_way *other = other_way(way);
    int error = move_all(way);

    if (error || way->relay->why) { /* the end of an aborted stream is none */
        stop(way->relay, error);
        return;
    }
    way->ended = true;
    stream_shut_down(way->to);
    if (other->ended)
        fiber_wake(other->fiber);
    else if (is_socket(way->from))
        watch_ended(way);
}

static void init_way(struct relay_way *way, struct relay *relay, struct stream *from, struct stream *to)
{
    *way = (struct relay_way){.from = from, .to = to, .relay = relay, .low_water = 1, .run_min = RUN_MIN};
}

void relay_init(struct relay *relay, struct stream *client, struct stream *server)
{
    init_way(&relay->up, relay, client, server);
    init_way(&relay->down, relay, server, client);
    relay->broken = NULL;
    relay->idle_us = relay->last_us = 0;
    relay->why = 0;
}

int relay_run(struct relay *relay, uint64_t idle_us)
{
    struct relay_way *up = &relay->up, *down = &relay->down;

    up->from->io.on_input = down->from->io.on_input = NULL; /* the end of one way is not the end */
    relay->last_us = loop_now_us();
    relay->idle_us = idle_us > NEVER / 2 ? 0 : idle_us;
    up->fiber = fiber_self();
    down->fiber = fiber_spawn("relay", run_way, down);
    if (down->fiber) {
        run_way(up);
        if (fiber_join(down->fiber, NEVER) != 0) {
            stop(relay, -ECANCELED);
            fiber_cancel_and_join(down->fiber);
        }
    } else {
        relay->why = -ENOMEM;
        up->cut = down->cut = true;
        release_pending(up);
        release_pending(down);
    }
    pass_on_breaks(relay);
    return relay->why;
}
