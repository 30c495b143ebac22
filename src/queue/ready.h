/* ready.h - the messages of a queue that wait, oldest first: its two ends in memory, what is between them in a file.
 *
 * The file (struct index, one for all queues) is made of slots of READY_SLOT_ENTRIES entries. What is in it can be made
 * anew from the log, so that a slot that does not verify costs a longer start and nothing else.
 *
 * Invariants
 *   1. Numbers grow from the front to the back; only the front is taken off. Everything between is there.
 *   2. A slot that the last durable checkpoint points to is not written over: what is freed is used again only after the next
 *      checkpoint (index_checkpoint_begin, index_checkpoint_end).
 *
 * Threads: the broker's, except index_sync. Errors: 0 or a negative errno; -EBADMSG: a slot does not verify. */
#ifndef QUEUE_READY_H
#define QUEUE_READY_H

#include "base/slice.h"
#include "log/storage.h"

/* What is kept of a message that waits. */
struct ready_entry {
    uint64_t number;
    uint64_t position;       /* in the log */
    uint64_t queued_ms : 48; /* wall time */
    uint64_t redelivered : 1;
    uint64_t has_ttl : 1; /* its record says for how long it may wait */
    uint64_t stored : 1;  /* its body has a file of its own */
    uint64_t unused : 5;
    uint64_t priority : 8;
    uint32_t bytes; /* that count: broker_bytes_of */
    uint32_t key;   /* hash of what order-by names; 0: none */
};

_Static_assert(sizeof(struct ready_entry) == 32, "an entry is 32 bytes in memory and in the file");

/* When it came into the queue; the field is widened before it is multiplied. */
static inline uint64_t ready_queued_us(const struct ready_entry *entry)
{
    return (uint64_t)entry->queued_ms * 1000;
}

#define READY_SLOT_ENTRIES 512u
#define READY_SLOT_BYTES (READY_SLOT_ENTRIES * sizeof(struct ready_entry))

struct index;

/* The file "index" of a storage; what was in it is used only by slots that the caller takes (index_claim). */
int index_open(struct index **index, struct storage *storage);
void index_close(struct index *index);
/* The slot is in use, as a checkpoint says. -EBADMSG: it was claimed already, or there is no such slot. */
int index_claim(struct index *index, uint32_t slot);
/* Every slot in use has been claimed; the others may be used. Once, before anything is pushed. */
void index_claimed(struct index *index);
/* Nothing of the file is in use: it is written anew. */
void index_clear(struct index *index);
/* What is freed until now may be used again once the checkpoint that is being made is durable. */
void index_checkpoint_begin(struct index *index);
/* Any thread, beside the others. */
int index_sync(struct index *index);
void index_checkpoint_end(struct index *index, bool durable);

/* A full slot in the file. */
struct ready_slot {
    uint64_t first; /* number of its first entry */
    uint32_t slot;
    uint32_t crc;
};

/* Reads a slot's READY_SLOT_ENTRIES entries, used or not. -EBADMSG: they do not verify. */
int index_read(const struct index *index, const struct ready_slot *slot, struct ready_entry *entries);

struct ready_block {
    struct ready_entry *entries;
    uint32_t start, end, room;
};

struct ready {
    struct index *index;      /* borrowed */
    struct ready_block front; /* the oldest */
    struct ready_slot *slots; /* between, oldest first: [slots_start, slots_end) */
    uint32_t slots_start, slots_end, slots_room;
    struct ready_block back; /* the youngest */
    uint64_t count;
    uint64_t last; /* no entry's number is above */
};

void ready_init(struct ready *ready, struct index *index);
/* Gives memory and slots back. */
void ready_clear(struct ready *ready);

/* Room for one more: 0 or -ENOMEM. */
int ready_reserve(struct ready *ready);
/* Its number is above all there, and there is room. A slot that cannot be written stays in memory. */
void ready_push(struct ready *ready, const struct ready_entry *entry);
/* The oldest, good until the next call; NULL: there is none, or *error says why it cannot be read. */
const struct ready_entry *ready_front(struct ready *ready, int *error);
/* After ready_front gave one. */
void ready_pop(struct ready *ready);

/* Whether number is there, and its entry. 1, 0, or an error. */
int ready_find(struct ready *ready, uint64_t number, struct ready_entry *entry);
/* Its message stands elsewhere now. 0, -ENOENT, or an error. */
int ready_move(struct ready *ready, uint64_t number, uint64_t position);
/* Calls each for all, oldest first, as one block after the other; anything but 0 from it ends that. Verifies every slot. */
int ready_each(struct ready *ready, int (*each)(void *arg, const struct ready_entry *entries, uint32_t n),
               void *arg);

/* Takes over a slot of a checkpoint, behind those that are there. */
int ready_adopt(struct ready *ready, const struct ready_slot *slot);

#endif
