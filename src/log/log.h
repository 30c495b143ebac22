/* log.h - the durable log: records appended to one stream, in segment files, each record with a checksum.
 *
 * A record's position is its place in the stream: segment number * segment_bytes + offset in it. Appending only copies
 * into memory; log_write hands everything appended to the system, log_commit makes it durable with one sync for all
 * that wait. What the format is: docs/log-format.md.
 *
 * Its owner keeps the state that the records add up to. Now and then it gives the log a checkpoint, its whole state as of
 * a position; replay begins there. A segment before it is only kept for the records that the state points to: the owner
 * says when it needs none of them (log_release), and the file is used again.
 *
 * Invariants
 *   1. A position below log_durable is on disk, and replay reaches it, whatever happens to the process or the power.
 *   2. After a failed write or sync nothing is written any more: every append and commit fails (-EIO).
 *   3. What was promised can be appended: an append that makes a promise (log_append with LOG_MORE) is refused unless room
 *      for all promises is left after it.
 *   4. Replay stops at the first record that does not verify only where nothing after it was ever durable; anywhere else
 *      it is damage: -EBADMSG, and *report says where.
 *
 * Threads: belongs to one thread, but for the functions that say otherwise. It blocks on the disk.
 * Errors: 0 or a negative errno. */
#ifndef LOG_LOG_H
#define LOG_LOG_H

#include "base/slice.h"
#include "log/storage.h"

struct log;

/* What stands before a record's payload, and what it is padded to. */
#define LOG_RECORD_OVERHEAD 16
#define LOG_ALIGNMENT 8
#define LOG_SEGMENT_BYTES_MIN 4096u
/* Kinds below this one are the log's own. */
#define LOG_KIND_FIRST 16

/* As many segments it has at least, spares among them, where bytes_max has room for them. */
#define LOG_SEGMENTS_LEAST 3

struct log_options {
    struct storage *storage;
    uint32_t
        segment_bytes;  /* a power of two, LOG_SEGMENT_BYTES_MIN to 1 GiB; an existing log keeps its own */
    uint64_t bytes_max; /* of all segments, and what is beside them; 0: what the disk gives */
    uint64_t id;        /* of a log that is new: a random number */
};

/* What opening found, for people. */
struct log_report {
    char text[512];     /* of an error: what, which file, which offset, what to do; "" when there is none */
    uint64_t cut_bytes; /* a torn tail that was cut off; 0: none */
    uint64_t cut_position;
};

/* What a record or checkpoint is read into. Zeros are an empty one; log_buffer_free. */
struct log_buffer {
    char *bytes;
    size_t room;
    /* What of the stream is in it. */
    uint64_t position;
    size_t len;
};

void log_buffer_free(struct log_buffer *buffer);

/* Opens or creates: finds the segments and the newest checkpoint that verifies. Then the owner looks at the checkpoint
 * and calls log_replay, once, before anything else. *log is NULL unless the result is 0. report is always set. */
int log_open(struct log **log, const struct log_options *options, struct log_report *report);
/* Writes nothing. */
void log_close(struct log *log);

/* The state at log_checkpoint_position; empty: the beginning of the stream. Good until log_replay returns. */
struct slice log_checkpoint(const struct log *log);
uint64_t log_checkpoint_position(const struct log *log);

struct log_record {
    uint64_t position;
    uint8_t kind;
    struct slice payload; /* good until each returns */
};

/* Calls each for every record from the checkpoint on, in order; anything else than 0 from it ends the replay with
 * that error. Cuts a torn tail off, and says so in report. From then on the log may be appended to. */
int log_replay(struct log *log, int (*each)(void *arg, const struct log_record *record), void *arg,
               struct log_report *report);

/* Before log_replay: calls each for every record of the owner's kinds in a segment, below the checkpoint's position: what an index
 * is made anew from. Only of segments that the checkpoint points into: what is left of others need not be whole.
 * -ENOENT: there is no such segment; -EBADMSG as for log_replay. */
int log_scan(struct log *log, uint64_t number, int (*each)(void *arg, const struct log_record *record),
             void *arg, struct log_report *report);

enum log_claim {
    LOG_MORE,     /* something new: leaves what was promised, and a segment for what makes room */
    LOG_RELIEF,   /* makes room, sooner or later: leaves what was promised */
    LOG_PROMISED, /* what room was promised for */
};

/* Appends a record of the parts' bytes; *position is its own. Where the segment has no room for it, the next one begins,
 * which writes and syncs the old one. promise: bytes (log_record_bytes) that later records of the caller will need
 * because of this one; for LOG_MORE. -EFBIG: it fits no segment. -ENOSPC, -EIO: nothing was appended. */
int log_append(struct log *log, enum log_claim claim, uint64_t promise, uint8_t kind,
               const struct iovec *parts, int n, uint64_t *position);
/* A promise that was kept, or is void. */
void log_fulfil(struct log *log, uint64_t bytes);
/* One that holds whatever else is promised, such as of an open log's state. */
void log_promise(struct log *log, uint64_t bytes);

/* How many bytes of the stream a record takes. */
static inline uint64_t log_record_bytes(uint64_t payload_bytes)
{
    return (LOG_RECORD_OVERHEAD + payload_bytes + LOG_ALIGNMENT - 1) / LOG_ALIGNMENT * LOG_ALIGNMENT;
}
/* The largest payload that a record may have. */
size_t log_payload_max(const struct log *log);
/* And the largest that LOG_PROMISED may have, so that promises can be kept whatever is left in segments. */
size_t log_promised_payload_max(const struct log *log);

/* Hands all that was appended to the system. -EIO: the log is closed for good. */
int log_write(struct log *log);
/* log_write, and makes it durable. */
int log_commit(struct log *log);

/* Where the next record goes; records below log_durable survive. */
uint64_t log_end(const struct log *log);
uint64_t log_durable(const struct log *log);
/* Whether all that was appended is below log_durable. (log_end may be above it: log_write notes what was durable.) */
bool log_is_durable(const struct log *log);
/* Why nothing more can be appended, for people; NULL while all is well. */
const char *log_failure(const struct log *log);

/* Reads the record at a position that log_append or replay gave, appended or written. payload is in buffer, good until it is used
 * again; ahead: bytes behind it that are read along, for whoever goes on with what stands next. -EBADMSG: what is there
 * does not verify: -ENOENT: the segment is not there. -ENOMEM. */
int log_read(struct log *log, uint64_t position, size_t ahead, struct log_buffer *buffer,
             struct log_record *record);

/* ---- segments -------------------------------------------------------------------------------------------------- */

uint32_t log_segment_bytes(const struct log *log);
static inline uint64_t log_segment_of(uint64_t position, uint32_t segment_bytes)
{
    return position / segment_bytes;
}
/* Where a segment's first record stands; the others follow, each log_record_bytes of its payload further, up to the end of
 * the segment, which a record of one of the log's own kinds tells. */
uint64_t log_segment_begin(const struct log *log, uint64_t number);
bool log_kind_ends_segment(uint8_t kind);
/* The number of the oldest segment that is there, and of the next after number; UINT64_MAX: there is none. */
uint64_t log_segment_first(const struct log *log);
uint64_t log_segment_next(const struct log *log, uint64_t number);
/* After log_replay, before anything is appended: of all that is not needed, as what was promised may need their room.
 * Its file is used again, or removed when there are spares enough. The segment lies before the newest durable
 * checkpoint, and neither that nor the owner needs it. */
void log_release(struct log *log, uint64_t number);

/* A spare is a segment file that is filled and waits to be used. When none is left, the next segment makes one itself, which takes
 * as long as writing it; so the owner has them made ahead: while one is wanted, log_spare_make (any thread, blocks) and, with what
 * it gave, log_spare_add. */
struct log_spare; /* owned by who has it, until log_spare_add */
bool log_spare_wanted(const struct log *log);
/* Names the file; quick. NULL: no memory. */
struct log_spare *log_spare_begin(struct log *log);
/* Any thread. */
int log_spare_make(struct log_spare *spare);
/* error: what log_spare_make said; other than 0, spare is dropped. */
void log_spare_add(struct log *log, struct log_spare *spare, int error);

/* ---- beside the segments ----------------------------------------------------------------------------------------- */

/* A random number that no other log has. */
uint64_t log_id(const struct log *log);
/* Other files of the owner's count at bytes_max as well. Whether one of so many bytes may be made; and that it is there, or gone. */
bool log_fits_beside(const struct log *log, uint64_t bytes);
void log_put_beside(struct log *log, uint64_t bytes);
void log_take_away(struct log *log, uint64_t bytes);

/* ---- checkpoints ------------------------------------------------------------------------------------------------ */

/* Whether another one pays: another segment has begun since the last one (or since log_open), so that one may be free, and four
 * times the last one's size was appended. */
bool log_checkpoint_due(const struct log *log);

/* A checkpoint that is being written. position: log_end, and all below it is durable; state: all that those records add up
 * to, borrowed until it is done. One at a time. NULL: no memory, or no room for a segment that has to be begun. */
struct log_checkpointing;
struct log_checkpointing *log_checkpoint_begin(struct log *log, struct slice state);
/* Any thread; blocks. */
int log_checkpoint_make(struct log_checkpointing *checkpointing);
/* error: what log_checkpoint_make said. From 0 on replay begins there. -ENOSPC: the old one stays, and more space is needed.
 * Frees it. */
void log_checkpoint_end(struct log *log, struct log_checkpointing *checkpointing, int error);

/* ---- numbers ---------------------------------------------------------------------------------------------------- */

struct log_numbers {
    uint64_t file_bytes; /* of all segment files, spares among them, and of what is beside them */
    uint64_t segments, spares;
    uint64_t appended_bytes; /* since log_open, of the stream */
    uint64_t commits;        /* syncs of segments */
    uint64_t promised;       /* bytes */
};

void log_numbers(const struct log *log, struct log_numbers *numbers);

#endif
