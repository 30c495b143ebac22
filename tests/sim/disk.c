/* disk.c - see disk.h.
 *
 *   1. Both images of a file have the same room; behind its length each is zeros.
 *   2. A pending write holds whole sectors, as the cache had them after it: so any of them may become durable without the
 *      others, and what is then on the disk was once in the cache.
 *   3. A name's history is the files it stood for, from the durable one to the one of now. A file lives for as long as
 *      some history has it, or somebody has it open. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/rng.h"
#include "sim/disk.h"

#define NAME_BYTES 64

/* Sectors from `first` on; their bytes lie in the file's pending_bytes. */
struct pending {
    size_t first, sectors, at;
    size_t len; /* of the file, after it */
};

struct inode {
    struct list node; /* in the disk's used or unused ones */
    char *live, *durable;
    size_t len, durable_len, room;
    struct pending *pending;
    size_t n_pending, pending_room;
    char *pending_bytes;
    size_t pending_len, pending_bytes_room;
    unsigned users; /* histories and handles */
    bool lossy;     /* a sync of it has failed: the cache may show what is not on the disk */
};

struct name {
    char text[NAME_BYTES];
    struct inode **history; /* NULL: no file */
    size_t n, room;
};

struct fault {
    bool armed, sticky;
    uint64_t after;
    int error;
};

struct disk {
    struct storage storage;
    struct rng rng;
    struct list used, unused; /* of struct inode */
    struct name *names;
    size_t n_names, names_room; /* of those beyond n_names the histories' memory is kept */
    unsigned handles;
    uint64_t limit;
    struct fault faults[DISK_OPS];
    bool off, off_armed, lies;
    uint64_t off_after;
    uint64_t counts[DISK_OPS];
};

struct handle {
    struct storage_file file;
    struct inode *inode;
};

static struct disk *disk_of(struct storage *storage)
{
    return container_of(storage, struct disk, storage);
}

static struct inode *inode_of(struct storage_file *file)
{
    return container_of(file, struct handle, file)->inode;
}

static void *must(void *memory)
{
    if (!memory)
        abort();
    return memory;
}

static bool chance(struct disk *disk, uint64_t one_in)
{
    return rng_below(&disk->rng, one_in) == 0;
}

/* ---- faults ------------------------------------------------------------------------------------------------------ */

void disk_fail(struct disk *disk, enum disk_op op, uint64_t after, int error, bool sticky)
{
    disk->faults[op] = (struct fault){.armed = true, .sticky = sticky, .after = after, .error = error};
}

void disk_power_off(struct disk *disk, uint64_t after)
{
    disk->off_armed = true;
    disk->off_after = after;
}

void disk_stop(struct disk *disk)
{
    disk->off = true;
}

void disk_heal(struct disk *disk)
{
    memset(disk->faults, 0, sizeof disk->faults);
    disk->off = disk->off_armed = false;
}

void disk_limit(struct disk *disk, uint64_t bytes)
{
    disk->limit = bytes;
}

/* Whether it is this one's turn to fail; a fault that is not sticky is over with it. */
static bool strikes(struct fault *fault)
{
    if (!fault->armed)
        return false;
    if (fault->after > 0) {
        fault->after--;
        return false;
    }
    fault->armed = fault->sticky;
    return true;
}

/* An operation begins: 0, or the error that it ends with. *partly: it may have done something before. */
static int begin(struct disk *disk, enum disk_op op, bool *partly)
{
    disk->counts[op]++;
    *partly = false;
    if (disk->off)
        return -EIO;
    *partly = true;
    if (disk->off_armed && disk->off_after-- == 0) {
        disk->off = true;
        return -EIO;
    }
    return strikes(&disk->faults[op]) ? -disk->faults[op].error : 0;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static struct inode *inode_new(struct disk *disk)
{
    struct list *node = list_pop_front(&disk->unused);
    struct inode *inode = node ? container_of(node, struct inode, node) : must(calloc(1, sizeof *inode));

    list_push_back(&disk->used, &inode->node);
    return inode;
}

static void inode_drop(struct disk *disk, struct inode *inode)
{
    if (!inode || --inode->users > 0)
        return;
    if (inode->room > 0) {
        memset(inode->live, 0, inode->room);
        memset(inode->durable, 0, inode->room);
    }
    inode->len = inode->durable_len = inode->n_pending = inode->pending_len = 0;
    inode->lossy = false;
    list_remove(&inode->node);
    list_push_front(&disk->unused, &inode->node);
}

static char *grow_zeros(char *bytes, size_t from, size_t to)
{
    bytes = must(realloc(bytes, to));
    memset(bytes + from, 0, to - from);
    return bytes;
}

static void inode_room(struct inode *inode, size_t bytes)
{
    size_t room = inode->room ? inode->room : 2 * DISK_SECTOR;

    if (bytes <= inode->room)
        return;
    while (room < bytes)
        room *= 2;
    inode->live = grow_zeros(inode->live, inode->room, room);
    inode->durable = grow_zeros(inode->durable, inode->room, room);
    inode->room = room;
}

static void inode_free(struct inode *inode)
{
    free(inode->live);
    free(inode->durable);
    free(inode->pending);
    free(inode->pending_bytes);
    free(inode);
}

/* What was written from offset up to end is pending: whole sectors. */
static void add_pending(struct inode *inode, size_t offset, size_t end)
{
    size_t first = offset / DISK_SECTOR, sectors = (end + DISK_SECTOR - 1) / DISK_SECTOR - first;
    size_t bytes = sectors * DISK_SECTOR;

    if (inode->n_pending == inode->pending_room) {
        inode->pending_room = inode->pending_room ? 2 * inode->pending_room : 8;
        inode->pending = must(realloc(inode->pending, inode->pending_room * sizeof *inode->pending));
    }
    if (inode->pending_len + bytes > inode->pending_bytes_room) {
        inode->pending_bytes_room = 2 * (inode->pending_len + bytes);
        inode->pending_bytes = must(realloc(inode->pending_bytes, inode->pending_bytes_room));
    }
    inode->pending[inode->n_pending++] = (struct pending){first, sectors, inode->pending_len, inode->len};
    memcpy(inode->pending_bytes + inode->pending_len, inode->live + first * DISK_SECTOR, bytes);
    inode->pending_len += bytes;
}

static void make_durable(struct inode *inode, const struct pending *write, size_t sector)
{
    size_t place = (write->first + sector) * DISK_SECTOR, end = place + DISK_SECTOR;

    memcpy(inode->durable + place, inode->pending_bytes + write->at + sector * DISK_SECTOR, DISK_SECTOR);
    if (end > write->len)
        end = write->len;
    if (inode->durable_len < end)
        inode->durable_len = end;
}

static void forget_pending(struct inode *inode)
{
    inode->n_pending = inode->pending_len = 0;
}

static void inode_sync(struct inode *inode)
{
    for (size_t i = 0; i < inode->n_pending; i++)
        for (size_t sector = 0; sector < inode->pending[i].sectors; sector++)
            make_durable(inode, &inode->pending[i], sector);
    inode->durable_len = inode->len;
    forget_pending(inode);
}

/* Which of the pending sectors are kept: those whose number, in the order of writing, lies in [from, to), each of them with
 * a chance of `keep` in 8. */
struct keeping {
    uint64_t from, to, keep;
};

static struct keeping choose(struct disk *disk, uint64_t sectors)
{
    uint64_t from, to;

    switch (rng_below(&disk->rng, 6)) {
    case 0:
        return (struct keeping){0, 0, 0};
    case 1:
        return (struct keeping){0, sectors, 8};
    case 2:
        return (struct keeping){0, rng_below(&disk->rng, sectors + 1), 8};
    case 3:
        from = rng_below(&disk->rng, sectors + 1);
        to = from + rng_below(&disk->rng, sectors - from + 1);
        return (struct keeping){from, to, 8};
    default:
        return (struct keeping){0, sectors, rng_below(&disk->rng, 9)};
    }
}

/* The pending sectors reach the disk as luck has it; none is pending any more. */
static void inode_lose(struct disk *disk, struct inode *inode)
{
    struct keeping keeping = choose(disk, inode->pending_len / DISK_SECTOR);
    uint64_t number = 0;

    for (size_t i = 0; i < inode->n_pending; i++)
        for (size_t sector = 0; sector < inode->pending[i].sectors; sector++, number++)
            if (number >= keeping.from && number < keeping.to && rng_below(&disk->rng, 8) < keeping.keep)
                make_durable(inode, &inode->pending[i], sector);
    if (inode->durable_len < inode->len && chance(disk, 6))
        inode->durable_len = inode->len;
    else if (inode->durable_len < inode->len && chance(disk, 6))
        inode->durable_len += (size_t)rng_below(&disk->rng, inode->len - inode->durable_len + 1);
    forget_pending(inode);
}

/* The cache shows what is on the disk. */
static void inode_reread(struct inode *inode)
{
    if (inode->room > 0)
        memcpy(inode->live, inode->durable, inode->room);
    inode->len = inode->durable_len;
    inode->lossy = false;
}

static bool is_pending(const struct inode *inode, size_t sector)
{
    for (size_t i = 0; i < inode->n_pending; i++)
        if (sector >= inode->pending[i].first && sector < inode->pending[i].first + inode->pending[i].sectors)
            return true;
    return false;
}

/* The cache drops some clean sectors, and shows what is on the disk from then on. */
static void inode_evict(struct disk *disk, struct inode *inode)
{
    for (size_t sector = 0; sector * DISK_SECTOR < inode->len; sector++)
        if (!is_pending(inode, sector) && chance(disk, 2))
            memcpy(inode->live + sector * DISK_SECTOR, inode->durable + sector * DISK_SECTOR, DISK_SECTOR);
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

static struct name *find(const struct disk *disk, const char *text)
{
    for (size_t i = 0; i < disk->n_names; i++)
        if (strcmp(disk->names[i].text, text) == 0)
            return &disk->names[i];
    return NULL;
}

static struct inode *now(const struct name *name)
{
    return name && name->n > 0 ? name->history[name->n - 1] : NULL;
}

static void name_becomes(struct name *name, struct inode *inode)
{
    if (name->n == name->room) {
        name->room = name->room ? 2 * name->room : 4;
        name->history = must(realloc(name->history, name->room * sizeof *name->history));
    }
    name->history[name->n++] = inode;
    if (inode)
        inode->users++;
}

static struct name *add_name(struct disk *disk, const char *text)
{
    struct name *name;

    assert(strlen(text) < NAME_BYTES && !strchr(text, '/'));
    if (disk->n_names == disk->names_room) {
        size_t room = disk->names_room ? 2 * disk->names_room : 16;

        disk->names = must(realloc(disk->names, room * sizeof *disk->names));
        memset(disk->names + disk->names_room, 0, (room - disk->names_room) * sizeof *disk->names);
        disk->names_room = room;
    }
    name = &disk->names[disk->n_names++];
    snprintf(name->text, sizeof name->text, "%s", text);
    name->n = 0;
    name_becomes(name, NULL);
    return name;
}

/* Only what stands in the history from `from` up to, and without, `to` can be after a crash. */
static void name_keep(struct disk *disk, struct name *name, size_t from, size_t to)
{
    for (size_t i = 0; i < name->n; i++)
        if (i < from || i >= to)
            inode_drop(disk, name->history[i]);
    memmove(name->history, name->history + from, (to - from) * sizeof *name->history);
    name->n = to - from;
}

static void sync_all_names(struct disk *disk)
{
    for (size_t i = 0; i < disk->n_names; i++)
        name_keep(disk, &disk->names[i], disk->names[i].n - 1, disk->names[i].n);
}

static void lose_names(struct disk *disk)
{
    uint64_t mode = rng_below(&disk->rng, 3);

    for (size_t i = 0; i < disk->n_names; i++) {
        struct name *name = &disk->names[i];
        size_t kept = mode == 0 ? 0 : mode == 1 ? name->n - 1 : (size_t)rng_below(&disk->rng, name->n);

        name_keep(disk, name, kept, kept + 1);
    }
}

/* ---- room -------------------------------------------------------------------------------------------------------- */

static uint64_t used(const struct disk *disk)
{
    uint64_t bytes = 0;

    for (const struct list *node = disk->used.next; node != &disk->used; node = node->next)
        bytes += container_of(node, const struct inode, node)->len;
    return bytes;
}

/* How long the file may become, at most `wanted`. A file system whose room is still that of removed files makes their removal
 * durable first, and with it all other names. */
static size_t allowed(struct disk *disk, const struct inode *inode, size_t wanted)
{
    uint64_t others;

    if (disk->limit == 0 || wanted <= inode->len)
        return wanted;
    others = used(disk) - inode->len;
    if (others + wanted > disk->limit) {
        sync_all_names(disk);
        others = used(disk) - inode->len;
    }
    if (others + wanted <= disk->limit)
        return wanted;
    return others + inode->len < disk->limit ? (size_t)(disk->limit - others) : inode->len;
}

/* ---- the storage ------------------------------------------------------------------------------------------------- */

static int disk_open(struct storage *storage, const char *text, bool create, struct storage_file **file)
{
    struct disk *disk = disk_of(storage);
    struct name *name = find(disk, text);
    struct inode *inode = now(name);
    struct handle *handle;
    bool partly;
    int error = begin(disk, DISK_OPEN, &partly);

    *file = NULL;
    if (error != 0)
        return error;
    if (!inode && !create)
        return -ENOENT;
    if (!inode) {
        inode = inode_new(disk);
        name_becomes(name ? name : add_name(disk, text), inode);
    }
    handle = must(malloc(sizeof *handle));
    *handle = (struct handle){{storage}, inode};
    inode->users++;
    disk->handles++;
    *file = &handle->file;
    return 0;
}

static void disk_close(struct storage_file *file)
{
    struct disk *disk = disk_of(file->storage);

    inode_drop(disk, inode_of(file));
    assert(disk->handles > 0);
    disk->handles--;
    free(container_of(file, struct handle, file));
}

static int disk_file_size(struct storage_file *file, uint64_t *bytes)
{
    *bytes = inode_of(file)->len;
    return disk_of(file->storage)->off ? -EIO : 0;
}

static ssize_t disk_read(struct storage_file *file, void *bytes, size_t n, uint64_t offset)
{
    const struct inode *inode = inode_of(file);
    bool partly;
    int error = begin(disk_of(file->storage), DISK_READ, &partly);

    if (error != 0) {
        memset(bytes, 0xEE, n); /* nobody may use them */
        return error;
    }
    if (offset >= inode->len)
        return 0;
    if (n > inode->len - offset)
        n = inode->len - (size_t)offset;
    memcpy(bytes, inode->live + offset, n);
    return (ssize_t)n;
}

static void write_some(struct inode *inode, const struct iovec *parts, size_t offset, size_t n)
{
    size_t end = offset + n, at = offset;

    if (n == 0)
        return;
    inode_room(inode, (end + DISK_SECTOR - 1) / DISK_SECTOR * DISK_SECTOR);
    for (; at < end; parts++) {
        size_t some = parts->iov_len < end - at ? parts->iov_len : end - at;

        if (some > 0)
            memcpy(inode->live + at, parts->iov_base, some);
        at += some;
    }
    if (inode->len < end)
        inode->len = end;
    add_pending(inode, offset, end);
}

/* How much of a write of n bytes is done by one that fails: up to a sector's end, or nothing. */
static size_t torn(struct disk *disk, size_t offset, size_t n)
{
    size_t end = offset + (size_t)rng_below(&disk->rng, n + DISK_SECTOR);

    end -= end % DISK_SECTOR;
    return end <= offset ? 0 : end - offset < n ? end - offset : n;
}

static int disk_write(struct storage_file *file, const struct iovec *parts, int n, uint64_t offset)
{
    struct disk *disk = disk_of(file->storage);
    struct inode *inode = inode_of(file);
    size_t whole = 0, some, end;
    bool partly;
    int error = begin(disk, DISK_WRITE, &partly);

    for (int i = 0; i < n; i++)
        whole += parts[i].iov_len;
    some = error == 0 ? whole : partly ? torn(disk, (size_t)offset, whole) : 0;
    end = allowed(disk, inode, (size_t)offset + some);
    if (end < offset + some) {
        some = end > offset ? end - (size_t)offset : 0;
        error = error != 0 ? error : -ENOSPC;
    }
    write_some(inode, parts, (size_t)offset, some);
    return error;
}

static int disk_sync(struct storage_file *file)
{
    struct disk *disk = disk_of(file->storage);
    struct inode *inode = inode_of(file);
    bool partly;
    int error = begin(disk, DISK_SYNC, &partly);

    if (error == 0) {
        if (!disk->lies)
            inode_sync(inode);
    } else if (partly && !disk->off) {
        inode_lose(disk, inode);
        inode->lossy = true;
    }
    return error;
}

static int disk_fill(struct storage_file *file, uint64_t bytes, const atomic_bool *hurried)
{
    struct disk *disk = disk_of(file->storage);
    struct inode *inode = inode_of(file);
    bool partly;
    int error = begin(disk, DISK_FILL, &partly);

    (void)hurried;
    if (error == 0 && allowed(disk, inode, (size_t)bytes) < bytes)
        error = -ENOSPC;
    if (error == 0 && inode->len < bytes) {
        inode_room(inode, (size_t)bytes);
        inode->len = (size_t)bytes;
    }
    if (error == 0)
        inode_sync(inode);
    if (error != 0 && disk->off && partly && inode->len < bytes) { /* else what was taken is given back */
        size_t len = inode->len + (size_t)rng_below(&disk->rng, bytes - inode->len + 1);

        len = allowed(disk, inode, len);
        inode_room(inode, len);
        inode->len = len;
    }
    return error;
}

/* Who asks first is not kept from being too late: others may have taken the room by the time it is written. */
static int disk_reserve(struct storage_file *file, uint64_t bytes)
{
    struct disk *disk = disk_of(file->storage);
    bool partly;
    int error = begin(disk, DISK_FILL, &partly);

    return error == 0 && allowed(disk, inode_of(file), (size_t)bytes) < bytes ? -ENOSPC : error;
}

static int disk_list(struct storage *storage, void (*each)(void *arg, const char *name), void *arg)
{
    struct disk *disk = disk_of(storage);
    bool partly;
    int error = begin(disk, DISK_READ, &partly);

    for (size_t i = 0; i < disk->n_names && error == 0; i++) {
        char text[NAME_BYTES];

        memcpy(text, disk->names[i].text, sizeof text); /* each may open what adds a name */
        if (now(&disk->names[i]))
            each(arg, text);
    }
    return error;
}

static int disk_remove(struct storage *storage, const char *text)
{
    struct disk *disk = disk_of(storage);
    struct name *name = find(disk, text);
    bool partly;
    int error = begin(disk, DISK_NAMES, &partly);

    if (error == 0 && !now(name))
        error = -ENOENT;
    if (error == 0)
        name_becomes(name, NULL);
    return error;
}

static int disk_sync_names(struct storage *storage)
{
    struct disk *disk = disk_of(storage);
    bool partly;
    int error = begin(disk, DISK_NAMES, &partly);

    if (error == 0)
        sync_all_names(disk);
    for (size_t i = 0; i < disk->n_names && error != 0 && partly; i++) {
        struct name *name = &disk->names[i];

        name_keep(disk, name, (size_t)rng_below(&disk->rng, name->n), name->n);
    }
    return error;
}

/* ---- the machine ------------------------------------------------------------------------------------------------- */

void disk_crash(struct disk *disk)
{
    assert(disk->handles == 0);
    lose_names(disk);
    for (struct list *node = disk->used.next; node != &disk->used; node = node->next) {
        struct inode *inode = container_of(node, struct inode, node);

        inode_lose(disk, inode);
        inode_reread(inode);
    }
    disk_heal(disk);
}

void disk_restart(struct disk *disk)
{
    assert(disk->handles == 0);
    for (struct list *node = disk->used.next; node != &disk->used; node = node->next) {
        struct inode *inode = container_of(node, struct inode, node);

        if (inode->lossy && chance(disk, 2))
            inode_evict(disk, inode);
    }
    disk_heal(disk);
}

int disk_flip(struct disk *disk, const char *text, uint64_t bit)
{
    struct inode *inode = now(find(disk, text));
    size_t byte = (size_t)(bit / 8);
    unsigned mask = 1u << bit % 8;

    if (!inode)
        return -ENOENT;
    if (byte >= inode->len)
        return -EINVAL;
    inode->live[byte] = (char)((unsigned char)inode->live[byte] ^ mask);
    if (byte < inode->durable_len)
        inode->durable[byte] = (char)((unsigned char)inode->durable[byte] ^ mask);
    return 0;
}

uint64_t disk_used(const struct disk *disk)
{
    return used(disk);
}

uint64_t disk_count(const struct disk *disk, enum disk_op op)
{
    return disk->counts[op];
}

const char *disk_name(const struct disk *disk, size_t i)
{
    for (size_t at = 0; at < disk->n_names; at++)
        if (now(&disk->names[at]) && i-- == 0)
            return disk->names[at].text;
    return NULL;
}

uint64_t disk_size(const struct disk *disk, const char *text)
{
    const struct inode *inode = now(find(disk, text));

    return inode ? inode->len : 0;
}

/* ---- its life ---------------------------------------------------------------------------------------------------- */

static const struct storage_kind disk_kind = {
    .open = disk_open,
    .close = disk_close,
    .size = disk_file_size,
    .read = disk_read,
    .write = disk_write,
    .sync = disk_sync,
    .fill = disk_fill,
    .reserve = disk_reserve,
    .list = disk_list,
    .remove = disk_remove,
    .sync_names = disk_sync_names,
};

struct disk *disk_new(uint64_t seed)
{
    struct disk *disk = must(calloc(1, sizeof *disk));

    disk->storage.kind = &disk_kind;
    disk->rng.state = seed;
    list_init(&disk->used);
    list_init(&disk->unused);
    return disk;
}

void disk_lie(struct disk *disk)
{
    disk->lies = true;
}

void disk_reset(struct disk *disk, uint64_t seed)
{
    assert(disk->handles == 0);
    for (size_t i = 0; i < disk->n_names; i++)
        name_keep(disk, &disk->names[i], 0, 0);
    assert(list_empty(&disk->used));
    disk->n_names = 0;
    disk->limit = 0;
    disk->lies = false;
    memset(disk->counts, 0, sizeof disk->counts);
    disk_heal(disk);
    disk->rng.state = seed;
}

static void free_all(struct list *inodes)
{
    struct list *node;

    while ((node = list_pop_front(inodes)))
        inode_free(container_of(node, struct inode, node));
}

void disk_free(struct disk *disk)
{
    disk_reset(disk, 0);
    free_all(&disk->unused);
    for (size_t i = 0; i < disk->names_room; i++)
        free(disk->names[i].history);
    free(disk->names);
    free(disk);
}

struct storage *disk_storage(struct disk *disk)
{
    return &disk->storage;
}
