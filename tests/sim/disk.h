/* disk.h - a simulated disk: a storage (log/storage.h) in memory that loses what a real one may lose, from a seed.
 *
 * A file has two images: the durable one, and what reads show (the system's cache). Writes go to the cache; until a sync they
 * are pending, and a power failure keeps of them none, all, some first ones, or any, sector by sector, in any order: but a
 * sector is always one that the cache had at some time since the last sync. Names are alike, each by itself: until
 * sync_names a file that was created may vanish, whatever was synced of it, and one that was removed may come back.
 *
 * After a failed sync each pending sector may be durable or not, and none is pending any more: reads show what was written, as
 * Linux does, until the power fails, or until the cache forgets it (disk_restart).
 *
 * Everything follows from the seed and the calls. One thread at a time. Memory that runs out ends the program. */
#ifndef SIM_DISK_H
#define SIM_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log/storage.h"

#define DISK_SECTOR 512u

struct disk;

struct disk *disk_new(uint64_t seed);
void disk_free(struct disk *disk);
/* Empty again, without faults or limits: as from disk_new, but quicker. No file may be open. */
void disk_reset(struct disk *disk, uint64_t seed);
struct storage *disk_storage(struct disk *disk);

/* ---- what happens to the machine --------------------------------------------------------------------------------- */

/* The power fails: each file is left as its durable image and some of what was pending. Faults are gone, the limit stays. No
 * file may be open: close the log first, which writes nothing. */
void disk_crash(struct disk *disk);
/* The process ends and starts again, the system lives: what is pending stays. What a failed sync has lost may be forgotten
 * by the cache from now on. Faults are gone. No file may be open. */
void disk_restart(struct disk *disk);

/* ---- faults ------------------------------------------------------------------------------------------------------- */

enum disk_op {
    DISK_OPEN,
    DISK_READ,
    DISK_WRITE, /* its first sectors, some or all, are written all the same */
    DISK_SYNC,
    DISK_FILL,
    DISK_NAMES, /* sync_names and remove */
    DISK_OPS
};

/* The operation of that kind after the next `after` ones fails with error (EIO, ENOSPC); sticky: and each one after it. A kind
 * has one fault at a time. */
void disk_fail(struct disk *disk, enum disk_op op, uint64_t after, int error, bool sticky);
/* After that many more operations of any kind the power is off: all fail with -EIO, and what the one that it fails in has done
 * is as with any other fault. disk_crash is next. */
void disk_power_off(struct disk *disk, uint64_t after);
/* From now on every operation fails with -EIO and does nothing, until disk_crash or disk_restart: what a process that is killed
 * would still do must not count. */
void disk_stop(struct disk *disk);
/* Until disk_reset syncs of files say yes and do nothing. */
void disk_lie(struct disk *disk);
/* No fault waits or is sticky any more; the power is on. */
void disk_heal(struct disk *disk);
/* All files together: -ENOSPC beyond it. 0: no limit. */
void disk_limit(struct disk *disk, uint64_t bytes);
/* Turns a bit of a file over, on the disk and in the cache, which is what a read after a crash would show. -ENOENT; -EINVAL:
 * it is not that long. */
int disk_flip(struct disk *disk, const char *name, uint64_t bit);

/* ---- looking at it -------------------------------------------------------------------------------------------------- */

/* Bytes of all files. */
uint64_t disk_used(const struct disk *disk);
/* How many operations of the kind there were, since disk_new or disk_reset. */
uint64_t disk_count(const struct disk *disk, enum disk_op op);
/* Files that a listing shows, in the order in which they were first named; NULL: no more. */
const char *disk_name(const struct disk *disk, size_t i);
/* Bytes of a file as reads show it; 0: there is none. */
uint64_t disk_size(const struct disk *disk, const char *name);

#endif
