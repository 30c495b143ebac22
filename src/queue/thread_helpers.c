/* thread_helpers.c - what the queue thread has done beside its turns: a fiber each, whose work is on a thread of its own. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fiber/offload.h"
#include "queue/thread_private.h"

/* How long to wait before a file that could not be made, or a checkpoint, is tried again. */
#define HELPER_RETRY_US US_PER_S

/* ---- files for the log ------------------------------------------------------------------------------------------- */

struct spare_job {
    struct offload offload;
    struct log_spare *spare;
    int error;
};

static void make_spare(struct offload *offload)
{
    struct spare_job *job = container_of(offload, struct spare_job, offload);

    job->error = log_spare_make(job->spare);
}

static void free_spare_job(struct offload *offload)
{
    free(container_of(offload, struct spare_job, offload));
}

/* Has files made while they are wanted. */
static void spare_main(void *arg)
{
    struct queue_thread *thread = arg;

    while (!thread->stopping && log_spare_wanted(thread->log) && !log_failure(thread->log)) {
        struct spare_job *job = calloc(1, sizeof *job);
        int error = -ENOMEM;

        if (job)
            job->spare = log_spare_begin(thread->log);
        if (job && job->spare) {
            job->offload = (struct offload){.work = make_spare, .free = free_spare_job};
            error = offload_run(&job->offload, NEVER);
            log_spare_add(thread->log, job->spare, error ? error : job->error);
            if (!error)
                error = job->error;
        }
        free(job);
        if (error && fiber_sleep_until(loop_now_us() + HELPER_RETRY_US) != 0)
            break;
    }
    thread->sparing = false;
    queue_thread_kick(thread);
}

/* ---- checkpoints ------------------------------------------------------------------------------------------------- */

struct checkpoint_job {
    struct offload offload;
    struct broker_checkpoint *checkpoint;
    int error;
};

static void make_checkpoint(struct offload *offload)
{
    struct checkpoint_job *job = container_of(offload, struct checkpoint_job, offload);

    job->error = broker_checkpoint_make(job->checkpoint);
}

static void free_checkpoint_job(struct offload *offload)
{
    free(container_of(offload, struct checkpoint_job, offload));
}

/* Of one that could not be made: the old one stays in force, and the log grows meanwhile. */
static void complain(const struct queue_thread *thread, int error)
{
    log_line(LOG_WARNING, "queue: a checkpoint could not be written to %s: %s; trying again", thread->folder,
             strerror(-error));
}

/* Once the state is as the log has it on disk. */
static int write_checkpoint(struct queue_thread *thread)
{
    struct checkpoint_job *job = calloc(1, sizeof *job);
    int error = -ENOMEM;

    broker_flush(thread->broker);
    log_commit(thread->log);
    if (job)
        job->checkpoint = broker_checkpoint_begin(thread->broker);
    if (job && job->checkpoint) {
        job->offload = (struct offload){.work = make_checkpoint, .free = free_checkpoint_job};
        error = offload_run(&job->offload, NEVER);
        if (!error)
            error = job->error;
        broker_checkpoint_end(thread->broker, job->checkpoint, error);
        counter_add(&thread->numbers.checkpoints, error == 0);
    }
    free(job);
    return error;
}

static void checkpoint_main(void *arg)
{
    struct queue_thread *thread = arg;
    int error = write_checkpoint(thread);

    if (error) {
        complain(thread, error);
        fiber_sleep_until(loop_now_us() + HELPER_RETRY_US);
    }
    thread->checkpointing = false;
    queue_thread_kick(thread);
}

/* ---- bodies' files ----------------------------------------------------------------------------------------------- */

struct removal {
    struct offload offload;
    struct storage *storage; /* borrowed */
    struct body_ref ref;
};

/* It takes milliseconds. One that stays is found by the next start. */
static void remove_body(struct offload *offload)
{
    struct removal *removal = container_of(offload, struct removal, offload);

    stored_body_remove(removal->storage, removal->ref.id);
}

static void free_removal(struct offload *offload)
{
    free(container_of(offload, struct removal, offload));
}

/* Has bodies' files removed that nothing needs any more. */
static void remove_main(void *arg)
{
    struct queue_thread *thread = arg;
    struct removal *removal;
    int error;

    while (broker_body_leaves(thread->broker) && (removal = malloc(sizeof *removal))) {
        *removal = (struct removal){.offload = {.work = remove_body, .free = free_removal},
                                    .storage = thread->storage,
                                    .ref = broker_body_take_leave(thread->broker)};
        error = offload_run(&removal->offload, NEVER);
        if (error == -EAGAIN) { /* there is no thread to be had */
            remove_body(&removal->offload);
            error = 0;
        }
        if (error)
            break;
        broker_body_removed(thread->broker, removal->ref);
        free(removal);
    }
    thread->removing = false;
    queue_thread_kick(thread);
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

void queue_thread_start_helpers(struct queue_thread *thread)
{
    if (thread->stopping || broker_failure(thread->broker))
        return;
    if (!thread->sparing && log_spare_wanted(thread->log))
        thread->sparing = fiber_start("queue files", spare_main, thread) == 0;
    if (!thread->checkpointing && broker_checkpoint_due(thread->broker))
        thread->checkpointing = fiber_start("queue checkpoint", checkpoint_main, thread) == 0;
    if (!thread->removing && broker_body_leaves(thread->broker))
        thread->removing = fiber_start("queue removal", remove_main, thread) == 0;
}
