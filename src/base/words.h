/* words.h - a command as somebody types it, split into words as a shell does that, without a shell.
 *
 * Blanks stand between words; 'single quotes' keep everything, "double quotes" all but a backslash before " \ $ and `,
 * and a backslash outside of quotes keeps what follows. What only a shell could do (pipes, redirections, variables) is
 * refused where it is not quoted. Pure; any thread. */
#ifndef BASE_WORDS_H
#define BASE_WORDS_H

#include <stddef.h>

/* So many words come of so many bytes at the most. */
#define WORDS_MOST(bytes) ((bytes) / 2 + 1)

/* Writes the words into room, which has strlen(text) + 1 bytes, and where they begin into words, which has places for
 * WORDS_MOST(strlen(text)). Returns how many there are. 0: there are none, or *why says what is wrong with them, a constant
 * string that goes on after the text: "has a quote that is never closed". */
size_t words_split(const char *text, char *room, char **words, const char **why);

#endif
