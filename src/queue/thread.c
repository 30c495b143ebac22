/* thread.c - see thread.h. */
#include "queue/thread.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/log.h"
#include "queue/thread_private.h"

/* What is appended and nobody waits for is synced after so long. */
#define REST_US US_PER_S
/* Of a sparse segment that much is looked at in a turn. */
#define COMPACT_BYTES (256u * 1024)

uint64_t queue_thread_now_us(const struct queue_thread *thread)
{
    return clock_monotonic_us() + thread->wall_offset_us;
}

void queue_thread_kick(struct queue_thread *thread)
{
    thread->due = true;
    if (thread->fiber)
        fiber_wake(thread->fiber);
}

/* ---- turns ------------------------------------------------------------------------------------------------------- */

static void confirm_batches(struct queue_thread *thread, bool failed)
{
    uint64_t durable = log_durable(thread->log), n = 0;
    struct queue_batch *batch;

    while ((batch = thread->batches.first) && (failed || batch->position < durable)) {
        thread->batches.first = batch->next;
        for (unsigned i = 0; i < batch->n_publications; i++) {
            struct queue_publication *p = &batch->publications[i];

            n += p->result == PUBLISH_OK;
            if (p->result == PUBLISH_OK && batch->position >= durable)
                p->result = PUBLISH_CLOSED;
        }
        mailbox_send(batch->port->home, &batch->mail);
    }
    counter_add(&thread->numbers.confirmed, n);
    if (!thread->batches.first)
        thread->batches.last = &thread->batches.first;
}

static void confirm(struct queue_thread *thread)
{
    bool failed = broker_failure(thread->broker) != NULL;
    uint64_t durable = log_durable(thread->log);
    struct queue_request *request;
    struct queue_job *job;

    while ((request = thread->published.first) && (failed || request->published.position < durable)) {
        thread->published.first = request->next;
        if (request->published.position < durable)
            counter_add(&thread->numbers.confirmed, 1);
        else
            request->result = PUBLISH_CLOSED;
        if (request->wants_answer && request->result == PUBLISH_OK)
            queue_thread_add_waiter(thread, request); /* before its thread may look at it */
        mailbox_send(request->port->home, &request->mail);
    }
    if (!thread->published.first)
        thread->published.last = &thread->published.first;
    confirm_batches(thread, failed);
    if (!log_is_durable(thread->log) && !failed)
        return;
    while ((job = thread->jobs.first)) {
        thread->jobs.first = job->next;
        mailbox_send(job->port->home, &job->mail);
    }
    thread->jobs.last = &thread->jobs.first;
}

static void note_failure(struct queue_thread *thread)
{
    const char *why = broker_failure(thread->broker);

    if (!why || atomic_load_explicit(&thread->numbers.failure, memory_order_relaxed))
        return;
    atomic_store_explicit(&thread->numbers.failure, why, memory_order_release);
    event_say(
        EVENT_LOG_FAILED, SLICE(""), SLICE(""),
        "the queue's log is closed for good, nothing more is accepted: %s; restart once the disk is well",
        why);
}

static void count_log(struct queue_thread *thread)
{
    struct queue_thread_numbers *n = &thread->numbers;
    struct log_numbers of_log;

    log_numbers(thread->log, &of_log);
    counter_add(&n->log_bytes, of_log.file_bytes - counter_get(&n->log_bytes));
    counter_add(&n->log_segments, of_log.segments - counter_get(&n->log_segments));
    counter_add(&n->syncs, of_log.commits - counter_get(&n->syncs));
    counter_add(&n->appended_bytes, of_log.appended_bytes - counter_get(&n->appended_bytes));
    counter_add(&n->turns, 1);
}

/* Whether somebody waits for the disk, or should not have to wait for longer. */
static bool must_commit(const struct queue_thread *thread, uint64_t now_us)
{
    return thread->published.first || thread->batches.first || thread->jobs.first ||
           broker_needs_commit(thread->broker) || thread->stopping ||
           (thread->unsynced_us && now_us - thread->unsynced_us >= REST_US);
}

/* What was written and not synced is not forgotten. */
static void note_unsynced(struct queue_thread *thread)
{
    if (!thread->unsynced_us && !log_is_durable(thread->log))
        thread->unsynced_us = clock_monotonic_us();
}

static void write_log(struct queue_thread *thread)
{
    uint64_t start_us = clock_monotonic_us();

    broker_flush(thread->broker);
    if (must_commit(thread, start_us)) {
        bool syncs = !log_is_durable(thread->log);

        log_commit(thread->log);
        if (syncs)
            histogram_add(&thread->numbers.commits, clock_monotonic_us() - start_us);
        thread->unsynced_us = 0;
    } else {
        log_write(thread->log);
        note_unsynced(thread);
    }
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

/* The key of messages' names is made once, and kept with the log. */
static int load_key(struct queue_thread *thread)
{
    struct storage_file *file;
    struct iovec part = {thread->key, sizeof thread->key};
    ssize_t n;
    int error = storage_open(thread->storage, QUEUE_KEY_FILE, true, &file);

    if (error)
        return error;
    n = storage_read(file, thread->key, sizeof thread->key, 0);
    if (n >= 0 && n < (ssize_t)sizeof thread->key) {
        if (getrandom(thread->key, sizeof thread->key, 0) != (ssize_t)sizeof thread->key)
            error = -EIO;
        if (!error)
            error = storage_write(file, &part, 1, 0);
        if (!error)
            error = storage_sync(file);
        if (!error)
            error = storage_sync_names(thread->storage);
    }
    storage_close(file);
    return n < 0 ? (int)n : error;
}

static int open_store(struct queue_thread *thread, struct log_report *report)
{
    const struct queue_thread_options *options = &thread->options;
    struct log_options of_log = {.segment_bytes = options->segment_bytes, .bytes_max = options->bytes_max};
    struct broker_options of_broker = {
        .events = &queue_thread_events, .arg = thread, .seed = clock_wall_us()};
    int error = storage_open_folder(&thread->storage, thread->folder);

    if (error)
        return error;
    of_log.storage = of_broker.storage = thread->storage;
    if (getrandom(&of_log.id, sizeof of_log.id, 0) != (ssize_t)sizeof of_log.id)
        of_log.id = clock_wall_us();
    error = load_key(thread);
    if (!error)
        error = log_open(&thread->log, &of_log, report);
    if (error)
        return error;
    of_broker.log = thread->log;
    of_broker.now_us = queue_thread_now_us(thread);
    return broker_open(&thread->broker, &of_broker, report);
}

static void close_store(struct queue_thread *thread)
{
    if (thread->broker)
        broker_close(thread->broker);
    if (thread->log)
        log_close(thread->log);
    if (thread->storage)
        storage_close_folder(thread->storage);
    thread->broker = NULL;
    thread->log = NULL;
    thread->storage = NULL;
}

/* What a log that is nearly empty leaves of bytes_max, less what a body's file takes beside its bytes. */
static uint64_t stored_max(const struct queue_thread *thread)
{
    uint64_t of_log = (uint64_t)LOG_SEGMENTS_LEAST * log_segment_bytes(thread->log),
             most = thread->options.bytes_max;

    if (!most)
        return UINT64_MAX;
    most = most > of_log ? most - of_log : 0;
    return most - most / (STORED_PIECE_BYTES / STORED_PIECE_OVERHEAD / 2);
}

/* 0, or a negative errno with why in thread. */
static int open_all(struct queue_thread *thread)
{
    struct log_report report = {0};
    int error = open_store(thread, &report);

    if (error) {
        snprintf(thread->why, sizeof thread->why, "state folder %s: %s", thread->folder,
                 error == -EBUSY  ? "another process has it open"
                 : report.text[0] ? report.text
                                  : strerror(-error));
        close_store(thread);
        return error;
    }
    if (report.cut_bytes)
        log_line(LOG_WARNING,
                 "queue: the log in %s ended in %llu bytes that were not written whole; they were cut off at "
                 "position "
                 "%llu; nothing that was confirmed is lost",
                 thread->folder, (unsigned long long)report.cut_bytes,
                 (unsigned long long)report.cut_position);
    if (broker_index_was_rebuilt(thread->broker))
        log_line(LOG_WARNING,
                 "queue: the index of waiting messages in %s did not verify; it was made anew from the log",
                 thread->folder);
    count_log(thread);
    counter_add(&thread->numbers.stored_max, stored_max(thread));
    counter_add(&thread->numbers.record_max, log_payload_max(thread->log));
    return 0;
}

/* How often to look whether the process before has let go of the log. */
#define LOCK_US (10 * US_PER_MS)

static void open_when_free(struct queue_thread *thread)
{
    const struct timespec pause = {.tv_nsec = LOCK_US * 1000};
    int error;

    while ((error = open_all(thread)) == -EBUSY && !atomic_load(&thread->stop_opening))
        nanosleep(&pause, NULL);
    if (!error)
        return;
    log_error("%s", thread->why);
    atomic_store_explicit(&thread->numbers.failure, thread->why, memory_order_release);
}

/* ---- the thread's life ------------------------------------------------------------------------------------------- */

static void turn(struct queue_thread *thread)
{
    thread->due = false;
    if (!thread->broker)
        return;
    write_log(thread);
    confirm(thread);
    note_failure(thread);
    broker_run(thread->broker, queue_thread_now_us(thread));
    queue_thread_run_late_jobs(thread);
    if (queue_thread_send_deliveries(thread))
        note_unsynced(thread);
    queue_thread_send_late_jobs(thread);
    if (!thread->stopping && broker_compact(thread->broker, COMPACT_BYTES))
        thread->due = true;
    queue_thread_start_helpers(thread);
    count_log(thread);
}

/* When there is to be a turn though no mail comes. */
static uint64_t next_turn_us(const struct queue_thread *thread)
{
    uint64_t next;

    if (!thread->broker)
        return NEVER;
    next = broker_next_us(thread->broker);
    if (broker_needs_commit(thread->broker))
        return 0;
    next = next == UINT64_MAX || next < thread->wall_offset_us ? next : next - thread->wall_offset_us;
    if (thread->unsynced_us && thread->unsynced_us + REST_US < next)
        next = thread->unsynced_us + REST_US;
    return next == UINT64_MAX ? NEVER : next;
}

static void turns_main(void *arg)
{
    struct queue_thread *thread = arg;

    thread->fiber = fiber_self();
    while (!thread->stopping) {
        turn(thread);
        while (!thread->due && !thread->stopping) {
            uint64_t next_us = next_turn_us(thread);

            if (next_us <= clock_monotonic_us() || fiber_park(next_us) == -ETIMEDOUT)
                break;
        }
        fiber_yield(); /* mail that came meanwhile goes into the next turn */
    }
    while (thread->sparing || thread->checkpointing || thread->removing)
        fiber_park(NEVER);
    turn(thread);
    thread->fiber = NULL;
}

/* In memory the same state can be had again from the log; a checkpoint makes the next start short. */
static void last_checkpoint(struct queue_thread *thread)
{
    struct broker_checkpoint *checkpoint;
    int error;

    if (!thread->broker)
        return;
    broker_flush(thread->broker);
    log_commit(thread->log);
    checkpoint = broker_checkpoint_begin(thread->broker);

    if (!checkpoint)
        return;
    error = broker_checkpoint_make(checkpoint);
    broker_checkpoint_end(thread->broker, checkpoint, error);
}

struct starting {
    struct queue_thread *thread;
    sem_t looping;
    int error;
};

static void *thread_main(void *arg)
{
    struct starting *starting = arg;
    struct queue_thread *thread = starting->thread;
    int error = loop_create(&thread->loop);

    if (!error) {
        fiber_catch_overflow();
        thread->mailbox = mailbox_ref(loop_mailbox(thread->loop));
        error = fiber_start("queue", turns_main, thread);
    }
    starting->error = error;
    sem_post(&starting->looping);
    if (error && thread->loop)
        loop_free(thread->loop);
    if (error)
        return NULL;
    if (thread->opens_later)
        open_when_free(thread);
    loop_run(thread->loop);
    loop_free(thread->loop);
    last_checkpoint(thread);
    return NULL;
}

int queue_thread_start(struct queue_thread *thread)
{
    struct starting starting = {.thread = thread};
    sigset_t all, before;
    int error;

    sem_init(&starting.looping, 0, 0);
    sigfillset(&all); /* signals are the control thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = -pthread_create(&thread->pthread, NULL, thread_main, &starting);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!error) {
        while (sem_wait(&starting.looping) != 0)
            ;
        error = starting.error;
        if (error)
            pthread_join(thread->pthread, NULL);
        thread->started = error == 0;
    }
    sem_destroy(&starting.looping);
    return error;
}

static struct queue_thread *create(const struct queue_thread_options *options)
{
    struct queue_thread *thread = calloc(1, sizeof *thread);

    if (!thread)
        return NULL;
    thread->wall_offset_us = clock_wall_us() - clock_monotonic_us();
    thread->published.last = &thread->published.first;
    thread->batches.last = &thread->batches.first;
    thread->jobs.last = &thread->jobs.first;
    thread->late_jobs.last = &thread->late_jobs.first;
    thread->deliveries.last = &thread->deliveries.first;
    thread->options = *options;
    thread->folder = strdup(options->folder);
    if (thread->folder)
        return thread;
    free(thread);
    return NULL;
}

int queue_thread_open(struct queue_thread **result, const struct queue_thread_options *options,
                      char why[QUEUE_WHY_MAX])
{
    struct queue_thread *thread = create(options);
    int error = thread ? open_all(thread) : -ENOMEM;

    *result = NULL;
    if (error) {
        snprintf(why, QUEUE_WHY_MAX, "%s", thread ? thread->why : "no memory for the queue");
        queue_thread_stop(thread);
        return error;
    }
    *result = thread;
    return 0;
}

int queue_thread_open_later(struct queue_thread **result, const struct queue_thread_options *options)
{
    *result = create(options);
    if (*result)
        (*result)->opens_later = true;
    return *result ? 0 : -ENOMEM;
}

struct stop_mail {
    struct mail mail;
    struct queue_thread *thread;
};

static void take_stop(struct mail *mail)
{
    struct queue_thread *thread = container_of(mail, struct stop_mail, mail)->thread;

    thread->stopping = true;
    queue_thread_kick(thread);
}

void queue_thread_stop(struct queue_thread *thread)
{
    struct stop_mail stop = {.mail = {.deliver = take_stop}, .thread = thread};

    if (!thread)
        return;
    atomic_store(&thread->stop_opening, true);
    if (thread->started) {
        mailbox_send(thread->mailbox, &stop.mail);
        pthread_join(thread->pthread, NULL);
    }
    if (thread->mailbox)
        mailbox_unref(thread->mailbox);
    close_store(thread);
    log_buffer_free(&thread->buffer);
    free(thread->waiters);
    free(thread->folder);
    free(thread);
}

struct broker *queue_thread_broker(struct queue_thread *thread)
{
    return thread->broker;
}

struct mailbox *queue_thread_mailbox(const struct queue_thread *thread)
{
    return thread->mailbox;
}

struct queue_thread_numbers *queue_thread_numbers(struct queue_thread *thread)
{
    return &thread->numbers;
}

const char *queue_thread_folder(const struct queue_thread *thread)
{
    return thread->folder;
}
