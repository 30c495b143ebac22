/* origin.c - the web server behind the proxies under measurement: as little work per request as is honest.
 *
 * One thread, epoll, keep-alive, pipelining. Heads are found, not parsed: a target that starts with "/1m"
 * gets a body of 1 MiB, every other one an answer of 200 bytes in all (219 when it says Connection: close).
 * Requests must have no body.
 * Invariant: an answer that did not fit the socket is finished before the next request is looked at.
 * Usage: origin PORT   (on 127.0.0.1; runs until it is killed) */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "serve.h"

#define HEAD_MAX 4096  /* bytes of a request; a longer one closes the connection */
#define SMALL_BODY 118 /* with its head 200 bytes */
#define LARGE_BODY (1u << 20)

struct answer {
    char *bytes;
    size_t len;
};

struct client {
    int fd;                      /* first: serve.h */
    bool closing;                /* after what is being written */
    size_t have;                 /* bytes in head */
    const struct answer *answer; /* being written, or NULL */
    size_t written;
    char head[HEAD_MAX];
};

static struct answer small_keep, small_close, large_keep, large_close;

/* The whole answer, so that one write sends it. */
static struct answer make_answer(size_t body, const char *connection)
{
    struct answer a;
    char head[256];
    int len = snprintf(head, sizeof(head),
                       "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: text/plain\r\n"
                       "Content-Length: %zu\r\n%s\r\n",
                       body, connection);

    a.len = (size_t)len + body;
    a.bytes = malloc(a.len);
    if (!a.bytes)
        fail("malloc");
    memcpy(a.bytes, head, (size_t)len);
    memset(a.bytes + len, 'x', body);
    return a;
}

static bool asks_to_close(const char *head, size_t len)
{
    for (const char *line = head; (line = memchr(line, '\n', (size_t)(head + len - line))) != NULL;) {
        line++;
        if ((size_t)(head + len - line) >= 17 && strncasecmp(line, "connection: close", 17) == 0)
            return true;
    }
    return false;
}

static const struct answer *choose_answer(const char *head, size_t len, bool close_after)
{
    const char *space = memchr(head, ' ', len);
    bool large = space && (size_t)(head + len - space) > 4 && memcmp(space + 1, "/1m", 3) == 0;

    if (large)
        return close_after ? &large_close : &large_keep;
    return close_after ? &small_close : &small_keep;
}

/* False: the connection is gone. True with c->answer set: the socket is full. */
static bool write_answer(struct client *c)
{
    while (c->written < c->answer->len) {
        ssize_t n = send(c->fd, c->answer->bytes + c->written, c->answer->len - c->written, MSG_NOSIGNAL);

        if (n < 0)
            return errno == EAGAIN;
        c->written += (size_t)n;
    }
    c->answer = NULL;
    return !c->closing;
}

/* Answers the whole requests in c->head. */
static bool answer_requests(struct client *c)
{
    while (!c->answer && c->have) {
        const char *end = memmem(c->head, c->have, "\r\n\r\n", 4);
        size_t len;

        if (!end)
            return c->have < HEAD_MAX;
        len = (size_t)(end - c->head) + 4;
        c->closing = asks_to_close(c->head, len);
        c->answer = choose_answer(c->head, len, c->closing);
        c->written = 0;
        c->have -= len;
        memmove(c->head, c->head + len, c->have);
        if (!write_answer(c))
            return false;
    }
    return true;
}

/* Edge-triggered: reads until the socket is empty, or an answer does not fit. False: close. */
static bool serve_requests(struct client *c)
{
    for (;;) {
        size_t room = HEAD_MAX - c->have;
        ssize_t n;

        if (c->answer && (!write_answer(c) || !answer_requests(c)))
            return false;
        if (c->answer)
            return true;
        n = recv(c->fd, c->head + c->have, room, 0);
        if (n <= 0)
            return n < 0 && errno == EAGAIN;
        c->have += (size_t)n;
        if (!answer_requests(c))
            return false;
        if ((size_t)n < room && !c->answer)
            return true;
    }
}

/* One that sends no more is closed once it has what it asked for. */
static bool serve(void *client, uint32_t events)
{
    struct client *c = client;

    return serve_requests(c) && (!(events & EPOLLRDHUP) || c->answer);
}

int main(int argc, char **argv)
{
    static const struct service service = {sizeof(struct client), serve};

    if (argc != 2)
        usage("origin PORT");
    small_keep = make_answer(SMALL_BODY, "");
    small_close = make_answer(SMALL_BODY, "Connection: close\r\n");
    large_keep = make_answer(LARGE_BODY, "");
    large_close = make_answer(LARGE_BODY, "Connection: close\r\n");
    serve_port(parse_number("PORT", argv[1], 1, 65535), &service);
}
