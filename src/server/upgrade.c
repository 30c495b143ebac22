/* upgrade.c - another process takes over, started from the same path, with our listening sockets; see process.h.
 *
 * It inherits them as a service manager would pass them (LISTEN_FDS), reads the file, and says on a pipe when it
 * serves; only then does this one stop accepting and drain. Both accept for a moment: nobody who knocks is lost. When it
 * cannot start, nothing has changed here. It is a grandchild, whose parent is gone at once, so that a service manager
 * that has taken it for its main process learns of its end. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/event.h"
#include "base/log.h"
#include "server/handover.h"
#include "server/inherit.h"
#include "server/notify.h"
#include "server/process.h"

#define READY_FD "MAITRED_READY_FD"
#define READY_FD_IS "MAITRED_READY_FD="
#define STATE_FD "MAITRED_STATE_FD"
#define STATE_FD_IS "MAITRED_STATE_FD="
#define FIRST_FD 3
/* How long the new process may take to start. */
#define START_US (60 * US_PER_S)

extern char **environ;

/* ---- the new process ---------------------------------------------------------------------------------------- */

/* A descriptor that the process before has passed on, by the name of its variable; -1: none. */
static int take_fd(const char *name)
{
    const char *text = getenv(name);
    uint64_t number;

    if (!text || !slice_to_u64(slice_from_text(text), &number) || number < FIRST_FD || number > INT_MAX)
        return -1;
    unsetenv(name);
    return (int)number;
}

bool upgrade_is_under_way(void)
{
    return getenv(READY_FD) != NULL;
}

void upgrade_take_over(struct process *process)
{
    int fd = take_fd(STATE_FD);

    if (fd >= 0)
        handover_read(process->system.control, process->system.workers, fd);
}

void upgrade_say_ready(void)
{
    int fd = take_fd(READY_FD);

    if (fd < 0)
        return;
    if (write(fd, "1", 1) != 1)
        log_warning("the process that this one takes over from did not hear that it is ready: %s",
                    strerror(errno));
    close(fd);
}

/* ---- starting it -------------------------------------------------------------------------------------------- */

/* What the child needs, made before the fork: after it only calls that a signal handler may make are allowed. */
struct launch {
    const char *program;
    char *const *arguments;
    char **environment;
    char pid_text[32]; /* "LISTEN_PID=..." */
    char *names;       /* "LISTEN_FDNAMES=..."; owned */
    int *fds;          /* listening sockets, then the handover, then the pipe's end */
    size_t n_fds;
};

static bool is_ours(const char *variable)
{
    static const char *const names[] = {"LISTEN_FDS=", "LISTEN_PID=",    "LISTEN_FDNAMES=", READY_FD_IS,
                                        STATE_FD_IS,   "NOTIFY_SOCKET=", "WATCHDOG_USEC=",  "WATCHDOG_PID="};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strncmp(variable, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static char *format(const char *text, size_t n)
{
    char *made;

    return asprintf(&made, text, n) < 0 ? NULL : made;
}

/* Of each socket, in the order of launch.fds: whether its file goes along, if it has one. NULL: no memory. */
static char *format_names(const struct system *system)
{
    char *names = NULL;
    const char *separator = "";
    size_t bytes;
    FILE *out = open_memstream(&names, &bytes);
    bool ok;

    if (!out)
        return NULL;
    fputs("LISTEN_FDNAMES=", out);
    for (const struct list *node = system->listeners.next; node != &system->listeners; node = node->next) {
        const struct process_listener *pl = container_of(node, struct process_listener, system.list);

        for (size_t i = 0; i < pl->system.listener->n_fds; i++) {
            fprintf(out, "%s%s", separator, pl->owns_file ? INHERIT_WITH_FILE : INHERIT_WITHOUT_FILE);
            separator = ":";
        }
    }
    ok = !ferror(out);
    if (fclose(out) == 0 && ok)
        return names;
    free(names);
    return NULL;
}

/* Ours without what is about us, and what the new one is to know: three strings that are owned, then launch's. */
static int make_environment(struct launch *launch, const char *const *notify)
{
    size_t n = 0, at = 0, extra = 0;

    while (environ[n])
        n++;
    while (notify[extra])
        extra++;
    launch->environment = calloc(n + extra + 6, sizeof(char *));
    if (!launch->environment)
        return -ENOMEM;
    launch->environment[at++] = format("LISTEN_FDS=%zu", launch->n_fds - 2);
    launch->environment[at++] = format(STATE_FD_IS "%zu", FIRST_FD + launch->n_fds - 2);
    launch->environment[at++] = format(READY_FD_IS "%zu", FIRST_FD + launch->n_fds - 1);
    launch->environment[at++] = launch->pid_text;
    launch->environment[at++] = launch->names;
    for (size_t i = 0; i < n; i++)
        if (!is_ours(environ[i]))
            launch->environment[at++] = environ[i];
    for (size_t i = 0; i < extra; i++)
        launch->environment[at++] = (char *)(uintptr_t)notify[i];
    return launch->environment[0] && launch->environment[1] && launch->environment[2] && launch->names
               ? 0
               : -ENOMEM;
}

static void free_environment(struct launch *launch)
{
    if (launch->environment) {
        free(launch->environment[0]);
        free(launch->environment[1]);
        free(launch->environment[2]);
    }
    free(launch->environment);
}

static void write_pid(char *text, pid_t pid)
{
    static const char name[] = "LISTEN_PID=";
    char digits[16];
    size_t n = 0;

    for (unsigned rest = (unsigned)pid; n == 0 || rest; rest /= 10)
        digits[n++] = (char)('0' + rest % 10);
    memcpy(text, name, sizeof name - 1);
    for (size_t i = 0; i < n; i++)
        text[sizeof name - 1 + i] = digits[n - 1 - i];
    text[sizeof name - 1 + n] = '\0';
}

/* In the child. First out of the way of the numbers they are to have, then there. */
static void move_fds(const struct launch *launch)
{
    int above = FIRST_FD + (int)launch->n_fds;

    for (size_t i = 0; i < launch->n_fds; i++)
        launch->fds[i] = fcntl(launch->fds[i], F_DUPFD_CLOEXEC, above);
    for (size_t i = 0; i < launch->n_fds; i++)
        if (launch->fds[i] < 0 || dup2(launch->fds[i], FIRST_FD + (int)i) < 0)
            _exit(127);
}

/* In the grandchild: says who it is, and becomes the new process. */
static void become(struct launch *launch)
{
    pid_t pid = getpid();
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    write_pid(launch->pid_text, pid);
    if (write(launch->fds[launch->n_fds - 1], &pid, sizeof pid) != (ssize_t)sizeof pid)
        _exit(127);
    move_fds(launch);
    execve(launch->program, launch->arguments, launch->environment);
    _exit(127);
}

/* The new process is nobody's child: not ours either, though we may be who gets what workers leave behind. */
static int start(struct launch *launch)
{
    int reaper = 0, status = 0, error;
    pid_t child;

    prctl(PR_GET_CHILD_SUBREAPER, &reaper);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    child = fork();
    error = errno;
    if (child == 0) {
        pid_t grandchild = fork();

        if (grandchild == 0)
            become(launch);
        _exit(grandchild < 0 ? 1 : 0);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    prctl(PR_SET_CHILD_SUBREAPER, reaper);
    if (child < 0)
        return -error;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EAGAIN;
}

static size_t count_sockets(const struct system *system)
{
    size_t n = 0;

    for (const struct list *node = system->listeners.next; node != &system->listeners; node = node->next)
        n += container_of(node, struct system_listener, list)->listener->n_fds;
    return n;
}

static int start_with_sockets(struct process *process, int pipe_end)
{
    char *arguments[] = {process->program, (char *)(uintptr_t) "run", (char *)(uintptr_t)process->system.file,
                         NULL};
    struct launch launch = {.program = process->program, .arguments = arguments};
    int handover = handover_write(process->system.control, process->system.workers), result = -ENOMEM;

    if (handover < 0)
        return handover;
    launch.fds = calloc(count_sockets(&process->system) + 2, sizeof *launch.fds);
    if (!launch.fds) {
        close(handover);
        return -ENOMEM;
    }
    for (struct list *node = process->system.listeners.next; node != &process->system.listeners;
         node = node->next) {
        const struct listener *l = container_of(node, struct system_listener, list)->listener;

        for (size_t i = 0; i < l->n_fds; i++)
            launch.fds[launch.n_fds++] = l->fds[i];
    }
    launch.fds[launch.n_fds++] = handover;
    launch.fds[launch.n_fds++] = pipe_end;
    launch.names = format_names(&process->system);
    if (make_environment(&launch, notify_environment()) == 0)
        result = start(&launch);
    free_environment(&launch);
    free(launch.names);
    free(launch.fds);
    close(handover);
    return result;
}

/* ---- the upgrade -------------------------------------------------------------------------------------------- */

static void say(struct system_result *result, int status, enum event_kind kind, const char *text)
{
    result->status = status;
    result->text = strdup(text);
    event_say(kind, SLICE(""), SLICE(""), "%s", text);
}

static void say_failure(struct system_result *result, const char *why)
{
    char text[256];

    snprintf(text, sizeof text, "the new process %s; this one goes on as before", why);
    say(result, 500, EVENT_UPGRADE_FAILED, text);
}

/* Its pipe has ended, or it took too long. */
static void give_up(struct system_result *result, pid_t pid, int error)
{
    char why[96];

    if (error == -ETIMEDOUT && pid > 0) {
        kill(pid, SIGKILL);
        snprintf(why, sizeof why, "was not ready within %u s and was killed",
                 (unsigned)(START_US / US_PER_S));
        say_failure(result, why);
    } else {
        say_failure(result, "ended before it served; its log says why");
    }
}

/* Its number, and then a byte once it serves. 0, -ENODATA when it ended first, or another error. */
static int await_ready(int fd, pid_t *pid)
{
    uint64_t deadline_us = loop_deadline(START_US);
    char bytes[sizeof *pid + 1];
    size_t have = 0;
    struct io io;
    int error = io_watch(&io, fd, IO_READABLE, false);

    while (!error && have < sizeof bytes) {
        ssize_t n = read(fd, bytes + have, sizeof bytes - have);

        if (n > 0) {
            have += (size_t)n;
        } else if (n == 0) {
            error = -ENODATA;
        } else if (errno == EAGAIN) {
            io.ready = 0;
            error = io_wait_readable(&io, deadline_us);
        } else {
            error = -errno;
        }
    }
    io_forget(&io);
    if (have >= sizeof *pid)
        memcpy(pid, bytes, sizeof *pid);
    return error;
}

/* Our unix sockets' files are the new process's now. */
static void leave_files(struct process *process)
{
    for (struct list *node = process->system.listeners.next; node != &process->system.listeners;
         node = node->next)
        container_of(node, struct process_listener, system.list)->owns_file = false;
}

static void upgrade_main(struct process *process, struct system_result *result)
{
    char text[96];
    pid_t pid = 0;
    int ends[2], error;

    if (!process->program || pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        say_failure(result, "could not be started");
        return;
    }
    error = start_with_sockets(process, ends[1]);
    close(ends[1]);
    if (!error)
        error = await_ready(ends[0], &pid);
    close(ends[0]);
    if (error) {
        give_up(result, pid, error);
    } else {
        snprintf(text, sizeof text, "process %d has taken over; this one drains", (int)pid);
        say(result, 200, EVENT_UPGRADE, text);
        process->handed_over = true;
        leave_files(process);
        process_drain(process, "upgrade");
    }
}

void upgrade(struct system *system, struct system_result *result)
{
    action_run(process_of(system), "upgrade", upgrade_main, result);
}
