/* requests.h - the last requests that were answered, numbered, and which of them somebody wants to see.
 *
 * Taken from the serving threads' rings (front/tail.h) a few times a second while somebody has asked within REQUESTS_WATCH_US;
 * otherwise nothing is kept. Memory: 0.6 MiB, from the first question to the end.
 * Threads: the control thread's. */
#ifndef ADMIN_REQUESTS_H
#define ADMIN_REQUESTS_H

#include "base/json.h"
#include "front/tail.h"
#include "http/exchange.h"

#define REQUESTS_KEPT 1000
#define REQUESTS_WATCH_US (60 * US_PER_S)

struct requests {
    struct tail *tail;       /* borrowed */
    struct tail_entry *ring; /* owned; by id modulo REQUESTS_KEPT; NULL: nobody has asked yet */
    uint64_t last_id;        /* 0: none yet */
    uint64_t of;             /* requests that those in the ring stand for */
    uint64_t until_us;       /* it is watched */
    struct fiber *collector;
    struct wait_queue asked, followers; /* followers: woken when there are new ones, and by each event */
};

/* NULL: no memory. In a fiber. */
struct requests *requests_create(struct tail *tail);
/* Waits by fiber. Takes NULL. */
void requests_free(struct requests *requests);

/* Somebody asks: requests are kept from now on, and what there is is taken. 0 or -ENOMEM. */
int requests_want(struct requests *requests);
/* How many are there: those with the numbers up to last_id. */
uint64_t requests_count(const struct requests *requests);
/* A copy. False: there is none of that number, or not any more. */
bool requests_get(const struct requests *requests, uint64_t id, struct tail_entry *entry);

/* What somebody wants to see; slices in the arena of the exchange that asks, ptr NULL: any. */
struct request_filter {
    struct slice route, pool, path; /* path: is found in it */
    unsigned status_least, status_most;
    uint64_t slower_us;
    uint64_t max;
    bool is_since; /* since was given */
    uint64_t since;
};

/* By x's query. NULL, or what is wrong with it; what to do. */
const char *request_filter_read(struct request_filter *filter, struct exchange *x);
bool request_filter_takes(const struct request_filter *filter, const struct tail_entry *entry);

void request_put(struct json *json, uint64_t id, const struct tail_entry *entry);

#endif
