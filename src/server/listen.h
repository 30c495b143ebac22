/* listen.h - the listening sockets of an address. Blocks while names are resolved: not on a loop's thread that serves. */
#ifndef SERVER_LISTEN_H
#define SERVER_LISTEN_H

#include <stddef.h>

#include "base/address.h"

#define LISTEN_WHY_MAX 640

/* Whose the file of a unix socket is. Other sockets have none, and may be said to have any. */
enum listen_file {
    LISTEN_FILE_FOREIGN, /* whoever passed us the socket, or has it too, keeps it */
    LISTEN_FILE_LEFT,    /* the process before leaves it to us, once we serve */
    LISTEN_FILE_MADE     /* ours: nobody listened there before */
};

/* Opens every socket that address means, or takes those that the process was started with (inherit.h): 0 with *fds (to
 * free), *n and *file, or a negative errno with what failed and what to do in why; *file is then foreign. */
int listen_open(const struct address *address, const char *name, int **fds, size_t *n, enum listen_file *file,
                char why[LISTEN_WHY_MAX]);
void listen_close(int *fds, size_t n);
/* Removes the file of a unix socket: ours, and before the socket closes, so that it cannot be the next one's. */
void listen_forget(const struct address *address);

#endif
