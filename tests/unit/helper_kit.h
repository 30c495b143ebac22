/* helper_kit.h - for tests of what has work done on helper threads (fiber/offload.h): when those have ended.
 *
 * A helper holds the loop's mailbox until it ends, and kit_run counts descriptors. Include after fiber_kit.h. */
#ifndef HELPER_KIT_H
#define HELPER_KIT_H

#include <pthread.h>
#include <sched.h>

static unsigned own_threads;

static inline void *write_name(void *name)
{
    snprintf(name, 64, "/proc/self/task/%d", gettid());
    return NULL;
}

/* Once, in main. The thread sanitizer starts a thread of its own along with the first of ours, so one must have come and gone. */
static inline void count_own_threads(void)
{
    char name[64] = "";
    pthread_t first;

    if (pthread_create(&first, NULL, write_name, name) == 0)
        pthread_join(first, NULL);
    while (access(name, F_OK) == 0)
        sched_yield();
    own_threads = kit_entries("/proc/self/task");
}

/* Threads that do something for somebody, or just did. */
static inline unsigned helpers(void)
{
    return kit_entries("/proc/self/task") - own_threads;
}

static inline void await_helpers_end(void)
{
    while (helpers())
        sched_yield();
}

#endif
