/* thread_private.h - what the queue thread and its ports share: what mail does when it comes to the queue thread. */
#ifndef QUEUE_THREAD_PRIVATE_H
#define QUEUE_THREAD_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "fiber/loop.h"
#include "queue/batch.h"
#include "queue/thread.h"

/* A consumer has a half on each thread. */
struct queue_consumer {
    struct mail farewell;   /* its last word; comes back after all that was delivered before */
    struct mail gone, late; /* from the queue thread, once each */
    bool was_late;          /* the queue thread's: it was told */
    struct queue_port *port;
    struct queue_consumer_options options;
    bool ended;                        /* the port's: what is still on its way is dropped */
    struct broker_consumer *at_broker; /* the queue thread's */
};

struct request_list {
    struct queue_request *first, **last;
};

struct batch_list {
    struct queue_batch *first, **last;
};

struct job_list {
    struct queue_job *first, **last;
};

struct delivery_list {
    struct queue_delivery *first, **last;
};

struct queue_thread {
    struct storage *storage;
    struct log *log;
    struct broker *broker;               /* NULL: not open yet, or it could not be opened */
    struct queue_thread_options options; /* its folder is ours */
    bool opens_later;
    atomic_bool stop_opening;
    char why[QUEUE_WHY_MAX]; /* it could not be opened */
    char *folder;
    char key[TOKEN_KEY_BYTES]; /* for messages' names */
    pthread_t pthread;
    bool started;
    struct loop *loop;
    struct mailbox *mailbox;         /* reference; the loop's */
    struct fiber *fiber;             /* whose turns it is */
    bool stopping, due;              /* asked to stop; something came since the last turn */
    uint64_t wall_offset_us;         /* wall time less monotonic time, as of the start */
    uint64_t unsynced_us;            /* since when something is appended and not synced; 0: nothing is */
    struct request_list published;   /* wait for the commit, in the order of their positions */
    struct batch_list batches;       /* done, and wait for the commit */
    struct job_list jobs;            /* done, and wait for the commit */
    struct job_list late_jobs;       /* to be done at the end of the turn */
    struct mail *late_mail;          /* for which they are to be done first, the latest first */
    struct delivery_list deliveries; /* of this turn */
    struct queue_request **waiters;  /* buckets, by number: they wait for an answer */
    uint32_t n_waiters, n_waiter_buckets;
    struct log_buffer buffer;              /* for reading what is delivered */
    bool sparing, checkpointing, removing; /* helpers are at it */
    struct queue_thread_numbers numbers;
};

/* Mail, on the queue thread; in port.c's words what it is. */
void queue_thread_take_request(struct queue_thread *thread, struct queue_request *request);
void queue_thread_forget_waiter(struct queue_thread *thread, const struct queue_request *request,
                                uint64_t number);
void queue_thread_take_verdict(struct queue_thread *thread, struct queue_delivery *delivery);
void queue_thread_take_batch(struct queue_thread *thread, struct queue_batch *batch);
/* Whether mail has to wait until the late jobs before it have run; then it is delivered again. */
bool queue_thread_put_off(struct queue_thread *thread, struct mail *mail);
void queue_thread_take_job(struct queue_thread *thread, struct queue_job *job);
/* Something was done at the broker: there is to be a turn. */
void queue_thread_kick(struct queue_thread *thread);
uint64_t queue_thread_now_us(const struct queue_thread *thread);

/* What a turn does with what mail left, in this order. */
/* After the commit, of a request that wants an answer: before its thread may look at it. */
void queue_thread_add_waiter(struct queue_thread *thread, struct queue_request *request);
void queue_thread_run_late_jobs(struct queue_thread *thread);
/* Whether there were any: something was written. */
bool queue_thread_send_deliveries(struct queue_thread *thread);
void queue_thread_send_late_jobs(struct queue_thread *thread);
/* Starts what is to be done beside the turns; see sparing. */
void queue_thread_start_helpers(struct queue_thread *thread);
/* Of the broker, with the thread as their argument. */
extern const struct broker_events queue_thread_events;

#endif
