/* table_workers.c - the sections of workers, and of the gauges that hold them back: see table.h. */
#include "config/config.h"
#include "config/rows.h"
#include "config/value.h"

static const char *const kinds[] = {
    [WORKER_CONSUMER] = "consumer",
    [WORKER_HTTP] = "http",
    [WORKER_FILTER] = "filter",
    NULL,
};

const char *config_worker_kind_name(enum worker_kind kind)
{
    return kinds[kind];
}

static const struct config_row workers_rows[] = {
    {.name = "queue",
     .type = &config_type_queue,
     .without = "none; it must be given",
     .offset = offsetof(struct config_workers, queue),
     .help = "Queue whose messages they take."},
    {.name = "command",
     .type = &config_type_command,
     .without = "none is started; how many there should be is still worked out",
     .high = 4096,
     .offset = offsetof(struct config_workers, command),
     .help =
         "Program that is started for each worker, and its arguments: words as in a shell, but no shell runs "
         "them. The program is looked for in PATH; where its name has a / in it, from the working folder."},
    {.name = "kind",
     .type = &config_type_choice,
     .text = "consumer",
     .choices = kinds,
     .offset = offsetof(struct config_workers, kind),
     .help = "How a worker gets its messages: consumer takes them by AMQP, with what it finds in AMQP_URL; "
             "http is "
             "sent each as a request, to the port in PORT; filter is started anew for each, which is its "
             "standard "
             "input."},
    NUMBER("min", "1", 0, CONFIG_WORKERS_MOST, NULL, config_workers, min, "Workers that are always there."),
    NUMBER("max", "0", 1, CONFIG_WORKERS_MOST, "twice the online CPUs, or min where that is more",
           config_workers, max, "Most workers."),
    NUMBER("slots", "1", 1, 65535, NULL, config_workers, slots, "Messages that one worker has at a time."),
    NUMBER("backlog-per-worker", "5", 1, MILLION, NULL, config_workers, backlog_per_worker,
           "Messages, waiting and in work, that one worker is enough for, while it is not known how long one "
           "takes."),
    TIME("drain-target", "10s", 100 * MS, DAY, NULL, config_workers, drain_target_us,
         "Time in which a backlog should be gone."),
    TIME("cooldown", "60s", 0, DAY, "at once", config_workers, cooldown_us,
         "How long fewer must have been enough before there are fewer."),
    TIME("stop-timeout", "30s", 100 * MS, DAY, NULL, config_workers, stop_timeout_us,
         "How long a worker that is to stop may take to finish what it has, and from SIGTERM to SIGKILL."),
    {.name = "gauge",
     .type = &config_type_gauge,
     .without = "none",
     .offset = offsetof(struct config_workers, gauge),
     .help = "Gauge while which is full no worker is added."},
    {.name = "path",
     .type = &config_type_path,
     .without = "that of the request, or / where there was none",
     .offset = offsetof(struct config_workers, path),
     .help = "Path that a worker of kind http is asked for."},
    {.name = "health",
     .type = &config_type_path,
     .without = "none; one that accepts connections is ready",
     .offset = offsetof(struct config_workers, health),
     .help = "Path by which a worker of kind http says that it is well: it gets messages while that answers "
             "200 to 399."},
    TIME("start-timeout", "60s", 100 * MS, DAY, NULL, config_workers, start_timeout_us,
         "How long a worker of kind consumer or http may take to be ready, or not be ready any more, before "
         "it is killed and started again. A consumer is ready while it consumes from its queue, or asks it "
         "for messages."),
};

const struct config_table config_table_workers = {
    "workers",
    "NAME",
    "Processes that work a queue off: as many as it needs, started again when they end. Those that are taken "
    "away "
    "finish what they have first.",
    ROWS(workers_rows),
    config_nothing_inside,
};

static const struct config_row gauge_rows[] = {
    {.name = "full",
     .type = &config_type_ratio,
     .without = "none; it must be given",
     .high = UINT64_C(1) << 50,
     .offset = offsetof(struct config_gauge, full),
     .help = "Value from which on it is full."},
    {.name = "unit",
     .type = &config_type_text,
     .without = "none",
     .offset = offsetof(struct config_gauge, unit),
     .help = "What is counted, for people: connections."},
    TIME("expires", "30s", 100 * MS, DAY, NULL, config_gauge, expires_us,
         "How long a value is believed; then it is unknown, and holds nothing back."),
};

const struct config_table config_table_gauge = {
    "gauge",
    "NAME",
    "A number that somebody else measures, such as the connections of a database, and tells by POST "
    "/api/gauges/NAME of the admin listener. While it is full, the workers that have it are not made more.",
    ROWS(gauge_rows),
    config_nothing_inside,
};
