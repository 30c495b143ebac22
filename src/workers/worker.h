/* worker.h - one place for a worker: its process from start to end, again and again, until it is told to stop.
 *
 * Its fiber is never cancelled: worker_stop and worker_hurry are how it ends. A worker that is told to stop is given nothing more,
 * finishes what it has within stop-timeout, gets SIGTERM then, and SIGKILL once stop-timeout is over again. One that ends without
 * having been told to is started again after a back-off that grows (backoff.h); at once, where it had run for a while and its exit
 * code was 0. What it writes goes to the log (output.h).
 * Threads: the control thread's. */
#ifndef WORKERS_WORKER_H
#define WORKERS_WORKER_H

#include "workers/feed.h"
#include "workers/output.h"
#include "workers/process.h"

struct config_workers;
struct crew;

enum worker_phase {
    WORKER_STARTING,    /* not ready for a message yet */
    WORKER_IDLE,        /* ready, without one */
    WORKER_BUSY,        /* has one */
    WORKER_DRAINING,    /* to stop */
    WORKER_BACKING_OFF, /* it failed, and is started again in a while */
    WORKER_PHASES
};

#define WORKER_REASON_MAX 200

struct worker {
    struct list list; /* the crew's, the oldest first */
    struct crew *crew;
    unsigned number;                      /* from 1 */
    uint64_t epoch;                       /* the crew's, when it was started */
    const struct config *config;          /* reference; what was in force then */
    const struct config_workers *section; /* in it */
    struct fiber *fiber;
    enum worker_phase phase; /* as of the last worker_look */
    uint64_t since_us;       /* wall time; of the phase */
    bool backs_off, stopping, hurry, done;
    bool feeding;            /* fed is there */
    void *fed;               /* the feed's */
    struct feed_sight sight; /* as of the last worker_look; zeros where it is not fed */
    struct process process;
    unsigned port;       /* of a service; 0: none */
    uint64_t started_us; /* monotonic; of its process */
    uint64_t handled;    /* by processes before */
    unsigned restarts;
    unsigned failures;              /* in a row */
    char reason[WORKER_REASON_MAX]; /* of the last failure; "": none yet */
    uint64_t deadline_us;           /* of a stop: SIGTERM is sent by then; SIGKILL by kill_us */
    uint64_t kill_us;
    struct output output;
    int output_fd; /* while it is read */
};

/* NULL: no memory. */
struct worker *worker_create(struct crew *crew, unsigned number);
/* It is done. */
void worker_free(struct worker *worker);
/* Brings sight, phase and since up to date. */
void worker_look(struct worker *worker);
/* Once; until then it is given nothing more. Monotonic times; NEVER: by stop-timeout alone. */
void worker_stop(struct worker *worker, uint64_t deadline_us, uint64_t kill_us);
/* It is stopped, and killed at once. */
void worker_hurry(struct worker *worker);
const char *worker_phase_name(enum worker_phase phase);

/* ---- for feeds ---- */

/* By which its processes are started: of its own epoch, so that those that are to be replaced are not changed by that. */
const struct config_workers *worker_section(const struct worker *worker);

/* What a run of a feed's own is made of; worker_run_process has them in this order.
 * Starts its process, with input as its standard input (-1: there is none); *output is to be given to worker_end_output, whatever
 * it returns. 0, or as process_start. */
int worker_start_process(struct worker *worker, const struct environment *environment, int input,
                         struct fiber **output);
/* It did not start. */
void worker_start_failed(struct worker *worker, int error);
/* It was told to stop: returns once its process has ended. False: by itself, before it was sent a signal. */
bool worker_end_process(struct worker *worker);
/* How long it may have a message: a little less than the queue allows, so that it is ended before the message is somebody else's.
 * 0: for ever. */
uint64_t worker_message_us(const struct config_workers *section);
/* What it wrote last is read. NULL: nothing to do. */
void worker_end_output(struct fiber *output);
/* It is not fed any more: what it has handled is the crew's from now on. */
void worker_close_feed(struct worker *worker);

/* A feed's run: a process that lives for many messages. */
void worker_run_process(struct worker *worker);
/* What every process is told, whatever it is. */
void worker_environment(const struct worker *worker, struct environment *environment);
/* It ended, or did not start, without having been told to stop: a back-off follows. */
void worker_failed(struct worker *worker, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A line of the log that says of whom it is. */
void worker_say(void *worker, struct slice line);

#endif
