/* access.h - who may log in at an amqp listener, from where, and what for: its users, as a thread looks at them.
 *
 * Passwords. A hash that is slow to verify is verified on a helper thread, one at a time; the fibers of other clients wait in
 * line. What was verified is remembered, and what was refused for a while, as digests by a random key, so that
 * thousands of clients that come back at once cost one slow hash for each user. An unknown user, a wrong password
 * and a wrong address cost the same where there is a slow hash at all, and are for the log to tell apart: the client gets one
 * answer.
 * Permissions are RabbitMQ's: a pattern that matches anywhere in the name of a queue or exchange, for each kind.
 * Everything known is forgotten with the access: a new configuration has a new one. Whoever stays logged in over that looks
 * itself up again, by access_find.
 * Threads: belongs to its thread. The configuration outlives it; it outlives every fiber in access_login and every
 * user that somebody has of it. A fiber needs 6 KiB of stack for any of this. */
#ifndef FRONT_AMQP_ACCESS_H
#define FRONT_AMQP_ACCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/address.h"
#include "base/slice.h"
#include "config/config.h"

struct access;
struct access_user;

enum access_result {
    ACCESS_GRANTED,
    /* These three look the same to the client. */
    ACCESS_UNKNOWN_USER,
    ACCESS_WRONG_PASSWORD,
    ACCESS_WRONG_ADDRESS, /* with the right password */
    ACCESS_NO_TIME,       /* the deadline passed in line, or the fiber was cancelled */
    ACCESS_FAILED,        /* no memory, or no thread */
};

/* What a user wants to do with a queue or an exchange. */
enum access_kind { ACCESS_CONFIGURE, ACCESS_WRITE, ACCESS_READ };

/* 0; -ENOMEM; -EIO: the library has no random numbers. */
int access_create(struct access **access, const struct config_amqp *config);
void access_free(struct access *access); /* NULL is allowed */

/* In a fiber. Waits where the hash is slow: in line until the deadline, and for the hash itself, some tenths of a second.
 * *user is the access's own; NULL unless it is granted. */
enum access_result access_login(struct access *access, struct slice name, struct slice password,
                                const struct ip *from, uint64_t deadline_us, struct access_user **user);
/* "wrong password": for the log. */
const char *access_result_text(enum access_result result);

/* The user of that name, of whom no password is asked any more; NULL: there is none. */
struct access_user *access_find(struct access *access, struct slice name);
/* Its name, and whether it is an administrator. */
const struct config_user *access_user_config(const struct access_user *user);

/* Whether the user may open the virtual host. */
bool access_vhost(const struct access_user *user, struct slice name);
/* The default exchange has the name "", and is asked for as amq.default. */
bool access_may(struct access_user *user, enum access_kind kind, struct slice name);

/* How often a slow hash was computed. */
uint64_t access_hashes(const struct access *access);

#endif
