/* route_name.c - see route_name.h. */
#include "config/route_name.h"

#include <stdio.h>
#include <stdlib.h>

static void write_encoded(struct slice text, const char *separators, FILE *out)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];

        if (c <= ' ' || c >= 0x7f || c == '%' || strchr(separators, c))
            fprintf(out, "%%%02X", c);
        else
            fputc(c, out);
    }
}

/* Lists are sorted when they are read, and their words contain no comma. */
static void write_list(const char *title, const struct slice *list, size_t n, FILE *out)
{
    for (size_t i = 0; i < n; i++) {
        fputs(i ? "," : title, out);
        write_encoded(list[i], ",", out);
    }
}

static int compare_conditions(const void *left, const void *right)
{
    const struct config_condition *a = *(const struct config_condition *const *)left;
    const struct config_condition *b = *(const struct config_condition *const *)right;
    size_t common = a->name.len < b->name.len ? a->name.len : b->name.len;
    int order;

    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    order = common ? memcmp(a->name.ptr, b->name.ptr, common) : 0; /* no name stands twice in a route */
    return order ? order : (a->name.len > b->name.len) - (a->name.len < b->name.len);
}

static void write_condition(const struct config_condition *condition, FILE *out)
{
    static const char *const kinds[] = {
        [CONDITION_HEADER] = "header",
        [CONDITION_COOKIE] = "cookie",
        [CONDITION_QUERY] = "query",
    };

    fprintf(out, " %s:", kinds[condition->kind]);
    write_encoded(condition->name, "=", out);
    if (condition->any_value)
        return;
    fputc('=', out);
    write_encoded(condition->value, "", out);
}

static void write_name(const struct config_route *route, const struct config_condition **sorted, FILE *out)
{
    for (size_t i = 0; i < route->n_conditions; i++)
        sorted[i] = &route->conditions[i];
    qsort(sorted, route->n_conditions, sizeof *sorted, compare_conditions);
    write_encoded(route->path, "", out);
    write_list(" host=", route->hosts, route->n_hosts, out);
    write_list(" methods=", route->methods, route->n_methods, out);
    for (size_t i = 0; i < route->n_conditions; i++)
        write_condition(sorted[i], out);
}

const char *config_route_name(struct config_store *store, const struct config_route *route)
{
    const struct config_condition **sorted = calloc(route->n_conditions + 1, sizeof *sorted);
    char *text = NULL, *name = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    bool whole = sorted && out;

    if (whole)
        write_name(route, sorted, out);
    whole = whole && !ferror(out);
    if (out && fclose(out) == 0 && whole && text) /* a stream that has no memory to end has no text */
        name = config_store_text(store, text);
    free(text);
    free(sorted);
    return name;
}
