/* origin.c - the web server behind the proxies under measurement: as little work per request as is honest.
 *
 * One thread, epoll, keep-alive, pipelining. Heads are found, not parsed: a target that starts with "/1m"
 * gets a body of 1 MiB, "/count" what was counted of POSTs, every other one an answer of 200 bytes in all (219 when
 * it says Connection: close).
 * A POST is a numbered request of common.h and has a Content-Length; other requests have no body. "/count" tells how
 * many came and how many different ones; that each came once is: both are as many as were sent.
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

#define REQUEST_MAX 16384 /* bytes of a request, body included; a longer one closes the connection */
#define SMALL_BODY 118    /* with its head 200 bytes */
#define LARGE_BODY (1u << 20)
#define NUMBERS_MAX (1u << 26) /* of posts that are told apart; those with a higher number are only counted */
#define COUNT_BYTES 256

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
    char head[REQUEST_MAX]; /* with the body behind it */
};

static struct answer small_keep, small_close, large_keep, large_close;

static struct {
    uint64_t posts, different;
    uint8_t seen[NUMBERS_MAX / 8]; /* a bit for each number */
    char text[COUNT_BYTES];
    struct answer answer;
} count;

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

/* What stands behind the start of a line of the head, which ends with an empty line; NULL: no line starts so. */
static const char *find_line(const char *head, size_t len, const char *start)
{
    size_t start_len = strlen(start);

    for (const char *line = head; (line = memchr(line, '\n', (size_t)(head + len - line))) != NULL;) {
        line++;
        if ((size_t)(head + len - line) >= start_len && strncasecmp(line, start, start_len) == 0)
            return line + start_len;
    }
    return NULL;
}

static bool is_post(const char *head)
{
    return head[0] == 'P'; /* heads have four bytes at least */
}

/* Bytes of the body behind a head; more than REQUEST_MAX: it is not taken. */
static size_t body_bytes(const char *head, size_t len)
{
    const char *length = is_post(head) ? find_line(head, len, "content-length:") : NULL;
    unsigned long long n = length ? strtoull(length, NULL, 10) : 0; /* the head's end ends the number */

    if (is_post(head) && n < NUMBER_BYTES)
        return REQUEST_MAX + 1;
    return n > REQUEST_MAX ? REQUEST_MAX + 1 : (size_t)n;
}

static void count_post(const char *body)
{
    uint64_t number;
    uint8_t bit;

    memcpy(&number, body, NUMBER_BYTES);
    count.posts++;
    if (number >= NUMBERS_MAX)
        return;
    bit = (uint8_t)(1u << number % 8);
    count.different += !(count.seen[number / 8] & bit);
    count.seen[number / 8] |= bit;
}

/* Rewritten each time: one asks at a time. */
static const struct answer *tell_count(bool close_after)
{
    char body[64];
    int len = snprintf(body, sizeof(body), "{\"posts\": %llu, \"different\": %llu}\n",
                       (unsigned long long)count.posts, (unsigned long long)count.different);

    len = snprintf(count.text, sizeof(count.text),
                   "HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Type: application/json\r\n"
                   "Content-Length: %d\r\n%s\r\n%s",
                   len, close_after ? "Connection: close\r\n" : "", body);
    count.answer = (struct answer){count.text, (size_t)len};
    return &count.answer;
}

static bool targets(const char *head, size_t len, const char *start)
{
    const char *space = memchr(head, ' ', len);
    size_t start_len = strlen(start);

    return space && (size_t)(head + len - space) > start_len + 1 && memcmp(space + 1, start, start_len) == 0;
}

static const struct answer *choose_answer(const char *head, size_t len, bool close_after)
{
    if (targets(head, len, "/1m"))
        return close_after ? &large_close : &large_keep;
    if (targets(head, len, "/count"))
        return tell_count(close_after);
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
        size_t len, body;

        if (!end)
            return c->have < REQUEST_MAX;
        len = (size_t)(end - c->head) + 4;
        body = body_bytes(c->head, len);
        if (len + body > REQUEST_MAX)
            return false;
        if (c->have < len + body)
            return true;
        if (is_post(c->head))
            count_post(end + 4);
        c->closing = find_line(c->head, len, "connection: close") != NULL;
        c->answer = choose_answer(c->head, len, c->closing);
        c->written = 0;
        len += body;
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
        size_t room = REQUEST_MAX - c->have;
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
