/* broker_sim.c - the broker over the log over a simulated disk, with a clock of its own: what publishers, consumers and people do,
 * crashes, and a disk that fails, from a seed.
 *
 * broker_world.h says which file has what. While it runs: what is delivered is durable, in its queue, whole, in order of priority
 * and number, one at a time by key, to who comes first, within prefetch, window, transit, rate and hold, not before its time, and
 * nothing waits that could leave; messages leave as they may, and so do queues; counts, limits and keys are the model's.
 * After each time it is opened again: what was confirmed is there; what was certainly gone does not come back; what may be
 * either is there whole; order, attempts and fields are right. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "sim/broker_world.h"

#define STEPS_MAX 160

enum step_kind {
    DECLARE,
    DELETE,
    EXCHANGE,
    BIND,
    PUBLISH,
    BODY,
    SUBSCRIBE,
    UNSUBSCRIBE,
    SETTLE,
    TAKE,
    WINDOW,
    SESSION,
    PAUSE,
    PURGE,
    MOVE,
    TURN,
    TIME,
    CHECKPOINT,
    SPARE,
    LOOK,
    CLOSE,
    KILL,
    CRASH,
    FAULT,
    LIMIT,
    KINDS
};

static const unsigned char often[KINDS] = {
    [DECLARE] = 5, [DELETE] = 1,    [EXCHANGE] = 3,    [BIND] = 6,    [PUBLISH] = 30,
    [BODY] = 2,    [SUBSCRIBE] = 6, [UNSUBSCRIBE] = 3, [SETTLE] = 30, [TAKE] = 8,
    [WINDOW] = 5,  [SESSION] = 4,   [PAUSE] = 2,       [PURGE] = 1,   [MOVE] = 2,
    [TURN] = 30,   [TIME] = 14,     [CHECKPOINT] = 12, [SPARE] = 6,   [LOOK] = 4,
    [CLOSE] = 1,   [KILL] = 3,      [CRASH] = 5,       [FAULT] = 2,   [LIMIT] = 1,
};

/* ---- time, files ---------------------------------------------------------------------------------------------------- */

static void do_time(const struct sim_step *step)
{
    static const uint64_t most[] = {2 * US_PER_MS, 100 * US_PER_MS, 2 * US_PER_S, 40 * US_PER_S};

    w.now_us += step->a % most[step->b % 4];
}

void world_end_checkpoint(int error)
{
    broker_checkpoint_end(w.broker, w.checkpoint, error);
    w.checkpoint = NULL;
    while (broker_compact(w.broker, 8192))
        ;
}

static void do_checkpoint(const struct sim_step *step)
{
    for (unsigned n = step->b % 2 ? 3 : 1; n; n--) {
        if (!w.checkpoint) {
            if (world_commit() == 0)
                w.checkpoint = broker_checkpoint_begin(w.broker);
            w.checkpoint_made = false;
            if (!w.checkpoint)
                return;
        } else if (!w.checkpoint_made) {
            w.checkpoint_error = broker_checkpoint_make(w.checkpoint);
            w.checkpoint_made = true;
            if (w.checkpoint_error)
                sim_check(world_may_fail(w.checkpoint_error), "checkpoint: %s",
                          strerror(-w.checkpoint_error));
        } else {
            world_end_checkpoint(w.checkpoint_error);
            sim_count("checkpoints");
        }
    }
}

static void do_spare(const struct sim_step *step)
{
    struct log_spare *spare = log_spare_wanted(w.log) ? log_spare_begin(w.log) : NULL;

    (void)step;
    if (spare)
        log_spare_add(w.log, spare, log_spare_make(spare));
}

static void do_fault(const struct sim_step *step)
{
    static const int errors[] = {EIO, ENOSPC};
    enum disk_op op = (enum disk_op)(step->a % DISK_OPS);
    int error = op == DISK_WRITE || op == DISK_FILL ? errors[step->b % 2] : EIO;

    if (step->b % 7 == 0)
        disk_power_off(w.disk, step->a / DISK_OPS % 40);
    else
        disk_fail(w.disk, op, step->a / DISK_OPS % 20, error, step->b / 2 % 4 == 0);
    w.failing = true;
}

/* What was gathered meanwhile may have been appended, by a command, and refused. */
static void forget_places(void)
{
    for (size_t i = 0; i < w.m.n; i++) {
        struct entry *e = &w.m.entries[i];

        if (e->delivered && !e->delivered_place)
            e->delivered_place = BEHIND_ALL;
        if (e->attempts != e->attempts_logged)
            e->attempts_place = BEHIND_ALL;
        e->attempts_logged = e->attempts;
    }
}

static void do_limit(const struct sim_step *step)
{
    if (w.limited)
        forget_places();
    w.limited = step->b % 4 != 0;
    disk_limit(w.disk, w.limited ? disk_used(w.disk) + step->a % (6 * w.options.segment_bytes) : 0);
}

/* ---- a story -------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*run)(const struct sim_step *step);
} steps_of[KINDS] = {
    [DECLARE] = {"declare", do_declare},
    [DELETE] = {"delete", do_delete},
    [EXCHANGE] = {"exchange", do_exchange},
    [BIND] = {"bind or unbind", do_bind},
    [PUBLISH] = {"publish", do_publish},
    [BODY] = {"body", do_body},
    [SUBSCRIBE] = {"subscribe", do_subscribe},
    [UNSUBSCRIBE] = {"unsubscribe or hold", do_unsubscribe},
    [SETTLE] = {"settle", do_settle},
    [TAKE] = {"take", do_take},
    [WINDOW] = {"window or credit", do_window},
    [SESSION] = {"session", do_session},
    [PAUSE] = {"pause", do_pause},
    [PURGE] = {"purge", do_purge},
    [MOVE] = {"move", do_move},
    [TURN] = {"turn", do_turn},
    [TIME] = {"time", do_time},
    [CHECKPOINT] = {"checkpoint", do_checkpoint},
    [SPARE] = {"spare", do_spare},
    [LOOK] = {"look", do_look},
    [CLOSE] = {"close", do_close},
    [KILL] = {"kill", do_kill},
    [CRASH] = {"crash", do_crash},
    [FAULT] = {"fault", do_fault},
    [LIMIT] = {"limit", do_limit},
};

static size_t plan(uint64_t seed, struct sim_step *steps)
{
    struct rng rng = {seed};
    size_t n = 20 + (size_t)rng_below(&rng, STEPS_MAX - 20);
    unsigned all = 0;

    for (size_t kind = 0; kind < KINDS; kind++)
        all += often[kind];
    for (size_t i = 0; i < n; i++) {
        unsigned kind = 0;
        uint64_t at = rng_below(&rng, all);

        while (at >= often[kind])
            at -= often[kind++];
        if (i < 9) /* something to begin with */
            kind = i < 3 ? DECLARE : i == 3 ? SUBSCRIBE : i < 7 ? EXCHANGE : BIND;
        steps[i] = (struct sim_step){kind, rng_next(&rng), rng_next(&rng)};
    }
    return n;
}

static void run_story(uint64_t seed, const struct sim_step *steps, size_t n)
{
    static const struct sim_step first = {0, 0, 1}, last = {CRASH, 1, 1}, settled = {TURN, 1, 0};
    struct rng rng = {seed ^ 0x62726f6b6572};

    if (!w.disk)
        w.disk = disk_new(seed);
    disk_reset(w.disk, rng_next(&rng));
#ifdef MAITRED_PLANT_SKIP_SYNC /* a disk, or a program, that says that it has synced */
    disk_lie(w.disk);
#endif
    model_clear(&w.m);
    w = (struct world){
        .disk = w.disk,
        .m = w.m,
        .seed = seed,
        .now_us = UINT64_C(1700000000) * US_PER_S,
        .moving_to = -1,
        .deep = rng_below(&rng, 16) == 0,
        .options = {.storage = disk_storage(w.disk),
                    .segment_bytes = 4096u << rng_below(&rng, 4),
                    .id = seed},
    };
    if (w.deep)
        w.options.segment_bytes = 65536;
    else if (rng_below(&rng, 8) == 0)
        w.options.bytes_max = w.options.segment_bytes * (6 + rng_below(&rng, 20));
    world_open(&first);
    for (size_t i = 0; i < n; i++) {
        sim_tell("%s at %llu", steps_of[steps[i].kind].name, (unsigned long long)w.now_us);
        steps_of[steps[i].kind].run(&steps[i]);
    }
    sim_tell("the end");
    do_crash(&last);
    do_turn(&settled);
    do_turn(&settled);
    world_close();
    disk_restart(w.disk);
    if (!w.deep && rng_below(&rng, 4) == 0)
        world_damage(&rng);
}

int main(int argc, char **argv)
{
    static const struct sim sim = {"broker_sim", STEPS_MAX, plan, run_story};

    return sim_main(&sim, argc, argv);
}
