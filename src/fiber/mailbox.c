/* mailbox.c - see mailbox.h.
 *
 * A stack that senders push on with one compare-and-swap and the owner takes whole, then turns round. Only the
 * sender that finds the stack empty wakes the owner. CLOSED is a value of the head that nobody replaces. */
#include "fiber/mailbox.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct mailbox {
    _Atomic(struct mail *) newest;
    atomic_uint refs;
    int fd;
};

static struct mail closed_mark;
#define CLOSED (&closed_mark)

int mailbox_create(struct mailbox **mailbox)
{
    struct mailbox *m = calloc(1, sizeof *m);

    *mailbox = NULL;
    if (!m)
        return -ENOMEM;
    m->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (m->fd < 0) {
        int error = -errno;

        free(m);
        return error;
    }
    atomic_init(&m->refs, 1);
    *mailbox = m;
    return 0;
}

struct mailbox *mailbox_ref(struct mailbox *mailbox)
{
    atomic_fetch_add_explicit(&mailbox->refs, 1, memory_order_relaxed);
    return mailbox;
}

void mailbox_unref(struct mailbox *mailbox)
{
    if (atomic_fetch_sub_explicit(&mailbox->refs, 1, memory_order_acq_rel) != 1)
        return;
    close(mailbox->fd);
    free(mailbox);
}

static void drop(struct mail *message)
{
    if (message->drop)
        message->drop(message);
}

void mailbox_send(struct mailbox *mailbox, struct mail *message)
{
    struct mail *top = atomic_load_explicit(&mailbox->newest, memory_order_relaxed);

    do {
        if (top == CLOSED) {
            drop(message);
            return;
        }
        message->next = top;
    } while (!atomic_compare_exchange_weak_explicit(&mailbox->newest, &top, message, memory_order_release,
                                                    memory_order_relaxed));
    if (!top) {
        uint64_t one = 1;
        ssize_t n =
            write(mailbox->fd, &one, sizeof one); /* fails only when the counter is full: woken already */

        (void)n;
    }
}

int mailbox_fd(const struct mailbox *mailbox)
{
    return mailbox->fd;
}

static struct mail *take_all(struct mailbox *mailbox, struct mail *leave)
{
    struct mail *newest = atomic_exchange_explicit(&mailbox->newest, leave, memory_order_acquire);
    struct mail *oldest = NULL;

    while (newest && newest != CLOSED) {
        struct mail *next = newest->next;

        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

void mailbox_deliver(struct mailbox *mailbox)
{
    uint64_t count;
    ssize_t n = read(mailbox->fd, &count, sizeof count); /* before the take: a later message wakes us again */
    struct mail *message = take_all(mailbox, NULL);

    (void)n;
    while (message) {
        struct mail *next = message->next; /* deliver may free or send it on */

        message->deliver(message);
        message = next;
    }
}

void mailbox_close(struct mailbox *mailbox)
{
    struct mail *message = take_all(mailbox, CLOSED);

    while (message) {
        struct mail *next = message->next;

        drop(message);
        message = next;
    }
}
