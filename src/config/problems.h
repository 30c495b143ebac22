/* problems.h - everything that is wrong with a configuration, collected, then printed in the order of the file.
 *
 * A problem says what is wrong and what to do: "unknown option \"retrys\" in pool; did you mean \"retries\"?".
 * One thread at a time. When there is no memory for a problem it is only counted: that one happened is never lost. */
#ifndef CONFIG_PROBLEMS_H
#define CONFIG_PROBLEMS_H

#include <stdbool.h>
#include <stdio.h>

#include "config/config.h"

/* How much of a user's text a message repeats. */
#define SHOWN "%.80s"

struct config_problem;

struct config_problems {
    const char *file;          /* the main file: its problems come first */
    struct config_problem *at; /* owned */
    size_t count, max;
    size_t lost;
};

void config_problems_init(struct config_problems *problems, const char *file);
/* place.line 0 means the file as a whole. place.file is borrowed until config_problems_free. */
void config_problem(struct config_problems *problems, struct config_place place, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool config_problems_any(const struct config_problems *problems);
void config_problems_print(struct config_problems *problems, FILE *out);
/* What could play tricks on a terminal is shown as its code. */
void config_print_visibly(const char *text, FILE *out);
void config_problems_free(struct config_problems *problems);

#endif
