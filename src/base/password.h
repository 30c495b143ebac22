/* password.h - salted hashes of passwords: made by `maitred passwd`, verified when somebody logs in.
 *
 * A hash of ours is "$pbkdf2-sha256$i=ITERATIONS$SALT$HASH", salt and hash in base64 without padding. It is slow to compute, so
 * that who steals the file cannot try many passwords: on a helper thread, never on one that serves. PBKDF2 and not scrypt,
 * because what makes scrypt the stronger one is memory, tens of megabytes for each try, and here anybody who can
 * connect may make us try; everything else that a client can make us keep is bounded.
 * RabbitMQ's hashes are taken too, so that its users can be moved: base64 of a salt of 4 bytes and SHA-256 or SHA-512 of
 * salt and password. They are quick.
 * Comparing takes the same time wherever the difference is. Nothing of a password stays in memory that is given back.
 * Pure but for the salt; any thread. Uses some KiB of stack. */
#ifndef BASE_PASSWORD_H
#define BASE_PASSWORD_H

#include <stdbool.h>

#include "base/slice.h"

#define PASSWORD_BYTES_MAX 1024
#define PASSWORD_HASH_TEXT_MAX 128
/* What OWASP recommends for PBKDF2-HMAC-SHA256 (2023): about a fifth of a second. */
#define PASSWORD_ITERATIONS 600000

/* A new hash, which ends in a NUL. iterations: 1000 to 10 million. 0; -EINVAL: the password is empty or too long; -EIO:
 * the library failed. */
int password_hash(struct slice password, unsigned iterations, char text[PASSWORD_HASH_TEXT_MAX]);

/* Whether it is a hash of either kind. */
bool password_is_hash(struct slice hash);
/* Whether verifying takes long. */
bool password_is_slow(struct slice hash);
/* False also when it is no hash, or the password is empty or too long. */
bool password_matches(struct slice hash, struct slice password);

#endif
