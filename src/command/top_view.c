/* top_view.c - see top_view.h.
 *
 * From top to bottom: headline, one line of news, routes, pools with their servers, what is to be said of the
 * selected server, queues, events, and a line about the keys. The tables' rows are top_rows.h's; what fits of them is
 * written. The selection is a server's name, not a place, so that it stays with its server when rows move. */
#include "command/top_view.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "command/terminal.h"
#include "command/top_rows.h"
#include "command/view.h"

/* Lines that are always there: headline, news, two lines of titles, the selected, the events' title, keys. */
#define LINES_FIXED 7
#define EVENTS_MIN 3
#define EVENTS_MAX 8

static const struct view_column route_columns[] = {
    {" ROUTE", 0, true}, {"LISTENER", 14, true}, {"ACTION", 17, true}, {"REQ/S", 6, false},
    {"P50", 7, false},   {"P99", 7, false},      {"ERR/S", 6, false},  {NULL, 0, false},
};
static const struct view_column server_columns[] = {
    {" POOL / SERVER", 0, true}, {"STATE", 9, true},  {"WGT", 4, false}, {"ACTIVE", 6, false},
    {"WAIT", 5, false},          {"REQ/S", 6, false}, {"P50", 7, false}, {"P99", 7, false},
    {"ERR/S", 6, false},         {NULL, 0, false},
};
static const char *const sort_names[TOP_SORTS] = {"name", "rate", "p99", "errors"};

void top_ui_free(struct top_ui *ui)
{
    free(ui->pool);
    free(ui->server);
    *ui = (struct top_ui){0};
}

/* --- the frame */

/* A frame in the making: lines are counted, so that what comes knows what is left. */
struct frame {
    struct view view;
    const json_t *state;
    const struct top_ui *ui;
    unsigned lines, line;
};

/* The last line has no line feed: it would scroll the terminal. */
static void end_line(struct frame *frame)
{
    if (++frame->line < frame->lines)
        view_end(&frame->view);
}

static void titles(struct frame *frame, const struct view_column *columns)
{
    frame->line++;
    view_titles(&frame->view, columns);
}

static double sum_over(const json_t *array, const char *key)
{
    double sum = 0;

    for (size_t i = 0; i < json_array_size(array); i++)
        sum += view_number(json_array_get(array, i), key);
    return sum;
}

static void put_headline(struct frame *frame)
{
    struct view *view = &frame->view;
    const json_t *state = frame->state, *connections = json_object_get(state, "connections");
    const json_t *listeners = json_object_get(state, "listeners");
    const char *word = view_string(state, "state");

    view_put(view, "maitred is ");
    view_paint(view, view_state_colour(word));
    view_put(view, word);
    view_paint(view, VIEW_PLAIN);
    view_printf(view, "%s, up %s; %s/%s connections, %s req/s, %s err/s",
                json_is_true(json_object_get(state, "draining")) ? ", draining" : "",
                view_age(view_number(state, "uptime")).text, view_count_of(connections, "open").text,
                view_count_of(connections, "max").text, view_rate(sum_over(listeners, "rate")).text,
                view_rate(sum_over(listeners, "error_rate")).text);
    end_line(frame);
}

static void put_reasons(struct view *view, const json_t *reasons)
{
    for (size_t i = 0; i < json_array_size(reasons); i++) {
        view_put(view, i ? "; " : "");
        view_put(view, view_item(reasons, i));
    }
}

/* That there is no news, what an action came to, or why maitred is not up: one line, the weightiest first. */
static void put_news(struct frame *frame)
{
    struct view *view = &frame->view;

    if (frame->ui->lost[0]) {
        view_paint(view, VIEW_BAD);
        view_put(view, frame->ui->lost);
    } else if (frame->ui->said[0]) {
        view_paint(view, VIEW_TITLE);
        view_put(view, frame->ui->said);
    } else {
        view_paint(view, VIEW_WARNING);
        put_reasons(view, json_object_get(frame->state, "reasons"));
    }
    view_paint(view, VIEW_PLAIN);
    end_line(frame);
}

static void put_numbers(struct view *view, const json_t *object)
{
    bool errors = view_number(object, "error_rate") > 0;

    view_cell(view, view_rate_of(object, "rate").text);
    view_cell(view, view_latency_of(object, "p50_ms").text);
    view_cell(view, view_latency_of(object, "p99_ms").text);
    view_cell_in(view, errors ? VIEW_BAD : VIEW_PLAIN, view_rate_of(object, "error_rate").text);
}

/* A name behind a margin of one column and more. */
static void put_name(struct view *view, const char *margin, const json_t *object)
{
    char name[512];

    snprintf(name, sizeof name, "%s%s", margin, view_string(object, "name"));
    view_cell(view, name);
}

static void put_route(struct frame *frame, const struct top_row *row)
{
    struct view *view = &frame->view;
    char action[256];

    view_row(view, route_columns);
    if (row->item) {
        put_name(view, " ", row->item);
        snprintf(action, sizeof action, "%s", view_string(row->item, "action"));
    } else {
        view_cell(view, " tcp");
        snprintf(action, sizeof action, "pool %s", view_string(row->group, "pool"));
    }
    view_cell(view, view_string(row->group, "name"));
    view_cell(view, action);
    put_numbers(view, row->item ? row->item : row->group);
    end_line(frame);
}

/* In at most n lines; the last of them says how many are not shown. */
static void put_routes(struct frame *frame, const struct top_rows *rows, unsigned n)
{
    size_t shown = rows->n <= n ? rows->n : n - 1;

    titles(frame, route_columns);
    for (size_t i = 0; i < shown; i++)
        put_route(frame, &rows->at[i]);
    if (shown == rows->n)
        return;
    view_printf(&frame->view, " ... and %zu more", rows->n - shown);
    end_line(frame);
}

static void put_pool(struct frame *frame, const json_t *pool)
{
    struct view *view = &frame->view;
    const char *word = view_string(pool, "state");

    view_row(view, server_columns);
    put_name(view, " ", pool);
    view_cell_in(view, view_state_colour(word), word);
    view_cell(view, "");
    view_cell(view, "");
    view_cell(view, view_count_of(pool, "waiting").text);
    put_numbers(view, pool);
    end_line(frame);
}

static void put_server(struct frame *frame, const json_t *server, bool selected)
{
    struct view *view = &frame->view;

    view->reverse = selected;
    view_paint(view, VIEW_PLAIN);
    view_row(view, server_columns);
    put_name(view, selected ? ">  " : "   ", server);
    view_cell_in(view, view_state_colour(view_string(server, "state")), view_state_of(server).text);
    view_cell(view, view_weight_of(server).text);
    view_cell(view, view_count_of(server, "active").text);
    view_cell(view, view_count_of(server, "waiting").text);
    put_numbers(view, server);
    view->reverse = false;
    view_paint(view, VIEW_PLAIN);
    end_line(frame);
}

/* Exactly n lines: those around the selected one. */
static void put_servers(struct frame *frame, const struct top_rows *rows, size_t selected, unsigned n)
{
    size_t first = selected > n / 2 && selected < rows->n ? selected - n / 2 : 0;

    titles(frame, server_columns);
    if (rows->n <= n)
        first = 0;
    else if (first > rows->n - n)
        first = rows->n - n;
    for (size_t i = first; i < first + n; i++) {
        if (i >= rows->n)
            end_line(frame);
        else if (rows->at[i].item)
            put_server(frame, rows->at[i].item, i == selected);
        else
            put_pool(frame, rows->at[i].group);
    }
}

static bool passes(const struct frame *frame, const json_t *queue)
{
    return strstr(view_string(queue, "name"), frame->ui->filter) != NULL;
}

static size_t count_queues(const struct frame *frame)
{
    const json_t *queues = json_object_get(frame->state, "queues");
    size_t n = 0;

    for (size_t i = 0; i < json_array_size(queues); i++)
        n += passes(frame, json_array_get(queues, i));
    return n;
}

/* Titles and at most n lines; none at all where there is no queue. */
static void put_queues(struct frame *frame, size_t have, unsigned n)
{
    const json_t *queues = json_object_get(frame->state, "queues");
    size_t left = have <= n ? have : n - 1;

    if (!n)
        return;
    frame->line++;
    view_queue_titles(&frame->view);
    for (size_t i = 0; left && i < json_array_size(queues); i++) {
        if (!passes(frame, json_array_get(queues, i)))
            continue;
        view_queue(&frame->view, json_array_get(queues, i));
        end_line(frame);
        left--;
    }
    if (have <= n)
        return;
    view_printf(&frame->view, " ... and %zu more", have - (n - 1));
    end_line(frame);
}

/* What the selected row has no column for. */
static void put_selected(struct frame *frame, const struct top_rows *rows, size_t selected)
{
    struct view *view = &frame->view;

    if (selected < rows->n) {
        const json_t *server = rows->at[selected].item;
        char *note = view_server_note(server);

        view_printf(view, "%s of %s: %s for %s", view_string(server, "name"),
                    view_string(rows->at[selected].group, "name"), view_string(server, "state"),
                    view_age_of(frame->state, server, "since").text);
        view_printf(view, "%s%s", note && *note ? "; " : "", note ? note : "");
        free(note);
    }
    end_line(frame);
}

/* The last n, the newest below; their line is there also when they are fewer. */
static void put_events(struct frame *frame, unsigned n)
{
    struct view *view = &frame->view;
    const json_t *events = json_object_get(frame->state, "events");
    size_t have = json_array_size(events), first = have > n ? have - n : 0;

    view_paint(view, VIEW_TITLE);
    view_put(view, " EVENTS");
    view_paint(view, VIEW_PLAIN);
    end_line(frame);
    for (size_t i = first; i < first + n; i++) {
        const json_t *event = json_array_get(events, i);

        if (event)
            view_printf(view, "%7s ago  %s", view_age_of(frame->state, event, "time").text,
                        view_string(event, "text"));
        end_line(frame);
    }
}

static void put_keys(struct frame *frame)
{
    struct view *view = &frame->view;
    const struct top_ui *ui = frame->ui;

    if (ui->mode == TOP_ASK_DRAIN)
        view_printf(view, "drain %s of pool %s? y/n", ui->server, ui->pool);
    else if (ui->mode == TOP_FILTER)
        view_printf(view, "show only what has: %s_   (Enter: keep, Escape: all)", ui->filter);
    else if (ui->help)
        view_put(view, "q quit  s sort  r reverse  j/k/arrows move  d drain  e enable  / filter  ? less");
    else
        view_printf(view, "by %s%s%s%s; ? tells the keys, q quits", sort_names[ui->sort],
                    ui->reverse ? ", reversed" : "", ui->filter[0] ? ", only what has " : "", ui->filter);
    end_line(frame);
}

/* How the lines between the fixed ones are shared. */
struct shares {
    unsigned routes, servers, queues, events;
};

/* Queues, where there are any, come with a line of titles. */
static struct shares share(unsigned lines, size_t routes, size_t servers, size_t queues)
{
    struct shares shares = {.events = lines / 6};
    unsigned left, wanted = servers < lines ? (unsigned)servers : lines;

    shares.events = shares.events > EVENTS_MAX   ? EVENTS_MAX
                    : shares.events < EVENTS_MIN ? EVENTS_MIN
                                                 : shares.events;
    left = lines - LINES_FIXED - shares.events;
    if (queues) {
        shares.queues = queues < left / 4 ? (unsigned)queues : left / 4;
        left -= shares.queues + 1;
    }
    shares.routes = left > wanted + left / 3 ? left - wanted : left / 3;
    if (routes < shares.routes)
        shares.routes = (unsigned)routes;
    shares.servers = left - shares.routes;
    return shares;
}

static void put_frame(struct frame *frame, const struct top_rows *routes, const struct top_rows *servers)
{
    size_t queues = count_queues(frame);
    struct shares shares = share(frame->lines, routes->n, servers->n, queues);
    size_t selected = top_rows_selected(servers, frame->ui);

    put_headline(frame);
    put_news(frame);
    put_routes(frame, routes, shares.routes);
    put_servers(frame, servers, selected, shares.servers);
    put_selected(frame, servers, selected);
    put_queues(frame, queues, shares.queues);
    put_events(frame, shares.events);
    put_keys(frame);
}

static bool compose(FILE *out, const json_t *state, const struct top_ui *ui, unsigned columns, unsigned lines)
{
    struct frame frame = {.view = {.out = out, .columns = columns, .colour = ui->colour},
                          .state = state,
                          .ui = ui,
                          .lines = lines};
    struct top_rows routes = {0}, servers = {0};
    bool ok = true;

    if (columns < TOP_COLUMNS_MIN || lines < TOP_LINES_MIN) {
        view_printf(&frame.view, "%ux%u is too small; it takes 80x24", columns, lines);
        while (frame.line < frame.lines)
            end_line(&frame);
        return true;
    }
    ok = top_rows_of_routes(&routes, state, ui) && top_rows_of_servers(&servers, state, ui);
    if (ok)
        put_frame(&frame, &routes, &servers);
    free(routes.at);
    free(servers.at);
    return ok;
}

char *top_compose(const json_t *state, const struct top_ui *ui, unsigned columns, unsigned lines)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    bool ok;

    if (!out)
        return NULL;
    ok = compose(out, state, ui, columns, lines);
    if (fclose(out) == 0 && ok)
        return text;
    free(text);
    return NULL;
}

/* --- keys */

static bool select_row(struct top_ui *ui, const struct top_row *row)
{
    char *pool = strdup(view_string(row->group, "name")), *server = strdup(view_string(row->item, "name"));

    if (!pool || !server) {
        free(pool);
        free(server);
        return false;
    }
    free(ui->pool);
    free(ui->server);
    ui->pool = pool;
    ui->server = server;
    return true;
}

/* Selects the server `by` servers on (-1, 0, 1), or stays at the last. False: there is none to select. */
static bool select_by(struct top_ui *ui, const json_t *state, int by)
{
    struct top_rows rows;
    size_t at, i;
    bool ok;

    if (!top_rows_of_servers(&rows, state, ui))
        return false;
    at = i = top_rows_selected(&rows, ui);
    while (by && at < rows.n) {
        i += (size_t)by; /* below 0 wraps to beyond n */
        if (i >= rows.n)
            break;
        if (rows.at[i].item) {
            at = i;
            break;
        }
    }
    ok = at < rows.n && select_row(ui, &rows.at[at]);
    free(rows.at);
    return ok;
}

static void edit_filter(struct top_ui *ui, int key)
{
    size_t len = strlen(ui->filter);

    if (key == '\r' || key == '\n') {
        ui->mode = TOP_LOOK;
    } else if (key == TERMINAL_ESCAPE) {
        ui->mode = TOP_LOOK;
        ui->filter[0] = '\0';
    } else if (key == 0x7f || key == '\b') {
        while (len && (ui->filter[--len] & 0xc0) == 0x80) {}
        ui->filter[len] = '\0';
    } else if (key >= ' ' && key <= UCHAR_MAX && len < TOP_FILTER_MAX) {
        ui->filter[len] = (char)key;
        ui->filter[len + 1] = '\0';
    }
}

static enum top_action look_key(struct top_ui *ui, const json_t *state, int key)
{
    switch (key) {
    case 'q':
        return TOP_QUIT;
    case 's':
        ui->sort = (ui->sort + 1) % TOP_SORTS;
        break;
    case 'r':
        ui->reverse = !ui->reverse;
        break;
    case '?':
        ui->help = !ui->help;
        break;
    case '/':
        ui->mode = TOP_FILTER;
        break;
    case TERMINAL_ESCAPE:
        ui->filter[0] = '\0';
        break;
    case 'j':
    case TERMINAL_DOWN:
        select_by(ui, state, 1);
        break;
    case 'k':
    case TERMINAL_UP:
        select_by(ui, state, -1);
        break;
    case 'd':
        if (select_by(ui, state, 0))
            ui->mode = TOP_ASK_DRAIN;
        break;
    case 'e':
        return select_by(ui, state, 0) ? TOP_ENABLE : TOP_NOTHING;
    default:
        break;
    }
    return TOP_NOTHING;
}

enum top_action top_key(struct top_ui *ui, const json_t *state, int key)
{
    ui->said[0] = '\0';
    if (ui->mode == TOP_FILTER) {
        edit_filter(ui, key);
        return TOP_NOTHING;
    }
    if (ui->mode == TOP_ASK_DRAIN) {
        ui->mode = TOP_LOOK;
        return key == 'y' || key == 'Y' ? TOP_DRAIN : TOP_NOTHING;
    }
    return look_key(ui, state, key);
}
