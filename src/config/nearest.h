/* nearest.h - the known word that a user may have meant: "did you mean".
 *
 * Pure; any thread. Words are borrowed. */
#ifndef CONFIG_NEAREST_H
#define CONFIG_NEAREST_H

#include <stddef.h>

struct config_nearest {
    const char *word; /* what was written */
    const char *best; /* NULL: nothing is near enough */
    size_t distance;  /* of best, or the first that is too far */
};

void config_nearest_init(struct config_nearest *nearest, const char *word);
/* Of several equally near candidates the first wins. */
void config_nearest_try(struct config_nearest *nearest, const char *candidate);

#endif
