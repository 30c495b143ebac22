/* table_queue.c - the sections of queues: see table.h. */
#include "config/config.h"
#include "config/rows.h"
#include "config/value.h"

static const char *const overflows[] = {
    [OVERFLOW_REJECT_NEW] = "reject-new",
    [OVERFLOW_DROP_OLDEST] = "drop-oldest",
    [OVERFLOW_DEAD_LETTER] = "dead-letter",
    NULL,
};

static const struct config_row queue_rows[] = {
    {.name = "dead-letter",
     .type = &config_type_queue,
     .without = "none; they are dropped",
     .offset = offsetof(struct config_queue, dead_letter),
     .help = "Queue where messages go that are given up, or too old, with the reason."},
    NUMBER("max-length", "0", 0, 4000 * MILLION, "no limit", config_queue, max_length,
           "Most messages that wait in it."),
    SIZE("max-bytes", "0", 0, UINT64_C(1) << 50, "no limit", config_queue, max_bytes,
         "Most bytes that wait in it, of bodies and of the fields that came by HTTP."),
    TIME("max-age", "0", MS, 3650 * DAY, "no limit", config_queue, max_age_us,
         "How long a message may wait; then it goes to dead-letter, or is dropped."),
    {.name = "overflow",
     .type = &config_type_choice,
     .text = "reject-new",
     .choices = overflows,
     .offset = offsetof(struct config_queue, overflow),
     .help =
         "What happens at max-length or max-bytes: new messages are refused, or the oldest are dropped, or "
         "go to dead-letter."},
    TIME("ack-timeout", "30m", 100 * MS, 30 * DAY, NULL, config_queue, ack_timeout_us,
         "How long a message may be unacknowledged before it is delivered again."),
    SIZE("max-message", "1m", 1024, 16 * MEGA, NULL, config_queue, max_message,
         "Largest body of a message; a larger one is answered 413."),
};

static const struct config_table *const inside_queue[] = {&config_table_push, &config_table_retry, NULL};

const struct config_table config_table_queue = {
    "queue",
    "NAME",
    "Messages that are kept on disk until they are acknowledged. Once it is there it stays, also when it is "
    "taken "
    "out of the file, until it is empty.",
    ROWS(queue_rows),
    inside_queue,
};

static const struct config_row push_rows[] = {
    {.name = "pool",
     .type = &config_type_pool,
     .without = "none; it must be given",
     .offset = offsetof(struct config_push, pool),
     .help = "Pool that messages are delivered to."},
    {.name = "path",
     .type = &config_type_path,
     .without = "that of the request, or / where there was none",
     .offset = offsetof(struct config_push, path),
     .help = "Path that is asked for."},
    {.name = "rate",
     .type = &config_type_rate,
     .text = "0",
     .high = MILLION,
     .zero = "no limit",
     .offset = offsetof(struct config_push, rate),
     .help = "Most messages per time, such as 500/s, 60/m or 1000/h."},
    NUMBER("burst", "1", 1, MILLION, NULL, config_push, burst,
           "Messages that may be delivered at once after a pause, whatever the rate."),
    NUMBER("concurrency", "10", 1, 10000, NULL, config_push, concurrency,
           "Most messages on their way at a time."),
    TIME("timeout", "30s", MS, DAY, NULL, config_push, timeout_us,
         "How long a delivery may take, answer included."),
    {.name = "dead-on",
     .type = &config_type_status_list,
     .without = "none",
     .low = 100,
     .high = 599,
     .offset = offsetof(struct config_push, dead_on),
     .length_offset = offsetof(struct config_push, n_dead_on),
     .help =
         "Statuses that are never tried again: the message goes to dead-letter at once. Every other one but "
         "2xx is."},
    {.name = "order-by",
     .type = &config_type_field,
     .without = "none",
     .offset = offsetof(struct config_push, order_by),
     .help =
         "With header:NAME, messages with the same value of that field are delivered one after the other, in "
         "order."},
    SIZE("max-answer", "64k", 0, MEGA, "none is kept", config_push, max_answer,
         "Largest answer that is passed on to a client who waits for it."),
};

const struct config_table config_table_push = {
    "push",
    NULL,
    "Delivers the queue's messages to a pool by HTTP. An answer 2xx acknowledges; 429 and 503 with "
    "Retry-After make "
    "the whole push wait; all else is tried again.",
    ROWS(push_rows),
    config_nothing_inside,
};

static const struct config_row retry_rows[] = {
    {.name = "attempts",
     .type = &config_type_number,
     .without = "20 with dead-letter, else no end",
     .low = 1,
     .high = MILLION,
     .zero = "no end",
     .offset = offsetof(struct config_retry, attempts),
     .help = "Attempts after which a message is given up."},
    TIME("first", "1s", MS, DAY, NULL, config_retry, first_us,
         "Wait after the first attempt; each is twice the one before, less up to a quarter by chance."),
    TIME("most", "5m", MS, 30 * DAY, NULL, config_retry, most_us, "The longest wait."),
};

const struct config_table config_table_retry = {
    "retry",
    NULL,
    "How messages are tried again. It holds also without this section.",
    ROWS(retry_rows),
    config_nothing_inside,
};

static const struct config_row topic_rows[] = {
    {.name = "queues",
     .type = &config_type_queues,
     .without = "none; it must be given",
     .offset = offsetof(struct config_topic, queues),
     .length_offset = offsetof(struct config_topic, n_queues),
     .help = "Queues each of which gets every message."},
};

const struct config_table config_table_topic = {
    "topic",
    "NAME",
    "One event, many readers: a message is stored once, and is in every queue of the topic.",
    ROWS(topic_rows),
    config_nothing_inside,
};
