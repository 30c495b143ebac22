/* registry.c - see registry.h.
 *
 * A connection is in its thread's list from when it is open until it ends, the newest last. A look has a part for each
 * thread, which travels there and back; whoever gives up waiting leaves the look to the last part that comes. */
#include "front/amqp/registry.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "fiber/loop.h"
#include "front/amqp/private.h"

/* So many connections are copied at a turn. */
#define COPIED_A_TURN 256
#define MARK_STEP_US (5 * US_PER_S)
#define MARK_FRESH_US (2 * MARK_STEP_US)

static _Thread_local struct list connections;

static struct list *our_connections(void)
{
    if (!connections.next)
        list_init(&connections);
    return &connections;
}

static struct amqp_connection *connection_at(struct list *node)
{
    return container_of(node, struct amqp_connection, registered);
}

void amqp_register(struct amqp_connection *c)
{
    c->registered_us = loop_now_us();
    list_push_back(our_connections(), &c->registered);
}

void amqp_unregister(struct amqp_connection *c)
{
    list_remove(&c->registered);
    list_init(&c->registered);
}

/* ---- rates ------------------------------------------------------------------------------------------------------- */

/* The mark that a thing has from its first look on. One that was opened long before began at what it counts now. */
static struct amqp_mark *first_mark(const uint64_t *counts, size_t n, uint64_t opened_us, uint64_t now_us)
{
    struct amqp_mark *mark = calloc(1, sizeof *mark);

    if (!mark)
        return NULL;
    memcpy(mark->newer, counts, n * sizeof *counts);
    mark->newer_us = mark->older_us = now_us;
    if (now_us - opened_us < MARK_FRESH_US)
        mark->older_us = opened_us;
    else
        memcpy(mark->older, counts, n * sizeof *counts);
    return mark;
}

/* Without memory all is still. */
static void take_rates(struct amqp_mark **at, const uint64_t *counts, size_t n, uint64_t opened_us,
                       uint64_t now_us, double *rates)
{
    struct amqp_mark *mark = *at ? *at : first_mark(counts, n, opened_us, now_us);
    double seconds;

    *at = mark;
    for (size_t i = 0; i < n; i++)
        rates[i] = 0;
    if (!mark)
        return;
    if (now_us - mark->newer_us >= MARK_STEP_US) {
        memcpy(mark->older, mark->newer, n * sizeof *counts);
        memcpy(mark->newer, counts, n * sizeof *counts);
        mark->older_us = mark->newer_us;
        mark->newer_us = now_us;
    }
    seconds = (double)(now_us - mark->older_us) / US_PER_S;
    for (size_t i = 0; i < n; i++)
        rates[i] = (double)(counts[i] - mark->older[i]) / (seconds < 1 ? 1 : seconds);
}

/* ---- copying a connection ---------------------------------------------------------------------------------------- */

/* What a copy takes, and then where its pieces go. */
struct copying {
    size_t channels, consumers, bytes;
    struct amqp_seen_channel *channel;
    struct amqp_seen_consumer *consumer;
    char *text;
};

static bool is_shown(const struct amqp_consumer *consumer)
{
    return !consumer->gets && !consumer->cancelled;
}

static void measure_channel(struct copying *copying, const struct amqp_channel *channel)
{
    copying->channels++;
    for (const struct list *at = channel->consumers.next; at != &channel->consumers; at = at->next) {
        const struct amqp_consumer *consumer = container_of(at, const struct amqp_consumer, list);

        if (!is_shown(consumer))
            continue;
        copying->consumers++;
        copying->bytes += consumer->tag.len + consumer->queue.len + consumer->arguments.len;
    }
}

static struct slice copy(struct copying *copying, struct slice s)
{
    char *text = copying->text;

    if (s.len)
        memcpy(text, s.ptr, s.len);
    copying->text += s.len;
    return slice_of(text, s.len);
}

static void copy_consumer(struct copying *copying, const struct amqp_consumer *consumer)
{
    *copying->consumer++ = (struct amqp_seen_consumer){
        .tag = copy(copying, consumer->tag),
        .queue = copy(copying, consumer->queue),
        .arguments = copy(copying, consumer->arguments),
        .no_ack = consumer->no_ack,
        .exclusive = consumer->exclusive,
        .prefetch = consumer->prefetch,
    };
}

static void copy_channel(struct copying *copying, struct amqp_channel *channel, uint64_t now_us)
{
    struct amqp_seen_channel *seen = copying->channel++;

    *seen = (struct amqp_seen_channel){
        .number = channel->number,
        .confirms = channel->confirms,
        .transacts = channel->transacts,
        .prefetch = channel->prefetch,
        .window_prefetch = channel->window_prefetch,
        .n_unacked = channel->n_unacked,
        .n_unconfirmed = channel->confirms ? channel->next_confirm - 1 - channel->n_answered : 0,
        .n_uncommitted = channel->transaction ? channel->transaction->batch.n_publications : 0,
        .consumers = copying->consumer,
    };
    for (const struct list *at = channel->consumers.next; at != &channel->consumers; at = at->next) {
        const struct amqp_consumer *consumer = container_of(at, const struct amqp_consumer, list);

        if (is_shown(consumer))
            copy_consumer(copying, consumer);
    }
    seen->n_consumers = (size_t)(copying->consumer - seen->consumers);
    memcpy(seen->counts, channel->counts, sizeof seen->counts);
    take_rates(&channel->mark, channel->counts, N_AMQP_COUNTS, channel->opened_us, now_us, seen->rates);
}

/* The end that is ours: of a client that came through a relay, the one that it went to. */
static struct endpoint local_end(const struct amqp_connection *c)
{
    const struct proxy_header *proxied = c->client.proxied;
    struct endpoint local = {.len = sizeof local - offsetof(struct endpoint, sa)};

    if (proxied && !proxied->local)
        return proxied->destination;
    if (getsockname(c->stream.io.fd, &local.sa, &local.len) != 0)
        local = (struct endpoint){0};
    return local;
}

static const char *state_of(const struct amqp_connection *c)
{
    return c->state != AMQP_STATE_OPEN ? "closing"
           : c->blocked                ? "blocked"
           : c->stuck                  ? "blocking"
                                       : "running";
}

static void fill(struct amqp_seen_connection *seen, struct copying *copying, struct amqp_connection *c)
{
    uint64_t bytes[] = {c->received, c->sent};
    uint64_t now_us = loop_now_us();
    double rates[2];

    take_rates(&c->mark, bytes, 2, c->registered_us, now_us, rates);
    *seen = (struct amqp_seen_connection){
        .number = c->number,
        .opened_us = c->opened_us,
        .peer = c->client.peer,
        .local = local_end(c),
        .user = copy(copying, slice_from_text(c->user_name)),
        .virtual_host = copy(copying, slice_from_text(c->virtual_host)),
        .properties = copy(copying, c->client_properties),
        .mechanism = c->mechanism,
        .state = state_of(c),
        .frame_max = c->frame_max,
        .channel_max = c->channel_max,
        .heartbeat_us = c->heartbeat_us,
        .received = c->received,
        .sent = c->sent,
        .received_rate = rates[0],
        .sent_rate = rates[1],
        .channels = copying->channel,
    };
    for (unsigned i = 0; i < c->n_channels; i++)
        copy_channel(copying, c->channels[i], now_us);
    seen->n_channels = (size_t)(copying->channel - seen->channels);
}

/* In one block. NULL: no memory. */
static struct amqp_seen_connection *copy_connection(struct amqp_connection *c)
{
    struct copying copying = {.bytes =
                                  strlen(c->user_name) + strlen(c->virtual_host) + c->client_properties.len};
    struct amqp_seen_connection *seen;

    for (unsigned i = 0; i < c->n_channels; i++)
        measure_channel(&copying, c->channels[i]);
    seen = malloc(sizeof *seen + copying.channels * sizeof *copying.channel +
                  copying.consumers * sizeof *copying.consumer + copying.bytes);
    if (!seen)
        return NULL;
    copying.channel = (struct amqp_seen_channel *)(seen + 1);
    copying.consumer = (struct amqp_seen_consumer *)(copying.channel + copying.channels);
    copying.text = (char *)(copying.consumer + copying.consumers);
    fill(seen, &copying, c);
    return seen;
}

/* ---- a look ------------------------------------------------------------------------------------------------------ */

struct part {
    struct mail mail;
    struct asking *asking;
    struct mailbox *mailbox; /* of the thread that is asked */
    uint64_t after;          /* the number of the connection that was copied last */
    struct amqp_look found;
    size_t room;
    bool no_memory;
};

struct asking {
    struct mailbox *home;
    struct fiber *waiter; /* NULL: nobody waits any more */
    _Atomic unsigned n_under_way;
    unsigned n_parts;
    struct part parts[];
};

void amqp_look_free(struct amqp_look *look)
{
    if (!look)
        return;
    for (size_t i = 0; i < look->n; i++)
        free(look->connections[i]);
    free(look->connections);
    free(look);
}

static void free_asking(struct asking *asking)
{
    for (unsigned i = 0; i < asking->n_parts; i++) {
        for (size_t k = 0; k < asking->parts[i].found.n; k++)
            free(asking->parts[i].found.connections[k]);
        free(asking->parts[i].found.connections);
    }
    mailbox_unref(asking->home);
    free(asking);
}

/* On the thread that asks. */
static void on_back(struct mail *mail)
{
    struct asking *asking = container_of(mail, struct part, mail)->asking;

    if (atomic_fetch_sub(&asking->n_under_way, 1) > 1)
        return;
    if (asking->waiter)
        fiber_wake(asking->waiter);
    else
        free_asking(asking);
}

/* The thread that asked has ended. */
static void forget_part(struct mail *mail)
{
    struct asking *asking = container_of(mail, struct part, mail)->asking;

    if (atomic_fetch_sub(&asking->n_under_way, 1) == 1)
        free_asking(asking);
}

static void send_back(struct mail *mail)
{
    struct part *part = container_of(mail, struct part, mail);

    *mail = (struct mail){.deliver = on_back, .drop = forget_part};
    mailbox_send(part->asking->home, mail);
}

static bool add(struct part *part, struct amqp_connection *c)
{
    struct amqp_look *found = &part->found;
    struct amqp_seen_connection **grown, *seen;

    if (found->n == part->room) {
        part->room = part->room ? part->room * 2 : 16;
        grown = realloc(found->connections, part->room * sizeof(struct amqp_seen_connection *));
        if (!grown)
            return false;
        found->connections = grown;
    }
    seen = copy_connection(c);
    if (!seen)
        return false;
    found->connections[found->n++] = seen;
    part->after = c->number;
    return true;
}

/* On a thread that is asked. */
static void on_asked(struct mail *mail)
{
    struct part *part = container_of(mail, struct part, mail);
    struct list *all = our_connections(), *at = all->next;
    unsigned n = 0;

    while (at != all && connection_at(at)->number <= part->after)
        at = at->next;
    for (; at != all && n < COPIED_A_TURN && !part->no_memory; at = at->next, n++)
        part->no_memory = !add(part, connection_at(at));
    if (at == all || part->no_memory) {
        send_back(mail);
        return;
    }
    *mail = (struct mail){.deliver = on_asked, .drop = send_back};
    mailbox_send(part->mailbox, mail);
}

static int compare_numbers(const void *left, const void *right)
{
    const struct amqp_seen_connection *a = *(struct amqp_seen_connection *const *)left,
                                      *b = *(struct amqp_seen_connection *const *)right;

    return (a->number > b->number) - (a->number < b->number);
}

/* All parts as one look. */
static int gather(struct asking *asking, struct amqp_look **result)
{
    struct amqp_look *look = calloc(1, sizeof *look);
    bool missing = false;
    size_t n = 0;

    for (unsigned i = 0; look && i < asking->n_parts; i++) {
        n += asking->parts[i].found.n;
        missing |= asking->parts[i].no_memory;
    }
    if (look)
        look->connections = calloc(n + 1, sizeof(struct amqp_seen_connection *));
    if (!look || !look->connections || missing) {
        amqp_look_free(look);
        return -ENOMEM;
    }
    for (unsigned i = 0; i < asking->n_parts; i++) {
        struct amqp_look *found = &asking->parts[i].found;

        if (found->n)
            memcpy(look->connections + look->n, found->connections, found->n * sizeof *found->connections);
        look->n += found->n;
        found->n = 0;
    }
    qsort(look->connections, look->n, sizeof *look->connections, compare_numbers);
    *result = look;
    return 0;
}

static struct asking *ask(struct mailbox *const *mailboxes, unsigned n_mailboxes)
{
    struct asking *asking = calloc(1, sizeof *asking + n_mailboxes * sizeof asking->parts[0]);

    if (!asking)
        return NULL;
    asking->home = mailbox_ref(loop_mailbox(loop_self()));
    asking->waiter = fiber_self();
    for (unsigned i = 0; i < n_mailboxes; i++)
        if (mailboxes[i])
            asking->parts[asking->n_parts++] = (struct part){
                .mail = {.deliver = on_asked, .drop = send_back}, .asking = asking, .mailbox = mailboxes[i]};
    atomic_store(&asking->n_under_way, asking->n_parts);
    for (unsigned i = 0; i < asking->n_parts; i++)
        mailbox_send(asking->parts[i].mailbox, &asking->parts[i].mail);
    return asking;
}

int amqp_look(struct mailbox *const *mailboxes, unsigned n_mailboxes, uint64_t deadline_us,
              struct amqp_look **look)
{
    struct asking *asking = ask(mailboxes, n_mailboxes);
    int error = 0;

    *look = NULL;
    if (!asking)
        return -ENOMEM;
    while (!error && atomic_load(&asking->n_under_way))
        error = fiber_park(deadline_us);
    if (error && atomic_load(&asking->n_under_way)) {
        asking->waiter = NULL;
        return error;
    }
    error = gather(asking, look);
    free_asking(asking);
    return error;
}

/* ---- by hand ----------------------------------------------------------------------------------------------------- */

struct closing {
    struct mail mail;
    uint64_t number;
    struct slice reason; /* in text */
    char text[];
};

static void drop_closing(struct mail *mail)
{
    free(container_of(mail, struct closing, mail));
}

static void on_closing(struct mail *mail)
{
    struct closing *closing = container_of(mail, struct closing, mail);
    struct list *all = our_connections();

    for (struct list *at = all->next; at != all; at = at->next)
        if (connection_at(at)->number == closing->number) {
            amqp_fail_connection(connection_at(at), AMQP_CONNECTION_FORCED, 0, "%.*s",
                                 SLICE_ARG(closing->reason));
            break;
        }
    free(closing);
}

void amqp_close_by_hand(struct mailbox *const *mailboxes, unsigned n_mailboxes, uint64_t number,
                        struct slice reason)
{
    for (unsigned i = 0; i < n_mailboxes; i++) {
        struct closing *closing = mailboxes[i] ? malloc(sizeof *closing + reason.len) : NULL;

        if (!closing)
            continue;
        closing->mail = (struct mail){.deliver = on_closing, .drop = drop_closing};
        closing->number = number;
        if (reason.len)
            memcpy(closing->text, reason.ptr, reason.len);
        closing->reason = slice_of(closing->text, reason.len);
        mailbox_send(mailboxes[i], &closing->mail);
    }
}
