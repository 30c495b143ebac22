/* terms.c - see terms.h. */
#include "admin/management/terms.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "base/hash.h"

#define NAME_MAX_BYTES 255 /* of an item in a table */

/* ---- values ------------------------------------------------------------------------------------------------------ */

json_t *terms_text(struct slice text)
{
    return json_stringn_nocheck(text.len ? text.ptr : "", text.len);
}

void terms_put(json_t *object, const char *name, json_t *value)
{
    json_object_set_new_nocheck(object, name, value);
}

struct slice terms_get(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);

    return json_is_string(value) ? slice_of(json_string_value(value), json_string_length(value))
                                 : (struct slice){0};
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

static json_t *of_array(struct slice items);

static json_t *of_value(const struct amqp_value *value)
{
    double scale = 1;

    switch (value->type) {
    case AMQP_BOOL:
        return json_boolean(value->truth);
    case AMQP_INTEGER:
        return json_integer(value->integer);
    case AMQP_TIME:
        return json_integer((json_int_t)value->seconds);
    case AMQP_REAL:
        return json_real(value->real);
    case AMQP_DECIMAL:
        for (unsigned i = 0; i < value->scale; i++)
            scale *= 10;
        return json_real((double)value->integer / scale);
    case AMQP_TEXT:
    case AMQP_BYTES:
        return terms_text(value->bytes);
    case AMQP_ARRAY:
        return of_array(value->bytes);
    case AMQP_TABLE:
        return terms_of_table(value->bytes);
    case AMQP_VOID:
        break;
    }
    return json_null();
}

static json_t *of_array(struct slice items)
{
    json_t *array = json_array();
    struct amqp_value value;

    while (array && amqp_array_take(&items, &value))
        json_array_append_new(array, of_value(&value));
    return array;
}

json_t *terms_of_table(struct slice table)
{
    json_t *object = json_object();
    struct amqp_value value;
    char name[NAME_MAX_BYTES + 1];

    while (object && amqp_table_take(&table, &value)) {
        memcpy(name, value.name.ptr, value.name.len);
        name[value.name.len] = '\0';
        terms_put(object, name, of_value(&value));
    }
    return object;
}

static bool put_nested(struct amqp_out *out, const json_t *value, unsigned levels);

/* One that holds no others. */
static bool simple_value(const json_t *json, struct amqp_value *value)
{
    if (json_is_string(json)) {
        value->type = AMQP_TEXT;
        value->letter = 'S';
        value->bytes = slice_of(json_string_value(json), json_string_length(json));
    } else if (json_is_integer(json)) {
        value->type = AMQP_INTEGER;
        value->letter = 'l';
        value->integer = json_integer_value(json);
    } else if (json_is_real(json)) {
        value->type = AMQP_REAL;
        value->letter = 'd';
        value->real = json_real_value(json);
    } else if (json_is_boolean(json)) {
        value->type = AMQP_BOOL;
        value->letter = 't';
        value->truth = json_is_true(json);
    } else {
        value->type = AMQP_VOID;
        value->letter = 'V';
        return json_is_null(json);
    }
    return true;
}

static bool put_item(struct amqp_out *out, struct slice name, bool in_table, const json_t *json,
                     unsigned levels)
{
    struct amqp_value value = {.name = name};
    bool ok;
    char *nested;

    if (name.len > NAME_MAX_BYTES)
        return false;
    if (simple_value(json, &value)) {
        if (in_table)
            amqp_table_put(out, &value);
        else
            amqp_array_put(out, &value);
        return true;
    }
    value.type = json_is_object(json) ? AMQP_TABLE : AMQP_ARRAY;
    nested = in_table ? amqp_table_begin(out, name, value.type) : amqp_array_begin(out, value.type);
    ok = put_nested(out, json, levels);
    amqp_nested_end(out, nested);
    return ok;
}

static bool put_nested(struct amqp_out *out, const json_t *value, unsigned levels)
{
    bool ok = levels > 0;
    const char *name;
    json_t *item;
    size_t i;

    if (ok && json_is_array(value))
        json_array_foreach(value, i, item) ok = ok && put_item(out, SLICE(""), false, item, levels - 1);
    else if (ok)
        json_object_foreach((json_t *)(uintptr_t)value, name, item) ok =
            ok && put_item(out, slice_from_text(name), true, item, levels - 1);
    return ok;
}

bool terms_put_table(struct amqp_out *out, const json_t *object)
{
    return put_nested(out, object, AMQP_DEPTH_MAX - 1);
}

/* ---- properties -------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum amqp_property property;
} properties[] = {
    {"content_type", AMQP_CONTENT_TYPE},
    {"content_encoding", AMQP_CONTENT_ENCODING},
    {"headers", AMQP_HEADERS},
    {"delivery_mode", AMQP_DELIVERY_MODE},
    {"priority", AMQP_PRIORITY},
    {"correlation_id", AMQP_CORRELATION_ID},
    {"reply_to", AMQP_REPLY_TO},
    {"expiration", AMQP_EXPIRATION},
    {"message_id", AMQP_MESSAGE_ID},
    {"timestamp", AMQP_TIMESTAMP},
    {"type", AMQP_TYPE},
    {"user_id", AMQP_USER_ID},
    {"app_id", AMQP_APP_ID},
    {"cluster_id", AMQP_CLUSTER_ID},
};

#define N_PROPERTIES (sizeof properties / sizeof properties[0])

static json_t *of_property(const struct amqp_content *content, enum amqp_property property)
{
    switch (property) {
    case AMQP_HEADERS:
        return terms_of_table(content->headers);
    case AMQP_DELIVERY_MODE:
        return json_integer(content->delivery_mode);
    case AMQP_PRIORITY:
        return json_integer(content->priority);
    case AMQP_TIMESTAMP:
        return json_integer((json_int_t)content->timestamp);
    default:
        return terms_text(content->texts[property]);
    }
}

json_t *terms_of_properties(const struct amqp_content *content)
{
    json_t *object = json_object();

    for (size_t i = 0; object && i < N_PROPERTIES; i++)
        if (amqp_content_has(content, properties[i].property))
            terms_put(object, properties[i].name, of_property(content, properties[i].property));
    return object;
}

/* A whole number, also as a text, as rabbitmqadmin's users write it. */
static bool take_number(const json_t *value, uint64_t most, uint64_t *number)
{
    if (json_is_integer(value) && json_integer_value(value) >= 0)
        *number = (uint64_t)json_integer_value(value);
    else if (!json_is_string(value) ||
             !slice_to_u64(slice_of(json_string_value(value), json_string_length(value)), number))
        return false;
    return *number <= most;
}

static bool take_property(const json_t *value, enum amqp_property property, struct amqp_content *content,
                          struct amqp_out *out)
{
    uint64_t number = 0;
    char *start = out->at;

    switch (property) {
    case AMQP_HEADERS:
        if (!json_is_object(value) || !terms_put_table(out, value) ||
            amqp_out_close(out, start) != AMQP_WRITTEN)
            return false;
        amqp_content_set_headers(content, slice_of(start, (size_t)(out->at - start)));
        return true;
    case AMQP_DELIVERY_MODE:
    case AMQP_PRIORITY:
        if (!take_number(value, 255, &number))
            return false;
        *(property == AMQP_PRIORITY ? &content->priority : &content->delivery_mode) = (uint8_t)number;
        break;
    case AMQP_TIMESTAMP:
        if (!take_number(value, INT64_MAX, &number))
            return false;
        content->timestamp = number;
        break;
    default:
        if (!json_is_string(value) || json_string_length(value) > 255)
            return false;
        content->texts[property] = slice_of(json_string_value(value), json_string_length(value));
        break;
    }
    content->flags |= (uint16_t)(1u << property);
    return true;
}

const char *terms_take_properties(const json_t *object, struct amqp_content *content, struct amqp_out *out)
{
    for (size_t i = 0; i < N_PROPERTIES; i++) {
        const json_t *value = json_object_get(object, properties[i].name);

        if (value && !take_property(value, properties[i].property, content, out))
            return properties[i].name;
    }
    return NULL;
}

/* ---- bindings ---------------------------------------------------------------------------------------------------- */

static bool is_plain(char c)
{
    return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '.';
}

static char *put_escape(char *at, char c)
{
    static const char digits[] = "0123456789ABCDEF";

    *at++ = '%';
    *at++ = digits[(unsigned char)c >> 4];
    *at++ = digits[(unsigned char)c & 15];
    return at;
}

size_t terms_percent_encode(struct slice text, char *at)
{
    char *start = at;

    for (size_t i = 0; i < text.len; i++)
        if (is_plain(text.ptr[i]) || text.ptr[i] == '~')
            *at++ = text.ptr[i];
        else
            at = put_escape(at, text.ptr[i]);
    return (size_t)(at - start);
}

/* 32 bits in six characters of base64 for URLs. */
static char *put_hash(char *at, struct slice arguments)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint64_t bits = hash_bytes(arguments) & 0xffffffffu;

    bits <<= 4;
    for (int shift = 30; shift >= 0; shift -= 6)
        *at++ = digits[bits >> shift & 63];
    return at;
}

struct slice terms_properties_key(struct slice key, struct slice arguments, char text[TERMS_KEY_MAX])
{
    char *at = text;

    if (!key.len && !arguments.len)
        return SLICE("~");
    for (size_t i = 0; i < key.len && i < 255; i++)
        if (is_plain(key.ptr[i]))
            *at++ = key.ptr[i];
        else if (key.ptr[i] == ' ')
            *at++ = '+';
        else
            at = put_escape(at, key.ptr[i]);
    if (arguments.len) {
        *at++ = '~';
        at = put_hash(at, arguments);
    }
    return slice_of(text, (size_t)(at - text));
}

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

struct slice terms_to_base64(struct slice bytes)
{
    char *text = malloc((bytes.len + 2) / 3 * 4 + 1);

    if (!text)
        return (struct slice){0};
    return slice_of(text, (size_t)EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)bytes.ptr,
                                                  (int)bytes.len));
}

struct slice terms_from_base64(struct slice text)
{
    size_t padding = text.len - slice_find(text, '=');
    bool is_whole = text.len % 4 == 0 && text.len <= INT32_MAX && padding <= 2 &&
                    (!padding || text.ptr[text.len - 1] == '=');
    char *bytes = is_whole ? malloc(text.len / 4 * 3 + 1) : NULL;
    int n;

    if (!bytes)
        return (struct slice){0};
    n = text.len ? EVP_DecodeBlock((unsigned char *)bytes, (const unsigned char *)text.ptr, (int)text.len)
                 : 0;
    if (n < (int)padding) {
        free(bytes);
        return (struct slice){0};
    }
    return slice_of(bytes, (size_t)n - padding);
}

/* How many bytes follow the first of a character; -1: none begins so. */
static int following(unsigned char first)
{
    return first < 0x80 ? 0 : first < 0xc2 ? -1 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : first < 0xf5 ? 3 : -1;
}

/* Neither longer than need be, nor half of a pair, nor beyond Unicode: the second byte shows it. */
static bool second_fits(unsigned char first, unsigned char second)
{
    unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;

    return second >= low && second <= high;
}

bool terms_is_utf8(struct slice text)
{
    const unsigned char *at = (const unsigned char *)text.ptr;
    size_t left = text.len;

    while (left) {
        int n = following(*at);

        if (n < 0 || left < (size_t)n + 1 || (n && !second_fits(at[0], at[1])))
            return false;
        for (int i = 2; i <= n; i++)
            if ((at[i] & 0xc0) != 0x80)
                return false;
        at += n + 1;
        left -= (size_t)n + 1;
    }
    return true;
}

bool terms_is_shallow(struct slice json, unsigned levels)
{
    unsigned depth = 0;
    bool in_text = false;

    for (size_t i = 0; i < json.len; i++) {
        char c = json.ptr[i];

        if (in_text && c == '\\')
            i++;
        else if (c == '"')
            in_text = !in_text;
        else if (!in_text && (c == '[' || c == '{') && ++depth > levels)
            return false;
        else if (!in_text && (c == ']' || c == '}') && depth)
            depth--;
    }
    return true;
}
