/* redis_client.c - see redis_client.h. */
#include "redis_client.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>

#include "common.h"

void redis_link_open(struct redis_link *link, const char *host, const char *port)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
    int error = getaddrinfo(host, port, &hints, &found);

    if (error) {
        fprintf(stderr, "%s: %s\n", host, gai_strerror(error));
        exit(1);
    }
    link->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (link->fd < 0 || connect(link->fd, found->ai_addr, found->ai_addrlen) != 0)
        fail("connect");
    freeaddrinfo(found);
    set_option(link->fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (fcntl(link->fd, F_SETFL, O_NONBLOCK) != 0)
        fail("fcntl");
}

size_t redis_put_request(char *at, const char *stream, size_t body_bytes, size_t *body_at)
{
    int n = sprintf(at, "*5\r\n$4\r\nXADD\r\n$%zu\r\n%s\r\n$1\r\n*\r\n$1\r\nb\r\n$%zu\r\n", strlen(stream),
                    stream, body_bytes);

    *body_at = (size_t)n;
    memset(at + n, 'x', body_bytes);
    memcpy(at + n + body_bytes, "\r\n", 2);
    return (size_t)n + body_bytes + 2;
}

/* Takes "$15\r\n1700000000000-0\r\n" off the front. */
static bool take_answer(struct slice *in)
{
    const char *newline = in->len ? memchr(in->ptr, '\n', in->len) : NULL;
    size_t whole;

    if (!newline)
        return false;
    if (*in->ptr != '$' || in->ptr[1] == '-') {
        fprintf(stderr, "%.*s\n", (int)(newline - in->ptr), in->ptr);
        exit(1);
    }
    whole = (size_t)(newline + 1 - in->ptr) + strtoul(in->ptr + 1, NULL, 10) + 2;
    if (in->len < whole)
        return false;
    slice_drop(in, whole);
    return true;
}

uint64_t redis_link_read(struct redis_link *link)
{
    ssize_t n = recv(link->fd, link->in + link->in_bytes, sizeof(link->in) - link->in_bytes, 0);
    struct slice in = slice_of(link->in, link->in_bytes + (n > 0 ? (size_t)n : 0));
    uint64_t answers = 0;

    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        fprintf(stderr, "the server closed the connection\n");
        exit(1);
    }
    while (take_answer(&in))
        answers++;
    memmove(link->in, in.ptr, in.len);
    link->in_bytes = in.len;
    link->answers += answers;
    return answers;
}
