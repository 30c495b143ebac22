/* amqp.h - the AMQP 0-9-1 kind of listener: what any RabbitMQ client finds; docs/amqp.md.
 *
 * Threads: a service belongs to its thread's scene; connections hold it over reloads. */
#ifndef FRONT_AMQP_AMQP_H
#define FRONT_AMQP_AMQP_H

#include "front/listener.h"

extern const struct listener_kind amqp_listener_kind;

/* config is of the scene's generation. NULL: no memory. */
struct service *amqp_service_create(const struct config_amqp *config, struct scene *scene);

#endif
