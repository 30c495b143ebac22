/* reading.h - what the types of options share: taking the text of a value, and writing it again.
 *
 * Reading: each function that returns false has reported why. Writing: a text that the file would take.
 * Pure but for the problems they report; one thread at a time. */
#ifndef CONFIG_READING_H
#define CONFIG_READING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/slice.h"
#include "config/value.h"

/* Reports what is wrong with a value; is false. */
#define config_refuse(reading, value, ...) \
    (config_problem((reading)->problems, (value)->place, __VA_ARGS__), false)

bool config_refuse_memory(const struct config_reading *reading);

/* The value of an option that takes one; NULL, and reported, when there are more. */
const struct config_value *config_only_value(const struct config_reading *reading);
/* Room for as many things as there are values; NULL, and reported, when there is no memory. */
void *config_room_for_values(const struct config_reading *reading, size_t size);
/* Where the section has the option's value. */
void *config_field(const struct config_reading *reading);
/* Stores a list: the row knows where its pointer and its length stand. */
void config_set_list(const struct config_reading *reading, const void *list, size_t length);
/* The same list in the order of its bytes, nothing in it twice. Returns its length. */
size_t config_sort_slices(struct slice *list, size_t length);

/* A number within the row's bounds, by the type's units. */
bool config_take_number(const struct config_reading *reading, const struct config_value *value,
                        uint64_t *number);

/* Printable ASCII without spaces; may be empty. */
bool config_is_visible(const char *text);
/* A token as HTTP has them; not empty. */
bool config_is_token(const char *text);

/* A word as it is where the file needs no quotes, else in quotes, with escapes. */
void config_write_word(struct slice word, FILE *out);
/* For rows whose offset is that of a const char * (NULL: writes nothing), of a struct slice (empty: writes nothing),
 * and of a list of slices (empty: writes nothing). */
void config_write_text(const struct config_row *row, const void *section, FILE *out);
void config_write_slice(const struct config_row *row, const void *section, FILE *out);
void config_write_slices(const struct config_row *row, const void *section, FILE *out);

#endif
