/* address.h - where to listen or connect, as written: host:port, [v6]:port, :port, name:port, unix:/path.
 *
 * Parsing is pure and never asks a name server; ADDRESS_NAME is resolved by fiber/resolve.h.
 * Any thread. Errors: 0 or -EINVAL with a reason to print. */
#ifndef BASE_ADDRESS_H
#define BASE_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/slice.h"

#define ADDRESS_TEXT_MAX 128

enum address_kind { ADDRESS_IP, ADDRESS_ANY, ADDRESS_NAME, ADDRESS_UNIX };

/* What a user wrote. ADDRESS_ANY is ":port": every address of both families when listening, loopback when connecting. */
struct address {
    enum address_kind kind;
    uint16_t port;               /* host order; 0 for unix */
    char host[ADDRESS_TEXT_MAX]; /* name without port, or the path of a unix socket; as written */
    struct in6_addr ip;          /* ADDRESS_IP; IPv4 in its v4-mapped form */
};

/* *why is a constant string when the result is -EINVAL. */
int address_parse(struct slice text, struct address *address, const char **why);

/* One socket address, ready for bind or connect. */
struct endpoint {
    socklen_t len;
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    };
};

/* Not for ADDRESS_NAME. ADDRESS_ANY becomes [::]:port (dual stack) when passive, else 127.0.0.1:port. */
void endpoint_from_address(struct endpoint *endpoint, const struct address *address, bool passive);
bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);
/* "1.2.3.4:80", "[::1]:80", "unix:/path"; a v4-mapped address is written as IPv4. Always NUL-terminated. Returns its length. */
size_t endpoint_text(const struct endpoint *endpoint, char text[ADDRESS_TEXT_MAX]);

/* An address without a port: what logs, hashes and trust lists look at. IPv4 in its v4-mapped form. */
struct ip {
    struct in6_addr bytes;
};

/* The address of the other side; a unix socket is ::1, being of this machine. */
struct ip ip_from_endpoint(const struct endpoint *endpoint);
bool ip_parse(struct slice text, struct ip *ip);
/* "1.2.3.4" or "::1"; returns its length. */
size_t ip_text(const struct ip *ip, char text[INET6_ADDRSTRLEN]);
bool ip_is_v4(const struct ip *ip);
/* ::1, or of 127.0.0.0/8 */
bool ip_is_loopback(const struct ip *ip);

/* "10.0.0.0/8", "::1", "2001:db8::/32". */
struct ip_network {
    struct ip base;
    uint8_t prefix_bits; /* over the 128 bits of the v4-mapped form */
};

bool ip_network_parse(struct slice text, struct ip_network *network);
bool ip_network_has(const struct ip_network *network, const struct ip *ip);

#endif
