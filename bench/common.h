/* common.h - what origin, echo, forwarder and load share: sockets on 127.0.0.1, options, giving up with a reason,
 * the message that load sends to echo through a layer 4 proxy, and the number in the bodies that it posts to origin.
 *
 * These are measuring tools: what the system refuses ends the program with a line on standard error. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define FILLER_BYTES (1u << 20)

/* What a layer 4 conversation starts with, in the machine's own byte order. Bytes without meaning may follow. */
struct message {
    uint64_t number;       /* no other one of this run has it: an answer that went astray is noticed */
    uint64_t bytes;        /* of this message, itself included */
    uint64_t answer_bytes; /* of the answer, which starts with this message */
    uint64_t last;         /* 1: whoever answers closes the connection */
    char padding[32];
};
_Static_assert(sizeof(struct message) == 64, "small messages are 64 bytes");

/* What the body of a POST starts with, in the machine's own byte order: no other request of the same generator has that
 * number, but for one that is sent again because its connection had been closed. */
#define NUMBER_BYTES sizeof(uint64_t)

_Noreturn static inline void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

_Noreturn static inline void usage(const char *text)
{
    fprintf(stderr, "usage: %s\n", text);
    exit(2);
}

static inline uint64_t parse_number(const char *name, const char *text, uint64_t low, uint64_t high)
{
    char *end;
    unsigned long long n;

    errno = 0;
    n = strtoull(text, &end, 10);
    if (*text == '-' || end == text || *end || errno || n < low || n > high) {
        fprintf(stderr, "%s is \"%s\"; give a number from %llu to %llu\n", name, text,
                (unsigned long long)low, (unsigned long long)high);
        exit(2);
    }
    return n;
}

static inline void raise_fd_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        fail("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        fail("setrlimit");
}

static inline struct sockaddr_in loopback(uint64_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
}

static inline void set_option(int fd, int level, int name, int value)
{
    if (setsockopt(fd, level, name, &value, sizeof(value)) != 0)
        fail("setsockopt");
}

static inline int listen_on(uint64_t port)
{
    struct sockaddr_in address = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        fail("socket");
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        fail("bind");
    if (listen(fd, 65535) != 0)
        fail("listen");
    return fd;
}

static inline void watch(int epoll, int fd, uint32_t events, void *owner)
{
    struct epoll_event event = {.events = events, .data.ptr = owner};

    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        fail("epoll_ctl");
}

/* Sends what is left after done bytes of a total that starts with head and goes on with bytes without meaning. */
static inline ssize_t send_filled(int fd, const void *head, size_t head_len, uint64_t done, uint64_t total)
{
    static char filler[FILLER_BYTES];
    size_t from_head = done < head_len ? head_len - (size_t)done : 0;
    uint64_t rest = total - done - from_head;
    struct iovec parts[] = {
        {(char *)(uintptr_t)head + (head_len - from_head), from_head},
        {filler, rest < FILLER_BYTES ? (size_t)rest : FILLER_BYTES},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = rest ? 2 : 1};

    return sendmsg(fd, &message, MSG_NOSIGNAL);
}

#endif
