/* log.h - what the operator should read, one line on standard error.
 *
 * "2026-01-31T12:00:00.123Z warning balance: pool web: server a:80 is down: connection refused".
 * Control bytes in it become spaces, so that a line stays one. Any thread; a line is one write. Not for the hot path:
 * requests go to the access log. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO };

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)

#endif
