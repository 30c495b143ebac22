/* upstream.c - see upstream.h.
 *
 * Invariants: a connection in a kept list has an empty input, no block, and on_input set; kept[slot].server is the
 * server that its list's connections go to. */
#include "balance/upstream.h"

#include <errno.h>
#include <stdlib.h>

/* How often kept connections are looked through. */
#define REAP_MOST_US (5 * US_PER_S)
#define REAP_LEAST_US (100 * US_PER_MS)

/* A server that closes a kept connection sooner than this after an answer is hasty. */
#define HASTY_US US_PER_S

static struct kept *kept_of(struct pool_thread *pt, const struct server *server)
{
    struct kept *kept = server->slot < pt->n_kept ? &pt->kept[server->slot] : NULL;

    return kept && kept->server == server ? kept : NULL;
}

void upstream_close(struct upstream *upstream)
{
    stream_close(&upstream->stream);
    input_drop(&upstream->in);
    output_drop(&upstream->out);
    server_unref(upstream->server);
    free(upstream);
}

static void unkeep(struct upstream *upstream)
{
    list_remove(&upstream->idle);
    upstream->stream.io.on_input = NULL;
    kept_of(upstream->pt, upstream->server)->count--;
    atomic_fetch_sub_explicit(&upstream->server->idle, 1, memory_order_relaxed);
}

static void on_input(struct io *io)
{
    struct upstream *upstream = container_of(io, struct upstream, stream.io);

    unkeep(upstream);
    if (loop_now_us() - upstream->idle_since_us < HASTY_US)
        server_note_hasty(upstream->server, loop_now_us());
    upstream_close(upstream);
}

struct upstream *upstream_take(struct pool_thread *pt, struct server *server, bool must_be_alive)
{
    struct kept *kept = kept_of(pt, server);

    if (must_be_alive && server_is_hasty(server, loop_now_us()))
        return NULL;
    while (kept && !list_empty(&kept->idle)) {
        struct upstream *upstream = container_of(kept->idle.next, struct upstream, idle);

        unkeep(upstream);
        if (!must_be_alive || stream_is_quiet(&upstream->stream))
            return upstream;
        upstream_close(upstream);
    }
    return NULL;
}

int upstream_connect(struct pool_thread *pt, struct server *server, uint64_t latest_us, struct upstream **out)
{
    uint64_t deadline_us = loop_deadline(pt->config->connect_timeout_us);
    struct upstream *upstream = calloc(1, sizeof *upstream);
    int error;

    *out = NULL;
    if (!upstream)
        return -ENOMEM;
    error = stream_connect(&upstream->stream, &server->endpoint,
                           deadline_us < latest_us ? deadline_us : latest_us);
    if (error) {
        free(upstream);
        return error;
    }
    upstream->in.stream = upstream->out.stream = &upstream->stream;
    upstream->pace.idle_us = pt->config->response_timeout_us;
    upstream->out.pace = &upstream->pace;
    upstream->pt = pt;
    upstream->server = server_ref(server);
    upstream->born_us = loop_now_us();
    list_init(&upstream->idle);
    *out = upstream;
    return 0;
}

/* Nothing came after the answer. The last read mostly tells; when it filled its room, or spliced, the kernel does. */
static bool is_quiet(struct upstream *upstream)
{
    struct io *io = &upstream->stream.io;

    if (!(io->ready & IO_READABLE))
        return true;
    if ((io->ready & IO_HUNG_UP) || !stream_is_quiet(&upstream->stream))
        return false;
    io->ready &= (uint8_t)~IO_READABLE;
    return true;
}

static bool may_be_kept(const struct upstream *upstream, const struct kept *kept, uint64_t now_us)
{
    const struct config_pool *config = upstream->pt->config;

    return kept && !server_wants_proxy(upstream->server) && kept->count < config->max_idle &&
           (!config->max_requests || upstream->n_requests < config->max_requests) &&
           (!config->max_age_us || now_us - upstream->born_us < config->max_age_us);
}

void upstream_keep(struct upstream *upstream)
{
    struct kept *kept = kept_of(upstream->pt, upstream->server);
    uint64_t now_us = loop_now_us();

    upstream->n_requests++;
    if (!may_be_kept(upstream, kept, now_us)) {
        upstream_close(upstream);
        return;
    }
    if (!is_quiet(upstream)) { /* it closed along with the answer */
        server_note_hasty(upstream->server, now_us);
        upstream_close(upstream);
        return;
    }
    input_drop(&upstream->in);
    output_drop(&upstream->out);
    upstream->idle_since_us = now_us;
    upstream->stream.io.on_input = on_input;
    list_push_front(&kept->idle, &upstream->idle);
    kept->count++;
    atomic_fetch_add_explicit(&upstream->server->idle, 1, memory_order_relaxed);
}

static void reap_one(struct kept *kept, uint64_t now_us, uint64_t idle_us)
{
    while (!list_empty(&kept->idle)) {
        struct upstream *oldest = container_of(kept->idle.prev, struct upstream, idle);

        if (now_us - oldest->idle_since_us < idle_us)
            return;
        unkeep(oldest);
        upstream_close(oldest);
    }
}

uint64_t upstream_reap(struct pool_thread *pt)
{
    uint64_t idle_us = pt->config->idle_timeout_us;
    uint64_t wait_us = idle_us / 4;

    for (unsigned i = 0; idle_us && i < pt->n_kept; i++)
        reap_one(&pt->kept[i], loop_now_us(), idle_us);
    if (wait_us < REAP_LEAST_US)
        wait_us = REAP_LEAST_US;
    return loop_now_us() + (idle_us && wait_us < REAP_MOST_US ? wait_us : REAP_MOST_US);
}
