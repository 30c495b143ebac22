/* page.c - GET /: the dashboard. What it shows, it asks /api for, with the token where there is one; so the page itself
 * holds nothing that is worth one. */
#include "admin/page.h"

#include "admin/private.h"
#include "admin/reply.h"

void page_serve(struct admin_call *call)
{
    const struct http_field fields[] = {
        {.name = SLICE("Content-Security-Policy"), .value = slice_from_text(page_policy)},
        {.name = SLICE("X-Content-Type-Options"), .value = SLICE("nosniff")},
        {.name = SLICE("Referrer-Policy"), .value = SLICE("no-referrer")},
        {.name = SLICE("Cross-Origin-Opener-Policy"), .value = SLICE("same-origin")},
        {.name = SLICE("Cross-Origin-Resource-Policy"), .value = SLICE("same-origin")},
    };

    reply_page(call->x, slice_of((const char *)page_data, page_bytes), fields,
               sizeof fields / sizeof fields[0]);
}
