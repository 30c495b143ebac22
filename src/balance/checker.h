/* checker.h - one active check of one server: a connection, a question over HTTP, or bytes sent and expected.
 *
 * Whether a result makes the server up or down is health.h's matter. Waits by fiber. */
#ifndef BALANCE_CHECKER_H
#define BALANCE_CHECKER_H

#include "balance/server.h"

#define CHECK_WHY_MAX 96

/* 0, or a negative errno and why it failed, for people. config must stay while it waits. -ECANCELED, and what
 * stream_error_is_ours, say nothing about the server. */
int checker_check(const struct config_health *config, const struct server *server, char why[CHECK_WHY_MAX]);

#endif
