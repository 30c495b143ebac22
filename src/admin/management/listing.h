/* listing.h - how RabbitMQ's management interface shows a list: filtered, sorted, a page of it, some columns; from a query.
 *
 * What is shown are values of jansson's. Pure but for the arena of texts; any thread. */
#ifndef ADMIN_MANAGEMENT_LISTING_H
#define ADMIN_MANAGEMENT_LISTING_H

#include <jansson.h>

#include "base/arena.h"

#define LISTING_PAGE_SIZE 100
#define LISTING_PAGE_SIZE_MAX 500

struct listing {
    bool paged;
    uint64_t page, page_size; /* from 1 */
    struct slice name;        /* what a name has to have in it; empty: all are shown */
    bool is_pattern;          /* name is a regular expression */
    struct slice sort;        /* the path of the column, "message_stats.publish"; empty: as they are */
    bool reverse;
    struct slice columns; /* paths, separated by commas; empty: all */
};

/* False: the query makes no sense. */
bool listing_read(struct listing *listing, struct arena *arena, struct slice query);

/* Whether a name is wanted; without regard to case. Not for patterns. */
bool listing_has_name(const struct listing *listing, struct slice name);

/* What stands at a path of names with dots between; NULL: nothing. Borrowed. */
json_t *listing_value(json_t *item, struct slice path);
/* -1, 0, 1: nothing and null are before truths, these before numbers, numbers before texts, and the rest is equal. */
int listing_compare(const json_t *a, const json_t *b);
/* A new value with the columns that the item has; the item itself, referenced, where all are wanted. NULL: no memory. */
json_t *listing_select(const struct listing *listing, json_t *item);

#endif
