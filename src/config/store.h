/* store.h - the memory of one configuration: handed out piece by piece, freed all at once.
 *
 * Every piece is its own malloc, so that ASan sees its bounds; a configuration is small and read once.
 * One thread at a time. Errors: NULL when there is no memory. */
#ifndef CONFIG_STORE_H
#define CONFIG_STORE_H

#include <stddef.h>

struct config_store_piece;

/* A store of zeros is empty and ready. */
struct config_store {
    struct config_store_piece *pieces;
};

/* Room for n things of size bytes, zeroed; also for n = 0. */
void *config_store_array(struct config_store *store, size_t n, size_t size);
/* A copy that ends in a NUL. */
char *config_store_text(struct config_store *store, const char *text);
/* Frees what was handed out since *store was as mark is. */
void config_store_cut(struct config_store *store, struct config_store mark);
void config_store_free(struct config_store *store);

#endif
