/* item.h - a configuration file as it was written: a tree of sections, options and values with their lines.
 *
 * The tree also holds what is unknown (row and table NULL). All of it lives in one store. One thread at a time. */
#ifndef CONFIG_ITEM_H
#define CONFIG_ITEM_H

#include <stdbool.h>

#include "config/config.h"
#include "config/table.h"

struct config_value {
    struct config_value *next;
    struct config_place place;
    const char *text;
};

enum config_item_kind { CONFIG_OPTION, CONFIG_SECTION, CONFIG_INCLUDE };

struct config_item {
    struct config_item *next;
    enum config_item_kind kind;
    struct config_place place; /* of the first value, or of a section's opening brace */
    const char *name;
    bool bad;                                 /* set by build.c: it, or something in it, was refused */
    const char *title;                        /* of a section; NULL: it has none */
    const struct config_row *row;             /* of an option; NULL: unknown */
    const struct config_table *table;         /* of a section; NULL: unknown */
    struct config_value *values, *last_value; /* of an option, at least one; of an include, the file */
    struct config_item *items,
        *last; /* of a section, in the order of the file, includes replaced by their items */
};

/* At the end of a section. */
void config_item_append(struct config_item *section, struct config_item *item);
/* The first option of that name in a section, the first section of that table, or NULL. */
struct config_item *config_item_option(const struct config_item *section, const char *name);
struct config_item *config_item_section(const struct config_item *section, const struct config_table *table);

#endif
