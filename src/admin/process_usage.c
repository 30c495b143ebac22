/* process_usage.c - see process_usage.h. */
#include "admin/process_usage.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/slice.h"
#include "fiber/fiber.h"

/* So many entries of a directory are read in less than 1 ms. */
#define ENTRIES_A_TURN 1000

/* The second number of /proc/self/statm, in pages. */
static uint64_t resident_bytes(void)
{
    char text[128];
    struct slice rest, part;
    uint64_t pages;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text);

    if (fd >= 0)
        close(fd);
    rest = slice_of(text, n > 0 ? (size_t)n : 0);
    if (!slice_next_part(&rest, ' ', &part) || !slice_next_part(&rest, ' ', &part) ||
        !slice_to_u64(part, &pages))
        return 0;
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Linux 6.2 and later tell it as the directory's size; before, the entries are counted. */
static uint64_t open_fds(void)
{
    struct stat st;
    uint64_t n = 0;
    DIR *dir;

    if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0)
        return (uint64_t)st.st_size;
    dir = opendir("/proc/self/fd");
    if (!dir)
        return 0;
    for (const struct dirent *entry; (entry = readdir(dir));) {
        n += entry->d_name[0] != '.';
        if (n % ENTRIES_A_TURN == 0)
            fiber_yield();
    }
    closedir(dir);
    return n ? n - 1 : 0; /* the directory is one itself */
}

static uint64_t us_of(struct timeval time)
{
    return (uint64_t)time.tv_sec * US_PER_S + (uint64_t)time.tv_usec;
}

struct process_usage process_usage_now(void)
{
    struct process_usage usage = {.resident_bytes = resident_bytes(), .open_fds = open_fds()};
    struct rusage rusage;
    struct rlimit limit;

    if (getrusage(RUSAGE_SELF, &rusage) == 0)
        usage.cpu_us = us_of(rusage.ru_utime) + us_of(rusage.ru_stime);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        usage.max_fds = limit.rlim_cur;
    return usage;
}
