/* value_queue.c - the types of options that only queues, pushes and topics have: see value.h. */
#include "config/value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/reading.h"

/* --- names -------------------------------------------------------------------------------------- */

/* The queue or topic itself is found once all are known: check_queue.c. */
static bool read_name(const struct config_reading *reading)
{
    return config_only_value(reading) != NULL;
}

static void write_queue(const struct config_row *row, const void *section, FILE *out)
{
    const struct config_queue *queue;

    memcpy(&queue, (const char *)section + row->offset, sizeof queue);
    if (queue)
        config_write_word(slice_from_text(queue->name), out);
}

static void write_topic(const struct config_row *row, const void *section, FILE *out)
{
    const struct config_topic *topic;

    memcpy(&topic, (const char *)section + row->offset, sizeof topic);
    if (topic)
        config_write_word(slice_from_text(topic->name), out);
}

static bool read_queues(const struct config_reading *reading)
{
    const struct config_queue **queues = config_room_for_values(reading, sizeof *queues);
    size_t n = 0;

    for (const struct config_value *value = reading->values; value; value = value->next)
        n++;
    if (queues)
        config_set_list(reading, queues, n);
    return queues != NULL;
}

static void write_queues(const struct config_row *row, const void *section, FILE *out)
{
    const struct config_topic *topic = section;

    (void)row;
    for (size_t i = 0; i < topic->n_queues; i++) {
        fputs(i ? ", " : "{ ", out);
        config_write_word(slice_from_text(topic->queues[i]->name), out);
    }
    if (topic->n_queues)
        fputs(" }", out);
}

/* --- rates -------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    double seconds;
} periods[] = {{"/s", 1}, {"/m", 60}, {"/h", 3600}};

static bool read_rate(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);
    size_t digits;
    double rate;
    const char *rest;

    if (!value)
        return false;
    digits = strspn(value->text, "0123456789");
    rest = value->text + digits;
    if (digits && *rest == '.')
        rest += 1 + strspn(rest + 1, "0123456789");
    rate = digits ? strtod(value->text, NULL) : -1;
    if (digits && !*rest && rate == 0) {
        memcpy(config_field(reading), &rate, sizeof rate);
        return true;
    }
    for (size_t i = 0; digits && i < sizeof periods / sizeof *periods; i++) {
        if (strcmp(rest, periods[i].name) != 0)
            continue;
        rate /= periods[i].seconds;
        if (rate <= 0 || rate > (double)reading->row->high)
            return config_refuse(
                reading, value, "%s = " SHOWN " is out of bounds; write at most %llu/s, or 0 (%s)",
                reading->row->name, value->text, (unsigned long long)reading->row->high, reading->row->zero);
        memcpy(config_field(reading), &rate, sizeof rate);
        return true;
    }
    return config_refuse(reading, value, "%s = " SHOWN " is no rate; write one like 500/s, 60/m or 1000/h",
                         reading->row->name, value->text);
}

/* In the first period in which it is a number above one. */
static void write_rate(const struct config_row *row, const void *section, FILE *out)
{
    size_t i = 0, last = sizeof periods / sizeof *periods - 1;
    double rate;

    memcpy(&rate, (const char *)section + row->offset, sizeof rate);
    while (i < last && rate * periods[i].seconds < 1)
        i++;
    if (rate > 0)
        fprintf(out, "%.15g%s", rate * periods[i].seconds, periods[i].name);
    else
        fputc('0', out);
}

/* --- of a push ---------------------------------------------------------------------------------- */

static bool read_path(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);

    if (!value)
        return false;
    if (value->text[0] != '/' || !config_is_visible(value->text) || strchr(value->text, '#'))
        return config_refuse(reading, value,
                             "%s = " SHOWN " is no path; start it with '/', and write other bytes as %%XX",
                             reading->row->name, value->text);
    memcpy(config_field(reading), &value->text, sizeof value->text);
    return true;
}

#define HEADER "header:"

static bool read_field(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);
    const char *name;

    if (!value)
        return false;
    name = value->text + sizeof HEADER - 1;
    if (strncmp(value->text, HEADER, sizeof HEADER - 1) != 0 || !config_is_token(name) || strlen(name) > 255)
        return config_refuse(reading, value, "%s = " SHOWN " is unknown; write header:NAME",
                             reading->row->name, value->text);
    memcpy(config_field(reading), &name, sizeof name);
    return true;
}

static void write_field(const struct config_row *row, const void *section, FILE *out)
{
    const char *name;

    memcpy(&name, (const char *)section + row->offset, sizeof name);
    if (name)
        fprintf(out, HEADER "%s", name);
}

static bool take_range(const struct config_row *row, const char *text, struct config_status_range *range)
{
    struct slice rest = slice_from_text(text), low = slice_take(&rest, slice_find(rest, '-'));
    uint64_t first, last;

    if (rest.len)
        slice_drop(&rest, 1);
    else
        rest = low;
    if (!slice_to_u64(low, &first) || !slice_to_u64(rest, &last) || first < row->low || first > last ||
        last > row->high)
        return false;
    *range = (struct config_status_range){(unsigned)first, (unsigned)last};
    return true;
}

static int compare_ranges(const void *left, const void *right)
{
    const struct config_status_range *a = left, *b = right;

    return (a->low > b->low) - (a->low < b->low);
}

/* In order, those that touch made one. */
static size_t merge_ranges(struct config_status_range *ranges, size_t n)
{
    size_t kept = 0;

    qsort(ranges, n, sizeof *ranges, compare_ranges);
    for (size_t i = 0; i < n; i++)
        if (kept && ranges[i].low <= ranges[kept - 1].high + 1)
            ranges[kept - 1].high =
                ranges[i].high > ranges[kept - 1].high ? ranges[i].high : ranges[kept - 1].high;
        else
            ranges[kept++] = ranges[i];
    return kept;
}

static bool read_status_list(const struct config_reading *reading)
{
    struct config_status_range *ranges = config_room_for_values(reading, sizeof *ranges);
    size_t n = 0;
    bool ok = ranges != NULL;

    for (const struct config_value *value = reading->values; ranges && value; value = value->next)
        if (!take_range(reading->row, value->text, &ranges[n++]))
            ok = config_refuse(reading, value,
                               "\"" SHOWN "\" is no status or range of them; write ones like 400 or 410-451",
                               value->text);
    if (ok)
        config_set_list(reading, ranges, merge_ranges(ranges, n));
    return ok;
}

static void write_status_list(const struct config_row *row, const void *section, FILE *out)
{
    const struct config_push *push = section;

    (void)row;
    for (size_t i = 0; i < push->n_dead_on; i++) {
        fprintf(out, "%s%u", i ? ", " : "{ ", push->dead_on[i].low);
        if (push->dead_on[i].high != push->dead_on[i].low)
            fprintf(out, "-%u", push->dead_on[i].high);
    }
    if (push->n_dead_on)
        fputs(" }", out);
}

/* --- the types ---------------------------------------------------------------------------------- */

const struct config_type config_type_queue = {
    .name = "name of a queue", .read = read_name, .write = write_queue};
const struct config_type config_type_topic = {
    .name = "name of a topic", .read = read_name, .write = write_topic};
const struct config_type config_type_queues = {
    .name = "names of queues", .list = true, .read = read_queues, .write = write_queues};
const struct config_type config_type_rate = {.name = "rate", .read = read_rate, .write = write_rate};
const struct config_type config_type_path = {.name = "path", .read = read_path, .write = config_write_text};
const struct config_type config_type_field = {.name = "key", .read = read_field, .write = write_field};
const struct config_type config_type_status_list = {.name = "statuses, or ranges of them",
                                                    .list = true,
                                                    .read = read_status_list,
                                                    .write = write_status_list};
