/* handover.c - see handover.h. */
#include "server/handover.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "workers/crew.h"

#define FIELDS_MAX 6

enum { POOL, SERVER, DRAIN, WEIGHT, WHY, SERVER_FIELDS };
enum { NOTHING, KIND, NAME };
enum { HAND = NAME + 1, COUNT, DESIRED, WORKERS_FIELDS };
enum { VALUE = NAME + 1, AGE, GAUGE_FIELDS };

/* ---- writing ------------------------------------------------------------------------------------------------ */

static const char *drain_text(const struct control_hand *hand)
{
    if (!hand->set_drain)
        return "-";
    return hand->drain ? "drain" : "enable";
}

static void write_server(FILE *out, const struct control_server *cs)
{
    bool down = atomic_load(&cs->server->state) == SERVER_DOWN;

    if (!down && !cs->hand.set_drain && !cs->hand.weight)
        return;
    fprintf(out, "%s\t%.*s\t%s\t%u\t%s\n", cs->pool->pool->name, SLICE_ARG(cs->server->name),
            drain_text(&cs->hand), cs->hand.weight, down ? cs->why : "-");
}

static void write_pool(FILE *out, const struct control_pool *cp)
{
    for (size_t i = 0; i < cp->n_members; i++)
        for (const struct list *node = cp->members[i]->servers.next; node != &cp->members[i]->servers;
             node = node->next)
            write_server(out, container_of(node, struct control_server, list));
}

static const char *const hand_texts[] = {[HAND_NONE] = "-", [HAND_PAUSED] = "paused", [HAND_SET] = "set"};

static void write_workers(FILE *out, const struct workers *workers)
{
    uint64_t now_us = clock_monotonic_us();

    for (const struct list *at = workers->crews.next; at != &workers->crews; at = at->next) {
        const struct crew *crew = container_of(at, struct crew, list);

        if (!crew->leaving)
            fprintf(out, "\tworkers\t%s\t%s\t%u\t%u\n", crew->name, hand_texts[crew->hand], crew->hand_count,
                    crew->desired);
    }
    for (const struct list *at = workers->gauges.next; at != &workers->gauges; at = at->next) {
        const struct gauge *gauge = container_of(at, struct gauge, list);

        if (gauge->told)
            fprintf(out, "\tgauge\t%s\t%.17g\t%llu\n", gauge->name, gauge->value,
                    (unsigned long long)(now_us - gauge->told_us));
    }
}

int handover_write(const struct control *control, const struct workers *workers)
{
    int fd = memfd_create("maitred-handover", MFD_CLOEXEC), copy = fd < 0 ? -1 : dup(fd);
    FILE *out = copy < 0 ? NULL : fdopen(copy, "w");

    if (!out) {
        int error = -errno;

        if (copy >= 0)
            close(copy);
        if (fd >= 0)
            close(fd);
        return error;
    }
    for (const struct list *node = control->pools.next; node != &control->pools; node = node->next)
        write_pool(out, container_of(node, struct control_pool, list));
    write_workers(out, workers);
    if (fclose(out) != 0 || lseek(fd, 0, SEEK_SET) != 0) {
        close(fd);
        return -EIO;
    }
    return fd;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

/* How many there are; more than FIELDS_MAX are as one more. */
static size_t split(struct slice line, struct slice fields[FIELDS_MAX])
{
    size_t n = 0;

    while (n < FIELDS_MAX && slice_next_part(&line, '\t', &fields[n]))
        n++;
    return n + (line.len > 0);
}

/* False: it is not understood; so below. */
static bool take_server(struct control *control, const struct slice *fields)
{
    struct control_hand hand = {0};
    struct control_server *cs = NULL;
    struct control_pool *cp;
    char why[CHECK_WHY_MAX];
    uint64_t weight;

    if (!slice_to_u64(fields[WEIGHT], &weight) || weight > 256)
        return false;
    cp = control_pool_find(control, fields[POOL]);
    if (cp)
        cs = control_server_find(cp, fields[SERVER]);
    if (!cs)
        return true;
    hand.set_drain = !slice_equal(fields[DRAIN], SLICE("-"));
    hand.drain = slice_equal(fields[DRAIN], SLICE("drain"));
    hand.weight = (unsigned)weight;
    snprintf(why, sizeof why, "%.*s", SLICE_ARG(fields[WHY]));
    if (control_restore_server(cs, &hand, strcmp(why, "-") == 0 ? NULL : why) != 0)
        log_warning("no memory to keep what was done by hand to server %.*s", SLICE_ARG(fields[SERVER]));
    return true;
}

static bool take_workers(struct workers *workers, const struct slice *fields)
{
    struct crew *crew = workers_find(workers, fields[NAME]);
    uint64_t count, desired;
    unsigned hand = HAND_NONE;

    while (hand <= HAND_SET && !slice_equal(fields[HAND], slice_from_text(hand_texts[hand])))
        hand++;
    if (hand > HAND_SET || !slice_to_u64(fields[COUNT], &count) || count > CONFIG_WORKERS_MOST ||
        !slice_to_u64(fields[DESIRED], &desired) || desired > CONFIG_WORKERS_MOST)
        return false;
    if (crew)
        crew_restore(crew, (enum crew_hand)hand, (unsigned)count, (unsigned)desired);
    return true;
}

static bool take_gauge(struct workers *workers, const struct slice *fields)
{
    struct gauge *gauge = workers_find_gauge(workers, fields[NAME]);
    char text[32], *end;
    uint64_t age_us;
    double value;

    snprintf(text, sizeof text, "%.*s", SLICE_ARG(fields[VALUE]));
    value = strtod(text, &end);
    if (end == text || *end || !isfinite(value) || !slice_to_u64(fields[AGE], &age_us))
        return false;
    if (gauge)
        workers_restore_gauge(gauge, value, age_us);
    return true;
}

static bool take_fields(struct control *control, struct workers *workers, const struct slice *fields,
                        size_t n)
{
    if (n == SERVER_FIELDS && fields[POOL].len)
        return take_server(control, fields);
    if (n == WORKERS_FIELDS && slice_equal(fields[KIND], SLICE("workers")))
        return take_workers(workers, fields);
    return n == GAUGE_FIELDS && slice_equal(fields[KIND], SLICE("gauge")) && take_gauge(workers, fields);
}

static void take_line(struct control *control, struct workers *workers, struct slice line)
{
    struct slice fields[FIELDS_MAX];

    if (!take_fields(control, workers, fields, split(line, fields)))
        log_warning("what the process before knew is not understood: %.*s", SLICE_ARG(line));
}

void handover_read(struct control *control, struct workers *workers, int fd)
{
    FILE *in = fdopen(fd, "r");
    char *line = NULL;
    size_t room = 0;
    ssize_t n;

    if (!in) {
        close(fd);
        return;
    }
    while ((n = getline(&line, &room, in)) > 0)
        take_line(control, workers, slice_of(line, (size_t)n - (line[n - 1] == '\n')));
    free(line);
    fclose(in);
}
