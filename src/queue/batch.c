/* batch.c - see batch.h. */
#include "queue/batch.h"

#include <errno.h>

#include "queue/thread_private.h"

int queue_batch_room(struct queue_port *port, uint64_t bytes, uint64_t deadline_us)
{
    int error = 0;

    if (bytes > port->bytes_most)
        return -EMSGSIZE;
    while (!error && port->bytes && port->bytes + bytes > port->bytes_most)
        error = wait_queue_wait(&port->room, deadline_us);
    if (!error)
        port->bytes += bytes;
    return error;
}

void queue_batch_return_room(struct queue_port *port, uint64_t bytes)
{
    port->bytes -= bytes;
    wait_queue_wake_all(&port->room);
}

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
