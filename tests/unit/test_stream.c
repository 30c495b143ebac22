/* test_stream.c - fiber/stream.h: the same tests over TCP, unix sockets and memory. What only sockets do is
 * in test_socket.c. */
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
#include "fiber_kit.h"
#include "socket_kit.h"

/* --- transports ---------------------------------------------------------------------------------------------- */

struct pair {
    struct stream a, b;
};

/* One test over one transport. */
struct row {
    void (*open)(struct pair *pair);
    void (*main)(struct pair *pair); /* closes both ends */
};

static void open_sockets(struct pair *pair, struct endpoint endpoint)
{
    struct io listener;
    struct endpoint peer;
    int listening = listen_at(&endpoint, 16), fd;

    CHECK_EQUAL(io_watch(&listener, listening, IO_READABLE, true), 0);
    CHECK_EQUAL(stream_connect(&pair->a, &endpoint, NEVER), 0);
    fd = socket_accept(&listener, &peer, NEVER);
    CHECK(fd >= 0);
    CHECK_EQUAL(peer.sa.sa_family, endpoint.sa.sa_family);
    CHECK_EQUAL(stream_from_socket(&pair->b, fd), 0);
    io_forget(&listener);
    close(listening);
    if (endpoint.sa.sa_family == AF_UNIX)
        CHECK_EQUAL(unlink(endpoint.un.sun_path), 0);
}

static void tcp_open(struct pair *pair)
{
    open_sockets(pair, tcp_endpoint(0));
}

static void unix_socket_open(struct pair *pair)
{
    open_sockets(pair, unix_endpoint("socket"));
}

static void memory_open(struct pair *pair)
{
    CHECK_EQUAL(stream_memory_pair(&pair->a, &pair->b, 5000), 0);
}

static bool over_memory(const struct pair *pair)
{
    return pair->a.in != NULL;
}

static void pair_close(struct pair *pair)
{
    stream_close(&pair->a);
    stream_close(&pair->b);
}

static void run_row(void *arg)
{
    struct row *row = arg;
    struct pair pair;

    row->open(&pair);
    row->main(&pair);
}

static void test_row(void **state)
{
    kit_run(run_row, *state);
}

/* Exactly n bytes, or false. */
static bool read_all(struct stream *stream, char *bytes, size_t n)
{
    while (n) {
        ssize_t got = stream_read(stream, bytes, n, NEVER);

        if (!CHECK(got > 0))
            return false;
        bytes += got;
        n -= (size_t)got;
    }
    return true;
}

static void write_text(struct stream *stream, const char *text)
{
    CHECK_EQUAL(stream_write_all(stream, text, strlen(text), NEVER), 0);
}

static void expect_text(struct stream *stream, const char *text)
{
    char bytes[64] = {0};

    CHECK(read_all(stream, bytes, strlen(text)));
    CHECK(strcmp(bytes, text) == 0);
}

static void expect_end(struct stream *stream)
{
    char byte;

    CHECK_EQUAL(stream_read(stream, &byte, 1, NEVER), 0);
}

/* --- over each transport ------------------------------------------------------------------------------------- */

static void what_one_end_writes_the_other_reads(struct pair *pair)
{
    struct iovec parts[] = {{"in ", 3}, {"", 0}, {"three ", 6}, {"parts", 5}};

    CHECK_EQUAL(stream_write(&pair->a, parts, 4, NEVER), 14);
    expect_text(&pair->b, "in three parts");
    write_text(&pair->b, "back");
    expect_text(&pair->a, "back");
    CHECK_EQUAL(stream_write_all(&pair->a, "", 0, NEVER), 0);
    pair_close(pair);
}

static void an_end_comes_after_every_byte_and_the_other_way_stays_open(struct pair *pair)
{
    write_text(&pair->a, "the last words");
    stream_shut_down(&pair->a);
    expect_text(&pair->b, "the last words");
    expect_end(&pair->b);
    expect_end(&pair->b); /* and stays */
    write_text(&pair->b, "an answer all the same");
    expect_text(&pair->a, "an answer all the same");
    stream_shut_down(&pair->b);
    expect_end(&pair->a);
    pair_close(pair);
}

static void a_close_is_an_end_after_every_byte(struct pair *pair)
{
    char bytes[64];

    write_text(&pair->a, "gone");
    stream_close(&pair->a);
    CHECK_EQUAL(stream_wait_readable(&pair->b, NEVER), 0);
    CHECK_EQUAL(stream_read(&pair->b, bytes, sizeof bytes, NEVER),
                4); /* short, and yet there is an end to read */
    CHECK_EQUAL(stream_wait_readable(&pair->b, NEVER), 0);
    expect_end(&pair->b);
    stream_close(&pair->b);
}

/* One way of a transfer. The byte at a position is known, so that a lost or swapped one shows. */
struct way {
    struct stream *stream;
    uint64_t seed;
    size_t total, done;
};

#define CHUNK 20000u

static char byte_at(uint64_t seed, size_t at)
{
    return (char)((at * 0x9e3779b97f4a7c15u + seed) >> 56);
}

static void write_way(void *arg)
{
    struct way *way = arg;
    struct rng rng = {way->seed};
    char *bytes = malloc(CHUNK);

    while (way->done < way->total) {
        size_t n = 1 + rng_below(&rng, CHUNK);

        n = n < way->total - way->done ? n : way->total - way->done;
        for (size_t i = 0; i < n; i++)
            bytes[i] = byte_at(way->seed, way->done + i);
        if (!CHECK_EQUAL(stream_write_all(way->stream, bytes, n, NEVER), 0))
            break;
        way->done += n;
    }
    stream_shut_down(way->stream);
    free(bytes);
}

static void read_way(void *arg)
{
    struct way *way = arg;
    struct rng rng = {~way->seed};
    char *bytes = malloc(CHUNK);

    for (;;) {
        ssize_t n = stream_read(way->stream, bytes, 1 + rng_below(&rng, CHUNK), NEVER);
        size_t same = 0;

        if (!CHECK(n >= 0) || n == 0)
            break;
        while (same < (size_t)n && bytes[same] == byte_at(way->seed, way->done + same))
            same++;
        if (!CHECK_EQUAL(same, n))
            break;
        way->done += (size_t)n;
    }
    free(bytes);
}

#define TRANSFER SCALED((size_t)16 << 20, (size_t)2 << 20)

static void much_goes_both_ways_at_once(struct pair *pair)
{
    struct way out = {&pair->a, 8, TRANSFER, 0}, in = {&pair->a, 9, 0, 0};
    struct way there_in = {&pair->b, 8, 0, 0}, there_out = {&pair->b, 9, TRANSFER / 2, 0};
    struct fiber *fibers[] = {fiber_spawn("write a", write_way, &out), fiber_spawn("read a", read_way, &in),
                              fiber_spawn("read b", read_way, &there_in),
                              fiber_spawn("write b", write_way, &there_out)};

    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(fiber_join(fibers[i], NEVER), 0);
    CHECK_EQUAL(there_in.done, TRANSFER);
    CHECK_EQUAL(in.done, TRANSFER / 2);
    pair_close(pair);
}

/* So that a socket holds no more than a memory pipe might. */
static void bound_buffers(struct pair *pair)
{
    int bytes = 65536;

    if (over_memory(pair))
        return;
    CHECK_EQUAL(setsockopt(pair->a.io.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0);
    CHECK_EQUAL(setsockopt(pair->b.io.fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
}

static void a_writer_waits_for_room_and_goes_on_when_there_is(struct pair *pair)
{
    struct way out = {&pair->a, 10, 4u << 20, 0}, in = {&pair->b, 10, 0, 0};
    struct fiber *writer, *reader;

    bound_buffers(pair);
    writer = fiber_spawn("writer", write_way, &out);
    CHECK_EQUAL(fiber_join(writer, in_ms(20)), -ETIMEDOUT);
    CHECK(out.done < out.total);
    reader = fiber_spawn("reader", read_way, &in);
    CHECK_EQUAL(fiber_join(writer, NEVER), 0);
    CHECK_EQUAL(fiber_join(reader, NEVER), 0);
    CHECK_EQUAL(in.done, out.total);
    pair_close(pair);
}

static ssize_t wait_read(struct stream *stream, uint64_t deadline_us)
{
    char bytes[10];

    return stream_read(stream, bytes, sizeof bytes, deadline_us);
}

/* Writes on while there is room: TCP may find some more long after it had none. So this ends with an error only. */
static ssize_t wait_write(struct stream *stream, uint64_t deadline_us)
{
    static char bytes[4096];
    struct iovec part = {bytes, sizeof bytes};
    ssize_t n;

    do
        n = stream_write(stream, &part, 1, deadline_us);
    while (n > 0);
    return n;
}

static void fill(struct stream *stream)
{
    CHECK_EQUAL(wait_write(stream, in_ms(10)), -ETIMEDOUT);
}

static ssize_t wait_input(struct stream *stream, uint64_t deadline_us)
{
    return stream_wait_readable(stream, deadline_us);
}

static ssize_t (*const waits[])(struct stream *, uint64_t) = {wait_read, wait_write, wait_input};

static void every_wait_ends_at_its_deadline_and_breaks_nothing(struct pair *pair)
{
    write_text(&pair->b, "all");
    expect_text(&pair->a, "all"); /* a read that got all it asked for cannot tell that there is no more */
    fill(&pair->a);
    for (int i = 0; i < 3; i++) {
        uint64_t deadline = in_ms(3);

        CHECK_EQUAL(waits[i](&pair->a, deadline), -ETIMEDOUT);
        CHECK(clock_monotonic_us() >= deadline);
        CHECK_EQUAL(waits[i](&pair->a, 1), -ETIMEDOUT); /* long past */
    }
    write_text(&pair->b, "still here");
    CHECK_EQUAL(stream_wait_readable(&pair->a, NEVER), 0);
    expect_text(&pair->a, "still here");
    pair_close(pair);
}

struct victim {
    struct stream *stream;
    ssize_t (*wait)(struct stream *, uint64_t);
    ssize_t first, second;
};

static void wait_twice(void *arg)
{
    struct victim *victim = arg;

    victim->first = victim->wait(victim->stream, NEVER);
    victim->second = victim->wait(victim->stream, NEVER);
}

static void a_cancel_ends_every_wait_and_the_next(struct pair *pair)
{
    fill(&pair->a);
    for (int i = 0; i < 3; i++) {
        struct victim victim = {&pair->a, waits[i], 1, 1};
        struct fiber *fiber = fiber_spawn("victim", wait_twice, &victim);

        CHECK_EQUAL(fiber_join(fiber, in_ms(2)), -ETIMEDOUT);
        CHECK_EQUAL(victim.first, 1);
        fiber_cancel_and_join(fiber);
        CHECK_EQUAL(victim.first, -ECANCELED);
        CHECK_EQUAL(victim.second, -ECANCELED);
    }
    write_text(&pair->b, "still here");
    expect_text(&pair->a, "still here");
    pair_close(pair);
}

static void a_waiting_reader_learns_of_bytes_and_of_the_end(struct pair *pair)
{
    struct victim reader = {&pair->b, wait_read, -1, -1};
    struct fiber *fiber = fiber_spawn("reader", wait_twice, &reader);

    CHECK_EQUAL(fiber_join(fiber, in_ms(2)), -ETIMEDOUT);
    write_text(&pair->a, "abc");
    while (reader.first < 0)
        fiber_yield();
    CHECK_EQUAL(reader.first, 3);
    CHECK_EQUAL(fiber_join(fiber, in_ms(2)), -ETIMEDOUT);
    stream_close(&pair->a);
    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
    CHECK_EQUAL(reader.second, 0);
    stream_close(&pair->b);
}

static void a_write_to_a_closed_peer_is_an_error_and_no_signal(struct pair *pair)
{
    ssize_t error;

    stream_close(&pair->b);
    error = wait_write(&pair->a, NEVER);
    CHECK(error == -EPIPE || error == -ECONNRESET);
    CHECK_EQUAL(wait_write(&pair->a, NEVER), -EPIPE);
    stream_close(&pair->a);
}

static void a_writer_that_waits_learns_of_the_close(struct pair *pair)
{
    struct victim writer = {&pair->a, wait_write, 1, 1};
    struct fiber *fiber;

    fill(&pair->a);
    fiber = fiber_spawn("writer", wait_twice, &writer);
    CHECK_EQUAL(fiber_join(fiber, in_ms(2)), -ETIMEDOUT);
    stream_close(&pair->b);
    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
    CHECK(writer.first == -EPIPE || writer.first == -ECONNRESET);
    CHECK_EQUAL(writer.second, -EPIPE);
    stream_close(&pair->a);
}

static void an_abort_ends_our_reader_and_our_writer_and_the_peers_reader(struct pair *pair)
{
    struct victim reader = {&pair->a, wait_read, -1, -1}, writer = {&pair->a, wait_write, 1, 1};
    struct fiber *reads, *writes;
    char bytes[4096];
    ssize_t n;

    fill(&pair->a);
    reads = fiber_spawn("reader", wait_twice, &reader);
    writes = fiber_spawn("writer", wait_twice, &writer);
    CHECK_EQUAL(fiber_join(reads, in_ms(2)), -ETIMEDOUT);
    stream_abort(&pair->a);
    if (!CHECK_EQUAL(fiber_join(reads, in_ms(5000)), 0))
        fiber_cancel_and_join(reads);
    if (!CHECK_EQUAL(fiber_join(writes, in_ms(5000)), 0))
        fiber_cancel_and_join(writes);
    CHECK_EQUAL(reader.first, 0);
    CHECK_EQUAL(reader.second, 0);
    CHECK_EQUAL(writer.first, -EPIPE);
    CHECK_EQUAL(writer.second, -EPIPE);
    while ((n = stream_read(&pair->b, bytes, sizeof bytes, NEVER)) > 0)
        ;
    CHECK_EQUAL(n, 0);
    pair_close(pair);
}

static void a_stream_is_quiet_until_there_are_bytes_or_the_end(struct pair *pair)
{
    CHECK(stream_is_quiet(&pair->b));
    write_text(&pair->a, "x");
    CHECK_EQUAL(stream_wait_readable(&pair->b, NEVER), 0);
    CHECK(!stream_is_quiet(&pair->b));
    expect_text(&pair->b, "x"); /* which is not taken by the question */
    CHECK(stream_is_quiet(&pair->b));
    stream_shut_down(&pair->a);
    CHECK_EQUAL(stream_wait_readable(&pair->b, NEVER), 0);
    CHECK(!stream_is_quiet(&pair->b));
    pair_close(pair);
}

/* A read that filled its buffer does not show whether there is more. An idle connection must wait without a buffer,
 * whatever was read before. */
static void a_wait_for_input_goes_on_until_there_is_some(struct pair *pair)
{
    struct victim victim = {&pair->b, wait_input, 1, 1};
    struct fiber *fiber;

    write_text(&pair->a, "exactly");
    expect_text(&pair->b, "exactly");
    CHECK_EQUAL(stream_wait_readable(&pair->b, in_ms(5)), -ETIMEDOUT);
    fiber = fiber_spawn("victim", wait_twice, &victim);
    for (int i = 0; i < 3; i++) {
        fiber_yield();
        fiber_wake(fiber); /* by mistake */
    }
    CHECK_EQUAL(fiber_join(fiber, in_ms(2)), -ETIMEDOUT);
    CHECK_EQUAL(victim.first, 1);
    write_text(&pair->a, "more");
    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
    CHECK_EQUAL(victim.first, 0);
    CHECK_EQUAL(victim.second, 0);
    expect_text(&pair->b, "more");
    pair_close(pair);
}

/* --- over some -------------------------------------------------------------------------------------------- */

struct spinner {
    struct pair *pair;
    unsigned rounds, others;
    int error;
};

/* Its input is there before it asks, for as long as it likes. */
static void never_wait(void *arg)
{
    struct spinner *spinner = arg;
    struct iovec part = {"x", 1};
    char byte;

    while (spinner->error == 0 && spinner->rounds < 20000) {
        ssize_t n = stream_write(&spinner->pair->a, &part, 1, NEVER);

        if (n == 1)
            n = stream_read(&spinner->pair->b, &byte, 1, NEVER);
        if (n != 1)
            spinner->error = (int)n;
        spinner->rounds++;
    }
}

static void a_fiber_whose_input_never_ends_lets_others_run_and_can_be_cancelled(struct pair *pair)
{
    struct spinner spinner = {.pair = pair};
    struct fiber *fiber = fiber_spawn("spinner", never_wait, &spinner);

    for (int i = 0; i < 10; i++)
        fiber_yield();
    CHECK(spinner.rounds > 0);
    CHECK(spinner.rounds < 20000);
    fiber_cancel_and_join(fiber);
    CHECK_EQUAL(spinner.error, -ECANCELED);
    pair_close(pair);
}

static void a_reset_on_close_is_no_end(struct pair *pair)
{
    char byte;

    stream_reset_on_close(&pair->a);
    stream_close(&pair->a);
    CHECK_EQUAL(stream_read(&pair->b, &byte, 1, NEVER), -ECONNRESET);
    stream_close(&pair->b);
}

static void reset_of_memory_is_harmless(struct pair *pair)
{
    stream_reset_on_close(&pair->a);
    CHECK(over_memory(pair));
    stream_close(&pair->a);
    expect_end(&pair->b);
    stream_close(&pair->b);
}

/* clang-format off */
#define OVER(transport, test) {#test " over " #transport, test_row, NULL, NULL, &(struct row){transport##_open, test}}
/* clang-format on */
#define OVER_SOCKETS(test) OVER(tcp, test), OVER(unix_socket, test)
#define OVER_EACH(test) OVER_SOCKETS(test), OVER(memory, test)

int main(void)
{
    const struct CMUnitTest tests[] = {
        OVER_EACH(what_one_end_writes_the_other_reads),
        OVER_EACH(an_end_comes_after_every_byte_and_the_other_way_stays_open),
        OVER_EACH(a_close_is_an_end_after_every_byte),
        OVER_EACH(much_goes_both_ways_at_once),
        OVER_EACH(a_writer_waits_for_room_and_goes_on_when_there_is),
        OVER_EACH(every_wait_ends_at_its_deadline_and_breaks_nothing),
        OVER_EACH(a_cancel_ends_every_wait_and_the_next),
        OVER_EACH(a_waiting_reader_learns_of_bytes_and_of_the_end),
        OVER_EACH(a_write_to_a_closed_peer_is_an_error_and_no_signal),
        OVER_EACH(a_writer_that_waits_learns_of_the_close),
        OVER_EACH(an_abort_ends_our_reader_and_our_writer_and_the_peers_reader),
        OVER_EACH(a_stream_is_quiet_until_there_are_bytes_or_the_end),
        OVER_EACH(a_wait_for_input_goes_on_until_there_is_some),
        OVER_SOCKETS(a_fiber_whose_input_never_ends_lets_others_run_and_can_be_cancelled),
        OVER(tcp, a_reset_on_close_is_no_end),
        OVER(memory, reset_of_memory_is_harmless),
    };

    kit_watchdog(55);
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
