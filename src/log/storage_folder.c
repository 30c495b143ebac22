/* storage_folder.c - a storage over a folder of real files.
 *
 *   1. A file "lock" in the folder is locked for as long as it is open. It is the storage's own: never listed.
 *   2. What interrupts a call (a signal, a short write) is hidden; every other error is passed on as it came. An error of
 *      a sync is told once by the kernel and the pages count as clean after it: whoever gets it must not sync again.
 *   3. Nothing is shared between files but the folder's descriptor, so that each may have a thread of its own. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "log/storage.h"

#define LOCK_NAME "lock"
/* Parts that go to the kernel in one call. */
#define PARTS_MAX 64
#define ZEROS_BYTES 16384
/* Of a file that is filled so much is written at a time, and then rested for so many times as long. */
#define PIECE_BYTES (128 << 10)
#define REST_TIMES 3
#define REST_MOST_US (20 * US_PER_MS)

struct folder {
    struct storage storage;
    int fd, lock_fd;
};

struct folder_file {
    struct storage_file file;
    int fd;
};

static const char zeros[ZEROS_BYTES];

static struct folder *folder_of(struct storage *storage)
{
    return container_of(storage, struct folder, storage);
}

static int fd_of(struct storage_file *file)
{
    return container_of(file, struct folder_file, file)->fd;
}

/* ---- files ------------------------------------------------------------------------------------------------------ */

static int folder_file_open(struct storage *storage, const char *name, bool create,
                            struct storage_file **file)
{
    struct folder_file *made = malloc(sizeof *made);

    assert(!strchr(name, '/') && strcmp(name, LOCK_NAME) != 0);
    *file = NULL;
    if (!made)
        return -ENOMEM;
    made->file.storage = storage;
    made->fd = openat(folder_of(storage)->fd, name,
                      O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (create ? O_CREAT : 0), 0600);
    if (made->fd < 0) {
        int error = -errno;

        free(made);
        return error;
    }
    *file = &made->file;
    return 0;
}

static void folder_file_close(struct storage_file *file)
{
    struct folder_file *made = container_of(file, struct folder_file, file);

    close(made->fd);
    free(made);
}

static int folder_size(struct storage_file *file, uint64_t *bytes)
{
    struct stat st;

    if (fstat(fd_of(file), &st) != 0)
        return -errno;
    *bytes = (uint64_t)st.st_size;
    return 0;
}

static ssize_t folder_read(struct storage_file *file, void *bytes, size_t n, uint64_t offset)
{
    size_t done = 0;

    while (done < n) {
        ssize_t got = pread(fd_of(file), (char *)bytes + done, n - done, (off_t)(offset + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

/* What of the parts is still to be written: from byte skip of the first one on. */
struct rest {
    const struct iovec *parts;
    int n;
    size_t skip;
};

static void rest_drop(struct rest *rest, size_t n)
{
    rest->skip += n;
    while (rest->n > 0 && rest->skip >= rest->parts->iov_len) {
        rest->skip -= rest->parts->iov_len;
        rest->parts++;
        rest->n--;
    }
}

static int rest_take(const struct rest *rest, struct iovec *parts)
{
    int n = rest->n < PARTS_MAX ? rest->n : PARTS_MAX;

    memcpy(parts, rest->parts, (size_t)n * sizeof *parts);
    parts[0].iov_base = (char *)parts[0].iov_base + rest->skip;
    parts[0].iov_len -= rest->skip;
    return n;
}

static int folder_write(struct storage_file *file, const struct iovec *parts, int n, uint64_t offset)
{
    struct rest rest = {parts, n, 0};
    struct iovec some[PARTS_MAX];

    for (rest_drop(&rest, 0); rest.n > 0;) {
        ssize_t done = pwritev(fd_of(file), some, rest_take(&rest, some), (off_t)offset);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? -errno : -EIO;
        rest_drop(&rest, (size_t)done);
        offset += (uint64_t)done;
    }
    return 0;
}

static int folder_sync(struct storage_file *file)
{
    while (fdatasync(fd_of(file)) != 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

/* Takes the room without using it: the file's length stays, so that a fill that was interrupted goes on where it was. */
static int take_room(int fd, uint64_t from, uint64_t to)
{
    while (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from)) != 0) {
        if (errno == EOPNOTSUPP)
            return 0; /* this file system finds out as it goes */
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

/* Hands what was written to the disk, and waits for that; it is durable only once the file is synced. */
static int push_out(int fd, uint64_t from, uint64_t to)
{
    const unsigned how = SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;

    while (sync_file_range(fd, (off_t)from, (off_t)(to - from), how) != 0) {
        if (errno == ENOSYS)
            return 0;
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

static void rest_after(uint64_t took_us)
{
    uint64_t us = took_us < REST_MOST_US / REST_TIMES ? took_us * REST_TIMES : REST_MOST_US;

    nanosleep(&(struct timespec){(time_t)(us / US_PER_S), (long)(us % US_PER_S * 1000)}, NULL);
}

/* Zeros that are there, and not only promised by the file system, which would note down for each part that it was written. A sync of
 * another file waits for what the disk has to do before: with 64 MiB that were 100 ms, with a piece and a rest behind it, during which
 * the disk is the others', it is a fraction of one. */
static int write_zeros(struct storage_file *file, uint64_t from, uint64_t to, const atomic_bool *hurried)
{
    struct iovec parts[PIECE_BYTES / ZEROS_BYTES];
    int error = 0;

    while (from < to && error == 0) {
        uint64_t at = from, start_us = clock_monotonic_us();
        int n = 0;

        for (; n < PIECE_BYTES / ZEROS_BYTES && at < to; n++) {
            size_t some = to - at < ZEROS_BYTES ? (size_t)(to - at) : ZEROS_BYTES;

            parts[n] = (struct iovec){(char *)zeros, some};
            at += some;
        }
        error = folder_write(file, parts, n, from);
        if (error == 0)
            error = push_out(fd_of(file), from, at);
        from = at;
        if (error == 0 && from < to && hurried && !atomic_load_explicit(hurried, memory_order_relaxed))
            rest_after(clock_monotonic_us() - start_us);
    }
    return error;
}

/* What failed is taken back, the room and the length: a second try must not find the length of one whose sync failed. */
static int folder_fill(struct storage_file *file, uint64_t bytes, const atomic_bool *hurried)
{
    uint64_t size = 0;
    int error = folder_size(file, &size);

    if (error != 0)
        return error;
    if (size < bytes)
        error = take_room(fd_of(file), size, bytes);
    if (error == 0)
        error = write_zeros(file, size, bytes, hurried);
    if (error == 0)
        error = folder_sync(file);
    if (error != 0 && size < bytes && ftruncate(fd_of(file), (off_t)size) != 0)
        log_warning("log: what a failed fill took could not be given back: %s", strerror(errno));
    return error;
}

static int folder_reserve(struct storage_file *file, uint64_t bytes)
{
    return take_room(fd_of(file), 0, bytes);
}

/* ---- names ------------------------------------------------------------------------------------------------------ */

static int folder_list(struct storage *storage, void (*each)(void *arg, const char *name), void *arg)
{
    int fd = openat(folder_of(storage)->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;
    int error;

    if (!dir) {
        error = -errno;
        if (fd >= 0)
            close(fd);
        return error;
    }
    for (errno = 0; (entry = readdir(dir)); errno = 0) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            strcmp(entry->d_name, LOCK_NAME) != 0)
            each(arg, entry->d_name);
    }
    error = -errno;
    closedir(dir);
    return error;
}

/* Of such a size a file's room takes tens of milliseconds to be given back, which is done as its last descriptor is closed. */
#define LARGE_BYTES (16 << 20)

static void *close_slowly(void *arg)
{
    close((int)(intptr_t)arg);
    return NULL;
}

/* On a thread of its own, where there can be one. */
static void close_elsewhere(int fd)
{
    pthread_attr_t attributes;
    pthread_t thread;

    if (pthread_attr_init(&attributes) != 0) {
        close(fd);
        return;
    }
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, close_slowly, (void *)(intptr_t)fd) != 0)
        close(fd);
    pthread_attr_destroy(&attributes);
}

/* The name is gone at once; the room of a large file comes back a moment later. */
static int folder_remove(struct storage *storage, const char *name)
{
    int dir = folder_of(storage)->fd, fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), error = 0;
    struct stat s;

    if (unlinkat(dir, name, 0) != 0)
        error = -errno;
    if (fd >= 0 && !error && fstat(fd, &s) == 0 && s.st_size >= LARGE_BYTES)
        close_elsewhere(fd);
    else if (fd >= 0)
        close(fd);
    return error;
}

static int sync_folder(int fd)
{
    while (fsync(fd) != 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

static int folder_sync_names(struct storage *storage)
{
    return sync_folder(folder_of(storage)->fd);
}

/* ---- the folder ------------------------------------------------------------------------------------------------- */

static const struct storage_kind folder_kind = {
    .open = folder_file_open,
    .close = folder_file_close,
    .size = folder_size,
    .read = folder_read,
    .write = folder_write,
    .sync = folder_sync,
    .fill = folder_fill,
    .reserve = folder_reserve,
    .list = folder_list,
    .remove = folder_remove,
    .sync_names = folder_sync_names,
};

/* The folder's own name must outlive the power, too. Somebody else's folder above may be closed to us: whoever made ours
 * there has seen to that. */
static int sync_parent(int fd, bool made)
{
    int parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC), error;

    if (parent < 0)
        return errno == EACCES && !made ? 0 : -errno;
    error = sync_folder(parent);
    close(parent);
    return error;
}

static int open_lock(struct folder *folder)
{
    folder->lock_fd = openat(folder->fd, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (folder->lock_fd < 0)
        return -errno;
    if (flock(folder->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? -EBUSY : -errno;
    return 0;
}

static int open_folder(struct folder *folder, const char *path)
{
    bool made = mkdir(path, 0700) == 0;
    int error;

    if (!made && errno != EEXIST)
        return -errno;
    folder->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder->fd < 0)
        return -errno;
    error = sync_parent(folder->fd, made);
    return error == 0 ? open_lock(folder) : error;
}

int storage_open_folder(struct storage **storage, const char *path)
{
    struct folder *folder = malloc(sizeof *folder);
    int error;

    *storage = NULL;
    if (!folder)
        return -ENOMEM;
    *folder = (struct folder){.storage = {&folder_kind}, .fd = -1, .lock_fd = -1};
    error = open_folder(folder, path);
    if (error == 0)
        *storage = &folder->storage;
    else
        storage_close_folder(&folder->storage);
    return error;
}

void storage_close_folder(struct storage *storage)
{
    struct folder *folder = folder_of(storage);

    if (folder->lock_fd >= 0)
        close(folder->lock_fd);
    if (folder->fd >= 0)
        close(folder->fd);
    free(folder);
}
