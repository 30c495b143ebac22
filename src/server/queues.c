/* queues.c - what the server does for the queue: opens its log, declares what the file says, and keeps each thread's port and
 * pushes; see process.h. */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "fiber/offload.h"
#include "server/process.h"

/* Bytes of publishes that a thread has under way at a time. */
#define PORT_BYTES_MOST (64u * 1024 * 1024)

/* ---- the log ----------------------------------------------------------------------------------------------------- */

int queues_make_folder(const struct config *config, char why[LISTEN_WHY_MAX])
{
    const struct passwd *pw = config->user && geteuid() == 0 ? getpwnam(config->user) : NULL;

    if (!config_has_log(config) || mkdir(config->state, 0700) != 0)
        return 0; /* opening it says what is wrong with it */
    if (pw && chown(config->state, pw->pw_uid, pw->pw_gid) != 0) {
        snprintf(why, LISTEN_WHY_MAX, "state folder %s: cannot be given to user %s: %s", config->state,
                 config->user, strerror(errno));
        return -EACCES;
    }
    return 0;
}

int queues_open(const struct config *config, bool takes_over, struct queue_thread **queue,
                char why[LISTEN_WHY_MAX])
{
    struct queue_thread_options options = {
        .folder = config->state,
        .segment_bytes = (uint32_t)config->state_segment,
        .bytes_max = config->state_max,
    };
    int error;

    *queue = NULL;
    if (!config_has_log(config))
        return 0;
    error = takes_over ? queue_thread_open_later(queue, &options) : queue_thread_open(queue, &options, why);
    if (!error)
        error = queue_thread_start(*queue);
    if (error && *queue) {
        snprintf(why, LISTEN_WHY_MAX, "the queue's thread cannot start: %s", strerror(-error));
        queue_thread_stop(*queue);
        *queue = NULL;
    }
    return error;
}

/* ---- what the file says ------------------------------------------------------------------------------------------ */

/* Runs on the queue thread, while the change waits with its reference to the configuration; or nobody does. */
struct topology {
    struct queue_job job;
    const struct config *config; /* reference */
    int error;
    const char *failed; /* what could not be declared; the configuration's */
};

static struct broker_queue_options options_of(const struct config_queue *q)
{
    static const enum queue_limit_rule rules[] = {
        [OVERFLOW_REJECT_NEW] = LIMIT_REJECT_NEW,
        [OVERFLOW_DROP_OLDEST] = LIMIT_DROP_OLDEST,
        [OVERFLOW_DEAD_LETTER] = LIMIT_DEAD_LETTER,
    };

    return (struct broker_queue_options){
        .managed = true,
        .max_length = q->max_length,
        .max_bytes = q->max_bytes,
        .max_age_us = q->max_age_us,
        .ack_timeout_us = q->ack_timeout_us,
        .retry_first_us = q->retry.first_us,
        .retry_most_us = q->retry.most_us,
        .attempts = q->retry.attempts,
        .overflow = rules[q->overflow],
        .has_dead_letter = q->dead_letter != NULL,
        .dead_exchange = SLICE(""),
        .dead_key = q->dead_letter ? slice_from_text(q->dead_letter->name) : SLICE(""),
        .order_by = q->push.active && q->push.order_by ? slice_from_text(q->push.order_by) : SLICE(""),
    };
}

static int declare_topic(struct broker *broker, const struct config_topic *topic)
{
    struct broker_exchange_options options = {.type = EXCHANGE_FANOUT, .durable = true};
    struct slice name = slice_from_text(topic->name);
    int error = broker_declare_exchange(broker, name, &options, DECLARE_SET);

    for (size_t i = 0; !error && i < topic->n_queues; i++)
        error = broker_bind(broker, name,
                            &(struct broker_destination){slice_from_text(topic->queues[i]->name), false},
                            SLICE(""), SLICE(""));
    return error;
}

static bool is_reader(const struct config_topic *topic, struct slice queue)
{
    for (size_t i = 0; i < topic->n_queues; i++)
        if (slice_equal(slice_from_text(topic->queues[i]->name), queue))
            return true;
    return false;
}

/* What a topic has no more, and the queues that the file has no more and in which nothing is: those with messages stay, so that
 * nothing is lost by an edit. */
struct leftovers {
    const struct config *config;
    struct broker *broker;
    struct slice gone[64]; /* a few at a time: the next reload takes the others */
    size_t n;
};

static void note_leftover(void *arg, const struct broker_queue_view *view)
{
    struct leftovers *l = arg;
    const struct broker_queue_numbers *n = &view->numbers;

    if (!view->options->managed)
        return; /* a client's */
    for (size_t i = 0; i < l->config->n_queues; i++)
        if (slice_equal(slice_from_text(l->config->queues[i].name), view->name))
            return;
    if (l->n < sizeof l->gone / sizeof l->gone[0] && !n->ready && !n->delayed && !n->blocked && !n->in_flight)
        l->gone[l->n++] = view->name;
}

static void unbind_left(struct broker *broker, const struct config_topic *topic)
{
    struct slice readers[64];
    size_t n =
        broker_readers(broker, slice_from_text(topic->name), readers, sizeof readers / sizeof readers[0]);

    for (size_t i = 0; i < n; i++)
        if (!is_reader(topic, readers[i]))
            broker_unbind(broker, slice_from_text(topic->name),
                          &(struct broker_destination){readers[i], false}, SLICE(""), SLICE(""));
}

static void run_topology(struct queue_job *job, struct broker *broker, uint64_t now_us)
{
    struct topology *t = container_of(job, struct topology, job);
    struct leftovers leftovers = {.config = t->config, .broker = broker};

    for (size_t i = 0; !t->error && i < t->config->n_queues; i++) {
        struct broker_queue_options options = options_of(&t->config->queues[i]);

        t->failed = t->config->queues[i].name;
        t->error = broker_declare_queue(broker, slice_from_text(t->failed), &options, DECLARE_SET);
    }
    for (size_t i = 0; !t->error && i < t->config->n_topics; i++) {
        t->failed = t->config->topics[i].name;
        t->error = declare_topic(broker, &t->config->topics[i]);
        if (!t->error)
            unbind_left(broker, &t->config->topics[i]);
    }
    broker_each_queue(broker, note_leftover, &leftovers);
    for (size_t i = 0; !t->error && i < leftovers.n; i++)
        broker_delete_queue(broker, leftovers.gone[i], true, now_us);
}

static void free_topology(struct queue_job *job)
{
    struct topology *t = container_of(job, struct topology, job);

    config_unref(t->config);
    free(t);
}

int queues_declare(struct queue_port *port, const struct config *config)
{
    struct topology *t = calloc(1, sizeof *t);
    int error;

    if (!t)
        return -ENOMEM;
    t->job = (struct queue_job){.run = run_topology, .free = free_topology};
    t->config = config_ref(config);
    error = queue_job_run(port, &t->job, true, NEVER);
    if (error)
        return error;
    error = t->error;
    if (error)
        log_error("%s cannot be declared: %s", t->failed, strerror(-error));
    free_topology(&t->job);
    return error;
}

struct declaring {
    struct queue_port *port;
    const struct config *config; /* reference */
};

static void declare_main(void *arg)
{
    struct declaring *d = arg;

    queues_declare(d->port, d->config);
    config_unref(d->config);
    free(d);
}

/* Once the log is there. */
int queues_declare_later(struct queue_port *port, const struct config *config)
{
    struct declaring *d = malloc(sizeof *d);

    if (!d)
        return -ENOMEM;
    *d = (struct declaring){port, config_ref(config)};
    if (fiber_start("declare queues", declare_main, d) == 0)
        return 0;
    config_unref(config);
    free(d);
    return -ENOMEM;
}

/* ---- a thread's port and pushes ---------------------------------------------------------------------------------- */

void queues_open_port(struct thread *thread, struct queue_thread *queue)
{
    if (!thread->port.thread)
        queue_port_open(&thread->port, queue, PORT_BYTES_MOST);
}

static void push_ended(struct push *push)
{
    struct thread *thread = push->owner;

    list_remove(&push->list);
    push_free(push);
    if (thread->fiber)
        fiber_wake(thread->fiber);
}

static struct push *find_push(struct thread *thread, const char *name)
{
    for (struct list *at = thread->pushes.next; at != &thread->pushes; at = at->next) {
        struct push *push = container_of(at, struct push, list);

        if (!push->stopping && strcmp(push->name, name) == 0)
            return push;
    }
    return NULL;
}

/* Each queue is pushed by one thread. */
static bool is_ours(const struct thread *thread, const struct config_queue *queue)
{
    return queue->push.active &&
           hash_bytes(slice_from_text(queue->name)) % thread->process->system.n_threads == thread->number;
}

static void start_push(struct thread *thread, struct scene *scene, const struct config_queue *queue)
{
    struct push_aim aim = push_aim_of(scene, queue);
    struct push *push = push_create(&thread->port, queue->name, &aim);

    if (!push) {
        log_error("queue %s: no memory for its push", queue->name);
        return;
    }
    push->ended = push_ended;
    push->owner = thread;
    list_push_back(&thread->pushes, &push->list);
}

static void enter_push(struct push *push, struct scene *scene, const struct config_queue *queue)
{
    struct push_aim aim = push_aim_of(scene, queue);

    push_enter(push, &aim);
}

/* Pushes whose queue is not among those of the scene stop. */
static void stop_others(struct thread *thread, const struct scene *scene)
{
    struct list *next;

    for (struct list *at = thread->pushes.next; at != &thread->pushes; at = next) {
        struct push *push = container_of(at, struct push, list);

        next = at->next;
        if (push->aim.scene != scene)
            push_stop(push);
    }
}

void queues_enter(struct thread *thread, struct scene *scene)
{
    const struct config *config = scene->generation->config;

    if (scene->port)
        queues_open_port(thread, thread->process->queue);
    for (size_t i = 0; scene->port && i < config->n_queues; i++) {
        const struct config_queue *queue = &config->queues[i];
        struct push *push = find_push(thread, queue->name);

        if (!is_ours(thread, queue))
            continue;
        if (push)
            enter_push(push, scene, queue);
        else
            start_push(thread, scene, queue);
    }
    stop_others(thread, scene);
}

void queues_hurry(struct thread *thread)
{
    for (struct list *at = thread->pushes.next; at != &thread->pushes; at = at->next)
        push_hurry(container_of(at, struct push, list));
}

void queues_stop(struct thread *thread)
{
    stop_others(thread, NULL);
}

/* ---- handing over ------------------------------------------------------------------------------------------------ */

/* How long a process that was taken over from keeps the log: its clients may send one request more, and what is on its way
 * to a worker may end; the new process's clients wait meanwhile. */
#define KEEP_LEAST_US (LISTENER_LAST_REQUEST_US + 100 * US_PER_MS)
#define KEEP_MOST_US (2 * US_PER_S)

bool queues_may_let_go(struct thread *thread, uint64_t since_us)
{
    uint64_t now_us = loop_now_us();

    if (now_us >= since_us + KEEP_MOST_US)
        queues_hurry(thread);
    return now_us >= since_us + KEEP_LEAST_US && list_empty(&thread->pushes) && !thread->port.users;
}

struct stopping {
    struct offload offload;
    struct queue_thread *queue;
};

static void stop_queue(struct offload *job)
{
    queue_thread_stop(container_of(job, struct stopping, offload)->queue);
}

static void free_stopping(struct offload *job)
{
    free(container_of(job, struct stopping, offload));
}

/* Every thread has let go: the log is for the process that took over. */
static void stop_main(void *arg)
{
    struct process *process = arg;
    struct stopping *stopping = malloc(sizeof *stopping);
    struct queue_thread *queue = process->queue;

    process->queue = NULL;
    if (!stopping) {
        queue_thread_stop(queue);
        return;
    }
    stopping->offload = (struct offload){.work = stop_queue, .free = free_stopping};
    stopping->queue = queue;
    if (offload_run(&stopping->offload, NEVER) == -EAGAIN)
        queue_thread_stop(queue);
    free(stopping);
    process->actions--;
    fiber_wake(process->fiber);
}

static void on_let_go(struct mail *mail)
{
    struct process *process = container_of(mail, struct report, message)->thread->process;

    if (++process->n_let_go < process->system.n_threads || !process->queue)
        return;
    process->actions++; /* the process waits for it */
    if (fiber_start("queue's end", stop_main, process) != 0)
        process->actions--;
}

void queues_let_go(struct thread *thread)
{
    queues_close_port(thread);
    thread->let_go = (struct report){{.deliver = on_let_go}, thread};
    mailbox_send(thread->process->mailboxes[0], &thread->let_go.message);
}

void queues_close_port(struct thread *thread)
{
    if (thread->port.thread)
        queue_port_close(&thread->port);
    thread->port.thread = NULL;
}
