/* log_checkpoint.c - the owner's state at a position, in two files by turns, so that one is always whole. See log_private.h. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "log/log_private.h"

#define MAGIC "MAITREDC"
/* Another one pays when so many times the last one's size was appended. */
#define PAYS_TIMES 4

enum {
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_CRC = 12, /* of the header without it, and of the state */
    AT_ID = 16,
    AT_SEQUENCE = 24,
    AT_POSITION = 32,
    AT_LENGTH = 40,
    AT_SEGMENT_BYTES = 48,
    AT_CHAIN = 52,
};

static void file_name(uint64_t sequence, char name[FILE_NAME_MAX])
{
    snprintf(name, FILE_NAME_MAX, "checkpoint-%u", (unsigned)(sequence % 2));
}

static uint32_t whole_crc(const char header[CHECKPOINT_HEADER_BYTES], struct slice state)
{
    uint32_t crc = crc32c(0, slice_of(header, AT_CRC));

    crc = crc32c(crc, slice_of(header + AT_ID, CHECKPOINT_HEADER_BYTES - AT_ID));
    return crc32c(crc, state);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

int checkpoint_read(struct storage *storage, unsigned which, struct checkpoint_file *found)
{
    char name[FILE_NAME_MAX], *header = found->header;
    struct storage_file *file;
    uint64_t bytes = 0;
    ssize_t n = 0;
    int error;

    *found = (struct checkpoint_file){0};
    file_name(which, name);
    error = storage_open(storage, name, false, &file);
    if (error)
        return error == -ENOENT ? 0 : error;
    found->there = true;
    error = storage_size(file, &bytes);
    if (!error)
        n = storage_read(file, header, CHECKPOINT_HEADER_BYTES, 0);
    if (!error && n < 0)
        error = (int)n;
    if (error || n != CHECKPOINT_HEADER_BYTES || memcmp(header, MAGIC, sizeof MAGIC - 1) != 0 ||
        get_u32le(header + AT_VERSION) != LOG_FORMAT_VERSION ||
        get_u64le(header + AT_LENGTH) > bytes - CHECKPOINT_HEADER_BYTES) {
        storage_close(file);
        return error;
    }
    found->id = get_u64le(header + AT_ID);
    found->sequence = get_u64le(header + AT_SEQUENCE);
    found->position = get_u64le(header + AT_POSITION);
    found->segment_bytes = get_u32le(header + AT_SEGMENT_BYTES);
    found->chain = get_u32le(header + AT_CHAIN);
    found->length = get_u64le(header + AT_LENGTH);
    found->state = malloc(found->length + 1);
    n = found->state ? storage_read(file, found->state, found->length, CHECKPOINT_HEADER_BYTES) : -ENOMEM;
    storage_close(file);
    if (n < 0 || (size_t)n != found->length ||
        get_u32le(header + AT_CRC) != whole_crc(header, slice_of(found->state, found->length))) {
        free(found->state);
        found->state = NULL;
    }
    return n < 0 ? (int)n : 0;
}

static int write_file(struct storage *storage, uint64_t sequence, const char header[CHECKPOINT_HEADER_BYTES],
                      struct slice state)
{
    struct iovec parts[] = {{(void *)(uintptr_t)header, CHECKPOINT_HEADER_BYTES},
                            {(void *)(uintptr_t)state.ptr, state.len}};
    char name[FILE_NAME_MAX];
    struct storage_file *file;
    int error;

    file_name(sequence, name);
    error = storage_open(storage, name, true, &file);
    if (error)
        return error;
    error = storage_write(file, parts, 2, 0);
    if (!error)
        error = storage_sync(file);
    storage_close(file);
    return error ? error : storage_sync_names(storage);
}

int checkpoint_clean(struct log *log)
{
    char name[FILE_NAME_MAX];
    bool removed = false;
    int error = 0;

    for (unsigned i = 0; i < 2 && !error; i++) {
        if (!log->torn_checkpoint[i])
            continue;
        file_name(i, name);
        error = storage_remove(log->storage, name);
        removed = true;
    }
    return error ? error : removed ? storage_sync_names(log->storage) : 0;
}

int checkpoint_find(struct log *log)
{
    struct checkpoint_file found[2];
    unsigned newest;
    int error = checkpoint_read(log->storage, 0, &found[0]);

    if (error)
        return error;
    error = checkpoint_read(log->storage, 1, &found[1]);
    if (error) {
        free(found[0].state);
        return error;
    }
    for (unsigned i = 0; i < 2; i++)
        log->torn_checkpoint[i] = found[i].there && !found[i].state;
    newest = found[1].state && (!found[0].state || found[1].sequence > found[0].sequence);
    free(found[!newest].state);
    if (!found[newest].state)
        return 0;
    if (log->n_segments == 0) {
        log->id = found[newest].id;
        log->segment_bytes = found[newest].segment_bytes;
    }
    if (found[newest].id != log->id || found[newest].segment_bytes != log->segment_bytes) {
        free(found[newest].state);
        return -EBADMSG;
    }
    log->checkpoint = found[newest].state;
    log->checkpoint_len = log->checkpoint_bytes = found[newest].length;
    log->checkpoint_position = found[newest].position;
    log->checkpoint_sequence = found[newest].sequence;
    log->checkpoint_chain = found[newest].chain;
    /* It may be in the system's cache only, and what it makes up for may be given away as soon as the log is open. */
    return write_file(log->storage, found[newest].sequence, found[newest].header, log_checkpoint(log));
}

struct slice log_checkpoint(const struct log *log)
{
    return slice_of(log->checkpoint, log->checkpoint_len);
}

uint64_t log_checkpoint_position(const struct log *log)
{
    return log->checkpoint_position;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

struct log_checkpointing {
    struct storage *storage;
    char header[CHECKPOINT_HEADER_BYTES];
    struct slice state; /* borrowed */
    uint64_t sequence, position;
};

bool log_checkpoint_due(const struct log *log)
{
    uint64_t since = log->end - log->due_from, pays = PAYS_TIMES * log->checkpoint_bytes;

    return since >= pays &&
           log_segment_of(log->end, log->segment_bytes) != log_segment_of(log->due_from, log->segment_bytes);
}

struct log_checkpointing *log_checkpoint_begin(struct log *log, struct slice state)
{
    struct log_checkpointing *c;

    assert(log->durable == log->end);
    if (log->ended)
        return NULL; /* behind an end there is nothing that replay could begin at */
    c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->storage = log->storage;
    c->state = state;
    c->sequence = log->checkpoint_sequence + 1;
    c->position = log->end;
    memcpy(c->header, MAGIC, sizeof MAGIC - 1);
    put_u32le(c->header + AT_VERSION, LOG_FORMAT_VERSION);
    put_u64le(c->header + AT_ID, log->id);
    put_u64le(c->header + AT_SEQUENCE, c->sequence);
    put_u64le(c->header + AT_POSITION, c->position);
    put_u64le(c->header + AT_LENGTH, state.len);
    put_u32le(c->header + AT_SEGMENT_BYTES, log->segment_bytes);
    put_u32le(c->header + AT_CHAIN, log->chain);
    log->due_from = log->end;
    return c;
}

int log_checkpoint_make(struct log_checkpointing *c)
{
    put_u32le(c->header + AT_CRC, whole_crc(c->header, c->state));
    return write_file(c->storage, c->sequence, c->header, c->state);
}

void log_checkpoint_end(struct log *log, struct log_checkpointing *c, int error)
{
    if (error == -ENOSPC && log_has_room(log, segment_room(log))) {
        spare_remove(log); /* the one that is kept for this */
    } else if (!error) {
        log->checkpoint_sequence = c->sequence;
        log->checkpoint_position = c->position;
        log->checkpoint_bytes = c->state.len;
    }
    if (error)
        log->due_from = 0;
    free(c);
}
