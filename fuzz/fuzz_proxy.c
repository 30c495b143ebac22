/* fuzz_proxy.c - any bytes as a PROXY protocol header, and as two addresses to write one of. Nothing is taken unless
 * a whole header is; the bytes of one decide by themselves, and any part of it wants more; what is wrong stays wrong
 * with more bytes, and what wants more can go on. What is taken, written by us in either version, means the same. */
#include <arpa/inet.h>

#include "exact.h"
#include "wire/proxy.h"

struct taken {
    enum proxy_result result;
    size_t bytes;
    struct proxy_header header;
};

static struct taken take(struct slice bytes)
{
    struct slice copy = exact_copy(bytes), in = copy;
    struct taken t;
    struct proxy_header before;
    const char *why = NULL;

    memset(&t, 0, sizeof t);
    memset(&t.header.source, 0x5a, sizeof t.header.source);
    memcpy(&before, &t.header, sizeof before);
    t.result = proxy_take(&in, &t.header, &why);
    t.bytes = copy.len - in.len;
    assert(in.len <= copy.len && in.ptr == copy.ptr + t.bytes);
    assert((t.result == PROXY_BAD) == (why != NULL));
    if (t.result == PROXY_OK)
        assert(t.bytes && t.bytes <= PROXY_HEADER_MAX);
    else
        assert(!t.bytes && memcmp(&t.header, &before, sizeof before) == 0);
    exact_free(copy);
    return t;
}

static bool is_version_1(struct slice bytes)
{
    return bytes.len && bytes.ptr[0] == 'P';
}

/* Some byte can follow. Not asked of version 2: its checksum may leave none. */
static void check_goes_on(struct slice bytes)
{
    static const char likely[] = "0:. \r\n1fPROXYTCP46UNKNOWN";
    char longer[PROXY_V1_MAX + 1];
    bool goes_on = false;

    assert(bytes.len < PROXY_V1_MAX);
    memcpy(longer, bytes.ptr, bytes.len);
    for (size_t i = 0; i < sizeof likely - 1 && !goes_on; i++) {
        longer[bytes.len] = likely[i];
        goes_on = take(slice_of(longer, bytes.len + 1)).result != PROXY_BAD;
    }
    assert(goes_on);
}

/* A part of the bytes against all of them. */
static void check_part(struct slice bytes, const struct taken *whole, size_t cut)
{
    enum proxy_result part = take(slice_of(bytes.ptr, cut)).result;

    switch (whole->result) {
    case PROXY_OK:
        assert(part == (cut < whole->bytes ? PROXY_MORE : PROXY_OK));
        break;
    case PROXY_MORE:
        assert(part == PROXY_MORE);
        break;
    case PROXY_BAD:
        assert(part != PROXY_OK);
        break;
    }
    if (part == PROXY_MORE && cut && is_version_1(bytes))
        check_goes_on(slice_of(bytes.ptr, cut));
}

static bool is_ip(const struct endpoint *endpoint)
{
    return endpoint->sa.sa_family == AF_INET || endpoint->sa.sa_family == AF_INET6;
}

static void check_endpoint(const struct endpoint *endpoint)
{
    char text[ADDRESS_TEXT_MAX];

    assert(endpoint_text(endpoint, text) < sizeof text);
    assert(is_ip(endpoint) || endpoint->sa.sa_family == AF_UNIX);
    assert(endpoint->len <= sizeof endpoint->un);
}

static void check_taken_back(struct slice put, const struct endpoint *source,
                             const struct endpoint *destination)
{
    struct taken t = take(put);

    assert(t.result == PROXY_OK && t.bytes == put.len);
    assert(t.header.local == !(is_ip(source) && is_ip(destination)));
    if (!t.header.local)
        assert(endpoint_equal(&t.header.source, source) &&
               endpoint_equal(&t.header.destination, destination));
}

static void check_put(const struct endpoint *source, const struct endpoint *destination)
{
    char *v1 = malloc(PROXY_V1_MAX), *v2 = malloc(PROXY_V2_MAX);

    assert(v1 && v2);
    check_taken_back(slice_of(v1, proxy_put_v1(v1, source, destination)), source, destination);
    check_taken_back(slice_of(v2, proxy_put_v2(v2, source, destination)), source, destination);
    free(v1);
    free(v2);
}

static void check_accepted(const struct proxy_header *header)
{
    if (header->local) {
        assert(!header->source.len && !header->destination.len);
        return;
    }
    check_endpoint(&header->source);
    check_endpoint(&header->destination);
    check_put(&header->source, &header->destination);
}

static struct endpoint endpoint_of(const uint8_t bytes[18])
{
    struct endpoint endpoint = {.len = sizeof endpoint.in6};

    endpoint.in6.sin6_family = AF_INET6;
    memcpy(&endpoint.in6.sin6_addr, bytes, 16);
    memcpy(&endpoint.in6.sin6_port, bytes + 16, 2);
    return endpoint;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice bytes = slice_of((const char *)data, size);
    struct taken whole = take(bytes);
    size_t most = size < PROXY_V1_MAX ? size : PROXY_V1_MAX;

    for (size_t cut = 0; cut < most; cut++)
        check_part(bytes, &whole, cut);
    if (size)
        check_part(bytes, &whole, size - 1);
    if (whole.result == PROXY_OK) {
        check_part(bytes, &whole, whole.bytes - 1);
        check_part(bytes, &whole, whole.bytes);
        check_accepted(&whole.header);
    }
    if (whole.result == PROXY_MORE) {
        assert(size < PROXY_HEADER_MAX);
        if (is_version_1(bytes))
            check_goes_on(bytes);
    }
    if (size >= 36) {
        struct endpoint source = endpoint_of(data), destination = endpoint_of(data + 18);

        check_put(&source, &destination);
    }
    return 0;
}
