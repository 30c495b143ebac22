/* token.h - names of messages for the outside: 26 letters that nobody can guess, and that say which message it is.
 *
 * A message's number and address, enciphered as one block of AES-128 with a key of this log's own, so that nothing needs to be
 * kept for finding it again: of the 2^128 names only those of messages that were ever published mean anything. In base32
 * (RFC 4648, lower case, no padding).
 * Threads: struct token_key belongs to its thread. */
#ifndef QUEUE_TOKEN_H
#define QUEUE_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

#define TOKEN_KEY_BYTES 16
/* The file in the log's folder that has it. */
#define QUEUE_KEY_FILE "key"
#define TOKEN_TEXT 26

struct token_key {
    void *encipher, *decipher; /* owned */
};

/* 0 or -ENOMEM. */
int token_key_open(struct token_key *key, const char bytes[TOKEN_KEY_BYTES]);
void token_key_close(struct token_key *key);

/* Not ended by a NUL. False: the library failed. */
bool token_put(const struct token_key *key, uint32_t address, uint64_t number, char text[TOKEN_TEXT]);
/* False: it is nobody's name. */
bool token_take(const struct token_key *key, struct slice text, uint32_t *address, uint64_t *number);

#endif
