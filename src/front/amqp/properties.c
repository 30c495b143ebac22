/* properties.c - a message's head as AMQP's properties, and back. See private.h; what becomes of what: docs/amqp.md.
 *
 * A message that came by AMQP keeps its content header byte for byte, and is delivered with it, unless it died on its way, or its
 * client wants to know how often it was delivered. One that came by HTTP gets its fields as headers. */
#include <stdlib.h>

#include "base/clock.h"
#include "front/amqp/private.h"
#include "queue/envelope.h"

/* ---- names ------------------------------------------------------------------------------------------------------- */

struct slice amqp_without_prefix(struct slice prefix, struct slice name)
{
    if (prefix.len && slice_starts_with(name, prefix))
        slice_drop(&name, prefix.len);
    return name;
}

struct slice amqp_unqualify(const struct amqp_connection *c, struct slice name)
{
    return amqp_without_prefix(c->prefix, name);
}

/* To the default exchange the key is a queue's name. */
struct slice amqp_routing_key(const struct amqp_connection *c, const struct queue_delivery *d)
{
    return d->message.exchange ? d->message.routing_key : amqp_unqualify(c, d->message.routing_key);
}

/* ---- putting headers --------------------------------------------------------------------------------------------- */

static void put_text(struct amqp_out *out, struct slice name, struct slice text)
{
    amqp_table_put(out, &(struct amqp_value){.name = name, .type = AMQP_TEXT, .letter = 'S', .bytes = text});
}

static void put_long(struct amqp_out *out, struct slice name, int64_t number)
{
    amqp_table_put(
        out, &(struct amqp_value){.name = name, .type = AMQP_INTEGER, .letter = 'l', .integer = number});
}

static struct slice reason_of(const struct death *death)
{
    return slice_from_text(message_end_names[death->reason]);
}

/* expiration: what the message had when it died for the first time; empty: nothing. */
static void put_death(struct amqp_out *out, struct slice prefix, const struct death *death,
                      struct slice expiration)
{
    char *table = amqp_array_begin(out, AMQP_TABLE), *keys;

    put_long(out, SLICE("count"), death->count);
    put_text(out, SLICE("reason"), reason_of(death));
    put_text(out, SLICE("queue"), amqp_without_prefix(prefix, death->queue));
    amqp_table_put(out, &(struct amqp_value){.name = SLICE("time"),
                                             .type = AMQP_TIME,
                                             .letter = 'T',
                                             .seconds = death->time_us / US_PER_S});
    put_text(out, SLICE("exchange"), amqp_without_prefix(prefix, death->exchange));
    keys = amqp_table_begin(out, SLICE("routing-keys"), AMQP_ARRAY);
    amqp_array_put(out, &(struct amqp_value){.type = AMQP_TEXT,
                                             .letter = 'S',
                                             .bytes = death->exchange.len
                                                          ? death->routing_key
                                                          : amqp_without_prefix(prefix, death->routing_key)});
    amqp_nested_end(out, keys);
    if (expiration.ptr)
        put_text(out, SLICE("original-expiration"), expiration);
    amqp_nested_end(out, table);
}

/* x-death, and x-first-death-*. */
static void put_deaths(struct amqp_out *out, struct slice prefix, struct slice head, struct slice expiration)
{
    struct slice first = envelope_find(head, ENVELOPE_FIRST_DEATH);
    struct envelope_item item;
    struct death death, oldest;
    char *array;
    bool has_first = first.ptr && death_parse(first, &oldest);

    array = amqp_table_begin(out, SLICE("x-death"), AMQP_ARRAY);
    while (envelope_take(&head, &item))
        if (item.tag == ENVELOPE_DEATH && death_parse(item.value, &death)) {
            bool is_first =
                has_first && death.reason == oldest.reason && slice_equal(death.queue, oldest.queue);

            put_death(out, prefix, &death, is_first ? expiration : (struct slice){0});
        }
    amqp_nested_end(out, array);
    if (!has_first)
        return;
    put_text(out, SLICE("x-first-death-exchange"), amqp_without_prefix(prefix, oldest.exchange));
    put_text(out, SLICE("x-first-death-queue"), amqp_without_prefix(prefix, oldest.queue));
    put_text(out, SLICE("x-first-death-reason"), reason_of(&oldest));
}

static bool is_ours(struct slice name)
{
    return slice_equal(name, SLICE("x-death")) || slice_starts_with(name, SLICE("x-first-death-")) ||
           slice_equal(name, SLICE("x-delivery-count"));
}

/* ---- a message that came by HTTP --------------------------------------------------------------------------------- */

/* Fields that are properties; all others are headers. */
static bool take_property(struct amqp_content *content, const struct envelope_item *field)
{
    static const struct {
        const char *field;
        enum amqp_property property;
    } table[] = {
        {"Content-Type", AMQP_CONTENT_TYPE},
        {"Content-Encoding", AMQP_CONTENT_ENCODING},
    };

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (slice_equal_nocase(field->name, slice_from_text(table[i].field))) {
            amqp_content_set_text(content, table[i].property, amqp_clip(field->value));
            return true;
        }
    return false;
}

static void put_fields(struct amqp_out *out, struct amqp_content *content, struct slice head)
{
    struct envelope_item item;

    while (envelope_take(&head, &item)) {
        if (item.tag == ENVELOPE_METHOD)
            put_text(out, SLICE("maitred-method"), item.value);
        else if (item.tag == ENVELOPE_TARGET)
            put_text(out, SLICE("maitred-target"), item.value);
        else if (item.tag == ENVELOPE_AUTHORITY)
            put_text(out, SLICE("maitred-authority"), item.value);
        else if (item.tag == ENVELOPE_FIELD && !take_property(content, &item) && item.name.len <= 255)
            put_text(out, item.name, item.value);
    }
}

/* ---- a content header -------------------------------------------------------------------------------------------- */

/* As it is, in a frame. */
static bool put_payload(struct amqp_output *output, uint16_t channel, struct slice payload)
{
    size_t n = payload.len + AMQP_FRAME_OVERHEAD;
    char *at = amqp_output_room(output, n);

    if (!at)
        return false;
    amqp_put_frame_head(at, AMQP_CONTENT_HEADER, channel, (uint32_t)payload.len);
    memcpy(at + AMQP_FRAME_HEAD, payload.ptr, payload.len);
    at[n - 1] = AMQP_FRAME_END;
    output->end += n;
    return true;
}

static void put_headers(struct amqp_out *out, struct amqp_content *content, struct slice prefix,
                        const struct queue_delivery *d, bool counts)
{
    struct slice head = d->message.head, rest = content->headers, expiration = {0};
    bool died = envelope_find(head, ENVELOPE_DEATH).ptr != NULL;
    struct amqp_value value;

    while (amqp_content_has(content, AMQP_HEADERS) && amqp_table_take(&rest, &value))
        if (!is_ours(value.name) || (!died && !slice_equal(value.name, SLICE("x-delivery-count"))))
            amqp_table_put(out, &value);
    if (!envelope_find(head, ENVELOPE_AMQP).ptr)
        put_fields(out, content, head);
    if (died && amqp_content_has(content, AMQP_EXPIRATION)) {
        expiration = content->texts[AMQP_EXPIRATION];
        amqp_content_drop(content, AMQP_EXPIRATION);
    }
    if (died)
        put_deaths(out, prefix, head, expiration);
    if (counts && d->attempt > 1)
        put_long(out, SLICE("x-delivery-count"), d->attempt - 1);
}

/* The message's properties with what we have to say, in table, which has room. */
static bool make_content(struct amqp_content *content, char *table, size_t room, struct slice prefix,
                         const struct queue_delivery *d, bool counts)
{
    struct slice payload = envelope_find(d->message.head, ENVELOPE_AMQP);
    struct amqp_out out = amqp_out_of(table, room);
    const char *why = "";

    *content = (struct amqp_content){0};
    if (payload.ptr && amqp_take_content(payload, content, &why) != AMQP_OK)
        return false;
    if (!payload.ptr) {
        content->flags = 1u << AMQP_DELIVERY_MODE | 1u << AMQP_TIMESTAMP;
        content->delivery_mode = 2;
        content->timestamp = d->message.published_us / US_PER_S;
    }
    content->body_bytes = d->message.body.len;
    put_headers(&out, content, prefix, d, counts);
    if (amqp_out_close(&out, table) != AMQP_WRITTEN)
        return false;
    if (out.at != table)
        amqp_content_set_headers(content, slice_of(table, (size_t)(out.at - table)));
    return true;
}

static bool put_content(struct amqp_output *output, uint16_t channel, const struct amqp_content *content,
                        size_t most)
{
    char *at = amqp_output_room(output, most);
    struct amqp_out out;
    bool written;

    if (!at)
        return false;
    out = amqp_out_of(at, most);
    written = amqp_put_content_frame(&out, channel, content) == AMQP_WRITTEN;
    output->end = (size_t)(out.at - output->bytes);
    return written;
}

/* What a death takes as a table, over what it takes in a head. */
#define DEATH_GROWTH 256
#define CONTENT_FIXED 4096

static size_t content_room(struct slice head)
{
    size_t room = CONTENT_FIXED + 2 * head.len;
    struct envelope_item item;

    while (envelope_take(&head, &item))
        room += DEATH_GROWTH;
    return room;
}

bool amqp_read_content(const struct queue_delivery *d, struct slice prefix, bool counts,
                       struct amqp_content *content, char **owned)
{
    size_t room = content_room(d->message.head);

    *owned = malloc(room);
    return *owned && make_content(content, *owned, room, prefix, d, counts);
}

bool amqp_put_head(struct amqp_output *output, const struct amqp_connection *c, uint16_t channel,
                   const struct queue_delivery *d, bool counts)
{
    struct slice payload = envelope_find(d->message.head, ENVELOPE_AMQP), head = d->message.head;
    struct amqp_content content;
    char *table;
    bool put;

    if (payload.ptr && !(counts && d->attempt > 1) && !envelope_find(head, ENVELOPE_DEATH).ptr)
        return put_payload(output, channel, payload);
    put = amqp_read_content(d, c->prefix, counts, &content, &table) &&
          put_content(output, channel, &content, content_room(head) + CONTENT_FIXED);
    free(table);
    return put;
}

/* ---- what a publisher asks for ----------------------------------------------------------------------------------- */

static bool is_copy_list(struct slice name)
{
    return slice_equal(name, SLICE("CC")) || slice_equal(name, SLICE("BCC"));
}

bool amqp_needs_rewriting(const struct amqp_content *content)
{
    struct slice rest = content->headers;
    struct amqp_value value;

    if (amqp_content_has(content, AMQP_REPLY_TO) &&
        slice_equal(content->texts[AMQP_REPLY_TO], SLICE(AMQP_REPLIES)))
        return true;
    while (amqp_content_has(content, AMQP_HEADERS) && amqp_table_take(&rest, &value))
        if (is_copy_list(value.name))
            return true;
    return false;
}

/* The routing keys of a list. False: it is none. */
static bool put_keys(char **at, const struct amqp_value *list)
{
    struct slice rest = list->bytes;
    struct amqp_value key;

    if (list->type != AMQP_ARRAY)
        return false;
    while (amqp_array_take(&rest, &key)) {
        if (key.type != AMQP_TEXT || key.bytes.len > BROKER_KEY_MAX)
            return false;
        *(*at)++ = (char)key.bytes.len;
        memcpy(*at, key.bytes.ptr, key.bytes.len);
        *at += key.bytes.len;
    }
    return true;
}

/* Takes the lists out of the headers: all keys into keys, and all headers but BCC into table. */
static bool take_lists(struct amqp_channel *channel, struct amqp_content *content, struct amqp_out *table,
                       char **keys)
{
    struct slice rest = content->headers;
    struct amqp_value value;

    while (amqp_content_has(content, AMQP_HEADERS) && amqp_table_take(&rest, &value)) {
        if (is_copy_list(value.name) && !put_keys(keys, &value)) {
            amqp_fail(channel, AMQP_PRECONDITION_FAILED, AMQP_BASIC_PUBLISH,
                      "unacceptable type for header '%.*s'", SLICE_ARG(value.name));
            return false;
        }
        if (!slice_equal(value.name, SLICE("BCC")))
            amqp_table_put(table, &value);
    }
    return true;
}

bool amqp_rewrite(struct amqp_channel *channel, const struct amqp_content *given,
                  struct queue_publication *publication, char **owned)
{
    struct amqp_content content = *given;
    size_t room = 2 * given->headers.len + CONTENT_FIXED;
    char *block = malloc(3 * room), *keys = block, *at;
    struct amqp_out table, out;

    *owned = block;
    if (!block)
        return false;
    table = amqp_out_of(block + room, room);
    if (amqp_content_has(given, AMQP_REPLY_TO) &&
        slice_equal(given->texts[AMQP_REPLY_TO], SLICE(AMQP_REPLIES))) {
        if (!channel->reply_to) {
            amqp_fail(channel, AMQP_PRECONDITION_FAILED, AMQP_BASIC_PUBLISH,
                      "fast reply consumer does not exist");
            return true;
        }
        amqp_content_set_text(&content, AMQP_REPLY_TO, channel->reply_to->queue);
    }
    if (!take_lists(channel, &content, &table, &keys))
        return true;
    if (amqp_out_close(&table, block + room) != AMQP_WRITTEN)
        return false;
    if (amqp_content_has(&content, AMQP_HEADERS))
        amqp_content_set_headers(&content, slice_of(block + room, (size_t)(table.at - (block + room))));
    at = block + 2 * room;
    out = amqp_out_of(at + ENVELOPE_ITEM_OVERHEAD, room - ENVELOPE_ITEM_OVERHEAD);
    amqp_put_content(&out, &content);
    if (amqp_out_close(&out, at + ENVELOPE_ITEM_OVERHEAD) != AMQP_WRITTEN)
        return false;
    publication->more_keys = slice_of(block, (size_t)(keys - block));
    publication->head = slice_of(at, (size_t)(out.at - at));
    envelope_put_head(
        at, &(struct envelope_item){.tag = ENVELOPE_AMQP,
                                    .value = slice_of(NULL, publication->head.len - ENVELOPE_ITEM_OVERHEAD)});
    return true;
}
