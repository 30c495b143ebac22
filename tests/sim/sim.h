/* sim.h - what the simulators share: a story for each seed, tried by the thousand, and a short one of one that fails.
 *
 * A simulator plans the steps of a story from a seed and runs them; what it does and what goes wrong follows from the seed and
 * the steps alone. Steps carry their own random numbers, so that the rest means the same when some are left out: that is how
 * a failing story is made short. Stories run in a child process: an assert or a sanitizer's finding is a failure like others. */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_step {
    unsigned kind;
    uint64_t a, b; /* random */
};

struct sim {
    const char *name;
    size_t steps_max;
    /* The steps of the seed's story; how many. */
    size_t (*plan)(uint64_t seed, struct sim_step *steps);
    void (*run)(uint64_t seed, const struct sim_step *steps, size_t n);
};

/* The whole program: --seed N, --seeds N, --from N, --verbose. 0 when no story failed. */
int sim_main(const struct sim *sim, int argc, char **argv);

/* A rule is broken: the story ends here. */
void sim_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* A line of the story, for who reads it. */
void sim_tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* One more of that: --verbose shows how often each thing was. what: a literal. */
void sim_count(const char *what);
/* The greatest of these; --verbose shows it among the counts. */
void sim_most(const char *what, uint64_t n);

#define sim_check(condition, ...) ((condition) ? (void)0 : sim_fail(__VA_ARGS__))

#endif
