/* demo.c - `maitred demo`: the diner of examples/, with guests and a story.
 *
 * What it does stands in examples/diner/demo, a script; this finds that, tells it which maitred to run (in the environment's
 * MAITRED, unless somebody else has), and becomes it. */
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command/command.h"

/* Where the example is, seen from the folder of the program: in the source tree (build/release/maitred, build/maitred),
 * and where it was installed (/usr/bin/maitred). */
static const char *const places[] = {"../../examples/diner", "../examples/diner",
                                     "../share/maitred/examples/diner"};

#define N_PLACES (sizeof places / sizeof places[0])

/* The path of this program, without links. False after it was said why not. */
static bool find_program(char path[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);

    if (n < 0) {
        fprintf(stderr, "maitred demo: cannot tell where this program is: %s\n", strerror(errno));
        return false;
    }
    path[n] = '\0';
    return true;
}

/* script gets the path of the first that is there. */
static bool find_script(const char *program, char script[PATH_MAX])
{
    int folder = (int)(strrchr(program, '/') - program);

    for (size_t i = 0; i < N_PLACES; i++) {
        int n = snprintf(script, PATH_MAX, "%.*s/%s/demo", folder, program, places[i]);

        if (n < PATH_MAX && access(script, X_OK) == 0)
            return true;
    }
    fputs("maitred demo: the example is not there; looked for demo in:\n", stderr);
    for (size_t i = 0; i < N_PLACES; i++)
        fprintf(stderr, "  %.*s/%s\n", folder, program, places[i]);
    return false;
}

int command_demo(int argc, char **argv)
{
    char program[PATH_MAX], script[PATH_MAX];

    (void)argc;
    if (!find_program(program) || !find_script(program, script))
        return 1;
    setenv("MAITRED", program, 0);
    argv[0] = script;
    execv(script, argv);
    fprintf(stderr, "maitred demo: cannot run %s: %s\n", script, strerror(errno));
    return 1;
}
