/* pool_explain.c - see pool_explain.h. */
#include "balance/pool_explain.h"

#include <errno.h>
#include <stdlib.h>

#include "balance/request_key.h"

/* As line_enter does it: those with a place first, but a client that stays with its server waits for that one. */
static void choose(struct pool_explanation *e, const struct pool_thread *pt, struct strategy_input *input)
{
    bool pinned = strategy_table[e->roster->strategy].key == STRATEGY_KEY_CLIENT;

    input->skip_full = !pinned;
    e->choice = strategy_peek(e->roster, &pt->strategy, input);
    e->outcome = POOL_TAKES;
    if (!e->choice) {
        input->skip_full = false;
        e->choice = strategy_peek(e->roster, &pt->strategy, input);
        e->outcome = e->choice ? POOL_WAITS : POOL_HAS_NONE;
    } else if (pinned && server_full(e->choice)) {
        e->outcome = POOL_WAITS;
    }
    if (e->outcome == POOL_WAITS && e->in_line >= pt->config->max_queue)
        e->outcome = POOL_LINE_FULL;
    input->skip_full = true;
    strategy_judge(e->roster, input, e->verdicts);
}

int pool_explanation_fill(struct pool_explanation *e, const struct pool_thread *pt,
                          const struct http_request *request, const struct ip *client)
{
    struct strategy_input input = {
        .now_us = loop_now_us(),
        .key = request_key(pt->config, request, client),
        .slow_start_us = pt->config->health.slow_start_us,
        .load_bound = pt->config->load_bound,
    };

    *e = (struct pool_explanation){.outcome = POOL_HAS_NONE, .in_line = atomic_load(&pt->pool->in_line)};
    if (!pt->roster)
        return 0;
    e->verdicts = calloc(pt->roster->n + 1, sizeof *e->verdicts);
    if (!e->verdicts)
        return -ENOMEM;
    e->roster = roster_ref(pt->roster);
    choose(e, pt, &input);
    return 0;
}

void pool_explanation_free(struct pool_explanation *e)
{
    if (e->roster)
        roster_unref(e->roster);
    free(e->verdicts);
    *e = (struct pool_explanation){.outcome = POOL_HAS_NONE};
}
