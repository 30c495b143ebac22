/* client.c - see client.h.
 *
 * One buffer per answer: what is read goes to its end; a chunked body is decoded in place, since it only shrinks. */
#include "command/client.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "command/command.h"
#include "command/view.h"
#include "wire/http1.h"

#define DEFAULT_ADMIN "127.0.0.1:8900"
#define SCHEME "http://" /* workers find a URL in MAITRED_ADMIN */
#define ANSWER_MAX ((size_t)64 << 20)
#define HEAD_MAX ((size_t)64 << 10)
#define READ_BYTES 16384
#define FIELDS_MAX 128

static void say_why(struct client *client, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say_why(struct client *client, const char *format, ...)
{
    va_list list;

    va_start(list, format);
    vsnprintf(client->why, sizeof client->why, format, list);
    va_end(list);
    for (char *at = client->why; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = ' ';
}

/* --- opening */

bool client_take_option(const char *option, int *argc, char **argv, const char **value)
{
    int n = 1;

    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], option) != 0) {
            argv[n++] = argv[i];
            continue;
        }
        if (++i == *argc)
            return false;
        *value = argv[i];
    }
    *argc = n;
    return true;
}

static const char *from_environment(const char *name)
{
    const char *value = getenv(name);

    return value && *value ? value : NULL;
}

/* NULL, or what is wrong with it. */
static const char *set_token(struct client *client, struct slice token)
{
    while (token.len && strchr(" \t\r\n", token.ptr[token.len - 1]))
        token.len--;
    if (!token.len)
        return "it is empty";
    if (token.len > CLIENT_TOKEN_MAX)
        return "it is longer than 1024 bytes";
    for (size_t i = 0; i < token.len; i++)
        if (token.ptr[i] <= ' ' || token.ptr[i] > '~')
            return "it may have visible ASCII characters only, no spaces";
    memcpy(client->token, token.ptr, token.len);
    client->token[token.len] = '\0';
    return NULL;
}

static int read_token(struct client *client, const char *file)
{
    char bytes[CLIENT_TOKEN_MAX + 16];
    FILE *in = fopen(file, "re");
    const char *wrong;
    size_t n;

    if (!in) {
        fprintf(stderr, "maitred %s: cannot read the token file %s: %s\n", client->command, file,
                strerror(errno));
        return 2;
    }
    n = fread(bytes, 1, sizeof bytes, in);
    wrong = ferror(in) ? "it cannot be read" : set_token(client, slice_of(bytes, n));
    fclose(in);
    if (!wrong)
        return 0;
    fprintf(stderr, "maitred %s: the token in %s is of no use: %s\n", client->command, file, wrong);
    return 2;
}

static int find_token(struct client *client, const char *file)
{
    const char *token = from_environment("MAITRED_TOKEN"), *wrong;

    if (file)
        return read_token(client, file);
    wrong = token ? set_token(client, slice_from_text(token)) : NULL;
    if (wrong)
        fprintf(stderr, "maitred %s: the token in MAITRED_TOKEN is of no use: %s\n", client->command, wrong);
    return wrong ? 2 : 0;
}

static int resolve(struct client *client, const struct address *address)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list, *at;
    int error = getaddrinfo(address->host, NULL, &hints, &list);

    if (error) {
        fprintf(stderr, "maitred %s: the name in %s is not found: %s\n", client->command, client->at,
                gai_strerror(error));
        return 2;
    }
    for (at = list; at && client->n_endpoints < CLIENT_ENDPOINTS_MAX; at = at->ai_next) {
        struct endpoint *endpoint = &client->endpoints[client->n_endpoints];

        if (at->ai_addrlen > sizeof endpoint->in6)
            continue;
        memcpy(&endpoint->sa, at->ai_addr, at->ai_addrlen);
        endpoint->len = at->ai_addrlen;
        if (at->ai_family == AF_INET)
            endpoint->in.sin_port = htons(address->port);
        else if (at->ai_family == AF_INET6)
            endpoint->in6.sin6_port = htons(address->port);
        else
            continue;
        client->n_endpoints++;
    }
    freeaddrinfo(list);
    return 0;
}

static int find_endpoints(struct client *client)
{
    struct address address;
    const char *why;

    if (address_parse(slice_from_text(client->at), &address, &why) != 0) {
        fprintf(stderr, "maitred %s: the address %s of the admin interface: %s\n", client->command,
                client->at, why);
        return 2;
    }
    snprintf(client->host, sizeof client->host, "%s%s", address.kind == ADDRESS_ANY ? "localhost" : "",
             address.kind == ADDRESS_UNIX ? "localhost" : client->at);
    if (address.kind == ADDRESS_NAME)
        return resolve(client, &address);
    endpoint_from_address(&client->endpoints[0], &address, false);
    client->n_endpoints = 1;
    return 0;
}

int client_open(struct client *client, const char *command, int *argc, char **argv)
{
    const char *at = from_environment("MAITRED_ADMIN"), *token_file = NULL;
    int code;

    *client = (struct client){.command = command, .at = at ? at : DEFAULT_ADMIN, .wake_fd = -1};
    if (!client_take_option("--admin", argc, argv, &client->at))
        return command_misused(command, "--admin which address?");
    if (!client_take_option("--token-file", argc, argv, &token_file))
        return command_misused(command, "--token-file which file?");
    if (strncmp(client->at, SCHEME, strlen(SCHEME)) == 0)
        client->at += strlen(SCHEME);
    code = find_token(client, token_file);
    return code ? code : find_endpoints(client);
}

/* --- one question */

/* A connection, and what was read of the answer. */
struct talk {
    struct client *client;
    int fd;
    uint64_t deadline_us;
    unsigned timeout_ms;
    char *bytes;
    size_t len, room;
    bool ended; /* the other side has sent all it will */
};

/* Waits until fd is ready: 0, -ETIMEDOUT or -ECANCELED. */
static int wait_for(const struct talk *talk, short events)
{
    struct pollfd fds[2] = {{.fd = talk->fd, .events = events},
                            {.fd = talk->client->wake_fd, .events = POLLIN}};

    for (;;) {
        uint64_t now = clock_monotonic_us();
        int n;

        if (now >= talk->deadline_us)
            return -ETIMEDOUT;
        n = poll(fds, 2, (int)((talk->deadline_us - now) / US_PER_MS) + 1);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            return fds[1].revents ? -ECANCELED : 0;
    }
}

static int connect_to(struct talk *talk, const struct endpoint *endpoint)
{
    socklen_t len = sizeof(int);
    int error = 0;

    talk->fd = socket(endpoint->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (talk->fd < 0)
        return -errno;
    if (connect(talk->fd, &endpoint->sa, endpoint->len) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return -errno;
    error = wait_for(talk, POLLOUT);
    if (error)
        return error;
    if (getsockopt(talk->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        return -errno;
    return -error;
}

/* To the first address of the name that takes it. */
static int connect_any(struct talk *talk)
{
    int error = -EADDRNOTAVAIL;

    for (size_t i = 0; i < talk->client->n_endpoints; i++) {
        error = connect_to(talk, &talk->client->endpoints[i]);
        if (error == 0 || error == -ECANCELED)
            return error;
        if (talk->fd >= 0)
            close(talk->fd);
        talk->fd = -1;
    }
    say_why(talk->client,
            "nobody answers at %s: %s; start it with an admin section in its file, or say where with --admin",
            talk->client->at, strerror(-error));
    return error;
}

static int fail(const struct talk *talk, int error)
{
    const char *at = talk->client->at;

    if (error == -ETIMEDOUT)
        say_why(talk->client, "%s has not answered within %u s", at, talk->timeout_ms / 1000);
    else if (error == -EMSGSIZE)
        say_why(talk->client, "the answer of %s is longer than 64 MiB", at);
    else if (error == -EPIPE || error == -ECONNRESET)
        say_why(talk->client, "%s closed the connection before its answer was complete", at);
    else
        say_why(talk->client, "%s: %s", at, strerror(-error));
    return error;
}

static int fail_format(const struct talk *talk, const char *why)
{
    say_why(talk->client,
            "what answers at %s is not maitred's admin interface: %s; say where it is with --admin",
            talk->client->at, why);
    return -EBADMSG;
}

static int send_all(const struct talk *talk, const char *bytes, size_t len)
{
    while (len) {
        ssize_t n = send(talk->fd, bytes, len, MSG_NOSIGNAL);
        int error = n < 0 ? -errno : 0;

        if (error == -EAGAIN)
            error = wait_for(talk, POLLOUT);
        if (error && error != -EINTR)
            return fail(talk, error);
        bytes += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int send_request(const struct talk *talk, const char *method, const char *target)
{
    const struct client *client = talk->client;
    bool post = strcmp(method, "POST") == 0;
    char length[48] = "", *text;
    int n, error;

    if (post)
        snprintf(length, sizeof length, "Content-Length: %zu\r\n", client->body.len);
    n = asprintf(&text,
                 "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: maitred/" MAITRED_VERSION
                 "\r\nAccept: application/json\r\nConnection: close\r\n%s%s%s%s\r\n",
                 method, target, client->host, length, client->token[0] ? "Authorization: Bearer " : "",
                 client->token, client->token[0] ? "\r\n" : "");

    if (n < 0)
        return fail(talk, -ENOMEM);
    error = send_all(talk, text, (size_t)n);
    free(text);
    return error || !post ? error : send_all(talk, client->body.ptr, client->body.len);
}

/* Room for READ_BYTES more, and a NUL. */
static int make_room(struct talk *talk)
{
    size_t room = talk->room ? talk->room : READ_BYTES;
    char *bytes;

    while (room < talk->len + READ_BYTES)
        room *= 2;
    if (room == talk->room)
        return 0;
    bytes = realloc(talk->bytes, room + 1);
    if (!bytes)
        return -ENOMEM;
    talk->bytes = bytes;
    talk->room = room;
    return 0;
}

/* Reads what there is, at least a byte; sets ended at the end. */
static int read_more(struct talk *talk)
{
    int error;

    if (talk->len > ANSWER_MAX)
        return fail(talk, -EMSGSIZE);
    error = make_room(talk);
    while (!error) {
        ssize_t n = recv(talk->fd, talk->bytes + talk->len, talk->room - talk->len, 0);

        if (n >= 0) {
            talk->len += (size_t)n;
            talk->ended = n == 0;
            return 0;
        }
        error = errno == EINTR ? 0 : errno == EAGAIN ? wait_for(talk, POLLIN) : -errno;
    }
    return fail(talk, error);
}

static int read_needed(struct talk *talk)
{
    int error = talk->ended ? 0 : read_more(talk);

    return error ? error : talk->ended ? fail(talk, -ECONNRESET) : 0;
}

static void drop_front(struct talk *talk, size_t n)
{
    memmove(talk->bytes, talk->bytes + n, talk->len - n);
    talk->len -= n;
}

/* Takes the head of an answer, and those of the interim ones before it, off the front. */
static int take_head(struct talk *talk, enum http_method asked, struct http_response *response)
{
    struct http_field fields[FIELDS_MAX];
    struct http1_error wrong;
    int error;

    do {
        size_t scanned = 0, n;

        while ((n = talk->len ? http1_head_end(talk->bytes, talk->len, &scanned) : 0) == 0) {
            if (talk->len > HEAD_MAX)
                return fail_format(talk, "a head of over 64 KiB");
            error = read_needed(talk);
            if (error)
                return error;
        }
        *response = (struct http_response){.fields = {.at = fields, .max = FIELDS_MAX}};
        if (http1_parse_response(slice_of(talk->bytes, n), asked, response, &wrong) != 0)
            return fail_format(talk, wrong.why);
        drop_front(talk, n);
    } while (response->status < 200);
    response->fields = (struct http_fields){0};
    return 0;
}

static int take_chunked(struct talk *talk)
{
    struct http1_chunked decoder = {0};
    size_t at = 0, to = 0; /* what is decoded, and where it goes */
    const char *why = "";

    for (;;) {
        struct slice in = slice_of(talk->bytes + at, talk->len - at), data = {NULL, 0};
        enum http1_chunk got = http1_chunked_take(&decoder, &in, &data, &why);
        int error;

        if (got == CHUNK_BAD)
            return fail_format(talk, why);
        if (got == CHUNK_TRAILER) {
            talk->len = to;
            return 0;
        }
        if (got == CHUNK_DATA) {
            memmove(talk->bytes + to, data.ptr, data.len);
            to += data.len;
            at = (size_t)(in.ptr - talk->bytes);
            continue;
        }
        talk->len = at = to;
        error = read_needed(talk);
        if (error)
            return error;
    }
}

/* Makes the buffer hold the body and no more. */
static int take_body(struct talk *talk, const struct http_body *body)
{
    int error = 0;

    if (body->kind == BODY_CHUNKED)
        return take_chunked(talk);
    if (body->kind == BODY_NONE)
        talk->len = 0;
    if (body->kind == BODY_LENGTH && body->length > ANSWER_MAX)
        return fail(talk, -EMSGSIZE);
    while (!error && body->kind == BODY_LENGTH && talk->len < body->length)
        error = read_needed(talk);
    while (!error && body->kind == BODY_UNTIL_CLOSE && !talk->ended)
        error = read_more(talk);
    if (!error && body->kind == BODY_LENGTH)
        talk->len = (size_t)body->length;
    return error;
}

static int converse(struct talk *talk, const char *method, const char *target, struct client_answer *answer)
{
    struct http_response response;
    int error = connect_any(talk);

    if (!error)
        error = send_request(talk, method, target);
    if (!error)
        error = take_head(talk, strcmp(method, "POST") == 0 ? METHOD_POST : METHOD_GET, &response);
    if (!error)
        error = take_body(talk, &response.body);
    if (error)
        return error;
    assert(talk->bytes);
    talk->bytes[talk->len] = '\0';
    *answer = (struct client_answer){response.status, talk->bytes, talk->len};
    return 0;
}

int client_ask(struct client *client, const char *method, const char *target, unsigned timeout_ms,
               struct client_answer *answer)
{
    struct talk talk = {.client = client, .fd = -1, .timeout_ms = timeout_ms};
    int error;

    *answer = (struct client_answer){0};
    talk.deadline_us = clock_monotonic_us() + (uint64_t)timeout_ms * US_PER_MS;
    error = converse(&talk, method, target, answer);
    if (talk.fd >= 0)
        close(talk.fd);
    if (error)
        free(talk.bytes);
    return error;
}

void client_answer_free(struct client_answer *answer)
{
    free(answer->body);
    *answer = (struct client_answer){0};
}

/* --- what the answer says */

json_t *client_document(struct client *client, const struct client_answer *answer, int *error)
{
    json_error_t wrong;
    json_t *document = json_loadb(answer->body, answer->len, 0, &wrong);
    const char *said = json_string_value(json_object_get(document, "error"));

    *error = answer->status == 200 && json_is_object(document) ? 0 : -EREMOTEIO;
    if (*error && said)
        say_why(client, "%s", said);
    else if (*error)
        say_why(
            client,
            "%s answered %u (%s), but not as maitred's admin interface does; say where that is with --admin",
            client->at, answer->status, http_reason(answer->status));
    return document;
}

int client_call(struct client *client, const char *method, const char *target, unsigned timeout_ms,
                json_t **document, struct client_answer *raw)
{
    struct client_answer answer;
    int error = client_ask(client, method, target, timeout_ms, &answer);

    *document = error ? NULL : client_document(client, &answer, &error);
    if (raw)
        *raw = answer;
    else
        client_answer_free(&answer);
    return error;
}

int client_complain(const struct client *client, int error, const json_t *document)
{
    const json_t *problems = json_object_get(document, "problems");

    for (size_t i = 0; i < json_array_size(problems); i++)
        view_line(stderr, view_item(problems, i));
    fprintf(stderr, "maitred %s: %s\n", client->command, client->why);
    return error == -EREMOTEIO ? 1 : 2;
}

void client_put_escaped(FILE *out, const char *text)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;

        if (c < 0x80 && (isalnum(c) || strchr("-._~", c)))
            fputc(c, out);
        else
            fprintf(out, "%%%02X", c);
    }
}

char *client_server_target(const char *pool, const char *server, const char *action)
{
    char *target = NULL;
    size_t len;
    FILE *out = open_memstream(&target, &len);

    if (!out)
        return NULL;
    fputs("/api/pools/", out);
    client_put_escaped(out, pool);
    fputs("/servers/", out);
    client_put_escaped(out, server);
    fprintf(out, "/%s", action);
    if (fclose(out) == 0)
        return target;
    free(target);
    return NULL;
}
