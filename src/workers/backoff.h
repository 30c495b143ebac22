/* backoff.h - how long one that failed waits until it is tried again: longer each time, up to a most, and for ever. Pure. */
#ifndef WORKERS_BACKOFF_H
#define WORKERS_BACKOFF_H

#include <stdint.h>

#include "base/rng.h"

#define BACKOFF_FIRST_US UINT64_C(500000)
#define BACKOFF_MOST_US UINT64_C(30000000)

/* After so many failures in a row, at least 1: twice as long as before, and up to a quarter more by chance, so that those who
 * fail together do not come back together. */
uint64_t backoff_us(unsigned failures, struct rng *rng);

#endif
