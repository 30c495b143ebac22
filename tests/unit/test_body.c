/* test_body.c - http/body.h: a body is the same series of bytes whatever its framing and however it arrives, it ends
 * where it ends, and what is wrong with it stays wrong. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fiber_kit.h"
#include "http_kit.h"

#include "http/body.h"

/* --- reading ------------------------------------------------------------------------------------------------- */

struct reading {
    struct wire wire;
    struct http_input in;
    struct pace pace;
    struct arena arena;
    struct body_reader body;
    char *data; /* what was read */
    size_t len;
};

static void reading_open(struct reading *r, enum http_body_kind kind, uint64_t length)
{
    memset(r, 0, sizeof *r);
    wire_open(&r->wire, WIRE_BYTES);
    r->in.stream = &r->wire.ours;
    body_reader_init(&r->body, &r->in, (struct http_body){kind, length}, &r->pace, &r->arena);
    r->data = calloc(1, HEARD_MAX);
}

static void reading_close(struct reading *r)
{
    input_drop(&r->in);
    wire_close(&r->wire);
    arena_free(&r->arena);
    free(r->data);
}

/* Until the end or an error, which it returns. */
static int read_rest(struct reading *r)
{
    struct slice piece;
    int result;

    while ((result = body_read(&r->body, &piece)) > 0) {
        CHECK(piece.len > 0);
        memcpy(r->data + r->len, piece.ptr, piece.len);
        r->len += piece.len;
        r->data[r->len] = '\0';
    }
    return result;
}

static void no_body_is_done_before_it_begins(void *arg)
{
    struct reading r;

    (void)arg;
    reading_open(&r, BODY_NONE, 0);
    CHECK(r.body.done);
    CHECK_EQUAL(read_rest(&r), 0);
    CHECK(!r.in.block);
    reading_close(&r);
    reading_open(&r, BODY_LENGTH, 0);
    CHECK(r.body.done);
    CHECK_EQUAL(read_rest(&r), 0);
    reading_close(&r);
}

struct row {
    enum http_body_kind kind;
    uint64_t length;
    const char *bytes;
    const char *data;
    const char *left; /* for the next message */
};

static const struct row rows[] = {
    {BODY_LENGTH, 5, "hello", "hello", ""},
    {BODY_LENGTH, 5, "helloGET", "hello", "GET"},
    {BODY_CHUNKED, 0, "0\r\n\r\n", "", ""},
    {BODY_CHUNKED, 0, "5\r\nhello\r\n0\r\n\r\n", "hello", ""},
    {BODY_CHUNKED, 0, "5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nX: y\r\n\r\nGET", "hello!", "GET"},
};

static void say_row(void *arg)
{
    struct reading *r = ((void **)arg)[0];
    const struct row *row = ((void **)arg)[1];
    size_t first = *(size_t *)((void **)arg)[2];

    for (size_t i = 0; i < first; i++) {
        say_bytes(&r->wire, row->bytes + i, 1);
        fiber_yield();
    }
    say(&r->wire, row->bytes + first);
}

/* Byte by byte up to there, then the rest at once. */
static void a_body_is_the_same_however_it_arrives(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (size_t first = 0; first <= strlen(rows[i].bytes); first++) {
            struct reading r;
            void *args[] = {&r, (void *)(uintptr_t)&rows[i], &first};
            struct fiber *peer;

            reading_open(&r, rows[i].kind, rows[i].length);
            peer = fiber_spawn("peer", say_row, args);
            CHECK_EQUAL(read_rest(&r), 0);
            CHECK(r.body.done);
            CHECK_TEXT(r.data, rows[i].data);
            CHECK_EQUAL(r.body.bytes, strlen(rows[i].data));
            CHECK_EQUAL(read_rest(&r), 0);
            CHECK_EQUAL(fiber_join(peer, NEVER), 0);
            if (first == 0)
                CHECK_SLICE(input_bytes(&r.in), rows[i].left);
            reading_close(&r);
        }
}

static void a_body_without_a_length_ends_with_the_stream(void *arg)
{
    struct reading r;

    (void)arg;
    reading_open(&r, BODY_UNTIL_CLOSE, 0);
    say(&r.wire, "hello");
    say_end(&r.wire);
    CHECK_EQUAL(read_rest(&r), 0);
    CHECK_TEXT(r.data, "hello");
    CHECK(r.body.done);
    reading_close(&r);
}

/* H17 and the like: a stream that ends early is no whole body, at no byte of it. */
static void a_body_that_breaks_off_is_not_whole(void *arg)
{
    static const char chunked[] = "5\r\nhello\r\n0\r\nX: y\r\n\r\n";
    struct reading r;

    (void)arg;
    for (size_t n = 0; n < 5; n++) {
        reading_open(&r, BODY_LENGTH, 5);
        say_bytes(&r.wire, "hello", n);
        say_end(&r.wire);
        CHECK_EQUAL(read_rest(&r), -ECONNRESET);
        CHECK(!r.body.done);
        reading_close(&r);
    }
    for (size_t n = 0; n < sizeof chunked - 1; n++) {
        reading_open(&r, BODY_CHUNKED, 0);
        say_bytes(&r.wire, chunked, n);
        say_end(&r.wire);
        CHECK_EQUAL(read_rest(&r), -ECONNRESET);
        CHECK(!r.body.done);
        reading_close(&r);
    }
}

/* What follows a framing error may look like framing again. */
static void a_framing_error_is_not_got_over(void *arg)
{
    static const char *const broken[] = {
        "5\r\nhelloX\n0\r\n\r\n",      "5\r\nhello\rX0\r\n\r\n",     "5X0\r\n\r\n",
        "X5\r\nhello\r\n0\r\n\r\n",    "5\r\nhello\r\n0\rX\r\n\r\n", "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
        "0\r\nX : y\r\n\r\n0\r\n\r\n",
    };

    (void)arg;
    for (unsigned i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        struct reading r;

        reading_open(&r, BODY_CHUNKED, 0);
        say(&r.wire, broken[i]);
        say_end(&r.wire);
        for (unsigned again = 0; again < 5; again++)
            if (!CHECK_EQUAL(read_rest(&r), -EBADMSG))
                fprintf(stderr, "after %s\n", broken[i]);
        CHECK(!r.body.done);
        CHECK(r.body.why && *r.body.why);
        reading_close(&r);
    }
}

static void a_body_over_the_limit_is_not_read_on(void *arg)
{
    struct reading r;

    (void)arg;
    reading_open(&r, BODY_CHUNKED, 0);
    r.body.bytes_max = 10;
    say(&r.wire, "a\r\n0123456789\r\n0\r\n\r\n");
    CHECK_EQUAL(read_rest(&r), 0);
    CHECK_EQUAL(r.len, 10);
    reading_close(&r);

    reading_open(&r, BODY_CHUNKED, 0);
    r.body.bytes_max = 9;
    say(&r.wire, "5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n");
    CHECK_EQUAL(read_rest(&r), -EFBIG);
    CHECK_EQUAL(r.len, 5);
    CHECK_EQUAL(read_rest(&r), -EFBIG);
    CHECK(!r.body.done);
    reading_close(&r);
}

static void trailers_come_after_the_end(void *arg)
{
    struct reading r;

    (void)arg;
    reading_open(&r, BODY_CHUNKED, 0);
    say(&r.wire, "1\r\nx\r\n0\r\nX-Sum: 1\r\nContent-Length: 5\r\nX-More:\t2 \r\n\r\n");
    CHECK_EQUAL(read_rest(&r), 0);
    CHECK_EQUAL(r.body.trailers.count, 2);
    CHECK_SLICE(r.body.trailers.at[0].name, "X-Sum");
    CHECK_SLICE(r.body.trailers.at[0].value, "1");
    CHECK_SLICE(r.body.trailers.at[1].value, "2");
    reading_close(&r);
}

static void a_trailer_section_without_end_is_refused(void *arg)
{
    char *line = pattern(HTTP1_TRAILER_MAX + 1000);
    struct reading r;

    (void)arg;
    reading_open(&r, BODY_CHUNKED, 0);
    say(&r.wire, "1\r\nx\r\n0\r\nX: ");
    say(&r.wire, line);
    CHECK_EQUAL(read_rest(&r), -EBADMSG);
    CHECK(!r.body.done);
    reading_close(&r);
    free(line);
}

/* Behind a head that is kept, chunks of every size, in one block. */
static void a_long_body_goes_through_one_block(void *arg)
{
    size_t total = 100000, said = 0, chunk = 1;
    char *bytes = pattern(total), head[HTTP1_CHUNK_HEAD_MAX];
    struct reading r;

    (void)arg;
    reading_open(&r, BODY_CHUNKED, 0);
    say(&r.wire, "the head, which is kept");
    CHECK_EQUAL(input_open(&r.in), 0);
    CHECK_EQUAL(input_fill(&r.in, NEVER), 23);
    input_take(&r.in, 23);
    r.in.keep = 23;
    while (said < total) {
        size_t n = chunk < total - said ? chunk : total - said;

        say_bytes(&r.wire, head, http1_chunk_head(head, n));
        say_bytes(&r.wire, bytes + said, n);
        say(&r.wire, "\r\n");
        said += n;
        chunk = chunk * 3 / 2 + 1;
    }
    say(&r.wire, "0\r\n\r\n");
    CHECK_EQUAL(read_rest(&r), 0);
    CHECK_TEXT(r.data, bytes);
    CHECK_EQUAL(r.in.room, SLAB_BYTES);
    CHECK(memcmp(r.in.block, "the head, which is kept", 23) == 0);
    reading_close(&r);
    free(bytes);
}

static void a_body_that_does_not_come_is_given_up(void *arg)
{
    struct reading r;

    (void)arg;
    reading_open(&r, BODY_LENGTH, 5);
    r.pace.idle_us = 2000;
    say(&r.wire, "hell");
    CHECK_EQUAL(read_rest(&r), -ETIMEDOUT);
    CHECK_TEXT(r.data, "hell");
    reading_close(&r);
}

static void say_a_trickle(void *arg)
{
    struct wire *wire = arg;

    while (fiber_sleep_until(in_ms(2)) == 0)
        say(wire, "1\r\nx\r\n");
}

static void a_body_that_trickles_is_given_up(void *arg)
{
    struct reading r;
    struct fiber *peer;

    (void)arg;
    reading_open(&r, BODY_CHUNKED, 0);
    r.pace = (struct pace){.idle_us = 10 * US_PER_S, .grace_us = 10 * US_PER_MS, .min_rate = 100000};
    peer = fiber_spawn("peer", say_a_trickle, &r.wire);
    CHECK_EQUAL(read_rest(&r), -ETIMEDOUT);
    CHECK(!r.body.done);
    fiber_cancel_and_join(peer);
    reading_close(&r);
}

/* A cancelled reader loses nothing: whoever reads on finds the next byte. */
static void read_in_fiber(void *arg)
{
    struct reading *r = arg;

    CHECK_EQUAL(read_rest(r), -ECANCELED);
}

static void a_cancel_loses_no_byte(void *arg)
{
    struct reading r;
    struct fiber *reader;

    (void)arg;
    reading_open(&r, BODY_CHUNKED, 0);
    say(&r.wire, "5\r\nhel");
    reader = fiber_spawn("reader", read_in_fiber, &r);
    fiber_yield();
    fiber_cancel_and_join(reader);
    CHECK_TEXT(r.data, "hel");
    say(&r.wire, "lo\r\n0\r\n\r\n");
    CHECK_EQUAL(read_rest(&r), 0);
    CHECK_TEXT(r.data, "hello");
    reading_close(&r);
}

/* Whoever waits for the rest must first have passed on what there was. */
static void the_output_is_flushed_before_a_wait(void *arg)
{
    struct wire there;
    struct pace pace = {0};
    struct http_output out = {.stream = &there.ours, .pace = &pace};
    struct reading r;
    struct slice piece;

    (void)arg;
    wire_open(&there, WIRE_BYTES);
    reading_open(&r, BODY_LENGTH, 10);
    r.body.flush = &out;
    r.pace.idle_us = 1000;
    say(&r.wire, "hello");
    CHECK_EQUAL(body_read(&r.body, &piece), 1);
    CHECK_EQUAL(output_put(&out, piece), 0);
    CHECK_TEXT(hear(&there), "");
    CHECK_EQUAL(body_read(&r.body, &piece), -ETIMEDOUT);
    CHECK_TEXT(hear(&there), "hello");
    reading_close(&r);
    output_drop(&out);
    wire_close(&there);
}

/* --- writing ------------------------------------------------------------------------------------------------- */

struct writing {
    struct wire wire;
    struct http_output out;
    struct pace pace;
    struct body_writer body;
};

static void writing_open(struct writing *w, enum http_body_kind kind)
{
    memset(w, 0, sizeof *w);
    wire_open(&w->wire, WIRE_BYTES);
    w->out = (struct http_output){.stream = &w->wire.ours, .pace = &w->pace};
    w->body = (struct body_writer){&w->out, kind};
}

static void writing_close(struct writing *w)
{
    output_drop(&w->out);
    wire_close(&w->wire);
}

static void a_body_is_written_in_its_framing(void *arg)
{
    static const struct {
        enum http_body_kind kind;
        const char *bytes;
    } framings[] = {
        {BODY_LENGTH, "hello world"},
        {BODY_UNTIL_CLOSE, "hello world"},
        {BODY_CHUNKED, "5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 1\r\nX-B: \r\n\r\n"},
    };
    struct http_field at[] = {{.name = SLICE("X-Sum"), .value = SLICE("1")}, {.name = SLICE("X-B")}};
    const struct http_fields trailers = {at, 2, 2};

    (void)arg;
    for (unsigned i = 0; i < sizeof framings / sizeof framings[0]; i++) {
        struct writing w;

        writing_open(&w, framings[i].kind);
        CHECK_EQUAL(body_write(&w.body, SLICE("hello")), 0);
        CHECK_EQUAL(body_write(&w.body, SLICE("")), 0); /* which is not the end */
        CHECK_EQUAL(body_write(&w.body, SLICE(" world")), 0);
        CHECK_EQUAL(body_write_end(&w.body, &trailers), 0);
        CHECK_EQUAL(output_flush(&w.out), 0);
        CHECK_TEXT(hear(&w.wire), framings[i].bytes);
        writing_close(&w);
    }
}

static void without_trailers_a_chunked_body_just_ends(void *arg)
{
    const struct http_fields none = {0};
    struct writing w;

    (void)arg;
    for (unsigned i = 0; i < 2; i++) {
        writing_open(&w, BODY_CHUNKED);
        CHECK_EQUAL(body_write_end(&w.body, i ? &none : NULL), 0);
        CHECK_EQUAL(output_flush(&w.out), 0);
        CHECK_TEXT(hear(&w.wire), "0\r\n\r\n");
        writing_close(&w);
    }
}

static void writing_to_who_has_gone_fails(void *arg)
{
    static const enum http_body_kind kinds[] = {BODY_LENGTH, BODY_CHUNKED, BODY_UNTIL_CLOSE};
    char *large = pattern(10000);

    (void)arg;
    for (unsigned i = 0; i < 3; i++) {
        struct writing w;

        writing_open(&w, kinds[i]);
        wire_hang_up(&w.wire);
        CHECK_EQUAL(body_write(&w.body, slice_of(large, 10000)), -EPIPE);
        CHECK_EQUAL(body_write(&w.body, SLICE("small")), -EPIPE);
        CHECK_EQUAL(body_write_end(&w.body, NULL), -EPIPE);
        writing_close(&w);
    }
    free(large);
}

/* --- moving -------------------------------------------------------------------------------------------------- */

static void a_body_moves_from_any_framing_to_any_other(void *arg)
{
    static const struct {
        enum http_body_kind from, to;
        const char *in, *out;
    } moves[] = {
        {BODY_LENGTH, BODY_LENGTH, "hello", "hello"},
        {BODY_LENGTH, BODY_CHUNKED, "hello", "5\r\nhello\r\n"},
        {BODY_CHUNKED, BODY_UNTIL_CLOSE, "1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", "hello"},
        {BODY_CHUNKED, BODY_CHUNKED, "1\r\nh\r\n4\r\nello\r\n0\r\n\r\n", "1\r\nh\r\n4\r\nello\r\n"},
        {BODY_NONE, BODY_CHUNKED, "", ""},
    };

    (void)arg;
    for (unsigned i = 0; i < sizeof moves / sizeof moves[0]; i++) {
        struct reading r;
        struct writing w;

        reading_open(&r, moves[i].from, 5);
        writing_open(&w, moves[i].to);
        say(&r.wire, moves[i].in);
        CHECK_EQUAL(body_move(&r.body, &w.body), 0);
        CHECK(r.body.done);
        CHECK_EQUAL(output_flush(&w.out), 0);
        CHECK_TEXT(hear(&w.wire), moves[i].out);
        writing_close(&w);
        reading_close(&r);
    }
}

static void a_move_tells_who_failed(void *arg)
{
    char *large = pattern(20000);
    struct reading r;
    struct writing w;

    (void)arg;
    reading_open(&r, BODY_LENGTH, 10);
    writing_open(&w, BODY_LENGTH);
    say(&r.wire, "hello");
    say_end(&r.wire);
    CHECK_EQUAL(body_move(&r.body, &w.body), -ECONNRESET);
    CHECK_EQUAL(w.out.error, 0);
    writing_close(&w);
    reading_close(&r);

    reading_open(&r, BODY_LENGTH, 20000);
    writing_open(&w, BODY_LENGTH);
    say(&r.wire, large);
    wire_hang_up(&w.wire);
    CHECK_EQUAL(body_move(&r.body, &w.body), 0);
    CHECK(!r.body.done);
    CHECK_EQUAL(w.out.error, -EPIPE);
    writing_close(&w);
    reading_close(&r);
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIBER_TEST(no_body_is_done_before_it_begins),
        FIBER_TEST(a_body_is_the_same_however_it_arrives),
        FIBER_TEST(a_body_without_a_length_ends_with_the_stream),
        FIBER_TEST(a_body_that_breaks_off_is_not_whole),
        FIBER_TEST(a_framing_error_is_not_got_over),
        FIBER_TEST(a_body_over_the_limit_is_not_read_on),
        FIBER_TEST(trailers_come_after_the_end),
        FIBER_TEST(a_trailer_section_without_end_is_refused),
        FIBER_TEST(a_long_body_goes_through_one_block),
        FIBER_TEST(a_body_that_does_not_come_is_given_up),
        FIBER_TEST(a_body_that_trickles_is_given_up),
        FIBER_TEST(a_cancel_loses_no_byte),
        FIBER_TEST(the_output_is_flushed_before_a_wait),
        FIBER_TEST(a_body_is_written_in_its_framing),
        FIBER_TEST(without_trailers_a_chunked_body_just_ends),
        FIBER_TEST(writing_to_who_has_gone_fails),
        FIBER_TEST(a_body_moves_from_any_framing_to_any_other),
        FIBER_TEST(a_move_tells_who_failed),
    };

    kit_watchdog(50);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
