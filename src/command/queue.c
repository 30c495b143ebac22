/* queue.c - `maitred queue list|show|peek|publish|purge|pause|resume|move`: the queues of the running maitred. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "command/client.h"
#include "command/command.h"
#include "command/view.h"

#define COLUMNS 80
#define LABEL 17 /* columns before what a line says */
#define FIELDS_MOST 64
/* A move of many messages, and a purge, take their time. */
#define HAND_TIMEOUT_MS 120000u

/* What stands behind the name of the action, in whatever order. */
struct options {
    const char *max, *from, *body, *file, *method, *target, *delay;
    const char *fields[FIELDS_MOST];
    unsigned n_fields;
    bool json;
};

/* ---- asking ------------------------------------------------------------------------------------------------------ */

/* /api/queues/NAME/WHAT, open for a query. NULL: no memory. */
static FILE *open_target(char **target, size_t *len, const char *name, const char *what)
{
    FILE *out = open_memstream(target, len);

    if (!out)
        return NULL;
    fputs("/api/queues", out);
    if (name) {
        fputc('/', out);
        client_put_escaped(out, name);
    }
    if (what)
        fprintf(out, "/%s", what);
    return out;
}

/* value NULL: nothing. *separator is '?' before the first one. */
static void put_parameter(FILE *out, char *separator, const char *name, const char *value)
{
    if (!value)
        return;
    fprintf(out, "%c%s=", *separator, name);
    client_put_escaped(out, value);
    *separator = '&';
}

static int no_memory(void)
{
    fputs("maitred queue: no memory\n", stderr);
    return 1;
}

/* Asks, and prints what print makes of it, or the answer as it came. Frees target. */
static int ask(struct client *client, const char *method, FILE *out, char **target, unsigned timeout_ms,
               bool raw, void (*print)(const json_t *document))
{
    struct client_answer answer = {0};
    json_t *document = NULL;
    int code = 0, error;

    if (fclose(out) != 0)
        return no_memory();
    error = client_call(client, method, *target, timeout_ms, &document, &answer);
    free(*target);
    if (error)
        code = client_complain(client, error, document);
    else if (raw)
        fwrite(answer.body, 1, answer.len, stdout);
    else
        print(document);
    json_decref(document);
    client_answer_free(&answer);
    return code;
}

static void print_text(const json_t *document)
{
    view_line(stdout, view_string(document, "text"));
}

/* ---- list, show -------------------------------------------------------------------------------------------------- */

static void print_list(const json_t *document)
{
    const json_t *queues = json_object_get(document, "queues");
    struct view view = {.out = stdout, .columns = COLUMNS, .colour = view_wants_colour()};

    view_queue_titles(&view);
    for (size_t i = 0; i < json_array_size(queues); i++) {
        view_queue(&view, json_array_get(queues, i));
        view_end(&view);
    }
    if (!json_array_size(queues)) {
        view_put(&view, "there is no queue");
        view_end(&view);
    }
}

static void label(struct view *view, const char *name)
{
    view_put(view, name);
    view_spaces(view, LABEL > view->column ? LABEL - view->column : 0);
}

static void put_line(struct view *view, const char *name, const char *text)
{
    label(view, name);
    view_wrap(view, LABEL, *text ? text : "-");
    view_end(view);
}

/* What of the numbers under key is not 0. */
static void put_numbers(struct view *view, const char *name, const json_t *numbers)
{
    json_t *value;
    const char *key;
    bool any = false;
    char text[64];

    label(view, name);
    json_object_foreach((json_t *)(uintptr_t)numbers, key, value)
    {
        if (!json_is_number(value) || json_number_value(value) <= 0)
            continue;
        snprintf(text, sizeof text, "%s%s %.6g", any ? ", " : "", key, json_number_value(value));
        view_wrap(view, LABEL, text);
        any = true;
    }
    view_put(view, any ? "" : "-");
    view_end(view);
}

static void print_queue(const json_t *queue)
{
    struct view view = {.out = stdout, .columns = COLUMNS, .colour = view_wants_colour()};
    const char *state = view_string(queue, "state"), *reason = view_string(queue, "reason");

    view_printf(&view, "queue %s is ", view_string(queue, "name"));
    view_paint(&view, view_queue_colour(state));
    view_put(&view, state);
    view_paint(&view, VIEW_PLAIN);
    if (*reason)
        view_printf(&view, ": %s", reason);
    view_end(&view);
    put_line(&view, "declared at", view_string(queue, "place"));
    put_line(&view, "pushed to", view_string(queue, "push"));
    put_line(&view, "dead letters", view_string(queue, "dead_letter"));
    label(&view, "messages");
    view_printf(&view, "%s ready, %s delayed, %s blocked, %s in flight; %s",
                view_count_of(queue, "ready").text, view_count_of(queue, "delayed").text,
                view_count_of(queue, "blocked").text, view_count_of(queue, "in_flight").text,
                view_bytes(view_number(queue, "bytes")).text);
    view_end(&view);
    label(&view, "oldest ready");
    view_put(&view, json_is_number(json_object_get(queue, "oldest_age"))
                        ? view_age(view_number(queue, "oldest_age")).text
                        : "-");
    view_end(&view);
    label(&view, "consumers");
    view_printf(&view, "%s, %s of them resting", view_count_of(queue, "consumers").text,
                view_count_of(queue, "resting").text);
    view_end(&view);
    put_numbers(&view, "limits", json_object_get(queue, "limits"));
    put_numbers(&view, "per second", json_object_get(queue, "rates"));
    put_numbers(&view, "since the start", json_object_get(queue, "totals"));
}

/* ---- peek -------------------------------------------------------------------------------------------------------- */

static void put_message(struct view *view, const json_t *message)
{
    const json_t *fields = json_object_get(message, "fields"), *deaths = json_object_get(message, "deaths");
    double shown = (double)strlen(view_string(message, "body")), bytes = view_number(message, "body_bytes");

    view_paint(view, VIEW_TITLE);
    view_printf(view, "%.0f  %s %s", view_number(message, "number"), view_string(message, "method"),
                view_string(message, "target"));
    view_paint(view, VIEW_PLAIN);
    view_end(view);
    view_printf(view, "  id %s, queued %s", view_string(message, "id"), view_string(message, "queued"));
    view_end(view);
    if (view_number(message, "attempts") > 0 || *view_string(message, "due")) {
        view_printf(view, "  %s attempts%s%s", view_count_of(message, "attempts").text,
                    *view_string(message, "due") ? ", due " : "", view_string(message, "due"));
        view_end(view);
    }
    for (size_t i = 0; i < json_array_size(deaths); i++) {
        const json_t *death = json_array_get(deaths, i);

        view_printf(view, "  died in %s: %s, %s times, last at %s", view_string(death, "queue"),
                    view_string(death, "reason"), view_count_of(death, "count").text,
                    view_string(death, "time"));
        view_end(view);
    }
    for (size_t i = 0; i < json_array_size(fields); i++) {
        const json_t *field = json_array_get(fields, i);

        view_put(view, "  ");
        view_put(view, view_string(field, "name"));
        view_put(view, ": ");
        view_wrap(view, 4, view_string(field, "value"));
        view_end(view);
    }
    if (bytes > 0) {
        view_spaces(view, 2);
        view_wrap(view, 2, view_string(message, "body"));
        view_end(view);
    }
    if (shown < bytes) {
        view_printf(view, "  (%.0f bytes in all)", bytes);
        view_end(view);
    }
}

static void print_messages(const json_t *document)
{
    const json_t *messages = json_object_get(document, "messages");
    struct view view = {.out = stdout, .columns = COLUMNS, .colour = view_wants_colour()};

    for (size_t i = 0; i < json_array_size(messages); i++)
        put_message(&view, json_array_get(messages, i));
    if (!json_array_size(messages)) {
        view_put(&view, "no message waits");
        view_end(&view);
    }
}

/* ---- publish ----------------------------------------------------------------------------------------------------- */

/* The whole file; "-" is standard input. NULL: it has said why. */
static char *read_file(const char *file, size_t *len)
{
    bool standard = strcmp(file, "-") == 0;
    FILE *in = standard ? stdin : fopen(file, "re"), *out;
    char block[16384], *bytes = NULL;
    size_t n;
    bool failed;

    if (!in) {
        fprintf(stderr, "maitred queue: cannot read %s: %s\n", file, strerror(errno));
        return NULL;
    }
    out = open_memstream(&bytes, len);
    while (out && (n = fread(block, 1, sizeof block, in)) > 0)
        fwrite(block, 1, n, out);
    failed = ferror(in) || !out;
    if (out && fclose(out) != 0)
        failed = true;
    if (!standard)
        fclose(in);
    if (!failed)
        return bytes;
    fprintf(stderr, "maitred queue: cannot read %s\n", file);
    free(bytes);
    return NULL;
}

static int publish(struct client *client, const char *name, const struct options *o)
{
    char *target = NULL, separator = '?', *bytes = NULL;
    size_t len, n_bytes = 0;
    FILE *out;
    int code;

    if (o->file && !(bytes = read_file(o->file, &n_bytes)))
        return 1;
    client->body = o->file ? slice_of(bytes, n_bytes) : slice_from_text(o->body ? o->body : "");
    out = open_target(&target, &len, name, "publish");
    if (!out) {
        free(bytes);
        return no_memory();
    }
    put_parameter(out, &separator, "method", o->method);
    put_parameter(out, &separator, "target", o->target);
    put_parameter(out, &separator, "delay", o->delay);
    for (unsigned i = 0; i < o->n_fields; i++)
        put_parameter(out, &separator, "field", o->fields[i]);
    code = ask(client, "POST", out, &target, CLIENT_TIMEOUT_MS, false, print_text);
    free(bytes);
    return code;
}

/* ---- the others -------------------------------------------------------------------------------------------------- */

static int list(struct client *client, const char *name, const struct options *o)
{
    char *target = NULL;
    size_t len;
    FILE *out = open_target(&target, &len, NULL, NULL);

    (void)name;
    return out ? ask(client, "GET", out, &target, CLIENT_TIMEOUT_MS, o->json, print_list) : no_memory();
}

static int show(struct client *client, const char *name, const struct options *o)
{
    char *target = NULL;
    size_t len;
    FILE *out = open_target(&target, &len, name, NULL);

    return out ? ask(client, "GET", out, &target, CLIENT_TIMEOUT_MS, o->json, print_queue) : no_memory();
}

static int peek(struct client *client, const char *name, const struct options *o)
{
    char *target = NULL, separator = '?';
    size_t len;
    FILE *out = open_target(&target, &len, name, "messages");

    if (!out)
        return no_memory();
    put_parameter(out, &separator, "max", o->max);
    put_parameter(out, &separator, "from", o->from);
    return ask(client, "GET", out, &target, CLIENT_TIMEOUT_MS, o->json, print_messages);
}

static int do_by_hand(struct client *client, const char *name, const char *what, const char *to,
                      const char *max)
{
    char *target = NULL, separator = '?';
    size_t len;
    FILE *out = open_target(&target, &len, name, what);

    if (!out)
        return no_memory();
    put_parameter(out, &separator, "to", to);
    put_parameter(out, &separator, "max", max);
    return ask(client, "POST", out, &target, HAND_TIMEOUT_MS, false, print_text);
}

/* ---- the command ------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int (*run)(struct client *client, const char *name, const struct options *options); /* NULL: by hand */
    int arguments;                                                                      /* behind the name */
    const char *options; /* that it takes: their first letters, in the order of struct options */
    const char *misused;
} ACTIONS[] = {
    {"list", list, 0, "j", "list takes --json or nothing"},
    {"show", show, 1, "j", "show takes a queue, and --json"},
    {"peek", peek, 1, "xoj", "peek takes a queue, --max N, --from NUMBER and --json"},
    {"publish", publish, 1, "bfmtdF",
     "publish takes a queue, --body TEXT or --file FILE, --method, --target, --field and --delay"},
    {"purge", NULL, 1, "", "purge takes a queue"},
    {"pause", NULL, 1, "", "pause takes a queue"},
    {"resume", NULL, 1, "", "resume takes a queue"},
    {"move", NULL, 2, "x", "move takes the queue that messages are in, the one they go to, and --max N"},
};

#define N_ACTIONS (sizeof ACTIONS / sizeof ACTIONS[0])

/* Takes the options an action has out of the arguments. False: one lacks its value, or there are too many. */
static bool take_options(struct options *o, const char *letters, int *argc, char **argv)
{
    const struct {
        char letter;
        const char *name;
        const char **value;
    } texts[] = {
        {'x', "--max", &o->max},     {'o', "--from", &o->from},     {'b', "--body", &o->body},
        {'f', "--file", &o->file},   {'m', "--method", &o->method}, {'t', "--target", &o->target},
        {'d', "--delay", &o->delay},
    };
    int n = 1;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (strchr(letters, texts[i].letter) &&
            !client_take_option(texts[i].name, argc, argv, texts[i].value))
            return false;
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], "--json") == 0 && strchr(letters, 'j')) {
            o->json = true;
        } else if (strcmp(argv[i], "--field") == 0 && strchr(letters, 'F')) {
            if (++i == *argc || o->n_fields == FIELDS_MOST)
                return false;
            o->fields[o->n_fields++] = argv[i];
        } else {
            argv[n++] = argv[i];
        }
    }
    *argc = n;
    return !(o->body && o->file);
}

int command_queue(int argc, char **argv)
{
    struct client client;
    struct options o = {0};
    int code = client_open(&client, "queue", &argc, argv);

    if (code)
        return code;
    for (size_t i = 0; argc > 1 && i < N_ACTIONS; i++) {
        if (strcmp(argv[1], ACTIONS[i].name) != 0)
            continue;
        if (!take_options(&o, ACTIONS[i].options, &argc, argv) || argc - 2 != ACTIONS[i].arguments)
            return command_misused("queue", ACTIONS[i].misused);
        return ACTIONS[i].run ? ACTIONS[i].run(&client, argc > 2 ? argv[2] : NULL, &o)
                              : do_by_hand(&client, argv[2], argv[1], argc > 3 ? argv[3] : NULL, o.max);
    }
    return command_misused("queue", "say what: list, show, peek, publish, purge, pause, resume or move");
}
