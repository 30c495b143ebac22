/* events.c - GET /api/events: what happens, as server-sent events.
 *
 * Events are said on any thread, seldom. The bell is rung there, and brings one message at a time to the admin's thread,
 * where it wakes all who follow. */
#include <errno.h>
#include <stdlib.h>

#include "admin/private.h"
#include "admin/query.h"
#include "admin/reply.h"
#include "admin/requests.h"
#include "base/event.h"

/* Between two signs of life, for whoever stands between us and the reader. */
#define COMMENT_US (15 * US_PER_S)
#define EVENTS_AT_ONCE 16
#define BLOCK_BYTES 4096

/* ---- the bell ---------------------------------------------------------------------------------------------- */

struct bell {
    struct mail message;
    struct mailbox *mailbox; /* reference; the admin's thread's */
    atomic_bool rung;        /* the message is under way */
    struct admin *admin;     /* NULL: it has gone, and the message frees this */
    struct wait_queue followers;
};

static void free_bell(struct bell *bell)
{
    mailbox_unref(bell->mailbox);
    free(bell);
}

static void on_rung(struct mail *message)
{
    struct bell *bell = container_of(message, struct bell, message);

    if (!bell->admin) {
        free_bell(bell);
        return;
    }
    atomic_store(&bell->rung, false);
    wait_queue_wake_all(&bell->followers);
    if (bell->admin->requests) /* a drain ends their streams, too */
        wait_queue_wake_all(&bell->admin->requests->followers);
}

/* The thread ends; nobody follows any more. */
static void on_dropped(struct mail *message)
{
    struct bell *bell = container_of(message, struct bell, message);

    if (bell->admin)
        atomic_store(&bell->rung, false);
    else
        free_bell(bell);
}

static void ring(void *arg)
{
    struct bell *bell = arg;

    if (!atomic_exchange(&bell->rung, true))
        mailbox_send(bell->mailbox, &bell->message);
}

struct bell *bell_create(struct admin *admin)
{
    struct bell *bell = calloc(1, sizeof *bell);

    if (!bell)
        return NULL;
    bell->message = (struct mail){.deliver = on_rung, .drop = on_dropped};
    bell->mailbox = mailbox_ref(loop_mailbox(loop_self()));
    bell->admin = admin;
    wait_queue_init(&bell->followers);
    event_listen(ring, bell);
    return bell;
}

void bell_free(struct bell *bell)
{
    event_listen(NULL, NULL);
    bell->admin = NULL;
    if (!atomic_load(&bell->rung))
        free_bell(bell);
}

/* ---- an event ---------------------------------------------------------------------------------------------- */

void event_put(struct json *json, const struct event *event)
{
    json_put_object(json);
    json_key(json, "id");
    json_put_u64(json, event->id);
    json_key(json, "time");
    json_put_time(json, event->wall_us);
    json_key(json, "kind");
    json_put_string(json, slice_from_text(event_kind_name(event->kind)));
    if (event->pool[0]) {
        json_key(json, "pool");
        json_put_string(json, slice_from_text(event->pool));
    }
    if (event->server[0]) {
        json_key(json, "server");
        json_put_string(json, slice_from_text(event->server));
    }
    json_key(json, "text");
    json_put_string(json, slice_from_text(event->text));
    json_put_end(json);
}

/* ---- a stream ---------------------------------------------------------------------------------------------- */

struct follower {
    struct exchange *x;
    uint64_t seen; /* the last event it has */
    struct event events[EVENTS_AT_ONCE];
    char block[BLOCK_BYTES];
};

static int write_piece(void *arg, struct slice text)
{
    return exchange_write(arg, text);
}

static int send_event(struct follower *f, const struct event *event)
{
    struct json json;

    json_init(&json, f->block, sizeof f->block, write_piece, f->x);
    json_put(&json, SLICE("id: "));
    json_put_u64(&json, event->id);
    json_put(&json, SLICE("\nevent: "));
    json_put(&json, slice_from_text(event_kind_name(event->kind)));
    json_put(&json, SLICE("\ndata: "));
    event_put(&json, event);
    json_put(&json, SLICE("\n\n"));
    return json_finish(&json) ? 0 : -1;
}

/* All that it has not seen. */
static int send_news(struct follower *f)
{
    size_t n;

    while ((n = event_copy_since(f->seen, f->events, EVENTS_AT_ONCE)) > 0) {
        for (size_t i = 0; i < n; i++)
            if (send_event(f, &f->events[i]) != 0)
                return -1;
        f->seen = f->events[n - 1].id;
    }
    return exchange_flush(f->x);
}

static bool is_over(const struct admin *admin, const struct exchange *x)
{
    return admin->system->drains || x->connection->last;
}

/* Until the client leaves or we do. */
static void follow(struct admin *admin, struct follower *f)
{
    int error = send_news(f);

    while (!error && !is_over(admin, f->x)) {
        error = wait_queue_wait(&admin->bell->followers, loop_deadline(COMMENT_US));
        if (error == -ETIMEDOUT)
            error = exchange_write(f->x, SLICE(": still here\n\n"));
        if (!error)
            error = send_news(f);
    }
}

/* Where it begins: behind the last event that the client has, or has no interest in. 0, or it is answered. */
static int find_beginning(struct exchange *x, uint64_t *seen)
{
    const struct http_field *field = http_field_find(&x->request.fields, SLICE("Last-Event-ID"));
    struct slice query = x->request.query, id = field ? field->value : slice_of(NULL, 0);
    int given = field ? 1 : query_take(&x->arena, &query, SLICE("since"), &id);

    *seen = event_last_id();
    if (given == 0 || (given == 1 && slice_to_u64(id, seen)))
        return 0;
    reply_error(x, 400, NULL,
                "Last-Event-ID and since take the number of an event, or 0 for all that are kept");
    return -1;
}

void events_serve(struct admin_call *call)
{
    struct exchange *x = call->x;
    struct follower *f;
    uint64_t seen;

    if (find_beginning(x, &seen) != 0)
        return;
    f = malloc(sizeof *f);
    if (!f) {
        reply_no_memory(x);
        return;
    }
    f->x = x;
    f->seen = seen;
    if (admin_stream_begin(call) == 0) {
        follow(call->admin, f);
        admin_stream_end(call);
    }
    free(f);
}
