/* connections.c - connections, channels and consumers of the management interface. See private.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/management/private.h"
#include "base/clock.h"
#include "fiber/loop.h"

#define NAME_MAX (2 * ADDRESS_TEXT_MAX + 24)

bool connections_look(struct management_call *call, struct amqp_look **look)
{
    const struct system *system = call->admin->system;
    int error = amqp_look(system->mailboxes, system->n_threads, loop_deadline(MANAGEMENT_WAIT_US), look);

    if (error)
        management_refuse_error(call, error);
    return error == 0;
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

/* "127.0.0.1:44738 -> 127.0.0.1:5672", as RabbitMQ names connections. */
static const char *connection_name(const struct amqp_seen_connection *c, char name[NAME_MAX])
{
    char peer[ADDRESS_TEXT_MAX], local[ADDRESS_TEXT_MAX];

    endpoint_text(&c->peer, peer);
    endpoint_text(&c->local, local);
    snprintf(name, NAME_MAX, "%s -> %s", peer, local);
    return name;
}

static const char *channel_name(const struct amqp_seen_connection *c, const struct amqp_seen_channel *channel,
                                char name[NAME_MAX])
{
    size_t n = strlen(connection_name(c, name));

    snprintf(name + n, NAME_MAX - n, " (%u)", channel->number);
    return name;
}

static json_t *host_of(const struct endpoint *end)
{
    char text[INET6_ADDRSTRLEN];
    struct ip ip = ip_from_endpoint(end);

    return terms_text(slice_of(text, ip_text(&ip, text)));
}

/* Of a unix socket there is none. */
static json_t *port_of(const struct endpoint *end)
{
    return end->sa.sa_family == AF_INET    ? json_integer(ntohs(end->in.sin_port))
           : end->sa.sa_family == AF_INET6 ? json_integer(ntohs(end->in6.sin6_port))
                                           : json_integer(0);
}

/* ---- connections ------------------------------------------------------------------------------------------------- */

/* What the client calls its connection, where it does. */
static json_t *given_name(const struct amqp_seen_connection *c)
{
    struct amqp_value value;

    if (!amqp_table_find(c->properties, SLICE("connection_name"), &value) || value.type != AMQP_TEXT)
        return NULL;
    return terms_text(value.bytes);
}

static json_t *connection_json(const struct amqp_seen_connection *c)
{
    char name[NAME_MAX];
    json_t *o = json_object();

    if (!o)
        return NULL;
    terms_put(o, "auth_mechanism", json_string(c->mechanism));
    terms_put(o, "channel_max", json_integer(c->channel_max));
    terms_put(o, "channels", json_integer((json_int_t)c->n_channels));
    terms_put(o, "client_properties", terms_of_table(c->properties));
    terms_put(o, "connected_at", json_integer((json_int_t)(c->opened_us / US_PER_MS)));
    terms_put(o, "frame_max", json_integer(c->frame_max));
    terms_put(o, "host", host_of(&c->local));
    terms_put(o, "name", json_string(connection_name(c, name)));
    terms_put(o, "node", json_string(MANAGEMENT_NODE));
    terms_put(o, "peer_cert_issuer", json_null());
    terms_put(o, "peer_cert_subject", json_null());
    terms_put(o, "peer_cert_validity", json_null());
    terms_put(o, "peer_host", host_of(&c->peer));
    terms_put(o, "peer_port", port_of(&c->peer));
    terms_put(o, "port", port_of(&c->local));
    terms_put(o, "protocol", json_string("AMQP 0-9-1"));
    management_put_rated(o, "recv_oct", c->received, c->received_rate);
    management_put_rated(o, "send_oct", c->sent, c->sent_rate);
    terms_put(o, "send_pend", json_integer(0));
    terms_put(o, "ssl", json_false());
    terms_put(o, "ssl_cipher", json_null());
    terms_put(o, "ssl_hash", json_null());
    terms_put(o, "ssl_key_exchange", json_null());
    terms_put(o, "ssl_protocol", json_null());
    terms_put(o, "state", json_string(c->state));
    terms_put(o, "timeout", json_integer((json_int_t)(c->heartbeat_us / US_PER_S)));
    terms_put(o, "type", json_string("network"));
    terms_put(o, "user", terms_text(c->user));
    terms_put(o, "user_provided_name", given_name(c));
    terms_put(o, "user_who_performed_action", terms_text(c->user));
    terms_put(o, "vhost", terms_text(c->virtual_host));
    return o;
}

/* Whether the call is about it, and the user may see it. A user sees his own connections, wherever they are. */
static bool is_shown(const struct management_call *call, const struct amqp_seen_connection *c)
{
    if (call->row->flags & ROW_VHOST && !slice_equal(c->virtual_host, call->args[0]))
        return false;
    return call->administrator || slice_equal(c->user, slice_from_text(management_user_name(call)));
}

/* Leaves out what is not shown. */
static void hide(const struct management_call *call, struct amqp_look *look)
{
    size_t n = 0;

    for (size_t i = 0; i < look->n; i++)
        if (is_shown(call, look->connections[i]))
            look->connections[n++] = look->connections[i];
        else
            free(look->connections[i]);
    look->n = n;
}

static json_t *make_connection(void *arg, size_t i)
{
    const struct amqp_look *look = arg;

    return connection_json(look->connections[i]);
}

void connections_serve(struct management_call *call)
{
    struct amqp_look *look;

    if (!connections_look(call, &look))
        return;
    hide(call, look);
    management_answer_list(call, &(struct management_list){look->n, make_connection, look});
    amqp_look_free(look);
}

/* By its name, which is the first of the path. NULL: the call is answered. */
static const struct amqp_seen_connection *find_connection(struct management_call *call,
                                                          struct amqp_look *look)
{
    char name[NAME_MAX];

    hide(call, look);
    for (size_t i = 0; i < look->n; i++)
        if (slice_equal(slice_from_text(connection_name(look->connections[i], name)), call->args[0]))
            return look->connections[i];
    management_not_found(call);
    return NULL;
}

void connection_serve(struct management_call *call)
{
    const struct amqp_seen_connection *c;
    struct amqp_look *look;

    if (!connections_look(call, &look))
        return;
    c = find_connection(call, look);
    if (c)
        management_answer(call, connection_json(c));
    amqp_look_free(look);
}

void connection_close(struct management_call *call)
{
    const struct http_field *reason = http_field_find(&call->x->request.fields, SLICE("X-Reason"));
    const struct system *system = call->admin->system;
    const struct amqp_seen_connection *c;
    struct amqp_look *look;

    if (!connections_look(call, &look))
        return;
    c = find_connection(call, look);
    if (c) {
        amqp_close_by_hand(system->mailboxes, system->n_threads, c->number,
                           reason && reason->value.len ? reason->value
                                                       : SLICE("Closed via management plugin"));
        management_done(call, 204, NULL);
    }
    amqp_look_free(look);
}

/* ---- channels ---------------------------------------------------------------------------------------------------- */

static const char *const count_names[] = {
    [AMQP_COUNT_PUBLISH] = "publish",
    [AMQP_COUNT_CONFIRM] = "confirm",
    [AMQP_COUNT_RETURN_UNROUTABLE] = "return_unroutable",
    [AMQP_COUNT_DROP_UNROUTABLE] = "drop_unroutable",
    [AMQP_COUNT_DELIVER] = "deliver",
    [AMQP_COUNT_DELIVER_NO_ACK] = "deliver_no_ack",
    [AMQP_COUNT_GET] = "get",
    [AMQP_COUNT_GET_NO_ACK] = "get_no_ack",
    [AMQP_COUNT_GET_EMPTY] = "get_empty",
    [AMQP_COUNT_REDELIVER] = "redeliver",
    [AMQP_COUNT_ACK] = "ack",
};

static json_t *channel_stats(const struct amqp_seen_channel *channel)
{
    static const enum amqp_count parts[] = {AMQP_COUNT_DELIVER, AMQP_COUNT_DELIVER_NO_ACK, AMQP_COUNT_GET,
                                            AMQP_COUNT_GET_NO_ACK};
    json_t *stats = json_object();
    uint64_t sum = 0;
    double rate = 0;

    for (size_t i = 0; i < N_AMQP_COUNTS; i++)
        management_put_rated(stats, count_names[i], channel->counts[i], channel->rates[i]);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        sum += channel->counts[parts[i]];
        rate += channel->rates[parts[i]];
    }
    management_put_rated(stats, "deliver_get", sum, rate);
    return stats;
}

static json_t *connection_details(const struct amqp_seen_connection *c)
{
    char name[NAME_MAX];
    json_t *o = json_object();

    terms_put(o, "name", json_string(connection_name(c, name)));
    terms_put(o, "peer_host", host_of(&c->peer));
    terms_put(o, "peer_port", port_of(&c->peer));
    return o;
}

static json_t *channel_json(const struct amqp_seen_connection *c, const struct amqp_seen_channel *channel)
{
    char name[NAME_MAX];
    json_t *o = json_object();

    if (!o)
        return NULL;
    terms_put(o, "acks_uncommitted", json_integer(0));
    terms_put(o, "confirm", json_boolean(channel->confirms));
    terms_put(o, "connection_details", connection_details(c));
    terms_put(o, "consumer_count", json_integer((json_int_t)channel->n_consumers));
    terms_put(o, "global_prefetch_count", json_integer(channel->window_prefetch));
    terms_put(o, "message_stats", channel_stats(channel));
    terms_put(o, "messages_unacknowledged", json_integer((json_int_t)channel->n_unacked));
    terms_put(o, "messages_uncommitted", json_integer((json_int_t)channel->n_uncommitted));
    terms_put(o, "messages_unconfirmed", json_integer((json_int_t)channel->n_unconfirmed));
    terms_put(o, "name", json_string(channel_name(c, channel, name)));
    terms_put(o, "node", json_string(MANAGEMENT_NODE));
    terms_put(o, "number", json_integer(channel->number));
    terms_put(o, "prefetch_count", json_integer(channel->prefetch));
    terms_put(o, "state", json_string("running"));
    terms_put(o, "transactional", json_boolean(channel->transacts));
    terms_put(o, "user", terms_text(c->user));
    terms_put(o, "user_who_performed_action", terms_text(c->user));
    terms_put(o, "vhost", terms_text(c->virtual_host));
    return o;
}

/* A channel, or a consumer of one. */
struct spot {
    const struct amqp_seen_connection *connection;
    const struct amqp_seen_channel *channel;
    const struct amqp_seen_consumer *consumer;
};

struct spots {
    struct spot *at; /* owned */
    size_t n;
};

/* False: no memory. */
static bool make_spots(struct spots *spots, size_t n)
{
    spots->n = 0;
    spots->at = calloc(n + 1, sizeof *spots->at);
    return spots->at != NULL;
}

static bool find_channels(const struct amqp_look *look, struct spots *spots)
{
    size_t n = 0;

    for (size_t i = 0; i < look->n; i++)
        n += look->connections[i]->n_channels;
    if (!make_spots(spots, n))
        return false;
    for (size_t i = 0; i < look->n; i++)
        for (size_t k = 0; k < look->connections[i]->n_channels; k++)
            spots->at[spots->n++] =
                (struct spot){look->connections[i], &look->connections[i]->channels[k], NULL};
    return true;
}

static json_t *make_channel(void *arg, size_t i)
{
    const struct spot *spot = &((const struct spots *)arg)->at[i];

    return channel_json(spot->connection, spot->channel);
}

static void answer_channels(struct management_call *call, struct amqp_look *look)
{
    struct spots spots;

    if (find_channels(look, &spots))
        management_answer_list(call, &(struct management_list){spots.n, make_channel, &spots});
    else
        management_refuse_error(call, -ENOMEM);
    free(spots.at);
}

void channels_serve(struct management_call *call)
{
    struct amqp_look *look;

    if (!connections_look(call, &look))
        return;
    hide(call, look);
    answer_channels(call, look);
    amqp_look_free(look);
}

void connection_channels_serve(struct management_call *call)
{
    struct amqp_seen_connection *c;
    struct amqp_look *look, only;

    if (!connections_look(call, &look))
        return;
    c = (struct amqp_seen_connection *)(uintptr_t)find_connection(call, look);
    only = (struct amqp_look){&c, 1};
    if (c)
        answer_channels(call, &only);
    amqp_look_free(look);
}

static json_t *consumer_json(const struct spot *spot);

/* With the consumers it has. */
static json_t *whole_channel(const struct spot *spot)
{
    json_t *o = channel_json(spot->connection, spot->channel), *consumers = json_array();

    for (size_t i = 0; i < spot->channel->n_consumers; i++)
        json_array_append_new(consumers, consumer_json(&(struct spot){spot->connection, spot->channel,
                                                                      &spot->channel->consumers[i]}));
    terms_put(o, "consumer_details", consumers);
    terms_put(o, "publishes", json_array());
    terms_put(o, "deliveries", json_array());
    return o;
}

void channel_serve(struct management_call *call)
{
    struct spots spots = {0};
    struct amqp_look *look;
    char name[NAME_MAX];
    size_t i = 0;

    if (!connections_look(call, &look))
        return;
    hide(call, look);
    if (find_channels(look, &spots))
        while (i < spots.n &&
               !slice_equal(slice_from_text(channel_name(spots.at[i].connection, spots.at[i].channel, name)),
                            call->args[0]))
            i++;
    if (i < spots.n)
        management_answer(call, whole_channel(&spots.at[i]));
    else
        management_not_found(call);
    free(spots.at);
    amqp_look_free(look);
}

/* ---- consumers --------------------------------------------------------------------------------------------------- */

static json_t *channel_details(const struct spot *spot)
{
    char name[NAME_MAX];
    json_t *o = json_object();

    terms_put(o, "connection_name", json_string(connection_name(spot->connection, name)));
    terms_put(o, "name", json_string(channel_name(spot->connection, spot->channel, name)));
    terms_put(o, "node", json_string(MANAGEMENT_NODE));
    terms_put(o, "number", json_integer(spot->channel->number));
    terms_put(o, "peer_host", host_of(&spot->connection->peer));
    terms_put(o, "peer_port", port_of(&spot->connection->peer));
    terms_put(o, "user", terms_text(spot->connection->user));
    return o;
}

static json_t *consumer_json(const struct spot *spot)
{
    json_t *o = json_object(), *queue = json_object();

    if (!o)
        return NULL;
    terms_put(o, "arguments", terms_of_table(spot->consumer->arguments));
    terms_put(o, "ack_required", json_boolean(!spot->consumer->no_ack));
    terms_put(o, "active", json_true());
    terms_put(o, "activity_status", json_string("up"));
    terms_put(o, "channel_details", channel_details(spot));
    terms_put(o, "consumer_tag", terms_text(spot->consumer->tag));
    terms_put(o, "exclusive", json_boolean(spot->consumer->exclusive));
    terms_put(o, "prefetch_count", json_integer(spot->consumer->prefetch));
    terms_put(queue, "name", terms_text(spot->consumer->queue));
    terms_put(queue, "vhost", terms_text(spot->connection->virtual_host));
    terms_put(o, "queue", queue);
    return o;
}

static void add_consumers(struct spots *spots, const struct amqp_seen_connection *c)
{
    for (size_t k = 0; k < c->n_channels; k++)
        for (size_t m = 0; m < c->channels[k].n_consumers; m++)
            spots->at[spots->n++] = (struct spot){c, &c->channels[k], &c->channels[k].consumers[m]};
}

static bool find_consumers(const struct amqp_look *look, struct spots *spots)
{
    size_t n = 0;

    for (size_t i = 0; i < look->n; i++)
        for (size_t k = 0; k < look->connections[i]->n_channels; k++)
            n += look->connections[i]->channels[k].n_consumers;
    if (!make_spots(spots, n))
        return false;
    for (size_t i = 0; i < look->n; i++)
        add_consumers(spots, look->connections[i]);
    return true;
}

json_t *consumers_of_queue(const struct amqp_look *look, struct slice vhost, struct slice queue)
{
    json_t *array = json_array();
    struct spots spots = {0};

    if (!find_consumers(look, &spots))
        return array;
    for (size_t i = 0; i < spots.n; i++)
        if (slice_equal(spots.at[i].consumer->queue, queue) &&
            slice_equal(spots.at[i].connection->virtual_host, vhost))
            json_array_append_new(array, consumer_json(&spots.at[i]));
    free(spots.at);
    return array;
}

static json_t *make_consumer(void *arg, size_t i)
{
    return consumer_json(&((const struct spots *)arg)->at[i]);
}

/* Those of the virtual hosts that the user sees, whosoever they are. */
static void hide_consumers(const struct management_call *call, struct spots *spots)
{
    bool one = call->row->flags & ROW_VHOST;
    size_t n = 0;

    for (size_t i = 0; i < spots->n; i++) {
        struct slice vhost = spots->at[i].connection->virtual_host;

        if (one ? slice_equal(vhost, call->args[0]) : management_may_see(call, vhost))
            spots->at[n++] = spots->at[i];
    }
    spots->n = n;
}

void consumers_serve(struct management_call *call)
{
    struct spots spots = {0};
    struct amqp_look *look;

    if (!connections_look(call, &look))
        return;
    if (find_consumers(look, &spots)) {
        hide_consumers(call, &spots);
        management_answer_list(call, &(struct management_list){spots.n, make_consumer, &spots});
    } else {
        management_refuse_error(call, -ENOMEM);
    }
    free(spots.at);
    amqp_look_free(look);
}
