/* top_view.h - what `maitred top` shows and what its keys do, without a terminal.
 *
 * Pure: a state of the API, a size and the user's choices give a frame; a key and a state change the choices and
 * may ask for an action. No clock: ages are those of the state. One thread. */
#ifndef COMMAND_TOP_VIEW_H
#define COMMAND_TOP_VIEW_H

#include <stdbool.h>

#include <jansson.h>

#define TOP_COLUMNS_MIN 80
#define TOP_LINES_MIN 24
#define TOP_FILTER_MAX 40

enum top_sort { TOP_BY_NAME, TOP_BY_RATE, TOP_BY_P99, TOP_BY_ERRORS, TOP_SORTS };

/* What the keys go to. */
enum top_mode { TOP_LOOK, TOP_FILTER, TOP_ASK_DRAIN };

enum top_action { TOP_NOTHING, TOP_QUIT, TOP_DRAIN, TOP_ENABLE };

/* Zeros are a good start. */
struct top_ui {
    enum top_sort sort;
    enum top_mode mode;
    bool reverse;
    bool help;
    bool colour;
    char filter[TOP_FILTER_MAX + 1];
    char *pool, *server; /* the selected one's names, owned; NULL: the first there is */
    char lost[512];      /* why there is no news; "": there is */
    char said[512];      /* what the last action came to; until the next key */
};

void top_ui_free(struct top_ui *ui);

/* A frame of that size: lines with a line feed between them, no line wider than columns. Below the smallest size it
 * says so. The caller frees it; NULL: no memory. */
char *top_compose(const json_t *state, const struct top_ui *ui, unsigned columns, unsigned lines);

/* key as terminal_take_key gives it. TOP_DRAIN and TOP_ENABLE are for ui->pool and ui->server. */
enum top_action top_key(struct top_ui *ui, const json_t *state, int key);

#endif
