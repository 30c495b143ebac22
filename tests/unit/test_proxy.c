/* test_proxy.c - wire/proxy.h: headers that are understood, headers that must be refused, why, and at which byte,
 * and what is written taken back. Every input is an exact-size copy on the heap, so that a look one byte too far is
 * seen. The headers marked "seen" were written by HAProxy 2.6. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "wire/proxy.h"

#define TEXT(literal)                \
    {                                \
        literal, sizeof(literal) - 1 \
    }
#define N(table) (sizeof(table) / sizeof(table)[0])

#define X10 "xxxxxxxxxx"
#define X90 X10 X10 X10 X10 X10 X10 X10 X10 X10
#define FFFF6 "ffff:ffff:ffff:ffff:ffff:ffff:"

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define TCP4 SIGNATURE "\x21\x11"
#define TCP6 SIGNATURE "\x21\x21"
#define A4 "\xc0\x00\x02\x01\xc6\x33\x64\x02\x30\x39\x01\xbb" /* 192.0.2.1:12345, 198.51.100.2:443 */
#define MAPPED "\0\0\0\0\0\0\0\0\0\0\xff\xff"
#define NET6 "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0" /* 2001:db8::, but for its last byte */
#define FF12 "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"
#define PORTS "\x30\x39\x01\xbb"
#define NUL10 "\0\0\0\0\0\0\0\0\0\0"
#define NUL100 NUL10 NUL10 NUL10 NUL10 NUL10 NUL10 NUL10 NUL10 NUL10 NUL10
#define PATH_108 "/" X90 X10 "xxxxxxx" /* no NUL has room */
#define SEEN_CHECKSUM                                                                                       \
    TCP4 "\x00\x1e\x7f\x00\x00\x01\x7f\x00\x00\x01\xd6\x42\xc6\xab\x03\x00\x04\xde\x4c\x2a\x9a\x05\x00\x08" \
         "id-29120"

/* The caller frees its ptr. */
static struct slice heap_copy(struct slice s)
{
    char *copy = malloc(s.len);

    assert_true(copy || !s.len);
    if (s.len)
        memcpy(copy, s.ptr, s.len);
    return slice_of(copy, s.len);
}

static void heap_free(struct slice s)
{
    free((char *)(uintptr_t)s.ptr);
}

struct taken {
    enum proxy_result result;
    size_t bytes;
    struct proxy_header header;
    const char *why; /* NULL unless refused */
};

/* What is not OK takes nothing and leaves the header as it was. */
static struct taken take(struct slice bytes)
{
    struct slice copy = heap_copy(bytes), in = copy;
    struct taken t = {.why = NULL};
    struct proxy_header before;

    memset(&t.header.source, 0x5a, sizeof t.header.source);
    memcpy(&before, &t.header, sizeof before);
    t.result = proxy_take(&in, &t.header, &t.why);
    t.bytes = copy.len - in.len;
    assert_ptr_equal(in.ptr, copy.ptr + t.bytes);
    assert_int_equal(t.why != NULL, t.result == PROXY_BAD);
    if (t.result != PROXY_OK) {
        assert_int_equal(t.bytes, 0);
        assert_memory_equal(&t.header, &before, sizeof before);
    }
    heap_free(copy);
    return t;
}

/* NULL in expected: nothing is known of this end. */
static void assert_endpoint(const struct endpoint *endpoint, const char *expected)
{
    static const struct endpoint none;
    char text[ADDRESS_TEXT_MAX];

    if (!expected) {
        assert_memory_equal(endpoint, &none, sizeof none);
        return;
    }
    endpoint_text(endpoint, text);
    assert_string_equal(text, expected);
}

/* --- what is understood ------------------------------------------------------------------------------------- */

struct good_case {
    struct slice header;
    const char *source, *destination; /* NULL: local */
};

static const struct good_case good[] = {
    {TEXT("PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n"), "192.0.2.1:12345", "198.51.100.2:443"},
    {TEXT("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"), "0.0.0.0:0", "0.0.0.0:0"},
    {TEXT("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"), "255.255.255.255:65535",
     "255.255.255.255:65535"},
    {TEXT("PROXY TCP6 2001:db8::1 2001:DB8:0:0:0:0:0:2 12345 443\r\n"), "[2001:db8::1]:12345",
     "[2001:db8::2]:443"},
    {TEXT("PROXY TCP6 :: 0:: 1 2\r\n"), "[::]:1", "[::]:2"},
    {TEXT("PROXY TCP6 " FFFF6 "ffff:ffff " FFFF6 "ffff:ffff 65535 65535\r\n"), "[" FFFF6 "ffff:ffff]:65535",
     "[" FFFF6 "ffff:ffff]:65535"},
    {TEXT("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:c633:6402 1 2\r\n"), "192.0.2.1:1", "198.51.100.2:2"},
    {TEXT("PROXY TCP6 1:2:3:4:5:6:192.0.2.1 1:2:3:4:5:6:7:: 1 2\r\n"), "[1:2:3:4:5:6:c000:201]:1",
     "[1:2:3:4:5:6:7:0]:2"},
    {TEXT("PROXY UNKNOWN\r\n"), NULL, NULL},
    {TEXT("PROXY UNKNOWN \r\n"), NULL, NULL},
    {TEXT("PROXY UNKNOWN ::1  \0\xff 1\r\n"), NULL, NULL},
    {TEXT("PROXY UNKNOWN " X90 "x\r\n"), NULL, NULL}, /* 107 bytes */
    /* seen */
    {TEXT("PROXY TCP6 ::1 ::1 60309 53655\r\n"), "[::1]:60309", "[::1]:53655"},
    {TEXT(TCP4 "\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\xaf\xaa\xa6\xe9"), "127.0.0.1:44970",
     "127.0.0.1:42729"},
    {TEXT(SEEN_CHECKSUM), "127.0.0.1:54850", "127.0.0.1:50859"},
    {TEXT(SIGNATURE "\x20\x00\x00\x00"), NULL, NULL},
    {TEXT(SIGNATURE "\x20\x00\x00\x07\x03\x00\x04\xa9\xb8\x7e\x8f"), NULL, NULL},
    /* binary */
    {TEXT(TCP4 "\x00\x0c" A4), "192.0.2.1:12345", "198.51.100.2:443"},
    {TEXT(TCP4 "\x00\x0f" A4 "\x04\x00\x00"), "192.0.2.1:12345", "198.51.100.2:443"},
    {TEXT(TCP4 "\x00\x13" A4 "\xee\x00\x01\x03\x04\x00\x00"), "192.0.2.1:12345", "198.51.100.2:443"},
    {TEXT(TCP4 "\x01\x0f" A4 "\x04\x01\x00" NUL100 NUL100 NUL10 NUL10 NUL10 NUL10 NUL10 "\0\0\0\0\0\0"),
     "192.0.2.1:12345", "198.51.100.2:443"},
    {TEXT(TCP6 "\x00\x24" NET6 "\x01" NET6 "\x02" PORTS), "[2001:db8::1]:12345", "[2001:db8::2]:443"},
    {TEXT(TCP6 "\x00\x24" MAPPED "\xc0\x00\x02\x01" NET6 "\x02" PORTS), "192.0.2.1:12345",
     "[2001:db8::2]:443"},
    {TEXT(TCP6 "\x00\x28" NET6 "\x01" NET6 "\x02" PORTS "\x01\x00\x01h"), "[2001:db8::1]:12345",
     "[2001:db8::2]:443"},
    {TEXT(SIGNATURE "\x21\x31\x00\xd8/run/s" NUL100 "\0\0/run/d" NUL100 "\0\0"), "unix:/run/s",
     "unix:/run/d"},
    {TEXT(SIGNATURE "\x21\x31\x00\xd8/run/s\0rest" NUL10 X10 X10 X10 X10 X10 X10 X10 X10 "xxxxxxx" PATH_108),
     "unix:/run/s", "unix:" PATH_108},
    {TEXT(SIGNATURE "\x21\x31\x00\xd8\0name" NUL100 "\0\0\0" NUL100 "\0\0\0\0\0\0\0\0"), "unix:@name",
     "unix:"},
    /* The connection speaks for itself, whatever else is said. */
    {TEXT(SIGNATURE "\x20\x11\x00\x0c" A4), NULL, NULL},
    {TEXT(SIGNATURE "\x20\x12\x00\x01\x03"), NULL, NULL},
    {TEXT(SIGNATURE "\x20\xff\x00\x02\x01\xff"), NULL, NULL},
    {TEXT(SIGNATURE "\x21\x00\x00\x00"), NULL, NULL},
    {TEXT(SIGNATURE "\x21\x01\x00\x01\x03"), NULL, NULL},
    {TEXT(SIGNATURE "\x21\x10\x00\x00"), NULL, NULL},
};

static void a_header_is_understood(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(good); i++) {
        struct taken t = take(good[i].header);

        if (t.result != PROXY_OK)
            fail_msg("row %zu: %s", i, t.why ? t.why : "wants more");
        assert_int_equal(t.bytes, good[i].header.len);
        assert_int_equal(t.header.local, !good[i].source);
        assert_endpoint(&t.header.source, good[i].source);
        assert_endpoint(&t.header.destination, good[i].destination);
    }
}

static void a_prefix_wants_more_and_takes_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(good); i++)
        for (size_t n = 0; n < good[i].header.len; n++) {
            struct taken t = take(slice_of(good[i].header.ptr, n));

            if (t.result != PROXY_MORE)
                fail_msg("row %zu, the first %zu bytes: %s", i, n, t.why ? t.why : "taken");
        }
}

static void what_follows_a_header_stays(void **state)
{
    static const struct slice payloads[] = {TEXT("G"), TEXT("\r\n"), TEXT("\0\0\0"),
                                            TEXT("PROXY UNKNOWN\r\n")};
    char bytes[512];

    (void)state;
    for (size_t i = 0; i < N(good); i++)
        for (size_t k = 0; k < N(payloads); k++) {
            size_t n = good[i].header.len;
            struct taken t;

            assert_true(n + payloads[k].len <= sizeof bytes);
            memcpy(bytes, good[i].header.ptr, n);
            memcpy(bytes + n, payloads[k].ptr, payloads[k].len);
            t = take(slice_of(bytes, n + payloads[k].len));
            assert_int_equal(t.result, PROXY_OK);
            assert_int_equal(t.bytes, n);
        }
}

static void assert_family(struct slice header, int family)
{
    struct taken t = take(header);

    assert_int_equal(t.result, PROXY_OK);
    assert_int_equal(t.header.source.sa.sa_family, family);
    assert_int_equal(t.header.destination.sa.sa_family, family);
}

/* What a socket of that family would give. */
static void an_endpoint_has_its_family_and_length(void **state)
{
    static const struct good_case paths = {
        TEXT(SIGNATURE "\x21\x31\x00\xd8/run/s" NUL100 "\0\0\0" NUL100 "\0\0\0\0\0\0\0"), NULL, NULL};
    struct taken t = take(paths.header);
    size_t before = offsetof(struct sockaddr_un, sun_path);

    (void)state;
    assert_family(SLICE("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n"), AF_INET);
    assert_family(SLICE("PROXY TCP6 ::ffff:1.2.3.4 ::ffff:1.2.3.4 1 2\r\n"), AF_INET);
    assert_family(SLICE("PROXY TCP6 ::1 ::1 1 2\r\n"), AF_INET6);
    assert_family(SLICE(TCP4 "\x00\x0c" A4), AF_INET);
    assert_family(SLICE(TCP6 "\x00\x24" NET6 "\x01" NET6 "\x02" PORTS), AF_INET6);
    assert_family(paths.header, AF_UNIX);
    assert_int_equal(t.header.source.len, before + sizeof "/run/s");
    assert_int_equal(t.header.destination.len, before);
}

/* --- what is refused ---------------------------------------------------------------------------------------- */

struct bad_case {
    struct slice bytes; /* up to the byte that shows it */
    const char *why;    /* words of the reason */
};

#define V1_ADDRESS4 "an address is not an IPv4 address"
#define V1_ADDRESS6 "an address is not an IPv6 address"
#define V1_PORT "a port is not a number from 0 to 65535"
#define V1_SPACE "something other than one space"
#define V1_END "does not end in CR LF"
#define V1_PROTOCOL "none of TCP4, TCP6 and UNKNOWN"

static const struct bad_case bad[] = {
    {TEXT("G"), "this is no PROXY protocol header"},
    {TEXT("p"), "this is no PROXY protocol header"},
    {TEXT("\n"), "this is no PROXY protocol header"},
    {TEXT("\x16"), "this is no PROXY protocol header"},
    {TEXT("PO"), "this is no PROXY protocol header"},
    {TEXT("PROXY\t"), "this is no PROXY protocol header"},
    {TEXT("PROXY\r"), "this is no PROXY protocol header"},
    {TEXT("\r\n\r\n\r"), "this is no PROXY protocol header"},
    {TEXT("\r\n\r\n\0\r\nQUIT\r"), "this is no PROXY protocol header"},
    {TEXT("PROXY  "), V1_PROTOCOL},
    {TEXT("PROXY t"), V1_PROTOCOL},
    {TEXT("PROXY U "), V1_PROTOCOL},
    {TEXT("PROXY TCP5"), V1_PROTOCOL},
    {TEXT("PROXY TCP4\t"), V1_PROTOCOL},
    {TEXT("PROXY UD"), V1_PROTOCOL},
    {TEXT("PROXY UNKNOWNX"), V1_PROTOCOL},
    {TEXT("PROXY UNKNOWN\n"), V1_END},
    {TEXT("PROXY UNKNOWN\r\r"), V1_END},
    {TEXT("PROXY UNKNOWN a\n"), V1_END},
    {TEXT("PROXY UNKNOWN a\ra"), V1_END},
    {TEXT("PROXY UNKNOWN " X90 "xx"), "longer than 107 bytes"}, /* with its CR LF 108 */
    {TEXT("PROXY TCP4  "), V1_ADDRESS4},
    {TEXT("PROXY TCP4 :"), V1_ADDRESS4},
    {TEXT("PROXY TCP4 a"), V1_ADDRESS4},
    {TEXT("PROXY TCP4 256"), V1_ADDRESS4},
    {TEXT("PROXY TCP4 01"), V1_ADDRESS4},
    {TEXT("PROXY TCP4 1.."), V1_ADDRESS4},
    {TEXT("PROXY TCP4 1.2.3 "), V1_ADDRESS4},
    {TEXT("PROXY TCP4 1.2.3.4."), V1_ADDRESS4},
    {TEXT("PROXY TCP4 1.2.3.4\t"), V1_SPACE},
    {TEXT("PROXY TCP4 1.2.3.4\r"), V1_SPACE},
    {TEXT("PROXY TCP4 1.2.3.4  "), V1_ADDRESS4},
    {TEXT("PROXY TCP4 1.2.3.4 :"), V1_ADDRESS4},
    {TEXT("PROXY TCP6 1."), V1_ADDRESS6},
    {TEXT("PROXY TCP6  "), V1_ADDRESS6},
    {TEXT("PROXY TCP6 g"), V1_ADDRESS6},
    {TEXT("PROXY TCP6 :1"), V1_ADDRESS6},
    {TEXT("PROXY TCP6 :::"), V1_ADDRESS6},
    {TEXT("PROXY TCP6 1::2::"), V1_ADDRESS6},
    {TEXT("PROXY TCP6 00000"), V1_ADDRESS6},
    {TEXT("PROXY TCP6 ::1%"), V1_SPACE},
    {TEXT("PROXY TCP6 ::1/"), V1_SPACE},
    {TEXT("PROXY TCP6 ["), V1_ADDRESS6},
    {TEXT("PROXY TCP6 1:2:3:4:5:6:7:8:"), V1_ADDRESS6},
    {TEXT("PROXY TCP6 1:2:3:4:5:6:7 "), V1_ADDRESS6},
    {TEXT("PROXY TCP6 1:2:3:4:5:6:7:1."), V1_ADDRESS6},
    {TEXT("PROXY TCP6 ::ffff:1.2.3.256"), V1_ADDRESS6},
    {TEXT("PROXY TCP6 ::ffff:1.2.3.04"), V1_ADDRESS6},
    {TEXT("PROXY TCP6 " FFFF6 "255.25"), V1_ADDRESS6}, /* with what is missing over 39 bytes */
    {TEXT("PROXY TCP6 " FFFF6 "ffff:fffff"), V1_ADDRESS6},
    {TEXT("PROXY TCP6 ::1 1."), V1_ADDRESS6},
    {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4  "), V1_PORT},
    {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 -"), V1_PORT},
    {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 +"), V1_PORT},
    {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 00"), V1_PORT},
    {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 01"), V1_PORT},
    {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 65536"), V1_PORT},
    {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1a"), V1_SPACE},
    {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1\r"), V1_SPACE},
    {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 \r"), V1_PORT},
    {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 00"), V1_PORT},
    {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 99999"), V1_PORT},
    {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 "), V1_END},
    {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n"), V1_END},
    {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\r"), V1_END},
    {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\0"), V1_END},
    {TEXT(SIGNATURE "\x11"), "version after the signature is not 2"},
    {TEXT(SIGNATURE "\x01"), "version after the signature is not 2"},
    {TEXT(SIGNATURE "\x31"), "version after the signature is not 2"},
    {TEXT(SIGNATURE "\x22"), "neither LOCAL nor PROXY"},
    {TEXT(SIGNATURE "\x2f"), "neither LOCAL nor PROXY"},
    {TEXT(SIGNATURE "\x21\x41"), "address family is none of"},
    {TEXT(SIGNATURE "\x21\xf0"), "address family is none of"},
    {TEXT(SIGNATURE "\x21\x12"), "transport is DGRAM"},
    {TEXT(SIGNATURE "\x21\x22"), "transport is DGRAM"},
    {TEXT(SIGNATURE "\x21\x32"), "transport is DGRAM"},
    {TEXT(SIGNATURE "\x21\x13"), "transport is neither"},
    {TEXT(TCP4 "\x00\x0b"), "length is too small"},
    {TEXT(TCP4 "\x00\x00"), "length is too small"},
    {TEXT(TCP6 "\x00\x23"), "length is too small"},
    {TEXT(SIGNATURE "\x21\x31\x00\xd7"), "length is too small"},
    {TEXT(TCP4 "\x08\x01"), "longer than 2064 bytes"},
    {TEXT(TCP4 "\xff\xff"), "longer than 2064 bytes"},
    {TEXT(SIGNATURE "\x20\x00\x08\x01"), "longer than 2064 bytes"},
    {TEXT(TCP4 "\x00\x0d"), "too short to be one"},
    {TEXT(TCP4 "\x00\x0e"), "too short to be one"},
    {TEXT(TCP4 "\x00\x10" A4 "\x04\x00\x00"), "too short to be one"},
    {TEXT(TCP4 "\x00\x13" A4 "\x04\x00\x05"), "reaches over the end"},
    {TEXT(TCP4 "\x00\x13" A4 "\x04\x01\x00"), "reaches over the end"},
    {TEXT(TCP4 "\x00\x13" A4 "\x04\x00\x00\x04\x00\x02"), "reaches over the end"},
    {TEXT(TCP4 "\x00\x12" A4 "\x03\x00\x03"), "a checksum is not 4 bytes long"},
    {TEXT(TCP4 "\x00\x14" A4 "\x03\x00\x05"), "a checksum is not 4 bytes long"},
    {TEXT(TCP4 "\x00\x1a" A4 "\x03\x00\x04\x01\x02\x03\x04\x03\x00\x04"), "is there twice"},
    {TEXT(TCP4 "\x00\x13" A4 "\x03\x00\x04\x00\x00\x00\x00"), "checksum (CRC32C) does not match"},
};

static void assert_refused(size_t row, struct slice bytes, const char *why)
{
    struct taken t = take(bytes);

    if (t.result != PROXY_BAD)
        fail_msg("row %zu: %zu bytes are %s", row, bytes.len, t.result == PROXY_OK ? "taken" : "not enough");
    if (!strstr(t.why, why))
        fail_msg("row %zu: refused because %s", row, t.why);
}

static void what_is_wrong_is_refused_with_its_reason(void **state)
{
    char longer[512];

    (void)state;
    for (size_t i = 0; i < N(bad); i++) {
        size_t n = bad[i].bytes.len;

        assert_true(n + 200 <= sizeof longer);
        memcpy(longer, bad[i].bytes.ptr, n);
        memset(longer + n, '1', 200);
        assert_refused(i, bad[i].bytes, bad[i].why);
        assert_refused(i, slice_of(longer, n + 200), bad[i].why);
    }
}

static void it_is_refused_at_its_first_wrong_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(bad); i++) {
        struct taken t = take(slice_of(bad[i].bytes.ptr, bad[i].bytes.len - 1));

        if (t.result != PROXY_MORE)
            fail_msg("row %zu: refused before its last byte: %s", i, t.why);
    }
}

/* Changes that no field shows by itself: addresses, ports, and the value of another TLV. */
static void a_checksum_sees_every_changed_bit(void **state)
{
    struct slice seen = SLICE(SEEN_CHECKSUM);
    char bytes[sizeof SEEN_CHECKSUM - 1];

    (void)state;
    for (size_t bit = 8 * (size_t)16; bit < 8 * seen.len; bit++) {
        size_t at = bit / 8;

        if ((at >= 28 && at < 31) || (at >= 35 && at < 38)) /* types and lengths */
            continue;
        memcpy(bytes, seen.ptr, seen.len);
        bytes[at] = (char)(bytes[at] ^ 1 << bit % 8);
        assert_refused(bit, slice_of(bytes, seen.len), "checksum (CRC32C) does not match");
    }
}

static void the_longest_header_is_taken(void **state)
{
    static const struct slice start = TEXT(TCP4 "\x08\x00" A4 "\x04\x07\xf1");
    char bytes[PROXY_HEADER_MAX] = {0};

    (void)state;
    memcpy(bytes, start.ptr, start.len);
    assert_int_equal(take(slice_of(bytes, sizeof bytes - 1)).result, PROXY_MORE);
    assert_int_equal(take(slice_of(bytes, sizeof bytes)).bytes, sizeof bytes);
}

/* --- what is written ---------------------------------------------------------------------------------------- */

/* "v6:" in front of IPv4 stands for how a socket of both families reports it. NULL stays NULL. */
static const struct endpoint *endpoint_from(const char *text, struct endpoint *endpoint)
{
    struct address address;
    const char *why;
    bool mapped = text && strncmp(text, "v6:", 3) == 0;

    if (!text)
        return NULL;
    assert_int_equal(address_parse(slice_from_text(mapped ? text + 3 : text), &address, &why), 0);
    endpoint_from_address(endpoint, &address, false);
    if (mapped) {
        memset(endpoint, 0, sizeof *endpoint);
        endpoint->in6.sin6_family = AF_INET6;
        endpoint->in6.sin6_port = htons(address.port);
        endpoint->in6.sin6_addr = address.ip;
        endpoint->len = sizeof endpoint->in6;
    }
    return endpoint;
}

struct put_case {
    const char *source, *destination;
    const char *v1;
    struct slice v2;
};

static const struct put_case written[] = {
    {"192.0.2.1:12345", "198.51.100.2:443", "PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n",
     TEXT(TCP4 "\x00\x0c" A4)},
    {"v6:192.0.2.1:12345", "v6:198.51.100.2:443", "PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n",
     TEXT(TCP4 "\x00\x0c" A4)},
    {"v6:192.0.2.1:12345", "198.51.100.2:443", "PROXY TCP4 192.0.2.1 198.51.100.2 12345 443\r\n",
     TEXT(TCP4 "\x00\x0c" A4)},
    {"[2001:db8::1]:12345", "[2001:db8::2]:443", "PROXY TCP6 2001:db8::1 2001:db8::2 12345 443\r\n",
     TEXT(TCP6 "\x00\x24" NET6 "\x01" NET6 "\x02" PORTS)},
    {"[" FFFF6 "ffff:ffff]:65535", "[" FFFF6 "ffff:ffff]:65535",
     "PROXY TCP6 " FFFF6 "ffff:ffff " FFFF6 "ffff:ffff 65535 65535\r\n",
     TEXT(TCP6 "\x00\x24" FF12 FF12 FF12)},
    {"192.0.2.1:12345", "[2001:db8::2]:443", "PROXY TCP6 ::ffff:c000:201 2001:db8::2 12345 443\r\n",
     TEXT(TCP6 "\x00\x24" MAPPED "\xc0\x00\x02\x01" NET6 "\x02" PORTS)},
    {"[2001:db8::1]:12345", "v6:198.51.100.2:443", "PROXY TCP6 2001:db8::1 ::ffff:c633:6402 12345 443\r\n",
     TEXT(TCP6 "\x00\x24" NET6 "\x01" MAPPED "\xc6\x33\x64\x02" PORTS)},
    {NULL, NULL, "PROXY UNKNOWN\r\n", TEXT(SIGNATURE "\x20\x00\x00\x00")},
    {NULL, "192.0.2.1:80", "PROXY UNKNOWN\r\n", TEXT(SIGNATURE "\x20\x00\x00\x00")},
    {"unix:/run/s", "unix:/run/d", "PROXY UNKNOWN\r\n", TEXT(SIGNATURE "\x20\x00\x00\x00")},
    {"unix:/run/s", "192.0.2.1:80", "PROXY UNKNOWN\r\n", TEXT(SIGNATURE "\x20\x00\x00\x00")},
    {"192.0.2.1:80", "unix:/run/d", "PROXY UNKNOWN\r\n", TEXT(SIGNATURE "\x20\x00\x00\x00")},
};

static void assert_put(size_t row, struct slice put, struct slice expected)
{
    if (!slice_equal(put, expected))
        fail_msg("row %zu: %zu bytes are not the %zu expected: %.*s", row, put.len, expected.len,
                 SLICE_ARG(put));
}

static void a_header_is_written(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(written); i++) {
        struct endpoint ends[2];
        const struct endpoint *source = endpoint_from(written[i].source, &ends[0]);
        const struct endpoint *destination = endpoint_from(written[i].destination, &ends[1]);
        char *v1 = malloc(PROXY_V1_MAX), *v2 = malloc(PROXY_V2_MAX);

        assert_true(v1 && v2);
        assert_put(i, slice_of(v1, proxy_put_v1(v1, source, destination)), slice_from_text(written[i].v1));
        assert_put(i, slice_of(v2, proxy_put_v2(v2, source, destination)), written[i].v2);
        free(v1);
        free(v2);
    }
}

static void assert_taken_back(struct slice put, const struct endpoint *source,
                              const struct endpoint *destination)
{
    struct taken t = take(put);

    assert_int_equal(t.result, PROXY_OK);
    assert_int_equal(t.bytes, put.len);
    if (t.header.local) {
        assert_true(!source || source->sa.sa_family == AF_UNIX || destination->sa.sa_family == AF_UNIX);
    } else {
        assert_true(endpoint_equal(&t.header.source, source));
        assert_true(endpoint_equal(&t.header.destination, destination));
    }
}

static void what_is_written_is_taken_back_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(written); i++) {
        struct endpoint ends[2];
        const struct endpoint *source = endpoint_from(written[i].source, &ends[0]);
        const struct endpoint *destination = endpoint_from(written[i].destination, &ends[1]);
        char v1[PROXY_V1_MAX], v2[PROXY_V2_MAX];

        assert_taken_back(slice_of(v1, proxy_put_v1(v1, source, destination)), source, destination);
        assert_taken_back(slice_of(v2, proxy_put_v2(v2, source, destination)), source, destination);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_is_understood),
        cmocka_unit_test(a_prefix_wants_more_and_takes_nothing),
        cmocka_unit_test(what_follows_a_header_stays),
        cmocka_unit_test(an_endpoint_has_its_family_and_length),
        cmocka_unit_test(what_is_wrong_is_refused_with_its_reason),
        cmocka_unit_test(it_is_refused_at_its_first_wrong_byte),
        cmocka_unit_test(a_checksum_sees_every_changed_bit),
        cmocka_unit_test(the_longest_header_is_taken),
        cmocka_unit_test(a_header_is_written),
        cmocka_unit_test(what_is_written_is_taken_back_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
