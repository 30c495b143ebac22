/* redis_client.h - what amqp_load needs to talk to Redis instead: a stream that is added to, requests pipelined. */
#ifndef BENCH_REDIS_CLIENT_H
#define BENCH_REDIS_CLIENT_H

#include "base/slice.h"

#define REDIS_IN_BYTES 65536

struct redis_link {
    int fd;
    uint64_t answers;
    char in[REDIS_IN_BYTES];
    size_t in_bytes; /* of an answer that is not whole */
};

void redis_link_open(struct redis_link *link, const char *host, const char *port);
/* XADD with a body of that many bytes. Returns its length; *body_at is where the body starts. */
size_t redis_put_request(char *at, const char *stream, size_t body_bytes, size_t *body_at);
/* Reads once. Returns how many requests were answered; an error that Redis reports ends the program. */
uint64_t redis_link_read(struct redis_link *link);

#endif
