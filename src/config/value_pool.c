/* value_pool.c - the types of options that only pools and their health checks have: see value.h. */
#include "config/value.h"

#include <string.h>

#include "config/config.h"
#include "config/reading.h"

/* Those that end in ':' have a name behind it. In the order of enum hash_key_kind. */
static const char *const hash_keys[] = {
    [HASH_KEY_IP] = "ip",        [HASH_KEY_HOST] = "host",      [HASH_KEY_PATH] = "path",
    [HASH_KEY_URI] = "uri",      [HASH_KEY_HEADER] = "header:", [HASH_KEY_COOKIE] = "cookie:",
    [HASH_KEY_QUERY] = "query:",
};

static bool read_hash_key(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);
    struct config_pool *pool = reading->section;

    if (!value)
        return false;
    for (size_t i = 0; i < sizeof hash_keys / sizeof *hash_keys; i++) {
        size_t len = strlen(hash_keys[i]);
        bool named = hash_keys[i][len - 1] == ':';
        const char *rest = value->text + len;

        if (strncmp(value->text, hash_keys[i], len) != 0 || (named ? !config_is_token(rest) : *rest != '\0'))
            continue;
        pool->hash_key = (enum hash_key_kind)i;
        pool->hash_key_name = named ? rest : NULL;
        return true;
    }
    return config_refuse(reading, value,
                         "hash-key = " SHOWN
                         " is unknown; write ip, host, path, uri, header:NAME, cookie:NAME or query:NAME",
                         value->text);
}

static void write_hash_key(const struct config_row *row, const void *section, FILE *out)
{
    const struct config_pool *pool = section;

    (void)row;
    fprintf(out, "%s%s", hash_keys[pool->hash_key], pool->hash_key_name ? pool->hash_key_name : "");
}

static bool read_check_path(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);
    struct config_health *health = reading->section;

    if (!value)
        return false;
    if (value->text[0] != '/' || !config_is_visible(value->text) || strchr(value->text, '#'))
        return config_refuse(reading, value,
                             "path = " SHOWN " is no path; start it with '/', and write other bytes as %%XX",
                             value->text);
    health->path = value->text;
    return true;
}

static bool read_check_host(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);
    struct config_health *health = reading->section;

    if (!value)
        return false;
    if (!*value->text || !config_is_visible(value->text) || strpbrk(value->text, "/?#@\\\""))
        return config_refuse(reading, value, "host = " SHOWN " is no host; write NAME or NAME:PORT",
                             value->text);
    health->host = value->text;
    return true;
}

static bool read_statuses(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);
    struct config_health *health = reading->section;
    struct slice low, rest;
    uint64_t first, last;

    if (!value)
        return false;
    rest = slice_from_text(value->text);
    low = slice_take(&rest, slice_find(rest, '-'));
    if (rest.len)
        slice_drop(&rest, 1);
    else
        rest = low;
    if (!slice_to_u64(low, &first) || !slice_to_u64(rest, &last) || first < reading->row->low ||
        first > last || last > reading->row->high)
        return config_refuse(reading, value,
                             "%s = " SHOWN " is no range of statuses; write one like 200 or 200-399",
                             reading->row->name, value->text);
    health->status_low = (unsigned)first;
    health->status_high = (unsigned)last;
    return true;
}

static void write_statuses(const struct config_row *row, const void *section, FILE *out)
{
    const struct config_health *health = section;

    (void)row;
    fprintf(out, "%u", health->status_low);
    if (health->status_high != health->status_low)
        fprintf(out, "-%u", health->status_high);
}

/* What is sent to a server, or expected from it: any bytes but NUL. */
static bool read_bytes(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);
    struct slice bytes;

    if (!value)
        return false;
    bytes = slice_from_text(value->text);
    if (bytes.len < reading->row->low || bytes.len > reading->row->high)
        return config_refuse(reading, value, "%s has %zu bytes; write %llu to %llu", reading->row->name,
                             bytes.len, (unsigned long long)reading->row->low,
                             (unsigned long long)reading->row->high);
    memcpy(config_field(reading), &bytes, sizeof bytes);
    return true;
}

/* --- the types ---------------------------------------------------------------------------------- */

const struct config_type config_type_hash_key = {
    .name = "key", .read = read_hash_key, .write = write_hash_key};
const struct config_type config_type_check_path = {
    .name = "path", .read = read_check_path, .write = config_write_text};
const struct config_type config_type_check_host = {
    .name = "host", .read = read_check_host, .write = config_write_text};
const struct config_type config_type_statuses = {
    .name = "status, or range of them", .read = read_statuses, .write = write_statuses};
const struct config_type config_type_bytes = {
    .name = "bytes", .read = read_bytes, .write = config_write_slice};
