/* amqp_client.h - one connection of amqp_load to an AMQP 0-9-1 server, with one channel.
 *
 * Set-up blocks: connect, log in, call methods one by one. Then the socket is made non-blocking, and frames are taken
 * from large reads where they lie. Whatever ends the channel or the connection ends the program with what the server
 * said. One thread. */
#ifndef BENCH_AMQP_CLIENT_H
#define BENCH_AMQP_CLIENT_H

#include "wire/amqp.h"

#define AMQP_CHANNEL 1
#define LINK_IN_BYTES (256u << 10)
#define LINK_OUT_BYTES (256u << 10)

struct amqp_login {
    const char *host, *port, *user, *password, *vhost;
};

struct amqp_link {
    int fd;
    struct amqp_frame_limits limits;
    char *in, *out;
    size_t in_from, in_to; /* bytes that were read and not taken */
    size_t out_from;       /* bytes of out that were sent */
    struct amqp_out cursor;
};

void amqp_link_open(struct amqp_link *link, const struct amqp_login *login);
/* Blocks until the answer with that id is there; its slices stay until the next read. */
void amqp_link_call(struct amqp_link *link, const struct amqp_method *method, enum amqp_method_id answer_id,
                    struct amqp_method *answer);
void amqp_link_unblock(struct amqp_link *link);

/* Reads once. False: nothing is there. */
bool amqp_link_read(struct amqp_link *link);
/* The next whole frame of what was read. */
bool amqp_link_take(struct amqp_link *link, struct amqp_frame *frame);
/* The method of a frame. */
void amqp_link_method(struct amqp_frame frame, struct amqp_method *method);
/* A method that the caller has no use for: ends the program unless it can be passed over. */
void amqp_link_pass_over(const struct amqp_method *method);

/* Puts a method to what goes out; the caller leaves room for it. */
void amqp_link_put(struct amqp_link *link, const struct amqp_method *method);
size_t amqp_link_unsent(const struct amqp_link *link);
/* Sends what goes out, as far as the socket takes it. */
void amqp_link_flush(struct amqp_link *link);

#endif
