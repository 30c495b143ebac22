/* listen.h - the listening sockets of a configuration. Before any thread starts; blocks while names are resolved. */
#ifndef SERVER_LISTEN_H
#define SERVER_LISTEN_H

#include <stddef.h>

#include "base/address.h"

/* Opens every socket that address means: 0 with *fds (to free) and *n, or -1 having said what failed and what to do. */
int listen_open(const struct address *address, const char *name, int **fds, size_t *n);
/* Closes them, and removes the file of a unix socket. */
void listen_close(const struct address *address, int *fds, size_t n);

#endif
