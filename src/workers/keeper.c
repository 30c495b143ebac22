/* keeper.c - see keeper.h. Poll, one thread; what it has to allocate it allocates small. */
#include "workers/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/list.h"
#include "workers/children.h"
#include "workers/environment.h"
#include "workers/keeper_message.h"

/* Soft limit of descriptors: what programs that use select() can live with; maitred's own is far higher. */
#define WORKER_DESCRIPTORS 1024
/* How long the end of all is waited for, and how often what is left is looked for: less than maitred waits for us. */
#define END_MS 5000
#define AGAIN_MS 5
/* How often it is looked whether a group without its worker is empty: not each of it is a child of ours. */
#define GROUPS_MS 100

extern char **environ;

struct ward {
    struct list list;
    uint64_t id;
    pid_t pid;
    bool asked; /* to end: others of its group may take as long as maitred lets them */
    bool ended; /* it has, and was reaped; its number is its group's as long as somebody is in that */
    int status;
};

struct keeping {
    struct list wards;
    pid_t self;
    int signals, null;
};

/* Waits until there is room for it: maitred reads whatever else it does. */
static void say(enum keeper_verb verb, uint64_t id, int value)
{
    struct keeper_message m = {.verb = verb, .id = id, .value = value};
    struct pollfd room = {KEEPER_FD, POLLOUT, 0};

    while (send(KEEPER_FD, &m, sizeof m, MSG_NOSIGNAL) < 0 && (errno == EAGAIN || errno == EINTR))
        poll(&room, 1, -1);
}

static struct ward *find_ward(const struct keeping *k, uint64_t id, pid_t pid)
{
    for (struct list *at = k->wards.next; at != &k->wards; at = at->next) {
        struct ward *ward = container_of(at, struct ward, list);

        if (pid ? ward->pid == pid && !ward->ended : ward->id == id)
            return ward;
    }
    return NULL;
}

/* ---- starting ---------------------------------------------------------------------------------------------------- */

struct start {
    char **words, **environment; /* owned arrays of borrowed texts */
    int fds[3];                  /* -1: /dev/null */
};

static void reset_signals(void)
{
    sigset_t none;

    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void limit_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur <= WORKER_DESCRIPTORS)
        return;
    limit.rlim_cur = WORKER_DESCRIPTORS;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* In the child; does not return. Why it failed goes to report, which an exec closes. */
static void become(const struct keeping *k, const struct start *start, int report)
{
    int fds[3], error;

    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != k->self) /* it was killed before the line above */
        _exit(127);
    reset_signals();
    limit_descriptors();
    for (int i = 0; i < 3; i++) /* out of the way of 0, 1 and 2 first */
        fds[i] = fcntl(start->fds[i] < 0 ? k->null : start->fds[i], F_DUPFD_CLOEXEC, KEEPER_FD + 1);
    for (int i = 0; i < 3; i++)
        dup2(fds[i], i);
    execvpe(start->words[0], start->words, start->environment);
    error = errno;
    if (write(report, &error, sizeof error) != sizeof error)
        _exit(126);
    _exit(127);
}

/* The process, or a negative errno. */
static pid_t start_process(const struct keeping *k, const struct start *start)
{
    int report[2], error = 0;
    pid_t pid;

    if (pipe2(report, O_CLOEXEC) != 0)
        return -errno;
    pid = fork();
    if (pid == 0)
        become(k, start, report[1]);
    if (pid < 0)
        error = errno;
    close(report[1]);
    if (pid > 0 && read(report[0], &error, sizeof error) == sizeof error)
        waitpid(pid, NULL, 0);
    close(report[0]);
    return error ? -error : pid;
}

/* Of n texts that stand one after the other; *at goes behind them. NULL: there are not as many. */
static char **take_texts(char **at, const char *end, uint32_t n)
{
    char **texts = calloc(n + 1, sizeof(char *));

    for (uint32_t i = 0; texts && i < n; i++) {
        size_t bytes = strnlen(*at, (size_t)(end - *at)) + 1;

        if ((size_t)(end - *at) < bytes) {
            free(texts);
            return NULL;
        }
        texts[i] = *at;
        *at += bytes;
    }
    return texts;
}

static void start(struct keeping *k, const struct keeper_message *m, char *texts, size_t bytes,
                  const int fds[3])
{
    char *at = texts, *end = texts + bytes;
    struct start s = {.fds = {fds[0], fds[1], fds[2]}};
    struct ward *ward = malloc(sizeof *ward);
    char **variables;
    pid_t pid = -ENOMEM;

    s.words = take_texts(&at, end, m->n_words);
    variables = take_texts(&at, end, m->n_variables);
    s.environment = variables ? environment_merge(environ, variables) : NULL;
    if (ward && s.words && s.words[0] && s.environment)
        pid = start_process(k, &s);
    free(s.words);
    free(s.environment);
    free(variables);
    if (pid < 0) {
        free(ward);
        say(KEEPER_FAILED, m->id, -pid);
        return;
    }
    *ward = (struct ward){.id = m->id, .pid = pid};
    list_push_back(&k->wards, &ward->list);
    say(KEEPER_STARTED, m->id, pid);
}

/* ---- ending ------------------------------------------------------------------------------------------------------ */

static void end_ward(struct ward *ward)
{
    say(KEEPER_ENDED, ward->id, ward->status);
    list_remove(&ward->list);
    free(ward);
}

/* All that have ended. The group of a worker that was not asked to goes before its number is given back, so that no other can have
 * it meanwhile. */
static void reap(struct keeping *k)
{
    siginfo_t info = {0};

    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid) {
        struct ward *ward = find_ward(k, 0, info.si_pid);
        int status = 0;

        if (ward && !ward->asked)
            kill(-ward->pid, SIGKILL);
        waitpid(info.si_pid, &status, 0);
        if (ward) {
            ward->status = status;
            ward->ended = true;
            if (!ward->asked)
                end_ward(ward);
        }
        info.si_pid = 0;
    }
}

/* Workers that were asked to end, and of whose groups nobody is left. True: there are others. */
static bool end_groups(struct keeping *k)
{
    bool others = false;
    struct list *next;

    for (struct list *at = k->wards.next; at != &k->wards; at = next) {
        struct ward *ward = container_of(at, struct ward, list);

        next = at->next;
        if (!ward->ended)
            continue;
        if (kill(-ward->pid, 0) != 0 && errno == ESRCH)
            end_ward(ward);
        else
            others = true;
    }
    return others;
}

/* To its group. One that we may not kill has become somebody else by a set-uid program. */
static void signal_ward(struct ward *ward, int number)
{
    bool refused = kill(-ward->pid, number) != 0 && errno == EPERM;

    refused = refused || (!ward->ended && kill(ward->pid, 0) != 0 && errno == EPERM);
    ward->asked = number == SIGTERM;
    if (refused && number == SIGKILL)
        say(KEEPER_REFUSED, ward->id, EPERM);
    if (ward->ended && number == SIGKILL)
        end_ward(ward);
}

static void kill_child(pid_t child, void *arg)
{
    (void)arg;
    kill(child, SIGKILL);
}

/* Each that ends leaves its children to us: until there is none, or those that are left outlive SIGKILL. */
static void end_all(const struct keeping *k)
{
    for (struct list *at = k->wards.next; at != &k->wards; at = at->next)
        kill(-container_of(at, struct ward, list)->pid, SIGKILL);
    for (int ms = 0; ms < END_MS; ms += AGAIN_MS) {
        pid_t pid;

        children_each(kill_child, NULL);
        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
            ;
        if (pid < 0 && errno == ECHILD)
            return;
        poll(NULL, 0, AGAIN_MS);
    }
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static void take_fds(struct msghdr *head, uint32_t descriptors, int fds[3])
{
    struct cmsghdr *c = CMSG_FIRSTHDR(head);
    size_t n = 0, at = 0;
    int got[3];

    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(got, CMSG_DATA(c), n * sizeof(int));
    }
    for (unsigned i = 0; i < 3; i++)
        fds[i] = (descriptors & 1u << i) && at < n ? got[at++] : -1;
    while (at < n)
        close(got[at++]);
}

/* One message. False: maitred has gone. */
static bool serve(struct keeping *k)
{
    static char texts[KEEPER_MESSAGE_MAX];
    struct keeper_message m = {0};
    struct iovec parts[] = {{&m, sizeof m}, {texts, sizeof texts}};
    alignas(struct cmsghdr) char control[CMSG_SPACE(3 * sizeof(int))];
    struct msghdr head = {
        .msg_iov = parts, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(KEEPER_FD, &head, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    struct ward *ward;
    int fds[3];

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n < (ssize_t)sizeof m)
        return false;
    take_fds(&head, m.descriptors, fds);
    ward = find_ward(k, m.id, 0);
    if (m.verb == KEEPER_START && !(head.msg_flags & MSG_TRUNC))
        start(k, &m, texts, (size_t)n - sizeof m, fds);
    else if (m.verb == KEEPER_SIGNAL && ward)
        signal_ward(ward, m.value);
    else if (m.verb == KEEPER_ASK)
        say(KEEPER_HERE, 0, 0);
    for (int i = 0; i < 3; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    return true;
}

/* ---- the process ------------------------------------------------------------------------------------------------- */

/* Whoever wants it gone closes the socket; a worker's terminal, or a service manager, does not reach it. */
static bool set_signals(struct keeping *k)
{
    static const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGPIPE, SIGXFSZ};
    sigset_t set;

    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
        signal(ignored[i], SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    k->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return k->signals >= 0;
}

static bool prepare(struct keeping *k)
{
    char self[16];

    list_init(&k->wards);
    k->self = getpid();
    close_range(KEEPER_FD + 1, ~0u, 0);
    prctl(PR_SET_NAME, KEEPER_NAME);
    snprintf(self, sizeof self, "%d", (int)k->self);
    if (setenv(KEEPER_VARIABLE, self, 1) != 0)
        return false;
    k->null = open("/dev/null", O_RDWR | O_CLOEXEC);
    return k->null >= 0 && set_signals(k) && fcntl(KEEPER_FD, F_SETFD, FD_CLOEXEC) == 0 &&
           prctl(PR_SET_CHILD_SUBREAPER, 1) == 0;
}

int keeper_main(void)
{
    struct keeping k = {0};
    int type = 0;
    socklen_t len = sizeof type;
    bool there = true, groups = false;

    if (getsockopt(KEEPER_FD, SOL_SOCKET, SO_TYPE, &type, &len) != 0 || type != SOCK_SEQPACKET) {
        fputs("maitred keeper: this is what maitred starts for its workers; there is no use in starting it "
              "by hand\n",
              stderr);
        return 2;
    }
    if (!prepare(&k))
        return 1;
    while (there) {
        struct pollfd waits[] = {{KEEPER_FD, POLLIN, 0}, {k.signals, POLLIN, 0}};
        struct signalfd_siginfo info;

        if (poll(waits, 2, groups ? GROUPS_MS : -1) < 0 && errno != EINTR)
            break;
        while (read(k.signals, &info, sizeof info) == sizeof info)
            ;
        reap(&k);
        groups = end_groups(&k);
        there = !waits[0].revents || serve(&k);
    }
    end_all(&k);
    _exit(0);
}
