/* build.h - from the tree of a file (item.h) to the snapshot (config.h): values, defaults, everything that a section
 * can say about itself. What sections say about each other is check.h. One thread at a time. */
#ifndef CONFIG_BUILD_H
#define CONFIG_BUILD_H

#include "config/config.h"
#include "config/item.h"
#include "config/problems.h"
#include "config/store.h"

/* Fills *config, which then borrows from the tree. whole: the tree holds all of the file; else only the values that
 * are there are looked at. What is wrong goes to problems. */
void config_build(struct config *config, struct config_item *top, struct config_store *store,
                  struct config_problems *problems, bool whole);

#endif
