/* offload.h - work that blocks, on a helper thread, while a fiber waits for it.
 *
 * The work and the waiting fiber share a job, because either may be done first: a fiber that stops waiting leaves the
 * helper to finish, and the job is freed by itself then. Signals are not delivered to helpers. */
#ifndef FIBER_OFFLOAD_H
#define FIBER_OFFLOAD_H

#include "fiber/loop.h"

/* The first member of the caller's own structure, from malloc. work and free are set by the caller; the rest here. */
struct offload {
    void (*work)(struct offload *job); /* on the helper thread */
    void (*free)(struct offload *job); /* on whichever thread it is forgotten */
    struct mail message;
    struct mailbox *home;
    struct fiber *waiter; /* touched by the loop's thread only; NULL: nobody waits any more */
    bool done;
};

/* 0: work has been done and the job is the caller's again. -EAGAIN: there is no thread to be had; the job is the
 * caller's. -ETIMEDOUT, -ECANCELED: the job is not the caller's any more. */
int offload_run(struct offload *job, uint64_t deadline_us);

#endif
