/* table.c - see table.h. A section's rows stand in the order in which the manual shows them and values are stored. */
#include "config/table.h"

#include <string.h>

#include "config/config.h"
#include "config/rows.h"
#include "config/value.h"

const struct config_table *const config_nothing_inside[] = {NULL};

/* --- the top of the file ------------------------------------------------------------------------ */

static const struct config_row top_rows[] = {
    {.name = "threads",
     .type = &config_type_number,
     .text = "0",
     .high = 256,
     .zero = "one per online CPU",
     .offset = offsetof(struct config, threads),
     .restart = true,
     .help = "Threads that serve; each has its own connections."},
    {.name = "user",
     .type = &config_type_text,
     .without = "the user that started it",
     .offset = offsetof(struct config, user),
     .restart = true,
     .help = "User to become once every address is open, when started as root."},
    TIME("drain-timeout", "30s", 0, DAY, "requests are cut off at once", config, drain_timeout_us,
         "How long requests may take to finish when it stops."),
    NUMBER("max-connections", "10000", 1, MILLION, NULL, config, max_connections,
           "Most connections of clients at a time, over all listeners."),
    {.name = "state",
     .type = &config_type_text,
     .text = "/var/lib/maitred",
     .offset = offsetof(struct config, state),
     .restart = true,
     .help = "Folder where the queues keep their log. Nothing is made there while neither a queue nor an "
             "amqp listener is in the file."},
    {.name = "state-max",
     .type = &config_type_size,
     .text = "0",
     .low = 16 * MEGA,
     .high = UINT64_C(1) << 50,
     .zero = "what the disk gives",
     .offset = offsetof(struct config, state_max),
     .restart = true,
     .help = "Most bytes that the log takes on disk; what would not fit is refused."},
    {.name = "state-segment",
     .type = &config_type_size,
     .text = "64m",
     .low = MEGA,
     .high = GIGA,
     .offset = offsetof(struct config, state_segment),
     .restart = true,
     .help = "Size of the log's files, a power of two. A log that is there keeps its own."},
};

static const struct config_table *const inside_top[] = {
    &config_table_admin, &config_table_http,  &config_table_tcp,     &config_table_amqp,  &config_table_pool,
    &config_table_queue, &config_table_topic, &config_table_workers, &config_table_gauge, NULL,
};

const struct config_table config_table_top = {
    "", NULL, "Options that stand outside any section.", ROWS(top_rows), inside_top,
};

/* --- admin ---------------------------------------------------------------------------------------- */

static const struct config_row admin_rows[] = {
    {.name = "token",
     .type = &config_type_token,
     .without = "none is asked for",
     .low = 16,
     .high = 256,
     .offset = offsetof(struct config_admin, token),
     .secret = true,
     .help =
         "Characters that every request must carry, as Authorization: Bearer TOKEN; needed where others than "
         "this machine can connect."},
};

const struct config_table config_table_admin = {
    "admin",
    "ADDRESS",
    "The listener for those who run it: state, metrics, reload. There is one at the most. ADDRESS is "
    "HOST:PORT, "
    "[IPV6]:PORT, :PORT for every address, or unix:/PATH.",
    ROWS(admin_rows),
    config_nothing_inside,
};

/* --- http ----------------------------------------------------------------------------------------- */

static const struct config_row http_rows[] = {
    {.name = "access-log",
     .type = &config_type_text,
     .without = "off",
     .offset = offsetof(struct config_http, access_log),
     .help = "File that gets a line of JSON for each request; \"-\" is standard output."},
    {.name = "trusted-proxies",
     .type = &config_type_networks,
     .without = "none",
     .offset = offsetof(struct config_http, trusted_proxies),
     .length_offset = offsetof(struct config_http, n_trusted_proxies),
     .help = "Networks of the proxies in front, whose X-Forwarded fields are believed."},
    {.name = "accept-proxy",
     .type = &config_type_networks,
     .without = "none",
     .offset = offsetof(struct config_http, accept_proxy),
     .length_offset = offsetof(struct config_http, n_accept_proxy),
     .help = "Networks of the peers that must start each connection with a PROXY protocol header, version 1 "
             "or 2; "
             "others are taken as they are."},
    TIME("head-timeout", "10s", MS, DAY, NULL, config_http, head_timeout_us,
         "How long the head of a request may take, from its first byte to its last."),
    TIME("idle-timeout", "75s", MS, DAY, NULL, config_http, idle_timeout_us,
         "How long a connection may wait for its next request."),
    TIME("body-timeout", "30s", MS, DAY, NULL, config_http, body_timeout_us,
         "Longest silence while the body of a request is read, or an answer is written."),
    TIME("rate-grace", "10s", 0, DAY, "min-rate counts from the first byte", config_http, rate_grace_us,
         "How long a body may be slower than min-rate at its start."),
    SIZE("min-rate", "240", 0, GIGA, "off", config_http, min_rate,
         "Bytes per second that a body must move at, in either direction."),
    TIME("tunnel-timeout", "1h", MS, 30 * DAY, NULL, config_http, tunnel_timeout_us,
         "Longest silence in both directions of an upgraded connection, such as a WebSocket."),
    SIZE("max-head", "32k", 256, MEGA, NULL, config_http, max_head,
         "Largest head of a request: its first line and all fields."),
    SIZE("max-line", "8k", 256, MEGA, NULL, config_http, max_line,
         "Longest first line of a request; never more than max-head."),
    NUMBER("max-fields", "128", 1, 4096, NULL, config_http, max_fields,
           "Most fields in the head of a request."),
    SIZE("max-body", "100m", 0, UINT64_C(1) << 50, "no limit", config_http, max_body,
         "Largest body of a request."),
    NUMBER("max-requests", "10000", 0, 1000 * MILLION, "no limit", config_http, max_requests,
           "Most requests over one connection."),
};

static const struct config_table *const inside_http[] = {&config_table_route, NULL};

const struct config_table config_table_http = {
    "http",
    "ADDRESS",
    "A listener for HTTP. ADDRESS is HOST:PORT, [IPV6]:PORT, :PORT for every address, or unix:/PATH.",
    ROWS(http_rows),
    inside_http,
};

static const char *const spills[] = {
    [SPILL_NO] = "no",
    [SPILL_DOWN] = "down",
    [SPILL_SATURATED] = "saturated",
    NULL,
};

static const struct config_row route_rows[] = {
    {.name = "host",
     .type = &config_type_hosts,
     .without = "any",
     .offset = offsetof(struct config_route, hosts),
     .length_offset = offsetof(struct config_route, n_hosts),
     .help = "Hosts that the route is for; \"*.NAME\" means every name that ends so."},
    {.name = "methods",
     .type = &config_type_methods,
     .without = "any",
     .offset = offsetof(struct config_route, methods),
     .length_offset = offsetof(struct config_route, n_methods),
     .help = "Methods that the route is for, in capitals."},
    {.name = "pool",
     .type = &config_type_pool,
     .without = "none",
     .offset = offsetof(struct config_route, pool),
     .help = "Pool that requests are passed on to."},
    {.name = "queue",
     .type = &config_type_queue,
     .without = "none",
     .offset = offsetof(struct config_route, queue),
     .help =
         "Queue that requests are stored in; the answer is 202 once they are on disk. With a pool too, only "
         "those "
         "that spill, or whose client prefers it (Prefer: respond-async)."},
    {.name = "topic",
     .type = &config_type_topic,
     .without = "none",
     .offset = offsetof(struct config_route, topic),
     .help = "Topic that requests are stored in, in place of a queue."},
    {.name = "redirect",
     .type = &config_type_redirect,
     .without = "none",
     .offset = offsetof(struct config_route, redirect),
     .help = "Where the client is sent instead; {host}, {uri} and {rest} (the path after the prefix) are "
             "replaced."},
    {.name = "status",
     .type = &config_type_redirection,
     .text = "308",
     .help = "Status of the redirect: 301, 302, 303, 307 or 308."},
    /* after status, whose default it replaces */
    {.name = "respond",
     .type = &config_type_respond,
     .without = "none",
     .low = 200,
     .high = 599,
     .help = "Status that is answered without asking a server."},
    {.name = "body",
     .type = &config_type_body,
     .without = "empty",
     .offset = offsetof(struct config_route, body),
     .help = "Body of the answer that respond gives."},
    YES_NO("strip-prefix", "no", config_route, strip_prefix,
           "Whether the prefix is cut off the path before the request is passed on."),
    {.name = "retries",
     .type = &config_type_number,
     .without = "the pool's",
     .low = 0,
     .high = 10,
     .zero = "never",
     .offset = offsetof(struct config_route, retries),
     .help = "How often a request that may be repeated is tried again on another server."},
    YES_NO("retry-with-key", "no", config_route, retry_with_key,
           "Whether POST and PATCH are repeated too when they carry an Idempotency-Key."),
    {.name = "spill",
     .type = &config_type_choice,
     .text = "no",
     .choices = spills,
     .offset = offsetof(struct config_route, spill),
     .help = "With a pool and a queue, when requests are stored: down, when no server of the pool is usable; "
             "saturated, also when all are full and the line is."},
    TIME("delay", "0", MS, 365 * DAY, "none", config_route, delay_us,
         "How long a stored request waits before it is delivered."),
    TIME("max-wait", "60s", MS, HOUR, "nobody waits", config_route, max_wait_us,
         "Longest that a client may wait for the worker's answer (Prefer: wait=SECONDS)."),
    TIME(
        "idempotency-window", "10m", MS, 7 * DAY, "off", config_route, idempotency_window_us,
        "How long a second request with the same Idempotency-Key is taken for the first; the last million of "
        "keys are "
        "remembered."),
};

static const struct config_table *const inside_route[] = {&config_table_header, &config_table_cookie,
                                                          &config_table_query, NULL};

const struct config_table config_table_route = {
    "route",
    "PREFIX",
    "What to do with requests whose path starts with PREFIX, whole segments only. The most specific route "
    "wins: a host "
    "before no host, then the longer prefix, then more conditions. One of pool, queue, topic, redirect and "
    "respond must "
    "be given.",
    ROWS(route_rows),
    inside_route,
};

static const struct config_row condition_rows[] = {
    {.name = "value", .type = &config_type_match, .without = "any", .help = "The value that it must have."},
};

const struct config_table config_table_header = {
    "header",
    "NAME",
    "The route is only for requests with this header field.",
    ROWS(condition_rows),
    config_nothing_inside,
};
const struct config_table config_table_cookie = {
    "cookie",
    "NAME",
    "The route is only for requests with this cookie.",
    ROWS(condition_rows),
    config_nothing_inside,
};
const struct config_table config_table_query = {
    "query",
    "NAME",
    "The route is only for requests with this parameter in the query.",
    ROWS(condition_rows),
    config_nothing_inside,
};

/* --- tcp ------------------------------------------------------------------------------------------ */

static const struct config_row tcp_rows[] = {
    {.name = "pool",
     .type = &config_type_pool,
     .without = "none; it must be given",
     .offset = offsetof(struct config_tcp, pool),
     .help = "Pool that connections are passed on to; its balance needs to know no request."},
    TIME("idle-timeout", "1h", MS, 30 * DAY, NULL, config_tcp, idle_timeout_us,
         "Longest silence in both directions of a connection."),
    {.name = "accept-proxy",
     .type = &config_type_networks,
     .without = "none",
     .offset = offsetof(struct config_tcp, accept_proxy),
     .length_offset = offsetof(struct config_tcp, n_accept_proxy),
     .help = "Networks of the peers that must start each connection with a PROXY protocol header, version 1 "
             "or 2; "
             "others are taken as they are."},
};

const struct config_table config_table_tcp = {
    "tcp",
    "ADDRESS",
    "A listener that passes connections on, whatever they speak. ADDRESS is HOST:PORT, [IPV6]:PORT, :PORT "
    "for every "
    "address, or unix:/PATH.",
    ROWS(tcp_rows),
    config_nothing_inside,
};

/* --- pool ----------------------------------------------------------------------------------------- */

static const char *const strategies[] = {
    [BALANCE_ROUND_ROBIN] = "round-robin",
    [BALANCE_LEAST_CONNECTIONS] = "least-connections",
    [BALANCE_IP_HASH] = "ip-hash",
    [BALANCE_CONSISTENT_HASH] = "consistent-hash",
    [BALANCE_RANDOM_TWO] = "random-two",
    [BALANCE_LEAST_LATENCY] = "least-latency",
    NULL,
};

static const struct config_row pool_rows[] = {
    {.name = "balance",
     .type = &config_type_choice,
     .text = "round-robin",
     .choices = strategies,
     .offset = offsetof(struct config_pool, balance),
     .help = "How a server is picked for a request."},
    {.name = "hash-key",
     .type = &config_type_hash_key,
     .text = "ip",
     .help = "With consistent-hash, what is hashed: ip, host, path, uri, header:NAME, cookie:NAME or "
             "query:NAME."},
    NUMBER("virtual-nodes", "160", 1, 10000, NULL, config_pool, virtual_nodes,
           "With consistent-hash, points on the ring per unit of a server's weight."),
    RATIO("load-bound", "1.25", 1, 100, "off", config_pool, load_bound,
          "With consistent-hash, no server gets more than this times the mean of requests in flight."),
    NUMBER("retries", "1", 0, 10, "never", config_pool, retries,
           "How often a request that may be repeated is tried again on another server."),
    NUMBER("retry-budget", "20", 0, 100, "never", config_pool, retry_budget_percent,
           "Most retries, as a percentage of requests."),
    TIME("connect-timeout", "4s", MS, DAY, NULL, config_pool, connect_timeout_us,
         "How long a connection to a server may take to open."),
    TIME("response-timeout", "60s", MS, DAY, NULL, config_pool, response_timeout_us,
         "Longest silence while an answer is waited for or read."),
    NUMBER("max-connections", "0", 0, MILLION, "no limit", config_pool, max_connections,
           "Most connections to one server at a time; further requests wait in line."),
    NUMBER("max-queue", "1024", 0, MILLION, "none waits", config_pool, max_queue,
           "Most requests that wait in line."),
    TIME("queue-timeout", "5s", MS, DAY, NULL, config_pool, queue_timeout_us,
         "How long a request may wait in line."),
    TIME("idle-timeout", "60s", MS, DAY, NULL, config_pool, idle_timeout_us,
         "How long a connection to a server is kept without a request."),
    NUMBER("max-idle", "1024", 0, MILLION, "none is kept", config_pool, max_idle,
           "Most idle connections kept, per server and thread."),
    NUMBER("max-requests", "1000", 0, 1000 * MILLION, "no limit", config_pool, max_requests,
           "Most requests over one connection to a server."),
    TIME("max-age", "1h", MS, 30 * DAY, "no limit", config_pool, max_age_us,
         "How old a connection to a server may get before it takes no more requests."),
    TIME("resolve-interval", "10s", 100 * MS, DAY, NULL, config_pool, resolve_interval_us,
         "How often the names of servers are looked up again."),
};

static const struct config_table *const inside_pool[] = {&config_table_server, &config_table_health,
                                                         &config_table_ejection, NULL};

const struct config_table config_table_pool = {
    "pool", "NAME", "Servers that can stand in for each other.", ROWS(pool_rows), inside_pool,
};

static const char *const proxy_versions[] = {
    [PROXY_NONE] = "no",
    [PROXY_V1] = "v1",
    [PROXY_V2] = "v2",
    NULL,
};

static const struct config_row server_rows[] = {
    NUMBER("weight", "1", 1, 256, NULL, config_server, weight,
           "Share of the requests, compared with the weights of the others."),
    YES_NO("backup", "no", config_server, backup, "Whether it is used only when no other server is up."),
    NUMBER("max-connections", "0", 0, MILLION, "the pool's", config_server, max_connections,
           "Most connections to it at a time."),
    YES_NO("drain", "no", config_server, drain, "Whether it gets no new requests."),
    {.name = "send-proxy",
     .type = &config_type_choice,
     .text = "no",
     .choices = proxy_versions,
     .offset = offsetof(struct config_server, send_proxy),
     .help = "Version of the PROXY protocol header, with the client's address, at the start of each "
             "connection to "
             "it. Connections are not kept for other clients' requests then."},
};

const struct config_table config_table_server = {
    "server",
    "ADDRESS",
    "A server of the pool. ADDRESS is HOST:PORT, [IPV6]:PORT, :PORT for this machine, or unix:/PATH. A name "
    "is looked up.",
    ROWS(server_rows),
    config_nothing_inside,
};

static const struct config_row health_rows[] = {
    {.name = "path",
     .type = &config_type_check_path,
     .without = "a connection is enough, or what expect says",
     .offset = offsetof(struct config_health, path),
     .help = "Path that is asked for, over HTTP."},
    {.name = "host",
     .type = &config_type_check_host,
     .without = "the server's name",
     .offset = offsetof(struct config_health, host),
     .help = "Host field of the request for path."},
    {.name = "expect-status",
     .type = &config_type_statuses,
     .text = "200-399",
     .low = 200,
     .high = 599,
     .help = "Status of a healthy answer to the request for path, or a range such as 200-399."},
    {.name = "send",
     .type = &config_type_bytes,
     .without = "nothing",
     .low = 1,
     .high = CONFIG_EXPECT_WITHIN,
     .offset = offsetof(struct config_health, send),
     .help = "Bytes to send where the servers do not speak HTTP; in double quotes \\r, \\n, \\t, \\\", \\\\ "
             "and \\xHH "
             "stand for bytes."},
    {.name = "expect",
     .type = &config_type_bytes,
     .without = "nothing",
     .low = 1,
     .high = CONFIG_EXPECT_WITHIN,
     .offset = offsetof(struct config_health, expect),
     .help = "Bytes that must come back, somewhere in the first 4096; written as those of send."},
    TIME("interval", "3s", 10 * MS, DAY, NULL, config_health, interval_us,
         "Time from one check to the next."),
    TIME("fast-interval", "500ms", 10 * MS, DAY, NULL, config_health, fast_interval_us,
         "The same, while a server is changing between up and down."),
    TIME("timeout", "2s", MS, DAY, NULL, config_health, timeout_us, "How long a check may take."),
    NUMBER("rise", "2", 1, 100, NULL, config_health, rise,
           "Good checks in a row after which a server is up."),
    NUMBER("fall", "3", 1, 100, NULL, config_health, fall,
           "Failed checks in a row after which a server is down."),
    TIME("slow-start", "0", MS, DAY, "off", config_health, slow_start_us,
         "Time over which a server that came up grows to its full weight."),
};

const struct config_table config_table_health = {
    "health",
    NULL,
    "Checks of the pool's servers. Without this section none is made.",
    ROWS(health_rows),
    config_nothing_inside,
};

static const struct config_row ejection_rows[] = {
    NUMBER("failures", "5", 0, 1000, "never", config_ejection, failures,
           "Failed requests in a row after which a server is left out for a while."),
    TIME("time", "10s", MS, DAY, NULL, config_ejection, time_us,
         "How long it is left out, times the number of ejections in a row."),
    TIME("most", "300s", MS, DAY, NULL, config_ejection, time_most_us,
         "The longest time that it is left out."),
    NUMBER("share", "50", 0, 100, "never", config_ejection, share_percent,
           "Most servers of the pool that are left out at a time, in percent; never the last one."),
};

const struct config_table config_table_ejection = {
    "ejection",
    NULL,
    "Leaves out servers whose requests fail. It is on also without this section.",
    ROWS(ejection_rows),
    config_nothing_inside,
};

/* -------------------------------------------------------------------------------------------------- */

const struct config_row *config_table_row(const struct config_table *table, const char *name)
{
    for (size_t i = 0; i < table->n_rows; i++)
        if (strcmp(table->rows[i].name, name) == 0)
            return &table->rows[i];
    return NULL;
}

const struct config_table *config_table_section(const struct config_table *table, const char *name)
{
    for (size_t i = 0; table->inside[i]; i++)
        if (strcmp(table->inside[i]->name, name) == 0)
            return table->inside[i];
    return NULL;
}
