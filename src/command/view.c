/* view.c - see view.h. */
#include "command/view.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define S_PER_MIN 60.0
#define S_PER_H 3600.0
#define S_PER_D 86400.0
#define CUT_MARK ".."

bool view_wants_colour(void)
{
    const char *no = getenv("NO_COLOR");

    return isatty(STDOUT_FILENO) && (!no || !*no);
}

/* Takes one code point off *text, which is not at its end. Returns what to write for it, of *bytes bytes: a space
 * for a control character (C1 too: terminals obey them) and for what is no UTF-8. */
static const char *take_glyph(const char **text, size_t *bytes)
{
    const unsigned char *at = (const unsigned char *)*text;
    const char *glyph = *text;
    size_t n = *at < 0x80 ? 1 : *at >= 0xf0 ? 4 : *at >= 0xe0 ? 3 : *at >= 0xc2 ? 2 : 0;
    size_t there = n ? 1 : 0;

    while (there && there < n && (at[there] & 0xc0) == 0x80)
        there++;
    *text += n && there == n ? n : 1;
    *bytes = n && there == n ? n : 1;
    if (there != n || !n || *at < 0x20 || *at == 0x7f || (*at == 0xc2 && at[1] < 0xa0)) {
        *bytes = 1;
        return " ";
    }
    return glyph;
}

unsigned view_width(const char *text)
{
    unsigned width = 0;
    size_t bytes;

    for (; *text; width++)
        take_glyph(&text, &bytes);
    return width;
}

/* At most n columns of *text, which moves on. */
static void put_some(struct view *view, const char **text, unsigned n)
{
    for (; **text && n && view->column < view->columns; n--, view->column++) {
        size_t bytes;
        const char *glyph = take_glyph(text, &bytes);

        fwrite(glyph, 1, bytes, view->out);
    }
}

void view_put(struct view *view, const char *text)
{
    put_some(view, &text, view->columns);
}

void view_printf(struct view *view, const char *format, ...)
{
    char *text;
    va_list list;
    int n;

    va_start(list, format);
    n = vasprintf(&text, format, list);
    va_end(list);
    if (n < 0)
        return;
    view_put(view, text);
    free(text);
}

void view_spaces(struct view *view, unsigned n)
{
    for (; n && view->column < view->columns; n--, view->column++)
        fputc(' ', view->out);
}

void view_end(struct view *view)
{
    fputc('\n', view->out);
    view->column = 0;
}

void view_line(FILE *out, const char *text)
{
    struct view view = {.out = out, .columns = UINT_MAX};

    view_put(&view, text);
    view_end(&view);
}

/* The columns of the text before end. */
static unsigned width_to(const char *text, const char *end)
{
    unsigned width = 0;
    size_t bytes;

    for (; text < end; width++)
        take_glyph(&text, &bytes);
    return width;
}

static void next_line(struct view *view, unsigned indent)
{
    view_end(view);
    view_spaces(view, indent);
}

void view_wrap(struct view *view, unsigned indent, const char *text)
{
    assert(indent < view->columns);
    for (;;) {
        unsigned spaces = (unsigned)strspn(text, " ");
        const char *end;

        text += spaces;
        end = text + strcspn(text, " ");
        if (text == end)
            return;
        if (view->column + spaces + width_to(text, end) > view->columns && view->column > indent)
            next_line(view, indent);
        else
            view_spaces(view, spaces);
        while (text < end) {
            if (view->column == view->columns)
                next_line(view, indent);
            put_some(view, &text, 1);
        }
    }
}

void view_paint(struct view *view, enum view_colour colour)
{
    static const char *const codes[] = {
        [VIEW_PLAIN] = "",  [VIEW_GOOD] = ";32", [VIEW_WARNING] = ";33",
        [VIEW_BAD] = ";31", [VIEW_TITLE] = ";1",
    };

    if (view->colour)
        fprintf(view->out, "\033[0%s%sm", codes[colour], view->reverse ? ";7" : "");
}

/* The columns that the one without a width gets: what the others and the spaces between leave. */
static unsigned rest_width(const struct view *view)
{
    unsigned used = 0;

    for (const struct view_column *column = view->first; column->title; column++)
        used += column->width + (column > view->first ? 1 : 0);
    return used < view->columns ? view->columns - used : 1;
}

void view_row(struct view *view, const struct view_column *columns)
{
    view->first = view->next = columns;
}

/* text in width columns: without its middle when it is wider. */
static void put_short(struct view *view, const char *text, unsigned have, unsigned width)
{
    unsigned mark = (unsigned)strlen(CUT_MARK), head;

    if (have <= width || width <= mark + 1) {
        put_some(view, &text, width);
        return;
    }
    head = (width - mark) / 2;
    put_some(view, &text, head);
    view_put(view, CUT_MARK);
    for (unsigned skip = have - (width - mark); skip; skip--) {
        size_t bytes;

        take_glyph(&text, &bytes);
    }
    view_put(view, text);
}

void view_cell(struct view *view, const char *text)
{
    const struct view_column *column = view->next++;
    unsigned width, have = view_width(text), space;

    assert(column->title);
    width = column->width ? column->width : rest_width(view);
    space = have < width ? width - have : 0;
    if (column > view->first)
        view_spaces(view, 1);
    if (!column->left)
        view_spaces(view, space);
    put_short(view, text, have, width);
    if (column->left)
        view_spaces(view, space);
}

void view_cell_in(struct view *view, enum view_colour colour, const char *text)
{
    view_paint(view, colour);
    view_cell(view, text);
    view_paint(view, VIEW_PLAIN);
}

void view_titles(struct view *view, const struct view_column *columns)
{
    view_paint(view, VIEW_TITLE);
    view_row(view, columns);
    for (const struct view_column *column = columns; column->title; column++)
        view_cell(view, column->title);
    view_paint(view, VIEW_PLAIN);
    view_end(view);
}

enum view_colour view_state_colour(const char *state)
{
    if (strcmp(state, "up") == 0)
        return VIEW_GOOD;
    return strcmp(state, "down") == 0 || strcmp(state, "ejected") == 0 ? VIEW_BAD : VIEW_WARNING;
}

static struct view_text text_of(const char *format, ...) __attribute__((format(printf, 1, 2)));

static struct view_text text_of(const char *format, ...)
{
    struct view_text text;
    va_list list;

    va_start(list, format);
    vsnprintf(text.text, sizeof text.text, format, list);
    va_end(list);
    return text;
}

/* A document's number may be anything; this one can be printed and converted. */
static double sane(double value)
{
    return value > 0 ? fmin(value, 1e18) : 0;
}

/* Three digits and a unit; step is 1000 or 1024. */
static struct view_text scaled(double value, double step, const char *const units[6])
{
    unsigned unit = 0;

    for (value = sane(value); value >= step - 0.5 && unit < 5; unit++)
        value /= step;
    return text_of("%.*f%s", unit && value < 99.95 ? 1 : 0, value, units[unit]);
}

static const char *const THOUSANDS[6] = {"", "k", "M", "G", "T", "P"};

struct view_text view_count(uint64_t n)
{
    return n < 100000 ? text_of("%u", (unsigned)n) : scaled((double)n, 1000, THOUSANDS);
}

struct view_text view_rate(double per_second)
{
    double rate = sane(per_second);

    if (rate == 0)
        return text_of("0");
    if (rate < 0.05)
        return text_of("<0.1");
    return rate < 99.95 ? text_of("%.1f", rate) : scaled(rate, 1000, THOUSANDS);
}

struct view_text view_bytes(double bytes)
{
    static const char *const units[6] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB"};

    return scaled(bytes, 1024, units);
}

struct view_text view_latency(double ms)
{
    double value = sane(ms);

    if (value < 999.5)
        return text_of("%.*f ms", value < 0.995 ? 2 : value < 99.95 ? 1 : 0, value);
    value /= 1000;
    return text_of("%.*f s", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value);
}

static const struct {
    double seconds;
    const char *name;
} SPANS[] = {{S_PER_D, "d"}, {S_PER_H, "h"}, {S_PER_MIN, "min"}, {1, "s"}};

#define N_SPANS (sizeof SPANS / sizeof SPANS[0])

static size_t largest_span(double seconds)
{
    size_t i = 0;

    while (i + 1 < N_SPANS && seconds < SPANS[i].seconds)
        i++;
    return i;
}

struct view_text view_age(double seconds)
{
    double whole = sane(seconds);
    size_t i = largest_span(whole);

    return text_of("%.0f %s", floor(whole / SPANS[i].seconds), SPANS[i].name);
}

struct view_text view_duration(double seconds)
{
    double whole = sane(seconds), rest;
    size_t i = largest_span(whole);

    if (i + 1 == N_SPANS)
        return view_age(seconds);
    rest = fmod(whole, SPANS[i].seconds);
    return text_of("%.0f %s %.0f %s", floor(whole / SPANS[i].seconds), SPANS[i].name,
                   floor(rest / SPANS[i + 1].seconds), SPANS[i + 1].name);
}

bool view_time(const char *text, double *seconds)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    double fraction = 0;
    char *end;

    if (!rest)
        return false;
    if (*rest == '.') {
        fraction = strtod(rest, &end);
        rest = end;
    }
    if (strcmp(rest, "Z") != 0)
        return false;
    *seconds = (double)timegm(&tm) + fraction;
    return true;
}

const char *view_string(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

const char *view_item(const json_t *array, size_t i)
{
    const char *text = json_string_value(json_array_get(array, i));

    return text ? text : "";
}

double view_number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

struct view_text view_count_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    return json_is_number(value) ? view_count((uint64_t)sane(json_number_value(value))) : text_of("-");
}

struct view_text view_rate_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    return json_is_number(value) ? view_rate(json_number_value(value)) : text_of("-");
}

struct view_text view_latency_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(json_object_get(object, "latency"), key);

    return json_is_number(value) ? view_latency(json_number_value(value)) : text_of("-");
}

struct view_text view_age_of(const json_t *state, const json_t *object, const char *key)
{
    double started, then;

    if (!view_time(view_string(state, "started"), &started) || !view_time(view_string(object, key), &then))
        return text_of("-");
    return view_age(started + view_number(state, "uptime") - then);
}

struct view_text view_sum_of(const json_t *object, const char *key)
{
    json_t *counts = json_object_get(object, key), *count;
    const char *kind;
    double sum = 0;

    json_object_foreach(counts, kind, count)
    {
        sum += json_number_value(count);
    }
    return view_count((uint64_t)sane(sum));
}

struct view_text view_weight_of(const json_t *server)
{
    double weight = view_number(server, "weight"), now = view_number(server, "weight_now");
    bool by_hand = json_object_get(json_object_get(server, "by_hand"), "weight") != NULL;

    if (!json_is_number(json_object_get(server, "weight_now")) || fabs(now - weight) < 0.05)
        now = weight;
    return text_of("%.*f%s", sane(now) == floor(sane(now)) ? 0 : 1, fmin(sane(now), 9999),
                   by_hand ? "*" : "");
}

struct view_text view_state_of(const json_t *server)
{
    bool by_hand = json_object_get(json_object_get(server, "by_hand"), "drain") != NULL;

    return text_of("%s%s", view_string(server, "state"), by_hand ? "*" : "");
}

static void put_by_hand(FILE *out, const char *before, const json_t *by_hand)
{
    const json_t *drain = json_object_get(by_hand, "drain");
    bool weight = json_object_get(by_hand, "weight") != NULL;

    if (!drain && !weight)
        return;
    fprintf(out, "%sby hand: ", before);
    if (drain)
        fprintf(out, "%s%s", json_is_true(drain) ? "drained" : "enabled", weight ? ", " : "");
    if (weight)
        fprintf(out, "weight %.0f", view_number(by_hand, "weight"));
}

char *view_server_note(const json_t *server)
{
    const char *state = view_string(server, "state"), *reason = view_string(server, "reason"), *before = "";
    char *note = NULL;
    size_t len;
    FILE *out = open_memstream(&note, &len);

    if (!out)
        return NULL;
    if (*reason && strcmp(state, "up") != 0) {
        fputs(reason, out);
        before = "; ";
    }
    if (json_is_true(json_object_get(server, "backup"))) {
        fprintf(out, "%sbackup", before);
        before = "; ";
    }
    put_by_hand(out, before, json_object_get(server, "by_hand"));
    if (fclose(out) == 0)
        return note;
    free(note);
    return NULL;
}
