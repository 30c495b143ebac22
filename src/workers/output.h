/* output.h - what a process writes, as lines for the log, of which only so many are said.
 *
 * A line that is the same as the one before is counted, and said once with its count when another comes, or after
 * OUTPUT_SILENCE_US. Of all others OUTPUT_BURST are said at once, and OUTPUT_PER_S a second; how many were left out is said as soon
 * as there is room again. A line has at most OUTPUT_LINE_MAX bytes, and ends with a whole character; of a longer one it is said how
 * much is missing. One without an end is said when nothing came for OUTPUT_PART_US. What is said is UTF-8: for a byte that is not
 * there is a question mark, for a control or what changes the direction of writing a blank, so that it can change nothing around
 * it on a terminal. Memory is bounded, whatever is written.
 * Pure: the time is an argument. Belongs to one thread. */
#ifndef WORKERS_OUTPUT_H
#define WORKERS_OUTPUT_H

#include "base/slice.h"

#define OUTPUT_LINE_MAX 800u
#define OUTPUT_BURST 100u
#define OUTPUT_PER_S 20u
#define OUTPUT_SILENCE_US UINT64_C(10000000)
#define OUTPUT_PART_US UINT64_C(1000000)

struct output {
    void (*say)(void *arg, struct slice line);
    void *arg;
    /* Private. */
    char line[OUTPUT_LINE_MAX], last[OUTPUT_LINE_MAX];
    size_t bytes, last_bytes;
    uint64_t missing, last_missing; /* bytes of the line that had no room */
    uint64_t repeats;               /* of last, that were not said; since then: */
    uint64_t repeats_us;
    uint64_t came_us; /* the last of line */
    uint64_t left_out;
    double tokens;
    uint64_t filled_us;
    bool has_last;
};

void output_init(struct output *output, void (*say)(void *arg, struct slice line), void *arg,
                 uint64_t now_us);
void output_take(struct output *output, struct slice bytes, uint64_t now_us);
/* Says what is due. Returns when it is to be called again; UINT64_MAX: not before something comes. */
uint64_t output_tick(struct output *output, uint64_t now_us);
/* Nothing more comes: says what is left. */
void output_end(struct output *output, uint64_t now_us);

#endif
