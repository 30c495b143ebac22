/* check.c - `maitred check FILE [--route "METHOD URL" [-H "Name: value"]...]`, `maitred check --diff OLD NEW`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balance/router.h"
#include "command/command.h"
#include "config/config.h"
#include "config/diff.h"
#include "wire/http1.h"

#define HEAD_BYTES_MAX 32768
#define FIELDS_MAX 128

/* Turns "GET http://host/path" and fields into the head a client would send. False: it does not fit. */
static bool write_head(char head[HEAD_BYTES_MAX], const char *route, char **fields, int n_fields)
{
    const char *url = strstr(route, "://");
    const char *host = url ? url + 3 : NULL;
    size_t method = strcspn(route, " "), host_len = host ? strcspn(host, "/?") : 0;
    size_t n;

    if (!host || route[method] != ' ')
        return false;
    n = (size_t)snprintf(head, HEAD_BYTES_MAX, "%.*s %s%s HTTP/1.1\r\nHost: %.*s\r\n", (int)method, route,
                         host[host_len] == '/' ? "" : "/", host + host_len, (int)host_len, host);
    for (int i = 0; i < n_fields && n < HEAD_BYTES_MAX; i++)
        n += (size_t)snprintf(head + n, HEAD_BYTES_MAX - n, "%s\r\n", fields[i]);
    if (n < HEAD_BYTES_MAX)
        n += (size_t)snprintf(head + n, HEAD_BYTES_MAX - n, "\r\n");
    return n < HEAD_BYTES_MAX;
}

static int explain_route(const struct config_http *http, const struct http_request *request)
{
    struct router *router = router_create(http);

    if (!router) {
        fputs("maitred check: no memory\n", stderr);
        return 1;
    }
    printf("http %s:\n", http->name);
    router_explain(router, request, stdout);
    router_free(router);
    return 0;
}

static int check_route(const struct config *config, const char *route, char **fields, int n_fields)
{
    static char head[HEAD_BYTES_MAX];
    static struct http_field at[FIELDS_MAX];
    struct http_request request = {.fields = {.at = at, .max = FIELDS_MAX}};
    struct http1_limits limits = {HEAD_BYTES_MAX, HEAD_BYTES_MAX};
    struct http1_error error;
    int code = 0;

    if (!config->n_http) {
        fputs("maitred check: the file has no http listener, so there are no routes\n", stderr);
        return 1;
    }
    if (!write_head(head, route, fields, n_fields))
        return command_misused("check", "--route takes a method and a URL, as in \"GET http://host/path\"");
    if (http1_parse_request(slice_from_text(head), &limits, &request, &error) != 0) {
        printf("refused with %u before any route: %s\n", error.status, error.why);
        return 1;
    }
    for (size_t i = 0; i < config->n_http && code == 0; i++)
        code = explain_route(&config->http[i], &request);
    return code;
}

static void print_count(const char *before, size_t n, const char *what)
{
    printf("%s%zu %s%s", before, n, what, n == 1 ? "" : "s");
}

static void print_ok(const char *file, const struct config *config, size_t listeners)
{
    printf("%s: ok: ", file);
    print_count("", listeners, "listener");
    print_count(", ", config->n_pools, "pool");
    if (config->n_queues)
        print_count(", ", config->n_queues, "queue");
    if (config->n_topics)
        print_count(", ", config->n_topics, "topic");
    if (config->n_workers)
        print_count(", workers for ", config->n_workers, "queue");
    if (config->n_gauges)
        print_count(", ", config->n_gauges, "gauge");
    putchar('\n');
}

static int print_diff(const struct config *before, const struct config *after)
{
    struct config_diff diff;

    if (config_diff(&diff, before, after) != 0) {
        fputs("maitred check: no memory\n", stderr);
        return 1;
    }
    for (size_t i = 0; i < diff.n_changes; i++)
        printf("%s%s\n", diff.changes[i].needs_restart ? "warning: " : "", diff.changes[i].text);
    if (!diff.n_changes)
        puts("no changes");
    config_diff_free(&diff);
    return 0;
}

/* Both files are read even when the first is bad: all errors are told. */
static int check_diff(const char *before_file, const char *after_file)
{
    struct config *before = command_load(before_file);
    struct config *after = command_load(after_file);
    int code = before && after ? print_diff(before, after) : 1;

    config_unref(before);
    config_unref(after);
    return code;
}

static int check_file(const char *file, const char *route, char **fields, int n_fields)
{
    struct config *config = command_load(file);
    size_t listeners;
    int code = 0;

    if (!config)
        return 1;
    listeners = config->n_http + config->n_tcp + config->n_amqp + (config->admin != NULL);
    if (route)
        code = check_route(config, route, fields, n_fields);
    else
        print_ok(file, config, listeners);
    config_unref(config);
    return code;
}

/* The arguments, as they were given. */
struct question {
    const char *file, *route;
    const char *diff[2];
    char **fields; /* owned; room for as many as there are arguments */
    int n_fields;
};

/* What is wrong with the arguments; NULL: nothing. */
static const char *read_arguments(struct question *q, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--route") == 0 && i + 1 < argc) {
            q->route = argv[++i];
        } else if (strcmp(argv[i], "-H") == 0 && i + 1 < argc) {
            q->fields[q->n_fields++] = argv[++i];
        } else if (strcmp(argv[i], "--diff") == 0 && i + 2 < argc) {
            q->diff[0] = argv[++i];
            q->diff[1] = argv[++i];
        } else if (argv[i][0] == '-' || q->file) {
            return "an argument that it does not know, or that lacks its value";
        } else {
            q->file = argv[i];
        }
    }
    if (q->diff[0] && (q->file || q->route || q->n_fields))
        return "--diff takes two files, and nothing else goes with it";
    return q->file || q->diff[0] ? NULL : "which configuration file?";
}

int command_check(int argc, char **argv)
{
    struct question q = {.fields = calloc((size_t)argc, sizeof *q.fields)};
    const char *wrong = q.fields ? read_arguments(&q, argc, argv) : "no memory";
    int code;

    if (wrong)
        code = command_misused("check", wrong);
    else if (q.diff[0])
        code = check_diff(q.diff[0], q.diff[1]);
    else
        code = check_file(q.file, q.route, q.fields, q.n_fields);
    free(q.fields);
    return code;
}
