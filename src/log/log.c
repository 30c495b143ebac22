/* log.c - see log.h: appending, writing, reading. */
#include "log/log_private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* What is appended is written, unsynced, when there is so much of it. */
#define BUFFER_MOST (1024u * 1024)
/* The largest record whose room may have been promised, where segments are large. */
#define PROMISED_MOST 65536u

/* ---- records ----------------------------------------------------------------------------------------------------- */

uint32_t record_crc(const struct log *log, uint64_t position, struct slice header, struct slice payload)
{
    char where[16];
    uint32_t crc;

    put_u64le(where, log->id);
    put_u64le(where + 8, position);
    crc = crc32c(0, slice_of(where, sizeof where));
    crc = crc32c(crc, slice_of(header.ptr + RECORD_LENGTH, LOG_RECORD_OVERHEAD - RECORD_LENGTH));
    return crc32c(crc, payload);
}

bool record_verifies(const struct log *log, uint64_t position, struct slice bytes, struct log_record *record,
                     uint32_t *chain, uint32_t *crc)
{
    uint32_t length;

    if (bytes.len < LOG_RECORD_OVERHEAD)
        return false;
    length = get_u32le(bytes.ptr + RECORD_LENGTH);
    if (length > bytes.len - LOG_RECORD_OVERHEAD)
        return false;
    *record = (struct log_record){position, (uint8_t)bytes.ptr[RECORD_KIND],
                                  slice_of(bytes.ptr + LOG_RECORD_OVERHEAD, length)};
    *chain = get_u32le(bytes.ptr + RECORD_CHAIN);
    *crc = get_u32le(bytes.ptr + RECORD_CRC);
    return *crc == record_crc(log, position, bytes, record->payload);
}

/* ---- room -------------------------------------------------------------------------------------------------------- */

static uint64_t promised_most(const struct log *log)
{
    return log->segment_bytes / 8 < PROMISED_MOST ? log->segment_bytes / 8 : PROMISED_MOST;
}

size_t log_promised_payload_max(const struct log *log)
{
    return promised_most(log) - LOG_RECORD_OVERHEAD;
}

size_t log_payload_max(const struct log *log)
{
    return log->segment_bytes - SEGMENT_HEADER_BYTES - 2 * log_record_bytes(NOTE_BYTES) - LOG_RECORD_OVERHEAD;
}

uint64_t segment_room(const struct log *log)
{
    return log->segment_bytes - SEGMENT_HEADER_BYTES - log_record_bytes(NOTE_BYTES) -
           log_record_bytes(NOTE_BYTES) - promised_most(log);
}

/* What is left for records in the segment that is appended to. */
static uint64_t rest(const struct log *log)
{
    return log->ended ? 0 : log->segment_bytes - offset_of(log, log->end) - log_record_bytes(NOTE_BYTES);
}

static uint64_t capacity(const struct log *log)
{
    uint64_t here = rest(log), waste = promised_most(log) + log_record_bytes(NOTE_BYTES);

    return (here > waste ? here - waste : 0) + log->n_spares * segment_room(log);
}

bool log_has_room(const struct log *log, uint64_t bytes)
{
    return capacity(log) >= log->promised + bytes;
}

void log_promise(struct log *log, uint64_t bytes)
{
    log->promised += bytes;
}

void log_fulfil(struct log *log, uint64_t bytes)
{
    assert(log->promised >= bytes);
    log->promised -= bytes;
}

/* ---- appending --------------------------------------------------------------------------------------------------- */

int log_fail(struct log *log, int error, const char *what)
{
    if (!log->failure[0])
        snprintf(log->failure, sizeof log->failure, "%s failed: %s", what, strerror(-error));
    return -EIO;
}

const char *log_failure(const struct log *log)
{
    return log->failure[0] ? log->failure : NULL;
}

static int reserve_buffer(struct log *log, size_t bytes)
{
    size_t room = log->buffer_room ? log->buffer_room : 65536;
    char *buffer;

    if (log->buffered + bytes <= log->buffer_room)
        return 0;
    while (room < log->buffered + bytes)
        room *= 2;
    buffer = realloc(log->buffer, room);
    if (!buffer)
        return -ENOMEM;
    log->buffer = buffer;
    log->buffer_room = room;
    return 0;
}

/* The buffer has room, and so has the segment. */
static void put_record(struct log *log, uint8_t kind, const struct iovec *parts, int n, size_t length)
{
    char *at = log->buffer + log->buffered, *payload = at + LOG_RECORD_OVERHEAD;
    size_t bytes = log_record_bytes(length), used = 0;

    put_u32le(at + RECORD_LENGTH, (uint32_t)length);
    memset(at + RECORD_KIND, 0, RECORD_CHAIN - RECORD_KIND);
    at[RECORD_KIND] = (char)kind;
    put_u32le(at + RECORD_CHAIN, log->chain);
    for (int i = 0; i < n; i++) {
        if (parts[i].iov_len)
            memcpy(payload + used, parts[i].iov_base, parts[i].iov_len);
        used += parts[i].iov_len;
    }
    memset(payload + length, 0, bytes - LOG_RECORD_OVERHEAD - length);
    log->chain = record_crc(log, log->end, slice_of(at, LOG_RECORD_OVERHEAD), slice_of(payload, length));
    put_u32le(at + RECORD_CRC, log->chain);
    log->buffered += bytes;
    log->end += bytes;
    log->appended_bytes += bytes;
}

static bool wants_batch(const struct log *log)
{
    return log->noted_durable != log->durable && log->buffered == 0;
}

/* Notes what is durable, for whoever finds the log after a crash. */
static void put_note(struct log *log, uint8_t kind)
{
    char note[NOTE_BYTES];
    struct iovec part = {note, sizeof note};

    put_u64le(note, log->durable);
    log->noted_durable = log->durable;
    put_record(log, kind, &part, 1, sizeof note);
}

static int hand_over(struct log *log)
{
    struct segment *segment = &log->segments[log->n_segments - 1];
    struct iovec part = {log->buffer, log->buffered};
    int error;

    if (log->buffered == 0)
        return 0;
    error = storage_write(segment->file, &part, 1, offset_of(log, log->written));
    if (error)
        return log_fail(log, error, "writing the log");
    log->written += log->buffered;
    log->buffered = 0;
    spare_hurry(log);
    return 0;
}

static int sync_all(struct log *log)
{
    int error = hand_over(log);

    if (error || log->durable == log->end)
        return error;
    error = storage_sync(log->segments[log->n_segments - 1].file);
    if (error)
        return log_fail(log, error, "syncing the log");
    log->durable = log->end;
    log->commits++;
    return 0;
}

/* Ends the segment and begins the next one, in a spare that is there. */
static int roll(struct log *log)
{
    int error = 0;

    if (!log->ended) {
        error = reserve_buffer(log, log_record_bytes(NOTE_BYTES));
        if (error)
            return error;
        put_note(log, KIND_END);
        log->ended = true;
        error = sync_all(log);
    }
    if (error)
        return error;
    error = segment_begin(log, log->segments[log->n_segments - 1].number + 1);
    return error ? log_fail(log, error, "beginning a segment of the log") : 0;
}

int log_begin_next(struct log *log)
{
    if (!log->ended)
        return 0;
    if (log->n_spares == 0 && spare_make_now(log))
        return -ENOSPC;
    return roll(log);
}

static size_t parts_length(const struct iovec *parts, int n)
{
    size_t length = 0;

    for (int i = 0; i < n; i++)
        length += parts[i].iov_len;
    return length;
}

/* Room for a record of so many bytes, in this segment or the next. */
static int make_room(struct log *log, enum log_claim claim, uint64_t bytes, uint64_t promise)
{
    uint64_t batch = log_record_bytes(NOTE_BYTES);
    bool here = rest(log) >= bytes + batch;
    /* what is left of this segment is lost when it does not fit */
    uint64_t lost = here                                     ? 0
                    : rest(log) > promised_most(log) + batch ? rest(log) - promised_most(log) - batch
                                                             : 0;

    while (claim != LOG_PROMISED &&
           !log_has_room(log, bytes + batch + promise + lost + (claim == LOG_MORE ? segment_room(log) : 0)))
        if (spare_make_now(log))
            return -ENOSPC;
    if (here)
        return 0;
    if (log->n_spares == 0 && spare_make_now(log))
        return -ENOSPC;
    return roll(log);
}

int log_append(struct log *log, enum log_claim claim, uint64_t promise, uint8_t kind,
               const struct iovec *parts, int n, uint64_t *position)
{
    size_t length = parts_length(parts, n);
    uint64_t bytes = log_record_bytes(length);
    int error;

    assert(log->replayed && kind >= LOG_KIND_FIRST);
    if (log->failure[0])
        return -EIO;
    if (length > log_payload_max(log))
        return -EFBIG;
    error = make_room(log, claim, bytes, promise);
    if (!error && log->buffered + bytes > BUFFER_MOST)
        error = hand_over(log);
    if (!error)
        error = reserve_buffer(log, bytes + log_record_bytes(NOTE_BYTES));
    if (error)
        return error;
    if (wants_batch(log))
        put_note(log, KIND_BATCH);
    *position = log->end;
    put_record(log, kind, parts, n, length);
    log->news_end = log->end;
    log->promised += promise;
    return 0;
}

int log_write(struct log *log)
{
    if (log->failure[0])
        return -EIO;
    /* After the last commit nothing else would say that it was one. */
    if (!log->ended && wants_batch(log) && rest(log) >= log_record_bytes(NOTE_BYTES) &&
        reserve_buffer(log, log_record_bytes(NOTE_BYTES)) == 0)
        put_note(log, KIND_BATCH);
    return hand_over(log);
}

int log_commit(struct log *log)
{
    if (log->failure[0])
        return -EIO;
    log_begin_next(log); /* where it must, for a checkpoint; what has no room may have some later */
    return sync_all(log);
}

uint64_t log_end(const struct log *log)
{
    return log->end;
}

uint64_t log_durable(const struct log *log)
{
    return log->durable;
}

bool log_is_durable(const struct log *log)
{
    return log->news_end <= log->durable;
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

void log_buffer_free(struct log_buffer *buffer)
{
    free(buffer->bytes);
    *buffer = (struct log_buffer){0};
}

/* What of the stream there is in a segment's file. */
static uint64_t written_end(const struct log *log, const struct segment *segment)
{
    uint64_t behind = segment_start(log, segment->number) + log->segment_bytes;

    return log->replayed && log->written < behind && log->written >= behind - log->segment_bytes
               ? log->written
               : behind;
}

int log_fill_buffer(const struct log *log, const struct segment *segment, struct log_buffer *buffer,
                    uint64_t position, size_t bytes, size_t ahead)
{
    uint64_t behind = written_end(log, segment);
    size_t wanted = bytes + ahead;
    ssize_t n;

    if (position >= buffer->position && position + bytes <= buffer->position + buffer->len)
        return 0;
    if (wanted > behind - position)
        wanted = behind - position;
    if (wanted < bytes)
        return -EBADMSG;
    if (wanted > buffer->room) {
        char *grown = malloc(wanted);

        if (!grown)
            return -ENOMEM;
        free(buffer->bytes);
        buffer->bytes = grown;
        buffer->room = wanted;
    }
    buffer->len = 0;
    n = storage_read(segment->file, buffer->bytes, wanted, offset_of(log, position));
    if (n < 0)
        return (int)n;
    buffer->position = position;
    buffer->len = (size_t)n;
    return (size_t)n < bytes ? -EBADMSG : 0;
}

/* One that is appended and not written yet. */
static int read_buffered(const struct log *log, uint64_t position, struct log_buffer *buffer)
{
    struct slice bytes = slice_of(log->buffer + (position - log->written), log->end - position);
    size_t n = log_record_bytes(get_u32le(bytes.ptr + RECORD_LENGTH));

    if (n > buffer->room) {
        char *grown = malloc(n);

        if (!grown)
            return -ENOMEM;
        free(buffer->bytes);
        buffer->bytes = grown;
        buffer->room = n;
    }
    memcpy(buffer->bytes, bytes.ptr, n);
    buffer->position = position;
    buffer->len = n;
    return 0;
}

int log_read(struct log *log, uint64_t position, size_t ahead, struct log_buffer *buffer,
             struct log_record *record)
{
    const struct segment *segment = segment_find(log, log_segment_of(position, log->segment_bytes));
    uint32_t chain, crc, length;
    struct slice bytes;
    int error;

    if (!segment)
        return -ENOENT;
    if (log->replayed && position >= log->end)
        return -EBADMSG;
    error = log->replayed && position >= log->written
                ? read_buffered(log, position, buffer)
                : log_fill_buffer(log, segment, buffer, position, LOG_RECORD_OVERHEAD, ahead);
    if (error)
        return error;
    length = get_u32le(buffer->bytes + (position - buffer->position) + RECORD_LENGTH);
    if (length > log_payload_max(log))
        return -EBADMSG;
    error = log_fill_buffer(log, segment, buffer, position, LOG_RECORD_OVERHEAD + length, ahead);
    if (error)
        return error;
    bytes =
        slice_of(buffer->bytes + (position - buffer->position), buffer->len - (position - buffer->position));
    return record_verifies(log, position, bytes, record, &chain, &crc) ? 0 : -EBADMSG;
}

bool log_kind_ends_segment(uint8_t kind)
{
    return kind == KIND_END;
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

uint64_t log_id(const struct log *log)
{
    return log->id;
}

uint32_t log_segment_bytes(const struct log *log)
{
    return log->segment_bytes;
}

void log_numbers(const struct log *log, struct log_numbers *numbers)
{
    *numbers = (struct log_numbers){
        .file_bytes = (log->n_segments + log->n_spares) * (uint64_t)log->segment_bytes + log->beside,
        .segments = log->n_segments,
        .spares = log->n_spares,
        .appended_bytes = log->appended_bytes,
        .commits = log->commits,
        .promised = log->promised,
    };
}
