/* headers.c - see headers.h. */
#include "queue/headers.h"

#include "base/hash.h"
#include "wire/amqp.h"

/* ---- a message's ------------------------------------------------------------------------------------------------- */

struct slice message_headers(struct slice head)
{
    struct slice payload = envelope_find(head, ENVELOPE_AMQP);
    struct amqp_content content;
    const char *why;

    if (!payload.ptr || amqp_take_content(payload, &content, &why) != AMQP_OK ||
        !amqp_content_has(&content, AMQP_HEADERS) || !amqp_table_is_valid(content.headers))
        return SLICE("");
    return content.headers;
}

struct headers headers_of(struct slice head)
{
    if (envelope_find(head, ENVELOPE_AMQP).ptr)
        return (struct headers){.table = message_headers(head)};
    return (struct headers){.fields = head};
}

static bool is_in_lower_case(struct slice name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] >= 'A' && name.ptr[i] <= 'Z')
            return false;
    return true;
}

bool headers_find(const struct headers *headers, struct slice name, struct amqp_value *value)
{
    struct slice field;

    if (headers->table.len)
        return amqp_table_find(headers->table, name, value);
    if (!headers->fields.len || !is_in_lower_case(name))
        return false;
    field = envelope_field(headers->fields, name);
    *value = (struct amqp_value){.type = AMQP_TEXT, .letter = 'S', .bytes = field};
    return field.ptr != NULL;
}

/* ---- what a binding asks for ------------------------------------------------------------------------------------- */

bool headers_match_of(struct slice arguments, enum headers_match *match)
{
    static const struct {
        struct slice text;
        enum headers_match match;
    } rules[] = {
        {{"all", 3}, MATCH_ALL},
        {{"any", 3}, MATCH_ANY},
        {{"all-with-x", 10}, MATCH_ALL_WITH_X},
        {{"any-with-x", 10}, MATCH_ANY_WITH_X},
    };
    struct amqp_value value;

    *match = MATCH_ALL;
    if (!amqp_table_find(arguments, SLICE("x-match"), &value))
        return true;
    for (size_t i = 0; value.type == AMQP_TEXT && i < sizeof rules / sizeof rules[0]; i++)
        if (slice_equal(value.bytes, rules[i].text)) {
            *match = rules[i].match;
            return true;
        }
    return false;
}

static bool is_asked_for(struct slice name, enum headers_match match)
{
    if (slice_equal(name, SLICE("x-match")))
        return false;
    return match == MATCH_ALL_WITH_X || match == MATCH_ANY_WITH_X || !slice_starts_with(name, SLICE("x-"));
}

bool headers_are_asked_for(const struct headers *headers, struct slice arguments, enum headers_match match)
{
    bool any = match == MATCH_ANY || match == MATCH_ANY_WITH_X;
    struct amqp_value wanted, value;

    while (amqp_table_take(&arguments, &wanted)) {
        if (!is_asked_for(wanted.name, match))
            continue;
        if (any == (headers_find(headers, wanted.name, &value) &&
                    (wanted.type == AMQP_VOID || amqp_value_equal(&wanted, &value))))
            return any;
    }
    return !any;
}

/* ---- the same arguments ------------------------------------------------------------------------------------------ */

/* The bytes of the next item; of what is no item, all of the rest. False: at the end. */
static bool take_item(struct slice *rest, struct slice *item)
{
    struct slice start = *rest;
    struct amqp_value value;

    if (!rest->len)
        return false;
    if (!amqp_table_take(rest, &value))
        slice_drop(rest, rest->len);
    *item = slice_of(start.ptr, start.len - rest->len);
    return true;
}

/* How often; SIZE_MAX: there are more items than are looked through. */
static size_t count_item(struct slice arguments, struct slice wanted)
{
    struct slice item;
    size_t n = 0, n_items = 0;

    while (take_item(&arguments, &item)) {
        if (++n_items > AMQP_SEARCH_MAX)
            return SIZE_MAX;
        n += slice_equal(item, wanted);
    }
    return n;
}

bool arguments_equal(struct slice a, struct slice b)
{
    struct slice rest = a, item;

    if (slice_equal(a, b))
        return true;
    if (a.len != b.len)
        return false;
    while (take_item(&rest, &item)) {
        size_t n = count_item(a, item);

        if (n == SIZE_MAX || count_item(b, item) != n)
            return false;
    }
    return true;
}

uint64_t arguments_hash(struct slice arguments)
{
    struct slice item;
    uint64_t sum = 0;

    while (take_item(&arguments, &item))
        sum += hash_bytes(item);
    return sum;
}
