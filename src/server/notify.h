/* notify.h - tells the service manager (systemd, or whatever set NOTIFY_SOCKET) how the process is.
 *
 * A message is lines of NAME=VALUE: READY=1, STATUS=text for people, STOPPING=1, MAINPID=n, WATCHDOG=1,
 * EXTEND_TIMEOUT_USEC=n. Without a service manager all of this does nothing.
 * Threads: notify from any; open, close and environment while there is one thread, for they touch the environment
 * and what is kept for the process. Errors: none; a service manager that cannot be told is no reason to stop serving. */
#ifndef SERVER_NOTIFY_H
#define SERVER_NOTIFY_H

#include <stdint.h>

/* Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment, so that no child inherits them.
 * Again: what it finds then replaces what it had. */
void notify_open(void);
void notify_close(void);

/* Sends one message, cut at 1 KiB. Never waits: a message that the service manager has no room for is lost. What fills
 * the format must hold no line break, which would begin another line of the message. */
void notify(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* RELOADING=1 with the time that it needs; READY=1 or a failure's STATUS and READY=1 must follow. */
void notify_reloading(void);

/* WATCHDOG=1 must come more often than this or the process is killed; half of it is what systemd advises.
 * 0: nobody watches. */
uint64_t notify_watchdog_us(void);

/* What the environment of a process that takes over from this one must have, as NAME=VALUE, a NULL after the last.
 * Without WATCHDOG_PID, which would name this process. Valid until notify_open or notify_close. */
const char *const *notify_environment(void);

#endif
