/* stored_body.c - see stored_body.h. */
#include "log/stored_body.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "log/crc32c.h"

#define NAME_PREFIX "body-"

/* Where things stand in a piece's header; its bytes follow. */
enum { PIECE_CRC = 0, PIECE_LENGTH = 4, PIECE_AT = 8 };

void stored_body_file_name(uint64_t id, char name[STORED_NAME_MAX])
{
    snprintf(name, STORED_NAME_MAX, NAME_PREFIX "%016" PRIu64, id);
}

bool stored_body_parse_name(const char *name, uint64_t *id)
{
    struct slice digits = slice_from_text(name);
    char exact[STORED_NAME_MAX];

    if (!slice_starts_with(digits, SLICE(NAME_PREFIX)))
        return false;
    slice_drop(&digits, sizeof NAME_PREFIX - 1);
    if (!slice_to_u64(digits, id) || *id == 0)
        return false;
    stored_body_file_name(*id, exact);
    return strcmp(name, exact) == 0;
}

uint64_t stored_body_file_bytes(uint64_t bytes)
{
    return bytes + (bytes + STORED_PIECE_BYTES - 1) / STORED_PIECE_BYTES * STORED_PIECE_OVERHEAD;
}

static uint32_t piece_crc(const struct stored_body *body, const char header[STORED_PIECE_OVERHEAD],
                          struct slice piece)
{
    char where[24];
    uint32_t crc;

    put_u64le(where, body->log_id);
    put_u64le(where + 8, body->ref.id);
    put_u64le(where + 16, body->ref.bytes);
    crc = crc32c(0, slice_of(where, sizeof where));
    crc = crc32c(crc, slice_of(header + PIECE_LENGTH, STORED_PIECE_OVERHEAD - PIECE_LENGTH));
    return crc32c(crc, piece);
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

static int open_file(struct stored_body *body, struct storage *storage, uint64_t log_id, struct body_ref ref,
                     bool create)
{
    char name[STORED_NAME_MAX];

    *body = (struct stored_body){.log_id = log_id, .ref = ref};
    stored_body_file_name(ref.id, name);
    return storage_open(storage, name, create, &body->file);
}

int stored_body_create(struct stored_body *body, struct storage *storage, uint64_t log_id,
                       struct body_ref ref)
{
    int error = open_file(body, storage, log_id, ref, true);

    if (error)
        return error;
    error = storage_reserve(body->file, stored_body_file_bytes(ref.bytes));
    if (!error)
        return 0;
    stored_body_close(body);
    stored_body_remove(storage, ref.id);
    return error;
}

int stored_body_write(struct stored_body *body, struct slice piece)
{
    char header[STORED_PIECE_OVERHEAD];
    struct iovec parts[] = {{header, sizeof header}, {(void *)(uintptr_t)piece.ptr, piece.len}};
    int error;

    assert(piece.len && piece.len <= STORED_PIECE_BYTES && piece.len <= body->ref.bytes - body->at);
    put_u32le(header + PIECE_LENGTH, (uint32_t)piece.len);
    put_u64le(header + PIECE_AT, body->at);
    put_u32le(header + PIECE_CRC, piece_crc(body, header, piece));
    error = storage_write(body->file, parts, 2, body->offset);
    if (error)
        return error;
    body->at += piece.len;
    body->offset += sizeof header + piece.len;
    return 0;
}

int stored_body_sync(struct stored_body *body)
{
    return storage_sync(body->file);
}

int stored_body_finish(struct stored_body *body)
{
    int error = 0;

    assert(body->at == body->ref.bytes);
#ifndef MAITRED_PLANT_UNSYNCED_BODY /* a fault for the simulator to find: it is named before it is on disk */
    error = stored_body_sync(body);
    if (!error)
        error = storage_sync_names(body->file->storage);
#endif
    if (!error)
        stored_body_close(body);
    return error;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

int stored_body_open(struct stored_body *body, struct storage *storage, uint64_t log_id, struct body_ref ref)
{
    int error = open_file(body, storage, log_id, ref, false);
    uint64_t bytes;

    if (error)
        return error;
    error = storage_size(body->file, &bytes);
    if (!error && bytes < stored_body_file_bytes(ref.bytes))
        error = -EBADMSG;
    if (error)
        stored_body_close(body);
    return error;
}

int stored_body_read(struct stored_body *body, char *buffer, struct slice *piece)
{
    uint64_t left = body->ref.bytes - body->at;
    uint32_t length;
    ssize_t n;

    *piece = slice_of(buffer + STORED_PIECE_OVERHEAD, 0);
    if (!left)
        return 0;
    n = storage_read(body->file, buffer,
                     STORED_PIECE_OVERHEAD + (left < STORED_PIECE_BYTES ? left : STORED_PIECE_BYTES),
                     body->offset);
    if (n < 0)
        return (int)n;
    if (n < (ssize_t)STORED_PIECE_OVERHEAD)
        return -EBADMSG;
    length = get_u32le(buffer + PIECE_LENGTH);
    if (!length || length > (size_t)n - STORED_PIECE_OVERHEAD)
        return -EBADMSG;
    piece->len = length;
    if (get_u64le(buffer + PIECE_AT) != body->at ||
        get_u32le(buffer + PIECE_CRC) != piece_crc(body, buffer, *piece)) {
        piece->len = 0;
        return -EBADMSG;
    }
    body->at += length;
    body->offset += STORED_PIECE_OVERHEAD + length;
    return 1;
}

void stored_body_rewind(struct stored_body *body)
{
    body->at = body->offset = 0;
}

int stored_body_verify(struct stored_body *body)
{
    char *buffer = malloc(STORED_BUFFER_BYTES);
    struct slice piece;
    int result = buffer ? 1 : -ENOMEM;

    stored_body_rewind(body);
    while (result == 1)
        result = stored_body_read(body, buffer, &piece);
    free(buffer);
    return result;
}

void stored_body_close(struct stored_body *body)
{
    if (body->file)
        storage_close(body->file);
    body->file = NULL;
}

int stored_body_remove(struct storage *storage, uint64_t id)
{
    char name[STORED_NAME_MAX];

    stored_body_file_name(id, name);
    return storage_remove(storage, name);
}
