/* batch.c - see batch.h. */
#include "queue/batch.h"

#include <errno.h>

#include "queue/thread_private.h"

/* What stands in a record beside the body: its fixed part, as many queues as there may be, a head of a frame's size. */
#define RECORD_BESIDE_BODY (192u * 1024)

uint64_t queue_body_max(const struct queue_port *port)
{
    uint64_t record = counter_get(&queue_thread_numbers(port->thread)->record_max);

    return record > RECORD_BESIDE_BODY ? record - RECORD_BESIDE_BODY : 0;
}

int queue_batch_room(struct queue_port *port, uint64_t bytes, uint64_t deadline_us)
{
    int error = 0;

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
