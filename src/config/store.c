/* store.c - see store.h. */
#include "config/store.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct config_store_piece {
    struct config_store_piece *next;
    _Alignas(max_align_t) char bytes[];
};

void *config_store_array(struct config_store *store, size_t n, size_t size)
{
    struct config_store_piece *piece;

    if (size && n > (SIZE_MAX - sizeof *piece) / size)
        return NULL;
    piece = calloc(1, sizeof *piece + n * size);
    if (!piece)
        return NULL;
    piece->next = store->pieces;
    store->pieces = piece;
    return piece->bytes;
}

char *config_store_text(struct config_store *store, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = config_store_array(store, bytes, 1);

    return copy ? memcpy(copy, text, bytes) : NULL;
}

void config_store_cut(struct config_store *store, struct config_store mark)
{
    while (store->pieces != mark.pieces) {
        struct config_store_piece *next = store->pieces->next;

        free(store->pieces);
        store->pieces = next;
    }
}

void config_store_free(struct config_store *store)
{
    config_store_cut(store, (struct config_store){NULL});
}
