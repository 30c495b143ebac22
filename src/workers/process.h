/* process.h - processes that the keeper has for us, and the way to the keeper.
 *
 * The keeper is started with the first process, and again when it was killed, which ends all processes that it had.
 * A keeper that says nothing for KEEPER_ANSWER_US while it is asked whether it is there (it was stopped, or its disk is stuck) is
 * killed, so that nobody waits for ever. A process that outlives SIGKILL (it may not be killed, or hangs in the kernel) is said to
 * have ended, with an event, for no other may suffer from it. Processes are started a few at a time, in the order in which they were asked for.
 * Threads: a keeper and its processes belong to one thread. Fibers that wait here must not be cancelled: a process is ended by
 * signals. Errors: 0 or a negative errno. */
#ifndef WORKERS_PROCESS_H
#define WORKERS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "fiber/loop.h"
#include "workers/environment.h"

#define KEEPER_ANSWER_US UINT64_C(10000000)

struct keeper;

enum process_state { PROCESS_NONE, PROCESS_STARTING, PROCESS_RUNS, PROCESS_ENDED };

#define PROCESS_NAME_MAX 96

struct process {
    struct keeper *keeper;
    struct list list; /* of the keeper's */
    uint64_t id;
    enum process_state state;
    int pid;
    char name[PROCESS_NAME_MAX];
    int status;           /* PROCESS_ENDED: as waitpid has it */
    bool lost;            /* PROCESS_ENDED: with its keeper, which is no fault of its own */
    int error;            /* why it did not start */
    struct fiber *waiter; /* woken when the state changes */
};

struct process_options {
    const char *name;   /* what it is, for an event */
    char *const *words; /* then NULL */
    const struct environment *environment;
    int fds[3];           /* what become 0, 1 and 2; -1: /dev/null. They stay the caller's. */
    const bool *unwanted; /* once true: what still waits in line is not started. NULL: it never is */
};

/* Starts nothing yet. NULL: no memory. */
struct keeper *keeper_create(void);
/* In a fiber. Its processes, if there are any left, are killed with all of theirs. */
void keeper_free(struct keeper *keeper);
/* 0: none. */
int keeper_pid(const struct keeper *keeper);

/* In a fiber, which becomes its waiter. 0: it runs. Otherwise it does not: what exec says (-ENOENT, -EACCES, ...), -E2BIG, or what
 * keeps the keeper from running; -EPIPE: the keeper was lost meanwhile; -ECANCELED: it is unwanted. */
int process_start(struct process *process, struct keeper *keeper, const struct process_options *options);
/* To its whole group; nothing where it has ended. */
void process_signal(struct process *process, int signal);
/* In the waiter: until it is in that state no more, which the keeper has been told to bring about. One that runs has been sent
 * SIGKILL. */
void process_await(struct process *process, enum process_state state);
/* "exit code 3", "signal 9 (Killed)". */
void process_status_text(int status, char text[64]);

#endif
