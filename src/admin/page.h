/* page.h - the dashboard as bytes: one page without a request to elsewhere.
 *
 * The build makes it of the files in dashboard/ (tools/embed-page). Constant: any thread. */
#ifndef ADMIN_PAGE_H
#define ADMIN_PAGE_H

#include <stddef.h>

extern const unsigned char page_data[]; /* HTML, in UTF-8 */
extern const size_t page_bytes;
/* Content-Security-Policy: the page's own style and script by their hashes, questions to where it came from. */
extern const char page_policy[];

#endif
