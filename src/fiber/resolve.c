/* resolve.c - see resolve.h.
 *
 * The thread and the waiting fiber share a job with two references, because either may be done first: a fiber
 * that stops waiting leaves the thread to finish, and the answer is dropped. */
#include "fiber/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "fiber/loop.h"

struct job {
    struct message message; /* first the loop's thread asks, then this brings the answer back */
    struct mailbox *home;
    struct fiber *waiter; /* touched by the loop's thread only; NULL: nobody waits any more */
    bool answered;
    char host[ADDRESS_TEXT_MAX];
    uint16_t port;
    int error;
    struct resolved resolved;
};

static int compare(const void *a, const void *b)
{
    const struct endpoint *x = a, *y = b;

    if (x->sa.sa_family != y->sa.sa_family)
        return x->sa.sa_family < y->sa.sa_family ? -1 : 1;
    if (x->sa.sa_family == AF_INET)
        return memcmp(&x->in.sin_addr, &y->in.sin_addr, sizeof x->in.sin_addr);
    return memcmp(&x->in6.sin6_addr, &y->in6.sin6_addr, sizeof x->in6.sin6_addr);
}

static void collect(struct resolved *resolved, const struct addrinfo *list, uint16_t port)
{
    for (const struct addrinfo *a = list; a && resolved->count < RESOLVE_MAX; a = a->ai_next) {
        struct endpoint *endpoint = &resolved->endpoints[resolved->count];

        if ((a->ai_family != AF_INET && a->ai_family != AF_INET6) || a->ai_addrlen > sizeof endpoint->in6)
            continue;
        memset(endpoint, 0, sizeof *endpoint);
        memcpy(&endpoint->sa, a->ai_addr, a->ai_addrlen);
        endpoint->len = a->ai_addrlen;
        if (a->ai_family == AF_INET)
            endpoint->in.sin_port = htons(port);
        else
            endpoint->in6.sin6_port = htons(port);
        resolved->count++;
    }
}

static void drop_repeats(struct resolved *resolved)
{
    unsigned kept = 0;

    qsort(resolved->endpoints, resolved->count, sizeof resolved->endpoints[0], compare);
    for (unsigned i = 0; i < resolved->count; i++)
        if (kept == 0 || compare(&resolved->endpoints[kept - 1], &resolved->endpoints[i]) != 0)
            resolved->endpoints[kept++] = resolved->endpoints[i];
    resolved->count = kept;
}

static int error_of(int code)
{
    switch (code) {
    case EAI_NONAME:
    case EAI_NODATA:
    case EAI_ADDRFAMILY:
        return -ENOENT;
    case EAI_MEMORY:
        return -ENOMEM;
    default: /* also out of descriptors: that says nothing about the name */
        return -EAGAIN;
    }
}

static void *look_up(void *arg)
{
    struct job *job = arg;
    struct mailbox *home = job->home;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *list = NULL;
    int code = getaddrinfo(job->host, NULL, &hints, &list);

    if (code != 0) {
        job->error = error_of(code);
    } else {
        collect(&job->resolved, list, job->port);
        drop_repeats(&job->resolved);
        job->error = job->resolved.count ? 0 : -ENOENT;
        freeaddrinfo(list);
    }
    mailbox_send(home, &job->message); /* the job is the loop's from here */
    mailbox_unref(home);
    return NULL;
}

static void job_drop(struct message *message)
{
    free(container_of(message, struct job, message));
}

static void job_deliver(struct message *message)
{
    struct job *job = container_of(message, struct job, message);

    if (!job->waiter) {
        free(job);
        return;
    }
    job->answered = true;
    fiber_wake(job->waiter);
}

static int start(struct job *job)
{
    pthread_t thread;
    sigset_t all, before;
    int error;

    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    mailbox_ref(job->home);
    error = pthread_create(&thread, NULL, look_up, job);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        mailbox_unref(job->home);
        return -error;
    }
    pthread_detach(thread);
    return 0;
}

int resolve_name(const char *host, uint16_t port, struct resolved *resolved, uint64_t deadline_us)
{
    struct job *job = calloc(1, sizeof *job);
    int error;

    if (!job)
        return -ENOMEM;
    job->message = (struct message){.deliver = job_deliver, .drop = job_drop};
    job->home = loop_mailbox(loop_self());
    job->waiter = fiber_self();
    job->port = port;
    strncpy(job->host, host, sizeof job->host - 1);
    error = start(job);
    if (error) {
        free(job);
        return error;
    }
    while (!job->answered) {
        error = fiber_park(deadline_us);
        if (error && !job->answered) {
            job->waiter = NULL; /* the answer frees it */
            return error;
        }
    }
    error = job->error;
    *resolved = job->resolved;
    free(job);
    return error;
}
