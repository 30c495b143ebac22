/* amqp_table.h - field tables and arrays of AMQP 0-9-1, with the types that RabbitMQ gives their letters (its errata, section 3).
 *
 * A table is read item by item, without memory: each value borrows the table's bytes, a nested one is a slice of its own. Read are
 * all letters; written only those that every client can read: t b s I l d S F A T V x. Pure; any thread. */
#ifndef WIRE_AMQP_TABLE_H
#define WIRE_AMQP_TABLE_H

#include "base/slice.h"

enum amqp_type {
    AMQP_VOID,
    AMQP_BOOL,
    AMQP_INTEGER, /* b B s u I i l L; L is read as signed, as RabbitMQ does */
    AMQP_REAL,    /* f d */
    AMQP_DECIMAL, /* D: integer / 10 ^ scale */
    AMQP_TEXT,    /* S */
    AMQP_BYTES,   /* x */
    AMQP_TIME,    /* T: seconds */
    AMQP_ARRAY,   /* A */
    AMQP_TABLE,   /* F */
};

struct amqp_value {
    struct slice name; /* of a table's item; an array's has none */
    enum amqp_type type;
    bool truth;
    int64_t integer; /* INTEGER, DECIMAL, TIME */
    uint8_t scale;   /* DECIMAL */
    double real;
    struct slice bytes; /* TEXT, BYTES, ARRAY, TABLE: without its length */
};

#define AMQP_DEPTH_MAX 32

/* Take the next item off the front; false at the end, and where it is cut short or of a type that is not known: then rest is not
 * empty. */
bool amqp_table_take(struct slice *rest, struct amqp_value *value);
bool amqp_array_take(struct slice *rest, struct amqp_value *value);
/* Whether all of it can be read, nested ones too, down to AMQP_DEPTH_MAX. */
bool amqp_table_is_valid(struct slice table);
/* The first item of that name. False: there is none. */
bool amqp_table_find(struct slice table, struct slice name, struct amqp_value *value);

/* By value: integers of any width, reals, and times of the same type; tables item by item, in any order. Both are valid. */
bool amqp_value_equal(const struct amqp_value *a, const struct amqp_value *b);
bool amqp_table_equal(struct slice a, struct slice b);

/* Bytes of an item as it is written: of a table's with its name, which is at most 255 bytes; without one for an array's. What is nested
 * is valid, and written anew, with safe letters. 0: the name is too long. */
size_t amqp_table_item_bytes(const struct amqp_value *value);
size_t amqp_array_item_bytes(const struct amqp_value *value);
/* Write it, and return where the next one goes. */
char *amqp_table_put(char *at, const struct amqp_value *value);
char *amqp_array_put(char *at, const struct amqp_value *value);

#endif
