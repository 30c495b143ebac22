/* broker_model_routes.c - exchanges and bindings of broker_model.h, and where they lead, found by trying all of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/broker_model.h"
#include "sim/sim.h"
#include "wire/amqp.h"
#include "wire/amqp_table.h"

const char *exchange_name(int exchange)
{
    static const char *const names[EXCHANGES_MAX] = {"t", "u", "v", "w", "x"};

    return names[exchange];
}

int exchange_by_name(struct slice name)
{
    for (int i = 0; i < EXCHANGES_MAX; i++)
        if (slice_equal(slice_from_text(exchange_name(i)), name))
            return i;
    return -1;
}

/* ---- keys, arguments, headers ---------------------------------------------------------------------------------------- */

static const char *const keys[] = {"",    "a",   "a.b",   "b.a", "a.c.b", "a.",  ".",     "*",       "#",
                                   "a.*", "#.a", "*.b.#", "a.#", "a.#.b", "#.#", "#.*.b", "#.b.#.a", "*.*"};
const int n_routing_keys = sizeof keys / sizeof keys[0];

struct slice routing_key(int key)
{
    return slice_from_text(keys[key]);
}

int key_by_text(struct slice text)
{
    for (int i = 0; i < n_routing_keys; i++)
        if (slice_equal(routing_key(i), text))
            return i;
    return -1;
}

#define ITEMS_MAX 3

/* value NULL: void; name NULL: no more. */
struct item {
    const char *name, *value;
};

static const struct {
    const char *x_match;
    struct item items[ITEMS_MAX];
} arguments[] = {
    {NULL, {{NULL, NULL}}},
    {"all", {{"m", "1"}, {"n", "1"}}},
    {"any", {{"m", "1"}, {"n", "2"}}},
    {"any", {{NULL, NULL}}},
    {NULL, {{"m", NULL}}},
    {"all", {{"m", "2"}, {"x-h", "1"}}},
    {"all-with-x", {{"m", "2"}, {"x-h", "1"}}},
    {"any-with-x", {{"n", "1"}, {"x-h", NULL}}},
};
const int n_arguments = sizeof arguments / sizeof arguments[0];

static const struct item headers[][ITEMS_MAX] = {
    {{NULL, NULL}},
    {{"m", "1"}},
    {{"m", "1"}, {"n", "1"}},
    {{"n", "2"}, {"x-h", "1"}},
    {{"m", "2"}},
    {{"x-h", "1"}, {"n", "1"}, {"m", "2"}},
};
const int n_headers = sizeof headers / sizeof headers[0];

static void put_items(struct amqp_out *out, const struct item items[ITEMS_MAX])
{
    for (int i = 0; i < ITEMS_MAX && items[i].name; i++) {
        struct amqp_value value = {.name = slice_from_text(items[i].name), .type = AMQP_VOID};

        if (items[i].value) {
            value.type = AMQP_TEXT;
            value.bytes = slice_from_text(items[i].value);
        }
        amqp_table_put(out, &value);
    }
}

struct slice arguments_of(int which)
{
    static char blocks[sizeof arguments / sizeof arguments[0]][128];
    struct amqp_out out = amqp_out_of(blocks[which], sizeof blocks[which]);

    if (arguments[which].x_match)
        amqp_table_put(&out, &(struct amqp_value){.name = SLICE("x-match"),
                                                  .type = AMQP_TEXT,
                                                  .bytes = slice_from_text(arguments[which].x_match)});
    put_items(&out, arguments[which].items);
    return slice_of(blocks[which], (size_t)(out.at - blocks[which]));
}

int arguments_by_bytes(struct slice bytes)
{
    for (int i = 0; i < n_arguments; i++)
        if (slice_equal(arguments_of(i), bytes))
            return i;
    return -1;
}

char *headers_put(char *at, int which, bool amqp)
{
    char items[128], payload[256];
    struct amqp_out table = amqp_out_of(items, sizeof items), out = amqp_out_of(payload, sizeof payload);
    struct amqp_content content = {.body_bytes = 0};

    for (int i = 0; !amqp && i < ITEMS_MAX && headers[which][i].name; i++)
        at = envelope_put(at, &(struct envelope_item){ENVELOPE_FIELD, slice_from_text(headers[which][i].name),
                                                      slice_from_text(headers[which][i].value)});
    if (!amqp)
        return at;
    put_items(&table, headers[which]);
    amqp_content_set_headers(&content, slice_of(items, (size_t)(table.at - items)));
    amqp_put_content(&out, &content);
    return envelope_put(at, &(struct envelope_item){.tag = ENVELOPE_AMQP,
                                                    .value = slice_of(payload, (size_t)(out.at - payload))});
}

/* ---- coming and going ------------------------------------------------------------------------------------------------ */

struct model_binding *binding_find(struct model *m, const struct model_binding *b)
{
    for (size_t i = 0; i < m->n_bindings; i++) {
        struct model_binding *o = &m->bindings[i];

        if (o->source == b->source && o->destination == b->destination && o->to_exchange == b->to_exchange &&
            o->key == b->key && o->arguments == b->arguments)
            return o;
    }
    return NULL;
}

void binding_add(struct model *m, const struct model_binding *binding)
{
    sim_check(m->n_bindings < BINDINGS_MAX, "more bindings than were made");
    m->bindings[m->n_bindings++] = *binding;
}

static bool has_bindings(const struct model *m, int source)
{
    for (size_t i = 0; i < m->n_bindings; i++)
        if (m->bindings[i].source == source)
            return true;
    return false;
}

void binding_remove(struct model *m, struct model_binding *binding)
{
    int source = binding->source;

    *binding = m->bindings[--m->n_bindings];
    if (m->exchanges[source].options.auto_delete && !has_bindings(m, source))
        exchange_remove(m, source);
}

void bindings_remove_to(struct model *m, int destination, bool is_exchange)
{
    size_t i = 0;

    while (i < m->n_bindings)
        if (m->bindings[i].destination == destination && m->bindings[i].to_exchange == is_exchange) {
            binding_remove(m, &m->bindings[i]);
            i = 0; /* others may have gone along */
        } else {
            i++;
        }
}

void exchange_remove(struct model *m, int exchange)
{
    if (!m->exchanges[exchange].there)
        return;
    m->exchanges[exchange].there = false;
    m->exchanges[exchange].options.auto_delete = false; /* it went */
    for (size_t i = 0; i < m->n_bindings;)
        if (m->bindings[i].source == exchange)
            m->bindings[i] = m->bindings[--m->n_bindings];
        else
            i++;
    bindings_remove_to(m, exchange, true);
}

/* ---- where it leads -------------------------------------------------------------------------------------------------- */

/* Whether the first word of both, if the pattern's is no #, fits; texts NULL: there is no word left. */
static bool fits(const char *pattern, const char *key)
{
    size_t n_pattern = pattern ? strcspn(pattern, ".") : 0, n_key = key ? strcspn(key, ".") : 0;
    const char *pattern_rest = pattern && pattern[n_pattern] ? pattern + n_pattern + 1 : NULL,
               *key_rest = key && key[n_key] ? key + n_key + 1 : NULL;

    if (!pattern)
        return !key;
    if (n_pattern == 1 && *pattern == '#')
        return fits(pattern_rest, key) || (key && fits(pattern, key_rest));
    if (!key ||
        !((n_pattern == 1 && *pattern == '*') || (n_pattern == n_key && strncmp(pattern, key, n_key) == 0)))
        return false;
    return fits(pattern_rest, key_rest);
}

static bool fits_one_of(const char *pattern, const struct model_routing *r)
{
    for (int i = 0; i < r->n_keys; i++) {
        char key[64];

        snprintf(key, sizeof key, "%.*s", SLICE_ARG(r->keys[i]));
        if (fits(*pattern ? pattern : NULL, *key ? key : NULL))
            return true;
    }
    return false;
}

static bool is_one_of(const char *key, const struct model_routing *r)
{
    for (int i = 0; i < r->n_keys; i++)
        if (slice_equal(r->keys[i], slice_from_text(key)))
            return true;
    return false;
}

static bool has_header(int which, const struct item *wanted)
{
    for (int i = 0; i < ITEMS_MAX && headers[which][i].name; i++)
        if (strcmp(headers[which][i].name, wanted->name) == 0)
            return !wanted->value || strcmp(headers[which][i].value, wanted->value) == 0;
    return false;
}

static bool headers_fit(int which_arguments, int which_headers)
{
    const char *x_match = arguments[which_arguments].x_match ? arguments[which_arguments].x_match : "all";
    const struct item *items = arguments[which_arguments].items;
    bool with_x = strstr(x_match, "with-x") != NULL;
    int n = 0, n_fit = 0;

    for (int i = 0; i < ITEMS_MAX && items[i].name; i++) {
        if (!with_x && strncmp(items[i].name, "x-", 2) == 0)
            continue;
        n++;
        n_fit += has_header(which_headers, &items[i]);
    }
    return strncmp(x_match, "any", 3) == 0 ? n_fit > 0 : n_fit == n;
}

static bool leads(const struct model *m, const struct model_binding *b, const struct model_routing *r)
{
    if (!r)
        return true;
    switch (m->exchanges[b->source].options.type) {
    case EXCHANGE_DIRECT:
        return is_one_of(keys[b->key], r);
    case EXCHANGE_TOPIC:
        return fits_one_of(keys[b->key], r);
    case EXCHANGE_HEADERS:
        return headers_fit(b->arguments, r->headers);
    case EXCHANGE_FANOUT:
        break;
    }
    return true;
}

struct visit {
    bool queues[QUEUES_MAX], exchanges[EXCHANGES_MAX];
};

/* r NULL: whatever the message. */
static void visit(const struct model *m, int exchange, const struct model_routing *r, struct visit *v)
{
    int alternate = exchange_by_name(m->exchanges[exchange].options.alternate);
    bool nowhere = true;

    if (!m->exchanges[exchange].there || v->exchanges[exchange])
        return;
    v->exchanges[exchange] = true;
    for (size_t i = 0; i < m->n_bindings; i++) {
        const struct model_binding *b = &m->bindings[i];

        if (b->source != exchange || !leads(m, b, r))
            continue;
        nowhere = false;
        if (b->to_exchange)
            visit(m, b->destination, r, v);
        else
            v->queues[b->destination] = true;
    }
    if ((nowhere || !r) && alternate >= 0)
        visit(m, alternate, r, v);
}

static int list_queues(const struct model *m, const struct visit *v, int targets[QUEUES_MAX])
{
    int n = 0;

    for (int i = 0; i < QUEUES_MAX; i++)
        if (v->queues[i] && m->queues[i].there)
            targets[n++] = i;
    return n;
}

int model_route(const struct model *m, const struct model_routing *r, int targets[QUEUES_MAX])
{
    struct visit v = {{false}, {false}};

    if (r->exchange >= 0)
        visit(m, r->exchange, r, &v);
    for (int i = 0; r->exchange < 0 && i < r->n_keys; i++)
        if (queue_by_name(r->keys[i]) >= 0)
            v.queues[queue_by_name(r->keys[i])] = true;
    return list_queues(m, &v, targets);
}

int model_reach(const struct model *m, int exchange, int targets[QUEUES_MAX])
{
    struct visit v = {{false}, {false}};

    visit(m, exchange, NULL, &v);
    return list_queues(m, &v, targets);
}
