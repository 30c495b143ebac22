/* test_stored_body.c - log/stored_body.h over a simulated disk: what was written comes back, and nothing else is taken for it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "log/stored_body.h"
#include "sim/disk.h"

#define LOG_ID 7
#define BYTES (2 * STORED_PIECE_BYTES + 1000)

static struct disk *disk;
static struct storage *storage;
static char content[BYTES], *buffer;
static const struct body_ref whole = {17, BYTES};

static int set_up(void **state)
{
    struct rng rng = {1};

    (void)state;
    disk = disk_new(1);
    storage = disk_storage(disk);
    buffer = malloc(STORED_BUFFER_BYTES);
    for (size_t i = 0; i < sizeof content; i++)
        content[i] = (char)rng_next(&rng);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(buffer);
    disk_free(disk);
    return 0;
}

/* In pieces of so many bytes, or fewer. */
static void write_all(struct body_ref ref, size_t piece)
{
    struct stored_body body;

    assert_int_equal(stored_body_create(&body, storage, LOG_ID, ref), 0);
    while (body.at < ref.bytes) {
        size_t left = (size_t)(ref.bytes - body.at);

        assert_int_equal(stored_body_write(&body, slice_of(content + body.at, left < piece ? left : piece)),
                         0);
    }
    assert_int_equal(stored_body_finish(&body), 0);
    assert_null(body.file);
}

/* All of it, or the error. */
static int read_all(struct body_ref ref, uint64_t log_id)
{
    struct stored_body body;
    struct slice piece;
    size_t at = 0;
    int result = stored_body_open(&body, storage, log_id, ref);

    if (result)
        return result;
    while ((result = stored_body_read(&body, buffer, &piece)) == 1) {
        assert_memory_equal(piece.ptr, content + at, piece.len);
        at += piece.len;
    }
    stored_body_close(&body);
    assert_true(result < 0 || at == ref.bytes);
    return result;
}

static const char *name_of(uint64_t id)
{
    static char name[STORED_NAME_MAX];

    stored_body_file_name(id, name);
    return name;
}

static void a_body_comes_back_as_it_was_written(void **state)
{
    static const size_t pieces[] = {STORED_PIECE_BYTES, STORED_PIECE_BYTES - 1, 4096, 131064};

    (void)state;
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct body_ref ref = {i + 1, BYTES};

        write_all(ref, pieces[i]);
        assert_int_equal(read_all(ref, LOG_ID), 0);
    }
    assert_int_equal(disk_size(disk, name_of(1)), stored_body_file_bytes(BYTES));
}

static void the_shortest_body_is_a_byte(void **state)
{
    struct body_ref ref = {1, 1};

    (void)state;
    write_all(ref, 1);
    assert_int_equal(read_all(ref, LOG_ID), 0);
    assert_int_equal(stored_body_file_bytes(1), 1 + STORED_PIECE_OVERHEAD);
    assert_int_equal(stored_body_file_bytes(STORED_PIECE_BYTES), STORED_PIECE_BYTES + STORED_PIECE_OVERHEAD);
    assert_int_equal(stored_body_file_bytes(STORED_PIECE_BYTES + 1),
                     STORED_PIECE_BYTES + 1 + 2 * STORED_PIECE_OVERHEAD);
}

static void a_body_is_read_again_from_its_beginning(void **state)
{
    struct stored_body body;
    struct slice piece;

    (void)state;
    write_all(whole, STORED_PIECE_BYTES);
    assert_int_equal(stored_body_open(&body, storage, LOG_ID, whole), 0);
    assert_int_equal(stored_body_read(&body, buffer, &piece), 1);
    assert_int_equal(stored_body_read(&body, buffer, &piece), 1);
    stored_body_rewind(&body);
    assert_int_equal(stored_body_read(&body, buffer, &piece), 1);
    assert_memory_equal(piece.ptr, content, piece.len);
    assert_int_equal(stored_body_verify(&body), 0);
    stored_body_close(&body);
}

/* Another log's, another body's, and of another length: none of these is it. */
static void only_what_was_written_for_it_verifies(void **state)
{
    static const struct body_ref other = {18, BYTES}, shorter = {17, BYTES - 1};
    struct iovec part = {content, BYTES};
    struct storage_file *file;

    (void)state;
    write_all(whole, STORED_PIECE_BYTES);
    assert_int_equal(read_all(whole, LOG_ID + 1), -EBADMSG);
    assert_int_equal(read_all(shorter, LOG_ID), -EBADMSG);
    assert_int_equal(read_all(other, LOG_ID), -ENOENT);
    assert_int_equal(storage_open(storage, name_of(18), true, &file), 0);
    for (uint64_t at = 0; at < stored_body_file_bytes(BYTES);
         at += BYTES) /* what is in the other one's place */
        assert_int_equal(storage_write(file, &part, 1, at), 0);
    storage_close(file);
    assert_int_equal(read_all(other, LOG_ID), -EBADMSG);
}

static void a_bit_that_is_turned_over_anywhere_is_found(void **state)
{
    uint64_t bits = 8 * stored_body_file_bytes(BYTES);
    struct rng rng = {2};

    (void)state;
    write_all(whole, STORED_PIECE_BYTES);
    for (int i = 0; i < 200; i++) {
        uint64_t bit = i < 128 ? (uint64_t)i : rng_below(&rng, bits); /* the first header's, then any */

        assert_int_equal(disk_flip(disk, name_of(17), bit), 0);
        assert_int_equal(read_all(whole, LOG_ID), -EBADMSG);
        assert_int_equal(disk_flip(disk, name_of(17), bit), 0);
    }
    assert_int_equal(read_all(whole, LOG_ID), 0);
}

static void one_that_is_cut_short_is_not_opened(void **state)
{
    struct stored_body body;

    (void)state;
    assert_int_equal(stored_body_create(&body, storage, LOG_ID, whole), 0);
    assert_int_equal(stored_body_write(&body, slice_of(content, STORED_PIECE_BYTES)), 0);
    stored_body_close(&body);
    assert_int_equal(stored_body_open(&body, storage, LOG_ID, whole), -EBADMSG);
    assert_null(body.file);
}

static void what_is_finished_outlives_the_power(void **state)
{
    (void)state;
    write_all(whole, 100000);
    disk_crash(disk);
    assert_int_equal(read_all(whole, LOG_ID), 0);
}

static void one_that_has_no_room_leaves_no_file(void **state)
{
    struct stored_body body;

    (void)state;
    disk_limit(disk, BYTES);
    assert_int_equal(stored_body_create(&body, storage, LOG_ID, whole), -ENOSPC);
    assert_null(body.file);
    assert_null(disk_name(disk, 0));
}

static void a_write_that_found_no_room_is_tried_again(void **state)
{
    struct stored_body body;

    (void)state;
    assert_int_equal(stored_body_create(&body, storage, LOG_ID, whole), 0);
    disk_fail(disk, DISK_WRITE, 0, ENOSPC, false);
    assert_int_equal(stored_body_write(&body, slice_of(content, STORED_PIECE_BYTES)), -ENOSPC);
    assert_int_equal(body.at, 0);
    for (size_t at = 0; at < BYTES; at = (size_t)body.at)
        assert_int_equal(stored_body_write(&body, slice_of(content + at, BYTES - at < STORED_PIECE_BYTES
                                                                             ? BYTES - at
                                                                             : STORED_PIECE_BYTES)),
                         0);
    assert_int_equal(stored_body_finish(&body), 0);
    assert_int_equal(read_all(whole, LOG_ID), 0);
}

static void a_failed_sync_is_told(void **state)
{
    static const enum disk_op ops[] = {DISK_SYNC, DISK_NAMES};
    struct stored_body body;

    (void)state;
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        struct body_ref ref = {i + 1, 10};

        assert_int_equal(stored_body_create(&body, storage, LOG_ID, ref), 0);
        assert_int_equal(stored_body_write(&body, slice_of(content, 10)), 0);
        disk_fail(disk, ops[i], 0, EIO, false);
        assert_int_equal(stored_body_finish(&body), -EIO);
        stored_body_close(&body);
    }
}

static void one_that_is_removed_is_gone(void **state)
{
    (void)state;
    write_all(whole, STORED_PIECE_BYTES);
    assert_int_equal(stored_body_remove(storage, 17), 0);
    assert_int_equal(read_all(whole, LOG_ID), -ENOENT);
    assert_int_equal(stored_body_remove(storage, 17), -ENOENT);
}

static void a_file_s_name_is_its_body_s_number(void **state)
{
    static const char *const others[] = {"body-",
                                         "body-0000000000000000",
                                         "body-1",
                                         "body-00000000000000017",
                                         "body-000000000000001x",
                                         "body-0000000000000017.",
                                         "Body-0000000000000017",
                                         "segment-00000001",
                                         "body-99999999999999999999"};
    uint64_t id;

    (void)state;
    assert_string_equal(name_of(17), "body-0000000000000017");
    assert_true(stored_body_parse_name("body-0000000000000017", &id) && id == 17);
    assert_true(stored_body_parse_name(name_of(UINT64_MAX), &id) && id == UINT64_MAX);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(stored_body_parse_name(others[i], &id));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_body_comes_back_as_it_was_written),
        TEST(the_shortest_body_is_a_byte),
        TEST(a_body_is_read_again_from_its_beginning),
        TEST(only_what_was_written_for_it_verifies),
        TEST(a_bit_that_is_turned_over_anywhere_is_found),
        TEST(one_that_is_cut_short_is_not_opened),
        TEST(what_is_finished_outlives_the_power),
        TEST(one_that_has_no_room_leaves_no_file),
        TEST(a_write_that_found_no_room_is_tried_again),
        TEST(a_failed_sync_is_told),
        TEST(one_that_is_removed_is_gone),
        TEST(a_file_s_name_is_its_body_s_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
