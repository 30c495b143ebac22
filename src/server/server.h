/* server.h - the running system, put together from a configuration.
 *
 * Thread 0 is the caller's; it also minds signals, names and health. SIGTERM and SIGINT drain, a second one hurries;
 * SIGUSR1 opens the access logs again. */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "config/config.h"

/* Runs until a signal ends it. config is borrowed. Returns the process's exit code: 0 after a drain, 1 when it could
 * not start, having said why on standard error. */
int server_run(const struct config *config);

#endif
