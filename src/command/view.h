/* view.h - text for people who look at a running maitred: lines of a known width, tables, colours, numbers.
 *
 * What is written comes from a JSON document of the admin interface, so it is never trusted to be safe for a
 * terminal: control characters become spaces, and a key that is missing is a "-" or nothing. A code point counts as
 * one column. Numbers come back as small values, so that they can stand in an argument. Pure but for view.out.
 * One thread. */
#ifndef COMMAND_VIEW_H
#define COMMAND_VIEW_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

enum view_colour { VIEW_PLAIN, VIEW_GOOD, VIEW_WARNING, VIEW_BAD, VIEW_TITLE };

/* One of a table's columns; a table ends with a row of zeros. */
struct view_column {
    const char *title;
    unsigned width; /* 0, at most one of a table: what the others leave */
    bool left;      /* text; numbers stand on the right */
};

/* Zero it, then set the first three. */
struct view {
    FILE *out;
    unsigned columns; /* a line is cut there */
    bool colour;      /* may write escape sequences */
    bool reverse;     /* the row is the selected one: colours keep it visible */
    unsigned column;  /* of the open line */
    const struct view_column *next, *first;
};

struct view_text {
    char text[32];
};

/* Whether standard output takes colours: a terminal, and NO_COLOR is not set. */
bool view_wants_colour(void);

/* What does not fit in the line is cut. */
void view_put(struct view *view, const char *text);
void view_printf(struct view *view, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same, but goes on in the next line, indented, as often as needed; between words where it can. */
void view_wrap(struct view *view, unsigned indent, const char *text);
void view_paint(struct view *view, enum view_colour colour);
void view_spaces(struct view *view, unsigned n);
void view_end(struct view *view);
/* A whole line of any length, without a view. */
void view_line(FILE *out, const char *text);

/* The titles as a line of their own. */
void view_titles(struct view *view, const struct view_column *columns);
/* Begins a row; then a view_cell for each column. What is too wide loses its middle, so that a port stays. */
void view_row(struct view *view, const struct view_column *columns);
void view_cell(struct view *view, const char *text);
void view_cell_in(struct view *view, enum view_colour colour, const char *text);

/* The state words of the API: up is good, down and ejected are bad, what lies between is a warning. */
enum view_colour view_state_colour(const char *state);

/* A table of queues: its titles, and a row; view_end is the caller's. The state words of queues have colours of their own. */
void view_queue_titles(struct view *view);
void view_queue(struct view *view, const json_t *queue);
enum view_colour view_queue_colour(const char *state);

unsigned view_width(const char *text);
struct view_text view_count(uint64_t n);        /* "99999", "100k", "1.2M" */
struct view_text view_rate(double per_second);  /* "0", "<0.1", "12.5", "123", "1.2k" */
struct view_text view_bytes(double bytes);      /* "11.8 MiB" */
struct view_text view_latency(double ms);       /* "0.12 ms", "12.3 ms", "1.23 s" */
struct view_text view_age(double seconds);      /* in its largest unit: "5 s", "3 min", "2 h", "4 d" */
struct view_text view_duration(double seconds); /* in its two largest: "2 h 5 min" */

/* Seconds since 1970 of an RFC 3339 time in UTC; false when it is none. */
bool view_time(const char *text, double *seconds);

/* Parts of a document. Text that is not there is "", a number 0. */
const char *view_string(const json_t *object, const char *key);
const char *view_item(const json_t *array, size_t i);
double view_number(const json_t *object, const char *key);
struct view_text view_count_of(const json_t *object, const char *key);
struct view_text view_rate_of(const json_t *object, const char *key);
/* key: "p50_ms" and so on of the object's latency. */
struct view_text view_latency_of(const json_t *object, const char *key);
/* How long ago the time under key was when the state was written, which is judged by the server's own clock. */
struct view_text view_age_of(const json_t *state, const json_t *object, const char *key);
/* All the counts of the object under key: a server's errors, what a pool refused. */
struct view_text view_sum_of(const json_t *object, const char *key);
/* A server's weight: in slow start what it has now; with '*' when it was set by hand. */
struct view_text view_weight_of(const json_t *server);
/* A server's state word, with '*' when it was drained or enabled by hand. */
struct view_text view_state_of(const json_t *server);
/* What else is to be said of a server: why it is not up, backup, what was set by hand. "" when nothing; the caller
 * frees it. NULL: no memory. */
char *view_server_note(const json_t *server);

#endif
