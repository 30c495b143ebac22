/* hash.c - see hash.h. XXH3 is inlined: a call into the shared library costs more than hashing a short key. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/hash.h"

uint64_t hash_bytes(struct slice s)
{
    return XXH3_64bits(s.ptr, s.len);
}

uint64_t hash_bytes_seeded(struct slice s, uint64_t seed)
{
    return XXH3_64bits_withSeed(s.ptr, s.len, seed);
}
