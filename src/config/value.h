/* value.h - the types of options: how the text of a value is checked and stored, and written again.
 *
 * Defaults go the same way as what a user wrote. Pure but for the problems they report; one thread at a time. */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "config/item.h"
#include "config/problems.h"
#include "config/store.h"
#include "config/table.h"

/* One option on its way into the section's structure. */
struct config_reading {
    struct config_store *store; /* what is stored lives here, or in the values' own store */
    struct config_problems *problems;
    const struct config_row *row;
    const struct config_value *values; /* at least one */
    void *section;                     /* struct config_pool and so on */
};

struct config_unit {
    const char *name;
    uint64_t factor;
};

struct config_type {
    const char *name;                /* for the manual */
    bool list;                       /* takes { several, values } */
    size_t bytes;                    /* of the field of a number */
    const struct config_unit *units; /* of a number, the smallest first; NULL: none */
    /* Stores the value; false when a problem was reported instead, and the field is as it was. */
    bool (*read)(const struct config_reading *reading);
    /* Writes what is stored as the file would take it, equal values in equal words; nothing where the row's
     * `without` says what holds. */
    void (*write)(const struct config_row *row, const void *section, FILE *out);
};

extern const struct config_type config_type_yes_no;   /* bool */
extern const struct config_type config_type_number;   /* unsigned, or int where -1 means without */
extern const struct config_type config_type_ratio;    /* double */
extern const struct config_type config_type_size;     /* uint64_t or size_t, in bytes */
extern const struct config_type config_type_time;     /* uint64_t, in microseconds */
extern const struct config_type config_type_choice;   /* an enum */
extern const struct config_type config_type_text;     /* const char * */
extern const struct config_type config_type_token;    /* const char *; the row's bounds are its length */
extern const struct config_type config_type_networks; /* a list of struct ip_network */
extern const struct config_type config_type_pool;     /* const struct config_pool *, found later */
extern const struct config_type config_type_bytes;    /* struct slice; the row's bounds are its length */
/* in struct config_route */
extern const struct config_type config_type_hosts;
extern const struct config_type config_type_methods;
extern const struct config_type config_type_redirect;
extern const struct config_type config_type_redirection; /* the status of a redirect */
extern const struct config_type config_type_respond;
extern const struct config_type config_type_body;
/* in struct config_condition */
extern const struct config_type config_type_match;
/* in struct config_pool and struct config_health */
extern const struct config_type config_type_hash_key;
extern const struct config_type config_type_check_path;
extern const struct config_type config_type_check_host;
extern const struct config_type config_type_statuses;

/* of queues */
extern const struct config_type config_type_queue;  /* const struct config_queue *, found later */
extern const struct config_type config_type_topic;  /* const struct config_topic *, found later */
extern const struct config_type config_type_queues; /* a list of const struct config_queue *, found later */
extern const struct config_type config_type_rate;   /* double, per second */
extern const struct config_type config_type_path;   /* const char * */
extern const struct config_type config_type_field;  /* const char *: the NAME of "header:NAME" */
extern const struct config_type config_type_status_list; /* a list of struct config_status_range */

/* of workers */
extern const struct config_type config_type_command; /* struct config_command */
extern const struct config_type config_type_gauge;   /* const struct config_gauge *, found later */

/* of users */
extern const struct config_type config_type_password;      /* const char *; the row's bounds are its length */
extern const struct config_type config_type_password_hash; /* const char * */
extern const struct config_type config_type_names;         /* a list of struct slice, as above */
extern const struct config_type config_type_pattern;       /* struct config_pattern */

#define CONFIG_BOUND_TEXT_MAX 32
/* A number as a user would write it, in the largest unit that divides it: "30s", "32k". */
void config_number_text(const struct config_type *type, uint64_t number, char text[CONFIG_BOUND_TEXT_MAX]);

#endif
