/* password.c - see password.h. */
#include "base/password.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>

#define PREFIX "$pbkdf2-sha256$i="
#define SALT_BYTES 16
#define SALT_BYTES_MIN 8
#define SALT_BYTES_MAX 32
#define SHA256_BYTES 32
#define SHA512_BYTES 64
#define SALT_TEXT "22" /* of SALT_BYTES, SHA256_BYTES in base64 */
#define HASH_TEXT "43"
#define ITERATIONS_MIN 1000
#define ITERATIONS_MAX 10000000
#define RABBIT_SALT_BYTES 4
#define BASE64_TEXT_MAX 96 /* of RABBIT_SALT_BYTES + SHA512_BYTES, and a NUL */
#define BASE64_BYTES_MAX 72

/* A hash taken apart. */
struct parsed {
    unsigned iterations; /* 0: RabbitMQ's */
    unsigned char salt[SALT_BYTES_MAX];
    size_t salt_bytes;
    unsigned char hash[SHA512_BYTES];
    size_t hash_bytes;
};

/* --- base64 --------------------------------------------------------------------------------------- */

/* Without padding. Returns the length of text, which ends in a NUL. */
static size_t to_base64(const unsigned char *bytes, size_t n, char text[BASE64_TEXT_MAX])
{
    size_t len = (n * 8 + 5) / 6;

    EVP_EncodeBlock((unsigned char *)text, bytes, (int)n);
    text[len] = '\0';
    return len;
}

/* With padding or without; nothing but what encoding would have made. Returns how many bytes it is; 0: it is none. */
static size_t from_base64(struct slice text, unsigned char bytes[BASE64_BYTES_MAX])
{
    char padded[BASE64_TEXT_MAX + 4], again[BASE64_TEXT_MAX];
    size_t n;

    if (text.len % 4 == 0)
        for (int i = 0; i < 2 && text.len && text.ptr[text.len - 1] == '='; i++)
            text.len--;
    n = text.len * 6 / 8;
    if (!n || text.len >= BASE64_TEXT_MAX || n > BASE64_BYTES_MAX - 3)
        return 0;
    memcpy(padded, text.ptr, text.len);
    memset(padded + text.len, '=', 4);
    if (EVP_DecodeBlock(bytes, (unsigned char *)padded, (int)((text.len + 3) / 4 * 4)) < 0)
        return 0;
    return slice_equal(text, slice_of(again, to_base64(bytes, n, again))) ? n : 0;
}

/* --- taking apart --------------------------------------------------------------------------------- */

static bool parse_ours(struct slice rest, struct parsed *parsed)
{
    unsigned char bytes[BASE64_BYTES_MAX];
    struct slice part;
    uint64_t iterations;

    slice_drop(&rest, sizeof PREFIX - 1);
    if (!slice_next_part(&rest, '$', &part) || !slice_to_u64(part, &iterations) ||
        iterations < ITERATIONS_MIN || iterations > ITERATIONS_MAX)
        return false;
    parsed->iterations = (unsigned)iterations;
    if (!slice_next_part(&rest, '$', &part))
        return false;
    parsed->salt_bytes = from_base64(part, bytes);
    if (parsed->salt_bytes < SALT_BYTES_MIN || parsed->salt_bytes > SALT_BYTES_MAX)
        return false;
    memcpy(parsed->salt, bytes, parsed->salt_bytes);
    parsed->hash_bytes = from_base64(rest, bytes);
    if (parsed->hash_bytes != SHA256_BYTES)
        return false;
    memcpy(parsed->hash, bytes, parsed->hash_bytes);
    return true;
}

static bool parse_rabbit(struct slice text, struct parsed *parsed)
{
    unsigned char bytes[BASE64_BYTES_MAX];
    size_t n = from_base64(text, bytes);

    if (n != RABBIT_SALT_BYTES + SHA256_BYTES && n != RABBIT_SALT_BYTES + SHA512_BYTES)
        return false;
    *parsed = (struct parsed){.salt_bytes = RABBIT_SALT_BYTES, .hash_bytes = n - RABBIT_SALT_BYTES};
    memcpy(parsed->salt, bytes, parsed->salt_bytes);
    memcpy(parsed->hash, bytes + parsed->salt_bytes, parsed->hash_bytes);
    return true;
}

static bool parse(struct slice text, struct parsed *parsed)
{
    return slice_starts_with(text, SLICE(PREFIX)) ? parse_ours(text, parsed) : parse_rabbit(text, parsed);
}

/* --- computing ------------------------------------------------------------------------------------ */

static bool is_password(struct slice password)
{
    return password.len && password.len <= PASSWORD_BYTES_MAX;
}

static bool compute_rabbit(const struct parsed *parsed, struct slice password, unsigned char *hash)
{
    const EVP_MD *digest = parsed->hash_bytes == SHA256_BYTES ? EVP_sha256() : EVP_sha512();
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = context && EVP_DigestInit_ex(context, digest, NULL) == 1 &&
              EVP_DigestUpdate(context, parsed->salt, parsed->salt_bytes) == 1 &&
              EVP_DigestUpdate(context, password.ptr, password.len) == 1 &&
              EVP_DigestFinal_ex(context, hash, NULL) == 1;

    EVP_MD_CTX_free(context);
    return ok;
}

/* hash has room for parsed->hash_bytes. */
static bool compute(const struct parsed *parsed, struct slice password, unsigned char *hash)
{
    if (!parsed->iterations)
        return compute_rabbit(parsed, password, hash);
    return PKCS5_PBKDF2_HMAC(password.ptr, (int)password.len, parsed->salt, (int)parsed->salt_bytes,
                             (int)parsed->iterations, EVP_sha256(), (int)parsed->hash_bytes, hash) == 1;
}

int password_hash(struct slice password, unsigned iterations, char text[PASSWORD_HASH_TEXT_MAX])
{
    struct parsed made = {.iterations = iterations, .salt_bytes = SALT_BYTES, .hash_bytes = SHA256_BYTES};
    char salt[BASE64_TEXT_MAX], hash[BASE64_TEXT_MAX];

    if (!is_password(password) || iterations < ITERATIONS_MIN || iterations > ITERATIONS_MAX)
        return -EINVAL;
    if (RAND_bytes(made.salt, SALT_BYTES) != 1 || !compute(&made, password, made.hash))
        return -EIO;
    to_base64(made.salt, made.salt_bytes, salt);
    to_base64(made.hash, made.hash_bytes, hash);
    snprintf(text, PASSWORD_HASH_TEXT_MAX, PREFIX "%u$%." SALT_TEXT "s$%." HASH_TEXT "s", iterations, salt,
             hash);
    return 0;
}

bool password_is_hash(struct slice hash)
{
    struct parsed parsed;

    return parse(hash, &parsed);
}

bool password_is_slow(struct slice hash)
{
    return slice_starts_with(hash, SLICE(PREFIX));
}

bool password_matches(struct slice hash, struct slice password)
{
    unsigned char computed[SHA512_BYTES];
    struct parsed parsed;
    bool same;

    if (!is_password(password) || !parse(hash, &parsed) || !compute(&parsed, password, computed))
        return false;
    same = CRYPTO_memcmp(computed, parsed.hash, parsed.hash_bytes) == 0;
    OPENSSL_cleanse(computed, sizeof computed);
    return same;
}
