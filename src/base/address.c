/* address.c - see address.h.
 *
 * An address inside is always 16 bytes: IPv4 stands in its v4-mapped form, so that comparing, masking and hashing
 * need no second case. Text goes in and out as IPv4. */
#include "base/address.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#define LABEL_MAX 63
#define UNIX_PATH_MAX_BYTES 107 /* what sun_path holds besides its NUL */
#define V4_BITS_BEFORE 96       /* of ::ffff:0:0/96 */

static_assert(UNIX_PATH_MAX_BYTES < sizeof((struct sockaddr_un *)NULL)->sun_path, "a path and its NUL fit");
static_assert(UNIX_PATH_MAX_BYTES + sizeof "unix:" <= ADDRESS_TEXT_MAX, "the text of any endpoint fits");

static const char BAD_PORT[] = "the port must be a number from 1 to 65535";
static const char NO_NAME[] = "the host is neither an IP address nor a name of letters, digits, '-' and '.'";

static struct in6_addr mapped(struct in_addr v4)
{
    struct in6_addr ip = {.s6_addr = {[10] = 0xff, [11] = 0xff}};

    memcpy(&ip.s6_addr[12], &v4, sizeof v4);
    return ip;
}

static struct in_addr unmapped(const struct in6_addr *ip)
{
    struct in_addr v4;

    memcpy(&v4, &ip->s6_addr[12], sizeof v4);
    return v4;
}

/* inet_pton wants a NUL: text is copied, and what is too long for any address is none. */
static bool parse_as(int family, struct slice text, void *out)
{
    char copy[INET6_ADDRSTRLEN];

    if (text.len >= sizeof copy || slice_find(text, '\0') < text.len)
        return false;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    return inet_pton(family, copy, out) == 1;
}

static bool parse_v4(struct slice text, struct in6_addr *ip)
{
    struct in_addr v4;

    if (!parse_as(AF_INET, text, &v4))
        return false;
    *ip = mapped(v4);
    return true;
}

static bool is_name_byte(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_' || c == '.';
}

static bool label_ok(struct slice label)
{
    return label.len && label.len <= LABEL_MAX && label.ptr[0] != '-' && label.ptr[label.len - 1] != '-';
}

/* A name of dotted labels. One whose last label is a number is a misspelt IPv4 address, which no name server
 * should be asked about. */
static const char *check_name(struct slice name)
{
    struct slice label = {NULL, 0};
    uint64_t number;

    if (name.len >= ADDRESS_TEXT_MAX)
        return "the name is longer than 127 bytes";
    if (slice_equal(name, SLICE("*")))
        return "'*' is not an address; write :PORT to mean every address";
    for (size_t i = 0; i < name.len; i++)
        if (!is_name_byte(name.ptr[i]))
            return NO_NAME;
    if (name.ptr[name.len - 1] == '.')
        name.len--;
    while (slice_next_part(&name, '.', &label))
        if (!label_ok(label))
            return NO_NAME;
    return slice_to_u64(label, &number) ? "the host looks like an IPv4 address, but is none" : NULL;
}

/* One spelling per port, so that equal addresses are equal text: no leading zero. */
static const char *parse_port(struct slice text, uint16_t *port)
{
    uint64_t value;

    if (!slice_to_u64(text, &value) || text.ptr[0] == '0' || value > UINT16_MAX)
        return BAD_PORT;
    *port = (uint16_t)value;
    return NULL;
}

static void set_host(struct address *address, struct slice host)
{
    memcpy(address->host, host.ptr, host.len);
    address->host[host.len] = '\0';
}

static const char *parse_unix(struct slice path, struct address *address)
{
    if (!path.len || path.ptr[0] != '/')
        return "a unix socket needs an absolute path: unix:/path";
    if (path.len > UNIX_PATH_MAX_BYTES)
        return "the path of a unix socket is at most 107 bytes long";
    if (path.ptr[path.len - 1] == '/')
        return "the path of a unix socket must name a file, not a directory";
    if (slice_find(path, '\0') < path.len)
        return "the path of a unix socket must not contain a NUL";
    address->kind = ADDRESS_UNIX;
    set_host(address, path);
    return NULL;
}

static const char *parse_v6(struct slice text, struct address *address)
{
    size_t end = slice_find(text, ']');
    struct slice host;

    if (end == text.len)
        return "the ']' after the IPv6 address is missing";
    host = slice_of(text.ptr + 1, end - 1);
    if (!parse_as(AF_INET6, host, &address->ip))
        return "what stands between '[' and ']' is not an IPv6 address";
    slice_drop(&text, end + 1);
    if (!text.len || text.ptr[0] != ':')
        return "the port is missing: write [ADDRESS]:PORT";
    slice_drop(&text, 1);
    address->kind = ADDRESS_IP;
    set_host(address, host);
    return parse_port(text, &address->port);
}

static const char *parse_host_port(struct slice text, struct address *address)
{
    size_t colon = slice_find(text, ':');
    struct slice host = slice_of(text.ptr, colon);
    struct slice port;
    const char *why;

    if (colon == text.len)
        return "the port is missing: write HOST:PORT or :PORT";
    port = slice_of(text.ptr + colon + 1, text.len - colon - 1);
    if (slice_find(port, ':') < port.len)
        return "an IPv6 address needs brackets: [ADDRESS]:PORT";
    why = parse_port(port, &address->port);
    if (why)
        return why;
    address->kind = ADDRESS_ANY;
    if (!host.len)
        return NULL;
    address->kind = ADDRESS_IP;
    if (!parse_v4(host, &address->ip)) {
        address->kind = ADDRESS_NAME;
        why = check_name(host);
        if (why)
            return why;
    }
    set_host(address, host);
    return NULL;
}

int address_parse(struct slice text, struct address *address, const char **why)
{
    struct address parsed = {0};

    if (!text.len) {
        *why = "the address is empty";
    } else if (slice_starts_with(text, SLICE("unix:"))) {
        slice_drop(&text, sizeof "unix:" - 1);
        *why = parse_unix(text, &parsed);
    } else if (text.ptr[0] == '[') {
        *why = parse_v6(text, &parsed);
    } else {
        *why = parse_host_port(text, &parsed);
    }
    if (*why)
        return -EINVAL;
    *address = parsed;
    return 0;
}

static void endpoint_from_ip(struct endpoint *endpoint, const struct in6_addr *ip, uint16_t port)
{
    if (IN6_IS_ADDR_V4MAPPED(ip)) {
        endpoint->in.sin_family = AF_INET;
        endpoint->in.sin_port = htons(port);
        endpoint->in.sin_addr = unmapped(ip);
        endpoint->len = sizeof endpoint->in;
    } else {
        endpoint->in6.sin6_family = AF_INET6;
        endpoint->in6.sin6_port = htons(port);
        endpoint->in6.sin6_addr = *ip;
        endpoint->len = sizeof endpoint->in6;
    }
}

void endpoint_from_address(struct endpoint *endpoint, const struct address *address, bool passive)
{
    struct in6_addr loopback = mapped((struct in_addr){htonl(INADDR_LOOPBACK)});
    size_t path_bytes;

    assert(address->kind != ADDRESS_NAME);
    memset(endpoint, 0, sizeof *endpoint);
    switch (address->kind) {
    case ADDRESS_IP:
        endpoint_from_ip(endpoint, &address->ip, address->port);
        break;
    case ADDRESS_ANY:
        endpoint_from_ip(endpoint, passive ? &in6addr_any : &loopback, address->port);
        break;
    case ADDRESS_UNIX:
        endpoint->un.sun_family = AF_UNIX;
        path_bytes = strlen(address->host) + 1;
        assert(path_bytes <= sizeof endpoint->un.sun_path);
        memcpy(endpoint->un.sun_path, address->host, path_bytes);
        endpoint->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path_bytes);
        break;
    case ADDRESS_NAME:
        break;
    }
}

/* The bytes of the name: empty for the unnamed end of a connection, with its leading NUL when abstract. */
static struct slice unix_name(const struct endpoint *endpoint)
{
    size_t before = offsetof(struct sockaddr_un, sun_path);
    struct slice name = {endpoint->un.sun_path, endpoint->len > before ? endpoint->len - before : 0};

    if (name.len && name.ptr[0])
        name.len = strnlen(name.ptr, name.len);
    return name;
}

static uint16_t port_of(const struct endpoint *endpoint)
{
    return ntohs(endpoint->sa.sa_family == AF_INET ? endpoint->in.sin_port : endpoint->in6.sin6_port);
}

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
    bool a_is_unix = a->sa.sa_family == AF_UNIX;
    struct ip ip_a, ip_b;

    if (a_is_unix != (b->sa.sa_family == AF_UNIX))
        return false;
    if (a_is_unix)
        return slice_equal(unix_name(a), unix_name(b));
    ip_a = ip_from_endpoint(a);
    ip_b = ip_from_endpoint(b);
    return memcmp(&ip_a, &ip_b, sizeof ip_a) == 0 && port_of(a) == port_of(b);
}

size_t endpoint_text(const struct endpoint *endpoint, char text[ADDRESS_TEXT_MAX])
{
    char host[INET6_ADDRSTRLEN];
    struct slice name;
    struct ip ip;
    int n;

    if (endpoint->sa.sa_family == AF_UNIX) {
        name = unix_name(endpoint);
        n = snprintf(text, ADDRESS_TEXT_MAX, "unix:%.*s", SLICE_ARG(name));
        if (name.len && !name.ptr[0]) /* abstract: its NUL is shown as '@', as others do */
            n = snprintf(text, ADDRESS_TEXT_MAX, "unix:@%.*s", (int)name.len - 1, name.ptr + 1);
    } else {
        ip = ip_from_endpoint(endpoint);
        ip_text(&ip, host);
        n = snprintf(text, ADDRESS_TEXT_MAX, ip_is_v4(&ip) ? "%s:%u" : "[%s]:%u", host, port_of(endpoint));
    }
    assert(n > 0 && n < ADDRESS_TEXT_MAX);
    return (size_t)n;
}

struct ip ip_from_endpoint(const struct endpoint *endpoint)
{
    switch (endpoint->sa.sa_family) {
    case AF_INET:
        return (struct ip){mapped(endpoint->in.sin_addr)};
    case AF_INET6:
        return (struct ip){endpoint->in6.sin6_addr};
    default:
        return (struct ip){in6addr_loopback};
    }
}

bool ip_parse(struct slice text, struct ip *ip)
{
    return parse_v4(text, &ip->bytes) || parse_as(AF_INET6, text, &ip->bytes);
}

size_t ip_text(const struct ip *ip, char text[INET6_ADDRSTRLEN])
{
    struct in_addr v4 = unmapped(&ip->bytes);
    const char *done = ip_is_v4(ip) ? inet_ntop(AF_INET, &v4, text, INET6_ADDRSTRLEN)
                                    : inet_ntop(AF_INET6, &ip->bytes, text, INET6_ADDRSTRLEN);

    assert(done);
    return strlen(text);
}

bool ip_is_v4(const struct ip *ip)
{
    return IN6_IS_ADDR_V4MAPPED(&ip->bytes);
}

bool ip_is_loopback(const struct ip *ip)
{
    return IN6_IS_ADDR_LOOPBACK(&ip->bytes) || (ip_is_v4(ip) && ip->bytes.s6_addr[12] == 127);
}

/* The mask of byte i when the first `bits` bits count. */
static uint8_t mask_of(unsigned bits, size_t i)
{
    unsigned before = (unsigned)i * 8;

    if (bits >= before + 8)
        return 0xff;
    return bits <= before ? 0 : (uint8_t)(0xff << (8 - (bits - before)));
}

bool ip_network_parse(struct slice text, struct ip_network *network)
{
    size_t slash = slice_find(text, '/');
    struct slice host = slice_of(text.ptr, slash);
    unsigned before = slice_find(host, ':') < host.len ? 0 : V4_BITS_BEFORE;
    uint64_t bits = 128 - before;
    struct ip ip;

    if (!ip_parse(host, &ip))
        return false;
    if (slash < text.len) {
        struct slice prefix = slice_of(text.ptr + slash + 1, text.len - slash - 1);

        if (!slice_to_u64(prefix, &bits) || bits > 128 - before)
            return false;
    }
    network->prefix_bits = (uint8_t)(bits + before);
    for (size_t i = 0; i < sizeof ip.bytes.s6_addr; i++)
        network->base.bytes.s6_addr[i] = ip.bytes.s6_addr[i] & mask_of(network->prefix_bits, i);
    return true;
}

bool ip_network_has(const struct ip_network *network, const struct ip *ip)
{
    for (size_t i = 0; i < sizeof ip->bytes.s6_addr; i++)
        if ((ip->bytes.s6_addr[i] & mask_of(network->prefix_bits, i)) != network->base.bytes.s6_addr[i])
            return false;
    return true;
}
