/* keeper.h - the process that starts workers, and ends them: `maitred keeper`, which maitred starts for itself.
 *
 * It has one thread, a session of its own, and none of maitred's descriptors but one end of a pair of sockets. So a worker is
 * never forked from a process with threads, and there is somebody left when maitred is killed: once the other end is closed,
 * whoever is below the keeper is killed, workers, their children, and what those left behind, for the keeper is their subreaper.
 * A keeper that is killed itself takes its workers along (PR_SET_PDEATHSIG); what they left behind goes to maitred then, a subreaper,
 * too, which ends what has KEEPER_VARIABLE, and starts another keeper.
 *
 * Each worker leads a session of its own, and is signalled with all of its process group. When it ends by itself, what is left of
 * the group is killed; when it was asked to (SIGTERM) its end is that of the last in the group, which may be in the middle of its own,
 * or SIGKILL. */
#ifndef WORKERS_KEEPER_H
#define WORKERS_KEEPER_H

/* The argument that makes maitred a keeper, and the descriptor of its socket then. */
#define KEEPER_COMMAND "keeper"
#define KEEPER_FD 3
/* How it is called in ps: nobody who kills by the name of maitred is to kill it, too. */
#define KEEPER_NAME "workers-keeper"
/* In the environment of all below it: its process. */
#define KEEPER_VARIABLE "MAITRED_KEEPER"

/* All that the process does. Returns its exit code: 2 where it was not started by maitred. */
int keeper_main(void);

#endif
