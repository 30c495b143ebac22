/* operate.c - see operate.h. */
#include "front/amqp/operate.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "front/amqp/private.h"

/* How long the queue thread may take; what it was asked for happens all the same. */
#define WAIT_US (10 * US_PER_S)
#define TTL_MS_MAX UINT64_C(4294967295)

_Static_assert(AMQP_OUTCOME_TEXT == AMQP_TEXT_MAX, "what an operation says fits");

/* ---- names ------------------------------------------------------------------------------------------------------- */

/* What stands before names in a virtual host; in block, or empty. */
static struct slice prefix_of(struct slice virtual_host, char block[CONFIG_AMQP_NAME_MAX + 1])
{
    if (slice_equal(virtual_host, SLICE("/")))
        return SLICE("");
    assert(virtual_host.len <= CONFIG_AMQP_NAME_MAX);
    memcpy(block, virtual_host.ptr, virtual_host.len);
    block[virtual_host.len] = '\0';
    return slice_of(block, virtual_host.len + 1);
}

struct slice amqp_broker_name(struct slice virtual_host, struct slice name, char block[BROKER_NAME_MAX])
{
    struct slice prefix = prefix_of(virtual_host, block);

    if (!prefix.len || !name.len || name.len > BROKER_NAME_MAX - prefix.len)
        return name;
    memcpy(block + prefix.len, name.ptr, name.len);
    return slice_of(block, prefix.len + name.len);
}

struct slice amqp_name_of(struct slice broker_name, struct slice *virtual_host)
{
    size_t n = slice_find(broker_name, '\0');

    *virtual_host = n == broker_name.len ? SLICE("/") : slice_of(broker_name.ptr, n);
    if (n < broker_name.len)
        slice_drop(&broker_name, n + 1);
    return broker_name;
}

int amqp_open_virtual_host(struct broker *broker, struct slice virtual_host)
{
    struct broker_exchange_view view;
    char block[BROKER_NAME_MAX], prefix[CONFIG_AMQP_NAME_MAX + 1];

    if (broker_find_exchange(broker, amqp_broker_name(virtual_host, SLICE("amq.topic"), block), &view))
        return 0;
    return amqp_declare_built_in(broker, prefix_of(virtual_host, prefix));
}

/* ---- what is allowed --------------------------------------------------------------------------------------------- */

static void refuse(struct amqp_outcome *outcome, enum amqp_reply code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void refuse(struct amqp_outcome *outcome, enum amqp_reply code, const char *format, ...)
{
    va_list arguments;

    outcome->code = code;
    va_start(arguments, format);
    vsnprintf(outcome->text, sizeof outcome->text, format, arguments);
    va_end(arguments);
}

static bool may(const struct amqp_operator *who, enum access_kind kind, bool exchange, struct slice name,
                struct amqp_outcome *outcome)
{
    if (!who->user || access_may(who->user, kind, name))
        return true;
    refuse(outcome, AMQP_ACCESS_REFUSED, "access to %s '%.*s' in vhost '%.*s' refused for user '%s'",
           exchange ? "exchange" : "queue", SLICE_ARG(name), SLICE_ARG(who->virtual_host), who->user_name);
    return false;
}

/* Of what is declared: the exchange that a text among its arguments names. Empty: there is none. */
static struct slice other_exchange(const struct amqp_method *method)
{
    const char *argument = method->id == AMQP_QUEUE_DECLARE ? "x-dead-letter-exchange" : "alternate-exchange";
    struct amqp_value value;

    if (!amqp_table_find(method->table, slice_from_text(argument), &value) || value.type != AMQP_TEXT ||
        value.bytes.len > CONFIG_AMQP_NAME_MAX)
        return SLICE("");
    return value.bytes;
}

static bool may_declare(const struct amqp_operator *who, const struct amqp_method *method, bool exchange,
                        struct slice name, struct amqp_outcome *outcome)
{
    struct slice other = other_exchange(method);

    return may(who, ACCESS_CONFIGURE, exchange, name, outcome) &&
           (!other.len ||
            (may(who, ACCESS_READ, exchange, name, outcome) && may(who, ACCESS_WRITE, true, other, outcome)));
}

static bool is_to_exchange(const struct amqp_method *method)
{
    return method->id == AMQP_EXCHANGE_BIND || method->id == AMQP_EXCHANGE_UNBIND;
}

static bool may_operate(const struct amqp_operator *who, const struct amqp_method *method,
                        struct amqp_outcome *outcome)
{
    bool to_exchange = is_to_exchange(method);

    switch (method->id) {
    case AMQP_QUEUE_DECLARE:
        return may_declare(who, method, false, method->queue, outcome);
    case AMQP_QUEUE_DELETE:
        return may(who, ACCESS_CONFIGURE, false, method->queue, outcome);
    case AMQP_QUEUE_PURGE:
        return may(who, ACCESS_READ, false, method->queue, outcome);
    case AMQP_EXCHANGE_DECLARE:
        return may_declare(who, method, true, method->exchange, outcome);
    case AMQP_EXCHANGE_DELETE:
        return may(who, ACCESS_CONFIGURE, true, method->exchange, outcome);
    default:
        return may(who, ACCESS_WRITE, to_exchange, to_exchange ? method->destination : method->queue,
                   outcome) &&
               may(who, ACCESS_READ, true, method->exchange, outcome);
    }
}

/* What no operation may be done with: the default exchange, and deleting those that every virtual host has. */
static bool is_sane(const struct amqp_method *method, struct amqp_outcome *outcome)
{
    bool is_queue =
        method->id == AMQP_QUEUE_DECLARE || method->id == AMQP_QUEUE_DELETE || method->id == AMQP_QUEUE_PURGE;

    if ((!is_queue && !method->exchange.len) || (is_to_exchange(method) && !method->destination.len))
        refuse(outcome, AMQP_ACCESS_REFUSED, "operation not permitted on the default exchange");
    else if (method->id == AMQP_EXCHANGE_DELETE && slice_starts_with(method->exchange, SLICE("amq.")))
        refuse(outcome, AMQP_ACCESS_REFUSED, "deletion of system exchange '%.*s' not allowed",
               SLICE_ARG(method->exchange));
    else if (!amqp_table_is_valid(method->table) || method->table.len > BROKER_ARGUMENTS_MAX)
        refuse(outcome, AMQP_SYNTAX_ERROR, "the arguments cannot be read");
    else if (method->queue.len > 255 || method->exchange.len > 255 || method->destination.len > 255 ||
             method->routing_key.len > BROKER_KEY_MAX)
        refuse(outcome, AMQP_SYNTAX_ERROR, "a name has 255 bytes at most");
    else
        return true;
    return false;
}

/* ---- operations -------------------------------------------------------------------------------------------------- */

static struct amqp_operation *make(const struct amqp_operator *who, const struct amqp_method *method)
{
    char block[CONFIG_AMQP_NAME_MAX + 1];
    struct amqp_place place = {NULL, who->virtual_host, prefix_of(who->virtual_host, block)};
    bool to_exchange = is_to_exchange(method);

    switch (method->id) {
    case AMQP_QUEUE_DECLARE:
    case AMQP_QUEUE_DELETE:
    case AMQP_QUEUE_PURGE:
    case AMQP_BASIC_GET:
        return amqp_operation_make(&place, method, method->queue, other_exchange(method));
    case AMQP_EXCHANGE_DECLARE:
    case AMQP_EXCHANGE_DELETE:
        return amqp_operation_make(&place, method, method->exchange, other_exchange(method));
    default:
        return amqp_operation_make(&place, method, method->exchange,
                                   to_exchange ? method->destination : method->queue);
    }
}

static amqp_work *work_of(enum amqp_method_id id)
{
    bool is_queue = id == AMQP_QUEUE_DECLARE || id == AMQP_QUEUE_DELETE || id == AMQP_QUEUE_PURGE;

    return is_queue ? amqp_queue_work(id) : amqp_exchange_work(id);
}

/* Whoever works by hand in a virtual host finds in it what a connection would. */
static void run_by_hand(struct amqp_operation *o, struct broker *broker, uint64_t now_us)
{
    if (amqp_open_virtual_host(broker, o->virtual_host) == 0)
        work_of(o->method.id)(o, broker, now_us);
    else
        amqp_refuse(o, AMQP_INTERNAL_ERROR, "the queue's log takes nothing");
}

/* Sets what is declared. False: o says why not. */
static bool set_options(struct amqp_operation *o)
{
    enum exchange_type type = EXCHANGE_DIRECT;

    if (o->method.id == AMQP_EXCHANGE_DECLARE && !amqp_exchange_type(o->method.type, &type)) {
        amqp_refuse(o, AMQP_COMMAND_INVALID, "unknown exchange type '%.*s'", SLICE_ARG(o->method.type));
        return false;
    }
    o->exchange = (struct broker_exchange_options){
        .type = type,
        .durable = o->method.durable,
        .auto_delete = o->method.auto_delete,
        .internal = o->method.internal,
        .alternate = o->other,
        .arguments = o->method.table,
    };
    return true;
}

static void take_outcome(struct amqp_outcome *outcome, const struct amqp_operation *o)
{
    *outcome = (struct amqp_outcome){
        .code = o->code,
        .was_there = o->was_there,
        .n_messages = o->n_messages,
        .n_consumers = o->n_consumers,
    };
    memcpy(outcome->text, o->text, sizeof outcome->text);
}

/* Runs and frees it. */
static int run(const struct amqp_operator *who, struct amqp_operation *o, struct amqp_outcome *outcome)
{
    int error = queue_job_run(who->port, &o->job, true, loop_deadline(WAIT_US));

    if (error)
        return error; /* it frees itself */
    take_outcome(outcome, o);
    amqp_operation_free(o);
    return 0;
}

int amqp_operate(const struct amqp_operator *who, const struct amqp_method *method,
                 struct amqp_outcome *outcome)
{
    struct amqp_operation *o;

    *outcome = (struct amqp_outcome){.code = AMQP_SUCCESS};
    if (!who->port->thread)
        return -ENODEV;
    if (!is_sane(method, outcome) || !may_operate(who, method, outcome))
        return 0;
    o = make(who, method);
    if (!o)
        return -ENOMEM;
    o->run = run_by_hand;
    if (set_options(o))
        return run(who, o, outcome);
    take_outcome(outcome, o);
    amqp_operation_free(o);
    return 0;
}

/* ---- publishing -------------------------------------------------------------------------------------------------- */

struct hand_publish {
    struct queue_batch batch;
    struct queue_publication publication;
    struct fiber *waiter; /* NULL: nobody waits any more */
    bool back;
    char block[];
};

static void on_published(struct queue_batch *batch)
{
    struct hand_publish *h = container_of(batch, struct hand_publish, batch);

    h->back = true;
    if (h->waiter)
        fiber_wake(h->waiter);
    else
        free(h);
}

static struct slice put_copy(char **at, struct slice s)
{
    char *start = *at;

    if (s.len)
        memcpy(start, s.ptr, s.len);
    *at += s.len;
    return slice_of(start, s.len);
}

static size_t content_bytes(const struct amqp_content *content)
{
    size_t n = 256 + content->headers.len * 2;

    for (size_t i = 0; i < sizeof content->texts / sizeof content->texts[0]; i++)
        n += content->texts[i].len;
    return n;
}

/* All that it needs, in its block. NULL: no memory, or the properties fit no message. */
static struct hand_publish *make_publish(const struct amqp_operator *who, struct slice exchange,
                                         struct slice key, const struct amqp_content *content,
                                         struct slice body)
{
    char names[2][BROKER_NAME_MAX];
    struct slice to = amqp_broker_name(who->virtual_host, exchange, names[0]);
    struct slice by = exchange.len ? key : amqp_broker_name(who->virtual_host, key, names[1]);
    struct amqp_content whole = *content;
    size_t head = content_bytes(content);
    struct hand_publish *h =
        calloc(1, sizeof *h + to.len + by.len + head + ENVELOPE_ITEM_OVERHEAD + body.len);
    char *at = h ? h->block : NULL, *start;
    struct amqp_out out;

    if (!h)
        return NULL;
    h->publication.exchange = put_copy(&at, to);
    h->publication.key = put_copy(&at, by);
    h->publication.body = put_copy(&at, body);
    whole.body_bytes = body.len;
    start = at + ENVELOPE_ITEM_OVERHEAD;
    out = amqp_out_of(start, head);
    amqp_put_content(&out, &whole);
    if (amqp_out_close(&out, start) != AMQP_WRITTEN) {
        free(h);
        return NULL;
    }
    h->publication.head = slice_of(at, (size_t)(out.at - at));
    envelope_put_head(at, &(struct envelope_item){.tag = ENVELOPE_AMQP,
                                                  .value = slice_of(start, (size_t)(out.at - start))});
    h->publication.priority = content->priority;
    return h;
}

/* Of the properties; false: it is refused. */
static bool take_ttl(const struct amqp_content *content, uint64_t *ttl_us, struct amqp_outcome *outcome)
{
    struct slice text = content->texts[AMQP_EXPIRATION];
    uint64_t ms = 0;

    *ttl_us = 0;
    if (!amqp_content_has(content, AMQP_EXPIRATION))
        return true;
    if (!slice_to_u64(text, &ms) || ms > TTL_MS_MAX) {
        refuse(outcome, AMQP_PRECONDITION_FAILED, "invalid expiration '%.*s'", SLICE_ARG(text));
        return false;
    }
    *ttl_us = ms ? ms * US_PER_MS : 1;
    return true;
}

static bool is_own_user(const struct amqp_operator *who, const struct amqp_content *content,
                        struct amqp_outcome *outcome)
{
    struct slice user = content->texts[AMQP_USER_ID];

    if (!amqp_content_has(content, AMQP_USER_ID) || slice_equal(user, slice_from_text(who->user_name)))
        return true;
    refuse(outcome, AMQP_PRECONDITION_FAILED,
           "user_id property set to '%.*s' but authenticated user was '%s'", SLICE_ARG(user), who->user_name);
    return false;
}

static void say_published(struct amqp_outcome *outcome, enum publish_result result, struct slice exchange,
                          struct slice virtual_host)
{
    switch (result) {
    case PUBLISH_OK:
    case PUBLISH_SAME:
        outcome->routed = true;
        break;
    case PUBLISH_UNROUTABLE:
        break;
    case PUBLISH_NO_EXCHANGE:
        refuse(outcome, AMQP_NOT_FOUND, "no exchange '%.*s' in vhost '%.*s'", SLICE_ARG(exchange),
               SLICE_ARG(virtual_host));
        break;
    case PUBLISH_INTERNAL:
        refuse(outcome, AMQP_ACCESS_REFUSED, "cannot publish to internal exchange '%.*s' in vhost '%.*s'",
               SLICE_ARG(exchange), SLICE_ARG(virtual_host));
        break;
    case PUBLISH_FULL:
        refuse(outcome, AMQP_PRECONDITION_FAILED, "a queue is full, and refused it");
        break;
    case PUBLISH_TOO_LARGE:
        refuse(outcome, AMQP_PRECONDITION_FAILED, "the message is larger than a record of the log may be");
        break;
    case PUBLISH_NO_SPACE:
        refuse(outcome, AMQP_RESOURCE_ERROR, "there is no space for the queue's log");
        break;
    default:
        refuse(outcome, AMQP_INTERNAL_ERROR, "the queue's log takes nothing");
        break;
    }
}

/* 0: h is the caller's again. */
static int send_and_wait(struct queue_port *port, struct hand_publish *h)
{
    int error = 0;

    h->waiter = fiber_self();
    queue_batch_send(port, &h->batch);
    while (!error && !h->back)
        error = fiber_park(NEVER);
    if (h->back)
        return 0;
    h->waiter = NULL;
    return error;
}

int amqp_publish_by_hand(const struct amqp_operator *who, struct slice exchange, struct slice key,
                         const struct amqp_content *content, struct slice body, struct amqp_outcome *outcome)
{
    struct hand_publish *h;
    uint64_t ttl_us;
    int error;

    *outcome = (struct amqp_outcome){.code = AMQP_SUCCESS};
    if (!who->port->thread)
        return -ENODEV;
    if (exchange.len > 255 || key.len > BROKER_KEY_MAX || !amqp_is_name(exchange) ||
        (!exchange.len && !amqp_is_name(key))) {
        refuse(outcome, AMQP_SYNTAX_ERROR, "a name or key has 255 bytes at most, and no NUL");
        return 0;
    }
    if (!may(who, ACCESS_WRITE, true, exchange, outcome) || !take_ttl(content, &ttl_us, outcome) ||
        !is_own_user(who, content, outcome))
        return 0;
    h = make_publish(who, exchange, key, content, body);
    if (!h)
        return -ENOMEM;
    h->publication.ttl_us = ttl_us;
    h->batch.publications = &h->publication;
    h->batch.n_publications = 1;
    h->batch.bytes = h->publication.head.len + body.len;
    h->batch.done = on_published;
    error = send_and_wait(who->port, h);
    if (error)
        return error;
    say_published(outcome, h->publication.result, exchange, who->virtual_host);
    free(h);
    return 0;
}

/* ---- taking ------------------------------------------------------------------------------------------------------ */

/* Whether it may be taken from, and what it is. Runs at the broker. */
static void run_look(struct amqp_operation *o, struct broker *broker, uint64_t now_us)
{
    struct broker_queue_view view;

    if (amqp_is_locked(o, broker, o->name, o->method.queue))
        return;
    if (!broker_find_queue(broker, o->name, &view)) {
        amqp_refuse(o, AMQP_NOT_FOUND, "no queue '%.*s' in vhost '%.*s'", SLICE_ARG(o->method.queue),
                    SLICE_ARG(o->virtual_host));
        return;
    }
    broker_touch_queue(broker, o->name, now_us);
    o->was_there = amqp_counts_deliveries(view.options->arguments);
}

static int look(const struct amqp_operator *who, struct slice queue, struct amqp_outcome *outcome)
{
    struct amqp_method method = {.id = AMQP_BASIC_GET, .queue = queue};
    struct amqp_operation *o = make(who, &method);

    if (!o)
        return -ENOMEM;
    o->run = run_look;
    return run(who, o, outcome);
}

/* What came, and is held until all is taken. */
struct holding {
    struct queue_delivery *came;  /* the last one; owned */
    struct queue_delivery *first; /* by next; owned */
    struct queue_delivery **last;
    uint64_t bytes;
};

static void on_delivery(void *arg, struct queue_delivery *delivery)
{
    struct holding *holding = arg;

    assert(!holding->came);
    holding->came = delivery;
}

static void settle(struct holding *holding, enum amqp_taking taking)
{
    while (holding->first) {
        struct queue_delivery *d = holding->first;

        holding->first = d->next;
        if (taking == AMQP_TAKE_AWAY)
            queue_delivery_free(d);
        else
            queue_settle(d, taking == AMQP_TAKE_BACK ? VERDICT_RETURN : VERDICT_REJECT);
    }
}

/* The beginning of a body that has a file, in memory that is the caller's. 0 or a negative errno. */
static int read_beginning(struct queue_port *port, struct queue_delivery *d, uint64_t most, char **bytes,
                          size_t *len)
{
    uint64_t room = d->message.stored.bytes < most ? d->message.stored.bytes : most;
    struct queue_reader *reader;
    struct slice piece;
    int result = 1;

    *len = 0;
    *bytes = malloc(room + 1);
    reader = *bytes ? queue_reader_create(port, &d->body, false) : NULL;
    if (!reader)
        return -ENOMEM;
    while (*len < room && (result = queue_reader_next(reader, &piece)) == 1) {
        size_t some = piece.len < room - *len ? piece.len : room - *len;

        memcpy(*bytes + *len, piece.ptr, some);
        *len += some;
    }
    if (result != -ECANCELED)
        queue_reader_free(reader);
    return result < 0 ? result : 0;
}

/* Shows it, and keeps it. */
static int hold(struct holding *holding, const struct amqp_operator *who, bool counts, uint64_t left,
                uint64_t body_most, void (*each)(void *arg, const struct amqp_taken *taken), void *arg)
{
    char block[CONFIG_AMQP_NAME_MAX + 1], *owned = NULL, *beginning = NULL;
    struct slice prefix = prefix_of(who->virtual_host, block);
    struct queue_delivery *d = holding->came;
    struct amqp_taken taken = {
        .exchange = amqp_without_prefix(prefix, d->exchange),
        .routing_key = d->message.exchange ? d->message.routing_key
                                           : amqp_without_prefix(prefix, d->message.routing_key),
        .body = d->message.body,
        .body_bytes = message_body_bytes(&d->message),
        .redelivered = d->redelivered,
        .left = left,
    };
    size_t len;
    int error = 0;

    if (d->message.stored.id) {
        error = read_beginning(who->port, d, body_most, &beginning, &len);
        taken.body = slice_of(beginning, error ? 0 : len);
    }
    if (!amqp_read_content(d, prefix, queue_port_key(who->port), counts, &taken.content, &owned))
        taken.content = (struct amqp_content){0};
    if (!error)
        each(arg, &taken);
    free(owned);
    free(beginning);
    holding->bytes += taken.body.len;
    d->next = NULL;
    *holding->last = d;
    holding->last = &d->next;
    holding->came = NULL;
    return error;
}

int amqp_take_by_hand(const struct amqp_operator *who, struct slice queue, enum amqp_taking taking,
                      unsigned most, uint64_t body_most,
                      void (*each)(void *arg, const struct amqp_taken *taken), void *arg,
                      struct amqp_outcome *outcome)
{
    struct holding holding = {.last = &holding.first};
    struct queue_consumer_options options = {
        .on_demand = true, .auto_ack = taking == AMQP_TAKE_AWAY, .deliver = on_delivery, .arg = &holding};
    struct queue_consumer *consumer;
    char block[BROKER_NAME_MAX];
    uint64_t left = 0;
    int error, shown = 0, taken = 1;

    *outcome = (struct amqp_outcome){.code = AMQP_SUCCESS};
    if (!who->port->thread)
        return -ENODEV;
    if (!may(who, ACCESS_READ, false, queue, outcome))
        return 0;
    error = look(who, queue, outcome);
    if (error || outcome->code != AMQP_SUCCESS)
        return error;
    error =
        queue_subscribe(who->port, amqp_broker_name(who->virtual_host, queue, block), &options, &consumer);
    if (error == -EBUSY || error == -ENOENT)
        refuse(outcome, error == -EBUSY ? AMQP_ACCESS_REFUSED : AMQP_NOT_FOUND,
               error == -EBUSY ? "queue '%.*s' in vhost '%.*s' in exclusive use"
                               : "no queue '%.*s' in vhost '%.*s'",
               SLICE_ARG(queue), SLICE_ARG(who->virtual_host));
    if (error)
        return error == -EBUSY || error == -ENOENT ? 0 : error;
    for (; taken == 1 && !shown && most && holding.bytes < AMQP_TAKEN_BYTES; most--) {
        taken = queue_take(consumer, &left);
        if (taken == 1 && holding.came)
            shown = hold(&holding, who, outcome->was_there, left, body_most, each, arg);
    }
    queue_delivery_free(holding.came); /* it came when nobody waited: it goes back with the consumer */
    settle(&holding, taking);
    queue_unsubscribe(consumer);
    return shown ? shown : taken < 0 && taken != -ENOENT ? taken : 0;
}
