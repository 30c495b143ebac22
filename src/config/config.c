/* config.c - see config.h. From a file to the snapshot: read it (file.h), parse it (source.h), build and check
 * (build.h, check.h), and print what is wrong (problems.h), or hand the snapshot out. */
#include "config/config.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "config/build.h"
#include "config/file.h"
#include "config/problems.h"
#include "config/source.h"
#include "config/store.h"

/* A snapshot and all that it points to. It is allocated writable: what its users see as const is so to them. */
struct snapshot {
    struct config config;
    struct config_store store;
    atomic_size_t references; /* at least 1 */
};

static void free_snapshot(struct snapshot *snapshot)
{
    config_store_free(&snapshot->store);
    free(snapshot);
}

static struct snapshot *parse(const char *name, struct slice text, struct config_problems *problems)
{
    struct snapshot *snapshot = calloc(1, sizeof *snapshot);
    const char *file = snapshot ? config_store_text(&snapshot->store, name) : NULL;
    struct config_item top;
    bool whole;

    if (!file) {
        config_problem(problems, (struct config_place){name, 0}, "out of memory; stop something else");
        free(snapshot);
        return NULL;
    }
    atomic_init(&snapshot->references, 1);
    whole = config_source_read(&top, &snapshot->store, problems, file, text);
    config_build(&snapshot->config, &top, &snapshot->store, problems, whole);
    return snapshot;
}

struct config *config_parse(const char *name, struct slice text, FILE *errors)
{
    struct config_problems problems;
    struct snapshot *snapshot;
    bool bad;

    config_problems_init(&problems, name);
    snapshot = parse(name, text, &problems);
    bad = config_problems_any(&problems);
    config_problems_print(&problems, errors);
    config_problems_free(&problems);
    if (!bad)
        return &snapshot->config;
    if (snapshot)
        free_snapshot(snapshot);
    return NULL;
}

struct config *config_load(const char *file, FILE *errors)
{
    struct config_store bytes = {NULL};
    struct config_problems problems;
    struct config *config = NULL;
    struct slice text;

    config_problems_init(&problems, file);
    if (config_file_read(&text, &bytes, &problems, file, (struct config_place){file, 0}))
        config = config_parse(file, text, errors);
    else
        config_problems_print(&problems, errors);
    config_problems_free(&problems);
    config_store_free(&bytes);
    return config;
}

static struct snapshot *snapshot_of(const struct config *config)
{
    return container_of((struct config *)(uintptr_t)config, struct snapshot, config);
}

const struct config *config_ref(const struct config *config)
{
    size_t before;

    if (!config)
        return NULL;
    before = atomic_fetch_add_explicit(&snapshot_of(config)->references, 1, memory_order_relaxed);
    assert(before);
    return config;
}

void config_unref(const struct config *config)
{
    size_t before;

    if (!config)
        return;
    /* Whoever frees it comes after all that others did with it. */
    before = atomic_fetch_sub_explicit(&snapshot_of(config)->references, 1, memory_order_acq_rel);
    assert(before);
    if (before == 1)
        free_snapshot(snapshot_of(config));
}

const struct config_pool *config_pool_find(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->n_pools; i++)
        if (strcmp(config->pools[i].name, name) == 0)
            return &config->pools[i];
    return NULL;
}

const struct config_queue *config_queue_find(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->n_queues; i++)
        if (strcmp(config->queues[i].name, name) == 0)
            return &config->queues[i];
    return NULL;
}

const struct config_topic *config_topic_find(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->n_topics; i++)
        if (strcmp(config->topics[i].name, name) == 0)
            return &config->topics[i];
    return NULL;
}

const struct config_workers *config_workers_find(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->n_workers; i++)
        if (strcmp(config->workers[i].name, name) == 0)
            return &config->workers[i];
    return NULL;
}

const struct config_gauge *config_gauge_find(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->n_gauges; i++)
        if (strcmp(config->gauges[i].name, name) == 0)
            return &config->gauges[i];
    return NULL;
}
