/* workers_change.c - one configuration takes the place of another; see workers.h. A crew stays by its name and kind; what a process
 * was started by makes a new epoch where it changed, everything else holds from the next decision on. */
#include <stdlib.h>
#include <string.h>

#include "workers/consumer.h"
#include "workers/crew_private.h"

struct workers_change {
    struct workers *workers;
    const struct config *config; /* reference */
    struct list crews, gauges;   /* those that are new */
};

/* ---- preparing --------------------------------------------------------------------------------------------------- */

static struct crew *find_crew(const struct workers *workers, const struct config_workers *section)
{
    struct crew *crew = workers_find(workers, slice_from_text(section->name));

    return crew && crew->section->kind == section->kind ? crew : NULL;
}

static bool add_crew(struct workers_change *change, const struct config_workers *section)
{
    struct crew *crew = calloc(1, sizeof *crew);

    if (crew)
        crew->name = strdup(section->name);
    if (!crew || !crew->name) {
        free(crew);
        return false;
    }
    crew->owner = change->workers;
    crew->config = config_ref(change->config);
    crew->section = section;
    crew->desired = section->min;
    list_init(&crew->workers);
    scale_init(&crew->scale, section->min, loop_now_us());
    list_push_back(&change->crews, &crew->list);
    return true;
}

static bool add_gauge(struct workers_change *change, const struct config_gauge *config)
{
    struct gauge *gauge = calloc(1, sizeof *gauge);

    if (gauge)
        gauge->name = strdup(config->name);
    if (!gauge || !gauge->name) {
        free(gauge);
        return false;
    }
    gauge->config = config;
    list_push_back(&change->gauges, &gauge->list);
    return true;
}

struct workers_change *workers_prepare(struct workers *workers, const struct config *config)
{
    struct workers_change *change = calloc(1, sizeof *change);
    bool ok = true;

    if (!change)
        return NULL;
    change->workers = workers;
    change->config = config_ref(config);
    list_init(&change->crews);
    list_init(&change->gauges);
    for (size_t i = 0; ok && i < config->n_workers; i++)
        if (!find_crew(workers, &config->workers[i]))
            ok = add_crew(change, &config->workers[i]);
    for (size_t i = 0; ok && i < config->n_gauges; i++)
        if (!workers_find_gauge(workers, slice_from_text(config->gauges[i].name)))
            ok = add_gauge(change, &config->gauges[i]);
    if (ok)
        return change;
    workers_abandon(change);
    return NULL;
}

void workers_abandon(struct workers_change *change)
{
    while (!list_empty(&change->crews))
        crew_free(container_of(change->crews.next, struct crew, list));
    workers_free_gauges(&change->gauges);
    config_unref(change->config);
    free(change);
}

/* ---- committing -------------------------------------------------------------------------------------------------- */

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool same_listener(const struct config_workers *a, const struct config_workers *b)
{
    char before[CONSUMER_HOST_MAX], after[CONSUMER_HOST_MAX];

    if (!a->amqp || !b->amqp)
        return a->amqp == b->amqp;
    consumer_host(a->amqp, before);
    consumer_host(b->amqp, after);
    return strcmp(before, after) == 0;
}

/* Whether processes that were started by one are as good as those of the other. */
static bool same_process(const struct config_workers *a, const struct config_workers *b)
{
    return same_text(a->command.text, b->command.text) && same_text(a->path, b->path) &&
           same_text(a->health, b->health) && a->slots == b->slots &&
           strcmp(a->queue->name, b->queue->name) == 0 && same_listener(a, b);
}

static void keep(struct list *crews, struct crew *crew, const struct config *config,
                 const struct config_workers *section)
{
    if (!same_process(crew->section, section))
        crew->epoch++;
    if (strcmp(crew->section->queue->name, section->queue->name) != 0)
        crew_forget_queue(crew);
    if (crew->hand_count > section->max && crew->hand == HAND_SET)
        crew->desired = crew->hand_count = section->max;
    config_ref(config);
    config_unref(crew->config);
    crew->config = config;
    crew->section = section;
    list_remove(&crew->list);
    list_push_back(crews, &crew->list);
}

/* In the order of the file; what is left in the workers' list has no section any more. */
static void take_crews(struct workers_change *change)
{
    struct workers *workers = change->workers;
    const struct config *config = change->config;
    struct list crews;

    list_init(&crews);
    for (size_t i = 0; i < config->n_workers; i++) {
        struct crew *crew = find_crew(workers, &config->workers[i]);

        if (crew)
            keep(&crews, crew, config, &config->workers[i]);
        else
            list_push_back(&crews, list_pop_front(&change->crews));
    }
    for (struct list *at = workers->crews.next; at != &workers->crews; at = at->next)
        container_of(at, struct crew, list)->leaving = true;
    while (!list_empty(&workers->crews))
        list_push_back(&crews, list_pop_front(&workers->crews));
    list_take_all(&workers->crews, &crews);
}

static void take_gauges(struct workers_change *change)
{
    struct workers *workers = change->workers;
    struct list gauges;

    list_init(&gauges);
    for (size_t i = 0; i < change->config->n_gauges; i++) {
        const struct config_gauge *config = &change->config->gauges[i];
        struct gauge *gauge = workers_find_gauge(workers, slice_from_text(config->name));

        if (gauge)
            list_remove(&gauge->list);
        else
            gauge = container_of(list_pop_front(&change->gauges), struct gauge, list);
        gauge->config = config;
        list_push_back(&gauges, &gauge->list);
    }
    workers_free_gauges(&workers->gauges);
    list_take_all(&workers->gauges, &gauges);
}

void workers_commit(struct workers_change *change)
{
    struct workers *workers = change->workers;

    take_crews(change);
    take_gauges(change);
    config_unref(workers->config);
    workers->config = change->config;
    free(change);
    workers_wake(workers);
}
