/* main.c - the commands of maitred, a row each. */
#include <stdio.h>
#include <string.h>

#include "command/command.h"
#include "config/config.h"
#include "workers/keeper.h"

/* What all commands that ask a running maitred take. */
#define ADMIN_ARGUMENTS "[--admin ADDRESS] [--token-file FILE]"
#define ADMIN_MORE                                                                            \
    "--admin: where its admin interface is; else the environment's MAITRED_ADMIN says, else " \
    "127.0.0.1:8900.\n"                                                                       \
    "--token-file: a file with the token that it asks for; else the environment's MAITRED_TOKEN is one.\n"

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *arguments;
    const char *what;
    const char *more;
} commands[] = {
    {"run", command_run, "FILE", "serve what the configuration file says, until a signal ends it",
     "SIGTERM or SIGINT: stop accepting, finish what runs within drain-timeout, exit; once more: at once.\n"
     "SIGHUP: take up the changed file; a bad one changes nothing.\n"
     "SIGUSR1: open the access logs again, after they were renamed.\n"
     "SIGUSR2: hand over to a new process, started from the same path, and drain.\n"},
    {"check", command_check, "FILE [--route \"METHOD URL\" [-H \"Name: value\"]...] | --diff OLD NEW",
     "check a configuration file; print every error with its line",
     "--route: say which route such a request takes, and why the others do not.\n"
     "--diff: say what a reload from OLD to NEW changes, a line each; \"warning:\" where it takes an "
     "upgrade.\n"
     "Example: maitred check maitred.conf --route \"GET http://localhost/api/videos\" -H \"X-Preview: yes\"\n"
     "Exit code: 0 when it is good, 1 when it is not.\n"},
    {"status", command_status, "[--json] " ADMIN_ARGUMENTS,
     "show how the running maitred, its listeners and its servers are",
     "--json: the state as the admin interface tells it.\n" ADMIN_MORE
     "Exit code: 0 when it is up, 1 when it is degraded, 2 when it is down or does not answer.\n"},
    {"top", command_top, ADMIN_ARGUMENTS, "the same, live, in the terminal; ? tells its keys", ADMIN_MORE},
    {"explain", command_explain,
     "\"METHOD URL\" [-H \"Name: value\"]... [--from IP] [--json] " ADMIN_ARGUMENTS,
     "say what the running maitred would do with a request, and why",
     "--from: the client's address.\n--json: the answer as the admin interface tells it.\n" ADMIN_MORE
     "Example: maitred explain \"GET http://localhost/api/videos\" -H \"Cookie: user=alice\"\n"},
    {"server", command_server,
     "drain|enable|reset POOL SERVER " ADMIN_ARGUMENTS "\n"
     "       maitred server weight POOL SERVER N " ADMIN_ARGUMENTS,
     "drain a server of the running maitred, enable it, or change its weight",
     "drain: no new requests; those that run are finished.\n"
     "enable: undoes drain, also one that the file asks for.\n"
     "weight: its share from now on, 1 to 256.\n"
     "reset: back to what the file says.\n" ADMIN_MORE},
    {"queue", command_queue, "list|show|peek|publish|purge|pause|resume|move [QUEUE] ... " ADMIN_ARGUMENTS,
     "look at the queues of the running maitred, and change them by hand",
     "list [--json]: every queue in a line.\n"
     "show QUEUE [--json]: all there is to know of one.\n"
     "peek QUEUE [--max N] [--from NUMBER] [--json]: what waits in it, oldest first (10, at most 100).\n"
     "publish QUEUE [--body TEXT | --file FILE] [--target PATH] [--method METHOD] [--field \"Name: "
     "value\"]...\n"
     "        [--delay SECONDS]: puts a message in, as if it had come as that request.\n"
     "purge QUEUE: drops what waits; what is in flight stays.\n"
     "pause QUEUE, resume QUEUE: no message is delivered in between; also over a restart.\n"
     "move FROM TO [--max N]: moves what waits to another queue, oldest first.\n" ADMIN_MORE
     "Example: maitred queue move dead orders --max 100\n"},
    {"log", command_log, "check FOLDER\n       maitred log salvage FOLDER NEW-FOLDER",
     "look at the queues' log while no maitred has it, and copy what can be read of one that is damaged",
     "FOLDER: what the file calls state. It stays as it is.\n"
     "check: which files there are, what of them is damaged, how many messages wait, which of them cannot "
     "be\n"
     "read, and whether a start works. Exit code: 0 when all is well, 1 when it is not.\n"
     "salvage: a new log of all that waits and can be read, in a folder that is new or empty; lists what "
     "cannot.\n"
     "A message whose end was damaged comes once more.\n"
     "Example: maitred log salvage /var/lib/maitred /var/lib/maitred-new\n"},
    {"passwd", command_passwd, "", "make the password-hash of a user of an amqp listener",
     "Asks for the password twice, on the terminal, or reads it from standard input where that is none.\n"
     "Example: maitred passwd <FILE, or maitred passwd\n"},
    {"reload", command_reload, ADMIN_ARGUMENTS, "make the running maitred read its file again",
     "Prints what has changed. A file with an error changes nothing.\n" ADMIN_MORE},
    {"upgrade", command_upgrade, ADMIN_ARGUMENTS,
     "make the running maitred become the binary that is installed now",
     "A new process takes over the sockets; the old one finishes its requests. When the new one does not "
     "start,\n"
     "nothing changes. May take up to 60 s.\n" ADMIN_MORE},
    {"ring", command_ring, "FILE POOL KEY... [--without SERVER]",
     "say which server of a pool's hash ring takes a key",
     "--without: also how many of 100,000 keys move when that server is not there,\n"
     "beside what a plain hash modulo the number of servers would move.\n"
     "Example: maitred ring maitred.conf search alice bob --without 127.0.0.1:9031\n"},
    {"demo", command_demo, "[--play] [--step N] [--seconds S] [--list]",
     "open the diner of examples/: servers, workers and guests, and a story told in steps",
     "Enter goes on, b and Enter goes back, p plays the rest by itself, q ends it, and with it all that it\n"
     "started; so does Ctrl-C.\n"
     "--play: go on by itself, with --seconds S (15) for each step; so it is where standard input is no\n"
     "terminal. --step: begin with step N. --list: which there are.\n"
     "It needs Python 3 with pika. Where it listens and writes: PORT (8080), ADMIN (8900), AMQP (5672),\n"
     "SERVERS (90: 9001, 9002, ...) and LOGS (build/demo) of the environment.\n"},
    {"reference", command_reference, "[--man]", "print every section and option of the file",
     "--man: as the manual page maitred.conf(5); `maitred reference --man | man -l -` shows it.\n"},
    {"version", command_version, "", "print the version", ""},
};

#define N_COMMANDS (sizeof commands / sizeof commands[0])

static void print_help(FILE *out)
{
    fputs("maitred - the front of house: a load balancer and a queue in one binary\n\nusage: maitred COMMAND "
          "...\n\n",
          out);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].what);
    fputs("\n`maitred COMMAND --help` tells more. Every option of the file: docs/reference.md\n", out);
}

int command_misused(const char *command, const char *why)
{
    fprintf(stderr, "maitred %s: %s\n", command, why);
    fprintf(stderr, "`maitred %s --help` shows how it is used\n", command);
    return 2;
}

struct config *command_load(const char *file)
{
    return config_load(file, stderr);
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0)
            return true;
    return false;
}

static int run_command(const struct command *command, int argc, char **argv)
{
    if (!asks_for_help(argc, argv))
        return command->run(argc, argv);
    printf("usage: maitred %s %s\n\n%s%s%s", command->name, command->arguments, command->what,
           command->more[0] ? "\n\n" : "\n", command->more);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0)
        return command_version(1, argv);
    if (strcmp(argv[1], KEEPER_COMMAND) == 0) /* no command for people */
        return keeper_main();
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return run_command(&commands[i], argc - 1, argv + 1);
    fprintf(stderr, "maitred: there is no command %s\n", argv[1]);
    print_help(stderr);
    return 2;
}
