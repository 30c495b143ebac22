/* item.c - see item.h. */
#include "config/item.h"

#include <string.h>

void config_item_append(struct config_item *section, struct config_item *item)
{
    if (section->last)
        section->last->next = item;
    else
        section->items = item;
    section->last = item;
}

struct config_item *config_item_option(const struct config_item *section, const char *name)
{
    for (struct config_item *item = section->items; item; item = item->next)
        if (item->kind == CONFIG_OPTION && strcmp(item->name, name) == 0)
            return item;
    return NULL;
}

struct config_item *config_item_section(const struct config_item *section, const struct config_table *table)
{
    for (struct config_item *item = section->items; item; item = item->next)
        if (item->kind == CONFIG_SECTION && item->table == table)
            return item;
    return NULL;
}
