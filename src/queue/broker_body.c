/* broker_body.c - bodies that have files of their own (log/stored_body.h): who needs which, and when a file may go. See
 * broker_private.h.
 *
 *   1. A body is needed by every queue that has a message with it, and by who publishes it, until he has said that he is done.
 *   2. Its file goes only when nothing needs it and the log says so durably: else a crash could bring a message back without it.
 *   3. No number of a body is given again: what is left of a file cannot be taken for another's. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "queue/broker_saved.h"

/* What the log says of its end is only gathered. */
#define PLACE_UNKNOWN UINT64_MAX

/* ---- who needs it ------------------------------------------------------------------------------------------------ */

static struct kept_body *find_body(const struct broker *broker, uint64_t id)
{
    struct hash_item *item = hash_table_find(&broker->bodies, id);

    return item ? container_of(item, struct kept_body, by_id) : NULL;
}

static struct stored_message *find_message(const struct broker *broker, uint64_t number)
{
    struct hash_item *item = hash_table_find(&broker->stored, number);

    return item ? container_of(item, struct stored_message, by_number) : NULL;
}

/* The body with that name, made where it is not known. NULL: no memory, or it has another length. */
static struct kept_body *take_body(struct broker *broker, struct body_ref ref)
{
    struct kept_body *body = find_body(broker, ref.id);

    if (body)
        return body->ref.bytes == ref.bytes ? body : NULL;
    body = hash_table_reserve(&broker->bodies) ? calloc(1, sizeof *body) : NULL;
    if (!body)
        return NULL;
    body->ref = ref;
    list_init(&body->link);
    hash_table_add(&broker->bodies, &body->by_id, ref.id);
    if (ref.id >= broker->next_body)
        broker->next_body = ref.id + 1;
    return body;
}

static void free_body(struct broker *broker, struct kept_body *body)
{
    hash_table_remove(&broker->bodies, &body->by_id);
    list_remove(&body->link);
    free(body);
}

int body_prepare(struct broker *broker, const struct message *message)
{
    if (!take_body(broker, message->stored))
        return find_body(broker, message->stored.id) ? -EBADMSG : -ENOMEM;
    if (!broker->spare_stored)
        broker->spare_stored = malloc(sizeof *broker->spare_stored);
    return broker->spare_stored && hash_table_reserve(&broker->stored) ? 0 : -ENOMEM;
}

/* Adds the message to those that have a body, with none in a queue yet. */
static struct stored_message *add_message(struct broker *broker, uint64_t number, struct kept_body *body)
{
    struct stored_message *message = broker->spare_stored;

    broker->spare_stored = NULL;
    *message = (struct stored_message){.number = number, .body = body};
    hash_table_add(&broker->stored, &message->by_number, number);
    return message;
}

void body_need(struct broker *broker, const struct message *message)
{
    struct stored_message *stored = find_message(broker, message->number);

    if (!stored)
        stored = add_message(broker, message->number, find_body(broker, message->stored.id));
    stored->n_entries++;
    stored->body->n_needed++;
    list_remove(&stored->body->link); /* it may have been about to go */
}

/* Where nothing needs it any more it leaves, once the log says so. What replay finds is looked at in the end. */
static void let_go(struct broker *broker, struct kept_body *body)
{
    assert(body->n_needed);
    if (--body->n_needed)
        return;
    if (broker->replaying) {
        free_body(broker, body);
        return;
    }
    body->leaves_at = PLACE_UNKNOWN;
    list_push_back(&broker->leaving, &body->link);
#ifdef MAITRED_PLANT_REMOVAL /* a fault for the simulator to find: it goes before the log says that it may */
    body->leaves_at = 0;
#endif
}

void body_unneed(struct broker *broker, uint64_t number)
{
    struct stored_message *message = find_message(broker, number);
    struct kept_body *body;

    assert(message && message->n_entries);
    body = message->body;
    if (--message->n_entries == 0) {
        hash_table_remove(&broker->stored, &message->by_number);
        free(message);
    }
    let_go(broker, body);
}

/* ---- leaving ----------------------------------------------------------------------------------------------------- */

void bodies_flushed(struct broker *broker)
{
    struct list *at, *before;

    for (at = broker->leaving.prev; at != &broker->leaving; at = before) {
        struct kept_body *body = container_of(at, struct kept_body, link);

        before = at->prev;
        if (body->leaves_at != PLACE_UNKNOWN)
            break;
        if (broker->lost_done)
            list_remove(&body->link); /* it stays: the next start knows whether it is needed */
        else
            body->leaves_at = log_end(broker->log);
    }
    broker->lost_done = false;
}

/* The next one that may go; NULL: none may, yet. */
static struct kept_body *first_leaving(const struct broker *broker)
{
    struct kept_body *body;

    if (list_empty(&broker->leaving))
        return NULL;
    body = container_of(broker->leaving.next, struct kept_body, link);
    if (body->leaves_at == PLACE_UNKNOWN ||
        (body->leaves_at > log_durable(broker->log) && !log_is_durable(broker->log)))
        return NULL;
    return body;
}

bool broker_body_leaves(const struct broker *broker)
{
    return first_leaving(broker) != NULL;
}

struct body_ref broker_body_take_leave(struct broker *broker)
{
    struct kept_body *body = first_leaving(broker);
    struct body_ref ref = body->ref;

    free_body(broker, body);
    return ref;
}

void broker_body_removed(struct broker *broker, struct body_ref ref)
{
    log_take_away(broker->log, stored_body_file_bytes(ref.bytes));
}

void bodies_free(struct broker *broker)
{
    struct hash_item *next;

    for (size_t i = 0; i < broker->stored.n_buckets; i++)
        for (struct hash_item *item = broker->stored.buckets[i]; item; item = next) {
            next = item->next;
            free(container_of(item, struct stored_message, by_number));
        }
    for (size_t i = 0; i < broker->bodies.n_buckets; i++)
        for (struct hash_item *item = broker->bodies.buckets[i]; item; item = next) {
            next = item->next;
            free(container_of(item, struct kept_body, by_id));
        }
    hash_table_free(&broker->stored);
    hash_table_free(&broker->bodies);
    free(broker->spare_stored);
}

/* ---- who publishes it, and who reads it -------------------------------------------------------------------------- */

int broker_body_begin(struct broker *broker, uint64_t bytes, struct body_ref *ref)
{
    uint64_t file_bytes = stored_body_file_bytes(bytes);
    struct kept_body *body;

    *ref = (struct body_ref){broker->next_body, bytes};
    if (broker_failure(broker))
        return -EIO;
    if (!log_fits_beside(broker->log, file_bytes))
        return -ENOSPC;
    body = take_body(broker, *ref);
    if (!body)
        return -ENOMEM;
    body->n_needed = 1;
    log_put_beside(broker->log, file_bytes);
    return 0;
}

void broker_body_end(struct broker *broker, uint64_t id)
{
    let_go(broker, find_body(broker, id));
}

int broker_body_open(const struct broker *broker, struct body_ref ref, struct stored_body *body)
{
    return stored_body_open(body, broker->storage, log_id(broker->log), ref);
}

/* ---- from a checkpoint ------------------------------------------------------------------------------------------- */

int bodies_load(struct broker *broker, struct slice list)
{
    struct saved_body saved;

    while (saved_take_body(&list, &saved)) {
        struct message message = {.number = saved.number, .stored = saved.ref};
        int error = find_message(broker, saved.number) ? -EBADMSG : body_prepare(broker, &message);

        if (error)
            return error;
        add_message(broker, saved.number, find_body(broker, saved.ref.id));
    }
    return 0;
}

int body_count(struct broker *broker, const struct ready_entry *entry)
{
    struct stored_message *message = entry->stored ? find_message(broker, entry->number) : NULL;

    if (!message)
        return entry->stored ? -EBADMSG : 0;
    message->n_entries++;
    message->body->n_needed++;
    return 0;
}

void bodies_uncount(struct broker *broker)
{
    for (size_t i = 0; i < broker->stored.n_buckets; i++)
        for (struct hash_item *item = broker->stored.buckets[i]; item; item = item->next) {
            struct stored_message *message = container_of(item, struct stored_message, by_number);

            message->body->n_needed -= message->n_entries;
            message->n_entries = 0;
        }
}

int bodies_check(const struct broker *broker, struct slice list, struct log_report *report)
{
    struct saved_body saved;

    while (saved_take_body(&list, &saved)) {
        const struct stored_message *message = find_message(broker, saved.number);

        if (message && saved.n_entries && message->n_entries == saved.n_entries)
            continue;
        snprintf(report->text, sizeof report->text,
                 "the checkpoint contradicts itself about the body of message %" PRIu64
                 "; run `maitred log check`",
                 saved.number);
        return -EBADMSG;
    }
    return 0;
}

/* ---- when all is known ------------------------------------------------------------------------------------------- */

/* Files that nothing needs. */
struct leftovers {
    struct broker *broker;
    uint64_t *ids; /* owned */
    size_t n, room;
    int error;
};

static void find_leftover(void *arg, const char *name)
{
    struct leftovers *l = arg;
    size_t room = l->room ? l->room * 2 : 16;
    uint64_t id, *ids;

    if (l->error || !stored_body_parse_name(name, &id))
        return;
    if (id >= l->broker->next_body)
        l->broker->next_body = id + 1;
    if (find_body(l->broker, id))
        return;
    if (l->n == l->room) {
        ids = realloc(l->ids, room * sizeof *ids);
        if (!ids) {
            l->error = -ENOMEM;
            return;
        }
        l->ids = ids;
        l->room = room;
    }
    l->ids[l->n++] = id;
}

/* They must not come back: numbers that are given next are above those that a listing shows now. */
static int remove_leftovers(const struct leftovers *l)
{
    int error = 0;

    for (size_t i = 0; i < l->n && !error; i++)
        error = stored_body_remove(l->broker->storage, l->ids[i]);
    return error || !l->n ? error : storage_sync_names(l->broker->storage);
}

/* That it is there, and long enough. */
static int look_at(struct broker *broker, const struct kept_body *kept, struct log_report *report)
{
    char name[STORED_NAME_MAX];
    struct stored_body body;
    int error = broker_body_open(broker, kept->ref, &body);

    if (!error)
        stored_body_close(&body);
    if (error != -ENOENT && error != -EBADMSG)
        return error;
    stored_body_file_name(kept->ref.id, name);
    snprintf(report->text, sizeof report->text,
             "the log is damaged: %s, the body of messages that wait, %s; run `maitred log check`, and "
             "`maitred log salvage` to copy what can be read into a new folder",
             name, error == -ENOENT ? "is gone" : "is too short");
    return -EBADMSG;
}

int bodies_settle(struct broker *broker, struct log_report *report)
{
    struct leftovers l = {.broker = broker};
    int error = storage_list(broker->storage, find_leftover, &l);

    if (!error)
        error = l.error;
    for (size_t i = 0; i < broker->bodies.n_buckets && !error; i++)
        for (struct hash_item *item = broker->bodies.buckets[i]; item && !error; item = item->next) {
            const struct kept_body *body = container_of(item, struct kept_body, by_id);

            log_put_beside(broker->log, stored_body_file_bytes(body->ref.bytes));
            error = look_at(broker, body, report);
        }
    if (!error)
        error = remove_leftovers(&l);
    free(l.ids);
    return error;
}
