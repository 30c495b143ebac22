/* inherit.c - see inherit.h. */
#include "server/inherit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/slice.h"

#define FIRST_FD 3       /* after standard input, output and error */
#define SOCKETS_MAX 1024 /* far more than anybody listens on */

struct inherited {
    int fd;
    struct endpoint endpoint;
    bool with_file;
};

static struct inherited sockets[SOCKETS_MAX];
static size_t n_sockets;

static bool number_from(const char *name, uint64_t *number)
{
    const char *text = getenv(name);

    return text && slice_to_u64(slice_from_text(text), number);
}

/* How many there are for this process. */
static size_t count_announced(void)
{
    uint64_t pid, n;

    if (!number_from("LISTEN_PID", &pid) || pid != (uint64_t)getpid())
        return 0;
    if (!number_from("LISTEN_FDS", &n)) {
        log_warning("LISTEN_FDS is not a number: no socket is inherited");
        return 0;
    }
    if (n > SOCKETS_MAX) {
        log_warning("LISTEN_FDS announces more than %d sockets: those after the first %d are left alone",
                    SOCKETS_MAX, SOCKETS_MAX);
        return SOCKETS_MAX;
    }
    return (size_t)n;
}

static bool option_is(int fd, int option, int wanted)
{
    int value;
    socklen_t len = sizeof value;

    return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 && value == wanted;
}

static bool family_is_known(sa_family_t family)
{
    return family == AF_INET || family == AF_INET6 || family == AF_UNIX;
}

/* NULL, or why it is not a socket to accept from. */
static const char *adopt(int fd, struct inherited *inherited)
{
    struct endpoint *endpoint = &inherited->endpoint;
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0)
        return strerror(errno);
    if (!option_is(fd, SO_TYPE, SOCK_STREAM))
        return "it is not a stream socket";
    if (!option_is(fd, SO_ACCEPTCONN, 1))
        return "nobody listens on it";
    *inherited =
        (struct inherited){.fd = fd, .endpoint.len = sizeof *endpoint - offsetof(struct endpoint, sa)};
    if (getsockname(fd, &endpoint->sa, &endpoint->len) != 0 || !family_is_known(endpoint->sa.sa_family))
        return "it is neither of IPv4, of IPv6 nor of unix";
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return strerror(errno);
    return NULL;
}

size_t inherit_open(void)
{
    size_t n = count_announced();
    const char *text = getenv("LISTEN_FDNAMES");
    struct slice names = slice_from_text(text ? text : "");

    n_sockets = 0;
    for (int fd = FIRST_FD; fd < FIRST_FD + (int)n; fd++) {
        struct slice name = SLICE("");
        const char *why;

        slice_next_part(&names, ':', &name);
        if (fcntl(fd, F_GETFD) < 0) {
            log_warning("LISTEN_FDS announces descriptor %d, which is not open, and so is none after it", fd);
            break;
        }
        why = adopt(fd, &sockets[n_sockets]);
        if (!why) {
            sockets[n_sockets++].with_file = slice_equal(name, SLICE(INHERIT_WITH_FILE));
            continue;
        }
        log_warning("inherited descriptor %d is of no use: %s", fd, why);
        close(fd);
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return n_sockets;
}

/* Bound to [::], but IPv4 clients do not reach it. */
static bool lacks_v4(const struct inherited *inherited)
{
    const struct endpoint *endpoint = &inherited->endpoint;
    int v6_only = 0;
    socklen_t len = sizeof v6_only;

    return endpoint->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&endpoint->in6.sin6_addr) &&
           getsockopt(inherited->fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, &len) == 0 && v6_only;
}

int inherit_take(const struct endpoint *endpoint, bool *with_file)
{
    char text[ADDRESS_TEXT_MAX];

    for (size_t i = 0; i < n_sockets; i++) {
        int fd = sockets[i].fd;

        if (!endpoint_equal(&sockets[i].endpoint, endpoint))
            continue;
        if (lacks_v4(&sockets[i])) {
            endpoint_text(endpoint, text);
            log_warning("the inherited socket %s is for IPv6 only and not used: set BindIPv6Only=both in its "
                        "socket unit",
                        text);
            continue;
        }
        *with_file = sockets[i].with_file;
        sockets[i] = sockets[--n_sockets];
        return fd;
    }
    return -1;
}

size_t inherit_close_rest(void)
{
    char text[ADDRESS_TEXT_MAX];
    size_t n = n_sockets;

    for (size_t i = 0; i < n; i++) {
        endpoint_text(&sockets[i].endpoint, text);
        log_warning("closing the inherited socket %s: no listener of the configuration has that address",
                    text);
        close(sockets[i].fd);
    }
    n_sockets = 0;
    return n;
}
