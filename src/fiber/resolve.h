/* resolve.h - name look-ups that never hold a loop: each runs getaddrinfo on a helper thread.
 *
 * Whatever the system resolves (hosts file, DNS) is resolved, with the system's own time limits behind ours. */
#ifndef FIBER_RESOLVE_H
#define FIBER_RESOLVE_H

#include "base/address.h"
#include "fiber/fiber.h"

#define RESOLVE_MAX 64

struct resolved {
    struct endpoint endpoints[RESOLVE_MAX]; /* sorted by address, each once */
    unsigned count;
};

/* Waits by fiber. 0 with at least one endpoint; -ENOENT: there is no such name, or it has no address;
 * -EAGAIN: no name server answered; -ENOMEM, -ETIMEDOUT, -ECANCELED. */
int resolve_name(const char *host, uint16_t port, struct resolved *resolved, uint64_t deadline_us);

#endif
