/* proxy.h - the PROXY protocol, version 1 (a line of text) and 2 (binary), as pure functions over bytes: which two
 * ends a connection had before somebody relayed it.
 *
 * A header is taken whole or not at all, and what is not exactly a header is refused at the first byte that shows
 * it. Who may send one is the caller's business: a header is believed. Addresses come out as base/address.h has
 * them: a v4-mapped one is an AF_INET endpoint. Nothing here allocates or waits. Fuzzed: fuzz/. Any thread. */
#ifndef WIRE_PROXY_H
#define WIRE_PROXY_H

#include "base/address.h"
#include "base/slice.h"

enum proxy_result { PROXY_OK, PROXY_MORE, PROXY_BAD };

struct proxy_header {
    bool local; /* the connection speaks for itself: keep the socket's addresses, the two below are zero */
    struct endpoint source, destination;
};

/* The longest header that is taken, of either version: there is never MORE with this many bytes at hand. */
#define PROXY_HEADER_MAX (16 + 2048)

/* Takes one whole header off the front of *in; on MORE or BAD *in and *header are untouched. On BAD *why is a
 * constant string. MORE: every field that is here whole is right, and its place is right too.
 *
 * Version 2: LOCAL and families or transports UNSPEC are local, and their block is passed over unread, since nothing
 * says where addresses end in it. Extra values (TLVs) behind addresses must be well-formed, and a checksum among
 * them must be right; the others are passed over. */
enum proxy_result proxy_take(struct slice *in, struct proxy_header *header, const char **why);

#define PROXY_V1_MAX 107
#define PROXY_V2_MAX 52
/* Both return the header's length; no NUL ends it. IPv4 when both ends are, else IPv6. Without a source (a
 * connection of our own, such as a health check; destination is not looked at), and for the ends of a unix socket,
 * version 1 says UNKNOWN, which some servers refuse, and version 2 says LOCAL, which all must accept. */
size_t proxy_put_v1(char out[PROXY_V1_MAX], const struct endpoint *source,
                    const struct endpoint *destination);
size_t proxy_put_v2(char out[PROXY_V2_MAX], const struct endpoint *source,
                    const struct endpoint *destination);

#endif
