/* amqp_content.c - content headers; see amqp.h. */
#include "wire/amqp.h"
#include "wire/amqp_bytes.h"

#define CLASS_BASIC 60
#define FLAGS_ALL 0xfffcu /* bit 1 is no property of basic, bit 0 says that there are more flags */

static bool take_property(struct slice *in, enum amqp_property property, struct amqp_content *content)
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

/* The one that stands first: its flag is the highest. */
static enum amqp_property first_property(uint16_t flags)
{
    return (enum amqp_property)(31 - __builtin_clz(flags));
}

/* NULL: all of it could be taken. */
static const char *fault_in(struct slice in, struct amqp_content *content)
{
    uint16_t class_id, weight;

    if (!take_u16be(&in, &class_id) || !take_u16be(&in, &weight) || !take_u64be(&in, &content->body_bytes) ||
        !take_u16be(&in, &content->flags))
        return "the content header is cut short";
    if (class_id != CLASS_BASIC)
        return "only basic has content";
    if (weight)
        return "the weight is not zero";
    if (content->flags & ~FLAGS_ALL)
        return "there are properties that basic does not have";
    for (uint16_t left = content->flags; left; left &= (uint16_t) ~(1u << first_property(left)))
        if (!take_property(&in, first_property(left), content))
            return "the properties are cut short";
    return in.len ? "something stands behind the properties" : NULL;
}

enum amqp_result amqp_take_content(struct slice payload, struct amqp_content *content, const char **why)
{
    const char *fault;

    *content = (struct amqp_content){0};
    fault = fault_in(payload, content);
    if (fault)
        *why = fault;
    return fault ? AMQP_BAD : AMQP_OK;
}

static void put_property(struct amqp_out *out, const struct amqp_content *content,
                         enum amqp_property property)
{
    switch (property) {
    case AMQP_HEADERS:
        write_long_text(out, content->headers);
        break;
    case AMQP_DELIVERY_MODE:
        write_u8(out, content->delivery_mode);
        break;
    case AMQP_PRIORITY:
        write_u8(out, content->priority);
        break;
    case AMQP_TIMESTAMP:
        write_u64be(out, content->timestamp);
        break;
    default:
        write_short_text(out, content->texts[property]);
    }
}

void amqp_put_content(struct amqp_out *out, const struct amqp_content *content)
{
    uint16_t flags = content->flags & FLAGS_ALL;

    write_u16be(out, CLASS_BASIC);
    write_u16be(out, 0);
    write_u64be(out, content->body_bytes);
    write_u16be(out, flags);
    for (uint16_t left = flags; left; left &= (uint16_t) ~(1u << first_property(left)))
        put_property(out, content, first_property(left));
}
