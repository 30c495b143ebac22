/* sim.c - see sim.h. */
#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/slice.h"
#include "sim/sim.h"

/* A story that takes so long goes round in circles. */
#define STORY_SECONDS 20
#define COUNTS_MAX 64

/* What the child leaves behind; shared memory. */
struct report {
    uint64_t seed; /* of the story that it is in */
    char failure[1024];
    struct {
        const char *what; /* a literal, at the same place in parent and child */
        uint64_t n;
    } counts[COUNTS_MAX];
};

struct options {
    uint64_t from, seeds;
    bool verbose;
};

static struct report *report;
static bool telling;

void sim_fail(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(report->failure, sizeof report->failure, format, arguments);
    va_end(arguments);
    fflush(stdout);
    _exit(1);
}

void sim_tell(const char *format, ...)
{
    va_list arguments;

    if (!telling)
        return;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

static uint64_t *count_of(const char *what)
{
    size_t i = 0;

    while (i < COUNTS_MAX && report->counts[i].what && report->counts[i].what != what)
        i++;
    assert(i < COUNTS_MAX);
    report->counts[i].what = what;
    return &report->counts[i].n;
}

void sim_count(const char *what)
{
    ++*count_of(what);
}

void sim_most(const char *what, uint64_t n)
{
    uint64_t *most = count_of(what);

    if (n > *most)
        *most = n;
}

/* ---- one story --------------------------------------------------------------------------------------------------- */

static struct sim_step *new_steps(const struct sim *sim)
{
    struct sim_step *steps = calloc(sim->steps_max, sizeof *steps);

    if (!steps)
        abort();
    return steps;
}

static void quiet_child(void)
{
    if (!freopen("/dev/null", "w", stderr))
        _exit(2);
}

/* Waits for the child; whether it was content. Else report->failure says why. */
static bool child_was_content(pid_t child)
{
    int status = 0;

    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            abort();
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (report->failure[0] == '\0' && WIFSIGNALED(status))
        snprintf(report->failure, sizeof report->failure, "%s",
                 WTERMSIG(status) == SIGALRM ? "it does not end" : strsignal(WTERMSIG(status)));
    else if (report->failure[0] == '\0')
        snprintf(report->failure, sizeof report->failure, "exit code %d", WEXITSTATUS(status));
    return false;
}

/* loud: what it says, and what a sanitizer says, is to be read. */
static bool story_holds(const struct sim *sim, uint64_t seed, const struct sim_step *steps, size_t n,
                        bool loud)
{
    pid_t child;

    fflush(stdout);
    report->failure[0] = '\0';
    child = fork();
    if (child < 0)
        abort();
    if (child > 0)
        return child_was_content(child);
    telling = loud;
    if (!loud)
        quiet_child();
    alarm(STORY_SECONDS);
    sim->run(seed, steps, n);
    exit(0); /* not _exit: the leak sanitizer looks then */
}

/* ---- many -------------------------------------------------------------------------------------------------------- */

static bool stories_hold(const struct sim *sim, const struct options *options)
{
    pid_t child;

    report->failure[0] = '\0';
    child = fork();
    if (child < 0)
        abort();
    if (child > 0)
        return child_was_content(child);
    struct sim_step *steps = new_steps(sim);
    for (uint64_t i = 0; i < options->seeds; i++) {
        report->seed = options->from + i;
        alarm(STORY_SECONDS);
        sim->run(report->seed, steps, sim->plan(report->seed, steps));
    }
    free(steps);
    exit(0);
}

/* ---- a failing one, made short ------------------------------------------------------------------------------------- */

/* Leaves steps out as long as it still fails, in ever smaller pieces; how many are left. */
static size_t shorten(const struct sim *sim, uint64_t seed, struct sim_step *steps, size_t n)
{
    struct sim_step *fewer = new_steps(sim);

    for (size_t piece = n / 2 ? n / 2 : 1; piece > 0; piece /= 2) {
        for (size_t at = 0; at < n;) {
            size_t out = piece < n - at ? piece : n - at;

            memcpy(fewer, steps, at * sizeof *steps);
            memcpy(fewer + at, steps + at + out, (n - at - out) * sizeof *steps);
            if (story_holds(sim, seed, fewer, n - out, false)) {
                at += out;
            } else {
                n -= out;
                memcpy(steps, fewer, n * sizeof *steps);
            }
        }
    }
    free(fewer);
    return n;
}

static void explain(const struct sim *sim, uint64_t seed, bool whole)
{
    struct sim_step *steps = new_steps(sim);
    size_t planned = sim->plan(seed, steps), n = planned;
    bool fails;

    if (!whole && !story_holds(sim, seed, steps, n, false))
        n = shorten(sim, seed, steps, n);
    printf("%s: seed %llu, %zu of its %zu steps:\n", sim->name, (unsigned long long)seed, n, planned);
    fails = !story_holds(sim, seed, steps, n, true);
    printf("%s: seed %llu: %s\n", sim->name, (unsigned long long)seed,
           fails ? report->failure : "all is well");
    free(steps);
}

/* ---- the program --------------------------------------------------------------------------------------------------- */

static bool take_number(const char *text, uint64_t *number)
{
    return slice_to_u64(slice_from_text(text), number);
}

static int usage(const struct sim *sim)
{
    fprintf(
        stderr,
        "usage: %s [--seed N | --seeds N] [--from N] [--verbose]\n"
        "  --seed N     that story, told; made short when it fails, but not with --verbose\n"
        "  --seeds N    so many stories (1000), from seed --from N (0) on; stops at the first that fails\n"
        "  --verbose    also how often each thing happened\n",
        sim->name);
    return 2;
}

static bool read_options(struct options *options, int argc, char **argv)
{
    static const struct option names[] = {
        {"seed", required_argument, NULL, 's'},
        {"seeds", required_argument, NULL, 'n'},
        {"from", required_argument, NULL, 'f'},
        {"verbose", no_argument, NULL, 'v'},
        {NULL, 0, NULL, 0},
    };
    int option;

    *options = (struct options){.seeds = 1000};
    while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (option == 's' && take_number(optarg, &options->from))
            options->seeds = 0;
        else if (option == 'v')
            options->verbose = true;
        else if (!(option == 'n' && take_number(optarg, &options->seeds)) &&
                 !(option == 'f' && take_number(optarg, &options->from)))
            return false;
    }
    return optind == argc;
}

static void show_counts(void)
{
    for (size_t i = 0; i < COUNTS_MAX && report->counts[i].what; i++)
        printf("%12llu %s\n", (unsigned long long)report->counts[i].n, report->counts[i].what);
}

int sim_main(const struct sim *sim, int argc, char **argv)
{
    struct options options;
    bool hold = true;

    if (!read_options(&options, argc, argv))
        return usage(sim);
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED)
        return 2;
    if (options.seeds == 0) {
        explain(sim, options.from, options.verbose);
        hold = report->failure[0] == '\0';
    } else {
        hold = stories_hold(sim, &options);
        if (options.verbose)
            show_counts();
        if (!hold)
            explain(sim, report->seed, false);
        else
            printf("%s: %llu stories from seed %llu hold\n", sim->name, (unsigned long long)options.seeds,
                   (unsigned long long)options.from);
    }
    return hold ? 0 : 1;
}
