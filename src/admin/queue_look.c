/* queue_look.c - see queue_look.h. */
#include "admin/queue_look.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "fiber/loop.h"

#define LOOK_WAIT_US (2 * US_PER_S)
#define HISTORY_STEP_US (5 * US_PER_S)

/* ---- looking ----------------------------------------------------------------------------------------------------- */

/* A copy; a virtual host is before it with a slash, where the broker has a NUL. */
static char *readable(struct slice name)
{
    char *text = malloc(name.len + 1);

    if (!text)
        return NULL;
    memcpy(text, name.ptr, name.len);
    for (size_t i = 0; i < name.len; i++)
        if (!text[i])
            text[i] = '/';
    text[name.len] = '\0';
    return text;
}

static void see_queue(void *arg, const struct broker_queue_view *view)
{
    struct queue_look *look = arg;
    size_t room = look->room ? look->room * 2 : 16;
    struct queue_seen *queues;
    char *name;

    if (look->n == look->room) {
        queues = realloc(look->queues, room * sizeof *queues);
        if (!queues) {
            look->no_memory = true;
            return;
        }
        look->queues = queues;
        look->room = room;
    }
    name = readable(view->name);
    if (!name) {
        look->no_memory = true;
        return;
    }
    look->queues[look->n++] = (struct queue_seen){
        .id = view->id,
        .name = name,
        .max_length = view->options->max_length,
        .max_bytes = view->options->max_bytes,
        .max_age_us = view->options->max_age_us,
        .overflow = view->options->overflow,
        .managed = view->options->managed,
        .numbers = view->numbers,
    };
}

static void see_exchange(void *arg, const struct broker_exchange_view *view)
{
    struct queue_look *look = arg;
    size_t room = look->exchanges_room ? look->exchanges_room * 2 : 16;
    struct exchange_seen *exchanges;

    if (look->n_exchanges == look->exchanges_room) {
        exchanges = realloc(look->exchanges, room * sizeof *exchanges);
        if (!exchanges) {
            look->no_memory = true;
            return;
        }
        look->exchanges = exchanges;
        look->exchanges_room = room;
    }
    look->exchanges[look->n_exchanges++] = (struct exchange_seen){view->id, view->published};
}

static void run_look(struct queue_job *job, struct broker *broker, uint64_t now_us)
{
    struct queue_look *look = container_of(job, struct queue_look, job);
    struct broker_queue_view view;

    (void)now_us;
    look->now_us = clock_monotonic_us();
    if (!look->only) {
        broker_each_queue(broker, see_queue, look);
        broker_each_exchange(broker, see_exchange, look);
    } else if (broker_find_queue(broker, slice_from_text(look->only), &view)) {
        see_queue(look, &view);
    }
}

static void free_look(struct queue_job *job)
{
    queue_look_free(container_of(job, struct queue_look, job));
}

void queue_look_free(struct queue_look *look)
{
    if (!look)
        return;
    for (size_t i = 0; i < look->n; i++)
        free(look->queues[i].name);
    free(look->queues);
    free(look->exchanges);
    free(look->only);
    free(look);
}

int queue_look(struct queue_port *port, const char *only, struct queue_look **result)
{
    struct queue_look *look;
    int error;

    *result = NULL;
    if (!port->thread)
        return -ENODEV;
    look = calloc(1, sizeof *look);
    if (!look)
        return -ENOMEM;
    look->job = (struct queue_job){.run = run_look, .free = free_look};
    look->only = only ? strdup(only) : NULL;
    if (only && !look->only) {
        free(look);
        return -ENOMEM;
    }
    error = queue_job_run(port, &look->job, false, loop_deadline(LOOK_WAIT_US));
    if (error)
        return error;
    error = look->no_memory ? -ENOMEM : look->now_us ? 0 : -ENODEV;
    if (error)
        queue_look_free(look);
    else
        *result = look;
    return error;
}

/* ---- the log ----------------------------------------------------------------------------------------------------- */

const char *log_failure_seen(const struct queue_port *port)
{
    return port->thread
               ? atomic_load_explicit(&queue_thread_numbers(port->thread)->failure, memory_order_acquire)
               : NULL;
}

void log_see(const struct queue_port *port, struct log_seen *log)
{
    const struct queue_thread_numbers *n = port->thread ? queue_thread_numbers(port->thread) : NULL;
    const char *failure = log_failure_seen(port);

    *log = (struct log_seen){0};
    if (!n)
        return;
    log->folder = strdup(queue_thread_folder(port->thread));
    if (failure)
        snprintf(log->failure, sizeof log->failure, "%s", failure);
    log->confirmed = counter_get(&n->confirmed);
    log->bytes = counter_get(&n->log_bytes);
    log->segments = counter_get(&n->log_segments);
    log->syncs = counter_get(&n->syncs);
    log->appended_bytes = counter_get(&n->appended_bytes);
    log->checkpoints = counter_get(&n->checkpoints);
    histogram_add_to(&log->commits, &n->commits);
}

/* ---- rates ------------------------------------------------------------------------------------------------------- */

bool queue_history_wants(const struct queue_history *history, uint64_t now_us)
{
    return !history->newer || now_us >= history->newer->now_us + HISTORY_STEP_US;
}

void queue_history_add(struct queue_history *history, struct queue_look *look)
{
    queue_look_free(history->older);
    history->older = history->newer;
    history->newer = look;
}

void queue_history_forget(struct queue_history *history)
{
    queue_look_free(history->older);
    queue_look_free(history->newer);
    *history = (struct queue_history){0};
}

static int compare_id(const void *key, const void *queue)
{
    uint32_t wanted = *(const uint32_t *)key, id = ((const struct queue_seen *)queue)->id;

    return wanted < id ? -1 : wanted > id;
}

static const struct queue_seen *find_seen(const struct queue_look *look, uint32_t id)
{
    return look && look->n ? bsearch(&id, look->queues, look->n, sizeof *look->queues, compare_id) : NULL;
}

static uint64_t count_dead(const struct broker_queue_numbers *numbers)
{
    const uint64_t *ended = numbers->ended;

    return ended[END_EXPIRED] + ended[END_MAXLEN] + ended[END_REJECTED] + ended[END_ATTEMPTS];
}

uint64_t queue_seen_dead(const struct queue_seen *queue)
{
    return count_dead(&queue->numbers);
}

bool queue_history_then(const struct queue_history *history, uint32_t id, uint64_t now_us,
                        struct broker_queue_numbers *then, double *seconds)
{
    const struct queue_look *look = history->older ? history->older : history->newer;
    const struct queue_seen *seen = find_seen(look, id);

    if (!look || now_us <= look->now_us || (!seen && look->n && id <= look->queues[look->n - 1].id))
        return false;
    *then = seen ? seen->numbers : (struct broker_queue_numbers){0};
    *seconds = (double)(now_us - look->now_us) / US_PER_S;
    if (*seconds < 1)
        *seconds = 1; /* of next to no time no rate can be told */
    return true;
}

static double rate(uint64_t now, uint64_t then, double seconds)
{
    return now > then ? (double)(now - then) / seconds : 0;
}

struct queue_rates queue_history_rates(const struct queue_history *history, const struct queue_seen *queue,
                                       uint64_t now_us)
{
    const struct broker_queue_numbers *now = &queue->numbers;
    struct broker_queue_numbers then;
    double seconds;

    if (!queue_history_then(history, queue->id, now_us, &then, &seconds))
        return (struct queue_rates){0};
    return (struct queue_rates){
        .published = rate(now->published, then.published, seconds),
        .delivered = rate(now->delivered, then.delivered, seconds),
        .redelivered = rate(now->redelivered, then.redelivered, seconds),
        .acked = rate(now->ended[END_ACKED], then.ended[END_ACKED], seconds),
        .dead = rate(count_dead(now), count_dead(&then), seconds),
    };
}

double queue_drains_in(const struct broker_queue_numbers *numbers, const struct queue_rates *rates)
{
    double waits = (double)(numbers->ready + numbers->blocked), left = rates->acked + rates->dead;

    if (waits == 0)
        return 0;
    if (waits <= left) /* what leaves within a second is no backlog, whatever the moment says of growth */
        return waits / left;
    return left > rates->published ? waits / (left - rates->published) : NAN;
}

static int compare_exchange_id(const void *key, const void *exchange)
{
    uint32_t wanted = *(const uint32_t *)key, id = ((const struct exchange_seen *)exchange)->id;

    return wanted < id ? -1 : wanted > id;
}

double queue_history_exchange_rate(const struct queue_history *history, uint32_t id, uint64_t published,
                                   uint64_t now_us)
{
    const struct queue_look *look = history->older ? history->older : history->newer;
    const struct exchange_seen *seen;
    double seconds;

    if (!look || now_us <= look->now_us)
        return 0;
    seen = look->n_exchanges
               ? bsearch(&id, look->exchanges, look->n_exchanges, sizeof *seen, compare_exchange_id)
               : NULL;
    if (!seen && look->n_exchanges && id <= look->exchanges[look->n_exchanges - 1].id)
        return 0; /* not one that came later */
    seconds = (double)(now_us - look->now_us) / US_PER_S;
    return rate(published, seen ? seen->published : 0, seconds < 1 ? 1 : seconds);
}
