/* push_fields.c - see push_fields.h. */
#include "front/push_fields.h"

#include <stdio.h>

#include "base/address.h"
#include "base/clock.h"
#include "base/json.h"
#include "wire/amqp.h"
#include "wire/amqp_table.h"
#include "wire/http1.h"

#define FIELDS_ADDED 8
#define DEATH_BYTES_MAX 4096

static void add_field(struct http_fields *fields, const char *name, struct slice value)
{
    struct slice name_slice = slice_from_text(name);

    fields->at[fields->count++] =
        (struct http_field){.name = name_slice, .value = value, .id = http1_field_id(name_slice)};
}

static struct slice print(struct arena *arena, const char *format, unsigned long long value)
{
    char text[32];
    int n = snprintf(text, sizeof text, format, value);

    return arena_copy(arena, slice_of(text, (size_t)n));
}

static struct slice time_text(struct arena *arena, uint64_t wall_us)
{
    char text[48];
    struct json json;
    struct slice quoted;

    json_init(&json, text, sizeof text, NULL, NULL);
    json_put_time(&json, wall_us);
    json_finish(&json);
    quoted = json_text(&json);
    return arena_copy(arena, slice_of(quoted.ptr + 1, quoted.len - 2));
}

/* Every way in which the message died before, the latest first, as RabbitMQ's x-death has it. Empty: it never did. */
static struct slice deaths(struct arena *arena, struct slice head)
{
    char *text = NULL;
    struct envelope_item item;
    struct death death;
    struct json json;

    while (envelope_take(&head, &item)) {
        if (item.tag != ENVELOPE_DEATH || !death_parse(item.value, &death))
            continue;
        if (!text) {
            text = arena_alloc(arena, DEATH_BYTES_MAX);
            if (!text)
                return SLICE("");
            json_init(&json, text, DEATH_BYTES_MAX, NULL, NULL);
            json_put_array(&json);
        }
        json_put_object(&json);
        json_key(&json, "reason");
        json_put_string(&json, slice_from_text(message_end_names[death.reason]));
        json_key(&json, "queue");
        json_put_string(&json, death.queue);
        json_key(&json, "count");
        json_put_u64(&json, death.count);
        json_key(&json, "time");
        json_put_time(&json, death.time_us);
        json_key(&json, "exchange");
        json_put_string(&json, death.exchange);
        json_key(&json, "routing-keys");
        json_put_array(&json);
        json_put_string(&json, death.routing_key);
        json_put_end(&json);
        json_put_end(&json);
    }
    if (!text)
        return SLICE("");
    json_put_end(&json);
    return json_finish(&json) ? json_text(&json) : SLICE("");
}

static void add_own_fields(struct arena *arena, struct queue_port *port, const char *queue,
                           const struct queue_delivery *d, struct http_fields *fields)
{
    const struct message *m = &d->message;
    struct slice client = envelope_find(m->head, ENVELOPE_CLIENT), death = deaths(arena, m->head);
    const struct token_key *key = queue_port_key(port);
    char *id = arena_alloc(arena, TOKEN_TEXT), text[INET6_ADDRSTRLEN];
    struct ip ip;

    if (id && key && token_put(key, m->origin_address, m->origin, id))
        add_field(fields, "Maitred-Message-Id", slice_of(id, TOKEN_TEXT));
    add_field(fields, "Maitred-Queue", slice_from_text(queue));
    add_field(fields, "Maitred-Attempt", print(arena, "%llu", d->attempt));
    add_field(fields, "Maitred-Redelivered", d->redelivered ? SLICE("true") : SLICE("false"));
    add_field(fields, "Maitred-Enqueued", time_text(arena, m->published_us));
    if (death.len)
        add_field(fields, "X-Death", death);
    if (client.len != sizeof ip)
        return;
    memcpy(&ip, client.ptr, sizeof ip);
    add_field(fields, "X-Forwarded-For", arena_copy(arena, slice_of(text, ip_text(&ip, text))));
}

/* ---- a message that came by AMQP --------------------------------------------------------------------------------- */

static const struct {
    enum amqp_property property;
    const char *field;
} properties[] = {
    {AMQP_CONTENT_TYPE, "Content-Type"},
    {AMQP_CONTENT_ENCODING, "Content-Encoding"},
    {AMQP_CORRELATION_ID, "Amqp-Correlation-Id"},
    {AMQP_REPLY_TO, "Amqp-Reply-To"},
    {AMQP_MESSAGE_ID, "Amqp-Message-Id"},
    {AMQP_TYPE, "Amqp-Type"},
    {AMQP_USER_ID, "Amqp-User-Id"},
    {AMQP_APP_ID, "Amqp-App-Id"},
};

#define N_PROPERTIES (sizeof properties / sizeof properties[0])
/* Beside them: exchange, routing key, priority, timestamp. */
#define AMQP_FIELDS (N_PROPERTIES + 4)

/* A client's text as a field, where it can be one. */
static void add_text(struct http_fields *fields, const char *name, struct slice value)
{
    if (value.len && http1_field_is_proper(slice_from_text(name), value))
        add_field(fields, name, value);
}

/* Names that say something of this hop, or that are ours, are no header's. */
static bool may_be_field(struct slice name, struct slice value)
{
    return http1_field_is_proper(name, value) && http1_field_id(name) == FIELD_OTHER &&
           !slice_starts_with(name, SLICE("Maitred-"));
}

static void add_header(struct arena *arena, struct http_fields *fields, const struct amqp_value *value)
{
    struct slice text = value->bytes;
    char number[32];

    if (value->type == AMQP_INTEGER)
        text = arena_copy(arena, slice_of(number, (size_t)snprintf(number, sizeof number, "%lld",
                                                                   (long long)value->integer)));
    else if (value->type == AMQP_BOOL)
        text = value->truth ? SLICE("true") : SLICE("false");
    else if (value->type != AMQP_TEXT)
        return;
    if (text.ptr && may_be_field(value->name, text))
        fields->at[fields->count++] =
            (struct http_field){.name = value->name, .value = text, .id = FIELD_OTHER};
}

static void add_amqp_fields(struct arena *arena, const struct queue_delivery *d,
                            const struct amqp_content *content, struct http_fields *fields)
{
    struct slice rest = amqp_content_has(content, AMQP_HEADERS) ? content->headers : SLICE("");
    struct amqp_value value;

    for (size_t i = 0; i < N_PROPERTIES; i++)
        if (amqp_content_has(content, properties[i].property))
            add_text(fields, properties[i].field, content->texts[properties[i].property]);
    if (amqp_content_has(content, AMQP_PRIORITY))
        add_field(fields, "Amqp-Priority", print(arena, "%llu", content->priority));
    if (amqp_content_has(content, AMQP_TIMESTAMP))
        add_field(fields, "Amqp-Timestamp", print(arena, "%llu", content->timestamp));
    add_text(fields, "Amqp-Exchange", d->exchange);
    add_text(fields, "Amqp-Routing-Key", d->message.routing_key);
    while (amqp_table_take(&rest, &value))
        add_header(arena, fields, &value);
}

/* How many fields its headers may become. */
static unsigned count_headers(const struct amqp_content *content)
{
    struct slice rest = amqp_content_has(content, AMQP_HEADERS) ? content->headers : SLICE("");
    struct amqp_value value;
    unsigned n = 0;

    while (amqp_table_take(&rest, &value))
        n++;
    return n;
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

bool push_fields(struct arena *arena, struct queue_port *port, const char *queue,
                 const struct queue_delivery *d, struct http_fields *fields)
{
    struct slice head = d->message.head, payload = envelope_find(head, ENVELOPE_AMQP);
    struct amqp_content content = {0};
    struct envelope_item item;
    const char *why;
    bool is_amqp = payload.ptr && amqp_take_content(payload, &content, &why) == AMQP_OK;
    unsigned n = FIELDS_ADDED + (is_amqp ? AMQP_FIELDS + count_headers(&content) : 0);

    while (envelope_take(&head, &item))
        n += item.tag == ENVELOPE_FIELD;
    *fields = (struct http_fields){.at = arena_alloc(arena, n * sizeof *fields->at), .max = n};
    if (!fields->at)
        return false;
    head = d->message.head;
    while (envelope_take(&head, &item))
        if (item.tag == ENVELOPE_FIELD)
            fields->at[fields->count++] =
                (struct http_field){.name = item.name, .value = item.value, .id = http1_field_id(item.name)};
    if (is_amqp)
        add_amqp_fields(arena, d, &content, fields);
    add_own_fields(arena, port, queue, d, fields);
    return true;
}
