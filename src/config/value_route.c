/* value_route.c - the types of options that only routes and their conditions have: see value.h. */
#include "config/value.h"

#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "config/reading.h"

#define HOST_MAX 253
#define LABEL_MAX 63

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
    struct slice *hosts = config_room_for_values(reading, sizeof *hosts);
    size_t count = 0;
    bool ok = true;

    if (!hosts)
        return false;
    for (const struct config_value *value = reading->values; value; value = value->next) {
        char *host = config_store_text(reading->store, value->text);

        if (!host)
            return config_refuse_memory(reading);
        for (char *p = host; *p; p++)
            if (*p >= 'A' && *p <= 'Z')
                *p = (char)(*p - 'A' + 'a');
        hosts[count] = slice_from_text(host);
        if (!is_host(hosts[count++]))
            ok = config_refuse(reading, value,
                               "\"" SHOWN
                               "\" is no host; write a name without port, \"*.NAME\" for all below it",
                               value->text);
    }
    if (ok)
        config_set_list(reading, hosts, config_sort_slices(hosts, count));
    return ok;
}

static bool read_methods(const struct config_reading *reading)
{
    struct slice *methods = config_room_for_values(reading, sizeof *methods);
    size_t count = 0;
    bool ok = true;

    if (!methods)
        return false;
    for (const struct config_value *value = reading->values; value; value = value->next) {
        methods[count++] = slice_from_text(value->text);
        if (!config_is_token(value->text) || strpbrk(value->text, "abcdefghijklmnopqrstuvwxyz"))
            ok = config_refuse(reading, value, "\"" SHOWN "\" is no method; write it in capitals, like GET",
                               value->text);
    }
    if (ok)
        config_set_list(reading, methods, config_sort_slices(methods, count));
    return ok;
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
    const struct config_value *value = config_only_value(reading);
    struct config_route *route = reading->section;

    if (!value)
        return false;
    if (!*value->text || !config_is_visible(value->text))
        return config_refuse(reading, value,
                             "redirect = " SHOWN " is no address; write one without spaces, others as %%XX",
                             value->text);
    if (!placeholders_ok(value->text))
        return config_refuse(
            reading, value,
            "redirect = " SHOWN " has an unknown placeholder; there are {host}, {uri}, {rest}", value->text);
    route->action = ROUTE_REDIRECT;
    route->redirect = value->text;
    return true;
}

static bool read_redirection(const struct config_reading *reading)
{
    static const char *const statuses[] = {"301", "302", "303", "307", "308"};
    const struct config_value *value = config_only_value(reading);
    struct config_route *route = reading->section;

    if (!value)
        return false;
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (strcmp(value->text, statuses[i]) == 0) {
            route->status = (unsigned)strtoul(value->text, NULL, 10);
            return true;
        }
    return config_refuse(
        reading, value, "status = " SHOWN " does not redirect; write 301, 302, 303, 307 or 308", value->text);
}

/* The default where nothing is redirected: status is respond's then. */
static void write_redirection(const struct config_row *row, const void *section, FILE *out)
{
    const struct config_route *route = section;

    if (route->action == ROUTE_REDIRECT)
        fprintf(out, "%u", route->status);
    else
        fputs(row->text, out);
}

static bool read_respond(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);
    struct config_route *route = reading->section;
    uint64_t status;

    if (!value || !config_take_number(reading, value, &status))
        return false;
    route->action = ROUTE_RESPOND;
    route->status = (unsigned)status;
    return true;
}

static void write_respond(const struct config_row *row, const void *section, FILE *out)
{
    const struct config_route *route = section;

    (void)row;
    if (route->action == ROUTE_RESPOND)
        fprintf(out, "%u", route->status);
}

static bool read_body(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);
    struct config_route *route = reading->section;

    if (!value)
        return false;
    route->body = slice_from_text(value->text);
    return true;
}

static bool read_match(const struct config_reading *reading)
{
    const struct config_value *value = config_only_value(reading);
    struct config_condition *condition = reading->section;

    if (!value)
        return false;
    for (const char *p = value->text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return config_refuse(reading, value,
                                 "value = " SHOWN " contains a control character; no request does",
                                 value->text);
    condition->any_value = false;
    condition->value = slice_from_text(value->text);
    return true;
}

static void write_match(const struct config_row *row, const void *section, FILE *out)
{
    const struct config_condition *condition = section;

    (void)row;
    if (!condition->any_value)
        config_write_word(condition->value, out);
}

/* --- the types ---------------------------------------------------------------------------------- */

const struct config_type config_type_hosts = {
    .name = "hosts", .list = true, .read = read_hosts, .write = config_write_slices};
const struct config_type config_type_methods = {
    .name = "methods", .list = true, .read = read_methods, .write = config_write_slices};
const struct config_type config_type_redirect = {
    .name = "path or URL", .read = read_redirect, .write = config_write_text};
const struct config_type config_type_redirection = {
    .name = "status", .read = read_redirection, .write = write_redirection};
const struct config_type config_type_respond = {
    .name = "status", .read = read_respond, .write = write_respond};
const struct config_type config_type_body = {.name = "text", .read = read_body, .write = config_write_slice};
const struct config_type config_type_match = {.name = "text", .read = read_match, .write = write_match};
