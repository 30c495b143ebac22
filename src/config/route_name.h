/* route_name.h - what a route is called in metrics and messages: its path, and all else that it asks of a request.
 *
 * "/ host=beta.localhost methods=GET,HEAD header:X-Preview=yes cookie:canary". Equal for routes that match the same
 * requests, whatever the order of their conditions, but for the case of a header's name; so unique in a listener. ASCII
 * without control characters: other bytes, '%' and what separates parts are percent-encoded. Pure; any thread. */
#ifndef CONFIG_ROUTE_NAME_H
#define CONFIG_ROUTE_NAME_H

#include "config/config.h"
#include "config/store.h"

/* The route is complete, but for its pool. The name lives in the store; NULL: no memory. */
const char *config_route_name(struct config_store *store, const struct config_route *route);

#endif
