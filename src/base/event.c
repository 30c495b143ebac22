/* event.c - see event.h.
 *
 * Event n is in ring[n % EVENTS_KEPT], until event n + EVENTS_KEPT takes its place. */
#include "base/event.h"

#include <assert.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"

#define TEXT_BYTES_MAX 1000 /* what a line of the log has room for */

static const struct {
    const char *name;
    enum log_level level;
} kinds[EVENT_KINDS] = {
    [EVENT_SERVER_UP] = {"server-up", LOG_INFO},
    [EVENT_SERVER_DOWN] = {"server-down", LOG_WARNING},
    [EVENT_SERVER_EJECTED] = {"server-ejected", LOG_WARNING},
    [EVENT_SERVER_RETURNED] = {"server-returned", LOG_INFO},
    [EVENT_SERVER_DRAINED] = {"server-drained", LOG_INFO},
    [EVENT_SERVER_ENABLED] = {"server-enabled", LOG_INFO},
    [EVENT_SERVER_WEIGHT] = {"server-weight", LOG_INFO},
    [EVENT_SERVER_ADDED] = {"server-added", LOG_INFO},
    [EVENT_SERVER_REMOVED] = {"server-removed", LOG_INFO},
    [EVENT_NAME_FAILED] = {"name-failed", LOG_WARNING},
    [EVENT_RELOAD] = {"reload", LOG_INFO},
    [EVENT_RELOAD_FAILED] = {"reload-failed", LOG_ERROR},
    [EVENT_UPGRADE] = {"upgrade", LOG_INFO},
    [EVENT_UPGRADE_FAILED] = {"upgrade-failed", LOG_ERROR},
    [EVENT_DRAIN] = {"drain", LOG_INFO},
    [EVENT_START] = {"start", LOG_INFO},
    [EVENT_LIMIT] = {"limit", LOG_WARNING},
    [EVENT_LOG_FAILED] = {"log-failed", LOG_ERROR},
    [EVENT_QUEUE_PAUSED] = {"queue-paused", LOG_WARNING},
    [EVENT_QUEUE_RESUMED] = {"queue-resumed", LOG_INFO},
    [EVENT_QUEUE_PURGED] = {"queue-purged", LOG_WARNING},
    [EVENT_QUEUE_MOVED] = {"queue-moved", LOG_INFO},
    [EVENT_WORKERS_SCALED] = {"workers-scaled", LOG_INFO},
    [EVENT_WORKERS_HELD] = {"workers-held", LOG_WARNING},
    [EVENT_WORKERS_PAUSED] = {"workers-paused", LOG_WARNING},
    [EVENT_WORKERS_SET] = {"workers-set", LOG_WARNING},
    [EVENT_WORKERS_RESUMED] = {"workers-resumed", LOG_INFO},
    [EVENT_WORKERS_RESTARTED] = {"workers-restarted", LOG_INFO},
    [EVENT_WORKER_FAILED] = {"worker-failed", LOG_WARNING},
    [EVENT_WORKER_KILLED] = {"worker-killed", LOG_WARNING},
    [EVENT_WORKER_STUCK] = {"worker-stuck", LOG_ERROR},
    [EVENT_KEEPER_LOST] = {"keeper-lost", LOG_ERROR},
    [EVENT_GAUGE_FULL] = {"gauge-full", LOG_WARNING},
    [EVENT_GAUGE_OK] = {"gauge-ok", LOG_INFO},
};

/* All but mutex and quiet are the mutex's. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t quiet = PTHREAD_COND_INITIALIZER; /* calls fell to 0 */
static struct event ring[EVENTS_KEPT];
static uint64_t last_id;
static void (*listener)(void *arg);
static void *listener_arg;
static unsigned calls; /* of the listener, under way */

const char *event_kind_name(enum event_kind kind)
{
    assert(kind < EVENT_KINDS);
    return kinds[kind].name;
}

static void copy_text(char *to, size_t size, struct slice from)
{
    size_t n = from.len < size ? from.len : size - 1;

    if (n < from.len)
        while (n > 0 && ((unsigned char)from.ptr[n] & 0xc0) == 0x80) /* inside a character of UTF-8 */
            n--;
    if (n > 0)
        memcpy(to, from.ptr, n);
    to[n] = '\0';
}

static void keep(enum event_kind kind, struct slice pool, struct slice server, struct slice text)
{
    struct event *event = &ring[++last_id % EVENTS_KEPT];

    event->id = last_id;
    event->wall_us = clock_wall_us();
    event->kind = kind;
    copy_text(event->pool, sizeof event->pool, pool);
    copy_text(event->server, sizeof event->server, server);
    copy_text(event->text, sizeof event->text, text);
}

static void end_call(void)
{
    pthread_mutex_lock(&mutex);
    if (--calls == 0)
        pthread_cond_broadcast(&quiet);
    pthread_mutex_unlock(&mutex);
}

void event_say(enum event_kind kind, struct slice pool, struct slice server, const char *format, ...)
{
    char text[TEXT_BYTES_MAX];
    void (*on_event)(void *arg);
    void *arg;
    va_list args;

    assert(kind < EVENT_KINDS);
    va_start(args, format);
    if (vsnprintf(text, sizeof text, format, args) < 0)
        text[0] = '\0';
    va_end(args);
    log_line(kinds[kind].level, "%s", text);
    pthread_mutex_lock(&mutex);
    keep(kind, pool, server, slice_from_text(text));
    on_event = listener;
    arg = listener_arg;
    if (on_event)
        calls++;
    pthread_mutex_unlock(&mutex);
    if (on_event) {
        on_event(arg);
        end_call();
    }
}

size_t event_copy_since(uint64_t id, struct event *events, size_t max)
{
    size_t n = 0;

    pthread_mutex_lock(&mutex);
    if (id > last_id)
        id = 0;
    if (last_id - id > EVENTS_KEPT)
        id = last_id - EVENTS_KEPT;
    while (id < last_id && n < max)
        events[n++] = ring[++id % EVENTS_KEPT];
    pthread_mutex_unlock(&mutex);
    return n;
}

uint64_t event_last_id(void)
{
    uint64_t id;

    pthread_mutex_lock(&mutex);
    id = last_id;
    pthread_mutex_unlock(&mutex);
    return id;
}

void event_listen(void (*on_event)(void *arg), void *arg)
{
    pthread_mutex_lock(&mutex);
    listener = NULL;
    while (calls > 0)
        pthread_cond_wait(&quiet, &mutex);
    listener = on_event;
    listener_arg = arg;
    pthread_mutex_unlock(&mutex);
}
