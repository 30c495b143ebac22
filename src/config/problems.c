/* problems.c - see problems.h. */
#include "config/problems.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct config_problem {
    struct config_place place;
    size_t number; /* in the order they were found, for those of one line */
    char *text;    /* owned */
};

void config_problems_init(struct config_problems *problems, const char *file)
{
    *problems = (struct config_problems){.file = file};
}

static struct config_problem *next_problem(struct config_problems *problems)
{
    if (problems->count == problems->max) {
        size_t max = problems->max ? problems->max * 2 : 16;
        struct config_problem *at = reallocarray(problems->at, max, sizeof *at);

        if (!at)
            return NULL;
        problems->at = at;
        problems->max = max;
    }
    return &problems->at[problems->count];
}

void config_problem(struct config_problems *problems, struct config_place place, const char *format, ...)
{
    struct config_problem *problem;
    char *text;
    va_list args;
    int n;

    va_start(args, format);
    n = vasprintf(&text, format, args); /* first: format may want errno */
    va_end(args);
    problem = next_problem(problems);
    if (n < 0 || !problem) {
        if (n >= 0)
            free(text);
        problems->lost++;
        return;
    }
    *problem = (struct config_problem){place, problems->count, text};
    problems->count++;
}

bool config_problems_any(const struct config_problems *problems)
{
    return problems->count || problems->lost;
}

/* The main file comes first, then each included one; within a file by line. */
static int compare(const void *left, const void *right, void *arg)
{
    const struct config_problem *a = left, *b = right;
    const struct config_problems *problems = arg;
    bool a_included = strcmp(a->place.file, problems->file) != 0;
    bool b_included = strcmp(b->place.file, problems->file) != 0;
    int by_file = a_included != b_included ? (a_included ? 1 : -1) : strcmp(a->place.file, b->place.file);

    if (by_file)
        return by_file;
    if (a->place.line != b->place.line)
        return a->place.line < b->place.line ? -1 : 1;
    return a->number < b->number ? -1 : 1;
}

void config_print_visibly(const char *text, FILE *out)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c < ' ' || c == 0x7f)
            fprintf(out, "\\x%02x", c);
        else
            fputc(c, out);
    }
}

void config_problems_print(struct config_problems *problems, FILE *out)
{
    if (problems->count)
        qsort_r(problems->at, problems->count, sizeof *problems->at, compare, problems);
    for (size_t i = 0; i < problems->count; i++) {
        const struct config_problem *problem = &problems->at[i];

        config_print_visibly(problem->place.file, out);
        if (problem->place.line)
            fprintf(out, ":%d", problem->place.line);
        fputs(": ", out);
        config_print_visibly(problem->text, out);
        fputc('\n', out);
    }
    if (problems->lost)
        fprintf(out, "%s: out of memory; %zu more problems are not shown\n", problems->file, problems->lost);
}

void config_problems_free(struct config_problems *problems)
{
    for (size_t i = 0; i < problems->count; i++)
        free(problems->at[i].text);
    free(problems->at);
    *problems = (struct config_problems){0};
}
