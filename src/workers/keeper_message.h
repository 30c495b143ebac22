/* keeper_message.h - what maitred and its keeper say to each other: one packet each, from and to the same binary. */
#ifndef WORKERS_KEEPER_MESSAGE_H
#define WORKERS_KEEPER_MESSAGE_H

#include <stdint.h>

#define KEEPER_MESSAGE_MAX 32768u

enum keeper_verb {
    KEEPER_START,  /* texts: words, then variables, a NUL after each; with descriptors */
    KEEPER_SIGNAL, /* value: the signal */
    KEEPER_ASK,    /* whether it is there: KEEPER_HERE is the answer */
    KEEPER_HERE,
    KEEPER_STARTED, /* value: the process */
    KEEPER_FAILED,  /* value: the errno; it did not start */
    KEEPER_REFUSED, /* value: the errno; it may not be killed */
    KEEPER_ENDED,   /* value: as waitpid has it */
};

struct keeper_message {
    uint32_t verb;
    int32_t value;
    uint64_t id; /* of the process, given by maitred, never twice to one keeper */
    uint32_t n_words, n_variables;
    uint32_t descriptors; /* a bit for each of 0, 1 and 2 that comes along; the others become /dev/null */
};

#endif
