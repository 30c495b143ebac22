/* load.c - the client side of the measurements: many connections, one thread, every answer checked and timed.
 *
 * Two languages: HTTP/1.1 (GET, or with --post a POST with a body that starts with its number; 200 and 202 are
 * answers), or with --tcp the messages of common.h, whose answers come from echo. What is said of requests holds for
 * messages, too.
 *
 * Three ways of asking. Closed loop (default): each connection asks again as soon as it was answered.
 * --rate: open loop, requests fall due at a fixed rate whatever the answers do, and latency counts from when a
 * request was due, so that a stall is seen by all it delayed. --fresh: a new connection for each request,
 * which the server closes. With --count the closed loop ends after so many requests, however long they take.
 *
 * The talk with whoever measures: every connection asks once and gets its answer (not with --fresh); "ready"
 * is printed; a line on standard input starts the measured time; the result is printed as a line of JSON; the
 * next line or the end of standard input closes the connections. So CPU and memory can be read when nothing
 * moves, and with --seconds 0 the connections just stay open and idle.
 *
 * Bodies are taken off the socket without being copied (MSG_TRUNC): only their length is checked. Of the answer to
 * a message the first 64 bytes are, which must be the message.
 * Invariant: each connection is either in flight or in the list of idle ones. */
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common.h"
#include "histogram.h"

#define HEAD_MAX 2048
#define BATCH 256
#define SECOND_NS 1000000000ull
#define OPENING_MAX 128           /* connections waiting for their first answer: below every backlog */
#define WARM_NS (30 * SECOND_NS)  /* until all connections had their first answer */
#define COUNT_NS (10 * SECOND_NS) /* for the requests of --count */
#define DRAIN_NS (5 * SECOND_NS)  /* for the answers still owed at the end */
#define NEVER UINT64_MAX

enum state { IDLE, UNSENT, HEAD, BODY, CLOSING };
enum outcome { MORE, ANSWERED, BROKEN };

struct connection {
    int fd; /* -1: not open */
    enum state state;
    uint64_t sent; /* bytes of the request */
    size_t have;   /* bytes in head */
    uint64_t body_left;
    bool last;              /* the server said that it closes after this answer */
    struct message message; /* with --tcp: the request's first bytes; of a POST its number counts */
    uint64_t due_ns;
    struct connection *next_idle;
    char head[HEAD_MAX];
};

static struct load {
    uint64_t port, connections, seconds, rate, count;
    uint64_t post; /* bytes of the requests' bodies; 0: GET */
    bool fresh;
    char request[16384];    /* HTTP */
    char *number;           /* in the request, where the body starts; NULL without one */
    struct message message; /* what all messages have in common */
    bool tcp;
    uint64_t request_bytes, messages;

    int epoll;
    struct connection *all;
    struct connection *idle_first, *idle_last;
    uint64_t in_flight;
    bool warm;        /* the first answers are in: what comes now counts */
    bool asking;      /* the closed loop goes on */
    uint64_t unasked; /* requests that --count allows for */
    uint64_t start_ns, end_ns, last_ns;
    uint64_t due; /* requests of the fixed rate sent so far */

    uint64_t first_answers, bytes, errors, closed;
    struct histogram latencies;
} load = {.connections = 64, .seconds = 5};

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

static void push_idle(struct connection *c)
{
    c->state = IDLE;
    c->next_idle = NULL;
    if (load.idle_last)
        load.idle_last->next_idle = c;
    else
        load.idle_first = c;
    load.idle_last = c;
}

static struct connection *pop_idle(void)
{
    struct connection *c = load.idle_first;

    load.idle_first = c->next_idle;
    if (!load.idle_first)
        load.idle_last = NULL;
    return c;
}

static void close_connection(struct connection *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

static void open_connection(struct connection *c)
{
    struct sockaddr_in address = loopback(load.port);

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        fail("socket");
    set_option(c->fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof(address)) != 0 && errno != EINPROGRESS)
        fail("connect");
    watch(load.epoll, c->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, c);
}

/* False: the connection is broken. */
static bool send_request(struct connection *c)
{
    c->state = UNSENT;
    if (load.number)
        memcpy(load.number, &c->message.number, NUMBER_BYTES);
    while (c->sent < load.request_bytes) {
        ssize_t n = load.tcp
                        ? send_filled(c->fd, &c->message, sizeof(c->message), c->sent, load.request_bytes)
                        : send_filled(c->fd, load.request, load.request_bytes, c->sent, load.request_bytes);

        if (n < 0)
            return errno == EAGAIN;
        c->sent += (uint64_t)n;
        if (load.tcp)
            load.bytes += (uint64_t)n;
    }
    c->state = HEAD;
    return true;
}

/* Asks over c, which is in no list. */
static void ask(struct connection *c, uint64_t due_ns)
{
    c->due_ns = due_ns;
    c->have = 0;
    c->sent = 0;
    c->last = false;
    c->message = load.message;
    c->message.number = load.messages++;
    load.in_flight++;
    if (c->fd < 0)
        open_connection(c);
    if (!send_request(c)) {
        close_connection(c); /* closed by the server since the last answer: once more over a new one */
        load.closed++;
        c->sent = 0;
        open_connection(c);
        if (!send_request(c))
            fail("send");
    }
}

static void count_answer(struct connection *c)
{
    uint64_t now = now_ns();

    if (!load.warm) {
        load.first_answers++;
        return;
    }
    load.last_ns = now;
    histogram_add(&load.latencies, now - c->due_ns);
}

/* The end of an exchange, good or bad. */
static void settle(struct connection *c)
{
    load.in_flight--;
    if (load.asking && load.unasked) {
        load.unasked--;
        ask(c, now_ns());
    } else {
        push_idle(c);
    }
}

/* The value of a field of the head, which ends with a zero byte; NULL: it has none of that name. */
static const char *field(const char *head, const char *name)
{
    size_t len = strlen(name);

    while ((head = strchr(head, '\n')) != NULL) {
        head++;
        if (strncasecmp(head, name, len) == 0 && head[len] == ':')
            return head + len + 1 + strspn(head + len + 1, " ");
    }
    return NULL;
}

/* The head of an answer of HTTP is in c->head, perhaps. */
static enum outcome look_at_head(struct connection *c)
{
    const char *end, *connection, *content_length;
    size_t head_len;
    uint64_t length;

    c->head[c->have] = 0;
    end = memmem(c->head, c->have, "\r\n\r\n", 4);
    if (!end)
        return c->have == HEAD_MAX - 1 ? BROKEN : MORE;
    head_len = (size_t)(end - c->head) + 4;
    c->head[head_len - 1] = 0;
    content_length = field(c->head, "content-length");
    if ((memcmp(c->head, "HTTP/1.1 200", 12) != 0 && memcmp(c->head, "HTTP/1.1 202", 12) != 0) ||
        !content_length)
        return BROKEN;
    length = strtoull(content_length, NULL, 10);
    if (c->have - head_len > length)
        return BROKEN;
    connection = field(c->head, "connection");
    c->last = connection && strncasecmp(connection, "close", 5) == 0;
    load.bytes += c->have;
    c->body_left = length - (c->have - head_len);
    c->state = BODY;
    return c->body_left ? MORE : ANSWERED;
}

static enum outcome look_at_message(struct connection *c)
{
    uint64_t bytes = load.message.answer_bytes;

    if (c->have < sizeof(c->message))
        return MORE;
    if (memcmp(c->head, &c->message, sizeof(c->message)) != 0 || c->have > bytes)
        return BROKEN;
    load.bytes += c->have;
    c->body_left = bytes - c->have;
    c->state = BODY;
    return c->body_left ? MORE : ANSWERED;
}

static enum outcome read_head(struct connection *c)
{
    size_t room = HEAD_MAX - 1 - c->have;
    ssize_t n = recv(c->fd, c->head + c->have, room, 0);

    if (n <= 0)
        return n < 0 && errno == EAGAIN ? MORE : BROKEN;
    c->have += (size_t)n;
    return load.tcp ? look_at_message(c) : look_at_head(c);
}

static enum outcome read_body(struct connection *c)
{
    while (c->body_left) {
        ssize_t n = recv(c->fd, NULL, c->body_left, MSG_TRUNC);

        if (n <= 0)
            return n < 0 && errno == EAGAIN ? MORE : BROKEN;
        c->body_left -= (size_t)n;
        load.bytes += (uint64_t)n;
    }
    return ANSWERED;
}

static enum outcome read_answer(struct connection *c)
{
    enum outcome outcome = MORE;

    if (c->state == HEAD)
        outcome = read_head(c);
    if (c->state == BODY && outcome == MORE)
        outcome = read_body(c);
    return outcome;
}

static void break_off(struct connection *c)
{
    load.errors++;
    close_connection(c);
    settle(c);
}

static void handle(struct connection *c, uint32_t events)
{
    const uint32_t over = EPOLLRDHUP | EPOLLHUP | EPOLLERR;
    enum outcome outcome;

    if (c->state == IDLE) {
        if (events & over) {
            close_connection(c);
            load.closed++;
        }
        return;
    }
    if (c->state == UNSENT && !send_request(c)) {
        break_off(c);
        return;
    }
    outcome = read_answer(c);
    if (outcome == BROKEN) {
        break_off(c);
        return;
    }
    if (outcome == ANSWERED) {
        count_answer(c);
        if (!load.fresh) {
            if (c->last || events & over) {
                close_connection(c);
                load.closed++;
            }
            settle(c);
            return;
        }
        c->state = CLOSING; /* the server was asked to close: its doing so belongs to the request */
    }
    if (events & over) {
        if (c->state != CLOSING) {
            break_off(c);
            return;
        }
        close_connection(c);
        settle(c);
    }
}

/* Waits until until_ns at the most, and handles what came. */
static void turn(uint64_t now, uint64_t until_ns)
{
    struct epoll_event events[BATCH];
    uint64_t wait_ns = until_ns > now ? until_ns - now : 0;
    struct timespec timeout = {(time_t)(wait_ns / SECOND_NS), (long)(wait_ns % SECOND_NS)};
    int n = epoll_pwait2(load.epoll, events, BATCH, &timeout, NULL);

    for (int i = 0; i < n; i++)
        handle(events[i].data.ptr, events[i].events);
}

/* Opens all connections and asks once over each. */
static void warm_up(void)
{
    uint64_t opened = 0;
    uint64_t deadline = now_ns() + WARM_NS;

    while (load.first_answers < load.connections) {
        uint64_t now = now_ns();

        if (now > deadline || load.errors) {
            fprintf(stderr, "warm-up: %llu of %llu connections answered, %llu errors\n",
                    (unsigned long long)load.first_answers, (unsigned long long)load.connections,
                    (unsigned long long)load.errors);
            exit(1);
        }
        while (opened < load.connections && load.in_flight < OPENING_MAX)
            ask(&load.all[opened++], now);
        turn(now, deadline);
    }
}

static void run_closed_loop(void)
{
    load.asking = true;
    load.unasked = load.count ? load.count : UINT64_MAX;
    if (load.count)
        load.end_ns = load.start_ns + COUNT_NS;
    for (; load.idle_first && load.unasked; load.unasked--)
        ask(pop_idle(), load.start_ns);
    for (uint64_t now = load.start_ns; now < load.end_ns && load.in_flight; now = now_ns())
        turn(now, load.end_ns);
    load.asking = false;
}

static uint64_t due_at(uint64_t request)
{
    return load.start_ns + request / load.rate * SECOND_NS + request % load.rate * SECOND_NS / load.rate;
}

/* A request that finds no idle connection waits for one; its latency runs meanwhile. */
static void run_fixed_rate(void)
{
    uint64_t all = load.rate * load.seconds;
    uint64_t deadline = load.end_ns + DRAIN_NS;

    for (uint64_t now = load.start_ns; load.due < all && now < deadline; now = now_ns()) {
        while (load.due < all && due_at(load.due) <= now && load.idle_first) {
            ask(pop_idle(), due_at(load.due));
            load.due++;
        }
        turn(now, load.idle_first && load.due < all ? due_at(load.due) : deadline);
    }
}

/* Takes the answers still owed. */
static void drain(void)
{
    uint64_t deadline = now_ns() + DRAIN_NS;
    uint64_t now;

    while (load.in_flight && (now = now_ns()) < deadline)
        turn(now, deadline);
    load.errors += load.in_flight;
}

static void print_result(void)
{
    const struct histogram *h = &load.latencies;
    double seconds = load.last_ns > load.start_ns ? (double)(load.last_ns - load.start_ns) / 1e9 : 0;
    uint64_t owed = load.rate ? load.rate * load.seconds - load.due : 0;

    printf("{\"requests\": %llu, \"errors\": %llu, \"closed\": %llu, \"unsent\": %llu, \"seconds\": %.6f, "
           "\"bytes\": %llu, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f}\n",
           (unsigned long long)h->count, (unsigned long long)load.errors, (unsigned long long)load.closed,
           (unsigned long long)owed, seconds, (unsigned long long)load.bytes, histogram_us(h, 0.50),
           histogram_us(h, 0.99), histogram_us(h, 0.999), (double)h->max_ns / 1e3);
}

/* False: standard input ended. */
static bool wait_for_line(void)
{
    char line[64];

    fflush(stdout);
    return fgets(line, sizeof(line), stdin) != NULL;
}

static const char usage_text[] = "load --port N [--path PATH [--post BYTES] | --tcp [--upload BYTES] "
                                 "[--answer BYTES]] [--connections N] [--seconds N]\n"
                                 "            [--rate N | [--fresh] [--count N]]";

static void make_request(const char *path)
{
    char length[64] = "";
    int len;

    load.message.last = load.fresh;
    load.request_bytes = load.message.bytes;
    if (load.tcp)
        return;
    if (load.post)
        snprintf(length, sizeof(length), "Content-Length: %llu\r\n", (unsigned long long)load.post);
    len = snprintf(load.request, sizeof(load.request), "%s %s HTTP/1.1\r\nHost: bench.test\r\n%s%s\r\n",
                   load.post ? "POST" : "GET", path, length, load.fresh ? "Connection: close\r\n" : "");
    if (len < 0 || (size_t)len + load.post >= sizeof(load.request))
        usage(usage_text);
    load.number = load.post ? load.request + len : NULL;
    memset(load.request + len, 'x', load.post);
    load.request_bytes = (uint64_t)len + load.post;
}

static void read_options(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint64_t *value;
        uint64_t low, high;
    } numbers[] = {
        {"--port", &load.port, 1, 65535},
        {"--connections", &load.connections, 1, 100000},
        {"--seconds", &load.seconds, 0, 3600},
        {"--rate", &load.rate, 1, 1000000},
        {"--count", &load.count, 1, 1000000000},
        {"--post", &load.post, NUMBER_BYTES, 8192},
        {"--upload", &load.message.bytes, sizeof(struct message), 1ull << 40},
        {"--answer", &load.message.answer_bytes, sizeof(struct message), 1ull << 40},
    };
    enum { N_NUMBERS = sizeof(numbers) / sizeof(numbers[0]), PATH = N_NUMBERS, FRESH, TCP, END };
    struct option names[END + 1] = {
        [PATH] = {"path", required_argument, NULL, PATH},
        [FRESH] = {"fresh", no_argument, NULL, FRESH},
        [TCP] = {"tcp", no_argument, NULL, TCP},
    };
    const char *path = "/";

    for (int i = 0; i < N_NUMBERS; i++)
        names[i] = (struct option){numbers[i].name + 2, required_argument, NULL, i};
    load.message.bytes = load.message.answer_bytes = sizeof(struct message);
    for (int option; (option = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (option == PATH)
            path = optarg;
        else if (option == FRESH)
            load.fresh = true;
        else if (option == TCP)
            load.tcp = true;
        else if (option < N_NUMBERS)
            *numbers[option].value =
                parse_number(numbers[option].name, optarg, numbers[option].low, numbers[option].high);
        else
            usage(usage_text);
    }
    if (optind != argc || !load.port || ((load.fresh || load.count) && load.rate))
        usage(usage_text);
    make_request(path);
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    raise_fd_limit();
    prctl(PR_SET_TIMERSLACK, 1ul); /* ns: the fixed rate must not be late by the default 50 us */
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    load.all = calloc(load.connections, sizeof(*load.all));
    if (!load.all)
        fail("calloc");
    for (uint64_t i = 0; i < load.connections; i++)
        load.all[i].fd = -1;
    if (load.fresh) {
        for (uint64_t i = 0; i < load.connections; i++)
            push_idle(&load.all[i]);
    } else {
        warm_up();
    }
    puts("ready");
    if (!wait_for_line())
        return 0;
    load.warm = true;
    load.bytes = 0;
    load.start_ns = now_ns();
    load.end_ns = load.start_ns + load.seconds * SECOND_NS;
    if (load.seconds == 0)
        turn(0, 0); /* sees which connections the server closed */
    else if (load.rate)
        run_fixed_rate();
    else
        run_closed_loop();
    drain();
    print_result();
    wait_for_line();
    return 0;
}
