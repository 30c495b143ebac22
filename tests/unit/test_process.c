/* test_process.c - workers/process.h with a keeper, which is this program again. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "fiber_kit.h"
#include "workers/keeper.h"
#include "workers/process.h"

#define MOST_MS 20000

static struct keeper *keeper;

static int start(struct process *process, int output, const char *command)
{
    static struct environment environment;
    char sh[] = "sh", c[] = "-c", text[256];
    char *words[] = {sh, c, text, NULL};
    struct process_options options = {.words = words, .environment = &environment, .fds = {-1, output, -1}};

    environment = (struct environment){0};
    environment_add(&environment, "GIVEN", "%s", "a word");
    snprintf(text, sizeof text, "%s", command);
    return process_start(process, keeper, &options);
}

static bool await_end(struct process *process)
{
    uint64_t until_us = in_ms(MOST_MS);

    while (process->state != PROCESS_ENDED && loop_now_us() < until_us)
        fiber_park(until_us);
    return CHECK(process->state == PROCESS_ENDED);
}

/* Until whoever has the other end has let go of it. */
static size_t read_all(int fd, char *text, size_t room)
{
    size_t n = 0;
    ssize_t more;

    fcntl(fd, F_SETFL, O_NONBLOCK);
    while ((more = read(fd, text + n, room - n)) != 0 && n < room) {
        if (more > 0)
            n += (size_t)more;
        else if (!CHECK(errno == EAGAIN) || fiber_sleep_until(in_ms(1)) != 0)
            break;
    }
    return n;
}

static void a_process_has_what_it_was_given_and_nothing_else(void *arg)
{
    struct process process;
    int ends[2];
    char text[256] = "";

    (void)arg;
    keeper = keeper_create();
    CHECK(keeper && pipe2(ends, O_CLOEXEC) == 0);
    CHECK_EQUAL(start(&process, ends[1],
                      "echo $GIVEN; cat; echo $(ls /proc/self/fd | wc -l); ps -o sid= -p $$ | tr -d ' '; "
                      "echo $$; exit 7"),
                0);
    close(ends[1]);
    CHECK(process.pid > 0);
    await_end(&process);
    text[read_all(ends[0], text, sizeof text - 1)] = '\0';
    close(ends[0]);
    CHECK(WIFEXITED(process.status) && WEXITSTATUS(process.status) == 7);
    {
        char wanted[128];

        /* ls has the folder open, too, and the shell's pipe is its output */
        snprintf(wanted, sizeof wanted, "a word\n4\n%d\n%d\n", process.pid, process.pid);
        if (!CHECK(strcmp(text, wanted) == 0))
            fprintf(stderr, "%s", text);
    }
    keeper_free(keeper);
}

static void what_cannot_be_started_says_why(void *arg)
{
    struct process process;
    struct environment none = {0}, *full = calloc(1, sizeof *full);
    char missing[] = "/no/such/program", folder[] = "/", sh[] = "sh";
    char *words[] = {missing, NULL}, *others[] = {folder, NULL}, *good[] = {sh, NULL};
    struct process_options options = {.words = words, .environment = &none, .fds = {-1, -1, -1}};

    (void)arg;
    keeper = keeper_create();
    CHECK(keeper && full);
    CHECK_EQUAL(process_start(&process, keeper, &options), -ENOENT);
    options.words = others;
    CHECK_EQUAL(process_start(&process, keeper, &options), -EACCES);
    options.words = good;
    full->full = true;
    options.environment = full;
    CHECK_EQUAL(process_start(&process, keeper, &options), -E2BIG);
    options.environment = &none;
    CHECK_EQUAL(process_start(&process, keeper, &options), 0); /* and it still can */
    await_end(&process);
    CHECK_EQUAL(process.status, 0);
    free(full);
    keeper_free(keeper);
}

static void a_signal_is_for_the_whole_group(void *arg)
{
    struct process process;
    int ends[2];
    char text[64];
    size_t n;

    (void)arg;
    keeper = keeper_create();
    CHECK(keeper && pipe2(ends, O_CLOEXEC) == 0);
    CHECK_EQUAL(start(&process, ends[1], "sleep 600 & trap 'wait; echo ended; exit 0' TERM; echo on; wait"),
                0);
    close(ends[1]);
    while (read(ends[0], text, 3) != 3)
        ;
    process_signal(&process, SIGTERM);
    await_end(&process);
    n = read_all(ends[0], text, sizeof text);
    close(ends[0]);
    CHECK_EQUAL(n, 6);
    CHECK_EQUAL(process.status, 0);
    process_signal(&process, SIGTERM); /* nobody */
    keeper_free(keeper);
}

static void nobody_is_left_once_the_keeper_is_freed(void *arg)
{
    struct process processes[3];
    int ends[2];
    char byte;

    (void)arg;
    keeper = keeper_create();
    CHECK(keeper && pipe2(ends, O_CLOEXEC) == 0);
    for (size_t i = 0; i < 3; i++)
        CHECK_EQUAL(start(&processes[i], ends[1], "trap '' TERM; setsid sleep 600 & sleep 600 & wait"), 0);
    close(ends[1]);
    CHECK(keeper_pid(keeper) > 0);
    keeper_free(keeper);
    for (size_t i = 0; i < 3; i++)
        CHECK_EQUAL(processes[i].state, PROCESS_ENDED);
    CHECK_EQUAL(read(ends[0], &byte, 1), 0); /* of all who had the other end none is there */
    close(ends[0]);
}

static void a_keeper_that_was_killed_ends_its_processes_and_is_replaced(void *arg)
{
    struct process process, another;
    int before;

    (void)arg;
    keeper = keeper_create();
    CHECK(keeper != NULL);
    CHECK_EQUAL(start(&process, -1, "exec sleep 600"), 0);
    before = keeper_pid(keeper);
    kill(before, SIGKILL);
    await_end(&process);
    CHECK_EQUAL(process.status, SIGKILL);
    CHECK_EQUAL(start(&another, -1, "exit 3"), 0);
    CHECK(keeper_pid(keeper) != before);
    await_end(&another);
    CHECK_EQUAL(WEXITSTATUS(another.status), 3);
    keeper_free(keeper);
}

static void a_keeper_that_does_not_answer_is_given_up(void *arg)
{
    struct process process;

    (void)arg;
    keeper = keeper_create();
    CHECK(keeper != NULL);
    CHECK_EQUAL(start(&process, -1, "exec sleep 600"), 0);
    kill(keeper_pid(keeper), SIGSTOP);
    process_signal(&process, SIGKILL);
    process_await(&process, PROCESS_RUNS);
    CHECK_EQUAL(process.state, PROCESS_ENDED);
    CHECK_EQUAL(start(&process, -1, "exec sleep 600"), 0);
    keeper_free(keeper);
}

static void many_may_start_and_end_at_once(void *arg)
{
    struct process processes[40];

    (void)arg;
    keeper = keeper_create();
    CHECK(keeper != NULL);
    for (int i = 0; i < 40; i++) {
        char command[32];

        snprintf(command, sizeof command, "exit %d", i);
        CHECK_EQUAL(start(&processes[i], -1, command), 0);
    }
    for (int i = 0; i < 40; i++)
        if (await_end(&processes[i]))
            CHECK_EQUAL(WEXITSTATUS(processes[i].status), i);
    keeper_free(keeper);
}

#define CROWD 500

/* More than the socket has room for, while nobody reads it. */
static void no_end_is_lost_however_many_come_at_once(void *arg)
{
    static struct process processes[CROWD];
    struct environment none = {0};
    char cat[] = "cat";
    char *words[] = {cat, NULL};
    int ends[2];
    struct process_options options = {.words = words, .environment = &none, .fds = {-1, -1, -1}};

    (void)arg;
    keeper = keeper_create();
    CHECK(keeper && pipe2(ends, O_CLOEXEC) == 0);
    options.fds[0] = ends[0];
    for (int i = 0; i < CROWD; i++)
        CHECK_EQUAL(process_start(&processes[i], keeper, &options), 0);
    close(ends[0]);
    close(ends[1]);
    usleep(300000); /* the loop does not turn */
    for (int i = 0; i < CROWD; i++)
        if (await_end(&processes[i]))
            CHECK_EQUAL(processes[i].status, 0);
    keeper_free(keeper);
}

static void an_end_is_told_as_people_say_it(void **state)
{
    char text[64];

    (void)state;
    process_status_text(3 << 8, text);
    assert_string_equal(text, "exit code 3");
    process_status_text(9, text);
    assert_string_equal(text, "signal 9 (Killed)");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        FIBER_TEST(a_process_has_what_it_was_given_and_nothing_else),
        FIBER_TEST(what_cannot_be_started_says_why),
        FIBER_TEST(a_signal_is_for_the_whole_group),
        FIBER_TEST(nobody_is_left_once_the_keeper_is_freed),
        FIBER_TEST(a_keeper_that_was_killed_ends_its_processes_and_is_replaced),
        FIBER_TEST(a_keeper_that_does_not_answer_is_given_up),
        FIBER_TEST(many_may_start_and_end_at_once),
        FIBER_TEST(no_end_is_lost_however_many_come_at_once),
        cmocka_unit_test(an_end_is_told_as_people_say_it),
    };

    if (argc == 2 && strcmp(argv[1], KEEPER_COMMAND) == 0)
        return keeper_main();
    kit_watchdog(50);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
