/* salvage_private.h - what the parts of salvage share: salvage_facts.c gathers what is said of messages, salvage.c adds up what waits,
 * salvage_body.c has what is in files of its own, salvage_write.c makes a log of it.
 *
 * Whatever is said of a message in a queue, by the checkpoint or by a record, is a fact. Sorted by queue, number and place, the
 * facts of one message add up to what became of it. */
#ifndef QUEUE_SALVAGE_PRIVATE_H
#define QUEUE_SALVAGE_PRIVATE_H

#include "queue/broker_private.h"
#include "queue/salvage.h"

#define NOWHERE UINT64_MAX

/* In the order that they have at one place. */
enum fact_kind {
    FACT_KNOWN,  /* the checkpoint has it among those that wait */
    FACT_RECORD, /* its record stands there */
    FACT_RETRY,
    FACT_DONE,
};

struct fact {
    uint64_t number;
    uint64_t place; /* of what says so; of a message once all is added up: where its record is, or NOWHERE */
    uint64_t due_us;
    uint32_t queue;
    uint32_t attempts;
    uint8_t kind;
    bool redelivered;
    bool waits; /* RECORD: and it waits, unless another fact says that it left */
    uint8_t priority;
    bool has_priority; /* KNOWN, RECORD: it is priority */
    bool stored;       /* RECORD: its body has a file of its own */
    bool
        was_delayed; /* RECORD: when it was published, so that how far its queue had delivered does not tell of it */
};

/* In a queue with priorities all up to the number had been delivered that have the priority of the message with it. */
struct mark {
    uint32_t queue;
    uint64_t number;
};

/* A slot of the index that cannot be read: READY_SLOT_ENTRIES messages wait, which are all of the queue between two numbers. */
struct range {
    uint32_t queue;
    unsigned level, n_levels;
    uint64_t first, behind;
};

/* A body that has a file of its own, and is needed. */
struct salvaged_body {
    struct body_ref ref;
    int error; /* it cannot be read */
    bool copied;
};

struct salvage {
    struct log_survey survey;
    void (*damage)(void *arg, const char *text);
    void *arg;
    struct broker *broker; /* topology only, and how far each queue had delivered */
    int start_result;
    struct log_report report;
    struct slice segments; /* that the checkpoint points into */
    uint64_t end;          /* of what counts */
    uint64_t next;         /* number */
    struct fact *facts;    /* in the end one for each message that waits; owned */
    size_t n, room;
    struct range *ranges; /* owned */
    size_t n_ranges;
    struct mark *marks; /* owned */
    size_t n_marks, marks_room;
    uint32_t *deleted; /* ids of queues; owned */
    size_t n_deleted;
    struct salvaged_body *bodies; /* owned */
    size_t n_bodies, bodies_room;
};

/* ---- salvage.c ---- */
/* A line for people about what cannot be used. */
void salvage_say(const struct salvage *salvage, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- salvage_facts.c ---- */
/* 0; -EBADMSG: the checkpoint cannot be understood; or another negative errno. */
int salvage_know_checkpoint(struct salvage *salvage);
/* For log_survey_walk, with the salvage as its argument: records in the order of the log. */
int salvage_take_record(void *salvage, const struct log_record *record);

/* ---- salvage_body.c ---- */
/* Reads those that are needed by what waits; a message without its body is lost. */
int salvage_look_at_bodies(struct salvage *salvage);
/* Copies one of those into another storage, for its log, before what names it; once. */
int salvage_copy_body(const struct salvage *salvage, struct body_ref ref, struct storage *to,
                      struct log *log);

#endif
