/* status.c - `maitred status [--json]`: how the running maitred is, on one screen of 80 columns.
 *
 * The exit code is for scripts: 0 up, 1 degraded, 2 down or not reachable. */
#include <stdlib.h>
#include <string.h>

#include "command/client.h"
#include "command/command.h"
#include "command/view.h"

#define COLUMNS 80
#define LABEL 13 /* columns before what a line of the headline says */
#define EVENTS 5
#define SERVERS_SHOWN_MAX 16 /* of a pool; a larger one is summed up */

static const struct view_column listener_columns[] = {
    {"LISTENER", 0, true}, {"KIND", 5, true}, {"OPEN", 7, false},  {"REQ/S", 7, false},
    {"P50", 7, false},     {"P99", 7, false}, {"5XX/S", 6, false}, {NULL, 0, false},
};
static const struct view_column server_columns[] = {
    {"  SERVER", 0, true}, {"STATE", 9, true}, {"SINCE", 6, false}, {"WEIGHT", 6, false},
    {"ACTIVE", 6, false},  {"WAIT", 5, false}, {"REQ/S", 6, false}, {"P99", 7, false},
    {"ERRORS", 6, false},  {NULL, 0, false},
};

static void label(struct view *view, const char *name)
{
    view_put(view, name);
    view_spaces(view, LABEL > view->column ? LABEL - view->column : 0);
}

static void put_reasons(struct view *view, const json_t *state)
{
    const json_t *reasons = json_object_get(state, "reasons");

    for (size_t i = 0; i < json_array_size(reasons); i++) {
        label(view, i ? "" : "because");
        view_wrap(view, LABEL, view_item(reasons, i));
        view_end(view);
    }
}

static void put_config(struct view *view, const json_t *state)
{
    const json_t *config = json_object_get(state, "config");
    const json_t *generations = json_object_get(state, "generations");
    char text[256];

    snprintf(text, sizeof text, ", loaded %s ago; %s reloads, %s failed",
             view_age_of(state, config, "loaded").text, view_count_of(config, "reloads").text,
             view_count_of(config, "reloads_failed").text);
    label(view, "config");
    view_wrap(view, LABEL, view_string(config, "file"));
    view_wrap(view, LABEL, text);
    view_end(view);
    for (size_t i = 0; i < json_array_size(generations); i++) {
        const json_t *generation = json_array_get(generations, i);

        if (json_is_true(json_object_get(generation, "current")))
            continue;
        label(view, "");
        view_printf(view, "the one loaded %s ago still serves %s",
                    view_age_of(state, generation, "loaded").text, view_count_of(generation, "users").text);
        view_end(view);
    }
}

static void put_headline(struct view *view, const json_t *state)
{
    const json_t *connections = json_object_get(state, "connections");
    const json_t *descriptors = json_object_get(state, "descriptors");
    const char *word = view_string(state, "state");

    view_put(view, "maitred is ");
    view_paint(view, view_state_colour(word));
    view_put(view, *word ? word : "in a state it does not tell");
    view_paint(view, VIEW_PLAIN);
    if (json_is_true(json_object_get(state, "draining"))) {
        view_paint(view, VIEW_WARNING);
        view_put(view, ", draining");
        view_paint(view, VIEW_PLAIN);
    }
    view_end(view);
    put_reasons(view, state);
    label(view, "version");
    view_printf(view, "%s, pid %.0f, up for %s, %s thread%s", view_string(state, "version"),
                view_number(state, "pid"), view_duration(view_number(state, "uptime")).text,
                view_count_of(state, "threads").text, view_number(state, "threads") == 1 ? "" : "s");
    view_end(view);
    label(view, "connections");
    view_printf(view, "%s of %s; %s of memory, %s of %s descriptors", view_count_of(connections, "open").text,
                view_count_of(connections, "max").text, view_bytes(view_number(state, "memory_bytes")).text,
                view_count_of(descriptors, "open").text, view_count_of(descriptors, "max").text);
    view_end(view);
    put_config(view, state);
}

static void put_listeners(struct view *view, const json_t *listeners)
{
    if (!json_array_size(listeners))
        return;
    view_end(view);
    view_titles(view, listener_columns);
    for (size_t i = 0; i < json_array_size(listeners); i++) {
        const json_t *listener = json_array_get(listeners, i);

        view_row(view, listener_columns);
        view_cell(view, view_string(listener, "name"));
        view_cell(view, view_string(listener, "kind"));
        view_cell(view, view_count_of(json_object_get(listener, "connections"), "open").text);
        view_cell(view, view_rate_of(listener, "rate").text);
        view_cell(view, view_latency_of(listener, "p50_ms").text);
        view_cell(view, view_latency_of(listener, "p99_ms").text);
        view_cell(view, view_rate_of(listener, "error_rate").text);
        view_end(view);
    }
}

/* What a server's row has no column for. */
static void put_note(struct view *view, const json_t *server)
{
    char *note = view_server_note(server);

    if (note && *note) {
        view_spaces(view, 4);
        view_wrap(view, 4, note);
        view_end(view);
    }
    free(note);
}

static void put_server(struct view *view, const json_t *state, const json_t *server)
{
    char name[512];

    snprintf(name, sizeof name, "  %s", view_string(server, "name"));
    view_row(view, server_columns);
    view_cell(view, name);
    view_cell_in(view, view_state_colour(view_string(server, "state")), view_state_of(server).text);
    view_cell(view, view_age_of(state, server, "since").text);
    view_cell(view, view_weight_of(server).text);
    view_cell(view, view_count_of(server, "active").text);
    view_cell(view, view_count_of(server, "waiting").text);
    view_cell(view, view_rate_of(server, "rate").text);
    view_cell(view, view_latency_of(server, "p99_ms").text);
    view_cell(view, view_sum_of(server, "errors").text);
    view_end(view);
    put_note(view, server);
}

/* All is well with it, and nobody has changed it by hand. */
static bool is_plain(const json_t *server)
{
    return strcmp(view_string(server, "state"), "up") == 0 &&
           !json_is_object(json_object_get(server, "by_hand"));
}

/* Of a large pool only those that need a look: this is one screen. */
static void put_servers(struct view *view, const json_t *state, const json_t *servers)
{
    size_t n = json_array_size(servers), plain = 0;

    for (size_t i = 0; i < n; i++) {
        const json_t *server = json_array_get(servers, i);

        if (n > SERVERS_SHOWN_MAX && is_plain(server))
            plain++;
        else
            put_server(view, state, server);
    }
    if (plain) {
        view_printf(view, "  %zu of %zu are up; `maitred top` and --json show them all", plain, n);
        view_end(view);
    }
}

static void put_pool(struct view *view, const json_t *state, const json_t *pool)
{
    const json_t *servers = json_object_get(pool, "servers");
    const char *word = view_string(pool, "state");

    view_printf(view, "pool %s is ", view_string(pool, "name"));
    view_paint(view, view_state_colour(word));
    view_put(view, word);
    view_paint(view, VIEW_PLAIN);
    view_printf(view, "; %s, %s waiting, %s refused", view_string(pool, "balance"),
                view_count_of(pool, "waiting").text, view_sum_of(pool, "refused").text);
    view_end(view);
    put_servers(view, state, servers);
}

static void put_pools(struct view *view, const json_t *state)
{
    const json_t *pools = json_object_get(state, "pools");

    if (!json_array_size(pools))
        return;
    view_end(view);
    view_titles(view, server_columns);
    for (size_t i = 0; i < json_array_size(pools); i++)
        put_pool(view, state, json_array_get(pools, i));
}

static void put_queues(struct view *view, const json_t *state)
{
    const json_t *queues = json_object_get(state, "queues"), *log = json_object_get(state, "log");

    if (!json_is_object(log))
        return;
    view_end(view);
    view_queue_titles(view);
    for (size_t i = 0; i < json_array_size(queues); i++) {
        view_queue(view, json_array_get(queues, i));
        view_end(view);
    }
    view_printf(view, " their log is %s: %s in ", view_string(log, "state"),
                view_bytes(view_number(log, "bytes")).text);
    view_wrap(view, 2, view_string(log, "folder"));
    view_end(view);
}

static void put_events(struct view *view, const json_t *state)
{
    const json_t *events = json_object_get(state, "events");
    size_t n = json_array_size(events);

    if (!n)
        return;
    view_end(view);
    view_paint(view, VIEW_TITLE);
    view_put(view, "LAST EVENTS");
    view_paint(view, VIEW_PLAIN);
    view_end(view);
    for (size_t i = n > EVENTS ? n - EVENTS : 0; i < n; i++) {
        const json_t *event = json_array_get(events, i);
        char ago[48];

        snprintf(ago, sizeof ago, "  %s ago", view_age_of(state, event, "time").text);
        label(view, ago);
        view_spaces(view, 1);
        view_wrap(view, LABEL + 1, view_string(event, "text"));
        view_end(view);
    }
}

static void print_state(const json_t *state)
{
    struct view view = {.out = stdout, .columns = COLUMNS, .colour = view_wants_colour()};

    put_headline(&view, state);
    put_listeners(&view, json_object_get(state, "listeners"));
    put_pools(&view, state);
    put_queues(&view, state);
    put_events(&view, state);
}

static int code_of(const json_t *state)
{
    const char *word = view_string(state, "state");

    return strcmp(word, "up") == 0 ? 0 : strcmp(word, "degraded") == 0 ? 1 : 2;
}

int command_status(int argc, char **argv)
{
    struct client client;
    struct client_answer answer;
    json_t *state;
    int code = client_open(&client, "status", &argc, argv);
    bool json = argc == 2 && strcmp(argv[1], "--json") == 0;
    int error;

    if (code)
        return code;
    if (argc != 1 && !json)
        return command_misused("status", "it takes --json or nothing, and where the admin interface is");
    error = client_call(&client, "GET", "/api/state", CLIENT_TIMEOUT_MS, &state, &answer);
    if (!error && json)
        fwrite(answer.body, 1, answer.len, stdout);
    else if (!error)
        print_state(state);
    code = error ? client_complain(&client, error, state) : code_of(state);
    json_decref(state);
    client_answer_free(&answer);
    return code;
}
