/* command.h - the command line: a function per command, a row for each in main.c.
 *
 * Each gets the arguments behind its name (argv[0] is the name) and returns the process's exit code: 0, 1 when
 * what was asked for went wrong, 2 when it was asked in the wrong way. */
#ifndef COMMAND_COMMAND_H
#define COMMAND_COMMAND_H

struct config;

int command_run(int argc, char **argv);
int command_check(int argc, char **argv);
int command_demo(int argc, char **argv);
int command_log(int argc, char **argv);
int command_passwd(int argc, char **argv);
int command_reference(int argc, char **argv);
int command_ring(int argc, char **argv);
int command_version(int argc, char **argv);

/* Those that ask a running maitred (client.h). */
int command_status(int argc, char **argv);
int command_explain(int argc, char **argv);
int command_server(int argc, char **argv);
int command_queue(int argc, char **argv);
int command_reload(int argc, char **argv);
int command_upgrade(int argc, char **argv);
int command_top(int argc, char **argv);

/* Writes "maitred COMMAND: why" and where to find help to standard error. Returns 2. */
int command_misused(const char *command, const char *why);

/* The configuration of a file argument: NULL after its errors have been written to standard error. */
struct config *command_load(const char *file);

#endif
