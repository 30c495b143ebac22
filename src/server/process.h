/* process.h - the running process, as the files of src/server share it.
 *
 * Thread 0, the control thread, is the process's first; it also serves, like the others, and the admin listener alone.
 * Threads: struct process is the control thread's; a struct thread belongs to its thread, but for what says otherwise. */
#ifndef SERVER_PROCESS_H
#define SERVER_PROCESS_H

#include <pthread.h>

#include "admin/admin.h"
#include "admin/system.h"
#include "front/amqp/amqp.h"
#include "front/push.h"
#include "front/tcp.h"
#include "queue/thread.h"
#include "server/listen.h"

enum order { ORDER_DRAIN, ORDER_HURRY, N_ORDERS };

/* What thread 0 tells a thread; each at most once, so that no memory is needed when it matters. */
struct order_message {
    struct mail message;
    struct thread *thread;
    enum order order;
    bool sent;
};

/* What a thread tells thread 0: that it is open, and that it is closed. */
struct report {
    struct mail message;
    struct thread *thread;
};

/* A thread is to serve by another scene. */
struct scene_message {
    struct mail message;
    struct list list; /* of the thread's inbox */
    struct thread *thread;
    struct scene *scene;         /* the thread's once it is entered */
    struct listener **listeners; /* by index of the scene's services */
    struct listener **leaving;
    size_t n_leaving;
};

/* One serving thread. */
struct thread {
    struct process *process;
    unsigned number;
    pthread_t pthread;
    struct loop *loop;
    struct fiber *fiber; /* while it may be told anything */
    struct scene *scene; /* as of now; NULL before the first */
    struct list inbox;
    struct list listeners;  /* struct listener_thread that are not closed */
    struct queue_port port; /* open while it has a thread */
    struct list pushes;     /* struct push that have not ended */
    bool drain, hurry;      /* what it was told */
    bool failed;            /* it could not open; read by thread 0 after the report */
    struct order_message orders[N_ORDERS];
    struct report open, closed, let_go;
    _Atomic uint64_t beat_us; /* when its loop was last seen to turn; any thread reads */
};

/* A listener with what the server keeps beside it. */
struct process_listener {
    struct system_listener system; /* the first member */
    struct process *process;
    bool owns_file; /* of its unix socket: to be removed before that closes */
    struct listener_report {
        struct mail message;
        struct process_listener *listener;
    } reports[]; /* by thread */
};

/* An access log of a configuration that is in use. */
struct process_log {
    struct list list;
    char *path;
    struct access_log *log;
    uint64_t last_used; /* by the generation of this number, or later ones */
};

struct process {
    struct system system;
    struct admin *admin;
    struct seats *admin_seats;
    struct list logs;
    struct queue_thread *queue; /* owned; NULL: no configuration had a queue yet */
    uint64_t n_generations;
    struct thread *threads;
    struct mailbox **mailboxes; /* by thread; references */
    unsigned n_pthreads;        /* beside thread 0 */
    unsigned n_open, n_closed;  /* of them */
    unsigned n_let_go;          /* threads that need the queue's log no more, having been taken over from */
    bool takes_over;            /* from another process, at the start */
    struct fiber *fiber;        /* thread 0's main fiber */
    struct io signals;
    bool reload_again; /* a signal asked for a reload while something was under way */
    bool changing;     /* a reload or an upgrade is under way */
    bool handed_over;  /* to another process, which has our sockets */
    unsigned actions;  /* fibers of reloads and upgrades that run */
    int exit_code;
    char *program; /* the path that this process was started from */
};

/* ---- thread.c ---- */

/* Runs main_fiber on a loop of this thread's own, until no fiber is left. 0 or a negative errno. */
int thread_run_loop(struct thread *thread, void (*main_fiber)(void *), void *arg);
void thread_end_loop(struct thread *thread);
/* Starts the other threads; those that have started are counted in n_pthreads. 0 or a negative errno. */
int threads_start(struct process *process);
void threads_tell(struct process *process, enum order order);
/* In the thread's main fiber: serves until it has drained. */
void thread_serve(struct thread *thread);

/* ---- queues.c ---- */

/* Makes the state folder where it is not there, for the user that the process is to become. Before privileges are dropped. */
int queues_make_folder(const struct config *config, char why[LISTEN_WHY_MAX]);
/* Opens the log and starts the queue thread; *queue NULL with 0: the configuration has no queue. takes_over: the log is another
 * process's, which lets go of it once this one serves. Blocks. */
int queues_open(const struct config *config, bool takes_over, struct queue_thread **queue,
                char why[LISTEN_WHY_MAX]);
/* Makes the broker's queues and topics those of the configuration, and waits until that is on disk. What is not in it any more
 * stays while it has messages. 0 or a negative errno; it has said why. */
int queues_declare(struct queue_port *port, const struct config *config);
/* The same without waiting, for when the log is not there yet. 0 or -ENOMEM. */
int queues_declare_later(struct queue_port *port, const struct config *config);

/* On the thread. */
void queues_open_port(struct thread *thread, struct queue_thread *queue);
/* Opens its port, and pushes by this scene from now on. */
void queues_enter(struct thread *thread, struct scene *scene);
/* Pushes take nothing more, and end once what they have under way is done, or was broken off by queues_hurry. */
void queues_stop(struct thread *thread);
void queues_hurry(struct thread *thread);
/* No push is left. */
void queues_close_port(struct thread *thread);
/* In a process that was taken over from, which drains since then: whether the thread can do without the log. */
bool queues_may_let_go(struct thread *thread, uint64_t since_us);
/* Closes the port before the thread ends; once all have, the log is closed. */
void queues_let_go(struct thread *thread);

/* ---- change.c: one configuration takes the place of another ---- */

struct change; /* private to change.c */

/* On the control thread, or before it serves: what there is to do; opens access logs. NULL with why. Takes a reference
 * on config. */
struct change *change_create(struct process *process, const struct config *config, char why[LISTEN_WHY_MAX]);
/* Opens the sockets of new listeners. Blocks: not on a loop's thread that serves. 0, or a negative errno with why. */
int change_open(struct change *change, char why[LISTEN_WHY_MAX]);
/* Opens the queue's log where this is the first configuration with a queue. Blocks likewise; as the user that serves. */
int change_open_queue(struct change *change, char why[LISTEN_WHY_MAX]);
/* On the control thread, in a fiber: everything that can fail. 0 or a negative errno; nothing has changed then, and
 * the change is to be abandoned. */
int change_prepare(struct change *change);
/* The configuration is in force, before anything is waited for. Frees change. */
void change_commit(struct change *change);
void change_abandon(struct change *change);

/* Frees generations and logs that nobody uses any more. */
void change_sweep(struct process *process);

/* ---- reload.c, upgrade.c: struct system's actions; result NULL as in action_run ---- */

void reload(struct system *system, struct system_result *result);
void upgrade(struct system *system, struct system_result *result);
/* At the start, when there is a process that this one takes over from: learns what it knew of the servers, and tells it
 * that this one is ready. */
void upgrade_take_over(struct process *process);
void upgrade_say_ready(void);
/* Whether this process was started to take over from another one. Before upgrade_say_ready. */
bool upgrade_is_under_way(void);

/* Runs an action in a fiber of its own and waits for its result; the action goes on when the waiting fiber is
 * cancelled. result NULL: does not wait, and may be called where nobody can; why it cannot begin is logged. */
void action_run(struct process *process, const char *name,
                void (*run)(struct process *process, struct system_result *result),
                struct system_result *result);

/* ---- server.c ---- */

struct process *process_of(struct system *system);
void process_raise_descriptor_limit(const struct config *config);
/* The process is on its way out; again: at once. why: "SIGTERM", for the log. */
void process_drain(struct process *process, const char *why);
/* Removes the file of its unix socket, once, when it owns that. */
void process_forget_file(struct process_listener *pl);

#endif
