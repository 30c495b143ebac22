/* test_notify.c - server/notify.h: what arrives at a service manager, and what is left in the environment. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "server/notify.h"

static char directory[] = "/tmp/maitred-test-XXXXXX";

/* Plays the service manager. */
struct manager {
    char name[108]; /* as in NOTIFY_SOCKET */
    char message[4096];
    int fd;
};

static void listen_as(struct manager *manager, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t bytes = strlen(name);

    assert_true(bytes < sizeof manager->name);
    memcpy(manager->name, name, bytes + 1);
    memcpy(address.sun_path, name, bytes);
    if (name[0] == '@')
        address.sun_path[0] = '\0';
    else
        bytes++;
    manager->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_true(manager->fd >= 0);
    assert_int_equal(bind(manager->fd, (struct sockaddr *)&address,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes)),
                     0);
}

static void end(struct manager *manager)
{
    close(manager->fd);
    if (manager->name[0] == '/')
        assert_int_equal(unlink(manager->name), 0);
    notify_close();
}

/* The next message, or NULL. */
static const char *heard(struct manager *manager)
{
    ssize_t n = recv(manager->fd, manager->message, sizeof manager->message - 1, 0);

    if (n < 0)
        return NULL;
    manager->message[n] = '\0';
    return manager->message;
}

static void set_environment(const char *socket, const char *watchdog_usec, const char *watchdog_pid)
{
    const char *const pairs[][2] = {
        {"NOTIFY_SOCKET", socket}, {"WATCHDOG_USEC", watchdog_usec}, {"WATCHDOG_PID", watchdog_pid}};

    for (size_t i = 0; i < 3; i++)
        if (pairs[i][1])
            setenv(pairs[i][0], pairs[i][1], 1);
        else
            unsetenv(pairs[i][0]);
}

static void in_directory(char path[108], const char *name)
{
    snprintf(path, 108, "%s/%s", directory, name);
}

static void a_message_arrives_whole_at_a_path(void **state)
{
    struct manager manager;
    char path[108];

    (void)state;
    in_directory(path, "manager");
    listen_as(&manager, path);
    set_environment(path, NULL, NULL);
    notify_open();
    notify("READY=1\nSTATUS=%d listeners", 3);
    notify("STOPPING=1");
    assert_string_equal(heard(&manager), "READY=1\nSTATUS=3 listeners");
    assert_string_equal(heard(&manager), "STOPPING=1");
    assert_null(heard(&manager));
    end(&manager);
}

static void a_message_arrives_at_an_abstract_name(void **state)
{
    struct manager manager;
    char name[108];

    (void)state;
    snprintf(name, sizeof name, "@maitred-test-%d", (int)getpid());
    listen_as(&manager, name);
    set_environment(name, NULL, NULL);
    notify_open();
    notify("MAINPID=%d", 123);
    assert_string_equal(heard(&manager), "MAINPID=123");
    end(&manager);
}

static void a_service_manager_that_restarted_is_found_again(void **state)
{
    struct manager manager;
    char path[108];

    (void)state;
    in_directory(path, "again");
    listen_as(&manager, path);
    set_environment(path, NULL, NULL);
    notify_open();
    close(manager.fd);
    unlink(path);
    notify("STATUS=nobody hears this");
    listen_as(&manager, path);
    notify("STATUS=back");
    assert_string_equal(heard(&manager), "STATUS=back");
    end(&manager);
}

static void a_reload_says_when_it_began(void **state)
{
    uint64_t before = clock_monotonic_us(), began;
    struct manager manager;
    char path[108];

    (void)state;
    in_directory(path, "reload");
    listen_as(&manager, path);
    set_environment(path, NULL, NULL);
    notify_open();
    notify_reloading();
    assert_int_equal(sscanf(heard(&manager), "RELOADING=1\nMONOTONIC_USEC=%" SCNu64, &began), 1);
    assert_true(began >= before && began <= clock_monotonic_us());
    end(&manager);
}

static void a_message_that_is_too_long_is_cut(void **state)
{
    struct manager manager;
    char path[108];

    (void)state;
    in_directory(path, "long");
    listen_as(&manager, path);
    set_environment(path, NULL, NULL);
    notify_open();
    notify("STATUS=%02000d", 7);
    assert_int_equal(strlen(heard(&manager)), 1023);
    end(&manager);
}

/* An alarm ends the test if it waits. */
static void a_service_manager_that_does_not_read_holds_nobody_up(void **state)
{
    struct manager manager;
    char path[108];

    (void)state;
    in_directory(path, "deaf");
    listen_as(&manager, path);
    set_environment(path, NULL, NULL);
    notify_open();
    for (int i = 0; i < 10000; i++)
        notify("WATCHDOG=1");
    assert_string_equal(heard(&manager), "WATCHDOG=1");
    end(&manager);
}

static void children_inherit_nothing_of_it(void **state)
{
    struct manager manager;
    char path[108], own[16];

    (void)state;
    in_directory(path, "children");
    listen_as(&manager, path);
    snprintf(own, sizeof own, "%d", (int)getpid());
    set_environment(path, "30000000", own);
    notify_open();
    assert_null(getenv("NOTIFY_SOCKET"));
    assert_null(getenv("WATCHDOG_USEC"));
    assert_null(getenv("WATCHDOG_PID"));
    end(&manager);
}

/* Without WATCHDOG_PID: it would be taken for somebody else's. */
static void a_successor_is_given_what_it_needs_to_be_heard(void **state)
{
    const char *const *environment;
    struct manager manager;
    char path[108], own[16], expected[128];

    (void)state;
    in_directory(path, "successor");
    listen_as(&manager, path);
    snprintf(own, sizeof own, "%d", (int)getpid());
    set_environment(path, "30000000", own);
    notify_open();
    environment = notify_environment();
    snprintf(expected, sizeof expected, "NOTIFY_SOCKET=%s", path);
    assert_string_equal(environment[0], expected);
    assert_string_equal(environment[1], "WATCHDOG_USEC=30000000");
    assert_null(environment[2]);
    end(&manager);
    assert_null(notify_environment()[0]);
}

static void the_longest_path_fits(void **state)
{
    struct manager manager;
    char path[108];

    (void)state;
    memset(path, 'x', sizeof path);
    memcpy(path, directory, strlen(directory));
    path[strlen(directory)] = '/';
    path[107] = '\0';
    listen_as(&manager, path);
    set_environment(path, NULL, NULL);
    notify_open();
    notify("READY=1");
    assert_string_equal(heard(&manager), "READY=1");
    assert_string_equal(notify_environment()[0] + strlen("NOTIFY_SOCKET="), path);
    end(&manager);
}

static const struct {
    const char *usec, *pid; /* pid: "own" stands for this process */
    uint64_t us;
} watchdogs[] = {
    {"30000000", "own", 30000000},
    {"1", NULL, 1},
    {"18446744073709551615", "own", UINT64_MAX},
    {NULL, "own", 0},
    {"0", "own", 0},
    {"", "own", 0},
    {"30s", "own", 0},
    {"-1", "own", 0},
    {"18446744073709551616", "own", 0},
    {"30000000", "1", 0},
    {"30000000", "", 0},
    {"30000000", "own ", 0},
};

static void the_watchdog_is_taken_only_when_it_is_meant_for_this_process(void **state)
{
    struct manager manager;
    char path[108], own[16];

    (void)state;
    in_directory(path, "watchdog");
    listen_as(&manager, path);
    snprintf(own, sizeof own, "%d", (int)getpid());
    for (size_t i = 0; i < sizeof watchdogs / sizeof *watchdogs; i++) {
        const char *pid = watchdogs[i].pid;

        set_environment(path, watchdogs[i].usec, pid && strcmp(pid, "own") == 0 ? own : pid);
        notify_open();
        if (notify_watchdog_us() != watchdogs[i].us)
            fail_msg("row %zu: %" PRIu64, i, notify_watchdog_us());
        assert_int_equal(!!notify_environment()[1], watchdogs[i].us != 0);
    }
    end(&manager);
}

static void without_a_service_manager_it_does_nothing(void **state)
{
    (void)state;
    set_environment(NULL, "30000000", NULL);
    notify_open();
    notify("READY=1");
    notify_reloading();
    assert_int_equal(notify_watchdog_us(), 0);
    assert_null(notify_environment()[0]);
    notify_close();
    notify("READY=1");
}

static void an_address_that_is_none_is_left_alone(void **state)
{
    char too_long[109];
    const char *const bad[] = {"", "/", "@", "run/notify", "vsock:2:1234", too_long};

    (void)state;
    memset(too_long, 'x', sizeof too_long);
    too_long[0] = '/';
    too_long[108] = '\0';
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        set_environment(bad[i], "30000000", NULL);
        notify_open();
        notify("READY=1");
        assert_int_equal(notify_watchdog_us(), 0);
        assert_null(notify_environment()[0]);
        assert_null(getenv("NOTIFY_SOCKET"));
    }
    notify_close();
}

static int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    (void)state;
    return rmdir(directory); /* an error when a test left something there */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_arrives_whole_at_a_path),
        cmocka_unit_test(a_message_arrives_at_an_abstract_name),
        cmocka_unit_test(a_service_manager_that_restarted_is_found_again),
        cmocka_unit_test(a_reload_says_when_it_began),
        cmocka_unit_test(a_message_that_is_too_long_is_cut),
        cmocka_unit_test(a_service_manager_that_does_not_read_holds_nobody_up),
        cmocka_unit_test(children_inherit_nothing_of_it),
        cmocka_unit_test(a_successor_is_given_what_it_needs_to_be_heard),
        cmocka_unit_test(the_longest_path_fits),
        cmocka_unit_test(the_watchdog_is_taken_only_when_it_is_meant_for_this_process),
        cmocka_unit_test(without_a_service_manager_it_does_nothing),
        cmocka_unit_test(an_address_that_is_none_is_left_alone),
    };

    alarm(30);
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
