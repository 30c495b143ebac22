/* amqp.c - the protocol header, frames and reply codes; see amqp.h. */
#include "wire/amqp.h"

#include "wire/amqp_bytes.h"

#define NAME_BYTES 4 /* "AMQP" */

const char amqp_header[AMQP_HEADER_BYTES] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};

/* 0-9-1, 0-9 and 0-8, behind the name. */
static const char versions[][AMQP_HEADER_BYTES - NAME_BYTES] = {{0, 0, 9, 1}, {1, 1, 0, 9}, {1, 1, 8, 0}};

static bool is_version(const char *bytes)
{
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++)
        if (memcmp(bytes, versions[i], sizeof versions[i]) == 0)
            return true;
    return false;
}

enum amqp_header_result amqp_take_header(struct slice *in)
{
    size_t n = in->len < NAME_BYTES ? in->len : NAME_BYTES;

    if (n && memcmp(in->ptr, amqp_header, n) != 0)
        return AMQP_HEADER_BAD;
    if (in->len < AMQP_HEADER_BYTES)
        return AMQP_HEADER_MORE;
    if (!is_version(in->ptr + NAME_BYTES))
        return AMQP_HEADER_VERSION;
    slice_drop(in, AMQP_HEADER_BYTES);
    return AMQP_HEADER_OK;
}

void amqp_put_header(struct amqp_out *out)
{
    char *at = amqp_out_reserve(out, AMQP_HEADER_BYTES);

    if (at)
        memcpy(at, amqp_header, AMQP_HEADER_BYTES);
}

/* ---- frames -------------------------------------------------------------------------------------------------- */

static bool is_frame_type(uint8_t type)
{
    return (type >= AMQP_METHOD && type <= AMQP_BODY) || type == AMQP_HEARTBEAT;
}

/* NULL: the head of a frame is as it may be. */
static const char *fault_of(const struct amqp_frame *frame, uint32_t size,
                            const struct amqp_frame_limits *limits)
{
    uint32_t most = frame->type == AMQP_BODY ? limits->body : limits->method;

    assert(most >= AMQP_FRAME_MIN);
    if (frame->type == AMQP_HEARTBEAT && size)
        return "a heartbeat is not empty";
    return size > most ? "the frame is larger than is allowed" : NULL;
}

static enum amqp_result refuse(const char *fault, const char **why)
{
    *why = fault;
    return AMQP_BAD;
}

enum amqp_result amqp_take_frame(struct slice *in, const struct amqp_frame_limits *limits,
                                 struct amqp_frame *frame, const char **why)
{
    struct slice cur = *in;
    struct amqp_frame taken;
    const char *fault;
    uint32_t size;
    uint8_t type;

    if (!take_u8(&cur, &type))
        return AMQP_MORE;
    if (!is_frame_type(type))
        return refuse("there is no frame of that type", why);
    taken.type = (enum amqp_frame_type)type;
    if (!take_u16be(&cur, &taken.channel) || !take_u32be(&cur, &size))
        return AMQP_MORE;
    fault = fault_of(&taken, size, limits);
    if (fault)
        return refuse(fault, why);
    if (cur.len < (size_t)size + 1)
        return AMQP_MORE;
    taken.payload = slice_take(&cur, size);
    if (*cur.ptr != AMQP_FRAME_END)
        return refuse("the frame does not end where its size says", why);
    slice_drop(&cur, 1);
    *in = cur;
    *frame = taken;
    return AMQP_OK;
}

void amqp_put_frame_head(char at[AMQP_FRAME_HEAD], enum amqp_frame_type type, uint16_t channel,
                         uint32_t payload_bytes)
{
    at[0] = (char)type;
    put_u16be(at + 1, channel);
    put_u32be(at + 3, payload_bytes);
}

char *amqp_begin_frame(struct amqp_out *out)
{
    char *begin = out->at;

    amqp_out_reserve(out, AMQP_FRAME_HEAD);
    return begin;
}

enum amqp_written amqp_end_frame(struct amqp_out *out, char *begin, enum amqp_frame_type type,
                                 uint16_t channel)
{
    size_t payload_bytes = (size_t)(out->at - begin) - AMQP_FRAME_HEAD;
    char *end;

    if (out->result == AMQP_WRITTEN && payload_bytes > UINT32_MAX)
        out->result = AMQP_TOO_LONG;
    end = amqp_out_reserve(out, 1);
    if (end) {
        amqp_put_frame_head(begin, type, channel, (uint32_t)payload_bytes);
        *end = AMQP_FRAME_END;
    }
    return amqp_out_close(out, begin);
}

enum amqp_written amqp_put_method_frame(struct amqp_out *out, uint16_t channel,
                                        const struct amqp_method *method)
{
    char *begin = amqp_begin_frame(out);

    amqp_put_method(out, method);
    return amqp_end_frame(out, begin, AMQP_METHOD, channel);
}

enum amqp_written amqp_put_content_frame(struct amqp_out *out, uint16_t channel,
                                         const struct amqp_content *content)
{
    char *begin = amqp_begin_frame(out);

    amqp_put_content(out, content);
    return amqp_end_frame(out, begin, AMQP_CONTENT_HEADER, channel);
}

enum amqp_written amqp_put_body_frame(struct amqp_out *out, uint16_t channel, struct slice body)
{
    char *begin = amqp_begin_frame(out);
    char *at = amqp_out_reserve(out, body.len);

    if (at)
        put_slice(at, body);
    return amqp_end_frame(out, begin, AMQP_BODY, channel);
}

enum amqp_written amqp_put_heartbeat(struct amqp_out *out)
{
    return amqp_end_frame(out, amqp_begin_frame(out), AMQP_HEARTBEAT, 0);
}

/* ---- reply codes --------------------------------------------------------------------------------------------- */

static const struct {
    unsigned code;
    const char *name;
    enum amqp_reply_scope scope;
} replies[] = {
    {AMQP_SUCCESS, "OK", AMQP_ENDS_NOTHING},
    {AMQP_CONTENT_TOO_LARGE, "CONTENT_TOO_LARGE", AMQP_ENDS_CHANNEL},
    {AMQP_NO_ROUTE, "NO_ROUTE", AMQP_ENDS_NOTHING},
    {AMQP_NO_CONSUMERS, "NO_CONSUMERS", AMQP_ENDS_NOTHING},
    {AMQP_CONNECTION_FORCED, "CONNECTION_FORCED", AMQP_ENDS_CONNECTION},
    {AMQP_INVALID_PATH, "INVALID_PATH", AMQP_ENDS_CONNECTION},
    {AMQP_ACCESS_REFUSED, "ACCESS_REFUSED", AMQP_ENDS_CHANNEL},
    {AMQP_NOT_FOUND, "NOT_FOUND", AMQP_ENDS_CHANNEL},
    {AMQP_RESOURCE_LOCKED, "RESOURCE_LOCKED", AMQP_ENDS_CHANNEL},
    {AMQP_PRECONDITION_FAILED, "PRECONDITION_FAILED", AMQP_ENDS_CHANNEL},
    {AMQP_FRAME_ERROR, "FRAME_ERROR", AMQP_ENDS_CONNECTION},
    {AMQP_SYNTAX_ERROR, "SYNTAX_ERROR", AMQP_ENDS_CONNECTION},
    {AMQP_COMMAND_INVALID, "COMMAND_INVALID", AMQP_ENDS_CONNECTION},
    {AMQP_CHANNEL_ERROR, "CHANNEL_ERROR", AMQP_ENDS_CONNECTION},
    {AMQP_UNEXPECTED_FRAME, "UNEXPECTED_FRAME", AMQP_ENDS_CONNECTION},
    {AMQP_RESOURCE_ERROR, "RESOURCE_ERROR", AMQP_ENDS_CONNECTION},
    {AMQP_NOT_ALLOWED, "NOT_ALLOWED", AMQP_ENDS_CONNECTION},
    {AMQP_NOT_IMPLEMENTED, "NOT_IMPLEMENTED", AMQP_ENDS_CONNECTION},
    {AMQP_INTERNAL_ERROR, "INTERNAL_ERROR", AMQP_ENDS_CONNECTION},
};

const char *amqp_reply_name(unsigned code)
{
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++)
        if (replies[i].code == code)
            return replies[i].name;
    return NULL;
}

enum amqp_reply_scope amqp_reply_scope(unsigned code)
{
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++)
        if (replies[i].code == code)
            return replies[i].scope;
    return AMQP_ENDS_CONNECTION;
}

/* Of UTF-8: it goes on with the character before it. */
static bool is_inside_character(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

struct slice amqp_clip(struct slice text)
{
    size_t n = AMQP_SHORT_TEXT_MAX;

    if (text.len <= n)
        return text;
    for (unsigned i = 0; i < 3 && is_inside_character(text.ptr[n]); i++)
        n--;
    return slice_of(text.ptr, n);
}
