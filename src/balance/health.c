/* health.c - see health.h. */
#include "balance/health.h"

void health_init(struct health *health, const struct config_health *config, bool up)
{
    *health = (struct health){.rise = config->rise, .fall = config->fall, .up = up};
}

enum health_change health_result(struct health *health, bool ok)
{
    bool first = !health->known;

    health->known = true;
    if (ok == health->up) {
        health->against = 0;
        return HEALTH_NONE;
    }
    health->against++;
    if (!first && health->against < (ok ? health->rise : health->fall))
        return HEALTH_NONE;
    health->against = 0;
    health->up = ok;
    return ok ? HEALTH_WENT_UP : HEALTH_WENT_DOWN;
}

uint64_t health_next_delay_us(const struct health *health, const struct config_health *config,
                              struct rng *rng)
{
    bool fast = health->against && config->fast_interval_us;
    uint64_t base = fast ? config->fast_interval_us : config->interval_us;

    if (!health->known)
        return 0;
    return base - base / 5 + rng_below(rng, base / 5 * 2 + 1);
}

static bool is_ejected(const struct server *server, uint64_t now_us)
{
    return atomic_load(&server->ejected_until_us) > now_us;
}

/* Whether the roster bears it that this server is out. */
static bool may_spare(const struct roster *roster, const struct server *server, uint64_t now_us,
                      const struct config_ejection *config)
{
    uint64_t ejected = 1;
    bool other_usable = false;

    for (size_t i = 0; i < roster->n; i++) {
        const struct server *other = roster->servers[i];

        if (other == server)
            continue;
        if (is_ejected(other, now_us))
            ejected++;
        else if (server_usable(other, now_us))
            other_usable = true;
    }
    return other_usable && ejected * 100 <= (uint64_t)config->share_percent * roster->n;
}

/* Which ejection in a row one at this moment would be: 1 or more. */
static uint64_t ejection_number(const struct server *server, uint64_t now_us,
                                const struct config_ejection *config)
{
    uint64_t before = atomic_load_explicit(&server->ejections_in_row, memory_order_relaxed);
    uint64_t until = atomic_load(&server->ejected_until_us);
    uint64_t forgiven = now_us > until ? (now_us - until) / config->time_us : 0;
    uint64_t most = config->time_most_us / config->time_us + 1;
    uint64_t number = before > forgiven ? before - forgiven + 1 : 1;

    return number < most ? number : most;
}

uint64_t eject_decide(const struct roster *roster, const struct server *server, uint64_t now_us,
                      const struct config_ejection *config)
{
    uint64_t most = config->time_most_us > config->time_us ? config->time_most_us : config->time_us;
    uint64_t number;

    if (!config->failures || !config->time_us)
        return 0;
    if (atomic_load_explicit(&server->failures_in_row, memory_order_relaxed) < config->failures)
        return 0;
    if (!server_usable(server, now_us) || !may_spare(roster, server, now_us, config))
        return 0;
    number = ejection_number(server, now_us, config);
    return now_us + (number <= most / config->time_us ? number * config->time_us : most);
}

/* The order matters, and is sequentially consistent: first the mark is set, then the others are looked at
 * again. Of two threads that eject two servers, at least one sees the other's mark, and takes its own
 * back. */
bool eject_apply(const struct roster *roster, struct server *server, uint64_t now_us,
                 const struct config_ejection *config)
{
    uint64_t was = atomic_load(&server->ejected_until_us);
    uint64_t until = eject_decide(roster, server, now_us, config);
    uint64_t number;

    if (!until)
        return false;
    number = ejection_number(server, now_us, config);
    if (!atomic_compare_exchange_strong(&server->ejected_until_us, &was, until))
        return false;
    if (!may_spare(roster, server, now_us, config)) {
        atomic_store(&server->ejected_until_us, was);
        return false;
    }
    atomic_store_explicit(&server->ejections_in_row, (unsigned)number, memory_order_relaxed);
    atomic_store_explicit(&server->failures_in_row, 0, memory_order_relaxed);
    atomic_store_explicit(&server->up_since_us, until, memory_order_relaxed);
    atomic_fetch_add_explicit(&server->ejections, 1, memory_order_relaxed);
    return true;
}
