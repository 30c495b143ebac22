/* publishers.c - see publishers.h. */
#include "publishers.h"

#include <time.h>

#include "common.h"

#define RING_BYTES (256u << 10)
#define SPREAD_MIN \
    1024 /* answers may come in another order: the window counts, this is how far it may stretch */

uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

static void *must_allocate(size_t bytes)
{
    void *memory = calloc(1, bytes);

    if (!memory)
        fail("calloc");
    return memory;
}

static void open_one(struct publishers *ps, struct publisher *p, uint32_t id, const char *message)
{
    p->id = id;
    p->next = p->oldest = 1;
    p->ring = must_allocate(ps->slots * ps->message_bytes);
    p->due_ns = must_allocate(ps->spread * sizeof(*p->due_ns));
    for (size_t i = 0; i < ps->slots; i++)
        memcpy(p->ring + i * ps->message_bytes, message, ps->message_bytes);
}

void publishers_open(struct publishers *ps, const char *message, size_t bytes, size_t stamp_at)
{
    ps->message_bytes = bytes;
    ps->stamp_at = stamp_at;
    ps->slots = RING_BYTES / bytes + 1;
    if (ps->window && ps->window < ps->slots)
        ps->slots = ps->window;
    ps->spread = SPREAD_MIN;
    while (ps->spread < 4 * ps->window)
        ps->spread *= 2;
    for (unsigned i = 0; i < ps->n; i++)
        open_one(ps, &ps->all[i], i, message);
}

void publishers_start(struct publishers *ps, uint64_t now, uint64_t rate, uint64_t left)
{
    ps->start_ns = now;
    ps->rate = rate;
    ps->left = left;
    ps->due = ps->published = ps->confirmed = ps->nacked = ps->strange = ps->last_ns = ps->sent_ns = 0;
    memset(&ps->latencies, 0, sizeof(ps->latencies));
}

/* ---- sending ------------------------------------------------------------------------------------------------- */

static uint64_t put_bytes(const struct publishers *ps, const struct publisher *p)
{
    return (p->next - 1) * ps->message_bytes;
}

static bool has_room(const struct publishers *ps, const struct publisher *p)
{
    if (ps->window && (p->in_flight >= ps->window || p->next - p->oldest >= ps->spread))
        return false;
    return put_bytes(ps, p) - p->sent_bytes <= (ps->slots - 1) * ps->message_bytes;
}

static void put(struct publishers *ps, struct publisher *p, uint64_t due_ns)
{
    char *message = p->ring + (p->next - 1) % ps->slots * ps->message_bytes;
    struct stamp stamp = {due_ns, p->next, p->id, ps->run};

    memcpy(message + ps->stamp_at, &stamp, sizeof(stamp));
    if (ps->window) {
        p->due_ns[p->next & (ps->spread - 1)] = due_ns;
        p->in_flight++;
    }
    p->next++;
    ps->published++;
    ps->left--;
}

static void want_room(const struct publishers *ps, struct publisher *p, bool wanted)
{
    struct epoll_event event = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0), .data.u64 = p->id};

    p->stuck = wanted;
    if (epoll_ctl(ps->epoll, EPOLL_CTL_MOD, p->fd, &event) != 0)
        fail("epoll_ctl");
}

static void flush(struct publishers *ps, struct publisher *p, uint64_t now)
{
    size_t ring_bytes = ps->slots * ps->message_bytes;
    uint64_t unsent;

    while (!p->stuck && (unsent = put_bytes(ps, p) - p->sent_bytes) != 0) {
        size_t at = p->sent_bytes % ring_bytes;
        size_t first = unsent < ring_bytes - at ? (size_t)unsent : ring_bytes - at;
        struct iovec parts[] = {{p->ring + at, first}, {p->ring, (size_t)unsent - first}};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = unsent > first ? 2 : 1};
        ssize_t n = sendmsg(p->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n >= 0) {
            p->sent_bytes += (uint64_t)n;
            ps->sent_ns = now;
        } else if (errno == EAGAIN) {
            want_room(ps, p, true);
        } else if (errno == EPIPE || errno == ECONNRESET) {
            p->stuck = true; /* what the server said before it closed is still to be read */
        } else {
            fail("send");
        }
    }
}

void publisher_unstick(struct publishers *ps, struct publisher *p)
{
    want_room(ps, p, false);
}

static uint64_t due_at(const struct publishers *ps, uint64_t message)
{
    return ps->start_ns + message / ps->rate * SECOND_NS + message % ps->rate * SECOND_NS / ps->rate;
}

static struct publisher *next_with_room(struct publishers *ps)
{
    for (unsigned i = 0; i < ps->n; i++) {
        struct publisher *p = &ps->all[ps->turn];

        ps->turn = (ps->turn + 1) % ps->n;
        if (has_room(ps, p))
            return p;
    }
    return NULL;
}

static uint64_t put_due(struct publishers *ps, uint64_t now)
{
    while (ps->left && due_at(ps, ps->due) <= now) {
        struct publisher *p = next_with_room(ps);

        if (!p)
            return NEVER;
        put(ps, p, due_at(ps, ps->due++));
    }
    return ps->left ? due_at(ps, ps->due) : NEVER;
}

static void fill_and_flush(struct publishers *ps, struct publisher *p, uint64_t now)
{
    uint64_t before;

    do {
        before = p->sent_bytes;
        while (!ps->rate && ps->left && has_room(ps, p))
            put(ps, p, now);
        flush(ps, p, now);
    } while (!ps->rate && ps->window && ps->left && !p->stuck && p->sent_bytes != before && has_room(ps, p));
}

uint64_t publishers_work(struct publishers *ps, uint64_t now)
{
    uint64_t next = ps->rate ? put_due(ps, now) : NEVER;

    for (unsigned i = 0; i < ps->n; i++)
        fill_and_flush(ps, &ps->all[i], now);
    /* A ring's worth each, then the others and the answers have their turn. */
    if (!ps->rate && !ps->window && ps->left)
        for (unsigned i = 0; i < ps->n; i++)
            if (!ps->all[i].stuck)
                return now;
    return next;
}

bool publishers_settled(const struct publishers *ps)
{
    for (unsigned i = 0; i < ps->n; i++)
        if (ps->all[i].in_flight || put_bytes(ps, &ps->all[i]) != ps->all[i].sent_bytes)
            return false;
    return true;
}

/* ---- answers ------------------------------------------------------------------------------------------------- */

static void settle(struct publishers *ps, struct publisher *p, uint64_t number, bool good, uint64_t now)
{
    uint64_t *due_ns = &p->due_ns[number & (ps->spread - 1)];

    if (!*due_ns)
        return;
    histogram_add(&ps->latencies, now - *due_ns);
    *due_ns = 0;
    p->in_flight--;
    if (good)
        ps->confirmed++;
    else
        ps->nacked++;
}

void publisher_answered(struct publishers *ps, struct publisher *p, uint64_t number, bool multiple, bool good,
                        uint64_t now)
{
    if (multiple && number == 0)
        number = p->next - 1;
    if (number < p->oldest || number >= p->next || (!multiple && !p->due_ns[number & (ps->spread - 1)])) {
        ps->strange++;
        return;
    }
    for (uint64_t i = multiple ? p->oldest : number; i <= number; i++)
        settle(ps, p, i, good, now);
    while (p->oldest < p->next && !p->due_ns[p->oldest & (ps->spread - 1)])
        p->oldest++;
    ps->last_ns = now;
}
