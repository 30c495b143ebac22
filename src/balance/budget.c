/* budget.c - see budget.h. Hundredths of a token make the arithmetic exact. */
#include "balance/budget.h"

#define TOKEN 100u

void budget_init(struct budget *budget, unsigned percent)
{
    atomic_init(&budget->percent, percent);
    atomic_init(&budget->hundredths, percent ? (uint64_t)BUDGET_RESERVE * TOKEN : 0);
}

/* A full budget, which is the usual one, is only read: threads do not fight for its cache line. */
void budget_request(struct budget *budget)
{
    uint64_t most = (uint64_t)BUDGET_MOST * TOKEN;
    uint64_t have = atomic_load_explicit(&budget->hundredths, memory_order_relaxed);
    unsigned percent = atomic_load_explicit(&budget->percent, memory_order_relaxed);

    while (have < most) {
        uint64_t more = have + percent < most ? have + percent : most;

        if (atomic_compare_exchange_weak_explicit(&budget->hundredths, &have, more, memory_order_relaxed,
                                                  memory_order_relaxed))
            return;
    }
}

bool budget_take(struct budget *budget)
{
    uint64_t have = atomic_load_explicit(&budget->hundredths, memory_order_relaxed);

    while (have >= TOKEN)
        if (atomic_compare_exchange_weak_explicit(&budget->hundredths, &have, have - TOKEN,
                                                  memory_order_relaxed, memory_order_relaxed))
            return true;
    return false;
}
