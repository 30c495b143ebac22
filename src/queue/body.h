/* body.h - large bodies on a serving thread: written to files of their own as they come, and read from them as they are wanted
 * (log/stored_body.h).
 *
 * What blocks is done by helper threads, for which the fiber waits. Memory: a piece for each that is being written or read.
 * Threads: the port's, but queue_body_open. A function that returns -ECANCELED has taken the body, or the reader, away: it is
 * ended, or freed, as soon as its helper is done with it. */
#ifndef QUEUE_BODY_H
#define QUEUE_BODY_H

#include "queue/port.h"

/* Bodies with more bytes than that have a file of their own. */
uint64_t queue_stored_from(const struct queue_port *port);
/* The largest body that a message may have, as far as the log is concerned. */
uint64_t queue_body_max(const struct queue_port *port);

/* ---- writing ----------------------------------------------------------------------------------------------------- */

struct queue_body;

/* Counts room for it in the state folder, and makes its file. 0; -ENOSPC: there is no room now; -ECANCELED, -ENOMEM, or what
 * the disk says. */
int queue_body_create(struct queue_port *port, uint64_t bytes, struct queue_body **body);
/* Takes what comes next off *bytes. 0: all of it; -ENOSPC: the disk has no room now for what is left, or for what was taken before,
 * and it may be tried again; -ECANCELED; or what the disk says. */
int queue_body_write(struct queue_body *body, struct slice *bytes);
/* All of it came. 0: it is durable, and may be published; otherwise as queue_body_write. */
int queue_body_finish(struct queue_body *body);
struct body_ref queue_body_ref(const struct queue_body *body);
/* What its owner wanted to publish it for has come to its end, or never will. Also while a fiber waits in one of the above, which
 * then returns -ECANCELED. */
void queue_body_end(struct queue_body *body);

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* Opens one that somebody needs still. Any thread that heard from the queue thread; blocks for as long as opening a file does. As
 * stored_body_open. */
int queue_body_open(const struct queue_port *port, struct body_ref ref, struct stored_body *body);

struct queue_reader;

/* Takes over the body. keeps: it stays open at its end, so that it can be read again. NULL: no memory, and the
 * body is closed; or it is not open. */
struct queue_reader *queue_reader_create(struct queue_port *port, struct stored_body *body, bool keeps);
/* 1, and the next piece, which is good until the next call; 0: that was all; -ECANCELED, or as stored_body_read. */
int queue_reader_next(struct queue_reader *reader, struct slice *piece);
/* From its beginning on, of one that is kept. */
void queue_reader_rewind(struct queue_reader *reader);
/* NULL is allowed. */
void queue_reader_free(struct queue_reader *reader);

#endif
