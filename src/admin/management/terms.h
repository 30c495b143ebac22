/* terms.h - what RabbitMQ's management interface says of AMQP in JSON: tables, properties, what tells bindings apart.
 *
 * Texts in JSON are bytes as AMQP has them: who writes them makes UTF-8 of them. Any thread. */
#ifndef ADMIN_MANAGEMENT_TERMS_H
#define ADMIN_MANAGEMENT_TERMS_H

#include <jansson.h>

#include "base/slice.h"
#include "wire/amqp.h"
#include "wire/amqp_table.h"

/* A new string, of any bytes; NULL: no memory, as with all of these. */
json_t *terms_text(struct slice text);
/* Puts a value, whose reference it takes; NULL leaves the member away. */
void terms_put(json_t *object, const char *name, json_t *value);
/* The text of a member; ptr NULL: it is not there, or no text. */
struct slice terms_get(const json_t *object, const char *name);

/* A valid table as an object. */
json_t *terms_of_table(struct slice table);
/* Objects become tables, arrays arrays, whole numbers l. False: more levels than AMQP_DEPTH_MAX, or a name too long. */
bool terms_put_table(struct amqp_out *out, const json_t *object);

/* The properties that there are. */
json_t *terms_of_properties(const struct amqp_content *content);
/* The other way; headers are written to out. NULL: they are set; or the name of what makes no sense. */
const char *terms_take_properties(const json_t *object, struct amqp_content *content, struct amqp_out *out);

/* What tells a binding from others between the same two: its key as a URL has it, and with arguments ~ and a hash of them. As
 * RabbitMQ's but for the hash. */
#define TERMS_KEY_MAX (3 * 255 + 16)
struct slice terms_properties_key(struct slice key, struct slice arguments, char text[TERMS_KEY_MAX]);
/* As a segment of a path. room: three times its length. Returns how long it is. */
size_t terms_percent_encode(struct slice text, char *at);

/* Base64 with padding, by memory that the caller frees. ptr NULL: no memory, or it is none. */
struct slice terms_to_base64(struct slice bytes);
struct slice terms_from_base64(struct slice text);

/* Whether all of it is UTF-8. */
bool terms_is_utf8(struct slice text);

/* Whether no bracket in the text is deeper: who reads JSON calls himself as often. */
bool terms_is_shallow(struct slice json, unsigned levels);

#endif
