/* source.h - a configuration file and all that it includes, as one tree. Blocks: included files are read.
 * Any thread. */
#ifndef CONFIG_SOURCE_H
#define CONFIG_SOURCE_H

#include <stdbool.h>

#include "base/slice.h"
#include "config/item.h"
#include "config/problems.h"
#include "config/store.h"

/* Reads text and what it includes into *top, a section without a name. name is the file's, for messages and for
 * finding included files; it is borrowed as long as the tree, which lives in the store.
 * False when parsing stopped before the end of a file; *top then holds what came before. */
bool config_source_read(struct config_item *top, struct config_store *store, struct config_problems *problems,
                        const char *name, struct slice text);

#endif
