/* pass.h - a login at the amqp listeners that is made for one process, and ends with it.
 *
 * A pass is no user of the file. Whoever logs in with it may consume from one queue and publish to anything, in the virtual
 * host /; its consumers of that queue, on however many connections, together have so many messages at a time at the most, and
 * what its connections have and have not acknowledged is counted. Each serving thread has a part of every pass, told of it by mail: what it counts there is its own,
 * and read by others. A pass is issued before its name is told to anybody, so that no thread refuses it; stopped, when
 * nothing more is to be delivered to it; and revoked, which closes its connections, and frees it once all threads have let go.
 * Threads: a pass belongs to the thread that made it. Errors: 0 or a negative errno. */
#ifndef FRONT_AMQP_PASS_H
#define FRONT_AMQP_PASS_H

#include <stdbool.h>
#include <stdint.h>

#include "fiber/mailbox.h"

struct amqp_pass;

struct amqp_pass_options {
    const char *name, *secret; /* copied; as a user's name and password */
    const char *queue;         /* copied */
    unsigned slots;            /* messages of it that all have at a time */
    void (*freed)(void *arg);  /* once all threads have let go; not in a fiber */
    void *arg;
};

/* Totals are since it was issued, and never fall. */
struct amqp_pass_sight {
    unsigned connections, consumers;
    uint64_t in_flight; /* delivered, and not acknowledged */
    uint64_t handled;   /* deliveries that ended, well or not */
    uint64_t asked;     /* times that a message was asked for by basic.get, whether there was one or not */
    uint64_t busy_us;   /* in_flight over time */
    bool stopped;       /* amqp_pass_stop has come to all threads */
};

/* By the mailboxes of all serving threads; NULL: it never opened. NULL: no memory. */
struct amqp_pass *amqp_pass_create(struct mailbox *const *mailboxes, unsigned n_mailboxes,
                                   const struct amqp_pass_options *options);
/* Once, in a fiber: waits until all threads know it. -ECANCELED: it is revoked. */
int amqp_pass_issue(struct amqp_pass *pass);
void amqp_pass_look(struct amqp_pass *pass, struct amqp_pass_sight *sight);
/* Once. What is on its way to its clients goes back; they may acknowledge what they have, and what they leave behind is no attempt. */
void amqp_pass_stop(struct amqp_pass *pass);
/* Once, issued or not; it is gone. */
void amqp_pass_revoke(struct amqp_pass *pass);

#endif
