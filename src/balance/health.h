/* health.h - when a server counts as up or down (active checks), and when failing requests put it aside
 * (ejection).
 *
 * Pure: results and times are arguments; whoever runs the checks applies the changes to the server.
 * struct health belongs to the thread that checks. Ejection works on a server's atomics: any thread. */
#ifndef BALANCE_HEALTH_H
#define BALANCE_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "balance/server.h"
#include "base/rng.h"

/* Active checks of one server. It goes down after `fall` failures in a row and up after `rise` successes
 * in a row; the first result ever decides at once. */
struct health {
    unsigned rise, fall;
    unsigned against; /* results in a row that contradict `up` */
    bool known;       /* a check has been made */
    bool up;
};

enum health_change { HEALTH_NONE, HEALTH_WENT_UP, HEALTH_WENT_DOWN };

/* up: what the server counts as until its first check. */
void health_init(struct health *health, const struct config_health *config, bool up);
enum health_change health_result(struct health *health, bool ok);

/* From the end of one check to the next: nothing before the first, the fast interval while results
 * contradict the state, else the interval; drawn evenly from 80 % to 120 % of it, so that checks do not
 * stay in step. */
uint64_t health_next_delay_us(const struct health *health, const struct config_health *config,
                              struct rng *rng);

/* Whether the server's failures in a row eject it now. Returns until when, or 0: not.
 * Not when: ejection is off; the row is too short; the server is not usable anyway; more than
 * share_percent of all the roster's servers would be ejected; no other server (backups count) is usable.
 * The time is time_us, times the number of ejections in a row, up to time_most_us. That number falls by
 * one for every time_us the server was back without being ejected again, and never grows past what the
 * longest time needs. Changes nothing. */
uint64_t eject_decide(const struct roster *roster, const struct server *server, uint64_t now_us,
                      const struct config_ejection *config);

/* Decides and does it: to be called after each failure. After the ejection the server starts slowly and
 * with an empty row. Threads that eject two servers at the same moment never take the last two: one of
 * them yields. Returns whether the server was ejected, by this call. */
bool eject_apply(const struct roster *roster, struct server *server, uint64_t now_us,
                 const struct config_ejection *config);

#endif
