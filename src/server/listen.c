/* listen.c - see listen.h. */
#include "server/listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fiber/stream.h"
#include "server/inherit.h"

#define BACKLOG 4096
#define ENDPOINTS_MAX 16

static size_t resolve(const struct address *address, const char *name,
                      struct endpoint endpoints[ENDPOINTS_MAX], char why[LISTEN_WHY_MAX])
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list;
    char port[8];
    size_t n = 0;
    int code;

    if (address->kind != ADDRESS_NAME) {
        endpoint_from_address(&endpoints[0], address, true);
        return 1;
    }
    snprintf(port, sizeof port, "%u", address->port);
    code = getaddrinfo(address->host, port, &hints, &list);
    if (code != 0) {
        snprintf(why, LISTEN_WHY_MAX,
                 "cannot listen on %s: %s; give an address, or a name that this machine knows", name,
                 gai_strerror(code));
        return 0;
    }
    for (const struct addrinfo *a = list; a && n < ENDPOINTS_MAX; a = a->ai_next) {
        memset(&endpoints[n], 0, sizeof endpoints[n]);
        memcpy(&endpoints[n].sa, a->ai_addr, a->ai_addrlen);
        endpoints[n++].len = a->ai_addrlen;
    }
    freeaddrinfo(list);
    return n;
}

static const char *advice(int error)
{
    switch (error) {
    case -EADDRINUSE:
        return "another program holds it; `ss -ltnp` shows which";
    case -EACCES:
        return "ports below 1024 need root or CAP_NET_BIND_SERVICE; a unix socket needs a writable folder";
    case -EADDRNOTAVAIL:
        return "no interface of this machine has that address";
    case -ENOENT:
        return "the folder of the socket is not there";
    default:
        return "check the address of the listener";
    }
}

void listen_close(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        close(fds[i]);
    free(fds);
}

void listen_forget(const struct address *address)
{
    if (address->kind == ADDRESS_UNIX)
        unlink(address->host);
}

/* ":port" where the kernel has no IPv6. */
static int listen_v4(const struct address *address)
{
    struct endpoint any = {.len = sizeof any.in};

    any.in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(address->port)};
    return socket_listen(&any, BACKLOG);
}

static int open_one(const struct address *address, const struct endpoint *endpoint, enum listen_file *file)
{
    bool with_file = false;
    int fd = inherit_take(endpoint, &with_file);

    if (fd >= 0) {
        socket_adopt_listener(fd, BACKLOG);
        *file = with_file ? LISTEN_FILE_LEFT : LISTEN_FILE_FOREIGN;
        return fd;
    }
    fd = socket_listen(endpoint, BACKLOG);
    if (fd == -EAFNOSUPPORT && address->kind == ADDRESS_ANY)
        fd = listen_v4(address);
    *file = fd < 0 ? LISTEN_FILE_FOREIGN : LISTEN_FILE_MADE;
    return fd;
}

int listen_open(const struct address *address, const char *name, int **fds, size_t *n, enum listen_file *file,
                char why[LISTEN_WHY_MAX])
{
    struct endpoint endpoints[ENDPOINTS_MAX];
    size_t count = resolve(address, name, endpoints, why);

    *n = 0;
    *fds = NULL;
    *file = LISTEN_FILE_FOREIGN;
    if (!count)
        return -ENOENT;
    *fds = calloc(count, sizeof **fds);
    if (!*fds) {
        snprintf(why, LISTEN_WHY_MAX, "no memory for listener %s", name);
        return -ENOMEM;
    }
    for (; *n < count; ++*n) {
        int fd = open_one(address, &endpoints[*n], file);

        if (fd < 0) {
            snprintf(why, LISTEN_WHY_MAX, "cannot listen on %s: %s; %s", name, strerror(-fd), advice(fd));
            listen_close(*fds, *n);
            *fds = NULL;
            *n = 0;
            return fd;
        }
        (*fds)[*n] = fd;
    }
    return 0;
}
