/* children.h - the processes whose parent this one is, also those that it got because their own parents had ended.
 *
 * They are read from /proc/self, which shows them whatever else is hidden there (hidepid, a unit's ProtectProc); where the kernel
 * has no such list all of /proc is looked through. One that comes or goes meanwhile may be missed: look again. */
#ifndef WORKERS_CHILDREN_H
#define WORKERS_CHILDREN_H

#include <sys/types.h>

void children_each(void (*each)(pid_t child, void *arg), void *arg);

#endif
