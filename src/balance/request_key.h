/* request_key.h - what of a request decides its server, where the pool's strategy hashes something.
 *
 * Pure; any thread. */
#ifndef BALANCE_REQUEST_KEY_H
#define BALANCE_REQUEST_KEY_H

#include "config/config.h"
#include "wire/http.h"

/* For strategy_input.key; 0 where the pool's strategy asks for none. */
uint64_t request_key(const struct config_pool *config, const struct http_request *request,
                     const struct ip *client);

/* What is hashed, for people: "cookie user: alice". The value is cut where the text is too small; it always ends in a
 * NUL. False: nothing is hashed. */
bool request_key_text(const struct config_pool *config, const struct http_request *request,
                      const struct ip *client, char *text, size_t room);

#endif
