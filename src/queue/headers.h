/* headers.h - a message's headers, and whether they are those that a binding of a headers exchange asks for, as RabbitMQ 3.10
 * has it.
 *
 * Arguments of bindings and exchanges are the items of an AMQP table (wire/amqp_table.h), as they were declared; bytes that
 * are none are the same as the same bytes only. Pure; any thread. */
#ifndef QUEUE_HEADERS_H
#define QUEUE_HEADERS_H

#include "queue/envelope.h"
#include "wire/amqp_table.h"

/* The header table of a message that came by AMQP, borrowed from its head; empty: there is none. */
struct slice message_headers(struct slice head);

/* What a headers exchange looks at: the header table, or, of a message that came by HTTP, its fields as texts, with names in
 * lower case. */
struct headers {
    struct slice table;
    struct slice fields; /* the head */
};

struct headers headers_of(struct slice head);
/* The first of that name. False: there is none. */
bool headers_find(const struct headers *headers, struct slice name, struct amqp_value *value);

/* By a binding's argument x-match; the first is for one without. Of arguments that begin with x- only the two last ones
 * take notice, and never of x-match. */
enum headers_match { MATCH_ALL, MATCH_ANY, MATCH_ALL_WITH_X, MATCH_ANY_WITH_X };

/* False: x-match is neither of the four texts. */
bool headers_match_of(struct slice arguments, enum headers_match *match);
/* An argument of type void asks for any value. */
bool headers_are_asked_for(const struct headers *headers, struct slice arguments, enum headers_match match);

/* Clients write a table in any order: the same items, byte for byte, are the same arguments. Of more than AMQP_SEARCH_MAX the
 * order counts. */
bool arguments_equal(struct slice a, struct slice b);
uint64_t arguments_hash(struct slice arguments);

#endif
