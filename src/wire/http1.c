/* http1.c - heads; see http1.h.
 *
 * Fields that steer framing or routing are judged in one visible switch each for requests and answers.
 * Rows H01 to H39 of the attack checklist are tested by name in tests/system/. */
#include "wire/http1.h"

#include <errno.h>

#include "wire/http1_private.h"

/* ---- framing ----------------------------------------------------------------------------------------------- */

struct framing {
    unsigned n_lengths, n_codings;
    uint64_t length;
};

static int add_length(struct framing *framing, struct slice value, struct http1_error *error)
{
    if (framing->n_lengths++)
        return http1_refuse(error, 400, "more than one Content-Length");
    if (!slice_to_u64(value, &framing->length) || framing->length > INT64_MAX)
        return http1_refuse(error, 400, "a Content-Length that is no plain number");
    return 0;
}

/* Only "chunked" alone is spoken. Another coding is a 501, a list that cannot be framed a 400. */
static int add_coding(struct framing *framing, struct slice value, struct http1_error *error)
{
    struct slice list = value, part;
    unsigned parts = 0;
    bool chunked = false;

    if (framing->n_codings++)
        return http1_refuse(error, 400, "more than one Transfer-Encoding");
    while (slice_next_part(&list, ',', &part)) {
        if (!http1_all_of(part, TOKEN) || chunked)
            return http1_refuse(error, 400, "a Transfer-Encoding that frames no body");
        chunked = slice_equal_nocase(part, SLICE("chunked"));
        parts++;
    }
    if (!chunked || parts > 1)
        return http1_refuse(error, 501, "a transfer coding other than chunked");
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
            named.id = http1_field_id(part);
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

/* "HTTP/1.1" is all we speak; other well-formed versions of HTTP/1 are taken as what they promise to be like. */
static int parse_version(struct slice version, unsigned *minor, struct http1_error *error)
{
    if (slice_equal(version, SLICE("HTTP/1.1"))) {
        *minor = 1;
        return 0;
    }
    if (version.len != 8 || !slice_starts_with(version, SLICE("HTTP/")) || version.ptr[6] != '.' ||
        version.ptr[5] < '0' || version.ptr[5] > '9' || version.ptr[7] < '0' || version.ptr[7] > '9')
        return http1_refuse(error, 400, "a request line that does not end in an HTTP version");
    if (version.ptr[5] != '1')
        return http1_refuse(error, 505, "an HTTP version other than 1");
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
            if (!http1_is_class(rest.ptr[i], HEX) && rest.ptr[i] != ':' && rest.ptr[i] != '.')
                return false;
        host++;
    } else {
        host = http1_span(rest, HOST_BYTE);
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
    if (path.len - *i < 3 || !http1_is_class(path.ptr[*i + 1], HEX) || !http1_is_class(path.ptr[*i + 2], HEX))
        return -1;
    *i += 3;
    return http1_hex_value(path.ptr[*i - 2]) << 4 | http1_hex_value(path.ptr[*i - 1]);
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
            return http1_refuse(error, 400, "a broken percent escape in the path");
        if (c == 0 || is_overlong(before, c))
            return http1_refuse(error, 400, "an escaped NUL or overlong UTF-8 in the path");
        if (c == '/' || c == '\\') {
            if (bytes == dots && (dots == 1 || dots == 2))
                return http1_refuse(error, 400, "a dot segment in the path");
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
            return http1_refuse(error, 400, "a backslash in the path");
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

    if (!http1_all_of(target, TARGET))
        return http1_refuse(error, 400, "a byte that must not stand in a request target");
    if (request->method_id == METHOD_CONNECT)
        return http1_refuse(error, 405, "CONNECT is not served");
    if (starts_with_nocase(rest, SLICE("http://")) || starts_with_nocase(rest, SLICE("https://"))) {
        slice_drop(&rest, slice_find(rest, ':') + 3);
        size_t authority = 0;

        while (authority < rest.len && rest.ptr[authority] != '/' && rest.ptr[authority] != '?')
            authority++;
        request->authority = slice_take(&rest, authority);
        if (!authority_is_valid(request->authority))
            return http1_refuse(error, 400, "a request target with a bad authority");
    } else if (slice_equal(rest, SLICE("*"))) {
        if (request->method_id != METHOD_OPTIONS)
            return http1_refuse(error, 400, "the target * is for OPTIONS alone");
    } else if (rest.ptr[0] != '/') {
        return http1_refuse(error, 400, "a request target that is no path");
    }
    path = slice_find(rest, '?');
    request->path = path ? slice_of(rest.ptr, path) : SLICE("/"); /* "http://host?x" means "/?x" */
    if (path < rest.len)
        request->query = slice_of(rest.ptr + path + 1, rest.len - path - 1);
    return check_path(request, error);
}

static int parse_request_line(struct slice line, struct http_request *request, struct http1_error *error)
{
    size_t method = http1_span(line, TOKEN);
    size_t target;
    int bad;

    if (!method || method == line.len || line.ptr[method] != ' ')
        return http1_refuse(error, 400, "a request line without a method");
    request->method = slice_take(&line, method);
    request->method_id = http_method_of(request->method);
    slice_drop(&line, 1);
    target = slice_find(line, ' ');
    if (!target || target == line.len)
        return http1_refuse(error, 400, "a request line that is not method, target and version");
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
            return http1_refuse(error, 400, "more than one Upgrade");
        facts->upgrade = field->value;
        return 0;
    case FIELD_TE:
        field->hop_by_hop = true;
        for (struct slice list = field->value, part; slice_next_part(&list, ',', &part);)
            request->te_trailers |= slice_equal_nocase(part, SLICE("trailers"));
        return 0;
    case FIELD_EXPECT:
        if (!slice_equal_nocase(field->value, SLICE("100-continue")))
            return http1_refuse(error, 417, "an expectation other than 100-continue");
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
        return http1_refuse(error, 400, "more than one Host");
    if (facts->n_hosts == 0 && request->minor == 1)
        return http1_refuse(error, 400, "no Host");
    if (facts->n_hosts && !authority_is_valid(facts->host))
        return http1_refuse(error, 400, "a Host that is no host");
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
        return http1_refuse(error, 400, "both Content-Length and Transfer-Encoding");
    if (framing->n_codings && request->minor == 0)
        return http1_refuse(error, 400, "Transfer-Encoding in HTTP/1.0");
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
            return http1_refuse(error, 400, "an Upgrade with a body");
    }
    if (facts->connection.names > CONNECTION_NAMES_MAX)
        return http1_refuse(error, 400, "Connection names too many fields");
    if (facts->connection.names && !mark_named_fields(&request->fields))
        return http1_refuse(error, 400, "Connection names a field that must not be dropped");
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
    if (!http1_take_line(&in, &line))
        return http1_refuse(error, 400, "a request line that does not end in CR LF");
    if (line.len > limits->max_line)
        return http1_refuse(error, 414, "a request line over max-line");
    if (head.len > limits->max_head)
        return http1_refuse(error, 431, "a head over max-head");
    bad = parse_request_line(line, request, error);
    if (!bad)
        bad = http1_parse_fields(in, true, &request->fields, error);
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
        return http1_refuse(error, 502, "a status line that is not HTTP/1");
    if (line.len > 12 && line.ptr[12] != ' ')
        return http1_refuse(error, 502, "a status that is not three digits");
    response->minor = line.ptr[7] == '0' ? 0 : 1;
    response->status = (unsigned)status;
    response->reason = line.len > 13 ? slice_of(line.ptr + 13, line.len - 13) : slice_of(NULL, 0);
    if (!http1_value_is_clean(response->reason))
        return http1_refuse(error, 502, "a control byte in the status line");
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
        return http1_refuse(error, 502,
                            "an answer with Transfer-Encoding beside Content-Length or in HTTP/1.0");
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
    if (!http1_take_line(&in, &line))
        bad = http1_refuse(error, 502, "a status line that does not end in CR LF");
    else
        bad = parse_status_line(line, response, error);
    if (!bad)
        bad = http1_parse_fields(in, false, &response->fields, error);
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
        return http1_refuse(error, 502, "Connection names too many fields");
    if (connection.names)
        mark_named_fields(&response->fields); /* what is protected stays: a server's word cannot harm it */
    return 0;
}
