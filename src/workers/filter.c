/* filter.c - workers that are a process per message: its body is their standard input, exit code 0 acknowledges it.
 *
 * A place takes one message at a time. What a process does with a message is the message's fate, not the place's: only one that
 * cannot be started makes the place back off, and its message goes back without an attempt. A body is written as fast as it is
 * read, by a fiber of its own; who closes its input early has read enough.
 * Threads: the control thread's. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/log.h"
#include "front/push_fields.h"
#include "queue/body.h"
#include "wire/http1.h"
#include "workers/crew.h"
#include "workers/worker.h"

/* How long to wait before another try to subscribe. */
#define SUBSCRIBE_US (100 * US_PER_MS)
#define FIELD_BYTES_MAX 1024u
/* A place whose message the queue gave up, and whose process cannot be ended, is given nothing for so long; and once more. */
#define HOLD_US US_PER_S

/* Lives for one run. */
struct filter {
    struct worker *worker;
    struct queue_consumer *consumer;
    struct queue_delivery *delivery; /* at work, or about to be; NULL: none */
    uint64_t since_us;               /* it came */
    uint64_t handled, busy_us;
    int input; /* the end of a pipe that we write; -1: closed */
};

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static void settle(struct filter *f, enum queue_verdict verdict)
{
    f->busy_us += loop_now_us() - f->since_us;
    f->handled += verdict != VERDICT_RETURN;
    queue_settle(f->delivery, verdict);
    f->delivery = NULL;
}

/* Not in a fiber. */
static void take(void *arg, struct queue_delivery *delivery)
{
    struct filter *f = arg;

    if (f->worker->stopping || f->delivery) {
        delivery->delay_us = 0;
        delivery->hold_us = HOLD_US;
        queue_settle(delivery, VERDICT_RETURN);
        return;
    }
    f->delivery = delivery;
    f->since_us = loop_now_us();
    fiber_wake(f->worker->fiber);
}

/* A long one is left out: it would leave no room for what a process has to know. */
static void add_field(struct environment *environment, const char *name, const struct http_fields *fields,
                      const char *field_name)
{
    const struct http_field *field = http_field_find(fields, slice_from_text(field_name));

    if (field && field->value.len <= FIELD_BYTES_MAX)
        environment_add(environment, name, "%.*s", SLICE_ARG(field->value));
}

static int describe(const struct filter *f, struct environment *environment)
{
    const struct queue_delivery *d = f->delivery;
    const struct message *m = &d->message;
    struct crew *crew = f->worker->crew;
    struct arena arena = {0};
    struct http_fields fields;
    bool ok = push_fields(&arena, crew->owner->port, worker_section(f->worker)->queue->name, d, &fields);

    worker_environment(f->worker, environment);
    environment_add(environment, "MAITRED_ATTEMPT", "%u", d->attempt);
    environment_add(environment, "MAITRED_REDELIVERED", "%d", d->redelivered);
    environment_add(environment, "MAITRED_BODY_BYTES", "%llu",
                    (unsigned long long)(m->stored.id ? m->stored.bytes : m->body.len));
    if (ok) {
        add_field(environment, "MAITRED_MESSAGE_ID", &fields, "Maitred-Message-Id");
        add_field(environment, "CONTENT_TYPE", &fields, "Content-Type");
    }
    arena_free(&arena);
    return ok ? 0 : -ENOMEM;
}

/* ---- its input --------------------------------------------------------------------------------------------------- */

static void close_input(struct filter *f)
{
    if (f->input >= 0)
        close(f->input);
    f->input = -1;
}

/* False: nobody reads any more, or it was cancelled. */
static bool write_piece(struct io *io, struct slice piece)
{
    while (piece.len) {
        ssize_t n = write(io->fd, piece.ptr, piece.len);

        if (n >= 0)
            slice_drop(&piece, (size_t)n);
        if (n >= 0 ? fiber_yield() != 0 : errno != EAGAIN && errno != EINTR)
            return false;
        if (n >= 0)
            continue;
        io->ready &= (uint8_t)~IO_WRITABLE;
        if (io_wait_writable(io, NEVER) != 0)
            return false;
    }
    return true;
}

/* A body that has a file. 0; -ECANCELED; otherwise what comes of it cannot be believed. */
static int write_stored(struct filter *f, struct io *io)
{
    struct queue_reader *reader =
        queue_reader_create(f->worker->crew->owner->port, &f->delivery->body, false);
    struct slice piece;
    int result;

    if (!reader)
        return -ENOMEM;
    while ((result = queue_reader_next(reader, &piece)) == 1)
        if (!write_piece(io, piece))
            break;
    if (result != -ECANCELED)
        queue_reader_free(reader);
    return result < 0 ? result : 0;
}

static int write_body(struct filter *f)
{
    struct io io = {0};
    int error = io_watch(&io, f->input, IO_WRITABLE, false);

    if (error)
        return error;
    if (f->delivery->message.stored.id)
        error = write_stored(f, &io);
    else
        write_piece(&io, f->delivery->message.body);
    io_forget(&io);
    return error;
}

/* A process that could not be given all of its body is ended, and never sees an end that it could take for the body's. */
static void input_main(void *arg)
{
    struct filter *f = arg;
    const struct worker *worker = f->worker;
    int error = write_body(f);

    if (error && error != -ECANCELED) {
        log_line(LOG_ERROR, "workers %s/%u: the body of message %llu of queue %s cannot be read: %s",
                 worker->crew->name, worker->number, (unsigned long long)f->delivery->ref.number,
                 worker_section(worker)->queue->name, strerror(-error));
        process_signal(&f->worker->process, SIGKILL);
        return; /* the end of its input would come before the signal: it stays open until the process has ended */
    }
    close_input(f);
}

/* ---- its process ------------------------------------------------------------------------------------------------- */

static bool runs(const struct filter *f)
{
    return f->worker->process.state == PROCESS_RUNS;
}

static void kill_late(struct worker *worker)
{
    worker->crew->kills++;
    event_say(EVENT_WORKER_KILLED, SLICE(""), SLICE(""),
              "workers %s/%u: killed, as it had its message for as long as the queue's ack-timeout",
              worker->crew->name, worker->number);
    process_signal(&worker->process, SIGKILL);
    process_await(&worker->process, PROCESS_RUNS);
}

/* One that was sent a signal may end with 0 because of it, and in the middle of its message. */
static enum queue_verdict judge(const struct filter *f, bool ended_by_us)
{
    struct worker *worker = f->worker;
    char how[64], line[128];
    int n;

    if (worker->process.status == 0 && !ended_by_us)
        return VERDICT_ACK;
    if (worker->process.lost)
        return VERDICT_RETURN;
    process_status_text(worker->process.status, how);
    if (ended_by_us)
        n = snprintf(line, sizeof line, "%s, after it was told to stop: its message waits again\n", how);
    else
        n = snprintf(line, sizeof line, "%s: attempt %u at its message failed\n", how, f->delivery->attempt);
    output_take(&worker->output, slice_of(line, (size_t)n), loop_now_us());
    return ended_by_us ? VERDICT_RETURN : VERDICT_RETRY;
}

static enum queue_verdict await_process(struct filter *f)
{
    struct worker *worker = f->worker;
    uint64_t timeout_us = worker_message_us(worker_section(worker));
    uint64_t deadline_us = timeout_us ? f->since_us + timeout_us : NEVER;
    bool ended_by_us = false;

    while (runs(f) && !worker->stopping && loop_now_us() < deadline_us)
        fiber_park(deadline_us);
    if (runs(f) && worker->stopping) {
        if (worker->deadline_us > deadline_us)
            worker->deadline_us = deadline_us;
        if (worker->kill_us > deadline_us)
            worker->kill_us = deadline_us;
        ended_by_us = worker_end_process(worker);
    } else if (runs(f)) {
        kill_late(worker);
    }
    worker->failures = 0;
    return judge(f, ended_by_us);
}

/* Settles its message as soon as it has ended: whoever it has left behind may keep its output open. */
static void run_process(struct filter *f, const struct environment *environment, int end)
{
    struct fiber *output = NULL, *input = NULL;
    enum queue_verdict verdict = VERDICT_RETURN;
    int error = worker_start_process(f->worker, environment, end, &output);

    close(end);
    if (!error) {
        f->worker->crew->starts++;
        f->worker->started_us = loop_now_us();
        input = fiber_spawn("filter's input", input_main, f);
        if (!input)
            process_signal(&f->worker->process, SIGKILL);
        verdict = await_process(f);
    } else {
        worker_start_failed(f->worker, error);
    }
    if (input)
        fiber_cancel_and_join(input);
    close_input(f);
    settle(f, verdict);
    worker_end_output(output);
}

/* Its end blocks, as programs expect. */
static int open_input(struct filter *f, int *end)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) != 0)
        return -errno;
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    *end = ends[0];
    f->input = ends[1];
    return 0;
}

static void handle(struct filter *f)
{
    struct environment *environment = calloc(1, sizeof *environment);
    int end = -1, error = environment ? describe(f, environment) : -ENOMEM;

    if (!error)
        error = open_input(f, &end);
    if (error) {
        worker_start_failed(f->worker, error);
        settle(f, VERDICT_RETURN);
    } else {
        run_process(f, environment, end);
    }
    free(environment);
}

/* ---- a feed ------------------------------------------------------------------------------------------------------ */

/* 0; -ECANCELED: it was told to stop before. */
static int subscribe(struct filter *f)
{
    struct queue_consumer_options options = {.prefetch = 1, .deliver = take, .arg = f};
    struct crew *crew = f->worker->crew;

    while (!f->worker->stopping) {
        if (queue_subscribe(crew->owner->port, slice_from_text(worker_section(f->worker)->queue->name),
                            &options, &f->consumer) == 0)
            return 0;
        fiber_park(loop_now_us() + SUBSCRIBE_US);
    }
    return -ECANCELED;
}

static int try_program(const char *path)
{
    struct stat is;

    if (stat(path, &is) != 0)
        return -errno;
    return S_ISREG(is.st_mode) && access(path, X_OK) == 0 ? 0 : -EACCES;
}

/* Whether a process could be started, as exec would look: no message is taken for a program that is not there. */
static int find_program(const char *name)
{
    const char *path_list = getenv("PATH");
    struct slice folders = slice_from_text(path_list ? path_list : "/bin:/usr/bin"), folder;
    int error = -ENOENT;

    if (strchr(name, '/'))
        return try_program(name);
    while (error && slice_next_part(&folders, ':', &folder)) {
        char path[PATH_MAX];

        if (snprintf(path, sizeof path, "%.*s/%s", SLICE_ARG(folder), name) < (int)sizeof path)
            error = try_program(path);
    }
    return error;
}

static void filter_run(struct worker *worker)
{
    struct filter f = {.worker = worker, .input = -1};
    int error = find_program(worker_section(worker)->command.words[0]);

    if (error) {
        worker_start_failed(worker, error);
        return;
    }
    if (subscribe(&f) != 0)
        return;
    worker->fed = &f;
    worker->feeding = true;
    while (!worker->backs_off && (f.delivery || !worker->stopping)) {
        if (f.delivery && !worker->stopping)
            handle(&f);
        else if (f.delivery)
            settle(&f, VERDICT_RETURN);
        else
            fiber_park(NEVER);
    }
    worker_close_feed(worker);
}

static void filter_look(const struct worker *worker, struct feed_sight *sight)
{
    const struct filter *f = worker->fed;

    *sight = (struct feed_sight){
        .ready = true,
        .stopped = worker->stopping,
        .in_flight = f->delivery != NULL,
        .handled = f->handled,
        .busy_us = f->busy_us + (f->delivery ? loop_now_us() - f->since_us : 0),
    };
}

static void filter_stop(struct worker *worker)
{
    struct filter *f = worker->fed;

    queue_consumer_stop(f->consumer);
}

static void filter_close(struct worker *worker)
{
    struct filter *f = worker->fed;

    queue_unsubscribe(f->consumer);
    worker->fed = NULL;
}

const struct worker_feed filter_feed = {
    .run = filter_run,
    .look = filter_look,
    .stop = filter_stop,
    .close = filter_close,
};
