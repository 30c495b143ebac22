/* ring.c - `maitred ring FILE POOL KEY... [--without SERVER]`: a look at a pool's hash ring, without a server.
 *
 * The ring is the one that runs: names, weights and virtual nodes of the file. Every server counts as up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balance/ring.h"
#include "base/hash.h"
#include "command/command.h"
#include "config/config.h"

#define SAMPLE_KEYS 100000

/* A ring over the servers of a pool, but without (when it is not NULL). */
struct view {
    struct ring *ring;
    const struct config_server **servers;
    size_t n;
};

static bool view_open(struct view *view, const struct config_pool *pool, const char *without)
{
    struct ring_member *members = calloc(pool->n_servers, sizeof *members);

    *view = (struct view){.servers = calloc(pool->n_servers, sizeof(struct config_server *))};
    for (size_t i = 0; members && view->servers && i < pool->n_servers; i++) {
        const struct config_server *server = &pool->servers[i];

        if (server->backup || (without && strcmp(server->name, without) == 0))
            continue;
        members[view->n] = (struct ring_member){slice_from_text(server->name), server->weight};
        view->servers[view->n++] = server;
    }
    if (view->n)
        view->ring = ring_create(members, view->n, pool->virtual_nodes);
    free(members);
    return view->ring != NULL;
}

static void view_close(struct view *view)
{
    if (view->ring)
        ring_free(view->ring);
    free(view->servers);
}

static const char *ring_server(const struct view *view, struct slice key)
{
    return view->servers[ring_member_at(view->ring, ring_find(view->ring, hash_bytes(key)))]->name;
}

static const char *modulo_server(const struct view *view, struct slice key)
{
    return view->servers[hash_bytes(key) % view->n]->name;
}

/* How many sample keys change their server, and how many of those had a server that is still there. */
static void count_moves(const struct view *with, const struct view *without, const char *gone,
                        const char *(*server_of)(const struct view *, struct slice), const char *title)
{
    unsigned moved = 0, needless = 0;

    for (unsigned i = 0; i < SAMPLE_KEYS; i++) {
        char key[16];
        struct slice k = slice_of(key, (size_t)snprintf(key, sizeof key, "key-%u", i));
        const char *before = server_of(with, k);

        if (strcmp(before, server_of(without, k)) == 0)
            continue;
        moved++;
        needless += strcmp(before, gone) != 0;
    }
    printf("%-14s %7u (%4.1f %%)  %7u (%4.1f %%)\n", title, moved, 100.0 * moved / SAMPLE_KEYS, needless,
           100.0 * needless / SAMPLE_KEYS);
}

static int show_without(const struct view *with, const struct config_pool *pool, const char *gone)
{
    struct view without;

    if (!view_open(&without, pool, gone)) {
        view_close(&without);
        fprintf(stderr, "maitred ring: pool %s has no server left without %s\n", pool->name, gone);
        return 1;
    }
    printf("\nwithout %s, of %d keys:\n%-14s %17s  %17s\n", gone, SAMPLE_KEYS, "", "move", "had no need to");
    count_moves(with, &without, gone, ring_server, "this ring");
    count_moves(with, &without, gone, modulo_server, "hash modulo N");
    view_close(&without);
    return 0;
}

static bool has_server(const struct config_pool *pool, const char *name)
{
    for (size_t i = 0; i < pool->n_servers; i++)
        if (strcmp(pool->servers[i].name, name) == 0 && !pool->servers[i].backup)
            return true;
    return false;
}

static int show(const struct config_pool *pool, char **keys, int n_keys, const char *without)
{
    struct view view;
    int code = 1;

    if (!view_open(&view, pool, NULL)) {
        fputs("maitred ring: no memory, or no server that is no backup\n", stderr);
    } else if (without && !has_server(pool, without)) {
        fprintf(stderr, "maitred ring: pool %s has no server %s; its servers are:", pool->name, without);
        for (size_t i = 0; i < view.n; i++)
            fprintf(stderr, " %s", view.servers[i]->name);
        fputc('\n', stderr);
    } else {
        for (int i = 0; i < n_keys; i++)
            printf("%-24s %s\n", keys[i], ring_server(&view, slice_from_text(keys[i])));
        code = without ? show_without(&view, pool, without) : 0;
    }
    view_close(&view);
    return code;
}

static int show_pool(const char *file, const char *name, char **keys, int n_keys, const char *without)
{
    struct config *config = command_load(file);
    const struct config_pool *pool;
    int code = 1;

    if (!config)
        return 1;
    pool = config_pool_find(config, name);
    if (!pool)
        fprintf(stderr, "maitred ring: %s has no pool %s\n", file, name);
    else if (pool->balance != BALANCE_CONSISTENT_HASH)
        fprintf(stderr, "maitred ring: pool %s has no ring; it needs `balance = consistent-hash`\n", name);
    else
        code = show(pool, keys, n_keys, without);
    config_unref(config);
    return code;
}

int command_ring(int argc, char **argv)
{
    const char *without = NULL;
    int n = 0; /* arguments that are no option, moved to the front */

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--without") == 0) {
            if (++i == argc)
                return command_misused("ring", "--without which server?");
            without = argv[i];
        } else if (argv[i][0] == '-') {
            return command_misused("ring", "an option that it does not know");
        } else {
            argv[n++] = argv[i];
        }
    }
    if (n < 3 && !(n == 2 && without))
        return command_misused("ring", "it takes a file, a pool, and keys or --without");
    return show_pool(argv[0], argv[1], argv + 2, n - 2, without);
}
