/* broker_salvage.h - what salvage makes of a story's disk, beside what a start makes of it. */
#ifndef SIM_BROKER_SALVAGE_H
#define SIM_BROKER_SALVAGE_H

#include "queue/broker.h"

/* Salvages what is on a disk, into one of its own, and opens a broker over that. False: there was nothing that could be read.
 * Until salvage_end. */
bool salvage_begin(struct storage *from, uint64_t seed, uint64_t now_us);
void salvage_end(void);

/* Both brokers hold the same: queues, messages, attempts, delays, flags. */
void salvage_compare(struct broker *original, uint64_t now_us);
/* Whether it has the message, with that body. */
bool salvage_has(uint32_t queue_id, uint64_t number, struct slice body);
/* False: a start would take what stands there for a torn tail. */
bool salvage_counts(uint64_t position);
/* Lines about damage. */
unsigned salvage_damages(void);

#endif
