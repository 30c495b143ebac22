/* user.c - who asks the management interface: the users of all amqp sections, their passwords, their virtual hosts. See private.h.
 *
 * The manager has the users of the configuration in force, as an amqp listener has its own; a reload makes a new one, and the
 * last call that uses the old one frees it. A name that several sections have is a user for each, told apart by the password. */
#include <errno.h>
#include <stdlib.h>

#include "admin/management/private.h"
#include "base/password.h"
#include "fiber/loop.h"

#define LOGIN_WAIT_US (10 * US_PER_S)

struct manager {
    const struct config *config; /* reference */
    struct access **accesses;    /* by amqp section */
    size_t n;
    unsigned users; /* calls; and the admin */
};

/* ---- its life ---------------------------------------------------------------------------------------------------- */

static void release(struct manager *manager)
{
    if (--manager->users)
        return;
    for (size_t i = 0; i < manager->n; i++)
        access_free(manager->accesses[i]);
    free(manager->accesses);
    config_unref(manager->config);
    free(manager);
}

void manager_free(struct manager *manager)
{
    if (manager)
        release(manager);
}

static struct manager *create(const struct config *config)
{
    struct manager *manager = calloc(1, sizeof *manager);

    if (!manager)
        return NULL;
    manager->users = 1;
    manager->config = config_ref(config);
    manager->accesses = calloc(config->n_amqp + 1, sizeof(struct access *));
    while (manager->accesses && manager->n < config->n_amqp) {
        if (access_create(&manager->accesses[manager->n], &config->amqp[manager->n]) != 0)
            break;
        manager->n++;
    }
    if (manager->accesses && manager->n == config->n_amqp)
        return manager;
    release(manager);
    return NULL;
}

/* Held. NULL: no memory. */
static struct manager *manager_of(struct admin *admin)
{
    const struct config *config = admin->system->config;

    if (!admin->manager || admin->manager->config != config) {
        struct manager *manager = create(config);

        if (!manager)
            return NULL;
        manager_free(admin->manager);
        admin->manager = manager;
    }
    admin->manager->users++;
    return admin->manager;
}

/* ---- logging in -------------------------------------------------------------------------------------------------- */

bool management_is_user(const struct exchange *x)
{
    const struct http_field *field = http_field_find(&x->request.fields, SLICE("Authorization"));

    return field && field->value.len > 6 &&
           slice_equal_nocase(slice_of(field->value.ptr, 6), SLICE("Basic "));
}

static enum access_result log_in_at(struct manager *manager, size_t i, struct slice name,
                                    struct slice password, const struct ip *from, struct access_user **user)
{
    enum access_result result =
        access_login(manager->accesses[i], name, password, from, loop_deadline(LOGIN_WAIT_US), user);

    return result;
}

/* Of each section that has the name; or of the first, so that an unknown name costs what another does. */
static enum management_login try_all(struct manager *manager, struct slice name, struct slice password,
                                     const struct ip *from, struct management_user *user)
{
    enum access_result result = ACCESS_UNKNOWN_USER;
    bool tried = false;

    for (size_t i = 0; i < manager->n && result != ACCESS_GRANTED; i++) {
        if (!access_find(manager->accesses[i], name))
            continue;
        tried = true;
        result = log_in_at(manager, i, name, password, from, &user->user);
    }
    if (!tried && manager->n)
        result = log_in_at(manager, 0, name, password, from, &user->user);
    if (result != ACCESS_GRANTED)
        return result == ACCESS_NO_TIME || result == ACCESS_FAILED ? LOGIN_FAILED : LOGIN_REFUSED;
    user->config = access_user_config(user->user);
    return LOGIN_OK;
}

enum management_login management_log_in(struct admin *admin, struct exchange *x, struct management_user *user)
{
    const struct http_field *field = http_field_find(&x->request.fields, SLICE("Authorization"));
    enum management_login login = LOGIN_REFUSED;
    struct slice given, name, password;
    struct manager *manager;

    *user = (struct management_user){0};
    if (!management_is_user(x))
        return LOGIN_NOT_BASIC;
    manager = manager_of(admin);
    if (!manager)
        return LOGIN_FAILED;
    given = slice_trim(slice_of(field->value.ptr + 6, field->value.len - 6));
    given = terms_from_base64(given);
    password = given;
    name = slice_take(&password, slice_find(given, ':'));
    if (password.len) {
        slice_drop(&password, 1);
        login = try_all(manager, name, password, &x->connection->peer, user);
    }
    free((char *)(uintptr_t)given.ptr);
    user->manager = manager;
    if (login != LOGIN_OK)
        management_log_out(user);
    return login;
}

void management_log_out(struct management_user *user)
{
    if (user->manager)
        release(user->manager);
    *user = (struct management_user){0};
}

/* ---- virtual hosts ----------------------------------------------------------------------------------------------- */

static bool user_has_vhost(const struct config_user *user, struct slice vhost)
{
    for (size_t i = 0; i < user->n_virtual_hosts; i++)
        if (slice_equal(user->virtual_hosts[i], vhost))
            return true;
    return false;
}

/* Whether a user before that one has it. */
static bool is_told(const struct config *config, size_t section, size_t user, struct slice vhost)
{
    if (slice_equal(vhost, SLICE("/")))
        return true;
    for (size_t i = 0; i <= section; i++)
        for (size_t k = 0; k < (i < section ? config->amqp[i].n_users : user); k++)
            if (user_has_vhost(&config->amqp[i].users[k], vhost))
                return true;
    return false;
}

void management_each_vhost(const struct config *config, void (*each)(void *arg, struct slice vhost),
                           void *arg)
{
    each(arg, SLICE("/"));
    for (size_t i = 0; i < config->n_amqp; i++)
        for (size_t k = 0; k < config->amqp[i].n_users; k++)
            for (size_t n = 0; n < config->amqp[i].users[k].n_virtual_hosts; n++) {
                struct slice vhost = config->amqp[i].users[k].virtual_hosts[n];

                if (!is_told(config, i, k, vhost))
                    each(arg, vhost);
            }
}

bool management_has_vhost(const struct config *config, struct slice vhost)
{
    if (slice_equal(vhost, SLICE("/")))
        return true;
    for (size_t i = 0; i < config->n_amqp; i++)
        for (size_t k = 0; k < config->amqp[i].n_users; k++)
            if (user_has_vhost(&config->amqp[i].users[k], vhost))
                return true;
    return false;
}

bool management_may_see(const struct management_call *call, struct slice vhost)
{
    return call->administrator || user_has_vhost(call->user.config, vhost);
}

const char *management_user_name(const struct management_call *call)
{
    return call->user.config ? call->user.config->name : "admin";
}

struct amqp_operator management_operator(const struct management_call *call, struct slice vhost)
{
    return (struct amqp_operator){
        .port = call->admin->system->port,
        .virtual_host = vhost,
        .user = call->administrator ? NULL : call->user.user,
        .user_name = management_user_name(call),
    };
}
