/* access_log.h - one JSON line for every exchange, written off the hot path.
 *
 * Serving threads fill buffers of their own and hand them to one writer thread, which alone touches the file. When
 * the disk cannot keep up, lines are dropped, and a line says how many.
 * Threads: access_log_* any thread; a struct access_log_buffer belongs to its thread. */
#ifndef FRONT_ACCESS_LOG_H
#define FRONT_ACCESS_LOG_H

#include "http/exchange.h"

struct access_log;
struct access_log_buffer;

/* path "-" is standard output. 0 or a negative errno. */
int access_log_open(struct access_log **log, const char *path);
/* Writes what is left. Every buffer was closed. */
void access_log_close(struct access_log *log);
/* The file was renamed: goes on in a new one of the old name. */
void access_log_reopen(struct access_log *log);

/* NULL: no memory. On a loop's thread: it starts a fiber that hands over what is a moment old. */
struct access_log_buffer *access_log_buffer_open(struct access_log *log);
void access_log_buffer_close(struct access_log_buffer *buffer);
void access_log_put(struct access_log_buffer *buffer, const struct exchange *x);

#endif
