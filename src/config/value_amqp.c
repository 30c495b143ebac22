/* value_amqp.c - the types of options that only users have: see value.h. */
#include "base/password.h"
#include "config/config.h"
#include "config/reading.h"

/* --- passwords ---------------------------------------------------------------------------------- */

/* What is refused is not shown: it is a secret. */
static bool read_password(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);
    size_t len = value ? strlen(value->text) : 0;

    if (!value)
        return false;
    if (len < reading->row->low || len > reading->row->high)
        return config_refuse(reading, value, "%s has %zu bytes; write %llu to %llu", reading->row->name, len,
                             (unsigned long long)reading->row->low, (unsigned long long)reading->row->high);
    memcpy(config_field(reading), &value->text, sizeof value->text);
    return true;
}

static bool read_password_hash(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);

    if (!value)
        return false;
    if (!password_is_hash(slice_from_text(value->text)))
        return config_refuse(reading, value,
                             "%s is no hash; write the line that `maitred passwd` prints, or a "
                             "password_hash of RabbitMQ (SHA-256 or SHA-512)",
                             reading->row->name);
    memcpy(config_field(reading), &value->text, sizeof value->text);
    return true;
}

/* --- names -------------------------------------------------------------------------------------- */

static bool read_names(const struct config_reading *reading)
{
    struct slice *names = config_room_for_values(reading, sizeof *names);
    size_t count = 0;
    bool ok = true;

    if (!names)
        return false;
    for (const struct config_value *value = reading->values; value; value = value->next) {
        names[count] = slice_from_text(value->text);
        if (!names[count].len || names[count].len > CONFIG_AMQP_NAME_MAX)
            ok = config_refuse(reading, value, "%s: \"" SHOWN "\" has %zu bytes; write 1 to %d",
                               reading->row->name, value->text, names[count].len, CONFIG_AMQP_NAME_MAX);
        count++;
    }
    if (ok)
        config_set_list(reading, names, config_sort_slices(names, count));
    return ok;
}

/* --- patterns ----------------------------------------------------------------------------------- */

static void *take_room(void *arg, size_t bytes)
{
    return config_store_array(arg, bytes, 1);
}

/* Compiled here, where there is a stack for it, and not where it is used. */
static bool read_pattern(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);
    const struct pattern_room room = {take_room, reading->store};
    struct config_pattern pattern;
    struct pattern_error error;

    if (!value)
        return false;
    pattern.text = value->text;
    pattern.compiled = pattern_compile(slice_from_text(value->text), &room, &error);
    if (!pattern.compiled)
        return config_refuse(reading, value,
                             "%s = \"" SHOWN "\" is no regular expression: %s at byte %zu; correct it, or "
                             "write \"\" for none and \".*\" for all",
                             reading->row->name, value->text, error.why, error.at);
    memcpy(config_field(reading), &pattern, sizeof pattern);
    return true;
}

/* --- the types ---------------------------------------------------------------------------------- */

const struct config_type config_type_password = {
    .name = "text", .read = read_password, .write = config_write_text};
const struct config_type config_type_password_hash = {
    .name = "hash of a password", .read = read_password_hash, .write = config_write_text};
const struct config_type config_type_names = {
    .name = "names", .list = true, .read = read_names, .write = config_write_slices};
/* Its text stands first. */
const struct config_type config_type_pattern = {
    .name = "regular expression", .read = read_pattern, .write = config_write_text};
