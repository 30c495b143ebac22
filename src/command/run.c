/* run.c - `maitred run FILE`. */
#include "command/command.h"
#include "config/config.h"
#include "server/server.h"

int command_run(int argc, char **argv)
{
    struct config *config;
    int code;

    if (argc != 2)
        return command_misused("run",
                               argc < 2 ? "which configuration file?" : "one configuration file is enough");
    config = command_load(argv[1]);
    if (!config)
        return 1;
    code = server_run(argv[1], config);
    config_unref(config);
    return code;
}
