/* value.c - see value.h. The types that fit any section; others stand in value_route.c and value_pool.c.
 *
 * Invariant: a value that is refused leaves the field as it was, and reports what to write instead. */
#include "config/value.h"

#include <arpa/inet.h>
#include <assert.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/nearest.h"
#include "config/reading.h"

static_assert(sizeof(size_t) == sizeof(uint64_t), "one width of field for every size");
static_assert(sizeof(enum balance_strategy) == sizeof(unsigned), "a choice is stored as a number");
static_assert(sizeof(enum proxy_version) == sizeof(unsigned), "a choice is stored as a number");

#define IP_BITS 128
#define V4_BITS_BEFORE 96 /* of ::ffff:0:0/96 */

static const char DIGITS[] = "0123456789";

/* --- numbers ------------------------------------------------------------------------------------ */

static const struct config_unit times[] = {
    {"ms", 1000}, {"s", 1000000}, {"m", 60000000}, {"h", 3600000000}, {NULL, 0},
};
static const struct config_unit sizes[] = {
    {"", 1}, {"k", 1u << 10}, {"m", 1u << 20}, {"g", 1u << 30}, {NULL, 0}};

void config_number_text(const struct config_type *type, uint64_t number, char text[CONFIG_BOUND_TEXT_MAX])
{
    const struct config_unit *best = type->units;

    for (const struct config_unit *unit = type->units; unit && unit->name; unit++)
        if (number % unit->factor == 0)
            best = unit;
    if (best && number)
        snprintf(text, CONFIG_BOUND_TEXT_MAX, "%llu%s", (unsigned long long)(number / best->factor),
                 best->name);
    else
        snprintf(text, CONFIG_BOUND_TEXT_MAX, "%llu", (unsigned long long)number);
}

static bool refuse_bounds(const struct config_reading *reading, const struct config_value *value)
{
    const struct config_row *row = reading->row;
    char low[CONFIG_BOUND_TEXT_MAX], high[CONFIG_BOUND_TEXT_MAX];

    config_number_text(row->type, row->low, low);
    config_number_text(row->type, row->high, high);
    return config_refuse(reading, value, "%s = " SHOWN " is out of bounds; write %s to %s%s%s%s", row->name,
                         value->text, low, high, row->zero && row->low ? ", or 0 (" : "",
                         row->zero && row->low ? row->zero : "", row->zero && row->low ? ")" : "");
}

static bool in_bounds(const struct config_row *row, uint64_t number)
{
    return (number >= row->low && number <= row->high) || (number == 0 && row->zero);
}

/* "ms, s, m or h" */
static void unit_names(const struct config_unit *unit, char *text, size_t bytes)
{
    size_t used = 0;

    text[0] = '\0';
    for (; unit->name; unit++)
        if (*unit->name && used < bytes)
            used += (size_t)snprintf(text + used, bytes - used, "%s%s", unit->name,
                                     !unit[1].name ? "" : (unit[2].name ? ", " : " or "));
}

/* Multiplies by the unit; false when a problem was reported. */
static bool apply_unit(const struct config_reading *reading, const struct config_value *value,
                       const char *name, uint64_t *number)
{
    const struct config_unit *unit = reading->row->type->units;
    char names[32];

    if (*number == 0 && !*name)
        return true;
    unit_names(unit, names, sizeof names);
    for (; unit->name; unit++)
        if (strcmp(unit->name, name) == 0) {
            if (*number > UINT64_MAX / unit->factor)
                return refuse_bounds(reading, value);
            *number *= unit->factor;
            return true;
        }
    if (!*name)
        return config_refuse(reading, value, "%s = " SHOWN " has no unit; add one: %s", reading->row->name,
                             value->text, names);
    return config_refuse(reading, value, "%s = " SHOWN " has an unknown unit; the units are %s",
                         reading->row->name, value->text, names);
}

bool config_take_number(const struct config_reading *reading, const struct config_value *value,
                        uint64_t *number)
{
    const struct config_type *type = reading->row->type;
    size_t digits = strspn(value->text, DIGITS);
    char names[32] = "";

    if (type->units)
        unit_names(type->units, names, sizeof names);
    if (!digits || (!type->units && value->text[digits]))
        return config_refuse(reading, value, "%s = " SHOWN " is no %s; write digits%s%s", reading->row->name,
                             value->text, type->name, *names ? " and a unit: " : " only", names);
    if (!slice_to_u64(slice_of(value->text, digits), number))
        return refuse_bounds(reading, value);
    if (type->units && !apply_unit(reading, value, value->text + digits, number))
        return false;
    return in_bounds(reading->row, *number) || refuse_bounds(reading, value);
}

static bool read_number(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);
    uint64_t number;
    unsigned small;

    if (!value || !config_take_number(reading, value, &number))
        return false;
    small = (unsigned)number; /* the row's bounds keep a number of this width within it */
    if (reading->row->type->bytes == sizeof small)
        memcpy(config_field(reading), &small, sizeof small);
    else
        memcpy(config_field(reading), &number, sizeof number);
    return true;
}

static void write_number(const struct config_row *row, const void *section, FILE *out)
{
    char text[CONFIG_BOUND_TEXT_MAX];
    uint64_t number;
    unsigned small;

    memcpy(&small, (const char *)section + row->offset, sizeof small);
    number = small;
    if (row->type->bytes == sizeof number)
        memcpy(&number, (const char *)section + row->offset, sizeof number);
    else if (!row->text && small == UINT_MAX) /* -1: without */
        return;
    config_number_text(row->type, number, text);
    fputs(text, out);
}

static bool read_ratio(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);
    const char *end;
    double ratio;

    if (!value)
        return false;
    end = value->text + strspn(value->text, DIGITS); /* strtod alone would take nan, inf and 0x1p3 too */
    if (end > value->text && *end == '.' && end[1])
        end += 1 + strspn(end + 1, DIGITS);
    if (end == value->text || *end)
        return config_refuse(reading, value, "%s = " SHOWN " is no number; write one like 1.25",
                             reading->row->name, value->text);
    ratio = strtod(value->text, NULL);
    if ((ratio < (double)reading->row->low || ratio > (double)reading->row->high) &&
        !(ratio == 0 && reading->row->zero))
        return refuse_bounds(reading, value);
    memcpy(config_field(reading), &ratio, sizeof ratio);
    return true;
}

static void write_ratio(const struct config_row *row, const void *section, FILE *out)
{
    double ratio;

    memcpy(&ratio, (const char *)section + row->offset, sizeof ratio);
    fprintf(out, "%.15g", ratio);
}

/* --- words -------------------------------------------------------------------------------------- */

static bool read_yes_no(const struct config_reading *reading)
{
    static const struct {
        const char *word;
        bool yes;
    } words[] = {{"yes", true},    {"no", false}, {"true", true},
                 {"false", false}, {"on", true},  {"off", false}};
    const struct config_value *value = config_only_value(reading);

    if (!value)
        return false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (slice_equal_nocase(slice_from_text(value->text), slice_from_text(words[i].word))) {
            memcpy(config_field(reading), &words[i].yes, sizeof words[i].yes);
            return true;
        }
    return config_refuse(reading, value, "%s = " SHOWN " is neither; write yes or no", reading->row->name,
                         value->text);
}

static void write_yes_no(const struct config_row *row, const void *section, FILE *out)
{
    bool yes;

    memcpy(&yes, (const char *)section + row->offset, sizeof yes);
    fputs(yes ? "yes" : "no", out);
}

static bool read_choice(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);
    const char *const *choices = reading->row->choices;
    struct config_nearest nearest;
    char all[256] = "";

    if (!value)
        return false;
    config_nearest_init(&nearest, value->text);
    for (unsigned i = 0; choices[i]; i++) {
        if (strcmp(choices[i], value->text) == 0) {
            memcpy(config_field(reading), &i, sizeof i);
            return true;
        }
        config_nearest_try(&nearest, choices[i]);
        strncat(all, i ? ", " : "", sizeof all - strlen(all) - 1);
        strncat(all, choices[i], sizeof all - strlen(all) - 1);
    }
    if (nearest.best)
        return config_refuse(reading, value, "%s = " SHOWN " is unknown; did you mean \"%s\"?",
                             reading->row->name, value->text, nearest.best);
    return config_refuse(reading, value, "%s = " SHOWN " is unknown; write one of %s", reading->row->name,
                         value->text, all);
}

static void write_choice(const struct config_row *row, const void *section, FILE *out)
{
    unsigned choice;

    memcpy(&choice, (const char *)section + row->offset, sizeof choice);
    fputs(row->choices[choice], out);
}

static bool read_text(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);

    if (!value)
        return false;
    if (!*value->text)
        return config_refuse(reading, value, "%s is empty; write something, or remove it",
                             reading->row->name);
    memcpy(config_field(reading), &value->text, sizeof value->text);
    return true;
}

static bool read_token(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);
    size_t len = value ? strlen(value->text) : 0;

    if (!value)
        return false;
    if (len < reading->row->low || len > reading->row->high || !config_is_visible(value->text))
        return config_refuse(
            reading, value, /* which is not shown: it is a secret */
            "%s must be %llu to %llu letters, digits and signs without spaces; write such a one",
            reading->row->name, (unsigned long long)reading->row->low,
            (unsigned long long)reading->row->high);
    memcpy(config_field(reading), &value->text, sizeof value->text);
    return true;
}

/* --- networks ----------------------------------------------------------------------------------- */

static int compare_networks(const void *left, const void *right)
{
    const struct ip_network *a = left, *b = right;
    int order = memcmp(&a->base, &b->base, sizeof a->base);

    return order ? order : a->prefix_bits - b->prefix_bits;
}

static size_t sort_networks(struct ip_network *networks, size_t count)
{
    size_t kept = 0;

    qsort(networks, count, sizeof *networks, compare_networks);
    for (size_t i = 0; i < count; i++)
        if (!kept || compare_networks(&networks[kept - 1], &networks[i]) != 0)
            networks[kept++] = networks[i];
    return kept;
}

static bool read_networks(const struct config_reading *reading)
{
    struct ip_network *networks = config_room_for_values(reading, sizeof *networks);
    size_t count = 0;
    bool ok = true;

    if (!networks)
        return false;
    for (const struct config_value *value = reading->values; value; value = value->next)
        if (!ip_network_parse(slice_from_text(value->text), &networks[count++]))
            ok = config_refuse(reading, value,
                               "\"" SHOWN "\" is no network; write one like 10.0.0.0/8 or 2001:db8::/32",
                               value->text);
    if (ok)
        config_set_list(reading, networks, sort_networks(networks, count));
    return ok;
}

static void write_network(const struct ip_network *network, FILE *out)
{
    char text[INET6_ADDRSTRLEN];
    unsigned before = ip_is_v4(&network->base) && network->prefix_bits >= V4_BITS_BEFORE ? V4_BITS_BEFORE : 0;

    ip_text(&network->base, text);
    fputs(text, out);
    if (network->prefix_bits < IP_BITS)
        fprintf(out, "/%u", network->prefix_bits - before);
}

static void write_networks(const struct config_row *row, const void *section, FILE *out)
{
    const struct ip_network *networks;
    size_t count;

    memcpy(&networks, (const char *)section + row->offset, sizeof networks);
    memcpy(&count, (const char *)section + row->length_offset, sizeof count);
    for (size_t i = 0; i < count; i++) {
        fputs(i ? ", " : "{ ", out);
        write_network(&networks[i], out);
    }
    if (count)
        fputs(" }", out);
}

/* --- pools -------------------------------------------------------------------------------------- */

/* The pool itself is found once all are known: check.c. */
static bool read_pool(const struct config_reading *reading)
{
    return config_only_value(reading) != NULL;
}

static void write_pool(const struct config_row *row, const void *section, FILE *out)
{
    const struct config_pool *pool;

    memcpy(&pool, (const char *)section + row->offset, sizeof pool);
    if (pool)
        config_write_word(slice_from_text(pool->name), out);
}

/* --- the types ---------------------------------------------------------------------------------- */

const struct config_type config_type_yes_no = {
    .name = "yes or no", .read = read_yes_no, .write = write_yes_no};
const struct config_type config_type_number = {
    .name = "number", .bytes = sizeof(unsigned), .read = read_number, .write = write_number};
const struct config_type config_type_ratio = {
    .name = "decimal number", .read = read_ratio, .write = write_ratio};
const struct config_type config_type_size = {
    .name = "size", .bytes = sizeof(uint64_t), .units = sizes, .read = read_number, .write = write_number};
const struct config_type config_type_time = {
    .name = "time", .bytes = sizeof(uint64_t), .units = times, .read = read_number, .write = write_number};
const struct config_type config_type_choice = {.name = "word", .read = read_choice, .write = write_choice};
const struct config_type config_type_text = {.name = "text", .read = read_text, .write = config_write_text};
const struct config_type config_type_token = {
    .name = "characters", .read = read_token, .write = config_write_text};
const struct config_type config_type_networks = {
    .name = "networks", .list = true, .read = read_networks, .write = write_networks};
const struct config_type config_type_pool = {
    .name = "name of a pool", .read = read_pool, .write = write_pool};
