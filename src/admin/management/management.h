/* management.h - the part of RabbitMQ's management HTTP API that tools read and write, at the admin listener: docs/management.md.
 *
 * Who sends the name and password of an AMQP user (HTTP basic authentication) speaks with RabbitMQ's interface wherever that has
 * a path; everybody else with the admin's own, as far as that has it. What only RabbitMQ's has is also open to who has the
 * admin's token. Users see their virtual hosts, administrators all.
 * Threads: the control thread's. */
#ifndef ADMIN_MANAGEMENT_MANAGEMENT_H
#define ADMIN_MANAGEMENT_MANAGEMENT_H

#include <stdbool.h>

#include "base/slice.h"

struct admin;
struct exchange;
struct manager;

/* Whether RabbitMQ's interface has the path with that method. */
bool management_has(const struct exchange *x);
/* Whether it has the path, with some method. */
bool management_has_path(const struct exchange *x);
/* Whether the request comes with a user's name and password. */
bool management_is_user(const struct exchange *x);

/* Answers it, where the host that is asked may be somebody else's. */
void management_refuse_name(struct exchange *x);
/* Answers it. has_token: who asks has the admin's. Waits by fiber. */
void management_serve(struct admin *admin, struct exchange *x, bool has_token);

/* The users of the configuration that was asked for last; NULL is allowed. Nobody is served any more. */
void manager_free(struct manager *manager);

#endif
