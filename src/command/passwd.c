/* passwd.c - `maitred passwd`: makes the password-hash of a user of an amqp listener.
 *
 * The password comes from the terminal, unseen and twice, or from standard input where that is none; never from the
 * command line, which everybody on the machine can read. Whatever ends it, the terminal shows again what is typed. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/password.h"
#include "command/command.h"

/* A password, the end of its line, and a byte that shows that there is more. */
#define INPUT_BYTES (PASSWORD_BYTES_MAX + 3)

struct input {
    char bytes[INPUT_BYTES];
    size_t len;
};

static int fail(const char *why)
{
    fprintf(stderr, "maitred passwd: %s\n", why);
    return 1;
}

/* --- the terminal --------------------------------------------------------------------------------- */

static struct termios shown;

/* Uses only what a signal handler may. SA_RESETHAND: the second time is the system's. */
static void on_signal(int number)
{
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
    (void)raise(number);
}

/* What is typed is not seen until show. A stop (^Z) would leave the terminal to a shell like that; it is ignored. */
static bool hide(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct sigaction end = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct termios hidden;

    if (tcgetattr(STDIN_FILENO, &shown) != 0)
        return false;
    hidden = shown;
    hidden.c_lflag &= ~(tcflag_t)ECHO;
    hidden.c_lflag |= ECHONL;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (sigaction(numbers[i], &end, NULL) != 0)
            return false;
    return sigaction(SIGTSTP, &ignore, NULL) == 0 && tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden) == 0;
}

static void show(void)
{
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
}

/* --- reading -------------------------------------------------------------------------------------- */

/* To the end of the input, or of the line where it is a terminal, which gives a line at a time; or until there is no
 * more room. */
static bool read_input(struct input *input, bool line)
{
    input->len = 0;
    while (input->len < sizeof input->bytes) {
        ssize_t n = read(STDIN_FILENO, input->bytes + input->len, sizeof input->bytes - input->len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        input->len += (size_t)n;
        if (n == 0 || (line && input->bytes[input->len - 1] == '\n'))
            break;
    }
    return true;
}

/* NULL: it is a password, without the end of its line. */
static const char *take_password(struct input *input)
{
    if (input->len && input->bytes[input->len - 1] == '\n')
        input->len--;
    if (input->len && input->bytes[input->len - 1] == '\r')
        input->len--;
    if (memchr(input->bytes, '\n', input->len))
        return "there is more than one line; a password is one";
    if (memchr(input->bytes, '\0', input->len))
        return "a password cannot contain a NUL; choose another";
    if (!input->len)
        return "the password is empty; write one";
    return input->len > PASSWORD_BYTES_MAX ? "the password is longer than 1024 bytes; choose a shorter one"
                                           : NULL;
}

/* NULL: the input is a password. */
static const char *ask_once(struct input *input, const char *prompt)
{
    fputs(prompt, stderr);
    if (!read_input(input, true))
        return "the terminal cannot be read; write the password to standard input";
    return take_password(input);
}

static const char *ask_twice(struct input *input)
{
    struct input again = {.len = 0};
    const char *wrong = "the terminal cannot hide what is typed; write the password to standard input";

    if (hide()) {
        wrong = ask_once(input, "Password: ");
        if (!wrong)
            wrong = ask_once(&again, "Once more: ");
        show();
    }
    if (!wrong && (input->len != again.len || memcmp(input->bytes, again.bytes, input->len) != 0))
        wrong = "the two are not the same; start again";
    explicit_bzero(&again, sizeof again);
    return wrong;
}

static const char *read_password(struct input *input)
{
    if (isatty(STDIN_FILENO))
        return ask_twice(input);
    if (!read_input(input, false))
        return "standard input cannot be read";
    return take_password(input);
}

/* -------------------------------------------------------------------------------------------------- */

static int print_hash(const struct input *input)
{
    char text[PASSWORD_HASH_TEXT_MAX];

    if (password_hash(slice_of(input->bytes, input->len), PASSWORD_ITERATIONS, text) != 0)
        return fail("OpenSSL cannot make a hash; look at its configuration");
    printf("password-hash = \"%s\"\n", text);
    return fflush(stdout) == 0 ? 0 : fail("standard output cannot be written");
}

int command_passwd(int argc, char **argv)
{
    struct input input = {.len = 0};
    const char *wrong;
    int code;

    (void)argv;
    if (argc > 1)
        return command_misused("passwd", "it takes no argument: everybody on this machine could read a "
                                         "password there; it asks for it, or reads standard input");
    wrong = read_password(&input);
    code = wrong ? fail(wrong) : print_hash(&input);
    explicit_bzero(&input, sizeof input);
    return code;
}
