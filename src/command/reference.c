/* reference.c - `maitred reference [--man]`: every section and option of the file, as this version knows them. */
#include <stdio.h>
#include <string.h>

#include "command/command.h"
#include "config/config.h"

int command_reference(int argc, char **argv)
{
    if (argc == 1) {
        config_write_reference(stdout);
        return 0;
    }
    if (argc != 2 || strcmp(argv[1], "--man") != 0)
        return command_misused("reference", "it takes --man or nothing");
    config_write_manual(stdout);
    return 0;
}
