/* query.h - parameters and path segments of a request to the admin interface, percent-decoded.
 *
 * Decoded texts live in the arena. In a query '+' is a space, as forms send it. Any thread. */
#ifndef ADMIN_QUERY_H
#define ADMIN_QUERY_H

#include "base/arena.h"

/* 0, -EBADMSG: a '%' without two hex digits, or a control character, which no name or URL has; or -ENOMEM. */
int query_decode_segment(struct arena *arena, struct slice raw, struct slice *decoded);

/* Takes the next parameter of that name off the front of *query, with what stands before it. 1 with its value; 0: there is
 * no more; or an error as above. */
int query_take(struct arena *arena, struct slice *query, struct slice name, struct slice *value);

#endif
