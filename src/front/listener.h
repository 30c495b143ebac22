/* listener.h - a listening address over all threads: accepts clients, seats them at threads, drains.
 *
 * A listener has its sockets, which every one of its threads watches. Whoever accepts a client keeps it, or passes
 * it to the thread that has the fewest. What is done with a client is its kind's matter: a fiber each, from accept to
 * close. A listener outlives configurations: what changes with them is its service (scene.h).
 * Threads: struct listener_thread and the clients at it belong to that thread; struct listener is made and freed by
 * the control thread and shared by all. */
#ifndef FRONT_LISTENER_H
#define FRONT_LISTENER_H

#include "base/clock.h"
#include "base/counter.h"
#include "fiber/stream.h"
#include "front/scene.h"

/* Clients by thread, and how many may be. */
struct seats {
    unsigned n_threads;
    _Atomic unsigned max, total;
    struct {
        alignas(CACHE_LINE) _Atomic unsigned count;
    } threads[];
};

/* NULL: no memory. The caller frees it. */
struct seats *seats_create(unsigned n_threads, unsigned max);

struct client;

struct listener_kind {
    const char *name;
    size_t client_bytes; /* of the structure whose first member is struct client */
    /* In the client's fiber; returns when its connection is closed, which it does. */
    void (*run)(struct client *client);
    /* The listener drains: this client is not to begin anything new. NULL: nothing to do. */
    void (*drain)(struct client *client);
};

struct client {
    struct mail message;    /* brings it to the thread that will serve it */
    struct list list, idle; /* idle: waits for its next request, and may be sent away */
    struct listener_thread *at;
    struct fiber *fiber;
    int fd; /* until listener_open_client */
    struct endpoint peer;
    struct proxy_header *proxied; /* owned; what a relay before us said of both ends; NULL: nothing */
};

struct acceptor {
    struct listener_thread *at;
    struct io io;
    struct fiber *fiber;
};

struct listener_counters {
    struct counter accepted, refused;
    struct counter open;
    struct counter received_bytes, sent_bytes;
};

struct listener_thread {
    struct listener *listener;
    unsigned thread;
    struct mailbox *mailbox; /* reference */
    struct service *service; /* as of now; the scene's */
    struct acceptor *acceptors;
    struct list clients, idle; /* idle: the longest first */
    struct list early;         /* passed on to us before we had a service */
    struct list list;          /* its owner's */
    struct wait_queue left;    /* a client has gone, or the deadline was changed */
    struct fiber *fiber;       /* from start to closed */
    _Atomic unsigned coming;   /* clients that other threads are passing on to this one */
    bool draining;
    uint64_t deadline_us;   /* of draining: who is left is cut off */
    uint64_t complained_us; /* when we last said that there is no room */
    struct listener_counters counters;
    void (*closed)(struct listener_thread *at); /* on its thread, when its last client has gone */
    void *owner;
};

struct listener {
    const struct listener_kind *kind;
    char *name; /* owned */
    int *fds;   /* owned; each closed, and then -1, by the last thread to drain */
    size_t n_fds;
    struct seats *seats;        /* borrowed */
    _Atomic unsigned accepting; /* threads that have not drained */
    unsigned n_threads;
    struct listener_thread *threads;
};

/* Takes fds over (also when there is no memory: then NULL is returned, and they are closed). It serves on the first
 * n_threads threads. */
struct listener *listener_create(const struct listener_kind *kind, const char *name, int *fds, size_t n_fds,
                                 struct seats *seats, struct mailbox *const *mailboxes, unsigned n_threads);
/* No thread has it any more, or none ever had. */
void listener_free(struct listener *listener);

/* On its thread, in a fiber. Starts accepting. Has a service. 0; or a negative errno: it is to be drained, when it has a
 * fiber, and is closed already, when it has none. */
int listener_thread_start(struct listener_thread *at);
/* How long a client that waits for its next request, or comes to wait for it, may still send one while its listener
 * drains. */
#define LISTENER_LAST_REQUEST_US US_PER_S

/* Stops accepting; clients end after what they are at, idle ones after that moment, so that a request that is on its way
 * still gets its answer; who is left at deadline_us is cut off. Again: with another deadline. */
void listener_thread_drain(struct listener_thread *at, uint64_t deadline_us);

/* Makes the client's stream, and reads the PROXY header, which clients of these networks must send, by deadline_us. 0;
 * else the connection is closed. */
int listener_open_client(struct client *client, struct stream *stream, const struct ip_network *proxies,
                         size_t n_proxies, uint64_t deadline_us);
#endif
