/* hash_table.c - see hash_table.h. */
#include "base/hash_table.h"

#include <stdlib.h>

#define BUCKETS_FIRST 8u

static void put(struct hash_table *table, struct hash_item *item)
{
    struct hash_item **bucket = &table->buckets[item->hash & (table->n_buckets - 1)];

    item->next = *bucket;
    item->at = bucket;
    if (item->next)
        item->next->at = &item->next;
    *bucket = item;
}

bool hash_table_reserve(struct hash_table *table)
{
    struct hash_table grown = {.n = table->n,
                               .n_buckets = table->n_buckets ? table->n_buckets * 2 : BUCKETS_FIRST};

    if (table->n < table->n_buckets)
        return true;
    grown.buckets = calloc(grown.n_buckets, sizeof(struct hash_item *));
    if (!grown.buckets)
        return table->n_buckets != 0;
    for (size_t i = 0; i < table->n_buckets; i++)
        for (struct hash_item *next, *item = table->buckets[i]; item; item = next) {
            next = item->next;
            put(&grown, item);
        }
    free(table->buckets);
    *table = grown;
    return true;
}

void hash_table_add(struct hash_table *table, struct hash_item *item, uint64_t hash)
{
    item->hash = hash;
    table->n++;
    put(table, item);
}

void hash_table_remove(struct hash_table *table, struct hash_item *item)
{
    *item->at = item->next;
    if (item->next)
        item->next->at = item->at;
    table->n--;
}

void hash_table_free(struct hash_table *table)
{
    free(table->buckets);
    *table = (struct hash_table){0};
}
