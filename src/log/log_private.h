/* log_private.h - what the parts of the log share; see log.h for what holds, docs/log-format.md for the bytes.
 *
 *   log.c             appending, writing, reading
 *   log_segment.c     segment files: found, begun, spare, used again
 *   log_recover.c     opening, replaying, cutting the tail, telling a torn tail from damage
 *   log_checkpoint.c  the two checkpoint files */
#ifndef LOG_LOG_PRIVATE_H
#define LOG_LOG_PRIVATE_H

#include "base/bytes.h"
#include "log/crc32c.h"
#include "log/log.h"

#define LOG_FORMAT_VERSION 1u
#define SEGMENT_HEADER_BYTES 512u
#define FILE_NAME_MAX 32

/* BATCH stands before what is written after a sync, END is the last record of a segment. The payload of both: log_durable. */
enum { KIND_BATCH = 1, KIND_END = 2 };
#define NOTE_BYTES 8u

/* Where things stand in a record's header. */
enum { RECORD_CRC = 0, RECORD_LENGTH = 4, RECORD_KIND = 8, RECORD_ZERO = 9, RECORD_CHAIN = 12 };

/* A file of segment_bytes. */
struct segment {
    uint64_t number; /* of the segment in it; a spare has none */
    uint32_t file_number;
    struct storage_file *file; /* owned */
};

struct log_spare {
    struct log *log;
    struct storage *storage;
    uint32_t file_number, segment_bytes;
    struct storage_file *file;
};

struct log {
    struct storage *storage;
    uint32_t segment_bytes;
    uint64_t bytes_max, id;
    uint64_t beside; /* bytes of the owner's files that count at bytes_max, too */
    bool replayed;

    struct segment *segments; /* by number; the last one is appended to; owned */
    size_t n_segments, segments_room;
    struct segment *spares; /* owned */
    size_t n_spares, spares_room;
    unsigned n_making;    /* spares that are being made elsewhere */
    uint64_t making_from; /* where the log ended when the last of them was begun */
    atomic_bool hurried;  /* whoever makes one should not rest */
    uint32_t next_file_number;

    char *buffer; /* what is appended and not written: [written, end) */
    size_t buffered, buffer_room;
    uint64_t written, end, durable;
    uint64_t news_end;      /* behind the last record of the owner's */
    uint64_t noted_durable; /* what the last BATCH says */
    bool ended;             /* the last segment is: the next append begins another one */
    bool begins_anew;       /* that one may have been begun before a crash, in what is a spare now */
    uint32_t chain;         /* crc of the last record of the segment */
    uint64_t promised;
    char failure[160];

    char *checkpoint; /* while replay is to come; owned */
    size_t checkpoint_len;
    uint64_t checkpoint_position, checkpoint_sequence, checkpoint_bytes;
    bool torn_checkpoint[2];   /* files that do not verify */
    uint32_t checkpoint_chain; /* crc of the record before its position */
    uint64_t due_from;         /* position of the last checkpoint; 0 to have another one soon */

    uint64_t appended_bytes, commits;
};

/* ---- log.c ---- */
/* Closes the log for good. Returns error. */
int log_fail(struct log *log, int error, const char *what);
/* Whether bytes may be appended without touching what was promised. */
bool log_has_room(const struct log *log, uint64_t bytes);
/* Begins the next segment, where the last one has ended already. 0 or an error: there is no room for one. */
int log_begin_next(struct log *log);
uint32_t record_crc(const struct log *log, uint64_t position, struct slice header, struct slice payload);
/* Whether bytes, which stand at position, begin with a whole record that verifies. */
bool record_verifies(const struct log *log, uint64_t position, struct slice bytes, struct log_record *record,
                     uint32_t *chain, uint32_t *crc);
/* Makes buffer hold what stands at position, at least so many bytes where the segment has them. */
int log_fill_buffer(const struct log *log, const struct segment *segment, struct log_buffer *buffer,
                    uint64_t position, size_t bytes, size_t ahead);

static inline uint64_t segment_start(const struct log *log, uint64_t number)
{
    return number * log->segment_bytes;
}

static inline uint64_t offset_of(const struct log *log, uint64_t position)
{
    return position % log->segment_bytes;
}

/* ---- log_segment.c ---- */
/* Where things stand in a segment's header. */
enum {
    SEGMENT_AT_MAGIC = 0,
    SEGMENT_AT_VERSION = 8,
    SEGMENT_AT_SEGMENT_BYTES = 12,
    SEGMENT_AT_ID = 16,
    SEGMENT_AT_NUMBER = 24,
    SEGMENT_AT_DURABLE = 32,
    SEGMENT_AT_CRC = SEGMENT_HEADER_BYTES - 4,
};

/* False: it is no segment's file. */
bool segment_parse_name(const char *name, uint32_t *file_number);
/* 1: it verifies; 0: nothing was ever written there; or an error, -EBADMSG when it does not verify. A header is a sector, which is
 * written whole or not. */
int segment_read_header(struct storage_file *file, char header[SEGMENT_HEADER_BYTES]);
void segment_file_name(uint32_t file_number, char name[FILE_NAME_MAX]);
/* Reads headers of all files; fills segments and spares. */
int segments_find(struct log *log, uint32_t wanted_bytes, struct log_report *report);
struct segment *segment_find(const struct log *log, uint64_t number);
/* Begins segment number in a spare, making one where there is none. Writes its header, unsynced. */
int segment_begin(struct log *log, uint64_t number);
void segments_close(struct log *log);
/* A file of zeros into the spares, now. -ENOSPC: none can be had. */
int spare_make_now(struct log *log);
/* Writes zeros over what there is from offset on; *cleared: how far behind it the last byte stood that was none. Unsynced. So that
 * no record that was not durable ever follows what is written there next: it verifies, and its chain may fit by chance
 * or because the same is written again. */
int file_clear(struct storage_file *file, uint64_t offset, uint64_t behind, uint64_t *cleared);
/* Says to whoever makes a spare whether it may be needed soon. */
void spare_hurry(struct log *log);
/* A spare's file goes, so that there is room for something else. */
void spare_remove(struct log *log);
/* What of a segment can be used by records that were promised, whatever their sizes. */
uint64_t segment_room(const struct log *log);
/* What the log reports of a place. */
void report_damage(const struct log *log, struct log_report *report, uint64_t position, const char *what);

/* ---- log_checkpoint.c ---- */
#define CHECKPOINT_HEADER_BYTES 64u

struct checkpoint_file {
    uint64_t id, sequence, position;
    uint32_t segment_bytes, chain;
    char header[CHECKPOINT_HEADER_BYTES];
    bool there;
    char *state; /* owned by the caller; NULL: there is none that verifies */
    size_t length;
};

/* The file of checkpoints of an even (0) or odd (1) sequence. */
int checkpoint_read(struct storage *storage, unsigned which, struct checkpoint_file *found);
int checkpoint_find(struct log *log);
/* Removes the files that do not verify, so that none of them comes back. */
int checkpoint_clean(struct log *log);

#endif
