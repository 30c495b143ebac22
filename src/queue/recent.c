/* recent.c - see recent.h. */
#include "queue/recent.h"

#include <stdlib.h>
#include <string.h>

#define SMALL 64u

void recent_init(struct recent *recent, size_t item_bytes, uint32_t most)
{
    *recent = (struct recent){.item_bytes = item_bytes, .most = most};
}

void recent_free(struct recent *recent)
{
    free(recent->items);
    free(recent->chains);
    free(recent->buckets);
    recent_init(recent, recent->item_bytes, recent->most);
}

static struct recent_item *item_at(const struct recent *recent, uint64_t number)
{
    return (struct recent_item *)(recent->items + (number & (recent->room - 1)) * recent->item_bytes);
}

static void link_item(struct recent *recent, uint64_t number)
{
    uint32_t place = (uint32_t)(number & (recent->room - 1));
    uint32_t *bucket = &recent->buckets[item_at(recent, number)->hash & (recent->room - 1)];

    recent->chains[place] = *bucket;
    *bucket = place + 1;
}

/* The oldest of its bucket is the last of its chain. */
static void unlink_oldest(struct recent *recent)
{
    uint32_t place = (uint32_t)(recent->first & (recent->room - 1));
    uint32_t *at = &recent->buckets[item_at(recent, recent->first)->hash & (recent->room - 1)];

    while (*at != place + 1)
        at = &recent->chains[*at - 1];
    *at = 0;
}

static bool grow(struct recent *recent)
{
    struct recent grown = *recent;

    grown.room = recent->room ? recent->room * 2 : SMALL < recent->most ? SMALL : recent->most;
    grown.items = malloc(grown.room * grown.item_bytes);
    grown.chains = malloc(grown.room * sizeof *grown.chains);
    grown.buckets = calloc(grown.room, sizeof *grown.buckets);
    if (!grown.items || !grown.chains || !grown.buckets) {
        free(grown.items);
        free(grown.chains);
        free(grown.buckets);
        return false;
    }
    for (uint64_t i = recent->first; i < recent->next; i++) {
        memcpy(item_at(&grown, i), item_at(recent, i), recent->item_bytes);
        link_item(&grown, i);
    }
    free(recent->items);
    free(recent->chains);
    free(recent->buckets);
    *recent = grown;
    return true;
}

void recent_drop_oldest(struct recent *recent)
{
    unlink_oldest(recent);
    recent->first++;
}

bool recent_add(struct recent *recent, const struct recent_item *item)
{
    if (recent->next - recent->first == recent->room && (recent->room == recent->most || !grow(recent))) {
        if (!recent->room)
            return false;
        recent_drop_oldest(recent);
    }
    memcpy(item_at(recent, recent->next), item, recent->item_bytes);
    link_item(recent, recent->next++);
    return true;
}

struct recent_item *recent_find(const struct recent *recent, uint64_t hash,
                                bool (*is_it)(const struct recent_item *item, const void *wanted),
                                const void *wanted)
{
    uint32_t place = recent->room ? recent->buckets[hash & (recent->room - 1)] : 0;

    for (; place; place = recent->chains[place - 1]) {
        struct recent_item *item = item_at(recent, place - 1);

        if (item->hash == hash && is_it(item, wanted))
            return item;
    }
    return NULL;
}

struct recent_item *recent_at(const struct recent *recent, uint64_t i)
{
    return recent->first + i < recent->next ? item_at(recent, recent->first + i) : NULL;
}
