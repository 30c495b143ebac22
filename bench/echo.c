/* echo.c - the server behind the layer 4 proxies under measurement: takes a message and answers with that and more.
 *
 * One thread, epoll. A connection carries one message after the other, each answered before the next one comes
 * (common.h says what is in one). A message's own bytes are kept and sent back; what follows it is taken off the
 * socket without being copied (MSG_TRUNC), and what follows an answer has no meaning.
 * Invariant: a message is answered once it is there to its last byte, and nothing is read while one is answered.
 * Usage: echo PORT   (on 127.0.0.1; runs until it is killed) */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "serve.h"

enum stage { MESSAGE, MORE, ANSWER };
enum outcome { GO_ON, WAIT, OVER };

struct client {
    int fd; /* first: serve.h */
    enum stage stage;
    uint64_t done;          /* bytes of the message that came, or of the answer that went */
    struct message message; /* whole once stage is past MESSAGE */
    char
        more[4096 -
             sizeof(struct message)]; /* read along with a message, so that a short read empties the socket */
};

static enum outcome failed(void)
{
    return errno == EAGAIN ? WAIT : OVER;
}

/* The stage that follows once c->done bytes came. */
static enum outcome look_at(struct client *c)
{
    const struct message *m = &c->message;

    if (c->done < sizeof(*m))
        return GO_ON;
    if (m->bytes < c->done || m->answer_bytes < sizeof(*m))
        return OVER;
    c->stage = c->done < m->bytes ? MORE : ANSWER;
    if (c->stage == ANSWER)
        c->done = 0;
    return GO_ON;
}

static enum outcome read_message(struct client *c)
{
    struct iovec parts[] = {{(char *)&c->message + c->done, sizeof(c->message) - c->done},
                            {c->more, sizeof(c->more)}};
    ssize_t n = readv(c->fd, parts, 2);

    if (n <= 0)
        return n < 0 ? failed() : OVER;
    c->done += (uint64_t)n;
    return look_at(c);
}

static enum outcome read_more(struct client *c)
{
    ssize_t n = recv(c->fd, NULL, c->message.bytes - c->done, MSG_TRUNC);

    if (n <= 0)
        return n < 0 ? failed() : OVER;
    c->done += (uint64_t)n;
    return look_at(c);
}

/* After an answer the socket is empty: the next message is a new event. */
static enum outcome write_answer(struct client *c)
{
    const struct message *m = &c->message;

    while (c->done < m->answer_bytes) {
        ssize_t n = send_filled(c->fd, m, sizeof(*m), c->done, m->answer_bytes);

        if (n < 0)
            return failed();
        c->done += (uint64_t)n;
    }
    c->stage = MESSAGE;
    c->done = 0;
    return m->last ? OVER : WAIT;
}

/* Edge-triggered: goes on until the socket is empty, or full. False: close. */
static bool serve(void *client, uint32_t events)
{
    static enum outcome (*const act[])(struct client *) = {
        [MESSAGE] = read_message, [MORE] = read_more, [ANSWER] = write_answer};
    struct client *c = client;
    enum outcome outcome;

    (void)events;
    do
        outcome = act[c->stage](c);
    while (outcome == GO_ON);
    return outcome == WAIT;
}

int main(int argc, char **argv)
{
    static const struct service service = {sizeof(struct client), serve};

    if (argc != 2)
        usage("echo PORT");
    serve_port(parse_number("PORT", argv[1], 1, 65535), &service);
}
