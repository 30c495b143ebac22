/* storage_shadow.c - a storage whose writes stay in memory; see storage.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "log/storage.h"

/* A file that was opened, or removed. What it holds is the one's below until it is written to. */
struct node {
    struct list list;
    char *name;  /* owned */
    char *bytes; /* owned; NULL: not written to */
    uint64_t size, room;
    bool copied, removed;
};

struct shadow {
    struct storage storage;
    struct storage *under;
    struct list nodes;
};

struct shadow_file {
    struct storage_file file;
    struct node *node;
    struct storage_file *under; /* owned; NULL: there is none below */
};

static struct shadow *shadow_of(struct storage *storage)
{
    return container_of(storage, struct shadow, storage);
}

static struct shadow_file *file_of(struct storage_file *file)
{
    return container_of(file, struct shadow_file, file);
}

static struct node *find_node(const struct shadow *shadow, const char *name)
{
    for (const struct list *at = shadow->nodes.next; at != &shadow->nodes; at = at->next) {
        struct node *node = container_of(at, struct node, list);

        if (strcmp(node->name, name) == 0)
            return node;
    }
    return NULL;
}

static struct node *take_node(struct shadow *shadow, const char *name)
{
    struct node *node = find_node(shadow, name);

    if (node)
        return node;
    node = calloc(1, sizeof *node);
    if (!node)
        return NULL;
    node->name = strdup(name);
    if (!node->name) {
        free(node);
        return NULL;
    }
    list_push_back(&shadow->nodes, &node->list);
    return node;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static int shadow_open(struct storage *storage, const char *name, bool create, struct storage_file **result)
{
    struct shadow *shadow = shadow_of(storage);
    struct shadow_file *file = calloc(1, sizeof *file);
    struct node *node = take_node(shadow, name);
    int error = file && node ? 0 : -ENOMEM;

    *result = NULL;
    if (!error && !node->copied && !node->removed)
        error = storage_open(shadow->under, name, false, &file->under);
    if ((error == -ENOENT || (!error && node->removed)) && create) {
        node->removed = false;
        node->copied = true; /* of nothing */
        error = 0;
    } else if (!error && node->removed) {
        error = -ENOENT;
    }
    if (error) {
        free(file);
        return error;
    }
    file->file.storage = storage;
    file->node = node;
    *result = &file->file;
    return 0;
}

static void shadow_close(struct storage_file *file)
{
    if (file_of(file)->under)
        storage_close(file_of(file)->under);
    free(file_of(file));
}

static int shadow_size(struct storage_file *file, uint64_t *bytes)
{
    *bytes = file_of(file)->node->size;
    return file_of(file)->node->copied ? 0 : storage_size(file_of(file)->under, bytes);
}

static ssize_t shadow_read(struct storage_file *file, void *bytes, size_t n, uint64_t offset)
{
    const struct node *node = file_of(file)->node;

    if (!node->copied)
        return storage_read(file_of(file)->under, bytes, n, offset);
    if (offset >= node->size)
        return 0;
    if (n > node->size - offset)
        n = node->size - offset;
    memcpy(bytes, node->bytes + offset, n);
    return (ssize_t)n;
}

static int make_size(struct node *node, uint64_t size)
{
    uint64_t room = node->room ? node->room : 4096;
    char *bytes;

    while (room < size)
        room *= 2;
    if (room != node->room) {
        bytes = realloc(node->bytes, room);
        if (!bytes)
            return -ENOMEM;
        node->bytes = bytes;
        node->room = room;
    }
    if (size > node->size) {
        memset(node->bytes + node->size, 0, size - node->size);
        node->size = size;
    }
    return 0;
}

static int copy(struct shadow_file *file)
{
    struct node *node = file->node;
    uint64_t bytes;
    ssize_t n;
    int error;

    if (node->copied)
        return 0;
    error = storage_size(file->under, &bytes);
    if (!error)
        error = make_size(node, bytes);
    if (error)
        return error;
    n = storage_read(file->under, node->bytes, bytes, 0);
    if (n < 0)
        return (int)n;
    node->copied = true;
    return 0;
}

static int shadow_write(struct storage_file *file, const struct iovec *parts, int n, uint64_t offset)
{
    int error = copy(file_of(file));

    for (int i = 0; i < n && !error; i++) {
        error = make_size(file_of(file)->node, offset + parts[i].iov_len);
        if (!error && parts[i].iov_len)
            memcpy(file_of(file)->node->bytes + offset, parts[i].iov_base, parts[i].iov_len);
        offset += parts[i].iov_len;
    }
    return error;
}

static int shadow_sync(struct storage_file *file)
{
    (void)file;
    return 0;
}

static int shadow_fill(struct storage_file *file, uint64_t bytes, const atomic_bool *hurried)
{
    int error = copy(file_of(file));

    (void)hurried;
    return error ? error : make_size(file_of(file)->node, bytes);
}

static int shadow_reserve(struct storage_file *file, uint64_t bytes)
{
    (void)file;
    (void)bytes;
    return 0;
}

/* ---- names ------------------------------------------------------------------------------------------------------- */

struct listing {
    struct shadow *shadow;
    void (*each)(void *arg, const char *name);
    void *arg;
};

static void list_one(void *arg, const char *name)
{
    struct listing *l = arg;
    const struct node *node = find_node(l->shadow, name);

    if (!node || (!node->copied && !node->removed))
        l->each(l->arg, name);
}

static int shadow_list(struct storage *storage, void (*each)(void *arg, const char *name), void *arg)
{
    struct shadow *shadow = shadow_of(storage);
    struct listing l = {shadow, each, arg};
    int error = storage_list(shadow->under, list_one, &l);

    for (struct list *at = shadow->nodes.next; at != &shadow->nodes && !error; at = at->next)
        if (container_of(at, struct node, list)->copied)
            each(arg, container_of(at, struct node, list)->name);
    return error;
}

static int shadow_remove(struct storage *storage, const char *name)
{
    struct node *node = take_node(shadow_of(storage), name);

    if (!node)
        return -ENOMEM;
    node->removed = true;
    node->copied = false;
    node->size = 0;
    return 0;
}

static int shadow_sync_names(struct storage *storage)
{
    (void)storage;
    return 0;
}

static const struct storage_kind shadow_kind = {
    .open = shadow_open,
    .close = shadow_close,
    .size = shadow_size,
    .read = shadow_read,
    .write = shadow_write,
    .sync = shadow_sync,
    .fill = shadow_fill,
    .reserve = shadow_reserve,
    .list = shadow_list,
    .remove = shadow_remove,
    .sync_names = shadow_sync_names,
};

struct storage *storage_open_shadow(struct storage *under)
{
    struct shadow *shadow = calloc(1, sizeof *shadow);

    if (!shadow)
        return NULL;
    *shadow = (struct shadow){.storage = {&shadow_kind}, .under = under};
    list_init(&shadow->nodes);
    return &shadow->storage;
}

void storage_close_shadow(struct storage *storage)
{
    struct shadow *shadow = shadow_of(storage);
    struct list *at;

    while ((at = list_pop_front(&shadow->nodes))) {
        struct node *node = container_of(at, struct node, list);

        free(node->name);
        free(node->bytes);
        free(node);
    }
    free(shadow);
}
