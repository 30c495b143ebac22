/* salvage.c - see salvage.h, and salvage_private.h for how. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "queue/broker_saved.h"
#include "queue/salvage_private.h"

#define LINE_MAX 256

void salvage_say(const struct salvage *s, const char *format, ...)
{
    char line[LINE_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    s->damage(s->arg, line);
}

/* ---- what a start would do ---------------------------------------------------------------------------------------- */

static void ignore_delivery(void *arg, struct broker_consumer *consumer, const struct broker_delivery *d)
{
    (void)arg;
    (void)consumer;
    (void)d;
}

static void ignore_ending(void *arg, const struct broker_ending *ending)
{
    (void)arg;
    (void)ending;
}

static const struct broker_events no_events = {.deliver = ignore_delivery, .ended = ignore_ending};

/* In memory. Until where it would take up records is what counts. */
static void try_start(struct salvage *s)
{
    struct storage *shadow = storage_open_shadow(s->survey.storage);
    struct log_options of_log = {.storage = shadow, .segment_bytes = s->survey.segment_bytes};
    struct broker_options of_broker = {.storage = shadow, .events = &no_events, .now_us = clock_wall_us()};
    struct broker *broker = NULL;
    struct log *log = NULL;

    s->start_result = shadow ? log_open(&log, &of_log, &s->report) : -ENOMEM;
    of_broker.log = log;
    if (!s->start_result)
        s->start_result = broker_open(&broker, &of_broker, &s->report);
    if (!s->start_result)
        s->end = broker_replayed_end(broker);
    if (broker)
        broker_close(broker);
    if (log)
        log_close(log);
    if (shadow)
        storage_close_shadow(shadow);
}

/* ---- what is damaged ---------------------------------------------------------------------------------------------- */

/* Of a segment that the checkpoint neither points into nor begins replay in, nothing is needed: it may have been used again, and be
 * whatever a crash left of that. */
static bool is_needed(const struct salvage *s, uint64_t number)
{
    struct slice segments = s->segments;
    struct saved_segment segment;

    if (!s->survey.state || number >= s->survey.state_position / s->survey.segment_bytes)
        return true;
    while (saved_take_segment(&segments, &segment))
        if (segment.number == number)
            return segment.live > 0;
    return false;
}

static void note_gap(void *arg, const struct survey_segment *segment, uint32_t offset, uint32_t bytes)
{
    const struct salvage *s = arg;

    if (is_needed(s, segment->number) && segment->number * s->survey.segment_bytes + offset < s->end)
        salvage_say(s, "%s (segment %" PRIu64 "): %" PRIu32 " bytes from offset %" PRIu32 " on do not verify",
                    segment->name, segment->number, bytes, offset);
}

static void note_segment(void *arg, const struct survey_segment *segment, uint32_t used)
{
    const struct salvage *s = arg;

    (void)used;
    if (segment->header_lost && is_needed(s, segment->number))
        salvage_say(s,
                    "%s (segment %" PRIu64
                    "): its header does not verify; which segment it is was told by its records",
                    segment->name, segment->number);
}

static void note_missing(void *arg, uint64_t number, uint64_t n)
{
    const struct salvage *s = arg;

    if (n == 1)
        salvage_say(s, "segment %" PRIu64 " is not there", number);
    else
        salvage_say(s, "segments %" PRIu64 " to %" PRIu64 " are not there", number, number + n - 1);
}

/* ---- adding up ---------------------------------------------------------------------------------------------------- */

static int compare_facts(const void *a, const void *b)
{
    const struct fact *x = a, *y = b;

    if (x->queue != y->queue)
        return x->queue < y->queue ? -1 : 1;
    if (x->number != y->number)
        return x->number < y->number ? -1 : 1;
    if (x->place != y->place)
        return x->place < y->place ? -1 : 1;
    return (x->kind > y->kind) - (x->kind < y->kind);
}

static bool is_deleted(const struct salvage *s, uint32_t queue)
{
    for (size_t i = 0; i < s->n_deleted; i++)
        if (s->deleted[i] == queue)
            return true;
    return false;
}

/* The first fact of a queue, or of one behind it, from number on. */
static size_t first_of(const struct salvage *s, uint32_t queue, uint64_t number)
{
    size_t low = 0, high = s->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct fact *fact = &s->facts[middle];

        if (fact->queue < queue || (fact->queue == queue && fact->number < number))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Of which priority it is, its message's facts say. Where none does, too many may have been delivered. */
static void apply_mark(const struct salvage *s, struct queue *queue, const struct mark *mark)
{
    unsigned first = 0, last = queue->n_levels - 1;

    for (size_t i = first_of(s, mark->queue, mark->number);
         i < s->n && s->facts[i].queue == mark->queue && s->facts[i].number == mark->number; i++)
        if (s->facts[i].has_priority)
            first = last = (unsigned)(queue_level(queue, s->facts[i].priority) - queue->levels);
    for (unsigned i = first; i <= last; i++)
        if (queue->levels[i].delivered < mark->number)
            queue->levels[i].delivered = mark->number;
}

static void apply_marks(const struct salvage *s)
{
    for (size_t i = 0; i < s->n_marks; i++) {
        struct queue *queue = broker_queue_by_id(s->broker, s->marks[i].queue);

        if (queue)
            apply_mark(s, queue, &s->marks[i]);
    }
}

/* Of a queue without priorities the new log says how far it had delivered. */
static bool was_delivered(const struct salvage *s, const struct fact *message)
{
    const struct queue *queue = broker_queue_by_id(s->broker, message->queue);

    return queue && queue->n_levels > 1 && !message->due_us && !message->was_delayed &&
           message->number <= queue_level(queue, message->priority)->delivered;
}

/* What becomes of a message: false: it does not wait. */
static bool add_up(const struct fact *facts, size_t n, struct fact *message)
{
    bool waits = false;

    *message = facts[0];
    message->place = NOWHERE;
    for (size_t i = 0; i < n; i++) {
        const struct fact *fact = &facts[i];

        message->was_delayed |= fact->was_delayed;
        if (fact->has_priority)
            message->priority = fact->priority;
        switch ((enum fact_kind)fact->kind) {
        case FACT_RECORD:
            message->place = fact->place;
            message->stored = fact->stored;
            waits |= fact->waits;
            break;
        case FACT_KNOWN:
        case FACT_RETRY:
            message->attempts = fact->attempts;
            message->due_us = fact->due_us;
            message->redelivered = fact->redelivered;
            waits = true;
            break;
        case FACT_DONE:
            waits = false;
            break;
        }
    }
    return waits;
}

static void add_up_all(struct salvage *s)
{
    size_t n = 0, next;
    struct fact message;

    if (s->n)
        qsort(s->facts, s->n, sizeof *s->facts, compare_facts);
    apply_marks(s);
    for (size_t i = 0; i < s->n; i = next) {
        for (next = i + 1; next < s->n && s->facts[next].queue == s->facts[i].queue &&
                           s->facts[next].number == s->facts[i].number;)
            next++;
        if (add_up(s->facts + i, next - i, &message) &&
            (broker_queue_by_id(s->broker, message.queue) || !is_deleted(s, message.queue))) {
            message.redelivered |= was_delivered(s, &message);
            s->facts[n++] = message;
        }
    }
    s->n = n;
}

/* What a slot held, and no record tells of any more. */
static void note_ranges(const struct salvage *s)
{
    for (size_t i = 0; i < s->n_ranges; i++) {
        const struct range *r = &s->ranges[i];
        size_t n = first_of(s, r->queue, r->behind) - first_of(s, r->queue, r->first);

        if (n < READY_SLOT_ENTRIES)
            salvage_say(s,
                        "up to %zu messages between the numbers %" PRIu64 " and %" PRIu64
                        " of queue id %" PRIu32 " are lost, with the index that named them",
                        READY_SLOT_ENTRIES - n, r->first, r->behind - 1, r->queue);
    }
}

/* Messages of a queue whose declaration is gone need one. */
static int name_queues(struct salvage *s)
{
    struct broker_queue_options options = {
        .ack_timeout_us = 30 * 60 * US_PER_S, .retry_first_us = US_PER_S, .retry_most_us = 300 * US_PER_S};
    char name[64];

    for (size_t i = 0; i < s->n; i++) {
        uint32_t id = s->facts[i].queue;
        int len = snprintf(name, sizeof name, "salvaged-%" PRIu32, id);

        if (broker_queue_by_id(s->broker, id))
            continue;
        while (broker_queue(s->broker, slice_of(name, (size_t)len)) && len < (int)sizeof name - 1)
            name[len++] = '-';
        if (!queue_create(s->broker, id, slice_of(name, (size_t)len), &options))
            return -ENOMEM;
        salvage_say(s, "the declaration of the queue with id %" PRIu32 " is lost; its messages are in %.*s",
                    id, len, name);
    }
    return 0;
}

/* ---- the whole ---------------------------------------------------------------------------------------------------- */

static void note_files(const struct salvage *s)
{
    const struct log_survey *survey = &s->survey;
    for (size_t i = 0; i < survey->n_unknown; i++)
        salvage_say(s, "%s: nothing in it belongs to this log, or can be read", survey->unknown[i]);
    if (!survey->state && survey->n_segments && survey->segments[0].number)
        salvage_say(s,
                    "no checkpoint is whole: messages that left their queue before segment %" PRIu64
                    " may come once more",
                    survey->segments[0].number);
}

static int look(struct salvage *s)
{
    static const struct log_survey_events survey_events = {

        .record = salvage_take_record, .gap = note_gap, .segment = note_segment, .missing = note_missing};
    int error;

    if (!s->survey.segment_bytes)
        return -ENODATA;
    s->broker = broker_create(&(struct broker_options){.events = &no_events, .now_us = clock_wall_us()});
    if (!s->broker)
        return -ENOMEM;
    s->broker->replaying = true;
    try_start(s);
    note_files(s);
    error = s->survey.state ? salvage_know_checkpoint(s) : 0;
    if (error == -EBADMSG) {
        salvage_say(s, "the checkpoint cannot be understood");
        error = -EPROTONOSUPPORT;
    }
    if (!error)
        error = log_survey_walk(&s->survey, &survey_events, s);
    if (error)
        return error;
    add_up_all(s);
    note_ranges(s);
    error = salvage_look_at_bodies(s);
    return error ? error : name_queues(s);
}

int salvage_open(struct salvage **result, struct storage *storage,
                 void (*damage)(void *arg, const char *text), void *arg)
{
    struct salvage *s = calloc(1, sizeof *s);
    int error;

    *result = NULL;
    if (!s)
        return -ENOMEM;
    s->damage = damage;
    s->arg = arg;
    s->end = UINT64_MAX;
    s->next = 1;
    error = log_survey_open(&s->survey, storage);
    if (!error)
        error = look(s);
    if (error) {
        salvage_close(s);
        return error;
    }
    *result = s;
    return 0;
}

void salvage_close(struct salvage *s)
{
    if (s->broker)
        broker_close(s->broker);
    log_survey_free(&s->survey);
    free(s->facts);
    free(s->ranges);
    free(s->marks);
    free(s->deleted);
    free(s->bodies);
    free(s);
}

const struct log_survey *salvage_survey(const struct salvage *s)
{
    return &s->survey;
}

int salvage_start_result(const struct salvage *s, const struct log_report **report)
{
    *report = &s->report;
    return s->start_result;
}

uint64_t salvage_limit(const struct salvage *s)
{
    return s->end;
}

/* ---- telling ------------------------------------------------------------------------------------------------------ */

void salvage_each_queue(const struct salvage *s, void (*each)(void *arg, const struct salvage_queue *queue),
                        void *arg)
{
    for (const struct list *at = s->broker->queues.next; at != &s->broker->queues; at = at->next) {
        const struct queue *queue = container_of(at, struct queue, link);
        struct salvage_queue told = {.name = queue->name};

        for (size_t i = first_of(s, queue->id, 0); i < s->n && s->facts[i].queue == queue->id; i++) {
            told.readable += s->facts[i].place != NOWHERE;
            told.lost += s->facts[i].place == NOWHERE;
        }
        each(arg, &told);
    }
}

void salvage_each_lost(const struct salvage *s, void (*each)(void *arg, struct slice queue, uint64_t number),
                       void *arg)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->facts[i].place == NOWHERE)
            each(arg, broker_queue_by_id(s->broker, s->facts[i].queue)->name, s->facts[i].number);
}
