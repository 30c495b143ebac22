/* handover.c - see handover.h. */
#include "server/handover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"

enum { POOL, SERVER, DRAIN, WEIGHT, WHY, N_FIELDS };

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

int handover_write(const struct control *control)
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
    if (fclose(out) != 0 || lseek(fd, 0, SEEK_SET) != 0) {
        close(fd);
        return -EIO;
    }
    return fd;
}

/* False: it has other fields than it should. */
static bool split(struct slice line, struct slice fields[N_FIELDS])
{
    size_t n = 0;

    while (n < N_FIELDS && slice_next_part(&line, '\t', &fields[n]))
        n++;
    return n == N_FIELDS && !line.len;
}

static void take_line(struct control *control, struct slice line)
{
    struct slice fields[N_FIELDS];
    struct control_hand hand = {0};
    struct control_server *cs = NULL;
    struct control_pool *cp;
    char why[CHECK_WHY_MAX];
    uint64_t weight;

    if (!split(line, fields) || !slice_to_u64(fields[WEIGHT], &weight) || weight > 256) {
        log_warning("what the process before knew of a server is not understood: %.*s", SLICE_ARG(line));
        return;
    }
    cp = control_pool_find(control, fields[POOL]);
    if (cp)
        cs = control_server_find(cp, fields[SERVER]);
    if (!cs)
        return;
    hand.set_drain = !slice_equal(fields[DRAIN], SLICE("-"));
    hand.drain = slice_equal(fields[DRAIN], SLICE("drain"));
    hand.weight = (unsigned)weight;
    snprintf(why, sizeof why, "%.*s", SLICE_ARG(fields[WHY]));
    if (control_restore_server(cs, &hand, strcmp(why, "-") == 0 ? NULL : why) != 0)
        log_warning("no memory to keep what was done by hand to server %.*s", SLICE_ARG(fields[SERVER]));
}

void handover_read(struct control *control, int fd)
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
        take_line(control, slice_of(line, (size_t)n - (line[n - 1] == '\n')));
    free(line);
    fclose(in);
}
