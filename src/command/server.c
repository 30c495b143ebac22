/* server.c - `maitred server drain|enable|reset POOL SERVER` and `maitred server weight POOL SERVER N`. */
#include <stdlib.h>
#include <string.h>

#include "command/client.h"
#include "command/command.h"
#include "command/view.h"

static const struct {
    const char *name;
    int arguments; /* behind the name */
    const char *misused;
} ACTIONS[] = {
    {"drain", 2, "drain takes a pool and one of its servers"},
    {"enable", 2, "enable takes a pool and one of its servers"},
    {"reset", 2, "reset takes a pool and one of its servers"},
    {"weight", 3, "weight takes a pool, one of its servers, and a number from 1 to 256"},
};

#define N_ACTIONS (sizeof ACTIONS / sizeof ACTIONS[0])

/* The target of the POST; the caller frees it. NULL: no memory. */
static char *make_target(const char *action, char **names)
{
    char *query = NULL, *target = NULL;
    size_t len;
    FILE *out;

    if (strcmp(action, "weight") != 0)
        return client_server_target(names[0], names[1], action);
    out = open_memstream(&query, &len);
    if (!out)
        return NULL;
    fputs("weight?weight=", out);
    client_put_escaped(out, names[2]);
    if (fclose(out) == 0)
        target = client_server_target(names[0], names[1], query);
    free(query);
    return target;
}

static int act(struct client *client, const char *action, char **names)
{
    char *target = make_target(action, names);
    json_t *document;
    int error;

    if (!target) {
        fputs("maitred server: no memory\n", stderr);
        return 1;
    }
    error = client_call(client, "POST", target, CLIENT_TIMEOUT_MS, &document, NULL);
    free(target);
    if (!error)
        view_line(stdout, view_string(document, "text"));
    else
        error = client_complain(client, error, document);
    json_decref(document);
    return error;
}

int command_server(int argc, char **argv)
{
    struct client client;
    int error = client_open(&client, "server", &argc, argv);

    if (error)
        return error;
    for (size_t i = 0; argc > 1 && i < N_ACTIONS; i++) {
        if (strcmp(argv[1], ACTIONS[i].name) != 0)
            continue;
        if (argc - 2 != ACTIONS[i].arguments)
            return command_misused("server", ACTIONS[i].misused);
        return act(&client, ACTIONS[i].name, argv + 2);
    }
    return command_misused("server", "say what: drain, enable, reset or weight");
}
