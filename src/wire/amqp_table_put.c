/* amqp_table_put.c - field tables and arrays: writing; see amqp_table.h. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "wire/amqp_bytes.h"
#include "wire/amqp_table.h"

/* ---- numbers ------------------------------------------------------------------------------------------------ */

/* The signed type that holds all that one of that letter can be. */
static char safe_letter(char letter)
{
    switch (letter) {
    case 'b':
        return 'b';
    case 'B':
    case 's':
        return 's';
    case 'u':
    case 'I':
        return 'I';
    default: /* i l L */
        return 'l';
    }
}

static void put_integer(struct amqp_out *out, const struct amqp_value *value)
{
    char letter = safe_letter(value->letter);
    int64_t n = value->integer;

    if (letter == 'b' && (n < INT8_MIN || n > INT8_MAX))
        letter = 's';
    if (letter == 's' && (n < INT16_MIN || n > INT16_MAX))
        letter = 'I';
    if (letter == 'I' && (n < INT32_MIN || n > INT32_MAX))
        letter = 'l';
    write_u8(out, (uint8_t)letter);
    switch (letter) {
    case 'b':
        write_u8(out, (uint8_t)n);
        break;
    case 's':
        write_u16be(out, (uint16_t)n);
        break;
    case 'I':
        write_u32be(out, (uint32_t)n);
        break;
    default:
        write_u64be(out, (uint64_t)n);
    }
}

static void put_real(struct amqp_out *out, double real)
{
    uint64_t bits;

    memcpy(&bits, &real, sizeof bits);
    write_u8(out, 'd');
    write_u64be(out, bits);
}

/* A double is an integer of up to 53 bits by a power of two: each ten that is divided by needs a five that goes away. */
static bool is_exact_as_double(int64_t integer, unsigned scale)
{
    if (integer == 0)
        return true;
    for (; scale && integer % 5 == 0; scale--)
        integer /= 5;
    return scale == 0 && integer >= -(INT64_C(1) << 53) && integer <= INT64_C(1) << 53;
}

static bool put_decimal(struct amqp_out *out, const struct amqp_value *value)
{
    char text[sizeof "-9223372036854775808e-255"];

    /* The C library rounds right at any scale. */
    snprintf(text, sizeof text, "%" PRId64 "e-%u", value->integer, (unsigned)value->scale);
    put_real(out, strtod(text, NULL));
    return is_exact_as_double(value->integer, value->scale);
}

/* ---- items -------------------------------------------------------------------------------------------------- */

static bool put_items(struct amqp_out *out, enum amqp_type of, struct slice items)
{
    struct amqp_value value;
    bool exact = true;

    while (amqp_item_take(of, &items, &value))
        exact &= of == AMQP_TABLE ? amqp_table_put(out, &value) : amqp_array_put(out, &value);
    return exact;
}

static bool put_nested(struct amqp_out *out, const struct amqp_value *value)
{
    char *begin = amqp_array_begin(out, value->type);
    bool exact = put_items(out, value->type, value->bytes);

    amqp_nested_end(out, begin);
    return exact;
}

bool amqp_array_put(struct amqp_out *out, const struct amqp_value *value)
{
    switch (value->type) {
    case AMQP_VOID:
        write_u8(out, 'V');
        break;
    case AMQP_BOOL:
        write_u8(out, 't');
        write_u8(out, value->truth);
        break;
    case AMQP_INTEGER:
        put_integer(out, value);
        break;
    case AMQP_REAL:
        put_real(out, value->real);
        break;
    case AMQP_DECIMAL:
        return put_decimal(out, value);
    case AMQP_TIME:
        write_u8(out, 'T');
        write_u64be(out, value->seconds);
        break;
    case AMQP_TEXT:
    case AMQP_BYTES:
        write_u8(out, value->type == AMQP_TEXT ? 'S' : 'x');
        write_long_text(out, value->bytes);
        break;
    case AMQP_ARRAY:
    case AMQP_TABLE:
        return put_nested(out, value);
    }
    return true;
}

bool amqp_table_put(struct amqp_out *out, const struct amqp_value *value)
{
    write_short_text(out, value->name);
    return amqp_array_put(out, value);
}

bool amqp_table_put_all(struct amqp_out *out, struct slice table)
{
    return put_items(out, AMQP_TABLE, table);
}

/* ---- what is nested ----------------------------------------------------------------------------------------- */

char *amqp_array_begin(struct amqp_out *out, enum amqp_type type)
{
    assert(type == AMQP_TABLE || type == AMQP_ARRAY);
    write_u8(out, type == AMQP_TABLE ? 'F' : 'A');
    write_u32be(out, 0);
    return out->at;
}

char *amqp_table_begin(struct amqp_out *out, struct slice name, enum amqp_type type)
{
    write_short_text(out, name);
    return amqp_array_begin(out, type);
}

void amqp_nested_end(struct amqp_out *out, char *begin)
{
    size_t n = (size_t)(out->at - begin);

    if (out->result == AMQP_WRITTEN && n > UINT32_MAX)
        out->result = AMQP_TOO_LONG;
    if (out->result == AMQP_WRITTEN)
        put_u32be(begin - 4, (uint32_t)n);
}
