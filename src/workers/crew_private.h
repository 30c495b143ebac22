/* crew_private.h - what crew.c and workers.c do for the files of this room. */
#ifndef WORKERS_CREW_PRIVATE_H
#define WORKERS_CREW_PRIVATE_H

#include "workers/crew.h"

/* Its processes are to be there at all. */
bool crew_runs(const struct crew *crew);
/* Once a second: what it is, and what it should be. */
void crew_tick(struct crew *crew);
/* Frees those that have ended, starts and stops others. In a fiber. */
void crew_settle(struct crew *crew);
/* Of those that were counted last; busy_too: also such as have a message, which they finish. */
void crew_stop_some(struct crew *crew, unsigned n, bool busy_too);
/* It is another one from now on. */
void crew_forget_queue(struct crew *crew);
/* Takes it out of its list. It has no workers. */
void crew_free(struct crew *crew);
/* All of a list. */
void workers_free_gauges(struct list *gauges);

#endif
