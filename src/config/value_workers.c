/* value_workers.c - the types of options that only workers have: see value.h. */
#include <string.h>

#include "base/words.h"
#include "config/config.h"
#include "config/reading.h"

/* The words, and before them the text that they come of, which is what is written and compared. */
static bool read_command(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);
    struct config_command command = {0};
    const char *why;
    size_t bytes, n;
    char *room;

    if (!value)
        return false;
    bytes = strlen(value->text);
    if (bytes > reading->row->high)
        return config_refuse(reading, value, "%s has %zu bytes; write at most %llu, or a script",
                             reading->row->name, bytes, (unsigned long long)reading->row->high);
    room = config_store_array(reading->store, bytes + 1, 1);
    command.words = config_store_array(reading->store, WORDS_MOST(bytes) + 1, sizeof(char *));
    if (!room || !command.words)
        return config_refuse_memory(reading);
    n = words_split(value->text, room, command.words, &why);
    if (why)
        return config_refuse(reading, value, "%s = \"" SHOWN "\" %s", reading->row->name, value->text, why);
    if (!n || !*command.words[0])
        return config_refuse(reading, value, "%s is empty; name a program, or remove it", reading->row->name);
    command.text = value->text;
    memcpy(config_field(reading), &command, sizeof command);
    return true;
}

/* Found once all are known: check_workers.c. */
static bool read_name(const struct config_reading *reading)
{
    return config_only_value(reading) != NULL;
}

static void write_gauge(const struct config_row *row, const void *section, FILE *out)
{
    const struct config_gauge *gauge;

    memcpy(&gauge, (const char *)section + row->offset, sizeof gauge);
    if (gauge)
        config_write_word(slice_from_text(gauge->name), out);
}

const struct config_type config_type_command = {
    .name = "words", .read = read_command, .write = config_write_text};
const struct config_type config_type_gauge = {
    .name = "name of a gauge", .read = read_name, .write = write_gauge};
