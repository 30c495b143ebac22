/* log_segment.c - the files that segments stand in. See log_private.h.
 *
 * A file keeps its name for ever; which segment is in it, its header says. So that a file that is used again touches
 * no folder, and the header of the next segment goes out with its first records. No two files can have the same segment: a
 * segment is begun once, and its number is given again only when the header did not survive. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "log/log_private.h"

#define MAGIC "MAITRED\n"
#define SPARES_AHEAD (LOG_SEGMENTS_LEAST - 1)
/* A log that fills such a part of a segment while a spare is made may need that one soon. */
#define HURRY_PART 8

void segment_file_name(uint32_t file_number, char name[FILE_NAME_MAX])
{
    snprintf(name, FILE_NAME_MAX, "segment-%08" PRIu32, file_number);
}

bool segment_parse_name(const char *name, uint32_t *file_number)
{
    char exact[FILE_NAME_MAX];
    uint64_t number;
    struct slice digits = slice_from_text(name);

    if (!slice_starts_with(digits, SLICE("segment-")))
        return false;
    slice_drop(&digits, sizeof "segment-" - 1);
    if (!slice_to_u64(digits, &number) || number > UINT32_MAX)
        return false;
    *file_number = (uint32_t)number;
    segment_file_name(*file_number, exact);
    return strcmp(name, exact) == 0;
}

static uint32_t header_crc(const char header[SEGMENT_HEADER_BYTES])
{
    return crc32c(0, slice_of(header, SEGMENT_AT_CRC));
}

/* ---- lists ------------------------------------------------------------------------------------------------------- */

static int reserve(struct segment **list, size_t n, size_t *room)
{
    size_t grown = *room ? *room * 2 : 8;
    struct segment *more;

    if (n < *room)
        return 0;
    more = realloc(*list, grown * sizeof *more);
    if (!more)
        return -ENOMEM;
    *list = more;
    *room = grown;
    return 0;
}

static int add_segment(struct log *log, const struct segment *segment)
{
    size_t at = log->n_segments;

    if (reserve(&log->segments, log->n_segments, &log->segments_room))
        return -ENOMEM;
    while (at && log->segments[at - 1].number > segment->number)
        at--;
    memmove(log->segments + at + 1, log->segments + at, (log->n_segments - at) * sizeof *segment);
    log->segments[at] = *segment;
    log->n_segments++;
    return 0;
}

static int add_spare(struct log *log, const struct segment *spare)
{
    if (reserve(&log->spares, log->n_spares, &log->spares_room))
        return -ENOMEM;
    log->spares[log->n_spares++] = *spare;
    return 0;
}

/* Where the first segment stands whose number is not below this one. */
static size_t lower_bound(const struct log *log, uint64_t number)
{
    size_t low = 0, high = log->n_segments;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (log->segments[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct segment *segment_find(const struct log *log, uint64_t number)
{
    size_t at = lower_bound(log, number);

    return at < log->n_segments && log->segments[at].number == number ? &log->segments[at] : NULL;
}

uint64_t log_segment_first(const struct log *log)
{
    return log->n_segments ? log->segments[0].number : UINT64_MAX;
}

uint64_t log_segment_next(const struct log *log, uint64_t number)
{
    size_t at = lower_bound(log, number + 1);

    return at < log->n_segments ? log->segments[at].number : UINT64_MAX;
}

uint64_t log_segment_begin(const struct log *log, uint64_t number)
{
    return segment_start(log, number) + SEGMENT_HEADER_BYTES;
}

void report_damage(const struct log *log, struct log_report *report, uint64_t position, const char *what)
{
    const struct segment *segment = segment_find(log, log_segment_of(position, log->segment_bytes));
    char name[FILE_NAME_MAX] = "no file";

    if (segment)
        segment_file_name(segment->file_number, name);
    snprintf(report->text, sizeof report->text,
             "the log is damaged: %s: segment %" PRIu64 " (%s), offset %" PRIu64
             "; nothing was changed; run `maitred log check` to see how much, and `maitred log salvage` to "
             "copy what "
             "can be read into a new folder",
             what, log_segment_of(position, log->segment_bytes), name, offset_of(log, position));
}

/* ---- finding ----------------------------------------------------------------------------------------------------- */

struct finding {
    struct log *log;
    struct log_report *report;
    int error;
};

int segment_read_header(struct storage_file *file, char header[SEGMENT_HEADER_BYTES])
{
    static const char nothing[SEGMENT_HEADER_BYTES];
    ssize_t n = storage_read(file, header, SEGMENT_HEADER_BYTES, 0);

    if (n < 0)
        return (int)n;
    if (n < (ssize_t)SEGMENT_HEADER_BYTES || memcmp(header, nothing, sizeof nothing) == 0)
        return 0;
    if (memcmp(header, MAGIC, sizeof MAGIC - 1) != 0 ||
        get_u32le(header + SEGMENT_AT_CRC) != header_crc(header))
        return -EBADMSG;
    return 1;
}

static int take_segment(struct finding *f, struct storage_file *file, uint32_t file_number,
                        const char header[SEGMENT_HEADER_BYTES])
{
    struct log *log = f->log;
    struct segment segment = {get_u64le(header + SEGMENT_AT_NUMBER), file_number, file};
    uint32_t version = get_u32le(header + SEGMENT_AT_VERSION),
             bytes = get_u32le(header + SEGMENT_AT_SEGMENT_BYTES);
    uint64_t id = get_u64le(header + SEGMENT_AT_ID);
    char name[FILE_NAME_MAX];

    segment_file_name(file_number, name);
    if (version != LOG_FORMAT_VERSION) {
        snprintf(f->report->text, sizeof f->report->text,
                 "%s has format version %" PRIu32
                 ", and this program knows version %u only; run the version that "
                 "wrote it",
                 name, version, LOG_FORMAT_VERSION);
        return -EPROTONOSUPPORT;
    }
    if (log->n_segments && (id != log->id || bytes != log->segment_bytes)) {
        snprintf(f->report->text, sizeof f->report->text,
                 "%s belongs to another log than the other files; take it out of the folder", name);
        return -EBADMSG;
    }
    log->id = id;
    log->segment_bytes = bytes;
    if (segment_find(log, segment.number)) {
        snprintf(f->report->text, sizeof f->report->text,
                 "%s holds segment %" PRIu64
                 ", which another file holds too; take the wrong one out of the folder",
                 name, segment.number);
        return -EBADMSG;
    }
    return add_segment(log, &segment);
}

static void find_file(void *arg, const char *name)
{
    struct finding *f = arg;
    char header[SEGMENT_HEADER_BYTES];
    struct storage_file *file;
    uint32_t file_number;
    int verifies;

    if (f->error || !segment_parse_name(name, &file_number))
        return;
    if (file_number >= f->log->next_file_number)
        f->log->next_file_number = file_number + 1;
    f->error = storage_open(f->log->storage, name, false, &file);
    if (f->error)
        return;
    verifies = segment_read_header(file, header);
    if (verifies == -EBADMSG)
        snprintf(f->report->text, sizeof f->report->text,
                 "the log is damaged: the header of %s does not verify; run `maitred log check` to see how "
                 "much, and "
                 "`maitred log salvage` to copy what can be read into a new folder",
                 name);
    if (verifies < 0)
        f->error = verifies;
    else if (verifies)
        f->error = take_segment(f, file, file_number, header);
    if (f->error || verifies <= 0)
        storage_close(file);
}

/* Once segment_bytes is known: files without a segment. */
static void find_spare(void *arg, const char *name)
{
    struct finding *f = arg;
    struct log *log = f->log;
    struct storage_file *file;
    uint32_t file_number;
    uint64_t bytes = 0;

    if (f->error || !segment_parse_name(name, &file_number))
        return;
    for (size_t i = 0; i < log->n_segments; i++)
        if (log->segments[i].file_number == file_number)
            return;
    f->error = storage_open(log->storage, name, false, &file);
    if (f->error)
        return;
    f->error = storage_size(file, &bytes);
    if (!f->error && bytes == log->segment_bytes)
        f->error = add_spare(log, &(struct segment){.file_number = file_number, .file = file});
    else
        storage_close(file); /* what is left of making one */
}

/* What is left of making a spare: too short to be one. */
struct leftovers {
    struct log *log;
    uint32_t file_numbers[16];
    size_t n;
};

static void find_leftover(void *arg, const char *name)
{
    struct leftovers *l = arg;
    uint32_t file_number;

    if (l->n == sizeof l->file_numbers / sizeof l->file_numbers[0] || !segment_parse_name(name, &file_number))
        return;
    for (size_t i = 0; i < l->log->n_segments; i++)
        if (l->log->segments[i].file_number == file_number)
            return;
    for (size_t i = 0; i < l->log->n_spares; i++)
        if (l->log->spares[i].file_number == file_number)
            return;
    l->file_numbers[l->n++] = file_number;
}

int segments_find(struct log *log, uint32_t wanted_bytes, struct log_report *report)
{
    struct finding f = {log, report, 0};
    struct leftovers leftovers = {.log = log};
    char name[FILE_NAME_MAX];
    int error = storage_list(log->storage, find_file, &f);

    if (error || f.error)
        return error ? error : f.error;
    if (log->n_segments == 0)
        log->segment_bytes = wanted_bytes;
    error = storage_list(log->storage, find_spare, &f);
    if (!error && !f.error)
        error = storage_list(log->storage, find_leftover, &leftovers);
    for (size_t i = 0; !error && !f.error && i < leftovers.n; i++) {
        segment_file_name(leftovers.file_numbers[i], name);
        error = storage_remove(log->storage, name);
    }
    while (!error && !f.error && log->bytes_max && log->n_spares &&
           (log->n_segments + log->n_spares) * log->segment_bytes > log->bytes_max)
        spare_remove(log);
    if (!error &&
        !f.error) /* a spare whose name is in the system's cache only would take a segment with it */
        error = storage_sync_names(log->storage);
    return error ? error : f.error;
}

void segments_close(struct log *log)
{
    for (size_t i = 0; i < log->n_segments; i++)
        storage_close(log->segments[i].file);
    for (size_t i = 0; i < log->n_spares; i++)
        storage_close(log->spares[i].file);
    free(log->segments);
    free(log->spares);
}

/* ---- clearing ---------------------------------------------------------------------------------------------------- */

#define CLEAR_BYTES (1024u * 1024)

int file_clear(struct storage_file *file, uint64_t offset, uint64_t behind, uint64_t *cleared)
{
    size_t room = behind - offset < CLEAR_BYTES ? behind - offset : CLEAR_BYTES;
    char *bytes = malloc(room + 1);
    int error = bytes ? 0 : -ENOMEM;
    ssize_t n = 1;

    *cleared = 0;
    for (uint64_t at = offset; !error && at < behind && n > 0; at += (uint64_t)n) {
        size_t used;

        n = storage_read(file, bytes, behind - at < room ? behind - at : room, at);
        if (n < 0)
            error = (int)n;
        for (used = n > 0 ? (size_t)n : 0; used && bytes[used - 1] == 0;)
            used--;
        if (!used)
            continue;
        memset(bytes, 0, used);
        error = storage_write(file, &(struct iovec){bytes, used}, 1, at);
        *cleared = at + used - offset;
    }
    free(bytes);
    return error;
}

/* ---- beginning and releasing ------------------------------------------------------------------------------------- */

int segment_begin(struct log *log, uint64_t number)
{
    char header[SEGMENT_HEADER_BYTES] = MAGIC;
    struct iovec part = {header, sizeof header};
    struct segment segment;
    uint64_t cleared;
    int error = reserve(&log->segments, log->n_segments, &log->segments_room);

    if (!error && log->n_spares == 0)
        error = spare_make_now(log);
    if (error)
        return error;
    segment = log->spares[log->n_spares - 1];
    segment.number = number;
    if (log->begins_anew)
        error = file_clear(segment.file, 0, log->segment_bytes, &cleared);
    if (error)
        return error;
    put_u32le(header + SEGMENT_AT_VERSION, LOG_FORMAT_VERSION);
    put_u32le(header + SEGMENT_AT_SEGMENT_BYTES, log->segment_bytes);
    put_u64le(header + SEGMENT_AT_ID, log->id);
    put_u64le(header + SEGMENT_AT_NUMBER, number);
    put_u64le(header + SEGMENT_AT_DURABLE, log->durable);
    put_u32le(header + SEGMENT_AT_CRC, header_crc(header));
    error = storage_write(segment.file, &part, 1, 0);
    if (error)
        return error;
    log->n_spares--;
    add_segment(log, &segment);
    log->written = log->end = log_segment_begin(log, number);
    log->noted_durable = log->durable; /* which its header says */
    log->chain = header_crc(header);
    log->ended = log->begins_anew = false;
    return 0;
}

static bool another_fits(const struct log *log)
{
    uint64_t files = log->n_segments + log->n_spares + log->n_making + 1;

    return log->bytes_max == 0 || files * log->segment_bytes + log->beside <= log->bytes_max;
}

bool log_fits_beside(const struct log *log, uint64_t bytes)
{
    uint64_t files = log->n_segments + log->n_spares + log->n_making;

    return log->bytes_max == 0 || files * log->segment_bytes + log->beside + bytes <= log->bytes_max;
}

void log_put_beside(struct log *log, uint64_t bytes)
{
    log->beside += bytes;
}

void log_take_away(struct log *log, uint64_t bytes)
{
    assert(log->beside >= bytes);
    log->beside -= bytes;
}

static bool wants_spares(const struct log *log, size_t n_spares)
{
    return n_spares < SPARES_AHEAD || n_spares * segment_room(log) < log->promised + 2 * segment_room(log);
}

void log_release(struct log *log, uint64_t number)
{
    struct segment *segment = segment_find(log, number), released;
    char name[FILE_NAME_MAX];

    assert(segment && segment != &log->segments[log->n_segments - 1]);
    released = *segment;
    log->n_segments--;
    memmove(segment, segment + 1, (size_t)(log->segments + log->n_segments - segment) * sizeof *segment);
    if (wants_spares(log, log->n_spares) && add_spare(log, &released) == 0)
        return;
    storage_close(released.file);
    segment_file_name(released.file_number, name);
    storage_remove(log->storage, name); /* one that stays is found again, and not needed */
}

/* ---- spares ------------------------------------------------------------------------------------------------------ */

bool log_spare_wanted(const struct log *log)
{
    return !log->failure[0] && wants_spares(log, log->n_spares + log->n_making) && another_fits(log);
}

void spare_hurry(struct log *log)
{
    bool hurried = log->n_spares == 0 || log->end - log->making_from > log->segment_bytes / HURRY_PART;

    if (log->n_making && hurried != atomic_load_explicit(&log->hurried, memory_order_relaxed))
        atomic_store_explicit(&log->hurried, hurried, memory_order_relaxed);
}

struct log_spare *log_spare_begin(struct log *log)
{
    struct log_spare *spare = calloc(1, sizeof *spare);

    if (!spare)
        return NULL;
    *spare = (struct log_spare){
        .log = log,
        .storage = log->storage,
        .file_number = log->next_file_number++,
        .segment_bytes = log->segment_bytes,
    };
    log->n_making++;
    log->making_from = log->end;
    spare_hurry(log);
    return spare;
}

/* A file that is not whole is removed again, so that its room is somebody else's. */
int log_spare_make(struct log_spare *spare)
{
    char name[FILE_NAME_MAX];
    int error;

    segment_file_name(spare->file_number, name);
    error = storage_open(spare->storage, name, true, &spare->file);
    if (error)
        return error;
    error = storage_fill(spare->file, spare->segment_bytes, &spare->log->hurried);
    if (!error)
        error = storage_sync_names(spare->storage);
    if (!error)
        return 0;
    storage_close(spare->file);
    spare->file = NULL;
    storage_remove(spare->storage, name);
    return error;
}

void log_spare_add(struct log *log, struct log_spare *spare, int error)
{
    struct segment segment = {.file_number = spare->file_number, .file = spare->file};
    char name[FILE_NAME_MAX];

    log->n_making--;
    if (error && spare->file_number + 1 == log->next_file_number)
        log->next_file_number--; /* the next try takes up what this one may have left */
    if (spare->file && (error || add_spare(log, &segment) != 0)) {
        storage_close(spare->file);
        segment_file_name(spare->file_number, name);
        storage_remove(log->storage, name);
    }
    free(spare);
}

int spare_make_now(struct log *log)
{
    struct log_spare *spare = another_fits(log) ? log_spare_begin(log) : NULL;
    int error = -ENOSPC;

    if (spare) {
        atomic_store_explicit(&log->hurried, true, memory_order_relaxed);
        error = log_spare_make(spare);
        log_spare_add(log, spare, error);
    }
    return error;
}

void spare_remove(struct log *log)
{
    struct segment spare;
    char name[FILE_NAME_MAX];

    if (log->n_spares == 0)
        return;
    spare = log->spares[--log->n_spares];
    storage_close(spare.file);
    segment_file_name(spare.file_number, name);
    storage_remove(log->storage, name);
}
