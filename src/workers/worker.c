/* worker.c - see worker.h. The story of a worker is worker_main, of one of its processes worker_run_process. */
#include "workers/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/log.h"
#include "workers/backoff.h"
#include "workers/crew.h"

/* Who has run for so long did not fail at its start. */
#define STEADY_US (10 * US_PER_S)
/* How often it is looked at whether one that is to stop has finished. */
#define FINISH_US (20 * US_PER_MS)
/* What a process that has ended wrote is read within that; one that it left behind may keep the pipe open. */
#define LAST_WORDS_US US_PER_S
/* A message is taken back so long before the queue would, at most. */
#define SPARE_US (200 * US_PER_MS)
#define READ_BYTES 8192

static const char *const phases[WORKER_PHASES] = {
    [WORKER_STARTING] = "starting",
    [WORKER_IDLE] = "idle",
    [WORKER_BUSY] = "busy",
    [WORKER_DRAINING] = "draining",
    [WORKER_BACKING_OFF] = "backing-off",
};

const char *worker_phase_name(enum worker_phase phase)
{
    return phases[phase];
}

const struct config_workers *worker_section(const struct worker *worker)
{
    const struct crew *crew = worker->crew;

    return worker->epoch == crew->epoch ? crew->section : worker->section;
}

static const struct worker_feed *feed_of(const struct worker *worker)
{
    return worker_feed_of(worker_section(worker)->kind);
}

/* ---- how it is --------------------------------------------------------------------------------------------------- */

static enum worker_phase phase_of(const struct worker *worker)
{
    if (worker->stopping)
        return WORKER_DRAINING;
    if (worker->backs_off)
        return WORKER_BACKING_OFF;
    if (!worker->sight.ready)
        return WORKER_STARTING;
    return worker->sight.in_flight ? WORKER_BUSY : WORKER_IDLE;
}

void worker_look(struct worker *worker)
{
    enum worker_phase phase;

    worker->sight = (struct feed_sight){0};
    if (worker->feeding)
        feed_of(worker)->look(worker, &worker->sight);
    phase = phase_of(worker);
    if (phase != worker->phase)
        worker->since_us = clock_wall_us();
    worker->phase = phase;
}

void worker_say(void *arg, struct slice line)
{
    const struct worker *worker = arg;

    log_info("workers %s/%u: %.*s", worker->crew->name, worker->number, SLICE_ARG(line));
}

/* An event the first time, and then ever more rarely, so that one that fails for ever leaves room for others. */
void worker_failed(struct worker *worker, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(worker->reason, sizeof worker->reason, format, args);
    va_end(args);
    worker->failures++;
    worker->crew->crashes++;
    worker->backs_off = true;
    if ((worker->failures & (worker->failures - 1)) == 0)
        event_say(EVENT_WORKER_FAILED, SLICE(""), SLICE(""), "workers %s/%u: %s", worker->crew->name,
                  worker->number, worker->reason);
    else
        log_warning("workers %s/%u: %s", worker->crew->name, worker->number, worker->reason);
}

/* ---- what it writes ---------------------------------------------------------------------------------------------- */

struct reading {
    struct worker *worker;
    struct io io;
};

/* One read. False: nothing more comes. */
static bool read_some(struct reading *r)
{
    char bytes[READ_BYTES];
    struct output *output = &r->worker->output;
    ssize_t n = read(r->io.fd, bytes, sizeof bytes);
    int error;

    if (n > 0) {
        output_take(output, slice_of(bytes, (size_t)n), loop_now_us());
        return fiber_yield() == 0;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        return false;
    r->io.ready &= (uint8_t)~IO_READABLE;
    error = io_wait_readable(&r->io, output_tick(output, loop_now_us()));
    return !error || error == -ETIMEDOUT;
}

/* Until all who have the other end have closed it, or it is cancelled. */
static void output_main(void *arg)
{
    struct worker *worker = arg;
    struct reading r = {.worker = worker};

    if (io_watch(&r.io, worker->output_fd, IO_READABLE, false) == 0) {
        while (read_some(&r))
            ;
        io_forget(&r.io);
    }
    output_end(&worker->output, loop_now_us());
    close(worker->output_fd);
}

/* ---- its process ------------------------------------------------------------------------------------------------- */

void worker_environment(const struct worker *worker, struct environment *environment)
{
    const struct config_workers *section = worker_section(worker);
    const struct config_admin *admin = worker->crew->config->admin;
    struct endpoint endpoint;
    char text[ADDRESS_TEXT_MAX];

    environment_add(environment, "MAITRED_WORKER", "%s", section->name);
    environment_add(environment, "MAITRED_WORKER_NUMBER", "%u", worker->number);
    environment_add(environment, "MAITRED_QUEUE", "%s", section->queue->name);
    environment_add(environment, "MAITRED_SLOTS", "%u", section->slots);
    if (!admin || admin->address.kind == ADDRESS_UNIX)
        return;
    if (admin->address.kind == ADDRESS_NAME) {
        environment_add(environment, "MAITRED_ADMIN", "http://%s:%u", admin->address.host,
                        admin->address.port);
        return;
    }
    endpoint_from_address(&endpoint, &admin->address, false);
    endpoint_text(&endpoint, text);
    environment_add(environment, "MAITRED_ADMIN", "http://%s", text);
}

static const char *advice(int error)
{
    switch (error) {
    case -ENOENT:
        return "; is it where the command says, from the folder that maitred was started in, and is what its "
               "#! names there?";
    case -EACCES:
        return "; make it executable, and let the user that maitred runs as read it";
    default:
        return "";
    }
}

/* Both ends of its output; *fiber reads. 0 or a negative errno. */
static int open_output(struct worker *worker, int *end, struct fiber **fiber)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) != 0)
        return -errno;
    fcntl(ends[0], F_SETFL, O_NONBLOCK); /* the worker's end blocks, as programs expect */
    worker->output_fd = ends[0];
    if (!worker->output.say) /* what is left out counts for all its processes */
        output_init(&worker->output, worker_say, worker, loop_now_us());
    *fiber = fiber_spawn("worker's output", output_main, worker);
    if (*fiber) {
        *end = ends[1];
        return 0;
    }
    close(ends[0]);
    close(ends[1]);
    return -ENOMEM;
}

int worker_start_process(struct worker *worker, const struct environment *environment, int input,
                         struct fiber **output)
{
    int end = -1, error = open_output(worker, &end, output);
    char name[PROCESS_NAME_MAX];
    struct process_options options = {.name = name,
                                      .words = worker_section(worker)->command.words,
                                      .environment = environment,
                                      .unwanted = &worker->stopping};

    if (error)
        return error;
    snprintf(name, sizeof name, "workers %s/%u", worker->crew->name, worker->number);
    options.fds[0] = input;
    options.fds[1] = options.fds[2] = end;
    error = process_start(&worker->process, worker->crew->owner->keeper, &options);
    close(end);
    return error;
}

static uint64_t sooner(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static bool runs(const struct worker *worker)
{
    return worker->process.state == PROCESS_RUNS;
}

static bool has_finished(struct worker *worker)
{
    worker_look(worker);
    return worker->sight.stopped && !worker->sight.in_flight;
}

bool worker_end_process(struct worker *worker)
{
    uint64_t deadline_us = loop_deadline(worker->crew->section->stop_timeout_us);

    while (runs(worker) && !worker->hurry && loop_now_us() < sooner(deadline_us, worker->deadline_us) &&
           !has_finished(worker))
        fiber_park(loop_now_us() + FINISH_US);
    if (!runs(worker))
        return false;
    process_signal(&worker->process, SIGTERM);
    deadline_us = loop_deadline(worker->crew->section->stop_timeout_us);
    while (runs(worker) && !worker->hurry && loop_now_us() < sooner(deadline_us, worker->kill_us))
        fiber_park(sooner(deadline_us, worker->kill_us));
    if (!runs(worker))
        return true;
    worker->crew->kills++;
    event_say(EVENT_WORKER_KILLED, SLICE(""), SLICE(""), "workers %s/%u: killed, as it did not end in time",
              worker->crew->name, worker->number);
    process_signal(&worker->process, SIGKILL);
    process_await(&worker->process, PROCESS_RUNS);
    return true;
}

uint64_t worker_message_us(const struct config_workers *section)
{
    uint64_t timeout_us = section->queue->ack_timeout_us, spare_us = timeout_us / 20;

    return timeout_us - (spare_us < SPARE_US ? spare_us : SPARE_US);
}

static void note_end(struct worker *worker)
{
    bool steady = loop_now_us() - worker->started_us >= STEADY_US;
    char how[64];

    if (steady)
        worker->failures = 0;
    process_status_text(worker->process.status, how);
    if (steady && worker->process.status == 0)
        log_info("workers %s/%u: ended by itself, and is started again", worker->crew->name, worker->number);
    else
        worker_failed(worker, "ended after %.1f s: %s",
                      (double)(loop_now_us() - worker->started_us) / US_PER_S, how);
}

static void await_process(struct worker *worker)
{
    worker->crew->starts++;
    worker->started_us = loop_now_us();
    if (feed_of(worker)->started)
        feed_of(worker)->started(worker);
    while (runs(worker) && !worker->stopping)
        fiber_park(NEVER);
    if (worker->stopping)
        worker_end_process(worker);
    else
        note_end(worker);
}

void worker_close_feed(struct worker *worker)
{
    worker_look(worker);
    worker->handled += worker->sight.handled;
    worker->crew->handled += worker->sight.handled;
    worker->crew->busy_us += worker->sight.busy_us;
    worker->feeding = false;
    worker->sight = (struct feed_sight){0};
    feed_of(worker)->close(worker);
}

void worker_start_failed(struct worker *worker, int error)
{
    if (error == -EPIPE ||
        error == -ECANCELED) /* the keeper was lost, or it was told to stop: none of its doing */
        return;
    worker->crew->starts++;
    worker_failed(worker, "%s cannot be started: %s%s", worker_section(worker)->command.words[0],
                  strerror(-error), advice(error));
}

void worker_end_output(struct fiber *output)
{
    if (output && fiber_join(output, loop_deadline(LAST_WORDS_US)) != 0)
        fiber_cancel_and_join(output);
}

static void run_fed(struct worker *worker, const struct environment *environment)
{
    struct fiber *output = NULL;
    int error = worker_start_process(worker, environment, -1, &output);

    if (!error)
        await_process(worker);
    else
        worker_start_failed(worker, error);
    worker_end_output(output);
}

void worker_run_process(struct worker *worker)
{
    struct environment *environment = calloc(1, sizeof *environment);
    int error = environment ? feed_of(worker)->open(worker, environment) : -ENOMEM;

    if (!error) {
        worker_environment(worker, environment);
        worker->feeding = true;
        if (worker->stopping)
            feed_of(worker)->stop(worker);
        else
            run_fed(worker, environment);
        worker_close_feed(worker);
    } else {
        worker_failed(worker, "cannot be given messages: %s", strerror(-error));
    }
    free(environment);
}

/* ---- its life ---------------------------------------------------------------------------------------------------- */

static void back_off(struct worker *worker)
{
    uint64_t until_us = loop_now_us() + backoff_us(worker->failures, &worker->crew->owner->rng);

    while (!worker->stopping && loop_now_us() < until_us)
        fiber_park(until_us);
    worker->backs_off = false;
}

static void worker_main(void *arg)
{
    struct worker *worker = arg;

    while (!worker->stopping) {
        feed_of(worker)->run(worker);
        if (worker->backs_off && !worker->stopping)
            back_off(worker);
        worker->restarts += !worker->stopping;
    }
    worker->done = true;
    workers_wake(worker->crew->owner);
}

struct worker *worker_create(struct crew *crew, unsigned number)
{
    struct worker *worker = calloc(1, sizeof *worker);

    if (!worker)
        return NULL;
    worker->crew = crew;
    worker->number = number;
    worker->epoch = crew->epoch;
    worker->config = config_ref(crew->config);
    worker->section = crew->section;
    worker->phase = WORKER_STARTING;
    worker->since_us = clock_wall_us();
    worker->fiber = fiber_spawn("worker", worker_main, worker);
    if (worker->fiber)
        return worker;
    config_unref(worker->config);
    free(worker);
    return NULL;
}

void worker_free(struct worker *worker)
{
    fiber_join(worker->fiber, NEVER);
    config_unref(worker->config);
    free(worker);
}

void worker_stop(struct worker *worker, uint64_t deadline_us, uint64_t kill_us)
{
    bool again = worker->stopping;

    worker->deadline_us = again ? sooner(worker->deadline_us, deadline_us) : deadline_us;
    worker->kill_us = again ? sooner(worker->kill_us, kill_us) : kill_us;
    worker->stopping = true;
    if (worker->feeding && !again)
        feed_of(worker)->stop(worker);
    worker_look(worker);
    fiber_wake(worker->fiber);
}

void worker_hurry(struct worker *worker)
{
    worker->hurry = true;
    worker_stop(worker, 0, 0);
}
