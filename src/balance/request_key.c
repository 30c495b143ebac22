/* request_key.c - see request_key.h. */
#include "balance/request_key.h"

#include <stdio.h>

#include "balance/strategy.h"
#include "base/hash.h"

/* The value of a field, cookie or parameter; ptr NULL: the request does not have it. */
static struct slice named_value(const struct config_pool *config, const struct http_request *r)
{
    struct slice value = slice_of(NULL, 0), name = slice_from_text(config->hash_key_name);
    const struct http_field *field;

    switch (config->hash_key) {
    case HASH_KEY_HEADER:
        field = http_field_find(&r->fields, name);
        return field ? field->value : value;
    case HASH_KEY_COOKIE:
        return http_cookie_find(&r->fields, name, &value) ? value : slice_of(NULL, 0);
    case HASH_KEY_QUERY:
        return http_query_find(r->query, name, &value) ? value : slice_of(NULL, 0);
    default:
        return value;
    }
}

static uint64_t key_of_request(const struct config_pool *config, const struct http_request *r,
                               const struct ip *client)
{
    switch (config->hash_key) {
    case HASH_KEY_IP:
        return strategy_ip_key(client);
    case HASH_KEY_HOST:
        return hash_bytes(http_host_of(r->authority));
    case HASH_KEY_PATH:
        return hash_bytes(r->path);
    case HASH_KEY_URI:
        return hash_bytes_seeded(r->query.ptr ? r->query : slice_of(NULL, 0), hash_bytes(r->path));
    default:
        return hash_bytes(named_value(config, r));
    }
}

uint64_t request_key(const struct config_pool *config, const struct http_request *request,
                     const struct ip *client)
{
    switch (strategy_table[config->balance].key) {
    case STRATEGY_KEY_CLIENT:
        return strategy_ip_key(client);
    case STRATEGY_KEY_REQUEST:
        return key_of_request(config, request, client);
    default:
        return 0;
    }
}

static void client_text(const struct ip *client, char *text, size_t room)
{
    char address[INET6_ADDRSTRLEN];

    ip_text(client, address);
    snprintf(text, room, "client address: %s%s", address,
             ip_is_v4(client) ? "" : ", of which the first 64 bits");
}

static void named_text(const struct config_pool *config, const struct http_request *r, char *text,
                       size_t room)
{
    const char *kind = config->hash_key == HASH_KEY_HEADER   ? "header"
                       : config->hash_key == HASH_KEY_COOKIE ? "cookie"
                                                             : "query parameter";
    struct slice value = named_value(config, r);

    if (value.ptr)
        snprintf(text, room, "%s %s: %.*s", kind, config->hash_key_name, SLICE_ARG(value));
    else
        snprintf(text, room, "%s %s: not in the request; all requests without it have the same server", kind,
                 config->hash_key_name);
}

bool request_key_text(const struct config_pool *config, const struct http_request *r, const struct ip *client,
                      char *text, size_t room)
{
    struct slice host = http_host_of(r->authority);
    enum strategy_key key = strategy_table[config->balance].key;

    if (key == STRATEGY_KEY_NONE)
        return false;
    if (key == STRATEGY_KEY_CLIENT || config->hash_key == HASH_KEY_IP)
        client_text(client, text, room);
    else if (config->hash_key == HASH_KEY_HOST)
        snprintf(text, room, "host: %.*s", SLICE_ARG(host));
    else if (config->hash_key == HASH_KEY_PATH)
        snprintf(text, room, "path: %.*s", SLICE_ARG(r->path));
    else if (config->hash_key == HASH_KEY_URI)
        snprintf(text, room, "path and query: %.*s%s%.*s", SLICE_ARG(r->path), r->query.ptr ? "?" : "",
                 (int)r->query.len, r->query.ptr ? r->query.ptr : "");
    else
        named_text(config, r, text, room);
    return true;
}
