/* test_amqp.c - wire/amqp.h: the protocol header, frames, reply codes. What is cut short waits, what is wrong is refused
 * as soon as it shows, and what does not fit is not there in part. */
#include "amqp_kit.h"
#include "wire/amqp.h"

static const struct amqp_frame_limits limits = {.body = 4096, .method = 8192};

/* ---- the protocol header ------------------------------------------------------------------------------------ */

static void assert_header(struct slice bytes, enum amqp_header_result expected)
{
    struct slice copy = exact(bytes), in = copy;

    assert_int_equal(amqp_take_header(&in), expected);
    assert_int_equal(copy.len - in.len, expected == AMQP_HEADER_OK ? AMQP_HEADER_BYTES : 0);
    drop(copy);
}

static void a_protocol_header_is_taken_off_what_follows(void **state)
{
    (void)state;
    assert_header(SLICE("AMQP\0\0\x09\x01"), AMQP_HEADER_OK);
    assert_header(SLICE("AMQP\0\0\x09\x01rest"), AMQP_HEADER_OK);
    assert_header(SLICE("AMQP\1\1\0\x09"), AMQP_HEADER_OK);
    assert_header(SLICE("AMQP\1\1\x08\0"), AMQP_HEADER_OK);
    for (size_t n = 0; n < AMQP_HEADER_BYTES; n++)
        assert_header(slice_of(amqp_header, n), AMQP_HEADER_MORE);
}

static void another_version_is_told_from_what_is_no_amqp(void **state)
{
    (void)state;
    assert_header(SLICE("AMQP\0\1\0\0"), AMQP_HEADER_VERSION);
    assert_header(SLICE("AMQP\3\1\0\0"), AMQP_HEADER_VERSION);
    assert_header(SLICE("AMQP\1\1\0\x0a"), AMQP_HEADER_VERSION);
    assert_header(SLICE("AMQP\1\1\0"), AMQP_HEADER_MORE);
    assert_header(SLICE("G"), AMQP_HEADER_BAD);
    assert_header(SLICE("\x16"), AMQP_HEADER_BAD);
    assert_header(SLICE("AMQX"), AMQP_HEADER_BAD);
    assert_header(SLICE("amqp\0\0\x09\x01"), AMQP_HEADER_BAD);
}

static void a_protocol_header_is_put_as_it_is_taken(void **state)
{
    struct sheet sheet = sheet_of(AMQP_HEADER_BYTES), narrow = sheet_of(AMQP_HEADER_BYTES - 1);

    (void)state;
    amqp_put_header(&sheet.out);
    assert_int_equal(amqp_out_close(&sheet.out, sheet.block), AMQP_WRITTEN);
    assert_header(sheet_bytes(&sheet), AMQP_HEADER_OK);
    amqp_put_header(&narrow.out);
    assert_int_equal(amqp_out_close(&narrow.out, narrow.block), AMQP_FULL);
    free(sheet.block);
    free(narrow.block);
}

/* ---- frames that are taken ---------------------------------------------------------------------------------- */

struct taken {
    enum amqp_result result;
    size_t bytes;
    enum amqp_frame_type type;
    uint16_t channel;
    size_t payload_bytes;
    char payload[16];
    const char *why;
};

/* What is not OK takes nothing, and leaves the frame as it was. */
static struct taken take(struct slice bytes)
{
    struct slice copy = exact(bytes), in = copy;
    struct amqp_frame frame, before;
    struct taken t = {.why = NULL};

    memset(&frame, 0x5a, sizeof frame);
    memcpy(&before, &frame, sizeof before);
    t.result = amqp_take_frame(&in, &limits, &frame, &t.why);
    t.bytes = copy.len - in.len;
    assert_int_equal(t.why != NULL, t.result == AMQP_BAD);
    if (t.result == AMQP_OK) {
        t.type = frame.type;
        t.channel = frame.channel;
        t.payload_bytes = frame.payload.len;
        assert_true(frame.payload.ptr == copy.ptr + AMQP_FRAME_HEAD);
        memcpy(t.payload, frame.payload.ptr, t.payload_bytes < 16 ? t.payload_bytes : 16);
    } else {
        assert_int_equal(t.bytes, 0);
        assert_memory_equal(&frame, &before, sizeof before);
    }
    drop(copy);
    return t;
}

static const struct {
    struct slice bytes;
    enum amqp_frame_type type;
    uint16_t channel;
    struct slice payload;
} frames[] = {
    {TEXT("\1\0\0\0\0\0\4\0\x0a\0\x33\xce"), AMQP_METHOD, 0, TEXT("\0\x0a\0\x33")},
    {TEXT("\2\xff\xff\0\0\0\1h\xce"), AMQP_CONTENT_HEADER, 65535, TEXT("h")},
    {TEXT("\3\2\5\0\0\0\x09some body\xce"), AMQP_BODY, 517, TEXT("some body")},
    {TEXT("\3\0\1\0\0\0\3\xce\xce\xce\xce"), AMQP_BODY, 1, TEXT("\xce\xce\xce")},
    {TEXT("\3\0\1\0\0\0\0\xce"), AMQP_BODY, 1, TEXT("")},
    {TEXT("\x08\0\0\0\0\0\0\xce"), AMQP_HEARTBEAT, 0, TEXT("")},
    {TEXT("\x08\0\1\0\0\0\0\xce"), AMQP_HEARTBEAT, 1, TEXT("")},
};

static void a_frame_is_taken_whole_or_not_at_all(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(frames); i++) {
        struct taken t = take(frames[i].bytes);

        assert_int_equal(t.result, AMQP_OK);
        assert_int_equal(t.bytes, frames[i].bytes.len);
        assert_int_equal(t.type, frames[i].type);
        assert_int_equal(t.channel, frames[i].channel);
        assert_slices_equal(slice_of(t.payload, t.payload_bytes), frames[i].payload);
        for (size_t n = 0; n < frames[i].bytes.len; n++)
            assert_int_equal(take(slice_of(frames[i].bytes.ptr, n)).result, AMQP_MORE);
    }
}

static void what_follows_a_frame_stays(void **state)
{
    struct taken t = take(SLICE("\3\0\1\0\0\0\1x\xce\1\0"));

    (void)state;
    assert_int_equal(t.result, AMQP_OK);
    assert_int_equal(t.bytes, 9);
}

static void a_frame_that_is_wrong_is_refused_at_the_byte_that_shows_it(void **state)
{
    static const struct {
        struct slice bytes; /* up to that byte */
        const char *why;
    } bad[] = {
        {TEXT("\0"), "there is no frame of that type"},
        {TEXT("\4"), "there is no frame of that type"},
        {TEXT("\7"), "there is no frame of that type"},
        {TEXT("\x09"), "there is no frame of that type"},
        {TEXT("A"), "there is no frame of that type"},
        {TEXT("\x08\0\0\0\0\0\1"), "a heartbeat is not empty"},
        {TEXT("\3\0\1\0\0\x10\1"), "the frame is larger than is allowed"},
        {TEXT("\1\0\1\0\0\x20\1"), "the frame is larger than is allowed"},
        {TEXT("\2\0\1\0\0\x20\1"), "the frame is larger than is allowed"},
        {TEXT("\3\0\1\xff\xff\xff\xff"), "the frame is larger than is allowed"},
        {TEXT("\1\0\1\xff\xff\xff\xff"), "the frame is larger than is allowed"},
        {TEXT("\3\0\1\0\0\0\1x\xcf"), "the frame does not end where its size says"},
        {TEXT("\3\0\1\0\0\0\0\0"), "the frame does not end where its size says"},
    };

    (void)state;
    for (size_t i = 0; i < N(bad); i++) {
        struct taken t = take(bad[i].bytes);

        assert_int_equal(t.result, AMQP_BAD);
        assert_string_equal(t.why, bad[i].why);
        assert_int_equal(take(slice_of(bad[i].bytes.ptr, bad[i].bytes.len - 1)).result, AMQP_MORE);
    }
}

/* A client that takes the limit for that of the payload is 8 bytes over. */
static void methods_and_bodies_have_a_limit_each_and_eight_bytes_of_grace(void **state)
{
    (void)state;
    assert_int_equal(take(SLICE("\3\0\1\0\0\x10\0")).result, AMQP_MORE);
    assert_int_equal(take(SLICE("\1\0\1\0\0\x20\0")).result, AMQP_MORE);
    assert_int_equal(take(SLICE("\2\0\1\0\0\x20\0")).result, AMQP_MORE);
}

/* ---- frames that are put ------------------------------------------------------------------------------------ */

static void a_frame_is_put_around_what_is_written_in_place(void **state)
{
    (void)state;
    for (size_t i = 0; i < N(frames); i++) {
        struct sheet sheet = sheet_of(frames[i].bytes.len);
        char *begin = amqp_begin_frame(&sheet.out);
        char *at = amqp_out_reserve(&sheet.out, frames[i].payload.len);

        assert_non_null(at);
        memcpy(at, frames[i].payload.ptr, frames[i].payload.len);
        assert_int_equal(amqp_end_frame(&sheet.out, begin, frames[i].type, frames[i].channel), AMQP_WRITTEN);
        assert_slices_equal(sheet_bytes(&sheet), frames[i].bytes);
        free(sheet.block);
    }
}

/* All that can be put, one behind the other: each takes back what of it did not fit. */
static void put_all(struct amqp_out *out, size_t bytes[5])
{
    struct amqp_method method = {.id = AMQP_BASIC_QOS, .prefetch_count = 10};
    struct amqp_method frequent = {.id = AMQP_BASIC_PUBLISH, .routing_key = SLICE("k")};
    struct amqp_content content = {.body_bytes = 4, .flags = 1 << AMQP_APP_ID};
    char *begin = out->at;

    content.texts[AMQP_APP_ID] = SLICE("app");
    for (unsigned i = 0; i < 5; i++) {
        enum amqp_written result = i == 0   ? amqp_put_method_frame(out, 1, &method)
                                   : i == 1 ? amqp_put_method_frame(out, 1, &frequent)
                                   : i == 2 ? amqp_put_content_frame(out, 1, &content)
                                   : i == 3 ? amqp_put_body_frame(out, 1, SLICE("body"))
                                            : amqp_put_heartbeat(out);

        assert_int_equal(result == AMQP_WRITTEN, out->at != begin);
        assert_true(result == AMQP_WRITTEN || result == AMQP_FULL);
        bytes[i] = (size_t)(out->at - begin);
        begin = out->at;
    }
}

static void a_frame_that_does_not_fit_is_not_there_in_part(void **state)
{
    struct sheet sheet = sheet_of(4096);
    size_t whole[5], sum;

    (void)state;
    put_all(&sheet.out, whole);
    sum = sheet_bytes(&sheet).len;
    assert_int_equal(sum, whole[0] + whole[1] + whole[2] + whole[3] + whole[4]);
    for (size_t room = 0; room <= sum; room++) {
        struct sheet narrow = sheet_of(room);
        size_t left = room, part[5];
        struct slice in;

        put_all(&narrow.out, part);
        for (unsigned i = 0; i < 5; i++) {
            assert_int_equal(part[i], whole[i] <= left ? whole[i] : 0);
            left -= part[i];
        }
        for (in = sheet_bytes(&narrow); in.len;) {
            struct amqp_frame frame;
            const char *why;

            assert_int_equal(amqp_take_frame(&in, &limits, &frame, &why), AMQP_OK);
        }
        free(narrow.block);
    }
    free(sheet.block);
}

static void a_body_sent_from_where_it_is_has_the_same_frame_around_it(void **state)
{
    char bytes[AMQP_FRAME_HEAD + 9 + 1];

    (void)state;
    amqp_put_frame_head(bytes, AMQP_BODY, 517, 9);
    memcpy(bytes + AMQP_FRAME_HEAD, "some body", 9);
    bytes[sizeof bytes - 1] = AMQP_FRAME_END;
    assert_slices_equal(slice_of(bytes, sizeof bytes), frames[2].bytes);
}

/* ---- reply codes -------------------------------------------------------------------------------------------- */

static void a_reply_code_has_a_name_and_something_that_it_ends(void **state)
{
    static const struct {
        unsigned code;
        const char *name;
        enum amqp_reply_scope scope;
    } rows[] = {
        {200, "OK", AMQP_ENDS_NOTHING},
        {311, "CONTENT_TOO_LARGE", AMQP_ENDS_CHANNEL},
        {312, "NO_ROUTE", AMQP_ENDS_NOTHING},
        {313, "NO_CONSUMERS", AMQP_ENDS_NOTHING},
        {320, "CONNECTION_FORCED", AMQP_ENDS_CONNECTION},
        {402, "INVALID_PATH", AMQP_ENDS_CONNECTION},
        {403, "ACCESS_REFUSED", AMQP_ENDS_CHANNEL},
        {404, "NOT_FOUND", AMQP_ENDS_CHANNEL},
        {405, "RESOURCE_LOCKED", AMQP_ENDS_CHANNEL},
        {406, "PRECONDITION_FAILED", AMQP_ENDS_CHANNEL},
        {501, "FRAME_ERROR", AMQP_ENDS_CONNECTION},
        {502, "SYNTAX_ERROR", AMQP_ENDS_CONNECTION},
        {503, "COMMAND_INVALID", AMQP_ENDS_CONNECTION},
        {504, "CHANNEL_ERROR", AMQP_ENDS_CONNECTION},
        {505, "UNEXPECTED_FRAME", AMQP_ENDS_CONNECTION},
        {506, "RESOURCE_ERROR", AMQP_ENDS_CONNECTION},
        {530, "NOT_ALLOWED", AMQP_ENDS_CONNECTION},
        {540, "NOT_IMPLEMENTED", AMQP_ENDS_CONNECTION},
        {541, "INTERNAL_ERROR", AMQP_ENDS_CONNECTION},
    };

    (void)state;
    for (size_t i = 0; i < N(rows); i++) {
        assert_string_equal(amqp_reply_name(rows[i].code), rows[i].name);
        assert_int_equal(amqp_reply_scope(rows[i].code), rows[i].scope);
    }
    assert_null(amqp_reply_name(407));
    assert_int_equal(amqp_reply_scope(407), AMQP_ENDS_CONNECTION);
}

static void a_text_is_clipped_to_what_a_short_string_holds_between_two_characters(void **state)
{
    char text[300];

    (void)state;
    memset(text, 'x', sizeof text);
    assert_int_equal(amqp_clip(slice_of(text, 300)).len, 255);
    assert_int_equal(amqp_clip(slice_of(text, 255)).len, 255);
    assert_int_equal(amqp_clip(slice_of(text, 3)).len, 3);
    memcpy(text + 252, "\xf0\x9f\x8d\x9c", 4);
    assert_int_equal(amqp_clip(slice_of(text, 300)).len, 252);
    memcpy(text + 252, "x\xc3\xa9x", 4);
    assert_int_equal(amqp_clip(slice_of(text, 300)).len, 255);
    memset(text, '\x80', sizeof text);
    assert_int_equal(amqp_clip(slice_of(text, 300)).len, 252);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_protocol_header_is_taken_off_what_follows),
        cmocka_unit_test(another_version_is_told_from_what_is_no_amqp),
        cmocka_unit_test(a_protocol_header_is_put_as_it_is_taken),
        cmocka_unit_test(a_frame_is_taken_whole_or_not_at_all),
        cmocka_unit_test(what_follows_a_frame_stays),
        cmocka_unit_test(a_frame_that_is_wrong_is_refused_at_the_byte_that_shows_it),
        cmocka_unit_test(methods_and_bodies_have_a_limit_each_and_eight_bytes_of_grace),
        cmocka_unit_test(a_frame_is_put_around_what_is_written_in_place),
        cmocka_unit_test(a_frame_that_does_not_fit_is_not_there_in_part),
        cmocka_unit_test(a_body_sent_from_where_it_is_has_the_same_frame_around_it),
        cmocka_unit_test(a_reply_code_has_a_name_and_something_that_it_ends),
        cmocka_unit_test(a_text_is_clipped_to_what_a_short_string_holds_between_two_characters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
