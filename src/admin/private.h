/* private.h - what the files of src/admin share: the admin itself, and a request that found its row (admin.c).
 *
 * Threads: the control thread's. Whoever serves a call answers its exchange, and may wait. */
#ifndef ADMIN_PRIVATE_H
#define ADMIN_PRIVATE_H

#include "admin/admin.h"
#include "admin/sample.h"
#include "base/json.h"

#define ADMIN_ARGS_MAX 2

struct bell; /* private to events.c */

struct admin {
    struct system *system;
    struct sample sample;
    struct fiber *sampler;
    struct bell *bell;
};

struct admin_call {
    struct admin *admin;
    struct exchange *x;
    struct slice args[ADMIN_ARGS_MAX]; /* what stood for each '*' of the row's path, decoded */
};

void state_serve(struct admin_call *call);
void metrics_serve(struct admin_call *call);
void events_serve(struct admin_call *call);
void explain_serve(struct admin_call *call);
void actions_drain(struct admin_call *call);
void actions_enable(struct admin_call *call);
void actions_reset(struct admin_call *call);
void actions_weight(struct admin_call *call);
void actions_reload(struct admin_call *call);
void actions_upgrade(struct admin_call *call);

/* Tells those who follow the events of new ones, from whatever thread says them. NULL: no memory. */
struct bell *bell_create(struct admin *admin);
void bell_free(struct bell *bell);

struct event;

/* As a JSON object. */
void event_put(struct json *json, const struct event *event);

#endif
