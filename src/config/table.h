/* table.h - every section and option of the configuration file, a row each.
 *
 * The rows are the one place where names, defaults, bounds and meanings stand: parsing, checking, "did you mean",
 * the reference and the manual page all come from them. To add an option: a field in config.h, a row in
 * table.c, table_queue.c, table_amqp.c or table_workers.c.
 * Constant data; any thread. */
#ifndef CONFIG_TABLE_H
#define CONFIG_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct config_type; /* value.h */

struct config_row {
    const char *name;
    const struct config_type *type;
    const char *text;    /* the default, as a user would write it; NULL: there is none */
    const char *without; /* what holds when there is no default, in words */
    uint64_t low,
        high; /* both allowed; in bytes or microseconds where the type has units; high 0: no numbers */
    const char *zero; /* what 0 means, and that it is allowed whatever low says; NULL: nothing special */
    const char *const *choices; /* in the order of the enum they stand for, then NULL */
    size_t offset; /* of the field in the section's structure; unused where the type knows its fields */
    size_t length_offset; /* of a list's length */
    bool restart;         /* a reload does not change it */
    bool secret;          /* is never shown */
    const char *help;     /* one plain line */
};

struct config_table {
    const char *name; /* "" at the top of the file */
    const char *
        title; /* what stands after the name, in capitals; NULL: nothing does, and the section is there once */
    const char *help;
    const struct config_row *rows;
    size_t n_rows;
    const struct config_table *const *inside; /* sections that may stand in it, then NULL */
};

extern const struct config_table config_table_top;
extern const struct config_table config_table_admin;
extern const struct config_table config_table_http;
extern const struct config_table config_table_route;
extern const struct config_table config_table_header;
extern const struct config_table config_table_cookie;
extern const struct config_table config_table_query;
extern const struct config_table config_table_tcp;
extern const struct config_table config_table_amqp;
extern const struct config_table config_table_user;
extern const struct config_table config_table_pool;
extern const struct config_table config_table_server;
extern const struct config_table config_table_health;
extern const struct config_table config_table_ejection;
extern const struct config_table config_table_queue;
extern const struct config_table config_table_push;
extern const struct config_table config_table_retry;
extern const struct config_table config_table_topic;
extern const struct config_table config_table_workers;
extern const struct config_table config_table_gauge;

const struct config_row *config_table_row(const struct config_table *table, const char *name);
const struct config_table *config_table_section(const struct config_table *table, const char *name);

#endif
