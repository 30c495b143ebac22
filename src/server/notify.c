/* notify.c - see notify.h.
 *
 * A datagram a message, to the address that NOTIFY_SOCKET named: not connected, so that a service manager that
 * restarts is found again. What is kept here belongs to the process, as the environment does. */
#include "server/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/slice.h"

#define MESSAGE_BYTES_MAX 1024
#define PATH_BYTES_MAX sizeof((struct sockaddr_un *)NULL)->sun_path
#define DIGITS_MAX 20 /* of a uint64_t */

static struct {
    int fd; /* -1: nobody to tell */
    struct sockaddr_un address;
    socklen_t address_len;
    uint64_t watchdog_us;
    char socket_entry[sizeof "NOTIFY_SOCKET=" + PATH_BYTES_MAX];
    char watchdog_entry[sizeof "WATCHDOG_USEC=" + DIGITS_MAX];
    const char *environment[3];
} manager = {.fd = -1};

/* "/path", or "@name" for an abstract one. */
static bool set_address(const char *name)
{
    size_t bytes = strlen(name);

    if ((name[0] != '/' && name[0] != '@') || bytes < 2 || bytes >= PATH_BYTES_MAX)
        return false;
    manager.address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(manager.address.sun_path, name, bytes);
    if (name[0] == '@')
        manager.address.sun_path[0] = '\0';
    else
        bytes++; /* its NUL; an abstract name has none */
    manager.address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes);
    return true;
}

static bool open_socket(const char *name)
{
    if (!set_address(name)) {
        log_warning(
            "NOTIFY_SOCKET is \"%s\", neither an absolute path nor @NAME of at most 107 bytes; the service "
            "manager is not told anything",
            name);
        return false;
    }
    manager.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (manager.fd < 0) {
        log_warning("cannot open a socket to the service manager: %s; it is not told anything",
                    strerror(errno));
        return false;
    }
    snprintf(manager.socket_entry, sizeof manager.socket_entry, "NOTIFY_SOCKET=%s", name);
    manager.environment[0] = manager.socket_entry;
    return true;
}

static bool number_from(const char *name, uint64_t *number)
{
    const char *text = getenv(name);

    return text && slice_to_u64(slice_from_text(text), number);
}

/* The watchdog may be meant for another process that shares the environment: then WATCHDOG_PID names it. */
static void take_watchdog(void)
{
    uint64_t us, pid = (uint64_t)getpid();

    if (!number_from("WATCHDOG_USEC", &us) || !us)
        return;
    if (getenv("WATCHDOG_PID") && (!number_from("WATCHDOG_PID", &pid) || pid != (uint64_t)getpid()))
        return;
    manager.watchdog_us = us;
    snprintf(manager.watchdog_entry, sizeof manager.watchdog_entry, "WATCHDOG_USEC=%" PRIu64, us);
    manager.environment[1] = manager.watchdog_entry;
}

void notify_open(void)
{
    const char *name = getenv("NOTIFY_SOCKET");

    notify_close();
    if (name && open_socket(name))
        take_watchdog();
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void notify_close(void)
{
    if (manager.fd >= 0)
        close(manager.fd);
    manager.fd = -1;
    manager.watchdog_us = 0;
    memset(manager.environment, 0, sizeof manager.environment);
}

void notify(const char *format, ...)
{
    char message[MESSAGE_BYTES_MAX];
    va_list args;
    int n;

    if (manager.fd < 0)
        return;
    va_start(args, format);
    n = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (n <= 0)
        return;
    if ((size_t)n >= sizeof message)
        n = sizeof message - 1;
    if (sendto(manager.fd, message, (size_t)n, MSG_NOSIGNAL, (const struct sockaddr *)&manager.address,
               manager.address_len) < 0)
        return; /* as the header says */
}

void notify_reloading(void)
{
    notify("RELOADING=1\nMONOTONIC_USEC=%" PRIu64, clock_monotonic_us());
}

uint64_t notify_watchdog_us(void)
{
    return manager.watchdog_us;
}

const char *const *notify_environment(void)
{
    return manager.environment;
}
