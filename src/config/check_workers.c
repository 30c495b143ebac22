/* check_workers.c - what workers, gauges, queues and listeners say about each other: see check.h. */
#include <string.h>

#include "config/check.h"
#include "config/nearest.h"

static const struct config_gauge *find_gauge(struct config_problems *problems, const struct config *config,
                                             const struct config_value *value)
{
    const struct config_gauge *gauge = config_gauge_find(config, value->text);
    struct config_nearest nearest;

    if (gauge)
        return gauge;
    config_nearest_init(&nearest, value->text);
    for (size_t i = 0; i < config->n_gauges; i++)
        config_nearest_try(&nearest, config->gauges[i].name);
    config_refuse_missing(problems, value->place, "gauge", value->text, nearest.best);
    return NULL;
}

/* ---- the listener of a consumer ---------------------------------------------------------------- */

/* Whether a client of this machine has to send a PROXY protocol header, which no worker does. */
static bool wants_header(const struct config_amqp *amqp)
{
    struct ip local;

    if (amqp->address.kind == ADDRESS_IP && !IN6_IS_ADDR_UNSPECIFIED(&amqp->address.ip))
        local.bytes = amqp->address.ip;
    else
        ip_parse(SLICE("127.0.0.1"), &local);
    for (size_t i = 0; i < amqp->n_accept_proxy; i++)
        if (ip_network_has(&amqp->accept_proxy[i], &local))
            return true;
    return false;
}

/* Why a worker of this machine cannot use it; NULL: it can. */
static const char *why_not(const struct config_amqp *amqp)
{
    if (amqp->address.kind == ADDRESS_UNIX)
        return "is a unix socket, which an AMQP URL cannot name";
    return wants_header(amqp) ? "wants a PROXY protocol header from this machine" : NULL;
}

static const struct config_amqp *find_listener(const struct config *config)
{
    for (size_t i = 0; i < config->n_amqp; i++)
        if (!why_not(&config->amqp[i]))
            return &config->amqp[i];
    return NULL;
}

static void refuse_no_listener(struct config_problems *problems, const struct config *config,
                               const struct config_workers *workers)
{
    if (config->n_amqp)
        config_problem(problems, workers->place,
                       "workers \"" SHOWN "\" cannot reach a listener: amqp \"" SHOWN
                       "\" %s; add amqp \"127.0.0.1:5672\" { user ... }",
                       workers->name, config->amqp[0].name, why_not(&config->amqp[0]));
    else
        config_problem(problems, workers->place,
                       "workers \"" SHOWN
                       "\" are consumers, and there is no amqp listener for them; add amqp "
                       "\"127.0.0.1:5672\" { user ... }, or choose kind = http or filter",
                       workers->name);
}

/* ---- workers ----------------------------------------------------------------------------------- */

static void check_numbers(struct config_problems *problems, const struct config_item *item,
                          const struct config_workers *workers)
{
    const struct config_item *max = config_item_option(item, "max");

    if (max && !max->bad && workers->max < workers->min)
        config_problem(problems, max->place, "max is below min; raise max, or lower min");
}

static void check_effects(struct config_problems *problems, const struct config_item *item,
                          const struct config_workers *workers)
{
    const struct config_item *slots = config_item_option(item, "slots");

    if (workers->kind != WORKER_HTTP) {
        config_refuse_idle(problems, item, "path", "kind = http");
        config_refuse_idle(problems, item, "health", "kind = http");
    }
    if (workers->kind == WORKER_FILTER)
        config_refuse_idle(problems, item, "start-timeout", "kind = consumer or http");
    if (!config_item_option(item, "command")) {
        config_refuse_idle(problems, item, "start-timeout", "command");
        config_refuse_idle(problems, item, "stop-timeout", "command");
    }
    if (slots && !slots->bad && workers->kind == WORKER_FILTER && workers->slots != 1)
        config_problem(problems, slots->place,
                       "a filter has one message at a time; remove slots, and say by max how many run");
}

void config_check_workers(struct config_problems *problems, const struct config *config,
                          const struct config_item *item, struct config_workers *workers)
{
    const struct config_item *queue = config_item_option(item, "queue");
    const struct config_item *gauge = config_item_option(item, "gauge");
    const struct config_item *kind = config_item_option(item, "kind");

    if (queue && !queue->bad)
        workers->queue = config_find_queue(problems, config, queue->values);
    else if (!item->bad)
        config_problem(problems, item->place, "workers \"" SHOWN "\" have no queue; add queue = NAME",
                       workers->name);
    if (gauge && !gauge->bad)
        workers->gauge = find_gauge(problems, config, gauge->values);
    check_numbers(problems, item, workers);
    if (kind && kind->bad)
        return;
    check_effects(problems, item, workers);
    if (workers->kind != WORKER_CONSUMER || !config_item_option(item, "command") || item->bad)
        return;
    workers->amqp = find_listener(config);
    if (!workers->amqp)
        refuse_no_listener(problems, config, workers);
}

void config_check_gauge(struct config_problems *problems, const struct config_item *item,
                        const struct config_gauge *gauge)
{
    const struct config_item *full = config_item_option(item, "full");

    if (!full && !item->bad)
        config_problem(problems, item->place, "gauge \"" SHOWN "\" is never full; add full = NUMBER",
                       gauge->name);
    else if (full && !full->bad && gauge->full <= 0)
        config_problem(problems, full->place, "full is not above 0; raise it");
}

/* ---- the file ---------------------------------------------------------------------------------- */

static void check_same_queue(struct config_problems *problems, const struct config_workers *workers,
                             const struct config_workers *other)
{
    if (workers->queue && workers->queue == other->queue)
        config_problem(problems, workers->place,
                       "queue \"" SHOWN "\" has workers \"" SHOWN "\" already, at %s:%d; make one of both",
                       workers->queue->name, other->name, other->place.file, other->place.line);
}

void config_check_all_workers(struct config_problems *problems, const struct config *config)
{
    for (size_t i = 0; i < config->n_workers; i++)
        for (size_t j = 0; j < i; j++) {
            const struct config_workers *second = &config->workers[i], *first = &config->workers[j];

            if (strcmp(second->name, first->name) == 0)
                config_refuse_same(problems, &second->place, &first->place, "workers", second->name);
            else
                check_same_queue(problems, second, first);
        }
    for (size_t i = 0; i < config->n_gauges; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(config->gauges[i].name, config->gauges[j].name) == 0)
                config_refuse_same(problems, &config->gauges[i].place, &config->gauges[j].place, "gauge",
                                   config->gauges[i].name);
}
