/* clean.h - makes a configuration text fit for libConfuse, and refuses what libConfuse would silently misread.
 *
 * libConfuse 3.3 counts every comment as two lines too many, knows no comment inside a list, skips '*' and '+' outside
 * quotes without a word, takes the end of the file for any number of closing braces, cuts a string at an escaped NUL,
 * and puts nothing where an unset environment variable is named.
 * So comments become spaces here, and the rest is an error. Any thread. */
#ifndef CONFIG_CLEAN_H
#define CONFIG_CLEAN_H

#include "config/problems.h"

#define CONFIG_NESTING_MAX 16

/* text ends in a NUL and is changed in place; every line keeps its number. file is for messages.
 * False when problems were reported: libConfuse must not see the text then. */
bool config_clean(char *text, const char *file, struct config_problems *problems);

#endif
