/* hash_table.h - an intrusive hash table: the item lives in the thing that is looked for, the table owns its buckets alone.
 *
 * Items are found by their hash; whoever looks compares what it is the hash of. Several may have the same, and they
 * are removed as quickly all the same. A table of zeros is empty and ready. One thread at a time. */
#ifndef BASE_HASH_TABLE_H
#define BASE_HASH_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hash_item {
    struct hash_item *next, **at; /* at: what points to it */
    uint64_t hash;
};

struct hash_table {
    struct hash_item **buckets; /* owned */
    size_t n, n_buckets;        /* n_buckets: a power of two, or none */
};

/* Room for one more. False: no memory, and there is no bucket at all; where there are some they only get fuller. */
bool hash_table_reserve(struct hash_table *table);
/* There is room. */
void hash_table_add(struct hash_table *table, struct hash_item *item, uint64_t hash);
void hash_table_remove(struct hash_table *table, struct hash_item *item);
/* Its items are nobody's any more. */
void hash_table_free(struct hash_table *table);

/* The item, or the next one in its bucket, that has the hash. */
static inline struct hash_item *hash_item_with(struct hash_item *item, uint64_t hash)
{
    while (item && item->hash != hash)
        item = item->next;
    return item;
}

/* The first with the hash, and the next one with the same; NULL: there is none. */
static inline struct hash_item *hash_table_find(const struct hash_table *table, uint64_t hash)
{
    return table->n ? hash_item_with(table->buckets[hash & (table->n_buckets - 1)], hash) : NULL;
}

static inline struct hash_item *hash_table_next(const struct hash_item *item)
{
    return hash_item_with(item->next, item->hash);
}

#endif
