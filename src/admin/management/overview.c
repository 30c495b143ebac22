/* overview.c - the whole of the management interface: overview, the one node, virtual hosts, users, permissions, health. See
 * private.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "admin/management/private.h"
#include "admin/process_usage.h"
#include "base/clock.h"
#include "front/listener.h"

/* ---- pieces ------------------------------------------------------------------------------------------------------ */

static json_t *array_of(const char *text)
{
    json_t *array = json_array();

    json_array_append_new(array, json_string(text));
    return array;
}

static json_t *exchange_types(void)
{
    static const enum exchange_type types[] = {EXCHANGE_DIRECT, EXCHANGE_FANOUT, EXCHANGE_HEADERS,
                                               EXCHANGE_TOPIC};
    json_t *array = json_array();

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        json_t *type = json_object();

        terms_put(type, "name", json_string(exchange_type_name(types[i])));
        terms_put(type, "description", json_string("AMQP exchange, as per the AMQP specification"));
        terms_put(type, "enabled", json_true());
        json_array_append_new(array, type);
    }
    return array;
}

static json_t *listener_json(const struct system_listener *listener)
{
    json_t *o = json_object();
    struct endpoint end;
    char text[ADDRESS_TEXT_MAX], ip[INET6_ADDRSTRLEN];
    struct ip address;
    uint16_t port = 0;

    endpoint_from_address(&end, &listener->address, true);
    endpoint_text(&end, text);
    address = ip_from_endpoint(&end);
    if (end.sa.sa_family == AF_INET)
        port = ntohs(end.in.sin_port);
    else if (end.sa.sa_family == AF_INET6)
        port = ntohs(end.in6.sin6_port);
    terms_put(o, "node", json_string(MANAGEMENT_NODE));
    terms_put(o, "protocol", json_string(listener->listener->kind->name));
    terms_put(o, "ip_address",
              end.sa.sa_family == AF_UNIX ? json_string(text)
                                          : terms_text(slice_of(ip, ip_text(&address, ip))));
    terms_put(o, "port", json_integer(port));
    return o;
}

/* Those of AMQP, and the one that this is asked at. */
static json_t *listeners_json(const struct system *system)
{
    json_t *array = json_array();

    for (const struct list *at = system->listeners.next; at != &system->listeners; at = at->next) {
        const struct system_listener *listener = container_of(at, const struct system_listener, list);

        if (strcmp(listener->listener->kind->name, "amqp") == 0 || listener->admin)
            json_array_append_new(array, listener_json(listener));
    }
    return array;
}

/* ---- overview ---------------------------------------------------------------------------------------------------- */

static json_t *object_totals(const struct management_call *call, const struct topology *topology,
                             const struct amqp_look *look)
{
    size_t connections = 0, channels = 0, consumers = 0;
    json_t *o = json_object();

    for (size_t i = 0; i < look->n; i++) {
        if (!management_may_see(call, look->connections[i]->virtual_host))
            continue;
        connections++;
        channels += look->connections[i]->n_channels;
    }
    for (size_t i = 0; i < topology->queues.n; i++)
        consumers += ((const struct seen_queue *)topology->queues.items[i])->numbers.consumers;
    terms_put(o, "channels", json_integer((json_int_t)channels));
    terms_put(o, "connections", json_integer((json_int_t)connections));
    terms_put(o, "consumers", json_integer((json_int_t)consumers));
    terms_put(o, "exchanges", json_integer((json_int_t)topology->exchanges.n));
    terms_put(o, "queues", json_integer((json_int_t)topology->queues.n));
    return o;
}

/* Of all queues, or of those in one virtual host (ptr not NULL). */
static struct message_rates sum_of(const struct management_call *call, const struct topology *topology,
                                   struct slice vhost)
{
    struct message_rates sum = {0};

    for (size_t i = 0; i < topology->queues.n; i++) {
        const struct seen_queue *queue = topology->queues.items[i];
        struct message_rates rates = message_rates_of(call, topology, queue);

        if (!vhost.ptr || slice_equal(queue->vhost, vhost))
            message_rates_add(&sum, &rates);
    }
    return sum;
}

static void put_versions(json_t *o)
{
    terms_put(o, "management_version", json_string(MANAGEMENT_VERSION));
    terms_put(o, "rabbitmq_version", json_string(MANAGEMENT_VERSION));
    terms_put(o, "product_name", json_string("maitred"));
    terms_put(o, "product_version", json_string(MAITRED_VERSION));
    terms_put(o, "erlang_version", json_string(""));
    terms_put(o, "erlang_full_version", json_string(""));
    terms_put(o, "cluster_name", json_string(MANAGEMENT_NODE));
    terms_put(o, "node", json_string(MANAGEMENT_NODE));
    terms_put(o, "rates_mode", json_string("basic"));
}

static json_t *overview_json(const struct management_call *call, const struct topology *topology,
                             const struct amqp_look *look)
{
    struct message_rates sum = sum_of(call, topology, (struct slice){0});
    json_t *o = json_object(), *totals = json_object();

    put_versions(o);
    terms_put(o, "exchange_types", exchange_types());
    terms_put(o, "disable_stats", json_false());
    terms_put(o, "enable_queue_totals", json_false());
    terms_put(o, "message_stats", message_stats_json(&sum));
    terms_put(o, "churn_rates", json_object());
    message_counts_put(totals, &sum);
    terms_put(o, "queue_totals", totals);
    terms_put(o, "object_totals", object_totals(call, topology, look));
    terms_put(o, "statistics_db_event_queue", json_integer(0));
    terms_put(o, "listeners", listeners_json(call->admin->system));
    terms_put(o, "contexts", json_array());
    return o;
}

void overview_serve(struct management_call *call)
{
    struct topology_wish wish = {.queues = true, .exchanges = true};
    struct topology *topology;
    struct amqp_look *look;

    if (!topology_look(call, &wish, &topology))
        return;
    if (connections_look(call, &look)) {
        management_answer(call, overview_json(call, topology, look));
        amqp_look_free(look);
    }
    topology_free(topology);
}

void cluster_name_serve(struct management_call *call)
{
    json_t *o = json_object();

    terms_put(o, "name", json_string(MANAGEMENT_NODE));
    management_answer(call, o);
}

/* ---- the node ---------------------------------------------------------------------------------------------------- */

static uint64_t memory_of_machine(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), bytes = sysconf(_SC_PAGESIZE);

    return pages > 0 && bytes > 0 ? (uint64_t)pages * (uint64_t)bytes : 0;
}

static uint64_t disk_free(const struct management_call *call)
{
    struct statvfs s;

    if (!call->config->state || statvfs(call->config->state, &s) != 0)
        return 0;
    return (uint64_t)s.f_bavail * s.f_frsize;
}

static json_t *node_json(const struct management_call *call)
{
    const struct system *system = call->admin->system;
    struct process_usage usage = process_usage_now();
    uint64_t now_us = clock_wall_us();
    unsigned connections = atomic_load_explicit(&system->seats->total, memory_order_relaxed);
    char pid[24];
    json_t *o = json_object();

    if (!o)
        return NULL;
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    terms_put(o, "name", json_string(MANAGEMENT_NODE));
    terms_put(o, "type", json_string("disc"));
    terms_put(o, "running", json_true());
    terms_put(o, "os_pid", json_string(pid));
    terms_put(o, "partitions", json_array());
    terms_put(o, "rates_mode", json_string("basic"));
    terms_put(o, "processors", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    terms_put(o, "run_queue", json_integer(0));
    terms_put(o, "uptime", json_integer((json_int_t)((now_us - system->started_us) / US_PER_MS)));
    terms_put(o, "mem_limit", json_integer((json_int_t)memory_of_machine()));
    terms_put(o, "mem_alarm", json_false());
    terms_put(o, "disk_free_limit", json_integer(0));
    terms_put(o, "disk_free_alarm", json_boolean(log_failure_seen(system->port) != NULL));
    terms_put(o, "fd_total", json_integer((json_int_t)usage.max_fds));
    terms_put(o, "sockets_total", json_integer((json_int_t)call->config->max_connections));
    terms_put(o, "proc_total", json_integer((json_int_t)call->config->max_connections));
    management_put_rated(o, "mem_used", usage.resident_bytes, 0);
    management_put_rated(o, "fd_used", usage.open_fds, 0);
    management_put_rated(o, "sockets_used", connections, 0);
    management_put_rated(o, "proc_used", connections, 0);
    management_put_rated(o, "disk_free", disk_free(call), 0);
    terms_put(o, "exchange_types", exchange_types());
    terms_put(o, "enabled_plugins", array_of("rabbitmq_management"));
    terms_put(o, "applications", json_array());
    terms_put(o, "auth_mechanisms", json_array());
    terms_put(o, "contexts", json_array());
    terms_put(o, "cluster_links", json_array());
    terms_put(o, "log_files", json_array());
    terms_put(o, "config_files", array_of(system->file));
    terms_put(o, "db_dir", json_string(call->config->state ? call->config->state : ""));
    return o;
}

static json_t *make_node(void *arg, size_t i)
{
    (void)i;
    return node_json(arg);
}

void nodes_serve(struct management_call *call)
{
    management_answer_list(call, &(struct management_list){1, make_node, call});
}

void node_serve(struct management_call *call)
{
    if (slice_equal(call->args[0], SLICE(MANAGEMENT_NODE)))
        management_answer(call, node_json(call));
    else
        management_not_found(call);
}

/* ---- virtual hosts ----------------------------------------------------------------------------------------------- */

struct vhost_list {
    struct management_call *call;
    struct topology *topology;
    struct slice *names; /* owned; of the configuration */
    size_t n, room;
};

static void add_vhost(void *arg, struct slice vhost)
{
    struct vhost_list *list = arg;
    struct slice *grown;

    if (!management_may_see(list->call, vhost))
        return;
    if (list->n == list->room) {
        list->room = list->room ? list->room * 2 : 8;
        grown = realloc(list->names, list->room * sizeof *grown);
        if (!grown) {
            list->room = list->n;
            return;
        }
        list->names = grown;
    }
    list->names[list->n++] = vhost;
}

static json_t *vhost_json(const struct management_call *call, const struct topology *topology,
                          struct slice name)
{
    struct message_rates sum = sum_of(call, topology, name);
    json_t *o = json_object(), *state = json_object(), *metadata = json_object();

    if (!o)
        return NULL;
    terms_put(state, MANAGEMENT_NODE, json_string("running"));
    terms_put(metadata, "description", json_string(""));
    terms_put(metadata, "tags", json_array());
    terms_put(o, "cluster_state", state);
    terms_put(o, "default_queue_type", json_string("undefined"));
    terms_put(o, "description", json_string(""));
    terms_put(o, "message_stats", message_stats_json(&sum));
    message_counts_put(o, &sum);
    terms_put(o, "metadata", metadata);
    terms_put(o, "name", terms_text(name));
    terms_put(o, "tags", json_array());
    terms_put(o, "tracing", json_false());
    return o;
}

static json_t *make_vhost(void *arg, size_t i)
{
    const struct vhost_list *list = arg;

    return vhost_json(list->call, list->topology, list->names[i]);
}

void vhosts_serve(struct management_call *call)
{
    struct topology_wish wish = {.queues = true};
    struct vhost_list list = {.call = call};

    if (!topology_look(call, &wish, &list.topology))
        return;
    management_each_vhost(call->config, add_vhost, &list);
    management_answer_list(call, &(struct management_list){list.n, make_vhost, &list});
    free(list.names);
    topology_free(list.topology);
}

void vhost_serve(struct management_call *call)
{
    struct topology_wish wish = {.queues = true, .vhost = call->args[0]};
    struct topology *topology;

    if (!topology_look(call, &wish, &topology))
        return;
    management_answer(call, vhost_json(call, topology, call->args[0]));
    topology_free(topology);
}

/* ---- users ------------------------------------------------------------------------------------------------------- */

static json_t *tags_of(const struct config_user *user)
{
    return array_of(!user || user->administrator ? "administrator" : "management");
}

void whoami_serve(struct management_call *call)
{
    json_t *o = json_object();

    terms_put(o, "name", json_string(management_user_name(call)));
    terms_put(o, "tags", tags_of(call->user.config));
    management_answer(call, o);
}

json_t *management_user_json(const struct config_user *user)
{
    json_t *o = json_object();

    if (!o)
        return NULL;
    terms_put(o, "name", terms_text(slice_from_text(user->name)));
    terms_put(o, "tags", tags_of(user));
    terms_put(o, "limits", json_object());
    return o;
}

/* Calls each for every user; of those that have the same name in several sections, for the first. */
void management_each_user(const struct config *config,
                          void (*each)(void *arg, const struct config_user *user), void *arg)
{
    for (size_t i = 0; i < config->n_amqp; i++)
        for (size_t k = 0; k < config->amqp[i].n_users; k++) {
            const struct config_user *user = &config->amqp[i].users[k];

            if (management_find_user(config, slice_from_text(user->name)) == user)
                each(arg, user);
        }
}

const struct config_user *management_find_user(const struct config *config, struct slice name)
{
    for (size_t i = 0; i < config->n_amqp; i++)
        for (size_t k = 0; k < config->amqp[i].n_users; k++)
            if (slice_equal(slice_from_text(config->amqp[i].users[k].name), name))
                return &config->amqp[i].users[k];
    return NULL;
}

static json_t *make_member(void *arg, size_t i)
{
    return json_incref(json_array_get(arg, i));
}

/* What is short enough to be made at once. Takes array. */
static void answer_array(struct management_call *call, json_t *array)
{
    management_answer_list(call, &(struct management_list){json_array_size(array), make_member, array});
    json_decref(array);
}

static void add_user(void *arg, const struct config_user *user)
{
    json_array_append_new(arg, management_user_json(user));
}

void users_serve(struct management_call *call)
{
    json_t *array = json_array();

    management_each_user(call->config, add_user, array);
    answer_array(call, array);
}

void user_serve(struct management_call *call)
{
    const struct config_user *user = management_find_user(call->config, call->args[0]);

    if (user)
        management_answer(call, management_user_json(user));
    else
        management_not_found(call);
}

/* ---- permissions ------------------------------------------------------------------------------------------------- */

json_t *management_permission_json(const struct config_user *user, struct slice vhost)
{
    json_t *o = json_object();

    terms_put(o, "user", terms_text(slice_from_text(user->name)));
    terms_put(o, "vhost", terms_text(vhost));
    terms_put(o, "configure", terms_text(slice_from_text(user->configure.text)));
    terms_put(o, "write", terms_text(slice_from_text(user->write.text)));
    terms_put(o, "read", terms_text(slice_from_text(user->read.text)));
    return o;
}

/* Which of them; ptr NULL: any. */
struct permission_wish {
    json_t *array;
    struct slice user, vhost;
};

static void add_permissions(void *arg, const struct config_user *user)
{
    const struct permission_wish *wish = arg;

    if (wish->user.ptr && !slice_equal(wish->user, slice_from_text(user->name)))
        return;
    for (size_t i = 0; i < user->n_virtual_hosts; i++)
        if (!wish->vhost.ptr || slice_equal(wish->vhost, user->virtual_hosts[i]))
            json_array_append_new(wish->array, management_permission_json(user, user->virtual_hosts[i]));
}

static json_t *permissions_of(const struct management_call *call, struct slice user, struct slice vhost)
{
    struct permission_wish wish = {json_array(), user, vhost};

    management_each_user(call->config, add_permissions, &wish);
    return wish.array;
}

void permissions_serve(struct management_call *call)
{
    answer_array(call, permissions_of(call, (struct slice){0}, (struct slice){0}));
}

void user_permissions_serve(struct management_call *call)
{
    answer_array(call, permissions_of(call, call->args[0], (struct slice){0}));
}

void vhost_permissions_serve(struct management_call *call)
{
    answer_array(call, permissions_of(call, (struct slice){0}, call->args[0]));
}

void permission_serve(struct management_call *call)
{
    json_t *array = permissions_of(call, call->args[1], call->args[0]);

    if (json_array_size(array))
        management_answer(call, json_incref(json_array_get(array, 0)));
    else
        management_not_found(call);
    json_decref(array);
}

/* ---- health ------------------------------------------------------------------------------------------------------ */

static json_t *ok_json(void)
{
    json_t *o = json_object();

    terms_put(o, "status", json_string("ok"));
    return o;
}

/* What RabbitMQ has an alarm for is here that nothing can be published any more. */
void alarms_serve(struct management_call *call)
{
    const char *failure = log_failure_seen(call->admin->system->port);

    if (failure)
        management_refuse(call, 503, "failed", "the queue's log: %.300s", failure);
    else
        management_answer(call, ok_json());
}

/* Of a cluster's nodes; there is one. */
void health_serve(struct management_call *call)
{
    management_answer(call, ok_json());
}

/* What maitred has none of. */
void nothing_serve(struct management_call *call)
{
    answer_array(call, json_array());
}
