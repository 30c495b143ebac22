/* history_state.c - what history keeps of the running system, and GET /api/history. */
#include <math.h>
#include <stdio.h>

#include "admin/model.h"
#include "admin/private.h"
#include "admin/reply.h"
#include "admin/workers_look.h"

/* Of the queues that are not the file's so many, the busiest: clients may declare any number of them. */
#define OTHERS_MAX 50

/* ---- taking a sample --------------------------------------------------------------------------------------------- */

static void add_figures(struct history *history, enum history_kind kind, const char *name,
                        const struct model_figures *figures)
{
    history_add(
        history, kind, name,
        (double[HISTORY_LANES]){figures->rate, figures->p95_us / US_PER_MS, figures->error_rate, NAN});
}

static void add_queue(struct history *history, const struct queue_seen *q, const struct queue_rates *rates)
{
    uint64_t oldest_us = q->numbers.oldest_us, now_us = clock_wall_us();
    double age = !oldest_us ? NAN : now_us > oldest_us ? (double)(now_us - oldest_us) / US_PER_S : 0;

    history_add(history, HISTORY_QUEUE, q->name,
                (double[HISTORY_LANES]){rates->published, rates->acked, (double)q->numbers.ready, age});
}

struct busy_queue {
    const struct queue_seen *queue;
    struct queue_rates rates;
    double score;
};

/* Those that are kept so far; of several as busy the first ones stay. */
struct busy_queues {
    struct busy_queue at[OTHERS_MAX];
    size_t n;
};

static void offer(struct busy_queues *busy, const struct busy_queue *offered)
{
    size_t least = 0;

    if (busy->n < OTHERS_MAX) {
        busy->at[busy->n++] = *offered;
        return;
    }
    for (size_t i = 1; i < OTHERS_MAX; i++)
        if (busy->at[i].score < busy->at[least].score)
            least = i;
    if (offered->score > busy->at[least].score)
        busy->at[least] = *offered;
}

static void add_queues(struct history *history, const struct model *model,
                       const struct queue_history *rates_of)
{
    struct busy_queues busy = {.n = 0};

    for (size_t i = 0; model->look && i < model->look->n; i++) {
        const struct queue_seen *q = &model->look->queues[i];
        struct queue_rates rates = queue_history_rates(rates_of, q, model->look->now_us);
        double score = rates.published + rates.delivered + rates.acked;

        if (config_queue_find(model->config, q->name))
            add_queue(history, q, &rates);
        else
            offer(&busy, &(struct busy_queue){q, rates, score});
    }
    for (size_t i = 0; i < busy.n; i++)
        add_queue(history, busy.at[i].queue, &busy.at[i].rates);
}

static void add_workers(struct history *history, const struct workers_look *look)
{
    for (size_t i = 0; i < look->n; i++) {
        const struct crew_count *n = &look->crews[i].count;

        if (!look->crews[i].leaving)
            history_add(history, HISTORY_WORKERS, look->crews[i].section->name,
                        (double[HISTORY_LANES]){n->starting + n->idle + n->busy, look->crews[i].desired,
                                                n->busy, NAN});
    }
    for (size_t i = 0; i < look->n_gauges; i++)
        history_add(history, HISTORY_GAUGE, look->gauges[i].config->name,
                    (double[HISTORY_LANES]){look->gauges[i].value, NAN, NAN, NAN});
}

void history_sample(struct history *history, const struct model *model, const struct queue_history *rates_of,
                    const struct workers_look *look)
{
    history_begin(history, model->now_us);
    for (size_t i = 0; i + model->n_draining < model->n_listeners; i++)
        add_figures(history, HISTORY_LISTENER, model->listeners[i].name, &model->listeners[i].figures);
    for (size_t i = 0; i < model->n_pools; i++)
        add_figures(history, HISTORY_POOL, model->pools[i].config->name, &model->pools[i].figures);
    add_queues(history, model, rates_of);
    add_workers(history, look);
    history_end(history);
}

/* ---- the answer -------------------------------------------------------------------------------------------------- */

static void put_thing(struct json *json, const struct history_thing *thing, uint64_t first)
{
    const struct history_format *format = &history_formats[thing->kind];
    char key[512];

    snprintf(key, sizeof key, "%s %s", format->word, thing->name);
    json_key_slice(json, slice_from_text(key));
    json_put_object(json);
    for (size_t lane = 0; lane < HISTORY_LANES && format->lanes[lane]; lane++) {
        json_key_slice(json, slice_from_text(format->lanes[lane]));
        json_put_array(json);
        for (uint64_t i = 0; i < HISTORY_SAMPLES; i++)
            json_put_double(json, round(history_figure(thing, lane, first + i) * 1000) / 1000);
        json_put_end(json);
    }
    json_put_end(json);
}

static void put_history(struct json *json, const struct history *history)
{
    uint64_t first = history->step - (HISTORY_SAMPLES - 1), now_us = loop_now_us();
    uint64_t ago_us = now_us - first * HISTORY_STEP_S * US_PER_S;
    size_t n = history->n;

    json_put_object(json);
    PUT_U64(json, "step", HISTORY_STEP_S);
    PUT_TIME(json, "from", clock_wall_us() - ago_us);
    PUT_U64(json, "n", HISTORY_SAMPLES);
    json_key(json, "series");
    json_put_object(json);
    for (size_t i = 0; i < n; i++)
        put_thing(json, history->things[i], first);
    json_put_end(json);
    json_put_end(json);
}

void history_serve(struct admin_call *call)
{
    struct history *history = &call->admin->history;
    struct reply reply;

    if (!reply_begin(&reply, call->x, 200, REPLY_JSON))
        return;
    history->readers++;
    put_history(&reply.json, history);
    reply_end(&reply);
    history->readers--;
}
