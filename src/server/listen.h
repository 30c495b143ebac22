/* listen.h - the listening sockets of an address. Blocks while names are resolved: not on a loop's thread that serves. */
#ifndef SERVER_LISTEN_H
#define SERVER_LISTEN_H

#include <stddef.h>

#include "base/address.h"

#define LISTEN_WHY_MAX 384

/* Opens every socket that address means, or takes those that the process was started with (inherit.h): 0 with *fds (to
 * free) and *n, or a negative errno with what failed and what to do in why. */
int listen_open(const struct address *address, const char *name, int **fds, size_t *n,
                char why[LISTEN_WHY_MAX]);
void listen_close(int *fds, size_t n);
/* Removes the file of a unix socket, when nobody listens there any more. */
void listen_forget(const struct address *address);

#endif
