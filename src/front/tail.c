/* tail.c - see tail.h.
 *
 * A ring's positions only grow: `written` is its thread's, `taken` the control thread's; what lies between belongs to the reader, the
 * rest to the writer. */
#include "front/tail.h"

#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>

#include "balance/server.h"
#include "base/clock.h"
#include "base/counter.h"

#define RING 1024u /* a power of two: half a second of all that may be kept */
#define WINDOW_US (100 * US_PER_MS)
#define KEPT_A_WINDOW (TAIL_RATE / 10)

/* How many of one kind of request are kept: the n-th of each n, where n comes from how many there were in the window before. */
struct share {
    unsigned seen, kept, n;
};

struct tail_thread {
    alignas(CACHE_LINE) _Atomic(struct tail_entry *) ring; /* owned; NULL: nobody has watched yet */
    _Atomic unsigned written;
    /* Its thread's alone. */
    uint64_t window_us; /* when it began */
    uint64_t passed;    /* since the last one that was kept */
    struct share good, failed;
    alignas(CACHE_LINE) _Atomic unsigned taken;
};

struct tail {
    _Atomic uint64_t until_us;
    unsigned n_threads;
    struct tail_thread threads[];
};

struct tail *tail_create(unsigned n_threads)
{
    size_t bytes = sizeof(struct tail) + n_threads * sizeof(struct tail_thread);
    struct tail *tail = aligned_alloc(alignof(struct tail), bytes);

    if (!tail)
        return NULL;
    memset(tail, 0, bytes);
    tail->n_threads = n_threads;
    return tail;
}

void tail_free(struct tail *tail)
{
    for (unsigned i = 0; tail && i < tail->n_threads; i++)
        free(atomic_load(&tail->threads[i].ring));
    free(tail);
}

/* ---- the serving threads' side ----------------------------------------------------------------------------- */

bool tail_is_watched(const struct tail *tail, uint64_t now_us)
{
    return now_us < atomic_load_explicit(&tail->until_us, memory_order_relaxed);
}

static void begin_window(struct share *share)
{
    *share = (struct share){.n = 1 + share->seen / KEPT_A_WINDOW};
}

static bool takes_part(struct share *share)
{
    return share->seen++ % share->n == 0 && share->kept++ < KEPT_A_WINDOW;
}

static bool is_kept(struct tail_thread *at, uint64_t now_us, unsigned status)
{
    if (now_us - at->window_us >= WINDOW_US) {
        if (now_us - at->window_us >= 2 * WINDOW_US)
            at->good = at->failed = (struct share){0}; /* there was a window without any */
        begin_window(&at->good);
        begin_window(&at->failed);
        at->window_us = now_us;
    }
    return takes_part(status >= 500 ? &at->failed : &at->good);
}

static void fill(struct tail_entry *entry, const struct tail_request *request)
{
    static const uint8_t most[N_TAIL_TEXTS] = {
        [TAIL_LISTENER] = 64, [TAIL_METHOD] = 16, [TAIL_HOST] = 64,  [TAIL_PATH] = 128,  [TAIL_ROUTE] = 64,
        [TAIL_POOL] = 64,     [TAIL_SERVER] = 64, [TAIL_QUEUE] = 64, [TAIL_CLIENT] = 46,
    };
    char *end = entry->text;

    for (size_t i = 0; i < N_TAIL_TEXTS; i++) {
        size_t len = request->texts[i].len < most[i] ? request->texts[i].len : most[i];

        if (len)
            memcpy(end, request->texts[i].ptr, len);
        entry->lengths[i] = (uint8_t)len;
        end += len;
    }
    entry->wall_us = clock_wall_us();
    entry->duration_us = request->duration_us;
    entry->bytes = request->bytes;
    entry->status = (uint16_t)request->status;
}

bool tail_wants(struct tail *tail, unsigned thread, uint64_t now_us, unsigned status)
{
    struct tail_thread *at = &tail->threads[thread];
    unsigned written = atomic_load_explicit(&at->written, memory_order_relaxed);

    if (!atomic_load_explicit(&at->ring, memory_order_acquire))
        return false;
    at->passed++;
    /* In a full ring it is dropped; the next one stands for it, too. */
    return is_kept(at, now_us, status) &&
           written - atomic_load_explicit(&at->taken, memory_order_acquire) < RING;
}

void tail_put(struct tail *tail, unsigned thread, const struct tail_request *request)
{
    struct tail_thread *at = &tail->threads[thread];
    unsigned written = atomic_load_explicit(&at->written, memory_order_relaxed);
    struct tail_entry *entry = &atomic_load_explicit(&at->ring, memory_order_relaxed)[written % RING];

    entry->stands_for = at->passed;
    at->passed = 0;
    fill(entry, request);
    atomic_store_explicit(&at->written, written + 1, memory_order_release);
}

/* ---- the control thread's side ----------------------------------------------------------------------------- */

int tail_watch(struct tail *tail, uint64_t until_us)
{
    for (unsigned i = 0; i < tail->n_threads; i++) {
        struct tail_thread *at = &tail->threads[i];
        struct tail_entry *ring = atomic_load_explicit(&at->ring, memory_order_relaxed);

        if (ring)
            continue;
        ring = calloc(RING, sizeof *ring);
        if (!ring)
            return -ENOMEM;
        atomic_store_explicit(&at->ring, ring, memory_order_release);
    }
    atomic_store_explicit(&tail->until_us, until_us, memory_order_relaxed);
    return 0;
}

/* NULL: nothing is there. */
static const struct tail_entry *oldest_of(const struct tail_thread *at)
{
    unsigned taken = atomic_load_explicit(&at->taken, memory_order_relaxed);

    if (atomic_load_explicit(&at->written, memory_order_acquire) == taken)
        return NULL;
    return &atomic_load_explicit(&at->ring, memory_order_relaxed)[taken % RING];
}

bool tail_take(struct tail *tail, struct tail_entry *entry)
{
    const struct tail_entry *oldest = NULL;
    struct tail_thread *from = NULL;

    for (unsigned i = 0; i < tail->n_threads; i++) {
        const struct tail_entry *its = oldest_of(&tail->threads[i]);

        if (!its || (oldest && oldest->wall_us <= its->wall_us))
            continue;
        oldest = its;
        from = &tail->threads[i];
    }
    if (!oldest)
        return false;
    *entry = *oldest;
    atomic_fetch_add_explicit(&from->taken, 1, memory_order_release);
    return true;
}

struct slice tail_text(const struct tail_entry *entry, enum tail_text which)
{
    const char *at = entry->text;

    for (size_t i = 0; i < which; i++)
        at += entry->lengths[i];
    return slice_of(at, entry->lengths[which]);
}
