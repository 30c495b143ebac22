/* children.c - see children.h. */
#include "workers/children.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct looking {
    void (*each)(pid_t child, void *arg);
    void *arg;
    bool listed; /* the kernel has lists of children */
};

static void each_number(const char *folder, void (*found)(const char *number, void *arg), void *arg)
{
    DIR *dir = opendir(folder);

    if (!dir)
        return;
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        if (isdigit((unsigned char)entry->d_name[0]))
            found(entry->d_name, arg);
    closedir(dir);
}

/* Each thread has children of its own. */
static void look_at_thread(const char *tid, void *arg)
{
    struct looking *looking = arg;
    char path[64], *number = NULL;
    size_t room = 0;
    FILE *file;

    snprintf(path, sizeof path, "/proc/self/task/%.20s/children", tid);
    file = fopen(path, "re");
    if (!file)
        return;
    looking->listed = true;
    while (getdelim(&number, &room, ' ', file) > 0) { /* a blank after each */
        pid_t child = (pid_t)strtol(number, NULL, 10);

        if (child > 0)
            looking->each(child, looking->arg);
    }
    free(number);
    fclose(file);
}

/* The parent of a process; 0: it is not to be known. */
static pid_t parent_of(const char *pid)
{
    char path[64], text[512], *at;
    long parent;
    ssize_t n;
    int fd;

    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    at = strrchr(text, ')'); /* its name may have anything in it; then its state, then the parent */
    parent = at && at[1] && at[2] && at[3] ? strtol(at + 4, NULL, 10) : 0;
    return (pid_t)parent;
}

static void look_at_process(const char *pid, void *arg)
{
    const struct looking *looking = arg;

    if (parent_of(pid) == getpid())
        looking->each((pid_t)strtol(pid, NULL, 10), looking->arg);
}

void children_each(void (*each)(pid_t child, void *arg), void *arg)
{
    struct looking looking = {.each = each, .arg = arg};

    each_number("/proc/self/task", look_at_thread, &looking);
    if (!looking.listed)
        each_number("/proc", look_at_process, &looking);
}
