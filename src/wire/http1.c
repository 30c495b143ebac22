/* http1.c - see http1.h.
 *
 * A head goes line by line: find the LF, demand the CR before it, split at the colon, check every byte against a
 * table. Fields that steer framing or routing are judged in one visible switch each for requests and answers.
 * Rows H01 to H39 of the attack checklist are tested by name in tests/system/. */
#include "wire/http1.h"

#include <errno.h>

/* ---- bytes ------------------------------------------------------------------------------------------------- */

enum {
    TOKEN = 1,     /* may stand in a method or field name */
    HOST_BYTE = 2, /* may stand in a host */
    TARGET = 4,    /* may stand in a request target */
    HEX = 8,
};

#define CLASS_DIGIT (TOKEN | HOST_BYTE | TARGET | HEX)
#define CLASS_HEX_LETTER (TOKEN | HOST_BYTE | TARGET | HEX)
#define CLASS_LETTER (TOKEN | HOST_BYTE | TARGET)

static const unsigned char class_of[256] = {
    ['0' ... '9'] = CLASS_DIGIT,
    ['a' ... 'f'] = CLASS_HEX_LETTER,
    ['A' ... 'F'] = CLASS_HEX_LETTER,
    ['g' ... 'z'] = CLASS_LETTER,
    ['G' ... 'Z'] = CLASS_LETTER,
    ['!'] = TOKEN | TARGET,
    ['#'] = TOKEN,
    ['$'] = TOKEN | TARGET,
    ['%'] = TOKEN | TARGET,
    ['&'] = TOKEN | TARGET,
    ['\''] = TOKEN | TARGET,
    ['*'] = TOKEN | TARGET,
    ['+'] = TOKEN | TARGET,
    ['-'] = TOKEN | HOST_BYTE | TARGET,
    ['.'] = TOKEN | HOST_BYTE | TARGET,
    ['^'] = TOKEN | TARGET,
    ['_'] = TOKEN | HOST_BYTE | TARGET,
    ['`'] = TOKEN | TARGET,
    ['|'] = TOKEN | TARGET,
    ['~'] = TOKEN | HOST_BYTE | TARGET,
    ['"'] = TARGET,
    ['('] = TARGET,
    [')'] = TARGET,
    [','] = TARGET,
    ['/'] = TARGET,
    [':'] = TARGET,
    [';'] = TARGET,
    ['<'] = TARGET,
    ['='] = TARGET,
    ['>'] = TARGET,
    ['?'] = TARGET,
    ['@'] = TARGET,
    ['['] = TARGET,
    ['\\'] = TARGET,
    [']'] = TARGET,
    ['{'] = TARGET,
    ['}'] = TARGET,
};

static bool is_class(char c, int class)
{
    return class_of[(unsigned char)c] & class;
}

/* How many bytes at the front of s are of the class. */
static size_t span(struct slice s, int class)
{
    size_t n = 0;

    while (n < s.len && is_class(s.ptr[n], class))
        n++;
    return n;
}

static bool all_of(struct slice s, int class)
{
    return s.len && span(s, class) == s.len;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return (c | 0x20) - 'a' + 10;
}

/* A field value: no control byte but the tab. Eight bytes at a time: some byte is below 0x20 or is 0x7f. */
static bool value_is_clean(struct slice s)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;

    for (; s.len >= 8; slice_drop(&s, 8)) {
        uint64_t x, low, del;

        memcpy(&x, s.ptr, 8);
        low = (x - ones * 0x20) & ~x & high;
        del = ((x ^ ones * 0x7f) - ones) & ~(x ^ ones * 0x7f) & high;
        if (low | del)
            break; /* or a tab, or a false alarm after a borrow: look closer */
    }
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return true;
}

/* ---- field names ------------------------------------------------------------------------------------------- */

struct known {
    const char *name;
    enum http_field_id id;
};

/* By length, so that a name is compared with the few that it could be. */
#define KNOWN_LEN_MAX 17
#define KNOWN_PER_LEN 4
static const struct known known_fields[KNOWN_LEN_MAX + 1][KNOWN_PER_LEN] = {
    [2] = {{"te", FIELD_TE}},
    [3] = {{"via", FIELD_VIA}},
    [4] = {{"host", FIELD_HOST}, {"date", FIELD_DATE}},
    [6] = {{"cookie", FIELD_COOKIE}, {"expect", FIELD_EXPECT}},
    [7] = {{"upgrade", FIELD_UPGRADE}, {"trailer", FIELD_TRAILER}},
    [9] = {{"forwarded", FIELD_FORWARDED}, {"x-real-ip", FIELD_X_REAL_IP}},
    [10] = {{"connection", FIELD_CONNECTION},
            {"user-agent", FIELD_USER_AGENT},
            {"keep-alive", FIELD_KEEP_ALIVE}},
    [12] = {{"x-request-id", FIELD_X_REQUEST_ID}},
    [14] = {{"content-length", FIELD_CONTENT_LENGTH}, {"http2-settings", FIELD_HTTP2_SETTINGS}},
    [15] = {{"x-forwarded-for", FIELD_X_FORWARDED_FOR}, {"idempotency-key", FIELD_IDEMPOTENCY_KEY}},
    [16] = {{"x-forwarded-host", FIELD_X_FORWARDED_HOST}, {"proxy-connection", FIELD_PROXY_CONNECTION}},
    [17] = {{"transfer-encoding", FIELD_TRANSFER_ENCODING}, {"x-forwarded-proto", FIELD_X_FORWARDED_PROTO}},
};

static enum http_field_id field_id(struct slice name)
{
    struct slice forwarded = SLICE("x-forwarded-");

    if (name.len <= KNOWN_LEN_MAX) {
        const struct known *known = known_fields[name.len];
        char first = (char)(name.ptr[0] | 0x20);

        for (int i = 0; i < KNOWN_PER_LEN && known[i].name; i++)
            if (known[i].name[0] == first && slice_equal_nocase(name, slice_of(known[i].name, name.len)))
                return known[i].id;
    }
    if (name.len > forwarded.len && (name.ptr[0] | 0x20) == 'x' &&
        slice_equal_nocase(slice_of(name.ptr, forwarded.len), forwarded))
        return FIELD_X_FORWARDED_OTHER;
    return FIELD_OTHER;
}

static int refuse(struct http1_error *error, unsigned status, const char *why)
{
    *error = (struct http1_error){status, why};
    return -EBADMSG;
}

/* Takes one line and its CR LF off *in. */
static bool take_line(struct slice *in, struct slice *line)
{
    size_t at = slice_find(*in, '\n');

    if (at == in->len || at == 0 || in->ptr[at - 1] != '\r')
        return false;
    *line = slice_of(in->ptr, at - 1);
    slice_drop(in, at + 1);
    return true;
}

/* One "name: value" line. */
static int parse_field(struct slice line, struct http_field *field, struct http1_error *error)
{
    size_t name = span(line, TOKEN);

    if (name == 0 || name == line.len || line.ptr[name] != ':') {
        if (line.len && (line.ptr[0] == ' ' || line.ptr[0] == '\t'))
            return refuse(error, 400, "a folded or indented field line");
        return refuse(error, 400, "a field line without a proper name and colon");
    }
    field->name = slice_of(line.ptr, name);
    field->value = slice_trim(slice_of(line.ptr + name + 1, line.len - name - 1));
    field->hop_by_hop = false;
    if (!value_is_clean(field->value))
        return refuse(error, 400, "a control byte in a field value");
    field->id = field_id(field->name);
    return 0;
}

/* Every field line up to the empty one. Names with an underscore are left out when told so: "Content_Length" and
 * its like become the real thing in servers that turn names into variables. */
static int parse_fields(struct slice in, bool drop_underscores, struct http_fields *fields,
                        struct http1_error *error)
{
    struct slice line;

    fields->count = 0;
    for (;;) {
        int bad;

        if (!take_line(&in, &line))
            return refuse(error, 400, "a field line that does not end in CR LF");
        if (!line.len)
            break;
        if (fields->count == fields->max)
            return refuse(error, 431, "too many fields");
        bad = parse_field(line, &fields->at[fields->count], error);
        if (bad)
            return bad;
        if (drop_underscores &&
            slice_find(fields->at[fields->count].name, '_') < fields->at[fields->count].name.len)
            continue;
        fields->count++;
    }
    return in.len == 0 ? 0 : refuse(error, 400, "bytes after the end of the head");
}

/* ---- framing ----------------------------------------------------------------------------------------------- */

struct framing {
    unsigned n_lengths, n_codings;
    uint64_t length;
};

static int add_length(struct framing *framing, struct slice value, struct http1_error *error)
{
    if (framing->n_lengths++)
        return refuse(error, 400, "more than one Content-Length");
    if (!slice_to_u64(value, &framing->length) || framing->length > INT64_MAX)
        return refuse(error, 400, "a Content-Length that is no plain number");
    return 0;
}

/* Only "chunked" alone is spoken. Another coding is a 501, a list that cannot be framed a 400. */
static int add_coding(struct framing *framing, struct slice value, struct http1_error *error)
{
    struct slice list = value, part;
    unsigned parts = 0;
    bool chunked = false;

    if (framing->n_codings++)
        return refuse(error, 400, "more than one Transfer-Encoding");
    while (slice_next_part(&list, ',', &part)) {
        if (!all_of(part, TOKEN) || chunked)
            return refuse(error, 400, "a Transfer-Encoding that frames no body");
        chunked = slice_equal_nocase(part, SLICE("chunked"));
        parts++;
    }
    if (!chunked || parts > 1)
        return refuse(error, 501, "a transfer coding other than chunked");
    return 0;
}

/* What Connection says, gathered over all its lines. */
struct connection {
    bool close, keep_alive, upgrade;
    unsigned names; /* of fields */
};

/* Each name is looked for among all fields: a head full of names would cost more than it should. */
#define CONNECTION_NAMES_MAX 32

static void add_connection(struct connection *connection, struct slice list)
{
    struct slice part;

    while (slice_next_part(&list, ',', &part)) {
        if (slice_equal_nocase(part, SLICE("close")))
            connection->close = true;
        else if (slice_equal_nocase(part, SLICE("keep-alive")))
            connection->keep_alive = true;
        else if (slice_equal_nocase(part, SLICE("upgrade")))
            connection->upgrade = true;
        else if (part.len && !slice_equal_nocase(part, SLICE("te")))
            connection->names++;
    }
}

/* Fields that steer this proxy or tell the server who is there: whoever names them in Connection wants them gone. */
static bool is_protected(const struct http_field *field)
{
    switch (field->id) {
    case FIELD_HOST:
    case FIELD_CONTENT_LENGTH:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_COOKIE:
    case FIELD_FORWARDED:
    case FIELD_X_FORWARDED_FOR:
    case FIELD_X_FORWARDED_HOST:
    case FIELD_X_FORWARDED_PROTO:
    case FIELD_X_FORWARDED_OTHER:
    case FIELD_X_REQUEST_ID:
        return true;
    default:
        return slice_equal_nocase(field->name, SLICE("authorization"));
    }
}

/* Marks the fields that Connection names, but protected ones. Returns false when one of those is among them. */
static bool mark_named_fields(struct http_fields *fields)
{
    bool harmless = true;

    for (unsigned i = 0; i < fields->count; i++) {
        struct slice list = fields->at[i].value, part;

        if (fields->at[i].id != FIELD_CONNECTION)
            continue;
        while (slice_next_part(&list, ',', &part)) {
            struct http_field named = {.name = part};

            if (!part.len)
                continue;
            named.id = field_id(part);
            if (is_protected(&named)) {
                harmless = false;
                continue;
            }
            for (unsigned j = 0; j < fields->count; j++)
                if (slice_equal_nocase(fields->at[j].name, part))
                    fields->at[j].hop_by_hop = true;
        }
    }
    return harmless;
}

/* Upgrade without h2c, which must not reach a server behind a proxy's back. A slice cannot leave out a middle: a list
 * that holds h2c between others is left out whole. */
static struct slice upgrade_of(struct slice value)
{
    struct slice list = value, part, kept = slice_of(NULL, 0);
    bool gap = false;

    while (slice_next_part(&list, ',', &part)) {
        if (!part.len)
            continue;
        if (slice_equal_nocase(part, SLICE("h2c"))) {
            gap = kept.len != 0;
            continue;
        }
        if (gap)
            return slice_of(NULL, 0);
        if (kept.len)
            kept.len = (size_t)(part.ptr + part.len - kept.ptr);
        else
            kept = part;
    }
    return kept;
}

/* ---- request ----------------------------------------------------------------------------------------------- */

size_t http1_head_end(const char *bytes, size_t len, size_t *scanned)
{
    size_t at = *scanned;

    while (at < len) {
        const char *lf = memchr(bytes + at, '\n', len - at);
        size_t i;

        if (!lf) {
            *scanned = len;
            return 0;
        }
        i = (size_t)(lf - bytes);
        if (i == 0 || bytes[i - 1] != '\r')
            return i + 1;
        if (i + 1 < len && bytes[i + 1] == '\n')
            return i + 2;
        if (i + 2 < len && bytes[i + 1] == '\r' && bytes[i + 2] == '\n')
            return i + 3;
        if (i + 2 >= len && (i + 1 == len || bytes[i + 1] == '\r')) {
            *scanned = i;
            return 0;
        }
        at = i + 1;
    }
    *scanned = at;
    return 0;
}

static const struct {
    const char *name;
    enum http_method id;
} methods[] = {
    {"GET", METHOD_GET},     {"HEAD", METHOD_HEAD},       {"POST", METHOD_POST},
    {"PUT", METHOD_PUT},     {"DELETE", METHOD_DELETE},   {"PATCH", METHOD_PATCH},
    {"TRACE", METHOD_TRACE}, {"OPTIONS", METHOD_OPTIONS}, {"CONNECT", METHOD_CONNECT},
};

static enum http_method method_id(struct slice method)
{
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (slice_equal(method, slice_from_text(methods[i].name)))
            return methods[i].id;
    return METHOD_OTHER;
}

/* "HTTP/1.1" is all we speak; other well-formed versions of HTTP/1 are taken as what they promise to be like. */
static int parse_version(struct slice version, unsigned *minor, struct http1_error *error)
{
    if (slice_equal(version, SLICE("HTTP/1.1"))) {
        *minor = 1;
        return 0;
    }
    if (version.len != 8 || !slice_starts_with(version, SLICE("HTTP/")) || version.ptr[6] != '.' ||
        version.ptr[5] < '0' || version.ptr[5] > '9' || version.ptr[7] < '0' || version.ptr[7] > '9')
        return refuse(error, 400, "a request line that does not end in an HTTP version");
    if (version.ptr[5] != '1')
        return refuse(error, 505, "an HTTP version other than 1");
    *minor = version.ptr[7] == '0' ? 0 : 1;
    return 0;
}

/* host, host:port, [v6], [v6]:port. */
static bool authority_is_valid(struct slice authority)
{
    struct slice rest = authority;
    size_t host;

    if (rest.len && rest.ptr[0] == '[') {
        host = slice_find(rest, ']');
        if (host == rest.len || host < 3)
            return false;
        for (size_t i = 1; i < host; i++)
            if (!is_class(rest.ptr[i], HEX) && rest.ptr[i] != ':' && rest.ptr[i] != '.')
                return false;
        host++;
    } else {
        host = span(rest, HOST_BYTE);
        if (!host)
            return false;
    }
    slice_drop(&rest, host);
    if (!rest.len)
        return true;
    if (rest.ptr[0] != ':' || rest.len > 6)
        return false;
    for (size_t i = 1; i < rest.len; i++)
        if (rest.ptr[i] < '0' || rest.ptr[i] > '9')
            return false;
    return true;
}

/* The byte at *i of path with an escape decoded, and *i moved over it; -1 when the escape is broken. */
static int decoded_byte(struct slice path, size_t *i)
{
    char c = path.ptr[*i];

    if (c != '%') {
        ++*i;
        return (unsigned char)c;
    }
    if (path.len - *i < 3 || !is_class(path.ptr[*i + 1], HEX) || !is_class(path.ptr[*i + 2], HEX))
        return -1;
    *i += 3;
    return hex_value(path.ptr[*i - 2]) << 4 | hex_value(path.ptr[*i - 1]);
}

/* A second byte that makes the lead before it a longer spelling of a shorter character. */
static bool is_overlong(int lead, int next)
{
    return ((lead == 0xc0 || lead == 0xc1) && next >= 0x80 && next <= 0xbf) ||
           (lead == 0xe0 && next >= 0x80 && next <= 0x9f) || (lead == 0xf0 && next >= 0x80 && next <= 0x8f);
}

/* Judges a path in its decoded form: what a server behind us might make of it. */
static int check_decoded_path(struct slice path, struct http1_error *error)
{
    size_t dots = 0, bytes = 1; /* of the segment so far; not a dot segment before the first '/' */
    int before = 0;

    for (size_t i = 0; i <= path.len;) {
        int c = '/';

        if (i == path.len)
            i++; /* the end closes the last segment */
        else
            c = decoded_byte(path, &i);
        if (c < 0)
            return refuse(error, 400, "a broken percent escape in the path");
        if (c == 0 || is_overlong(before, c))
            return refuse(error, 400, "an escaped NUL or overlong UTF-8 in the path");
        if (c == '/' || c == '\\') {
            if (bytes == dots && (dots == 1 || dots == 2))
                return refuse(error, 400, "a dot segment in the path");
            dots = bytes = 0;
        } else {
            bytes++;
            dots += c == '.';
        }
        before = c;
    }
    return 0;
}

static int check_path(struct http_request *request, struct http1_error *error)
{
    struct slice path = request->path;
    bool plain = true;
    char before = 0;

    for (size_t i = 0; i < path.len; i++) {
        char c = path.ptr[i];

        if (c == '\\')
            return refuse(error, 400, "a backslash in the path");
        if (c == '%' || (before == '/' && (c == '/' || c == '.')))
            plain = false;
        before = c;
    }
    request->path_is_plain = plain;
    return plain ? 0 : check_decoded_path(path, error);
}

static bool starts_with_nocase(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && slice_equal_nocase(slice_of(s.ptr, prefix.len), prefix);
}

static int parse_target(struct slice target, struct http_request *request, struct http1_error *error)
{
    struct slice rest = target;
    size_t path;

    if (!all_of(target, TARGET))
        return refuse(error, 400, "a byte that must not stand in a request target");
    if (request->method_id == METHOD_CONNECT)
        return refuse(error, 405, "CONNECT is not served");
    if (starts_with_nocase(rest, SLICE("http://")) || starts_with_nocase(rest, SLICE("https://"))) {
        slice_drop(&rest, slice_find(rest, ':') + 3);
        size_t authority = 0;

        while (authority < rest.len && rest.ptr[authority] != '/' && rest.ptr[authority] != '?')
            authority++;
        request->authority = slice_take(&rest, authority);
        if (!authority_is_valid(request->authority))
            return refuse(error, 400, "a request target with a bad authority");
    } else if (slice_equal(rest, SLICE("*"))) {
        if (request->method_id != METHOD_OPTIONS)
            return refuse(error, 400, "the target * is for OPTIONS alone");
    } else if (rest.ptr[0] != '/') {
        return refuse(error, 400, "a request target that is no path");
    }
    path = slice_find(rest, '?');
    request->path = path ? slice_of(rest.ptr, path) : SLICE("/"); /* "http://host?x" means "/?x" */
    if (path < rest.len)
        request->query = slice_of(rest.ptr + path + 1, rest.len - path - 1);
    return check_path(request, error);
}

static int parse_request_line(struct slice line, struct http_request *request, struct http1_error *error)
{
    size_t method = span(line, TOKEN);
    size_t target;
    int bad;

    if (!method || method == line.len || line.ptr[method] != ' ')
        return refuse(error, 400, "a request line without a method");
    request->method = slice_take(&line, method);
    request->method_id = method_id(request->method);
    slice_drop(&line, 1);
    target = slice_find(line, ' ');
    if (!target || target == line.len)
        return refuse(error, 400, "a request line that is not method, target and version");
    bad = parse_version(slice_of(line.ptr + target + 1, line.len - target - 1), &request->minor, error);
    if (bad)
        return bad;
    return parse_target(slice_of(line.ptr, target), request, error);
}

/* What the fields of a request add up to. */
struct request_facts {
    struct framing framing;
    struct connection connection;
    unsigned n_hosts;
    struct slice host;
    struct slice upgrade;
};

static int note_request_field(struct http_request *request, struct http_field *field,
                              struct request_facts *facts, struct http1_error *error)
{
    switch (field->id) {
    case FIELD_HOST:
        facts->n_hosts++;
        facts->host = field->value;
        return 0;
    case FIELD_CONTENT_LENGTH:
        return add_length(&facts->framing, field->value, error);
    case FIELD_TRANSFER_ENCODING:
        return add_coding(&facts->framing, field->value, error);
    case FIELD_CONNECTION:
        field->hop_by_hop = true;
        add_connection(&facts->connection, field->value);
        return 0;
    case FIELD_UPGRADE:
        field->hop_by_hop = true;
        if (facts->upgrade.ptr)
            return refuse(error, 400, "more than one Upgrade");
        facts->upgrade = field->value;
        return 0;
    case FIELD_TE:
        field->hop_by_hop = true;
        for (struct slice list = field->value, part; slice_next_part(&list, ',', &part);)
            request->te_trailers |= slice_equal_nocase(part, SLICE("trailers"));
        return 0;
    case FIELD_EXPECT:
        if (!slice_equal_nocase(field->value, SLICE("100-continue")))
            return refuse(error, 417, "an expectation other than 100-continue");
        request->expect_continue = request->minor == 1;
        return 0;
    case FIELD_KEEP_ALIVE:
    case FIELD_PROXY_CONNECTION:
    case FIELD_HTTP2_SETTINGS:
        field->hop_by_hop = true;
        return 0;
    default:
        return 0;
    }
}

static int settle_host(struct http_request *request, const struct request_facts *facts,
                       struct http1_error *error)
{
    if (facts->n_hosts > 1)
        return refuse(error, 400, "more than one Host");
    if (facts->n_hosts == 0 && request->minor == 1)
        return refuse(error, 400, "no Host");
    if (facts->n_hosts && !authority_is_valid(facts->host))
        return refuse(error, 400, "a Host that is no host");
    if (!request->authority.len)
        request->authority = facts->host;
    return 0;
}

static int settle_request(struct http_request *request, const struct request_facts *facts,
                          struct http1_error *error)
{
    const struct framing *framing = &facts->framing;
    int bad = settle_host(request, facts, error);

    if (bad)
        return bad;
    if (framing->n_codings && framing->n_lengths)
        return refuse(error, 400, "both Content-Length and Transfer-Encoding");
    if (framing->n_codings && request->minor == 0)
        return refuse(error, 400, "Transfer-Encoding in HTTP/1.0");
    if (framing->n_codings)
        request->body.kind = BODY_CHUNKED;
    else if (framing->n_lengths)
        request->body = (struct http_body){BODY_LENGTH, framing->length};
    request->keep_alive = request->minor == 1 ? !facts->connection.close
                                              : facts->connection.keep_alive && !facts->connection.close;
    if (facts->connection.upgrade && request->minor == 1) {
        request->upgrade = upgrade_of(facts->upgrade);
        if (request->upgrade.len && (request->body.kind == BODY_CHUNKED ||
                                     (request->body.kind == BODY_LENGTH && request->body.length)))
            return refuse(error, 400, "an Upgrade with a body");
    }
    if (facts->connection.names > CONNECTION_NAMES_MAX)
        return refuse(error, 400, "Connection names too many fields");
    if (facts->connection.names && !mark_named_fields(&request->fields))
        return refuse(error, 400, "Connection names a field that must not be dropped");
    return 0;
}

int http1_parse_request(struct slice head, const struct http1_limits *limits, struct http_request *request,
                        struct http1_error *error)
{
    struct request_facts facts = {0};
    struct slice in = head, line;
    struct http_fields fields = request->fields;
    int bad;

    *request = (struct http_request){.fields = fields};
    if (!take_line(&in, &line))
        return refuse(error, 400, "a request line that does not end in CR LF");
    if (line.len > limits->max_line)
        return refuse(error, 414, "a request line over max-line");
    if (head.len > limits->max_head)
        return refuse(error, 431, "a head over max-head");
    bad = parse_request_line(line, request, error);
    if (!bad)
        bad = parse_fields(in, true, &request->fields, error);
    for (unsigned i = 0; !bad && i < request->fields.count; i++)
        bad = note_request_field(request, &request->fields.at[i], &facts, error);
    return bad ? bad : settle_request(request, &facts, error);
}

/* ---- answer ------------------------------------------------------------------------------------------------ */

static int parse_status_line(struct slice line, struct http_response *response, struct http1_error *error)
{
    uint64_t status;

    if (line.len < 12 || !slice_starts_with(line, SLICE("HTTP/1.")) || line.ptr[7] < '0' ||
        line.ptr[7] > '9' || line.ptr[8] != ' ' || !slice_to_u64(slice_of(line.ptr + 9, 3), &status) ||
        status < 100)
        return refuse(error, 502, "a status line that is not HTTP/1");
    if (line.len > 12 && line.ptr[12] != ' ')
        return refuse(error, 502, "a status that is not three digits");
    response->minor = line.ptr[7] == '0' ? 0 : 1;
    response->status = (unsigned)status;
    response->reason = line.len > 13 ? slice_of(line.ptr + 13, line.len - 13) : slice_of(NULL, 0);
    if (!value_is_clean(response->reason))
        return refuse(error, 502, "a control byte in the status line");
    return 0;
}

static int note_response_field(struct http_field *field, struct framing *framing,
                               struct connection *connection, struct slice *upgrade,
                               struct http1_error *error)
{
    switch (field->id) {
    case FIELD_CONTENT_LENGTH:
        return add_length(framing, field->value, error);
    case FIELD_TRANSFER_ENCODING:
        return add_coding(framing, field->value, error);
    case FIELD_CONNECTION:
        field->hop_by_hop = true;
        add_connection(connection, field->value);
        return 0;
    case FIELD_UPGRADE:
        field->hop_by_hop = true;
        *upgrade = field->value;
        return 0;
    case FIELD_KEEP_ALIVE:
    case FIELD_PROXY_CONNECTION:
    case FIELD_TE:
        field->hop_by_hop = true;
        return 0;
    default:
        return 0;
    }
}

static int settle_response(struct http_response *response, const struct framing *framing,
                           enum http_method asked, struct http1_error *error)
{
    bool bodiless =
        asked == METHOD_HEAD || response->status < 200 || response->status == 204 || response->status == 304;

    if (framing->n_codings && (framing->n_lengths || response->minor == 0))
        return refuse(error, 502, "an answer with Transfer-Encoding beside Content-Length or in HTTP/1.0");
    response->length_given = framing->n_lengths != 0;
    response->body.length = framing->length;
    if (bodiless)
        response->body.kind = BODY_NONE;
    else if (framing->n_codings)
        response->body.kind = BODY_CHUNKED;
    else
        response->body.kind = framing->n_lengths ? BODY_LENGTH : BODY_UNTIL_CLOSE;
    return 0;
}

int http1_parse_response(struct slice head, enum http_method asked, struct http_response *response,
                         struct http1_error *error)
{
    struct framing framing = {0};
    struct connection connection = {0};
    struct http_fields fields = response->fields;
    struct slice in = head, line, upgrade = {0};
    int bad;

    *response = (struct http_response){.fields = fields};
    if (!take_line(&in, &line))
        bad = refuse(error, 502, "a status line that does not end in CR LF");
    else
        bad = parse_status_line(line, response, error);
    if (!bad)
        bad = parse_fields(in, false, &response->fields, error);
    for (unsigned i = 0; !bad && i < response->fields.count; i++)
        bad = note_response_field(&response->fields.at[i], &framing, &connection, &upgrade, error);
    if (!bad)
        bad = settle_response(response, &framing, asked, error);
    if (bad) {
        error->status = 502; /* whatever is wrong with it, the client cannot mend it */
        return bad;
    }
    response->keep_alive =
        response->minor == 1 ? !connection.close : connection.keep_alive && !connection.close;
    response->upgrade = connection.upgrade ? upgrade : slice_of(NULL, 0);
    if (connection.names > CONNECTION_NAMES_MAX)
        return refuse(error, 502, "Connection names too many fields");
    if (connection.names)
        mark_named_fields(&response->fields); /* what is protected stays: a server's word cannot harm it */
    return 0;
}

/* ---- chunked bodies ---------------------------------------------------------------------------------------- */

enum {
    AT_SIZE,
    AT_EXTENSION_NAME,
    AT_EXTENSION_VALUE,
    AT_EXTENSION_TOKEN,
    AT_QUOTED,
    AT_QUOTED_ESCAPE,
    AT_AFTER_QUOTED,
    AT_SIZE_LF,
    AT_DATA,
    AT_DATA_CR,
    AT_DATA_LF,
    AT_TRAILER,
};

#define SIZE_DIGITS_MAX 16
#define EXTENSION_BYTES_MAX 4096

/* What follows a size or an extension: the next extension or the end of the line. */
static const char *end_or_extension(struct http1_chunked *d, char c)
{
    if (c == '\r')
        d->state = AT_SIZE_LF;
    else if (c == ';') {
        d->state = AT_EXTENSION_NAME;
        d->digits = 0; /* from here: bytes of this name or token */
    } else
        return "a chunk size line with a stray byte";
    return NULL;
}

static const char *take_size(struct http1_chunked *d, char c)
{
    if (is_class(c, HEX)) {
        if (++d->digits > SIZE_DIGITS_MAX || d->left > INT64_MAX >> 4)
            return "a chunk size out of bounds";
        d->left = d->left << 4 | (uint64_t)hex_value(c);
        return NULL;
    }
    return d->digits ? end_or_extension(d, c) : "a chunk without a size";
}

static const char *take_extension(struct http1_chunked *d, char c)
{
    if (++d->extension_bytes > EXTENSION_BYTES_MAX)
        return "chunk extensions without end";
    switch (d->state) {
    case AT_EXTENSION_NAME:
    case AT_EXTENSION_TOKEN:
        if (is_class(c, TOKEN)) {
            d->digits = 1;
            return NULL;
        }
        if (!d->digits)
            return "an empty chunk extension";
        if (c == '=' && d->state == AT_EXTENSION_NAME) {
            d->state = AT_EXTENSION_VALUE;
            return NULL;
        }
        return end_or_extension(d, c);
    case AT_EXTENSION_VALUE:
        d->state = c == '"' ? AT_QUOTED : AT_EXTENSION_TOKEN;
        return c == '"' || is_class(c, TOKEN) ? NULL : "a chunk extension without a value";
    case AT_QUOTED:
    case AT_QUOTED_ESCAPE:
        if (((unsigned char)c < 0x20 && c != '\t') || c == 0x7f)
            return "a control byte in a chunk extension";
        if (d->state == AT_QUOTED_ESCAPE)
            d->state = AT_QUOTED;
        else if (c == '"')
            d->state = AT_AFTER_QUOTED;
        else if (c == '\\')
            d->state = AT_QUOTED_ESCAPE;
        return NULL;
    default:
        return end_or_extension(d, c);
    }
}

static const char *take_framing(struct http1_chunked *d, char c)
{
    switch (d->state) {
    case AT_SIZE:
        return take_size(d, c);
    case AT_SIZE_LF:
        d->state = d->left ? AT_DATA : AT_TRAILER;
        return c == '\n' ? NULL : "a chunk size line that does not end in CR LF";
    case AT_DATA_CR:
        d->state = AT_DATA_LF;
        return c == '\r' ? NULL : "chunk data longer than its size";
    case AT_DATA_LF:
        d->state = AT_SIZE;
        d->digits = 0;
        return c == '\n' ? NULL : "chunk data that does not end in CR LF";
    default:
        return take_extension(d, c);
    }
}

enum http1_chunk http1_chunked_take(struct http1_chunked *decoder, struct slice *in, struct slice *data,
                                    const char **why)
{
    while (decoder->state != AT_TRAILER) {
        if (!in->len)
            return CHUNK_MORE;
        if (decoder->state == AT_DATA) {
            *data = slice_take(in, in->len < decoder->left ? in->len : (size_t)decoder->left);
            decoder->left -= data->len;
            if (!decoder->left)
                decoder->state = AT_DATA_CR;
            return CHUNK_DATA;
        }
        *why = take_framing(decoder, slice_take(in, 1).ptr[0]);
        if (*why)
            return CHUNK_BAD;
    }
    return CHUNK_TRAILER;
}

/* Framing, routing, authentication and what changes how the message is read have no business in a trailer. */
static bool allowed_in_trailer(const struct http_field *field)
{
    static const char *const refused[] = {
        "age",
        "authorization",
        "cache-control",
        "content-encoding",
        "content-range",
        "content-type",
        "expires",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "location",
        "max-forwards",
        "pragma",
        "proxy-authenticate",
        "range",
        "retry-after",
        "set-cookie",
        "if-unmodified-since",
        "vary",
        "proxy-authorization",
        "warning",
        "www-authenticate",
    };

    if (field->id != FIELD_OTHER || slice_find(field->name, '_') < field->name.len)
        return false;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (slice_equal_nocase(field->name, slice_from_text(refused[i])))
            return false;
    return true;
}

int64_t http1_parse_trailers(struct slice bytes, struct http_fields *fields, const char **why)
{
    struct http1_error error;
    size_t scanned = 0, end;
    unsigned kept = 0;

    fields->count = 0;
    if (bytes.len >= 2 && bytes.ptr[0] == '\r' && bytes.ptr[1] == '\n')
        return 2;
    end = bytes.len && bytes.ptr[0] == '\r' && bytes.len < 2 ? 0
                                                             : http1_head_end(bytes.ptr, bytes.len, &scanned);
    if (!end && bytes.len < HTTP1_TRAILER_MAX)
        return 0;
    *why = "a trailer section over the limit";
    if (!end || end > HTTP1_TRAILER_MAX)
        return -EBADMSG;
    if (parse_fields(slice_of(bytes.ptr, end), true, fields, &error) != 0) {
        *why = error.why;
        return -EBADMSG;
    }
    for (unsigned i = 0; i < fields->count; i++)
        if (allowed_in_trailer(&fields->at[i]))
            fields->at[kept++] = fields->at[i];
    fields->count = kept;
    return (int64_t)end;
}

size_t http1_chunk_head(char out[HTTP1_CHUNK_HEAD_MAX], uint64_t size)
{
    size_t digits = 1;

    while (digits < 16 && size >> (4 * digits))
        digits++;
    for (size_t i = 0; i < digits; i++)
        out[i] = "0123456789abcdef"[size >> (4 * (digits - 1 - i)) & 15];
    out[digits] = '\r';
    out[digits + 1] = '\n';
    return digits + 2;
}

static const struct {
    unsigned status;
    const char *reason;
} reasons[] = {
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {206, "Partial Content"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {417, "Expectation Failed"},
    {418, "I'm a teapot"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {425, "Too Early"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
};

const char *http_reason(unsigned status)
{
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "";
}
