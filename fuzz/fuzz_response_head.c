/* fuzz_response_head.c - any bytes as an answer's head; the first says what was asked. What is accepted is one whole
 * head without a control byte, and what we would send on for it means the same to the same parser. */
#include <errno.h>

#include "exact.h"
#include "http/head.h"

#define HEAD_MAX 4096 /* what is sent on must fit in one block: there is no stream behind the output */
#define FIELDS_MAX 64

struct parsed {
    struct http_field at[2 * FIELDS_MAX];
    struct http_response response;
};

static int parse(struct slice head, enum http_method asked, unsigned max, struct parsed *p,
                 struct http1_error *error)
{
    p->response.fields = (struct http_fields){.at = p->at, .max = max};
    return http1_parse_response(head, asked, &p->response, error);
}

static bool has_control(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];

        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return true;
    }
    return false;
}

static void check_accepted(const struct http_response *r, struct slice head, enum http_method asked)
{
    bool bodiless = asked == METHOD_HEAD || r->status < 200 || r->status == 204 || r->status == 304;
    size_t scanned = 0;

    assert(http1_head_end(head.ptr, head.len, &scanned) == head.len);
    assert(r->status >= 100 && r->status <= 999 && !has_control(r->reason));
    assert(bodiless == (r->body.kind == BODY_NONE));
    assert(r->body.kind != BODY_LENGTH || r->length_given);
    assert(r->body.kind != BODY_CHUNKED || (!r->length_given && r->minor == 1));
    assert(r->body.length <= INT64_MAX && (r->length_given || !r->body.length));
    for (unsigned i = 0; i < r->fields.count; i++) {
        assert(r->fields.at[i].name.len && !has_control(r->fields.at[i].name));
        assert(!has_control(r->fields.at[i].value));
    }
}

/* Fields that go on as they came. */
static unsigned count_others(const struct http_response *r)
{
    unsigned n = 0;

    for (unsigned i = 0; i < r->fields.count; i++) {
        const struct http_field *field = &r->fields.at[i];

        n += !field->hop_by_hop && field->id != FIELD_CONTENT_LENGTH &&
             field->id != FIELD_TRANSFER_ENCODING && field->id != FIELD_DATE;
    }
    return n;
}

static bool has_id(const struct http_response *r, enum http_field_id id)
{
    for (unsigned i = 0; i < r->fields.count; i++)
        if (r->fields.at[i].id == id)
            return true;
    return false;
}

static struct slice taken(struct http_output *out)
{
    struct slice head;

    assert(!out->error && out->len);
    head = exact_copy(slice_of(out->block, out->len));
    output_drop(out);
    return head;
}

/* To a client of 1.1, as the exchange frames it. */
static void check_passed_on(const struct http_response *r, enum http_method asked, bool close)
{
    struct head_answer answer = {
        .framing = r->body.kind == BODY_UNTIL_CLOSE ? BODY_CHUNKED : r->body.kind,
        .length = r->body.length,
        .length_given = r->length_given,
        .close = close && r->status != 101,
        .date = SLICE("Thu, 01 Jan 1970 00:00:00 GMT"),
    };
    struct http_output out = {0};
    struct http1_error error;
    struct parsed again;
    struct slice head;

    head_put_response(&out, r, &answer);
    head = taken(&out);
    assert(parse(head, asked, 2 * FIELDS_MAX, &again, &error) == 0);
    check_accepted(&again.response, head, asked);
    assert(again.response.status == r->status && slice_equal(again.response.reason, r->reason));
    assert(again.response.body.kind == answer.framing && again.response.body.length == r->body.length);
    assert(again.response.length_given == r->length_given && again.response.minor == 1);
    assert(again.response.keep_alive == !answer.close);
    assert(r->status != 101 || slice_equal(again.response.upgrade, r->upgrade));
    assert(count_others(&again.response) == count_others(r));
    assert(has_id(&again.response, FIELD_DATE));
    exact_free(head);
}

static void check_interim(const struct http_response *r, enum http_method asked)
{
    struct http_output out = {0};
    struct http1_error error;
    struct parsed again;
    struct slice head;

    head_put_interim(&out, r);
    head = taken(&out);
    assert(parse(head, asked, 2 * FIELDS_MAX, &again, &error) == 0);
    assert(again.response.status == r->status && !again.response.length_given);
    assert(count_others(&again.response) == count_others(r));
    exact_free(head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum http_method asked = size && data[0] & 1 ? METHOD_HEAD : METHOD_GET;
    struct http1_error error = {0};
    struct parsed p;
    struct slice head;
    int result;

    if (size < 1 || size > HEAD_MAX)
        return 0;
    head = exact_copy(slice_of((const char *)data + 1, size - 1));
    result = parse(head, asked, FIELDS_MAX, &p, &error);
    if (result == 0) {
        check_accepted(&p.response, head, asked);
        check_passed_on(&p.response, asked, data[0] & 2);
        if (p.response.status < 200)
            check_interim(&p.response, asked);
    } else {
        assert(result == -EBADMSG && error.why && error.status == 502);
    }
    exact_free(head);
    return 0;
}
