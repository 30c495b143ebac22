/* amqp_content.c - content headers; see amqp.h. */
#include "wire/amqp.h"
#include "wire/amqp_bytes.h"

#define CLASS_BASIC 60
#define FIXED_BYTES 14 /* class, weight, body size, flags */
#define FLAGS_ALL 0xfffc

static bool is_text(unsigned property)
{
    return property != AMQP_HEADERS && property != AMQP_DELIVERY_MODE && property != AMQP_PRIORITY &&
           property != AMQP_TIMESTAMP;
}

static bool take_property(struct slice *in, unsigned property, struct amqp_content *content)
{
    switch (property) {
    case AMQP_HEADERS:
        return take_long_text(in, &content->headers);
    case AMQP_DELIVERY_MODE:
        return take_u8(in, &content->delivery_mode);
    case AMQP_PRIORITY:
        return take_u8(in, &content->priority);
    case AMQP_TIMESTAMP:
        return take_u64be(in, &content->timestamp);
    default:
        return take_short_text(in, &content->texts[property]);
    }
}

enum amqp_result amqp_take_content(struct slice in, struct amqp_content *content, const char **why)
{
    uint16_t class_id, weight;

    *content = (struct amqp_content){0};
    *why = "the content header is cut short";
    if (!take_u16be(&in, &class_id) || !take_u16be(&in, &weight) || !take_u64be(&in, &content->body_bytes) ||
        !take_u16be(&in, &content->flags))
        return AMQP_BAD;
    *why = "only basic has content";
    if (class_id != CLASS_BASIC)
        return AMQP_BAD;
    *why = "there are properties that basic does not have";
    if (content->flags & (uint16_t)~FLAGS_ALL)
        return AMQP_BAD;
    *why = "the properties are cut short";
    for (unsigned property = AMQP_CONTENT_TYPE; property >= AMQP_CLUSTER_ID; property--)
        if (amqp_content_has(content, (enum amqp_property)property) && !take_property(&in, property, content))
            return AMQP_BAD;
    *why = "something stands behind the properties";
    return in.len ? AMQP_BAD : AMQP_OK;
}

static size_t property_bytes(const struct amqp_content *content, unsigned property)
{
    switch (property) {
    case AMQP_HEADERS:
        return 4 + content->headers.len;
    case AMQP_DELIVERY_MODE:
    case AMQP_PRIORITY:
        return 1;
    case AMQP_TIMESTAMP:
        return 8;
    default:
        return 1 + content->texts[property].len;
    }
}

size_t amqp_content_bytes(const struct amqp_content *content)
{
    size_t n = FIXED_BYTES;

    for (unsigned property = AMQP_CONTENT_TYPE; property >= AMQP_CLUSTER_ID; property--) {
        if (!amqp_content_has(content, (enum amqp_property)property))
            continue;
        if (is_text(property) && content->texts[property].len > AMQP_SHORT_TEXT_MAX)
            return 0;
        n += property_bytes(content, property);
    }
    return n;
}

static char *put_property(char *at, const struct amqp_content *content, unsigned property)
{
    switch (property) {
    case AMQP_HEADERS:
        return put_long_text(at, content->headers);
    case AMQP_DELIVERY_MODE:
        *at = (char)content->delivery_mode;
        return at + 1;
    case AMQP_PRIORITY:
        *at = (char)content->priority;
        return at + 1;
    case AMQP_TIMESTAMP:
        return put_u64be(at, content->timestamp);
    default:
        return put_short_text(at, content->texts[property]);
    }
}

char *amqp_put_content(char *at, const struct amqp_content *content)
{
    at = put_u16be(at, CLASS_BASIC);
    at = put_u16be(at, 0);
    at = put_u64be(at, content->body_bytes);
    at = put_u16be(at, content->flags & FLAGS_ALL);
    for (unsigned property = AMQP_CONTENT_TYPE; property >= AMQP_CLUSTER_ID; property--)
        if (amqp_content_has(content, (enum amqp_property)property))
            at = put_property(at, content, property);
    return at;
}
