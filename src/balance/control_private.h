/* control_private.h - what the files of the control share, and nobody else sees: control.c (pools, rosters, by hand),
 * control_change.c (one configuration after another), member.c (one server section). */
#ifndef BALANCE_CONTROL_PRIVATE_H
#define BALANCE_CONTROL_PRIVATE_H

#include "balance/control.h"
#include "base/event.h"

/* ---- member.c ---- */

/* pool is its configuration, in force or about to be. A name has no server before its first look-up. NULL: no memory. */
struct member *member_open(struct control_pool *cp, const struct config_pool *pool,
                           const struct config_server *config);
/* It is part of the configuration in force from now: checks and look-ups begin, or go on by it. */
void member_start(struct member *member);
/* For good, or until it is started again. Waits by fiber. */
void member_stop_look_ups(struct member *member);
/* Its servers leave. Waits by fiber for what it ends. */
void member_close(struct member *member);
/* Looks its name up once; pool as member_open's, for a member that is not live. Returns whether its servers changed. */
bool member_resolve(struct member *member, const struct config_pool *pool, uint64_t deadline_us);
/* Checks that were by another configuration begin anew; where there are none any more, a server is up. Waits by fiber. */
void member_restart_checks(struct member *member);
struct control_server *member_find_server(struct member *member, struct slice name);

/* What the file says, and what a hand says against it. */
void control_server_configure(struct control_server *cs, const struct config_pool *pool);
void control_server_say(const struct control_server *cs, enum event_kind kind, const char *what,
                        const char *why);
/* It has left. */
void control_server_free(struct control_server *cs);

/* ---- control.c ---- */

/* Of the servers that members have. NULL: no memory. */
struct roster *control_make_roster(struct member *const *members, size_t n_members,
                                   const struct config_pool *config, const struct config *snapshot);
/* After a change, while everything runs: a new roster, for every thread. 0 or -ENOMEM: the old one stays. */
int control_pool_renew(struct control_pool *cp);
/* The same, with what was made before: takes both over. */
void control_pool_publish(struct control_pool *cp, struct roster *roster, struct pool_mailing *mailing);
/* With its members, and what it knows of servers that leave. Waits by fiber, so nobody else may find it any more. */
void control_pool_drop(struct control_pool *cp);
/* Without members. */
void control_pool_free(struct control_pool *cp);

#endif
