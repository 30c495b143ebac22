/* stored_body.h - a large body of a message: a file of its own beside the log, in pieces that each verify. docs/log-format.md has its bytes.
 *
 * It is written once, from its beginning to its end, and is durable before anything in the log names it. Who reads it gets
 * a piece only once that has verified: its checksum covers the log's id, the body's, and where in the body it stands.
 * Memory: a piece, which is the caller's. Threads: a body belongs to one at a time; different ones to different threads. All
 * but the names and numbers block. Errors: 0 or a negative errno. */
#ifndef LOG_STORED_BODY_H
#define LOG_STORED_BODY_H

#include "base/slice.h"
#include "log/storage.h"

/* The largest piece: what two frames of AMQP of the usual size carry, so that both come out even. */
#define STORED_PIECE_BYTES (2u * (131072 - 8))
#define STORED_PIECE_OVERHEAD 16u
/* What a piece is read into. */
#define STORED_BUFFER_BYTES (STORED_PIECE_OVERHEAD + STORED_PIECE_BYTES)
#define STORED_NAME_MAX 32

/* What names a body. id 0: there is none. */
struct body_ref {
    uint64_t id, bytes;
};

/* "body-0000000000000017" */
void stored_body_file_name(uint64_t id, char name[STORED_NAME_MAX]);
/* False: it is no body's file. */
bool stored_body_parse_name(const char *name, uint64_t *id);
/* What the file takes on disk, where the pieces are as large as they may be. */
uint64_t stored_body_file_bytes(uint64_t bytes);

/* One that is open. Zeros are none. */
struct stored_body {
    struct storage_file *file; /* owned; NULL: none */
    uint64_t log_id;
    struct body_ref ref;
    uint64_t at;     /* in the body: what comes next */
    uint64_t offset; /* and where that stands in the file */
};

/* Makes the file and takes room for all of it, so that -ENOSPC is found out before much is written. On an error there is no file. */
int stored_body_create(struct stored_body *body, struct storage *storage, uint64_t log_id,
                       struct body_ref ref);
/* The next piece, of up to STORED_PIECE_BYTES. Unsynced. */
int stored_body_write(struct stored_body *body, struct slice piece);
int stored_body_sync(struct stored_body *body);
/* All of it was written: makes it durable, and its name, and closes it. Only then anything may name it. */
int stored_body_finish(struct stored_body *body);
/* -ENOENT: there is no such file. -EBADMSG: it is too short for the body. */
int stored_body_open(struct stored_body *body, struct storage *storage, uint64_t log_id, struct body_ref ref);
/* The next piece, in buffer, of STORED_BUFFER_BYTES: 1; 0: that was all. -EBADMSG: it does not verify. */
int stored_body_read(struct stored_body *body, char *buffer, struct slice *piece);
/* From its beginning on. */
void stored_body_rewind(struct stored_body *body);
/* Reads all of it: 0, or the error that stored_body_read has. */
int stored_body_verify(struct stored_body *body);
/* Of one that is not open, too. */
void stored_body_close(struct stored_body *body);
/* Its file goes; whoever has it open still reads it. */
int stored_body_remove(struct storage *storage, uint64_t id);

#endif
