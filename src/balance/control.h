/* control.h - who is in the pools: servers checked, names resolved again and again, rosters made and sent out.
 *
 * One control for all pools, on one thread, the control thread. A configuration takes effect in two steps: prepare
 * makes what is new and may fail, commit cannot. Pools and servers are known by their names: those that a new
 * configuration has too keep their counters, health and connections, and what was changed by hand.
 * A server given by address is one server. A name is as many as it has addresses: with one it keeps its name (and its
 * points on a hash ring) whatever that address becomes; with several, each is called NAME/ADDRESS. A server that
 * is there no more leaves: nothing new goes to it, what runs there ends by itself.
 * Names are resolved on helper threads and checks are fibers, so nothing here holds the loop.
 * Threads: all of it is the control thread's. */
#ifndef BALANCE_CONTROL_H
#define BALANCE_CONTROL_H

#include "balance/checker.h"
#include "balance/pool.h"

/* A server as the control thread knows it. */
struct control_server {
    struct list list; /* of its member's servers, or of those that leave */
    struct control_pool *pool;
    struct member *member;
    struct server *server; /* reference */
    struct fiber *checker; /* NULL: not checked */
    struct rng rng;
    uint64_t checks_ok, checks_failed;
    uint64_t since_us; /* wall time of its coming, or of what last changed it: health, or a drain by hand */
    char why[CHECK_WHY_MAX]; /* it is down; empty when up */
    bool seen;               /* by the look-up under way */
    bool was_ejected;        /* at the last tick */
    struct control_hand {    /* what a person changed; it stands against the file */
        bool set_drain, drain;
        unsigned weight; /* 0: the file's */
    } hand;
};

/* One server section: a fixed address, or a name. */
struct member {
    struct control_pool *pool;
    const struct config_server *config; /* of the pool's configuration as of now */
    struct list servers;                /* struct control_server */
    struct fiber *resolver;             /* NULL: nobody looks up */
    bool live;                          /* its configuration is in force */
    bool stays;                         /* in the change that is being committed */
    bool failing; /* a look-up failed, which was said and is not again until one works */
};

struct control_pool {
    struct list list; /* of the control's pools, in no order */
    struct pool *pool;
    struct mailbox *const *mailboxes; /* the control's */
    const struct config_pool *config;
    const struct config *snapshot; /* reference: what config is part of */
    struct roster *roster;         /* reference */
    struct member **members;       /* by index of config->servers */
    size_t n_members;
    struct list leaving; /* struct control_server: of requests that still run there */
    struct server **slots;
    unsigned n_slots;
};

struct control {
    struct list pools; /* struct control_pool */
    unsigned n_threads;
    struct mailbox *const *mailboxes; /* borrowed; by thread */
};

struct control_change; /* private to control.c */

/* mailboxes of n_threads threads, borrowed. NULL: no memory. */
struct control *control_create(struct mailbox *const *mailboxes, unsigned n_threads);
/* Every thread has let go of its pools. Waits by fiber. */
void control_free(struct control *control);

/* What config asks for beyond what is there, waiting for new names no longer than deadline_us; a name that is not
 * resolved by then adds no server yet. Waits by fiber; one at a time. NULL: no memory; nothing has changed. */
struct control_change *control_prepare(struct control *control, const struct config *config,
                                       uint64_t deadline_us);
/* config is in force: rosters are on their way to the threads, checks and look-ups run. Does not wait. */
void control_commit(struct control_change *change);
/* After commit: ends what config does not have, and frees change. Waits by fiber. */
void control_settle(struct control_change *change);
/* It is not to be. */
void control_abandon(struct control_change *change);
/* The pool of config->pools[i], for the threads' scenes; borrowed until commit or abandon. */
struct pool *control_change_pool(const struct control_change *change, size_t i);

struct control_pool *control_pool_find(const struct control *control, struct slice name);
struct control_server *control_server_find(const struct control_pool *pool, struct slice name);

enum control_action { CONTROL_DRAIN, CONTROL_ENABLE, CONTROL_WEIGHT, CONTROL_RESET };

/* Changes a server by hand; weight is CONTROL_WEIGHT's, 1 to 256. 0 or -ENOMEM. */
int control_change_server(struct control_server *cs, enum control_action action, unsigned weight);

/* What another process knew of the server: what was done by hand, and that its checks failed (why; NULL: they did not),
 * which its next check confirms or not. 0 or -ENOMEM: nothing has changed. */
int control_restore_server(struct control_server *cs, const struct control_hand *hand, const char *down_why);

/* Once a second: says whose ejection has ended, lets those in line know, and forgets servers that have left. */
void control_tick(struct control *control);

#endif
