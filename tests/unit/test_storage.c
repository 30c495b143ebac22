/* test_storage.c - log/storage.h over a real folder. The calls that write are this file's own: they go to the kernel,
 * but for those that a test wants short, interrupted or failed. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "log/storage.h"

static char above[] = "/tmp/maitred-test-XXXXXX";
static char path[64];
static struct storage *storage;

/* ---- the kernel's calls ----------------------------------------------------------------------------------------- */

/* What the next calls of a kind do: fail with error, unless that is 0, in which case at most `most` bytes are written. */
static struct {
    int pwritev_error, fdatasync_error, fallocate_error, fsync_error;
    size_t most;
    unsigned pwritev_calls, fdatasync_calls, fsync_calls, sync_file_range_calls, nanosleep_calls;
} next;

static int take_error(int *error)
{
    errno = *error;
    *error = 0;
    return -1;
}

ssize_t pwritev(int fd, const struct iovec *parts, int n, off_t offset)
{
    struct iovec first = parts[0];

    next.pwritev_calls++;
    if (next.pwritev_error)
        return take_error(&next.pwritev_error);
    if (next.most == 0)
        return syscall(SYS_pwritev, fd, parts, n, offset, 0);
    first.iov_len = first.iov_len < next.most ? first.iov_len : next.most;
    return syscall(SYS_pwritev, fd, &first, 1, offset, 0);
}

int fdatasync(int fd)
{
    next.fdatasync_calls++;
    return next.fdatasync_error ? take_error(&next.fdatasync_error) : (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    next.fsync_calls++;
    return next.fsync_error ? take_error(&next.fsync_error) : (int)syscall(SYS_fsync, fd);
}

int sync_file_range(int fd, off_t offset, off_t n, unsigned flags)
{
    next.sync_file_range_calls++;
    return (int)syscall(SYS_sync_file_range, fd, offset, n, flags);
}

int nanosleep(const struct timespec *wanted, struct timespec *left)
{
    (void)wanted;
    (void)left;
    next.nanosleep_calls++;
    return 0;
}

int fallocate(int fd, int mode, off_t offset, off_t n)
{
    return next.fallocate_error ? take_error(&next.fallocate_error)
                                : (int)syscall(SYS_fallocate, fd, mode, offset, n);
}

/* ----------------------------------------------------------------------------------------------------------------- */

static int open_folder(void **state)
{
    (void)state;
    memset(&next, 0, sizeof next);
    return storage_open_folder(&storage, path);
}

static void remove_name(void *arg, const char *name)
{
    (void)arg;
    assert_int_equal(storage_remove(storage, name), 0);
}

static int close_folder(void **state)
{
    char lock[80];

    (void)state;
    storage_list(storage, remove_name, NULL);
    storage_close_folder(storage);
    snprintf(lock, sizeof lock, "%s/lock", path);
    return unlink(lock) == 0 && rmdir(path) == 0 ? 0 : -1;
}

static struct storage_file *open_file(const char *name)
{
    struct storage_file *file;

    assert_int_equal(storage_open(storage, name, true, &file), 0);
    return file;
}

static int write_text(struct storage_file *file, const char *text, uint64_t offset)
{
    struct iovec part = {(char *)text, strlen(text)};

    return storage_write(file, &part, 1, offset);
}

static void assert_holds(struct storage_file *file, const char *text, size_t n)
{
    uint64_t size;
    char *bytes = malloc(n);

    assert_non_null(bytes);
    assert_int_equal(storage_size(file, &size), 0);
    assert_int_equal(size, n);
    assert_int_equal(storage_read(file, bytes, n, 0), n);
    assert_memory_equal(bytes, text, n);
    free(bytes);
}

static struct stat stat_of(const char *name)
{
    char full[128];
    struct stat st;

    snprintf(full, sizeof full, "%s/%s", path, name);
    assert_int_equal(stat(full, &st), 0);
    return st;
}

/* ---- the folder ------------------------------------------------------------------------------------------------- */

static void a_folder_is_made_for_its_user_only(void **state)
{
    struct stat st;

    (void)state;
    storage_close(open_file("one"));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    st = stat_of("one");
    assert_int_equal(st.st_mode & 077, 0);
}

static void a_folder_that_is_open_is_busy(void **state)
{
    struct storage *second;

    (void)state;
    assert_int_equal(storage_open_folder(&second, path), -EBUSY);
    assert_null(second);
    storage_close_folder(storage);
    assert_int_equal(storage_open_folder(&storage, path), 0);
}

static void a_folder_that_cannot_be_is_an_error(void **state)
{
    struct storage *none;
    char file[128];

    (void)state;
    storage_close(open_file("one"));
    snprintf(file, sizeof file, "%s/one", path);
    assert_int_equal(storage_open_folder(&none, file), -ENOTDIR);
    assert_null(none);
    snprintf(file, sizeof file, "%s/no/such", path);
    assert_int_equal(storage_open_folder(&none, file), -ENOENT);
    assert_null(none);
}

/* Or a power failure could take the folder of an open log. */
static void the_folder_s_own_name_is_synced_before_it_is_used(void **state)
{
    struct storage *other;

    (void)state;
    storage_close_folder(storage);
    next.fsync_error = EIO;
    assert_int_equal(storage_open_folder(&other, path), -EIO);
    assert_null(other);
    assert_int_equal(storage_open_folder(&storage, path), 0);
}

static void count_name(void *arg, const char *name)
{
    unsigned *seen = arg;

    *seen += strcmp(name, "one") == 0 ? 1 : strcmp(name, "two") == 0 ? 10 : 100;
}

static void every_file_is_listed_but_the_lock(void **state)
{
    unsigned seen = 0;

    (void)state;
    storage_close(open_file("one"));
    storage_close(open_file("two"));
    for (unsigned times = 1; times <= 2; times++) {
        assert_int_equal(storage_list(storage, count_name, &seen), 0);
        assert_int_equal(seen, 11 * times);
    }
}

static void what_is_removed_is_gone(void **state)
{
    struct storage_file *file;

    (void)state;
    storage_close(open_file("one"));
    assert_int_equal(storage_remove(storage, "one"), 0);
    assert_int_equal(storage_remove(storage, "one"), -ENOENT);
    assert_int_equal(storage_open(storage, "one", false, &file), -ENOENT);
    assert_null(file);
}

static void names_are_synced_by_the_folder_s_sync(void **state)
{
    unsigned before = next.fsync_calls;

    (void)state;
    assert_int_equal(storage_sync_names(storage), 0);
    assert_int_equal(next.fsync_calls, before + 1);
    next.fsync_error = EINTR;
    assert_int_equal(storage_sync_names(storage), 0);
    next.fsync_error = EIO;
    assert_int_equal(storage_sync_names(storage), -EIO);
}

/* ---- a file ----------------------------------------------------------------------------------------------------- */

static void what_was_written_is_read_back(void **state)
{
    struct storage_file *file = open_file("one"), *again;

    (void)state;
    assert_int_equal(write_text(file, "the first", 0), 0);
    assert_int_equal(write_text(file, "last", 4), 0);
    assert_holds(file, "the lastt", 9);
    assert_int_equal(storage_open(storage, "one", false, &again), 0);
    assert_holds(again, "the lastt", 9);
    storage_close(again);
    storage_close(file);
}

static void a_read_over_the_end_gives_what_is_there(void **state)
{
    struct storage_file *file = open_file("one");
    char bytes[8];

    (void)state;
    assert_int_equal(write_text(file, "abc", 0), 0);
    assert_int_equal(storage_read(file, bytes, sizeof bytes, 1), 2);
    assert_memory_equal(bytes, "bc", 2);
    assert_int_equal(storage_read(file, bytes, sizeof bytes, 3), 0);
    assert_int_equal(storage_read(file, bytes, sizeof bytes, 1000), 0);
    storage_close(file);
}

/* More parts than the kernel takes in one call, empty ones among them; most: see next. */
static void write_many_parts(struct storage_file *file, size_t most)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    enum { N = 2 * IOV_MAX + 3 };
    struct iovec *parts = malloc(N * sizeof *parts);
    char *all = malloc(N * 3);
    size_t len = 0;

    assert_true(parts && all);
    for (size_t i = 0; i < N; i++) {
        parts[i] = (struct iovec){(char *)letters + i % 23, i % 4};
        memcpy(all + len, letters + i % 23, i % 4);
        len += i % 4;
    }
    next.most = most;
    assert_int_equal(storage_write(file, parts, N, 0), 0);
    next.most = 0;
    assert_holds(file, all, len);
    free(all);
    free(parts);
}

static void a_write_of_many_parts_is_whole(void **state)
{
    struct storage_file *file = open_file("one");

    (void)state;
    write_many_parts(file, 0);
    storage_close(file);
}

static void a_write_that_the_kernel_cuts_short_is_whole(void **state)
{
    struct storage_file *file = open_file("one");

    (void)state;
    write_many_parts(file, 1);
    storage_close(file);
}

static void a_write_of_nothing_is_no_call(void **state)
{
    struct storage_file *file = open_file("one");
    struct iovec empty[2] = {{NULL, 0}, {NULL, 0}};

    (void)state;
    assert_int_equal(storage_write(file, empty, 2, 0), 0);
    assert_int_equal(next.pwritev_calls, 0);
    storage_close(file);
}

static void a_signal_does_not_end_a_write_or_sync(void **state)
{
    struct storage_file *file = open_file("one");

    (void)state;
    next.pwritev_error = EINTR;
    assert_int_equal(write_text(file, "abc", 0), 0);
    next.fdatasync_error = EINTR;
    assert_int_equal(storage_sync(file), 0);
    assert_int_equal(next.fdatasync_calls, 2);
    assert_holds(file, "abc", 3);
    storage_close(file);
}

/* A second sync would succeed, and mean nothing. */
static void an_error_of_a_sync_is_told_and_not_tried_again(void **state)
{
    struct storage_file *file = open_file("one");

    (void)state;
    next.fdatasync_error = EIO;
    assert_int_equal(storage_sync(file), -EIO);
    assert_int_equal(next.fdatasync_calls, 1);
    next.pwritev_error = ENOSPC;
    assert_int_equal(write_text(file, "abc", 0), -ENOSPC);
    assert_int_equal(next.pwritev_calls, 1);
    storage_close(file);
}

/* ---- fill ------------------------------------------------------------------------------------------------------- */

#define FILL_BYTES ((3u << 20) + 777)

static void assert_zeros(struct storage_file *file, size_t from, size_t to)
{
    char *bytes = malloc(to - from);

    assert_non_null(bytes);
    assert_int_equal(storage_read(file, bytes, to - from, from), to - from);
    for (size_t i = 0; i < to - from; i++)
        if (bytes[i] != 0)
            fail_msg("byte %zu is not zero", from + i);
    free(bytes);
}

static uint64_t size_of(struct storage_file *file)
{
    uint64_t size;

    assert_int_equal(storage_size(file, &size), 0);
    return size;
}

static void a_filled_file_is_zeros_that_have_their_room(void **state)
{
    struct storage_file *file = open_file("one");

    (void)state;
    assert_int_equal(storage_fill(file, FILL_BYTES, NULL), 0);
    assert_int_equal(size_of(file), FILL_BYTES);
    assert_zeros(file, 0, FILL_BYTES);
    assert_true(stat_of("one").st_blocks * 512 >= FILL_BYTES);
    assert_true(next.pwritev_calls >= 1);
    storage_close(file);
}

#define PIECES (FILL_BYTES / (128u << 10))

static void a_fill_leaves_the_disk_to_others_between_pieces(void **state)
{
    struct storage_file *file = open_file("one");
    const atomic_bool hurried = false;

    (void)state;
    assert_int_equal(storage_fill(file, FILL_BYTES, &hurried), 0);
    assert_true(next.sync_file_range_calls >= PIECES);
    assert_true(next.nanosleep_calls >= PIECES - 1);
    assert_true(next.fdatasync_calls >= 1);
    storage_close(file);
}

static void a_fill_that_is_hurried_does_not_rest(void **state)
{
    struct storage_file *file = open_file("one");
    const atomic_bool hurried = true;

    (void)state;
    assert_int_equal(storage_fill(file, FILL_BYTES, &hurried), 0);
    assert_int_equal(storage_fill(file, 2 * FILL_BYTES, NULL), 0);
    assert_int_equal(next.nanosleep_calls, 0);
    storage_close(file);
}

static void note_name(void *arg, const char *name)
{
    if (strcmp(name, "large") == 0)
        *(bool *)arg = true;
}

static void a_large_file_is_gone_at_once(void **state)
{
    struct storage_file *file = open_file("large");
    bool there = false;

    (void)state;
    assert_int_equal(storage_fill(file, 17u << 20, NULL), 0);
    storage_close(file);
    assert_int_equal(storage_list(storage, note_name, &there), 0);
    assert_true(there);
    assert_int_equal(storage_remove(storage, "large"), 0);
    there = false;
    assert_int_equal(storage_list(storage, note_name, &there), 0);
    assert_false(there);
    assert_int_equal(storage_open(storage, "large", false, &file), -ENOENT);
    assert_int_equal(storage_remove(storage, "large"), -ENOENT);
}

static void a_fill_leaves_what_is_there(void **state)
{
    struct storage_file *file = open_file("one");
    char bytes[3];

    (void)state;
    assert_int_equal(write_text(file, "abc", 0), 0);
    assert_int_equal(storage_fill(file, 5000, NULL), 0);
    assert_int_equal(storage_fill(file, 2, NULL), 0);
    assert_int_equal(size_of(file), 5000);
    assert_int_equal(storage_read(file, bytes, 3, 0), 3);
    assert_memory_equal(bytes, "abc", 3);
    assert_zeros(file, 3, 5000);
    storage_close(file);
}

static void a_fill_without_room_writes_nothing(void **state)
{
    struct storage_file *file = open_file("one");

    (void)state;
    next.fallocate_error = ENOSPC;
    assert_int_equal(storage_fill(file, FILL_BYTES, NULL), -ENOSPC);
    assert_int_equal(next.pwritev_calls, 0);
    assert_int_equal(size_of(file), 0);
    storage_close(file);
}

static void a_file_system_without_fallocate_is_filled_all_the_same(void **state)
{
    struct storage_file *file = open_file("one");

    (void)state;
    next.fallocate_error = EOPNOTSUPP;
    assert_int_equal(storage_fill(file, FILL_BYTES, NULL), 0);
    assert_zeros(file, 0, FILL_BYTES);
    storage_close(file);
}

static void a_failed_fill_gives_its_room_back(void **state)
{
    struct storage_file *file = open_file("one");

    (void)state;
    assert_int_equal(write_text(file, "abc", 0), 0);
    next.pwritev_error = ENOSPC;
    assert_int_equal(storage_fill(file, FILL_BYTES, NULL), -ENOSPC);
    assert_holds(file, "abc", 3);
    assert_true(stat_of("one").st_blocks * 512 < FILL_BYTES);
    storage_close(file);
}

/* One that finds the file long enough would only sync, and that succeeds after a failure. */
static void a_fill_whose_sync_failed_is_done_again(void **state)
{
    struct storage_file *file = open_file("one");
    unsigned writes;

    (void)state;
    next.fdatasync_error = EIO;
    assert_int_equal(storage_fill(file, FILL_BYTES, NULL), -EIO);
    assert_int_equal(size_of(file), 0);
    writes = next.pwritev_calls;
    assert_int_equal(storage_fill(file, FILL_BYTES, NULL), 0);
    assert_true(next.pwritev_calls > writes);
    storage_close(file);
}

/* ---- reserve ---------------------------------------------------------------------------------------------------- */

static void what_is_reserved_has_room_and_no_length(void **state)
{
    struct storage_file *file = open_file("one");

    (void)state;
    assert_int_equal(storage_reserve(file, FILL_BYTES), 0);
    assert_int_equal(size_of(file), 0);
    assert_true(stat_of("one").st_blocks * 512 >= FILL_BYTES);
    assert_int_equal(write_text(file, "abc", 0), 0);
    assert_holds(file, "abc", 3);
    storage_close(file);
}

static void room_that_is_not_there_is_not_reserved(void **state)
{
    struct storage_file *file = open_file("one");

    (void)state;
    next.fallocate_error = ENOSPC;
    assert_int_equal(storage_reserve(file, FILL_BYTES), -ENOSPC);
    next.fallocate_error = EOPNOTSUPP; /* then a write finds out */
    assert_int_equal(storage_reserve(file, FILL_BYTES), 0);
    assert_int_equal(next.pwritev_calls, 0);
    storage_close(file);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_folder, close_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_folder_is_made_for_its_user_only),
        TEST(a_folder_that_is_open_is_busy),
        TEST(a_folder_that_cannot_be_is_an_error),
        TEST(the_folder_s_own_name_is_synced_before_it_is_used),
        TEST(every_file_is_listed_but_the_lock),
        TEST(what_is_removed_is_gone),
        TEST(names_are_synced_by_the_folder_s_sync),
        TEST(what_was_written_is_read_back),
        TEST(a_read_over_the_end_gives_what_is_there),
        TEST(a_write_of_many_parts_is_whole),
        TEST(a_write_that_the_kernel_cuts_short_is_whole),
        TEST(a_write_of_nothing_is_no_call),
        TEST(a_signal_does_not_end_a_write_or_sync),
        TEST(an_error_of_a_sync_is_told_and_not_tried_again),
        TEST(a_filled_file_is_zeros_that_have_their_room),
        TEST(a_fill_leaves_the_disk_to_others_between_pieces),
        TEST(a_fill_that_is_hurried_does_not_rest),
        TEST(a_large_file_is_gone_at_once),
        TEST(a_fill_leaves_what_is_there),
        TEST(a_fill_without_room_writes_nothing),
        TEST(a_file_system_without_fallocate_is_filled_all_the_same),
        TEST(a_failed_fill_gives_its_room_back),
        TEST(a_fill_whose_sync_failed_is_done_again),
        TEST(what_is_reserved_has_room_and_no_length),
        TEST(room_that_is_not_there_is_not_reserved),
    };
    int failed;

    if (!mkdtemp(above))
        return 1;
    snprintf(path, sizeof path, "%s/log", above);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    return rmdir(above) == 0 ? failed : 1;
}
