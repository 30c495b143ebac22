/* queue_state.c - queues, topics and the log as JSON: a part of GET /api/state, and GET /api/queues. docs/admin.md says what
 * each member means. */
#include <errno.h>
#include <string.h>

#include "admin/model.h"
#include "admin/private.h"
#include "admin/reply.h"
#include "config/nearest.h"

/* ---- a queue ----------------------------------------------------------------------------------------------------- */

/* At its limit, and it refuses what is new. */
static bool is_full(const struct queue_seen *q)
{
    const struct broker_queue_numbers *n = &q->numbers;

    return (q->overflow == LIMIT_REJECT_NEW || q->overflow == LIMIT_BURY_NEW) &&
           ((q->max_length && n->ready + n->delayed + n->blocked >= q->max_length) ||
            (q->max_bytes && n->bytes >= q->max_bytes));
}

/* A word, and what it means here. */
static const char *state_of(const struct queue_seen *q, const struct config_queue *config,
                            const char **reason)
{
    const struct broker_queue_numbers *n = &q->numbers;

    *reason = "";
    if (n->paused) {
        *reason = "paused by hand: it takes messages and delivers none";
        return "paused";
    }
    if (is_full(q)) {
        *reason = "at its limit: what is new is refused";
        return "full";
    }
    if (n->consumers && n->resting == n->consumers) {
        *reason = "its workers asked for a pause, or none of them is usable";
        return "resting";
    }
    if (!config && q->managed) {
        *reason = "no longer in the file; it goes once it is empty";
        return "left";
    }
    if (!n->consumers && n->ready) {
        *reason = "nobody takes its messages";
        return "unread";
    }
    return "running";
}

static void put_limits(struct json *json, const struct queue_seen *q)
{
    static const char *const overflows[] = {
        [LIMIT_REJECT_NEW] = "reject-new",   [LIMIT_DROP_OLDEST] = "drop-oldest",
        [LIMIT_DEAD_LETTER] = "dead-letter", [LIMIT_BURY_NEW] = "dead-letter-new",
        [LIMIT_DROP_HEAD] = "dead-letter",
    };

    json_key(json, "limits");
    json_put_object(json);
    PUT_U64(json, "length", q->max_length);
    PUT_U64(json, "bytes", q->max_bytes);
    PUT_DOUBLE(json, "age", (double)q->max_age_us / US_PER_S);
    PUT_TEXT(json, "overflow", overflows[q->overflow]);
    json_put_end(json);
}

static void put_totals(struct json *json, const struct broker_queue_numbers *n)
{
    json_key(json, "totals");
    json_put_object(json);
    PUT_U64(json, "published", n->published);
    PUT_U64(json, "refused", n->refused);
    PUT_U64(json, "delivered", n->delivered);
    PUT_U64(json, "redelivered", n->redelivered);
    PUT_U64(json, "retried", n->retried);
    for (size_t i = 0; i < N_MESSAGE_ENDS; i++) {
        json_key_slice(json, slice_from_text(message_end_names[i]));
        json_put_u64(json, n->ended[i]);
    }
    json_put_end(json);
}

static void put_rates(struct json *json, const struct queue_rates *rates)
{
    json_key(json, "rates");
    json_put_object(json);
    PUT_DOUBLE(json, "published", rates->published);
    PUT_DOUBLE(json, "delivered", rates->delivered);
    PUT_DOUBLE(json, "redelivered", rates->redelivered);
    PUT_DOUBLE(json, "acked", rates->acked);
    PUT_DOUBLE(json, "dead", rates->dead);
    json_put_end(json);
}

/* NULL: there are none. */
static const struct config_workers *workers_of(const struct config *config, const struct config_queue *queue)
{
    for (size_t i = 0; queue && i < config->n_workers; i++)
        if (config->workers[i].queue == queue)
            return &config->workers[i];
    return NULL;
}

/* What the file says of it; nulls where it says nothing. */
static void put_config(struct json *json, const struct config_queue *config,
                       const struct config_workers *workers)
{
    json_key(json, "place");
    if (config)
        reply_put_place(json, &config->place);
    else
        json_put_null(json);
    json_key(json, "push");
    if (config && config->push.active)
        json_put_string(json, slice_from_text(config->push.pool->name));
    else
        json_put_null(json);
    json_key(json, "workers");
    if (workers)
        json_put_string(json, slice_from_text(workers->name));
    else
        json_put_null(json);
    json_key(json, "dead_letter");
    if (config && config->dead_letter)
        json_put_string(json, slice_from_text(config->dead_letter->name));
    else
        json_put_null(json);
}

static void put_queue(struct json *json, const struct queue_seen *q, const struct config *config,
                      const struct queue_rates *rates)
{
    const struct broker_queue_numbers *n = &q->numbers;
    const struct config_queue *in_file = config_queue_find(config, q->name);
    uint64_t now_us = clock_wall_us();
    const char *reason, *state = state_of(q, in_file, &reason);

    json_put_object(json);
    PUT_TEXT(json, "name", q->name);
    put_config(json, in_file, workers_of(config, in_file));
    PUT_TEXT(json, "state", state);
    PUT_TEXT(json, "reason", reason);
    PUT_U64(json, "ready", n->ready);
    PUT_U64(json, "delayed", n->delayed);
    PUT_U64(json, "blocked", n->blocked);
    PUT_U64(json, "in_flight", n->in_flight);
    PUT_U64(json, "bytes", n->bytes);
    json_key(json, "oldest_age");
    if (n->oldest_us)
        json_put_double(json, now_us > n->oldest_us ? (double)(now_us - n->oldest_us) / US_PER_S : 0);
    else
        json_put_null(json);
    PUT_DOUBLE(json, "drains_in", queue_drains_in(n, rates));
    PUT_U64(json, "consumers", n->consumers);
    PUT_U64(json, "resting", n->resting);
    put_limits(json, q);
    put_rates(json, rates);
    put_totals(json, n);
    json_put_end(json);
}

static void put_list(struct json *json, const struct queue_look *look, const struct config *config,
                     const struct queue_history *history)
{
    json_put_array(json);
    for (size_t i = 0; look && i < look->n; i++) {
        struct queue_rates rates = queue_history_rates(history, &look->queues[i], look->now_us);

        put_queue(json, &look->queues[i], config, &rates);
    }
    json_put_end(json);
}

/* ---- topics, the log --------------------------------------------------------------------------------------------- */

static void put_topics(struct json *json, const struct config *config)
{
    json_key(json, "topics");
    json_put_array(json);
    for (size_t i = 0; i < config->n_topics; i++) {
        const struct config_topic *topic = &config->topics[i];

        json_put_object(json);
        PUT_TEXT(json, "name", topic->name);
        json_key(json, "place");
        reply_put_place(json, &topic->place);
        json_key(json, "queues");
        json_put_array(json);
        for (size_t j = 0; j < topic->n_queues; j++)
            json_put_string(json, slice_from_text(topic->queues[j]->name));
        json_put_end(json);
        json_put_end(json);
    }
    json_put_end(json);
}

static void put_log(struct json *json, const struct model *model)
{
    const struct log_seen *log = &model->log;
    bool late = model->look_error == -ETIMEDOUT;

    json_key(json, "log");
    if (!log->folder) {
        json_put_null(json);
        return;
    }
    json_put_object(json);
    PUT_TEXT(json, "folder", log->folder);
    PUT_TEXT(json, "state", log->failure[0] ? "failed" : late ? "late" : "ok");
    PUT_TEXT(json, "reason",
             log->failure[0] ? log->failure
             : late          ? "the queue's thread does not answer: its disk may be stuck"
                             : "");
    PUT_U64(json, "bytes", log->bytes);
    PUT_U64(json, "segments", log->segments);
    PUT_U64(json, "appended_bytes", log->appended_bytes);
    PUT_U64(json, "syncs", log->syncs);
    PUT_U64(json, "checkpoints", log->checkpoints);
    PUT_U64(json, "confirmed", log->confirmed);
    json_key(json, "commit");
    json_put_object(json);
    json_key(json, "p50_ms");
    reply_put_ms(json, histogram_percentile(&log->commits, 0.5));
    json_key(json, "p99_ms");
    reply_put_ms(json, histogram_percentile(&log->commits, 0.99));
    json_put_end(json);
    json_put_end(json);
}

void queues_put(struct json *json, const struct model *model, const struct queue_history *history)
{
    json_key(json, "queues");
    if (model->log.folder && !model->look)
        json_put_null(json); /* nobody knows */
    else
        put_list(json, model->look, model->config, history);
    put_topics(json, model->config);
    put_log(json, model);
}

/* ---- on its own -------------------------------------------------------------------------------------------------- */

void queues_refuse(struct exchange *x, int error)
{
    if (error == -ENODEV)
        reply_error(x, 409, NULL,
                    "there is no queue here: the configuration has none, or its log could not be opened, or "
                    "another process has taken over; see GET /api/state");
    else if (error == -ETIMEDOUT)
        reply_error(x, 504, NULL,
                    "the queue's thread does not answer: its disk may be stuck; what was asked for may still "
                    "happen");
    else if (error == -ECANCELED)
        exchange_fail(x, 503, "the client left, or maitred stops");
    else
        reply_no_memory(x);
}

void queues_refuse_name(struct admin_call *call, const char *name)
{
    const struct config *config = call->admin->system->config;
    struct config_nearest nearest;

    config_nearest_init(&nearest, name);
    for (size_t i = 0; i < config->n_queues; i++)
        config_nearest_try(&nearest, config->queues[i].name);
    reply_error(call->x, 404, NULL, "there is no queue %.100s; %s%.100s%s", name,
                nearest.best ? "did you mean " : "",
                nearest.best ? nearest.best : "GET /api/queues names all", nearest.best ? "?" : "");
}

static void serve(struct admin_call *call, const char *only)
{
    const struct config *config = config_ref(call->admin->system->config);
    const struct queue_history *history = &call->admin->queues;
    struct queue_look *look;
    struct reply reply;
    int error = queue_look(call->admin->system->port, only, &look);

    if (error == -ENODEV && !only)
        error = 0; /* none is an answer */
    if (error) {
        queues_refuse(call->x, error);
    } else if (only && look->n == 0) {
        queues_refuse_name(call, only);
    } else if (reply_begin(&reply, call->x, 200, REPLY_JSON)) {
        if (only) {
            struct queue_rates rates = queue_history_rates(history, look->queues, look->now_us);

            put_queue(&reply.json, look->queues, config, &rates);
        } else {
            json_put_object(&reply.json);
            json_key(&reply.json, "queues");
            put_list(&reply.json, look, config, history);
            json_put_end(&reply.json);
        }
        reply_end(&reply);
    }
    queue_look_free(look);
    config_unref(config);
}

void queues_serve(struct admin_call *call)
{
    serve(call, NULL);
}

void queues_serve_one(struct admin_call *call)
{
    serve(call, actions_text(call->x, call->args[0]));
}
