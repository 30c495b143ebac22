/* storage.h - the few things that the log does to files, so that a simulated disk can stand in for a real one.
 *
 * A storage is a flat folder of files with plain names. Writes are durable only after a sync of their file, and a file's
 * existence only after storage_sync_names: whoever needs that asks for it.
 * Errors: 0 or a negative errno. Reads and writes are whole: less than all is an error, but a read over the end gives
 * what is there. Threads: a file's operations come from one thread at a time; different files from different threads. */
#ifndef LOG_STORAGE_H
#define LOG_STORAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct storage;

/* Made by the storage, which has its own behind it. */
struct storage_file {
    struct storage *storage;
};

struct storage_kind {
    /* create: it may be there already; without, -ENOENT. The caller closes *file. */
    int (*open)(struct storage *storage, const char *name, bool create, struct storage_file **file);
    void (*close)(struct storage_file *file);
    int (*size)(struct storage_file *file, uint64_t *bytes);
    /* Bytes read: n, or less where the file ends. */
    ssize_t (*read)(struct storage_file *file, void *bytes, size_t n, uint64_t offset);
    int (*write)(struct storage_file *file, const struct iovec *parts, int n, uint64_t offset);
    int (*sync)(struct storage_file *file);
    /* Makes it at least so long, filled with zeros and synced, so that a later write needs neither room nor metadata. -ENOSPC:
     * there is no room, which is found out before much is written. Blocks for as long as that takes, and takes its time, so that
     * syncs of other files hardly wait for it, until hurried is true. NULL: as fast as it can. */
    int (*fill)(struct storage_file *file, uint64_t bytes, const atomic_bool *hurried);
    /* Takes room for so many bytes, but does not change how long it is: -ENOSPC now rather than by a write. Where that cannot be
     * done without writing it does nothing. */
    int (*reserve)(struct storage_file *file, uint64_t bytes);
    /* Calls each with every name, in no order; each may open, but not create or remove. */
    int (*list)(struct storage *storage, void (*each)(void *arg, const char *name), void *arg);
    int (*remove)(struct storage *storage, const char *name);
    int (*sync_names)(struct storage *storage);
};

struct storage {
    const struct storage_kind *kind;
};

static inline int storage_open(struct storage *storage, const char *name, bool create,
                               struct storage_file **file)
{
    return storage->kind->open(storage, name, create, file);
}

static inline void storage_close(struct storage_file *file)
{
    file->storage->kind->close(file);
}

static inline int storage_size(struct storage_file *file, uint64_t *bytes)
{
    return file->storage->kind->size(file, bytes);
}

static inline ssize_t storage_read(struct storage_file *file, void *bytes, size_t n, uint64_t offset)
{
    return file->storage->kind->read(file, bytes, n, offset);
}

static inline int storage_write(struct storage_file *file, const struct iovec *parts, int n, uint64_t offset)
{
    return file->storage->kind->write(file, parts, n, offset);
}

static inline int storage_sync(struct storage_file *file)
{
    return file->storage->kind->sync(file);
}

static inline int storage_fill(struct storage_file *file, uint64_t bytes, const atomic_bool *hurried)
{
    return file->storage->kind->fill(file, bytes, hurried);
}

static inline int storage_reserve(struct storage_file *file, uint64_t bytes)
{
    return file->storage->kind->reserve(file, bytes);
}

static inline int storage_list(struct storage *storage, void (*each)(void *arg, const char *name), void *arg)
{
    return storage->kind->list(storage, each, arg);
}

static inline int storage_remove(struct storage *storage, const char *name)
{
    return storage->kind->remove(storage, name);
}

static inline int storage_sync_names(struct storage *storage)
{
    return storage->kind->sync_names(storage);
}

/* A folder of real files, made when it is not there (its parents are), for its user only. A lock file in it keeps a second
 * process out: -EBUSY. *storage is NULL unless the result is 0. */
int storage_open_folder(struct storage **storage, const char *path);
void storage_close_folder(struct storage *storage);

/* Another storage as it is, whatever is done to this one: a file that is written to is copied into memory first. For looking what
 * would happen. under is borrowed. NULL: no memory. */
struct storage *storage_open_shadow(struct storage *under);
void storage_close_shadow(struct storage *storage);

#endif
