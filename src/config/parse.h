/* parse.h - the text of one file into a tree, by libConfuse, nothing judged.
 *
 * libConfuse stops at the first name it does not know; to find every mistake in one run it is taught such a name and
 * run again. Its lexer is one global: parses in different threads take turns. */
#ifndef CONFIG_PARSE_H
#define CONFIG_PARSE_H

#include <stdbool.h>

#include "base/slice.h"
#include "config/item.h"
#include "config/problems.h"
#include "config/store.h"

/* Puts what text says into section, whose table is what may stand in it. Included files are marked, not read.
 * The tree lives in the store; file, its name in places, is borrowed as long.
 * False when parsing stopped before the end; section then has what came before. */
bool config_parse_into(struct config_item *section, struct config_store *store,
                       struct config_problems *problems, const char *file, struct slice text);

#endif
