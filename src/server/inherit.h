/* inherit.h - listening sockets that this process was started with: from systemd's socket units, or from the process
 * that it takes over from (LISTEN_PID, LISTEN_FDS; the descriptors are 3, 4, ...).
 *
 * Each is taken by the listener that has its address, or closed by inherit_close_rest. What is kept belongs to the
 * process; the file of a unix socket does only when the process before says so, by the socket's name in LISTEN_FDNAMES.
 * Threads: while there is one. */
#ifndef SERVER_INHERIT_H
#define SERVER_INHERIT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/address.h"

/* Names of sockets that a process passes on to the one that takes over: whether the file comes along. No name that a
 * service manager gives does. */
#define INHERIT_WITH_FILE "maitred-with-file"
#define INHERIT_WITHOUT_FILE "maitred"

/* Takes LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES out of the environment, so that no child inherits them, and the
 * descriptors, when they are meant for this process. Before it opens any descriptor of its own: a number that is too
 * large must not reach those. What is no listening stream socket is closed, and said. Returns how many there are. */
size_t inherit_open(void);

/* The socket that is bound to exactly this address, non-blocking and closed on exec: the caller's from now on. -1: none.
 * [::]:PORT means both families, so a socket for IPv6 only is not it. *with_file, unless -1: its file comes along. */
int inherit_take(const struct endpoint *endpoint, bool *with_file);

/* Closes those that nobody took, says which, and returns how many. */
size_t inherit_close_rest(void);

#endif
