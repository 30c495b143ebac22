/* terminal.c - see terminal.h. */
#include "command/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define ESCAPE '\033'

/* The second page, no cursor, and no wrapping: a character wider than one column cannot break the layout. */
static const char enter_text[] = "\033[?1049h\033[?25l\033[?7l";
static const char leave_text[] = "\033[0m\033[?7h\033[?25h\033[?1049l";

static struct termios before;
static volatile sig_atomic_t entered;

bool terminal_is_there(void)
{
    const char *kind = getenv("TERM");

    return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) && kind && *kind && strcmp(kind, "dumb") != 0;
}

static bool write_all(const char *bytes, size_t len)
{
    while (len) {
        ssize_t n = write(STDOUT_FILENO, bytes, len);

        if (n < 0 && errno != EINTR)
            return false;
        bytes += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

void terminal_leave(void)
{
    if (!entered)
        return;
    entered = 0;
    (void)write_all(leave_text, sizeof leave_text - 1);
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
}

/* Uses only what a signal handler may. SA_RESETHAND: the second time ends the process. */
static void on_abort(int number)
{
    terminal_leave();
    (void)raise(number);
}

int terminal_enter(void)
{
    struct termios raw;
    struct sigaction action = {.sa_handler = on_abort, .sa_flags = (int)SA_RESETHAND};

    if (tcgetattr(STDIN_FILENO, &before) != 0)
        return -errno;
    raw = before;
    cfmakeraw(&raw);
    if (sigaction(SIGABRT, &action, NULL) != 0 || tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) != 0)
        return -errno;
    entered = 1;
    if (write_all(enter_text, sizeof enter_text - 1))
        return 0;
    terminal_leave();
    return -EIO;
}

void terminal_size(unsigned *columns, unsigned *lines)
{
    struct winsize size = {0};

    *columns = 80;
    *lines = 24;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || !size.ws_col || !size.ws_row)
        return;
    *columns = size.ws_col;
    *lines = size.ws_row;
}

bool terminal_show(const char *frame)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    bool ok;

    if (!out)
        return false;
    fputs("\033[H", out);
    for (; *frame; frame++)
        if (*frame == '\n')
            fputs("\033[K\r\n", out);
        else
            fputc(*frame, out);
    fputs("\033[K", out);
    ok = fclose(out) == 0 && write_all(text, len);
    free(text);
    return ok;
}

/* The length of the sequence behind an ESC: "[...X", "OX", or 0 when the ESC stands alone. */
static size_t sequence(struct slice rest)
{
    size_t n = 1;

    if (!rest.len || (rest.ptr[0] != '[' && rest.ptr[0] != 'O'))
        return 0;
    while (n < rest.len && (rest.ptr[n] < 0x40 || rest.ptr[n] > 0x7e))
        n++;
    return n < rest.len ? n + 1 : rest.len;
}

int terminal_take_key(struct slice *typed)
{
    while (typed->len) {
        struct slice first = slice_take(typed, 1), rest;

        if (first.ptr[0] != ESCAPE)
            return (unsigned char)first.ptr[0];
        rest = slice_take(typed, sequence(*typed));
        if (!rest.len)
            return TERMINAL_ESCAPE;
        if (rest.ptr[rest.len - 1] == 'A' || rest.ptr[rest.len - 1] == 'B')
            return rest.ptr[rest.len - 1] == 'A' ? TERMINAL_UP : TERMINAL_DOWN;
    }
    return -1;
}
