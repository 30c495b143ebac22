/* amqp_table.c - see amqp_table.h. */
#include "wire/amqp_table.h"

#include "wire/amqp_bytes.h"

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* An integer of n bytes, most significant first. */
static bool take_integer(struct slice *s, size_t n, bool is_signed, int64_t *value)
{
    uint64_t bits = 0;
    struct slice bytes;

    if (!take_slice(s, n, &bytes))
        return false;
    for (size_t i = 0; i < n; i++)
        bits = bits << 8 | (unsigned char)bytes.ptr[i];
    if (is_signed && n && n < 8 && bits >> (8 * n - 1))
        bits |= ~UINT64_C(0) << 8 * n;
    *value = (int64_t)bits;
    return true;
}

static bool take_float(struct slice *s, double *real)
{
    uint32_t bits;
    float narrow;

    if (!take_u32be(s, &bits))
        return false;
    memcpy(&narrow, &bits, sizeof narrow);
    *real = (double)narrow;
    return true;
}

static bool take_double(struct slice *s, double *real)
{
    uint64_t bits;

    if (!take_u64be(s, &bits))
        return false;
    memcpy(real, &bits, sizeof bits);
    return true;
}

static const struct {
    char letter;
    enum amqp_type type;
    uint8_t bytes; /* of an integer */
    bool is_signed;
} letters[] = {
    {'t', AMQP_BOOL, 1, false},    {'b', AMQP_INTEGER, 1, true},  {'B', AMQP_INTEGER, 1, false},
    {'s', AMQP_INTEGER, 2, true},  {'u', AMQP_INTEGER, 2, false}, {'I', AMQP_INTEGER, 4, true},
    {'i', AMQP_INTEGER, 4, false}, {'l', AMQP_INTEGER, 8, true},  {'L', AMQP_INTEGER, 8, true},
    {'f', AMQP_REAL, 4, false},    {'d', AMQP_REAL, 8, false},    {'D', AMQP_DECIMAL, 4, true},
    {'S', AMQP_TEXT, 0, false},    {'x', AMQP_BYTES, 0, false},   {'T', AMQP_TIME, 8, true},
    {'A', AMQP_ARRAY, 0, false},   {'F', AMQP_TABLE, 0, false},   {'V', AMQP_VOID, 0, false},
};

static bool take_content(struct slice *s, size_t row, struct amqp_value *value)
{
    value->type = letters[row].type;
    switch (value->type) {
    case AMQP_VOID:
        return true;
    case AMQP_BOOL:
        if (!take_integer(s, 1, false, &value->integer))
            return false;
        value->truth = value->integer != 0;
        return true;
    case AMQP_INTEGER:
    case AMQP_TIME:
        return take_integer(s, letters[row].bytes, letters[row].is_signed, &value->integer);
    case AMQP_REAL:
        return letters[row].bytes == 4 ? take_float(s, &value->real) : take_double(s, &value->real);
    case AMQP_DECIMAL:
        return take_u8(s, &value->scale) && take_integer(s, 4, true, &value->integer);
    case AMQP_TEXT:
    case AMQP_BYTES:
    case AMQP_ARRAY:
    case AMQP_TABLE:
        return take_long_text(s, &value->bytes);
    }
    return false;
}

bool amqp_array_take(struct slice *rest, struct amqp_value *value)
{
    struct slice cur = *rest;
    struct slice name = value->name;

    if (!cur.len)
        return false;
    *value = (struct amqp_value){.name = name};
    for (size_t row = 0; row < sizeof letters / sizeof letters[0]; row++)
        if (letters[row].letter == *cur.ptr) {
            slice_drop(&cur, 1);
            if (!take_content(&cur, row, value))
                return false;
            *rest = cur;
            return true;
        }
    return false;
}

bool amqp_table_take(struct slice *rest, struct amqp_value *value)
{
    struct slice cur = *rest;

    if (!take_short_text(&cur, &value->name) || !amqp_array_take(&cur, value))
        return false;
    *rest = cur;
    return true;
}

static bool take_item(struct slice *rest, bool is_table, struct amqp_value *value)
{
    *value = (struct amqp_value){0};
    return is_table ? amqp_table_take(rest, value) : amqp_array_take(rest, value);
}

static bool is_valid(struct slice rest, bool is_table, unsigned depth)
{
    struct amqp_value value;

    if (depth == AMQP_DEPTH_MAX)
        return false;
    while (take_item(&rest, is_table, &value))
        if ((value.type == AMQP_TABLE || value.type == AMQP_ARRAY) &&
            !is_valid(value.bytes, value.type == AMQP_TABLE, depth + 1))
            return false;
    return rest.len == 0;
}

bool amqp_table_is_valid(struct slice table)
{
    return is_valid(table, true, 0);
}

bool amqp_table_find(struct slice table, struct slice name, struct amqp_value *value)
{
    while (take_item(&table, true, value))
        if (slice_equal(value->name, name))
            return true;
    return false;
}

/* ---- comparing --------------------------------------------------------------------------------------------------- */

static bool array_equal(struct slice a, struct slice b)
{
    struct amqp_value x, y;

    for (;;) {
        bool has_x = take_item(&a, false, &x), has_y = take_item(&b, false, &y);

        if (!has_x || !has_y)
            return has_x == has_y;
        if (!amqp_value_equal(&x, &y))
            return false;
    }
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
    case AMQP_TIME:
        return a->integer == b->integer;
    case AMQP_REAL:
        return !(a->real < b->real) && !(a->real > b->real);
    case AMQP_DECIMAL:
        return a->integer == b->integer && a->scale == b->scale;
    case AMQP_TEXT:
    case AMQP_BYTES:
        return slice_equal(a->bytes, b->bytes);
    case AMQP_ARRAY:
        return array_equal(a->bytes, b->bytes);
    case AMQP_TABLE:
        return amqp_table_equal(a->bytes, b->bytes);
    }
    return false;
}

static size_t count_items(struct slice table)
{
    struct amqp_value value;
    size_t n = 0;

    while (take_item(&table, true, &value))
        n++;
    return n;
}

bool amqp_table_equal(struct slice a, struct slice b)
{
    struct amqp_value x, y;

    if (count_items(a) != count_items(b))
        return false;
    while (take_item(&a, true, &x))
        if (!amqp_table_find(b, x.name, &y) || !amqp_value_equal(&x, &y))
            return false;
    return true;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

/* The narrowest letter that holds it. */
static size_t integer_bytes(int64_t value, char *letter)
{
    if (value >= INT8_MIN && value <= INT8_MAX) {
        *letter = 'b';
        return 1;
    }
    if (value >= INT16_MIN && value <= INT16_MAX) {
        *letter = 's';
        return 2;
    }
    if (value >= INT32_MIN && value <= INT32_MAX) {
        *letter = 'I';
        return 4;
    }
    *letter = 'l';
    return 8;
}

/* What stands in an array or a table once it is written anew. */
static size_t nested_bytes(struct slice rest, bool is_table)
{
    struct amqp_value value;
    size_t n = 0;

    while (take_item(&rest, is_table, &value))
        n += is_table ? amqp_table_item_bytes(&value) : amqp_array_item_bytes(&value);
    return n;
}

size_t amqp_array_item_bytes(const struct amqp_value *value)
{
    char letter;

    switch (value->type) {
    case AMQP_VOID:
        return 1;
    case AMQP_BOOL:
        return 2;
    case AMQP_INTEGER:
        return 1 + integer_bytes(value->integer, &letter);
    case AMQP_REAL:
    case AMQP_DECIMAL: /* as a real: most clients cannot read D */
    case AMQP_TIME:
        return 9;
    case AMQP_TEXT:
    case AMQP_BYTES:
        return 5 + value->bytes.len;
    case AMQP_ARRAY:
    case AMQP_TABLE:
        return 5 + nested_bytes(value->bytes, value->type == AMQP_TABLE);
    }
    return 0;
}

size_t amqp_table_item_bytes(const struct amqp_value *value)
{
    return value->name.len > AMQP_SHORT_TEXT_MAX ? 0 : 1 + value->name.len + amqp_array_item_bytes(value);
}

static char *put_integer(char *at, int64_t value)
{
    size_t n = integer_bytes(value, at);

    for (size_t i = 0; i < n; i++)
        at[1 + i] = (char)((uint64_t)value >> 8 * (n - 1 - i));
    return at + 1 + n;
}

static char *put_real(char *at, double real)
{
    uint64_t bits;

    memcpy(&bits, &real, sizeof bits);
    *at = 'd';
    return put_u64be(at + 1, bits);
}

static double decimal_real(const struct amqp_value *value)
{
    double real = (double)value->integer;

    for (unsigned i = 0; i < value->scale; i++)
        real /= 10;
    return real;
}

static char *put_nested(char *at, const struct amqp_value *value)
{
    bool is_table = value->type == AMQP_TABLE;
    struct slice rest = value->bytes;
    struct amqp_value item;
    char *end = at + 5;

    *at = is_table ? 'F' : 'A';
    while (take_item(&rest, is_table, &item))
        end = is_table ? amqp_table_put(end, &item) : amqp_array_put(end, &item);
    put_u32be(at + 1, (uint32_t)(end - at - 5));
    return end;
}

char *amqp_array_put(char *at, const struct amqp_value *value)
{
    switch (value->type) {
    case AMQP_VOID:
        *at = 'V';
        return at + 1;
    case AMQP_BOOL:
        at[0] = 't';
        at[1] = (char)value->truth;
        return at + 2;
    case AMQP_INTEGER:
        return put_integer(at, value->integer);
    case AMQP_REAL:
        return put_real(at, value->real);
    case AMQP_DECIMAL:
        return put_real(at, decimal_real(value));
    case AMQP_TIME:
        *at = 'T';
        return put_u64be(at + 1, (uint64_t)value->integer);
    case AMQP_TEXT:
    case AMQP_BYTES:
        *at = value->type == AMQP_TEXT ? 'S' : 'x';
        return put_long_text(at + 1, value->bytes);
    case AMQP_ARRAY:
    case AMQP_TABLE:
        return put_nested(at, value);
    }
    return at;
}

char *amqp_table_put(char *at, const struct amqp_value *value)
{
    return amqp_array_put(put_short_text(at, value->name), value);
}
