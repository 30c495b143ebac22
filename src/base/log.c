/* log.c - see log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define LINE_MAX_BYTES 1024

static const char *const level_names[] = {
    [LOG_ERROR] = "error",
    [LOG_WARNING] = "warning",
    [LOG_INFO] = "info",
};

void log_line(enum log_level level, const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    uint64_t now_us = clock_wall_us();
    time_t seconds = (time_t)(now_us / US_PER_S);
    struct tm tm;
    size_t n;
    int more;
    va_list args;

    gmtime_r(&seconds, &tm);
    n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(line + n, sizeof line - n, ".%03uZ %s ", (unsigned)(now_us / US_PER_MS % 1000),
                          level_names[level]);
    va_start(args, format);
    more = vsnprintf(line + n, sizeof line - n - 1, format, args);
    va_end(args);
    if (more > 0)
        n += (size_t)more < sizeof line - n - 1 ? (size_t)more : sizeof line - n - 2;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)line[i] < 0x20)
            line[i] = ' ';
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0)
        return; /* nowhere left to say it */
}
