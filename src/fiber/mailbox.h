/* mailbox.h - messages from any thread to the one that owns the mailbox.
 *
 * Messages of one sender arrive in the order they were sent. However many are sent before the owner looks,
 * it is woken once (one write to an eventfd). A message is owned by the mailbox from mailbox_send until its
 * deliver function is called, on the owner's thread, outside of any fiber: it must not wait.
 * A mailbox is reference counted, so that a sender may outlive its owner: after mailbox_close messages are
 * dropped, by their drop function, on the thread that would have sent or delivered them. */
#ifndef FIBER_MAILBOX_H
#define FIBER_MAILBOX_H

#include <stdbool.h>

struct mailbox;

struct mail {
    struct mail *next; /* the mailbox's while it is under way */
    void (*deliver)(struct mail *message);
    void (*drop)(struct mail *message); /* NULL: nothing to do */
};

/* 0 or a negative errno. The caller owns one reference. */
int mailbox_create(struct mailbox **mailbox);
struct mailbox *mailbox_ref(struct mailbox *mailbox);
void mailbox_unref(struct mailbox *mailbox);

/* Any thread. */
void mailbox_send(struct mailbox *mailbox, struct mail *message);

/* The owner's: becomes readable when there is something to deliver. */
int mailbox_fd(const struct mailbox *mailbox);
/* The owner's: delivers what is there, in order. */
void mailbox_deliver(struct mailbox *mailbox);
/* The owner's: drops what is there and whatever comes. */
void mailbox_close(struct mailbox *mailbox);

#endif
