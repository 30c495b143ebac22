/* pass.c - see pass.h.
 *
 * Issue, stop and revoke are a round each: a mail to every thread and back. A thread does them in the order they were sent, so a
 * part that is revoked is the last that its thread sees of the pass. */
#include "front/amqp/pass.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>

#include "base/counter.h"
#include "fiber/loop.h"
#include "front/amqp/private.h"

enum round { ROUND_ISSUE, ROUND_STOP, ROUND_REVOKE, N_ROUNDS };

struct round_mail {
    struct mail mail;
    struct amqp_pass_part *part;
};

/* One thread's. */
struct amqp_pass_part {
    struct amqp_pass *pass;
    struct mailbox *mailbox; /* of the thread */
    struct round_mail rounds[N_ROUNDS];
    struct list list;        /* of the thread's passes */
    struct list connections; /* amqp_connection.passing */
    bool stopped;
    /* The thread writes, any may read. */
    struct counter n_connections, n_consumers, in_flight, handled, asked;
    struct counter busy_us, counted_us; /* in_flight over time, until then */
};

struct amqp_pass {
    struct mailbox *home;
    struct fiber *waiter; /* for the first round */
    char *name, *secret, *queue;
    struct broker_window *window; /* reference; of all its consumers of that queue */
    void (*freed)(void *arg);
    void *arg;
    unsigned under_way[N_ROUNDS]; /* mails of the round that are not back */
    bool stopped, revoked;
    uint64_t busy_us; /* as it was told last */
    unsigned n_parts;
    struct amqp_pass_part parts[];
};

static _Thread_local struct list passes;

static struct list *our_passes(void)
{
    if (!passes.next)
        list_init(&passes);
    return &passes;
}

/* ---- on a serving thread ----------------------------------------------------------------------------------------- */

static bool same_text(struct slice given, const char *text)
{
    struct slice right = slice_from_text(text);

    return given.len == right.len && CRYPTO_memcmp(given.ptr, right.ptr, right.len) == 0;
}

bool amqp_pass_log_in(struct amqp_connection *c, struct slice name, struct slice secret)
{
    struct list *all = our_passes();

    for (struct list *at = all->next; at != all; at = at->next) {
        struct amqp_pass_part *part = container_of(at, struct amqp_pass_part, list);

        if (!slice_equal(name, slice_from_text(part->pass->name)) || !same_text(secret, part->pass->secret))
            continue;
        c->pass = part;
        list_push_back(&part->connections, &c->passing);
        counter_add(&part->n_connections, 1);
        return true;
    }
    return false;
}

void amqp_pass_leave(struct amqp_connection *c)
{
    if (!c->pass)
        return;
    counter_sub(&c->pass->n_connections, 1);
    list_remove(&c->passing);
    c->pass = NULL;
}

bool amqp_pass_may(const struct amqp_pass_part *part, enum access_kind kind, struct slice name)
{
    return kind == ACCESS_WRITE || slice_equal(name, slice_from_text(part->pass->queue)) ||
           slice_starts_with(name, SLICE("amq.gen-"));
}

struct broker_window *amqp_pass_window(const struct amqp_pass_part *part, struct slice queue)
{
    return slice_equal(queue, slice_from_text(part->pass->queue)) ? part->pass->window : NULL;
}

bool amqp_pass_is_stopped(const struct amqp_pass_part *part)
{
    return part->stopped;
}

/* What is in flight until now, before that changes. */
static void count_time(struct amqp_pass_part *part)
{
    uint64_t now_us = loop_now_us(), since_us = counter_get(&part->counted_us);

    if (since_us && now_us > since_us)
        counter_add(&part->busy_us, counter_get(&part->in_flight) * (now_us - since_us));
    counter_add(&part->counted_us, now_us - since_us);
}

void amqp_pass_took(struct amqp_pass_part *part)
{
    count_time(part);
    counter_add(&part->in_flight, 1);
}

void amqp_pass_gave(struct amqp_pass_part *part, uint64_t n)
{
    count_time(part);
    counter_sub(&part->in_flight, n);
    counter_add(&part->handled, n);
}

void amqp_pass_consumes(struct amqp_pass_part *part, bool more)
{
    if (more)
        counter_add(&part->n_consumers, 1);
    else
        counter_sub(&part->n_consumers, 1);
}

void amqp_pass_asked(struct amqp_pass_part *part)
{
    counter_add(&part->asked, 1);
}

/* ---- rounds ------------------------------------------------------------------------------------------------------ */

static struct round_mail *round_of(struct mail *mail)
{
    return container_of(mail, struct round_mail, mail);
}

static void free_pass(struct amqp_pass *pass)
{
    broker_window_unref(pass->window);
    mailbox_unref(pass->home);
    free(pass->name);
    free(pass->queue);
    if (pass->secret)
        OPENSSL_cleanse(pass->secret, strlen(pass->secret));
    free(pass->secret);
    free(pass);
}

static void on_back(struct mail *mail)
{
    struct amqp_pass_part *part = round_of(mail)->part;
    struct amqp_pass *pass = part->pass;
    enum round round = (enum round)(round_of(mail) - part->rounds);

    if (--pass->under_way[round])
        return;
    if (pass->waiter)
        fiber_wake(pass->waiter);
    pass->stopped |= round == ROUND_STOP;
    if (pass->revoked && !pass->under_way[ROUND_ISSUE] && !pass->under_way[ROUND_STOP] &&
        !pass->under_way[ROUND_REVOKE]) {
        pass->freed(pass->arg);
        free_pass(pass);
    }
}

/* Also where the thread has ended. */
static void send_back(struct mail *mail)
{
    struct amqp_pass *pass = round_of(mail)->part->pass;

    *mail = (struct mail){.deliver = on_back};
    mailbox_send(pass->home, mail);
}

static void on_issue(struct mail *mail)
{
    struct amqp_pass_part *part = round_of(mail)->part;

    list_push_back(our_passes(), &part->list);
    send_back(mail);
}

static void on_stop(struct mail *mail)
{
    struct amqp_pass_part *part = round_of(mail)->part;

    part->stopped = true;
    for (struct list *at = part->connections.next; at != &part->connections; at = at->next)
        amqp_consumers_stop(container_of(at, struct amqp_connection, passing));
    send_back(mail);
}

static void on_revoke(struct mail *mail)
{
    struct amqp_pass_part *part = round_of(mail)->part;

    list_remove(&part->list);
    while (!list_empty(&part->connections)) {
        struct amqp_connection *c = container_of(part->connections.next, struct amqp_connection, passing);

        amqp_pass_leave(c);
        amqp_fail_connection(c, AMQP_CONNECTION_FORCED, 0,
                             "the process that this login was made for has ended");
    }
    send_back(mail);
}

static void send_round(struct amqp_pass *pass, enum round round, void (*deliver)(struct mail *mail))
{
    pass->under_way[round] = pass->n_parts;
    for (unsigned i = 0; i < pass->n_parts; i++) {
        struct round_mail *m = &pass->parts[i].rounds[round];

        *m = (struct round_mail){{.deliver = deliver, .drop = send_back}, &pass->parts[i]};
        mailbox_send(pass->parts[i].mailbox, &m->mail);
    }
}

/* ---- on the thread that made it ---------------------------------------------------------------------------------- */

struct amqp_pass *amqp_pass_create(struct mailbox *const *mailboxes, unsigned n_mailboxes,
                                   const struct amqp_pass_options *options)
{
    struct amqp_pass *pass = calloc(1, sizeof *pass + n_mailboxes * sizeof pass->parts[0]);

    if (!pass)
        return NULL;
    pass->home = mailbox_ref(loop_mailbox(loop_self()));
    pass->name = strdup(options->name);
    pass->secret = strdup(options->secret);
    pass->queue = strdup(options->queue);
    pass->window = broker_window_create(options->slots);
    pass->freed = options->freed;
    pass->arg = options->arg;
    for (unsigned i = 0; i < n_mailboxes; i++) {
        struct amqp_pass_part *part = &pass->parts[pass->n_parts];

        if (!mailboxes[i])
            continue;
        part->pass = pass;
        part->mailbox = mailboxes[i];
        list_init(&part->list);
        list_init(&part->connections);
        pass->n_parts++;
    }
    if (pass->name && pass->secret && pass->queue && pass->window && pass->n_parts)
        return pass;
    free_pass(pass);
    return NULL;
}

int amqp_pass_issue(struct amqp_pass *pass)
{
    int error = 0;

    pass->waiter = fiber_self();
    send_round(pass, ROUND_ISSUE, on_issue);
    while (!error && pass->under_way[ROUND_ISSUE])
        error = fiber_park(NEVER);
    pass->waiter = NULL;
    if (error)
        amqp_pass_revoke(pass);
    return error;
}

void amqp_pass_look(struct amqp_pass *pass, struct amqp_pass_sight *sight)
{
    uint64_t now_us = loop_now_us(), busy_us = 0;

    *sight = (struct amqp_pass_sight){.stopped = pass->stopped};
    for (unsigned i = 0; i < pass->n_parts; i++) {
        const struct amqp_pass_part *part = &pass->parts[i];
        uint64_t in_flight = counter_get(&part->in_flight), since_us = counter_get(&part->counted_us);

        sight->connections += (unsigned)counter_get(&part->n_connections);
        sight->consumers += (unsigned)counter_get(&part->n_consumers);
        sight->in_flight += in_flight;
        sight->handled += counter_get(&part->handled);
        sight->asked += counter_get(&part->asked);
        busy_us += counter_get(&part->busy_us) + (now_us > since_us ? in_flight * (now_us - since_us) : 0);
    }
    if (pass->busy_us < busy_us) /* a thread may have been between two of its numbers */
        pass->busy_us = busy_us;
    sight->busy_us = pass->busy_us;
}

void amqp_pass_stop(struct amqp_pass *pass)
{
    send_round(pass, ROUND_STOP, on_stop);
}

void amqp_pass_revoke(struct amqp_pass *pass)
{
    pass->revoked = true;
    send_round(pass, ROUND_REVOKE, on_revoke);
}
