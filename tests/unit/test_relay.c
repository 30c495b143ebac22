/* test_relay.c - fiber/relay.h: what goes in at one side comes out at the other, whatever the streams are; ends,
 * breaks, silence and slow readers are passed on as what they are. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "base/slab.h"
#include "fiber/relay.h"
#include "fiber/splice.h"
#include "fiber_kit.h"
#include "socket_kit.h"

/* --- a relay between two connections --------------------------------------------------------------------------- */

enum transport { TCP, UNIX_SOCKET, MEMORY };

struct bridge {
    struct stream client, client_side, server_side, server; /* in the order of a message on its way up */
    struct relay relay;
    uint64_t idle_us;
    struct fiber *fiber;
    int result; /* 1: it still runs */
};

static void open_pair(enum transport transport, struct stream *a, struct stream *b)
{
    struct endpoint endpoint = transport == TCP ? tcp_endpoint(0) : unix_endpoint("socket"), peer;
    struct io listener;
    int listening, fd;

    if (transport == MEMORY) {
        CHECK_EQUAL(stream_memory_pair(a, b, 5000), 0);
        return;
    }
    listening = listen_at(&endpoint, 16);
    CHECK_EQUAL(io_watch(&listener, listening, IO_READABLE, true), 0);
    CHECK_EQUAL(stream_connect(a, &endpoint, NEVER), 0);
    fd = socket_accept(&listener, &peer, NEVER);
    CHECK(fd >= 0);
    CHECK_EQUAL(stream_from_socket(b, fd), 0);
    io_forget(&listener);
    close(listening);
    if (transport == UNIX_SOCKET)
        CHECK_EQUAL(unlink(endpoint.un.sun_path), 0);
}

static void run_bridge(void *arg)
{
    struct bridge *bridge = arg;

    bridge->result = relay_run(&bridge->relay, bridge->idle_us);
    stream_close(&bridge->client_side);
    stream_close(&bridge->server_side);
}

/* Not started: the relay may be changed first. */
static void bridge_open_over(struct bridge *bridge, enum transport client, enum transport server)
{
    memset(bridge, 0, sizeof *bridge);
    open_pair(client, &bridge->client, &bridge->client_side);
    open_pair(server, &bridge->server_side, &bridge->server);
    relay_init(&bridge->relay, &bridge->client_side, &bridge->server_side);
    bridge->result = 1;
}

static void bridge_start(struct bridge *bridge, uint64_t idle_us)
{
    bridge->idle_us = idle_us;
    bridge->fiber = fiber_spawn("bridge", run_bridge, bridge);
}

static void bridge_open(struct bridge *bridge, uint64_t idle_us)
{
    bridge_open_over(bridge, TCP, TCP);
    bridge_start(bridge, idle_us);
}

/* Waits for the relay's end. */
static int bridge_join(struct bridge *bridge)
{
    if (!CHECK_EQUAL(fiber_join(bridge->fiber, in_ms(20000)), 0))
        fiber_cancel_and_join(bridge->fiber);
    return bridge->result;
}

static void bridge_close(struct bridge *bridge)
{
    if (bridge->client.kind)
        stream_close(&bridge->client);
    if (bridge->server.kind)
        stream_close(&bridge->server);
    splice_trim();
}

static void reset(struct stream *stream)
{
    stream_reset_on_close(stream);
    stream_close(stream);
    stream->kind = NULL;
}

static void write_text(struct stream *stream, const char *text)
{
    CHECK_EQUAL(stream_write_all(stream, text, strlen(text), NEVER), 0);
}

static void expect_text(struct stream *stream, const char *text)
{
    char bytes[64] = {0};
    size_t have = 0;

    while (have < strlen(text)) {
        ssize_t n = stream_read(stream, bytes + have, strlen(text) - have, in_ms(20000));

        if (!CHECK(n > 0))
            return;
        have += (size_t)n;
    }
    CHECK(strcmp(bytes, text) == 0);
}

/* What a read finds: 0 is the end. */
static ssize_t read_result(struct stream *stream)
{
    char byte;

    return stream_read(stream, &byte, 1, in_ms(20000));
}

/* --- transfers ------------------------------------------------------------------------------------------------- */

/* One way of a transfer. The byte at a position is known, so that a lost or swapped one shows. */
struct transfer {
    struct stream *stream;
    uint64_t seed;
    size_t total; /* to be written or read; a reader's 0: until the end */
    size_t piece; /* at most so much in a call */
    size_t done;
    ssize_t result; /* of the last call */
};

#define PIECE 100000u
#define MUCH SCALED((size_t)24 << 20, (size_t)3 << 20)

static char byte_at(uint64_t seed, size_t at)
{
    return (char)((at * 0x9e3779b97f4a7c15u + seed) >> 56);
}

/* Leaves the stream open. */
static void write_on(struct transfer *t)
{
    struct rng rng = {t->seed};
    char *bytes = malloc(t->piece);

    while (t->done < t->total) {
        size_t n = 1 + rng_below(&rng, (uint32_t)t->piece);

        n = n < t->total - t->done ? n : t->total - t->done;
        for (size_t i = 0; i < n; i++)
            bytes[i] = byte_at(t->seed, t->done + i);
        t->result = stream_write_all(t->stream, bytes, n, NEVER);
        if (t->result != 0)
            break;
        t->done += n;
    }
    free(bytes);
}

static void write_and_end(void *arg)
{
    struct transfer *t = arg;

    write_on(t);
    stream_shut_down(t->stream);
}

static void read_on(void *arg)
{
    struct transfer *t = arg;
    struct rng rng = {~t->seed};
    char *bytes = malloc(t->piece);

    while (!t->total || t->done < t->total) {
        size_t room = 1 + rng_below(&rng, (uint32_t)t->piece), same = 0;

        if (t->total && room > t->total - t->done)
            room = t->total - t->done;
        t->result = stream_read(t->stream, bytes, room, NEVER);
        if (t->result <= 0)
            break;
        while (same < (size_t)t->result && bytes[same] == byte_at(t->seed, t->done + same))
            same++;
        if (!CHECK_EQUAL(same, t->result))
            break;
        t->done += (size_t)t->result;
    }
    free(bytes);
}

static void join(struct fiber *fiber)
{
    if (!CHECK_EQUAL(fiber_join(fiber, in_ms(30000)), 0))
        fiber_cancel_and_join(fiber);
}

/* Much both ways at once, in pieces of any size, until both have ended. */
static void exchange_much(struct bridge *bridge)
{
    struct transfer up = {.stream = &bridge->client, .seed = 1, .total = MUCH, .piece = PIECE};
    struct transfer up_in = {.stream = &bridge->server, .seed = 1, .piece = PIECE};
    struct transfer down = {.stream = &bridge->server, .seed = 2, .total = MUCH / 2, .piece = PIECE / 30};
    struct transfer down_in = {.stream = &bridge->client, .seed = 2, .piece = PIECE};
    struct fiber *fibers[] = {fiber_spawn("up", write_and_end, &up), fiber_spawn("up in", read_on, &up_in),
                              fiber_spawn("down", write_and_end, &down),
                              fiber_spawn("down in", read_on, &down_in)};

    for (int i = 0; i < 4; i++)
        join(fibers[i]);
    CHECK_EQUAL(bridge_join(bridge), 0);
    CHECK_EQUAL(up_in.result, 0);
    CHECK_EQUAL(down_in.result, 0);
    CHECK_EQUAL(up_in.done, MUCH);
    CHECK_EQUAL(down_in.done, MUCH / 2);
    CHECK_EQUAL(bridge->relay.up.bytes, MUCH);
    CHECK_EQUAL(bridge->relay.down.bytes, MUCH / 2);
    CHECK(bridge->relay.broken == NULL);
}

static void every_byte_arrives_both_ways_over_any_streams(void *arg)
{
    static const enum transport rows[][2] = {{TCP, TCP},    {TCP, UNIX_SOCKET}, {UNIX_SOCKET, TCP},
                                             {TCP, MEMORY}, {MEMORY, TCP},      {MEMORY, MEMORY}};
    struct bridge bridge;

    (void)arg;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bridge_open_over(&bridge, rows[i][0], rows[i][1]);
        bridge_start(&bridge, 0);
        exchange_much(&bridge);
        bridge_close(&bridge);
    }
}

static void without_pipes_bytes_are_copied(void *arg)
{
    struct splice_pipe pipes[256];
    struct bridge bridge;
    unsigned n = 0;

    (void)arg;
    while (n < 256 && splice_pipe_take(&pipes[n]) == 0)
        n++;
    CHECK(n > 0 && n < 256);
    bridge_open(&bridge, 0);
    exchange_much(&bridge);
    while (n)
        splice_pipe_give(&pipes[--n]);
    bridge_close(&bridge);
}

static void what_was_read_already_goes_first(void *arg)
{
    struct bridge bridge;

    (void)arg;
    bridge_open_over(&bridge, TCP, TCP);
    bridge.relay.up.pending = SLICE("early ");
    bridge.relay.down.pending = SLICE("welcome ");
    write_text(&bridge.client, "up");
    write_text(&bridge.server, "down");
    bridge_start(&bridge, 0);
    expect_text(&bridge.server, "early up");
    expect_text(&bridge.client, "welcome down");
    CHECK_EQUAL(bridge.relay.up.bytes, 8); /* while it runs */
    CHECK_EQUAL(bridge.relay.down.bytes, 12);
    stream_shut_down(&bridge.client);
    stream_shut_down(&bridge.server);
    CHECK_EQUAL(bridge_join(&bridge), 0);
    bridge_close(&bridge);
}

static void count_release(void *owner)
{
    ++*(unsigned *)owner;
}

static void what_was_read_already_is_released_once_written_or_not(void *arg)
{
    struct bridge bridge;
    char *large = calloc(1, 100000);

    (void)arg;
    for (int cut = 0; cut < 2; cut++) {
        unsigned released = 0;

        bridge_open_over(&bridge, MEMORY, MEMORY); /* of a room of 5000 */
        bridge.relay.up.pending = slice_of(large, cut ? 100000 : 5000);
        bridge.relay.up.release = count_release;
        bridge.relay.up.owner = &released;
        bridge_start(&bridge, 5000);
        while (!cut && !released)
            fiber_yield();
        CHECK_EQUAL(bridge.result, 1);
        CHECK_EQUAL(bridge_join(&bridge), -ETIMEDOUT);
        CHECK_EQUAL(released, 1);
        bridge_close(&bridge);
    }
    free(large);
}

static void an_idle_relay_holds_no_block(void *arg)
{
    struct bridge bridge;
    void *warm = slab_take();

    (void)arg;
    slab_give(warm);
    bridge_open(&bridge, 0);
    for (int i = 0; i < 3; i++) {
        void *block;

        write_text(&bridge.client, "question");
        expect_text(&bridge.server, "question");
        write_text(&bridge.server, "answer");
        expect_text(&bridge.client, "answer");
        block = slab_take();
        CHECK(SLAB_PLAIN || block == warm); /* else it is held, and this is another one */
        slab_give(block);
    }
    fiber_cancel(bridge.fiber);
    bridge_join(&bridge);
    bridge_close(&bridge);
}

/* --- bulk ------------------------------------------------------------------------------------------------------ */

static void a_slow_reader_holds_the_writer_up(void *arg)
{
    struct bridge bridge;
    struct transfer out = {.seed = 3, .total = 256u << 20, .piece = PIECE};
    struct transfer in = {.seed = 3, .piece = PIECE};
    struct fiber *writer;
    int room = 65536;
    size_t before;

    (void)arg;
    bridge_open_over(&bridge, TCP, TCP);
    setsockopt(bridge.server.io.fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    setsockopt(bridge.server_side.io.fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    bridge_start(&bridge, 0);
    out.stream = &bridge.client;
    in.stream = &bridge.server;
    writer = fiber_spawn("writer", write_and_end, &out);
    do {
        before = out.done;
        fiber_sleep_until(in_ms(30));
    } while (out.done != before);
    CHECK(out.done > 0 && out.done < (64u << 20)); /* what the kernel holds for two connections, and a pipe */
    out.total = out.done + (1u << 20);
    read_on(&in);
    join(writer);
    CHECK_EQUAL(in.done, out.total);
    stream_shut_down(&bridge.server);
    CHECK_EQUAL(bridge_join(&bridge), 0);
    bridge_close(&bridge);
}

/* All of it one way, and it has arrived. */
static void send_across(struct stream *from, struct stream *to, size_t n)
{
    struct transfer out = {.stream = from, .seed = n, .total = n, .piece = PIECE};
    struct transfer in = {.stream = to, .seed = n, .total = n, .piece = PIECE};
    struct fiber *reader = fiber_spawn("reader", read_on, &in);

    write_on(&out);
    join(reader);
    CHECK_EQUAL(in.done, n);
}

static void after_a_bulk_single_bytes_pass_at_once(void *arg)
{
    struct bridge bridge;

    (void)arg;
    bridge_open(&bridge, 0);
    for (int round = 0; round < 3; round++) {
        send_across(&bridge.client, &bridge.server, 4u << 20);
        for (int i = 0; i < 20; i++) {
            write_text(&bridge.client, "?");
            expect_text(&bridge.server, "?");
            write_text(&bridge.server, "!");
            expect_text(&bridge.client, "!");
        }
        CHECK(!bridge.relay.up.bulk);
        CHECK_EQUAL(bridge.relay.up.low_water, 1);
    }
    fiber_cancel(bridge.fiber);
    bridge_join(&bridge);
    bridge_close(&bridge);
}

#define BLAST (1u << 20)

static void read_blast(void *arg)
{
    struct stream *stream = arg;
    char *bytes = malloc(BLAST);
    size_t done = 0;

    while (done < BLAST) {
        ssize_t n = stream_read(stream, bytes, BLAST - done, in_ms(20000));

        if (!CHECK(n > 0))
            break;
        done += (size_t)n;
    }
    free(bytes);
}

/* Faster than bytes can be made and looked at. */
static void blast_across(struct stream *from, struct stream *to)
{
    struct fiber *reader = fiber_spawn("reader", read_blast, to);
    char *bytes = calloc(1, BLAST);

    CHECK_EQUAL(stream_write_all(from, bytes, BLAST, in_ms(20000)), 0);
    join(reader);
    free(bytes);
}

/* The client waits for an answer to bytes that are less than the mark. Nothing but the relay's own clock helps. */
static void bytes_below_the_low_water_mark_are_not_kept(void *arg)
{
    struct bridge bridge;
    unsigned below = 0;
    uint64_t deadline;

    (void)arg;
    bridge_open(&bridge, 0);
    deadline = in_ms(40000); /* a busy machine needs many rounds before the mark stands at the end of one */
    while (below < 1 && loop_now_us() < deadline) {
        bridge.relay.up.run_min = 1; /* the mark is set from the first move on */
        blast_across(&bridge.client, &bridge.server);
        below += bridge.relay.up.low_water > 1; /* unless the machine was busy elsewhere: then once more */
        write_text(&bridge.client, "is that all?");
        expect_text(&bridge.server, "is that all?");
        write_text(&bridge.server, "yes");
        expect_text(&bridge.client, "yes");
    }
    CHECK_EQUAL(below, 1);
    fiber_cancel(bridge.fiber);
    bridge_join(&bridge);
    bridge_close(&bridge);
}

static void the_end_of_a_bulk_passes_the_low_water_mark(void *arg)
{
    struct bridge bridge;
    struct transfer in = {.seed = 4, .piece = PIECE}, out = {.seed = 4, .total = 2000000, .piece = PIECE};
    struct fiber *writer;

    (void)arg;
    bridge_open_over(&bridge, TCP, TCP);
    bridge.relay.up.run_min = 1;
    bridge_start(&bridge, 0);
    in.stream = &bridge.server;
    out.stream = &bridge.client;
    writer = fiber_spawn("writer", write_and_end, &out);
    read_on(&in);
    join(writer);
    CHECK_EQUAL(in.done, 2000000);
    CHECK_EQUAL(in.result, 0);
    stream_shut_down(&bridge.server);
    CHECK_EQUAL(bridge_join(&bridge), 0);
    bridge_close(&bridge);
}

static void who_takes_turns_is_not_kept_waiting_for_more(void *arg)
{
    struct bridge bridge;
    uint64_t run_min;

    (void)arg;
    bridge_open(&bridge, 0);
    run_min = bridge.relay.up.run_min;
    for (int i = 0; i < 40; i++) {
        send_across(&bridge.client, &bridge.server, 300000);
        send_across(&bridge.server, &bridge.client, 100);
        CHECK_EQUAL(bridge.relay.up.low_water, 1);
    }
    CHECK_EQUAL(bridge.relay.up.run_min, run_min); /* no wait was in vain */
    fiber_cancel(bridge.fiber);
    bridge_join(&bridge);
    bridge_close(&bridge);
}

/* --- ends ------------------------------------------------------------------------------------------------------ */

static void one_side_may_end_before_the_other(void *arg)
{
    struct bridge bridge;

    (void)arg;
    for (int up = 0; up < 2; up++) {
        struct stream *first, *second;

        bridge_open(&bridge, 0);
        first = up ? &bridge.client : &bridge.server;
        second = up ? &bridge.server : &bridge.client;
        write_text(first, "last words");
        stream_shut_down(first);
        expect_text(second, "last words");
        CHECK_EQUAL(read_result(second), 0);
        for (int i = 0; i < 3; i++) {
            write_text(second, "an answer");
            expect_text(first, "an answer");
        }
        CHECK_EQUAL(bridge.result, 1);
        stream_shut_down(second);
        CHECK_EQUAL(bridge_join(&bridge), 0);
        CHECK_EQUAL(read_result(first), 0);
        CHECK_EQUAL(up ? bridge.relay.down.bytes : bridge.relay.up.bytes, 27);
        bridge_close(&bridge);
    }
}

static void silence_both_ways_ends_it(void *arg)
{
    static const enum transport transports[] = {TCP, MEMORY};
    struct bridge bridge;

    (void)arg;
    for (int i = 0; i < 2; i++) {
        uint64_t begin = clock_monotonic_us();

        bridge_open_over(&bridge, transports[i], transports[i]);
        bridge_start(&bridge, 20000);
        CHECK_EQUAL(bridge_join(&bridge), -ETIMEDOUT);
        CHECK(clock_monotonic_us() - begin >= 20000);
        CHECK(bridge.relay.broken == NULL);
        CHECK_EQUAL(read_result(&bridge.client), 0); /* nothing was lost: an end, no reset */
        CHECK_EQUAL(read_result(&bridge.server), 0);
        bridge_close(&bridge);
    }
}

/* 120 ms of it with a limit of 60, each way in turn silent all the time. */
static void who_moves_one_way_is_not_idle(void *arg)
{
    struct bridge bridge;

    (void)arg;
    for (int up = 0; up < 2; up++) {
        bridge_open(&bridge, 60000);
        for (int i = 0; i < 24; i++) {
            CHECK_EQUAL(fiber_sleep_until(in_ms(5)), 0);
            write_text(up ? &bridge.client : &bridge.server, "x");
            expect_text(up ? &bridge.server : &bridge.client, "x");
        }
        CHECK_EQUAL(bridge.result, 1);
        CHECK_EQUAL(bridge_join(&bridge), -ETIMEDOUT);
        bridge_close(&bridge);
    }
}

/* It gets a reset: it must not take what came so far for whole. */
static void a_side_that_reads_nothing_is_given_up(void *arg)
{
    struct bridge bridge;
    struct transfer out = {.seed = 5, .total = 256u << 20, .piece = PIECE};
    struct transfer in = {.seed = 5, .piece = PIECE};
    struct fiber *writer;

    (void)arg;
    bridge_open(&bridge, 30000);
    out.stream = &bridge.client;
    in.stream = &bridge.server;
    writer = fiber_spawn("writer", write_and_end, &out);
    CHECK_EQUAL(bridge_join(&bridge), -ETIMEDOUT);
    join(writer);
    CHECK(out.result < 0);
    read_on(&in);
    CHECK_EQUAL(in.result, -ECONNRESET);
    bridge_close(&bridge);
}

static void a_reset_of_one_side_resets_the_other(void *arg)
{
    struct bridge bridge;

    (void)arg;
    for (int up = 0; up < 2; up++) {
        bridge_open(&bridge, 0);
        write_text(&bridge.client, "hello");
        expect_text(&bridge.server, "hello");
        reset(up ? &bridge.client : &bridge.server);
        CHECK_EQUAL(read_result(up ? &bridge.server : &bridge.client), -ECONNRESET);
        CHECK_EQUAL(bridge_join(&bridge), -ECONNRESET);
        CHECK(bridge.relay.broken == (up ? &bridge.client_side : &bridge.server_side));
        bridge_close(&bridge);
    }
}

/* Nobody reads from it any more, and nobody writes to it yet. */
static void a_reset_after_an_end_is_noticed(void *arg)
{
    struct bridge bridge;

    (void)arg;
    for (int up = 0; up < 2; up++) {
        struct stream *first, *second;

        bridge_open(&bridge, 0);
        first = up ? &bridge.client : &bridge.server;
        second = up ? &bridge.server : &bridge.client;
        stream_shut_down(first);
        CHECK_EQUAL(read_result(second), 0);
        reset(first);
        CHECK(bridge_join(&bridge) < 0);
        CHECK(bridge.relay.broken == (up ? &bridge.client_side : &bridge.server_side));
        bridge_close(&bridge);
    }
}

/* The client reads nothing, but what it says finds the server gone. */
static void a_way_that_waits_for_a_reader_ends_with_the_other(void *arg)
{
    static const enum transport transports[] = {TCP, MEMORY};
    struct bridge bridge;

    (void)arg;
    for (int i = 0; i < 2; i++) {
        struct transfer out = {.seed = 6, .total = 256u << 20, .piece = PIECE};
        struct fiber *writer;
        uint64_t before;

        bridge_open_over(&bridge, transports[i], TCP);
        bridge_start(&bridge, 0);
        out.stream = &bridge.server;
        writer = fiber_spawn("writer", write_and_end, &out);
        do {
            before = out.done;
            fiber_sleep_until(in_ms(30));
        } while (out.done != before);
        fiber_cancel_and_join(writer);
        reset(&bridge.server);
        CHECK_EQUAL(bridge.result, 1);
        write_text(&bridge.client, "anybody there?");
        CHECK(bridge_join(&bridge) < 0);
        CHECK(bridge.relay.broken == &bridge.server_side);
        bridge_close(&bridge);
    }
}

static void a_cancel_ends_both_ways(void *arg)
{
    static const enum transport transports[] = {TCP, MEMORY};
    struct bridge bridge;

    (void)arg;
    for (int i = 0; i < 4; i++) {
        bridge_open_over(&bridge, transports[i % 2], transports[i % 2]);
        bridge_start(&bridge, 0);
        write_text(&bridge.client, "hello");
        expect_text(&bridge.server, "hello");
        if (i / 2) { /* one way has ended by then */
            stream_shut_down(&bridge.client);
            CHECK_EQUAL(read_result(&bridge.server), 0);
        }
        fiber_cancel(bridge.fiber);
        CHECK_EQUAL(bridge_join(&bridge), -ECANCELED);
        CHECK_EQUAL(read_result(&bridge.client), 0);
        CHECK_EQUAL(read_result(&bridge.server), 0);
        bridge_close(&bridge);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIBER_TEST(every_byte_arrives_both_ways_over_any_streams),
        FIBER_TEST(without_pipes_bytes_are_copied),
        FIBER_TEST(what_was_read_already_goes_first),
        FIBER_TEST(what_was_read_already_is_released_once_written_or_not),
        FIBER_TEST(an_idle_relay_holds_no_block),
        FIBER_TEST(a_slow_reader_holds_the_writer_up),
        FIBER_TEST(after_a_bulk_single_bytes_pass_at_once),
        FIBER_TEST(bytes_below_the_low_water_mark_are_not_kept),
        FIBER_TEST(the_end_of_a_bulk_passes_the_low_water_mark),
        FIBER_TEST(who_takes_turns_is_not_kept_waiting_for_more),
        FIBER_TEST(one_side_may_end_before_the_other),
        FIBER_TEST(silence_both_ways_ends_it),
        FIBER_TEST(who_moves_one_way_is_not_idle),
        FIBER_TEST(a_side_that_reads_nothing_is_given_up),
        FIBER_TEST(a_reset_of_one_side_resets_the_other),
        FIBER_TEST(a_reset_after_an_end_is_noticed),
        FIBER_TEST(a_way_that_waits_for_a_reader_ends_with_the_other),
        FIBER_TEST(a_cancel_ends_both_ways),
    };

    kit_watchdog(50);
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
