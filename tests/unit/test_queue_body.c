/* test_queue_body.c - queue/body.h over a simulated disk: large bodies in files of their own, written and read by helpers, and that
 * whoever stops waiting leaves nothing behind.
 *
 * The queue thread is this one: its broker is here, its mailbox is the loop's. Helpers are real, and come to the disk through a gate
 * that holds them up where a test says so. */
#include <errno.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/rng.h"
#include "fiber_kit.h"
#include "gate_kit.h"
#include "helper_kit.h"
#include "queue/body.h"
#include "queue/thread_private.h"

#if SANITIZED
#include <sanitizer/allocator_interface.h>
#endif

#define MIB (1024u * 1024)
#define PIECE STORED_PIECE_BYTES
#define SYNC_BYTES (8 * MIB)
#define BYTES (2 * PIECE + 1000)
#define Q SLICE("q")
#define N(table) (sizeof(table) / sizeof(table)[0])

static struct log *store;
static struct broker *broker;
static struct queue_thread thread;
static struct queue_port port;
static char content[3 * MIB];

/* ---- a queue thread ---------------------------------------------------------------------------------------------- */

static void open_store(uint64_t bytes_max)
{
    struct log_options of_log = {
        .storage = disk_storage(disk), .segment_bytes = MIB, .bytes_max = bytes_max, .id = 7};
    struct broker_options of_broker = {.storage = disk_storage(disk),
                                       .events = &queue_thread_events,
                                       .arg = &thread,
                                       .seed = 1,
                                       .now_us = 1};
    struct log_report report;

    assert_int_equal(log_open(&store, &of_log, &report), 0);
    of_broker.log = store;
    assert_int_equal(broker_open(&broker, &of_broker, &report), 0);
    thread = (struct queue_thread){.storage = &gate.storage, .log = store, .broker = broker};
}

static void close_store(void)
{
    broker_close(broker);
    log_close(store);
}

static int set_up(void **state)
{
    struct rng rng = {1};

    (void)state;
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (char)rng_next(&rng);
    disk = disk_new(1);
    gate_reset();
    open_store(0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    close_store();
    disk_free(disk);
    return 0;
}

/* In the fiber of a test, first and last. */
static void open_port(void)
{
    thread.mailbox = loop_mailbox(loop_self());
    queue_port_open(&port, &thread, MIB);
}

static void close_port(void)
{
    queue_port_close(&port);
    await_helpers_end();
    CHECK_EQUAL(port.users, 0);
    CHECK_EQUAL(gate.open, 0);
}

/* What its turn does with bodies that nothing needs: how many went. */
static unsigned let_go(void)
{
    unsigned n = 0;

    broker_flush(broker);
    CHECK_EQUAL(log_commit(store), 0);
    broker_run(broker, 2);
    while (broker_body_leaves(broker)) {
        struct body_ref ref = broker_body_take_leave(broker);

        stored_body_remove(disk_storage(disk), ref.id);
        broker_body_removed(broker, ref);
        n++;
    }
    return n;
}

/* Until nothing of the port is under way. */
static void settle(void)
{
    while (port.users)
        CHECK_EQUAL(fiber_yield(), 0);
}

/* What came to its end leaves nothing: no memory that counts at the port, no file, no number at the broker. */
static void check_all_gone(void)
{
    settle();
    CHECK_EQUAL(gate.open, 0);
    CHECK_EQUAL(let_go(), 1);
    for (size_t i = 0; disk_name(disk, i); i++)
        CHECK(!stored_body_parse_name(disk_name(disk, i), &(uint64_t){0}));
}

static const char *name_of(struct body_ref ref)
{
    static char name[STORED_NAME_MAX];

    stored_body_file_name(ref.id, name);
    return name;
}

static enum publish_result publish(struct body_ref ref)
{
    struct broker_queue_options options = {.ack_timeout_us = 60 * US_PER_S};
    struct broker_publication publication = {.key = Q, .stored = ref};
    struct broker_published published;

    CHECK_EQUAL(broker_declare_queue(broker, Q, &options, DECLARE_SAME), 0);
    return broker_publish(broker, &publication, &published, 2);
}

/* ---- writing and reading ----------------------------------------------------------------------------------------- */

static struct queue_body *create(uint64_t bytes)
{
    struct queue_body *body;

    if (!CHECK_EQUAL(queue_body_create(&port, bytes, &body), 0))
        abort(); /* nothing after it makes sense */
    return body;
}

/* The content's bytes from one to the other. */
static int write_some(struct queue_body *body, size_t from, size_t to)
{
    struct slice bytes = slice_of(content + from, to - from);
    int error = queue_body_write(body, &bytes);

    CHECK(error || !bytes.len);
    return error;
}

/* All of it, so many bytes at a time. */
static struct queue_body *write_all(size_t bytes, size_t portion)
{
    struct queue_body *body = create(bytes);

    for (size_t at = 0; at < bytes; at += portion)
        CHECK_EQUAL(write_some(body, at, bytes - at < portion ? bytes : at + portion), 0);
    CHECK_EQUAL(queue_body_finish(body), 0);
    return body;
}

/* Durable, and needed by nobody: its file stays until let_go. */
static struct body_ref store_all(size_t bytes)
{
    struct queue_body *body = write_all(bytes, bytes);
    struct body_ref ref = queue_body_ref(body);

    queue_body_end(body);
    settle();
    return ref;
}

static struct queue_reader *open_reader(struct body_ref ref, bool keeps)
{
    struct stored_body body;
    struct queue_reader *reader;

    CHECK_EQUAL(queue_body_open(&port, ref, &body), 0);
    reader = queue_reader_create(&port, &body, keeps);
    if (!CHECK(reader != NULL))
        abort();
    CHECK(!body.file);
    return reader;
}

/* Until its end or an error, which it returns; *at: how many bytes were as they were written. */
static int read_on(struct queue_reader *reader, size_t *at)
{
    struct slice piece;
    int result;

    while ((result = queue_reader_next(reader, &piece)) == 1) {
        CHECK(piece.len && piece.len <= PIECE);
        CHECK(*at + piece.len <= sizeof content && memcmp(piece.ptr, content + *at, piece.len) == 0);
        *at += piece.len;
    }
    CHECK_EQUAL(piece.len, 0);
    return result;
}

static void check_reads(struct body_ref ref, uint64_t bytes)
{
    struct queue_reader *reader = open_reader(ref, false);
    size_t at = 0;

    CHECK_EQUAL(read_on(reader, &at), 0);
    CHECK_EQUAL(at, bytes);
    queue_reader_free(reader);
}

static void a_body_comes_back_as_it_was_written(void *arg)
{
    static const size_t sizes[] = {
        0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE - 1, 2 * PIECE, 2 * PIECE + 1, MIB + 1, 3 * MIB};
    static const size_t portions[] = {4099, PIECE / 2, PIECE - 1, PIECE, PIECE + 1, 3 * MIB};

    (void)arg;
    open_port();
    for (size_t i = 0; i < N(sizes); i++)
        for (size_t k = 0; k < N(portions); k++) {
            struct queue_body *body = write_all(sizes[i], portions[k]);
            struct body_ref ref = queue_body_ref(body);

            CHECK_EQUAL(ref.bytes, sizes[i]);
            CHECK_EQUAL(disk_size(disk, name_of(ref)), stored_body_file_bytes(sizes[i]));
            check_reads(ref, sizes[i]);
            queue_body_end(body);
            settle();
            CHECK_EQUAL(let_go(), 1);
        }
    close_port();
}

static void a_byte_at_a_time_makes_whole_pieces(void *arg)
{
    struct queue_body *body;

    (void)arg;
    open_port();
    body = write_all(PIECE + 3, 1);
    CHECK_EQUAL(disk_size(disk, name_of(queue_body_ref(body))), PIECE + 3 + 2 * STORED_PIECE_OVERHEAD);
    check_reads(queue_body_ref(body), PIECE + 3);
    queue_body_end(body);
    close_port();
}

static void every_body_has_a_file_of_its_own(void *arg)
{
    struct queue_body *first, *second;

    (void)arg;
    open_port();
    first = create(2000);
    second = create(1000);
    CHECK(queue_body_ref(first).id != 0);
    CHECK(queue_body_ref(first).id != queue_body_ref(second).id);
    CHECK_EQUAL(write_some(second, 0, 1000), 0);
    CHECK_EQUAL(write_some(first, 0, 2000), 0);
    CHECK_EQUAL(queue_body_finish(first), 0);
    CHECK_EQUAL(queue_body_finish(second), 0);
    check_reads(queue_body_ref(first), 2000);
    check_reads(queue_body_ref(second), 1000);
    queue_body_end(first);
    queue_body_end(second);
    settle();
    CHECK_EQUAL(let_go(), 2);
    close_port();
}

/* ---- what it takes ----------------------------------------------------------------------------------------------- */

static void what_is_taken_is_written_but_for_less_than_a_piece(void *arg)
{
    struct queue_body *body;

    (void)arg;
    open_port();
    body = create(3 * MIB);
    for (size_t at = 0; at < 3 * MIB; at += 100 * 1024) {
        size_t end = at + 100 * 1024 < 3 * MIB ? at + 100 * 1024 : 3 * MIB;

        CHECK_EQUAL(write_some(body, at, end), 0);
        CHECK_EQUAL(gate.written, end / PIECE * STORED_BUFFER_BYTES);
    }
    CHECK_EQUAL(queue_body_finish(body), 0);
    CHECK_EQUAL(gate.written, stored_body_file_bytes(3 * MIB));
    CHECK_EQUAL(gate.write_max, STORED_BUFFER_BYTES);
    check_reads(queue_body_ref(body), 3 * MIB);
    CHECK_EQUAL(gate.read_max, STORED_BUFFER_BYTES);
    queue_body_end(body);
    close_port();
}

static size_t heap_bytes(void)
{
#if SANITIZED
    return __sanitizer_get_current_allocated_bytes();
#else
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
#endif
}

static void one_that_waits_to_be_published_has_no_piece_in_memory(void *arg)
{
    struct queue_body *bodies[8];
    size_t begun, finished;

    (void)arg;
    open_port();
    for (size_t i = 0; i < N(bodies); i++) {
        bodies[i] = create(10);
        CHECK_EQUAL(write_some(bodies[i], 0, 10), 0);
    }
    begun = heap_bytes();
    for (size_t i = 0; i < N(bodies); i++)
        CHECK_EQUAL(queue_body_finish(bodies[i]), 0);
    await_helpers_end();
    finished = heap_bytes();
    CHECK(begun > finished && begun - finished > (N(bodies) - 1) * PIECE);
    CHECK_EQUAL(gate.open, 0); /* nor a descriptor */
    for (size_t i = 0; i < N(bodies); i++)
        queue_body_end(bodies[i]);
    close_port();
}

static void a_long_one_is_synced_every_8_mib_and_in_the_end(void *arg)
{
    uint64_t before;
    struct queue_body *body;

    (void)arg;
    open_port();
    body = create(17 * MIB);
    before = disk_count(disk, DISK_SYNC);
    for (unsigned i = 0; i < 17; i++)
        CHECK_EQUAL(write_some(body, 0, MIB), 0);
    CHECK_EQUAL(disk_count(disk, DISK_SYNC) - before, 2);
    CHECK(gate.unsynced_max >= SYNC_BYTES && gate.unsynced_max < SYNC_BYTES + 2 * PIECE);
    CHECK_EQUAL(queue_body_finish(body), 0);
    CHECK_EQUAL(disk_count(disk, DISK_SYNC) - before, 3);
    queue_body_end(body);
    close_port();
}

/* A segment of 4 MiB takes a record of a quarter; what is left of one beside a head and many queues is a body's. */
static void how_large_a_body_may_be_follows_from_the_log(void **state)
{
    static const struct {
        uint64_t record, stored, from, most;
    } rows[] = {
        {0, 0, 0, 0},
        {4096, 0, 1024, 0},
        {192 * 1024, 0, 48 * 1024, 0},
        {192 * 1024 + 1, 0, 48 * 1024, 1},
        {256 * 1024, 0, 64 * 1024, 64 * 1024},
        {250 * 1024, 0, 62 * 1024 + 512, 58 * 1024},
        {4 * MIB - 4, 0, MIB - 1, MIB - 1},
        {4 * MIB, 0, MIB, MIB},
        {4 * MIB + 4, 0, MIB, MIB},
        {64 * MIB, 0, MIB, MIB},
        {64 * MIB, MIB - 1, MIB, MIB},
        {64 * MIB, MIB + 1, MIB, MIB + 1},
        {64 * MIB, UINT64_MAX, MIB, UINT64_MAX},
        {4096, 100, 1024, 100},
    };

    (void)state;
    port.thread = &thread;
    for (size_t i = 0; i < N(rows); i++) {
        thread.numbers = (struct queue_thread_numbers){0};
        counter_add(&thread.numbers.record_max, rows[i].record);
        counter_add(&thread.numbers.stored_max, rows[i].stored);
        assert_int_equal(queue_stored_from(&port), rows[i].from);
        assert_int_equal(queue_body_max(&port), rows[i].most);
    }
}

/* ---- what outlives whom ------------------------------------------------------------------------------------------ */

static struct body_ref kept;

static void publish_one_and_leave_another_half_written(void *arg)
{
    struct queue_body *whole, *half;

    (void)arg;
    open_port();
    whole = write_all(BYTES, PIECE);
    half = create(BYTES);
    CHECK_EQUAL(write_some(half, 0, PIECE), 0);
    kept = queue_body_ref(whole);
    CHECK_EQUAL(publish(kept), PUBLISH_OK);
    broker_flush(broker);
    CHECK_EQUAL(log_commit(store), 0);
    queue_body_end(whole);
    queue_body_end(half);
    close_port();
    CHECK(disk_size(disk, "body-0000000000000002") > 0);
}

static void read_what_was_kept(void *arg)
{
    (void)arg;
    open_port();
    CHECK_EQUAL(let_go(), 0);
    check_reads(kept, BYTES);
    CHECK(!disk_size(disk, "body-0000000000000002"));
    close_port();
}

/* Finished is durable: the power fails between that and the restart. */
static void a_start_finds_what_was_published_and_removes_what_was_left_over(void **state)
{
    (void)state;
    kit_run(publish_one_and_leave_another_half_written, NULL);
    close_store();
    disk_crash(disk);
    open_store(0);
    kit_run(read_what_was_kept, NULL);
}

static void a_file_goes_when_nobody_wants_it_any_more(void *arg)
{
    struct queue_body *body;

    (void)arg;
    open_port();
    body = write_all(BYTES, BYTES);
    CHECK_EQUAL(let_go(), 0);
    CHECK_EQUAL(publish(queue_body_ref(body)), PUBLISH_OK);
    queue_body_end(body);
    settle();
    CHECK_EQUAL(let_go(), 0); /* it is a message's now */
    CHECK_EQUAL(broker_purge(broker, Q, &(uint64_t){0}, 2), 0);
    check_all_gone();
    close_port();
}

static void one_that_is_open_is_read_to_its_end_though_it_is_removed(void *arg)
{
    struct queue_reader *reader;
    struct body_ref ref;
    size_t at = 0;

    (void)arg;
    open_port();
    ref = store_all(BYTES);
    reader = open_reader(ref, false);
    CHECK_EQUAL(let_go(), 1);
    CHECK_EQUAL(read_on(reader, &at), 0);
    CHECK_EQUAL(at, BYTES);
    queue_reader_free(reader);
    close_port();
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static void note_turn(void *arg)
{
    bool *others_ran = arg;

    *others_ran = true;
}

static void a_reader_lets_go_of_the_file_with_its_last_piece(void *arg)
{
    bool others_ran = false;
    struct queue_reader *reader;
    struct fiber *other;
    struct slice piece;

    (void)arg;
    open_port();
    reader = open_reader(store_all(PIECE + 1), false);
    CHECK_EQUAL(queue_reader_next(reader, &piece), 1);
    CHECK_EQUAL(piece.len, PIECE);
    CHECK_EQUAL(gate.open, 1);
    CHECK_EQUAL(queue_reader_next(reader, &piece), 1);
    CHECK_EQUAL(piece.len, 1);
    CHECK_EQUAL(gate.open, 0);
    other = fiber_spawn("other", note_turn, &others_ran);
    CHECK_EQUAL(queue_reader_next(reader, &piece), 0);
    CHECK_EQUAL(queue_reader_next(reader, &piece), 0);
    CHECK_EQUAL(piece.len, 0);
    CHECK(!others_ran); /* no helper is asked for what is known */
    CHECK_EQUAL(fiber_join(other, NEVER), 0);
    queue_reader_free(reader);
    close_port();
}

static void one_that_is_kept_is_read_again(void *arg)
{
    struct queue_reader *reader;
    struct slice piece;

    (void)arg;
    open_port();
    reader = open_reader(store_all(BYTES), true);
    for (int i = 0; i < 3; i++) {
        size_t at = 0;

        CHECK_EQUAL(read_on(reader, &at), 0);
        CHECK_EQUAL(at, BYTES);
        CHECK_EQUAL(gate.open, 1);
        queue_reader_rewind(reader);
    }
    CHECK_EQUAL(queue_reader_next(reader, &piece), 1);
    queue_reader_rewind(reader); /* from within, too */
    CHECK_EQUAL(queue_reader_next(reader, &piece), 1);
    CHECK(piece.len == PIECE && memcmp(piece.ptr, content, PIECE) == 0);
    queue_reader_free(reader);
    close_port();
}

static void readers_of_one_body_do_not_disturb_each_other(void *arg)
{
    struct queue_reader *a, *b;
    struct slice first, second;
    struct body_ref ref;

    (void)arg;
    open_port();
    ref = store_all(BYTES);
    a = open_reader(ref, false);
    b = open_reader(ref, false);
    CHECK_EQUAL(queue_reader_next(a, &first), 1);
    CHECK_EQUAL(queue_reader_next(a, &first), 1);
    CHECK_EQUAL(queue_reader_next(b, &second), 1);
    CHECK(memcmp(first.ptr, content + PIECE, first.len) == 0); /* still good */
    CHECK(memcmp(second.ptr, content, second.len) == 0);
    queue_reader_free(a);
    queue_reader_free(b);
    queue_reader_free(NULL);
    close_port();
}

/* What comes before the damage is given, and nothing after it. */
static void check_damage(struct body_ref ref, uint64_t byte, size_t good)
{
    struct queue_reader *reader;
    size_t at = 0;

    CHECK_EQUAL(disk_flip(disk, name_of(ref), 8 * byte + byte % 8), 0);
    reader = open_reader(ref, false);
    CHECK_EQUAL(read_on(reader, &at), -EBADMSG);
    CHECK_EQUAL(at, good);
    CHECK_EQUAL(read_on(reader, &at), -EBADMSG); /* it does not get better */
    CHECK_EQUAL(at, good);
    queue_reader_free(reader);
    CHECK_EQUAL(disk_flip(disk, name_of(ref), 8 * byte + byte % 8), 0);
}

static void a_damaged_piece_is_not_given(void *arg)
{
    static const uint64_t places[] = {STORED_PIECE_OVERHEAD, STORED_PIECE_OVERHEAD + PIECE / 2,
                                      STORED_PIECE_OVERHEAD + PIECE - 1};
    struct body_ref ref;

    (void)arg;
    open_port();
    ref = store_all(BYTES);
    for (size_t i = 0; i < N(places); i++)
        for (size_t piece = 0; piece < 2; piece++)
            check_damage(ref, piece * STORED_BUFFER_BYTES + places[i], piece * PIECE);
    check_damage(ref, stored_body_file_bytes(BYTES) - 1, 2 * PIECE);
    check_reads(ref, BYTES);
    close_port();
}

static void a_piece_with_a_wrong_header_is_not_given(void *arg)
{
    struct body_ref ref;

    (void)arg;
    open_port();
    ref = store_all(BYTES);
    for (size_t piece = 0; piece < 3; piece++)
        for (uint64_t byte = 0; byte < STORED_PIECE_OVERHEAD; byte++)
            check_damage(ref, piece * STORED_BUFFER_BYTES + byte, piece * PIECE);
    check_reads(ref, BYTES);
    close_port();
}

static void what_is_cut_short_or_gone_is_not_opened(void *arg)
{
    struct stored_body body, half;
    struct body_ref ref, other, longer;

    (void)arg;
    open_port();
    ref = store_all(BYTES);
    other = (struct body_ref){ref.id + 1, BYTES};
    longer = (struct body_ref){ref.id, BYTES + 1};
    CHECK_EQUAL(queue_body_open(&port, other, &body), -ENOENT);
    CHECK(!queue_reader_create(&port, &body, false));
    CHECK_EQUAL(queue_body_open(&port, longer, &body), -EBADMSG);
    CHECK_EQUAL(stored_body_create(&half, &gate.storage, log_id(store), other), 0);
    CHECK_EQUAL(stored_body_write(&half, slice_of(content, PIECE)), 0);
    stored_body_close(&half);
    CHECK_EQUAL(queue_body_open(&port, other, &body), -EBADMSG);
    CHECK(!body.file);
    CHECK(!queue_reader_create(&port, &body, true));
    CHECK_EQUAL(port.users, 0);
    CHECK_EQUAL(let_go(), 1);
    CHECK_EQUAL(queue_body_open(&port, ref, &body), -ENOENT);
    close_port();
}

static void a_file_that_ends_early_or_cannot_be_read_is_an_error(void *arg)
{
    struct queue_reader *reader;
    size_t at = 0;

    (void)arg;
    open_port();
    reader = open_reader(store_all(BYTES), false);
    gate.reads_lack = 1;
    CHECK_EQUAL(read_on(reader, &at), -EBADMSG);
    gate.reads_lack = STORED_BUFFER_BYTES - STORED_PIECE_OVERHEAD + 1;
    CHECK_EQUAL(read_on(reader, &at), -EBADMSG);
    gate.reads_lack = 0;
    disk_fail(disk, DISK_READ, 0, EIO, false);
    CHECK_EQUAL(read_on(reader, &at), -EIO);
    CHECK_EQUAL(at, 0);
    CHECK_EQUAL(read_on(reader, &at), 0); /* it was the disk's, which is well again */
    CHECK_EQUAL(at, BYTES);
    queue_reader_free(reader);
    close_port();
}

/* ---- no room, and a disk that fails ------------------------------------------------------------------------------ */

static void check_not_created(int error)
{
    struct queue_body *body = (struct queue_body *)&port;
    unsigned users = port.users, open = gate.open;

    CHECK_EQUAL(queue_body_create(&port, BYTES, &body), error);
    CHECK(!body);
    while (port.users > users)
        CHECK_EQUAL(fiber_yield(), 0);
    CHECK_EQUAL(gate.open, open);
}

static void one_that_the_disk_has_no_room_for_is_refused_before_it_is_written(void *arg)
{
    (void)arg;
    open_port();
    disk_limit(disk, disk_used(disk) + BYTES);
    check_not_created(-ENOSPC);
    check_all_gone();
    CHECK_EQUAL(gate.written, 0);
    disk_limit(disk, 0);
    store_all(BYTES);
    close_port();
}

static void one_whose_file_cannot_be_made_is_refused(void *arg)
{
    (void)arg;
    open_port();
    disk_fail(disk, DISK_OPEN, 0, EMFILE, false);
    check_not_created(-EMFILE);
    check_all_gone();
    close_port();
}

static void fill_the_log_s_share(void *arg)
{
    struct queue_body *body;

    (void)arg;
    open_port();
    body = create(9 * MIB);
    check_not_created(-ENOSPC);
    CHECK_EQUAL(let_go(), 0); /* the broker knows of one */
    queue_body_end(body);
    settle();
    check_not_created(-ENOSPC); /* until its file is removed */
    CHECK_EQUAL(let_go(), 1);
    body = create(9 * MIB);
    queue_body_end(body);
    close_port();
}

static void room_counts_from_the_beginning_until_the_file_is_removed(void **state)
{
    (void)state;
    close_store();
    disk_reset(disk, 1);
    open_store(10 * MIB + MIB / 2);
    kit_run(fill_the_log_s_share, NULL);
}

static void where_the_log_has_failed_nothing_is_begun(void *arg)
{
    struct broker_queue_options options = {.ack_timeout_us = 60 * US_PER_S};

    (void)arg;
    open_port();
    CHECK_EQUAL(broker_declare_queue(broker, Q, &options, DECLARE_SAME), 0);
    disk_fail(disk, DISK_SYNC, 0, EIO, false);
    broker_flush(broker);
    CHECK_EQUAL(log_commit(store), -EIO);
    check_not_created(-EIO);
    thread.broker = NULL; /* nor where there never was one */
    check_not_created(-EIO);
    close_port();
}

static void where_the_queue_thread_has_ended_nothing_is_begun(void *arg)
{
    struct mailbox *closed;

    (void)arg;
    open_port();
    CHECK_EQUAL(mailbox_create(&closed), 0);
    mailbox_close(closed);
    thread.mailbox = closed;
    check_not_created(-EIO);
    CHECK_EQUAL(let_go(), 0);
    mailbox_unref(closed);
    close_port();
}

static void one_that_is_ended_after_the_queue_thread_is_freed_all_the_same(void *arg)
{
    struct queue_body *body;
    struct mailbox *closed;

    (void)arg;
    open_port();
    body = create(BYTES);
    CHECK_EQUAL(write_some(body, 0, 1000), 0);
    CHECK_EQUAL(mailbox_create(&closed), 0);
    mailbox_close(closed);
    thread.mailbox = closed;
    queue_body_end(body);
    settle();
    CHECK_EQUAL(gate.open, 0);
    mailbox_unref(closed);
    close_port();
}

static void what_found_no_room_is_written_when_it_is_tried_again(void *arg)
{
    struct slice bytes = slice_of(content, BYTES);
    struct queue_body *body;

    (void)arg;
    open_port();
    body = create(BYTES);
    disk_fail(disk, DISK_WRITE, 1, ENOSPC, false);
    CHECK_EQUAL(queue_body_write(body, &bytes), -ENOSPC);
    CHECK_EQUAL(gate.written, STORED_BUFFER_BYTES);
    CHECK_EQUAL(bytes.len, BYTES - 2 * PIECE); /* the second piece was taken, and is not lost */
    disk_fail(disk, DISK_WRITE, 0, ENOSPC, false);
    CHECK_EQUAL(queue_body_write(body, &bytes), -ENOSPC);
    CHECK_EQUAL(bytes.len, BYTES - 2 * PIECE);
    CHECK_EQUAL(queue_body_write(body, &bytes), 0);
    CHECK_EQUAL(bytes.len, 0);
    disk_fail(disk, DISK_WRITE, 0, ENOSPC, false);
    CHECK_EQUAL(queue_body_finish(body), -ENOSPC);
    CHECK_EQUAL(queue_body_finish(body), 0);
    check_reads(queue_body_ref(body), BYTES);
    queue_body_end(body);
    check_all_gone();
    close_port();
}

static void what_else_the_disk_says_to_a_write_is_told(void *arg)
{
    struct queue_body *body;

    (void)arg;
    open_port();
    body = create(BYTES);
    disk_fail(disk, DISK_WRITE, 0, EIO, false);
    CHECK_EQUAL(write_some(body, 0, PIECE), -EIO);
    queue_body_end(body);
    check_all_gone();
    close_port();
}

/* A sync that fails, for want of room too, has lost what was written before it. */
static void a_sync_that_fails_is_not_tried_again(void *arg)
{
    static const enum disk_op ops[] = {DISK_SYNC, DISK_NAMES};
    static const int errors[] = {EIO, ENOSPC};

    (void)arg;
    open_port();
    for (size_t i = 0; i < N(ops); i++)
        for (size_t k = 0; k < N(errors); k++) {
            struct queue_body *body = create(10);

            CHECK_EQUAL(write_some(body, 0, 10), 0);
            disk_fail(disk, ops[i], 0, errors[k], false);
            CHECK_EQUAL(queue_body_finish(body), -EIO);
            queue_body_end(body);
            check_all_gone();
        }
    close_port();
}

static void a_sync_on_the_way_that_fails_is_told(void *arg)
{
    static const int errors[] = {EIO, ENOSPC};

    (void)arg;
    open_port();
    for (size_t i = 0; i < N(errors); i++) {
        struct queue_body *body = create(9 * MIB);
        int error = 0;

        disk_fail(disk, DISK_SYNC, 0, errors[i], false);
        for (unsigned n = 0; n < 9 && !error; n++)
            error = write_some(body, 0, MIB);
        CHECK_EQUAL(error, -EIO);
        queue_body_end(body);
        check_all_gone();
    }
    close_port();
}

/* ---- who stops waiting ------------------------------------------------------------------------------------------- */

struct writing {
    struct queue_body *body;
    int result; /* of the last step */
    bool ended;
};

static void write_main(void *arg)
{
    struct writing *w = arg;
    struct slice bytes = slice_of(content, BYTES);

    w->result = queue_body_create(&port, BYTES, &w->body);
    if (!w->result)
        w->result = queue_body_write(w->body, &bytes);
    if (!w->result)
        w->result = queue_body_finish(w->body);
    w->ended = true;
}

static void who_is_cancelled_leaves_nothing_behind(void *arg)
{
    static const enum gate_op places[] = {GATE_OPEN, GATE_WRITE, GATE_SYNC, GATE_NAMES};

    (void)arg;
    open_port();
    for (size_t i = 0; i < N(places); i++) {
        struct writing w = {.result = 1};
        struct fiber *fiber = fiber_spawn("writes", write_main, &w);

        gate_hold(places[i]);
        await_held();
        CHECK(!w.ended);
        fiber_cancel_and_join(fiber);
        CHECK_EQUAL(w.result, -ECANCELED);
        CHECK((w.body == NULL) == (places[i] == GATE_OPEN));
        CHECK_EQUAL(port.users, 1); /* while the helper is at it */
        CHECK_EQUAL(let_go(), 0);
        gate_hold(GATE_NOWHERE);
        check_all_gone();
    }
    close_port();
}

static void one_that_is_ended_takes_itself_from_who_waits(void *arg)
{
    static const enum gate_op places[] = {GATE_WRITE, GATE_SYNC, GATE_NAMES};

    (void)arg;
    open_port();
    for (size_t i = 0; i < N(places); i++) {
        struct writing w = {.result = 1};
        struct fiber *fiber = fiber_spawn("writes", write_main, &w);

        gate_hold(places[i]);
        await_held();
        queue_body_end(w.body);
        for (int turns = 0; turns < 3; turns++)
            fiber_yield();
        CHECK(!w.ended);
        CHECK_EQUAL(port.users, 1);
        gate_hold(GATE_NOWHERE);
        CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
        CHECK_EQUAL(w.result, -ECANCELED);
        check_all_gone();
    }
    close_port();
}

static void one_that_is_ended_ends_whatever_the_disk_says(void *arg)
{
    struct writing w = {.result = 1};
    struct fiber *fiber = fiber_spawn("writes", write_main, &w);

    (void)arg;
    open_port();
    gate_hold(GATE_WRITE);
    await_held();
    disk_fail(disk, DISK_WRITE, 0, EIO, false);
    queue_body_end(w.body);
    gate_hold(GATE_NOWHERE);
    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
    CHECK_EQUAL(w.result, -ECANCELED);
    check_all_gone();
    close_port();
}

static void one_that_is_ended_and_whose_writer_is_cancelled_ends_once(void *arg)
{
    struct writing w = {.result = 1};
    struct fiber *fiber = fiber_spawn("writes", write_main, &w);

    (void)arg;
    open_port();
    gate_hold(GATE_WRITE);
    await_held();
    queue_body_end(w.body);
    fiber_cancel_and_join(fiber);
    CHECK_EQUAL(w.result, -ECANCELED);
    gate_hold(GATE_NOWHERE);
    check_all_gone();
    close_port();
}

static void who_is_cancelled_before_the_broker_answers_leaves_nothing_behind(void *arg)
{
    struct writing w = {.result = 1, .body = (struct queue_body *)&port};
    struct fiber *fiber = fiber_spawn("writes", write_main, &w);
    struct mailbox *slow;

    (void)arg;
    open_port();
    CHECK_EQUAL(mailbox_create(&slow), 0);
    thread.mailbox = slow;
    fiber_yield();
    fiber_yield();
    fiber_cancel_and_join(fiber);
    CHECK_EQUAL(w.result, -ECANCELED);
    CHECK(!w.body);
    CHECK(port.users > 0);
    for (int turns = 0; port.users; turns++) {
        CHECK(turns < 1000);
        mailbox_deliver(slow);
        fiber_yield();
    }
    check_all_gone();
    mailbox_unref(slow);
    close_port();
}

struct reading {
    struct queue_reader *reader;
    struct slice piece;
    int result;
};

static void read_main(void *arg)
{
    struct reading *r = arg;

    r->result = queue_reader_next(r->reader, &r->piece);
}

static void a_reader_whose_fiber_is_cancelled_is_freed_when_its_helper_is_done(void *arg)
{
    struct reading r = {.result = 1};
    struct fiber *fiber;

    (void)arg;
    open_port();
    r.reader = open_reader(store_all(BYTES), false);
    fiber = fiber_spawn("reads", read_main, &r);
    gate_hold(GATE_READ);
    await_held();
    fiber_cancel_and_join(fiber);
    CHECK_EQUAL(r.result, -ECANCELED);
    CHECK_EQUAL(r.piece.len, 0);
    CHECK_EQUAL(port.users, 1);
    CHECK_EQUAL(gate.open, 1);
    gate_hold(GATE_NOWHERE);
    settle();
    CHECK_EQUAL(gate.open, 0);
    close_port();
}

static void close_main(void *arg)
{
    bool *closed = arg;

    queue_port_close(&port);
    *closed = true;
}

static void a_port_stays_open_while_something_is_read_or_written(void *arg)
{
    struct queue_reader *reader;
    struct queue_body *body;
    struct fiber *fiber;
    bool closed = false;

    (void)arg;
    open_port();
    reader = open_reader(store_all(BYTES), false);
    body = create(10);
    fiber = fiber_spawn("closes", close_main, &closed);
    fiber_yield();
    queue_body_end(body);
    while (port.users > 1)
        fiber_yield();
    for (int turns = 0; turns < 3; turns++)
        fiber_yield();
    CHECK(!closed);
    queue_reader_free(reader);
    CHECK_EQUAL(fiber_join(fiber, NEVER), 0);
    CHECK(closed);
    await_helpers_end();
}

/* ---- without helpers --------------------------------------------------------------------------------------------- */

static pthread_attr_t usual;

/* From now on a thread wants more stack than there are addresses. */
static void end_helpers(void)
{
    pthread_attr_t large;

    CHECK_EQUAL(pthread_getattr_default_np(&usual), 0);
    pthread_attr_init(&large);
    CHECK_EQUAL(pthread_attr_setstacksize(&large, (size_t)1 << 50), 0);
    CHECK_EQUAL(pthread_setattr_default_np(&large), 0);
    pthread_attr_destroy(&large);
}

static void bring_helpers_back(void)
{
    CHECK_EQUAL(pthread_setattr_default_np(&usual), 0);
    pthread_attr_destroy(&usual);
}

static void *nothing(void *arg)
{
    return arg;
}

static void where_no_thread_is_to_be_had_who_waits_does_it_himself(void *arg)
{
    struct queue_body *body;
    pthread_t none;

    (void)arg;
    open_port();
    end_helpers();
    if (CHECK_EQUAL(pthread_create(&none, NULL, nothing, NULL), EAGAIN)) {
        body = write_all(BYTES, 1000);
        check_reads(queue_body_ref(body), BYTES);
        disk_fail(disk, DISK_READ, 0, EIO, false);
        queue_body_end(body);
        check_all_gone();
        disk_heal(disk);
        disk_fail(disk, DISK_OPEN, 0, EMFILE, false);
        check_not_created(-EMFILE);
        check_all_gone();
    }
    bring_helpers_back();
    close_port();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define IN_FIBER(main) ((struct CMUnitTest){#main, kit_run_test, set_up, tear_down, &(struct kit_test){main}})

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FIBER(a_body_comes_back_as_it_was_written),
        IN_FIBER(a_byte_at_a_time_makes_whole_pieces),
        IN_FIBER(every_body_has_a_file_of_its_own),
        IN_FIBER(what_is_taken_is_written_but_for_less_than_a_piece),
        IN_FIBER(one_that_waits_to_be_published_has_no_piece_in_memory),
        IN_FIBER(a_long_one_is_synced_every_8_mib_and_in_the_end),
        TEST(how_large_a_body_may_be_follows_from_the_log),
        TEST(a_start_finds_what_was_published_and_removes_what_was_left_over),
        IN_FIBER(a_file_goes_when_nobody_wants_it_any_more),
        IN_FIBER(one_that_is_open_is_read_to_its_end_though_it_is_removed),
        IN_FIBER(a_reader_lets_go_of_the_file_with_its_last_piece),
        IN_FIBER(one_that_is_kept_is_read_again),
        IN_FIBER(readers_of_one_body_do_not_disturb_each_other),
        IN_FIBER(a_damaged_piece_is_not_given),
        IN_FIBER(a_piece_with_a_wrong_header_is_not_given),
        IN_FIBER(what_is_cut_short_or_gone_is_not_opened),
        IN_FIBER(a_file_that_ends_early_or_cannot_be_read_is_an_error),
        IN_FIBER(one_that_the_disk_has_no_room_for_is_refused_before_it_is_written),
        IN_FIBER(one_whose_file_cannot_be_made_is_refused),
        TEST(room_counts_from_the_beginning_until_the_file_is_removed),
        IN_FIBER(where_the_log_has_failed_nothing_is_begun),
        IN_FIBER(where_the_queue_thread_has_ended_nothing_is_begun),
        IN_FIBER(one_that_is_ended_after_the_queue_thread_is_freed_all_the_same),
        IN_FIBER(what_found_no_room_is_written_when_it_is_tried_again),
        IN_FIBER(what_else_the_disk_says_to_a_write_is_told),
        IN_FIBER(a_sync_that_fails_is_not_tried_again),
        IN_FIBER(a_sync_on_the_way_that_fails_is_told),
        IN_FIBER(who_is_cancelled_leaves_nothing_behind),
        IN_FIBER(one_that_is_ended_takes_itself_from_who_waits),
        IN_FIBER(one_that_is_ended_ends_whatever_the_disk_says),
        IN_FIBER(one_that_is_ended_and_whose_writer_is_cancelled_ends_once),
        IN_FIBER(who_is_cancelled_before_the_broker_answers_leaves_nothing_behind),
        IN_FIBER(a_reader_whose_fiber_is_cancelled_is_freed_when_its_helper_is_done),
        IN_FIBER(a_port_stays_open_while_something_is_read_or_written),
        IN_FIBER(where_no_thread_is_to_be_had_who_waits_does_it_himself),
    };

    kit_watchdog(55);
    count_own_threads();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
