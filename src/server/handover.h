/* handover.h - what a process knows of its servers and no file says: changes by hand, and whose checks fail. An upgrade
 * passes it on, so that a server that somebody has drained does not get requests again.
 *
 * Text in a file in memory, a line each: pool, server, drain ("drain", "enable", "-"), weight (0: the file's), and why it
 * is down ("-": it is not), with tabs between. What the other configuration does not have is passed over.
 * Threads: the control thread's. */
#ifndef SERVER_HANDOVER_H
#define SERVER_HANDOVER_H

#include "balance/control.h"

/* A descriptor with all of it, closed on exec, or a negative errno. */
int handover_write(const struct control *control);
/* Takes it from where a write left it, and closes it. */
void handover_read(struct control *control, int fd);

#endif
