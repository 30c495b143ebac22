/* log_recover.c - opening a log: what is there, what is whole, and where it ends. See log_private.h.
 *
 * The first record that does not verify is the end when nothing proves that it was ever durable. There are three proofs: a later
 * segment was begun, which happens after its predecessor is synced; a BATCH or END behind it says so; a checkpoint lies behind it. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "log/log_private.h"

/* Read at a time while segments are gone through. */
#define AHEAD_BYTES (1024u * 1024)

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static bool is_power_of_two(uint32_t n)
{
    return n && (n & (n - 1)) == 0;
}

int log_open(struct log **result, const struct log_options *options, struct log_report *report)
{
    struct log *log = calloc(1, sizeof *log);
    int error;

    *result = NULL;
    *report = (struct log_report){0};
    assert(is_power_of_two(options->segment_bytes) && options->segment_bytes >= LOG_SEGMENT_BYTES_MIN);
    if (!log)
        return -ENOMEM;
    log->storage = options->storage;
    log->bytes_max = options->bytes_max;
    log->id = options->id;
    error = segments_find(log, options->segment_bytes, report);
    if (!error)
        error = checkpoint_find(log);
    if (!error && !log->checkpoint && log->n_segments && log->segments[0].number != 0) {
        report_damage(log, report, segment_start(log, log->segments[0].number),
                      "its beginning is gone, and no checkpoint is whole that would make up for it");
        error = -EBADMSG;
    }
    if (error) {
        log_close(log);
        return error;
    }
    *result = log;
    return 0;
}

void log_close(struct log *log)
{
    segments_close(log);
    free(log->buffer);
    free(log->checkpoint);
    free(log);
}

/* ---- going through records --------------------------------------------------------------------------------------- */

struct walk {
    struct log *log;
    struct log_buffer buffer;
    uint64_t position; /* of the next record */
    uint32_t chain;    /* that it must have */
    uint64_t proven;   /* what stands below it was durable; in its segment */
    bool ended;        /* the last segment's END stands before position */
};

/* 1: *record is the next one, and position is behind it; 0: what stands there is none, or does not follow; or an error. */
static int step(struct walk *w, struct log_record *record)
{
    uint32_t chain = 0, crc = 0;
    int error = log_read(w->log, w->position, AHEAD_BYTES, &w->buffer, record);

    if (error == -EBADMSG)
        return 0;
    if (error)
        return error;
    chain = get_u32le(record->payload.ptr - LOG_RECORD_OVERHEAD + RECORD_CHAIN);
    crc = get_u32le(record->payload.ptr - LOG_RECORD_OVERHEAD + RECORD_CRC);
    if (chain != w->chain)
        return 0;
    w->chain = crc;
    w->position += log_record_bytes(record->payload.len);
    return 1;
}

/* The chain of a segment begins with its header. */
static int begin_segment(struct walk *w, uint64_t number)
{
    const struct segment *segment = segment_find(w->log, number);
    char crc[4];
    ssize_t n;

    if (!segment)
        return -ENOENT;
    n = storage_read(segment->file, crc, sizeof crc, SEGMENT_HEADER_BYTES - sizeof crc);
    if (n < 0)
        return (int)n;
    w->position = log_segment_begin(w->log, number);
    w->proven = segment_start(w->log, number);
    w->chain = get_u32le(crc);
    return 0;
}

static void note_proof(struct walk *w, const struct log_record *record)
{
    uint64_t durable = record->payload.len == NOTE_BYTES ? get_u64le(record->payload.ptr) : 0;

    if (record->kind == KIND_BATCH && durable > w->proven && durable <= record->position)
        w->proven = durable;
}

/* Goes on to the first place where no record stands, over the ends of segments. 0: that is where w->position is; or what each,
 * or a file, said. */
static int walk(struct walk *w, int (*each)(void *arg, const struct log_record *record), void *arg)
{
    struct log_record record;
    int result;

    while ((result = step(w, &record)) == 1) {
        if (record.kind == KIND_END) {
            result = begin_segment(w, log_segment_of(record.position, w->log->segment_bytes) + 1);
            w->ended = result == -ENOENT;
            if (w->ended)
                return 0;
        } else if (record.kind >= LOG_KIND_FIRST) {
            result = each(arg, &record);
        } else {
            result = 0;
            note_proof(w, &record);
        }
        if (result)
            return result;
    }
    return result;
}

/* The records of one segment, up to behind; whatever is there was durable. */
static int scan_segment(struct walk *w, uint64_t number, uint64_t behind,
                        int (*each)(void *arg, const struct log_record *record), void *arg,
                        struct log_report *report)
{
    int result = begin_segment(w, number);
    struct log_record record;

    while (!result && w->position < behind) {
        result = step(w, &record);
        if (result == 0) {
            report_damage(w->log, report, w->position, "a record does not verify");
            return -EBADMSG;
        }
        if (result == 1 && record.kind == KIND_END)
            return 0;
        if (result == 1)
            result = record.kind >= LOG_KIND_FIRST ? each(arg, &record) : 0;
    }
    return result;
}

int log_scan(struct log *log, uint64_t number, int (*each)(void *arg, const struct log_record *record),
             void *arg, struct log_report *report)
{
    struct walk w = {.log = log};
    uint64_t behind = segment_start(log, number + 1);
    int result;

    assert(!log->replayed);
    if (behind > log->checkpoint_position)
        behind = log->checkpoint_position;
    result = scan_segment(&w, number, behind, each, arg, report);
    log_buffer_free(&w.buffer);
    return result;
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

static bool is_note(uint8_t kind)
{
    return kind == KIND_BATCH || kind == KIND_END;
}

/* Whether a note in what is left of the segment says that position was durable. */
static int proof_behind(struct log *log, uint64_t position, bool *proof)
{
    uint64_t behind = segment_start(log, log_segment_of(position, log->segment_bytes) + 1);
    const struct segment *segment = segment_find(log, log_segment_of(position, log->segment_bytes));
    size_t bytes = log_record_bytes(NOTE_BYTES);
    struct log_buffer buffer = {0};
    int error = 0;

    *proof = false;
    for (uint64_t at = position; !error && !*proof && at + bytes <= behind; at += LOG_ALIGNMENT) {
        struct log_record record;
        uint32_t chain, crc;
        struct slice s;

        error = log_fill_buffer(log, segment, &buffer, at, bytes, AHEAD_BYTES);
        s = slice_of(buffer.bytes + (at - buffer.position), bytes);
        if (!error && is_note((uint8_t)s.ptr[RECORD_KIND]) &&
            get_u32le(s.ptr + RECORD_LENGTH) == NOTE_BYTES &&
            record_verifies(log, at, s, &record, &chain, &crc))
            *proof = get_u64le(record.payload.ptr) > position;
    }
    log_buffer_free(&buffer);
    return error;
}

/* What nothing proves to be on disk is written again. It may be in the system's cache only, and after a sync that failed, by a process
 * before this one, the system takes it for written: a sync alone would do nothing, and succeed. */
static int write_again(struct log *log, uint64_t from, uint64_t to)
{
    const struct segment *segment = segment_find(log, log_segment_of(from, log->segment_bytes));
    struct log_buffer buffer = {0};
    int error = 0;

    for (uint64_t at = from; !error && at < to; at = buffer.position + buffer.len) {
        error = log_fill_buffer(log, segment, &buffer, at, 1, AHEAD_BYTES);
        if (buffer.len > to - at)
            buffer.len = to - at;
        if (!error)
            error = storage_write(segment->file, &(struct iovec){buffer.bytes, buffer.len}, 1,
                                  offset_of(log, at));
    }
    log_buffer_free(&buffer);
    return error;
}

/* Whether a record was begun at the end: its header follows the one before it. */
static bool was_begun(struct log *log, const struct walk *w)
{
    const struct segment *segment = segment_find(log, log_segment_of(w->position, log->segment_bytes));
    char header[LOG_RECORD_OVERHEAD];
    ssize_t n;

    if (offset_of(log, w->position) + sizeof header > log->segment_bytes)
        return false;
    n = storage_read(segment->file, header, sizeof header, offset_of(log, w->position));
    return n == (ssize_t)sizeof header && header[RECORD_KIND] && get_u32le(header + RECORD_CHAIN) == w->chain;
}

/* A log without anything: its first segment is begun. */
static int begin_log(struct log *log)
{
    int error = segment_begin(log, 0);

    if (!error)
        error = storage_sync(log->segments[0].file);
    if (!error)
        log->durable = log->end;
    return error;
}

static int sync_segment(struct log *log, uint64_t number)
{
    return storage_sync(segment_find(log, number)->file);
}

/* The records end at w->position: takes it for the end, or says that it is damage. */
static int settle_end(struct log *log, const struct walk *w, struct log_report *report)
{
    uint64_t number = log_segment_of(w->position - w->ended, log->segment_bytes), cleared = 0;
    bool proof = log->segments[log->n_segments - 1].number > number || w->position < log->checkpoint_position;
    bool begun;
    int error = 0;

    if (!proof && !w->ended)
        error = proof_behind(log, w->position, &proof);
    if (error)
        return error;
    if (proof) {
        report_damage(log, report, w->position - w->ended, "a record that was on disk does not verify");
        return -EBADMSG;
    }
    error = write_again(log, w->proven, w->position);
    begun = !w->ended && was_begun(log, w);
    if (!error && !w->ended)
        error = file_clear(segment_find(log, number)->file, offset_of(log, w->position), log->segment_bytes,
                           &cleared);
    if (!error)
        error = sync_segment(log, number);
    if (begun) {
        report->cut_bytes = cleared;
        report->cut_position = w->position;
    }
    log->written = log->end = log->durable = w->position;
    log->noted_durable = 0;
    log->chain = w->chain;
    log->ended = log->begins_anew = w->ended;
    if (error || !log->ended)
        return error;
    error = log_begin_next(log);
    if (error == -ENOSPC) /* until the owner has released segments */
        return 0;
    if (!error)
        error = storage_sync(log->segments[log->n_segments - 1].file);
    if (!error)
        log->durable = log->end;
    return error;
}

static int replay(struct log *log, int (*each)(void *arg, const struct log_record *record), void *arg,
                  struct log_report *report)
{
    uint64_t from = log->checkpoint_position;
    struct walk w = {.log = log};
    int result = begin_segment(&w, log_segment_of(from, log->segment_bytes));

    if (result == -ENOENT) {
        report_damage(log, report, from, "the segment that replay begins in is gone");
        return -EBADMSG;
    }
    if (from > w.position) {
        w.position = w.proven = from;
        w.chain = log->checkpoint_chain;
    }
    if (!result)
        result = walk(&w, each, arg);
    if (!result)
        result = settle_end(log, &w, report);
    if (!result)
        result = checkpoint_clean(log);
    log_buffer_free(&w.buffer);
    return result;
}

int log_replay(struct log *log, int (*each)(void *arg, const struct log_record *record), void *arg,
               struct log_report *report)
{
    int result;

    assert(!log->replayed);
    *report = (struct log_report){0};
    result = log->n_segments || log->checkpoint ? replay(log, each, arg, report) : begin_log(log);

    free(log->checkpoint);
    log->checkpoint = NULL;
    log->checkpoint_len = 0;
    log->replayed = result == 0;
    log->due_from = log->checkpoint_position;
    return result;
}
