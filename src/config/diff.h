/* diff.h - what changes between two snapshots: the plan of a reload, for people and for who carries it out.
 *
 * Both snapshots are complete ones from config_load. Options are compared by the rows of table.c, in one canonical
 * form each: "30s" and "30000ms" are no change, nor is a default that somebody wrote out. Sections are the same when
 * listeners have the same kind and address, routes the same matches, pools, servers, queues, topics, workers, gauges and users the same
 * name.
 * Pure; any thread. Errors: 0 or -ENOMEM. */
#ifndef CONFIG_DIFF_H
#define CONFIG_DIFF_H

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"

enum config_part {
    CONFIG_PART_TOP, /* an option outside any section */
    CONFIG_PART_LISTENER,
    CONFIG_PART_ROUTE,
    CONFIG_PART_USER,
    CONFIG_PART_POOL,
    CONFIG_PART_SERVER,
    CONFIG_PART_HEALTH,
    CONFIG_PART_EJECTION,
    CONFIG_PART_QUEUE,
    CONFIG_PART_PUSH,
    CONFIG_PART_RETRY,
    CONFIG_PART_TOPIC,
    CONFIG_PART_WORKERS,
    CONFIG_PART_GAUGE,
};

enum config_change_kind { CONFIG_ADDED, CONFIG_REMOVED, CONFIG_CHANGED };

/* The section that a change is about and those around it, in one of the two snapshots; the others are NULL. */
struct config_side {
    const struct config_http *http; /* of a listener of this kind, and of a route */
    const struct config_tcp *tcp;
    const struct config_amqp *amqp; /* of a listener of this kind, and of a user */
    const struct config_admin *admin;
    const struct config_route *route;
    const struct config_user *user;
    const struct config_pool *pool; /* of a pool, and of all that stands in one */
    const struct config_server *server;
    const struct config_queue *queue; /* of a queue, and of all that stands in one */
    const struct config_topic *topic;
    const struct config_workers *workers;
    const struct config_gauge *gauge;
};

struct config_change {
    enum config_part part;
    enum config_change_kind kind; /* CONFIG_CHANGED: of one option */
    const char *option;           /* its name; NULL: a whole section came or went */
    bool needs_restart;           /* a reload cannot do it */
    struct config_side before;    /* all NULL when it is added */
    struct config_side after;     /* all NULL when it is removed */
    char *text;                   /* "pool web: server a:80: weight 1 -> 3"; printable; shows no secret */
};

/* In the order of the new file; what was removed comes after what is still there, in the order of the old one. */
struct config_diff {
    struct config_change *changes;
    size_t n_changes;
};

/* before and after are borrowed by *diff. On 0 the caller releases it with config_diff_free. */
int config_diff(struct config_diff *diff, const struct config *before, const struct config *after);
void config_diff_free(struct config_diff *diff);

#endif
