/* admin.h - the admin listener: state, events, actions and metrics of the running system over HTTP (docs/admin.md).
 *
 * Threads: the control thread's. */
#ifndef ADMIN_ADMIN_H
#define ADMIN_ADMIN_H

#include "admin/system.h"

struct admin; /* private to admin.c */

/* system is borrowed. Starts what samples rates. NULL: no memory. In a fiber. */
struct admin *admin_create(struct system *system);
/* Nobody is served any more. Waits by fiber. */
void admin_free(struct admin *admin);

/* Serves one request of the admin listener: http_shared's serve, with the admin as its owner. */
void admin_serve(struct exchange *x, void *owner);

#endif
