/* budget.h - how many retries a pool may make, so that they cannot multiply the load of a pool that fails.
 *
 * Every request pays percent/100 of a token in, every retry takes a whole one out. At most BUDGET_MOST are
 * kept, BUDGET_RESERVE are there at the start, before there were requests to pay. percent 0: never a
 * retry. Any thread. */
#ifndef BALANCE_BUDGET_H
#define BALANCE_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define BUDGET_MOST 1000u
#define BUDGET_RESERVE 100u

struct budget {
    _Atomic unsigned percent;    /* a reload may set another */
    _Atomic uint64_t hundredths; /* of a token */
};

void budget_init(struct budget *budget, unsigned percent);
/* A request came: once each, not for its retries. */
void budget_request(struct budget *budget);
/* Whether a retry may be made; it is paid for when it may. */
bool budget_take(struct budget *budget);

#endif
