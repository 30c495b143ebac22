/* amqp_client.c - see amqp_client.h. */
#include "amqp_client.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "common.h"
#include "wire/amqp_table.h"

#define FRAME_MAX 131072u /* RabbitMQ's own; what there is no limit for */
#define SET_UP_SECONDS 20 /* without an answer */

_Noreturn static void refuse(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static int connect_to(const struct amqp_login *login)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    int error = getaddrinfo(login->host, login->port, &hints, &list), fd = -1;
    struct timeval timeout = {.tv_sec = SET_UP_SECONDS};

    if (error)
        refuse(login->host, gai_strerror(error));
    for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    if (fd < 0)
        fail("connect");
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) != 0)
        fail("setsockopt");
    return fd;
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

bool amqp_link_read(struct amqp_link *link)
{
    ssize_t n;

    if (link->in_from) {
        memmove(link->in, link->in + link->in_from, link->in_to - link->in_from);
        link->in_to -= link->in_from;
        link->in_from = 0;
    }
    n = recv(link->fd, link->in + link->in_to, LINK_IN_BYTES - link->in_to, 0);
    if (n == 0)
        refuse("the server", "closed the connection without a word");
    if (n < 0 && errno != EAGAIN)
        fail("recv");
    if (n > 0)
        link->in_to += (size_t)n;
    return n > 0;
}

bool amqp_link_take(struct amqp_link *link, struct amqp_frame *frame)
{
    struct slice in = slice_of(link->in + link->in_from, link->in_to - link->in_from);
    const char *why;

    switch (amqp_take_frame(&in, &link->limits, frame, &why)) {
    case AMQP_OK:
        link->in_from = link->in_to - in.len;
        return true;
    case AMQP_BAD:
        refuse("a frame", why);
    case AMQP_MORE:
        break;
    }
    return false;
}

void amqp_link_method(struct amqp_frame frame, struct amqp_method *method)
{
    const char *why;

    if (frame.type != AMQP_METHOD)
        refuse("a frame", "comes where a method should");
    if (amqp_take_method(frame.payload, method, &why) != AMQP_OK)
        refuse("a method", why);
}

void amqp_link_pass_over(const struct amqp_method *method)
{
    const char *name = amqp_method_name(method->id);

    switch (method->id) {
    case AMQP_CONNECTION_CLOSE:
    case AMQP_CHANNEL_CLOSE:
        fprintf(stderr, "%s: %u %.*s\n", name, method->reply_code, SLICE_ARG(method->reply_text));
        exit(1);
    case AMQP_CONNECTION_BLOCKED:
        fprintf(stderr, "%s: %.*s\n", name, SLICE_ARG(method->reason));
        return;
    case AMQP_CONNECTION_UNBLOCKED:
        return;
    default:
        refuse(name, "was not expected");
    }
}

/* ---- sending ------------------------------------------------------------------------------------------------- */

void amqp_link_put(struct amqp_link *link, const struct amqp_method *method)
{
    uint16_t channel = method->id >> 16 == 10 ? 0 : AMQP_CHANNEL;

    if (amqp_put_method_frame(&link->cursor, channel, method) != AMQP_WRITTEN)
        refuse(amqp_method_name(method->id), "does not fit: a name is too long");
}

size_t amqp_link_unsent(const struct amqp_link *link)
{
    return (size_t)(link->cursor.at - link->out) - link->out_from;
}

void amqp_link_flush(struct amqp_link *link)
{
    size_t unsent;

    while ((unsent = amqp_link_unsent(link)) != 0) {
        ssize_t n = send(link->fd, link->out + link->out_from, unsent, MSG_NOSIGNAL);

        if (n < 0 && errno != EAGAIN && errno != EPIPE && errno != ECONNRESET)
            fail("send");
        if (n < 0)
            break;
        link->out_from += (size_t)n;
    }
    memmove(link->out, link->out + link->out_from, unsent);
    link->cursor = amqp_out_of(link->out + unsent, LINK_OUT_BYTES - unsent);
    link->out_from = 0;
}

/* ---- set-up -------------------------------------------------------------------------------------------------- */

static void expect(struct amqp_link *link, enum amqp_method_id id, struct amqp_method *method)
{
    struct amqp_frame frame;

    do {
        while (!amqp_link_take(link, &frame))
            if (!amqp_link_read(link))
                refuse(amqp_method_name(id), "did not come in time");
        if (frame.type == AMQP_HEARTBEAT)
            continue;
        amqp_link_method(frame, method);
        if (method->id != id)
            amqp_link_pass_over(method);
    } while (frame.type == AMQP_HEARTBEAT || method->id != id);
}

void amqp_link_call(struct amqp_link *link, const struct amqp_method *method, enum amqp_method_id answer_id,
                    struct amqp_method *answer)
{
    amqp_link_put(link, method);
    amqp_link_flush(link);
    expect(link, answer_id, answer);
}

/* What this client understands. */
static struct slice put_capabilities(char *at, size_t room)
{
    static const char *names[] = {"authentication_failure_close", "basic.nack", "connection.blocked",
                                  "publisher_confirms"};
    struct amqp_out out = amqp_out_of(at, room);
    char *begin = amqp_table_begin(&out, SLICE("capabilities"), AMQP_TABLE);

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct amqp_value value = {
            .name = slice_from_text(names[i]), .type = AMQP_BOOL, .letter = 't', .truth = true};

        amqp_table_put(&out, &value);
    }
    amqp_nested_end(&out, begin);
    if (amqp_out_close(&out, at) != AMQP_WRITTEN)
        refuse("capabilities", "do not fit");
    return slice_of(at, (size_t)(out.at - at));
}

static void log_in(struct amqp_link *link, const struct amqp_login *login, struct amqp_method *tune)
{
    char response[1024], capabilities[256];
    int len = snprintf(response, sizeof(response), "%c%s%c%s", 0, login->user, 0, login->password);
    struct amqp_method ok = {.id = AMQP_CONNECTION_START_OK,
                             .mechanism = SLICE("PLAIN"),
                             .locale = SLICE("en_US"),
                             .table = put_capabilities(capabilities, sizeof(capabilities))};

    if (len < 0 || (size_t)len >= sizeof(response))
        refuse("user and password", "are too long");
    ok.response = slice_of(response, (size_t)len);
    amqp_put_header(&link->cursor);
    amqp_link_flush(link);
    expect(link, AMQP_CONNECTION_START, tune);
    amqp_link_call(link, &ok, AMQP_CONNECTION_TUNE, tune);
}

void amqp_link_open(struct amqp_link *link, const struct amqp_login *login)
{
    struct amqp_method answer, tune_ok = {.id = AMQP_CONNECTION_TUNE_OK};
    struct amqp_method open = {.id = AMQP_CONNECTION_OPEN, .virtual_host = slice_from_text(login->vhost)};
    struct amqp_method channel = {.id = AMQP_CHANNEL_OPEN};

    *link = (struct amqp_link){.fd = connect_to(login), .limits = {FRAME_MAX, FRAME_MAX}};
    link->in = malloc(LINK_IN_BYTES);
    link->out = malloc(LINK_OUT_BYTES);
    if (!link->in || !link->out)
        fail("malloc");
    link->cursor = amqp_out_of(link->out, LINK_OUT_BYTES);
    log_in(link, login, &answer);
    tune_ok.channel_max = answer.channel_max;
    tune_ok.frame_max = answer.frame_max && answer.frame_max < FRAME_MAX ? answer.frame_max : FRAME_MAX;
    link->limits.body = tune_ok.frame_max;
    amqp_link_put(link, &tune_ok);
    amqp_link_call(link, &open, AMQP_CONNECTION_OPEN_OK, &answer);
    amqp_link_call(link, &channel, AMQP_CHANNEL_OPEN_OK, &answer);
}

void amqp_link_unblock(struct amqp_link *link)
{
    if (fcntl(link->fd, F_SETFL, O_NONBLOCK) != 0)
        fail("fcntl");
}
