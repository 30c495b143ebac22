/* offload.c - see offload.h. */
#include "fiber/offload.h"

#include <pthread.h>
#include <signal.h>

#include "base/list.h"

static void *helper_main(void *arg)
{
    struct offload *job = arg;
    struct mailbox *home = job->home;

    job->work(job);
    mailbox_send(home, &job->message); /* the job is the loop's from here */
    mailbox_unref(home);
    return NULL;
}

static void on_dropped(struct mail *message)
{
    struct offload *job = container_of(message, struct offload, message);

    job->free(job);
}

static void on_done(struct mail *message)
{
    struct offload *job = container_of(message, struct offload, message);

    job->done = true;
    if (job->waiter)
        fiber_wake(job->waiter);
    else
        job->free(job);
}

static int start(struct offload *job)
{
    pthread_t thread;
    sigset_t all, before;
    int error;

    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    mailbox_ref(job->home);
    error = pthread_create(&thread, NULL, helper_main, job);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        mailbox_unref(job->home);
        return -error;
    }
    pthread_detach(thread);
    return 0;
}

int offload_run(struct offload *job, uint64_t deadline_us)
{
    int error;

    job->message = (struct mail){.deliver = on_done, .drop = on_dropped};
    job->home = loop_mailbox(loop_self());
    job->waiter = fiber_self();
    job->done = false;
    error = start(job);
    while (!error && !job->done) {
        error = fiber_park(deadline_us);
        if (error && !job->done) {
            job->waiter = NULL; /* the message frees it */
            return error;
        }
        error = 0;
    }
    return error;
}
