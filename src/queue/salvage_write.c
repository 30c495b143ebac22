/* salvage_write.c - a new log of what waits and can be read; see salvage.h. A start replays it from its beginning. */
#include <errno.h>
#include <stdlib.h>

#include "queue/salvage_private.h"
#include "queue/token.h"

/* Entries of a record of retries. */
#define RETRIES_MAX 1024u

/* ---- the new log -------------------------------------------------------------------------------------------------- */

static int compare_numbers(const void *a, const void *b)
{
    const struct fact *x = *(const struct fact *const *)a, *y = *(const struct fact *const *)b;

    if (x->number != y->number)
        return x->number < y->number ? -1 : 1;
    return (x->queue > y->queue) - (x->queue < y->queue);
}

static int append(struct log *log, uint8_t kind, const struct iovec *parts, int n)
{
    uint64_t position;

    return log_append(log, LOG_MORE, 0, kind, parts, n, &position);
}

static int append_message(struct log *log, struct message *m)
{
    char block[MESSAGE_BLOCK_BYTES];
    struct iovec parts[MESSAGE_PARTS];

    message_parts(m, block, parts);
    return append(log, RECORD_MESSAGE, parts, MESSAGE_PARTS);
}

/* One message, with the queues that it waits in. */
static int copy_message(const struct salvage *s, struct log_survey_reader *reader, struct storage *to,
                        struct log *log, struct fact *const *facts, size_t n)
{
    char targets[MESSAGE_TARGETS_MAX * sizeof(uint32_t)];
    struct log_record record;
    struct message m;
    int error;

    if (n > MESSAGE_TARGETS_MAX)
        return -EBADMSG;
    for (size_t i = 0; i < n; i++)
        put_u32le(targets + i * sizeof(uint32_t), facts[i]->queue);
    error = log_survey_read(reader, facts[0]->place, &record);
    if (error || !message_parse(record.payload, &m))
        return error ? error : -EBADMSG;
    m.targets = slice_of(targets, n * sizeof(uint32_t));
    m.removes = (struct message_ref){0};
    error = m.stored.id ? salvage_copy_body(s, m.stored, to, log) : 0;
    return error ? error : append_message(log, &m);
}

static int copy_messages(const struct salvage *s, struct storage *to, struct log *log)
{
    struct fact **by_number = calloc(s->n + 1, sizeof(struct fact *));
    struct log_survey_reader reader = {.survey = &s->survey};
    size_t n = 0, next;
    int error = by_number ? 0 : -ENOMEM;

    for (size_t i = 0; !error && i < s->n; i++)
        if (s->facts[i].place != NOWHERE)
            by_number[n++] = &s->facts[i];
    if (n)
        qsort(by_number, n, sizeof(struct fact *), compare_numbers);
    for (size_t i = 0; !error && i < n; i = next) {
        for (next = i + 1; next < n && by_number[next]->number == by_number[i]->number;)
            next++;
        error = copy_message(s, &reader, to, log, by_number + i, next - i);
    }
    log_survey_reader_free(&reader);
    free(by_number);
    return error;
}

/* Of queues with priorities each message that was delivered is said to be (append_retries). */
static int append_delivered(const struct salvage *s, struct log *log)
{
    int error = 0;

    for (const struct list *at = s->broker->queues.next; at != &s->broker->queues && !error; at = at->next) {
        const struct queue *queue = container_of(at, struct queue, link);
        char block[DELIVERED_BYTES];

        delivered_entry_put(block, &(struct message_ref){queue->id, queue->levels[0].delivered});
        if (queue->n_levels == 1 && queue->levels[0].delivered)
            error = append(log, RECORD_DELIVERED, &(struct iovec){block, sizeof block}, 1);
    }
    return error;
}

/* Of those that were tried before. */
static int append_retries(const struct salvage *s, struct log *log)
{
    char block[RETRIES_MAX * RETRY_BYTES];
    size_t most = log_promised_payload_max(log) / RETRY_BYTES, len = 0;
    int error = 0;

    if (most > RETRIES_MAX)
        most = RETRIES_MAX;
    for (size_t i = 0; i < s->n && !error; i++) {
        const struct fact *fact = &s->facts[i];

        if (fact->place == NOWHERE || !fact->redelivered)
            continue;
        retry_entry_put(block + len,
                        &(struct retry_entry){{fact->queue, fact->number}, fact->attempts, fact->due_us});
        len += RETRY_BYTES;
        if (len == most * RETRY_BYTES) {
            error = append(log, RECORD_RETRY, &(struct iovec){block, len}, 1);
            len = 0;
        }
    }
    return error || !len ? error : append(log, RECORD_RETRY, &(struct iovec){block, len}, 1);
}

/* A message in no queue: no number that was used is used again. */
static int append_last_number(const struct salvage *s, struct log *log)
{
    struct message m = {.number = s->next - 1, .origin = s->next - 1};

    for (size_t i = 0; i < s->n; i++)
        if (s->facts[i].number == m.number && s->facts[i].place != NOWHERE)
            return 0;
    return m.number ? append_message(log, &m) : 0;
}

/* So that messages keep their names. */
static int copy_key(struct storage *from, struct storage *to)
{
    char key[TOKEN_KEY_BYTES];
    struct storage_file *file;
    ssize_t n;
    int error = storage_open(from, QUEUE_KEY_FILE, false, &file);

    if (error)
        return error == -ENOENT ? 0 : error;
    n = storage_read(file, key, sizeof key, 0);
    storage_close(file);
    if (n < (ssize_t)sizeof key)
        return n < 0 ? (int)n : 0;
    error = storage_open(to, QUEUE_KEY_FILE, true, &file);
    if (error)
        return error;
    error = storage_write(file, &(struct iovec){key, sizeof key}, 1, 0);
    if (!error)
        error = storage_sync(file);
    storage_close(file);
    return error;
}

static int no_record(void *arg, const struct log_record *record)
{
    (void)arg;
    (void)record;
    return -EEXIST; /* it is not empty */
}

static int fill_log(const struct salvage *s, struct storage *to, struct log *log)
{
    int error;

    s->broker->log = log;
    error = topology_append(s->broker);
    if (!error)
        error = copy_messages(s, to, log);
    if (!error)
        error = append_last_number(s, log);
    if (!error)
        error = append_delivered(s, log);
    if (!error)
        error = append_retries(s, log);
    s->broker->log = NULL;
    return error ? error : log_commit(log);
}

int salvage_write(const struct salvage *s, struct storage *to, uint64_t id)
{
    struct log_options options = {.storage = to, .segment_bytes = s->survey.segment_bytes, .id = id};
    struct log_report report;
    struct log *log;
    int error = copy_key(s->survey.storage, to);

    if (!error)
        error = log_open(&log, &options, &report);
    if (error)
        return error;
    error = log_replay(log, no_record, NULL, &report);
    if (!error)
        error = fill_log(s, to, log);
    log_close(log);
    return error ? error : storage_sync_names(to);
}
