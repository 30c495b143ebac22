/* batch.c - see batch.h. */
#include "queue/batch.h"

#include <errno.h>

#include "queue/thread_private.h"

/* ---- room -------------------------------------------------------------------------------------------------------- */

void queue_batch_return_room(struct queue_port *port, uint64_t bytes)
{
    port->bytes -= bytes;
    wait_queue_wake_all(&port->room);
}

/* ---- what comes in pieces ---------------------------------------------------------------------------------------- */

/* Times what may be under way, that one may hold. */
#define OVER_MOST 4

void queue_hold_init(struct queue_hold *hold, void (*give_up)(struct queue_hold *hold))
{
    *hold = (struct queue_hold){.give_up = give_up};
    list_init(&hold->list);
}

/* Who holds, and hardly moves, gives up. */
static void urge(struct queue_port *port)
{
    uint64_t now_us = loop_now_us();
    struct list *next;

    if (now_us - port->looked_us < HOLD_PATIENCE_US)
        return;
    port->looked_us = now_us;
    for (struct list *at = port->holds.next; at != &port->holds; at = next) {
        struct queue_hold *hold = container_of(at, struct queue_hold, list);
        bool moves = hold->waits || hold->moved - hold->moved_before >= HOLD_LEAST;

        next = at->next;
        if (now_us - hold->since_us < HOLD_PATIENCE_US / 2)
            continue;
        hold->since_us = now_us;
        hold->moved_before = hold->moved;
        if (!moves)
            hold->give_up(hold);
    }
}

static bool may_go_over(struct queue_port *port, const struct queue_hold *hold)
{
    if (!hold->bytes || (port->over && port->over != hold))
        return false;
    port->over = hold;
    return true;
}

int queue_hold_room(struct queue_port *port, struct queue_hold *hold, uint64_t bytes)
{
    int error = 0;

    if (hold->bytes && hold->bytes + bytes > OVER_MOST * port->bytes_most)
        return -ENOBUFS;
    hold->waits = true;
    while (!error && port->bytes && port->bytes + bytes > port->bytes_most && !may_go_over(port, hold)) {
        error = wait_queue_wait(&port->room, loop_deadline(HOLD_PATIENCE_US));
        if (error == -ETIMEDOUT) {
            error = 0;
            urge(port);
        }
    }
    hold->waits = false;
    if (error || !bytes)
        return error;
    if (!hold->bytes) {
        list_push_back(&port->holds, &hold->list);
        hold->since_us = loop_now_us();
        hold->moved_before = hold->moved;
    }
    hold->bytes += bytes;
    port->bytes += bytes;
    return 0;
}

void queue_hold_pass(struct queue_port *port, struct queue_hold *hold, uint64_t bytes)
{
    hold->bytes -= bytes;
    if (hold->bytes)
        return;
    list_remove(&hold->list);
    if (port->over == hold) {
        port->over = NULL;
        wait_queue_wake_all(&port->room); /* another one may */
    }
}

/* ---- batches ----------------------------------------------------------------------------------------------------- */

static void on_batch_back(struct mail *mail)
{
    struct queue_batch *batch = container_of(mail, struct queue_batch, mail);

    batch->port->users--;
    batch->counted = 0;
    queue_batch_return_room(batch->port, batch->bytes);
    batch->done(batch);
}

/* The queue thread has ended. */
static void drop_batch(struct mail *mail)
{
    struct queue_batch *batch = container_of(mail, struct queue_batch, mail);

    for (unsigned i = 0; i < batch->n_publications; i++)
        batch->publications[i].result = PUBLISH_CLOSED;
    batch->mail.deliver = on_batch_back;
    mailbox_send(batch->port->home, mail);
}

static void take_batch(struct mail *mail)
{
    struct queue_batch *batch = container_of(mail, struct queue_batch, mail);

    batch->mail.deliver = on_batch_back;
    batch->mail.drop = NULL;
    queue_thread_take_batch(batch->port->thread, batch);
}

void queue_batch_send(struct queue_port *port, struct queue_batch *batch)
{
    batch->port = port;
    port->bytes += batch->bytes - batch->counted;
    port->users++;
    batch->mail = (struct mail){.deliver = take_batch, .drop = drop_batch};
    mailbox_send(queue_thread_mailbox(port->thread), &batch->mail);
}
