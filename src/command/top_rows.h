/* top_rows.h - what the tables of `maitred top` are made of: routes, and pools with their servers, as rows that are
 * filtered and sorted the way the user chose. Pure; rows borrow the state they were made of. */
#ifndef COMMAND_TOP_ROWS_H
#define COMMAND_TOP_ROWS_H

#include "command/top_view.h"

/* A line of a table. */
struct top_row {
    const json_t *group; /* the listener, or the pool */
    const json_t *item;  /* the route, or the server; NULL: the line is the group's own */
    size_t place;        /* before sorting */
};

struct top_rows {
    struct top_row *at;
    size_t n;
};

/* The routes of all http listeners, and the tcp listeners, which have none. False: no memory. Free rows->at. */
bool top_rows_of_routes(struct top_rows *rows, const json_t *state, const struct top_ui *ui);
/* Each pool, and below it those of its servers that pass; a pool of which none passes is left out. */
bool top_rows_of_servers(struct top_rows *rows, const json_t *state, const struct top_ui *ui);
/* The selected server's row, else the first server's; rows->n: there is none. */
size_t top_rows_selected(const struct top_rows *rows, const struct top_ui *ui);

#endif
