/* server.c - see server.h.
 *
 * The order of things. Start: sockets, privileges, then threads with their loops, then the first configuration is
 * committed as any later one (change.c). End: every thread drains by itself; thread 0 joins the others, and only then is
 * anything freed that another thread might still have looked at. */
#include "server/server.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/log.h"
#include "server/inherit.h"
#include "server/notify.h"
#include "server/process.h"

/* Descriptors beyond the clients' and as many to servers: logs, loops, listeners, checks. */
#define OTHER_DESCRIPTORS 256
#define ADMIN_CLIENTS_MAX 128
#define TICK_US US_PER_S

struct process *process_of(struct system *system)
{
    return container_of(system, struct process, system);
}

/* ---- actions ------------------------------------------------------------------------------------------------ */

void system_result_free(struct system_result *result)
{
    free(result->text);
    free(result->changes);
    free(result->warnings);
    free(result->problems);
}

/* Shared by the fiber that acts and the one that waits; whoever is last frees it. */
struct action {
    struct process *process;
    void (*run)(struct process *process, struct system_result *result);
    struct system_result *result; /* NULL: nobody waits, or not any more */
    struct fiber *waiter;
    bool done;
};

static void action_main(void *arg)
{
    struct action *action = arg;
    struct process *process = action->process;
    struct system_result result = {0};

    action->run(process, &result);
    process->changing = false;
    change_sweep(process);
    action->done = true;
    if (action->result) {
        *action->result = result;
        fiber_wake(action->waiter);
    } else {
        system_result_free(&result);
        free(action);
    }
    process->actions--;
    fiber_wake(process->fiber);
    if (process->reload_again && !process->system.drains) {
        process->reload_again = false;
        reload(&process->system, NULL);
    }
}

static void refuse_action(struct system_result *result, int status, const char *why)
{
    result->status = status;
    result->text = strdup(why);
}

/* Why it may not begin now; NULL: it may. */
static const char *why_not_now(const struct process *process)
{
    if (process->system.drains)
        return "maitred is on its way out; ask the process that took over";
    return process->changing ? "a reload or an upgrade is under way; try again when it is done" : NULL;
}

/* Returns what frees itself when result is NULL. NULL: no memory. */
static struct action *start_action(struct process *process, const char *name,
                                   void (*run)(struct process *process, struct system_result *result),
                                   struct system_result *result)
{
    struct action *action = calloc(1, sizeof *action);

    if (action)
        *action = (struct action){process, run, result, fiber_self(), false};
    if (!action || fiber_start(name, action_main, action) != 0) {
        free(action);
        log_error("no memory for the %s; nothing has changed", name);
        return NULL;
    }
    process->changing = true;
    process->actions++;
    return action;
}

/* Until it is done, or its waiter is cancelled. */
static void await_action(struct action *action)
{
    while (!action->done)
        if (fiber_park(NEVER) != 0 && !action->done) {
            refuse_action(action->result, 500, "nobody waits for the result");
            action->result = NULL;
            return;
        }
    free(action);
}

void action_run(struct process *process, const char *name,
                void (*run)(struct process *process, struct system_result *result),
                struct system_result *result)
{
    const char *why_not = why_not_now(process);
    struct action *action = why_not ? NULL : start_action(process, name, run, result);

    if (!result) {
        if (why_not)
            log_warning("%s", why_not);
        return;
    }
    *result = (struct system_result){0};
    if (why_not)
        refuse_action(result, 409, why_not);
    else if (!action)
        refuse_action(result, 500, "no memory; nothing has changed");
    else
        await_action(action);
}

/* ---- signals ------------------------------------------------------------------------------------------------ */

void process_forget_file(struct process_listener *pl)
{
    if (pl->owns_file)
        listen_forget(&pl->system.address);
    pl->owns_file = false;
}

static void forget_files(struct process *process)
{
    struct list *listeners = &process->system.listeners;

    for (struct list *node = listeners->next; node != listeners; node = node->next)
        process_forget_file(container_of(node, struct process_listener, system.list));
}

/* A process that took over waits so long for the queue's log, at most, for whom we give messages to. */
#define HAND_OVER_US (3 * US_PER_S)

/* They finish what they have for nine tenths of the time, and are killed when all of it is over. */
static void drain_workers(struct process *process)
{
    uint64_t timeout_us = process->system.config->drain_timeout_us;

    if (process->handed_over && process->queue && timeout_us > HAND_OVER_US)
        timeout_us = HAND_OVER_US;

    workers_drain(process->system.workers, loop_now_us() + timeout_us / 10 * 9, loop_now_us() + timeout_us);
}

void process_drain(struct process *process, const char *why)
{
    bool again = process->system.drains;

    process->system.drains = true;
    if (!again) {
        event_say(EVENT_DRAIN, SLICE(""), SLICE(""), "%s: draining; once more to hurry", why);
        if (!process->handed_over)
            notify("STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=%llu",
                   (unsigned long long)process->system.config->drain_timeout_us + 5 * US_PER_S);
    } else {
        log_info("%s again: cutting off what is left", why);
    }
    forget_files(process);
    drain_workers(process);
    if (process->handed_over && process->queue)
        queue_thread_release_waiters(process->queue);
    threads_tell(process, again ? ORDER_HURRY : ORDER_DRAIN);
}

static void reopen_logs(struct process *process)
{
    log_info("opening the access logs again");
    for (struct list *node = process->logs.next; node != &process->logs; node = node->next)
        access_log_reopen(container_of(node, struct process_log, list)->log);
}

static void on_signal(struct process *process, int signal)
{
    switch (signal) {
    case SIGUSR1:
        reopen_logs(process);
        break;
    case SIGHUP: /* the file may have changed since it was read */
        process->reload_again = process->changing;
        if (!process->changing)
            reload(&process->system, NULL);
        break;
    case SIGUSR2:
        upgrade(&process->system, NULL);
        break;
    default:
        process_drain(process, strsignal(signal));
    }
}

static void signal_main(void *arg)
{
    struct process *process = arg;

    while (io_wait_readable(&process->signals, NEVER) == 0) {
        struct signalfd_siginfo info;

        process->signals.ready = 0;
        while (read(process->signals.fd, &info, sizeof info) == (ssize_t)sizeof info)
            on_signal(process, (int)info.ssi_signo);
    }
}

static int watch_signals(struct process *process)
{
    int fd;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a limit of file sizes is an error, and no end */
    fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    process->signals.fd = fd;
    return fd < 0 ? -errno : 0;
}

/* ---- thread 0 ---------------------------------------------------------------------------------------------- */

/* Every thread's loop has turned lately. */
static bool all_alive(const struct process *process, uint64_t within_us)
{
    for (unsigned i = 0; i < process->system.n_threads; i++)
        if (atomic_load_explicit(&process->threads[i].beat_us, memory_order_relaxed) + within_us <
            loop_now_us())
            return false;
    return true;
}

static void tick_main(void *arg)
{
    struct process *process = arg;
    uint64_t watchdog_us = notify_watchdog_us();
    uint64_t tick_us = watchdog_us && watchdog_us / 2 < TICK_US ? watchdog_us / 2 : TICK_US;

    while (fiber_sleep_until(loop_now_us() + tick_us) == 0) {
        control_tick(process->system.control);
        change_sweep(process);
        if (watchdog_us && !process->handed_over &&
            (process->system.drains || all_alive(process, watchdog_us)))
            notify("WATCHDOG=1");
    }
}

static void say_ready(const struct process *process)
{
    const struct system *system = &process->system;

    for (const struct list *node = system->listeners.next; node != &system->listeners; node = node->next) {
        const struct system_listener *l = container_of(node, struct system_listener, list);
        unsigned n = l->listener->n_threads;

        log_info("ready: %s on %s, %u thread%s", l->admin ? "admin" : l->listener->kind->name,
                 l->listener->name, n, n == 1 ? "" : "s");
    }
    event_say(EVENT_START, SLICE(""), SLICE(""), "maitred %s serves %s", MAITRED_VERSION, system->file);
    notify("MAINPID=%d\nREADY=1\nSTATUS=serving", (int)getpid());
    upgrade_say_ready();
}

static bool commit_first(struct process *process, struct change *change)
{
    if (change_prepare(change) == 0) {
        change_commit(change);
        upgrade_take_over(process);
        return true;
    }
    log_error("could not start every part; see above");
    change_abandon(change);
    return false;
}

static bool begin(struct process *process, struct change *change)
{
    bool ok = threads_start(process) == 0;

    while (process->n_open < process->n_pthreads)
        fiber_park(NEVER);
    if (!ok || process->exit_code) {
        change_abandon(change);
        return false;
    }
    return commit_first(process, change);
}

/* Every part that may have somebody waiting in it has ended. */
static void await_end(struct process *process)
{
    while (process->n_closed < process->n_pthreads || process->actions ||
           !list_empty(&process->system.listeners) || !list_empty(&process->system.draining) ||
           (process->system.workers && !workers_are_gone(process->system.workers)))
        fiber_park(NEVER);
}

struct start {
    struct process *process;
    struct change *change;
};

static void workers_gone(void *arg)
{
    fiber_wake(((struct process *)arg)->fiber);
}

static struct workers *create_workers(struct process *process)
{
    struct workers_options options = {
        .port = process->system.port,
        .mailboxes = process->mailboxes,
        .n_threads = process->system.n_threads,
        .gone = workers_gone,
        .arg = process,
    };

    return workers_create(&options);
}

/* Everything between the first thread's loop and its end. */
static void server_fiber(void *arg)
{
    struct start *start = arg;
    struct process *process = start->process;
    struct thread *own = &process->threads[0];
    struct fiber *signals = NULL, *tick = NULL;

    process->fiber = own->fiber = fiber_self();
    if (fiber_catch_overflow() != 0)
        log_warning("a stack overflow will not be named: no memory for a signal stack");
    process->system.control = control_create(process->mailboxes, process->system.n_threads);
    process->system.workers = create_workers(process);
    process->admin = admin_create(&process->system);
    if (io_watch(&process->signals, process->signals.fd, IO_READABLE, false) == 0 &&
        process->system.control && process->system.workers && process->admin) {
        if (begin(process, start->change)) {
            signals = fiber_spawn("signals", signal_main, process);
            tick = fiber_spawn("tick", tick_main, process);
        }
    } else {
        change_abandon(start->change);
    }
    if (signals && tick) {
        say_ready(process);
        workers_serve(process->system.workers);
        process->takes_over = false;
    } else {
        log_error("maitred cannot start");
        process->exit_code = 1;
        if (process->system.workers)
            drain_workers(process);
        threads_tell(process, ORDER_DRAIN);
    }
    thread_serve(own);
    await_end(process);
    if (tick)
        fiber_cancel_and_join(tick);
    if (signals)
        fiber_cancel_and_join(signals);
    if (process->admin)
        admin_free(process->admin);
    if (process->system.workers)
        workers_free(process->system.workers);
    if (process->system.control)
        control_free(process->system.control);
}

/* ---- before and after the threads -------------------------------------------------------------------------- */

/* Every client may need a second descriptor, to a process. */
void process_raise_descriptor_limit(const struct config *config)
{
    rlim_t want = (rlim_t)config->max_connections * 2 + OTHER_DESCRIPTORS;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= want)
        return;
    if (limit.rlim_max < want) {
        struct rlimit more = {want, want};

        if (setrlimit(RLIMIT_NOFILE, &more) == 0)
            return;
        log_warning(
            "only %llu file descriptors are allowed, max-connections = %u wants %llu; raise LimitNOFILE or "
            "`ulimit -n`, or lower max-connections",
            (unsigned long long)limit.rlim_max, config->max_connections, (unsigned long long)want);
        want = limit.rlim_max;
    }
    limit.rlim_cur = want;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static int drop_privileges(const char *user)
{
    struct passwd *pw;

    if (!user || geteuid() != 0)
        return 0;
    errno = 0;
    pw = getpwnam(user);
    if (!pw) {
        log_error("user = %s: there is no such user on this machine", user);
        return -1;
    }
    if (setgroups(0, NULL) != 0 || initgroups(user, pw->pw_gid) != 0 || setgid(pw->pw_gid) != 0 ||
        setuid(pw->pw_uid) != 0) {
        log_error("user = %s: cannot become that user: %s", user, strerror(errno));
        return -1;
    }
    return 0;
}

static int allot(struct process *process, const struct config *config)
{
    struct system *system = &process->system;

    list_init(&system->generations);
    list_init(&system->listeners);
    list_init(&system->draining);
    list_init(&process->logs);
    system->n_threads = config->threads;
    system->tail = tail_create(config->threads);
    system->seats = seats_create(config->threads, config->max_connections);
    process->admin_seats = seats_create(1, ADMIN_CLIENTS_MAX);
    process->threads = calloc(config->threads, sizeof *process->threads);
    process->mailboxes = calloc(config->threads, sizeof(struct mailbox *));
    process->program = realpath("/proc/self/exe", NULL);
    if (!system->tail || !system->seats || !process->admin_seats || !process->threads || !process->mailboxes)
        return -ENOMEM;
    system->port = &process->threads[0].port;
    system->mailboxes = process->mailboxes;
    for (unsigned i = 0; i < config->threads; i++) {
        struct thread *thread = &process->threads[i];

        thread->process = process;
        thread->number = i;
        list_init(&thread->inbox);
        list_init(&thread->listeners);
        list_init(&thread->pushes);
    }
    return 0;
}

static void release(struct process *process)
{
    for (unsigned i = 0; process->mailboxes && i < process->system.n_threads; i++)
        if (process->mailboxes[i])
            mailbox_unref(process->mailboxes[i]);
    free(process->mailboxes);
    process->changing = false;
    change_sweep(process);
    config_unref(process->system.config);
    free(process->system.seats);
    tail_free(process->system.tail);
    free(process->admin_seats);
    free(process->threads);
    free(process->program);
    if (process->signals.fd >= 0)
        close(process->signals.fd);
    notify_close();
}

/* NULL: it has said why. */
static struct change *open_server(struct process *process, const struct config *config)
{
    char why[LISTEN_WHY_MAX];
    struct change *change;
    int error;

    inherit_open(); /* first: its descriptors have numbers that others would take */
    notify_open();
    error = watch_signals(process);
    process_raise_descriptor_limit(config);
    if (!error)
        error = allot(process, config);
    if (error) {
        log_error("cannot start: %s", strerror(-error));
        return NULL;
    }
    change = change_create(process, config, why);
    if (!change) {
        log_error("%s", why);
        return NULL;
    }
    error = change_open(change, why);
    if (error)
        log_error("%s", why);
    inherit_close_rest();
    if (!error) {
        error = queues_make_folder(config, why);
        if (!error && drop_privileges(config->user) == 0) {
            error = change_open_queue(change, why);
            if (!error)
                return change;
        }
        if (error)
            log_error("%s", why);
    }
    change_abandon(change);
    return NULL;
}

int server_run(const char *file, const struct config *config)
{
    struct process process = {
        .system = {.file = file,
                   .config = config_ref(config),
                   .started_us = clock_wall_us(),
                   .reload = reload,
                   .upgrade = upgrade},
        .signals = {.fd = -1},
        .changing = true,
        .takes_over = upgrade_is_under_way(),
    };
    struct change *change = open_server(&process, config);
    struct start start = {&process, change};

    process.changing = false;
    if (!change || thread_run_loop(&process.threads[0], server_fiber, &start) != 0)
        process.exit_code = 1;
    for (unsigned i = 1; i <= process.n_pthreads; i++)
        pthread_join(process.threads[i].pthread, NULL);
    if (process.threads)
        thread_end_loop(&process.threads[0]);
    queue_thread_stop(process.queue);
    release(&process);
    return process.exit_code;
}
