/* publishers.h - the sending side of amqp_load and redis_load: connections that send copies of one message, so many at
 * a time without an answer.
 *
 * Each publisher has a ring of copies of the message. Of a copy only the stamp is written anew, wherever it stands, so
 * that a message costs few instructions. Messages of a publisher are numbered from 1, as AMQP numbers its confirms.
 *
 * Closed loop: a message goes as soon as the window has room. With a rate, messages fall due by the clock whatever the
 * answers do; the next publisher with room takes each, and latency counts from when it was due.
 * What the system refuses ends the program. One thread. */
#ifndef BENCH_PUBLISHERS_H
#define BENCH_PUBLISHERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "histogram.h"

#define SECOND_NS 1000000000ull
#define NEVER UINT64_MAX

/* What a body starts with, in the machine's own byte order. */
struct stamp {
    uint64_t due_ns; /* of CLOCK_MONOTONIC */
    uint64_t number;
    uint32_t publisher;
    uint32_t run; /* another run's messages are told from this one's */
};
_Static_assert(sizeof(struct stamp) == 24, "bodies have at least that many bytes");

struct publisher {
    int fd;
    uint32_t id;
    char *ring;
    uint64_t sent_bytes; /* in all */
    uint64_t next;       /* number of the next message */
    uint64_t oldest;     /* number of the oldest one without an answer */
    uint64_t in_flight;
    uint64_t *due_ns; /* by number, of those in flight; 0: answered */
    bool stuck;       /* the socket takes no more: epoll says when it does */
};

struct publishers {
    struct publisher *all;
    unsigned n, turn; /* turn: whose it is to take the next message that is due */
    int epoll;
    uint32_t run;

    size_t message_bytes, stamp_at, slots;
    uint64_t window; /* 0: no answers */
    uint64_t spread; /* of numbers in flight: a power of 2 */

    uint64_t rate, start_ns, left; /* left: messages that may still be sent */
    uint64_t due;                  /* messages of the rate that were given to a publisher */

    uint64_t published, confirmed, nacked, strange; /* strange: answers to no message */
    uint64_t last_ns, sent_ns;                      /* of the last answer; when bytes were sent last */
    struct histogram latencies;
};

uint64_t now_ns(void);

/* all[i].fd is set and watched by epoll for EPOLLIN, with i as its data. message is copied. */
void publishers_open(struct publishers *ps, const char *message, size_t bytes, size_t stamp_at);
/* From now on left messages, at rate a second or (0) as fast as answers come; counters and latencies start at 0. */
void publishers_start(struct publishers *ps, uint64_t now, uint64_t rate, uint64_t left);
/* Sends what may be sent. Returns when the next message falls due: NEVER where an answer has to come first. */
uint64_t publishers_work(struct publishers *ps, uint64_t now);
/* All that was published is sent, and answered where answers come. */
bool publishers_settled(const struct publishers *ps);

/* The socket takes bytes again. */
void publisher_unstick(struct publishers *ps, struct publisher *p);
/* The answer to message number, or to all up to it; good: it was taken. */
void publisher_answered(struct publishers *ps, struct publisher *p, uint64_t number, bool multiple, bool good,
                        uint64_t now);

#endif
