/* check.c - `maitred check FILE [--route "METHOD URL" [-H "Name: value"]...]`. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balance/router.h"
#include "command/command.h"
#include "config/config.h"
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

int command_check(int argc, char **argv)
{
    const char *file = NULL, *route = NULL;
    char **fields = calloc((size_t)argc, sizeof *fields);
    struct config *config;
    int n_fields = 0, code = 0;
    const char *wrong = fields ? NULL : "no memory";

    for (int i = 1; i < argc && !wrong; i++) {
        if (strcmp(argv[i], "--route") == 0 && i + 1 < argc)
            route = argv[++i];
        else if (strcmp(argv[i], "-H") == 0 && i + 1 < argc)
            fields[n_fields++] = argv[++i];
        else if (argv[i][0] == '-' || file)
            wrong = "an argument that it does not know, or that lacks its value";
        else
            file = argv[i];
    }
    if (!wrong && !file)
        wrong = "which configuration file?";
    if (wrong) {
        free(fields);
        return command_misused("check", wrong);
    }
    config = command_load(file);
    if (!config)
        code = 1;
    else if (route)
        code = check_route(config, route, fields, n_fields);
    else
        printf("%s: ok: %zu listener%s, %zu pool%s\n", file, config->n_http, config->n_http == 1 ? "" : "s",
               config->n_pools, config->n_pools == 1 ? "" : "s");
    config_free(config);
    free(fields);
    return code;
}
