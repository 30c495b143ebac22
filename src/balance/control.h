/* control.h - who is in the pools: names resolved again and again, servers checked, rosters made and sent out.
 *
 * One control for all pools, on one thread. A server given by address is one server. A name is as many as it has
 * addresses: with one it keeps its name (and its points on a hash ring) whatever that address becomes; with several,
 * each is called NAME/ADDRESS. An address that a name no longer has drains: nothing new goes there, what runs there
 * ends by itself. Names are resolved on helper threads and checks are fibers, so nothing here holds the loop. */
#ifndef BALANCE_CONTROL_H
#define BALANCE_CONTROL_H

#include "balance/pool.h"

struct control;

/* Makes the first rosters, waiting for names no longer than deadline_us; a name that is not resolved by then adds
 * no server yet. Waits by fiber. pools are borrowed. NULL: no memory. */
struct control *control_create(struct pool **pools, size_t n, uint64_t deadline_us);
/* The roster of pools[i] as of now: borrowed. For threads that start. */
struct roster *control_roster(const struct control *control, size_t i);
/* Starts the checks and the looking up of names. Every thread is open (pool_thread_open). 0 or -ENOMEM. */
int control_start(struct control *control);
/* Ends them, and frees it. Waits by fiber. */
void control_free(struct control *control);

#endif
