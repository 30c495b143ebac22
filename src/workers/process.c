/* process.c - see process.h. */
#include "workers/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/event.h"
#include "workers/children.h"
#include "workers/keeper.h"
#include "workers/keeper_message.h"

/* How long one that does not take what it is told is waited for, before it is told again. */
#define AGAIN_US (5 * US_PER_MS)
/* How often a keeper that is waited for is asked whether it is there, and how often in vain at most. Questions are counted, not
 * time: one that stood still together with us, as a machine that is suspended does, is not mute. */
#define ASK_US (2 * US_PER_S)
#define ASK_MOST (KEEPER_ANSWER_US / ASK_US)
/* It does one thing after the other: who is started waits here, where others than starts can go first. */
#define STARTS_AT_ONCE 4u
/* A keeper that is killed again and again is not started more often. */
#define ANOTHER_US US_PER_S
/* How long it takes at most to end what a keeper has left. */
#define LEFT_US (2 * US_PER_S)

extern char **environ;

struct keeper {
    struct io io; /* fd -1: it does not run */
    pid_t pid;
    struct fiber *reader;
    struct list processes; /* that start or run */
    struct list line;      /* processes that are to be started, the next one first */
    unsigned starting;     /* of processes */
    unsigned unanswered;   /* questions since it has said anything */
    uint64_t asked_us;     /* the last of them */
    uint64_t opened_us;
    uint64_t last_id;
    bool closing;
};

/* ---- what it says ------------------------------------------------------------------------------------------------ */

static void change(struct process *p, enum process_state state)
{
    p->state = state;
    if (state == PROCESS_ENDED)
        list_remove(&p->list);
    if (p->waiter)
        fiber_wake(p->waiter);
}

static struct process *find(struct keeper *keeper, uint64_t id)
{
    for (struct list *at = keeper->processes.next; at != &keeper->processes; at = at->next)
        if (container_of(at, struct process, list)->id == id)
            return container_of(at, struct process, list);
    return NULL;
}

/* What it does from now on is nobody's business here; what the keeper says of it is for nobody. */
static void let_go(struct process *p, const char *why)
{
    event_say(EVENT_WORKER_STUCK, SLICE(""), SLICE(""),
              "%s: process %d has outlived SIGKILL: %s; it is left alone, and another takes its place",
              p->name, p->pid, why);
    p->status = SIGKILL;
    change(p, PROCESS_ENDED);
}

static void hear(struct keeper *keeper, const struct keeper_message *m)
{
    struct process *p = find(keeper, m->id);

    keeper->unanswered = 0;
    if (!p)
        return;
    if (m->verb == KEEPER_STARTED) {
        p->pid = m->value;
        change(p, PROCESS_RUNS);
    } else if (m->verb == KEEPER_FAILED) {
        p->error = -m->value;
        change(p, PROCESS_ENDED);
    } else if (m->verb == KEEPER_REFUSED) {
        let_go(p, "it runs as another user, as set-uid programs do (sudo, su): end it by hand, and have the "
                  "command start what may be killed");
    } else if (m->verb == KEEPER_ENDED) {
        p->status = m->value;
        change(p, PROCESS_ENDED);
    }
}

/* Its workers die with it. What those have left in their groups would not. */
static void lose_processes(struct keeper *keeper)
{
    while (!list_empty(&keeper->processes)) {
        struct process *p = container_of(keeper->processes.next, struct process, list);

        if (p->state == PROCESS_RUNS)
            kill(-p->pid, SIGKILL);
        else
            p->error = -EPIPE;
        p->lost = true;
        p->status = SIGKILL;
        change(p, PROCESS_ENDED);
    }
}

static void await_end(pid_t pid)
{
    uint64_t until_us = loop_now_us() + KEEPER_ANSWER_US;

    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (loop_now_us() >= until_us)
            kill(pid, SIGKILL);
        fiber_sleep_until(loop_now_us() + AGAIN_US);
    }
}

/* What is left of a keeper that has gone, daemons that its workers made, has become ours. Our other children are not touched: an
 * entrypoint's, which it had before it became maitred, or what PID 1 gets. */
struct left {
    char mark[sizeof KEEPER_VARIABLE + 16];
    unsigned n;   /* those that are not reaped yet */
    pid_t marked; /* one that is of it */
};

/* Who is about to end has no environment any more, and is waited for. */
static void end_left(pid_t pid, void *arg)
{
    struct left *left = arg;
    char path[64], *variable = NULL;
    size_t room = 0;
    bool any = false, marked = false;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    file = fopen(path, "re");
    if (!file) {
        left->n += errno == ESRCH;
        return;
    }
    while (!marked && getdelim(&variable, &room, '\0', file) > 0) {
        any = true;
        marked = strcmp(variable, left->mark) == 0;
    }
    free(variable);
    fclose(file);
    left->n += marked || !any;
    if (!marked)
        return;
    left->marked = pid;
    kill(pid, SIGKILL);
}

static void end_all_left(pid_t keeper)
{
    uint64_t until_us = loop_now_us() + LEFT_US;
    struct left left;

    for (;;) {
        left = (struct left){.n = 0};
        snprintf(left.mark, sizeof left.mark, KEEPER_VARIABLE "=%d", (int)keeper);
        children_each(end_left, &left);
        while (waitpid(-1, NULL, WNOHANG) > 0) /* nobody else waits for any while the loop turns */
            ;
        if (!left.n || loop_now_us() >= until_us)
            break;
        fiber_sleep_until(loop_now_us() + AGAIN_US);
    }
    if (left.marked)
        event_say(
            EVENT_WORKER_STUCK, SLICE(""), SLICE(""),
            "process %d, which a worker left behind, has outlived SIGKILL: it is left alone; end it by hand",
            (int)left.marked);
}

/* Until the keeper has ended. */
static void reader_main(void *arg)
{
    struct keeper *keeper = arg;
    struct keeper_message m;

    for (;;) {
        ssize_t n = recv(keeper->io.fd, &m, sizeof m, MSG_DONTWAIT);

        if (n == sizeof m) {
            hear(keeper, &m);
            continue;
        }
        if (n >= 0 || (errno != EAGAIN && errno != EINTR))
            break;
        keeper->io.ready &= (uint8_t)~IO_READABLE;
        if (io_wait_readable(&keeper->io, NEVER) != 0)
            break;
    }
    io_forget(&keeper->io);
    close(keeper->io.fd);
    keeper->io.fd = -1;
    if (!keeper->closing) {
        event_say(EVENT_KEEPER_LOST, SLICE(""), SLICE(""),
                  "the process that keeps the workers (%d) was killed; they are started again by another",
                  (int)keeper->pid);
        kill(keeper->pid, SIGKILL);
        lose_processes(keeper);
    }
    await_end(keeper->pid);
    end_all_left(keeper->pid);
    keeper->pid = 0;
}

/* ---- starting it ------------------------------------------------------------------------------------------------- */

/* With nothing of ours but the socket. */
static int spawn(int socket, pid_t *pid)
{
    static char program[] = KEEPER_NAME, command[] = KEEPER_COMMAND;
    char *words[] = {program, command, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    int error;

    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    error = posix_spawn_file_actions_adddup2(&actions, socket, KEEPER_FD);
    for (int fd = 0; !error && fd < 3; fd++)
        error = posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
    if (!error)
        error = posix_spawn(pid, "/proc/self/exe", &actions, &attributes, words, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return -error;
}

static int open_keeper(struct keeper *keeper)
{
    int pair[2], error;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
        return -errno;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    error = spawn(pair[1], &keeper->pid);
    close(pair[1]);
    if (!error) {
        error = io_watch(&keeper->io, pair[0], IO_READABLE, false);
        keeper->reader = error ? NULL : fiber_spawn("keeper", reader_main, keeper);
        if (keeper->reader)
            return 0;
        if (!error)
            io_forget(&keeper->io);
        error = error ? error : -ENOMEM;
        kill(keeper->pid, SIGKILL);
        waitpid(keeper->pid, NULL, 0);
    }
    keeper->io.fd = -1;
    keeper->pid = 0;
    close(pair[0]);
    return error;
}

/* One that was killed is out of the way before there is another. */
static int ensure_keeper(struct keeper *keeper)
{
    while (keeper->reader) {
        struct fiber *reader = keeper->reader;

        if (keeper->io.fd >= 0)
            return 0;
        if (keeper->pid) {
            fiber_sleep_until(loop_now_us() + AGAIN_US);
            continue;
        }
        if (loop_now_us() < keeper->opened_us + ANOTHER_US) {
            fiber_sleep_until(keeper->opened_us + ANOTHER_US);
            continue;
        }
        keeper->reader = NULL;
        fiber_join(reader, NEVER);
    }
    keeper->opened_us = loop_now_us();
    keeper->unanswered = 0;
    return open_keeper(keeper);
}

struct keeper *keeper_create(void)
{
    struct keeper *keeper = calloc(1, sizeof *keeper);

    if (!keeper)
        return NULL;
    keeper->io.fd = -1;
    list_init(&keeper->processes);
    list_init(&keeper->line);
    return keeper;
}

void keeper_free(struct keeper *keeper)
{
    keeper->closing = true;
    if (keeper->io.fd >= 0)
        shutdown(keeper->io.fd, SHUT_RDWR);
    if (keeper->reader)
        fiber_join(keeper->reader, NEVER);
    lose_processes(keeper);
    free(keeper);
}

int keeper_pid(const struct keeper *keeper)
{
    return (int)keeper->pid;
}

/* ---- telling it -------------------------------------------------------------------------------------------------- */

/* By whoever waits for it, every now and then. One that is mute goes, and with it all of its processes. */
static void ask_whether_there(struct keeper *keeper)
{
    struct keeper_message m = {.verb = KEEPER_ASK};

    if (keeper->io.fd < 0 || loop_now_us() < keeper->asked_us + ASK_US)
        return;
    keeper->asked_us = loop_now_us();
    if (keeper->unanswered++ < ASK_MOST)
        send(keeper->io.fd, &m, sizeof m,
             MSG_NOSIGNAL | MSG_DONTWAIT); /* one that has no room for it has others to take */
    else
        kill(keeper->pid, SIGKILL);
}

static int put_texts(const struct process_options *options, struct keeper_message *m, char *texts,
                     size_t *bytes)
{
    for (char *const *word = options->words; *word; word++) {
        size_t n = strlen(*word) + 1;

        if (n > KEEPER_MESSAGE_MAX - *bytes)
            return -E2BIG;
        memcpy(texts + *bytes, *word, n);
        *bytes += n;
        m->n_words++;
    }
    if (options->environment->full || options->environment->bytes > KEEPER_MESSAGE_MAX - *bytes)
        return -E2BIG;
    memcpy(texts + *bytes, options->environment->texts, options->environment->bytes);
    *bytes += options->environment->bytes;
    m->n_variables = options->environment->n;
    return 0;
}

static void put_fds(const struct process_options *options, struct keeper_message *m, struct msghdr *head)
{
    struct cmsghdr *c = head->msg_control;
    int fds[3], n = 0;

    for (unsigned i = 0; i < 3; i++)
        if (options->fds[i] >= 0) {
            fds[n++] = options->fds[i];
            m->descriptors |= 1u << i;
        }
    head->msg_controllen = n ? CMSG_SPACE((size_t)n * sizeof(int)) : 0;
    if (!n)
        return;
    *c = (struct cmsghdr){CMSG_LEN((size_t)n * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(c), fds, (size_t)n * sizeof(int));
}

/* Until it has room for it. */
static int tell(struct keeper *keeper, const struct msghdr *head)
{
    while (keeper->io.fd >= 0) {
        if (sendmsg(keeper->io.fd, head, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
            return 0;
        if (errno != EAGAIN && errno != EINTR)
            return errno == ECONNRESET ? -EPIPE : -errno;
        ask_whether_there(keeper);
        fiber_sleep_until(loop_now_us() + AGAIN_US);
    }
    return -EPIPE;
}

static int tell_start(struct process *p, const struct process_options *options)
{
    char *texts = malloc(KEEPER_MESSAGE_MAX);
    struct keeper_message m = {.verb = KEEPER_START, .id = p->id};
    struct iovec parts[] = {{&m, sizeof m}, {texts, 0}};
    alignas(struct cmsghdr) char control[CMSG_SPACE(3 * sizeof(int))] = {0};
    struct msghdr head = {.msg_iov = parts, .msg_iovlen = 2, .msg_control = control};
    int error = texts ? put_texts(options, &m, texts, &parts[1].iov_len) : -ENOMEM;

    put_fds(options, &m, &head);
    if (!error)
        error = tell(p->keeper, &head);
    free(texts);
    return error;
}

static bool is_unwanted(const struct process_options *options)
{
    return options->unwanted && *options->unwanted;
}

static void call_next(const struct keeper *keeper)
{
    if (!list_empty(&keeper->line))
        fiber_wake(container_of(keeper->line.next, struct process, list)->waiter);
}

static void await_turn(struct process *p, const struct process_options *options)
{
    struct keeper *keeper = p->keeper;

    list_push_back(&keeper->line, &p->list);
    while (!is_unwanted(options) && (keeper->line.next != &p->list || keeper->starting >= STARTS_AT_ONCE))
        fiber_park(NEVER);
    list_remove(&p->list);
    keeper->starting++;
    call_next(keeper);
}

/* In its turn. */
static int start(struct process *p, const struct process_options *options)
{
    struct keeper *keeper = p->keeper;
    int error = is_unwanted(options) ? -ECANCELED : ensure_keeper(keeper);

    if (error)
        return error;
    p->id = ++keeper->last_id;
    snprintf(p->name, sizeof p->name, "%s", options->name ? options->name : "");
    p->state = PROCESS_STARTING;
    list_push_back(&keeper->processes, &p->list);
    error = tell_start(p, options);
    if (error) {
        p->state = PROCESS_ENDED;
        list_remove(&p->list);
        return error;
    }
    process_await(p, PROCESS_STARTING);
    return p->error;
}

int process_start(struct process *p, struct keeper *keeper, const struct process_options *options)
{
    int error;

    *p = (struct process){.keeper = keeper, .waiter = fiber_self(), .state = PROCESS_ENDED};
    list_init(&p->list);
    await_turn(p, options);
    error = start(p, options);
    keeper->starting--;
    call_next(keeper);
    return error;
}

void process_await(struct process *p, enum process_state state)
{
    uint64_t until_us = loop_now_us() + KEEPER_ANSWER_US;

    while (p->state == state) {
        if (state == PROCESS_RUNS && loop_now_us() >= until_us && !p->keeper->unanswered) {
            let_go(p, "it hangs in the kernel (state D in ps), as when a disk or a network file system does");
            return;
        }
        ask_whether_there(p->keeper);
        fiber_park(loop_now_us() + ASK_US);
    }
}

void process_signal(struct process *p, int signal)
{
    struct keeper_message m = {.verb = KEEPER_SIGNAL, .id = p->id, .value = signal};
    struct iovec part = {&m, sizeof m};
    struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};

    if (p->state == PROCESS_RUNS)
        tell(p->keeper, &head);
}

void process_status_text(int status, char text[64])
{
    if (WIFSIGNALED(status))
        snprintf(text, 64, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(text, 64, "exit code %d", WEXITSTATUS(status));
}
