/* private.h - what the files of src/admin share: the admin itself, and a request that found its row (admin.c).
 *
 * Threads: the control thread's. Whoever serves a call answers its exchange, and may wait. */
#ifndef ADMIN_PRIVATE_H
#define ADMIN_PRIVATE_H

#include "admin/admin.h"
#include "admin/bottleneck.h"
#include "admin/history.h"
#include "admin/queue_look.h"
#include "admin/sample.h"
#include "base/json.h"

#define ADMIN_ARGS_MAX 2

struct workers_look;
struct bell;     /* private to events.c */
struct requests; /* requests.h */
struct manager;  /* private to management/user.c */

struct admin {
    struct system *system;
    struct sample sample;
    struct queue_history queues;
    struct history history;
    struct bottleneck bottleneck;
    struct fiber *sampler;
    struct bell *bell;
    struct requests *requests;
    struct manager *manager; /* NULL: nobody has asked as a user yet */
    unsigned n_streams;
};

struct admin_call {
    struct admin *admin;
    struct exchange *x;
    struct slice args[ADMIN_ARGS_MAX]; /* what stood for each '*' of the row's path, decoded */
};

void page_serve(struct admin_call *call);
void state_serve(struct admin_call *call);
void metrics_serve(struct admin_call *call);
void events_serve(struct admin_call *call);
void explain_serve(struct admin_call *call);
/* A stream of events begins: 0, and an end is due for it; or it is answered, for some places are left to those who ask once. */
int admin_stream_begin(struct admin_call *call);
void admin_stream_end(struct admin_call *call);
/* A name as text, in the exchange's arena; "" without memory. */
const char *actions_text(struct exchange *x, struct slice name);
/* 200, {"text": what was done}. */
void actions_said(struct exchange *x, const char *text);

/* What keeps a call from the queues: an error of queue_look or queue_job_run, or a name that no queue has. */
void queues_refuse(struct exchange *x, int error);
void queues_refuse_name(struct admin_call *call, const char *name);

void history_serve(struct admin_call *call);
void requests_serve(struct admin_call *call);
void queues_serve(struct admin_call *call);
void queues_serve_one(struct admin_call *call);
void queues_peek(struct admin_call *call);
void queues_publish(struct admin_call *call);
void queues_purge(struct admin_call *call);
void queues_pause(struct admin_call *call);
void queues_resume(struct admin_call *call);
void queues_move(struct admin_call *call);
void actions_drain(struct admin_call *call);
void actions_enable(struct admin_call *call);
void actions_reset(struct admin_call *call);
void actions_weight(struct admin_call *call);
void actions_reload(struct admin_call *call);
void actions_upgrade(struct admin_call *call);

/* Tells those who follow the events of new ones, from whatever thread says them. NULL: no memory. */
struct bell *bell_create(struct admin *admin);
void bell_free(struct bell *bell);

/* Workers and gauges, as members of the open object. */
void workers_put(struct json *json, const struct workers_look *look);
void workers_serve_all(struct admin_call *call);
void workers_serve_one(struct admin_call *call);
void workers_serve_desired(struct admin_call *call);
void workers_serve_decisions(struct admin_call *call);
void workers_pause(struct admin_call *call);
void workers_resume(struct admin_call *call);
void workers_set(struct admin_call *call);
void workers_restart(struct admin_call *call);
void gauges_tell(struct admin_call *call);
/* There are none of that name. */
void workers_refuse(struct admin_call *call);

struct model;

/* A sample of what model counted and looked at. */
void history_sample(struct history *history, const struct model *model, const struct queue_history *rates_of,
                    const struct workers_look *look);

/* A tick, by what model counted and looked at; and what is told, as a member of the open object. */
void bottleneck_sample(struct bottleneck *bottleneck, const struct model *model,
                       const struct queue_history *rates_of, const struct workers_look *look);
void bottleneck_put(struct json *json, const struct bottleneck *bottleneck);

/* Queues, topics and the log, as members of the open object. */
void queues_put(struct json *json, const struct model *model, const struct queue_history *history);

struct event;

/* As a JSON object. */
void event_put(struct json *json, const struct event *event);

#endif
