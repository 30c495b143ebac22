/* broker_world.h - what the parts of broker_sim share: the world that a story runs in.
 *
 *   broker_sim.c      the story: which steps, how often; time and files
 *   broker_world.c    what is known of messages and queues; turns, and what has to have happened by their end
 *   broker_events.c   what the broker says, and whether it may
 *   broker_look.c     what can be seen
 *   broker_declare.c  steps: queues, exchanges, bindings
 *   broker_publish.c  steps: publishing
 *   broker_bodies.c   steps: bodies with files of their own
 *   broker_consume.c  steps: consumers
 *   broker_open.c     steps: opening again; damage
 *   broker_model*.c   what the broker must hold (broker_model.h)
 *
 * A check that fails ends the story (sim.h). */
#ifndef SIM_BROKER_WORLD_H
#define SIM_BROKER_WORLD_H

#include "base/rng.h"
#include "sim/broker_model.h"
#include "sim/disk.h"
#include "sim/sim.h"

#define BURYING_QUEUE 0 /* only one buries what it refuses, so that it is known whose a dead one is */
#define BODY_MAX 2000
#define BODIES_MAX 4
#define KEY_FIELD SLICE("K")

/* A body with a file of its own, and somebody who publishes it, or is about to. */
struct world_body {
    struct body_ref ref;
    uint64_t content;
    bool whole;
};

struct world {
    struct disk *disk;
    struct log *log;
    struct broker *broker;
    struct log_options options;
    struct model m;
    uint64_t seed, now_us;
    uint64_t flushed;   /* log_end after the last flush: what was gathered before stands below */
    uint64_t confirmed; /* the greatest log_durable that somebody was told of */
    int moving_to;      /* the queue that messages are moved to; -1 */
    bool deep, failing, limited, running, publishing;
    bool unsettled; /* topology that may be on disk or not */
    struct broker_checkpoint *checkpoint;
    bool checkpoint_made;
    int checkpoint_error;
    size_t deliveries;
    struct model_consumer *taker; /* who takes one now; NULL: nobody */
    unsigned n_late, n_cancelled; /* that are to be told; that were */
    uint64_t durable_upto;        /* the broker knows that those below are durable */
    struct world_body bodies[BODIES_MAX];
    size_t n_bodies;
};
extern struct world w;

/* ---- broker_world.c ---- */
void content_fill(char *bytes, size_t n, uint64_t content);
struct slice queue_slice(int queue); /* its name */
struct broker_queue_options *queue_options(int queue);
/* Whether a fault, or want of room, may be why. */
bool world_may_fail(int error);
struct entry *entry_must_find(struct message_ref ref, const char *what);
/* It died in the queue. */
void entry_die(struct entry *e, int queue, enum message_end end);
/* Queues where its dead go, as the model knows it; how many. */
int entry_dead_targets(const struct entry *e, enum message_end end, int targets[QUEUES_MAX]);
/* What was gathered has its place now. */
void world_flush(void);
int world_commit(void);
void world_run(void);
/* It failed, and is tried again within what the back-off allows, or ends. */
void entry_expect_retry(struct entry *e);
/* A queue that the model does not have any more; if it could not go, it has that owner. */
void queue_check_gone(int queue, int owner);
void do_turn(const struct sim_step *step);

/* ---- broker_events.c ---- */
extern const struct broker_events world_events;
bool entry_is_beside(const struct entry *o, const struct entry *e);
void entry_check_content(const struct entry *e, const struct message *message);
void entry_leave_consumer(struct entry *e);
/* Of a queue, by index: what is delivered next; NULL: nothing waits. */
struct entry *queue_first(int queue);
/* It is to leave for its dead letters, and may have to stay, because they cannot take it. */
bool entry_may_be_stuck(const struct entry *e, enum message_end end);
/* How many it has more than it may, or 1 where it has too many bytes. */
uint64_t queue_excess(int queue);
/* That nobody could have taken it. */
void entry_check_takers(const struct entry *e, const char *what);
/* One more message was appended: the numbers of all are known, but for the one that is being published. */
void world_take_number(void);

/* ---- broker_look.c ---- */
struct model_binding binding_of_view(const struct broker_binding_view *view);
void world_check_counts(void);
void world_check_exchanges(void);
/* Its messages beside the model's. end: where the log ended when it was opened again. */
void queue_peek(int queue, bool after_restart, uint64_t end);
void do_look(const struct sim_step *step);

/* ---- broker_declare.c ---- */
void do_declare(const struct sim_step *step);
void do_delete(const struct sim_step *step);
void do_exchange(const struct sim_step *step);
void do_bind(const struct sim_step *step);
void do_pause(const struct sim_step *step);

/* ---- broker_publish.c ---- */
void do_publish(const struct sim_step *step);

/* ---- broker_bodies.c ---- */
/* Gives the message a body with a file of its own. False: that cannot be. */
bool world_store(struct rng *rng, struct entry *message, struct body_ref *ref);
/* Publishers are done with theirs, or with some. */
void world_stored(struct rng *rng);
void do_body(const struct sim_step *step);
/* A message's body, wherever it is; ptr NULL: it cannot be read, because of a fault. */
struct slice stored_read(struct broker *broker, const struct message *message, char bytes[BODY_MAX]);
/* Files that may go do. */
void world_remove_bodies(void);
/* When all is durable: those that are needed are there, and no others. */
void world_check_bodies(void);

/* ---- broker_consume.c ---- */
void do_subscribe(const struct sim_step *step);
void do_take(const struct sim_step *step);
void do_window(const struct sim_step *step);
void do_session(const struct sim_step *step);
void do_unsubscribe(const struct sim_step *step);
void do_settle(const struct sim_step *step);
void do_purge(const struct sim_step *step);
void do_move(const struct sim_step *step);

/* ---- broker_open.c ---- */
void world_open(const struct sim_step *step);
/* As the end of the process would. */
void world_close(void);
/* What the broker has of it is what there is. */
void world_learn_topology(bool after_restart);
/* A bit of one file is turned over: what waits is salvaged, but for the one message that it was of. */
void world_damage(struct rng *rng);
void do_close(const struct sim_step *step);
void do_kill(const struct sim_step *step);
void do_crash(const struct sim_step *step);

/* ---- broker_sim.c ---- */
void world_end_checkpoint(int error);

#endif
