/* reload.c - `maitred reload` and `maitred upgrade`: the running maitred reads its file again, or becomes the binary
 * that now stands where its own did. Both change all or nothing. */
#include "command/client.h"
#include "command/command.h"
#include "command/view.h"

#define RELOAD_TIMEOUT_MS 60000u  /* names of new servers are looked up first */
#define UPGRADE_TIMEOUT_MS 75000u /* the server waits 60 s for the new process */

/* Opens and asks. Returns 0 and the document, which the caller releases; else the exit code. */
static int post(const char *command, const char *target, unsigned timeout_ms, int argc, char **argv,
                json_t **document)
{
    struct client client;
    int error = client_open(&client, command, &argc, argv);

    *document = NULL;
    if (error)
        return error;
    if (argc != 1)
        return command_misused(command, "it takes nothing but where the admin interface is");
    error = client_call(&client, "POST", target, timeout_ms, document, NULL);
    if (!error)
        return 0;
    error = client_complain(&client, error, *document);
    json_decref(*document);
    return error;
}

int command_reload(int argc, char **argv)
{
    json_t *document;
    const json_t *changes, *warnings;
    int code = post("reload", "/api/reload", RELOAD_TIMEOUT_MS, argc, argv, &document);

    if (code)
        return code;
    changes = json_object_get(document, "changes");
    warnings = json_object_get(document, "warnings");
    for (size_t i = 0; i < json_array_size(changes); i++)
        view_line(stdout, view_item(changes, i));
    if (!json_array_size(changes))
        puts("no changes");
    for (size_t i = 0; i < json_array_size(warnings); i++) {
        fputs("warning: ", stderr);
        view_line(stderr, view_item(warnings, i));
    }
    json_decref(document);
    return 0;
}

int command_upgrade(int argc, char **argv)
{
    json_t *document;
    int code = post("upgrade", "/api/upgrade", UPGRADE_TIMEOUT_MS, argc, argv, &document);

    if (code)
        return code;
    view_line(stdout, view_string(document, "text"));
    json_decref(document);
    return 0;
}
