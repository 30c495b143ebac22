/* backoff.c - see backoff.h. */
#include "workers/backoff.h"

#include <assert.h>

uint64_t backoff_us(unsigned failures, struct rng *rng)
{
    uint64_t wait_us = BACKOFF_FIRST_US;

    assert(failures);
    while (--failures && wait_us < BACKOFF_MOST_US)
        wait_us *= 2;
    if (wait_us > BACKOFF_MOST_US)
        wait_us = BACKOFF_MOST_US;
    return wait_us + rng_below(rng, wait_us / 4);
}
