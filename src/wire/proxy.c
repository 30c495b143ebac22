/* proxy.c - see proxy.h.
 *
 * A line of version 1 is read from left to right; the first step that is not satisfied decides, and the steps after
 * it do nothing. So that a wrong line is refused at once and not after a timeout, a field cut short is asked whether
 * any ending could make it right. Version 2 has fixed places: each field is checked as soon as it is all there. */
#include "wire/proxy.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>

#define N(table) (sizeof(table) / sizeof(table)[0])

static const char NOT_PROXY[] =
    "this is no PROXY protocol header: it starts like neither version 1 nor version 2";
static const char BAD_PROTOCOL[] = "PROXY version 1: the protocol is none of TCP4, TCP6 and UNKNOWN";

static size_t at_most(size_t n, size_t most)
{
    return n < most ? n : most;
}

/* MORE: what is here of the text is right. */
static enum proxy_result take_text(struct slice *cur, struct slice text)
{
    size_t n = at_most(cur->len, text.len);

    if (n && memcmp(cur->ptr, text.ptr, n) != 0)
        return PROXY_BAD;
    if (n < text.len)
        return PROXY_MORE;
    slice_drop(cur, n);
    return PROXY_OK;
}

/* Either family's address goes in as 16 bytes; the endpoint is AF_INET when they are v4-mapped. */
static struct endpoint endpoint_of(const struct ip *ip, uint16_t port)
{
    struct address address = {.kind = ADDRESS_IP, .ip = ip->bytes, .port = port};
    struct endpoint endpoint;

    endpoint_from_address(&endpoint, &address, false);
    return endpoint;
}

/* ---- version 1 --------------------------------------------------------------------------------------------- */

/* By the specification. An IPv6 address that ends in dotted IPv4 and is longer is nobody's way of writing one. */
#define V1_ADDRESS_MAX 39

/* A line being read. Once result is not OK nothing more is taken. */
struct line {
    struct slice cur;
    enum proxy_result result;
    const char *why;
};

static void line_stop(struct line *line, enum proxy_result result, const char *why)
{
    line->result = result;
    line->why = why;
}

static void line_take_text(struct line *line, struct slice text, const char *why)
{
    if (line->result == PROXY_OK)
        line_stop(line, take_text(&line->cur, text), why);
}

/* inet_pton, which is behind it, refuses leading zeros in IPv4. */
static bool parse_ip(struct slice text, bool v6, struct ip *ip)
{
    bool has_colon = slice_find(text, ':') < text.len;

    return text.len <= V1_ADDRESS_MAX && has_colon == v6 && ip_parse(text, ip);
}

/* Whether an address can start so: an address that starts so at all is made whole by one of these endings, none of
 * which is longer than need be. */
static bool begins_ip(struct slice text, bool v6)
{
    static const char *const endings[] = {"",   "0",     ":",       "::",   "0.0",
                                          ".0", "0.0.0", "0.0.0.0", ".0.0", ".0.0.0"};
    char whole[V1_ADDRESS_MAX + sizeof "0.0.0.0"];
    struct ip ignored;

    if (text.len > V1_ADDRESS_MAX)
        return false;
    for (size_t i = 0; i < N(endings); i++) {
        struct slice ending = slice_from_text(endings[i]);

        if (text.len)
            memcpy(whole, text.ptr, text.len);
        memcpy(whole + text.len, ending.ptr, ending.len);
        if (parse_ip(slice_of(whole, text.len + ending.len), v6, &ignored))
            return true;
    }
    return false;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_address_byte(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || c == ':' || c == '.';
}

static void line_take_ip(struct line *line, bool v6, struct ip *ip)
{
    const char *why = v6 ? "PROXY TCP6: an address is not an IPv6 address, or not after exactly one space"
                         : "PROXY TCP4: an address is not an IPv4 address, or not after exactly one space";
    struct slice text = line->cur;

    if (line->result != PROXY_OK)
        return;
    text.len = 0;
    while (text.len < line->cur.len && text.len <= V1_ADDRESS_MAX && is_address_byte(text.ptr[text.len]))
        text.len++;
    if (text.len == line->cur.len)
        line_stop(line, begins_ip(text, v6) ? PROXY_MORE : PROXY_BAD, why);
    else if (!parse_ip(text, v6, ip))
        line_stop(line, PROXY_BAD, why);
    else
        slice_drop(&line->cur, text.len);
}

static void line_take_port(struct line *line, uint16_t *port)
{
    static const char why[] =
        "PROXY version 1: a port is not a number from 0 to 65535 without leading zeros, or "
        "not after exactly one space";
    struct slice digits = line->cur;
    uint64_t value = 0;
    bool bad;

    if (line->result != PROXY_OK)
        return;
    digits.len = 0;
    while (digits.len < line->cur.len && is_digit(digits.ptr[digits.len]))
        digits.len++;
    bad = !slice_to_u64(digits, &value) || value > UINT16_MAX || (digits.len > 1 && digits.ptr[0] == '0');
    if (line->cur.len && bad) {
        line_stop(line, PROXY_BAD, why);
    } else if (digits.len == line->cur.len) {
        line_stop(line, PROXY_MORE, NULL);
    } else {
        *port = (uint16_t)value;
        slice_drop(&line->cur, digits.len);
    }
}

static void line_take_space(struct line *line)
{
    line_take_text(line, SLICE(" "), "PROXY version 1: something other than one space ends a field");
}

static void line_take_end(struct line *line)
{
    line_take_text(line, SLICE("\r\n"), "PROXY version 1: the line does not end in CR LF where it should");
}

/* What stands behind UNKNOWN means nothing, and may be anything but a line break. */
static void line_take_ignored(struct line *line)
{
    size_t room = PROXY_V1_MAX - (sizeof "PROXY UNKNOWN" - 1) - 2; /* before CR LF */
    size_t n = 0;

    while (n < line->cur.len && n <= room && line->cur.ptr[n] != '\r' && line->cur.ptr[n] != '\n')
        n++;
    if (n && line->cur.ptr[0] != ' ') {
        line_stop(line, PROXY_BAD, BAD_PROTOCOL);
    } else if (n > room) {
        line_stop(line, PROXY_BAD, "PROXY version 1: the line is longer than 107 bytes");
    } else {
        slice_drop(&line->cur, n);
        line_take_end(line);
    }
}

static void line_take_addresses(struct line *line, bool v6, struct proxy_header *header)
{
    uint16_t source_port = 0, destination_port = 0;
    struct ip source = {0}, destination = {0};

    line_take_ip(line, v6, &source);
    line_take_space(line);
    line_take_ip(line, v6, &destination);
    line_take_space(line);
    line_take_port(line, &source_port);
    line_take_space(line);
    line_take_port(line, &destination_port);
    line_take_end(line);
    if (line->result == PROXY_OK)
        *header = (struct proxy_header){
            .source = endpoint_of(&source, source_port),
            .destination = endpoint_of(&destination, destination_port),
        };
}

/* Behind "PROXY ". */
static void line_take_rest(struct line *line, struct proxy_header *header)
{
    static const char *const starts[] = {"TCP4 ", "TCP6 ", "UNKNOWN"};
    enum proxy_result result = PROXY_BAD;
    size_t i;

    for (i = 0; i < N(starts); i++) {
        enum proxy_result this = take_text(&line->cur, slice_from_text(starts[i]));

        if (this != PROXY_BAD)
            result = this;
        if (this == PROXY_OK)
            break;
    }
    if (result != PROXY_OK) {
        line_stop(line, result, BAD_PROTOCOL);
    } else if (i < 2) {
        line_take_addresses(line, i == 1, header);
    } else {
        line_take_ignored(line);
        if (line->result == PROXY_OK)
            *header = (struct proxy_header){.local = true};
    }
}

static enum proxy_result take_v1(struct slice *in, struct proxy_header *header, const char **why)
{
    struct line line = {.cur = *in, .result = PROXY_OK};

    line_take_text(&line, SLICE("PROXY "), NOT_PROXY);
    if (line.result == PROXY_OK)
        line_take_rest(&line, header);
    if (line.result == PROXY_OK)
        *in = line.cur;
    if (line.result == PROXY_BAD)
        *why = line.why;
    return line.result;
}

/* ---- version 2 --------------------------------------------------------------------------------------------- */

#define V2_SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define V2_HEAD 16 /* signature, version and command, family and transport, length of the rest */
#define V2_IPV4 12 /* two addresses, two ports */
#define V2_IPV6 36
#define V2_UNIX_PATH 108
#define TLV_HEAD 3 /* type, length of the value */
#define TLV_CRC32C 3
#define CRC32C_BYTES 4

enum { V2_LOCAL = 0x20, V2_PROXY = 0x21 };
enum { V2_UNSPEC = 0x00, V2_TCP4 = 0x11, V2_TCP6 = 0x21 };
enum { TRANSPORT_UNSPEC, TRANSPORT_STREAM, TRANSPORT_DGRAM };

static_assert(sizeof V2_SIGNATURE - 1 == V2_HEAD - 4, "the signature is 12 bytes");
static_assert(PROXY_V2_MAX == V2_HEAD + V2_IPV6, "what we write at the most");
static_assert(V2_UNIX_PATH == sizeof((struct sockaddr_un *)NULL)->sun_path, "a path is what a socket's is");

static unsigned u8_at(struct slice s, size_t at)
{
    return (unsigned char)s.ptr[at];
}

static unsigned u16_at(struct slice s, size_t at)
{
    return u8_at(s, at) << 8 | u8_at(s, at + 1);
}

static const char *check_command(unsigned byte)
{
    if (byte >> 4 != V2_PROXY >> 4)
        return "PROXY version 2: the version after the signature is not 2";
    if (byte != V2_LOCAL && byte != V2_PROXY)
        return "PROXY version 2: the command is neither LOCAL nor PROXY";
    return NULL;
}

/* *addresses is how many bytes they take, 0 when the connection speaks for itself. */
static const char *check_family(unsigned command, unsigned byte, size_t *addresses)
{
    static const size_t sizes[] = {0, V2_IPV4, V2_IPV6, (size_t)2 * V2_UNIX_PATH};
    unsigned family = byte >> 4, transport = byte & 0xf;

    *addresses = 0;
    if (command == V2_LOCAL)
        return NULL;
    if (family >= N(sizes))
        return "PROXY version 2: the address family is none of UNSPEC, INET, INET6 and UNIX";
    if (transport == TRANSPORT_DGRAM)
        return "PROXY version 2: the transport is DGRAM, but this is a stream";
    if (transport > TRANSPORT_DGRAM)
        return "PROXY version 2: the transport is neither UNSPEC nor STREAM";
    if (transport == TRANSPORT_STREAM)
        *addresses = sizes[family];
    return NULL;
}

static const char *check_length(size_t length, size_t addresses)
{
    if (length > PROXY_HEADER_MAX - V2_HEAD)
        return "PROXY version 2: the header is longer than 2064 bytes";
    if (length < addresses)
        return "PROXY version 2: the length is too small for the addresses of the family";
    return NULL;
}

/* As far as the head is here. */
static const char *check_head(struct slice here, size_t *addresses)
{
    size_t command = V2_HEAD - 4, family = V2_HEAD - 3, length = V2_HEAD - 2;
    const char *why = here.len > command ? check_command(u8_at(here, command)) : NULL;

    if (!why && here.len > family)
        why = check_family(u8_at(here, command), u8_at(here, family), addresses);
    if (!why && here.len >= V2_HEAD)
        why = check_length(u16_at(here, length), *addresses);
    return why;
}

/* here is what is here of a header of total bytes; at is where its first TLV starts.
 * *checksum is where the value of the checksum starts, 0 when there is none. */
static const char *check_tlvs(struct slice here, size_t at, size_t total, size_t *checksum)
{
    *checksum = 0;
    while (at < total) {
        size_t value = at + TLV_HEAD, length;

        if (value > total)
            return "PROXY version 2: what follows the last TLV is too short to be one";
        if (here.len < value)
            return NULL;
        length = u16_at(here, at + 1);
        if (length > total - value)
            return "PROXY version 2: a TLV reaches over the end of the header";
        if (u8_at(here, at) == TLV_CRC32C) {
            if (length != CRC32C_BYTES || *checksum)
                return "PROXY version 2: a checksum is not 4 bytes long, or is there twice";
            *checksum = value;
        }
        at = value + length;
    }
    return NULL;
}

/* Of the header with the checksum itself taken for zeros. Bit by bit: few send one, once per connection. */
static uint32_t crc32c(struct slice header, size_t checksum)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < header.len; i++) {
        if (i < checksum || i >= checksum + CRC32C_BYTES)
            crc ^= u8_at(header, i);
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0); /* Castagnoli's polynomial, reflected */
    }
    return ~crc;
}

static bool checksum_fits(struct slice header, size_t checksum)
{
    uint32_t sent = (uint32_t)u16_at(header, checksum) << 16 | u16_at(header, checksum + 2);

    return crc32c(header, checksum) == sent;
}

/* IPv4 fills the end of its v4-mapped form. */
static struct ip ip_of(struct slice bytes)
{
    struct ip ip = {.bytes.s6_addr = {[10] = 0xff, [11] = 0xff}};

    memcpy(&ip.bytes.s6_addr[sizeof ip.bytes.s6_addr - bytes.len], bytes.ptr, bytes.len);
    return ip;
}

/* What follows a path's NUL is not part of it. A leading NUL: an abstract name, whose length is not sent, and which
 * is therefore taken to end before the NULs that fill the place; nothing but NULs: the unnamed end of a connection. */
static struct endpoint unix_endpoint_of(struct slice path)
{
    struct endpoint endpoint = {0};
    size_t n = at_most(slice_find(path, '\0') + 1, path.len);

    if (n == 1) {
        n = path.len;
        while (n && !path.ptr[n - 1])
            n--;
    }
    endpoint.un.sun_family = AF_UNIX;
    memcpy(endpoint.un.sun_path, path.ptr, n);
    endpoint.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    return endpoint;
}

/* block has the addresses of a family, and no more. */
static struct proxy_header header_of(struct slice block)
{
    size_t address = block.len == V2_IPV4 ? sizeof(struct in_addr) : sizeof(struct in6_addr);
    size_t ports = 2 * address;
    struct ip source, destination;

    if (!block.len)
        return (struct proxy_header){.local = true};
    if (block.len == (size_t)2 * V2_UNIX_PATH)
        return (struct proxy_header){
            .source = unix_endpoint_of(slice_of(block.ptr, V2_UNIX_PATH)),
            .destination = unix_endpoint_of(slice_of(block.ptr + V2_UNIX_PATH, V2_UNIX_PATH)),
        };
    source = ip_of(slice_of(block.ptr, address));
    destination = ip_of(slice_of(block.ptr + address, address));
    return (struct proxy_header){
        .source = endpoint_of(&source, (uint16_t)u16_at(block, ports)),
        .destination = endpoint_of(&destination, (uint16_t)u16_at(block, ports + 2)),
    };
}

/* Every check there is the bytes for. *total stays 0 until the length is here. */
static const char *check_v2(struct slice in, size_t *addresses, size_t *total)
{
    struct slice here = in;
    size_t checksum = 0;
    const char *why;

    if (take_text(&here, SLICE(V2_SIGNATURE)) == PROXY_BAD)
        return NOT_PROXY;
    why = check_head(in, addresses);
    if (why || in.len < V2_HEAD)
        return why;
    *total = V2_HEAD + u16_at(in, V2_HEAD - 2);
    here = slice_of(in.ptr, at_most(in.len, *total));
    if (*addresses)
        why = check_tlvs(here, V2_HEAD + *addresses, *total, &checksum);
    if (!why && checksum && here.len == *total && !checksum_fits(here, checksum))
        why = "PROXY version 2: the checksum (CRC32C) does not match the header";
    return why;
}

static enum proxy_result take_v2(struct slice *in, struct proxy_header *header, const char **why)
{
    size_t addresses = 0, total = 0;
    const char *wrong = check_v2(*in, &addresses, &total);

    if (wrong) {
        *why = wrong;
        return PROXY_BAD;
    }
    if (!total || in->len < total)
        return PROXY_MORE;
    *header = header_of(slice_of(in->ptr + V2_HEAD, addresses));
    slice_drop(in, total);
    return PROXY_OK;
}

enum proxy_result proxy_take(struct slice *in, struct proxy_header *header, const char **why)
{
    if (!in->len)
        return PROXY_MORE;
    return in->ptr[0] == V2_SIGNATURE[0] ? take_v2(in, header, why) : take_v1(in, header, why);
}

/* ---- writing ----------------------------------------------------------------------------------------------- */

/* The two ends as version 1 and 2 can say them. */
struct ends {
    struct ip source, destination;
    uint16_t source_port, destination_port;
    bool v4;
};

static bool is_ip(const struct endpoint *endpoint)
{
    return endpoint->sa.sa_family == AF_INET || endpoint->sa.sa_family == AF_INET6;
}

static uint16_t port_of(const struct endpoint *endpoint)
{
    return ntohs(endpoint->sa.sa_family == AF_INET ? endpoint->in.sin_port : endpoint->in6.sin6_port);
}

/* False: there is nothing to say of them. */
static bool ends_of(const struct endpoint *source, const struct endpoint *destination, struct ends *ends)
{
    if (!source)
        return false;
    assert(destination);
    if (!is_ip(source) || !is_ip(destination))
        return false;
    *ends = (struct ends){
        .source = ip_from_endpoint(source),
        .destination = ip_from_endpoint(destination),
        .source_port = port_of(source),
        .destination_port = port_of(destination),
    };
    ends->v4 = ip_is_v4(&ends->source) && ip_is_v4(&ends->destination);
    return true;
}

/* IPv4 in an IPv6 line is written without dots: the specification knows groups of hexadecimal digits only. */
static void v1_text(const struct ip *ip, bool v4, char text[INET6_ADDRSTRLEN])
{
    const uint8_t *b = &ip->bytes.s6_addr[12];

    if (v4 || !ip_is_v4(ip))
        ip_text(ip, text);
    else
        snprintf(text, INET6_ADDRSTRLEN, "::ffff:%x:%x", b[0] << 8 | b[1], b[2] << 8 | b[3]);
}

size_t proxy_put_v1(char out[PROXY_V1_MAX], const struct endpoint *source, const struct endpoint *destination)
{
    char source_text[INET6_ADDRSTRLEN], destination_text[INET6_ADDRSTRLEN];
    struct ends ends;
    int n;

    if (ends_of(source, destination, &ends)) {
        v1_text(&ends.source, ends.v4, source_text);
        v1_text(&ends.destination, ends.v4, destination_text);
        n = snprintf(out, PROXY_V1_MAX, "PROXY %s %s %s %u %u\r\n", ends.v4 ? "TCP4" : "TCP6", source_text,
                     destination_text, ends.source_port, ends.destination_port);
    } else {
        n = snprintf(out, PROXY_V1_MAX, "PROXY UNKNOWN\r\n");
    }
    assert(n > 0 && n < PROXY_V1_MAX);
    return (size_t)n;
}

static char *put(char *at, const void *bytes, size_t n)
{
    memcpy(at, bytes, n);
    return at + n;
}

static char *put_u16(char *at, size_t value)
{
    uint16_t order = htons((uint16_t)value);

    return put(at, &order, sizeof order);
}

static char *put_v2_head(char *at, uint8_t command, uint8_t family, size_t length)
{
    at = put(at, V2_SIGNATURE, sizeof V2_SIGNATURE - 1);
    at = put(at, &command, 1);
    at = put(at, &family, 1);
    return put_u16(at, length);
}

size_t proxy_put_v2(char out[PROXY_V2_MAX], const struct endpoint *source, const struct endpoint *destination)
{
    struct ends ends;
    size_t skip;
    char *at;

    if (!ends_of(source, destination, &ends))
        return (size_t)(put_v2_head(out, V2_LOCAL, V2_UNSPEC, 0) - out);
    skip = ends.v4 ? sizeof(struct in6_addr) - sizeof(struct in_addr) : 0;
    at = put_v2_head(out, V2_PROXY, ends.v4 ? V2_TCP4 : V2_TCP6, ends.v4 ? V2_IPV4 : V2_IPV6);
    at = put(at, &ends.source.bytes.s6_addr[skip], sizeof(struct in6_addr) - skip);
    at = put(at, &ends.destination.bytes.s6_addr[skip], sizeof(struct in6_addr) - skip);
    at = put_u16(at, ends.source_port);
    at = put_u16(at, ends.destination_port);
    return (size_t)(at - out);
}
