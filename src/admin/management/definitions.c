/* definitions.c - exchanges, queues and bindings as one document, written and read. See private.h.
 *
 * Virtual hosts and users are the configuration's: what is read has to fit them, before anything is made. What maitred has none of
 * (policies, parameters, topic permissions) is refused where there is some, as leaving it away would change what queues do. */
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>

#include "admin/management/private.h"
#include "base/password.h"

/* ---- users ------------------------------------------------------------------------------------------------------- */

#define SALT_BYTES 4
#define SHA256_BYTES 32
#define SHA512_BYTES 64

/* A password that the file has as it is, hashed as RabbitMQ does. NULL: the library failed. */
static json_t *hash_password(struct slice password)
{
    unsigned char salted[SALT_BYTES + PASSWORD_BYTES_MAX], hash[SALT_BYTES + SHA256_BYTES];
    struct slice text = {0};
    json_t *value = NULL;

    if (password.len <= PASSWORD_BYTES_MAX && RAND_bytes(salted, SALT_BYTES) == 1) {
        memcpy(salted + SALT_BYTES, password.ptr, password.len);
        memcpy(hash, salted, SALT_BYTES);
        if (EVP_Digest(salted, SALT_BYTES + password.len, hash + SALT_BYTES, NULL, EVP_sha256(), NULL) == 1)
            text = terms_to_base64(slice_of((const char *)hash, sizeof hash));
        OPENSSL_cleanse(salted, sizeof salted);
    }
    if (text.ptr)
        value = terms_text(text);
    free((char *)(uintptr_t)text.ptr);
    return value;
}

static const char *algorithm_of(struct slice hash)
{
    if (password_is_slow(hash))
        return "maitred_pbkdf2_sha256";
    return hash.len > (SALT_BYTES + SHA512_BYTES) ? "rabbit_password_hashing_sha512"
                                                  : "rabbit_password_hashing_sha256";
}

static void add_user(void *arg, const struct config_user *user)
{
    struct slice hash = user->password_hash ? slice_from_text(user->password_hash) : SLICE("");
    json_t *o = management_user_json(user);

    terms_put(o, "password_hash",
              hash.len ? terms_text(hash) : hash_password(slice_from_text(user->password)));
    terms_put(o, "hashing_algorithm", json_string(algorithm_of(hash)));
    json_array_append_new(arg, o);
}

static void add_permissions(void *arg, const struct config_user *user)
{
    for (size_t i = 0; i < user->n_virtual_hosts; i++)
        json_array_append_new(arg, management_permission_json(user, user->virtual_hosts[i]));
}

static void add_vhost(void *arg, struct slice vhost)
{
    json_t *o = json_object();

    terms_put(o, "name", terms_text(vhost));
    json_array_append_new(arg, o);
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

/* Members of a document of one virtual host do not say which. */
static void put_vhost(json_t *o, const struct management_call *call, struct slice vhost)
{
    if (!(call->row->flags & ROW_VHOST))
        terms_put(o, "vhost", terms_text(vhost));
}

static json_t *queues_json(const struct management_call *call, const struct topology *topology)
{
    json_t *array = json_array();

    for (size_t i = 0; i < topology->queues.n; i++) {
        const struct seen_queue *q = topology->queues.items[i];
        json_t *o = json_object();

        if (q->exclusive) {
            json_decref(o);
            continue;
        }
        terms_put(o, "name", terms_text(q->name));
        put_vhost(o, call, q->vhost);
        terms_put(o, "durable", json_boolean(q->durable));
        terms_put(o, "auto_delete", json_boolean(q->auto_delete));
        terms_put(o, "arguments", terms_of_table(q->arguments));
        json_array_append_new(array, o);
    }
    return array;
}

static bool is_built_in(struct slice exchange)
{
    return !exchange.len || slice_starts_with(exchange, SLICE("amq."));
}

static json_t *exchanges_json(const struct management_call *call, const struct topology *topology)
{
    json_t *array = json_array();

    for (size_t i = 0; i < topology->exchanges.n; i++) {
        const struct seen_exchange *e = topology->exchanges.items[i];
        json_t *o;

        if (is_built_in(e->name))
            continue;
        o = json_object();
        terms_put(o, "name", terms_text(e->name));
        put_vhost(o, call, e->vhost);
        terms_put(o, "type", json_string(exchange_type_name(e->type)));
        terms_put(o, "durable", json_boolean(e->durable));
        terms_put(o, "auto_delete", json_boolean(e->auto_delete));
        terms_put(o, "internal", json_boolean(e->internal));
        terms_put(o, "arguments", terms_of_table(e->arguments));
        json_array_append_new(array, o);
    }
    return array;
}

static json_t *bindings_json(const struct management_call *call, const struct topology *topology)
{
    json_t *array = json_array();

    for (size_t i = 0; i < topology->bindings.n; i++) {
        const struct seen_binding *b = topology->bindings.items[i];
        json_t *o = b->source.len ? binding_json(b) : NULL;

        if (!o)
            continue;
        json_object_del(o, "properties_key");
        if (call->row->flags & ROW_VHOST)
            json_object_del(o, "vhost");
        json_array_append_new(array, o);
    }
    return array;
}

static void put_people(json_t *o, const struct management_call *call)
{
    json_t *users = json_array(), *vhosts = json_array(), *permissions = json_array();

    management_each_user(call->config, add_user, users);
    management_each_vhost(call->config, add_vhost, vhosts);
    management_each_user(call->config, add_permissions, permissions);
    terms_put(o, "users", users);
    terms_put(o, "vhosts", vhosts);
    terms_put(o, "permissions", permissions);
    terms_put(o, "topic_permissions", json_array());
    terms_put(o, "global_parameters", json_array());
}

void definitions_serve(struct management_call *call)
{
    bool one = call->row->flags & ROW_VHOST;
    struct topology_wish wish = {.queues = true, .exchanges = true, .bindings = BINDINGS_ALL};
    struct topology *topology;
    json_t *o;

    if (one)
        wish.vhost = call->args[0];
    if (!topology_look(call, &wish, &topology))
        return;
    o = json_object();
    terms_put(o, "rabbit_version", json_string(MANAGEMENT_VERSION));
    terms_put(o, "rabbitmq_version", json_string(MANAGEMENT_VERSION));
    terms_put(o, "product_name", json_string("maitred"));
    terms_put(o, "product_version", json_string(MAITRED_VERSION));
    if (!one)
        put_people(o, call);
    terms_put(o, "parameters", json_array());
    terms_put(o, "policies", json_array());
    terms_put(o, "queues", queues_json(call, topology));
    terms_put(o, "exchanges", exchanges_json(call, topology));
    terms_put(o, "bindings", bindings_json(call, topology));
    topology_free(topology);
    management_answer(call, o);
}

/* ---- checking ---------------------------------------------------------------------------------------------------- */

static bool is_empty(const struct management_call *call, const char *name)
{
    return json_array_size(json_object_get(call->body, name)) == 0;
}

/* False: the call is answered. */
static bool check_unknown(struct management_call *call)
{
    static const char *const names[] = {"policies", "parameters", "topic_permissions"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (!is_empty(call, names[i])) {
            management_refuse(
                call, 400, "bad_request",
                "there are %s in it, which maitred has none of; give queues their arguments instead, and "
                "take them out",
                names[i]);
            return false;
        }
    return true;
}

static bool check_vhosts(struct management_call *call)
{
    const json_t *vhost;
    size_t i;

    json_array_foreach(json_object_get(call->body, "vhosts"), i, vhost)
    {
        struct slice name = terms_get(vhost, "name");

        if (name.ptr && management_has_vhost(call->config, name))
            continue;
        management_refuse(call, 400, "bad_request",
                          "virtual hosts are the configuration's: no user of an amqp section has \"%.*s\" in "
                          "virtual-hosts",
                          SLICE_ARG(name));
        return false;
    }
    return true;
}

static bool check_users(struct management_call *call)
{
    const json_t *user;
    size_t i;

    json_array_foreach(json_object_get(call->body, "users"), i, user)
    {
        struct slice name = terms_get(user, "name");

        if (name.ptr && management_find_user(call->config, name))
            continue;
        management_refuse(call, 400, "bad_request",
                          "users are the configuration's: no amqp section has a user \"%.*s\"",
                          SLICE_ARG(name));
        return false;
    }
    return true;
}

/* The virtual host of a member: its own, or that of the path. ptr NULL: there is none of that name. */
static struct slice vhost_of(const struct management_call *call, const json_t *member)
{
    struct slice vhost = call->row->flags & ROW_VHOST ? call->args[0] : terms_get(member, "vhost");

    return vhost.ptr && management_has_vhost(call->config, vhost) ? vhost : (struct slice){0};
}

static bool check_places(struct management_call *call)
{
    static const char *const lists[] = {"exchanges", "queues", "bindings"};
    const json_t *member;
    size_t k;

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        json_array_foreach(json_object_get(call->body, lists[i]), k, member)
        {
            struct slice vhost = terms_get(member, "vhost");

            if (vhost_of(call, member).ptr)
                continue;
            management_refuse(call, 400, "bad_request",
                              "one of the %s is in virtual host \"%.*s\", which is not there", lists[i],
                              SLICE_ARG(vhost));
            return false;
        }
    return true;
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

static bool truth_of(const json_t *member, const char *name)
{
    return json_is_true(json_object_get(member, name));
}

static struct slice text_of(const json_t *member, const char *name)
{
    struct slice text = terms_get(member, name);

    return text.ptr ? text : SLICE("");
}

static struct amqp_method exchange_method(const json_t *member)
{
    return (struct amqp_method){
        .id = AMQP_EXCHANGE_DECLARE,
        .exchange = text_of(member, "name"),
        .type = text_of(member, "type"),
        .durable = truth_of(member, "durable"),
        .auto_delete = truth_of(member, "auto_delete"),
        .internal = truth_of(member, "internal"),
    };
}

static struct amqp_method queue_method(const json_t *member)
{
    return (struct amqp_method){
        .id = AMQP_QUEUE_DECLARE,
        .queue = text_of(member, "name"),
        .durable = truth_of(member, "durable"),
        .auto_delete = truth_of(member, "auto_delete"),
    };
}

static struct amqp_method binding_method(const json_t *member)
{
    bool to_exchange = slice_equal(text_of(member, "destination_type"), SLICE("exchange"));
    struct slice destination = text_of(member, "destination");

    return (struct amqp_method){
        .id = to_exchange ? AMQP_EXCHANGE_BIND : AMQP_QUEUE_BIND,
        .exchange = text_of(member, "source"),
        .queue = to_exchange ? SLICE("") : destination,
        .destination = to_exchange ? destination : SLICE(""),
        .routing_key = text_of(member, "routing_key"),
    };
}

/* False: the call is answered. */
static bool make_one(struct management_call *call, const json_t *member, struct amqp_method method)
{
    struct amqp_operator who = management_operator(call, vhost_of(call, member));
    struct amqp_outcome outcome;
    char *owned;
    int error;

    method.table = table_of_json(json_object_get(member, "arguments"), &owned);
    if (!method.table.ptr) {
        management_refuse(call, 400, "bad_request", "the arguments of %.*s%.*s make no sense",
                          SLICE_ARG(method.exchange), SLICE_ARG(method.queue));
        return false;
    }
    error = amqp_operate(&who, &method, &outcome);
    free(owned);
    if (!error && outcome.code != AMQP_SUCCESS)
        management_refuse(call, 400, "bad_request", "%s; what stood before it is made", outcome.text);
    else if (error)
        management_refuse_error(call, error);
    return !error && outcome.code == AMQP_SUCCESS;
}

static bool make_all(struct management_call *call, const char *name,
                     struct amqp_method (*method)(const json_t *member))
{
    const json_t *member;
    size_t i;

    json_array_foreach(json_object_get(call->body, name), i,
                       member) if (!make_one(call, member, method(member))) return false;
    return true;
}

void definitions_import(struct management_call *call)
{
    if (!check_unknown(call) || !check_vhosts(call) || !check_users(call) || !check_places(call))
        return;
    if (make_all(call, "exchanges", exchange_method) && make_all(call, "queues", queue_method) &&
        make_all(call, "bindings", binding_method))
        management_done(call, 204, NULL);
}
