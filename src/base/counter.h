/* counter.h - a number that one thread changes and any thread reads.
 *
 * Where each thread has a counter of its own, a count costs a load, an add and a store: no locked instruction, no
 * cache line that travels unless somebody reads. Readers add up the counters of all threads, each of which may be a
 * moment old. As a gauge (open connections) it goes down again, on the thread that writes it. One that went down for what
 * another's went up is below zero by itself, and right in the sum, which wraps back. */
#ifndef BASE_COUNTER_H
#define BASE_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

struct counter {
    _Atomic uint64_t n;
};

static inline uint64_t counter_get(const struct counter *counter)
{
    return atomic_load_explicit(&counter->n, memory_order_relaxed);
}

/* The writing thread only. */
static inline void counter_add(struct counter *counter, uint64_t n)
{
    atomic_store_explicit(&counter->n, counter_get(counter) + n, memory_order_relaxed);
}

/* The writing thread only. */
static inline void counter_sub(struct counter *counter, uint64_t n)
{
    atomic_store_explicit(&counter->n, counter_get(counter) - n, memory_order_relaxed);
}

#endif
