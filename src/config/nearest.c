/* nearest.c - see nearest.h. Distance is the number of letters added, left out, exchanged or swapped with a neighbour. */
#include "config/nearest.h"

#include <string.h>

#define WORD_MAX 48

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Row i of the matrix holds the distances between the first i letters of a and every start of b;
 * three rows are enough, as a swap looks back two. */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t rows[3][WORD_MAX + 1];

    for (size_t j = 0; j <= b_len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];

        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            row[j] = least(above[j], row[j - 1]) + 1;
            row[j] = least(row[j], above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], two_above[j - 2] + 1);
        }
    }
    return rows[a_len % 3][b_len];
}

void config_nearest_init(struct config_nearest *nearest, const char *word)
{
    /* A third of the letters may be wrong, and one of a short word. */
    size_t len = strlen(word);

    *nearest = (struct config_nearest){.word = word, .distance = (len < 3 ? 1 : len / 3) + 1};
}

void config_nearest_try(struct config_nearest *nearest, const char *candidate)
{
    size_t word_len = strlen(nearest->word), len = strlen(candidate), d;

    if (word_len > WORD_MAX || len > WORD_MAX)
        return;
    d = distance(nearest->word, word_len, candidate, len);
    if (d < nearest->distance && d < len) {
        nearest->distance = d;
        nearest->best = candidate;
    }
}
