/* access.c - see access.h.
 *
 * Invariants: at most one helper thread at a time, but for those that a cancelled fiber left behind. Whoever leaves the line
 * without taking the turn passes it on. A digest is of the user's name and the password together, so that what is
 * remembered for one user is nothing for another. */
#include "front/amqp/access.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/list.h"
#include "base/password.h"
#include "base/pattern.h"
#include "fiber/offload.h"

#define KEY_BYTES 32
#define DIGEST_BYTES 32
#define REFUSED_MAX 256 /* refusals that are remembered; a newer one takes an older one's place */
#define ANSWERS_MAX 64  /* permissions that are remembered for each user, likewise */
#define ANSWER_NAME_MAX 61

struct digest {
    unsigned char bytes[DIGEST_BYTES];
};

/* What a pattern said of a name. */
struct answer {
    uint8_t kind, len; /* 0: nothing is here; names are not empty */
    bool yes;
    char name[ANSWER_NAME_MAX];
};

struct access_user {
    const struct config_user *config;
    struct access *access;
    bool verified;          /* what is in right is the digest of its name and password */
    struct digest right;    /* where the password is in the file, from the start */
    struct answer *answers; /* ANSWERS_MAX of them; NULL: none yet, or no memory */
};

struct access {
    struct access_user *users; /* by name */
    size_t n_users;
    const char *decoy; /* the hash that is verified where no other can be; NULL: no hash is slow */
    struct matcher *matcher;
    unsigned char key[KEY_BYTES];
    uint64_t seed;
    struct digest refused[REFUSED_MAX];
    struct wait_queue line; /* for the turn to compute */
    bool computing;
    uint64_t hashes;
};

/* --- digests -------------------------------------------------------------------------------------- */

/* False: the library failed. */
static bool compute_digest(const struct access *access, struct slice name, struct slice password,
                           struct digest *digest)
{
    unsigned char text[1 + CONFIG_AMQP_NAME_MAX + PASSWORD_BYTES_MAX];
    bool ok;

    assert(name.len <= CONFIG_AMQP_NAME_MAX && password.len <= PASSWORD_BYTES_MAX);
    text[0] = (unsigned char)name.len;
    if (name.len)
        memcpy(text + 1, name.ptr, name.len);
    if (password.len)
        memcpy(text + 1 + name.len, password.ptr, password.len);
    ok = HMAC(EVP_sha256(), access->key, KEY_BYTES, text, 1 + name.len + password.len, digest->bytes, NULL) !=
         NULL;
    OPENSSL_cleanse(text, sizeof text);
    return ok;
}

static bool same_digest(const struct digest *a, const struct digest *b)
{
    return CRYPTO_memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

/* Where a refusal is remembered: nobody can choose that, the key being unknown. */
static struct digest *refused_slot(struct access *access, const struct digest *digest)
{
    return &access->refused[digest->bytes[0] % REFUSED_MAX];
}

/* --- users ---------------------------------------------------------------------------------------- */

static int compare_names(struct slice a, struct slice b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common ? memcmp(a.ptr, b.ptr, common) : 0;

    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static struct slice name_of(const struct access_user *user)
{
    return slice_from_text(user->config->name);
}

static int compare_users(const void *left, const void *right)
{
    return compare_names(name_of(left), name_of(right));
}

static int compare_key(const void *key, const void *user)
{
    return compare_names(*(const struct slice *)key, name_of(user));
}

struct access_user *access_find(struct access *access, struct slice name)
{
    return bsearch(&name, access->users, access->n_users, sizeof *access->users, compare_key);
}

const struct config_user *access_user_config(const struct access_user *user)
{
    return user->config;
}

/* --- its life ------------------------------------------------------------------------------------- */

static bool has_slow_hash(const struct config_user *user)
{
    return user->password_hash && password_is_slow(slice_from_text(user->password_hash));
}

static bool add_users(struct access *access, const struct config_amqp *config)
{
    for (size_t i = 0; i < config->n_users; i++) {
        struct access_user *user = &access->users[access->n_users++];

        *user = (struct access_user){.config = &config->users[i], .access = access};
        if (has_slow_hash(user->config))
            access->decoy = user->config->password_hash;
        if (!user->config->password)
            continue;
        if (!compute_digest(access, name_of(user), slice_from_text(user->config->password), &user->right))
            return false;
        user->verified = true;
    }
    qsort(access->users, access->n_users, sizeof *access->users, compare_users);
    return true;
}

int access_create(struct access **access, const struct config_amqp *config)
{
    struct access *a = calloc(1, sizeof *a);
    int error = -EIO;

    *access = NULL;
    if (!a)
        return -ENOMEM;
    wait_queue_init(&a->line);
    a->matcher = matcher_create();
    a->users = calloc(config->n_users, sizeof *a->users);
    if (!a->matcher || !a->users)
        error = -ENOMEM;
    else if (RAND_bytes(a->key, KEY_BYTES) == 1 &&
             RAND_bytes((unsigned char *)&a->seed, (int)sizeof a->seed) == 1 && add_users(a, config))
        error = 0;
    if (error)
        access_free(a);
    else
        *access = a;
    return error;
}

void access_free(struct access *access)
{
    if (!access)
        return;
    assert(!access->computing && list_empty(&access->line.waiters));
    for (size_t i = 0; i < access->n_users; i++)
        free(access->users[i].answers);
    free(access->users);
    matcher_free(access->matcher);
    OPENSSL_cleanse(access->key, sizeof access->key);
    free(access);
}

uint64_t access_hashes(const struct access *access)
{
    return access->hashes;
}

/* --- a slow hash ---------------------------------------------------------------------------------- */

struct verification {
    struct offload job;
    const char *hash; /* in the same block, as the configuration may go while a helper is left behind */
    size_t password_bytes;
    bool right;
    char text[PASSWORD_BYTES_MAX + PASSWORD_HASH_TEXT_MAX]; /* the password, and the hash with its NUL */
};

static void verify_on_helper(struct offload *job)
{
    struct verification *v = container_of(job, struct verification, job);

    v->right = password_matches(slice_from_text(v->hash), slice_of(v->text, v->password_bytes));
}

static void free_verification(struct offload *job)
{
    struct verification *v = container_of(job, struct verification, job);

    OPENSSL_cleanse(v->text, sizeof v->text);
    free(v);
}

static struct verification *new_verification(const char *hash, struct slice password)
{
    struct verification *v = malloc(sizeof *v);
    size_t hash_bytes = strlen(hash) + 1;

    assert(password.len <= PASSWORD_BYTES_MAX);
    if (!v || hash_bytes > PASSWORD_HASH_TEXT_MAX) {
        free(v);
        return NULL;
    }
    *v = (struct verification){.job = {.work = verify_on_helper, .free = free_verification}};
    v->password_bytes = password.len;
    memcpy(v->text, password.ptr, password.len);
    v->hash = memcpy(v->text + password.len, hash, hash_bytes);
    return v;
}

/* --- logging in ----------------------------------------------------------------------------------- */

/* Somebody who wants to log in. */
struct login {
    struct access *access;
    struct access_user *user; /* NULL: unknown */
    struct slice password;
    struct digest digest; /* of the name as given, and the password */
};

/* What a look at what is remembered says. */
enum memory { KNOWN_RIGHT, KNOWN_WRONG, UNKNOWN };

static enum memory remembered(const struct login *login)
{
    if (login->user && login->user->verified && same_digest(&login->user->right, &login->digest))
        return KNOWN_RIGHT;
    return same_digest(refused_slot(login->access, &login->digest), &login->digest) ? KNOWN_WRONG : UNKNOWN;
}

static enum access_result conclude(struct login *login, bool right)
{
    if (right && login->user) {
        login->user->right = login->digest;
        login->user->verified = true;
        return ACCESS_GRANTED;
    }
    *refused_slot(login->access, &login->digest) = login->digest;
    return login->user ? ACCESS_WRONG_PASSWORD : ACCESS_UNKNOWN_USER;
}

static void pass_the_turn_on(struct access *access)
{
    if (!access->computing)
        wait_queue_wake_one(&access->line);
}

/* hash: of the user, or the decoy, which lets nobody in but whose it is. No deadline: a hash ends by itself, and a helper
 * that is left behind would not be counted. */
static enum access_result compute(struct login *login, const char *hash)
{
    struct access *access = login->access;
    struct verification *v = new_verification(hash, login->password);
    enum access_result result = ACCESS_FAILED;
    int error = -ENOMEM;

    if (v) {
        access->computing = true;
        access->hashes++;
        error = offload_run(&v->job, NEVER);
        access->computing = false;
    }
    if (error == 0)
        result = conclude(login, v->right && login->user && hash == login->user->config->password_hash);
    else if (error == -ECANCELED)
        result = ACCESS_NO_TIME;
    if (v && error != -ECANCELED)
        free_verification(&v->job);
    pass_the_turn_on(access);
    return result;
}

static enum access_result wait_and_compute(struct login *login, const char *hash, uint64_t deadline_us)
{
    struct access *access = login->access;
    enum memory memory;

    while (access->computing) {
        if (wait_queue_wait(&access->line, deadline_us) != 0) {
            pass_the_turn_on(access);
            return ACCESS_NO_TIME;
        }
        memory = remembered(login); /* another client may have asked the same */
        if (memory != UNKNOWN) {
            pass_the_turn_on(access);
            return conclude(login, memory == KNOWN_RIGHT);
        }
    }
    return compute(login, hash);
}

static enum access_result verify(struct login *login, uint64_t deadline_us)
{
    const struct config_user *config = login->user ? login->user->config : NULL;
    enum memory memory = remembered(login);

    if (memory != UNKNOWN)
        return conclude(login, memory == KNOWN_RIGHT);
    if (config && has_slow_hash(config))
        return wait_and_compute(login, config->password_hash, deadline_us);
    if (config && config->password_hash &&
        password_matches(slice_from_text(config->password_hash), login->password))
        return conclude(login, true);
    return login->access->decoy ? wait_and_compute(login, login->access->decoy, deadline_us)
                                : conclude(login, false);
}

static bool may_come_from(const struct config_user *user, const struct ip *from)
{
    for (size_t i = 0; i < user->n_from; i++)
        if (ip_network_has(&user->from[i], from))
            return true;
    return !user->n_from;
}

enum access_result access_login(struct access *access, struct slice name, struct slice password,
                                const struct ip *from, uint64_t deadline_us, struct access_user **user)
{
    struct login login = {.access = access, .password = password};
    enum access_result result;

    *user = NULL;
    if (name.len > CONFIG_AMQP_NAME_MAX)
        return ACCESS_UNKNOWN_USER;
    login.user = access_find(access, name);
    if (!password.len || password.len > PASSWORD_BYTES_MAX)
        return login.user ? ACCESS_WRONG_PASSWORD : ACCESS_UNKNOWN_USER;
    if (!compute_digest(access, name, password, &login.digest))
        return ACCESS_FAILED;
    result = verify(&login, deadline_us);
    if (result == ACCESS_GRANTED && !may_come_from(login.user->config, from))
        result = ACCESS_WRONG_ADDRESS;
    if (result == ACCESS_GRANTED)
        *user = login.user;
    return result;
}

const char *access_result_text(enum access_result result)
{
    static const char *const texts[] = {
        [ACCESS_GRANTED] = "granted",
        [ACCESS_UNKNOWN_USER] = "unknown user",
        [ACCESS_WRONG_PASSWORD] = "wrong password",
        [ACCESS_WRONG_ADDRESS] = "not allowed from this address",
        [ACCESS_NO_TIME] = "no time: too many log in at once",
        [ACCESS_FAILED] = "no memory, or no thread",
    };

    return texts[result];
}

/* --- permissions ---------------------------------------------------------------------------------- */

bool access_vhost(const struct access_user *user, struct slice name)
{
    for (size_t i = 0; i < user->config->n_virtual_hosts; i++)
        if (slice_equal(user->config->virtual_hosts[i], name))
            return true;
    return false;
}

static bool ask_pattern(const struct access_user *user, enum access_kind kind, struct slice name)
{
    const struct config_pattern *pattern = kind == ACCESS_CONFIGURE ? &user->config->configure
                                           : kind == ACCESS_WRITE   ? &user->config->write
                                                                    : &user->config->read;

    return matcher_matches(user->access->matcher, pattern->compiled, name);
}

/* Where the answer for the name is, or may be put; NULL: nowhere. */
static struct answer *answer_slot(struct access_user *user, enum access_kind kind, struct slice name)
{
    if (!user->answers)
        user->answers = calloc(ANSWERS_MAX, sizeof *user->answers);
    if (!user->answers || name.len > ANSWER_NAME_MAX)
        return NULL;
    return &user->answers[hash_bytes_seeded(name, user->access->seed + kind) % ANSWERS_MAX];
}

bool access_may(struct access_user *user, enum access_kind kind, struct slice name)
{
    struct answer *answer;

    if (!name.len)
        name = SLICE("amq.default");
    answer = answer_slot(user, kind, name);
    if (!answer)
        return ask_pattern(user, kind, name);
    if (answer->len != name.len || answer->kind != kind || memcmp(answer->name, name.ptr, name.len) != 0) {
        *answer = (struct answer){(uint8_t)kind, (uint8_t)name.len, ask_pattern(user, kind, name), {0}};
        memcpy(answer->name, name.ptr, name.len);
    }
    return answer->yes;
}
