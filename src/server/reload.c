/* reload.c - the file is read again, and what it says takes the place of what is served; see process.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/event.h"
#include "base/log.h"
#include "config/diff.h"
#include "config/same.h"
#include "fiber/offload.h"
#include "server/notify.h"
#include "server/process.h"

/* ---- what blocks, off the loop ------------------------------------------------------------------------------ */

/* Reads the file; or, when there is a change, opens its sockets. */
struct reading {
    struct offload job;
    const char *file;         /* borrowed from the process */
    const struct config *old; /* reference: in force */
    struct config *config;
    struct config_diff diff; /* from old to config */
    bool has_diff;
    struct change *change;
    int error;
    char *problems; /* of the file, a line each; or why a listener cannot be opened */
};

static void read_file(struct offload *job)
{
    struct reading *r = container_of(job, struct reading, job);
    size_t bytes;
    FILE *out = open_memstream(&r->problems, &bytes);

    r->error = -ENOMEM;
    if (!out)
        return;
    r->config = config_load(r->file, out);
    fclose(out);
    r->error = r->config ? config_diff(&r->diff, r->old, r->config) : -EINVAL;
    r->has_diff = r->error == 0;
}

static void open_sockets(struct offload *job)
{
    struct reading *r = container_of(job, struct reading, job);
    char why[LISTEN_WHY_MAX];

    r->error = change_open(r->change, why);
    if (!r->error)
        r->error = change_open_queue(r->change, why);
    free(r->problems);
    r->problems = r->error ? strdup(why) : NULL;
}

static void free_reading(struct offload *job)
{
    struct reading *r = container_of(job, struct reading, job);

    if (r->change)
        change_abandon(r->change);
    if (r->has_diff)
        config_diff_free(&r->diff);
    config_unref(r->config);
    config_unref(r->old);
    free(r->problems);
    free(r);
}

/* ---- what it touches ---------------------------------------------------------------------------------------- */

static uint64_t open_connections(const struct system *system, const struct address *address)
{
    uint64_t n = 0;

    for (const struct list *node = system->listeners.next; node != &system->listeners; node = node->next) {
        const struct system_listener *l = container_of(node, struct system_listener, list);

        if (!config_same_address(&l->address, address))
            continue;
        for (unsigned i = 0; i < l->listener->n_threads; i++)
            n += counter_get(&l->listener->threads[i].counters.open);
    }
    return n;
}

static uint64_t active_requests(const struct system *system, const struct config_pool *pool,
                                const struct config_server *server)
{
    const struct control_pool *cp = control_pool_find(system->control, slice_from_text(pool->name));
    uint64_t n = 0;

    for (size_t i = 0; cp && i < cp->n_members; i++) {
        const struct member *member = cp->members[i];

        if (server && strcmp(member->config->name, server->name) != 0)
            continue;
        for (const struct list *node = member->servers.next; node != &member->servers; node = node->next)
            n += atomic_load(&container_of(node, struct control_server, list)->server->active);
    }
    return n;
}

static const struct address *listener_address(const struct config_side *side)
{
    if (side->http)
        return &side->http->address;
    if (side->tcp)
        return &side->tcp->address;
    if (side->amqp)
        return &side->amqp->address;
    return side->admin ? &side->admin->address : NULL;
}

/* How many connections, or requests at servers, a change touches. */
static uint64_t touched(const struct system *system, const struct config_change *change)
{
    if (change->part == CONFIG_PART_LISTENER && listener_address(&change->before))
        return open_connections(system, listener_address(&change->before));
    if (change->before.pool)
        return active_requests(system, change->before.pool, change->before.server);
    return 0;
}

static void put_change(FILE *out, const struct system *system, const struct config_change *change)
{
    uint64_t n = touched(system, change);

    if (n)
        fprintf(out, "%s (%llu %s)\n", change->text, (unsigned long long)n,
                change->part == CONFIG_PART_LISTENER ? "open" : "active");
    else
        fprintf(out, "%s\n", change->text);
}

/* Writes the plan to the result. 0 or -ENOMEM. */
static int write_plan(const struct system *system, const struct config_diff *diff,
                      struct system_result *result)
{
    size_t bytes;
    FILE *changes = open_memstream(&result->changes, &bytes);
    FILE *warnings = open_memstream(&result->warnings, &bytes);
    bool ok = changes && warnings;

    for (size_t i = 0; ok && i < diff->n_changes; i++)
        put_change(diff->changes[i].needs_restart ? warnings : changes, system, &diff->changes[i]);
    ok = ok && !ferror(changes) && !ferror(warnings);
    if (changes)
        fclose(changes);
    if (warnings)
        fclose(warnings);
    return ok && result->changes && result->warnings ? 0 : -ENOMEM;
}

/* ---- the reload --------------------------------------------------------------------------------------------- */

static void log_lines(enum log_level level, const char *lines)
{
    while (lines && *lines) {
        size_t n = strcspn(lines, "\n");

        log_line(level, "%.*s", (int)n, lines);
        lines += n + (lines[n] == '\n');
    }
}

static void fail(struct process *process, struct system_result *result, int status, const char *why)
{
    const char *file = process->system.file;

    free(result->changes);
    free(result->warnings);
    result->changes = result->warnings = NULL;
    result->status = status;
    if (asprintf(&result->text, "%s: %s; what runs goes on as before", file, why) < 0)
        result->text = NULL;
    process->system.reloads_failed++;
    process->system.reload_failed = true;
    log_lines(LOG_ERROR, result->problems);
    event_say(EVENT_RELOAD_FAILED, SLICE(""), SLICE(""),
              "reload of %s failed: %s; what runs goes on as before", file, why);
}

static size_t count_lines(const char *lines)
{
    size_t n = 0;

    for (; *lines; lines++)
        n += *lines == '\n';
    return n;
}

static void succeed(struct process *process, struct system_result *result)
{
    size_t n = count_lines(result->changes);

    process->system.reloads++;
    process->system.reload_failed = false;
    result->status = 200;
    if (asprintf(&result->text, "%s: %zu change%s", process->system.file, n, n == 1 ? "" : "s") < 0)
        result->text = NULL;
    log_lines(LOG_INFO, result->changes);
    log_lines(LOG_WARNING, result->warnings);
    event_say(EVENT_RELOAD, SLICE(""), SLICE(""), "reloaded %s: %zu change%s", process->system.file, n,
              n == 1 ? "" : "s");
}

static void fail_file(struct process *process, struct reading *r, struct system_result *result,
                      const char *why)
{
    result->problems = r->problems;
    r->problems = NULL;
    fail(process, result, 422, why);
}

/* The file is good, and its sockets are open. */
static void take_up(struct process *process, struct reading *r, struct system_result *result)
{
    int error = write_plan(&process->system, &r->diff, result);

    if (!error)
        error = change_prepare(r->change);
    if (error || process->system.drains) {
        fail(process, result, 500, error ? strerror(-error) : "maitred is on its way out");
    } else {
        change_commit(r->change);
        r->change = NULL;
        succeed(process, result);
    }
}

static int run_offloaded(struct reading *r, void (*work)(struct offload *job))
{
    int error;

    r->job.work = work;
    error = offload_run(&r->job, NEVER); /* this fiber is never cancelled */
    return error ? error : r->error;
}

static void reload_steps(struct process *process, struct reading *r, struct system_result *result)
{
    char why[LISTEN_WHY_MAX];
    int error = run_offloaded(r, read_file);

    if (error == -EINVAL) {
        fail_file(process, r, result, "the file has errors");
        return;
    }
    if (error || process->system.drains) {
        fail(process, result, 500, error ? strerror(-error) : "maitred is on its way out");
        return;
    }
    r->change = change_create(process, r->config, why);
    if (!r->change) {
        free(r->problems);
        r->problems = strdup(why);
        fail_file(process, r, result, "not all of it can be opened");
        return;
    }
    if (run_offloaded(r, open_sockets) == 0)
        take_up(process, r, result);
    else
        fail_file(process, r, result, "a listener cannot be opened");
}

static void reload_main(struct process *process, struct system_result *result)
{
    struct reading *r = calloc(1, sizeof *r);

    notify_reloading();
    if (r) {
        r->job.free = free_reading;
        r->file = process->system.file;
        r->old = config_ref(process->system.config);
        reload_steps(process, r, result);
        free_reading(&r->job);
    } else {
        fail(process, result, 500, strerror(ENOMEM));
    }
    notify("READY=1\nSTATUS=%s", result->status == 200 ? "serving" : "serving; the last reload failed");
}

void reload(struct system *system, struct system_result *result)
{
    action_run(process_of(system), "reload", reload_main, result);
}
