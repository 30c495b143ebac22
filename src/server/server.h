/* server.h - the running system, put together from a configuration.
 *
 * Thread 0 is the caller's; it also minds signals, names and health. SIGTERM and SIGINT drain, a second one hurries;
 * SIGHUP takes up the changed file; SIGUSR1 opens the access logs again; SIGUSR2 hands over to a new process. */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "config/config.h"

/* Runs until a signal ends it. config is what file says now; file is borrowed. Returns the process's exit code: 0 after a drain, 1 when it could
 * not start, having said why on standard error. */
int server_run(const char *file, const struct config *config);

#endif
