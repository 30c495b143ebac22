/* process_usage.h - what this process takes of the machine. Waits by fiber where it has very many descriptors open. */
#ifndef ADMIN_PROCESS_USAGE_H
#define ADMIN_PROCESS_USAGE_H

#include <stdint.h>

/* What the system does not tell is 0. */
struct process_usage {
    uint64_t resident_bytes, cpu_us;
    uint64_t open_fds, max_fds;
};

struct process_usage process_usage_now(void);

#endif
