/* test_config.c - the configuration file: what every option takes, what is refused with which words at which line,
 * and what comes out. Tests that walk over the tables find an option that nobody tests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "config/config.h"
#include "config/nearest.h"
#include "config/table.h"
#include "config/value.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define MS UINT64_C(1000)
#define SECOND (1000 * MS)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)

/* Parses the text as a file named "test". *said is everything that was printed, the caller's to free. */
static struct config *parse(const char *text, char **said)
{
    size_t len = strlen(text);
    char *copy = malloc(len + !len); /* exact: ASan sees an over-read by one */
    struct config *config;
    FILE *errors = open_memstream(said, &(size_t){0});

    assert_non_null(copy);
    assert_non_null(errors);
    memcpy(copy, text, len);
    config = config_parse("test", slice_of(copy, len), errors);
    fclose(errors);
    free(copy);
    return config;
}

static struct config *must_parse(const char *text)
{
    char *said = NULL;
    struct config *config = parse(text, &said);

    if (!config)
        fail_msg("%s\n%s", text, said);
    assert_string_equal(said, "");
    free(said);
    return config;
}

static void accepts(const char *text)
{
    config_unref(must_parse(text));
}

/* The file is refused with exactly these lines. */
static void refuses(const char *text, const char *lines)
{
    char *said = NULL;
    struct config *config = parse(text, &said);

    if (config || strcmp(said, lines) != 0)
        fail_msg("%s\nis refused with\n%s\ninstead of\n%s", text, said, lines);
    free(said);
}

static void expect_slice(struct slice s, const char *text)
{
    assert_true(slice_equal(s, slice_from_text(text)));
}

/* --- every option ------------------------------------------------------------------------------- */

/* A file in which one section is still to be filled in, in line 2. */
static const struct {
    const struct config_table *table;
    const char *before, *after;
} files[] = {
    {&config_table_top, "\n", "\nhttp :80 { route / { respond = 200 } }"},
    {&config_table_admin, "http :80 {} admin 127.0.0.1:81 {\n", "\n}"},
    {&config_table_http, "http :80 {\n", "\n}"},
    {&config_table_tcp, "pool web { server a:1 {} } tcp :80 {\n", "\n}"},
    {&config_table_amqp, "amqp :80 { user a { password = x }\n", "\n}"},
    {&config_table_user, "amqp :80 { user a {\n", "\n} }"},
    {&config_table_route, "http :80 { route / {\n",
     "\n} } pool web { server a:1 {} } queue q {} topic t { queues = q }"},
    {&config_table_header, "http :80 { route / { respond = 200 header x {\n", "\n} } }"},
    {&config_table_cookie, "http :80 { route / { respond = 200 cookie x {\n", "\n} } }"},
    {&config_table_query, "http :80 { route / { respond = 200 query x {\n", "\n} } }"},
    {&config_table_pool, "http :80 {} pool web { server a:1 {}\n", "\n}"},
    {&config_table_server, "http :80 {} pool web { server a:1 {\n", "\n} server b:1 {} }"},
    {&config_table_health, "http :80 {} pool web { server a:1 {} health {\n", "\n} }"},
    {&config_table_ejection, "http :80 {} pool web { server a:1 {} ejection {\n", "\n} }"},
    {&config_table_queue, "http :80 {} queue dead {} queue q {\n", "\n}"},
    {&config_table_push, "http :80 {} pool web { server a:1 {} } queue q { push {\n", "\n} }"},
    {&config_table_retry, "http :80 {} queue q { retry {\n", "\n} }"},
    {&config_table_topic, "http :80 {} queue a {} queue b {} topic t {\n", "\n}"},
    {&config_table_workers,
     "amqp :81 { user a { password = x } } queue q {} gauge g { full = 1 } workers w {\n", "\n}"},
    {&config_table_gauge, "http :80 {} gauge g {\n", "\n}"},
};

/* What else an option needs in its section to be accepted. */
static const struct {
    const char *section, *option, *with;
} companions[] = {
    {"http", "max-line", "max-head = 1m"},
    {"route", "host", "respond = 200"},
    {"route", "methods", "respond = 200"},
    {"route", "status", "redirect = /"},
    {"route", "body", "respond = 200"},
    {"route", "strip-prefix", "pool = web"},
    {"route", "retries", "pool = web"},
    {"route", "retry-with-key", "pool = web"},
    {"", "state-max", "state-segment = 1m"},
    {"route", "spill", "pool = web queue = q"},
    {"route", "delay", "queue = q"},
    {"route", "max-wait", "topic = t"},
    {"route", "idempotency-window", "queue = q"},
    {"queue", "overflow", "max-length = 1 dead-letter = dead"},
    {"push", "path", "pool = web"},
    {"push", "rate", "pool = web"},
    {"push", "burst", "pool = web rate = 1/s"},
    {"push", "concurrency", "pool = web"},
    {"push", "timeout", "pool = web"},
    {"push", "dead-on", "pool = web"},
    {"push", "order-by", "pool = web"},
    {"push", "max-answer", "pool = web"},
    {"retry", "first", "most = 720h"},
    {"retry", "most", "first = 1ms"},
    {"workers", "command", "queue = q"},
    {"workers", "kind", "queue = q"},
    {"workers", "min", "queue = q max = 1000"},
    {"workers", "max", "queue = q min = 0"},
    {"workers", "slots", "queue = q"},
    {"workers", "backlog-per-worker", "queue = q"},
    {"workers", "drain-target", "queue = q"},
    {"workers", "cooldown", "queue = q"},
    {"workers", "stop-timeout", "queue = q command = w"},
    {"workers", "gauge", "queue = q"},
    {"workers", "path", "queue = q kind = http"},
    {"workers", "health", "queue = q kind = http"},
    {"workers", "start-timeout", "queue = q command = w"},
    {"gauge", "unit", "full = 1"},
    {"gauge", "expires", "full = 1"},
    {"tcp", "idle-timeout", "pool = web"},
    {"tcp", "accept-proxy", "pool = web"},
    {"user", "from", "password = x"},
    {"user", "virtual-hosts", "password = x"},
    {"user", "configure", "password = x"},
    {"user", "write", "password = x"},
    {"user", "read", "password = x"},
    {"user", "administrator", "password = x"},
    {"pool", "hash-key", "balance = consistent-hash"},
    {"pool", "virtual-nodes", "balance = consistent-hash"},
    {"pool", "load-bound", "balance = consistent-hash"},
    {"health", "host", "path = /"},
    {"health", "expect-status", "path = /"},
    {"health", "send", "expect = x"},
    {"ejection", "time", "most = 24h"},
    {"ejection", "most", "time = 1ms"},
};

static void fill_in(char *text, size_t bytes, const struct config_table *table, const struct config_row *row,
                    const char *value)
{
    const char *with = "";

    for (size_t i = 0; i < COUNT(companions); i++)
        if (strcmp(companions[i].section, table->name) == 0 && strcmp(companions[i].option, row->name) == 0)
            with = companions[i].with;
    for (size_t i = 0; i < COUNT(files); i++)
        if (files[i].table == table) {
            snprintf(text, bytes, "%s%s %s = %s%s", files[i].before, with, row->name, value, files[i].after);
            return;
        }
    fail_msg("no file to try section \"%s\" in", table->name);
}

static void row_accepts(const struct config_table *table, const struct config_row *row, const char *value)
{
    char text[512];

    fill_in(text, sizeof text, table, row, value);
    accepts(text);
}

/* One line, about line 2, that names the option or the value, and contains the words. */
static void row_refuses(const struct config_table *table, const struct config_row *row, const char *value,
                        const char *words)
{
    char text[512], *said = NULL;
    struct config *config;

    fill_in(text, sizeof text, table, row, value);
    config = parse(text, &said);
    if (config || strncmp(said, "test:2: ", 8) != 0 || strchr(said, '\n') != said + strlen(said) - 1 ||
        !strstr(said, words) || !strstr(said, "; "))
        fail_msg("%s\nis refused with\n%s\nwithout \"%s\"", text, said, words);
    free(said);
}

typedef void visit_row(const struct config_table *table, const struct config_row *row);

static void each_row(const struct config_table *table, visit_row *visit)
{
    for (size_t i = 0; i < table->n_rows; i++)
        visit(table, &table->rows[i]);
    for (size_t i = 0; table->inside[i]; i++)
        each_row(table->inside[i], visit);
}

static bool is_number(const struct config_row *row)
{
    return row->type == &config_type_number || row->type == &config_type_size ||
           row->type == &config_type_time;
}

static void try_number(const struct config_table *table, const struct config_row *row)
{
    char text[CONFIG_BOUND_TEXT_MAX], raw[64];
    const char *unit = row->type == &config_type_time ? "ms" : "";
    uint64_t factor = row->type == &config_type_time ? MS : 1;

    if (!is_number(row))
        return;
    assert_true(row->high > row->low);
    config_number_text(row->type, row->low, text);
    row_accepts(table, row, text);
    config_number_text(row->type, row->high, text);
    row_accepts(table, row, text);
    snprintf(raw, sizeof raw, "%llu%s", (unsigned long long)(row->high / factor), unit);
    row_accepts(table, row, raw);
    snprintf(raw, sizeof raw, "%llu%s", (unsigned long long)(row->high / factor + 1), unit);
    row_refuses(table, row, raw, "out of bounds; write ");
    if (row->low > factor) {
        snprintf(raw, sizeof raw, "%llu%s", (unsigned long long)(row->low / factor - 1), unit);
        row_refuses(table, row, raw, "out of bounds; write ");
    }
    if (row->low && !row->zero)
        row_refuses(table, row, "0", "out of bounds; write ");
    else
        row_accepts(table, row, "0");
    row_refuses(table, row, "-1", " is no ");
    row_refuses(table, row, "x", " is no ");
    row_refuses(table, row, "\"\"", " is no ");
    row_refuses(table, row, "18446744073709551616", "out of bounds");
    row_refuses(table, row, "18446744073709551615h",
                row->type == &config_type_time   ? "out of bounds"
                : row->type == &config_type_size ? "unknown unit"
                                                 : "is no number");
    if (row->type == &config_type_time) {
        row_refuses(table, row, "5", "has no unit; add one: ms, s, m or h");
        row_refuses(table, row, "5d", "has an unknown unit; the units are ms, s, m or h");
        row_refuses(table, row, "1.5s", "unknown unit");
    }
    if (row->type == &config_type_size)
        row_refuses(table, row, "1kb", "has an unknown unit; the units are k, m or g");
}

static void numbers_are_accepted_within_their_bounds_only(void **state)
{
    (void)state;
    each_row(&config_table_top, try_number);
}

static void try_word(const struct config_table *table, const struct config_row *row)
{
    static const char *const words[] = {"yes", "no", "true", "false", "on", "off", "YES"};

    for (size_t i = 0; i < COUNT(words) && row->type == &config_type_yes_no; i++)
        row_accepts(table, row, words[i]);
    if (row->type == &config_type_yes_no)
        row_refuses(table, row, "maybe", "is neither; write yes or no");
    for (size_t i = 0; row->choices && row->choices[i]; i++)
        row_accepts(table, row, row->choices[i]);
    if (row->choices)
        row_refuses(table, row, "nonsense", " is unknown; write one of ");
    if (strcmp(row->name, "balance") == 0) {
        row_refuses(table, row, "nonsense", "write one of round-robin, least-connections, ");
        row_refuses(table, row, "last-connections", "did you mean \"least-connections\"?");
    }
}

static void words_are_accepted_as_they_are_listed_only(void **state)
{
    (void)state;
    each_row(&config_table_top, try_word);
}

#define SALT_22 "abcdefghijklmnopqrstug"
#define HASH_43 "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP0"
#define OURS "\"$pbkdf2-sha256$i=600000$" SALT_22 "$" HASH_43 "\""
/* "test12", as RabbitMQ makes it */
#define RABBIT_256 "\"kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR\""

#define GOOD_PATTERNS                                                                             \
    {                                                                                             \
        "\".*\"", "\"\"", "\"^(amq\\\\.gen.*|app-[0-9]+)$\"", "'^a\\.b$'", "orders", "\"(?i)^X\"" \
    }
#define BAD_PATTERNS                                                   \
    {                                                                  \
        "\"(\"", "\"[a\"", "\"*\"", "\"a**)\"", "{ a, b }", "\"(?<n\"" \
    }

/* Every option whose values are neither numbers nor words. */
static const struct {
    const char *section, *option;
    const char *good[16], *bad[32];
} special[] = {
    {"", "user", {"nobody", "\"a b\""}, {"\"\"", "{ a, b }"}},
    {"", "state", {"./state", "/var/lib/maitred", "\"a b\""}, {"\"\"", "{ a, b }"}},
    {"route", "queue", {"q"}, {"qq", "\"\"", "{ q, q }", "t"}},
    {"route", "topic", {"t"}, {"tt", "\"\"", "{ t, t }", "q"}},
    {"queue", "dead-letter", {"dead"}, {"daed", "\"\"", "{ dead, dead }"}},
    {"push", "pool", {"web"}, {"wbe", "\"\"", "{ web, web }"}},
    {"push",
     "path",
     {"/", "/cook", "\"/a?b=c\"", "/a%20b"},
     {"cook", "\"\"", "\"/a b\"", "\"/a#b\"", "\"/a\\n\""}},
    {"push",
     "rate",
     {"0", "500/s", "60/m", "3600/h", "0.5/s", "1000000/s", "0.001/h"},
     {"500", "0/s", "1000001/s", "5/d", "/s", "-1/s", "1.2.3/s", "x", "\"\"", "1e3/s", "nan/s"}},
    {"push",
     "dead-on",
     {"400", "{ 400, 404 }", "{ 410-451, 400 }", "{ 400-410, 405-420, 421 }"},
     {"99", "600", "410-400", "400-", "4xx", "\"\"", "{ 400, x }"}},
    {"push",
     "order-by",
     {"header:X-Customer", "header:a"},
     {"X-Customer", "header:", "\"header:a b\"", "cookie:a", "ip", "\"\""}},
    {"topic", "queues", {"a", "{ a, b }", "{ b, a }"}, {"c", "{ a, a }", "{ a, c }", "\"\"", "t"}},
    {"workers", "queue", {"q"}, {"qq", "\"\"", "{ q, q }"}},
    {"workers", "gauge", {"g"}, {"gg", "\"\"", "{ g, g }"}},
    {"workers",
     "command",
     {"w", "./w", "\"w --fast 'a b' \\\"c d\\\" e\\\\ f\"", "\"w '|'\"", "\"w '$HOME'\""},
     {"\"\"", "\" \"", "{ w, x }", "\"''\"", "\"w 'a\"", "\"w | x\"", "\"w $HOME\"", "\"w \\\"$HOME\\\"\"",
      "\"w a\\\\\""}},
    {"workers", "path", {"/", "/cook", "\"/a?b=c\""}, {"cook", "\"\"", "\"/a#b\""}},
    {"workers", "health", {"/", "/healthz", "\"/a?b=c\""}, {"healthz", "\"\"", "\"/a#b\""}},
    {"gauge", "full", {"1", "20", "0.5"}, {"0", "-1", "x", "\"\"", "{ 1, 2 }"}},
    {"gauge", "unit", {"connections", "\"a b\""}, {"\"\"", "{ a, b }"}},
    {"http", "access-log", {"\"-\"", "./access.log", "/var/log/x"}, {"\"\""}},
    {"http",
     "trusted-proxies",
     {"127.0.0.0/8", "{ 10.1.2.3/8, ::1, 2001:db8::/32 }"},
     {"10.0.0.0/33", "{ ::1, localhost }", "\"\"", "10.0.0.1:80"}},
    {"http", "accept-proxy", {"127.0.0.0/8", "{ 10.1.2.3/8, ::1 }"}, {"10.0.0.0/33", "localhost", "\"\""}},
    {"tcp", "accept-proxy", {"127.0.0.0/8", "{ 10.1.2.3/8, ::1 }"}, {"10.0.0.0/33", "localhost", "\"\""}},
    {"tcp", "pool", {"web"}, {"wbe", "\"\"", "{ web, web }"}},
    {"amqp", "accept-proxy", {"127.0.0.0/8", "{ 10.1.2.3/8, ::1 }"}, {"10.0.0.0/33", "localhost", "\"\""}},
    {"user", "password", {"x", "\"a b\"", "\"${NOPE:-a}\"", "\"\xc3\xa4\""}, {"\"\"", "{ a, b }"}},
    {"user",
     "password-hash",
     {OURS, RABBIT_256},
     {"\"\"", "x", "{ a, b }", "\"$pbkdf2-sha256$i=999$" SALT_22 "$" HASH_43 "\"",
      "\"$pbkdf2-sha256$i=10000001$" SALT_22 "$" HASH_43 "\"", "\"$pbkdf2-sha256$i=600000$" SALT_22 "\"",
      "\"$pbkdf2-sha256$i=600000$" SALT_22 "$" HASH_43 "x\"", "\"$2b$12$" SALT_22 "\"",
      "\"kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2PO\""}},
    {"user", "from", {"127.0.0.0/8", "{ 10.1.2.3/8, ::1 }"}, {"10.0.0.0/33", "localhost", "\"\""}},
    {"user", "virtual-hosts", {"/", "\"a b\"", "{ b, /, a, b }"}, {"\"\"", "{ a, \"\" }"}},
    {"user", "configure", GOOD_PATTERNS, BAD_PATTERNS},
    {"user", "write", GOOD_PATTERNS, BAD_PATTERNS},
    {"user", "read", GOOD_PATTERNS, BAD_PATTERNS},
    {"admin",
     "token",
     {"0123456789abcdef", "\"!#$%&()*+,-./:;<=>?@\"",
      "0123456789012345678901234567890123456789012345678901234567890123456789"},
     {"0123456789abcde", "\"\"", "\"0123456789abcdef \"", "\"0123456789abcde\\n\"",
      "\"0123456789abcdef\xc3\xa4\""}},
    {"route",
     "host",
     {"example.com", "EXAMPLE.com", "{ a.b, \"*.c.d\" }", "127.0.0.1", "[::1]", "\"*.com\"", "my_host"},
     {"\"\"", "example.com:80", "\"*\"", "\"*example.com\"", "\"a.*.b\"", "a..b", ".a", "a.", "-a", "a-",
      "\"a b\"", "\"a .b\"", "[::1", "[1.2.3.4]", "[]", "http://a", "\"*.\"",
      "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggg"}},
    {"route",
     "methods",
     {"GET", "{ GET, PROPFIND, \"M-SEARCH\" }"},
     {"get", "\"\"", "\"A B\"", "\"A/B\"", "GEt"}},
    {"route", "pool", {"web"}, {"wbe", "\"\"", "{ web, web }"}},
    {"route",
     "redirect",
     {"/new", "\"https://{host}{uri}\"", "\"/new{rest}\"", "\"https://example.com/?a=1\""},
     {"\"\"", "\"/a b\"", "\"/{path}\"", "\"/{\"", "\"/}\"", "\"/{host\"", "\"/{{host}}\"", "\"/a\\r\\nb\"",
      "\"/\xc3\xa4\""}},
    {"route", "status", {"301", "302", "303", "307", "308"}, {"300", "200", "304", "0308", "x", "\"\""}},
    {"route", "respond", {"200", "599", "404"}, {"199", "600", "x", "\"\"", "2e2", "99999999999999999999"}},
    {"route", "body", {"\"ok\\n\"", "\"\"", "ok"}, {"{ a, b }"}},
    {"header", "value", {"yes", "\"\"", "\"a b\""}, {"\"a\\nb\"", "{ a, b }"}},
    {"cookie", "value", {"yes", "\"\""}, {"\"a\\tb\""}},
    {"query", "value", {"yes", "\"a%20b\""}, {"\"\\x7f\""}},
    {"pool",
     "hash-key",
     {"ip", "host", "path", "uri", "header:X-User", "cookie:id", "query:user"},
     {"IP", "ip:x", "header", "header:", "\"header:a b\"", "path:/", "\"\""}},
    {"pool",
     "load-bound",
     {"0", "0.0", "1", "1.0", "1.25", "100"},
     {"0.5", "0.999", "100.5", "101", "-1", "nan", "inf", "1e2", "0x2", "1.", ".5", "1.2.3", "\"\"", "x"}},
    {"health",
     "path",
     {"/", "\"/healthz?a=b\"", "/a%20b"},
     {"healthz", "\"\"", "\"/a b\"", "\"/a#b\"", "\"/a\\r\\n\""}},
    {"health", "host", {"example.com", "a:80", "[::1]:80"}, {"\"\"", "\"a b\"", "a/b", "\"a\\nb\"", "u@a"}},
    {"health", "send", {"\"PING\\r\\n\"", "x", "\"\\x01\\xff\""}, {"\"\"", "{ a, b }"}},
    {"health", "expect", {"\"+PONG\"", "\"220 \"", "\"\\x01\\xff\""}, {"\"\"", "{ a, b }"}},
    {"health",
     "expect-status",
     {"200", "200-399", "599", "200-200"},
     {"199", "600", "100-200", "300-200", "200-600", "200-", "-200", "2xx", "\"\"", "200-300-400",
      "200,201"}},
};

static void try_special(const struct config_table *table, const struct config_row *row)
{
    if (is_number(row) || row->type == &config_type_yes_no || row->choices)
        return;
    for (size_t i = 0; i < COUNT(special); i++) {
        if (strcmp(special[i].section, table->name) != 0 || strcmp(special[i].option, row->name) != 0)
            continue;
        for (size_t j = 0; special[i].good[j]; j++)
            row_accepts(table, row, special[i].good[j]);
        for (size_t j = 0; special[i].bad[j]; j++)
            row_refuses(table, row, special[i].bad[j], "");
        return;
    }
    fail_msg("no values to try \"%s\" in section \"%s\" with", row->name, table->name);
}

static void try_two_values(const struct config_table *table, const struct config_row *row)
{
    if (!row->type->list)
        row_refuses(table, row, "{ 200, 201 }", "takes one value; remove the others");
}

static void an_option_that_is_no_list_takes_one_value(void **state)
{
    (void)state;
    each_row(&config_table_top, try_two_values);
}

static void every_other_option_takes_the_good_and_refuses_the_bad(void **state)
{
    (void)state;
    each_row(&config_table_top, try_special);
}

/* --- what is written again ------------------------------------------------------------------------ */

/* The structure of the section of this table in the file that files[] has for it. */
static const void *structure_of(const struct config *config, const struct config_table *table)
{
    const struct config_pool *pool = config->pools;
    const struct config_http *http = config->http;

    return table == &config_table_top        ? (const void *)config
           : table == &config_table_admin    ? (const void *)config->admin
           : table == &config_table_http     ? (const void *)http
           : table == &config_table_route    ? (const void *)http->routes
           : table == &config_table_tcp      ? (const void *)config->tcp
           : table == &config_table_amqp     ? (const void *)config->amqp
           : table == &config_table_user     ? (const void *)config->amqp->users
           : table == &config_table_pool     ? (const void *)pool
           : table == &config_table_server   ? (const void *)pool->servers
           : table == &config_table_health   ? (const void *)&pool->health
           : table == &config_table_ejection ? (const void *)&pool->ejection
           : table == &config_table_queue    ? (const void *)&config->queues[config->n_queues > 1]
           : table == &config_table_push     ? (const void *)&config->queues[0].push
           : table == &config_table_retry    ? (const void *)&config->queues[0].retry
           : table == &config_table_topic    ? (const void *)config->topics
           : table == &config_table_workers  ? (const void *)config->workers
           : table == &config_table_gauge    ? (const void *)config->gauges
                                             : (const void *)http->routes->conditions;
}

/* What the row's type writes for an option of that value; the caller's to free. */
static char *rewritten(const struct config_table *table, const struct config_row *row, const char *value)
{
    char text[8192], *again = NULL;
    struct config *config;
    FILE *out = open_memstream(&again, &(size_t){0});

    assert_non_null(out);
    fill_in(text, sizeof text, table, row, value);
    config = must_parse(text);
    row->type->write(row, structure_of(config, table), out);
    fclose(out);
    config_unref(config);
    return again;
}

static void row_rewrites(const struct config_table *table, const struct config_row *row, const char *value)
{
    char *first = rewritten(table, row, value), *second;

    if (!*first) { /* nothing is as good as no option */
        free(first);
        return;
    }
    second = rewritten(table, row, first);
    if (strcmp(first, second) != 0)
        fail_msg("%s = %s is written as %s, and then as %s", row->name, value, first, second);
    free(first);
    free(second);
}

static void try_rewriting(const struct config_table *table, const struct config_row *row)
{
    char text[CONFIG_BOUND_TEXT_MAX];

    for (size_t i = 0; row->choices && row->choices[i]; i++)
        row_rewrites(table, row, row->choices[i]);
    if (row->type == &config_type_yes_no)
        row_rewrites(table, row, "on");
    if (is_number(row)) {
        config_number_text(row->type, row->high, text);
        row_rewrites(table, row, text);
    }
    for (size_t i = 0; i < COUNT(special); i++)
        for (size_t j = 0; special[i].good[j]; j++)
            if (strcmp(special[i].section, table->name) == 0 && strcmp(special[i].option, row->name) == 0)
                row_rewrites(table, row, special[i].good[j]);
}

static void what_an_option_is_written_as_is_understood_as_the_same(void **state)
{
    (void)state;
    each_row(&config_table_top, try_rewriting);
}

static void equal_values_are_written_in_equal_words(void **state)
{
    static const struct {
        const struct config_table *table;
        const char *option, *value, *written;
    } rows[] = {
        {&config_table_top, "threads", "3", "3"},
        {&config_table_top, "drain-timeout", "30000ms", "30s"},
        {&config_table_top, "drain-timeout", "0", "0"},
        {&config_table_top, "drain-timeout", "5400s", "90m"},
        {&config_table_http, "max-head", "32768", "32k"},
        {&config_table_http, "access-log", "\"./a\"", "./a"},
        {&config_table_http, "access-log", "\"a b\"", "\"a b\""},
        {&config_table_http, "trusted-proxies",
         "{ 10.9.9.9/8, 1.2.3.4, 2001:db8::1/32, ::/0, ::ffff:0:0/90 }",
         "{ ::/0, ::ffc0:0:0/90, 1.2.3.4, 10.0.0.0/8, 2001:db8::/32 }"},
        {&config_table_route, "host", "{ B, a }", "{ a, b }"},
        {&config_table_route, "retries", "0", "0"},
        {&config_table_route, "respond", "200", "200"},
        {&config_table_route, "redirect", "\"//x/${NOPE:-}{uri}\"", "\"//x/{uri}\""},
        {&config_table_route, "body", "\"a\\n\\\"\\\\\\x01\\${b}\"", "\"a\\n\\\"\\\\\\x01\\${b}\""},
        {&config_table_route, "body", "\"\"", ""},
        {&config_table_header, "value", "\"\"", "\"\""},
        {&config_table_pool, "balance", "random-two", "random-two"},
        {&config_table_pool, "load-bound", "1.50", "1.5"},
        {&config_table_pool, "hash-key", "cookie:id", "cookie:id"},
        {&config_table_server, "backup", "true", "yes"},
        {&config_table_health, "expect-status", "200-200", "200"},
        {&config_table_tcp, "pool", "web", "web"},
        {&config_table_amqp, "frame-max", "131072", "128k"},
        {&config_table_amqp, "heartbeat", "60s", "1m"},
        {&config_table_user, "virtual-hosts", "{ b, /, b }", "{ /, b }"},
        {&config_table_user, "configure", "'^a\\.b$'", "\"^a\\\\.b\\$\""},
        {&config_table_user, "read", "\"\"", "\"\""},
        {&config_table_push, "rate", "60/m", "1/s"},
        {&config_table_push, "rate", "1/m", "1/m"},
        {&config_table_push, "rate", "0", "0"},
        {&config_table_push, "dead-on", "{ 410-420, 400, 415-430, 431 }", "{ 400, 410-431 }"},
        {&config_table_push, "order-by", "header:X-A", "header:X-A"},
        {&config_table_topic, "queues", "{ b, a }", "{ a, b }"},
        {&config_table_workers, "command", "\"w  'a'\"", "\"w  'a'\""},
        {&config_table_workers, "gauge", "g", "g"},
        {&config_table_gauge, "full", "0.50", "0.5"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char *text = rewritten(rows[i].table, config_table_row(rows[i].table, rows[i].option), rows[i].value);

        if (strcmp(text, rows[i].written) != 0)
            fail_msg("%s = %s is written as %s", rows[i].option, rows[i].value, text);
        free(text);
    }
}

/* --- defaults ------------------------------------------------------------------------------------- */

static const struct {
    const char *section, *option;
    uint64_t value;
} numbers[] = {
    {"", "drain-timeout", 30 * SECOND},
    {"", "max-connections", 10000},
    {"http", "head-timeout", 10 * SECOND},
    {"http", "idle-timeout", 75 * SECOND},
    {"http", "body-timeout", 30 * SECOND},
    {"http", "rate-grace", 10 * SECOND},
    {"http", "min-rate", 240},
    {"http", "tunnel-timeout", HOUR},
    {"http", "max-head", 32 << 10},
    {"http", "max-line", 8 << 10},
    {"http", "max-fields", 128},
    {"http", "max-body", 100 << 20},
    {"http", "max-requests", 10000},
    {"route", "retries", UINT32_MAX}, /* -1: the pool's */
    {"route", "strip-prefix", 0},
    {"route", "retry-with-key", 0},
    {"tcp", "idle-timeout", HOUR},
    {"amqp", "frame-max", 128 << 10},
    {"amqp", "channel-max", 2047},
    {"amqp", "heartbeat", 60 * SECOND},
    {"amqp", "handshake-timeout", 10 * SECOND},
    {"amqp", "max-message", 128 << 20},
    {"user", "administrator", 0},
    {"pool", "balance", BALANCE_ROUND_ROBIN},
    {"pool", "virtual-nodes", 160},
    {"pool", "retries", 1},
    {"pool", "retry-budget", 20},
    {"pool", "connect-timeout", 4 * SECOND},
    {"pool", "response-timeout", 60 * SECOND},
    {"pool", "max-connections", 0},
    {"pool", "max-queue", 1024},
    {"pool", "queue-timeout", 5 * SECOND},
    {"pool", "idle-timeout", 60 * SECOND},
    {"pool", "max-idle", 1024},
    {"pool", "max-requests", 1000},
    {"pool", "max-age", HOUR},
    {"pool", "resolve-interval", 10 * SECOND},
    {"server", "weight", 1},
    {"server", "backup", 0},
    {"server", "max-connections", 0},
    {"server", "drain", 0},
    {"server", "send-proxy", PROXY_NONE},
    {"health", "interval", 3 * SECOND},
    {"health", "fast-interval", 500 * MS},
    {"health", "timeout", 2 * SECOND},
    {"health", "rise", 2},
    {"health", "fall", 3},
    {"health", "slow-start", 0},
    {"ejection", "failures", 5},
    {"ejection", "time", 10 * SECOND},
    {"ejection", "most", 300 * SECOND},
    {"ejection", "share", 50},
    {"", "state-max", 0},
    {"", "state-segment", 64 << 20},
    {"route", "spill", SPILL_NO},
    {"route", "delay", 0},
    {"route", "max-wait", 60 * SECOND},
    {"route", "idempotency-window", 600 * SECOND},
    {"queue", "max-length", 0},
    {"queue", "max-bytes", 0},
    {"queue", "max-age", 0},
    {"queue", "overflow", OVERFLOW_REJECT_NEW},
    {"queue", "ack-timeout", 30 * 60 * SECOND},
    {"queue", "max-message", 1 << 20},
    {"push", "burst", 1},
    {"push", "concurrency", 10},
    {"push", "timeout", 30 * SECOND},
    {"push", "max-answer", 64 << 10},
    {"retry", "first", SECOND},
    {"retry", "most", 300 * SECOND},
    {"workers", "kind", WORKER_CONSUMER},
    {"workers", "min", 1},
    {"workers", "slots", 1},
    {"workers", "backlog-per-worker", 5},
    {"workers", "drain-target", 10 * SECOND},
    {"workers", "cooldown", 60 * SECOND},
    {"workers", "stop-timeout", 30 * SECOND},
    {"workers", "start-timeout", 60 * SECOND},
    {"gauge", "expires", 30 * SECOND},
};

/* Those that are no plain number in the structure; each is looked at in the test below. */
static const char *const others[] = {
    " threads",
    " user",
    "admin token",
    "http access-log",
    "http trusted-proxies",
    "http accept-proxy",
    "route host",
    "route methods",
    "route pool",
    "route redirect",
    "route status",
    "route respond",
    "route body",
    "header value",
    "cookie value",
    "query value",
    "tcp pool",
    "tcp accept-proxy",
    "amqp accept-proxy",
    "user password",
    "user password-hash",
    "user from",
    "user virtual-hosts",
    "user configure",
    "user write",
    "user read",
    "pool hash-key",
    "pool load-bound",
    " state",
    "route queue",
    "route topic",
    "queue dead-letter",
    "push pool",
    "push path",
    "push rate",
    "push dead-on",
    "push order-by",
    "retry attempts",
    "topic queues",
    "workers queue",
    "workers command",
    "workers max",
    "workers gauge",
    "workers path",
    "workers health",
    "gauge full",
    "gauge unit",
    "health path",
    "health host",
    "health expect-status",
    "health send",
    "health expect",
};

static const struct config *defaults;

static void check_default(const struct config_table *table, const struct config_row *row)
{
    const char *field = structure_of(defaults, table);
    size_t bytes = row->type == &config_type_yes_no ? sizeof(bool)
                   : row->type->bytes               ? row->type->bytes
                                                    : sizeof(unsigned);
    char name[64];
    uint64_t value = 0; /* little-endian: the field's bytes come first */

    assert_true(row->text || row->without);
    for (size_t i = 0; i < COUNT(numbers); i++) {
        if (strcmp(numbers[i].section, table->name) != 0 || strcmp(numbers[i].option, row->name) != 0)
            continue;
        memcpy(&value, field + row->offset, bytes);
        if (value != numbers[i].value)
            fail_msg("%s in \"%s\" is %llu by default", row->name, table->name, (unsigned long long)value);
        return;
    }
    snprintf(name, sizeof name, "%s %s", table->name, row->name);
    for (size_t i = 0; i < COUNT(others); i++)
        if (strcmp(others[i], name) == 0)
            return;
    fail_msg("the default of \"%s\" is not tested", name);
}

static void every_option_has_its_default(void **state)
{
    struct config *config =
        must_parse("http :80 { route / { pool = web header x {} cookie y {} query z {} } "
                   "route /r { redirect = /x } route /s { respond = 200 } }\n"
                   "tcp :81 { pool = web } amqp :83 { user a { password = x } } admin 127.0.0.1:82 {} pool "
                   "web { server a:1 {} } "
                   "queue q { push { pool = web } } queue r { dead-letter = q } topic t { queues = q } "
                   "workers w { queue = q } gauge g { full = 1 }");
    const struct config_http *http = &config->http[0];
    const struct config_route *route = &http->routes[0];
    const struct config_pool *pool = &config->pools[0];
    const struct config_user *user = &config->amqp[0].users[0];

    (void)state;
    defaults = config;
    each_row(&config_table_top, check_default);
    assert_int_equal(config->threads, sysconf(_SC_NPROCESSORS_ONLN));
    assert_null(config->user);
    assert_null(config->admin->token);
    assert_null(http->access_log);
    assert_int_equal(http->n_trusted_proxies, 0);
    assert_int_equal(http->n_accept_proxy, 0);
    assert_ptr_equal(config->tcp[0].pool, pool);
    assert_int_equal(config->tcp[0].n_accept_proxy, 0);
    assert_int_equal(config->amqp[0].n_accept_proxy, 0);
    assert_int_equal(user->n_from, 0);
    assert_int_equal(user->n_virtual_hosts, 1);
    expect_slice(user->virtual_hosts[0], "/");
    assert_string_equal(user->configure.text, ".*");
    assert_string_equal(user->write.text, ".*");
    assert_string_equal(user->read.text, ".*");
    assert_null(user->password_hash);
    assert_int_equal(route->n_hosts, 0);
    assert_int_equal(route->n_methods, 0);
    assert_int_equal(route->action, ROUTE_POOL);
    assert_ptr_equal(route->pool, pool);
    assert_null(route->redirect);
    assert_int_equal(route->body.len, 0);
    assert_int_equal(route->n_conditions, 3);
    for (size_t i = 0; i < 3; i++)
        assert_true(route->conditions[i].any_value);
    assert_int_equal(http->routes[1].status, 308);
    assert_int_equal(http->routes[2].status, 200);
    assert_int_equal(pool->hash_key, HASH_KEY_IP);
    assert_null(pool->hash_key_name);
    assert_true(pool->load_bound == 1.25);
    assert_false(pool->health.active);
    assert_null(pool->health.path);
    assert_null(pool->health.host);
    assert_int_equal(pool->health.send.len, 0);
    assert_int_equal(pool->health.expect.len, 0);
    assert_int_equal(pool->health.status_low, 200);
    assert_int_equal(pool->health.status_high, 399);
    assert_string_equal(config->state, "/var/lib/maitred");
    assert_null(route->queue);
    assert_null(route->topic);
    assert_null(config->queues[0].dead_letter);
    assert_null(config->queues[0].push.path);
    assert_true(config->queues[0].push.rate == 0);
    assert_null(config->queues[0].push.order_by);
    assert_int_equal(config->queues[0].push.n_dead_on, 0);
    assert_ptr_equal(config->queues[0].push.pool, pool);
    assert_int_equal(config->queues[0].retry.attempts, 0);
    assert_int_equal(config->queues[1].retry.attempts, 20);
    assert_false(config->queues[1].push.active);
    assert_ptr_equal(config->topics[0].queues[0], &config->queues[0]);
    assert_ptr_equal(config->workers[0].queue, &config->queues[0]);
    assert_null(config->workers[0].command.text);
    assert_int_equal(config->workers[0].max, 2 * sysconf(_SC_NPROCESSORS_ONLN));
    assert_null(config->workers[0].gauge);
    assert_null(config->workers[0].path);
    assert_null(config->workers[0].health);
    assert_null(config->workers[0].amqp);
    assert_true(config->gauges[0].full == 1);
    assert_null(config->gauges[0].unit);
    config_unref(config);
}

static void a_consumer_gets_the_first_listener_that_it_can_reach(void **state)
{
    struct config *config = must_parse("amqp unix:/a { user a { password = x } } amqp 10.0.0.1:1 { user a { "
                                       "password = x } accept-proxy = 10.0.0.0/8 } "
                                       "amqp :2 { user a { password = x } accept-proxy = 10.0.0.0/8 } queue "
                                       "q {} workers w { queue = q command = w }");

    (void)state;
    assert_ptr_equal(config->workers[0].amqp, &config->amqp[2]);
    assert_string_equal(config->workers[0].command.words[0], "w");
    assert_null(config->workers[0].command.words[1]);
    config_unref(config);
}

/* --- what comes out ------------------------------------------------------------------------------- */

/* The picture of the whole language, restricted to the sections that there are. */
static const char PICTURE[] =
    "# comment\n"
    "threads = 2                              # default: one per core\n"
    "\n"
    "http \":8080\" {                           # a layer 7 listener\n"
    "    access-log = \"./access.log\"          # JSON lines\n"
    "    trusted-proxies = { 127.0.0.0/8, ::1 } # whose X-Forwarded-For is believed\n"
    "\n"
    "    route \"/api/videos\" { pool = videos }\n"
    "    route \"/api/auth\"   { pool = auth  retries = 0 }\n"
    "    route \"/api/search\" { pool = search  strip-prefix = yes }\n"
    "    route \"/\"           { pool = web }\n"
    "    route \"/\" {                          # the whole request is there to be matched\n"
    "        host    = { \"beta.localhost\" }\n"
    "        methods = { GET, HEAD }\n"
    "        header \"X-Preview\" { value = \"yes\" }\n"
    "        cookie \"canary\"    {}            # present, with any value\n"
    "        pool    = canary\n"
    "    }\n"
    "    route \"/old/\"    { redirect = \"/new\" }                       # 308\n"
    "    route /healthz { respond = 200  body = \"ok\\n\" }\n"
    "}\n"
    "\n"
    "pool web {\n"
    "    balance = round-robin                # weights make it smooth weighted round robin\n"
    "    server 127.0.0.1:9001 { weight = 3 }\n"
    "    server [::1]:9002 { weight = 2  max-connections = 7 }\n"
    "    server 127.0.0.1:9003 { backup = yes }                       # used when no other is up\n"
    "    server unix:/run/web.sock { drain = yes }\n"
    "    server localhost:9004 {}\n"
    "    health { path = /healthz  host = h  expect-status = 200  interval = 2s  timeout = 1s  rise = 3  "
    "fall = 4\n"
    "             fast-interval = 100ms  slow-start = 10s }\n"
    "    ejection { failures = 0  time = 1s  most = 2m  share = 10 }\n"
    "    retries          = 2                 # idempotent requests only\n"
    "    connect-timeout  = 1s\n"
    "    response-timeout = 30s\n"
    "    max-connections  = 200               # per server\n"
    "    queue-timeout    = 1s\n"
    "    retry-budget = 5  max-queue = 6  idle-timeout = 7m  max-idle = 8  max-requests = 9  max-age = 0\n"
    "    resolve-interval = 11s\n"
    "}\n"
    "\n"
    "pool videos { balance = least-connections   server 127.0.0.1:9011 {}  server 127.0.0.1:9012 {} }\n"
    "pool auth   { balance = ip-hash             server 127.0.0.1:9021 {}  server 127.0.0.1:9022 {} }\n"
    "pool search {                                # consistent hashing\n"
    "    balance  = consistent-hash\n"
    "    hash-key = \"query:user\"\n"
    "    virtual-nodes = 40\n"
    "    load-bound = 1.5                     # 0 turns it off\n"
    "    server 127.0.0.1:9031 {}\n"
    "}\n"
    "pool canary    { server 127.0.0.1:9041 {} }\n"
    "pool databases { balance = least-connections  server 127.0.0.1:5432 { send-proxy = v2 }\n"
    "                 health { send = \"PING\\r\\n\"  expect = \"+\\x50ONG\" } }\n"
    "pool kitchen   { balance = random-two       server 127.0.0.1:9051 {} }   # or least-latency\n"
    "\n"
    "tcp \":9432\" { pool = databases  idle-timeout = 2h  accept-proxy = { ::1, 10.0.0.0/8 } }\n"
    "tcp \"unix:/run/maitred/db.sock\" { pool = databases }\n"
    "amqp \":5672\" {                           # any RabbitMQ client\n"
    "    user \"guest\" { password = \"guest\"  from = { 127.0.0.0/8, ::1 } }\n"
    "    user billing { password-hash = " OURS "  virtual-hosts = { shop, / }  configure = \"\"\n"
    "                   write = \"^amq\\\\.default$\"  read = ^billing  administrator = yes }\n"
    "    frame-max = 64k  channel-max = 7  heartbeat = 0  handshake-timeout = 3s  max-message = 1m\n"
    "    accept-proxy = 10.0.0.0/8\n"
    "}\n"
    "admin \"127.0.0.1:8900\" { token = \"0123456789abcdef\" }\n"
    "\n"
    "state = \"./state\"\n"
    "http \":8081\" {\n"
    "    route \"/orders\" { queue = orders  methods = { POST } }\n"
    "    route \"/signup\" { topic = user-signed-up  methods = { POST } }\n"
    "}\n"
    "queue orders {\n"
    "    push {                               # deliver by HTTP; 2xx acknowledges, anything else is retried\n"
    "        pool = kitchen  path = \"/cook\"\n"
    "        rate = 500/s  burst = 50  concurrency = 20  timeout = 30s\n"
    "    }\n"
    "    retry { attempts = 8  first = 1s  most = 5m }                # exponential, with jitter\n"
    "    dead-letter = orders-dead\n"
    "}\n"
    "queue orders-dead {}\n"
    "queue billing   { push { pool = kitchen  path = \"/bill\" } }\n"
    "queue analytics { max-length = 1000000  max-age = 24h }\n"
    "queue thumbnails { ack-timeout = 10m }   # unacknowledged for longer: delivered again\n"
    "topic user-signed-up { queues = { billing, analytics, thumbnails } }   # one event, many readers\n";

static void the_picture_of_the_language_is_understood(void **state)
{
    struct config *config = must_parse(PICTURE);
    const struct config_http *http = &config->http[0];
    const struct config_route *route = http->routes;

    (void)state;
    assert_int_equal(config->threads, 2);
    assert_int_equal(config->n_http, 2);
    assert_string_equal(http->name, ":8080");
    assert_int_equal(http->address.kind, ADDRESS_ANY);
    assert_int_equal(http->place.line, 4);
    assert_string_equal(http->place.file, "test");
    assert_string_equal(http->access_log, "./access.log");
    assert_int_equal(http->n_trusted_proxies, 2);
    assert_int_equal(http->trusted_proxies[1].prefix_bits, 104);
    assert_int_equal(http->n_routes, 7);
    expect_slice(route[0].path, "/api/videos");
    assert_string_equal(route[0].pool->name, "videos");
    assert_int_equal(route[1].retries, 0);
    assert_true(route[2].strip_prefix);
    expect_slice(route[3].path, "/");
    assert_int_equal(route[4].place.line, 12);
    assert_int_equal(route[4].n_hosts, 1);
    expect_slice(route[4].hosts[0], "beta.localhost");
    assert_int_equal(route[4].n_methods, 2);
    expect_slice(route[4].methods[1], "HEAD");
    assert_int_equal(route[4].n_conditions, 2);
    assert_int_equal(route[4].conditions[0].kind, CONDITION_HEADER);
    expect_slice(route[4].conditions[0].name, "X-Preview");
    expect_slice(route[4].conditions[0].value, "yes");
    assert_false(route[4].conditions[0].any_value);
    assert_int_equal(route[4].conditions[1].kind, CONDITION_COOKIE);
    assert_true(route[4].conditions[1].any_value);
    expect_slice(route[5].path, "/old");
    assert_int_equal(route[5].action, ROUTE_REDIRECT);
    assert_string_equal(route[5].redirect, "/new");
    assert_int_equal(route[5].status, 308);
    assert_int_equal(route[6].action, ROUTE_RESPOND);
    assert_int_equal(route[6].status, 200);
    expect_slice(route[6].body, "ok\n");
    config_unref(config);
}

static void the_pools_of_the_picture_are_understood(void **state)
{
    struct config *config = must_parse(PICTURE);
    const struct config_pool *web = config_pool_find(config, "web");
    const struct config_pool *search = config_pool_find(config, "search");

    (void)state;
    assert_int_equal(config->n_pools, 7);
    assert_null(config_pool_find(config, "we"));
    assert_int_equal(web->place.line, 23);
    assert_int_equal(web->n_servers, 5);
    assert_string_equal(web->servers[0].name, "127.0.0.1:9001");
    assert_int_equal(web->servers[0].weight, 3);
    assert_int_equal(web->servers[0].place.line, 25);
    assert_int_equal(web->servers[1].address.port, 9002);
    assert_int_equal(web->servers[1].max_connections, 7);
    assert_true(web->servers[2].backup);
    assert_int_equal(web->servers[3].address.kind, ADDRESS_UNIX);
    assert_true(web->servers[3].drain);
    assert_int_equal(web->servers[4].address.kind, ADDRESS_NAME);
    assert_true(web->health.active);
    assert_string_equal(web->health.path, "/healthz");
    assert_string_equal(web->health.host, "h");
    assert_int_equal(web->health.status_low, 200);
    assert_int_equal(web->health.status_high, 200);
    assert_int_equal(web->health.interval_us, 2 * SECOND);
    assert_int_equal(web->health.fast_interval_us, 100 * MS);
    assert_int_equal(web->health.timeout_us, SECOND);
    assert_int_equal(web->health.rise, 3);
    assert_int_equal(web->health.fall, 4);
    assert_int_equal(web->health.slow_start_us, 10 * SECOND);
    assert_int_equal(web->ejection.failures, 0);
    assert_int_equal(web->ejection.time_us, SECOND);
    assert_int_equal(web->ejection.time_most_us, 2 * MINUTE);
    assert_int_equal(web->ejection.share_percent, 10);
    assert_int_equal(web->retries, 2);
    assert_int_equal(web->retry_budget_percent, 5);
    assert_int_equal(web->connect_timeout_us, SECOND);
    assert_int_equal(web->response_timeout_us, 30 * SECOND);
    assert_int_equal(web->max_connections, 200);
    assert_int_equal(web->max_queue, 6);
    assert_int_equal(web->queue_timeout_us, SECOND);
    assert_int_equal(web->idle_timeout_us, 7 * MINUTE);
    assert_int_equal(web->max_idle, 8);
    assert_int_equal(web->max_requests, 9);
    assert_int_equal(web->max_age_us, 0);
    assert_int_equal(web->resolve_interval_us, 11 * SECOND);
    assert_int_equal(search->balance, BALANCE_CONSISTENT_HASH);
    assert_int_equal(search->hash_key, HASH_KEY_QUERY);
    assert_string_equal(search->hash_key_name, "user");
    assert_int_equal(search->virtual_nodes, 40);
    assert_true(search->load_bound == 1.5);
    assert_int_equal(config_pool_find(config, "kitchen")->balance, BALANCE_RANDOM_TWO);
    config_unref(config);
}

static void the_other_listeners_of_the_picture_are_understood(void **state)
{
    struct config *config = must_parse(PICTURE);
    const struct config_pool *databases = config_pool_find(config, "databases");
    const struct config_tcp *tcp = config->tcp;

    (void)state;
    assert_int_equal(config->n_tcp, 2);
    assert_string_equal(tcp[0].name, ":9432");
    assert_int_equal(tcp[0].address.port, 9432);
    assert_int_equal(tcp[0].place.line, 56);
    assert_ptr_equal(tcp[0].pool, databases);
    assert_int_equal(tcp[0].idle_timeout_us, 2 * HOUR);
    assert_int_equal(tcp[0].n_accept_proxy, 2);
    assert_int_equal(tcp[0].accept_proxy[0].prefix_bits, 128);
    assert_int_equal(tcp[0].accept_proxy[1].prefix_bits, 104);
    assert_int_equal(tcp[1].address.kind, ADDRESS_UNIX);
    assert_true(tcp[0].order > databases->order && config->admin->order > tcp[1].order);
    assert_int_equal(databases->servers[0].send_proxy, PROXY_V2);
    expect_slice(databases->health.send, "PING\r\n");
    expect_slice(databases->health.expect, "+PONG");
    assert_null(databases->health.path);
    assert_string_equal(config->admin->name, "127.0.0.1:8900");
    assert_int_equal(config->admin->address.port, 8900);
    assert_int_equal(config->admin->place.line, 65);
    assert_string_equal(config->admin->token, "0123456789abcdef");
    config_unref(config);
}

static void the_users_of_the_picture_are_understood(void **state)
{
    struct config *config = must_parse(PICTURE);
    const struct config_amqp *amqp = &config->amqp[0];
    const struct config_user *guest = &amqp->users[0], *billing = &amqp->users[1];
    struct matcher *matcher = matcher_create();

    (void)state;
    assert_non_null(matcher);
    assert_int_equal(config->n_amqp, 1);
    assert_string_equal(amqp->name, ":5672");
    assert_int_equal(amqp->address.port, 5672);
    assert_int_equal(amqp->n_accept_proxy, 1);
    assert_int_equal(amqp->frame_max, 64 << 10);
    assert_int_equal(amqp->channel_max, 7);
    assert_int_equal(amqp->heartbeat_us, 0);
    assert_int_equal(amqp->handshake_timeout_us, 3 * SECOND);
    assert_int_equal(amqp->max_message, 1 << 20);
    assert_int_equal(amqp->n_users, 2);
    assert_string_equal(guest->name, "guest");
    assert_string_equal(guest->password, "guest");
    assert_null(guest->password_hash);
    assert_int_equal(guest->n_from, 2);
    assert_false(guest->administrator);
    assert_string_equal(billing->name, "billing");
    assert_null(billing->password);
    assert_string_equal(billing->password_hash, "$pbkdf2-sha256$i=600000$" SALT_22 "$" HASH_43);
    assert_int_equal(billing->n_from, 0);
    assert_int_equal(billing->n_virtual_hosts, 2);
    expect_slice(billing->virtual_hosts[0], "/");
    expect_slice(billing->virtual_hosts[1], "shop");
    assert_true(billing->administrator);
    assert_true(matcher_matches(matcher, guest->configure.compiled, SLICE("anything")));
    assert_false(matcher_matches(matcher, billing->configure.compiled, SLICE("anything")));
    assert_true(matcher_matches(matcher, billing->write.compiled, SLICE("amq.default")));
    assert_false(matcher_matches(matcher, billing->write.compiled, SLICE("amq-default")));
    assert_true(matcher_matches(matcher, billing->read.compiled, SLICE("billing-dead")));
    matcher_free(matcher);
    config_unref(config);
}

static void guest_comes_from_this_machine_unless_the_file_says_otherwise(void **state)
{
    struct config *config =
        must_parse("amqp :80 { user guest { password = x } user other { password = x } }"
                   " amqp :81 { user guest { password = x from = { 0.0.0.0/0, ::/0 } } }");
    const struct config_user *guest = &config->amqp[0].users[0];
    struct ip ip;

    (void)state;
    assert_int_equal(guest->n_from, 2);
    assert_true(ip_parse(SLICE("::1"), &ip) && ip_network_has(&guest->from[0], &ip));
    assert_true(ip_parse(SLICE("127.9.9.9"), &ip) && ip_network_has(&guest->from[1], &ip));
    assert_int_equal(config->amqp[0].users[1].n_from, 0);
    guest = &config->amqp[1].users[0];
    assert_true(ip_parse(SLICE("9.9.9.9"), &ip) && ip_network_has(&guest->from[0], &ip));
    config_unref(config);
}

static void the_queues_of_the_picture_are_understood(void **state)
{
    struct config *config = must_parse(PICTURE);
    const struct config_queue *orders = config_queue_find(config, "orders");
    const struct config_topic *topic = config_topic_find(config, "user-signed-up");

    (void)state;
    assert_string_equal(config->state, "./state");
    assert_int_equal(config->n_queues, 5);
    assert_ptr_equal(config->http[1].routes[0].queue, orders);
    assert_ptr_equal(config->http[1].routes[1].topic, topic);
    assert_ptr_equal(orders->push.pool, config_pool_find(config, "kitchen"));
    assert_string_equal(orders->push.path, "/cook");
    assert_true(orders->push.rate == 500);
    assert_int_equal(orders->push.burst, 50);
    assert_int_equal(orders->push.concurrency, 20);
    assert_int_equal(orders->push.timeout_us, 30 * SECOND);
    assert_int_equal(orders->retry.attempts, 8);
    assert_int_equal(orders->retry.first_us, SECOND);
    assert_int_equal(orders->retry.most_us, 5 * MINUTE);
    assert_ptr_equal(orders->dead_letter, config_queue_find(config, "orders-dead"));
    assert_int_equal(config_queue_find(config, "analytics")->max_length, 1000000);
    assert_int_equal(config_queue_find(config, "analytics")->max_age_us, 24 * HOUR);
    assert_int_equal(config_queue_find(config, "thumbnails")->ack_timeout_us, 10 * MINUTE);
    assert_int_equal(topic->n_queues, 3);
    config_unref(config);
}

static void a_list_is_kept_in_order_and_nothing_in_it_twice(void **state)
{
    struct config *config =
        must_parse("http :80 { trusted-proxies = { ::1, 10.0.0.0/8, ::1, 10.1.0.0/8 }"
                   " route / { respond = 200 host = { b, A.c, a, B } methods = { PUT, GET, PUT } } }");
    const struct config_http *http = &config->http[0];

    (void)state;
    assert_int_equal(http->n_trusted_proxies, 2);
    assert_int_equal(http->routes[0].n_hosts, 3);
    expect_slice(http->routes[0].hosts[0], "a");
    expect_slice(http->routes[0].hosts[1], "a.c");
    expect_slice(http->routes[0].hosts[2], "b");
    assert_int_equal(http->routes[0].n_methods, 2);
    expect_slice(http->routes[0].methods[0], "GET");
    config_unref(config);
}

static void a_route_is_named_by_all_that_it_asks_for(void **state)
{
    static const struct {
        const char *route, *name;
    } rows[] = {
        {"route / {", "/"},
        {"route /api/ {", "/api"},
        {"route / { methods = { HEAD, GET } host = Beta.localhost cookie canary {} header X-Preview { value "
         "= yes }",
         "/ host=beta.localhost methods=GET,HEAD header:X-Preview=yes cookie:canary"},
        {"route / { host = { b, a } query b {} query a { value = \"\" } header z {} header y {}",
         "/ host=a,b header:y header:z query:a= query:b"},
        {"route / { query \"a=b\" {}", "/ query:a%3Db"},
        {"route / { query a { value = \"b=c d%\\xe4\" }", "/ query:a=b=c%20d%25%E4"},
    };
    char text[256];

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct config *config;

        snprintf(text, sizeof text, "http :80 { %s respond = 200 } }", rows[i].route);
        config = must_parse(text);
        assert_string_equal(config->http[0].routes[0].name, rows[i].name);
        config_unref(config);
    }
}

static void a_host_is_kept_in_lower_case(void **state)
{
    struct config *config =
        must_parse("http :80 { route / { respond = 200 host = { A.Example.COM, \"*.B.c\" } } }");

    (void)state;
    expect_slice(config->http[0].routes[0].hosts[0], "*.b.c");
    expect_slice(config->http[0].routes[0].hosts[1], "a.example.com");
    config_unref(config);
}

static void a_longest_line_is_never_above_the_longest_head(void **state)
{
    struct config *config = must_parse("http :80 { max-head = 4k }");

    (void)state;
    assert_int_equal(config->http[0].max_line, 4096);
    config_unref(config);
}

static void a_list_grows_with_plus_equals_wherever_that_stands(void **state)
{
    struct config *config = must_parse(
        "http :80 { route / { methods = GET respond = 200 methods += { HEAD, PUT, } body = \"x\" } }");
    const struct config_route *route = &config->http[0].routes[0];

    (void)state;
    assert_int_equal(route->n_methods, 3);
    expect_slice(route->methods[0], "GET");
    expect_slice(route->methods[2], "PUT");
    expect_slice(route->body, "x");
    config_unref(config);
}

/* --- cross-checks --------------------------------------------------------------------------------- */

#define AMQP "amqp :81 { user a { password = x } } queue q {} gauge g { full = 1 }\n"
#define POOL "pool web { server a:1 {} }\n"

static const struct {
    const char *text, *lines;
} mistakes[] = {
    {"", "test: there is no listener; add http \":8080\" { route \"/\" { pool = ... } }, or tcp, or amqp\n"},
    {POOL,
     "test: there is no listener; add http \":8080\" { route \"/\" { pool = ... } }, or tcp, or amqp\n"},
    {"http :80 {}\nhttp :81 {}\n\nhttp :80 {}",
     "test:4: another http already listens on \":80\", at test:1; remove one, or change a port\n"},
    {"http [::1]:80 {}\nhttp [0::1]:80 {}",
     "test:2: another http already listens on \"[0::1]:80\", at test:1; remove one, or change a port\n"},
    {"http unix:/a {}\nhttp unix:/a {}",
     "test:2: another http already listens on \"unix:/a\", at test:1; remove one, or change a port\n"},
    {"admin unix:/a {}",
     "test: there is no listener; add http \":8080\" { route \"/\" { pool = ... } }, or tcp, or amqp\n"},
    {POOL "http :80 {}\ntcp :80 { pool = web }\ntcp :81 { pool = web }\ntcp :81 { pool = web }",
     "test:3: another http already listens on \":80\", at test:2; remove one, or change a port\n"
     "test:5: another tcp already listens on \":81\", at test:4; remove one, or change a port\n"},
    {POOL "tcp unix:/a { pool = web }\nadmin unix:/a {}",
     "test:3: another tcp already listens on \"unix:/a\", at test:2; remove one, or change a port\n"},
    {"http :80 {}\nadmin :81 {}", "test:2: admin \":81\" can be reached from other machines; add token = "
                                  "\"...\" of 16 or more characters, "
                                  "or listen on 127.0.0.1 or a unix socket\n"},
    {"http :80 {}\nadmin 128.0.0.1:81 {}",
     "test:2: admin \"128.0.0.1:81\" can be reached from other machines; add token = \"...\" of 16 or more "
     "characters, or listen on 127.0.0.1 or a unix socket\n"},
    {"http :80 {}\nadmin [::2]:81 {}",
     "test:2: admin \"[::2]:81\" can be reached from other machines; add token = \"...\" of 16 or more "
     "characters, or listen on 127.0.0.1 or a unix socket\n"},
    {"http :80 {}\nadmin a:81 {\ntoken = secret }",
     "test:3: token must be 16 to 256 letters, digits and signs without spaces; write such a one\n"},
    {"http :80 {}\nadmin unix:/a {}\nadmin unix:/b {}",
     "test:3: there is another admin at test:2; remove one\n"},
    {POOL "tcp x {}", "test:2: tcp \"x\" is no address; the port is missing: write HOST:PORT or :PORT\n"},
    {POOL "tcp :80 {}", "test:2: tcp \":80\" has no pool; add pool = NAME\n"},
    {POOL "tcp :80 { pool = wbe }", "test:2: there is no pool \"wbe\"; did you mean \"web\"?\n"},
    {"pool web { server a:1 {} balance = least-latency }\ntcp :80 {\npool = web }",
     "test:3: pool \"web\" has balance = least-latency, which measures answers of HTTP, and cannot serve "
     "tcp; "
     "choose another balance, or give tcp a pool of its own\n"},
    {"pool web { server a:1 {} balance = consistent-hash hash-key = cookie:a }\ntcp :80 {\npool = web }",
     "test:3: pool \"web\" has a hash-key that only a request of HTTP has, and cannot serve tcp; "
     "write hash-key = ip, or give tcp a pool of its own\n"},
    {"amqp x { user a { password = x } }",
     "test:1: amqp \"x\" is no address; the port is missing: write HOST:PORT or :PORT\n"},
    {"amqp :80 {}\n", "test:1: amqp \":80\" has no user; add user NAME { password-hash = \"...\" }\n"},
    {"http :80 {}\namqp :80 { user a { password = x } }",
     "test:2: another http already listens on \":80\", at test:1; remove one, or change a port\n"},
    {"amqp :80 { user a {} }",
     "test:1: user \"a\" has no password; add password-hash = \"...\" (`maitred passwd` makes one), or "
     "password = \"...\"\n"},
    {"amqp :80 { user a {\npassword = x\npassword-hash = " RABBIT_256 " } }",
     "test:3: user \"a\" has password and password-hash; remove one\n"},
    {"amqp :80 { user a { password = x }\nuser b { password = x }\nuser a { password = x } }",
     "test:3: there is another user \"a\" at test:1; rename or remove one\n"},
    {"amqp :80 { user \"\" { password = x }\nuser \"a\\n\" { password = x } }",
     "test:1: user \"\" has a bad name; write up to 255 bytes, none of them a control character\n"
     "test:2: user \"a\\x0a\" has a bad name; write up to 255 bytes, none of them a control character\n"},
    {"amqp :80 { user a { password = x } heartbeat = 1500ms }",
     "test:1: heartbeat = 1500ms is no whole number of seconds; write one like 60s\n"},
    {"amqp :80 { user a { password = x\nwrite = \"^(a|b$\" } }",
     "test:2: write = \"^(a|b$\" is no regular expression: missing closing parenthesis at byte 6; correct "
     "it, or write \"\" for none and \".*\" for all\n"},
    {"amqp :80 { user a {\npassword-hash = secret } }",
     "test:2: password-hash is no hash; write the line that `maitred passwd` prints, or a password_hash of "
     "RabbitMQ (SHA-256 or SHA-512)\n"},
    {AMQP "workers w { }", "test:2: workers \"w\" have no queue; add queue = NAME\n"},
    {AMQP "workers w {\nqueue = qq }", "test:3: there is no queue \"qq\"; add queue NAME { ... }\n"},
    {AMQP "workers w { queue = q\ngauge = load }",
     "test:3: there is no gauge \"load\"; add gauge NAME { ... }\n"},
    {AMQP "workers w { queue = q }\nworkers w { queue = q }",
     "test:3: there is another workers \"w\" at test:2; rename or remove one\n"},
    {AMQP "workers w { queue = q }\nworkers v { queue = q }",
     "test:3: queue \"q\" has workers \"w\" already, at test:2; make one of both\n"},
    {AMQP "workers w { queue = q min = 3\nmax = 2 }", "test:3: max is below min; raise max, or lower min\n"},
    {AMQP "workers w { queue = q\npath = / }",
     "test:3: path has no effect without kind = http; add that, or remove path\n"},
    {AMQP "workers w { queue = q\nstop-timeout = 1s }",
     "test:3: stop-timeout has no effect without command; add that, or remove stop-timeout\n"},
    {AMQP "workers w { queue = q kind = filter\nslots = 2 }",
     "test:3: a filter has one message at a time; remove slots, and say by max how many run\n"},
    {AMQP "workers w { queue = q\ncommand = \"w | tee x\" }",
     "test:3: command = \"w | tee x\" has one of | & ; < > ( ) $ ` outside of quotes, and no shell runs it; "
     "quote that, or run sh -c '...'\n"},
    {"http :80 {} queue q {}\nworkers w { queue = q command = w }",
     "test:2: workers \"w\" are consumers, and there is no amqp listener for them; add amqp "
     "\"127.0.0.1:5672\" { user ... }, or choose kind = http or filter\n"},
    {"amqp unix:/a { user a { password = x } } queue q {}\nworkers w { queue = q command = w }",
     "test:2: workers \"w\" cannot reach a listener: amqp \"unix:/a\" is a unix socket, which an AMQP URL "
     "cannot name; add amqp \"127.0.0.1:5672\" { user ... }\n"},
    {"amqp :1 { user a { password = x } accept-proxy = 127.0.0.0/8 } queue q {}\n"
     "workers w { queue = q command = w }",
     "test:2: workers \"w\" cannot reach a listener: amqp \":1\" wants a PROXY protocol header from this "
     "machine; add amqp \"127.0.0.1:5672\" { user ... }\n"},
    {"http :80 {}\ngauge g { }", "test:2: gauge \"g\" is never full; add full = NUMBER\n"},
    {"http :80 {}\ngauge g { full = 0 }", "test:2: full is not above 0; raise it\n"},
    {"http :80 {} gauge g { full = 1 }\ngauge g { full = 1 }",
     "test:2: there is another gauge \"g\" at test:1; rename or remove one\n"},
    {"http :80 {\nmax-head = 4k\nmax-line = 8k }",
     "test:3: max-line is above max-head; lower it, or raise max-head\n"},
    {"http ::1 {}", "test:1: http \"::1\" is no address; an IPv6 address needs brackets: [ADDRESS]:PORT\n"},
    {"http 80 {}\nhttp 80 {}",
     "test:1: http \"80\" is no address; the port is missing: write HOST:PORT or :PORT\n"
     "test:2: http \"80\" is no address; the port is missing: write HOST:PORT or :PORT\n"},

    {POOL "http :80 { route / {\npool = wbe } }",
     "test:3: there is no pool \"wbe\"; did you mean \"web\"?\n"},
    {POOL "http :80 { route / { pool = databases } }",
     "test:2: there is no pool \"databases\"; add pool NAME { server ... }\n"},
    {"http :80 {\nroute / {} }",
     "test:2: route \"/\" does nothing; give it a pool, queue, topic, redirect or respond\n"},
    {POOL "http :80 { route / {\npool = web\nrespond = 200\nredirect = /x } }",
     "test:4: route \"/\" has pool and respond; remove one\n"
     "test:5: route \"/\" has pool and redirect; remove one\n"},
    {POOL "http :80 { route / { pool = web\nbody = x } }",
     "test:3: body has no effect without respond; add that, or remove body\n"},
    {"http :80 { route / { redirect = /x\nbody = x } }",
     "test:2: body has no effect without respond; add that, or remove body\n"},
    {POOL "http :80 { route / { pool = web\nstatus = 301 } }",
     "test:3: status has no effect without redirect; add that, or remove status\n"},
    {"http :80 { route / { respond = 200\nstatus = 301 } }",
     "test:2: status has no effect without redirect; add that, or remove status\n"},
    {"http :80 { route / { respond = 204\nbody = x } }",
     "test:2: an answer with status 204 has no body; remove body, or change respond\n"},
    {"http :80 { route / { respond = 200\nstrip-prefix = yes retries = 1\nretry-with-key = yes } }",
     "test:2: strip-prefix has no effect without pool; add that, or remove strip-prefix\n"
     "test:2: retries has no effect without pool; add that, or remove retries\n"
     "test:3: retry-with-key has no effect without pool; add that, or remove retry-with-key\n"},
    {"http :80 { route / { respond = 200 header X-A {}\nheader x-a { value = b } cookie x-a {} query x-a {} "
     "} }",
     "test:2: header \"x-a\" stands twice in the route; remove one\n"},
    {"http :80 { route / { respond = 200\nheader \"a b\" {}\ncookie \"\" {} query \"a b\" {} } }",
     "test:2: header \"a b\" is no name; write the name that a request has\n"
     "test:3: cookie \"\" is no name; write the name that a request has\n"},
    {"http :80 {\nroute /a { respond = 200 }\nroute /ab { respond = 200 }\nroute /a/ { respond = 201 } }",
     "test:4: this route is for the same requests as the one at test:2; remove one, or tell them apart\n"},
    {"http :80 {\n"
     "route /a { respond = 200 host = { a, b } methods = { GET, PUT } header x { value = 1 } cookie y {} }\n"
     "route /a { respond = 200 cookie y {} header X { value = 1 } methods = { PUT, GET } host = { B, A } } }",
     "test:3: this route is for the same requests as the one at test:2; remove one, or tell them apart\n"},

    {"http :80 {}\npool a {}\npool b { health {} }",
     "test:2: pool \"a\" has no server; add server HOST:PORT {}\n"
     "test:3: pool \"b\" has no server; add server HOST:PORT {}\n"},
    {"http :80 {}\npool a { server a:1 { backup = yes } server b:1 { backup = yes } }",
     "test:2: pool \"a\" has only backup servers; make one of them backup = no\n"},
    {"http :80 {}\npool a {\nserver a:1 {}\nserver A:1 {} server a:2 {} server :1 {} server unix:/a {} }",
     "test:4: server \"A:1\" stands twice in pool a; the first is at test:3, remove one\n"},
    {"http :80 {}\npool a {\nserver 1.2.3.4:1 {}\nserver [::ffff:1.2.3.4]:1 {} }",
     "test:4: server \"[::ffff:1.2.3.4]:1\" stands twice in pool a; the first is at test:3, remove one\n"},
    {"http :80 {}\npool a { server a {}\nserver a {} }",
     "test:2: server \"a\" is no address; the port is missing: write HOST:PORT or :PORT\n"
     "test:3: server \"a\" is no address; the port is missing: write HOST:PORT or :PORT\n"},
    {"http :80 {}\n" POOL "\n" POOL,
     "test:4: there is another pool \"web\" at test:2; rename or remove one\n"},
    {"http :80 {}\npool \"a b\" { server a:1 {} }\npool \"\" { server a:1 {} }",
     "test:2: pool \"a b\" has a bad name; write up to 64 letters, digits, '-', '_' and '.'\n"
     "test:3: pool \"\" has a bad name; write up to 64 letters, digits, '-', '_' and '.'\n"},
    {"http :80 {}\npool a { server a:1 {}\nhash-key = ip\nvirtual-nodes = 160\nload-bound = 2 }",
     "test:3: hash-key has no effect without balance = consistent-hash; add that, or remove hash-key\n"
     "test:4: virtual-nodes has no effect without balance = consistent-hash; add that, or remove "
     "virtual-nodes\n"
     "test:5: load-bound has no effect without balance = consistent-hash; add that, or remove load-bound\n"},
    {"http :80 {}\npool a { server a:1 {} hash-key = ip\nbalance = consistant-hash }",
     "test:3: balance = consistant-hash is unknown; did you mean \"consistent-hash\"?\n"},
    {"http :80 {}\npool a { server a:1 {} health {\nhost = x\nexpect-status = 200 } }",
     "test:3: host has no effect without path; add that, or remove host\n"
     "test:4: expect-status has no effect without path; add that, or remove expect-status\n"},
    {"http :80 {}\npool a { server a:1 {} health { path = /\nsend = x\nexpect = x } }",
     "test:3: health has path and send; remove one: path is for HTTP, send for other protocols\n"
     "test:4: health has path and expect; remove one: path is for HTTP, expect for other protocols\n"},
    {"http :80 {}\npool a { server a:1 {} health {\nsend = x } }",
     "test:3: send has no effect without expect; add that, or remove send\n"},
    {"http :80 {}\npool a { server a:1 {}\nejection { time = 600s } }",
     "test:3: ejection: most is below time; raise most, or lower time\n"},
    {"http :80 {}\npool a { server a:1 {}\nhealth {}\nhealth {} }",
     "test:4: \"health\" stands twice in pool; the first is at test:3, remove one\n"},
};

static void every_contradiction_is_refused_at_its_line(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(mistakes); i++)
        refuses(mistakes[i].text, mistakes[i].lines);
}

static void what_only_looks_like_a_contradiction_is_accepted(void **state)
{
    static const char *const texts[] = {
        "http 127.0.0.1:80 {} http 127.0.0.2:80 {} http [::1]:80 {} http localhost:80 {} http :81 {}",
        "http :80 { route /a { respond = 200 } route /a { respond = 200 host = a } route /a { respond = 200 "
        "host = b }"
        " route /a { respond = 200 methods = GET } route /a { respond = 200 header x {} }"
        " route /a { respond = 200 header x { value = a } } route /a { respond = 200 cookie x {} }"
        " route /a { respond = 200 header x {} cookie x {} } route /A { respond = 200 } }",
        "http :80 { route / { respond = 204 } }",
        "http :80 { route / { respond = 204 body = \"\" } }",
        "http :80 { route / { respond = 200 cookie a {} cookie A {} } }",
        "http :80 {} pool a { server :1 { backup = yes } server :2 { drain = yes } } pool A { server :1 {} }",
        "http :80 {} pool a { server a:1 {} ejection { time = 300s } }",
        "http :80 {} pool a { server a:1 {} health { expect = \"220\" } }",
        "tcp :80 { pool = a } pool a { server a:1 {} balance = consistent-hash }",
        "tcp :80 { pool = a } pool a { server a:1 {} balance = ip-hash health { path = / } }",
        "http :80 {} admin 127.9.9.9:81 {}",
        "http :80 {} admin [::1]:81 {}",
        "http :80 {} admin [::ffff:127.0.0.1]:81 {}",
        "http :80 {} admin LocalHost:81 {}",
        "http :80 {} admin unix:/a {}",
        "http :80 {} admin :81 { token = 0123456789abcdef }",
    };

    (void)state;
    for (size_t i = 0; i < COUNT(texts); i++)
        accepts(texts[i]);
}

static void a_prefix_is_whole_plain_segments(void **state)
{
    static const char *const good[] = {
        "/", "/a", "/a/", "/a/b.c/...", "/a-b_c~!$&'()+,;=:@", "/.well-known", "/a/..b"};
    static const struct {
        const char *prefix, *why;
    } bad[] = {
        {"", "must start with '/'"},
        {"a", "must start with '/'"},
        {"//", "must not contain \"//\""},
        {"/a//b", "must not contain \"//\""},
        {"/a//", "must not contain \"//\""},
        {"/a%20b", "must be plain text without spaces, '%', '?' and '#'"},
        {"/a?b", "must be plain text without spaces, '%', '?' and '#'"},
        {"/a#b", "must be plain text without spaces, '%', '?' and '#'"},
        {"/a b", "must be plain text without spaces, '%', '?' and '#'"},
        {"/\xc3\xa4", "must be plain text without spaces, '%', '?' and '#'"},
        {"/.", "must not contain the segments \".\" and \"..\""},
        {"/a/../b", "must not contain the segments \".\" and \"..\""},
        {"/a/..", "must not contain the segments \".\" and \"..\""},
    };
    char text[256], lines[256];

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        snprintf(text, sizeof text, "http :80 { route \"%s\" { respond = 200 } }", good[i]);
        accepts(text);
    }
    for (size_t i = 0; i < COUNT(bad); i++) {
        snprintf(text, sizeof text, "http :80 {\nroute \"%s\" { respond = 200 } }", bad[i].prefix);
        snprintf(lines, sizeof lines, "test:2: route \"%s\" %s; write a prefix like \"/api\"\n",
                 bad[i].prefix, bad[i].why);
        refuses(text, lines);
    }
}

/* --- names ---------------------------------------------------------------------------------------- */

static void an_unknown_name_is_answered_with_what_may_have_been_meant(void **state)
{
    (void)state;
    refuses("http :80 {}\n" POOL "pool b { server a:1 {}\nretrys = 3 }",
            "test:4: unknown option \"retrys\" in pool; did you mean \"retries\"?\n");
    refuses("http :80 {}\npol b {}",
            "test:2: unknown section \"pol\" at the top of the file; did you mean \"pool\"?\n");
    refuses("http :80 {}\npool b { server a:1 {}\nweight = 3 }",
            "test:3: unknown option \"weight\" in pool; it belongs in server\n");
    refuses("http :80 { threads = 3 }",
            "test:1: unknown option \"threads\" in http; it belongs at the top of the file\n");
    refuses("http :80 {}\npool b { server a:1 { qqq = 3 } }",
            "test:2: unknown option \"qqq\" in server; known there: weight, backup, max-connections, drain, "
            "send-proxy\n");
    refuses(
        "http :80 {}\nqqq = 3",
        "test:2: unknown option \"qqq\" at the top of the file; known there: threads, user, drain-timeout, "
        "max-connections, state, state-max, state-segment, admin, http, tcp, amqp, pool, queue, topic, "
        "workers, gauge\n");
}

static void every_unknown_section_is_named_with_its_line_and_its_content_is_not_judged(void **state)
{
#define KNOWN                                                                                      \
    " at the top of the file; known there: threads, user, drain-timeout, max-connections, state, " \
    "state-max, state-segment, admin, http, tcp, amqp, pool, queue, topic, workers, gauge\n"
#define UNKNOWN_FUNNEL                                                                                       \
    "test:3: unknown option \"funnel\" in route; known there: host, methods, pool, queue, topic, redirect, " \
    "status, respond, body, strip-prefix, retries, retry-with-key, spill, delay, max-wait, "                 \
    "idempotency-window, header, cookie, query\n"

    (void)state;
    refuses("stage = \"./state\"\n"
            "cache \"c\" {}   # later\n"
            "http :80 { route /orders { funnel = orders methods = POST respond = 200 } }\n"
            "redis \":6379\" { pool = databases }\n"
            "stomp \":61613\" {\n"
            "    user \"guest\" { password = \"guest\"  from = { 127.0.0.0/8, ::1 } }\n"
            "}\n"
            "stream orders {\n"
            "    push { pool = kitchen  path = \"/cook\" rate = 500/s  burst = 50 }\n"
            "    retry { attempts = 8 first = 1s }\n"
            "}\n"
            "stream orders-dead {}\n"
            "cooks w { min = 1  max = 8 }\n",
            "test:1: unknown option \"stage\" at the top of the file; did you mean \"state\"?\n"
            "test:2: unknown section \"cache\"" KNOWN UNKNOWN_FUNNEL "test:4: unknown section \"redis\"" KNOWN
            "test:5: unknown section \"stomp\"" KNOWN "test:8: unknown section \"stream\"" KNOWN
            "test:12: unknown section \"stream\"" KNOWN "test:13: unknown section \"cooks\"" KNOWN);
#undef UNKNOWN_FUNNEL
#undef KNOWN
}

static void all_mistakes_come_in_one_run_in_the_order_of_the_file(void **state)
{
    (void)state;
    refuses("thraeds = 3\n"
            "pool web { retries = 11\n"
            "  server a {}\n"
            "  server b:1 { weight = 0 }\n"
            "  retries = 12 }\n"
            "http :80 { idle-timeout = 75\n"
            "  route / { pool = wbe host = { a, b:1, \"c d\" }\n"
            "  }\n"
            "  route x { respond = 999 } }\n"
            "max-connections = 99999999\n",
            "test:1: unknown option \"thraeds\" at the top of the file; did you mean \"threads\"?\n"
            "test:2: retries = 11 is out of bounds; write 0 to 10\n"
            "test:3: server \"a\" is no address; the port is missing: write HOST:PORT or :PORT\n"
            "test:4: weight = 0 is out of bounds; write 1 to 256\n"
            "test:5: \"retries\" stands twice in pool; the first is at test:2, remove one\n"
            "test:6: idle-timeout = 75 has no unit; add one: ms, s, m or h\n"
            "test:7: \"b:1\" is no host; write a name without port, \"*.NAME\" for all below it\n"
            "test:7: \"c d\" is no host; write a name without port, \"*.NAME\" for all below it\n"
            "test:7: there is no pool \"wbe\"; did you mean \"web\"?\n"
            "test:9: route \"x\" must start with '/'; write a prefix like \"/api\"\n"
            "test:9: respond = 999 is out of bounds; write 200 to 599\n"
            "test:10: max-connections = 99999999 is out of bounds; write 1 to 1000000\n");
}

static void mistakes_before_a_broken_line_are_told_with_it(void **state)
{
    (void)state;
    refuses("thraeds = 3\nhttp :80 { route / { pool = web } }\nthreads = 999\npool = 3\nuser = { a, b }\n",
            "test:1: unknown option \"thraeds\" at the top of the file; did you mean \"threads\"?\n"
            "test:3: threads = 999 is out of bounds; write 0 to 256\n"
            "test:4: \"pool\" is a section; write pool NAME { ... }\n");
}

static void an_option_is_no_section_and_a_section_no_option(void **state)
{
    (void)state;
    refuses("\nthreads { }", "test:2: \"threads\" is an option; write threads = VALUE\n");
    refuses("\nhttp {}", "test:2: \"http\" is a section; write http ADDRESS { ... }\n");
    refuses("http :80 {}\npool a { health x {} }", "test:2: \"health\" is a section; write health { ... }\n");
    refuses("pool a { health = 3 }", "test:1: \"health\" is a section; write health { ... }\n");
    refuses("pool a b {}", "test:1: \"pool\" is a section; write pool NAME { ... }\n");
}

/* Names on which libConfuse goes astray: paths into other sections, its own word for the whole file, none. */
static void a_strange_name_is_refused_and_does_no_harm(void **state)
{
    static const char *const paths[] = {
        "\n\"http=:80|max-head\" = 1k",
        "\n\"http=:80|max-head\" {}",
        "\n\"http=:80|route\" / { respond = 200 }",
        "\n\"http=:80|include\"(x)",
        "\nhttp|x = 1",
        "\n\"|\" = 1",
        "\n\"|\" {}",
    };
    char text[128];

    (void)state;
    for (size_t i = 0; i < COUNT(paths); i++) {
        snprintf(text, sizeof text, "http :80 {} pool a { server a:1 {} }%s", paths[i]);
        refuses(text, "test:2: no name contains '|' or '='; write it without, inside its section\n");
    }
    refuses("http :80 {\n\"|\" = 1 }",
            "test:2: no name contains '|' or '='; write it without, inside its section\n");
    refuses("\"|x\" = 1", "test:1: \"|x\" is no name; write letters, digits and '-'\n");
    refuses("\"\" = 1", "test:1: a name is missing here; write NAME = VALUE\n");
    refuses("root { a = 1 }\nroot { b = 1 }", "test:1: unknown name \"root\"; remove it\n");
    refuses("a \"root\" {}\na root {}\na {}", "test:1: unknown name \"a\"; remove it\n");
}

static void a_flood_of_unknown_names_ends(void **state)
{
    char text[8192] = "http :80 {}\n", *said = NULL;

    (void)state;
    for (int i = 0; i < 400; i++)
        sprintf(text + strlen(text), "qqqqqqqq%d = 1\n", i);
    assert_null(parse(text, &said));
    assert_non_null(strstr(said, "test:2: unknown option \"qqqqqqqq0\""));
    assert_non_null(strstr(said, "test:102: too many unknown names; correct those before this line first\n"));
    free(said);
}

static void the_nearest_word_is_found_if_it_is_near(void **state)
{
    static const struct {
        const char *word, *best;
    } rows[] = {
        {"retries", "retries"},
        {"retrise", "retries"},
        {"retris", "retries"},
        {"etries", "retries"},
        {"weightt", "weight"},
        {"wieght", "weight"},
        {"pol", "pool"},
        {"p", NULL},
        {"loop", NULL},
        {"x", NULL},
        {"", NULL},
        {"completely-else", NULL},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL},
    };
    static const char *const candidates[] = {"retries", "weight", "pool"};

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct config_nearest nearest;

        config_nearest_init(&nearest, rows[i].word);
        for (size_t j = 0; j < COUNT(candidates); j++)
            config_nearest_try(&nearest, candidates[j]);
        if (rows[i].best ? !nearest.best || strcmp(nearest.best, rows[i].best) != 0 : nearest.best != NULL)
            fail_msg("\"%s\": %s", rows[i].word, nearest.best ? nearest.best : "nothing");
    }
}

/* --- text ----------------------------------------------------------------------------------------- */

static void comments_change_neither_lines_nor_lists(void **state)
{
    (void)state;
    refuses("# one\n"
            "/* two\n"
            "   # three */ http :80 { // four\n"
            "  route / { respond = 200 methods = { GET, # a comment in a list\n"
            "    /* another */ get } } # \" { quotes and braces\n"
            "  // \" { as well\n"
            "}\r\n"
            "#\n"
            "\n"
            "threads = x ### the end",
            "test:5: \"get\" is no method; write it in capitals, like GET\n"
            "test:10: threads = x is no number; write digits only\n");
}

static void lines_are_right_behind_a_text_of_several_lines(void **state)
{
    (void)state;
    refuses("http :80 { route / { respond = 200 body = \"one\n"
            "two \\\n"
            "three \\\" four\" }\n"
            "route /b { respond = 200 body = 'one\n"
            "two \\' three\\\n"
            "four' } }\n"
            "threads =\n"
            "  x",
            "test:8: threads = x is no number; write digits only\n");
}

static void a_text_is_taken_with_its_escapes(void **state)
{
    struct config *config =
        must_parse("http :80 { route /a { respond = 200 body = \"a\\n\\t\\\"\\\\\\x41\\102#{}\\\nb\" }"
                   " route /b { respond = 200 body = 'a\\n\\'\\\\' }"
                   " route /c { respond = 200 body = http://x/?a } }");

    (void)state;
    expect_slice(config->http[0].routes[0].body, "a\n\t\"\\AB#{}b");
    expect_slice(config->http[0].routes[1].body, "a\\n'\\");
    expect_slice(config->http[0].routes[2].body, "http://x/?a");
    config_unref(config);
}

static void an_environment_variable_takes_its_place(void **state)
{
    struct config *config;

    (void)state;
    assert_int_equal(setenv("MAITRED_TEST_PORT", "8123", 1), 0);
    assert_int_equal(unsetenv("MAITRED_TEST_UNSET"), 0);
    config = must_parse(
        "http \":${MAITRED_TEST_PORT}\" { route / { respond = 200 body = \"${MAITRED_TEST_UNSET:-x}y\" } }"
        " user = ${MAITRED_TEST_PORT} /* ${MAITRED_TEST_UNSET} */");
    assert_int_equal(config->http[0].address.port, 8123);
    expect_slice(config->http[0].routes[0].body, "xy");
    assert_string_equal(config->user, "8123");
    config_unref(config);
    refuses("http :80 {}\nuser = ${MAITRED_TEST_UNSET}",
            "test:2: the environment variable \"MAITRED_TEST_UNSET\" is not set; set it, or write "
            "${MAITRED_TEST_UNSET:-default}\n");
    refuses("http :80 {}\nuser = \"a${MAITRED_TEST_UNSET}\" threads = \"${\n}\"",
            "test:2: the environment variable \"MAITRED_TEST_UNSET\" is not set; set it, or write "
            "${MAITRED_TEST_UNSET:-default}\n"
            "test:2: \"${\" is not closed on its line; write ${NAME} or ${NAME:-default}\n");
    refuses("http :80 {}\nuser = "
            "\"${aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccddddddddddddddddeeeeeeeeeeeeeeeefffff"
            "fffffffffffgggggggggggggggghhhhhhhhhhhhhhhhh}\"",
            "test:2: the name of an environment variable is at most 127 letters long\n");
    accepts("http :80 { route / { respond = 200 body = '${MAITRED_TEST_UNSET}' } }");
    unsetenv("MAITRED_TEST_PORT");
}

static const struct {
    const char *text, *lines;
} broken[] = {
    {"http :80 {\n\n", "test:1: this '{' is never closed; add a '}'\n"},
    {"http :80 { route / {\npool a {\n}", "test:1: this '{' is never closed; add a '}'\n"
                                          "test:1: this '{' is never closed; add a '}'\n"},
    {"http :80 {}\n}", "test:2: this '}' closes nothing; remove it, or look for a '}' too many before it\n"},
    {"\nuser = \"a\nb", "test:2: this quote is never closed; end the text with \"\n"},
    {"\nuser = 'a\nb\\'", "test:2: this quote is never closed; end the text with '\n"},
    {"user = \"\\", "test:1: this quote is never closed; end the text with \"\n"},
    {"\n/* a\nb", "test:2: this comment is never closed; end it with */\n"},
    {"\nuser = \"a\\0b\"", "test:2: a text cannot contain a NUL; remove the escape that makes one\n"},
    {"\nuser = \"\\000\" threads = \"\\x0\"",
     "test:2: a text cannot contain a NUL; remove the escape that makes one\n"
     "test:2: a text cannot contain a NUL; remove the escape that makes one\n"},
    {"\nuser = \"\\400\"",
     "test:2: invalid octal number '\\400'; look at the quotes, braces and '=' before it\n"},
    {"\nhost = { *.a }\nuser = a+b", "test:2: a value with * inside needs quotes: \"...*...\"\n"
                                     "test:3: a value with + inside needs quotes: \"...+...\"\n"},
    {"\nuser = a${HOME}", "test:2: a value with ${NAME} inside needs quotes: \"...${NAME}...\"\n"},
    {"\nmethods = { }", "test:2: this list is empty; name something, or remove the option\n"},
    {"\nuser =\n", "test:3: the file ends in the middle of an option; write NAME = VALUE\n"},
    {"\n= 3", "test:2: unexpected token '='; look at the quotes, braces and '=' before it\n"},
    {"\nuser = (a)", "test:2: unexpected token '('; look at the quotes, braces and '=' before it\n"},
    {"\nuser = a, b", "test:2: unexpected token ','; look at the quotes, braces and '=' before it\n"},
    {"\ninclude(\"a\" \"b\")", "test:2: parentheses are for one file; write include(\"FILE\")\n"},
    {"\ninclude()", "test:2: parentheses are for one file; write include(\"FILE\")\n"},
    {"\ninclude(\"a\"", "test:2: parentheses are for one file; write include(\"FILE\")\n"},
    {"\ninclude = \"a\"", "test:2: include names a file; write include(\"FILE\")\n"},
    {"a{a{a{a{a{a{a{a{a{a{a{a{a{a{a{a{\na{}}}}}}}}}}}}}}}}}",
     "test:2: sections are nested more than 16 deep; close some with '}'\n"},
};

static void broken_text_is_refused_where_it_breaks(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(broken); i++)
        refuses(broken[i].text, broken[i].lines);
}

static void a_message_shows_control_characters_as_codes_and_long_texts_cut(void **state)
{
    char text[512] = "http :80 {}\nthreads = ", lines[512] = "test:2: threads = ";

    (void)state;
    refuses("http :80 {}\nthreads = \"\\e[31m\\n\\x7f\"",
            "test:2: threads = \\x1b[31m\\x0a\\x7f is no number; write digits only\n");
    memset(text + strlen(text), 'x', 200);
    memset(lines + strlen(lines), 'x', 80);
    strcat(lines, " is no number; write digits only\n");
    refuses(text, lines);
}

static void every_beginning_of_a_file_is_accepted_or_refused_with_a_reason(void **state)
{
    char text[sizeof PICTURE], *said = NULL;
    struct config *config;

    (void)state;
    for (size_t len = 0; len < sizeof PICTURE; len += 7) {
        memcpy(text, PICTURE, len);
        text[len] = '\0';
        config = parse(text, &said);
        assert_true(config ? !*said : strncmp(said, "test:", 5) == 0 && said[strlen(said) - 1] == '\n');
        config_unref(config);
        free(said);
    }
}

/* --- files ---------------------------------------------------------------------------------------- */

static char folder[] = "/tmp/maitred-test-config-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static void path_of(char path[256], const char *name)
{
    snprintf(path, 256, "%s/%s", folder, name);
}

static void write_file(const char *name, const char *bytes, size_t len)
{
    char path[256];
    FILE *file;

    path_of(path, name);
    file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    fclose(file);
}

static int remove_folder(void **state)
{
    static const char *const names[] = {"main.conf", "a.conf", "b.conf", "fifo"};
    char path[256];

    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        path_of(path, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

/* config_load of a file in the folder; its path in *said is shortened to "DIR". */
static struct config *load(const char *name, char said[2048])
{
    char path[256], *text = NULL, *at;
    size_t len = 0;
    FILE *errors = open_memstream(&text, &(size_t){0});
    struct config *config;

    assert_non_null(errors);
    path_of(path, name);
    config = config_load(path, errors);
    fclose(errors);
    for (at = text; *at; len++) {
        bool is_path = strncmp(at, folder, strlen(folder)) == 0;

        len += (size_t)snprintf(said + len, 2048 - len, "%.*s", is_path ? 3 : 1, is_path ? "DIR" : at) - 1;
        at += is_path ? strlen(folder) : 1;
    }
    said[len] = '\0';
    free(text);
    return config;
}

static void write_text(const char *name, const char *text)
{
    write_file(name, text, strlen(text));
}

static void a_file_is_loaded_with_all_that_it_includes(void **state)
{
    struct config *config;
    char said[2048];

    (void)state;
    write_text("main.conf", "http :80 { route / { pool = a } include(\"b.conf\") route /z { pool = a } }\n"
                            "include('a.conf')\n");
    write_text("a.conf", "\n\npool a { server a:1 {} }");
    write_text("b.conf", "route /b { pool = a }\nroute /c { pool = a }\n");
    config = load("main.conf", said);
    assert_string_equal(said, "");
    assert_non_null(config);
    assert_int_equal(config->http[0].n_routes, 4);
    expect_slice(config->http[0].routes[1].path, "/b");
    expect_slice(config->http[0].routes[2].path, "/c");
    expect_slice(config->http[0].routes[3].path, "/z");
    assert_int_equal(config->pools[0].place.line, 3);
    assert_non_null(strstr(config->pools[0].place.file, "/a.conf"));
    config_unref(config);
}

static void mistakes_in_included_files_have_their_file_and_line(void **state)
{
    char said[2048];

    (void)state;
    write_text("main.conf", "http :80 { include(\"b.conf\") }\ninclude(\"a.conf\")\nthreads = 999\n");
    write_text("a.conf", "threads = 1\n}\n");
    write_text("b.conf", "\n\nmax-heads = 1k\nmax-line = 1\n");
    assert_null(load("main.conf", said));
    assert_string_equal(
        said, "DIR/main.conf:3: threads = 999 is out of bounds; write 0 to 256\n"
              "DIR/a.conf:2: this '}' closes nothing; remove it, or look for a '}' too many before it\n"
              "DIR/b.conf:3: unknown option \"max-heads\" in http; did you mean \"max-head\"?\n"
              "DIR/b.conf:4: max-line = 1 is out of bounds; write 256 to 1m\n");
}

static void a_file_that_cannot_be_included_is_named_where_it_is(void **state)
{
    char said[2048];

    (void)state;
    write_text("main.conf", "http :80 {}\ninclude(\"none.conf\")\n\ninclude(\"/\") include(\"\")\n");
    assert_null(load("main.conf", said));
    assert_string_equal(
        said, "DIR/main.conf:2: cannot open \"DIR/none.conf\": No such file or directory; check the path "
              "and its permissions\n"
              "DIR/main.conf:4: \"/\" is a directory; give a file\n"
              "DIR/main.conf:4: \"DIR/\" is a directory; give a file\n");
}

static void files_that_include_each_other_end(void **state)
{
    char said[2048];

    (void)state;
    write_text("main.conf", "http :80 {}\ninclude(\"a.conf\")\n");
    write_text("a.conf", "include(\"b.conf\")\n");
    write_text("b.conf", "\ninclude(\"a.conf\")\n");
    assert_null(load("main.conf", said));
    assert_string_equal(said,
                        "DIR/b.conf:2: too many files are included, or one includes itself; remove this\n");
}

static void what_is_no_file_is_refused(void **state)
{
    char path[256], said[2048];

    (void)state;
    assert_null(load("none", said));
    assert_string_equal(said, "DIR/none: cannot open \"DIR/none\": No such file or directory; check the path "
                              "and its permissions\n");
    assert_null(load("", said));
    assert_string_equal(said, "DIR/: \"DIR/\" is a directory; give a file\n");
    path_of(path, "fifo");
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_null(load("fifo", said));
    assert_string_equal(said, "DIR/fifo: \"DIR/fifo\" is not a regular file; give a file\n");
}

static void a_file_may_be_one_mebibyte_and_no_byte_more(void **state)
{
    static const char start[] = "http :80 {}\n";
    size_t max = 1 << 20;
    char *text = malloc(max + 1), said[2048];
    struct config *config;

    (void)state;
    assert_non_null(text);
    memset(text, '\n', max + 1);
    memcpy(text, start, sizeof start - 1);
    write_file("main.conf", text, max);
    config = load("main.conf", said);
    assert_string_equal(said, "");
    assert_non_null(config);
    config_unref(config);
    write_file("main.conf", text, max + 1);
    assert_null(load("main.conf", said));
    assert_string_equal(
        said, "DIR/main.conf: \"DIR/main.conf\" is larger than 1 MiB; split it with include(\"FILE\")\n");
    free(text);
}

static void a_nul_byte_is_refused_at_its_line(void **state)
{
    char said[2048];

    (void)state;
    write_file("main.conf", "http :80 {}\n\nuser = a\0b\n", 24);
    assert_null(load("main.conf", said));
    assert_string_equal(said, "DIR/main.conf:3: the file contains a NUL byte; it must be text\n");
}

static void a_file_without_a_name_is_read_through_its_descriptor(void **state)
{
    int fd = memfd_create("config", MFD_CLOEXEC);
    struct config *config;
    char path[64];

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "http :80 {}", 11), 11);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    config = config_load(path, stderr);
    assert_non_null(config);
    config_unref(config);
    close(fd);
}

/* --- the rest ------------------------------------------------------------------------------------- */

static void *parse_in_turn(void *arg)
{
    for (int i = 0; i < 20; i++) {
        char *said = NULL;
        struct config *config = parse(arg, &said);

        if (!config)
            return said;
        config_unref(config);
        free(said);
    }
    return NULL;
}

static void threads_may_parse_at_the_same_time(void **state)
{
    static char text[sizeof PICTURE];
    pthread_t threads[3];
    void *said;

    (void)state;
    memcpy(text, PICTURE, sizeof PICTURE);
    for (size_t i = 0; i < COUNT(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, parse_in_turn, text), 0);
    for (size_t i = 0; i < COUNT(threads); i++) {
        assert_int_equal(pthread_join(threads[i], &said), 0);
        assert_null(said);
    }
}

static char *written(void (*write_it)(FILE *out))
{
    char *text = NULL;
    FILE *out = open_memstream(&text, &(size_t){0});

    assert_non_null(out);
    write_it(out);
    fclose(out);
    return text;
}

static const char *reference;

static void is_in_the_reference(const struct config_table *table, const struct config_row *row)
{
    char start[64];
    const char *line, *end;
    unsigned cells = 0;

    (void)table;
    assert_true(row->help[strlen(row->help) - 1] == '.' && !strchr(row->help, '\n'));
    snprintf(start, sizeof start, "\n| `%s` | ", row->name);
    line = strstr(reference, start);
    if (!line)
        fail_msg("%s is not in the reference", row->name);
    end = strchr(line + 1, '\n');
    for (const char *p = line + 1; p < end; p++)
        cells += *p == '|' && p[-1] != '\\';
    assert_int_equal(cells, 6);
}

static void every_option_is_in_the_reference(void **state)
{
    char *text = written(config_write_reference);

    (void)state;
    reference = text;
    each_row(&config_table_top, is_in_the_reference);
    assert_non_null(strstr(text, "\n## http ADDRESS\n"));
    assert_non_null(strstr(text, "\n## health\n"));
    assert_non_null(strstr(text, "\n| `slow-start` | time | `0` | 1ms to 24h; 0: off | Time over which "));
    assert_non_null(
        strstr(text, "\n| `balance` | word | `round-robin` | round-robin, least-connections, ip-hash, "));
    free(text);
}

static void is_in_the_manual(const struct config_table *table, const struct config_row *row)
{
    char start[64] = "\n.TP\n.B ";

    (void)table;
    for (const char *p = row->name; *p; p++)
        sprintf(start + strlen(start), *p == '-' ? "\\%c" : "%c", *p);
    strcat(start, "\n");
    if (!strstr(reference, start))
        fail_msg("%s is not in the manual", row->name);
}

static void what_a_reload_cannot_change_says_so(void **state)
{
    char *text = written(config_write_reference);
    size_t n = 0;

    (void)state;
    for (const char *p = text; (p = strstr(p, " A reload does not change it; an upgrade does. |")); p++)
        n++;
    assert_int_equal(n, 5); /* threads, user, and where the queues' log is */
    free(text);
}

static void every_option_is_in_the_manual_page(void **state)
{
    char *text = written(config_write_manual);

    (void)state;
    reference = text;
    each_row(&config_table_top, is_in_the_manual);
    assert_true(strncmp(text, ".TH MAITRED.CONF 5\n", 19) == 0);
    assert_non_null(strstr(text, "\n.SH pool NAME\n"));
    free(text);
}

/* --- references ----------------------------------------------------------------------------------- */

#define REFERENCES 1000

static void *give_back(void *config)
{
    for (int i = 0; i < REFERENCES; i++)
        config_unref(config_ref(config));
    config_unref(config);
    return NULL;
}

/* ASan sees a use after it was freed too early, and a leak when it never is. */
static void a_snapshot_lives_until_its_last_reference_is_given_back(void **state)
{
    const struct config *config = must_parse("threads = 7 http :80 {}");
    pthread_t thread[4];

    (void)state;
    for (size_t i = 0; i < COUNT(thread); i++)
        assert_int_equal(pthread_create(&thread[i], NULL, give_back, (void *)(uintptr_t)config_ref(config)),
                         0);
    for (size_t i = 0; i < COUNT(thread); i++)
        pthread_join(thread[i], NULL);
    assert_int_equal(config->threads, 7);
    config_unref(config);
    assert_null(config_ref(NULL));
    config_unref(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_accepted_within_their_bounds_only),
        cmocka_unit_test(words_are_accepted_as_they_are_listed_only),
        cmocka_unit_test(an_option_that_is_no_list_takes_one_value),
        cmocka_unit_test(every_other_option_takes_the_good_and_refuses_the_bad),
        cmocka_unit_test(what_an_option_is_written_as_is_understood_as_the_same),
        cmocka_unit_test(equal_values_are_written_in_equal_words),
        cmocka_unit_test(every_option_has_its_default),
        cmocka_unit_test(a_consumer_gets_the_first_listener_that_it_can_reach),
        cmocka_unit_test(the_picture_of_the_language_is_understood),
        cmocka_unit_test(the_pools_of_the_picture_are_understood),
        cmocka_unit_test(the_other_listeners_of_the_picture_are_understood),
        cmocka_unit_test(the_users_of_the_picture_are_understood),
        cmocka_unit_test(guest_comes_from_this_machine_unless_the_file_says_otherwise),
        cmocka_unit_test(the_queues_of_the_picture_are_understood),
        cmocka_unit_test(a_list_is_kept_in_order_and_nothing_in_it_twice),
        cmocka_unit_test(a_route_is_named_by_all_that_it_asks_for),
        cmocka_unit_test(a_host_is_kept_in_lower_case),
        cmocka_unit_test(a_longest_line_is_never_above_the_longest_head),
        cmocka_unit_test(a_list_grows_with_plus_equals_wherever_that_stands),
        cmocka_unit_test(every_contradiction_is_refused_at_its_line),
        cmocka_unit_test(what_only_looks_like_a_contradiction_is_accepted),
        cmocka_unit_test(a_prefix_is_whole_plain_segments),
        cmocka_unit_test(an_unknown_name_is_answered_with_what_may_have_been_meant),
        cmocka_unit_test(every_unknown_section_is_named_with_its_line_and_its_content_is_not_judged),
        cmocka_unit_test(all_mistakes_come_in_one_run_in_the_order_of_the_file),
        cmocka_unit_test(mistakes_before_a_broken_line_are_told_with_it),
        cmocka_unit_test(an_option_is_no_section_and_a_section_no_option),
        cmocka_unit_test(a_strange_name_is_refused_and_does_no_harm),
        cmocka_unit_test(a_flood_of_unknown_names_ends),
        cmocka_unit_test(the_nearest_word_is_found_if_it_is_near),
        cmocka_unit_test(comments_change_neither_lines_nor_lists),
        cmocka_unit_test(lines_are_right_behind_a_text_of_several_lines),
        cmocka_unit_test(a_text_is_taken_with_its_escapes),
        cmocka_unit_test(an_environment_variable_takes_its_place),
        cmocka_unit_test(broken_text_is_refused_where_it_breaks),
        cmocka_unit_test(a_message_shows_control_characters_as_codes_and_long_texts_cut),
        cmocka_unit_test(every_beginning_of_a_file_is_accepted_or_refused_with_a_reason),
        cmocka_unit_test(a_file_is_loaded_with_all_that_it_includes),
        cmocka_unit_test(mistakes_in_included_files_have_their_file_and_line),
        cmocka_unit_test(a_file_that_cannot_be_included_is_named_where_it_is),
        cmocka_unit_test(files_that_include_each_other_end),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(a_file_may_be_one_mebibyte_and_no_byte_more),
        cmocka_unit_test(a_nul_byte_is_refused_at_its_line),
        cmocka_unit_test(a_file_without_a_name_is_read_through_its_descriptor),
        cmocka_unit_test(threads_may_parse_at_the_same_time),
        cmocka_unit_test(every_option_is_in_the_reference),
        cmocka_unit_test(what_a_reload_cannot_change_says_so),
        cmocka_unit_test(every_option_is_in_the_manual_page),
        cmocka_unit_test(a_snapshot_lives_until_its_last_reference_is_given_back),
    };

    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
