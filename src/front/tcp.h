/* tcp.h - the TCP kind of listener: bytes to a pool and back, no questions.
 *
 * Threads: a service belongs to its thread's scene. */
#ifndef FRONT_TCP_H
#define FRONT_TCP_H

#include "front/listener.h"

extern const struct listener_kind tcp_listener_kind;

/* config is of the scene's generation. NULL: no memory. */
struct service *tcp_service_create(const struct config_tcp *config, struct scene *scene);

#endif
