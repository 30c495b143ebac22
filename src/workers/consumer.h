/* consumer.h - workers that take their messages by AMQP: each process has a login of its own (front/amqp/pass.h), in AMQP_URL. */
#ifndef WORKERS_CONSUMER_H
#define WORKERS_CONSUMER_H

#include "config/config.h"

#define CONSUMER_HOST_MAX 160u

/* Where a process of this machine finds the listener, as in a URL: "127.0.0.1:5672". */
void consumer_host(const struct config_amqp *amqp, char text[CONSUMER_HOST_MAX]);

#endif
