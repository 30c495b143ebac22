/* broker_saved.h - a checkpoint's bytes (docs/log-format.md) taken apart, for whoever loads or salvages it. Writing is
 * broker_checkpoint.c's.
 *
 * What is taken borrows the bytes. False: they end too early, or say what cannot be. Pure. */
#ifndef QUEUE_BROKER_SAVED_H
#define QUEUE_BROKER_SAVED_H

#include "queue/broker_private.h"

#define CHECKPOINT_VERSION 3u
#define CHECKPOINT_ENTRY_BYTES 32u
#define CHECKPOINT_SLOT_BYTES 16u
#define SAVED_SEGMENT_BYTES 24
#define SAVED_BODY_BYTES 32

/* The beginning: then come queues, exchanges, bindings, held messages, and what is remembered, each with their number before them. */
struct saved_state {
    uint64_t next_number;
    uint32_t next_id;
    uint64_t next_body;
    struct slice segments; /* saved_take_segment */
    struct slice bodies;   /* saved_take_body */
};

/* A message whose body has a file of its own. */
struct saved_body {
    uint64_t number;
    struct body_ref ref;
    uint64_t n_entries; /* queues that it is in */
};

struct saved_segment {
    uint64_t number, live, total;
};

struct saved_queue {
    uint32_t id;
    struct slice name;
    struct broker_queue_options options;
    bool paused;
};

/* Behind a queue, one for each of its levels. */
struct saved_level {
    uint64_t delivered, last;
    struct slice front, slots, back; /* saved_take_entry, saved_take_slot */
};

struct saved_held {
    uint32_t queue;
    struct ready_entry entry;
    uint32_t attempts;
    uint64_t due_us; /* 0: at once */
};

bool saved_take_state(struct slice *s, struct saved_state *state);
bool saved_take_segment(struct slice *list, struct saved_segment *segment);
bool saved_take_body(struct slice *list, struct saved_body *body);
bool saved_take_queue(struct slice *s, struct saved_queue *q);
bool saved_take_level(struct slice *s, struct saved_level *level);
bool saved_take_entry(struct slice *list, struct ready_entry *entry);
bool saved_take_slot(struct slice *list, struct ready_slot *slot);
bool saved_take_held(struct slice *s, struct saved_held *held);
bool saved_take_text(struct slice *s, struct slice *text);
/* A list of n things of a size, n before it. */
bool saved_take_list(struct slice *s, size_t bytes_each, struct slice *list);

#endif
