/* reply.h - answers of the admin interface: short ones, errors, and documents that stream.
 *
 * A document is written through a block of 16 KiB. One that fits is answered with its length; a longer one streams, and
 * after each block other fibers have their turn, after some the thread rests, so that a document of any size neither
 * stalls anybody nor takes the whole core while it lasts.
 * Threads: the exchange's. Waits by fiber. */
#ifndef ADMIN_REPLY_H
#define ADMIN_REPLY_H

#include "base/json.h"
#include "config/config.h"
#include "http/exchange.h"

#define REPLY_JSON SLICE("application/json")
#define REPLY_TEXT SLICE("text/plain; charset=utf-8")
#define REPLY_PAGE_FIELDS_MAX 6

void reply_text(struct exchange *x, unsigned status, const char *text);

/* {"error": "what; what to do"}. field: one that the status asks for, or NULL. */
void reply_error(struct exchange *x, unsigned status, const struct http_field *field, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void reply_no_memory(struct exchange *x);
/* HTML, with at most REPLY_PAGE_FIELDS_MAX fields of its own. */
void reply_page(struct exchange *x, struct slice page, const struct http_field *fields, unsigned n_fields);

struct reply {
    struct exchange *x;
    struct json json;
    char *block; /* owned */
    unsigned status;
    struct slice type;
    bool started; /* its head went out */
    unsigned blocks;
    bool ending; /* what is in the block is the rest */
};

/* Write to reply->json, then reply_end. type is a constant. False: everything is answered, for want of memory or because
 * only the head was asked for. */
bool reply_begin(struct reply *reply, struct exchange *x, unsigned status, struct slice type);
void reply_end(struct reply *reply);

/* "maitred.conf:12" */
#define PUT_U64(json, name, value) (json_key(json, name), json_put_u64(json, (value)))
#define PUT_TEXT(json, name, text) (json_key(json, name), json_put_string(json, slice_from_text(text)))
#define PUT_BOOL(json, name, value) (json_key(json, name), json_put_bool(json, (value)))
#define PUT_TIME(json, name, us) (json_key(json, name), json_put_time(json, (us)))
#define PUT_DOUBLE(json, name, value) (json_key(json, name), json_put_double(json, (value)))

/* In milliseconds; null where there is none (NAN). */
void reply_put_ms(struct json *json, double us);
void reply_put_place(struct json *json, const struct config_place *place);

/* The head of an answer without end: exchange_write and exchange_flush follow. */
int reply_stream(struct exchange *x, struct slice type);

#endif
