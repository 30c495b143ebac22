/* head.c - see head.h. */
#include "http/head.h"

#include <errno.h>
#include <string.h>

#include "base/slab.h"

/* Room wanted behind a head for the body, so that it does not arrive in crumbs. */
#define BODY_ROOM_MIN 4096u

/* ---- reading ----------------------------------------------------------------------------------------------- */

/* False: what is left may be half of one. */
static bool skip_empty_lines(struct http_input *in)
{
    while (in->end - in->start >= 2 && in->block[in->start] == '\r' && in->block[in->start + 1] == '\n')
        in->start += 2;
    return in->end - in->start != 1 || in->block[in->start] != '\r';
}

static void move_to_front(struct http_input *in)
{
    if (!in->start)
        return;
    memmove(in->block, in->block + in->start, in->end - in->start);
    in->end -= in->start;
    in->start = 0;
}

/* Makes room for more of a head that is not whole yet. */
static int make_room(struct http_input *in, size_t max)
{
    if (in->end < in->room)
        return 0;
    move_to_front(in);
    if (in->end < in->room)
        return 0;
    return input_grow(in, max + BODY_ROOM_MIN);
}

static int keep_head(struct http_input *in, size_t len, struct slice *head)
{
    if (in->room - in->start - len < BODY_ROOM_MIN) {
        int error;

        move_to_front(in);
        error = in->room - len < BODY_ROOM_MIN ? input_grow(in, len + SLAB_BYTES) : 0;
        if (error)
            return error;
    }
    *head = slice_of(in->block + in->start, len);
    input_take(in, len);
    in->keep = in->start;
    return 0;
}

int head_read(struct http_input *in, size_t max, uint64_t deadline_us, struct slice *head)
{
    size_t scanned = 0;
    int error = input_open(in);

    in->keep = 0;
    while (!error) {
        bool begun = scanned || skip_empty_lines(in);
        struct slice bytes = input_bytes(in);
        size_t len = begun ? http1_head_end(bytes.ptr, bytes.len, &scanned) : 0;
        ssize_t n;

        if (len)
            return keep_head(in, len, head);
        if (bytes.len > max)
            return -EMSGSIZE;
        error = make_room(in, max);
        if (error)
            break;
        n = input_fill(in, deadline_us);
        if (n == 0)
            return input_empty(in) ? -ENODATA : -ECONNRESET;
        error = n < 0 ? (int)n : 0;
    }
    return error;
}

/* ---- writing ----------------------------------------------------------------------------------------------- */

static inline void put_field(struct http_output *out, struct slice name, struct slice value)
{
    output_put(out, name);
    output_put(out, SLICE(": "));
    output_put(out, value);
    output_put(out, SLICE("\r\n"));
}

/* The field's own line, where it came exactly as we would write it, CR LF and all; else nothing. */
static struct slice line_as_sent(const struct http_field *field)
{
    const char *name_end = field->name.ptr + field->name.len;
    const char *value_end = field->value.ptr + field->value.len;

    if (field->value.ptr != name_end + 2 || memcmp(name_end, ": ", 2) != 0 ||
        memcmp(value_end, "\r\n", 2) != 0)
        return slice_of(NULL, 0);
    return slice_of(field->name.ptr, (size_t)(value_end + 2 - field->name.ptr));
}

/* Fields that pass on, gathered as long as their lines stand side by side. */
struct run {
    struct http_output *out;
    struct slice lines;
};

static void run_flush(struct run *run)
{
    output_put(run->out, run->lines);
    run->lines.len = 0;
}

static void run_add(struct run *run, const struct http_field *field)
{
    struct slice line = line_as_sent(field);

    if (line.len && run->lines.len && run->lines.ptr + run->lines.len == line.ptr) {
        run->lines.len += line.len;
        return;
    }
    run_flush(run);
    if (line.len)
        run->lines = line;
    else
        put_field(run->out, field->name, field->value);
}

static void put_framing(struct http_output *out, enum http_body_kind kind, uint64_t length, bool length_given)
{
    if (kind == BODY_CHUNKED) {
        output_put(out, SLICE("Transfer-Encoding: chunked\r\n"));
    } else if (kind == BODY_LENGTH || length_given) {
        output_put(out, SLICE("Content-Length: "));
        output_put_u64(out, length);
        output_put(out, SLICE("\r\n"));
    }
}

static void put_peer_node(struct http_output *out, const struct head_forwarding *f)
{
    if (f->peer_is_v6) {
        output_put(out, SLICE("\"["));
        output_put(out, f->peer);
        output_put(out, SLICE("]\""));
    } else {
        output_put(out, f->peer);
    }
}

/* "name: a, b" over all lines of that field, with a comma at the end when more follows; nothing when untrusted. */
static void put_earlier(struct http_output *out, const struct http_request *request, enum http_field_id id)
{
    for (unsigned i = 0; i < request->fields.count; i++) {
        const struct http_field *field = &request->fields.at[i];

        if (field->id != id || !field->value.len)
            continue;
        output_put(out, field->value);
        output_put(out, SLICE(", "));
    }
}

static bool has_field(const struct http_request *request, enum http_field_id id)
{
    for (unsigned i = 0; i < request->fields.count; i++)
        if (request->fields.at[i].id == id)
            return true;
    return false;
}

/* Who asked, and how: from what is trusted, else from what we saw ourselves. */
static void put_origin_of_request(struct http_output *out, const struct http_request *request,
                                  struct slice host, const struct head_forwarding *f)
{
    bool keep = f->trusted;

    output_put(out, SLICE("X-Forwarded-For: "));
    if (keep)
        put_earlier(out, request, FIELD_X_FORWARDED_FOR);
    output_put(out, f->peer);
    if (!keep || !has_field(request, FIELD_X_FORWARDED_PROTO))
        output_put(out, SLICE("\r\nX-Forwarded-Proto: http"));
    if (!keep || !has_field(request, FIELD_X_FORWARDED_HOST)) {
        output_put(out, SLICE("\r\nX-Forwarded-Host: "));
        output_put(out, host);
    }
    output_put(out, SLICE("\r\nForwarded: "));
    if (keep)
        put_earlier(out, request, FIELD_FORWARDED);
    output_put(out, SLICE("for="));
    put_peer_node(out, f);
    output_put(out, SLICE(";host=\""));
    output_put(out, host);
    output_put(out, SLICE("\";proto=http\r\nX-Request-Id: "));
    output_put(out, f->request_id);
    output_put(out,
               request->minor == 0 ? SLICE("\r\nVia: 1.0 maitred\r\n") : SLICE("\r\nVia: 1.1 maitred\r\n"));
}

/* Whether a request's field goes on as it came. What is left out is written anew, or ends here. */
static bool passes_on(const struct http_field *field, const struct head_forwarding *f)
{
    if (field->hop_by_hop)
        return false;
    switch (field->id) {
    case FIELD_HOST:
    case FIELD_CONTENT_LENGTH:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_X_FORWARDED_FOR:
    case FIELD_FORWARDED:
    case FIELD_X_REQUEST_ID:
        return false;
    case FIELD_EXPECT:
        return f->expect_continue;
    case FIELD_X_FORWARDED_HOST:
    case FIELD_X_FORWARDED_PROTO:
    case FIELD_X_FORWARDED_OTHER:
    case FIELD_X_REAL_IP:
        return f->trusted;
    default:
        return true;
    }
}

static inline void put_request_line(struct http_output *out, const struct http_request *request,
                                    struct slice path, struct slice host)
{
    output_put(out, request->method);
    output_put(out, SLICE(" "));
    output_put(out, path);
    if (request->query.ptr) {
        output_put(out, SLICE("?"));
        output_put(out, request->query);
    }
    output_put(out, SLICE(" HTTP/1.1\r\nHost: "));
    output_put(out, host);
    output_put(out, SLICE("\r\n"));
}

void head_put_request(struct http_output *out, const struct http_request *request,
                      const struct head_forwarding *f)
{
    struct slice host = request->authority.len ? request->authority : f->default_host;
    struct run run = {.out = out};

    put_request_line(out, request, f->path, host);
    for (unsigned i = 0; i < request->fields.count; i++)
        if (passes_on(&request->fields.at[i], f))
            run_add(&run, &request->fields.at[i]);
    run_flush(&run);
    put_origin_of_request(out, request, host, f);
    put_framing(out, request->body.kind, request->body.length, false);
    if (request->upgrade.len) {
        put_field(out, SLICE("Upgrade"), request->upgrade);
        output_put(out, SLICE("Connection: upgrade\r\n"));
    } else if (request->te_trailers) {
        output_put(out, SLICE("TE: trailers\r\nConnection: TE\r\n"));
    }
    output_put(out, SLICE("\r\n"));
}

/* By its name: a field from memory may have no id. */
static bool is_our_own_affair(struct slice name)
{
    switch (http1_field_id(name)) {
    case FIELD_CONNECTION:
    case FIELD_CONTENT_LENGTH:
    case FIELD_EXPECT:
    case FIELD_HOST:
    case FIELD_HTTP2_SETTINGS:
    case FIELD_KEEP_ALIVE:
    case FIELD_PROXY_CONNECTION:
    case FIELD_TE:
    case FIELD_TRAILER:
    case FIELD_TRANSFER_ENCODING:
    case FIELD_UPGRADE:
        return true;
    default:
        return false;
    }
}

void head_put_own_request(struct http_output *out, const struct http_request *request,
                          struct slice default_host)
{
    put_request_line(out, request, request->path, request->authority.len ? request->authority : default_host);
    for (unsigned i = 0; i < request->fields.count; i++) {
        const struct http_field *field = &request->fields.at[i];

        if (!field->hop_by_hop && !is_our_own_affair(field->name))
            put_field(out, field->name, field->value);
    }
    put_framing(out, request->body.kind, request->body.length, false);
    output_put(out, SLICE("\r\n"));
}

static void put_status_line(struct http_output *out, const struct http_response *response)
{
    char status[3] = {(char)('0' + response->status / 100), (char)('0' + response->status / 10 % 10),
                      (char)('0' + response->status % 10)};

    output_put(out, SLICE("HTTP/1.1 "));
    output_put(out, slice_of(status, sizeof status));
    output_put(out, SLICE(" "));
    output_put(out, response->reason);
    output_put(out, SLICE("\r\n"));
}

static bool put_response_fields(struct http_output *out, const struct http_response *response)
{
    struct run run = {.out = out};
    bool dated = false;

    for (unsigned i = 0; i < response->fields.count; i++) {
        const struct http_field *field = &response->fields.at[i];

        if (field->hop_by_hop || field->id == FIELD_CONTENT_LENGTH || field->id == FIELD_TRANSFER_ENCODING)
            continue;
        dated |= field->id == FIELD_DATE;
        run_add(&run, field);
    }
    run_flush(&run);
    return dated;
}

void head_put_response(struct http_output *out, const struct http_response *response,
                       const struct head_answer *answer)
{
    put_status_line(out, response);
    if (!put_response_fields(out, response))
        put_field(out, SLICE("Date"), answer->date);
    put_framing(out, answer->framing, answer->length, answer->length_given);
    if (response->upgrade.len && (response->status == 101 || response->status == 426)) {
        put_field(out, SLICE("Upgrade"), response->upgrade);
        if (response->status == 101 || !answer->close)
            output_put(out, SLICE("Connection: upgrade\r\n"));
    }
    if (answer->close)
        output_put(out, SLICE("Connection: close\r\n"));
    else if (answer->say_keep_alive)
        output_put(out, SLICE("Connection: keep-alive\r\n"));
    output_put(out, SLICE("\r\n"));
}

void head_put_interim(struct http_output *out, const struct http_response *response)
{
    put_status_line(out, response);
    put_response_fields(out, response);
    output_put(out, SLICE("\r\n"));
}
