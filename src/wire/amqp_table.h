/* amqp_table.h - field tables and arrays of AMQP 0-9-1, with the types that RabbitMQ gives their letters (its errata,
 * section 3), not those of the specification.
 *
 * A table is read item by item, without memory: each value borrows the table's bytes, and a nested table or array is a
 * slice to go on with. All letters are read. Written are only those that every client can read, t b s I l d S F A T V
 * x: a value keeps its letter where that is one of them, so that a client with static types meets the type that was
 * sent, and has the next one that holds it where it is not. Slices are without their length. Pure; any thread. */
#ifndef WIRE_AMQP_TABLE_H
#define WIRE_AMQP_TABLE_H

#include "base/slice.h"
#include "wire/amqp_out.h"

enum amqp_type {
    AMQP_VOID,    /* V */
    AMQP_BOOL,    /* t */
    AMQP_INTEGER, /* b s I l signed, B u i not, of 1 2 4 8 bytes; L is signed, and the same as l */
    AMQP_REAL,    /* f d */
    AMQP_DECIMAL, /* D: integer / 10 ^ scale, signed as clients have it */
    AMQP_TEXT,    /* S */
    AMQP_BYTES,   /* x */
    AMQP_TIME,    /* T */
    AMQP_ARRAY,   /* A */
    AMQP_TABLE,   /* F */
};

struct amqp_value {
    struct slice name; /* of an item in a table, up to 255 bytes; in an array there is none */
    enum amqp_type type;
    char
        letter; /* as it was taken. To put an integer: b s I l, and a wider one if need be; anything else is l */
    bool truth;
    uint8_t scale;      /* DECIMAL */
    int64_t integer;    /* INTEGER, DECIMAL */
    uint64_t seconds;   /* TIME, since 1970 */
    double real;        /* REAL */
    struct slice bytes; /* TEXT, BYTES, and the items of ARRAY and TABLE */
};

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* Takes the next item off the front of a table's items, or of an array's: of says which. False at the end, and where an
 * item is cut short or its letter is not known: then *rest is not empty. */
bool amqp_item_take(enum amqp_type of, struct slice *rest, struct amqp_value *value);

static inline bool amqp_table_take(struct slice *rest, struct amqp_value *value)
{
    return amqp_item_take(AMQP_TABLE, rest, value);
}

static inline bool amqp_array_take(struct slice *rest, struct amqp_value *value)
{
    return amqp_item_take(AMQP_ARRAY, rest, value);
}

/* Levels of tables and arrays, the outermost counted. The functions here call themselves as often, and a fiber's stack is
 * small: a level takes up to 600 bytes of it. */
#define AMQP_DEPTH_MAX 16

/* A constant string: why not all of it can be read, what is nested too. NULL: it can. */
const char *amqp_table_fault(struct slice table);

static inline bool amqp_table_is_valid(struct slice table)
{
    return !amqp_table_fault(table);
}

/* The first item of that name. False: there is none; *value is to be left alone then. */
bool amqp_table_find(struct slice table, struct slice name, struct amqp_value *value);

/* ---- comparing --------------------------------------------------------------------------------------------------- */

/* Items in another order are looked for only among as many: looking takes the square of that. */
#define AMQP_SEARCH_MAX 32

/* By value, whatever the width: 5 as b is 5 as L, a real is its double, 1.50 is 1.5. The type has to be the same:
 * neither is 1 the real 1.0, nor a time. Names do not count. What is nested is valid. */
bool amqp_value_equal(const struct amqp_value *a, const struct amqp_value *b);
/* Both are valid. Items may be in any order, in tables of up to AMQP_SEARCH_MAX; then, of items with the same name the
 * first counts. */
bool amqp_table_equal(struct slice a, struct slice b);

/* ---- writing ----------------------------------------------------------------------------------------------------- */

/* Write an item, into a table with its name, into an array without. What is nested is valid, and written anew. False: it
 * is a decimal, or holds one, that no double is exactly: the nearest one was written. That is no failure; whether there
 * was room is for who closes out. */
bool amqp_table_put(struct amqp_out *out, const struct amqp_value *value);
bool amqp_array_put(struct amqp_out *out, const struct amqp_value *value);
/* All items of a valid table anew, in their order. */
bool amqp_table_put_all(struct amqp_out *out, struct slice table);

/* A nested table or array (type) whose items are written in between: into a table its name and head, into an array the
 * head alone. begin is what amqp_*_begin returned. */
char *amqp_table_begin(struct amqp_out *out, struct slice name, enum amqp_type type);
char *amqp_array_begin(struct amqp_out *out, enum amqp_type type);
void amqp_nested_end(struct amqp_out *out, char *begin);

#endif
