/* file.h - a whole file in memory, if it can be a configuration file. Blocks. Any thread. */
#ifndef CONFIG_FILE_H
#define CONFIG_FILE_H

#include "base/slice.h"
#include "config/problems.h"
#include "config/store.h"

#define CONFIG_FILE_BYTES_MAX (1u << 20)

/* The bytes live in the store. On false a problem was reported at place. */
bool config_file_read(struct slice *text, struct config_store *store, struct config_problems *problems,
                      const char *path, struct config_place place);

#endif
