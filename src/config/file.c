/* file.c - see file.h. */
#include "config/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* One byte more than allowed is asked for: so a file that grew is seen too. */
static bool read_all(int fd, char *bytes, size_t *len)
{
    ssize_t n = 1;

    for (*len = 0; n > 0 && *len <= CONFIG_FILE_BYTES_MAX; *len += (size_t)n) {
        n = read(fd, bytes + *len, CONFIG_FILE_BYTES_MAX + 1 - *len);
        if (n < 0)
            return false;
    }
    return true;
}

static bool read_open(int fd, struct slice *text, struct config_store *store,
                      struct config_problems *problems, const char *path, struct config_place place)
{
    struct stat st;
    char *bytes;

    if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode)) {
        config_problem(problems, place, "\"" SHOWN "\" is %s; give a file", path,
                       S_ISDIR(st.st_mode) ? "a directory" : "not a regular file");
        return false;
    }
    bytes = config_store_array(store, CONFIG_FILE_BYTES_MAX + 1, 1);
    if (!bytes || !read_all(fd, bytes, &text->len)) {
        config_problem(problems, place, "cannot read \"" SHOWN "\": %m; check the disk it is on", path);
        return false;
    }
    if (text->len > CONFIG_FILE_BYTES_MAX) {
        config_problem(problems, place, "\"" SHOWN "\" is larger than 1 MiB; split it with include(\"FILE\")",
                       path);
        return false;
    }
    text->ptr = bytes;
    return true;
}

bool config_file_read(struct slice *text, struct config_store *store, struct config_problems *problems,
                      const char *path, struct config_place place)
{
    /* O_NONBLOCK: a pipe that nobody writes to must not hold us. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool ok;

    if (fd < 0) {
        config_problem(problems, place, "cannot open \"" SHOWN "\": %m; check the path and its permissions",
                       path);
        return false;
    }
    ok = read_open(fd, text, store, problems, path, place);
    close(fd);
    return ok;
}
