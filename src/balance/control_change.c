/* control_change.c - one configuration of the pools takes the place of another; see control.h.
 *
 * Prepare makes all that is needed beside what runs; commit puts it in place, all at once; settle ends what is not there
 * any more; abandon takes away what was prepared. What a pool had is told from what it is to have by its snapshot. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "balance/control_private.h"
#include "balance/line.h"

struct pool_change {
    struct control_pool *pool;
    bool fresh; /* the pool was made for this change */
    struct member *
        *members; /* by index of the new configuration's servers; those that are not live are new */
    size_t n_members;
    struct roster *roster;        /* of a pool that is not fresh */
    struct pool_mailing *mailing; /* likewise */
    struct member **leaving;      /* as many as it had: at commit, those that are not in members */
    size_t n_leaving;
    bool same_checks;
};

struct control_change {
    struct control *control;
    const struct config *config; /* reference */
    uint64_t deadline_us;        /* of the first look-ups */
    size_t n_pools;
    struct pool_change pools[];
};

/* Mostly it stands where it stood. */
static struct member *find_member(const struct control_pool *cp, const struct config_server *config,
                                  size_t hint)
{
    if (hint < cp->n_members && strcmp(cp->members[hint]->config->name, config->name) == 0)
        return cp->members[hint];
    for (size_t i = 0; i < cp->n_members; i++)
        if (strcmp(cp->members[i]->config->name, config->name) == 0)
            return cp->members[i];
    return NULL;
}

struct first_look_up {
    struct member *member;
    const struct config_pool *pool;
    uint64_t deadline_us;
    struct fiber *fiber;
};

static void first_look_up_main(void *arg)
{
    struct first_look_up *look_up = arg;

    member_resolve(look_up->member, look_up->pool, look_up->deadline_us);
}

/* All at the same time; fails for want of memory only. */
static int look_up_new(struct pool_change *pc, const struct config_pool *pool, uint64_t deadline_us)
{
    struct first_look_up *look_ups = calloc(pc->n_members, sizeof *look_ups);
    int error = look_ups ? 0 : -ENOMEM;

    for (size_t i = 0; !error && i < pc->n_members; i++) {
        struct member *member = pc->members[i];

        if (member->live || member->config->address.kind != ADDRESS_NAME)
            continue;
        look_ups[i] = (struct first_look_up){.member = member, .pool = pool, .deadline_us = deadline_us};
        look_ups[i].fiber = fiber_spawn("name look-up", first_look_up_main, &look_ups[i]);
        error = look_ups[i].fiber ? 0 : -ENOMEM;
    }
    for (size_t i = 0; look_ups && i < pc->n_members; i++)
        if (look_ups[i].fiber && fiber_join(look_ups[i].fiber, NEVER) != 0) {
            fiber_cancel_and_join(look_ups[i].fiber);
            error = -ECANCELED;
        }
    free(look_ups);
    return error;
}

static struct control_pool *open_pool(const struct control *control, const struct config_pool *config)
{
    struct control_pool *cp = calloc(1, sizeof *cp);

    if (!cp)
        return NULL;
    cp->pool = pool_create(config, control->n_threads);
    if (!cp->pool) {
        free(cp);
        return NULL;
    }
    cp->mailboxes = control->mailboxes;
    cp->config = config;
    list_init(&cp->list);
    list_init(&cp->leaving);
    return cp;
}

static int open_threads(struct control_pool *cp, struct mailbox *const *mailboxes)
{
    for (unsigned i = 0; i < cp->pool->n_threads; i++) {
        struct pool_thread *pt = &cp->pool->threads[i];
        struct kept *slots = pool_slots(cp->n_slots);

        if (!slots)
            return -ENOMEM;
        pool_thread_open(pt, mailboxes[i]);
        pool_thread_install(pt, cp->roster, slots, cp->n_slots);
    }
    return 0;
}

static int prepare_members(struct pool_change *pc, const struct config_pool *config)
{
    pc->members = calloc(config->n_servers, sizeof(struct member *));
    if (!pc->members)
        return -ENOMEM;
    for (; pc->n_members < config->n_servers; pc->n_members++) {
        const struct config_server *server = &config->servers[pc->n_members];
        struct member *member = find_member(pc->pool, server, pc->n_members);

        if (!member)
            member = member_open(pc->pool, config, server);
        if (!member)
            return -ENOMEM;
        pc->members[pc->n_members] = member;
    }
    return 0;
}

/* The pool, its members, and what their names mean. */
static int prepare_pool(struct control_change *change, struct pool_change *pc,
                        const struct config_pool *config)
{
    int error;

    pc->pool = control_pool_find(change->control, slice_from_text(config->name));
    pc->fresh = !pc->pool;
    if (pc->fresh)
        pc->pool = open_pool(change->control, config);
    if (!pc->pool)
        return -ENOMEM;
    error = prepare_members(pc, config);
    return error ? error : look_up_new(pc, config, change->deadline_us);
}

/* What its threads are to get; once there is nothing more to be waited for. */
static int prepare_roster(struct control_change *change, struct pool_change *pc,
                          const struct config_pool *config)
{
    struct control_pool *cp = pc->pool;
    struct roster *roster = control_make_roster(pc->members, pc->n_members, config, change->config);

    if (!roster)
        return -ENOMEM;
    if (pc->fresh) {
        cp->roster = roster;
        return open_threads(cp, change->control->mailboxes);
    }
    pc->roster = roster;
    pc->mailing = pool_mailing_create(cp->pool, roster, cp->n_slots);
    pc->leaving = calloc(cp->n_members + 1, sizeof(struct member *));
    return pc->mailing && pc->leaving ? 0 : -ENOMEM;
}

struct control_change *control_prepare(struct control *control, const struct config *config,
                                       uint64_t deadline_us)
{
    struct control_change *change = calloc(1, sizeof *change + config->n_pools * sizeof change->pools[0]);
    int error = 0;

    if (!change)
        return NULL;
    change->control = control;
    change->config = config_ref(config);
    change->deadline_us = deadline_us;
    for (; !error && change->n_pools < config->n_pools; change->n_pools++)
        error = prepare_pool(change, &change->pools[change->n_pools], &config->pools[change->n_pools]);
    for (size_t i = 0; !error && i < change->n_pools; i++)
        error = prepare_roster(change, &change->pools[i], &config->pools[i]);
    if (!error)
        return change;
    control_abandon(change);
    return NULL;
}

static void abandon_pool(struct pool_change *pc)
{
    for (size_t i = 0; i < pc->n_members; i++)
        if (!pc->members[i]->live)
            member_close(pc->members[i]);
    free(pc->members);
    free(pc->leaving);
    if (pc->mailing)
        pool_mailing_discard(pc->mailing);
    if (pc->roster)
        roster_unref(pc->roster);
    if (!pc->pool || !pc->fresh)
        return;
    for (unsigned i = 0; i < pc->pool->pool->n_threads; i++)
        pool_thread_close(&pc->pool->pool->threads[i]);
    control_pool_free(pc->pool);
}

void control_abandon(struct control_change *change)
{
    for (size_t i = 0; i < change->n_pools; i++)
        abandon_pool(&change->pools[i]);
    config_unref(change->config);
    free(change);
}

struct pool *control_change_pool(const struct control_change *change, size_t i)
{
    return change->pools[i].pool->pool;
}

/* ---- a change, in force ------------------------------------------------------------------------------------ */

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_health(const struct config_health *a, const struct config_health *b)
{
    return a->active == b->active && same_text(a->path, b->path) && same_text(a->host, b->host) &&
           slice_equal(a->send, b->send) && slice_equal(a->expect, b->expect) &&
           a->status_low == b->status_low && a->status_high == b->status_high &&
           a->interval_us == b->interval_us && a->fast_interval_us == b->fast_interval_us &&
           a->timeout_us == b->timeout_us && a->rise == b->rise && a->fall == b->fall;
}

/* Members that the new configuration does not have go aside. */
static void replace_members(struct pool_change *pc)
{
    struct control_pool *cp = pc->pool;

    for (size_t i = 0; i < pc->n_members; i++)
        pc->members[i]->stays = true;
    for (size_t i = 0; i < cp->n_members; i++)
        if (!cp->members[i]->stays)
            pc->leaving[pc->n_leaving++] = cp->members[i];
    for (size_t i = 0; i < pc->n_members; i++)
        pc->members[i]->stays = false;
    free(cp->members);
    cp->members = pc->members;
    cp->n_members = pc->n_members;
}

static void commit_pool(struct pool_change *pc, const struct config_pool *config,
                        const struct config *snapshot)
{
    struct control_pool *cp = pc->pool;

    pc->same_checks = same_health(&cp->config->health, &config->health);
    replace_members(pc);
    config_unref(cp->snapshot);
    cp->config = config;
    cp->snapshot = config_ref(snapshot);
    atomic_store(&cp->pool->budget.percent, config->retry_budget_percent);
    for (size_t i = 0; i < cp->n_members; i++) {
        cp->members[i]->config = &config->servers[i];
        member_start(cp->members[i]);
    }
    if (!pc->fresh)
        control_pool_publish(cp, pc->roster, pc->mailing);
}

void control_commit(struct control_change *change)
{
    for (size_t i = 0; i < change->n_pools; i++) {
        struct pool_change *pc = &change->pools[i];

        if (pc->fresh)
            list_push_back(&change->control->pools, &pc->pool->list);
        commit_pool(pc, &change->config->pools[i], change->config);
    }
}

/* ---- after it ----------------------------------------------------------------------------------------------- */

static void settle_pool(struct pool_change *pc)
{
    for (size_t i = 0; i < pc->n_leaving; i++)
        member_close(pc->leaving[i]);
    free(pc->leaving);
    for (size_t i = 0; !pc->same_checks && i < pc->pool->n_members; i++)
        member_restart_checks(pc->pool->members[i]);
}

/* Those that are in no configuration any more. */
static void take_gone(struct control *control, const struct config *config, struct list *gone)
{
    struct list *next;

    for (struct list *node = control->pools.next; node != &control->pools; node = next) {
        next = node->next;
        if (container_of(node, struct control_pool, list)->snapshot == config)
            continue;
        list_remove(node);
        list_push_back(gone, node);
    }
}

void control_settle(struct control_change *change)
{
    struct list gone;

    list_init(&gone);
    take_gone(change->control, change->config, &gone); /* before anything is waited for */
    for (size_t i = 0; i < change->n_pools; i++)
        settle_pool(&change->pools[i]);
    while (!list_empty(&gone))
        control_pool_drop(container_of(gone.next, struct control_pool, list));
    config_unref(change->config);
    free(change);
}
