/* log_model.c - see log_model.h. */
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "sim/log_model.h"

/* Room for one more; its memory is zeros. */
static void *one_more(void *all, size_t *n, size_t *room, size_t size)
{
    if (*n == *room) {
        *room = *room ? 2 * *room : 64;
        all = realloc(all, *room * size);
        if (!all)
            abort();
    }
    memset((char *)all + *n * size, 0, size);
    (*n)++;
    return all;
}

void model_reset(struct model *model)
{
    model->n = model->n_checkpoints = model->n_promises = 0;
    model->newest = NONE;
}

void model_free(struct model *model)
{
    free(model->records);
    free(model->checkpoints);
    free(model->promises);
}

void model_fill(char *bytes, size_t n, uint64_t content)
{
    struct rng rng = {content};

    for (size_t at = 0; at < n; at += sizeof(uint64_t)) {
        uint64_t some = rng_next(&rng);

        memcpy(bytes + at, &some, n - at < sizeof some ? n - at : sizeof some);
    }
}

struct model_record *model_append(struct model *model)
{
    model->records = one_more(model->records, &model->n, &model->room, sizeof *model->records);
    model->records[model->n - 1].died = NONE;
    return &model->records[model->n - 1];
}

size_t model_at(const struct model *model, uint64_t position)
{
    size_t from = 0, to = model->n;

    while (from < to) {
        size_t middle = from + (to - from) / 2;

        if (model->records[middle].position < position)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

size_t model_next_alive(const struct model *model, size_t i)
{
    while (i < model->n && model->records[i].died != NONE)
        i++;
    return i;
}

struct model_checkpoint *model_begin(struct model *model)
{
    model->checkpoints = one_more(model->checkpoints, &model->n_checkpoints, &model->checkpoints_room,
                                  sizeof *model->checkpoints);
    return &model->checkpoints[model->n_checkpoints - 1];
}

static bool holds(const struct model_checkpoint *checkpoint, const char *bytes, size_t n)
{
    char *state;
    bool same;

    if (checkpoint->bytes != n)
        return false;
    if (n == 0)
        return true;
    state = malloc(n);
    if (!state)
        abort();
    model_fill(state, n, checkpoint->content);
    same = memcmp(state, bytes, n) == 0;
    free(state);
    return same;
}

size_t model_find_checkpoint(const struct model *model, uint64_t position, const char *bytes, size_t n)
{
    for (size_t i = model->n_checkpoints; i-- > 0;)
        if (model->checkpoints[i].position == position && holds(&model->checkpoints[i], bytes, n))
            return i;
    return NONE;
}

void model_promise(struct model *model, uint64_t bytes, size_t maker)
{
    model->promises =
        one_more(model->promises, &model->n_promises, &model->promises_room, sizeof *model->promises);
    model->promises[model->n_promises - 1] = (struct model_promise){bytes, maker, NONE};
}

uint64_t model_promised(const struct model *model)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < model->n_promises; i++)
        bytes += model->promises[i].keeper == NONE ? model->promises[i].bytes : 0;
    return bytes;
}

struct model_promise *model_pick_promise(const struct model *model, uint64_t i)
{
    size_t open = 0;

    for (size_t at = 0; at < model->n_promises; at++)
        open += model->promises[at].keeper == NONE;
    if (open == 0)
        return NULL;
    open = (size_t)(i % open);
    for (size_t at = 0;; at++)
        if (model->promises[at].keeper == NONE && open-- == 0)
            return &model->promises[at];
}

bool model_needs_none(const struct model *model, uint64_t from, uint64_t to)
{
    if (model->newest == NONE || to > model->checkpoints[model->newest].position)
        return false;
    for (size_t i = model_at(model, from); i < model->n && model->records[i].position < to; i++)
        if (model->records[i].died == NONE || model->records[i].died > model->newest)
            return false;
    return true;
}

void model_recover(struct model *model, size_t checkpoint, size_t n)
{
    size_t kept = 0;

    model->n = n;
    model->newest = checkpoint;
    model->n_checkpoints = checkpoint == NONE ? 0 : checkpoint + 1;
    for (size_t i = 0; i < n; i++)
        if (checkpoint == NONE || model->records[i].died > checkpoint)
            model->records[i].died = NONE;
    for (size_t i = 0; i < model->n_promises; i++) {
        struct model_promise promise = model->promises[i];

        if (promise.keeper != NONE && promise.keeper >= n)
            promise.keeper = NONE;
        if (promise.maker < n)
            model->promises[kept++] = promise;
    }
    model->n_promises = kept;
}
