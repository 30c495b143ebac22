/* event.h - what happened to the system: a line for the operator's log, and kept for a while for the admin API.
 *
 * Events are numbered from 1 in the order they are kept in; the last EVENTS_KEPT are. Not for the hot path: a write to
 * standard error each. Any thread; a mutex is held for copying only. */
#ifndef BASE_EVENT_H
#define BASE_EVENT_H

#include "base/slice.h"

#define EVENTS_KEPT 1000

enum event_kind {
    EVENT_SERVER_UP,
    EVENT_SERVER_DOWN,
    EVENT_SERVER_EJECTED,
    EVENT_SERVER_RETURNED,
    EVENT_SERVER_DRAINED,
    EVENT_SERVER_ENABLED,
    EVENT_SERVER_WEIGHT,
    EVENT_SERVER_ADDED,
    EVENT_SERVER_REMOVED,
    EVENT_NAME_FAILED,
    EVENT_RELOAD,
    EVENT_RELOAD_FAILED,
    EVENT_UPGRADE,
    EVENT_UPGRADE_FAILED,
    EVENT_DRAIN,
    EVENT_START,
    EVENT_LIMIT,
    EVENT_LOG_FAILED,
    EVENT_QUEUE_PAUSED,
    EVENT_QUEUE_RESUMED,
    EVENT_QUEUE_PURGED,
    EVENT_QUEUE_MOVED,
    EVENT_WORKERS_SCALED,
    EVENT_WORKERS_HELD,
    EVENT_WORKERS_PAUSED,
    EVENT_WORKERS_SET,
    EVENT_WORKERS_RESUMED,
    EVENT_WORKERS_RESTARTED,
    EVENT_WORKER_FAILED,
    EVENT_WORKER_KILLED,
    EVENT_WORKER_STUCK,
    EVENT_KEEPER_LOST,
    EVENT_GAUGE_FULL,
    EVENT_GAUGE_OK,
    EVENT_KINDS
};

/* Texts end in a NUL, and are cut at a character's end where they are longer. */
struct event {
    uint64_t id, wall_us;
    enum event_kind kind;
    char pool[65];    /* "": none */
    char server[129]; /* "": none */
    char text[384];
};

/* "server-up", as the admin API calls it. */
const char *event_kind_name(enum event_kind kind);

/* Logs it, with the level of its kind, keeps it, and tells the listener. pool and server may be empty. The text stands
 * alone: it names pool and server again. */
void event_say(enum event_kind kind, struct slice pool, struct slice server, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Copies the events after id (0: all) that are still kept, oldest first, max at most; returns how many. An id that was not
 * given yet is one of an earlier process: all are copied. */
size_t event_copy_since(uint64_t id, struct event *events, size_t max);
/* 0: none yet. */
uint64_t event_last_id(void);

/* One listener (NULL: none any more), called after each event on the thread that said it, from several at once, and without
 * the mutex; it may say events itself but not call event_listen. Once this returns, the one before is not running and
 * will not be called. */
void event_listen(void (*on_event)(void *arg), void *arg);

#endif
