/* handover.h - what a process knows and no file says: changes by hand, whose checks fail, how many workers there are, what gauges
 * were told. An upgrade passes it on, so that a server that somebody has drained does not get requests again.
 *
 * Text in a file in memory, a line each, with tabs between. Of a server: pool, server, drain ("drain", "enable", "-"), weight
 * (0: the file's), and why it is down ("-": it is not). No pool is named "", so other lines begin with nothing, and their kind:
 * "workers", section, hand ("paused", "set", "-"), the number that was set, and how many there are to be; "gauge", gauge, value,
 * and how many microseconds ago it was told. What the other configuration does not have is passed over.
 * Threads: the control thread's. */
#ifndef SERVER_HANDOVER_H
#define SERVER_HANDOVER_H

#include "balance/control.h"
#include "workers/workers.h"

/* A descriptor with all of it, closed on exec, or a negative errno. */
int handover_write(const struct control *control, const struct workers *workers);
/* Takes it from where a write left it, and closes it. */
void handover_read(struct control *control, struct workers *workers, int fd);

#endif
