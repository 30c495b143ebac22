/* tcp.c - see tcp.h.
 *
 * A client holds its thread's scene until it is connected to a server, so that a reload never waits for a tunnel. */
#include "front/tcp.h"

#include <stdlib.h>

#include "balance/tunnel.h"
#include "base/clock.h"
#include "wire/proxy.h"

/* How long a client that must begin with a PROXY header may take for it. */
#define PROXY_HEADER_US (10 * US_PER_S)

struct tcp_service {
    struct service service;
    const struct config_tcp *config;
};

struct tcp_client {
    struct client client;
    struct stream stream;
    struct tunnel tunnel;
    struct scene *scene; /* held; NULL: not any more */
};

static void stop_holding(struct tcp_client *client)
{
    if (client->scene)
        scene_release(client->scene);
    client->scene = NULL;
}

static void on_connected(struct tunnel *tunnel)
{
    stop_holding(container_of(tunnel, struct tcp_client, tunnel));
}

static struct tunnel tunnel_of(struct tcp_client *client, const struct config_tcp *config)
{
    const struct scene *scene = client->scene;
    struct listener_counters *counters = &client->client.at->counters;

    return (struct tunnel){
        .client = &client->stream,
        .pt = scene->pools[config->pool - scene->generation->config->pools],
        .source = &client->client.peer,
        .destination = client->client.proxied ? &client->client.proxied->destination : NULL,
        .idle_us = config->idle_timeout_us,
        .received = &counters->received_bytes,
        .sent = &counters->sent_bytes,
        .on_connected = on_connected,
    };
}

/* One client, from accept to close. */
static void run_client(struct client *base)
{
    struct tcp_client *client = container_of(base, struct tcp_client, client);
    const struct tcp_service *service = container_of(base->at->service, struct tcp_service, service);
    const struct config_tcp *config = service->config;

    client->scene = service->service.scene;
    scene_hold(client->scene);
    if (listener_open_client(base, &client->stream, config->accept_proxy, config->n_accept_proxy,
                             loop_deadline(PROXY_HEADER_US)) == 0) {
        client->tunnel = tunnel_of(client, config);
        if (tunnel_run(&client->tunnel) != 0)
            stream_reset_on_close(&client->stream);
        stream_close(&client->stream);
    }
    stop_holding(client);
}

const struct listener_kind tcp_listener_kind = {
    .name = "tcp",
    .client_bytes = sizeof(struct tcp_client),
    .run = run_client,
};

static void free_service(struct service *service)
{
    free(container_of(service, struct tcp_service, service));
}

struct service *tcp_service_create(const struct config_tcp *config, struct scene *scene)
{
    struct tcp_service *service = calloc(1, sizeof *service);

    if (!service)
        return NULL;
    service->service = (struct service){.scene = scene, .free = free_service};
    service->config = config;
    return &service->service;
}
