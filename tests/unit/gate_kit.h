/* gate_kit.h - for tests of what helper threads do to files: a storage over a simulated disk, through which one goes at a time,
 * which counts what goes through, and which holds them up where a test says so. Include after fiber_kit.h. */
#ifndef GATE_KIT_H
#define GATE_KIT_H

#include <assert.h>
#include <pthread.h>

#include "sim/disk.h"

static struct disk *disk;

enum gate_op { GATE_OPEN, GATE_READ, GATE_WRITE, GATE_SYNC, GATE_NAMES, GATE_CLOSE, GATE_NOWHERE };

static struct gate {
    struct storage storage;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    enum gate_op held; /* where helpers wait */
    unsigned n_waiting;
    unsigned open;                   /* files */
    uint64_t written;                /* bytes, with headers */
    uint64_t unsynced, unsynced_max; /* bytes */
    size_t write_max, read_max;      /* bytes that one asked for */
    size_t reads_lack;               /* a read gets so many bytes less */
} gate = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

struct gated_file {
    struct storage_file file;
    struct storage_file *under; /* owned */
};

static struct storage_file *under(struct storage_file *file)
{
    return container_of(file, struct gated_file, file)->under;
}

/* One at a time, for the simulated disk is nobody else's meanwhile. */
static void enter(enum gate_op op)
{
    pthread_mutex_lock(&gate.mutex);
    while (gate.held == op) {
        gate.n_waiting++;
        pthread_cond_wait(&gate.changed, &gate.mutex);
        gate.n_waiting--;
    }
}

static void leave(void)
{
    pthread_mutex_unlock(&gate.mutex);
}

static inline void gate_hold(enum gate_op op)
{
    pthread_mutex_lock(&gate.mutex);
    gate.held = op;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.mutex);
}

static bool gate_holds(void)
{
    bool holds;

    pthread_mutex_lock(&gate.mutex);
    holds = gate.n_waiting > 0;
    pthread_mutex_unlock(&gate.mutex);
    return holds;
}

static inline void await_held(void)
{
    while (!gate_holds())
        CHECK_EQUAL(fiber_yield(), 0);
}

static int gate_open(struct storage *storage, const char *name, bool create, struct storage_file **file)
{
    struct gated_file *gated = malloc(sizeof *gated);
    int error;

    assert(gated);
    enter(GATE_OPEN);
    *file = NULL;
    error = storage_open(disk_storage(disk), name, create, &gated->under);
    gate.open += !error;
    leave();
    if (error) {
        free(gated);
        return error;
    }
    gated->file.storage = storage;
    *file = &gated->file;
    return 0;
}

static void gate_close(struct storage_file *file)
{
    enter(GATE_CLOSE);
    storage_close(under(file));
    gate.open--;
    leave();
    free(container_of(file, struct gated_file, file));
}

static int gate_size(struct storage_file *file, uint64_t *bytes)
{
    int error;

    enter(GATE_READ);
    error = storage_size(under(file), bytes);
    leave();
    return error;
}

static ssize_t gate_read(struct storage_file *file, void *bytes, size_t n, uint64_t offset)
{
    ssize_t got;

    enter(GATE_READ);
    gate.read_max = n > gate.read_max ? n : gate.read_max;
    got = storage_read(under(file), bytes, n, offset);
    if (got > 0)
        got -= (ssize_t)gate.reads_lack < got ? (ssize_t)gate.reads_lack : got;
    leave();
    return got;
}

static int gate_write(struct storage_file *file, const struct iovec *parts, int n, uint64_t offset)
{
    size_t bytes = 0;
    int error;

    for (int i = 0; i < n; i++)
        bytes += parts[i].iov_len;
    enter(GATE_WRITE);
    error = storage_write(under(file), parts, n, offset);
    gate.write_max = bytes > gate.write_max ? bytes : gate.write_max;
    gate.written += error ? 0 : bytes;
    gate.unsynced += bytes;
    gate.unsynced_max = gate.unsynced > gate.unsynced_max ? gate.unsynced : gate.unsynced_max;
    leave();
    return error;
}

static int gate_sync(struct storage_file *file)
{
    int error;

    enter(GATE_SYNC);
    error = storage_sync(under(file));
    gate.unsynced = 0;
    leave();
    return error;
}

static int gate_reserve(struct storage_file *file, uint64_t bytes)
{
    int error;

    enter(GATE_OPEN);
    error = storage_reserve(under(file), bytes);
    leave();
    return error;
}

static int gate_remove(struct storage *storage, const char *name)
{
    int error;

    (void)storage;
    enter(GATE_NAMES);
    error = storage_remove(disk_storage(disk), name);
    leave();
    return error;
}

static int gate_sync_names(struct storage *storage)
{
    int error;

    (void)storage;
    enter(GATE_NAMES);
    error = storage_sync_names(disk_storage(disk));
    leave();
    return error;
}

static const struct storage_kind gate_kind = {
    .open = gate_open,
    .close = gate_close,
    .size = gate_size,
    .read = gate_read,
    .write = gate_write,
    .sync = gate_sync,
    .reserve = gate_reserve,
    .remove = gate_remove,
    .sync_names = gate_sync_names,
};

/* With a disk that is new. */
static inline void gate_reset(void)
{
    gate.storage.kind = &gate_kind;
    gate.held = GATE_NOWHERE;
    gate.open = 0;
    gate.written = gate.unsynced = gate.unsynced_max = 0;
    gate.write_max = gate.read_max = gate.reads_lack = 0;
}

#endif
