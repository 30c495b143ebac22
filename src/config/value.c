/* value.c - see value.h. A type is a function that reads, and what the manual says of it.
 *
 * Invariant: a value that is refused leaves the field as it was, and reports what to write instead. */
#include "config/value.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/nearest.h"

#define HOST_MAX 253
#define LABEL_MAX 63

static_assert(sizeof(size_t) == sizeof(uint64_t), "one width of field for every size");
static_assert(sizeof(enum balance_strategy) == sizeof(unsigned), "a choice is stored as a number");

#define refuse(reading, value, ...) (config_problem((reading)->problems, (value)->place, __VA_ARGS__), false)

static const char DIGITS[] = "0123456789";
static const char TOKEN[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

static void *field_of(const struct config_reading *reading)
{
    return (char *)reading->section + reading->row->offset;
}

/* The value of an option that takes one; NULL when there are more. */
static const struct config_value *only_value(const struct config_reading *reading)
{
    const struct config_value *value = reading->values;

    if (!value->next)
        return value;
    config_problem(reading->problems, value->next->place, "%s takes one value; remove the others",
                   reading->row->name);
    return NULL;
}

static bool refuse_memory(const struct config_reading *reading)
{
    return refuse(reading, reading->values, "out of memory; stop something else");
}

static bool is_visible(const char *text)
{
    for (; *text; text++)
        if (*text <= ' ' || *text >= 0x7f)
            return false;
    return true;
}

static bool is_token(const char *text)
{
    return *text && text[strspn(text, TOKEN)] == '\0';
}

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
    return refuse(reading, value, "%s = " SHOWN " is out of bounds; write %s to %s%s%s%s", row->name,
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
        return refuse(reading, value, "%s = " SHOWN " has no unit; add one: %s", reading->row->name,
                      value->text, names);
    return refuse(reading, value, "%s = " SHOWN " has an unknown unit; the units are %s", reading->row->name,
                  value->text, names);
}

static bool parse_number(const struct config_reading *reading, const struct config_value *value,
                         uint64_t *number)
{
    const struct config_type *type = reading->row->type;
    size_t digits = strspn(value->text, DIGITS);
    char names[32] = "";

    if (type->units)
        unit_names(type->units, names, sizeof names);
    if (!digits || (!type->units && value->text[digits]))
        return refuse(reading, value, "%s = " SHOWN " is no %s; write digits%s%s", reading->row->name,
                      value->text, type->name, *names ? " and a unit: " : " only", names);
    if (!slice_to_u64(slice_of(value->text, digits), number))
        return refuse_bounds(reading, value);
    if (type->units && !apply_unit(reading, value, value->text + digits, number))
        return false;
    return in_bounds(reading->row, *number) || refuse_bounds(reading, value);
}

static bool read_number(const struct config_reading *reading)
{
    const struct config_value *value = only_value(reading);
    uint64_t number;
    unsigned small;

    if (!value || !parse_number(reading, value, &number))
        return false;
    small = (unsigned)number; /* the row's bounds keep a number of this width within it */
    if (reading->row->type->bytes == sizeof small)
        memcpy(field_of(reading), &small, sizeof small);
    else
        memcpy(field_of(reading), &number, sizeof number);
    return true;
}

static bool read_ratio(const struct config_reading *reading)
{
    const struct config_value *value = only_value(reading);
    const char *end;
    double ratio;

    if (!value)
        return false;
    end = value->text + strspn(value->text, DIGITS); /* strtod alone would take nan, inf and 0x1p3 too */
    if (end > value->text && *end == '.' && end[1])
        end += 1 + strspn(end + 1, DIGITS);
    if (end == value->text || *end)
        return refuse(reading, value, "%s = " SHOWN " is no number; write one like 1.25", reading->row->name,
                      value->text);
    ratio = strtod(value->text, NULL);
    if ((ratio < (double)reading->row->low || ratio > (double)reading->row->high) &&
        !(ratio == 0 && reading->row->zero))
        return refuse_bounds(reading, value);
    memcpy(field_of(reading), &ratio, sizeof ratio);
    return true;
}

/* --- words -------------------------------------------------------------------------------------- */

static bool read_yes_no(const struct config_reading *reading)
{
    static const struct {
        const char *word;
        bool yes;
    } words[] = {{"yes", true},    {"no", false}, {"true", true},
                 {"false", false}, {"on", true},  {"off", false}};
    const struct config_value *value = only_value(reading);

    if (!value)
        return false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (slice_equal_nocase(slice_from_text(value->text), slice_from_text(words[i].word))) {
            memcpy(field_of(reading), &words[i].yes, sizeof words[i].yes);
            return true;
        }
    return refuse(reading, value, "%s = " SHOWN " is neither; write yes or no", reading->row->name,
                  value->text);
}

static bool read_choice(const struct config_reading *reading)
{
    const struct config_value *value = only_value(reading);
    const char *const *choices = reading->row->choices;
    struct config_nearest nearest;
    char all[256] = "";

    if (!value)
        return false;
    config_nearest_init(&nearest, value->text);
    for (unsigned i = 0; choices[i]; i++) {
        if (strcmp(choices[i], value->text) == 0) {
            memcpy(field_of(reading), &i, sizeof i);
            return true;
        }
        config_nearest_try(&nearest, choices[i]);
        strncat(all, i ? ", " : "", sizeof all - strlen(all) - 1);
        strncat(all, choices[i], sizeof all - strlen(all) - 1);
    }
    if (nearest.best)
        return refuse(reading, value, "%s = " SHOWN " is unknown; did you mean \"%s\"?", reading->row->name,
                      value->text, nearest.best);
    return refuse(reading, value, "%s = " SHOWN " is unknown; write one of %s", reading->row->name,
                  value->text, all);
}

static bool read_text(const struct config_reading *reading)
{
    const struct config_value *value = only_value(reading);

    if (!value)
        return false;
    if (!*value->text)
        return refuse(reading, value, "%s is empty; write something, or remove it", reading->row->name);
    memcpy(field_of(reading), &value->text, sizeof value->text);
    return true;
}

/* --- http --------------------------------------------------------------------------------------- */

static size_t count_values(const struct config_reading *reading)
{
    size_t count = 0;

    for (const struct config_value *value = reading->values; value; value = value->next)
        count++;
    return count;
}

static bool read_networks(const struct config_reading *reading)
{
    struct config_http *http = reading->section;
    struct ip_network *networks = config_store_array(reading->store, count_values(reading), sizeof *networks);
    size_t count = 0;
    bool ok = true;

    if (!networks)
        return refuse_memory(reading);
    for (const struct config_value *value = reading->values; value; value = value->next)
        if (!ip_network_parse(slice_from_text(value->text), &networks[count++]))
            ok = refuse(reading, value,
                        "\"" SHOWN "\" is no network; write one like 10.0.0.0/8 or 2001:db8::/32",
                        value->text);
    if (ok) {
        http->trusted_proxies = networks;
        http->n_trusted_proxies = count;
    }
    return ok;
}

/* --- routes ------------------------------------------------------------------------------------- */

static bool is_host_label(struct slice label)
{
    if (!label.len || label.len > LABEL_MAX)
        return false;
    for (size_t i = 0; i < label.len; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789-_", label.ptr[i]))
            return false;
    return label.ptr[0] != '-' && label.ptr[label.len - 1] != '-';
}

/* A lower-case name or IPv4 address; an IPv6 address in brackets; or "*." and a name. */
static bool is_host(struct slice host)
{
    struct ip ip;
    struct slice label;

    if (host.len > HOST_MAX || !host.len)
        return false;
    if (host.ptr[0] == '[')
        return host.ptr[host.len - 1] == ']' && slice_find(host, ':') < host.len &&
               ip_parse(slice_of(host.ptr + 1, host.len - 2), &ip);
    if (slice_starts_with(host, SLICE("*.")))
        slice_drop(&host, 2);
    if (slice_find(host, ' ') < host.len || slice_find(host, '\t') < host.len)
        return false;
    while (slice_next_part(&host, '.', &label))
        if (!is_host_label(label))
            return false;
    return true;
}

static bool read_hosts(const struct config_reading *reading)
{
    struct config_route *route = reading->section;
    struct slice *hosts = config_store_array(reading->store, count_values(reading), sizeof *hosts);
    size_t count = 0;
    bool ok = true;

    if (!hosts)
        return refuse_memory(reading);
    for (const struct config_value *value = reading->values; value; value = value->next) {
        char *host = config_store_text(reading->store, value->text);

        if (!host)
            return refuse_memory(reading);
        for (char *p = host; *p; p++)
            if (*p >= 'A' && *p <= 'Z')
                *p = (char)(*p - 'A' + 'a');
        hosts[count] = slice_from_text(host);
        if (!is_host(hosts[count++]))
            ok = refuse(reading, value,
                        "\"" SHOWN "\" is no host; write a name without port, \"*.NAME\" for all below it",
                        value->text);
    }
    if (ok) {
        route->hosts = hosts;
        route->n_hosts = count;
    }
    return ok;
}

static bool read_methods(const struct config_reading *reading)
{
    struct config_route *route = reading->section;
    struct slice *methods = config_store_array(reading->store, count_values(reading), sizeof *methods);
    size_t count = 0;
    bool ok = true;

    if (!methods)
        return refuse_memory(reading);
    for (const struct config_value *value = reading->values; value; value = value->next) {
        methods[count++] = slice_from_text(value->text);
        if (!is_token(value->text) || strpbrk(value->text, "abcdefghijklmnopqrstuvwxyz"))
            ok = refuse(reading, value, "\"" SHOWN "\" is no method; write it in capitals, like GET",
                        value->text);
    }
    if (ok) {
        route->methods = methods;
        route->n_methods = count;
    }
    return ok;
}

static bool read_pool(const struct config_reading *reading)
{
    struct config_route *route = reading->section;

    if (!only_value(reading))
        return false;
    route->action = ROUTE_POOL;
    return true;
}

/* Whether every brace belongs to a placeholder. */
static bool placeholders_ok(const char *text)
{
    static const char *const known[] = {"{host}", "{uri}", "{rest}"};

    while (*(text += strcspn(text, "{}"))) {
        size_t i = 0;

        while (i < sizeof known / sizeof *known && strncmp(text, known[i], strlen(known[i])) != 0)
            i++;
        if (i == sizeof known / sizeof *known)
            return false;
        text += strlen(known[i]);
    }
    return true;
}

static bool read_redirect(const struct config_reading *reading)
{
    const struct config_value *value = only_value(reading);
    struct config_route *route = reading->section;

    if (!value)
        return false;
    if (!*value->text || !is_visible(value->text))
        return refuse(reading, value,
                      "redirect = " SHOWN " is no address; write one without spaces, others as %%XX",
                      value->text);
    if (!placeholders_ok(value->text))
        return refuse(reading, value,
                      "redirect = " SHOWN " has an unknown placeholder; there are {host}, {uri}, {rest}",
                      value->text);
    route->action = ROUTE_REDIRECT;
    route->redirect = value->text;
    return true;
}

static bool read_redirection(const struct config_reading *reading)
{
    static const char *const statuses[] = {"301", "302", "303", "307", "308"};
    const struct config_value *value = only_value(reading);
    struct config_route *route = reading->section;

    if (!value)
        return false;
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (strcmp(value->text, statuses[i]) == 0) {
            route->status = (unsigned)strtoul(value->text, NULL, 10);
            return true;
        }
    return refuse(reading, value, "status = " SHOWN " does not redirect; write 301, 302, 303, 307 or 308",
                  value->text);
}

static bool read_respond(const struct config_reading *reading)
{
    const struct config_value *value = only_value(reading);
    struct config_route *route = reading->section;
    uint64_t status;

    if (!value || !parse_number(reading, value, &status))
        return false;
    route->action = ROUTE_RESPOND;
    route->status = (unsigned)status;
    return true;
}

static bool read_body(const struct config_reading *reading)
{
    const struct config_value *value = only_value(reading);
    struct config_route *route = reading->section;

    if (!value)
        return false;
    route->body = slice_from_text(value->text);
    return true;
}

static bool read_match(const struct config_reading *reading)
{
    const struct config_value *value = only_value(reading);
    struct config_condition *condition = reading->section;

    if (!value)
        return false;
    for (const char *p = value->text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return refuse(reading, value, "value = " SHOWN " contains a control character; no request does",
                          value->text);
    condition->any_value = false;
    condition->value = slice_from_text(value->text);
    return true;
}

/* --- pools -------------------------------------------------------------------------------------- */

static bool read_hash_key(const struct config_reading *reading)
{
    static const struct {
        const char *name;
        enum hash_key_kind kind;
    } keys[] = {
        {"ip", HASH_KEY_IP},        {"host", HASH_KEY_HOST},      {"path", HASH_KEY_PATH},
        {"uri", HASH_KEY_URI},      {"header:", HASH_KEY_HEADER}, {"cookie:", HASH_KEY_COOKIE},
        {"query:", HASH_KEY_QUERY},
    };
    const struct config_value *value = only_value(reading);
    struct config_pool *pool = reading->section;

    if (!value)
        return false;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        size_t len = strlen(keys[i].name);
        bool named = keys[i].name[len - 1] == ':';
        const char *rest = value->text + len;

        if (strncmp(value->text, keys[i].name, len) != 0 || (named ? !is_token(rest) : *rest != '\0'))
            continue;
        pool->hash_key = keys[i].kind;
        pool->hash_key_name = named ? rest : NULL;
        return true;
    }
    return refuse(reading, value,
                  "hash-key = " SHOWN
                  " is unknown; write ip, host, path, uri, header:NAME, cookie:NAME or query:NAME",
                  value->text);
}

static bool read_check_path(const struct config_reading *reading)
{
    const struct config_value *value = only_value(reading);
    struct config_health *health = reading->section;

    if (!value)
        return false;
    if (value->text[0] != '/' || !is_visible(value->text) || strchr(value->text, '#'))
        return refuse(reading, value,
                      "path = " SHOWN " is no path; start it with '/', and write other bytes as %%XX",
                      value->text);
    health->path = value->text;
    return true;
}

static bool read_check_host(const struct config_reading *reading)
{
    const struct config_value *value = only_value(reading);
    struct config_health *health = reading->section;

    if (!value)
        return false;
    if (!*value->text || !is_visible(value->text) || strpbrk(value->text, "/?#@\\\""))
        return refuse(reading, value, "host = " SHOWN " is no host; write NAME or NAME:PORT", value->text);
    health->host = value->text;
    return true;
}

static bool read_statuses(const struct config_reading *reading)
{
    const struct config_value *value = only_value(reading);
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
        return refuse(reading, value, "%s = " SHOWN " is no range of statuses; write one like 200 or 200-399",
                      reading->row->name, value->text);
    health->status_low = (unsigned)first;
    health->status_high = (unsigned)last;
    return true;
}

/* --- the types ---------------------------------------------------------------------------------- */

const struct config_type config_type_yes_no = {.name = "yes or no", .read = read_yes_no};
const struct config_type config_type_number = {
    .name = "number", .bytes = sizeof(unsigned), .read = read_number};
const struct config_type config_type_ratio = {.name = "decimal number", .read = read_ratio};
const struct config_type config_type_size = {
    .name = "size", .bytes = sizeof(uint64_t), .units = sizes, .read = read_number};
const struct config_type config_type_time = {
    .name = "time", .bytes = sizeof(uint64_t), .units = times, .read = read_number};
const struct config_type config_type_choice = {.name = "word", .read = read_choice};
const struct config_type config_type_text = {.name = "text", .read = read_text};
const struct config_type config_type_networks = {.name = "networks", .list = true, .read = read_networks};
const struct config_type config_type_hosts = {.name = "hosts", .list = true, .read = read_hosts};
const struct config_type config_type_methods = {.name = "methods", .list = true, .read = read_methods};
const struct config_type config_type_pool = {.name = "name of a pool", .read = read_pool};
const struct config_type config_type_redirect = {.name = "path or URL", .read = read_redirect};
const struct config_type config_type_redirection = {.name = "status", .read = read_redirection};
const struct config_type config_type_respond = {.name = "status", .read = read_respond};
const struct config_type config_type_body = {.name = "text", .read = read_body};
const struct config_type config_type_match = {.name = "text", .read = read_match};
const struct config_type config_type_hash_key = {.name = "key", .read = read_hash_key};
const struct config_type config_type_check_path = {.name = "path", .read = read_check_path};
const struct config_type config_type_check_host = {.name = "host", .read = read_check_host};
const struct config_type config_type_statuses = {.name = "status, or range of them", .read = read_statuses};
