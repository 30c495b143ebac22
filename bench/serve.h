/* serve.h - the loop of the servers behind the proxies under measurement, origin and echo: one thread, edge-triggered
 * epoll, a structure for each client.
 *
 * Invariant: a client is watched once, for all that may happen to it, until it is closed and freed. */
#ifndef BENCH_SERVE_H
#define BENCH_SERVE_H

#include <netinet/tcp.h>
#include <stdbool.h>
#include <unistd.h>

#include "common.h"

#define BATCH 256

/* What a server has of each client: a structure of so many bytes, whose first member is an int, the descriptor; the
 * others are zeros at first. serve goes on until the socket is empty, or full; false: close. */
struct service {
    size_t client_bytes;
    bool (*serve)(void *client, uint32_t events);
};

static inline void accept_clients(int epoll, int listener, const struct service *service)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        int *client;

        if (fd < 0)
            return;
        client = calloc(1, service->client_bytes);
        if (!client)
            fail("calloc");
        *client = fd;
        set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
        watch(epoll, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, client);
    }
}

/* Serves 127.0.0.1 until it is killed. */
_Noreturn static inline void serve_port(uint64_t port, const struct service *service)
{
    struct epoll_event events[BATCH];
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int listener;

    raise_fd_limit();
    listener = listen_on(port);
    watch(epoll, listener, EPOLLIN, NULL);
    for (;;) {
        int n = epoll_wait(epoll, events, BATCH, -1);

        for (int i = 0; i < n; i++) {
            int *client = events[i].data.ptr;

            if (!client) {
                accept_clients(epoll, listener, service);
            } else if (!service->serve(client, events[i].events)) {
                close(*client);
                free(client);
            }
        }
    }
}

#endif
