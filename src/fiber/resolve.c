/* resolve.c - see resolve.h. */
#include "fiber/resolve.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "fiber/offload.h"

struct look_up {
    struct offload job;
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

static void look_up(struct offload *job)
{
    struct look_up *l = container_of(job, struct look_up, job);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
    struct addrinfo *list = NULL;
    int code = getaddrinfo(l->host, NULL, &hints, &list);

    if (code != 0) {
        l->error = error_of(code);
        return;
    }
    collect(&l->resolved, list, l->port);
    drop_repeats(&l->resolved);
    l->error = l->resolved.count ? 0 : -ENOENT;
    freeaddrinfo(list);
}

static void free_look_up(struct offload *job)
{
    free(container_of(job, struct look_up, job));
}

int resolve_name(const char *host, uint16_t port, struct resolved *resolved, uint64_t deadline_us)
{
    struct look_up *l = calloc(1, sizeof *l);
    int error;

    if (!l)
        return -ENOMEM;
    l->job.work = look_up;
    l->job.free = free_look_up;
    l->port = port;
    strncpy(l->host, host, sizeof l->host - 1);
    error = offload_run(&l->job, deadline_us);
    if (error == -ETIMEDOUT || error == -ECANCELED)
        return error; /* the answer, when it comes, is dropped */
    if (!error)
        error = l->error;
    if (!error)
        *resolved = l->resolved;
    free(l);
    return error;
}
