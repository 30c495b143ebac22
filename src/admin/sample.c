/* sample.c - see sample.h. */
#include "admin/sample.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/hash.h"

#define SLOTS_MIN 16u

void sample_init(struct sample *sample, uint64_t now_us)
{
    *sample = (struct sample){.round_us = now_us, .before_us = now_us};
    series_init(&sample->fresh, now_us);
}

void sample_free(struct sample *sample)
{
    for (size_t i = 0; i < sample->n_slots; i++)
        free(sample->slots[i].series);
    free(sample->slots);
    *sample = (struct sample){0};
}

void sample_forget(struct sample *sample)
{
    sample_free(sample);
    sample->blind = true;
}

/* Where key stands, or the free slot where it would. There is a free one. */
static struct sample_slot *find_slot(struct sample_slot *slots, size_t n_slots, const void *key)
{
    size_t at = hash_bytes(slice_of((const char *)&key, sizeof key)) & (n_slots - 1);

    while (slots[at].key && slots[at].key != key)
        at = (at + 1) & (n_slots - 1);
    return &slots[at];
}

/* Moves those that are still there to a table of n_slots, and forgets the others; without memory all stays. */
static void move_slots(struct sample *sample, size_t n_slots, bool with_stale)
{
    struct sample_slot *slots = calloc(n_slots, sizeof *slots);

    if (!slots)
        return;
    for (size_t i = 0; i < sample->n_slots; i++) {
        const struct sample_slot *slot = &sample->slots[i];

        if (!slot->key)
            continue;
        if (with_stale || slot->round == sample->round) {
            *find_slot(slots, n_slots, slot->key) = *slot;
            continue;
        }
        free(slot->series);
        sample->n--;
    }
    free(sample->slots);
    sample->slots = slots;
    sample->n_slots = n_slots;
}

void sample_begin_round(struct sample *sample, uint64_t now_us)
{
    sample->round++;
    sample->before_us = sample->round_us;
    sample->round_us = now_us;
    series_init(&sample->fresh, now_us);
}

/* A slot for a key that has none, with its series. NULL: no memory. */
static struct sample_slot *add_slot(struct sample *sample, const void *key,
                                    const struct series_totals *totals, uint64_t now_us)
{
    struct sample_slot *slot;
    struct series *series;

    if (2 * (sample->n + 1) > sample->n_slots)
        move_slots(sample, sample->n_slots ? 2 * sample->n_slots : SLOTS_MIN, true);
    if (2 * (sample->n + 1) > sample->n_slots)
        return NULL;
    series = malloc(sizeof *series);
    if (!series)
        return NULL;
    if (sample->blind)
        series_init_with(series, totals, now_us);
    else
        series_init(series, sample->before_us);
    slot = find_slot(sample->slots, sample->n_slots, key);
    *slot = (struct sample_slot){.key = key, .series = series};
    sample->n++;
    return slot;
}

void sample_add(struct sample *sample, const void *key, const struct series_totals *totals, uint64_t now_us)
{
    struct sample_slot *slot = sample->n_slots ? find_slot(sample->slots, sample->n_slots, key) : NULL;

    if (!slot || !slot->key)
        slot = add_slot(sample, key, totals, now_us);
    if (!slot)
        return;
    slot->round = sample->round;
    series_add(slot->series, totals, now_us);
}

void sample_end_round(struct sample *sample)
{
    bool stale = false;

    sample->blind = false;
    for (size_t i = 0; i < sample->n_slots; i++)
        stale |= sample->slots[i].key && sample->slots[i].round != sample->round;
    if (stale)
        move_slots(sample, sample->n_slots, false);
}

void sample_add_window(const struct sample *sample, const void *key, const struct series_totals *totals,
                       uint64_t now_us, struct series_window *window)
{
    const struct sample_slot *slot = sample->n_slots ? find_slot(sample->slots, sample->n_slots, key) : NULL;
    const struct series *series = slot && slot->key ? slot->series : &sample->fresh;

    if (!sample->blind)
        series_add_window(window, series, totals, now_us);
}
