/* test_input_output.c - http/input.h and http/output.h: whose bytes stay where, when blocks are held, when bytes
 * leave, and that an error stays. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fiber_kit.h"
#include "http_kit.h"

#include "http/input.h"
#include "http/output.h"

/* --- input --------------------------------------------------------------------------------------------------- */

struct reading {
    struct wire wire;
    struct http_input in;
};

static void reading_open(struct reading *r)
{
    wire_open(&r->wire, WIRE_BYTES);
    r->in = (struct http_input){.stream = &r->wire.ours};
}

static void reading_close(struct reading *r)
{
    input_drop(&r->in);
    wire_close(&r->wire);
}

static ssize_t fill(struct reading *r)
{
    return input_fill(&r->in, NEVER);
}

static void an_input_holds_a_block_only_from_open_to_reclaim(void *arg)
{
    struct reading r;

    (void)arg;
    reading_open(&r);
    CHECK(input_empty(&r.in) && !r.in.block);
    input_reclaim(&r.in);
    say(&r.wire, "hello");
    CHECK_EQUAL(input_open(&r.in), 0);
    CHECK(r.in.block && r.in.room == SLAB_BYTES);
    CHECK_EQUAL(fill(&r), 5);
    CHECK_EQUAL(input_open(&r.in), 0); /* again: what it holds stays */
    CHECK_SLICE(input_bytes(&r.in), "hello");
    input_take(&r.in, 3);
    input_reclaim(&r.in);
    CHECK(r.in.block != NULL);
    CHECK_SLICE(input_bytes(&r.in), "lo");
    input_take(&r.in, 2);
    CHECK(input_empty(&r.in) && r.in.block);
    input_reclaim(&r.in);
    CHECK(!r.in.block && !r.in.room && input_empty(&r.in));
    reading_close(&r);
}

static void an_input_that_is_dropped_forgets_what_was_in_it(void *arg)
{
    struct reading r;

    (void)arg;
    reading_open(&r);
    say(&r.wire, "hello");
    CHECK_EQUAL(input_open(&r.in), 0);
    CHECK_EQUAL(fill(&r), 5);
    input_drop(&r.in);
    CHECK(!r.in.block && input_empty(&r.in));
    input_drop(&r.in);
    say(&r.wire, "again");
    CHECK_EQUAL(input_open(&r.in), 0);
    CHECK_EQUAL(fill(&r), 5);
    CHECK_SLICE(input_bytes(&r.in), "again");
    reading_close(&r);
}

static void bytes_that_come_later_join_those_that_wait(void *arg)
{
    struct reading r;

    (void)arg;
    reading_open(&r);
    CHECK_EQUAL(input_open(&r.in), 0);
    say(&r.wire, "one ");
    CHECK_EQUAL(fill(&r), 4);
    say(&r.wire, "two");
    CHECK_EQUAL(fill(&r), 3);
    CHECK_SLICE(input_bytes(&r.in), "one two");
    reading_close(&r);
}

static void the_end_and_errors_of_the_stream_come_through(void *arg)
{
    struct reading r;

    (void)arg;
    reading_open(&r);
    CHECK_EQUAL(input_open(&r.in), 0);
    CHECK_EQUAL(input_fill(&r.in, in_ms(2)), -ETIMEDOUT);
    say_end(&r.wire);
    CHECK_EQUAL(fill(&r), 0);
    CHECK_EQUAL(fill(&r), 0);
    CHECK(input_empty(&r.in));
    reading_close(&r);
}

/* Slices of a head stay good while its body goes through the room behind it, many times over. */
static void what_is_kept_is_neither_moved_nor_written_over(void *arg)
{
    size_t total = 5 * SLAB_BYTES, seen = 0;
    char *bytes = pattern(total);
    struct reading r;
    const char *head;

    (void)arg;
    reading_open(&r);
    say_bytes(&r.wire, bytes, total);
    CHECK_EQUAL(input_open(&r.in), 0);
    CHECK_EQUAL(fill(&r), SLAB_BYTES);
    head = r.in.block;
    input_take(&r.in, 1000);
    r.in.keep = seen = 1000;
    while (seen < total) {
        struct slice in = input_bytes(&r.in);
        size_t n = in.len < 777 ? in.len : 777;

        if (!CHECK(in.ptr >= head + 1000 && memcmp(in.ptr, bytes + seen, in.len) == 0))
            break;
        input_take(&r.in, n);
        seen += n;
        if ((input_empty(&r.in) || seen % 2) && !stream_is_quiet(&r.wire.ours))
            CHECK(fill(&r) != 0);
    }
    CHECK(r.in.block == head && memcmp(head, bytes, 1000) == 0);
    free(bytes);
    reading_close(&r);
}

static void when_all_is_taken_reading_goes_on_behind_what_is_kept(void *arg)
{
    struct reading r;

    (void)arg;
    reading_open(&r);
    say(&r.wire, "head");
    CHECK_EQUAL(input_open(&r.in), 0);
    CHECK_EQUAL(fill(&r), 4);
    input_take(&r.in, 4);
    r.in.keep = 4;
    for (int i = 0; i < 2; i++) {
        say(&r.wire, i ? "two" : "one");
        CHECK_EQUAL(fill(&r), 3);
        CHECK_SLICE(input_bytes(&r.in), i ? "two" : "one");
        input_take(&r.in, 3);
    }
    CHECK(memcmp(r.in.block, "headtwo", 7) == 0);
    input_reclaim(&r.in);
    CHECK(!r.in.block && !r.in.keep);
    reading_close(&r);
}

static void a_full_block_says_so(void *arg)
{
    char *bytes = pattern(2 * SLAB_BYTES);
    struct reading r;

    (void)arg;
    reading_open(&r);
    say_bytes(&r.wire, bytes, 2 * SLAB_BYTES);
    CHECK_EQUAL(input_open(&r.in), 0);
    CHECK_EQUAL(fill(&r), SLAB_BYTES);
    CHECK_EQUAL(fill(&r), -ENOBUFS);
    input_take(&r.in, 1);
    CHECK_EQUAL(fill(&r), 1); /* by moving the rest to the front */
    CHECK(memcmp(r.in.block, bytes + 1, SLAB_BYTES) == 0);
    input_take(&r.in, 1);
    r.in.keep = r.in.start;
    CHECK_EQUAL(fill(&r), -ENOBUFS); /* what is kept stays */
    free(bytes);
    reading_close(&r);
}

static void a_larger_block_takes_everything_along(void *arg)
{
    char *bytes = pattern(3 * SLAB_BYTES);
    struct reading r;

    (void)arg;
    reading_open(&r);
    say_bytes(&r.wire, bytes, 3 * SLAB_BYTES);
    CHECK_EQUAL(input_open(&r.in), 0);
    CHECK_EQUAL(fill(&r), SLAB_BYTES);
    input_take(&r.in, 10);
    r.in.keep = 5;
    CHECK_EQUAL(input_grow(&r.in, SLAB_BYTES), 0); /* large enough: nothing happens */
    CHECK_EQUAL(r.in.room, SLAB_BYTES);
    CHECK_EQUAL(input_grow(&r.in, 2 * SLAB_BYTES), 0);
    CHECK_EQUAL(r.in.room, 2 * SLAB_BYTES);
    CHECK(r.in.start == 10 && r.in.keep == 5);
    CHECK_EQUAL(fill(&r), SLAB_BYTES);
    CHECK(memcmp(r.in.block, bytes, 2 * SLAB_BYTES) == 0);
    input_take(&r.in, 2 * SLAB_BYTES - 10);
    input_reclaim(&r.in);
    CHECK(!r.in.block);
    free(bytes);
    reading_close(&r);
}

/* --- output -------------------------------------------------------------------------------------------------- */

struct writing {
    struct wire wire;
    struct http_output out;
    struct pace pace;
};

static void writing_open(struct writing *w, size_t room)
{
    wire_open(&w->wire, room);
    w->pace = (struct pace){0};
    w->out = (struct http_output){.stream = &w->wire.ours, .pace = &w->pace};
}

static void writing_close(struct writing *w)
{
    output_drop(&w->out);
    wire_close(&w->wire);
}

static void nothing_leaves_before_a_flush(void *arg)
{
    struct writing w;

    (void)arg;
    writing_open(&w, WIRE_BYTES);
    CHECK_EQUAL(output_flush(&w.out), 0); /* of nothing */
    CHECK(!w.out.block);
    CHECK_EQUAL(output_put(&w.out, SLICE("a")), 0);
    CHECK_EQUAL(output_put(&w.out, slice_of(NULL, 0)), 0);
    CHECK_EQUAL(output_send(&w.out, SLICE("b")), 0);
    CHECK_EQUAL(output_send(&w.out, slice_of(NULL, 0)), 0);
    CHECK_TEXT(hear(&w.wire), "");
    CHECK_EQUAL(output_flush(&w.out), 0);
    CHECK_TEXT(hear(&w.wire), "ab");
    CHECK_EQUAL(output_flush(&w.out), 0);
    CHECK_TEXT(hear(&w.wire), "ab");
    CHECK_EQUAL(w.out.written, 2);
    writing_close(&w);
}

static void what_is_dropped_is_not_sent(void *arg)
{
    struct writing w;

    (void)arg;
    writing_open(&w, WIRE_BYTES);
    CHECK_EQUAL(output_put(&w.out, SLICE("a")), 0);
    output_drop(&w.out);
    CHECK(!w.out.block);
    CHECK_EQUAL(output_put(&w.out, SLICE("b")), 0);
    CHECK_EQUAL(output_flush(&w.out), 0);
    CHECK_TEXT(hear(&w.wire), "b");
    writing_close(&w);
}

/* Put and sent, small and large, in every mix around the sizes where something changes. */
static void every_byte_leaves_once_and_in_order(void *arg)
{
    static const size_t sizes[] = {
        1,    4095,  4096,  4097, SLAB_BYTES - 1, SLAB_BYTES, 3, SLAB_BYTES + 1, 2 * SLAB_BYTES, 40000, 100,
        4096, 12288, 12288, 0,    SLAB_BYTES / 2, 7};
    char *bytes = pattern(HEARD_MAX);
    struct writing w;

    (void)arg;
    for (unsigned mix = 0; mix < 8; mix++) {
        size_t at = 0;

        writing_open(&w, HEARD_MAX);
        for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            struct slice piece = slice_of(bytes + at, sizes[i]);

            CHECK_EQUAL(mix >> i % 3 & 1 ? output_send(&w.out, piece) : output_put(&w.out, piece), 0);
            at += sizes[i];
            if (w.out.block)
                CHECK(w.out.len <= SLAB_BYTES);
        }
        CHECK_EQUAL(output_flush(&w.out), 0);
        hear(&w.wire);
        CHECK_EQUAL(w.wire.n_heard, at);
        CHECK_EQUAL(w.out.written, at);
        CHECK(memcmp(w.wire.heard, bytes, at) == 0);
        writing_close(&w);
    }
    free(bytes);
}

/* The wire takes ten bytes at a time. */
static void hear_slowly(void *arg)
{
    struct wire *wire = arg;

    while (!wire->ended) {
        CHECK_EQUAL(stream_wait_readable(&wire->theirs, NEVER), 0);
        hear(wire);
    }
}

static void short_writes_are_gone_on_with(void *arg)
{
    char *bytes = pattern(30000);
    struct fiber *peer;
    struct writing w;

    (void)arg;
    writing_open(&w, 10);
    peer = fiber_spawn("peer", hear_slowly, &w.wire);
    CHECK_EQUAL(output_put(&w.out, slice_of(bytes, 5000)), 0);
    CHECK_EQUAL(output_send(&w.out, slice_of(bytes + 5000, 20000)), 0);
    CHECK_EQUAL(output_put(&w.out, slice_of(bytes + 25000, 5000)), 0);
    CHECK_EQUAL(output_flush(&w.out), 0);
    stream_shut_down(&w.wire.ours);
    CHECK_EQUAL(fiber_join(peer, NEVER), 0);
    CHECK_TEXT(w.wire.heard, bytes);
    free(bytes);
    writing_close(&w);
}

static void numbers_are_written_in_full(void *arg)
{
    static const struct {
        uint64_t value;
        const char *text;
    } rows[] = {
        {0, "0"}, {9, "9"}, {10, "10"}, {1234567890, "1234567890"}, {UINT64_MAX, "18446744073709551615"},
    };

    (void)arg;
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct writing w;

        writing_open(&w, WIRE_BYTES);
        CHECK_EQUAL(output_put_u64(&w.out, rows[i].value), 0);
        CHECK_EQUAL(output_flush(&w.out), 0);
        CHECK_TEXT(hear(&w.wire), rows[i].text);
        writing_close(&w);
    }
}

static void room_that_is_filled_is_sent_and_room_that_is_not_is_not(void *arg)
{
    char *bytes = pattern(SLAB_BYTES);
    struct writing w;
    char *room;

    (void)arg;
    writing_open(&w, WIRE_BYTES);
    CHECK_EQUAL(output_put(&w.out, slice_of(bytes, SLAB_BYTES - 4)), 0);
    room = output_room(&w.out, 5); /* which sends what is in the way */
    CHECK(room != NULL);
    CHECK_EQUAL(w.out.written, SLAB_BYTES - 4);
    memcpy(room, "12345", 5);
    output_filled(&w.out, 3);
    CHECK_EQUAL(output_flush(&w.out), 0);
    hear(&w.wire);
    CHECK_TEXT(w.wire.heard + SLAB_BYTES - 4, "123");
    free(bytes);
    writing_close(&w);
}

static void check_every_call_fails(struct writing *w, int error)
{
    char *large = pattern(5000);

    CHECK_EQUAL(output_put(&w->out, SLICE("a")), error);
    CHECK_EQUAL(output_put(&w->out, slice_of(large, 5000)), error);
    CHECK_EQUAL(output_put_u64(&w->out, 1), error);
    CHECK_EQUAL(output_send(&w->out, SLICE("a")), error);
    CHECK_EQUAL(output_send(&w->out, slice_of(large, 5000)), error);
    CHECK(output_room(&w->out, 1) == NULL);
    CHECK_EQUAL(output_flush(&w->out), error);
    CHECK_EQUAL(w->out.error, error);
    free(large);
}

static void after_a_write_failed_every_call_says_so(void *arg)
{
    char *large = pattern(5000);
    struct writing w;

    (void)arg;
    writing_open(&w, WIRE_BYTES);
    wire_hang_up(&w.wire);
    CHECK_EQUAL(output_put(&w.out, SLICE("a")), 0);
    CHECK_EQUAL(output_flush(&w.out), -EPIPE);
    check_every_call_fails(&w, -EPIPE);
    writing_close(&w);

    writing_open(&w, WIRE_BYTES);
    wire_hang_up(&w.wire);
    CHECK_EQUAL(output_put(&w.out, SLICE("a")), 0);
    CHECK_EQUAL(output_send(&w.out, slice_of(large, 5000)), -EPIPE);
    check_every_call_fails(&w, -EPIPE);
    writing_close(&w);
    free(large);
}

static void a_peer_that_reads_nothing_is_given_up(void *arg)
{
    char *bytes = pattern(100);
    struct writing w;

    (void)arg;
    writing_open(&w, 10);
    w.pace.idle_us = 2000;
    CHECK_EQUAL(output_put(&w.out, slice_of(bytes, 100)), 0);
    CHECK_EQUAL(output_flush(&w.out), -ETIMEDOUT);
    CHECK_EQUAL(w.out.written, 10);
    check_every_call_fails(&w, -ETIMEDOUT);
    free(bytes);
    writing_close(&w);
}

/* Takes a byte every now and then, and so never lets the writer be idle for long. */
static void hear_a_trickle(void *arg)
{
    struct wire *wire = arg;
    char byte;

    while (fiber_sleep_until(in_ms(2)) == 0)
        CHECK(stream_is_quiet(&wire->theirs) || stream_read(&wire->theirs, &byte, 1, NEVER) == 1);
}

static void a_peer_that_reads_too_slowly_is_given_up(void *arg)
{
    char *bytes = pattern(10000);
    struct fiber *peer;
    struct writing w;

    (void)arg;
    writing_open(&w, 10);
    w.pace = (struct pace){.idle_us = 10 * US_PER_S, .grace_us = 10 * US_PER_MS, .min_rate = 100000};
    peer = fiber_spawn("peer", hear_a_trickle, &w.wire);
    CHECK_EQUAL(output_send(&w.out, slice_of(bytes, 10000)), -ETIMEDOUT);
    CHECK(w.out.written < 5000);
    fiber_cancel_and_join(peer);
    free(bytes);
    writing_close(&w);
}

static void a_peer_that_keeps_the_pace_is_not_given_up(void *arg)
{
    char *bytes = pattern(200);
    struct fiber *peer;
    struct writing w;

    (void)arg;
    writing_open(&w, 150);
    w.pace = (struct pace){.idle_us = 10 * US_PER_S, .grace_us = 10 * US_PER_MS, .min_rate = 1};
    peer = fiber_spawn("peer", hear_a_trickle, &w.wire);
    CHECK_EQUAL(output_put(&w.out, slice_of(bytes, 200)), 0);
    CHECK_EQUAL(output_flush(&w.out),
                0); /* 150 bytes at once are good for one silence, which is 10 seconds */
    fiber_cancel_and_join(peer);
    free(bytes);
    writing_close(&w);
}

/* --- pace ---------------------------------------------------------------------------------------------------- */

static void a_deadline_is_the_nearer_of_silence_and_rate(void *arg)
{
    struct pace pace = {.idle_us = 1000, .grace_us = 500, .min_rate = 10};
    uint64_t now = loop_now_us();

    (void)arg;
    CHECK_EQUAL(pace_deadline(&pace), now + 500);
    pace_moved(&pace, now - 200, 0);
    CHECK_EQUAL(pace_deadline(&pace), now + 300);
    pace_moved(&pace, now - 400, 0);
    CHECK_EQUAL(pace_deadline(&pace), now + 1); /* over: soon, but not in the past */
    pace_moved(&pace, now, 1);                  /* pays a tenth of a second */
    CHECK_EQUAL(pace_deadline(&pace), now + 1000);
    pace.idle_us = 0;
    CHECK_EQUAL(pace_deadline(&pace), now + 500 + 1000); /* paid ahead for one silence, no more */
    pace_start(&pace);
    CHECK_EQUAL(pace_deadline(&pace), now + 500);
    pace.min_rate = 0;
    CHECK_EQUAL(pace_deadline(&pace), NEVER);
    pace.idle_us = 7;
    CHECK_EQUAL(pace_deadline(&pace), now + 7);
    pace.end_us = now + 8;
    CHECK_EQUAL(pace_deadline(&pace), now + 7);
    pace.end_us = now + 6;
    CHECK_EQUAL(pace_deadline(&pace), now + 6);
    pace = (struct pace){.min_rate = 1};
    pace_moved(&pace, now, UINT64_MAX);
    CHECK_EQUAL(pace_deadline(&pace), now + US_PER_S);
}

/* A burst first must not buy hours of trickling after it. */
static void a_burst_does_not_pay_for_a_slow_rest(void *arg)
{
    struct pace pace = {.idle_us = 1000, .grace_us = 500, .min_rate = 1000};
    uint64_t now = loop_now_us(), waited = 0;

    (void)arg;
    pace_moved(&pace, now, 1u << 20);
    while (pace_deadline(&pace) > now + 1) { /* a byte is good for 1 ms, and takes 1.1 ms to come */
        pace_moved(&pace, now - 1100, 1);
        waited += 1100;
    }
    CHECK(waited <= (1000 + 500) * 11 + 1100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIBER_TEST(an_input_holds_a_block_only_from_open_to_reclaim),
        FIBER_TEST(an_input_that_is_dropped_forgets_what_was_in_it),
        FIBER_TEST(bytes_that_come_later_join_those_that_wait),
        FIBER_TEST(the_end_and_errors_of_the_stream_come_through),
        FIBER_TEST(what_is_kept_is_neither_moved_nor_written_over),
        FIBER_TEST(when_all_is_taken_reading_goes_on_behind_what_is_kept),
        FIBER_TEST(a_full_block_says_so),
        FIBER_TEST(a_larger_block_takes_everything_along),
        FIBER_TEST(nothing_leaves_before_a_flush),
        FIBER_TEST(what_is_dropped_is_not_sent),
        FIBER_TEST(every_byte_leaves_once_and_in_order),
        FIBER_TEST(short_writes_are_gone_on_with),
        FIBER_TEST(numbers_are_written_in_full),
        FIBER_TEST(room_that_is_filled_is_sent_and_room_that_is_not_is_not),
        FIBER_TEST(after_a_write_failed_every_call_says_so),
        FIBER_TEST(a_peer_that_reads_nothing_is_given_up),
        FIBER_TEST(a_peer_that_reads_too_slowly_is_given_up),
        FIBER_TEST(a_peer_that_keeps_the_pace_is_not_given_up),
        FIBER_TEST(a_burst_does_not_pay_for_a_slow_rest),
        FIBER_TEST(a_deadline_is_the_nearer_of_silence_and_rate),
    };

    kit_watchdog(50);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
