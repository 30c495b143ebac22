/* server.c - see server.h.
 *
 * The order of things. Start: sockets, privileges, pools and names, then every thread opens its part and waits; when
 * all have, all start to accept. End: every thread drains by itself; thread 0 joins the others, and only
 * then is anything freed that another thread might still have looked at. */
#include "server/server.h"

#include <errno.h>
#include <grp.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "balance/control.h"
#include "balance/upstream.h"
#include "base/log.h"
#include "fiber/splice.h"
#include "front/http.h"
#include "server/listen.h"

/* How long the start waits for names before it goes on without their servers. */
#define FIRST_NAMES_US (2 * US_PER_S)
/* Descriptors beyond the clients' and as many to servers: logs, loops, listeners, checks. */
#define OTHER_DESCRIPTORS 256

struct process;
struct thread;

enum order { ORDER_START, ORDER_DRAIN, ORDER_HURRY, N_ORDERS };

/* What thread 0 tells a thread; each at most once, so that no memory is needed when it matters. */
struct order_message {
    struct message message;
    struct thread *thread;
    enum order order;
    bool sent;
};

/* What a thread tells thread 0: that it is open, and that it is closed. */
struct report {
    struct message message;
    struct thread *thread;
};

/* One serving thread. */
struct thread {
    struct process *process;
    unsigned number;
    pthread_t pthread;
    struct loop *loop;
    struct mailbox *mailbox;    /* borrowed from the loop while the thread is open */
    struct http_front **fronts; /* by listener */
    struct pool_thread **pools; /* by pool */
    struct fiber *fiber;        /* while it may be told anything */
    bool started, drain, hurry; /* what it was told */
    bool failed;
    struct order_message orders[N_ORDERS];
    struct report open, closed;
};

struct process {
    const struct config *config;
    struct seats *seats;
    struct http_shared *listeners;
    size_t n_listeners;
    struct access_log **logs; /* by listener; the same path is the same log */
    struct pool **pools;
    size_t n_pools;
    struct control *control;
    struct thread *threads;
    unsigned n_pthreads;       /* beside thread 0 */
    unsigned n_open, n_closed; /* of them */
    struct fiber *fiber;       /* thread 0's main fiber */
    struct io signals;
    int exit_code;
};

/* ---- messages between thread 0 and the others -------------------------------------------------------------- */

static void order_deliver(struct message *message)
{
    struct order_message *m = container_of(message, struct order_message, message);
    struct thread *thread = m->thread;

    if (m->order == ORDER_START)
        thread->started = true;
    else
        thread->drain = true;
    if (m->order == ORDER_HURRY) {
        thread->hurry = true;
        for (size_t i = 0; thread->fiber && i < thread->process->n_listeners; i++)
            if (thread->fronts[i])
                http_front_cut(thread->fronts[i]);
    }
    if (thread->fiber)
        fiber_wake(thread->fiber);
}

static void tell_all(struct process *process, enum order order)
{
    for (unsigned i = 0; i <= process->n_pthreads; i++) {
        struct order_message *m = &process->threads[i].orders[order];

        if (m->sent)
            continue;
        *m = (struct order_message){{.deliver = order_deliver}, &process->threads[i], order, true};
        mailbox_send(process->threads[i].mailbox, &m->message);
    }
}

static void on_open(struct message *message)
{
    struct thread *thread = container_of(message, struct report, message)->thread;

    thread->process->n_open++;
    if (thread->failed)
        thread->process->exit_code = 1;
    fiber_wake(thread->process->fiber);
}

static void on_closed(struct message *message)
{
    struct process *process = container_of(message, struct report, message)->thread->process;

    process->n_closed++;
    fiber_wake(process->fiber);
}

static void report(struct thread *thread, struct report *report, void (*deliver)(struct message *))
{
    *report = (struct report){{.deliver = deliver}, thread};
    mailbox_send(thread->process->threads[0].mailbox, &report->message);
}

/* ---- a serving thread -------------------------------------------------------------------------------------- */

static void open_thread(struct thread *thread)
{
    struct process *process = thread->process;
    const struct config *config = process->config;

    if (fiber_catch_overflow() != 0)
        log_warning("a stack overflow will not be named: no memory for a signal stack");
    for (size_t i = 0; i < config->n_pools; i++) {
        struct pool_thread *pt = &process->pools[i]->threads[thread->number];

        thread->pools[i] = pt;
        pool_thread_open(pt);
        thread->failed |= pool_thread_install(pt, control_roster(process->control, i)) != 0;
    }
    for (size_t i = 0; i < config->n_http; i++) {
        struct http_front *front =
            http_front_open(&process->listeners[i], thread->number, thread->pools, config->pools);

        process->listeners[i].fronts[thread->number] = thread->fronts[i] = front;
        thread->failed |= !front;
    }
}

/* Closes what has been idle for too long, until the thread ends. */
static void reap_main(void *arg)
{
    struct thread *thread = arg;
    uint64_t next_us;

    do {
        next_us = loop_now_us() + US_PER_S * 3600;
        for (size_t i = 0; i < thread->process->config->n_pools; i++) {
            uint64_t due_us = upstream_reap(thread->pools[i]);

            next_us = due_us < next_us ? due_us : next_us;
        }
    } while (fiber_sleep_until(next_us) == 0);
}

static void start_fronts(struct thread *thread)
{
    for (size_t i = 0; i < thread->process->config->n_http; i++) {
        int error = http_front_start(thread->fronts[i]);

        if (error)
            log_error("listener %s: cannot accept on thread %u: %s", thread->process->config->http[i].name,
                      thread->number, strerror(-error));
    }
}

static void close_thread(struct thread *thread)
{
    const struct config *config = thread->process->config;
    uint64_t deadline_us = loop_now_us() + (thread->hurry ? 0 : config->drain_timeout_us);

    for (size_t i = 0; i < config->n_http; i++) /* all stop accepting before any is waited for */
        if (thread->fronts[i])
            http_front_drain(thread->fronts[i]);
    for (size_t i = 0; i < config->n_http; i++)
        if (thread->fronts[i])
            http_front_close(thread->fronts[i], deadline_us);
    for (size_t i = 0; i < config->n_pools; i++)
        pool_thread_close(thread->pools[i]);
}

/* From open to drained. */
static void serve(struct thread *thread)
{
    struct fiber *reaper;

    while (!thread->started && !thread->drain)
        fiber_park(NEVER);
    if (!thread->drain)
        start_fronts(thread);
    reaper = fiber_spawn("reaper", reap_main, thread);
    while (!thread->drain)
        fiber_park(NEVER);
    if (reaper)
        fiber_cancel_and_join(reaper);
    close_thread(thread);
    thread->fiber = NULL;
}

static void thread_fiber(void *arg)
{
    struct thread *thread = arg;

    thread->fiber = fiber_self();
    open_thread(thread);
    report(thread, &thread->open, on_open);
    serve(thread);
    report(thread, &thread->closed, on_closed);
}

/* Runs main_fiber on a loop of this thread's own, until no fiber is left. */
static int run_loop(struct thread *thread, void (*main_fiber)(void *), void *arg)
{
    int error = loop_create(&thread->loop);

    if (error)
        return error;
    thread->mailbox = loop_mailbox(thread->loop);
    error = fiber_start("main", main_fiber, arg);
    if (!error)
        loop_run(thread->loop);
    return error;
}

static void end_loop(struct thread *thread)
{
    if (thread->loop)
        loop_free(thread->loop);
    thread->loop = NULL;
    slab_trim();
    splice_trim();
}

static void *thread_main(void *arg)
{
    struct thread *thread = arg;
    int error = run_loop(thread, thread_fiber, thread);

    if (error) {
        log_error("thread %u cannot start: %s", thread->number, strerror(-error));
        thread->failed = true;
        report(thread, &thread->open, on_open);
        report(thread, &thread->closed, on_closed);
    }
    end_loop(thread);
    return NULL;
}

/* ---- thread 0 ---------------------------------------------------------------------------------------------- */

static void on_signal(struct process *process, int signal)
{
    switch (signal) {
    case SIGUSR1:
        log_info("opening the access logs again");
        for (size_t i = 0; i < process->n_listeners; i++)
            if (process->logs[i])
                access_log_reopen(process->logs[i]);
        break;
    case SIGHUP:
        log_warning("SIGHUP: a running process cannot take up a changed file yet; restart it for that");
        break;
    default:
        if (process->threads[0].orders[ORDER_DRAIN].sent) {
            log_info("%s again: cutting off what is left", strsignal(signal));
            tell_all(process, ORDER_HURRY);
        } else {
            log_info("%s: draining; once more to hurry", strsignal(signal));
            tell_all(process, ORDER_DRAIN);
        }
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

static int start_threads(struct process *process)
{
    const struct config *config = process->config;

    for (unsigned i = 1; i < config->threads; i++) {
        int error = pthread_create(&process->threads[i].pthread, NULL, thread_main, &process->threads[i]);

        if (error) {
            log_error("cannot start thread %u of %u: %s; set a smaller `threads`", i + 1, config->threads,
                      strerror(error));
            return -error;
        }
        process->n_pthreads++;
    }
    return 0;
}

static void say_ready(const struct process *process)
{
    for (size_t i = 0; i < process->n_listeners; i++)
        log_info("ready: http on %s, %u thread%s", process->config->http[i].name, process->config->threads,
                 process->config->threads == 1 ? "" : "s");
}

/* Everything between the first thread's loop and its end. */
static void server_fiber(void *arg)
{
    struct process *process = arg;
    struct thread *own = &process->threads[0];
    struct fiber *signals = NULL;
    bool ok;

    process->fiber = own->fiber = fiber_self();
    process->control = control_create(process->pools, process->n_pools, loop_deadline(FIRST_NAMES_US));
    if (!process->control) {
        log_error("no memory for the pools");
        process->exit_code = 1;
        return;
    }
    open_thread(own);
    ok = start_threads(process) == 0 && !own->failed;
    while (process->n_open < process->n_pthreads)
        fiber_park(NEVER);
    signals = fiber_spawn("signals", signal_main, process);
    if (ok && !process->exit_code && signals && control_start(process->control) == 0) {
        tell_all(process, ORDER_START);
        say_ready(process);
    } else {
        log_error("could not start every part; see above");
        process->exit_code = 1;
        tell_all(process, ORDER_DRAIN);
    }
    serve(own);
    while (process->n_closed < process->n_pthreads)
        fiber_park(NEVER);
    control_free(process->control);
    if (signals)
        fiber_cancel_and_join(signals);
}

static int watch_signals(struct process *process)
{
    int fd;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    process->signals.fd = fd;
    return fd < 0 ? -errno : 0;
}

/* The loop must be this thread's before the descriptor can be watched. */
static void start_fiber(void *arg)
{
    struct process *process = arg;
    int error = io_watch(&process->signals, process->signals.fd, IO_READABLE, false);

    if (error) {
        log_error("cannot watch signals: %s", strerror(-error));
        process->exit_code = 1;
        return;
    }
    server_fiber(process);
}

/* ---- before and after the threads -------------------------------------------------------------------------- */

/* Every client may need a second descriptor, to a process. */
static void raise_descriptor_limit(const struct config *config)
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

static int open_log(struct process *process, size_t i)
{
    const struct config *config = process->config;
    const char *path = config->http[i].access_log;
    int error;

    if (!path)
        return 0;
    for (size_t j = 0; j < i; j++)
        if (config->http[j].access_log && strcmp(config->http[j].access_log, path) == 0) {
            process->listeners[i].log = process->listeners[j].log;
            return 0;
        }
    error = access_log_open(&process->logs[i], path);
    if (error)
        log_error("access-log %s cannot be opened: %s; make its folder, or let us write there", path,
                  strerror(-error));
    process->listeners[i].log = process->logs[i];
    return error;
}

static int open_listener(struct process *process, size_t i)
{
    const struct config_http *config = &process->config->http[i];
    struct http_shared *shared = &process->listeners[i];

    shared->config = config;
    shared->seats = process->seats;
    atomic_init(&shared->accepting, process->config->threads);
    shared->router = router_create(config);
    shared->fronts = calloc(process->config->threads, sizeof(struct http_front *));
    if (!shared->router || !shared->fronts) {
        log_error("no memory for listener %s", config->name);
        return -ENOMEM;
    }
    if (listen_open(&config->address, config->name, &shared->fds, &shared->n_fds) != 0)
        return -1;
    return open_log(process, i);
}

static int allot(struct process *process)
{
    const struct config *config = process->config;

    process->seats = calloc(1, sizeof *process->seats + config->threads * sizeof process->seats->threads[0]);
    process->listeners = calloc(config->n_http, sizeof *process->listeners);
    process->logs = calloc(config->n_http, sizeof(struct access_log *));
    process->pools = calloc(config->n_pools + 1, sizeof(struct pool *));
    process->threads = calloc(config->threads, sizeof *process->threads);
    if (!process->seats || !process->listeners || !process->logs || !process->pools || !process->threads)
        return -ENOMEM;
    process->seats->n_threads = config->threads;
    process->seats->max = config->max_connections;
    for (unsigned i = 0; i < config->threads; i++) {
        struct thread *thread = &process->threads[i];

        thread->process = process;
        thread->number = i;
        thread->fronts = calloc(config->n_http, sizeof(struct http_front *));
        thread->pools = calloc(config->n_pools + 1, sizeof(struct pool_thread *));
        if (!thread->fronts || !thread->pools)
            return -ENOMEM;
    }
    for (; process->n_pools < config->n_pools; process->n_pools++) {
        process->pools[process->n_pools] = pool_create(&config->pools[process->n_pools], config->threads);
        if (!process->pools[process->n_pools])
            return -ENOMEM;
    }
    return 0;
}

static void release(struct process *process)
{
    const struct config *config = process->config;

    for (unsigned i = 0; process->threads && i < config->threads; i++) {
        for (size_t j = 0; process->threads[i].fronts && j < process->n_listeners; j++)
            if (process->threads[i].fronts[j])
                http_front_free(process->threads[i].fronts[j]);
        free(process->threads[i].fronts);
        free(process->threads[i].pools);
    }
    for (size_t i = 0; i < process->n_listeners; i++) {
        if (process->logs[i])
            access_log_close(process->logs[i]);
        listen_close(&config->http[i].address, process->listeners[i].fds, process->listeners[i].n_fds);
        if (process->listeners[i].router)
            router_free(process->listeners[i].router);
        free(process->listeners[i].fronts);
    }
    for (size_t i = 0; i < process->n_pools; i++)
        pool_free(process->pools[i]);
    free(process->pools);
    free(process->logs);
    free(process->listeners);
    free(process->seats);
    free(process->threads);
    if (process->signals.fd >= 0)
        close(process->signals.fd);
}

static int open_server(struct process *process)
{
    const struct config *config = process->config;
    int error = watch_signals(process);

    raise_descriptor_limit(config);
    if (!error)
        error = allot(process);
    if (error) {
        log_error("cannot start: %s", strerror(-error));
        return error;
    }
    for (; !error && process->n_listeners < config->n_http; process->n_listeners++)
        error = open_listener(process, process->n_listeners);
    return error ? error : drop_privileges(config->user);
}

int server_run(const struct config *config)
{
    struct process process = {.config = config, .signals = {.fd = -1}};

    if (open_server(&process) != 0 || run_loop(&process.threads[0], start_fiber, &process) != 0)
        process.exit_code = 1;
    for (unsigned i = 1; i <= process.n_pthreads; i++)
        pthread_join(process.threads[i].pthread, NULL);
    if (process.threads)
        end_loop(&process.threads[0]);
    release(&process);
    return process.exit_code;
}
