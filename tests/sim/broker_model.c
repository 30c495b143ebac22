/* broker_model.c - see broker_model.h. */
#include "sim/broker_model.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

const char *queue_name(int queue)
{
    static const char *const names[QUEUES_MAX] = {"a", "b", "c", "d", "e", "f"};

    return names[queue];
}

int queue_by_name(struct slice name)
{
    for (int i = 0; i < QUEUES_MAX; i++)
        if (slice_equal(slice_from_text(queue_name(i)), name))
            return i;
    return -1;
}

int queue_by_id(const struct model *m, uint32_t id)
{
    for (int i = 0; i < QUEUES_MAX; i++)
        if (m->queues[i].there && m->queues[i].id == id)
            return i;
    return -1;
}

struct entry *entry_add(struct model *m, uint64_t number)
{
    size_t at = m->n;

    if (m->n == m->room) {
        m->room = m->room ? m->room * 2 : 256;
        m->entries = realloc(m->entries, m->room * sizeof *m->entries);
        if (!m->entries)
            abort();
    }
    while (at && m->entries[at - 1].number > number)
        at--;
    memmove(m->entries + at + 1, m->entries + at, (m->n++ - at) * sizeof *m->entries);
    m->entries[at] = (struct entry){.number = number};
    return &m->entries[at];
}

/* Numbers grow from entry to entry. */
struct entry *entry_find(const struct model *m, int queue, uint32_t queue_id, uint64_t number)
{
    size_t low = 0, high = m->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (m->entries[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < m->n && m->entries[low].number == number; low++)
        if (m->entries[low].queue == queue && m->entries[low].queue_id == queue_id)
            return &m->entries[low];
    return NULL;
}

static unsigned level_of(const struct model *m, const struct entry *e)
{
    unsigned most = m->queues[e->queue].options.priorities;

    return e->priority < most ? e->priority : most;
}

bool entry_is_before(const struct model *m, const struct entry *o, const struct entry *e)
{
    unsigned a = level_of(m, o), b = level_of(m, e);

    return a != b ? a > b : o->number < e->number;
}

uint64_t entry_expires_us(const struct model *m, const struct entry *e)
{
    uint64_t most = m->queues[e->queue].options.max_age_us;

    if (e->ttl_us && (!most || e->ttl_us < most))
        most = e->ttl_us;
    return most ? e->queued_us / US_PER_MS * US_PER_MS + most : UINT64_MAX;
}

bool consumer_counts(const struct model *m, const struct model_consumer *c, int queue)
{
    return c->there && !c->stopped && !c->options.on_demand && c->queue == queue && m->queues[queue].there &&
           c->queue_id == m->queues[queue].id;
}

unsigned queue_consumers(const struct model *m, int queue)
{
    unsigned n = 0;

    for (int i = 0; i < CONSUMERS_MAX; i++)
        n += consumer_counts(m, &m->consumers[i], queue);
    return n;
}

void queue_used(struct model *m, int queue, uint64_t now_us)
{
    struct model_queue *q = &m->queues[queue];

    q->idle_at_us =
        q->options.idle_us && !queue_consumers(m, queue) ? now_us + q->options.idle_us : UINT64_MAX;
}

void queue_remove(struct model *m, int queue)
{
    m->queues[queue].there = m->queues[queue].paused = false;
    m->queues[queue].owner = -1;
    bindings_remove_to(m, queue, false);
}

static bool window_is_full(const struct model *m, int window)
{
    unsigned n = 0;

    if (window < 0 || !m->windows[window].prefetch)
        return false;
    for (int i = 0; i < CONSUMERS_MAX; i++)
        for (unsigned k = 0; k < BROKER_WINDOWS; k++)
            n +=
                m->consumers[i].there && m->consumers[i].windows[k] == window ? m->consumers[i].in_flight : 0;
    return n >= m->windows[window].prefetch;
}

bool consumer_has_room(const struct model *m, const struct model_consumer *c, uint64_t now_us)
{
    const struct broker_consumer_options *o = &c->options;

    if (!o->auto_ack && ((o->prefetch && c->in_flight >= o->prefetch) || window_is_full(m, c->windows[0]) ||
                         window_is_full(m, c->windows[1])))
        return false;
    return c->hold_until_us <= now_us && (!o->transit_most || c->transit < o->transit_most);
}

bool consumer_is_active(const struct model *m, const struct model_consumer *c)
{
    for (int i = 0; i < CONSUMERS_MAX && m->queues[c->queue].options.single_active; i++)
        if (consumer_counts(m, &m->consumers[i], c->queue) && m->consumers[i].order < c->order)
            return false;
    return consumer_counts(m, c, c->queue);
}

uint64_t queue_waiting(const struct model *m, int queue, uint64_t *bytes)
{
    uint64_t n = 0;

    *bytes = 0;
    for (size_t i = 0; i < m->n; i++) {
        const struct entry *e = &m->entries[i];

        if (e->queue != queue || e->queue_id != m->queues[queue].id || e->state == GONE || e->state == FLIES)
            continue;
        n++;
        *bytes += e->bytes;
    }
    return n;
}

struct model_key *key_find(const struct model *m, uint32_t address, uint64_t key, uint64_t now_us)
{
    for (size_t i = m->n_keys; i-- > 0;)
        if (m->keys[i].key == key && m->keys[i].address == address && m->keys[i].until_us > now_us)
            return &m->keys[i];
    return NULL;
}

void key_add(struct model *m, const struct model_key *key)
{
    if (m->n_keys == m->keys_room) {
        m->keys_room = m->keys_room ? m->keys_room * 2 : 32;
        m->keys = realloc(m->keys, m->keys_room * sizeof *m->keys);
        if (!m->keys)
            abort();
    }
    m->keys[m->n_keys++] = *key;
}

void model_clear(struct model *m)
{
    struct model empty = {.entries = m->entries, .room = m->room, .keys = m->keys, .keys_room = m->keys_room};

    *m = empty;
    m->next_number = 1;
}
