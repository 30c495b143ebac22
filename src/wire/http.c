/* http.c - see http.h. */
#include "wire/http.h"

static const struct {
    const char *name;
    enum http_method id;
} methods[] = {
    {"GET", METHOD_GET},     {"HEAD", METHOD_HEAD},       {"POST", METHOD_POST},
    {"PUT", METHOD_PUT},     {"DELETE", METHOD_DELETE},   {"PATCH", METHOD_PATCH},
    {"TRACE", METHOD_TRACE}, {"OPTIONS", METHOD_OPTIONS}, {"CONNECT", METHOD_CONNECT},
};

enum http_method http_method_of(struct slice method)
{
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (slice_equal(method, slice_from_text(methods[i].name)))
            return methods[i].id;
    return METHOD_OTHER;
}

const struct http_field *http_field_find(const struct http_fields *fields, struct slice name)
{
    for (unsigned i = 0; i < fields->count; i++)
        if (slice_equal_nocase(fields->at[i].name, name))
            return &fields->at[i];
    return NULL;
}

/* One cookie-pair or parameter "NAME=VALUE"; *value is empty, but not NULL, when there is no '='. */
static void split_pair(struct slice pair, struct slice *name, struct slice *value)
{
    size_t at = slice_find(pair, '=');

    *name = slice_of(pair.ptr, at);
    *value = at < pair.len ? slice_of(pair.ptr + at + 1, pair.len - at - 1) : slice_of(pair.ptr + at, 0);
}

/* A cookie without '=' has no name that could be asked for (RFC 6265 section 5.2). */
static bool cookie_find_in(struct slice list, struct slice name, struct slice *value)
{
    struct slice pair;

    while (slice_next_part(&list, ';', &pair)) {
        struct slice its_name, its_value;

        split_pair(pair, &its_name, &its_value);
        if (its_name.len == pair.len || !slice_equal(slice_trim(its_name), name))
            continue;
        *value = slice_trim(its_value);
        return true;
    }
    return false;
}

/* Cookies may come in several fields: HTTP/2 sends them in crumbs. */
bool http_cookie_find(const struct http_fields *fields, struct slice name, struct slice *value)
{
    for (unsigned i = 0; i < fields->count; i++)
        if (fields->at[i].id == FIELD_COOKIE && cookie_find_in(fields->at[i].value, name, value))
            return true;
    return false;
}

/* Not with slice_next_part: it trims, and here every byte counts. */
bool http_query_find(struct slice query, struct slice name, struct slice *value)
{
    while (query.len) {
        struct slice pair = slice_take(&query, slice_find(query, '&'));
        struct slice its_name, its_value;

        if (query.len)
            slice_drop(&query, 1);
        split_pair(pair, &its_name, &its_value);
        if (!pair.len || !slice_equal(its_name, name))
            continue;
        *value = its_value;
        return true;
    }
    return false;
}

struct slice http_host_of(struct slice authority)
{
    if (authority.len && authority.ptr[0] == '[') {
        size_t end = slice_find(authority, ']');

        return slice_of(authority.ptr, end < authority.len ? end + 1 : end);
    }
    return slice_of(authority.ptr, slice_find(authority, ':'));
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
