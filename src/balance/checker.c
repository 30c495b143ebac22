/* checker.c - see checker.h. */
#include "balance/checker.h"

#include <errno.h>
#include <stdio.h>

#include "http/head.h"

static int check_status(const struct config_health *config, const struct server *server,
                        struct stream *stream, uint64_t deadline_us, char why[CHECK_WHY_MAX])
{
    struct pace pace = {0};
    struct http_input in = {.stream = stream};
    struct http_output out = {.stream = stream, .pace = &pace};
    struct http_field fields[64];
    struct http_response response = {.fields = {.at = fields, .max = 64}};
    struct http1_error bad;
    struct slice head;
    int error;

    pace.idle_us = deadline_us - loop_now_us();
    output_put(&out, SLICE("GET "));
    output_put(&out, slice_from_text(config->path));
    output_put(&out, SLICE(" HTTP/1.1\r\nHost: "));
    output_put(&out, config->host ? slice_from_text(config->host) : server->name);
    output_put(&out, SLICE("\r\nUser-Agent: maitred-health\r\nConnection: close\r\n\r\n"));
    error = output_flush(&out);
    if (!error)
        error = head_read(&in, SLAB_BYTES, deadline_us, &head);
    if (!error && http1_parse_response(head, METHOD_GET, &response, &bad) != 0) {
        snprintf(why, CHECK_WHY_MAX, "%s", bad.why);
        error = -EBADMSG;
    } else if (!error && (response.status < config->status_low || response.status > config->status_high)) {
        snprintf(why, CHECK_WHY_MAX, "status %u", response.status);
        error = -EBADMSG;
    }
    output_drop(&out);
    input_drop(&in);
    return error;
}

/* Reads until `expect` has come, the server ends, or too much has come without it. */
static int await_expected(const struct config_health *config, struct stream *stream, uint64_t deadline_us,
                          char why[CHECK_WHY_MAX])
{
    char bytes[CONFIG_EXPECT_WITHIN];
    size_t len = 0;

    while (len < sizeof bytes) {
        ssize_t n = stream_read(stream, bytes + len, sizeof bytes - len, deadline_us);

        if (n < 0)
            return (int)n;
        if (n == 0) {
            snprintf(why, CHECK_WHY_MAX, "closed without what `expect` says");
            return -EBADMSG;
        }
        len += (size_t)n;
        if (memmem(bytes, len, config->expect.ptr, config->expect.len))
            return 0;
    }
    snprintf(why, CHECK_WHY_MAX, "%d bytes without what `expect` says", CONFIG_EXPECT_WITHIN);
    return -EBADMSG;
}

static int ask(const struct config_health *config, const struct server *server, struct stream *stream,
               uint64_t deadline_us, char why[CHECK_WHY_MAX])
{
    char header[SERVER_PROXY_MAX];
    size_t n = server_put_proxy(server, header, NULL, NULL);
    int error = stream_write_all(stream, header, n, deadline_us);

    if (error || (!config->path && !config->expect.len))
        return error;
    if (config->path)
        return check_status(config, server, stream, deadline_us, why);
    if (config->send.len)
        error = stream_write_all(stream, config->send.ptr, config->send.len, deadline_us);
    return error ? error : await_expected(config, stream, deadline_us, why);
}

int checker_check(const struct config_health *config, const struct server *server, char why[CHECK_WHY_MAX])
{
    uint64_t deadline_us = loop_deadline(config->timeout_us);
    struct stream stream;
    int error;

    why[0] = '\0';
    error = stream_connect(&stream, &server->endpoint, deadline_us);
    if (!error) {
        error = ask(config, server, &stream, deadline_us, why);
        stream_close(&stream);
    }
    if (error == -ETIMEDOUT)
        snprintf(why, CHECK_WHY_MAX, "no answer within the check's timeout");
    else if (error && !why[0])
        snprintf(why, CHECK_WHY_MAX, "%s", error == -ENODATA ? "closed without an answer" : strerror(-error));
    return error;
}
