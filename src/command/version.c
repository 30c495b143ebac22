/* version.c - `maitred version`. */
#include <stdio.h>

#include "command/command.h"

int command_version(int argc, char **argv)
{
    (void)argv;
    if (argc != 1)
        return command_misused("version", "it takes no arguments");
    puts("maitred " MAITRED_VERSION);
    return 0;
}
