/* rows.h - words for writing the rows of config/table.h. Only for the files that hold tables. */
#ifndef CONFIG_ROWS_H
#define CONFIG_ROWS_H

#include "config/table.h"

#define MS 1000u
#define SECOND (1000u * MS)
#define HOUR (UINT64_C(3600) * SECOND)
#define DAY (24 * HOUR)
#define MEGA (UINT64_C(1) << 20)
#define GIGA (UINT64_C(1) << 30)
#define MILLION 1000000u

/* Rows of options with a number: name, default, low, high, what 0 means, section, field, help. */
#define NUMERIC(row_type, row_name, standard, lowest, highest, nought, section, field, words)           \
    {                                                                                                   \
        .name = (row_name), .type = (row_type), .text = (standard), .low = (lowest), .high = (highest), \
        .zero = (nought), .offset = offsetof(struct section, field), .help = (words)                    \
    }
#define NUMBER(...) NUMERIC(&config_type_number, __VA_ARGS__)
#define RATIO(...) NUMERIC(&config_type_ratio, __VA_ARGS__)
#define SIZE(...) NUMERIC(&config_type_size, __VA_ARGS__)
#define TIME(...) NUMERIC(&config_type_time, __VA_ARGS__)
/* Name, default, section, field, help. */
#define YES_NO(name, text, ...) NUMERIC(&config_type_yes_no, name, text, 0, 0, NULL, __VA_ARGS__)
#define ROWS(rows) (rows), sizeof(rows) / sizeof *(rows)

/* Of a section in which no other may stand. */
extern const struct config_table *const config_nothing_inside[];

#endif
