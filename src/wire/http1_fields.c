/* http1_fields.c - the lines of a head: find the LF, demand the CR before it, split at the colon, check every byte
 * against a table. */
#include <errno.h>

#include "wire/http1_private.h"

/* ---- bytes ------------------------------------------------------------------------------------------------- */

#define CLASS_DIGIT (TOKEN | HOST_BYTE | TARGET | HEX)
#define CLASS_HEX_LETTER (TOKEN | HOST_BYTE | TARGET | HEX)
#define CLASS_LETTER (TOKEN | HOST_BYTE | TARGET)

const unsigned char http1_class_of[256] = {
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

bool http1_field_is_proper(struct slice name, struct slice value)
{
    return http1_all_of(name, TOKEN) && http1_value_is_clean(value);
}

/* Eight bytes at a time: some byte is below 0x20 or is 0x7f. */
bool http1_value_is_clean(struct slice s)
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

enum http_field_id http1_field_id(struct slice name)
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

int http1_refuse(struct http1_error *error, unsigned status, const char *why)
{
    *error = (struct http1_error){status, why};
    return -EBADMSG;
}

bool http1_take_line(struct slice *in, struct slice *line)
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
    size_t name = http1_span(line, TOKEN);

    if (name == 0 || name == line.len || line.ptr[name] != ':') {
        if (line.len && (line.ptr[0] == ' ' || line.ptr[0] == '\t'))
            return http1_refuse(error, 400, "a folded or indented field line");
        return http1_refuse(error, 400, "a field line without a proper name and colon");
    }
    field->name = slice_of(line.ptr, name);
    field->value = slice_trim(slice_of(line.ptr + name + 1, line.len - name - 1));
    field->hop_by_hop = false;
    if (!http1_value_is_clean(field->value))
        return http1_refuse(error, 400, "a control byte in a field value");
    field->id = http1_field_id(field->name);
    return 0;
}

int http1_parse_fields(struct slice in, bool drop_underscores, struct http_fields *fields,
                       struct http1_error *error)
{
    struct slice line;

    fields->count = 0;
    for (;;) {
        int bad;

        if (!http1_take_line(&in, &line))
            return http1_refuse(error, 400, "a field line that does not end in CR LF");
        if (!line.len)
            break;
        if (fields->count == fields->max)
            return http1_refuse(error, 431, "too many fields");
        bad = parse_field(line, &fields->at[fields->count], error);
        if (bad)
            return bad;
        if (drop_underscores &&
            slice_find(fields->at[fields->count].name, '_') < fields->at[fields->count].name.len)
            continue;
        fields->count++;
    }
    return in.len == 0 ? 0 : http1_refuse(error, 400, "bytes after the end of the head");
}
