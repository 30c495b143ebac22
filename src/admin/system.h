/* system.h - the running system as src/admin sees it: server/ keeps it, the admin listener shows and changes it.
 *
 * Threads: all of it is the control thread's, which also serves the admin listener; what threads count is in counters
 * that anyone may read. What a fiber here saw may be gone after a wait: take what is needed without one in between. */
#ifndef ADMIN_SYSTEM_H
#define ADMIN_SYSTEM_H

#include "balance/control.h"
#include "front/http.h"
#include "front/scene.h"
#include "queue/port.h"
#include "workers/workers.h"

/* A listener of the configuration in force, or one that drains. */
struct system_listener {
    struct list list; /* of system.listeners, in the order of the file, or of system.draining */
    struct listener *listener;
    struct address address;
    const struct config_tcp *tcp;     /* of the configuration in force; NULL: another kind, or it drains */
    const struct config_admin *admin; /* likewise */
    struct http_shared *shared; /* reference: http and admin as of now; NULL: another kind, or it drains */
    unsigned open;              /* threads that have not closed it */
    void *owner;                /* server/'s */
};

/* How an action went. Owned by the caller: system_result_free. */
struct system_result {
    int status;     /* as HTTP has it: 200, 409, 422, 500 */
    char *text;     /* what happened, or why not; what to do */
    char *changes;  /* a line each, or NULL */
    char *warnings; /* likewise */
    char *problems; /* likewise */
};

void system_result_free(struct system_result *result);

struct system {
    const char *file;               /* the configuration's */
    const struct config *config;    /* in force */
    uint64_t started_us, loaded_us; /* wall time */
    uint64_t reloads, reloads_failed;
    bool reload_failed;      /* the last one did */
    struct list generations; /* struct generation, the newest last */
    struct list listeners, draining;
    struct control *control;
    struct workers *workers;
    struct queue_port *port; /* the control thread's; without a thread there is no queue */
    struct seats *seats;
    struct mailbox *const *mailboxes; /* of the serving threads; NULL: it never opened */
    struct tail *tail;                /* of the serving threads' requests */
    unsigned n_threads;
    bool drains; /* the process is on its way out */

    /* Wait by fiber, as long as it takes; may be cancelled, and what they began goes on. */
    void (*reload)(struct system *system, struct system_result *result);
    void (*upgrade)(struct system *system, struct system_result *result);
};

#endif
