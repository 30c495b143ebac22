/* workers_actions.c - what POST does to workers, and what is told of a gauge. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "admin/management/terms.h"
#include "admin/private.h"
#include "admin/query.h"
#include "admin/reply.h"
#include "config/nearest.h"
#include "workers/crew.h"

#define GAUGE_BODY_MAX 1024
#define GAUGE_LEVELS 4

/* NULL: it is answered. */
static struct crew *find(struct admin_call *call)
{
    struct crew *crew = workers_find(call->admin->system->workers, call->args[0]);

    if (!crew)
        workers_refuse(call);
    return crew;
}

void workers_pause(struct admin_call *call)
{
    struct crew *crew = find(call);
    char text[256];

    if (!crew)
        return;
    crew_pause(crew);
    snprintf(text, sizeof text, "workers %s: paused; %s", crew->name,
             crew->section->command.text ? "those that run finish what they have, and stop"
                                         : "none are desired, which whoever starts them is told");
    actions_said(call->x, text);
}

void workers_resume(struct admin_call *call)
{
    struct crew *crew = find(call);
    char text[256];

    if (!crew)
        return;
    if (crew->hand == HAND_NONE) {
        snprintf(text, sizeof text, "workers %s: nothing was set by hand", crew->name);
    } else {
        crew_resume(crew);
        snprintf(text, sizeof text, "workers %s: there are as many as are needed again, %u to begin with",
                 crew->name, crew->desired);
    }
    actions_said(call->x, text);
}

void workers_set(struct admin_call *call)
{
    struct crew *crew = find(call);
    struct slice query = call->x->request.query, value;
    uint64_t count;
    char text[256];

    if (!crew)
        return;
    if (query_take(&call->x->arena, &query, SLICE("count"), &value) != 1 || !slice_to_u64(value, &count) ||
        count > crew->section->max) {
        reply_error(call->x, 400, NULL, "say how many, from 0 to max, which is %u, as in ?count=%u",
                    crew->section->max, crew->section->max);
        return;
    }
    crew_set(crew, (unsigned)count);
    snprintf(text, sizeof text, "workers %s: set to %u, until they are resumed", crew->name, (unsigned)count);
    actions_said(call->x, text);
}

void workers_restart(struct admin_call *call)
{
    struct crew *crew = find(call);
    char text[256];

    if (!crew)
        return;
    if (!crew->section->command.text) {
        reply_error(call->x, 409, NULL, "workers %.100s have no command: restart them where they are started",
                    crew->name);
        return;
    }
    crew_restart(crew);
    snprintf(
        text, sizeof text,
        "workers %s: each is replaced by a new process, a few at a time, once it has finished what it has",
        crew->name);
    actions_said(call->x, text);
}

/* ---- gauges ------------------------------------------------------------------------------------------------------ */

static void refuse_gauge(struct admin_call *call)
{
    const struct config *config = call->admin->system->config;
    const char *name = actions_text(call->x, call->args[0]);
    struct config_nearest nearest;

    config_nearest_init(&nearest, name);
    for (size_t i = 0; i < config->n_gauges; i++)
        config_nearest_try(&nearest, config->gauges[i].name);
    reply_error(call->x, 404, NULL, "there is no gauge %.100s; %s%.100s%s", name,
                nearest.best ? "did you mean " : "",
                nearest.best ? nearest.best : "GET /api/workers names all", nearest.best ? "?" : "");
}

/* The body, as far as there is room; *whole: that was all. 0 or a negative errno. */
static int read_body(struct exchange *x, char bytes[GAUGE_BODY_MAX], size_t *len, bool *whole)
{
    struct slice piece;
    int result;

    *len = 0;
    *whole = true;
    while ((result = exchange_read_body(x, &piece)) > 0) {
        size_t room = GAUGE_BODY_MAX - *len, n = piece.len < room ? piece.len : room;

        if (n)
            memcpy(bytes + *len, piece.ptr, n);
        *len += n;
        *whole &= n == piece.len;
        if (!*whole)
            return 0;
    }
    return result;
}

/* What the document says; NAN: it is no such document. */
static double read_value(struct slice document)
{
    json_t *body = terms_is_shallow(document, GAUGE_LEVELS)
                       ? json_loadb(document.ptr, document.len, JSON_REJECT_DUPLICATES, NULL)
                       : NULL;
    const json_t *member = json_object_get(body, "value");
    double value = json_is_number(member) ? json_number_value(member) : (double)NAN;

    json_decref(body);
    return value;
}

static void say_told(struct admin_call *call, const struct gauge *gauge)
{
    char reason[GAUGE_TEXT_MAX], text[512];

    gauge_reason(gauge, loop_now_us(), reason);
    snprintf(text, sizeof text, "gauge %s: %s: %s", gauge->name,
             gauge_state_name(gauge_state(gauge, loop_now_us())), reason);
    actions_said(call->x, text);
}

void gauges_tell(struct admin_call *call)
{
    struct workers *workers = call->admin->system->workers;
    char bytes[GAUGE_BODY_MAX];
    struct gauge *gauge;
    size_t len;
    bool whole;
    double value;
    int error = read_body(call->x, bytes, &len, &whole);

    if (error || !whole) {
        call->x->close = true;
        reply_error(call->x, error ? exchange_body_status(error) : 413, NULL,
                    "the body did not come whole; it may have %d bytes", GAUGE_BODY_MAX);
        return;
    }
    gauge = workers_find_gauge(workers, call->args[0]);
    value = read_value(slice_of(bytes, len));
    if (!gauge) {
        refuse_gauge(call);
    } else if (!isfinite(value)) {
        reply_error(call->x, 400, NULL, "say the value as JSON, as in {\"value\": 17}");
    } else {
        workers_tell_gauge(gauge, value);
        say_told(call, gauge);
    }
}
