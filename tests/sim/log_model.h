/* log_model.h - what the log must hold: the records of the stream as they were appended, the checkpoints, the promises.
 *
 * Records are numbered in the order of the stream. A crash cuts some last ones off; what is appended then takes their
 * numbers. A record is dead once nobody needs it, and alive again when a crash took the checkpoint back to a time when it was. */
#ifndef SIM_LOG_MODEL_H
#define SIM_LOG_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NONE SIZE_MAX

struct model_record {
    uint64_t position;
    uint64_t content; /* what its bytes follow from */
    uint32_t bytes;
    uint8_t kind;
    size_t died; /* as many checkpoints had begun; NONE: it is alive */
};

/* A checkpoint's state: bytes that follow from content. */
struct model_checkpoint {
    uint64_t position, content;
    uint32_t bytes;
};

/* Of one later record, made by one record. */
struct model_promise {
    uint64_t bytes;       /* log_record_bytes */
    size_t maker, keeper; /* keeper NONE: it is to be kept */
};

struct model {
    struct model_record *records;
    size_t n, room;
    struct model_checkpoint *checkpoints; /* every one that began, and may be what a crash comes back to */
    size_t n_checkpoints, checkpoints_room;
    size_t newest; /* the one that the log says is durable; NONE */
    struct model_promise *promises;
    size_t n_promises, promises_room;
};

void model_reset(struct model *model);
void model_free(struct model *model);

/* The bytes of a content. */
void model_fill(char *bytes, size_t n, uint64_t content);

struct model_record *model_append(struct model *model);
/* The first record at or behind position; n when there is none. */
size_t model_at(const struct model *model, uint64_t position);
/* n: the next one at all. */
size_t model_next_alive(const struct model *model, size_t i);

struct model_checkpoint *model_begin(struct model *model);
/* The newest one with that position and bytes; NONE. */
size_t model_find_checkpoint(const struct model *model, uint64_t position, const char *bytes, size_t n);

void model_promise(struct model *model, uint64_t bytes, size_t maker);
uint64_t model_promised(const struct model *model);
/* The i-th of those that are to be kept, counted round and round; NULL: there is none. */
struct model_promise *model_pick_promise(const struct model *model, uint64_t i);

/* Whether the checkpoint `newest` needs none of the records of [from, to), and nobody else does. */
bool model_needs_none(const struct model *model, uint64_t from, uint64_t to);

/* The log came back at that checkpoint (or NONE) with the first n records. */
void model_recover(struct model *model, size_t checkpoint, size_t n);

#endif
