/* fuzz_request_head.c - any bytes as a request's head. What is accepted is one whole head without a control byte, it
 * has one framing at the most, and what we would send on for it means the same to the same parser. */
#include <errno.h>

#include "exact.h"
#include "http/head.h"

#define HEAD_MAX 2048 /* what is sent on must fit in one block: there is no stream behind the output */
#define FIELDS_MAX 64

static const struct http1_limits limits = {.max_line = 1024, .max_head = HEAD_MAX};
static const struct http1_limits no_limits = {.max_line = SIZE_MAX, .max_head = SIZE_MAX};

struct parsed {
    struct http_field at[2 * FIELDS_MAX];
    struct http_request request;
};

static int parse(struct slice head, const struct http1_limits *limit, unsigned max, struct parsed *p,
                 struct http1_error *error)
{
    p->request.fields = (struct http_fields){.at = p->at, .max = max};
    return http1_parse_request(head, limit, &p->request, error);
}

static bool has_control(struct slice s, bool tab_too)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];

        if ((c < 0x20 && (tab_too || c != '\t')) || c == 0x7f)
            return true;
    }
    return false;
}

static bool has_byte(struct slice s, char c)
{
    return slice_find(s, c) < s.len;
}

static bool lies_within(struct slice inner, struct slice outer)
{
    return !inner.len || (inner.ptr >= outer.ptr && inner.ptr + inner.len <= outer.ptr + outer.len);
}

static void check_fields(const struct http_request *r, struct slice head)
{
    for (unsigned i = 0; i < r->fields.count; i++) {
        const struct http_field *field = &r->fields.at[i];

        assert(lies_within(field->name, head) && lies_within(field->value, head));
        assert(field->name.len && !has_control(field->name, true) && !has_byte(field->name, ' ') &&
               !has_byte(field->name, ':') && !has_byte(field->name, '_'));
        assert(!has_control(field->value, false));
        assert(slice_equal(slice_trim(field->value), field->value));
    }
}

static void check_accepted(const struct http_request *r, struct slice head)
{
    size_t scanned = 0;

    assert(http1_head_end(head.ptr, head.len, &scanned) == head.len);
    assert(r->body.kind == BODY_NONE || r->body.kind == BODY_LENGTH || r->body.kind == BODY_CHUNKED);
    assert(r->body.length <= INT64_MAX && (r->body.kind == BODY_LENGTH || !r->body.length));
    assert(r->method.len && r->path.len && (r->path.ptr[0] == '/' || slice_equal(r->path, SLICE("*"))));
    assert(!has_control(r->path, true) && !has_byte(r->path, ' ') && !has_byte(r->path, '?') &&
           !has_byte(r->path, '#'));
    assert(!has_control(r->query, true) && !has_byte(r->query, ' ') && !has_byte(r->query, '#'));
    assert(r->authority.len || r->minor == 0);
    assert(!r->upgrade.len || (r->minor == 1 && (r->body.kind == BODY_NONE || !r->body.length)));
    assert(r->minor == 1 || (r->body.kind != BODY_CHUNKED && !r->expect_continue));
    check_fields(r, head);
}

static unsigned count_framings(const struct http_request *r)
{
    unsigned n = 0;

    for (unsigned i = 0; i < r->fields.count; i++)
        n += r->fields.at[i].id == FIELD_CONTENT_LENGTH || r->fields.at[i].id == FIELD_TRANSFER_ENCODING;
    return n;
}

static bool same(struct slice a, struct slice b)
{
    return !a.ptr == !b.ptr && slice_equal(a, b);
}

/* b is what a became on its way through us. */
static void check_same_meaning(const struct http_request *a, const struct http_request *b,
                               const struct head_forwarding *f)
{
    assert(same(a->method, b->method) && a->method_id == b->method_id);
    assert(same(a->path, b->path) && same(a->query, b->query) && a->path_is_plain == b->path_is_plain);
    assert(slice_equal(b->authority, a->authority.len ? a->authority : f->default_host));
    assert(a->body.kind == b->body.kind && a->body.length == b->body.length);
    assert(count_framings(b) == (a->body.kind == BODY_NONE ? 0 : 1));
    assert(b->minor == 1 && b->keep_alive);
    assert(slice_equal(a->upgrade, b->upgrade));
    assert(b->te_trailers == (a->te_trailers && !a->upgrade.len));
    assert(b->expect_continue == (a->expect_continue && f->expect_continue));
}

static void check_passed_on(const struct http_request *r, bool trusted, bool expect)
{
    struct head_forwarding f = {
        .peer = SLICE("192.0.2.1"),
        .trusted = trusted,
        .request_id = SLICE("0123456789abcdef"),
        .path = r->path,
        .default_host = SLICE("server:80"),
        .expect_continue = expect && r->expect_continue,
    };
    struct http_output out = {0};
    struct http1_error error;
    struct parsed again;
    struct slice head;

    head_put_request(&out, r, &f);
    assert(!out.error && out.len);
    head = exact_copy(slice_of(out.block, out.len));
    output_drop(&out);
    assert(parse(head, &no_limits, 2 * FIELDS_MAX, &again, &error) == 0);
    check_accepted(&again.request, head);
    check_same_meaning(r, &again.request, &f);
    exact_free(head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice head = exact_copy(slice_of((const char *)data, size));
    struct http1_error error = {0};
    struct parsed p;
    int result = parse(head, &limits, FIELDS_MAX, &p, &error);

    if (result == 0) {
        check_accepted(&p.request, head);
        check_passed_on(&p.request, false, false);
        check_passed_on(&p.request, true, true);
    } else {
        assert(result == -EBADMSG && error.why && *http_reason(error.status) && error.status >= 400);
    }
    exact_free(head);
    return 0;
}
