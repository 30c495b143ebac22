/* fail_alloc.c - a library to preload that makes allocations fail, and counts what is allocated.
 *
 * A test shares a page with it, the first bytes of the file that FAIL_ALLOC_FILE names: struct control. Its twin is
 * Allocations in test_exhaustion.py. Without that variable, and until it is armed, it only passes on (and counts). It
 * stands before glibc's own functions, which it calls by the names that glibc keeps for that.
 *
 * What libconfuse allocates is left alone: it reads through the null pointers that it gets. It reads files on threads
 * that end with that, never on the main one. */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FRAMES_MAX 16

enum { HEAP = 1, MAPPINGS = 2 };

struct control {
    _Atomic int64_t countdown; /* N: the Nth allocation from now fails; 0: none does */
    _Atomic uint64_t asked;    /* allocations so far, of the kinds in `what` */
    _Atomic uint64_t failed;   /* those that were made to fail */
    _Atomic int64_t live;      /* blocks that are allocated and not freed, but for those from before main */
    _Atomic uint32_t what;     /* HEAP, MAPPINGS: which ones count */
    _Atomic uint32_t forever;  /* once one has failed, all do until countdown is 0 */
};

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *block);

static struct control *control;

__attribute__((constructor)) static void share(void)
{
    const char *path = getenv("FAIL_ALLOC_FILE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *page, *frame;

    if (fd < 0)
        return;
    backtrace(&frame, 1); /* the first time it allocates */
    page = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (page != MAP_FAILED)
        control = page;
}

static bool asked_by_libconfuse(void)
{
    static _Thread_local bool looking;
    void *frames[FRAMES_MAX];
    bool found = false;
    Dl_info at;
    int n;

    if (looking || gettid() == getpid())
        return false;
    looking = true;
    n = backtrace(frames, FRAMES_MAX);
    for (int i = 0; i < n && !found; i++)
        found = dladdr(frames[i], &at) && strstr(at.dli_fname, "libconfuse");
    looking = false;
    return found;
}

static bool fails(uint32_t what)
{
    int64_t left, next;

    if (!control || !(atomic_load(&control->what) & what) || asked_by_libconfuse())
        return false;
    atomic_fetch_add(&control->asked, 1);
    left = atomic_load(&control->countdown);
    do {
        if (left <= 0)
            return false;
        next = left == 1 && atomic_load(&control->forever) ? 1 : left - 1;
    } while (!atomic_compare_exchange_weak(&control->countdown, &left, next));
    if (left > 1)
        return false;
    atomic_fetch_add(&control->failed, 1);
    errno = ENOMEM;
    return true;
}

static void *counted(void *block)
{
    if (block && control)
        atomic_fetch_add(&control->live, 1);
    return block;
}

void *malloc(size_t size)
{
    return fails(HEAP) ? NULL : counted(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
    return fails(HEAP) ? NULL : counted(__libc_calloc(count, size));
}

void free(void *block)
{
    if (block && control)
        atomic_fetch_sub(&control->live, 1);
    __libc_free(block);
}

void *realloc(void *block, size_t size)
{
    if (!block)
        return malloc(size);
    if (!size) {
        free(block);
        return NULL;
    }
    return fails(HEAP) ? NULL : __libc_realloc(block, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return fails(HEAP) ? NULL : counted(__libc_memalign(alignment, size));
}

void *memalign(size_t alignment, size_t size)
{
    return aligned_alloc(alignment, size);
}

int posix_memalign(void **block, size_t alignment, size_t size)
{
    void *taken = aligned_alloc(alignment, size);

    if (!taken)
        return ENOMEM;
    *block = taken;
    return 0;
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if ((flags & MAP_ANONYMOUS) && fails(MAPPINGS))
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset)
{
    return mmap(at, size, protection, flags, fd, offset);
}
