/* clock.h - time in microseconds. Any thread.
 *
 * Monotonic time drives deadlines; wall time is for people and protocols. On a loop's thread loop_now_us is
 * cheaper and good enough. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

#define US_PER_MS 1000u
#define US_PER_S 1000000u

uint64_t clock_monotonic_us(void);
uint64_t clock_wall_us(void);

#endif
