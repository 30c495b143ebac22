/* http1_chunked.c - bodies in chunks: their sizes, extensions and trailers; see http1.h. */
#include <errno.h>

#include "wire/http1_private.h"

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
    if (http1_is_class(c, HEX)) {
        if (++d->digits > SIZE_DIGITS_MAX || d->left > INT64_MAX >> 4)
            return "a chunk size out of bounds";
        d->left = d->left << 4 | (uint64_t)http1_hex_value(c);
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
        if (http1_is_class(c, TOKEN)) {
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
        return c == '"' || http1_is_class(c, TOKEN) ? NULL : "a chunk extension without a value";
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
    if (http1_parse_fields(slice_of(bytes.ptr, end), true, fields, &error) != 0) {
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
