/* salvage.h - what can be had of a log's files, whole or damaged: which messages wait, which of them cannot be read, and a new
 * log of the others.
 *
 * The files stay as they are. A message waits when the newest whole checkpoint, or a record behind it, says so, and no record
 * says that it left; it can be read when its body can, wherever that is. Of a log that a start would take up, what the start would cut off does not count; of any other all
 * that verifies does. What damage has swallowed may have said that a message left: then it comes once more.
 * Memory: 48 bytes for each record about a message. Threads: one; it blocks. Errors: 0 or a negative errno. */
#ifndef QUEUE_SALVAGE_H
#define QUEUE_SALVAGE_H

#include "log/log_survey.h"

struct salvage;

/* Looks at everything. damage: called with a line for people, for each thing that cannot be used. -ENODATA: there is neither a
 * segment nor a checkpoint that can be read. storage is borrowed. *salvage is NULL unless the result is 0. */
int salvage_open(struct salvage **salvage, struct storage *storage,
                 void (*damage)(void *arg, const char *text), void *arg);
void salvage_close(struct salvage *salvage);

const struct log_survey *salvage_survey(const struct salvage *salvage);
/* What a start from these files would do, short of serving: 0, or why it fails, with report as broker_open has it. */
int salvage_start_result(const struct salvage *salvage, const struct log_report **report);

/* The position behind which nothing counts; UINT64_MAX: all does. */
uint64_t salvage_limit(const struct salvage *salvage);

struct salvage_queue {
    struct slice name;
    uint64_t readable, lost; /* of the messages that wait in it */
};

/* Files of bodies that messages need which wait, and can be read; and their bytes. */
size_t salvage_bodies(const struct salvage *salvage, uint64_t *bytes);

/* In the order they were declared. Good until each returns. */
void salvage_each_queue(const struct salvage *salvage,
                        void (*each)(void *arg, const struct salvage_queue *queue), void *arg);
/* Numbers of the messages that are lost, queue by queue. */
void salvage_each_lost(const struct salvage *salvage,
                       void (*each)(void *arg, struct slice queue, uint64_t number), void *arg);

/* Makes a log of what is readable in another storage, which is empty: queues, exchanges and bindings; messages with their
 * numbers, names, attempts, delays and bodies. id: a random number. */
int salvage_write(const struct salvage *salvage, struct storage *to, uint64_t id);

#endif
