/* explain.c - `maitred explain "METHOD URL" [-H "Name: value"]... [--from IP] [--json]`: what the running maitred
 * would do with a request now, and why: per listener the route, the key, the servers and the choice. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "command/client.h"
#include "command/command.h"
#include "command/view.h"

#define COLUMNS 80
#define LABEL 10 /* columns before what a line says */

static const struct view_column candidate_columns[] = {
    {"", LABEL - 1, true}, {"", 30, true}, {"", 10, true}, {NULL, 0, false}};

struct question {
    const char *request; /* "GET http://host/path" */
    char **fields;       /* "Name: value" */
    int n_fields;
    const char *from;
    bool json;
};

/* The target of the GET; the caller frees it. NULL: no memory. */
static char *make_target(const struct question *question)
{
    size_t method = strcspn(question->request, " "), len;
    char *target = NULL;
    FILE *out = open_memstream(&target, &len);

    if (!out)
        return NULL;
    fprintf(out, "/api/explain?method=%.*s&url=", (int)method, question->request);
    client_put_escaped(out, question->request + method + 1);
    for (int i = 0; i < question->n_fields; i++) {
        fputs("&header=", out);
        client_put_escaped(out, question->fields[i]);
    }
    if (question->from) {
        fputs("&from=", out);
        client_put_escaped(out, question->from);
    }
    if (fclose(out) == 0)
        return target;
    free(target);
    return NULL;
}

static void put_line(struct view *view, const char *label, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void put_line(struct view *view, const char *label, const char *format, ...)
{
    char *text;
    va_list list;
    int n;

    va_start(list, format);
    n = vasprintf(&text, format, list);
    va_end(list);
    if (n < 0)
        return;
    view_spaces(view, 2);
    view_put(view, label);
    view_spaces(view, LABEL - view->column);
    view_wrap(view, LABEL + 2, text);
    view_end(view);
    free(text);
}

static void put_routes(struct view *view, const json_t *listener)
{
    const json_t *route = json_object_get(listener, "route");
    const json_t *others = json_object_get(listener, "others");

    if (json_is_object(route))
        put_line(view, "route", "%s (%s): %s", view_string(route, "name"), view_string(route, "place"),
                 view_string(route, "action"));
    else
        put_line(view, "route", "none matches");
    for (size_t i = 0; i < json_array_size(others); i++) {
        const json_t *other = json_array_get(others, i);

        put_line(view, "not", "%s (%s): %s", view_string(other, "name"), view_string(other, "place"),
                 view_string(other, "why"));
    }
}

static void put_candidates(struct view *view, const json_t *candidates)
{
    for (size_t i = 0; i < json_array_size(candidates); i++) {
        const json_t *candidate = json_array_get(candidates, i);
        bool usable = json_is_true(json_object_get(candidate, "usable"));

        view_row(view, candidate_columns);
        view_cell(view, i ? "" : "  servers");
        view_cell(view, view_string(candidate, "server"));
        view_cell_in(view, usable ? VIEW_GOOD : VIEW_BAD, usable ? "usable" : "not usable");
        view_spaces(view, 1);
        view_wrap(view, LABEL + 2, view_string(candidate, "why"));
        view_end(view);
    }
}

static void put_choice(struct view *view, const json_t *listener)
{
    const char *pool = view_string(listener, "pool"), *choice = view_string(listener, "choice");
    const char *key = view_string(listener, "key");

    if (!*pool)
        return;
    put_line(view, "pool", "%s, by %s", pool, view_string(listener, "balance"));
    if (*key)
        put_line(view, "key", "%s", key);
    put_candidates(view, json_object_get(listener, "candidates"));
    put_line(view, "choice", "%s: %s", *choice ? choice : "none", view_string(listener, "why"));
}

static void put_listener(struct view *view, const json_t *listener)
{
    const json_t *refused = json_object_get(listener, "refused");

    view_paint(view, VIEW_TITLE);
    view_printf(view, "http %s", view_string(listener, "listener"));
    view_paint(view, VIEW_PLAIN);
    view_end(view);
    if (json_is_object(refused)) {
        put_line(view, "refused", "with %.0f before any route: %s", view_number(refused, "status"),
                 view_string(refused, "why"));
        return;
    }
    put_routes(view, listener);
    put_choice(view, listener);
}

static void print_explanation(const json_t *document)
{
    struct view view = {.out = stdout, .columns = COLUMNS, .colour = view_wants_colour()};
    const json_t *listeners = json_object_get(document, "listeners");

    for (size_t i = 0; i < json_array_size(listeners); i++) {
        if (i)
            view_end(&view);
        put_listener(&view, json_array_get(listeners, i));
    }
    if (!json_array_size(listeners))
        puts("there is no http listener");
}

static int ask(struct client *client, const struct question *question)
{
    char *target = make_target(question);
    struct client_answer answer;
    json_t *document;
    int error;

    if (!target) {
        fputs("maitred explain: no memory\n", stderr);
        return 1;
    }
    error = client_call(client, "GET", target, CLIENT_TIMEOUT_MS, &document, &answer);
    free(target);
    if (error)
        error = client_complain(client, error, document);
    else if (question->json)
        fwrite(answer.body, 1, answer.len, stdout);
    else
        print_explanation(document);
    json_decref(document);
    client_answer_free(&answer);
    return error;
}

/* "METHOD SCHEME://..."; whether it is a good one is for the server to say. */
static bool is_request(const char *text)
{
    size_t method = text ? strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_") : 0;

    return method && text[method] == ' ' && strstr(text + method, "://");
}

/* NULL, or what is wrong with the arguments. fields has room for all of them. */
static const char *read_question(struct question *question, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            question->json = true;
        else if (strcmp(argv[i], "-H") == 0 && i + 1 < argc)
            question->fields[question->n_fields++] = argv[++i];
        else if (strcmp(argv[i], "--from") == 0 && i + 1 < argc)
            question->from = argv[++i];
        else if (argv[i][0] == '-' || question->request)
            return "an argument that it does not know, or that lacks its value";
        else
            question->request = argv[i];
    }
    for (int i = 0; i < question->n_fields; i++)
        if (!strchr(question->fields[i], ':'))
            return "-H takes a header field, as in \"Name: value\"";
    return is_request(question->request) ? NULL
                                         : "it takes a method and a URL, as in \"GET http://host/path\"";
}

int command_explain(int argc, char **argv)
{
    struct client client;
    struct question question = {0};
    int code = client_open(&client, "explain", &argc, argv);
    const char *wrong;

    if (code)
        return code;
    question.fields = calloc((size_t)argc, sizeof *question.fields);
    wrong = question.fields ? read_question(&question, argc, argv) : "no memory";
    code = wrong ? command_misused("explain", wrong) : ask(&client, &question);
    free(question.fields);
    return code;
}
