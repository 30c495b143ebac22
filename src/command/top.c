/* top.c - `maitred top`: the state, drawn anew each second, and keys that steer servers.
 *
 * One thread. Keys and signals are behind one descriptor, which also cuts short a question that is under way: a
 * server that is slow to answer does not make the keys slow. What is drawn and what keys mean: top_view.h. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "command/client.h"
#include "command/command.h"
#include "command/terminal.h"
#include "command/top_view.h"
#include "command/view.h"

#define REFRESH_US (1u * US_PER_S)
#define ACTION_TIMEOUT_MS 5000u
#define CONTROL_C 3

struct top {
    struct client client;
    struct top_ui ui;
    json_t *state; /* the newest there is */
    int signals;   /* signalfd; -1: none */
    int input;     /* epoll: signals and the keyboard; -1: none */
    uint64_t next_us;
    bool over;
};

static void take_state(struct top *top, json_t *state)
{
    json_decref(top->state);
    top->state = state;
    top->ui.lost[0] = '\0';
}

/* Asks for the state. False: a key came first, which is to be seen to before it is asked for again. */
static bool refresh(struct top *top)
{
    json_t *state;
    int error;

    top->client.wake_fd = top->input;
    error = client_call(&top->client, "GET", "/api/state", CLIENT_TIMEOUT_MS, &state, NULL);
    if (error == -ECANCELED)
        return false;
    top->next_us = clock_monotonic_us() + REFRESH_US;
    if (error == 0) {
        take_state(top, state);
        return true;
    }
    snprintf(top->ui.lost, sizeof top->ui.lost, "no news, trying again: %.400s", top->client.why);
    json_decref(state);
    return true;
}

static void act(struct top *top, const char *action)
{
    char *target = client_server_target(top->ui.pool, top->ui.server, action);
    json_t *document = NULL;
    int error = -ENOMEM;

    top->client.wake_fd = -1;
    if (target)
        error = client_call(&top->client, "POST", target, ACTION_TIMEOUT_MS, &document, NULL);
    snprintf(top->ui.said, sizeof top->ui.said, "%.400s",
             error == 0         ? view_string(document, "text")
             : error == -ENOMEM ? "no memory"
                                : top->client.why);
    json_decref(document);
    free(target);
    top->next_us = 0;
}

static void take_keys(struct top *top)
{
    char bytes[256];
    ssize_t n = read(STDIN_FILENO, bytes, sizeof bytes);
    struct slice typed = slice_of(bytes, n > 0 ? (size_t)n : 0);

    top->over = n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN);
    for (int key = terminal_take_key(&typed); key >= 0 && !top->over; key = terminal_take_key(&typed)) {
        enum top_action action = key == CONTROL_C ? TOP_QUIT : top_key(&top->ui, top->state, key);

        if (action == TOP_QUIT)
            top->over = true;
        else if (action != TOP_NOTHING)
            act(top, action == TOP_DRAIN ? "drain" : "enable");
    }
}

/* A new size needs no more than the frame that is drawn next; every other signal is the end. */
static void take_signal(struct top *top)
{
    struct signalfd_siginfo info;

    if (read(top->signals, &info, sizeof info) == (ssize_t)sizeof info && info.ssi_signo != SIGWINCH)
        top->over = true;
}

static void wait_for_input(struct top *top)
{
    struct epoll_event events[2];
    uint64_t now = clock_monotonic_us();
    int timeout_ms = now < top->next_us ? (int)((top->next_us - now) / US_PER_MS) + 1 : 0;
    int n = epoll_wait(top->input, events, 2, timeout_ms);

    for (int i = 0; i < n && !top->over; i++)
        if (events[i].data.fd == top->signals)
            take_signal(top);
        else
            take_keys(top);
}

static void draw(struct top *top)
{
    unsigned columns, lines;
    char *frame;

    terminal_size(&columns, &lines);
    frame = top_compose(top->state, &top->ui, columns, lines);
    if (!frame || !terminal_show(frame))
        top->over = true;
    free(frame);
}

static bool watch(const struct top *top, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    return epoll_ctl(top->input, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* From here on these signals come through a descriptor. */
static int open_input(struct top *top)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH};
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        sigaddset(&set, numbers[i]);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return -errno;
    top->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    top->input = epoll_create1(EPOLL_CLOEXEC);
    if (top->signals < 0 || top->input < 0 || !watch(top, top->signals) || !watch(top, STDIN_FILENO))
        return -errno;
    return 0;
}

static int run(struct top *top)
{
    int error = open_input(top);

    if (!error)
        error = terminal_enter();
    if (error) {
        fprintf(stderr, "maitred top: the terminal cannot be used: %s\n", strerror(-error));
        return 1;
    }
    top->next_us = clock_monotonic_us() + REFRESH_US;
    while (!top->over) {
        draw(top);
        if (clock_monotonic_us() < top->next_us || !refresh(top))
            wait_for_input(top);
    }
    terminal_leave();
    return 0;
}

static void close_input(const struct top *top)
{
    if (top->signals >= 0)
        close(top->signals);
    if (top->input >= 0)
        close(top->input);
}

int command_top(int argc, char **argv)
{
    struct top top = {.signals = -1, .input = -1, .ui.colour = view_wants_colour()};
    int code = client_open(&top.client, "top", &argc, argv);
    int error;

    if (code)
        return code;
    if (argc != 1)
        return command_misused("top", "it takes nothing but where the admin interface is");
    if (!terminal_is_there()) {
        fputs("maitred top: it needs a terminal; `maitred status` shows the same once, without one\n",
              stderr);
        return 2;
    }
    error = client_call(&top.client, "GET", "/api/state", CLIENT_TIMEOUT_MS, &top.state, NULL);
    code = error ? client_complain(&top.client, error, top.state) : run(&top);
    close_input(&top);
    top_ui_free(&top.ui);
    json_decref(top.state);
    return code;
}
