/* control.c - see control.h. Servers that leave are in no roster. */
#include "balance/control.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "balance/control_private.h"
#include "balance/line.h"
#include "base/clock.h"
#include "base/log.h"

/* ---- rosters ----------------------------------------------------------------------------------------------- */

static size_t count_servers(struct member *const *members, size_t n_members)
{
    size_t n = 0;

    for (size_t i = 0; i < n_members; i++)
        for (struct list *node = members[i]->servers.next; node != &members[i]->servers; node = node->next)
            n++;
    return n;
}

struct roster *control_make_roster(struct member *const *members, size_t n_members,
                                   const struct config_pool *config, const struct config *snapshot)
{
    size_t room = count_servers(members, n_members), n = 0;
    struct server **servers = calloc(room + 1, sizeof *servers);
    unsigned *weights = calloc(room + 1, sizeof *weights);
    struct roster *roster = NULL;
    bool has_backups = false;

    for (size_t i = 0; servers && weights && i < n_members; i++) {
        for (struct list *node = members[i]->servers.next; node != &members[i]->servers; node = node->next) {
            const struct control_server *cs = container_of(node, struct control_server, list);

            servers[n] = cs->server;
            weights[n++] = cs->hand.weight ? cs->hand.weight : config->servers[i].weight;
            has_backups |= config->servers[i].backup;
        }
    }
    if (servers && weights)
        roster = roster_create(servers, weights, n, config->balance, config->virtual_nodes);
    free(servers);
    free(weights);
    if (!roster)
        return NULL;
    roster->has_backups = has_backups;
    roster->config = config;
    roster->snapshot = config_ref(snapshot);
    return roster;
}

void control_pool_publish(struct control_pool *cp, struct roster *roster, struct pool_mailing *mailing)
{
    if (cp->roster)
        roster_unref(cp->roster);
    cp->roster = roster;
    pool_mailing_send(mailing, cp->mailboxes);
    line_kick(cp->pool);
}

int control_pool_renew(struct control_pool *cp)
{
    struct roster *roster = control_make_roster(cp->members, cp->n_members, cp->config, cp->snapshot);
    struct pool_mailing *mailing = roster ? pool_mailing_create(cp->pool, roster, cp->n_slots) : NULL;

    if (mailing) {
        control_pool_publish(cp, roster, mailing);
        return 0;
    }
    log_error("pool %s: no memory for a new set of servers; the old one stays", cp->pool->name);
    if (roster)
        roster_unref(roster);
    return -ENOMEM;
}

/* ---- pools -------------------------------------------------------------------------------------------------- */

void control_pool_free(struct control_pool *cp)
{
    while (!list_empty(&cp->leaving))
        control_server_free(container_of(cp->leaving.next, struct control_server, list));
    list_remove(&cp->list);
    if (cp->roster)
        roster_unref(cp->roster);
    if (cp->snapshot)
        config_unref(cp->snapshot);
    pool_unref(cp->pool);
    free(cp->members);
    free(cp->slots);
    free(cp);
}

void control_pool_drop(struct control_pool *cp)
{
    size_t n_members = cp->n_members;

    for (size_t i = 0; i < n_members; i++) /* first: what they find is for all members */
        member_stop_look_ups(cp->members[i]);
    cp->n_members = 0;
    for (size_t i = 0; i < n_members; i++)
        member_close(cp->members[i]);
    line_kick(cp->pool);
    control_pool_free(cp);
}

/* ---- by hand ----------------------------------------------------------------------------------------------- */

struct control_pool *control_pool_find(const struct control *control, struct slice name)
{
    for (struct list *node = control->pools.next; node != &control->pools; node = node->next) {
        struct control_pool *cp = container_of(node, struct control_pool, list);

        if (slice_equal(slice_from_text(cp->pool->name), name))
            return cp;
    }
    return NULL;
}

struct control_server *control_server_find(const struct control_pool *pool, struct slice name)
{
    for (size_t i = 0; i < pool->n_members; i++) {
        struct control_server *cs = member_find_server(pool->members[i], name);

        if (cs)
            return cs;
    }
    return NULL;
}

int control_change_server(struct control_server *cs, enum control_action action, unsigned weight)
{
    struct control_hand before = cs->hand;
    char text[32];
    int error;

    switch (action) {
    case CONTROL_DRAIN:
    case CONTROL_ENABLE:
        cs->hand.set_drain = true;
        cs->hand.drain = action == CONTROL_DRAIN;
        break;
    case CONTROL_WEIGHT:
        cs->hand.weight = weight;
        break;
    case CONTROL_RESET:
        cs->hand = (struct control_hand){0};
        break;
    }
    control_server_configure(cs, cs->pool->config);
    error = control_pool_renew(cs->pool);
    if (error) {
        cs->hand = before;
        control_server_configure(cs, cs->pool->config);
        return error;
    }
    if (cs->hand.set_drain != before.set_drain || cs->hand.drain != before.drain)
        cs->since_us = clock_wall_us();
    snprintf(text, sizeof text, "%u", weight);
    if (action == CONTROL_DRAIN)
        control_server_say(cs, EVENT_SERVER_DRAINED, "drains, by hand", "");
    else if (action == CONTROL_ENABLE)
        control_server_say(cs, EVENT_SERVER_ENABLED, "is enabled, by hand", "");
    else if (action == CONTROL_WEIGHT)
        control_server_say(cs, EVENT_SERVER_WEIGHT, "has a weight set by hand", text);
    else
        control_server_say(cs, EVENT_SERVER_ENABLED, "is as the file says again, by hand", "");
    return 0;
}

int control_restore_server(struct control_server *cs, const struct control_hand *hand, const char *down_why)
{
    struct control_hand before = cs->hand;
    int error;

    if (down_why && cs->checker) {
        snprintf(cs->why, sizeof cs->why, "%s", down_why);
        server_went_down(cs->server);
    }
    cs->hand = *hand;
    control_server_configure(cs, cs->pool->config);
    error = control_pool_renew(cs->pool);
    if (error) {
        cs->hand = before;
        control_server_configure(cs, cs->pool->config);
    }
    return error;
}

/* ---- all pools --------------------------------------------------------------------------------------------- */

struct control *control_create(struct mailbox *const *mailboxes, unsigned n_threads)
{
    struct control *control = calloc(1, sizeof *control);

    if (!control)
        return NULL;
    list_init(&control->pools);
    control->mailboxes = mailboxes;
    control->n_threads = n_threads;
    return control;
}

void control_free(struct control *control)
{
    while (!list_empty(&control->pools))
        control_pool_drop(container_of(control->pools.next, struct control_pool, list));
    free(control);
}

static void forget_left(struct control_pool *cp)
{
    struct list *next;

    for (struct list *node = cp->leaving.next; node != &cp->leaving; node = next) {
        struct control_server *cs = container_of(node, struct control_server, list);

        next = node->next;
        if (!atomic_load(&cs->server->active))
            control_server_free(cs);
    }
}

static void tick_server(struct control_server *cs)
{
    bool ejected = atomic_load(&cs->server->ejected_until_us) > loop_now_us();

    if (cs->was_ejected && !ejected && atomic_load(&cs->server->state) == SERVER_UP) {
        control_server_say(cs, EVENT_SERVER_RETURNED, "takes requests again after its ejection", "");
        line_kick(cs->pool->pool);
    }
    cs->was_ejected = ejected;
}

void control_tick(struct control *control)
{
    for (struct list *node = control->pools.next; node != &control->pools; node = node->next) {
        struct control_pool *cp = container_of(node, struct control_pool, list);

        for (size_t i = 0; i < cp->n_members; i++)
            for (struct list *at = cp->members[i]->servers.next; at != &cp->members[i]->servers;
                 at = at->next)
                tick_server(container_of(at, struct control_server, list));
        forget_left(cp);
    }
}
