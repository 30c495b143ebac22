/* log_survey.c - see log_survey.h. */
#include "log/log_survey.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "log/log_private.h"

static_assert(SURVEY_NAME_MAX == FILE_NAME_MAX, "a file's name");

/* Segments that a file without a header may be, of so many numbers. */
#define CANDIDATES_MAX 4096u

/* ---- one record -------------------------------------------------------------------------------------------------- */

/* A segment's bytes in memory. */
struct block {
    struct log log; /* what a record's checksum needs to know: id and segment_bytes */
    uint64_t number;
    char *bytes; /* owned */
    uint32_t len;
};

static bool record_at(const struct block *b, uint32_t offset, struct log_record *record)
{
    struct slice s = slice_of(b->bytes + offset, b->len - offset);
    uint32_t chain, crc;

    if (s.len < LOG_RECORD_OVERHEAD || s.ptr[RECORD_KIND] == 0 || s.ptr[RECORD_ZERO] ||
        s.ptr[RECORD_ZERO + 1] || s.ptr[RECORD_ZERO + 2])
        return false;
    return record_verifies(&b->log, b->number * b->log.segment_bytes + offset, s, record, &chain, &crc);
}

/* The first place from offset on where a record stands; b->len: there is none. */
static uint32_t next_record(const struct block *b, uint32_t offset)
{
    struct log_record record;

    while (offset < b->len && !record_at(b, offset, &record))
        offset += LOG_ALIGNMENT;
    return offset < b->len ? offset : b->len;
}

static int read_block(const struct log_survey *survey, const char *name, struct block *b)
{
    struct storage_file *file;
    ssize_t n;
    int error = storage_open(survey->storage, name, false, &file);

    if (error)
        return error;
    n = storage_read(file, b->bytes, survey->segment_bytes, 0);
    storage_close(file);
    b->len = n > 0 ? (uint32_t)n : 0;
    return n < 0 && n != -EIO ? (int)n : 0; /* what cannot be read is a gap */
}

static int open_block(const struct log_survey *survey, struct block *b)
{
    *b = (struct block){.log = {.id = survey->id, .segment_bytes = survey->segment_bytes},
                        .bytes = malloc(survey->segment_bytes)};
    return b->bytes ? 0 : -ENOMEM;
}

/* ---- which files there are --------------------------------------------------------------------------------------- */

struct looking {
    struct log_survey *survey;
    int error;
};

static int add_segment(struct log_survey *survey, const struct survey_segment *segment)
{
    struct survey_segment *segments =
        realloc(survey->segments, (survey->n_segments + 1) * sizeof *survey->segments);
    size_t at = survey->n_segments;

    if (!segments)
        return -ENOMEM;
    survey->segments = segments;
    while (at && segments[at - 1].number > segment->number) {
        segments[at] = segments[at - 1];
        at--;
    }
    segments[at] = *segment;
    survey->n_segments++;
    return 0;
}

static int add_unknown(struct log_survey *survey, const char *name)
{
    char(*unknown)[SURVEY_NAME_MAX] = realloc(survey->unknown, (survey->n_unknown + 1) * sizeof *unknown);

    if (!unknown)
        return -ENOMEM;
    survey->unknown = unknown;
    snprintf(unknown[survey->n_unknown++], SURVEY_NAME_MAX, "%s", name);
    return 0;
}

static bool has_segment(const struct log_survey *survey, uint64_t number)
{
    for (size_t i = 0; i < survey->n_segments; i++)
        if (survey->segments[i].number == number)
            return true;
    return false;
}

static int take_segment(struct log_survey *survey, const char *name, const char header[SEGMENT_HEADER_BYTES])
{
    struct survey_segment segment = {.number = get_u64le(header + SEGMENT_AT_NUMBER)};
    uint64_t id = get_u64le(header + SEGMENT_AT_ID);
    uint32_t bytes = get_u32le(header + SEGMENT_AT_SEGMENT_BYTES);

    if (get_u32le(header + SEGMENT_AT_VERSION) != LOG_FORMAT_VERSION)
        return -EPROTONOSUPPORT;
    if ((survey->segment_bytes && (id != survey->id || bytes != survey->segment_bytes)) ||
        has_segment(survey, segment.number))
        return add_unknown(survey, name); /* another log's, or a second one */
    survey->id = id;
    survey->segment_bytes = bytes;
    snprintf(segment.name, sizeof segment.name, "%s", name);
    return add_segment(survey, &segment);
}

static void look_at(void *arg, const char *name)
{
    struct looking *l = arg;
    char header[SEGMENT_HEADER_BYTES];
    struct storage_file *file;
    uint32_t file_number;
    int verifies;

    if (l->error || !segment_parse_name(name, &file_number))
        return;
    l->error = storage_open(l->survey->storage, name, false, &file);
    if (l->error)
        return;
    verifies = segment_read_header(file, header);
    storage_close(file);
    if (verifies == 1)
        l->error = take_segment(l->survey, name, header);
    else if (verifies == 0)
        l->survey->n_spares++;
    else
        l->error = add_unknown(l->survey, name);
}

static int look_at_checkpoints(struct log_survey *survey)
{
    uint64_t newest = 0;
    int error = 0;

    for (unsigned i = 0; i < 2 && !error; i++) {
        struct checkpoint_file found;

        error = checkpoint_read(survey->storage, i, &found);
        if (error == -EIO) { /* as good as none */
            survey->checkpoints[i].there = true;
            error = 0;
            continue;
        }
        if (error || !found.there)
            continue;
        survey->checkpoints[i].there = true;
        survey->checkpoints[i].whole = found.state != NULL;
        survey->checkpoints[i].position = found.position;
        survey->checkpoints[i].bytes = found.length;
        if (found.state && !survey->segment_bytes) {
            survey->id = found.id;
            survey->segment_bytes = found.segment_bytes;
        }
        if (!found.state || found.id != survey->id || found.segment_bytes != survey->segment_bytes ||
            (survey->state && found.sequence < newest)) {
            free(found.state);
            continue;
        }
        newest = found.sequence;
        free(survey->state);
        survey->state = found.state;
        survey->state_len = found.length;
        survey->state_position = found.position;
    }
    return error;
}

/* ---- files without a header -------------------------------------------------------------------------------------- */

/* Which segment a file is, by trying each that is not there. False: none of them. */
static bool find_number(const struct log_survey *survey, struct block *b)
{
    uint64_t last = survey->n_segments ? survey->segments[survey->n_segments - 1].number : 0, number;

    if (survey->state && survey->state_position / survey->segment_bytes > last)
        last = survey->state_position / survey->segment_bytes;
    for (uint64_t back = 0; back < CANDIDATES_MAX && back <= last + 1; back++) {
        number = last + 1 - back;
        b->number = number;
        if (!has_segment(survey, number) && next_record(b, SEGMENT_HEADER_BYTES) != b->len)
            return true;
    }
    return false;
}

static int place_unknown(struct log_survey *survey)
{
    struct block b;
    size_t n = 0;
    int error = survey->n_unknown && survey->segment_bytes ? open_block(survey, &b) : -ENOENT;

    if (error)
        return error == -ENOENT ? 0 : error;
    for (size_t i = 0; i < survey->n_unknown && !error; i++) {
        struct survey_segment segment = {.header_lost = true};

        error = read_block(survey, survey->unknown[i], &b);
        if (error)
            break;
        if (find_number(survey, &b)) {
            segment.number = b.number;
            memcpy(segment.name, survey->unknown[i], sizeof segment.name);
            error = add_segment(survey, &segment);
        } else {
            memmove(survey->unknown[n++], survey->unknown[i], SURVEY_NAME_MAX);
        }
    }
    survey->n_unknown = n;
    free(b.bytes);
    return error;
}

int log_survey_open(struct log_survey *survey, struct storage *storage)
{
    struct looking l = {survey, 0};
    int error;

    *survey = (struct log_survey){.storage = storage};
    error = storage_list(storage, look_at, &l);
    if (!error)
        error = l.error;
    if (!error)
        error = look_at_checkpoints(survey);
    return error ? error : place_unknown(survey);
}

void log_survey_free(struct log_survey *survey)
{
    free(survey->segments);
    free(survey->unknown);
    free(survey->state);
    *survey = (struct log_survey){0};
}

/* ---- records ----------------------------------------------------------------------------------------------------- */

/* Up to where the checkpoint says that there were records, behind those that can be found. */
static uint32_t known_end(const struct log_survey *survey, const struct survey_segment *segment, uint32_t at)
{
    uint64_t start = segment->number * survey->segment_bytes;

    return survey->state && survey->state_position > start + at &&
                   survey->state_position <= start + survey->segment_bytes
               ? (uint32_t)(survey->state_position - start)
               : at;
}

static int walk_segment(const struct log_survey *survey, const struct survey_segment *segment,
                        const struct log_survey_events *events, void *arg, struct block *b)
{
    bool is_last = segment == &survey->segments[survey->n_segments - 1];
    uint32_t at = SEGMENT_HEADER_BYTES, next;
    struct log_record record;
    int result = read_block(survey, segment->name, b);

    b->number = segment->number;
    while (!result && at < b->len) {
        next = next_record(b, at);
        if (next == b->len && is_last) /* what stands there is torn, or of the file's life before */
            next = known_end(survey, segment, at);
        if (next != at)
            events->gap(arg, segment, at, next - at);
        at = next;
        if (at == b->len || !record_at(b, at, &record))
            break;
        at += (uint32_t)log_record_bytes(record.payload.len);
        if (record.kind == KIND_END)
            break;
        if (record.kind >= LOG_KIND_FIRST)
            result = events->record(arg, &record);
    }
    if (!result && b->len < survey->segment_bytes)
        events->gap(arg, segment, b->len, survey->segment_bytes - b->len);
    if (!result)
        events->segment(arg, segment, at);
    return result;
}

int log_survey_walk(const struct log_survey *survey, const struct log_survey_events *events, void *arg)
{
    uint64_t wanted = survey->state ? survey->state_position / survey->segment_bytes : 0;
    struct block b = {0};
    int result = survey->n_segments ? open_block(survey, &b) : 0;

    for (size_t i = 0; i < survey->n_segments && !result; i++) {
        uint64_t number = survey->segments[i].number;

        if (number > wanted) /* before the checkpoint they may have been let go of */
            events->missing(arg, wanted, number - wanted);
        if (number >= wanted)
            wanted = number + 1;
        result = walk_segment(survey, &survey->segments[i], events, arg, &b);
    }
    if (!result && survey->state && survey->state_position / survey->segment_bytes >= wanted)
        events->missing(arg, wanted, 1); /* the one that replay would begin in */
    free(b.bytes);
    return result;
}

/* ---- one more time ----------------------------------------------------------------------------------------------- */

/* Read at a time. */
#define WINDOW_BYTES (256u * 1024)

static int open_segment(struct log_survey_reader *r, uint64_t number)
{
    const struct log_survey *survey = r->survey;

    if (r->file && r->number == number)
        return 0;
    if (r->file)
        storage_close(r->file);
    r->file = NULL;
    r->buffer.len = 0;
    r->number = number;
    for (size_t i = 0; i < survey->n_segments; i++)
        if (survey->segments[i].number == number)
            return storage_open(survey->storage, survey->segments[i].name, false, &r->file);
    return -ENOENT;
}

/* Makes the buffer hold so many bytes from position on. */
static int fill(struct log_survey_reader *r, uint64_t position, size_t bytes)
{
    struct log_buffer *b = &r->buffer;
    size_t room = bytes < WINDOW_BYTES ? WINDOW_BYTES : bytes;
    char *grown;
    ssize_t n;

    if (b->len && position >= b->position && position + bytes <= b->position + b->len)
        return 0;
    if (room > b->room) {
        grown = realloc(b->bytes, room);
        if (!grown)
            return -ENOMEM;
        b->bytes = grown;
        b->room = room;
    }
    b->len = 0;
    n = storage_read(r->file, b->bytes, room, position % r->survey->segment_bytes);
    if (n < 0)
        return (int)n;
    b->position = position;
    b->len = (size_t)n;
    return b->len < bytes ? -EBADMSG : 0;
}

int log_survey_read(struct log_survey_reader *r, uint64_t position, struct log_record *record)
{
    const struct log log = {.id = r->survey->id, .segment_bytes = r->survey->segment_bytes};
    int error = open_segment(r, position / r->survey->segment_bytes);
    uint32_t chain, crc, length;
    struct slice s;

    if (!error)
        error = fill(r, position, LOG_RECORD_OVERHEAD);
    if (error)
        return error;
    length = get_u32le(r->buffer.bytes + (position - r->buffer.position) + RECORD_LENGTH);
    if (length > r->survey->segment_bytes)
        return -EBADMSG;
    error = fill(r, position, LOG_RECORD_OVERHEAD + length);
    if (error)
        return error;
    s = slice_of(r->buffer.bytes + (position - r->buffer.position), LOG_RECORD_OVERHEAD + length);
    return record_verifies(&log, position, s, record, &chain, &crc) ? 0 : -EBADMSG;
}

void log_survey_reader_free(struct log_survey_reader *r)
{
    if (r->file)
        storage_close(r->file);
    log_buffer_free(&r->buffer);
}
