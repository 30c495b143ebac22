/* model.h - the running system at one moment, as state and metrics show it.
 *
 * Who is there, and how it stands, is taken in one pass without a wait. References keep alive what that borrows, so what
 * a thread counts is summed up later, a few things at a turn. About 600 bytes a server or route, while it is written.
 * Threads: the control thread's. */
#ifndef ADMIN_MODEL_H
#define ADMIN_MODEL_H

#include "admin/queue_look.h"
#include "admin/sample.h"
#include "admin/standing.h"

#define MODEL_STATUSES 5 /* 1xx to 5xx */

/* What was counted: since the beginning, and in the last seconds. */
struct model_figures {
    uint64_t requests, errors;
    double rate, error_rate;                     /* per second */
    double p50_us, p90_us, p95_us, p99_us;       /* NAN: nothing was counted */
    uint64_t latency[HISTOGRAM_OTEL_BOUNDS + 1]; /* see histogram_counts */
    uint64_t latency_sum_us;
};

struct model_server {
    struct server *server; /* reference */
    enum standing standing;
    char reason[STANDING_TEXT_MAX];
    uint64_t since_us, checks_ok, checks_failed;
    unsigned weight, weight_now; /* weight_now in thousandths */
    struct control_hand hand;
    bool usable, backup;
    unsigned active, waiting, max_connections, idle;
    uint64_t ejections;
    uint64_t retries, errors[N_SERVER_ERRORS], sent_bytes, received_bytes;
    struct model_figures figures;
};

struct model_pool {
    struct pool *pool;                /* reference */
    const struct config_pool *config; /* of the model's */
    struct tally tally;
    enum level level;
    bool used; /* see survey_pool */
    unsigned in_line;
    uint64_t refused[N_POOL_REFUSALS];
    struct model_server *servers; /* part of the model's */
    size_t n_servers;             /* those that leave are the last ones */
    struct model_figures figures; /* of all its servers */
};

struct model_route {
    const struct config_route *config; /* NULL: of requests that no route took */
    const struct route_stats *stats;   /* the listener's shared holds it */
    uint64_t statuses[MODEL_STATUSES];
    struct model_figures figures;
};

struct model_listener {
    const void *key; /* of its series; may be gone */
    char *name;      /* owned */
    const char *kind;
    const struct config_tcp *tcp; /* of the model's config; NULL: another kind, or it drains */
    struct http_shared *shared;   /* reference; NULL: it drains, or is another kind */
    bool draining;
    uint64_t open, accepted, refused, received_bytes, sent_bytes;
    struct model_route *routes; /* part of the model's; the last one is that without a route */
    size_t n_routes;
    uint64_t statuses[MODEL_STATUSES];
    struct model_figures figures; /* of all its routes; a tcp listener's requests are its clients */
};

struct model_generation {
    uint64_t number, loaded_us;
    unsigned users; /* requests that still use it after its time */
};

struct model {
    const struct config *config; /* reference; in force */
    const char *file;
    uint64_t now_us, started_us, loaded_us, reloads,
        reloads_failed; /* now_us is monotonic, the others wall time */
    unsigned n_threads, connections, connections_max;
    bool drains, reload_failed;
    enum level level;
    struct model_generation *generations;
    size_t n_generations;
    struct model_listener *listeners; /* those that drain are the last ones */
    size_t n_listeners, n_draining;
    struct model_route *routes;
    size_t n_routes;
    struct model_pool *pools;
    size_t n_pools;
    struct model_server *servers;
    size_t n_servers;
    struct log_seen log;
    struct queue_look *look; /* owned; NULL: there is no queue, or its thread has not answered (look_error) */
    int look_error;
};

/* A listener's routes, where it has them, are part of the configuration in force; while a reload takes effect they may not
 * be, for a moment. shared may be NULL. */
bool model_has_routes(const struct http_shared *shared, const struct config *config);

/* Without what is counted. Does not wait. NULL: no memory. */
struct model *model_create(const struct system *system);
void model_free(struct model *model);

/* Looks at the queues, too. Waits by fiber for their thread. */
void model_look(struct model *model, const struct system *system);
/* Sums up what is counted. Waits by fiber, in between. */
void model_count(struct model *model, const struct sample *sample);
/* Adds a round to sample. Waits by fiber, in between. */
void model_sample(const struct model *model, struct sample *sample);

#endif
