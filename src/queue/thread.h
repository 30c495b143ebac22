/* thread.h - the queue thread: owns the broker and its log, and does what the ports send, in turns.
 *
 * A turn takes all mail there is, writes it with one sync, says yes to everybody it covers, and delivers. While it syncs, mail
 * gathers for the next: the slower the disk, the larger the turns. Files are made ahead, and checkpoints written, on helper threads.
 * Threads: starting and stopping are for the control thread; numbers are for any. */
#ifndef QUEUE_THREAD_H
#define QUEUE_THREAD_H

#include "base/counter.h"
#include "base/histogram.h"
#include "log/log.h"
#include "queue/port.h"

struct queue_thread_options {
    const char *folder;
    uint32_t segment_bytes;
    uint64_t bytes_max; /* of the log; 0: what the disk gives */
};

#define QUEUE_WHY_MAX 640

/* What any thread may look at while it runs. */
struct queue_thread_numbers {
    struct histogram commits; /* how long a commit took */
    struct counter confirmed; /* publishes that were */
    struct counter turns;
    struct counter log_bytes;    /* gauge: of all files of the log */
    struct counter log_segments; /* gauge */
    struct counter record_max;   /* gauge: bytes of the largest record that fits the log; 0: it is not open */
    struct counter stored_max;   /* gauge: bytes of the largest body that can have a file beside the log's */
    struct counter syncs;
    struct counter appended_bytes;
    struct counter checkpoints;
    _Atomic(const char *)
        failure; /* why nothing can be published any more; a constant string or the log's; NULL: all is well */
};

/* Opens the folder and its log, which blocks for as long as replay takes. 0, or a negative errno with why: -EBUSY: another
 * process has it. */
int queue_thread_open(struct queue_thread **thread, const struct queue_thread_options *options,
                      char why[QUEUE_WHY_MAX]);
/* The same, but the log is opened by the thread itself, as soon as the process that has it lets go of it; until then what is sent
 * waits. Where it cannot be opened, everything is answered as if the log had failed. -ENOMEM. */
int queue_thread_open_later(struct queue_thread **thread, const struct queue_thread_options *options);
/* Runs it on a thread of its own. 0 or a negative errno. */
int queue_thread_start(struct queue_thread *thread);
/* Whoever waits for a worker's answer waits no longer. Any thread; soon. */
void queue_thread_release_waiters(struct queue_thread *thread);
/* Every port is closed, or will find that nothing is answered: commits, writes a checkpoint, ends the thread, closes the log. Also of one
 * that was not started. Blocks. NULL is allowed. */
void queue_thread_stop(struct queue_thread *thread);

/* Before it was started, or as queue_job: the broker. */
struct broker *queue_thread_broker(struct queue_thread *thread);
struct mailbox *queue_thread_mailbox(const struct queue_thread *thread);
struct queue_thread_numbers *queue_thread_numbers(struct queue_thread *thread);
const char *queue_thread_folder(const struct queue_thread *thread);

#endif
