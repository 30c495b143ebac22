/* router.c - see router.h.
 *
 * Routes are grouped by host, those of a group by path. A request looks into the groups its host may have,
 * the most specific first, and there tries its own path cut at each length that some route has, the
 * longest first: so the work grows with the number of different lengths, not of routes. All hosts and
 * paths are found by hash. A wildcard stands among the hosts without its star (".example.com"); a
 * request's host never starts with a dot. */
#include "balance/router.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "balance/path.h"
#include "balance/router_private.h"
#include "base/hash.h"

#define NONE ROUTER_NONE
#define HOST_MAX ROUTER_HOST_MAX

/* Texts and their numbers from 0: a hash table with open addressing. */
struct names {
    struct slice *keys; /* owned, each of them too */
    size_t n;
    struct name_slot *slots; /* at least twice as many as keys */
    size_t n_slots;          /* a power of two, or 0 */
};

struct name_slot {
    uint32_t tag;    /* the hash's upper half, to pass over most of the others' */
    uint32_t number; /* from 1; 0: free */
};

struct entry {
    const struct config_route *route;
    size_t conditions;
};

/* The routes of one path, the most conditions first, then by the file's order. */
struct bucket {
    struct entry *entries;
    size_t n;
};

/* The routes of one host. */
struct group {
    struct names paths;     /* in compared form, without a '/' at the end: the root is empty */
    struct bucket *buckets; /* by path number */
    size_t *lengths;        /* the paths' different lengths, longest first */
    size_t n_lengths;
};

struct router {
    const struct config_http *config;
    struct names hosts;
    struct group *groups;  /* by host number */
    size_t longest_suffix; /* of the wildcards; 0: there is none */
    struct group any_host;
};

/* --- names --- */

static size_t names_find(const struct names *names, struct slice key)
{
    uint64_t hash;

    if (!names->n)
        return NONE;
    hash = hash_bytes(key);
    for (size_t at = hash & (names->n_slots - 1);; at = (at + 1) & (names->n_slots - 1)) {
        const struct name_slot *slot = &names->slots[at];

        if (!slot->number)
            return NONE;
        if (slot->tag == (uint32_t)(hash >> 32) && slice_equal(names->keys[slot->number - 1], key))
            return slot->number - 1;
    }
}

static void names_place(struct names *names, size_t number)
{
    uint64_t hash = hash_bytes(names->keys[number]);
    size_t at = hash & (names->n_slots - 1);

    while (names->slots[at].number)
        at = (at + 1) & (names->n_slots - 1);
    names->slots[at] = (struct name_slot){(uint32_t)(hash >> 32), (uint32_t)number + 1};
}

static bool names_grow(struct names *names)
{
    size_t n_slots = names->n_slots ? 2 * names->n_slots : 8;
    struct slice *keys = realloc(names->keys, n_slots / 2 * sizeof *keys);
    struct name_slot *slots = keys ? calloc(n_slots, sizeof *slots) : NULL;

    if (keys)
        names->keys = keys;
    if (!slots)
        return false;
    free(names->slots);
    names->slots = slots;
    names->n_slots = n_slots;
    for (size_t i = 0; i < names->n; i++)
        names_place(names, i);
    return true;
}

/* Adds a key that is not there. Its number, or NONE: no memory. */
static size_t names_add(struct names *names, struct slice key)
{
    char *copy;

    if (names->n == names->n_slots / 2 && !names_grow(names))
        return NONE;
    copy = malloc(key.len ? key.len : 1);
    if (!copy)
        return NONE;
    if (key.len)
        memcpy(copy, key.ptr, key.len);
    names->keys[names->n] = slice_of(copy, key.len);
    names_place(names, names->n);
    return names->n++;
}

static void names_free(struct names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free((char *)(uintptr_t)names->keys[i].ptr);
    free(names->keys);
    free(names->slots);
}

bool router_is_under(struct slice path, size_t prefix_len)
{
    return prefix_len == path.len || (prefix_len < path.len && path.ptr[prefix_len] == '/');
}

/* What follows the first prefix_len bytes of the compared path in the path as sent. Takes asked's path for
 * that. */
static struct slice rest_after(struct router_asked *asked, size_t prefix_len)
{
    struct slice path = asked->request->path;
    struct path_folding f = {
        .text = asked->path_text, .room = sizeof asked->path_text, .watched = prefix_len};
    struct slice rest, at;

    if (!path.len || path.ptr[0] != '/')
        return slice_of(path.ptr + path.len, 0);
    if (asked->request->path_is_plain)
        return slice_of(path.ptr + prefix_len, path.len - prefix_len);
    if (prefix_len)
        path_fold(&f, path);
    rest = slice_of(path.ptr + f.raw_end, path.len - f.raw_end);
    for (at = rest; path_slash_len(at); slice_drop(&at, path_slash_len(at)))
        if (at.ptr[0] == '/')
            rest = at;
    return rest;
}

/* --- what is compared --- */

/* Lower case, without a trailing dot; empty when it is too long for room. */
static struct slice fold_host(struct slice host, char *text, size_t room)
{
    if (host.len && host.ptr[host.len - 1] == '.')
        host.len--;
    if (host.len > room)
        host.len = 0;
    for (size_t i = 0; i < host.len; i++)
        text[i] = (char)(host.ptr[i] >= 'A' && host.ptr[i] <= 'Z' ? host.ptr[i] | 0x20 : host.ptr[i]);
    return slice_of(text, host.len);
}

void router_ask(struct router_asked *asked, const struct http_request *request, bool by_host)
{
    struct slice host = by_host ? http_host_of(request->authority) : slice_of(NULL, 0);

    asked->request = request;
    asked->host = fold_host(host, asked->host_text, sizeof asked->host_text);
    if (asked->host.len && asked->host.ptr[0] == '.')
        asked->host.len = 0;
    if (!request->path.len || request->path.ptr[0] != '/') {
        asked->path = slice_of(asked->path_text, 0);
    } else if (request->path_is_plain) {
        asked->path = request->path;
    } else {
        struct path_folding f = {.text = asked->path_text, .room = sizeof asked->path_text};

        path_fold(&f, request->path);
        asked->path = slice_of(asked->path_text, f.len);
    }
}

bool router_method_fits(const struct config_route *route, const struct http_request *request)
{
    for (size_t i = 0; i < route->n_methods; i++)
        if (slice_equal(route->methods[i], request->method))
            return true;
    return !route->n_methods;
}

static bool header_holds(const struct config_condition *condition, const struct http_fields *fields)
{
    for (unsigned i = 0; i < fields->count; i++)
        if (slice_equal_nocase(fields->at[i].name, condition->name) &&
            (condition->any_value || slice_equal(fields->at[i].value, condition->value)))
            return true;
    return false;
}

static bool condition_holds(const struct config_condition *condition, const struct http_request *request)
{
    struct slice value;
    bool found = false;

    switch (condition->kind) {
    case CONDITION_HEADER:
        return header_holds(condition, &request->fields);
    case CONDITION_COOKIE:
        found = http_cookie_find(&request->fields, condition->name, &value);
        break;
    case CONDITION_QUERY:
        found = http_query_find(request->query, condition->name, &value);
        break;
    }
    return found && (condition->any_value || slice_equal(value, condition->value));
}

const struct config_condition *router_condition_missed(const struct config_route *route,
                                                       const struct http_request *request)
{
    for (size_t i = 0; i < route->n_conditions; i++)
        if (!condition_holds(&route->conditions[i], request))
            return &route->conditions[i];
    return NULL;
}

size_t router_count_conditions(const struct config_route *route)
{
    return route->n_conditions + (route->n_methods > 0);
}

/* --- finding --- */

static const struct config_route *group_find(const struct group *group, const struct router_asked *asked,
                                             size_t *prefix_len)
{
    for (size_t i = 0; i < group->n_lengths; i++) {
        size_t len = group->lengths[i];
        const struct bucket *bucket;
        size_t number;

        if (!router_is_under(asked->path, len))
            continue;
        number = names_find(&group->paths, slice_of(asked->path.ptr, len));
        if (number == NONE)
            continue;
        bucket = &group->buckets[number];
        *prefix_len = len;
        for (size_t j = 0; j < bucket->n; j++) {
            const struct config_route *route = bucket->entries[j].route;

            if (router_method_fits(route, asked->request) && !router_condition_missed(route, asked->request))
                return route;
        }
    }
    return NULL;
}

static const struct config_route *host_find(const struct router *router, struct slice host,
                                            const struct router_asked *asked, size_t *prefix_len)
{
    size_t number = names_find(&router->hosts, host);

    return number == NONE ? NULL : group_find(&router->groups[number], asked, prefix_len);
}

/* The longest suffix first, none longer than any wildcard's. A host does not start with a dot, so that
 * each has at least a byte before it. */
static const struct config_route *wildcard_find(const struct router *router, struct slice host,
                                                const struct router_asked *asked, size_t *prefix_len)
{
    const struct config_route *route = NULL;
    size_t longest = host.len < router->longest_suffix ? host.len : router->longest_suffix;

    slice_drop(&host, host.len - longest);
    for (; !route && host.len; slice_drop(&host, 1))
        if (host.ptr[0] == '.')
            route = host_find(router, host, asked, prefix_len);
    return route;
}

const struct config_route *router_find_asked(const struct router *router, const struct router_asked *asked,
                                             size_t *prefix_len)
{
    const struct config_route *route = NULL;

    if (asked->host.len) {
        route = host_find(router, asked->host, asked, prefix_len);
        if (!route)
            route = wildcard_find(router, asked->host, asked, prefix_len);
    }
    return route ? route : group_find(&router->any_host, asked, prefix_len);
}

const struct config_route *router_find(const struct router *router, const struct http_request *request,
                                       struct slice *rest)
{
    struct router_asked asked;
    const struct config_route *route;
    size_t prefix_len = 0;

    router_ask(&asked, request, router->hosts.n != 0);
    route = router_find_asked(router, &asked, &prefix_len);
    if (route)
        *rest = rest_after(&asked, prefix_len);
    return route;
}

/* --- building --- */

/* The array of n, grown by one, with a gap at position at; NULL: no memory, and it stays as it was. */
static void *open_gap(void *array, size_t n, size_t at, size_t size)
{
    char *grown = realloc(array, (n + 1) * size);

    if (grown)
        memmove(grown + (at + 1) * size, grown + at * size, (n - at) * size);
    return grown;
}

static bool group_add_length(struct group *group, size_t len)
{
    size_t at = 0;
    size_t *lengths;

    while (at < group->n_lengths && group->lengths[at] > len)
        at++;
    if (at < group->n_lengths && group->lengths[at] == len)
        return true;
    lengths = open_gap(group->lengths, group->n_lengths, at, sizeof *lengths);
    if (!lengths)
        return false;
    lengths[at] = len;
    group->lengths = lengths;
    group->n_lengths++;
    return true;
}

/* Its routes come in the file's order, so a new one goes behind its equals. */
static bool bucket_add(struct bucket *bucket, const struct config_route *route)
{
    size_t conditions = router_count_conditions(route);
    size_t at = 0;
    struct entry *entries;

    while (at < bucket->n && bucket->entries[at].conditions >= conditions)
        at++;
    entries = open_gap(bucket->entries, bucket->n, at, sizeof *entries);
    if (!entries)
        return false;
    entries[at] = (struct entry){route, conditions};
    bucket->entries = entries;
    bucket->n++;
    return true;
}

static bool group_add(struct group *group, struct slice path, const struct config_route *route)
{
    size_t number = names_find(&group->paths, path);
    size_t n = group->paths.n;

    if (number == NONE) {
        struct bucket *buckets = open_gap(group->buckets, n, n, sizeof *buckets);

        if (!buckets)
            return false;
        buckets[n] = (struct bucket){NULL, 0};
        group->buckets = buckets;
        if (!group_add_length(group, path.len))
            return false;
        if (names_add(&group->paths, path) == NONE)
            return false;
        number = n;
    }
    assert(group->buckets && number < group->paths.n);
    return bucket_add(&group->buckets[number], route);
}

/* Adds the group of a host that has none. Its number, or NONE: no memory. */
static size_t group_create(struct router *router, struct slice key)
{
    size_t n = router->hosts.n;
    struct group *groups = open_gap(router->groups, n, n, sizeof *groups);

    if (!groups)
        return NONE;
    groups[n] = (struct group){.n_lengths = 0};
    router->groups = groups;
    if (slice_starts_with(key, SLICE(".")) && key.len > router->longest_suffix)
        router->longest_suffix = key.len;
    return names_add(&router->hosts, key);
}

static struct group *group_of_host(struct router *router, struct slice host)
{
    char text[HOST_MAX];
    struct slice key = fold_host(host, text, sizeof text);
    size_t number;

    if (slice_starts_with(key, SLICE("*.")))
        slice_drop(&key, 1);
    number = names_find(&router->hosts, key);
    if (number == NONE)
        number = group_create(router, key);
    return number == NONE ? NULL : &router->groups[number];
}

static int router_add(struct router *router, const struct config_route *route)
{
    char text[ROUTER_PATH_MAX];
    struct path_folding f = {.text = text, .room = sizeof text};
    struct slice path;

    path_fold(&f, route->path);
    if (f.over)
        return -ENAMETOOLONG;
    path = slice_of(text, f.len);
    if (!route->n_hosts && !group_add(&router->any_host, path, route))
        return -ENOMEM;
    for (size_t i = 0; i < route->n_hosts; i++) {
        struct group *group = group_of_host(router, route->hosts[i]);

        if (!group || !group_add(group, path, route))
            return -ENOMEM;
    }
    return 0;
}

struct router *router_create(const struct config_http *config)
{
    struct router *router = calloc(1, sizeof *router);
    int result = router ? 0 : -ENOMEM;

    if (router)
        router->config = config;
    for (size_t i = 0; !result && i < config->n_routes; i++)
        result = router_add(router, &config->routes[i]);
    if (result) {
        router_free(router);
        errno = -result;
        return NULL;
    }
    return router;
}

static void group_free(struct group *group)
{
    for (size_t i = 0; i < group->paths.n; i++)
        free(group->buckets[i].entries);
    free(group->buckets);
    free(group->lengths);
    names_free(&group->paths);
}

const struct config_http *router_config(const struct router *router)
{
    return router->config;
}

void router_free(struct router *router)
{
    if (!router)
        return;
    for (size_t i = 0; i < router->hosts.n; i++)
        group_free(&router->groups[i]);
    free(router->groups);
    names_free(&router->hosts);
    group_free(&router->any_host);
    free(router);
}
