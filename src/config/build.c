/* build.c - see build.h. A section's rows say which options it may have; the rest of it is code here, a function each.
 *
 * Pools come before queues, those before listeners, and those before workers, whatever their order in the file, as they point to each other. */
#include "config/build.h"

#include <assert.h>
#include <string.h>
#include <unistd.h>

#include "config/check.h"
#include "config/nearest.h"
#include "config/route_name.h"
#include "config/value.h"

#define NAME_MAX_BYTES 64
#define THREADS_MAX 256

static const char NAME_BYTES[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
static const char TOKEN_BYTES[] =
    "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

struct build {
    struct config *config;
    struct config_store *store;
    struct config_problems *problems;
    bool whole;
};

#define refuse(build, item, ...) \
    ((item)->bad = true, config_problem((build)->problems, (item)->place, __VA_ARGS__))

/* --- names ---------------------------------------------------------------------------------------- */

/* "in pool", "at the top of the file" */
static const char *where(const struct config_table *table)
{
    return *table->name ? "in " : "at the top of the file";
}

/* Adds " or in NAME" for each section that knows the word. */
static void who_knows(const struct config_table *table, const char *word, char *text, size_t bytes)
{
    if (config_table_row(table, word) || config_table_section(table, word)) {
        strncat(text, *text ? " or " : "", bytes - strlen(text) - 1);
        strncat(text, where(table), bytes - strlen(text) - 1);
        strncat(text, table->name, bytes - strlen(text) - 1);
    }
    for (size_t i = 0; table->inside[i]; i++)
        who_knows(table->inside[i], word, text, bytes);
}

static void all_known(const struct config_table *table, char *text, size_t bytes)
{
    text[0] = '\0';
    for (size_t i = 0; i < table->n_rows; i++) {
        strncat(text, *text ? ", " : "", bytes - strlen(text) - 1);
        strncat(text, table->rows[i].name, bytes - strlen(text) - 1);
    }
    for (size_t i = 0; table->inside[i]; i++) {
        strncat(text, ", ", bytes - strlen(text) - 1);
        strncat(text, table->inside[i]->name, bytes - strlen(text) - 1);
    }
}

static void refuse_unknown(struct build *b, struct config_item *item, const struct config_table *table)
{
    const char *kind = item->kind == CONFIG_OPTION ? "option" : "section";
    struct config_nearest nearest;
    char text[512] = "";

    config_nearest_init(&nearest, item->name);
    for (size_t i = 0; i < table->n_rows; i++)
        config_nearest_try(&nearest, table->rows[i].name);
    for (size_t i = 0; table->inside[i]; i++)
        config_nearest_try(&nearest, table->inside[i]->name);
    who_knows(&config_table_top, item->name, text, sizeof text);
    if (*text) {
        refuse(b, item, "unknown %s \"%s\" %s%s; it belongs %s", kind, item->name, where(table), table->name,
               text);
    } else if (nearest.best) {
        refuse(b, item, "unknown %s \"" SHOWN "\" %s%s; did you mean \"%s\"?", kind, item->name, where(table),
               table->name, nearest.best);
    } else {
        all_known(table, text, sizeof text);
        refuse(b, item, "unknown %s \"" SHOWN "\" %s%s; known there: %s", kind, item->name, where(table),
               table->name, text);
    }
}

/* --- options -------------------------------------------------------------------------------------- */

static void refuse_second(struct build *b, struct config_item *item, const struct config_item *first,
                          const struct config_table *table)
{
    refuse(b, item, "\"%s\" stands twice %s%s; the first is at %s:%d, remove one", item->name, where(table),
           table->name, first->place.file, first->place.line);
}

/* What is unknown, or there more often than it may be. */
static void check_names(struct build *b, struct config_item *section)
{
    const struct config_item *first;

    for (struct config_item *item = section->items; item; item = item->next) {
        if (!item->row && !item->table && item->kind != CONFIG_INCLUDE)
            refuse_unknown(b, item, section->table);
        first = item->row
                    ? config_item_option(section, item->name)
                    : (item->table && !item->table->title ? config_item_section(section, item->table) : item);
        if (first != item && (item->row || item->table))
            refuse_second(b, item, first, section->table);
        section->bad = section->bad || item->bad;
    }
}

static void read_row(struct build *b, const struct config_row *row, struct config_item *option,
                     void *structure)
{
    struct config_value standard = {.text = row->text};
    struct config_reading reading = {b->store, b->problems, row, option ? option->values : &standard,
                                     structure};

    if (!option && !row->text)
        return;
    if (row->type->read(&reading))
        return;
    assert(option); /* a default is good */
    option->bad = true;
}

/* Stores the options of a section, and the defaults of those that it does not have. section NULL: of all. */
static void fill(struct build *b, const struct config_table *table, struct config_item *section,
                 void *structure)
{
    for (size_t i = 0; i < table->n_rows; i++)
        read_row(b, &table->rows[i], section ? config_item_option(section, table->rows[i].name) : NULL,
                 structure);
    if (section)
        check_names(b, section);
}

static void refuse_memory(struct build *b, const struct config_item *section)
{
    config_problem(b->problems, section->place, "out of memory; stop something else");
}

/* Room for a structure for each section of that table; *count is how many there are. */
static void *room_for(struct build *b, const struct config_item *section, const struct config_table *table,
                      size_t size, size_t *count)
{
    void *room;

    *count = 0;
    for (const struct config_item *item = section->items; item; item = item->next)
        *count += item->table == table;
    room = config_store_array(b->store, *count, size);
    if (!room) {
        refuse_memory(b, section);
        *count = 0;
    }
    return room;
}

/* --- sections ------------------------------------------------------------------------------------- */

static void build_address(struct build *b, struct config_item *item, struct address *address)
{
    const char *why;

    if (address_parse(slice_from_text(item->title), address, &why) != 0)
        refuse(b, item, "%s \"" SHOWN "\" is no address; %s", item->name, item->title, why);
}

/* Of whatever has a name, and no address. */
static void check_name(struct build *b, struct config_item *item)
{
    if (!*item->title || item->title[strspn(item->title, NAME_BYTES)] || strlen(item->title) > NAME_MAX_BYTES)
        refuse(b, item, "%s \"" SHOWN "\" has a bad name; write up to %d letters, digits, '-', '_' and '.'",
               item->name, item->title, NAME_MAX_BYTES);
}

static unsigned online_cpus(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);

    return count < 1 ? 1 : (count > THREADS_MAX ? THREADS_MAX : (unsigned)count);
}

static void build_server(struct build *b, struct config_item *item, struct config_server *server)
{
    server->place = item->place;
    server->name = item->title;
    build_address(b, item, &server->address);
    fill(b, item->table, item, server);
}

static void build_pool(struct build *b, struct config_item *item, struct config_pool *pool)
{
    struct config_item *health = config_item_section(item, &config_table_health);
    size_t n = 0;

    pool->place = item->place;
    pool->name = item->title;
    check_name(b, item);
    fill(b, item->table, item, pool);
    fill(b, &config_table_health, health, &pool->health);
    pool->health.active = health != NULL;
    fill(b, &config_table_ejection, config_item_section(item, &config_table_ejection), &pool->ejection);
    pool->servers = room_for(b, item, &config_table_server, sizeof *pool->servers, &pool->n_servers);
    for (struct config_item *server = item->items; server && n < pool->n_servers; server = server->next)
        if (server->table == &config_table_server)
            build_server(b, server, &pool->servers[n++]);
    if (b->whole)
        config_check_pool(b->problems, item, pool);
}

#define ATTEMPTS_WITH_DEAD_LETTER 20

static void build_queue(struct build *b, struct config_item *item, struct config_queue *queue)
{
    struct config_item *push = config_item_section(item, &config_table_push);

    check_name(b, item);
    queue->retry.attempts = config_item_option(item, "dead-letter") ? ATTEMPTS_WITH_DEAD_LETTER : 0;
    fill(b, item->table, item, queue);
    fill(b, &config_table_push, push, &queue->push);
    queue->push.active = push != NULL;
    fill(b, &config_table_retry, config_item_section(item, &config_table_retry), &queue->retry);
    if (b->whole)
        config_check_queue(b->problems, b->config, item, queue);
}

static void build_topic(struct build *b, struct config_item *item, struct config_topic *topic)
{
    check_name(b, item);
    fill(b, item->table, item, topic);
    if (b->whole)
        config_check_topic(b->problems, b->config, item, topic);
}

static const char *bad_prefix(struct slice path)
{
    struct slice segment;

    if (!path.len || path.ptr[0] != '/')
        return "must start with '/'";
    for (size_t i = 0; i < path.len; i++)
        if (path.ptr[i] <= ' ' || path.ptr[i] >= 0x7f || strchr("%?#", path.ptr[i]))
            return "must be plain text without spaces, '%', '?' and '#'";
    slice_drop(&path, 1);
    if (!path.len)
        return NULL;
    while (slice_next_part(&path, '/', &segment)) {
        if (slice_equal(segment, SLICE(".")) || slice_equal(segment, SLICE("..")))
            return "must not contain the segments \".\" and \"..\"";
        if (!segment.len && path.ptr)
            return "must not contain \"//\"";
    }
    return NULL;
}

static void build_condition(struct build *b, struct config_item *item, struct config_condition *condition)
{
    condition->kind = item->table == &config_table_header   ? CONDITION_HEADER
                      : item->table == &config_table_cookie ? CONDITION_COOKIE
                                                            : CONDITION_QUERY;
    condition->name = slice_from_text(item->title);
    condition->any_value = true;
    if (!*item->title ||
        (condition->kind != CONDITION_QUERY && item->title[strspn(item->title, TOKEN_BYTES)]))
        refuse(b, item, "%s \"" SHOWN "\" is no name; write the name that a request has", item->name,
               item->title);
    fill(b, item->table, item, condition);
}

static bool is_condition(const struct config_item *item)
{
    return item->table == &config_table_header || item->table == &config_table_cookie ||
           item->table == &config_table_query;
}

static void build_conditions(struct build *b, struct config_item *section, struct config_route *route)
{
    size_t count = 0;

    for (const struct config_item *item = section->items; item; item = item->next)
        count += is_condition(item);
    route->conditions = config_store_array(b->store, count, sizeof *route->conditions);
    if (!route->conditions) {
        refuse_memory(b, section);
        return;
    }
    for (struct config_item *item = section->items; item; item = item->next)
        if (is_condition(item))
            build_condition(b, item, &route->conditions[route->n_conditions++]);
}

static void build_route(struct build *b, struct config_item *item, struct config_route *route)
{
    const char *why;

    route->place = item->place;
    route->path = slice_from_text(item->title);
    route->retries = -1;
    route->action = ROUTE_POOL;
    why = bad_prefix(route->path);
    if (why)
        refuse(b, item, "route \"" SHOWN "\" %s; write a prefix like \"/api\"", item->title, why);
    else if (route->path.len > 1 && route->path.ptr[route->path.len - 1] == '/')
        route->path.len--;
    fill(b, item->table, item, route);
    build_conditions(b, item, route);
    route->name = config_route_name(b->store, route);
    if (!route->name)
        refuse_memory(b, item);
    if (b->whole)
        config_check_route(b->problems, b->config, item, route);
}

static void build_http(struct build *b, struct config_item *item, struct config_http *http)
{
    size_t n = 0;

    http->place = item->place;
    http->name = item->title;
    build_address(b, item, &http->address);
    fill(b, item->table, item, http);
    if (!config_item_option(item, "max-line") && http->max_line > http->max_head)
        http->max_line = http->max_head;
    http->routes = room_for(b, item, &config_table_route, sizeof *http->routes, &http->n_routes);
    for (struct config_item *route = item->items; route && n < http->n_routes; route = route->next)
        if (route->table == &config_table_route)
            build_route(b, route, &http->routes[n++]);
    if (b->whole)
        config_check_http(b->problems, item, http);
}

static void build_tcp(struct build *b, struct config_item *item, struct config_tcp *tcp)
{
    tcp->place = item->place;
    tcp->name = item->title;
    build_address(b, item, &tcp->address);
    fill(b, item->table, item, tcp);
    if (b->whole)
        config_check_tcp(b->problems, b->config, item, tcp);
}

/* The option of a user who is well known: guest may come from this machine only, as in RabbitMQ. */
static void read_guest_networks(struct build *b, struct config_user *user)
{
    struct config_value networks[] = {{.next = &networks[1], .text = "127.0.0.0/8"}, {.text = "::1"}};
    struct config_item standard = {.values = networks};

    read_row(b, config_table_row(&config_table_user, "from"), &standard, user);
}

static bool is_user_name(const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
            return false;
    return len && len <= CONFIG_AMQP_NAME_MAX;
}

static void build_user(struct build *b, struct config_item *item, struct config_user *user)
{
    user->place = item->place;
    user->name = item->title;
    if (!is_user_name(user->name))
        refuse(b, item,
               "user \"" SHOWN "\" has a bad name; write up to %d bytes, none of them a control character",
               item->title, CONFIG_AMQP_NAME_MAX);
    fill(b, item->table, item, user);
    if (strcmp(user->name, "guest") == 0 && !config_item_option(item, "from"))
        read_guest_networks(b, user);
}

static void build_amqp(struct build *b, struct config_item *item, struct config_amqp *amqp)
{
    size_t n = 0;

    amqp->place = item->place;
    amqp->name = item->title;
    build_address(b, item, &amqp->address);
    fill(b, item->table, item, amqp);
    amqp->users = room_for(b, item, &config_table_user, sizeof *amqp->users, &amqp->n_users);
    for (struct config_item *user = item->items; user && n < amqp->n_users; user = user->next)
        if (user->table == &config_table_user)
            build_user(b, user, &amqp->users[n++]);
    if (b->whole)
        config_check_amqp(b->problems, item, amqp);
}

static void build_admin(struct build *b, struct config_item *item, struct config_admin *admin)
{
    admin->place = item->place;
    admin->name = item->title;
    build_address(b, item, &admin->address);
    fill(b, item->table, item, admin);
    if (b->whole)
        config_check_admin(b->problems, b->config, item, admin);
    if (!b->config->admin)
        b->config->admin = admin;
}

static void build_workers(struct build *b, struct config_item *item, struct config_workers *workers)
{
    check_name(b, item);
    fill(b, item->table, item, workers);
    if (!workers->max) {
        workers->max = 2 * online_cpus();
        workers->max = workers->max < workers->min ? workers->min : workers->max;
    }
    if (b->whole)
        config_check_workers(b->problems, b->config, item, workers);
}

static void build_gauge(struct build *b, struct config_item *item, struct config_gauge *gauge)
{
    check_name(b, item);
    fill(b, item->table, item, gauge);
    if (b->whole)
        config_check_gauge(b->problems, item, gauge);
}

/* --- the file ------------------------------------------------------------------------------------- */

/* Room for all sections that may stand in the file. */
struct rooms {
    struct config_admin *admin;
    size_t n_admin, n_http, n_tcp, n_amqp, n_pools, n_queues, n_topics, n_workers,
        n_gauges; /* that there is room for */
};

static void build_pools(struct build *b, struct config_item *top, const struct rooms *rooms)
{
    struct config *config = b->config;
    size_t order = 0;

    for (struct config_item *item = top->items; item; item = item->next, order++)
        if (item->table == &config_table_pool && config->n_pools < rooms->n_pools) {
            config->pools[config->n_pools].order = order;
            build_pool(b, item, &config->pools[config->n_pools++]);
        }
}

/* Queues have their names before any is looked at closely: they point to each other. */
static void build_queues(struct build *b, struct config_item *top, const struct rooms *rooms)
{
    struct config *config = b->config;
    size_t order = 0, n = 0;

    for (struct config_item *item = top->items; item; item = item->next, order++)
        if (item->table == &config_table_queue && config->n_queues < rooms->n_queues)
            config->queues[config->n_queues++] =
                (struct config_queue){.place = item->place, .name = item->title, .order = order};
    for (struct config_item *item = top->items; item && n < config->n_queues; item = item->next)
        if (item->table == &config_table_queue)
            build_queue(b, item, &config->queues[n++]);
    order = 0;
    for (struct config_item *item = top->items; item; item = item->next, order++)
        if (item->table == &config_table_topic && config->n_topics < rooms->n_topics) {
            config->topics[config->n_topics] =
                (struct config_topic){.place = item->place, .name = item->title, .order = order};
            build_topic(b, item, &config->topics[config->n_topics++]);
        }
}

static void build_listeners(struct build *b, struct config_item *top, const struct rooms *rooms)
{
    struct config *config = b->config;
    size_t order = 0, n_admin = 0;

    for (struct config_item *item = top->items; item; item = item->next, order++)
        if (item->table == &config_table_http && config->n_http < rooms->n_http) {
            config->http[config->n_http].order = order;
            build_http(b, item, &config->http[config->n_http++]);
        } else if (item->table == &config_table_tcp && config->n_tcp < rooms->n_tcp) {
            config->tcp[config->n_tcp].order = order;
            build_tcp(b, item, &config->tcp[config->n_tcp++]);
        } else if (item->table == &config_table_amqp && config->n_amqp < rooms->n_amqp) {
            config->amqp[config->n_amqp].order = order;
            build_amqp(b, item, &config->amqp[config->n_amqp++]);
        } else if (item->table == &config_table_admin && n_admin < rooms->n_admin) {
            rooms->admin[n_admin].order = order;
            build_admin(b, item, &rooms->admin[n_admin++]);
        }
}

/* Gauges first: workers point to them. */
static void build_all_workers(struct build *b, struct config_item *top, const struct rooms *rooms)
{
    struct config *config = b->config;
    size_t order = 0;

    for (struct config_item *item = top->items; item; item = item->next, order++)
        if (item->table == &config_table_gauge && config->n_gauges < rooms->n_gauges) {
            config->gauges[config->n_gauges] =
                (struct config_gauge){.place = item->place, .name = item->title, .order = order};
            build_gauge(b, item, &config->gauges[config->n_gauges++]);
        }
    order = 0;
    for (struct config_item *item = top->items; item; item = item->next, order++)
        if (item->table == &config_table_workers && config->n_workers < rooms->n_workers) {
            config->workers[config->n_workers] =
                (struct config_workers){.place = item->place, .name = item->title, .order = order};
            build_workers(b, item, &config->workers[config->n_workers++]);
        }
}

void config_build(struct config *config, struct config_item *top, struct config_store *store,
                  struct config_problems *problems, bool whole)
{
    struct build b = {config, store, problems, whole};
    struct rooms rooms;

    fill(&b, top->table, top, config);
    if (!config->threads)
        config->threads = online_cpus();
    rooms.admin = room_for(&b, top, &config_table_admin, sizeof *rooms.admin, &rooms.n_admin);
    config->http = room_for(&b, top, &config_table_http, sizeof *config->http, &rooms.n_http);
    config->tcp = room_for(&b, top, &config_table_tcp, sizeof *config->tcp, &rooms.n_tcp);
    config->amqp = room_for(&b, top, &config_table_amqp, sizeof *config->amqp, &rooms.n_amqp);
    config->pools = room_for(&b, top, &config_table_pool, sizeof *config->pools, &rooms.n_pools);
    config->queues = room_for(&b, top, &config_table_queue, sizeof *config->queues, &rooms.n_queues);
    config->topics = room_for(&b, top, &config_table_topic, sizeof *config->topics, &rooms.n_topics);
    config->workers = room_for(&b, top, &config_table_workers, sizeof *config->workers, &rooms.n_workers);
    config->gauges = room_for(&b, top, &config_table_gauge, sizeof *config->gauges, &rooms.n_gauges);
    build_pools(&b, top, &rooms);
    build_queues(&b, top, &rooms);
    build_listeners(&b, top, &rooms);
    build_all_workers(&b, top, &rooms);
    if (whole)
        config_check_all(problems, top, config);
}
