/* client.h - asks a running maitred over its admin interface, for the commands that look at it or steer it.
 *
 * One request per connection, blocking, with one deadline over all of it; an answer is at most 64 MiB. Not for
 * fibers: it waits with poll. Whatever goes wrong is said in client.why, ready to print. */
#ifndef COMMAND_CLIENT_H
#define COMMAND_CLIENT_H

#include <stdio.h>

#include <jansson.h>

#include "base/address.h"

#define CLIENT_ENDPOINTS_MAX 8
#define CLIENT_TOKEN_MAX 1024

/* How long most questions may take. */
#define CLIENT_TIMEOUT_MS 10000u

struct client {
    const char *command; /* whose messages these are: "status" */
    const char *at;      /* the address as written; of argv or the environment */
    struct endpoint endpoints[CLIENT_ENDPOINTS_MAX];
    size_t n_endpoints;
    char host[ADDRESS_TEXT_MAX + 8];  /* for the Host field */
    char token[CLIENT_TOKEN_MAX + 1]; /* "": none */
    struct slice body;                /* of a POST; borrowed */
    int wake_fd;                      /* once readable, a question is given up with -ECANCELED; -1: none */
    char why[1024];                   /* after a failure: one line for people, control characters removed */
};

struct client_answer {
    unsigned status;
    char *body; /* ends in a NUL that len does not count */
    size_t len;
};

/* Takes --admin and --token-file out of the arguments (else the environment says, else 127.0.0.1:8900), reads the
 * token and finds the addresses. Returns 0, or the exit code after saying what is wrong. */
int client_open(struct client *client, const char *command, int *argc, char **argv);

/* 0: an answer, whatever its status; the caller frees it. Else a negative errno and client->why: nobody answers, or
 * not in time, or no HTTP. */
int client_ask(struct client *client, const char *method, const char *target, unsigned timeout_ms,
               struct client_answer *answer);
void client_answer_free(struct client_answer *answer);

/* The answer's document, a reference of the caller's. *error is 0 for a 200 that is JSON; otherwise client->why has
 * the API's own words, *error is -EREMOTEIO, and the document (which may have more to say) may be NULL. */
json_t *client_document(struct client *client, const struct client_answer *answer, int *error);

/* Both of the above in one. *document may be set on an error, too; release it with json_decref, which takes NULL.
 * raw, when not NULL, gets the answer as it came, which the caller frees whatever the result. */
int client_call(struct client *client, const char *method, const char *target, unsigned timeout_ms,
                json_t **document, struct client_answer *raw);

/* Writes what client_ask, client_document or client_call failed with, and the document's list of problems, to
 * standard error. Returns the exit code: 1 when the API said no, 2 when nobody answers. */
int client_complain(const struct client *client, int error, const json_t *document);

/* Percent-encodes all but letters, digits and "-._~": good for a segment of a path and a value of a query. */
void client_put_escaped(FILE *out, const char *text);
/* Takes "OPTION VALUE" out of the arguments; the last one counts. False: its value is missing. */
bool client_take_option(const char *option, int *argc, char **argv, const char **value);
/* /api/pools/POOL/servers/SERVER/ACTION with its names escaped; the caller frees it. NULL: no memory. */
char *client_server_target(const char *pool, const char *server, const char *action);

#endif
