/* socket_kit.h - addresses for tests of sockets: loopback with ports from the kernel, and unix sockets in a directory
 * of the test's own. Include after fiber_kit.h. */
#ifndef SOCKET_KIT_H
#define SOCKET_KIT_H

#include <arpa/inet.h>
#include <stdlib.h>

#include "fiber/stream.h"

static char directory[] = "/tmp/maitred-test-XXXXXX";

static inline struct endpoint tcp_endpoint(uint16_t port)
{
    struct endpoint endpoint = {.len = sizeof endpoint.in};

    endpoint.in.sin_family = AF_INET;
    endpoint.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    endpoint.in.sin_port = htons(port);
    return endpoint;
}

static inline struct endpoint unix_endpoint(const char *name)
{
    struct endpoint endpoint = {.len = sizeof endpoint.un};

    endpoint.un.sun_family = AF_UNIX;
    snprintf(endpoint.un.sun_path, sizeof endpoint.un.sun_path, "%s/%s", directory, name);
    return endpoint;
}

/* Listens and learns the port that it was given. */
static inline int listen_at(struct endpoint *endpoint, int backlog)
{
    int fd = socket_listen(endpoint, backlog);
    socklen_t len = sizeof *endpoint - offsetof(struct endpoint, sa);

    if (CHECK(fd >= 0) && endpoint->sa.sa_family != AF_UNIX)
        CHECK_EQUAL(getsockname(fd, &endpoint->sa, &len), 0);
    return fd;
}

/* Setup and teardown of a group. */
static inline int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static inline int remove_directory(void **state)
{
    (void)state;
    return rmdir(directory); /* an error when a test left something there */
}

#endif
