/* view_queue.c - queues as a table, for `maitred queue list`, `status` and `top`; see view.h. */
#include <string.h>

#include "command/view.h"

static const struct view_column columns[] = {
    {" QUEUE", 0, true},  {"STATE", 8, true},   {"READY", 6, false}, {"DELAYED", 7, false},
    {"FLIGHT", 6, false}, {"OLDEST", 6, false}, {"IN/S", 6, false},  {"OUT/S", 6, false},
    {"DEAD/S", 6, false}, {NULL, 0, false},
};

enum view_colour view_queue_colour(const char *state)
{
    if (strcmp(state, "running") == 0)
        return VIEW_GOOD;
    return strcmp(state, "full") == 0 ? VIEW_BAD : VIEW_WARNING;
}

void view_queue_titles(struct view *view)
{
    view_titles(view, columns);
}

/* Those that wait for their time, or for another one: what can be delivered only later. */
static struct view_text delayed(const json_t *queue)
{
    return view_count((uint64_t)(view_number(queue, "delayed") + view_number(queue, "blocked")));
}

void view_queue(struct view *view, const json_t *queue)
{
    const json_t *rates = json_object_get(queue, "rates");
    const char *state = view_string(queue, "state");
    char name[512];

    snprintf(name, sizeof name, " %s", view_string(queue, "name"));
    view_row(view, columns);
    view_cell(view, name);
    view_cell_in(view, view_queue_colour(state), state);
    view_cell(view, view_count_of(queue, "ready").text);
    view_cell(view, delayed(queue).text);
    view_cell(view, view_count_of(queue, "in_flight").text);
    view_cell(view, json_is_number(json_object_get(queue, "oldest_age"))
                        ? view_age(view_number(queue, "oldest_age")).text
                        : "-");
    view_cell(view, view_rate_of(rates, "published").text);
    view_cell(view, view_rate_of(rates, "acked").text);
    view_cell_in(view, view_number(rates, "dead") > 0 ? VIEW_BAD : VIEW_PLAIN,
                 view_rate_of(rates, "dead").text);
}
