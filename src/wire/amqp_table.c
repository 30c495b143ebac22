/* amqp_table.c - field tables and arrays: reading and comparing; see amqp_table.h. amqp_table_put.c writes. */
#include "wire/amqp_table.h"

#include "wire/amqp_bytes.h"

/* ---- reading ------------------------------------------------------------------------------------------------ */

static bool take_integer(struct slice *s, struct amqp_value *value)
{
    uint64_t u64;
    uint32_t u32;
    uint16_t u16;
    uint8_t u8;

    value->type = AMQP_INTEGER;
    switch (value->letter) {
    case 'b':
    case 'B':
        if (!take_u8(s, &u8))
            return false;
        value->integer = value->letter == 'b' ? (int8_t)u8 : u8;
        return true;
    case 's':
    case 'u':
        if (!take_u16be(s, &u16))
            return false;
        value->integer = value->letter == 's' ? (int16_t)u16 : u16;
        return true;
    case 'I':
    case 'i':
        if (!take_u32be(s, &u32))
            return false;
        value->integer = value->letter == 'I' ? (int32_t)u32 : (int64_t)u32;
        return true;
    case 'l':
    case 'L':
        if (!take_u64be(s, &u64))
            return false;
        value->integer = (int64_t)u64;
        return true;
    default:
        return false;
    }
}

static bool take_real(struct slice *s, struct amqp_value *value)
{
    uint64_t bits;
    uint32_t narrow_bits;
    float narrow;

    value->type = AMQP_REAL;
    if (value->letter == 'd') {
        if (!take_u64be(s, &bits))
            return false;
        memcpy(&value->real, &bits, sizeof bits);
        return true;
    }
    if (!take_u32be(s, &narrow_bits))
        return false;
    memcpy(&narrow, &narrow_bits, sizeof narrow);
    value->real = (double)narrow;
    return true;
}

static bool take_bool(struct slice *s, struct amqp_value *value)
{
    uint8_t octet;

    value->type = AMQP_BOOL;
    if (!take_u8(s, &octet))
        return false;
    value->truth = octet != 0;
    return true;
}

static bool take_decimal(struct slice *s, struct amqp_value *value)
{
    uint32_t unscaled;

    value->type = AMQP_DECIMAL;
    if (!take_u8(s, &value->scale) || !take_u32be(s, &unscaled))
        return false;
    value->integer = (int32_t)unscaled;
    return true;
}

static bool take_bytes(struct slice *s, enum amqp_type type, struct amqp_value *value)
{
    value->type = type;
    return take_long_text(s, &value->bytes);
}

/* What is behind the letter. */
static bool take_content(struct slice *s, struct amqp_value *value)
{
    switch (value->letter) {
    case 'V':
        value->type = AMQP_VOID;
        return true;
    case 't':
        return take_bool(s, value);
    case 'f':
    case 'd':
        return take_real(s, value);
    case 'D':
        return take_decimal(s, value);
    case 'S':
        return take_bytes(s, AMQP_TEXT, value);
    case 'x':
        return take_bytes(s, AMQP_BYTES, value);
    case 'A':
        return take_bytes(s, AMQP_ARRAY, value);
    case 'F':
        return take_bytes(s, AMQP_TABLE, value);
    case 'T':
        value->type = AMQP_TIME;
        return take_u64be(s, &value->seconds);
    default:
        return take_integer(s, value);
    }
}

static bool is_letter(char c)
{
    return c && strchr("tbBsuIilLfdDSxTAFV", c);
}

static const char AT_END[] = "there is no other item";

/* NULL: it was taken. */
static const char *take_item(enum amqp_type of, struct slice *rest, struct amqp_value *value)
{
    static const char short_item[] = "an item is cut short, or longer than what it is in";
    struct slice cur = *rest;

    *value = (struct amqp_value){0};
    if (!cur.len)
        return AT_END;
    if ((of == AMQP_TABLE && !take_short_text(&cur, &value->name)) || !cur.len)
        return short_item;
    value->letter = *slice_take(&cur, 1).ptr;
    if (!take_content(&cur, value))
        return is_letter(value->letter) ? short_item : "a value's type is none of RabbitMQ's";
    *rest = cur;
    return NULL;
}

bool amqp_item_take(enum amqp_type of, struct slice *rest, struct amqp_value *value)
{
    return !take_item(of, rest, value);
}

static bool is_nested(const struct amqp_value *value)
{
    return value->type == AMQP_ARRAY || value->type == AMQP_TABLE;
}

static const char *fault_in(enum amqp_type of, struct slice rest, unsigned depth)
{
    struct amqp_value value;
    const char *fault;

    if (depth == AMQP_DEPTH_MAX)
        return "tables or arrays are nested too deep";
    for (;;) {
        fault = take_item(of, &rest, &value);
        if (!fault && is_nested(&value))
            fault = fault_in(value.type, value.bytes, depth + 1);
        if (fault)
            return fault == AT_END ? NULL : fault;
    }
}

const char *amqp_table_fault(struct slice table)
{
    return fault_in(AMQP_TABLE, table, 0);
}

bool amqp_table_find(struct slice table, struct slice name, struct amqp_value *value)
{
    while (amqp_table_take(&table, value))
        if (slice_equal(value->name, name))
            return true;
    return false;
}

/* ---- comparing ---------------------------------------------------------------------------------------------- */

static bool items_equal(enum amqp_type of, struct slice a, struct slice b)
{
    struct amqp_value x, y;

    for (;;) {
        bool has_x = amqp_item_take(of, &a, &x), has_y = amqp_item_take(of, &b, &y);

        if (!has_x || !has_y)
            return has_x == has_y;
        if (!amqp_value_equal(&x, &y))
            return false;
    }
}

static bool real_equal(double a, double b)
{
    bool a_is_number = a == a, b_is_number = b == b;

    return a_is_number && b_is_number ? a == b : a_is_number == b_is_number;
}

/* Without zeros at the end that its scale takes away again. */
static struct amqp_value shortest_decimal(struct amqp_value value)
{
    while (value.scale && value.integer % 10 == 0) {
        value.integer /= 10;
        value.scale--;
    }
    return value;
}

static bool decimal_equal(const struct amqp_value *a, const struct amqp_value *b)
{
    struct amqp_value x = shortest_decimal(*a), y = shortest_decimal(*b);

    return x.integer == y.integer && x.scale == y.scale;
}

bool amqp_value_equal(const struct amqp_value *a, const struct amqp_value *b)
{
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case AMQP_VOID:
        return true;
    case AMQP_BOOL:
        return a->truth == b->truth;
    case AMQP_INTEGER:
        return a->integer == b->integer;
    case AMQP_REAL:
        return real_equal(a->real, b->real);
    case AMQP_DECIMAL:
        return decimal_equal(a, b);
    case AMQP_TIME:
        return a->seconds == b->seconds;
    case AMQP_TEXT:
    case AMQP_BYTES:
        return slice_equal(a->bytes, b->bytes);
    case AMQP_ARRAY:
        return items_equal(AMQP_ARRAY, a->bytes, b->bytes);
    case AMQP_TABLE:
        return amqp_table_equal(a->bytes, b->bytes);
    }
    return false;
}

static bool has_names_in_order(struct slice a, struct slice b)
{
    struct amqp_value x, y;

    for (;;) {
        bool has_x = amqp_table_take(&a, &x), has_y = amqp_table_take(&b, &y);

        if (!has_x || !has_y)
            return has_x == has_y;
        if (!slice_equal(x.name, y.name))
            return false;
    }
}

static bool is_longer_than(struct slice table, size_t n_items)
{
    struct amqp_value value;

    while (amqp_table_take(&table, &value))
        if (n_items-- == 0)
            return true;
    return false;
}

/* Whether b has each name of a, and with_values the same behind it. A name of a is looked for in a too: only its first
 * item counts. */
static bool has_all(struct slice b, struct slice a, bool with_values)
{
    struct slice rest = a;
    struct amqp_value x, first, y;

    while (amqp_table_take(&rest, &x)) {
        if (!amqp_table_find(b, x.name, &y))
            return false;
        if (with_values && amqp_table_find(a, x.name, &first) && first.name.ptr == x.name.ptr &&
            !amqp_value_equal(&x, &y))
            return false;
    }
    return true;
}

/* A nested table is compared with one other at most, so that the work grows with the bytes, times AMQP_SEARCH_MAX. */
bool amqp_table_equal(struct slice a, struct slice b)
{
    if (has_names_in_order(a, b))
        return items_equal(AMQP_TABLE, a, b);
    if (is_longer_than(a, AMQP_SEARCH_MAX) || is_longer_than(b, AMQP_SEARCH_MAX))
        return false;
    return has_all(a, b, false) && has_all(b, a, true);
}
