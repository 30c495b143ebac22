/* check_queue.c - what queues, topics and routes say about each other: see check.h. */
#include <stdlib.h>
#include <string.h>

#include "config/check.h"
#include "config/nearest.h"

void config_refuse_missing(struct config_problems *problems, const struct config_place place,
                           const char *kind, const char *name, const char *nearest)
{
    if (nearest)
        config_problem(problems, place, "there is no %s \"" SHOWN "\"; did you mean \"%s\"?", kind, name,
                       nearest);
    else
        config_problem(problems, place, "there is no %s \"" SHOWN "\"; add %s NAME { ... }", kind, name,
                       kind);
}

const struct config_queue *config_find_queue(struct config_problems *problems, const struct config *config,
                                             const struct config_value *value)
{
    const struct config_queue *queue = config_queue_find(config, value->text);
    struct config_nearest nearest;

    if (queue)
        return queue;
    config_nearest_init(&nearest, value->text);
    for (size_t i = 0; i < config->n_queues; i++)
        config_nearest_try(&nearest, config->queues[i].name);
    config_refuse_missing(problems, value->place, "queue", value->text, nearest.best);
    return NULL;
}

static const struct config_topic *find_topic(struct config_problems *problems, const struct config *config,
                                             const struct config_value *value)
{
    const struct config_topic *topic = config_topic_find(config, value->text);
    struct config_nearest nearest;

    if (topic)
        return topic;
    config_nearest_init(&nearest, value->text);
    for (size_t i = 0; i < config->n_topics; i++)
        config_nearest_try(&nearest, config->topics[i].name);
    config_refuse_missing(problems, value->place, "topic", value->text, nearest.best);
    return NULL;
}

/* --- queues --------------------------------------------------------------------------------------- */

static void check_push(struct config_problems *problems, const struct config *config,
                       const struct config_item *item, struct config_queue *queue)
{
    const struct config_item *option = config_item_option(item, "pool");
    static const char *const without[] = {"burst"};

    if (option)
        queue->push.pool = config_find_pool(problems, config, option);
    else if (!item->bad)
        config_problem(problems, item->place, "the push of queue \"" SHOWN "\" has no pool; add pool = NAME",
                       queue->name);
    for (size_t i = 0; i < sizeof without / sizeof *without; i++)
        if (queue->push.rate <= 0)
            config_refuse_idle(problems, item, without[i], "rate");
}

void config_check_queue(struct config_problems *problems, const struct config *config,
                        const struct config_item *item, struct config_queue *queue)
{
    const struct config_item *dead = config_item_option(item, "dead-letter");
    const struct config_item *push = config_item_section(item, &config_table_push);
    const struct config_item *retry = config_item_section(item, &config_table_retry);

    if (dead && !dead->bad)
        queue->dead_letter = config_find_queue(problems, config, dead->values);
    if (queue->overflow == OVERFLOW_DEAD_LETTER && !dead)
        config_problem(
            problems, config_item_option(item, "overflow")->place,
            "overflow = dead-letter needs dead-letter; add that, or choose drop-oldest or reject-new");
    if (!queue->max_length && !queue->max_bytes && !item->bad)
        config_refuse_idle(problems, item, "overflow", "max-length or max-bytes");
    if (push)
        check_push(problems, config, push, queue);
    if (retry && !retry->bad && queue->retry.most_us < queue->retry.first_us)
        config_problem(problems, retry->place, "retry: most is below first; raise most, or lower first");
}

/* Messages that go round would never end. */
static void check_circle(struct config_problems *problems, const struct config *config,
                         const struct config_queue *queue)
{
    const struct config_queue *at = queue->dead_letter;

    for (size_t i = 0; at && at != queue && i < config->n_queues; i++)
        at = at->dead_letter;
    if (at == queue)
        config_problem(problems, queue->place,
                       "the dead letters of queue \"" SHOWN
                       "\" come back to it; let one queue on the way have none",
                       queue->name);
}

/* --- topics --------------------------------------------------------------------------------------- */

static int compare_queues(const void *left, const void *right)
{
    const struct config_queue *a = *(const struct config_queue *const *)left;
    const struct config_queue *b = *(const struct config_queue *const *)right;

    return strcmp(a->name, b->name);
}

void config_check_topic(struct config_problems *problems, const struct config *config,
                        const struct config_item *item, struct config_topic *topic)
{
    const struct config_item *option = config_item_option(item, "queues");
    size_t n = 0;
    bool all = true;

    if (!option) {
        if (!item->bad)
            config_problem(problems, item->place,
                           "topic \"" SHOWN "\" has no readers; add queues = { NAME, ... }", topic->name);
        return;
    }
    for (const struct config_value *value = option->values; value && !option->bad; value = value->next) {
        topic->queues[n] = config_find_queue(problems, config, value);
        all &= topic->queues[n] != NULL;
        for (size_t i = 0; i < n && topic->queues[n]; i++)
            if (topic->queues[i] == topic->queues[n])
                config_problem(problems, value->place,
                               "queue \"" SHOWN "\" stands twice in topic %s; remove one", value->text,
                               topic->name);
        n++;
    }
    if (all && !option->bad)
        qsort(topic->queues, topic->n_queues, sizeof(struct config_queue *), compare_queues);
}

/* --- routes --------------------------------------------------------------------------------------- */

void config_check_route_queue(struct config_problems *problems, const struct config *config,
                              const struct config_item *item, struct config_route *route)
{
    static const char *const of_storing[] = {"delay", "max-wait", "idempotency-window"};
    const struct config_item *queue = config_item_option(item, "queue"),
                             *topic = config_item_option(item, "topic");
    const struct config_item *pool = config_item_option(item, "pool");

    if (queue && !queue->bad)
        route->queue = config_find_queue(problems, config, queue->values);
    if (topic && !topic->bad)
        route->topic = find_topic(problems, config, topic->values);
    if (queue && topic)
        config_problem(problems, topic->place, "route \"" SHOWN "\" has queue and topic; remove one",
                       item->title);
    if ((queue || topic) && !pool)
        route->action = ROUTE_QUEUE;
    for (size_t i = 0; i < sizeof of_storing / sizeof *of_storing && !queue && !topic; i++)
        config_refuse_idle(problems, item, of_storing[i], "queue or topic");
    if (!pool || (!queue && !topic))
        config_refuse_idle(problems, item, "spill", "both a pool and a queue or topic");
}

/* --- the file ------------------------------------------------------------------------------------- */

static bool is_power_of_two(uint64_t n)
{
    return n && (n & (n - 1)) == 0;
}

void config_refuse_same(struct config_problems *problems, const struct config_place *second,
                        const struct config_place *first, const char *kind, const char *name)
{
    config_problem(problems, *second, "there is another %s \"" SHOWN "\" at %s:%d; rename or remove one",
                   kind, name, first->file, first->line);
}

static void check_names(struct config_problems *problems, const struct config *config)
{
    for (size_t i = 0; i < config->n_queues; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(config->queues[i].name, config->queues[j].name) == 0) {
                config_refuse_same(problems, &config->queues[i].place, &config->queues[j].place, "queue",
                                   config->queues[i].name);
                break;
            }
    for (size_t i = 0; i < config->n_topics; i++) {
        const struct config_topic *topic = &config->topics[i];
        const struct config_queue *queue = config_queue_find(config, topic->name);

        for (size_t j = 0; j < i; j++)
            if (strcmp(topic->name, config->topics[j].name) == 0) {
                config_refuse_same(problems, &topic->place, &config->topics[j].place, "topic", topic->name);
                break;
            }
        if (queue)
            config_refuse_same(problems, &topic->place, &queue->place, "queue", topic->name);
    }
}

void config_check_queues(struct config_problems *problems, const struct config_item *top,
                         const struct config *config)
{
    const struct config_item *segment = config_item_option(top, "state-segment");
    const struct config_item *max = config_item_option(top, "state-max");

    check_names(problems, config);
    for (size_t i = 0; i < config->n_queues; i++)
        check_circle(problems, config, &config->queues[i]);
    if (segment && !segment->bad && !is_power_of_two(config->state_segment))
        config_problem(problems, segment->place,
                       "state-segment is no power of two; write one like 16m or 64m");
    if (max && !max->bad && config->state_max && config->state_max < 4 * config->state_segment)
        config_problem(problems, max->place,
                       "state-max is below four times state-segment; raise it, or lower state-segment");
}
