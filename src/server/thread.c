/* thread.c - the serving threads: how they start, what they are told, and how they drain; see process.h.
 *
 * A thread's main fiber does one thing after another: it takes up new scenes as they come, and at the end drains. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "balance/upstream.h"
#include "base/log.h"
#include "fiber/splice.h"
#include "server/process.h"

/* How often a thread shows that its loop turns, and closes what was idle for too long. */
#define BEAT_US US_PER_S

/* ---- what threads are told, and tell ----------------------------------------------------------------------- */

static void order_deliver(struct mail *message)
{
    struct order_message *m = container_of(message, struct order_message, message);
    struct thread *thread = m->thread;

    thread->drain = true;
    thread->hurry |= m->order == ORDER_HURRY;
    if (thread->fiber)
        fiber_wake(thread->fiber);
}

void threads_tell(struct process *process, enum order order)
{
    for (unsigned i = 0; i <= process->n_pthreads; i++) {
        struct order_message *m = &process->threads[i].orders[order];

        if (m->sent || !process->mailboxes[i]) /* it never opened */
            continue;
        *m = (struct order_message){{.deliver = order_deliver}, &process->threads[i], order, true};
        mailbox_send(process->mailboxes[i], &m->message);
    }
}

static void on_open(struct mail *message)
{
    struct thread *thread = container_of(message, struct report, message)->thread;

    thread->process->n_open++;
    if (thread->failed)
        thread->process->exit_code = 1;
    fiber_wake(thread->process->fiber);
}

static void on_closed(struct mail *message)
{
    struct process *process = container_of(message, struct report, message)->thread->process;

    process->n_closed++;
    fiber_wake(process->fiber);
}

static void report(struct thread *thread, struct report *report, void (*deliver)(struct mail *))
{
    *report = (struct report){{.deliver = deliver}, thread};
    mailbox_send(thread->process->mailboxes[0], &report->message);
}

/* ---- listeners ---------------------------------------------------------------------------------------------- */

/* On thread 0. The last thread's word frees it. */
static void on_listener_closed(struct mail *message)
{
    struct process_listener *pl = container_of(message, struct listener_report, message)->listener;
    struct process *process = pl->process;

    if (--pl->system.open)
        return;
    list_remove(&pl->system.list);
    listener_free(pl->system.listener);
    if (pl->system.shared)
        http_shared_unref(pl->system.shared);
    free(pl);
    fiber_wake(process->fiber);
}

static void listener_closed(struct listener_thread *at)
{
    struct process_listener *pl = at->owner;
    struct listener_report *r = &pl->reports[at->thread];
    struct thread *thread = &pl->process->threads[at->thread];

    list_remove(&at->list);
    scene_release(at->service->scene);
    *r = (struct listener_report){{.deliver = on_listener_closed}, pl};
    mailbox_send(pl->process->mailboxes[0], &r->message);
    if (thread->fiber)
        fiber_wake(thread->fiber);
}

/* It keeps its scene until its last client has gone. */
static void drain_listener(struct listener_thread *at, uint64_t deadline_us)
{
    if (!at->draining)
        scene_hold(at->service->scene);
    listener_thread_drain(at, deadline_us);
}

static void serve_listener(struct thread *thread, struct listener_thread *at, struct service *service)
{
    int error;

    at->service = service;
    if (at->fiber || at->draining)
        return;
    at->closed = listener_closed;
    list_push_back(&thread->listeners, &at->list);
    error = listener_thread_start(at);
    if (error) {
        log_error("listener %s: cannot accept on thread %u: %s", at->listener->name, thread->number,
                  strerror(-error));
        drain_listener(at, loop_now_us());
        if (!at->fiber)
            listener_closed(at);
    }
}

/* ---- scenes ------------------------------------------------------------------------------------------------- */

static void enter(struct thread *thread, struct scene_message *m)
{
    struct scene *old = thread->scene;

    thread->scene = m->scene;
    scene_enter(m->scene);
    for (size_t i = 0; i < m->n_leaving; i++)
        if (thread->number < m->leaving[i]->n_threads)
            drain_listener(&m->leaving[i]->threads[thread->number], NEVER);
    for (size_t i = 0; i < m->scene->n_services; i++)
        if (m->scene->services[i])
            serve_listener(thread, &m->listeners[i]->threads[thread->number], m->scene->services[i]);
    queues_enter(thread, m->scene);
    if (old)
        scene_leave(old);
    free(m);
}

/* Closes what has been idle for too long, and shows that the loop turns, until the thread ends. */
static void beat_main(void *arg)
{
    struct thread *thread = arg;
    uint64_t next_us;

    do {
        atomic_store_explicit(&thread->beat_us, loop_now_us(), memory_order_relaxed);
        next_us = loop_now_us() + BEAT_US;
        for (struct pool_thread *pt = pool_thread_next(NULL); pt; pt = pool_thread_next(pt)) {
            uint64_t due_us = upstream_reap(pt);

            next_us = due_us < next_us ? due_us : next_us;
        }
    } while (fiber_sleep_until(next_us) == 0);
}

static bool is_busy(const struct thread *thread)
{
    return !list_empty(&thread->listeners) || !list_empty(&thread->pushes);
}

static void drain_listeners(struct thread *thread, uint64_t deadline_us)
{
    for (struct list *node = thread->listeners.next; node != &thread->listeners; node = node->next)
        drain_listener(container_of(node, struct listener_thread, list), deadline_us);
}

#define LET_GO_US (20 * US_PER_MS)

/* Until every listener is closed and no push on its way. Once more, with no time left, when it is told to hurry. The queue's
 * log does not wait for the last of them, where another process wants it. */
static void drain(struct thread *thread)
{
    uint64_t timeout_us = thread->scene ? thread->scene->generation->config->drain_timeout_us : 0;
    uint64_t start_us = loop_now_us();
    bool hands_over = thread->process->handed_over && thread->port.thread;

    queues_stop(thread);
    do {
        bool hurried = thread->hurry;
        uint64_t deadline_us = loop_now_us() + (hurried ? 0 : timeout_us);

        drain_listeners(thread, deadline_us);
        while ((is_busy(thread) || hands_over) && thread->hurry == hurried) {
            fiber_park(hands_over ? loop_now_us() + LET_GO_US : deadline_us);
            if (loop_now_us() >= deadline_us) {
                queues_hurry(thread);
                deadline_us = NEVER;
            }
            if (hands_over && queues_may_let_go(thread, start_us)) {
                queues_let_go(thread);
                hands_over = false;
            }
        }
    } while (is_busy(thread));
}

void thread_serve(struct thread *thread)
{
    struct fiber *beat = fiber_spawn("beat", beat_main, thread);

    for (;;) {
        while (!list_empty(&thread->inbox))
            enter(thread, container_of(list_pop_front(&thread->inbox), struct scene_message, list));
        if (thread->drain)
            break;
        fiber_park(NEVER);
    }
    drain(thread);
    if (beat)
        fiber_cancel_and_join(beat);
    if (thread->scene)
        scene_leave(thread->scene);
    thread->scene = NULL;
    queues_close_port(thread);
    thread->fiber = NULL;
}

/* ---- from start to end -------------------------------------------------------------------------------------- */

static void thread_fiber(void *arg)
{
    struct thread *thread = arg;

    thread->fiber = fiber_self();
    if (fiber_catch_overflow() != 0)
        log_warning("a stack overflow will not be named: no memory for a signal stack");
    report(thread, &thread->open, on_open);
    thread_serve(thread);
    report(thread, &thread->closed, on_closed);
}

int thread_run_loop(struct thread *thread, void (*main_fiber)(void *), void *arg)
{
    int error = loop_create(&thread->loop);

    if (error)
        return error;
    thread->process->mailboxes[thread->number] = mailbox_ref(loop_mailbox(thread->loop));
    error = fiber_start("main", main_fiber, arg);
    if (!error)
        loop_run(thread->loop);
    return error;
}

void thread_end_loop(struct thread *thread)
{
    if (thread->loop)
        loop_free(thread->loop);
    thread->loop = NULL;
    for (struct pool_thread *pt = pool_thread_next(NULL); pt; pt = pool_thread_next(NULL))
        pool_thread_close(pt); /* somebody in line never heard that it was its turn */
    slab_trim();
    splice_trim();
}

static void *thread_main(void *arg)
{
    struct thread *thread = arg;
    int error = thread_run_loop(thread, thread_fiber, thread);

    if (error) {
        log_error("thread %u cannot start: %s", thread->number, strerror(-error));
        thread->failed = true;
        report(thread, &thread->open, on_open);
        report(thread, &thread->closed, on_closed);
    }
    thread_end_loop(thread);
    return NULL;
}

int threads_start(struct process *process)
{
    for (unsigned i = 1; i < process->system.n_threads; i++) {
        int error = pthread_create(&process->threads[i].pthread, NULL, thread_main, &process->threads[i]);

        if (error) {
            log_error("cannot start thread %u of %u: %s; set a smaller `threads`", i + 1,
                      process->system.n_threads, strerror(error));
            return -error;
        }
        process->n_pthreads++;
    }
    return 0;
}
