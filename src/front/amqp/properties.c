/* properties.c - a message's head as AMQP's properties, and back. See private.h; what becomes of what: docs/amqp.md.
 *
 * A message that came by AMQP keeps its content header byte for byte, and is delivered with it, unless it died on its way, or its
 * client wants to know how often it was delivered. One that came by HTTP gets its fields as headers, and the name that its client was
 * told as message-id. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "front/amqp/private.h"
#include "queue/envelope.h"
#include "queue/token.h"

#define EXPIRATION_MS_MAX UINT64_C(315360000000) /* ten years, as with RabbitMQ */

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

/* One death as x-death tells it. */
struct told {
    struct slice reason, queue, exchange;
    struct slice keys;       /* the items of an array */
    struct slice expiration; /* ptr NULL: none */
    int64_t count;
    uint64_t seconds;
};

static void put_told(struct amqp_out *out, const struct told *told)
{
    char *table = amqp_array_begin(out, AMQP_TABLE);

    put_long(out, SLICE("count"), told->count);
    put_text(out, SLICE("reason"), told->reason);
    put_text(out, SLICE("queue"), told->queue);
    amqp_table_put(out,
                   &(struct amqp_value){
                       .name = SLICE("time"), .type = AMQP_TIME, .letter = 'T', .seconds = told->seconds});
    put_text(out, SLICE("exchange"), told->exchange);
    amqp_table_put(
        out, &(struct amqp_value){
                 .name = SLICE("routing-keys"), .type = AMQP_ARRAY, .letter = 'A', .bytes = told->keys});
    if (told->expiration.ptr)
        put_text(out, SLICE("original-expiration"), told->expiration);
    amqp_nested_end(out, table);
}

static bool is_same(struct slice entry, const struct told *told)
{
    struct amqp_value queue, reason;

    return amqp_table_find(entry, SLICE("queue"), &queue) &&
           amqp_table_find(entry, SLICE("reason"), &reason) && slice_equal(queue.bytes, told->queue) &&
           slice_equal(reason.bytes, told->reason);
}

/* How often it died so before, by what its publisher says: the entries of an x-death that came with it. */
static int64_t told_before(struct slice entries, const struct told *told)
{
    struct amqp_value entry, count;

    while (amqp_array_take(&entries, &entry))
        if (entry.type == AMQP_TABLE && is_same(entry.bytes, told) &&
            amqp_table_find(entry.bytes, SLICE("count"), &count) && count.type == AMQP_INTEGER)
            return count.integer;
    return 0;
}

/* The routing keys of a death, as the items of an array. */
static struct slice put_keys_of(struct amqp_out *out, struct slice prefix, const struct death *death)
{
    struct slice rest = death->copies, key;
    char *start = out->at;
    uint8_t len;

    amqp_array_put(out, &(struct amqp_value){.type = AMQP_TEXT,
                                             .letter = 'S',
                                             .bytes = death->exchange.len
                                                          ? death->routing_key
                                                          : amqp_without_prefix(prefix, death->routing_key)});
    while (take_u8(&rest, &len) && take_slice(&rest, len, &key))
        amqp_array_put(out, &(struct amqp_value){.type = AMQP_TEXT, .letter = 'S', .bytes = key});
    return slice_of(start, (size_t)(out->at - start));
}

/* A key takes five bytes more there than it has, and up to five times what a list of empty ones has. */
#define KEYS_ROOM(death) (5 * (death)->copies.len + (death)->routing_key.len + 16)

/* False: no memory. */
static bool put_death(struct amqp_out *out, struct slice prefix, const struct death *death,
                      struct slice expiration, struct slice before)
{
    char *block = malloc(KEYS_ROOM(death));
    struct amqp_out keys = amqp_out_of(block, block ? KEYS_ROOM(death) : 0);
    struct told told = {
        .reason = slice_from_text(message_end_names[death->reason]),
        .queue = amqp_without_prefix(prefix, death->queue),
        .exchange = amqp_without_prefix(prefix, death->exchange),
        .expiration = expiration,
        .seconds = death->time_us / US_PER_S,
    };

    if (!block)
        return false;
    told.keys = put_keys_of(&keys, prefix, death);
    told.count = death->count + told_before(before, &told);
    put_told(out, &told);
    free(block);
    return true;
}

/* Whether it is one of those that happened here. */
static bool is_told(struct slice prefix, struct slice head, struct slice entry)
{
    struct envelope_item item;
    struct death death;

    while (envelope_take(&head, &item))
        if (item.tag == ENVELOPE_DEATH && death_parse(item.value, &death)) {
            struct told told = {.reason = slice_from_text(message_end_names[death.reason]),
                                .queue = amqp_without_prefix(prefix, death.queue)};

            if (is_same(entry, &told))
                return true;
        }
    return false;
}

/* x-death: how it died here, the latest first, then what its publisher said of the time before. expiration: what the message had
 * when it died for the first time. */
static bool put_deaths(struct amqp_out *out, struct slice prefix, struct slice head, struct slice expiration,
                       struct slice before)
{
    struct slice first = envelope_find(head, ENVELOPE_FIRST_DEATH), rest = head, entries = before;
    char *array = amqp_table_begin(out, SLICE("x-death"), AMQP_ARRAY);
    struct death death, oldest = {0};
    struct envelope_item item;
    struct amqp_value entry;
    bool put = true;

    if (first.ptr)
        death_parse(first, &oldest);
    while (put && envelope_take(&rest, &item))
        if (item.tag == ENVELOPE_DEATH && death_parse(item.value, &death)) {
            bool is_first = death.reason == oldest.reason && slice_equal(death.queue, oldest.queue);

            put = put_death(out, prefix, &death, is_first ? expiration : (struct slice){0}, before);
        }
    while (amqp_array_take(&entries, &entry))
        if (entry.type != AMQP_TABLE || !is_told(prefix, head, entry.bytes))
            amqp_array_put(out, &entry);
    amqp_nested_end(out, array);
    return put;
}

static void put_first_death(struct amqp_out *out, struct slice prefix, struct slice head)
{
    struct slice first = envelope_find(head, ENVELOPE_FIRST_DEATH);
    struct death oldest;

    if (!first.ptr || !death_parse(first, &oldest))
        return;
    put_text(out, SLICE("x-first-death-exchange"), amqp_without_prefix(prefix, oldest.exchange));
    put_text(out, SLICE("x-first-death-queue"), amqp_without_prefix(prefix, oldest.queue));
    put_text(out, SLICE("x-first-death-reason"), slice_from_text(message_end_names[oldest.reason]));
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

/* Whether a header is told anew, or not any more. */
static bool is_replaced(struct slice name, bool died, bool copied)
{
    if (slice_equal(name, SLICE("x-delivery-count")))
        return true;
    return died && (slice_equal(name, SLICE("x-death")) || (!copied && slice_equal(name, SLICE("CC"))));
}

/* False: no memory. */
static bool put_headers(struct amqp_out *out, struct amqp_content *content, struct slice prefix,
                        const struct queue_delivery *d, bool counts)
{
    struct slice head = d->message.head, rest = content->headers, expiration = {0}, before = SLICE("");
    bool died = envelope_find(head, ENVELOPE_DEATH).ptr != NULL,
         copied = envelope_find(head, ENVELOPE_COPIES).ptr != NULL, knows_first = false, put = true;
    struct amqp_value value;

    while (amqp_content_has(content, AMQP_HEADERS) && amqp_table_take(&rest, &value)) {
        if (!is_replaced(value.name, died, copied))
            amqp_table_put(out, &value);
        if (slice_equal(value.name, SLICE("x-death")) && value.type == AMQP_ARRAY)
            before = value.bytes;
        knows_first |= slice_equal(value.name, SLICE("x-first-death-queue"));
    }
    if (!envelope_find(head, ENVELOPE_AMQP).ptr)
        put_fields(out, content, head);
    if (died && amqp_content_has(content, AMQP_EXPIRATION)) {
        expiration = content->texts[AMQP_EXPIRATION];
        amqp_content_drop(content, AMQP_EXPIRATION);
    }
    if (died)
        put = put_deaths(out, prefix, head, expiration, before);
    if (died && !knows_first && !before.len)
        put_first_death(out, prefix, head);
    if (counts)
        put_long(out, SLICE("x-delivery-count"), d->attempt - 1);
    return put;
}

/* What every message has that came by HTTP. name has TOKEN_TEXT bytes, and lives as long as the content. */
static void set_properties(struct amqp_content *content, const struct message *m, const struct token_key *key,
                           char *name)
{
    content->flags = 1u << AMQP_DELIVERY_MODE | 1u << AMQP_TIMESTAMP;
    content->delivery_mode = 2;
    content->timestamp = m->published_us / US_PER_S;
    if (key && token_put(key, m->origin_address, m->origin, name))
        amqp_content_set_text(content, AMQP_MESSAGE_ID, slice_of(name, TOKEN_TEXT));
}

/* The message's properties with what we have to say, in table, which has room. */
static bool make_content(struct amqp_content *content, char *table, size_t room, struct slice prefix,
                         const struct token_key *key, const struct queue_delivery *d, bool counts)
{
    struct slice payload = envelope_find(d->message.head, ENVELOPE_AMQP);
    char *start = table + TOKEN_TEXT;
    struct amqp_out out = amqp_out_of(start, room - TOKEN_TEXT);
    const char *why = "";

    *content = (struct amqp_content){0};
    if (payload.ptr && amqp_take_content(payload, content, &why) != AMQP_OK)
        return false;
    if (!payload.ptr)
        set_properties(content, &d->message, key, table);
    content->body_bytes = message_body_bytes(&d->message);
    if (!put_headers(&out, content, prefix, d, counts) || amqp_out_close(&out, start) != AMQP_WRITTEN)
        return false;
    if (out.at != start)
        amqp_content_set_headers(content, slice_of(start, (size_t)(out.at - start)));
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

bool amqp_read_content(const struct queue_delivery *d, struct slice prefix, const struct token_key *key,
                       bool counts, struct amqp_content *content, char **owned)
{
    size_t room = content_room(d->message.head);

    *owned = malloc(room);
    return *owned && make_content(content, *owned, room, prefix, key, d, counts);
}

bool amqp_put_head(struct amqp_output *output, const struct amqp_connection *c, uint16_t channel,
                   const struct queue_delivery *d, bool counts)
{
    struct slice payload = envelope_find(d->message.head, ENVELOPE_AMQP), head = d->message.head;
    struct amqp_content content;
    char *table;
    bool put;

    if (payload.ptr && !counts && !envelope_find(head, ENVELOPE_DEATH).ptr)
        return put_payload(output, channel, payload);
    put = amqp_read_content(d, c->prefix, c->key, counts, &content, &table) &&
          put_content(output, channel, &content, content_room(head) + CONTENT_FIXED);
    free(table);
    return put;
}

/* ---- what a publisher asks for ----------------------------------------------------------------------------------- */

/* As Erlang shows a string: in quotes, or the bytes of one that cannot be printed. */
static void erlang_text(struct slice s, char *text, size_t room)
{
    const char *open = "\"", *close = "\"";
    size_t n = 0;

    for (size_t i = 0; i < s.len; i++)
        if ((unsigned char)s.ptr[i] < ' ')
            open = "[", close = "]";
    n += (size_t)snprintf(text, room, "%s", open);
    for (size_t i = 0; i < s.len && n + 8 < room; i++)
        if (*open == '[')
            n += (size_t)snprintf(text + n, room - n, "%s%u", i ? "," : "", (unsigned char)s.ptr[i]);
        else
            n += (size_t)snprintf(text + n, room - n, "%s%c", s.ptr[i] == '"' || s.ptr[i] == '\\' ? "\\" : "",
                                  s.ptr[i]);
    snprintf(text + n, room - n, "%s", close);
}

/* Digits off the front, and as which number. */
static struct slice take_digits(struct slice *rest, uint64_t *number)
{
    size_t n = 0;
    struct slice digits;

    while (n < rest->len && rest->ptr[n] >= '0' && rest->ptr[n] <= '9')
        n++;
    digits = slice_take(rest, n);
    if (n && !slice_to_u64(digits, number))
        *number = UINT64_MAX;
    return digits;
}

static bool refuse_expiration(struct amqp_channel *channel, struct slice text, const char *why)
{
    amqp_fail(channel, AMQP_PRECONDITION_FAILED, AMQP_BASIC_PUBLISH, "invalid expiration '%.*s': %s",
              SLICE_ARG(text), why);
    return false;
}

bool amqp_take_expiration(struct amqp_channel *channel, struct slice text, uint64_t *ttl_us)
{
    struct slice rest = text, digits;
    bool is_negative = slice_starts_with(text, SLICE("-"));
    char why[320], leftover[280];
    uint64_t ms = 0;

    if (is_negative || slice_starts_with(text, SLICE("+")))
        slice_drop(&rest, 1);
    digits = take_digits(&rest, &ms);
    if (!digits.len)
        return refuse_expiration(channel, text, "no_integer");
    erlang_text(rest, leftover, sizeof leftover);
    if (rest.len)
        snprintf(why, sizeof why, "{leftover_string,%s}", leftover);
    else if (is_negative && ms)
        snprintf(why, sizeof why, "{value_negative,-%.*s}", SLICE_ARG(digits));
    else if (ms > EXPIRATION_MS_MAX)
        snprintf(why, sizeof why, "{value_too_large,%.*s}", SLICE_ARG(digits));
    else {
        *ttl_us = ms ? ms * US_PER_MS : 1;
        return true;
    }
    return refuse_expiration(channel, text, why);
}

static bool is_copy_list(struct slice name)
{
    return slice_equal(name, SLICE("CC")) || slice_equal(name, SLICE("BCC"));
}

static bool is_for_replies(const struct amqp_content *content)
{
    return amqp_content_has(content, AMQP_REPLY_TO) &&
           slice_equal(content->texts[AMQP_REPLY_TO], SLICE(AMQP_REPLIES));
}

bool amqp_needs_rewriting(const struct amqp_content *content)
{
    struct slice rest = content->headers;
    struct amqp_value value;

    if (is_for_replies(content))
        return true;
    while (amqp_content_has(content, AMQP_HEADERS) && amqp_table_take(&rest, &value))
        if (is_copy_list(value.name))
            return true;
    return false;
}

bool amqp_may_rewrite(struct amqp_channel *channel, const struct amqp_content *content)
{
    static const char *const lists[] = {"CC", "BCC"};
    struct amqp_value value;

    if (is_for_replies(content) && !channel->reply_to) {
        amqp_fail(channel, AMQP_PRECONDITION_FAILED, AMQP_BASIC_PUBLISH,
                  "fast reply consumer does not exist");
        return false;
    }
    for (size_t i = 0; amqp_content_has(content, AMQP_HEADERS) && i < 2; i++)
        if (amqp_table_find(content->headers, slice_from_text(lists[i]), &value) &&
            value.type != AMQP_ARRAY) {
            amqp_fail(channel, AMQP_PRECONDITION_FAILED, AMQP_BASIC_PUBLISH,
                      "invalid message: {unacceptable_type_in_header,\"%s\",%s}", lists[i],
                      amqp_type_name(&value));
            return false;
        }
    return true;
}

/* The routing keys of a list; what is no text is none, nor is what could be a name in another virtual host. */
static void put_keys(char **at, const struct amqp_value *list)
{
    struct slice rest = list->bytes;
    struct amqp_value key;

    while (list->type == AMQP_ARRAY && amqp_array_take(&rest, &key)) {
        if (key.type != AMQP_TEXT || key.bytes.len > BROKER_KEY_MAX || !amqp_is_name(key.bytes))
            continue;
        *(*at)++ = (char)key.bytes.len;
        memcpy(*at, key.bytes.ptr, key.bytes.len);
        *at += key.bytes.len;
    }
}

/* The routing keys of the lists of that name. */
static void take_lists(const struct amqp_content *content, struct slice name, char **keys)
{
    struct slice rest = content->headers;
    struct amqp_value value;

    while (amqp_content_has(content, AMQP_HEADERS) && amqp_table_take(&rest, &value))
        if (slice_equal(value.name, name))
            put_keys(keys, &value);
}

/* Who reads it knows nothing of BCC. */
static void put_visible_headers(struct amqp_out *table, const struct amqp_content *content)
{
    struct slice rest = content->headers;
    struct amqp_value value;

    while (amqp_content_has(content, AMQP_HEADERS) && amqp_table_take(&rest, &value))
        if (!slice_equal(value.name, SLICE("BCC")))
            amqp_table_put(table, &value);
}

/* The envelope: the content header, and whom copies go to. Returns its end; NULL: there is no room. */
static char *put_envelope(char *at, size_t room, const struct amqp_content *content, struct slice copies)
{
    struct amqp_out out = amqp_out_of(at + ENVELOPE_ITEM_OVERHEAD, room - ENVELOPE_ITEM_OVERHEAD);
    struct envelope_item item = {.tag = ENVELOPE_AMQP};

    amqp_put_content(&out, content);
    if (amqp_out_close(&out, at + ENVELOPE_ITEM_OVERHEAD) != AMQP_WRITTEN)
        return NULL;
    item.value.len = (size_t)(out.at - at) - ENVELOPE_ITEM_OVERHEAD;
    envelope_put_head(at, &item);
    item = (struct envelope_item){.tag = ENVELOPE_COPIES, .value = copies};
    return copies.len ? envelope_put(out.at, &item) : out.at;
}

/* To the default exchange a key is a queue's name, which has its virtual host before it: at most so many bytes more for all. */
static size_t prefixes_bytes(const struct amqp_channel *channel, const struct amqp_content *content)
{
    if (channel->publishing.exchange.len || !channel->connection->prefix.len)
        return 0;
    return content->headers.len + content->headers.len / 5 * channel->connection->prefix.len;
}

/* Keys with the virtual host before each; one that is too long then leads nowhere. */
static struct slice put_prefixes(char *at, struct slice keys, struct slice prefix)
{
    char *start = at;
    struct slice key;
    uint8_t len;

    while (take_u8(&keys, &len) && take_slice(&keys, len, &key)) {
        if (prefix.len + key.len > BROKER_KEY_MAX)
            continue;
        *at++ = (char)(prefix.len + key.len);
        memcpy(at, prefix.ptr, prefix.len);
        memcpy(at + prefix.len, key.ptr, key.len);
        at += prefix.len + key.len;
    }
    return slice_of(start, (size_t)(at - start));
}

bool amqp_rewrite(struct amqp_channel *channel, const struct amqp_content *given,
                  struct queue_publication *publication, char **owned)
{
    struct amqp_content content = *given;
    size_t lists = given->headers.len, room = 2 * given->headers.len + CONTENT_FIXED,
           prefixes = prefixes_bytes(channel, given), bytes = lists + 2 * room + lists;
    char *block = malloc(bytes + prefixes), *keys = block, *headers = block + lists, *end;
    struct amqp_out table = amqp_out_of(headers, block ? room : 0);
    struct slice copies;

    *owned = block;
    if (!block)
        return false;
    if (is_for_replies(given) && channel->reply_to)
        amqp_content_set_text(&content, AMQP_REPLY_TO, channel->reply_to->queue);
    take_lists(&content, SLICE("CC"), &keys);
    copies = slice_of(block, (size_t)(keys - block));
    take_lists(&content, SLICE("BCC"), &keys);
    put_visible_headers(&table, &content);
    if (amqp_content_has(&content, AMQP_HEADERS))
        amqp_content_set_headers(&content, slice_of(headers, (size_t)(table.at - headers)));
    end = amqp_out_close(&table, headers) == AMQP_WRITTEN
              ? put_envelope(headers + room, room, &content, copies)
              : NULL;
    if (!end)
        return false;
    publication->more_keys = slice_of(block, (size_t)(keys - block));
    if (prefixes)
        publication->more_keys =
            put_prefixes(block + bytes, publication->more_keys, channel->connection->prefix);
    publication->head = slice_of(headers + room, (size_t)(end - (headers + room)));
    return true;
}
