/* hash.h - the one hash function of the house: XXH3, 64 bits.
 *
 * The same on every machine and in every version, because ring points and keys must agree between balancers.
 * Not for secrets or against an attacker who chooses keys. Any thread. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/slice.h"

uint64_t hash_bytes(struct slice s);
uint64_t hash_bytes_seeded(struct slice s, uint64_t seed);

#endif
