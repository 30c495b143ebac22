/* test_log.c - what opening a log refuses, and how it says so; tests/sim tries the rest by the thousand. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "log/crc32c.h"
#include "log/log.h"
#include "sim/disk.h"

#define SEGMENT_BYTES 4096u
#define HEADER_BYTES 512u
/* Where the first record of an owner stands, behind a note of what is durable; each of 500 bytes takes RECORD_BYTES. */
#define FIRST_AT (HEADER_BYTES + 24)
#define RECORD_BYTES 520

static struct disk *disk;
static struct log *store;
static struct log_report report;

static int set_up(void **state)
{
    (void)state;
    disk = disk_new(1);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    disk_free(disk);
    return 0;
}

static int count(void *arg, const struct log_record *record)
{
    (void)record;
    if (arg)
        ++*(unsigned *)arg;
    return 0;
}

static int open_log(uint64_t bytes_max, unsigned *n_records)
{
    struct log_options options = {
        .storage = disk_storage(disk), .segment_bytes = SEGMENT_BYTES, .bytes_max = bytes_max, .id = 7};
    int error = log_open(&store, &options, &report);

    if (!error)
        error = log_replay(store, count, n_records, &report);
    return error;
}

static int append(enum log_claim claim, uint64_t promise, size_t bytes)
{
    static char zeros[SEGMENT_BYTES];
    struct iovec part = {zeros, bytes};
    uint64_t position;

    return log_append(store, claim, promise, LOG_KIND_FIRST, &part, 1, &position);
}

/* A log of so many records of 500 bytes, closed. */
static void make_log(unsigned n)
{
    assert_int_equal(open_log(0, NULL), 0);
    while (n--)
        assert_int_equal(append(LOG_MORE, 0, 500), 0);
    assert_int_equal(log_commit(store), 0);
    log_close(store);
    disk_restart(disk);
}

static void change(const char *name, uint64_t offset, const void *bytes, size_t n)
{
    struct storage_file *file;

    assert_int_equal(storage_open(disk_storage(disk), name, true, &file), 0);
    assert_int_equal(storage_write(file, &(struct iovec){(void *)(uintptr_t)bytes, n}, 1, offset), 0);
    assert_int_equal(storage_sync(file), 0);
    storage_close(file);
}

static void read_all(const char *name, char *bytes, size_t n)
{
    struct storage_file *file;

    assert_int_equal(storage_open(disk_storage(disk), name, false, &file), 0);
    assert_int_equal(storage_read(file, bytes, n, 0), n);
    storage_close(file);
}

/* The file that holds segment 0. */
static const char *first_file(void)
{
    char header[HEADER_BYTES];
    const char *name;

    for (size_t i = 0; (name = disk_name(disk, i)); i++) {
        if (strncmp(name, "segment-", 8) != 0)
            continue;
        read_all(name, header, sizeof header);
        if (memcmp(header, "MAITRED", 7) == 0 && get_u64le(header + 24) == 0)
            return name;
    }
    fail_msg("there is no segment 0");
    return NULL;
}

/* A header with another value at an offset, and a checksum that is right. */
static void change_header(const char *name, unsigned offset, uint64_t value, size_t n)
{
    char header[HEADER_BYTES], bytes[8];

    read_all(name, header, sizeof header);
    put_u64le(bytes, value);
    memcpy(header + offset, bytes, n);
    put_u32le(header + HEADER_BYTES - 4, crc32c(0, slice_of(header, HEADER_BYTES - 4)));
    change(name, 0, header, sizeof header);
}

static void assert_refused(int error, const char *what)
{
    assert_int_equal(open_log(0, NULL), error);
    if (!strstr(report.text, what))
        fail_msg("\"%s\" is not in \"%s\"", what, report.text);
    if (store)
        log_close(store);
}

static void another_format_version_is_refused_by_its_number(void **state)
{
    (void)state;
    make_log(2);
    change_header(first_file(), 8, 2, 4);
    assert_refused(-EPROTONOSUPPORT, "has format version 2, and this program knows version 1 only");
}

static void a_file_of_another_log_is_refused(void **state)
{
    char segment[SEGMENT_BYTES];

    (void)state;
    make_log(2);
    read_all(first_file(), segment, sizeof segment);
    change("segment-00000099", 0, segment, sizeof segment);
    change_header("segment-00000099", 24, 5, 8);
    change_header("segment-00000099", 16, 12345, 8);
    assert_refused(-EBADMSG, "belongs to another log than the other files");
}

static void two_files_of_one_segment_are_refused(void **state)
{
    char segment[SEGMENT_BYTES];

    (void)state;
    make_log(2);
    read_all(first_file(), segment, sizeof segment);
    change("segment-00000099", 0, segment, sizeof segment);
    assert_refused(-EBADMSG, "which another file holds too");
}

static void damage_before_a_later_segment_is_told_with_its_place(void **state)
{
    (void)state;
    make_log(12); /* two segments */
    change(first_file(), FIRST_AT + 100, "x", 1);
    assert_refused(-EBADMSG, "offset 536");
    assert_non_null(strstr(report.text, first_file()));
    assert_non_null(strstr(report.text, "maitred log salvage"));
}

static void a_header_that_does_not_verify_is_damage(void **state)
{
    (void)state;
    make_log(2);
    change(first_file(), 100, "x", 1);
    assert_refused(-EBADMSG, "does not verify");
}

static void a_torn_end_is_cut_off_and_said(void **state)
{
    unsigned n = 0;

    (void)state;
    make_log(3);
    change(first_file(), FIRST_AT + 2 * RECORD_BYTES + 50, "x",
           1); /* the third, after which nothing stands */
    assert_int_equal(open_log(0, &n), 0);
    assert_int_equal(n, 2);
    assert_int_equal(report.cut_position, FIRST_AT + 2 * RECORD_BYTES);
    assert_true(report.cut_bytes > 0);
    log_close(store);
}

static void what_was_promised_can_be_appended_when_nothing_else_can(void **state)
{
    unsigned promised = 0;

    (void)state;
    assert_int_equal(open_log(8 * SEGMENT_BYTES, NULL), 0);
    while (append(LOG_MORE, log_record_bytes(16), 300) == 0)
        promised++;
    assert_true(promised > 10);
    assert_int_equal(append(LOG_MORE, 0, 300), -ENOSPC);
    for (unsigned i = 0; i < promised; i++) {
        assert_int_equal(append(LOG_PROMISED, 0, 16), 0);
        log_fulfil(store, log_record_bytes(16));
    }
    assert_int_equal(log_commit(store), 0);
    log_close(store);
}

static void after_a_failed_write_nothing_is_durable_any_more(void **state)
{
    uint64_t durable;

    (void)state;
    assert_int_equal(open_log(0, NULL), 0);
    assert_int_equal(append(LOG_MORE, 0, 100), 0);
    assert_int_equal(log_commit(store), 0);
    durable = log_durable(store);
    assert_int_equal(append(LOG_MORE, 0, 100), 0);
    disk_fail(disk, DISK_WRITE, 0, EIO, false);
    assert_int_equal(log_commit(store), -EIO);
    assert_int_equal(log_commit(store), -EIO);
    assert_int_equal(append(LOG_MORE, 0, 100), -EIO);
    assert_int_equal(log_durable(store), durable);
    assert_non_null(strstr(log_failure(store), "writing the log failed"));
    log_close(store);
}

static void a_record_that_fits_no_segment_is_refused(void **state)
{
    (void)state;
    assert_int_equal(open_log(0, NULL), 0);
    assert_int_equal(append(LOG_MORE, 0, log_payload_max(store) + 1), -EFBIG);
    assert_int_equal(append(LOG_MORE, 0, log_payload_max(store)), 0);
    log_close(store);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(another_format_version_is_refused_by_its_number),
        TEST(a_file_of_another_log_is_refused),
        TEST(two_files_of_one_segment_are_refused),
        TEST(damage_before_a_later_segment_is_told_with_its_place),
        TEST(a_header_that_does_not_verify_is_damage),
        TEST(a_torn_end_is_cut_off_and_said),
        TEST(what_was_promised_can_be_appended_when_nothing_else_can),
        TEST(after_a_failed_write_nothing_is_durable_any_more),
        TEST(a_record_that_fits_no_segment_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
