/* top_rows.c - see top_rows.h. */
#include "command/top_rows.h"

#include <stdlib.h>
#include <string.h>

#include "command/view.h"

static double sort_value(const json_t *object, enum top_sort sort)
{
    switch (sort) {
    case TOP_BY_RATE:
        return view_number(object, "rate");
    case TOP_BY_P99:
        return view_number(json_object_get(object, "latency"), "p99_ms");
    case TOP_BY_ERRORS:
        return view_number(object, "error_rate");
    case TOP_BY_NAME:
    case TOP_SORTS:
        break;
    }
    return 0;
}

/* What qsort_r hands on. */
struct order {
    enum top_sort sort;
    bool reverse;
};

/* Names go up, numbers down, unless reversed; what is equal goes by name, then as the state has it. */
static int compare_rows(const void *a, const void *b, void *arg)
{
    const struct order *order = arg;
    const struct top_row *x = a, *y = b;
    const json_t *one = x->item ? x->item : x->group, *other = y->item ? y->item : y->group;
    double p = sort_value(one, order->sort), q = sort_value(other, order->sort);
    int result = p < q ? 1 : p > q ? -1 : strcmp(view_string(one, "name"), view_string(other, "name"));

    if (result == 0)
        return x->place < y->place ? -1 : x->place > y->place;
    return order->reverse ? -result : result;
}

static void sort_rows(struct top_row *rows, size_t n, const struct top_ui *ui)
{
    struct order order = {ui->sort, ui->reverse};

    for (size_t i = 0; i < n; i++)
        rows[i].place = i;
    qsort_r(rows, n, sizeof *rows, compare_rows, &order);
}

static bool has_text(const json_t *object, const char *key, const char *text)
{
    return strcasestr(view_string(object, key), text) != NULL;
}

static bool passes(const struct top_ui *ui, const json_t *group, const json_t *item)
{
    return has_text(group, "name", ui->filter) || has_text(item, "name", ui->filter) ||
           has_text(item, "state", ui->filter) || has_text(item, "action", ui->filter);
}

/* Room for the groups and all that is in them under key. */
static bool rows_alloc(struct top_rows *rows, const json_t *groups, const char *key)
{
    size_t most = json_array_size(groups) + 1;

    for (size_t i = 0; i < json_array_size(groups); i++)
        most += json_array_size(json_object_get(json_array_get(groups, i), key));
    *rows = (struct top_rows){.at = calloc(most, sizeof *rows->at)};
    return rows->at != NULL;
}

static void rows_add(struct top_rows *rows, const struct top_ui *ui, const json_t *group, const json_t *item)
{
    if (passes(ui, group, item))
        rows->at[rows->n++] = (struct top_row){.group = group, .item = item};
}

bool top_rows_of_routes(struct top_rows *rows, const json_t *state, const struct top_ui *ui)
{
    const json_t *listeners = json_object_get(state, "listeners");

    if (!rows_alloc(rows, listeners, "routes"))
        return false;
    for (size_t i = 0; i < json_array_size(listeners); i++) {
        const json_t *listener = json_array_get(listeners, i), *routes = json_object_get(listener, "routes");

        if (strcmp(view_string(listener, "kind"), "tcp") == 0)
            rows_add(rows, ui, listener, NULL);
        for (size_t j = 0; j < json_array_size(routes); j++)
            rows_add(rows, ui, listener, json_array_get(routes, j));
    }
    sort_rows(rows->at, rows->n, ui);
    return true;
}

static bool pools_in_order(struct top_rows *pools, const json_t *state, const struct top_ui *ui)
{
    const json_t *all = json_object_get(state, "pools");

    if (!rows_alloc(pools, all, ""))
        return false;
    for (size_t i = 0; i < json_array_size(all); i++)
        pools->at[pools->n++] = (struct top_row){.group = json_array_get(all, i)};
    sort_rows(pools->at, pools->n, ui);
    return true;
}

bool top_rows_of_servers(struct top_rows *rows, const json_t *state, const struct top_ui *ui)
{
    struct top_rows pools;

    if (!pools_in_order(&pools, state, ui))
        return false;
    if (!rows_alloc(rows, json_object_get(state, "pools"), "servers")) {
        free(pools.at);
        return false;
    }
    for (size_t i = 0; i < pools.n; i++) {
        const json_t *pool = pools.at[i].group, *servers = json_object_get(pool, "servers");
        size_t own = rows->n, first = own + 1;

        rows->at[rows->n++] = (struct top_row){.group = pool};
        for (size_t j = 0; j < json_array_size(servers); j++)
            rows_add(rows, ui, pool, json_array_get(servers, j));
        sort_rows(rows->at + first, rows->n - first, ui);
        if (rows->n == first && !passes(ui, pool, NULL))
            rows->n = own;
    }
    free(pools.at);
    return true;
}

size_t top_rows_selected(const struct top_rows *rows, const struct top_ui *ui)
{
    size_t first = rows->n;

    for (size_t i = rows->n; i-- > 0;) {
        const struct top_row *row = &rows->at[i];

        if (!row->item)
            continue;
        first = i;
        if (ui->server && strcmp(view_string(row->item, "name"), ui->server) == 0 &&
            strcmp(view_string(row->group, "name"), ui->pool) == 0)
            return i;
    }
    return first;
}
