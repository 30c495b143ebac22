/* config.h - what the configuration file says, as an immutable snapshot.
 *
 * config_load reads, checks and completes a file; what it returns never changes and may be read by any thread while
 * somebody holds a reference. Every pointer in it is owned by it. Times are microseconds, sizes bytes, unless a name
 * says otherwise; 0 means what the option's row in config/table.c says (mostly: off).
 * Names, defaults and bounds stand in one place: the rows of config/table.c. */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/address.h"
#include "base/pattern.h"
#include "base/slice.h"

/* Where a thing stands in the file, for messages. */
struct config_place {
    const char *file;
    int line;
};

enum balance_strategy {
    BALANCE_ROUND_ROBIN,
    BALANCE_LEAST_CONNECTIONS,
    BALANCE_IP_HASH,
    BALANCE_CONSISTENT_HASH,
    BALANCE_RANDOM_TWO,
    BALANCE_LEAST_LATENCY,
};

enum hash_key_kind {
    HASH_KEY_IP,
    HASH_KEY_HOST,
    HASH_KEY_PATH,
    HASH_KEY_URI,
    HASH_KEY_HEADER,
    HASH_KEY_COOKIE,
    HASH_KEY_QUERY,
};

/* The header with the client's addresses that a server gets at the start of each connection. */
enum proxy_version { PROXY_NONE, PROXY_V1, PROXY_V2 };

struct config_server {
    struct config_place place;
    const char *name; /* the title as written; unique in its pool */
    struct address address;
    unsigned weight;          /* 1 to 256 */
    unsigned max_connections; /* 0: the pool's */
    bool backup;
    bool drain; /* takes no new requests */
    enum proxy_version send_proxy;
};

#define CONFIG_EXPECT_WITHIN 4096

struct config_health {
    bool active;         /* a health section is there */
    const char *path;    /* NULL: expect, or else a TCP connect, is enough */
    const char *host;    /* Host field of the check; NULL: the server's name */
    struct slice send;   /* without path, before expect; empty: nothing is sent */
    struct slice expect; /* without path, in the first CONFIG_EXPECT_WITHIN bytes; empty: nothing is read */
    unsigned status_low, status_high; /* expected, both inclusive */
    uint64_t interval_us;
    uint64_t fast_interval_us; /* while changing */
    uint64_t timeout_us;
    unsigned rise, fall;
    uint64_t slow_start_us; /* 0: off */
};

struct config_ejection {
    unsigned failures; /* in a row; 0: never ejected */
    uint64_t time_us;  /* times the number of ejections in a row */
    uint64_t time_most_us;
    unsigned share_percent; /* of the pool's servers at the most; never the last one */
};

struct config_pool {
    struct config_place place;
    const char *name;
    enum balance_strategy balance;
    enum hash_key_kind hash_key;
    const char *hash_key_name; /* of header, cookie, query; else NULL */
    unsigned virtual_nodes;    /* per unit of weight */
    double load_bound;         /* 0: off; else at least 1 */
    struct config_server *servers;
    size_t n_servers; /* at least 1 */
    size_t order;     /* among the sections of the file */
    struct config_health health;
    struct config_ejection ejection;
    unsigned retries;
    unsigned retry_budget_percent;
    uint64_t connect_timeout_us;
    uint64_t response_timeout_us; /* longest silence while waiting for or reading an answer */
    unsigned max_connections;     /* per server; 0: no limit */
    unsigned max_queue;           /* requests that may wait in line */
    uint64_t queue_timeout_us;
    uint64_t idle_timeout_us;     /* of kept upstream connections */
    unsigned max_idle;            /* kept per server and thread; 0: none is kept */
    unsigned max_requests;        /* over one upstream connection; 0: no limit */
    uint64_t max_age_us;          /* of an upstream connection; 0: no limit */
    uint64_t resolve_interval_us; /* of servers given by name */
};

/* Answers that an option is about; both inclusive. */
struct config_status_range {
    unsigned low, high;
};

/* Messages of a queue on their way to a pool, over HTTP. */
struct config_push {
    bool active; /* a push section is there */
    const struct config_pool *pool;
    const char *path;                    /* NULL: that of the request, or "/" where there was none */
    double rate;                         /* messages per second; 0: no limit */
    unsigned burst;                      /* of the rate: this many at once after a pause */
    unsigned concurrency;                /* messages on their way at a time, at least 1 */
    uint64_t timeout_us;                 /* of a whole delivery */
    struct config_status_range *dead_on; /* answers that are never retried; in order, none touches the next */
    size_t n_dead_on;
    const char *order_by; /* a header's name: one message on its way for each of its values; NULL: none */
    uint64_t max_answer;  /* of an answer that is kept for whoever waits for it; 0: none is kept */
};

struct config_retry {
    unsigned attempts; /* deliveries of a message, the first included; 0: no end */
    uint64_t first_us; /* the wait after the first; each is twice the one before */
    uint64_t most_us;  /* at least first_us */
};

enum queue_overflow { OVERFLOW_REJECT_NEW, OVERFLOW_DROP_OLDEST, OVERFLOW_DEAD_LETTER };

struct config_queue {
    struct config_place place;
    const char *name;                       /* unique among queues and topics */
    size_t order;                           /* among the sections of the file */
    const struct config_queue *dead_letter; /* NULL: what is given up is dropped; no circle is ever made */
    unsigned max_length;                    /* messages; 0: no limit */
    uint64_t max_bytes;                     /* of heads and bodies; 0: no limit */
    uint64_t max_age_us;                    /* 0: no limit */
    enum queue_overflow overflow;           /* at max_length or max_bytes */
    uint64_t ack_timeout_us;
    uint64_t max_message; /* of one head and body */
    struct config_push push;
    struct config_retry retry;
};

struct config_topic {
    struct config_place place;
    const char *name;
    size_t order;                       /* among the sections of the file */
    const struct config_queue **queues; /* by name, none twice */
    size_t n_queues;                    /* at least 1 */
};

/* A number that others measure and tell. */
struct config_gauge {
    struct config_place place;
    const char *name;
    size_t order;     /* among the sections of the file */
    double full;      /* above 0 */
    const char *unit; /* NULL: none */
    uint64_t expires_us;
};

/* How a worker gets its messages. */
enum worker_kind {
    WORKER_CONSUMER, /* by AMQP */
    WORKER_HTTP,     /* as requests */
    WORKER_FILTER,   /* a process for each */
};

struct config_command {
    const char *text; /* as written; NULL: there is none */
    char **words;     /* at least one, then NULL */
};

/* Of one section. */
#define CONFIG_WORKERS_MOST 1000u

struct config_workers {
    struct config_place place;
    const char *name;
    size_t order;                     /* among the sections of the file */
    const struct config_queue *queue; /* no other workers have it */
    struct config_command command;
    enum worker_kind kind;
    unsigned min, max; /* max is at least min and 1 */
    unsigned slots;    /* of one worker; WORKER_FILTER: 1 */
    unsigned backlog_per_worker;
    uint64_t drain_target_us;
    uint64_t cooldown_us;
    uint64_t stop_timeout_us;
    const struct config_gauge *gauge; /* NULL: nothing holds them back */
    const char *path; /* WORKER_HTTP; NULL: that of the request, or "/" where there was none */
    const char
        *health; /* WORKER_HTTP: path that answers while it is well; NULL: to accept a connection is enough */
    uint64_t start_timeout_us;      /* how long it may be without being ready; not WORKER_FILTER */
    const struct config_amqp *amqp; /* WORKER_CONSUMER with a command: the listener that it is to use */
};

enum condition_kind { CONDITION_HEADER, CONDITION_COOKIE, CONDITION_QUERY };

struct config_condition {
    enum condition_kind kind;
    struct slice name;
    bool any_value; /* present is enough */
    struct slice value;
};

enum route_action {
    ROUTE_POOL, /* with queue or topic: by spill */
    ROUTE_QUEUE,
    ROUTE_REDIRECT,
    ROUTE_RESPOND,
};

/* When a route with a pool stores requests instead. */
enum route_spill {
    SPILL_NO,
    SPILL_DOWN,      /* no server of the pool is usable */
    SPILL_SATURATED, /* that, or all are full and the line is */
};

struct config_route {
    struct config_place place;
    const char *name;  /* the path and its conditions, "/ methods=GET,HEAD cookie:canary"; see route_name.h */
    struct slice path; /* the prefix, starts with '/', no '/' at its end unless it is "/" */
    struct slice *hosts; /* lower case; "*.suffix" as written; sorted, none twice, as every list here */
    size_t n_hosts;      /* 0: any */
    struct slice *methods;
    size_t n_methods; /* 0: any */
    struct config_condition *conditions;
    size_t n_conditions;
    enum route_action action;
    const struct config_pool *pool; /* ROUTE_POOL */
    const struct config_queue
        *queue; /* this or topic with ROUTE_QUEUE, and with ROUTE_POOL where that spills */
    const struct config_topic *topic;
    enum route_spill spill;
    uint64_t delay_us;              /* how long a stored message waits at least */
    uint64_t max_wait_us;           /* the longest Prefer: wait; 0: none */
    uint64_t idempotency_window_us; /* 0: off */
    bool strip_prefix;
    int retries;          /* -1: the pool's */
    bool retry_with_key;  /* repeat POST and PATCH that carry an Idempotency-Key */
    const char *redirect; /* ROUTE_REDIRECT: with {host}, {uri}, {rest} */
    unsigned status;      /* of redirect and respond */
    struct slice body;    /* ROUTE_RESPOND */
};

struct config_http {
    struct config_place place;
    struct address address;
    const char *name;       /* the title as written */
    const char *access_log; /* a path, "-", or NULL: off */
    struct ip_network *trusted_proxies;
    size_t n_trusted_proxies;
    struct ip_network *accept_proxy; /* peers that must start with a PROXY protocol header */
    size_t n_accept_proxy;
    struct config_route *routes; /* in the order of the file; front/http sorts them by precedence */
    size_t n_routes;
    uint64_t head_timeout_us;   /* from a head's first byte to its last */
    uint64_t idle_timeout_us;   /* between requests */
    uint64_t body_timeout_us;   /* longest silence while a body is read, or an answer is written */
    uint64_t rate_grace_us;     /* min_rate counts after this long */
    uint64_t min_rate;          /* bytes per second of a body, either way; 0: off */
    uint64_t tunnel_timeout_us; /* silence both ways */
    size_t max_head;            /* bytes of request line and fields */
    size_t max_line;            /* bytes of the request line */
    unsigned max_fields;
    uint64_t max_body;     /* 0: no limit */
    unsigned max_requests; /* per connection; 0: no limit */
    size_t order;          /* among the sections of the file */
};

struct config_tcp {
    struct config_place place;
    struct address address;
    const char *name;                /* the title as written */
    const struct config_pool *pool;  /* its strategy needs to know no request */
    uint64_t idle_timeout_us;        /* silence both ways */
    struct ip_network *accept_proxy; /* peers that must start with a PROXY protocol header */
    size_t n_accept_proxy;
    size_t order; /* among the sections of the file */
};

struct config_pattern {
    const char *text;
    const struct pattern *compiled;
};

/* Somebody who may log in at an amqp listener. */
struct config_user {
    struct config_place place;
    const char *name;          /* unique in its listener; 1 to CONFIG_AMQP_NAME_MAX bytes, as AMQP has them */
    const char *password;      /* as it is; exactly one of this and the next is there, the other NULL */
    const char *password_hash; /* as base/password.h takes it */
    struct ip_network *from;
    size_t n_from;                                /* 0: any address */
    struct slice *virtual_hosts;                  /* sorted, none twice */
    size_t n_virtual_hosts;                       /* at least 1 */
    struct config_pattern configure, write, read; /* names of queues and exchanges that it may do this to */
    bool administrator;                           /* may do everything in the management interface */
};

#define CONFIG_AMQP_NAME_MAX 255 /* bytes of a short text in AMQP 0-9-1 */

struct config_amqp {
    struct config_place place;
    struct address address;
    const char *name;                /* the title as written */
    struct ip_network *accept_proxy; /* peers that must start with a PROXY protocol header */
    size_t n_accept_proxy;
    uint64_t frame_max;            /* bytes of a frame, its head and end included */
    unsigned channel_max;          /* channels of a connection, 1 to 65535 */
    uint64_t heartbeat_us;         /* whole seconds, up to 65535; 0: off */
    uint64_t handshake_timeout_us; /* from the first byte to connection.open */
    uint64_t max_message;          /* bytes of a body */
    struct config_user *users;     /* in the order of the file */
    size_t n_users;                /* at least 1 */
    size_t order;                  /* among the sections of the file */
};

struct config_admin {
    struct config_place place;
    struct address address;
    const char *name;  /* the title as written */
    const char *token; /* NULL: none is needed; the address is of this machine then */
    size_t order;      /* among the sections of the file */
};

struct config {
    unsigned threads; /* at least 1 */
    const char *user; /* NULL: stay who we are */
    uint64_t drain_timeout_us;
    unsigned max_connections;   /* of clients, all listeners together */
    const char *state;          /* folder of the queue's log; without a queue nothing is there */
    uint64_t state_max;         /* bytes of that log; 0: what the disk gives */
    uint64_t state_segment;     /* bytes of a file of it, a power of two */
    struct config_admin *admin; /* NULL: there is none */
    struct config_http *http;
    size_t n_http;
    struct config_tcp *tcp;
    size_t n_tcp;
    struct config_amqp *amqp; /* where there is one there is a log, as with queues */
    size_t n_amqp;
    struct config_pool *pools;
    size_t n_pools;
    struct config_queue *queues;
    size_t n_queues;
    struct config_topic *topics; /* where there is one there is a queue */
    size_t n_topics;
    struct config_workers *workers;
    size_t n_workers;
    struct config_gauge *gauges;
    size_t n_gauges;
};

/* Whether it has anything that is kept in a log. */
static inline bool config_has_log(const struct config *config)
{
    return config->n_queues || config->n_amqp;
}

/* Reads and checks a file. Every error goes to errors as "file:line: what; what to do", one a line.
 * Returns NULL when there was one, else the caller has the one reference. Blocks: not on a loop's thread once that
 * serves. */
struct config *config_load(const char *file, FILE *errors);
/* The same for text that is already there; name is shown in errors, and its folder is where included files are
 * looked for. */
struct config *config_parse(const char *name, struct slice text, FILE *errors);

/* References may be taken and given back on any thread; the last one given back frees it. NULL is allowed. */
const struct config *config_ref(const struct config *config);
void config_unref(const struct config *config);

/* NULL: there is none of that name. */
const struct config_pool *config_pool_find(const struct config *config, const char *name);
const struct config_queue *config_queue_find(const struct config *config, const char *name);
const struct config_topic *config_topic_find(const struct config *config, const char *name);
const struct config_workers *config_workers_find(const struct config *config, const char *name);
/* "consumer" */
const char *config_worker_kind_name(enum worker_kind kind);
const struct config_gauge *config_gauge_find(const struct config *config, const char *name);

/* Writes the reference of every section and option (Markdown or roff), from the same rows. */
void config_write_reference(FILE *out);
void config_write_manual(FILE *out);

#endif
